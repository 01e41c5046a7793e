//! One pass of an invalidation: find out what is stale, ask CloudFront to forget it, look whether it has.
//!
//! The invalidation is named by the release and its paths, so asking again after a lost answer finds the first one. CloudFront
//! takes its time; a site is published when its objects are there, so a slow invalidation ends with a note and not with a
//! failure.

use futures_util::future;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shipway_aws::{
    AwsError, PublicError,
    store::{EnvironmentRecord, Manifest, StoreError},
};
use shipway_domain::{
    failure::Failure,
    invalidation::{self, MAX_WILDCARDS},
    message::{Pass, PassInput, Run, Summary},
    name::{Component, ReleaseId},
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
    /// Make the cache forget what changed.
    Invalidate,
}

/// How far a release's invalidation is, for its next pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// When the first pass asked for it.
    pub(crate) since: Timestamp,
    /// CloudFront's id of it, once it was taken.
    pub(crate) id: Option<String>,
    /// How many paths it has.
    pub(crate) paths: usize,
}

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
    /// Writes down how far this pass came.
    async fn save_progress(&self, run: &Run, progress: &Progress, now: Timestamp) -> Result<(), Error>;
    /// A release's site manifest, if it is there.
    async fn manifest(&self, key: &str) -> Result<Option<SiteManifest>, Error>;
    /// Asks for an invalidation. The same reference with the same paths finds the one that is there.
    async fn create(&self, distribution: &str, reference: &str, paths: &[String]) -> Result<Asked, Error>;
    /// Looks at an invalidation.
    async fn invalidation(&self, distribution: &str, id: &str) -> Result<Invalidation, Error>;
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The release is not one of a site.
    #[error("invalidate-cache works for a site, not for {0}")]
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
            Error::NoDistribution(_) => Failure::Conflict,
            Error::Interrupted(_) => Failure::Transient,
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
    let Component::Site(name) = &run.component else { return Err(Error::Input(run.component)) };
    calls.renew(&run, now).await?;
    let (record, progress) = future::try_join(calls.applied(&run), calls.progress(&run)).await?;
    let (environment, manifest) = record;
    let (Some(spec), Some(outputs)) = (manifest.spec.sites.get(name), environment.platform.sites.get(name)) else {
        return Err(Error::NoSite { site: name.to_string(), environment: format!("{}/{}", run.app, run.environment) });
    };
    let distribution = &outputs.distribution;
    let since = progress.as_ref().map_or(now, |progress| progress.since);
    let is_late = now.duration_since(since) > PATIENCE;

    if let Some(Progress { id: Some(id), paths, .. }) = &progress {
        let seen = calls.invalidation(distribution, id).await?;
        return Ok(look(&seen, *paths, is_late));
    }

    let state = calls.component(&run).await?;
    let key_of = |release: &ReleaseId| site::manifest_key(&run.app, &run.environment, name, release);
    let own_key = key_of(&run.release);
    let others = state.unfinished.iter().filter(|release| **release != run.release);
    let before: Vec<String> = state.live.iter().map(|live| &live.release).chain(others).map(key_of).collect();
    if before.is_empty() {
        return Ok(done("this is the first publication; nothing was cached before it"));
    }
    let before = future::try_join_all(before.iter().map(|key| calls.manifest(key)));
    let (own, before) = future::try_join(calls.manifest(&own_key), before).await?;
    let own = own.ok_or(Error::NotSynced { key: own_key })?;
    let paths = invalidation::paths(&invalidation::cached(&own, &before, spec.routing));
    if paths.is_empty() {
        return Ok(done("nothing that CloudFront keeps was replaced; nothing is invalidated"));
    }

    let reference = invalidation::caller_reference(&run.release, &paths);
    match calls.create(distribution, &reference, &paths).await? {
        Asked::Taken(seen) => {
            tracing::info!(release = %run.release, invalidation = seen.id, paths = paths.len(), "invalidating");
            let progress = Progress { since, id: Some(seen.id.clone()), paths: paths.len() };
            calls.save_progress(&run, &progress, now).await?;
            Ok(look(&seen, paths.len(), is_late))
        }
        Asked::Busy if is_late => Err(Error::Busy { distribution: distribution.clone(), minutes: PATIENCE.as_mins() }),
        Asked::Busy => {
            calls.save_progress(&run, &Progress { since, id: None, paths: paths.len() }, now).await?;
            let note = format!("too many invalidations are in progress on {distribution}");
            Ok(Pass::Again { seconds: BUSY_SECONDS, note })
        }
    }
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
