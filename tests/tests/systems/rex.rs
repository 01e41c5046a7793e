//! System 5: a Go API and its worker with SuperTokens on Fargate, Aurora and Redis.

use anyhow::Result;
use serde_json::{Value, json};
use shipway_tests::site;

use crate::{
    inventory::{BALANCED, OWN_VPC, Parts, SERVER, SITE},
    system::{System, texts, with},
};

/// What came with it, once its images are rolled out.
pub const STANDS: &Parts = &[
    OWN_VPC,
    BALANCED,
    SITE,
    SERVER,
    &[
        ("cloudformation describe_stacks", 18),
        ("ec2 describe_subnets", 4),
        ("ec2 describe_route_tables", 4),
        ("ec2 describe_nat_gateways", 1),
        ("ec2 describe_addresses", 1),
        ("ec2 describe_security_groups", 5),
        ("ecs list_task_definitions", 6),
        ("servicediscovery list_namespaces", 1),
        ("servicediscovery list_services", 2),
        ("elbv2 describe_target_groups", 2),
        ("s3 list_buckets", 1),
        ("ecr describe_repositories", 2),
        ("logs describe_log_groups", 5),
        ("secretsmanager list_secrets", 4),
        ("rds describe_db_clusters", 1),
        ("elasticache describe_replication_groups", 1),
        ("elasticache describe_cache_clusters", 1),
        ("elasticache describe_cache_subnet_groups", 1),
        ("cloudwatch describe_alarms", 9),
        ("iam list_roles", 6),
        ("route53 list_hosted_zones", 1),
        ("route53 list_resource_record_sets", 2),
    ],
];

#[test]
fn rex_stands_as_its_owner_describes_it() {
    with("rex", "dev", async |system| {
        waits_for_the_first_push(&system)?;
        network(&system)?;
        data(&system)?;
        way_in(&system)?;
        logs_and_secrets(&system)?;
        system.roll_out("worker", "rex-backend-dev-worker", 9000).await?;
        system.roll_out("api", "rex-backend-dev-api", 8080).await?;
        services(&system)?;
        system.second_apply_changes_nothing().await?;
        more_cpu_for_the_worker_changes_it_alone(&system).await?;
        site(&system).await?;
        system.consists_of(STANDS)?;
        shipway_tests::secrets::are_told_nowhere(system.shipway, system.aws)?;
        system.tears_down_to_nothing().await
    });
}

/// The first apply has made the repositories, and no service before its image.
fn waits_for_the_first_push(system: &System) -> Result<()> {
    for name in ["api", "worker"] {
        system.repository_keeps(&format!("rex-backend-dev-{name}"), 10)?;
        assert!(system.service(name).is_err(), "{name}");
    }
    Ok(())
}

/// A single-page application before the API and SuperTokens.
async fn site(system: &System) -> Result<()> {
    system.site_stands(&["/api/*", "/auth/*"])?;
    system.publish("1a2b3c", site::hello("1", 6)?).await?;
    for path in ["/", "/orders/7"] {
        let (status, page) = system.visit(path).await?;
        assert!(status == 200 && page.contains("<h1>Hello</h1>"), "{path}: {status} {page}");
    }
    let (status, text) = system.visit("/auth/hello").await?;
    assert!(status == 200 && text.contains(r#""path":"/auth/hello""#), "{status} {text}");
    system.errors_of_the_api_stay().await
}

/// More CPU units of one service make one new revision and one deployment of it.
async fn more_cpu_for_the_worker_changes_it_alone(system: &System) -> Result<()> {
    let changed = system
        .manifest
        .replace("    <<: *go\n    count: 1", "    <<: *go\n    cpu: 1024\n    memory: 2048\n    count: 1");
    assert_ne!(changed, system.manifest);
    let revisions = || ["api", "supertokens"].map(|name| system.service(name).unwrap()["taskDefinition"].clone());
    let before = revisions();
    let writes = system.writes_of_applying(&changed).await?;
    let expected = ["ecs:RegisterTaskDefinition", "ecs:UpdateService"].map(|call| (call.to_owned(), 1));
    assert_eq!(writes, expected.into(), "{writes:#?}");
    assert_eq!(revisions(), before);
    assert_eq!(system.task_definition("worker")?["cpu"], "1024");
    Ok(())
}

/// us-east-1, 10.0.0.0/16, 2 zones, public and private subnets, one NAT gateway.
fn network(system: &System) -> Result<()> {
    assert_eq!(texts(&system.ec2("describe_vpcs", "Vpcs")?, "CidrBlock"), ["10.0.0.0/16"]);
    assert_eq!(
        [system.subnets("public")?.len(), system.subnets("private")?.len(), system.subnets("isolated")?.len()],
        [2, 2, 0]
    );
    assert_eq!(system.ec2("describe_nat_gateways", "NatGateways")?.len(), 1);
    Ok(())
}

/// Aurora Serverless v2 PostgreSQL 15 from 0.5 to 2 ACU with 7-day backups, user `rexadmin`; Redis 7.0 on cache.t4g.micro,
/// encrypted at rest, with snapshots; both in the private subnets.
fn data(system: &System) -> Result<()> {
    let name = system.name();
    let clusters = system.list("rds", "describe_db_clusters", json!({}), "DBClusters")?;
    let ours: Vec<_> =
        clusters.iter().filter(|one| one["DBClusterIdentifier"].as_str().unwrap().starts_with(&name)).collect();
    assert_eq!(ours.len(), 1, "{clusters:#?}");
    for (key, value) in [
        ("Engine", json!("aurora-postgresql")),
        ("MasterUsername", json!("rexadmin")),
        ("DatabaseName", json!("rex_backend")),
        ("BackupRetentionPeriod", json!(7)),
        ("StorageEncrypted", json!(true)),
    ] {
        assert_eq!(ours[0][key], value, "{key}");
    }
    assert!(ours[0]["EngineVersion"].as_str().unwrap().starts_with("15"), "{ours:#?}");
    let capacity = &ours[0]["ServerlessV2ScalingConfiguration"];
    assert_eq!((capacity["MinCapacity"].as_f64(), capacity["MaxCapacity"].as_f64()), (Some(0.5), Some(2.0)));
    let caches = system.list("elasticache", "describe_replication_groups", json!({}), "ReplicationGroups")?;
    let ours: Vec<_> =
        caches.iter().filter(|one| one["ReplicationGroupId"].as_str().unwrap().contains(&name)).collect();
    assert_eq!(ours.len(), 1, "{caches:#?}");
    for (key, value) in [
        ("CacheNodeType", json!("cache.t4g.micro")),
        ("AtRestEncryptionEnabled", json!(true)),
        ("SnapshotRetentionLimit", json!(1)),
    ] {
        assert_eq!(ours[0][key], value, "{key}");
    }
    let nodes = json!({"CacheClusterId": ours[0]["MemberClusters"][0]});
    let nodes = system.list("elasticache", "describe_cache_clusters", nodes, "CacheClusters")?;
    assert!(nodes[0]["EngineVersion"].as_str().unwrap().starts_with("7.0"), "{nodes:#?}");
    Ok(())
}

/// `/api/*` is the API's, `/auth/*` SuperTokens', each with its health check.
fn way_in(system: &System) -> Result<()> {
    let listener = system.listener(80)?["ListenerArn"].clone();
    let rules = system.list("elbv2", "describe_rules", json!({"ListenerArn": listener}), "Rules")?;
    for (path, service, health) in [("/api/*", "api", "/api/health"), ("/auth/*", "supertokens", "/auth/hello")] {
        let group = system.target_group(service)?;
        assert_eq!(group["HealthCheckPath"], health);
        let forwards = |rule: &&Value| {
            rule["Actions"][0]["TargetGroupArn"] == group["TargetGroupArn"]
                && rule["Conditions"][0]["PathPatternConfig"]["Values"] == json!([path])
        };
        assert_eq!(rules.iter().filter(forwards).count(), 1, "{path}: {rules:#?}");
    }
    Ok(())
}

/// Logs for 7 days under `/ecs/rex-backend-dev-…`; secrets for the database's password and SuperTokens' key.
fn logs_and_secrets(system: &System) -> Result<()> {
    let groups = json!({"logGroupNamePrefix": "/ecs/rex-backend-dev-"});
    let groups = system.list("logs", "describe_log_groups", groups, "logGroups")?;
    let expected = ["api", "migration", "supertokens", "worker"].map(|name| format!("/ecs/rex-backend-dev-{name}"));
    assert_eq!(texts(&groups, "logGroupName"), expected);
    assert!(groups.iter().all(|group| group["retentionInDays"] == 7), "{groups:#?}");
    let all = system.list("secretsmanager", "list_secrets", json!({}), "SecretList")?;
    let ours = texts(&all, "Name").into_iter().filter(|name| name.starts_with("shipway/rex-backend/dev/"));
    assert!(ours.count() >= 3, "{all:#?}");
    Ok(())
}

/// All on Fargate with 512 CPU units and 1024 MB: two of the API, one worker without a port, one SuperTokens of a public image;
/// they find each other by name; the API scales from 2 to 10 on CPU; alarms on CPU, memory, 5xx and connections.
fn services(system: &System) -> Result<()> {
    for (name, count) in [("api", 2), ("worker", 1), ("supertokens", 1)] {
        assert_eq!(system.service(name)?["desiredCount"], count, "{name}");
        let definition = system.task_definition(name)?;
        assert_eq!((definition["cpu"].as_str(), definition["memory"].as_str()), (Some("512"), Some("1024")), "{name}");
        assert_eq!(definition["requiresCompatibilities"], json!(["FARGATE"]), "{name}");
    }
    let worker = system.task_definition("worker")?;
    let ports = worker["containerDefinitions"][0]["portMappings"].as_array();
    assert!(ports.is_none_or(Vec::is_empty), "{ports:?}");
    let supertokens = system.task_definition("supertokens")?;
    let image = supertokens["containerDefinitions"][0]["image"].as_str().unwrap();
    assert!(image.starts_with("docker.io/supertokens/supertokens-postgresql:"), "{image}");
    let given = supertokens["containerDefinitions"][0]["secrets"].as_array().unwrap();
    assert_eq!(texts(given, "name"), ["API_KEYS", "POSTGRESQL_CONNECTION_URI"]);
    let namespaces = system.list("servicediscovery", "list_namespaces", json!({}), "Namespaces")?;
    assert!(texts(&namespaces, "Name").contains(&"rex-backend-dev.internal"), "{namespaces:#?}");
    for name in ["api", "supertokens"] {
        assert_eq!(system.service(name)?["serviceRegistries"].as_array().unwrap().len(), 1, "{name}");
    }
    let policies = system.scaling("api")?;
    assert_eq!(policies.len(), 1, "{policies:#?}");
    let policy = &policies[0]["TargetTrackingScalingPolicyConfiguration"];
    let metric = &policy["PredefinedMetricSpecification"]["PredefinedMetricType"];
    assert_eq!((metric, policy["TargetValue"].as_f64()), (&json!("ECSServiceAverageCPUUtilization"), Some(70.0)));
    assert_eq!(system.bounds("api")?, (json!(2), json!(10)));
    system.insights()?;
    let alarms = system.alarms()?;
    for metric in ["CPUUtilization", "MemoryUtilization", "HTTPCode_Target_5XX_Count", "DatabaseConnections"] {
        assert!(alarms.iter().any(|alarm| alarm["MetricName"] == metric), "{metric}: {alarms:#?}");
    }
    Ok(())
}
