//! The end of an environment: which of its stacks to delete next.
//!
//! What is there decides, not a manifest: what an earlier one named goes too. A stack goes as soon as nothing is left that may
//! stand on it; all else goes at once.

use std::collections::BTreeSet;

use super::{
    Blocker, Concern, KEEP_TAG, Names, Next, Observed, ObservedStack, Plan, Planned, StackName, StackStatus, Trouble,
    names::short_hash, wanted::ON_DELETE,
};
use crate::{
    message::Kept,
    name::{ReleaseId, RepositoryName},
};

/// What is of an environment, among all stacks with the tag of its app.
#[derive(Debug)]
pub struct Belongings<'a> {
    stacks: Vec<(&'a StackName, Concern, &'a ObservedStack)>,
    kept: Vec<&'a StackName>,
}

/// The environments of an app that have stacks, by their tags.
pub fn environments_of<'a>(names: Names<'_>, observed: &'a Observed) -> BTreeSet<&'a str> {
    let ours = |stack: &&ObservedStack| stack.tags.get("shipway:app").map(String::as_str) == Some(names.app.as_str());
    observed
        .values()
        .filter(ours)
        .filter_map(|stack| stack.tags.get("shipway:environment"))
        .map(String::as_str)
        .collect()
}

impl<'a> Belongings<'a> {
    /// Sorts out what is there: a stack must have both our name and our tags. `elsewhere` are the repositories that the app's other
    /// environments want.
    pub fn of(names: Names<'_>, observed: &'a Observed, elsewhere: &BTreeSet<RepositoryName>) -> Belongings<'a> {
        let mut belongings = Belongings { stacks: Vec::new(), kept: Vec::new() };
        for (name, stack) in observed {
            let tag = |key: &str| stack.tags.get(key).map(String::as_str);
            if tag("shipway:app") != Some(names.app.as_str()) {
                continue;
            }
            let concern = match tag("shipway:environment") {
                Some(environment) if environment == names.environment.as_str() => names.concern_of(name),
                Some(_) => None,
                None => {
                    let wanted = elsewhere.iter().any(|repository| names.repository(repository) == *name);
                    (names.is_repository(name) && !wanted).then_some(Concern::Repository)
                }
            };
            match concern {
                Some(_) if tag(KEEP_TAG).is_some() => belongings.kept.push(name),
                Some(concern) => belongings.stacks.push((name, concern, stack)),
                None => {}
            }
        }
        belongings
    }

    /// The stacks of the environment alone, without the app's repositories.
    pub fn of_environment(names: Names<'_>, observed: &'a Observed) -> Belongings<'a> {
        let mut belongings = Belongings::of(names, observed, &BTreeSet::new());
        belongings.stacks.retain(|(_, concern, _)| *concern != Concern::Repository);
        belongings
    }

    /// The stacks' names.
    pub fn names(&self) -> impl Iterator<Item = &'a StackName> {
        self.stacks.iter().map(|(name, _, _)| *name)
    }

    /// What stays although its stack goes, because the manifest says so; and the stacks that stay.
    pub fn kept(&self) -> Vec<Kept> {
        let data = self.stacks.iter().filter_map(|(name, concern, stack)| kept_of(name, *concern, stack));
        let stacks = self.kept.iter().map(|name| Kept {
            what: format!("the stack {name}, as `retain: true`"),
            // What it made may stand anywhere.
            in_network: true,
        });
        data.chain(stacks).collect()
    }

    /// Decides what to do next about each stack.
    pub fn removal(&self, release: &ReleaseId) -> Plan {
        let plan = self.stacks.iter().map(|(name, concern, stack)| {
            let blockers: Vec<_> = self.above(name, *concern, stack).into_iter().cloned().collect();
            let next = match blockers.is_empty() {
                true => next_of(stack, release),
                false => Next::Blocked(Blocker::Stacks(blockers)),
            };
            Planned { stack: (*name).clone(), concern: *concern, next }
        });
        Plan(plan.collect())
    }

    /// The stacks that may stand on this one.
    fn above(&self, name: &StackName, concern: Concern, stack: &ObservedStack) -> Vec<&'a StackName> {
        let mut above = Vec::new();
        for (other, their_concern, their) in &self.stacks {
            let stands_on_it = match (their_concern, concern) {
                // Of the user's own stacks one stands on another where it was given what the other gives. Between two that were
                // given each other's, the name decides.
                (Concern::Own, Concern::Own) => {
                    other != &name && takes(their, stack) && (!takes(stack, their) || *other < name)
                }
                (Concern::Own, _) => true,
                (their_concern, concern) => stood_on(*their_concern).contains(&concern),
            };
            if stands_on_it {
                above.push(*other);
            }
        }
        above
    }
}

/// Whether what one stack was given is what another gives.
fn takes(stack: &ObservedStack, other: &ObservedStack) -> bool {
    stack.parameters.values().any(|value| !value.is_empty() && other.outputs.values().any(|output| output == value))
}

/// What cannot be deleted while a stack of this concern is there.
fn stood_on(concern: Concern) -> &'static [Concern] {
    match concern {
        Concern::Site | Concern::LoadBalancer => &[Concern::Certificate],
        // A namespace with a service in it is not deleted, and a rule goes with its listener.
        Concern::Service => &[Concern::LoadBalancer, Concern::Discovery],
        // A cluster with instances is not deleted.
        Concern::Instances => &[Concern::Cluster],
        Concern::Export => &[Concern::Database],
        Concern::Alarms => &[Concern::Notifications],
        Concern::Repository
        | Concern::Cluster
        | Concern::AccessLogs
        | Concern::Certificate
        | Concern::Records
        | Concern::Discovery
        | Concern::FlowLogs
        | Concern::Database
        | Concern::Cache
        | Concern::Bucket
        | Concern::Secret
        | Concern::Email
        | Concern::Notifications
        | Concern::Dashboard
        | Concern::Own => &[],
    }
}

fn next_of(stack: &ObservedStack, release: &ReleaseId) -> Next {
    let token = format!("shipway-{release}-remove-{}", short_hash(&stack.id));
    let tried = stack.operation.as_ref().and_then(|operation| operation.token.as_ref()) == Some(&token);
    if stack.status.is_moving() {
        return Next::Wait(stack.status.clone());
    }
    if stack.status == StackStatus::DeleteFailed && tried {
        let why = stack.operation.as_ref().and_then(|operation| operation.failure.as_ref()).map(ToString::to_string);
        return Next::Halted(Trouble::stuck(&stack.status, why));
    }
    let ours = |role: &&String| !role.contains(OWN_ROLES);
    Next::Remove(super::Deletion {
        id: stack.id.clone(),
        role: stack.role.as_ref().filter(|role| !ours(role)).cloned(),
        protected: stack.protected,
        token,
    })
}

/// How the names of roles begin that the user's own stacks are made with.
const OWN_ROLES: &str = ":role/shipway-stack-";

/// What stays of a stack of data.
fn kept_of(name: &StackName, concern: Concern, stack: &ObservedStack) -> Option<Kept> {
    if concern == Concern::AccessLogs {
        let bucket = stack.outputs.get("Bucket")?;
        let what = format!("the bucket {bucket} with the load balancer's log, until its time is over");
        return Some(Kept { what, in_network: false });
    }
    let noun = match concern {
        Concern::Database => "database",
        Concern::Cache => "cache",
        Concern::Bucket => "bucket",
        _ => return None,
    };
    // The name in the manifest is what stands after the noun.
    let key = name.as_str().rsplit_once(&format!("-{noun}-")).map_or(name.as_str(), |(_, key)| key);
    let id = ["Identifier", "Bucket"].iter().find_map(|output| stack.outputs.get(*output));
    let id = id.map(|id| format!(" ({id})")).unwrap_or_default();
    match stack.parameters.get(ON_DELETE).map(String::as_str) {
        Some("Retain") => Some(Kept {
            what: format!("the {noun} {key}{id}, as `on_delete: retain`"),
            in_network: concern != Concern::Bucket,
        }),
        Some("Snapshot") => Some(Kept {
            what: format!("a last snapshot of the {noun} {key}{id}, as `on_delete: snapshot`"),
            in_network: false,
        }),
        _ => None,
    }
}
