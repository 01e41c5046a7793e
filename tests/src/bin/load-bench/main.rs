//! Load on one installation: many services and sites, a thousand pushes within a minute and every site published at once, with AWS's
//! limits kept. What was lost, what was doubled, how long it took, and how near each limit is.

#![allow(clippy::print_stdout, reason = "it talks to a person")]
#![allow(clippy::disallowed_methods, reason = "it waits for what it measures")]

mod checks;
mod options;
mod report;
mod stage;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use local_cloud::{Config, LocalCloud, faults::Call};
use serde_json::{Value, json};
use shipway_tests::{Shipway, ask::Aws, tools};

use crate::{
    options::Options,
    stage::{Delivered, Stage},
};

/// Until everything rests; then what still runs is told.
const PATIENCE: Duration = Duration::from_secs(45 * 60);
/// For how long nothing may call before it is believed that everything rests.
const QUIET: Duration = Duration::from_secs(15);
/// What is younger than this a sweep leaves to its event.
const LEFT_TO_EVENTS: SignedDuration = SignedDuration::from_secs(125);

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    // Pauses as they are on AWS, or limits for each second would mean nothing.
    let config = Config { wait_scale: 1.0, concurrency: Some(options.concurrency), ..Config::new(tools()?) };
    let shipway = Shipway::install(LocalCloud::start(config).await?).await?;
    let began = Instant::now();
    let stage = Stage::set(shipway, &options).await?;
    println!("{} services and {} sites stand after {:.0?}", stage.services.len(), stage.sites.len(), began.elapsed());

    let aws = Aws::of(&stage.shipway.cloud)?;
    let faults = stage.shipway.cloud.faults();
    faults.keep_limits();
    faults.forget_calls();
    let began = Instant::now();
    let delivered = stage.load(&options).await?;
    println!("{} artifacts delivered after {:.0?}", delivered.len(), began.elapsed());
    rest(&stage, began, options.pushes).await?;
    let calls = faults.calls();
    let found = checks::look(&stage, &aws, &delivered, &calls).await?;
    report::latencies(&delivered, &found);

    wait_for_the_sweep(&delivered).await;
    let sweep = sweep(&stage, &aws)?;
    let (rollout, publication) = alone(&stage).await?;
    report::calls(&calls, &sweep, &rollout, &publication);
    found.verdict(delivered.len())
}

/// Waits until every push was looked at, no execution runs and no function calls. An event may be in Lambda's queue for minutes.
async fn rest(stage: &Stage, began: Instant, pushes: usize) -> Result<()> {
    let mut told = Instant::now();
    loop {
        let running = stage.running().await?;
        let calls = stage.shipway.cloud.faults().calls();
        let last = calls.iter().rev().find(|call| call.caller.is_some()).map_or(began, |call| call.at);
        let looked_at = |call: &&Call| call.caller.is_some() && call.operation.name == "DescribeImages";
        let came = calls.iter().filter(looked_at).count() >= pushes;
        if running == 0 && came && last.elapsed() > QUIET {
            println!("everything rests {:.0?} after the first delivery", last.duration_since(began));
            return Ok(());
        }
        if told.elapsed() > Duration::from_secs(20) {
            told = Instant::now();
            println!("  {:.0?}: {running} executions run, {} calls so far", began.elapsed(), calls.len());
        }
        ensure!(began.elapsed() < PATIENCE, "{running} executions still run");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

async fn wait_for_the_sweep(delivered: &[Delivered]) {
    let newest = delivered.iter().map(|one| one.at).max().unwrap_or_else(Timestamp::now);
    let left = LEFT_TO_EVENTS - Timestamp::now().duration_since(newest);
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
}

/// The calls of one sweep, which finds nothing that events did not bring.
fn sweep(stage: &Stage, aws: &Aws) -> Result<Vec<Call>> {
    let faults = stage.shipway.cloud.faults();
    faults.forget_calls();
    let began = Instant::now();
    let function = stage.shipway.output("StartReleaseFunction")?;
    let payload = json!({"shipway": "sweep"}).to_string();
    let answer = aws.ask("lambda", "invoke", json!({"FunctionName": function, "Payload": payload}))?;
    let took = began.elapsed();
    let answers: Vec<Value> = serde_json::from_str(answer["Payload"].as_str().unwrap_or_default())?;
    let known = |answer: &&Value| answer["note"].as_str().is_some_and(|note| note.contains("had its release already"));
    let known = answers.iter().filter(known).count();
    ensure!(known == answers.len(), "the sweep found what no event had brought: {answers:?}");
    println!(
        "\nA sweep took {took:.1?}; it found nothing new, and started again the {known} that are new enough to be"
    );
    Ok(faults.calls())
}

/// The calls of one rollout and of one publication that nothing else disturbs.
async fn alone(stage: &Stage) -> Result<(Vec<Call>, Vec<Call>)> {
    let faults = stage.shipway.cloud.faults();
    faults.forget_calls();
    let began = Instant::now();
    stage.push(0, "alone").await?;
    rest(stage, began, 1).await?;
    let rollout = faults.calls();
    faults.forget_calls();
    if stage.sites.is_empty() {
        return Ok((rollout, Vec::new()));
    }
    let began = Instant::now();
    stage.publish(0, "alone").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    rest(stage, began, 0).await?;
    Ok((rollout, faults.calls()))
}
