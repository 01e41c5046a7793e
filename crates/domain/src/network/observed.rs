//! What EC2 shows of a network, what is remembered of making it, and what each action changes in that.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Action, Direction, Role, SETTLE_LOOKS};
use crate::name::ReleaseId;

const ANYWHERE: &str = "0.0.0.0/0";
const ANYWHERE_V6: &str = "::/0";

/// What EC2 shows of the network, and what is remembered of making it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The region's availability zones that are in service.
    pub zones: Vec<Zone>,
    /// The VPCs that carry this environment's tags, the default or given one where that is wanted, and the one it stood in
    /// last.
    pub vpcs: Vec<Vpc>,
    /// The internet gateways that carry this environment's tags.
    pub gateways: Vec<Gateway>,
    /// The public addresses that carry this environment's tags.
    pub addresses: Vec<Address>,
    /// The list of CloudFront's addresses, where it is asked for.
    pub cloudfront: Option<String>,
    /// What is in the VPC that [`standing_vpc`](super::standing_vpc) names; when the network is removed, what carries this
    /// environment's tags in any VPC.
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

/// A public address with this environment's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub role: Role,
    /// Whether something has it.
    pub taken: bool,
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
    /// All route tables. Only looked at in a VPC of the environment's own.
    pub tables: Vec<RouteTable>,
    /// The NAT gateways with this environment's tags.
    pub nat_gateways: Vec<NatGateway>,
    /// The endpoints with this environment's tags.
    pub endpoints: Vec<Endpoint>,
    /// The network interfaces. Only looked at in a VPC of the environment's own that stands.
    pub interfaces: Vec<Interface>,
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

/// How far EC2 is with something that it makes or deletes in its own time. What it has deleted is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is being made.
    Pending,
    /// It serves.
    Available,
    /// It could not be made, and why.
    Failed(String),
    /// It is being deleted.
    Deleting,
}

/// A NAT gateway with this environment's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatGateway {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub role: Role,
    /// The subnet it is in.
    pub subnet: String,
    /// Its public address.
    pub address: Option<String>,
    /// How far EC2 is with it.
    pub stage: Stage,
    /// Its interfaces.
    pub interfaces: Vec<String>,
}

/// An endpoint of an AWS service with this environment's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub role: Role,
    /// How far EC2 is with it.
    pub stage: Stage,
    /// The route tables that lead to it, where it is a gateway.
    pub tables: BTreeSet<String>,
    /// The subnets that have an interface of it.
    pub subnets: BTreeSet<String>,
    /// The security groups of its interfaces.
    pub groups: BTreeSet<String>,
    /// Whether the service's own name leads to it.
    pub private_dns: bool,
    /// Its interfaces.
    pub interfaces: Vec<String>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its id.
    pub id: String,
    /// The subnet it is in.
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
    /// TCP on these ports, or all traffic where there are none.
    pub(super) fn tcp(ports: Option<(u16, u16)>, peer: Peer) -> Rule {
        let protocol = if ports.is_some() { "tcp" } else { "-1" };
        Rule { protocol: protocol.to_owned(), ports: ports.map(|(first, last)| (first.into(), last.into())), peer }
    }

    /// Whether the other end is this security group.
    pub(super) fn names(&self, group: &str) -> bool {
        matches!(&self.peer, Peer::Group { id, .. } if id == group)
    }
}

impl Peer {
    pub(super) fn group(id: &str) -> Peer {
        Peer::Group { id: id.to_owned(), account: None }
    }

    pub(super) fn anyone() -> [Peer; 2] {
        [Peer::Ipv4(ANYWHERE.to_owned()), Peer::Ipv6(ANYWHERE_V6.to_owned())]
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
    /// How many looks in a row found nothing but work of EC2's own under way, or something in the way.
    #[serde(default)]
    pub waited: u32,
}

impl Progress {
    /// The name under which an environment keeps it.
    pub const NAME: &str = "network";

    /// The progress as this release goes on with it.
    #[must_use]
    pub fn taken_over_by(mut self, release: &ReleaseId) -> Progress {
        if self.release.as_ref() != Some(release) {
            self = self.taken_over();
            self.release = Some(release.clone());
        }
        self
    }

    /// The progress as a release that is still to begin would go on with it.
    #[must_use]
    pub fn taken_over(mut self) -> Progress {
        self.release = None;
        self.inherited.append(&mut self.made);
        (self.behind, self.waited) = (0, 0);
        self
    }

    /// The progress as a release would go on with it that looked often enough to believe what EC2 shows.
    #[must_use]
    pub fn doubted(self) -> Progress {
        Progress { behind: SETTLE_LOOKS, ..self.taken_over() }
    }

    /// Takes in that EC2 did this; `id` is that of what was made.
    pub fn record(&mut self, action: &Action, id: &str) {
        (self.behind, self.waited) = (0, 0);
        if let Some(role) = action.makes() {
            self.asked.remove(&role);
            self.made.insert(role, id.to_owned());
        }
        self.forget(action);
    }

    fn forget(&mut self, action: &Action) {
        if let Some(gone) = action.deletes() {
            self.made.retain(|_, known| known != gone);
            self.inherited.retain(|_, known| known != gone);
        }
    }

    pub(super) fn id(&self, role: &Role) -> Option<&String> {
        self.made.get(role).or_else(|| self.inherited.get(role))
    }
}

impl Observed {
    /// Whether EC2 shows the resource with this id.
    pub(super) fn shows(&self, id: &str) -> bool {
        let inside = &self.inside;
        self.vpcs.iter().any(|vpc| vpc.id == id)
            || self.gateways.iter().any(|gateway| gateway.id == id)
            || self.addresses.iter().any(|address| address.id == id)
            || inside.subnets.iter().any(|subnet| subnet.id == id)
            || inside.tables.iter().any(|table| table.id == id)
            || inside.nat_gateways.iter().any(|gateway| gateway.id == id)
            || inside.endpoints.iter().any(|endpoint| endpoint.id == id)
            || inside.groups.iter().any(|group| group.id == id)
    }

    /// Whether EC2 shows something that is for this.
    pub(super) fn shows_one(&self, role: &Role) -> bool {
        let inside = &self.inside;
        match role {
            Role::Vpc => self.vpcs.iter().any(|vpc| vpc.ours),
            Role::InternetGateway => !self.gateways.is_empty(),
            Role::Address(_) => self.addresses.iter().any(|known| known.role == *role),
            Role::NatGateway(_) => inside.nat_gateways.iter().any(|known| known.role == *role),
            Role::Endpoint(_) => inside.endpoints.iter().any(|known| known.role == *role),
            Role::Subnet(..) => inside.subnets.iter().any(|known| known.role.as_ref() == Some(role)),
            Role::PublicRoutes | Role::PrivateRoutes(_) | Role::IsolatedRoutes => {
                inside.tables.iter().any(|known| known.role.as_ref() == Some(role))
            }
            Role::LoadBalancerGroup
            | Role::ServiceGroup
            | Role::InstanceGroup
            | Role::DatabaseGroup
            | Role::CacheGroup
            | Role::EndpointGroup => inside.groups.iter().any(|known| known.role.as_ref() == Some(role)),
        }
    }

    /// What EC2 would show after it did this, so that what follows from it need not wait for another look. `id` is that of
    /// what was made.
    #[must_use]
    pub fn with(mut self, action: &Action, id: &str) -> Observed {
        let id = id.to_owned();
        self.remembered.progress.forget(action);
        let inside = &mut self.inside;
        match action {
            Action::CreateVpc { cidr } => {
                self.vpcs.push(Vpc { id, cidr: cidr.to_string(), ours: true, default: false });
                *inside = Inside { dns_support: true, ..Inside::default() };
            }
            Action::EnableDnsSupport { .. } => inside.dns_support = true,
            Action::EnableDnsHostnames { .. } => inside.dns_hostnames = true,
            Action::CreateInternetGateway => self.gateways.push(Gateway { id, vpc: None }),
            Action::AttachInternetGateway { gateway, vpc } => {
                let known = self.gateways.iter_mut().filter(|known| known.id == *gateway);
                known.for_each(|known| known.vpc = Some(vpc.clone()));
            }
            Action::DetachInternetGateway { gateway, .. } => {
                self.gateways.iter_mut().filter(|known| known.id == *gateway).for_each(|known| known.vpc = None);
            }
            Action::DeleteInternetGateway { gateway } => self.gateways.retain(|known| known.id != *gateway),
            Action::DeleteVpc { vpc } => self.vpcs.retain(|known| known.id != *vpc),
            Action::AllocateAddress { slot } => {
                self.addresses.push(Address { id, role: Role::Address(*slot), taken: false });
            }
            Action::ReleaseAddress { address } => self.addresses.retain(|known| known.id != *address),
            Action::CreateNatGateway { slot, subnet, address } => {
                for known in self.addresses.iter_mut().filter(|known| known.id == *address) {
                    known.taken = true;
                }
                inside.nat_gateways.push(NatGateway {
                    id,
                    role: Role::NatGateway(*slot),
                    subnet: subnet.clone(),
                    address: Some(address.clone()),
                    stage: Stage::Pending,
                    interfaces: Vec::new(),
                });
            }
            _ => inside.change(action, id),
        }
        self
    }

    /// What EC2 would show once it has finished what it is at.
    #[must_use]
    pub fn settled(mut self) -> Observed {
        let inside = &mut self.inside;
        let gone: Vec<NatGateway> =
            inside.nat_gateways.extract_if(.., |known| known.stage == Stage::Deleting).collect();
        for address in &mut self.addresses {
            address.taken &= !gone.iter().any(|gateway| gateway.address.as_ref() == Some(&address.id));
        }
        inside.endpoints.retain(|known| known.stage != Stage::Deleting);
        let nat_gateways = inside.nat_gateways.iter_mut().map(|known| &mut known.stage);
        for stage in nat_gateways.chain(inside.endpoints.iter_mut().map(|known| &mut known.stage)) {
            if *stage == Stage::Pending {
                *stage = Stage::Available;
            }
        }
        self
    }
}

impl Stage {
    /// Whether it serves or is about to.
    pub(super) fn lives(&self) -> bool {
        matches!(self, Stage::Pending | Stage::Available)
    }
}

impl Inside {
    fn change(&mut self, action: &Action, id: String) {
        match action {
            Action::CreateSubnet { role, cidr, zone, .. } => self.subnets.push(Subnet {
                id,
                role: Some(role.clone()),
                zone: zone.clone(),
                cidr: cidr.to_string(),
                public_addresses: false,
            }),
            Action::GivePublicAddresses { subnet } => {
                let known = self.subnets.iter_mut().filter(|known| known.id == *subnet);
                known.for_each(|known| known.public_addresses = true);
            }
            Action::DeleteSubnet { subnet } => {
                self.subnets.retain(|known| known.id != *subnet);
                self.dissociate(|association| association.subnet == *subnet);
            }
            Action::CreateRouteTable { role, .. } => self.tables.push(RouteTable {
                id,
                role: Some(role.clone()),
                default_route: None,
                associations: Vec::new(),
            }),
            Action::CreateDefaultRoute { table, target } | Action::ReplaceDefaultRoute { table, target } => {
                let known = self.tables.iter_mut().filter(|known| known.id == *table);
                known.for_each(|known| known.default_route = Some(target.id().to_owned()));
            }
            Action::DeleteDefaultRoute { table } => {
                let known = self.tables.iter_mut().filter(|known| known.id == *table);
                known.for_each(|known| known.default_route = None);
            }
            Action::DeleteRouteTable { table } => {
                self.tables.retain(|known| known.id != *table);
                self.endpoints.iter_mut().for_each(|known| known.tables.retain(|id| id != table));
            }
            Action::AssociateRouteTable { table, subnet } | Action::ReplaceAssociation { table, subnet, .. } => {
                self.dissociate(|association| association.subnet == *subnet);
                if let Some(known) = self.tables.iter_mut().find(|known| known.id == *table) {
                    known.associations.push(Association { id, subnet: subnet.clone() });
                }
            }
            Action::DisassociateRouteTable { association, .. } => self.dissociate(|known| known.id == *association),
            Action::DeleteNatGateway { gateway } => {
                let known = self.nat_gateways.iter_mut().filter(|known| known.id == *gateway);
                known.for_each(|known| known.stage = Stage::Deleting);
            }
            Action::CreateEndpoint { service, tables, subnets, group, .. } => self.endpoints.push(Endpoint {
                id,
                role: Role::Endpoint(service.clone()),
                stage: if group.is_some() { Stage::Pending } else { Stage::Available },
                tables: tables.iter().cloned().collect(),
                subnets: subnets.iter().cloned().collect(),
                groups: group.iter().cloned().collect(),
                private_dns: group.is_some(),
                interfaces: Vec::new(),
            }),
            Action::ChangeEndpoint { endpoint, change } => {
                for known in self.endpoints.iter_mut().filter(|known| known.id == *endpoint) {
                    known.tables.extend(change.add_tables.iter().cloned());
                    known.subnets.extend(change.add_subnets.iter().cloned());
                    known.subnets.retain(|subnet| !change.remove_subnets.contains(subnet));
                    known.groups.extend(change.add_groups.iter().cloned());
                    known.groups.retain(|group| !change.remove_groups.contains(group));
                    known.private_dns |= change.private_dns;
                }
            }
            // A gateway is gone at once, interfaces are not.
            Action::DeleteEndpoint { endpoint } => {
                self.endpoints.retain(|known| known.id != *endpoint || !known.subnets.is_empty());
                let known = self.endpoints.iter_mut().filter(|known| known.id == *endpoint);
                known.for_each(|known| known.stage = Stage::Deleting);
            }
            // EC2 gives every new group one rule: everything may go out.
            Action::CreateGroup { role, name, .. } => self.groups.push(Group {
                id,
                name: name.clone(),
                role: Some(role.clone()),
                fresh: true,
                incoming: BTreeSet::new(),
                outgoing: BTreeSet::from([Rule::tcp(None, Peer::Ipv4(ANYWHERE.to_owned()))]),
            }),
            Action::Authorize { group, direction, rules } => {
                self.rules_of(group, *direction).for_each(|known| known.extend(rules.iter().cloned()));
            }
            Action::Revoke { group, direction, rules } => {
                self.rules_of(group, *direction).for_each(|known| known.retain(|rule| !rules.contains(rule)));
            }
            Action::DeleteGroup { group } => self.groups.retain(|known| known.id != *group),
            _ => {}
        }
    }

    fn dissociate(&mut self, gone: impl Fn(&Association) -> bool) {
        self.tables.iter_mut().for_each(|known| known.associations.retain(|association| !gone(association)));
    }

    fn rules_of(&mut self, group: &str, direction: Direction) -> impl Iterator<Item = &mut BTreeSet<Rule>> {
        self.groups.iter_mut().filter(move |known| known.id == group).map(move |known| match direction {
            Direction::Incoming => &mut known.incoming,
            Direction::Outgoing => &mut known.outgoing,
        })
    }

    /// The interfaces in a subnet that are not of our own NAT gateways and endpoints.
    pub(super) fn foreign_interfaces(&self, subnet: &str) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().filter(move |interface| {
            let gateways = self.nat_gateways.iter().flat_map(|known| &known.interfaces);
            let mut ours = gateways.chain(self.endpoints.iter().flat_map(|known| &known.interfaces));
            interface.subnet == subnet && !ours.any(|id| *id == interface.id)
        })
    }
}
