"""ECR: a pushed image is announced to EventBridge, its size is that of its layers, which can be fetched where the registry is, a
deleted one is gone, and its scan says what a test lets it say. An image is shown under the tag that it is asked for by; the same
image under the same tag again is refused. IAM knows the tags of repositories.
"""

import json
import logging
import threading
import uuid
from collections import Counter
from datetime import datetime, timezone

from ministack.core.responses import error_response_json, get_account_id, get_region, json_response
from ministack.services import ecr, tagging

from local_cloud import eventbridge
from local_cloud.patch import replace

logger = logging.getLogger("local-cloud")

# The repositories whose pushes are not announced.
_silent = set()

# What DescribeImageScanFindings answers, by repository and digest. Nothing is scanned here: where a test said nothing, nothing was found.
_scans = {}


def install():
    replace(ecr, "_v2_put_manifest", _after_push)
    replace(ecr, "_put_image", _after_put_image)
    replace(ecr, "_batch_delete_image", _after_delete)
    tagging._RESOURCE_TAG_COLLECTORS["ecr"] = tagging._collect_ecr
    replace(ecr, "_batch_get_image", lambda _original: _batch_get_image)
    replace(ecr, "handle_request", _with_layers_and_scans)


def set_delivery(body):
    """Whether pushes to a repository are announced."""
    change = _silent.discard if body["deliver"] else _silent.add
    change(body["repository"])
    return {}


def _after_push(put):
    def put_manifest(name, reference, headers, body):
        status, answer_headers, answer = put(name, reference, headers, body)
        if status == 201:
            digest = answer_headers["Docker-Content-Digest"]
            tag = None if reference.startswith("sha256:") else reference
            _pushed(name, digest, tag)
        return status, answer_headers, answer

    return put_manifest


def _after_put_image(put):
    def put_image(data):
        name, tag = data["repositoryName"], data.get("imageTag")
        digest = data.get("imageDigest") or ecr._image_digest(data["imageManifest"])
        there = ecr._find_image(name, {"imageDigest": digest})
        if there and tag in there["imageTags"]:
            message = f"Image with digest '{digest}' and tag '{tag}' already exists in the repository with name '{name}'"
            return error_response_json("ImageAlreadyExistsException", message, 400)
        status, headers, body = put(data)
        if status == 200:
            image = json.loads(body)["image"]
            digest = image["imageId"]["imageDigest"]
            # A tag added through the API must be pullable through the registry too.
            blobs = ecr._manifest_blobs.setdefault(data["repositoryName"], {})
            blobs.setdefault(digest, data.get("imageManifest", "").encode())
            _pushed(data["repositoryName"], digest, data.get("imageTag"))
        return status, headers, body

    return put_image


def _after_delete(delete):
    """What was deleted cannot be pulled any more, by its digest neither."""

    def batch_delete_image(data):
        answer = delete(data)
        name = data.get("repositoryName", "")
        there = {image["imageDigest"] for image in ecr._images.get(name, [])}
        for deleted in json.loads(answer[2]).get("imageIds", []):
            if deleted.get("imageDigest") not in there:
                ecr._manifest_blobs.get(name, {}).pop(deleted.get("imageDigest"), None)
        return answer

    return batch_delete_image


def _batch_get_image(data):
    name = data["repositoryName"]
    if name not in ecr._repositories:
        message = f"The repository with name '{name}' does not exist"
        return error_response_json("RepositoryNotFoundException", message, 400)
    found, failures = [], []
    for image_id in data["imageIds"]:
        if image := ecr._find_image(name, image_id):
            found.append({
                "registryId": get_account_id(), "repositoryName": name,
                "imageId": {**image_id, "imageDigest": image["imageDigest"]},
                "imageManifest": image["imageManifest"], "imageManifestMediaType": image["imageManifestMediaType"],
            })
        else:
            failures.append({
                "imageId": image_id, "failureCode": "ImageNotFound", "failureReason": "Requested image not found",
            })
    return json_response({"images": found, "failures": failures})


def _pushed(name, digest, tag):
    image = next((i for i in ecr._images.get(name, []) if i["imageDigest"] == digest), None)
    if image is None:
        return
    manifest = json.loads(image["imageManifest"])
    sizes = [layer["size"] for layer in manifest.get("layers", [])]
    if sizes:
        image["imageSizeInBytes"] = sum(sizes)
    detail = {
        "result": "SUCCESS",
        "repository-name": name,
        "image-digest": digest,
        "action-type": "PUSH",
        "manifest-media-type": image["imageManifestMediaType"],
    }
    if "config" in manifest:
        detail["artifact-media-type"] = manifest["config"]["mediaType"]
    if tag is not None:
        detail["image-tag"] = tag
    event = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "ECR Image Action",
        "source": "aws.ecr",
        "account": get_account_id(),
        "time": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": get_region(),
        "resources": [],
        "detail": detail,
    }
    if name in _silent:
        logger.info("push event of %s@%s dropped, as asked", name, digest)
        return
    threading.Thread(target=eventbridge.deliver, args=(event,), daemon=True, name="local-cloud-push").start()


def set_scan(body):
    """What the scan of an image says from now on: its status, none for an image without a scan, and its findings, each with
    a severity and a name."""
    _scans[body["repository"], body["digest"]] = body
    return {}


def _with_layers_and_scans(handle):
    async def handle_request(method, path, headers, body, query_params):
        if headers.get("x-amz-target", "").endswith(".DescribeImageScanFindings"):
            return _describe_image_scan_findings(json.loads(body or b"{}"))
        if headers.get("x-amz-target", "").endswith(".GetDownloadUrlForLayer"):
            return _get_download_url_for_layer(json.loads(body or b"{}"), headers.get("host"))
        return await handle(method, path, headers, body, query_params)

    return handle_request


def _get_download_url_for_layer(data, host):
    """AWS answers a URL of S3's that is signed; MiniStack one under ECR's own name, which leads nowhere here."""
    name, digest = data["repositoryName"], data["layerDigest"]
    if digest not in ecr._layer_blobs.get(name, {}):
        return error_response_json("LayersNotFoundException", f"The layer {digest} does not exist in {name}", 400)
    return json_response({"downloadUrl": f"http://{host}/v2/{name}/blobs/{digest}", "layerDigest": digest})


def _describe_image_scan_findings(data):
    name, image_id = data["repositoryName"], data["imageId"]
    image = ecr._find_image(name, image_id)
    if image is None:
        return error_response_json("ImageNotFoundException", f"The image with imageId {image_id} does not exist", 400)
    digest = image["imageDigest"]
    scan = _scans.get((name, digest), {"status": "COMPLETE", "findings": []})
    if scan["status"] is None:
        return error_response_json("ScanNotFoundException", f"Image scan does not exist for the image with {image_id}", 400)
    answer = {
        "registryId": get_account_id(), "repositoryName": name, "imageId": {"imageDigest": digest},
        "imageScanStatus": {"status": scan["status"]},
    }
    if scan["status"] in ("COMPLETE", "ACTIVE"):
        found = scan["findings"]
        answer["imageScanFindings"] = {
            "findings": found,
            "findingSeverityCounts": dict(Counter(finding["severity"] for finding in found)),
        }
    return json_response(answer)
