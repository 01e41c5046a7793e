"""DynamoDB tells IAM the partition keys that a call names (`dynamodb:LeadingKeys`). MiniStack does not.

For the calls of one item, for Query, and for a transaction, whose items' keys are told together: whoever may not touch one of them
may not touch any. Batches name several tables, and nothing here is bound for them.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html
"""

import json
import re

from ministack.core import iam_actions
from ministack.services import dynamodb

from local_cloud.patch import replace


def install():
    replace(iam_actions, "dynamodb_service_context", _know_leading_keys)


def _know_leading_keys(context_of):
    def dynamodb_service_context(body):
        context = context_of(body)
        try:
            call = json.loads(body or b"{}")
        except ValueError:
            return context
        calls = [item for items in call.get("TransactItems", []) for item in items.values()] or [call]
        if leading := [key for one in calls for key in _keys(one)]:
            context["dynamodb:LeadingKeys"] = leading
        return context

    return dynamodb_service_context


def _keys(call):
    table = dynamodb._tables.get(str(call.get("TableName", "")).rpartition("/")[2])
    leading = _leading(call, table["pk_name"]) if table else None
    return [next(iter(leading.values()))] if leading else []


def _leading(call, name):
    """The value of the partition key, as `{"S": "a"}`."""
    if named := call.get("Key") or call.get("Item"):
        return named.get(name)
    if conditions := call.get("KeyConditions"):
        return conditions.get(name, {}).get("AttributeValueList", [None])[0]
    names, values = call.get("ExpressionAttributeNames", {}), call.get("ExpressionAttributeValues", {})
    for left, right in re.findall(r"([#\w.-]+)\s*=\s*(:\w+)", call.get("KeyConditionExpression", "")):
        if names.get(left, left) == name:
            return values.get(right)
    return None
