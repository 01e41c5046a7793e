//! The whole path against the local cloud, under IAM checks: what a user does, and what AWS then shows.
//!
//! One installation serves all tests; each has an app of its own. Run in one process (`cargo test --test e2e`), they share it.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]
#![allow(clippy::disallowed_methods, reason = "waiting for what must not happen is what some tests do")]

use std::{
    collections::BTreeSet,
    sync::{LazyLock, Mutex, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use local_cloud::{
    Config, Containers, LocalCloud,
    faults::{Fault, Rule},
    hello,
    image::Image,
};
use serde_json::{Value, json};
use shipway_domain::{
    approval::Asked,
    name::Component,
    release::{Artifact, Outcome, ReleaseRecord},
};
use shipway_tests::{Place, Shipway, ask::Aws, ear::Ear, rights, site, tools, visitor::Visitor};
use tokio::runtime::Runtime;

#[path = "e2e/denials.rs"]
mod denials;
#[path = "e2e/not_ours.rs"]
mod not_ours;
#[path = "e2e/operating.rs"]
mod operating;
#[path = "e2e/rollouts.rs"]
mod rollouts;
#[path = "e2e/slack.rs"]
mod slack;
#[path = "e2e/snapshots.rs"]
mod snapshots;
#[path = "e2e/strategies.rs"]
mod strategies;
#[path = "e2e/tampered.rs"]
mod tampered;

const PROVISIONED: Duration = Duration::from_secs(120);
const RELEASED: Duration = Duration::from_secs(120);

/// The cloud's proxy lives on this runtime, so it must outlive every single test.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static SHIPWAY: OnceLock<Shipway> = OnceLock::new();
static APPS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn with_shipway(test: impl AsyncFnOnce(&'static Shipway) -> Result<()>) {
    let shipway = SHIPWAY.get_or_init(|| {
        let installed = RUNTIME.block_on(async {
            // DOCKER_HOST is set by `cargo xtask test` where an engine is to run the containers.
            let containers = std::env::var("SHIPWAY_DOCKER_HOST").map_or(Containers::Processes, Containers::Docker);
            Shipway::install(LocalCloud::start(Config { containers, ..Config::new(tools()?) }).await?).await
        });
        installed.unwrap()
    });
    let tested = RUNTIME.block_on(test(shipway));
    if let Err(error) = tested.and(RUNTIME.block_on(rights::hold(&shipway.cloud))) {
        panic!("{error:?}");
    }
}

fn service() -> Component {
    "service/api".parse().unwrap()
}

fn website() -> Component {
    "site/web".parse().unwrap()
}

/// The example's manifest for another app, each with a repository of its own.
fn manifest(app: &str) -> String {
    include_str!("../../examples/hello/shipway.yaml")
        .replace("app: hello", &format!("app: {app}"))
        .replace("hello-api", &format!("{app}-api"))
}

fn without_migration(manifest: &str) -> String {
    manifest.lines().filter(|line| !line.contains("migrate:")).map(|line| format!("{line}\n")).collect()
}

async fn provisioned(shipway: &Shipway, app: &str) -> Result<Place> {
    provisioned_with(shipway, app, &manifest(app)).await
}

async fn provisioned_with(shipway: &Shipway, app: &str, manifest: &str) -> Result<Place> {
    let is_new = APPS.lock().is_ok_and(|mut apps| apps.insert(app.to_owned()));
    ensure!(is_new, "another test has the app {app}, and all tests share a cloud");
    let place = Place::dev(app)?;
    let artifact = shipway.upload_manifest(&place, manifest).await?;
    let release = shipway.ended(&place, &Component::Platform, &artifact, PROVISIONED).await?;
    expect(&release, Outcome::Succeeded, shipway, &place).await?;
    Ok(place)
}

async fn expect(release: &ReleaseRecord, outcome: Outcome, shipway: &Shipway, place: &Place) -> Result<()> {
    if release.outcome == Some(outcome) {
        return Ok(());
    }
    anyhow::bail!(
        "{outcome} was expected of {} ({})\n{}",
        release.component,
        release.artifact,
        shipway.story(place).await?
    )
}

async fn good(version: &str) -> Result<Image> {
    Ok(hello::image(version).await?)
}

async fn roll_out(
    shipway: &Shipway,
    place: &Place,
    tag: &str,
    image: &Image,
    outcome: Outcome,
) -> Result<(Artifact, ReleaseRecord)> {
    let artifact = shipway.push(&format!("{}-api", place.app), tag, image).await?;
    let release = shipway.ended(place, &service(), &artifact, RELEASED).await?;
    expect(&release, outcome, shipway, place).await?;
    Ok((artifact, release))
}

async fn publish(
    shipway: &Shipway,
    place: &Place,
    name: &str,
    zip: Vec<u8>,
    outcome: Outcome,
) -> Result<ReleaseRecord> {
    let artifact = shipway.upload_zip(place, "web", name, zip).await?;
    let release = shipway.ended(place, &website(), &artifact, RELEASED).await?;
    expect(&release, outcome, shipway, place).await?;
    Ok(release)
}

async fn page(shipway: &Shipway, place: &Place, path: &str) -> Result<(u16, String)> {
    let site = shipway.platform(place).await?.sites.into_values().next().context("no site")?;
    let answer = shipway.cloud.http_through_cloudfront(&site.domain, path).await?;
    Ok((answer.status.as_u16(), answer.text()))
}

#[test]
fn a_manifest_provisions_a_push_rolls_out_a_zip_publishes_and_an_earlier_image_comes_back() {
    with_shipway(async |shipway| {
        let place = provisioned(shipway, "path").await?;
        let (first, _) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        shipway.version_served(&place, "1", RELEASED).await?;
        publish(shipway, &place, "one", site::hello("1", 20)?, Outcome::Succeeded).await?;
        for path in ["/", "/about", "/about.html"] {
            let (status, text) = page(shipway, &place, path).await?;
            assert_eq!(status, 200, "{path}");
            assert!(text.contains("Version 1."), "{path}: {text}");
        }
        assert_eq!(page(shipway, &place, "/about/").await?.0, 308);
        let (status, text) = page(shipway, &place, "/nothing-here").await?;
        assert_eq!(status, 404);
        assert!(text.contains("Not found"), "{text}");

        roll_out(shipway, &place, "v2", &good("2").await?, Outcome::Succeeded).await?;
        shipway.version_served(&place, "2", RELEASED).await?;
        publish(shipway, &place, "two", site::hello("2", 20)?, Outcome::Succeeded).await?;
        for path in ["/", "/about"] {
            assert!(page(shipway, &place, path).await?.1.contains("Version 2."), "{path} is stale");
        }

        let arn = shipway.start(&place, &service(), &first).await?;
        let back = shipway.ended_execution(&place, &arn, RELEASED).await?;
        expect(&back, Outcome::Succeeded, shipway, &place).await?;
        shipway.version_served(&place, "1", RELEASED).await?;
        let states = shipway.execution_story(&arn).await?;
        assert!(!states.contains("Migrate"), "a rollback migrates nothing: {states}");
        Ok(())
    });
}

#[test]
fn the_same_input_again_converges_with_the_outcome_unchanged() {
    with_shipway(async |shipway| {
        let place = provisioned(shipway, "again").await?;
        let (image, _) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let release = publish(shipway, &place, "one", site::hello("1", 8)?, Outcome::Succeeded).await?;
        let definitions = |shipway: &'static Shipway| async {
            let described =
                shipway.ecs().describe_services().cluster("again-dev").services("again-dev-api").send().await?;
            anyhow::Ok(
                described
                    .services()
                    .iter()
                    .filter_map(|service| service.task_definition())
                    .map(str::to_owned)
                    .collect::<Vec<_>>(),
            )
        };
        let before = definitions(shipway).await?;
        for (component, artifact) in [(service(), image), (website(), release.artifact)] {
            let arn = shipway.start(&place, &component, &artifact).await?;
            let again = shipway.ended_execution(&place, &arn, RELEASED).await?;
            expect(&again, Outcome::Unchanged, shipway, &place).await?;
        }
        assert_eq!(definitions(shipway).await?, before);
        let manifest = shipway.upload_manifest(&place, &manifest("again")).await?;
        let platform = shipway.ended(&place, &Component::Platform, &manifest, PROVISIONED).await?;
        assert!(platform.outcome.is_some_and(Outcome::is_live), "{}", shipway.story(&place).await?);
        Ok(())
    });
}

/// What ECR sends when an image was pushed.
fn push_event(shipway: &Shipway, repository: &str, digest: &str, tag: &str) -> serde_json::Value {
    json!({
        "version": "0", "id": "13cde686-328b-6117-af20-0e5566167482", "detail-type": "ECR Image Action", "source": "aws.ecr",
        "account": shipway.cloud.account(), "region": shipway.cloud.region(), "time": "2026-11-16T01:54:34Z", "resources": [],
        "detail": {"result": "SUCCESS", "repository-name": repository, "image-digest": digest, "action-type": "PUSH",
                   "image-tag": tag}
    })
}

#[test]
fn the_same_event_three_times_is_one_release() {
    with_shipway(async |shipway| {
        let place = provisioned(shipway, "thrice").await?;
        shipway.cloud.announce_pushes("thrice-api", false).await?;
        let artifact = shipway.push("thrice-api", "v1", &good("thrice").await?).await?;
        let Artifact::Image { digest, .. } = &artifact else { unreachable!() };
        let event = push_event(shipway, "thrice-api", digest.as_str(), "v1");
        for _ in 0..3 {
            let rules = shipway.cloud.deliver(&event).await?;
            ensure!(rules.len() == 1, "the event went through {rules:?}");
        }
        let release = shipway.ended(&place, &service(), &artifact, RELEASED).await?;
        expect(&release, Outcome::Succeeded, shipway, &place).await?;
        let rules = shipway.cloud.deliver(&event).await?;
        ensure!(rules.len() == 1, "the event went through {rules:?}");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(shipway.releases_of(&place, &service(), &artifact).await?.len(), 1);
        Ok(())
    });
}

#[test]
fn a_push_that_no_event_announced_is_found_by_the_sweep_and_released_once() {
    with_shipway(async |shipway| {
        let text = without_migration(&manifest("swept"));
        let place = provisioned_with(shipway, "swept", &text).await?;
        // A platform's last state releases the images that came before it, which this one is not to be.
        shipway.idle(&place, &Component::Platform, PROVISIONED).await?;
        shipway.cloud.announce_pushes("swept-api", false).await?;
        let artifact = shipway.push("swept-api", "v1", &good("swept").await?).await?;
        // For two minutes it is left to its event.
        tokio::time::sleep(Duration::from_secs(119)).await;
        ensure!(
            shipway.releases_of(&place, &service(), &artifact).await?.is_empty(),
            "{}",
            shipway.story(&place).await?
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
        let aws = Aws::of(&shipway.cloud)?;
        let sweep = || {
            let function = shipway.output("StartReleaseFunction")?;
            let answer =
                aws.ask("lambda", "invoke", json!({"FunctionName": function, "Payload": r#"{"shipway": "sweep"}"#}))?;
            ensure!(answer.get("FunctionError").is_none(), "the sweep failed: {answer}");
            Ok(())
        };
        sweep()?;
        let release = shipway.ended(&place, &service(), &artifact, RELEASED).await?;
        expect(&release, Outcome::Succeeded, shipway, &place).await?;
        shipway.version_served(&place, "swept", RELEASED).await?;
        sweep()?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(shipway.releases_of(&place, &service(), &artifact).await?.len(), 1);
        Ok(())
    });
}

#[test]
fn of_two_pushes_in_a_row_the_newer_lives_and_the_older_is_superseded() {
    with_shipway(async |shipway| {
        let text = without_migration(&manifest("two"));
        let place = provisioned_with(shipway, "two", &text).await?;
        // The older one never gets healthy, so it is still under way when the newer one comes.
        let older = shipway.push("two-api", "v1", &good("1").await?.env("HEALTH_STATUS", "503")).await?;
        // ECR tells the second of a push. Of two in one second the event that comes last counts, whichever that is.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let newer = shipway.push("two-api", "v2", &good("2").await?).await?;
        let release = shipway.ended(&place, &service(), &newer, RELEASED).await?;
        expect(&release, Outcome::Succeeded, shipway, &place).await?;
        let release = shipway.ended(&place, &service(), &older, RELEASED).await?;
        expect(&release, Outcome::Superseded, shipway, &place).await?;
        shipway.version_served(&place, "2", RELEASED).await?;
        Ok(())
    });
}

#[test]
fn an_alarm_that_is_on_keeps_a_rollout_from_beginning_and_one_that_goes_off_meanwhile_ends_it() {
    with_shipway(async |shipway| {
        let alarm = "gated: an error, or many";
        let text = without_migration(&manifest("gated"));
        let text =
            text.replace("    port: 8080\n", &format!("    port: 8080\n    rollout: {{alarms: [\"{alarm}\"]}}\n"));
        ensure!(text.contains("rollout:"), "the example's service has another port:\n{text}");
        let place = provisioned_with(shipway, "gated", &text).await?;
        let aws = Aws::of(&shipway.cloud)?;
        let turn = |state: &str| {
            aws.ask(
                "cloudwatch",
                "set_alarm_state",
                json!({"AlarmName": alarm, "StateValue": state, "StateReason": "a test says so"}),
            )
        };
        let refused = |release: ReleaseRecord, why: &str| {
            let reason = release.reason.unwrap_or_default();
            ensure!(reason.starts_with("Preflight: ") && reason.contains(why), "{reason}");
            Ok(())
        };

        let (_, release) = roll_out(shipway, &place, "v0", &good("0").await?, Outcome::Failed).await?;
        refused(release, &format!("there is no alarm {alarm}"))?;
        let metric = json!({
            "AlarmName": alarm, "Namespace": "gated", "MetricName": "errors", "Statistic": "Sum", "Period": 60,
            "EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold",
        });
        aws.ask("cloudwatch", "put_metric_alarm", metric)?;
        roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;

        let bad = shipway.push("gated-api", "v2", &good("2").await?).await?;
        while !shipway.releases_of(&place, &service(), &bad).await?.iter().any(|release| {
            ensure_open(release);
            release.steps.iter().any(|step| step.what.ends_with("serves; ECS watches the alarms"))
        }) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        turn("ALARM")?;
        let release = shipway.ended(&place, &service(), &bad, RELEASED).await?;
        expect(&release, Outcome::RolledBack, shipway, &place).await?;
        let reason = release.reason.unwrap_or_default();
        assert!(reason.contains(&format!("an alarm went off, of {alarm}: ")), "{reason}");
        shipway.version_served(&place, "1", RELEASED).await?;

        let (_, release) = roll_out(shipway, &place, "v3", &good("3").await?, Outcome::Failed).await?;
        refused(release, &format!("the alarm {alarm} is on"))?;
        turn("OK")?;
        roll_out(shipway, &place, "v4", &good("4").await?, Outcome::Succeeded).await?;
        shipway.version_served(&place, "4", RELEASED).await?;
        Ok(())
    });
}

/// A release that ended already will not do what is waited for.
fn ensure_open(release: &ReleaseRecord) {
    assert!(release.outcome.is_none(), "{} ended: {}", release.artifact, release.reason.as_deref().unwrap_or_default());
}

#[test]
fn a_failing_migration_leaves_the_service_untouched() {
    with_shipway(async |shipway| {
        let place = provisioned(shipway, "migration").await?;
        roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let definition = |shipway: &'static Shipway| async {
            let described =
                shipway.ecs().describe_services().cluster("migration-dev").services("migration-dev-api").send().await?;
            anyhow::Ok(described.services()[0].task_definition().map(str::to_owned))
        };
        let before = definition(shipway).await?;
        let visitor = Visitor::arrives(shipway, &place).await?;
        let image = good("2").await?.env("MIGRATE_FAIL", "1");
        let (_, release) = roll_out(shipway, &place, "v2", &image, Outcome::Failed).await?;
        let reason = release.reason.unwrap_or_default();
        assert!(reason.starts_with("Migration: "), "{reason}");
        assert_eq!(definition(shipway).await?, before);
        shipway.version_served(&place, "1", RELEASED).await?;
        visitor.was_answered_by(shipway, &place, &["1"]).await?;
        Ok(())
    });
}

#[test]
fn a_worker_follows_its_api_and_is_left_alone_where_that_does_not_hold() {
    with_shipway(async |shipway| {
        let text = manifest("follows").replace(
            "\nservices:\n",
            "\nservices:\n  a-worker:\n    image: {repository: follows-api, tags: [\"v*\"]}\n    after: [api]\n",
        );
        let place = provisioned_with(shipway, "follows", &text).await?;
        let worker: Component = "service/a-worker".parse()?;
        let (first, api) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let followed = shipway.ended(&place, &worker, &first, RELEASED).await?;
        expect(&followed, Outcome::Succeeded, shipway, &place).await?;
        assert!(api.group.is_some() && api.group == followed.group, "{:?} {:?}", api.group, followed.group);
        assert!(followed.steps[0].at > api.ended_at.context("the api's release has no end")?);

        let bad = good("2").await?.command(["crash"]);
        let (second, failed) = roll_out(shipway, &place, "v2", &bad, Outcome::RolledBack).await?;
        let left = shipway.ended(&place, &worker, &second, RELEASED).await?;
        expect(&left, Outcome::Rejected, shipway, &place).await?;
        let reason = left.reason.unwrap_or_default();
        let expected =
            format!("service/a-worker stays as it is: `api` goes first, and its release {} of", failed.release);
        assert!(reason.starts_with(&expected), "{reason}");
        assert_eq!(left.steps.len(), 0);
        let live = shipway.store.component(&place.app, &place.environment, &worker).await?.live;
        assert_eq!(live.map(|live| live.artifact), Some(first));
        Ok(())
    });
}

#[test]
fn a_rotated_secret_restarts_the_tasks_of_what_is_live_once() {
    with_shipway(async |shipway| {
        let aws = Aws::of(&shipway.cloud)?;
        aws.ask("secretsmanager", "create_secret", json!({"Name": "dev/rotates/key", "SecretString": "one"}))?;
        aws.ask("ssm", "put_parameter", json!({"Name": "/dev/rotates/token", "Value": "one", "Type": "SecureString"}))?;
        let text = without_migration(&manifest("rotates")).replace(
            "    env: {GREETING: hello}\n",
            "    restart_on_rotation: true\n    secrets:\n      KEY: {secretsmanager: dev/rotates/key}\n      \
             TOKEN: {ssm: /dev/rotates/token}\n",
        );
        let place = provisioned_with(shipway, "rotates", &text).await?;
        let (artifact, _) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        shipway.idle(&place, &service(), RELEASED).await?;
        let sweep = || {
            let function = shipway.output("StartReleaseFunction")?;
            let answer =
                aws.ask("lambda", "invoke", json!({"FunctionName": function, "Payload": r#"{"shipway": "sweep"}"#}))?;
            ensure!(answer.get("FunctionError").is_none(), "the sweep failed: {answer}");
            Ok(())
        };
        sweep()?;
        // Dates are told by the second.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let secret = json!({"SecretId": "dev/rotates/key", "SecretString": "two"});
        for (api, call, what, rotated) in [
            ("secretsmanager", "put_secret_value", secret, "dev/rotates/key"),
            (
                "ssm",
                "put_parameter",
                json!({"Name": "/dev/rotates/token", "Value": "two", "Type": "SecureString", "Overwrite": true}),
                "/dev/rotates/token",
            ),
        ] {
            let before = shipway.releases_of(&place, &service(), &artifact).await?.len();
            aws.ask(api, call, what)?;
            sweep()?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            shipway.idle(&place, &service(), RELEASED).await?;
            sweep()?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let releases = shipway.releases_of(&place, &service(), &artifact).await?;
            ensure!(releases.len() == before + 1, "{rotated}: {}", shipway.story(&place).await?);
            let restart = releases.last().context("no release")?;
            expect(restart, Outcome::Succeeded, shipway, &place).await?;
            let reason = restart.reason.clone().unwrap_or_default();
            assert!(reason.ends_with(&format!("; restarted because {rotated} was rotated")), "{reason}");
        }
        shipway.version_served(&place, "1", RELEASED).await?;
        Ok(())
    });
}

#[test]
fn what_is_live_and_what_was_live_before_carry_tags_that_release_nothing_themselves() {
    with_shipway(async |shipway| {
        let text = without_migration(&manifest("keeps")).replace("tags: [\"v*\"]", "tags: [\"*\"], keep_live: 1");
        let place = provisioned_with(shipway, "keeps", &text).await?;
        let (first, _) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let (second, _) = roll_out(shipway, &place, "v2", &good("2").await?, Outcome::Succeeded).await?;
        let arn = shipway.start(&place, &service(), &first).await?;
        expect(&shipway.ended_execution(&place, &arn, RELEASED).await?, Outcome::Succeeded, shipway, &place).await?;
        let aws = Aws::of(&shipway.cloud)?;
        let tags = || -> Result<Vec<(String, String)>> {
            let answer = aws.ask("ecr", "describe_images", json!({"repositoryName": "keeps-api"}))?;
            let images = answer["imageDetails"].as_array().context("no images")?;
            let mut tags: Vec<(String, String)> = images
                .iter()
                .flat_map(|image| {
                    let digest = image["imageDigest"].as_str().unwrap_or_default().to_owned();
                    let tags = image["imageTags"].as_array().into_iter().flatten().filter_map(|tag| tag.as_str());
                    tags.map(move |tag| (tag.to_owned(), digest.clone()))
                })
                .collect();
            tags.sort();
            Ok(tags)
        };
        let on = |tags: &[(&str, &Artifact)]| -> Vec<(String, String)> {
            tags.iter().map(|(tag, artifact)| ((*tag).to_owned(), digest(artifact).to_owned())).collect()
        };
        let (own, before) = ("shipway-keeps.dev.api.0", "shipway-keeps.dev.api.1");
        let expected = on(&[(own, &first), (before, &second), ("v1", &first), ("v2", &second)]);
        assert_eq!(tags()?, expected, "{}", shipway.story(&place).await?);
        // Their events have come by then, and a first one that went back to the second image would have begun.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(shipway.releases_of(&place, &service(), &first).await?.len(), 2);
        assert_eq!(shipway.releases_of(&place, &service(), &second).await?.len(), 1);
        // One before the live one is to be kept, so the third takes the tag of the second.
        let (third, _) = roll_out(shipway, &place, "v3", &good("3").await?, Outcome::Succeeded).await?;
        let expected = on(&[(own, &first), (before, &third), ("v1", &first), ("v2", &second), ("v3", &third)]);
        assert_eq!(tags()?, expected, "{}", shipway.story(&place).await?);
        Ok(())
    });
}

#[test]
fn a_good_version_that_fails_a_smoke_test_is_rolled_back_and_the_old_one_serves() {
    with_shipway(async |shipway| {
        let text = without_migration(&manifest("smoke"));
        let tested = text.replace("    smoke: [", "    smoke: [{command: [migrate]}, ");
        let tested = tested.replace("\"/hello\"'}]", "\"/hello\"', timeout: 3s}]");
        ensure!(tested.len() > text.len() + 30, "the example has other smoke tests: {text}");
        let place = provisioned_with(shipway, "smoke", &tested).await?;
        let (first, passed) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let steps: Vec<&str> = passed.steps.iter().map(|step| step.what.as_str()).collect();
        for part in ["/hello was answered 200 with `\"path\":\"/hello\"` in it", "`migrate` ended with exit code 0"] {
            assert!(steps.iter().any(|step| step.contains(part)), "{part}: {steps:?}");
        }

        // Healthy, and no use: its answers; its task.
        let images = [
            (good("2").await?.env("STATUS", "500"), "GET http://", "/hello: the answer was 500, not 200"),
            (good("3").await?.env("MIGRATE_FAIL", "1"), "the smoke test `migrate` of `api` failed", "relation"),
        ];
        for (number, (image, start, part)) in images.into_iter().enumerate() {
            let tag = format!("v{}", number + 2);
            let (_, back) = roll_out(shipway, &place, &tag, &image, Outcome::RolledBack).await?;
            let reason = back.reason.unwrap_or_default();
            assert!(reason.contains(start) && reason.contains(part), "{reason}");
            assert!(reason.ends_with("serve again"), "{reason}");
            shipway.version_served(&place, "1", RELEASED).await?;
            let state = shipway.store.component(&place.app, &place.environment, &service()).await?;
            assert_eq!(state.live.context("nothing is live")?.artifact, first);
        }
        Ok(())
    });
}

/// The digest of an image of the account.
fn digest(artifact: &Artifact) -> &str {
    let Artifact::Image { digest, .. } = artifact else { unreachable!() };
    digest.as_str()
}

#[test]
fn an_image_whose_scan_found_something_critical_is_rejected_and_the_old_version_serves_on() {
    with_shipway(async |shipway| {
        let text = without_migration(&manifest("scanned"));
        let gated = text.replace("    memory: 512\n", "    memory: 512\n    scan: {block: critical, wait: 2m}\n");
        ensure!(gated != text, "the example has no place for the gate");
        let place = provisioned_with(shipway, "scanned", &gated).await?;
        let (_, first) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        ensure!(first.steps.iter().any(|step| step.what == "ECR's scan found nothing critical"), "{:?}", first.steps);

        // What a scan says is known by repository and digest, so it is said before the push that counts.
        let image = good("2").await?;
        let pushed = shipway.cloud.push_untagged("scanned-api", &image).await?;
        let found = [("CRITICAL", "CVE-2021-44228"), ("LOW", "CVE-2000-0001")];
        shipway.cloud.scan_says("scanned-api", &pushed, Some("COMPLETE"), &found).await?;
        let (artifact, rejected) = roll_out(shipway, &place, "v2", &image, Outcome::Rejected).await?;
        ensure!(digest(&artifact) == pushed, "another image was scanned");
        let reason = rejected.reason.unwrap_or_default();
        let expected = "Rejected.Scan: `api` was not touched: ECR's scan found 1 critical (CVE-2021-44228)";
        assert!(reason.starts_with(expected), "{reason}");
        shipway.version_served(&place, "1", RELEASED).await?;
        Ok(())
    });
}

/// A manifest by which a person must approve each image of the service.
fn gated(app: &str, within: &str) -> Result<String> {
    let text = without_migration(&manifest(app));
    let approval = format!("    memory: 512\n    approval: required\n    approval_within: {within}\n");
    let gated = text.replace("    memory: 512\n", &approval);
    ensure!(gated != text, "the example has no place for the gate");
    Ok(gated)
}

/// What answers the release of this image, once it waits.
async fn asked(shipway: &Shipway, place: &Place, artifact: &Artifact) -> Result<(ReleaseRecord, Asked)> {
    let started = Instant::now();
    loop {
        let newest = shipway.releases_of(place, &service(), artifact).await?.pop();
        if let Some(release) = newest
            && let Some(asked) = release.waits_for().cloned()
        {
            return Ok((release, asked));
        }
        ensure!(started.elapsed() < RELEASED, "nobody was asked\n{}", shipway.story(place).await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn an_image_goes_live_when_a_person_answers_the_callback_and_what_was_live_before_waits_for_nobody() {
    with_shipway(async |shipway| {
        let place = provisioned_with(shipway, "asked", &gated("asked", "2h")?).await?;
        let first = shipway.push("asked-api", "v1", &good("1").await?).await?;
        let (release, waits) = asked(shipway, &place, &first).await?;
        let services = shipway.ecs().describe_services().cluster("asked-dev").services("asked-dev-api").send().await?;
        ensure!(services.services().iter().all(|service| service.status() != Some("ACTIVE")), "it was touched");
        let answer = json!({"taskToken": waits.token, "output": r#"{"by": "Ann"}"#});
        Aws::of(&shipway.cloud)?.ask("stepfunctions", "send_task_success", answer)?;
        let ended = shipway.ended(&place, &service(), &first, RELEASED).await?;
        expect(&ended, Outcome::Succeeded, shipway, &place).await?;
        assert_eq!(ended.release, release.release);
        let said: Vec<&str> = ended.steps.iter().map(|step| step.what.as_str()).collect();
        ensure!(said[0].starts_with("waits for approval until ") && said[1] == "approved by Ann", "{said:?}");
        shipway.version_served(&place, "1", RELEASED).await?;

        let arn = shipway.start(&place, &service(), &first).await?;
        let again = shipway.ended_execution(&place, &arn, RELEASED).await?;
        expect(&again, Outcome::Unchanged, shipway, &place).await?;
        Ok(())
    });
}

#[test]
fn an_approval_that_nobody_gives_or_that_is_refused_leaves_the_service_as_it_is() {
    with_shipway(async |shipway| {
        let place = provisioned_with(shipway, "unanswered", &gated("unanswered", "5s")?).await?;
        let (_, expired) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Rejected).await?;
        let reason = expired.reason.unwrap_or_default();
        assert!(
            reason.starts_with("Rejected.Approval: Nobody approved it within 5 s, as `approval_within`"),
            "{reason}"
        );
        assert!(reason.contains(&format!("shipway retry {} --app unanswered --env dev", expired.release)), "{reason}");

        let patient = shipway.upload_manifest(&place, &gated("unanswered", "2h")?).await?;
        shipway.ended(&place, &Component::Platform, &patient, PROVISIONED).await?;
        let image = shipway.push("unanswered-api", "v2", &good("2").await?).await?;
        let (release, waits) = asked(shipway, &place, &image).await?;
        let aws = Aws::of(&shipway.cloud)?;
        let answer = json!({"taskToken": waits.token, "error": "Rejected.Approval", "cause": "refused by Ann: no"});
        aws.ask("stepfunctions", "send_task_failure", answer)?;
        let ended = shipway.ended(&place, &service(), &image, RELEASED).await?;
        expect(&ended, Outcome::Rejected, shipway, &place).await?;
        assert_eq!(ended.reason.as_deref(), Some("Rejected.Approval: refused by Ann: no"));
        assert_eq!(ended.release, release.release);
        let late = json!({"taskToken": waits.token, "output": "{}"});
        ensure!(aws.ask("stepfunctions", "send_task_success", late).is_err(), "it was answered twice");
        let services =
            shipway.ecs().describe_services().cluster("unanswered-dev").services("unanswered-dev-api").send().await?;
        ensure!(services.services().iter().all(|service| service.status() != Some("ACTIVE")), "it was touched");
        Ok(())
    });
}

#[test]
fn a_newer_push_takes_the_place_of_one_that_waits_for_approval_at_once() {
    with_shipway(async |shipway| {
        let place = provisioned_with(shipway, "overtaken", &gated("overtaken", "7d")?).await?;
        let older = shipway.push("overtaken-api", "v1", &good("1").await?).await?;
        let (_, waits) = asked(shipway, &place, &older).await?;
        // ECR tells the second of a push.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let newer = shipway.push("overtaken-api", "v2", &good("2").await?).await?;
        let ended = shipway.ended(&place, &service(), &older, RELEASED).await?;
        expect(&ended, Outcome::Superseded, shipway, &place).await?;
        let (release, second) = asked(shipway, &place, &newer).await?;
        assert_ne!(second.token, waits.token);
        let answer = json!({"taskToken": second.token, "output": "{}"});
        Aws::of(&shipway.cloud)?.ask("stepfunctions", "send_task_success", answer)?;
        let live = shipway.ended(&place, &service(), &newer, RELEASED).await?;
        expect(&live, Outcome::Succeeded, shipway, &place).await?;
        assert_eq!(live.release, release.release);
        Ok(())
    });
}

#[test]
fn people_and_programs_hear_once_of_each_thing_that_happens_to_a_release_and_no_outcome_rests_on_it() {
    with_shipway(async |shipway| {
        let text = without_migration(&manifest("told"));
        let place = provisioned_with(shipway, "told", &text).await?;
        shipway.idle(&place, &Component::Platform, RELEASED).await?;
        let aws = Aws::of(&shipway.cloud)?;
        let people = Ear::of_people(shipway, &aws, "told-people")?;
        let programs = Ear::of_programs(&aws, "told-programs", Some(json!({"app": ["told"]})))?;

        roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let (artifact, bad) =
            roll_out(shipway, &place, "v2", &good("2").await?.command(["crash"]), Outcome::RolledBack).await?;
        let events = programs.heard(5, RELEASED).await?;
        let statuses: Vec<_> = events.iter().filter_map(|event| event["detail"]["status"].as_str()).collect();
        assert_eq!(statuses, ["started", "succeeded", "started", "rolling_back", "rolled_back"]);
        let last = &events[4]["detail"];
        assert_eq!((&last["release"], &last["component"]), (&json!(bad.release), &json!("service/api")));
        assert_eq!((&last["artifact"], &last["live"]["image"]["repository"]), (&json!(artifact), &json!("told-api")));
        ensure!(last["console"].as_str().is_some_and(|url| url.ends_with(&bad.execution)), "{last}");
        let told: Vec<String> = people
            .heard(5, RELEASED)
            .await?
            .iter()
            .filter_map(|note| Some(note["Message"].as_str()?.to_owned()))
            .collect();
        let mine: Vec<&String> = told.iter().filter(|text| text.starts_with("told/dev ")).collect();
        let count = |part: &str| mine.iter().filter(|text| text.contains(part)).count();
        let counts = ["started told-api@", "rolling back from told-api@", "service/api succeeded: "].map(count);
        assert_eq!((mine.len(), counts), (5, [2, 1, 1]), "{mine:?}");
        ensure!(mine.iter().filter(|text| text.contains("rolling back")).all(|text| !text.contains('\n')), "{mine:?}");

        for function in ["record-release", "deploy-service"] {
            let faults = shipway.cloud.faults();
            faults.add(Rule::new(Fault::Delay(Duration::from_secs(20))).service("events").caller(function));
            faults.add(Rule::new(Fault::ServerError).service("sns").caller(function));
        }
        roll_out(shipway, &place, "v3", &good("3").await?, Outcome::Succeeded).await?;
        roll_out(shipway, &place, "v4", &good("4").await?.command(["crash"]), Outcome::RolledBack).await?;
        shipway.cloud.faults().clear();
        shipway.version_served(&place, "3", RELEASED).await?;
        Ok(())
    });
}

#[test]
fn a_rejected_image_that_took_a_rollout_over_half_way_brings_the_live_version_back() {
    with_shipway(async |shipway| {
        let text = without_migration(&manifest("half-way"));
        let gated = text.replace("    memory: 512\n", "    memory: 512\n    scan: {block: critical, wait: 2m}\n");
        let place = provisioned_with(shipway, "half-way", &gated).await?;
        roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let deployed = |shipway: &'static Shipway| async {
            let described =
                shipway.ecs().describe_services().cluster("half-way-dev").services("half-way-dev-api").send().await?;
            anyhow::Ok(described.services()[0].task_definition().map(str::to_owned))
        };
        let live = deployed(shipway).await?;
        let sick = good("2").await?.env("HEALTH_STATUS", "503");
        let half = shipway.push("half-way-api", "v2", &sick).await?;
        for _ in 0..600 {
            if deployed(shipway).await? != live {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        ensure!(deployed(shipway).await? != live, "nothing is under way: {}", shipway.story(&place).await?);

        let image = good("3").await?;
        let pushed = shipway.cloud.push_untagged("half-way-api", &image).await?;
        shipway.cloud.scan_says("half-way-api", &pushed, Some("COMPLETE"), &[("CRITICAL", "CVE-2021-44228")]).await?;
        let (_, rejected) = roll_out(shipway, &place, "v3", &image, Outcome::Rejected).await?;
        let told = rejected.steps.last().map(|step| step.what.clone()).unwrap_or_default();
        assert!(told.starts_with("rolled_back: ") && told.ends_with("serve again"), "{told}");
        assert_eq!(deployed(shipway).await?, live);
        let superseded = shipway.ended(&place, &service(), &half, RELEASED).await?;
        expect(&superseded, Outcome::Superseded, shipway, &place).await?;
        shipway.version_served(&place, "1", RELEASED).await?;
        Ok(())
    });
}

#[test]
fn an_image_that_is_gone_before_its_rollout_begins_is_rejected_and_the_old_version_serves_on() {
    with_shipway(async |shipway| {
        let place = provisioned_with(shipway, "gone", &without_migration(&manifest("gone"))).await?;
        roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let visitor = Visitor::arrives(shipway, &place).await?;
        let absent = "sha256:7f5b2640fe6fb4f46592dfd3410c4a7953b3d9f0a2f3f8a6f0c2a1f1d1c7a1b2";
        let artifact = Artifact::Image { repository: "gone-api".parse()?, digest: absent.parse()? };
        let arn = shipway.start(&place, &service(), &artifact).await?;
        let rejected = shipway.ended_execution(&place, &arn, RELEASED).await?;
        expect(&rejected, Outcome::Rejected, shipway, &place).await?;
        let reason = rejected.reason.unwrap_or_default();
        assert!(
            reason.starts_with("Rejected.Image: `api` was not touched: the image gone-api@sha256:7f5b"),
            "{reason}"
        );
        let states = shipway.execution_story(&arn).await?;
        assert!(!states.contains("DeployService"), "{states}");
        shipway.version_served(&place, "1", RELEASED).await?;
        visitor.was_answered_by(shipway, &place, &["1"]).await?;
        Ok(())
    });
}

#[test]
fn an_image_for_another_architecture_is_rejected_with_both_names() {
    with_shipway(async |shipway| {
        let place = provisioned_with(shipway, "arch", &without_migration(&manifest("arch"))).await?;
        let image = good("1").await?.architecture("arm64");
        let (_, rejected) = roll_out(shipway, &place, "v1", &image, Outcome::Rejected).await?;
        let reason = rejected.reason.unwrap_or_default();
        let expected = "Rejected.Image: `api` was not touched: the image is for linux/arm64, and the tasks of `api` are linux/amd64";
        assert!(reason.starts_with(expected), "{reason}");
        Ok(())
    });
}

#[test]
fn a_service_whose_secret_was_deleted_or_shut_is_not_touched_and_the_old_version_serves_on() {
    with_shipway(async |shipway| {
        let aws = Aws::of(&shipway.cloud)?;
        aws.ask("secretsmanager", "create_secret", json!({"Name": "kept/token", "SecretString": "open sesame"}))?;
        aws.ask("ssm", "put_parameter", json!({"Name": "/kept/pin", "Value": "1234", "Type": "SecureString"}))?;
        let text = without_migration(&manifest("kept"));
        let secrets = "    secrets: {TOKEN: {secretsmanager: kept/token}, PIN: {ssm: /kept/pin}}\n";
        let given = text.replace("    memory: 512\n", &format!("    memory: 512\n{secrets}"));
        ensure!(given != text, "the example has no place for secrets");
        let place = provisioned_with(shipway, "kept", &given).await?;
        roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        // Of calls nothing says whose app they are about, and others run beside; what each write of a rollout leaves does.
        let written = || {
            let ask = |operation: &str, arguments| aws.ask("ecs", operation, arguments);
            let services = ask("describe_services", json!({"cluster": "kept-dev", "services": ["kept-dev-api"]}))?;
            let definitions = ask("list_task_definitions", json!({"familyPrefix": "kept-dev-api"}))?;
            let deployments = services["services"][0]["deployments"].as_array().into_iter().flatten();
            let ids: Vec<_> = deployments.map(|deployment| deployment["id"].clone()).collect();
            anyhow::Ok((ids, definitions["taskDefinitionArns"].clone()))
        };
        let before = written()?;

        aws.ask("secretsmanager", "delete_secret", json!({"SecretId": "kept/token", "RecoveryWindowInDays": 7}))?;
        aws.ask("ssm", "delete_parameter", json!({"Name": "/kept/pin"}))?;
        let (second, failed) = roll_out(shipway, &place, "v2", &good("2").await?, Outcome::Failed).await?;
        let reason = failed.reason.unwrap_or_default();
        assert!(reason.starts_with("Preflight: `api` was not touched: 2 things are missing: "), "{reason}");
        assert!(reason.contains("the secret kept/token (`services.api.secrets.TOKEN`) is being deleted"), "{reason}");
        assert!(reason.contains("the parameter /kept/pin (`services.api.secrets.PIN`) is not there"), "{reason}");
        assert_eq!(written()?, before);
        shipway.version_served(&place, "1", RELEASED).await?;

        aws.ask("secretsmanager", "restore_secret", json!({"SecretId": "kept/token"}))?;
        aws.ask("ssm", "put_parameter", json!({"Name": "/kept/pin", "Value": "1234", "Type": "SecureString"}))?;
        let role = shipway.platform(&place).await?.services[&"api".parse()?].execution_role.clone();
        let role = role.rsplit('/').next().unwrap_or_default();
        let shut = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Deny", "Action": "secretsmanager:GetSecretValue", "Resource": "*"}]});
        let policy = json!({"RoleName": role, "PolicyName": "shut", "PolicyDocument": shut.to_string()});
        aws.ask("iam", "put_role_policy", policy)?;
        let again = async || {
            let arn = shipway.start(&place, &service(), &second).await?;
            shipway.ended_execution(&place, &arn, RELEASED).await
        };
        let failed = again().await?;
        expect(&failed, Outcome::Failed, shipway, &place).await?;
        let reason = failed.reason.unwrap_or_default();
        let expected =
            "Preflight: `api` was not touched: the secret kept/token (`services.api.secrets.TOKEN`) may not be read";
        assert!(reason.starts_with(expected), "{reason}");
        assert_eq!(written()?, before);

        aws.ask("iam", "delete_role_policy", json!({"RoleName": role, "PolicyName": "shut"}))?;
        expect(&again().await?, Outcome::Succeeded, shipway, &place).await?;
        shipway.version_served(&place, "2", RELEASED).await?;
        Ok(())
    });
}

#[test]
fn a_manifest_with_a_mistake_is_rejected_with_its_place_and_nothing_is_made() {
    with_shipway(async |shipway| {
        let place = Place::dev("mistake")?;
        let artifact =
            shipway.upload_manifest(&place, &manifest("mistake").replace("memory: 512", "memroy: 512")).await?;
        let release = shipway.ended(&place, &Component::Platform, &artifact, PROVISIONED).await?;
        expect(&release, Outcome::Rejected, shipway, &place).await?;
        let reason = release.reason.unwrap_or_default();
        assert!(reason.contains("line 14, column 5") && reason.contains("did you mean `memory`?"), "{reason}");
        assert!(shipway.store.environment(&place.app, &place.environment).await?.is_none());
        Ok(())
    });
}

#[test]
fn zips_that_cannot_be_published_are_rejected_and_the_site_stays_as_it_was() {
    with_shipway(async |shipway| {
        let place = provisioned(shipway, "zips").await?;
        publish(shipway, &place, "good", site::hello("1", 8)?, Outcome::Succeeded).await?;
        let mut truncated = site::hello("2", 8)?;
        truncated.truncate(truncated.len() / 2);
        let corrupt = corrupted(site::hello("2", 8)?);
        let no_index = site::zip([("about.html", b"about".as_slice())])?;
        let escaping = site::zip([("index.html", b"x".as_slice()), ("../outside.html", b"x".as_slice())])?;
        for (name, zip, why) in [
            ("truncated", truncated, "Rejected.Truncated: "),
            ("corrupt", corrupt, "Rejected."),
            ("no-index", no_index, "Rejected.NoIndex: "),
            ("escaping", escaping, "Rejected.Traversal: "),
        ] {
            let release = publish(shipway, &place, name, zip, Outcome::Rejected).await?;
            let reason = release.reason.unwrap_or_default();
            assert!(reason.starts_with(why), "{name}: {reason}");
            assert!(page(shipway, &place, "/").await?.1.contains("Version 1."), "{name} changed the site");
        }
        Ok(())
    });
}

/// The same zip with bytes flipped in the middle of its first entry's data.
fn corrupted(mut zip: Vec<u8>) -> Vec<u8> {
    for byte in &mut zip[60..70] {
        *byte ^= 0x55;
    }
    zip
}

#[test]
fn deliveries_that_nobody_asked_for_are_ignored() {
    with_shipway(async |shipway| {
        let place = provisioned(shipway, "unasked").await?;
        // A repository that no service has, a tag that none takes, a part of an image, a site that is not there.
        let unknown = push_event(shipway, "nobodys", "sha256:7f5b2640fe6fb4f46592dfd3410c4a79", "v1");
        let rules = shipway.cloud.deliver(&unknown).await?;
        ensure!(rules.len() == 1, "the event went through {rules:?}");
        let other = shipway.push("unasked-api", "latest", &good("1").await?).await?;
        shipway.cloud.push_untagged("unasked-api", &good("2").await?).await?;
        let zip = shipway.upload_zip(&place, "blog", "one", site::hello("1", 8)?).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(shipway.releases_of(&place, &service(), &other).await?.is_empty());
        assert!(shipway.releases_of(&place, &"site/blog".parse()?, &zip).await?.is_empty());
        assert_eq!(
            shipway.store.releases(&place.app, &place.environment).await?.len(),
            1,
            "{}",
            shipway.story(&place).await?
        );
        Ok(())
    });
}
