//! The tables.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use local_cloud::{
    faults::{Call, Fault},
    limits::Limit,
};
use shipway_domain::{
    name::Component,
    release::{Outcome, ReleaseRecord},
};

use crate::{
    checks::{Found, taken_in},
    stage::Delivered,
};

/// How long things took, from the moment when the artifact was sent.
pub(crate) fn latencies(delivered: &[Delivered], found: &Found) {
    let is_service = |one: &&Delivered| matches!(one.to.component, Component::Service(_));
    let taken = |one: &Delivered| found.of(&one.artifact).and_then(taken_in).map(|at| seconds(one.at, at));
    let live = |one: &Delivered| {
        let release = found.of(&one.artifact).filter(|release| release.outcome.is_some_and(Outcome::is_live))?;
        release.ended_at.map(|at| seconds(one.at, at))
    };
    // Its own release, or one of what was taken in later.
    let overtaken = |one: &Delivered| {
        let own = |release: &&ReleaseRecord| release.app == one.to.place.app && release.component == one.to.component;
        let ended = found.releases.iter().filter(own).filter(|release| {
            release.outcome.is_some_and(Outcome::is_live) && taken_in(release).is_some_and(|taken| taken >= one.at)
        });
        ended.filter_map(|release| release.ended_at).min().map(|at| seconds(one.at, at))
    };
    let (services, sites): (Vec<&Delivered>, Vec<&Delivered>) = delivered.iter().partition(is_service);
    let ignored = delivered.iter().filter(|one| found.of(&one.artifact).is_none()).count();
    println!(
        "{} executions; {ignored} artifacts were older than what was wanted when their event came",
        found.executions
    );
    println!("\n| seconds from being sent until | number | p50 | p95 | most |\n|---|---|---|---|---|");
    row("an artifact is taken in", delivered.iter().filter_map(taken));
    row("a push is recorded as serving", services.iter().copied().filter_map(live));
    row("a push, or one that came after it, is", services.iter().copied().filter_map(overtaken));
    row("a zip is recorded as published", sites.iter().copied().filter_map(live));
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

fn row(what: &str, figures: impl Iterator<Item = f64>) {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    let at =
        |share: f64| sorted.get((sorted.len() as f64 * share) as usize).or(sorted.last()).copied().unwrap_or_default();
    println!("| {what} | {} | {:.1} | {:.1} | {:.1} |", sorted.len(), at(0.5), at(0.95), at(1.0));
}

/// The calls of functions that take from one bucket.
#[derive(Default)]
struct Taken {
    operations: BTreeSet<String>,
    times: Vec<Instant>,
    throttled: usize,
    sweep: usize,
    rollout: usize,
    publication: usize,
}

/// What each bucket gave, in all, in its busiest second, and to one of each kind.
pub(crate) fn calls(all: &[Call], sweep: &[Call], rollout: &[Call], publication: &[Call]) {
    let mut buckets: BTreeMap<String, (Option<&Limit>, Taken)> = BTreeMap::new();
    let mut count = |calls: &[Call], counts: fn(&mut Taken, &Call)| {
        for call in calls.iter().filter(|call| call.caller.is_some()) {
            let limit = Limit::of(&call.operation);
            let name = match limit {
                Some(limit) if !limit.each => format!("{} {}", limit.service, limit.operations.join(" ")),
                _ => format!("{} {}", call.operation.service, call.operation.name),
            };
            let (_, taken) = buckets.entry(name).or_insert_with(|| (limit, Taken::default()));
            let name = match call.operation.name.split_once(" /") {
                Some((method, _)) => method,
                None => &call.operation.name,
            };
            taken.operations.insert(name.to_owned());
            counts(taken, call);
        }
    };
    count(all, |taken, call| {
        taken.times.push(call.at);
        taken.throttled += usize::from(call.fault == Some(Fault::Throttle));
    });
    count(sweep, |taken, _| taken.sweep += 1);
    count(rollout, |taken, _| taken.rollout += 1);
    count(publication, |taken, _| taken.publication += 1);

    println!(
        "\n| calls of functions | calls | most in a second | bucket, back in a second | throttled | one sweep | one publication | one rollout | rollouts a minute |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, (limit, taken)) in &buckets {
        let service = name.split(' ').next().unwrap_or_default();
        let operations: Vec<&str> = taken.operations.iter().map(String::as_str).collect();
        let bucket = limit.map_or("–".to_owned(), |limit| format!("{}, {}", limit.burst, limit.per_second));
        let rollouts = match (limit, taken.rollout) {
            (Some(limit), 1..) => format!("{:.0}", limit.per_second * 60.0 / taken.rollout as f64),
            _ => String::new(),
        };
        println!(
            "| {service} {} | {} | {} | {bucket} | {} | {} | {} | {} | {rollouts} |",
            operations.join(", "),
            taken.times.len(),
            most_in_a_second(&taken.times),
            taken.throttled,
            taken.sweep,
            taken.publication,
            taken.rollout,
        );
    }
}

/// The most of these moments within one second; they are in order.
fn most_in_a_second(times: &[Instant]) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in times.iter().enumerate() {
        while at.duration_since(times[first]) >= Duration::from_secs(1) {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}
