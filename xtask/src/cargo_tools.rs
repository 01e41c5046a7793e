//! Tools that are crates: compiled once, by their own lock files, into directories named by their versions.

use std::path::PathBuf;

use crate::run::{quietly, step};
use crate::tools;
use crate::workspace::cargo;

/// A program `cargo-<name>` and its version on crates.io.
pub(crate) struct CargoTool {
    crate_name: &'static str,
    version: &'static str,
}

/// Licences, sources and advisories of what we depend on. It compiles for three minutes.
pub(crate) const DENY: CargoTool = CargoTool { crate_name: "cargo-deny", version: "0.20.2" };
/// Lists what is in a package. It compiles for three minutes.
pub(crate) const CYCLONEDX: CargoTool = CargoTool { crate_name: "cargo-cyclonedx", version: "0.5.9" };
/// Drives libFuzzer.
pub(crate) const FUZZ: CargoTool = CargoTool { crate_name: "cargo-fuzz", version: "0.13.2" };

impl CargoTool {
    /// Its program, installed unless it is there.
    pub(crate) fn program(&self) -> anyhow::Result<PathBuf> {
        let installed = tools::cache_directory()?.join(format!("{}-{}", self.crate_name, self.version));
        let program = installed.join("bin").join(self.crate_name);
        if !program.exists() {
            step(&format!("{}: installed", self.crate_name), || {
                let options = ["install", "--quiet", "--locked", self.crate_name, "--version", self.version, "--root"];
                quietly(cargo().args(options).arg(&installed))
            })?;
        }
        Ok(program)
    }
}
