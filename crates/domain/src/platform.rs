//! The platform plan: which small stacks an environment has, what each needs, and what to do next about each.
//!
//! A stack is one blueprint with its parameters, named for its concern, so that a stuck one blocks only what stands on it.
//! [`stacks`] says which there should be, [`next_actions`] what to do about them now, [`outputs`] what they made.
//!
//! A stack that the manifest no longer names is neither looked at nor touched: what once served goes on, a listener rule too,
//! until a person deletes the stack or the environment is torn down. Nothing here deletes what was ever finished.

mod compute;
mod data;
mod edge;
mod operation;
mod plan;
mod priority;
mod watch;

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use operation::{Operation, ResourceFailure, StackEvent, last_operation};
pub use plan::{Apply, Blocker, Next, Observed, ObservedStack, Plan, Planned, StackStatus, Trouble, next_actions};

use crate::{
    edge as site_edge,
    manifest::{SecretRef, Service, Spec, spec::Site},
    name::{AppName, Component, ComponentName, EnvironmentName, RepositoryName},
    network::NetworkOutputs,
};

/// What the stacks of an environment made, for rollouts and publications.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformOutputs {
    /// The ECS cluster's name, where there are services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The load balancer's DNS name, where a service has `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<String>,
    /// The capacity provider of the environment's own instances, where the cluster has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_provider: Option<String>,
    /// What the manifest's references to what is no secret stand for, by their text: `databases.main.host`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
    /// Where ECS finds what the manifest's references to secrets stand for (`valueFrom`), by their text: `databases.main.url`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// What each service stands on.
    #[serde(default)]
    pub services: BTreeMap<ComponentName, ServiceOutputs>,
    /// What each site stands on.
    #[serde(default)]
    pub sites: BTreeMap<ComponentName, SiteOutputs>,
}

/// What a service stands on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOutputs {
    /// The repository's URI, without tag or digest: `123456789012.dkr.ecr.eu-west-1.amazonaws.com/hello-api`. None where the
    /// image is a public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_uri: Option<String>,
    /// The log group's name.
    pub log_group: String,
    /// The log group of its migration, where that has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_log_group: Option<String>,
    /// The ARN of its entry in the service discovery, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The role with which ECS pulls the image, writes the log and reads the secrets.
    pub execution_role: String,
    /// The role of the containers themselves.
    pub task_role: String,
    /// The target group, where the service has `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_group: Option<String>,
}

/// What a site stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteOutputs {
    /// The bucket.
    pub bucket: String,
    /// The distribution's id.
    pub distribution: String,
    /// The distribution's domain name.
    pub domain: String,
    /// The ARN of the key-value store that the edge reads. Empty where the site's stack is older than this.
    #[serde(default)]
    pub store: String,
}

/// The most bytes that CloudFormation takes in one parameter's value.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const MOST_PARAMETER_BYTES: usize = 4096;

/// The tag with the hash of a stack's inputs: a stack that has it already is not touched.
pub const INPUTS_TAG: &str = "shipway:inputs";

/// What a manifest asks for that the platform cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The ARNs of a service's secrets do not fit the parameter they are passed in.
    #[error(
        "services.{service}.secrets: the ARNs of its secrets are {bytes} bytes long together, {MOST_PARAMETER_BYTES} are possible; \
         put several values into one secret and name them as `name:key`"
    )]
    TooManySecrets {
        /// The service.
        service: ComponentName,
        /// How long they are.
        bytes: usize,
    },
    /// A site's redirects or headers do not fit the parameter they are passed in.
    #[error(
        "sites.{site}.{key}: they are {bytes} bytes long as the edge gets them, {MOST_PARAMETER_BYTES} are possible; `$` and `<` \
         count six times there"
    )]
    TooMuchForTheEdge {
        /// The site.
        site: ComponentName,
        /// `redirects` or `headers`.
        key: &'static str,
        /// How long they are.
        bytes: usize,
    },
    /// There is no room for another rule among those of paths like it.
    #[error(
        "services.{service}.http.path: too many services have a path as specific as `{path}`; put some under one prefix"
    )]
    TooManyPaths {
        /// The service.
        service: ComponentName,
        /// Its path.
        path: String,
    },
}

/// An output that a finished stack does not have: its blueprint and this code contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stack {stack} stands but has no output {key}")]
pub struct MissingOutput {
    /// The stack.
    pub stack: StackName,
    /// The output.
    pub key: &'static str,
}

/// The templates that stacks are made of: CloudFormation YAML.
#[derive(Clone, Copy, Debug)]
pub struct Blueprints {
    /// A repository.
    pub repository: &'static str,
    /// The cluster.
    pub cluster: &'static str,
    /// The load balancer.
    pub load_balancer: &'static str,
    /// A service.
    pub service: &'static str,
    /// A site.
    pub site: &'static str,
}

/// Reads an output of a stack that stands.
type Output<'a> = dyn Fn(StackName, &'static str) -> Result<String, MissingOutput> + 'a;

/// Where stacks are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// The region.
    pub region: String,
    /// The account's id.
    pub account: String,
    /// The ARN of the managed policy that bounds the roles of blueprints.
    pub permissions_boundary: String,
}

/// A stack's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackName(String);

impl StackName {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a stack is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Concern {
    /// A repository for images, shared by an app's environments.
    Repository,
    /// The cluster that services run on.
    Cluster,
    /// The load balancer and its listener.
    LoadBalancer,
    /// A service's log, roles, target group and rule.
    Service,
    /// A site's bucket and distribution.
    Site,
    /// A certificate.
    Certificate,
    /// DNS records of the load balancer's hosts.
    Records,
    /// The instances that tasks run on.
    Instances,
    /// The namespace in which services find each other.
    Discovery,
    /// The log of the network's traffic.
    FlowLogs,
    /// A database server with its secrets.
    Database,
    /// The weekly export of a database.
    Export,
    /// A cache.
    Cache,
    /// A bucket for a service's files.
    Bucket,
    /// A generated secret.
    Secret,
    /// An email identity.
    Email,
    /// Who is told of alarms.
    Notifications,
    /// The alarms of a service or a database.
    Alarms,
    /// The dashboard.
    Dashboard,
    /// One of the user's own.
    Own,
}

/// A parameter's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Known now.
    Text(String),
    /// Known when another stack stands.
    Output {
        /// The other stack.
        stack: StackName,
        /// Its output.
        key: Cow<'static, str>,
    },
    /// Known when the network stands.
    OfNetwork,
    /// Several, between commas. Empty ones are left out.
    List(Vec<Value>),
}

/// The parameters of a stack, by name.
pub type Parameters = BTreeMap<Cow<'static, str>, Value>;

fn parameters<const N: usize>(parameters: [(&'static str, Value); N]) -> Parameters {
    parameters.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect()
}

/// A stack that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedStack {
    /// Its name.
    pub name: StackName,
    /// What it is for.
    pub concern: Concern,
    /// Its template.
    pub template: Cow<'static, str>,
    /// The region it is made in, where that is not the environment's own.
    pub region: Option<&'static str>,
    /// The role that CloudFormation makes it with, where that is not Shipway's own.
    pub role: Option<String>,
    /// Its parameters; every one the template has, so that none keeps an old value.
    pub parameters: Parameters,
    /// The tags that say whose it is. CloudFormation passes them on to what the stack makes.
    pub tags: BTreeMap<&'static str, String>,
    /// Whether it needs something of the network.
    pub needs_network: bool,
}

impl WantedStack {
    /// The hash of all that decides what the stack is.
    fn inputs(&self, parameters: &BTreeMap<Cow<'static, str>, String>) -> String {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        };
        add(self.name.as_str());
        add(&self.template);
        for (key, value) in parameters {
            add(key);
            add(value);
        }
        for (key, value) in &self.tags {
            add(key);
            add(value);
        }
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The stacks that an app's environment has, by name.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The app.
    pub app: &'a AppName,
    /// The environment.
    pub environment: &'a EnvironmentName,
}

impl Names<'_> {
    fn of(self, concern: fmt::Arguments<'_>) -> StackName {
        StackName(format!("shipway-{}-{}-{concern}", self.app, self.environment))
    }

    /// The stack of a repository. Environments of an app may share one, so it is named for none of them. A name that is more
    /// than a stack's name can hold (letters, digits, hyphens, 128 characters) is told apart by its hash.
    pub fn repository(self, repository: &RepositoryName) -> StackName {
        const MOST: usize = 80;
        let name = repository.as_str();
        let simple = name.len() <= MOST && !name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let slug = if simple {
            name.to_owned()
        } else {
            let slug: String =
                name.chars().take(MOST).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            format!("{}-{}", slug.trim_end_matches('-'), short_hash(name))
        };
        StackName(format!("shipway-{}-repository-{slug}", self.app))
    }

    /// The stack of the cluster.
    pub fn cluster(self) -> StackName {
        self.of(format_args!("cluster"))
    }

    /// The stack of the load balancer.
    pub fn load_balancer(self) -> StackName {
        self.of(format_args!("load-balancer"))
    }

    /// The stack of a service.
    pub fn service(self, service: &ComponentName) -> StackName {
        self.of(format_args!("service-{service}"))
    }

    /// The stack of a site.
    pub fn site(self, site: &ComponentName) -> StackName {
        self.of(format_args!("site-{site}"))
    }

    /// The names of all stacks that a manifest asks for.
    pub fn all(self, spec: &Spec) -> Vec<StackName> {
        let mut names: Vec<_> = repositories(spec).into_iter().map(|repository| self.repository(repository)).collect();
        if !spec.services.is_empty() {
            names.push(self.cluster());
        }
        if has_http(spec) {
            names.push(self.load_balancer());
        }
        names.extend(spec.services.keys().map(|service| self.service(service)));
        names.extend(spec.sites.keys().map(|site| self.site(site)));
        names.sort();
        names.dedup();
        names
    }

    /// The load balancer's own name: at most 32 characters, not beginning with `internal-`.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html>
    fn of_load_balancer(self) -> String {
        const MOST: usize = 32;
        let name = format!("{}-{}", self.app, self.environment);
        let fits = name.len() <= MOST && !name.starts_with("internal-");
        if fits {
            return name;
        }
        let hash = short_hash(&name);
        let start = name.trim_start_matches("internal-");
        let start: String = start.chars().take(MOST - hash.len() - 1).collect();
        format!("{}-{hash}", start.trim_end_matches('-'))
    }
}

fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// The repositories that services take their images from.
fn repositories(spec: &Spec) -> std::collections::BTreeSet<&RepositoryName> {
    spec.services.values().filter_map(|service| service.image.repository.as_ref()).collect()
}

fn has_http(spec: &Spec) -> bool {
    spec.services.values().any(|service| service.http.is_some())
}

/// What the wanted stacks are derived from.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The manifest, as it is for the environment.
    pub spec: &'a Spec,
    /// The environment.
    pub environment: &'a EnvironmentName,
    /// Where stacks are made.
    pub place: &'a Place,
    /// What they are made of.
    pub blueprints: &'a Blueprints,
    /// The network, once it stands.
    pub network: Option<&'a NetworkOutputs>,
}

impl Wish<'_> {
    fn names(&self) -> Names<'_> {
        Names { app: &self.spec.app, environment: self.environment }
    }

    fn tags(&self, component: Component) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("shipway:app", self.spec.app.to_string()),
            ("shipway:environment", self.environment.to_string()),
            ("shipway:component", component.to_string()),
        ])
    }

    fn repository(&self, repository: &RepositoryName) -> WantedStack {
        let mut tags = self.tags(Component::Platform);
        tags.remove("shipway:environment");
        WantedStack {
            name: self.names().repository(repository),
            concern: Concern::Repository,
            template: Cow::Borrowed(self.blueprints.repository),
            region: None,
            role: None,
            parameters: parameters([("Repository", text(repository))]),
            tags,
            needs_network: false,
        }
    }

    fn cluster(&self) -> WantedStack {
        WantedStack {
            name: self.names().cluster(),
            concern: Concern::Cluster,
            template: Cow::Borrowed(self.blueprints.cluster),
            region: None,
            role: None,
            parameters: parameters([("App", text(&self.spec.app)), ("Environment", text(self.environment))]),
            tags: self.tags(Component::Platform),
            needs_network: false,
        }
    }

    fn load_balancer(&self) -> WantedStack {
        WantedStack {
            name: self.names().load_balancer(),
            concern: Concern::LoadBalancer,
            template: Cow::Borrowed(self.blueprints.load_balancer),
            region: None,
            role: None,
            parameters: parameters([
                ("Name", text(self.names().of_load_balancer())),
                ("Subnets", self.of_network(|network| network.public_subnets.join(","))),
                ("SecurityGroup", self.of_network(|network| network.load_balancer_group.clone())),
            ]),
            tags: self.tags(Component::Platform),
            needs_network: true,
        }
    }

    fn service(
        &self,
        name: &ComponentName,
        service: &Service,
        priority: Option<u32>,
    ) -> Result<WantedStack, PlanError> {
        let secrets = Secrets::of(service, self.place);
        for arns in [&secrets.secrets, &secrets.parameters] {
            if arns.len() > MOST_PARAMETER_BYTES {
                return Err(PlanError::TooManySecrets { service: name.clone(), bytes: arns.len() });
            }
        }
        let mut wanted = parameters([
            ("App", text(&self.spec.app)),
            ("Environment", text(self.environment)),
            ("Service", text(name)),
            ("Repository", text(service.image.repository.as_ref().map_or("", |repository| repository.as_str()))),
            ("SecretArns", text(secrets.secrets)),
            ("ParameterArns", text(secrets.parameters)),
            ("PermissionsBoundary", text(&self.place.permissions_boundary)),
        ]);
        wanted.extend(parameters(match (&service.http, priority) {
            (Some(http), Some(priority)) => [
                ("Listener", Value::Output { stack: self.names().load_balancer(), key: Cow::Borrowed("Listener") }),
                ("Vpc", self.of_network(|network| network.vpc.clone())),
                ("Path", text(&http.path)),
                ("HealthPath", text(&http.health)),
                ("Priority", text(priority)),
            ],
            _ => [
                ("Listener", text("")),
                ("Vpc", text("")),
                ("Path", text("/*")),
                ("HealthPath", text("/")),
                ("Priority", text(1)),
            ],
        }));
        Ok(WantedStack {
            name: self.names().service(name),
            concern: Concern::Service,
            template: Cow::Borrowed(self.blueprints.service),
            region: None,
            role: None,
            parameters: wanted,
            tags: self.tags(Component::Service(name.clone())),
            needs_network: service.http.is_some(),
        })
    }

    fn site(&self, name: &ComponentName, site: &Site) -> Result<WantedStack, PlanError> {
        let fits = |key, json: String| match json.len() {
            bytes if bytes > MOST_PARAMETER_BYTES => {
                Err(PlanError::TooMuchForTheEdge { site: name.clone(), key, bytes })
            }
            _ => Ok(text(json)),
        };
        let backend = |number: usize| text(site.backend.get(number).map_or("", String::as_str));
        let load_balancer = match site.backend.is_empty() {
            true => text(""),
            false => Value::Output { stack: self.names().load_balancer(), key: Cow::Borrowed("DnsName") },
        };
        Ok(WantedStack {
            name: self.names().site(name),
            concern: Concern::Site,
            template: Cow::Borrowed(self.blueprints.site),
            region: None,
            role: None,
            parameters: parameters([
                ("App", text(&self.spec.app)),
                ("Environment", text(self.environment)),
                ("Site", text(name)),
                ("Redirects", fits("redirects", site_edge::redirects(site))?),
                ("Headers", fits("headers", site_edge::headers(site))?),
                ("Previews", text(site.previews.days())),
                ("LoadBalancer", load_balancer),
                ("Backend1", backend(0)),
                ("Backend2", backend(1)),
                ("Backend3", backend(2)),
                ("Backend4", backend(3)),
            ]),
            tags: self.tags(Component::Site(name.clone())),
            // Where there is a load balancer, it stands in the network.
            needs_network: !site.backend.is_empty(),
        })
    }

    fn of_network(&self, value: impl FnOnce(&NetworkOutputs) -> String) -> Value {
        self.network.map_or(Value::OfNetwork, |network| Value::Text(value(network)))
    }
}

fn text(value: impl ToString) -> Value {
    Value::Text(value.to_string())
}

/// The ARNs that a service's execution role may read, between commas.
struct Secrets {
    secrets: String,
    parameters: String,
}

impl Secrets {
    fn of(service: &Service, place: &Place) -> Secrets {
        let Place { partition, region, account, .. } = place;
        let mut secrets = Vec::new();
        let mut parameters = Vec::new();
        for reference in service.secrets.values() {
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
                SecretRef::Ref(_) => {}
            }
        }
        let join = |mut arns: Vec<String>| {
            arns.sort();
            arns.dedup();
            arns.join(",")
        };
        Secrets { secrets: join(secrets), parameters: join(parameters) }
    }
}

/// The stacks that should be there, each after what it stands on.
///
/// # Errors
/// Where the manifest asks for more than a stack can hold.
pub fn stacks(wish: &Wish<'_>, observed: &Observed) -> Result<Vec<WantedStack>, PlanError> {
    let spec = wish.spec;
    let mut stacks = Vec::new();
    stacks.extend(repositories(spec).into_iter().map(|repository| wish.repository(repository)));
    if !spec.services.is_empty() {
        stacks.push(wish.cluster());
    }
    if has_http(spec) {
        stacks.push(wish.load_balancer());
    }
    let priorities = priority::of_services(spec, |service| {
        let parameters = &observed.get(&wish.names().service(service))?.parameters;
        Some((parameters.get("Path")?.as_str(), parameters.get("Priority")?.parse().ok()?))
    })?;
    for (name, service) in &spec.services {
        stacks.push(wish.service(name, service, priorities.get(name).copied())?);
    }
    for (name, site) in &spec.sites {
        stacks.push(wish.site(name, site)?);
    }
    stacks.extend(wish.compute_stacks()?);
    stacks.extend(wish.data_stacks()?);
    stacks.extend(wish.edge_stacks()?);
    stacks.extend(wish.watch_stacks()?);
    Ok(stacks)
}

/// What the stacks made, once all stand.
///
/// # Errors
/// Where a stack has not the output it should have.
pub fn outputs(names: Names<'_>, spec: &Spec, observed: &Observed) -> Result<PlatformOutputs, MissingOutput> {
    let output = |stack: StackName, key: &'static str| {
        let value = observed.get(&stack).and_then(|stack| stack.outputs.get(key)).cloned();
        value.ok_or(MissingOutput { stack, key })
    };
    let mut outputs = PlatformOutputs::default();
    if !spec.services.is_empty() {
        outputs.cluster = Some(output(names.cluster(), "Cluster")?);
    }
    if has_http(spec) {
        outputs.load_balancer = Some(output(names.load_balancer(), "DnsName")?);
    }
    for (name, service) in &spec.services {
        let of_service = |key| output(names.service(name), key);
        let made = ServiceOutputs {
            repository_uri: match &service.image.repository {
                Some(repository) => Some(output(names.repository(repository), "Uri")?),
                None => None,
            },
            log_group: of_service("LogGroup")?,
            execution_role: of_service("ExecutionRole")?,
            task_role: of_service("TaskRole")?,
            migration_log_group: None,
            registry: None,
            target_group: service.http.as_ref().map(|_| of_service("TargetGroup")).transpose()?,
        };
        outputs.services.insert(name.clone(), made);
    }
    for name in spec.sites.keys() {
        let of_site = |key| output(names.site(name), key);
        let made = SiteOutputs {
            bucket: of_site("Bucket")?,
            distribution: of_site("Distribution")?,
            domain: of_site("Domain")?,
            store: of_site("Store")?,
        };
        outputs.sites.insert(name.clone(), made);
    }
    compute::outputs(names, spec, &output, &mut outputs)?;
    data::outputs(names, spec, &output, &mut outputs)?;
    edge::outputs(names, spec, &output, &mut outputs)?;
    Ok(outputs)
}

#[cfg(test)]
mod tests;
