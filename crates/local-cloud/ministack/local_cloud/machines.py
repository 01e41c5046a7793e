"""Step Functions: a state's TimeoutSeconds may be a JSONata expression, a task that waits for its token fails when the
function that is to hand the token on fails, and a function that is throttled fails its task by the name that Lambda gives it. In
MiniStack the first is a TypeError, the second waits on, and the third is `Lambda.Unknown`.

https://docs.aws.amazon.com/step-functions/latest/dg/state-task.html
https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html#connect-wait-token
"""

import contextvars

from ministack.services import stepfunctions

from local_cloud.patch import replace

_token = contextvars.ContextVar("local_cloud_token", default=None)


def install():
    replace(stepfunctions, "_execute_task", _evaluate_timeout)
    replace(stepfunctions, "_invoke_with_callback", _remember_token)
    replace(stepfunctions, "_call_lambda", _fail_who_waits)


def _evaluate_timeout(execute):
    def execute_task(state_def, raw_input, execution, ctx):
        if isinstance(state_def.get("TimeoutSeconds"), str):
            seconds = stepfunctions._jsonata_state_field(state_def, "TimeoutSeconds", "number", raw_input, ctx)
            state_def = {**state_def, "TimeoutSeconds": seconds}
        return execute(state_def, raw_input, execution, ctx)

    return execute_task


def _remember_token(invoke):
    def invoke_with_callback(resource, input_data, token, state_def):
        outer = _token.set(token)
        try:
            return invoke(resource, input_data, token, state_def)
        finally:
            _token.reset(outer)

    return invoke_with_callback


def _fail_who_waits(call):
    def call_lambda(func_ref, event):
        try:
            return call(func_ref, event)
        except stepfunctions._ExecutionError as error:
            if '"__type": "TooManyRequestsException"' in str(error.cause):
                error.error = "Lambda.TooManyRequestsException"
            if waiting := stepfunctions._task_tokens.get(_token.get()):
                waiting["error"] = {"Error": error.error, "Cause": error.cause}
                waiting["event"].set()
            raise

    return call_lambda
