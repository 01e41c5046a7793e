//! What applying a manifest would do, and what the environment would cost: worked out from what stands, without changing or proposing
//! anything.
//!
//! [`plan`] compares what the manifest asks for with what was seen: the network by the very decisions that provision-network goes by, the
//! stacks by evaluating their templates and those they would have, the services by the manifest that applied before.

mod difference;
mod estimate;
mod evaluation;
mod network;
mod prices;
mod service;
mod site;
mod stack;
mod template;
mod text;
mod types;
mod value;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

pub use difference::{Doing, Loss, PropertyChange, ResourceChange};
pub use estimate::{Estimate, Line as EstimateLine};
pub use evaluation::Policy;
pub use network::{NetworkChange, nothing};
pub use service::ServiceChange;
pub use site::SiteChange;
pub use stack::{StackChange, Standing};
pub use text::{Line, Tone};

use crate::{
    capacity::{self, Room, interrupted_by_rollouts},
    manifest::{Service, Spec},
    name::EnvironmentName,
    network::{Desired, NetworkOutputs, Observed},
    platform::{self, Place, StackName, WantedStack, Wish, taken},
    rollout::Limits,
};

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Looked<'a> {
    /// The manifest, as it is for the environment.
    pub spec: &'a Spec,
    /// The environment.
    pub environment: &'a EnvironmentName,
    /// Where it is.
    pub place: &'a Place,
    /// The manifest that applied before.
    pub applied: Option<&'a Spec>,
    /// The manifest that was worked towards last; where that did not come to its end, another one than what applied.
    pub planned: Option<&'a Spec>,
    /// The network as it stands, where it could be looked at.
    pub network: Option<&'a Observed>,
    /// What is written down of it.
    pub outputs: Option<&'a NetworkOutputs>,
    /// The stacks as they stand.
    pub stacks: Standing<'a>,
    /// What else is known of the environment, for a person to know first.
    pub notes: &'a [String],
    /// What its last teardown kept, in its own words.
    pub kept: &'a [String],
    /// Whether nothing was looked at: the plan is then that of an environment that does not exist.
    pub offline: bool,
}

/// What applying a manifest would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The app.
    pub app: String,
    /// The environment.
    pub environment: String,
    /// The region.
    pub region: String,
    /// Whether it was compared with nothing.
    pub offline: bool,
    /// What must be known first.
    pub warnings: Vec<Warning>,
    /// What is done about the network, in its order.
    pub network: Vec<NetworkChange>,
    /// What is done about each stack, after those it stands on.
    pub stacks: Vec<StackChange>,
    /// What is done about each service.
    pub services: Vec<ServiceChange>,
    /// What is done about each site.
    pub sites: Vec<SiteChange>,
    /// What else the manifest says otherwise than before, where nothing that stands changes by it: it is written down for what comes.
    pub settings: Vec<String>,
    /// What stays until a teardown, because the manifest no longer names it.
    pub left: Vec<String>,
    /// How much of it all.
    pub summary: Summary,
    /// What it would cost.
    pub estimate: Estimate,
}

/// What must be known before a manifest is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Of which kind it is.
    pub kind: WarningKind,
    /// What.
    pub what: String,
}

/// Of which kind a warning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// It would be refused, or could not go on without a person.
    Refused,
    /// Data would be lost.
    DataLoss,
    /// Something would stop for a while.
    Downtime,
    /// Something else to know.
    Note,
}

/// How much a plan does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many resources are made.
    pub create: usize,
    /// How many are changed where they stand.
    pub change: usize,
    /// How many are made anew.
    pub replace: usize,
    /// How many are deleted.
    pub delete: usize,
    /// How many services get new tasks.
    pub rollouts: usize,
    /// How many sites are published again.
    pub publications: usize,
    /// How many settings change otherwise, of services and sites too.
    pub settings: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { create, change, replace, delete, rollouts, publications, settings } = *self;
        let counts = [(create, "make"), (change, "change"), (replace, "make anew"), (delete, "delete")];
        let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} to {what}"));
        let mut parts = vec![counts.collect::<Vec<_>>().join(", ")];
        let mut tell = |count: usize, one: &str, more: &str| match count {
            0 => {}
            1 => parts.push(format!("1 {one}")),
            count => parts.push(format!("{count} {more}")),
        };
        tell(rollouts, "service is rolled out", "services are rolled out");
        tell(publications, "site is published again", "sites are published again");
        // What changes in a stack, too, is counted there.
        if create + change + replace + delete + rollouts + publications == 0 {
            tell(settings, "setting changes", "settings change");
        }
        parts.retain(|part| !part.is_empty());
        if parts.is_empty() { f.write_str("nothing to do") } else { f.write_str(&parts.join("; ")) }
    }
}

impl Plan {
    /// Whether applying would do anything.
    #[must_use]
    pub fn does_something(&self) -> bool {
        !self.network.is_empty()
            || self.stacks.iter().any(|stack| stack.doing != Doing::Unchanged)
            || self.services.iter().any(|service| service.doing != Doing::Unchanged)
            || self.sites.iter().any(|site| site.doing != Doing::Unchanged)
            || !self.settings.is_empty()
    }

    /// Whether applying would be refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.warnings.iter().any(|warning| warning.kind == WarningKind::Refused)
    }
}

/// Works out what applying would do.
#[must_use]
pub fn plan(looked: &Looked<'_>) -> Plan {
    let Looked { spec, environment, place, applied, .. } = *looked;
    let mut warnings = Vec::new();
    let mut warn = |kind, what: String| warnings.push(Warning { kind, what });
    let desired = Desired::of(&spec.app, environment, spec, applied);
    let network = match looked.network {
        Some(observed) => network::foreseen(&desired, observed),
        None => network::Foreseen::unseen(),
    };
    if let Some(refused) = &network.refused {
        warn(WarningKind::Refused, refused.clone());
    }
    looked.notes.iter().for_each(|note| warn(WarningKind::Note, note.clone()));
    if let Some(note) = &network.note {
        warn(WarningKind::Note, format!("the network: {note}"));
    }
    let outputs = network.outputs.as_ref().or(looked.outputs);
    let wish = Wish { spec, environment, place, network: outputs };
    let wanted = platform::stacks(&wish, looked.stacks.stacks);
    if let Err(error) = &wanted {
        warn(WarningKind::Refused, error.to_string());
    }
    let left = wanted.as_ref().map_or_else(|_| Vec::new(), |wanted| left(&wish, looked, wanted));
    let wanted: Vec<WantedStack> = wanted.unwrap_or_default();
    let stacks = stack::foreseen(&wanted, looked.stacks, place);
    for stack in &stacks.changes {
        let name = &stack.name;
        if let Some(halted) = &stack.halted {
            warn(WarningKind::Refused, format!("{name}: {halted}"));
        }
        for resource in &stack.resources {
            resource_warnings(name, resource).into_iter().for_each(|(kind, what)| warn(kind, what));
        }
    }
    let stands = |name: &StackName| looked.stacks.stacks.contains_key(name);
    for stack in wanted.iter().filter(|stack| !stands(&stack.name)) {
        let taken = taken::of_another(stack, looked.stacks.stacks);
        taken.into_iter().for_each(|taken| warn(WarningKind::Refused, format!("{}: {taken}", stack.name)));
    }
    let kept = taken::of_before(spec, environment, &place.account, looked.kept, |name| !stands(name));
    kept.into_iter().for_each(|kept| warn(WarningKind::Note, kept));
    fixed_ports(spec).chain(none_left(spec)).for_each(|what| warn(WarningKind::Downtime, what));
    if let Ok(Room::Unknown(kind)) = capacity::check(spec) {
        let what = format!(
            "cluster.ec2.instance_type: how much room a {} has is not known here, so nobody checked it",
            kind.as_str()
        );
        warnings.push(Warning { kind: WarningKind::Note, what });
    }
    warnings.sort_by_key(|warning| warning.kind);
    let moved = service::Moved { from: looked.outputs, to: network.outputs.as_ref() };
    let mut plan = Plan {
        app: spec.app.to_string(),
        environment: environment.to_string(),
        region: place.region.clone(),
        offline: looked.offline,
        summary: Summary::default(),
        estimate: estimate::estimate(spec, &stacks.evaluated, &place.region),
        warnings,
        network: network.changes,
        stacks: stacks.changes,
        services: service::changes(spec, applied, moved),
        sites: site::changes(spec, applied),
        settings: Vec::new(),
        left,
    };
    if !plan.does_something() && plan.left.is_empty() {
        plan.settings = settings(spec, applied);
    }
    plan.summary = summary(&plan);
    plan
}

/// What differs between two manifests beside services and sites.
fn settings(spec: &Spec, applied: Option<&Spec>) -> Vec<String> {
    let rest = |spec: &Spec| {
        let rest = Spec { services: BTreeMap::new(), sites: BTreeMap::new(), ..spec.clone() };
        serde_json::to_value(rest).unwrap_or_default()
    };
    let mut found = BTreeMap::new();
    if let Some(applied) = applied {
        service::compare("", &rest(applied), &rest(spec), &mut found);
    }
    service::told(found)
}

/// What applying would do where nothing is there yet: a plan that asks nobody.
#[must_use]
pub fn offline(spec: &Spec, environment: &EnvironmentName, region: &str) -> Plan {
    let partition = match region.split('-').next() {
        Some("cn") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let place = Place {
        partition: partition.to_owned(),
        region: region.to_owned(),
        account: "the account".to_owned(),
        permissions_boundary: "the permissions boundary".to_owned(),
    };
    plan(&Looked {
        spec,
        environment,
        place: &place,
        applied: None,
        planned: None,
        network: Some(&nothing(spec, region)),
        outputs: None,
        stacks: Standing { stacks: &platform::Observed::new(), templates: &BTreeMap::new() },
        notes: &[],
        kept: &[],
        offline: true,
    })
}

fn resource_warnings(stack: &str, resource: &ResourceChange) -> Vec<(WarningKind, String)> {
    let ResourceChange { name, doing, .. } = resource;
    let done = match doing {
        Doing::Replace => "is made anew",
        Doing::Delete => "is deleted",
        Doing::Unchanged | Doing::Create | Doing::Change => "is changed",
    };
    let mut warnings = Vec::new();
    if let Some(refused) = &resource.refused_for {
        let what = format!("{stack}: {name} would have to be made anew, and CloudFormation will refuse: {refused}");
        warnings.push((WarningKind::Refused, what));
    }
    if let Some(Loss { what, old }) = &resource.loses {
        let stays = match old {
            Policy::Delete => "and nothing of it stays",
            Policy::Snapshot => "a last snapshot stays",
            Policy::Retain => "and stays in the old one, which nothing uses any more",
        };
        warnings.push((WarningKind::DataLoss, format!("{stack}: {name} {done} and loses {what}; {stays}")));
    }
    if let Some(stops) = &resource.stops {
        warnings.push((WarningKind::Downtime, format!("{stack}: {name} {done}, which stops {stops}")));
    }
    if resource.interrupts {
        warnings.push((WarningKind::Downtime, format!("{stack}: the change of {name} interrupts it for a while")));
    }
    warnings
}

/// Services whose rollouts stop a task before the next one starts.
fn fixed_ports(spec: &Spec) -> impl Iterator<Item = String> {
    interrupted_by_rollouts(spec).into_iter().map(|name| {
        format!(
            "services.{name}.host_port: two tasks cannot have the same port of one instance, so each rollout stops the old task before \
             the new one starts; leave it out and ECS chooses a port for each, or allow more instances"
        )
    })
}

/// Services that let a rollout stop all of their tasks at once.
fn none_left(spec: &Spec) -> impl Iterator<Item = String> {
    let all = |service: &Service| service.tasks() > 0 && Limits::of(service).spare(service.tasks()) == service.tasks();
    let stops = spec.services.iter().filter(move |(_, service)| service.host_port.is_none() && all(service));
    stops.map(|(name, _)| {
        format!("services.{name}.rollout.min_percent: each rollout may stop all of its tasks before a new one runs; raise it")
    })
}

/// What a manifest before named and this one does not, as far as it is there.
fn left(wish: &Wish<'_>, looked: &Looked<'_>, wanted: &[WantedStack]) -> Vec<String> {
    let mut left = service::left(wish.spec, looked.applied);
    let before = looked.applied.into_iter().chain(looked.planned);
    let before = before.flat_map(|spec| platform::stacks(&Wish { spec, ..*wish }, &platform::Observed::new()));
    for stack in before.flatten().map(|stack| stack.name) {
        let told = format!("the stack {stack}");
        let is_wanted = wanted.iter().any(|wanted| wanted.name == stack);
        if !is_wanted && looked.stacks.stacks.contains_key(&stack) && !left.contains(&told) {
            left.push(told);
        }
    }
    left
}

fn summary(plan: &Plan) -> Summary {
    // What is done to something that is made is part of making it.
    let network = plan.network.iter().filter(|change| change.makes || change.doing != Doing::Create);
    let resources = plan.stacks.iter().flat_map(|stack| &stack.resources).map(|resource| resource.doing);
    let mut summary = Summary::default();
    for doing in network.map(|change| change.doing).chain(resources) {
        match doing {
            Doing::Unchanged => {}
            Doing::Create => summary.create += 1,
            Doing::Change => summary.change += 1,
            Doing::Replace => summary.replace += 1,
            Doing::Delete => summary.delete += 1,
        }
    }
    summary.settings = plan.settings.len();
    for service in plan.services.iter().filter(|service| service.doing != Doing::Unchanged) {
        if service.new_revision { summary.rollouts += 1 } else { summary.settings += service.what.len() }
    }
    for site in plan.sites.iter().filter(|site| site.doing == Doing::Change) {
        if site.publishes { summary.publications += 1 } else { summary.settings += site.what.len() }
    }
    summary
}
