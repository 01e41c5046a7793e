//! System 2: the shape of system 1 in a VPC of its own, with real capacity management and secrets.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};
use shipway_tests::site;

use crate::{
    inventory::{self, BALANCED, INSTANCES, ONE_SERVICE, OWN_VPC, Parts, SITE},
    system::{System, tag, texts, with},
};

/// What came with it, once its images are rolled out.
pub const STANDS: &Parts = &[
    OWN_VPC,
    BALANCED,
    INSTANCES,
    SITE,
    ONE_SERVICE,
    &[
        ("cloudformation describe_stacks", 6),
        ("ec2 describe_subnets", 2),
        ("ec2 describe_route_tables", 2),
        ("ec2 describe_security_groups", 4),
    ],
];

#[test]
fn spa_nest_stands_as_its_owner_describes_it() {
    with("spa-nest", "dev", async |system| {
        network(&system)?;
        groups(&system)?;
        system.site_stands(&["/api*"])?;
        capacity(&system)?;
        system.roll_out("api", "spa-nest-api", 8000).await?;
        parameters(&system)?;
        an_endpoint_would_be_noticed(&system)?;
        system.second_apply_changes_nothing().await?;
        clean_urls(&system).await?;
        system.consists_of(STANDS)?;
        system.tears_down_to_nothing().await
    });
}

/// VPC, internet gateway, public subnets, a route table and its associations, the groups of load balancer and instances.
fn network(system: &System) -> Result<()> {
    assert_eq!(texts(&system.ec2("describe_vpcs", "Vpcs")?, "CidrBlock"), ["10.0.0.0/16"]);
    assert_eq!(
        [system.subnets("public")?.len(), system.subnets("private")?.len(), system.subnets("isolated")?.len()],
        [2, 0, 0]
    );
    assert_eq!(system.ec2("describe_internet_gateways", "InternetGateways")?.len(), 1);
    let tables = system.ec2("describe_route_tables", "RouteTables")?;
    assert_eq!(tables.len(), 1);
    let of_subnets = tables[0]["Associations"].as_array().unwrap().iter().filter(|one| one["SubnetId"].is_string());
    assert_eq!(of_subnets.count(), 2);
    let out = tables[0]["Routes"].as_array().unwrap().iter().find(|one| one["DestinationCidrBlock"] == "0.0.0.0/0");
    assert!(out.unwrap()["GatewayId"].as_str().unwrap().starts_with("igw-"), "{out:?}");
    Ok(())
}

/// None of the systems has an endpoint; one made by hand shows that the inventory would know it.
fn an_endpoint_would_be_noticed(system: &System) -> Result<()> {
    let network = system.record.network.as_ref().unwrap();
    let region = system.shipway.cloud.region();
    let made = json!({"VpcId": network.vpc, "ServiceName": format!("com.amazonaws.{region}.s3")});
    let made = system.ask("ec2", "create_vpc_endpoint", made)?;
    let endpoint = made["VpcEndpoint"]["VpcEndpointId"].as_str().unwrap();
    let known = |all: &BTreeSet<String>| all.contains(&format!("ec2 describe_vpc_endpoints: {endpoint}"));
    assert!(known(&inventory::of(system.aws)?), "{endpoint}");
    system.ask("ec2", "delete_vpc_endpoints", json!({"VpcEndpointIds": [endpoint]}))?;
    assert!(!known(&inventory::of(system.aws)?), "{endpoint}");
    Ok(())
}

/// CloudFront alone comes in to the load balancer, and the load balancer alone to the instances.
fn groups(system: &System) -> Result<()> {
    let balancer = system.group("load-balancer-group")?;
    let incoming = balancer["IpPermissions"].as_array().unwrap();
    assert!(!incoming.is_empty() && incoming.iter().all(|rule| rule["IpRanges"] == json!([])), "{incoming:#?}");
    let instances = system.group("instance-group")?;
    let incoming = instances["IpPermissions"].as_array().unwrap();
    assert_eq!(incoming.len(), 1, "{incoming:#?}");
    let from = incoming[0]["UserIdGroupPairs"].as_array().unwrap();
    assert_eq!(texts(from, "GroupId"), [balancer["GroupId"].as_str().unwrap()]);
    Ok(())
}

/// `/chat` is `chat.html`, what is not there is a 404, and the API's errors stay its own.
async fn clean_urls(system: &System) -> Result<()> {
    let files: [(&str, &[u8]); 3] = [("index.html", b"home"), ("chat.html", b"chat"), ("404.html", b"not here")];
    system.publish("1a2b3c", site::zip(files)?).await?;
    for (path, status, text) in
        [("/", 200, "home"), ("/chat", 200, "chat"), ("/nowhere", 404, "not here"), ("/nowhere.png", 404, "not here")]
    {
        assert_eq!(system.visit(path).await?, (status, text.to_owned()), "{path}");
    }
    system.errors_of_the_api_stay().await
}

/// Launch template, Auto Scaling group, capacity provider and its association; instance role and profile; execution role; log
/// group; load balancer, target group, listener.
fn capacity(system: &System) -> Result<()> {
    let groups = system.list("autoscaling", "describe_auto_scaling_groups", json!({}), "AutoScalingGroups")?;
    let ours: Vec<_> = groups.iter().filter(|group| tag(group, "shipway:app") == "spa-nest").collect();
    assert_eq!(ours.len(), 1, "{groups:#?}");
    let templates = system.list("ec2", "describe_launch_templates", json!({}), "LaunchTemplates")?;
    assert!(
        templates.iter().any(|template| template["LaunchTemplateName"].as_str().unwrap().contains("spa-nest-dev")),
        "{templates:#?}"
    );
    let profile = system.launch_template()?["IamInstanceProfile"]["Arn"].clone();
    let profiles = system.list("iam", "list_instance_profiles", json!({}), "InstanceProfiles")?;
    let profile = profiles.iter().find(|one| one["Arn"] == profile).unwrap();
    let rights = system.rights_of(profile["Roles"][0]["RoleName"].as_str().unwrap())?;
    assert!(rights.contains("ecs:RegisterContainerInstance") && !rights.contains("ssm:"), "{rights}");
    assert_eq!(system.target_group("api")?["HealthCheckPath"], "/api/health");
    let provider = system.record.platform.capacity_provider.clone().unwrap();
    let clusters = json!({"clusters": [system.name()]});
    let cluster = &system.list("ecs", "describe_clusters", clusters, "clusters")?[0];
    assert!(cluster["capacityProviders"].as_array().unwrap().contains(&Value::from(provider.as_str())), "{cluster:#?}");
    assert_eq!(cluster["defaultCapacityProviderStrategy"][0]["capacityProvider"], provider.as_str());
    let logs = json!({"logGroupNamePrefix": "/ecs/spa-nest-dev-api"});
    assert_eq!(system.list("logs", "describe_log_groups", logs, "logGroups")?.len(), 1);
    assert_eq!(system.listener(80)?["Protocol"], "HTTP");
    Ok(())
}

/// The parameters reach the container as environment variables, by reference.
fn parameters(system: &System) -> Result<()> {
    let definition = system.task_definition("api")?;
    let rights = system.rights_of(definition["executionRoleArn"].as_str().unwrap())?;
    let secrets = definition["containerDefinitions"][0]["secrets"].as_array().unwrap();
    for (name, parameter) in
        [("CLAUDE_API_KEY", "/spa-nest/dev/claude-api-key"), ("API_ACCESS_TOKEN", "/spa-nest/dev/api-access-token")]
    {
        let from = secrets.iter().find(|one| one["name"] == name).and_then(|one| one["valueFrom"].as_str()).unwrap();
        assert!(from.ends_with(&format!(":parameter{parameter}")), "{name}: {from}");
        assert!(rights.contains(from), "{from}: {rights}");
        assert!(system.was_given(&format!("ssm describe_parameters: {parameter}")), "{parameter}");
    }
    Ok(())
}
