//! Ours: sync-frontend as it is deployed, and the record of what it published.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use shipway_domain::manifest;

use crate::endpoint::{Endpoint, Object, State, VERSION};
use crate::runtime::Function;
use crate::site::Site;
use crate::{BUCKET, INTAKE};

const MANIFEST: &str = "version: 1\napp: bench\nsites: {web: {}}\nenvironments: {prod: {}}\n";

/// Passes that one publication may take.
const PASSES: usize = 100;

/// What came of one publication.
pub(crate) struct Published {
    pub(crate) time: Duration,
    pub(crate) passes: usize,
    pub(crate) peak_kib: u64,
    pub(crate) disk_bytes: u64,
}

/// The key of a build's zip.
pub(crate) fn zip_key(build: usize) -> String {
    format!("sites/bench/prod/web/{build}.zip")
}

fn release(build: usize) -> String {
    format!("20261121T0315{build:02}000-3f9c2a")
}

fn artifact(build: usize) -> Value {
    json!({"object": {"key": zip_key(build), "version": VERSION}})
}

/// An environment with a site to which nothing was published, and the builds' zips in its intake bucket.
pub(crate) fn provisioned(builds: &[Site]) -> Result<State> {
    let spec = manifest::read(
        MANIFEST,
        &"bench".parse().map_err(anyhow::Error::msg)?,
        &"prod".parse().map_err(anyhow::Error::msg)?,
    )?;
    let mut state = State::default();
    let applied =
        json!({"artifact": {"object": {"key": "apps/bench/prod/shipway.yaml", "version": VERSION}}, "spec": spec});
    let site = json!({"bucket": BUCKET, "distribution": "E2QWRUHEXAMPLE", "domain": "d111111abcdef8.cloudfront.net",
        "store": "arn:aws:cloudfront::111122223333:key-value-store/a"});
    state.table.put("bench/prod", "environment", &json!({"applied": applied, "platform": {"sites": {"web": site}}}))?;
    let intake = state.buckets.entry(INTAKE.to_owned()).or_default();
    for (build, site) in builds.iter().enumerate() {
        intake.insert(zip_key(build), Object::new(site.zip()?));
    }
    Ok(state)
}

/// Publishes a build as a new process of the function, where `live` is live.
pub(crate) async fn publish(
    function: &Path,
    endpoint: &Endpoint,
    build: usize,
    live: Option<usize>,
    directory: &Path,
) -> Result<Published> {
    let now = jiff::Timestamp::now();
    let live = live.map(|live| json!({"artifact": artifact(live), "release": release(live), "since": now}));
    let claim = json!({"release": release(build), "fence": 1, "until": now + jiff::SignedDuration::from_mins(16)});
    let mut component = json!({"claim": claim, "fence": 1, "revision": 1});
    let mut record = json!({
        "release": release(build), "app": "bench", "environment": "prod", "component": "site/web",
        "artifact": artifact(build), "execution": "measured", "started_at": now,
    });
    if let Some(live) = live {
        component["live"] = live.clone();
        record["previous"] = live;
    }
    let mut state = endpoint.state();
    state.table.put("bench/prod", "component#site/web", &component)?;
    state.table.put("bench/prod", &format!("release#{}", release(build)), &record)?;
    endpoint.restore(state);

    let run = json!({
        "app": "bench", "environment": "prod", "component": "site/web", "artifact": artifact(build),
        "release": release(build), "fence": 1,
    });
    let event = json!({"run": run, "action": "sync"});
    let started = Instant::now();
    let mut function = Function::start(function, endpoint.address, directory).await?;
    let mut passes = 1;
    while function.invoke(&event).await?["status"] != "done" {
        passes += 1;
        ensure!(passes <= PASSES, "not done after {PASSES} passes");
    }
    let time = started.elapsed();
    let published = Published { time, passes, peak_kib: function.peak_kib()?, disk_bytes: function.disk_bytes()? };
    function.stop().await?;
    Ok(published)
}

/// The function that only puts, with the same client: it is told everything.
pub(crate) struct Puts {
    pub(crate) function: PathBuf,
    /// Where the builds are unpacked, each in a directory of its number.
    pub(crate) unpacked: PathBuf,
}

impl Puts {
    /// Puts some of a build's files.
    pub(crate) async fn publish(
        &self,
        endpoint: &Endpoint,
        build: usize,
        site: &Site,
        all: bool,
        directory: &Path,
    ) -> Result<Duration> {
        let unpacked = self.unpacked.join(build.to_string());
        let files: Vec<_> = if all { site.files.iter().collect() } else { site.changes().collect() };
        let objects = files.iter().map(|file| {
            let crc32 = BASE64_STANDARD.encode(crc32fast::hash(&file.content).to_be_bytes());
            json!({"key": file.path, "file": unpacked.join(&file.path), "crc32": crc32})
        });
        let objects: Vec<_> = objects.collect();
        let event = json!({"intake": INTAKE, "zip": zip_key(build), "bucket": BUCKET, "objects": objects});
        let started = Instant::now();
        let mut function = Function::start(&self.function, endpoint.address, directory).await?;
        let answer = function.invoke(&event).await?;
        let time = started.elapsed();
        ensure!(answer["read"].as_u64().context("no size")? > 0, "the zip was not read");
        function.stop().await?;
        Ok(time)
    }
}
