//! What the tests of both functions need: a platform to run on, and what ECS shows of what was registered.

#![allow(clippy::unwrap_used, reason = "only tests use it, and a test ends by a panic")]

use shipway_aws::{Store, testing::provision};
use shipway_domain::{
    network::NetworkOutputs,
    platform::{PlatformOutputs, ServiceOutputs},
    task::{DescribedContainer, DescribedPort, DescribedTaskDefinition, TaskDefinition},
};

/// Stands the platform of `prod` by this manifest, whose one service is `api` with images of `hello-api`.
pub async fn platform(store: &Store, manifest: &str) {
    let role = |name: &str| format!("arn:aws:iam::123456789012:role/{name}");
    let api = ServiceOutputs {
        repository_uri: Some("123456789012.dkr.ecr.eu-west-1.amazonaws.com/hello-api".to_owned()),
        log_group: "/shipway/hello-prod/api".to_owned(),
        execution_role: role("execution"),
        task_role: role("task"),
        target_group: Some("tg".to_owned()),
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
    let platform = PlatformOutputs {
        cluster: Some("hello-prod".to_owned()),
        services: [("api".parse().unwrap(), api)].into(),
        ..PlatformOutputs::default()
    };
    provision(store, &"prod".parse().unwrap(), manifest, Some((&network, &platform))).await;
}

/// What ECS describes of a task definition that was registered as this revision.
pub fn described(task: &TaskDefinition, arn: &str) -> DescribedTaskDefinition {
    let container = &task.container;
    DescribedTaskDefinition {
        arn: arn.to_owned(),
        active: true,
        family: task.family.clone(),
        cpu: Some(task.cpu.to_string()),
        memory: Some(task.memory.to_string()),
        execution_role: Some(task.execution_role.clone()),
        task_role: Some(task.task_role.clone()),
        network_mode: Some("awsvpc".to_owned()),
        requires_compatibilities: vec!["FARGATE".to_owned()],
        containers: vec![DescribedContainer {
            name: container.name.clone(),
            image: container.image.clone(),
            command: container.command.clone(),
            ports: container
                .port
                .map(|port| DescribedPort { container: port, host: Some(port), protocol: None })
                .into_iter()
                .collect(),
            env: container.env.clone().into_iter().collect(),
            log_driver: Some("awslogs".to_owned()),
            log_options: container.log.options(),
            ..DescribedContainer::default()
        }],
        ..DescribedTaskDefinition::default()
    }
}
