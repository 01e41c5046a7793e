//! System 4: FastAPI and React, both in containers on EC2, with PostgreSQL, a bucket and email.

use anyhow::Result;
use serde_json::{Value, json};
use shipway_tests::site;

use crate::{
    inventory::{BALANCED, INSTANCES, OWN_VPC, Parts, SERVER, SITE},
    system::{System, tag, with},
};

/// What came with it, once its images are rolled out.
pub const STANDS: &Parts = &[
    OWN_VPC,
    BALANCED,
    INSTANCES,
    SITE,
    SERVER,
    &[
        ("cloudformation describe_stacks", 12),
        ("ec2 describe_subnets", 4),
        ("ec2 describe_route_tables", 3),
        ("ec2 describe_security_groups", 5),
        ("ecs list_task_definitions", 2),
        ("elbv2 describe_target_groups", 2),
        ("s3 list_buckets", 2),
        ("ecr describe_repositories", 2),
        ("logs describe_log_groups", 3),
        ("secretsmanager list_secrets", 2),
        ("sesv2 list_email_identities", 1),
        ("iam list_roles", 5),
    ],
];

#[test]
fn fastapi_react_stands_as_its_owner_describes_it() {
    with("fastapi-react", "dev", async |system| {
        instances(&system)?;
        data(&system)?;
        way_in(&system)?;
        system.roll_out("backend", "fastapi-react-backend", 8000).await?;
        system.roll_out("frontend", "fastapi-react-frontend", 8080).await?;
        rights(&system)?;
        system.second_apply_changes_nothing().await?;
        site(&system).await?;
        // A bucket and repositories that hold something do not stop a teardown.
        let bucket = &system.record.platform.values["buckets.items"];
        system.ask("s3", "put_object", json!({"Bucket": bucket, "Key": "item", "Body": "kept by nobody"}))?;
        system.consists_of(STANDS)?;
        shipway_tests::secrets::are_told_nowhere(system.shipway, system.aws)?;
        system.tears_down_to_nothing().await
    });
}

/// EC2 launch type on `t3a.small`.
fn instances(system: &System) -> Result<()> {
    let groups = system.list("autoscaling", "describe_auto_scaling_groups", json!({}), "AutoScalingGroups")?;
    let ours: Vec<_> = groups.iter().filter(|group| tag(group, "shipway:app") == "fastapi-react").collect();
    assert_eq!(ours.len(), 1, "{groups:#?}");
    assert_eq!(system.launch_template()?["InstanceType"], "t3a.small");
    Ok(())
}

/// PostgreSQL, one application bucket, one verified address to be confirmed by a person.
fn data(system: &System) -> Result<()> {
    let all = system.list("rds", "describe_db_instances", json!({}), "DBInstances")?;
    let ours: Vec<_> =
        all.iter().filter(|one| one["DBInstanceIdentifier"].as_str().unwrap().starts_with(&system.name())).collect();
    assert_eq!(ours.len(), 1, "{all:#?}");
    assert_eq!(ours[0]["Engine"], "postgres");
    let bucket = &system.record.platform.values["buckets.items"];
    let block = system.ask("s3", "get_public_access_block", json!({"Bucket": bucket}))?;
    assert_eq!(block["PublicAccessBlockConfiguration"]["BlockPublicPolicy"], true);
    let identities = system.list("sesv2", "list_email_identities", json!({}), "EmailIdentities")?;
    assert!(identities.iter().any(|one| one["IdentityName"] == "hello@fastapi-react.example"), "{identities:#?}");
    Ok(())
}

/// `/api*` is the backend's, everything else the frontend's.
fn way_in(system: &System) -> Result<()> {
    let listener = system.listener(80)?["ListenerArn"].clone();
    let rules = system.list("elbv2", "describe_rules", json!({"ListenerArn": listener}), "Rules")?;
    let priority = |path: &str, service: &str| -> Result<u32> {
        let group = system.target_group(service)?;
        let rule = rules.iter().find(|rule: &&Value| {
            rule["Actions"][0]["TargetGroupArn"] == group["TargetGroupArn"]
                && rule["Conditions"][0]["PathPatternConfig"]["Values"] == json!([path])
        });
        Ok(rule.unwrap_or_else(|| panic!("{path}: {rules:#?}"))["Priority"].as_str().unwrap().parse()?)
    };
    assert!(priority("/api*", "backend")? < priority("/*", "frontend")?);
    Ok(())
}

/// A site of one page before the backend; its cache is reset when a publication changes what is in it, and only then.
async fn site(system: &System) -> Result<()> {
    system.site_stands(&["/api*"])?;
    let resets = || -> Result<usize> {
        let of = json!({"DistributionId": system.site()?.distribution});
        let answer = system.ask("cloudfront", "list_invalidations", of)?;
        Ok(answer["InvalidationList"]["Items"].as_array().map_or(0, Vec::len))
    };
    // CloudFront keeps the logo, and no page.
    let zip = |logo: &str, version: &str| {
        let page = format!("Version {version}.");
        site::zip([("index.html", page.as_bytes()), ("404.html", page.as_bytes()), ("logo.svg", logo.as_bytes())])
    };
    system.publish("1", zip("<svg/>", "1")?).await?;
    let before = resets()?;
    system.publish("2", zip("<svg id='new'/>", "2")?).await?;
    assert_eq!(resets()?, before + 1);
    system.publish("the-same", zip("<svg id='new'/>", "2")?).await?;
    assert_eq!(resets()?, before + 1);
    for (path, status) in [("/", 200), ("/items/7", 200), ("/nowhere.js", 404)] {
        let (answered, page) = system.visit(path).await?;
        assert!(answered == status && page.contains("Version 2."), "{path}: {answered} {page}");
    }
    system.errors_of_the_api_stay().await
}

/// The backend may use the bucket and send as the address; the frontend may do neither.
fn rights(system: &System) -> Result<()> {
    for (service, may) in [("backend", true), ("frontend", false)] {
        let role = &system.record.platform.services[&service.parse()?].task_role;
        let text = system.rights_of(role)?;
        assert_eq!(text.contains("s3:PutObject"), may, "{service}: {text}");
        assert_eq!(text.contains("ses:SendEmail"), may, "{service}: {text}");
    }
    Ok(())
}
