//! What a manifest says for one environment, after it was read, merged and checked.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::{AppName, ComponentName};

use check::Wrong;
pub use check::WrongRegion;
pub(super) use check::check;

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
    AlarmName, Approval, HostName, Http, Image, LogGroupName, Migrate, PublicImage, Rollout, Scale, Scan, Service,
    Severity, Sidecar, Smoke, Strategy, TagPattern, Use,
};
pub use site::{CacheRule, Glob, Redirect, Routing, Site, TrailingSlash, Verify};
pub use stack::Stack;
pub use unit::{Period, Stay, Storage, Timeout};

mod check;
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
    /// Whether people depend on it: what a gate like `scan` cannot judge then counts as bad.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub production: bool,
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

fn is_secret_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 512 && name.chars().all(|c| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c))
}
