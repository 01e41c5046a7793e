//! Services whose requests ECS moves between two target groups.
//!
//! ECS changes the weights of their rules with each rollout, and after it either group may be the one that serves. So nobody but ECS
//! says what the weights are, and the second group stays for as long as the service does, whatever its strategy is later.

use std::collections::BTreeMap;

use super::{Observed, ObservedStack, Value, Wish};
use crate::{manifest::Service, name::ComponentName};

/// The type of a rule.
const LISTENER_RULE: &str = "AWS::ElasticLoadBalancingV2::ListenerRule";

/// The property of a rule that has its weights.
const ACTIONS: &str = "Actions";

/// All of a service's requests, as the load balancer weighs them.
const ALL: u32 = 100;

/// A rule of service.yaml whose weights ECS changes: what it is called there, which is its output's name too, and the parameters that
/// say the weights of the first target group and of the second.
struct Weighed {
    rule: &'static str,
    primary: &'static str,
    alternate: &'static str,
}

const RULE: Weighed = Weighed { rule: "Rule", primary: "PrimaryWeight", alternate: "AlternateWeight" };
const TEST_RULE: Weighed = Weighed { rule: "TestRule", primary: "TestPrimaryWeight", alternate: "TestAlternateWeight" };

/// What a rule sends where: target groups with their weights, by ARN.
pub type Weights = BTreeMap<String, u32>;

impl ObservedStack {
    /// Whether it has what ECS needs to move a service's requests.
    pub(super) fn shifts(&self) -> bool {
        let asked = self.parameters.get("Shifts").is_some_and(|shifts| shifts == "true");
        asked && self.outputs.contains_key("AlternateTargetGroup")
    }

    /// Whether it has a rule for tests.
    pub(super) fn has_test_rule(&self) -> bool {
        let asked = self.parameters.get("TestHeader").is_some_and(|header| !header.is_empty());
        asked && self.shifts() && self.outputs.contains_key(TEST_RULE.rule)
    }

    fn weighed(&self) -> impl Iterator<Item = (&'static Weighed, &str)> {
        let rules: &'static [Weighed] = const { &[RULE, TEST_RULE] };
        let there = |weighed: &&Weighed| match weighed.rule == RULE.rule {
            true => self.shifts(),
            false => self.has_test_rule(),
        };
        let arn = |weighed: &'static Weighed| Some((weighed, self.outputs.get(weighed.rule)?.as_str()));
        rules.iter().filter(there).filter_map(arn)
    }

    /// The ARNs of the rules whose weights ECS changes; none of any other stack than such a service's.
    pub fn weighed_rules(&self) -> Vec<String> {
        self.weighed().map(|(_, arn)| arn.to_owned()).collect()
    }

    /// The parameters that say other weights than the rules have now, and what they have. A rule that is gone keeps what is said.
    pub fn moved(&self, rules: &BTreeMap<String, Weights>) -> BTreeMap<String, String> {
        let group = |output: &str| self.outputs.get(output).map(String::as_str).unwrap_or_default();
        let (primary, alternate) = (group("TargetGroup"), group("AlternateTargetGroup"));
        let now = self.weighed().filter_map(|(weighed, arn)| {
            let weights = rules.get(arn)?;
            let weight = |group| weights.get(group).copied().unwrap_or_default();
            let (first, second) = match (weight(primary), weight(alternate)) {
                // It sends requests elsewhere, or nowhere: nothing that ECS would do.
                (0, 0) => return None,
                (_, 0) => (ALL, 0),
                (0, _) => (0, ALL),
                both => both,
            };
            Some([(weighed.primary, first), (weighed.alternate, second)])
        });
        let differs = |(parameter, weight): &(&str, u32)| self.parameters.get(*parameter) != Some(&weight.to_string());
        now.flatten().filter(differs).map(|(parameter, weight)| (parameter.to_owned(), weight.to_string())).collect()
    }

    /// Whether what differs in a resource is only what ECS changes in it. `properties` are names or paths.
    pub(super) fn is_ecs_own(&self, resource: &str, resource_type: &str, properties: &[String]) -> bool {
        let weighed = resource_type == LISTENER_RULE && self.weighed().any(|(weighed, _)| weighed.rule == resource);
        // `Actions`, `/Actions/0/ForwardConfig/…`, `/Properties/Actions/…`.
        let of_actions = |path: &String| {
            let path = path.trim_start_matches('/');
            path.strip_prefix("Properties/").unwrap_or(path).split('/').next() == Some(ACTIONS)
        };
        weighed && !properties.is_empty() && properties.iter().all(of_actions)
    }
}

impl Wish<'_> {
    /// Whether a service has or gets what ECS needs to move its requests.
    pub(super) fn shifts(&self, name: &ComponentName, service: &Service, observed: &Observed) -> bool {
        let stands = || observed.get(&self.names().service(name)).is_some_and(ObservedStack::shifts);
        service.http.is_some() && (service.rollout.shifts() || stands())
    }

    /// Whether it has or gets a rule for its tests.
    pub(super) fn has_test_rule(&self, name: &ComponentName, service: &Service, observed: &Observed) -> bool {
        let stands = || observed.get(&self.names().service(name)).is_some_and(ObservedStack::has_test_rule);
        service.http.is_some() && (service.rollout.test_traffic || stands())
    }
}

/// The weights of a service's rules: those that there are, and at first all requests for the first target group. A rule of tests that
/// comes later begins with what everybody gets.
pub(super) fn weights(observed: Option<&ObservedStack>) -> [(&'static str, Value); 4] {
    let of_tests = match observed.is_some_and(ObservedStack::has_test_rule) {
        true => TEST_RULE,
        false => RULE,
    };
    let kept = |parameter, first: u32| Value::Kept { parameter, first };
    [
        (RULE.primary, kept(RULE.primary, ALL)),
        (RULE.alternate, kept(RULE.alternate, 0)),
        (TEST_RULE.primary, kept(of_tests.primary, ALL)),
        (TEST_RULE.alternate, kept(of_tests.alternate, 0)),
    ]
}

#[cfg(test)]
mod tests;
