//! What runs of a service while it is rolled out: its tasks by deployment, and the targets that the load balancer finds healthy.

use std::collections::BTreeMap;

use aws_sdk_ecs::types::{Deployment, Service};
use aws_sdk_elasticloadbalancingv2::types::{TargetHealthDescription, TargetHealthStateEnum};
use shipway_aws::{AwsError, PublicError as _};
use shipway_domain::{failure::Failure, name::ComponentName, task};

use crate::{installation::Installation, place::Place, screen::Screen};

/// The tasks of one deployment, and how many there should be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tasks {
    revision: String,
    primary: bool,
    running: i32,
    desired: i32,
    pending: i32,
}

/// The targets of one target group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Targets {
    healthy: usize,
    all: usize,
}

/// What is seen at one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    tasks: Vec<Tasks>,
    targets: BTreeMap<String, Targets>,
}

/// Who looks.
pub(crate) struct Live {
    ecs: aws_sdk_ecs::Client,
    load_balancing: aws_sdk_elasticloadbalancingv2::Client,
    cluster: String,
    service: String,
    told: String,
    over: bool,
}

impl Live {
    /// Of a service in its cluster.
    pub(crate) fn of(installation: &Installation, place: &Place, service: &ComponentName, cluster: String) -> Live {
        Live {
            ecs: installation.ecs(),
            load_balancing: installation.load_balancing(),
            cluster,
            service: task::service_name(&place.app, &place.environment, service),
            told: String::new(),
            over: false,
        }
    }

    /// Tells what runs, where that is something else than at the last look. What cannot be seen is said once, and the release
    /// is followed without it.
    pub(crate) async fn tell(&mut self, screen: &Screen) {
        if self.over {
            return;
        }
        match self.look().await {
            Ok(seen) => {
                let line = seen.line();
                if line != self.told && !line.is_empty() {
                    screen.line(format!("  {line}"));
                    self.told = line;
                }
            }
            Err(error) if error.failure() == Failure::Transient => {}
            Err(error) => {
                screen.note(format!("tasks and targets are not shown: {error}"));
                self.over = true;
            }
        }
    }

    async fn look(&self) -> Result<Seen, AwsError> {
        let call = self.ecs.describe_services().cluster(&self.cluster).services(&self.service);
        let described = call.send().await.map_err(AwsError::of("ecs:DescribeServices"))?;
        let Some(service) = described.services().iter().find(|service| service.status() != Some("INACTIVE")) else {
            return Ok(Seen::default());
        };
        let mut targets = BTreeMap::new();
        for group in groups(service) {
            let call = self.load_balancing.describe_target_health().target_group_arn(&group);
            let answer = call.send().await.map_err(AwsError::of("elasticloadbalancing:DescribeTargetHealth"))?;
            targets.insert(name(&group), healthy(answer.target_health_descriptions()));
        }
        Ok(Seen { tasks: service.deployments().iter().map(tasks).collect(), targets })
    }
}

/// The target groups that requests for a service may go to.
fn groups(service: &Service) -> Vec<String> {
    let balancers = service.load_balancers().iter();
    let mut groups: Vec<String> = balancers
        .flat_map(|one| {
            let other = one.advanced_configuration().and_then(|more| more.alternate_target_group_arn());
            one.target_group_arn().into_iter().chain(other)
        })
        .map(str::to_owned)
        .collect();
    groups.sort();
    groups.dedup();
    groups
}

/// `arn:…:targetgroup/<name>/<id>`.
fn name(group: &str) -> String {
    group.split('/').nth(1).unwrap_or(group).to_owned()
}

fn healthy(targets: &[TargetHealthDescription]) -> Targets {
    let state = |target: &TargetHealthDescription| target.target_health().and_then(|health| health.state()).cloned();
    let serving = targets.iter().filter(|target| state(target) != Some(TargetHealthStateEnum::Draining));
    let healthy = targets.iter().filter(|target| state(target) == Some(TargetHealthStateEnum::Healthy)).count();
    Targets { healthy, all: serving.count() }
}

fn tasks(deployment: &Deployment) -> Tasks {
    let definition = deployment.task_definition().unwrap_or_default();
    Tasks {
        revision: definition.rsplit('/').next().unwrap_or_default().to_owned(),
        primary: deployment.status() == Some("PRIMARY"),
        running: deployment.running_count(),
        desired: deployment.desired_count(),
        pending: deployment.pending_count(),
    }
}

impl Seen {
    fn line(&self) -> String {
        let tasks = self.tasks.iter().map(|tasks| {
            let Tasks { revision, primary, running, desired, pending } = tasks;
            let which = if *primary { "new" } else { "old" };
            let pending = if *pending > 0 { format!(", {pending} pending") } else { String::new() };
            format!("{which} {revision}: {running} of {desired} running{pending}")
        });
        let targets = self
            .targets
            .iter()
            .map(|(group, targets)| format!("targets of {group}: {} of {} healthy", targets.healthy, targets.all));
        tasks.chain(targets).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{AdvancedConfiguration, LoadBalancer};
    use aws_sdk_elasticloadbalancingv2::types::TargetHealth;

    use super::*;

    #[test]
    fn both_deployments_and_each_target_group_are_in_one_line() {
        let deployment = |status: &str, revision: u8, running, pending| {
            Deployment::builder()
                .status(status)
                .task_definition(format!(
                    "arn:aws:ecs:eu-west-1:123456789012:task-definition/hello-prod-api:{revision}"
                ))
                .running_count(running)
                .desired_count(2)
                .pending_count(pending)
                .build()
        };
        let seen = Seen {
            tasks: [deployment("PRIMARY", 8, 1, 1), deployment("ACTIVE", 7, 2, 0)].iter().map(tasks).collect(),
            targets: BTreeMap::from([("hello-api".to_owned(), Targets { healthy: 2, all: 3 })]),
        };
        assert_eq!(
            seen.line(),
            "new hello-prod-api:8: 1 of 2 running, 1 pending; old hello-prod-api:7: 2 of 2 running; \
             targets of hello-api: 2 of 3 healthy"
        );
        assert_eq!(Seen::default().line(), "");
    }

    #[test]
    fn a_target_that_drains_is_no_longer_counted() {
        let target = |state: TargetHealthStateEnum| {
            let health = TargetHealth::builder().state(state).build();
            TargetHealthDescription::builder().target_health(health).build()
        };
        let targets = [
            target(TargetHealthStateEnum::Healthy),
            target(TargetHealthStateEnum::Initial),
            target(TargetHealthStateEnum::Draining),
        ];
        assert_eq!(healthy(&targets), Targets { healthy: 1, all: 2 });
    }

    #[test]
    fn all_target_groups_of_a_service_are_looked_at_once() {
        let arn = |name: &str| format!("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/{name}/0123");
        let more = AdvancedConfiguration::builder().alternate_target_group_arn(arn("green")).build();
        let balancer = LoadBalancer::builder().target_group_arn(arn("blue"));
        let service = Service::builder()
            .load_balancers(balancer.clone().advanced_configuration(more).build())
            .load_balancers(balancer.build())
            .build();
        assert_eq!(groups(&service).iter().map(|group| name(group)).collect::<Vec<_>>(), ["blue", "green"]);
    }
}
