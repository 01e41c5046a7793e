//! Whether an image passes the gate that a manifest's `scan` is, by what ECR says of its scan.

use std::collections::BTreeMap;

use crate::manifest::{Scan, Severity};

/// How many findings are named; the rest is counted.
const NAMED: usize = 5;

/// What ECR says of an image's scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Where the scan is, in ECR's word; none where there is no scan.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageScanStatus.html>
    pub status: Option<String>,
    /// What ECR adds to it.
    pub description: Option<String>,
    /// How many findings of each severity there are; none where the answer has no findings, which is not the same as none found.
    pub counts: Option<BTreeMap<String, u32>>,
    /// The findings it lists, each with its severity: not all of them, where there are many.
    pub listed: Vec<Finding>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Its severity, in ECR's word.
    pub severity: String,
    /// Its name: `CVE-2021-44228`.
    pub name: String,
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ask again: the scan is not through, and there is time.
    Wait(String),
    /// The image may go live. Says why.
    Passes(String),
    /// It may not. Says what to do.
    Refused(String),
}

/// Decides.
#[must_use]
pub fn judge(gate: &Scan, production: bool, report: &Report, waited_seconds: i64) -> Verdict {
    let unknown = |why: &str| {
        let told = report.description.as_deref().map(|text| format!(" ({text})")).unwrap_or_default();
        if production {
            Verdict::Refused(format!(
                "ECR's scan does not say whether it is safe: {why}{told}; the environment is `production`, so it does not go \
                 live unjudged: scan it again in the repository, or leave `scan` out"
            ))
        } else {
            Verdict::Passes(format!(
                "the image goes live unjudged, as the environment is not `production`: {why}{told}"
            ))
        }
    };
    let wait = |what: &str| {
        if waited_seconds < i64::from(gate.wait.seconds()) {
            Verdict::Wait(format!("waiting for ECR's scan: {what}"))
        } else {
            unknown(&format!("within {} {what}", String::from(gate.wait)))
        }
    };
    let Some(status) = report.status.as_deref() else { return wait("there was no scan of it") };
    match status {
        "PENDING" | "IN_PROGRESS" => wait("the scan was not through"),
        "COMPLETE" | "ACTIVE" => match &report.counts {
            Some(counts) => found(gate, counts, &report.listed),
            // Said of a scan whose findings are still being written down.
            None => wait("the scan had no findings to show, not even that there are none"),
        },
        "FAILED" => unknown("the scan failed"),
        "UNSUPPORTED_IMAGE" => unknown("ECR cannot scan an image like it"),
        "SCAN_ELIGIBILITY_EXPIRED" => {
            unknown("the image is too old to be scanned any more, by the registry's own setting")
        }
        "FINDINGS_UNAVAILABLE" => unknown("the findings of the scan are not available"),
        "LIMIT_EXCEEDED" => unknown("a limit of ECR's scanning was reached"),
        // Whatever a scan said: nothing can pull it.
        "IMAGE_ARCHIVED" => Verdict::Refused(
            "it is archived, and an archived image cannot be pulled; restore it in the repository, or push it again"
                .to_owned(),
        ),
        other => unknown(&format!("the scan has the status {other}, which is not known here")),
    }
}

/// What ECR's word for a severity is among ours; none for findings that are informational or that nobody rated.
fn severity(word: &str) -> Option<Severity> {
    match word {
        "CRITICAL" => Some(Severity::Critical),
        "HIGH" => Some(Severity::High),
        "MEDIUM" => Some(Severity::Medium),
        "LOW" => Some(Severity::Low),
        _ => None,
    }
}

fn found(gate: &Scan, counts: &BTreeMap<String, u32>, listed: &[Finding]) -> Verdict {
    let blocks = |word: &str| severity(word).is_some_and(|severity| severity >= gate.block);
    // The counts are of all findings; where a list has more, it counts too.
    let mut blocking: BTreeMap<std::cmp::Reverse<Option<Severity>>, u32> = BTreeMap::new();
    for word in ["CRITICAL", "HIGH", "MEDIUM", "LOW"].into_iter().filter(|word| blocks(word)) {
        let in_list = listed.iter().filter(|finding| finding.severity == word).count();
        let count = counts.get(word).copied().unwrap_or(0).max(u32::try_from(in_list).unwrap_or(u32::MAX));
        if count > 0 {
            blocking.insert(std::cmp::Reverse(severity(word)), count);
        }
    }
    if blocking.is_empty() {
        return Verdict::Passes(format!("ECR's scan found nothing {}", bound(gate.block)));
    }
    let counted: Vec<String> =
        blocking.iter().filter_map(|(severity, count)| Some(format!("{count} {}", word(severity.0?)))).collect();
    let mut names: Vec<&Finding> = listed.iter().filter(|finding| blocks(&finding.severity)).collect();
    names.sort_by_key(|finding| (std::cmp::Reverse(severity(&finding.severity)), &finding.name));
    let mut names: Vec<&str> = names.into_iter().map(|finding| finding.name.as_str()).collect();
    names.dedup();
    let more = if names.len() > NAMED { ", …" } else { "" };
    names.truncate(NAMED);
    let named = if names.is_empty() { String::new() } else { format!(" ({}{more})", names.join(", ")) };
    Verdict::Refused(format!(
        "ECR's scan found {}{named}, and `scan.block` lets nothing {} go live; build it without them and push it again",
        counted.join(", "),
        bound(gate.block),
    ))
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

fn bound(block: Severity) -> String {
    if block == Severity::Critical { "critical".to_owned() } else { format!("{} or worse", word(block)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::Timeout;

    const ALL: [&str; 10] = [
        "IN_PROGRESS",
        "PENDING",
        "COMPLETE",
        "ACTIVE",
        "FAILED",
        "UNSUPPORTED_IMAGE",
        "SCAN_ELIGIBILITY_EXPIRED",
        "FINDINGS_UNAVAILABLE",
        "LIMIT_EXCEEDED",
        "IMAGE_ARCHIVED",
    ];

    fn gate(block: Severity) -> Scan {
        Scan { block, wait: Timeout::of(300) }
    }

    fn report(status: &str, counts: Option<&[(&str, u32)]>) -> Report {
        Report {
            status: (!status.is_empty()).then(|| status.to_owned()),
            counts: counts.map(|counts| counts.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()),
            ..Report::default()
        }
    }

    fn kind(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Wait(_) => "wait",
            Verdict::Passes(text) if text.contains("unjudged") => "unjudged",
            Verdict::Passes(_) => "passes",
            Verdict::Refused(_) => "refused",
        }
    }

    #[test]
    fn every_status_of_a_scan_has_its_verdict() {
        let none: Option<&[(&str, u32)]> = None;
        // At once, and once the time is over; each in an environment that is not production, and in one that is.
        for (status, counts, [at_once, at_once_in_production, late, late_in_production]) in [
            ("", none, ["wait", "wait", "unjudged", "refused"]),
            ("PENDING", none, ["wait", "wait", "unjudged", "refused"]),
            ("IN_PROGRESS", none, ["wait", "wait", "unjudged", "refused"]),
            ("COMPLETE", none, ["wait", "wait", "unjudged", "refused"]),
            ("ACTIVE", none, ["wait", "wait", "unjudged", "refused"]),
            ("COMPLETE", Some(&[]), ["passes"; 4]),
            ("ACTIVE", Some(&[("HIGH", 9), ("UNTRIAGED", 2)]), ["passes"; 4]),
            ("COMPLETE", Some(&[("CRITICAL", 1)]), ["refused"; 4]),
            ("ACTIVE", Some(&[("CRITICAL", 1)]), ["refused"; 4]),
            ("FAILED", none, ["unjudged", "refused", "unjudged", "refused"]),
            ("UNSUPPORTED_IMAGE", none, ["unjudged", "refused", "unjudged", "refused"]),
            ("SCAN_ELIGIBILITY_EXPIRED", none, ["unjudged", "refused", "unjudged", "refused"]),
            ("FINDINGS_UNAVAILABLE", none, ["unjudged", "refused", "unjudged", "refused"]),
            ("LIMIT_EXCEEDED", none, ["unjudged", "refused", "unjudged", "refused"]),
            ("SOMETHING_NEW", none, ["unjudged", "refused", "unjudged", "refused"]),
            ("IMAGE_ARCHIVED", none, ["refused"; 4]),
        ] {
            let given = report(status, counts);
            let verdict = |production, waited| judge(&gate(Severity::Critical), production, &given, waited);
            let found = [verdict(false, 299), verdict(true, 299), verdict(false, 300), verdict(true, 300)];
            let kinds = found.each_ref().map(kind);
            assert_eq!(kinds, [at_once, at_once_in_production, late, late_in_production], "{status}: {found:?}");
        }
    }

    #[test]
    fn what_is_refused_is_counted_and_named_the_worst_first() {
        let finding = |severity: &str, name: &str| Finding { severity: severity.to_owned(), name: name.to_owned() };
        let mut given = report("COMPLETE", Some(&[("HIGH", 7), ("CRITICAL", 1), ("MEDIUM", 30)]));
        given.listed = (1..=6).map(|n| finding("HIGH", &format!("CVE-{n}"))).collect();
        given.listed.push(finding("CRITICAL", "CVE-9"));
        given.listed.push(finding("MEDIUM", "CVE-0"));
        let expected = "ECR's scan found 1 critical, 7 high (CVE-9, CVE-1, CVE-2, CVE-3, CVE-4, …), and `scan.block` lets nothing \
                        high or worse go live; build it without them and push it again";
        assert_eq!(judge(&gate(Severity::High), false, &given, 0), Verdict::Refused(expected.to_owned()));
    }

    #[test]
    fn a_finding_that_is_listed_and_not_counted_blocks_too() {
        let listed = vec![Finding { severity: "CRITICAL".to_owned(), name: "CVE-1".to_owned() }];
        let given = Report { listed, ..report("ACTIVE", Some(&[])) };
        assert_eq!(kind(&judge(&gate(Severity::Critical), false, &given, 0)), "refused");
    }

    #[test]
    fn what_ecr_adds_is_told() {
        let given = Report { description: Some("no such layer".to_owned()), ..report("FAILED", None) };
        for production in [false, true] {
            let (Verdict::Passes(text) | Verdict::Refused(text)) = judge(&gate(Severity::Low), production, &given, 0)
            else {
                panic!()
            };
            assert!(text.contains("the scan failed (no such layer)"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_scan_says_what_is_bad_or_unjudged_never_goes_live_in_production(
            status in prop::option::of(prop::sample::select(&ALL[..])),
            counts in prop::option::of(prop::collection::btree_map(
                prop::sample::select(vec!["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNDEFINED"]), 0_u32..3, 0..5)),
            block in prop::sample::select(vec![Severity::Low, Severity::Medium, Severity::High, Severity::Critical]),
            waited in 0_i64..600,
        ) {
            let given = Report {
                status: status.map(str::to_owned),
                counts: counts.map(|counts| counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()),
                ..Report::default()
            };
            let is_clean = matches!(status, Some("COMPLETE" | "ACTIVE"))
                && given.counts.as_ref().is_some_and(|counts| counts.iter().all(|(word, count)|
                    *count == 0 || severity(word).is_none_or(|severity| severity < block)));
            let verdict = judge(&gate(block), true, &given, waited);
            prop_assert_eq!(matches!(verdict, Verdict::Passes(_)), is_clean, "{:?}", verdict);
            // The time is over: nothing waits for ever.
            prop_assert!(waited < 300 || !matches!(verdict, Verdict::Wait(_)));
        }
    }
}
