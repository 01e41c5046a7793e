//! The proxy in front of MiniStack: everything that talks to the cloud comes through here, so that tests can count the
//! calls and make them fail.
//!
//! Requests pass as they are, `Host` included, or their signatures would not verify; bodies stream.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Error;
use crate::control::Control;
use crate::faults::{Fault, Faults, refusal};
use crate::operation::{Operation, header};

type Body = BoxBody<Bytes, hyper::Error>;

/// A form (the query protocols) is read whole to find its action. AWS's own limit on such a request is 1 MB or less.
const FORM_BYTES: usize = 4 << 20;

/// Headers that belong to one connection, not to the request.
const HOP_BY_HOP: [HeaderName; 5] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::EXPECT];

/// A running proxy. Dropping it closes its port.
pub(crate) struct Proxy {
    accepting: JoinHandle<()>,
}

/// The proxy's port, taken before MiniStack starts, because MiniStack must know it.
pub(crate) struct Listener {
    socket: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Listener {
    pub(crate) async fn bind() -> Result<Self, Error> {
        let bound = async {
            let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = socket.local_addr()?;
            Ok(Self { socket, address })
        };
        bound.await.map_err(Error::file("127.0.0.1:0"))
    }

    pub(crate) fn serve(self, backend: u16, faults: Arc<Faults>) -> Proxy {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let upstream = Arc::new(Upstream { backend, client, faults, control: Control::new(backend) });
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = self.socket.accept().await else { continue };
                let upstream = Arc::clone(&upstream);
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        let upstream = Arc::clone(&upstream);
                        async move { upstream.handle(request).await }
                    });
                    // An error here is a client that went away, or a fault that closes the connection.
                    let connection = hyper::server::conn::http1::Builder::new();
                    if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                        tracing::debug!(%error, "connection ended");
                    }
                });
            }
        });
        Proxy { accepting }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Why a connection ends without an answer.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}, as asked")]
    AsAsked(&'static str),
    #[error("the form could not be read: {0}")]
    Form(String),
    #[error(transparent)]
    Body(#[from] hyper::Error),
    #[error(transparent)]
    Uri(#[from] http::Error),
}

struct Upstream {
    backend: u16,
    client: Client<HttpConnector, Body>,
    faults: Arc<Faults>,
    control: Control,
}

impl Upstream {
    /// An `Err` closes the connection without an answer.
    async fn handle(&self, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
        let (parts, body) = request.into_parts();
        if parts.uri.path().starts_with("/_local-cloud/") {
            return Ok(plain(StatusCode::NOT_FOUND, "not of AWS"));
        }
        let is_form = header(&parts.headers, "content-type")
            .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let (form, body) = if is_form {
            let read = http_body_util::Limited::new(body, FORM_BYTES).collect().await;
            let form = read.map_err(|error| Broken::Form(error.to_string()))?.to_bytes();
            (Some(form.clone()), full(form))
        } else {
            (None, body.boxed())
        };
        let form = form.as_deref().map(String::from_utf8_lossy);
        let (operation, protocol) = Operation::of(&parts.method, &parts.uri, &parts.headers, form.as_deref());
        let caller = header(&parts.headers, "user-agent").and_then(calling_function);
        let service = operation.service.clone();
        let name = operation.name.clone();
        let fault = self.faults.decide(operation, caller.clone());
        if let Some(fault) = fault {
            tracing::info!(?fault, service, operation = name, caller, "fault");
        }
        match fault {
            Some(fault @ (Fault::Throttle | Fault::ServerError)) => {
                // The client may still be sending: answering before it has finished would read as a broken connection.
                let _ = body.collect().await;
                let (parts, body) = refusal(fault, &service, protocol).into_parts();
                return Ok(Response::from_parts(parts, body.map_err(|never| match never {}).boxed()));
            }
            Some(Fault::DropBefore) => return Err(Broken::AsAsked("dropped before acting")),
            Some(Fault::KillBefore) => {
                self.kill(caller.as_deref()).await;
                return Err(Broken::AsAsked("caller killed before acting"));
            }
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::DropAfter | Fault::KillAfter) | None => {}
        }
        let response = self.forward(Request::from_parts(parts, body)).await?;
        match fault {
            Some(Fault::DropAfter) => {
                response.into_body().collect().await?;
                Err(Broken::AsAsked("dropped after acting"))
            }
            Some(Fault::KillAfter) => {
                response.into_body().collect().await?;
                self.kill(caller.as_deref()).await;
                Err(Broken::AsAsked("caller killed after acting"))
            }
            _ => Ok(response),
        }
    }

    async fn forward(&self, mut request: Request<Body>) -> Result<Response<Body>, Broken> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = Uri::builder()
            .scheme("http")
            .authority(format!("127.0.0.1:{}", self.backend))
            .path_and_query(path)
            .build()?;
        *request.version_mut() = http::Version::HTTP_11;
        for name in &HOP_BY_HOP {
            request.headers_mut().remove(name);
        }
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => return Ok(plain(StatusCode::BAD_GATEWAY, &format!("MiniStack gave no answer: {error}"))),
        };
        let (mut parts, body) = response.into_parts();
        for name in &HOP_BY_HOP {
            parts.headers.remove(name);
        }
        Ok(Response::from_parts(parts, body.boxed()))
    }

    async fn kill(&self, caller: Option<&str>) {
        let Some(function) = caller else { return };
        if let Err(error) = self.control.post("kill-function", &serde_json::json!({ "function": function })).await {
            tracing::warn!(%error, function, "could not be killed");
        }
    }
}

/// The function a call comes from: the SDKs write `app/<AWS_SDK_UA_APP_ID>` into the user agent.
fn calling_function(agent: &str) -> Option<String> {
    agent.split(' ').find_map(|part| part.strip_prefix("app/")).map(str::to_owned)
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(text.to_owned())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
