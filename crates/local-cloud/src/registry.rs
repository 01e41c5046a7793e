//! Pushing an image as `docker push` does, by the registry's own protocol (OCI distribution specification).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;

use crate::Error;
use crate::data_plane::{self, Answer};
use crate::image::{Built, Image, digest};

/// The registry of one cloud, as seen through its proxy.
pub(crate) struct Registry<'a> {
    pub(crate) endpoint: &'a str,
}

impl Registry<'_> {
    /// Pushes; answers the digest of the manifest, by which ECS names the image.
    pub(crate) async fn push(&self, repository: &str, tag: Option<&str>, image: &Image) -> Result<String, Error> {
        let built = image.build().map_err(Error::file("the image's layer"))?;
        for blob in &built.blobs {
            let path = format!("/v2/{repository}/blobs/uploads/?digest={}", digest(blob));
            self.send(Method::POST, &path, "application/octet-stream", blob.clone()).await?;
        }
        self.put_manifest(repository, tag, built.manifest).await
    }

    /// The end of a push.
    pub(crate) async fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        manifest: Bytes,
    ) -> Result<String, Error> {
        let digest = digest(&manifest);
        let reference = tag.unwrap_or(&digest);
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.send(Method::PUT, &path, Built::MEDIA_TYPE, manifest).await?;
        Ok(digest)
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Answer, Error> {
        let url = format!("{}{path}", self.endpoint);
        let name = format!("{method} {url}");
        let request = Request::builder()
            .method(method)
            .uri(&url)
            .header(header::CONTENT_TYPE, kind)
            // What `aws ecr get-login-password` gives; MiniStack's registry asks nobody who he is.
            .header(header::AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode("AWS:ministack-auth-token")))
            .body(Full::new(body));
        let answer = data_plane::send(request).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(Error::Refused { request: name, status: answer.status, body: answer.text() })
    }
}
