"""EventBridge: a rule invokes a Lambda function only if the function's policy lets it, asynchronously with retries,
and what could not be delivered goes to the target's dead-letter queue."""

import contextvars
import json
import logging

from ministack.core.arn import parse_arn
from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.services import eventbridge, lambda_svc

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
    func, config, name = lambda_svc._get_func_record_for_ref(arn)
    if not func or not config:
        return _undeliverable(target, payload, f"function {name} does not exist")
    context = EvalContext(
        principal_arn="*", principal_type="Service", principal_account="",
        action="lambda:InvokeFunction", resource_arn=arn, region=get_region(),
        service_context={"aws:sourcearn": rule.get("Arn", ""), "aws:sourceaccount": get_account_id()},
    )
    policy = func.get("policy")
    if evaluate_resource_policy(policy, context, service="events.amazonaws.com").decision != "Allow":
        return _undeliverable(target, payload, f"the policy of {name} does not let rule {rule.get('Name')} invoke it")
    record = lambda_svc._execution_record_for_config(func, config)
    lambda_svc.invoke_async_with_retry(record, json.loads(payload))
    logger.info("rule %s invoked %s", rule.get("Name"), name)


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
