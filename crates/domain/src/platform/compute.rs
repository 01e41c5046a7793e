//! Stacks of what services run on besides their own stacks: instances, service discovery.

use super::{MissingOutput, Names, Output, PlanError, PlatformOutputs, WantedStack, Wish};
use crate::manifest::Spec;

impl Wish<'_> {
    /// The stacks, each after what it stands on.
    pub(super) fn compute_stacks(&self) -> Result<Vec<WantedStack>, PlanError> {
        Ok(Vec::new())
    }
}

/// Adds what they made.
pub(super) fn outputs(
    _names: Names<'_>,
    _spec: &Spec,
    _output: &Output<'_>,
    _outputs: &mut PlatformOutputs,
) -> Result<(), MissingOutput> {
    Ok(())
}
