//! Load → decide → write, all in one transaction each: a release begins or it does not, ends or it does not.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use shipway_aws::{
    AwsError, PublicError, Store,
    store::{Manifest, Route, StoreError},
};
use shipway_domain::{
    failure::Failure,
    manifest::{self, Spec},
    message::{Begun, Ended, Ending, Execution, RecordRequest, ReleaseInput, Run},
    name::{Component, ReleaseId, RepositoryName},
    release::{Artifact, Begin, ComponentState, Contender, Outcome, QUEUE_SECONDS, ReleaseRecord, begin, end},
};

use crate::aws::{Fetched, Intake};

/// How often a write is tried again when another's came between.
const RACES: usize = 5;

/// What can end a beginning or an end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    #[error("other releases of {0} wrote in between {RACES} times")]
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
pub enum Answer {
    /// To a beginning.
    Begun(Begun),
    /// To an end.
    Ended(Ended),
}

/// Answers the machines.
pub async fn handle(store: &Store, intake: &Intake, request: RecordRequest) -> Result<Answer, Error> {
    let recorder = Recorder { store, intake, now: Timestamp::now() };
    match request {
        RecordRequest::Begin { execution, input } => recorder.begin(execution, input).await.map(Answer::Begun),
        RecordRequest::End { run, result } => recorder.end(run, result).await.map(Answer::Ended),
    }
}

struct Recorder<'a> {
    store: &'a Store,
    intake: &'a Intake,
    now: Timestamp,
}

/// What a release goes by: the manifest to provision with, or the one that is applied.
enum Plan {
    Provision(Box<Manifest>),
    Roll { migrate: bool },
    Publish,
}

impl Recorder<'_> {
    async fn begin(&self, execution: Execution, input: Value) -> Result<Begun, Error> {
        let input: ReleaseInput = serde_json::from_value(input).map_err(|error| Error::Input(error.to_string()))?;
        let release = ReleaseId::of_execution(&execution.arn, execution.started_at);
        let mut record = ReleaseRecord {
            release: release.clone(),
            app: input.app.clone(),
            environment: input.environment.clone(),
            component: input.component.clone(),
            artifact: input.artifact.clone(),
            execution: execution.name.clone(),
            started_at: execution.started_at,
            previous: None,
            ended_at: None,
            outcome: None,
            reason: None,
            steps: Vec::new(),
        };
        let plan = match self.plan(&input).await? {
            Ok(plan) => plan,
            Err(reason) => return self.refuse(record, Outcome::Rejected, reason, None).await,
        };
        let contender = Contender {
            release: release.clone(),
            artifact: input.artifact.clone(),
            execution: execution.name,
            started_at: execution.started_at,
        };
        for _ in 0..RACES {
            let state = self.store.component(&input.app, &input.environment, &input.component).await?;
            let claimed = match begin(&state, &contender, self.now) {
                Begin::Claim(claimed) => claimed,
                Begin::Queue { behind } => {
                    let note = format!("waits for {behind}, which must not be stopped where it is");
                    return Ok(Begun::Wait { seconds: QUEUE_SECONDS, note });
                }
                Begin::Superseded { by } => {
                    let live = state.live.map(|live| live.artifact);
                    return self
                        .refuse(record, Outcome::Superseded, format!("{by} is newer and takes its place"), live)
                        .await;
                }
            };
            record.previous = state.live.clone();
            let run = Run {
                app: input.app.clone(),
                environment: input.environment.clone(),
                component: input.component.clone(),
                artifact: input.artifact.clone(),
                release: release.clone(),
                fence: claimed.claim.as_ref().map_or(claimed.fence, |claim| claim.fence),
            };
            let planned = match &plan {
                Plan::Provision(manifest) => Some(&**manifest),
                Plan::Roll { .. } | Plan::Publish => None,
            };
            match self.store.begin(&run, &state, &claimed, &record, planned).await {
                Ok(()) => {}
                Err(StoreError::Changed) => continue,
                Err(error) => return Err(error.into()),
            }
            let migrate = matches!(plan, Plan::Roll { migrate: true }) && !state.was_live(&input.artifact);
            tracing::info!(release = %run.release, fence = run.fence, artifact = %run.artifact, "begun");
            return Ok(Begun::Go { run, migrate });
        }
        Err(Error::Busy(input.component))
    }

    /// What the release goes by, or why it cannot be made.
    async fn plan(&self, input: &ReleaseInput) -> Result<Result<Plan, String>, Error> {
        let ReleaseInput { app, environment, component, artifact } = input;
        match (component, artifact) {
            (Component::Platform, Artifact::Object { key, version }) => {
                let expected = format!("apps/{app}/{environment}/shipway.yaml");
                if *key != expected {
                    return Ok(Err(format!("the manifest of {app}/{environment} is {expected}, not {key}")));
                }
                let text = match self.intake.manifest(key, version).await? {
                    Fetched::Text(text) => text,
                    Fetched::Unusable(reason) => return Ok(Err(reason)),
                };
                Ok(match manifest::read(&text, app, environment) {
                    Ok(spec) => Ok(Plan::Provision(Box::new(Manifest { artifact: artifact.clone(), spec }))),
                    Err(mistake) => Err(format!("shipway.yaml: {mistake}")),
                })
            }
            (Component::Site(site), Artifact::Object { key, .. }) => {
                let prefix = format!("sites/{app}/{environment}/{site}/");
                if !key.starts_with(&prefix) {
                    return Ok(Err(format!(
                        "a zip for {component} of {app}/{environment} is under {prefix}, not {key}"
                    )));
                }
                let known = self
                    .store
                    .applied(app, environment)
                    .await
                    .map(|(_, manifest)| manifest.spec.sites.contains_key(site));
                self.known(known, component).map(|known| known.map(|()| Plan::Publish))
            }
            (Component::Service(service), Artifact::Image { repository, .. }) => {
                let applied = self.store.applied(app, environment).await;
                let spec = match applied {
                    Ok((_, manifest)) => manifest.spec,
                    Err(error) => return self.known(Err(error), component).map(|known| known.map(|()| Plan::Publish)),
                };
                Ok(match spec.services.get(service) {
                    None => Err(format!("the manifest names no {component}")),
                    Some(spec) if spec.image.repository != *repository => {
                        Err(format!("{component} takes images of {}, not of {repository}", spec.image.repository))
                    }
                    Some(spec) => Ok(Plan::Roll { migrate: spec.migrate.is_some() }),
                })
            }
            (Component::Platform | Component::Site(_), Artifact::Image { .. })
            | (Component::Service(_), Artifact::Object { .. }) => {
                Ok(Err(format!("{artifact} is not what {component} is made of")))
            }
        }
    }

    fn known(&self, known: Result<bool, StoreError>, component: &Component) -> Result<Result<(), String>, Error> {
        match known {
            Ok(true) => Ok(Ok(())),
            Ok(false) => Ok(Err(format!("the manifest names no {component}"))),
            Err(StoreError::Missing(reason)) => Ok(Err(reason)),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends a release that never began.
    async fn refuse(
        &self,
        record: ReleaseRecord,
        outcome: Outcome,
        reason: String,
        live: Option<Artifact>,
    ) -> Result<Begun, Error> {
        let record =
            ReleaseRecord { outcome: Some(outcome), reason: Some(reason.clone()), ended_at: Some(self.now), ..record };
        self.store.record_ended(&record).await?;
        tracing::info!(release = %record.release, %outcome, reason);
        Ok(Begun::End(Ended { release: record.release, outcome, reason, live }))
    }

    async fn end(&self, run: Run, ending: Ending) -> Result<Ended, Error> {
        let (outcome, reason) = outcome_of(ending);
        for _ in 0..RACES {
            let Some(record) = self.store.release(&run.app, &run.environment, &run.release).await? else {
                return Err(Error::Input(format!("there is no release {}", run.release)));
            };
            let outcome = outcome.told_by(&record.steps);
            let state = self.store.component(&run.app, &run.environment, &run.component).await?;
            let ended = |record: ReleaseRecord, live: &ComponentState| Ended {
                release: record.release,
                outcome: record.outcome.unwrap_or(outcome),
                reason: record.reason.unwrap_or_default(),
                live: live.live.as_ref().map(|live| live.artifact.clone()),
            };
            let closed = |outcome: Outcome, reason: &str| ReleaseRecord {
                outcome: Some(outcome),
                reason: Some(reason.to_owned()),
                ended_at: Some(self.now),
                ..record.clone()
            };
            let written = match end(&state, &run.release, run.fence, &run.artifact, outcome, self.now) {
                // Ended before, by a call whose answer was lost: the same answer again.
                None if record.outcome.is_some() => return Ok(ended(record, &state)),
                None => {
                    let record = closed(Outcome::Superseded, "a newer release took over before this one was done");
                    self.store.end_superseded(&record).await.map(|()| ended(record, &state))
                }
                Some(new) => {
                    let record = closed(outcome, &reason);
                    self.write_end(&run, &state, &new, &record).await.map(|()| ended(record, &new))
                }
            };
            match written {
                Ok(ended) => {
                    tracing::info!(release = %ended.release, outcome = %ended.outcome, reason = ended.reason, "ended");
                    return Ok(ended);
                }
                Err(StoreError::Changed) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Busy(run.component))
    }

    async fn write_end(
        &self,
        run: &Run,
        old: &ComponentState,
        new: &ComponentState,
        record: &ReleaseRecord,
    ) -> Result<(), StoreError> {
        if run.component != Component::Platform || !record.outcome.is_some_and(Outcome::is_live) {
            return self.store.end(run, old, new, record, None).await;
        }
        let environment = self.store.environment(&run.app, &run.environment).await?.unwrap_or_default();
        let Some(manifest) = environment.planned else {
            return Err(StoreError::Missing(format!("{}/{} has no manifest", run.app, run.environment)));
        };
        let routes = routes(run, &manifest.spec);
        self.store.end(run, old, new, record, Some((&manifest, &routes))).await?;
        let before = environment.applied.map(|applied| self::routes(run, &applied.spec)).unwrap_or_default();
        let gone: Vec<_> = before
            .into_iter()
            .filter(|(repository, old)| !routes.iter().any(|(r, new)| r == repository && new.service == old.service))
            .collect();
        self.store.remove_routes(&gone).await
    }
}

fn routes(run: &Run, spec: &Spec) -> Vec<(RepositoryName, Route)> {
    let route = |(name, service): (&shipway_domain::name::ComponentName, &manifest::Service)| {
        let route = Route {
            app: run.app.clone(),
            environment: run.environment.clone(),
            service: name.clone(),
            tags: service.image.tags.clone(),
        };
        (service.image.repository.clone(), route)
    };
    spec.services.iter().map(route).collect()
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
mod tests {
    use shipway_domain::message::Verdict;

    use super::*;

    fn error(name: &str, cause: &str) -> (Outcome, String) {
        outcome_of(Ending::Error { error: name.to_owned(), cause: cause.to_owned() })
    }

    #[test]
    fn a_verdict_is_recorded_as_it_is() {
        let verdict = Verdict { outcome: Outcome::RolledBack, reason: "exit code 1".into() };
        assert_eq!(outcome_of(Ending::Verdict(verdict)), (Outcome::RolledBack, "exit code 1".into()));
    }

    #[test]
    fn an_error_is_recorded_by_its_name_and_its_own_message() {
        let cause = r#"{"errorType":"Rejected.Archive","errorMessage":"there is no index.html"}"#;
        assert_eq!(
            error("Rejected.Archive", cause),
            (Outcome::Rejected, "Rejected.Archive: there is no index.html".into())
        );
        assert_eq!(error("Superseded", "{}").0, Outcome::Superseded);
        assert_eq!(error("States.Timeout", "late"), (Outcome::Failed, "States.Timeout: late".into()));
        assert_eq!(error("Lambda.Unknown", "").0, Outcome::Failed);
    }

    #[test]
    fn a_record_request_is_what_the_machines_send() {
        let request = serde_json::json!({"action": "end", "run": {
            "app": "hello", "environment": "dev", "component": "site/web", "fence": 3, "release": "20261121T031542123-3f9c2a",
            "artifact": {"object": {"key": "sites/hello/dev/web/a.zip", "version": "v"}}},
            "result": {"Error": "Denied", "Cause": "no"}});
        assert!(matches!(serde_json::from_value(request), Ok(RecordRequest::End { result: Ending::Error { .. }, .. })));
    }
}
