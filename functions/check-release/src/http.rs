//! One plain request to a load balancer, whatever the DNS says of the host that it is for: its certificate is for the host, and
//! so is the rule that leads to the service, but a host's record may be made elsewhere, or lead through something else.

use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::{
    dns::{DnsFuture, ResolveDns, ResolveDnsError},
    http::HttpConnector as _,
    orchestrator::HttpRequest,
};
use aws_smithy_types::byte_stream::ByteStream;
use shipway_domain::smoke::{Answer, Check, MOST_BYTES, TEST_HEADER};

/// Finds the load balancer under every name.
#[derive(Clone, Debug)]
struct LoadBalancer(String);

impl ResolveDns for LoadBalancer {
    fn resolve_dns<'a>(&'a self, _: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = tokio::net::lookup_host((self.0.as_str(), 0)).await.map_err(ResolveDnsError::new)?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Makes a smoke test's request and reads what comes. A redirect is an answer, and not followed.
///
/// # Errors
/// Why there is no answer.
pub(crate) async fn get(load_balancer: &str, mirror: Option<&str>, check: &Check) -> Result<Answer, String> {
    let url = &check.url;
    let malformed = |error: &dyn std::fmt::Display| format!("{url} cannot be asked for: {error}");
    let (_, rest) = url.split_once("://").ok_or_else(|| malformed(&"it has no scheme"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let asked = mirror.map_or_else(|| url.clone(), |mirror| format!("http://{mirror}{path}"));
    let mut request = HttpRequest::get(asked).map_err(|error| malformed(&error))?;
    if mirror.is_some() {
        request.headers_mut().try_insert("host", host.to_owned()).map_err(|error| malformed(&error))?;
    }
    if let Some(value) = &check.test {
        request.headers_mut().try_insert(TEST_HEADER, value.clone()).map_err(|error| malformed(&error))?;
    }
    let headers = [("user-agent", "Shipway-smoke-test"), ("accept", "*/*")];
    for (name, value) in headers {
        request.headers_mut().insert(name, value);
    }
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let connector = Connector::builder().tls_provider(tls).build_with_resolver(LoadBalancer(load_balancer.to_owned()));
    let answer = connector.call(request).await.map_err(|error| reason(&error))?;
    let status = answer.status().as_u16();
    let mut body = ByteStream::new(answer.into_body());
    let mut read = Vec::new();
    while read.len() < MOST_BYTES
        && let Some(some) = body.next().await
    {
        read.extend_from_slice(&some.map_err(|error| reason(&error))?);
    }
    Ok(Answer { status, body: String::from_utf8_lossy(&read).into_owned() })
}

/// An error with what is behind it, as the first says only that something failed.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
