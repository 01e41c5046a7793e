//! One pass: look at every stack at once, do at once whatever nothing stands in the way of, and write down what stands when
//! all does. A pass may be cut off anywhere: a request repeated for the same release and inputs carries the same token, and
//! what was started shows as moving in the next look.
//!
//! `repair` is the end of a pass that puts right what somebody changed, `removal` the pass of an environment's end, `drift` the one
//! that only compares.

mod drift;
mod removal;
mod repair;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shipway_aws::{
    AwsError, PublicError, Store,
    store::{EnvironmentRecord, Manifest, StoreError},
};
use shipway_domain::{
    failure::Failure,
    manifest::Spec,
    message::{Kept, Pass, Removed, Run, Summary},
    name::{AppName, EnvironmentName},
    platform::{
        Belongings, CapacityStep, Deletion, MissingOutput, Names, Next, Observed, ObservedCapacity, ObservedStack,
        Place, Plan, PlanError, Planned, PlatformOutputs, StackName, Trouble, WantedCapacity, WantedStack, Wish,
        next_actions, outputs, stacks,
    },
    release::Step,
};

use self::repair::Repaired;
use crate::aws::{Answer, Capacity, Repairs, Rules, Stacks};

pub(crate) use drift::Compared;

/// Who speaks in a release's story.
const ME: &str = "provision-platform";

/// What the function can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub(crate) enum Request {
    /// The stacks that need nothing of the network, while it is made.
    Independent {
        /// The release.
        run: Run,
    },
    /// All stacks.
    All {
        /// The release.
        run: Run,
    },
    /// No stack any more.
    Remove {
        /// The release.
        run: Run,
    },
    /// What differs. Nothing is changed.
    Drift {
        /// The app.
        app: AppName,
        /// The environment.
        environment: EnvironmentName,
        /// The comparisons that earlier passes began: the answer's own, given back.
        #[serde(default)]
        detections: BTreeMap<String, String>,
    },
}

/// The function's answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Answered {
    /// To [`Request::Independent`] and [`Request::All`].
    Stood(Pass<Summary>),
    /// To [`Request::Remove`].
    Removed(Pass<Removed>),
    /// To [`Request::Drift`].
    Compared(Compared),
}

/// The name under which a release's record holds what its removal keeps.
const KEPT: &str = "kept";

/// What ends a pass without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvisionError {
    /// The manifest asks for more than the platform can have.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The network must be there before what stands in it.
    #[error("the network of {0} is not written down; start the execution again, it is made before the load balancer")]
    NoNetwork(String),
    /// Nothing more can be done before a person did something.
    #[error("{}", describe(.0))]
    Halted(Vec<(String, Trouble)>),
    /// A stack has not what its blueprint should give.
    #[error(transparent)]
    Output(#[from] MissingOutput),
    /// CloudFormation refused or could not answer.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The table.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PublicError for ProvisionError {
    fn failure(&self) -> Failure {
        match self {
            ProvisionError::Plan(error) => error.failure(),
            ProvisionError::NoNetwork(_) | ProvisionError::Output(_) => Failure::Bug,
            ProvisionError::Halted(troubles) => troubles.first().map_or(Failure::Bug, |(_, trouble)| trouble.failure()),
            ProvisionError::Aws(error) => error.failure(),
            ProvisionError::Store(error) => error.failure(),
        }
    }
}

fn describe(troubles: &[(String, Trouble)]) -> String {
    let stacks: Vec<_> = troubles.iter().map(|(what, trouble)| format!("{what} {trouble}")).collect();
    format!(
        "{}. What does not stand on it is done; put this right, then start the execution again",
        stacks.join("; and ")
    )
}

/// What the function does with the table.
pub(crate) trait Records {
    /// Renews the run's claim, or ends it.
    async fn renew(&self, run: &Run, now: Timestamp) -> Result<(), StoreError>;
    /// The environment and the manifest to work towards.
    async fn planned(&self, run: &Run) -> Result<(EnvironmentRecord, Manifest), StoreError>;
    /// An environment's record, if it has one.
    async fn environment(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> Result<Option<EnvironmentRecord>, StoreError>;
    /// The environment and the manifest that it stands by.
    async fn applied(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> Result<(EnvironmentRecord, Manifest), StoreError>;
    /// What the release's removal keeps, as far as that is known.
    async fn kept(&self, run: &Run) -> Result<Vec<Kept>, StoreError>;
    /// Writes that down.
    async fn set_kept(&self, run: &Run, kept: &[Kept], now: Timestamp) -> Result<(), StoreError>;
    /// The release's story so far.
    async fn story(&self, run: &Run) -> Result<Vec<Step>, StoreError>;
    /// Adds a step to it.
    async fn tell(&self, run: &Run, step: Step) -> Result<(), StoreError>;
    /// Writes down what the stacks made.
    async fn set_platform(&self, run: &Run, platform: &PlatformOutputs, now: Timestamp) -> Result<(), StoreError>;
}

impl Records for Store {
    async fn renew(&self, run: &Run, now: Timestamp) -> Result<(), StoreError> {
        Store::renew(self, run, now).await
    }

    async fn planned(&self, run: &Run) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        Store::planned(self, &run.app, &run.environment).await
    }

    async fn environment(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> Result<Option<EnvironmentRecord>, StoreError> {
        Store::environment(self, app, environment).await
    }

    async fn applied(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        Store::applied(self, app, environment).await
    }

    async fn kept(&self, run: &Run) -> Result<Vec<Kept>, StoreError> {
        Ok(self.progress(run, KEPT).await?.unwrap_or_default())
    }

    async fn set_kept(&self, run: &Run, kept: &[Kept], now: Timestamp) -> Result<(), StoreError> {
        self.save_progress(run, KEPT, &kept, now).await
    }

    async fn story(&self, run: &Run) -> Result<Vec<Step>, StoreError> {
        let record = self.release(&run.app, &run.environment, &run.release).await?;
        Ok(record.map(|record| record.steps).unwrap_or_default())
    }

    async fn tell(&self, run: &Run, step: Step) -> Result<(), StoreError> {
        self.step(run, step).await
    }

    async fn set_platform(&self, run: &Run, platform: &PlatformOutputs, now: Timestamp) -> Result<(), StoreError> {
        Store::set_platform(self, run, platform, now).await
    }
}

/// Answers one request.
pub(crate) async fn answer<C: Stacks + Capacity + Repairs + Rules, R: Records>(
    place: &Place,
    cloud: &C,
    records: &R,
    request: Request,
    now: Timestamp,
) -> Result<Answered, ProvisionError> {
    let of_run = |run| Work { cloud, records, run, now };
    Ok(match request {
        Request::Independent { run } => Answered::Stood(of_run(&run).provision(place, Extent::Independent).await?),
        Request::All { run } => Answered::Stood(of_run(&run).provision(place, Extent::All).await?),
        Request::Remove { run } => Answered::Removed(of_run(&run).remove().await?),
        Request::Drift { app, environment, detections } => {
            Answered::Compared(drift::compare(place, cloud, records, &app, &environment, detections).await?)
        }
    })
}

/// How many requests are under way at once: an environment has dozens of stacks, and CloudFormation throttles.
pub(super) const AT_ONCE: usize = 8;

/// How much of the platform a pass is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// What needs nothing of the network.
    Independent,
    /// All of it.
    All,
}

struct Work<'a, C, R> {
    cloud: &'a C,
    records: &'a R,
    run: &'a Run,
    now: Timestamp,
}

/// How the cluster's capacity is.
enum Tended {
    /// As it should be, or it is too early for it.
    Settled,
    /// It changes.
    Moving(String),
    /// It needs a person.
    Halted(String, Trouble),
}

/// All wanted stacks as they are.
async fn look(cloud: &impl Stacks, wanted: &[WantedStack]) -> Result<Observed, AwsError> {
    let looks = wanted.iter().map(|stack| async move {
        let Some(mut observed) = cloud.describe(&stack.name, stack.region).await? else { return Ok(None) };
        if observed.status.asks_for_operation() {
            observed.operation = Some(cloud.last_operation(&observed.id).await?);
        }
        Ok(Some((stack.name.clone(), observed)))
    });
    iter(looks).buffered(AT_ONCE).try_filter_map(|look| async { Ok(look) }).try_collect().await
}

impl<C: Stacks + Capacity + Repairs + Rules, R: Records> Work<'_, C, R> {
    fn names(&self) -> Names<'_> {
        Names { app: &self.run.app, environment: &self.run.environment }
    }

    async fn provision(&self, place: &Place, extent: Extent) -> Result<Pass<Summary>, ProvisionError> {
        self.records.renew(self.run, self.now).await?;
        let (record, Manifest { spec, .. }) = self.records.planned(self.run).await?;
        let network = match extent {
            Extent::Independent => None,
            Extent::All => record.network.as_ref(),
        };
        let wish = Wish { spec: &spec, environment: &self.run.environment, place, network };
        // Which stacks there should be does not depend on those that are; only the places of their rules do.
        let mut observed = look(self.cloud, &stacks(&wish, &Observed::new())?).await?;
        loop {
            let mut wanted = stacks(&wish, &observed)?;
            if extent == Extent::Independent {
                wanted.retain(|stack| !stack.needs_network);
            }
            let plan = next_actions(&wanted, &observed, &self.run.release);
            let tended = match extent {
                Extent::Independent => Tended::Settled,
                Extent::All => self.tend(&wish, &observed, &plan).await?,
            };
            if !plan.goes_on() {
                return match tended {
                    Tended::Moving(note) => Ok(Pass::Again { seconds: plan.seconds(), note }),
                    Tended::Settled if plan.is_done() => {
                        let repaired = match self.run.repair && extent == Extent::All {
                            true => self.repair(&wanted, &observed).await?,
                            false => Repaired::Settled(Vec::new()),
                        };
                        match repaired {
                            Repaired::Moving(note) => Ok(Pass::Again { seconds: plan.seconds(), note }),
                            Repaired::Halted(troubles) => Err(ProvisionError::Halted(troubles)),
                            Repaired::Settled(left) => {
                                self.conclude(&wish, extent, &wanted, &observed, &record, left).await
                            }
                        }
                    }
                    Tended::Settled => self.halt(&plan, extent, None).await,
                    Tended::Halted(what, trouble) => self.halt(&plan, extent, Some((what, trouble))).await,
                };
            }
            let unchanged = self.act(&plan, &mut observed).await?;
            if !unchanged {
                return Ok(Pass::Again { seconds: plan.seconds(), note: plan.note() });
            }
            // What was found unchanged stands now, so what stands on it can go on. Each round settles one stack more.
        }
    }

    /// Takes the next step to the cluster's capacity, once the cluster and its instances stand.
    async fn tend(&self, wish: &Wish<'_>, observed: &Observed, plan: &Plan) -> Result<Tended, ProvisionError> {
        let names = self.names();
        let needed = [names.cluster(), names.instances()];
        let mut needed = plan.0.iter().filter(|planned| needed.contains(&planned.stack)).peekable();
        if needed.peek().is_none() || !needed.all(|planned| planned.next == Next::InSync) {
            return Ok(Tended::Settled);
        }
        let Some(wanted) = wish.capacity(observed) else {
            return Err(MissingOutput { stack: names.instances(), key: "AutoScalingGroup" }.into());
        };
        self.step(&wanted, |observed| wanted.next(observed)).await
    }

    /// Takes the next step with the cluster's capacity.
    async fn step(
        &self,
        wanted: &WantedCapacity,
        next: impl Fn(&ObservedCapacity) -> CapacityStep,
    ) -> Result<Tended, ProvisionError> {
        let step = next(&self.cloud.capacity(wanted).await?);
        let story = step.story(wanted);
        if let Some(story) = &story {
            self.tell([story.clone()]).await?;
            tracing::info!("{story}");
        }
        let asked = match &step {
            CapacityStep::Create(group) => self.cloud.create_provider(wanted, group).await,
            CapacityStep::Update => self.cloud.update_provider(wanted).await,
            CapacityStep::Associate { providers, strategy } => self.cloud.associate(wanted, providers, strategy).await,
            CapacityStep::Delete => self.cloud.delete_provider(wanted).await,
            CapacityStep::Wait => Ok(()),
            CapacityStep::Done => return Ok(Tended::Settled),
            CapacityStep::Halted(trouble) => {
                return Ok(Tended::Halted(format!("the capacity provider {}", wanted.name), trouble.clone()));
            }
        };
        // ECS takes no token for them, so what is refused may be done already: one cannot be made twice, and a role that goes by tags is
        // denied what is gone.
        if let Err(error) = asked
            && next(&self.cloud.capacity(wanted).await?) == step
        {
            return Err(error.into());
        }
        Ok(Tended::Moving(story.unwrap_or_else(|| format!("the capacity of {} is changing", wanted.cluster))))
    }

    /// Does what the plan says, all at once. Returns whether a stack that was to be changed had nothing to change.
    async fn act(&self, plan: &Plan, observed: &mut Observed) -> Result<bool, ProvisionError> {
        let acts: Vec<_> = plan.0.iter().filter_map(|planned| Some((planned, planned.story()?))).collect();
        self.tell(acts.iter().map(|(_, story)| story.clone())).await?;
        let before = &*observed;
        let answers = iter(acts.iter().map(|(planned, story)| async move {
            let answer = self.ask(planned, before).await;
            match &answer {
                Ok(answer) => tracing::info!(stack = %planned.stack, ?answer, "{story}"),
                Err(error) => tracing::error!(stack = %planned.stack, %error, "{story}"),
            }
            answer
        }));
        let answers: Vec<_> = answers.buffered(AT_ONCE).collect().await;
        let mut unchanged = false;
        let mut refused = None;
        for ((planned, _), answer) in acts.iter().zip(answers) {
            match (answer, &planned.next) {
                (Ok(Answer::Unchanged), Next::Update(apply)) => {
                    if let Some(stack) = observed.get_mut(&planned.stack) {
                        stack.unchanged(apply);
                        unchanged = true;
                    }
                }
                (Ok(_), _) => {}
                (Err(error), _) => refused = refused.or(Some(error)),
            }
        }
        // One refusal stops no other stack; the pass that repeats this one finds them moving.
        refused.map_or(Ok(unchanged), |error| Err(error.into()))
    }

    async fn ask(&self, planned: &Planned, observed: &Observed) -> Result<Answer, AwsError> {
        match &planned.next {
            Next::Create(apply) => self.cloud.create(&planned.stack, apply).await,
            Next::Update(apply) => {
                if let (Some(protected), Some(stack)) = (apply.protected, observed.get(&planned.stack))
                    && stack.protected != protected
                {
                    self.cloud.protect(&stack.id, protected).await?;
                }
                if let Some(stack) = observed.get(&planned.stack) {
                    let moved = self.moved(stack).await?;
                    if !moved.is_empty() {
                        // By itself and first: a change that fails brings back what the stack had before it, and that must be what
                        // the rules weigh now. The next pass makes the change.
                        tracing::info!(stack = %planned.stack, ?moved, "ECS moved requests since; tells CloudFormation");
                        let weights: Vec<_> = moved.values().map(String::as_str).collect();
                        let token = apply.token_of_weights(&weights.join("-"));
                        return self.cloud.tell_weights(stack, &moved, &token).await;
                    }
                }
                self.cloud.update(&planned.stack, apply).await
            }
            Next::Clear(deletion) | Next::Remove(deletion) => self.delete(deletion).await,
            Next::Wait(_) | Next::InSync | Next::Blocked(_) | Next::Halted(_) => Ok(Answer::Moved),
        }
    }

    /// The parameters of a stack that say other weights than its rules have now, and what they have.
    async fn moved(&self, stack: &ObservedStack) -> Result<BTreeMap<String, String>, AwsError> {
        match stack.weighed_rules().as_slice() {
            [] => Ok(BTreeMap::new()),
            rules => Ok(stack.moved(&self.cloud.weights(rules).await?)),
        }
    }

    async fn delete(&self, deletion: &Deletion) -> Result<Answer, AwsError> {
        if deletion.protected {
            self.cloud.protect(&deletion.id, false).await?;
        }
        self.cloud.delete(deletion).await
    }

    /// Tells what is about to be done, once, however often the pass is repeated.
    async fn tell(&self, stories: impl IntoIterator<Item = String>) -> Result<(), StoreError> {
        let mut stories = stories.into_iter().peekable();
        if stories.peek().is_none() {
            return Ok(());
        }
        let told = self.records.story(self.run).await?;
        for story in stories {
            if !told.iter().any(|step| step.by == ME && step.what == story) {
                let step = Step { at: self.now, by: ME.to_owned(), what: story };
                self.records.tell(self.run, step).await?;
            }
        }
        Ok(())
    }

    /// Nothing moves any more, and not all stands.
    async fn halt(
        &self,
        plan: &Plan,
        extent: Extent,
        of_capacity: Option<(String, Trouble)>,
    ) -> Result<Pass<Summary>, ProvisionError> {
        let mut troubles = self.named(plan, extent).await?;
        troubles.extend(of_capacity);
        match extent {
            // The network and what stands in it do not suffer from this; the pass over all stacks names it.
            Extent::Independent => Ok(Pass::Done(Summary { note: plan.note() })),
            Extent::All if troubles.is_empty() => {
                Err(ProvisionError::NoNetwork(format!("{}/{}", self.run.app, self.run.environment)))
            }
            Extent::All => Err(ProvisionError::Halted(troubles)),
        }
    }

    /// What of a plan needs a person; with the stack of another environment that has what one of these wants.
    async fn named(&self, plan: &Plan, extent: Extent) -> Result<Vec<(String, Trouble)>, AwsError> {
        let may = |planned: &Planned| match &planned.next {
            Next::Halted(trouble) => trouble.may_be_anothers(planned.concern),
            _ => false,
        };
        if extent == Extent::Independent || !plan.0.iter().any(may) {
            return Ok(troubles(plan));
        }
        let there = self.cloud.list(&self.run.app).await?;
        let named = |(stack, trouble): (&StackName, &Trouble)| {
            (format!("the stack {stack}"), trouble.clone().among(stack, &there))
        };
        Ok(plan.troubles().map(named).collect())
    }

    /// All stands: writes down what it made, if that is not written down yet, and names what is no longer wanted.
    async fn conclude(
        &self,
        wish: &Wish<'_>,
        extent: Extent,
        wanted: &[WantedStack],
        observed: &Observed,
        record: &EnvironmentRecord,
        left: Vec<String>,
    ) -> Result<Pass<Summary>, ProvisionError> {
        let stand = format!("{} stacks stand as the manifest wants them", wanted.len());
        let mut note = [vec![stand], left].concat().join("; ");
        if extent == Extent::All {
            let made = outputs(wish, observed)?;
            let unwanted = self.unwanted(wish, wanted, record).await?;
            if !unwanted.is_empty() {
                let stays = format!("stays until a teardown: {}", unwanted.join(", "));
                self.tell([stays.clone()]).await?;
                note = format!("{note}; {stays}");
            }
            if made != record.platform {
                self.records.set_platform(self.run, &made, self.now).await?;
            }
        }
        Ok(Pass::Done(Summary { note }))
    }

    /// The stacks that are there and not wanted. They are looked for only where the manifest that stands now wanted other ones, or
    /// where none does.
    async fn unwanted(
        &self,
        wish: &Wish<'_>,
        wanted: &[WantedStack],
        record: &EnvironmentRecord,
    ) -> Result<Vec<String>, AwsError> {
        let names: BTreeSet<_> = wanted.iter().map(|stack| &stack.name).collect();
        let wanted_before = |spec: &Spec| stacks(&Wish { spec, ..*wish }, &Observed::new());
        if let Some(Ok(before)) = record.applied.as_ref().map(|applied| wanted_before(&applied.spec))
            && before.iter().all(|stack| names.contains(&stack.name))
        {
            return Ok(Vec::new());
        }
        let there = self.cloud.list(&self.run.app).await?;
        let belongings = Belongings::of_environment(self.names(), &there);
        Ok(belongings.names().filter(|name| !names.contains(name)).map(StackName::to_string).collect())
    }
}

/// What of a plan needs a person.
fn troubles(plan: &Plan) -> Vec<(String, Trouble)> {
    plan.troubles().map(|(stack, trouble)| (format!("the stack {stack}"), trouble.clone())).collect()
}
