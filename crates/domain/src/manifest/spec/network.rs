//! What a manifest says of the network.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::unit::Period;

/// The network: one of Shipway's own, the account's default VPC, or a given one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// A VPC that is there: `default`, or an id like `vpc-0123456789abcdef0`. Nothing is changed in it but security groups that
    /// Shipway adds. Without it, the environment has a VPC of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc: Option<GivenVpc>,
    /// The subnets of a given VPC, by tier. Needed with an id, not possible otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnets: Option<GivenSubnets>,
    /// The range of a VPC of its own; `10.0.0.0/16` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
    /// How many availability zones; 2 unless given, 3 at most. A load balancer needs two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azs: Option<u8>,
    /// Whether tasks are in private subnets that reach the internet through NAT gateways. Without, they are in public subnets.
    #[serde(default, skip_serializing_if = "Nat::is_none")]
    pub nat: Nat,
    /// Whether there are isolated subnets without a way out, for databases and caches; so unless `false`. Without, databases and
    /// caches are in the private subnets, or the public ones where there are none, and have no public address there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolated: Option<bool>,
    /// Endpoints of AWS's services inside the VPC: `s3` and `dynamodb` are gateways and cost nothing; any other, like `ecr.api`,
    /// `ecr.dkr`, `logs`, `secretsmanager` or `ssm`, is an interface in each zone and costs by the hour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointService>,
    /// Whether the VPC's traffic is logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_logs: Option<FlowLogs>,
}

/// How private subnets reach the internet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Nat {
    /// There are no private subnets.
    #[default]
    None,
    /// Through one NAT gateway: cheaper; if its zone fails, no task reaches the internet.
    Single,
    /// Through a NAT gateway in each zone.
    PerAz,
}

impl Nat {
    fn is_none(&self) -> bool {
        *self == Nat::None
    }
}

/// A VPC that is there already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^(default|vpc-[0-9a-f]+)$"))]
pub enum GivenVpc {
    /// The account's default VPC and its default subnets.
    Default,
    /// The VPC with this id.
    Id(String),
}

/// The subnets of a given VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenSubnets {
    /// For load balancers, in two zones at least.
    pub public: Vec<SubnetId>,
    /// For tasks and instances; the public ones unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private: Vec<SubnetId>,
    /// For databases and caches; the private ones unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub isolated: Vec<SubnetId>,
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $pattern:literal, $message:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(extend("pattern" = $pattern))]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok($name(text)) } else { Err(format!(concat!("`{}` is not ", $message), text)) }
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }
    };
}
pub(super) use checked_text;

fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()))
}

checked_text!(
    /// A subnet's id.
    SubnetId, "^subnet-[0-9a-f]+$", "a subnet's id like subnet-0123456789abcdef0", |text| is_id(text, "subnet-")
);
checked_text!(
    /// An AWS service as its endpoints name it: what follows `com.amazonaws.<region>.`.
    EndpointService, "^[a-z0-9.-]+$", "a service as its endpoint names it, like s3, ecr.api or secretsmanager",
    |text| !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c))
);

impl EndpointService {
    /// Whether its endpoint is a gateway, which is free, not an interface.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        matches!(self.as_str(), "s3" | "dynamodb")
    }
}

impl TryFrom<String> for GivenVpc {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "default" => Ok(GivenVpc::Default),
            id if is_id(id, "vpc-") => Ok(GivenVpc::Id(text)),
            _ => Err(format!("`{text}` is neither `default` nor a VPC's id like vpc-0123456789abcdef0")),
        }
    }
}

impl From<GivenVpc> for String {
    fn from(vpc: GivenVpc) -> String {
        match vpc {
            GivenVpc::Default => "default".to_owned(),
            GivenVpc::Id(id) => id,
        }
    }
}

/// Logs of the VPC's traffic, in CloudWatch Logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowLogs {
    /// Which traffic; all unless given.
    #[serde(default)]
    pub traffic: Traffic,
    /// How long they are kept; 30 days unless given.
    #[serde(default = "default_retention")]
    pub retention: Period,
}

fn default_retention() -> Period {
    Period::of(30 * 86_400)
}

/// Which traffic is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Traffic {
    /// All of it.
    #[default]
    All,
    /// What security groups and network lists let through.
    Accept,
    /// What they refused.
    Reject,
}

/// An IPv4 range in CIDR notation, on its own boundary: `10.0.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9.]+/[0-9]+$"))]
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
