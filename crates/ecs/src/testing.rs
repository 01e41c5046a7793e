//! What the tests of both functions need: an ECS in memory and a platform to run on, and what ECS shows of what was registered.

#![allow(clippy::unwrap_used, reason = "only tests use it, and a test ends by a panic")]

use std::cell::RefCell;

use jiff::Timestamp;
use serde_json::Value;
use shipway_aws::{
    AwsError, Store,
    testing::{Line, Table, last_environment, provision},
};
use shipway_domain::{
    manifest::{self, DatabaseEngine, Nat},
    message::Run,
    name::{Component, ReleaseId},
    network::NetworkOutputs,
    platform::{Alternate, DatabaseOutputs, PlatformOutputs, ServiceOutputs},
    release::Artifact,
    task::{DescribedTaskDefinition, TaskDefinition, databases::references, tags},
};

/// The target group of `api`.
pub const TARGET_GROUP: &str = "arn:aws:elasticloadbalancing:r:1:targetgroup/api/943f";

/// The first release of each service of a manifest, in its last environment.
pub fn first_releases(manifest: &str) -> Vec<Run> {
    let (environment, spec) = last_environment(manifest);
    let first = |(name, service): (_, manifest::Service)| Run {
        artifact: match service.image.repository {
            Some(repository) => Artifact::Image { repository, digest: "sha256:a1".parse().unwrap() },
            None => Artifact::Public { image: service.image.public.unwrap() },
        },
        app: spec.app.clone(),
        environment: environment.clone(),
        release: ReleaseId::of_execution(&format!("{name} 1"), Timestamp::UNIX_EPOCH),
        component: Component::Service(name),
        fence: 1,
        repair: false,
    };
    spec.services.into_iter().map(first).collect()
}

/// Stands the platform of the last environment of this manifest.
pub async fn platform(store: &Store, manifest: &str) {
    let (environment, spec) = last_environment(manifest);
    let whole = format!("{}-{environment}", spec.app);
    let role = |name: &str| format!("arn:aws:iam::123456789012:role/{name}");
    let group = |name: &str| format!("arn:aws:elasticloadbalancing:r:1:targetgroup/{name}");
    let mut platform = PlatformOutputs {
        cluster: Some(whole.clone()),
        load_balancer: Some(format!("{whole}.elb")),
        capacity_provider: Some(whole.clone()),
        ..PlatformOutputs::default()
    };
    for (name, service) in &spec.services {
        for reference in references(service).map(ToString::to_string) {
            platform.secrets.insert(reference.clone(), format!("arn:of:{reference}"));
            platform.values.insert(reference.clone(), format!("<{reference}>"));
        }
        let repository = service.image.repository.as_ref();
        let own_log = service.migrate.as_ref().and_then(|migrate| migrate.log_group.as_ref());
        let outputs = ServiceOutputs {
            repository_uri: repository.map(|one| format!("123456789012.dkr.ecr.eu-west-1.amazonaws.com/{one}")),
            log_group: format!("/shipway/{whole}/{name}"),
            migration_log_group: own_log.map(|group| group.as_str().to_owned()),
            registry: service.discovery.then(|| format!("arn:aws:servicediscovery:r:1:service/srv-{name}")),
            execution_role: role("execution"),
            task_role: role("task"),
            target_group: service.http.as_ref().map(|_| group(&format!("{name}/943f"))),
            alternate: manifest.contains("strategy:").then(|| Alternate {
                target_group: group(&format!("{name}-2/a1c0")),
                rule: format!("arn:aws:elasticloadbalancing:r:1:listener-rule/app/{whole}/1/2/3"),
                test_rule: manifest
                    .contains("test_traffic")
                    .then(|| format!("arn:aws:elasticloadbalancing:r:1:listener-rule/app/{whole}/1/2/4")),
                role: role("infrastructure"),
            }),
        };
        platform.services.insert(name.clone(), outputs);
    }
    // Whether the manifest has them or not.
    for (name, engine) in [("main", DatabaseEngine::Postgres), ("other", DatabaseEngine::AuroraPostgres)] {
        let wanted = spec.databases.iter().find(|(one, _)| one.as_str() == name);
        let server = DatabaseOutputs {
            engine: wanted.map_or(engine, |(_, wanted)| wanted.engine),
            identifier: format!("{whole}-{name}"),
            host: format!("{name}.db.internal"),
            port: 5432,
            user: "app".to_owned(),
            password: format!("arn:of:the-password-of-{name}"),
            names: Vec::new(),
            export_bucket: None,
        };
        platform.databases.insert(name.parse().unwrap(), server);
    }
    let subnets = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    let network = NetworkOutputs {
        vpc: "vpc".to_owned(),
        cidr: "10.0.0.0/16".to_owned(),
        public_subnets: subnets(["subnet-1", "subnet-2"]),
        private_subnets: if spec.network.nat == Nat::None { Vec::new() } else { subnets(["subnet-3", "subnet-4"]) },
        load_balancer_group: "sg-1".to_owned(),
        service_group: "sg-2".to_owned(),
        ..Default::default()
    };
    provision(store, &environment, manifest, Some((&network, &platform))).await;
}

/// An ECS in memory, of which each test file says what it holds, and the table.
pub struct Fake<W> {
    /// What ECS holds.
    pub world: RefCell<W>,
    /// Where calls can be cut off.
    pub line: Line,
    /// The table.
    pub store: Store,
    /// The table as others see it.
    pub aside: Store,
}

impl<W> Fake<W> {
    /// One whose platform stands by this manifest.
    pub async fn with_platform(world: W, manifest: &str) -> Fake<W> {
        let (table, line) = (Table::default(), Line::default());
        let world = RefCell::new(world);
        let fake = Fake { world, store: table.store(&line), aside: table.store(&Line::default()), line };
        Box::pin(platform(&fake.aside, manifest)).await;
        fake
    }

    /// One call that changes nothing, or whose service shows at once what was changed.
    pub fn call<T>(&self, act: impl FnOnce(&mut W) -> T) -> Result<T, AwsError> {
        self.line.call(|| act(&mut self.world.borrow_mut()))
    }

    /// One call that changes something.
    pub fn write<T>(&self, act: impl FnOnce(&mut W) -> T) -> Result<T, AwsError>
    where
        W: Clone + Send + 'static,
    {
        self.line.write(&self.world, act)
    }

    /// One look, at what a service may show late.
    pub fn look<T>(&self, look: impl FnOnce(&mut W) -> T) -> Result<T, AwsError>
    where
        W: Clone + Send + 'static,
    {
        self.line.look(&self.world, look)
    }

    /// The story of a release.
    pub async fn steps(&self, run: &Run) -> Vec<String> {
        let record = self.aside.release(&run.app, &run.environment, &run.release).await.unwrap().unwrap();
        record.steps.into_iter().map(|step| step.what).collect()
    }
}

/// A task definition as it was registered.
#[derive(Clone)]
pub struct Definition {
    /// What ECS describes of it.
    pub described: DescribedTaskDefinition,
    /// Its family.
    pub family: String,
    /// Its own container.
    container: Value,
}

impl Definition {
    /// Registered as this revision.
    pub fn of(task: &TaskDefinition, arn: &str) -> Definition {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let request = task.request();
        let tags = request["tags"].as_array().unwrap().iter().map(|tag| (text(&tag["key"]), text(&tag["value"])));
        Definition {
            described: DescribedTaskDefinition { arn: arn.to_owned(), active: true, tags: tags.collect() },
            family: task.family.clone(),
            container: request["containerDefinitions"][0].clone(),
        }
    }

    /// What its own container's request says there, as a JSON pointer.
    pub fn says(&self, at: &str) -> &str {
        self.container.pointer(at).unwrap().as_str().unwrap()
    }

    /// Its tags say what it is of.
    pub fn assert_is_of(&self, run: &Run) {
        let owner = tags(&run.app, &run.environment, &run.component);
        let Definition { described, .. } = self;
        assert!(owner.iter().all(|(key, value)| described.tags.get(key) == Some(value)), "{described:?}");
    }
}
