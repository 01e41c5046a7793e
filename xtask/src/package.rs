//! `cargo xtask package`: what goes to AWS.

use crate::functions::{Architecture, GLIBC, build_for_aws, staged};
use crate::run::step;
use crate::workspace::Workspace;
use crate::{glibc, tools};

pub(crate) fn package(architecture: Architecture) -> anyhow::Result<()> {
    let tools = tools::setup()?;
    let workspace = Workspace::find()?;
    build_for_aws(&workspace, &tools, architecture)?;
    step("functions: run on Amazon Linux 2023", || {
        workspace.functions.iter().try_for_each(|function| glibc::check(&staged(&workspace, function), GLIBC))
    })
}
