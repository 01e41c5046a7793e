//! An environment's network: from what a manifest wants and what EC2 shows to the next actions, and back to nothing.
//!
//! An environment stands in a VPC of its own, in the account's default one, or in a given one. Its own is cut into sixteen
//! ranges of the same size (`/20` in a `/16`), by tier and zone:
//!
//! | ranges | tier | there |
//! |---|---|---|
//! | 0, 1, 2 | public, one for each zone: load balancers, NAT gateways; tasks with a public address where there is no NAT | always |
//! | 4, 5, 6 | private, whose way out is a NAT gateway: tasks and instances | with `nat` |
//! | 8, 9, 10 | isolated, without a way out: databases and caches | where there are any, unless `isolated: false` |
//!
//! A tier that is no longer asked for stays, whole, while something else than our own gateways and endpoints has an interface
//! in it: what runs there moves with the next rollout, and nothing is cut off before.
//!
//! In a VPC that is not its own nothing is made but security groups, and nothing else is changed.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    manifest::EndpointService,
    name::{AppName, EnvironmentName},
};

pub use action::{Action, Direction, EndpointChange, Target};
pub use desired::{Desired, Opening, Openings, OwnVpc, Party, Place};
pub use drift::differences;
pub use observed::{
    Address, Association, Endpoint, Gateway, Group, Inside, Interface, NatGateway, Observed, Peer, Progress,
    Remembered, RouteTable, Rule, Stage, Subnet, Vpc, Zone,
};
pub use plan::{Step, foreseen, next_actions};
pub use refusal::Refusal;
pub use remove::next_removals;
pub use standing::{standing_parts, standing_vpc, strays};

mod action;
mod adopted;
mod desired;
mod drift;
mod layout;
mod observed;
mod plan;
mod refusal;
mod remove;
mod standing;
#[cfg(test)]
mod tests;

/// After an answer to a create was lost, how many looks must miss the resource before it is made again. EC2 shows what it
/// made within seconds; with the pauses between passes this is some ten of them.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html>
pub const SETTLE_LOOKS: u32 = 4;

/// How many looks in a row may find EC2 behind what it answered before it is no longer a matter of waiting.
pub const PATIENCE_LOOKS: u32 = 20;

/// What the rest of the platform needs to know of a network that stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkOutputs {
    /// The VPC.
    pub vpc: String,
    /// Its range.
    pub cidr: String,
    /// The public subnets, one for each zone, in the zones' order.
    pub public_subnets: Vec<String>,
    /// Its private subnets, where it has them: for tasks and instances.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private_subnets: Vec<String>,
    /// Its isolated subnets, where it has them: for databases and caches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub isolated_subnets: Vec<String>,
    /// The security group of load balancers.
    pub load_balancer_group: String,
    /// The security group of services: of tasks with interfaces of their own.
    pub service_group: String,
    /// The security group of instances, where the cluster has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_group: Option<String>,
    /// The security group of databases, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_group: Option<String>,
    /// The security group of caches, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_group: Option<String>,
}

impl NetworkOutputs {
    /// Where tasks and instances are: the private subnets, or the public ones where there are none.
    #[must_use]
    pub fn task_subnets(&self) -> &[String] {
        if self.private_subnets.is_empty() { &self.public_subnets } else { &self.private_subnets }
    }

    /// Where databases and caches are: the isolated subnets, or where tasks are.
    #[must_use]
    pub fn data_subnets(&self) -> &[String] {
        if self.isolated_subnets.is_empty() { self.task_subnets() } else { &self.isolated_subnets }
    }
}

/// Whose a network is: the tags by which it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
}

impl Owner {
    /// A resource's name, for its tag `Name`.
    #[must_use]
    pub fn resource_name(&self, role: &Role) -> String {
        format!("{}-{}-{role}", self.app, self.environment)
    }

    /// A security group's name, which is unique in its VPC. EC2 takes no name that begins with `sg-`.
    #[must_use]
    pub fn group_name(&self, role: &Role) -> String {
        let name = self.resource_name(role);
        if name.starts_with("sg-") { format!("shipway-{name}") } else { name }
    }
}

/// What a subnet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// With the internet gateway as its way out.
    Public,
    /// With a NAT gateway as its way out.
    Private,
    /// Without a way out.
    Isolated,
}

impl Tier {
    /// All of them.
    pub const ALL: [Tier; 3] = [Tier::Public, Tier::Private, Tier::Isolated];

    /// The first of its ranges in a VPC of the environment's own.
    const fn first_range(self) -> u32 {
        match self {
            Tier::Public => 0,
            Tier::Private => 4,
            Tier::Isolated => 8,
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Tier::Public => "public",
            Tier::Private => "private",
            Tier::Isolated => "isolated",
        }
    }
}

/// What a resource is for: the value of its tag `shipway:role`, by which it is found again. A number is that of a zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    /// The VPC.
    Vpc,
    /// Its way to the internet.
    InternetGateway,
    /// A tier's subnet in a zone.
    Subnet(Tier, u8),
    /// The route table of the public subnets.
    PublicRoutes,
    /// The route table of a zone's private subnet.
    PrivateRoutes(u8),
    /// The route table of the isolated subnets.
    IsolatedRoutes,
    /// The public address of a zone's NAT gateway.
    Address(u8),
    /// A zone's NAT gateway.
    NatGateway(u8),
    /// The endpoint of an AWS service.
    Endpoint(EndpointService),
    /// The security group of load balancers.
    LoadBalancerGroup,
    /// The security group of services.
    ServiceGroup,
    /// The security group of instances.
    InstanceGroup,
    /// The security group of databases.
    DatabaseGroup,
    /// The security group of caches.
    CacheGroup,
    /// The security group of interface endpoints.
    EndpointGroup,
}

impl Role {
    /// The security groups that an environment can have.
    pub const GROUPS: [Role; 6] = [
        Role::LoadBalancerGroup,
        Role::ServiceGroup,
        Role::InstanceGroup,
        Role::DatabaseGroup,
        Role::CacheGroup,
        Role::EndpointGroup,
    ];

    /// Whether EC2 itself refuses a second one: a subnet of the same range, a group of the same name.
    fn is_kept_single(&self) -> bool {
        matches!(self, Role::Subnet(..)) || Role::GROUPS.contains(self)
    }
}

const ENDPOINT: &str = "endpoint-to-";

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let letter = |slot: &u8| char::from(b'a' + slot % 26);
        match self {
            Role::Vpc => f.write_str("vpc"),
            Role::InternetGateway => f.write_str("internet-gateway"),
            Role::Subnet(tier, slot) => write!(f, "{}-subnet-{}", tier.word(), letter(slot)),
            Role::PublicRoutes => f.write_str("public-routes"),
            Role::PrivateRoutes(slot) => write!(f, "private-routes-{}", letter(slot)),
            Role::IsolatedRoutes => f.write_str("isolated-routes"),
            Role::Address(slot) => write!(f, "nat-address-{}", letter(slot)),
            Role::NatGateway(slot) => write!(f, "nat-gateway-{}", letter(slot)),
            Role::Endpoint(service) => write!(f, "{ENDPOINT}{}", service.as_str()),
            Role::LoadBalancerGroup => f.write_str("load-balancer-group"),
            Role::ServiceGroup => f.write_str("service-group"),
            Role::InstanceGroup => f.write_str("instance-group"),
            Role::DatabaseGroup => f.write_str("database-group"),
            Role::CacheGroup => f.write_str("cache-group"),
            Role::EndpointGroup => f.write_str("endpoint-group"),
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        if let Some(service) = text.strip_prefix(ENDPOINT) {
            return EndpointService::try_from(service.to_owned()).map(Role::Endpoint);
        }
        let single = [Role::Vpc, Role::InternetGateway, Role::PublicRoutes, Role::IsolatedRoutes];
        let of_zone = |slot: u8| {
            let subnets = Tier::ALL.map(|tier| Role::Subnet(tier, slot));
            subnets.into_iter().chain([Role::PrivateRoutes(slot), Role::Address(slot), Role::NatGateway(slot)])
        };
        let all = single.into_iter().chain(Role::GROUPS).chain((0..26).flat_map(of_zone));
        all.into_iter()
            .find(|role| role.to_string() == text)
            .ok_or_else(|| format!("`{text}` is not a role in a network"))
    }
}

impl TryFrom<String> for Role {
    type Error = String;

    fn try_from(text: String) -> Result<Role, String> {
        text.parse()
    }
}

impl From<Role> for String {
    fn from(role: Role) -> String {
        role.to_string()
    }
}
