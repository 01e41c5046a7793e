//! System 4: FastAPI and React, both in containers on EC2, with PostgreSQL, a bucket and email.

use anyhow::Result;
use serde_json::{Value, json};

use crate::system::{System, tag, with};

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
        system.tears_down_to_nothing().await
    });
}

/// EC2 launch type on `t3a.small`.
fn instances(system: &System) -> Result<()> {
    let groups = system.list("autoscaling", "describe_auto_scaling_groups", json!({}), "AutoScalingGroups")?;
    let ours: Vec<_> = groups.iter().filter(|group| tag(group, "shipway:app") == "fastapi-react").collect();
    assert_eq!(ours.len(), 1, "{groups:#?}");
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

/// The backend may use the bucket and send as the address; the frontend may do neither.
fn rights(system: &System) -> Result<()> {
    for (service, may) in [("backend", true), ("frontend", false)] {
        let role = &system.record.platform.services[&service.parse()?].task_role;
        let role = role.rsplit('/').next().unwrap();
        let policies = system.ask("iam", "list_role_policies", json!({"RoleName": role}))?;
        let mut text = String::new();
        for name in policies["PolicyNames"].as_array().unwrap() {
            let policy = system.ask("iam", "get_role_policy", json!({"RoleName": role, "PolicyName": name}))?;
            text.push_str(&policy["PolicyDocument"].to_string());
        }
        assert_eq!(text.contains("s3:PutObject"), may, "{service}: {text}");
        assert_eq!(text.contains("ses:SendEmail"), may, "{service}: {text}");
    }
    Ok(())
}
