"""S3: an event of a versioned bucket says which version of the object it is about, and its time is in seconds."""

import contextvars
import json
import re

from ministack.services import eventbridge, s3

from local_cloud.patch import replace

_version = contextvars.ContextVar("local_cloud_object_version", default=None)


def install():
    replace(s3, "_fire_s3_event", _remember_version)
    replace(eventbridge, "_dispatch_event", _add_version)


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
