//! The capacity of a cluster: what its tasks run on. Made by ECS's API, because CloudFormation deletes a capacity provider
//! before what uses it lets go.

use std::collections::{BTreeMap, BTreeSet};

use super::{Names, Observed, Trouble, Wish};
use crate::{message::Difference, name::Component};

/// The providers that every account has.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-capacity-providers.html>
const FARGATE: &str = "FARGATE";
const FARGATE_SPOT: &str = "FARGATE_SPOT";

/// What a cluster's tasks should run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedCapacity {
    /// The cluster's name.
    pub cluster: String,
    /// The name of the environment's own provider, whether wanted or not.
    pub name: String,
    /// The Auto Scaling group of the environment's instances, by name or ARN, where it has any.
    pub group: Option<String>,
    /// The tags that say whose the provider is.
    pub tags: BTreeMap<&'static str, String>,
    /// Where a task goes whose service does not say.
    pub strategy: Vec<Share>,
}

/// A provider's part of a strategy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// The provider.
    pub provider: String,
    /// Its weight against the others'.
    pub weight: i32,
}

/// What ECS shows of a cluster's capacity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedCapacity {
    /// The cluster's providers.
    pub providers: BTreeSet<String>,
    /// Its strategy.
    pub strategy: Vec<Share>,
    /// Whether its providers are just being changed.
    pub attaching: bool,
    /// The environment's own provider, if it is there.
    pub own: Option<ObservedProvider>,
}

/// A provider as ECS shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedProvider {
    /// The ARN of its Auto Scaling group.
    pub group: String,
    /// Whether it is scaled as it should be: by ECS, to the last instance, without protecting instances, and moving the tasks of
    /// those that go.
    pub scaled: bool,
    /// Whether it is just being made, changed or deleted.
    pub moving: bool,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// What to do next about a cluster's capacity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CapacityStep {
    /// Make the provider on this group.
    Create(String),
    /// Set how it is scaled.
    Update,
    /// Give the cluster these providers and this strategy.
    Associate {
        /// The providers.
        providers: BTreeSet<String>,
        /// The strategy.
        strategy: Vec<Share>,
    },
    /// Delete the provider.
    Delete,
    /// Look again later.
    Wait,
    /// Nothing: it is what it should be.
    Done,
    /// Nothing: it needs a person.
    Halted(Trouble),
}

impl CapacityStep {
    /// What is done now, for the release's story; nothing where nothing is done.
    pub fn story(&self, wanted: &WantedCapacity) -> Option<String> {
        let WantedCapacity { cluster, name, .. } = wanted;
        match self {
            CapacityStep::Create(_) => Some(format!("creates the capacity provider {name}")),
            CapacityStep::Update => Some(format!("updates the capacity provider {name}")),
            CapacityStep::Associate { providers, .. } => {
                let providers: Vec<_> = providers.iter().map(String::as_str).collect();
                Some(format!("lets the cluster {cluster} use {}", providers.join(", ")))
            }
            CapacityStep::Delete => Some(format!("deletes the capacity provider {name}")),
            CapacityStep::Wait | CapacityStep::Done | CapacityStep::Halted(_) => None,
        }
    }
}

impl CapacityStep {
    /// What differs where this is the next step.
    pub fn difference(&self, wanted: &WantedCapacity) -> Option<Difference> {
        let provider = format!("capacity provider {}", wanted.name);
        let cluster = format!("cluster {}", wanted.cluster);
        let (of, what) = match self {
            CapacityStep::Done => return None,
            CapacityStep::Create(_) => (provider, "is not there".to_owned()),
            CapacityStep::Update => (provider, "is scaled in another way".to_owned()),
            CapacityStep::Delete => (provider, "is of another Auto Scaling group".to_owned()),
            CapacityStep::Associate { .. } => (cluster, "has other capacity providers or another strategy".to_owned()),
            CapacityStep::Wait => (cluster, "deploying: its capacity is changing".to_owned()),
            CapacityStep::Halted(trouble) => (provider, trouble.to_string()),
        };
        Some(Difference { of, what })
    }
}

impl Wish<'_> {
    /// What the cluster's tasks should run on, once the cluster and the instances stand.
    pub fn capacity(&self, observed: &Observed) -> Option<WantedCapacity> {
        let names = self.names();
        let cluster = observed.get(&names.cluster())?.outputs.get("Cluster")?.clone();
        let name = names.capacity_provider();
        let share = |provider: &str, weight: u8| Share { provider: provider.to_owned(), weight: i32::from(weight) };
        let (group, strategy) = match &self.spec.cluster.ec2 {
            Some(_) => {
                let group = observed.get(&names.instances())?.outputs.get("AutoScalingGroup")?.clone();
                (Some(group), vec![share(&name, 1)])
            }
            None => {
                let spot = self.spec.cluster.spot_percent().min(100);
                let mut strategy = vec![share(FARGATE, 100 - spot), share(FARGATE_SPOT, spot)];
                strategy.retain(|share| share.weight > 0);
                (None, strategy)
            }
        };
        Some(WantedCapacity { cluster, name, group, tags: self.tags(Component::Platform), strategy })
    }
}

impl WantedCapacity {
    /// The capacity of an environment that ends: its own provider goes, even if its cluster has gone already.
    pub fn none(names: Names<'_>, observed: &Observed) -> WantedCapacity {
        let cluster = observed.get(&names.cluster()).and_then(|stack| stack.outputs.get("Cluster")).cloned();
        let tags = BTreeMap::from([
            ("shipway:app", names.app.to_string()),
            ("shipway:environment", names.environment.to_string()),
        ]);
        WantedCapacity {
            cluster: cluster.unwrap_or_else(|| format!("{}-{}", names.app, names.environment)),
            name: names.capacity_provider(),
            group: None,
            tags,
            strategy: Vec::new(),
        }
    }

    /// The first tag that says that a provider of our name is not ours.
    fn foreign(&self, provider: &ObservedProvider) -> Option<Trouble> {
        let (tag, expected) = self.tags.iter().find(|(key, value)| provider.tags.get(**key) != Some(*value))?;
        let found = provider.tags.get(*tag).cloned();
        Some(Trouble::Foreign { tag, expected: expected.clone(), found })
    }

    /// Decides what to do next.
    pub fn next(&self, observed: &ObservedCapacity) -> CapacityStep {
        if observed.attaching || observed.own.as_ref().is_some_and(|own| own.moving) {
            return CapacityStep::Wait;
        }
        if let Some(group) = &self.group {
            match &observed.own {
                None => return CapacityStep::Create(group.clone()),
                Some(own) => {
                    if let Some(trouble) = self.foreign(own) {
                        return CapacityStep::Halted(trouble);
                    }
                    if !is_group(&own.group, group) {
                        // A provider keeps its group for life.
                        return self.let_go(observed);
                    }
                    if !own.scaled {
                        return CapacityStep::Update;
                    }
                }
            }
        }
        let mut providers = BTreeSet::from([FARGATE.to_owned(), FARGATE_SPOT.to_owned()]);
        // One that is no longer wanted stays as stacks do: services may still run on it.
        if self.group.is_some() || observed.providers.contains(&self.name) {
            providers.insert(self.name.clone());
        }
        let same = |a: &[Share], b: &[Share]| a.iter().collect::<BTreeSet<_>>() == b.iter().collect();
        if providers == observed.providers && same(&self.strategy, &observed.strategy) {
            CapacityStep::Done
        } else {
            CapacityStep::Associate { providers, strategy: self.strategy.clone() }
        }
    }

    /// Decides what to do next so that the environment's own provider goes.
    pub fn removal(&self, observed: &ObservedCapacity) -> CapacityStep {
        match &observed.own {
            Some(own) if self.foreign(own).is_none() => {
                if observed.attaching || own.moving {
                    CapacityStep::Wait
                } else {
                    self.let_go(observed)
                }
            }
            _ => CapacityStep::Done,
        }
    }

    fn let_go(&self, observed: &ObservedCapacity) -> CapacityStep {
        if !observed.providers.contains(&self.name) {
            return CapacityStep::Delete;
        }
        let mut providers = observed.providers.clone();
        providers.remove(&self.name);
        CapacityStep::Associate { providers, strategy: Vec::new() }
    }
}

/// Whether an Auto Scaling group's ARN is that of the group, which is given by ARN or name.
fn is_group(arn: &str, group: &str) -> bool {
    arn == group || arn.ends_with(&format!(":autoScalingGroupName/{group}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(group: Option<&str>) -> WantedCapacity {
        let own = || "hello-prod".to_owned();
        let strategy = match group {
            Some(_) => vec![Share { provider: own(), weight: 1 }],
            None => vec![
                Share { provider: FARGATE.to_owned(), weight: 70 },
                Share { provider: FARGATE_SPOT.to_owned(), weight: 30 },
            ],
        };
        WantedCapacity {
            cluster: own(),
            name: own(),
            group: group.map(str::to_owned),
            tags: BTreeMap::from([("shipway:app", "hello".to_owned())]),
            strategy,
        }
    }

    fn arn(group: &str) -> String {
        format!("arn:aws:autoscaling:eu-west-1:1:autoScalingGroup:uuid:autoScalingGroupName/{group}")
    }

    /// ECS, of which only this is there; as ECS does, it refuses to delete a provider that a cluster has.
    fn act(wanted: &WantedCapacity, step: CapacityStep, ecs: &mut ObservedCapacity) {
        match step {
            CapacityStep::Create(group) => {
                assert_eq!(ecs.own, None);
                let tags = wanted.tags.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
                ecs.own = Some(ObservedProvider { group: arn(&group), scaled: true, moving: true, tags });
            }
            CapacityStep::Update => ecs.own.as_mut().unwrap().scaled = true,
            CapacityStep::Associate { providers, strategy } => {
                assert!(!ecs.attaching && strategy.iter().all(|share| providers.contains(&share.provider)));
                (ecs.providers, ecs.strategy, ecs.attaching) = (providers, strategy, true);
            }
            CapacityStep::Delete => {
                assert!(!ecs.providers.contains(&wanted.name));
                ecs.own = None;
            }
            CapacityStep::Wait => {
                ecs.attaching = false;
                if let Some(own) = &mut ecs.own {
                    own.moving = false;
                }
            }
            CapacityStep::Done | CapacityStep::Halted(_) => panic!("{step:?}"),
        }
    }

    prop_compose! {
        fn any_capacity()(
            providers in prop::collection::btree_set(prop_oneof![
                Just(FARGATE.to_owned()), Just("theirs".to_owned()), Just("hello-prod".to_owned())], 0..3),
            attaching: bool, there: bool, scaled: bool, moving: bool, same_group: bool,
        ) -> ObservedCapacity {
            let own = ObservedProvider {
                group: arn(if same_group { "group" } else { "old-group" }),
                scaled,
                moving,
                tags: BTreeMap::from([("shipway:app".to_owned(), "hello".to_owned())]),
            };
            ObservedCapacity { providers, strategy: Vec::new(), attaching, own: there.then_some(own) }
        }
    }

    proptest! {
        #[test]
        fn whatever_is_there_the_steps_reach_what_is_wanted_and_then_its_end(start in any_capacity(), ec2: bool) {
            let wanted = wanted(ec2.then_some("group"));
            let mut ecs = start;
            let mut steps = 0;
            while wanted.next(&ecs) != CapacityStep::Done {
                act(&wanted, wanted.next(&ecs), &mut ecs);
                steps += 1;
                prop_assert!(steps < 20, "{ecs:?}");
            }
            prop_assert_eq!(&ecs.strategy, &wanted.strategy);
            prop_assert!(ecs.providers.contains(FARGATE_SPOT) && !ecs.providers.contains("theirs"));
            prop_assert!(!ec2 || ecs.own.as_ref().is_some_and(|own| own.scaled && own.group == arn("group")));

            steps = 0;
            while wanted.removal(&ecs) != CapacityStep::Done {
                act(&wanted, wanted.removal(&ecs), &mut ecs);
                steps += 1;
                prop_assert!(steps < 20, "{ecs:?}");
            }
            prop_assert_eq!(ecs.own, None);
        }
    }

    #[test]
    fn a_provider_that_is_not_ours_is_left_alone() {
        let own = ObservedProvider { group: arn("group"), ..ObservedProvider::default() };
        let observed = ObservedCapacity { own: Some(own), ..ObservedCapacity::default() };
        let wanted = wanted(Some("group"));
        assert!(matches!(wanted.next(&observed), CapacityStep::Halted(Trouble::Foreign { tag: "shipway:app", .. })));
        assert_eq!(wanted.removal(&observed), CapacityStep::Done);
    }

    #[test]
    fn a_provider_that_is_no_longer_wanted_stays_for_what_still_runs_on_it() {
        let own = BTreeMap::from([("shipway:app".to_owned(), "hello".to_owned())]);
        let own = ObservedProvider { group: arn("group"), scaled: true, moving: false, tags: own };
        let providers = BTreeSet::from(["hello-prod".to_owned(), FARGATE.to_owned(), FARGATE_SPOT.to_owned()]);
        let observed = ObservedCapacity { providers: providers.clone(), own: Some(own), ..ObservedCapacity::default() };
        let wanted = wanted(None);
        let strategy = wanted.strategy.clone();
        let step = wanted.next(&observed);
        assert_eq!(step, CapacityStep::Associate { providers, strategy });
        assert_eq!(step.story(&wanted).unwrap(), "lets the cluster hello-prod use FARGATE, FARGATE_SPOT, hello-prod");
    }

    #[test]
    fn a_name_that_ecs_reserves_is_not_used() {
        let name =
            |app: &str| Names { app: &app.parse().unwrap(), environment: &"prod".parse().unwrap() }.capacity_provider();
        assert_eq!(name("hello"), "hello-prod");
        assert_eq!(name("ecsapp"), "shipway-ecsapp-prod");
    }
}
