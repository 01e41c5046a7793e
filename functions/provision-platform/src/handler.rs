//! One pass: look at every stack at once, do at once whatever nothing stands in the way of, and write down what stands when
//! all does. A pass may be cut off anywhere: a request repeated for the same release and inputs carries the same token, and
//! what was started shows as moving in the next look.

use futures_util::future::{join_all, try_join_all};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shipway_aws::{
    AwsError, PublicError, Store,
    runtime::{MissingSetting, setting},
    store::{EnvironmentRecord, Manifest, StoreError},
};
use shipway_domain::{
    failure::Failure,
    manifest::Spec,
    message::{Pass, PassInput, Run, Summary},
    platform::{
        MissingOutput, Names, Next, Observed, Place, Plan, PlanError, Planned, PlatformOutputs, StackName, Trouble,
        Wish, next_actions, outputs, stacks,
    },
    release::Step,
};

use crate::{
    aws::{Answer, Stacks},
    blueprints::BLUEPRINTS,
};

/// Who speaks in a release's story.
const ME: &str = "provision-platform";

/// What the function can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// The stacks that need nothing of the network, while it is made.
    Independent,
    /// All stacks.
    All,
}

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
    Halted(Vec<(StackName, Trouble)>),
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
            ProvisionError::Plan(_) => Failure::RejectedManifest,
            ProvisionError::NoNetwork(_) | ProvisionError::Output(_) => Failure::Bug,
            ProvisionError::Halted(troubles) => troubles.first().map_or(Failure::Bug, |(_, trouble)| trouble.failure()),
            ProvisionError::Aws(error) => error.failure(),
            ProvisionError::Store(error) => error.failure(),
        }
    }
}

fn describe(troubles: &[(StackName, Trouble)]) -> String {
    let stacks: Vec<_> = troubles.iter().map(|(stack, trouble)| format!("the stack {stack} {trouble}")).collect();
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

/// Where stacks are made, from the function's settings.
pub(crate) fn place_from_environment() -> Result<Place, MissingSetting> {
    let permissions_boundary = setting("PERMISSIONS_BOUNDARY")?;
    // An ARN's second part is its partition.
    let partition = permissions_boundary.split(':').nth(1).unwrap_or("aws").to_owned();
    Ok(Place { partition, region: setting("AWS_REGION")?, account: setting("ACCOUNT")?, permissions_boundary })
}

/// Makes one pass.
pub(crate) async fn pass(
    place: &Place,
    cloud: &impl Stacks,
    records: &impl Records,
    input: PassInput<Action>,
    now: Timestamp,
) -> Result<Pass<Summary>, ProvisionError> {
    let PassInput { run, action } = input;
    records.renew(&run, now).await?;
    let (record, Manifest { spec, .. }) = records.planned(&run).await?;
    let pass = Work { cloud, records, run: &run, now };
    let names = Names { app: &run.app, environment: &run.environment };
    let mut observed = pass.look(names.all(&spec)).await?;
    let network = match action {
        Action::Independent => None,
        Action::All => record.network.as_ref(),
    };
    loop {
        let wish = Wish { spec: &spec, environment: &run.environment, place, blueprints: &BLUEPRINTS, network };
        let mut wanted = stacks(&wish, &observed)?;
        if action == Action::Independent {
            wanted.retain(|stack| !stack.needs_network);
        }
        let plan = next_actions(&wanted, &observed, &run.release);
        if plan.is_done() {
            if action == Action::All {
                pass.conclude(names, &spec, &observed, &record.platform).await?;
            }
            return Ok(Pass::Done(Summary {
                note: format!("{} stacks stand as the manifest wants them", wanted.len()),
            }));
        }
        if !plan.goes_on() {
            return pass.halt(&plan, action);
        }
        let unchanged = pass.act(&plan, &mut observed).await?;
        if !unchanged {
            return Ok(Pass::Again { seconds: plan.seconds(), note: plan.note() });
        }
        // What was found unchanged stands now, so what stands on it can go on. Each round settles one stack more.
    }
}

struct Work<'a, S, R> {
    cloud: &'a S,
    records: &'a R,
    run: &'a Run,
    now: Timestamp,
}

impl<S: Stacks, R: Records> Work<'_, S, R> {
    /// All stacks as they are, asked for at once.
    async fn look(&self, names: Vec<StackName>) -> Result<Observed, AwsError> {
        let looks = names.into_iter().map(|name| async move {
            let Some(mut stack) = self.cloud.describe(&name).await? else { return Ok(None) };
            if stack.status.asks_for_operation() {
                stack.operation = Some(self.cloud.last_operation(&stack.id).await?);
            }
            Ok(Some((name, stack)))
        });
        Ok(try_join_all(looks).await?.into_iter().flatten().collect())
    }

    /// Does what the plan says, all at once. Returns whether a stack that was to be changed had nothing to change.
    async fn act(&self, plan: &Plan, observed: &mut Observed) -> Result<bool, ProvisionError> {
        let acts: Vec<_> = plan.0.iter().filter_map(|planned| Some((planned, planned.story()?))).collect();
        self.tell(&acts).await?;
        let answers = join_all(acts.iter().map(|(planned, story)| async move {
            let answer = self.ask(planned).await;
            match &answer {
                Ok(answer) => tracing::info!(stack = %planned.stack, ?answer, "{story}"),
                Err(error) => tracing::error!(stack = %planned.stack, %error, "{story}"),
            }
            answer
        }));
        let mut unchanged = false;
        let mut refused = None;
        for ((planned, _), answer) in acts.iter().zip(answers.await) {
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

    async fn ask(&self, planned: &Planned) -> Result<Answer, AwsError> {
        match &planned.next {
            Next::Create(apply) => self.cloud.create(&planned.stack, apply).await,
            Next::Update(apply) => self.cloud.update(&planned.stack, apply).await,
            Next::Delete { id, token } => self.cloud.delete(id, token).await,
            Next::Wait(_) | Next::InSync | Next::Blocked(_) | Next::Halted(_) => Ok(Answer::Moved),
        }
    }

    /// Tells what is about to be done, once, however often the pass is repeated.
    async fn tell(&self, acts: &[(&Planned, String)]) -> Result<(), StoreError> {
        if acts.is_empty() {
            return Ok(());
        }
        let told = self.records.story(self.run).await?;
        for (_, story) in acts {
            if !told.iter().any(|step| step.by == ME && step.what == *story) {
                let step = Step { at: self.now, by: ME.to_owned(), what: story.clone() };
                self.records.tell(self.run, step).await?;
            }
        }
        Ok(())
    }

    /// Nothing moves any more, and not all stands.
    fn halt(&self, plan: &Plan, action: Action) -> Result<Pass<Summary>, ProvisionError> {
        let troubles: Vec<_> = plan.troubles().map(|(stack, trouble)| (stack.clone(), trouble.clone())).collect();
        match action {
            // The network and what stands in it do not suffer from this; the pass over all stacks names it.
            Action::Independent => Ok(Pass::Done(Summary { note: plan.note() })),
            Action::All if troubles.is_empty() => {
                Err(ProvisionError::NoNetwork(format!("{}/{}", self.run.app, self.run.environment)))
            }
            Action::All => Err(ProvisionError::Halted(troubles)),
        }
    }

    /// Writes down what the stacks made, if that is not written down yet.
    async fn conclude(
        &self,
        names: Names<'_>,
        spec: &Spec,
        observed: &Observed,
        known: &PlatformOutputs,
    ) -> Result<(), ProvisionError> {
        let made = outputs(names, spec, observed)?;
        if made != *known {
            self.records.set_platform(self.run, &made, self.now).await?;
        }
        Ok(())
    }
}
