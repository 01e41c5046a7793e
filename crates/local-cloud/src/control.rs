//! Requests to our modules inside MiniStack (`ministack/local_cloud/control.py`), past the proxy.

use http::Request;
use http_body_util::Full;
use serde_json::Value;

use crate::{Error, data_plane};

/// The control side of one MiniStack.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    base: String,
}

impl Control {
    pub(crate) fn new(port: u16) -> Self {
        Self { base: format!("http://127.0.0.1:{port}/_local-cloud") }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let url = format!("{}/{path}", self.base);
        let answer = data_plane::send(Request::post(&url).body(Full::from(body.to_string()))).await?;
        let refused = || Error::Refused { request: format!("POST {url}"), status: answer.status, body: answer.text() };
        if !answer.status.is_success() {
            return Err(refused());
        }
        serde_json::from_slice(&answer.body).map_err(|_| refused())
    }
}
