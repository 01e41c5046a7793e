//! Whether a service's tasks are replaced because a secret of theirs was rotated: ECS gives a task its secrets only as it starts.
//!
//! What is compared are versions, never values. What a service's secrets were is remembered with its state; another version than
//! that is a rotation, and its tasks are replaced by a release of what is live. All its later task definitions carry when the last
//! rotation was, so that this release has another revision to roll out, and those that follow have the same.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    manifest::{SecretRef, Service},
    release::{ComponentState, HISTORY, ReleaseRecord, START_AGAIN, Wanted},
};

/// After this an execution that should make live what is live, and has no release, never began.
const BEGINS: SignedDuration = SignedDuration::from_mins(60);

/// What is known of a service's secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rotation {
    /// The version of each that was seen last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
    /// The last one that its tasks are replaced for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Rotated>,
}

impl Rotation {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Rotation::default()
    }
}

/// A rotation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rotated {
    /// When it was found.
    pub at: Timestamp,
    /// Which secrets, for a person.
    pub what: String,
}

/// A secret that a service's tasks are given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret {
    /// What the manifest calls it.
    pub name: String,
    /// Where it is.
    pub store: SecretStore,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretStore {
    /// In Secrets Manager, under this name or ARN.
    SecretsManager(String),
    /// In Systems Manager, under this path.
    Parameter(String),
}

/// A secret as AWS describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its current version.
    pub version: String,
    /// When it was changed last; a little more than its value may have.
    pub changed_at: Option<Timestamp>,
}

/// The secrets that a service's tasks are given. `provisioned` is where ECS finds those that the manifest makes.
pub fn secrets(service: &Service, provisioned: &BTreeMap<String, String>) -> BTreeSet<Secret> {
    let sidecars = service.sidecars.values().flat_map(|sidecar| sidecar.secrets.values());
    let each = service.secrets.values().chain(sidecars).filter_map(|secret| {
        Some(match secret {
            SecretRef::Secretsmanager(reference) => {
                let name = reference.split_once(':').map_or(reference.as_str(), |(name, _)| name).to_owned();
                Secret { name: name.clone(), store: SecretStore::SecretsManager(name) }
            }
            SecretRef::Ssm(path) => Secret { name: path.clone(), store: SecretStore::Parameter(path.clone()) },
            SecretRef::Ref(reference) => {
                let name = String::from(reference.clone());
                // What follows the name is the key, stage and version of a value in it.
                let arn: Vec<&str> = provisioned.get(&name)?.splitn(8, ':').take(7).collect();
                Secret { name, store: SecretStore::SecretsManager(arn.join(":")) }
            }
        })
    });
    each.collect()
}

/// What to do about a service's secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing, or not now.
    Nothing,
    /// Write this state down: versions that no tasks have to be replaced for.
    Remember(Box<ComponentState>),
    /// Write this state down, in which what is live is wanted again, then start its execution.
    Restart(Box<ComponentState>, Wanted),
    /// That was written down by a call that came no further: start its execution.
    StartAgain(Wanted),
}

/// Whether there may be anything to do at all: what spares a look at the releases.
#[must_use]
pub fn is_news(state: &ComponentState, seen: &BTreeMap<String, Seen>, now: Timestamp) -> bool {
    state.live.is_some() && (state.rotation.versions != versions(seen) || restarts(state, now).is_some())
}

/// Decides by the state, the newest releases and what the secrets are now. While anything is on its way the rotation waits: what
/// is remembered stays, so the next look finds it again, and several of them are one.
#[must_use]
pub fn decide(
    state: &ComponentState,
    releases: &[ReleaseRecord],
    seen: &BTreeMap<String, Seen>,
    execution: &str,
    now: Timestamp,
) -> Decision {
    let (Some(live), Some(desired)) = (&state.live, &state.desired) else { return Decision::Nothing };
    if state.claim.as_ref().is_some_and(|claim| claim.until > now) {
        return Decision::Nothing;
    }
    let release = releases.iter().find(|release| release.execution == desired.execution);
    let settled = match release {
        Some(release) => release.outcome.is_some(),
        None => desired.artifact == live.artifact && now.duration_since(desired.since) >= BEGINS,
    };
    if !settled {
        let again = restarts(state, now).filter(|_| release.is_none());
        return again.map_or(Decision::Nothing, |wanted| Decision::StartAgain(wanted.clone()));
    }
    let versions = versions(seen);
    if versions == state.rotation.versions {
        return Decision::Nothing;
    }
    // Tasks that began after the change have it.
    let is_missed = |seen: &Seen| seen.changed_at.is_none_or(|at| at >= live.release.begun());
    let rotated: Vec<&str> = seen
        .iter()
        .filter(|(name, seen)| {
            let known = state.rotation.versions.get(*name);
            known.is_some_and(|known| *known != seen.version) && is_missed(seen)
        })
        .map(|(name, _)| name.as_str())
        .collect();
    let mut next = state.clone();
    next.rotation.versions = versions;
    if rotated.is_empty() {
        return Decision::Remember(Box::new(next));
    }
    let mut outranked = desired.outranked.clone();
    if desired.artifact != live.artifact {
        // It ended badly, and is not to come back because the older one is wanted again.
        outranked.insert(0, desired.artifact.clone());
        outranked.retain(|artifact| *artifact != live.artifact);
        outranked.truncate(HISTORY);
    }
    let wanted = Wanted {
        artifact: live.artifact.clone(),
        order: desired.order.clone(),
        execution: execution.to_owned(),
        since: now,
        outranked,
    };
    next.rotation.last = Some(Rotated { at: now, what: rotated.join(", ") });
    next.desired = Some(wanted.clone());
    Decision::Restart(Box::new(next), wanted)
}

fn versions(seen: &BTreeMap<String, Seen>) -> BTreeMap<String, String> {
    seen.iter().map(|(name, seen)| (name.clone(), seen.version.clone())).collect()
}

/// What is wanted because of the last rotation, where nothing else was since, and as long as its execution is started again.
fn restarts(state: &ComponentState, now: Timestamp) -> Option<&Wanted> {
    let last = state.rotation.last.as_ref().filter(|last| now.duration_since(last.at) < START_AGAIN)?;
    state.desired.as_ref().filter(|desired| desired.since == last.at)
}

#[cfg(test)]
mod tests;
