//! Shipway installed in a local cloud: what the end-to-end tests and the demo share.
//!
//! [`Shipway::install`] does what a team does in its account: `sam deploy`. Everything after goes the way a user goes: an
//! object into the intake bucket, an image into a repository, an execution started in Step Functions.

#![allow(
    clippy::disallowed_methods,
    reason = "waiting for a release is what tests and the demo do; no function contains it"
)]

pub mod ask;
pub mod ear;
pub mod example;
pub mod follow;
pub mod rights;
pub mod secrets;
pub mod site;
pub mod template;
pub mod visitor;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use local_cloud::{LocalCloud, data_plane::Answer, image::Image};
use shipway_aws::Store;
use shipway_domain::{
    message::ReleaseInput,
    name::{AppName, Component, EnvironmentName},
    platform::PlatformOutputs,
    release::{Artifact, ReleaseRecord},
};

/// The environment variable with the directory of the tools that `cargo xtask` sets up.
pub const TOOLS: &str = "SHIPWAY_TOOLS";

/// The checkout: where cargo runs this from, which need not be where it was built when checkouts share what they build.
pub fn checkout() -> PathBuf {
    let built_in = env!("CARGO_MANIFEST_DIR").into();
    let manifest: PathBuf = std::env::var_os("CARGO_MANIFEST_DIR").map_or(built_in, PathBuf::from);
    manifest.parent().unwrap_or(&manifest).to_owned()
}

/// The virtual environment with MiniStack and `sam`.
pub fn tools() -> Result<PathBuf> {
    std::env::var_os(TOOLS)
        .map(PathBuf::from)
        .with_context(|| format!("{TOOLS} is not set: run `cargo xtask test` or `cargo xtask demo`"))
}

/// Whether a function changed something with this call that is not Shipway's own state, and no notice of it.
pub fn is_write(call: &local_cloud::faults::Call) -> bool {
    const OWN: [&str; 7] = ["dynamodb", "states", "lambda", "logs", "sts", "events", "sns"];
    const READS: [&str; 6] = ["Describe", "Get", "List", "Head", "BatchGet", "Simulate"];
    call.caller.is_some()
        && !OWN.contains(&call.operation.service.as_str())
        && !READS.iter().any(|read| call.operation.name.starts_with(read))
}

/// Shipway, installed.
pub struct Shipway {
    /// The cloud it is in.
    pub cloud: LocalCloud,
    /// Its table.
    pub store: Store,
    s3: aws_sdk_s3::Client,
    sfn: aws_sdk_sfn::Client,
    ecs: aws_sdk_ecs::Client,
    outputs: HashMap<String, String>,
}

/// An environment of an app: what most calls are about.
#[derive(Clone, Debug)]
pub struct Place {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
}

impl Place {
    /// The environment `dev` of an app.
    pub fn dev(app: &str) -> Result<Place> {
        Ok(Place { app: app.parse()?, environment: "dev".parse()? })
    }
}

/// `sam deploy` in a directory, with what the local cloud needs beside samconfig.toml.
async fn deploy(cloud: &LocalCloud, directory: &Path) -> Result<()> {
    let mut sam = tokio::process::Command::new(tools()?.join("bin/sam"));
    cloud.use_in(sam.as_std_mut());
    let output = sam
        .args([
            "deploy",
            "--no-progressbar",
            "--parameter-overrides",
            &format!("RegistryMirror={}", cloud.registry()),
            &format!("LoadBalancerMirror={}", cloud.load_balancers()),
            "S3PathStyle=true",
            "AccountInHost=false",
        ])
        // The rest is in samconfig.toml, as for everybody else.
        .env("SAM_CLI_TELEMETRY", "0")
        .current_dir(directory)
        .output()
        .await
        .context("starting `sam deploy`")?;
    if !output.status.success() {
        let log = cloud.log_tail();
        bail!(
            "`sam deploy` failed\n{}{}\n--- the cloud's log ends with\n{log}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

impl Shipway {
    /// Deploys Shipway into the cloud with `sam deploy`, as its README says.
    pub async fn install(cloud: LocalCloud) -> Result<Shipway> {
        let config = cloud.sdk_config();
        let s3 =
            aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build());
        deploy(&cloud, &checkout()).await?;
        let stacks =
            aws_sdk_cloudformation::Client::new(&config).describe_stacks().stack_name("shipway").send().await?;
        let outputs = stacks
            .stacks()
            .iter()
            .flat_map(|stack| stack.outputs())
            .filter_map(|output| Some((output.output_key()?.to_owned(), output.output_value()?.to_owned())));
        let outputs: HashMap<_, _> = outputs.collect();
        let table = outputs.get("Table").context("the stack has no output Table")?.clone();
        Ok(Shipway {
            store: Store::new(&config, table),
            s3,
            sfn: aws_sdk_sfn::Client::new(&config),
            ecs: aws_sdk_ecs::Client::new(&config),
            outputs,
            cloud,
        })
    }

    /// Deploys what is in another directory, laid out as the checkout is, over what is installed.
    pub async fn upgrade(&self, directory: &Path) -> Result<()> {
        deploy(&self.cloud, directory).await
    }

    /// An output of Shipway's stack.
    pub fn output(&self, name: &str) -> Result<&str> {
        self.outputs.get(name).map(String::as_str).with_context(|| format!("the stack has no output {name}"))
    }

    /// The machine that releases this component, by its ARN.
    pub fn machine(&self, component: &Component) -> Result<&str> {
        self.output(match component {
            Component::Platform => "ProvisionMachine",
            Component::Service(_) => "RolloutMachine",
            Component::Site(_) | Component::Preview(..) => "PublishMachine",
        })
    }

    /// Puts an object into the intake bucket.
    pub async fn upload(&self, key: &str, content: Vec<u8>) -> Result<Artifact> {
        let bucket = self.output("IntakeBucket")?;
        let put = self.s3.put_object().bucket(bucket).key(key).body(content.into()).send().await;
        let put = put.with_context(|| format!("uploading {key}"))?;
        let version = put.version_id().context("the intake bucket keeps no versions")?.to_owned();
        Ok(Artifact::Object { key: key.to_owned(), version })
    }

    /// Uploads a manifest.
    pub async fn upload_manifest(&self, place: &Place, text: &str) -> Result<Artifact> {
        self.upload(&format!("apps/{}/{}/shipway.yaml", place.app, place.environment), text.into()).await
    }

    /// Uploads a site's zip.
    pub async fn upload_zip(&self, place: &Place, site: &str, name: &str, zip: Vec<u8>) -> Result<Artifact> {
        self.upload(&format!("sites/{}/{}/{site}/{name}.zip", place.app, place.environment), zip).await
    }

    /// Pushes an image.
    pub async fn push(&self, repository: &str, tag: &str, image: &Image) -> Result<Artifact> {
        let digest = self.cloud.push_image(repository, tag, image).await?;
        Ok(Artifact::Image { repository: repository.parse()?, digest: digest.parse()? })
    }

    /// Starts an execution as a person does in the console: this artifact should be live. Answers its ARN.
    pub async fn start(&self, place: &Place, component: &Component, artifact: &Artifact) -> Result<String> {
        let input = ReleaseInput {
            app: place.app.clone(),
            environment: place.environment.clone(),
            component: component.clone(),
            artifact: artifact.clone(),
            repair: false,
        };
        self.start_with(self.machine(component)?, &serde_json::to_string(&input)?).await
    }

    /// Starts an execution with any input. Answers its ARN.
    pub async fn start_with(&self, machine: &str, input: &str) -> Result<String> {
        let started = self.sfn.start_execution().state_machine_arn(machine).input(input).send().await;
        Ok(started.context("starting an execution")?.execution_arn().to_owned())
    }

    /// The releases of this component and artifact, the oldest first.
    pub async fn releases_of(
        &self,
        place: &Place,
        component: &Component,
        artifact: &Artifact,
    ) -> Result<Vec<ReleaseRecord>> {
        let all = self.store.releases(&place.app, &place.environment).await?;
        Ok(all.into_iter().filter(|release| release.component == *component && release.artifact == *artifact).collect())
    }

    /// Waits until the newest release of this component and artifact has ended.
    pub async fn ended(
        &self,
        place: &Place,
        component: &Component,
        artifact: &Artifact,
        within: Duration,
    ) -> Result<ReleaseRecord> {
        let started = Instant::now();
        loop {
            let newest = self.releases_of(place, component, artifact).await?.pop();
            if let Some(release) = newest.filter(|release| release.outcome.is_some()) {
                return Ok(release);
            }
            if started.elapsed() > within {
                bail!(
                    "{component} of {}/{}: no release of {artifact} ended within {within:?}\n{}\n--- the cloud's log ends with\n{}",
                    place.app,
                    place.environment,
                    self.story(place).await?,
                    self.cloud.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until an execution has ended; answers its release.
    pub async fn ended_execution(&self, place: &Place, arn: &str, within: Duration) -> Result<ReleaseRecord> {
        let started = Instant::now();
        let name = arn.rsplit(':').next().unwrap_or(arn);
        loop {
            let all = self.store.releases(&place.app, &place.environment).await?;
            if let Some(release) =
                all.into_iter().find(|release| release.execution == name && release.outcome.is_some())
            {
                return Ok(release);
            }
            if started.elapsed() > within {
                bail!(
                    "{arn} did not end within {within:?}\n{}\n{}",
                    self.story(place).await?,
                    self.execution_story(arn).await?
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until no execution of this component runs. What follows the end of a release in its machine has then happened too.
    pub async fn idle(&self, place: &Place, component: &Component, within: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            let releases = self.store.releases(&place.app, &place.environment).await?;
            let machine = self.machine(component)?.replace(":stateMachine:", ":execution:");
            let mut running = Vec::new();
            for release in releases.iter().filter(|release| release.component == *component) {
                let arn = format!("{machine}:{}", release.execution);
                let execution = self.sfn.describe_execution().execution_arn(&arn).send().await?;
                if *execution.status() == aws_sdk_sfn::types::ExecutionStatus::Running {
                    running.push(arn);
                }
            }
            if running.is_empty() {
                return Ok(());
            }
            if started.elapsed() > within {
                bail!("{running:?} still run after {within:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the load balancer's every answer is this version's. A rollout ends when the new tasks serve; the old ones
    /// answer too until they are drained.
    pub async fn version_served(&self, place: &Place, version: &str, within: Duration) -> Result<Answer> {
        let balancer = self.platform(place).await?.load_balancer.context("no load balancer")?;
        let expected = format!("\"version\":\"{version}\"");
        let started = Instant::now();
        let mut in_a_row = 0;
        loop {
            let answer = self.cloud.http_through_load_balancer(&balancer, "/greet").await?;
            if answer.status != 200 {
                bail!("the load balancer answered {}: {}", answer.status, answer.text());
            }
            in_a_row = if answer.text().contains(&expected) { in_a_row + 1 } else { 0 };
            if in_a_row == 5 {
                return Ok(answer);
            }
            if started.elapsed() > within {
                bail!("version {version} was expected, not {}", answer.text());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What stands.
    pub async fn platform(&self, place: &Place) -> Result<PlatformOutputs> {
        let record = self.store.environment(&place.app, &place.environment).await?;
        Ok(record.context("nothing is known of this environment")?.platform)
    }

    /// Every release of the environment with its steps: what a failing test shows.
    pub async fn story(&self, place: &Place) -> Result<String> {
        let mut text = String::new();
        for release in self.store.releases(&place.app, &place.environment).await? {
            let outcome = release.outcome.map_or("under way", |outcome| outcome.word());
            text.push_str(&format!(
                "{} {} {}: {outcome}: {}\n",
                release.release,
                release.component,
                release.artifact,
                release.reason.unwrap_or_default()
            ));
            for step in release.steps {
                text.push_str(&format!("    {} {}: {}\n", step.at, step.by, step.what));
            }
        }
        Ok(text)
    }

    /// The names of the states an execution entered, in order, and how it ended.
    pub async fn execution_story(&self, arn: &str) -> Result<String> {
        let states = follow::states(&self.sfn, arn).await?;
        let described = self.sfn.describe_execution().execution_arn(arn).send().await?;
        Ok(format!(
            "{}: {:?} {} {}\n",
            states.join(" → "),
            described.status(),
            described.error().unwrap_or_default(),
            described.cause().unwrap_or_default()
        ))
    }

    /// The Step Functions client.
    pub fn sfn(&self) -> &aws_sdk_sfn::Client {
        &self.sfn
    }

    /// The ECS client.
    pub fn ecs(&self) -> &aws_sdk_ecs::Client {
        &self.ecs
    }

    /// The S3 client.
    pub fn s3(&self) -> &aws_sdk_s3::Client {
        &self.s3
    }
}
