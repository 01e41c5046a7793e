//! What the roles of Shipway's own template were allowed and denied in tests.
//!
//! The local cloud notes each of IAM's decisions. Each test ends by looking whether one of Shipway's roles was denied something;
//! where [`FOLDER`] is named, it leaves there what was decided. When all have run, `cargo xtask rights` holds that against the
//! template.

use std::{path::PathBuf, sync::LazyLock};

use anyhow::{Result, ensure};
use local_cloud::{Decision, LocalCloud};
use serde_json::Value;

use crate::template::{ids, template};

/// The environment variable with the folder of what was decided, a file for each cloud.
pub const FOLDER: &str = "SHIPWAY_RIGHTS";

/// The roles whose rights tests use: those of functions and machines. What StackRole may do only CloudFormation calls, which the
/// local cloud's does without asking IAM.
pub fn roles(template: &Value) -> Vec<&str> {
    ids(template, "AWS::IAM::Role").into_iter().filter(|role| *role != "StackRole").collect()
}

/// The role in the template that one in the cloud was made from: CloudFormation puts the stack's name before and letters of its
/// own behind.
fn made_from<'t>(roles: &[&'t str], name: &str) -> Option<&'t str> {
    let name = name.strip_prefix("shipway-")?;
    roles
        .iter()
        .copied()
        .find(|role| name.strip_prefix(role).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
}

/// Whether nobody was denied what Shipway's functions and machines asked for. Leaves what was decided for a comparison.
///
/// # Errors
/// A role of Shipway's was denied something: which one and what.
pub async fn hold(cloud: &LocalCloud) -> Result<()> {
    static TEMPLATE: LazyLock<Result<Value>> = LazyLock::new(template);
    let template = TEMPLATE.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let roles = roles(template);
    let mut decisions = cloud.decisions().await?;
    decisions.retain_mut(|decision| match made_from(&roles, &decision.role) {
        Some(role) => {
            decision.role = role.to_owned();
            true
        }
        None => false,
    });
    if let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) {
        std::fs::create_dir_all(&folder)?;
        // What was decided so far replaces what was at the end of the test before.
        let name = format!("{}-{}.json", std::process::id(), cloud.registry().replace([':', '.'], "-"));
        std::fs::write(folder.join(name), serde_json::to_vec(&decisions)?)?;
    }
    nobody_was_denied(&decisions)
}

fn nobody_was_denied(decisions: &[Decision]) -> Result<()> {
    let denied = decisions.iter().filter(|decision| !decision.allowed);
    let denied =
        denied.map(|Decision { role, action, resource, .. }| format!("{role} was denied {action} on {resource}"));
    let denied: Vec<String> = denied.collect();
    ensure!(denied.is_empty(), "{}", denied.join("\n"));
    Ok(())
}

/// A resource as the template writes it, without what all ARNs begin with: partition, region and account.
pub fn shown(resource: &Value) -> String {
    let text = match resource {
        Value::Object(entries) => entries.values().next().and_then(Value::as_str).unwrap_or_default(),
        other => other.as_str().unwrap_or_default(),
    };
    let Some(arn) = text.strip_prefix("arn:${AWS::Partition}:") else { return text.to_owned() };
    let arn =
        arn.replace("${AWS::Region}", "").replace("${AWS::AccountId}", "").replace("${AWS::StackName}", "shipway");
    arn.split(':').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(allowed: bool) -> Decision {
        Decision {
            role: "WorkerRole".to_owned(),
            action: "s3:GetObject".to_owned(),
            statement: String::new(),
            position: None,
            resource: String::new(),
            allowed,
            times: 1,
        }
    }

    #[test]
    fn a_role_that_was_denied_something_is_named() {
        assert!(nobody_was_denied(&[decision(true)]).is_ok());
        let denied = nobody_was_denied(&[decision(false)]).unwrap_err();
        assert!(denied.to_string().starts_with("WorkerRole was denied s3:GetObject"), "{denied}");
    }

    #[test]
    fn a_role_in_the_cloud_is_known_by_the_name_that_it_was_given() {
        let roles = ["StartReleaseRole", "DriftMachineRole"];
        assert_eq!(made_from(&roles, "shipway-StartReleaseRole-1A2B"), Some("StartReleaseRole"));
        for other in ["shipway-hello-dev-service-api-TaskRole-1A2B", "shipway-StartReleaseRoles-1", "StartReleaseRole"]
        {
            assert_eq!(made_from(&roles, other), None, "{other}");
        }
    }
}
