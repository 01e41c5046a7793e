//! One pass over a migration: load what is known of it, look at its task, ask the domain, act, record.

use jiff::Timestamp;
use serde::Deserialize;
use shipway_aws::{AwsError, PublicError, Store, store::StoreError};
use shipway_domain::{
    failure::Failure,
    message::{Pass, PassInput, Run, Summary},
    name::ComponentName,
    network::NetworkOutputs,
    release::Step,
    task::{
        self, DescribedTaskDefinition, Surroundings, Task, TaskDefinition, Wanted,
        migration::{self, Action, Ending, Progress},
    },
};
use shipway_ecs::ServiceError;

/// The progress of a migration in its release's record.
const PROGRESS: &str = "migrate";

/// What a machine asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Run the migration to its end.
    Migrate,
}

/// What can go wrong with a migration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the migration of `{service}` failed, and the service was not touched: {reason}")]
    Failed { service: ComponentName, reason: String },
    #[error("ECS could not place the migration of `{service}`: {reason}")]
    NotPlaced { service: ComponentName, reason: String },
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl PublicError for Error {
    fn failure(&self) -> Failure {
        match self {
            Error::Service(error) => error.failure(),
            Error::Failed { .. } => Failure::Migration,
            Error::NotPlaced { reason, .. } => failure_to_place(reason),
            Error::Store(error) => error.failure(),
            Error::Aws(error) => shipway_ecs::failure(error),
        }
    }
}

/// What a reason of RunTask's means: a limit of the account, a cluster that is gone, or capacity that may come back.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html>
fn failure_to_place(reason: &str) -> Failure {
    let lower = reason.to_ascii_lowercase();
    if lower.contains("limit") {
        Failure::Quota
    } else if ["missing", "inactive", "attribute", "agent"].iter().any(|one| lower.starts_with(one)) {
        Failure::Conflict
    } else {
        Failure::Transient
    }
}

/// A task to run.
#[derive(Debug)]
pub(crate) struct NewTask<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) task_definition: &'a str,
    pub(crate) network: &'a NetworkOutputs,
    /// By what it is found again.
    pub(crate) started_by: &'a str,
    /// Makes the same call twice one task.
    pub(crate) token: &'a str,
    pub(crate) run: &'a Run,
}

/// RunTask's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// The task.
    Task(String),
    /// Why there is none.
    Refused(String),
}

/// The calls beside the table's: ECS's and the log's.
pub(crate) trait Calls {
    async fn task_definition(&self, name: &str) -> Result<Option<DescribedTaskDefinition>, AwsError>;
    async fn register(&self, wanted: &TaskDefinition) -> Result<String, AwsError>;
    /// The task of this family that was started under this name, running or stopped.
    async fn find(&self, cluster: &str, family: &str, started_by: &str) -> Result<Option<String>, AwsError>;
    async fn run(&self, new: NewTask<'_>) -> Result<Placed, AwsError>;
    async fn task(&self, cluster: &str, arn: &str) -> Result<Option<Task>, AwsError>;
    async fn stop(&self, cluster: &str, arn: &str) -> Result<(), AwsError>;
    async fn log_tail(&self, group: &str, stream: &str) -> Result<Vec<String>, AwsError>;
}

/// Makes one pass.
pub(crate) async fn handle<C: Calls>(
    store: &Store,
    calls: &C,
    surroundings: &Surroundings,
    input: PassInput<Ask>,
    now: Timestamp,
) -> Result<Pass<Summary>, Error> {
    let PassInput { run, action: Ask::Migrate } = &input;
    let (name, repository, digest) = shipway_ecs::image_of(run)?;
    // From here on a newer release queues: nobody stops a migration half way.
    store.commit(run, now).await?;
    let progress: Option<Progress> = store.progress(run, PROGRESS).await?;
    if let Some(ending) = progress.as_ref().and_then(|progress| progress.ending.as_ref()) {
        return ended(name, ending);
    }

    let (record, manifest) = store.applied(&run.app, &run.environment).await?;
    let missing = |what| ServiceError::NotProvisioned { service: name.clone(), what };
    let outputs = record.platform.services.get(name).ok_or_else(|| missing("the repository"))?;
    let cluster = record.platform.cluster.as_deref().ok_or_else(|| missing("the cluster"))?;
    let pass = Migration { store, calls, run, name, cluster, now };
    let progress = match progress {
        Some(progress) => progress,
        // Only the beginning goes by the manifest: another one that is applied meanwhile changes nothing about this release.
        None => {
            let service = manifest.spec.services.get(name).ok_or_else(|| ServiceError::Unknown(name.clone()))?;
            let Some(migrate) = &service.migrate else {
                return Ok(Pass::Done(Summary { note: format!("`{name}` has no migration") }));
            };
            let (app, environment) = (&run.app, &run.environment);
            let wanted = Wanted { app, environment, name, service, outputs, repository, digest }
                .migration_task(surroundings, &migrate.command)
                .map_err(ServiceError::from)?;
            let progress = Progress::new(pass.revision(&wanted).await?, migrate.timeout.seconds(), now);
            pass.save(&progress).await?;
            progress
        }
    };
    let Some(arn) = progress.task.clone() else {
        let network = record.network.as_ref().ok_or_else(|| missing("the network"))?;
        return pass.start(progress, network).await;
    };
    let task = calls.task(cluster, &arn).await?;
    match migration::next_action(&progress, task.as_ref(), name.as_str(), now) {
        Action::Wait { seconds, note } => Ok(Pass::Again { seconds, note }),
        Action::Stop => pass.stop(progress, &arn).await,
        Action::End(ending) => pass.end(progress, ending, &outputs.log_group, &arn).await,
    }
}

fn ended(service: &ComponentName, ending: &Ending) -> Result<Pass<Summary>, Error> {
    match ending {
        Ending::Succeeded => {
            Ok(Pass::Done(Summary { note: format!("the migration of `{service}` ended with exit code 0") }))
        }
        Ending::Failed(reason) => Err(Error::Failed { service: service.clone(), reason: reason.clone() }),
    }
}

/// The family of a revision: `arn:…:task-definition/<family>:<number>`.
fn family(task_definition: &str) -> &str {
    let name = task_definition.rsplit('/').next().unwrap_or(task_definition);
    name.split(':').next().unwrap_or(name)
}

/// A migration under way, with what acting on it needs.
struct Migration<'a, C> {
    store: &'a Store,
    calls: &'a C,
    run: &'a Run,
    name: &'a ComponentName,
    cluster: &'a str,
    now: Timestamp,
}

impl<C: Calls> Migration<'_, C> {
    /// The revision of the migration's task definition: the newest of its family, or a new one. RegisterTaskDefinition has no
    /// token, so an earlier pass may have registered it without being able to say so.
    async fn revision(&self, wanted: &TaskDefinition) -> Result<String, Error> {
        if let Some(described) = self.calls.task_definition(&wanted.family).await?
            && wanted.is(&described)
        {
            return Ok(described.arn);
        }
        Ok(self.calls.register(wanted).await?)
    }

    /// Starts the task, unless an earlier pass did whose answer was lost: looked for by its name, and behind that RunTask's
    /// own token, for what was just started may not be listed yet.
    async fn start(&self, mut progress: Progress, network: &NetworkOutputs) -> Result<Pass<Summary>, Error> {
        let started_by = self.run.release.as_str();
        let placed = match self.calls.find(self.cluster, family(&progress.task_definition), started_by).await? {
            Some(arn) => Placed::Task(arn),
            None => {
                let token = format!("{started_by}-{}", progress.refused);
                let task_definition = &progress.task_definition;
                let new = NewTask {
                    cluster: self.cluster,
                    task_definition,
                    network,
                    started_by,
                    token: &token,
                    run: self.run,
                };
                self.calls.run(new).await?
            }
        };
        match placed {
            Placed::Task(arn) => {
                let note = format!("started the migration as task {}", arn.rsplit('/').next().unwrap_or(&arn));
                progress.task = Some(arn);
                progress.since = self.now;
                self.tell(&progress, note.clone()).await?;
                Ok(Pass::Again { seconds: 2, note })
            }
            Placed::Refused(reason) => {
                // Asked again under the same token, ECS might only repeat itself.
                progress.refused += 1;
                self.save(&progress).await?;
                Err(Error::NotPlaced { service: self.name.clone(), reason })
            }
        }
    }

    async fn stop(&self, mut progress: Progress, arn: &str) -> Result<Pass<Summary>, Error> {
        let note = "the migration did not end in its time; stopping it";
        if !progress.timed_out {
            progress.timed_out = true;
            self.tell(&progress, note.to_owned()).await?;
        }
        self.calls.stop(self.cluster, arn).await?;
        Ok(Pass::Again { seconds: 3, note: note.to_owned() })
    }

    async fn end(
        &self,
        mut progress: Progress,
        ending: Ending,
        log_group: &str,
        arn: &str,
    ) -> Result<Pass<Summary>, Error> {
        let ending = match ending {
            Ending::Succeeded => ending,
            Ending::Failed(reason) => {
                let lines = self.log_tail(log_group, arn).await;
                // The log driver sends a container's last words a moment after its end.
                if lines.is_empty() && !progress.log_awaited {
                    progress.log_awaited = true;
                    self.save(&progress).await?;
                    return Ok(Pass::Again {
                        seconds: 3,
                        note: "the migration failed; waiting for its log".to_owned(),
                    });
                }
                Ending::Failed(format!("{reason}{}", task::last_lines(&lines)))
            }
        };
        progress.ending = Some(ending.clone());
        let answer = ended(self.name, &ending);
        let what = match &answer {
            Err(error) => error.to_string(),
            Ok(_) => "the migration ended with exit code 0".to_owned(),
        };
        self.tell(&progress, what).await?;
        answer
    }

    async fn save(&self, progress: &Progress) -> Result<(), Error> {
        Ok(self.store.save_progress(self.run, PROGRESS, progress, self.now).await?)
    }

    /// Saves the progress together with what it adds to the release's story.
    async fn tell(&self, progress: &Progress, what: String) -> Result<(), Error> {
        tracing::info!(release = self.run.release.as_str(), what);
        let step = Step { at: self.now, by: "run-migrations".to_owned(), what };
        Ok(self.store.save_progress_and_step(self.run, PROGRESS, progress, step).await?)
    }

    /// The last log lines of the task. Without them the failure stands all the same.
    async fn log_tail(&self, group: &str, arn: &str) -> Vec<String> {
        let stream = task::log_stream(task::MIGRATION_STREAM, self.name.as_str(), arn);
        self.calls.log_tail(group, &stream).await.unwrap_or_else(|error| {
            tracing::warn!(%error, stream, "the log cannot be read");
            Vec::new()
        })
    }
}

#[cfg(test)]
mod tests;
