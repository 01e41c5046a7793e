//! What a manifest says for one environment, after it was read, merged and checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ManifestError, de::from_node, yaml::Node};
use crate::name::{AppName, ComponentName, RepositoryName};

pub use site::{CacheRule, Glob, Period, Redirect, Routing, Site, TrailingSlash, Verify};

mod site;

/// What one environment should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The manifest's version: 1.
    pub version: Version,
    /// The app's name.
    pub app: AppName,
    /// Where it runs.
    #[serde(default)]
    pub network: Network,
    /// Its services, by name.
    #[serde(default)]
    pub services: BTreeMap<ComponentName, Service>,
    /// Its sites, by name.
    #[serde(default)]
    pub sites: BTreeMap<ComponentName, Site>,
}

/// The manifest's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
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

/// The network: one of Shipway's own, or the account's default VPC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// `default`: use the account's default VPC and its default subnets, and change nothing in it but two security groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc: Option<GivenVpc>,
    /// The range of a VPC of its own; `10.0.0.0/16` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
    /// How many availability zones; 2 unless given. A load balancer needs two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azs: Option<u8>,
}

/// A VPC that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GivenVpc {
    /// The account's default VPC.
    Default,
}

/// An IPv4 range in CIDR notation, on its own boundary: `10.0.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    base: u32,
    prefix: u8,
}

impl Cidr {
    /// The range of a VPC whose manifest gives none.
    pub const DEFAULT: Cidr = Cidr { base: u32::from_be_bytes([10, 0, 0, 0]), prefix: 16 };

    /// The prefix length.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether the two ranges have an address in common.
    pub fn overlaps(self, other: Cidr) -> bool {
        let shorter = self.prefix.min(other.prefix);
        let mask = u32::MAX.checked_shl(32 - u32::from(shorter)).unwrap_or(0);
        self.base & mask == other.base & mask
    }

    /// The `index`-th range of `prefix` bits inside this one, or nothing where that does not fit.
    pub fn subnet(self, prefix: u8, index: u32) -> Option<Cidr> {
        let bits = prefix.checked_sub(self.prefix)?;
        if prefix > 32 || u64::from(index) >= 1u64 << bits {
            return None;
        }
        let step = 1u64 << (32 - prefix);
        Some(Cidr { base: self.base + u32::try_from(step * u64::from(index)).ok()?, prefix })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", std::net::Ipv4Addr::from(self.base), self.prefix)
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an IPv4 range like 10.0.0.0/16");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: std::net::Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > 32 {
            return Err(wrong());
        }
        let base = u32::from(address);
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        if base & !mask != 0 {
            let fixed = std::net::Ipv4Addr::from(base & mask);
            return Err(format!("{text} does not start on its own boundary; {fixed}/{prefix} does"));
        }
        Ok(Cidr { base, prefix })
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

/// A service: containers of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Which pushed images are this service's.
    pub image: Image,
    /// The port the container listens on. Needed with `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// CPU units; 1024 are one vCPU.
    #[serde(default = "default_cpu")]
    pub cpu: u32,
    /// Memory in MiB.
    #[serde(default = "default_memory")]
    pub memory: u32,
    /// What the load balancer sends it. Without it, the service is reached by nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Environment variables whose values are secrets, by reference.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretRef>,
    /// A one-off task that must succeed before the service changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate: Option<Migrate>,
}

fn default_cpu() -> u32 {
    256
}

fn default_memory() -> u32 {
    512
}

/// Which pushed images are a service's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The ECR repository, without the registry.
    pub repository: RepositoryName,
    /// Patterns with `*` and `?`; a push whose tag matches one of them rolls out. All tags unless given.
    #[serde(default = "default_tags")]
    pub tags: Vec<TagPattern>,
}

fn default_tags() -> Vec<TagPattern> {
    vec![TagPattern("*".to_owned())]
}

/// A pattern for image tags: `sha-*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagPattern(String);

impl TagPattern {
    /// Whether the pattern matches this tag: `*` is any text, `?` any one character.
    pub fn matches(&self, tag: &str) -> bool {
        fn go(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern.split_first(), text.split_first()) {
                (None, None) => true,
                (Some((b'*', rest)), _) => go(rest, text) || text.split_first().is_some_and(|(_, t)| go(pattern, t)),
                (Some((b'?', rest)), Some((_, t))) => go(rest, t),
                (Some((p, rest)), Some((c, t))) => p == c && go(rest, t),
                _ => false,
            }
        }
        go(self.0.as_bytes(), tag.as_bytes())
    }
}

impl TryFrom<String> for TagPattern {
    type Error = String;

    /// A tag has at most 128 letters, digits, `_`, `.` and `-`; at most 4 stars keep matching cheap.
    fn try_from(text: String) -> Result<Self, String> {
        let known = text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-*?".contains(c));
        if text.is_empty() || text.len() > 128 || !known {
            Err(format!("`{text}` is not a pattern of image tags: letters, digits, `_`, `.`, `-`, with `*` and `?`"))
        } else if text.matches('*').count() > 4 {
            Err(format!("`{text}` has more than 4 stars"))
        } else {
            Ok(TagPattern(text))
        }
    }
}

impl From<TagPattern> for String {
    fn from(pattern: TagPattern) -> String {
        pattern.0
    }
}

/// What the load balancer sends a service, and how it knows that it is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// The path pattern that is this service's: `/api/*`. Everything (`/*`) unless given.
    #[serde(default = "default_path")]
    pub path: String,
    /// The path that answers 2xx or 3xx when the service is well.
    #[serde(default = "default_health")]
    pub health: String,
}

fn default_path() -> String {
    "/*".to_owned()
}

fn default_health() -> String {
    "/".to_owned()
}

/// Where a secret is. Its value is read by ECS when the task starts, never by Shipway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    /// In Secrets Manager: `name`, or `name:key` for one key of a JSON secret.
    Secretsmanager(String),
    /// A parameter in Systems Manager: `/path`.
    Ssm(String),
}

/// A one-off task with the service's own image, network and secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migrate {
    /// The command, in place of the image's.
    pub command: Vec<String>,
    /// How long it may take; 10 minutes unless given.
    #[serde(default)]
    pub timeout: Timeout,
}

/// A duration with its unit: `90s`, `10m`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timeout {
    seconds: u32,
}

impl Timeout {
    /// In seconds.
    pub fn seconds(self) -> u32 {
        self.seconds
    }
}

impl Default for Timeout {
    fn default() -> Self {
        Timeout { seconds: 600 }
    }
}

impl TryFrom<String> for Timeout {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a duration with its unit, like 90s, 10m or 2h");
        let (number, factor) = match text.char_indices().last() {
            Some((at, 's')) => (&text[..at], 1),
            Some((at, 'm')) => (&text[..at], 60),
            Some((at, 'h')) => (&text[..at], 3600),
            _ => return Err(wrong()),
        };
        let number: u32 = number.parse().map_err(|_| wrong())?;
        match number.checked_mul(factor) {
            Some(seconds @ 1..=86_400) => Ok(Timeout { seconds }),
            _ => Err(format!("{text} is outside 1s to 24h")),
        }
    }
}

impl From<Timeout> for String {
    fn from(timeout: Timeout) -> String {
        format!("{}s", timeout.seconds)
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
