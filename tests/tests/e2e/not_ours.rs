//! What a function's rights reach in an account that is not Shipway's alone: somebody who has deploy-service's own policy tries.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use shipway_tests::ask::Aws;

use super::with_shipway;

/// A person with the policies that a role of the template has.
fn with_the_rights_of(admin: &Aws, cloud: &local_cloud::LocalCloud, role: &str) -> Result<Aws> {
    let roles = admin.list("iam", "list_roles", json!({}), "Roles")?;
    let mut names = roles.iter().filter_map(|one| one["RoleName"].as_str());
    let name = names.find(|name| name.contains(role)).with_context(|| format!("there is no {role}"))?;
    admin.ask("iam", "create_user", json!({"UserName": role}))?;
    for policy in admin.list("iam", "list_role_policies", json!({"RoleName": name}), "PolicyNames")? {
        let of = json!({"RoleName": name, "PolicyName": policy});
        let document = admin.ask("iam", "get_role_policy", of)?["PolicyDocument"].take();
        let put = json!({"UserName": role, "PolicyName": policy, "PolicyDocument": document.to_string()});
        admin.ask("iam", "put_user_policy", put)?;
    }
    let key = admin.ask("iam", "create_access_key", json!({"UserName": role}))?;
    let text = |name: &str| key["AccessKey"][name].as_str().context("no key");
    Aws::with(
        cloud,
        &[("AWS_ACCESS_KEY_ID", text("AccessKeyId")?), ("AWS_SECRET_ACCESS_KEY", text("SecretAccessKey")?)],
    )
}

#[test]
fn what_deploy_service_did_not_make_it_may_not_change() {
    with_shipway(async |shipway| {
        let admin = Aws::of(&shipway.cloud)?;
        let thief = with_the_rights_of(&admin, &shipway.cloud, "DeployServiceRole")?;
        let tags = json!([{"key": "shipway:app", "value": "hello"}]);
        admin.ask("ecs", "create_cluster", json!({"clusterName": "shared"}))?;
        let containers = json!([{"name": "a", "image": "a", "memory": 64}]);
        for (name, tags) in [("theirs", json!([])), ("ours", tags.clone())] {
            let revision = json!({"family": name, "containerDefinitions": containers, "tags": tags});
            admin.ask("ecs", "register_task_definition", revision)?;
            let service = json!({"cluster": "shared", "serviceName": name, "taskDefinition": name, "desiredCount": 0, "tags": tags});
            admin.ask("ecs", "create_service", service)?;
        }
        let arn = |service: &str, resource: &str| {
            format!("arn:aws:{service}:{}:{}:{resource}", shipway.cloud.region(), shipway.cloud.account())
        };
        let refused = |service: &str, operation: &str, arguments: Value| -> Result<()> {
            let answer = thief.ask(service, operation, arguments);
            let told = answer.err().map(|error| error.to_string()).unwrap_or_default();
            ensure!(told.contains("AccessDenied"), "{service} {operation} was not refused: {told}");
            Ok(())
        };

        let of = |name: &str| json!({"cluster": "shared", "service": name, "desiredCount": 0});
        thief.ask("ecs", "update_service", of("ours"))?;
        refused("ecs", "update_service", of("theirs"))?;
        refused("ecs", "delete_service", json!({"cluster": "shared", "service": "theirs", "force": true}))?;
        refused(
            "ecs",
            "delete_task_definitions",
            json!({"taskDefinitions": [arn("ecs", "task-definition/theirs:1")]}),
        )?;
        // Nor may it call something its own first, or make what nobody would know for Shipway's.
        let service = arn("ecs", "service/shared/theirs");
        refused("ecs", "tag_resource", json!({"resourceArn": service, "tags": tags}))?;
        refused("ecs", "register_task_definition", json!({"family": "more", "containerDefinitions": containers}))?;
        let mut more = json!({"cluster": "shared", "serviceName": "more", "taskDefinition": "ours", "desiredCount": 0});
        refused("ecs", "create_service", more.clone())?;
        more["tags"] = tags;
        thief.ask("ecs", "create_service", more)?;

        let mut target = json!({"ServiceNamespace": "dynamodb", "ResourceId": "table/t", "MinCapacity": 1,
            "ScalableDimension": "dynamodb:table:ReadCapacityUnits", "MaxCapacity": 1});
        refused("application-autoscaling", "register_scalable_target", target.clone())?;
        target["ServiceNamespace"] = json!("ecs");
        target["ScalableDimension"] = json!("ecs:service:DesiredCount");
        target["ResourceId"] = json!("service/shared/ours");
        thief.ask("application-autoscaling", "register_scalable_target", target)?;

        // Where images lead, and which environments there are, others say.
        let table = shipway.output("Table")?;
        let key = |pk: &str| json!({"pk": {"S": pk}, "sk": {"S": "a"}});
        thief.ask("dynamodb", "get_item", json!({"TableName": table, "Key": key("hello/prod")}))?;
        let change =
            |pk: &str| json!({"Update": {"TableName": table, "Key": key(pk), "UpdateExpression": "REMOVE nothing"}});
        for pk in ["repository#team/api", "environments"] {
            refused("dynamodb", "update_item", change(pk)["Update"].clone())?;
            let both = json!({"TransactItems": [change("hello/prod"), change(pk)]});
            refused("dynamodb", "transact_write_items", both)?;
        }
        for service in ["ours", "theirs", "more"] {
            admin.ask("ecs", "delete_service", json!({"cluster": "shared", "service": service, "force": true}))?;
        }
        Ok(())
    });
}
