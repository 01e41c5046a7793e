//! Snapshots of the databases that a service uses, before its migration: a way back, which a person goes or nobody.
//!
//! One is named for its release, so asking twice makes one, and its tags say whose it is: what is there under the name and is not
//! this release's is never taken for it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{databases, tags};
use crate::{
    manifest::{Reference, Service},
    message::Run,
    name::{ComponentName, ReleaseId},
};

/// For how long snapshots are waited for.
pub const TIMEOUT_SECONDS: u32 = 6 * 3600;

/// What is written down of a release's snapshots between passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Since when they are wanted.
    pub since: Timestamp,
    /// The servers whose snapshots are there.
    #[serde(default)]
    pub available: BTreeSet<ComponentName>,
}

impl Progress {
    /// None is there yet.
    #[must_use]
    pub fn new(now: Timestamp) -> Progress {
        Progress { since: now, available: BTreeSet::new() }
    }

    /// How many seconds until the next look; none when there has been time enough.
    #[must_use]
    pub fn pause(&self, now: Timestamp) -> Option<u32> {
        let elapsed = now.duration_since(self.since);
        match elapsed {
            _ if elapsed >= SignedDuration::from_secs(i64::from(TIMEOUT_SECONDS)) => None,
            _ if elapsed < SignedDuration::from_secs(60) => Some(5),
            _ => Some(20),
        }
    }
}

/// A snapshot as RDS shows it, of an instance or of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The identifier of what it is a snapshot of.
    pub of: String,
    /// RDS's word for how far it is.
    pub status: String,
    /// How much of it is there.
    pub percent: i32,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// What to do next about a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask for it.
    Take,
    /// Look again; this is how far it is.
    Wait(String),
    /// It is there.
    Available,
    /// It will not be there, and why.
    Fail(String),
    /// What has its name is somebody else's.
    Refuse,
}

/// Decides what to do next about the snapshot of a server with this identifier, which should have these tags.
#[must_use]
pub fn next_action(found: Option<&Snapshot>, of: &str, tags: &BTreeMap<String, String>) -> Action {
    let Some(found) = found else { return Action::Take };
    let is_ours = found.of == of && tags.iter().all(|(key, value)| found.tags.get(key) == Some(value));
    let status = found.status.as_str();
    match status {
        _ if !is_ours => Action::Refuse,
        "available" => Action::Available,
        "failed" | "deleting" | "deleted" => Action::Fail(format!("RDS says it is `{status}`")),
        _ if status.starts_with("incompatible") => Action::Fail(format!("RDS says it is `{status}`")),
        _ => Action::Wait(format!("it is `{status}`, {} % of it", found.percent)),
    }
}

/// The servers that a service uses.
#[must_use]
pub fn servers(service: &Service) -> BTreeSet<ComponentName> {
    let server = |reference: &Reference| match reference {
        Reference::Database { name, .. } => Some(name.clone()),
        _ => None,
    };
    databases::references(service).filter_map(server).collect()
}

/// The name of a release's snapshot of a server. That of a cluster has 63 characters at most, lower case, and this 54.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBClusterSnapshot.html>
#[must_use]
pub fn name(release: &ReleaseId, server: &ComponentName) -> String {
    format!("shipway-{release}-{server}").to_ascii_lowercase()
}

/// The tags of a release's snapshots.
#[must_use]
pub fn tags_of(run: &Run) -> BTreeMap<String, String> {
    let mut tags = tags(&run.app, &run.environment, &run.component);
    tags.insert("shipway:release".to_owned(), run.release.to_string());
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(status: &str) -> Snapshot {
        let tags = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("more".to_owned(), "x".to_owned())]);
        Snapshot { of: "db".to_owned(), status: status.to_owned(), percent: 40, tags }
    }

    #[test]
    fn a_snapshot_is_asked_for_waited_for_and_taken_only_for_what_it_is() {
        let tags = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let decide = |found: Option<&Snapshot>| next_action(found, "db", &tags);
        assert_eq!(decide(None), Action::Take);
        assert_eq!(decide(Some(&found("available"))), Action::Available);
        assert_eq!(decide(Some(&found("creating"))), Action::Wait("it is `creating`, 40 % of it".to_owned()));
        for status in ["failed", "deleting", "incompatible-restore"] {
            assert_eq!(decide(Some(&found(status))), Action::Fail(format!("RDS says it is `{status}`")));
        }
        assert_eq!(next_action(Some(&found("available")), "other", &tags), Action::Refuse);
        assert_eq!(decide(Some(&Snapshot { tags: BTreeMap::new(), ..found("available") })), Action::Refuse);
    }

    #[test]
    fn the_longest_name_is_one_that_rds_takes() {
        let name = name(&"20261121T031542123-3F9C2A".parse().unwrap(), &"abcdefghij-abcdefghi".parse().unwrap());
        assert_eq!(name, "shipway-20261121t031542123-3f9c2a-abcdefghij-abcdefghi");
        assert!(name.len() <= 63 && !name.contains("--"));
    }

    #[test]
    fn it_is_waited_for_six_hours() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let pause = |seconds| Progress::new(at(0)).pause(at(seconds));
        assert_eq!([pause(0), pause(60), pause(21_599), pause(21_600)], [Some(5), Some(20), Some(20), None]);
    }
}
