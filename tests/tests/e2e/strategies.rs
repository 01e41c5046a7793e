//! Rollouts whose requests go over all at once or in portions, while somebody keeps asking: nobody is left without an answer, and
//! nobody but its tests reaches a version that does not hold.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use shipway_domain::{
    message::Run,
    name::Component,
    release::{Artifact, Outcome, ReleaseRecord},
    rollout::Progress,
};
use shipway_tests::{Place, Shipway, ask::Aws, visitor::Visitor};

use super::{
    PROVISIONED, RELEASED, good, manifest, provisioned_with, roll_out,
    rollouts::{ended_again, has_begun, manifest_with, says, serves},
    service, with_shipway, without_migration,
};

/// The example's manifest with this rollout.
fn rolled_out_by(app: &str, rollout: &str) -> Result<String> {
    Ok(without_migration(&manifest_with(app, &format!("rollout: {{{rollout}}}"))?))
}

/// The steps say these things, in this order.
fn told(release: &ReleaseRecord, parts: &[&str]) -> Result<()> {
    let mut steps = release.steps.iter().map(|step| step.what.as_str());
    for part in parts {
        ensure!(
            steps.any(|step| step.contains(part)),
            "`{part}` is not told, or not in its place: {:#?}",
            release.steps
        );
    }
    Ok(())
}

fn never_got_a_request(release: &ReleaseRecord) -> Result<()> {
    let got = release.steps.iter().any(|step| step.what.contains("% of the requests"));
    ensure!(!got, "{:#?}", release.steps);
    Ok(())
}

/// How the last rollout went over, in ECS's own words.
async fn strategy(shipway: &Shipway, place: &Place) -> Result<String> {
    let cluster = format!("{}-{}", place.app, place.environment);
    let call = shipway.ecs().describe_services().cluster(&cluster).services(format!("{cluster}-api"));
    let described = call.send().await?;
    let configuration = described.services().first().and_then(|one| one.deployment_configuration());
    Ok(configuration.and_then(|one| one.strategy()).context("no strategy")?.as_str().to_owned())
}

/// Applies another manifest, and waits for the release of what is live that follows: its so-manieth.
async fn applied(
    shipway: &Shipway,
    place: &Place,
    text: &str,
    live: &Artifact,
    number: usize,
) -> Result<ReleaseRecord> {
    let manifest = shipway.upload_manifest(place, text).await?;
    let release = shipway.ended(place, &Component::Platform, &manifest, PROVISIONED).await?;
    super::expect(&release, Outcome::Succeeded, shipway, place).await?;
    ended_again(shipway, place, live, number).await
}

#[test]
fn blue_green_moves_all_requests_at_once_and_only_to_what_is_well() {
    with_shipway(async |shipway| {
        let text = rolled_out_by("bluegreen", "strategy: blue_green, bake: 2m")?;
        let tested = text.replace("    smoke: [", "    smoke: [{command: [migrate]}, ");
        let place = provisioned_with(shipway, "bluegreen", &tested).await?;
        let (first, _) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        serves(shipway, &place, &first).await?;
        let visitor = Visitor::arrives(shipway, &place).await?;
        for (tag, image, reason) in [
            (
                "v2",
                good("2").await?.command(["crash"]),
                &["exit code 1", "cannot start: no configuration", "serve again"][..],
            ),
            ("v3", good("3").await?.env("HEALTH_STATUS", "503"), &["[503]", "serve again"]),
        ] {
            let (_, release) = roll_out(shipway, &place, tag, &image, Outcome::RolledBack).await?;
            says(&release, reason)?;
            never_got_a_request(&release)?;
            serves(shipway, &place, &first).await?;
        }
        // Each goes to the target group that the one before is not in.
        for (tag, version) in [("v4", "4"), ("v5", "5")] {
            let (artifact, release) = roll_out(shipway, &place, tag, &good(version).await?, Outcome::Succeeded).await?;
            told(
                &release,
                &["started deployment", "100 % of the requests go to", "ECS keeps the old tasks", "succeeded"],
            )?;
            serves(shipway, &place, &artifact).await?;
            ensure!(strategy(shipway, &place).await? == "BLUE_GREEN");
        }
        // Good by its health, and no use: the tests come when the old tasks are gone, so what was live is deployed again.
        let useless = good("6").await?.env("MIGRATE_FAIL", "1");
        let (_, back) = roll_out(shipway, &place, "v6", &useless, Outcome::RolledBack).await?;
        says(&back, &["the smoke test `migrate` of `api` failed", "serve again"])?;
        told(&back, &["100 % of the requests", "succeeded", "going back: started deployment"])?;
        visitor.was_answered_by(shipway, &place, &["1", "4", "5", "6"]).await
    });
}

#[test]
fn a_canary_is_tested_before_anybody_reaches_it_and_then_gets_some_requests_first() {
    with_shipway(async |shipway| {
        let rollout = "strategy: canary, percent: 20, pause: 3m, bake: 1m, test_traffic: true";
        let text = rolled_out_by("canary", rollout)?;
        let tested = text.replace("\"/hello\"'}]", "\"/hello\"', timeout: 3s}]");
        ensure!(tested != text, "the example has other smoke tests: {text}");
        let place = provisioned_with(shipway, "canary", &tested).await?;
        let (first, release) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        told(&release, &["as test traffic was answered 200", "its tests hold", "succeeded"])?;
        let visitor = Visitor::arrives(shipway, &place).await?;

        let (_, failed) =
            roll_out(shipway, &place, "v2", &good("2").await?.env("STATUS", "500"), Outcome::RolledBack).await?;
        says(&failed, &["as test traffic: the answer was 500, not 200", "serve again"])?;
        told(&failed, &["started deployment", "smoke test: failed", "going back: asked ECS"])?;
        never_got_a_request(&failed)?;
        serves(shipway, &place, &first).await?;

        let (third, release) = roll_out(shipway, &place, "v3", &good("3").await?, Outcome::Succeeded).await?;
        told(
            &release,
            &[
                "as test traffic was answered 200",
                "its tests hold",
                "20 % of the requests",
                "100 % of the requests",
                "succeeded",
            ],
        )?;
        serves(shipway, &place, &third).await?;
        visitor.was_answered_by(shipway, &place, &["1", "3"]).await?;

        // What was live before needs no test.
        let back = shipway.start(&place, &service(), &first).await?;
        let release = shipway.ended_execution(&place, &back, RELEASED).await?;
        super::expect(&release, Outcome::Succeeded, shipway, &place).await?;
        ensure!(!release.steps.iter().any(|step| step.what.contains("smoke test")), "{:#?}", release.steps);
        serves(shipway, &place, &first).await
    });
}

#[test]
fn a_canary_that_nobody_lets_finish_goes_back_to_what_was_live() {
    with_shipway(async |shipway| {
        let hurried = rolled_out_by("undone", "strategy: blue_green, bake: 1m")?;
        let place = provisioned_with(shipway, "undone", &hurried).await?;
        let (first, _) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let patient = rolled_out_by("undone", "strategy: canary, percent: 50, pause: 60m, bake: 1m")?;
        // The next release goes by it; what is live has nothing to gain.
        let applied = shipway.upload_manifest(&place, &patient).await?;
        let release = shipway.ended(&place, &Component::Platform, &applied, PROVISIONED).await?;
        super::expect(&release, Outcome::Unchanged, shipway, &place).await?;
        let visitor = Visitor::arrives(shipway, &place).await?;
        let second = shipway.push("undone-api", "v2", &good("2").await?).await?;
        has_begun(shipway, &place, &second, "50 % of the requests").await?;
        // Somebody stops it in ECS.
        let release = shipway.releases_of(&place, &service(), &second).await?.pop().context("no release")?;
        let run = Run {
            app: place.app.clone(),
            environment: place.environment.clone(),
            component: service(),
            artifact: second.clone(),
            release: release.release.clone(),
            fence: 0,
            repair: false,
        };
        let progress: Progress = shipway.store.progress(&run, "deploy").await?.context("no progress")?;
        let attempt = progress.attempt.context("ECS told no service deployment")?;
        Aws::of(&shipway.cloud)?.ask(
            "ecs",
            "stop_service_deployment",
            json!({"serviceDeploymentArn": attempt, "stopType": "ROLLBACK"}),
        )?;
        let release = shipway.ended(&place, &service(), &second, RELEASED).await?;
        super::expect(&release, Outcome::RolledBack, shipway, &place).await?;
        says(&release, &["ECS goes back by itself", "serve again"])?;
        serves(shipway, &place, &first).await?;
        visitor.was_answered_by(shipway, &place, &["1", "2"]).await
    });
}

#[test]
fn a_version_that_is_not_well_any_more_once_it_serves_goes_back_before_its_bake_is_over() {
    with_shipway(async |shipway| {
        let hurried = rolled_out_by("ails", "strategy: blue_green, bake: 1m")?
            .replace("    memory: 512\n", "    memory: 512\n    count: 2\n");
        let place = provisioned_with(shipway, "ails", &hurried).await?;
        let (first, _) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let patient = hurried.replace("bake: 1m", "bake: 120m");
        let applied = shipway.upload_manifest(&place, &patient).await?;
        let release = shipway.ended(&place, &Component::Platform, &applied, PROVISIONED).await?;
        super::expect(&release, Outcome::Unchanged, shipway, &place).await?;
        let visitor = Visitor::arrives(shipway, &place).await?;
        let second = shipway.push("ails-api", "v2", &good("2").await?.env("FRAGILE", "1")).await?;
        has_begun(shipway, &place, &second, "100 % of the requests").await?;
        let balancer = shipway.platform(&place).await?.load_balancer.context("no load balancer")?;
        let started = Instant::now();
        let release = loop {
            // Whichever of its tasks answers is broken from now on, and those that come after them too.
            shipway.cloud.http_through_load_balancer(&balancer, "/break").await?;
            let newest = shipway.releases_of(&place, &service(), &second).await?.pop().context("no release")?;
            if newest.outcome.is_some() {
                break newest;
            }
            ensure!(started.elapsed() < RELEASED, "it did not end\n{}", shipway.story(&place).await?);
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        super::expect(&release, Outcome::RolledBack, shipway, &place).await?;
        // By the tasks that ECS stopped, or by the load balancer's word, whichever is known first.
        says(&release, &["Health checks failed with these codes: [500]", "2 of 2 tasks", "serve again"])?;
        told(&release, &["100 % of the requests", "giving up", "going back: asked ECS"])?;
        serves(shipway, &place, &first).await?;
        visitor.was_answered_by(shipway, &place, &["1", "2"]).await
    });
}

#[test]
fn a_service_changes_its_strategy_and_its_rule_while_it_serves() {
    with_shipway(async |shipway| {
        let rolling = without_migration(&manifest("changes"));
        let place = provisioned_with(shipway, "changes", &rolling).await?;
        let (first, _) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let visitor = Visitor::arrives(shipway, &place).await?;
        let linear = rolled_out_by("changes", "strategy: linear, percent: 40, pause: 1m, bake: 1m")?;
        let refreshed = applied(shipway, &place, &linear, &first, 2).await?;
        super::expect(&refreshed, Outcome::Succeeded, shipway, &place).await?;
        told(&refreshed, &["task by task, as it brings the service its second target group", "succeeded"])?;

        let (second, release) = roll_out(shipway, &place, "v2", &good("2").await?, Outcome::Succeeded).await?;
        told(&release, &["40 % of the requests", "80 % of the requests", "100 % of the requests", "succeeded"])?;
        serves(shipway, &place, &second).await?;

        // The rule is CloudFormation's, where it leads is ECS's: an update of the one leaves the other.
        applied(shipway, &place, &linear.replace("path: /*", "path: \"/?*\""), &second, 2).await?;
        serves(shipway, &place, &second).await?;
        // The second target group may be the one that serves, so it stays.
        applied(shipway, &place, &rolling, &second, 3).await?;
        let (third, release) = roll_out(shipway, &place, "v3", &good("3").await?, Outcome::Succeeded).await?;
        ensure!(strategy(shipway, &place).await? == "ROLLING", "{:#?}", release.steps);
        serves(shipway, &place, &third).await?;
        visitor.was_answered_by(shipway, &place, &["1", "2", "3"]).await
    });
}
