"""Who hands a role to a service must be allowed to pass it. MiniStack does not ask.

https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html
"""

import contextvars
import json

from ministack.core import iam_actions, iam_evaluator
from ministack.services import ecs

from local_cloud.patch import replace

_passed = contextvars.ContextVar("local_cloud_passed", default=("", ()))


def install():
    replace(iam_actions, "extract_resource_arn", _remember_roles)
    replace(iam_evaluator, "enforce", _check_roles)


def _remember_roles(extract):
    def extract_resource_arn(service, method, path, headers, body, query_params, region, account_id):
        passed = []
        if service == "ecs":
            call = json.loads(body or b"{}")
            passed = _of_ecs(headers.get("x-amz-target", "").rpartition(".")[2], call)
        elif service == "cloudformation":
            role = iam_actions._query_param(query_params, "RoleARN")
            passed = [(role, "cloudformation.amazonaws.com")] if role else []
        _passed.set((service, passed))
        return extract(service, method, path, headers, body, query_params, region, account_id)

    return extract_resource_arn


def _check_roles(enforce):
    def enforce_with_roles(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
        named, passed = _passed.get()
        _passed.set(("", ()))
        denied = enforce(access_key_id, iam_action, service, region, resource_arn, service_context)
        for role, to in passed if service == named else ():
            denied = denied or enforce(access_key_id, "iam:PassRole", "iam", region, role, {"iam:PassedToService": to})
        return denied

    return enforce_with_roles


def _of_ecs(action, call):
    """The roles of tasks, and those that ECS itself moves requests with."""
    match action:
        case "RegisterTaskDefinition":
            given = [call]
        case "RunTask":
            family = call.get("taskDefinition", "").rpartition("/")[2]
            given = [ecs._task_defs.get(family) or {}, call.get("overrides") or {}]
        case "CreateService" | "UpdateService":
            moving = (balancer.get("advancedConfiguration") or {} for balancer in call.get("loadBalancers") or [])
            return [(one["roleArn"], "ecs.amazonaws.com") for one in moving if one.get("roleArn")]
        case _:
            return []
    roles = (one.get(kind) for one in given for kind in ("taskRoleArn", "executionRoleArn"))
    return [(role, "ecs-tasks.amazonaws.com") for role in roles if role]
