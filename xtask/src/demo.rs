//! `cargo xtask demo`: prepares what the demo needs and hands over to it (`tests/src/bin/demo.rs`).

use crate::functions::stage_functions;
use crate::run::openly;
use crate::test::for_local_cloud;
use crate::tools;
use crate::workspace::Workspace;

pub(crate) fn demo(options: &[String]) -> anyhow::Result<()> {
    let tools = tools::setup()?;
    let workspace = Workspace::find()?;
    stage_functions(&workspace, false)?;
    // Built with the rest of the workspace, so nothing is compiled for it alone.
    let mut demo = std::process::Command::new(workspace.target.join("debug/demo"));
    openly(for_local_cloud(&mut demo, &tools, &workspace)?.args(options))
}
