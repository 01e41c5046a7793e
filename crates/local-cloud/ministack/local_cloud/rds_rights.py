"""RDS checks a call about a snapshot on the snapshot and on what it is of; tags that are made with it are `AddTagsToResource`.

MiniStack checks `*`. What AWS checks each call on stands in the Service Authorization Reference.
"""

import contextvars

from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_account_id
from ministack.services import rds

from local_cloud.patch import replace

SNAPSHOTS = {"DBSnapshotIdentifier": "snapshot", "DBClusterSnapshotIdentifier": "cluster-snapshot"}
SERVERS = {"DBInstanceIdentifier": "db", "DBClusterIdentifier": "cluster"}

_parameters = contextvars.ContextVar("local_cloud_rds_parameters", default=None)


def install():
    if not hasattr(rds, "_create_db_snapshot"):
        raise SystemExit("ministack.services.rds has no _create_db_snapshot: this MiniStack is not the pinned version")
    replace(iam_actions, "extract_resource_arn", _remember_parameters)
    replace(iam_evaluator, "enforce", _check_resources)


def _remember_parameters(extract):
    def extract_resource_arn(service, method, path, headers, body, query_params, region, account_id):
        _parameters.set(query_params if service == "rds" else None)
        return extract(service, method, path, headers, body, query_params, region, account_id)

    return extract_resource_arn


def _check_resources(enforce):
    def enforce_each(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
        parameters = _parameters.get() if service == "rds" else None
        for checked, arn in _resources(iam_action, parameters, region) or [(iam_action, resource_arn)]:
            denied = enforce(access_key_id, checked, service, region, arn, service_context)
            if denied:
                return denied
        return None

    return enforce_each


def _resources(action, parameters, region):
    """Each action with what it is checked on; none where no snapshot is named."""
    if parameters is None:
        return []
    prefix = f"arn:aws:rds:{region}:{get_account_id()}"

    def named(kinds):
        names = ((kind, rds._p(parameters, parameter)) for parameter, kind in kinds.items())
        return [f"{prefix}:{kind}:{name}" for kind, name in names if name]

    snapshots = named(SNAPSHOTS)
    if not snapshots:
        return []
    checks = [(action, arn) for arn in snapshots + named(SERVERS)]
    if action.startswith("rds:Create") and rds._parse_tags(parameters):
        checks += [("rds:AddTagsToResource", arn) for arn in snapshots]
    return checks
