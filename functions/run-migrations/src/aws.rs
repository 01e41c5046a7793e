//! The calls of run-migrations.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_ecs::types::LaunchType;
use aws_sdk_rds::types::Tag;
use shipway_aws::{AwsError, runtime::Later};
use shipway_domain::{
    manifest::DatabaseEngine,
    task::{self, Capacity, DescribedTaskDefinition, Task, TaskDefinition, snapshots::Snapshot},
};
use shipway_ecs::{logs, network, strategy, tags, task_definitions, tasks};

use crate::{
    handler::{Calls, NewTask, Placed},
    snapshots::NewSnapshot,
};

/// RDS takes no snapshot of what is being changed, and shows one that was just asked for a moment late.
const NOT_NOW: [&str; 5] = [
    "InvalidDBInstanceState",
    "InvalidDBClusterStateFault",
    "InvalidDBClusterSnapshotStateFault",
    "DBSnapshotAlreadyExists",
    "DBClusterSnapshotAlreadyExistsFault",
];

/// The clients.
pub(crate) struct Aws {
    ecs: aws_sdk_ecs::Client,
    logs: Later<aws_sdk_cloudwatchlogs::Client>,
    rds: Later<aws_sdk_rds::Client>,
}

impl Aws {
    pub(crate) fn new(config: &SdkConfig) -> Aws {
        Aws {
            ecs: aws_sdk_ecs::Client::new(config),
            logs: Later::new(config, aws_sdk_cloudwatchlogs::Client::new),
            rds: Later::new(config, aws_sdk_rds::Client::new),
        }
    }
}

impl Calls for Aws {
    async fn task_definition(&self, name: &str) -> Result<Option<DescribedTaskDefinition>, AwsError> {
        task_definitions::describe(&self.ecs, name).await
    }

    async fn register(&self, wanted: &TaskDefinition) -> Result<String, AwsError> {
        task_definitions::register(&self.ecs, wanted).await
    }

    async fn find(&self, cluster: &str, family: &str, started_by: &str) -> Result<Option<String>, AwsError> {
        for stopped in [false, true] {
            let arns = tasks::list(&self.ecs, cluster, tasks::Of::Family(family), stopped).await?;
            let found = tasks::describe(&self.ecs, cluster, &arns).await?;
            if let Some(task) = found.into_iter().find(|task| task.started_by.as_deref() == Some(started_by)) {
                return Ok(Some(task.arn));
            }
        }
        Ok(None)
    }

    async fn run(&self, new: NewTask<'_>) -> Result<Placed, AwsError> {
        const CALL: &str = "ecs:RunTask";
        let call = match &new.placement.capacity {
            Capacity::Fargate => self.ecs.run_task().launch_type(LaunchType::Fargate),
            Capacity::Providers(providers) => {
                self.ecs.run_task().set_capacity_provider_strategy(Some(strategy(CALL, providers)?))
            }
        };
        let answer = call
            .cluster(new.cluster)
            .task_definition(new.task_definition)
            .count(1)
            .set_network_configuration(network(CALL, new.placement.interfaces.as_ref())?)
            .enable_ecs_managed_tags(true)
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
        tasks::stop(&self.ecs, cluster, arn, "Shipway: it did not end in its time").await
    }

    async fn log_tail(&self, group: &str, stream: &str) -> Result<Vec<String>, AwsError> {
        logs::tail(self.logs.get(), group, stream).await
    }

    async fn snapshot(&self, engine: DatabaseEngine, name: &str) -> Result<Option<Snapshot>, AwsError> {
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let found = match engine {
            DatabaseEngine::Postgres => {
                let answer = self.rds.get().describe_db_snapshots().db_snapshot_identifier(name).send().await;
                answer.map_err(AwsError::of("rds:DescribeDBSnapshots")).map(|answer| {
                    answer.db_snapshots().first().map(|found| Snapshot {
                        of: text(found.db_instance_identifier()),
                        status: text(found.status()),
                        percent: found.percent_progress().unwrap_or_default(),
                        tags: tags_of(found.tag_list()),
                    })
                })
            }
            DatabaseEngine::AuroraPostgres => {
                let call = self.rds.get().describe_db_cluster_snapshots();
                let answer = call.db_cluster_snapshot_identifier(name).send().await;
                answer.map_err(AwsError::of("rds:DescribeDBClusterSnapshots")).map(|answer| {
                    answer.db_cluster_snapshots().first().map(|found| Snapshot {
                        of: text(found.db_cluster_identifier()),
                        status: text(found.status()),
                        percent: found.percent_progress().unwrap_or_default(),
                        tags: tags_of(found.tag_list()),
                    })
                })
            }
        };
        match found {
            Err(error) if error.is("DBSnapshotNotFound") || error.is("DBClusterSnapshotNotFoundFault") => Ok(None),
            other => other,
        }
    }

    async fn take_snapshot(&self, new: NewSnapshot<'_>) -> Result<Option<String>, AwsError> {
        let NewSnapshot { name, engine, of, tags } = new;
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let asked = match engine {
            DatabaseEngine::Postgres => {
                let call = self.rds.get().create_db_snapshot().db_snapshot_identifier(name).db_instance_identifier(of);
                call.set_tags(Some(tags)).send().await.map(drop).map_err(AwsError::of("rds:CreateDBSnapshot"))
            }
            DatabaseEngine::AuroraPostgres => {
                let call = self.rds.get().create_db_cluster_snapshot().db_cluster_snapshot_identifier(name);
                let call = call.db_cluster_identifier(of).set_tags(Some(tags));
                call.send().await.map(drop).map_err(AwsError::of("rds:CreateDBClusterSnapshot"))
            }
        };
        match asked {
            Ok(()) => Ok(None),
            Err(error) if NOT_NOW.iter().any(|code| error.is(code)) => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }
}

fn tags_of(tags: &[Tag]) -> BTreeMap<String, String> {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    tags.iter().map(|tag| (text(tag.key()), text(tag.value()))).collect()
}
