//! The calls of deploy-service.

use aws_config::SdkConfig;
use aws_sdk_ecs::types::{
    DeploymentCircuitBreaker, DeploymentConfiguration, DeploymentRolloutState, LaunchType, LoadBalancer, PropagateTags,
    Service as SdkService,
};
use shipway_aws::{AwsError, runtime::Later};
use shipway_domain::{
    rollout::{Deployment, Service, Settings, Target, TargetGroup},
    task::{self, DescribedTaskDefinition, Task, TaskDefinition},
};
use shipway_ecs::{logs, network, tags, task_definitions, tasks};

use crate::handler::{Calls, Change, NewService, Place, Started};

/// How long ECS leaves a new task alone that the load balancer finds unhealthy: long enough for most to start, short enough
/// for the deadline.
const GRACE_SECONDS: i32 = 60;

/// The clients.
pub(crate) struct Aws {
    ecs: aws_sdk_ecs::Client,
    load_balancing: Later<aws_sdk_elasticloadbalancingv2::Client>,
    logs: Later<aws_sdk_cloudwatchlogs::Client>,
}

impl Aws {
    pub(crate) fn new(config: &SdkConfig) -> Aws {
        Aws {
            ecs: aws_sdk_ecs::Client::new(config),
            load_balancing: Later::new(config, aws_sdk_elasticloadbalancingv2::Client::new),
            logs: Later::new(config, aws_sdk_cloudwatchlogs::Client::new),
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

    async fn tasks(&self, place: &Place, running: bool) -> Result<Vec<Task>, AwsError> {
        let of = tasks::Of::Service(&place.name);
        let mut arns = tasks::list(&self.ecs, &place.cluster, of, true).await?;
        if running {
            arns.extend(tasks::list(&self.ecs, &place.cluster, of, false).await?);
        }
        tasks::describe(&self.ecs, &place.cluster, &arns).await
    }

    async fn targets(&self, group: &TargetGroup) -> Result<Vec<Target>, AwsError> {
        let answer = self
            .load_balancing
            .get()
            .describe_target_health()
            .target_group_arn(&group.arn)
            .send()
            .await
            .map_err(AwsError::of("elasticloadbalancing:DescribeTargetHealth"))?;
        let target = |from: &aws_sdk_elasticloadbalancingv2::types::TargetHealthDescription| {
            let (target, health) = (from.target(), from.target_health());
            let reason =
                health.and_then(|health| health.description().or(health.reason().map(|reason| reason.as_str())));
            Target {
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
        let breaker = DeploymentCircuitBreaker::builder().enable(true).rollback(false).build();
        let deployment = DeploymentConfiguration::builder()
            .minimum_healthy_percent(100)
            .maximum_percent(200)
            .deployment_circuit_breaker(breaker)
            .build();
        let answer = self
            .ecs
            .create_service()
            .cluster(&new.place.cluster)
            .service_name(&new.place.name)
            .client_token(new.token)
            .task_definition(&new.version.revision.task_definition)
            .desired_count(1)
            .launch_type(LaunchType::Fargate)
            .network_configuration(network(CALL, settings.subnets.clone(), settings.security_groups.clone())?)
            .set_load_balancers(settings.target_group.as_ref().map(|group| vec![load_balancer(group)]))
            // ECS refuses a grace period where there is no load balancer.
            .set_health_check_grace_period_seconds(settings.target_group.as_ref().map(|_| GRACE_SECONDS))
            .deployment_configuration(deployment)
            .propagate_tags(PropagateTags::Service)
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
            // An empty list takes the service off its load balancer.
            call = call
                .network_configuration(network(CALL, settings.subnets.clone(), settings.security_groups.clone())?)
                .set_load_balancers(Some(settings.target_group.iter().map(load_balancer).collect()))
                .set_health_check_grace_period_seconds(settings.target_group.as_ref().map(|_| GRACE_SECONDS));
        }
        let answer = call
            .set_desired_count(change.count.and_then(|count| i32::try_from(count).ok()))
            .set_force_new_deployment(change.force.then_some(true))
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
}

fn load_balancer(group: &TargetGroup) -> LoadBalancer {
    LoadBalancer::builder()
        .target_group_arn(&group.arn)
        .container_name(&group.container)
        .container_port(i32::from(group.port))
        .build()
}

/// The deployment that a call has made the primary one.
fn started(service: Option<&SdkService>) -> Started {
    match service.map(observed).as_ref().and_then(Service::primary) {
        Some(primary) => Started::Deployment(primary.id.clone()),
        None => Started::LookAgain,
    }
}

fn observed(from: &SdkService) -> Service {
    let vpc = from.network_configuration().and_then(|network| network.awsvpc_configuration());
    let target_group = from.load_balancers().iter().find_map(|one| {
        Some(TargetGroup {
            arn: one.target_group_arn()?.to_owned(),
            container: one.container_name()?.to_owned(),
            port: u16::try_from(one.container_port()?).ok()?,
        })
    });
    Service {
        draining: from.status() == Some("DRAINING"),
        desired: count(from.desired_count()),
        running: count(from.running_count()),
        pending: count(from.pending_count()),
        settings: Settings {
            subnets: vpc.map(|vpc| vpc.subnets().iter().cloned().collect()).unwrap_or_default(),
            security_groups: vpc.map(|vpc| vpc.security_groups().iter().cloned().collect()).unwrap_or_default(),
            target_group,
        },
        deployments: from
            .deployments()
            .iter()
            .map(|one| Deployment {
                id: one.id().unwrap_or_default().to_owned(),
                primary: one.status() == Some("PRIMARY"),
                task_definition: one.task_definition().unwrap_or_default().to_owned(),
                running: count(one.running_count()),
                failed: one.rollout_state() == Some(&DeploymentRolloutState::Failed),
                reason: one.rollout_state_reason().filter(|reason| !reason.is_empty()).map(str::to_owned),
            })
            .collect(),
        remark: from.events().first().and_then(|event| event.message()).map(str::to_owned),
    }
}

fn count(count: i32) -> u32 {
    u32::try_from(count).unwrap_or_default()
}
