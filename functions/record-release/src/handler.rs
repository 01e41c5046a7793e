//! Load → decide → write, all in one transaction each: a release begins or it does not, ends or it does not.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use shipway_aws::{
    AwsError, PublicError, Store,
    store::{EnvironmentRecord, Manifest, StoreError, Teardown},
};
use shipway_domain::{
    alarm::{AlarmChange, ExecutionChange, Letter},
    approval::{self, Asked},
    drift,
    failure::Failure,
    manifest::{self, Service, Spec},
    message::{
        self, Around, Begun, Compared, Difference, DriftFound, DriftInput, Ended, Ending, Execution, Kept, Machine,
        RecordRequest, ReleaseInput, Run, Summary, TeardownInput, Unreadable,
    },
    name::{AppName, Component, ComponentName, EnvironmentName, ReleaseId},
    notice::Happening,
    order::{self, Turn},
    release::{
        Artifact, Begin, ComponentState, Contender, EVENT_PREFIX, Outcome, QUEUE_SECONDS, ReleaseRecord, Step, Yield,
        begin, end, make_way,
    },
    task::databases,
};

/// How often a write is tried again when another's came between.
const RACES: usize = 5;

/// The calls beside the table's.
pub(crate) trait Calls {
    /// A manifest, by key and version.
    async fn manifest(&self, key: &str, version: &str) -> Result<Fetched, AwsError>;

    /// Ends what an execution waits for, by its token, as this failure.
    async fn fail_task(&self, token: &str, failure: Failure, cause: &str) -> Result<(), AwsError>;

    /// Tells others what happens to a release. Nothing rests on it.
    async fn announce(&self, record: &ReleaseRecord, happening: Happening<'_>);

    /// How the ARNs of the machines' executions begin, up to the last part of a machine's name.
    fn executions(&self) -> &str;

    /// Tells people of Shipway itself.
    async fn write(&self, letter: &Letter) -> Result<(), AwsError>;
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
    /// The execution's input is not one that a teardown takes.
    #[error("{0}; the input is {{\"app\": …, \"environment\": …, \"confirm\": \"<app>/<environment>\"}}")]
    Teardown(String),
    /// The execution's input is not one that a comparison takes.
    #[error("{0}; the input is {{\"app\": …, \"environment\": …}}")]
    Drift(String),
    /// The table.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// S3.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// Neither what a machine asks, nor what CloudWatch or EventBridge tell.
    #[error("the message is neither a machine's request nor an alarm's change nor an execution's")]
    Message(#[source] Unreadable),
    /// Others wrote between every reading and writing.
    #[error("{0} was changed in between {RACES} times; trying again later helps")]
    Busy(Component),
}

impl PublicError for Error {
    fn failure(&self) -> Failure {
        match self {
            Error::Input(_) | Error::Teardown(_) | Error::Drift(_) | Error::Message(_) => Failure::RejectedInput,
            Error::Store(error) => error.failure(),
            Error::Aws(error) => error.failure(),
            Error::Busy(_) => Failure::Transient,
        }
    }
}

/// The answer: to a beginning, to an approval, to an end, to a comparison, or to what was to be told.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// To a beginning.
    Begun(Begun),
    /// To an approval that is asked for or given, and to what people are told of Shipway itself.
    Noted(Summary),
    /// To an end.
    Ended(Ended),
    /// To a comparison.
    Compared(Compared),
}

/// Answers the machines, and tells people what CloudWatch and Step Functions say of Shipway itself.
pub(crate) async fn handle<C: Calls>(
    store: &Store,
    calls: &C,
    message: Value,
    now: Timestamp,
) -> Result<Answer, Error> {
    let recorder = Recorder { store, calls, now };
    if message.get("alarmData").is_some() {
        let change: AlarmChange = message::read(&message).map_err(Error::Message)?;
        return recorder.alarm(&change).await.map(Answer::Noted);
    }
    if let Some(detail) = message.get("detail") {
        let change: ExecutionChange = message::read(detail).map_err(Error::Message)?;
        return recorder.stopped(&change).await.map(Answer::Noted);
    }
    match message::read(&message).map_err(Error::Message)? {
        RecordRequest::Begin { machine, execution, input } => {
            Box::pin(recorder.begin(machine, execution, &input)).await.map(Answer::Begun)
        }
        RecordRequest::BeginTeardown { execution, input } => {
            Box::pin(recorder.begin_teardown(execution, &input)).await.map(Answer::Begun)
        }
        RecordRequest::AskApproval { run, token, seconds } => {
            recorder.ask_approval(&run, token, seconds).await.map(Answer::Noted)
        }
        RecordRequest::Approved { run, answer } => recorder.approved(&run, &answer).await.map(Answer::Noted),
        RecordRequest::End { run, result, kept } => Box::pin(recorder.end(run, result, &kept)).await.map(Answer::Ended),
        RecordRequest::Drift { execution, input, found } => {
            recorder.compare(execution, &input, found).await.map(Answer::Compared)
        }
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
    /// What belongs to the rollout of its service.
    around: Around,
    /// The services that go before its own.
    after: Vec<ComponentName>,
    /// Whether other services take images of its repository too.
    shared: bool,
}

impl Plan {
    /// What a service's release goes by.
    fn of(spec: &Spec, service: &Service) -> Plan {
        let around = Around {
            migrate: service.migrate.is_some(),
            databases: !databases::further(spec, service).is_empty(),
            approval: service.approval_seconds(),
            smoke: service.smoke.iter().any(|smoke| smoke.path.is_some()),
            smoke_tasks: service.smoke.iter().any(|smoke| !smoke.command.is_empty()),
        };
        let of_it = |other: &&Service| other.image.repository == service.image.repository;
        let shared = service.image.repository.is_some() && spec.services.values().filter(of_it).count() > 1;
        Plan { planned: None, around, after: service.after.clone(), shared }
    }
}

impl<C: Calls> Recorder<'_, C> {
    /// Tells people that an alarm goes on or off.
    async fn alarm(&self, change: &AlarmChange) -> Result<Summary, Error> {
        // The names of the machines begin as those of the alarms do.
        let stack = self.calls.executions().rsplit(':').next().unwrap_or_default();
        self.tell(change.letter(stack)).await
    }

    /// Tells people of an execution that stopped, where its machine could not. The record is read now: an end that was written down was
    /// told by the machine.
    async fn stopped(&self, change: &ExecutionChange) -> Result<Summary, Error> {
        let Some(stopped) = change.stopped(self.calls.executions()) else { return self.tell(None).await };
        let record = match &stopped.release {
            Some(release) => self.store.release(&stopped.place.app, &stopped.place.environment, release).await?,
            None => None,
        };
        self.tell(stopped.letter(record.as_ref())).await
    }

    /// Whoever asked does so again where it fails: Lambda tries what came by itself twice more.
    async fn tell(&self, letter: Option<Letter>) -> Result<Summary, Error> {
        let Some(letter) = letter else { return Ok(Summary { note: "nobody is told".to_owned() }) };
        self.calls.write(&letter).await?;
        tracing::info!(subject = letter.subject, "told");
        Ok(Summary { note: letter.subject })
    }

    async fn begin(&self, machine: Option<Machine>, execution: Execution, input: &Value) -> Result<Begun, Error> {
        let input: ReleaseInput = message::read(input).map_err(|error| Error::Input(error.to_string()))?;
        let of_it = Machine::of(&input.component);
        if let Some(machine) = machine.filter(|machine| *machine != of_it) {
            return Err(Error::Input(format!("`{machine}` releases no {}, `{of_it}` does", input.component)));
        }
        let contender = Contender {
            release: ReleaseId::of_execution(&execution.arn, execution.started_at),
            artifact: input.artifact.clone(),
            execution: execution.name,
            started_at: execution.started_at,
        };
        for _ in 0..RACES {
            let plan = self.plan(&input).await?;
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
        let run = Run {
            app: app.clone(),
            environment: environment.clone(),
            component: component.clone(),
            artifact: artifact.clone(),
            release: contender.release.clone(),
            fence: 0,
            repair: *repair,
        };
        let record = ReleaseRecord {
            group: group_of(contender, &state, plan),
            previous: state.live.clone(),
            ..ReleaseRecord::opened(contender, app, environment, component)
        };
        let decision = match plan {
            Err(reason) => Err((Outcome::Rejected, reason.clone())),
            Ok(plan) => match begin(&state, contender, self.now) {
                Begin::Claim(claimed) => match self.turn(input, contender, &state, &plan.after).await? {
                    Turn::Go => Ok((plan, claimed)),
                    Turn::Wait(note) => return Ok(Begun::Wait { seconds: QUEUE_SECONDS, note }),
                    Turn::Refused(reason) => Err((Outcome::Rejected, format!("{component} stays as it is: {reason}"))),
                },
                Begin::Queue { behind } => return Ok(waits(&behind)),
                Begin::Superseded { by } => Err((Outcome::Superseded, superseded(&by))),
            },
        };
        match decision {
            Ok((plan, claimed)) => {
                let run = claiming(run, &claimed);
                let opened = known.is_none().then_some(&record);
                self.store.begin(&run, &state, &claimed, opened, plan.planned.as_ref()).await?;
                tracing::info!(release = %run.release, fence = run.fence, artifact = %run.artifact, "begun");
                if opened.is_some() {
                    self.calls.announce(&record, Happening::Started).await;
                }
                if let Some(claim) = state.claim.as_ref().filter(|claim| claim.release != run.release) {
                    self.end_wait(app, environment, &claim.release).await;
                    if claim.until > self.now && changes_before_it_commits(component) {
                        return Ok(comes_to_rest());
                    }
                }
                Ok(Begun::Go { run, around: plan.around.of_release(artifact, &state) })
            }
            Err((outcome, reason)) => self.turn_away(&record, &state, known.is_some(), outcome, reason).await,
        }
    }

    /// Whether the services that go first let this one begin. A person's execution waits for nobody, nor does what is live already
    /// and gets other settings; and one that began, by a call whose answer was lost, has begun.
    async fn turn(
        &self,
        input: &ReleaseInput,
        contender: &Contender,
        state: &ComponentState,
        after: &[ComponentName],
    ) -> Result<Turn, Error> {
        let ReleaseInput { app, environment, artifact, .. } = input;
        let began = state.claim.as_ref().is_some_and(|claim| claim.release == contender.release);
        let lives = state.live.as_ref().is_some_and(|live| live.artifact == *artifact);
        if after.is_empty() || began || lives || !contender.execution.starts_with(EVENT_PREFIX) {
            return Ok(Turn::Go);
        }
        // Read before the states: what ended in between is then seen as under way, and never the other way round.
        let releases = self.store.newest_releases(app, environment, None, order::LOOKED_AT).await?;
        let mut waits = Turn::Go;
        for first in after {
            let component = Component::Service(first.clone());
            let state = self.store.component(app, environment, &component).await?;
            let own: Vec<_> = releases.iter().filter(|release| release.component == component).cloned().collect();
            match order::turn(first, &state, &own, artifact, self.now) {
                Turn::Go => {}
                Turn::Wait(note) => waits = Turn::Wait(note),
                refused @ Turn::Refused(_) => return Ok(refused),
            }
        }
        Ok(waits)
    }

    /// Ends the wait of a release that lost its claim while it waited for an approval. Nothing rests on it: if it cannot be ended,
    /// it ends as superseded too, but only when somebody answers or its time is over.
    async fn end_wait(&self, app: &AppName, environment: &EnvironmentName, release: &ReleaseId) {
        let record = match self.store.release(app, environment, release).await {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(%release, %error, "whether it waits for an approval is not known");
                return;
            }
        };
        let Some(asked) = record.as_ref().and_then(ReleaseRecord::waits_for) else { return };
        let cause = "a newer release took over while this one waited for approval";
        match self.calls.fail_task(&asked.token, Failure::Superseded, cause).await {
            Ok(()) => tracing::info!(%release, "no longer waits for approval"),
            Err(error) => tracing::warn!(%release, %error, "still waits for approval, in vain"),
        }
    }

    /// Writes down what a person answers with. Asked again, by an invocation that came twice, the newer token counts.
    async fn ask_approval(&self, run: &Run, token: String, seconds: u32) -> Result<Summary, Error> {
        let record = self.record(run).await?;
        let asked = Asked::new(token, seconds, self.now);
        let note = asked.step();
        let step = record.approval.is_none().then(|| self.step(note.clone()));
        self.store.set_approval(run, &asked, step.as_ref(), self.now).await?;
        if step.is_some() {
            self.calls.announce(&record, Happening::WaitingApproval(&asked)).await;
        }
        Ok(Summary { note })
    }

    /// Writes down who approved it, unless an invocation whose answer was lost did already.
    async fn approved(&self, run: &Run, answer: &Value) -> Result<Summary, Error> {
        let record = self.record(run).await?;
        let by = approval::approver(answer);
        let note = format!("approved by {by}");
        match record.approval {
            Some(asked) if asked.approved_by.is_none() => {
                let asked = Asked { approved_by: Some(by), ..asked };
                self.store.set_approval(run, &asked, Some(&self.step(note.clone())), self.now).await?;
            }
            _ => self.store.renew(run, self.now).await?,
        }
        Ok(Summary { note })
    }

    async fn record(&self, run: &Run) -> Result<ReleaseRecord, Error> {
        let record = self.store.release(&run.app, &run.environment, &run.release).await?;
        record.ok_or_else(|| Error::Input(format!("there is no release {}", run.release)))
    }

    fn step(&self, what: String) -> Step {
        Step { at: self.now, by: "record-release".to_owned(), what }
    }

    /// Closes the record of a release that does not begin.
    async fn turn_away(
        &self,
        record: &ReleaseRecord,
        state: &ComponentState,
        known: bool,
        outcome: Outcome,
        reason: String,
    ) -> Result<Begun, Error> {
        let record = self.closed(record, outcome, reason);
        match known {
            // Begun before, by a call whose answer was lost.
            true => self.store.end_superseded(&record).await?,
            false => self.store.record_ended(&record).await?,
        }
        Ok(Begun::End(self.ended(&record, state).await))
    }

    async fn begin_teardown(&self, execution: Execution, input: &Value) -> Result<Begun, Error> {
        let input: TeardownInput = message::read(input).map_err(|error| Error::Teardown(error.to_string()))?;
        let contender = Contender {
            release: ReleaseId::of_execution(&execution.arn, execution.started_at),
            artifact: Artifact::Nothing,
            execution: execution.name,
            started_at: execution.started_at,
        };
        for _ in 0..RACES {
            match self.contend_to_tear_down(&input, &contender).await {
                Err(Error::Store(StoreError::Changed)) => {}
                answered => return answered,
            }
        }
        Err(Error::Busy(Component::Platform))
    }

    /// Takes the platform, keeps the others from beginning, and stops or waits for those that have begun. Then nobody else
    /// changes anything, and the claim is committed: a manifest that is uploaded now queues until all is gone.
    async fn contend_to_tear_down(&self, input: &TeardownInput, contender: &Contender) -> Result<Begun, Error> {
        let TeardownInput { app, environment, confirm } = input;
        let known = self.store.release(app, environment, &contender.release).await?;
        let state = self.store.component(app, environment, &Component::Platform).await?;
        if let Some(known) = known.as_ref().filter(|known| known.outcome.is_some()) {
            return Ok(Begun::End(told(known, &state)));
        }
        let run = Run {
            app: app.clone(),
            environment: environment.clone(),
            component: Component::Platform,
            artifact: Artifact::Nothing,
            release: contender.release.clone(),
            fence: 0,
            repair: false,
        };
        // Begun before, by a call whose answer was lost: what came since waits for it.
        let own = state.claim.as_ref().filter(|claim| claim.release == contender.release && claim.until > self.now);
        if own.is_some_and(|claim| claim.committed) {
            return Ok(Begun::Go { run: claiming(run, &state), around: Around::default() });
        }
        let record = ReleaseRecord {
            previous: state.live.clone(),
            ..ReleaseRecord::opened(contender, app, environment, &Component::Platform)
        };
        let standing = self.store.environment(app, environment).await?;
        if let Some((outcome, reason)) = nothing_to_tear_down(input, standing.as_ref()) {
            return self.turn_away(&record, &state, known.is_some(), outcome, reason).await;
        }
        let claimed = match begin(&state, contender, self.now) {
            Begin::Claim(claimed) => claimed,
            Begin::Queue { behind } => return Ok(waits(&behind)),
            Begin::Superseded { by } => {
                let reason = format!("{}; {confirm} stays", superseded(&by));
                return self.turn_away(&record, &state, known.is_some(), Outcome::Superseded, reason).await;
            }
        };
        let run = claiming(run, &claimed);
        let teardown = Teardown { release: run.release.clone(), since: self.now, torn_down_at: None, kept: Vec::new() };
        let opened = known.is_none().then_some(&record);
        self.store.begin_teardown(&run, &state, &claimed, opened, &teardown).await?;
        if opened.is_some() {
            self.calls.announce(&record, Happening::Started).await;
        }
        let mut stopped = state.claim.is_some() && own.is_none();
        let mut behind = None;
        for (component, state) in self.store.components(app, environment).await? {
            match make_way(&state, self.now) {
                Yield::Idle => {}
                Yield::Stopped(new) => {
                    self.store.put_component(app, environment, &component, &state, &new).await?;
                    if let Some(claim) = &state.claim {
                        self.end_wait(app, environment, &claim.release).await;
                    }
                    stopped = true;
                }
                Yield::Wait { behind: release } => behind = Some(release),
            }
        }
        if let Some(behind) = behind {
            return Ok(waits(&behind));
        }
        if stopped {
            return Ok(comes_to_rest());
        }
        self.store.commit(&run, self.now).await?;
        tracing::info!(release = %run.release, fence = run.fence, "teardown begun");
        Ok(Begun::Go { run, around: Around::default() })
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
                        Ok(Plan { planned, ..Plan::default() })
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
            (Component::Service(name), Artifact::Image { repository, .. }) => {
                let by_spec = |spec: &Spec| {
                    let service = spec.services.get(name).ok_or_else(unnamed)?;
                    match &service.image.repository {
                        Some(own) if own == repository => Ok(Plan::of(spec, service)),
                        Some(own) => Err(format!("{component} takes images of {own}, not of {repository}")),
                        None => Err(format!("{component} takes no pushed images, so none of {repository}")),
                    }
                };
                self.by_applied(input, by_spec).await
            }
            (Component::Service(name), Artifact::Public { image }) => {
                let was_live = self.store.component(app, environment, component).await?.was_live(artifact);
                let by_spec = |spec: &Spec| {
                    let service = spec.services.get(name).ok_or_else(unnamed)?;
                    match &service.image.public {
                        Some(own) if own == image || was_live => Ok(Plan::of(spec, service)),
                        Some(own) => Err(format!(
                            "{component} runs {} by the manifest, and {artifact} was never live: name it there to roll it out",
                            own.as_str()
                        )),
                        None => Err(format!("{component} takes pushed images, and no {artifact}")),
                    }
                };
                self.by_applied(input, by_spec).await
            }
            (Component::Platform, Artifact::Nothing) => {
                Ok(Err("the machine `teardown` takes a platform down, not this one".to_owned()))
            }
            (
                Component::Platform | Component::Site(_) | Component::Preview(..),
                Artifact::Image { .. } | Artifact::Public { .. },
            )
            | (Component::Service(_), Artifact::Object { .. })
            | (Component::Service(_) | Component::Site(_) | Component::Preview(..), Artifact::Nothing) => {
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
        let ReleaseInput { app, environment, .. } = input;
        match self.store.applied(app, environment).await {
            Ok((EnvironmentRecord { teardown: Some(teardown), .. }, _)) => Ok(Err(teardown.refusal(app, environment))),
            Ok((_, manifest)) => Ok(plan(&manifest.spec)),
            Err(StoreError::Missing(reason)) => Ok(Err(reason)),
            Err(error) => Err(error.into()),
        }
    }

    async fn end(&self, run: Run, ending: Ending, kept: &[Kept]) -> Result<Ended, Error> {
        let (outcome, reason) = outcome_of(ending);
        for _ in 0..RACES {
            match self.conclude(&run, outcome, &reason, kept).await {
                Err(Error::Store(StoreError::Changed)) => {}
                answered => return answered,
            }
        }
        Err(Error::Busy(run.component))
    }

    /// Decides by what the table shows now, and writes the end down unless it shows something else by then.
    async fn conclude(&self, run: &Run, outcome: Outcome, reason: &str, kept: &[Kept]) -> Result<Ended, Error> {
        let Run { app, environment, component, .. } = run;
        let record = self.record(run).await?;
        let state = self.store.component(app, environment, component).await?;
        let outcome = outcome.told_by(&record.steps);
        match end(&state, &run.release, run.fence, &run.artifact, outcome, self.now) {
            // Ended before, by a call whose answer was lost: the same answer again.
            None if record.outcome.is_some() => Ok(told(&record, &state)),
            None => {
                let reason = "a newer release took over before this one was done".to_owned();
                let record = self.closed(&record, Outcome::Superseded, reason);
                self.store.end_superseded(&record).await?;
                Ok(self.ended(&record, &state).await)
            }
            Some(new) if run.artifact == Artifact::Nothing => {
                let reason = match outcome.is_live() {
                    true => with_kept(reason, kept),
                    false => format!(
                        "{reason}; {app}/{environment} takes no release of its services and sites until it is torn down or \
                         provisioned again"
                    ),
                };
                let record = self.closed(&record, outcome, reason);
                self.conclude_teardown(run, &state, &new, &record, kept).await
            }
            Some(new) => {
                let record = self.closed(&record, outcome, reason.to_owned());
                let stands = match component {
                    Component::Platform if outcome.is_live() => Some(self.store.planned(app, environment).await?),
                    _ => None,
                };
                let stands = stands.as_ref().map(|(before, manifest)| (manifest, before.applied.as_ref()));
                self.store.end(run, &state, &new, &record, stands).await?;
                Ok(self.ended(&record, &new).await)
            }
        }
    }

    /// Forgets an environment that is gone; one that is only half gone is still known, so that the next teardown ends it.
    async fn conclude_teardown(
        &self,
        run: &Run,
        state: &ComponentState,
        new: &ComponentState,
        record: &ReleaseRecord,
        kept: &[Kept],
    ) -> Result<Ended, Error> {
        let Run { app, environment, .. } = run;
        if !record.outcome.is_some_and(Outcome::is_live) {
            self.store.end(run, state, new, record, None).await?;
            return Ok(self.ended(record, new).await);
        }
        let components = self.store.components(app, environment).await?;
        if !components.is_empty() {
            // Each of these writes renews the platform's claim, so that its state is another one then; and one that is refused
            // because the claim is another's shows that in the next look.
            return Err(match self.store.forget(run, &components, self.now).await {
                Ok(()) | Err(StoreError::Superseded { .. }) => StoreError::Changed.into(),
                Err(error) => error.into(),
            });
        }
        let before = self.store.environment(app, environment).await?.unwrap_or_default();
        let teardown = Teardown {
            release: run.release.clone(),
            since: before.teardown.as_ref().map_or(self.now, |teardown| teardown.since),
            torn_down_at: Some(self.now),
            kept: kept.iter().map(|kept| kept.what.clone()).collect(),
        };
        self.store.end_teardown(run, state, new, record, &before, teardown).await?;
        Ok(self.ended(record, new).await)
    }

    /// Writes down what a comparison found, unless this execution did already or a newer one has.
    async fn compare(&self, execution: Execution, input: &Value, found: Vec<DriftFound>) -> Result<Compared, Error> {
        let DriftInput { app, environment } = &message::read(input).map_err(|error| Error::Drift(error.to_string()))?;
        let differences: Vec<Difference> = found.into_iter().flat_map(|found| found.differences).collect();
        for _ in 0..RACES {
            let before = self.store.drift(app, environment).await?;
            let platform = self.store.component(app, environment, &Component::Platform).await?;
            let record = self.store.environment(app, environment).await?.unwrap_or_default();
            let teardown = record.teardown.is_some();
            let report =
                match drift::judge(before.as_ref(), &platform, teardown, &execution, differences.clone(), self.now) {
                    None => before,
                    Some(report) => match self.store.set_drift(app, environment, before.as_ref(), &report).await {
                        Ok(()) => Some(report),
                        Err(StoreError::Changed) => continue,
                        Err(error) => return Err(error.into()),
                    },
                };
            let Some(report) = report else { break };
            let own = report.execution == execution.arn;
            tracing::info!(%app, %environment, status = %report.status, own, "compared");
            return Ok(Compared { status: report.status, notify: own && report.notify, note: report.note() });
        }
        Err(Error::Busy(Component::Platform))
    }

    /// What the machine and others are told of a release that has just ended.
    async fn ended(&self, record: &ReleaseRecord, state: &ComponentState) -> Ended {
        let ended = told(record, state);
        let (reason, live) = (ended.reason.as_str(), ended.live.as_ref());
        self.calls.announce(record, Happening::Ended { outcome: ended.outcome, reason, live }).await;
        ended
    }

    fn closed(&self, record: &ReleaseRecord, outcome: Outcome, reason: String) -> ReleaseRecord {
        tracing::info!(release = %record.release, %outcome, reason, "ends");
        ReleaseRecord { outcome: Some(outcome), reason: Some(reason), ended_at: Some(self.now), ..record.clone() }
    }
}

/// Why there is nothing that this input could tear down.
fn nothing_to_tear_down(input: &TeardownInput, standing: Option<&EnvironmentRecord>) -> Option<(Outcome, String)> {
    let TeardownInput { app, environment, confirm } = input;
    if *confirm != format!("{app}/{environment}") {
        let reason = format!(
            "to tear {app}/{environment} down and delete what its manifest does not keep, type \"confirm\": \
             \"{app}/{environment}\"; it says \"{}\"",
            confirm.escape_debug().take(100).collect::<String>()
        );
        return Some((Outcome::Rejected, reason));
    }
    match standing {
        // Provisioning that never came to its end has something to tear down too.
        Some(record) if record.planned.is_some() => None,
        Some(EnvironmentRecord { teardown: Some(Teardown { torn_down_at: Some(at), .. }), .. }) => {
            Some((Outcome::Unchanged, format!("{app}/{environment} was torn down at {at} already")))
        }
        _ => Some((Outcome::Rejected, format!("{app}/{environment} was never provisioned; is it spelt right?"))),
    }
}

fn with_kept(reason: &str, kept: &[Kept]) -> String {
    let what: Vec<&str> = kept.iter().map(|kept| kept.what.as_str()).collect();
    if what.is_empty() { reason.to_owned() } else { format!("{reason}; kept: {}", what.join(", ")) }
}

fn waits(behind: &ReleaseId) -> Begun {
    let note = format!("waits for {behind}, which must not be stopped where it is");
    Begun::Wait { seconds: QUEUE_SECONDS, note }
}

/// What is waited for once after a release was stopped.
const COMES_TO_REST: &str = "waits for what was stopped to come to rest";

/// A function of a release that was stopped may be in the middle of a call that no condition of the table can stop. What looked at
/// once might find nothing to do, and would have ended when that call takes effect.
fn comes_to_rest() -> Begun {
    Begun::Wait { seconds: QUEUE_SECONDS, note: COMES_TO_REST.to_owned() }
}

/// Whether a release of it may change something although it may still be stopped. A publication writes nothing before it commits.
fn changes_before_it_commits(component: &Component) -> bool {
    matches!(component, Component::Platform | Component::Service(_))
}

fn superseded(by: &Artifact) -> String {
    format!("{by} is newer and takes its place")
}

/// The run, with the claim that it has in this state.
fn claiming(run: Run, state: &ComponentState) -> Run {
    Run { fence: state.claim.as_ref().map_or(state.fence, |claim| claim.fence), ..run }
}

/// The group of a release that a push began, where the push is for several services.
fn group_of(contender: &Contender, state: &ComponentState, plan: &Result<Plan, String>) -> Option<String> {
    plan.as_ref().ok().filter(|plan| plan.shared)?;
    let wanted = state.desired.as_ref().filter(|wanted| wanted.execution == contender.execution)?;
    match &wanted.artifact {
        Artifact::Image { repository, digest } => Some(order::group(repository, digest, wanted.order.at)),
        Artifact::Public { .. } | Artifact::Object { .. } | Artifact::Nothing => None,
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
