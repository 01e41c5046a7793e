//! One pass over what comes before a rollout, or over the smoke tests after it that are tasks: load what is known of it, look at
//! its task, ask the domain, act, record.
//!
//! First, before a migration and where the manifest asks for them, snapshots of the service's databases. Then the databases that the service uses and that did not come with their server, once for each; then its migration, and what
//! the manifest has run after that.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;
use shipway_aws::{AwsError, PublicError, Store, store::StoreError};
use shipway_domain::{
    failure::Failure,
    manifest::DatabaseEngine,
    message::{Pass, PassInput, Run, Summary},
    name::ComponentName,
    task::{
        DescribedTaskDefinition, Placement, Surroundings, Task, TaskDefinition, Wanted,
        databases::{self, Made, Making},
        migration::{Ending, Part, Progress},
        snapshots::Snapshot,
    },
};
use shipway_ecs::{Ground, ServiceError};

use crate::{
    job::{Job, Kind},
    smoke,
    snapshots::{self, NewSnapshot},
};

/// The migration itself, whose progress says what follows it.
const MIGRATION: Kind = Kind::Migration(Part::Migrate);

/// What is remembered of an environment's databases, in whichever release they were made.
const MADE: &str = "databases";

/// What a machine asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Make the databases that the service uses, and run the migration to its end.
    Migrate,
    /// Make the databases: the image was live before, or has no migration.
    Databases,
    /// The new version serves: run the smoke tests that are tasks.
    Smoke,
}

/// What can go wrong with a migration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the {} of `{service}` failed, and the service was not touched: {reason}", .part.what())]
    Failed { service: ComponentName, part: Part, reason: String },
    #[error("the smoke test `{command}` of `{service}` failed: {reason}")]
    Smoke { service: ComponentName, command: String, reason: String },
    #[error("making the databases {making} failed, and `{service}` was not touched: {reason}")]
    NotMade { service: ComponentName, making: String, reason: String },
    #[error(
        "the snapshot {name} of the database {server} failed, so nothing was migrated and `{service}` was not touched: {reason}"
    )]
    NotSaved { service: ComponentName, server: ComponentName, name: String, reason: String },
    #[error(
        "a snapshot {name} is there that this release did not take of the database {server}, by its tags or what it is of;          look whose it is, delete it, and start the execution again"
    )]
    OthersSnapshot { server: ComponentName, name: String },
    #[error("ECS could not place the task for the {what} of `{service}`: {reason}")]
    NotPlaced { service: ComponentName, what: &'static str, reason: String },
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
            Error::Failed { .. } | Error::NotMade { .. } | Error::NotSaved { .. } => Failure::Migration,
            Error::Smoke { .. } => Failure::Smoke,
            Error::OthersSnapshot { .. } => Failure::Conflict,
            Error::NotPlaced { reason, .. } => failure_to_place(reason),
            Error::Store(error) => error.failure(),
            Error::Aws(error) => match error.code() {
                Some("DBInstanceNotFound" | "DBClusterNotFoundFault" | "KMSKeyNotAccessibleFault") => Failure::Conflict,
                _ => shipway_ecs::failure(error),
            },
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
    pub(crate) placement: &'a Placement,
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

/// The calls beside the table's: ECS's, the log's and RDS's.
pub(crate) trait Calls {
    async fn task_definition(&self, name: &str) -> Result<Option<DescribedTaskDefinition>, AwsError>;
    async fn register(&self, wanted: &TaskDefinition) -> Result<String, AwsError>;
    /// The task of this family that was started under this name, running or stopped.
    async fn find(&self, cluster: &str, family: &str, started_by: &str) -> Result<Option<String>, AwsError>;
    async fn run(&self, new: NewTask<'_>) -> Result<Placed, AwsError>;
    async fn task(&self, cluster: &str, arn: &str) -> Result<Option<Task>, AwsError>;
    async fn stop(&self, cluster: &str, arn: &str) -> Result<(), AwsError>;
    async fn log_tail(&self, group: &str, stream: &str) -> Result<Vec<String>, AwsError>;
    /// The snapshot of this name, of an instance or of a cluster.
    async fn snapshot(&self, engine: DatabaseEngine, name: &str) -> Result<Option<Snapshot>, AwsError>;
    /// Takes a snapshot, or says why RDS does not just now.
    async fn take_snapshot(&self, new: NewSnapshot<'_>) -> Result<Option<String>, AwsError>;
}

/// Makes one pass.
pub(crate) async fn handle<C: Calls>(
    store: &Store,
    calls: &C,
    surroundings: &Surroundings,
    input: PassInput<Ask>,
    now: Timestamp,
) -> Result<Pass<Summary>, Error> {
    let PassInput { run, action } = &input;
    let (name, _) = shipway_ecs::image_of(run)?;
    if *action == Ask::Smoke {
        return Box::pin(smoke::tasks(store, calls, surroundings, run, name, now)).await;
    }
    let migrates = *action == Ask::Migrate;
    let migration: Option<Progress> = if migrates {
        // From here on a newer release queues: nobody stops a migration half way.
        store.commit(run, now).await?;
        store.progress(run, MIGRATION.progress()).await?
    } else {
        store.renew(run, now).await?;
        None
    };
    let ground = Ground::of(store, run, name).await?;
    let cluster = ground.cluster()?;
    let job = |kind| Job { store, calls, run, name, cluster, now, kind };
    let migration = match migration {
        Some(progress) => progress,
        // Only the beginning goes by the manifest: another one that is applied meanwhile changes nothing about this release.
        None => {
            let wanted = ground.wanted()?;
            let placement = wanted.placement(ground.network()?).map_err(ServiceError::from)?.of_one_off();
            let save = wanted.service.migrate.as_ref().is_some_and(|migrate| migrate.snapshot);
            if save
                && migrates
                && let Some(again) = snapshots::take(&job(MIGRATION), &wanted).await?
            {
                return Ok(again);
            }
            let before = Before { job: job(Kind::Databases), surroundings, wanted: &wanted, placement: &placement };
            if let Some(again) = before.databases().await? {
                return Ok(again);
            }
            let Some(migrate) = wanted.service.migrate.as_ref().filter(|_| migrates) else {
                let note = match migrates {
                    true => format!("`{name}` has no migration"),
                    false => format!("the databases that `{name}` uses are there"),
                };
                return Ok(Pass::Done(Summary { note }));
            };
            let job = job(MIGRATION);
            let task = |part: Part| {
                wanted.migration_task(surroundings, part, part.command(migrate)).map_err(ServiceError::from)
            };
            let own = job.revision(&task(Part::Migrate)?).await?;
            let mut then = Vec::new();
            for part in [Part::Seed, Part::Verify] {
                if !part.command(migrate).is_empty() {
                    then.push((part, job.revision(&task(part)?).await?));
                }
            }
            let log_group = wanted.outputs.migration_log_group.as_ref().unwrap_or(&wanted.outputs.log_group).clone();
            let new = Progress::new(own, migrate.timeout.seconds(), now);
            let progress = Progress { placement, log_group, then, ..new };
            job.save(&progress).await?;
            progress
        }
    };
    migrated(&job, name, migration).await
}

/// Runs a migration and what follows it, each part once what came before it ended well.
async fn migrated<'a, C: Calls + 'a>(
    job: &impl Fn(Kind) -> Job<'a, C>,
    name: &ComponentName,
    migration: Progress,
) -> Result<Pass<Summary>, Error> {
    let then = migration.then.clone();
    let parts = then.iter().map(|(part, revision)| (*part, Some(revision)));
    for (part, revision) in [(Part::Migrate, None)].into_iter().chain(parts) {
        let job = job(Kind::Migration(part));
        let progress = match revision {
            None => migration.clone(),
            Some(revision) => {
                let known = job.store.progress(job.run, job.kind.progress()).await?;
                known.unwrap_or_else(|| migration.following(revision, job.now))
            }
        };
        let ending = match progress.ending.clone() {
            Some(ending) => ending,
            None => match job.go_on(progress).await? {
                Ok(ending) => ending,
                Err(again) => return Ok(again),
            },
        };
        if let Ending::Failed(reason) = ending {
            return Err(Error::Failed { service: name.clone(), part, reason });
        }
    }
    let after = match then.iter().map(|(part, _)| part.what()).collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        parts => format!(" and its {}", parts.join(" and ")),
    };
    Ok(Pass::Done(Summary { note: format!("the migration of `{name}`{after} ended with exit code 0") }))
}

/// What must be there before a service is touched.
struct Before<'a, C> {
    job: Job<'a, C>,
    surroundings: &'a Surroundings,
    wanted: &'a Wanted<'a>,
    placement: &'a Placement,
}

impl<C: Calls> Before<'_, C> {
    /// Makes the databases that the service uses, one server after the other. `None` once all are there.
    async fn databases(&self) -> Result<Option<Pass<Summary>>, Error> {
        let further = databases::further(self.wanted.spec, self.wanted.service);
        if further.is_empty() {
            return Ok(None);
        }
        let Job { store, run, name, now, .. } = self.job;
        let mut made: Made = store.memory(run, MADE).await?.unwrap_or_default();
        for (server, names) in &further {
            let host = match self.wanted.platform.databases.get(server) {
                Some(outputs) => &outputs.host,
                None => return Err(ServiceError::NotProvisioned { service: name.clone(), what: "a database" }.into()),
            };
            let names = made.missing(server, host, names);
            if names.is_empty() {
                continue;
            }
            let known: Option<Progress> = store.progress(run, self.job.kind.progress()).await?;
            let known = known.and_then(|known| Some((known.making.clone()?, known)));
            let (making, progress) = match known.filter(|(making, _)| making.server == *server) {
                Some(known) => known,
                None => self.begin(server, host, &names).await?,
            };
            let ending = match progress.ending.clone() {
                Some(ending) => ending,
                None => match self.job.go_on(progress).await? {
                    Ok(ending) => ending,
                    Err(again) => return Ok(Some(again)),
                },
            };
            if let Ending::Failed(reason) = ending {
                return Err(Error::NotMade { service: name.clone(), making: making.to_string(), reason });
            }
            made.remember(&making);
            store.save_memory(run, MADE, &made, now).await?;
        }
        Ok(None)
    }

    async fn begin(
        &self,
        server: &ComponentName,
        host: &str,
        names: &BTreeSet<String>,
    ) -> Result<(Making, Progress), Error> {
        let wanted = self.wanted;
        let missing = ServiceError::NotProvisioned { service: self.job.name.clone(), what: "a database" };
        let outputs = wanted.platform.databases.get(server).ok_or(missing)?;
        let task = wanted.databases_task(self.surroundings, server, outputs, names).map_err(ServiceError::from)?;
        let making = Making { server: server.clone(), host: host.to_owned(), names: names.clone() };
        let progress = Progress {
            making: Some(making.clone()),
            placement: self.placement.clone(),
            log_group: wanted.outputs.log_group.clone(),
            ..Progress::new(self.job.revision(&task).await?, databases::TIMEOUT_SECONDS, self.job.now)
        };
        self.job.save(&progress).await?;
        Ok((making, progress))
    }
}

#[cfg(test)]
mod tests;
