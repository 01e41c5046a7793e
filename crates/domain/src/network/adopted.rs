//! The subnets of a VPC that is not the environment's own.

use std::collections::{BTreeMap, BTreeSet};

use super::{Observed, Refusal, Subnet, Tier, Vpc};

/// Zones that Fargate does not run in; load balancers and tasks are kept out of them.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/AWS_Fargate-Regions.html>
const ZONES_WITHOUT_FARGATE: [&str; 3] = ["usw1-az2", "apne1-az3", "cnn1-az3"];

/// A load balancer takes no fewer zones than these, and neither does a database or a cache.
const FEWEST_ZONES: usize = 2;

/// The zones that services and load balancers can be in, always in the same order.
pub(super) fn usable_zones(observed: &Observed) -> Vec<&str> {
    let usable = observed.zones.iter().filter(|zone| !ZONES_WITHOUT_FARGATE.contains(&zone.id.as_str()));
    let mut zones: Vec<&str> = usable.map(|zone| zone.name.as_str()).collect();
    zones.sort_unstable();
    zones
}

pub(super) fn default_subnets(vpc: &Vpc, observed: &Observed) -> Result<Vec<String>, Refusal> {
    let zones = usable_zones(observed);
    let mut subnets: Vec<&Subnet> =
        observed.inside.subnets.iter().filter(|subnet| zones.contains(&subnet.zone.as_str())).collect();
    subnets.sort_by(|a, b| (&a.zone, &a.id).cmp(&(&b.zone, &b.id)));
    subnets.dedup_by(|a, b| a.zone == b.zone);
    if subnets.len() < FEWEST_ZONES {
        return Err(Refusal::TooFewDefaultSubnets { vpc: vpc.id.clone(), available: subnets.len() });
    }
    Ok(subnets.iter().map(|subnet| subnet.id.clone()).collect())
}

/// The given subnets, in the zones' order, if they can be used.
pub(super) fn given_subnets(
    vpc: &Vpc,
    given: &BTreeMap<Tier, Vec<String>>,
    observed: &Observed,
) -> Result<BTreeMap<Tier, Vec<String>>, Refusal> {
    let mut checked = BTreeMap::new();
    for (tier, ids) in given.iter().filter(|(_, ids)| !ids.is_empty()) {
        let mut subnets = Vec::new();
        for id in ids.iter().collect::<BTreeSet<_>>() {
            let found = observed.inside.subnets.iter().find(|subnet| subnet.id == *id);
            let missing = || Refusal::NotInVpc { tier: tier.word(), subnet: id.clone(), vpc: vpc.id.clone() };
            subnets.push(found.ok_or_else(missing)?);
        }
        subnets.sort_by(|a, b| (&a.zone, &a.id).cmp(&(&b.zone, &b.id)));
        let zones: BTreeSet<&str> = subnets.iter().map(|subnet| subnet.zone.as_str()).collect();
        if zones.len() < FEWEST_ZONES {
            let zone = zones.into_iter().collect();
            return Err(Refusal::OneZone { tier: tier.word(), zone });
        }
        if let Some([first, second]) = subnets.array_windows().find(|[a, b]| a.zone == b.zone)
            && *tier == Tier::Public
        {
            let (first, second, zone) = (first.id.clone(), second.id.clone(), first.zone.clone());
            return Err(Refusal::SameZone { first, second, zone });
        }
        checked.insert(*tier, subnets.iter().map(|subnet| subnet.id.clone()).collect());
    }
    Ok(checked)
}
