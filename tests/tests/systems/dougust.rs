//! System 3: NestJS on Fargate with PostgreSQL, production grade.

use anyhow::Result;
use serde_json::{Value, json};
use shipway_domain::release::ReleaseRecord;

use crate::{
    inventory::{BALANCED, Counts, OWN_VPC, Parts, SERVER, SITE},
    system::{System, tag, texts, with},
};

/// What comes with it anywhere, beside the parts that other systems have too.
const ANYWHERE: &Counts = &[
    ("ec2 describe_subnets", 6),
    ("ec2 describe_route_tables", 5),
    ("ec2 describe_nat_gateways", 2),
    ("ec2 describe_addresses", 2),
    ("ec2 describe_security_groups", 4),
    ("ec2 describe_flow_logs", 1),
    ("ecs list_task_definitions", 2),
    ("elbv2 describe_target_groups", 1),
    ("s3 list_buckets", 3),
    ("ecr describe_repositories", 1),
    ("logs describe_log_groups", 3),
    ("secretsmanager list_secrets", 4),
    ("cloudwatch describe_alarms", 5),
    ("cloudwatch list_dashboards", 1),
    ("scheduler list_schedules", 1),
    ("stepfunctions list_state_machines", 1),
    ("iam list_roles", 6),
];

/// What came with it, once its images are rolled out.
pub const STANDS: &Parts = &[
    OWN_VPC,
    BALANCED,
    SITE,
    SERVER,
    ANYWHERE,
    &[
        ("cloudformation describe_stacks", 20),
        ("wafv2 list_web_acls", 1),
        ("acm list_certificates", 1),
        ("sns list_topics", 1),
        ("sns list_subscriptions", 1),
        ("kms list_keys", 2),
        ("route53 list_resource_record_sets", 6),
    ],
];

/// The same in dev, where there are no domain, no firewall and nobody to tell.
pub const STANDS_IN_DEV: &Parts =
    &[OWN_VPC, BALANCED, SITE, SERVER, ANYWHERE, &[("cloudformation describe_stacks", 15), ("kms list_keys", 1)]];

#[test]
fn dougust_stands_as_its_owner_describes_it() {
    with("dougust", "prod", async |system| {
        network(&system)?;
        database(&system)?;
        load_balancer(&system)?;
        repository(&system)?;
        secrets(&system)?;
        alarms(&system)?;
        let release = system.roll_out("api", "dougust-api", 3000).await?;
        migrated_before_the_service_changed(&release);
        service(&system)?;
        system.second_apply_changes_nothing().await?;
        a_threshold_changes_its_alarms_alone(&system).await?;
        system.consists_of(STANDS)?;
        shipway_tests::secrets::are_told_nowhere(system.shipway, system.aws)?;
        system.tears_down_to_nothing().await?;
        assert_eq!(last_snapshots(&system)?, 1);
        Ok(())
    });
}

#[test]
fn dougust_in_dev_is_smaller_and_its_teardown_keeps_no_snapshot() {
    with("dougust", "dev", async |system| {
        let all = system.list("rds", "describe_db_instances", json!({}), "DBInstances")?;
        assert_eq!(texts(&all, "DBInstanceClass"), ["db.t3.medium"]);
        system.roll_out("api", "dougust-api", 3000).await?;
        assert_eq!(system.service("api")?["desiredCount"], 2);
        assert_eq!(system.bounds("api")?, (json!(2), json!(10)));
        let definition = system.task_definition("api")?;
        assert_eq!((definition["cpu"].as_str(), definition["memory"].as_str()), (Some("512"), Some("1024")));
        system.second_apply_changes_nothing().await?;
        system.consists_of(STANDS_IN_DEV)?;
        system.tears_down_to_nothing().await?;
        assert_eq!(last_snapshots(&system)?, 0);
        Ok(())
    });
}

/// How many snapshots of its database there are.
fn last_snapshots(system: &System) -> Result<usize> {
    let all = system.list("rds", "describe_db_snapshots", json!({}), "DBSnapshots")?;
    Ok(all.iter().filter(|one| one["DBInstanceIdentifier"].as_str().unwrap().starts_with(&system.name())).count())
}

/// The migration has ended before the service is touched.
fn migrated_before_the_service_changed(release: &ReleaseRecord) {
    let migrated = release.steps.iter().position(|step| step.what == "the migration ended with exit code 0");
    let deployed = release.steps.iter().position(|step| step.by == "deploy-service");
    assert!(migrated.is_some() && migrated < deployed, "{:#?}", release.steps);
}

/// Another threshold of one alarm updates the stack that it is in, and nothing else.
async fn a_threshold_changes_its_alarms_alone(system: &System) -> Result<()> {
    let changed = system.manifest.replace("http_5xx: {above: 10, for: 5m}", "http_5xx: {above: 25, for: 5m}");
    assert_ne!(changed, system.manifest);
    let writes = system.writes_of_applying(&changed).await?;
    assert_eq!(writes, [("cloudformation:UpdateStack".to_owned(), 1)].into(), "{writes:#?}");
    let alarms = system.alarms()?;
    let alarm = alarms.iter().find(|alarm| alarm["MetricName"] == "HTTPCode_Target_5XX_Count").unwrap();
    assert_eq!(alarm["Threshold"].as_f64(), Some(25.0));
    Ok(())
}

/// VPC 10.0.0.0/16 over 2 zones: 2 public, 2 private, 2 isolated subnets; a NAT gateway per zone; flow logs.
fn network(system: &System) -> Result<()> {
    let vpcs = system.ec2("describe_vpcs", "Vpcs")?;
    assert_eq!(texts(&vpcs, "CidrBlock"), ["10.0.0.0/16"]);
    for tier in ["public", "private", "isolated"] {
        let subnets = system.subnets(tier)?;
        assert_eq!(subnets.len(), 2, "{tier}");
        assert_ne!(subnets[0]["AvailabilityZone"], subnets[1]["AvailabilityZone"], "{tier}");
    }
    assert_eq!(system.ec2("describe_internet_gateways", "InternetGateways")?.len(), 1);
    let gateways = system.ec2("describe_nat_gateways", "NatGateways")?;
    let live: Vec<_> = gateways.iter().filter(|gateway| gateway["State"] == "available").collect();
    assert_eq!(live.len(), 2);
    let public: Vec<Value> = system.subnets("public")?.iter().map(|subnet| subnet["SubnetId"].clone()).collect();
    assert!(live.iter().all(|gateway| public.contains(&gateway["SubnetId"])));
    let tables = system.ec2("describe_route_tables", "RouteTables")?;
    let way_out = |subnet: &Value| -> Option<Value> {
        let has = |table: &&Value| {
            table["Associations"].as_array().unwrap().iter().any(|one| one["SubnetId"] == subnet["SubnetId"])
        };
        let table = tables.iter().find(has)?;
        let out = table["Routes"].as_array()?.iter().find(|one| one["DestinationCidrBlock"] == "0.0.0.0/0")?;
        Some(out.clone())
    };
    let zone = |of: &Value, all: &[Value]| {
        all.iter().find(|one| one["SubnetId"] == *of).map(|subnet| subnet["AvailabilityZone"].clone())
    };
    let all = system.subnets("public")?;
    for subnet in system.subnets("private")? {
        let out = way_out(&subnet).unwrap();
        let gateway = live.iter().find(|gateway| gateway["NatGatewayId"] == out["NatGatewayId"]).unwrap();
        assert_eq!(zone(&gateway["SubnetId"], &all).as_ref(), Some(&subnet["AvailabilityZone"]));
    }
    assert!(system.subnets("isolated")?.iter().all(|subnet| way_out(subnet).is_none()), "{tables:#?}");
    let logs = json!({"Filters": [{"Name": "resource-id", "Values": [vpcs[0]["VpcId"]]}]});
    assert_eq!(system.list("ec2", "describe_flow_logs", logs, "FlowLogs")?.len(), 1);
    Ok(())
}

/// PostgreSQL 15, Multi-AZ, db.t3.large in prod, 100 GB gp3 that grows, 7-day backups, encrypted, in the isolated subnets,
/// reachable from tasks only, maintenance on Sunday from 2 to 4, a weekly export.
fn database(system: &System) -> Result<()> {
    let all = system.list("rds", "describe_db_instances", json!({}), "DBInstances")?;
    let name = system.name();
    let ours: Vec<_> =
        all.iter().filter(|one| one["DBInstanceIdentifier"].as_str().unwrap().starts_with(&name)).collect();
    assert_eq!(ours.len(), 1, "{all:#?}");
    let database = ours[0];
    for (key, value) in [
        ("Engine", json!("postgres")),
        ("MultiAZ", json!(true)),
        ("DBInstanceClass", json!("db.t3.large")),
        ("AllocatedStorage", json!(100)),
        ("MaxAllocatedStorage", json!(500)),
        ("StorageType", json!("gp3")),
        ("BackupRetentionPeriod", json!(7)),
        ("StorageEncrypted", json!(true)),
        ("PubliclyAccessible", json!(false)),
        ("PreferredMaintenanceWindow", json!("sun:02:00-sun:04:00")),
    ] {
        assert_eq!(database[key], value, "{key}");
    }
    assert!(database["EngineVersion"].as_str().unwrap().starts_with("15"));
    let isolated: Vec<Value> = system.subnets("isolated")?.iter().map(|subnet| subnet["SubnetId"].clone()).collect();
    let subnets = database["DBSubnetGroup"]["Subnets"].as_array().unwrap();
    assert_eq!(subnets.len(), 2);
    assert!(subnets.iter().all(|subnet| isolated.contains(&subnet["SubnetIdentifier"])));
    let group = system.group("database-group")?;
    let incoming = group["IpPermissions"].as_array().unwrap();
    assert_eq!(incoming.len(), 1, "{incoming:#?}");
    assert_eq!(incoming[0]["FromPort"], 5432);
    let from = incoming[0]["UserIdGroupPairs"].as_array().unwrap();
    assert_eq!(texts(from, "GroupId"), [system.group("service-group")?["GroupId"].as_str().unwrap()]);
    let schedules = system.list("scheduler", "list_schedules", json!({}), "Schedules")?;
    let ours = schedules.iter().find(|schedule| schedule["Name"].as_str().unwrap().contains(&name)).unwrap();
    let schedule = system.ask("scheduler", "get_schedule", json!({"Name": ours["Name"]}))?;
    assert_eq!(schedule["ScheduleExpression"], "cron(0 5 ? * SUN *)");
    Ok(())
}

/// Internet-facing, 80 leads to 443, HTTPS, `/api/health`, stickiness, access logs, a firewall.
fn load_balancer(system: &System) -> Result<()> {
    let balancer = system.load_balancer()?;
    assert_eq!(balancer["Scheme"], "internet-facing");
    let redirect = &system.listener(80)?["DefaultActions"][0];
    assert_eq!(
        (redirect["Type"].as_str(), redirect["RedirectConfig"]["Port"].as_str()),
        (Some("redirect"), Some("443"))
    );
    let https = system.listener(443)?;
    assert_eq!(https["Protocol"], "HTTPS");
    assert!(https["Certificates"][0]["CertificateArn"].as_str().unwrap().contains(":certificate/"));
    let of = || json!({"LoadBalancerArn": balancer["LoadBalancerArn"]});
    let attribute = |key: &str| system.attribute("describe_load_balancer_attributes", of(), key);
    assert_eq!(attribute("access_logs.s3.enabled")?, "true");
    let group = system.target_group("api")?;
    assert_eq!(group["HealthCheckPath"], "/api/health");
    let of = || json!({"TargetGroupArn": group["TargetGroupArn"]});
    let attribute = |key: &str| system.attribute("describe_target_group_attributes", of(), key);
    assert_eq!(attribute("stickiness.enabled")?, "true");
    assert_eq!(attribute("stickiness.lb_cookie.duration_seconds")?, "86400");
    let arn = balancer["LoadBalancerArn"].clone();
    let firewall = system.ask("wafv2", "get_web_acl_for_resource", json!({"ResourceArn": arn}))?;
    assert!(firewall["WebACL"]["Rules"].as_array().unwrap().len() >= 2);
    Ok(())
}

/// Scan on push, the last 10 kept, untagged ones deleted after 7 days.
fn repository(system: &System) -> Result<()> {
    let selections = system.repository_keeps("dougust-api", 10)?;
    assert!(selections.iter().any(|selection| {
        selection["tagStatus"] == "untagged" && selection["countUnit"] == "days" && selection["countNumber"] == 7
    }));
    Ok(())
}

/// `prod/dougust/{database-url,jwt-secret,jwt-refresh-secret}`.
fn secrets(system: &System) -> Result<()> {
    let all = system.list("secretsmanager", "list_secrets", json!({}), "SecretList")?;
    let names = texts(&all, "Name");
    for name in ["prod/dougust/database-url", "prod/dougust/jwt-secret", "prod/dougust/jwt-refresh-secret"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    Ok(())
}

/// Unhealthy tasks above 0; database CPU above 80 % for 5 minutes, less than 20 % of its storage free; more than 10 answers with
/// 5xx in 5 minutes; fewer than one healthy target. All tell the topic. A dashboard.
fn alarms(system: &System) -> Result<()> {
    let alarms = system.alarms()?;
    let alarm = |metric: &str| {
        alarms
            .iter()
            .find(|alarm| alarm["MetricName"] == metric)
            .unwrap_or_else(|| panic!("no alarm on {metric}: {alarms:#?}"))
    };
    for (metric, threshold, comparison) in [
        ("UnHealthyHostCount", 0.0, "GreaterThanThreshold"),
        ("HealthyHostCount", 1.0, "LessThanThreshold"),
        ("HTTPCode_Target_5XX_Count", 10.0, "GreaterThanThreshold"),
        ("CPUUtilization", 80.0, "GreaterThanThreshold"),
        // A fifth of 100 GiB, in bytes.
        ("FreeStorageSpace", 21_474_836_480.0, "LessThanThreshold"),
    ] {
        let alarm = alarm(metric);
        assert_eq!(alarm["Threshold"].as_f64(), Some(threshold), "{metric}");
        assert_eq!(alarm["ComparisonOperator"], comparison, "{metric}");
        let minutes = alarm["Period"].as_u64().unwrap() * alarm["EvaluationPeriods"].as_u64().unwrap() / 60;
        assert_eq!(minutes, 5, "{metric}");
        assert_eq!(alarm["AlarmActions"].as_array().unwrap().len(), 1, "{metric}");
    }
    let told = system.list("sns", "list_subscriptions", json!({}), "Subscriptions")?;
    let told = told.iter().find(|one| one["Endpoint"] == "ops@dougust.example").unwrap();
    assert_eq!(alarm("UnHealthyHostCount")["AlarmActions"][0], told["TopicArn"]);
    let dashboards = system.list("cloudwatch", "list_dashboards", json!({}), "DashboardEntries")?;
    assert!(texts(&dashboards, "DashboardName").contains(&system.name().as_str()));
    Ok(())
}

/// Fargate with 1024 CPU units and 2048 MB in prod, 4 to 10 tasks on port 3000 in the private subnets, with a circuit breaker and
/// Container Insights; scaling on CPU above 70 % and memory above 80 % with 300 s between; the secrets and variables it is given.
fn service(system: &System) -> Result<()> {
    let service = system.service("api")?;
    assert_eq!(service["desiredCount"], 4);
    let configuration = &service["deploymentConfiguration"];
    assert_eq!(configuration["deploymentCircuitBreaker"]["enable"], true);
    let private: Vec<Value> = system.subnets("private")?.iter().map(|subnet| subnet["SubnetId"].clone()).collect();
    let network = &service["networkConfiguration"]["awsvpcConfiguration"];
    assert!(network["subnets"].as_array().unwrap().iter().all(|subnet| private.contains(subnet)));
    assert_eq!(network["assignPublicIp"], "DISABLED");
    let definition = system.task_definition("api")?;
    assert_eq!((definition["cpu"].as_str(), definition["memory"].as_str()), (Some("1024"), Some("2048")));
    let container = &definition["containerDefinitions"][0];
    assert_eq!(container["portMappings"][0]["containerPort"], 3000);
    let environment = container["environment"].as_array().unwrap();
    let variable = |name: &str| {
        let found = environment.iter().find(|variable| variable["name"] == name);
        found.and_then(|variable| variable["value"].as_str()).unwrap_or_else(|| panic!("no {name}"))
    };
    for (name, value) in [
        ("NODE_ENV", "production"),
        ("PORT", "3000"),
        ("JWT_ACCESS_TOKEN_TTL", "15m"),
        ("JWT_REFRESH_TOKEN_TTL", "30d"),
        ("TENANT_ID", "dougust"),
        ("NEXT_PUBLIC_API_URL", "https://api.dougust.example"),
    ] {
        assert_eq!(variable(name), value, "{name}");
    }
    let secrets = container["secrets"].as_array().unwrap();
    for (name, secret) in [
        ("DATABASE_URL", "prod/dougust/database-url"),
        ("JWT_SECRET", "prod/dougust/jwt-secret"),
        ("JWT_REFRESH_SECRET", "prod/dougust/jwt-refresh-secret"),
    ] {
        let from = secrets.iter().find(|one| one["name"] == name).and_then(|one| one["valueFrom"].as_str()).unwrap();
        assert!(from.contains(&format!(":secret:{secret}")), "{name}: {from}");
    }
    assert_eq!(definition["requiresCompatibilities"], json!(["FARGATE"]));
    system.insights()?;
    assert_eq!(system.bounds("api")?, (json!(4), json!(10)));
    let policies = system.scaling("api")?;
    let policy = |metric: &str| {
        let found = policies.iter().map(|policy| &policy["TargetTrackingScalingPolicyConfiguration"]);
        found
            .into_iter()
            .find(|policy| policy["PredefinedMetricSpecification"]["PredefinedMetricType"] == metric)
            .unwrap()
            .clone()
    };
    for (metric, value) in [("ECSServiceAverageCPUUtilization", 70.0), ("ECSServiceAverageMemoryUtilization", 80.0)] {
        let policy = policy(metric);
        assert_eq!(policy["TargetValue"].as_f64(), Some(value));
        assert_eq!((&policy["ScaleInCooldown"], &policy["ScaleOutCooldown"]), (&json!(300), &json!(300)));
    }
    assert_eq!(tag(&system.ec2("describe_vpcs", "Vpcs")?[0], "shipway:app"), "dougust");
    Ok(())
}
