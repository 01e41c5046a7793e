//! `cargo xtask crash`: the tests that cut functions off at their calls to AWS, and what they tried, by package.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};

use crate::functions::stage_functions;
use crate::run::openly;
use crate::test::for_local_cloud;
use crate::tools;
use crate::workspace::{Workspace, cargo};

/// What the tests of a package tried: how many tests, and how many points of each kind.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
struct Tried<'a> {
    tests: usize,
    kinds: BTreeMap<&'a str, u64>,
}

/// Runs them. Each story is told with something becoming of one call, for each of its calls and each kind (`shipway_aws::testing::Cut`);
/// and with so many pairs, drawn by lot.
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
    let seed = drawn(seed);
    println!("pairs are drawn with --seed {seed}");
    let tested = openly(tests.env("SHIPWAY_CRASH_SEED", seed.to_string()));

    let text =
        std::fs::read_to_string(&report).with_context(|| format!("{}: no test told anything", report.display()))?;
    let found = read(&text);
    ensure!(!found.1.is_empty(), "{}: no test told anything", report.display());
    print!("{}", table(&found));
    tested
}

/// Stands the five systems up and tears them down in the local cloud, while calls of their functions break off by lot and functions
/// die; tells of each how many did.
pub(crate) fn systems(seed: Option<u64>) -> anyhow::Result<()> {
    let (tools, workspace, seed) = (tools::setup()?, Workspace::find()?, drawn(seed));
    stage_functions(&workspace, true)?;
    println!("calls break off by --seed {seed}");
    let mut tests = cargo();
    tests.args(["test", "--quiet", "--workspace", "--test", "systems", "--", "--nocapture"]);
    openly(for_local_cloud(&mut tests, &tools, &workspace)?.env("SHIPWAY_CRASH_SEED", seed.to_string()))
}

/// The lot of a run: the one that is named, or another one each second.
fn drawn(seed: Option<u64>) -> u64 {
    seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()))
}

/// By package; the lines of one test are added up. The kinds are in the order in which they are told first.
fn read(report: &str) -> (Vec<&str>, BTreeMap<&str, Tried<'_>>) {
    let mut kinds: Vec<&str> = Vec::new();
    let mut found: BTreeMap<&str, (Tried<'_>, BTreeSet<&str>)> = BTreeMap::new();
    for line in report.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [package, test, kind, count] = words.as_slice() else { continue };
        let Ok(count) = count.parse::<u64>() else { continue };
        if !kinds.contains(kind) {
            kinds.push(kind);
        }
        let (tried, tests) = found.entry(package).or_default();
        tests.insert(test);
        *tried.kinds.entry(kind).or_default() += count;
    }
    let found = found.into_iter().map(|(package, (tried, tests))| (package, Tried { tests: tests.len(), ..tried }));
    (kinds, found.collect())
}

/// A line for each package, a column for each kind, and the sums.
fn table((kinds, found): &(Vec<&str>, BTreeMap<&str, Tried<'_>>)) -> String {
    let line = |name: &str, tests: &str, counts: &[String]| {
        let counts: String = counts.iter().map(|count| format!(" {count:>11}")).collect();
        format!("{name:<20} {tests:>6}{counts}\n")
    };
    let of = |tried: &Tried<'_>| {
        kinds.iter().map(|kind| tried.kinds.get(*kind).copied().unwrap_or_default()).collect::<Vec<_>>()
    };
    let told = |counts: Vec<u64>| counts.iter().map(u64::to_string).collect::<Vec<_>>();
    let mut text = line("", "tests", &kinds.iter().map(|kind| (*kind).to_owned()).collect::<Vec<_>>());
    let mut sums = (0, vec![0; kinds.len()]);
    for (package, tried) in found {
        text += &line(package, &tried.tests.to_string(), &told(of(tried)));
        sums.0 += tried.tests;
        sums.1.iter_mut().zip(of(tried)).for_each(|(sum, count)| *sum += count);
    }
    text + &line("", &sums.0.to_string(), &told(sums.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tests_of_a_package_tried_is_added_up() {
        let found = read(
            "deploy-service a after 10\ndeploy-service a pairs 5\ndeploy-service b after 2\nbroken\ndeploy-service a after 1\nsync-frontend c after 4\n",
        );
        let of = |tests, kinds: &[(&'static str, u64)]| Tried { tests, kinds: kinds.iter().copied().collect() };
        assert_eq!(found.0, ["after", "pairs"]);
        let packages =
            [("deploy-service", of(2, &[("after", 13), ("pairs", 5)])), ("sync-frontend", of(1, &[("after", 4)]))];
        assert_eq!(found.1, packages.into());
        let table = table(&found);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected: [&[&str]; 4] = [
            &["tests", "after", "pairs"],
            &["deploy-service", "2", "13", "5"],
            &["sync-frontend", "1", "4", "0"],
            &["3", "17", "5"],
        ];
        assert_eq!(lines, expected);
    }
}
