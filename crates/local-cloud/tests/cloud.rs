//! The local cloud against real MiniStack: each behaviour of AWS that it adds.
//!
//! `SHIPWAY_TOOLS` names the virtual environment that `cargo xtask setup` makes. Without it these tests say so and pass.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use aws_sdk_ecs::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_ecs::types::{
    AdvancedConfiguration, AwsVpcConfiguration, CanaryConfiguration, Compatibility, ContainerDefinition,
    DeploymentAlarms, DeploymentCircuitBreaker, DeploymentConfiguration, DeploymentLifecycleHook,
    DeploymentLifecycleHookAction, DeploymentLifecycleHookStage, DeploymentLifecycleHookStatus,
    DeploymentLifecycleHookTargetType, DeploymentLifecycleHookTimeoutConfiguration, DeploymentStrategy,
    LinearConfiguration, LoadBalancer, NetworkConfiguration, NetworkMode, PortMapping, Service, ServiceDeployment,
    ServiceDeploymentLifecycleStage, ServiceDeploymentStatus,
};
use aws_sdk_elasticloadbalancingv2::types::{ActionTypeEnum, ProtocolEnum, TargetHealthStateEnum, TargetTypeEnum};
use local_cloud::faults::{Fault, Rule};
use local_cloud::image::Image;
use local_cloud::{Config, Containers, LocalCloud, docker, hello};

/// A cloud, or `None` where the tools are missing.
async fn cloud() -> anyhow::Result<Option<LocalCloud>> {
    let Some(venv) = std::env::var_os("SHIPWAY_TOOLS") else {
        eprintln!("skipped: SHIPWAY_TOOLS is not set");
        return Ok(None);
    };
    Ok(Some(LocalCloud::start(Config::new(venv)).await?))
}

/// Runs a test on a cloud of its own, where there can be one. What the cloud said last explains a failure.
async fn on_cloud(test: impl AsyncFnOnce(&LocalCloud) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let Some(cloud) = cloud().await? else { return Ok(()) };
    Box::pin(test(&cloud)).await.with_context(|| cloud.log_tail())?;
    cloud.stop().await;
    Ok(())
}

async fn until<T, F: Future<Output = anyhow::Result<Option<T>>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if started.elapsed() > Duration::from_secs(30) {
            bail!("{what}: not within 30 s");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A cluster with one service behind a load balancer.
struct Stage<'a> {
    cloud: &'a LocalCloud,
    ecs: aws_sdk_ecs::Client,
    balancing: aws_sdk_elasticloadbalancingv2::Client,
    dns_name: String,
    target_group: String,
}

impl<'a> Stage<'a> {
    async fn set(cloud: &'a LocalCloud) -> anyhow::Result<Self> {
        let config = cloud.sdk_config();
        let ecs = aws_sdk_ecs::Client::new(&config);
        let balancing = aws_sdk_elasticloadbalancingv2::Client::new(&config);
        create_repository(cloud, "api").await?;
        ecs.create_cluster().cluster_name("main").send().await?;
        let balancer = balancing.create_load_balancer().name("main").send().await?;
        let balancer = balancer.load_balancers().first().context("load balancer")?.clone();
        let group = balancing
            .create_target_group()
            .name("api")
            .protocol(ProtocolEnum::Http)
            .port(8080)
            .target_type(TargetTypeEnum::Ip)
            .health_check_path("/health")
            .send()
            .await?;
        let target_group = group.target_groups()[0].target_group_arn().unwrap().to_owned();
        let forward = aws_sdk_elasticloadbalancingv2::types::Action::builder()
            .r#type(ActionTypeEnum::Forward)
            .target_group_arn(&target_group)
            .build();
        balancing
            .create_listener()
            .load_balancer_arn(balancer.load_balancer_arn().unwrap())
            .protocol(ProtocolEnum::Http)
            .port(80)
            .default_actions(forward)
            .send()
            .await?;
        let dns_name = balancer.dns_name().unwrap().to_owned();
        Ok(Self { cloud, ecs, balancing, dns_name, target_group })
    }

    async fn register(&self, image: &Image) -> anyhow::Result<(String, String)> {
        let digest = self.cloud.push_image("api", "latest", image).await?;
        let container = ContainerDefinition::builder()
            .name("api")
            .image(format!("{}/api@{digest}", self.cloud.registry()))
            .essential(true)
            .port_mappings(PortMapping::builder().container_port(8080).build())
            .build();
        let registered = self
            .ecs
            .register_task_definition()
            .family("api")
            .network_mode(NetworkMode::Awsvpc)
            .requires_compatibilities(Compatibility::Fargate)
            .cpu("256")
            .memory("512")
            .container_definitions(container)
            .send()
            .await?;
        let arn = registered.task_definition().unwrap().task_definition_arn().unwrap().to_owned();
        Ok((arn, digest))
    }

    async fn create(&self, task_definition: &str) -> anyhow::Result<()> {
        self.create_with(task_definition, self.balancer(None), None).await
    }

    fn balancer(&self, advanced: Option<AdvancedConfiguration>) -> LoadBalancer {
        LoadBalancer::builder()
            .target_group_arn(&self.target_group)
            .container_name("api")
            .container_port(8080)
            .set_advanced_configuration(advanced)
            .build()
    }

    async fn create_with(
        &self,
        task_definition: &str,
        balancer: LoadBalancer,
        configuration: Option<DeploymentConfiguration>,
    ) -> anyhow::Result<()> {
        let network = AwsVpcConfiguration::builder().subnets("subnet-1").build()?;
        self.ecs
            .create_service()
            .cluster("main")
            .service_name("api")
            .task_definition(task_definition)
            .desired_count(2)
            .load_balancers(balancer)
            .set_deployment_configuration(configuration)
            .network_configuration(NetworkConfiguration::builder().awsvpc_configuration(network).build())
            .send()
            .await?;
        Ok(())
    }

    async fn update(&self, task_definition: &str) -> anyhow::Result<String> {
        let updated =
            self.ecs.update_service().cluster("main").service("api").task_definition(task_definition).send().await?;
        let service = updated.service().unwrap();
        Ok(primary(service).id().unwrap().to_owned())
    }

    async fn service(&self) -> anyhow::Result<Service> {
        let described = self.ecs.describe_services().cluster("main").services("api").send().await?;
        Ok(described.services()[0].clone())
    }

    async fn completed(&self) -> anyhow::Result<Service> {
        until("the deployment completes", || async {
            let service = self.service().await?;
            let complete = primary(&service).rollout_state().is_some_and(|state| state.as_str() == "COMPLETED");
            Ok((complete && service.deployments().len() == 1).then_some(service))
        })
        .await
    }

    async fn version(&self) -> anyhow::Result<String> {
        let answer = self.cloud.http_through_load_balancer(&self.dns_name, "/api/orders").await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).with_context(|| answer.text())?;
        Ok(answer["version"].as_str().unwrap().to_owned())
    }

    async fn stopped_tasks(&self) -> anyhow::Result<Vec<aws_sdk_ecs::types::Task>> {
        let stopped = aws_sdk_ecs::types::DesiredStatus::Stopped;
        let listed = self.ecs.list_tasks().cluster("main").service_name("api").desired_status(stopped).send().await?;
        if listed.task_arns().is_empty() {
            return Ok(Vec::new());
        }
        let tasks = self.ecs.describe_tasks().cluster("main").set_tasks(listed.task_arns).send().await?;
        Ok(tasks.tasks.unwrap_or_default())
    }
}

fn primary(service: &Service) -> &aws_sdk_ecs::types::Deployment {
    service.deployments().iter().find(|d| d.status() == Some("PRIMARY")).unwrap()
}

/// Signed calls of services we have no client of: the root's signature is not checked.
async fn call(
    cloud: &LocalCloud,
    service: &str,
    target: &str,
    body: serde_json::Value,
) -> anyhow::Result<serde_json::Value> {
    let output = tokio::process::Command::new("curl")
        .args(["--silent", "--show-error", "--fail-with-body", cloud.endpoint()])
        .args(["--header", &format!("x-amz-target: {target}"), "--header", "content-type: application/x-amz-json-1.1"])
        .args(["--header", &authorization(cloud, service), "--data", &body.to_string()])
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(output.status.success(), "{target}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(if text.is_empty() { serde_json::Value::Null } else { serde_json::from_str(&text)? })
}

fn authorization(cloud: &LocalCloud, service: &str) -> String {
    let (key, _) = cloud.credentials();
    let scope = format!("{key}/20261121/{}/{service}/aws4_request", cloud.region());
    format!("authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0")
}

/// The same for services that take forms and answer with XML.
async fn form(cloud: &LocalCloud, service: &str, fields: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut command = tokio::process::Command::new("curl");
    command.args(["--silent", "--fail-with-body", cloud.endpoint(), "--header", &authorization(cloud, service)]);
    for (name, value) in fields {
        command.args(["--data-urlencode", &format!("{name}={value}")]);
    }
    let output = command.output().await?;
    let answer = String::from_utf8(output.stdout)?;
    anyhow::ensure!(output.status.success(), "{answer}");
    Ok(answer)
}

/// What the first element of this name holds.
fn tagged(answer: &str, name: &str) -> anyhow::Result<String> {
    let (_, rest) = answer.split_once(&format!("<{name}>")).with_context(|| format!("no {name}"))?;
    Ok(rest.split('<').next().unwrap_or_default().to_owned())
}

async fn create_role(cloud: &LocalCloud, name: &str, trust: &str, policy: &str) -> anyhow::Result<()> {
    let version = ("Version", "2010-05-08");
    let role = [("Action", "CreateRole"), version, ("RoleName", name), ("AssumeRolePolicyDocument", trust)];
    form(cloud, "iam", &role).await?;
    put_policy(cloud, name, policy).await
}

async fn put_policy(cloud: &LocalCloud, role: &str, policy: &str) -> anyhow::Result<()> {
    let put = [("Action", "PutRolePolicy"), ("Version", "2010-05-08"), ("RoleName", role)];
    form(cloud, "iam", &[&put[..], &[("PolicyName", "p"), ("PolicyDocument", policy)]].concat()).await.map(drop)
}

async fn create_repository(cloud: &LocalCloud, name: &str) -> anyhow::Result<()> {
    let target = "AmazonEC2ContainerRegistry_V20150921.CreateRepository";
    call(cloud, "ecr", target, serde_json::json!({ "repositoryName": name })).await.map(drop)
}

async fn serve_fail_and_roll_back(cloud: &LocalCloud) -> anyhow::Result<()> {
    let stage = Stage::set(cloud).await?;
    let (first, digest) = stage.register(&hello::image("1").await?).await?;
    stage.create(&first).await?;
    let service = stage.service().await?;
    assert_eq!(primary(&service).rollout_state().unwrap().as_str(), "IN_PROGRESS");
    let service = stage.completed().await?;
    assert_eq!(service.running_count(), 2);
    assert_eq!(stage.version().await?, "1");

    let tasks = stage.ecs.list_tasks().cluster("main").service_name("api").send().await?;
    let tasks = stage.ecs.describe_tasks().cluster("main").set_tasks(tasks.task_arns).send().await?;
    for task in tasks.tasks() {
        assert_eq!(task.containers()[0].image_digest(), Some(digest.as_str()));
        assert_eq!(task.started_by(), primary(&service).id());
    }

    let (second, _) = stage.register(&hello::image("2").await?).await?;
    let deployment = stage.update(&second).await?;
    assert!(deployment.starts_with("ecs-svc/"), "{deployment}");
    let service = stage.completed().await?;
    assert_eq!(primary(&service).id(), Some(deployment.as_str()));
    assert_eq!(stage.version().await?, "2");

    // A program that exits at once: the old tasks serve on, failures count, each task says why it stopped.
    let (crashing, _) = stage.register(&hello::image("3").await?.command(["crash"])).await?;
    let deployment = stage.update(&crashing).await?;
    let service = until("two tasks have failed", || async {
        let service = stage.service().await?;
        Ok((primary(&service).failed_tasks() >= 2).then_some(service))
    })
    .await?;
    let failing = primary(&service);
    assert_eq!(failing.id(), Some(deployment.as_str()));
    assert_eq!(failing.rollout_state().unwrap().as_str(), "IN_PROGRESS");
    let old = service.deployments().iter().find(|d| d.status() == Some("ACTIVE")).context("the old deployment")?;
    assert_eq!((old.running_count(), old.task_definition()), (2, Some(second.as_str())));
    assert_eq!(stage.version().await?, "2");
    let stopped = stage.stopped_tasks().await?;
    let crashed = stopped.iter().find(|t| t.started_by() == Some(&deployment)).context("a stopped task")?;
    assert_eq!(crashed.stopped_reason(), Some("Essential container in task exited"));
    assert_eq!(crashed.stop_code().unwrap().as_str(), "EssentialContainerExited");
    assert_eq!(crashed.containers()[0].exit_code(), Some(1));

    // A program that answers, but not as it should.
    let (unhealthy, _) = stage.register(&hello::image("4").await?.env("HEALTH_STATUS", "503")).await?;
    let deployment = stage.update(&unhealthy).await?;
    until("a target is unhealthy", || async {
        let health = stage.balancing.describe_target_health().target_group_arn(&stage.target_group).send().await?;
        let bad = health.target_health_descriptions().iter().filter_map(|d| d.target_health()).any(|health| {
            health.state() == Some(&TargetHealthStateEnum::Unhealthy)
                && health.description() == Some("Health checks failed with these codes: [503]")
        });
        Ok(bad.then_some(()))
    })
    .await?;
    assert_eq!(stage.version().await?, "2");
    until("an unhealthy task is replaced", || async {
        let stopped = stage.stopped_tasks().await?;
        Ok(stopped
            .iter()
            .any(|task| {
                task.started_by() == Some(&deployment)
                    && task
                        .stopped_reason()
                        .is_some_and(|r| r.starts_with("Task failed ELB health checks in (target-group"))
            })
            .then_some(()))
    })
    .await?;

    // The way back is a deployment too.
    let deployment = stage.update(&second).await?;
    let service = stage.completed().await?;
    assert_eq!(primary(&service).id(), Some(deployment.as_str()));
    assert_eq!((service.running_count(), stage.version().await?.as_str()), (2, "2"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_serves_fails_and_rolls_back() -> anyhow::Result<()> {
    on_cloud(serve_fail_and_roll_back).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_in_docker() -> anyhow::Result<()> {
    let own = tempfile::tempdir()?;
    // CI machines that have `dockerd` and no engine ask for one of ours.
    let engine = match std::env::var_os("SHIPWAY_START_DOCKER") {
        Some(_) => Some(docker::Engine::start_own(own.path()).await?),
        None => docker::Engine::find().await.ok(),
    };
    let (Some(venv), Some(engine)) = (std::env::var_os("SHIPWAY_TOOLS"), engine) else {
        eprintln!("skipped: no tools or no Docker engine");
        return Ok(());
    };
    let containers = Containers::Docker(engine.host().to_owned());
    let cloud = LocalCloud::start(Config { containers, ..Config::new(venv) }).await?;
    serve_fail_and_roll_back(&cloud).await.with_context(|| cloud.log_tail())?;

    // `docker build` and `docker push` as a person's CI does them.
    let context = tempfile::tempdir()?;
    std::fs::copy(hello::program().await?, context.path().join("server"))?;
    std::fs::write(context.path().join("Dockerfile"), "FROM scratch\nCOPY server /server\nENTRYPOINT [\"/server\"]\n")?;
    engine.build(context.path(), "local-cloud-test").await?;
    let digest = engine.push(&cloud, "local-cloud-test", "api", "built").await?;
    assert!(digest.starts_with("sha256:"), "{digest}");
    cloud.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_ends_with_its_program_and_runs_once_for_a_token() -> anyhow::Result<()> {
    let Some(cloud) = cloud().await? else { return Ok(()) };
    let stage = Stage::set(&cloud).await?;
    let (definition, _) = stage.register(&hello::image("1").await?).await?;
    let run = |token: &str, argument: &str| {
        let container = aws_sdk_ecs::types::ContainerOverride::builder().name("api").command(argument).build();
        let overrides = aws_sdk_ecs::types::TaskOverride::builder().container_overrides(container).build();
        stage
            .ecs
            .run_task()
            .cluster("main")
            .task_definition(&definition)
            .client_token(token)
            .overrides(overrides)
            .send()
    };
    let first = run("release-1", "migrate").await?.tasks()[0].task_arn().unwrap().to_owned();
    let again = run("release-1", "migrate").await?.tasks()[0].task_arn().unwrap().to_owned();
    assert_eq!(first, again);
    let conflict = run("release-1", "migrate-fail").await.unwrap_err().into_service_error();
    assert!(conflict.is_conflict_exception(), "{conflict:?}");
    let failing = run("release-2", "migrate-fail").await?.tasks()[0].task_arn().unwrap().to_owned();
    for (task, exit_code) in [(first, 0), (failing, 1)] {
        let stopped = until("the task stops", || async {
            let tasks = stage.ecs.describe_tasks().cluster("main").tasks(&task).send().await?;
            let task = tasks.tasks()[0].clone();
            Ok((task.last_status() == Some("STOPPED")).then_some(task))
        })
        .await?;
        assert_eq!(stopped.containers()[0].exit_code(), Some(exit_code));
    }
    cloud.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_network_is_not_made_twice_where_ec2_makes_it_once() -> anyhow::Result<()> {
    let Some(cloud) = cloud().await? else { return Ok(()) };
    let ask = async |action: &str, fields: &[(&str, &str)]| {
        form(&cloud, "ec2", &[&[("Action", action), ("Version", "2016-11-15")], fields].concat()).await
    };
    let vpc = tagged(&ask("CreateVpc", &[("CidrBlock", "10.7.0.0/16")]).await?, "vpcId")?;
    let subnet = |range| [("VpcId", vpc.as_str()), ("CidrBlock", range), ("AvailabilityZone", "us-east-1a")];
    ask("CreateSubnet", &subnet("10.7.0.0/20")).await?;
    let overlap = ask("CreateSubnet", &subnet("10.7.8.0/24")).await.unwrap_err();
    assert!(overlap.to_string().contains("InvalidSubnet.Conflict"), "{overlap}");
    ask("CreateSubnet", &subnet("10.7.16.0/20")).await?;
    for (action, field, more) in [
        ("CreateRouteTable", "routeTableId", None),
        ("CreateVpcEndpoint", "vpcEndpointId", Some(("ServiceName", "com.amazonaws.us-east-1.s3"))),
    ] {
        let mut fields = vec![("VpcId", vpc.as_str())];
        fields.extend(more);
        let mut made = Vec::new();
        for token in ["one", "one", "another"] {
            made.push(tagged(&ask(action, &[&fields[..], &[("ClientToken", token)]].concat()).await?, field)?);
        }
        assert!(made[0] == made[1] && made[1] != made[2], "{action}: {made:?}");
    }
    cloud.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_announced_to_the_rules_that_ask_for_it() -> anyhow::Result<()> {
    let Some(cloud) = cloud().await? else { return Ok(()) };
    create_repository(&cloud, "team/api").await?;
    // A queue as target: what arrives there is what a function would get.
    let queue = serde_json::json!({ "QueueName": "pushes" });
    let queue = call(&cloud, "sqs", "AmazonSQS.CreateQueue", queue).await?["QueueUrl"].clone();
    let pattern = r#"{"source":["aws.ecr"],"detail-type":["ECR Image Action"],"detail":{"action-type":["PUSH"],"result":["SUCCESS"]}}"#;
    let rule = serde_json::json!({ "Name": "pushes", "EventPattern": pattern });
    call(&cloud, "events", "AWSEvents.PutRule", rule).await?;
    let arn = format!("arn:aws:sqs:{}:{}:pushes", cloud.region(), cloud.account());
    let targets = serde_json::json!({ "Rule": "pushes", "Targets": [{ "Id": "queue", "Arn": arn }] });
    call(&cloud, "events", "AWSEvents.PutTargets", targets).await?;
    let receive = || async {
        let body = serde_json::json!({ "QueueUrl": queue, "MaxNumberOfMessages": 10 });
        let answer = call(&cloud, "sqs", "AmazonSQS.ReceiveMessage", body).await?;
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        let events = messages.iter().map(|m| serde_json::from_str(m["Body"].as_str().unwrap()).unwrap());
        anyhow::Ok(events.collect::<Vec<serde_json::Value>>())
    };

    let image = hello::image("1").await?;
    let digest = cloud.push_image("team/api", "sha-1", &image).await?;
    let event = until("the event arrives", || async { Ok(receive().await?.pop()) }).await?;
    assert_eq!(event["source"], "aws.ecr");
    assert_eq!(event["account"], cloud.account());
    assert_eq!(event["region"], cloud.region());
    let expected = serde_json::json!({
        "result": "SUCCESS",
        "repository-name": "team/api",
        "image-digest": digest,
        "action-type": "PUSH",
        "image-tag": "sha-1",
        "manifest-media-type": "application/vnd.docker.distribution.manifest.v2+json",
        "artifact-media-type": "application/vnd.docker.container.image.v1+json",
    });
    assert_eq!(event["detail"], expected);

    // By digest: no tag. Lost: nothing. Again: the same event twice.
    cloud.push_untagged("team/api", &image).await?;
    let untagged = until("the second event arrives", || async { Ok(receive().await?.pop()) }).await?;
    assert_eq!(untagged["detail"].get("image-tag"), None);
    cloud.announce_pushes("team/api", false).await?;
    cloud.push_image("team/api", "sha-2", &image).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(receive().await?, Vec::<serde_json::Value>::new());
    assert_eq!(cloud.deliver(&event).await?, ["pushes"]);
    assert_eq!(until("the replay arrives", || async { Ok(receive().await?.pop()) }).await?, event);
    cloud.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_happen_to_the_chosen_call() -> anyhow::Result<()> {
    let Some(cloud) = cloud().await? else { return Ok(()) };
    let config = cloud.sdk_config().into_builder().retry_config(aws_config::retry::RetryConfig::disabled()).build();
    let ecs = aws_sdk_ecs::Client::new(&config);
    let create = |name: &str| ecs.create_cluster().cluster_name(name).send();

    cloud.faults().add(Rule::new(Fault::Throttle).service("ecs").operation("CreateCluster").nth(1));
    let throttled = create("throttled").await.unwrap_err();
    assert_eq!(throttled.code(), Some("ThrottlingException"));
    create("throttled").await?;

    cloud.faults().clear();
    cloud.faults().add(Rule::new(Fault::ServerError).times(1));
    assert_eq!(create("refused").await.unwrap_err().raw_response().unwrap().status().as_u16(), 500);

    cloud.faults().clear();
    cloud.faults().add(Rule::new(Fault::DropBefore).times(1));
    assert!(matches!(create("dropped-before").await, Err(SdkError::DispatchFailure(_))));

    cloud.faults().clear();
    cloud.faults().add(Rule::new(Fault::DropAfter).times(1));
    assert!(matches!(create("dropped-after").await, Err(SdkError::DispatchFailure(_))));

    cloud.faults().clear();
    cloud.faults().add(Rule::new(Fault::Delay(Duration::from_millis(300))).times(1));
    let started = Instant::now();
    let clusters = ecs.list_clusters().send().await?;
    assert!(started.elapsed() >= Duration::from_millis(300));
    let mut names: Vec<_> = clusters.cluster_arns().iter().filter_map(|arn| arn.rsplit('/').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["dropped-after", "throttled"]);
    assert_eq!(cloud.faults().calls().len(), 6);
    assert_eq!(cloud.faults().calls()[5].operation.name, "ListClusters");
    cloud.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ministack_that_ends_says_why() {
    let Some(venv) = std::env::var_os("SHIPWAY_TOOLS") else { return };
    let directory = tempfile::tempdir().unwrap();
    // A venv whose Python has no MiniStack.
    std::fs::create_dir_all(directory.path().join("bin")).unwrap();
    let python = std::fs::canonicalize(std::path::Path::new(&venv).join("bin/python")).unwrap();
    std::os::unix::fs::symlink(python, directory.path().join("bin/python")).unwrap();
    let error = LocalCloud::start(Config::new(directory.path())).await.err().unwrap().to_string();
    assert!(error.contains("No module named 'ministack'"), "{error}");
}

/// A function in Python, so that this test compiles nothing: its event names the cluster it is to create.
const CREATES_A_CLUSTER: &str = r#"#!/usr/bin/env python3
import json, os, urllib.request
import boto3
base = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation"
while True:
    with urllib.request.urlopen(f"{base}/next") as answer:
        identity, event = answer.headers["Lambda-Runtime-Aws-Request-Id"], json.load(answer)
    ecs = boto3.client("ecs")
    try:
        # A cluster that is theirs is looked at, for which the role has no right.
        if event["cluster"] == "theirs":
            ecs.describe_clusters(clusters=["theirs"])
        ecs.create_cluster(clusterName=event["cluster"])
        result = {"leaked": sorted(name for name in os.environ if name.startswith(("LOCAL_CLOUD", "MINISTACK")))}
        path = "response"
    except Exception as error:
        result, path = {"errorType": type(error).__name__, "errorMessage": str(error)}, "error"
    urllib.request.urlopen(f"{base}/{identity}/{path}", json.dumps(result).encode()).close()
"#;

/// The zip file of one executable `bootstrap`, as `aws lambda` wants it.
async fn zip(content: &str) -> anyhow::Result<String> {
    let script = "import base64,io,sys,zipfile\nb=io.BytesIO()\nz=zipfile.ZipFile(b,'w')\ni=zipfile.ZipInfo('bootstrap')\n\
                  i.external_attr=0o755<<16\nz.writestr(i,sys.argv[1])\nz.close()\nprint(base64.b64encode(b.getvalue()).decode())";
    let output = tokio::process::Command::new("python3").args(["-c", script, content]).output().await?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A request of a REST service; answers status and body.
async fn rest(cloud: &LocalCloud, service: &str, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
    let output = tokio::process::Command::new("curl")
        .args(["--silent", "--show-error", "--request", method, &format!("{}{path}", cloud.endpoint())])
        .args(["--header", &authorization(cloud, service), "--data-binary", "@-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut child = output?;
    let mut stdin = child.stdin.take().context("stdin")?;
    tokio::io::AsyncWriteExt::write_all(&mut stdin, body.as_bytes()).await?;
    drop(stdin);
    Ok(String::from_utf8(child.wait_with_output().await?.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_has_its_rights_and_can_die_at_a_call() -> anyhow::Result<()> {
    let Some(cloud) = cloud().await? else { return Ok(()) };
    let ecs = aws_sdk_ecs::Client::new(&cloud.sdk_config());
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
    let policy =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecs:CreateCluster","Resource":"*"}]}"#;
    create_role(&cloud, "maker", trust, policy).await?;
    let function = serde_json::json!({
        "FunctionName": "app-maker-1A2B", "Runtime": "provided.al2023", "Handler": "bootstrap", "Timeout": 20,
        "Role": format!("arn:aws:iam::{}:role/maker", cloud.account()), "Code": { "ZipFile": zip(CREATES_A_CLUSTER).await? },
    });
    rest(&cloud, "lambda", "POST", "/2015-03-31/functions", &function.to_string()).await?;
    let invoke = async |cluster: &str| {
        let event = serde_json::json!({ "cluster": cluster }).to_string();
        rest(&cloud, "lambda", "POST", "/2015-03-31/functions/app-maker-1A2B/invocations", &event).await
    };
    let exists = async |cluster: &str| {
        let found = ecs.describe_clusters().clusters(cluster).send().await?;
        anyhow::Ok(found.clusters().iter().any(|cluster| cluster.status() == Some("ACTIVE")))
    };

    assert_eq!(invoke("ours-1").await?, r#"{"leaked": []}"#, "{}", cloud.log_tail());
    let denied = invoke("theirs").await?;
    assert!(denied.contains("AccessDenied") && !exists("theirs").await?, "{denied}");

    // Dies before AWS has seen the call; dies when AWS has acted.
    cloud.faults().add(Rule::new(Fault::KillBefore).caller("maker").operation("CreateCluster").nth(1));
    let died = invoke("ours-2").await?;
    assert!(died.contains("Runtime.ExitError") || died.contains("errorType"), "{died}");
    assert!(!exists("ours-2").await?);
    cloud.faults().clear();
    cloud.faults().add(Rule::new(Fault::KillAfter).caller("maker").operation("CreateCluster").nth(1));
    let died = invoke("ours-3").await?;
    assert!(died.contains("errorType"), "{died}");
    assert!(exists("ours-3").await?);
    cloud.faults().clear();
    assert_eq!(invoke("ours-4").await?, r#"{"leaked": []}"#);
    let calls = cloud.faults().calls();
    assert!(
        calls
            .iter()
            .any(|call| call.caller.as_deref() == Some("app-maker-1A2B") && call.fault == Some(Fault::KillAfter))
    );
    cloud.stop().await;
    Ok(())
}

/// A service whose requests go from one target group to another: rules of a stack, and the role that ECS takes for them.
struct Shifts<'a> {
    stage: Stage<'a>,
    alternate: String,
    production: String,
    test: String,
    role: String,
}

const MAY_SHIFT: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":[
    "elasticloadbalancing:ModifyRule","elasticloadbalancing:RegisterTargets","elasticloadbalancing:DeregisterTargets"]}]}"#;
const TEST_HEADER: (&str, &str) = ("X-Shift-Test", "new");

impl<'a> Shifts<'a> {
    async fn set(cloud: &'a LocalCloud) -> anyhow::Result<Self> {
        let stage = Stage::set(cloud).await?;
        let group = stage
            .balancing
            .create_target_group()
            .name("api-alternate")
            .protocol(ProtocolEnum::Http)
            .port(8080)
            .target_type(TargetTypeEnum::Ip)
            .health_check_path("/health")
            .send()
            .await?;
        let alternate = group.target_groups()[0].target_group_arn().unwrap().to_owned();
        let balancers = stage.balancing.describe_load_balancers().send().await?;
        let balancer = balancers.load_balancers()[0].load_balancer_arn().unwrap();
        let listeners = stage.balancing.describe_listeners().load_balancer_arn(balancer).send().await?;
        let listener = listeners.listeners()[0].listener_arn().unwrap();
        let rule = |priority: u32, conditions: serde_json::Value| {
            let groups = serde_json::json!([
                { "TargetGroupArn": stage.target_group, "Weight": 100 },
                { "TargetGroupArn": alternate, "Weight": 0 },
            ]);
            let properties = serde_json::json!({
                "ListenerArn": listener, "Priority": priority, "Conditions": conditions,
                "Actions": [{ "Type": "forward", "ForwardConfig": { "TargetGroups": groups } }],
            });
            serde_json::json!({ "Type": "AWS::ElasticLoadBalancingV2::ListenerRule", "Properties": properties })
        };
        let path = serde_json::json!({ "Field": "path-pattern", "PathPatternConfig": { "Values": ["/api/*"] } });
        let header = serde_json::json!({ "HttpHeaderName": "x-shift-test", "Values": ["new"] });
        let header = serde_json::json!({ "Field": "http-header", "HttpHeaderConfig": header });
        let resources = serde_json::json!({
            "Production": rule(20, serde_json::json!([path])), "Test": rule(10, serde_json::json!([path, header])),
        });
        let template = serde_json::json!({ "Resources": resources }).to_string();
        let version = ("Version", "2010-05-15");
        let stack = [("Action", "CreateStack"), version, ("StackName", "rules"), ("TemplateBody", template.as_str())];
        form(cloud, "cloudformation", &stack).await?;
        let (production, test) = until("the rules are there", || async {
            let rules = stage.balancing.describe_rules().listener_arn(listener).send().await?;
            let of = |priority| {
                let found = rules.rules().iter().find(|rule| rule.priority() == Some(priority));
                found.and_then(|rule| rule.rule_arn()).map(str::to_owned)
            };
            Ok(of("20").zip(of("10")))
        })
        .await?;
        let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
        create_role(cloud, "shift", trust, MAY_SHIFT).await?;
        let role = format!("arn:aws:iam::{}:role/shift", cloud.account());
        Ok(Self { stage, alternate, production, test, role })
    }

    fn balancer(&self) -> LoadBalancer {
        let advanced = AdvancedConfiguration::builder()
            .alternate_target_group_arn(&self.alternate)
            .production_listener_rule(&self.production)
            .test_listener_rule(&self.test)
            .role_arn(&self.role)
            .build();
        self.stage.balancer(Some(advanced))
    }

    async fn register(&self, version: &str) -> anyhow::Result<String> {
        Ok(self.stage.register(&hello::image(version).await?).await?.0)
    }

    /// A service with two tasks of a first version that serves.
    async fn serving(&self, configuration: DeploymentConfiguration) -> anyhow::Result<String> {
        let first = self.register("1").await?;
        self.stage.create_with(&first, self.balancer(), Some(configuration)).await?;
        let deployment = self.current().await?;
        let ended = self.ends(&deployment).await?;
        assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::Successful), "{ended:?}");
        assert!(ended.source_service_revisions().is_empty());
        assert_eq!(self.stage.version().await?, "1");
        Ok(first)
    }

    /// Starts a deployment; answers the service deployment's ARN.
    async fn deploy(&self, task_definition: &str) -> anyhow::Result<String> {
        self.stage.update(task_definition).await?;
        self.current().await
    }

    async fn current(&self) -> anyhow::Result<String> {
        let service = self.stage.service().await?;
        Ok(service.current_service_deployment().context("no service deployment")?.to_owned())
    }

    async fn described(&self, arn: &str) -> anyhow::Result<ServiceDeployment> {
        let described = self.stage.ecs.describe_service_deployments().service_deployment_arns(arn).send().await?;
        described.service_deployments().first().cloned().context("the service deployment")
    }

    async fn ends(&self, arn: &str) -> anyhow::Result<ServiceDeployment> {
        until("the service deployment ends", || async {
            let found = self.described(arn).await?;
            Ok(found.finished_at().is_some().then_some(found))
        })
        .await
    }

    async fn reaches(&self, arn: &str, stage: ServiceDeploymentLifecycleStage) -> anyhow::Result<ServiceDeployment> {
        until(stage.as_str(), || async {
            let found = self.described(arn).await?;
            anyhow::ensure!(found.finished_at().is_none(), "{found:?}");
            Ok((found.lifecycle_stage() == Some(&stage)).then_some(found))
        })
        .await
    }

    /// The id of the hook that waits.
    async fn pauses(&self, arn: &str) -> anyhow::Result<String> {
        until("a hook waits", || async {
            let found = self.described(arn).await?;
            anyhow::ensure!(found.finished_at().is_none(), "{found:?}");
            let waiting = found
                .lifecycle_hook_details()
                .iter()
                .find(|hook| hook.status() == Some(&DeploymentLifecycleHookStatus::AwaitingAction));
            Ok(waiting.and_then(|hook| hook.hook_id()).map(str::to_owned))
        })
        .await
    }

    /// The version that requests with the header for tests get.
    async fn tested(&self) -> anyhow::Result<String> {
        let dns_name = &self.stage.dns_name;
        let answer = self.stage.cloud.http_with_header(dns_name, "/api/orders", Some(TEST_HEADER)).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).with_context(|| answer.text())?;
        Ok(answer["version"].as_str().unwrap().to_owned())
    }

    /// The weights of the target group and of its alternate.
    async fn weights(&self, rule: &str) -> anyhow::Result<(i32, i32)> {
        let rules = self.stage.balancing.describe_rules().rule_arns(rule).send().await?;
        let config = rules.rules()[0].actions()[0].forward_config().context("forward config")?.clone();
        let of = |arn: &str| {
            let found = config.target_groups().iter().find(|group| group.target_group_arn() == Some(arn));
            found.and_then(|group| group.weight()).unwrap()
        };
        Ok((of(&self.stage.target_group), of(&self.alternate)))
    }

    /// Asks until the work is done, and once more; answers the versions that answered, in their order. Every answer must be good.
    async fn visited<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<(T, Vec<String>)> {
        let mut versions = Vec::new();
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    let done = done?;
                    versions.push(self.stage.version().await?);
                    return Ok((done, versions));
                }
                version = async { tokio::time::sleep(Duration::from_millis(10)).await; self.stage.version().await } => {
                    versions.push(version?);
                }
            }
        }
    }

    /// How many tasks of a deployment's family run.
    async fn running(&self) -> anyhow::Result<i32> {
        Ok(self.stage.service().await?.running_count())
    }
}

fn shifting(strategy: DeploymentStrategy) -> aws_sdk_ecs::types::builders::DeploymentConfigurationBuilder {
    DeploymentConfiguration::builder().strategy(strategy).bake_time_in_minutes(1)
}

fn pause() -> DeploymentLifecycleHook {
    pause_with(None)
}

fn pause_with(timeout: Option<DeploymentLifecycleHookTimeoutConfiguration>) -> DeploymentLifecycleHook {
    DeploymentLifecycleHook::builder()
        .set_timeout_configuration(timeout)
        .target_type(DeploymentLifecycleHookTargetType::Pause)
        .lifecycle_stages(DeploymentLifecycleHookStage::PostTestTrafficShift)
        .build()
}

fn breaker(rollback: bool) -> DeploymentCircuitBreaker {
    DeploymentCircuitBreaker::builder().enable(true).rollback(rollback).build()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_over_at_once_and_back_where_the_new_version_fails() -> anyhow::Result<()> {
    on_cloud(blue_green).await
}

async fn blue_green(cloud: &LocalCloud) -> anyhow::Result<()> {
    let shifts = Shifts::set(cloud).await?;
    let stage = &shifts.stage;
    assert_eq!(shifts.weights(&shifts.production).await?, (100, 0));
    let paused = shifting(DeploymentStrategy::BlueGreen)
        .lifecycle_hooks(pause())
        .deployment_circuit_breaker(breaker(true))
        .build();
    let first = shifts.register("1").await?;
    stage.create_with(&first, shifts.balancer(), Some(paused.clone())).await?;
    let service = stage.service().await?;
    assert_eq!(service.deployment_configuration().unwrap(), &paused);
    let deployment = service.current_service_deployment().unwrap().to_owned();
    assert!(deployment.contains(":service-deployment/main/api/"), "{deployment}");
    let go_on = async |deployment: String| {
        let hook = shifts.pauses(&deployment).await?;
        stage.ecs.continue_service_deployment().service_deployment_arn(&deployment).hook_id(hook).send().await?;
        shifts.ends(&deployment).await
    };
    let ended = go_on(deployment.clone()).await?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::Successful), "{ended:?}");
    assert_eq!(stage.service().await?.current_service_deployment(), None);

    // While it waits, tests reach the new version and nobody else does; both versions run.
    let second = shifts.register("2").await?;
    let deployment = shifts.deploy(&second).await?;
    let (hook, versions) = shifts.visited(shifts.pauses(&deployment)).await?;
    assert!(versions.iter().all(|version| version == "1"), "{versions:?}");
    assert_eq!((shifts.tested().await?, stage.version().await?), ("2".to_owned(), "1".to_owned()));
    assert_eq!(shifts.weights(&shifts.production).await?, (100, 0));
    assert_eq!(shifts.weights(&shifts.test).await?, (0, 100));
    let waiting = shifts.described(&deployment).await?;
    let (old, new) = (&waiting.source_service_revisions()[0], waiting.target_service_revision().unwrap());
    assert_eq!((old.running_task_count(), old.requested_production_traffic_weight()), (2, Some(100.0)));
    assert_eq!((new.running_task_count(), new.requested_production_traffic_weight()), (2, Some(0.0)));
    assert_eq!(new.requested_test_traffic_weight(), Some(100.0));
    let service = stage.service().await?;
    assert_eq!(primary(&service).task_definition(), Some(second.as_str()));
    assert_eq!((service.deployments().len(), service.running_count()), (2, 4));
    let health = stage.balancing.describe_target_health().target_group_arn(&shifts.alternate).send().await?;
    let states = health.target_health_descriptions().iter().map(|d| d.target_health().unwrap().state().unwrap());
    assert_eq!(states.collect::<Vec<_>>(), [&TargetHealthStateEnum::Healthy; 2]);
    let wrong = stage.ecs.continue_service_deployment().service_deployment_arn(&deployment).hook_id("other").send();
    assert_eq!(wrong.await.unwrap_err().code(), Some("InvalidParameterException"));
    stage.ecs.continue_service_deployment().service_deployment_arn(&deployment).hook_id(hook).send().await?;
    let (ended, versions) = shifts.visited(shifts.ends(&deployment)).await?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::Successful), "{ended:?}");
    let shifted = versions.iter().position(|version| version == "2").context("nobody reached the new version")?;
    assert!(versions[shifted..].iter().all(|version| version == "2"), "{versions:?}");
    assert_eq!(shifts.weights(&shifts.production).await?, (0, 100));
    let service = stage.completed().await?;
    assert_eq!((service.running_count(), service.task_definition()), (2, Some(second.as_str())));
    assert_eq!(service.load_balancers()[0].target_group_arn(), Some(stage.target_group.as_str()));

    // A version that never gets healthy gets no request; the circuit breaker leads back to what served.
    let (unhealthy, _) = stage.register(&hello::image("3").await?.env("HEALTH_STATUS", "503")).await?;
    let deployment = shifts.deploy(&unhealthy).await?;
    let (ended, versions) = shifts.visited(shifts.ends(&deployment)).await?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::RollbackSuccessful), "{ended:?}");
    assert!(ended.rollback().unwrap().reason().unwrap().contains("circuit breaker"), "{ended:?}");
    assert!(versions.iter().all(|version| version == "2"), "{versions:?}");
    let service = stage.service().await?;
    let back = primary(&service);
    assert_eq!(back.task_definition(), Some(second.as_str()));
    assert_eq!(back.rollout_state().unwrap().as_str(), "COMPLETED");
    assert!(back.rollout_state_reason().unwrap().contains("rolling back"), "{back:?}");
    assert_eq!((service.task_definition(), shifts.running().await?), (Some(second.as_str()), 2));

    // The next goes to the group that served first.
    let third = shifts.register("4").await?;
    let deployment = shifts.deploy(&third).await?;
    let (ended, versions) = shifts.visited(go_on(deployment)).await?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::Successful), "{ended:?}");
    assert!(versions.iter().all(|version| version == "2" || version == "4"), "{versions:?}");
    assert_eq!(shifts.weights(&shifts.production).await?, (100, 0));
    assert_eq!(shifts.weights(&shifts.test).await?, (100, 0));
    assert_eq!((stage.version().await?, shifts.tested().await?), ("4".to_owned(), "4".to_owned()));

    // A person who looked at it says no.
    let deployment = shifts.deploy(&second).await?;
    let hook = shifts.pauses(&deployment).await?;
    let answer = stage.ecs.continue_service_deployment().service_deployment_arn(&deployment).hook_id(hook);
    answer.action(DeploymentLifecycleHookAction::Rollback).send().await?;
    let (ended, versions) = shifts.visited(shifts.ends(&deployment)).await?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::RollbackSuccessful), "{ended:?}");
    assert!(versions.iter().all(|version| version == "4"), "{versions:?}");
    assert_eq!(shifts.tested().await?, "4");

    // A newer one comes while one waits, of which nobody but tests saw anything.
    let deployment = shifts.deploy(&second).await?;
    shifts.pauses(&deployment).await?;
    let fifth = shifts.register("5").await?;
    let newer = shifts.deploy(&fifth).await?;
    let (hook, versions) = shifts.visited(shifts.pauses(&newer)).await?;
    assert!(versions.iter().all(|version| version == "4"), "{versions:?}");
    assert_eq!((shifts.tested().await?, shifts.running().await?), ("5".to_owned(), 4));
    assert_eq!(shifts.described(&deployment).await?.status(), Some(&ServiceDeploymentStatus::Stopped));
    stage.ecs.continue_service_deployment().service_deployment_arn(&newer).hook_id(hook).send().await?;
    let (ended, versions) = shifts.visited(shifts.ends(&newer)).await?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::Successful), "{ended:?}");
    assert!(versions.iter().all(|version| version == "4" || version == "5"), "{versions:?}");
    let listed = stage.ecs.list_service_deployments().cluster("main").service("api").send().await?;
    assert_eq!(listed.service_deployments().len(), 7);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_moves_requests_is_stopped_undone_and_superseded() -> anyhow::Result<()> {
    on_cloud(stopped_undone_and_superseded).await
}

async fn stopped_undone_and_superseded(cloud: &LocalCloud) -> anyhow::Result<()> {
    let shifts = Shifts::set(cloud).await?;
    let stage = &shifts.stage;
    let set_alarm = async |state: &str| {
        let fields =
            [("Version", "2010-08-01"), ("AlarmName", "errors"), ("StateValue", state), ("StateReason", "test")];
        form(cloud, "monitoring", &[&[("Action", "SetAlarmState")], &fields[..]].concat()).await
    };
    let alarm = [
        ("Action", "PutMetricAlarm"),
        ("Version", "2010-08-01"),
        ("AlarmName", "errors"),
        ("Namespace", "test"),
        ("MetricName", "errors"),
        ("Period", "60"),
        ("EvaluationPeriods", "1"),
        ("Threshold", "1"),
        ("Statistic", "Sum"),
        ("ComparisonOperator", "GreaterThanThreshold"),
    ];
    form(cloud, "monitoring", &alarm).await?;
    set_alarm("OK").await?;
    let alarms = DeploymentAlarms::builder().alarm_names("errors").enable(true).rollback(true).build()?;
    let patient = shifting(DeploymentStrategy::BlueGreen).bake_time_in_minutes(60).alarms(alarms).build();
    shifts.serving(shifting(DeploymentStrategy::BlueGreen).build()).await?;
    stage.ecs.update_service().cluster("main").service("api").deployment_configuration(patient).send().await?;

    let second = shifts.register("2").await?;
    let stop = |arn: &str| stage.ecs.stop_service_deployment().service_deployment_arn(arn).send();
    let deployment = shifts.deploy(&second).await?;
    shifts.reaches(&deployment, ServiceDeploymentLifecycleStage::BakeTime).await?;
    assert_eq!(stage.version().await?, "2");
    stop(&deployment).await?;
    let (ended, versions) = shifts.visited(shifts.ends(&deployment)).await?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::RollbackSuccessful), "{ended:?}");
    assert_eq!((versions.last().map(String::as_str), shifts.running().await?), (Some("1"), 2));
    let conflict = stop(&deployment).await.unwrap_err().into_service_error();
    assert!(conflict.is_conflict_exception(), "{conflict:?}");
    let unknown = stop("arn:aws:ecs:us-east-1:000000000000:service-deployment/main/api/none").await.unwrap_err();
    assert!(unknown.into_service_error().is_service_deployment_not_found_exception());

    let deployment = shifts.deploy(&second).await?;
    shifts.reaches(&deployment, ServiceDeploymentLifecycleStage::BakeTime).await?;
    set_alarm("ALARM").await?;
    let (ended, versions) = shifts.visited(shifts.ends(&deployment)).await?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::RollbackSuccessful), "{ended:?}");
    assert_eq!(ended.alarms().unwrap().triggered_alarm_names(), ["errors"]);
    assert_eq!(versions.last().map(String::as_str), Some("1"));
    set_alarm("OK").await?;

    // A newer one takes the place of one under way: what has all requests stays until that serves.
    let deployment = shifts.deploy(&second).await?;
    shifts.reaches(&deployment, ServiceDeploymentLifecycleStage::BakeTime).await?;
    let refused = shifting(DeploymentStrategy::Canary).build();
    let refused = stage.ecs.update_service().cluster("main").service("api").deployment_configuration(refused).send();
    assert_eq!(refused.await.unwrap_err().code(), Some("InvalidParameterException"));
    let quick = shifting(DeploymentStrategy::BlueGreen).deployment_circuit_breaker(breaker(false)).build();
    let third = shifts.register("3").await?;
    let update = stage.ecs.update_service().cluster("main").service("api").task_definition(&third);
    update.deployment_configuration(quick).send().await?;
    let newer = shifts.current().await?;
    let (ended, versions) = shifts.visited(shifts.ends(&newer)).await?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::Successful), "{ended:?}");
    assert!(versions.iter().all(|version| version != "1"), "{versions:?}");
    assert_eq!(shifts.described(&deployment).await?.status(), Some(&ServiceDeploymentStatus::Stopped));
    assert_eq!((stage.version().await?.as_str(), stage.completed().await?.running_count()), ("3", 2));

    // Without a way back it stands still, and what served serves on.
    let (crashing, _) = stage.register(&hello::image("4").await?.command(["crash"])).await?;
    let deployment = shifts.deploy(&crashing).await?;
    let (ended, versions) = shifts.visited(shifts.ends(&deployment)).await?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::Stopped), "{ended:?}");
    assert!(versions.iter().all(|version| version == "3"), "{versions:?}");
    let service = stage.service().await?;
    assert_eq!(primary(&service).rollout_state().unwrap().as_str(), "FAILED");
    assert_eq!((primary(&service).task_definition(), service.running_count()), (Some(crashing.as_str()), 2));

    // Nothing runs where nothing is wanted.
    let deployment = shifts.deploy(&second).await?;
    stage.ecs.update_service().cluster("main").service("api").desired_count(0).send().await?;
    let ended = shifts.ends(&deployment).await?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::Successful), "{ended:?}");
    assert_eq!(shifts.running().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_requests_goes_over_first_or_step_after_step() -> anyhow::Result<()> {
    on_cloud(canary_and_linear).await
}

async fn canary_and_linear(cloud: &LocalCloud) -> anyhow::Result<()> {
    let shifts = Shifts::set(cloud).await?;
    let stage = &shifts.stage;
    let canary = CanaryConfiguration::builder().canary_percent(25.0).canary_bake_time_in_minutes(3).build();
    let in_a_minute = DeploymentLifecycleHookTimeoutConfiguration::builder()
        .timeout_in_minutes(1)
        .action(DeploymentLifecycleHookAction::Continue)
        .build();
    let hook = pause_with(Some(in_a_minute));
    let canary = shifting(DeploymentStrategy::Canary).canary_configuration(canary).lifecycle_hooks(hook).build();
    shifts.serving(shifting(DeploymentStrategy::BlueGreen).build()).await?;
    let second = shifts.register("2").await?;
    let update = stage.ecs.update_service().cluster("main").service("api").task_definition(&second);
    update.deployment_configuration(canary).send().await?;
    let deployment = shifts.current().await?;
    shifts.reaches(&deployment, ServiceDeploymentLifecycleStage::ProductionTrafficShift).await?;
    until("the canary gets its share", || async {
        Ok((shifts.weights(&shifts.production).await? == (75, 25)).then_some(()))
    })
    .await?;
    let two_seconds = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    };
    let ((), versions) = shifts.visited(two_seconds).await?;
    let share = versions.iter().filter(|version| *version == "2").count() * 100 / versions.len();
    assert!((5..=50).contains(&share), "{share} % of {}", versions.len());
    let (ended, versions) = shifts.visited(shifts.ends(&deployment)).await?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::Successful), "{ended:?}");
    assert_eq!(ended.lifecycle_hook_details()[0].status(), Some(&DeploymentLifecycleHookStatus::TimedOut));
    assert_eq!(versions.last().map(String::as_str), Some("2"));
    assert_eq!(shifts.weights(&shifts.production).await?, (0, 100));

    let linear = LinearConfiguration::builder().step_percent(40.0).step_bake_time_in_minutes(1).build();
    let linear = shifting(DeploymentStrategy::Linear).linear_configuration(linear).build();
    let third = shifts.register("3").await?;
    let update = stage.ecs.update_service().cluster("main").service("api").task_definition(&third);
    update.deployment_configuration(linear).send().await?;
    let deployment = shifts.current().await?;
    let mut seen = Vec::new();
    loop {
        let weights = shifts.weights(&shifts.production).await?;
        if seen.last() != Some(&weights) {
            seen.push(weights);
        }
        if shifts.described(&deployment).await?.finished_at().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(seen, [(0, 100), (40, 60), (80, 20), (100, 0)]);
    assert_eq!((stage.version().await?.as_str(), stage.completed().await?.running_count()), ("3", 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_changes_how_its_requests_go_over() -> anyhow::Result<()> {
    on_cloud(change_strategy).await
}

async fn change_strategy(cloud: &LocalCloud) -> anyhow::Result<()> {
    let shifts = Shifts::set(cloud).await?;
    let stage = &shifts.stage;
    stage.create(&shifts.register("1").await?).await?;
    assert_eq!(stage.completed().await?.current_service_deployment(), None);
    let change = async |version: &str, strategy: DeploymentStrategy| {
        let definition = shifts.register(version).await?;
        let update = stage.ecs.update_service().cluster("main").service("api").task_definition(definition);
        update.load_balancers(shifts.balancer()).deployment_configuration(shifting(strategy).build()).send().await?;
        let (service, versions) = shifts.visited(stage.completed()).await?;
        assert_eq!(versions.last().map(String::as_str), Some(version));
        assert_eq!((service.running_count(), service.current_service_deployment()), (2, None));
        shifts.weights(&shifts.production).await
    };
    assert_eq!(change("2", DeploymentStrategy::BlueGreen).await?, (0, 100));
    // Bit by bit it stays in the group that serves.
    assert_eq!(change("3", DeploymentStrategy::Rolling).await?, (0, 100));
    assert_eq!(change("4", DeploymentStrategy::Canary).await?, (100, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_moves_requests_needs_two_groups_and_a_role_with_rights() -> anyhow::Result<()> {
    let Some(cloud) = cloud().await? else { return Ok(()) };
    let shifts = Shifts::set(&cloud).await?;
    let stage = &shifts.stage;
    let first = shifts.register("1").await?;
    let configuration = shifting(DeploymentStrategy::BlueGreen).build();
    let refused = stage.create_with(&first, stage.balancer(None), Some(configuration.clone())).await.unwrap_err();
    assert!(format!("{refused:?}").contains("InvalidParameterException"), "{refused:?}");

    // Who may not pass the role may not name it.
    let version = ("Version", "2010-05-08");
    form(&cloud, "iam", &[("Action", "CreateUser"), version, ("UserName", "person")]).await?;
    let keys = form(&cloud, "iam", &[("Action", "CreateAccessKey"), version, ("UserName", "person")]).await?;
    let (id, secret) = (tagged(&keys, "AccessKeyId")?, tagged(&keys, "SecretAccessKey")?);
    let credentials = aws_credential_types::Credentials::new(id, secret, None, None, "test");
    let credentials = aws_credential_types::provider::SharedCredentialsProvider::new(credentials);
    let theirs = cloud.sdk_config().into_builder().credentials_provider(credentials).build();
    let theirs = aws_sdk_ecs::Client::new(&theirs);
    let name_role = || theirs.update_service().cluster("main").service("none").load_balancers(shifts.balancer()).send();
    let allow = |more: &str| {
        let ecs = r#"{"Effect":"Allow","Action":"ecs:*","Resource":"*"}"#;
        format!(r#"{{"Version":"2012-10-17","Statement":[{ecs}{more}]}}"#)
    };
    let may_pass = r#",{"Effect":"Allow","Action":"iam:PassRole","Resource":"*",
        "Condition":{"StringEquals":{"iam:PassedToService":"ecs.amazonaws.com"}}}"#;
    for (more, answer) in [("", "AccessDeniedException"), (may_pass, "ServiceNotFoundException")] {
        let put = [("Action", "PutUserPolicy"), version, ("UserName", "person"), ("PolicyName", "p")];
        form(&cloud, "iam", &[&put[..], &[("PolicyDocument", &allow(more))]].concat()).await?;
        assert_eq!(name_role().await.unwrap_err().code(), Some(answer));
    }

    // The first has nothing to go back to.
    put_policy(&cloud, "shift", &MAY_SHIFT.replace("elasticloadbalancing:ModifyRule\",", "s3:GetObject\",")).await?;
    stage.create_with(&first, shifts.balancer(), Some(configuration)).await?;
    let ended = shifts.ends(&shifts.current().await?).await.with_context(|| cloud.log_tail())?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::RollbackFailed), "{ended:?}");
    let reason = ended.rollback().unwrap().reason().unwrap();
    assert!(reason.contains("elasticloadbalancing:ModifyRule"), "{reason}");
    put_policy(&cloud, "shift", MAY_SHIFT).await?;
    let again = stage.ecs.update_service().cluster("main").service("api").force_new_deployment(true);
    again.send().await?;
    let ended = shifts.ends(&shifts.current().await?).await.with_context(|| cloud.log_tail())?;
    assert_eq!(ended.status(), Some(&ServiceDeploymentStatus::Successful), "{ended:?}");
    assert_eq!(stage.version().await?, "1");
    cloud.stop().await;
    Ok(())
}
