//! `cargo xtask rights`: what Shipway's roles used of what they are granted, in the tests that ran last.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::run::{openly, quietly};
use crate::workspace::{Workspace, cargo};

/// Where tests leave what IAM decided.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("rights")
}

/// Forgets what earlier tests left.
pub(crate) fn forget(workspace: &Workspace) -> anyhow::Result<()> {
    let folder = folder(workspace);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

/// Shows it; fails where something is granted that no test used and no reason is given for.
pub(crate) fn rights() -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    // Of the workspace and not of its package, for which alone cargo would compile the AWS SDKs with other features.
    let build = ["build", "--quiet", "--locked", "--workspace", "--bin", "rights"];
    quietly(cargo().current_dir(&workspace.root).args(build))?;
    let mut rights = Command::new(workspace.target.join("debug/rights"));
    openly(rights.current_dir(&workspace.root).env("SHIPWAY_RIGHTS", folder(&workspace)))
}
