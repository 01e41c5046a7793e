//! Drift: what differs between an environment and its records, as the last comparison found it.
//!
//! Comparing takes no claim and changes nothing. So a release that works on the platform meanwhile makes what is found
//! worthless, and the report says that instead.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    message::{Difference, Execution},
    release::ComponentState,
};

/// How many differences a report holds. A table's item has at most 400 KB.
pub const MOST_DIFFERENCES: usize = 200;

/// How many characters of one difference it holds.
pub const MOST_CHARACTERS: usize = 500;

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftStatus {
    /// All is as the records say.
    InSync,
    /// Something is not.
    Drifted,
    /// A release was at work: not known.
    Deploying,
}

impl DriftStatus {
    /// The words, for people.
    pub const fn words(self) -> &'static str {
        match self {
            DriftStatus::InSync => "in sync",
            DriftStatus::Drifted => "drifted",
            DriftStatus::Deploying => "deploying",
        }
    }
}

impl std::fmt::Display for DriftStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}

/// The last comparison of an environment: one item of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftReport {
    /// When it was written.
    pub at: Timestamp,
    /// The ARN of the execution that compared.
    pub execution: String,
    /// What it comes to.
    pub status: DriftStatus,
    /// Whether people are told of it.
    pub notify: bool,
    /// What differs, at most [`MOST_DIFFERENCES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// How many more differ.
    #[serde(default)]
    pub more: usize,
}

impl DriftReport {
    /// What it comes to, in one sentence.
    pub fn note(&self) -> String {
        match (self.status, self.differences.as_slice()) {
            (DriftStatus::InSync, _) => "all is as the records say".to_owned(),
            (DriftStatus::Deploying, _) => "a release was at work meanwhile; not compared".to_owned(),
            (DriftStatus::Drifted, differences) => {
                let told = differences.iter().take(5).map(|each| format!("{}: {}", each.of, each.what));
                let told = told.collect::<Vec<_>>().join("; ");
                match (differences.len() + self.more).saturating_sub(5) {
                    0 => told,
                    more => format!("{told}; and {more} more"),
                }
            }
        }
    }
}

/// Judges what an execution found, by the platform's state after it, whether the environment is torn down or about to be, and
/// the report before. Asked again by the same execution it answers the same: `None` where the report is that execution's
/// already, or a newer one's.
pub fn judge(
    before: Option<&DriftReport>,
    platform: &ComponentState,
    teardown: bool,
    execution: &Execution,
    mut differences: Vec<Difference>,
    now: Timestamp,
) -> Option<DriftReport> {
    if before.is_some_and(|before| before.execution == execution.arn || before.at > now) {
        return None;
    }
    let works = platform.claim.as_ref().is_some_and(|claim| claim.until > now);
    let worked = platform.live.as_ref().is_some_and(|live| live.since > execution.started_at);
    // A component that a release works on is not compared, and has not drifted.
    let compared = differences.len();
    differences.retain(|difference| difference.what != DriftStatus::Deploying.words());
    let status = if works || worked || teardown {
        differences.clear();
        DriftStatus::Deploying
    } else if !differences.is_empty() {
        DriftStatus::Drifted
    } else if compared > 0 {
        DriftStatus::Deploying
    } else {
        DriftStatus::InSync
    };
    differences.sort();
    differences.dedup();
    let more = differences.len().saturating_sub(MOST_DIFFERENCES);
    differences.truncate(MOST_DIFFERENCES);
    for difference in &mut differences {
        if let Some((end, _)) = difference.what.char_indices().nth(MOST_CHARACTERS) {
            difference.what.truncate(end);
            difference.what.push('…');
        }
    }
    let had_drifted = before.is_some_and(|before| before.status == DriftStatus::Drifted);
    let notify = status == DriftStatus::Drifted && !had_drifted;
    Some(DriftReport { at: now, execution: execution.arn.clone(), status, notify, differences, more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        name::ReleaseId,
        release::{Artifact, Claim, Live},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn execution(number: u8, started: i64) -> Execution {
        Execution { arn: format!("arn:{number}"), name: number.to_string(), started_at: at(started) }
    }

    fn differences(count: usize) -> Vec<Difference> {
        (0..count).map(|n| Difference { of: format!("stack {n:03}"), what: "ü".repeat(600) }).collect()
    }

    fn claimed(until: i64) -> ComponentState {
        let release = ReleaseId::of_execution("arn:1", at(0));
        let claim = Claim { release, fence: 1, until: at(until), committed: false };
        ComponentState { claim: Some(claim), ..ComponentState::default() }
    }

    fn live_since(second: i64) -> ComponentState {
        let release = ReleaseId::of_execution("arn:1", at(0));
        let live = Live { artifact: Artifact::Nothing, release, since: at(second) };
        ComponentState { live: Some(live), ..ComponentState::default() }
    }

    #[test]
    fn what_is_found_counts_only_where_no_release_worked_on_the_platform() {
        let table = [
            (ComponentState::default(), false, 0, DriftStatus::InSync),
            (ComponentState::default(), false, 1, DriftStatus::Drifted),
            (ComponentState::default(), true, 1, DriftStatus::Deploying),
            (claimed(30), false, 1, DriftStatus::Deploying),
            (claimed(20), false, 1, DriftStatus::Drifted),
            (live_since(11), false, 1, DriftStatus::Deploying),
            (live_since(10), false, 0, DriftStatus::InSync),
        ];
        for (platform, teardown, count, expected) in table {
            let report = judge(None, &platform, teardown, &execution(1, 10), differences(count), at(20)).unwrap();
            assert_eq!(report.status, expected, "{platform:?}");
            assert_eq!(report.notify, expected == DriftStatus::Drifted);
            assert_eq!(report.differences.is_empty(), expected != DriftStatus::Drifted);
        }
    }

    #[test]
    fn a_component_that_a_release_works_on_has_not_drifted() {
        let deploying = || Difference { of: "service/api".to_owned(), what: "deploying".to_owned() };
        let status = |found: Vec<Difference>| {
            let report = judge(None, &ComponentState::default(), false, &execution(1, 10), found, at(20)).unwrap();
            (report.status, report.notify, report.differences.len())
        };
        assert_eq!(status(vec![deploying()]), (DriftStatus::Deploying, false, 0));
        assert_eq!(status(vec![differences(1).remove(0), deploying()]), (DriftStatus::Drifted, true, 1));
    }

    #[test]
    fn people_are_told_when_it_drifted_and_not_again_while_it_stays_so() {
        let clean = ComponentState::default();
        let first = judge(None, &clean, false, &execution(1, 0), differences(1), at(1)).unwrap();
        let second = judge(Some(&first), &clean, false, &execution(2, 2), differences(3), at(3)).unwrap();
        let third = judge(Some(&second), &clean, false, &execution(3, 4), Vec::new(), at(5)).unwrap();
        let fourth = judge(Some(&third), &clean, false, &execution(4, 6), differences(1), at(7)).unwrap();
        assert_eq!([first.notify, second.notify, third.notify, fourth.notify], [true, false, false, true]);
    }

    #[test]
    fn an_execution_that_reports_twice_reports_once_and_a_late_one_does_not_hide_a_newer_report() {
        let clean = ComponentState::default();
        let first = judge(None, &clean, false, &execution(1, 0), differences(1), at(5)).unwrap();
        assert_eq!(judge(Some(&first), &clean, false, &execution(1, 0), differences(1), at(6)), None);
        assert_eq!(judge(Some(&first), &clean, false, &execution(2, 0), differences(1), at(4)), None);
    }

    #[test]
    fn a_report_is_never_too_large_and_says_what_it_leaves_out() {
        let clean = ComponentState::default();
        let mut found = differences(MOST_DIFFERENCES + 7);
        found.extend(differences(3));
        let report = judge(None, &clean, false, &execution(1, 0), found, at(5)).unwrap();
        assert_eq!((report.differences.len(), report.more), (MOST_DIFFERENCES, 7));
        assert!(report.differences.iter().all(|each| each.what.chars().count() == MOST_CHARACTERS + 1));
        assert!(report.note().ends_with("; and 202 more"), "{}", report.note());
    }
}
