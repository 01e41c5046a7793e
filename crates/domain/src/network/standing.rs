//! What of all that EC2 shows the network is made of: of several of a kind, always the same one.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Address, Desired, Endpoint, Gateway, Group, NatGateway, Observed, Place, Refusal, Remembered, Role, RouteTable,
    Stage, Vpc,
};

/// The VPC that the environment stands in or will: of several with its tags the one that is remembered, else always the same.
pub fn standing_vpc<'a>(desired: &Desired, observed: &'a Observed) -> Result<Option<&'a Vpc>, Refusal> {
    let Remembered { vpc: last, progress } = &observed.remembered;
    let last = last.as_ref().and_then(|id| observed.vpcs.iter().find(|vpc| vpc.id == *id));
    let moved = |last: &Vpc| Err(Refusal::Moved { stands: last.id.clone() });
    match &desired.place {
        Place::Default => match last {
            Some(last) if !last.default => moved(last),
            _ => Ok(observed.vpcs.iter().find(|vpc| vpc.default)),
        },
        Place::Given { vpc, .. } => match last {
            Some(last) if last.id != *vpc => moved(last),
            _ => Ok(observed.vpcs.iter().find(|known| known.id == *vpc)),
        },
        Place::Own(_) => match last {
            Some(last) if last.ours => Ok(Some(last)),
            // Only a VPC of its own is among the remembered resources.
            Some(last) if progress.id(&Role::Vpc) == Some(&last.id) => Err(Refusal::TagsLost { vpc: last.id.clone() }),
            Some(last) => moved(last),
            None => {
                let known = progress.id(&Role::Vpc);
                Ok(observed.vpcs.iter().filter(|vpc| vpc.ours).min_by_key(|vpc| (known != Some(&vpc.id), &vpc.id)))
            }
        },
    }
}

/// What carries the environment's tags and is not used, because there is another of its kind: for a person to remove.
#[must_use]
pub fn strays(desired: &Desired, observed: &Observed) -> Vec<String> {
    let Ok(Some(vpc)) = standing_vpc(desired, observed) else { return Vec::new() };
    if !desired.is_own() {
        return Vec::new();
    }
    let used = standing_parts(desired, observed);
    let unused = |role: &Role, id: &str| used.get(role).is_some_and(|used| used != id);
    let vpcs = observed.vpcs.iter().filter(|other| other.ours && other.id != vpc.id).map(|other| &other.id);
    let gateways = observed.gateways.iter().map(|other| &other.id).filter(|id| unused(&Role::InternetGateway, id));
    let inside = &observed.inside;
    let tables = inside.tables.iter().filter(|other| other.role.as_ref().is_some_and(|role| unused(role, &other.id)));
    let addresses = observed.addresses.iter().filter(|other| unused(&other.role, &other.id)).map(|other| &other.id);
    let nat =
        inside.nat_gateways.iter().filter(|other| other.stage != Stage::Deleting && unused(&other.role, &other.id));
    let endpoints = inside.endpoints.iter();
    let endpoints = endpoints.filter(|other| other.stage != Stage::Deleting && unused(&other.role, &other.id));
    vpcs.chain(gateways)
        .chain(tables.map(|other| &other.id))
        .chain(addresses)
        .chain(nat.map(|other| &other.id))
        .chain(endpoints.map(|other| &other.id))
        .cloned()
        .collect()
}

/// The ids of what the network that stands is made of: what the next release must find before it makes any of it again.
#[must_use]
pub fn standing_parts(desired: &Desired, observed: &Observed) -> BTreeMap<Role, String> {
    let Ok(Some(vpc)) = standing_vpc(desired, observed) else { return BTreeMap::new() };
    let inside = &observed.inside;
    let mut parts: BTreeMap<Role, String> = Role::GROUPS
        .into_iter()
        .filter_map(|role| {
            let group = group(&role, desired, observed).ok().flatten()?.id.clone();
            Some((role, group))
        })
        .collect();
    if !desired.is_own() {
        return parts;
    }
    parts.insert(Role::Vpc, vpc.id.clone());
    parts.extend(gateway(Some(vpc), observed).map(|gateway| (Role::InternetGateway, gateway.id.clone())));
    parts.extend(inside.subnets.iter().filter_map(|subnet| Some((subnet.role.clone()?, subnet.id.clone()))));
    let tables: BTreeSet<&Role> = inside.tables.iter().filter_map(|table| table.role.as_ref()).collect();
    parts.extend(tables.into_iter().filter_map(|role| Some((role.clone(), table(role, observed)?.id.clone()))));
    for address in &observed.addresses {
        let used = address_for(&address.role, observed).unwrap_or(address);
        parts.insert(address.role.clone(), used.id.clone());
    }
    for known in inside.nat_gateways.iter().map(|known| &known.role) {
        parts.extend(nat_gateway(known, observed).map(|used| (known.clone(), used.id.clone())));
    }
    for known in inside.endpoints.iter().map(|known| &known.role) {
        parts.extend(endpoint(known, observed).map(|used| (known.clone(), used.id.clone())));
    }
    parts
}

/// The internet gateway: the attached one before the remembered one before any other.
pub(super) fn gateway<'a>(vpc: Option<&Vpc>, observed: &'a Observed) -> Option<&'a Gateway> {
    let known = observed.remembered.progress.id(&Role::InternetGateway);
    observed
        .gateways
        .iter()
        .filter(|gateway| gateway.vpc.is_none() || gateway.vpc.as_ref() == vpc.map(|vpc| &vpc.id))
        .min_by_key(|gateway| (gateway.vpc.is_none(), known != Some(&gateway.id), &gateway.id))
}

/// The route table for this: the one in use before the remembered one before any other.
pub(super) fn table<'a>(role: &Role, observed: &'a Observed) -> Option<&'a RouteTable> {
    let known = observed.remembered.progress.id(role);
    let tables = observed.inside.tables.iter().filter(|table| table.role.as_ref() == Some(role));
    tables.min_by_key(|table| (table.associations.is_empty(), known != Some(&table.id), &table.id))
}

/// The address for this: the remembered one before any other, but one that is taken only where there is no other.
pub(super) fn address_for<'a>(role: &Role, observed: &'a Observed) -> Option<&'a Address> {
    let known = observed.remembered.progress.id(role);
    let in_use = |address: &Address| {
        let mut gateways = observed.inside.nat_gateways.iter().filter(|gateway| gateway.stage.lives());
        gateways.any(|gateway| gateway.address.as_ref() == Some(&address.id))
    };
    let addresses = observed.addresses.iter().filter(|address| address.role == *role);
    addresses.min_by_key(|address| (!in_use(address), address.taken, known != Some(&address.id), &address.id))
}

/// The NAT gateway for this that serves or is about to: the one that serves before the remembered one before any other.
pub(super) fn nat_gateway<'a>(role: &Role, observed: &'a Observed) -> Option<&'a NatGateway> {
    let known = observed.remembered.progress.id(role);
    let gateways = observed.inside.nat_gateways.iter();
    gateways
        .filter(|gateway| gateway.role == *role && gateway.stage.lives())
        .min_by_key(|gateway| (gateway.stage != Stage::Available, known != Some(&gateway.id), &gateway.id))
}

/// The endpoint for this that serves or is about to.
pub(super) fn endpoint<'a>(role: &Role, observed: &'a Observed) -> Option<&'a Endpoint> {
    let known = observed.remembered.progress.id(role);
    let endpoints = observed.inside.endpoints.iter();
    endpoints
        .filter(|endpoint| endpoint.role == *role && endpoint.stage.lives())
        .min_by_key(|endpoint| (endpoint.stage != Stage::Available, known != Some(&endpoint.id), &endpoint.id))
}

pub(super) fn group<'a>(role: &Role, desired: &Desired, observed: &'a Observed) -> Result<Option<&'a Group>, Refusal> {
    let name = desired.owner.group_name(role);
    let Some(group) = observed.inside.groups.iter().find(|group| group.name == name) else { return Ok(None) };
    if group.role.as_ref() == Some(role) {
        Ok(Some(group))
    } else {
        Err(Refusal::NameTaken { group: group.id.clone(), name, role: role.clone() })
    }
}
