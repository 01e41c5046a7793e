"""Application Auto Scaling for ECS services, which MiniStack does not have: targets and policies are kept, nothing scales.

Registering a target or putting a policy again updates it; a policy needs its target, a target its service; a target that is
deregistered takes its policies with it. A call that changes something is checked on the target, and by what of which service it scales.
https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsapplicationautoscaling.html
"""

import json
import time
import uuid

from ministack import app
from ministack.core import iam_actions, router
from ministack.core.responses import AccountRegionScopedDict, error_response_json, get_account_id, get_region, json_response
from ministack.services import ecs

from local_cloud import rights

_NAME = "application-autoscaling"
_targets = AccountRegionScopedDict()
_policies = AccountRegionScopedDict()


def install():
    router.SERVICE_PATTERNS[_NAME] = {
        "target_prefixes": ["AnyScaleFrontendService"],
        "host_patterns": [r"application-autoscaling\."],
        "credential_scope": _NAME,
    }
    app.SERVICE_HANDLERS[_NAME] = handle_request
    iam_actions.SERVICE_TO_IAM_NAMESPACE[_NAME] = _NAME
    rights.check_each(_NAME, _checks)


def _checks(iam_action, call, region):
    if iam_action.startswith(f"{_NAME}:Describe"):
        return []
    known = _targets.get(_key(call))
    arn = known["ScalableTargetARN"] if known else f"arn:aws:{_NAME}:{region}:{get_account_id()}:scalable-target/new"
    return [(iam_action, arn, {
        f"{_NAME}:service-namespace": call.get("ServiceNamespace"),
        f"{_NAME}:scalable-dimension": call.get("ScalableDimension"),
    })]


async def handle_request(_method, _path, headers, body, _query_params):
    action = headers.get("x-amz-target", "").rpartition(".")[2]
    handler = _ACTIONS.get(action)
    if handler is None:
        return error_response_json("UnknownOperationException", f"{action} is not known here", 400)
    return handler(json.loads(body or b"{}"))


def _key(call):
    return call.get("ServiceNamespace"), call.get("ResourceId"), call.get("ScalableDimension")


def _register(call):
    namespace, resource, dimension = _key(call)
    if namespace != "ecs" or dimension != "ecs:service:DesiredCount":
        return error_response_json("ValidationException", f"{namespace} {dimension} is not known here", 400)
    if resource.removeprefix("service/") not in ecs._services:
        return error_response_json("ValidationException", f"ECS service doesn't exist: {resource}", 400)
    known = _targets.get(_key(call))
    if not known and not ("MinCapacity" in call and "MaxCapacity" in call):
        return error_response_json("ValidationException", "MinCapacity and MaxCapacity are required", 400)
    arn = (f"arn:aws:application-autoscaling:{get_region()}:{get_account_id()}:scalable-target/"
           f"{uuid.uuid4().hex[:28]}")
    target = known or {
        "ServiceNamespace": namespace, "ResourceId": resource, "ScalableDimension": dimension,
        "RoleARN": f"arn:aws:iam::{get_account_id()}:role/aws-service-role/ecs.application-autoscaling.amazonaws.com/"
                   "AWSServiceRoleForApplicationAutoScaling_ECSService",
        "CreationTime": time.time(), "ScalableTargetARN": arn,
        "SuspendedState": {"DynamicScalingInSuspended": False, "DynamicScalingOutSuspended": False,
                           "ScheduledScalingSuspended": False},
    }
    target |= {key: call[key] for key in ("MinCapacity", "MaxCapacity", "SuspendedState") if key in call}
    _targets[_key(call)] = target
    return json_response({"ScalableTargetARN": target["ScalableTargetARN"]})


def _matches(item, call):
    resources = call.get("ResourceIds") or ([call["ResourceId"]] if call.get("ResourceId") else None)
    names = call.get("PolicyNames")
    return (item["ServiceNamespace"] == call.get("ServiceNamespace")
            and (not resources or item["ResourceId"] in resources)
            and (not call.get("ScalableDimension") or item["ScalableDimension"] == call["ScalableDimension"])
            and (not names or item.get("PolicyName") in names))


def _describe_targets(call):
    return json_response({"ScalableTargets": [target for target in _targets.values() if _matches(target, call)]})


def _deregister(call):
    if _targets.pop(_key(call), None) is None:
        return error_response_json("ObjectNotFoundException", f"No scalable target found for {_key(call)}", 400)
    for key in [key for key in _policies if key[:3] == _key(call)]:
        _policies.pop(key)
    return json_response({})


def _put_policy(call):
    if _key(call) not in _targets:
        return error_response_json("ObjectNotFoundException", f"No scalable target registered for {_key(call)}", 400)
    key = (*_key(call), call["PolicyName"])
    namespace, resource, _ = _key(call)
    known = _policies.get(key)
    arn = (f"arn:aws:autoscaling:{get_region()}:{get_account_id()}:scalingPolicy:{uuid.uuid4()}:resource/"
           f"{namespace}/{resource}:policyName/{call['PolicyName']}")
    policy = {"PolicyARN": arn, "CreationTime": time.time(), "PolicyType": "StepScaling", "Alarms": []} | (known or {})
    _policies[key] = policy | call
    return json_response({"PolicyARN": policy["PolicyARN"], "Alarms": policy["Alarms"]})


def _describe_policies(call):
    return json_response({"ScalingPolicies": [policy for policy in _policies.values() if _matches(policy, call)]})


def _delete_policy(call):
    if _policies.pop((*_key(call), call["PolicyName"]), None) is None:
        return error_response_json("ObjectNotFoundException", f"No scaling policy found for {call['PolicyName']}", 400)
    return json_response({})


_ACTIONS = {
    "RegisterScalableTarget": _register,
    "DescribeScalableTargets": _describe_targets,
    "DeregisterScalableTarget": _deregister,
    "PutScalingPolicy": _put_policy,
    "DescribeScalingPolicies": _describe_policies,
    "DeleteScalingPolicy": _delete_policy,
    "TagResource": lambda _call: json_response({}),
}
