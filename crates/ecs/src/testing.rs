//! What the tests of both functions need: an ECS in memory and a platform to run on, and what ECS shows of what was registered.

#![allow(clippy::unwrap_used, reason = "only tests use it, and a test ends by a panic")]

use std::cell::RefCell;

use shipway_aws::{
    AwsError, Store,
    testing::{Line, Table, provision},
};
use shipway_domain::{
    manifest::DatabaseEngine,
    message::Run,
    network::NetworkOutputs,
    platform::{Alternate, DatabaseOutputs, PlatformOutputs, ServiceOutputs},
    task::{DescribedTaskDefinition, TaskDefinition},
};

/// The target group of `api`.
pub const TARGET_GROUP: &str = "arn:aws:elasticloadbalancing:r:1:targetgroup/api/943f";

/// Its other one, where the manifest names a strategy.
pub const OTHER_TARGET_GROUP: &str = "arn:aws:elasticloadbalancing:r:1:targetgroup/api-2/a1c0";

/// Stands the platform of `prod` by this manifest, whose one service is `api` with images of `hello-api`.
pub async fn platform(store: &Store, manifest: &str) {
    let role = |name: &str| format!("arn:aws:iam::123456789012:role/{name}");
    let api = ServiceOutputs {
        repository_uri: Some("123456789012.dkr.ecr.eu-west-1.amazonaws.com/hello-api".to_owned()),
        log_group: "/shipway/hello-prod/api".to_owned(),
        execution_role: role("execution"),
        task_role: role("task"),
        target_group: Some(TARGET_GROUP.to_owned()),
        alternate: manifest.contains("strategy:").then(|| Alternate {
            target_group: OTHER_TARGET_GROUP.to_owned(),
            rule: "arn:aws:elasticloadbalancing:r:1:listener-rule/app/hello-prod/1/2/3".to_owned(),
            test_rule: manifest
                .contains("test_traffic")
                .then(|| "arn:aws:elasticloadbalancing:r:1:listener-rule/app/hello-prod/1/2/4".to_owned()),
            role: role("infrastructure"),
        }),
        ..ServiceOutputs::default()
    };
    let network = NetworkOutputs {
        vpc: "vpc".to_owned(),
        cidr: "10.0.0.0/16".to_owned(),
        public_subnets: vec!["subnet-1".to_owned(), "subnet-2".to_owned()],
        load_balancer_group: "sg-1".to_owned(),
        service_group: "sg-2".to_owned(),
        ..Default::default()
    };
    let server = |name: &str| DatabaseOutputs {
        engine: if name == "other" { DatabaseEngine::AuroraPostgres } else { DatabaseEngine::Postgres },
        identifier: format!("hello-prod-{name}"),
        host: format!("{name}.db.internal"),
        port: 5432,
        user: "app".to_owned(),
        password: format!("arn:of:the-password-of-{name}"),
        names: Vec::new(),
        export_bucket: None,
    };
    let secrets = ["databases.main.url", "databases.main.second.url", "databases.other.fourth.url"];
    let platform = PlatformOutputs {
        databases: ["main", "other"].map(|name| (name.parse().unwrap(), server(name))).into(),
        secrets: secrets.map(|reference| (reference.to_owned(), format!("arn:of:{reference}"))).into(),
        cluster: Some("hello-prod".to_owned()),
        load_balancer: Some("hello-prod.elb".to_owned()),
        capacity_provider: Some("hello-prod".to_owned()),
        services: [("api".parse().unwrap(), api)].into(),
        ..PlatformOutputs::default()
    };
    provision(store, &"prod".parse().unwrap(), manifest, Some((&network, &platform))).await;
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
        platform(&fake.aside, manifest).await;
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

/// What ECS describes of a task definition that was registered as this revision.
pub fn described(task: &TaskDefinition, arn: &str) -> DescribedTaskDefinition {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let request = task.request();
    let tags = request["tags"].as_array().unwrap().iter().map(|tag| (text(&tag["key"]), text(&tag["value"])));
    DescribedTaskDefinition { arn: arn.to_owned(), active: true, tags: tags.collect() }
}

/// The image of a task definition's own container.
pub fn image(task: &TaskDefinition) -> String {
    task.request()["containerDefinitions"][0]["image"].as_str().unwrap().to_owned()
}
