//! `cargo xtask test`: everything CI runs.

use std::process::Command;

use crate::check;
use crate::functions::stage_functions;
use crate::run::{openly, quietly};
use crate::tools::{self, Tools};
use crate::workspace::{Workspace, cargo};

pub(crate) fn test(filter: Option<&str>) -> anyhow::Result<()> {
    // A filter is for working on one thing; the whole run starts with the checks.
    if filter.is_none() {
        check::check()?;
    }
    let tools = tools::setup()?;
    let workspace = Workspace::find()?;
    stage_functions(&workspace)?;
    let mut tests = cargo();
    if quietly(cargo().args(["nextest", "--version"])).is_ok() {
        tests.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    } else {
        tests.args(["test", "--workspace", "--no-fail-fast"]);
    }
    openly(for_local_cloud(&mut tests, &tools, &workspace)?.args(filter))
}

/// Tells tests and demo where the tools and the checkout are.
pub(crate) fn for_local_cloud<'a>(
    command: &'a mut Command,
    tools: &Tools,
    workspace: &Workspace,
) -> anyhow::Result<&'a mut Command> {
    Ok(command
        .current_dir(&workspace.root)
        .env("SHIPWAY_TOOLS", tools.directory())
        .env("SHIPWAY_ROOT", &workspace.root)
        .env("SAM_CLI_TELEMETRY", "0"))
}
