//! What the functions that start tasks, or look whether they can, share of ECS: task definitions, tasks, instances, the ends of
//! logs, and why a release cannot be one of a service.
//!
//! Only calls, and the way between the SDK's types and the domain's. What to call when is each function's own.

pub mod instances;
pub mod logs;
pub mod task_definitions;
pub mod tasks;
#[cfg(feature = "testing")]
pub mod testing;

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_ecs::types::{
    AssignPublicIp, AwsVpcConfiguration, CapacityProviderStrategyItem, NetworkConfiguration, Tag,
};
use shipway_aws::{
    AwsError, PublicError, Store,
    runtime::setting,
    store::{EnvironmentRecord, Manifest, StoreError},
};
use shipway_domain::{
    failure::Failure,
    message::Run,
    name::{Component, ComponentName},
    network::NetworkOutputs,
    release::Artifact,
    task::{Interfaces, Source, Surroundings, TaskError, Wanted},
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
            ServiceError::Task(TaskError::OtherRepository { .. } | TaskError::OtherKind { .. }) => {
                Failure::RejectedImage
            }
            ServiceError::Task(TaskError::Override { .. }) => Failure::RejectedManifest,
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
pub fn image_of(run: &Run) -> Result<(&ComponentName, Source<'_>), ServiceError> {
    match (&run.component, Source::of(&run.artifact)) {
        (Component::Service(service), Some(source)) => Ok((service, source)),
        (component, _) => {
            Err(ServiceError::NotAnImage { artifact: run.artifact.clone(), component: component.clone() })
        }
    }
}

/// What a release of a service stands on: the manifest that was applied last, and what was provisioned by it.
#[derive(Debug)]
pub struct Ground<'r> {
    run: &'r Run,
    name: &'r ComponentName,
    manifest: Manifest,
    /// What was provisioned.
    pub record: EnvironmentRecord,
}

impl<'r> Ground<'r> {
    /// Reads it, for the service that the release is of.
    ///
    /// # Errors
    /// The table's, or nothing was applied yet.
    pub async fn of(store: &Store, run: &'r Run, name: &'r ComponentName) -> Result<Ground<'r>, StoreError> {
        let (record, manifest) = store.applied(&run.app, &run.environment).await?;
        Ok(Ground { run, name, manifest, record })
    }

    /// The cluster.
    ///
    /// # Errors
    /// It was not provisioned.
    pub fn cluster(&self) -> Result<&str, ServiceError> {
        self.record.platform.cluster.as_deref().ok_or_else(|| self.missing("the cluster"))
    }

    /// The network.
    ///
    /// # Errors
    /// It was not provisioned.
    pub fn network(&self) -> Result<&NetworkOutputs, ServiceError> {
        self.record.network.as_ref().ok_or_else(|| self.missing("the network"))
    }

    /// What the release should run.
    ///
    /// # Errors
    /// It is of a service that the manifest or the platform does not have.
    pub fn wanted(&self) -> Result<Wanted<'_>, ServiceError> {
        let (name, source) = image_of(self.run)?;
        let (spec, platform) = (&self.manifest.spec, &self.record.platform);
        Ok(Wanted {
            app: &self.run.app,
            environment: &self.run.environment,
            name,
            spec,
            service: spec.services.get(name).ok_or_else(|| ServiceError::Unknown(name.clone()))?,
            platform,
            outputs: platform.services.get(name).ok_or_else(|| self.missing("the repository"))?,
            source,
        })
    }

    fn missing(&self, what: &'static str) -> ServiceError {
        ServiceError::NotProvisioned { service: self.name.clone(), what }
    }
}

/// Where the function's tasks run.
pub fn surroundings(config: &SdkConfig) -> Surroundings {
    Surroundings {
        region: config.region().map(ToString::to_string).unwrap_or_default(),
        registry_mirror: setting("REGISTRY_MIRROR").ok(),
    }
}

/// The network of tasks with interfaces of their own; none where they share their instance's.
///
/// # Errors
/// No subnets.
pub fn network(call: &'static str, interfaces: Option<&Interfaces>) -> Result<Option<NetworkConfiguration>, AwsError> {
    let Some(Interfaces { subnets, security_groups, public_address }) = interfaces else { return Ok(None) };
    let vpc = AwsVpcConfiguration::builder()
        .set_subnets(Some(subnets.iter().cloned().collect()))
        .set_security_groups(Some(security_groups.iter().cloned().collect()))
        .assign_public_ip(if *public_address { AssignPublicIp::Enabled } else { AssignPublicIp::Disabled })
        .build()
        .map_err(unbuilt(call))?;
    Ok(Some(NetworkConfiguration::builder().awsvpc_configuration(vpc).build()))
}

/// A capacity provider strategy as ECS takes it.
///
/// # Errors
/// A provider without a name.
pub fn strategy(
    call: &'static str,
    providers: &BTreeMap<String, u32>,
) -> Result<Vec<CapacityProviderStrategyItem>, AwsError> {
    let item = |(provider, weight): (&String, &u32)| {
        let weight = i32::try_from(*weight).unwrap_or(i32::MAX);
        CapacityProviderStrategyItem::builder()
            .capacity_provider(provider)
            .weight(weight)
            .build()
            .map_err(unbuilt(call))
    };
    providers.iter().map(item).collect()
}

/// Tags as ECS takes them.
pub fn tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Tags as ECS gives them.
pub fn tags_of(tags: &[Tag]) -> BTreeMap<String, String> {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    tags.iter().map(|tag| (text(tag.key()), text(tag.value()))).collect()
}

/// For `map_err`: a request that could not be built was never sent.
pub fn unbuilt(call: &'static str) -> impl Fn(aws_sdk_ecs::error::BuildError) -> AwsError {
    move |error| AwsError::of(call)(aws_sdk_ecs::error::SdkError::<aws_sdk_ecs::Error>::construction_failure(error))
}

/// The public name of an error of ECS, whose codes say little: most refusals are a `ClientException` or an
/// `InvalidParameterException`, and only the message tells one from another.
pub fn failure(error: &AwsError) -> Failure {
    let says = |text: &str| error.message().contains(text);
    match error.code() {
        Some("ClusterNotFoundException" | "TargetGroupNotFound" | "PlatformTaskDefinitionIncompatibilityException") => {
            Failure::Conflict
        }
        // Two changes of one scalable target at once; a role that Application Auto Scaling has only just made for itself.
        Some("ConcurrentUpdateException" | "FailedResourceAccessException") => Failure::Transient,
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
