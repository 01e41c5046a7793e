//! Which operation of which service a request asks for, read from the request alone.

use http::{HeaderMap, Method, Uri};

/// A call of AWS's API.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Operation {
    /// The service as its signature names it: `ecs`, `s3`, `elasticloadbalancing`; `registry` for `docker push`;
    /// empty for a request without signature.
    pub service: String,
    /// The operation, `UpdateService`; for one we have no name for, method and path: `GET /2020-05-31/key-group`.
    pub name: String,
}

/// How a service writes its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `x-amz-target` and a JSON body.
    Json,
    /// JSON with the error's name in a header.
    RestJson,
    /// A form and XML.
    Query,
    /// EC2's own XML.
    Ec2,
    /// S3 and CloudFront.
    Xml,
}

impl Operation {
    /// `form` is the body of a form request, `None` for every other.
    pub(crate) fn of(method: &Method, uri: &Uri, headers: &HeaderMap, form: Option<&str>) -> (Self, Protocol) {
        let path = uri.path();
        let query = uri.query().unwrap_or_default();
        let service = signed_service(headers, query);
        if let Some(target) = header(headers, "x-amz-target") {
            let name = target.rsplit('.').next().unwrap_or(target).to_owned();
            return (Self { service, name }, Protocol::Json);
        }
        if let Some(action) = form.and_then(|form| value(form, "Action")) {
            let protocol = if service == "ec2" { Protocol::Ec2 } else { Protocol::Query };
            return (Self { service, name: action.to_owned() }, protocol);
        }
        // With CBOR the path names it: /service/<service>/operation/<operation>.
        if let Some((_, name)) = path.split_once("/operation/").filter(|_| path.starts_with("/service/")) {
            return (Self { service, name: name.to_owned() }, Protocol::RestJson);
        }
        if service.is_empty() && path.starts_with("/v2/") {
            let name = registry_operation(method, path);
            return (Self { service: "registry".to_owned(), name }, Protocol::RestJson);
        }
        let (name, protocol) = match service.as_str() {
            "s3" => (s3_operation(method, path, query, headers), Protocol::Xml),
            "cloudfront" => (cloudfront_operation(method, path), Protocol::Xml),
            "cloudfront-keyvaluestore" => (store_operation(method, path), Protocol::RestJson),
            "lambda" => (lambda_operation(method, path), Protocol::RestJson),
            _ => (None, Protocol::RestJson),
        };
        let name = name.map_or_else(|| format!("{method} {path}"), str::to_owned);
        (Self { service, name }, protocol)
    }
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn value<'a>(pairs: &'a str, name: &str) -> Option<&'a str> {
    pairs.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn has(query: &str, name: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some(name))
}

/// `Credential=<key>/<date>/<region>/<service>/aws4_request`, in the header or in a presigned URL; SigV4A names no region.
fn signed_service(headers: &HeaderMap, query: &str) -> String {
    let in_header = header(headers, "authorization").and_then(|text| text.split_once("Credential="));
    let scope = match in_header {
        Some((_, rest)) => rest.split(',').next().unwrap_or_default().replace('/', "%2F"),
        None => value(query, "X-Amz-Credential").unwrap_or_default().to_owned(),
    };
    let service = scope.strip_suffix("%2Faws4_request").and_then(|scope| scope.rsplit("%2F").next());
    service.unwrap_or_default().to_owned()
}

fn registry_operation(method: &Method, path: &str) -> String {
    let kind =
        ["manifests", "blobs/uploads", "blobs", "tags"].into_iter().find(|kind| path.contains(&format!("/{kind}/")));
    format!("{method} {}", kind.unwrap_or("ping"))
}

fn s3_operation(method: &Method, path: &str, query: &str, headers: &HeaderMap) -> Option<&'static str> {
    let is_object = path.trim_start_matches('/').split_once('/').is_some_and(|(_, key)| !key.is_empty());
    Some(match (method.as_str(), is_object) {
        ("GET", true) if has(query, "tagging") => "GetObjectTagging",
        ("GET", true) if has(query, "attributes") => "GetObjectAttributes",
        ("GET", true) if has(query, "uploadId") => "ListParts",
        ("GET", true) => "GetObject",
        ("HEAD", true) => "HeadObject",
        ("PUT", true) if has(query, "partNumber") => "UploadPart",
        ("PUT", true) if has(query, "tagging") => "PutObjectTagging",
        ("PUT", true) if headers.contains_key("x-amz-copy-source") => "CopyObject",
        ("PUT", true) => "PutObject",
        ("POST", true) if has(query, "uploads") => "CreateMultipartUpload",
        ("POST", true) if has(query, "uploadId") => "CompleteMultipartUpload",
        ("DELETE", true) if has(query, "uploadId") => "AbortMultipartUpload",
        ("DELETE", true) => "DeleteObject",
        ("GET", false) if has(query, "list-type") => "ListObjectsV2",
        ("GET", false) if has(query, "versions") => "ListObjectVersions",
        ("POST", false) if has(query, "delete") => "DeleteObjects",
        ("HEAD", false) => "HeadBucket",
        ("PUT", false) if query.is_empty() => "CreateBucket",
        ("DELETE", false) if query.is_empty() => "DeleteBucket",
        _ => return None,
    })
}

/// `/2020-05-31/distribution/<id>/invalidation/<id>` and its like.
fn cloudfront_operation(method: &Method, path: &str) -> Option<&'static str> {
    let parts: Vec<_> = path.trim_matches('/').split('/').skip(1).collect();
    Some(match (method.as_str(), parts.as_slice()) {
        ("GET", ["distribution"]) => "ListDistributions",
        ("POST", ["distribution"]) => "CreateDistribution",
        ("GET", ["distribution", _]) => "GetDistribution",
        ("GET", ["distribution", _, "config"]) => "GetDistributionConfig",
        ("PUT", ["distribution", _, "config"]) => "UpdateDistribution",
        ("POST", ["distribution", _, "invalidation"]) => "CreateInvalidation",
        ("GET", ["distribution", _, "invalidation"]) => "ListInvalidations",
        ("GET", ["distribution", _, "invalidation", _]) => "GetInvalidation",
        _ => return None,
    })
}

/// `/key-value-stores/<ARN>/keys/<key>` and its like; the ARN's slash is escaped.
fn store_operation(method: &Method, path: &str) -> Option<&'static str> {
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    Some(match (method.as_str(), parts.as_slice()) {
        ("GET", ["key-value-stores", _]) => "DescribeKeyValueStore",
        ("GET", ["key-value-stores", _, "keys"]) => "ListKeys",
        ("POST", ["key-value-stores", _, "keys"]) => "UpdateKeys",
        ("GET", ["key-value-stores", _, "keys", _]) => "GetKey",
        ("PUT", ["key-value-stores", _, "keys", _]) => "PutKey",
        ("DELETE", ["key-value-stores", _, "keys", _]) => "DeleteKey",
        _ => return None,
    })
}

/// `/2015-03-31/functions/<name>/invocations` and its like.
fn lambda_operation(method: &Method, path: &str) -> Option<&'static str> {
    let parts: Vec<_> = path.trim_matches('/').split('/').skip(1).collect();
    Some(match (method.as_str(), parts.as_slice()) {
        ("POST", ["functions", _, "invocations"]) => "Invoke",
        ("GET", ["functions", _]) => "GetFunction",
        ("GET", ["functions"]) => "ListFunctions",
        ("POST", ["functions"]) => "CreateFunction",
        ("PUT", ["functions", _, "code"]) => "UpdateFunctionCode",
        ("PUT", ["functions", _, "configuration"]) => "UpdateFunctionConfiguration",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method, Uri};

    use super::{Operation, Protocol};

    fn of(
        method: &Method,
        uri: &'static str,
        headers: &[(&'static str, &'static str)],
        form: Option<&str>,
    ) -> (String, Protocol) {
        let headers: HeaderMap =
            headers.iter().map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v))).collect();
        let (Operation { service, name }, protocol) = Operation::of(method, &Uri::from_static(uri), &headers, form);
        (format!("{service}:{name}"), protocol)
    }

    #[test]
    fn each_protocol_names_its_operation() {
        const AUTHORIZATION: &str = "authorization";
        let ecs =
            "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/ecs/aws4_request, SignedHeaders=host, Signature=0";
        let ec2 =
            "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0";
        let s3 = "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let cloudfront =
            "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/cloudfront/aws4_request,SignedHeaders=host";
        let store =
            "AWS4-ECDSA-P256-SHA256 Credential=test/20261121/cloudfront-keyvaluestore/aws4_request, Signature=0";
        let target = ("x-amz-target", "AmazonEC2ContainerServiceV20141113.UpdateService");
        let monitoring = "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/monitoring/aws4_request, Signature=0";
        let cases = [
            (of(&Method::POST, "/", &[(AUTHORIZATION, ecs), target], None), "ecs:UpdateService", Protocol::Json),
            (
                of(
                    &Method::POST,
                    "/service/GraniteServiceVersion20100801/operation/DescribeAlarms",
                    &[(AUTHORIZATION, monitoring)],
                    None,
                ),
                "monitoring:DescribeAlarms",
                Protocol::RestJson,
            ),
            (
                of(&Method::POST, "/", &[(AUTHORIZATION, ec2)], Some("Action=CreateVpc&Version=2016-11-15")),
                "ec2:CreateVpc",
                Protocol::Ec2,
            ),
            (of(&Method::GET, "/bucket/a/b", &[(AUTHORIZATION, s3)], None), "s3:GetObject", Protocol::Xml),
            (
                of(&Method::PUT, "/bucket/key?partNumber=1&uploadId=u", &[(AUTHORIZATION, s3)], None),
                "s3:UploadPart",
                Protocol::Xml,
            ),
            (of(&Method::GET, "/bucket?list-type=2", &[(AUTHORIZATION, s3)], None), "s3:ListObjectsV2", Protocol::Xml),
            (
                of(&Method::GET, "/b/k?X-Amz-Credential=test%2F20261121%2Fus-east-1%2Fs3%2Faws4_request", &[], None),
                "s3:GetObject",
                Protocol::Xml,
            ),
            (
                of(&Method::POST, "/2020-05-31/distribution/E1/invalidation", &[(AUTHORIZATION, cloudfront)], None),
                "cloudfront:CreateInvalidation",
                Protocol::Xml,
            ),
            (
                of(
                    &Method::POST,
                    "/key-value-stores/arn:aws:cloudfront::1:key-value-store%2Fs/keys",
                    &[(AUTHORIZATION, store)],
                    None,
                ),
                "cloudfront-keyvaluestore:UpdateKeys",
                Protocol::RestJson,
            ),
            (of(&Method::PUT, "/v2/team/api/manifests/v1", &[], None), "registry:PUT manifests", Protocol::RestJson),
        ];
        for ((found, protocol), expected, expected_protocol) in cases {
            assert_eq!((found.as_str(), protocol), (expected, expected_protocol));
        }
    }
}
