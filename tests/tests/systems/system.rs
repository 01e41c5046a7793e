//! One system under test: its example's manifest applied, and what AWS shows of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use local_cloud::{
    Config, Containers, LocalCloud,
    faults::{Call, Fault, Faults, Rule},
};
use serde_json::{Value, json};
use shipway_aws::store::EnvironmentRecord;
use shipway_domain::{
    name::Component,
    platform::SiteOutputs,
    release::{Artifact, Outcome, ReleaseRecord},
};
use shipway_tests::{
    Place, Shipway,
    ask::Aws,
    example::{Example, serving},
    is_write, rights, secrets, tools,
};
use tokio::runtime::Runtime;

use crate::inventory::{self, Parts};

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

/// Applies an example for one of its environments and shows it to the test. Where `SHIPWAY_CRASH_SEED` is set, calls of functions
/// break off by that lot.
pub fn with(example: &str, environment: &str, test: impl AsyncFnOnce(System) -> Result<()>) {
    let seed = std::env::var("SHIPWAY_CRASH_SEED").ok().map(|seed| seed.parse().unwrap());
    with_breaks(example, environment, seed, test);
}

/// The same, with calls that break off by this lot, if there is one: AWS refuses them, the connection breaks or the function dies,
/// before AWS acted or after it.
pub fn with_breaks(example: &str, environment: &str, seed: Option<u64>, test: impl AsyncFnOnce(System) -> Result<()>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // What broke off may be denied when it is tried again, as what it was about is gone with its tags: in a cloud of its own.
    let (shipway, aws) = match seed {
        None => INSTALLED.get_or_init(installed),
        Some(_) => Box::leak(Box::new(installed())),
    };
    let run = async {
        let Example { place, manifest, .. } = Example::prepare(example, environment, shipway, aws).await?;
        let manifest = secrets::with_a_setting(&manifest);
        let before = inventory::of(aws)?;
        if let Some(seed) = seed {
            break_by_lot(shipway.cloud.faults(), seed);
        }
        let release = apply(shipway, &place, &manifest).await?;
        ensure!(release.outcome == Some(Outcome::Succeeded), "{}", shipway.story(&place).await?);
        let record = shipway.store.environment(&place.app, &place.environment).await?.context("no record")?;
        test(System { shipway, aws, place, manifest, record, before }).await
    };
    let ended = RUNTIME.block_on(run);
    let faults = shipway.cloud.faults();
    faults.clear();
    if let Some(seed) = seed {
        // Shown where the test fails.
        eprintln!("{example} in {environment}, with SHIPWAY_CRASH_SEED={seed}: {}", broken(&faults.calls()));
    }
    faults.forget_calls();
    let held = if seed.is_none() { RUNTIME.block_on(rights::hold(&shipway.cloud)) } else { Ok(()) };
    if let Err(error) = ended.and(held) {
        panic!("{error:?}");
    }
}

fn installed() -> (Shipway, Aws) {
    let installed = RUNTIME.block_on(async {
        let containers = std::env::var("SHIPWAY_DOCKER_HOST").map_or(Containers::Processes, Containers::Docker);
        let config = Config { containers, wait_scale: 0.1, ..Config::new(tools()?) };
        let shipway = Shipway::install(LocalCloud::start(config).await?).await?;
        let aws = Aws::of(&shipway.cloud)?;
        secrets::listen(&shipway, &aws)?;
        anyhow::Ok((shipway, aws))
    });
    installed.unwrap()
}

/// One call in seventeen breaks off. Few of them kill: no client tries such a call again, and a machine does so three times, while
/// one pass may make sixty calls.
fn break_by_lot(faults: &Faults, seed: u64) {
    for (nth, fault) in (0..).zip(Fault::BREAKS) {
        let calls = if matches!(fault, Fault::KillBefore | Fault::KillAfter) { 400 } else { 75 };
        faults.add(Rule::new(fault).caller("").one_in(calls, seed + nth));
    }
}

/// How many calls functions made, and how many of them broke off in which way.
fn broken(calls: &[Call]) -> String {
    let made = calls.iter().filter(|call| call.caller.is_some()).count();
    let mut ways: BTreeMap<String, usize> = BTreeMap::new();
    for fault in calls.iter().filter_map(|call| call.fault) {
        *ways.entry(format!("{fault:?}")).or_default() += 1;
    }
    let ways: Vec<_> = ways.iter().map(|(way, count)| format!("{way} {count}")).collect();
    format!("of {made} calls {}", ways.join(", "))
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

    /// Pushes an image that serves on a port, and waits until its release has succeeded: it runs by its digest.
    pub async fn roll_out(&self, service: &str, repository: &str, port: u16) -> Result<ReleaseRecord> {
        self.roll_out_as("1", service, repository, port).await
    }

    /// The same, of an image that no other test of this system pushes: the releases of an environment outlive it.
    pub async fn roll_out_as(
        &self,
        version: &str,
        service: &str,
        repository: &str,
        port: u16,
    ) -> Result<ReleaseRecord> {
        let artifact = self.shipway.push(repository, "sha-1", &serving(Some(port), version).await?).await?;
        let component = format!("service/{service}").parse()?;
        let release = self.shipway.ended(&self.place, &component, &artifact, PATIENCE).await?;
        ensure!(release.outcome == Some(Outcome::Succeeded), "{}", self.shipway.story(&self.place).await?);
        let Artifact::Image { digest, .. } = &artifact else { bail!("{artifact} is no image") };
        let definition = self.task_definition(service)?;
        let image = definition["containerDefinitions"][0]["image"].as_str().context("no image")?;
        ensure!(image.ends_with(&format!("@{digest}")), "{image} is not {digest}");
        Ok(release)
    }

    /// Publishes a zip to the site and waits until it is live.
    pub async fn publish(&self, name: &str, zip: Vec<u8>) -> Result<()> {
        let artifact = self.shipway.upload_zip(&self.place, "web", name, zip).await?;
        let release = self.shipway.ended(&self.place, &"site/web".parse()?, &artifact, PATIENCE).await?;
        ensure!(release.outcome.is_some_and(Outcome::is_live), "{}", self.shipway.story(&self.place).await?);
        Ok(())
    }

    /// What a visitor of the site is answered.
    pub async fn visit(&self, path: &str) -> Result<(u16, String)> {
        let answer = self.shipway.cloud.http_through_cloudfront(&self.site()?.domain, path).await?;
        Ok((answer.status.as_u16(), answer.text()))
    }

    /// An error of the API behind the site reaches the visitor as the API said it.
    pub async fn errors_of_the_api_stay(&self) -> Result<()> {
        for status in [404, 500] {
            let path = format!("/api/status/{status}");
            let (answered, text) = self.visit(&path).await?;
            assert_eq!(answered, status, "{path}: {text}");
            assert!(text.contains(&format!("\"path\":\"{path}\"")), "{path}: {text}");
        }
        Ok(())
    }

    /// The site of the environment.
    pub fn site(&self) -> Result<&SiteOutputs> {
        self.record.platform.sites.values().next().context("no site")
    }

    /// How the site is served.
    pub fn distribution(&self) -> Result<Value> {
        let mut answer = self.ask("cloudfront", "get_distribution", json!({"Id": self.site()?.distribution}))?;
        Ok(answer["Distribution"]["DistributionConfig"].take())
    }

    /// The bucket of the site is read by its distribution alone, through an origin access control; these paths go to the load
    /// balancer.
    pub fn site_stands(&self, backend: &[&str]) -> Result<()> {
        let site = self.site()?;
        let block = self.ask("s3", "get_public_access_block", json!({"Bucket": site.bucket}))?;
        assert_eq!(block["PublicAccessBlockConfiguration"]["RestrictPublicBuckets"], true);
        let policy = self.ask("s3", "get_bucket_policy", json!({"Bucket": site.bucket}))?;
        let policy: Value = serde_json::from_str(policy["Policy"].as_str().unwrap())?;
        let readers = policy["Statement"].as_array().unwrap().iter().filter(|one| one["Effect"] == "Allow");
        for reader in readers {
            assert_eq!(reader["Principal"]["Service"], "cloudfront.amazonaws.com", "{reader}");
            let source = reader["Condition"]["StringEquals"]["AWS:SourceArn"].as_str().unwrap();
            assert!(source.ends_with(&format!(":distribution/{}", site.distribution)), "{source}");
        }
        let config = self.distribution()?;
        let origins = config["Origins"]["Items"].as_array().unwrap();
        let bucket = origins.iter().find(|origin| origin["Id"] == "bucket").unwrap();
        assert!(bucket["DomainName"].as_str().unwrap().starts_with(&site.bucket), "{bucket}");
        assert!(!bucket["OriginAccessControlId"].as_str().unwrap().is_empty(), "{bucket}");
        let behaviors = config["CacheBehaviors"]["Items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let to_backend: Vec<_> = behaviors.iter().filter(|one| one["TargetOriginId"] == "backend").cloned().collect();
        assert_eq!(texts(&to_backend, "PathPattern"), backend);
        Ok(())
    }

    /// What a role's own policies say.
    pub fn rights_of(&self, role: &str) -> Result<String> {
        let role = role.rsplit('/').next().unwrap_or(role);
        let policies = self.list("iam", "list_role_policies", json!({"RoleName": role}), "PolicyNames")?;
        let mut text = String::new();
        for name in policies {
            let policy = self.ask("iam", "get_role_policy", json!({"RoleName": role, "PolicyName": name}))?;
            text.push_str(&policy["PolicyDocument"].to_string());
        }
        Ok(text)
    }

    /// What the instances of the cluster are made of.
    pub fn launch_template(&self) -> Result<Value> {
        let templates = self.ec2("describe_launch_templates", "LaunchTemplates")?;
        assert_eq!(templates.len(), 1, "{templates:#?}");
        let arguments = json!({"LaunchTemplateId": templates[0]["LaunchTemplateId"]});
        let mut versions =
            self.list("ec2", "describe_launch_template_versions", arguments, "LaunchTemplateVersions")?;
        Ok(versions.pop().context("no version")?["LaunchTemplateData"].take())
    }

    /// The least and the most tasks that a service scales to.
    pub fn bounds(&self, service: &str) -> Result<(Value, Value)> {
        let resource = format!("service/{}/{}-{service}", self.name(), self.name());
        let arguments = json!({"ServiceNamespace": "ecs", "ResourceIds": [resource]});
        let targets =
            self.list("application-autoscaling", "describe_scalable_targets", arguments, "ScalableTargets")?;
        assert_eq!(targets.len(), 1, "{targets:#?}");
        Ok((targets[0]["MinCapacity"].clone(), targets[0]["MaxCapacity"].clone()))
    }

    /// A repository scans what is pushed and keeps so many images with a tag.
    pub fn repository_keeps(&self, name: &str, images: u64) -> Result<Vec<Value>> {
        let found = self.list("ecr", "describe_repositories", json!({"repositoryNames": [name]}), "repositories")?;
        assert_eq!(found[0]["imageScanningConfiguration"]["scanOnPush"], true, "{name}");
        let policy = self.ask("ecr", "get_lifecycle_policy", json!({"repositoryName": name}))?;
        let policy: Value = serde_json::from_str(policy["lifecyclePolicyText"].as_str().unwrap())?;
        let rules = policy["rules"].as_array().unwrap().iter();
        let selections: Vec<Value> = rules.map(|rule| rule["selection"].clone()).collect();
        let keeps = |one: &Value| one["tagPatternList"] == json!(["*"]) && one["countNumber"] == images;
        assert!(selections.iter().any(keeps), "{name}: {selections:#?}");
        Ok(selections)
    }

    /// Container Insights watches the cluster.
    pub fn insights(&self) -> Result<()> {
        let clusters = json!({"clusters": [self.name()], "include": ["SETTINGS"]});
        let cluster = &self.list("ecs", "describe_clusters", clusters, "clusters")?[0];
        assert_eq!(cluster["settings"][0], json!({"name": "containerInsights", "value": "enabled"}));
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

    /// What came with the environment is this much of each listing, and nothing else.
    pub fn consists_of(&self, parts: &Parts) -> Result<()> {
        let now = inventory::of(self.aws)?;
        let came: Vec<_> = now.difference(&self.before).collect();
        assert_eq!(inventory::counted(came.iter().copied()), inventory::expected(parts), "{came:#?}");
        Ok(())
    }

    /// Whether something was there before the environment: what a person gives to it.
    pub fn was_given(&self, item: &str) -> bool {
        self.before.contains(item)
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
