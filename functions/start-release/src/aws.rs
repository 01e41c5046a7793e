//! The calls: ECR is asked when an image was pushed, S3 what was uploaded, Secrets Manager and Systems Manager whether a secret was
//! rotated, Step Functions to start executions.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ecr::types::{DescribeImagesFilter, ImageDetail, ImageIdentifier, TagStatus};
use aws_sdk_s3::types::ObjectVersion;
use aws_sdk_ssm::types::ParameterStringFilter;
use jiff::Timestamp;
use shipway_aws::{AwsError, runtime::Later};
use shipway_domain::{
    manifest::TagPattern,
    name::{Digest, RepositoryName},
    rotation::{Secret, SecretStore, Seen},
};

use crate::handler::{Calls, PushedImage, Started, Upload};

/// How many names a filter of DescribeParameters takes.
/// <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_ParameterStringFilter.html>
const PARAMETERS_AT_ONCE: usize = 50;

/// The clients.
pub(crate) struct Aws {
    ecr: aws_sdk_ecr::Client,
    sfn: aws_sdk_sfn::Client,
    secrets: Later<aws_sdk_secretsmanager::Client>,
    parameters: Later<aws_sdk_ssm::Client>,
    s3: Later<aws_sdk_s3::Client>,
    intake_bucket: String,
}

impl Aws {
    /// The clients, on the shared configuration.
    pub(crate) fn new(config: &aws_config::SdkConfig, intake_bucket: &str) -> Aws {
        Aws {
            ecr: aws_sdk_ecr::Client::new(config),
            sfn: aws_sdk_sfn::Client::new(config),
            secrets: Later::new(config, aws_sdk_secretsmanager::Client::new),
            parameters: Later::new(config, aws_sdk_ssm::Client::new),
            s3: Later::new(config, shipway_aws::s3::client),
            intake_bucket: intake_bucket.to_owned(),
        }
    }
}

impl Calls for Aws {
    async fn image(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<PushedImage>, AwsError> {
        let asked = self
            .ecr
            .describe_images()
            .repository_name(repository.as_str())
            .image_ids(ImageIdentifier::builder().image_digest(digest.as_str()).build())
            .send()
            .await;
        match asked {
            Ok(output) => Ok(output.image_details().iter().find_map(pushed)),
            Err(error) => {
                let error = AwsError::of("ecr:DescribeImages")(error);
                if is_absent(&error) { Ok(None) } else { Err(error) }
            }
        }
    }

    async fn newest_image(
        &self,
        repository: &RepositoryName,
        patterns: &[TagPattern],
    ) -> Result<Option<PushedImage>, AwsError> {
        let mut images = self
            .ecr
            .describe_images()
            .repository_name(repository.as_str())
            .filter(DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build())
            .into_paginator()
            .items()
            .send();
        let mut newest: Option<PushedImage> = None;
        while let Some(image) = images.next().await {
            let image = match image.map_err(AwsError::of("ecr:DescribeImages")) {
                Ok(image) => image,
                Err(error) if is_absent(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            let wanted = image.image_tags().iter().any(|tag| patterns.iter().any(|pattern| pattern.matches(tag)));
            if let Some(image) = pushed(&image).filter(|_| wanted)
                && newest.as_ref().is_none_or(|newest| newest.pushed_at < image.pushed_at)
            {
                newest = Some(image);
            }
        }
        Ok(newest)
    }

    /// Versions that are not current are listed too; the bucket's lifecycle rule keeps them few.
    async fn uploads(&self, prefix: &str) -> Result<Vec<Upload>, AwsError> {
        const CALL: &str = "s3:ListBucketVersions";
        let (mut key, mut version) = (None, None);
        let mut uploads = Vec::new();
        loop {
            let page = self
                .s3
                .get()
                .list_object_versions()
                .bucket(&self.intake_bucket)
                .prefix(prefix)
                .set_key_marker(key)
                .set_version_id_marker(version)
                .send()
                .await
                .map_err(AwsError::of(CALL))?;
            uploads
                .extend(page.versions().iter().filter(|version| version.is_latest() == Some(true)).filter_map(upload));
            if page.is_truncated() != Some(true) {
                return Ok(uploads);
            }
            (key, version) = (page.next_key_marker, page.next_version_id_marker);
        }
    }

    async fn seen(&self, secrets: &BTreeSet<Secret>) -> Result<BTreeMap<String, Seen>, AwsError> {
        let mut seen = BTreeMap::new();
        let mut paths = Vec::new();
        for Secret { name, store } in secrets {
            match store {
                SecretStore::SecretsManager(id) => {
                    if let Some(found) = self.secret(id).await? {
                        seen.insert(name.clone(), found);
                    }
                }
                SecretStore::Parameter(path) => paths.push(path.clone()),
            }
        }
        for some in paths.chunks(PARAMETERS_AT_ONCE) {
            let these =
                ParameterStringFilter::builder().key("Name").option("Equals").set_values(Some(some.to_vec())).build();
            let these = these.map_err(|error| AwsError::broken_off("ssm:DescribeParameters", &error))?;
            let mut pages =
                self.parameters.get().describe_parameters().parameter_filters(these).into_paginator().send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(AwsError::of("ssm:DescribeParameters"))?;
                for parameter in page.parameters() {
                    let Some(name) = parameter.name() else { continue };
                    let changed_at =
                        parameter.last_modified_date().and_then(|at| Timestamp::from_second(at.secs()).ok());
                    seen.insert(name.to_owned(), Seen { version: parameter.version().to_string(), changed_at });
                }
            }
        }
        Ok(seen)
    }

    /// StartExecution is idempotent for a running execution with the same name and input, and refuses the name for 90 days
    /// after it ended. <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>
    async fn start(&self, machine: &str, name: &str, input: &str) -> Result<Started, AwsError> {
        match self.sfn.start_execution().state_machine_arn(machine).name(name).input(input).send().await {
            Ok(_) => Ok(Started::Running),
            Err(error) => {
                let error = AwsError::of("states:StartExecution")(error);
                if error.is("ExecutionAlreadyExists") { Ok(Started::Before) } else { Err(error) }
            }
        }
    }
}

impl Aws {
    /// The current version of a secret; none where it is not there, or has no value yet.
    async fn secret(&self, id: &str) -> Result<Option<Seen>, AwsError> {
        let asked = self.secrets.get().describe_secret().secret_id(id).send().await;
        let secret = match asked.map_err(AwsError::of("secretsmanager:DescribeSecret")) {
            Ok(secret) => secret,
            Err(error) if error.is("ResourceNotFoundException") => return Ok(None),
            Err(error) => return Err(error),
        };
        let changed_at = secret.last_changed_date().and_then(|at| Timestamp::from_second(at.secs()).ok());
        let mut versions = secret.version_ids_to_stages().into_iter().flatten();
        let current = versions.find(|(_, stages)| stages.iter().any(|stage| stage == "AWSCURRENT"));
        Ok(current.map(|(version, _)| Seen { version: version.clone(), changed_at }))
    }
}

fn is_absent(error: &AwsError) -> bool {
    error.is("ImageNotFoundException") || error.is("RepositoryNotFoundException")
}

fn upload(object: &ObjectVersion) -> Option<Upload> {
    let modified = object.last_modified()?;
    Some(Upload {
        key: object.key()?.to_owned(),
        version: object.version_id().filter(|version| *version != "null")?.to_owned(),
        at: Timestamp::from_second(modified.secs()).ok()?,
    })
}

fn pushed(image: &ImageDetail) -> Option<PushedImage> {
    let digest = image.image_digest()?.parse().ok()?;
    let pushed = image.image_pushed_at()?;
    let pushed_at = Timestamp::new(pushed.secs(), i32::try_from(pushed.subsec_nanos()).ok()?).ok()?;
    Some(PushedImage { digest, pushed_at, tags: image.image_tags().to_vec() })
}
