//! A local cloud to try things in: prints the environment that `aws` and `sam` need, runs until Ctrl-C.
//!
//! `SHIPWAY_TOOLS=… cargo run --package local-cloud --example serve`; with `DOCKER_HOST` set, containers run there.

#![allow(clippy::print_stdout, reason = "a tool for people")]

use anyhow::Context as _;
use local_cloud::{Config, Containers, LocalCloud, docker};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let venv = std::env::var_os("SHIPWAY_TOOLS").context("SHIPWAY_TOOLS names no virtual environment")?;
    let mut config = Config::new(venv);
    if std::env::var_os("DOCKER_HOST").is_some() {
        config.containers = Containers::Docker(docker::Engine::find().await?.host().to_owned());
    }
    let cloud = LocalCloud::start(config).await?;
    for (name, value) in cloud.environment() {
        println!("export {name}={value}");
    }
    println!("# registry {}, log {}", cloud.registry(), cloud.log().display());
    tokio::signal::ctrl_c().await?;
    cloud.stop().await;
    Ok(())
}
