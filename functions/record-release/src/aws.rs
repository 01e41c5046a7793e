//! The calls: a manifest is read from the intake bucket, an execution that waits for a person is told to end, and others are
//! told of releases, and people of Shipway itself.

use std::time::Duration;

use aws_sdk_sfn::config::timeout::TimeoutConfig;
use shipway_aws::{AwsError, runtime::Later};
use shipway_domain::{alarm::Letter, failure::Failure, manifest, notice::Happening, release::ReleaseRecord};
use shipway_notices::Notifier;

use crate::handler::{Calls, Fetched};

/// How long Step Functions may take to be told, all tries together: nothing rests on it.
const TOLD: Duration = Duration::from_secs(5);

/// S3, Step Functions, and who is told.
pub(crate) struct Aws {
    s3: aws_sdk_s3::Client,
    bucket: String,
    machines: Later<aws_sdk_sfn::Client>,
    notifier: Notifier,
}

impl Aws {
    /// With the intake bucket of this name.
    pub(crate) fn new(config: &aws_config::SdkConfig, bucket: String, notifier: Notifier) -> Aws {
        let machines = Later::new(config, |config| {
            let timeout = TimeoutConfig::builder().operation_timeout(TOLD).build();
            let config = aws_sdk_sfn::config::Builder::from(config).timeout_config(timeout);
            aws_sdk_sfn::Client::from_conf(config.build())
        });
        Aws { s3: shipway_aws::s3::client(config), bucket, machines, notifier }
    }
}

impl Calls for Aws {
    /// Never more than a manifest may have is read.
    async fn manifest(&self, key: &str, version: &str) -> Result<Fetched, AwsError> {
        let most = manifest::MOST_BYTES;
        let asked = self.s3.get_object().bucket(&self.bucket).key(key).version_id(version).send().await;
        let output = match asked.map_err(AwsError::of("s3:GetObjectVersion")) {
            Ok(output) => output,
            Err(error) if error.is("NoSuchVersion") || error.is("NoSuchKey") => {
                return Ok(Fetched::Unusable(format!("{key} has no version {version}; upload it again")));
            }
            Err(error) => return Err(error),
        };
        if output.content_length().is_none_or(|length| usize::try_from(length).is_ok_and(|length| length > most)) {
            return Ok(Fetched::Unusable(format!("{key} is larger than {most} bytes; that is no manifest")));
        }
        let bytes = output.body.collect().await.map_err(|error| AwsError::broken_off("s3:GetObjectVersion", &error))?;
        Ok(match String::from_utf8(bytes.to_vec()) {
            Ok(text) => Fetched::Text(text),
            Err(_) => Fetched::Unusable(format!("{key} is not UTF-8 text")),
        })
    }

    async fn fail_task(&self, token: &str, failure: Failure, cause: &str) -> Result<(), AwsError> {
        let call = self.machines.get().send_task_failure().task_token(token).error(failure.name()).cause(cause);
        call.send().await.map(drop).map_err(AwsError::of("states:SendTaskFailure"))
    }

    async fn announce(&self, record: &ReleaseRecord, happening: Happening<'_>) {
        self.notifier.tell(record, happening).await;
    }

    fn executions(&self) -> &str {
        self.notifier.executions()
    }

    async fn write(&self, letter: &Letter) -> Result<(), AwsError> {
        self.notifier.write(letter).await
    }
}
