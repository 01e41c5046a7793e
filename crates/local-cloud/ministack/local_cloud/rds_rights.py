"""RDS checks a call about a snapshot on the snapshot and on what it is of, by their tags; tags that are made with it are
`AddTagsToResource`.

MiniStack checks `*`. What AWS checks each call on stands in the Service Authorization Reference.
"""

from ministack.core.responses import get_account_id
from ministack.services import rds

from local_cloud import rights

SNAPSHOTS = {"DBSnapshotIdentifier": "snapshot", "DBClusterSnapshotIdentifier": "cluster-snapshot"}
SERVERS = {"DBInstanceIdentifier": "db", "DBClusterIdentifier": "cluster"}


def install():
    if not hasattr(rds, "_create_db_snapshot"):
        raise SystemExit("ministack.services.rds has no _create_db_snapshot: this MiniStack is not the pinned version")
    rights.check_each("rds", _resources)


def _resources(action, parameters, region):
    """Each action with what it is checked on; none where no snapshot is named."""
    prefix = f"arn:aws:rds:{region}:{get_account_id()}"

    def named(kinds):
        names = ((kind, rds._p(parameters, parameter)) for parameter, kind in kinds.items())
        return [f"{prefix}:{kind}:{name}" for kind, name in names if name]

    snapshots = named(SNAPSHOTS)
    if not snapshots:
        return []
    checks = [(action, arn, _tags(arn)) for arn in snapshots + named(SERVERS)]
    if action.startswith("rds:Create") and rds._parse_tags(parameters):
        checks += [("rds:AddTagsToResource", arn, {}) for arn in snapshots]
    return checks


def _tags(arn):
    """Those that a call gave, or a stack."""
    kind, _, name = arn.split(":", 5)[5].partition(":")
    made = {"db": rds._instances, "cluster": rds._clusters}.get(kind, {}).get(name) or {}
    tags = rds._tags.get(arn) or made.get("TagList") or []
    return {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in tags}
