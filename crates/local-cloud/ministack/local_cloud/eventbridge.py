"""EventBridge: a rule invokes a Lambda function only if the function's policy lets it, asynchronously with retries,
and what could not be delivered goes to the target's dead-letter queue."""

import contextvars
import json
import logging

from ministack.core.arn import parse_arn
from ministack.core.responses import request_scope
from ministack.services import eventbridge

from local_cloud import functions
from local_cloud.patch import replace

logger = logging.getLogger("local-cloud")

_delivery = contextvars.ContextVar("local_cloud_delivery", default=None)


def install():
    replace(eventbridge, "_invoke_target", _remember_rule)
    replace(eventbridge, "_dispatch_to_lambda", lambda _: _dispatch_to_lambda)


def _remember_rule(invoke):
    def invoke_target(target, event, rule, view=None):
        token = _delivery.set((target, rule))
        try:
            return invoke(target, event, rule, view)
        finally:
            _delivery.reset(token)

    return invoke_target


def _dispatch_to_lambda(arn, payload):
    target, rule = _delivery.get() or ({}, {})
    if refused := functions.invoke_async(arn, json.loads(payload), "events.amazonaws.com", rule.get("Arn", "")):
        return _undeliverable(target, payload, refused)
    logger.info("rule %s invoked %s", rule.get("Name"), arn.rpartition(":function:")[2])


def _undeliverable(target, payload, reason):
    logger.warning("EventBridge delivered nothing: %s", reason)
    queue = (target.get("DeadLetterConfig") or {}).get("Arn")
    if queue:
        eventbridge._dispatch_to_sqs(parse_arn(queue), payload)


def deliver(event):
    """Delivers an event, as a service of AWS sends it, to the rules of its account and region."""
    record = {
        "EventId": event["id"],
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Detail": json.dumps(event["detail"]),
        "EventBusName": "default",
        "Time": event["time"],
        "Resources": event.get("resources", []),
        "Account": event["account"],
        "Region": event["region"],
    }
    with request_scope(event["account"], event["region"]):
        view = eventbridge._pattern_event_view(record)
        matched = [
            rule.get("Name") for key, rule in eventbridge._rules.items()
            if rule.get("EventBusName", "default") == "default" and rule.get("State") == "ENABLED"
            and rule.get("EventPattern")
            and eventbridge._matches_pattern_view(rule["EventPattern"], view, f"rule {key}")
        ]
        eventbridge._dispatch_event(record, view)
    return {"rules": matched}
