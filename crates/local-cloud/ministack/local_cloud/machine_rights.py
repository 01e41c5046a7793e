"""Step Functions calls functions and topics with the machine's own role. MiniStack asks nobody.

https://docs.aws.amazon.com/step-functions/latest/dg/procedure-create-iam-role.html
"""

import contextvars

from ministack.services import stepfunctions

from local_cloud import decisions, roles
from local_cloud.patch import replace

_role = contextvars.ContextVar("local_cloud_machine_role", default="")


def install():
    replace(stepfunctions, "_execute_task", _remember_role)
    replace(stepfunctions, "_invoke_resource", _check_topic)
    replace(stepfunctions, "_call_lambda", _check_function)


def _remember_role(execute):
    def execute_task(state_def, raw_input, execution, ctx):
        machine = stepfunctions._state_machines.get((execution or {}).get("stateMachineArn", "")) or {}
        _role.set(machine.get("roleArn", ""))
        return execute(state_def, raw_input, execution, ctx)

    return execute_task


def _check_topic(invoke):
    def invoke_resource(resource, input_data):
        if "states:::sns:publish" in resource:
            _check("sns:Publish", input_data.get("TopicArn", "*"))
        return invoke(resource, input_data)

    return invoke_resource


def _check_function(call):
    def call_lambda(func_ref, event):
        _check("lambda:InvokeFunction", func_ref)
        return call(func_ref, event)

    return call_lambda


def _check(action, resource):
    role = _role.get()
    if not role:
        return
    if decisions.noted(lambda: roles.decide(role, action, resource) != "allowed"):
        raise stepfunctions._ExecutionError("States.Permissions", f"{role} may not {action} on {resource}")
