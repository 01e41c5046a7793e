//! Rollouts of what is good and of what is not, while somebody keeps asking: every request is answered, the release says what
//! went wrong, and what is written down as live is what serves.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use shipway_domain::{
    message::Run,
    release::{Artifact, Outcome, ReleaseRecord},
    rollout::{Phase, Progress},
};
use shipway_tests::{Place, Shipway, ask::Aws, visitor::Visitor};

use super::{
    PROVISIONED, RELEASED, digest, expect, good, manifest, provisioned_with, roll_out, service, with_shipway,
    without_migration,
};

/// The example's manifest with one more line for its service.
pub(super) fn manifest_with(app: &str, line: &str) -> Result<String> {
    let text = manifest(app);
    let more = text.replace("    memory: 512\n", &format!("    memory: 512\n    {line}\n"));
    ensure!(more != text, "the example has no place for {line}");
    Ok(more)
}

/// What is written down as live is this image, and once the others have drained, all tasks of the service run it.
pub(super) async fn serves(shipway: &Shipway, place: &Place, artifact: &Artifact) -> Result<()> {
    let state = shipway.store.component(&place.app, &place.environment, &service()).await?;
    let live = state.live.context("nothing is live")?.artifact;
    ensure!(live == *artifact, "{live} is written down as live, not {artifact}");
    let cluster = format!("{}-{}", place.app, place.environment);
    let name = format!("{cluster}-api");
    let started = Instant::now();
    loop {
        let listed = shipway.ecs().list_tasks().cluster(&cluster).service_name(&name).send().await?;
        let described = shipway.ecs().describe_tasks().cluster(&cluster).set_tasks(listed.task_arns).send().await?;
        let digests: Vec<_> = described
            .tasks()
            .iter()
            .flat_map(|task| task.containers())
            .filter_map(|container| container.image_digest())
            .collect();
        if !digests.is_empty() && digests.iter().all(|one| *one == digest(artifact)) {
            return Ok(());
        }
        ensure!(started.elapsed() < RELEASED, "{digests:?} run, not {artifact}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the newest release of an image has a step that says this.
pub(super) async fn has_begun(shipway: &Shipway, place: &Place, artifact: &Artifact, step: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let release = shipway.releases_of(place, &service(), artifact).await?.pop();
        if release.is_some_and(|release| release.steps.iter().any(|one| one.what.contains(step))) {
            return Ok(());
        }
        ensure!(started.elapsed() < RELEASED, "no step `{step}`\n{}", shipway.story(place).await?);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until an image has been released so often, and gives the last of these releases.
pub(super) async fn ended_again(
    shipway: &Shipway,
    place: &Place,
    artifact: &Artifact,
    number: usize,
) -> Result<ReleaseRecord> {
    let started = Instant::now();
    loop {
        let releases = shipway.releases_of(place, &service(), artifact).await?;
        if let Some(release) = releases.into_iter().nth(number - 1).filter(|one| one.outcome.is_some()) {
            return Ok(release);
        }
        ensure!(
            started.elapsed() < RELEASED,
            "no release {number} of {artifact} ended\n{}",
            shipway.story(place).await?
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(super) fn says(release: &ReleaseRecord, parts: &[&str]) -> Result<()> {
    let reason = release.reason.as_deref().unwrap_or_default();
    for part in parts {
        ensure!(reason.contains(part), "`{part}` is not in: {reason}");
    }
    Ok(())
}

#[test]
fn whatever_is_wrong_with_a_new_image_the_old_one_answers_every_request_until_a_good_one_comes() {
    with_shipway(async |shipway| {
        let place = provisioned_with(shipway, "holds", &manifest("holds")).await?;
        let (first, _) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        serves(shipway, &place, &first).await?;
        let visitor = Visitor::arrives(shipway, &place).await?;
        for (tag, image, reason) in [
            (
                "v2",
                good("2").await?.command(["crash"]),
                &["3 tasks failed", "exit code 1", "cannot start: no configuration", "serve again"][..],
            ),
            ("v3", good("3").await?.env("HEALTH_STATUS", "503"), &["failed ELB health checks", "[503]", "serve again"]),
            (
                "v4",
                good("4").await?.command(["hungry"]),
                &["3 tasks failed", "OutOfMemoryError: Container killed due to memory usage", "serve again"],
            ),
        ] {
            let (_, release) = roll_out(shipway, &place, tag, &image, Outcome::RolledBack).await?;
            says(&release, reason)?;
            serves(shipway, &place, &first).await?;
        }

        let image = good("5").await?.env("MIGRATE_SECONDS", "2");
        let gone = shipway.push("holds-api", "v5", &image).await?;
        has_begun(shipway, &place, &gone, "started the migration").await?;
        let image = json!({"repositoryName": "holds-api", "imageIds": [{"imageDigest": digest(&gone)}]});
        Aws::of(&shipway.cloud)?.ask("ecr", "batch_delete_image", image)?;
        let release = shipway.ended(&place, &service(), &gone, RELEASED).await?;
        expect(&release, Outcome::RolledBack, shipway, &place).await?;
        says(&release, &["CannotPullContainerError", digest(&gone), "serve again"])?;
        serves(shipway, &place, &first).await?;

        let (last, _) = roll_out(shipway, &place, "v6", &good("6").await?, Outcome::Succeeded).await?;
        serves(shipway, &place, &last).await?;
        visitor.was_answered_by(shipway, &place, &["1", "6"]).await
    });
}

#[test]
fn a_secret_that_is_missing_is_named_before_anything_changes_and_the_tasks_that_know_nothing_of_it_serve_on() {
    with_shipway(async |shipway| {
        let place = provisioned_with(shipway, "secret", &without_migration(&manifest("secret"))).await?;
        let (first, _) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let visitor = Visitor::arrives(shipway, &place).await?;
        // The service is released again as soon as the platform stands, with what its manifest says now.
        let wanting = manifest_with("secret", "secrets: {TOKEN: {secretsmanager: secret/nobody-made}}")?;
        let applied = shipway.upload_manifest(&place, &without_migration(&wanting)).await?;
        let platform = shipway.ended(&place, &"platform".parse()?, &applied, PROVISIONED).await?;
        ensure!(platform.outcome.is_some_and(Outcome::is_live), "{}", shipway.story(&place).await?);
        let release = ended_again(shipway, &place, &first, 2).await?;
        expect(&release, Outcome::Failed, shipway, &place).await?;
        says(&release, &["Preflight: `api` was not touched", "secret/nobody-made", "`services.api.secrets.TOKEN`"])?;
        serves(shipway, &place, &first).await?;
        visitor.was_answered_by(shipway, &place, &["1"]).await
    });
}

#[test]
fn a_bad_first_image_leaves_nothing_running_and_the_good_one_after_it_serves() {
    with_shipway(async |shipway| {
        let place = provisioned_with(shipway, "first", &without_migration(&manifest("first"))).await?;
        let (_, failed) =
            roll_out(shipway, &place, "v0", &good("0").await?.command(["crash"]), Outcome::Failed).await?;
        says(&failed, &["3 tasks failed", "exit code 1", "cannot start: no configuration", "the service was stopped"])?;
        let described = shipway.ecs().describe_services().cluster("first-dev").services("first-dev-api").send().await?;
        let stopped = &described.services()[0];
        assert_eq!((stopped.desired_count(), stopped.running_count(), stopped.pending_count()), (0, 0, 0));
        let state = shipway.store.component(&place.app, &place.environment, &service()).await?;
        ensure!(state.live.is_none(), "{:?}", state.live);

        let (first, _) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        serves(shipway, &place, &first).await?;
        let visitor = Visitor::arrives(shipway, &place).await?;
        let (second, _) = roll_out(shipway, &place, "v2", &good("2").await?, Outcome::Succeeded).await?;
        serves(shipway, &place, &second).await?;
        visitor.was_answered_by(shipway, &place, &["1", "2"]).await
    });
}

#[test]
fn a_push_takes_over_a_rollout_that_has_not_migrated_yet_and_queues_behind_one_that_has() {
    with_shipway(async |shipway| {
        let gated = manifest_with("during", "scan: {block: critical, wait: 2m}")?;
        let place = provisioned_with(shipway, "during", &gated).await?;
        roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let visitor = Visitor::arrives(shipway, &place).await?;

        // Held by a scan that does not end. What a scan says is known by repository and digest, so it is said before the push that counts.
        let image = good("2").await?;
        let scanned = shipway.cloud.push_untagged("during-api", &image).await?;
        shipway.cloud.scan_says("during-api", &scanned, Some("IN_PROGRESS"), &[]).await?;
        let older = shipway.push("during-api", "v2", &image).await?;
        let started = Instant::now();
        while shipway.releases_of(&place, &service(), &older).await?.is_empty() {
            ensure!(started.elapsed() < RELEASED, "{}", shipway.story(&place).await?);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // ECR tells the second of a push.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let (newer, _) = roll_out(shipway, &place, "v3", &good("3").await?, Outcome::Succeeded).await?;
        let release = shipway.ended(&place, &service(), &older, RELEASED).await?;
        expect(&release, Outcome::Superseded, shipway, &place).await?;
        ensure!(release.steps.iter().all(|step| step.by != "run-migrations"), "{:#?}", release.steps);
        serves(shipway, &place, &newer).await?;

        let older = shipway.push("during-api", "v4", &good("4").await?.env("MIGRATE_SECONDS", "3")).await?;
        has_begun(shipway, &place, &older, "started the migration").await?;
        let (newer, second) = roll_out(shipway, &place, "v5", &good("5").await?, Outcome::Succeeded).await?;
        let first = shipway.ended(&place, &service(), &older, RELEASED).await?;
        expect(&first, Outcome::Succeeded, shipway, &place).await?;
        let migrated = second.steps.iter().find(|step| step.by == "run-migrations").context("no migration")?;
        ensure!(first.ended_at.is_some_and(|ended| ended <= migrated.at), "{}", shipway.story(&place).await?);
        serves(shipway, &place, &newer).await?;
        visitor.was_answered_by(shipway, &place, &["1", "3", "4", "5"]).await
    });
}

#[test]
fn three_tags_of_one_image_are_one_release_and_a_tag_that_moves_meanwhile_changes_nothing() {
    with_shipway(async |shipway| {
        let place = provisioned_with(shipway, "tags", &manifest("tags")).await?;
        roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let visitor = Visitor::arrives(shipway, &place).await?;
        let image = good("2").await?;
        for tag in ["v2", "v2.0", "v2.0.0"] {
            shipway.push("tags-api", tag, &image).await?;
        }
        let (second, _) = roll_out(shipway, &place, "v2.0.0-final", &image, Outcome::Succeeded).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(shipway.releases_of(&place, &service(), &second).await?.len(), 1);

        let third = shipway.push("tags-api", "v3", &good("3").await?.env("MIGRATE_SECONDS", "2")).await?;
        has_begun(shipway, &place, &third, "started the migration").await?;
        // Its event is lost, so that only the tag could lead there.
        shipway.cloud.announce_pushes("tags-api", false).await?;
        let other = shipway.push("tags-api", "v3", &good("4").await?).await?;
        let release = shipway.ended(&place, &service(), &third, RELEASED).await?;
        expect(&release, Outcome::Succeeded, shipway, &place).await?;
        ensure!(digest(&other) != digest(&third), "the tag did not move");
        serves(shipway, &place, &third).await?;
        visitor.was_answered_by(shipway, &place, &["1", "2", "3"]).await
    });
}

/// Makes a rollout under way look as if it had begun longer ago than it may take.
async fn let_time_pass(shipway: &Shipway, place: &Place, artifact: &Artifact) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < RELEASED {
        let state = shipway.store.component(&place.app, &place.environment, &service()).await?;
        if let Some(claim) = state.claim {
            let run = Run {
                app: place.app.clone(),
                environment: place.environment.clone(),
                component: service(),
                artifact: artifact.clone(),
                release: claim.release,
                fence: claim.fence,
                repair: false,
            };
            let progress: Option<Progress> = shipway.store.progress(&run, "deploy").await?;
            match progress {
                Some(progress) if progress.phase != Phase::Deploying => return Ok(()),
                // Once, or again where a pass that had begun before wrote its own time over it.
                Some(progress)
                    if progress.deployment.is_some()
                        && Timestamp::now().duration_since(progress.since).as_secs() < i64::from(progress.deadline) =>
                {
                    let since = Timestamp::now() - SignedDuration::from_secs(i64::from(progress.deadline) + 60);
                    let late = Progress { since, ..progress };
                    shipway.store.save_progress(&run, "deploy", &late, Timestamp::now()).await?;
                }
                _ => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("the rollout did not give up\n{}", shipway.story(place).await?)
}

#[test]
fn where_ecs_never_gives_up_the_deadline_does_and_says_what_was_missing() {
    with_shipway(async |shipway| {
        let place = provisioned_with(shipway, "late", &without_migration(&manifest("late"))).await?;
        let (first, _) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let visitor = Visitor::arrives(shipway, &place).await?;
        let never = shipway.push("late-api", "v2", &good("2").await?.env("HEALTH_STATUS", "503")).await?;
        let_time_pass(shipway, &place, &never).await?;
        let release = shipway.ended(&place, &service(), &never, RELEASED).await?;
        expect(&release, Outcome::RolledBack, shipway, &place).await?;
        says(&release, &["it did not serve within 10 minutes", "serve again"])?;
        serves(shipway, &place, &first).await?;
        visitor.was_answered_by(shipway, &place, &["1"]).await
    });
}
