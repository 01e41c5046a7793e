//! `cargo xtask test`: everything CI runs.

use std::path::PathBuf;
use std::process::Command;

use crate::check;
use crate::functions::stage_functions;
use crate::fuzz;
use crate::rights;
use crate::run::{openly, quietly};
use crate::sites;
use crate::tools::{self, Tools};
use crate::workspace::{Workspace, cargo};

/// How long each of the fuzz targets runs: a minute together.
const FUZZ_SECONDS: u64 = 20;

pub(crate) fn test(filter: Option<&str>) -> anyhow::Result<()> {
    // A filter is for working on one thing; the whole run starts with the checks.
    if filter.is_none() {
        check::check()?;
    }
    let tools = tools::setup()?;
    let workspace = Workspace::find()?;
    stage_functions(&workspace, true)?;
    rights::forget(&workspace)?;

    let mut tests = cargo();
    if quietly(cargo().args(["nextest", "--version"])).is_ok() {
        tests.args([
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--no-tests",
            "warn",
            "-E",
            "not (binary(e2e) or binary(systems))",
        ]);
    } else {
        // `cargo test` can leave out no single binary, so the end-to-end tests and those of the systems run once more often.
        tests.args(["test", "--workspace", "--no-fail-fast"]);
    }
    openly(for_local_cloud(&mut tests, &tools, &workspace)?.args(filter))?;
    if filter.is_none() {
        fuzz::fuzz(None, FUZZ_SECONDS)?;
    }

    println!("End to end, containers as processes of this machine:");
    openly(for_local_cloud(end_to_end(&mut cargo(), filter), &tools, &workspace)?)?;
    let docker = docker_host();
    // Minutes long, so in one of the two ways: the one with real containers, where that can be.
    println!("The five systems, containers {}:", if docker.is_some() { "in Docker" } else { "as processes" });
    let mut systems = cargo();
    systems.args(["test", "--quiet", "--workspace", "--test", "systems"]).args(filter);
    systems.envs(docker.iter().map(|host| ("SHIPWAY_DOCKER_HOST", host)));
    openly(for_local_cloud(&mut systems, &tools, &workspace)?)?;
    match docker {
        Some(host) => {
            println!("End to end, containers in Docker at {host}:");
            let mut tests = cargo();
            let tests = for_local_cloud(end_to_end(&mut tests, filter), &tools, &workspace)?;
            openly(tests.env("SHIPWAY_DOCKER_HOST", host))?;
        }
        None => println!("No Docker engine answers: the end-to-end tests did not run with containers in Docker."),
    }

    let postgres = postgres();
    match &postgres {
        Some(programs) => {
            println!("Migrations of a PostgreSQL, {}:", programs.display());
            let mut tests = cargo();
            tests.args(["test", "--quiet", "--workspace", "--test", "migrations"]).args(filter);
            let tests = for_local_cloud(tests.args(["--", "--ignored"]), &tools, &workspace)?;
            openly(tests.env("SHIPWAY_POSTGRES", programs))?;
        }
        None => println!(
            "No PostgreSQL is here: the tests of migrations did not run. `apt-get install postgresql` brings one on Debian; \
             SHIPWAY_POSTGRES names the directory of any other's programs."
        ),
    }

    match chromium() {
        Some(program) => {
            println!("Sites in a browser, {}:", program.display());
            let sites = sites::build(&workspace, &tools)?;
            let mut tests = cargo();
            tests.args(["test", "--quiet", "--workspace", "--test", "browser"]).args(filter);
            let tests = for_local_cloud(tests.args(["--", "--ignored"]), &tools, &workspace)?;
            openly(tests.env("SHIPWAY_CHROMIUM", program).env("SHIPWAY_SITES", sites))?;
        }
        None => println!(
            "No Chromium is on the PATH: the browser tests did not run. `apt-get install chromium` brings one on Debian; \
             SHIPWAY_CHROMIUM names any other."
        ),
    }

    // Some of the tests use some of the rights.
    if filter.is_some() || postgres.is_none() {
        println!("What Shipway's roles used of what they are granted was not compared: not all tests ran.");
        return Ok(());
    }
    println!("What Shipway's roles used of what they are granted:");
    rights::rights()
}

/// The browser: the one that is named, or the first that is found.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("SHIPWAY_CHROMIUM").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places: Vec<_> = std::env::split_paths(&path).collect();
        let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
        names.iter().find_map(|name| places.iter().map(|place| place.join(name)).find(|program| program.is_file()))
    })
}

/// The directory of PostgreSQL's programs: the one that is named, where Debian has the newest, or one on the path.
fn postgres() -> Option<PathBuf> {
    let named = std::env::var_os("SHIPWAY_POSTGRES").filter(|path| !path.is_empty()).map(PathBuf::from);
    let debian = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        let numbered = versions.filter_map(|one| Some((one.file_name().to_str()?.parse::<u32>().ok()?, one.path())));
        numbered.max().map(|(_, path)| path.join("bin"))
    };
    let on_path = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).find(|place| is_whole(place))
    };
    named.or_else(|| debian().filter(|place| is_whole(place))).or_else(on_path)
}

/// Whether a directory has the server and its client.
fn is_whole(place: &std::path::Path) -> bool {
    ["initdb", "postgres", "psql", "createdb"].iter().all(|program| place.join(program).is_file())
}

/// The end-to-end tests, in one process: they share one cloud with one installation in it. Of the workspace and not of
/// their package, for which alone cargo would compile the AWS SDKs with other features.
fn end_to_end<'a>(cargo: &'a mut Command, filter: Option<&str>) -> &'a mut Command {
    cargo.args(["test", "--quiet", "--workspace", "--test", "e2e"]).args(filter)
}

/// The Docker engine that answers, if one does.
fn docker_host() -> Option<String> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    quietly(Command::new("docker").args(["--host", &host, "version", "--format", "{{.Server.Version}}"]))
        .is_ok()
        .then_some(host)
}

/// Tells tests and demo where the tools and the checkout are.
pub(crate) fn for_local_cloud<'a>(
    command: &'a mut Command,
    tools: &Tools,
    workspace: &Workspace,
) -> anyhow::Result<&'a mut Command> {
    Ok(command
        .current_dir(&workspace.root)
        .env("SHIPWAY_TOOLS", tools.directory())
        .env("SHIPWAY_ROOT", &workspace.root)
        .env("SHIPWAY_RIGHTS", rights::folder(workspace))
        .env("SAM_CLI_TELEMETRY", "0"))
}
