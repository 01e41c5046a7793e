//! `shipway rollback`: an earlier artifact becomes live again.

use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde_json::json;
use shipway_aws::Store;
use shipway_domain::{
    message::ReleaseInput,
    name::{Component, ReleaseId},
    release::{Artifact, ComponentState, Live, Outcome, ReleaseRecord},
};

use crate::{
    cli::Rollback,
    exit::Exit,
    follow,
    installation::Installation,
    place::Place,
    problem::Problem,
    screen::Screen,
    start::{confirmed, start_and_follow},
};

/// What to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    artifact: Artifact,
    release: ReleaseId,
    since: Timestamp,
}

/// Rolls back.
pub(crate) async fn run(asked: &Rollback, installation: &Installation, screen: &Screen) -> Result<Exit, Problem> {
    let component = possible(&asked.component)?;
    let place = asked.place.place()?;
    let Place { app, environment } = &place;
    let store = installation.store().await?;
    let state = store.component(app, environment, component).await?;
    let target = match &asked.release {
        Some(id) => {
            let release = store.release(app, environment, id).await?.ok_or_else(|| follow::not_there(id, &place))?;
            of_release(&release, component)
        }
        None => earlier(&state, &idle(&store, &place, &state).await?),
    };
    let target = target.map_err(|problem| {
        problem
            .at(format!("{component} of {place}"))
            .remedy(format!("`shipway releases {component} --app {app} --env {environment}` lists what there was"))
    })?;
    if let Some(live) = &state.live {
        screen.line(format!("live:    {}, since {}", live.artifact, second(live.since)));
        if live.artifact == target.artifact {
            screen.line("this is live already; nothing was started");
            screen.document(&json!({"started": false, "release": null}));
            return Ok(Exit::Done);
        }
    }
    screen.line(format!("back to: {}, live since {} by {}", target.artifact, second(target.since), target.release));
    if matches!(component, Component::Service(_)) && !state.was_live(&target.artifact) {
        screen.note("it is not among the last that were live, so its migration runs, if the manifest has one");
    }
    confirmed(&asked.start, screen, &format!("Make it live in {place}?"))?;
    let input = ReleaseInput {
        app: app.clone(),
        environment: environment.clone(),
        component: component.clone(),
        artifact: target.artifact,
        repair: false,
    };
    start_and_follow(&asked.start, installation, screen, &store, &input, "rollback").await
}

fn second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// What can be rolled back.
fn possible(component: &Component) -> Result<&Component, Problem> {
    match component {
        Component::Service(_) | Component::Site(_) => Ok(component),
        Component::Platform => Err(Problem::new("a platform is not rolled back: what it made may hold data")
            .at(component)
            .remedy("upload the manifest as it was before")),
        Component::Preview(..) => Err(Problem::new("a preview is not rolled back")
            .at(component)
            .remedy("publish what it should show under its name again")),
    }
}

/// The releases in the history that changed nothing: they published what was live already under another name.
async fn idle(store: &Store, place: &Place, state: &ComponentState) -> Result<Vec<ReleaseId>, Problem> {
    let records = state.history.iter().map(|before| store.release(&place.app, &place.environment, &before.release));
    let records = try_join_all(records).await?;
    let idle = records.into_iter().flatten().filter(|record| record.outcome == Some(Outcome::Unchanged));
    Ok(idle.map(|record| record.release).collect())
}

/// What was live before what is live now. What a rollback has left is never gone back to: where the same was live more than once,
/// it counts from its first time. An `idle` release made live what was live before it.
fn earlier(state: &ComponentState, idle: &[ReleaseId]) -> Result<Target, Problem> {
    let live =
        state.live.as_ref().ok_or_else(|| Problem::new("nothing is live yet, so there is nothing to go back from"))?;
    // What is the same has the same number: that of the first release that made it live.
    let mut same: Vec<usize> = Vec::new();
    let oldest_first: Vec<&Live> = state.history.iter().rev().collect();
    for (index, before) in oldest_first.iter().enumerate() {
        let known = oldest_first[..index].iter().position(|older| older.artifact == before.artifact);
        same.push(match same.last() {
            Some(last) if idle.contains(&before.release) => *last,
            _ => known.map_or(index, |known| same[known]),
        });
    }
    let of_live = oldest_first.iter().rposition(|before| before.artifact == live.artifact).map(|index| same[index]);
    let before = match of_live {
        Some(number) => &oldest_first[..number],
        None => &oldest_first[..],
    };
    let target = before.last().ok_or_else(|| Problem::new("nothing is remembered as live before what is live now"))?;
    Ok(Target { artifact: target.artifact.clone(), release: target.release.clone(), since: target.since })
}

/// What a release made live.
fn of_release(release: &ReleaseRecord, component: &Component) -> Result<Target, Problem> {
    let id = &release.release;
    if release.component != *component {
        return Err(Problem::new(format!("{id} is a release of {}, not of {component}", release.component)));
    }
    match release.outcome {
        Some(outcome) if outcome.is_live() => Ok(Target {
            artifact: release.artifact.clone(),
            release: id.clone(),
            since: release.ended_at.unwrap_or(release.started_at),
        }),
        Some(outcome) => Err(Problem::new(format!("{id} made nothing live: it ended {outcome}"))),
        None => Err(Problem::new(format!("{id} has not ended yet"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::tests::{at, id, release, zip};

    /// The history as it is kept, the newest first; the first is live.
    fn state(history: &[&str]) -> ComponentState {
        let history: Vec<Live> = history
            .iter()
            .zip((0..10).rev())
            .map(|(version, second)| Live { artifact: zip(version), release: id(second), since: at(second) })
            .collect();
        ComponentState { live: history.first().cloned(), history, ..ComponentState::default() }
    }

    #[test]
    fn a_rollback_goes_back_and_never_forward() {
        let table: [(&[&str], Option<&str>); 7] = [
            (&["b", "a"], Some("a")),
            (&["c", "b", "a"], Some("b")),
            // Gone back from b to a once: what is before a is meant, and not b again.
            (&["a", "b", "a", "z"], Some("z")),
            (&["a", "b", "a"], None),
            (&["c", "a", "b", "a"], Some("a")),
            (&["a"], None),
            (&[], None),
        ];
        for (history, expected) in table {
            let target = earlier(&state(history), &[]);
            assert_eq!(target.as_ref().ok().map(|target| &target.artifact), expected.map(zip).as_ref(), "{history:?}");
        }
        assert!(earlier(&state(&[]), &[]).unwrap_err().to_string().contains("nothing is live yet"));
        assert!(earlier(&state(&["a"]), &[]).unwrap_err().to_string().contains("nothing is remembered"));
    }

    /// The same files published again are another object, and nothing to go back to.
    #[test]
    fn a_release_that_changed_nothing_is_what_was_before_it() {
        // The oldest has the highest place, and the lowest second.
        let idle = |seconds: &[i64]| seconds.iter().map(|second| id(*second)).collect::<Vec<_>>();
        let table: [(&[&str], &[i64], Option<&str>); 6] = [
            (&["b2", "b", "a"], &[9], Some("a")),
            (&["b3", "b2", "b", "a"], &[9, 8], Some("a")),
            (&["c", "b2", "b", "a"], &[8], Some("b2")),
            (&["b2", "c", "b2", "b", "a"], &[7], Some("a")),
            (&["b", "c", "b2", "b", "a"], &[7], Some("a")),
            (&["a2", "a"], &[9], None),
        ];
        for (history, unchanged, expected) in table {
            let target = earlier(&state(history), &idle(unchanged)).ok().map(|target| target.artifact);
            assert_eq!(target, expected.map(zip), "{history:?}");
        }
    }

    #[test]
    fn what_is_live_but_too_long_for_the_history_goes_back_to_the_newest_of_it() {
        let mut forgotten = state(&["b", "a"]);
        forgotten.live = Some(Live { artifact: zip("c"), release: id(20), since: at(20) });
        assert_eq!(earlier(&forgotten, &[]).unwrap().artifact, zip("b"));
    }

    #[test]
    fn a_named_release_must_have_made_something_live_of_this_component() {
        let web = "site/web".parse().unwrap();
        assert_eq!(of_release(&release(5, zip("b"), Some(Outcome::Succeeded)), &web).unwrap().artifact, zip("b"));
        assert!(of_release(&release(5, zip("b"), Some(Outcome::Unchanged)), &web).is_ok());
        let told = |outcome, component: &str| {
            of_release(&release(5, zip("b"), outcome), &component.parse().unwrap()).unwrap_err().to_string()
        };
        assert!(told(Some(Outcome::Rejected), "site/web").contains("it ended rejected"));
        assert!(told(None, "site/web").contains("has not ended yet"));
        assert!(told(Some(Outcome::Succeeded), "site/docs").contains("is a release of site/web"));
    }

    #[test]
    fn services_and_sites_are_rolled_back_and_nothing_else() {
        for (component, fits) in
            [("service/api", true), ("site/web", true), ("platform", false), ("preview/web/x", false)]
        {
            assert_eq!(possible(&component.parse().unwrap()).is_ok(), fits, "{component}");
        }
    }
}
