//! The verdict as a table: what ECS shows, and what follows from it, step by step.
//!
//! The rows are named after where their cases come from: the tests of the official GitHub action
//! (`aws-actions/amazon-ecs-deploy-task-definition`), as far as they are about a service and its deployments; the nine statuses
//! of a service deployment; and ECS's events, in the words that AWS's documentation records. The action's other tests are about
//! task definitions, one-off tasks and tags, which are not this module's.

use super::*;
use crate::rollout::{attempt::Stage, shift::Traffic};

/// What follows from a look. The next step is asked of the same look, as long as nothing is to be waited for.
#[derive(Debug)]
enum Then {
    Creates,
    Updates { count: Option<u32>, force: bool },
    TakesUp,
    WaitsFor(&'static str),
    GivesUp(&'static str),
    IsTested,
    GoesOn,
    Serves,
    AsksEcs,
    GoesBack,
    Stops,
    Refuses(&'static str),
    Ends(Outcome, &'static str),
}
use Then::*;

struct Case {
    name: &'static str,
    progress: Progress,
    seen: Observed,
    then: Vec<Then>,
}

fn case(name: &'static str, progress: Progress, seen: Observed, then: Vec<Then>) -> Case {
    Case { name, progress, seen, then }
}

fn check(cases: Vec<Case>) {
    for Case { name, mut progress, seen, then } in cases {
        for expected in then {
            let action = next_action(&progress, &seen);
            let fits = match (&expected, &action) {
                (Creates, Action::Create) | (GoesBack, Action::Restore) | (Stops, Action::Stop) => true,
                (AsksEcs, Action::Undo) => true,
                (IsTested, Action::Test) => {
                    progress.tested = true;
                    true
                }
                (GoesOn, Action::Continue { hook }) => {
                    progress.told = Some(hook.clone());
                    true
                }
                (Serves, Action::Serves) => {
                    progress.served = Some(seen.now);
                    true
                }
                (Updates { count, force }, Action::Update { count: sent, force: forced }) => {
                    (count, force) == (sent, forced)
                }
                (TakesUp, Action::Adopt { deployment }) => {
                    progress.deployment = Some(deployment.clone());
                    true
                }
                (WaitsFor(part), Action::Wait { note, .. }) => note.contains(part),
                (GivesUp(part), Action::GiveUp { cause, .. }) => {
                    progress = progress.clone().give_up(cause.clone(), seen.now);
                    cause.contains(part)
                }
                (Refuses(part), Action::Refuse { reason }) => reason.contains(part),
                (Ends(outcome, part), Action::End(verdict)) => {
                    verdict.outcome == *outcome && verdict.reason.contains(part)
                }
                _ => false,
            };
            assert!(fits, "{name}: {expected:?} was expected, and not {action:?}");
        }
    }
}

fn failed(deployment: Deployment, reason: &str) -> Deployment {
    Deployment { failed: true, reason: Some(reason.to_owned()), ..deployment }
}

fn saying(deployment: Deployment, reason: &str) -> Deployment {
    Deployment { reason: Some(reason.to_owned()), ..deployment }
}

/// What was live serves, and its deployment is the primary one.
fn live_serves(deployments: Vec<Deployment>) -> Observed {
    Observed {
        tasks: vec![task(6, LIVE, 6, "sha256:06")],
        targets: vec![target(6, "healthy")],
        ..observed(90, Some(service(deployments)))
    }
}

#[test]
fn the_cases_of_the_official_github_action() {
    let old = || deployment(6, LIVE, true, 1);
    let standing = || observed(0, Some(service(vec![old()])));
    let with = |change: fn(&mut Service)| {
        let mut seen = standing();
        seen.service.as_mut().into_iter().for_each(change);
        seen
    };
    let unhealthy = |seconds| Observed { now: at(seconds), targets: vec![target(7, "unhealthy")], ..good() };
    let patient = |deadline| Progress { deadline, ..begun() };
    let mut completed = good();
    completed.service.as_mut().unwrap().deployments =
        vec![Deployment { completed: true, ..deployment(7, OURS, true, 1) }];
    let mut same = live_serves(vec![Deployment { completed: true, ..old() }]);
    same.service.as_mut().unwrap().deployments[0].task_definition = OURS.to_owned();
    same.tasks[0] = task(6, OURS, 6, "sha256:07");
    check(vec![
        case("updates the service", progress(), standing(), vec![Updates { count: None, force: false }]),
        case(
            "updates the service if the controller is ECS",
            progress(),
            standing(),
            vec![Updates { count: None, force: false }],
        ),
        case(
            "creates a CodeDeploy deployment",
            progress(),
            with(|service| service.controller = Some("CODE_DEPLOY".to_owned())),
            vec![Refuses("CODE_DEPLOY deploys it")],
        ),
        case(
            "error is caught if service uses external deployment controller",
            progress(),
            with(|service| service.controller = Some("EXTERNAL".to_owned())),
            vec![Refuses("EXTERNAL deploys it")],
        ),
        case(
            "waits for the service to be stable",
            begun(),
            completed,
            vec![Ends(Outcome::Succeeded, "1 of 1 tasks of hello-prod-api:7 serve")],
        ),
        case("waits for specified minutes", patient(3600), unhealthy(3599), vec![WaitsFor("is unhealthy")]),
        case(
            "waits for specified minutes, and no longer",
            patient(3600),
            unhealthy(3600),
            vec![GivesUp("it did not serve within 1 hour: "), GoesBack],
        ),
        case(
            "waits for max 6 hours",
            patient(21_600),
            unhealthy(21_600),
            vec![GivesUp("it did not serve within 6 hours")],
        ),
        case(
            "force new deployment, with a desired count: only where nothing is live and no task is wanted",
            Progress { live: None, tasks: 4, ..progress() },
            with(|service| service.desired = 0),
            vec![Updates { count: Some(4), force: true }],
        ),
        case("error is caught if service does not exist: it is made", progress(), observed(0, None), vec![Creates]),
        case(
            "error is caught if service is inactive: its name is waited for",
            progress(),
            with(|service| service.draining = true),
            vec![WaitsFor("is still being deleted")],
        ),
        case(
            "fails if deployment is rolled back by circuit breaker: it is not found any more",
            begun(),
            live_serves(vec![Deployment { completed: true, ..old() }]),
            vec![GivesUp("ECS went back to the live revision by itself"), Ends(Outcome::RolledBack, "serve again")],
        ),
        case(
            "fails if deployment rolloutState is FAILED",
            begun(),
            live_serves(vec![old(), failed(deployment(7, OURS, false, 0), "Circuit breaker triggered")]),
            vec![
                GivesUp("Circuit breaker triggered"),
                Ends(Outcome::RolledBack, "Circuit breaker triggered; 1 of 1 tasks"),
            ],
        ),
        case(
            "fails if deployment rolloutState is FAILED, though its tasks serve",
            begun(),
            {
                let mut seen = good();
                let own = deployment(7, OURS, true, 1);
                seen.service.as_mut().unwrap().deployments[0] = failed(own, "Circuit breaker triggered");
                seen
            },
            vec![GivesUp("ECS gave the deployment up: Circuit breaker triggered"), GoesBack],
        ),
        case(
            "skips deployment verification when no new deployment is created",
            progress(),
            same,
            vec![TakesUp, Ends(Outcome::Unchanged, "serve already")],
        ),
    ]);
}

/// Our deployment in this status, while what is primary is given.
fn in_status(status: Status, primary: Deployment, mut seen: Observed) -> Observed {
    if let Some(service) = &mut seen.service {
        let own = service.deployments.remove(0);
        service.deployments.insert(0, primary.clone());
        if own.id != primary.id && own.task_definition == OURS {
            service.deployments.push(Deployment { primary: false, ..own });
        }
    }
    seen.now = at(90);
    let reason = Some("Service deployment rolled back because of an alarm.".to_owned());
    seen.attempt = Some(Attempt { reason, alarms: ["errors".to_owned()].into(), ..Attempt::of(status) });
    seen
}

#[test]
fn the_nine_statuses_of_a_service_deployment() {
    let ours = || deployment(7, OURS, true, 1);
    let begins = || Observed { targets: vec![target(7, "initial")], ..good() };
    let back = || live_serves(vec![deployment(8, LIVE, true, 1)]);
    let mut gated = begun();
    gated.ours.settings.alarms.insert("errors".to_owned());
    gated.served = Some(at(20));
    let rows = [
        case("PENDING", begun(), in_status(Status::Pending, ours(), begins()), vec![WaitsFor("is initial")]),
        case("IN_PROGRESS", begun(), in_status(Status::InProgress, ours(), begins()), vec![WaitsFor("is initial")]),
        case(
            "IN_PROGRESS, which no completed rollout overrules",
            gated.clone(),
            in_status(Status::InProgress, Deployment { completed: true, ..ours() }, good()),
            vec![WaitsFor("ECS still watches the alarms")],
        ),
        case(
            "SUCCESSFUL",
            gated,
            in_status(Status::Successful, ours(), good()),
            vec![Ends(Outcome::Succeeded, "1 of 1 tasks of hello-prod-api:7 serve")],
        ),
        case(
            "SUCCESSFUL, and a task is not well all the same",
            begun(),
            in_status(Status::Successful, ours(), begins()),
            vec![WaitsFor("is initial")],
        ),
        case(
            "STOP_REQUESTED",
            begun(),
            in_status(Status::StopRequested, ours(), good()),
            vec![WaitsFor("somebody stops the deployment in ECS")],
        ),
        case(
            "STOP_REQUESTED, and never stopped",
            Progress { deadline: 60, ..begun() },
            in_status(Status::StopRequested, ours(), good()),
            vec![GivesUp("somebody stopped the deployment in ECS: "), GoesBack],
        ),
        case(
            "STOP_REQUESTED by a stranger's deployment",
            begun(),
            in_status(Status::StopRequested, deployment(9, OTHER, true, 0), good()),
            vec![Ends(Outcome::Superseded, "ecs-svc/9 of hello-prod-api:9")],
        ),
        case(
            "STOPPED",
            begun(),
            in_status(Status::Stopped, ours(), good()),
            vec![GivesUp("somebody stopped the deployment in ECS: errors went off: "), GoesBack],
        ),
        case(
            "STOPPED by a stranger's deployment",
            begun(),
            in_status(Status::Stopped, deployment(9, OTHER, true, 1), good()),
            vec![Ends(Outcome::Superseded, "ecs-svc/9 of hello-prod-api:9")],
        ),
        case(
            "STOPPED, and it is what was live",
            Progress { live: Some(version(OURS, "sha256:07")), ..begun() },
            in_status(Status::Stopped, ours(), good()),
            vec![Ends(Outcome::Failed, "nothing to go back to")],
        ),
        case(
            "ROLLBACK_REQUESTED",
            begun(),
            in_status(Status::RollbackRequested, ours(), good()),
            vec![GivesUp("ECS goes back by itself: errors went off: "), WaitsFor("ECS goes back by itself")],
        ),
        case(
            "ROLLBACK_IN_PROGRESS",
            begun(),
            in_status(Status::RollbackInProgress, deployment(8, LIVE, true, 0), good()),
            vec![GivesUp("ECS goes back by itself: errors went off: "), WaitsFor("0 of 1 tasks run")],
        ),
        case(
            "ROLLBACK_IN_PROGRESS to what was never live",
            begun(),
            in_status(Status::RollbackInProgress, deployment(8, OTHER, true, 0), good()),
            vec![GivesUp("ECS goes back by itself"), GoesBack],
        ),
        case(
            "ROLLBACK_SUCCESSFUL",
            begun(),
            in_status(Status::RollbackSuccessful, deployment(8, LIVE, true, 1), back()),
            vec![
                GivesUp(
                    "ECS went back by itself: errors went off: Service deployment rolled back because of an alarm.",
                ),
                Ends(Outcome::RolledBack, "errors went off: "),
            ],
        ),
        case(
            "ROLLBACK_SUCCESSFUL, and the new limits stayed",
            begun(),
            {
                let mut seen = in_status(Status::RollbackSuccessful, deployment(8, LIVE, true, 1), back());
                seen.service.as_mut().unwrap().settings.limits.most = 150;
                seen
            },
            vec![GivesUp("ECS went back by itself"), GoesBack],
        ),
        case(
            "ROLLBACK_SUCCESSFUL, and the new number of tasks stayed",
            Progress { resize: Some(Resize { from: 2, to: 1 }), ..begun() },
            in_status(Status::RollbackSuccessful, deployment(8, LIVE, true, 1), back()),
            vec![GivesUp("ECS went back by itself"), GoesBack],
        ),
        case(
            "ROLLBACK_SUCCESSFUL, where nothing of ours was live",
            first(),
            in_status(Status::RollbackSuccessful, deployment(8, OTHER, true, 1), back()),
            vec![GivesUp("ECS went back by itself"), Ends(Outcome::Superseded, "hello-prod-api:9")],
        ),
        case(
            "ROLLBACK_FAILED",
            begun(),
            in_status(Status::RollbackFailed, ours(), good()),
            vec![GivesUp("ECS could not go back by itself: errors went off: "), GoesBack],
        ),
    ];
    for (status, name) in Status::ALL {
        assert_eq!(Status::from_name(name), Some(status));
        assert!(rows.iter().any(|row| row.name.split([',', ' ']).next() == Some(name)), "{name} has no row");
    }
    assert_eq!(Status::from_name("ROLLING"), None);
    check(rows.into());
}

/// Why a recorded event says that it came: what DescribeServices says of the same deployment.
fn reason_of(event: &str) -> &'static str {
    let path = format!("{}/../../tests/fixtures/events/{event}.json", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    let event: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    event["detail"]["reason"].as_str().unwrap().to_owned().leak()
}

#[test]
fn the_recorded_events_of_ecs() {
    let own = |reason| failed(deployment(7, OURS, false, 0), reason);
    let completed =
        |deployment| Deployment { completed: true, ..saying(deployment, reason_of("ecs-deployment-completed")) };
    let failed_with = reason_of("ecs-deployment-failed");
    let back = reason_of("ecs-deployment-rolling-back");
    check(vec![
        case(
            "SERVICE_DEPLOYMENT_IN_PROGRESS, the first",
            begun(),
            Observed { targets: Vec::new(), ..in_progress(deployment(7, OURS, true, 1)) },
            vec![WaitsFor("is not a target of the load balancer yet")],
        ),
        case(
            "SERVICE_DEPLOYMENT_COMPLETED",
            begun(),
            in_progress(completed(deployment(7, OURS, true, 1))),
            vec![Ends(Outcome::Succeeded, "serve")],
        ),
        case(
            "SERVICE_DEPLOYMENT_COMPLETED after a failure is the way back's",
            begun(),
            live_serves(vec![completed(deployment(8, LIVE, true, 1)), own(failed_with)]),
            vec![GivesUp(failed_with), Ends(Outcome::RolledBack, failed_with)],
        ),
        case(
            "SERVICE_DEPLOYMENT_FAILED",
            begun(),
            in_progress(failed(deployment(7, OURS, true, 0), failed_with)),
            vec![GivesUp(failed_with), GoesBack],
        ),
        case(
            "SERVICE_DEPLOYMENT_FAILED, where nothing was live",
            first(),
            in_progress(failed(deployment(7, OURS, true, 0), failed_with)),
            vec![GivesUp(failed_with), Stops],
        ),
        case(
            "SERVICE_DEPLOYMENT_IN_PROGRESS, rolling back to what was live",
            begun(),
            in_progress(saying(deployment(8, LIVE, true, 0), back)),
            vec![GivesUp("ECS went back to the live revision by itself"), WaitsFor("0 of 1 tasks run")],
        ),
        case(
            "SERVICE_DEPLOYMENT_IN_PROGRESS, rolling back to what was never live",
            begun(),
            observed(90, Some(service(vec![saying(deployment(8, OTHER, true, 0), back), own(failed_with)]))),
            vec![GivesUp("ECS went back by itself to hello-prod-api:9, which is not what was live"), GoesBack],
        ),
    ]);
}

/// What [`good`] shows, with another primary deployment, and late enough to be believed.
fn in_progress(primary: Deployment) -> Observed {
    let mut seen = Observed { now: at(90), ..good() };
    seen.service.as_mut().unwrap().deployments[0] = primary;
    seen
}

const CANARY: Shift = Shift { traffic: Traffic::Canary { percent: 10, minutes: 5 }, bake: 5, is_tested: true };

/// Of a service whose requests go over in a shift.
fn shifting(mut progress: Progress) -> Progress {
    progress.ours.settings.shift = Some(CANARY);
    if let Some(live) = &mut progress.live {
        live.settings.shift = Some(CANARY);
    }
    progress
}

/// Its deployment is so far, and the old one serves or did. Its settings are the canary's.
fn at_stage(stage: Stage, share: u8, paused: Option<&str>, mut seen: Observed) -> Observed {
    if let Some(service) = &mut seen.service {
        service.settings.shift = Some(CANARY);
    }
    let known = seen.attempt.take().unwrap_or_else(|| Attempt::of(Status::InProgress));
    seen.attempt = Some(Attempt { stage: Some(stage), share: Some(share), paused: paused.map(str::to_owned), ..known });
    seen
}

#[test]
fn requests_go_over_by_ecs_and_the_release_goes_live_when_it_is_through() {
    let both = || Observed { targets: vec![target(7, "healthy"), target(6, "healthy")], ..good() };
    let begins = || Observed { targets: vec![target(7, "initial"), target(6, "healthy")], ..good() };
    let unwell = || Observed { targets: vec![target(7, "unhealthy"), target(6, "healthy")], ..good() };
    let half_well = || {
        let mut seen = both();
        seen.service.as_mut().unwrap().desired = 2;
        seen.service.as_mut().unwrap().deployments[0].running = 2;
        seen.tasks.push(task(8, OURS, 7, "sha256:07"));
        seen.targets.push(target(8, "unhealthy"));
        seen
    };
    let later = |seconds: i64, seen: Observed| Observed { now: at(seconds), ..seen };
    let through = |mut seen: Observed| {
        seen.attempt = Some(Attempt::of(Status::Successful));
        at_stage(Stage::CleanUp, 100, None, seen)
    };
    let tested = || Progress { tested: true, told: Some("hook".to_owned()), ..shifting(begun()) };
    let served = || Progress { served: Some(at(60)), alone: true, ..tested() };
    check(vec![
        case(
            "new tasks start",
            shifting(begun()),
            at_stage(Stage::ScaleUp, 0, None, begins()),
            vec![WaitsFor("is initial")],
        ),
        case(
            "they are well, and get nothing yet",
            shifting(begun()),
            at_stage(Stage::PostScaleUp, 0, None, both()),
            vec![WaitsFor("no requests go to them yet")],
        ),
        case(
            "they are tested, and then ECS is told to go on, once",
            shifting(begun()),
            at_stage(Stage::PostTestTrafficShift, 0, Some("hook"), both()),
            vec![IsTested, GoesOn, WaitsFor("test requests go to them")],
        ),
        case(
            "nothing is to be tested",
            {
                let mut progress = shifting(begun());
                progress.ours.settings.shift = Some(Shift { is_tested: false, ..CANARY });
                progress
            },
            at_stage(Stage::PostTestTrafficShift, 0, Some("hook"), both()),
            vec![GoesOn],
        ),
        case(
            "a task that is not well any more is not tested",
            shifting(begun()),
            at_stage(Stage::PostTestTrafficShift, 0, Some("hook"), begins()),
            vec![WaitsFor("is initial")],
        ),
        case(
            "some requests go over",
            tested(),
            at_stage(Stage::ProductionTrafficShift, 10, None, both()),
            vec![WaitsFor("10 % of the requests go to them")],
        ),
        case(
            "the pauses do not count towards the deadline",
            tested(),
            later(600 + 299, at_stage(Stage::ProductionTrafficShift, 10, None, both())),
            vec![WaitsFor("10 % of the requests go to them")],
        ),
        case(
            "but they are all that does not",
            tested(),
            later(600 + 300, at_stage(Stage::ProductionTrafficShift, 10, None, both())),
            vec![GivesUp("it did not serve within 15 minutes"), AsksEcs],
        ),
        case(
            "while new tasks start the deadline is the release's own",
            shifting(begun()),
            later(600, at_stage(Stage::ScaleUp, 0, None, begins())),
            vec![GivesUp("it did not serve within 10 minutes: target 10.0.0.7:3000 is initial"), AsksEcs],
        ),
        case(
            "all requests went over, and the old tasks stay for a while",
            Progress { alone: true, ..tested() },
            at_stage(Stage::BakeTime, 100, None, both()),
            vec![Serves, WaitsFor("ECS keeps the old ones for a while")],
        ),
        case(
            "some requests go over to tasks that are not well any more",
            Progress { unwell: Some(at(61)), ..tested() },
            later(90, at_stage(Stage::ProductionTrafficShift, 10, None, unwell())),
            vec![WaitsFor("target 10.0.0.7:3000 is unhealthy")],
        ),
        case(
            "and they stay so",
            Progress { unwell: Some(at(60)), ..tested() },
            later(90, at_stage(Stage::ProductionTrafficShift, 10, None, unwell())),
            vec![GivesUp("the load balancer has found all of them unhealthy for 30 seconds"), AsksEcs],
        ),
        case(
            "all requests went over, and then one of two tasks is not well any more",
            Progress { unwell: Some(at(61)), ..served() },
            later(660, at_stage(Stage::BakeTime, 100, None, half_well())),
            vec![WaitsFor("target 10.0.0.8:3000 is unhealthy")],
        ),
        case(
            "and stays so for as long as a rollout may take",
            Progress { unwell: Some(at(60)), ..served() },
            later(660, at_stage(Stage::BakeTime, 100, None, half_well())),
            vec![GivesUp("the load balancer has found some of them unhealthy for 10 minutes"), AsksEcs],
        ),
        case(
            "they are well again at the last moment",
            Progress { unwell: Some(at(60)), ..served() },
            later(660, at_stage(Stage::BakeTime, 100, None, both())),
            vec![WaitsFor("ECS keeps the old ones for a while")],
        ),
        case(
            "ECS replaces one of them, and nobody looks at targets meanwhile",
            Progress { unwell: Some(at(60)), ..served() },
            later(660, {
                let mut seen = half_well();
                seen.service.as_mut().unwrap().deployments[0].running = 1;
                seen.tasks.pop();
                seen.targets.clear();
                at_stage(Stage::BakeTime, 100, None, seen)
            }),
            vec![WaitsFor("1 of 2 tasks run")],
        ),
        case(
            "they are not well when ECS is through",
            Progress { unwell: Some(at(60)), ..served() },
            later(90, through(unwell())),
            vec![GivesUp("the load balancer has found all of them unhealthy for 30 seconds"), GoesBack],
        ),
        case("it is through", served(), through(good()), vec![Ends(Outcome::Succeeded, "1 of 1 tasks")]),
        case(
            "ECS never ends it",
            served(),
            later(60 + 3 * 3600 + 300, at_stage(Stage::BakeTime, 100, None, both())),
            vec![GivesUp("ECS did not complete it within 185 minutes of its serving"), AsksEcs],
        ),
        case(
            "the same version again changes nothing",
            Progress { begun: false, ..shifting(begun()) },
            at_stage(Stage::CleanUp, 100, None, {
                let mut seen = good();
                seen.service.as_mut().unwrap().deployments[0].completed = true;
                seen.attempt = Some(Attempt::of(Status::Successful));
                seen
            }),
            vec![Ends(Outcome::Unchanged, "serve already")],
        ),
    ]);
}

#[test]
fn ecs_is_asked_to_send_all_requests_back_as_long_as_it_has_the_old_tasks() {
    let back = || shifting(begun()).give_up("the smoke tests failed".to_owned(), at(60));
    let status = |status: Status, mut seen: Observed| {
        seen.attempt = Some(Attempt::of(status));
        seen.now = at(90);
        at_stage(Stage::BakeTime, 100, None, seen)
    };
    let live = || live_serves(vec![deployment(8, LIVE, true, 1)]);
    let restored = || Progress { back: Some("ecs-svc/9".to_owned()), ..back() };
    check(vec![
        case("it is under way", back(), status(Status::InProgress, good()), vec![AsksEcs]),
        case("it has not begun", back(), status(Status::Pending, good()), vec![AsksEcs]),
        case(
            "ECS goes back",
            back(),
            status(Status::RollbackInProgress, good()),
            vec![WaitsFor("requests go to the old tasks")],
        ),
        case(
            "ECS goes back, and shows the old version already",
            back(),
            status(Status::RollbackInProgress, live()),
            vec![WaitsFor("requests go to the old tasks")],
        ),
        case(
            "it went back",
            back(),
            status(Status::RollbackSuccessful, live()),
            vec![Ends(Outcome::RolledBack, "the smoke tests failed; 1 of 1 tasks of hello-prod-api:6 serve again")],
        ),
        case("it could not", back(), status(Status::RollbackFailed, good()), vec![GoesBack]),
        case("it is through, and the old tasks are gone", back(), status(Status::Successful, good()), vec![GoesBack]),
        case(
            "it never goes back",
            Progress { deadline: 30, ..back() },
            status(Status::InProgress, good()),
            vec![GoesBack],
        ),
        case(
            "the way back is a deployment of its own, whose requests go over too",
            restored(),
            {
                let mut seen = status(Status::InProgress, live());
                seen.attempt.as_mut().unwrap().stage = Some(Stage::ProductionTrafficShift);
                seen.attempt.as_mut().unwrap().share = Some(0);
                seen
            },
            vec![WaitsFor("0 % of the requests go to them")],
        ),
        case(
            "they have",
            restored(),
            status(Status::InProgress, live()),
            vec![Ends(Outcome::RolledBack, "serve again")],
        ),
        case(
            "ECS gave the way back up",
            restored(),
            Observed { now: at(300), ..status(Status::RollbackSuccessful, good()) },
            vec![Ends(Outcome::Failed, "by ECS, which gave the way back up")],
        ),
    ]);
}
