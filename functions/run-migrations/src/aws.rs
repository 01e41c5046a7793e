//! The calls of run-migrations.

use aws_config::SdkConfig;
use aws_sdk_ecs::types::LaunchType;
use jiff::Timestamp;
use shipway_aws::{
    AwsError, Store,
    runtime::{Later, MissingSetting, setting},
    store::{EnvironmentRecord, Manifest, StoreError},
};
use shipway_domain::{
    message::Run,
    release::Step,
    task::{self, DescribedTaskDefinition, Surroundings, Task, TaskDefinition, migration::Progress},
};
use shipway_ecs::{logs, network, tags, task_definitions, tasks};

use crate::handler::{Calls, NewTask, Placed};

/// The progress of a migration in its release's record.
const PROGRESS: &str = "migrate";

/// The clients.
pub(crate) struct Aws {
    store: Store,
    ecs: aws_sdk_ecs::Client,
    logs: Later<aws_sdk_cloudwatchlogs::Client>,
}

/// Where this function's tasks run.
pub(crate) fn surroundings(config: &SdkConfig) -> Surroundings {
    Surroundings {
        region: config.region().map(ToString::to_string).unwrap_or_default(),
        registry_mirror: setting("REGISTRY_MIRROR").ok(),
    }
}

impl Aws {
    pub(crate) fn new(config: &SdkConfig) -> Result<Aws, MissingSetting> {
        Ok(Aws {
            store: Store::new(config, setting("TABLE")?),
            ecs: aws_sdk_ecs::Client::new(config),
            logs: Later::new(config, aws_sdk_cloudwatchlogs::Client::new),
        })
    }
}

impl Calls for Aws {
    async fn commit(&self, run: &Run, now: Timestamp) -> Result<(), StoreError> {
        self.store.commit(run, now).await
    }

    async fn applied(&self, run: &Run) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        self.store.applied(&run.app, &run.environment).await
    }

    async fn progress(&self, run: &Run) -> Result<Option<Progress>, StoreError> {
        self.store.progress(run, PROGRESS).await
    }

    async fn save(&self, run: &Run, progress: &Progress, now: Timestamp) -> Result<(), StoreError> {
        self.store.save_progress(run, PROGRESS, progress, now).await
    }

    async fn step(&self, run: &Run, what: String, now: Timestamp) -> Result<(), StoreError> {
        self.store.step(run, Step { at: now, by: "run-migrations".to_owned(), what }).await
    }

    async fn task_definition(&self, name: &str) -> Result<Option<DescribedTaskDefinition>, AwsError> {
        task_definitions::describe(&self.ecs, name).await
    }

    async fn register(&self, wanted: &TaskDefinition) -> Result<String, AwsError> {
        task_definitions::register(&self.ecs, wanted).await
    }

    async fn find(&self, cluster: &str, started_by: &str) -> Result<Option<String>, AwsError> {
        let of = tasks::Of::StartedBy(started_by);
        let running = tasks::list(&self.ecs, cluster, of, false).await?;
        match running.into_iter().next() {
            Some(arn) => Ok(Some(arn)),
            None => Ok(tasks::list(&self.ecs, cluster, of, true).await?.into_iter().next()),
        }
    }

    async fn run(&self, new: NewTask<'_>) -> Result<Placed, AwsError> {
        const CALL: &str = "ecs:RunTask";
        let answer = self
            .ecs
            .run_task()
            .cluster(new.cluster)
            .task_definition(new.task_definition)
            .count(1)
            .launch_type(LaunchType::Fargate)
            .network_configuration(network(
                CALL,
                new.network.public_subnets.clone(),
                [new.network.service_group.clone()],
            )?)
            .started_by(new.started_by)
            .client_token(new.token)
            .set_tags(Some(tags(&task::tags(&new.run.app, &new.run.environment, &new.run.component))))
            .send()
            .await
            .map_err(AwsError::of(CALL))?;
        if let Some(arn) = answer.tasks().first().and_then(|task| task.task_arn()) {
            return Ok(Placed::Task(arn.to_owned()));
        }
        let failure = answer.failures().first();
        let reason = failure.and_then(|failure| failure.reason()).unwrap_or("it gave no reason");
        let detail =
            failure.and_then(|failure| failure.detail()).map(|detail| format!(" ({detail})")).unwrap_or_default();
        Ok(Placed::Refused(format!("{reason}{detail}")))
    }

    async fn task(&self, cluster: &str, arn: &str) -> Result<Option<Task>, AwsError> {
        Ok(tasks::describe(&self.ecs, cluster, &[arn.to_owned()]).await?.into_iter().next())
    }

    async fn stop(&self, cluster: &str, arn: &str) -> Result<(), AwsError> {
        tasks::stop(&self.ecs, cluster, arn, "Shipway: the migration did not end in its time").await
    }

    async fn log_tail(&self, group: &str, stream: &str) -> Result<Vec<String>, AwsError> {
        logs::tail(self.logs.get(), group, stream).await
    }
}
