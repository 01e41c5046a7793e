//! What is in an account: by it a teardown that leaves something behind is found, whatever its name and tags. What a system brings
//! is counted by listing, so that none of the listings is one that never has anything.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use shipway_tests::ask::Aws;

use crate::{dougust, fastapi_react, next_nest, rex, spa_nest};

/// How much of each listing a system is: the service and its operation, and how many. Of what it has none is not named.
pub type Counts = [(&'static str, usize)];

/// The parts that a system is made of, each with what it brings.
pub type Parts = [&'static Counts];

/// A VPC of its own.
pub const OWN_VPC: &Counts = &[("ec2 describe_vpcs", 1), ("ec2 describe_internet_gateways", 1)];

/// A cluster behind a load balancer.
pub const BALANCED: &Counts = &[("ecs list_clusters", 1), ("elbv2 describe_load_balancers", 1)];

/// The cluster's own instances.
pub const INSTANCES: &Counts = &[
    ("ec2 describe_launch_templates", 1),
    ("autoscaling describe_auto_scaling_groups", 1),
    ("ecs describe_capacity_providers", 1),
    ("iam list_instance_profiles", 1),
];

/// A site behind CloudFront; its bucket counts among the others.
pub const SITE: &Counts = &[
    ("cloudfront list_distributions", 1),
    ("cloudfront list_functions", 1),
    ("cloudfront list_key_value_stores", 1),
    ("cloudfront list_origin_access_controls", 1),
];

/// One service on those instances, rolled out once, and the bucket of a site beside it.
pub const ONE_SERVICE: &Counts = &[
    ("ecs list_task_definitions", 1),
    ("elbv2 describe_target_groups", 1),
    ("s3 list_buckets", 1),
    ("ecr describe_repositories", 1),
    ("logs describe_log_groups", 1),
    ("iam list_roles", 3),
];

/// A database server.
pub const SERVER: &Counts = &[("rds describe_db_instances", 1), ("rds describe_db_subnet_groups", 1)];

/// What is of no system, so that the test of `spa-nest` looks for it: the parameters that a person writes before it, and an endpoint
/// made by hand.
const OF_NONE: [&str; 2] = ["ssm describe_parameters", "ec2 describe_vpc_endpoints"];

/// Where AWS lists what a platform is made of: the service, its operation, where in the answer the items are, and what tells one from
/// another.
const LISTS: [(&str, &str, &str, &str); 47] = [
    ("cloudformation", "describe_stacks", "/Stacks", "StackName"),
    ("ec2", "describe_vpcs", "/Vpcs", "VpcId"),
    ("ec2", "describe_subnets", "/Subnets", "SubnetId"),
    ("ec2", "describe_route_tables", "/RouteTables", "RouteTableId"),
    ("ec2", "describe_internet_gateways", "/InternetGateways", "InternetGatewayId"),
    ("ec2", "describe_nat_gateways", "/NatGateways", "NatGatewayId"),
    ("ec2", "describe_addresses", "/Addresses", "AllocationId"),
    ("ec2", "describe_vpc_endpoints", "/VpcEndpoints", "VpcEndpointId"),
    ("ec2", "describe_security_groups", "/SecurityGroups", "GroupId"),
    ("ec2", "describe_flow_logs", "/FlowLogs", "FlowLogId"),
    ("ec2", "describe_launch_templates", "/LaunchTemplates", "LaunchTemplateName"),
    ("autoscaling", "describe_auto_scaling_groups", "/AutoScalingGroups", "AutoScalingGroupName"),
    ("ecs", "list_clusters", "/clusterArns", ""),
    ("ecs", "list_task_definitions", "/taskDefinitionArns", ""),
    ("ecs", "describe_capacity_providers", "/capacityProviders", "name"),
    ("servicediscovery", "list_namespaces", "/Namespaces", "Name"),
    ("servicediscovery", "list_services", "/Services", "Id"),
    ("elbv2", "describe_load_balancers", "/LoadBalancers", "LoadBalancerName"),
    ("elbv2", "describe_target_groups", "/TargetGroups", "TargetGroupArn"),
    ("wafv2", "list_web_acls", "/WebACLs", "Name"),
    ("acm", "list_certificates", "/CertificateSummaryList", "CertificateArn"),
    ("cloudfront", "list_distributions", "/DistributionList/Items", "Id"),
    ("cloudfront", "list_functions", "/FunctionList/Items", "Name"),
    ("cloudfront", "list_key_value_stores", "/KeyValueStoreList/Items", "Name"),
    ("cloudfront", "list_origin_access_controls", "/OriginAccessControlList/Items", "Id"),
    ("s3", "list_buckets", "/Buckets", "Name"),
    ("ecr", "describe_repositories", "/repositories", "repositoryName"),
    ("logs", "describe_log_groups", "/logGroups", "logGroupName"),
    ("secretsmanager", "list_secrets", "/SecretList", "Name"),
    ("rds", "describe_db_clusters", "/DBClusters", "DBClusterIdentifier"),
    ("rds", "describe_db_instances", "/DBInstances", "DBInstanceIdentifier"),
    ("rds", "describe_db_subnet_groups", "/DBSubnetGroups", "DBSubnetGroupName"),
    ("elasticache", "describe_replication_groups", "/ReplicationGroups", "ReplicationGroupId"),
    ("elasticache", "describe_cache_clusters", "/CacheClusters", "CacheClusterId"),
    ("elasticache", "describe_cache_subnet_groups", "/CacheSubnetGroups", "CacheSubnetGroupName"),
    ("cloudwatch", "describe_alarms", "/MetricAlarms", "AlarmName"),
    ("cloudwatch", "list_dashboards", "/DashboardEntries", "DashboardName"),
    ("sns", "list_topics", "/Topics", "TopicArn"),
    ("sns", "list_subscriptions", "/Subscriptions", "SubscriptionArn"),
    ("sesv2", "list_email_identities", "/EmailIdentities", "IdentityName"),
    ("scheduler", "list_schedules", "/Schedules", "Name"),
    ("stepfunctions", "list_state_machines", "/stateMachines", "name"),
    ("iam", "list_roles", "/Roles", "RoleName"),
    ("iam", "list_instance_profiles", "/InstanceProfiles", "InstanceProfileName"),
    ("ssm", "describe_parameters", "/Parameters", "Name"),
    ("kms", "list_keys", "/Keys", "KeyId"),
    ("route53", "list_hosted_zones", "/HostedZones", "Id"),
];

/// What is in the account: service, operation and identity of each thing.
pub fn of(aws: &Aws) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for (service, operation, items, identity) in LISTS {
        let arguments = if service == "wafv2" { json!({"Scope": "REGIONAL"}) } else { json!({}) };
        let answer = aws.ask(service, operation, arguments)?;
        let items = answer.pointer(items).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for item in items {
            let id = if identity.is_empty() { item } else { &item[identity] };
            let id = id.as_str().with_context(|| format!("{service} {operation}: no {identity} in {item}"))?;
            if is_there(aws, service, item)? {
                all.insert(format!("{service} {operation}: {id}"));
            }
        }
        if service == "route53" {
            for zone in items {
                records(aws, &zone["Id"], &mut all)?;
            }
        }
    }
    Ok(all)
}

/// What AWS still lists of what is gone: a NAT gateway for an hour, a key until nobody can want it back.
fn is_there(aws: &Aws, service: &str, item: &Value) -> Result<bool> {
    Ok(match service {
        "kms" => {
            let key = aws.ask("kms", "describe_key", json!({"KeyId": item["KeyId"]}))?;
            key["KeyMetadata"]["KeyState"] != "PendingDeletion"
        }
        // Anybody's functions, when they first run.
        "logs" => !item["logGroupName"].as_str().is_some_and(|name| name.starts_with("/aws/lambda/")),
        _ => !["State", "status"]
            .iter()
            .any(|state| item[state].as_str().is_some_and(|state| ["deleted", "INACTIVE"].contains(&state))),
    })
}

/// How many of these are of which listing.
pub fn counted<'i>(items: impl IntoIterator<Item = &'i String>) -> BTreeMap<&'i str, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        let (listing, _) = item.split_once(": ").unwrap_or((item, ""));
        *counts.entry(listing).or_default() += 1;
    }
    counts
}

/// What a system of these parts is. None of them may name what another one does.
pub fn expected(parts: &Parts) -> BTreeMap<&'static str, usize> {
    let counts: BTreeMap<_, _> = parts.iter().copied().flatten().copied().collect();
    assert_eq!(
        counts.len(),
        parts.iter().map(|part| part.len()).sum::<usize>(),
        "two parts name the same: {counts:#?}"
    );
    counts
}

/// Each system holds its counts to what AWS lists; here they are held to the listings.
#[test]
fn no_listing_is_empty_while_all_systems_stand() {
    let systems: [&Parts; 6] = [
        next_nest::STANDS,
        spa_nest::STANDS,
        dougust::STANDS,
        dougust::STANDS_IN_DEV,
        fastapi_react::STANDS,
        rex::STANDS,
    ];
    let shown: BTreeSet<&str> =
        systems.into_iter().flat_map(|parts| expected(parts).into_keys()).chain(OF_NONE).collect();
    for (service, operation, ..) in LISTS {
        let listing = format!("{service} {operation}");
        assert!(shown.contains(listing.as_str()), "{listing} has nothing of any system");
    }
}

fn records(aws: &Aws, zone: &Value, all: &mut BTreeSet<String>) -> Result<()> {
    for record in
        aws.list("route53", "list_resource_record_sets", json!({"HostedZoneId": zone}), "ResourceRecordSets")?
    {
        all.insert(format!("route53 list_resource_record_sets: {} {}", record["Name"], record["Type"]));
    }
    Ok(())
}
