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

impl Architecture {
    /// What Rust calls it.
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64-unknown-linux-gnu",
            Architecture::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }
}

/// The oldest C library among those our binaries may meet: Amazon Linux 2023, which `provided.al2023` is, has 2.34.
pub(crate) const GLIBC: (u32, u32) = (2, 34);

/// Builds the functions in the dev profile, as `cargo build --workspace` does, and puts them where the template reads
/// them. Nothing is compiled twice: not for a second target, not for a second profile. Where tests are built too, they are
/// built with the functions: what they depend on switches on features far below, without which cargo would compile the AWS
/// SDKs for the functions alone.
pub(crate) fn stage_functions(workspace: &Workspace, with_tests: bool) -> anyhow::Result<()> {
    let tests = with_tests.then_some("--tests");
    openly(cargo().current_dir(&workspace.root).args(["build", "--locked", "--workspace", "--bins"]).args(tests))?;
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

/// Builds binaries as they go to AWS into `target/lambda`.
pub(crate) fn build_released(
    workspace: &Workspace,
    tools: &Tools,
    architecture: Architecture,
    packages: &[String],
) -> anyhow::Result<()> {
    build_released_with(workspace, &cargo_home()?, tools, architecture, packages)
}

/// The same with the registry's sources somewhere else. What is built is the same: no path of the machine is in it.
pub(crate) fn build_released_with(
    workspace: &Workspace,
    cargo_home: &Path,
    tools: &Tools,
    architecture: Architecture,
    packages: &[String],
) -> anyhow::Result<()> {
    let (major, minor) = GLIBC;
    let triple = architecture.triple();
    installed(triple)?;
    let target = format!("{triple}.{major}.{minor}");
    let packages = packages.iter().flat_map(|function| ["--package", function.as_str()]);
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .env("PATH", tools.path()?)
        .env("CARGO_HOME", cargo_home)
        .env("CARGO_TARGET_DIR", &workspace.target)
        // In the environment these are instead of any others, which would make it another build.
        .env("CARGO_ENCODED_RUSTFLAGS", remapped(workspace, cargo_home)?)
        // Its own optimizations would abort on panic; our release profile unwinds, so that the runtime can report it.
        .args(["lambda", "build", "--release", "--locked", "--disable-optimizations", "--target", &target])
        .arg("--lambda-dir")
        .arg(workspace.root.join("target/lambda"))
        .args(packages);
    openly(&mut command)
}

/// The flags by which panics name the sources as if every checkout, registry and target directory were in one place.
fn remapped(workspace: &Workspace, cargo_home: &Path) -> anyhow::Result<String> {
    let mut places = [(&*workspace.root, "/shipway"), (cargo_home, "/cargo"), (&*workspace.target, "/target")];
    // One may be in another, and the last that a path begins with counts.
    places.sort_by_key(|(place, _)| place.as_os_str().len());
    let flags = places.into_iter().map(|(place, name)| {
        let place = place.to_str().with_context(|| format!("{} is not UTF-8", place.display()))?;
        Ok(format!("--remap-path-prefix={place}={name}"))
    });
    // https://doc.rust-lang.org/cargo/reference/environment-variables.html
    Ok(flags.collect::<anyhow::Result<Vec<_>>>()?.join("\x1f"))
}

/// Where cargo keeps the registry's sources.
pub(crate) fn cargo_home() -> anyhow::Result<PathBuf> {
    let given = std::env::var_os("CARGO_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    given.or_else(home).context("neither CARGO_HOME nor HOME is set")
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::remapped;
    use crate::workspace::Workspace;

    #[test]
    fn a_place_within_another_keeps_its_own_name() {
        let workspace =
            |root: &str, target: &str| Workspace { root: root.into(), target: target.into(), functions: Vec::new() };
        let names = |workspace: &Workspace, home: &str| {
            let flags = remapped(workspace, Path::new(home)).unwrap();
            flags.split('\x1f').map(|flag| flag.rsplit('=').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let inside = workspace("/src/shipway", "/src/shipway/target");
        assert_eq!(names(&inside, "/home/me/of/a/long/name/.cargo"), ["/shipway", "/target", "/cargo"]);
        assert_eq!(names(&inside, "/src/shipway/cargo"), ["/shipway", "/cargo", "/target"]);
        let checked_out_by_cargo = workspace("/cargo/git/checkouts/shipway", "/build");
        assert_eq!(names(&checked_out_by_cargo, "/cargo").last().unwrap(), "/shipway");
    }
}
