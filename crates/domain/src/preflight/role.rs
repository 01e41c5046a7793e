//! The roles of a task: whether they are there, and whether ECS's tasks may take them.

use serde_json::Value;

use super::items;

/// Who takes the roles of tasks.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html>
pub(super) const TASKS: &str = "ecs-tasks.amazonaws.com";

/// Who takes the role that moves requests.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/AmazonECSInfrastructureRolePolicyForLoadBalancers.html>
pub(super) const ECS: &str = "ecs.amazonaws.com";

/// What IAM says of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Nobody asked.
    #[default]
    Unknown,
    /// It is not there.
    Missing,
    /// Its trust policy.
    There(String),
}

/// What keeps this role from who must take it: ECS itself, or its tasks.
pub(super) fn finding(what: &str, arn: &str, role: &Role, by: &str) -> Option<String> {
    let without = if by == TASKS { "no task starts" } else { "no requests go over to a new version" };
    match role {
        Role::Missing => Some(format!(
            "the {what} {arn} is not there, and {without} without it; `shipway apply --repair` makes it again"
        )),
        Role::There(trust) if !trusts(trust, by) => Some(format!(
            "the {what} {arn} may not be taken by {}: its trust policy does not let {by} do sts:AssumeRole; \
             `shipway apply --repair` puts it right",
            if by == TASKS { "tasks" } else { "ECS" }
        )),
        Role::There(_) | Role::Unknown => None,
    }
}

/// Whether a trust policy lets this service take its role, as far as it says: conditions and exceptions depend on who asks, so what they
/// would refuse counts as allowed.
fn trusts(policy: &str, service: &str) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else { return true };
    let names = |value: &Value, names: &[&str]| {
        items(value).iter().filter_map(Value::as_str).any(|value| names.contains(&value))
    };
    let mut its = items(&policy["Statement"]).iter().filter(|statement| {
        let principal = &statement["Principal"];
        let action = &statement["Action"];
        (principal.is_null() || principal == "*" || names(&principal["Service"], &[service]))
            && (action.is_null() || names(action, &["sts:AssumeRole", "sts:*", "*"]))
    });
    let (mut allowed, mut denied) = (false, false);
    for statement in its.by_ref() {
        let for_sure = ["Condition", "NotPrincipal", "NotAction"].iter().all(|key| statement[*key].is_null());
        allowed |= statement["Effect"] == "Allow";
        denied |= statement["Effect"] == "Deny" && for_sure;
    }
    allowed && !denied
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trust_policy_lets_tasks_take_the_role_or_surely_does_not() {
        let tasks = json!({"Service": TASKS});
        let allow = json!({"Effect": "Allow", "Principal": tasks, "Action": "sts:AssumeRole"});
        let with = |key: &str, value: Value| {
            let mut statement = allow.clone();
            statement[key] = value;
            statement
        };
        for (statements, trusts) in [
            (json!(allow), true),
            (json!([allow]), true),
            (json!([with("Condition", json!({"StringEquals": {"aws:SourceAccount": "1"}}))]), true),
            (json!([with("Principal", json!({"Service": ["ec2.amazonaws.com", TASKS]}))]), true),
            (json!([with("Principal", json!("*"))]), true),
            (json!([with("Action", json!(["sts:TagSession", "sts:*"]))]), true),
            (json!([with("Principal", json!({"Service": "ecs.amazonaws.com"}))]), false),
            (json!([with("Principal", json!({"AWS": "arn:aws:iam::1:root"}))]), false),
            (json!([with("Action", json!("sts:TagSession"))]), false),
            (json!([allow, with("Effect", json!("Deny"))]), false),
            // Whom a condition refuses is not known here.
            (
                json!([allow, {"Effect": "Deny", "Principal": tasks, "Action": "*", "Condition": {"Bool": {"a": "b"}}}]),
                true,
            ),
            (json!([]), false),
        ] {
            let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
            assert_eq!(super::trusts(&policy, TASKS), trusts, "{policy}");
        }
        assert!(super::trusts("no JSON", TASKS));
    }
}
