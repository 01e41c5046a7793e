//! The network.

use super::{Checked, Manifest, no_doubles, refuse, under};
use crate::manifest::spec::{
    Cidr, GivenSubnets, GivenVpc, Nat, Network, Networking, Service,
    monitoring::{RETENTIONS, is_retention},
};

/// A network's range is cut into sixteen, and a load balancer needs subnets of /27 at least.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html>
const LONGEST_PREFIX: u8 = 24;
const LONGEST_PREFIX_WITH_HTTP: u8 = 23;

/// In every subnet, AWS keeps five addresses.
/// <https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html>
const KEPT_BY_AWS: u32 = 5;

/// In every public subnet, a load balancer needs so many free addresses.
const KEPT_FOR_LOAD_BALANCER: u32 = 8;

/// Docker's own range on instances.
const DOCKER: &str = "172.17.0.0/16";

pub(super) fn check(manifest: &Manifest<'_>) -> Checked {
    let network = &manifest.spec.network;
    match &network.vpc {
        Some(vpc) => given(network, vpc),
        None => own(manifest),
    }
    .map_err(under("network"))
}

/// A VPC that is there: all that a VPC of its own would have is refused.
fn given(network: &Network, vpc: &GivenVpc) -> Checked {
    if network.cidr.is_some() || network.azs.is_some() {
        return refuse("vpc", "a VPC that is there has its own range and zones: leave out `cidr` and `azs`");
    }
    let keys = [
        ("nat", network.nat != Nat::None, "its private subnets have their ways out, or have none"),
        ("isolated", network.isolated.is_some(), "name its isolated subnets in `subnets`"),
        ("endpoints", !network.endpoints.is_empty(), "Shipway changes nothing in it; make them there"),
        ("flow_logs", network.flow_logs.is_some(), "Shipway changes nothing in it; make them there"),
    ];
    for (key, given, why) in keys {
        if given {
            return refuse(key, format!("this is for a VPC of its own, and `vpc` names one that is there: {why}"));
        }
    }
    match (vpc, &network.subnets) {
        (GivenVpc::Default, Some(_)) => {
            refuse("subnets", "the default VPC has its default subnets; with others, give `vpc` the VPC's id")
        }
        (GivenVpc::Default, None) => Ok(()),
        (GivenVpc::Id(_), None) => {
            refuse("vpc", "`subnets` is missing: say which of its subnets are public, private, isolated")
        }
        (GivenVpc::Id(_), Some(subnets)) => given_subnets(subnets),
    }
}

fn given_subnets(subnets: &GivenSubnets) -> Checked {
    if subnets.public.len() < 2 {
        return refuse("subnets.public", "a load balancer needs two public subnets at least, in two zones");
    }
    for (tier, ids) in [("public", &subnets.public), ("private", &subnets.private), ("isolated", &subnets.isolated)] {
        no_doubles(&format!("subnets.{tier}"), ids)?;
    }
    Ok(())
}

fn own(manifest: &Manifest<'_>) -> Checked {
    let network = &manifest.spec.network;
    if network.subnets.is_some() {
        return refuse(
            "subnets",
            "subnets are given together with the id of their `vpc`; a VPC of its own gets new ones",
        );
    }
    if let Some(azs) = network.azs
        && !(2..=3).contains(&azs)
    {
        return refuse("azs", "2 or 3 zones: a load balancer needs two, and so does a database");
    }
    no_doubles("endpoints", &network.endpoints)?;
    if let Some(logs) = &network.flow_logs
        && !is_retention(logs.retention)
    {
        return refuse("flow_logs.retention", format!("CloudWatch Logs keeps {RETENTIONS}"));
    }
    range(manifest, network.cidr.unwrap_or(Cidr::DEFAULT), u32::from(network.azs.unwrap_or(2)))
}

/// Whether the range has room for load balancer and tasks.
fn range(manifest: &Manifest<'_>, cidr: Cidr, azs: u32) -> Checked {
    let spec = manifest.spec;
    let longest = if manifest.has_http() { LONGEST_PREFIX_WITH_HTTP } else { LONGEST_PREFIX };
    if !(16..=longest).contains(&cidr.prefix()) {
        return refuse(
            "cidr",
            format!(
                "{cidr} is outside /16 to /{longest}: EC2 takes no larger VPC, and each subnet is a sixteenth of it"
            ),
        );
    }
    if spec.cluster.ec2.is_some() && DOCKER.parse::<Cidr>().is_ok_and(|docker| docker.overlaps(cidr)) {
        return refuse(
            "cidr",
            format!("{cidr} overlaps {DOCKER}, which Docker has on every instance; take another one"),
        );
    }
    // In bridge mode only the instances have addresses.
    let own_addresses = spec.cluster.ec2.as_ref().is_none_or(|ec2| ec2.networking == Networking::Awsvpc);
    if !own_addresses {
        return Ok(());
    }
    let beside = if manifest.has_http() && spec.network.nat == Nat::None { KEPT_FOR_LOAD_BALANCER } else { 0 };
    let in_each = (1u32 << (28 - cidr.prefix())).saturating_sub(KEPT_BY_AWS + beside);
    let room = azs * in_each;
    let tasks: u32 = spec.services.values().map(Service::most_tasks).fold(0, u32::saturating_add);
    if tasks.saturating_mul(2) > room {
        return refuse(
            "cidr",
            format!(
                "{cidr} has room for {room} tasks in {azs} zones, and {tasks} need twice their number while they are \
                 replaced; take a larger range"
            ),
        );
    }
    Ok(())
}
