"""Starts MiniStack with the mends in place: `python -m local_cloud`."""

import os
import signal
import sys
import threading


def end_with_parent():
    """Ends the whole process group, functions and containers included, when whoever started us is gone.

    The parent holds the other end of our standard input and never writes to it.
    """

    def watch():
        while sys.stdin.buffer.read(1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="local-cloud-parent").start()


def main():
    if os.getpgrp() != os.getpid():
        sys.exit("local_cloud must lead its own process group")
    end_with_parent()
    # Functions inherit this environment; our own path is not theirs.
    os.environ.pop("PYTHONPATH", None)
    sys.argv = ["ministack"]

    from ministack import app

    from local_cloud import change_sets, cloudfront, cloudwatch_rights, control, deployment_alarms, dynamodb_rights, ec2
    from local_cloud import ec2_rights, ecr, ecs, ecs_rights, eventbridge, forwarding, functions, instances, load_balancing
    from local_cloud import machines, objects, rds_rights, roles, s3, scaling, service_deployments, stack_data, stacks, tls

    services = (change_sets, cloudfront, cloudwatch_rights, dynamodb_rights, ec2, ec2_rights, ecr, ecs, ecs_rights,
                eventbridge, forwarding, functions, instances, load_balancing, machines, objects, rds_rights, roles, scaling,
                stack_data, stacks, deployment_alarms, service_deployments)
    for module in (*services, s3, tls):
        module.install()
    app.app = control.wrap(app.app)
    app.main()


main()
