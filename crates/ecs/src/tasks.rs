//! Tasks: listed, described, stopped.

use aws_sdk_ecs::{
    Client,
    primitives::DateTime,
    types::{DesiredStatus, Task as SdkTask},
};
use jiff::Timestamp;
use shipway_aws::AwsError;
use shipway_domain::task::{Task, TaskContainer};

/// Which tasks to list.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// A service's.
    Service(&'a str),
    /// Those of a task definition's family. ListTasks takes the name that RunTask was given only without any other filter,
    /// and then shows no stopped ones. <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html>
    Family(&'a str),
    /// Everything in the cluster.
    Cluster,
}

/// The ARNs of tasks that run or are about to, or of those that stopped within about an hour.
///
/// # Errors
/// The call's.
pub async fn list(client: &Client, cluster: &str, of: Of<'_>, stopped: bool) -> Result<Vec<String>, AwsError> {
    let desired = if stopped { DesiredStatus::Stopped } else { DesiredStatus::Running };
    let call = client.list_tasks().cluster(cluster).desired_status(desired);
    let call = match of {
        Of::Service(name) => call.service_name(name),
        Of::Family(name) => call.family(name),
        Of::Cluster => call,
    };
    let mut items = call.into_paginator().items().send();
    let mut arns = Vec::new();
    while let Some(arn) = items.next().await {
        arns.push(arn.map_err(AwsError::of("ecs:ListTasks"))?);
    }
    Ok(arns)
}

/// The tasks of these ARNs, without those that ECS does not know any more.
///
/// # Errors
/// The call's.
pub async fn describe(client: &Client, cluster: &str, arns: &[String]) -> Result<Vec<Task>, AwsError> {
    let mut tasks = Vec::new();
    // DescribeTasks takes 100 at once.
    for some in arns.chunks(100) {
        let answer = client
            .describe_tasks()
            .cluster(cluster)
            .set_tasks(Some(some.to_vec()))
            .send()
            .await
            .map_err(AwsError::of("ecs:DescribeTasks"))?;
        tasks.extend(answer.tasks().iter().map(task));
    }
    Ok(tasks)
}

/// Asks a task to stop.
///
/// # Errors
/// The call's.
pub async fn stop(client: &Client, cluster: &str, arn: &str, reason: &str) -> Result<(), AwsError> {
    let call = client.stop_task().cluster(cluster).task(arn).reason(reason).send().await;
    call.map(|_| ()).map_err(AwsError::of("ecs:StopTask"))
}

/// A task of the SDK as the domain sees it.
pub fn task(from: &SdkTask) -> Task {
    let addresses = from
        .attachments()
        .iter()
        .flat_map(|attachment| attachment.details())
        .filter(|detail| detail.name() == Some("privateIPv4Address"))
        .filter_map(|detail| detail.value())
        .chain(
            from.containers()
                .iter()
                .flat_map(|container| container.network_interfaces())
                .filter_map(|one| one.private_ipv4_address()),
        )
        .map(str::to_owned)
        .collect();
    let port = |port: Option<i32>| port.and_then(|port| u16::try_from(port).ok());
    let ports = from
        .containers()
        .iter()
        .flat_map(|container| container.network_bindings())
        .filter_map(|binding| Some((port(binding.container_port())?, port(binding.host_port())?)))
        .collect();
    Task {
        arn: from.task_arn().unwrap_or_default().to_owned(),
        task_definition: from.task_definition_arn().unwrap_or_default().to_owned(),
        started_by: from.started_by().map(str::to_owned),
        created_at: from.created_at().and_then(timestamp),
        started_at: from.started_at().and_then(timestamp),
        status: from.last_status().unwrap_or_default().to_owned(),
        stopping: from.desired_status() == Some("STOPPED"),
        stop_code: from.stop_code().map(|code| code.as_str().to_owned()).filter(|code| !code.is_empty()),
        stopped_reason: from.stopped_reason().map(str::to_owned),
        instance: from.container_instance_arn().map(str::to_owned),
        addresses,
        ports,
        containers: from
            .containers()
            .iter()
            .map(|container| TaskContainer {
                name: container.name().unwrap_or_default().to_owned(),
                digest: container.image_digest().map(str::to_owned),
                exit_code: container.exit_code(),
                reason: container.reason().map(str::to_owned),
            })
            .collect(),
    }
}

fn timestamp(from: &DateTime) -> Option<Timestamp> {
    Timestamp::from_millisecond(from.to_millis().ok()?).ok()
}
