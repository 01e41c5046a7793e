//! A VPC of the environment's own: which subnets, gateways, routes and endpoints should be in it, and what of that is missing or
//! too much.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Action, Desired, EndpointChange, Gateway, Inside, NatGateway, Observed, OwnVpc, Refusal, Role, RouteTable, Stage,
    Subnet, Target, Tier, Vpc,
    adopted::usable_zones,
    plan::Work,
    standing::{address_for, endpoint, gateway, group, nat_gateway, table},
};
use crate::manifest::{Cidr, Nat};

/// A subnet that should be: the one that is, or where one is to be made.
struct Plot<'a> {
    tier: Tier,
    slot: u8,
    cidr: Cidr,
    zone: String,
    subnet: Option<&'a Subnet>,
}

/// What a VPC of the environment's own should hold: what is asked for, and the tiers that are still in use.
pub(super) struct Layout<'a> {
    own: OwnVpc,
    plots: Vec<Plot<'a>>,
}

impl<'a> Layout<'a> {
    /// One that is there keeps its zone, whatever zones the region has now.
    pub(super) fn of(asked: &OwnVpc, observed: &'a Observed) -> Result<Layout<'a>, Refusal> {
        let own = still_needed(asked, &observed.inside);
        let subnets = &observed.inside.subnets;
        let ours = || {
            subnets.iter().filter_map(|subnet| match subnet.role {
                Some(Role::Subnet(tier, slot)) => Some((tier, slot, subnet)),
                _ => None,
            })
        };
        for (_, slot, subnet) in ours().filter(|(_, slot, _)| *slot >= own.zones) {
            if let Some(interface) = observed.inside.foreign_interfaces(&subnet.id).next() {
                let (subnet, zone, interface) = (subnet.id.clone(), subnet.zone.clone(), interface.id.clone());
                return Err(Refusal::FewerZones { wanted: own.zones, is: slot + 1, subnet, zone, interface });
            }
        }
        let zone_of = |slot: u8| ours().find(|(_, known, _)| *known == slot).map(|(.., subnet)| subnet.zone.as_str());
        let taken: Vec<&str> = (0..own.zones).filter_map(zone_of).collect();
        let usable = usable_zones(observed);
        let mut free = usable.iter().filter(|zone| !taken.contains(zone));
        let mut plots = Vec::new();
        for slot in 0..own.zones {
            let zone = zone_of(slot).or_else(|| free.next().copied()).ok_or_else(|| Refusal::TooFewZones {
                wanted: own.zones,
                available: usable.len(),
                names: usable.join(", "),
            })?;
            for tier in own.tiers() {
                let role = Role::Subnet(tier, slot);
                let index = tier.first_range() + u32::from(slot);
                let cidr = own.cidr.subnet(own.cidr.prefix() + 4, index);
                let cidr = cidr.ok_or_else(|| Refusal::NoRoom { cidr: own.cidr, role: role.clone() })?;
                let subnet = subnets.iter().find(|subnet| subnet.role.as_ref() == Some(&role));
                let lies_in = |other: &&Subnet| other.cidr.parse().is_ok_and(|other: Cidr| other.overlaps(cidr));
                if subnet.is_none()
                    && let Some(other) = subnets.iter().find(lies_in)
                {
                    let (subnet, is) = (other.id.clone(), other.cidr.clone());
                    return Err(Refusal::RangeTaken { subnet, cidr: is, wanted: cidr, role });
                }
                plots.push(Plot { tier, slot, cidr, zone: zone.to_owned(), subnet });
            }
        }
        Ok(Layout { own, plots })
    }

    fn subnet(&self, tier: Tier, slot: u8) -> Option<&'a Subnet> {
        let plot = self.plots.iter().find(|plot| (plot.tier, plot.slot) == (tier, slot));
        plot.and_then(|plot| plot.subnet)
    }

    /// The subnets that the manifest asks for, by tier, in the zones' order.
    pub(super) fn asked_for(&self, asked: &OwnVpc) -> BTreeMap<Tier, Vec<String>> {
        let mut plots: Vec<_> = self.plots.iter().filter(|plot| asked.tiers().any(|tier| tier == plot.tier)).collect();
        plots.sort_by(|a, b| (a.tier, &a.zone).cmp(&(b.tier, &b.zone)));
        let mut subnets: BTreeMap<Tier, Vec<String>> = BTreeMap::new();
        for plot in plots {
            subnets.entry(plot.tier).or_default().extend(plot.subnet.map(|subnet| subnet.id.clone()));
        }
        subnets
    }

    /// The zones that have a NAT gateway.
    fn nat_slots(&self) -> std::ops::Range<u8> {
        match self.own.nat {
            Nat::None => 0..0,
            Nat::Single => 0..1,
            Nat::PerAz => 0..self.own.zones,
        }
    }

    /// The zone whose NAT gateway a zone's private subnet uses.
    fn nat_of(&self, slot: u8) -> u8 {
        if self.own.nat == Nat::Single { 0 } else { slot }
    }

    /// The route table of a subnet.
    fn table_of(&self, tier: Tier, slot: u8) -> Role {
        match tier {
            Tier::Public => Role::PublicRoutes,
            Tier::Private => Role::PrivateRoutes(slot),
            Tier::Isolated => Role::IsolatedRoutes,
        }
    }

    fn tables(&self) -> BTreeSet<Role> {
        self.plots.iter().map(|plot| self.table_of(plot.tier, plot.slot)).collect()
    }

    /// An address needs no VPC.
    pub(super) fn plan_addresses(&self, observed: &Observed, work: &mut Work) {
        for slot in self.nat_slots() {
            let waits_for_one = nat_gateway(&Role::NatGateway(slot), observed).is_none();
            if waits_for_one && address_for(&Role::Address(slot), observed).is_none() {
                work.act(Action::AllocateAddress { slot });
            }
        }
    }

    /// What the VPC still lacks and has too much, its security groups aside.
    pub(super) fn plan(
        &self,
        vpc: &Vpc,
        desired: &Desired,
        observed: &Observed,
        work: &mut Work,
    ) -> Result<(), Refusal> {
        let inside = &observed.inside;
        // Names need queries to be answered: EC2 refuses them the other way round.
        match (inside.dns_support, inside.dns_hostnames) {
            (false, _) => work.act(Action::EnableDnsSupport { vpc: vpc.id.clone() }),
            (true, false) => work.act(Action::EnableDnsHostnames { vpc: vpc.id.clone() }),
            (true, true) => {}
        }
        let gateway = gateway(Some(vpc), observed);
        let attached = gateway.filter(|gateway| gateway.vpc.is_some());
        if let (Some(gateway), None) = (gateway, attached) {
            work.act(Action::AttachInternetGateway { gateway: gateway.id.clone(), vpc: vpc.id.clone() });
        }
        self.plan_subnets(vpc, work);
        self.plan_nat_gateways(attached, observed, work)?;
        self.plan_routes(vpc, attached, observed, work);
        self.plan_endpoints(vpc, desired, observed, work)?;
        self.plan_surplus(observed, work);
        Ok(())
    }

    fn plan_subnets(&self, vpc: &Vpc, work: &mut Work) {
        for Plot { tier, slot, cidr, zone, subnet } in &self.plots {
            match subnet {
                None => {
                    let (role, vpc, zone) = (Role::Subnet(*tier, *slot), vpc.id.clone(), zone.clone());
                    work.act(Action::CreateSubnet { role, vpc, cidr: *cidr, zone });
                }
                Some(subnet) if *tier == Tier::Public && !subnet.public_addresses => {
                    work.act(Action::GivePublicAddresses { subnet: subnet.id.clone() });
                }
                Some(_) => {}
            }
        }
    }

    /// A NAT gateway needs its subnet, its address, and a VPC with an internet gateway: without that it fails.
    /// <https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html>
    fn plan_nat_gateways(
        &self,
        attached: Option<&Gateway>,
        observed: &Observed,
        work: &mut Work,
    ) -> Result<(), Refusal> {
        for slot in self.nat_slots() {
            let role = Role::NatGateway(slot);
            match nat_gateway(&role, observed) {
                Some(gateway) if gateway.stage == Stage::Available => continue,
                Some(gateway) => {
                    work.wait("made", &gateway.id);
                    continue;
                }
                None => {}
            }
            for known in observed.inside.nat_gateways.iter().filter(|known| known.role == role) {
                refuse_failed(&role, &known.id, &known.stage, observed)?;
            }
            let Some(address) = address_for(&Role::Address(slot), observed) else { continue };
            // The one before still has it.
            let holds = |known: &&NatGateway| known.address.as_ref() == Some(&address.id);
            if let Some(before) = observed.inside.nat_gateways.iter().filter(|_| address.taken).find(holds) {
                if before.stage == Stage::Deleting {
                    work.wait("deleted", &before.id);
                }
                continue;
            }
            if let (Some(subnet), Some(_)) = (self.subnet(Tier::Public, slot), attached) {
                let (subnet, address) = (subnet.id.clone(), address.id.clone());
                work.act(Action::CreateNatGateway { slot, subnet, address });
            }
        }
        Ok(())
    }

    fn plan_routes(&self, vpc: &Vpc, attached: Option<&Gateway>, observed: &Observed, work: &mut Work) {
        for role in self.tables() {
            let Some(table) = table(&role, observed) else {
                work.act(Action::CreateRouteTable { role, vpc: vpc.id.clone() });
                continue;
            };
            // EC2 takes a route to a gateway only once that is attached, or serves.
            let target = match &role {
                Role::PublicRoutes => attached.map(|gateway| Target::InternetGateway(gateway.id.clone())),
                Role::PrivateRoutes(slot) => nat_gateway(&Role::NatGateway(self.nat_of(*slot)), observed)
                    .filter(|gateway| gateway.stage == Stage::Available)
                    .map(|gateway| Target::NatGateway(gateway.id.clone())),
                _ => None,
            };
            let id = table.id.clone();
            match (&table.default_route, target) {
                (None, Some(target)) => work.act(Action::CreateDefaultRoute { table: id, target }),
                (Some(is), Some(target)) if is != target.id() => {
                    work.act(Action::ReplaceDefaultRoute { table: id, target });
                }
                (Some(_), None) if role == Role::IsolatedRoutes => work.act(Action::DeleteDefaultRoute { table: id }),
                _ => {}
            }
        }
        for plot in &self.plots {
            let role = self.table_of(plot.tier, plot.slot);
            let (Some(subnet), Some(table)) = (plot.subnet, table(&role, observed)) else { continue };
            let used = observed.inside.tables.iter().find_map(|other| {
                let found = other.associations.iter().find(|association| association.subnet == subnet.id);
                found.map(|found| (other, found))
            });
            let (table, subnet) = (table.id.clone(), subnet.id.clone());
            match used {
                None => work.act(Action::AssociateRouteTable { table, subnet }),
                Some((other, association)) if other.id != table => {
                    work.act(Action::ReplaceAssociation { association: association.id.clone(), table, subnet });
                }
                Some(_) => {}
            }
        }
    }

    /// Gateways are in every route table of the VPC; interfaces are where tasks are, in each zone.
    fn plan_endpoints(
        &self,
        vpc: &Vpc,
        desired: &Desired,
        observed: &Observed,
        work: &mut Work,
    ) -> Result<(), Refusal> {
        let inside = &observed.inside;
        let tables: Option<Vec<&RouteTable>> = self.tables().iter().map(|role| table(role, observed)).collect();
        let tier = if self.own.nat == Nat::None { Tier::Public } else { Tier::Private };
        let subnets: Option<Vec<&Subnet>> = (0..self.own.zones).map(|slot| self.subnet(tier, slot)).collect();
        let group = group(&Role::EndpointGroup, desired, observed)?;
        for service in &self.own.endpoints {
            let role = Role::Endpoint(service.clone());
            let tables = tables.iter().flatten().map(|table| table.id.clone());
            let tables: Vec<String> = tables.filter(|_| service.is_gateway()).collect();
            let subnets = subnets.iter().flatten().map(|subnet| subnet.id.clone());
            let subnets: Vec<String> = subnets.filter(|_| !service.is_gateway()).collect();
            let group = group.filter(|_| !service.is_gateway()).map(|group| group.id.clone());
            // The service's own name leads to an interface only in a VPC with names.
            let ready = if service.is_gateway() {
                !tables.is_empty()
            } else {
                group.is_some() && !subnets.is_empty() && inside.dns_support && inside.dns_hostnames
            };
            let Some(endpoint) = endpoint(&role, observed) else {
                let mut before = inside.endpoints.iter().filter(|known| known.role == role);
                if let Some(before) = before.find(|known| known.stage == Stage::Deleting) {
                    // Two interfaces for one service's name are refused.
                    work.wait("deleted", &before.id);
                    continue;
                }
                for known in inside.endpoints.iter().filter(|known| known.role == role) {
                    refuse_failed(&role, &known.id, &known.stage, observed)?;
                }
                if ready {
                    let (service, vpc) = (service.clone(), vpc.id.clone());
                    work.act(Action::CreateEndpoint { service, vpc, tables, subnets, group });
                }
                continue;
            };
            if endpoint.stage == Stage::Pending {
                work.wait("made", &endpoint.id);
                continue;
            }
            if !ready {
                continue;
            }
            let lacks = |there: &BTreeSet<String>, wanted: &[String]| -> Vec<String> {
                wanted.iter().filter(|id| !there.contains(*id)).cloned().collect()
            };
            let surplus = |there: &BTreeSet<String>, wanted: &[String]| -> Vec<String> {
                there.iter().filter(|id| !wanted.contains(id)).cloned().collect()
            };
            let groups: Vec<String> = group.into_iter().collect();
            let change = EndpointChange {
                add_tables: lacks(&endpoint.tables, &tables),
                add_subnets: lacks(&endpoint.subnets, &subnets),
                remove_subnets: surplus(&endpoint.subnets, &subnets),
                add_groups: lacks(&endpoint.groups, &groups),
                remove_groups: surplus(&endpoint.groups, &groups),
                private_dns: !service.is_gateway() && !endpoint.private_dns,
            };
            if !change.is_empty() {
                work.act(Action::ChangeEndpoint { endpoint: endpoint.id.clone(), change });
            }
        }
        Ok(())
    }

    /// What is ours and not needed any more: subnets, then what they used, each once nothing leads to it.
    fn plan_surplus(&self, observed: &Observed, work: &mut Work) {
        let inside = &observed.inside;
        let wanted =
            |subnet: &Subnet| self.plots.iter().any(|plot| plot.subnet.is_some_and(|used| used.id == subnet.id));
        for endpoint in &inside.endpoints {
            let asked = matches!(&endpoint.role, Role::Endpoint(service) if self.own.endpoints.contains(service));
            let failed = matches!(endpoint.stage, Stage::Failed(_));
            if (!asked || failed) && endpoint.stage != Stage::Deleting {
                work.act(Action::DeleteEndpoint { endpoint: endpoint.id.clone() });
            }
        }
        for subnet in inside.subnets.iter().filter(|subnet| matches!(subnet.role, Some(Role::Subnet(..)))) {
            if wanted(subnet) {
                continue;
            }
            let gateway = inside.nat_gateways.iter().find(|gateway| gateway.subnet == subnet.id);
            let endpoint = inside.endpoints.iter().find(|endpoint| endpoint.subnets.contains(&subnet.id));
            match (gateway.map(|known| (&known.id, &known.stage)), endpoint.map(|known| (&known.id, &known.stage))) {
                (None, None) => work.act(Action::DeleteSubnet { subnet: subnet.id.clone() }),
                (Some((id, Stage::Deleting)), _) | (_, Some((id, Stage::Deleting))) => work.wait("deleted", id),
                _ => {}
            }
        }
        let tables = self.tables();
        for table in inside.tables.iter().filter(|table| table.associations.is_empty()) {
            if table.role.as_ref().is_some_and(|role| !tables.contains(role)) {
                work.act(Action::DeleteRouteTable { table: table.id.clone() });
            }
        }
        let slots = self.nat_slots();
        for gateway in inside.nat_gateways.iter().filter(|gateway| gateway.stage != Stage::Deleting) {
            let asked = matches!(gateway.role, Role::NatGateway(slot) if slots.contains(&slot));
            let failed = matches!(gateway.stage, Stage::Failed(_));
            let led_to = inside.tables.iter().any(|table| table.default_route.as_ref() == Some(&gateway.id));
            if (!asked && !led_to) || failed {
                work.act(Action::DeleteNatGateway { gateway: gateway.id.clone() });
            }
        }
        for address in &observed.addresses {
            if matches!(address.role, Role::Address(slot) if slots.contains(&slot)) {
                continue;
            }
            let mut gateways = inside.nat_gateways.iter();
            match gateways.find(|gateway| gateway.address.as_ref() == Some(&address.id)) {
                Some(gateway) if gateway.stage == Stage::Deleting => work.wait("deleted", &gateway.id),
                None if !address.taken => work.act(Action::ReleaseAddress { address: address.id.clone() }),
                _ => {}
            }
        }
    }
}

impl OwnVpc {
    fn tiers(&self) -> impl Iterator<Item = Tier> + use<> {
        let (private, isolated) = (self.nat != Nat::None, self.isolated);
        Tier::ALL.into_iter().filter(move |tier| match tier {
            Tier::Public => true,
            Tier::Private => private,
            Tier::Isolated => isolated,
        })
    }
}

/// What is asked for, and the tiers that something else than our own gateways and endpoints is still in.
fn still_needed(asked: &OwnVpc, inside: &Inside) -> OwnVpc {
    let in_use = |tier: Tier| {
        let of_tier =
            inside.subnets.iter().filter(|subnet| matches!(subnet.role, Some(Role::Subnet(of, _)) if of == tier));
        of_tier.into_iter().any(|subnet| inside.foreign_interfaces(&subnet.id).next().is_some())
    };
    let nat = match asked.nat {
        Nat::None if in_use(Tier::Private) => {
            let beside =
                inside.nat_gateways.iter().any(|known| known.stage.lives() && known.role != Role::NatGateway(0));
            if beside { Nat::PerAz } else { Nat::Single }
        }
        nat => nat,
    };
    OwnVpc { nat, isolated: asked.isolated || in_use(Tier::Isolated), ..asked.clone() }
}

/// What failed in an earlier release is removed and made again; what failed in this one would fail again.
fn refuse_failed(role: &Role, id: &String, stage: &Stage, observed: &Observed) -> Result<(), Refusal> {
    match stage {
        Stage::Failed(why) if observed.remembered.progress.made.get(role) == Some(id) => {
            Err(Refusal::NotMade { role: role.clone(), id: id.clone(), why: why.clone() })
        }
        _ => Ok(()),
    }
}
