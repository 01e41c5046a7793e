//! The order of the load balancer's rules: the more specific path first, whoever came when.
//!
//! A rule's priority is a function of its own path and whether it has a host, so a new service moves no other's. Only among paths that are equally
//! specific is there a choice, and there what stands keeps its place.

use std::collections::{BTreeMap, BTreeSet};

use super::PlanError;
use crate::{manifest::Spec, name::ComponentName};

/// The longest path pattern a listener rule takes. The manifest refuses longer ones.
const MOST_CHARACTERS: u32 = 128;

/// Places for each length of path, once for rules with a host and once for those without: 2 × 128 × 195 is just below 50,000, the
/// highest priority there is.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateRule.html>
const PER_LENGTH: u32 = 195;

/// The priority of the load balancer's own rule, in its blueprint.
const OWN: u32 = 1;

/// Places for paths without a wildcard and for those with one star, among those of one length: as many as an app has services, and
/// more. What is left goes to the nineteen rarer shapes.
const PLAIN: u32 = 48;
const ONE_STAR: u32 = 71;
const RARE: u32 = 4;
const RARE_SHAPES: u32 = (PER_LENGTH - PLAIN - ONE_STAR) / RARE;

/// The priorities that are right for a rule: any of them comes before those of every rule that covers more. A rule with a host comes
/// before all without one; two hosts have nothing in common, as none has a wildcard.
///
/// If one pattern matches only what another matches too, its shortest match is at least as long; if equally long, it has at
/// most as many `?`; if equally many, at most as many stars. So this order never puts the wider pattern first.
fn places(path: &str, with_host: bool) -> std::ops::Range<u32> {
    let mut stars: u32 = 0;
    let mut questions: u32 = 0;
    let mut shortest: u32 = 0;
    let mut previous = None;
    for c in path.chars() {
        match c {
            '*' if previous == Some('*') => {}
            '*' => stars += 1,
            '?' => {
                questions += 1;
                shortest += 1;
            }
            _ => shortest += 1,
        }
        previous = Some(c);
    }
    let length = MOST_CHARACTERS.saturating_sub(shortest) + if with_host { 0 } else { MOST_CHARACTERS };
    let first = length * PER_LENGTH + 1;
    match (questions, stars) {
        (0, 0) => first..first + PLAIN,
        (0, 1) => first + PLAIN..first + PLAIN + ONE_STAR,
        // Without a `?` two to five stars, with one up to four, and so on: a rule takes no more than five wildcards.
        (questions, stars) => {
            let before: u32 = (1..questions.min(6)).map(|questions| 6 - questions).sum();
            let shape =
                if questions == 0 { stars.min(5) - 2 } else { 4 + before + stars.min(5u32.saturating_sub(questions)) };
            let start = first + PLAIN + ONE_STAR + shape.min(RARE_SHAPES - 1) * RARE;
            start..start + RARE
        }
    }
}

/// The priorities of a service's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Priorities {
    /// Its own rule's.
    pub(super) rule: u32,
    /// That of the rule for its tests, where it has one.
    pub(super) test_rule: Option<u32>,
}

/// What a service has now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    /// The path of its rules.
    pub(super) path: &'a str,
    /// The priority of its own.
    pub(super) rule: u32,
    /// That of the rule for its tests, where it has one.
    pub(super) test_rule: Option<u32>,
}

/// The priorities of each service with `http`. `standing` says what a service has now, `tested` whether it has a rule for its tests.
pub(super) fn of_services<'a>(
    spec: &Spec,
    standing: impl Fn(&ComponentName) -> Option<Standing<'a>>,
    tested: impl Fn(&ComponentName) -> bool,
) -> Result<BTreeMap<ComponentName, Priorities>, PlanError> {
    let mut priorities = BTreeMap::new();
    let mut taken = BTreeSet::from([OWN]);
    let with_http =
        || spec.services.iter().filter_map(|(name, service)| service.http.as_ref().map(|http| (name, http)));
    for (name, http) in with_http() {
        if let Some(Standing { path, rule, .. }) = standing(name)
            && path == http.path
            && places(path, http.host.is_some()).contains(&rule)
            && taken.insert(rule)
        {
            priorities.insert(name.clone(), rule);
        }
    }
    // What another service's rule holds now is free only once that service's stack was updated.
    let held = with_http().filter_map(|(name, _)| standing(name));
    taken.extend(held.flat_map(|held| [Some(held.rule), held.test_rule]).flatten());
    for (name, http) in with_http() {
        if priorities.contains_key(name) {
            continue;
        }
        let places = places(&http.path, http.host.is_some());
        let count = places.end - places.start;
        let start = spread(&http.path) % count;
        let free =
            (0..count).map(|offset| places.start + (start + offset) % count).find(|place| !taken.contains(place));
        let Some(priority) = free else {
            return Err(PlanError::TooManyPaths { service: name.clone(), path: http.path.clone() });
        };
        taken.insert(priority);
        priorities.insert(name.clone(), priority);
    }
    // What is free goes to all services' own rules first.
    let mut all = BTreeMap::new();
    for (name, http) in with_http() {
        let rule = priorities[name];
        let test_rule = match tested(name) {
            true => Some(
                before(rule, standing(name), &mut taken)
                    .ok_or_else(|| PlanError::TooManyPaths { service: name.clone(), path: http.path.clone() })?,
            ),
            false => None,
        };
        all.insert(name.clone(), Priorities { rule, test_rule });
    }
    Ok(all)
}

/// The priority of the rule for a service's tests: before its own, which takes the same requests and more, and as near to that as is
/// free, so that among the others it stands where that does. Where its own keeps its place, it does too.
fn before(rule: u32, standing: Option<Standing<'_>>, taken: &mut BTreeSet<u32>) -> Option<u32> {
    let kept = standing.filter(|standing| standing.rule == rule).and_then(|standing| standing.test_rule);
    let priority = kept
        .filter(|kept| *kept < rule)
        .or_else(|| (OWN + 1..rule).rev().find(|priority| !taken.contains(priority)))?;
    taken.insert(priority);
    Some(priority)
}

fn spread(path: &str) -> u32 {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(path.as_bytes());
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_more_specific_path_comes_first() {
        let table = [
            ("/api/*", "/*"),
            ("/api/health", "/api/*"),
            ("/api", "/api*"),
            ("/api/v?/users", "/api/*"),
            ("/api", "/ap?"),
            ("/a*b", "/a*b*"),
            ("/a?", "/a?*"),
            ("/??*", "/*"),
            ("/a?*", "/??*"),
        ];
        for (narrow, wide) in table {
            for with_host in [true, false] {
                assert!(places(narrow, with_host).end <= places(wide, with_host).start, "{narrow} {wide}");
            }
        }
    }

    #[test]
    fn a_rule_with_a_host_comes_before_every_one_without() {
        let longest = format!("/{}", "x".repeat(127));
        assert!(places("/*", true).end <= places(&longest, false).start);
    }

    #[test]
    fn all_priorities_are_possible() {
        let longest = format!("/{}", "x".repeat(127));
        for path in ["/", "/*", "/**", "/?????", "/?*?*?*?*?*", "/*a*b*c*d*e*", longest.as_str()] {
            for with_host in [true, false] {
                let places = places(path, with_host);
                assert!(places.start >= 1 && places.end <= 50_001, "{path} {places:?}");
            }
        }
    }

    proptest! {
        /// A pattern that matches everything of another's shortest and longer matches never stands before it.
        #[test]
        fn a_wider_pattern_never_comes_first(wide in "/[ab?*]{0,5}", steps in prop::collection::vec(0u8..4, 6)) {
            // Narrow the pattern by filling in some of its wildcards.
            let mut steps = steps.into_iter().cycle();
            let narrow: String = wide.chars().map(|c| match (c, steps.next()) {
                ('?', Some(0)) => "a".to_owned(),
                ('*', Some(0)) => String::new(),
                ('*', Some(1)) => "b*".to_owned(),
                ('*', Some(2)) => "?".to_owned(),
                _ => c.to_string(),
            }).collect();
            prop_assume!(wildcards(&wide) <= 5 && wildcards(&narrow) <= 5);
            let (narrow_places, wide_places) = (places(&narrow, false), places(&wide, false));
            prop_assert!(narrow_places.end <= wide_places.start || narrow_places == wide_places, "{narrow} {wide}");
        }
    }

    fn wildcards(path: &str) -> usize {
        path.matches(['*', '?']).count()
    }
}
