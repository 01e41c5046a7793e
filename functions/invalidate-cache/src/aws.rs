//! The calls at the edge: CloudFront and its key-value stores, the manifests in the intake bucket, and the table.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_cloudfront::types::{InvalidationBatch, Paths};
use aws_sdk_cloudfrontkeyvaluestore::{
    Client as StoreClient,
    config::{
        Builder as StoreBuilder,
        endpoint::{Endpoint, EndpointFuture, Params, ResolveEndpoint},
    },
    types::{DeleteKeyRequestListItem, PutKeyRequestListItem},
};
use jiff::Timestamp;
use shipway_aws::{
    AwsError, Store,
    runtime::Later,
    store::{EnvironmentRecord, Manifest},
};
use shipway_domain::{
    message::Run,
    release::{ComponentState, Step},
    site::SiteManifest,
};

use crate::handler::{Asked, Calls, Change, Error, Invalidation, Known, Progress};

/// The name of this function's progress in the release's record.
const PROGRESS: &str = "invalidate";

/// The real thing.
pub(crate) struct Aws {
    cloudfront: Later<aws_sdk_cloudfront::Client>,
    stores: Later<StoreClient>,
    s3: aws_sdk_s3::Client,
    store: Store,
    intake: String,
}

impl Aws {
    pub(crate) fn new(config: &SdkConfig, store: Store, intake: String) -> Aws {
        Aws {
            cloudfront: Later::new(config, aws_sdk_cloudfront::Client::new),
            stores: Later::new(config, stores),
            s3: shipway_aws::s3::client(config),
            store,
            intake,
        }
    }
}

/// The client of the key-value stores. The account is named in the host, as CloudFront wants it, unless `ACCOUNT_IN_HOST` is
/// `false`.
fn stores(config: &SdkConfig) -> StoreClient {
    let builder = StoreBuilder::from(config);
    let is_plain = std::env::var("ACCOUNT_IN_HOST").is_ok_and(|value| value == "false");
    StoreClient::from_conf(match config.endpoint_url().filter(|_| is_plain) {
        Some(url) => builder.endpoint_resolver(Plain(url.to_owned())).build(),
        None => builder.build(),
    })
}

/// An endpoint as it is written, without the account in its host.
#[derive(Debug)]
struct Plain(String);

impl ResolveEndpoint for Plain {
    fn resolve_endpoint<'a>(&'a self, _: &'a Params) -> EndpointFuture<'a> {
        EndpointFuture::ready(Ok(Endpoint::builder().url(self.0.clone()).build()))
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

    async fn save_progress(
        &self,
        run: &Run,
        progress: &Progress,
        step: Option<&str>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let Some(what) = step else { return Ok(self.store.save_progress(run, PROGRESS, progress, now).await?) };
        let step = Step { at: now, by: "invalidate-cache".to_owned(), what: what.to_owned() };
        Ok(self.store.save_progress_and_step(run, PROGRESS, progress, step).await?)
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

    async fn known(&self, store: &str) -> Result<Known, Error> {
        let request = self.stores.get().describe_key_value_store().kvs_arn(store);
        let described = request.send().await.map_err(AwsError::of("cloudfront-keyvaluestore:DescribeKeyValueStore"));
        let version = described.map_err(|error| of_store(store, error))?.e_tag;
        let mut values = BTreeMap::new();
        let mut next = None;
        loop {
            let request = self.stores.get().list_keys().kvs_arn(store).max_results(50).set_next_token(next);
            let page = request.send().await.map_err(AwsError::of("cloudfront-keyvaluestore:ListKeys"));
            let page = page.map_err(|error| of_store(store, error))?;
            values.extend(page.items.unwrap_or_default().into_iter().map(|item| (item.key, item.value)));
            next = page.next_token;
            if next.is_none() {
                return Ok(Known { version, values });
            }
        }
    }

    async fn tell(&self, store: &str, version: &str, change: &Change) -> Result<(), Error> {
        let incomplete =
            |error: aws_sdk_cloudfrontkeyvaluestore::error::BuildError| Error::Incomplete(error.to_string());
        let put = PutKeyRequestListItem::builder().key(&change.key).value(&change.value).build().map_err(incomplete)?;
        let gone = change.gone.iter().map(|key| DeleteKeyRequestListItem::builder().key(key).build());
        let gone = gone.collect::<Result<Vec<_>, _>>().map_err(incomplete)?;
        let gone = Some(gone).filter(|gone| !gone.is_empty());
        let request = self.stores.get().update_keys().kvs_arn(store).if_match(version).puts(put).set_deletes(gone);
        let told = request.send().await.map_err(AwsError::of("cloudfront-keyvaluestore:UpdateKeys"));
        told.map(drop).map_err(|error| of_store(store, error))
    }

    async fn create(&self, distribution: &str, reference: &str, paths: &[String]) -> Result<Asked, Error> {
        let list =
            Paths::builder().quantity(i32::try_from(paths.len()).unwrap_or(i32::MAX)).set_items(Some(paths.to_vec()));
        let batch = list
            .build()
            .and_then(|paths| InvalidationBatch::builder().paths(paths).caller_reference(reference).build());
        let batch = batch.map_err(|error| Error::Incomplete(error.to_string()))?;
        let request =
            self.cloudfront.get().create_invalidation().distribution_id(distribution).invalidation_batch(batch);
        match request.send().await.map_err(AwsError::of("cloudfront:CreateInvalidation")) {
            Ok(output) => seen(output.invalidation).map(Asked::Taken),
            Err(error) if error.is("TooManyInvalidationsInProgress") => Ok(Asked::Busy),
            Err(error) if error.is("NoSuchDistribution") => Err(Error::NoDistribution(distribution.to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    async fn invalidation(&self, distribution: &str, id: &str) -> Result<Invalidation, Error> {
        let request = self.cloudfront.get().get_invalidation().distribution_id(distribution).id(id);
        match request.send().await.map_err(AwsError::of("cloudfront:GetInvalidation")) {
            Ok(output) => seen(output.invalidation),
            // CloudFront forgets old invalidations; one that it forgot is done.
            Err(error) if error.is("NoSuchInvalidation") => Ok(Invalidation { id: id.to_owned(), is_completed: true }),
            Err(error) if error.is("NoSuchDistribution") => Err(Error::NoDistribution(distribution.to_owned())),
            Err(error) => Err(error.into()),
        }
    }
}

fn of_store(store: &str, error: AwsError) -> Error {
    match error {
        error if error.is("ConflictException") => Error::StoreChanged(store.to_owned()),
        error if error.is("ResourceNotFoundException") => Error::NoStore(store.to_owned()),
        error => error.into(),
    }
}

fn seen(invalidation: Option<aws_sdk_cloudfront::types::Invalidation>) -> Result<Invalidation, Error> {
    let seen =
        invalidation.ok_or_else(|| Error::Incomplete("CloudFront answered without an invalidation".to_owned()))?;
    Ok(Invalidation { id: seen.id, is_completed: seen.status == "Completed" })
}
