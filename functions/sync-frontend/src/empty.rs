//! Before a teardown: the environment's buckets lose what is in them, every version of it, as CloudFormation deletes no bucket
//! that holds something. What the manifest keeps is not touched.
//!
//! What is left is found by listing again, so a pass that is cut off anywhere is simply followed by another.

use std::collections::BTreeMap;

use futures_util::future;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shipway_aws::{Store, store::EnvironmentRecord};
use shipway_domain::{
    manifest::Spec,
    message::{Pass, Run, Summary},
    name::Component,
    release::Step,
    teardown::{self, Use},
};

use crate::handler::Error;

/// Who speaks in a release's story.
const ME: &str = "sync-frontend";

/// What this part of the function is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Empty the environment's buckets.
    Empty,
}

/// One version of an object, or a marker that says that it was deleted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    /// The object's key.
    pub(crate) key: String,
    /// The version's id; `null` in a bucket that keeps none.
    pub(crate) id: String,
}

/// An upload in parts that was never completed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unfinished {
    /// The key that it is for.
    pub(crate) key: String,
    /// Its id.
    pub(crate) id: String,
}

/// What emptying asks of S3. A bucket that is not there any more is an empty one without tags.
pub(crate) trait Buckets {
    /// The names of the account's buckets that begin so.
    async fn buckets(&self, start: &str) -> Result<Vec<String>, Error>;
    /// A bucket's tags.
    async fn tags(&self, bucket: &str) -> Result<BTreeMap<String, String>, Error>;
    /// The first versions and markers of a bucket, at most a thousand.
    async fn versions(&self, bucket: &str) -> Result<Vec<Version>, Error>;
    /// Deletes these.
    async fn delete_versions(&self, bucket: &str, versions: &[Version]) -> Result<(), Error>;
    /// The first unfinished uploads of a bucket, at most a thousand.
    async fn unfinished(&self, bucket: &str) -> Result<Vec<Unfinished>, Error>;
    /// Ends an unfinished upload.
    async fn abort(&self, bucket: &str, upload: &Unfinished) -> Result<(), Error>;
}

/// Makes one pass. When `is_spent` it starts nothing new, and the next pass goes on from there.
pub(crate) async fn handle(
    store: &Store,
    buckets: &impl Buckets,
    run: &Run,
    now: Timestamp,
    is_spent: impl Fn() -> bool,
) -> Result<Pass<Summary>, Error> {
    if run.component != Component::Platform {
        return Err(Error::Input(format!("the buckets of an environment are not emptied for {}", run.component)));
    }
    store.renew(run, now).await?;
    let record = store.environment(&run.app, &run.environment).await?.unwrap_or_default();
    let ours = ours(buckets, run, &record).await?;
    let told = store.release(&run.app, &run.environment, &run.release).await?;
    let told: Vec<String> = told.into_iter().flat_map(|record| record.steps).map(|step| step.what).collect();
    let pass = Emptying { store, buckets, run, told: &told, now, is_spent: &is_spent };
    let emptied = future::try_join_all(ours.iter().map(|bucket| pass.empty(bucket))).await?;
    let (deleted, left) = emptied
        .iter()
        .fold((0, 0), |(deleted, left), bucket| (deleted + bucket.deleted, left + usize::from(!bucket.is_done)));
    tracing::info!(release = %run.release, buckets = ours.len(), deleted, left, "emptied");
    Ok(if left == 0 {
        Pass::Done(Summary { note: format!("{} buckets are empty", ours.len()) })
    } else {
        let note = format!("{left} of {} buckets are not empty yet; this pass deleted {deleted} versions", ours.len());
        Pass::Again { seconds: 1, note }
    })
}

/// The buckets that are to be emptied.
async fn ours(buckets: &impl Buckets, run: &Run, record: &EnvironmentRecord) -> Result<Vec<String>, Error> {
    let specs: Vec<&Spec> = record.applied.iter().chain(&record.planned).map(|manifest| &manifest.spec).collect();
    let names = future::try_join_all(teardown::BUCKETS.iter().map(|start| buckets.buckets(start))).await?;
    let maybe: Vec<String> = names.into_iter().flatten().filter(|name| teardown::may_be_of(name, &run.app)).collect();
    let tags = future::try_join_all(maybe.iter().map(|bucket| buckets.tags(bucket))).await?;
    let emptied = |tags: &BTreeMap<String, String>| {
        Use::of(tags, &run.app, &run.environment).is_some_and(|of| of.is_emptied(&specs))
    };
    Ok(maybe.into_iter().zip(tags).filter(|(_, tags)| emptied(tags)).map(|(bucket, _)| bucket).collect())
}

struct Emptying<'a, B, F> {
    store: &'a Store,
    buckets: &'a B,
    run: &'a Run,
    /// The release's story so far.
    told: &'a [String],
    now: Timestamp,
    is_spent: &'a F,
}

/// How far a pass came with one bucket.
struct Emptied {
    deleted: usize,
    is_done: bool,
}

impl<B: Buckets, F: Fn() -> bool> Emptying<'_, B, F> {
    async fn empty(&self, bucket: &str) -> Result<Emptied, Error> {
        let mut deleted = 0;
        let mut is_told = false;
        loop {
            let (versions, unfinished) =
                future::try_join(self.buckets.versions(bucket), self.buckets.unfinished(bucket)).await?;
            if versions.is_empty() && unfinished.is_empty() {
                return Ok(Emptied { deleted, is_done: true });
            }
            if (self.is_spent)() {
                return Ok(Emptied { deleted, is_done: false });
            }
            if !is_told {
                self.tell(format!("empties {bucket}")).await?;
                is_told = true;
            }
            if !versions.is_empty() {
                self.buckets.delete_versions(bucket, &versions).await?;
                deleted += versions.len();
            }
            for upload in &unfinished {
                self.buckets.abort(bucket, upload).await?;
            }
        }
    }

    /// Tells what is about to be done, once, however often the pass is repeated. It renews the claim too: who lost it deletes
    /// nothing.
    async fn tell(&self, what: String) -> Result<(), Error> {
        if self.told.contains(&what) {
            return Ok(());
        }
        Ok(self.store.step(self.run, Step { at: self.now, by: ME.to_owned(), what }).await?)
    }
}
