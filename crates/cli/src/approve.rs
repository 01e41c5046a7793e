//! `shipway approve`: a person answers a release that waits for it.

use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use jiff::Timestamp;
use serde_json::json;
use shipway_aws::AwsError;
use shipway_domain::{
    approval::{self, Asked},
    failure::Failure,
    release::{ComponentState, ReleaseRecord},
};

use crate::{
    cli::{Approve, Watched},
    exit::Exit,
    follow::{self, Told, Tracked},
    installation::Installation,
    place::Place,
    problem::Problem,
    screen::Screen,
};

/// How many of the newest releases of a component are looked through for the one that waits.
const LOOKED_THROUGH: usize = 10;

/// With these Step Functions answers a token that nothing waits for any more.
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskSuccess.html>
const OVER: [&str; 3] = ["InvalidToken", "TaskDoesNotExist", "TaskTimedOut"];

/// Answers.
pub(crate) async fn run(asked: &Approve, installation: &Installation, screen: &Screen) -> Result<Exit, Problem> {
    let place = asked.place.place()?;
    let Place { app, environment } = &place;
    let store = installation.store().await?;
    let release = match &asked.what {
        Watched::Release(id) => {
            store.release(app, environment, id).await?.ok_or_else(|| follow::not_there(id, &place))?
        }
        Watched::Newest(component) => {
            let newest = store.newest_releases(app, environment, Some(component), LOOKED_THROUGH).await?;
            newest.into_iter().find(|release| release.waits_for().is_some()).ok_or_else(|| {
                Problem::new(format!("no release of {component} waits for approval"))
                    .at(&place)
                    .remedy(format!("`shipway releases {component} --app {app} --env {environment}` lists them"))
            })?
        }
    };
    let (id, component) = (&release.release, &release.component);
    let state = store.component(app, environment, component).await?;
    let waits = possible(&release, &state)?;
    screen.line(format!("release {id} of {component} in {place}: {}", release.artifact));
    if let Some(live) = &state.live {
        screen.line(format!("live:   {}", live.artifact));
    }
    let by = installation.caller().await;
    if let Err(problem) = &by {
        screen.note(format!("the release will not say who answered: {}", problem.what()));
    }
    let by = by.ok();
    if asked.refuse {
        let cause = approval::refusal(by.as_deref().unwrap_or("somebody"), asked.reason.as_deref());
        let call = installation.machines().send_task_failure().task_token(&waits.token);
        let call = call.error(Failure::RejectedApproval.name()).cause(cause);
        call.send().await.map_err(|error| failed("states:SendTaskFailure", error, &release))?;
        screen.line("refused; it ends as rejected, and the service stays as it is");
        screen.document(&json!({"approved": false, "release": id}));
        return Ok(Exit::Done);
    }
    let call = installation.machines().send_task_success().task_token(&waits.token);
    let call = call.output(json!({"by": by}).to_string());
    call.send().await.map_err(|error| failed("states:SendTaskSuccess", error, &release))?;
    screen.line("approved; it goes on");
    if asked.no_wait {
        screen.document(&json!({"approved": true, "release": id}));
        return Ok(Exit::Done);
    }
    let ended = follow::follow(screen, &store, &place, component, Tracked::Release(id.clone())).await?;
    let url = store.environment(app, environment).await?.and_then(|record| follow::url(&record, component));
    let exit = follow::ended(screen, &ended, url.as_deref());
    screen.document(&json!({"approved": true, "release": Told::new(&ended, url.as_deref(), Timestamp::now())}));
    Ok(exit)
}

/// What a release waits for, if it still waits and would go on.
fn possible<'r>(release: &'r ReleaseRecord, state: &ComponentState) -> Result<&'r Asked, Problem> {
    let ReleaseRecord { app, environment, component, release: id, .. } = release;
    let there = format!("--app {app} --env {environment}");
    let problem = match (release.outcome, &release.approval, &state.claim) {
        (Some(outcome), ..) => {
            let reason = release.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            Problem::new(format!("{id} has ended already, {outcome}{reason}"))
                .remedy(format!("`shipway retry {id} {there}` tries it again, and asks for approval again"))
        }
        (None, None, _) => Problem::new(format!("{id} does not wait for approval"))
            .remedy(format!("`shipway watch {id} {there}` follows it")),
        (None, Some(Asked { approved_by: Some(by), .. }), _) => {
            Problem::new(format!("{id} was approved already, by {by}"))
                .remedy(format!("`shipway watch {id} {there}` follows it"))
        }
        (None, Some(asked), Some(claim)) if claim.release == *id => return Ok(asked),
        (None, Some(_), Some(claim)) => Problem::new(format!("{id} was superseded: {} took over", claim.release))
            .remedy(format!("`shipway approve {component} {there}` answers the newest that waits")),
        (None, Some(_), None) => Problem::new(format!("{id} was superseded: its environment is being torn down")),
    };
    Err(problem.at(format!("{component} of {app}/{environment}")))
}

fn failed<E>(call: &'static str, error: SdkError<E>, release: &ReleaseRecord) -> Problem
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let error = AwsError::of(call)(error);
    if !OVER.iter().any(|code| error.is(code)) {
        return error.into();
    }
    let ReleaseRecord { app, environment, release: id, .. } = release;
    Problem::new(format!("{id} no longer waits: it was answered already, its time is over, or a newer one took over"))
        .remedy(format!("`shipway release {id} --app {app} --env {environment}` tells which"))
}

#[cfg(test)]
mod tests {
    use shipway_domain::release::{Claim, Outcome};

    use super::*;
    use crate::follow::tests::{at, id, release, zip};

    fn waiting() -> (ReleaseRecord, ComponentState) {
        let mut record = release(5, zip("a"), None);
        record.approval = Some(Asked::new("token".to_owned(), 60, at(5)));
        let claim = Claim { release: id(5), fence: 1, until: at(0), committed: false };
        (record, ComponentState { claim: Some(claim), ..ComponentState::default() })
    }

    #[test]
    fn only_what_still_waits_is_answered_even_long_after_its_lease() {
        let (record, state) = waiting();
        assert_eq!(possible(&record, &state).unwrap().token, "token");
        let told = |record: &ReleaseRecord, state: &ComponentState| possible(record, state).unwrap_err().to_string();
        let plain = release(5, zip("a"), None);
        assert!(told(&plain, &state).contains("does not wait for approval"));
        let ended = ReleaseRecord { outcome: Some(Outcome::Superseded), ..record.clone() };
        assert!(told(&ended, &state).contains("has ended already, superseded"));
        let mut approved = record.clone();
        approved.approval.as_mut().unwrap().approved_by = Some("Ann".to_owned());
        assert!(told(&approved, &state).contains("was approved already, by Ann"));
        let mut taken = state.clone();
        taken.claim.as_mut().unwrap().release = id(9);
        let problem = told(&record, &taken);
        assert!(problem.contains(&format!("was superseded: {} took over", id(9))), "{problem}");
        assert!(told(&record, &ComponentState::default()).contains("is being torn down"));
    }
}
