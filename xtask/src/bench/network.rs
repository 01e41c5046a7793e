//! `cargo xtask bench network`: how long provision-network takes for the network of the third system and for its removal. It is
//! a test of the function's own, in virtual time; here it is shown.

use crate::run::openly;
use crate::workspace::{Workspace, cargo};

/// Runs the test and shows what it prints.
pub(crate) fn network() -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    let arguments = ["test", "--quiet", "--package", "provision-network", "makespan", "--", "--nocapture"];
    openly(cargo().current_dir(&workspace.root).args(arguments))
}
