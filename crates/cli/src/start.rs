//! Starting an execution of a machine, as a person does it in the console.

use jiff::Timestamp;
use serde::Serialize;
use shipway_aws::AwsError;
use shipway_domain::{message::ReleaseInput, name::Component};

use crate::{
    follow::Tracked,
    installation::{Installation, Output},
    problem::Problem,
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
