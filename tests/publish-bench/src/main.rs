//! `cargo xtask bench publish`: publications measured against what else publishes a zip, all on one endpoint on this machine.
//! What each figure means, and why the endpoint is ours, is in `docs/benchmarks.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people")]

mod endpoint;
mod machine;
mod peers;
mod plan;
mod report;
mod runtime;
mod shipway;
mod site;
mod table;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tempfile::TempDir;

use crate::endpoint::{Endpoint, State};
use crate::peers::Peer;
use crate::report::{Cell, Large, Report, Scenario};
use crate::shipway::{Puts, zip_key};
use crate::site::Site;

/// The bucket of the zips.
const INTAKE: &str = "intake";
/// The site's bucket.
const BUCKET: &str = "site";
/// The table.
const TABLE: &str = "shipway";

#[derive(Parser)]
struct Arguments {
    /// The release build of sync-frontend
    #[arg(long)]
    function: PathBuf,
    /// The release build of the function that only puts
    #[arg(long)]
    yardstick: PathBuf,
    /// The folder of the state machines
    #[arg(long)]
    machines: PathBuf,
    /// The AWS CLI, the Python it runs in, and CDK's handler
    #[arg(long)]
    aws: Option<PathBuf>,
    #[arg(long)]
    python: Option<PathBuf>,
    #[arg(long)]
    cdk: Option<PathBuf>,
    #[arg(long)]
    s5cmd: Option<PathBuf>,
    #[arg(long)]
    rclone: Option<PathBuf>,
    /// A publisher that could not be had, and why
    #[arg(long)]
    missing: Vec<String>,
    /// How often each publication is measured
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// By how many milliseconds each request is delayed in the second half
    #[arg(long, default_value_t = 20)]
    delay: u64,
    /// The figures as JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What a publisher is told to be AWS.
fn credentials(endpoint: SocketAddr) -> [(&'static str, String); 5] {
    [
        ("AWS_ENDPOINT_URL", format!("http://{endpoint}")),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "measured".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "measured".to_owned()),
    ]
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let report = measure(&arguments).await?;
    if arguments.json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

/// Who publishes.
enum Publisher {
    Ours(PathBuf),
    Puts(Puts),
    Peer(&'static str, Peer),
}

impl Publisher {
    fn name(&self) -> &'static str {
        match self {
            Publisher::Ours(_) => report::OURS,
            Publisher::Puts(_) => report::PUTS,
            Publisher::Peer(name, _) => name,
        }
    }
}

async fn measure(arguments: &Arguments) -> Result<Report> {
    let base = Site::realistic();
    // The first is what is live; each of the others is one scenario's build.
    let mut builds = vec![base.clone()];
    builds.extend(Scenario::ALL.iter().map(|scenario| base.changed(scenario.changed().unwrap_or(0))));
    let scratch = TempDir::new()?;
    let unpacked = scratch.path().join("unpacked");
    // Copies: a build of the functions for tests would take their place meanwhile.
    let (function, yardstick) = (scratch.path().join("function"), scratch.path().join("yardstick"));
    std::fs::copy(&arguments.function, &function).context("the function")?;
    std::fs::copy(&arguments.yardstick, &yardstick).context("the yardstick")?;
    for (build, site) in builds.iter().enumerate() {
        site.write(&unpacked.join(build.to_string()))?;
    }

    let endpoint = Endpoint::start().await?;
    let provisioned = shipway::provisioned(&builds)?;
    let mut publishers = Vec::new();
    let puts = Puts { function: yardstick, unpacked };
    for publisher in publishers_of(arguments, function.clone(), puts) {
        // What each finds live is what it published itself: they keep different things of it.
        endpoint.restore(provisioned.clone());
        publish(&publisher, &endpoint, &builds, 0, None).await.with_context(|| publisher.name())?;
        endpoint.traffic()?;
        publishers.push((publisher, endpoint.state()));
    }

    let mut report = Report::default();
    (report.runs, report.missing) = (arguments.runs, arguments.missing.clone());
    report.site = (base.files.len(), base.bytes(), builds[0].zip()?.len());
    for delay in [0, arguments.delay] {
        endpoint.set_delay(Duration::from_millis(delay));
        for run in 1..=arguments.runs {
            for (build, scenario) in (1..).zip(Scenario::ALL) {
                eprintln!("delay {delay} ms, run {run} of {}, {}", arguments.runs, scenario.name());
                for (publisher, live) in &publishers {
                    let before = if scenario == Scenario::Full { &provisioned } else { live };
                    let cell = report.cell(delay, scenario, publisher.name());
                    one(publisher, &endpoint, before, &builds, build, scenario, cell)
                        .await
                        .with_context(|| publisher.name())?;
                }
            }
        }
    }
    endpoint.set_delay(Duration::ZERO);
    report.large = Some(large(&function, &endpoint).await?);
    report.plan = Some(plan::measure()?);
    for machine in ["publish", "rollout"] {
        let path = arguments.machines.join(format!("{machine}.asl.json"));
        report.transitions.push((machine, machine::longest_way(&path)?));
    }
    Ok(report)
}

fn publishers_of(arguments: &Arguments, function: PathBuf, puts: Puts) -> Vec<Publisher> {
    let peer = |name, peer: Option<Peer>| peer.map(|peer| Publisher::Peer(name, peer));
    let (aws, python, cdk) = (arguments.aws.clone(), arguments.python.clone(), arguments.cdk.clone());
    let handler = python.zip(cdk).zip(aws.clone());
    let peers = [
        peer(report::CDK, handler.map(|((python, handler), aws)| Peer::Cdk { python, handler, aws })),
        peer("unzip + aws s3 sync", aws.map(Peer::Aws)),
        peer("unzip + s5cmd sync", arguments.s5cmd.clone().map(Peer::S5cmd)),
        peer("unzip + rclone sync", arguments.rclone.clone().map(Peer::Rclone)),
    ];
    let own = [Publisher::Ours(function), Publisher::Puts(puts)];
    own.into_iter().chain(peers.into_iter().flatten()).collect()
}

/// One publication of one publisher, measured and looked at.
async fn one(
    publisher: &Publisher,
    endpoint: &Endpoint,
    before: &State,
    builds: &[Site],
    build: usize,
    scenario: Scenario,
    cell: &mut Cell,
) -> Result<()> {
    endpoint.restore(before.clone());
    endpoint.traffic()?;
    let live = (scenario != Scenario::Full).then_some(0);
    cell.times.push(publish(publisher, endpoint, builds, build, live).await?);
    cell.traffic = endpoint.traffic()?;
    look(&endpoint.state(), &builds[build])
}

async fn publish(
    publisher: &Publisher,
    endpoint: &Endpoint,
    builds: &[Site],
    build: usize,
    live: Option<usize>,
) -> Result<Duration> {
    let directory = TempDir::new()?;
    match publisher {
        Publisher::Ours(function) => {
            Ok(shipway::publish(function, endpoint, build, live, directory.path()).await?.time)
        }
        Publisher::Puts(puts) => puts.publish(endpoint, build, &builds[build], live.is_none(), directory.path()).await,
        Publisher::Peer(_, peer) => {
            let started = Instant::now();
            peer.publish(&zip_key(build), endpoint.address, directory.path()).await?;
            Ok(started.elapsed())
        }
    }
}

/// Fails unless the site's bucket holds the build.
fn look(state: &State, site: &Site) -> Result<()> {
    let bucket = state.buckets.get(BUCKET).context("the site has no bucket")?;
    for file in &site.files {
        let object = bucket.get(&file.path).with_context(|| format!("{} is not there", file.path))?;
        ensure!(object.content == file.content, "{} is not what the zip holds", file.path);
    }
    Ok(())
}

/// Row 5: half a gigabyte.
async fn large(function: &Path, endpoint: &Endpoint) -> Result<Large> {
    eprintln!("a zip of half a gigabyte");
    let builds = [Site::large()];
    let state = shipway::provisioned(&builds)?;
    let zip = state.buckets[INTAKE][&zip_key(0)].content.len();
    let mut most = Large { zip, ..Large::default() };
    for _ in 0..report::LARGE_RUNS {
        endpoint.restore(state.clone());
        let directory = TempDir::new()?;
        let published = shipway::publish(function, endpoint, 0, None, directory.path()).await?;
        endpoint.traffic()?;
        look(&endpoint.state(), &builds[0])?;
        ensure!(std::fs::read_dir(directory.path())?.next().is_none(), "it left files behind");
        most.times.push(published.time);
        most.passes = most.passes.max(published.passes);
        most.peak_kib = most.peak_kib.max(published.peak_kib);
        most.disk_bytes = most.disk_bytes.max(published.disk_bytes);
    }
    Ok(most)
}
