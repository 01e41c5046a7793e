//! System 2: the shape of system 1 in a VPC of its own, with real capacity management and secrets.

use anyhow::Result;
use serde_json::{Value, json};

use crate::system::{System, tag, texts, with};

#[test]
fn spa_nest_stands_as_its_owner_describes_it() {
    with("spa-nest", "dev", async |system| {
        network(&system)?;
        capacity(&system)?;
        system.roll_out("api", "spa-nest-api", 8000).await?;
        parameters(&system)?;
        system.second_apply_changes_nothing().await?;
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
    assert_ne!(system.group("load-balancer-group")?["GroupId"], system.group("instance-group")?["GroupId"]);
    Ok(())
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
    let secrets = definition["containerDefinitions"][0]["secrets"].as_array().unwrap();
    for (name, parameter) in
        [("CLAUDE_API_KEY", "/spa-nest/dev/claude-api-key"), ("API_ACCESS_TOKEN", "/spa-nest/dev/api-access-token")]
    {
        let from = secrets.iter().find(|one| one["name"] == name).and_then(|one| one["valueFrom"].as_str()).unwrap();
        assert!(from.ends_with(&format!(":parameter{parameter}")), "{name}: {from}");
    }
    Ok(())
}
