//! Rollouts, measured: how long after its new tasks are healthy a release says so, against the waiter of the AWS CLI on the same
//! rollout; what a look costs in calls, and a rollout in transitions.

#![allow(clippy::print_stdout, reason = "it talks to a person")]
#![allow(clippy::disallowed_methods, reason = "it waits for what it measures")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use local_cloud::{Config, LocalCloud, hello};
use serde_json::json;
use shipway_domain::{name::Component, release::Outcome};
use shipway_tests::{Place, Shipway, ask::Aws, follow, tools};

const MANIFEST: &str = "
version: 1
app: bench
services:
  api:
    image: {repository: bench-api, tags: ['v*']}
    port: 8080
    count: 2
    http: {path: /*, health: /health}
environments:
  dev: {}
";
const TASKS: usize = 2;
/// For how long a task is not healthy after its start, in seconds, one rollout after the other: so that its end falls now here, now
/// there between two looks. The local cloud's ECS replaces a task after three.
const WARM_UPS: [&str; 5] = ["0.5", "2.0", "1.0", "2.5", "1.5"];
const PATIENCE: Duration = Duration::from_secs(300);
/// Row 6: the most that may pass, and the most calls of one look.
const SECONDS: f64 = 5.0;
const CALLS: usize = 1;

#[tokio::main]
async fn main() -> Result<()> {
    let runs = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => 5,
        [option, runs] if option == "--runs" => runs.parse().context("--runs takes a number")?,
        other => anyhow::bail!("`{}` is not known; this takes --runs <number>", other.join(" ")),
    };
    // Pauses as they are on AWS: they are what is measured.
    let cloud = LocalCloud::start(Config { wait_scale: 1.0, ..Config::new(tools()?) }).await?;
    let shipway = Shipway::install(cloud).await?;
    let place = Place::dev("bench")?;
    let manifest = shipway.upload_manifest(&place, MANIFEST).await?;
    let platform = shipway.ended(&place, &Component::Platform, &manifest, PATIENCE).await?;
    ensure!(platform.outcome == Some(Outcome::Succeeded), "{}", shipway.story(&place).await?);
    let bench = Bench { aws: Aws::of(&shipway.cloud)?, service: "service/api".parse()?, shipway, place };
    // The first makes the service.
    bench.roll_out(0).await?;
    let mut rollouts = Vec::new();
    for run in 1..=runs {
        rollouts.push(bench.roll_out(run).await?);
    }
    print(&rollouts);
    Ok(())
}

struct Bench {
    shipway: Shipway,
    place: Place,
    service: Component,
    aws: Aws,
}

struct Rollout {
    /// From the moment when all new tasks were healthy.
    release: Duration,
    waiter: Duration,
    /// How often deploy-service looked.
    passes: usize,
    polls: usize,
    transitions: usize,
    /// The most calls of each operation that one pass made.
    calls: BTreeMap<String, usize>,
}

impl Bench {
    async fn roll_out(&self, run: usize) -> Result<Rollout> {
        let Bench { shipway, place, .. } = self;
        let before = self.targets(&[])?;
        let known = self.revision().await?;
        shipway.cloud.faults().forget_calls();
        let image = hello::image(&run.to_string()).await?.env("HEALTHY_AFTER", WARM_UPS[run % WARM_UPS.len()]);
        let artifact = shipway.push("bench-api", &format!("v{run}"), &image).await?;
        let started = Instant::now();
        while self.revision().await? == known {
            ensure!(started.elapsed() < PATIENCE, "{}", shipway.story(place).await?);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // As a pipeline does it: the service was updated, now it is waited for.
        let mut waiter = tokio::process::Command::new(tools()?.join("bin/aws"));
        shipway.cloud.use_in(waiter.as_std_mut());
        waiter.args(["ecs", "wait", "services-stable", "--cluster", "bench-dev", "--services", "bench-dev-api"]);
        let mut waiter = waiter.stdout(Stdio::null()).spawn().context("starting the AWS CLI")?;
        let waited = async {
            let status = waiter.wait().await?;
            ensure!(status.success(), "the AWS CLI gave up");
            Ok(Instant::now())
        };
        let healthy = async {
            loop {
                if tokio::task::block_in_place(|| self.targets(&["healthy"]))?.difference(&before).count() == TASKS {
                    return Ok(Instant::now());
                }
                ensure!(started.elapsed() < PATIENCE, "no new task got healthy");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let released = async {
            let release = shipway.ended(place, &self.service, &artifact, PATIENCE).await?;
            let ended = Instant::now();
            ensure!(release.outcome == Some(Outcome::Succeeded), "{}", shipway.story(place).await?);
            Ok((ended, release))
        };
        let (waited, healthy, (ended, release)) = tokio::try_join!(waited, healthy, released)?;
        shipway.idle(place, &self.service, PATIENCE).await?;
        let machine = shipway.machine(&self.service)?.replace(":stateMachine:", ":execution:");
        let states = follow::states(shipway.sfn(), &format!("{machine}:{}", release.execution)).await?;
        let entered = |name: &str| states.iter().filter(|state| *state == name).count();
        Ok(Rollout {
            release: ended.saturating_duration_since(healthy),
            waiter: waited.saturating_duration_since(healthy),
            passes: entered("DeployService"),
            polls: entered("WaitForService"),
            transitions: states.len(),
            calls: self.calls(),
        })
    }

    async fn revision(&self) -> Result<Option<String>> {
        let asked = self.shipway.ecs().describe_services().cluster("bench-dev").services("bench-dev-api");
        let answer = asked.send().await?;
        Ok(answer.services().first().and_then(|service| service.task_definition()).map(str::to_owned))
    }

    /// The addresses of the service's targets in these states; of all where none is named.
    fn targets(&self, states: &[&str]) -> Result<BTreeSet<String>> {
        let groups = self.aws.list("elbv2", "describe_target_groups", json!({}), "TargetGroups")?;
        let mut found = BTreeSet::new();
        for group in groups {
            let asked = json!({"TargetGroupArn": group["TargetGroupArn"]});
            for target in self.aws.list("elbv2", "describe_target_health", asked, "TargetHealthDescriptions")? {
                let state = target["TargetHealth"]["State"].as_str().unwrap_or_default();
                if states.is_empty() || states.contains(&state) {
                    found.extend(target["Target"]["Id"].as_str().map(str::to_owned));
                }
            }
        }
        Ok(found)
    }

    /// The most calls of each operation beside the table's in one pass of deploy-service, which looks at the service once.
    fn calls(&self) -> BTreeMap<String, usize> {
        let calls = self.shipway.cloud.faults().calls();
        let ours =
            calls.iter().filter(|call| call.caller.as_deref().is_some_and(|name| name.contains("deploy-service")));
        let (mut most, mut pass) = (BTreeMap::<String, usize>::new(), BTreeMap::<String, usize>::new());
        for operation in ours.map(|call| &call.operation).filter(|operation| operation.service != "dynamodb") {
            if operation.name == "DescribeServices" {
                pass.clear();
            }
            let count = pass.entry(operation.name.clone()).or_default();
            *count += 1;
            let known = most.entry(operation.name.clone()).or_default();
            *known = (*known).max(*count);
        }
        most
    }
}

fn print(rollouts: &[Rollout]) {
    println!(
        "\n| run | new tasks healthy → the release says so | → `aws ecs wait services-stable` | looks | transitions |"
    );
    println!("|---|---|---|---|---|");
    for (number, one) in rollouts.iter().enumerate() {
        let Rollout { release, waiter, passes, transitions, .. } = one;
        println!(
            "| {} | {:.1} s | {:.1} s | {passes} | {transitions} |",
            number + 1,
            release.as_secs_f64(),
            waiter.as_secs_f64()
        );
    }
    let (ours, theirs) = (median(rollouts, |one| one.release), median(rollouts, |one| one.waiter));
    let most = rollouts.iter().map(|one| one.release).max().unwrap_or_default().as_secs_f64();
    println!("\n| row | measure | got | reach |\n|---|---|---|---|");
    println!(
        "| 6 | new tasks healthy → the release says so, median | {ours:.1} s, at most {most:.1} s | ≤ {SECONDS} s {} |",
        mark(most <= SECONDS)
    );
    println!("| 6 | the same by `aws ecs wait services-stable` | {theirs:.1} s | |");
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, count) in rollouts.iter().flat_map(|one| &one.calls) {
        let known = calls.entry(name).or_default();
        *known = (*known).max(*count);
    }
    let of = |wanted: fn(&str) -> bool| {
        let some: Vec<_> = calls.iter().filter(|(name, _)| wanted(name)).collect();
        let text: Vec<String> = some.iter().map(|(name, count)| format!("`{name}` {count}")).collect();
        (text.join(", "), some.iter().all(|(_, count)| **count <= CALLS))
    };
    // Revisions are looked for once, when a rollout begins.
    let looks = |name: &str| name.starts_with("Describe") && name != "DescribeTaskDefinition";
    let (text, kept) = of(looks);
    println!("| 6 | describe calls of one look | {text} | ≤ {CALLS} of each {} |", mark(kept));
    let (text, _) = of(|name| name.starts_with("List"));
    println!("| 6 | beside them | {text} | |");
    let plain = rollouts.iter().map(|one| one.transitions - 3 * one.polls).max().unwrap_or_default();
    let pauses = 20usize.saturating_sub(plain);
    println!(
        "| 9 | transitions of a plain rollout | {plain} + 3 for each pause | ≤ 20 + 2 for each: ✓ up to {pauses} pauses, ✗ beyond |"
    );
}

fn median(rollouts: &[Rollout], of: impl Fn(&Rollout) -> Duration) -> f64 {
    let mut sorted: Vec<Duration> = rollouts.iter().map(of).collect();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default().as_secs_f64()
}

fn mark(kept: bool) -> &'static str {
    if kept { "✓" } else { "✗" }
}
