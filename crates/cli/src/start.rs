//! Starting an execution of a machine, as a person does it in the console, and seeing it through.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use shipway_aws::{AwsError, Store};
use shipway_domain::{message::ReleaseInput, name::Component};

use crate::{
    cli::Start,
    exit::Exit,
    follow::{self, Told, Tracked},
    installation::{Installation, Output},
    place::Place,
    problem::Problem,
    screen::Screen,
};

/// Starts the release that makes this input's artifact live. Its execution is named for why it was started.
pub(crate) async fn start(installation: &Installation, input: &ReleaseInput, why: &str) -> Result<Tracked, Problem> {
    start_machine(installation, Output::machine_of(&input.component), input, why, &input.component).await
}

/// Starts an execution of a machine.
pub(crate) async fn start_machine(
    installation: &Installation,
    machine: Output,
    input: &impl Serialize,
    why: &str,
    component: &Component,
) -> Result<Tracked, Problem> {
    let machine = installation.output(machine).await?;
    let text = serde_json::to_string(input)
        .map_err(|error| Problem::new(format!("the execution's input cannot be written: {error}")))?;
    let name = name(why, component, Timestamp::now());
    let start = installation.machines().start_execution().state_machine_arn(&machine).name(&name).input(text);
    start.send().await.map_err(|error| Problem::from(AwsError::of("states:StartExecution")(error)).at(machine))?;
    Ok(Tracked::Execution(name))
}

/// Asks the person whether to go on, unless that was said already.
pub(crate) fn confirmed(how: &Start, screen: &Screen, question: &str) -> Result<(), Problem> {
    if how.yes {
        return Ok(());
    }
    if !screen.can_ask() {
        return Err(Problem::new("this has to be confirmed, and there is no terminal to ask on").remedy("say --yes"));
    }
    if screen.confirmed(question) { Ok(()) } else { Err(Problem::new("nothing was started")) }
}

/// Starts the release that makes this input's artifact live, and follows it to its end, unless nobody waits for that.
pub(crate) async fn start_and_follow(
    how: &Start,
    installation: &Installation,
    screen: &Screen,
    store: &Store,
    input: &ReleaseInput,
    why: &str,
) -> Result<Exit, Problem> {
    let ReleaseInput { app, environment, component, .. } = input;
    let tracked = start(installation, input, why).await?;
    if how.no_wait {
        screen.line(format!("started: shipway watch {component} --app {app} --env {environment}"));
        screen.document(&json!({"started": true, "release": null}));
        return Ok(Exit::Done);
    }
    let place = Place { app: app.clone(), environment: environment.clone() };
    let release = follow::follow(screen, store, &place, component, tracked).await?;
    let url = store.environment(app, environment).await?.and_then(|record| follow::url(&record, component));
    let exit = follow::ended(screen, &release, url.as_deref());
    let told = Told::new(&release, url.as_deref(), Timestamp::now());
    screen.document(&json!({"started": true, "release": told}));
    Ok(exit)
}

/// An execution's name: readable in the console, and never one that start-release makes.
fn name(why: &str, component: &Component, now: Timestamp) -> String {
    let component = component.to_string().replace('/', "-");
    format!("{why}-{component}-{}", now.as_millisecond()).chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use shipway_domain::release::EVENT_PREFIX;

    use super::*;

    #[test]
    fn an_execution_is_named_for_its_reason_and_is_a_persons() {
        let now = Timestamp::from_millisecond(1_800_000_000_123).unwrap();
        let name = name("rollback", &"site/web".parse().unwrap(), now);
        assert_eq!(name, "rollback-site-web-1800000000123");
        assert!(!name.starts_with(EVENT_PREFIX));
        let longest = format!("service/{}", "a".repeat(20)).parse().unwrap();
        assert!(super::name("rollback", &longest, now).len() <= 80);
    }
}
