//! The calls: ECS's capacity providers.

use std::collections::BTreeSet;

use aws_sdk_ecs::types::{
    AutoScalingGroupProvider, AutoScalingGroupProviderUpdate, CapacityProvider, CapacityProviderField,
    CapacityProviderStatus, CapacityProviderStrategyItem, ClusterField, ManagedDraining, ManagedScaling,
    ManagedScalingStatus, ManagedTerminationProtection, Tag,
};
use futures_util::future::join;
use shipway_aws::AwsError;
use shipway_domain::platform::{ObservedCapacity, ObservedProvider, Share, WantedCapacity};

use super::Account;

/// The whole of an instance is for tasks: none is kept free.
const TARGET_PERCENT: i32 = 100;

/// What the function does with the capacity of a cluster.
pub(crate) trait Capacity {
    /// What a cluster's tasks run on, and the environment's own provider.
    async fn capacity(&self, wanted: &WantedCapacity) -> Result<ObservedCapacity, AwsError>;
    /// Makes the provider.
    async fn create_provider(&self, wanted: &WantedCapacity, group: &str) -> Result<(), AwsError>;
    /// Sets how the provider is scaled.
    async fn update_provider(&self, wanted: &WantedCapacity) -> Result<(), AwsError>;
    /// Gives the cluster these providers and this strategy.
    async fn associate(
        &self,
        wanted: &WantedCapacity,
        providers: &BTreeSet<String>,
        strategy: &[Share],
    ) -> Result<(), AwsError>;
    /// Deletes the provider.
    async fn delete_provider(&self, wanted: &WantedCapacity) -> Result<(), AwsError>;
}

impl Capacity for Account {
    async fn capacity(&self, wanted: &WantedCapacity) -> Result<ObservedCapacity, AwsError> {
        let client = self.ecs.get();
        // Whether its providers are just being changed is told to who asks for them.
        let clusters = client.describe_clusters().clusters(&wanted.cluster).include(ClusterField::Attachments).send();
        let providers = client
            .describe_capacity_providers()
            .capacity_providers(&wanted.name)
            .include(CapacityProviderField::Tags)
            .send();
        let (clusters, providers) = join(clusters, providers).await;
        let clusters = clusters.map_err(AwsError::of("ecs:DescribeClusters"))?;
        let providers = providers.map_err(AwsError::of("ecs:DescribeCapacityProviders"))?;
        let named = |provider: &&CapacityProvider| {
            provider.name() == Some(&wanted.name) && provider.status() != Some(&CapacityProviderStatus::Inactive)
        };
        let own = providers.capacity_providers().iter().find(named).map(observed_provider);
        let Some(cluster) = clusters.clusters().first() else {
            return Ok(ObservedCapacity { own, ..ObservedCapacity::default() });
        };
        let share = |item: &CapacityProviderStrategyItem| Share {
            provider: item.capacity_provider().to_owned(),
            weight: item.weight(),
        };
        Ok(ObservedCapacity {
            providers: cluster.capacity_providers().iter().cloned().collect(),
            strategy: cluster.default_capacity_provider_strategy().iter().map(share).collect(),
            attaching: cluster.attachments_status() == Some("UPDATE_IN_PROGRESS"),
            own,
        })
    }

    async fn create_provider(&self, wanted: &WantedCapacity, group: &str) -> Result<(), AwsError> {
        let on_group = AutoScalingGroupProvider::builder()
            .auto_scaling_group_arn(group)
            .managed_scaling(scaling())
            .managed_termination_protection(ManagedTerminationProtection::Disabled)
            .managed_draining(ManagedDraining::Enabled)
            .build();
        let tag = |(key, value): (&&str, &String)| Tag::builder().key(*key).value(value).build();
        let asked = self
            .ecs
            .get()
            .create_capacity_provider()
            .name(&wanted.name)
            .auto_scaling_group_provider(on_group.map_err(missing("ecs:CreateCapacityProvider"))?)
            .set_tags(Some(wanted.tags.iter().map(tag).collect()))
            .send()
            .await;
        settled(asked.map(|_| ()).map_err(AwsError::of("ecs:CreateCapacityProvider")))
    }

    async fn update_provider(&self, wanted: &WantedCapacity) -> Result<(), AwsError> {
        let update = AutoScalingGroupProviderUpdate::builder()
            .managed_scaling(scaling())
            .managed_termination_protection(ManagedTerminationProtection::Disabled)
            .managed_draining(ManagedDraining::Enabled)
            .build();
        let asked = self
            .ecs
            .get()
            .update_capacity_provider()
            .name(&wanted.name)
            .auto_scaling_group_provider(update)
            .send()
            .await;
        settled(asked.map(|_| ()).map_err(AwsError::of("ecs:UpdateCapacityProvider")))
    }

    async fn associate(
        &self,
        wanted: &WantedCapacity,
        providers: &BTreeSet<String>,
        strategy: &[Share],
    ) -> Result<(), AwsError> {
        let item = |share: &Share| {
            CapacityProviderStrategyItem::builder().capacity_provider(&share.provider).weight(share.weight).build()
        };
        let strategy: Result<Vec<_>, _> = strategy.iter().map(item).collect();
        let asked = self
            .ecs
            .get()
            .put_cluster_capacity_providers()
            .cluster(&wanted.cluster)
            .set_capacity_providers(Some(providers.iter().cloned().collect()))
            .set_default_capacity_provider_strategy(Some(strategy.map_err(missing("ecs:PutClusterCapacityProviders"))?))
            .send()
            .await;
        settled(asked.map(|_| ()).map_err(AwsError::of("ecs:PutClusterCapacityProviders")))
    }

    async fn delete_provider(&self, wanted: &WantedCapacity) -> Result<(), AwsError> {
        let asked = self.ecs.get().delete_capacity_provider().capacity_provider(&wanted.name).send().await;
        settled(asked.map(|_| ()).map_err(AwsError::of("ecs:DeleteCapacityProvider")))
    }
}

fn scaling() -> ManagedScaling {
    ManagedScaling::builder().status(ManagedScalingStatus::Enabled).target_capacity(TARGET_PERCENT).build()
}

fn observed_provider(provider: &CapacityProvider) -> ObservedProvider {
    let on_group = provider.auto_scaling_group_provider();
    let scaling = on_group.and_then(AutoScalingGroupProvider::managed_scaling);
    let protection = on_group.and_then(AutoScalingGroupProvider::managed_termination_protection);
    let tag = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()));
    ObservedProvider {
        group: on_group.map(|on_group| on_group.auto_scaling_group_arn().to_owned()).unwrap_or_default(),
        scaled: scaling.is_some_and(|scaling| {
            scaling.status() == Some(&ManagedScalingStatus::Enabled)
                && scaling.target_capacity() == Some(TARGET_PERCENT)
        }) && protection != Some(&ManagedTerminationProtection::Enabled)
            // A rolling update of the instances relies on it. It is ECS's default, so what is not told is on.
            && on_group.and_then(AutoScalingGroupProvider::managed_draining) != Some(&ManagedDraining::Disabled),
        moving: provider.update_status().is_some_and(|status| status.as_str().ends_with("_IN_PROGRESS")),
        tags: provider.tags().iter().filter_map(tag).collect(),
    }
}

/// Another change that is under way is waited for: the next look shows it.
fn settled(asked: Result<(), AwsError>) -> Result<(), AwsError> {
    match asked {
        Err(error) if error.is("UpdateInProgressException") => Ok(()),
        asked => asked,
    }
}

/// A request that lacks what it must have.
fn missing(call: &'static str) -> impl Fn(aws_sdk_ecs::error::BuildError) -> AwsError {
    move |error| AwsError::broken_off(call, &error)
}
