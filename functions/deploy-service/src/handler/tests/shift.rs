//! Requests that go over from the old tasks to the new ones all at once or in portions.

use super::*;

const CANARY: &str =
    "    rollout: {strategy: canary, percent: 10, pause: 5m, bake: 5m, test_traffic: true}\n    smoke: [{path: /}]\n";
const BLUE_GREEN: &str = "    rollout: {strategy: blue_green, bake: 5m}\n";

/// Passes until others have something to do.
async fn until_ready(fake: &Fake, run: &Run) -> String {
    for _ in 0..20 {
        match pass(fake, run, Ask::Deploy).await.unwrap() {
            Turn::Ready { note } => return note,
            Turn::Again { .. } => fake.world.borrow_mut().tick(),
            Turn::Done(verdict) => panic!("{verdict:?}"),
        }
    }
    panic!("no end: {:?}", fake.steps(run).await);
}

/// Which of a canary's steps were told.
async fn told(fake: &Fake) -> Vec<usize> {
    let order = [
        " deployment ecs-svc/3 of ",
        "its tests hold",
        "10 % of the requests",
        "100 % of the requests",
        "serves; ECS keeps",
        "succeeded",
    ];
    let number = |step: String| order.iter().position(|part| step.contains(part)).unwrap_or_else(|| panic!("{step}"));
    fake.steps(&run(2, BETTER)).await.into_iter().map(number).collect()
}

#[tokio::test]
async fn a_canary_is_tested_then_gets_some_requests_and_then_all() {
    let fake = with_live_of(CANARY).await;
    let (verdict, writes) = released(&fake, 2, BETTER).await;
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{}", verdict.reason);
    assert_eq!(writes, ["register 2", "update 2 -", "go on"]);
    assert_eq!(told(&fake).await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(serves(&fake), (BETTER.to_owned(), 1));
    // The same again changes nothing.
    let (verdict, writes) = released(&fake, 3, BETTER).await;
    assert_eq!((verdict.outcome, writes), (Outcome::Unchanged, Vec::new()));
}

#[tokio::test]
async fn a_version_that_fails_its_tests_never_gets_a_request() {
    let fake = with_live_of(CANARY).await;
    fake.world.borrow_mut().writes.clear();
    let two = run(2, BETTER);
    let note = until_ready(&fake, &two).await;
    assert!(note.contains("waits to be tested"), "{note}");
    // Asked again, it says the same again.
    assert_eq!(until_ready(&fake, &two).await, note);
    let verdict = finish(&fake, &two, Ask::RollBack).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::RolledBack, "{}", verdict.reason);
    assert_eq!(writes(&fake), ["register 2", "update 2 -", "undo"]);
    assert_eq!(serves(&fake), (GOOD.to_owned(), 1));
    assert!(!fake.steps(&two).await.iter().any(|step| step.contains("% of the requests")));
}

/// ECS does it by itself; nobody deploys anything for it.
#[tokio::test]
async fn an_alarm_that_goes_off_while_some_requests_go_over_sends_them_back() {
    let fake = with_live_of(&CANARY.replace("test_traffic: true", "alarms: [errors]")).await;
    fake.world.borrow_mut().writes.clear();
    let two = run(2, BETTER);
    while fake.world.borrow().attempt.as_ref().is_none_or(|attempt| attempt.share != Some(10)) {
        pass(&fake, &two, Ask::Deploy).await.unwrap();
        fake.world.borrow_mut().tick();
    }
    {
        let mut world = fake.world.borrow_mut();
        let attempt = world.attempt.as_mut().unwrap();
        (attempt.status, attempt.alarms) = (Status::RollbackInProgress, ["errors".to_owned()].into());
    }
    let verdict = finish(&fake, &two, Ask::Deploy).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::RolledBack, "{}", verdict.reason);
    assert!(verdict.reason.starts_with("ECS goes back by itself: errors went off"), "{}", verdict.reason);
    assert_eq!(writes(&fake), ["register 2", "update 2 -"]);
    assert_eq!(serves(&fake), (GOOD.to_owned(), 1));
}

#[tokio::test]
async fn what_fails_after_ecs_is_through_comes_back_without_a_wait() {
    let fake = with_live_of(BLUE_GREEN).await;
    let two = run(2, BETTER);
    assert_eq!(finish(&fake, &two, Ask::Deploy).await.unwrap().outcome, Outcome::Succeeded);
    fake.world.borrow_mut().writes.clear();
    let verdict = finish(&fake, &two, Ask::RollBack).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::RolledBack, "{}", verdict.reason);
    assert_eq!(writes(&fake), ["update 1 -"]);
    assert_eq!(fake.world.borrow().service.as_ref().unwrap().settings.shift.unwrap().bake, 0);
    end(&fake.aside, &two, verdict.outcome).await;
    // And the next release waits again.
    assert_eq!(released(&fake, 3, BETTER).await.0.outcome, Outcome::Succeeded);
    assert_eq!(fake.world.borrow().service.as_ref().unwrap().settings.shift.unwrap().bake, 5);
}

#[tokio::test]
async fn tasks_that_never_become_well_are_given_up_while_the_old_ones_serve() {
    for bad in [CRASHING, SICK, MISSING] {
        let fake = with_live_of(CANARY).await;
        let (verdict, writes) = released(&fake, 2, bad).await;
        assert_eq!(verdict.outcome, Outcome::RolledBack, "{bad}: {}", verdict.reason);
        assert_eq!(writes, ["register 2", "update 2 -", "undo"], "{bad}");
        assert_eq!(serves(&fake), (GOOD.to_owned(), 1));
    }
}

#[tokio::test]
async fn tasks_that_are_not_well_any_more_are_given_up_while_the_old_ones_are_there_though_ecs_stops_none() {
    for (text, stays, told) in [(CANARY, Stage::ProductionTrafficShift, "10 %"), (BLUE_GREEN, Stage::BakeTime, "100 %")]
    {
        let fake = with_live_of(text).await;
        fake.world.borrow_mut().stays = Some(stays);
        let (verdict, writes) = released(&fake, 2, AILING).await;
        assert_eq!(verdict.outcome, Outcome::RolledBack, "{}", verdict.reason);
        let all = "all its tasks were well, and the load balancer has found all of them unhealthy for 30 seconds";
        assert!(verdict.reason.starts_with(all), "{}", verdict.reason);
        assert!(verdict.reason.contains("with these codes: [500]"), "{}", verdict.reason);
        assert_eq!(writes.last().unwrap(), "undo", "{writes:?}");
        assert_eq!(serves(&fake), (GOOD.to_owned(), 1));
        let steps = fake.steps(&run(2, AILING)).await;
        assert!(steps.iter().any(|step| step.starts_with(told)), "{steps:?}");
        assert!(fake.world.borrow().now < 200, "the pauses and the bake are not waited for");
    }
}

#[tokio::test]
async fn a_first_release_waits_for_its_tests_alone() {
    let fake = empty().await;
    platform(&fake.aside, &manifest(8080, CANARY)).await;
    assert_eq!(released(&fake, 1, GOOD).await.0.outcome, Outcome::Succeeded);
    let steps = fake.steps(&run(1, GOOD)).await;
    assert!(steps.iter().any(|step| step.starts_with("its tests hold")), "{steps:?}");
    assert!(!steps.iter().any(|step| step.starts_with("10 %")), "{steps:?}");
}

#[tokio::test]
async fn a_first_release_that_is_bad_is_stopped() {
    let fake = empty().await;
    platform(&fake.aside, &manifest(8080, CANARY)).await;
    let (verdict, _) = released(&fake, 1, CRASHING).await;
    assert_eq!(verdict.outcome, Outcome::Failed, "{}", verdict.reason);
    assert_eq!(serves(&fake), (CRASHING.to_owned(), 0));
}

/// ECS takes the second target group with a rolling deployment, and moves requests from the next one on.
#[tokio::test]
async fn a_service_that_was_rolled_gets_its_second_target_group_task_by_task() {
    let fake = with_live().await;
    platform(&fake.aside, &manifest(8080, CANARY)).await;
    let settings = || fake.world.borrow().service.as_ref().unwrap().settings.clone();
    let (verdict, writes) = released(&fake, 2, GOOD).await;
    assert_eq!((verdict.outcome, writes), (Outcome::Succeeded, vec!["update 1 -".to_owned()]));
    assert!(settings().shift.is_none() && settings().target_group.unwrap().alternate.is_some());
    let steps = fake.steps(&run(2, GOOD)).await;
    assert!(
        steps.iter().any(|step| step.ends_with("task by task, as it brings the service its second target group")),
        "{steps:?}"
    );
    // The old tasks are gone.
    (0..3).for_each(|_| fake.world.borrow_mut().tick());
    assert_eq!(released(&fake, 3, BETTER).await.0.outcome, Outcome::Succeeded);
    assert!(settings().shift.is_some());
    // Back to rolling the second group stays, as it may be the one that serves.
    platform(&fake.aside, &manifest(8080, "    rollout: {deadline: 11m}\n# strategy: it was another one\n")).await;
    assert_eq!(released(&fake, 4, GOOD).await.0.outcome, Outcome::Succeeded);
    assert!(settings().shift.is_none() && settings().target_group.unwrap().alternate.is_some());
}

/// ECS refuses to change it then.
#[tokio::test]
async fn a_release_that_takes_another_over_half_way_goes_on_with_its_strategy() {
    let fake = with_live_of(CANARY).await;
    until_ready(&fake, &run(2, BETTER)).await;
    platform(&fake.aside, &manifest(8080, BLUE_GREEN)).await;
    let traffic = || fake.world.borrow().service.as_ref().unwrap().settings.shift.unwrap().traffic;
    assert_eq!(released(&fake, 3, GOOD).await.0.outcome, Outcome::Succeeded);
    assert_eq!(traffic(), Traffic::Canary { percent: 10, minutes: 5 });
    assert_eq!(released(&fake, 4, BETTER).await.0.outcome, Outcome::Succeeded);
    assert_eq!(traffic(), Traffic::AllAtOnce);
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_a_canary_goes_live_once() {
    cut_everywhere(async |cut| {
        let fake = with_live_of(CANARY).await;
        fake.world.borrow_mut().writes.clear();
        fake.line.cut(cut);
        let verdict = finish(&fake, &run(2, BETTER), Ask::Deploy).await.unwrap();
        assert_eq!(verdict.outcome, Outcome::Succeeded, "{cut:?}: {}", verdict.reason);
        let updates = writes(&fake).iter().filter(|write| write.starts_with("update")).count();
        assert_eq!(updates, 1, "{cut:?}");
        // What ECS is past already when it is looked at is not told, but nothing too early or twice.
        let told = told(&fake).await;
        assert!(told.is_sorted_by(|one, next| one < next) && told.len() >= 5, "{cut:?}: {told:?}");
        assert_eq!(serves(&fake), (BETTER.to_owned(), 1), "{cut:?}");
        over(&fake, &run(2, BETTER), verdict.outcome, &run(3, BETTER), cut).await
    })
    .await;
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_a_canary_that_fails_its_tests_is_undone() {
    cut_everywhere(async |cut| {
        let fake = with_live_of(CANARY).await;
        let two = run(2, BETTER);
        until_ready(&fake, &two).await;
        fake.world.borrow_mut().writes.clear();
        fake.line.cut(cut);
        let verdict = finish(&fake, &two, Ask::RollBack).await.unwrap();
        assert_eq!(verdict.outcome, Outcome::RolledBack, "{cut:?}: {}", verdict.reason);
        // Where ECS says that it went back but shows the service as before, what was live is deployed once more.
        let made = writes(&fake);
        assert!(made.iter().all(|write| ["undo", "update 1 -"].contains(&write.as_str())), "{cut:?}: {made:?}");
        let again = made.iter().filter(|write| *write == "update 1 -").count();
        assert!(again <= usize::from(format!("{cut:?}").contains("Stale")), "{cut:?}: {made:?}");
        assert_eq!(serves(&fake), (GOOD.to_owned(), 1), "{cut:?}");
        over(&fake, &two, verdict.outcome, &run(3, GOOD), cut).await
    })
    .await;
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_what_is_not_well_any_more_is_undone_once() {
    cut_everywhere(async |cut| {
        let fake = with_live_of(BLUE_GREEN).await;
        let two = run(2, AILING);
        {
            let mut world = fake.world.borrow_mut();
            world.stays = Some(Stage::BakeTime);
            world.writes.clear();
        }
        fake.line.cut(cut);
        let verdict = finish(&fake, &two, Ask::Deploy).await.unwrap();
        assert_eq!(verdict.outcome, Outcome::RolledBack, "{cut:?}: {}", verdict.reason);
        let made = writes(&fake);
        let expected = ["register 2", "update 2 -", "undo", "update 1 -"];
        assert!(made.iter().all(|write| expected.contains(&write.as_str())), "{cut:?}: {made:?}");
        let again = made.iter().filter(|write| *write == "update 1 -").count();
        assert!(again <= usize::from(format!("{cut:?}").contains("Stale")), "{cut:?}: {made:?}");
        assert_eq!(made.iter().filter(|write| *write == "update 2 -").count(), 1, "{cut:?}: {made:?}");
        assert_eq!(serves(&fake), (GOOD.to_owned(), 1), "{cut:?}");
        fake.world.borrow_mut().stays = None;
        if again > 0 {
            // It was deployed without a bake; the next release brings that back.
            let calls = fake.line.calls();
            fake.line.cut(None);
            end(&fake.aside, &two, verdict.outcome).await;
            assert_eq!(release(&fake, &run(3, GOOD)).await.1, ["update 1 -"], "{cut:?}");
            return calls;
        }
        over(&fake, &two, verdict.outcome, &run(3, GOOD), cut).await
    })
    .await;
}
