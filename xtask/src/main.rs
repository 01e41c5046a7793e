//! `cargo xtask`: everything a person or CI does with this repository, with no tool needed beforehand but Rust and Python.

#![allow(clippy::print_stdout, reason = "a tool for people")]

mod bench;
mod cargo_tools;
mod check;
mod crash;
mod demo;
mod deny;
mod functions;
mod fuzz;
mod glibc;
mod package;
mod rights;
mod run;
mod sites;
mod test;
mod tools;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::functions::Architecture;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, checks, tests and shows Shipway")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs the tools that the other commands use, pinned, in a directory of their own
    Setup,
    /// Formatting, lints, dependencies, templates, state machines, policies
    Check,
    /// Asks RustSec's database, which is on GitHub, for known vulnerabilities of what we depend on
    Advisories,
    /// Everything CI runs: the checks, the functions, all tests
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// A cloud on this machine, Shipway deployed to it, an example provisioned, released and rolled back
    Demo {
        /// Options of the demo itself
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Feeds the readers of zips, events and manifests what nobody would send
    Fuzz {
        /// One of them: archive, event or manifest
        target: Option<String>,
        /// How long for each, in seconds
        #[arg(default_value_t = 20)]
        seconds: u64,
    },
    /// Reads every zip below a directory, and compares what is found with what Python's zipfile finds
    Corpus {
        /// The directory
        directory: PathBuf,
    },
    /// Cuts the functions off at each of their calls to AWS and lets each fail, in tests in memory, and tells what was tried; needs cargo-nextest
    Crash {
        /// How many pairs each story is told with beside, drawn by lot
        #[arg(long, default_value_t = 200)]
        pairs: u64,
        /// Draws the same as the run that told it
        #[arg(long)]
        seed: Option<u64>,
        /// The five systems in the local cloud instead, from nothing to nothing, with calls that break off by lot
        #[arg(long)]
        systems: bool,
    },
    /// What Shipway's roles used of what they are granted, in the tests that ran last
    Rights,
    /// Measures
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Builds the functions for AWS, release profile, and checks that they run on its Linux; zips, their SHA-256 sums and what is
    /// in them (CycloneDX) go to target/package
    Package {
        /// Only these; where fewer are built together their dependencies may have fewer features, so their zips may differ
        functions: Vec<String>,
        /// For Graviton instead of x86-64
        #[arg(long)]
        arm64: bool,
        /// Builds all of it once more from another directory, and fails where a zip differs
        #[arg(long)]
        twice: bool,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// Process start to first `GET /next` of each function, against a function that does nothing
    ColdStart,
    /// How long a network takes, in virtual time, against its longest path
    Network,
    /// Publications, against what else publishes a zip
    Publish {
        /// `--runs 5`, `--delay 20` (milliseconds for each request), `--json`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// 1,000 pushes in a minute and 50 publications at once on 200 components, with AWS's limits kept
    Load {
        /// `--services 150`, `--sites 50`, `--apps 10`, `--pushes 1000`, `--seconds 60`, `--concurrency 20` (functions at once)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Rollouts, against the AWS CLI's waiter; about four minutes
    Rollout {
        /// `--runs 5`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Setup => {
            let tools = tools::setup()?;
            println!("{}", tools.directory().display());
            Ok(())
        }
        Command::Check => check::check(),
        Command::Advisories => deny::advisories(),
        Command::Test { filter } => test::test(filter.as_deref()),
        Command::Demo { options } => demo::demo(&options),
        Command::Fuzz { target, seconds } => fuzz::fuzz(target.as_deref(), seconds),
        Command::Corpus { directory } => fuzz::corpus(&directory),
        Command::Crash { seed, systems: true, .. } => crash::systems(seed),
        Command::Crash { pairs, seed, systems: false } => crash::crash(pairs, seed),
        Command::Rights => rights::rights(),
        Command::Bench { what: Bench::ColdStart } => bench::cold_start(),
        Command::Bench { what: Bench::Network } => bench::network(),
        Command::Bench { what: Bench::Publish { options } } => bench::publish(&options),
        Command::Bench { what: Bench::Load { options } } => bench::in_local_cloud("load-bench", &options),
        Command::Bench { what: Bench::Rollout { options } } => bench::in_local_cloud("rollout-bench", &options),
        Command::Package { functions, arm64, twice } => {
            let architecture = if arm64 { Architecture::Arm64 } else { Architecture::X86_64 };
            package::package(architecture, functions, twice)
        }
    }
}
