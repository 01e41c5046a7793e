//! System 1: a static Next.js site and a NestJS API on one EC2 instance, in the default VPC.

use anyhow::Result;
use serde_json::{Value, json};

use crate::system::{System, texts, with};

#[test]
fn next_nest_stands_as_its_owner_describes_it() {
    with("next-nest", "prod", async |system| {
        network(&system)?;
        instances(&system)?;
        site(&system)?;
        system.roll_out("api", "next-nest-api", 8000).await?;
        service(&system)?;
        system.second_apply_changes_nothing().await?;
        system.tears_down_to_nothing().await
    });
}

/// The default VPC and its subnets, no NAT. The load balancer admits CloudFront alone; instances take dynamic ports from the load
/// balancer alone, and reach the internet.
fn network(system: &System) -> Result<()> {
    let default = json!({"Filters": [{"Name": "is-default", "Values": ["true"]}]});
    let vpcs = system.list("ec2", "describe_vpcs", default, "Vpcs")?;
    let network = system.record.network.as_ref().unwrap();
    assert_eq!(texts(&vpcs, "VpcId"), [network.vpc.as_str()]);
    assert!(system.ec2("describe_nat_gateways", "NatGateways")?.is_empty());
    assert!(system.ec2("describe_subnets", "Subnets")?.is_empty(), "nothing is made in the default VPC but groups");
    let balancer = system.group("load-balancer-group")?;
    for rule in balancer["IpPermissions"].as_array().unwrap() {
        assert_eq!(rule["IpRanges"], json!([]), "{rule:#?}");
        assert_eq!(rule["PrefixListIds"].as_array().unwrap().len(), 1, "{rule:#?}");
    }
    let instances = system.group("instance-group")?;
    let incoming = instances["IpPermissions"].as_array().unwrap();
    assert_eq!(incoming.len(), 1, "{incoming:#?}");
    assert_eq!((&incoming[0]["FromPort"], &incoming[0]["ToPort"]), (&json!(32768), &json!(65535)));
    let from = incoming[0]["UserIdGroupPairs"].as_array().unwrap();
    assert_eq!(texts(from, "GroupId"), [balancer["GroupId"].as_str().unwrap()]);
    assert_eq!(instances["IpPermissionsEgress"][0]["IpRanges"][0]["CidrIp"], "0.0.0.0/0");
    Ok(())
}

/// One instance of a free-tier type, behind a capacity provider.
fn instances(system: &System) -> Result<()> {
    let groups = system.list("autoscaling", "describe_auto_scaling_groups", json!({}), "AutoScalingGroups")?;
    let ours: Vec<_> = groups.iter().filter(|group| crate::system::tag(group, "shipway:app") == "next-nest").collect();
    assert_eq!(ours.len(), 1, "{groups:#?}");
    assert_eq!((&ours[0]["MinSize"], &ours[0]["MaxSize"]), (&json!(1), &json!(1)));
    let provider = system.record.platform.capacity_provider.clone().unwrap();
    let providers = json!({"capacityProviders": [provider]});
    let providers = system.list("ecs", "describe_capacity_providers", providers, "capacityProviders")?;
    let group = &providers[0]["autoScalingGroupProvider"];
    assert_eq!(group["managedScaling"]["status"], "ENABLED");
    assert_eq!(group["managedTerminationProtection"], "DISABLED");
    Ok(())
}

/// A bucket behind CloudFront through an origin access control; `/api*` goes to the load balancer; a certificate from us-east-1;
/// a record leads to CloudFront.
fn site(system: &System) -> Result<()> {
    let site = system.record.platform.sites.values().next().unwrap();
    let mut answer = system.ask("cloudfront", "get_distribution", json!({"Id": site.distribution}))?;
    let config: Value = answer["Distribution"]["DistributionConfig"].take();
    let origins = config["Origins"]["Items"].as_array().unwrap();
    assert!(origins.iter().any(|origin| !origin["OriginAccessControlId"].as_str().unwrap_or_default().is_empty()));
    let behaviors = config["CacheBehaviors"]["Items"].as_array().unwrap();
    assert!(behaviors.iter().any(|behavior| behavior["PathPattern"] == "/api*"), "{behaviors:#?}");
    assert_eq!(config["Aliases"]["Items"], json!(["next-nest.example"]));
    assert!(config["ViewerCertificate"]["ACMCertificateArn"].as_str().unwrap().contains(":us-east-1:"));
    let zones = system.list("route53", "list_hosted_zones", json!({}), "HostedZones")?;
    let zone = zones.iter().find(|zone| zone["Name"] == "next-nest.example.").unwrap();
    let records = json!({"HostedZoneId": zone["Id"]});
    let records = system.list("route53", "list_resource_record_sets", records, "ResourceRecordSets")?;
    let alias = |kind: &str| {
        records.iter().any(|record| {
            record["Type"] == kind
                && record["Name"] == "next-nest.example."
                && record["AliasTarget"]["DNSName"].as_str().unwrap_or_default().contains(&site.domain)
        })
    };
    assert!(alias("A") && alias("AAAA"), "{records:#?}");
    Ok(())
}

/// Bridge networking with dynamic host ports, so that the API calls out and rolls without downtime on one instance.
fn service(system: &System) -> Result<()> {
    let definition = system.task_definition("api")?;
    assert_eq!(definition["networkMode"], "bridge");
    let mapping = &definition["containerDefinitions"][0]["portMappings"][0];
    assert_eq!((&mapping["containerPort"], mapping["hostPort"].as_u64().unwrap_or_default()), (&json!(8000), 0));
    assert_eq!(system.target_group("api")?["TargetType"], "instance");
    Ok(())
}
