"""IAM checks a call about a role on the role's whole ARN, its path too, and simulates what a role may do on each of several
resources, within its boundary. MiniStack leaves the path out of both, and simulates one resource without a boundary.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import iam

from local_cloud.patch import replace

DECISIONS = {"Allow": "allowed", "Deny": "explicitDeny"}


def install():
    replace(iam_actions, "extract_resource_arn", _name_role)
    replace(iam, "_simulate_principal_policy", lambda _: _simulate)


def _name_role(extract):
    def extract_resource_arn(service, method, path, headers, body, query_params, region, account_id):
        if service == "iam":
            if source := iam_actions._query_param(query_params, "PolicySourceArn"):
                return source
            if role := iam._roles.get(iam_actions._query_param(query_params, "RoleName")):
                return role["Arn"]
        return extract(service, method, path, headers, body, query_params, region, account_id)

    return extract_resource_arn


def decide(role, action, resource, tags=()):
    """What a role's own policies say, within its boundary, of an action on a resource with these tags; no role, no right."""
    name, account = role.rpartition("/")[2], get_account_id()
    if iam._roles.get(name, {}).get("Arn") != role:
        return "implicitDeny"
    context = iam_evaluator.EvalContext(
        principal_arn=role, principal_type="AssumedRole", principal_account=account, action=action,
        resource_arn=resource, region=get_region(), source_ip="", secure_transport=True,
        service_context={f"aws:resourcetag/{tag['Key']}".lower(): tag["Value"] for tag in tags},
    )
    policies = iam_evaluator._gather_role_policies(name, account)
    limits = iam_evaluator._permissions_boundary(iam._roles, name, account)
    return DECISIONS.get(iam_evaluator.evaluate(context, policies, *limits).decision, "implicitDeny")


def _simulate(p):
    arn = iam._p(p, "PolicySourceArn")
    if ":role/" not in arn or iam._roles.get(arn.rpartition("/")[2], {}).get("Arn") != arn:
        return iam._error(404, "NoSuchEntity", f"{arn} is no role that is there.", ns="iam")

    def member(action):
        each = {resource: decide(arn, action, resource) for resource in _list(p, "ResourceArns") or ["*"]}
        refused = next((decision for decision in each.values() if decision != "allowed"), "allowed")
        results = "".join(
            f"<member><EvalResourceName>{resource}</EvalResourceName><EvalResourceDecision>{decision}</EvalResourceDecision></member>"
            for resource, decision in each.items()
        )
        return (f"<member><EvalActionName>{action}</EvalActionName><EvalResourceName>{next(iter(each))}</EvalResourceName>"
                f"<EvalDecision>{refused}</EvalDecision><ResourceSpecificResults>{results}</ResourceSpecificResults></member>")

    members = "".join(map(member, _list(p, "ActionNames")))
    result = f"<EvaluationResults>{members}</EvaluationResults><IsTruncated>false</IsTruncated>"
    return iam._xml(200, "SimulatePrincipalPolicyResponse",
                    f"<SimulatePrincipalPolicyResult>{result}</SimulatePrincipalPolicyResult>", ns="iam")


def _list(p, name):
    items, n = [], 1
    while item := iam._p(p, f"{name}.member.{n}"):
        items.append(item)
        n += 1
    return items
