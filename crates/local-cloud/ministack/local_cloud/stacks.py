"""CloudFormation: what our blueprints have and MiniStack's stacks do not, on the services that it has: types, and the images that
ECS publishes for instances.

A stack shows a parameter that names one of Parameter Store by that name, as it was given: MiniStack shows its value there, which
AWS shows beside it. A bucket has its template's tags and CloudFormation's own: MiniStack's has
none.
"""

from ministack.services import cloudformation, ec2, iam, s3, ssm, waf
from ministack.services.cloudformation import handlers, provisioners

from local_cloud.patch import replace


def install():
    for name, operations in _TYPES.items():
        provisioners._RESOURCE_HANDLERS.setdefault(name, operations)
    ssm._PUBLIC_AMI_PARAMETERS.update(_IMAGES)
    replace(handlers, "_describe_stacks", _with_names)
    provisioners._STACK_TAG_PROPERTY.setdefault("AWS::S3::Bucket", ("Tags", "list"))
    replace(provisioners, "_s3_apply_configurations", _with_tags)


def _with_names(describe):
    def describe_stacks(params):
        for stack in list(cloudformation._stacks.values()):
            resolved = stack.get("_resolved_params") or {}
            for parameter in stack.get("Parameters") or []:
                name = resolved.get(parameter["ParameterKey"], {}).get("SsmName")
                if name:
                    parameter["ParameterValue"] = name
        return describe(params)

    return describe_stacks


def _with_tags(apply):
    def apply_configurations(name, props, *rest):
        if tags := {tag["Key"]: tag["Value"] for tag in props.get("Tags") or []}:
            s3._bucket_tags[name] = tags
        return apply(name, props, *rest)

    return apply_configurations


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


def _oidc_provider(_logical_id, props, _stack_name):
    params = {"Url": [props["Url"]]}
    for number, client in enumerate(props.get("ClientIdList", []), 1):
        params[f"ClientIDList.member.{number}"] = [client]
    before = set(iam._oidc_providers)
    status, _, body = iam._create_oidc_provider(params)
    if status >= 400:
        raise ValueError(f"AWS::IAM::OIDCProvider create failed: {body!r}")
    (made,) = set(iam._oidc_providers) - before
    return made, {"Arn": made}


def _oidc_provider_gone(physical_id, _props):
    iam._oidc_providers.pop(physical_id, None)


_IMAGES = {
    "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id": "ami-0c2023a1b2c3d4e5f",
    "/aws/service/ecs/optimized-ami/amazon-linux-2023/arm64/recommended/image_id": "ami-0c2023a1b2c3d4e5f",
}

_TYPES = {
    "AWS::EC2::FlowLog": {"create": _flow_log, "delete": _flow_log_gone},
    "AWS::IAM::OIDCProvider": {"create": _oidc_provider, "delete": _oidc_provider_gone},
    "AWS::WAFv2::WebACLAssociation": {"create": _association, "delete": _association_gone},
}
