//! How a function is served: logs, configuration and clients once, then one answer per invocation.

use std::{
    fmt,
    future::Future,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::OnceLock,
};

use aws_config::SdkConfig;
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector},
    runtime_components::RuntimeComponents,
};
use futures_util::FutureExt as _;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use shipway_domain::{failure::Failure, message};

use crate::{
    Store,
    error::{PublicError, diagnostic},
};

/// A setting that the template should have made and did not.
#[derive(Debug, thiserror::Error)]
#[error("the environment variable {0} is missing; deploy Shipway again with its own template")]
pub struct MissingSetting(&'static str);

impl PublicError for MissingSetting {
    fn failure(&self) -> Failure {
        Failure::Bug
    }
}

/// A setting of the function, from its environment.
pub fn setting(name: &'static str) -> Result<String, MissingSetting> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or(MissingSetting(name))
}

/// Logs as JSON lines, without the payloads: they are in the execution's history already, if at all.
pub fn init_logs() {
    let level =
        std::env::var("AWS_LAMBDA_LOG_LEVEL").ok().and_then(|level| level.parse().ok()).unwrap_or(tracing::Level::INFO);
    tracing_subscriber::fmt()
        .json()
        .with_max_level(level)
        .with_target(false)
        .without_time()
        .with_current_span(false)
        .init();
    panic::set_hook(Box::new(log_panic));
}

/// Where it was, and what it says only if no value is in that.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let what = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("what it says may tell of the input");
    let at = panic.location().map(ToString::to_string);
    tracing::error!(failure = Failure::Bug.name(), at, what, "panicked");
}

/// The shared configuration: one HTTP client for all service clients, credentials from the environment.
pub async fn sdk_config() -> SdkConfig {
    aws_config::defaults(aws_config::BehaviorVersion::latest()).http_client(LazyHttp::default()).load().await
}

/// What a function begins with: its log, the shared configuration, and the table.
///
/// # Errors
/// The template did not say which table.
pub async fn prepare() -> Result<(SdkConfig, Store), MissingSetting> {
    init_logs();
    let config = sdk_config().await;
    let store = Store::new(&config, setting("TABLE")?);
    Ok((config, store))
}

/// The HTTP client, made when the first request needs it: reading the system's certificates takes three times as long as
/// everything else that a function does before it asks for its first invocation.
#[derive(Debug, Default)]
struct LazyHttp(OnceLock<SharedHttpClient>);

impl HttpClient for LazyHttp {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let client = self.0.get_or_init(|| {
            let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
            Builder::new().tls_provider(tls).build_https()
        });
        client.http_connector(settings, components)
    }
}

/// A service's client that not every pass needs: made with its first call, and kept.
#[derive(Debug)]
pub struct Later<C> {
    config: SdkConfig,
    make: fn(&SdkConfig) -> C,
    client: OnceLock<C>,
}

impl<C> Later<C> {
    /// The client that `make` makes, when it is asked for.
    pub fn new(config: &SdkConfig, make: fn(&SdkConfig) -> C) -> Later<C> {
        Later { config: config.clone(), make, client: OnceLock::new() }
    }

    /// The client.
    pub fn get(&self) -> &C {
        self.client.get_or_init(|| (self.make)(&self.config))
    }
}

/// Serves a function until Lambda ends the process.
pub async fn serve<I, O, E, F, Fut>(handler: F) -> Result<(), lambda_runtime::Error>
where
    I: DeserializeOwned,
    O: Serialize,
    E: PublicError,
    F: Fn(I) -> Fut,
    Fut: Future<Output = Result<O, E>>,
{
    let handler = &handler;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        answer(&event.payload, handler).await.map_err(Named)
    }))
    .await
}

/// Answers one invocation. An input that is not what the function takes is `Rejected.Input`, a panic is `Bug`; an error reaches
/// the machine under its public name.
///
/// # Errors
/// The function could not do what it was asked.
pub async fn answer<I, O, E, Fut>(payload: &Value, handler: impl FnOnce(I) -> Fut) -> Result<O, Diagnostic>
where
    I: DeserializeOwned,
    E: PublicError,
    Fut: Future<Output = Result<O, E>>,
{
    let told = |named: Diagnostic| {
        tracing::error!(failure = named.error_type, error = named.error_message);
        named
    };
    let input = message::read(payload).map_err(|error| {
        told(Diagnostic {
            error_type: Failure::RejectedInput.name().to_owned(),
            error_message: format!("the input is not what this function takes: {error}"),
        })
    })?;
    let answered = AssertUnwindSafe(Box::pin(async { handler(input).await })).catch_unwind().await;
    let answered = answered.map_err(|_| Diagnostic {
        error_type: Failure::Bug.name().to_owned(),
        error_message: "the function panicked, which is a fault of Shipway's; its log says where".to_owned(),
    })?;
    answered.map_err(|error| told(diagnostic(&error)))
}

struct Named(Diagnostic);

impl From<Named> for Diagnostic {
    fn from(named: Named) -> Diagnostic {
        named.0
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.error_type, self.0.error_message)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use serde_json::json;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_bug_by_name_and_tells_nobody_of_the_input() {
        let log = Log::default();
        let lines = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || lines.clone()).finish();
        let _here = tracing::subscriber::set_default(subscriber);
        let before = panic::take_hook();
        panic::set_hook(Box::new(log_panic));
        let answered =
            answer(&json!("open sesame"), async |input: String| -> Result<(), MissingSetting> { panic!("of {input}") })
                .await;
        let plain = answer(&json!(1), async |_: u8| -> Result<(), MissingSetting> { panic!("out of reach") }).await;
        panic::set_hook(before);
        for failed in [answered.unwrap_err(), plain.unwrap_err()] {
            assert_eq!(failed.error_type, "Bug");
            assert!(!failed.error_message.contains("sesame"), "{}", failed.error_message);
        }
        let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(logged.matches("runtime.rs:").count() == 2 && logged.contains("out of reach"), "{logged}");
        assert!(!logged.contains("sesame"), "{logged}");
    }
}
