//! The network plan: from what a manifest wants and what EC2 shows to the next actions.
//!
//! An environment stands in a VPC of its own or in the account's default one. Its own is cut into sixteen ranges of the same
//! size (`/20` in a `/16`), by tier and zone:
//!
//! | ranges | tier |
//! |---|---|
//! | 0, 1, 2 | public, one for each zone: load balancers, and tasks with a public address |
//! | 4, 5, 6 | kept for a private tier, whose way out is a NAT gateway |
//! | 8, 9, 10 | kept for an isolated tier without a way out: databases |
//!
//! In the default VPC nothing is made but the two security groups, and nothing else is changed.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    failure::Failure,
    manifest::{Cidr, GivenVpc, Spec},
    name::{AppName, EnvironmentName, ReleaseId},
};

/// After an answer to a create was lost, how many looks must miss the resource before it is made again. EC2 shows what it
/// made within seconds; with the pauses between passes this is some ten of them.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html>
pub const SETTLE_LOOKS: u32 = 4;

/// How many looks in a row may find EC2 behind what it answered before it is no longer a matter of waiting.
pub const PATIENCE_LOOKS: u32 = 20;

/// Zones that Fargate does not run in; load balancers and tasks are kept out of them.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/AWS_Fargate-Regions.html>
const ZONES_WITHOUT_FARGATE: [&str; 3] = ["usw1-az2", "apne1-az3", "cnn1-az3"];

/// A load balancer takes no fewer zones than these.
const FEWEST_ZONES: usize = 2;

const DEFAULT_ZONES: u8 = 2;
const ANYWHERE: &str = "0.0.0.0/0";
const ANYWHERE_V6: &str = "::/0";

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

/// What a resource is for: the value of its tag `shipway:role`, by which it is found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    /// The VPC.
    Vpc,
    /// Its way to the internet.
    InternetGateway,
    /// The n-th public subnet.
    PublicSubnet(u8),
    /// The route table of the public subnets.
    PublicRoutes,
    /// The security group of load balancers.
    LoadBalancerGroup,
    /// The security group of services.
    ServiceGroup,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Role::Vpc => f.write_str("vpc"),
            Role::InternetGateway => f.write_str("internet-gateway"),
            Role::PublicSubnet(slot) => write!(f, "public-subnet-{}", char::from(b'a' + slot % 26)),
            Role::PublicRoutes => f.write_str("public-routes"),
            Role::LoadBalancerGroup => f.write_str("load-balancer-group"),
            Role::ServiceGroup => f.write_str("service-group"),
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        let all = [Role::Vpc, Role::InternetGateway, Role::PublicRoutes, Role::LoadBalancerGroup, Role::ServiceGroup];
        all.into_iter()
            .chain((0..26).map(Role::PublicSubnet))
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

/// What an environment's network should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// What the names of its resources begin with: `<app>-<environment>`.
    pub name: String,
    /// Which VPC it stands in.
    pub place: Place,
    /// The ports that services listen on behind the load balancer.
    pub ports: BTreeSet<u16>,
}

/// Which VPC an environment stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One of its own.
    Own {
        /// Its range.
        cidr: Cidr,
        /// How many zones its public subnets are in.
        zones: u8,
    },
    /// The account's default VPC.
    Default,
}

impl Desired {
    /// What a manifest asks for. Ports that only the manifest before it names stay open: until the services were rolled out
    /// anew, their tasks listen there.
    pub fn of(app: &AppName, environment: &EnvironmentName, planned: &Spec, applied: Option<&Spec>) -> Desired {
        let place = match planned.network.vpc {
            Some(GivenVpc::Default | GivenVpc::Id(_)) => Place::Default,
            None => Place::Own {
                cidr: planned.network.cidr.unwrap_or(Cidr::DEFAULT),
                zones: planned.network.azs.unwrap_or(DEFAULT_ZONES),
            },
        };
        let ports = [Some(planned), applied]
            .into_iter()
            .flatten()
            .flat_map(|spec| spec.services.values())
            .filter(|service| service.http.is_some())
            .filter_map(|service| service.port)
            .collect();
        Desired { name: format!("{app}-{environment}"), place, ports }
    }

    /// A resource's name, for its tag `Name`.
    pub fn resource_name(&self, role: Role) -> String {
        format!("{}-{role}", self.name)
    }

    /// A security group's name, which is unique in its VPC. EC2 takes no name that begins with `sg-`.
    pub fn group_name(&self, role: Role) -> String {
        let name = self.resource_name(role);
        if name.starts_with("sg-") { format!("shipway-{name}") } else { name }
    }
}

/// What EC2 shows of the network, and what is remembered of making it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The region's availability zones that are in service.
    pub zones: Vec<Zone>,
    /// The VPCs that carry this environment's tags, the default one where that is wanted, and the one it stood in last.
    pub vpcs: Vec<Vpc>,
    /// The internet gateways that carry this environment's tags.
    pub gateways: Vec<Gateway>,
    /// What is in the VPC that [`standing_vpc`] names.
    pub inside: Inside,
    /// What was written down by earlier passes and releases.
    pub remembered: Remembered,
}

/// An availability zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its name in this account: `eu-west-1a`.
    pub name: String,
    /// Its id in every account: `euw1-az2`.
    pub id: String,
}

/// A VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpc {
    /// Its id.
    pub id: String,
    /// Its range.
    pub cidr: String,
    /// Whether it carries this environment's tags.
    pub ours: bool,
    /// Whether it is the account's default VPC.
    pub default: bool,
}

/// An internet gateway with this environment's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its id.
    pub id: String,
    /// The VPC it is attached to.
    pub vpc: Option<String>,
}

/// What is in a VPC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// Whether the VPC answers DNS queries.
    pub dns_support: bool,
    /// Whether what has a public address in it gets a DNS name.
    pub dns_hostnames: bool,
    /// All subnets; of the default VPC, the default ones.
    pub subnets: Vec<Subnet>,
    /// All route tables. Not looked at in the default VPC.
    pub tables: Vec<RouteTable>,
    /// The security groups that have the names of this environment's.
    pub groups: Vec<Group>,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: String,
    /// What it is for, if it carries this environment's tags.
    pub role: Option<Role>,
    /// Its zone's name.
    pub zone: String,
    /// Its range.
    pub cidr: String,
    /// Whether what starts in it gets a public address.
    pub public_addresses: bool,
}

/// A route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTable {
    /// Its id.
    pub id: String,
    /// What it is for, if it carries this environment's tags.
    pub role: Option<Role>,
    /// What its route to everywhere leads to.
    pub default_route: Option<String>,
    /// The subnets that use it.
    pub associations: Vec<Association>,
}

/// A subnet's use of a route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// Its id.
    pub id: String,
    /// The subnet.
    pub subnet: String,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for, if it carries this environment's tags.
    pub role: Option<Role>,
    /// Whether it was made a moment ago, so that nothing relies on its rules yet.
    pub fresh: bool,
    /// What it lets in.
    pub incoming: BTreeSet<Rule>,
    /// What it lets out.
    pub outgoing: BTreeSet<Rule>,
}

/// A rule of a security group: one protocol, one range of ports, one peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// `tcp`, `udp`, `icmp`, a number, or `-1` for all.
    pub protocol: String,
    /// First and last port, or ICMP type and code; nothing where all protocols are meant.
    pub ports: Option<(i32, i32)>,
    /// Where from, or where to.
    pub peer: Peer,
}

/// The other end of a security group's rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Addresses.
    Ipv4(String),
    /// Addresses.
    Ipv6(String),
    /// What is in a security group.
    Group {
        /// Its id.
        id: String,
        /// The account it belongs to, if that is another.
        account: Option<String>,
    },
    /// The addresses of a prefix list.
    PrefixList(String),
}

impl Rule {
    fn tcp(port: u16, peer: Peer) -> Rule {
        Rule { protocol: "tcp".to_owned(), ports: Some((port.into(), port.into())), peer }
    }

    fn everything(peer: Peer) -> Rule {
        Rule { protocol: "-1".to_owned(), ports: None, peer }
    }
}

impl Peer {
    fn group(id: &str) -> Peer {
        Peer::Group { id: id.to_owned(), account: None }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.protocol.as_str(), self.ports) {
            ("-1", _) => f.write_str("all traffic")?,
            (protocol, None) => f.write_str(protocol)?,
            (protocol, Some((first, last))) if first == last => write!(f, "{protocol} {first}")?,
            (protocol, Some((first, last))) => write!(f, "{protocol} {first} to {last}")?,
        }
        match &self.peer {
            Peer::Ipv4(range) | Peer::Ipv6(range) => write!(f, " ({range})"),
            Peer::Group { id, .. } => write!(f, " ({id})"),
            Peer::PrefixList(id) => write!(f, " ({id})"),
        }
    }
}

/// What is remembered of an environment's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The VPC that the environment stood in when it was last provisioned.
    pub vpc: Option<String>,
    /// What was made and what may have been.
    pub progress: Progress,
}

/// What was made for an environment and what may have been, as it is written down. It outlasts its release: one that takes
/// over from another must know what that one was about to make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The release that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseId>,
    /// What EC2 answered this release that it made.
    #[serde(default)]
    pub made: BTreeMap<Role, String>,
    /// What earlier releases made or found.
    #[serde(default)]
    pub inherited: BTreeMap<Role, String>,
    /// What EC2 was asked to make, without an answer yet. Written down before asking, because these creates take no token:
    /// asked again, EC2 makes a second one.
    #[serde(default)]
    pub asked: BTreeSet<Role>,
    /// How many looks in a row found EC2 behind what is written here.
    #[serde(default)]
    pub behind: u32,
}

impl Progress {
    /// The progress as this release goes on with it.
    #[must_use]
    pub fn taken_over_by(mut self, release: &ReleaseId) -> Progress {
        if self.release.as_ref() != Some(release) {
            self.release = Some(release.clone());
            self.inherited.append(&mut self.made);
            self.behind = 0;
        }
        self
    }

    fn id(&self, role: Role) -> Option<&String> {
        self.made.get(&role).or_else(|| self.inherited.get(&role))
    }
}

/// One call of EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the VPC.
    CreateVpc {
        /// Its range.
        cidr: Cidr,
    },
    /// Let the VPC answer DNS queries.
    EnableDnsSupport {
        /// The VPC.
        vpc: String,
    },
    /// Give what has a public address in the VPC a DNS name.
    EnableDnsHostnames {
        /// The VPC.
        vpc: String,
    },
    /// Make the internet gateway.
    CreateInternetGateway,
    /// Attach the internet gateway.
    AttachInternetGateway {
        /// The gateway.
        gateway: String,
        /// The VPC.
        vpc: String,
    },
    /// Make a public subnet.
    CreateSubnet {
        /// Which.
        slot: u8,
        /// The VPC.
        vpc: String,
        /// Its range.
        cidr: Cidr,
        /// Its zone's name.
        zone: String,
    },
    /// Give what starts in a subnet a public address.
    GivePublicAddresses {
        /// The subnet.
        subnet: String,
    },
    /// Make the public subnets' route table.
    CreateRouteTable {
        /// The VPC.
        vpc: String,
    },
    /// Lead what goes elsewhere to the internet gateway.
    CreateDefaultRoute {
        /// The route table.
        table: String,
        /// The gateway.
        gateway: String,
    },
    /// The same, where that route leads to something else.
    ReplaceDefaultRoute {
        /// The route table.
        table: String,
        /// The gateway.
        gateway: String,
    },
    /// Let a subnet use the route table.
    AssociateRouteTable {
        /// The route table.
        table: String,
        /// The subnet.
        subnet: String,
    },
    /// The same, where the subnet uses another one.
    ReplaceAssociation {
        /// The subnet's use of the other one.
        association: String,
        /// The route table.
        table: String,
        /// The subnet.
        subnet: String,
    },
    /// Make a security group.
    CreateGroup {
        /// Which.
        role: Role,
        /// Its name.
        name: String,
        /// The VPC.
        vpc: String,
    },
    /// Let something through a security group.
    Authorize {
        /// The security group.
        group: String,
        /// Which way.
        direction: Direction,
        /// What.
        rules: Vec<Rule>,
    },
    /// No longer let something through a security group.
    Revoke {
        /// The security group.
        group: String,
        /// Which way.
        direction: Direction,
        /// What.
        rules: Vec<Rule>,
    },
}

/// Which way a security group lets something through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// In.
    Incoming,
    /// Out.
    Outgoing,
}

impl Action {
    /// The role of what the action makes, if it makes something.
    pub fn makes(&self) -> Option<Role> {
        match self {
            Action::CreateVpc { .. } => Some(Role::Vpc),
            Action::CreateInternetGateway => Some(Role::InternetGateway),
            Action::CreateSubnet { slot, .. } => Some(Role::PublicSubnet(*slot)),
            Action::CreateRouteTable { .. } => Some(Role::PublicRoutes),
            Action::CreateGroup { role, .. } => Some(*role),
            Action::EnableDnsSupport { .. }
            | Action::EnableDnsHostnames { .. }
            | Action::AttachInternetGateway { .. }
            | Action::GivePublicAddresses { .. }
            | Action::CreateDefaultRoute { .. }
            | Action::ReplaceDefaultRoute { .. }
            | Action::AssociateRouteTable { .. }
            | Action::ReplaceAssociation { .. }
            | Action::Authorize { .. }
            | Action::Revoke { .. } => None,
        }
    }

    /// Whether asking twice makes two. EC2 itself refuses a second subnet of the same range and a second group of the same
    /// name, and a route table is asked for with a token.
    pub fn doubles(&self) -> bool {
        matches!(self, Action::CreateVpc { .. } | Action::CreateInternetGateway)
    }

    /// What the action did, for the release's story. `id` is what it made.
    pub fn told(&self, id: &str) -> String {
        let list = |rules: &[Rule]| rules.iter().map(Rule::to_string).collect::<Vec<_>>().join(", ");
        let way = |direction: &Direction| match direction {
            Direction::Incoming => "in",
            Direction::Outgoing => "out",
        };
        match self {
            Action::CreateVpc { cidr } => format!("made {id} of {cidr}"),
            Action::EnableDnsSupport { vpc } => format!("switched on DNS in {vpc}"),
            Action::EnableDnsHostnames { vpc } => format!("switched on DNS names in {vpc}"),
            Action::CreateInternetGateway => format!("made {id}"),
            Action::AttachInternetGateway { gateway, vpc } => format!("attached {gateway} to {vpc}"),
            Action::CreateSubnet { cidr, zone, .. } => format!("made {id} of {cidr} in {zone}"),
            Action::GivePublicAddresses { subnet } => format!("switched on public addresses in {subnet}"),
            Action::CreateRouteTable { .. } => format!("made {id}"),
            Action::CreateDefaultRoute { table, gateway } => format!("led {table} to {gateway}"),
            Action::ReplaceDefaultRoute { table, gateway } => format!("led {table} back to {gateway}"),
            Action::AssociateRouteTable { table, subnet } => format!("gave {subnet} the routes of {table}"),
            Action::ReplaceAssociation { table, subnet, .. } => format!("gave {subnet} back the routes of {table}"),
            Action::CreateGroup { name, .. } => format!("made {id} ({name})"),
            Action::Authorize { group, direction, rules } => {
                format!("opened {group}, {}: {}", way(direction), list(rules))
            }
            Action::Revoke { group, direction, rules } => {
                format!("closed {group}, {}: {}", way(direction), list(rules))
            }
        }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// All that can be done now; none of it waits for another of it.
    Act(Vec<Action>),
    /// Nothing: EC2 may have made something that it does not show yet, and why that is thought.
    LookAgain(String),
    /// Nothing: the network stands.
    Done(NetworkOutputs),
}

/// A network that cannot be made as the manifest asks, or without a person's decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Refusal {
    /// The range of the VPC is another.
    #[error(
        "network.cidr is {wanted}, but {vpc} has {is}, and a VPC keeps the range it was made with; write `cidr: {is}` again, or \
         tear the environment down before it gets another range"
    )]
    RangeChanged { vpc: String, is: String, wanted: Cidr },
    /// The region has too few zones.
    #[error("network.azs is {wanted}, but only {available} zones of this region can be used: {names}; ask for fewer")]
    TooFewZones { wanted: u8, available: usize, names: String },
    /// Subnets would have to go.
    #[error(
        "network.azs is {wanted}, but the network has {subnet} in {zone} too, where load balancers and tasks may be; write \
         `azs: {is}` again, or tear the environment down first"
    )]
    FewerZones { wanted: u8, is: u8, subnet: String, zone: String },
    /// There is no default VPC.
    #[error(
        "network.vpc is `default`, but this account has no default VPC in this region; make one (`aws ec2 create-default-vpc`) \
         or leave out `vpc` for a VPC of the environment's own"
    )]
    NoDefaultVpc,
    /// The default VPC has too few default subnets.
    #[error(
        "the default VPC {vpc} has default subnets in {available} zones that can be used, and a load balancer needs two; make \
         more (`aws ec2 create-default-subnet`) or leave out `vpc` for a VPC of the environment's own"
    )]
    TooFewDefaultSubnets { vpc: String, available: usize },
    /// The environment stands elsewhere.
    #[error(
        "the environment stands in {stands}, and what is in a VPC cannot move to another; write `network` as it was, or tear \
         the environment down first, or give the new network to an environment of another name"
    )]
    Moved { stands: String },
    /// The environment's VPC has lost its tags.
    #[error(
        "{vpc}, which this environment stands in, does not carry its tags any more; give it shipway:app, shipway:environment \
         and shipway:role=vpc again"
    )]
    TagsLost { vpc: String },
    /// Something is gone that this release made.
    #[error(
        "{id}, which this release made ({role}), cannot be found; if somebody deleted it, start the execution again"
    )]
    Gone { role: Role, id: String },
    /// A range is taken.
    #[error("{subnet} of {cidr} was not made by Shipway and lies in {wanted}, where {role} belongs; remove it")]
    RangeTaken { subnet: String, cidr: String, wanted: Cidr, role: Role },
    /// A security group's name is taken.
    #[error(
        "the security group {group} has the name {name} but not this environment's tags; delete it, or give it shipway:app, \
         shipway:environment and shipway:role={role}"
    )]
    NameTaken { group: String, name: String, role: Role },
    /// The VPC's range has no room for a subnet.
    #[error("{cidr} has no room for {role}; choose a larger range, at least a /24")]
    NoRoom { cidr: Cidr, role: Role },
}

impl Refusal {
    /// The public name.
    pub fn failure(&self) -> Failure {
        match self {
            Refusal::TooFewZones { .. } | Refusal::NoRoom { .. } => Failure::RejectedManifest,
            Refusal::RangeChanged { .. }
            | Refusal::FewerZones { .. }
            | Refusal::NoDefaultVpc
            | Refusal::TooFewDefaultSubnets { .. }
            | Refusal::Moved { .. }
            | Refusal::TagsLost { .. }
            | Refusal::Gone { .. }
            | Refusal::RangeTaken { .. }
            | Refusal::NameTaken { .. } => Failure::Conflict,
        }
    }
}

/// Decides what to do next. Once everything it names has been done and looked at, it answers [`Step::Done`].
pub fn next_actions(desired: &Desired, observed: &Observed) -> Result<Step, Refusal> {
    let vpc = standing_vpc(desired, observed)?;
    if let Some(why) = doubt(desired, observed)? {
        return Ok(Step::LookAgain(why));
    }
    let mut actions = Vec::new();
    let (vpc, public_subnets) = match desired.place {
        Place::Default => {
            let vpc = vpc.ok_or(Refusal::NoDefaultVpc)?;
            (vpc, default_subnets(vpc, observed)?)
        }
        Place::Own { cidr, zones } => {
            if let Some(vpc) = vpc.filter(|vpc| vpc.cidr != cidr.to_string()) {
                return Err(Refusal::RangeChanged { vpc: vpc.id.clone(), is: vpc.cidr.clone(), wanted: cidr });
            }
            let slots = public_slots(cidr, zones, observed)?;
            let gateway = gateway(vpc, observed);
            if gateway.is_none() {
                actions.push(Action::CreateInternetGateway);
            }
            let Some(vpc) = vpc else {
                actions.push(Action::CreateVpc { cidr });
                return Ok(Step::Act(actions));
            };
            plan_own(vpc, gateway, &slots, observed, &mut actions);
            let mut subnets: Vec<&Subnet> = slots.iter().filter_map(|slot| slot.subnet).collect();
            subnets.sort_by(|a, b| (&a.zone, &a.id).cmp(&(&b.zone, &b.id)));
            (vpc, subnets)
        }
    };
    let load_balancers = group(Role::LoadBalancerGroup, desired, observed)?;
    let services = group(Role::ServiceGroup, desired, observed)?;
    plan_groups(desired, vpc, load_balancers, services, &mut actions);
    match (load_balancers, services) {
        (Some(load_balancers), Some(services)) if actions.is_empty() => Ok(Step::Done(NetworkOutputs {
            vpc: vpc.id.clone(),
            cidr: vpc.cidr.clone(),
            public_subnets: public_subnets.iter().map(|subnet| subnet.id.clone()).collect(),
            load_balancer_group: load_balancers.id.clone(),
            service_group: services.id.clone(),
            ..NetworkOutputs::default()
        })),
        _ => Ok(Step::Act(actions)),
    }
}

/// Why something may be there that EC2 does not show yet; then nothing is made, for it could be a second one.
fn doubt(desired: &Desired, observed: &Observed) -> Result<Option<String>, Refusal> {
    let Remembered { vpc, progress } = &observed.remembered;
    for (role, id) in &progress.made {
        if !observed.shows(id) {
            if progress.behind >= PATIENCE_LOOKS {
                return Err(Refusal::Gone { role: *role, id: id.clone() });
            }
            return Ok(Some(format!("{id} was made a moment ago; EC2 does not show it yet")));
        }
    }
    if progress.behind >= SETTLE_LOOKS {
        return Ok(None);
    }
    // It was there when an earlier release ended: either EC2 is behind, or somebody deleted it since. A subnet or a group need
    // not be waited for: EC2 makes no second one.
    let lost = progress.inherited.iter().find(|(role, id)| {
        matches!(role, Role::Vpc | Role::InternetGateway | Role::PublicRoutes)
            && !progress.made.contains_key(role)
            && !observed.shows(id)
    });
    if let Some((role, id)) = lost {
        return Ok(Some(format!("{id} ({role}) is not shown by EC2")));
    }
    for role in &progress.asked {
        let there = match role {
            Role::Vpc => observed.vpcs.iter().any(|vpc| vpc.ours),
            Role::InternetGateway => !observed.gateways.is_empty(),
            _ => true,
        };
        if !there {
            return Ok(Some(format!("EC2 may have made {role} without its answer coming through")));
        }
    }
    match vpc {
        Some(vpc)
            if desired.place != Place::Default && !observed.shows(vpc) && !progress.made.contains_key(&Role::Vpc) =>
        {
            Ok(Some(format!("{vpc}, where the environment stands, is not shown by EC2")))
        }
        _ => Ok(None),
    }
}

/// The VPC that the environment stands in or will: of several with its tags the one that is remembered, else always the same.
pub fn standing_vpc<'a>(desired: &Desired, observed: &'a Observed) -> Result<Option<&'a Vpc>, Refusal> {
    let Remembered { vpc: last, progress } = &observed.remembered;
    let last = last.as_ref().and_then(|id| observed.vpcs.iter().find(|vpc| vpc.id == *id));
    match desired.place {
        Place::Default => {
            let vpc = observed.vpcs.iter().find(|vpc| vpc.default);
            match last {
                Some(last) if !last.default => Err(Refusal::Moved { stands: last.id.clone() }),
                _ => Ok(vpc),
            }
        }
        Place::Own { .. } => match last {
            Some(last) if last.default => Err(Refusal::Moved { stands: last.id.clone() }),
            Some(last) if !last.ours => Err(Refusal::TagsLost { vpc: last.id.clone() }),
            Some(last) => Ok(Some(last)),
            None => {
                let known = progress.id(Role::Vpc);
                Ok(observed.vpcs.iter().filter(|vpc| vpc.ours).min_by_key(|vpc| (known != Some(&vpc.id), &vpc.id)))
            }
        },
    }
}

/// What carries the environment's tags and is not used, because there is another of its kind: for a person to remove.
pub fn strays(desired: &Desired, observed: &Observed) -> Vec<String> {
    let Ok(Some(vpc)) = standing_vpc(desired, observed) else { return Vec::new() };
    let Place::Own { .. } = desired.place else { return Vec::new() };
    let gateway = gateway(Some(vpc), observed);
    let table = table(observed);
    let vpcs = observed.vpcs.iter().filter(|other| other.ours && other.id != vpc.id).map(|other| &other.id);
    let gateways =
        observed.gateways.iter().map(|other| &other.id).filter(|id| gateway.is_some_and(|used| used.id != **id));
    let tables =
        observed.inside.tables.iter().filter(|other| other.role == Some(Role::PublicRoutes)).map(|other| &other.id);
    let tables = tables.filter(|id| table.is_some_and(|used| used.id != **id));
    vpcs.chain(gateways).chain(tables).cloned().collect()
}

/// The ids of what the network that stands is made of: what the next release must find before it makes any of it again.
pub fn standing_parts(desired: &Desired, observed: &Observed) -> BTreeMap<Role, String> {
    let Ok(Some(vpc)) = standing_vpc(desired, observed) else { return BTreeMap::new() };
    let groups = [Role::LoadBalancerGroup, Role::ServiceGroup].into_iter().filter_map(|role| {
        let group = group(role, desired, observed).ok().flatten()?;
        Some((role, group.id.clone()))
    });
    if desired.place == Place::Default {
        return groups.collect();
    }
    let subnets = observed.inside.subnets.iter().filter_map(|subnet| Some((subnet.role?, subnet.id.clone())));
    let gateway = gateway(Some(vpc), observed).map(|gateway| (Role::InternetGateway, gateway.id.clone()));
    let table = table(observed).map(|table| (Role::PublicRoutes, table.id.clone()));
    groups.chain(subnets).chain(gateway).chain(table).chain([(Role::Vpc, vpc.id.clone())]).collect()
}

/// The internet gateway: the attached one before the remembered one before any other.
fn gateway<'a>(vpc: Option<&Vpc>, observed: &'a Observed) -> Option<&'a Gateway> {
    let known = observed.remembered.progress.id(Role::InternetGateway);
    observed
        .gateways
        .iter()
        .filter(|gateway| gateway.vpc.is_none() || gateway.vpc.as_ref() == vpc.map(|vpc| &vpc.id))
        .min_by_key(|gateway| (gateway.vpc.is_none(), known != Some(&gateway.id), &gateway.id))
}

/// The public route table: the one in use before the remembered one before any other.
fn table(observed: &Observed) -> Option<&RouteTable> {
    let known = observed.remembered.progress.id(Role::PublicRoutes);
    let tables = &observed.inside.tables;
    tables
        .iter()
        .filter(|table| table.role == Some(Role::PublicRoutes))
        .min_by_key(|table| (table.associations.is_empty(), known != Some(&table.id), &table.id))
}

fn group<'a>(role: Role, desired: &Desired, observed: &'a Observed) -> Result<Option<&'a Group>, Refusal> {
    let name = desired.group_name(role);
    let Some(group) = observed.inside.groups.iter().find(|group| group.name == name) else { return Ok(None) };
    if group.role == Some(role) {
        Ok(Some(group))
    } else {
        Err(Refusal::NameTaken { group: group.id.clone(), name, role })
    }
}

/// The zones that services and load balancers can be in, always in the same order.
fn usable_zones(observed: &Observed) -> Vec<&str> {
    let mut zones: Vec<&str> = observed
        .zones
        .iter()
        .filter(|zone| !ZONES_WITHOUT_FARGATE.contains(&zone.id.as_str()))
        .map(|zone| zone.name.as_str())
        .collect();
    zones.sort_unstable();
    zones
}

fn default_subnets<'a>(vpc: &Vpc, observed: &'a Observed) -> Result<Vec<&'a Subnet>, Refusal> {
    let zones = usable_zones(observed);
    let mut subnets: Vec<&Subnet> =
        observed.inside.subnets.iter().filter(|subnet| zones.contains(&subnet.zone.as_str())).collect();
    subnets.sort_by(|a, b| (&a.zone, &a.id).cmp(&(&b.zone, &b.id)));
    subnets.dedup_by(|a, b| a.zone == b.zone);
    if subnets.len() < FEWEST_ZONES {
        return Err(Refusal::TooFewDefaultSubnets { vpc: vpc.id.clone(), available: subnets.len() });
    }
    Ok(subnets)
}

/// A public subnet that should be: the one that is, or where one is to be made.
struct Slot<'a> {
    slot: u8,
    cidr: Cidr,
    zone: String,
    subnet: Option<&'a Subnet>,
}

/// The public subnets that should be. One that is there keeps its zone, whatever zones the region has now.
fn public_slots(cidr: Cidr, zones: u8, observed: &Observed) -> Result<Vec<Slot<'_>>, Refusal> {
    let subnets = &observed.inside.subnets;
    let in_slot = |slot: u8| subnets.iter().find(|subnet| subnet.role == Some(Role::PublicSubnet(slot)));
    let there = subnets.iter().filter_map(|subnet| match subnet.role {
        Some(Role::PublicSubnet(slot)) => Some((slot, subnet)),
        _ => None,
    });
    if let Some((slot, subnet)) = there.max_by_key(|(slot, _)| *slot).filter(|(slot, _)| *slot >= zones) {
        let (subnet, zone) = (subnet.id.clone(), subnet.zone.clone());
        return Err(Refusal::FewerZones { wanted: zones, is: slot + 1, subnet, zone });
    }
    let taken: Vec<&str> = (0..zones).filter_map(in_slot).map(|subnet| subnet.zone.as_str()).collect();
    let usable = usable_zones(observed);
    let mut free = usable.iter().filter(|zone| !taken.contains(zone));
    let mut slots = Vec::new();
    for slot in 0..zones {
        let role = Role::PublicSubnet(slot);
        let range = cidr.subnet(cidr.prefix() + 4, slot.into()).ok_or(Refusal::NoRoom { cidr, role })?;
        let subnet = in_slot(slot);
        let zone = subnet
            .map(|subnet| subnet.zone.as_str())
            .or_else(|| free.next().copied())
            .ok_or_else(|| Refusal::TooFewZones { wanted: zones, available: usable.len(), names: usable.join(", ") })?;
        if subnet.is_none()
            && let Some(other) =
                subnets.iter().find(|other| other.cidr.parse().is_ok_and(|other: Cidr| other.overlaps(range)))
        {
            let (subnet, cidr) = (other.id.clone(), other.cidr.clone());
            return Err(Refusal::RangeTaken { subnet, cidr, wanted: range, role });
        }
        slots.push(Slot { slot, cidr: range, zone: zone.to_owned(), subnet });
    }
    Ok(slots)
}

/// What a VPC of the environment's own still lacks, its security groups aside.
fn plan_own(vpc: &Vpc, gateway: Option<&Gateway>, slots: &[Slot<'_>], observed: &Observed, actions: &mut Vec<Action>) {
    let inside = &observed.inside;
    // Names need queries to be answered: EC2 refuses them the other way round.
    match (inside.dns_support, inside.dns_hostnames) {
        (false, _) => actions.push(Action::EnableDnsSupport { vpc: vpc.id.clone() }),
        (true, false) => actions.push(Action::EnableDnsHostnames { vpc: vpc.id.clone() }),
        (true, true) => {}
    }
    let attached = gateway.filter(|gateway| gateway.vpc.is_some());
    if let (Some(gateway), None) = (gateway, attached) {
        actions.push(Action::AttachInternetGateway { gateway: gateway.id.clone(), vpc: vpc.id.clone() });
    }
    for Slot { slot, cidr, zone, subnet } in slots {
        match subnet {
            None => {
                let (vpc, zone) = (vpc.id.clone(), zone.clone());
                actions.push(Action::CreateSubnet { slot: *slot, vpc, cidr: *cidr, zone });
            }
            Some(subnet) if !subnet.public_addresses => {
                actions.push(Action::GivePublicAddresses { subnet: subnet.id.clone() });
            }
            Some(_) => {}
        }
    }
    let Some(table) = table(observed) else {
        actions.push(Action::CreateRouteTable { vpc: vpc.id.clone() });
        return;
    };
    // EC2 takes a route to an internet gateway only in the VPC that it is attached to.
    if let Some(gateway) = attached {
        let (id, gateway) = (table.id.clone(), gateway.id.clone());
        match &table.default_route {
            None => actions.push(Action::CreateDefaultRoute { table: id, gateway }),
            Some(target) if *target != gateway => actions.push(Action::ReplaceDefaultRoute { table: id, gateway }),
            Some(_) => {}
        }
    }
    for subnet in slots.iter().filter_map(|slot| slot.subnet) {
        let used = inside.tables.iter().find_map(|other| {
            other.associations.iter().find(|association| association.subnet == subnet.id).map(|found| (other, found))
        });
        let (table, subnet) = (table.id.clone(), subnet.id.clone());
        match used {
            None => actions.push(Action::AssociateRouteTable { table, subnet }),
            Some((other, association)) if other.id != table => {
                actions.push(Action::ReplaceAssociation { association: association.id.clone(), table, subnet });
            }
            Some(_) => {}
        }
    }
}

/// What the two security groups still lack, and what they let through that they should not: they are Shipway's, and no rule
/// is left in them that the manifest does not ask for.
fn plan_groups(
    desired: &Desired,
    vpc: &Vpc,
    load_balancers: Option<&Group>,
    services: Option<&Group>,
    actions: &mut Vec<Action>,
) {
    for (role, group) in [(Role::LoadBalancerGroup, load_balancers), (Role::ServiceGroup, services)] {
        if group.is_none() {
            actions.push(Action::CreateGroup { role, name: desired.group_name(role), vpc: vpc.id.clone() });
        }
    }
    let anywhere = || [Peer::Ipv4(ANYWHERE.to_owned()), Peer::Ipv6(ANYWHERE_V6.to_owned())];
    // A rule that names the other group waits for it.
    let through = |peer: Option<&Group>| {
        peer.map(|peer| {
            desired.ports.iter().map(|port| Rule::tcp(*port, Peer::group(&peer.id))).collect::<BTreeSet<_>>()
        })
    };
    if let Some(group) = load_balancers {
        let requests = [80, 443].into_iter().flat_map(|port| anywhere().map(|peer| Rule::tcp(port, peer))).collect();
        plan_rules(group, Direction::Incoming, Some(requests), actions);
        plan_rules(group, Direction::Outgoing, through(services), actions);
    }
    if let Some(group) = services {
        plan_rules(group, Direction::Incoming, through(load_balancers), actions);
        plan_rules(group, Direction::Outgoing, Some(anywhere().map(Rule::everything).into()), actions);
    }
}

fn plan_rules(group: &Group, direction: Direction, wanted: Option<BTreeSet<Rule>>, actions: &mut Vec<Action>) {
    let Some(wanted) = wanted else { return };
    let there = match direction {
        Direction::Incoming => &group.incoming,
        Direction::Outgoing => &group.outgoing,
    };
    let missing: Vec<Rule> = wanted.difference(there).cloned().collect();
    let surplus: Vec<Rule> = there.difference(&wanted).cloned().collect();
    // What takes a rule's place is there before the rule goes, unless nothing can rely on it yet.
    let closes = !surplus.is_empty() && (missing.is_empty() || group.fresh);
    if !missing.is_empty() {
        actions.push(Action::Authorize { group: group.id.clone(), direction, rules: missing });
    }
    if closes {
        actions.push(Action::Revoke { group: group.id.clone(), direction, rules: surplus });
    }
}

impl Observed {
    /// Whether EC2 shows the resource with this id.
    fn shows(&self, id: &str) -> bool {
        self.vpcs.iter().any(|vpc| vpc.id == id)
            || self.gateways.iter().any(|gateway| gateway.id == id)
            || self.inside.subnets.iter().any(|subnet| subnet.id == id)
            || self.inside.tables.iter().any(|table| table.id == id)
            || self.inside.groups.iter().any(|group| group.id == id)
    }

    /// What EC2 would show after it did this, so that what follows from it need not wait for another look. `id` is that of
    /// what was made.
    #[must_use]
    pub fn with(mut self, action: &Action, id: &str) -> Observed {
        let inside = &mut self.inside;
        match action {
            Action::CreateVpc { cidr } => {
                self.vpcs.push(Vpc { id: id.to_owned(), cidr: cidr.to_string(), ours: true, default: false });
                *inside = Inside { dns_support: true, ..Inside::default() };
            }
            Action::EnableDnsSupport { .. } => inside.dns_support = true,
            Action::EnableDnsHostnames { .. } => inside.dns_hostnames = true,
            Action::CreateInternetGateway => self.gateways.push(Gateway { id: id.to_owned(), vpc: None }),
            Action::AttachInternetGateway { gateway, vpc } => {
                for known in self.gateways.iter_mut().filter(|known| known.id == *gateway) {
                    known.vpc = Some(vpc.clone());
                }
            }
            Action::CreateSubnet { slot, cidr, zone, .. } => inside.subnets.push(Subnet {
                id: id.to_owned(),
                role: Some(Role::PublicSubnet(*slot)),
                zone: zone.clone(),
                cidr: cidr.to_string(),
                public_addresses: false,
            }),
            Action::GivePublicAddresses { subnet } => {
                for known in inside.subnets.iter_mut().filter(|known| known.id == *subnet) {
                    known.public_addresses = true;
                }
            }
            Action::CreateRouteTable { .. } => inside.tables.push(RouteTable {
                id: id.to_owned(),
                role: Some(Role::PublicRoutes),
                default_route: None,
                associations: Vec::new(),
            }),
            Action::CreateDefaultRoute { table, gateway } | Action::ReplaceDefaultRoute { table, gateway } => {
                for known in inside.tables.iter_mut().filter(|known| known.id == *table) {
                    known.default_route = Some(gateway.clone());
                }
            }
            Action::AssociateRouteTable { table, subnet } | Action::ReplaceAssociation { table, subnet, .. } => {
                for known in &mut inside.tables {
                    known.associations.retain(|association| association.subnet != *subnet);
                    if known.id == *table {
                        known.associations.push(Association { id: id.to_owned(), subnet: subnet.clone() });
                    }
                }
            }
            // EC2 gives every new group one rule: everything may go out.
            Action::CreateGroup { role, name, .. } => inside.groups.push(Group {
                id: id.to_owned(),
                name: name.clone(),
                role: Some(*role),
                fresh: true,
                incoming: BTreeSet::new(),
                outgoing: BTreeSet::from([Rule::everything(Peer::Ipv4(ANYWHERE.to_owned()))]),
            }),
            Action::Authorize { group, direction, rules } => {
                inside.rules_of(group, *direction).for_each(|known| known.extend(rules.iter().cloned()));
            }
            Action::Revoke { group, direction, rules } => {
                inside.rules_of(group, *direction).for_each(|known| known.retain(|rule| !rules.contains(rule)));
            }
        }
        self
    }
}

impl Inside {
    fn rules_of(&mut self, group: &str, direction: Direction) -> impl Iterator<Item = &mut BTreeSet<Rule>> {
        self.groups.iter_mut().filter(move |known| known.id == group).map(move |known| match direction {
            Direction::Incoming => &mut known.incoming,
            Direction::Outgoing => &mut known.outgoing,
        })
    }
}
