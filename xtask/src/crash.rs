//! `cargo xtask crash`: the tests that cut functions off at their calls to AWS, and what they tried, by package.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};

use crate::run::openly;
use crate::workspace::{Workspace, cargo};

/// What the tests of a package tried.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct Tried {
    tests: u64,
    cuts: u64,
    pairs: u64,
}

/// Runs them. Each story is told with one call lost, for each of its calls, before its effect and after it; and with so many pairs of
/// calls lost, drawn by lot.
pub(crate) fn crash(pairs: u64, seed: Option<u64>) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    let report = workspace.target.join("crash-points.txt");
    if report.exists() {
        std::fs::remove_file(&report)?;
    }
    let packages: Vec<_> = workspace.functions.iter().map(|function| format!("package({function})")).collect();
    let mut tests = cargo();
    tests.current_dir(&workspace.root);
    tests.args(["nextest", "run", "--workspace", "--no-fail-fast", "-E"]);
    tests.arg(format!("package(shipway-aws) or {}", packages.join(" or ")));
    tests.env("SHIPWAY_CRASH_REPORT", &report).env("SHIPWAY_CRASH_PAIRS", pairs.to_string());
    let seed = seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()));
    println!("pairs are drawn with --seed {seed}");
    let tested = openly(tests.env("SHIPWAY_CRASH_SEED", seed.to_string()));

    let text =
        std::fs::read_to_string(&report).with_context(|| format!("{}: no test told anything", report.display()))?;
    let found = read(&text);
    ensure!(!found.is_empty(), "{}: no test told anything", report.display());
    println!("{:<20} {:>6} {:>8} {:>8}", "calls lost:", "tests", "one", "two");
    for (package, Tried { tests, cuts, pairs }) in &found {
        println!("{package:<20} {tests:>6} {cuts:>8} {pairs:>8}");
    }
    let sum = |of: fn(&Tried) -> u64| found.values().map(of).sum::<u64>();
    println!("{:<20} {:>6} {:>8} {:>8}", "", sum(|one| one.tests), sum(|one| one.cuts), sum(|one| one.pairs));
    tested
}

/// By package; the lines of one test are added up.
fn read(report: &str) -> BTreeMap<&str, Tried> {
    let mut found: BTreeMap<&str, (Tried, BTreeSet<&str>)> = BTreeMap::new();
    for line in report.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [package, test, cuts, pairs] = words.as_slice() else { continue };
        let (Ok(cuts), Ok(pairs)) = (cuts.parse::<u64>(), pairs.parse::<u64>()) else { continue };
        let (tried, tests) = found.entry(package).or_default();
        tests.insert(test);
        tried.cuts += cuts;
        tried.pairs += pairs;
    }
    found.into_iter().map(|(package, (tried, tests))| (package, Tried { tests: tests.len() as u64, ..tried })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tests_of_a_package_tried_is_added_up() {
        let found =
            read("deploy-service a 10 5\ndeploy-service b 2 5\ndeploy-service a 1 0\nbroken\nsync-frontend c 4 0\n");
        let of = |tests, cuts, pairs| Tried { tests, cuts, pairs };
        assert_eq!(found, [("deploy-service", of(2, 13, 10)), ("sync-frontend", of(1, 4, 0))].into());
    }
}
