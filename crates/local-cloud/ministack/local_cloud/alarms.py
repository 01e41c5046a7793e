"""CloudWatch: an alarm invokes the Lambda functions among its actions, if their policies let it, and an alarm on a queue follows what
is in it. MiniStack's alarms tell topics alone, and no queue has metrics.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
"""

import logging
import time
from datetime import datetime, timezone

from ministack.core.concurrency import spawn_background
from ministack.core.responses import get_account_id, get_region, new_uuid, request_scope
from ministack.services import cloudwatch, sqs

from local_cloud import functions
from local_cloud.patch import replace

logger = logging.getLogger("local-cloud")

_ACTIONS = {"ALARM": "AlarmActions", "OK": "OKActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}
# SQS measures each minute, CloudWatch judges after a period: minutes. Here a queue is looked at and judged at once.
_LOOK_SECONDS = 0.5
_watched = set()


def install():
    replace(cloudwatch, "_dispatch_alarm_actions", _invoke_functions)
    replace(cloudwatch, "cloudformation_put_metric_alarm", _watch_queue)


def _invoke_functions(dispatch):
    def dispatch_alarm_actions(alarm, old_state, new_state, reason):
        dispatch(alarm, old_state, new_state, reason)
        if not alarm.get("ActionsEnabled", True):
            return
        for action in alarm.get(_ACTIONS.get(new_state)) or []:
            if not action.startswith("arn:") or action.split(":")[2] != "lambda":
                continue
            refused = functions.invoke_async(
                action, _event(alarm, old_state, new_state, reason), "lambda.alarms.cloudwatch.amazonaws.com", alarm["AlarmArn"])
            logger.info("alarm %s %s: %s", alarm["AlarmName"], new_state, refused or f"invoked {action}")

    return dispatch_alarm_actions


def _event(alarm, old_state, new_state, reason):
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"
    metric = {
        "namespace": alarm.get("Namespace"), "name": alarm.get("MetricName"),
        "dimensions": {dimension["Name"]: dimension["Value"] for dimension in alarm.get("Dimensions") or []},
    }
    stat = {"metric": metric, "period": alarm.get("Period"), "stat": alarm.get("Statistic")}
    return {
        "source": "aws.cloudwatch",
        "alarmArn": alarm["AlarmArn"],
        "accountId": get_account_id(),
        "time": now,
        "region": get_region(),
        "alarmData": {
            "alarmName": alarm["AlarmName"],
            "state": {"value": new_state, "reason": reason, "timestamp": now},
            "previousState": {"value": old_state, "reason": "", "timestamp": now},
            "configuration": {
                "description": alarm.get("AlarmDescription", ""),
                "metrics": [{"id": new_uuid(), "metricStat": stat, "returnData": True}],
            },
        },
    }


def _watch_queue(put):
    def put_metric_alarm(alarm):
        put(alarm)
        name = alarm["AlarmName"]
        if alarm.get("MetricName") == "ApproximateNumberOfMessagesVisible" and name not in _watched:
            _watched.add(name)
            spawn_background(_watcher(get_account_id(), get_region(), name), thread_name=f"local-cloud-{name[:20]}")

    return put_metric_alarm


def _watcher(account, region, name):
    def watch():
        with request_scope(account, region):
            while alarm := cloudwatch._alarms.get(name):
                time.sleep(_LOOK_SECONDS)
                queue = {dimension["Name"]: dimension["Value"] for dimension in alarm["Dimensions"]}["QueueName"]
                found = [q for url, q in sqs._queues.items() if url.rpartition("/")[2] == queue]
                if not found:
                    continue
                sqs._refresh_counts(found[0])
                visible = float(found[0]["attributes"]["ApproximateNumberOfMessages"])
                state = "ALARM" if visible > float(alarm["Threshold"]) else "OK"
                if state != alarm["StateValue"]:
                    crossed = "was" if state == "ALARM" else "was not"
                    cloudwatch._set_alarm_state({}, {
                        "AlarmName": name, "StateValue": state,
                        "StateReason": f"Threshold Crossed: 1 datapoint [{visible}] {crossed} greater than the threshold "
                                       f"({alarm['Threshold']})."}, True)
        _watched.discard(name)

    return watch
