//! One pass: gather what the release needs and what of it is there, let the domain compare, then ask the scan's gate.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shipway_aws::{AwsError, PublicError, Store, store::StoreError};
use shipway_domain::{
    failure::Failure,
    message::{Pass, PassInput, Run, Summary},
    name::{ComponentName, Digest, RepositoryName},
    preflight::{self, Facts, Finding, Image, Instance, Needs, Standing, Subnet},
    release::Step,
    scan::{self, Report, Verdict},
    task::{self, Source, Surroundings, migration::Part},
};
use shipway_ecs::ServiceError;

/// Under what it is remembered how far the checks of this release are.
const PROGRESS: &str = "check";

/// How long until a scan that is not through is looked at again.
const PAUSE_SECONDS: u32 = 10;

/// What the machine asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Whether the rollout may begin.
    Check,
}

/// How far the checks of this release are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    /// Since when the scan is waited for.
    since: Timestamp,
    /// What the gate said when it let the image through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passed: Option<String>,
}

/// Why the rollout does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("`{service}` was not touched: {}", list(.findings))]
    Found { service: ComponentName, findings: Vec<Finding> },
    #[error("`{service}` was not touched: {reason}")]
    Scan { service: ComponentName, reason: String },
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Aws(#[from] AwsError),
}

fn list(findings: &[Finding]) -> String {
    match findings {
        [one] => one.what.clone(),
        several => {
            let numbered = several.iter().enumerate().map(|(at, finding)| format!("({}) {}", at + 1, finding.what));
            format!("{} things are missing: {}", several.len(), numbered.collect::<Vec<_>>().join(". "))
        }
    }
}

impl PublicError for Error {
    fn failure(&self) -> Failure {
        match self {
            Error::Found { findings, .. } if findings.iter().any(|finding| finding.of_image) => Failure::RejectedImage,
            Error::Found { .. } => Failure::Preflight,
            Error::Scan { .. } => Failure::RejectedScan,
            Error::Service(error) => error.failure(),
            Error::Store(error) => error.failure(),
            Error::Aws(error) => shipway_ecs::failure(error),
        }
    }
}

/// The calls beside the table's. None of them changes anything.
pub(crate) trait Calls {
    async fn image(&self, repository: &RepositoryName, digest: &Digest) -> Result<Image, AwsError>;
    async fn scan(&self, repository: &RepositoryName, digest: &Digest) -> Result<Report, AwsError>;
    async fn has_log_group(&self, name: &str) -> Result<bool, AwsError>;
    /// Those of these subnets that are there.
    async fn subnets(&self, ids: &BTreeSet<String>) -> Result<Vec<Subnet>, AwsError>;
    async fn standing(&self, cluster: &str, service: &str) -> Result<Option<Standing>, AwsError>;
    /// The instances of a cluster that take tasks.
    async fn instances(&self, cluster: &str) -> Result<Vec<Instance>, AwsError>;
}

/// Makes one pass.
pub(crate) async fn handle<C: Calls>(
    store: &Store,
    calls: &C,
    surroundings: &Surroundings,
    input: PassInput<Ask>,
    now: Timestamp,
) -> Result<Pass<Summary>, Error> {
    let PassInput { run, action: Ask::Check } = &input;
    let (name, _) = shipway_ecs::image_of(run)?;
    store.renew(run, now).await?;
    let progress: Option<Progress> = store.progress(run, PROGRESS).await?;
    if let Some(note) = progress.as_ref().and_then(|progress| progress.passed.clone()) {
        return Ok(Pass::Done(Summary { note }));
    }
    let (record, manifest) = store.applied(&run.app, &run.environment).await?;
    let missing = |what| ServiceError::NotProvisioned { service: name.clone(), what };
    let wanted = shipway_ecs::wanted(run, &manifest.spec, &record.platform)?;
    let cluster = record.platform.cluster.as_deref().ok_or_else(|| missing("the cluster"))?;
    let network = record.network.as_ref().ok_or_else(|| missing("the network"))?;
    let placement = wanted.placement(network).map_err(ServiceError::from)?;
    let mut tasks = vec![wanted.service_task(surroundings).map_err(ServiceError::from)?];
    if let Some(migrate) = &wanted.service.migrate {
        // What follows the migration runs where it does.
        let task = wanted.migration_task(surroundings, Part::Migrate, &migrate.command);
        tasks.push(task.map_err(ServiceError::from)?);
    }
    let needs = Needs::of(&wanted, &tasks, &placement);
    let facts = gather(calls, run, cluster, &needs).await?;
    let state = store.component(&run.app, &run.environment, &run.component).await?;
    let is_live = state.live.as_ref().is_some_and(|live| live.artifact == run.artifact);
    let findings = preflight::findings(&needs, &facts, is_live);
    if !findings.is_empty() {
        return Err(Error::Found { service: name.clone(), findings });
    }
    let ready = || Ok(Pass::Done(Summary { note: format!("`{name}` has all that its rollout needs") }));
    // What was live before passed the gate then, and a way back must not be shut by what was found since.
    let (Some(gate), Source::Repository { repository, digest }, Image::There(image)) =
        (wanted.service.scan.as_ref().filter(|_| !state.was_live(&run.artifact)), needs.source, &facts.image)
    else {
        return ready();
    };
    // Of an index nothing is scanned but the images it lists.
    let scanned = preflight::runs_as(image, digest, needs.architecture).unwrap_or_else(|_| digest.clone());
    let report = calls.scan(repository, &scanned).await?;
    let since = progress.as_ref().map_or(now, |progress| progress.since);
    match scan::judge(gate, manifest.spec.production, &report, now.duration_since(since).as_secs()) {
        Verdict::Wait(note) => {
            if progress.is_none() {
                store.save_progress(run, PROGRESS, &Progress { since, passed: None }, now).await?;
            }
            Ok(Pass::Again { seconds: PAUSE_SECONDS, note })
        }
        Verdict::Refused(reason) => Err(Error::Scan { service: name.clone(), reason }),
        Verdict::Passes(note) => {
            let step = Step { at: now, by: "check-release".to_owned(), what: note.clone() };
            store.save_progress_and_step(run, PROGRESS, &Progress { since, passed: Some(note) }, step).await?;
            ready()
        }
    }
}

async fn gather<C: Calls>(calls: &C, run: &Run, cluster: &str, needs: &Needs<'_>) -> Result<Facts, Error> {
    let image = match needs.source {
        Source::Repository { repository, digest } => calls.image(repository, digest).await?,
        Source::Public(_) => Image::Elsewhere,
    };
    let mut missing_log_groups = BTreeSet::new();
    for group in &needs.log_groups {
        if !calls.has_log_group(group).await? {
            missing_log_groups.insert(group.clone());
        }
    }
    let service = task::service_name(&run.app, &run.environment, needs.service);
    Ok(Facts {
        image,
        missing_log_groups,
        standing: calls.standing(cluster, &service).await?,
        subnets: if needs.subnets.is_empty() { Vec::new() } else { calls.subnets(&needs.subnets).await? },
        instances: if needs.room.is_some() { calls.instances(cluster).await? } else { Vec::new() },
    })
}

#[cfg(test)]
mod tests;
