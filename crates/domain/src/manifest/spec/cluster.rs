//! What a manifest says of what its services run on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    network::{Cidr, checked_text},
    service::yes,
    unit::Storage,
};

/// What services run on: Fargate unless `ec2` is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// `fargate`, or `fargate_spot` for tasks that AWS may stop with two minutes' notice at a third of the price. `fargate`
    /// unless given; not together with `ec2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// How many of a hundred tasks (with `fargate`) or instances (with `ec2`) are on spot capacity; none unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot: Option<u8>,
    /// Instances of the account's own in place of Fargate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ec2: Option<Ec2>,
    /// Whether Container Insights collects metrics; so unless `false`. They are charged by CloudWatch.
    #[serde(default = "yes")]
    pub insights: bool,
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster { capacity: None, spot: None, ec2: None, insights: true }
    }
}

impl Cluster {
    /// How many of a hundred tasks or instances are on spot capacity.
    #[must_use]
    pub fn spot_percent(&self) -> u8 {
        match self.capacity {
            Some(Capacity::FargateSpot) => self.spot.unwrap_or(100),
            _ => self.spot.unwrap_or(0),
        }
    }
}

/// Capacity without instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capacity {
    /// Fargate.
    Fargate,
    /// Fargate with spot capacity.
    FargateSpot,
}

/// Instances that tasks run on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ec2 {
    /// The type of instance: `t3a.small`.
    pub instance_type: InstanceType,
    /// The fewest instances; 1 unless given.
    #[serde(default = "one")]
    pub min: u32,
    /// The most instances; 2 unless given.
    #[serde(default = "two")]
    pub max: u32,
    /// `bridge`: tasks share the instance's address and get free ports of it. `awsvpc`: each task has a network interface and
    /// an address of its own, of which an instance has few. `bridge` unless given.
    #[serde(default)]
    pub networking: Networking,
    /// The name of a key pair for SSH. Without it, nobody logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_pair: Option<KeyPairName>,
    /// From where SSH is let in, with `key_pair`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_from: Vec<Cidr>,
    /// The size of the root volume; 30GiB unless given.
    #[serde(default = "default_disk")]
    pub disk: Storage,
}

fn one() -> u32 {
    1
}

fn two() -> u32 {
    2
}

fn default_disk() -> Storage {
    Storage::of(30)
}

/// How tasks on instances reach the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Networking {
    /// Through the instance's own interface.
    #[default]
    Bridge,
    /// Each task through an interface of its own.
    Awsvpc,
}

checked_text!(
    /// A type of EC2 instance.
    InstanceType, "^[a-z0-9-]+\\.[a-z0-9-]+$", "a type of instance like t3a.small",
    |text| text.split_once('.').is_some_and(|(family, size)| {
        let word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        word(family) && word(size)
    })
);
impl InstanceType {
    /// Whether its processor is one of Arm's: AWS's own Graviton, which the families with a `g` behind their generation have
    /// (`t4g`, `m7gd`, `x2gd`, `im4gn`), and the first one, `a1`.
    /// <https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html>
    #[must_use]
    pub fn is_arm(&self) -> bool {
        let family = self.0.split(['.', '-']).next().unwrap_or_default();
        let behind_generation = family.trim_start_matches(|c: char| c.is_ascii_lowercase());
        let attributes = behind_generation.trim_start_matches(|c: char| c.is_ascii_digit());
        family == "a1" || attributes.contains('g')
    }
}

checked_text!(
    /// A key pair's name.
    KeyPairName, "^[ -~]{1,255}$", "a key pair's name", |text| {
        !text.is_empty() && text.len() <= 255 && text.chars().all(|c| c.is_ascii_graphic() || c == ' ')
    }
);
