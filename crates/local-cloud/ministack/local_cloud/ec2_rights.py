"""EC2 checks a call on every resource it names or makes, by their tags; a tag made with a resource is `CreateTags`.

MiniStack checks `*` and knows no tags of EC2. What AWS checks each call on stands in the Service Authorization Reference.
"""

from ministack.core.responses import get_account_id
from ministack.services import ec2

from local_cloud import rights

MADE = {
    "CreateVpc": "vpc",
    "CreateSubnet": "subnet",
    "CreateInternetGateway": "internet-gateway",
    "CreateRouteTable": "route-table",
    "CreateSecurityGroup": "security-group",
    "AllocateAddress": "elastic-ip",
    "CreateNatGateway": "natgateway",
    "CreateVpcEndpoint": "vpc-endpoint",
}
# Each may name one, or several as `SubnetId.1`; ModifyVpcEndpoint adds and removes them.
NAMED = {
    "VpcId": "vpc",
    "SubnetId": "subnet",
    "InternetGatewayId": "internet-gateway",
    "RouteTableId": "route-table",
    "GroupId": "security-group",
    "SecurityGroupId": "security-group",
    "NatGatewayId": "natgateway",
    "AllocationId": "elastic-ip",
    "VpcEndpointId": "vpc-endpoint",
}


def install():
    rights.check_each("ec2", _resources)


def _resources(iam_action, parameters, region):
    action = iam_action.partition(":")[2]
    if action.startswith("Describe"):
        return []
    prefix = f"arn:aws:ec2:{region}:{get_account_id()}"
    checks = []
    if action in MADE:
        tags = _requested_tags(parameters)
        arn = f"{prefix}:{MADE[action]}/*"
        asked = {f"aws:requesttag/{key}".lower(): value for key, value in tags.items()}
        checks.append((f"ec2:{action}", arn, asked))
        if tags:
            checks.append(("ec2:CreateTags", arn, {**asked, "ec2:createaction": action}))
    for kind, name in _named(parameters):
        tags = {f"aws:resourcetag/{tag['Key']}".lower(): tag["Value"] for tag in ec2._tags.get(name, [])}
        checks.append((f"ec2:{action}", f"{prefix}:{kind}/{name}", tags))
    return checks


def _named(parameters):
    for parameter, kind in NAMED.items():
        for key in (parameter, f"Add{parameter}", f"Remove{parameter}"):
            names = [ec2._p(parameters, key), *ec2._parse_member_list(parameters, key)]
            yield from ((kind, name) for name in names if name)
    # A call that names a subnet's use of a route table is checked on the table.
    if association := ec2._p(parameters, "AssociationId"):
        for table, content in ec2._route_tables.items():
            if any(association in known.values() for known in content.get("Associations", [])):
                yield "route-table", table


def _requested_tags(parameters):
    tags, n = {}, 1
    while ec2._p(parameters, f"TagSpecification.{n}.ResourceType"):
        m = 1
        while key := ec2._p(parameters, f"TagSpecification.{n}.Tag.{m}.Key"):
            tags[key] = ec2._p(parameters, f"TagSpecification.{n}.Tag.{m}.Value")
            m += 1
        n += 1
    return tags
