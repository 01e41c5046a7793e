//! One pass: gather what the release needs and what of it is there, let the domain compare, then ask the scan's gate.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shipway_aws::{AwsError, PublicError, Store, store::StoreError};
use shipway_domain::{
    failure::Failure,
    message::{Pass, PassInput, Run, Summary},
    name::{ComponentName, Digest, RepositoryName},
    preflight::{self, Facts, Finding, Image, Instance, Keeper, Kept, Needs, Role, Standing, Stored, Subnet},
    release::Step,
    scan::{self, Report, Verdict},
    smoke::{Came, Check},
    task::{self, Source, Surroundings, migration::Part},
};
use shipway_ecs::{Ground, ServiceError};

use crate::smoke;

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
    /// Whether the new version answers as it must.
    Smoke,
    /// The same of one that nobody else reaches yet.
    SmokeAsTest,
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
    #[error("a smoke test of `{service}` failed: {reason}")]
    Smoke { service: ComponentName, reason: String },
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
            Error::Smoke { .. } => Failure::Smoke,
            Error::Service(error) => error.failure(),
            Error::Store(error) => error.failure(),
            Error::Aws(error) => shipway_ecs::failure(error),
        }
    }
}

/// The calls beside the table's. None of them changes anything.
pub(crate) trait Calls {
    async fn image(&self, repository: &RepositoryName, digest: &Digest) -> Result<Image, AwsError>;
    /// An image's configuration, where it can be read.
    async fn configuration(&self, repository: &RepositoryName, layer: &Digest) -> Result<Option<String>, AwsError>;
    async fn scan(&self, repository: &RepositoryName, digest: &Digest) -> Result<Report, AwsError>;
    async fn role(&self, arn: &str) -> Result<Role, AwsError>;
    async fn secret(&self, arn: &str) -> Result<Kept, AwsError>;
    /// Those of these parameters that are there.
    async fn parameters(&self, arns: &BTreeSet<&str>) -> Result<BTreeSet<String>, AwsError>;
    /// Those of these resources on which the role may surely not do this.
    async fn denied(
        &self,
        role: &str,
        right: &'static str,
        arns: &BTreeSet<&str>,
    ) -> Result<BTreeSet<String>, AwsError>;
    async fn has_log_group(&self, name: &str) -> Result<bool, AwsError>;
    /// Those of these subnets that are there.
    async fn subnets(&self, ids: &BTreeSet<String>) -> Result<Vec<Subnet>, AwsError>;
    async fn standing(&self, cluster: &str, service: &str) -> Result<Option<Standing>, AwsError>;
    /// The instances of a cluster that take tasks.
    async fn instances(&self, cluster: &str) -> Result<Vec<Instance>, AwsError>;
    /// Those of these alarms that are there, and whether each is on.
    async fn alarms(&self, names: &BTreeSet<String>) -> Result<BTreeMap<String, bool>, AwsError>;
    /// What a load balancer answers.
    async fn request(&self, load_balancer: &str, check: &Check) -> Came;
}

/// Makes one pass.
pub(crate) async fn handle<C: Calls>(
    store: &Store,
    calls: &C,
    surroundings: &Surroundings,
    input: PassInput<Ask>,
    now: Timestamp,
) -> Result<Pass<Summary>, Error> {
    let PassInput { run, action } = &input;
    let (name, _) = shipway_ecs::image_of(run)?;
    if let Ask::Smoke | Ask::SmokeAsTest = action {
        let as_test = *action == Ask::SmokeAsTest;
        return Box::pin(smoke::requests(store, calls, run, name, as_test, now)).await;
    }
    store.renew(run, now).await?;
    let progress: Option<Progress> = store.progress(run, PROGRESS).await?;
    if let Some(note) = progress.as_ref().and_then(|progress| progress.passed.clone()) {
        return Ok(Pass::Done(Summary { note }));
    }
    let ground = Ground::of(store, run, name).await?;
    let wanted = ground.wanted()?;
    let cluster = ground.cluster()?;
    let placement = wanted.placement(ground.network()?).map_err(ServiceError::from)?;
    let mut tasks = vec![wanted.service_task(surroundings).map_err(ServiceError::from)?];
    if let Some(migrate) = &wanted.service.migrate {
        // What follows the migration runs where it does.
        let task = wanted.migration_task(surroundings, Part::Migrate, &migrate.command);
        tasks.push(task.map_err(ServiceError::from)?);
    }
    let state = store.component(&run.app, &run.environment, &run.component).await?;
    let mut needs = Needs::of(&wanted, &tasks, &placement);
    if state.was_live(&run.artifact) {
        // The alarm that is on may be why somebody goes back.
        needs.alarms.clear();
    }
    let facts = gather(calls, run, cluster, &needs).await?;
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
    let scanned = image.runs_as(digest, needs.architecture).unwrap_or_else(|_| digest.clone());
    let report = calls.scan(repository, &scanned).await?;
    let since = progress.as_ref().map_or(now, |progress| progress.since);
    match scan::judge(gate, wanted.spec.production, &report, now.duration_since(since).as_secs()) {
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

/// Asks for everything at once; what the role may read only when it is known that role and secrets are there.
async fn gather<C: Calls>(calls: &C, run: &Run, cluster: &str, needs: &Needs<'_>) -> Result<Facts, Error> {
    let service = task::service_name(&run.app, &run.environment, needs.service);
    let subnets = async { if needs.subnets.is_empty() { Ok(Vec::new()) } else { calls.subnets(&needs.subnets).await } };
    let instances = async { if needs.room.is_some() { calls.instances(cluster).await } else { Ok(Vec::new()) } };
    let alarms =
        async { if needs.alarms.is_empty() { Ok(BTreeMap::new()) } else { calls.alarms(&needs.alarms).await } };
    let infrastructure_role = async {
        match needs.infrastructure_role {
            Some(role) => calls.role(role).await,
            None => Ok(Role::Unknown),
        }
    };
    let (
        image,
        execution_role,
        task_role,
        infrastructure_role,
        kept,
        missing_log_groups,
        standing,
        subnets,
        instances,
        alarms,
    ) = tokio::try_join!(
        Box::pin(image(calls, needs.source)),
        Box::pin(calls.role(needs.execution_role)),
        Box::pin(calls.role(needs.task_role)),
        Box::pin(infrastructure_role),
        Box::pin(kept(calls, needs)),
        Box::pin(missing_log_groups(calls, needs)),
        Box::pin(calls.standing(cluster, &service)),
        Box::pin(subnets),
        Box::pin(instances),
        Box::pin(alarms),
    )?;
    let unreadable = match execution_role {
        Role::Missing => BTreeSet::new(),
        Role::There(_) | Role::Unknown => unreadable(calls, needs, &kept).await?,
    };
    Ok(Facts {
        image,
        execution_role,
        task_role,
        infrastructure_role,
        kept,
        unreadable,
        missing_log_groups,
        standing,
        subnets,
        instances,
        alarms,
    })
}

/// An image, with its configuration where its manifest does not tell what it runs on.
async fn image<C: Calls>(calls: &C, source: Source<'_>) -> Result<Image, AwsError> {
    let Source::Repository { repository, digest } = source else { return Ok(Image::Elsewhere) };
    let image = calls.image(repository, digest).await?;
    let Image::There(Stored { manifest, .. }) = &image else { return Ok(image) };
    let Some(layer) = preflight::configuration_of(manifest) else { return Ok(image) };
    let configuration = calls.configuration(repository, &layer).await?;
    Ok(Image::There(Stored { manifest: manifest.clone(), configuration }))
}

/// What is known of what the tasks are given. One call a secret, as AWS describes no more at once; parameters together.
async fn kept<C: Calls>(calls: &C, needs: &Needs<'_>) -> Result<BTreeMap<String, Kept>, AwsError> {
    let all = |keeper| needs.given.iter().filter(move |(_, given)| given.keeper == keeper).map(|(arn, _)| arn.as_str());
    let named: BTreeSet<&str> = all(Keeper::ParameterStore).collect();
    let secrets = all(Keeper::SecretsManager).map(async |arn| Ok((arn.to_owned(), calls.secret(arn).await?)));
    let parameters = async { if named.is_empty() { Ok(BTreeSet::new()) } else { calls.parameters(&named).await } };
    let (secrets, there) = tokio::try_join!(try_join_all(secrets), Box::pin(parameters))?;
    let parameters = named.into_iter().map(|arn| {
        let kept = if there.contains(arn) { Kept::There(arn.to_owned()) } else { Kept::Missing };
        (arn.to_owned(), kept)
    });
    Ok(secrets.into_iter().chain(parameters).collect())
}

/// What of it the execution role may not read. A policy names whole ARNs, so what is not there cannot be asked for.
async fn unreadable<C: Calls>(
    calls: &C,
    needs: &Needs<'_>,
    kept: &BTreeMap<String, Kept>,
) -> Result<BTreeSet<String>, AwsError> {
    let denied = [Keeper::SecretsManager, Keeper::ParameterStore].map(async |keeper| {
        let there = needs.given.iter().filter(|(_, given)| given.keeper == keeper).filter_map(|(arn, _)| {
            let Some(Kept::There(whole)) = kept.get(arn) else { return None };
            Some((whole.as_str(), arn))
        });
        let there: Vec<(&str, &String)> = there.collect();
        if there.is_empty() {
            return Ok(Vec::new());
        }
        let whole = there.iter().map(|(whole, _)| *whole).collect();
        let denied = calls.denied(needs.execution_role, keeper.right(), &whole).await?;
        Ok(there.into_iter().filter(|(whole, _)| denied.contains(*whole)).map(|(_, arn)| arn.clone()).collect())
    });
    Ok(try_join_all(denied).await?.into_iter().flatten().collect())
}

async fn missing_log_groups<C: Calls>(calls: &C, needs: &Needs<'_>) -> Result<BTreeSet<String>, AwsError> {
    let asked = needs.log_groups.iter().map(async |group| Ok((group, calls.has_log_group(group).await?)));
    let asked = try_join_all(asked).await?;
    Ok(asked.into_iter().filter(|(_, there)| !there).map(|(group, _)| group.clone()).collect())
}

#[cfg(test)]
mod tests;
