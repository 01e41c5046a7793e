//! `cargo xtask bench rollout` and `cargo xtask bench load`: in the local cloud, with its pauses as on AWS. What measures is
//! `tests/src/bin/rollout-bench` and `tests/src/bin/load-bench`.

use std::process::Command;

use crate::functions::stage_functions;
use crate::run::openly;
use crate::test::for_local_cloud;
use crate::tools;
use crate::workspace::Workspace;

/// Runs a benchmark with these options of its own.
pub(crate) fn in_local_cloud(bench: &str, options: &[String]) -> anyhow::Result<()> {
    let tools = tools::setup()?;
    let workspace = Workspace::find()?;
    stage_functions(&workspace, false)?;
    let mut bench = Command::new(workspace.target.join("debug").join(bench));
    openly(for_local_cloud(&mut bench, &tools, &workspace)?.args(options))
}
