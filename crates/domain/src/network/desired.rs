//! What an environment's network should be.

use std::collections::{BTreeMap, BTreeSet};

use super::{Owner, Role, Tier};
use crate::{
    manifest::{Admitted, Cidr, EndpointService, GivenVpc, Nat, Networking, Spec},
    name::{AppName, EnvironmentName},
};

const DEFAULT_ZONES: u8 = 2;
const POSTGRES: u16 = 5432;
const REDIS: u16 = 6379;
const HTTP: u16 = 80;
const HTTPS: u16 = 443;
const SSH: u16 = 22;

/// Where ECS finds a free port on an instance for a task that has none of its own.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_PortMapping.html>
const FREE_PORTS: (u16, u16) = (32768, 65535);

/// What an environment's network should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Whose it is.
    pub owner: Owner,
    /// Which VPC it stands in.
    pub place: Place,
    /// Its security groups, and what they let through.
    pub groups: BTreeMap<Role, Openings>,
    /// Those of them that only the manifest before asks for: what is in them goes later in the same release.
    pub leaving: BTreeSet<Role>,
}

/// Which VPC an environment stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// One of its own.
    Own(OwnVpc),
    /// The account's default VPC.
    Default,
    /// One that is there.
    Given {
        /// The VPC.
        vpc: String,
        /// Its subnets, by tier.
        subnets: BTreeMap<Tier, Vec<String>>,
    },
}

/// A VPC of the environment's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnVpc {
    /// Its range.
    pub cidr: Cidr,
    /// How many zones its subnets are in.
    pub zones: u8,
    /// How its private subnets reach the internet, if it has any.
    pub nat: Nat,
    /// Whether it has isolated subnets.
    pub isolated: bool,
    /// The endpoints of AWS's services in it.
    pub endpoints: BTreeSet<EndpointService>,
}

/// What a security group lets through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Openings {
    /// Into it.
    pub incoming: BTreeSet<Opening>,
    /// Out of it.
    pub outgoing: BTreeSet<Opening>,
}

/// Something that a security group lets through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opening {
    /// The first and the last TCP port, or nothing for all traffic.
    pub ports: Option<(u16, u16)>,
    /// The other end.
    pub party: Party,
}

/// The other end of what a security group lets through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// Anybody.
    Anyone,
    /// Addresses.
    Range(String),
    /// CloudFront, by AWS's list of its addresses.
    CloudFront,
    /// What is in another security group of the environment.
    Group(Role),
}

impl Desired {
    /// What a manifest asks for. What only the manifest before lets through between its own parts stays open, until they were
    /// rolled out anew; who comes in from outside is the new manifest's to say.
    pub fn of(app: &AppName, environment: &EnvironmentName, planned: &Spec, applied: Option<&Spec>) -> Desired {
        let mut groups = groups_of(planned);
        let mut leaving = BTreeSet::new();
        for (role, before) in applied.map(groups_of).unwrap_or_default() {
            match groups.get_mut(&role) {
                Some(now) => {
                    let between = |opening: &Opening| matches!(opening.party, Party::Group(_));
                    now.incoming.extend(before.incoming.into_iter().filter(between));
                    now.outgoing.extend(before.outgoing.into_iter().filter(between));
                }
                None => {
                    leaving.insert(role.clone());
                    groups.insert(role, before);
                }
            }
        }
        let owner = Owner { app: app.clone(), environment: environment.clone() };
        Desired { owner, place: Place::of(planned), groups, leaving }
    }

    /// Whether something is let through for CloudFront alone.
    #[must_use]
    pub fn names_cloudfront(&self) -> bool {
        let openings = self.groups.values().flat_map(|group| group.incoming.iter().chain(&group.outgoing));
        openings.into_iter().any(|opening| opening.party == Party::CloudFront)
    }

    /// Whether the VPC is the environment's own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(self.place, Place::Own(_))
    }
}

impl Place {
    fn of(spec: &Spec) -> Place {
        let network = &spec.network;
        match &network.vpc {
            Some(GivenVpc::Default) => Place::Default,
            Some(GivenVpc::Id(vpc)) => {
                let given = network.subnets.as_ref();
                let ids = |tier: Tier| {
                    let ids = given.map(|given| match tier {
                        Tier::Public => &given.public,
                        Tier::Private => &given.private,
                        Tier::Isolated => &given.isolated,
                    });
                    ids.into_iter().flatten().map(|id| id.as_str().to_owned()).collect()
                };
                Place::Given { vpc: vpc.clone(), subnets: Tier::ALL.map(|tier| (tier, ids(tier))).into() }
            }
            None => Place::Own(OwnVpc {
                cidr: network.cidr.unwrap_or(Cidr::DEFAULT),
                zones: network.azs.unwrap_or(DEFAULT_ZONES),
                nat: network.nat,
                isolated: holds_data(spec) && network.isolated != Some(false),
                endpoints: network.endpoints.iter().cloned().collect(),
            }),
        }
    }
}

fn holds_data(spec: &Spec) -> bool {
    !spec.databases.is_empty() || !spec.caches.is_empty()
}

/// The security groups that one manifest asks for.
fn groups_of(spec: &Spec) -> BTreeMap<Role, Openings> {
    let one = |port: u16| Some((port, port));
    let from = |ports: Option<(u16, u16)>, role: &Role| Opening { ports, party: Party::Group(role.clone()) };
    let everything = || BTreeSet::from([Opening { ports: None, party: Party::Anyone }]);
    let ec2 = spec.cluster.ec2.as_ref();
    let shared = ec2.is_some_and(|ec2| ec2.networking == Networking::Bridge);

    let mut load_balancers = Openings { incoming: requests(spec), ..Openings::default() };
    let mut services = Openings { outgoing: everything(), ..Openings::default() };
    let mut instances = Openings { outgoing: everything(), ..Openings::default() };
    for service in spec.services.values() {
        let Some(port) = service.port else { continue };
        if service.discovery {
            services.incoming.insert(from(one(port), &Role::ServiceGroup));
        }
        if service.http.is_none() {
            continue;
        }
        let (ports, group, behind) = if shared {
            (service.host_port.map_or(Some(FREE_PORTS), one), Role::InstanceGroup, &mut instances)
        } else {
            (one(port), Role::ServiceGroup, &mut services)
        };
        behind.incoming.insert(from(ports, &Role::LoadBalancerGroup));
        load_balancers.outgoing.insert(from(ports, &group));
    }
    if let Some(ec2) = ec2.filter(|ec2| ec2.key_pair.is_some()) {
        let ssh = |range: &Cidr| Opening { ports: one(SSH), party: Party::Range(range.to_string()) };
        instances.incoming.extend(ec2.ssh_from.iter().map(ssh));
    }

    let users = [Some(Role::ServiceGroup), ec2.map(|_| Role::InstanceGroup)];
    let serving = |port: u16| {
        let incoming = users.iter().flatten().map(|user| from(one(port), user)).collect();
        Openings { incoming, ..Openings::default() }
    };
    let mut groups = BTreeMap::from([(Role::LoadBalancerGroup, load_balancers), (Role::ServiceGroup, services)]);
    if ec2.is_some() {
        groups.insert(Role::InstanceGroup, instances);
    }
    if !spec.databases.is_empty() {
        groups.insert(Role::DatabaseGroup, serving(POSTGRES));
    }
    if !spec.caches.is_empty() {
        groups.insert(Role::CacheGroup, serving(REDIS));
    }
    if spec.network.vpc.is_none() && spec.network.endpoints.iter().any(|endpoint| !endpoint.is_gateway()) {
        groups.insert(Role::EndpointGroup, serving(HTTPS));
    }
    groups
}

/// What comes to the load balancer from outside.
fn requests(spec: &Spec) -> BTreeSet<Opening> {
    let secure = spec.domain.is_some();
    match spec.load_balancer.from {
        Admitted::Internet => {
            let ports = [Some(HTTP), secure.then_some(HTTPS)].into_iter().flatten();
            ports.map(|port| Opening { ports: Some((port, port)), party: Party::Anyone }).collect()
        }
        // CloudFront's list counts as 55 of the 60 rules that a group has by default, so there is room for one rule with it.
        // https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/LocationsOfEdgeServers.html
        Admitted::Cloudfront => {
            let ports = Some((HTTP, if secure { HTTPS } else { HTTP }));
            BTreeSet::from([Opening { ports, party: Party::CloudFront }])
        }
    }
}
