//! `cargo xtask bench rollout`: rollouts in the local cloud, with its pauses as on AWS. What measures is `tests/src/bin/rollout-bench`.

use std::process::Command;

use crate::functions::stage_functions;
use crate::run::openly;
use crate::test::for_local_cloud;
use crate::tools;
use crate::workspace::Workspace;

/// Runs the benchmark with these options of its own.
pub(crate) fn rollout(options: &[String]) -> anyhow::Result<()> {
    let tools = tools::setup()?;
    let workspace = Workspace::find()?;
    stage_functions(&workspace, false)?;
    let mut bench = Command::new(workspace.target.join("debug/rollout-bench"));
    openly(for_local_cloud(&mut bench, &tools, &workspace)?.args(options))
}
