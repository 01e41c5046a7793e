"""CloudFormation: what MiniStack's stacks leave out of resources that hold data, each as AWS does it."""

import hashlib
import json
from xml.etree.ElementTree import Element, SubElement, tostring

from ministack.services import elasticache, rds, s3, secretsmanager, ses_v2
from ministack.services.cloudformation import provisioners

from local_cloud.patch import replace


def install():
    replace(provisioners, "_sm_secret_string", lambda _original: _secret_string)
    replace(provisioners, "_ses_email_identity_apply", _identity_with_tokens)
    identities = provisioners._RESOURCE_HANDLERS["AWS::SES::EmailIdentity"]
    for operation in ("create", "update"):
        identities[operation] = _with_records(identities[operation])
    buckets = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]
    buckets["create"] = _bucket_created(buckets["create"])
    buckets["update"] = _bucket_updated(buckets["update"])
    provisioners._RESOURCE_HANDLERS["AWS::ElastiCache::ReplicationGroup"]["snapshot"] = _last_snapshot
    provisioners._STACK_TAG_PROPERTY.setdefault("AWS::RDS::DBCluster", ("Tags", "list"))
    clusters = provisioners._RESOURCE_HANDLERS["AWS::RDS::DBCluster"]
    clusters["create"] = _cluster_with_tags(clusters["create"])


def _secret_string(props):
    """A generated value is of the characters that GetRandomPassword would take; MiniStack's stacks know two of the options."""
    generate = props.get("GenerateSecretString")
    if props.get("SecretString") or not generate:
        return props.get("SecretString", "")
    options = {name: _plain(value) for name, value in generate.items()}
    status, _, body = secretsmanager._get_random_password(options)
    if status >= 400:
        raise ValueError(f"AWS::SecretsManager::Secret create failed: {body!r}")
    password = json.loads(body)["RandomPassword"]
    if "SecretStringTemplate" not in generate:
        return password
    return json.dumps({**json.loads(generate["SecretStringTemplate"]), generate["GenerateStringKey"]: password})


def _plain(value):
    """A parameter's value is a text, also where the property is a number or a boolean."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value, int(value) if value.isdigit() else value)
    return value


def _identity_with_tokens(original):
    """A domain has three tokens from the start."""

    def apply(identity, props):
        made = original(identity, props)
        if "@" not in identity:
            made["DkimAttributes"]["Tokens"] = [
                hashlib.sha256(f"{identity}/{number}".encode()).hexdigest()[:32] for number in range(3)]
        return made

    return apply


def _with_records(original):
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-ses-emailidentity.html"""

    def handler(*args, **kwargs):
        identity, attributes = original(*args, **kwargs)
        tokens = ses_v2._identities[identity]["DkimAttributes"]["Tokens"]
        for number, token in enumerate(tokens, 1):
            attributes[f"DkimDNSTokenName{number}"] = f"{token}._domainkey.{identity}"
            attributes[f"DkimDNSTokenValue{number}"] = f"{token}.dkim.amazonses.com"
        return identity, attributes

    return handler


def _cluster_with_tags(original):
    def create(logical_id, props, stack_name):
        made = original(logical_id, props, stack_name)
        rds._clusters[made[0]]["TagList"] = props.get("Tags", [])
        return made

    return create


def _bucket_created(original):
    def create(logical_id, props, stack_name):
        made = original(logical_id, props, stack_name)
        _put_lifecycle(made[0], props)
        return made

    return create


def _bucket_updated(original):
    def update(physical_id, old_props, new_props, *rest):
        made = original(physical_id, old_props, new_props, *rest)
        _put_lifecycle(made[0], new_props)
        return made

    return update


def _put_lifecycle(bucket, props):
    rules = (props.get("LifecycleConfiguration") or {}).get("Rules") or []
    if not rules:
        s3._bucket_lifecycle.pop(bucket, None)
        return
    root = Element("LifecycleConfiguration", xmlns=s3.S3_NS)
    for rule in rules:
        made = SubElement(root, "Rule")
        if "Id" in rule:
            _add(made, "ID", rule["Id"])
        _add(SubElement(made, "Filter"), "Prefix", rule.get("Prefix", ""))
        _add(made, "Status", rule["Status"])
        expiration = {"Days": rule.get("ExpirationInDays"), "ExpiredObjectDeleteMarker": rule.get("ExpiredObjectDeleteMarker")}
        for name, values in (
            ("Expiration", expiration),
            ("NoncurrentVersionExpiration", rule.get("NoncurrentVersionExpiration") or {}),
            ("AbortIncompleteMultipartUpload", rule.get("AbortIncompleteMultipartUpload") or {}),
        ):
            values = {key: value for key, value in values.items() if value is not None}
            if values:
                part = SubElement(made, name)
                for key, value in values.items():
                    _add(part, key, str(value).lower())
    status, _, body = s3._put_bucket_lifecycle(bucket, tostring(root))
    if status >= 400:
        raise ValueError(f"AWS::S3::Bucket LifecycleConfiguration rejected: {body!r}")


def _add(parent, name, text):
    SubElement(parent, name).text = str(text)


def _last_snapshot(physical_id, _props):
    elasticache._create_snapshot({
        "SnapshotName": [provisioners._snapshot_id(physical_id)], "ReplicationGroupId": [physical_id]})
