//! A few bytes behind a URL that AWS signed: the one request that no SDK makes.

use std::{error::Error as StdError, sync::LazyLock, time::Duration};

use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::{
    client::{http::HttpConnector as _, orchestrator::HttpRequest},
    http::StatusCode,
};
use aws_smithy_types::byte_stream::ByteStream;
use tokio::time::{error::Elapsed, timeout};

/// How long it may take. What it reads is small.
const WITHIN: Duration = Duration::from_secs(5);

/// Made when the first URL is read: the SDKs' own client signs what it sends.
static CONNECTOR: LazyLock<Connector> = LazyLock::new(|| {
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    Connector::builder().tls_provider(tls).build()
});

/// What keeps the bytes from being read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No URL, or nobody who answers there.
    #[error("it was not answered")]
    Unanswered(#[source] Box<dyn StdError + Send + Sync>),
    /// An answer that says no.
    #[error("it was answered with {}", .0.as_u16())]
    Refused(StatusCode),
    /// More than was asked for.
    #[error("it has more than {0} bytes")]
    TooLong(usize),
    /// Not in time.
    #[error("it was not read in {} s", WITHIN.as_secs())]
    Late(#[from] Elapsed),
}

/// Reads what is behind a URL, once, if it has `most` bytes at the most.
///
/// # Errors
/// Nobody answers, the answer says no, or it is too long or too late.
pub async fn get(url: &str, most: usize) -> Result<Vec<u8>, FetchError> {
    timeout(WITHIN, read(url, most)).await?
}

async fn read(url: &str, most: usize) -> Result<Vec<u8>, FetchError> {
    let request = HttpRequest::get(url).map_err(|error| FetchError::Unanswered(error.into()))?;
    let answer = CONNECTOR.call(request).await.map_err(|error| FetchError::Unanswered(error.into()))?;
    if !answer.status().is_success() {
        return Err(FetchError::Refused(answer.status()));
    }
    let mut body = ByteStream::new(answer.into_body());
    let mut bytes = Vec::new();
    while let Some(some) = body.next().await {
        let some = some.map_err(|error| FetchError::Unanswered(error.into()))?;
        if bytes.len() + some.len() > most {
            return Err(FetchError::TooLong(most));
        }
        bytes.extend_from_slice(&some);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// What `get` makes of this answer, when it may have 4 bytes.
    async fn got(answer: &'static str) -> Result<Vec<u8>, FetchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/blob?signed=yes", listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let (bytes, head) = tokio::join!(get(&url, 4), serve);
        assert!(head.starts_with("GET /blob?signed=yes HTTP/1.1\r\n"), "{head}");
        bytes
    }

    #[tokio::test]
    async fn a_few_bytes_are_read_and_no_more() {
        assert_eq!(got("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfour").await.unwrap(), b"four");
        assert!(matches!(got("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfive!").await, Err(FetchError::TooLong(4))));
        // However long it says it is.
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nthr\r\n2\r\nee\r\n0\r\n\r\n";
        assert!(matches!(got(chunked).await, Err(FetchError::TooLong(4))));
    }

    #[tokio::test]
    async fn an_answer_that_says_no_or_none_is_an_error() {
        let refused = got("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.unwrap_err();
        assert_eq!(refused.to_string(), "it was answered with 403");
        assert!(matches!(get("http://127.0.0.1:1/", 4).await, Err(FetchError::Unanswered(_))));
        assert!(matches!(get("", 4).await, Err(FetchError::Unanswered(_))));
    }
}
