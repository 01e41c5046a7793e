//! What a manifest says for one environment, after it was read, merged and checked.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ManifestError, de::from_node, yaml::Node};
use crate::name::{AppName, ComponentName};

pub use cluster::{Capacity, Cluster, Ec2, InstanceType, Networking};
pub use data::{
    AuroraCapacity, Bucket, Cache, CacheEngine, Database, DatabaseEngine, DatabaseName, Email, EmailAddress, OnDelete,
    Secret, SecretName,
};
pub use edge::{Admitted, Certificate, Domain, LoadBalancer, Waf, ZoneId};
pub use monitoring::{Above, Alarms, Below, Logs, Monitoring};
pub use network::{Cidr, EndpointService, FlowLogs, GivenSubnets, GivenVpc, Nat, Network, SubnetId, Traffic};
pub use reference::{
    CacheAttribute, DatabaseAttribute, EnvValue, NetworkAttribute, Reference, SecretRef, ServiceAttribute,
};
pub use service::{
    HostName, Http, Image, LogGroupName, Migrate, PublicImage, Scale, Service, Sidecar, TagPattern, Use,
};
pub use site::{CacheRule, Glob, Redirect, Routing, Site, TrailingSlash, Verify};
pub use stack::Stack;
pub use unit::{Period, Storage, Timeout};

mod cluster;
mod data;
mod edge;
mod monitoring;
mod network;
mod reference;
mod service;
mod site;
mod stack;
mod unit;

/// What one environment should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The manifest's version: 1.
    pub version: Version,
    /// The app's name.
    pub app: AppName,
    /// Where it runs.
    #[serde(default)]
    pub network: Network,
    /// What its services run on.
    #[serde(default)]
    pub cluster: Cluster,
    /// Its services, by name.
    #[serde(default)]
    pub services: BTreeMap<ComponentName, Service>,
    /// Its sites, by name.
    #[serde(default)]
    pub sites: BTreeMap<ComponentName, Site>,
    /// Its databases, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<ComponentName, Database>,
    /// Its caches, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub caches: BTreeMap<ComponentName, Cache>,
    /// Its buckets, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub buckets: BTreeMap<ComponentName, Bucket>,
    /// The secrets that are made for it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<ComponentName, Secret>,
    /// What it sends email as, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub email: BTreeMap<ComponentName, Email>,
    /// Its load balancer.
    #[serde(default)]
    pub load_balancer: LoadBalancer,
    /// Its domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// What is watched.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// What becomes of its services' logs.
    #[serde(default)]
    pub logs: Logs,
    /// CloudFormation stacks of the user's own, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stacks: BTreeMap<ComponentName, Stack>,
}

/// The manifest's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u8", into = "u8")]
#[schemars(extend("const" = 1))]
pub struct Version;

impl TryFrom<u8> for Version {
    type Error = String;

    fn try_from(version: u8) -> Result<Self, String> {
        if version == 1 {
            Ok(Version)
        } else {
            Err(format!("version {version} is not known; this Shipway reads version 1"))
        }
    }
}

impl From<Version> for u8 {
    fn from(_: Version) -> u8 {
        1
    }
}

/// A platform's end writes a route for each service, and deletes those of the manifest before, in one transaction, which has at
/// most 100 writes; three are others.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html>
const MOST_SERVICES: usize = 48;

/// Reads one environment's spec and checks what the types cannot say.
pub(super) fn check(node: &Node) -> Result<Spec, ManifestError> {
    let spec: Spec = from_node(node, "")?;
    let wrong = |path: String, message: String| ManifestError::new(place_of(node, &path), &path, message);
    if spec.services.is_empty() && spec.sites.is_empty() {
        return Err(wrong(String::new(), "there is nothing to deploy: name at least one service or site".to_owned()));
    }
    if spec.services.len() > MOST_SERVICES {
        return Err(wrong("services".to_owned(), format!("an app has at most {MOST_SERVICES} services")));
    }
    check_network(&spec.network).map_err(|(key, message)| wrong(format!("network.{key}"), message))?;
    for (name, service) in &spec.services {
        check_service(service).map_err(|(key, message)| wrong(format!("services.{name}.{key}"), message))?;
        let rival = spec
            .services
            .iter()
            .take_while(|(other, _)| *other != name)
            .find(|(_, other)| matches!((&service.http, &other.http), (Some(a), Some(b)) if a.path == b.path));
        if let Some((other, _)) = rival {
            return Err(wrong(format!("services.{name}.http.path"), format!("`{other}` has the same path already")));
        }
    }
    for (name, site) in &spec.sites {
        site.check().map_err(|(key, message)| wrong(format!("sites.{name}.{key}"), message))?;
        if !site.backend.is_empty() && spec.services.values().all(|service| service.http.is_none()) {
            return Err(wrong(
                format!("sites.{name}.backend"),
                "no service has `http`, so there is no load balancer that these paths could go to".to_owned(),
            ));
        }
    }
    Ok(spec)
}

type Wrong = (String, String);

fn check_network(network: &Network) -> Result<(), Wrong> {
    if network.vpc.is_some() && (network.cidr.is_some() || network.azs.is_some()) {
        return Err((
            "vpc".to_owned(),
            "a VPC that is there has its own range and zones: leave out `cidr` and `azs`".to_owned(),
        ));
    }
    if let Some(cidr) = network.cidr
        && !(16..=24).contains(&cidr.prefix())
    {
        return Err((
            "cidr".to_owned(),
            format!("{cidr} is outside /16 to /24: EC2 takes no larger VPC, and subnets need room"),
        ));
    }
    if let Some(azs) = network.azs
        && !(2..=3).contains(&azs)
    {
        return Err(("azs".to_owned(), "2 or 3 zones: a load balancer needs two".to_owned()));
    }
    Ok(())
}

/// What Fargate offers: CPU units, and for each the memory in MiB as (least, most, step).
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html>
const FARGATE_SIZES: [(u32, u32, u32, u32); 7] = [
    (256, 512, 2048, 512),
    (512, 1024, 4096, 1024),
    (1024, 2048, 8192, 1024),
    (2048, 4096, 16384, 1024),
    (4096, 8192, 30720, 1024),
    (8192, 16384, 61440, 4096),
    (16384, 32768, 122_880, 8192),
];

fn check_service(service: &Service) -> Result<(), Wrong> {
    let Some((_, least, most, step)) = FARGATE_SIZES.iter().find(|size| size.0 == service.cpu) else {
        let known = FARGATE_SIZES.map(|size| size.0.to_string()).join(", ");
        return Err(("cpu".to_owned(), format!("Fargate has no {} CPU units; it has {known}", service.cpu)));
    };
    // With 256 units Fargate takes 512, 1024 and 2048 MiB, and nothing between.
    let fits = (*least..=*most).contains(&service.memory)
        && service.memory.is_multiple_of(*step)
        && !(service.cpu == 256 && service.memory == 1536);
    if !fits {
        return Err((
            "memory".to_owned(),
            format!(
                "Fargate has no {} MiB with {} CPU units; it has {least} to {most} in steps of {step}",
                service.memory, service.cpu
            ),
        ));
    }
    if service.port == Some(0) {
        return Err(("port".to_owned(), "0 is not a port".to_owned()));
    }
    if let Some(http) = &service.http {
        if service.port.is_none() {
            return Err((
                "http".to_owned(),
                "`port` is missing: the load balancer must know where to send requests".to_owned(),
            ));
        }
        // ALB path patterns: at most 128 characters of this set.
        // https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html
        let known = |path: &str| path.chars().all(|c| c.is_ascii_alphanumeric() || "_-.$/~\"'@:+&*?".contains(c));
        if !http.path.starts_with('/') || http.path.len() > 128 || !known(&http.path) {
            return Err(("http.path".to_owned(), format!("`{}` is not a path pattern like /api/*", http.path)));
        }
        if !http.health.starts_with('/') || http.health.len() > 1024 || http.health.contains(['*', ' ']) {
            return Err(("http.health".to_owned(), format!("`{}` is not a path like /health", http.health)));
        }
    }
    for name in service.env.keys().chain(service.secrets.keys()) {
        let valid = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if name.is_empty() || !valid {
            return Err(("env".to_owned(), format!("`{name}` is not the name of an environment variable")));
        }
    }
    if let Some(name) = service.env.keys().find(|name| service.secrets.contains_key(*name)) {
        return Err((format!("secrets.{name}"), format!("`{name}` is in `env` too; a variable has one value")));
    }
    for (name, secret) in &service.secrets {
        let (valid, form) = match secret {
            SecretRef::Secretsmanager(reference) => {
                let (name, key) = reference.split_once(':').unwrap_or((reference, "-"));
                (is_secret_name(name) && !key.is_empty() && !key.contains(':'), "`name` or `name:key`")
            }
            SecretRef::Ssm(path) => (path.starts_with('/') && is_secret_name(path), "`/path`"),
            SecretRef::Ref(reference) => (reference.is_secret(), "a reference to a secret"),
        };
        if !valid {
            return Err((format!("secrets.{name}"), format!("{form} is expected here")));
        }
    }
    match &service.migrate {
        Some(migrate) if migrate.command.is_empty() => {
            Err(("migrate.command".to_owned(), "a command is expected here".to_owned()))
        }
        _ => Ok(()),
    }
}

fn is_secret_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 512 && name.chars().all(|c| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c))
}

/// The place of the value at `path`, or of the nearest one above it that is there.
fn place_of(node: &Node, path: &str) -> super::Place {
    let mut current = node;
    for key in path.split('.').flat_map(|part| part.split('[')).filter(|key| !key.is_empty()) {
        let next = match &current.value {
            super::yaml::Value::Map(entries) => entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node),
            super::yaml::Value::List(items) => {
                key.trim_end_matches(']').parse::<usize>().ok().and_then(|index| items.get(index))
            }
            super::yaml::Value::Scalar { .. } => None,
        };
        match next {
            Some(next) => current = next,
            None => break,
        }
    }
    current.place
}
