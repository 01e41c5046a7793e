//! Task definitions: what a service's containers, and its migration, run as; and what ECS shows of a task that runs one.
//!
//! An image of the account is always named by its digest, so a task definition *is* the identity of what runs: two tasks of one
//! revision run the same bytes. Settings count too: another value in `env` is another revision with the same digest.

pub mod databases;
pub mod migration;
mod overrides;
mod placement;
pub mod snapshots;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use migration::Part;
pub use overrides::Override;
pub use placement::{Capacity, Interfaces, Placement};

use crate::{
    manifest::{EnvValue, Networking, PublicImage, SecretRef, Service, Sidecar, Spec},
    name::{AppName, Component, ComponentName, Digest, EnvironmentName, RepositoryName},
    platform::{INPUTS_TAG, PlatformOutputs, ServiceOutputs},
    release::Artifact,
};

/// The first part of a service's log streams: `service/<container>/<task id>`.
pub const SERVICE_STREAM: &str = "service";

/// What cannot be made into a task definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// The image is another repository's than the service's.
    #[error(
        "the image is in the repository `{given}`, but `{service}` takes its images from `{wanted}`; push it there, or change `image.repository` in the manifest"
    )]
    OtherRepository {
        /// The service.
        service: ComponentName,
        /// Where the image is.
        given: RepositoryName,
        /// Where the service's images are.
        wanted: RepositoryName,
    },
    /// The image comes from a registry outside the account, and the service's from a repository of it; or the other way round.
    #[error("`{service}` does not run images like {given}; see its `image` in the manifest")]
    OtherKind {
        /// The service.
        service: ComponentName,
        /// The image.
        given: String,
    },
    /// What was provisioned for the service is not what it should be.
    #[error(
        "what was provisioned for `{service}` cannot be used: {what}; upload the manifest again to provision it anew"
    )]
    Provisioned {
        /// The service.
        service: ComponentName,
        /// What is wrong with it.
        what: String,
    },
    /// An override that is not one.
    #[error("services.{service}.overrides.{key}: {why}")]
    Override {
        /// The service.
        service: ComponentName,
        /// The key under `overrides`.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Where tasks run, and from where they pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The region.
    pub region: String,
    /// The registry to pull the account's images from instead of ECR's own host, for a cloud whose registry is not reached
    /// under ECR's name.
    pub registry_mirror: Option<String>,
}

/// A task definition as it should be: what `RegisterTaskDefinition` is sent.
///
/// It is kept as ECS spells it, because a manifest may set any field of it. A revision never changes, so a hash of what it was
/// registered with, in a tag of it, says all about it; what ECS describes would have its defaults filled in.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RegisterTaskDefinition.html>
#[derive(Clone, Debug, PartialEq)]
pub struct TaskDefinition {
    /// The family: all revisions of one purpose.
    pub family: String,
    /// Everything else but the tags.
    fields: Map<String, Value>,
    /// The tags that say whose it is.
    tags: BTreeMap<String, String>,
}

/// A task definition as ECS describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedTaskDefinition {
    /// The revision's ARN.
    pub arn: String,
    /// Whether tasks can be started from it.
    pub active: bool,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl TaskDefinition {
    /// The same for tasks that start after a secret of theirs was rotated: another revision, and the same for the same rotation.
    #[must_use]
    pub fn after_rotation(mut self, at: Timestamp) -> TaskDefinition {
        self.tags.insert("shipway:rotated".to_owned(), at.to_string());
        self
    }

    /// The request that registers it.
    #[must_use]
    pub fn request(&self) -> Value {
        let tags = self.tags.iter().map(|(key, value)| (key.as_str(), value.clone()));
        let tags = tags.chain([(INPUTS_TAG, self.inputs())]).map(|(key, value)| json!({"key": key, "value": value}));
        let mut request = self.fields.clone();
        request.insert("family".to_owned(), json!(self.family));
        request.insert("tags".to_owned(), tags.collect());
        Value::Object(request)
    }

    /// Whether a revision that ECS describes was registered from this.
    #[must_use]
    pub fn is(&self, described: &DescribedTaskDefinition) -> bool {
        described.active && described.tags.get(INPUTS_TAG) == Some(&self.inputs())
    }

    fn inputs(&self) -> String {
        let mut hash = Sha256::new();
        let fields = serde_json::to_string(&self.fields).unwrap_or_default();
        for text in
            [self.family.as_str(), &fields].into_iter().chain(self.tags.iter().flat_map(|(a, b)| [a.as_str(), b]))
        {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        }
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The log stream of one container of one task: `<prefix>/<container>/<task id>`.
pub fn log_stream(prefix: &str, container: &str, task: &str) -> String {
    format!("{prefix}/{container}/{}", task.rsplit('/').next().unwrap_or(task))
}

/// The name that a service's resources share: `<app>-<environment>-<service>`.
pub fn service_name(app: &AppName, environment: &EnvironmentName, service: &ComponentName) -> String {
    format!("{app}-{environment}-{service}")
}

/// The tags of what belongs to one component.
pub fn tags(app: &AppName, environment: &EnvironmentName, component: &Component) -> BTreeMap<String, String> {
    [
        ("shipway:app", app.to_string()),
        ("shipway:environment", environment.to_string()),
        ("shipway:component", component.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Whether something with these tags belongs to the environment.
#[must_use]
pub fn is_of(tags: &BTreeMap<String, String>, app: &AppName, environment: &EnvironmentName) -> bool {
    let is = |key: &str, value: &str| tags.get(key).is_some_and(|tag| tag == value);
    is("shipway:app", app.as_str()) && is("shipway:environment", environment.as_str())
}

/// Where a service's image comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// A repository of the account.
    Repository {
        /// The repository.
        repository: &'a RepositoryName,
        /// The image.
        digest: &'a Digest,
    },
    /// Elsewhere.
    Public(&'a PublicImage),
}

impl<'a> Source<'a> {
    /// The image that an artifact is, where it is one.
    #[must_use]
    pub fn of(artifact: &'a Artifact) -> Option<Source<'a>> {
        match artifact {
            Artifact::Image { repository, digest } => Some(Source::Repository { repository, digest }),
            Artifact::Public { image } => Some(Source::Public(image)),
            Artifact::Object { .. } | Artifact::Nothing => None,
        }
    }

    /// Its digest, where that is known before it runs.
    #[must_use]
    pub fn digest(self) -> Option<&'a Digest> {
        match self {
            Source::Repository { digest, .. } => Some(digest),
            Source::Public(_) => None,
        }
    }
}

/// An image that a service should run.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The app.
    pub app: &'a AppName,
    /// The environment.
    pub environment: &'a EnvironmentName,
    /// The service's name.
    pub name: &'a ComponentName,
    /// The manifest.
    pub spec: &'a Spec,
    /// What it says of the service.
    pub service: &'a Service,
    /// What was provisioned.
    pub platform: &'a PlatformOutputs,
    /// What of it is for the service.
    pub outputs: &'a ServiceOutputs,
    /// The image.
    pub source: Source<'a>,
}

/// A container of a task definition, as far as the manifest has keys for it.
struct Container<'a> {
    name: &'a str,
    image: String,
    command: &'a [String],
    entrypoint: &'a [String],
    essential: bool,
    port: Option<u16>,
    host_port: Option<u16>,
    env: &'a BTreeMap<String, EnvValue>,
    secrets: &'a BTreeMap<String, SecretRef>,
    cpu: Option<u32>,
    memory: Option<u32>,
}

/// Where a task's containers log.
struct Log<'a> {
    group: &'a str,
    stream_prefix: &'a str,
}

impl Wanted<'_> {
    /// The task definition of the service itself.
    ///
    /// # Errors
    /// An image that is not the service's; a reference to what was not provisioned; an override of what has a key of its own.
    pub fn service_task(&self, surroundings: &Surroundings) -> Result<TaskDefinition, TaskError> {
        let log = Log { group: &self.outputs.log_group, stream_prefix: SERVICE_STREAM };
        let sidecars = &self.service.sidecars;
        let mut own = self.own_container(surroundings, &self.service.command, &log)?;
        let before: Vec<Value> = sidecars
            .iter()
            .filter(|(_, sidecar)| sidecar.before)
            .map(|(name, _)| json!({"containerName": name.as_str(), "condition": "SUCCESS"}))
            .collect();
        set_list(&mut own, "dependsOn", before);
        let mut containers = vec![own];
        for (name, sidecar) in sidecars {
            containers.push(self.sidecar(surroundings, name, sidecar, &log)?);
        }
        self.task("", (self.service.cpu, self.service.memory), containers)
    }

    /// The task definition of a part of a migration: the service's own image, roles, variables and secrets, with another command.
    /// It listens on nothing, and nothing runs beside it.
    ///
    /// # Errors
    /// As [`Self::service_task`].
    pub fn migration_task(
        &self,
        surroundings: &Surroundings,
        part: Part,
        command: &[String],
    ) -> Result<TaskDefinition, TaskError> {
        let group = self.outputs.migration_log_group.as_ref().unwrap_or(&self.outputs.log_group);
        self.one_off_task(surroundings, part.suffix(), &Log { group, stream_prefix: part.stream() }, command)
    }

    /// The task definition of a smoke test, one of [`crate::smoke::TASKS`].
    ///
    /// # Errors
    /// As [`Self::service_task`].
    pub fn smoke_task(
        &self,
        surroundings: &Surroundings,
        kind: &str,
        command: &[String],
    ) -> Result<TaskDefinition, TaskError> {
        let log = Log { group: &self.outputs.log_group, stream_prefix: kind };
        self.one_off_task(surroundings, &format!("_{kind}"), &log, command)
    }

    fn one_off_task(
        &self,
        surroundings: &Surroundings,
        suffix: &str,
        log: &Log<'_>,
        command: &[String],
    ) -> Result<TaskDefinition, TaskError> {
        let own = self.own_container(surroundings, command, log)?;
        let mut task = self.task(suffix, (self.service.cpu, self.service.memory), vec![own])?;
        if let Some(container) =
            task.fields.get_mut("containerDefinitions").and_then(|all| all.get_mut(0)).and_then(Value::as_object_mut)
        {
            container.remove("portMappings");
            container.remove("dependsOn");
        }
        Ok(task)
    }

    fn own_container(
        &self,
        surroundings: &Surroundings,
        command: &[String],
        log: &Log<'_>,
    ) -> Result<Map<String, Value>, TaskError> {
        let Service { entrypoint, port, host_port, env, secrets, sidecars, cpu, .. } = self.service;
        // On instances CPU units are a share: a task has more while the others leave some. On Fargate the task's size is all
        // there is, and its containers need no part of it.
        let beside: u32 = sidecars.values().filter_map(|sidecar| sidecar.cpu).sum();
        let container = Container {
            name: self.name.as_str(),
            image: self.image(surroundings)?,
            command,
            entrypoint,
            essential: true,
            port: *port,
            host_port: *host_port,
            env,
            secrets,
            cpu: self.spec.cluster.ec2.as_ref().map(|_| cpu.saturating_sub(beside)),
            memory: None,
        };
        self.container(surroundings, &container, log)
    }

    fn sidecar(
        &self,
        surroundings: &Surroundings,
        name: &ComponentName,
        sidecar: &Sidecar,
        log: &Log<'_>,
    ) -> Result<Map<String, Value>, TaskError> {
        let Sidecar { image, command, port, cpu, memory, essential, before, env, secrets } = sidecar;
        let container = Container {
            name: name.as_str(),
            image: image.as_str().to_owned(),
            command,
            entrypoint: &[],
            essential: *essential && !before,
            port: *port,
            host_port: None,
            env,
            secrets,
            cpu: *cpu,
            memory: *memory,
        };
        self.container(surroundings, &container, log)
    }

    fn container(
        &self,
        surroundings: &Surroundings,
        container: &Container<'_>,
        log: &Log<'_>,
    ) -> Result<Map<String, Value>, TaskError> {
        let mut env = Vec::new();
        for (name, value) in container.env {
            let value = match value {
                EnvValue::Text(text) => text,
                EnvValue::Ref(reference) => self.referred(&self.platform.values, reference)?,
            };
            env.push(json!({"name": name, "value": value}));
        }
        let owner = self.owner()?;
        let mut secrets = Vec::new();
        for (name, secret) in container.secrets {
            let from = match secret {
                SecretRef::Ref(reference) => self.referred(&self.platform.secrets, reference)?.clone(),
                SecretRef::Secretsmanager(name) => owner.secret(&surroundings.region, name),
                SecretRef::Ssm(path) => owner.parameter(&surroundings.region, path),
            };
            secrets.push(json!({"name": name, "valueFrom": from}));
        }
        // In `bridge` mode the host port 0 lets ECS choose a free one for each task.
        let port = container.port.map(|port| match self.networking() {
            Networking::Awsvpc => json!({"containerPort": port, "protocol": "tcp"}),
            Networking::Bridge => {
                json!({"containerPort": port, "hostPort": container.host_port.unwrap_or(0), "protocol": "tcp"})
            }
        });
        let mut fields = Map::new();
        fields.insert("name".to_owned(), json!(container.name));
        fields.insert("image".to_owned(), json!(container.image));
        fields.insert("essential".to_owned(), json!(container.essential));
        set_list(&mut fields, "command", container.command.iter().map(|part| json!(part)).collect());
        set_list(&mut fields, "entryPoint", container.entrypoint.iter().map(|part| json!(part)).collect());
        set_list(&mut fields, "portMappings", port.into_iter().collect());
        set_list(&mut fields, "environment", env);
        set_list(&mut fields, "secrets", secrets);
        fields.extend(container.cpu.map(|cpu| ("cpu".to_owned(), json!(cpu))));
        fields.extend(container.memory.map(|memory| ("memory".to_owned(), json!(memory))));
        fields.insert("logConfiguration".to_owned(), log.configuration(&surroundings.region));
        Ok(fields)
    }

    /// A task definition of these containers, with the manifest's overrides.
    fn task(
        &self,
        suffix: &str,
        (cpu, memory): (u32, u32),
        containers: Vec<Map<String, Value>>,
    ) -> Result<TaskDefinition, TaskError> {
        let mut task = self.bare_task(suffix, (cpu, memory), containers)?;
        let own_role = json!(self.outputs.task_role);
        task.fields.insert("taskRoleArn".to_owned(), own_role);
        overrides::apply(&mut task.fields, self.name, self.service)
            .map_err(|Override { key, why }| TaskError::Override { service: self.name.clone(), key, why })?;
        Ok(task)
    }

    fn bare_task(
        &self,
        suffix: &str,
        (cpu, memory): (u32, u32),
        containers: Vec<Map<String, Value>>,
    ) -> Result<TaskDefinition, TaskError> {
        self.owner()?;
        let ec2 = self.spec.cluster.ec2.as_ref();
        let mut fields = Map::new();
        fields.insert("requiresCompatibilities".to_owned(), json!([if ec2.is_some() { "EC2" } else { "FARGATE" }]));
        fields.insert(
            "networkMode".to_owned(),
            json!(match self.networking() {
                Networking::Awsvpc => "awsvpc",
                Networking::Bridge => "bridge",
            }),
        );
        if ec2.is_none() {
            fields.insert("cpu".to_owned(), json!(cpu.to_string()));
        }
        fields.insert("memory".to_owned(), json!(memory.to_string()));
        fields.insert("executionRoleArn".to_owned(), json!(self.outputs.execution_role));
        let is_arm = ec2.is_some_and(|ec2| placement::is_arm(ec2.instance_type.as_str()));
        fields.insert(
            "runtimePlatform".to_owned(),
            json!({"cpuArchitecture": if is_arm { "ARM64" } else { "X86_64" }, "operatingSystemFamily": "LINUX"}),
        );
        fields.insert("containerDefinitions".to_owned(), containers.into_iter().map(Value::Object).collect());
        let component = Component::Service(self.name.clone());
        Ok(TaskDefinition {
            family: format!("{}{suffix}", service_name(self.app, self.environment, self.name)),
            fields,
            tags: tags(self.app, self.environment, &component),
        })
    }

    fn image(&self, surroundings: &Surroundings) -> Result<String, TaskError> {
        let wanted = &self.service.image;
        match (self.source, &wanted.repository) {
            (Source::Repository { repository, digest }, Some(own)) if repository == own => {
                let uri = self.outputs.repository_uri.as_deref().unwrap_or_default();
                let (host, path) = uri
                    .split_once('/')
                    .filter(|(_, path)| *path == repository.as_str())
                    .ok_or_else(|| self.unusable(format!("`{uri}` is not the URI of the repository `{repository}`")))?;
                let host = surroundings.registry_mirror.as_deref().unwrap_or(host);
                Ok(format!("{host}/{path}@{digest}"))
            }
            (Source::Repository { repository, .. }, Some(own)) => Err(TaskError::OtherRepository {
                service: self.name.clone(),
                given: repository.clone(),
                wanted: own.clone(),
            }),
            (Source::Public(image), None) if wanted.public.is_some() => Ok(image.as_str().to_owned()),
            (Source::Repository { repository, digest }, None) => {
                Err(TaskError::OtherKind { service: self.name.clone(), given: format!("{repository}@{digest}") })
            }
            (Source::Public(image), _) => {
                Err(TaskError::OtherKind { service: self.name.clone(), given: image.as_str().to_owned() })
            }
        }
    }

    fn networking(&self) -> Networking {
        self.spec.cluster.ec2.as_ref().map_or(Networking::Awsvpc, |ec2| ec2.networking)
    }

    fn referred<'a>(
        &self,
        to: &'a BTreeMap<String, String>,
        reference: &crate::manifest::Reference,
    ) -> Result<&'a String, TaskError> {
        let text = reference.to_string();
        to.get(&text).ok_or_else(|| self.unusable(format!("there is nothing that `{{ref: {text}}}` stands for")))
    }

    fn owner(&self) -> Result<Owner<'_>, TaskError> {
        let role = &self.outputs.execution_role;
        Owner::of_role(role).ok_or_else(|| self.unusable(format!("`{role}` is not a role's ARN")))
    }

    fn unusable(&self, what: String) -> TaskError {
        TaskError::Provisioned { service: self.name.clone(), what }
    }
}

impl Log<'_> {
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/specify-log-config.html>
    fn configuration(&self, region: &str) -> Value {
        let Log { group, stream_prefix } = self;
        let options = json!({"awslogs-group": group, "awslogs-region": region, "awslogs-stream-prefix": stream_prefix});
        json!({"logDriver": "awslogs", "options": options})
    }
}

/// Sets a list, unless it is empty: ECS takes an empty one for none.
fn set_list(fields: &mut Map<String, Value>, key: &str, list: Vec<Value>) {
    if !list.is_empty() {
        fields.insert(key.to_owned(), Value::Array(list));
    }
}

/// Whose secrets a task reads: partition and account, as the execution role's ARN names them.
struct Owner<'a> {
    partition: &'a str,
    account: &'a str,
}

impl<'a> Owner<'a> {
    fn of_role(arn: &'a str) -> Option<Owner<'a>> {
        let mut parts = arn.split(':');
        let (head, partition, service, region, account) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let valid = head == "arn" && service == "iam" && region.is_empty() && parts.next()?.starts_with("role/");
        (valid && !account.is_empty()).then_some(Owner { partition, account })
    }

    /// The form that ECS takes. A secret must be named by an ARN; without the six characters that Secrets Manager appends, it
    /// is a partial ARN, which finds the secret by its name as long as that does not itself end in a hyphen and six characters.
    /// The two empty parts after a key are version stage and id.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html>
    /// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html#ARN_secretnamehyphen>
    fn secret(&self, region: &str, reference: &str) -> String {
        let secret = format!("arn:{}:secretsmanager:{region}:{}:secret:", self.partition, self.account);
        match reference.split_once(':') {
            Some((name, key)) => format!("{secret}{name}:{key}::"),
            None => format!("{secret}{reference}"),
        }
    }

    /// A parameter may be named by its ARN anywhere. The path's own slash is the one after `parameter`.
    fn parameter(&self, region: &str, path: &str) -> String {
        format!("arn:{}:ssm:{region}:{}:parameter{path}", self.partition, self.account)
    }
}

/// A task as ECS describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Its ARN.
    pub arn: String,
    /// The revision it runs.
    pub task_definition: String,
    /// Who started it: a deployment's id, or what RunTask was given.
    pub started_by: Option<String>,
    /// When it was asked for.
    pub created_at: Option<Timestamp>,
    /// When its containers ran.
    pub started_at: Option<Timestamp>,
    /// Where it is in its life: `PROVISIONING` … `RUNNING` … `STOPPED`.
    pub status: String,
    /// Whether it is meant to stop, or has.
    pub stopping: bool,
    /// Why it stopped, as a code: `EssentialContainerExited`, `TaskFailedToStart`, `UserInitiated`, …
    pub stop_code: Option<String>,
    /// Why it stopped, in ECS's words.
    pub stopped_reason: Option<String>,
    /// The instance it runs on, as ECS knows it, where it runs on one.
    pub instance: Option<String>,
    /// Its private addresses; where it has no interface of its own, the instance's id, by which load balancers know it then.
    pub addresses: Vec<String>,
    /// The host's ports, by the container's, where they differ.
    pub ports: BTreeMap<u16, u16>,
    /// Its containers.
    pub containers: Vec<TaskContainer>,
}

/// A container of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskContainer {
    /// Its name.
    pub name: String,
    /// The digest it runs, once its image is pulled.
    pub digest: Option<String>,
    /// What its process ended with. Absent while it runs, and for ever when it never ran.
    pub exit_code: Option<i32>,
    /// Why it could not run.
    pub reason: Option<String>,
}

impl Task {
    /// Whether it is over. ECS says so last, after the containers are gone.
    pub fn stopped(&self) -> bool {
        self.status == "STOPPED"
    }

    /// Whether its containers run.
    pub fn running(&self) -> bool {
        self.status == "RUNNING"
    }

    /// Its id: the last part of the ARN.
    pub fn id(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or(&self.arn)
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&TaskContainer> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// Whether a load balancer that sends requests to this port of it knows it under this address and port.
    pub fn is_reached_at(&self, container_port: u16, address: &str, port: u16) -> bool {
        let host_port = self.ports.get(&container_port).copied().unwrap_or(container_port);
        host_port == port && self.addresses.iter().any(|one| one == address)
    }

    /// Whether nothing says that the container runs another digest than this.
    ///
    /// The digest is absent until the image is pulled, and ECS leaves it out for some registries. The revision then is the
    /// proof: its image is named by digest, so what runs of it can be nothing else.
    pub fn runs(&self, container: &str, digest: Option<&Digest>) -> bool {
        match (self.container(container).and_then(|c| c.digest.as_deref()), digest) {
            (Some(running), Some(wanted)) => running == wanted.as_str(),
            _ => true,
        }
    }

    /// Why it stopped, for a person: the reason, and with what the container's process ended.
    pub fn why_stopped(&self, container: &str) -> String {
        let beside =
            self.containers.iter().find(|one| one.name != container && one.exit_code.is_some_and(|code| code != 0));
        let container = self.container(container);
        let reason = self
            .stopped_reason
            .as_deref()
            .filter(|reason| !reason.is_empty())
            .or(self.stop_code.as_deref())
            .unwrap_or("it stopped without a reason");
        let mut text = clipped(reason, 400);
        match container.map(|c| c.exit_code) {
            Some(Some(code)) => text.push_str(&format!(" (exit code {code}{})", meaning_of(code))),
            _ => text.push_str(" (no exit code: the container never ran)"),
        }
        if let Some(more) = container.and_then(|c| c.reason.as_deref()).filter(|more| !reason.contains(*more)) {
            text.push_str(": ");
            text.push_str(&clipped(more, 300));
        }
        if let Some((beside, code)) = beside.and_then(|beside| Some((beside, beside.exit_code?))) {
            text.push_str(&format!(
                "; its container `{}` ended with exit code {code}{}",
                beside.name,
                meaning_of(code)
            ));
        }
        text
    }
}

/// What a shell or the kernel means by an exit code.
fn meaning_of(code: i32) -> &'static str {
    match code {
        126 => ", the command cannot be executed",
        127 => ", the command was not found",
        134 => ", aborted",
        137 => ", killed, often for lack of memory",
        139 => ", a segmentation fault",
        143 => ", asked to stop",
        _ => "",
    }
}

/// At most so many characters of a text.
pub fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The last lines of a log, in one line, for a reason; nothing where there are none.
pub fn last_lines(lines: &[String]) -> String {
    let last: Vec<&str> = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    if last.is_empty() {
        return String::new();
    }
    let text = last.join(" | ");
    // The end says why.
    let skip = text.chars().count().saturating_sub(1200);
    format!("; last log lines: {}{}", if skip > 0 { "…" } else { "" }, text.chars().skip(skip).collect::<String>())
}

/// A revision that a release runs, and how it was reached before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The revision's ARN.
    pub task_definition: String,
    /// The digest of its image, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

#[cfg(test)]
mod tests;
