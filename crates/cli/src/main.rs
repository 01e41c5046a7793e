//! The `shipway` command: what a person or CI does with an installed Shipway.
//!
//! It reads, uploads to the intake bucket, starts executions and answers those that ask, and nothing else: every change is Shipway's own, made inside the
//! account by rights that nobody outside has. Each command is a module with a `run`; `cli.rs` says what can be typed, the modules
//! beside it what they share: where the installation is, which place is meant, how a release is followed, what is printed.

mod apply;
mod approve;
mod archive;
mod check;
mod cli;
mod drift;
mod exit;
mod follow;
mod init;
mod installation;
mod live;
mod logs;
mod pack;
mod place;
mod plan;
mod problem;
mod publish;
mod release;
mod releases;
mod retry;
mod rollback;
mod schema;
mod screen;
mod start;
mod status;
mod table;
mod teardown;
mod upload;
mod verify;
mod watch;

use std::{io::Write as _, process::ExitCode};

use clap::FromArgMatches as _;

use crate::{
    cli::{Cli, Command, Shared, Site},
    exit::Exit,
    installation::Installation,
    problem::Problem,
    screen::Screen,
};

#[tokio::main]
async fn main() -> ExitCode {
    let typed = cli::description().get_matches();
    let Cli { command, shared } = match Cli::from_arg_matches(&typed) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let screen = Screen::new(shared.json, shared.color);
    match Box::pin(run(&command, &shared, &screen)).await {
        Ok(exit) => exit.into(),
        Err(problem) => {
            screen.problem(&problem);
            problem.exit().into()
        }
    }
}

async fn run(command: &Command, shared: &Shared, screen: &Screen) -> Result<Exit, Problem> {
    let installation = || Installation::find(shared);
    match command {
        Command::Init(asked) => init::run(asked, screen),
        Command::Check(asked) => check::run(asked, screen),
        Command::Plan(asked) => plan::run(asked, shared, screen).await,
        Command::Apply(asked) => apply::run(asked, &installation().await?, screen).await,
        Command::Status(asked) => status::run(asked, &installation().await?, screen).await,
        Command::Drift(asked) => drift::run(asked, &installation().await?, screen).await,
        Command::Teardown(asked) => Box::pin(teardown::run(asked, &installation().await?, screen)).await,
        Command::Publish(asked) => Box::pin(publish::run(asked, &installation().await?, screen)).await,
        Command::Releases(asked) => releases::run(asked, &installation().await?, screen).await,
        Command::Release(asked) => release::run(asked, &installation().await?, screen).await,
        Command::Watch(asked) => Box::pin(watch::run(asked, &installation().await?, screen)).await,
        Command::Rollback(asked) => rollback::run(asked, &installation().await?, screen).await,
        Command::Approve(asked) => approve::run(asked, &installation().await?, screen).await,
        Command::Retry(asked) => retry::run(asked, &installation().await?, screen).await,
        Command::Logs(asked) => logs::run(asked, &installation().await?, screen).await,
        Command::Site(Site::Verify(asked)) => Box::pin(verify::run(asked, &installation().await?, screen)).await,
        Command::Schema(_) => Ok(schema::run()),
        Command::Completions(asked) => {
            let mut script = Vec::new();
            clap_complete::generate(asked.shell, &mut cli::description(), "shipway", &mut script);
            // A reader that went away, like `head`, has what it wanted.
            let _ = std::io::stdout().lock().write_all(&script);
            Ok(Exit::Done)
        }
    }
}
