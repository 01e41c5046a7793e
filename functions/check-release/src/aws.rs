//! The calls of check-release, and the requests of smoke tests. All of them read.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::types::{AlarmType, StateValue};
use aws_sdk_ec2::types::Filter;
use aws_sdk_ecr::types::{ImageIdentifier, ImageScanFindings};
use aws_sdk_ecs::types::{ContainerInstance, ContainerInstanceStatus};
use aws_sdk_iam::types::{EvaluationResult, PolicyEvaluationDecisionType};
use aws_sdk_ssm::{error::SdkError, types::ParameterStringFilter};
use futures_util::future::try_join_all;
use percent_encoding::percent_decode_str;
use shipway_aws::{
    AwsError, fetch,
    runtime::{Later, setting},
};
use shipway_domain::{
    name::{Digest, RepositoryName},
    preflight::{Image, Instance, Kept, LARGEST_CONFIGURATION, MEDIA_TYPES, Role, Standing, Stored, Subnet},
    scan::{Finding, Report},
    smoke::{Came, Check, REQUEST},
};
use shipway_ecs::instances;

use crate::{handler::Calls, http};

/// DescribeParameters takes so many names in a filter, and answers so many parameters at once.
/// <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_DescribeParameters.html>
const PARAMETERS_AT_ONCE: usize = 50;

/// The version of a secret that a reference without one means.
const CURRENT: &str = "AWSCURRENT";

/// DescribeAlarms takes so many names, and answers with half of it unless told.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html>
const ALARMS_AT_ONCE: i32 = 100;

/// The attribute of an instance that gives tasks more interfaces than its type has.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/container-instance-eni.html>
const TRUNK: &str = "ecs.awsvpc-trunk-id";

/// The clients.
pub(crate) struct Aws {
    cloudwatch: Later<aws_sdk_cloudwatch::Client>,
    ec2: Later<aws_sdk_ec2::Client>,
    ecr: Later<aws_sdk_ecr::Client>,
    ecs: aws_sdk_ecs::Client,
    iam: aws_sdk_iam::Client,
    secrets: Later<aws_sdk_secretsmanager::Client>,
    ssm: Later<aws_sdk_ssm::Client>,
    logs: aws_sdk_cloudwatchlogs::Client,
    /// What answers for every load balancer, on an emulator.
    load_balancer_mirror: Option<String>,
}

impl Aws {
    pub(crate) fn new(config: &SdkConfig) -> Aws {
        Aws {
            cloudwatch: Later::new(config, aws_sdk_cloudwatch::Client::new),
            ec2: Later::new(config, aws_sdk_ec2::Client::new),
            ecr: Later::new(config, aws_sdk_ecr::Client::new),
            ecs: aws_sdk_ecs::Client::new(config),
            iam: aws_sdk_iam::Client::new(config),
            secrets: Later::new(config, aws_sdk_secretsmanager::Client::new),
            ssm: Later::new(config, aws_sdk_ssm::Client::new),
            logs: aws_sdk_cloudwatchlogs::Client::new(config),
            load_balancer_mirror: setting("LOAD_BALANCER_MIRROR").ok(),
        }
    }
}

impl Calls for Aws {
    async fn image(&self, repository: &RepositoryName, digest: &Digest) -> Result<Image, AwsError> {
        let asked = self
            .ecr
            .get()
            .batch_get_image()
            .repository_name(repository.as_str())
            .image_ids(ImageIdentifier::builder().image_digest(digest.as_str()).build())
            .set_accepted_media_types(Some(MEDIA_TYPES.map(str::to_owned).into()))
            .send()
            .await
            .map_err(AwsError::of("ecr:BatchGetImage"));
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) if error.is("RepositoryNotFoundException") => {
                return Ok(Image::Missing("there is no such repository".to_owned()));
            }
            Err(error) => return Err(error),
        };
        if let Some(manifest) = answer.images().first().and_then(|image| image.image_manifest()) {
            return Ok(Image::There(Stored { manifest: manifest.to_owned(), configuration: None }));
        }
        let failure = answer.failures().first();
        let code = failure.and_then(|failure| failure.failure_code()).map_or("no reason given", |code| code.as_str());
        let reason = failure.and_then(|failure| failure.failure_reason());
        Ok(Image::Missing(reason.map_or_else(|| code.to_owned(), |reason| format!("{code}: {reason}"))))
    }

    /// Where it cannot be read, it is left to what pulls the image to tell.
    async fn configuration(&self, repository: &RepositoryName, layer: &Digest) -> Result<Option<String>, AwsError> {
        let asked = self
            .ecr
            .get()
            .get_download_url_for_layer()
            .repository_name(repository.as_str())
            .layer_digest(layer.as_str())
            .send()
            .await
            .map_err(AwsError::of("ecr:GetDownloadUrlForLayer"));
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) if error.is("LayersNotFoundException") || error.is("LayerInaccessibleException") => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match fetch::get(answer.download_url().unwrap_or_default(), LARGEST_CONFIGURATION).await {
            Ok(bytes) => Ok(String::from_utf8(bytes).ok()),
            Err(error) => {
                // The URL is signed, so it is not logged.
                tracing::warn!(%repository, %layer, reason = shipway_aws::error::with_sources(&error), "not read");
                Ok(None)
            }
        }
    }

    /// One page: the counts are of all findings, the list only names some.
    async fn scan(&self, repository: &RepositoryName, digest: &Digest) -> Result<Report, AwsError> {
        let asked = self
            .ecr
            .get()
            .describe_image_scan_findings()
            .repository_name(repository.as_str())
            .image_id(ImageIdentifier::builder().image_digest(digest.as_str()).build())
            .send()
            .await
            .map_err(AwsError::of("ecr:DescribeImageScanFindings"));
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) if error.is("ScanNotFoundException") => return Ok(Report::default()),
            Err(error) => return Err(error),
        };
        let status = answer.image_scan_status();
        let findings = answer.image_scan_findings();
        Ok(Report {
            status: status.and_then(|status| status.status()).map(|status| status.as_str().to_owned()),
            description: status.and_then(|status| status.description()).map(str::to_owned),
            counts: findings.and_then(ImageScanFindings::finding_severity_counts).map(|counts| {
                let count = |count: i32| u32::try_from(count).unwrap_or(0);
                counts.iter().map(|(severity, found)| (severity.as_str().to_owned(), count(*found))).collect()
            }),
            listed: findings.map(listed).unwrap_or_default(),
        })
    }

    async fn role(&self, arn: &str) -> Result<Role, AwsError> {
        let name = arn.rsplit('/').next().unwrap_or(arn);
        match self.iam.get_role().role_name(name).send().await.map_err(AwsError::of("iam:GetRole")) {
            Ok(answer) => {
                let trust = answer.role().and_then(|role| role.assume_role_policy_document());
                Ok(trust.map_or(Role::Unknown, |trust| Role::There(decoded(trust))))
            }
            Err(error) if error.is("NoSuchEntity") => Ok(Role::Missing),
            Err(error) => Err(error),
        }
    }

    async fn secret(&self, arn: &str) -> Result<Kept, AwsError> {
        let asked = self.secrets.get().describe_secret().secret_id(arn).send().await;
        let answer = match asked.map_err(AwsError::of("secretsmanager:DescribeSecret")) {
            Ok(answer) => answer,
            Err(error) if error.is("ResourceNotFoundException") => return Ok(Kept::Missing),
            Err(error) => return Err(error),
        };
        if answer.deleted_date().is_some() {
            return Ok(Kept::Deleted);
        }
        let stages = answer.version_ids_to_stages().into_iter().flat_map(|versions| versions.values()).flatten();
        if !stages.into_iter().any(|stage| stage == CURRENT) {
            return Ok(Kept::Empty);
        }
        Ok(Kept::There(answer.arn().unwrap_or(arn).to_owned()))
    }

    async fn parameters(&self, arns: &BTreeSet<&str>) -> Result<BTreeSet<String>, AwsError> {
        // An ARN has one slash before the name, whether that begins with one or not. A path always does.
        let named: BTreeMap<&str, &str> =
            arns.iter().filter_map(|arn| Some((arn.split_once(":parameter/")?.1, *arn))).collect();
        let bare = named.keys().filter(|name| !name.contains('/')).map(|name| (*name).to_owned());
        let names: Vec<String> = named.keys().map(|name| format!("/{name}")).chain(bare).collect();
        let asked = names.chunks(PARAMETERS_AT_ONCE).map(async |names| {
            let these = ParameterStringFilter::builder().key("Name").option("Equals").set_values(Some(names.to_vec()));
            let these = these.build().map_err(unbuilt)?;
            let mut pages = self.ssm.get().describe_parameters().parameter_filters(these).into_paginator().send();
            let mut found = Vec::new();
            while let Some(page) = pages.next().await {
                let page = page.map_err(AwsError::of("ssm:DescribeParameters"))?;
                let names = page.parameters().iter().filter_map(|parameter| parameter.name());
                found.extend(names.map(|name| name.trim_start_matches('/').to_owned()));
            }
            Ok(found)
        });
        let found = try_join_all(asked).await?.into_iter().flatten();
        Ok(found.filter_map(|name| named.get(name.as_str()).map(|arn| (*arn).to_owned())).collect())
    }

    /// What the role's own policies, its boundary and the organization's say. A resource's own policy is not asked: it could only
    /// refuse more, or give what provisioning gives the role anyway. Where a policy depends on what the simulation is not told, nothing is sure.
    /// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html>
    async fn denied(
        &self,
        role: &str,
        right: &'static str,
        arns: &BTreeSet<&str>,
    ) -> Result<BTreeSet<String>, AwsError> {
        let mut pages = self
            .iam
            .simulate_principal_policy()
            .policy_source_arn(role)
            .action_names(right)
            .set_resource_arns(Some(arns.iter().map(|arn| (*arn).to_owned()).collect()))
            .into_paginator()
            .items()
            .send();
        let mut denied = BTreeSet::new();
        while let Some(result) = pages.next().await {
            let result = result.map_err(AwsError::of("iam:SimulatePrincipalPolicy"))?;
            denied.extend(refused(&result).filter(|arn| arns.contains(*arn)).map(str::to_owned));
        }
        Ok(denied)
    }

    async fn has_log_group(&self, name: &str) -> Result<bool, AwsError> {
        // Sorted by name: of those that begin with it, the one that is it comes first.
        let answer = self
            .logs
            .describe_log_groups()
            .log_group_name_prefix(name)
            .limit(1)
            .send()
            .await
            .map_err(AwsError::of("logs:DescribeLogGroups"))?;
        Ok(answer.log_groups().iter().any(|group| group.log_group_name() == Some(name)))
    }

    async fn subnets(&self, ids: &BTreeSet<String>) -> Result<Vec<Subnet>, AwsError> {
        // By a filter: one that is gone would be an error by its id, and the others would not be told.
        let these = Filter::builder().name("subnet-id").set_values(Some(ids.iter().cloned().collect())).build();
        let answer = self
            .ec2
            .get()
            .describe_subnets()
            .filters(these)
            .send()
            .await
            .map_err(AwsError::of("ec2:DescribeSubnets"))?;
        let found = answer.subnets().iter().filter_map(|subnet| {
            let free = subnet.available_ip_address_count().and_then(|free| u32::try_from(free).ok())?;
            Some(Subnet { id: subnet.subnet_id()?.to_owned(), free })
        });
        Ok(found.collect())
    }

    async fn standing(&self, cluster: &str, service: &str) -> Result<Option<Standing>, AwsError> {
        let answer = self
            .ecs
            .describe_services()
            .cluster(cluster)
            .services(service)
            .send()
            .await
            .map_err(AwsError::of("ecs:DescribeServices"))?;
        let active = answer.services().iter().find(|service| service.status() == Some("ACTIVE"));
        Ok(active.map(|service| Standing {
            desired: u32::try_from(service.desired_count()).unwrap_or(0),
            deploying: service.deployments().len() > 1,
        }))
    }

    async fn instances(&self, cluster: &str) -> Result<Vec<Instance>, AwsError> {
        let mut arns = Vec::new();
        let mut pages = self
            .ecs
            .list_container_instances()
            .cluster(cluster)
            .status(ContainerInstanceStatus::Active)
            .into_paginator()
            .items()
            .send();
        while let Some(arn) = pages.next().await {
            arns.push(arn.map_err(AwsError::of("ecs:ListContainerInstances"))?);
        }
        Ok(instances::describe(&self.ecs, cluster, &arns).await?.iter().map(instance).collect())
    }

    async fn alarms(&self, names: &BTreeSet<String>) -> Result<BTreeMap<String, bool>, AwsError> {
        let answer = self
            .cloudwatch
            .get()
            .describe_alarms()
            .set_alarm_names(Some(names.iter().cloned().collect()))
            .alarm_types(AlarmType::MetricAlarm)
            .alarm_types(AlarmType::CompositeAlarm)
            .max_records(ALARMS_AT_ONCE)
            .send()
            .await
            .map_err(AwsError::of("cloudwatch:DescribeAlarms"))?;
        let metric = answer.metric_alarms().iter().map(|alarm| (alarm.alarm_name(), alarm.state_value()));
        let composite = answer.composite_alarms().iter().map(|alarm| (alarm.alarm_name(), alarm.state_value()));
        let found = metric.chain(composite);
        Ok(found.filter_map(|(name, state)| Some((name?.to_owned(), state == Some(&StateValue::Alarm)))).collect())
    }

    async fn request(&self, load_balancer: &str, check: &Check) -> Came {
        let begun = Instant::now();
        let asked = http::get(load_balancer, self.load_balancer_mirror.as_deref(), check);
        let late = |_| Err(format!("nothing within {} s", REQUEST.as_secs()));
        let answer = tokio::time::timeout(REQUEST, asked).await.unwrap_or_else(late);
        Came { answer, took: begun.elapsed() }
    }
}

/// For `map_err`: a request that could not be built was never sent.
fn unbuilt(error: aws_sdk_ssm::error::BuildError) -> AwsError {
    let error = SdkError::<aws_sdk_ssm::Error>::construction_failure(error);
    AwsError::of("ssm:DescribeParameters")(error)
}

/// The resources that a simulation refuses for sure: of several it tells each one's decision apart, of one it is its own.
fn refused(result: &EvaluationResult) -> impl Iterator<Item = &str> {
    let sure = |decision: &PolicyEvaluationDecisionType, missing: &[String]| match decision {
        PolicyEvaluationDecisionType::ExplicitDeny => true,
        PolicyEvaluationDecisionType::ImplicitDeny => missing.is_empty(),
        _ => false,
    };
    let each = result.resource_specific_results();
    let own = each.is_empty() && sure(result.eval_decision(), result.missing_context_values());
    let own = own.then(|| result.eval_resource_name()).flatten();
    let each = each.iter().filter(move |one| sure(one.eval_resource_decision(), one.missing_context_values()));
    each.map(|one| one.eval_resource_name()).chain(own)
}

/// A policy as IAM answers it: percent-encoded.
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_Role.html>
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Basic and enhanced scanning list their findings apart.
fn listed(findings: &ImageScanFindings) -> Vec<Finding> {
    let basic = findings.findings().iter().filter_map(|finding| {
        Some(Finding {
            severity: finding.severity()?.as_str().to_owned(),
            name: finding.name().unwrap_or("unnamed").to_owned(),
        })
    });
    let enhanced = findings.enhanced_findings().iter().filter_map(|finding| {
        let id = finding.package_vulnerability_details().and_then(|details| details.vulnerability_id());
        let name = id.or(finding.title()).unwrap_or("unnamed").to_owned();
        Some(Finding { severity: finding.severity()?.to_owned(), name })
    });
    basic.chain(enhanced).collect()
}

fn instance(from: &ContainerInstance) -> Instance {
    let free = |name: &str| {
        let resource = from.remaining_resources().iter().find(|resource| resource.name() == Some(name))?;
        u32::try_from(resource.integer_value()).ok()
    };
    Instance {
        cpu: free("CPU"),
        memory: free("MEMORY"),
        tasks: u32::try_from(from.running_tasks_count() + from.pending_tasks_count()).unwrap_or(0),
        trunk: from.attributes().iter().any(|attribute| attribute.name() == TRUNK),
    }
}

#[cfg(test)]
mod tests;
