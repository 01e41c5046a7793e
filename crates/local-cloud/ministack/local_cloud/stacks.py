"""CloudFormation: what our blueprints have and MiniStack's stacks do not, on the services that it has: types, and the images that
ECS publishes for instances.
"""

from ministack.services import ec2, ssm, waf
from ministack.services.cloudformation import provisioners


def install():
    for name, handlers in _TYPES.items():
        provisioners._RESOURCE_HANDLERS.setdefault(name, handlers)
    ssm._PUBLIC_AMI_PARAMETERS.update(_IMAGES)


def _flow_log(_logical_id, props, _stack_name):
    group = props.get("LogGroupName") or props.get("LogDestination", "")
    params = {
        "ResourceId.1": [props["ResourceId"]], "ResourceType": [props["ResourceType"]],
        "TrafficType": [props.get("TrafficType", "ALL")],
        "LogDestinationType": [props.get("LogDestinationType", "cloud-watch-logs")], "LogDestination": [group],
    }
    before = set(ec2._flow_logs)
    ec2._create_flow_logs(params)
    (made,) = set(ec2._flow_logs) - before
    ec2._tags[made] = list(props.get("Tags", []))
    return made, {"Id": made}


def _flow_log_gone(physical_id, _props):
    ec2._flow_logs.pop(physical_id, None)
    ec2._tags.pop(physical_id, None)


def _association(_logical_id, props, _stack_name):
    waf._associations[props["ResourceArn"]] = props["WebACLArn"]
    return f"{props['WebACLArn']}|{props['ResourceArn']}", {}


def _association_gone(_physical_id, props):
    waf._associations.pop(props["ResourceArn"], None)


_IMAGES = {
    "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id": "ami-0c2023a1b2c3d4e5f",
    "/aws/service/ecs/optimized-ami/amazon-linux-2023/arm64/recommended/image_id": "ami-0c2023a1b2c3d4e5f",
}

_TYPES = {
    "AWS::EC2::FlowLog": {"create": _flow_log, "delete": _flow_log_gone},
    "AWS::WAFv2::WebACLAssociation": {"create": _association, "delete": _association_gone},
}
