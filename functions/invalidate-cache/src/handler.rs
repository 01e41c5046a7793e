//! One pass at the edge: tell it how the release's URLs find their files, find out what is stale, ask CloudFront to forget it,
//! look whether it has.
//!
//! The edge is told first: what it forgets it fetches anew by what it knows. Of a preview it is told where its files are and
//! until when it can be seen; nothing that is live is touched for it, so nothing is forgotten.
//!
//! The invalidation is named by the release and its paths, so asking again after a lost answer finds the first one. CloudFront
//! takes its time; a site is published when its objects are there, so a slow invalidation ends with a note and not with a
//! failure.

use std::collections::BTreeMap;

use futures_util::future;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shipway_aws::{
    AwsError, PublicError,
    store::{EnvironmentRecord, Manifest, StoreError},
};
use shipway_domain::{
    edge::{self, Edge, Preview},
    failure::Failure,
    invalidation::{self, MAX_WILDCARDS},
    manifest::spec::Site,
    message::{Pass, PassInput, Run, Summary},
    name::{Component, ComponentName, PreviewName, ReleaseId},
    platform::SiteOutputs,
    release::ComponentState,
    site::{self, SiteManifest},
};

/// How long to wait before looking again. An invalidation takes effect within seconds and is reported some time later.
const LOOK_SECONDS: u32 = 5;

/// How long to wait before asking again when too many invalidations are in progress.
const BUSY_SECONDS: u32 = 15;

/// How long an invalidation is waited for.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// What this function is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Tell the edge what it must know, and make the cache forget what changed.
    Invalidate,
}

/// How far a release is at the edge, for its next pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// When the first pass asked for it.
    pub(crate) since: Timestamp,
    /// CloudFront's id of it, once it was taken.
    pub(crate) id: Option<String>,
    /// How many paths it has.
    pub(crate) paths: usize,
    /// Whether the release's story tells that the edge is told something.
    #[serde(default)]
    pub(crate) told: bool,
}

/// What is in a key-value store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The version of it all.
    pub(crate) version: String,
    /// The values by key.
    pub(crate) values: BTreeMap<String, String>,
}

/// What changes in a key-value store, all at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The key that is set.
    pub(crate) key: String,
    /// Its value.
    pub(crate) value: String,
    /// Keys that go.
    pub(crate) gone: Vec<String>,
}

/// How many keys may change at once.
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html#limits-keyvaluestores>
const MOST_KEYS: usize = 50;

/// An invalidation as CloudFront tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalidation {
    /// Its id.
    pub(crate) id: String,
    /// Whether all edges have done it.
    pub(crate) is_completed: bool,
}

/// What CloudFront says when it is asked for an invalidation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It has it.
    Taken(Invalidation),
    /// Too many are in progress.
    Busy,
}

/// What an invalidation asks of AWS.
pub(crate) trait Calls {
    /// Renews the claim.
    async fn renew(&self, run: &Run, now: Timestamp) -> Result<(), Error>;
    /// The environment and the manifest it stands by.
    async fn applied(&self, run: &Run) -> Result<(EnvironmentRecord, Manifest), Error>;
    /// The site's state.
    async fn component(&self, run: &Run) -> Result<ComponentState, Error>;
    /// How far an earlier pass came.
    async fn progress(&self, run: &Run) -> Result<Option<Progress>, Error>;
    /// Writes down how far this pass came, and with it what the release's story says of it.
    async fn save_progress(
        &self,
        run: &Run,
        progress: &Progress,
        step: Option<&str>,
        now: Timestamp,
    ) -> Result<(), Error>;
    /// A release's site manifest, if it is there.
    async fn manifest(&self, key: &str) -> Result<Option<SiteManifest>, Error>;
    /// What the edge knows.
    async fn known(&self, store: &str) -> Result<Known, Error>;
    /// Changes what the edge knows, if it is still of this version.
    async fn tell(&self, store: &str, version: &str, change: &Change) -> Result<(), Error>;
    /// Asks for an invalidation. The same reference with the same paths finds the one that is there.
    async fn create(&self, distribution: &str, reference: &str, paths: &[String]) -> Result<Asked, Error>;
    /// Looks at an invalidation.
    async fn invalidation(&self, distribution: &str, id: &str) -> Result<Invalidation, Error>;
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The release is not one of a site.
    #[error("invalidate-cache works for a site or a preview of one, not for {0}")]
    Input(Component),
    /// The environment has no such site.
    #[error("`{site}` is not among the sites of {environment}; add it to the manifest and upload that first")]
    NoSite {
        /// The site.
        site: String,
        /// App and environment.
        environment: String,
    },
    /// The release has not been synced.
    #[error("{key} is not in the intake bucket: sync-frontend writes it before anything is invalidated; publish again")]
    NotSynced {
        /// Where its manifest should be.
        key: String,
    },
    /// The distribution is not there.
    #[error("the distribution {0} does not exist any more; upload the environment's manifest again")]
    NoDistribution(String),
    /// The key-value store is not there.
    #[error("the key-value store of `{0}` does not exist; upload the environment's manifest again")]
    NoStore(String),
    /// Somebody else wrote the key-value store.
    #[error("the key-value store {0} changed while it was written; it is written again")]
    StoreChanged(String),
    /// S3 stopped in the middle of an answer.
    #[error("the intake bucket broke off in the middle of an answer: {0}")]
    Interrupted(String),
    /// A request that lacks something, or an answer that does.
    #[error("the invalidation could not be asked for: {0}")]
    Incomplete(String),
    /// CloudFront took no invalidation in all the time there was.
    #[error(
        "CloudFront had too many invalidations in progress on {distribution} (it takes {MAX_WILDCARDS} wildcards at once) for \
         {minutes} minutes; the site is uploaded, but cached copies may be old: publish again when they are done"
    )]
    Busy {
        /// The distribution.
        distribution: String,
        /// For how long.
        minutes: i64,
    },
    /// The table refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// AWS refused or could not answer.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl PublicError for Error {
    fn failure(&self) -> Failure {
        match self {
            Error::Input(_) | Error::NoSite { .. } => Failure::RejectedInput,
            Error::NotSynced { .. } | Error::Incomplete(_) => Failure::Bug,
            Error::NoDistribution(_) | Error::NoStore(_) => Failure::Conflict,
            Error::Interrupted(_) | Error::StoreChanged(_) => Failure::Transient,
            Error::Busy { .. } => Failure::Timeout,
            Error::Store(error) => error.failure(),
            Error::Aws(error) => error.failure(),
        }
    }
}

/// Makes one pass.
pub(crate) async fn handle<C: Calls>(
    calls: &C,
    input: PassInput<Action>,
    now: Timestamp,
) -> Result<Pass<Summary>, Error> {
    let (run, Action::Invalidate) = (input.run, input.action);
    let Some(name) = run.component.site() else { return Err(Error::Input(run.component)) };
    calls.renew(&run, now).await?;
    let (record, progress) = future::try_join(calls.applied(&run), calls.progress(&run)).await?;
    let (environment, manifest) = record;
    let (Some(spec), Some(outputs)) = (manifest.spec.sites.get(name), environment.platform.sites.get(name)) else {
        return Err(Error::NoSite { site: name.to_string(), environment: format!("{}/{}", run.app, run.environment) });
    };
    let progress = progress.unwrap_or(Progress { since: now, id: None, paths: 0, told: false });
    let site = AtEdge { calls, run: &run, name, spec, outputs, now };
    match &run.component {
        Component::Preview(_, preview) => site.preview(preview, progress).await,
        _ => site.live(progress).await,
    }
}

/// A site at the edge, in one pass.
struct AtEdge<'a, C> {
    calls: &'a C,
    run: &'a Run,
    name: &'a ComponentName,
    spec: &'a Site,
    outputs: &'a SiteOutputs,
    now: Timestamp,
}

impl<C: Calls> AtEdge<'_, C> {
    async fn preview(&self, name: &PreviewName, progress: Progress) -> Result<Pass<Summary>, Error> {
        let AtEdge { run, outputs, .. } = self;
        let key = self.key_of(&run.release);
        let own = self.calls.manifest(&key).await?.ok_or(Error::NotSynced { key })?;
        let preview = Preview::of(&own.edge, name, &run.release, self.spec.previews);
        let note = format!(
            "the preview is seen from https://{}/_preview/{name} on, until {}",
            outputs.domain,
            Timestamp::from_second(preview.until).unwrap_or_default()
        );
        let known = self.known().await?;
        let key = edge::preview_key(name);
        let value = text_of(&preview)?;
        if known.values.get(&key) != Some(&value) {
            let is_over = |text: &String| {
                serde_json::from_str::<Preview>(text).is_ok_and(|preview| preview.until <= self.now.as_second())
            };
            let previews = known.values.iter().filter(|(other, _)| **other != key && other.starts_with(edge::PREVIEWS));
            let over = previews.filter(|(_, text)| is_over(text)).map(|(other, _)| other.clone());
            let change = Change { gone: over.take(MOST_KEYS - 1).collect(), key, value };
            self.tell(&known.version, &change, progress, &note).await?;
        }
        Ok(done(&note))
    }

    async fn live(&self, mut progress: Progress) -> Result<Pass<Summary>, Error> {
        let AtEdge { calls, run, .. } = self;
        let distribution = &self.outputs.distribution;
        let is_late = self.now.duration_since(progress.since) > PATIENCE;
        if let Some(id) = &progress.id {
            let seen = calls.invalidation(distribution, id).await?;
            return Ok(look(&seen, progress.paths, is_late));
        }

        let state = calls.component(run).await?;
        let own_key = self.key_of(&run.release);
        let others = state.unfinished.iter().filter(|release| **release != run.release);
        let before: Vec<String> =
            state.live.iter().map(|live| &live.release).chain(others).map(|release| self.key_of(release)).collect();
        let before = future::try_join_all(before.iter().map(|key| calls.manifest(key)));
        let (own, mut before) = future::try_join(calls.manifest(&own_key), before).await?;
        let own = own.ok_or(Error::NotSynced { key: own_key })?;
        if run.repair {
            before.push(None);
        }

        let is_known = |before: &Option<SiteManifest>| before.as_ref().is_some_and(|before| before.edge == own.edge);
        if before.is_empty() || !before.iter().all(is_known) {
            progress = self.tell_live(&own.edge, progress).await?;
        }
        if before.is_empty() {
            return Ok(done("this is the first publication; nothing was cached before it"));
        }
        let paths = invalidation::paths(&invalidation::cached(&own, &before));
        if paths.is_empty() {
            return Ok(done("nothing that CloudFront keeps was replaced; nothing is invalidated"));
        }

        let reference = invalidation::caller_reference(&run.release, &paths);
        progress.paths = paths.len();
        match calls.create(distribution, &reference, &paths).await? {
            Asked::Taken(seen) => {
                tracing::info!(release = %run.release, invalidation = seen.id, paths = paths.len(), "invalidating");
                progress.id = Some(seen.id.clone());
                calls.save_progress(run, &progress, None, self.now).await?;
                Ok(look(&seen, paths.len(), is_late))
            }
            Asked::Busy if is_late => {
                Err(Error::Busy { distribution: distribution.clone(), minutes: PATIENCE.as_mins() })
            }
            Asked::Busy => {
                calls.save_progress(run, &progress, None, self.now).await?;
                let note = format!("too many invalidations are in progress on {distribution}");
                Ok(Pass::Again { seconds: BUSY_SECONDS, note })
            }
        }
    }

    /// The key of what a release wrote down of the bucket.
    fn key_of(&self, release: &ReleaseId) -> String {
        site::manifest_key(&self.run.app, &self.run.environment, &self.run.component, release)
    }

    /// Tells the edge how the release's URLs find their files, where it knows otherwise.
    async fn tell_live(&self, edge: &Edge, progress: Progress) -> Result<Progress, Error> {
        let known = self.known().await?;
        let knows = known.values.get(edge::LIVE).map(|text| serde_json::from_str::<Edge>(text));
        // What it is not told, it takes for the default.
        if knows.unwrap_or_else(|| Ok(Edge::default())).is_ok_and(|knows| knows == *edge) {
            return Ok(progress);
        }
        let change = Change { key: edge::LIVE.to_owned(), value: text_of(edge)?, gone: Vec::new() };
        let note = format!("the edge learns how URLs find their files: {}", change.value);
        self.tell(&known.version, &change, progress, &note).await
    }

    async fn known(&self) -> Result<Known, Error> {
        match self.outputs.store.as_str() {
            "" => Err(Error::NoStore(self.name.to_string())),
            store => self.calls.known(store).await,
        }
    }

    /// Changes what the edge knows. The story tells it first: told again after a cut, it would seem to change nothing.
    async fn tell(
        &self,
        version: &str,
        change: &Change,
        mut progress: Progress,
        note: &str,
    ) -> Result<Progress, Error> {
        if !progress.told {
            progress.told = true;
            self.calls.save_progress(self.run, &progress, Some(note), self.now).await?;
        }
        self.calls.tell(&self.outputs.store, version, change).await?;
        Ok(progress)
    }
}

fn text_of(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Incomplete(error.to_string()))
}

fn look(seen: &Invalidation, paths: usize, is_late: bool) -> Pass<Summary> {
    let what = format!("{paths} {} ({})", if paths == 1 { "path" } else { "paths" }, seen.id);
    let minutes = PATIENCE.as_mins();
    match seen.is_completed {
        true => done(&format!("invalidated {what}")),
        false if is_late => {
            done(&format!("invalidating {what}; CloudFront did not report its end within {minutes} minutes"))
        }
        false => Pass::Again { seconds: LOOK_SECONDS, note: format!("invalidating {what}") },
    }
}

fn done(note: &str) -> Pass<Summary> {
    Pass::Done(Summary { note: note.to_owned() })
}
