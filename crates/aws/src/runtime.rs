//! How a function is served: logs, configuration and clients once, then one answer per invocation.

use std::{fmt, future::Future, sync::OnceLock};

use aws_config::SdkConfig;
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector},
    runtime_components::RuntimeComponents,
};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::{Serialize, de::DeserializeOwned};
use shipway_domain::failure::Failure;

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

/// Serves a function until Lambda ends the process. An input that is not what the function takes is `Rejected.Input`; an error
/// reaches the machine under its public name.
pub async fn serve<I, O, E, F, Fut>(handler: F) -> Result<(), lambda_runtime::Error>
where
    I: DeserializeOwned,
    O: Serialize,
    E: PublicError,
    F: Fn(I) -> Fut,
    Fut: Future<Output = Result<O, E>>,
{
    let handler = &handler;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<serde_json::Value>| async move {
        let input = serde_json::from_value(event.payload).map_err(|error| {
            tracing::error!(failure = Failure::RejectedInput.name(), %error);
            Named(Diagnostic {
                error_type: Failure::RejectedInput.name().to_owned(),
                error_message: format!("the input is not what this function takes: {error}"),
            })
        })?;
        handler(input).await.map_err(|error| {
            let named = diagnostic(&error);
            tracing::error!(failure = named.error_type, error = named.error_message);
            Named(named)
        })
    }))
    .await
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
