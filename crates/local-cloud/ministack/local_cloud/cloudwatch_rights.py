"""CloudWatch takes CBOR too, and then the path names the operation. MiniStack's IAM does not look there: it would let every call
pass, and cannot read such a body. What is asked so is DescribeAlarms, which is about all alarms.
"""

from ministack.core import iam_actions

from local_cloud.patch import replace


def install():
    replace(iam_actions, "extract_iam_action", _name_operation)
    replace(iam_actions, "extract_resource_arn", _name_all)


def _operation(service, path):
    return path.partition("/operation/")[2] if service == "monitoring" else ""


def _name_operation(extract):
    def extract_iam_action(service, method, path, headers, body, query_params):
        if operation := _operation(service, path):
            return f"cloudwatch:{operation}"
        return extract(service, method, path, headers, body, query_params)

    return extract_iam_action


def _name_all(extract):
    def extract_resource_arn(service, method, path, headers, body, query_params, region, account_id):
        if _operation(service, path):
            return "*"
        return extract(service, method, path, headers, body, query_params, region, account_id)

    return extract_resource_arn
