//! Requests as the users of a deployed system make them: to its load balancer, to its distribution.
//!
//! MiniStack serves both on its own port and tells them apart by the `Host` header; the name need not resolve.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::Error;

const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text, damaged characters replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value, if it is there and text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// `GET url` with these headers. Redirects are not followed.
///
/// # Errors
/// When no answer comes; any status is an answer.
pub async fn get(url: &str, headers: &[(&str, &str)]) -> Result<Answer, Error> {
    let request = headers.iter().fold(Request::get(url), |request, (name, value)| request.header(*name, *value));
    send(request.body(Full::default())).await
}

/// Sends any request and reads the answer to its end.
pub(crate) async fn send(request: Result<Request<Full<Bytes>>, http::Error>) -> Result<Answer, Error> {
    // One client for each runtime would be right for tests that each have their own: a pooled connection dies with the
    // runtime that made it. So no connection is kept.
    static CLIENT: LazyLock<Client<HttpConnector, Full<Bytes>>> =
        LazyLock::new(|| Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http());
    let request = request
        .map_err(|source| Error::Request { request: "a malformed request".to_owned(), source: source.into() })?;
    let name = format!("{} {}", request.method(), request.uri());
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Request { request: name.clone(), source };
    let exchange = async {
        let (parts, body) = CLIENT.request(request).await.map_err(|error| failed(error.into()))?.into_parts();
        let body = body.collect().await.map_err(|error| failed(error.into()))?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    };
    match tokio::time::timeout(ANSWER_WITHIN, exchange).await {
        Ok(answer) => answer,
        Err(late) => Err(failed(late.into())),
    }
}
