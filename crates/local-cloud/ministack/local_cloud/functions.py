"""Lambda: a function sees its own environment only, its calls say whose they are, and it can be made to crash."""

import os

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from local_cloud.patch import replace


# What a function may share with MiniStack's own process; the rest of that one's environment is none of its business.
_SHARED = {"PATH", "LANG", "HOME", "TMPDIR", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"}


def install():
    replace(lambda_svc, "_provided_worker_env", _environment)


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
