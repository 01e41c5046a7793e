//! What differs between a service and what its live release made of it.

use super::{Progress, Service, Settings, scaling, short};
use crate::message::Difference;

/// What differs, with `live` as the live release wrote it down at its end. Nothing, where all is as it made it.
#[must_use]
pub fn differences(
    of: &str,
    live: &Progress,
    service: Option<&Service>,
    scaling: Option<&scaling::Observed>,
) -> Vec<Difference> {
    let difference = |what: String| Difference { of: of.to_owned(), what };
    let Some(service) = service.filter(|service| !service.draining) else {
        return vec![difference("the service is not there".to_owned())];
    };
    let mut found = Vec::new();
    let revision = &live.ours.revision.task_definition;
    match service.primary() {
        None => found.push("it has no deployment".to_owned()),
        Some(primary) => {
            if primary.task_definition != *revision {
                found.push(format!("it runs {}, but {} is live", short(&primary.task_definition), short(revision)));
            }
            if primary.failed {
                let reason = primary.reason.as_deref().unwrap_or("it gave no reason");
                found.push(format!("ECS gave its deployment up: {reason}"));
            }
        }
    }
    found.extend(settings(&live.ours.settings, &service.settings));
    let Service { desired, running, .. } = service;
    match &live.scaling {
        Some(scaling) if !(scaling.min..=scaling.max).contains(desired) => {
            found.push(format!("it wants {desired} tasks, which is outside {} to {}", scaling.min, scaling.max));
        }
        None if *desired != live.tasks => found.push(format!("it wants {desired} tasks, not {}", live.tasks)),
        _ => {}
    }
    if running < desired {
        found.push(format!("{running} of {desired} tasks run"));
    }
    let scaling = scaling.map(|observed| scaling::differences(of, live.scaling.as_ref(), observed));
    found.into_iter().map(difference).chain(scaling.into_iter().flatten()).collect()
}

fn settings(live: &Settings, shown: &Settings) -> impl Iterator<Item = String> {
    let table = [
        (live.placement.capacity != shown.placement.capacity, "it runs on other capacity than it should"),
        (live.placement.interfaces != shown.placement.interfaces, "it is in other subnets or security groups"),
        (live.target_group != shown.target_group, "another target group or port gets its requests"),
        (live.registry != shown.registry, "its entry in the service discovery is another one"),
        (live.limits != shown.limits, "its limits during a deployment are others"),
        (live.alarms != shown.alarms, "other alarms end its rollouts"),
        (live.shift.is_some() != shown.shift.is_some(), "its requests go over to a new version in another way"),
    ];
    table.into_iter().filter(|(differs, _)| *differs).map(|(_, what)| what.to_owned())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{super::*, *};

    const LIVE: &str = "arn:aws:ecs:r:1:task-definition/hello-prod-api:6";

    fn live() -> Progress {
        let revision = Revision { task_definition: LIVE.to_owned(), digest: None };
        let ours = Version { revision, settings: Settings::default() };
        Progress { tasks: 2, ..Progress::new("api".to_owned(), ours, None, Timestamp::UNIX_EPOCH) }
    }

    fn service() -> Service {
        let primary =
            Deployment { primary: true, task_definition: LIVE.to_owned(), running: 2, ..Deployment::default() };
        Service { desired: 2, running: 2, deployments: vec![primary], ..Service::default() }
    }

    fn found(live: &Progress, service: &Service, scaling: Option<&scaling::Observed>) -> Vec<String> {
        let found = differences("service/api", live, Some(service), scaling);
        assert!(found.iter().all(|one| one.of == "service/api"));
        found.into_iter().map(|one| one.what).collect()
    }

    #[test]
    fn what_is_as_the_live_release_made_it_does_not_differ() {
        assert_eq!(found(&live(), &service(), None), [""; 0]);
    }

    #[test]
    fn each_thing_that_somebody_changed_is_named() {
        let mut changed = service();
        changed.deployments[0].task_definition = LIVE.replace(":6", ":9");
        changed.deployments[0].failed = true;
        changed.settings.target_group =
            Some(TargetGroup { arn: "tg".to_owned(), alternate: None, container: "api".to_owned(), port: 1 });
        changed.settings.limits.least = 50;
        changed.settings.alarms.insert("errors".to_owned());
        changed.desired = 5;
        let expected = [
            "it runs hello-prod-api:9, but hello-prod-api:6 is live",
            "ECS gave its deployment up: it gave no reason",
            "another target group or port gets its requests",
            "its limits during a deployment are others",
            "other alarms end its rollouts",
            "it wants 5 tasks, not 2",
            "2 of 5 tasks run",
        ];
        assert_eq!(found(&live(), &changed, None), expected);
        assert_eq!(differences("service/api", &live(), None, None)[0].what, "the service is not there");
    }

    /// ECS alternates between two target groups, and a way back moves requests at once.
    #[test]
    fn which_of_two_target_groups_serves_and_how_the_last_requests_went_over_is_no_difference() {
        let group = |arn: &str, other: &str| TargetGroup {
            arn: arn.to_owned(),
            alternate: Some(Alternate {
                target_group: other.to_owned(),
                rule: "rule".to_owned(),
                test_rule: None,
                role: "role".to_owned(),
            }),
            container: "api".to_owned(),
            port: 1,
        };
        let canary = Shift { traffic: shift::Traffic::Canary { percent: 10, minutes: 5 }, bake: 5, is_tested: true };
        let mut live = live();
        live.ours.settings.target_group = Some(group("blue", "green"));
        live.ours.settings.shift = Some(canary);
        let mut shown = service();
        shown.settings.target_group = Some(group("green", "blue"));
        shown.settings.shift = Some(Shift::BACK);
        assert_eq!(found(&live, &shown, None), [""; 0]);
        shown.settings.shift = None;
        assert_eq!(found(&live, &shown, None), ["its requests go over to a new version in another way"]);
        shown.settings.shift = Some(canary);
        shown.settings.target_group = Some(group("blue", "red"));
        assert_eq!(found(&live, &shown, None), ["another target group or port gets its requests"]);
    }

    #[test]
    fn a_number_of_tasks_within_the_bounds_is_the_scalings_own() {
        let scaling = Scaling { min: 2, max: 4, policies: BTreeMap::new() };
        let live = Progress { scaling: Some(scaling), ..live() };
        let bounds = |bounds| scaling::Observed { bounds, ..scaling::Observed::default() };
        let scaled = |desired| Service { desired, running: desired, ..service() };
        assert_eq!(found(&live, &scaled(4), Some(&bounds(Some((2, 4))))), [""; 0]);
        let expected = ["it wants 5 tasks, which is outside 2 to 4", "it scales between 2 and 5 tasks, not 2 and 4"];
        assert_eq!(found(&live, &scaled(5), Some(&bounds(Some((2, 5))))), expected);
        assert_eq!(found(&live, &scaled(2), Some(&bounds(None))), ["nothing scales it between 2 and 4 tasks"]);
    }
}
