//! One system under test: its example's manifest applied, and what AWS shows of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use local_cloud::{Config, Containers, LocalCloud};
use serde_json::{Value, json};
use shipway_aws::store::EnvironmentRecord;
use shipway_domain::{
    name::Component,
    release::{Outcome, ReleaseRecord},
};
use shipway_tests::{
    Place, Shipway,
    ask::Aws,
    example::{Example, serving},
    is_write, tools,
};
use tokio::runtime::Runtime;

use crate::inventory;

/// Longer than any of them takes to be provisioned or torn down here.
pub const PATIENCE: Duration = Duration::from_secs(300);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static INSTALLED: OnceLock<(Shipway, Aws)> = OnceLock::new();
/// One system at a time: what is written and what is left behind is looked for in the whole account.
static ALONE: Mutex<()> = Mutex::new(());

/// A system whose manifest is applied.
pub struct System {
    pub shipway: &'static Shipway,
    pub aws: &'static Aws,
    pub place: Place,
    pub manifest: String,
    pub record: EnvironmentRecord,
    before: BTreeSet<String>,
}

/// Applies an example for one of its environments and shows it to the test.
pub fn with(example: &str, environment: &str, test: impl AsyncFnOnce(System) -> Result<()>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (shipway, aws) = INSTALLED.get_or_init(|| {
        let installed = RUNTIME.block_on(async {
            let containers = std::env::var("SHIPWAY_DOCKER_HOST").map_or(Containers::Processes, Containers::Docker);
            let config = Config { containers, wait_scale: 0.1, ..Config::new(tools()?) };
            let shipway = Shipway::install(LocalCloud::start(config).await?).await?;
            let aws = Aws::of(&shipway.cloud)?;
            anyhow::Ok((shipway, aws))
        });
        installed.unwrap()
    });
    let run = async {
        let Example { place, manifest, .. } = Example::prepare(example, environment, shipway, aws).await?;
        let before = inventory::of(aws)?;
        let release = apply(shipway, &place, &manifest).await?;
        ensure!(release.outcome == Some(Outcome::Succeeded), "{}", shipway.story(&place).await?);
        let record = shipway.store.environment(&place.app, &place.environment).await?.context("no record")?;
        test(System { shipway, aws, place, manifest, record, before }).await
    };
    if let Err(error) = RUNTIME.block_on(run) {
        panic!("{error:?}");
    }
}

async fn apply(shipway: &Shipway, place: &Place, manifest: &str) -> Result<ReleaseRecord> {
    let artifact = shipway.upload_manifest(place, manifest).await?;
    shipway.ended(place, &Component::Platform, &artifact, PATIENCE).await
}

impl System {
    /// What an operation answers.
    pub fn ask(&self, service: &str, operation: &str, arguments: Value) -> Result<Value> {
        self.aws.ask(service, operation, arguments)
    }

    /// The items under `key` of what an operation answers.
    pub fn list(&self, service: &str, operation: &str, arguments: Value, key: &str) -> Result<Vec<Value>> {
        self.aws.list(service, operation, arguments, key)
    }

    /// `<app>-<environment>`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.place.app, self.place.environment)
    }

    /// The filter by which EC2 shows what is ours.
    pub fn ours(&self) -> Value {
        json!([
            {"Name": "tag:shipway:app", "Values": [self.place.app.as_str()]},
            {"Name": "tag:shipway:environment", "Values": [self.place.environment.as_str()]},
        ])
    }

    /// What EC2 shows of ours.
    pub fn ec2(&self, operation: &str, key: &str) -> Result<Vec<Value>> {
        let filter = if operation == "describe_nat_gateways" { "Filter" } else { "Filters" };
        self.list("ec2", operation, json!({filter: self.ours()}), key)
    }

    /// The subnets of a tier, by the role in their tags.
    pub fn subnets(&self, tier: &str) -> Result<Vec<Value>> {
        let role = format!("{tier}-subnet-");
        Ok(self
            .ec2("describe_subnets", "Subnets")?
            .into_iter()
            .filter(|subnet| tag(subnet, "shipway:role").starts_with(&role))
            .collect())
    }

    /// A security group of ours, by its role.
    pub fn group(&self, role: &str) -> Result<Value> {
        let groups = self.ec2("describe_security_groups", "SecurityGroups")?;
        groups.into_iter().find(|group| tag(group, "shipway:role") == role).with_context(|| format!("no {role}"))
    }

    /// Pushes an image that serves on a port, and waits until its release has succeeded.
    pub async fn roll_out(&self, service: &str, repository: &str, port: u16) -> Result<()> {
        let artifact = self.shipway.push(repository, "sha-1", &serving(Some(port), "1").await?).await?;
        let component = format!("service/{service}").parse()?;
        let release = self.shipway.ended(&self.place, &component, &artifact, PATIENCE).await?;
        ensure!(release.outcome == Some(Outcome::Succeeded), "{}", self.shipway.story(&self.place).await?);
        Ok(())
    }

    /// A service of ECS.
    pub fn service(&self, service: &str) -> Result<Value> {
        let arguments = json!({"cluster": self.name(), "services": [format!("{}-{service}", self.name())]});
        let services = self.list("ecs", "describe_services", arguments, "services")?;
        services.into_iter().next().with_context(|| format!("no service {service}"))
    }

    /// What a service's tasks are made of.
    pub fn task_definition(&self, service: &str) -> Result<Value> {
        let revision = self.service(service)?["taskDefinition"].clone();
        let mut answer = self.ask("ecs", "describe_task_definition", json!({"taskDefinition": revision}))?;
        Ok(answer["taskDefinition"].take())
    }

    /// The load balancer of the environment.
    pub fn load_balancer(&self) -> Result<Value> {
        let all = self.list("elbv2", "describe_load_balancers", json!({}), "LoadBalancers")?;
        let dns = self.record.platform.load_balancer.clone().context("no load balancer")?;
        all.into_iter().find(|balancer| balancer["DNSName"] == dns.as_str()).context("no load balancer of this name")
    }

    /// The listeners of the load balancer, by their port.
    pub fn listener(&self, port: u16) -> Result<Value> {
        let balancer = self.load_balancer()?["LoadBalancerArn"].clone();
        let all = self.list("elbv2", "describe_listeners", json!({"LoadBalancerArn": balancer}), "Listeners")?;
        all.into_iter().find(|listener| listener["Port"] == port).with_context(|| format!("no listener {port}"))
    }

    /// The target group of a service.
    pub fn target_group(&self, service: &str) -> Result<Value> {
        let outputs = &self.record.platform.services[&service.parse()?];
        let arn = outputs.target_group.clone().context("no target group")?;
        let groups = self.list("elbv2", "describe_target_groups", json!({"TargetGroupArns": [arn]}), "TargetGroups")?;
        groups.into_iter().next().context("no such target group")
    }

    /// An attribute of a load balancer or a target group.
    pub fn attribute(&self, operation: &str, of: Value, key: &str) -> Result<String> {
        let attributes = self.list("elbv2", operation, of, "Attributes")?;
        let found = attributes.iter().find(|attribute| attribute["Key"] == key);
        Ok(found.and_then(|attribute| attribute["Value"].as_str()).unwrap_or_default().to_owned())
    }

    /// The alarms whose names begin with the environment's.
    pub fn alarms(&self) -> Result<Vec<Value>> {
        let prefix = json!({"AlarmNamePrefix": self.name()});
        Ok(self.ask("cloudwatch", "describe_alarms", prefix)?["MetricAlarms"].as_array().cloned().unwrap_or_default())
    }

    /// The target-tracking policies of a service, by the metric they follow.
    pub fn scaling(&self, service: &str) -> Result<Vec<Value>> {
        let resource = format!("service/{}/{}-{service}", self.name(), self.name());
        let arguments = json!({"ServiceNamespace": "ecs", "ResourceId": resource});
        self.list("application-autoscaling", "describe_scaling_policies", arguments, "ScalingPolicies")
    }

    /// Applies a manifest again.
    pub async fn apply(&self, manifest: &str) -> Result<ReleaseRecord> {
        apply(self.shipway, &self.place, manifest).await
    }

    /// Removes the environment; nothing may be left that was not there before it, but what is kept on purpose.
    pub async fn tears_down_to_nothing(&self) -> Result<()> {
        let Place { app, environment } = &self.place;
        let input = json!({"app": app, "environment": environment, "confirm": format!("{app}/{environment}")});
        let machine = self.shipway.output("TeardownMachine")?;
        let execution = self.shipway.start_with(machine, &input.to_string()).await?;
        let release = self.shipway.ended_execution(&self.place, &execution, PATIENCE).await?;
        ensure!(release.outcome == Some(Outcome::Succeeded), "{}", self.shipway.story(&self.place).await?);
        let after = inventory::of(self.aws)?;
        // A load balancer writes for minutes after it is gone; the log's bucket goes with its last objects.
        let kept = |left: &&String| left.starts_with("s3 list_buckets: shipway-logs-");
        let left: Vec<_> = after.difference(&self.before).filter(|left| !kept(left)).collect();
        ensure!(left.is_empty(), "left behind: {left:#?}\n{}", self.shipway.story(&self.place).await?);
        Ok(())
    }

    /// Applies the same manifest again; nothing may be written but to Shipway's own table and intake bucket.
    pub async fn second_apply_changes_nothing(&self) -> Result<()> {
        let writes = self.writes_of_applying(&format!("{}\n# the same\n", self.manifest)).await?;
        ensure!(writes.is_empty(), "the second apply wrote: {writes:#?}");
        Ok(())
    }

    /// What was written when this manifest was applied and the services' releases that follow have ended: `service:Operation` and how
    /// often.
    pub async fn writes_of_applying(&self, manifest: &str) -> Result<BTreeMap<String, usize>> {
        let before = self.shipway.cloud.faults().calls().len();
        let expected: Vec<_> =
            self.releases_of_services().await?.into_iter().map(|(of, ended)| (of, ended + 1)).collect();
        let release = self.apply(manifest).await?;
        ensure!(release.outcome.is_some_and(Outcome::is_live), "{}", self.shipway.story(&self.place).await?);
        let started = Instant::now();
        loop {
            let ended = self.releases_of_services().await?;
            if expected.iter().all(|(of, count)| ended[of] >= *count) {
                break;
            }
            ensure!(started.elapsed() < PATIENCE, "no release followed: {}", self.shipway.story(&self.place).await?);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut writes = BTreeMap::new();
        for call in self.shipway.cloud.faults().calls()[before..].iter().filter(|call| is_write(call)) {
            *writes.entry(format!("{}:{}", call.operation.service, call.operation.name)).or_default() += 1;
        }
        Ok(writes)
    }

    /// How many releases of each service have ended.
    async fn releases_of_services(&self) -> Result<BTreeMap<String, usize>> {
        let mut ended: BTreeMap<String, usize> = BTreeMap::new();
        for release in self.shipway.store.releases(&self.place.app, &self.place.environment).await? {
            if release.component != Component::Platform {
                *ended.entry(release.component.to_string()).or_default() += usize::from(release.outcome.is_some());
            }
        }
        Ok(ended)
    }
}

/// The value of a tag, or an empty text.
pub fn tag<'v>(of: &'v Value, key: &str) -> &'v str {
    let tags = of["Tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    tags.iter().find(|tag| tag["Key"] == key).and_then(|tag| tag["Value"].as_str()).unwrap_or_default()
}

/// The texts under a key of each.
pub fn texts<'v>(of: &'v [Value], key: &str) -> Vec<&'v str> {
    let mut texts: Vec<_> = of.iter().filter_map(|value| value[key].as_str()).collect();
    texts.sort_unstable();
    texts
}
