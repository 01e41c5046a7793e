//! Stacks of services and of what they run on: the cluster, instances, service discovery.

use std::borrow::Cow;

use super::{
    Concern, MOST_PARAMETER_BYTES, Names, Observed, Place, PlanError, Value, WantedStack, Wish, parameters,
    priority::Priorities, shift, text,
};
use crate::{
    manifest::{
        SecretRef, Service, Spec,
        spec::{Ec2, Email, EnvValue, Networking, Reference},
    },
    name::{Component, ComponentName},
    task::service_name,
};

const CLUSTER: &str = include_str!("../../../../bootstrap/blueprints/cluster.yaml");
const INSTANCES: &str = include_str!("../../../../bootstrap/blueprints/instances.yaml");
const DISCOVERY: &str = include_str!("../../../../bootstrap/blueprints/discovery.yaml");
const SERVICE: &str = include_str!("../../../../bootstrap/blueprints/service.yaml");

/// How long the ARN of a secret that another stack makes may be, as far as that is known before it is there.
const SECRET_ARN_BYTES: usize = 150;

/// How long a task that goes may finish its requests, where the manifest does not say.
const DRAIN_SECONDS: u32 = 15;

impl Wish<'_> {
    /// The stacks of the cluster, and of what services need together.
    pub(super) fn compute_stacks(&self) -> Vec<WantedStack> {
        let spec = self.spec;
        let mut stacks = Vec::new();
        if !spec.services.is_empty() {
            stacks.push(self.cluster());
            stacks.extend(spec.cluster.ec2.as_ref().map(|ec2| self.instances(ec2)));
        }
        if spec.services.values().any(|service| service.discovery) {
            stacks.push(self.discovery());
        }
        stacks
    }

    fn cluster(&self) -> WantedStack {
        self.blueprint(
            self.names().cluster(),
            Concern::Cluster,
            CLUSTER,
            parameters([
                ("App", text(&self.spec.app)),
                ("Environment", text(self.environment)),
                ("Insights", text(if self.spec.cluster.insights { "enabled" } else { "disabled" })),
            ]),
            false,
        )
    }

    fn instances(&self, ec2: &Ec2) -> WantedStack {
        // https://docs.aws.amazon.com/AmazonECS/latest/developerguide/retrieve-ecs-optimized_AMI.html
        let image = match ec2.instance_type.is_arm() {
            true => "/aws/service/ecs/optimized-ami/amazon-linux-2023/arm64/recommended/image_id",
            false => "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id",
        };
        self.blueprint(
            self.names().instances(),
            Concern::Instances,
            INSTANCES,
            parameters([
                ("App", text(&self.spec.app)),
                ("Environment", text(self.environment)),
                ("Cluster", self.cluster_name()),
                ("InstanceType", text(ec2.instance_type.as_str())),
                ("Image", text(image)),
                ("Subnets", self.of_network(|network| network.task_subnets().join(","))),
                ("SecurityGroup", self.of_network(|network| network.instance_group.clone().unwrap_or_default())),
                ("PublicAddress", self.of_network(|network| network.private_subnets.is_empty().to_string())),
                ("Min", text(ec2.min)),
                ("Max", text(ec2.max)),
                ("MinInService", text(ec2.min.min(ec2.max.saturating_sub(1)))),
                ("OnDemandPercent", text(100 - self.spec.cluster.spot_percent().min(100))),
                ("KeyPair", text(ec2.key_pair.as_ref().map_or("", |name| name.as_str()))),
                ("Disk", text(ec2.disk.gib())),
                ("PermissionsBoundary", text(&self.place.permissions_boundary)),
            ]),
            true,
        )
    }

    fn discovery(&self) -> WantedStack {
        self.blueprint(
            self.names().discovery(),
            Concern::Discovery,
            DISCOVERY,
            parameters([
                ("App", text(&self.spec.app)),
                ("Environment", text(self.environment)),
                ("Vpc", self.of_network(|network| network.vpc.clone())),
            ]),
            true,
        )
    }

    /// The cluster's name, once it stands.
    pub(super) fn cluster_name(&self) -> Value {
        Value::Output { stack: self.names().cluster(), key: Cow::Borrowed("Cluster") }
    }

    /// The stack of a service; with the priorities of its rules where it has `http`.
    pub(super) fn service(
        &self,
        name: &ComponentName,
        service: &Service,
        priorities: Option<Priorities>,
        observed: &Observed,
    ) -> Result<WantedStack, PlanError> {
        let secrets = Secrets::of(self, service);
        for arns in [&secrets.secrets, &secrets.parameters] {
            let bytes = bytes(arns);
            if bytes > MOST_PARAMETER_BYTES {
                return Err(PlanError::TooManySecrets { service: name.clone(), bytes });
            }
        }
        let shifts = self.shifts(name, service, observed);
        if shifts && service.http.as_ref().is_some_and(|http| http.stickiness.is_some()) {
            return Err(PlanError::Sticky { service: name.clone() });
        }
        let test_rule = priorities.and_then(|priorities| priorities.test_rule);
        let migration_log = migration_log_group(self.names(), name, service);
        let namespace = match service.discovery {
            true => Value::Output { stack: self.names().discovery(), key: Cow::Borrowed("Namespace") },
            false => text(""),
        };
        let mut wanted = parameters([
            ("Service", text(name)),
            ("RepositoryArns", Value::List(self.repository_arns(service))),
            ("LogGroup", text(log_group(self.names(), name, service))),
            ("MigrationLogGroup", text(migration_log.unwrap_or_default())),
            ("Retention", text(self.spec.logs.retention.days())),
            ("SecretArns", Value::List(secrets.secrets)),
            ("ParameterArns", Value::List(secrets.parameters)),
            ("BucketArns", Value::List(self.bucket_arns(service, ""))),
            ("ObjectArns", Value::List(self.bucket_arns(service, "/*"))),
            ("IdentityArns", Value::List(self.identity_arns(service))),
            ("PermissionsBoundary", text(&self.place.permissions_boundary)),
            ("TargetType", text(if is_bridge(self.spec) { "instance" } else { "ip" })),
            ("Namespace", namespace),
        ]);
        wanted.extend(parameters([
            ("Shifts", text(shifts)),
            ("TestHeader", text(test_rule.map_or("", |_| name.as_str()))),
            ("TestPriority", text(test_rule.unwrap_or(1))),
        ]));
        wanted.extend(parameters(shift::weights(observed.get(&self.names().service(name)))));
        wanted.extend(parameters(match (&service.http, priorities) {
            (Some(http), Some(priorities)) => [
                ("Listener", Value::Output { stack: self.names().load_balancer(), key: Cow::Borrowed("Listener") }),
                ("Vpc", self.of_network(|network| network.vpc.clone())),
                ("Host", text(http.host.as_ref().map_or("", |host| host.as_str()))),
                ("Path", text(&http.path)),
                ("HealthPath", text(&http.health)),
                ("Stickiness", text(http.stickiness.map_or(0, |stickiness| stickiness.duration.seconds()))),
                ("Drain", text(http.drain.map_or(DRAIN_SECONDS, |drain| drain.seconds()))),
                ("Priority", text(priorities.rule)),
            ],
            _ => [
                ("Listener", text("")),
                ("Vpc", text("")),
                ("Host", text("")),
                ("Path", text("/*")),
                ("HealthPath", text("/")),
                ("Stickiness", text(0)),
                ("Drain", text(DRAIN_SECONDS)),
                ("Priority", text(1)),
            ],
        }));
        let stack =
            self.blueprint(self.names().service(name), Concern::Service, SERVICE, wanted, service.http.is_some());
        Ok(WantedStack { tags: self.tags(Component::Service(name.clone())), ..stack })
    }

    /// The ARNs of the account's own repositories that a task's images are in: the service's, and those of its sidecars.
    fn repository_arns(&self, service: &Service) -> Vec<Value> {
        let place = self.place;
        let arn = |region: &str, name: &str| {
            format!("arn:{}:ecr:{region}:{}:repository/{name}", place.partition, place.account)
        };
        let own = service.image.repository.iter().map(|repository| arn(&place.region, repository.as_str()));
        let named = service.image.public.iter().chain(service.sidecars.values().map(|sidecar| &sidecar.image));
        let named = named.filter_map(|image| {
            let (registry, name) = image.as_str().split_once('/')?;
            let region = registry.strip_prefix(&format!("{}.dkr.ecr.", place.account))?.split('.').next()?;
            Some(arn(region, name.split(['@', ':']).next()?))
        });
        sorted(own.chain(named).collect())
    }

    /// The ARNs of the buckets that a service uses, with an end.
    fn bucket_arns(&self, service: &Service, end: &str) -> Vec<Value> {
        let arn = |name| {
            let bucket = self.value_of(&Reference::Bucket(name))?;
            Some(Value::Joined(vec![text(format!("arn:{}:s3:::", self.place.partition)), bucket, text(end)]))
        };
        used(service, "buckets").filter_map(arn).collect()
    }

    fn identity_arns(&self, service: &Service) -> Vec<Value> {
        let place = self.place;
        let arn = |name| {
            let identity = match self.spec.email.get(&name)? {
                Email::Address(address) => address.as_str(),
                Email::Domain(domain) => domain.as_str(),
            };
            Some(format!("arn:{}:ses:{}:{}:identity/{identity}", place.partition, place.region, place.account))
        };
        sorted(used(service, "email").filter_map(arn).collect())
    }
}

/// The names of what a service uses of one kind.
fn used(service: &Service, kind: &str) -> impl Iterator<Item = ComponentName> {
    service.uses.iter().filter_map(move |used| used.as_str().strip_prefix(kind)?.strip_prefix('.')?.parse().ok())
}

/// Whether tasks share their instance's address, and have only ports of it.
fn is_bridge(spec: &Spec) -> bool {
    spec.cluster.ec2.as_ref().is_some_and(|ec2| ec2.networking == Networking::Bridge)
}

fn log_group(names: Names<'_>, name: &ComponentName, service: &Service) -> String {
    match &service.log_group {
        Some(group) => group.as_str().to_owned(),
        None => format!("/ecs/{}", service_name(names.app, names.environment, name)),
    }
}

/// The log group of a service's migration, where that is another one than the service's own.
pub(super) fn migration_log_group(names: Names<'_>, name: &ComponentName, service: &Service) -> Option<String> {
    let group = service.migrate.as_ref()?.log_group.as_ref()?.as_str();
    (group != log_group(names, name, service)).then(|| group.to_owned())
}

/// The ARNs that a service's execution role may read.
struct Secrets {
    secrets: Vec<Value>,
    parameters: Vec<Value>,
}

impl Secrets {
    fn of(wish: &Wish<'_>, service: &Service) -> Secrets {
        let Place { partition, region, account, .. } = wish.place;
        let mut secrets = Vec::new();
        let mut parameters = Vec::new();
        let mut made: Vec<Value> = Vec::new();
        let mut make = |reference: &Reference| {
            for arn in wish.secret_arns(reference) {
                if !made.contains(&arn) {
                    made.push(arn);
                }
            }
        };
        let sidecars = || service.sidecars.values();
        for reference in service.secrets.values().chain(sidecars().flat_map(|sidecar| sidecar.secrets.values())) {
            match reference {
                // Secrets Manager ends each ARN with a hyphen and six characters of its own.
                // https://docs.aws.amazon.com/secretsmanager/latest/userguide/auth-and-access_examples.html
                SecretRef::Secretsmanager(reference) => {
                    let name = reference.split_once(':').map_or(reference.as_str(), |(name, _)| name);
                    secrets.push(format!("arn:{partition}:secretsmanager:{region}:{account}:secret:{name}-??????"));
                }
                SecretRef::Ssm(path) => {
                    parameters.push(format!("arn:{partition}:ssm:{region}:{account}:parameter{path}"))
                }
                SecretRef::Ref(reference) => make(reference),
            }
        }
        for value in service.env.values().chain(sidecars().flat_map(|sidecar| sidecar.env.values())) {
            if let EnvValue::Ref(reference) = value {
                make(reference);
            }
        }
        Secrets { secrets: [sorted(secrets), made].concat(), parameters: sorted(parameters) }
    }
}

fn sorted(mut texts: Vec<String>) -> Vec<Value> {
    texts.sort();
    texts.dedup();
    texts.into_iter().map(Value::Text).collect()
}

/// How long values are as one, with commas between.
fn bytes(values: &[Value]) -> usize {
    let each = |value: &Value| match value {
        Value::Text(text) => text.len() + 1,
        _ => SECRET_ARN_BYTES + 1,
    };
    values.iter().map(each).sum::<usize>().saturating_sub(1)
}
