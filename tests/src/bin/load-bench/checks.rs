//! Whether anything was lost or doubled, by what AWS and the table say once everything rests.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use jiff::Timestamp;
use local_cloud::faults::Call;
use serde_json::{Value, json};
use shipway_domain::{
    name::Component,
    release::{Artifact, Outcome, ReleaseRecord},
};
use shipway_tests::ask::Aws;

use crate::stage::{Delivered, Owned, Stage};

/// The steps by which deploy-service tells that it changed a service.
const CHANGES: [&str; 2] = ["started deployment", "going back: started deployment"];

/// What is there in the end.
pub(crate) struct Found {
    /// The releases of what was delivered.
    pub(crate) releases: Vec<ReleaseRecord>,
    pub(crate) executions: usize,
    /// What should not be, in sentences.
    pub(crate) faults: Vec<String>,
}

impl Found {
    /// An error where anything was lost, doubled or failed.
    pub(crate) fn verdict(&self, delivered: usize) -> Result<()> {
        for fault in &self.faults {
            println!("✗ {fault}");
        }
        ensure!(self.faults.is_empty(), "{} faults", self.faults.len());
        println!("✓ of {delivered} artifacts none was lost, none doubled, none throttled to failure");
        Ok(())
    }

    pub(crate) fn of(&self, artifact: &Artifact) -> Option<&ReleaseRecord> {
        self.releases.iter().find(|release| release.artifact == *artifact)
    }
}

/// Looks at everything.
pub(crate) async fn look(stage: &Stage, aws: &Aws, delivered: &[Delivered], calls: &[Call]) -> Result<Found> {
    let mut found = Found { releases: Vec::new(), executions: 0, faults: Vec::new() };
    for place in &stage.places {
        let releases = stage.shipway.store.releases(&place.app, &place.environment).await?;
        found.releases.extend(releases.into_iter().filter(|release| release.component != Component::Platform));
    }
    outcomes(&mut found);
    executions(stage, &mut found).await?;
    updates(&mut found, calls);
    for service in &stage.services {
        service_is_newest(stage, aws, service, &mut found).await?;
    }
    for site in &stage.sites {
        let newest = delivered.iter().rfind(|one| one.to.source == site.source && one.to.place.app == site.place.app);
        is_wanted_and_live(stage, site, newest.map(|one| one.artifact.clone()).as_slice(), &mut found).await?;
    }
    let queue =
        json!({"QueueUrl": stage.shipway.output("DeadLetters")?, "AttributeNames": ["ApproximateNumberOfMessages"]});
    let dead = aws.ask("sqs", "get_queue_attributes", queue)?;
    if dead["Attributes"]["ApproximateNumberOfMessages"] != "0" {
        found.faults.push(format!("dead letters: {}", dead["Attributes"]));
    }
    Ok(found)
}

/// Each release has ended, as live, superseded or unchanged.
fn outcomes(found: &mut Found) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for release in &found.releases {
        let outcome = release.outcome.map_or("none", Outcome::word);
        *counts.entry(outcome).or_default() += 1;
        if !matches!(release.outcome, Some(Outcome::Succeeded | Outcome::Superseded | Outcome::Unchanged)) {
            let why = release.reason.as_deref().unwrap_or("no reason");
            found.faults.push(format!("{}/{} {}: {outcome}: {why}", release.app, release.component, release.artifact));
        }
    }
    println!("\nreleases: {counts:?}");
}

/// Each artifact that was taken in has one execution, and each execution one release.
async fn executions(stage: &Stage, found: &mut Found) -> Result<()> {
    let mut names = BTreeMap::<String, usize>::new();
    for machine in ["RolloutMachine", "PublishMachine"] {
        for name in stage.executions(machine, None).await? {
            *names.entry(name).or_default() += 1;
        }
    }
    found.executions = names.len();
    let mut told = BTreeSet::new();
    let mut artifacts = BTreeSet::new();
    for release in &found.releases {
        told.insert(release.execution.clone());
        if !artifacts.insert(release.artifact.to_string()) {
            found.faults.push(format!("{} has two releases", release.artifact));
        }
    }
    found.faults.extend(names.keys().filter(|name| !told.contains(*name)).map(|name| format!("{name} has no release")));
    if told.len() != found.releases.len() {
        found.faults.push(format!("{} executions have {} releases", told.len(), found.releases.len()));
    }
    Ok(())
}

/// ECS was told to change a service as often as releases say that they did.
fn updates(found: &mut Found, calls: &[Call]) {
    let told = found.releases.iter().flat_map(|release| &release.steps);
    let told = told.filter(|step| CHANGES.iter().any(|change| step.what.starts_with(change))).count();
    let changed = calls.iter().filter(|call| call.caller.is_some() && call.fault.is_none());
    let changed =
        changed.filter(|call| ["CreateService", "UpdateService"].contains(&call.operation.name.as_str())).count();
    println!("services created or updated: {changed} calls, {told} steps of releases");
    if changed != told {
        found.faults.push(format!("{changed} calls changed services, {told} steps say so"));
    }
}

/// One of the images that were pushed in the last second is wanted, live, and what ECS runs.
async fn service_is_newest(stage: &Stage, aws: &Aws, service: &Owned, found: &mut Found) -> Result<()> {
    let images = aws.list("ecr", "describe_images", json!({"repositoryName": service.source}), "imageDetails")?;
    let tagged = images.iter().filter(|image| {
        let mut tags = image["imageTags"].as_array().into_iter().flatten().filter_map(Value::as_str);
        tags.any(|tag| tag.starts_with('v'))
    });
    let tagged: Vec<&Value> = tagged.collect();
    let last = tagged.iter().filter_map(|image| image["imagePushedAt"].as_str()).max();
    let newest = tagged.iter().filter(|image| image["imagePushedAt"].as_str() == last);
    let mut artifacts = Vec::new();
    for image in newest {
        let digest = image["imageDigest"].as_str().unwrap_or_default().parse()?;
        artifacts.push(Artifact::Image { repository: service.source.parse()?, digest });
    }
    let Some(live) = is_wanted_and_live(stage, service, &artifacts, found).await? else { return Ok(()) };
    let cluster = format!("{}-{}", service.place.app, service.place.environment);
    let name = format!("{cluster}-{}", service.component.to_string().trim_start_matches("service/"));
    let described = stage.shipway.ecs().describe_services().cluster(&cluster).services(&name).send().await?;
    let runs = described.services().first().and_then(|service| service.task_definition()).unwrap_or_default();
    let definition = stage.shipway.ecs().describe_task_definition().task_definition(runs).send().await?;
    let definition = definition.task_definition().map(|definition| definition.container_definitions());
    let image = definition.unwrap_or_default().iter().find_map(|container| container.image()).unwrap_or_default();
    let Artifact::Image { digest, .. } = &live else { return Ok(()) };
    if !image.ends_with(&digest.to_string()) {
        found.faults.push(format!("{name} runs {image}, and {digest} is live"));
    }
    Ok(())
}

/// One of these is wanted, and live. Nothing is where nothing was delivered.
async fn is_wanted_and_live(
    stage: &Stage,
    owned: &Owned,
    newest: &[Artifact],
    found: &mut Found,
) -> Result<Option<Artifact>> {
    let Owned { place, component, .. } = owned;
    let state = stage.shipway.store.component(&place.app, &place.environment, component).await?;
    let wanted = state.desired.map(|desired| desired.artifact);
    let live = state.live.map(|live| live.artifact);
    let name = format!("{}/{component}", place.app);
    let right = |artifact: &Option<Artifact>| match artifact {
        Some(artifact) => newest.contains(artifact),
        None => newest.is_empty(),
    };
    for (what, artifact) in [("wanted", &wanted), ("live", &live)] {
        if !right(artifact) {
            found.faults.push(format!("{name}: {artifact:?} is {what}, the newest is {newest:?}"));
        }
    }
    if wanted != live {
        found.faults.push(format!("{name}: {wanted:?} is wanted, {live:?} is live"));
    }
    Ok(live)
}

/// When start-release took in what this release is of: its execution is named for that moment.
pub(crate) fn taken_in(release: &ReleaseRecord) -> Option<Timestamp> {
    let since = release.execution.rsplit('-').next()?.parse().ok()?;
    Timestamp::from_millisecond(since).ok()
}
