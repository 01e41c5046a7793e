"""CloudFormation: change sets that revert drift, which MiniStack makes as if nobody had changed anything.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/drift-aware-change-sets.html

They know the resources whose drift MiniStack knows; a resource that is gone is told, and made anew by no such change set here.
"""

import json
from xml.sax.saxutils import escape

from ministack.core.responses import now_iso
from ministack.services import cloudformation
from ministack.services.cloudformation import changesets, drift, handlers

_ACTIONS = handlers._ACTION_HANDLERS


def install():
    for action, make in (("CreateChangeSet", _created), ("DescribeChangeSet", _described), ("ExecuteChangeSet", _executed)):
        _ACTIONS[action] = _of_stack(make(_ACTIONS[action]))


def _of_stack(handler):
    """MiniStack finds a change set by the stack's name alone; AWS by its id too."""

    def handle(params):
        stack = handlers._resolve_stack(changesets._p(params, "StackName"))
        return handler(params if stack is None else params | {"StackName": [stack["StackName"]]})

    return handle


def _created(original):
    def create(params):
        before = set(cloudformation._change_sets)
        answer = original(params)
        made = set(cloudformation._change_sets) - before
        if made and changesets._p(params, "DeploymentMode") == "REVERT_DRIFT":
            _compare(cloudformation._change_sets[made.pop()])
        return answer

    return create


def _compare(change_set):
    stack = handlers._resolve_stack(change_set["StackId"])
    found = {}
    for name, record in stack.get("_resources", {}).items():
        if drift.supports_drift(record.get("ResourceType", "")):
            found[name] = drift.detect_resource_drift(stack, name, record, now_iso())
    drifted = {name: each for name, each in found.items() if each["StackResourceDriftStatus"] in ("MODIFIED", "DELETED")}
    if not drifted:
        return
    change_set["_drifted"] = drifted
    change_set["Changes"] = [
        {
            "ResourceChange": {
                "Action": "Modify" if each["StackResourceDriftStatus"] == "MODIFIED" else "Add",
                "LogicalResourceId": name,
                "PhysicalResourceId": each["PhysicalResourceId"],
                "ResourceType": each["ResourceType"],
                "Replacement": "False",
                "Scope": ["Properties"],
            }
        }
        for name, each in drifted.items()
    ]
    change_set.update({"Status": "CREATE_COMPLETE", "ExecutionStatus": "AVAILABLE", "StatusReason": ""})


def _found(params):
    _, change_set = changesets._find_change_set(
        changesets._p(params, "ChangeSetName"), changesets._p(params, "StackName"))
    return change_set or {}


def _described(original):
    def describe(params):
        status, headers, body = original(params)
        for name, each in _found(params).get("_drifted", {}).items():
            id_of_resource = f"<LogicalResourceId>{escape(name)}</LogicalResourceId>".encode()
            told = f"<ResourceDriftStatus>{each['StackResourceDriftStatus']}</ResourceDriftStatus>".encode()
            body = body.replace(id_of_resource, id_of_resource + told)
        return status, headers, body

    return describe


def _executed(original):
    def execute(params):
        change_set = _found(params)
        if change_set.get("ExecutionStatus") == "AVAILABLE":
            records = handlers._resolve_stack(change_set["StackId"])["_resources"]
            for name, each in change_set.get("_drifted", {}).items():
                # What is there is what the update begins with, and what a rollback comes back to.
                records[name]["Properties"] = records[name]["Properties"] | json.loads(each.get("ActualProperties", "{}"))
        return original(params)

    return execute
