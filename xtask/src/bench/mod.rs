//! `cargo xtask bench`: what is measured, not tested. What each figure means is in `docs/benchmarks.md`.

mod cold_start;
mod local_cloud;
mod network;
mod publish;

use crate::functions::staged;
use crate::workspace::Workspace;

pub(crate) use cold_start::cold_start;
pub(crate) use local_cloud::in_local_cloud;
pub(crate) use network::network;
pub(crate) use publish::publish;

/// Removes a tool that was built like a function: it is none of Shipway's, and is not deployed with them.
fn unstage(workspace: &Workspace, tool: &str) -> anyhow::Result<()> {
    let staged = staged(workspace, tool);
    staged.parent().map_or(Ok(()), std::fs::remove_dir_all)?;
    Ok(())
}
