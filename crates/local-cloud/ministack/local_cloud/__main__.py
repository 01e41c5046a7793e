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

    from local_cloud import alarms, change_sets, cloudfront, cloudwatch_rights, control, decisions, deployment_alarms
    from local_cloud import dynamodb_rights, ec2, ec2_rights, ecr, ecs, ecs_rights, eventbridge, forwarding, functions, instances
    from local_cloud import load_balancing, machine_rights, machines, objects, passing, rds_rights, roles, s3, scaling
    from local_cloud import service_deployments, stack_data, stacks, tls

    # What notes IAM's decisions comes first, so that it is asked by whatever asks more than MiniStack does.
    services = (decisions, alarms, change_sets, cloudfront, cloudwatch_rights, dynamodb_rights, ec2, ec2_rights, ecr, ecs,
                ecs_rights, eventbridge, forwarding, functions, instances, load_balancing, machine_rights, machines, objects, passing,
                rds_rights, roles, scaling, stack_data, stacks, deployment_alarms, service_deployments)
    for module in (*services, s3, tls):
        module.install()
    app.app = control.wrap(app.app)
    app.main()


main()
