//! Building the functions, for this machine and for AWS.
//!
//! `bootstrap/template.yaml` reads `target/lambda/<function>/bootstrap` below the checkout, whoever built it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::run::{openly, quietly, step};
use crate::tools::Tools;
use crate::workspace::{Workspace, cargo};

/// The processor of a function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Architecture {
    X86_64,
    Arm64,
}

/// The oldest C library among those our binaries may meet: Amazon Linux 2023, which `provided.al2023` is, has 2.34.
pub(crate) const GLIBC: (u32, u32) = (2, 34);

/// Builds the functions in the dev profile, as `cargo build --workspace` does, and puts them where the template reads
/// them. Nothing is compiled twice: not for a second target, not for a second profile. Where tests are built too, they are
/// built with the functions: what they depend on switches on features far below, without which cargo would compile the AWS
/// SDKs for the functions alone.
pub(crate) fn stage_functions(workspace: &Workspace, with_tests: bool) -> anyhow::Result<()> {
    let tests = with_tests.then_some("--tests");
    openly(cargo().current_dir(&workspace.root).args(["build", "--workspace", "--bins"]).args(tests))?;
    step("functions: staged", || {
        for function in &workspace.functions {
            let built = workspace.target.join("debug").join(function);
            stage(&built, &staged(workspace, function))?;
        }
        Ok(())
    })
}

/// Where the template reads a function.
pub(crate) fn staged(workspace: &Workspace, function: &str) -> PathBuf {
    workspace.root.join("target/lambda").join(function).join("bootstrap")
}

fn stage(built: &Path, staged: &Path) -> anyhow::Result<()> {
    let directory = staged.parent().context("a staged function has a directory")?;
    std::fs::create_dir_all(directory)?;
    // Debug information is nine tenths of a dev binary, and SAM zips and uploads all of it. No `strip`: only slower.
    let stripped = quietly(Command::new("strip").arg("-o").arg(staged).arg(built));
    if stripped.is_err() {
        std::fs::copy(built, staged).with_context(|| format!("{} → {}", built.display(), staged.display()))?;
    }
    Ok(())
}

/// Builds the functions for AWS in the release profile, in the same place.
pub(crate) fn build_for_aws(workspace: &Workspace, tools: &Tools, architecture: Architecture) -> anyhow::Result<()> {
    build_released(workspace, tools, architecture, &workspace.functions)
}

/// Builds binaries as they go to AWS into `target/lambda`.
pub(crate) fn build_released(
    workspace: &Workspace,
    tools: &Tools,
    architecture: Architecture,
    packages: &[String],
) -> anyhow::Result<()> {
    let (major, minor) = GLIBC;
    let target = match architecture {
        Architecture::X86_64 => format!("x86_64-unknown-linux-gnu.{major}.{minor}"),
        Architecture::Arm64 => format!("aarch64-unknown-linux-gnu.{major}.{minor}"),
    };
    installed(target.split('.').next().unwrap_or(&target))?;
    let packages = packages.iter().flat_map(|function| ["--package", function.as_str()]);
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .env("PATH", tools.path()?)
        // Its own optimizations would abort on panic; our release profile unwinds, so that the runtime can report it.
        .args(["lambda", "build", "--release", "--disable-optimizations", "--target", &target, "--lambda-dir"])
        .arg(workspace.root.join("target/lambda"))
        .args(packages);
    openly(&mut command)
}

/// Fails with the way out when the standard library for a target is not installed.
fn installed(target: &str) -> anyhow::Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let library = quietly(Command::new(rustc).args(["--print", "target-libdir", "--target", target]))?;
    anyhow::ensure!(
        Path::new(library.trim()).exists(),
        "Rust's library for {target} is missing: rustup target add {target}"
    );
    Ok(())
}
