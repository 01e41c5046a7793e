//! Stacks of watching: notifications, alarms, the dashboard, flow logs.

use super::{PlanError, WantedStack, Wish};

impl Wish<'_> {
    /// The stacks, each after what it stands on.
    pub(super) fn watch_stacks(&self) -> Result<Vec<WantedStack>, PlanError> {
        Ok(Vec::new())
    }
}
