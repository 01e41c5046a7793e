"""ECS on EC2: tasks are placed on the instances of their capacity provider's Auto Scaling group, and those that share their
instance's address get ports of it.

MiniStack runs tasks nowhere in particular, and its stacks make groups without instances. There are no instances here either:
one with a port stands for the address and the port where a container really listens. It holds any number of tasks, so a
capacity provider makes its group larger only where there is none.
"""

import hashlib
import itertools
import threading
from collections import Counter

from ministack.core.concurrency import resource_lock
from ministack.core.responses import get_account_id, get_region, json_response
from ministack.services import alb, autoscaling, ecs
from ministack.services.cloudformation import provisioners

from local_cloud.patch import replace

_lock = threading.Lock()
_reached = {}  # (instance, its port) → (address, port)
# The kernel's ephemeral ports, from which Docker takes those that nobody chose.
_free_ports = itertools.cycle(range(32768, 61000))


def install():
    handlers = provisioners._RESOURCE_HANDLERS["AWS::AutoScaling::AutoScalingGroup"]
    handlers["create"] = _with_instances(handlers["create"])
    handlers["update"] = _keeping_instances(handlers["update"])
    replace(ecs, "_build_run_kwargs", _publish_nothing)
    replace(ecs, "_mark_task_pending", _placed)
    replace(ecs, "_attach_started_container", _bound)
    replace(ecs, "_sync_service_targets", lambda _: _sync_service_targets)
    replace(ecs, "_list_container_instances", lambda _: _list_container_instances)
    replace(ecs, "_describe_container_instances", lambda _: _describe_container_instances)


def reached_at(target, port):
    """Where a target of a load balancer really listens."""
    return _reached.get((str(target), int(port)), (str(target), int(port)))


def target_of(task, balancer):
    """A task as the target group of its service knows it: (instance, its port), or its own address and the container's port."""
    wanted = balancer.get("containerPort", 80)
    for container in task.get("containers") or []:
        for binding in container.get("networkBindings") or []:
            if container["name"] == balancer.get("containerName") and binding["containerPort"] == wanted:
                return task["_instance"], binding["hostPort"]
    return ecs._task_ip(task), wanted


def _with_instances(create):
    def create_group(*args):
        made = create(*args)
        autoscaling._reconcile_instances(autoscaling._asgs[made[0]])
        return made

    return create_group


def _keeping_instances(update):
    """A template that names no size leaves the group as large as it is."""

    def update_group(physical_id, old_props, new_props, *rest):
        before = autoscaling._asgs[physical_id]["DesiredCapacity"]
        made = update(physical_id, old_props, new_props, *rest)
        group = autoscaling._asgs[made[0]]
        if "DesiredCapacity" not in new_props:
            group["DesiredCapacity"] = min(max(before, group["MinSize"]), group["MaxSize"])
        autoscaling._reconcile_instances(group)
        return made

    return update_group


def _group(provider):
    """The Auto Scaling group of a capacity provider, which may know it by its name."""
    known = ecs._capacity_providers.get(provider) if provider else None
    named = known["autoScalingGroupProvider"]["autoScalingGroupArn"] if known else None
    return next((group for group in autoscaling._asgs.values()
                 if named in (group["AutoScalingGroupARN"], group["AutoScalingGroupName"])), None)


def _arn(cluster, instance):
    """The ARN of an instance in a cluster."""
    prefix = f"arn:aws:ecs:{get_region()}:{get_account_id()}:container-instance/"
    return f"{prefix}{cluster}/{hashlib.sha256(instance.encode()).hexdigest()[:32]}"


def _tasks_on(arn):
    return [task for task in list(ecs._tasks.values())
            if task.get("containerInstanceArn") == arn and task.get("lastStatus") != "STOPPED"]


def place(task):
    """Names the instance that a task is on: the one with the fewest. A task on Fargate is on none."""
    with _lock:
        if "_instance" in task:
            return
        task["_instance"] = None
        if task.get("launchType") == "FARGATE":
            task["containerInstanceArn"] = None
        group = _group(task.get("capacityProviderName"))
        if not group:
            return
        if not group["Instances"]:
            group["DesiredCapacity"] = max(1, group["DesiredCapacity"])
            autoscaling._reconcile_instances(group)
        cluster = ecs._cluster_name_from_arn(task["clusterArn"])
        instances = [instance["InstanceId"] for instance in group["Instances"]]
        task["_instance"] = min(instances, key=lambda instance: len(_tasks_on(_arn(cluster, instance))))
        task["containerInstanceArn"] = _arn(cluster, task["_instance"])


def _placed(mark):
    def mark_task_pending(task_arn, task):
        place(task)
        return mark(task_arn, task)

    return mark_task_pending


def _publish_nothing(build):
    """In Docker too containers are reached at their own addresses: an instance's ports are not this machine's."""

    def build_run_kwargs(*args, **kwargs):
        return {**build(*args, **kwargs), "ports": None}

    return build_run_kwargs


def _bound(attach):
    """On an instance, a task without an interface of its own has ports of the instance's: those chosen for it, or any."""

    def attach_started_container(task, container, index, metadata_token, network):
        attached = attach(task, container, index, metadata_token, network)
        definition = ecs._task_defs.get(ecs._resolve_td_key(task["taskDefinitionArn"]))
        if not attached or not definition or not task.get("_instance") or task.get("_network_mode") not in (None, "bridge"):
            return attached
        address, bindings = ecs._container_ip(container, network), []
        for mapping in definition["containerDefinitions"][index].get("portMappings") or []:
            port = mapping.get("hostPort") or next(_free_ports)
            _reached[(task["_instance"], port)] = (address, mapping["containerPort"])
            bindings.append({"bindIP": "0.0.0.0", "containerPort": mapping["containerPort"], "hostPort": port,
                             "protocol": mapping.get("protocol", "tcp")})
        task["containers"][index]["networkBindings"] = bindings
        return attached

    return attach_started_container


def group_of(service, task, balancer):
    """The target group that a task is registered in: of the two that its service moves requests between, its deployment's."""
    alternate = (balancer.get("advancedConfiguration") or {}).get("alternateTargetGroupArn")
    if not alternate:
        return balancer.get("targetGroupArn")
    deployment = ecs._deployment_for_task(service, task)
    return deployment and (alternate if deployment.get("_alternate") else balancer.get("targetGroupArn"))


def _sync_service_targets(_cluster, service):
    """Registers a service's running tasks, each as its target group knows it, and withdraws those it registered before."""
    before = service.setdefault("_published_targets", {})
    wanted = {}
    for balancer in service.get("loadBalancers") or []:
        alternate = (balancer.get("advancedConfiguration") or {}).get("alternateTargetGroupArn")
        wanted |= {group: balancer for group in (balancer.get("targetGroupArn"), alternate) if group}
    for group in {**before, **wanted}:
        with resource_lock("elbv2-targets", group):
            balancer = wanted.get(group)
            running = [
                task for task in list(ecs._tasks.values())
                if balancer and task.get("group") == f"service:{service['serviceName']}"
                and task.get("lastStatus") == "RUNNING" and task.get("clusterArn") == service.get("clusterArn")
                and service.get("status") == "ACTIVE" and group_of(service, task, balancer) == group
            ]
            targets = [target for target in (target_of(task, balancer) for task in running) if target[0]]
            alb.set_targets_for_group(group, targets, before.get(group, ()))
            before[group] = [target for target, _ in targets]


def _in(cluster):
    """The instances in a cluster, by their ARNs, each with its capacity provider."""
    known = ecs._clusters.get(cluster) or {}
    groups = ((provider, _group(provider)) for provider in known.get("capacityProviders") or [])
    return {_arn(cluster, instance["InstanceId"]): (instance, provider)
            for provider, group in groups if group for instance in group["Instances"]}


def _list_container_instances(data):
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    return json_response({"containerInstanceArns": list(_in(cluster))})


def _describe_container_instances(data):
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    instances, found, failures = _in(cluster), [], []
    for name in data.get("containerInstances") or []:
        arn = next((arn for arn in instances if name in (arn, arn.rsplit("/", 1)[-1])), None)
        if not arn:
            failures.append({"arn": name, "reason": "MISSING"})
            continue
        instance, provider = instances[arn]
        tasks = Counter(task["lastStatus"] == "RUNNING" for task in _tasks_on(arn))
        found.append({
            "containerInstanceArn": arn, "ec2InstanceId": instance["InstanceId"], "capacityProviderName": provider,
            "status": "ACTIVE", "agentConnected": True, "runningTasksCount": tasks[True],
            "pendingTasksCount": tasks[False],
        })
    return json_response({"containerInstances": found, "failures": failures})
