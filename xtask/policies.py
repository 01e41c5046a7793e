"""Every IAM policy of the given templates, judged by parliament.

A template's policies hold intrinsic functions; those are replaced by text of the shape that CloudFormation would put
there. SAM templates are expanded first, so that the policies of its functions are those that would be deployed.
"""

import json
import re
import sys

from cfnlint.decode import decode
from parliament import analyze_policy_string
from samtranslator.parser.parser import Parser
from samtranslator.sdk.parameter import SamParameterValues
from samtranslator.translator.translator import Translator

PSEUDO = {"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "111122223333", "AWS::StackName": "shipway",
          "AWS::URLSuffix": "amazonaws.com", "AWS::NoValue": ""}
# The ARN of a resource by its type, for `!GetAtt X.Arn` and for types whose `!Ref` is the ARN.
ARNS = {
    "AWS::Lambda::Function": "arn:aws:lambda:us-east-1:111122223333:function:{}",
    "AWS::StepFunctions::StateMachine": "arn:aws:states:us-east-1:111122223333:stateMachine:{}",
    "AWS::DynamoDB::Table": "arn:aws:dynamodb:us-east-1:111122223333:table/{}",
    "AWS::S3::Bucket": "arn:aws:s3:::{}",
    "AWS::SQS::Queue": "arn:aws:sqs:us-east-1:111122223333:{}",
    "AWS::SNS::Topic": "arn:aws:sns:us-east-1:111122223333:{}",
    "AWS::IAM::Role": "arn:aws:iam::111122223333:role/{}",
    "AWS::IAM::ManagedPolicy": "arn:aws:iam::111122223333:policy/{}",
    "AWS::KMS::Key": "arn:aws:kms:us-east-1:111122223333:key/{}",
    "AWS::Logs::LogGroup": "arn:aws:logs:us-east-1:111122223333:log-group:{}:*",
    "AWS::Events::ApiDestination": "arn:aws:events:us-east-1:111122223333:api-destination/{}/1",
    "AWS::ECR::Repository": "arn:aws:ecr:us-east-1:111122223333:repository/{}",
    "AWS::ECS::Cluster": "arn:aws:ecs:us-east-1:111122223333:cluster/{}",
    "AWS::SecretsManager::Secret": "arn:aws:secretsmanager:us-east-1:111122223333:secret:{}",
    "AWS::CloudFront::Distribution": "arn:aws:cloudfront::111122223333:distribution/{}",
    "AWS::ElasticLoadBalancingV2::TargetGroup": "arn:aws:elasticloadbalancing:us-east-1:111122223333:targetgroup/{}/1",
    "AWS::ElasticLoadBalancingV2::ListenerRule": "arn:aws:elasticloadbalancing:us-east-1:111122223333:listener-rule/app/a/1/2/{}",
}
REF_IS_ARN = {"AWS::StepFunctions::StateMachine", "AWS::SNS::Topic", "AWS::IAM::ManagedPolicy",
              "AWS::SecretsManager::Secret", "AWS::ElasticLoadBalancingV2::TargetGroup",
              "AWS::ElasticLoadBalancingV2::ListenerRule"}
# parliament's findings that are no faults here, each with its reason. A single resource accepts one by its metadata:
# `Metadata: {parliament: {RESOURCE_MISMATCH: "the reason"}}`.
ACCEPTED = {
    "RESOURCE_STAR": "many Describe and List actions know no resource; the contract tests hold the list of them",
    "RESOURCE_EFFECTIVELY_STAR": "the same",
    "NO_VERSION": "SAM's own policy templates carry none",
}
# Actions that are newer than parliament's list of them.
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html
NEWER = {"ecs:ContinueServiceDeployment", "ecs:StopServiceDeployment"}


def plain(value, resources, parameters):
    """The value with every intrinsic function replaced by text."""
    if isinstance(value, list):
        return [plain(item, resources, parameters) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (key, argument), = value.items()
        if key == "Ref":
            return reference(argument, resources, parameters)
        if key == "Fn::GetAtt":
            name, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
            return attribute_of(name, attribute, resources)
        if key == "Fn::Sub":
            text, values = argument if isinstance(argument, list) else (argument, {})
            values = plain(values, resources, parameters)
            return re.sub(r"\$\{(!?)([^}]+)\}", lambda m: substitute(m, values, resources, parameters), text)
        if key == "Fn::Join":
            separator, parts = argument
            return separator.join(str(part) for part in plain(parts, resources, parameters))
        if key == "Fn::If":
            # The first branch is the one that grants.
            return plain(argument[1], resources, parameters)
        if key == "Fn::Select":
            return plain(argument[1], resources, parameters)[int(argument[0])]
        if key == "Fn::Split":
            separator, text = argument
            return str(plain(text, resources, parameters)).split(separator)
        if key.startswith("Fn::"):
            return "*"
    return {key: plain(item, resources, parameters) for key, item in value.items()}


def substitute(match, values, resources, parameters):
    literal, name = match.groups()
    if literal:
        return "${" + name + "}"
    if name in values:
        return str(values[name])
    if "." in name:
        return attribute_of(*name.split(".", 1), resources)
    return reference(name, resources, parameters)


def reference(name, resources, parameters):
    if name in PSEUDO:
        return PSEUDO[name]
    kind = resources.get(name, {}).get("Type")
    if kind in REF_IS_ARN:
        return ARNS[kind].format(name)
    default = parameters.get(name, {}).get("Default")
    if default not in (None, ""):
        return str(default)
    if name in parameters and name.endswith(("Arn", "Arns", "Listener")):
        # Whatever it will be, it is an ARN.
        return "*"
    return name.lower() if kind == "AWS::S3::Bucket" else name


def attribute_of(name, attribute, resources):
    kind = resources.get(name, {}).get("Type")
    if attribute.endswith("Arn") and kind in ARNS:
        return ARNS[kind].format(name.lower() if kind == "AWS::S3::Bucket" else name)
    return name


class Managed:
    """The translator asks for AWS's managed policies by name; their text is not ours to judge."""

    def load(self):
        return {}


def expanded(path):
    template, errors = decode(path)
    if errors:
        sys.exit("\n".join(str(error) for error in errors))
    template = json.loads(json.dumps(template, default=str))
    if template.get("Transform") != "AWS::Serverless-2016-10-31":
        return template
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        # SAM wants these in S3; the policies do not depend on them.
        if resource["Type"] == "AWS::Serverless::Function":
            properties["CodeUri"] = "s3://bucket/key"
        if resource["Type"] == "AWS::Serverless::StateMachine":
            properties["DefinitionUri"] = "s3://bucket/key"
    SamParameterValues({}).add_default_parameter_values(template)
    session = type("Session", (), {"region_name": "us-east-1"})()
    translator = Translator(Managed().load(), Parser(), boto_session=session)
    return translator.translate(template, {})


def policies(template):
    """(where, policy document, findings its resource accepts) of every policy in a template."""
    for name, resource in template.get("Resources", {}).items():
        properties = resource.get("Properties") or {}
        accepted = (resource.get("Metadata") or {}).get("parliament") or {}
        kind = resource.get("Type")
        if kind in ("AWS::IAM::Role", "AWS::IAM::User", "AWS::IAM::Group"):
            for policy in properties.get("Policies") or []:
                if isinstance(policy, dict) and "Fn::If" in policy:
                    policy = policy["Fn::If"][1]
                yield f"{name}, policy {policy.get('PolicyName')}", policy.get("PolicyDocument"), accepted
        if kind in ("AWS::IAM::ManagedPolicy", "AWS::IAM::Policy"):
            yield name, properties.get("PolicyDocument"), accepted


def main():
    bad = 0
    for path in sys.argv[1:]:
        template = expanded(path)
        resources, parameters = template.get("Resources", {}), template.get("Parameters", {})
        for where, document, accepted in policies(template):
            if not document:
                continue
            text = json.dumps(plain(document, resources, parameters))
            for finding in analyze_policy_string(text).findings:
                if finding.issue in ACCEPTED or accepted.get(finding.issue):
                    continue
                if finding.issue == "UNKNOWN_ACTION" and any(str(finding.detail).endswith(action) for action in NEWER):
                    continue
                bad += 1
                print(f"{path}: {where}: {finding.issue}: {finding.detail or finding.title}{near(text, finding)}")
    sys.exit(1 if bad else 0)


def near(text, finding):
    """The statement a finding is about, as far as parliament tells."""
    column = (finding.location or {}).get("column")
    return f"\n    near {text[max(0, column - 60):column + 140]}" if column else ""


main()
