//! What we depend on, held to `deny.toml` by cargo-deny.

use std::process::Command;

use crate::cargo_tools::DENY;
use crate::run::{Steps, openly, quietly};
use crate::workspace::Workspace;

/// The workspaces: what is shipped with its tests and tools, and the fuzz targets.
const WORKSPACES: [&str; 2] = ["Cargo.toml", "fuzz/Cargo.toml"];

/// Licences, sources and bans. They need no network but crates.io, and no database.
pub(crate) fn check(workspace: &Workspace, steps: &mut Steps) {
    let [shipped, fuzzed] = WORKSPACES;
    // Nothing of the fuzz targets is shipped, so a licence there binds nobody.
    for (name, manifest, checks) in [
        ("dependencies: licences, sources, bans", shipped, &["licenses", "sources", "bans"][..]),
        ("dependencies of the fuzz targets: sources, bans", fuzzed, &["sources", "bans"]),
    ] {
        steps.attempt(name, || quietly(deny(workspace, manifest)?.arg("check").args(checks)).map(drop));
    }
}

/// `cargo xtask advisories`: known vulnerabilities, and versions that were taken back. Asks GitHub for RustSec's database.
pub(crate) fn advisories() -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    WORKSPACES.iter().try_for_each(|manifest| openly(deny(&workspace, manifest)?.args(["check", "advisories"])))
}

fn deny(workspace: &Workspace, manifest: &str) -> anyhow::Result<Command> {
    let mut deny = Command::new(DENY.program()?);
    deny.current_dir(&workspace.root).args(["--locked", "--config", "deny.toml", "--manifest-path", manifest]);
    Ok(deny)
}
