"""ECS: tasks run in Docker or as processes, and deployments, tasks and their failures read as AWS writes them."""

import json
import os
import threading
import time
from urllib.parse import urlsplit

import docker
from ministack.core.concurrency import resource_lock, spawn_background
from ministack.core.responses import error_response_json, get_account_id, get_region, request_scope
from ministack.services import alb, ecs

from local_cloud import docker_engine, instances, load_balancing, processes
from local_cloud.patch import replace

# A task whose target stays unhealthy for so long is replaced. AWS: unhealthy threshold × interval, after the grace.
UNHEALTHY_SECONDS = 3.0

_engine = None
_tokens = {}
_tokens_lock = threading.Lock()

# The deregistration delay, which on AWS is 300 seconds unless the target group says less.
DRAIN_SECONDS = 0.5

# Tasks that the service scheduler stops, not a person: MiniStack's reasons → AWS's.
_SCHEDULER_REASONS = {
    "Service scaling down": "Scaling activity initiated by (deployment {deployment})",
    "Task definition updated": "Scaling activity initiated by (deployment {deployment})",
    "Deployment completed": "Scaling activity initiated by (deployment {deployment})",
    "Deployment capacity limit": "Scaling activity initiated by (deployment {deployment})",
    "Service deleted": "Service deleted",
}


def install():
    global _engine
    docker_host = os.environ.get("LOCAL_CLOUD_DOCKER_HOST")
    if docker_host:
        registry = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc
        ecs._docker = docker_engine.client(docker_host, registry)
    else:
        _engine = processes.Engine(os.environ["LOCAL_CLOUD_CONTAINERS"], os.environ["LOCAL_CLOUD_NETWORK"])
        ecs._docker = _engine
    replace(ecs, "_make_deployment", _begin_in_progress)
    replace(ecs, "_build_task_containers", _name_digests)
    replace(ecs, "_run_task", _run_task)
    replace(ecs, "_mark_task_stopped", _say_why)
    replace(ecs, "_record_service_task_failure", _count_failure)
    replace(ecs, "_complete_service_deployment", _complete_when_healthy)
    replace(ecs, "_cleanup_task_resources", _drain)
    replace(ecs, "_stop_task", _keep_what_serves)
    replace(ecs, "_build_run_kwargs", _name_entry_point)
    replace(ecs, "_build_run_kwargs", _limit_memory)
    replace(ecs, "_run_docker_container", _cache_nothing)
    replace(ecs, "_update_service", _take_registries)
    replace(ecs, "_list_task_definition_families", _list_all_families)


def rolling(service):
    """Whether a service's deployments replace its tasks bit by bit, behind one target group."""
    return (service.get("deploymentConfiguration") or {}).get("strategy", "ROLLING") == "ROLLING"


def containers(_body):
    """The containers that run as processes."""
    known = list(_engine.containers.known.values()) if _engine else []
    return {"containers": [
        {"id": c.id, "image": c.image_name, "address": c.address, "running": c.running()} for c in known]}


def _begin_in_progress(make):
    """A service's first deployment is in progress until its tasks run, as is every later one."""

    def make_deployment(*args, **kwargs):
        deployment = make(*args, **kwargs)
        deployment["rolloutState"] = "IN_PROGRESS"
        deployment["rolloutStateReason"] = f"ECS deployment {deployment['id']} in progress."
        return deployment

    return make_deployment


def _name_digests(build):
    """A container's image digest is known from the start when its image is named by digest."""

    def build_containers(td, overrides):
        built = build(td, overrides)
        for container in built:
            _, _, digest = container["image"].partition("@")
            if digest:
                container["imageDigest"] = digest
        return built

    return build_containers


def _name_entry_point(build):
    """A container's own entry point stands in for its image's."""

    def build_run_kwargs(cdef, *args, **kwargs):
        built = build(cdef, *args, **kwargs)
        if cdef.get("entryPoint"):
            built["entrypoint"] = cdef["entryPoint"]
        return built

    return build_run_kwargs


def _limit_memory(build):
    """A container gets no more memory than its definition allows it, or the task's has altogether."""

    def build_run_kwargs(cdef, td, *args, **kwargs):
        built = build(cdef, td, *args, **kwargs)
        limit = cdef.get("memory") or td.get("memory")
        return {**built, "mem_limit": f"{limit}m", "memswap_limit": f"{limit}m"} if limit else built

    return build_run_kwargs


def _cache_nothing(run):
    """A service's task pulls its image anew, as on Fargate: what is gone from its repository does not start."""

    def run_container(*args, **kwargs):
        return run(*args, **{**kwargs, "allow_cached": False})

    return run_container


def _take_registries(update):
    """A service's registries change with an update that names them."""

    def update_service(data):
        answer = update(data)
        if answer[0] != 200 or "serviceRegistries" not in data:
            return answer
        cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
        name, _ = ecs._resolve_service_ref(data["service"])
        service = ecs._services[f"{cluster}/{name}"]
        service["serviceRegistries"] = data["serviceRegistries"]
        return ecs.json_response({"service": ecs._sanitize(service)})

    return update_service


def _list_all_families(list_families):
    """The status ALL lists families with active revisions and those without."""

    def list_task_definition_families(data):
        return list_families({**data, "status": None} if data.get("status") == "ALL" else data)

    return list_task_definition_families


def _run_task(run):
    """A client token makes RunTask repeatable; a service's task says which deployment started it and has the service's tags where
    they are to be propagated, and each says where it is."""
    run = _run_placed(run)

    def run_task(data):
        deployment = data.get("_deploymentId")
        if deployment:
            return run({**data, "startedBy": deployment, "tags": _propagated(data)})
        token = data.get("clientToken")
        if not token:
            return run(data)
        wanted = json.dumps({k: v for k, v in data.items() if k != "clientToken"}, sort_keys=True)
        key = (get_account_id(), get_region(), data.get("cluster", "default"), token)
        with _tokens_lock:
            if key not in _tokens:
                answer = run(data)
                if answer[0] != 200:
                    return answer
                _tokens[key] = (wanted, [task["taskArn"] for task in json.loads(answer[2])["tasks"]])
                return answer
            known, arns = _tokens[key]
        if known != wanted:
            status, headers, body = error_response_json(
                "ConflictException", f"Client token {token} was used with other parameters.", 400)
            payload = json.loads(body)
            payload["resourceIds"] = arns
            return status, headers, json.dumps(payload).encode()
        answer = {"tasks": [ecs._sanitize(ecs._tasks[arn]) for arn in arns if arn in ecs._tasks], "failures": []}
        return ecs.json_response(answer)

    return run_task


def _propagated(data):
    service = ecs._services.get(f"{ecs._resolve_cluster_name(data['cluster'])}/{data['group'].partition(':')[2]}", {})
    return ecs._tags.get(service["serviceArn"], []) if service.get("propagateTags") == "SERVICE" else []


def _run_placed(run):
    def run_task(data):
        answer = run(data)
        if answer[0] != 200:
            return answer
        payload = json.loads(answer[2])
        tasks = [ecs._tasks[task["taskArn"]] for task in payload["tasks"]]
        for task in tasks:
            instances.place(task)
        return ecs.json_response({**payload, "tasks": [ecs._sanitize(task) for task in tasks]})

    return run_task


def _say_why(mark):
    def mark_stopped(task_arn, task, reason, stop_code, exit_code=None):
        if reason == "Essential container exited":
            reason = "Essential container in task exited"
            _name_the_killed(task)
        elif reason in _SCHEDULER_REASONS and task.get("group", "").startswith("service:"):
            reason = _SCHEDULER_REASONS[reason].format(deployment=task.get("_deployment_id"))
            stop_code = "ServiceSchedulerInitiated"
        if stop_code == "TaskFailedToStart":
            # A container that never ran has a reason and no exit code.
            for container in task.get("containers", []):
                container["reason"] = reason
        return mark(task_arn, task, reason, stop_code, exit_code)

    return mark_stopped


def _name_the_killed(task):
    """A container that was killed for its memory has that as its reason."""
    for container, identity in zip(task.get("containers", []), task.get("_docker_ids") or []):
        try:
            state = ecs._get_docker().containers.get(identity).attrs["State"]
        except docker.errors.NotFound:
            continue
        if state.get("OOMKilled"):
            container["reason"] = "OutOfMemoryError: Container killed due to memory usage"


def _drain(clean_up):
    """A task's targets are deregistered by now; as on AWS, requests under way get their answer before it is stopped."""

    def drain_and_clean_up(task, docker_client, extra_container=None):
        if task.get("group", "").startswith("service:") and task.get("_docker_ids"):
            time.sleep(DRAIN_SECONDS)
        return clean_up(task, docker_client, extra_container)

    return drain_and_clean_up


def _keep_what_serves(stop):
    """A deployment that failed stops no old task; one that needs room stops old tasks that are not healthy before any that is."""

    def stop_task(data):
        reason = data.get("reason")
        if reason not in ("Deployment capacity limit", "Task definition updated"):
            return stop(data)
        chosen = ecs._tasks[data["task"]]
        _, service = service_of(chosen)
        primary = ecs._primary_deployment(service) if service else None
        if not primary:
            return stop(data)
        if reason == "Task definition updated":
            failed = primary.get("rolloutState") == "FAILED"
            return ecs.json_response({"task": ecs._sanitize(chosen)}) if failed else stop(data)
        for task in list(ecs._tasks.values()):
            old = task.get("group") == chosen.get("group") and task.get("clusterArn") == chosen.get("clusterArn") \
                and task.get("_deployment_id") != primary["id"] and task.get("lastStatus") == "RUNNING"
            if old and any(health.state != "healthy" for _, health in _health(service, task)):
                return stop({**data, "task": task["taskArn"]})
        return stop(data)

    return stop_task


def service_of(task):
    """The service that a task is of, with its key; none for a task that runs once."""
    cluster = ecs._cluster_name_from_arn(task.get("clusterArn", ""))
    group = task.get("group", "")
    if not cluster or not group.startswith("service:"):
        return None, None
    key = f"{cluster}/{group.split(':', 1)[1]}"
    return key, ecs._services.get(key)


def _count_failure(record):
    """`failedTasks` counts with or without a circuit breaker; a crash loop is restarted ever more slowly."""

    def record_failure(task, digest_resolution_failed=False):
        key, service = service_of(task)
        failures = 0
        if service:
            breaker = (service.get("deploymentConfiguration") or {}).get("deploymentCircuitBreaker") or {}
            with resource_lock("ecs-service", key):
                deployment = ecs._deployment_for_task(service, task)
                if deployment and not breaker.get("enable") and not digest_resolution_failed \
                        and deployment.get("rolloutState") == "IN_PROGRESS":
                    deployment["failedTasks"] = int(deployment.get("failedTasks", 0)) + 1
                    deployment["updatedAt"] = ecs._iso()
                failures = int(deployment.get("failedTasks", 0)) if deployment else 0
        if failures:
            time.sleep(min(0.2 * failures, 3.0))
        return record(task, digest_resolution_failed)

    return record_failure


def _complete_when_healthy(complete):
    """A deployment behind a load balancer is complete when its targets are healthy; unhealthy tasks are replaced."""

    def complete_deployment(cluster, key, expected_deployment_id=None):
        service = ecs._services.get(key)
        primary = ecs._primary_deployment(service) if service else None
        if not primary or primary.get("rolloutState") != "IN_PROGRESS" or not service.get("loadBalancers"):
            return complete(cluster, key, expected_deployment_id)
        if targets_healthy(cluster, service, primary):
            return complete(cluster, key, expected_deployment_id)
        _watch(cluster, key, primary["id"])

    return complete_deployment


_watched = set()
_watched_lock = threading.Lock()


def _watch(cluster, key, deployment_id):
    with _watched_lock:
        if deployment_id in _watched:
            return
        _watched.add(deployment_id)
    account, region = get_account_id(), get_region()

    def watch():
        with request_scope(account, region):
            while True:
                time.sleep(0.3)
                service = ecs._services.get(key)
                primary = ecs._primary_deployment(service) if service else None
                if (not primary or primary["id"] != deployment_id or service.get("status") != "ACTIVE"
                        or primary.get("rolloutState") != "IN_PROGRESS"):
                    break
                replace_unhealthy(service, primary)
                ecs._complete_service_deployment(cluster, key, expected_deployment_id=deployment_id)
        with _watched_lock:
            _watched.discard(deployment_id)

    spawn_background(watch, thread_name=f"local-cloud-deployment-{key.rsplit('/', 1)[-1][:16]}")


def alive(service, deployment):
    """The tasks of a deployment that run, or will."""
    return [
        task for task in list(ecs._tasks.values())
        if task.get("group") == f"service:{service['serviceName']}" and task.get("clusterArn") == service["clusterArn"]
        and task.get("_deployment_id") == deployment["id"] and task.get("lastStatus") in ecs._PRE_STOP_STATUSES
    ]


def tasks_of(service, deployment):
    """The running tasks of a deployment."""
    return [task for task in alive(service, deployment) if task["lastStatus"] == "RUNNING"]


def _health(service, task):
    """The health of a task in each target group of its service."""
    for balancer in service.get("loadBalancers") or []:
        group = instances.group_of(service, task, balancer)
        record = alb._tgs.get(group) if group else None
        if record and load_balancing._checked(record):
            yield group, load_balancing.of(group, *instances.target_of(task, balancer))


def healthy(service, task):
    """Whether each target group that a task is in says that it is healthy."""
    return all(health.state == "healthy" for _, health in _health(service, task))


def _is_checked_first(service, task):
    return any(health.state == "initial" for _, health in _health(service, task))


def targets_healthy(cluster, service, deployment):
    """Whether the running tasks of a deployment are healthy targets."""
    ecs._sync_service_targets(cluster, service)
    return all(healthy(service, task) for task in tasks_of(service, deployment))


def replace_unhealthy(service, deployment):
    """Stops the tasks of a deployment that have been unhealthy targets for too long, each once those that took the place of the
    one before answer the checks; each counts as failed. Where `maximumPercent` has room, AWS starts the next task before it stops the
    unhealthy one; here it is always as where it has none.
    <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeploymentConfiguration.html>
    """
    now = time.monotonic()
    tasks = alive(service, deployment)
    if any(task["lastStatus"] != "RUNNING" or _is_checked_first(service, task) for task in tasks):
        return
    for task in tasks:
        for group, health in _health(service, task):
            if health.unhealthy_since and now - health.unhealthy_since > UNHEALTHY_SECONDS:
                reason = f"Task failed ELB health checks in (target-group {group})"
                if ecs._mark_task_stopped(task["taskArn"], task, reason, "ServiceSchedulerInitiated", exit_code=143):
                    ecs._cleanup_task_resources(task, ecs._get_docker())
                    ecs._record_service_task_failure(task)
                return
