//! The part of a pass that puts right what somebody changed: once all stacks stand by their inputs, where the run asks for it.

use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use shipway_aws::AwsError;
use shipway_domain::platform::{
    Observed, ObservedStack, RepairStep, StackName, Trouble, WantedStack, change_set, repair_step,
};

use super::{AT_ONCE, Capacity, ProvisionError, Records, Repairs, Rules, Stacks, Work};
use crate::aws::Proposal;

/// What came of it in this pass.
pub(super) enum Repaired {
    /// It goes on.
    Moving(String),
    /// All that can be put right is; these stay as they are, and why.
    Settled(Vec<String>),
    /// Some could not be put right.
    Halted(Vec<(String, Trouble)>),
}

impl<C: Stacks + Capacity + Repairs + Rules, R: Records> Work<'_, C, R> {
    /// Takes the next step with each stack.
    pub(super) async fn repair(&self, wanted: &[WantedStack], observed: &Observed) -> Result<Repaired, ProvisionError> {
        let name = change_set(&self.run.release);
        let stacks = || wanted.iter().filter_map(|stack| Some((&stack.name, observed.get(&stack.name)?)));
        let looks = stacks().map(|(stack, shown)| {
            let name = &name;
            async move {
                let set = self.cloud.change_set(&shown.id, name).await?;
                Ok::<_, AwsError>((stack, shown, repair_step(shown, name, set.as_ref())))
            }
        });
        let steps: Vec<_> = iter(looks).buffered(AT_ONCE).try_collect().await?;
        self.tell(steps.iter().filter_map(|(stack, _, step)| step.story(stack))).await?;

        let acts = steps.iter().map(|(stack, shown, step)| self.mend(stack, shown, step, &name));
        let refused: Vec<_> = iter(acts).buffered(AT_ONCE).try_collect().await?;
        let moving = steps.iter().zip(&refused).filter(|((_, _, step), refused)| refused.is_none() && moves(step));
        let moving = moving.count();
        if moving > 0 {
            return Ok(Repaired::Moving(format!("{moving} stacks are compared with what they made and put right")));
        }
        let halted = steps.iter().filter_map(|(stack, _, step)| match step {
            RepairStep::Halted(trouble) => Some((format!("the stack {stack}"), trouble.clone())),
            _ => None,
        });
        let halted: Vec<_> = halted.collect();
        if !halted.is_empty() {
            return Ok(Repaired::Halted(halted));
        }
        // Proposals that change nothing go only now: where one is missing, a repeated pass asks for it again.
        let empty = steps.iter().filter(|(_, _, step)| *step == RepairStep::Done { empty: true });
        let withdrawn = empty.map(|(_, shown, _)| self.cloud.withdraw(&shown.id, &name));
        iter(withdrawn).buffered(AT_ONCE).try_collect::<Vec<()>>().await?;
        let stories = steps.iter().map(|(stack, _, step)| match step {
            RepairStep::Left(_) => step.story(stack),
            _ => None,
        });
        Ok(Repaired::Settled(stories.zip(refused).filter_map(|(left, refused)| left.or(refused)).collect()))
    }

    /// Takes a step with a stack. Returns what to tell where CloudFormation makes no proposal for it.
    async fn mend(
        &self,
        stack: &StackName,
        shown: &ObservedStack,
        step: &RepairStep,
        name: &str,
    ) -> Result<Option<String>, ProvisionError> {
        match step {
            RepairStep::Propose => {
                let weights = self.moved(shown).await?;
                let Proposal::Refused(why) = self.cloud.propose(shown, &weights, name).await? else { return Ok(None) };
                let left = RepairStep::unproposed(&why).story(stack);
                self.tell(left.clone()).await?;
                return Ok(left);
            }
            RepairStep::Execute(what) => {
                tracing::info!(%stack, what, "puts it right");
                self.cloud.execute(&shown.id, name).await?;
            }
            RepairStep::Withdraw => self.cloud.withdraw(&shown.id, name).await?,
            RepairStep::Wait | RepairStep::Done { .. } | RepairStep::Left(_) | RepairStep::Halted(_) => {}
        }
        Ok(None)
    }
}

fn moves(step: &RepairStep) -> bool {
    match step {
        RepairStep::Propose | RepairStep::Wait | RepairStep::Execute(_) | RepairStep::Withdraw => true,
        RepairStep::Done { .. } | RepairStep::Left(_) | RepairStep::Halted(_) => false,
    }
}
