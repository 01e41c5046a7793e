//! The sites that the browser tests publish, built from `tests/sites` with the generators that people use: a Next export, a
//! Vite app in two releases, documentation by MkDocs.
//!
//! They are built once for each state of their sources, in a directory named by it; what is built is never in the checkout.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::Hasher as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::run::{quietly, step};
use crate::tools::{Tools, cache_directory, npm_install, pip_install};
use crate::workspace::Workspace;

/// What a generator leaves beside its sources when a person runs it there.
const NO_SOURCES: [&str; 5] = ["node_modules", ".next", "out", "dist", "site"];

/// Builds the sites, unless they are there; answers the directory with a folder for each.
pub(crate) fn build(workspace: &Workspace, tools: &Tools) -> anyhow::Result<PathBuf> {
    let sources = workspace.root.join("tests/sites");
    let files = files(&sources)?;
    let cache = cache_directory()?;
    let built = cache.join(format!("sites-{:016x}", state(&sources, &files)?));
    if built.exists() {
        return Ok(built);
    }
    let lock = File::create(cache.join("sites.lock"))?;
    lock.lock().context("locking the directory of the sites")?;
    if built.exists() {
        return Ok(built);
    }
    let work = cache.join("sites-work");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    for file in &files {
        let copy = work.join(file);
        fs::create_dir_all(copy.parent().context("a file is in a folder")?)?;
        fs::copy(sources.join(file), copy)?;
    }
    let done = work.join("done");
    fs::create_dir(&done)?;
    step("sites: Next", || next(tools, &work.join("next"), &done))?;
    step("sites: Vite", || vite(tools, &work.join("vite"), &done))?;
    step("sites: MkDocs", || docs(tools, &work.join("docs"), &done))?;
    fs::rename(&done, &built)?;
    fs::remove_dir_all(&work)?;
    Ok(built)
}

fn next(tools: &Tools, folder: &Path, done: &Path) -> anyhow::Result<()> {
    npm_install(tools, folder)?;
    quietly(tools.npm()?.current_dir(folder).env("NEXT_TELEMETRY_DISABLED", "1").args(["run", "build"]))?;
    Ok(fs::rename(folder.join("out"), done.join("next"))?)
}

/// Twice, as two releases of which each says its name.
fn vite(tools: &Tools, folder: &Path, done: &Path) -> anyhow::Result<()> {
    npm_install(tools, folder)?;
    for release in ["one", "two"] {
        quietly(tools.npm()?.current_dir(folder).env("RELEASE", release).args(["run", "build"]))?;
        fs::rename(folder.join("dist"), done.join(format!("vite-{release}")))?;
    }
    Ok(())
}

fn docs(tools: &Tools, folder: &Path, done: &Path) -> anyhow::Result<()> {
    let venv = folder.join("venv");
    quietly(Command::new(tools.tool_path("python")).args(["-m", "venv"]).arg(&venv))?;
    pip_install(&venv.join("bin/python"), &folder.join("requirements.txt"))?;
    let options = ["build", "--quiet", "--strict", "--site-dir"];
    quietly(Command::new(venv.join("bin/mkdocs")).current_dir(folder).args(options).arg(done.join("docs"))).map(drop)
}

/// The sources' paths below their folder, in order.
fn files(sources: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![sources.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            if NO_SOURCES.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path().strip_prefix(sources)?.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Changes with every source, and with how they are built. Not a secure hash: it only keeps states apart.
fn state(sources: &Path, files: &[PathBuf]) -> anyhow::Result<u64> {
    let mut hasher = DefaultHasher::new();
    hasher.write(include_bytes!("sites.rs"));
    for file in files {
        hasher.write(file.as_os_str().as_encoded_bytes());
        hasher.write(&fs::read(sources.join(file))?);
    }
    Ok(hasher.finish())
}
