"""Whether the table by which `shipway plan` tells what cannot change in place agrees with the schemas of the types.

The schemas are those that cfn-lint brings. Arguments: the table, and the templates whose types it must have.
"""

import json
import sys
from pathlib import Path

import cfnlint
from cfnlint.decode import decode

# What a type's page says is made anew though its schema does not, each with the page that says so.
BESIDES = {
    ("AWS::RDS::DBInstance", "Port"):
        "https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-rds-dbinstance.html",
}


def schemas():
    folder = Path(cfnlint.__file__).parent / "data" / "schemas"
    of_type = json.loads((folder / "providers" / "us-east-1.json").read_text())
    return lambda kind: json.loads((folder / "resources" / f"{of_type[kind]}.json").read_text())


def differences(table, templates):
    schema = schemas()
    for template in templates:
        resources = decode(template)[0].get("Resources", {})
        for name, resource in resources.items():
            if resource["Type"] not in table:
                yield f"{template}: {name} is a {resource['Type']}, which the table has not"
    for kind, entry in table.items():
        known = schema(kind)
        listed = set(entry["replace"])
        fixed = {path.removeprefix("/properties/") for path in known.get("createOnlyProperties", [])}
        for path in sorted(fixed - listed):
            yield f"{kind}: {path} cannot change in place, and is not under `replace`"
        for path in sorted(listed - fixed):
            if (kind, path) not in BESIDES:
                yield f"{kind}: {path} is under `replace`, and its schema lets it change"
        for path in entry["replace"] + entry.get("interrupt", []):
            if path.split("/")[0] not in known["properties"]:
                yield f"{kind}: it has no property {path}"


def main():
    table, *templates = sys.argv[1:]
    found = list(differences(json.loads(Path(table).read_text()), templates))
    for difference in found:
        print(difference)
    sys.exit(1 if found else 0)


main()
