//! One pass: look, then do what can be done, each action as soon as what it needs is there, and write down what was made.
//!
//! The pass decides anew after every answer, so it takes as long as the longest chain of calls that need each other, and a
//! network that can be had in one pass is had in one. It never waits: where EC2 is behind its own answers, the next pass looks
//! again. A pass may be cut off anywhere: what EC2 would make twice is written down before it is asked for, everything else is
//! found by tag, or refused by EC2 the second time.

use std::{collections::BTreeMap, pin::Pin};

use futures_util::{StreamExt as _, stream::FuturesUnordered, try_join};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shipway_aws::{
    PublicError, Store,
    store::{EnvironmentRecord, Manifest, StoreError},
};
use shipway_domain::{
    failure::Failure,
    message::{Pass, PassInput, Run, Summary},
    network::{
        Action, Desired, NetworkOutputs, Observed, PATIENCE_LOOKS, Progress, Refusal, Remembered, Role, Step,
        next_actions, standing_parts, strays,
    },
    release,
};

use crate::aws::{Ec2, Ec2Error};

/// How long to wait before looking again for what EC2 does not show yet.
const AGAIN_SECONDS: u32 = 2;

const MEMORY: &str = "network";

/// What the function can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// Make the network as the manifest wants it.
    Apply,
}

/// What ends a pass without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvisionError {
    /// The network cannot be had like this.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// EC2 refused or could not answer.
    #[error(transparent)]
    Ec2(#[from] Ec2Error),
    /// EC2 goes on refusing what its own answers call for.
    #[error("EC2 shows something else than it says, and waiting did not help; is somebody changing the same network?")]
    Stuck(#[source] Ec2Error),
    /// The table.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PublicError for ProvisionError {
    fn failure(&self) -> Failure {
        match self {
            ProvisionError::Refusal(refusal) => refusal.failure(),
            ProvisionError::Ec2(error) => error.failure(),
            ProvisionError::Stuck(_) => Failure::Conflict,
            ProvisionError::Store(error) => error.failure(),
        }
    }
}

/// What the function reads and writes of the table. Every write renews the run's claim.
pub(crate) trait Records {
    async fn renew(&self, run: &Run, now: Timestamp) -> Result<(), StoreError>;
    async fn planned(&self, run: &Run) -> Result<(EnvironmentRecord, Manifest), StoreError>;
    async fn progress(&self, run: &Run) -> Result<Option<Progress>, StoreError>;
    async fn save_progress(&self, run: &Run, progress: &Progress, now: Timestamp) -> Result<(), StoreError>;
    async fn tell(&self, run: &Run, what: String, now: Timestamp) -> Result<(), StoreError>;
    async fn set_network(&self, run: &Run, network: &NetworkOutputs, now: Timestamp) -> Result<(), StoreError>;
}

impl Records for Store {
    async fn renew(&self, run: &Run, now: Timestamp) -> Result<(), StoreError> {
        Store::renew(self, run, now).await
    }

    async fn planned(&self, run: &Run) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        Store::planned(self, &run.app, &run.environment).await
    }

    async fn progress(&self, run: &Run) -> Result<Option<Progress>, StoreError> {
        Store::memory(self, run, MEMORY).await
    }

    async fn save_progress(&self, run: &Run, progress: &Progress, now: Timestamp) -> Result<(), StoreError> {
        Store::save_memory(self, run, MEMORY, progress, now).await
    }

    async fn tell(&self, run: &Run, what: String, now: Timestamp) -> Result<(), StoreError> {
        Store::step(self, run, release::Step { at: now, by: "provision-network".to_owned(), what }).await
    }

    async fn set_network(&self, run: &Run, network: &NetworkOutputs, now: Timestamp) -> Result<(), StoreError> {
        Store::set_network(self, run, network, now).await
    }
}

/// Makes one pass.
pub(crate) async fn pass(
    records: &impl Records,
    ec2: &impl Ec2,
    input: PassInput<Task>,
    now: Timestamp,
) -> Result<Pass<Summary>, ProvisionError> {
    let PassInput { run, action: Task::Apply } = &input;
    let opened = async { try_join!(records.renew(run, now), records.planned(run), records.progress(run)) };
    let ((), (environment, manifest), progress) = Box::pin(opened).await?;
    let applied = environment.applied.as_ref().map(|manifest| &manifest.spec);
    let desired = Desired::of(&run.app, &run.environment, &manifest.spec, applied);
    let progress = progress.unwrap_or_default().taken_over_by(&run.release);
    let remembered = Remembered { vpc: environment.network.map(|network| network.vpc), progress: progress.clone() };

    let mut work =
        Work { records, ec2, run, now, desired: &desired, saved: progress.clone(), progress, told: Vec::new() };
    let ended = match Box::pin(ec2.look(run, &desired, remembered)).await {
        Ok(observed) => match work.perform(observed).await {
            Ok(ended) => ended,
            Err(error) => {
                work.tell_before(&error).await;
                return Err(error);
            }
        },
        Err(Ec2Error::Behind(error)) => Ended::Behind(Ec2Error::Behind(error)),
        Err(error) => return Err(error.into()),
    };
    work.answer(ended).await
}

/// A pass under way.
struct Work<'a, R, E> {
    records: &'a R,
    ec2: &'a E,
    run: &'a Run,
    now: Timestamp,
    desired: &'a Desired,
    /// What is written down of the progress.
    saved: Progress,
    progress: Progress,
    told: Vec<String>,
}

/// How the actions of a pass ended.
enum Ended {
    Done { outputs: NetworkOutputs, parts: BTreeMap<Role, String>, strays: Vec<String> },
    LookAgain(String),
    Behind(Ec2Error),
}

/// Something that a pass waited for.
enum Event {
    Performed(Action, Result<String, Ec2Error>),
    Saved(Progress, Result<(), StoreError>),
}

type Flight<'a> = Pin<Box<dyn Future<Output = Event> + 'a>>;

impl<'a, R: Records, E: Ec2> Work<'a, R, E> {
    /// Performs what the network needs until nothing more can be done now. Whatever goes wrong, what was sent is waited for:
    /// an answer that nobody hears is a resource that nobody wrote down.
    async fn perform(&mut self, mut observed: Observed) -> Result<Ended, ProvisionError> {
        let mut flights: FuturesUnordered<Flight<'a>> = FuturesUnordered::new();
        let mut sent: Vec<Action> = Vec::new();
        let mut saving = false;
        let mut behind = None;
        let mut failed: Option<ProvisionError> = None;
        loop {
            let step = next_actions(self.desired, &observed);
            let actions = match &step {
                Ok(Step::Act(actions)) if failed.is_none() => actions.as_slice(),
                _ => &[],
            };
            for action in actions.iter().filter(|action| !sent.contains(action)).cloned().collect::<Vec<_>>() {
                if let Some(role) = action.makes().filter(|_| action.doubles()) {
                    // Once it is asked for, looking for it starts from the beginning.
                    self.progress.asked.insert(role);
                    self.progress.behind = 0;
                    if !self.saved.asked.contains(&role) || self.saved.behind > 0 {
                        continue;
                    }
                }
                sent.push(action.clone());
                flights.push(self.flight(action));
            }
            if self.progress != self.saved && !saving && !matches!(failed, Some(ProvisionError::Store(_))) {
                flights.push(self.save());
                saving = true;
            }
            match flights.next().await {
                Some(Event::Performed(action, Ok(id))) => {
                    tracing::info!(action = ?action, id, "performed");
                    self.progress.behind = 0;
                    self.told.push(action.told(&id));
                    if let Some(role) = action.makes() {
                        self.progress.asked.remove(&role);
                        self.progress.made.insert(role, id.clone());
                    }
                    observed = observed.with(&action, &id);
                }
                Some(Event::Performed(action, Err(error))) => {
                    tracing::warn!(action = ?action, %error, "refused");
                    // A clear refusal made nothing; anything else may have.
                    if let Some(role) = action.makes().filter(|_| error.failure() != Failure::Transient) {
                        self.progress.asked.remove(&role);
                    }
                    match error {
                        Ec2Error::Behind(_) => behind = behind.or(Some(error)),
                        error => failed = failed.or(Some(error.into())),
                    }
                }
                Some(Event::Saved(progress, result)) => {
                    saving = false;
                    match result {
                        Ok(()) => self.saved = progress,
                        // What went wrong first is the better reason, but a lost claim ends everything.
                        Err(error) => failed = Some(error.into()),
                    }
                }
                None => {
                    return match (failed, step, behind) {
                        (Some(error), _, _) => Err(error),
                        (None, Err(refusal), _) => Err(refusal.into()),
                        (None, Ok(Step::Done(outputs)), _) => {
                            let (parts, strays) =
                                (standing_parts(self.desired, &observed), strays(self.desired, &observed));
                            Ok(Ended::Done { outputs, parts, strays })
                        }
                        (None, Ok(Step::LookAgain(why)), _) => Ok(Ended::LookAgain(why)),
                        (None, Ok(Step::Act(_)), Some(error)) => Ok(Ended::Behind(error)),
                        (None, Ok(Step::Act(_)), None) => Ok(Ended::LookAgain("EC2 has not finished".to_owned())),
                    };
                }
            }
        }
    }

    fn flight(&self, action: Action) -> Flight<'a> {
        let (ec2, run, desired) = (self.ec2, self.run, self.desired);
        Box::pin(async move {
            let result = ec2.perform(run, desired, &action).await;
            Event::Performed(action, result)
        })
    }

    fn save(&self) -> Flight<'a> {
        let (records, run, now, progress) = (self.records, self.run, self.now, self.progress.clone());
        Box::pin(async move {
            let result = records.save_progress(run, &progress, now).await;
            Event::Saved(progress, result)
        })
    }

    /// Tells what was done before an error. That the story cannot be written is no reason to hide the error.
    async fn tell_before(&mut self, error: &ProvisionError) {
        if !self.told.is_empty() && !matches!(error, ProvisionError::Store(_)) {
            let told = self.records.tell(self.run, self.told.join("; "), self.now).await;
            drop(told.inspect_err(|error| tracing::warn!(%error, "the story is not written")));
        }
    }

    /// Writes down how the pass ended, and answers.
    async fn answer(&mut self, ended: Ended) -> Result<Pass<Summary>, ProvisionError> {
        let story = self.told.join("; ");
        match ended {
            Ended::Done { outputs, parts, strays } => {
                let mut known = self.progress.inherited.clone();
                known.extend(self.progress.made.clone());
                if known != parts || !self.progress.asked.is_empty() {
                    self.progress.inherited = parts;
                    (self.progress.made, self.progress.asked) = Default::default();
                    self.records.save_progress(self.run, &self.progress, self.now).await?;
                }
                let story = match (story.is_empty(), strays.is_empty()) {
                    (true, _) => String::new(),
                    (false, true) => story,
                    (false, false) => format!("{story}; not used, and to be deleted: {}", strays.join(", ")),
                };
                if !story.is_empty() {
                    self.records.tell(self.run, story, self.now).await?;
                }
                self.records.set_network(self.run, &outputs, self.now).await?;
                let NetworkOutputs { vpc, cidr, public_subnets, .. } = outputs;
                let zones = public_subnets.len();
                Ok(Pass::Done(Summary {
                    note: format!("the network stands: {vpc} ({cidr}) with {zones} public subnets"),
                }))
            }
            Ended::LookAgain(note) => self.again(story, note).await,
            Ended::Behind(error) if self.progress.behind >= PATIENCE_LOOKS => Err(ProvisionError::Stuck(error)),
            Ended::Behind(error) => self.again(story, error.to_string()).await,
        }
    }

    async fn again(&mut self, story: String, note: String) -> Result<Pass<Summary>, ProvisionError> {
        if !story.is_empty() {
            self.records.tell(self.run, story, self.now).await?;
        }
        self.progress.behind += 1;
        self.records.save_progress(self.run, &self.progress, self.now).await?;
        Ok(Pass::Again { seconds: AGAIN_SECONDS, note })
    }
}
