"""EC2 checks a call on every resource it names or makes, by their tags; a tag made with a resource is `CreateTags`.

MiniStack checks `*` and knows no tags of EC2. What AWS checks each call on stands in the Service Authorization Reference.
"""

import contextvars

from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_account_id
from ministack.services import ec2

from local_cloud.patch import replace

MADE = {
    "CreateVpc": "vpc",
    "CreateSubnet": "subnet",
    "CreateInternetGateway": "internet-gateway",
    "CreateRouteTable": "route-table",
    "CreateSecurityGroup": "security-group",
}
NAMED = {
    "VpcId": "vpc",
    "SubnetId": "subnet",
    "InternetGatewayId": "internet-gateway",
    "RouteTableId": "route-table",
    "GroupId": "security-group",
}

_parameters = contextvars.ContextVar("local_cloud_ec2_parameters", default=None)


def install():
    replace(iam_actions, "extract_resource_arn", _remember_parameters)
    replace(iam_evaluator, "enforce", _check_resources)


def _remember_parameters(extract):
    def extract_resource_arn(service, method, path, headers, body, query_params, region, account_id):
        _parameters.set(query_params if service == "ec2" else None)
        return extract(service, method, path, headers, body, query_params, region, account_id)

    return extract_resource_arn


def _check_resources(enforce):
    def enforce_each(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
        parameters = _parameters.get() if service == "ec2" else None
        action = iam_action.partition(":")[2]
        if parameters is None or action.startswith("Describe"):
            return enforce(access_key_id, iam_action, service, region, resource_arn, service_context)
        for checked, arn, context in _resources(action, parameters, region) or [(iam_action, resource_arn, {})]:
            denied = enforce(access_key_id, checked, service, region, arn, {**(service_context or {}), **context})
            if denied:
                return denied
        return None

    return enforce_each


def _resources(action, parameters, region):
    prefix = f"arn:aws:ec2:{region}:{get_account_id()}"
    checks = []
    if action in MADE:
        tags = _requested_tags(parameters)
        arn = f"{prefix}:{MADE[action]}/*"
        asked = {f"aws:requesttag/{key}".lower(): value for key, value in tags.items()}
        checks.append((f"ec2:{action}", arn, asked))
        if tags:
            checks.append(("ec2:CreateTags", arn, {**asked, "ec2:createaction": action}))
    for parameter, kind in NAMED.items():
        if name := ec2._p(parameters, parameter):
            tags = {f"aws:resourcetag/{tag['Key']}".lower(): tag["Value"] for tag in ec2._tags.get(name, [])}
            checks.append((f"ec2:{action}", f"{prefix}:{kind}/{name}", tags))
    return checks


def _requested_tags(parameters):
    tags, n = {}, 1
    while ec2._p(parameters, f"TagSpecification.{n}.ResourceType"):
        m = 1
        while key := ec2._p(parameters, f"TagSpecification.{n}.Tag.{m}.Key"):
            tags[key] = ec2._p(parameters, f"TagSpecification.{n}.Tag.{m}.Value")
            m += 1
        n += 1
    return tags
