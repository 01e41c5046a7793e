//! S3 in memory, and the table behind it: as much of both as the publishers that are compared ask for, and as fast as the
//! machine can. Whatever else is asked for is refused and remembered, so that no figure rests on a wrong answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::table::Table;

/// The version of every object in every bucket.
pub(crate) const VERSION: &str = "3HL4kqtJvjVBH40Nrjfkd";

/// Everything that is stored. A copy of it costs little: contents are shared.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) buckets: BTreeMap<String, BTreeMap<String, Object>>,
    pub(crate) table: Table,
}

/// One object.
#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) content: Bytes,
    headers: Vec<(String, String)>,
    crc32: u32,
    modified: Timestamp,
}

impl Object {
    /// An object with this content.
    pub(crate) fn new(content: Bytes) -> Object {
        let crc32 = crc32fast::hash(&content);
        Object { content, headers: Vec::new(), crc32, modified: Timestamp::now() }
    }

    /// No MD5, as S3's own is none where a key of one's own encrypts.
    fn etag(&self) -> String {
        format!("\"{:08x}{:024x}-1\"", self.crc32, self.content.len())
    }
}

/// What came and went since the last look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    /// Requests to S3, by what they do.
    pub(crate) requests: BTreeMap<&'static str, u64>,
    /// Requests to the table.
    pub(crate) table: u64,
    /// Bytes of objects that were read.
    pub(crate) read: u64,
    /// Bytes of objects that were written.
    pub(crate) written: u64,
    /// What could not be answered.
    refused: Vec<String>,
}

impl Traffic {
    /// All requests to S3.
    pub(crate) fn s3(&self) -> u64 {
        self.requests.values().sum()
    }
}

#[derive(Default)]
struct Shared {
    state: State,
    traffic: Traffic,
    delay: Duration,
}

/// The running endpoint. Dropping it closes its port.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    accepting: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Endpoint {
    pub(crate) async fn start() -> Result<Endpoint> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = socket.local_addr()?;
        let shared = Arc::<Mutex<Shared>>::default();
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = socket.accept().await else { continue };
                // What Nagle would hold back waits for the other side's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                let shared = Arc::clone(&serving);
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        let shared = Arc::clone(&shared);
                        async move { Ok::<_, Infallible>(respond(&shared, request).await) }
                    });
                    // An error here is a client that went away.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Endpoint { address, shared, accepting })
    }

    /// Each request from now on is answered so much later.
    pub(crate) fn set_delay(&self, delay: Duration) {
        lock(&self.shared).delay = delay;
    }

    /// Puts this in the place of all that is stored.
    pub(crate) fn restore(&self, state: State) {
        lock(&self.shared).state = state;
    }

    /// All that is stored.
    pub(crate) fn state(&self) -> State {
        lock(&self.shared).state.clone()
    }

    /// What came and went since this was last asked. An error where something could not be answered.
    pub(crate) fn traffic(&self) -> Result<Traffic> {
        let traffic = std::mem::take(&mut lock(&self.shared).traffic);
        ensure!(traffic.refused.is_empty(), "the endpoint was asked what it cannot do: {:?}", traffic.refused);
        Ok(traffic)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

type Answer = Response<Full<Bytes>>;

/// A request, all of it read.
struct Asked {
    method: Method,
    bucket: String,
    key: String,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

async fn respond(shared: &Mutex<Shared>, request: Request<Incoming>) -> Answer {
    let said = format!("{} {}", request.method(), request.uri());
    let answer = async {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let delay = lock(shared).delay;
        if !delay.is_zero() {
            #[allow(clippy::disallowed_methods, reason = "the delay is what is asked for")]
            tokio::time::sleep(delay).await;
        }
        if let Some(operation) = text(&parts.headers, "x-amz-target").and_then(|target| target.split('.').next_back()) {
            return table(shared, operation, &body);
        }
        let asked = asked(parts.method, &parts.uri, parts.headers, body)?;
        s3(&mut lock(shared), &asked)
    };
    answer.await.unwrap_or_else(|error| {
        lock(shared).traffic.refused.push(format!("{said}: {error:#}"));
        error_answer(StatusCode::NOT_IMPLEMENTED, "NotImplemented")
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn asked(method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Result<Asked> {
    let path = decoded(uri.path().trim_start_matches('/'))?;
    let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let query = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((name.to_owned(), decoded(value)?))
    });
    Ok(Asked {
        method,
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        query: query.collect::<Result<_>>()?,
        headers,
        body,
    })
}

/// Without its percent escapes.
fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => digit(rest.next()).zip(digit(rest.next())).map(|(a, b)| (a * 16 + b) as u8).context("an escape")?,
            byte => byte,
        });
    }
    Ok(String::from_utf8(bytes)?)
}

fn table(shared: &Mutex<Shared>, operation: &str, body: &[u8]) -> Result<Answer> {
    let mut shared = lock(shared);
    shared.traffic.table += 1;
    let answer = shared.state.table.answer(operation, &serde_json::from_slice::<Value>(body)?)?;
    let text = serde_json::to_vec(&answer)?;
    let crc32 = crc32fast::hash(&text).to_string();
    let answer = Response::builder().header(header::CONTENT_TYPE, "application/x-amz-json-1.0");
    Ok(answer.header("x-amz-crc32", crc32).body(Full::from(text))?)
}

fn s3(shared: &mut Shared, asked: &Asked) -> Result<Answer> {
    let has = |name: &str| asked.query.contains_key(name);
    let (kind, is_object) = (&asked.method, !asked.key.is_empty());
    let name = match asked.method.as_str() {
        // CloudFormation's side of a custom resource is no part of S3.
        "PUT" if asked.bucket == "_response" => {
            let said: Value = serde_json::from_slice(&asked.body)?;
            ensure!(said["Status"] == "SUCCESS", "the custom resource failed: {said}");
            return Ok(Response::new(Full::default()));
        }
        "GET" if is_object => "GET",
        "GET" if has("list-type") => "LIST",
        "HEAD" if is_object => "HEAD",
        "PUT" if is_object && asked.header("x-amz-copy-source").is_some() => "COPY",
        "PUT" if is_object && !has("partNumber") => "PUT",
        "POST" if has("delete") => "DELETE",
        _ => bail!("nobody should ask {kind} {}/{} {:?}", asked.bucket, asked.key, asked.query),
    };
    *shared.traffic.requests.entry(name).or_default() += 1;
    let bucket = shared.state.buckets.entry(asked.bucket.clone()).or_default();
    match name {
        "GET" | "HEAD" => {
            let version = asked.query.get("versionId");
            let Some(object) = bucket.get(&asked.key).filter(|_| version.is_none_or(|version| version == VERSION))
            else {
                return Ok(error_answer(StatusCode::NOT_FOUND, "NoSuchKey"));
            };
            let answer = content(asked, object, name == "HEAD")?;
            if name == "GET" {
                shared.traffic.read += hyper::body::Body::size_hint(answer.body()).exact().unwrap_or(0);
            }
            Ok(answer)
        }
        "LIST" => list(asked, bucket),
        "PUT" => {
            if asked.header("if-none-match") == Some("*") && bucket.contains_key(&asked.key) {
                return Ok(error_answer(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"));
            }
            let (body, trailing) =
                if asked.header("x-amz-content-sha256").is_some_and(|sha| sha.starts_with("STREAMING-")) {
                    unchunked(&asked.body)?
                } else {
                    (asked.body.clone(), None)
                };
            let mut object = Object::new(body);
            let claimed = asked.header("x-amz-checksum-crc32").map(str::to_owned).or(trailing);
            if claimed.is_some_and(|claimed| claimed != BASE64_STANDARD.encode(object.crc32.to_be_bytes())) {
                return Ok(error_answer(StatusCode::BAD_REQUEST, "BadDigest"));
            }
            object.headers = kept(&asked.headers);
            shared.traffic.written += object.content.len() as u64;
            let answer = Response::builder().header(header::ETAG, object.etag()).header("x-amz-version-id", VERSION);
            bucket.insert(asked.key.clone(), object);
            Ok(answer.body(Full::default())?)
        }
        "COPY" => {
            let source = decoded(asked.header("x-amz-copy-source").unwrap_or_default().trim_start_matches('/'))?;
            let source = source.split_once('/').context("a source is a bucket and a key")?;
            let from = shared.state.buckets.get(source.0).and_then(|bucket| bucket.get(source.1));
            let Some(mut object) = from.cloned() else { return Ok(error_answer(StatusCode::NOT_FOUND, "NoSuchKey")) };
            object.modified = Timestamp::now();
            if asked.header("x-amz-metadata-directive") == Some("REPLACE") {
                object.headers = kept(&asked.headers);
            }
            let text = format!(
                "<CopyObjectResult><LastModified>{}</LastModified><ETag>{}</ETag></CopyObjectResult>",
                object.modified,
                object.etag()
            );
            shared.state.buckets.entry(asked.bucket.clone()).or_default().insert(asked.key.clone(), object);
            xml(text)
        }
        _ => {
            let body = std::str::from_utf8(&asked.body)?;
            for key in body.split("<Key>").skip(1) {
                bucket.remove(key.split("</Key>").next().unwrap_or_default());
            }
            xml("<DeleteResult/>".to_owned())
        }
    }
}

/// The headers that an object keeps.
fn kept(headers: &HeaderMap) -> Vec<(String, String)> {
    let is_kept = |name: &str| {
        matches!(name, "content-type" | "cache-control" | "content-encoding") || name.starts_with("x-amz-meta-")
    };
    let kept = headers.iter().filter(|(name, _)| is_kept(name.as_str()));
    kept.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.replace("aws-chunked", "")))).collect()
}

fn content(asked: &Asked, object: &Object, is_head: bool) -> Result<Answer> {
    let size = object.content.len();
    let mut answer = Response::builder()
        .header(header::ETAG, object.etag())
        .header(header::LAST_MODIFIED, object.modified.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .header(header::ACCEPT_RANGES, "bytes")
        .header("x-amz-version-id", VERSION);
    for (name, value) in object.headers.iter().filter(|(_, value)| !value.is_empty()) {
        answer = answer.header(name, value);
    }
    let range = asked.header("range").and_then(|range| range.strip_prefix("bytes=")).map(|range| {
        let (from, to) = range.split_once('-').context("a range has two ends")?;
        if from.is_empty() {
            return Ok(size.saturating_sub(to.parse()?)..size);
        }
        let to = if to.is_empty() { size } else { to.parse::<usize>()?.saturating_add(1).min(size) };
        Ok::<_, anyhow::Error>(from.parse()?..to)
    });
    let range = range.transpose()?;
    if range.as_ref().is_some_and(|range| range.start >= range.end) {
        return Ok(error_answer(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"));
    }
    let (status, part) = match range {
        Some(range) => {
            answer = answer.header(header::CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1));
            (StatusCode::PARTIAL_CONTENT, range)
        }
        None => (StatusCode::OK, 0..size),
    };
    let answer = answer.status(status).header(header::CONTENT_LENGTH, part.len());
    Ok(answer.body(Full::from(if is_head { Bytes::new() } else { object.content.slice(part) }))?)
}

/// ListObjectsV2, a thousand keys a page. All keys here are plain, so that no encoding is needed.
fn list(asked: &Asked, bucket: &BTreeMap<String, Object>) -> Result<Answer> {
    let option = |name: &str| asked.query.get(name).map_or("", String::as_str);
    ensure!(option("delimiter").is_empty(), "a list by folders");
    let (prefix, after) = (option("prefix"), option("continuation-token").max(option("start-after")));
    let most = option("max-keys").parse().unwrap_or(1000usize).min(1000);
    let mut found = bucket.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
    let page: Vec<_> = found.by_ref().take(most).collect();
    let next = found.next().and(page.last()).map(|(key, _)| (*key).clone());
    let mut text = format!(
        "<ListBucketResult><Name>{}</Name><Prefix>{prefix}</Prefix><KeyCount>{}</KeyCount><MaxKeys>{most}</MaxKeys><IsTruncated>{}</IsTruncated>",
        asked.bucket,
        page.len(),
        next.is_some()
    );
    if let Some(next) = next {
        text.push_str(&format!("<NextContinuationToken>{next}</NextContinuationToken>"));
    }
    for (key, object) in page {
        text.push_str(&format!(
            "<Contents><Key>{key}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            object.modified.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            object.etag().replace('"', "&quot;"),
            object.content.len()
        ));
    }
    xml(text + "</ListBucketResult>")
}

/// A body out of its chunks, with the CRC-32 that trailed it.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>
fn unchunked(body: &Bytes) -> Result<(Bytes, Option<String>)> {
    let mut whole = BytesMut::new();
    let mut rest = body.clone();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").context("a chunk without its size")?;
        let size = std::str::from_utf8(&rest[..line])?.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16)?;
        let _ = rest.split_to(line + 2);
        if size == 0 {
            let trailers = std::str::from_utf8(&rest)?;
            let crc32 = trailers.lines().find_map(|line| line.strip_prefix("x-amz-checksum-crc32:"));
            return Ok((whole.freeze(), crc32.map(|value| value.trim().to_owned())));
        }
        ensure!(rest.len() >= size + 2, "a chunk that is cut off");
        whole.extend_from_slice(&rest.split_to(size));
        let _ = rest.split_to(2);
    }
}

fn xml(text: String) -> Result<Answer> {
    Ok(Response::builder().header(header::CONTENT_TYPE, "application/xml").body(Full::from(text))?)
}

fn error_answer(status: StatusCode, code: &str) -> Answer {
    let text = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Method, StatusCode};
    use http_body_util::BodyExt;

    use super::{Asked, Object, Shared, asked, s3, unchunked};

    fn ask(method: Method, path: &str, headers: &[(&'static str, &str)], body: &'static [u8]) -> Asked {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        asked(method, &path.parse().unwrap(), headers, Bytes::from_static(body)).unwrap()
    }

    #[test]
    fn a_range_is_a_part_of_the_object_with_its_place() {
        let mut shared = Shared::default();
        let bucket = shared.state.buckets.entry("b".to_owned()).or_default();
        bucket.insert("k y".to_owned(), Object::new(Bytes::from_static(b"0123456789")));
        for (range, place, part) in [
            ("bytes=-3", "bytes 7-9/10", "789"),
            ("bytes=2-4", "bytes 2-4/10", "234"),
            ("bytes=-99", "bytes 0-9/10", "0123456789"),
        ] {
            let answer = s3(&mut shared, &ask(Method::GET, "/b/k%20y", &[("range", range)], b"")).unwrap();
            assert_eq!(
                (answer.status(), &answer.headers()["content-range"]),
                (StatusCode::PARTIAL_CONTENT, &place.parse().unwrap())
            );
            let mut body = answer.into_body();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let frame = runtime.block_on(body.frame()).unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), part);
        }
    }

    #[test]
    fn a_content_that_is_not_what_its_checksum_says_is_refused() {
        let mut shared = Shared::default();
        let put = |checksum| ask(Method::PUT, "/b/k", &[("x-amz-checksum-crc32", checksum)], b"hello");
        assert_eq!(s3(&mut shared, &put("AAAAAA==")).unwrap().status(), StatusCode::BAD_REQUEST);
        assert_eq!(s3(&mut shared, &put("NhCmhg==")).unwrap().status(), StatusCode::OK);
        let once = ask(Method::PUT, "/b/k", &[("if-none-match", "*")], b"again");
        assert_eq!(s3(&mut shared, &once).unwrap().status(), StatusCode::PRECONDITION_FAILED);
    }

    #[test]
    fn a_list_goes_on_where_its_page_ended() {
        let mut shared = Shared::default();
        let bucket = shared.state.buckets.entry("b".to_owned()).or_default();
        for number in 0..1500 {
            bucket.insert(format!("{number:04}"), Object::new(Bytes::new()));
        }
        let page = |shared: &mut Shared, query: &str| {
            let answer = s3(shared, &ask(Method::GET, &format!("/b?list-type=2{query}"), &[], b"")).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let body = runtime.block_on(answer.into_body().collect()).unwrap().to_bytes();
            String::from_utf8(body.to_vec()).unwrap()
        };
        let first = page(&mut shared, "");
        assert!(first.contains("<NextContinuationToken>0999</NextContinuationToken>"), "{}", &first[..300]);
        let second = page(&mut shared, "&continuation-token=0999");
        assert_eq!((second.matches("<Key>").count(), second.contains("<Key>1000</Key>")), (500, true));
    }

    #[test]
    fn chunks_are_put_together_and_their_trailer_is_read() {
        let body = b"3;chunk-signature=ab\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n";
        let (whole, crc32) = unchunked(&Bytes::from_static(body)).unwrap();
        assert_eq!((whole, crc32), (Bytes::from_static(b"abcde"), Some("AAAA".to_owned())));
    }
}
