"""EC2: what a network's gateways and endpoints show of themselves, and what makes a repeated call harmless: the client tokens of
those that take one, and that no two subnets of a VPC overlap.

A NAT gateway has its address, and an address says that it is taken: MiniStack forgets both, and shows a deleted gateway for
ever. An interface endpoint is in security groups and answers to the service's own name or not. Endpoints, addresses and
interfaces are asked for by filters.
"""

import ipaddress
import threading

from ministack.core.responses import get_account_id, get_region
from ministack.services import ec2

from local_cloud.patch import replace

_lock = threading.Lock()
_answers = {}


def install():
    replace(ec2, "_create_subnet", _refuses_overlaps)
    replace(ec2, "_create_nat_gateway", _takes_address)
    replace(ec2, "_describe_nat_gateways", _show_address)
    replace(ec2, "_delete_nat_gateway", _gives_address_back)
    replace(ec2, "_parse_ip_permissions", _with_prefix_lists)
    replace(ec2, "_create_vpc_endpoint", _keep_interfaces)
    replace(ec2, "_modify_vpc_endpoint", _change_interfaces)
    replace(ec2, "_vpce_fields_xml", _show_interfaces)
    replace(ec2, "_describe_vpc_endpoints", _filtered("_vpc_endpoints"))
    replace(ec2, "_describe_addresses", _filtered("_addresses"))
    replace(ec2, "_describe_network_interfaces", _filtered("_network_interfaces"))
    # Last, so that an answer given again does nothing again.
    for create in ("_create_nat_gateway", "_create_route_table", "_create_vpc_endpoint"):
        replace(ec2, create, _idempotent)


def _refuses_overlaps(create):
    def create_subnet(params):
        wanted = ipaddress.ip_network(ec2._p(params, "CidrBlock"))
        there = [one for one in ec2._subnets.values() if one["VpcId"] == ec2._p(params, "VpcId")]
        if any(wanted.overlaps(ipaddress.ip_network(one["CidrBlock"])) for one in there):
            return ec2._error("InvalidSubnet.Conflict", f"The CIDR '{wanted}' conflicts with another subnet", 400)
        return create(params)

    return create_subnet


def _idempotent(create):
    def create_once(params):
        token = ec2._p(params, "ClientToken")
        if not token:
            return create(params)
        wanted = sorted((k, str(v)) for k, v in params.items() if k != "ClientToken")
        key = (get_account_id(), get_region(), ec2._p(params, "Action"), token)
        with _lock:
            if key not in _answers:
                _answers[key] = (wanted, create(params))
            known, answer = _answers[key]
        if known != wanted:
            return ec2._error("IdempotentParameterMismatch",
                              f"The client token {token} was used with other parameters.", 400)
        return answer

    return create_once


def _with_prefix_lists(parse):
    """A rule may be about a prefix list: MiniStack shows those it has, and reads none."""

    def parse_ip_permissions(params, prefix):
        rules = parse(params, prefix)
        for i, rule in enumerate(rules, 1):
            j = 1
            while name := ec2._p(params, f"{prefix}.{i}.PrefixListIds.{j}.PrefixListId"):
                described = ec2._p(params, f"{prefix}.{i}.PrefixListIds.{j}.Description")
                rule["PrefixListIds"].append({"PrefixListId": name} | ({"Description": described} if described else {}))
                j += 1
        return rules

    return parse_ip_permissions


def _takes_address(create):
    def create_nat_gateway(params):
        answer = create(params)
        address = ec2._addresses.get(ec2._p(params, "AllocationId"))
        if address and not address["AssociationId"]:
            address["AssociationId"] = address["AllocationId"].replace("eipalloc", "eipassoc")
        return answer

    return create_nat_gateway


def _show_address(describe):
    def describe_nat_gateways(params):
        status, headers, body = describe(params)
        text = body.decode() if isinstance(body, bytes) else body
        parts = text.split("<natGatewayAddressSet/>")
        for n, part in enumerate(parts[:-1]):
            gateway = part.rpartition("<natGatewayId>")[2].partition("</natGatewayId>")[0]
            address = ec2._nat_gateways[gateway].get("AllocationId") or ""
            parts[n] += ("<natGatewayAddressSet><item>"
                         f"<allocationId>{address}</allocationId></item></natGatewayAddressSet>")
        text = "".join(parts)
        return status, headers, text.encode() if isinstance(body, bytes) else text

    return describe_nat_gateways


def _gives_address_back(delete):
    def delete_nat_gateway(params):
        gateway = ec2._nat_gateways.get(ec2._p(params, "NatGatewayId"))
        answer = delete(params)
        address = ec2._addresses.get(gateway["AllocationId"]) if gateway else None
        if address:
            address["AssociationId"] = None
        return answer

    return delete_nat_gateway


def _keep_interfaces(create):
    def create_vpc_endpoint(params):
        before = set(ec2._vpc_endpoints)
        create(params)
        (made,) = set(ec2._vpc_endpoints) - before
        endpoint = ec2._vpc_endpoints[made]
        endpoint["Groups"] = ec2._parse_member_list(params, "SecurityGroupId")
        endpoint["PrivateDnsEnabled"] = ec2._p(params, "PrivateDnsEnabled") == "true"
        return ec2._xml(200, "CreateVpcEndpointResponse", ec2._vpce_fields_xml(endpoint, tag="vpcEndpoint"))

    return create_vpc_endpoint


def _change_interfaces(modify):
    def modify_vpc_endpoint(params):
        answer = modify(params)
        endpoint = ec2._vpc_endpoints.get(ec2._p(params, "VpcEndpointId"))
        if endpoint:
            gone = ec2._parse_member_list(params, "RemoveSecurityGroupId")
            groups = endpoint["Groups"] + ec2._parse_member_list(params, "AddSecurityGroupId")
            endpoint["Groups"] = [group for group in dict.fromkeys(groups) if group not in gone]
            if ec2._p(params, "PrivateDnsEnabled"):
                endpoint["PrivateDnsEnabled"] = ec2._p(params, "PrivateDnsEnabled") == "true"
        return answer

    return modify_vpc_endpoint


def _show_interfaces(xml):
    def vpce_fields_xml(endpoint, tag="item"):
        groups = "".join(f"<item><groupId>{group}</groupId></item>" for group in endpoint.get("Groups", []))
        named = "true" if endpoint.get("PrivateDnsEnabled") else "false"
        fields = f"<groupSet>{groups}</groupSet><privateDnsEnabled>{named}</privateDnsEnabled>"
        end = f"</{tag}>"
        return xml(endpoint, tag).removesuffix(end) + fields + end

    return vpce_fields_xml


# What a resource says where a filter asks; tags are MiniStack's own to compare.
FILTERS = {
    "vpc-id": lambda resource: [resource.get("VpcId")],
    "subnet-id": lambda resource: [resource.get("SubnetId")],
    "group-id": lambda resource: [
        group["GroupId"] if isinstance(group, dict) else group for group in resource.get("Groups") or []
    ],
}


def _filtered(table):
    def make(describe):
        def describe_filtered(params):
            filters = ec2._parse_filters(params)
            resources = getattr(ec2, table)
            shown = [
                key for key, resource in resources.items()
                if ec2._resource_matches_tag_filters(key, filters)
                and all(set(values) & set(FILTERS[name](resource))
                        for name, values in filters.items() if name in FILTERS)
            ]
            kind = {"_vpc_endpoints": "VpcEndpointId", "_addresses": "AllocationId"}.get(table, "NetworkInterfaceId")
            asked = ec2._parse_member_list(params, kind)
            ids = [key for key in shown if not asked or key in asked]
            # No id at all would mean all of them.
            numbered = {f"{kind}.{n}": [key] for n, key in enumerate(ids or ["none"], 1)}
            return describe({**params, **numbered})

        return describe_filtered

    return make
