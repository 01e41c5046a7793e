//! Lambda's side of a function: a process that asks for its next invocation and says what came of it.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

/// The memory that `bootstrap/template.yaml` gives the function, in MiB.
const MEMORY: &str = "1024";

/// A function's process. It is killed when this is dropped.
pub(crate) struct Function {
    process: Child,
    events: mpsc::Sender<Value>,
    answers: mpsc::Receiver<Result<Value, Value>>,
    serving: JoinHandle<()>,
}

impl Drop for Function {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Exchange {
    events: Mutex<mpsc::Receiver<Value>>,
    answers: mpsc::Sender<Result<Value, Value>>,
}

impl Function {
    /// Starts a function as Lambda does, with AWS at `endpoint`. All it may write to is `directory`.
    pub(crate) async fn start(program: &Path, endpoint: SocketAddr, directory: &Path) -> Result<Function> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = socket.local_addr()?;
        let (events, taken) = mpsc::channel(1);
        let (given, answers) = mpsc::channel(1);
        let exchange = Arc::new(Exchange { events: Mutex::new(taken), answers: given });
        let serving = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = socket.accept().await else { continue };
                let exchange = Arc::clone(&exchange);
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        let exchange = Arc::clone(&exchange);
                        async move { Ok::<_, Infallible>(exchange.respond(request).await) }
                    });
                    // An error here is a function that ended.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        let process = Command::new(program)
            .env_clear()
            .envs(crate::credentials(endpoint))
            .env("TABLE", crate::TABLE)
            .env("INTAKE_BUCKET", crate::INTAKE)
            .env("S3_PATH_STYLE", "true")
            .env("TMPDIR", directory)
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "measured")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "measured")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "measured")
            .env("AWS_LAMBDA_LOG_LEVEL", "WARN")
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.display().to_string())?;
        Ok(Function { process, events, answers, serving })
    }

    /// Invokes it once.
    pub(crate) async fn invoke(&mut self, event: &Value) -> Result<Value> {
        self.events.send(event.clone()).await.context("nobody takes events any more")?;
        tokio::select! {
            answer = self.answers.recv() => match answer.context("nobody answers any more")? {
                Ok(answer) => Ok(answer),
                Err(error) => bail!("the function failed: {error}"),
            },
            ended = self.process.wait() => bail!("the function ended by itself: {}", ended?),
        }
    }

    /// The most memory it ever had, in KiB.
    pub(crate) fn peak_kib(&self) -> Result<u64> {
        self.number("status", "VmHWM:")
    }

    /// How many bytes it made the disk write.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        self.number("io", "write_bytes:")
    }

    fn number(&self, file: &str, field: &str) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id().context("it has ended")?))?;
        let value = text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
        Ok(value.split_whitespace().next().unwrap_or_default().parse()?)
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }
}

impl Exchange {
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let path = parts.uri.path();
        if parts.method == Method::GET && path.ends_with("/invocation/next") {
            // Without an event the function waits, as it does between two invocations.
            let event = self.events.lock().await.recv().await.unwrap_or_default();
            let deadline = Timestamp::now() + SignedDuration::from_mins(15);
            let answer = Response::builder()
                .header("content-type", "application/json")
                .header("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
                .header("lambda-runtime-deadline-ms", deadline.as_millisecond())
                .header(
                    "lambda-runtime-invoked-function-arn",
                    "arn:aws:lambda:us-east-1:111122223333:function:measured",
                )
                .header("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0");
            return answer.body(Full::from(event.to_string())).unwrap_or_default();
        }
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        // Who invoked it may have gone; then nobody wants to know.
        let _ = self.answers.send(if path.ends_with("/response") { Ok(said) } else { Err(said) }).await;
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::ACCEPTED;
        answer
    }
}
