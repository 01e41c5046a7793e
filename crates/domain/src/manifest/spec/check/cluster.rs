//! What services run on.

use super::{Checked, Manifest, refuse, under};
use crate::manifest::spec::{Ec2, GivenVpc, Nat, Network, Networking};

/// The image that instances start from is as large, so no volume is smaller.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/al2023-ami.html>
const LEAST_DISK_GIB: u32 = 30;

pub(super) fn check(manifest: &Manifest<'_>) -> Checked {
    let cluster = &manifest.spec.cluster;
    if cluster.capacity.is_some() && cluster.ec2.is_some() {
        return refuse(
            "cluster.capacity",
            "this is capacity without instances, and `ec2` asks for some; leave one of them out",
        );
    }
    if let Some(spot) = cluster.spot
        && spot > 100
    {
        return refuse("cluster.spot", format!("{spot} is more than a hundred of a hundred"));
    }
    match &cluster.ec2 {
        Some(ec2) => instances(ec2).and_then(|()| way_out(manifest, ec2)).map_err(under("cluster.ec2")),
        None => Ok(()),
    }
}

fn instances(ec2: &Ec2) -> Checked {
    if ec2.max == 0 {
        return refuse("max", "no task can run on no instance; 1 at least");
    }
    if ec2.min > ec2.max {
        return refuse("min", format!("at least {} cannot be more than at most {}", ec2.min, ec2.max));
    }
    if !ec2.ssh_from.is_empty() && ec2.key_pair.is_none() {
        return refuse("ssh_from", "`key_pair` is missing: without it nobody can log in");
    }
    if ec2.disk.gib() < LEAST_DISK_GIB {
        return refuse("disk", format!("the image of instances needs {LEAST_DISK_GIB}GiB"));
    }
    Ok(())
}

/// A task's own interface on an instance never gets a public address.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-networking-awsvpc.html>
fn way_out(manifest: &Manifest<'_>, ec2: &Ec2) -> Checked {
    if ec2.networking != Networking::Awsvpc || manifest.spec.services.is_empty() || has_private(&manifest.spec.network)
    {
        return Ok(());
    }
    let more = match manifest.spec.network.vpc {
        None => "set `network.nat`",
        Some(GivenVpc::Default) => "take a VPC with private subnets",
        Some(GivenVpc::Id(_)) => "name private subnets with a NAT gateway in `network.subnets`",
    };
    refuse(
        "networking",
        format!(
            "with `awsvpc` tasks on instances have no public address, so in public subnets they cannot reach the internet; \
             use `bridge`, or {more}"
        ),
    )
}

fn has_private(network: &Network) -> bool {
    network.nat != Nat::None || network.subnets.as_ref().is_some_and(|subnets| !subnets.private.is_empty())
}
