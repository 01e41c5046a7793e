"""S3: an event of a versioned bucket says which version of the object it is about, and its time is in seconds. Who deletes versions,
many in one call, needs the right to delete a version: MiniStack checks the first one as if it named none.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
"""

import contextvars
import json
import re

from ministack.core import iam_actions, iam_evaluator
from ministack.services import eventbridge, s3

from local_cloud.patch import replace

_first_version = contextvars.ContextVar("local_cloud_first_version", default=None)
_version = contextvars.ContextVar("local_cloud_object_version", default=None)


def install():
    replace(s3, "_fire_s3_event", _remember_version)
    replace(eventbridge, "_dispatch_event", _add_version)
    replace(iam_actions, "extract_resource_arn", _remember_first)
    replace(iam_evaluator, "enforce", _check_first)


def _remember_first(extract):
    def extract_resource_arn(service, method, path, headers, body, query_params, region, account_id):
        deletes = service == "s3" and method == "POST" and "delete" in query_params
        found = iam_actions._s3_batch_delete_targets(path.split("/")[1], body) if deletes else []
        _first_version.set(found[0][0] if found and found[0][1] else None)
        return extract(service, method, path, headers, body, query_params, region, account_id)

    return extract_resource_arn


def _check_first(enforce):
    def enforce_for_version(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
        if iam_action == "s3:DeleteObject" and resource_arn == _first_version.get():
            iam_action = "s3:DeleteObjectVersion"
        return enforce(access_key_id, iam_action, service, region, resource_arn, service_context)

    return enforce_for_version


def _remember_version(fire):
    def fire_event(*args, **kwargs):
        token = _version.set(kwargs.get("version_id"))
        try:
            return fire(*args, **kwargs)
        finally:
            _version.reset(token)

    return fire_event


def _add_version(dispatch):
    def dispatch_event(event, view=None):
        if event.get("Source") == "aws.s3":
            detail = json.loads(event["Detail"])
            version = _version.get()
            if version and version != "null":
                detail["object"].setdefault("version-id", version)
            time = re.sub(r"\.\d+Z$", "Z", str(event["Time"]))
            event, view = {**event, "Detail": json.dumps(detail), "Time": time}, None
        return dispatch(event, view)

    return dispatch_event
