//! The distributions as a browser reaches them: TLS ends here, and the request goes on to the local cloud, which takes the
//! viewer's protocol from the header that this adds.

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::{Context, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use rcgen::{CertifiedKey, PublicKeyData};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

type Body = Either<Incoming, Full<hyper::body::Bytes>>;

/// A port of this machine on which every distribution answers by HTTPS. Dropping it closes the port.
pub struct Front {
    /// The port.
    pub port: u16,
    /// The SHA-256 of the certificate's key, in Base64: by it a browser is told to trust this certificate and no other. One
    /// that is told to ignore errors would not cache what it gets.
    pub key: String,
    accepting: JoinHandle<()>,
}

impl Front {
    /// Opens the port, before the cloud at `endpoint`.
    pub async fn open(endpoint: &str) -> Result<Front> {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["*.cloudfront.net".to_owned()]).context("making a certificate")?;
        let key = BASE64_STANDARD.encode(Sha256::digest(signing_key.subject_public_key_info()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into())?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = socket.local_addr()?.port();
        let endpoint: Arc<str> = endpoint.into();
        let client: Client<HttpConnector, Incoming> = Client::builder(TokioExecutor::new()).build_http();
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = socket.accept().await else { continue };
                let (acceptor, endpoint, client) = (acceptor.clone(), Arc::clone(&endpoint), client.clone());
                tokio::spawn(async move {
                    // A browser opens connections that it then does not use; that ends them here, and nothing is lost.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request| {
                        let (endpoint, client) = (Arc::clone(&endpoint), client.clone());
                        async move { forward(&client, &endpoint, request).await }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Front { port, key, accepting })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(
    client: &Client<HttpConnector, Incoming>,
    endpoint: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, http::Error> {
    *request.uri_mut() = format!("{endpoint}{}", request.uri()).parse()?;
    request.headers_mut().insert("x-forwarded-proto", HeaderValue::from_static("https"));
    match client.request(request).await {
        Ok(mut answer) => {
            // These are of the connection behind.
            answer.headers_mut().remove(header::CONNECTION);
            answer.headers_mut().remove(header::TRANSFER_ENCODING);
            Ok(answer.map(Either::Left))
        }
        Err(error) => {
            Response::builder().status(StatusCode::BAD_GATEWAY).body(Either::Right(Full::from(format!("{error:?}"))))
        }
    }
}
