//! What somebody changed by hand, told and put right.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use shipway_domain::{
    drift::{DriftReport, DriftStatus},
    message::ReleaseInput,
    name::Component,
    release::Outcome,
};

use crate::system::{PATIENCE, System, with};

#[test]
fn what_somebody_changed_is_told_and_a_repair_puts_it_right() {
    with("hello", "dev", async |system| {
        let report = compare(&system).await?;
        assert_eq!(report.status, DriftStatus::InSync, "{report:#?}");

        let group = system.group("load-balancer-group")?["GroupId"].clone();
        let anywhere =
            json!([{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]);
        let open = json!({"GroupId": group, "IpPermissions": anywhere});
        system.ask("ec2", "authorize_security_group_ingress", open)?;
        let days = retention(&system)?;
        system.ask("logs", "put_retention_policy", json!({"logGroupName": logs(&system)?, "retentionInDays": 1}))?;
        let report = compare(&system).await?;
        assert_eq!(report.status, DriftStatus::Drifted, "{report:#?}");
        let stack = "stack shipway-hello-dev-service-api";
        let of_stack = report.differences.iter().find(|difference| difference.of == stack).context("no such stack")?;
        assert!(of_stack.what.contains("RetentionInDays"), "{of_stack:?}");
        assert!(report.differences.iter().any(|difference| difference.of != stack), "{report:#?}");

        // An upload would start a release of its own.
        let artifact = system.record.applied.as_ref().context("nothing is applied")?.artifact.clone();
        let repair = ReleaseInput {
            app: system.place.app.clone(),
            environment: system.place.environment.clone(),
            component: Component::Platform,
            artifact,
            repair: true,
        };
        let machine = system.shipway.machine(&Component::Platform)?;
        let execution = system.shipway.start_with(machine, &serde_json::to_string(&repair)?).await?;
        let release = system.shipway.ended_execution(&system.place, &execution, PATIENCE).await?;
        let story = system.shipway.story(&system.place).await?;
        ensure!(matches!(release.outcome, Some(Outcome::Succeeded | Outcome::Unchanged)), "{story}");
        assert_eq!(retention(&system)?, days, "{story}");
        let report = compare(&system).await?;
        assert_eq!(report.status, DriftStatus::InSync, "{report:#?}\n{story}");
        Ok(())
    });
}

/// The service's log group.
fn logs(system: &System) -> Result<&str> {
    Ok(&system.record.platform.services.get(&"api".parse()?).context("no such service")?.log_group)
}

fn retention(system: &System) -> Result<Value> {
    let arguments = json!({"logGroupNamePrefix": logs(system)?});
    let groups = system.list("logs", "describe_log_groups", arguments, "logGroups")?;
    groups.into_iter().next().map(|group| group["retentionInDays"].clone()).context("no log group")
}

/// Starts the machine that compares, and waits for its report.
async fn compare(system: &System) -> Result<DriftReport> {
    let input = json!({"app": system.place.app, "environment": system.place.environment});
    let execution = system.shipway.start_with(system.shipway.output("DriftMachine")?, &input.to_string()).await?;
    let started = std::time::Instant::now();
    loop {
        let described = system.ask("stepfunctions", "describe_execution", json!({"executionArn": execution}))?;
        match described["status"].as_str() {
            Some("RUNNING") => {}
            Some("SUCCEEDED") => break,
            _ => anyhow::bail!("{described}\n{}", system.shipway.execution_story(&execution).await?),
        }
        ensure!(started.elapsed() < PATIENCE, "{}", system.shipway.execution_story(&execution).await?);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let report = system.shipway.store.drift(&system.place.app, &system.place.environment).await?;
    report.context("no report")
}
