"""ECS: the alarms of a service end its deployments. One that goes off before a deployment is complete makes it fail, and ECS goes
back to the revision before, where the service says so. A deployment is complete only when it has baked. An alarm that is on as it
begins is not watched. Those of a service that moves requests between target groups are `service_deployments`' to watch.
<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-alarm-failure.html>
"""

import json
import time

from ministack.core.concurrency import resource_lock, spawn_background
from ministack.core.responses import get_account_id, get_region, new_uuid, request_scope
from ministack.services import cloudwatch, ecs

from local_cloud import ecs as ours
from local_cloud.patch import replace

# How long a deployment bakes once its tasks run alone. AWS computes it from the alarms: minutes.
BAKE_SECONDS = 3.0

watched = set()  # deployments that are not complete yet, whatever MiniStack says


def install():
    replace(ecs, "_create_service", _watch_new)
    replace(ecs, "_update_service", _watch_new)
    replace(ecs, "_describe_services", _not_complete_yet)


def states(service):
    """The states of the alarms of a service, by their names."""
    alarms = (service.get("deploymentConfiguration") or {}).get("alarms") or {}
    names = alarms.get("alarmNames") or [] if alarms.get("enable") else []
    found = {name: cloudwatch._alarms.get(name) or cloudwatch._composite_alarms.get(name) for name in names}
    return {name: alarm["StateValue"] for name, alarm in found.items() if alarm}


def _watch_new(change):
    def watched_change(data):
        cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
        name = (data.get("serviceName") or data.get("service", "")).rpartition("/")[2]
        key = f"{cluster}/{name}"
        before = ecs._primary_deployment(ecs._services.get(key) or {})
        answer = change(data)
        service = ecs._services.get(key)
        primary = ecs._primary_deployment(service) if service else None
        if answer[0] != 200 or not primary or primary["id"] == (before or {}).get("id"):
            return answer
        found = states(service)
        if ours.rolling(service) and found and "ALARM" not in found.values():
            watched.add(primary["id"])
            watch = _watcher(get_account_id(), get_region(), cluster, key, primary, (before or {}).get("taskDefinition"))
            spawn_background(watch, thread_name=f"local-cloud-alarms-{name[:16]}")
        return answer

    return watched_change


def _watcher(account, region, cluster, key, deployment, before):
    def watch():
        baked = None
        with request_scope(account, region):
            while True:
                time.sleep(0.1)
                service = ecs._services.get(key)
                primary = ecs._primary_deployment(service) if service else None
                if not primary or primary["id"] != deployment["id"] or deployment["rolloutState"] == "FAILED":
                    break
                if "ALARM" in states(service).values():
                    _fail(cluster, key, service, deployment, before)
                    break
                if deployment["rolloutState"] == "COMPLETED":
                    baked = baked or time.monotonic() + BAKE_SECONDS
                    if time.monotonic() >= baked:
                        break
        watched.discard(deployment["id"])

    return watch


def _fail(cluster, key, service, deployment, before):
    with resource_lock("ecs-service", key):
        deployment["rolloutState"] = "FAILED"
        deployment["rolloutStateReason"] = "ECS deployment failed: alarm detected."
        deployment["desiredCount"] = 0
        deployment["updatedAt"] = ecs._iso()
        service["events"].insert(0, {
            "id": new_uuid(), "createdAt": ecs._iso(),
            "message": f"(service {service['serviceName']}) (deployment {deployment['id']}) deployment failed: alarm detected."})
    if before and service["deploymentConfiguration"]["alarms"].get("rollback"):
        ecs._update_service({"cluster": cluster, "service": service["serviceName"], "taskDefinition": before})
        primary = ecs._primary_deployment(service)
        primary["rolloutStateReason"] = f"ECS deployment alarms: rolling back to deploymentId {primary['id']}."


def _not_complete_yet(describe):
    def describe_services(data):
        answer = describe(data)
        if answer[0] != 200:
            return answer
        payload = json.loads(answer[2])
        for service in payload["services"]:
            for deployment in service.get("deployments", []):
                if deployment["id"] in watched and deployment.get("rolloutState") == "COMPLETED":
                    deployment["rolloutState"] = "IN_PROGRESS"
                    deployment["rolloutStateReason"] = f"ECS deployment {deployment['id']} in progress."
        return (*answer[:2], json.dumps(payload).encode())

    return describe_services
