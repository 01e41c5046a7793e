//! The calls of deploy-service.

use std::collections::{BTreeMap, BTreeSet};

use aws_config::SdkConfig;
use aws_sdk_applicationautoscaling::types::{
    MetricType, PolicyType, PredefinedMetricSpecification, ScalableDimension, ScalingPolicy, ServiceNamespace,
    TargetTrackingScalingPolicyConfiguration,
};
use aws_sdk_ecr::types::{Image, ImageIdentifier};
use aws_sdk_ecs::types::{
    AdvancedConfiguration, AssignPublicIp, CanaryConfiguration, DeploymentAlarms, DeploymentCircuitBreaker,
    DeploymentConfiguration, DeploymentControllerType, DeploymentLifecycleHook, DeploymentLifecycleHookAction,
    DeploymentLifecycleHookDetail, DeploymentLifecycleHookStage, DeploymentLifecycleHookStatus,
    DeploymentLifecycleHookTargetType, DeploymentLifecycleHookTimeoutConfiguration, DeploymentRolloutState,
    DeploymentStrategy, LaunchType, LinearConfiguration, LoadBalancer, PropagateTags, Service as SdkService,
    ServiceField, ServiceRegistry, StopServiceDeploymentStopType, TaskDefinitionFamilyStatus, TaskDefinitionStatus,
    builders::DeploymentConfigurationBuilder,
};
use shipway_aws::{AwsError, runtime::Later};
use shipway_domain::{
    name::{Digest, RepositoryName},
    notice::Happening,
    platform::Alternate,
    preflight::MEDIA_TYPES,
    release::ReleaseRecord,
    rollout::{
        Deployment, Limits, Registry, Service, Settings, Target, TargetGroup,
        attempt::{Attempt, Stage, Status},
        scaling::{self, Metric, Policy},
        shift::{Shift, Traffic},
    },
    task::{self, Capacity, DescribedTaskDefinition, Interfaces, Placement, Task, TaskDefinition},
};
use shipway_ecs::{instances, logs, network, strategy, tags, tags_of, task_definitions, tasks, unbuilt};
use shipway_notices::Notifier;

use crate::{
    handler::{Calls, Change, NewService, Place, Started},
    removal::{FoundService, Leftovers},
};

/// How many services ECS describes with one call.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html>
const MOST_DESCRIBED: usize = 10;

/// How long a deployment waits for its tests before ECS goes back by itself: what ECS takes where nothing is said, and more than
/// the tests may take.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/pause-lifecycle-hooks.html>
const PAUSED_MINUTES: i32 = 1440;

/// How long ECS leaves a new task alone that the load balancer finds unhealthy: long enough for most to start, short enough
/// for the deadline.
const GRACE_SECONDS: i32 = 60;

/// The clients.
pub(crate) struct Aws {
    ecs: aws_sdk_ecs::Client,
    ecr: Later<aws_sdk_ecr::Client>,
    load_balancing: Later<aws_sdk_elasticloadbalancingv2::Client>,
    logs: Later<aws_sdk_cloudwatchlogs::Client>,
    scaling: Later<aws_sdk_applicationautoscaling::Client>,
    notifier: Notifier,
}

impl Aws {
    pub(crate) fn new(config: &SdkConfig, notifier: Notifier) -> Aws {
        Aws {
            ecs: aws_sdk_ecs::Client::new(config),
            ecr: Later::new(config, aws_sdk_ecr::Client::new),
            load_balancing: Later::new(config, aws_sdk_elasticloadbalancingv2::Client::new),
            logs: Later::new(config, aws_sdk_cloudwatchlogs::Client::new),
            scaling: Later::new(config, aws_sdk_applicationautoscaling::Client::new),
            notifier,
        }
    }

    /// Tasks that share their instance's address have none that ECS would show: a load balancer knows them by the instance.
    async fn name_instances(&self, cluster: &str, tasks: &mut [Task]) -> Result<(), AwsError> {
        let share = |task: &Task| task.addresses.is_empty() && task.running();
        let instances: BTreeSet<String> =
            tasks.iter().filter(|task| share(task)).filter_map(|task| task.instance.clone()).collect();
        let instances: Vec<String> = instances.into_iter().collect();
        for instance in instances::describe(&self.ecs, cluster, &instances).await? {
            let runs = |task: &&mut Task| share(task) && task.instance.as_deref() == instance.container_instance_arn();
            for task in tasks.iter_mut().filter(runs) {
                task.addresses.extend(instance.ec2_instance_id().map(str::to_owned));
            }
        }
        Ok(())
    }

    /// Those of these images that are there, at most a hundred at once.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchGetImage.html>
    async fn images(&self, repository: &RepositoryName, ids: Vec<ImageIdentifier>) -> Result<Vec<Image>, AwsError> {
        let answer = self
            .ecr
            .get()
            .batch_get_image()
            .repository_name(repository.as_str())
            .set_image_ids(Some(ids))
            .set_accepted_media_types(Some(MEDIA_TYPES.map(str::to_owned).into()))
            .send()
            .await
            .map_err(AwsError::of("ecr:BatchGetImage"))?;
        Ok(answer.images.unwrap_or_default())
    }
}

impl Calls for Aws {
    async fn announce(&self, record: &ReleaseRecord, happening: Happening<'_>) {
        self.notifier.tell(record, happening).await;
    }

    async fn task_definition(&self, name: &str) -> Result<Option<DescribedTaskDefinition>, AwsError> {
        task_definitions::describe(&self.ecs, name).await
    }

    async fn register(&self, wanted: &TaskDefinition) -> Result<String, AwsError> {
        task_definitions::register(&self.ecs, wanted).await
    }

    async fn service(&self, place: &Place) -> Result<Option<Service>, AwsError> {
        let answer = self
            .ecs
            .describe_services()
            .cluster(&place.cluster)
            .services(&place.name)
            .send()
            .await
            .map_err(AwsError::of("ecs:DescribeServices"))?;
        // One that was deleted is shown as INACTIVE for a while; its name is free.
        Ok(answer.services().iter().find(|service| service.status() != Some("INACTIVE")).map(observed))
    }

    async fn attempt(&self, arn: &str) -> Result<Option<Attempt>, AwsError> {
        let call = self.ecs.describe_service_deployments().service_deployment_arns(arn).send().await;
        let answer = call.map_err(AwsError::of("ecs:DescribeServiceDeployments"))?;
        Ok(answer.service_deployments().first().and_then(|found| {
            let alarms = found.alarms().map(|alarms| alarms.triggered_alarm_names().iter().cloned().collect());
            let target = found.target_service_revision();
            let waits = |hook: &&DeploymentLifecycleHookDetail| {
                hook.target_type() == Some(&DeploymentLifecycleHookTargetType::Pause)
                    && hook.status() == Some(&DeploymentLifecycleHookStatus::AwaitingAction)
            };
            let paused = found.lifecycle_hook_details().iter().find(waits).and_then(|hook| hook.hook_id());
            Some(Attempt {
                status: found.status().and_then(|status| Status::from_name(status.as_str()))?,
                reason: found.status_reason().filter(|reason| !reason.is_empty()).map(str::to_owned),
                alarms: alarms.unwrap_or_default(),
                stage: found.lifecycle_stage().and_then(|stage| Stage::from_name(stage.as_str())),
                share: target.and_then(|target| target.requested_production_traffic_weight()).map(whole_percent),
                paused: paused.map(str::to_owned),
            })
        }))
    }

    async fn go_on(&self, attempt: &str, hook: &str) -> Result<(), AwsError> {
        let call = self.ecs.continue_service_deployment().service_deployment_arn(attempt).hook_id(hook);
        let call = call.action(DeploymentLifecycleHookAction::Continue).send().await;
        match call.map_err(AwsError::of("ecs:ContinueServiceDeployment")) {
            // Told already, by a call whose answer was lost; or over.
            Err(error) if error.is("InvalidParameterException") => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    async fn undo(&self, attempt: &str) -> Result<(), AwsError> {
        let call = self.ecs.stop_service_deployment().service_deployment_arn(attempt);
        let call = call.stop_type(StopServiceDeploymentStopType::Rollback).send().await;
        match call.map_err(AwsError::of("ecs:StopServiceDeployment")) {
            Err(error) if error.is("ConflictException") || error.is("ServiceDeploymentNotFoundException") => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    async fn tasks(&self, place: &Place, running: bool) -> Result<Vec<Task>, AwsError> {
        let of = tasks::Of::Service(&place.name);
        let mut arns = tasks::list(&self.ecs, &place.cluster, of, true).await?;
        if running {
            arns.extend(tasks::list(&self.ecs, &place.cluster, of, false).await?);
        }
        let mut tasks = tasks::describe(&self.ecs, &place.cluster, &arns).await?;
        self.name_instances(&place.cluster, &mut tasks).await?;
        Ok(tasks)
    }

    async fn targets(&self, group: &str) -> Result<Vec<Target>, AwsError> {
        let answer = self
            .load_balancing
            .get()
            .describe_target_health()
            .target_group_arn(group)
            .send()
            .await
            .map_err(AwsError::of("elasticloadbalancing:DescribeTargetHealth"))?;
        let target = |from: &aws_sdk_elasticloadbalancingv2::types::TargetHealthDescription| {
            let (target, health) = (from.target(), from.target_health());
            let reason =
                health.and_then(|health| health.description().or(health.reason().map(|reason| reason.as_str())));
            Target {
                group: group.to_owned(),
                address: target.and_then(|target| target.id()).unwrap_or_default().to_owned(),
                port: target
                    .and_then(|target| target.port())
                    .and_then(|port| u16::try_from(port).ok())
                    .unwrap_or_default(),
                state: health
                    .and_then(|health| health.state())
                    .map(|state| state.as_str())
                    .unwrap_or_default()
                    .to_owned(),
                reason: reason.map(str::to_owned),
            }
        };
        Ok(answer.target_health_descriptions().iter().map(target).collect())
    }

    async fn create(&self, new: NewService<'_>) -> Result<Started, AwsError> {
        const CALL: &str = "ecs:CreateService";
        let settings = &new.version.settings;
        let call = match &settings.placement.capacity {
            Capacity::Fargate => self.ecs.create_service().launch_type(LaunchType::Fargate),
            Capacity::Providers(providers) => {
                self.ecs.create_service().set_capacity_provider_strategy(Some(strategy(CALL, providers)?))
            }
        };
        let answer = call
            .cluster(&new.place.cluster)
            .service_name(&new.place.name)
            .client_token(new.token)
            .task_definition(&new.version.revision.task_definition)
            .desired_count(i32::try_from(new.count).unwrap_or(i32::MAX))
            .set_network_configuration(network(CALL, settings.placement.interfaces.as_ref())?)
            .set_load_balancers(settings.target_group.as_ref().map(|group| vec![load_balancer(group)]))
            .set_service_registries(settings.registry.as_ref().map(|registry| vec![service_registry(registry)]))
            // ECS refuses a grace period where there is no load balancer.
            .set_health_check_grace_period_seconds(settings.target_group.as_ref().map(|_| GRACE_SECONDS))
            .deployment_configuration(deployment(CALL, settings)?)
            .propagate_tags(PropagateTags::Service)
            .enable_ecs_managed_tags(true)
            .set_tags(Some(tags(&task::tags(&new.run.app, &new.run.environment, &new.run.component))))
            .send()
            .await
            .map_err(AwsError::of(CALL));
        match answer {
            Ok(answer) => Ok(started(answer.service())),
            // Somebody made one meanwhile, or one of this name is still going away.
            Err(error) if error.message().contains("not idempotent") || error.message().contains("Draining") => {
                Ok(Started::LookAgain)
            }
            Err(error) => Err(error),
        }
    }

    async fn update(&self, change: Change<'_>) -> Result<Started, AwsError> {
        const CALL: &str = "ecs:UpdateService";
        let mut call = self.ecs.update_service().cluster(&change.place.cluster).service(&change.place.name);
        if let Some(task_definition) = change.task_definition {
            call = call.task_definition(task_definition);
        }
        if let Some(settings) = change.settings {
            // An empty list takes the service off its load balancer, and out of the service discovery.
            call = call
                .set_network_configuration(network(CALL, settings.placement.interfaces.as_ref())?)
                .set_load_balancers(change.rebinds.then(|| settings.target_group.iter().map(load_balancer).collect()))
                .set_service_registries(Some(settings.registry.iter().map(service_registry).collect()))
                .deployment_configuration(deployment(CALL, settings)?)
                .set_health_check_grace_period_seconds(settings.target_group.as_ref().map(|_| GRACE_SECONDS));
            if change.moves {
                call =
                    call.set_capacity_provider_strategy(Some(strategy(CALL, &settings.placement.capacity.strategy())?));
            }
        }
        let answer = call
            .set_desired_count(change.count.and_then(|count| i32::try_from(count).ok()))
            // ECS moves a service to other capacity only with a new deployment.
            .set_force_new_deployment((change.force || change.moves).then_some(true))
            .send()
            .await
            .map_err(AwsError::of(CALL));
        match answer {
            Ok(answer) => Ok(started(answer.service())),
            Err(error) if error.is("ServiceNotFoundException") || error.is("ServiceNotActiveException") => {
                Ok(Started::LookAgain)
            }
            Err(error) => Err(error),
        }
    }

    async fn log_tail(&self, group: &str, stream: &str) -> Result<Vec<String>, AwsError> {
        logs::tail(self.logs.get(), group, stream).await
    }

    async fn load_balancer(&self, target_group: &str) -> Result<Option<String>, AwsError> {
        let call = self.load_balancing.get().describe_target_groups().target_group_arns(target_group).send().await;
        let answer = call.map_err(AwsError::of("elasticloadbalancing:DescribeTargetGroups"))?;
        Ok(answer.target_groups().first().and_then(|group| group.load_balancer_arns().first()).cloned())
    }

    async fn scaling(&self, place: &Place) -> Result<scaling::Observed, AwsError> {
        let targets = self
            .scaling
            .get()
            .describe_scalable_targets()
            .service_namespace(ServiceNamespace::Ecs)
            .resource_ids(resource(place))
            .send()
            .await
            .map_err(AwsError::of("application-autoscaling:DescribeScalableTargets"))?;
        let dimension = ScalableDimension::EcsServiceDesiredCount;
        let mut targets = targets.scalable_targets().iter();
        let Some(target) = targets.find(|target| *target.scalable_dimension() == dimension) else {
            return Ok(scaling::Observed::default());
        };
        let mut observed = scaling::Observed {
            bounds: Some((count(target.min_capacity()), count(target.max_capacity()))),
            policies: BTreeMap::new(),
        };
        let mut policies = self
            .scaling
            .get()
            .describe_scaling_policies()
            .service_namespace(ServiceNamespace::Ecs)
            .resource_id(resource(place))
            .into_paginator()
            .items()
            .send();
        while let Some(found) = policies.next().await {
            let found = found.map_err(AwsError::of("application-autoscaling:DescribeScalingPolicies"))?;
            observed.policies.insert(found.policy_name().to_owned(), policy(&found));
        }
        Ok(observed)
    }

    async fn scale(&self, place: &Place, change: &scaling::Change) -> Result<(), AwsError> {
        let client = self.scaling.get();
        let dimension = ScalableDimension::EcsServiceDesiredCount;
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        match change {
            scaling::Change::Register { min, max } => {
                let call = client
                    .register_scalable_target()
                    .service_namespace(ServiceNamespace::Ecs)
                    .resource_id(resource(place))
                    .scalable_dimension(dimension)
                    .min_capacity(number(*min))
                    .max_capacity(number(*max));
                let call = call.send().await;
                call.map(|_| ()).map_err(AwsError::of("application-autoscaling:RegisterScalableTarget"))
            }
            scaling::Change::Put { name, policy } => {
                let metric = PredefinedMetricSpecification::builder()
                    .predefined_metric_type(MetricType::from(policy.metric.name()))
                    .set_resource_label(policy.label.clone())
                    .build();
                let configuration = TargetTrackingScalingPolicyConfiguration::builder()
                    .target_value(f64::from(policy.target))
                    .set_predefined_metric_specification(metric.ok())
                    .scale_in_cooldown(number(policy.cooldown_seconds))
                    .scale_out_cooldown(number(policy.cooldown_seconds))
                    .build();
                let call = client
                    .put_scaling_policy()
                    .policy_name(name)
                    .policy_type(PolicyType::TargetTrackingScaling)
                    .service_namespace(ServiceNamespace::Ecs)
                    .resource_id(resource(place))
                    .scalable_dimension(dimension)
                    .set_target_tracking_scaling_policy_configuration(configuration.ok());
                let call = call.send().await;
                call.map(|_| ()).map_err(AwsError::of("application-autoscaling:PutScalingPolicy"))
            }
            scaling::Change::Delete { name } => {
                let call = client
                    .delete_scaling_policy()
                    .policy_name(name)
                    .service_namespace(ServiceNamespace::Ecs)
                    .resource_id(resource(place))
                    .scalable_dimension(dimension);
                let call = call.send().await;
                gone_is_good(call.map(|_| ()).map_err(AwsError::of("application-autoscaling:DeleteScalingPolicy")))
            }
            scaling::Change::Deregister => self.forget_scaling(place).await,
        }
    }

    async fn carried(
        &self,
        repository: &RepositoryName,
        tags: &[String],
    ) -> Result<BTreeMap<String, Digest>, AwsError> {
        let ids = tags.iter().map(|tag| ImageIdentifier::builder().image_tag(tag).build()).collect();
        let found = self.images(repository, ids).await?;
        let carried = found.iter().filter_map(Image::image_id).filter_map(|id| {
            let digest = id.image_digest()?.parse().ok()?;
            Some((id.image_tag()?.to_owned(), digest))
        });
        Ok(carried.collect())
    }

    /// The same manifest once more, under the tag: where tags may move, ECR takes it away from the image that had it.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-retag.html>
    async fn tag(&self, repository: &RepositoryName, digest: &Digest, tag: &str) -> Result<bool, AwsError> {
        let id = ImageIdentifier::builder().image_digest(digest.as_str()).build();
        let Some(image) = self.images(repository, vec![id]).await?.into_iter().next() else { return Ok(false) };
        let call = self
            .ecr
            .get()
            .put_image()
            .repository_name(repository.as_str())
            .set_image_manifest(image.image_manifest)
            .set_image_manifest_media_type(image.image_manifest_media_type)
            .image_digest(digest.as_str())
            .image_tag(tag);
        match call.send().await.map_err(AwsError::of("ecr:PutImage")) {
            Ok(_) => Ok(true),
            // The tag is on it already: a call whose answer was lost.
            Err(error) if error.is("ImageAlreadyExistsException") => Ok(true),
            Err(error) => Err(error),
        }
    }
}

impl Leftovers for Aws {
    async fn services(&self, cluster: &str) -> Result<Vec<FoundService>, AwsError> {
        let mut arns = Vec::new();
        let mut listed = self.ecs.list_services().cluster(cluster).into_paginator().items().send();
        while let Some(arn) = listed.next().await {
            match arn.map_err(AwsError::of("ecs:ListServices")) {
                Ok(arn) => arns.push(arn),
                Err(error) if error.is("ClusterNotFoundException") => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        let mut found = Vec::new();
        for some in arns.chunks(MOST_DESCRIBED) {
            let answer = self
                .ecs
                .describe_services()
                .cluster(cluster)
                .set_services(Some(some.to_vec()))
                .include(ServiceField::Tags)
                .send()
                .await
                .map_err(AwsError::of("ecs:DescribeServices"))?;
            found.extend(answer.services().iter().filter(|service| service.status() != Some("INACTIVE")).map(
                |service| FoundService {
                    name: service.service_name().unwrap_or_default().to_owned(),
                    draining: service.status() == Some("DRAINING"),
                    tags: tags_of(service.tags()),
                },
            ));
        }
        Ok(found)
    }

    async fn scaled(&self, cluster: &str) -> Result<Vec<String>, AwsError> {
        let prefix = format!("service/{cluster}/");
        let call = self.scaling.get().describe_scalable_targets().service_namespace(ServiceNamespace::Ecs);
        let mut targets = call.into_paginator().items().send();
        let mut names = Vec::new();
        while let Some(target) = targets.next().await {
            let target = target.map_err(AwsError::of("application-autoscaling:DescribeScalableTargets"))?;
            names.extend(target.resource_id().strip_prefix(&prefix).map(str::to_owned));
        }
        Ok(names)
    }

    async fn forget_scaling(&self, place: &Place) -> Result<(), AwsError> {
        let call = self
            .scaling
            .get()
            .deregister_scalable_target()
            .service_namespace(ServiceNamespace::Ecs)
            .resource_id(resource(place))
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount);
        let call = call.send().await;
        gone_is_good(call.map(|_| ()).map_err(AwsError::of("application-autoscaling:DeregisterScalableTarget")))
    }

    async fn delete_service(&self, place: &Place) -> Result<(), AwsError> {
        let call = self.ecs.delete_service().cluster(&place.cluster).service(&place.name).force(true).send().await;
        gone_is_good(call.map(|_| ()).map_err(AwsError::of("ecs:DeleteService")))
    }

    async fn running(&self, cluster: &str) -> Result<Vec<Task>, AwsError> {
        match tasks::list(&self.ecs, cluster, tasks::Of::Cluster, false).await {
            Ok(arns) => tasks::describe(&self.ecs, cluster, &arns).await,
            Err(error) if error.is("ClusterNotFoundException") => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn stop(&self, cluster: &str, task: &str) -> Result<(), AwsError> {
        tasks::stop(&self.ecs, cluster, task, "Shipway: the environment is torn down").await
    }

    async fn families(&self, prefix: &str) -> Result<Vec<String>, AwsError> {
        let call =
            self.ecs.list_task_definition_families().family_prefix(prefix).status(TaskDefinitionFamilyStatus::All);
        let mut families = call.into_paginator().items().send();
        let mut names = Vec::new();
        while let Some(name) = families.next().await {
            names.push(name.map_err(AwsError::of("ecs:ListTaskDefinitionFamilies"))?);
        }
        Ok(names)
    }

    async fn revisions(&self, family: &str, active: bool) -> Result<Vec<String>, AwsError> {
        let status = if active { TaskDefinitionStatus::Active } else { TaskDefinitionStatus::Inactive };
        let call = self.ecs.list_task_definitions().family_prefix(family).status(status);
        let mut revisions = call.into_paginator().items().send();
        let mut arns = Vec::new();
        while let Some(arn) = revisions.next().await {
            arns.push(arn.map_err(AwsError::of("ecs:ListTaskDefinitions"))?);
        }
        Ok(arns)
    }

    async fn tags(&self, revision: &str) -> Result<Option<BTreeMap<String, String>>, AwsError> {
        Ok(task_definitions::describe(&self.ecs, revision).await?.map(|described| described.tags))
    }

    async fn deregister(&self, revision: &str) -> Result<(), AwsError> {
        let call = self.ecs.deregister_task_definition().task_definition(revision).send().await;
        call.map(|_| ()).map_err(AwsError::of("ecs:DeregisterTaskDefinition"))
    }

    async fn delete(&self, revisions: &[String]) -> Result<Option<String>, AwsError> {
        let call = self.ecs.delete_task_definitions().set_task_definitions(Some(revisions.to_vec())).send().await;
        let answer = call.map_err(AwsError::of("ecs:DeleteTaskDefinitions"))?;
        Ok(answer.failures().first().map(|failure| {
            let (arn, reason) = (failure.arn().unwrap_or_default(), failure.reason().unwrap_or("it gave no reason"));
            format!("ECS does not delete {arn}: {reason}")
        }))
    }
}

/// The name of a service in Application Auto Scaling.
fn resource(place: &Place) -> String {
    format!("service/{}/{}", place.cluster, place.name)
}

/// What is gone already needs no deleting.
fn gone_is_good(answer: Result<(), AwsError>) -> Result<(), AwsError> {
    const GONE: [&str; 4] = [
        "ObjectNotFoundException",
        "ServiceNotFoundException",
        "ServiceNotActiveException",
        "ClusterNotFoundException",
    ];
    match answer {
        Err(error) if GONE.iter().any(|code| error.is(code)) => Ok(()),
        answer => answer,
    }
}

/// A policy of the kind that Shipway makes.
fn policy(from: &ScalingPolicy) -> Option<Policy> {
    let configuration = from.target_tracking_scaling_policy_configuration()?;
    let metric = configuration.predefined_metric_specification()?;
    let name = metric.predefined_metric_type().as_str();
    let cooldown = |seconds: Option<i32>| seconds.and_then(|seconds| u32::try_from(seconds).ok());
    let (inwards, outwards) =
        (cooldown(configuration.scale_in_cooldown())?, cooldown(configuration.scale_out_cooldown())?);
    let target = configuration.target_value();
    let is_plain = target.fract() == 0.0 && (0.0..f64::from(u32::MAX)).contains(&target);
    let is_ours = is_plain && inwards == outwards && configuration.disable_scale_in() != Some(true);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and in range")]
    is_ours.then_some(())?;
    Some(Policy {
        metric: Metric::ALL.into_iter().find(|metric| metric.name() == name)?,
        target: target as u32,
        cooldown_seconds: inwards,
        label: metric.resource_label().filter(|label| !label.is_empty()).map(str::to_owned),
    })
}

/// ECS's own circuit breaker ends a crash loop. Going back is Shipway's, but where ECS has the old tasks and only needs to move
/// requests. An alarm that goes off is answered even where nobody looks.
fn deployment(call: &'static str, settings: &Settings) -> Result<DeploymentConfiguration, AwsError> {
    let gated = !settings.alarms.is_empty();
    let alarms = DeploymentAlarms::builder()
        .set_alarm_names(Some(settings.alarms.iter().cloned().collect()))
        .enable(gated)
        .rollback(gated)
        .build()
        .map_err(unbuilt(call))?;
    let breaker = DeploymentCircuitBreaker::builder().enable(true).rollback(settings.shift.is_some()).build();
    let configuration = DeploymentConfiguration::builder()
        .minimum_healthy_percent(settings.limits.least.into())
        .maximum_percent(settings.limits.most.into())
        .deployment_circuit_breaker(breaker)
        .alarms(alarms);
    Ok(match settings.shift {
        Some(shift) => shifting(configuration, shift).build(),
        None => configuration.strategy(DeploymentStrategy::Rolling).build(),
    })
}

/// What makes a deployment one that moves requests. An empty list of hooks takes away those that there were.
fn shifting(configuration: DeploymentConfigurationBuilder, shift: Shift) -> DeploymentConfigurationBuilder {
    let minutes = |minutes: u32| i32::try_from(minutes).unwrap_or(i32::MAX);
    let configuration = match shift.traffic {
        Traffic::AllAtOnce => configuration.strategy(DeploymentStrategy::BlueGreen),
        Traffic::Canary { percent, minutes: pause } => {
            let canary = CanaryConfiguration::builder().canary_percent(percent.into());
            configuration
                .strategy(DeploymentStrategy::Canary)
                .canary_configuration(canary.canary_bake_time_in_minutes(minutes(pause)).build())
        }
        Traffic::Linear { percent, minutes: pause } => {
            let linear = LinearConfiguration::builder().step_percent(percent.into());
            configuration
                .strategy(DeploymentStrategy::Linear)
                .linear_configuration(linear.step_bake_time_in_minutes(minutes(pause)).build())
        }
    };
    // Where nobody tells it to go on within a day, it goes back.
    let pause = DeploymentLifecycleHook::builder()
        .target_type(DeploymentLifecycleHookTargetType::Pause)
        .lifecycle_stages(DeploymentLifecycleHookStage::PostTestTrafficShift)
        .timeout_configuration(
            DeploymentLifecycleHookTimeoutConfiguration::builder()
                .timeout_in_minutes(PAUSED_MINUTES)
                .action(DeploymentLifecycleHookAction::Rollback)
                .build(),
        )
        .build();
    let hooks = if shift.is_tested { vec![pause] } else { Vec::new() };
    configuration.bake_time_in_minutes(minutes(shift.bake)).set_lifecycle_hooks(Some(hooks))
}

/// How requests go over to a new version, by what ECS shows.
fn shift(from: &DeploymentConfiguration) -> Option<Shift> {
    let minutes = |minutes: Option<i32>| minutes.and_then(|minutes| u32::try_from(minutes).ok()).unwrap_or_default();
    let traffic = match from.strategy()? {
        DeploymentStrategy::BlueGreen => Traffic::AllAtOnce,
        DeploymentStrategy::Canary => {
            let canary = from.canary_configuration()?;
            let percent = canary.canary_percent().map(whole_percent).unwrap_or_default();
            Traffic::Canary { percent, minutes: minutes(canary.canary_bake_time_in_minutes()) }
        }
        DeploymentStrategy::Linear => {
            let linear = from.linear_configuration()?;
            let percent = linear.step_percent().map(whole_percent).unwrap_or_default();
            Traffic::Linear { percent, minutes: minutes(linear.step_bake_time_in_minutes()) }
        }
        _ => return None,
    };
    let is_pause =
        |hook: &DeploymentLifecycleHook| hook.target_type() == Some(&DeploymentLifecycleHookTargetType::Pause);
    let is_tested = from.lifecycle_hooks().iter().any(is_pause);
    Some(Shift { traffic, bake: minutes(from.bake_time_in_minutes()), is_tested })
}

/// A percentage as it is told: whole.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped to what fits")]
fn whole_percent(percent: f64) -> u8 {
    percent.round().clamp(0.0, 100.0) as u8
}

fn service_registry(registry: &Registry) -> ServiceRegistry {
    let builder = ServiceRegistry::builder().registry_arn(&registry.arn);
    match &registry.port {
        Some((container, port)) => builder.container_name(container).container_port(i32::from(*port)).build(),
        None => builder.build(),
    }
}

fn load_balancer(group: &TargetGroup) -> LoadBalancer {
    let advanced = group.alternate.as_ref().map(|alternate| {
        AdvancedConfiguration::builder()
            .alternate_target_group_arn(&alternate.target_group)
            .production_listener_rule(&alternate.rule)
            .set_test_listener_rule(alternate.test_rule.clone())
            .role_arn(&alternate.role)
            .build()
    });
    LoadBalancer::builder()
        .target_group_arn(&group.arn)
        .set_advanced_configuration(advanced)
        .container_name(&group.container)
        .container_port(i32::from(group.port))
        .build()
}

/// The deployment that a call has made the primary one.
fn started(service: Option<&SdkService>) -> Started {
    let service = service.map(observed).unwrap_or_default();
    match service.primary() {
        Some(primary) => Started::Deployment { id: primary.id.clone(), attempt: service.attempt.clone() },
        None => Started::LookAgain,
    }
}

fn observed(from: &SdkService) -> Service {
    let port = |port: Option<i32>| port.and_then(|port| u16::try_from(port).ok());
    let vpc = from.network_configuration().and_then(|network| network.awsvpc_configuration());
    let target_group = from.load_balancers().iter().find_map(|one| {
        Some(TargetGroup {
            arn: one.target_group_arn()?.to_owned(),
            alternate: one.advanced_configuration().and_then(alternate),
            container: one.container_name()?.to_owned(),
            port: port(one.container_port())?,
        })
    });
    let registry = from.service_registries().iter().find_map(|one| {
        let named = one.container_name().zip(port(one.container_port()));
        let named = named.map(|(container, port)| (container.to_owned(), port));
        Some(Registry { arn: one.registry_arn()?.to_owned(), port: named })
    });
    let providers = from.capacity_provider_strategy().iter();
    let providers = providers.map(|one| (one.capacity_provider().to_owned(), count(one.weight())));
    let placement = Placement {
        capacity: Capacity::observed(providers.collect(), from.launch_type().map(|launch_type| launch_type.as_str())),
        interfaces: vpc.map(|vpc| Interfaces {
            subnets: vpc.subnets().iter().cloned().collect(),
            security_groups: vpc.security_groups().iter().cloned().collect(),
            public_address: vpc.assign_public_ip() == Some(&AssignPublicIp::Enabled),
        }),
    };
    let configuration = from.deployment_configuration();
    let percent = |percent: Option<i32>, usual| percent.and_then(|one| u16::try_from(one).ok()).unwrap_or(usual);
    let usual = Limits::default();
    let limits = Limits {
        least: percent(configuration.and_then(DeploymentConfiguration::minimum_healthy_percent), usual.least),
        most: percent(configuration.and_then(DeploymentConfiguration::maximum_percent), usual.most),
    };
    let alarms = configuration.and_then(DeploymentConfiguration::alarms).filter(|alarms| alarms.enable());
    let alarms = alarms.map(|alarms| alarms.alarm_names().iter().cloned().collect()).unwrap_or_default();
    let controller = from.deployment_controller().map(|controller| controller.r#type());
    Service {
        draining: from.status() == Some("DRAINING"),
        controller: controller.filter(|kind| **kind != DeploymentControllerType::Ecs).map(ToString::to_string),
        attempt: from.current_service_deployment().map(str::to_owned),
        desired: count(from.desired_count()),
        running: count(from.running_count()),
        pending: count(from.pending_count()),
        settings: Settings { placement, target_group, registry, limits, alarms, shift: configuration.and_then(shift) },
        deployments: from
            .deployments()
            .iter()
            .map(|one| Deployment {
                id: one.id().unwrap_or_default().to_owned(),
                primary: one.status() == Some("PRIMARY"),
                task_definition: one.task_definition().unwrap_or_default().to_owned(),
                running: count(one.running_count()),
                failed: one.rollout_state() == Some(&DeploymentRolloutState::Failed),
                completed: one.rollout_state() == Some(&DeploymentRolloutState::Completed),
                reason: one.rollout_state_reason().filter(|reason| !reason.is_empty()).map(str::to_owned),
            })
            .collect(),
        remark: from.events().first().and_then(|event| event.message()).map(str::to_owned),
    }
}

fn alternate(from: &AdvancedConfiguration) -> Option<Alternate> {
    let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Alternate {
        target_group: text(from.alternate_target_group_arn())?,
        rule: text(from.production_listener_rule()).unwrap_or_default(),
        test_rule: text(from.test_listener_rule()),
        role: text(from.role_arn()).unwrap_or_default(),
    })
}

fn count(count: i32) -> u32 {
    u32::try_from(count).unwrap_or_default()
}
