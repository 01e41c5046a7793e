//! Task definitions: what a service's containers, and its migration, run as; and what ECS shows of a task that runs one.
//!
//! An image is always named by its digest, so a task definition *is* the identity of what runs: two tasks of one revision run
//! the same bytes. Settings count too: another value in `env` is another revision with the same digest.

pub mod migration;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    manifest::{SecretRef, Service},
    name::{AppName, Component, ComponentName, Digest, EnvironmentName, RepositoryName},
    platform::ServiceOutputs,
};

/// The first part of a service's log streams: `service/<container>/<task id>`.
pub const SERVICE_STREAM: &str = "service";

/// The first part of a migration's log streams.
pub const MIGRATION_STREAM: &str = "migrate";

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
}

/// Where tasks run, and from where they pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The region.
    pub region: String,
    /// The registry to pull from instead of ECR's own host, for a cloud whose registry is not reached under ECR's name.
    pub registry_mirror: Option<String>,
}

/// The processor that an image was built for.
///
/// A digest does not say which, and the manifest has no key for it: images for x86-64 are what Fargate runs unless told
/// otherwise, and what every build machine makes by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit Intel and AMD.
    #[default]
    X86_64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// The word that ECS uses.
    pub const fn word(self) -> &'static str {
        match self {
            Architecture::X86_64 => "X86_64",
            Architecture::Arm64 => "ARM64",
        }
    }
}

/// A task definition as it should be: Fargate, `awsvpc`, Linux, one essential container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDefinition {
    /// The family: all revisions of one purpose.
    pub family: String,
    /// CPU units.
    pub cpu: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// The role with which ECS pulls the image, writes the log and reads the secrets.
    pub execution_role: String,
    /// The role of the container itself.
    pub task_role: String,
    /// The processor.
    pub architecture: Architecture,
    /// The container.
    pub container: Container,
    /// Tags of every revision.
    pub tags: BTreeMap<String, String>,
}

/// The one container of a task definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name: the service's.
    pub name: String,
    /// The image, by digest.
    pub image: String,
    /// The command in place of the image's own; empty for the image's own.
    pub command: Vec<String>,
    /// The port it listens on.
    pub port: Option<u16>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Environment variables that ECS fills from these ARNs.
    pub secrets: BTreeMap<String, String>,
    /// Where its output goes.
    pub log: Log,
}

/// Where a container's output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The log group.
    pub group: String,
    /// The region it is in.
    pub region: String,
    /// The first part of the log stream's name.
    pub stream_prefix: String,
}

impl Log {
    /// The awslogs driver's options.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/specify-log-config.html>
    pub fn options(&self) -> BTreeMap<String, String> {
        [
            ("awslogs-group", &self.group),
            ("awslogs-region", &self.region),
            ("awslogs-stream-prefix", &self.stream_prefix),
        ]
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .into()
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

/// An image that a service should run.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The app.
    pub app: &'a AppName,
    /// The environment.
    pub environment: &'a EnvironmentName,
    /// The service's name.
    pub name: &'a ComponentName,
    /// What the manifest says of the service.
    pub service: &'a Service,
    /// What was provisioned for it.
    pub outputs: &'a ServiceOutputs,
    /// The repository of the image.
    pub repository: &'a RepositoryName,
    /// The image.
    pub digest: &'a Digest,
}

impl Wanted<'_> {
    /// The task definition of the service itself.
    ///
    /// # Errors
    /// An image of another repository; outputs that are not what provisioning makes.
    pub fn service_task(&self, surroundings: &Surroundings) -> Result<TaskDefinition, TaskError> {
        self.task(surroundings, "", SERVICE_STREAM, Vec::new())
    }

    /// The task definition of a one-off task: the service's own image, roles, variables and secrets, with another command.
    /// It listens on nothing.
    ///
    /// # Errors
    /// As [`Self::service_task`].
    pub fn migration_task(&self, surroundings: &Surroundings, command: &[String]) -> Result<TaskDefinition, TaskError> {
        let mut task = self.task(surroundings, "-migrate", MIGRATION_STREAM, command.to_vec())?;
        task.container.port = None;
        Ok(task)
    }

    fn task(
        &self,
        surroundings: &Surroundings,
        suffix: &str,
        stream_prefix: &str,
        command: Vec<String>,
    ) -> Result<TaskDefinition, TaskError> {
        let owner = Owner::of_role(&self.outputs.execution_role)
            .ok_or_else(|| self.unusable(format!("`{}` is not a role's ARN", self.outputs.execution_role)))?;
        let component = Component::Service(self.name.clone());
        Ok(TaskDefinition {
            family: format!("{}{suffix}", service_name(self.app, self.environment, self.name)),
            cpu: self.service.cpu,
            memory: self.service.memory,
            execution_role: self.outputs.execution_role.clone(),
            task_role: self.outputs.task_role.clone(),
            architecture: Architecture::default(),
            container: Container {
                name: self.name.to_string(),
                image: self.image(surroundings)?,
                command,
                port: self.service.port,
                env: self
                    .service
                    .env
                    .iter()
                    .filter_map(|(name, value)| Some((name.clone(), value.text()?.to_owned())))
                    .collect(),
                secrets: self
                    .service
                    .secrets
                    .iter()
                    .map(|(name, reference)| (name.clone(), owner.value_from(&surroundings.region, reference)))
                    .collect(),
                log: Log {
                    group: self.outputs.log_group.clone(),
                    region: surroundings.region.clone(),
                    stream_prefix: stream_prefix.to_owned(),
                },
            },
            tags: tags(self.app, self.environment, &component),
        })
    }

    fn image(&self, surroundings: &Surroundings) -> Result<String, TaskError> {
        if Some(self.repository) != self.service.image.repository.as_ref() {
            return Err(TaskError::OtherRepository {
                service: self.name.clone(),
                given: self.repository.clone(),
                wanted: self.service.image.repository.clone().unwrap_or_else(|| self.repository.clone()),
            });
        }
        let uri = self.outputs.repository_uri.as_deref().unwrap_or_default();
        let (host, path) = uri
            .split_once('/')
            .filter(|(_, path)| *path == self.repository.as_str())
            .ok_or_else(|| self.unusable(format!("`{uri}` is not the URI of the repository `{}`", self.repository)))?;
        let host = surroundings.registry_mirror.as_deref().unwrap_or(host);
        Ok(format!("{host}/{path}@{}", self.digest))
    }

    fn unusable(&self, what: String) -> TaskError {
        TaskError::Provisioned { service: self.name.clone(), what }
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
    /// The two empty parts after a key are version stage and id. A parameter may be named by its ARN anywhere.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html>
    /// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html#ARN_secretnamehyphen>
    fn value_from(&self, region: &str, reference: &SecretRef) -> String {
        let Owner { partition, account } = self;
        match reference {
            SecretRef::Secretsmanager(reference) => {
                let secret = format!("arn:{partition}:secretsmanager:{region}:{account}:secret:");
                match reference.split_once(':') {
                    Some((name, key)) => format!("{secret}{name}:{key}::"),
                    None => format!("{secret}{reference}"),
                }
            }
            // The path's own slash is the one after `parameter`.
            SecretRef::Ssm(path) => format!("arn:{partition}:ssm:{region}:{account}:parameter{path}"),
            SecretRef::Ref(reference) => reference.to_string(),
        }
    }
}

/// A task definition as ECS describes it: what was left out may have come back filled in, and the other way round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedTaskDefinition {
    /// The revision's ARN.
    pub arn: String,
    /// Whether tasks can be started from it.
    pub active: bool,
    /// The family.
    pub family: String,
    /// CPU units.
    pub cpu: Option<String>,
    /// Memory in MiB.
    pub memory: Option<String>,
    /// The execution role.
    pub execution_role: Option<String>,
    /// The task role.
    pub task_role: Option<String>,
    /// The network mode.
    pub network_mode: Option<String>,
    /// The launch types it was registered for.
    pub requires_compatibilities: Vec<String>,
    /// The processor.
    pub architecture: Option<String>,
    /// The operating system.
    pub system: Option<String>,
    /// Its containers.
    pub containers: Vec<DescribedContainer>,
    /// Whether it sets anything that Shipway never sets: volumes, a proxy, namespaces shared with the host.
    pub has_more: bool,
}

/// A container of a task definition as ECS describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedContainer {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// The command in place of the image's own.
    pub command: Vec<String>,
    /// Whether the task stops with it; yes unless said otherwise.
    pub essential: Option<bool>,
    /// Its ports.
    pub ports: Vec<DescribedPort>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// Environment variables from secrets.
    pub secrets: Vec<(String, String)>,
    /// The log driver.
    pub log_driver: Option<String>,
    /// The log driver's options.
    pub log_options: BTreeMap<String, String>,
    /// Whether it sets anything that Shipway never sets: an entry point, mounts, limits, health checks.
    pub has_more: bool,
}

/// A port of a container as ECS describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedPort {
    /// The port in the container.
    pub container: u16,
    /// The port on the host; in `awsvpc` mode the container's, which ECS fills in.
    pub host: Option<u16>,
    /// The protocol; `tcp` unless said otherwise.
    pub protocol: Option<String>,
}

impl TaskDefinition {
    /// Whether a revision that ECS describes is this task definition, once what may be left out is filled in.
    pub fn is(&self, described: &DescribedTaskDefinition) -> bool {
        let [container] = described.containers.as_slice() else { return false };
        described.active
            && !described.has_more
            && described.family == self.family
            && described.cpu.as_deref() == Some(self.cpu.to_string().as_str())
            && described.memory.as_deref() == Some(self.memory.to_string().as_str())
            && described.execution_role.as_deref() == Some(self.execution_role.as_str())
            && described.task_role.as_deref() == Some(self.task_role.as_str())
            && described.network_mode.as_deref() == Some("awsvpc")
            && described.requires_compatibilities.iter().any(|one| one == "FARGATE")
            // Without a platform Fargate takes Linux on x86-64.
            && described.architecture.as_deref().unwrap_or(Architecture::X86_64.word()) == self.architecture.word()
            && described.system.as_deref().unwrap_or("LINUX") == "LINUX"
            && self.container.is(container)
    }
}

impl Container {
    fn is(&self, described: &DescribedContainer) -> bool {
        let map = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<BTreeMap<_, _>>();
        let port_is = |port: &DescribedPort| {
            Some(port.container) == self.port
                && port.host.is_none_or(|host| host == port.container)
                && port.protocol.as_deref().is_none_or(|protocol| protocol == "tcp")
        };
        !described.has_more
            && described.name == self.name
            && described.image == self.image
            && described.command == self.command
            && described.essential.unwrap_or(true)
            && described.ports.len() == usize::from(self.port.is_some())
            && described.ports.iter().all(port_is)
            && map(&described.env) == self.env
            && map(&described.secrets) == self.secrets
            && described.log_driver.as_deref() == Some("awslogs")
            && described.log_options == self.log.options()
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
    /// Its private addresses.
    pub addresses: Vec<String>,
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
