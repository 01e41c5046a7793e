"""Calls that AWS checks on more than one resource, or as more than one action. MiniStack checks each call once."""

import contextvars
import json

from ministack.core import iam_actions, iam_evaluator

from local_cloud.patch import replace


def check_each(service, checks):
    """Has a service's calls checked by all of `checks(action, parameters, region)`, each an action with its service, an ARN and
    condition keys of its own; where there are none, as MiniStack does. The parameters are those of the form, or the JSON."""
    remembered = contextvars.ContextVar(f"local_cloud_{service}_parameters", default=None)

    def remember_parameters(extract):
        def extract_resource_arn(named, method, path, headers, body, query_params, region, account_id):
            is_json = "x-amz-target" in headers
            parameters = json.loads(body or b"{}") if named == service and is_json else query_params
            remembered.set(parameters if named == service else None)
            return extract(named, method, path, headers, body, query_params, region, account_id)

        return extract_resource_arn

    def check_resources(enforce):
        def enforce_each(access_key_id, iam_action, named, region, resource_arn="*", service_context=None):
            parameters = remembered.get() if named == service else None
            found = [] if parameters is None else checks(iam_action, parameters, region)
            for action, arn, keys in found or [(iam_action, resource_arn, {})]:
                context = {**(service_context or {}), **keys}
                if denied := enforce(access_key_id, action, named, region, arn, context):
                    return denied
            return None

        return enforce_each

    replace(iam_actions, "extract_resource_arn", remember_parameters)
    replace(iam_evaluator, "enforce", check_resources)
