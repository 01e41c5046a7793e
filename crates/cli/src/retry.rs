//! `shipway retry`: what a release was asked for is asked for once more.

use shipway_aws::AwsError;
use shipway_domain::{
    message::ReleaseInput,
    release::{Artifact, ComponentState, ReleaseRecord},
};

use crate::{
    cli::Retry,
    exit::Exit,
    follow,
    installation::Installation,
    place::Place,
    problem::Problem,
    release::{execution_arn, machine_of},
    screen::Screen,
    start::{confirmed, start_and_follow},
};

/// Retries.
pub(crate) async fn run(asked: &Retry, installation: &Installation, screen: &Screen) -> Result<Exit, Problem> {
    let place = asked.place.place()?;
    let Place { app, environment } = &place;
    let store = installation.store().await?;
    let release = store
        .release(app, environment, &asked.release)
        .await?
        .ok_or_else(|| follow::not_there(&asked.release, &place))?;
    possible(&release)?;
    let input = input_of(installation, &release).await?;
    let component = &release.component;
    screen.line(format!("again: {component} of {place} to {}", input.artifact));
    let state = store.component(app, environment, component).await?;
    if let Some(other) = instead(&state, &input.artifact) {
        screen.note(format!("{other} is wanted by now; this takes its place"));
        confirmed(&asked.start, screen, "Take its place?")?;
    }
    start_and_follow(&asked.start, installation, screen, &store, &input, "retry").await
}

/// What can be tried again.
fn possible(release: &ReleaseRecord) -> Result<(), Problem> {
    let ReleaseRecord { app, environment, component, release: id, .. } = release;
    let there = format!("--app {app} --env {environment}");
    let problem = match (&release.artifact, release.outcome) {
        (Artifact::Nothing, _) => Problem::new(format!("{id} is a teardown, which has to be confirmed by its name"))
            .remedy(format!("`shipway teardown {there}` goes on where it ended")),
        (_, None) => {
            Problem::new(format!("{id} has not ended yet")).remedy(format!("`shipway watch {id} {there}` follows it"))
        }
        (_, Some(outcome)) if outcome.is_live() => {
            Problem::new(format!("{id} ended {outcome}, so there is nothing to try again"))
                .remedy(format!("`shipway rollback {component} {id} {there}` makes it live again, if it is not"))
        }
        (_, Some(_)) => return Ok(()),
    };
    Err(problem.at(format!("{component} of {app}/{environment}")))
}

/// What the release's execution was given: the record has all of it but whether it was a repair. Step Functions keeps it for 90 days.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
async fn input_of(installation: &Installation, release: &ReleaseRecord) -> Result<ReleaseInput, Problem> {
    let machine = installation.output(machine_of(release)).await?;
    let arn = execution_arn(&machine, &release.execution).ok_or_else(|| {
        Problem::new("this is not the ARN of a machine")
            .at(&machine)
            .remedy("set SHIPWAY_*_MACHINE to the outputs of Shipway's stack")
    })?;
    let described = installation.machines().describe_execution().execution_arn(&arn).send().await.map_err(|error| {
        let error = AwsError::of("states:DescribeExecution")(error);
        if error.is("ExecutionDoesNotExist") {
            return Problem::new("Step Functions no longer knows the execution: it keeps them for 90 days")
                .at(&arn)
                .remedy("push the image, publish the files or apply the manifest again");
        }
        Problem::from(error).at(&arn)
    })?;
    let given = described.input().unwrap_or_default();
    read(given, release).map_err(|problem| problem.at(&arn))
}

/// Reads an execution's input, which must be what the release was for.
fn read(text: &str, release: &ReleaseRecord) -> Result<ReleaseInput, Problem> {
    let input: ReleaseInput = serde_json::from_str(text)
        .map_err(|error| Problem::new(format!("the execution's input cannot be read: {error}")))?;
    let same = (&input.app, &input.environment, &input.component, &input.artifact)
        == (&release.app, &release.environment, &release.component, &release.artifact);
    if same { Ok(input) } else { Err(Problem::new(format!("the execution is not that of {}", release.release))) }
}

/// What is wanted by now, where that is something else.
fn instead<'s>(state: &'s ComponentState, artifact: &Artifact) -> Option<&'s Artifact> {
    state.desired.as_ref().map(|desired| &desired.artifact).filter(|desired| *desired != artifact)
}

#[cfg(test)]
mod tests {
    use shipway_domain::release::{Order, Outcome, Wanted};

    use super::*;
    use crate::follow::tests::{at, release, zip};

    #[test]
    fn only_what_ended_and_is_not_live_is_tried_again() {
        let told = |artifact, outcome| possible(&release(5, artifact, outcome)).map_err(|problem| problem.to_string());
        for outcome in [Outcome::Failed, Outcome::RolledBack, Outcome::Rejected, Outcome::Superseded] {
            assert_eq!(told(zip("a"), Some(outcome)), Ok(()), "{outcome}");
        }
        assert!(told(zip("a"), None).unwrap_err().contains("has not ended yet"));
        for outcome in [Outcome::Succeeded, Outcome::Unchanged] {
            assert!(told(zip("a"), Some(outcome)).unwrap_err().contains("nothing to try again"));
        }
        assert!(told(Artifact::Nothing, Some(Outcome::Failed)).unwrap_err().contains("shipway teardown"));
    }

    #[test]
    fn the_input_is_the_executions_own_with_its_repair_and_of_this_release() {
        let record = release(5, zip("a"), Some(Outcome::Failed));
        let input = |artifact| ReleaseInput {
            app: record.app.clone(),
            environment: record.environment.clone(),
            component: record.component.clone(),
            artifact,
            repair: true,
        };
        let text = |artifact| serde_json::to_string(&input(artifact)).unwrap();
        assert_eq!(read(&text(zip("a")), &record).unwrap(), input(zip("a")));
        assert!(read(&text(zip("b")), &record).unwrap_err().to_string().contains("is not that of"));
        assert!(read("", &record).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn what_is_wanted_by_now_is_told_where_it_is_something_else() {
        let order = Order { at: at(0), sequencer: None };
        let desired =
            Wanted { artifact: zip("b"), order, execution: "event-1".to_owned(), since: at(0), outranked: Vec::new() };
        let state = ComponentState { desired: Some(desired), ..ComponentState::default() };
        assert_eq!(instead(&state, &zip("a")), Some(&zip("b")));
        assert_eq!(instead(&state, &zip("b")), None);
        assert_eq!(instead(&ComponentState::default(), &zip("a")), None);
    }
}
