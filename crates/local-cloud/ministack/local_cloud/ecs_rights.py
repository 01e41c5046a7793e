"""ECS checks a call on the resource it is about: a service, a task, a task definition; and knows its tags. Who names a role that ECS
moves a service's requests with must be allowed to pass it. MiniStack checks the cluster, without its tags, and no role.

What AWS checks each call on stands in the Service Authorization Reference.
"""

import contextvars
import json

from ministack.core import iam_actions, iam_evaluator
from ministack.services import ecs

from local_cloud.patch import replace

_passed = contextvars.ContextVar("local_cloud_ecs_passed", default=())


def install():
    replace(iam_actions, "extract_resource_arn", _name_resource)
    replace(iam_evaluator, "enforce", _know_tags)


def _name_resource(extract):
    def extract_resource_arn(service, method, path, headers, body, query_params, region, account_id):
        _passed.set(())
        if service == "ecs":
            action, call = headers.get("x-amz-target", "").rpartition(".")[2], json.loads(body or b"{}")
            _passed.set([balancer["advancedConfiguration"]["roleArn"] for balancer in call.get("loadBalancers") or []
                         if (balancer.get("advancedConfiguration") or {}).get("roleArn")])
            if name := _resource(action, call):
                return name if name == "*" or name.startswith("arn:") else f"arn:aws:ecs:{region}:{account_id}:{name}"
        return extract(service, method, path, headers, body, query_params, region, account_id)

    return extract_resource_arn


def _know_tags(enforce):
    def enforce_with_tags(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
        if service == "ecs":
            tags = {f"aws:resourcetag/{tag['key']}".lower(): tag["value"] for tag in ecs._tags.get(resource_arn, [])}
            service_context = {**(service_context or {}), **tags}
        denied = enforce(access_key_id, iam_action, service, region, resource_arn, service_context)
        for role in _passed.get() if service == "ecs" else ():
            passed = {"iam:PassedToService": "ecs.amazonaws.com"}
            denied = denied or enforce(access_key_id, "iam:PassRole", "iam", region, role, passed)
        return denied

    return enforce_with_tags


def _resource(action, call):
    cluster = call.get("cluster", "default").rpartition("/")[2]
    match action:
        case "DescribeTaskDefinition" | "CreateCapacityProvider":
            return "*"
        case "DescribeClusters":
            name = (call.get("clusters") or ["default"])[0]
            return name if name.startswith("arn:") else f"cluster/{name}"
        case "DescribeCapacityProviders" | "DeleteCapacityProvider" | "UpdateCapacityProvider":
            name = call.get("name") or call.get("capacityProvider") or (call.get("capacityProviders") or ["*"])[0]
            return name if name.startswith("arn:") else f"capacity-provider/{name}"
        case "RegisterTaskDefinition":
            return f"task-definition/{call.get('family')}:*"
        case "RunTask":
            name = call.get("taskDefinition", "")
            return name if name.startswith("arn:") else f"task-definition/{name if ':' in name else name + ':*'}"
        case "DeleteTaskDefinitions":
            return (call.get("taskDefinitions") or ["*"])[0]
        case "ListTasks":
            return f"container-instance/{cluster}/*"
        case "ListContainerInstances":
            return f"cluster/{cluster}"
        case "DescribeContainerInstances":
            name = (call.get("containerInstances") or ["*"])[0]
            return name if name.startswith("arn:") else f"container-instance/{cluster}/{name}"
        case "DescribeServiceDeployments":
            return (call.get("serviceDeploymentArns") or ["*"])[0]
        case "StopServiceDeployment" | "ContinueServiceDeployment":
            return call.get("serviceDeploymentArn", "*")
        case "DescribeTasks" | "StopTask":
            task = (call.get("tasks") or [call.get("task", "*")])[0]
            return task if task.startswith("arn:") else f"task/{cluster}/{task}"
        case "CreateService" | "UpdateService" | "DeleteService" | "DescribeServices" | "ListServiceDeployments":
            service = call.get("serviceName") or call.get("service") or (call.get("services") or ["*"])[0]
            return service if service.startswith("arn:") else f"service/{cluster}/{service}"
    return None
