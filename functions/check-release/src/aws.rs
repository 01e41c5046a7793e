//! The calls of check-release. All of them read.

use std::collections::BTreeSet;

use aws_config::SdkConfig;
use aws_sdk_ec2::types::Filter;
use aws_sdk_ecr::types::{ImageIdentifier, ImageScanFindings};
use aws_sdk_ecs::types::{ContainerInstance, ContainerInstanceStatus};
use shipway_aws::{AwsError, runtime::Later};
use shipway_domain::{
    name::{Digest, RepositoryName},
    preflight::{Image, Instance, MEDIA_TYPES, Standing, Subnet},
    scan::{Finding, Report},
};

use crate::handler::Calls;

/// DescribeContainerInstances takes so many at once.
const INSTANCES_AT_ONCE: usize = 100;

/// The attribute of an instance that gives tasks more interfaces than its type has.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/container-instance-eni.html>
const TRUNK: &str = "ecs.awsvpc-trunk-id";

/// The clients.
pub(crate) struct Aws {
    ec2: Later<aws_sdk_ec2::Client>,
    ecr: Later<aws_sdk_ecr::Client>,
    ecs: aws_sdk_ecs::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
}

impl Aws {
    pub(crate) fn new(config: &SdkConfig) -> Aws {
        Aws {
            ec2: Later::new(config, aws_sdk_ec2::Client::new),
            ecr: Later::new(config, aws_sdk_ecr::Client::new),
            ecs: aws_sdk_ecs::Client::new(config),
            logs: aws_sdk_cloudwatchlogs::Client::new(config),
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
            return Ok(Image::There(manifest.to_owned()));
        }
        let failure = answer.failures().first();
        let code = failure.and_then(|failure| failure.failure_code()).map_or("no reason given", |code| code.as_str());
        let reason = failure.and_then(|failure| failure.failure_reason());
        Ok(Image::Missing(reason.map_or_else(|| code.to_owned(), |reason| format!("{code}: {reason}"))))
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
        let mut instances = Vec::new();
        for some in arns.chunks(INSTANCES_AT_ONCE) {
            let answer = self
                .ecs
                .describe_container_instances()
                .cluster(cluster)
                .set_container_instances(Some(some.to_vec()))
                .send()
                .await
                .map_err(AwsError::of("ecs:DescribeContainerInstances"))?;
            instances.extend(answer.container_instances().iter().map(instance));
        }
        Ok(instances)
    }
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
