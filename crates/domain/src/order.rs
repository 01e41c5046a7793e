//! In which order services are released that are made of one image: a service may go `after` others.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::{
    manifest::Spec,
    name::{ComponentName, Digest, RepositoryName},
    release::{Artifact, ComponentState, EVENT_PREFIX, Outcome, ReleaseRecord},
};

/// How many of an environment's newest releases are looked at for those of a service that goes first.
pub const LOOKED_AT: usize = 100;

/// How long after it came to be wanted the release of a service that goes first may begin, where no other holds it up. The sweep
/// starts it again in the first half of this, should its start have been cut off.
const BEGINS: SignedDuration = SignedDuration::from_mins(60);

/// All services, each behind those that it goes after.
pub fn in_order(spec: &Spec) -> Vec<&ComponentName> {
    fn add<'s>(
        spec: &'s Spec,
        name: &'s ComponentName,
        seen: &mut BTreeSet<&'s str>,
        ordered: &mut Vec<&'s ComponentName>,
    ) {
        if let Some(service) = spec.services.get(name)
            && seen.insert(name.as_str())
        {
            for first in &service.after {
                add(spec, first, seen, ordered);
            }
            ordered.push(name);
        }
    }
    let (mut seen, mut ordered) = (BTreeSet::new(), Vec::new());
    for name in spec.services.keys() {
        add(spec, name, &mut seen, &mut ordered);
    }
    ordered
}

/// The services that one of these goes after, directly or by others.
fn all_before<'s>(spec: &'s Spec, of: &'s ComponentName) -> BTreeSet<&'s str> {
    let mut found = BTreeSet::new();
    let mut look = vec![of];
    while let Some(service) = look.pop().and_then(|name| spec.services.get(name)) {
        look.extend(service.after.iter().filter(|first| found.insert(first.as_str())));
    }
    found
}

/// Whether a service goes after itself, by whatever way.
pub fn goes_after_itself(spec: &Spec, name: &ComponentName) -> bool {
    all_before(spec, name).contains(name.as_str())
}

/// The services that take an image which was pushed under this tag, those that go first before the others. One that goes first takes
/// it too where it has another tag that is for it: the event of that push may come later, or never.
pub fn takers(spec: &Spec, repository: &RepositoryName, tag: &str, tags: &[String]) -> Vec<ComponentName> {
    let takes = |name: &ComponentName, tag: &str| {
        let image = spec.services.get(name).map(|service| &service.image);
        image.is_some_and(|image| {
            image.repository.as_ref() == Some(repository) && image.tags.iter().any(|pattern| pattern.matches(tag))
        })
    };
    let ordered = in_order(spec);
    let first: BTreeSet<&str> =
        ordered.iter().filter(|name| takes(name, tag)).flat_map(|name| all_before(spec, name)).collect();
    let goes_first = |name: &ComponentName| first.contains(name.as_str()) && tags.iter().any(|tag| takes(name, tag));
    ordered.into_iter().filter(|name| takes(name, tag) || goes_first(name)).cloned().collect()
}

/// What the releases of one push to several services have in common: the same for the same image, pushed at the same time.
pub fn group(repository: &RepositoryName, digest: &Digest, pushed_at: Timestamp) -> String {
    use sha2::Digest as _;
    let text = format!("{repository}@{digest} {}", pushed_at.as_second());
    sha2::Sha256::digest(text.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// What a service that goes first means for one that goes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is not in the way: the image is live there, or is none of its own.
    Go,
    /// It is not live yet.
    Wait(String),
    /// It did not go live.
    Refused(String),
}

/// Decides by the state and the newest releases, the newest first, of the service that goes first. What is waited for is the image
/// itself; and where a newer push took its place there, that one.
pub fn turn(
    first: &ComponentName,
    state: &ComponentState,
    releases: &[ReleaseRecord],
    artifact: &Artifact,
    now: Timestamp,
) -> Turn {
    let is_live = |artifact: &Artifact| state.live.as_ref().is_some_and(|live| live.artifact == *artifact);
    let Some(desired) = state.desired.as_ref().filter(|_| !is_live(artifact)) else { return Turn::Go };
    let ended_badly = |release: &ReleaseRecord, outcome: Outcome| {
        let reason = release.reason.as_deref().unwrap_or("it gave no reason");
        Turn::Refused(format!(
            "`{first}` goes first, and its release {} of {} ended {outcome}: {reason}",
            release.release, release.artifact
        ))
    };
    if desired.artifact != *artifact {
        let newest = releases.iter().find(|release| release.artifact == *artifact);
        match newest.map(|release| (release, release.outcome)) {
            None => return Turn::Go,
            Some((_, Some(outcome))) if outcome.is_live() => return Turn::Go,
            Some((_, Some(Outcome::Superseded) | None)) if desired.execution.starts_with(EVENT_PREFIX) => {}
            Some((_, Some(Outcome::Superseded) | None)) => {
                return Turn::Refused(format!(
                    "`{first}` goes first, and a person made it {} in place of {artifact}",
                    desired.artifact
                ));
            }
            Some((release, Some(outcome))) => return ended_badly(release, outcome),
        }
    }
    let release = releases.iter().find(|release| release.execution == desired.execution);
    let claimed = state.claim.as_ref().is_some_and(|claim| claim.until > now);
    match release.map(|release| (release, release.outcome)) {
        _ if is_live(&desired.artifact) => Turn::Go,
        Some((_, Some(outcome))) if outcome.is_live() => Turn::Go,
        Some((release, Some(outcome))) => ended_badly(release, outcome),
        Some((release, None)) => {
            Turn::Wait(format!("waits for `{first}`, which goes first: its release {} is under way", release.release))
        }
        None if claimed || now.duration_since(desired.since) < BEGINS => {
            Turn::Wait(format!("waits for `{first}`, which goes first: its release of {} begins", desired.artifact))
        }
        None => Turn::Refused(format!(
            "`{first}` goes first, and its release of {}, wanted since {}, never began; start the execution {} of it again",
            desired.artifact, desired.since, desired.execution
        )),
    }
}

#[cfg(test)]
mod tests;
