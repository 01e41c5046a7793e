//! Stacks of the way in besides the load balancer and sites: certificates and DNS records.

use super::{MissingOutput, Names, Output, PlanError, PlatformOutputs, WantedStack, Wish};
use crate::manifest::Spec;

impl Wish<'_> {
    /// The stacks, each after what it stands on.
    pub(super) fn edge_stacks(&self) -> Result<Vec<WantedStack>, PlanError> {
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
