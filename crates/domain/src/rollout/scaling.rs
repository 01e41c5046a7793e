//! How the number of a service's tasks follows the load: what Application Auto Scaling should have, and what it must be told.
//!
//! It is set when the release that asks for it serves, so it never works against a rollout that has still to prove itself; the
//! number of tasks is its own from then on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{manifest::Scale, message::Difference};

/// How the names of our policies begin. Others are left alone.
const PREFIX: &str = "shipway-";

/// How the number of tasks follows the load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// The fewest tasks.
    pub min: u32,
    /// The most tasks.
    pub max: u32,
    /// The policies, by name.
    pub policies: BTreeMap<String, Policy>,
}

/// What one policy keeps, by target tracking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What it goes by.
    pub metric: Metric,
    /// The value it keeps.
    pub target: u32,
    /// The pause after each change.
    pub cooldown_seconds: u32,
    /// Load balancer and target group, where it goes by requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// What a policy goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The average CPU use of its tasks, in percent.
    Cpu,
    /// The average memory use of its tasks, in percent.
    Memory,
    /// The requests per task and minute.
    Requests,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 3] = [Metric::Cpu, Metric::Memory, Metric::Requests];

    /// AWS's name.
    /// <https://docs.aws.amazon.com/autoscaling/application/APIReference/API_PredefinedMetricSpecification.html>
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Metric::Cpu => "ECSServiceAverageCPUUtilization",
            Metric::Memory => "ECSServiceAverageMemoryUtilization",
            Metric::Requests => "ALBRequestCountPerTarget",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Metric::Cpu => "cpu",
            Metric::Memory => "memory",
            Metric::Requests => "requests",
        }
    }
}

impl Scaling {
    /// What a manifest asks for. Policies that go by requests have no label yet.
    #[must_use]
    pub fn of(scale: &Scale) -> Scaling {
        let cooldown_seconds = scale.cooldown.seconds();
        let targets = [
            (Metric::Cpu, scale.cpu.map(u32::from)),
            (Metric::Memory, scale.memory.map(u32::from)),
            (Metric::Requests, scale.requests),
        ];
        let policies = targets.into_iter().filter_map(|(metric, target)| {
            let policy = Policy { metric, target: target?, cooldown_seconds, label: None };
            Some((format!("{PREFIX}{}", metric.word()), policy))
        });
        Scaling { min: scale.min, max: scale.max, policies: policies.collect() }
    }

    /// Whether a policy goes by the requests of a load balancer.
    #[must_use]
    pub fn needs_label(&self) -> bool {
        self.policies.values().any(|policy| policy.metric == Metric::Requests)
    }

    /// The same, with the label of the policies that go by requests.
    #[must_use]
    pub fn labelled(mut self, label: &str) -> Scaling {
        for policy in self.policies.values_mut().filter(|policy| policy.metric == Metric::Requests) {
            policy.label = Some(label.to_owned());
        }
        self
    }
}

impl std::fmt::Display for Scaling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {} tasks", self.min, self.max)?;
        for policy in self.policies.values() {
            write!(f, ", {} {}", policy.metric.word(), policy.target)?;
        }
        Ok(())
    }
}

/// The label of requests to a target group: the last parts of both ARNs.
/// <https://docs.aws.amazon.com/autoscaling/application/APIReference/API_PredefinedMetricSpecification.html>
#[must_use]
pub fn label(load_balancer: &str, target_group: &str) -> Option<String> {
    let (_, load_balancer) = load_balancer.split_once(":loadbalancer/")?;
    let (_, target_group) = target_group.split_once(":targetgroup/")?;
    Some(format!("{load_balancer}/targetgroup/{target_group}"))
}

/// What Application Auto Scaling has of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The fewest and the most tasks, where the service is registered.
    pub bounds: Option<(u32, u32)>,
    /// The policies, by name; those that are none of the kind that Shipway makes have nothing.
    pub policies: BTreeMap<String, Option<Policy>>,
}

/// What Application Auto Scaling must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Register the service with these bounds, or change them.
    Register {
        /// The fewest tasks.
        min: u32,
        /// The most tasks.
        max: u32,
    },
    /// Make a policy, or make it anew.
    Put {
        /// Its name.
        name: String,
        /// What it keeps.
        policy: Policy,
    },
    /// Delete a policy.
    Delete {
        /// Its name.
        name: String,
    },
    /// Forget the service. Its policies go with it.
    Deregister,
}

/// What must be told, in this order; nothing where all is as it should be.
#[must_use]
pub fn changes(wanted: Option<&Scaling>, observed: &Observed) -> Vec<Change> {
    let Some(wanted) = wanted else {
        return observed.bounds.map(|_| Change::Deregister).into_iter().collect();
    };
    let mut changes = Vec::new();
    if observed.bounds != Some((wanted.min, wanted.max)) {
        changes.push(Change::Register { min: wanted.min, max: wanted.max });
    }
    for (name, policy) in &wanted.policies {
        if observed.policies.get(name) != Some(&Some(policy.clone())) {
            changes.push(Change::Put { name: name.clone(), policy: policy.clone() });
        }
    }
    for name in observed.policies.keys() {
        if name.starts_with(PREFIX) && !wanted.policies.contains_key(name) {
            changes.push(Change::Delete { name: name.clone() });
        }
    }
    changes
}

/// The changes that would be needed, as differences.
pub(super) fn differences(of: &str, wanted: Option<&Scaling>, observed: &Observed) -> Vec<Difference> {
    let what = |change: Change| match change {
        Change::Register { min, max } => match observed.bounds {
            Some((least, most)) => format!("it scales between {least} and {most} tasks, not {min} and {max}"),
            None => format!("nothing scales it between {min} and {max} tasks"),
        },
        Change::Put { name, policy } if observed.policies.contains_key(&name) => {
            format!(
                "the scaling policy `{name}` is not the one that keeps {} at {}",
                policy.metric.word(),
                policy.target
            )
        }
        Change::Put { name, .. } => format!("the scaling policy `{name}` is not there"),
        Change::Delete { name } => format!("the scaling policy `{name}` should not be there"),
        Change::Deregister => "it is scaled, and should not be".to_owned(),
    };
    changes(wanted, observed).into_iter().map(|change| Difference { of: of.to_owned(), what: what(change) }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::Timeout;

    fn scale(cpu: Option<u8>, memory: Option<u8>, requests: Option<u32>) -> Scale {
        Scale { min: 2, max: 10, cpu, memory, requests, cooldown: Timeout::of(300) }
    }

    fn apply(observed: &mut Observed, change: Change) {
        match change {
            Change::Register { min, max } => observed.bounds = Some((min, max)),
            Change::Put { name, policy } => drop(observed.policies.insert(name, Some(policy))),
            Change::Delete { name } => drop(observed.policies.remove(&name)),
            Change::Deregister => *observed = Observed::default(),
        }
    }

    #[test]
    fn each_target_has_a_policy_of_its_own_with_one_pause_for_both_ways() {
        let scaling = Scaling::of(&scale(Some(70), Some(80), None));
        assert_eq!((scaling.min, scaling.max), (2, 10));
        let cpu = &scaling.policies["shipway-cpu"];
        assert_eq!((cpu.metric.name(), cpu.target, cpu.cooldown_seconds), ("ECSServiceAverageCPUUtilization", 70, 300));
        assert_eq!(scaling.policies["shipway-memory"].metric.name(), "ECSServiceAverageMemoryUtilization");
        assert_eq!(scaling.policies.len(), 2);
        assert_eq!(scaling.to_string(), "2 to 10 tasks, cpu 70, memory 80");
    }

    #[test]
    fn requests_are_counted_by_the_last_parts_of_both_arns() {
        let arn = |rest: &str| format!("arn:aws:elasticloadbalancing:eu-west-1:123456789012:{rest}");
        let label = label(&arn("loadbalancer/app/hello-prod/778d"), &arn("targetgroup/api/943f")).unwrap();
        assert_eq!(label, "app/hello-prod/778d/targetgroup/api/943f");
        let scaling = Scaling::of(&scale(Some(70), None, Some(1000))).labelled(&label);
        assert_eq!(scaling.policies["shipway-requests"].label.as_deref(), Some(label.as_str()));
        assert_eq!(scaling.policies["shipway-cpu"].label, None);
    }

    #[test]
    fn a_strangers_policy_is_left_alone_and_a_service_that_nothing_scales_is_forgotten() {
        let scaling = Scaling::of(&scale(Some(70), None, None));
        let mut observed = Observed::default();
        changes(Some(&scaling), &observed).into_iter().for_each(|change| apply(&mut observed, change));
        observed.policies.insert("nightly".to_owned(), None);
        assert_eq!(changes(Some(&scaling), &observed), []);
        assert_eq!(changes(None, &observed), [Change::Deregister]);
        assert_eq!(changes(None, &Observed::default()), []);
    }

    proptest! {
        #[test]
        fn what_is_told_once_needs_no_telling_again(
            first in any::<(Option<u8>, Option<u8>, Option<u32>)>(), then in proptest::option::of(any::<(Option<u8>, Option<u8>, Option<u32>)>()),
            told in 0usize..6,
        ) {
            let of = |(cpu, memory, requests)| Scaling::of(&scale(cpu, memory, requests));
            let mut observed = Observed::default();
            // Cut off anywhere, it goes on from there.
            changes(Some(&of(first)), &observed).into_iter().take(told).for_each(|change| apply(&mut observed, change));
            let wanted = then.map(of);
            changes(wanted.as_ref(), &observed).into_iter().for_each(|change| apply(&mut observed, change));
            prop_assert_eq!(changes(wanted.as_ref(), &observed), []);
            let bounds = wanted.as_ref().map(|wanted| (wanted.min, wanted.max));
            prop_assert_eq!(observed.bounds, bounds);
            prop_assert_eq!(observed.policies.len(), wanted.map_or(0, |wanted| wanted.policies.len()));
        }
    }
}
