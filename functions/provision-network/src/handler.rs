//! One pass: look, then do what can be done, each action as soon as what it needs is there, and write down what was made.
//!
//! The pass decides anew after every answer, so it takes as long as the longest chain of calls that need each other, and a
//! network that can be had in one pass is had in one. It never waits: where EC2 is behind its own answers or at work, the next
//! pass looks again. A pass may be cut off anywhere: what EC2 would make twice is written down before it is asked for,
//! everything else is found by tag, or refused by EC2 the second time. A network is removed by the same loop.

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
    message::{DriftFound, DriftInput, Pass, Run, Summary},
    name::{AppName, EnvironmentName},
    network::{
        Action, Desired, NetworkOutputs, Observed, Owner, PATIENCE_LOOKS, Progress, Refusal, Remembered, Role,
        SETTLE_LOOKS, Step, differences, next_actions, next_removals, standing_parts, strays,
    },
    release,
};
use shipway_ec2::{Ec2Client, Ec2Error};

/// How long to wait before looking again for what EC2 does not show yet.
const AGAIN_SECONDS: u32 = 2;

/// After how many looks a pause for EC2's own work becomes a second longer: it stays small beside what was waited already.
/// NAT gateways take one to two minutes; then they are seen three seconds late at most.
const LOOKS_A_SECOND: u32 = 20;

/// How many looks in a row may find something in the way before a person has to see to it: five minutes. A load balancer's
/// and a task's interfaces go some minutes after they.
const LOOKS_AT_WHAT_IS_IN_THE_WAY: u32 = 100;

/// What the function can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub(crate) enum Request {
    /// Make the network as the manifest wants it.
    Apply {
        /// The release.
        run: Run,
    },
    /// Remove the environment's network.
    Remove {
        /// The release.
        run: Run,
    },
    /// Say how the network differs from what stands by the manifest.
    Drift(DriftInput),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// To what makes a pass.
    Pass(Pass<Summary>),
    /// To the question for drift.
    Drift(DriftFound),
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
    /// Something of others is where the network was.
    #[error("{what} still stands in the way of what is removed; delete it, then start the execution again")]
    InTheWay {
        /// What.
        what: String,
        /// What EC2 said.
        #[source]
        error: Ec2Error,
    },
    /// The table.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PublicError for ProvisionError {
    fn failure(&self) -> Failure {
        match self {
            ProvisionError::Refusal(refusal) => refusal.failure(),
            ProvisionError::Ec2(error) => error.failure(),
            ProvisionError::Stuck(_) | ProvisionError::InTheWay { .. } => Failure::Conflict,
            ProvisionError::Store(error) => error.failure(),
        }
    }
}

/// What the function asks of EC2.
pub(crate) trait Ec2 {
    /// What of this environment's network is there.
    async fn look(&self, desired: &Desired, remembered: Remembered) -> Result<Observed, Ec2Error>;

    /// What carries this environment's tags.
    async fn look_at_remains(&self, owner: &Owner, remembered: Remembered) -> Result<Observed, Ec2Error>;

    /// Does one action; answers the id of what it made, or nothing.
    async fn perform(&self, run: &Run, action: &Action) -> Result<String, Ec2Error>;

    /// What of others keeps an action from being done.
    async fn in_the_way(&self, owner: &Owner, action: &Action) -> Result<Vec<String>, Ec2Error>;
}

impl Ec2 for Ec2Client {
    async fn look(&self, desired: &Desired, remembered: Remembered) -> Result<Observed, Ec2Error> {
        Box::pin(Ec2Client::look(self, desired, remembered)).await
    }

    async fn look_at_remains(&self, owner: &Owner, remembered: Remembered) -> Result<Observed, Ec2Error> {
        Box::pin(Ec2Client::look_at_remains(self, owner, remembered)).await
    }

    async fn perform(&self, run: &Run, action: &Action) -> Result<String, Ec2Error> {
        Ec2Client::perform(self, &owner(run), &run.release, action).await
    }

    async fn in_the_way(&self, owner: &Owner, action: &Action) -> Result<Vec<String>, Ec2Error> {
        Ec2Client::in_the_way(self, owner, action).await
    }
}

/// What the function reads and writes of the table. Every write renews the run's claim.
pub(crate) trait Records {
    async fn renew(&self, run: &Run, now: Timestamp) -> Result<(), StoreError>;
    async fn environment(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> Result<Option<EnvironmentRecord>, StoreError>;
    async fn planned(&self, run: &Run) -> Result<(EnvironmentRecord, Manifest), StoreError>;
    async fn progress(&self, app: &AppName, environment: &EnvironmentName) -> Result<Option<Progress>, StoreError>;
    async fn save_progress(&self, run: &Run, progress: &Progress, now: Timestamp) -> Result<(), StoreError>;
    async fn tell(&self, run: &Run, what: String, now: Timestamp) -> Result<(), StoreError>;
    async fn set_network(&self, run: &Run, network: &NetworkOutputs, now: Timestamp) -> Result<(), StoreError>;
    async fn forget_network(&self, run: &Run, now: Timestamp) -> Result<(), StoreError>;
}

impl Records for Store {
    async fn renew(&self, run: &Run, now: Timestamp) -> Result<(), StoreError> {
        Store::renew(self, run, now).await
    }

    async fn environment(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> Result<Option<EnvironmentRecord>, StoreError> {
        Store::environment(self, app, environment).await
    }

    async fn planned(&self, run: &Run) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        Store::planned(self, &run.app, &run.environment).await
    }

    async fn progress(&self, app: &AppName, environment: &EnvironmentName) -> Result<Option<Progress>, StoreError> {
        Store::memory_of(self, app, environment, Progress::NAME).await
    }

    async fn save_progress(&self, run: &Run, progress: &Progress, now: Timestamp) -> Result<(), StoreError> {
        Store::save_memory(self, run, Progress::NAME, progress, now).await
    }

    async fn tell(&self, run: &Run, what: String, now: Timestamp) -> Result<(), StoreError> {
        Store::step(self, run, release::Step { at: now, by: "provision-network".to_owned(), what }).await
    }

    async fn set_network(&self, run: &Run, network: &NetworkOutputs, now: Timestamp) -> Result<(), StoreError> {
        Store::set_network(self, run, network, now).await
    }

    async fn forget_network(&self, run: &Run, now: Timestamp) -> Result<(), StoreError> {
        Store::forget_network(self, run, now).await
    }
}

/// Answers one request.
pub(crate) async fn answer(
    records: &impl Records,
    ec2: &impl Ec2,
    request: Request,
    now: Timestamp,
) -> Result<Answer, ProvisionError> {
    match request {
        Request::Apply { run } => apply(records, ec2, &run, now).await.map(Answer::Pass),
        Request::Remove { run } => remove(records, ec2, &run, now).await.map(Answer::Pass),
        Request::Drift(input) => drift(records, ec2, input).await.map(Answer::Drift),
    }
}

fn owner(run: &Run) -> Owner {
    Owner { app: run.app.clone(), environment: run.environment.clone() }
}

/// Makes one pass towards the network that the manifest wants.
pub(crate) async fn apply(
    records: &impl Records,
    ec2: &impl Ec2,
    run: &Run,
    now: Timestamp,
) -> Result<Pass<Summary>, ProvisionError> {
    let progress = records.progress(&run.app, &run.environment);
    let opened = async { try_join!(records.renew(run, now), records.planned(run), progress) };
    let ((), (environment, manifest), progress) = Box::pin(opened).await?;
    let applied = environment.applied.as_ref().map(|manifest| &manifest.spec);
    let desired = Desired::of(&run.app, &run.environment, &manifest.spec, applied);
    let progress = progress.unwrap_or_default().taken_over_by(&run.release);
    let remembered = Remembered { vpc: environment.network.map(|network| network.vpc), progress: progress.clone() };

    let mut work = Work::new(records, ec2, run, now, progress);
    let decide = |observed: &Observed| next_actions(&desired, observed);
    let ended = match ec2.look(&desired, remembered).await {
        Ok(observed) => work.perform(observed, decide).await?,
        Err(Ec2Error::Behind(error)) => Ended::Behind(Ec2Error::Behind(error)),
        Err(error) => return Err(error.into()),
    };
    match ended {
        Ended::Done { outputs, observed } => {
            work.stands(outputs, &standing_parts(&desired, &observed), &strays(&desired, &observed)).await
        }
        ended => work.not_yet(ended).await,
    }
}

/// Makes one pass towards nothing of the network being left.
pub(crate) async fn remove(
    records: &impl Records,
    ec2: &impl Ec2,
    run: &Run,
    now: Timestamp,
) -> Result<Pass<Summary>, ProvisionError> {
    let ((), progress) = try_join!(records.renew(run, now), records.progress(&run.app, &run.environment))?;
    let mut work = Work::new(records, ec2, run, now, progress.unwrap_or_default().taken_over_by(&run.release));
    let decide = |observed: &Observed| Ok(next_removals(observed));
    let mut last = false;
    loop {
        let remembered = Remembered { vpc: None, progress: work.progress.clone() };
        let ended = match ec2.look_at_remains(&owner(run), remembered).await {
            Ok(observed) => work.perform(observed, decide).await?,
            Err(error) => return Err(error.into()),
        };
        match ended {
            // What an action is taken to have done is not what EC2 shows: nothing is left only when it shows nothing.
            Ended::Done { .. } if !work.acted => return work.removed().await,
            Ended::Done { .. } if !last => (last, work.acted) = (true, false),
            ended => return work.not_yet(ended).await,
        }
    }
}

/// Looks at a network that stands, and changes nothing.
async fn drift(records: &impl Records, ec2: &impl Ec2, input: DriftInput) -> Result<DriftFound, ProvisionError> {
    let DriftInput { app, environment } = &input;
    let record = records.environment(app, environment).await?.unwrap_or_default();
    // What does not stand cannot differ.
    let (Some(applied), Some(network)) = (record.applied, record.network) else { return Ok(DriftFound::default()) };
    let desired = Desired::of(app, environment, &applied.spec, None);
    // Whoever compares has no next look: what EC2 does not show is not there.
    let progress = records.progress(app, environment).await?.unwrap_or_default().doubted();
    let observed = ec2.look(&desired, Remembered { vpc: Some(network.vpc), progress }).await?;
    Ok(DriftFound { differences: differences(&desired, &observed) })
}

/// A pass under way.
struct Work<'a, R, E> {
    records: &'a R,
    ec2: &'a E,
    run: &'a Run,
    now: Timestamp,
    /// What is written down of the progress.
    saved: Progress,
    progress: Progress,
    told: Vec<String>,
    /// Whether something was done since the last look.
    acted: bool,
}

/// How the actions of a pass ended.
enum Ended<T> {
    Done {
        outputs: T,
        observed: Observed,
    },
    /// EC2 is at work.
    Waiting(String),
    LookAgain(String),
    Behind(Ec2Error),
    InTheWay(Action, Ec2Error),
}

/// Something that a pass waited for.
enum Event {
    Performed(Action, Result<String, Ec2Error>),
    Saved(Progress, Result<(), StoreError>),
}

type Flight<'a> = Pin<Box<dyn Future<Output = Event> + 'a>>;

impl<'a, R: Records, E: Ec2> Work<'a, R, E> {
    fn new(records: &'a R, ec2: &'a E, run: &'a Run, now: Timestamp, progress: Progress) -> Work<'a, R, E> {
        Work { records, ec2, run, now, saved: progress.clone(), progress, told: Vec::new(), acted: false }
    }

    /// Does what can be done, and tells what was done before an error.
    async fn perform<T>(
        &mut self,
        observed: Observed,
        decide: impl Fn(&Observed) -> Result<Step<T>, Refusal>,
    ) -> Result<Ended<T>, ProvisionError> {
        let ended = self.act(observed, decide).await;
        if let Err(error) = &ended {
            self.tell_before(error).await;
        }
        ended
    }

    /// Does what is needed until nothing more can be done now. Whatever goes wrong, what was sent is waited for: an answer
    /// that nobody hears is a resource that nobody wrote down.
    async fn act<T>(
        &mut self,
        mut observed: Observed,
        decide: impl Fn(&Observed) -> Result<Step<T>, Refusal>,
    ) -> Result<Ended<T>, ProvisionError> {
        let mut flights: FuturesUnordered<Flight<'a>> = FuturesUnordered::new();
        let mut sent: Vec<Action> = Vec::new();
        let mut saving = false;
        let mut behind = None;
        let mut in_the_way = None;
        let mut failed: Option<ProvisionError> = None;
        loop {
            let step = decide(&observed);
            let actions = match &step {
                Ok(Step::Act(actions)) if failed.is_none() => actions.as_slice(),
                _ => &[],
            };
            for action in actions.iter().filter(|action| !sent.contains(action)).cloned().collect::<Vec<_>>() {
                if let Some(role) = action.makes().filter(|_| action.doubles()) {
                    // Once it is asked for, looking for it starts from the beginning.
                    self.progress.asked.insert(role.clone());
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
                    self.acted = true;
                    self.told.push(action.told(&id));
                    self.progress.record(&action, &id);
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
                        Ec2Error::InTheWay(_) => in_the_way = in_the_way.or(Some((action, error))),
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
                    if let Some(error) = failed {
                        return Err(error);
                    }
                    return Ok(match (step?, behind, in_the_way) {
                        (Step::Done(outputs), ..) => Ended::Done { outputs, observed },
                        (Step::LookAgain(why), ..) => Ended::LookAgain(why),
                        (_, Some(error), _) => Ended::Behind(error),
                        (_, None, Some((action, error))) => Ended::InTheWay(action, error),
                        (Step::Wait(what), ..) => Ended::Waiting(what),
                        (Step::Act(_), None, None) => Ended::LookAgain("EC2 has not finished".to_owned()),
                    });
                }
            }
        }
    }

    fn flight(&self, action: Action) -> Flight<'a> {
        let (ec2, run) = (self.ec2, self.run);
        Box::pin(async move {
            let result = ec2.perform(run, &action).await;
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

    /// Writes down that the network stands.
    async fn stands(
        &mut self,
        outputs: NetworkOutputs,
        parts: &BTreeMap<Role, String>,
        strays: &[String],
    ) -> Result<Pass<Summary>, ProvisionError> {
        let mut known = self.progress.inherited.clone();
        known.extend(self.progress.made.clone());
        if known != *parts || !self.progress.asked.is_empty() {
            self.progress =
                Progress { release: self.progress.release.clone(), inherited: parts.clone(), ..Progress::default() };
            self.records.save_progress(self.run, &self.progress, self.now).await?;
        }
        let mut story = std::mem::take(&mut self.told);
        if !story.is_empty() && !strays.is_empty() {
            story.push(format!("not used, and to be deleted: {}", strays.join(", ")));
        }
        self.tell(story).await?;
        self.records.set_network(self.run, &outputs, self.now).await?;
        let NetworkOutputs { vpc, cidr, public_subnets, private_subnets, isolated_subnets, .. } = outputs;
        let tiers = [(public_subnets, "public"), (private_subnets, "private"), (isolated_subnets, "isolated")];
        let tiers = tiers.iter().filter(|(subnets, _)| !subnets.is_empty());
        let tiers: Vec<_> = tiers.map(|(subnets, tier)| format!("{} {tier}", subnets.len())).collect();
        Ok(Pass::Done(Summary {
            note: format!("the network stands: {vpc} ({cidr}) with {} subnets", tiers.join(", ")),
        }))
    }

    /// Writes down that nothing is left.
    async fn removed(&mut self) -> Result<Pass<Summary>, ProvisionError> {
        let nothing = Progress { release: self.progress.release.clone(), ..Progress::default() };
        if self.progress != nothing || self.saved != nothing {
            self.records.save_progress(self.run, &nothing, self.now).await?;
        }
        let story = std::mem::take(&mut self.told);
        self.tell(story).await?;
        self.records.forget_network(self.run, self.now).await?;
        Ok(Pass::Done(Summary { note: "nothing of the network is left".to_owned() }))
    }

    /// Writes down how far the pass came, and answers when to make the next.
    async fn not_yet<T>(&mut self, ended: Ended<T>) -> Result<Pass<Summary>, ProvisionError> {
        let note = match ended {
            // What is denied although it is there is not allowed.
            Ended::Behind(Ec2Error::Behind(error))
                if error.failure() == Failure::Denied && self.progress.behind >= SETTLE_LOOKS =>
            {
                return Err(Ec2Error::Refused(error).into());
            }
            Ended::Behind(error) if self.progress.behind >= PATIENCE_LOOKS => return Err(ProvisionError::Stuck(error)),
            Ended::InTheWay(action, error) if self.progress.waited >= LOOKS_AT_WHAT_IS_IN_THE_WAY => {
                let mut what = Box::pin(self.ec2.in_the_way(&owner(self.run), &action)).await?;
                if what.is_empty() {
                    what.push(format!("something that uses it (to {action})"));
                }
                let error = ProvisionError::InTheWay { what: what.join(", "), error };
                self.tell_before(&error).await;
                return Err(error);
            }
            Ended::Done { .. } => "EC2 still shows what it answered that it deleted".to_owned(),
            Ended::Waiting(what) => return self.wait(what).await,
            Ended::InTheWay(_, error) => return self.wait(error.to_string()).await,
            Ended::LookAgain(note) => note,
            Ended::Behind(error) => error.to_string(),
        };
        self.progress.behind += 1;
        self.again(AGAIN_SECONDS, note).await
    }

    async fn wait(&mut self, note: String) -> Result<Pass<Summary>, ProvisionError> {
        self.progress.waited += 1;
        self.again(1 + self.progress.waited / LOOKS_A_SECOND, note).await
    }

    async fn again(&mut self, seconds: u32, note: String) -> Result<Pass<Summary>, ProvisionError> {
        let story = std::mem::take(&mut self.told);
        self.tell(story).await?;
        self.records.save_progress(self.run, &self.progress, self.now).await?;
        Ok(Pass::Again { seconds, note })
    }

    async fn tell(&self, story: Vec<String>) -> Result<(), StoreError> {
        match story.is_empty() {
            true => Ok(()),
            false => self.records.tell(self.run, story.join("; "), self.now).await,
        }
    }
}
