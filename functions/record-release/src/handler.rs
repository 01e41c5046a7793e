//! Load → decide → write, all in one transaction each: a release begins or it does not, ends or it does not.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use shipway_aws::{
    AwsError, PublicError, Store,
    store::{Manifest, StoreError},
};
use shipway_domain::{
    failure::Failure,
    manifest::{self, Spec},
    message::{Begun, Ended, Ending, Execution, RecordRequest, ReleaseInput, Run},
    name::{Component, ReleaseId},
    release::{Artifact, Begin, ComponentState, Contender, Outcome, QUEUE_SECONDS, ReleaseRecord, begin, end},
};

/// How often a write is tried again when another's came between.
const RACES: usize = 5;

/// The call beside the table's: S3's.
pub(crate) trait Calls {
    /// A manifest, by key and version.
    async fn manifest(&self, key: &str, version: &str) -> Result<Fetched, AwsError>;
}

/// An object that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// Its content.
    Text(String),
    /// It cannot be a manifest, and why.
    Unusable(String),
}

/// What can end a beginning or an end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The execution's input is not one that Shipway makes.
    #[error("{0}; the input is {{app, environment, component, artifact}} as in an earlier execution of this machine")]
    Input(String),
    /// The table.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// S3.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// Others wrote between every reading and writing.
    #[error("{0} was changed in between {RACES} times; trying again later helps")]
    Busy(Component),
}

impl PublicError for Error {
    fn failure(&self) -> Failure {
        match self {
            Error::Input(_) => Failure::RejectedInput,
            Error::Store(error) => error.failure(),
            Error::Aws(error) => error.failure(),
            Error::Busy(_) => Failure::Transient,
        }
    }
}

/// The answer: to a beginning or to an end.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// To a beginning.
    Begun(Begun),
    /// To an end.
    Ended(Ended),
}

/// Answers the machines.
pub(crate) async fn handle<C: Calls>(
    store: &Store,
    calls: &C,
    request: RecordRequest,
    now: Timestamp,
) -> Result<Answer, Error> {
    let recorder = Recorder { store, calls, now };
    match request {
        RecordRequest::Begin { execution, input } => recorder.begin(execution, input).await.map(Answer::Begun),
        RecordRequest::End { run, result } => recorder.end(run, result).await.map(Answer::Ended),
    }
}

struct Recorder<'a, C> {
    store: &'a Store,
    calls: &'a C,
    now: Timestamp,
}

/// What a release goes by.
#[derive(Default)]
struct Plan {
    /// The manifest that a platform is provisioned by.
    planned: Option<Manifest>,
    /// Whether its service has a migration.
    migrates: bool,
}

impl<C: Calls> Recorder<'_, C> {
    async fn begin(&self, execution: Execution, input: Value) -> Result<Begun, Error> {
        let input: ReleaseInput = serde_json::from_value(input).map_err(|error| Error::Input(error.to_string()))?;
        let contender = Contender {
            release: ReleaseId::of_execution(&execution.arn, execution.started_at),
            artifact: input.artifact.clone(),
            execution: execution.name,
            started_at: execution.started_at,
        };
        let plan = self.plan(&input).await?;
        for _ in 0..RACES {
            match self.contend(&input, &contender, &plan).await {
                Err(Error::Store(StoreError::Changed)) => {}
                answered => return answered,
            }
        }
        Err(Error::Busy(input.component))
    }

    /// Decides by what the table shows now, and writes the decision down unless it shows something else by then.
    async fn contend(
        &self,
        input: &ReleaseInput,
        contender: &Contender,
        plan: &Result<Plan, String>,
    ) -> Result<Begun, Error> {
        let ReleaseInput { app, environment, component, artifact, repair } = input;
        let known = self.store.release(app, environment, &contender.release).await?;
        let state = self.store.component(app, environment, component).await?;
        // Refused before, by a call whose answer was lost: the same answer again.
        if let Some(known) = known.as_ref().filter(|known| known.outcome.is_some()) {
            return Ok(Begun::End(told(known, &state)));
        }
        let record = ReleaseRecord {
            release: contender.release.clone(),
            app: app.clone(),
            environment: environment.clone(),
            component: component.clone(),
            artifact: artifact.clone(),
            execution: contender.execution.clone(),
            started_at: contender.started_at,
            previous: state.live.clone(),
            ended_at: None,
            outcome: None,
            reason: None,
            steps: Vec::new(),
        };
        let decision = match plan {
            Err(reason) => Err((Outcome::Rejected, reason.clone())),
            Ok(plan) => match begin(&state, contender, self.now) {
                Begin::Claim(claimed) => Ok((plan, claimed)),
                Begin::Queue { behind } => {
                    let note = format!("waits for {behind}, which must not be stopped where it is");
                    return Ok(Begun::Wait { seconds: QUEUE_SECONDS, note });
                }
                Begin::Superseded { by } => Err((Outcome::Superseded, format!("{by} is newer and takes its place"))),
            },
        };
        match decision {
            Ok((plan, claimed)) => {
                let run = Run {
                    app: app.clone(),
                    environment: environment.clone(),
                    component: component.clone(),
                    artifact: artifact.clone(),
                    release: contender.release.clone(),
                    fence: claimed.claim.as_ref().map_or(claimed.fence, |claim| claim.fence),
                    repair: *repair,
                };
                let opened = known.is_none().then_some(&record);
                self.store.begin(&run, &state, &claimed, opened, plan.planned.as_ref()).await?;
                tracing::info!(release = %run.release, fence = run.fence, artifact = %run.artifact, "begun");
                Ok(Begun::Go { run, migrate: plan.migrates && !state.was_live(artifact) })
            }
            Err((outcome, reason)) => {
                let record = self.closed(&record, outcome, reason);
                match known {
                    // Begun before, by a call whose answer was lost.
                    Some(_) => self.store.end_superseded(&record).await?,
                    None => self.store.record_ended(&record).await?,
                }
                Ok(Begun::End(told(&record, &state)))
            }
        }
    }

    /// What the release goes by, or why it cannot be made.
    async fn plan(&self, input: &ReleaseInput) -> Result<Result<Plan, String>, Error> {
        let ReleaseInput { app, environment, component, artifact, .. } = input;
        let unnamed = || format!("the manifest names no {component}");
        match (component, artifact) {
            (Component::Platform, Artifact::Object { key, version }) => {
                let expected = format!("apps/{app}/{environment}/shipway.yaml");
                if *key != expected {
                    return Ok(Err(format!("the manifest of {app}/{environment} is {expected}, not {key}")));
                }
                let text = match self.calls.manifest(key, version).await? {
                    Fetched::Text(text) => text,
                    Fetched::Unusable(reason) => return Ok(Err(reason)),
                };
                Ok(match manifest::read(&text, app, environment) {
                    Ok(spec) => {
                        let planned = Some(Manifest { artifact: artifact.clone(), spec });
                        Ok(Plan { planned, migrates: false })
                    }
                    Err(mistake) => Err(format!("shipway.yaml: {mistake}")),
                })
            }
            (Component::Site(site) | Component::Preview(site, _), Artifact::Object { key, .. }) => {
                let folder = if matches!(component, Component::Preview(..)) { "preview/" } else { "" };
                let prefix = format!("sites/{app}/{environment}/{site}/{folder}");
                if !key.starts_with(&prefix) {
                    return Ok(Err(format!(
                        "a zip for {component} of {app}/{environment} is under {prefix}, not {key}"
                    )));
                }
                self.by_applied(input, |spec| spec.sites.get(site).map(|_| Plan::default()).ok_or_else(unnamed)).await
            }
            (Component::Service(service), Artifact::Image { repository, .. }) => {
                let by_spec = |spec: &Spec| match spec.services.get(service) {
                    None => Err(unnamed()),
                    Some(spec) if spec.image.repository != *repository => {
                        Err(format!("{component} takes images of {}, not of {repository}", spec.image.repository))
                    }
                    Some(spec) => Ok(Plan { planned: None, migrates: spec.migrate.is_some() }),
                };
                self.by_applied(input, by_spec).await
            }
            (Component::Platform | Component::Site(_) | Component::Preview(..), Artifact::Image { .. })
            | (Component::Service(_), Artifact::Object { .. }) => {
                Ok(Err(format!("{artifact} is not what {component} is made of")))
            }
        }
    }

    /// Plans by the manifest whose platform stands.
    async fn by_applied(
        &self,
        input: &ReleaseInput,
        plan: impl FnOnce(&Spec) -> Result<Plan, String>,
    ) -> Result<Result<Plan, String>, Error> {
        match self.store.applied(&input.app, &input.environment).await {
            Ok((_, manifest)) => Ok(plan(&manifest.spec)),
            Err(StoreError::Missing(reason)) => Ok(Err(reason)),
            Err(error) => Err(error.into()),
        }
    }

    async fn end(&self, run: Run, ending: Ending) -> Result<Ended, Error> {
        let (outcome, reason) = outcome_of(ending);
        for _ in 0..RACES {
            match self.conclude(&run, outcome, &reason).await {
                Err(Error::Store(StoreError::Changed)) => {}
                answered => return answered,
            }
        }
        Err(Error::Busy(run.component))
    }

    /// Decides by what the table shows now, and writes the end down unless it shows something else by then.
    async fn conclude(&self, run: &Run, outcome: Outcome, reason: &str) -> Result<Ended, Error> {
        let Run { app, environment, component, .. } = run;
        let Some(record) = self.store.release(app, environment, &run.release).await? else {
            return Err(Error::Input(format!("there is no release {}", run.release)));
        };
        let state = self.store.component(app, environment, component).await?;
        let outcome = outcome.told_by(&record.steps);
        match end(&state, &run.release, run.fence, &run.artifact, outcome, self.now) {
            // Ended before, by a call whose answer was lost: the same answer again.
            None if record.outcome.is_some() => Ok(told(&record, &state)),
            None => {
                let reason = "a newer release took over before this one was done".to_owned();
                let record = self.closed(&record, Outcome::Superseded, reason);
                self.store.end_superseded(&record).await?;
                Ok(told(&record, &state))
            }
            Some(new) => {
                let record = self.closed(&record, outcome, reason.to_owned());
                let stands = match component {
                    Component::Platform if outcome.is_live() => Some(self.store.planned(app, environment).await?),
                    _ => None,
                };
                let stands = stands.as_ref().map(|(before, manifest)| (manifest, before.applied.as_ref()));
                self.store.end(run, &state, &new, &record, stands).await?;
                Ok(told(&record, &new))
            }
        }
    }

    fn closed(&self, record: &ReleaseRecord, outcome: Outcome, reason: String) -> ReleaseRecord {
        tracing::info!(release = %record.release, %outcome, reason, "ends");
        ReleaseRecord { outcome: Some(outcome), reason: Some(reason), ended_at: Some(self.now), ..record.clone() }
    }
}

/// What the machine is told of a release that ended.
fn told(record: &ReleaseRecord, state: &ComponentState) -> Ended {
    Ended {
        release: record.release.clone(),
        outcome: record.outcome.unwrap_or(Outcome::Failed),
        reason: record.reason.clone().unwrap_or_default(),
        live: state.live.as_ref().map(|live| live.artifact.clone()),
    }
}

/// How a machine's end reads in the record: a verdict as it is, an error by its public name and its own message.
fn outcome_of(ending: Ending) -> (Outcome, String) {
    match ending {
        Ending::Verdict(verdict) => (verdict.outcome, verdict.reason),
        Ending::Error { error, cause } => {
            // A function's error comes as {"errorType": …, "errorMessage": …}; anything else as it is.
            let message = serde_json::from_str::<Value>(&cause)
                .ok()
                .and_then(|cause| cause.get("errorMessage").and_then(Value::as_str).map(str::to_owned))
                .unwrap_or(cause);
            let message: String = message.chars().take(2000).collect();
            match Failure::from_name(&error) {
                Some(failure) => (Outcome::of_failure(failure), format!("{error}: {message}")),
                None => (Outcome::Failed, format!("{error}: {message}")),
            }
        }
    }
}

#[cfg(test)]
mod tests;
