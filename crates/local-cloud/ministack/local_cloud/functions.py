"""Lambda: a function sees its own environment only, its calls say whose they are, and it can be made to crash. A service that
invokes one must be let by its policy, and what became of an alias's invocations goes where the alias says. An event for which no
environment is free waits its turn.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

import contextvars
import os
import random
import time

from ministack.core import lambda_runtime
from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
from ministack.core.responses import get_account_id, get_region
from ministack.services import lambda_svc

from local_cloud.patch import replace


# What a function may share with MiniStack's own process; the rest of that one's environment is none of its business.
_SHARED = {"PATH", "LANG", "HOME", "TMPDIR", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"}

# How long an event goes back to its queue when the function was throttled: from a second to five minutes, for six hours.
_FIRST_WAIT, _LONGEST_WAIT, _OLDEST = 1, 300, 6 * 3600

_asynchronous = contextvars.ContextVar("local_cloud_asynchronous", default=False)


def install():
    replace(lambda_svc, "_provided_worker_env", _environment)
    replace(lambda_svc, "invoke_async_with_retry", _remember_that_nobody_waits)
    replace(lambda_svc, "_execute_function", _wait_for_a_turn)


def _remember_that_nobody_waits(invoke):
    def invoke_async_with_retry(func, event):
        token = _asynchronous.set(True)
        try:
            # It copies the context into the thread that it starts.
            return invoke(func, event)
        finally:
            _asynchronous.reset(token)

    return invoke_async_with_retry


def _wait_for_a_turn(execute):
    """Being throttled is none of the attempts that an event has. In MiniStack it is."""

    def execute_function(func, event):
        result = execute(func, event)
        if not _asynchronous.get():
            return result
        began, wait = time.monotonic(), _FIRST_WAIT
        while result.get("throttle") and time.monotonic() - began < _OLDEST:
            time.sleep(random.uniform(wait / 2, wait))
            wait = min(2 * wait, _LONGEST_WAIT)
            result = execute(func, event)
        return result

    return execute_function


def _environment(build):
    def worker_env(config, code_dir, port):
        given = (config.get("Environment") or {}).get("Variables") or {}
        env = {
            name: value for name, value in build(config, code_dir, port).items()
            if name in _SHARED or name in given or os.environ.get(name) != value
        }
        # The SDKs write it as `app/<name>` into the user agent, where the proxy's fault rules find it.
        env["AWS_SDK_UA_APP_ID"] = config.get("FunctionName", "unknown")[:50]
        return env

    return worker_env


def invoke_async(arn, event, service, source_arn):
    """Invokes a function, or a version or an alias of one, in a service's name; answers why not, if it may not."""
    record, config, name = lambda_svc._get_func_record_for_ref(arn)
    if not record or not config:
        return f"function {name} does not exist"
    base = lambda_svc._functions.get(name)
    context = EvalContext(
        principal_arn="*", principal_type="Service", principal_account="",
        action="lambda:InvokeFunction", resource_arn=arn, region=get_region(),
        service_context={"aws:sourcearn": source_arn, "aws:sourceaccount": get_account_id()},
    )
    if evaluate_resource_policy(base.get("policy"), context, service=service).decision != "Allow":
        return f"the policy of {name} does not let {source_arn} invoke it"
    qualifier = arn.split(":")[7] if arn.count(":") == 7 else None
    record = lambda_svc._execution_record_for_config(record, config)
    record["event_invoke_config"] = lambda_svc._event_invoke_config(base, qualifier)
    lambda_svc.invoke_async_with_retry(record, event)
    return None


def kill(body):
    """Kills the busy execution environments of a function, as running out of memory would."""
    name = body["function"]
    killed = 0
    with lambda_runtime._lock:
        workers = [w for entries in lambda_runtime._workers.values() for w in entries]
    for worker in workers:
        process = worker._proc
        if worker.func_name == name and worker.in_use and process is not None and process.poll() is None:
            process.kill()
            killed += 1
    return {"killed": killed}
