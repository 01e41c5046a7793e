mod cases;

use proptest::prelude::*;

use super::*;
use crate::task::TaskContainer;

const OURS: &str = "arn:aws:ecs:r:1:task-definition/hello-prod-api:7";
const LIVE: &str = "arn:aws:ecs:r:1:task-definition/hello-prod-api:6";
const OTHER: &str = "arn:aws:ecs:r:1:task-definition/hello-prod-api:9";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn settings(http: bool) -> Settings {
    let target_group =
        http.then(|| TargetGroup { arn: "tg".to_owned(), alternate: None, container: "api".to_owned(), port: 3000 });
    Settings { target_group, ..Settings::default() }
}

fn version(task_definition: &str, digest: &str) -> Version {
    let revision = Revision { task_definition: task_definition.to_owned(), digest: Some(digest.parse().unwrap()) };
    Version { revision, settings: settings(true) }
}

fn progress() -> Progress {
    Progress::new("api".to_owned(), version(OURS, "sha256:07"), Some(version(LIVE, "sha256:06")), at(0))
}

fn begun() -> Progress {
    Progress { begun: true, deployment: Some("ecs-svc/7".to_owned()), ..progress() }
}

fn first() -> Progress {
    Progress { live: None, ..begun() }
}

fn deployment(number: u32, task_definition: &str, primary: bool, running: u32) -> Deployment {
    Deployment {
        id: format!("ecs-svc/{number}"),
        primary,
        task_definition: task_definition.to_owned(),
        running,
        failed: false,
        completed: false,
        reason: None,
    }
}

fn service(deployments: Vec<Deployment>) -> Service {
    Service {
        desired: 1,
        running: deployments.iter().map(|one| one.running).sum(),
        settings: settings(true),
        deployments,
        ..Service::default()
    }
}

fn task(number: u32, task_definition: &str, by: u32, digest: &str) -> Task {
    Task {
        arn: format!("arn:aws:ecs:r:1:task/c/{number}"),
        task_definition: task_definition.to_owned(),
        started_by: Some(format!("ecs-svc/{by}")),
        created_at: Some(at(i64::from(number))),
        started_at: Some(at(i64::from(number) + 1)),
        status: "RUNNING".to_owned(),
        addresses: vec![format!("10.0.0.{number}")],
        containers: vec![TaskContainer {
            name: "api".to_owned(),
            digest: Some(digest.to_owned()),
            ..TaskContainer::default()
        }],
        ..Task::default()
    }
}

fn exited(number: u32, code: i32) -> Task {
    let mut task = task(number, OURS, 7, "sha256:07");
    task.status = "STOPPED".to_owned();
    task.stop_code = Some("EssentialContainerExited".to_owned());
    task.stopped_reason = Some("Essential container in task exited".to_owned());
    task.containers[0].exit_code = Some(code);
    task
}

fn never_started(number: u32, reason: &str) -> Task {
    let mut task = task(number, OURS, 7, "sha256:07");
    task.status = "STOPPED".to_owned();
    task.stop_code = Some("TaskFailedToStart".to_owned());
    task.stopped_reason = Some(reason.to_owned());
    task
}

fn target(number: u32, state: &str) -> Target {
    Target { address: format!("10.0.0.{number}"), port: 3000, state: state.to_owned(), ..Target::default() }
}

fn observed(seconds: i64, service: Option<Service>) -> Observed {
    Observed { now: at(seconds), service, tasks: Vec::new(), targets: Vec::new(), attempt: None }
}

/// Our deployment serves: the old one is still draining.
fn good() -> Observed {
    Observed {
        tasks: vec![task(7, OURS, 7, "sha256:07"), task(6, LIVE, 6, "sha256:06")],
        targets: vec![target(7, "healthy"), target(6, "draining")],
        ..observed(30, Some(service(vec![deployment(7, OURS, true, 1), deployment(6, LIVE, false, 1)])))
    }
}

/// Our deployment is the primary one, its tasks fail, and the old one serves.
fn failing(tasks: Vec<Task>) -> Observed {
    Observed { tasks, ..observed(30, Some(service(vec![deployment(7, OURS, true, 0), deployment(6, LIVE, false, 1)]))) }
}

fn verdict(action: Action) -> (Outcome, String) {
    match action {
        Action::End(verdict) => (verdict.outcome, verdict.reason),
        other => panic!("no verdict but {other:?}"),
    }
}

fn cause(action: Action) -> String {
    match action {
        Action::GiveUp { cause, .. } => cause,
        other => panic!("not given up but {other:?}"),
    }
}

fn waits(action: Action) -> String {
    match action {
        Action::Wait { note, .. } => note,
        other => panic!("no waiting but {other:?}"),
    }
}

#[test]
fn it_begins_with_one_call_and_never_says_how_many_tasks() {
    assert_eq!(next_action(&progress(), &observed(0, None)), Action::Create);
    let live = service(vec![deployment(6, LIVE, true, 1)]);
    assert_eq!(next_action(&progress(), &observed(0, Some(live))), Action::Update { count: None, force: false });
}

#[test]
fn a_service_at_no_tasks_is_started_only_where_nothing_was_live() {
    let stopped = Service { desired: 0, ..service(vec![deployment(6, OTHER, true, 0)]) };
    assert!(matches!(next_action(&progress(), &observed(0, Some(stopped.clone()))), Action::Refuse { .. }));
    let fresh = Progress { live: None, ..progress() };
    assert_eq!(next_action(&fresh, &observed(0, Some(stopped))), Action::Update { count: Some(1), force: true });
    // Even where its last deployment was of this very revision.
    let stopped = Service { desired: 0, ..service(vec![deployment(6, OURS, true, 0)]) };
    assert_eq!(next_action(&fresh, &observed(0, Some(stopped))), Action::Update { count: Some(1), force: true });
}

#[test]
fn a_name_that_is_being_freed_is_waited_for() {
    let draining = Service { draining: true, ..service(Vec::new()) };
    waits(next_action(&progress(), &observed(0, Some(draining.clone()))));
    assert_eq!(verdict(next_action(&progress(), &observed(600, Some(draining)))).0, Outcome::Failed);
}

#[test]
fn serving_is_success_while_the_old_tasks_still_drain() {
    let (outcome, reason) = verdict(next_action(&begun(), &good()));
    assert_eq!((outcome, reason.as_str()), (Outcome::Succeeded, "1 of 1 tasks of hello-prod-api:7 serve"));
}

#[test]
fn what_serves_already_is_unchanged() {
    let adopted = Progress { begun: false, ..begun() };
    assert_eq!(verdict(next_action(&adopted, &good())).0, Outcome::Unchanged);
}

#[test]
fn nothing_less_than_serving_is_success() {
    type Change = fn(&mut Observed);
    let table: [(&str, Change); 9] = [
        ("0 of 1 tasks run", |o| o.service.as_mut().unwrap().deployments[0].running = 0),
        ("1 of 2 tasks run", |o| o.service.as_mut().unwrap().desired = 2),
        ("the service wants 0 tasks", |o| o.service.as_mut().unwrap().desired = 0),
        ("runs sha256:06, which is not this image", |o| o.tasks[0].containers[0].digest = Some("sha256:06".to_owned())),
        ("0 of 1 tasks run this revision", |o| o.tasks[0].task_definition = LIVE.to_owned()),
        ("0 of 1 tasks run this revision", |o| o.tasks[0].status = "PENDING".to_owned()),
        ("is not a target of the load balancer yet", |o| o.targets.clear()),
        ("target 10.0.0.7:3000 is initial", |o| o.targets[0].state = "initial".to_owned()),
        ("is not a target of the load balancer yet", |o| o.targets[0].port = 80),
    ];
    for (expected, change) in table {
        let mut observed = good();
        change(&mut observed);
        let note = waits(next_action(&begun(), &observed));
        assert!(note.contains(expected), "{note}");
    }
}

#[test]
fn without_a_load_balancer_a_task_must_have_run_for_a_while() {
    let mut observed = good();
    observed.service.as_mut().unwrap().settings = settings(false);
    observed.targets.clear();
    observed.now = at(8 + STEADY.as_secs() - 1);
    assert!(waits(next_action(&begun(), &observed)).contains("for less than 10 seconds"));
    observed.now = at(8 + STEADY.as_secs());
    assert_eq!(verdict(next_action(&begun(), &observed)).0, Outcome::Succeeded);
}

#[test]
fn after_a_failure_a_healthy_task_must_prove_itself() {
    let mut observed = good();
    observed.tasks.push(exited(3, 1));
    waits(next_action(&begun(), &observed));
    observed.now = at(8 + STEADY_AFTER_FAILURE.as_secs());
    assert_eq!(verdict(next_action(&begun(), &observed)).0, Outcome::Succeeded);
}

#[test]
fn the_same_end_again_and_again_is_given_up() {
    let two = failing(vec![exited(1, 1), exited(2, 1)]);
    waits(next_action(&begun(), &two));
    let three = failing(vec![exited(1, 1), exited(3, 1), exited(2, 1)]);
    let action = next_action(&begun(), &three);
    let Action::GiveUp { cause: told, task } = action else { panic!("{action:?}") };
    assert_eq!(told, "3 tasks failed, the last one: Essential container in task exited (exit code 1)");
    assert_eq!(task.as_deref(), Some("arn:aws:ecs:r:1:task/c/3"));
    let mixed = failing(vec![exited(1, 1), exited(2, 2), exited(3, 3)]);
    waits(next_action(&begun(), &mixed));
    let many = failing((1..=5).map(|number| exited(number, number as i32)).collect());
    assert!(cause(next_action(&begun(), &many)).starts_with("5 tasks failed"));
}

#[test]
fn an_image_that_cannot_be_pulled_is_given_up_at_the_second_task() {
    let reason = "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found";
    waits(next_action(&begun(), &failing(vec![never_started(1, reason)])));
    let told = cause(next_action(&begun(), &failing(vec![never_started(1, reason), never_started(2, reason)])));
    assert!(told.contains("2 tasks failed") && told.contains("not found") && told.contains("never ran"), "{told}");
    let secrets = "ResourceInitializationError: unable to pull secrets or registry auth";
    waits(next_action(&begun(), &failing(vec![never_started(1, reason), never_started(2, secrets)])));
}

#[test]
fn unhealthy_tasks_count_and_tasks_that_were_stopped_do_not() {
    let stopped = |number: u32, code: &str, reason: &str| {
        let mut task = exited(number, 143);
        task.stop_code = Some(code.to_owned());
        task.stopped_reason = Some(reason.to_owned());
        task
    };
    let unhealthy =
        |number| stopped(number, "ServiceSchedulerInitiated", "Task failed ELB health checks in (target-group tg)");
    assert!(
        cause(next_action(&begun(), &failing(vec![unhealthy(1), unhealthy(2)]))).contains("failed ELB health checks")
    );
    let scaled =
        |number| stopped(number, "ServiceSchedulerInitiated", "Scaling activity initiated by (deployment ecs-svc/7)");
    let killed = |number| stopped(number, "UserInitiated", "Task stopped by user");
    waits(next_action(&begun(), &failing((1..9).map(scaled).chain((1..9).map(killed)).collect())));
}

#[test]
fn another_deployments_failures_are_not_ours() {
    let other = |number: u32| Task { started_by: Some("ecs-svc/5".to_owned()), ..exited(number, 1) };
    waits(next_action(&begun(), &failing((1..9).map(other).collect())));
    // Without a deployment's id the time tells: these are from before this rollout.
    let early =
        |number: i64| Task { started_by: Some("api".to_owned()), created_at: Some(at(-number)), ..exited(1, 1) };
    waits(next_action(&begun(), &failing((1..9).map(early).collect())));
}

#[test]
fn what_ecs_gave_up_is_given_up() {
    let mut observed = failing(vec![exited(1, 1)]);
    let service = observed.service.as_mut().unwrap();
    service.deployments[0].failed = true;
    service.deployments[0].reason = Some("tasks failed to start.".to_owned());
    let told = cause(next_action(&begun(), &observed));
    assert_eq!(
        told,
        "ECS gave the deployment up: tasks failed to start.; the last task: Essential container in task exited (exit code 1)"
    );
}

#[test]
fn the_deadline_tells_what_was_missing() {
    let mut observed = good();
    observed.targets[0] =
        Target { reason: Some("Health checks failed with these codes: [500]".to_owned()), ..target(7, "unhealthy") };
    observed.now = at(599);
    waits(next_action(&begun(), &observed));
    observed.now = at(600);
    assert_eq!(
        cause(next_action(&begun(), &observed)),
        "it did not serve within 10 minutes: target 10.0.0.7:3000 is unhealthy: Health checks failed with these codes: [500]"
    );
}

#[test]
fn the_deadline_is_the_releases_own() {
    let mut sick = good();
    sick.targets[0].state = "unhealthy".to_owned();
    for (deadline, text) in [(90, "90 seconds"), (120, "2 minutes"), (3600, "1 hour")] {
        let patient = Progress { deadline, ..begun() };
        sick.now = at(i64::from(deadline) - 1);
        waits(next_action(&patient, &sick));
        sick.now = at(deadline.into());
        let told = cause(next_action(&patient, &sick));
        assert!(told.starts_with(&format!("it did not serve within {text}: ")), "{told}");
    }
}

/// A rollout that two alarms may end, and what ECS shows of it while its tasks serve.
fn gated() -> (Progress, Observed) {
    let mut gated = begun();
    gated.ours.settings.alarms = ["errors", "latency"].map(str::to_owned).into();
    (gated, good())
}

#[test]
fn with_alarms_serving_is_written_down_and_success_waits_for_ecs() {
    let (gated, mut seen) = gated();
    assert_eq!(next_action(&gated, &seen), Action::Serves);
    let served = Progress { served: Some(at(30)), ..gated };
    // Its deadline was for serving.
    seen.now = at(5000);
    assert_eq!(waits(next_action(&served, &seen)), "1 tasks serve, and ECS still watches the alarms");
    // Meanwhile it may scale.
    seen.service.as_mut().unwrap().desired = 2;
    assert_eq!(waits(next_action(&served, &seen)), "1 of 2 tasks run");
    seen.service.as_mut().unwrap().desired = 1;
    seen.service.as_mut().unwrap().deployments[0].completed = true;
    assert_eq!(verdict(next_action(&served, &seen)).0, Outcome::Succeeded);
}

#[test]
fn what_was_well_and_is_found_unhealthy_is_timed_from_the_first_look_until_it_is_well_again() {
    let (gated, mut seen) = gated();
    seen.targets[0].state = "unhealthy".to_owned();
    assert_eq!(unwell(&gated, &seen), None, "it was never well");
    let served = Progress { served: Some(at(20)), ..gated };
    assert_eq!(unwell(&served, &seen), Some(at(30)));
    let known = Progress { unwell: Some(at(30)), ..served };
    seen.now = at(40);
    assert_eq!(unwell(&known, &seen), Some(at(30)));
    // One of its tasks is being replaced, and nobody looked at targets.
    let unseen = Observed { targets: Vec::new(), ..seen.clone() };
    assert_eq!(unwell(&known, &unseen), Some(at(30)));
    seen.targets[0].state = "initial".to_owned();
    assert_eq!(unwell(&known, &seen), None);
    assert_eq!(known.give_up("it does not hold".to_owned(), at(60)).unwell, None);
}

#[test]
fn what_ecs_never_completes_is_given_up() {
    let (gated, mut seen) = gated();
    seen.now = at(30) + WATCHED;
    let told = cause(next_action(&Progress { served: Some(at(30)), ..gated }, &seen));
    let expected =
        "ECS did not complete it within 3 hours of its serving: 1 tasks serve, and ECS still watches the alarms";
    assert_eq!(told, expected);
}

#[test]
fn an_alarm_that_goes_off_while_it_serves_is_told_as_such() {
    let (gated, mut seen) = gated();
    let served = Progress { served: Some(at(30)), ..gated };
    let failed = &mut seen.service.as_mut().unwrap().deployments[0];
    (failed.failed, failed.reason) = (true, Some("ECS deployment failed: alarm detected.".to_owned()));
    let why = "an alarm went off, of errors, latency: ECS deployment failed: alarm detected.";
    assert_eq!(cause(next_action(&served, &seen)), format!("ECS gave the deployment up: {why}"));
    // ECS has begun to go back before anybody looked.
    let own = seen.service.as_mut().unwrap().deployments.remove(0);
    let mut back = service(vec![deployment(8, LIVE, true, 0), Deployment { primary: false, ..own }]);
    back.deployments[0].reason = Some("ECS deployment in progress.".to_owned());
    let told = cause(next_action(&served, &Observed { service: Some(back), ..seen }));
    assert_eq!(told, format!("ECS went back to the live revision by itself: {why}"));
}

#[test]
fn what_the_load_balancer_said_is_kept_until_the_task_is_gone() {
    let mut sick = good();
    sick.targets[0] = Target { reason: Some("codes: [500]".to_owned()), ..target(7, "unhealthy") };
    assert_eq!(complaint(&begun(), &sick).as_deref(), Some("codes: [500]"));
    assert_eq!(complaint(&begun(), &good()), None);
    let kept = Progress { complaint: Some("codes: [500]".to_owned()), ..begun() };
    let told = cause(next_action(&kept, &failing(vec![exited(1, 143), exited(2, 143), exited(3, 143)])));
    assert!(told.ends_with("; the load balancer said: codes: [500]"), "{told}");
}

#[test]
fn a_deadline_without_a_failed_task_looks_at_the_log_of_one_that_runs() {
    let mut sick = good();
    sick.targets[0].state = "unhealthy".to_owned();
    sick.now = at(600);
    let Action::GiveUp { task, .. } = next_action(&begun(), &sick) else { panic!() };
    assert_eq!(task.as_deref(), Some("arn:aws:ecs:r:1:task/c/7"));
}

#[test]
fn a_revision_that_was_live_already_is_not_rolled_back_to_itself() {
    let same = Progress { begun: false, live: Some(version(OURS, "sha256:07")), ..begun() };
    let action = next_action(&same, &failing(vec![exited(1, 1), exited(2, 1), exited(3, 1)]));
    let (outcome, reason) = verdict(action);
    assert_eq!(outcome, Outcome::Failed);
    assert!(reason.contains("nothing to go back to"), "{reason}");
}

#[test]
fn ecs_going_back_by_itself_is_not_success_and_not_a_stranger() {
    let mut back = service(vec![deployment(8, LIVE, true, 1), deployment(7, OURS, false, 0)]);
    back.deployments[1].failed = true;
    back.deployments[1].reason = Some("ECS deployment circuit breaker: tasks failed to start.".to_owned());
    let told = cause(next_action(&begun(), &observed(30, Some(back))));
    assert_eq!(
        told,
        "ECS went back to the live revision by itself: ECS deployment circuit breaker: tasks failed to start."
    );
}

#[test]
fn a_strangers_deployment_supersedes_ours() {
    let other = service(vec![deployment(9, OTHER, true, 1), deployment(7, OURS, false, 1)]);
    let (outcome, reason) = verdict(next_action(&begun(), &observed(30, Some(other))));
    assert_eq!(outcome, Outcome::Superseded);
    assert!(reason.contains("ecs-svc/9 of hello-prod-api:9"), "{reason}");
}

#[test]
fn an_answer_from_before_our_call_is_not_believed() {
    let before = || Some(service(vec![deployment(6, LIVE, true, 1)]));
    waits(next_action(&begun(), &observed(59, before())));
    cause(next_action(&begun(), &observed(60, before())));
    waits(next_action(&first(), &observed(59, None)));
    assert_eq!(verdict(next_action(&first(), &observed(60, None))).0, Outcome::Failed);
}

#[test]
fn a_call_whose_answer_was_lost_is_not_made_twice() {
    let lost = Progress { deployment: None, ..begun() };
    let made = || service(vec![deployment(7, OURS, true, 0), deployment(6, LIVE, false, 1)]);
    let adopt = Action::Adopt { deployment: "ecs-svc/7".to_owned() };
    assert_eq!(next_action(&lost, &observed(1, Some(made()))), adopt);
    // ECS went on, or back, before anybody looked.
    let gone = service(vec![deployment(8, LIVE, true, 1), deployment(7, OURS, false, 0)]);
    assert_eq!(next_action(&lost, &observed(1, Some(gone))), adopt);
    // It was never made.
    let before = service(vec![deployment(6, LIVE, true, 1)]);
    assert_eq!(next_action(&lost, &observed(1, Some(before))), Action::Update { count: None, force: false });
    assert_eq!(next_action(&lost, &observed(1, None)), Action::Create);
}

#[test]
fn other_settings_need_an_update_even_where_the_revision_is_the_same() {
    let mut bare = service(vec![deployment(6, OURS, true, 1)]);
    bare.settings = settings(false);
    assert_eq!(next_action(&progress(), &observed(0, Some(bare))), Action::Update { count: None, force: false });
}

#[test]
fn a_new_number_of_tasks_is_asked_for_once_and_waited_for() {
    let live = service(vec![deployment(7, OURS, true, 1)]);
    let resize = Some(Resize { from: 1, to: 3 });
    let asked = Progress { live: Some(version(OURS, "sha256:07")), resize, ..progress() };
    assert_eq!(next_action(&asked, &observed(0, Some(live.clone()))), Action::Update { count: Some(3), force: false });
    // The answer was lost: nobody asks again.
    let asked = Progress { begun: true, ..asked };
    let grown = Service { desired: 3, ..live.clone() };
    assert_eq!(
        next_action(&asked, &observed(1, Some(grown.clone()))),
        Action::Adopt { deployment: "ecs-svc/7".to_owned() }
    );
    let known = Progress { deployment: Some("ecs-svc/7".to_owned()), ..asked };
    waits(next_action(&known, &observed(2, Some(grown))));
    // With another image, both go in one call; and a service that somebody stopped is left alone.
    let both = Progress { resize, ..progress() };
    let other = service(vec![deployment(6, LIVE, true, 1)]);
    assert_eq!(next_action(&both, &observed(0, Some(other.clone()))), Action::Update { count: Some(3), force: false });
    assert!(matches!(next_action(&both, &observed(0, Some(Service { desired: 0, ..other }))), Action::Refuse { .. }));
}

#[test]
fn tasks_that_share_an_address_are_told_apart_by_their_ports() {
    let shared = |number: u32, port: u16| Task {
        addresses: vec!["i-1".to_owned()],
        ports: BTreeMap::from([(3000, port)]),
        ..task(number, OURS, 7, "sha256:07")
    };
    let target = |port: u16, state: &str| Target {
        address: "i-1".to_owned(),
        port,
        state: state.to_owned(),
        ..Target::default()
    };
    let mut two = service(vec![deployment(7, OURS, true, 2)]);
    two.desired = 2;
    let seen = |second: &str| Observed {
        tasks: vec![shared(1, 32_768), shared(2, 32_769)],
        targets: vec![target(32_768, "healthy"), target(32_769, second)],
        ..observed(30, Some(two.clone()))
    };
    waits(next_action(&begun(), &seen("unhealthy")));
    assert_eq!(verdict(next_action(&begun(), &seen("healthy"))).0, Outcome::Succeeded);
}

#[test]
fn going_back_starts_one_deployment_and_ends_when_the_live_version_serves() {
    let back = begun().give_up("it crashed".to_owned(), at(100));
    assert_eq!(back.phase, Phase::RollingBack);
    let bad = || Some(service(vec![deployment(7, OURS, true, 0), deployment(6, LIVE, false, 1)]));
    assert_eq!(next_action(&back, &observed(100, bad())), Action::Restore);
    let asked = Progress { back: Some("ecs-svc/8".to_owned()), ..back };
    waits(next_action(&asked, &observed(110, bad())));

    let restored = |running: u32| service(vec![deployment(8, LIVE, true, running), deployment(7, OURS, false, 0)]);
    waits(next_action(&asked, &observed(110, Some(restored(0)))));
    let serving = Observed {
        tasks: vec![task(6, LIVE, 6, "sha256:06")],
        targets: vec![target(6, "healthy")],
        ..observed(110, Some(restored(1)))
    };
    let (outcome, reason) = verdict(next_action(&asked, &serving));
    assert_eq!(
        (outcome, reason.as_str()),
        (Outcome::RolledBack, "it crashed; 1 of 1 tasks of hello-prod-api:6 serve again")
    );
    let late = Observed { now: at(700), targets: vec![target(6, "unhealthy")], ..serving };
    let (outcome, reason) = verdict(next_action(&asked, &late));
    assert_eq!(outcome, Outcome::Failed);
    assert!(
        reason.contains("going back to hello-prod-api:6 failed too") && reason.contains("1 of 1 tasks run now"),
        "{reason}"
    );
}

#[test]
fn going_back_does_not_believe_too_early_that_nothing_had_begun() {
    let lost = Progress { deployment: None, ..begun() }.abandon("an error", at(5)).unwrap();
    let serving = |seconds| Observed {
        tasks: vec![task(6, LIVE, 6, "sha256:06")],
        targets: vec![target(6, "healthy")],
        ..observed(seconds, Some(service(vec![deployment(6, LIVE, true, 1)])))
    };
    waits(next_action(&lost, &serving(10)));
    assert_eq!(verdict(next_action(&lost, &serving(21))).0, Outcome::RolledBack);
}

#[test]
fn a_stranger_on_the_way_back_is_named() {
    let back = begun().give_up("it crashed".to_owned(), at(100));
    let other = service(vec![deployment(9, OTHER, true, 1)]);
    assert_eq!(verdict(next_action(&back, &observed(100, Some(other)))).0, Outcome::Superseded);
    assert_eq!(verdict(next_action(&back, &observed(100, None))).0, Outcome::Failed);
}

#[test]
fn a_first_release_that_does_not_hold_is_stopped() {
    let down = first().give_up("it crashed".to_owned(), at(100));
    assert_eq!(down.phase, Phase::Stopping);
    let looping = service(vec![deployment(7, OURS, true, 0)]);
    assert_eq!(next_action(&down, &observed(100, Some(looping.clone()))), Action::Stop);
    let stopped = Service { desired: 0, running: 1, ..looping };
    waits(next_action(&down, &observed(101, Some(stopped.clone()))));
    let empty = Service { running: 0, ..stopped };
    let (outcome, reason) = verdict(next_action(&down, &observed(101, Some(empty))));
    assert_eq!(outcome, Outcome::Failed);
    assert!(reason.starts_with("it crashed; nothing was live before"), "{reason}");
    assert_eq!(verdict(next_action(&down, &observed(101, None))).0, Outcome::Failed);
}

#[test]
fn an_abandoned_rollout_undoes_what_had_begun_and_nothing_else() {
    let untouched = progress().abandon("an error", at(5)).unwrap_err();
    assert_eq!(untouched.reason, "an error; nothing had begun, and the service is as it was");
    assert_eq!(begun().abandon("an error", at(5)).unwrap().phase, Phase::RollingBack);
    assert_eq!(first().abandon("an error", at(5)).unwrap().phase, Phase::Stopping);
    let back = begun().give_up("it crashed".to_owned(), at(3));
    assert_eq!(back.clone().abandon("an error", at(5)).unwrap(), back);
    // A success that the machine never heard of is undone; a failure stands.
    let ended = |outcome| Progress { verdict: Some(Verdict { outcome, reason: "r".to_owned() }), ..begun() };
    let undone = ended(Outcome::Succeeded).abandon("an error", at(5)).unwrap();
    assert_eq!((undone.phase, undone.verdict), (Phase::RollingBack, None));
    assert_eq!(ended(Outcome::RolledBack).abandon("an error", at(5)).unwrap_err().outcome, Outcome::RolledBack);
}

/// A small ECS: what becomes of the tasks of a revision is given.
#[derive(Clone, Debug)]
struct World {
    good: [bool; 2],
    service: Option<Service>,
    tasks: Vec<Task>,
    next: u32,
    now: i64,
    updates: u32,
}

impl World {
    fn start(&mut self, task_definition: &str) -> String {
        let number = self.next;
        self.next += 1;
        let service = self.service.get_or_insert_with(|| service(Vec::new()));
        for other in &mut service.deployments {
            other.primary = false;
        }
        service.deployments.insert(0, deployment(number, task_definition, true, 0));
        self.updates += 1;
        format!("ecs-svc/{number}")
    }

    fn tick(&mut self) {
        self.now += 10;
        let Some(service) = &mut self.service else { return };
        let Some(primary) = service.deployments.iter_mut().find(|one| one.primary) else { return };
        let (is_good, digest) = match primary.task_definition.as_str() {
            OURS => (self.good[0], "sha256:07"),
            _ => (self.good[1], "sha256:06"),
        };
        if service.desired == 0 {
            self.tasks.retain(Task::stopped);
            primary.running = 0;
        } else if is_good && primary.running == 0 {
            let by = primary.id.trim_start_matches("ecs-svc/").parse().unwrap();
            self.tasks.push(task(self.next, &primary.task_definition, by, digest));
            self.next += 1;
            primary.running = 1;
        } else if !is_good {
            let mut failed = exited(self.next, 1);
            failed.task_definition = primary.task_definition.clone();
            failed.started_by = Some(primary.id.clone());
            self.next += 1;
            self.tasks.push(failed);
        } else {
            // Steady: what is old has drained.
            let kept = primary.task_definition.clone();
            self.tasks.retain(|task| task.stopped() || task.task_definition == kept);
            service.deployments.retain(|one| one.primary);
        }
        service.running = u32::try_from(self.tasks.iter().filter(|task| task.running()).count()).unwrap();
    }

    fn look(&self) -> Observed {
        let running = self.tasks.iter().filter(|task| task.running());
        Observed {
            now: at(self.now),
            service: self.service.clone(),
            tasks: self.tasks.clone(),
            targets: running
                .map(|task| Target {
                    address: task.addresses[0].clone(),
                    port: 3000,
                    state: "healthy".to_owned(),
                    ..Target::default()
                })
                .collect(),
            attempt: None,
        }
    }
}

proptest! {
    /// Applying the chosen actions and deciding again comes to an end, whatever holds and whatever answer is lost, with at most
    /// one call forward and one back, and the outcome that fits.
    #[test]
    fn every_rollout_ends_with_the_outcome_that_fits(
        ours_good: bool, live_good: bool, had_live: bool, lost in proptest::collection::vec(any::<bool>(), 3),
    ) {
        let mut world = World { good: [ours_good, live_good || !had_live], service: None, tasks: Vec::new(), next: 10, now: 0, updates: 0 };
        if had_live {
            world.start(LIVE);
            world.good[1] = true;
            world.tick();
            world.tick();
            world.good[1] = live_good;
            world.updates = 0;
        }
        let mut progress = Progress { live: had_live.then(|| version(LIVE, "sha256:06")), ..progress() };
        progress.since = at(world.now);
        let mut lost = lost.into_iter();
        let verdict = 'ended: {
            for _ in 0..300 {
                match next_action(&progress, &world.look()) {
                    Action::Create | Action::Update { .. } => {
                        progress.begun = true;
                        let id = world.start(OURS);
                        progress.deployment = (!lost.next().unwrap_or(false)).then_some(id);
                    }
                    Action::Adopt { deployment } => progress.deployment = Some(deployment),
                    Action::Serves => progress.served = Some(at(world.now)),
                    Action::GiveUp { cause, .. } => progress = progress.give_up(cause, at(world.now)),
                    Action::Restore => {
                        let id = world.start(LIVE);
                        progress.back = (!lost.next().unwrap_or(false)).then_some(id);
                    }
                    Action::Stop => world.service.as_mut().unwrap().desired = 0,
                    Action::Wait { .. } => world.tick(),
                    Action::End(verdict) => break 'ended verdict,
                    other @ (Action::Refuse { .. } | Action::Test | Action::Continue { .. } | Action::Undo) => panic!("{other:?}"),
                }
            }
            panic!("no end: {progress:?} {world:?}");
        };
        let expected = match (ours_good, had_live, live_good) {
            (true, ..) => Outcome::Succeeded,
            (false, true, true) => Outcome::RolledBack,
            _ => Outcome::Failed,
        };
        prop_assert_eq!(verdict.outcome, expected, "{}", verdict.reason);
        prop_assert!(world.updates <= 2);
        prop_assert_eq!(world.updates == 1, ours_good || !had_live);
        if !ours_good && !had_live {
            prop_assert_eq!(world.service.unwrap().desired, 0);
        }
    }

    /// Whatever is observed, the decision is total, and success is never said of anything but our own primary deployment.
    #[test]
    fn success_is_said_of_our_own_primary_deployment_alone(
        primary in 0usize..3, running in 0u32..3, desired in 0u32..3, digest in 0usize..3, state in 0usize..2, seconds in 0i64..700,
        begun in any::<bool>(), known in any::<bool>(),
    ) {
        let revision = [OURS, LIVE, OTHER][primary];
        let mut world = service(vec![deployment(7, revision, true, running)]);
        world.desired = desired;
        let mut one = task(7, revision, 7, "sha256:07");
        one.containers[0].digest = [Some("sha256:07"), Some("sha256:06"), None][digest].map(str::to_owned);
        one.started_at = Some(at(-100));
        let observed = Observed {
            tasks: (0..running).map(|_| one.clone()).collect(),
            targets: vec![target(7, ["healthy", "unhealthy"][state])],
            ..observed(seconds, Some(world))
        };
        let progress = Progress { begun, deployment: known.then(|| "ecs-svc/7".to_owned()), ..progress() };
        if let Action::End(verdict) = next_action(&progress, &observed)
            && verdict.outcome.is_live()
        {
            prop_assert!(primary == 0 && desired > 0 && running >= desired && digest != 1 && state == 0 && known);
        }
    }
}
