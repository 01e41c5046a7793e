//! Where things are in this checkout, from `cargo metadata`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use crate::run::quietly;

/// The checkout.
pub(crate) struct Workspace {
    /// Its root.
    pub(crate) root: PathBuf,
    /// Where cargo builds, which `CARGO_TARGET_DIR` may have put elsewhere.
    pub(crate) target: PathBuf,
    /// The names of the functions: package, binary and folder are the same word.
    pub(crate) functions: Vec<String>,
}

impl Workspace {
    pub(crate) fn find() -> anyhow::Result<Self> {
        let metadata = quietly(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
        let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
        let path = |name: &str| metadata[name].as_str().map(PathBuf::from).with_context(|| format!("no {name}"));
        let (root, target) = (path("workspace_root")?, path("target_directory")?);
        let packages = metadata["packages"].as_array().context("no packages")?;
        let is_function = |package: &&Value| {
            let manifest = package["manifest_path"].as_str().unwrap_or_default();
            Path::new(manifest).starts_with(root.join("functions"))
        };
        let names = packages.iter().filter(is_function).filter_map(|package| package["name"].as_str());
        let mut functions: Vec<_> = names.map(str::to_owned).collect();
        functions.sort();
        Ok(Self { root, target, functions })
    }

    /// The files of a folder that end so, in order. A folder that is not there has none.
    pub(crate) fn files(&self, folder: &str, suffix: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(suffix)))
            .collect();
        files.sort();
        files
    }
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // What cargo tells us about xtask is not true of what we start.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text == "CARGO_MANIFEST_DIR" || text == "CARGO_MANIFEST_PATH" {
            command.env_remove(name);
        }
    }
    command
}
