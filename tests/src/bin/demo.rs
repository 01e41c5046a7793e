//! The demo: Shipway in a local cloud, from nothing to a rollback, shown as it happens.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]
#![allow(clippy::disallowed_methods, reason = "it waits for what it shows")]

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use local_cloud::{Config, Containers, LocalCloud, docker::Engine, hello};
use shipway_domain::{
    name::Component,
    release::{Artifact, Outcome, ReleaseRecord},
};
use shipway_tests::{Place, Shipway, follow, site, tools};

/// How much shorter the machines' waits are than on AWS: what is polled every few seconds there is local here.
const WAIT_SCALE: f64 = 0.1;

/// Longer than any release of the demo takes.
const PATIENCE: Duration = Duration::from_secs(180);

/// The size of the site whose publication is timed.
const SITE_FILES: usize = 100;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // Not with `?`: anyhow would print a backtrace where the environment asks for them.
            eprintln!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let keep = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--keep" => true,
        other => bail!("`{}` is not an option; the demo knows --keep", other.join(" ")),
    };
    tokio::select! {
        result = demo(keep) => result,
        _ = tokio::signal::ctrl_c() => {
            println!("\nStopped; the local cloud is gone.");
            Ok(())
        }
    }
}

async fn demo(keep: bool) -> Result<()> {
    let screen = Screen { live: std::io::stdout().is_terminal(), started: Instant::now() };
    let containers = match Engine::find().await {
        Ok(engine) => {
            println!("Containers run in Docker ({}).", engine.host());
            Containers::Docker(engine.host().to_owned())
        }
        Err(_) => {
            println!("No Docker engine answers: the image's program runs as a process of this machine.");
            Containers::Processes
        }
    };
    let step = screen.step("starting a local cloud");
    let config = Config { containers, wait_scale: WAIT_SCALE, ..Config::new(tools()?) };
    let cloud = LocalCloud::start(config).await?;
    step.done(&format!("a local cloud at {}, with IAM checks; waits are {WAIT_SCALE} of AWS's", cloud.endpoint()));

    let step = screen.step("sam deploy");
    let shipway = Shipway::install(cloud).await?;
    step.done("Shipway is deployed with `sam deploy`");

    let demo = Demo { shipway, place: Place::dev("hello")?, screen };
    demo.show().await?;
    demo.table().await?;
    demo.how_to_look_further(keep).await?;
    if keep {
        // Until Ctrl-C, which `main` waits for.
        std::future::pending::<()>().await;
    }
    demo.shipway.cloud.stop().await;
    Ok(())
}

struct Demo {
    shipway: Shipway,
    place: Place,
    screen: Screen,
}

impl Demo {
    async fn show(&self) -> Result<()> {
        let service: Component = "service/api".parse()?;
        let website: Component = "site/web".parse()?;

        let manifest = include_str!("../../../examples/hello/shipway.yaml");
        let artifact = self.shipway.upload_manifest(&self.place, manifest).await?;
        self.follow(
            "the platform, by apps/hello/dev/shipway.yaml",
            &Component::Platform,
            &artifact,
            Outcome::Succeeded,
        )
        .await?;

        let pushed = Instant::now();
        let first = self.shipway.push("hello-api", "v1", &hello::image("1").await?).await?;
        self.follow("hello-api:v1 was pushed", &service, &first, Outcome::Succeeded).await?;
        let push_to_serving = pushed.elapsed();
        self.service_says("1").await?;

        let uploaded = Instant::now();
        let zip = self.shipway.upload_zip(&self.place, "web", "one", site::hello("1", SITE_FILES)?).await?;
        self.follow("sites/hello/dev/web/one.zip was uploaded", &website, &zip, Outcome::Succeeded).await?;
        let upload_to_live = uploaded.elapsed();
        self.page_says("/", "Version 1.").await?;
        self.page_says("/about", "Version 1.").await?;

        let zip = self.shipway.upload_zip(&self.place, "web", "two", site::hello("2", SITE_FILES)?).await?;
        self.follow("sites/hello/dev/web/two.zip was uploaded", &website, &zip, Outcome::Succeeded).await?;
        self.page_says("/about", "Version 2.").await?;

        let second = self.shipway.push("hello-api", "v2", &hello::image("2").await?).await?;
        self.follow("hello-api:v2 was pushed", &service, &second, Outcome::Succeeded).await?;
        self.service_says("2").await?;

        let arn = self.shipway.start(&self.place, &service, &first).await?;
        self.follow_execution(
            "back to v1: a new execution of `rollout` with the first one's input",
            &arn,
            Outcome::Succeeded,
        )
        .await?;
        self.service_says("1").await?;

        println!();
        println!(
            "push → serving                     {:>6.1} s   (measure: at most 20 s)",
            push_to_serving.as_secs_f64()
        );
        println!(
            "upload of {SITE_FILES} files → live          {:>6.1} s   (measure: at most 5 s)",
            upload_to_live.as_secs_f64()
        );
        println!(
            "the demo, from the cloud's start   {:>6.1} s   (measure: at most 120 s, warm)",
            self.screen.started.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// Follows the release that an event started.
    async fn follow(&self, what: &str, component: &Component, artifact: &Artifact, outcome: Outcome) -> Result<()> {
        let waiting = Instant::now();
        let execution = loop {
            let state = self.shipway.store.component(&self.place.app, &self.place.environment, component).await?;
            if let Some(desired) = state.desired.filter(|desired| desired.artifact == *artifact) {
                break desired.execution;
            }
            if waiting.elapsed() > PATIENCE {
                bail!(
                    "{what}, but no release of it began\n--- the cloud's log ends with\n{}",
                    self.shipway.cloud.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let machine = self.shipway.machine(component)?;
        self.follow_execution(
            what,
            &format!("{}:{execution}", machine.replace(":stateMachine:", ":execution:")),
            outcome,
        )
        .await
    }

    async fn follow_execution(&self, what: &str, arn: &str, outcome: Outcome) -> Result<()> {
        let step = self.screen.step(what);
        let name = arn.rsplit(':').next().unwrap_or(arn);
        let mut shown = 0;
        let release: ReleaseRecord = loop {
            // An execution that was only just asked for may not be there yet.
            let states = follow::states(self.shipway.sfn(), arn).await.unwrap_or_default();
            for state in states.iter().skip(shown) {
                step.passes(state);
            }
            shown = states.len();
            let releases = self.shipway.store.releases(&self.place.app, &self.place.environment).await?;
            let ended = releases.into_iter().find(|release| release.execution == name && release.outcome.is_some());
            match ended {
                Some(release) => break release,
                // An execution that failed before it had a release says why itself.
                None if step.started.elapsed() > PATIENCE || states.last().is_some_and(|state| state == "Failed") => {
                    bail!("{what}: {}", self.shipway.execution_story(arn).await?)
                }
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let reason = release.reason.clone().unwrap_or_default();
        let word = release.outcome.map_or("", Outcome::word);
        step.done(&format!("{what}: {word}, {reason}"));
        ensure!(release.outcome == Some(outcome), "{outcome} was expected\n{}", self.shipway.story(&self.place).await?);
        Ok(())
    }

    async fn service_says(&self, version: &str) -> Result<()> {
        let balancer = self.shipway.platform(&self.place).await?.load_balancer.context("no load balancer")?;
        let answer = self.shipway.version_served(&self.place, version, PATIENCE).await?;
        println!("    GET http://{balancer}/greet → {} {}", answer.status.as_u16(), answer.text().trim());
        Ok(())
    }

    async fn page_says(&self, path: &str, text: &str) -> Result<()> {
        let site = self.shipway.platform(&self.place).await?.sites.into_values().next().context("no site")?;
        let answer = self.shipway.cloud.http_through_cloudfront(&site.domain, path).await?;
        let title = answer
            .text()
            .split("<h1>")
            .nth(1)
            .and_then(|rest| rest.split("</p>").next())
            .unwrap_or_default()
            .replace("</h1><p>", ": ");
        println!("    GET https://{}{path} → {} {title}", site.domain, answer.status.as_u16());
        ensure!(answer.status == 200 && answer.text().contains(text), "{text} was expected, not {}", answer.text());
        Ok(())
    }

    async fn table(&self) -> Result<()> {
        println!("\n{:<26}{:<13}{:<42}{:<12}{:>8}", "release", "component", "artifact", "outcome", "seconds");
        for release in self.shipway.store.releases(&self.place.app, &self.place.environment).await? {
            let seconds = release.ended_at.map_or(0.0, |end| end.duration_since(release.started_at).as_secs_f64());
            println!(
                "{:<26}{:<13}{:<42}{:<12}{seconds:>8.1}",
                release.release.to_string(),
                release.component.to_string(),
                release.artifact.to_string(),
                release.outcome.map_or("", Outcome::word),
            );
        }
        Ok(())
    }

    async fn how_to_look_further(&self, keep: bool) -> Result<()> {
        if !keep {
            println!("\nTo look around in it yourself: cargo xtask demo --keep");
            return Ok(());
        }
        let platform = self.shipway.platform(&self.place).await?;
        let cloud = &self.shipway.cloud;
        let endpoint = cloud.endpoint();
        let aws = tools()?.join("bin/aws");
        let aws = aws.display();
        let (key, secret) = cloud.credentials();
        println!("\nThe cloud runs at {endpoint} until Ctrl-C. To try, in another terminal:\n");
        println!(
            "  export AWS_ENDPOINT_URL={endpoint} AWS_DEFAULT_REGION={} AWS_ACCESS_KEY_ID={key} AWS_SECRET_ACCESS_KEY={secret}",
            cloud.region()
        );
        if let Some(balancer) = &platform.load_balancer {
            println!("  curl -H 'Host: {balancer}' {endpoint}/greet");
        }
        for site in platform.sites.values() {
            println!("  curl -H 'Host: {}' -H 'X-Forwarded-Proto: https' {endpoint}/about", site.domain);
        }
        let rollout = self.shipway.machine(&"service/api".parse()?)?;
        println!("  {aws} stepfunctions list-executions --state-machine-arn {rollout}");
        println!("  {aws} stepfunctions get-execution-history --execution-arn <one of them>");
        println!(
            "  {aws} s3 cp examples/hello/shipway.yaml s3://{}/apps/hello/prod/shipway.yaml",
            self.shipway.output("IntakeBucket")?
        );
        println!("  {aws} dynamodb scan --table-name {}", self.shipway.output("Table")?);
        println!("  {aws} ecs describe-services --cluster hello-dev --services hello-dev-api");
        println!("  less {}", cloud.log().display());
        Ok(())
    }
}

/// A terminal gets a line that moves, anything else a line for each state.
struct Screen {
    live: bool,
    started: Instant,
}

struct Shown {
    started: Instant,
    bar: Option<ProgressBar>,
    what: String,
    states: std::sync::Mutex<Vec<String>>,
}

impl Screen {
    fn step(&self, what: &str) -> Shown {
        let bar = self.live.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar.set_message(what.to_owned());
            bar
        });
        if bar.is_none() {
            println!("  … {what}");
        }
        Shown { started: Instant::now(), bar, what: what.to_owned(), states: std::sync::Mutex::default() }
    }
}

impl Shown {
    /// The execution entered a state. Loops are told once for each round only as a count.
    fn passes(&self, state: &str) {
        let Ok(mut states) = self.states.lock() else { return };
        if states.iter().any(|known| known == state) {
            return;
        }
        states.push(state.to_owned());
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}: {}", self.what, states.join(" → "))),
            None => println!("      {:>6.1} s  {state}", self.started.elapsed().as_secs_f64()),
        }
    }

    fn done(self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            if let Ok(states) = self.states.lock()
                && !states.is_empty()
            {
                println!("    {}", states.join(" → "));
            }
        }
        println!("  ✓ {what} ({:.1} s)", self.started.elapsed().as_secs_f64());
    }
}
