//! The platform plan: which small stacks an environment has, what each needs, and what to do next about each.
//!
//! A stack is one blueprint with its parameters, named for its concern, so that a stuck one blocks only what stands on it.
//! [`stacks`] says which there should be, [`next_actions`] what to do about them now, [`outputs`] what they made.
//!
//! A stack that the manifest no longer names is named and not touched: what once served goes on, a listener rule too, until a
//! person deletes the stack or the environment is torn down. Only a teardown ([`Belongings::removal`]) deletes what was ever finished.

mod capacity_provider;
mod compute;
mod data;
mod drift;
mod edge;
mod names;
mod operation;
mod outputs;
mod own;
mod plan;
mod priority;
mod reference;
mod removal;
mod repair;
mod repository;
mod shift;
pub(crate) mod taken;
mod wanted;
mod watch;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

pub use capacity_provider::{CapacityStep, ObservedCapacity, ObservedProvider, Share, WantedCapacity};
pub use drift::{ResourceDrift, of_resource as resource_difference, of_stacks as stack_differences};
pub use names::{Names, StackName};
pub use operation::{Operation, ResourceFailure, StackEvent, last_operation};
use outputs::Output;
pub use outputs::{Alternate, DatabaseOutputs, MissingOutput, PlatformOutputs, ServiceOutputs, SiteOutputs, outputs};
pub(crate) use plan::Phase;
pub use plan::{
    Apply, Blocker, Deletion, Next, Observed, ObservedStack, Plan, Planned, StackStatus, Trouble, next_actions,
};
pub use removal::{Belongings, environments_of};
pub use repair::{ChangeSet, RepairStep, ResourceChange, ResourceState, change_set, repair_step};
pub use repository::repositories;
pub use shift::Weights;
pub use wanted::{Concern, INPUTS_TAG, KEEP_TAG, Parameters, Value, WantedStack};
use wanted::{parameters, text};

use crate::{
    failure::Failure,
    manifest::Spec,
    name::{Component, ComponentName, EnvironmentName},
    network::NetworkOutputs,
};

/// The most bytes that CloudFormation takes in one parameter's value.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const MOST_PARAMETER_BYTES: usize = 4096;

/// What a manifest asks for that the platform cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The ARNs of a service's secrets do not fit the parameter they are passed in.
    #[error(
        "services.{service}.secrets: the ARNs of its secrets are {bytes} bytes long together, {MOST_PARAMETER_BYTES} are possible; \
         put several values into one secret and name them as `name:key`"
    )]
    TooManySecrets {
        /// The service.
        service: ComponentName,
        /// How long they are.
        bytes: usize,
    },
    /// A site's redirects or headers do not fit the parameter they are passed in.
    #[error(
        "sites.{site}.{key}: they are {bytes} bytes long as the edge gets them, {MOST_PARAMETER_BYTES} are possible; `$` and `<` \
         count six times there"
    )]
    TooMuchForTheEdge {
        /// The site.
        site: ComponentName,
        /// `redirects` or `headers`.
        key: &'static str,
        /// How long they are.
        bytes: usize,
    },
    /// Visitors would stay with a target group that gets no requests after the next rollout.
    #[error(
        "services.{service}.http.stickiness: it has two target groups since it had another strategy than `rolling`, and a visitor cannot \
         stay with a task where requests go to either; leave it out, or give the service another name"
    )]
    Sticky {
        /// The service.
        service: ComponentName,
    },
    /// There is no room for another rule among those of paths like it.
    #[error(
        "services.{service}.http.path: too many services have a path as specific as `{path}`; put some under one prefix"
    )]
    TooManyPaths {
        /// The service.
        service: ComponentName,
        /// Its path.
        path: String,
    },
    /// What holds data would be replaced by something empty.
    #[error(
        "{path}: it was made with `{old}` and cannot become `{new}` without losing what it holds; set it back, or give what should \
         be new a key of its own"
    )]
    Fixed {
        /// The key in the manifest.
        path: String,
        /// What it was made with.
        old: String,
        /// What is wanted now.
        new: String,
    },
    /// Stacks stand on each other, or on one that nobody wants.
    #[error("the stacks {} stand on each other; this is a mistake in Shipway, please report it", names_of(.0))]
    Unordered(Vec<StackName>),
}

impl PlanError {
    /// The public name.
    pub fn failure(&self) -> Failure {
        match self {
            PlanError::TooManySecrets { .. }
            | PlanError::TooMuchForTheEdge { .. }
            | PlanError::TooManyPaths { .. }
            | PlanError::Sticky { .. }
            | PlanError::Fixed { .. } => Failure::RejectedManifest,
            PlanError::Unordered(_) => Failure::Bug,
        }
    }
}

fn names_of(stacks: &[StackName]) -> String {
    stacks.iter().map(StackName::as_str).collect::<Vec<_>>().join(", ")
}

/// Where stacks are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// The region.
    pub region: String,
    /// The account's id.
    pub account: String,
    /// The ARN of the managed policy that bounds the roles of blueprints.
    pub permissions_boundary: String,
}

/// What should bound the roles of blueprints does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the ARN of a policy")]
pub struct NotAPolicy(String);

impl Place {
    /// In this region, in the partition and the account of the policy with this ARN, which bounds the roles.
    ///
    /// # Errors
    /// It is not the ARN of a policy.
    pub fn bounded_by(permissions_boundary: String, region: String) -> Result<Place, NotAPolicy> {
        match permissions_boundary.split(':').collect::<Vec<_>>().as_slice() {
            ["arn", partition, "iam", "", account, policy] if policy.starts_with("policy/") => Ok(Place {
                partition: (*partition).to_owned(),
                region,
                account: (*account).to_owned(),
                permissions_boundary: permissions_boundary.clone(),
            }),
            _ => Err(NotAPolicy(permissions_boundary)),
        }
    }
}

fn has_http(spec: &Spec) -> bool {
    spec.services.values().any(|service| service.http.is_some())
}

/// What the wanted stacks are derived from.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The manifest, as it is for the environment.
    pub spec: &'a Spec,
    /// The environment.
    pub environment: &'a EnvironmentName,
    /// Where stacks are made.
    pub place: &'a Place,
    /// The network, once it stands.
    pub network: Option<&'a NetworkOutputs>,
}

impl Wish<'_> {
    fn names(&self) -> Names<'_> {
        Names { app: &self.spec.app, environment: self.environment }
    }

    fn tags(&self, component: Component) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("shipway:app", self.spec.app.to_string()),
            ("shipway:environment", self.environment.to_string()),
            ("shipway:component", component.to_string()),
        ])
    }

    /// A stack of one of Shipway's blueprints: of the platform, in the environment's own region.
    fn blueprint(
        &self,
        name: StackName,
        concern: Concern,
        template: &'static str,
        parameters: Parameters,
        needs_network: bool,
    ) -> WantedStack {
        WantedStack {
            name,
            concern,
            template: Cow::Borrowed(template),
            region: None,
            role: None,
            parameters,
            tags: self.tags(Component::Platform),
            needs_network,
        }
    }

    fn of_network(&self, value: impl FnOnce(&NetworkOutputs) -> String) -> Value {
        self.network.map_or(Value::OfNetwork, |network| Value::Text(value(network)))
    }
}

/// The stacks that should be there, each after what it stands on.
///
/// # Errors
/// Where the manifest asks for more than a stack can hold.
pub fn stacks(wish: &Wish<'_>, observed: &Observed) -> Result<Vec<WantedStack>, PlanError> {
    let spec = wish.spec;
    let mut stacks = Vec::new();
    stacks.extend(wish.repository_stacks());
    stacks.extend(wish.compute_stacks());
    stacks.extend(wish.edge_stacks()?);
    let standing = |service: &ComponentName| {
        let stack = observed.get(&wish.names().service(service))?;
        let number = |key: &str| stack.parameters.get(key)?.parse().ok();
        Some(priority::Standing {
            path: stack.parameters.get("Path")?,
            rule: number("Priority")?,
            test_rule: number("TestPriority").filter(|_| stack.has_test_rule()),
        })
    };
    let tested = |name: &ComponentName| {
        spec.services.get(name).is_some_and(|service| wish.has_test_rule(name, service, observed))
    };
    let priorities = priority::of_services(spec, standing, tested)?;
    for (name, service) in &spec.services {
        stacks.push(wish.service(name, service, priorities.get(name).copied(), observed)?);
    }
    stacks.extend(wish.data_stacks(observed)?);
    stacks.extend(wish.watch_stacks(observed));
    stacks.extend(wish.own_stacks());
    in_order(stacks)
}

/// Each stack after those it stands on, and otherwise in the order given.
fn in_order(mut stacks: Vec<WantedStack>) -> Result<Vec<WantedStack>, PlanError> {
    let mut ordered: Vec<WantedStack> = Vec::with_capacity(stacks.len());
    let mut placed = BTreeSet::new();
    while !stacks.is_empty() {
        let free = stacks.iter().position(|stack| stack.stands_on().is_subset(&placed));
        let Some(free) = free else {
            return Err(PlanError::Unordered(stacks.into_iter().map(|stack| stack.name).collect()));
        };
        let mut stack = stacks.remove(free);
        // What stands on a stack in the network waits for the network too.
        let below = stack.stands_on();
        stack.needs_network |= ordered.iter().any(|other| other.needs_network && below.contains(&other.name));
        placed.insert(stack.name.clone());
        ordered.push(stack);
    }
    Ok(ordered)
}

#[cfg(test)]
mod blueprint_tests;
#[cfg(test)]
mod tests;
