//! What Shipway's roles used of what they are granted, as the tests left it: `cargo xtask rights`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people")]

mod comparison;
mod unused;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use shipway_tests::rights::FOLDER;

use crate::comparison::Comparison;

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // Not with `?`: anyhow would print a backtrace where the environment asks for them.
            eprintln!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let folder = std::env::var_os(FOLDER).map(PathBuf::from).with_context(|| format!("{FOLDER} is not set"))?;
    let compared = Comparison::of(&folder)?;
    print!("{compared}");
    compared.hold()
}
