"""S3: a range of a version is a range, who may list a bucket is told that an object is missing, and an upload in parts can be
checked as a whole."""

import contextvars

from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
from ministack.core.responses import get_region
from ministack.services import s3

from local_cloud.patch import replace

_whole = contextvars.ContextVar("local_cloud_whole_checksum", default=None)


def install():
    replace(s3, "_get_object", _slice_versions)
    replace(s3, "_complete_multipart_upload", _check_whole)
    replace(s3, "_composite_checksum", _of_whole)
    replace(s3, "serve_cloudfront_origin_fetch", _tell_missing)


def _slice_versions(get):
    def get_object(bucket_name, key, headers, query_params=None, *rest, **more):
        status, answer, body = get(bucket_name, key, headers, query_params, *rest, **more)
        asked = headers.get("range", "")
        if status != 200 or not asked or not s3._qp(query_params or {}, "versionId", ""):
            return status, answer, body
        found = s3._parse_range(asked, len(body))
        if found is None:
            error = s3._xml_body(s3._range_error_xml(bucket_name, key))
            return 416, {"Content-Type": "application/xml", "Content-Range": f"bytes */{len(body)}"}, error
        start, end = found
        # A checksum is one of the whole object.
        answer = {name: value for name, value in answer.items() if not name.lower().startswith("x-amz-checksum-")}
        answer["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
        answer["Content-Length"] = str(end - start + 1)
        return 206, answer, body[start : end + 1]

    return get_object


def _tell_missing(serve):
    def fetch(bucket_name, key, method, headers, source_arn="", oai_id=""):
        status, answer, body = serve(bucket_name, key, method, headers, source_arn=source_arn, oai_id=oai_id)
        bucket = s3._ensure_bucket(bucket_name)
        if status == 403 and bucket is not None and key not in bucket["objects"] and _may_list(bucket_name, source_arn):
            return s3._error("NoSuchKey", "The specified key does not exist.", 404, f"/{bucket_name}/{key}")
        return status, answer, body

    return fetch


# https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html#Full-object-checksums
def _check_whole(complete):
    def complete_upload(bucket_name, key, body, query_params, headers=None):
        upload = s3._multipart_uploads.get(s3._qp(query_params, "uploadId"))
        if (headers or {}).get("x-amz-checksum-type") != "FULL_OBJECT" or upload is None:
            return complete(bucket_name, key, body, query_params, headers)
        content = b"".join(part["body"] for _, part in sorted(upload["parts"].items()))
        token = _whole.set(s3._compute_s3_checksum(upload["checksum_algorithm"], content))
        try:
            status, answer, text = complete(bucket_name, key, body, query_params, headers)
        finally:
            _whole.reset(token)
        if status == 200:
            s3._ensure_bucket(bucket_name)["objects"][key]["checksum_type"] = "FULL_OBJECT"
            text = text.replace(b"COMPOSITE", b"FULL_OBJECT")
        return status, answer, text

    return complete_upload


def _of_whole(composite):
    return lambda algorithm, parts: _whole.get() or composite(algorithm, parts)


def _may_list(bucket_name, source_arn):
    owner = s3._bucket_owner_account(bucket_name) or s3.get_account_id()
    policy = s3._bucket_policies.get_scoped(owner, None, bucket_name)
    if not policy or not source_arn:
        return False
    context = EvalContext(
        principal_arn="*",
        principal_type="Service",
        principal_account="",
        action="s3:ListBucket",
        resource_arn=f"arn:aws:s3:::{bucket_name}",
        region=get_region(),
        service_context={"aws:sourcearn": source_arn},
    )
    return evaluate_resource_policy(policy, context, service="cloudfront.amazonaws.com").decision == "Allow"
