//! System 1: a static Next.js site and a NestJS API on one EC2 instance, in the default VPC.

use anyhow::Result;
use serde_json::json;
use shipway_tests::site;

use crate::{
    inventory::{BALANCED, INSTANCES, ONE_SERVICE, Parts, SITE},
    system::{System, tag, texts, with},
};

/// What came with it, once its images are rolled out.
pub const STANDS: &Parts = &[
    BALANCED,
    INSTANCES,
    SITE,
    ONE_SERVICE,
    &[
        ("cloudformation describe_stacks", 9),
        ("ec2 describe_security_groups", 3),
        ("acm list_certificates", 1),
        ("route53 list_resource_record_sets", 4),
    ],
];

#[test]
fn next_nest_stands_as_its_owner_describes_it() {
    with("next-nest", "prod", async |system| {
        network(&system)?;
        instances(&system)?;
        site(&system)?;
        system.roll_out("api", "next-nest-api", 8000).await?;
        service(&system)?;
        system.second_apply_changes_nothing().await?;
        system.publish("1a2b3c", site::hello("1", 6)?).await?;
        for (path, status, text) in [("/", 200, "Version 1."), ("/about", 200, "About"), ("/nowhere", 404, "Not found")]
        {
            let (answered, page) = system.visit(path).await?;
            assert!(answered == status && page.contains(text), "{path}: {answered} {page}");
        }
        system.consists_of(STANDS)?;
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
    let incoming = balancer["IpPermissions"].as_array().unwrap();
    assert_eq!(incoming.len(), 1, "{incoming:#?}");
    assert_eq!((&incoming[0]["FromPort"], &incoming[0]["ToPort"]), (&json!(80), &json!(443)));
    assert_eq!(incoming[0]["IpRanges"], json!([]), "{incoming:#?}");
    assert_eq!(incoming[0]["PrefixListIds"].as_array().unwrap().len(), 1, "{incoming:#?}");
    let outgoing = balancer["IpPermissionsEgress"].as_array().unwrap();
    assert_eq!(outgoing.len(), 1, "{outgoing:#?}");
    let to = outgoing[0]["UserIdGroupPairs"].as_array().unwrap();
    assert_eq!(texts(to, "GroupId"), [system.group("instance-group")?["GroupId"].as_str().unwrap()]);
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
    let ours: Vec<_> = groups.iter().filter(|group| tag(group, "shipway:app") == "next-nest").collect();
    assert_eq!(ours.len(), 1, "{groups:#?}");
    assert_eq!((&ours[0]["MinSize"], &ours[0]["MaxSize"]), (&json!(1), &json!(1)));
    let default = json!({"Filters": [{"Name": "default-for-az", "Values": ["true"]}]});
    let default = system.list("ec2", "describe_subnets", default, "Subnets")?;
    let subnets = ours[0]["VPCZoneIdentifier"].as_str().unwrap();
    assert!(subnets.split(',').all(|subnet| texts(&default, "SubnetId").contains(&subnet)), "{subnets}");
    let template = system.launch_template()?;
    assert_eq!(template["InstanceType"], "t3.micro");
    assert_eq!(template["NetworkInterfaces"][0]["AssociatePublicIpAddress"], true);
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
    system.site_stands(&["/api*"])?;
    let site = system.site()?;
    let config = system.distribution()?;
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
    assert_eq!(definition["requiresCompatibilities"], json!(["EC2"]));
    let mapping = &definition["containerDefinitions"][0]["portMappings"][0];
    assert_eq!((&mapping["containerPort"], mapping["hostPort"].as_u64().unwrap_or_default()), (&json!(8000), 0));
    assert_eq!(system.target_group("api")?["TargetType"], "instance");
    Ok(())
}
