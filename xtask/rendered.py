"""Every stack of the examples as CloudFormation would have it: `rendered.py STACKS DIRECTORY` writes a template without parameters
and conditions for each that differs from the others.

What a parameter is given stands where it is referred to, conditions are decided, and what they leave out is left out. What only a
resource that stands can tell (another stack's output) has the shape that it has in AWS. So the checkers see values where the
blueprints have parameters: whether an ARN is one, a name is too long, a policy names nothing.
"""

import hashlib
import json
import pathlib
import re
import sys

from cfnlint.decode import decode_str

ACCOUNT, REGION = "111122223333", "us-east-1"
HERE = f"{REGION}:{ACCOUNT}"
ID = "0123456789abcdef"
# The outputs of our blueprints, by their names.
OUTPUTS = {
    "AlternateTargetGroupName": f"targetgroup/others/{ID}",
    "AutoScalingGroup": "a-group",
    "Bucket": "a-bucket",
    "Certificate": f"arn:aws:acm:{HERE}:certificate/01234567-89ab-cdef-0123-456789abcdef",
    "Cluster": "a-cluster",
    "Credentials": f"arn:aws:secretsmanager:{HERE}:secret:credentials-AbCdEf",
    "Distribution": "E0123456789ABC",
    "DnsName": f"balancer-0123456789.{REGION}.elb.amazonaws.com",
    "Domain": "d111111abcdef8.cloudfront.net",
    "ExecutionRole": f"arn:aws:iam::{ACCOUNT}:role/execution",
    "FullName": f"app/balancer/{ID}",
    "Host": f"server.0123456789ab.{REGION}.rds.amazonaws.com",
    "Identifier": "a-server",
    "Identity": "somebody@example.com",
    "Listener": f"arn:aws:elasticloadbalancing:{HERE}:listener/app/balancer/{ID}/{ID}",
    "LogGroup": "/ecs/a-service",
    "Namespace": "ns-0123456789abcdef",
    "Port": "5432",
    "Secret": f"arn:aws:secretsmanager:{HERE}:secret:secret-AbCdEf",
    "Store": f"arn:aws:cloudfront::{ACCOUNT}:key-value-store/01234567-89ab-cdef-0123-456789abcdef",
    "TargetGroup": f"arn:aws:elasticloadbalancing:{HERE}:targetgroup/targets/{ID}",
    "TargetGroupName": f"targetgroup/targets/{ID}",
    "TaskRole": f"arn:aws:iam::{ACCOUNT}:role/task",
    "Topic": f"arn:aws:sns:{HERE}:a-topic",
    "Uri": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/images",
    "Url": "rediss://master.cache.0123456789.use1.cache.amazonaws.com:6379",
    "Zone": "Z35SXDOTRQ7X7K",
}
NOTHING = object()


def text(given):
    """What a parameter is given, as `platform::Value` puts it together."""
    if "text" in given:
        return given["text"]
    if "output" in given:
        return OUTPUTS[given["output"]]
    texts = [text(one) for one in given.get("list", given.get("joined"))]
    return ",".join(filter(None, texts)) if "list" in given else "".join(texts)


class Stack:
    def __init__(self, template, given):
        self.template = template
        self.declared = template.get("Parameters", {})
        self.values = {name: text(value) for name, value in given.items()}
        for name, parameter in self.declared.items():
            self.values.setdefault(name, parameter.get("Default"))
        self.conditions = {}

    def rendered(self):
        template = {key: value for key, value in self.template.items() if key not in ("Parameters", "Conditions")}
        # What Systems Manager tells stays a parameter, or the AMI's path would stand where its id is wanted.
        kept = {name: {**self.declared[name], "Default": self.values[name]} for name in self.declared if self.asked(name)}
        if kept:
            template["Parameters"] = kept
        for section in ("Resources", "Outputs"):
            there = {name: value for name, value in template.get(section, {}).items()
                     if "Condition" not in value or self.holds(value["Condition"])}
            template[section] = {name: {key: value for key, value in one.items() if key != "Condition"}
                                 for name, one in there.items()}
        return self.filled(template)

    def asked(self, name):
        return self.declared[name]["Type"].startswith("AWS::SSM::Parameter::Value")

    def holds(self, name):
        if name not in self.conditions:
            self.conditions[name] = self.decided(self.template["Conditions"][name])
        return self.conditions[name]

    def decided(self, condition):
        (function, argument), = condition.items()
        if function == "Condition":
            return self.holds(argument)
        if function == "Fn::Equals":
            left, right = (self.plain(side) for side in argument)
            return left == right
        if function == "Fn::Not":
            return not self.decided(argument[0])
        if function in ("Fn::And", "Fn::Or"):
            return (all if function == "Fn::And" else any)([self.decided(one) for one in argument])
        raise ValueError(f"a condition of {function}")

    def plain(self, value):
        filled = self.filled(value)
        if isinstance(filled, dict):
            (function, argument), = filled.items()
            if function == "Fn::Join":
                return argument[0].join(argument[1])
            if function == "Ref" and argument in PSEUDO:
                return PSEUDO[argument]
            raise ValueError(f"a condition about {function}")
        return str(filled)

    def parameter(self, name):
        value = self.values[name]
        if self.declared[name]["Type"] == "CommaDelimitedList" or self.declared[name]["Type"].startswith("List<"):
            return value.split(",")
        return value

    def is_given(self, name):
        return name in self.declared and not self.asked(name)

    def filled(self, value):
        if isinstance(value, list):
            return [one for one in map(self.filled, value) if one is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (key, argument), = value.items()
            if key == "Ref" and argument == "AWS::NoValue":
                return NOTHING
            if key == "Ref" and self.is_given(argument):
                return self.parameter(argument)
            if key == "Fn::If":
                name, yes, no = argument
                return self.filled(yes if self.holds(name) else no)
            if key == "Fn::Sub":
                return self.substituted(argument)
            if key == "Fn::Split":
                filled = self.filled(argument)
                return filled[1].split(filled[0]) if isinstance(filled[1], str) else {key: filled}
        filled = {key: self.filled(one) for key, one in value.items()}
        return {key: one for key, one in filled.items() if one is not NOTHING}

    def substituted(self, argument):
        form, names = argument if isinstance(argument, list) else (argument, {})
        names = self.filled(names)

        def known(match):
            name = match[1]
            if isinstance(names.get(name), str):
                return names[name]
            return str(self.values[name]) if name not in names and self.is_given(name) else match[0]

        form = re.sub(r"\$\{([^!}]+)\}", known, form)
        left = {name: value for name, value in names.items() if "${" + name + "}" in form}
        if "${" not in form:
            return form
        return {"Fn::Sub": [form, left] if left else form}


PSEUDO = {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": ACCOUNT}


def main():
    stacks, directory = map(pathlib.Path, sys.argv[1:])
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.json"):
        old.unlink()
    written = set()
    for environment in json.loads(stacks.read_text()):
        for stack in environment["stacks"]:
            template, errors = decode_str(stack["template"])
            if errors:
                sys.exit(f"{stack['name']}: {errors}")
            rendered = Stack(json.loads(json.dumps(template, default=str)), stack["parameters"]).rendered()
            body = json.dumps(rendered, indent=1)
            # Environments differ in their names more than in anything else.
            app, _, name = environment["environment"].rpartition("-")
            alike = re.sub(rf"\b{re.escape(environment['environment'])}\b", "*", body)
            alike = re.sub(rf"\b{re.escape(app)}\b", "*", re.sub(rf'"{re.escape(name)}"', '"*"', alike))
            mark = hashlib.sha256(alike.encode()).digest()
            if mark in written:
                continue
            written.add(mark)
            (directory / f"{stack['name']}.json").write_text(body)


main()
