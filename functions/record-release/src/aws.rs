//! The calls: a manifest is read from the intake bucket.

use shipway_aws::AwsError;
use shipway_domain::manifest;

use crate::handler::{Calls, Fetched};

/// The intake bucket.
pub(crate) struct Intake {
    client: aws_sdk_s3::Client,
    bucket: String,
}

impl Intake {
    /// The bucket of this name.
    pub(crate) fn new(config: &aws_config::SdkConfig, bucket: String) -> Intake {
        Intake { client: shipway_aws::s3::client(config), bucket }
    }
}

impl Calls for Intake {
    /// Never more than a manifest may have is read.
    async fn manifest(&self, key: &str, version: &str) -> Result<Fetched, AwsError> {
        let most = manifest::MOST_BYTES;
        let asked = self.client.get_object().bucket(&self.bucket).key(key).version_id(version).send().await;
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
}
