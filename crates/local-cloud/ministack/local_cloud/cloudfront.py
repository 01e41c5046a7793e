"""CloudFront: functions read their key-value store and the whole query, an origin group asks its second origin, and who
reads or writes a store needs the right on that store.

A function has the module `cloudfront`: `cf.kvs()` reads the store that the function is associated with, as it is now; a key
that is not there is an error. A request has `rawQueryString()`. Where a cache behaviour's target is an origin group, the
second origin is asked when the first answers with a status of the group's criteria or not at all, for GET, HEAD and
OPTIONS only.
"""

import contextvars
import sys
from urllib.parse import unquote

from ministack.core import cloudfront_js, iam_actions
from ministack.services import cloudfront, cloudfront_keyvaluestore

from local_cloud.patch import replace

_query = contextvars.ContextVar("local_cloud_query", default="")

_MODULES = "const _ALLOWED_MODULES = {"
_REQUEST = "const { code, event } = req;"

_STORE = r"""
let _stored = null;

const _kvs = {
  async get(key, options) {
    if (!Object.hasOwn(_stored.values, key)) throw new Error("KeyNotFound: " + key);
    const value = _stored.values[key];
    const format = (options && options.format) || "string";
    if (format === "json") return JSON.parse(value);
    return format === "bytes" ? Buffer.from(value) : value;
  },
  async exists(key) {
    return Object.hasOwn(_stored.values, key);
  },
  async meta() {
    const { created, changed, values } = _stored;
    return { creationDateTime: created, lastUpdatedDateTime: changed, keyCount: Object.keys(values).length };
  },
};
const _cloudfront = {
  kvs() {
    if (!_stored) throw new Error("no key value store is associated with this function");
    return _kvs;
  },
};
"""

_TAKE = """
  const { stored, query, ...given } = req.event;
  const event = given, code = req.code;
  _stored = stored;
  event.request.rawQueryString = () => (query === null ? undefined : query);
"""


def install():
    script = cloudfront_js._pool.script
    for part in (_MODULES, _REQUEST):
        if script.count(part) != 1:
            sys.exit(f"the worker of CloudFront functions has no `{part}`: this MiniStack is not the pinned version")
    script = script.replace(_MODULES, _STORE + _MODULES + " cloudfront: _cloudfront,")
    cloudfront_js._pool.script = script.replace(_REQUEST, _TAKE)
    replace(iam_actions, "extract_resource_arn", _name_store)
    replace(cloudfront, "handle_viewer_request", _remember_query)
    replace(cloudfront, "_run_function", _give_store)
    replace(cloudfront, "parse_distribution_dataplane_config", _add_groups)
    replace(cloudfront, "_fetch_from_origin", _fail_over)


def _name_store(extract):
    def extract_resource_arn(service, method, path, *rest, **more):
        if service == "cloudfront-keyvaluestore":
            return unquote(path).removeprefix("/key-value-stores/").partition("/keys")[0]
        return extract(service, method, path, *rest, **more)

    return extract_resource_arn


def _remember_query(handle):
    async def handle_viewer_request(dist, method, path, raw_uri, raw_query_string, *rest, **more):
        _query.set(raw_query_string)
        return await handle(dist, method, path, raw_uri, raw_query_string, *rest, **more)

    return handle_viewer_request


def _give_store(run):
    async def run_function(function_arn, event):
        return await run(function_arn, {**event, "stored": _stored(function_arn), "query": _query.get() or None})

    return run_function


def _stored(function_arn):
    function = cloudfront._functions.get(function_arn.rsplit("/", 1)[-1]) or {}
    for arn in function.get("kvs_arns") or []:
        store, error = cloudfront_keyvaluestore._get_store(arn)
        if error is None:
            changed = next((s["LastModifiedTime"] for s in cloudfront._kvstores.values() if s["ARN"] == arn), "")
            return {"values": store["items"], "created": changed, "changed": changed}
    return None


def _add_groups(parse):
    def parse_with_groups(dist):
        parsed = parse(dist)
        groups = cloudfront._find(cloudfront._dist_config_el(dist), "OriginGroups")
        for group in _items(groups, "OriginGroup"):
            members = [cloudfront._text(member, "OriginId") for member in _items(
                cloudfront._find(group, "Members"), "OriginGroupMember")]
            criteria = cloudfront._find(cloudfront._find(group, "FailoverCriteria"), "StatusCodes")
            parsed["origins"][cloudfront._text(group, "Id")] = {
                "domain_name": ", ".join(members),
                "members": [parsed["origins"][member] for member in members],
                "statuses": {int(code.text) for code in _items(criteria, "StatusCode")},
            }
        return parsed

    return parse_with_groups


def _items(parent, tag):
    items = cloudfront._find(parent, "Items") if parent is not None else None
    return [] if items is None else [item for item in items if cloudfront._local_tag_name(item) == tag]


def _fail_over(fetch):
    async def fetch_from_origin(origin, method, *rest, **more):
        if "members" not in origin:
            return await fetch(origin, method, *rest, **more)
        first, second = origin["members"]
        may_fail_over = method in ("GET", "HEAD", "OPTIONS")
        try:
            answer = await fetch(first, method, *rest, **more)
        except (cloudfront.OriginTimeout, cloudfront.OriginUnreachable):
            if not may_fail_over:
                raise
        else:
            if not may_fail_over or answer[0] not in origin["statuses"]:
                return answer
        return await fetch(second, method, *rest, **more)

    return fetch_from_origin
