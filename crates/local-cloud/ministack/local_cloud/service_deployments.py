"""ECS: deployments that move requests from one target group to another, at once (BLUE_GREEN), first a share of them (CANARY) or in
steps (LINEAR). MiniStack replaces tasks bit by bit, whatever the strategy says, and knows no service deployments.

All tasks of the new revision start beside the old ones, in the target group that serves nobody; the rule for tests leads to them
first, then the rule for production; both revisions run while the deployment bakes, then the old tasks stop. Which of the two
groups serves changes with each deployment. It goes back where it fails, is stopped, or a pause hook says so: requests first.

A minute is a second here. Pause hooks are known, hooks that call a function are not. A rolling deployment has no service deployment,
and nothing is told to EventBridge. Where there is nothing to go back to, a deployment ends ROLLBACK_FAILED.
<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/blue-green-deployment-how-it-works.html>
<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/pause-lifecycle-hooks.html>
<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stop-service-deployment.html>
"""

import json
import secrets
import threading
import time

from ministack.core.concurrency import resource_lock, spawn_background
from ministack.core.responses import (
    AccountRegionScopedDict, error_response_json, get_account_id, get_region, json_response, new_uuid)
from ministack.services import alb, ecs

from local_cloud import deployment_alarms, forwarding, load_balancing, roles
from local_cloud import ecs as ours
from local_cloud.patch import replace

# How long a minute of baking or of waiting for a hook is.
MINUTE_SECONDS = 1.0
# How long a stage lasts at least.
STAGE_SECONDS = 0.3
# How often a deployment is looked at.
LOOK_SECONDS = 0.1

STRATEGIES = ("ROLLING", "BLUE_GREEN", "CANARY", "LINEAR")
# What a revision has beside its task definition: a way back restores it.
SETTINGS = ("launchType", "capacityProviderStrategy", "networkConfiguration", "platformVersion", "enableExecuteCommand")

_deployments = AccountRegionScopedDict()  # ARN → ServiceDeployment


def install():
    replace(ecs, "_create_service", _begin)
    replace(ecs, "_update_service", _begin)
    replace(ecs, "_reconcile_service_tasks", _keep_both)
    replace(ecs, "_complete_service_deployment", _complete_by_stages)
    replace(ecs, "_record_service_task_failure", _count_failure)
    replace(ecs, "_record_service_task_healthy", _healthy_when_targets_are)
    replace(ecs, "_describe_service_deployments", lambda _: _describe)
    replace(ecs, "_list_service_deployments", lambda _: _list)
    ecs._ACTION_MAP["StopServiceDeployment"] = _stop
    ecs._ACTION_MAP["ContinueServiceDeployment"] = _continue


class Failed(Exception):
    """A deployment cannot go on."""

    def __init__(self, what, reason, rollback):
        super().__init__(reason)
        self.what, self.reason, self.rollback = what, reason, rollback


class Superseded(Exception):
    """Another deployment came, or the service is gone."""


class ServiceDeployment:
    """One deployment of one service, from its first stage to its end."""

    def __init__(self, cluster, key, service, target, settings, previous):
        self.cluster, self.key, self.service, self.target, self.previous = cluster, key, service, target, previous
        self.settings = settings  # of what was there before
        self.source = None  # what served before
        self.kept = []  # whose tasks are kept as many as the service wants
        self.share, self.tested = 0, 0  # the new revision's percentages of production and test requests
        self.hooks = []
        self.asked = None  # why somebody wants it to go back
        self.triggered = []
        self.ended = threading.Event()
        self.configuration = json.loads(json.dumps(service["deploymentConfiguration"]))
        states = deployment_alarms.states(service)
        self.watched = bool(states) and "ALARM" not in states.values()
        target["_settings"] = _settings(service)
        scope = f"arn:aws:ecs:{get_region()}:{get_account_id()}"
        self.record = {
            "serviceDeploymentArn": f"{scope}:service-deployment/{key}/{secrets.token_hex(11)[:21]}",
            "serviceArn": service["serviceArn"], "clusterArn": service["clusterArn"],
            "createdAt": time.time(), "updatedAt": time.time(), "status": "PENDING",
        }

    @property
    def arn(self):
        return self.record["serviceDeploymentArn"]

    def run(self):
        try:
            self._prepare()
            self._deploy()
        except Superseded as reason:
            self._end("STOPPED", str(reason))
        except Failed as failure:
            try:
                self._fail(failure)
            except Superseded as reason:
                self._end("STOPPED", str(reason))
            except Failed as second:
                self._end("ROLLBACK_FAILED", second.reason)
        finally:
            self.ended.set()

    def _tell(self, **changes):
        self.record.update(changes, updatedAt=time.time())

    def _prepare(self):
        """Begins once the deployment before has ended, with one revision that serves and no tasks of any other."""
        while self.previous and not self.previous.ended.wait(LOOK_SECONDS):
            pass
        others = [deployment for deployment in self.service["deployments"] if deployment is not self.target]
        serving = self.service.get("_serving")
        self.source = next((d for d in others if d["id"] == serving), None) or next(
            (d for d in others if d["rolloutState"] == "COMPLETED"), None)
        if self.source:
            self.source.setdefault("_settings", self.settings)
            self.service["_serving"] = self.source["id"]
            self.kept = [self.source]
        self.target["_alternate"] = bool(self.source) and not self.source.get("_alternate")
        self._tell(status="IN_PROGRESS", startedAt=time.time())
        extra = [deployment for deployment in others if deployment is not self.source]
        if extra:
            self._stage("RECONCILE_SERVICE")
            if self.source:
                self._move(0, 0)
            for deployment in extra:
                self._stop_tasks(deployment)
            with resource_lock("ecs-service", self.key):
                self.service["deployments"] = [d for d in self.service["deployments"] if d not in extra]

    def _deploy(self):
        self._stage("PRE_SCALE_UP")
        self._check_role()
        self._stage("SCALE_UP")
        self.kept = [*self.kept, self.target]
        ecs._reconcile_service_tasks(self.cluster, self.key)
        while not self._scaled_up():
            self._wait(LOOK_SECONDS)
        self._stage("POST_SCALE_UP")
        self._stage("TEST_TRAFFIC_SHIFT")
        self._move(self.share, 100)
        self._stage("POST_TEST_TRAFFIC_SHIFT")
        for share, minutes in self._steps():
            if "PRE_PRODUCTION_TRAFFIC_SHIFT" in self._hooked():
                self._stage("PRE_PRODUCTION_TRAFFIC_SHIFT")
            self._stage("PRODUCTION_TRAFFIC_SHIFT")
            self._move(share, 100)
            self._wait(minutes * MINUTE_SECONDS)
        self._stage("POST_PRODUCTION_TRAFFIC_SHIFT")
        self._stage("BAKE_TIME")
        self._wait(self.configuration.get("bakeTimeInMinutes", 0) * MINUTE_SECONDS)
        self._clean_up()

    def _steps(self):
        """Each share of production requests, with the minutes it lasts."""
        match self.configuration["strategy"]:
            case "CANARY":
                canary = self.configuration.get("canaryConfiguration") or {}
                yield canary.get("canaryPercent", 5.0), canary.get("canaryBakeTimeInMinutes", 10)
            case "LINEAR":
                linear = self.configuration.get("linearConfiguration") or {}
                share = step = linear.get("stepPercent", 10.0)
                while share < 100:
                    yield share, linear.get("stepBakeTimeInMinutes", 6)
                    share = round(share + step, 1)
        yield 100, 0

    def _hooked(self):
        return [stage for hook in self.configuration.get("lifecycleHooks") or [] for stage in hook["lifecycleStages"]]

    def _stage(self, name):
        """Enters a stage and waits for the hooks that it has."""
        self._look()
        hooks = []
        for hook in self.configuration.get("lifecycleHooks") or []:
            if name in hook["lifecycleStages"]:
                timeout = hook.get("timeoutConfiguration") or {}
                hooks.append({
                    "hookId": f"ecs-pause-{secrets.token_urlsafe(32)}", "targetType": "PAUSE", "status": "AWAITING_ACTION",
                    "expiresAt": time.time() + timeout.get("timeoutInMinutes", 1440) * MINUTE_SECONDS,
                    "timeoutAction": timeout.get("action", "ROLLBACK"),
                })
        self.hooks += hooks
        self._tell(lifecycleStage=name)
        self._wait(STAGE_SECONDS)
        while waiting := [hook for hook in hooks if hook["status"] == "AWAITING_ACTION"]:
            for hook in waiting:
                if time.time() >= hook["expiresAt"]:
                    hook["status"] = "TIMED_OUT"
                    if hook["timeoutAction"] == "ROLLBACK":
                        raise Failed("lifecycle hook", f"The pause hook {hook['hookId']} at {name} timed out.", True)
            self._wait(LOOK_SECONDS)

    def _wait(self, seconds):
        until = time.monotonic() + seconds
        while True:
            self._look()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, LOOK_SECONDS))

    def _look(self):
        """Ends the deployment where something is in its way, and replaces tasks whose targets stay unhealthy."""
        service = self.service
        if ecs._services.get(self.key) is not service or service["status"] != "ACTIVE":
            raise Superseded("The service was deleted.")
        if ecs._primary_deployment(service) is not self.target:
            raise Superseded("A newer service deployment was started.")
        if self.asked:
            raise Failed(*self.asked, True)
        if self.target["rolloutState"] == "FAILED":
            breaker = self.configuration.get("deploymentCircuitBreaker") or {}
            raise Failed("circuit breaker", self.target["rolloutStateReason"], breaker.get("rollback", False))
        if self.watched:
            self.triggered = [name for name, state in deployment_alarms.states(service).items() if state == "ALARM"]
            if self.triggered:
                rollback = self.configuration["alarms"].get("rollback", False)
                raise Failed("alarms", f"ECS deployment failed: alarm detected: {', '.join(self.triggered)}.", rollback)
        for deployment in self.kept:
            ours.replace_unhealthy(service, deployment)

    def _balancers(self):
        for balancer in self.service.get("loadBalancers") or []:
            yield balancer["targetGroupArn"], balancer["advancedConfiguration"]

    def _check_role(self):
        """ECS changes rules and registers targets with the role that the service names for it."""
        for group, advanced in self._balancers():
            role = advanced["roleArn"]
            rules = [advanced[name] for name in ("productionListenerRule", "testListenerRule") if advanced.get(name)]
            needed = [("ModifyRule", rule) for rule in rules]
            needed += [(action, arn) for arn in (group, advanced["alternateTargetGroupArn"])
                       for action in ("RegisterTargets", "DeregisterTargets")]
            for action, resource in needed:
                right = f"elasticloadbalancing:{action}"
                if roles.decide(role, right, resource, alb._tags.get(resource, ())) != "allowed":
                    reason = f"User: {role} is not authorized to perform: {right} on resource: {resource}"
                    raise Failed("infrastructure role", reason, True)

    def _scaled_up(self):
        stable = [task for task in ours.tasks_of(self.service, self.target) if task.get("_startup_stable")]
        return len(stable) >= self.service["desiredCount"] and ours.targets_healthy(
            self.cluster, self.service, self.target)

    def _move(self, share, tested):
        """Leads these percentages of the requests to the new revision, the others to the old one."""
        for group, advanced in self._balancers():
            both = (group, advanced["alternateTargetGroupArn"])
            for name, percent in (("testListenerRule", tested), ("productionListenerRule", share)):
                if (name == "productionListenerRule" and share == self.share == 0 and not self.source) or not advanced.get(name):
                    continue
                rule = alb._rules.get(advanced[name])
                if not rule:
                    raise Failed("load balancer", f"The listener rule {advanced[name]} was not found.", True)
                rule["Actions"] = forwarding.forward(rule["Actions"], _weights(both, self.target["_alternate"], percent))
                if rule.get("IsDefault"):
                    alb._listeners[rule["ListenerArn"]]["DefaultActions"] = rule["Actions"]
        self.share, self.tested = share, tested
        serving = self.target if share > 50 else self.source
        if serving:
            self.service["_serving"] = serving["id"]
        self._tell()

    def _stop_tasks(self, deployment):
        for task in ours.alive(self.service, deployment):
            ecs._stop_task({"cluster": self.cluster, "task": task["taskArn"], "reason": "Deployment completed"})

    def _clean_up(self):
        self._tell(lifecycleStage="CLEAN_UP")
        self.kept = [self.target]
        if self.source:
            self._stop_tasks(self.source)
        with resource_lock("ecs-service", self.key):
            deployments = self.service["deployments"]
            self.service["deployments"] = deployments[:deployments.index(self.target) + 1]
            _complete(self.target, "ECS deployment completed.")
        self._end("SUCCESSFUL", None)

    def _fail(self, failure):
        with resource_lock("ecs-service", self.key):
            self.target.update(rolloutState="FAILED", rolloutStateReason=failure.reason, desiredCount=0, updatedAt=ecs._iso())
            self.service["events"].insert(0, {
                "id": new_uuid(), "createdAt": ecs._iso(),
                "message": f"(service {self.service['serviceName']}) (deployment {self.target['id']}) deployment failed: "
                           f"{failure.reason}"})
        self.kept = self.kept[:1] if self.source else []
        if not failure.rollback:
            self._end("STOPPED", failure.reason)
            return
        rollback = {"reason": failure.reason, "startedAt": time.time()}
        if self.source:
            rollback["serviceRevisionArn"] = self._revision(self.source)
        self._tell(status="ROLLBACK_REQUESTED", statusReason=failure.reason, rollback=rollback)
        if not self.source:
            self._end("ROLLBACK_FAILED", "No rollback candidate was found to run the rollback.")
            return
        self._move(0, 0)
        back = self._go_back(failure.what)
        self._tell(status="ROLLBACK_IN_PROGRESS")
        time.sleep(STAGE_SECONDS)
        self._stop_tasks(self.target)
        with resource_lock("ecs-service", self.key):
            _complete(back, back["rolloutStateReason"])
        self._end("ROLLBACK_SUCCESSFUL", failure.reason)

    def _go_back(self, what):
        """The old revision's tasks, as they are, become those of a new deployment."""
        service, source = self.service, self.source
        with resource_lock("ecs-service", self.key):
            if ecs._primary_deployment(service) is not self.target:
                raise Superseded("A newer service deployment was started.")
            new = ecs._make_deployment(source["taskDefinition"], service["desiredCount"])
            fresh = ("id", "status", "rolloutState", "failedTasks", "desiredCount", "createdAt", "updatedAt")
            back = {**source, **{name: new[name] for name in fresh}}
            back["rolloutStateReason"] = f"ECS deployment {what}: rolling back to deploymentId {back['id']}."
            self.target["status"] = "ACTIVE"
            service["deployments"] = [back, self.target, source]
            for task in ours.alive(service, source):
                task["_deployment_id"] = back["id"]
            service["deployments"] = [back, self.target]
            service.update(source["_settings"], taskDefinition=source["taskDefinition"], _serving=back["id"])
            self.source, self.kept = back, [back]
        return back

    def _end(self, status, reason):
        for hook in self.hooks:
            if hook["status"] == "AWAITING_ACTION":
                hook["status"] = "FAILED"
        now = time.time()
        self._tell(status=status, finishedAt=now)
        if reason:
            self._tell(statusReason=reason)
        if status == "STOPPED":
            self._tell(stoppedAt=now)
        if self.service.get("currentServiceDeployment") == self.arn:
            self.service.pop("currentServiceDeployment")
        ecs._refresh_service_state(self.cluster, f"service:{self.service['serviceName']}")

    def _revision(self, deployment):
        if "_revision" not in deployment:
            deployment["_revision"] = (f"arn:aws:ecs:{get_region()}:{get_account_id()}:service-revision/{self.key}/"
                                       f"{secrets.randbelow(10**19):019}")
        return deployment["_revision"]

    def _summary(self, deployment, share, tested):
        tasks = ours.alive(self.service, deployment)
        running = sum(task["lastStatus"] == "RUNNING" for task in tasks)
        return {
            "arn": self._revision(deployment),
            "requestedTaskCount": self.service["desiredCount"] if deployment in self.kept else 0,
            "runningTaskCount": running, "pendingTaskCount": len(tasks) - running,
            "requestedTestTrafficWeight": float(tested), "requestedProductionTrafficWeight": float(share),
        }

    def _monitor(self, enabled, triggered):
        if not enabled:
            return "DISABLED"
        return "TRIGGERED" if triggered else "MONITORING_COMPLETE" if "finishedAt" in self.record else "MONITORING"

    def described(self):
        """As DescribeServiceDeployments shows it."""
        breaker = self.configuration.get("deploymentCircuitBreaker") or {}
        alarms = self.configuration.get("alarms") or {}
        failures = int(self.target.get("failedTasks", 0))
        threshold = ecs._circuit_breaker_threshold(self.service)
        return {
            **self.record,
            "sourceServiceRevisions":
                [self._summary(self.source, 100 - self.share, 100 - self.tested)] if self.source else [],
            "targetServiceRevision": self._summary(self.target, self.share, self.tested),
            "lifecycleHookDetails": [dict(hook) for hook in self.hooks],
            "deploymentConfiguration": self.configuration,
            "deploymentCircuitBreaker": {
                "status": self._monitor(breaker.get("enable"), failures >= threshold),
                "failureCount": failures, "threshold": threshold},
            "alarms": {"status": self._monitor(self.watched, self.triggered), "alarmNames": alarms.get("alarmNames") or [],
                       "triggeredAlarmNames": self.triggered},
        }

    def brief(self):
        """As ListServiceDeployments shows it."""
        names = ("serviceDeploymentArn", "serviceArn", "clusterArn", "startedAt", "createdAt", "finishedAt", "status", "statusReason")
        known = {name: self.record[name] for name in names if name in self.record}
        return {**known, "targetServiceRevisionArn": self._revision(self.target)}


def _settings(service):
    return {name: service.get(name) for name in SETTINGS}


def _complete(deployment, reason):
    deployment.update(rolloutState="COMPLETED", rolloutStateReason=reason, updatedAt=ecs._iso())


def _weights(groups, alternate, percent):
    """Weights are whole numbers up to 999; a share with a decimal is told in thousandths."""
    whole = percent == int(percent)
    new = int(percent) if whole else max(1, round(percent * 9.99))
    old = (100 if whole else 999) - new
    return dict(zip(groups, (old, new) if alternate else (new, old)))


def _current(service):
    """A service's deployment that has not ended."""
    return _deployments.get((service or {}).get("currentServiceDeployment") or "")


def _begin(change):
    def change_service(data):
        cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
        name = (data.get("serviceName") or data.get("service", "")).rpartition("/")[2]
        key = f"{cluster}/{name}"
        known = {} if "serviceName" in data else ecs._services.get(key) or {}
        if {"deploymentConfiguration", "loadBalancers"} & data.keys() and (problem := _problem(data, known)):
            return error_response_json("InvalidParameterException", problem, 400)
        if known and not ours.rolling(known) and data.get("deploymentConfiguration"):
            strategy = known["deploymentConfiguration"]["strategy"]
            data = {**data, "deploymentConfiguration": {"strategy": strategy, **data["deploymentConfiguration"]}}
        before, settings, previous = ecs._primary_deployment(known) or {}, _settings(known), _current(known)
        answer = change(data)
        service = ecs._services.get(key)
        primary = ecs._primary_deployment(service) if service else None
        if answer[0] != 200 or not primary or primary["id"] == before.get("id"):
            return answer
        if ours.rolling(service):
            primary["_alternate"] = before.get("_alternate", False)
            return answer
        deployment = ServiceDeployment(cluster, key, service, primary, settings, previous)
        _deployments[deployment.arn] = deployment
        service["currentServiceDeployment"] = deployment.arn
        spawn_background(deployment.run, thread_name=f"local-cloud-shift-{name[:16]}")
        return json_response({"service": ecs._sanitize(service)})

    return change_service


def _problem(data, known):
    """What is wrong with how a service is to be deployed, if anything is."""
    current = (known.get("deploymentConfiguration") or {}).get("strategy", "ROLLING")
    configuration = data.get("deploymentConfiguration") or known.get("deploymentConfiguration") or {}
    strategy = configuration.get("strategy", current)
    if strategy not in STRATEGIES:
        return f"The deployment strategy {strategy} is not one of {', '.join(STRATEGIES)}."
    primary = ecs._primary_deployment(known) or {}
    if known and strategy != current and (
            primary.get("rolloutState") == "IN_PROGRESS" or primary.get("id") in deployment_alarms.watched):
        return "The deployment strategy cannot be changed while a service deployment is in progress."
    if strategy == "ROLLING":
        return None
    for hook in configuration.get("lifecycleHooks") or []:
        if hook.get("targetType") != "PAUSE" or not hook.get("lifecycleStages"):
            return "Only hooks with the target type PAUSE and with stages are known here."
    for balancer in data.get("loadBalancers", known.get("loadBalancers")) or []:
        advanced = balancer.get("advancedConfiguration") or {}
        for name in ("alternateTargetGroupArn", "productionListenerRule", "roleArn"):
            if not advanced.get(name):
                return f"With the deployment strategy {strategy} a load balancer needs advancedConfiguration.{name}."
        for group in (balancer.get("targetGroupArn"), advanced["alternateTargetGroupArn"]):
            if group not in alb._tgs or not load_balancing.in_use(group):
                return f"The target group with targetGroupArn {group} does not have an associated load balancer."
        for rule in (advanced["productionListenerRule"], advanced.get("testListenerRule")):
            if rule and not any(action["Type"] == "forward" for action in alb._rules.get(rule, {}).get("Actions", [])):
                return f"The listener rule {rule} does not exist or forwards to no target group."
    return None


def _keep_both(reconcile):
    """While requests move, as many tasks of each revision run as the service wants; after a failure, of the one that serves."""

    def reconcile_tasks(cluster, key):
        service = ecs._services.get(key)
        primary = ecs._primary_deployment(service) if service and service["status"] == "ACTIVE" else None
        if not primary or ours.rolling(service) or service["desiredCount"] == 0 or primary["rolloutState"] == "COMPLETED":
            return reconcile(cluster, key)
        current = _current(service)
        serving = [d for d in service["deployments"] if d["id"] == service.get("_serving") and d is not primary]
        kept = current.kept if current else serving
        for deployment in list(kept):
            _keep(cluster, key, service, deployment)
        ecs._refresh_service_state(cluster, f"service:{service['serviceName']}")
        return ecs._recount_cluster(cluster)

    return reconcile_tasks


def _keep(cluster, key, service, deployment):
    with resource_lock("local-cloud-tasks", key):
        tasks = ours.alive(service, deployment)
        missing = service["desiredCount"] - len(tasks)
        definition = ecs._task_defs.get(ecs._resolve_td_key(deployment["taskDefinition"]))
        if missing > 0 and definition and ecs._deployment_needs_first_task(deployment, definition, service):
            missing = 0 if tasks else 1
        if missing > 0:
            ecs._run_task({
                **deployment.get("_settings", {}), "cluster": cluster, "taskDefinition": deployment["taskDefinition"],
                "count": missing, "group": f"service:{service['serviceName']}", "_deploymentId": deployment["id"]})
    deployment["desiredCount"] = service["desiredCount"]
    newest = sorted(tasks, key=lambda task: task["createdAt"], reverse=True)
    for task in newest[:max(0, -missing)]:
        ecs._stop_task({"task": task["taskArn"], "cluster": cluster, "reason": "Service scaling down"})


def _complete_by_stages(complete):
    def complete_deployment(cluster, key, expected_deployment_id=None):
        service = ecs._services.get(key)
        primary = ecs._primary_deployment(service) if service else None
        if primary and not ours.rolling(service) and primary["rolloutState"] == "IN_PROGRESS":
            return None
        return complete(cluster, key, expected_deployment_id)

    return complete_deployment


def _count_failure(record):
    """MiniStack's circuit breaker goes back by itself; here it only says that the deployment failed."""

    def record_failure(task, digest_resolution_failed=False):
        key, service = ours.service_of(task)
        current = _current(service)
        if not current or current.target["id"] != task.get("_deployment_id"):
            record(task, digest_resolution_failed)
            if current:
                ecs._reconcile_service_tasks(current.cluster, key)
            return
        breaker = current.configuration.get("deploymentCircuitBreaker") or {}
        if not breaker.get("enable"):
            record(task, digest_resolution_failed)
            return
        with resource_lock("ecs-service", key):
            deployment = current.target
            failures = deployment["failedTasks"] = int(deployment.get("failedTasks", 0)) + (not digest_resolution_failed)
            failed = digest_resolution_failed or failures >= ecs._circuit_breaker_threshold(service)
            if failed and deployment["rolloutState"] == "IN_PROGRESS":
                deployment["rolloutState"] = "FAILED"
                deployment["rolloutStateReason"] = "ECS deployment circuit breaker: tasks failed to start."
        if not failed:
            time.sleep(min(0.2 * failures, 3.0))
            ecs._reconcile_service_tasks(current.cluster, key)

    return record_failure


def _healthy_when_targets_are(record):
    """A task that runs but whose targets are not healthy does not take back the failures before it."""

    def record_healthy(key, task):
        current = _current(ecs._services.get(key))
        failures = current.target.get("failedTasks", 0) if current else 0
        record(key, task)
        if current and not ours.healthy(current.service, task):
            current.target["failedTasks"] = failures

    return record_healthy


def _found(data):
    deployment = _deployments.get(data.get("serviceDeploymentArn", ""))
    if deployment:
        return deployment, None
    return None, error_response_json("ServiceDeploymentNotFoundException", "The service deployment was not found.", 400)


def _describe(data):
    arns = data.get("serviceDeploymentArns") or []
    found = [ecs._sanitize(_deployments[arn].described()) for arn in arns if arn in _deployments]
    failures = [{"arn": arn, "reason": "MISSING"} for arn in arns if arn not in _deployments]
    return json_response({"serviceDeployments": found, "failures": failures})


def _list(data):
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    key = f"{cluster}/{data.get('service', '').rpartition('/')[2]}"
    if key not in ecs._services:
        return error_response_json("ServiceNotFoundException", "Service not found.", 400)
    span, wanted = data.get("createdAt") or {}, data.get("status") or []
    known = [deployment.brief() for deployment in _deployments.values() if deployment.key == key]
    listed = [brief for brief in known if (not wanted or brief["status"] in wanted)
              and span.get("after", 0) <= brief["createdAt"] <= span.get("before", float("inf"))]
    return json_response({"serviceDeployments": sorted(listed, key=lambda brief: brief["createdAt"], reverse=True)})


def _stop(data):
    deployment, problem = _found(data)
    if problem:
        return problem
    if data.get("stopType", "ROLLBACK") != "ROLLBACK":
        return error_response_json("InvalidParameterException", "The stop type is not ROLLBACK.", 400)
    status = deployment.record["status"]
    if status in ("PENDING", "IN_PROGRESS") and deployment.record.get("lifecycleStage") != "CLEAN_UP":
        deployment.asked = ("stopped", "The service deployment was stopped by a user.")
        deployment._tell(status="ROLLBACK_REQUESTED", stoppedAt=time.time())
    elif status not in ("STOP_REQUESTED", "ROLLBACK_REQUESTED", "ROLLBACK_IN_PROGRESS"):
        return error_response_json("ConflictException", f"A service deployment that is {status} cannot be stopped.", 400)
    return json_response({"serviceDeploymentArn": deployment.arn})


def _continue(data):
    deployment, problem = _found(data)
    if problem:
        return problem
    hook = next((hook for hook in deployment.hooks if hook["hookId"] == data.get("hookId")), None)
    if not hook or hook["status"] != "AWAITING_ACTION" or deployment.record["status"] != "IN_PROGRESS":
        return error_response_json("InvalidParameterException", "The lifecycle hook is not awaiting an action.", 400)
    action = data.get("action", "CONTINUE")
    if action not in ("CONTINUE", "ROLLBACK"):
        return error_response_json("InvalidParameterException", f"The action {action} is not known.", 400)
    if action == "ROLLBACK":
        deployment.asked = ("lifecycle hook", f"The pause hook {hook['hookId']} was answered with ROLLBACK.")
        deployment._tell(status="ROLLBACK_REQUESTED")
    hook["status"] = "SUCCEEDED" if action == "CONTINUE" else "FAILED"
    return json_response({"serviceDeploymentArn": deployment.arn})
