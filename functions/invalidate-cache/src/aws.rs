//! The calls of an invalidation: CloudFront, the manifests in the intake bucket, and the table.

use aws_sdk_cloudfront::types::{InvalidationBatch, Paths};
use aws_sdk_s3::config::Builder;
use jiff::Timestamp;
use shipway_aws::{
    AwsError, Store,
    runtime::{MissingSetting, sdk_config, setting},
    store::{EnvironmentRecord, Manifest},
};
use shipway_domain::{message::Run, release::ComponentState, site::SiteManifest};

use crate::handler::{Asked, Calls, Error, Invalidation, Progress};

/// The name of this function's progress in the release's record.
const PROGRESS: &str = "invalidate";

/// The real thing.
pub(crate) struct Aws {
    cloudfront: aws_sdk_cloudfront::Client,
    s3: aws_sdk_s3::Client,
    store: Store,
    intake: String,
}

impl Aws {
    /// The clients, from the function's environment.
    pub(crate) async fn from_env() -> Result<Aws, MissingSetting> {
        let (table, intake) = (setting("TABLE")?, setting("INTAKE_BUCKET")?);
        let config = sdk_config().await;
        let path_style = std::env::var("S3_PATH_STYLE").is_ok_and(|value| value == "true");
        let s3 = aws_sdk_s3::Client::from_conf(Builder::from(&config).force_path_style(path_style).build());
        let cloudfront = aws_sdk_cloudfront::Client::new(&config);
        Ok(Aws { cloudfront, s3, store: Store::new(&config, table), intake })
    }
}

impl Calls for Aws {
    async fn renew(&self, run: &Run, now: Timestamp) -> Result<(), Error> {
        Ok(self.store.renew(run, now).await?)
    }

    async fn applied(&self, run: &Run) -> Result<(EnvironmentRecord, Manifest), Error> {
        Ok(self.store.applied(&run.app, &run.environment).await?)
    }

    async fn component(&self, run: &Run) -> Result<ComponentState, Error> {
        Ok(self.store.component(&run.app, &run.environment, &run.component).await?)
    }

    async fn progress(&self, run: &Run) -> Result<Option<Progress>, Error> {
        Ok(self.store.progress(run, PROGRESS).await?)
    }

    async fn save_progress(&self, run: &Run, progress: &Progress, now: Timestamp) -> Result<(), Error> {
        Ok(self.store.save_progress(run, PROGRESS, progress, now).await?)
    }

    async fn manifest(&self, key: &str) -> Result<Option<SiteManifest>, Error> {
        let request = self.s3.get_object().bucket(&self.intake).key(key);
        let output = match request.send().await.map_err(AwsError::of("s3:GetObject")) {
            Ok(output) => output,
            Err(error) if error.is("NoSuchKey") => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let text = output.body.collect().await.map_err(|error| Error::Interrupted(error.to_string()))?.into_bytes();
        // One that cannot be read is as good as none: everything is invalidated.
        Ok(serde_json::from_slice(&text).inspect_err(|error| tracing::warn!(key, %error, "unreadable manifest")).ok())
    }

    async fn create(&self, distribution: &str, reference: &str, paths: &[String]) -> Result<Asked, Error> {
        let list =
            Paths::builder().quantity(i32::try_from(paths.len()).unwrap_or(i32::MAX)).set_items(Some(paths.to_vec()));
        let batch = list
            .build()
            .and_then(|paths| InvalidationBatch::builder().paths(paths).caller_reference(reference).build());
        let batch = batch.map_err(|error| Error::Incomplete(error.to_string()))?;
        let request = self.cloudfront.create_invalidation().distribution_id(distribution).invalidation_batch(batch);
        match request.send().await.map_err(AwsError::of("cloudfront:CreateInvalidation")) {
            Ok(output) => seen(output.invalidation).map(Asked::Taken),
            Err(error) if error.is("TooManyInvalidationsInProgress") => Ok(Asked::Busy),
            Err(error) if error.is("NoSuchDistribution") => Err(Error::NoDistribution(distribution.to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    async fn invalidation(&self, distribution: &str, id: &str) -> Result<Invalidation, Error> {
        let request = self.cloudfront.get_invalidation().distribution_id(distribution).id(id);
        match request.send().await.map_err(AwsError::of("cloudfront:GetInvalidation")) {
            Ok(output) => seen(output.invalidation),
            // CloudFront forgets old invalidations; one that it forgot is done.
            Err(error) if error.is("NoSuchInvalidation") => Ok(Invalidation { id: id.to_owned(), is_completed: true }),
            Err(error) if error.is("NoSuchDistribution") => Err(Error::NoDistribution(distribution.to_owned())),
            Err(error) => Err(error.into()),
        }
    }
}

fn seen(invalidation: Option<aws_sdk_cloudfront::types::Invalidation>) -> Result<Invalidation, Error> {
    let seen =
        invalidation.ok_or_else(|| Error::Incomplete("CloudFront answered without an invalidation".to_owned()))?;
    Ok(Invalidation { id: seen.id, is_completed: seen.status == "Completed" })
}
