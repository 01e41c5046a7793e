//! What deploy-service and run-migrations share of ECS: task definitions, tasks, the ends of their logs, and why a release
//! cannot be one of a service.
//!
//! Only calls, and the way between the SDK's types and the domain's. What to call when is each function's own.

pub mod logs;
pub mod task_definitions;
pub mod tasks;
#[cfg(feature = "testing")]
pub mod testing;

use aws_config::SdkConfig;
use aws_sdk_ecs::types::{AssignPublicIp, AwsVpcConfiguration, NetworkConfiguration, Tag};
use shipway_aws::{AwsError, PublicError, runtime::setting};
use shipway_domain::{
    failure::Failure,
    message::Run,
    name::{Component, ComponentName, Digest, RepositoryName},
    release::Artifact,
    task::{Surroundings, TaskError},
};

/// Why a release cannot be one of a service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A zip, a manifest, or an image for something else than a service.
    #[error("{artifact} cannot run as {component}: images run, as services")]
    NotAnImage {
        /// What should be live.
        artifact: Artifact,
        /// What it should be live as.
        component: Component,
    },
    /// The manifest has no such service.
    #[error("`{0}` is not a service of the manifest; add it there and upload the manifest again")]
    Unknown(ComponentName),
    /// Something of the platform is missing.
    #[error(
        "{what} of `{service}` is not there yet; provisioning makes it: upload the manifest, or look why its last release failed"
    )]
    NotProvisioned {
        /// The service.
        service: ComponentName,
        /// What is missing.
        what: &'static str,
    },
    /// It can have no task definition.
    #[error(transparent)]
    Task(#[from] TaskError),
}

impl PublicError for ServiceError {
    fn failure(&self) -> Failure {
        match self {
            ServiceError::NotAnImage { .. } => Failure::RejectedInput,
            ServiceError::Unknown(_) => Failure::RejectedManifest,
            ServiceError::Task(TaskError::OtherRepository { .. }) => Failure::RejectedImage,
            ServiceError::NotProvisioned { .. } | ServiceError::Task(TaskError::Provisioned { .. }) => {
                Failure::Conflict
            }
        }
    }
}

/// The service that a release is of, and its image.
///
/// # Errors
/// It is of something else.
pub fn image_of(run: &Run) -> Result<(&ComponentName, &RepositoryName, &Digest), ServiceError> {
    match (&run.component, &run.artifact) {
        (Component::Service(service), Artifact::Image { repository, digest }) => Ok((service, repository, digest)),
        (component, artifact) => {
            Err(ServiceError::NotAnImage { artifact: artifact.clone(), component: component.clone() })
        }
    }
}

/// Where the function's tasks run.
pub fn surroundings(config: &SdkConfig) -> Surroundings {
    Surroundings {
        region: config.region().map(ToString::to_string).unwrap_or_default(),
        registry_mirror: setting("REGISTRY_MIRROR").ok(),
    }
}

/// The network of a task: these subnets and groups, and a public address, for the subnets are public ones and nothing else
/// leads from them to ECR.
///
/// # Errors
/// No subnets.
pub fn network(
    call: &'static str,
    subnets: impl IntoIterator<Item = String>,
    security_groups: impl IntoIterator<Item = String>,
) -> Result<NetworkConfiguration, AwsError> {
    let vpc = AwsVpcConfiguration::builder()
        .set_subnets(Some(subnets.into_iter().collect()))
        .set_security_groups(Some(security_groups.into_iter().collect()))
        .assign_public_ip(AssignPublicIp::Enabled)
        .build()
        .map_err(unbuilt(call))?;
    Ok(NetworkConfiguration::builder().awsvpc_configuration(vpc).build())
}

/// Tags as ECS takes them.
pub fn tags(tags: &std::collections::BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// For `map_err`: a request that could not be built was never sent.
pub fn unbuilt(call: &'static str) -> impl Fn(aws_sdk_ecs::error::BuildError) -> AwsError {
    move |error| AwsError::of(call)(aws_sdk_ecs::error::SdkError::<aws_sdk_ecs::Error, ()>::construction_failure(error))
}

/// The public name of an error of ECS, whose codes say little: most refusals are a `ClientException` or an
/// `InvalidParameterException`, and only the message tells one from another.
pub fn failure(error: &AwsError) -> Failure {
    let says = |text: &str| error.message().contains(text);
    match error.code() {
        Some("ClusterNotFoundException" | "TargetGroupNotFound" | "PlatformTaskDefinitionIncompatibilityException") => {
            Failure::Conflict
        }
        Some("ClientException" | "InvalidParameterException") => {
            if says("Too many concurrent attempts") || says("service linked role") {
                // Two registrations of one family at once; the account's first use of ECS.
                Failure::Transient
            } else if says("limit") {
                Failure::Quota
            } else {
                // A role that does not exist, a target group without a load balancer, a subnet that is gone.
                Failure::Conflict
            }
        }
        _ => error.failure(),
    }
}
