"""Elastic Load Balancing: targets are checked as their target group says, and only healthy ones get requests.

AWS checks every 5 to 300 seconds and wants several answers in a row; here one good answer makes a target healthy and
two bad ones unhealthy, a quarter of a second apart, so that tests see in a second what takes AWS minutes.
"""

import http.client
import random
import threading
import time

from ministack.services import alb

from local_cloud import forwarding, instances
from local_cloud.patch import replace

CHECK_SECONDS = 0.25
_health = {}  # (target group, target id, port) → Health


class Health:
    """What the checks of one target said."""

    def __init__(self):
        self.state = "initial"
        self.reason = "Elb.InitialHealthChecking"
        self.description = "Initial health checks in progress"
        self.failures = 0
        self.unhealthy_since = None

    def passed(self):
        self.__init__()
        self.state, self.reason, self.description = "healthy", None, None

    def failed(self, reason, description):
        self.failures += 1
        if self.failures < 2:
            return
        self.state, self.reason, self.description = "unhealthy", reason, description
        self.unhealthy_since = self.unhealthy_since or time.monotonic()


def install():
    replace(alb, "_describe_target_health", lambda _: _describe_target_health)
    replace(alb, "_forward_to_tg", _forward_to_healthy)
    threading.Thread(target=_check_forever, daemon=True, name="local-cloud-health").start()


def of(group, target, port):
    """The health of one target of a group."""
    return _health.get((group, str(target), int(port))) or Health()


def _checked(group):
    return group.get("TargetType") in ("ip", "instance") and group.get("HealthCheckEnabled", True)


def _port(target, group):
    return int(target.get("Port") or group.get("Port") or 80)


def _check_forever():
    while True:
        time.sleep(CHECK_SECONDS)
        wanted = {}
        for (account, arn), targets in list(alb._targets._data.items()):
            group = alb._tgs.get_scoped(account, arn.split(":")[3], arn)
            for target in list(targets) if group and _checked(group) else ():
                wanted[(arn, str(target["Id"]), _port(target, group))] = group
        for key in set(_health) - set(wanted):
            _health.pop(key, None)
        checks = []
        for key, group in wanted.items():
            check = threading.Thread(target=_check, args=(key, dict(group)), daemon=True)
            check.start()
            checks.append(check)
        for check in checks:
            check.join(5)


def _check(key, group):
    _, target, port = key
    health = _health.setdefault(key, Health())
    configured = group.get("HealthCheckPort") or "traffic-port"
    host, port = instances.reached_at(target, port if configured == "traffic-port" else configured)
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", group.get("HealthCheckPath") or "/", headers={"User-Agent": "ELB-HealthChecker/2.0"})
        status = connection.getresponse().status
    except TimeoutError:
        health.failed("Target.Timeout", "Request timed out")
    except (OSError, http.client.HTTPException):
        health.failed("Target.FailedHealthChecks", "Health checks failed")
    else:
        if _matches(status, (group.get("Matcher") or {}).get("HttpCode") or "200"):
            health.passed()
        else:
            health.failed("Target.ResponseCodeMismatch", f"Health checks failed with these codes: [{status}]")
    finally:
        connection.close()


def _matches(status, codes):
    for part in codes.split(","):
        low, _, high = part.strip().partition("-")
        if int(low) <= status <= int(high or low):
            return True
    return False


def _describe_target_health(params):
    arn = alb._p(params, "TargetGroupArn")
    group = alb._tgs.get(arn)
    if group is None:
        return alb._error("TargetGroupNotFound", f"Target group '{arn}' not found.")
    asked = {t["Id"] for t in alb._parse_targets_param(params)}
    members = ""
    for target in alb._targets.get(arn, []):
        if asked and target["Id"] not in asked:
            continue
        port = _port(target, group)
        if not group.get("LoadBalancerArns") and not in_use(arn):
            state, reason, description = "unused", "Target.NotInUse", "Target group is not configured to receive traffic"
        elif _checked(group):
            health = of(arn, target["Id"], port)
            state, reason, description = health.state, health.reason, health.description
        else:
            state, reason, description = "unavailable", "Target.HealthCheckDisabled", "Health checks are not enabled"
        detail = f"<State>{state}</State>"
        if reason:
            detail += f"<Reason>{reason}</Reason><Description>{description}</Description>"
        members += (f"<member><Target><Id>{target['Id']}</Id><Port>{port}</Port></Target>"
                    f"<HealthCheckPort>{port}</HealthCheckPort><TargetHealth>{detail}</TargetHealth></member>")
    return alb._xml(200, "DescribeTargetHealth", f"<TargetHealthDescriptions>{members}</TargetHealthDescriptions>")


def in_use(arn):
    """Whether a listener or one of its rules forwards to the group, whatever its weight."""
    holders = list(alb._listeners.values()) + list(alb._rules.values())
    actions = [action for holder in holders for action in holder.get("DefaultActions") or holder.get("Actions") or []]
    return any(arn in forwarding.groups(action) for action in actions)


def _forward_to_healthy(forward):
    async def forward_to_group(arn, method, path, headers, body, query, raw_query=None, raw_path=None):
        group, registered = alb._tgs.get(arn), alb._targets.get(arn) or []
        if not group or not _checked(group) or not registered:
            return await forward(arn, method, path, headers, body, query, raw_query, raw_path)
        healthy = [t for t in registered if of(arn, t["Id"], _port(t, group)).state == "healthy"]
        # With no healthy target a load balancer "fails open": every target gets requests.
        target = random.choice(healthy or registered)
        host, port = instances.reached_at(target["Id"], _port(target, group))
        target = {"Id": host, "Port": port}
        return await alb._proxy_http_target(target, group, method, raw_path or path, headers, body, query, raw_query)

    return forward_to_group
