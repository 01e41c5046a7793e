//! What the stacks made, for rollouts and publications.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Observed, StackName, Wish, compute, data, has_http};
use crate::{
    manifest::spec::{DatabaseEngine, DatabaseName},
    name::ComponentName,
};

/// What the stacks of an environment made, for rollouts and publications.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformOutputs {
    /// The ECS cluster's name, where there are services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The load balancer's DNS name, where a service has `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<String>,
    /// The capacity provider of the environment's own instances, where the cluster has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_provider: Option<String>,
    /// What the manifest's references to what is no secret stand for, by their text: `databases.main.host`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
    /// Where ECS finds what the manifest's references to secrets stand for (`valueFrom`), by their text: `databases.main.url`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Its database servers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<ComponentName, DatabaseOutputs>,
    /// What each service stands on.
    #[serde(default)]
    pub services: BTreeMap<ComponentName, ServiceOutputs>,
    /// What each site stands on.
    #[serde(default)]
    pub sites: BTreeMap<ComponentName, SiteOutputs>,
}

/// What a service stands on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOutputs {
    /// The repository's URI, without tag or digest: `123456789012.dkr.ecr.eu-west-1.amazonaws.com/hello-api`. None where the
    /// image is a public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_uri: Option<String>,
    /// The log group's name.
    pub log_group: String,
    /// The log group of its migration, where that has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_log_group: Option<String>,
    /// The ARN of its entry in the service discovery, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The role with which ECS pulls the image, writes the log and reads the secrets.
    pub execution_role: String,
    /// The role of the containers themselves.
    pub task_role: String,
    /// The target group, where the service has `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_group: Option<String>,
    /// What ECS needs beside it to move requests between two versions, where the service has or had a strategy that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alternate: Option<Alternate>,
}

/// What ECS needs to move a service's requests between two versions. Which of the two target groups gets them alternates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternate {
    /// The ARN of the other target group.
    pub target_group: String,
    /// The ARN of the listener's rule that sends requests to either.
    pub rule: String,
    /// The ARN of the rule that sends those with the header `x-shipway-test`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_rule: Option<String>,
    /// The ARN of the role with which ECS changes the rules.
    pub role: String,
}

/// A database server, for who makes the further databases on it, its snapshots, or empties its export bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseOutputs {
    /// Which server it is.
    pub engine: DatabaseEngine,
    /// The instance's identifier; the cluster's where it is Aurora.
    pub identifier: String,
    /// Where it is reached.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user who may make databases on it.
    pub user: String,
    /// Where ECS finds the user's password (`valueFrom`).
    pub password: String,
    /// The databases that should be on it. The first was made with the server.
    pub names: Vec<DatabaseName>,
    /// The bucket of its weekly exports, where it has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_bucket: Option<String>,
}

/// What a site stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteOutputs {
    /// The bucket.
    pub bucket: String,
    /// The distribution's id.
    pub distribution: String,
    /// The distribution's domain name.
    pub domain: String,
    /// The ARN of the key-value store that the edge reads. Empty where the site's stack is older than this.
    #[serde(default)]
    pub store: String,
}

/// An output that a finished stack does not have: its blueprint and this code contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stack {stack} stands but has no output {key}")]
pub struct MissingOutput {
    /// The stack.
    pub stack: StackName,
    /// The output.
    pub key: &'static str,
}

/// Reads an output of a stack that stands.
pub(super) type Output<'a> = dyn Fn(StackName, &'static str) -> Result<String, MissingOutput> + 'a;

/// What the stacks made, once all stand.
///
/// # Errors
/// Where a stack has not the output it should have.
pub fn outputs(wish: &Wish<'_>, observed: &Observed) -> Result<PlatformOutputs, MissingOutput> {
    let (spec, names) = (wish.spec, wish.names());
    let output = |stack: StackName, key: &'static str| {
        let value = observed.get(&stack).and_then(|stack| stack.outputs.get(key)).cloned();
        value.ok_or(MissingOutput { stack, key })
    };
    let mut outputs = PlatformOutputs { values: wish.values(observed), ..Default::default() };
    if !spec.services.is_empty() {
        outputs.cluster = Some(output(names.cluster(), "Cluster")?);
        outputs.capacity_provider = spec.cluster.ec2.as_ref().map(|_| names.capacity_provider());
    }
    if has_http(spec) {
        outputs.load_balancer = Some(output(names.load_balancer(), "DnsName")?);
    }
    for (name, service) in &spec.services {
        let of_service = |key| output(names.service(name), key);
        let made = ServiceOutputs {
            repository_uri: match &service.image.repository {
                Some(repository) => Some(output(names.repository(repository), "Uri")?),
                None => None,
            },
            log_group: of_service("LogGroup")?,
            execution_role: of_service("ExecutionRole")?,
            task_role: of_service("TaskRole")?,
            migration_log_group: compute::migration_log_group(names, name, service)
                .map(|_| of_service("MigrationLogGroup"))
                .transpose()?,
            registry: service.discovery.then(|| of_service("Registry")).transpose()?,
            target_group: service.http.as_ref().map(|_| of_service("TargetGroup")).transpose()?,
            alternate: wish
                .shifts(name, service, observed)
                .then(|| {
                    Ok(Alternate {
                        target_group: of_service("AlternateTargetGroup")?,
                        rule: of_service("Rule")?,
                        test_rule: wish
                            .has_test_rule(name, service, observed)
                            .then(|| of_service("TestRule"))
                            .transpose()?,
                        role: of_service("InfrastructureRole")?,
                    })
                })
                .transpose()?,
        };
        outputs.services.insert(name.clone(), made);
    }
    for name in spec.sites.keys() {
        let of_site = |key| output(names.site(name), key);
        let made = SiteOutputs {
            bucket: of_site("Bucket")?,
            distribution: of_site("Distribution")?,
            domain: of_site("Domain")?,
            store: of_site("Store")?,
        };
        outputs.sites.insert(name.clone(), made);
    }
    data::outputs(names, spec, &output, &mut outputs)?;
    Ok(outputs)
}
