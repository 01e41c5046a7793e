//! The demos: Shipway in a local cloud, shown as it happens. Without options, the smallest example from nothing to a rollback; with
//! `--example`, one of the five systems from nothing to nothing.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]
#![allow(clippy::disallowed_methods, reason = "it waits for what it shows")]

mod example;
mod hello;
mod screen;
mod story;

use std::{io::IsTerminal as _, time::Instant};

use anyhow::{Result, bail};
use local_cloud::{Config, Containers, LocalCloud, docker::Engine};
use shipway_tests::{Shipway, tools};

use crate::screen::Screen;

/// How much shorter the machines' waits are than on AWS: what is polled every few seconds there is local here.
const WAIT_SCALE: f64 = 0.1;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // Not with `?`: anyhow would print a backtrace where the environment asks for them.
            eprintln!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// What is shown.
enum Demo {
    Hello { keep: bool },
    Example { name: String, environment: String },
}

impl Demo {
    fn asked_for() -> Result<Demo> {
        let options: Vec<String> = std::env::args().skip(1).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let example = |name: &str, environment: &str| Demo::Example {
            name: name.to_owned(),
            environment: environment.to_owned(),
        };
        match options.as_slice() {
            [] => Ok(Demo::Hello { keep: false }),
            ["--keep"] => Ok(Demo::Hello { keep: true }),
            ["--example", name] => Ok(example(name, "dev")),
            ["--example", name, "--env", environment] => Ok(example(name, environment)),
            other => bail!(
                "`{}` is not known; the demo takes --keep, or --example <folder of examples> [--env <name>]",
                other.join(" ")
            ),
        }
    }
}

async fn run() -> Result<()> {
    let asked = Demo::asked_for()?;
    tokio::select! {
        result = show(asked) => result,
        _ = tokio::signal::ctrl_c() => {
            println!("\nStopped; the local cloud is gone.");
            Ok(())
        }
    }
}

async fn show(asked: Demo) -> Result<()> {
    let screen = Screen { live: std::io::stdout().is_terminal(), started: Instant::now() };
    let containers = match Engine::find().await {
        Ok(engine) => {
            println!("Containers run in Docker ({}).", engine.host());
            Containers::Docker(engine.host().to_owned())
        }
        Err(_) => {
            println!("No Docker engine answers: the image's program runs as a process of this machine.");
            Containers::Processes
        }
    };
    let step = screen.step("starting a local cloud");
    let config = Config { containers, wait_scale: WAIT_SCALE, ..Config::new(tools()?) };
    let cloud = LocalCloud::start(config).await?;
    step.done(&format!("a local cloud at {}, with IAM checks; waits are {WAIT_SCALE} of AWS's", cloud.endpoint()));

    let step = screen.step("sam deploy");
    let shipway = Shipway::install(cloud).await?;
    step.done("Shipway is deployed with `sam deploy`");

    match asked {
        Demo::Hello { keep } => hello::show(shipway, screen, keep).await,
        Demo::Example { name, environment } => example::show(shipway, screen, &name, &environment).await,
    }
}
