//! Where tasks run, and how they are reached there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{TaskError, Wanted};
use crate::{manifest::Networking, network::NetworkOutputs};

/// Fargate's own capacity providers.
const FARGATE: &str = "FARGATE";
const FARGATE_SPOT: &str = "FARGATE_SPOT";

/// Where tasks run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// On what.
    #[serde(default)]
    pub capacity: Capacity,
    /// Their network interfaces; none where they share their instance's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Interfaces>,
}

/// What tasks run on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capacity {
    /// Fargate.
    #[default]
    Fargate,
    /// Capacity providers, each with its weight among them.
    Providers(BTreeMap<String, u32>),
}

/// The network interfaces of tasks that have their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interfaces {
    /// The subnets.
    pub subnets: BTreeSet<String>,
    /// The security groups.
    pub security_groups: BTreeSet<String>,
    /// Whether they have a public address. Only Fargate gives one, and only in a public subnet does it lead anywhere.
    pub public_address: bool,
}

impl Capacity {
    /// What ECS shows of a service: its strategy, and its launch type where it has none.
    #[must_use]
    pub fn observed(strategy: BTreeMap<String, u32>, launch_type: Option<&str>) -> Capacity {
        let is_fargate = match strategy.len() {
            0 => launch_type == Some(FARGATE),
            _ => strategy.keys().all(|provider| provider == FARGATE),
        };
        if is_fargate { Capacity::Fargate } else { Capacity::Providers(strategy) }
    }

    /// The strategy that a service is moved to. Fargate has one too: an empty one would lead back to the launch type that the
    /// service was made with, which may be none.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>
    #[must_use]
    pub fn strategy(&self) -> BTreeMap<String, u32> {
        match self {
            Capacity::Fargate => BTreeMap::from([(FARGATE.to_owned(), 1)]),
            Capacity::Providers(providers) => providers.clone(),
        }
    }
}

impl Placement {
    /// Where a one-off task of the service runs: as its tasks do, but never on spot capacity of Fargate, which may be taken away
    /// half way.
    #[must_use]
    pub fn of_one_off(self) -> Placement {
        match &self.capacity {
            Capacity::Providers(providers) if providers.contains_key(FARGATE_SPOT) => {
                Placement { capacity: Capacity::Fargate, ..self }
            }
            _ => self,
        }
    }
}

impl Wanted<'_> {
    /// Where the service's tasks run.
    ///
    /// # Errors
    /// The instances they should run on were not provisioned.
    pub fn placement(&self, network: &NetworkOutputs) -> Result<Placement, TaskError> {
        let cluster = &self.spec.cluster;
        let spot = u32::from(cluster.spot_percent().min(100));
        let capacity = match (&cluster.ec2, spot) {
            (Some(_), _) => {
                let provider = self.platform.capacity_provider.clone();
                let provider = provider.ok_or_else(|| self.unusable("there is no capacity provider".to_owned()))?;
                Capacity::Providers(BTreeMap::from([(provider, 1)]))
            }
            (None, 0) => Capacity::Fargate,
            (None, 100) => Capacity::Providers(BTreeMap::from([(FARGATE_SPOT.to_owned(), 1)])),
            (None, _) => {
                Capacity::Providers(BTreeMap::from([(FARGATE.to_owned(), 100 - spot), (FARGATE_SPOT.to_owned(), spot)]))
            }
        };
        let interfaces = (self.networking() == Networking::Awsvpc).then(|| Interfaces {
            subnets: network.task_subnets().iter().cloned().collect(),
            security_groups: [network.service_group.clone()].into(),
            public_address: cluster.ec2.is_none() && network.task_subnets() == network.public_subnets,
        });
        Ok(Placement { capacity, interfaces })
    }
}

/// Whether instances of this type have Graviton processors: the families whose generation is followed by a `g` (`t4g`, `m7gd`,
/// `g5g`), and the first one. <https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html>
pub(super) fn is_arm(instance_type: &str) -> bool {
    let family = instance_type.split('.').next().unwrap_or_default();
    let options =
        family.trim_start_matches(|c: char| !c.is_ascii_digit()).trim_start_matches(|c: char| c.is_ascii_digit());
    family == "a1" || options.split('-').next().unwrap_or_default().contains('g')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graviton_is_told_by_the_family() {
        for arm in ["a1.medium", "t4g.small", "m7gd.large", "c6gn.xlarge", "g5g.xlarge", "x2gd.medium", "im4gn.large"] {
            assert!(is_arm(arm), "{arm}");
        }
        for other in ["t3a.small", "g5.xlarge", "g4dn.xlarge", "m7i-flex.large", "u-6tb1.metal", "p4d.24xlarge"] {
            assert!(!is_arm(other), "{other}");
        }
    }

    #[test]
    fn what_runs_on_fargate_alone_is_fargate_however_ecs_was_told() {
        let on = |providers: &[&str]| providers.iter().map(|one| ((*one).to_owned(), 1)).collect::<BTreeMap<_, _>>();
        assert_eq!(Capacity::observed(on(&[]), Some("FARGATE")), Capacity::Fargate);
        assert_eq!(Capacity::observed(on(&["FARGATE"]), None), Capacity::Fargate);
        assert_ne!(Capacity::observed(on(&[]), Some("EC2")), Capacity::Fargate);
        assert_ne!(Capacity::observed(on(&["FARGATE", "FARGATE_SPOT"]), None), Capacity::Fargate);
    }

    #[test]
    fn a_one_off_task_is_not_on_spot_capacity() {
        let on = |provider: &str| Placement {
            capacity: Capacity::Providers(BTreeMap::from([(provider.to_owned(), 1)])),
            interfaces: None,
        };
        assert_eq!(on(FARGATE_SPOT).of_one_off().capacity, Capacity::Fargate);
        assert_eq!(on("hello-prod").of_one_off(), on("hello-prod"));
    }
}
