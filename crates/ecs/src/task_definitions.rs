//! Task definitions: described, found again, registered.

use std::collections::HashMap;

use aws_sdk_ecs::{
    Client,
    types::{
        Compatibility, ContainerDefinition, CpuArchitecture, KeyValuePair, LogConfiguration, LogDriver, NetworkMode,
        OsFamily, PortMapping, RuntimePlatform, Secret, TaskDefinition as SdkTaskDefinition, TaskDefinitionStatus,
        TransportProtocol,
    },
};
use shipway_aws::AwsError;
use shipway_domain::task::{DescribedContainer, DescribedPort, DescribedTaskDefinition, TaskDefinition};

use crate::{tags, unbuilt};

/// One revision, or the newest of a family; none where there is none.
///
/// # Errors
/// The call's.
pub async fn describe(client: &Client, name: &str) -> Result<Option<DescribedTaskDefinition>, AwsError> {
    let call = client.describe_task_definition().task_definition(name).send().await;
    match call.map_err(AwsError::of("ecs:DescribeTaskDefinition")) {
        Ok(answer) => Ok(answer.task_definition().map(described)),
        // ECS has no error of its own for a family that is not there.
        Err(error) if error.is("ClientException") && error.message().contains("Unable to describe") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Registers a new revision and says which it is.
///
/// # Errors
/// The call's.
pub async fn register(client: &Client, wanted: &TaskDefinition) -> Result<String, AwsError> {
    const CALL: &str = "ecs:RegisterTaskDefinition";
    let container = &wanted.container;
    let pair = |(name, value): (&String, &String)| KeyValuePair::builder().name(name).value(value).build();
    let secret =
        |(name, from): (&String, &String)| Secret::builder().name(name).value_from(from).build().map_err(unbuilt(CALL));
    let ports = container
        .port
        .map(|port| PortMapping::builder().container_port(i32::from(port)).protocol(TransportProtocol::Tcp).build());
    let log = LogConfiguration::builder()
        .log_driver(LogDriver::Awslogs)
        .set_options(Some(container.log.options().into_iter().collect::<HashMap<_, _>>()))
        .build()
        .map_err(unbuilt(CALL))?;
    let definition = ContainerDefinition::builder()
        .name(&container.name)
        .image(&container.image)
        .essential(true)
        .set_command((!container.command.is_empty()).then(|| container.command.clone()))
        .set_port_mappings(ports.map(|port| vec![port]))
        .set_environment(Some(container.env.iter().map(pair).collect()))
        .set_secrets(Some(container.secrets.iter().map(secret).collect::<Result<_, _>>()?))
        .log_configuration(log)
        .build();
    let platform = RuntimePlatform::builder()
        .cpu_architecture(CpuArchitecture::from(wanted.architecture.word()))
        .operating_system_family(OsFamily::Linux)
        .build();
    let answer = client
        .register_task_definition()
        .family(&wanted.family)
        .requires_compatibilities(Compatibility::Fargate)
        .network_mode(NetworkMode::Awsvpc)
        .cpu(wanted.cpu.to_string())
        .memory(wanted.memory.to_string())
        .execution_role_arn(&wanted.execution_role)
        .task_role_arn(&wanted.task_role)
        .runtime_platform(platform)
        .container_definitions(definition)
        .set_tags(Some(tags(&wanted.tags)))
        .send()
        .await
        .map_err(AwsError::of(CALL))?;
    Ok(answer.task_definition().and_then(SdkTaskDefinition::task_definition_arn).unwrap_or(&wanted.family).to_owned())
}

fn described(from: &SdkTaskDefinition) -> DescribedTaskDefinition {
    let platform = from.runtime_platform();
    DescribedTaskDefinition {
        arn: text(from.task_definition_arn()),
        active: from.status().is_none_or(|status| *status == TaskDefinitionStatus::Active),
        family: text(from.family()),
        cpu: some(from.cpu()),
        memory: some(from.memory()),
        execution_role: some(from.execution_role_arn()),
        task_role: some(from.task_role_arn()),
        network_mode: from.network_mode().map(|mode| mode.as_str().to_owned()),
        requires_compatibilities: from.requires_compatibilities().iter().map(|one| one.as_str().to_owned()).collect(),
        architecture: platform.and_then(RuntimePlatform::cpu_architecture).map(|one| one.as_str().to_owned()),
        system: platform.and_then(RuntimePlatform::operating_system_family).map(|one| one.as_str().to_owned()),
        containers: from.container_definitions().iter().map(container).collect(),
        has_more: !from.volumes().is_empty()
            || !from.placement_constraints().is_empty()
            || from.pid_mode().is_some_and(|mode| !mode.as_str().is_empty())
            || from.ipc_mode().is_some_and(|mode| !mode.as_str().is_empty())
            || from.proxy_configuration().is_some()
            // 20 GiB is what Fargate gives where nothing is said.
            || from.ephemeral_storage().is_some_and(|storage| storage.size_in_gib() > 20),
    }
}

fn container(from: &ContainerDefinition) -> DescribedContainer {
    let log = from.log_configuration();
    DescribedContainer {
        name: text(from.name()),
        image: text(from.image()),
        command: from.command().to_vec(),
        essential: from.essential(),
        ports: from
            .port_mappings()
            .iter()
            .map(|port| DescribedPort {
                container: port.container_port().and_then(|port| u16::try_from(port).ok()).unwrap_or_default(),
                host: port.host_port().and_then(|port| u16::try_from(port).ok()),
                protocol: port.protocol().map(|protocol| protocol.as_str().to_owned()),
            })
            .collect(),
        env: from.environment().iter().map(|pair| (text(pair.name()), text(pair.value()))).collect(),
        secrets: from
            .secrets()
            .iter()
            .map(|secret| (secret.name().to_owned(), secret.value_from().to_owned()))
            .collect(),
        log_driver: log.map(|log| log.log_driver().as_str().to_owned()),
        log_options: log
            .and_then(LogConfiguration::options)
            .map(|options| options.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
            .unwrap_or_default(),
        has_more: !from.entry_point().is_empty()
            || !from.mount_points().is_empty()
            || !from.volumes_from().is_empty()
            || !from.depends_on().is_empty()
            || !from.environment_files().is_empty()
            || !from.ulimits().is_empty()
            || !from.system_controls().is_empty()
            || !from.resource_requirements().is_empty()
            || from.cpu() != 0
            || from.memory().is_some()
            || from.memory_reservation().is_some()
            || from.health_check().is_some()
            || from.linux_parameters().is_some()
            || from.repository_credentials().is_some()
            || from.firelens_configuration().is_some()
            || from.restart_policy().is_some()
            || from.start_timeout().is_some()
            || from.stop_timeout().is_some()
            || from.user().is_some()
            || from.working_directory().is_some()
            || from.privileged() == Some(true)
            || from.readonly_root_filesystem() == Some(true)
            || log.is_some_and(|log| !log.secret_options().is_empty()),
    }
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

fn some(value: Option<&str>) -> Option<String> {
    value.filter(|value| !value.is_empty()).map(str::to_owned)
}
