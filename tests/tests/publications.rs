//! Publications that are cut off, end to end: the function dies at a call of its, and the machine goes on.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::SignedDuration;
use local_cloud::{
    Config, LocalCloud,
    faults::{Fault, Rule},
};
use serde_json::json;
use shipway_domain::{
    name::{Component, ReleaseId},
    release::{Artifact, Outcome, ReleaseRecord},
    site::{SiteManifest, manifest_key},
};
use shipway_tests::{Place, Shipway, ask::Aws, rights, site, tools};

const PROVISIONED: Duration = Duration::from_secs(120);
const RELEASED: Duration = Duration::from_secs(120);

const MANIFEST: &str = "version: 1\napp: cuts\nnetwork: {vpc: default}\nsites: {web: {}}\nenvironments: {dev: {}}\n";

/// The functions of a publication that call AWS on its way.
const FUNCTIONS: [&str; 2] = ["sync-frontend", "invalidate-cache"];

fn style(number: usize) -> String {
    format!("assets/site-{:08x}a.css", 0x5eed_0000 + number)
}

/// A site whose page, style and image all change with the version: the page's references tell whether it is whole.
fn version(number: usize) -> Result<Vec<u8>> {
    let style = style(number);
    let page = format!("<!doctype html><link rel=stylesheet href=/{style}><img src=/logo.svg><p>Version {number}.</p>");
    let css = format!("body {{ margin: {number}px }}");
    let logo = format!("<svg xmlns='http://www.w3.org/2000/svg'><circle r='{number}'/></svg>");
    site::zip([
        ("index.html", page.as_bytes()),
        ("about.html", page.as_bytes()),
        ("logo.svg", logo.as_bytes()),
        (style.as_str(), css.as_bytes()),
    ])
}

struct Stage {
    shipway: Shipway,
    place: Place,
    domain: String,
}

impl Stage {
    async fn set() -> Result<Stage> {
        let shipway = Shipway::install(LocalCloud::start(Config::new(tools()?)).await?).await?;
        let place = Place::dev("cuts")?;
        let artifact = shipway.upload_manifest(&place, MANIFEST).await?;
        let release = shipway.ended(&place, &Component::Platform, &artifact, PROVISIONED).await?;
        ensure!(release.outcome == Some(Outcome::Succeeded), "{}", shipway.story(&place).await?);
        let domain = shipway.platform(&place).await?.sites.into_values().next().context("no site")?.domain;
        Ok(Stage { shipway, place, domain })
    }

    async fn publish(&self, number: usize) -> Result<ReleaseRecord> {
        let artifact = self.shipway.upload_zip(&self.place, "web", &format!("v{number}"), version(number)?).await?;
        let release = self.shipway.ended(&self.place, &"site/web".parse()?, &artifact, RELEASED).await?;
        ensure!(
            release.outcome == Some(Outcome::Succeeded),
            "version {number}: {:?}\n{}",
            release.reason,
            self.shipway.story(&self.place).await?
        );
        Ok(release)
    }

    /// Every page is of this version, and what it refers to is there.
    async fn is_whole(&self, number: usize) -> Result<()> {
        for path in ["/", "/about"] {
            let page = self.get(path).await?;
            ensure!(page.contains(&format!("Version {number}.")), "{path} is not of version {number}: {page}");
            for reference in page.split("href=").chain(page.split("src=")).skip(1) {
                let reference = reference.split(['>', ' ']).next().unwrap_or_default();
                if reference.starts_with('/') {
                    self.get(reference).await.with_context(|| format!("{path} of version {number}"))?;
                }
            }
        }
        let logo = self.get("/logo.svg").await?;
        ensure!(logo.contains(&format!("r='{number}'")), "the logo is not of version {number}: {logo}");
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<String> {
        let answer = self.shipway.cloud.http_through_cloudfront(&self.domain, path).await?;
        ensure!(answer.status.is_success(), "{path} answers {}", answer.status);
        Ok(answer.text())
    }

    fn calls_of(&self, function: &str) -> u32 {
        let calls = self.shipway.cloud.faults().calls();
        let own = calls.iter().filter(|call| call.caller.as_deref().is_some_and(|name| name.contains(function)));
        u32::try_from(own.count()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_dies_at_any_call_ends_as_if_it_had_not_and_an_earlier_one_comes_back() -> Result<()> {
    let stage = Stage::set().await?;
    let first = stage.publish(0).await?;
    let faults = stage.shipway.cloud.faults();
    faults.forget_calls();
    stage.publish(1).await?;
    stage.is_whole(1).await?;
    let calls = FUNCTIONS.map(|function| stage.calls_of(function));
    let mut number = 1;
    for (function, calls) in FUNCTIONS.into_iter().zip(calls) {
        ensure!(calls > 5, "{function} made {calls} calls");
        for nth in 1..=calls {
            // Before and after in turn: the other half is in the tests in memory, with all of the rest.
            let fault = if nth % 2 == 0 { Fault::KillBefore } else { Fault::KillAfter };
            number += 1;
            faults.add(Rule::new(fault).caller(function).nth(nth));
            stage.publish(number).await.with_context(|| format!("{fault:?} at call {nth} of {function}"))?;
            let struck = faults.calls().iter().filter(|call| call.fault == Some(fault)).count();
            faults.clear();
            faults.forget_calls();
            ensure!(struck == 1, "{function} made no call {nth}");
            stage.is_whole(number).await.with_context(|| format!("after {fault:?} at call {nth} of {function}"))?;
        }
    }

    let Artifact::Object { key, .. } = &first.artifact else { anyhow::bail!("{} is no zip", first.artifact) };
    let arn = stage.shipway.start(&stage.place, &"site/web".parse()?, &first.artifact).await?;
    let back = stage.shipway.ended_execution(&stage.place, &arn, RELEASED).await?;
    ensure!(back.outcome == Some(Outcome::Succeeded), "back to {key}: {:?}", back.reason);
    stage.is_whole(0).await?;
    // The style has a name of its own and is still there: the pages and the logo are all that is written.
    let reason = back.reason.unwrap_or_default();
    ensure!(reason.starts_with("of 4 files 3 changed"), "{reason}");
    what_no_kept_release_wants_is_deleted_a_week_later(&stage, &back.release, number).await?;
    a_notice_that_nobody_takes_changes_no_outcome(&stage).await?;
    rights::hold(&stage.shipway.cloud).await
}

/// Ten releases are kept, and what only earlier ones wanted for a week. The week is over as the live release's record says so.
async fn what_no_kept_release_wants_is_deleted_a_week_later(
    stage: &Stage,
    live: &ReleaseId,
    newest: usize,
) -> Result<()> {
    let Stage { shipway, place, .. } = stage;
    let component: Component = "site/web".parse()?;
    let key = manifest_key(&place.app, &place.environment, &component, live);
    let intake = shipway.output("IntakeBucket")?;
    let kept = shipway.s3().get_object().bucket(intake).key(&key).send().await?.body.collect().await?.into_bytes();
    let mut record: SiteManifest = serde_json::from_slice(&kept)?;
    record.retired.values_mut().for_each(|retired| retired.since -= SignedDuration::from_hours(8 * 24));
    shipway.upload(&key, serde_json::to_vec(&record)?).await?;

    stage.publish(newest + 1).await?;
    shipway.idle(place, &component, RELEASED).await?;
    stage.is_whole(newest + 1).await?;
    let bucket = shipway.platform(place).await?.sites.into_values().next().context("no site")?.bucket;
    let objects = shipway.s3().list_objects_v2().bucket(bucket).send().await?;
    let keys: Vec<&str> = objects.contents().iter().filter_map(|object| object.key()).collect();
    for (number, is_kept) in [(1, false), (newest, true), (0, true)] {
        ensure!(keys.contains(&&*style(number)) == is_kept, "version {number}'s style: {keys:?}");
    }
    Ok(())
}

/// The topic is gone: nobody can be told how a release ended, and its execution ends as it would have.
async fn a_notice_that_nobody_takes_changes_no_outcome(stage: &Stage) -> Result<()> {
    let Stage { shipway, place, .. } = stage;
    let topic = json!({"TopicArn": shipway.output("Topic")?});
    Aws::of(&shipway.cloud)?.ask("sns", "delete_topic", topic)?;
    let component: Component = "site/web".parse()?;
    let good = stage.publish(1).await?;
    let no_index = site::zip([("about.html", b"about".as_slice())])?;
    let artifact = shipway.upload_zip(place, "web", "no-index", no_index).await?;
    let bad = shipway.ended(place, &component, &artifact, RELEASED).await?;
    ensure!(bad.outcome == Some(Outcome::Rejected), "{:?}", bad.reason);
    shipway.idle(place, &component, RELEASED).await?;
    let machine = shipway.machine(&component)?.replace(":stateMachine:", ":execution:");
    for (release, ends) in [(good, "Ended: Succeeded"), (bad, "Failed: Failed Rejected.NoIndex")] {
        let story = shipway.execution_story(&format!("{machine}:{}", release.execution)).await?;
        ensure!(story.contains(ends), "{story}");
    }
    Ok(())
}
