//! The calls of EC2 that make, mend and remove a network, and how they are told.

use super::{Role, Rule};
use crate::manifest::{Cidr, EndpointService};

/// One call of EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "what the fields are is in their names; all but ranges, zones, names and slots are ids")]
pub enum Action {
    /// Make the VPC.
    CreateVpc { cidr: Cidr },
    /// Let the VPC answer DNS queries.
    EnableDnsSupport { vpc: String },
    /// Give what has a public address in the VPC a DNS name.
    EnableDnsHostnames { vpc: String },
    /// Make the internet gateway.
    CreateInternetGateway,
    /// Attach the internet gateway.
    AttachInternetGateway { gateway: String, vpc: String },
    /// Make a subnet.
    CreateSubnet { role: Role, vpc: String, cidr: Cidr, zone: String },
    /// Give what starts in a subnet a public address.
    GivePublicAddresses { subnet: String },
    /// Make a route table.
    CreateRouteTable { role: Role, vpc: String },
    /// Lead what goes elsewhere to a gateway.
    CreateDefaultRoute { table: String, target: Target },
    /// The same, where that route leads to something else.
    ReplaceDefaultRoute { table: String, target: Target },
    /// Lead what goes elsewhere nowhere.
    DeleteDefaultRoute { table: String },
    /// Let a subnet use a route table.
    AssociateRouteTable { table: String, subnet: String },
    /// The same, where the subnet uses another one: `association` is its use of that.
    ReplaceAssociation { association: String, table: String, subnet: String },
    /// Let a subnet no longer use a route table.
    DisassociateRouteTable { association: String, table: String },
    /// Get a public address for a zone's NAT gateway.
    AllocateAddress { slot: u8 },
    /// Make a zone's NAT gateway.
    CreateNatGateway { slot: u8, subnet: String, address: String },
    /// Make the endpoint of an AWS service: an interface where there is a security group, else a gateway.
    CreateEndpoint {
        service: EndpointService,
        vpc: String,
        tables: Vec<String>,
        subnets: Vec<String>,
        group: Option<String>,
    },
    /// Change an endpoint.
    ChangeEndpoint { endpoint: String, change: EndpointChange },
    /// Make a security group.
    CreateGroup { role: Role, name: String, vpc: String },
    /// Let something through a security group.
    Authorize { group: String, direction: Direction, rules: Vec<Rule> },
    /// No longer let something through a security group.
    Revoke { group: String, direction: Direction, rules: Vec<Rule> },
    /// Delete an endpoint. EC2 takes a while for it.
    DeleteEndpoint { endpoint: String },
    /// Delete a NAT gateway. EC2 takes a while for it.
    DeleteNatGateway { gateway: String },
    /// Give an address back.
    ReleaseAddress { address: String },
    /// Delete a subnet.
    DeleteSubnet { subnet: String },
    /// Delete a route table.
    DeleteRouteTable { table: String },
    /// Delete a security group.
    DeleteGroup { group: String },
    /// Detach the internet gateway.
    DetachInternetGateway { gateway: String, vpc: String },
    /// Delete the internet gateway.
    DeleteInternetGateway { gateway: String },
    /// Delete the VPC.
    DeleteVpc { vpc: String },
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the internet gateway with this id.
    InternetGateway(String),
    /// To the NAT gateway with this id.
    NatGateway(String),
}

impl Target {
    /// The gateway's id.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Target::InternetGateway(id) | Target::NatGateway(id) => id,
        }
    }
}

/// What of an endpoint is to be another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointChange {
    /// The route tables that shall lead to it too.
    pub add_tables: Vec<String>,
    /// The subnets that shall have an interface of it too.
    pub add_subnets: Vec<String>,
    /// The subnets that shall have none any more.
    pub remove_subnets: Vec<String>,
    /// The security groups that it lacks.
    pub add_groups: Vec<String>,
    /// The security groups that it should not be in.
    pub remove_groups: Vec<String>,
    /// Whether the service's own name shall lead to it.
    pub private_dns: bool,
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
    #[must_use]
    pub fn makes(&self) -> Option<Role> {
        match self {
            Action::CreateVpc { .. } => Some(Role::Vpc),
            Action::CreateInternetGateway => Some(Role::InternetGateway),
            Action::CreateSubnet { role, .. }
            | Action::CreateRouteTable { role, .. }
            | Action::CreateGroup { role, .. } => Some(role.clone()),
            Action::AllocateAddress { slot } => Some(Role::Address(*slot)),
            Action::CreateNatGateway { slot, .. } => Some(Role::NatGateway(*slot)),
            Action::CreateEndpoint { service, .. } => Some(Role::Endpoint(service.clone())),
            _ => None,
        }
    }

    /// The id of what the action deletes, if it deletes something that [`Action::makes`] could make.
    #[must_use]
    pub fn deletes(&self) -> Option<&str> {
        match self {
            Action::DeleteEndpoint { endpoint: id }
            | Action::DeleteNatGateway { gateway: id }
            | Action::ReleaseAddress { address: id }
            | Action::DeleteSubnet { subnet: id }
            | Action::DeleteRouteTable { table: id }
            | Action::DeleteGroup { group: id }
            | Action::DeleteInternetGateway { gateway: id }
            | Action::DeleteVpc { vpc: id } => Some(id),
            _ => None,
        }
    }

    /// Whether the action is done when EC2 knows nothing of what it is about.
    #[must_use]
    pub fn takes_away(&self) -> bool {
        let loosens = matches!(
            self,
            Action::DisassociateRouteTable { .. }
                | Action::DetachInternetGateway { .. }
                | Action::DeleteDefaultRoute { .. }
        );
        loosens || self.deletes().is_some()
    }

    /// Whether asking twice makes two. EC2 itself refuses a second subnet of the same range and a second group of the same
    /// name; route tables, NAT gateways and endpoints are asked for with a token.
    #[must_use]
    pub fn doubles(&self) -> bool {
        matches!(self, Action::CreateVpc { .. } | Action::CreateInternetGateway | Action::AllocateAddress { .. })
    }

    /// What the action did, for the release's story. `id` is what it made.
    #[must_use]
    pub fn told(&self, id: &str) -> String {
        self.worded(Some(id))
    }

    fn worded(&self, done: Option<&str>) -> String {
        let list = |rules: &[Rule]| rules.iter().map(Rule::to_string).collect::<Vec<_>>().join(", ");
        let way = |direction: &Direction| match direction {
            Direction::Incoming => "in",
            Direction::Outgoing => "out",
        };
        let verb = |now: &'static str, then: &'static str| if done.is_some() { then } else { now };
        let (make, delete) = (verb("make", "made"), verb("delete", "deleted"));
        let (give, lead) = (verb("give", "gave"), verb("lead", "led"));
        // What is not there yet has no id, but what it is for.
        let made = self.makes().map(|role| done.map_or_else(|| role.to_string(), str::to_owned)).unwrap_or_default();
        match self {
            Action::CreateVpc { cidr } => format!("{make} {made} of {cidr}"),
            Action::CreateSubnet { cidr, zone, .. } => format!("{make} {made} of {cidr} in {zone}"),
            Action::CreateNatGateway { subnet, .. } => format!("{make} {made} in {subnet}"),
            Action::CreateEndpoint { service, .. } => format!("{make} {made} for {}", service.as_str()),
            Action::CreateGroup { name, .. } => format!("{make} {made} ({name})"),
            Action::CreateInternetGateway | Action::CreateRouteTable { .. } => format!("{make} {made}"),
            Action::AllocateAddress { .. } => format!("{} {made}", verb("get", "got")),
            Action::EnableDnsSupport { vpc } => format!("{} on DNS in {vpc}", verb("switch", "switched")),
            Action::EnableDnsHostnames { vpc } => format!("{} on DNS names in {vpc}", verb("switch", "switched")),
            Action::GivePublicAddresses { subnet } => {
                format!("{} on public addresses in {subnet}", verb("switch", "switched"))
            }
            Action::AttachInternetGateway { gateway, vpc } => {
                format!("{} {gateway} to {vpc}", verb("attach", "attached"))
            }
            Action::CreateDefaultRoute { table, target } => format!("{lead} {table} to {}", target.id()),
            Action::ReplaceDefaultRoute { table, target } => {
                format!("{lead} {table} to {} in place of something else", target.id())
            }
            Action::DeleteDefaultRoute { table } => format!("{} the way out of {table}", verb("close", "closed")),
            Action::AssociateRouteTable { table, subnet } => format!("{give} {subnet} the routes of {table}"),
            Action::ReplaceAssociation { table, subnet, .. } => format!("{give} {subnet} back the routes of {table}"),
            Action::DisassociateRouteTable { association, table } => {
                format!("{} {association} from {table}", verb("loosen", "loosened"))
            }
            Action::ChangeEndpoint { endpoint, change } => {
                format!("{} {endpoint}: {}", verb("change", "changed"), change.worded())
            }
            Action::Authorize { group, direction, rules } => {
                format!("{} {group}, {}: {}", verb("open", "opened"), way(direction), list(rules))
            }
            Action::Revoke { group, direction, rules } => {
                format!("{} {group}, {}: {}", verb("close", "closed"), way(direction), list(rules))
            }
            Action::ReleaseAddress { address } => format!("{give} back {address}"),
            Action::DetachInternetGateway { gateway, vpc } => {
                format!("{} {gateway} from {vpc}", verb("detach", "detached"))
            }
            Action::DeleteEndpoint { endpoint: id }
            | Action::DeleteNatGateway { gateway: id }
            | Action::DeleteSubnet { subnet: id }
            | Action::DeleteRouteTable { table: id }
            | Action::DeleteGroup { group: id }
            | Action::DeleteInternetGateway { gateway: id }
            | Action::DeleteVpc { vpc: id } => format!("{delete} {id}"),
        }
    }
}

/// What the action would do.
impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.worded(None))
    }
}

impl EndpointChange {
    /// Whether nothing is to be another.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == EndpointChange::default()
    }

    fn worded(&self) -> String {
        let EndpointChange { add_tables, add_subnets, remove_subnets, add_groups, remove_groups, private_dns } = self;
        let added = add_tables.iter().chain(add_subnets).chain(add_groups).map(|id| format!("with {id}"));
        let removed = remove_subnets.iter().chain(remove_groups).map(|id| format!("without {id}"));
        let named = private_dns.then(|| "with the service's own name".to_owned());
        added.chain(removed).chain(named).collect::<Vec<_>>().join(", ")
    }
}
