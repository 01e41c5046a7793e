//! What applying does to an environment's network: every action of all passes, one after the other, as if each had been done.

use serde::Serialize;

use super::difference::Doing;
use crate::{
    manifest::{GivenVpc, Spec},
    network::{self, Desired, NetworkOutputs, Observed, Step, Subnet, Vpc, Zone, next_actions},
};

/// What is done about the network. What is done to something that is made is part of making it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkChange {
    /// What is done.
    pub doing: Doing,
    /// To what.
    pub what: String,
    /// Whether it makes something, and not only does something to it.
    pub makes: bool,
}

/// The network, as far as it can be foreseen.
#[derive(Clone, Debug, Default)]
pub(super) struct Foreseen {
    /// What is done about it.
    pub(super) changes: Vec<NetworkChange>,
    /// What the stacks get of it.
    pub(super) outputs: Option<NetworkOutputs>,
    /// Why it would be refused.
    pub(super) refused: Option<String>,
    /// What a look found that is not as it was written down.
    pub(super) note: Option<String>,
}

impl Foreseen {
    /// What is said of a network that could not be looked at.
    pub(super) fn unseen() -> Foreseen {
        let note = "it was not looked at; what is done about it is not in this plan".to_owned();
        Foreseen { note: Some(note), ..Foreseen::default() }
    }
}

/// What is done until nothing is left to do, and what comes of it. What is made has its role for an id.
pub(super) fn foreseen(desired: &Desired, observed: &Observed) -> Foreseen {
    let actions = match network::foreseen(desired, observed) {
        Ok(waves) => waves.into_iter().flatten(),
        Err(refusal) => return Foreseen { refused: Some(refusal.to_string()), ..Foreseen::default() },
    };
    let mut foreseen = Foreseen::default();
    if let Ok(Step::LookAgain(why)) = next_actions(desired, observed) {
        foreseen.note = Some(format!("{why}; it is looked for again before anything is made in its place"));
    }
    let mut world = observed.clone();
    world.remembered.progress = world.remembered.progress.doubted();
    let mut made = Vec::new();
    for action in actions {
        let id = action.makes().map(|role| role.to_string()).unwrap_or_default();
        let what = action.to_string();
        made.extend(action.makes().map(|_| id.clone()));
        let is_of_new = what.split([' ', ',']).any(|word| made.iter().any(|made| made == word));
        let doing = if is_of_new { Doing::Create } else { Doing::Change };
        foreseen.changes.push(NetworkChange { doing, what, makes: action.makes().is_some() });
        world = world.with(&action, &id);
    }
    match next_actions(desired, &world.settled()) {
        Ok(Step::Done(outputs)) => foreseen.outputs = Some(outputs),
        _ => foreseen.note = Some("more may be done about it than is said here".to_owned()),
    }
    foreseen
}

/// What would be seen where an environment does not exist: a region with three zones, and the VPC that the manifest says is there.
#[must_use]
pub fn nothing(spec: &Spec, region: &str) -> Observed {
    let zone = |index: usize| format!("{region}{}", ['a', 'b', 'c'][index % 3]);
    let zones = (0..3).map(|index| Zone { name: zone(index), id: zone(index) }).collect();
    let cloudfront = Some("the addresses of CloudFront".to_owned());
    let mut observed = Observed { zones, cloudfront, ..Observed::default() };
    let subnet = |id: String, index: usize| Subnet {
        id,
        role: None,
        zone: zone(index),
        cidr: format!("172.31.{}.0/24", index % 256),
        public_addresses: true,
    };
    let (id, subnets): (String, Vec<Subnet>) = match (&spec.network.vpc, &spec.network.subnets) {
        (None, _) => return observed,
        (Some(GivenVpc::Default), _) => (
            "the-default-vpc".to_owned(),
            (0..3).map(|index| subnet(format!("its-subnet-in-{}", zone(index)), index)).collect(),
        ),
        (Some(GivenVpc::Id(id)), given) => {
            let tiers = given.iter().flat_map(|given| [&given.public, &given.private, &given.isolated]);
            // Each tier is in as many zones as it has subnets.
            let subnets = tiers.flat_map(|tier| tier.iter().enumerate());
            (id.clone(), subnets.map(|(index, id)| subnet(id.as_str().to_owned(), index)).collect())
        }
    };
    let default = spec.network.vpc == Some(GivenVpc::Default);
    observed.vpcs.push(Vpc { id, cidr: "172.31.0.0/16".to_owned(), ours: false, default });
    observed.inside.subnets = subnets;
    observed
}
