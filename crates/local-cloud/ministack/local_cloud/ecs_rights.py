"""ECS checks a call on the resources it is about, a service, a task, a task definition, by their tags; tags that are made with one are
`TagResource`. MiniStack checks the cluster, without its tags.

What AWS checks each call on stands in the Service Authorization Reference. A deployment has no tags, as none can be given to it; both
calls that end one are checked on its service too.
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html
"""

from ministack.core.responses import get_account_id
from ministack.services import ecs

from local_cloud import rights


def install():
    rights.check_each("ecs", _checks)


def _checks(iam_action, call, region):
    action = iam_action.partition(":")[2]

    def arn(name):
        return name if name == "*" or name.startswith("arn:") else f"arn:aws:ecs:{region}:{get_account_id()}:{name}"

    found = [(iam_action, arn(name), _tags(arn(name))) for name in _resources(action, call)]
    if call.get("tags") and (made := _made(action, call)):
        found.append(("ecs:TagResource", arn(made), {"ecs:CreateAction": action}))
    return found


def _tags(arn):
    return {f"aws:ResourceTag/{tag['key']}": tag["value"] for tag in ecs._tags.get(arn, [])}


def _made(action, call):
    """What tags are given to as it is made, by its name or a pattern of it."""
    cluster = call.get("cluster", "default").rpartition("/")[2]
    match action:
        case "CreateService":
            return f"service/{cluster}/{call.get('serviceName')}"
        case "RegisterTaskDefinition":
            return f"task-definition/{call.get('family')}:*"
        case "RunTask":
            return f"task/{cluster}/*"
        case "CreateCapacityProvider":
            return f"capacity-provider/{call.get('name')}"
    return None


def _resources(action, call):
    cluster = call.get("cluster", "default").rpartition("/")[2]
    match action:
        case "DescribeTaskDefinition" | "CreateCapacityProvider":
            return ["*"]
        case "DescribeClusters":
            name = (call.get("clusters") or ["default"])[0]
            return [name if name.startswith("arn:") else f"cluster/{name}"]
        case "DescribeCapacityProviders" | "DeleteCapacityProvider" | "UpdateCapacityProvider":
            name = call.get("name") or call.get("capacityProvider") or (call.get("capacityProviders") or ["*"])[0]
            return [name if name.startswith("arn:") else f"capacity-provider/{name}"]
        case "PutClusterCapacityProviders" | "ListContainerInstances":
            return [f"cluster/{cluster}"]
        case "RegisterTaskDefinition":
            return [f"task-definition/{call.get('family')}:*"]
        case "RunTask":
            name = call.get("taskDefinition", "")
            return [name if name.startswith("arn:") else f"task-definition/{name if ':' in name else name + ':*'}"]
        case "DeleteTaskDefinitions":
            return call.get("taskDefinitions") or ["*"]
        case "ListTasks":
            return [f"container-instance/{cluster}/*"]
        case "DescribeContainerInstances":
            name = (call.get("containerInstances") or ["*"])[0]
            return [name if name.startswith("arn:") else f"container-instance/{cluster}/{name}"]
        case "DescribeServiceDeployments":
            return call.get("serviceDeploymentArns") or ["*"]
        case "StopServiceDeployment" | "ContinueServiceDeployment":
            deployment = call.get("serviceDeploymentArn", "*")
            return [deployment, deployment.replace(":service-deployment/", ":service/").rpartition("/")[0] or "*"]
        case "DescribeTasks" | "StopTask":
            task = (call.get("tasks") or [call.get("task", "*")])[0]
            return [task if task.startswith("arn:") else f"task/{cluster}/{task}"]
        case "CreateService" | "UpdateService" | "DeleteService" | "DescribeServices" | "ListServiceDeployments":
            service = call.get("serviceName") or call.get("service") or (call.get("services") or ["*"])[0]
            return [service if service.startswith("arn:") else f"service/{cluster}/{service}"]
    return []
