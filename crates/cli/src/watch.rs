//! `shipway watch`: one release, live.

use jiff::Timestamp;
use shipway_domain::{
    name::Component,
    release::{ComponentState, ReleaseRecord},
};

use crate::{
    cli::{Watch, Watched},
    exit::Exit,
    follow::{self, Told, Tracked},
    installation::Installation,
    live::Live,
    place::Place,
    problem::Problem,
    screen::Screen,
};

/// Follows a release to its end.
pub(crate) async fn run(asked: &Watch, installation: &Installation, screen: &Screen) -> Result<Exit, Problem> {
    let place = asked.place.place()?;
    let Place { app, environment } = &place;
    let store = installation.store().await?;
    let (component, tracked) = match &asked.what {
        Watched::Release(id) => {
            let release = store.release(app, environment, id).await?.ok_or_else(|| follow::not_there(id, &place))?;
            (release.component, Tracked::Release(id.clone()))
        }
        Watched::Newest(component) => {
            let state = store.component(app, environment, component).await?;
            let newest = store.newest_releases(app, environment, Some(component), 1).await?.pop();
            let tracked = newest_of(&state, newest.as_ref()).ok_or_else(|| {
                Problem::new(format!("{component} has had no release yet"))
                    .at(&place)
                    .remedy("push an image or publish a zip; `shipway releases` lists all that there were")
            })?;
            (component.clone(), tracked)
        }
    };
    if let Tracked::Release(id) = &tracked
        && let Some(release) = store.release(app, environment, id).await?
    {
        screen.line(format!("release {} of {}: {}", release.release, release.component, release.artifact));
    }
    let record = store.environment(app, environment).await?;
    let live = match &component {
        Component::Service(name) => record
            .and_then(|record| record.platform.cluster)
            .map(|cluster| Live::of(installation, &place, name, cluster)),
        Component::Platform | Component::Site(_) | Component::Preview(..) => None,
    };
    let release = follow::follow_live(screen, &store, &place, &component, tracked, live).await?;
    let url = store.environment(app, environment).await?.and_then(|record| follow::url(&record, &component));
    let exit = follow::ended(screen, &release, url.as_deref());
    screen.document(&Told::new(&release, url.as_deref(), Timestamp::now()));
    Ok(exit)
}

/// The newest release of a component: the one that is wanted, where it has no record yet.
fn newest_of(state: &ComponentState, newest: Option<&ReleaseRecord>) -> Option<Tracked> {
    match (&state.desired, newest) {
        (Some(desired), Some(newest)) if desired.execution != newest.execution && desired.since > newest.started_at => {
            Some(Tracked::Execution(desired.execution.clone()))
        }
        (_, Some(newest)) => Some(Tracked::Release(newest.release.clone())),
        (Some(desired), None) => Some(Tracked::Execution(desired.execution.clone())),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use shipway_domain::release::{Order, Wanted};

    use super::*;
    use crate::follow::tests::{at, id, release, zip};

    #[test]
    fn the_newest_release_is_the_one_that_is_wanted_or_the_last_that_began() {
        let wanting = |execution: &str, since| {
            let order = Order { at: at(since), sequencer: None };
            let execution = execution.to_owned();
            let desired = Wanted { artifact: zip("b"), order, execution, since: at(since), outranked: Vec::new() };
            ComponentState { desired: Some(desired), ..ComponentState::default() }
        };
        let begun = release(5, zip("a"), None);
        let release = |second| Some(Tracked::Release(id(second)));
        let execution = |name: &str| Some(Tracked::Execution(name.to_owned()));
        let table = [
            (ComponentState::default(), None, None),
            (ComponentState::default(), Some(&begun), release(5)),
            (wanting("event-web-5", 4), Some(&begun), release(5)),
            (wanting("event-web-9", 9), Some(&begun), execution("event-web-9")),
            // A person's execution that was refused is newer than what is wanted.
            (wanting("event-web-1", 1), Some(&begun), release(5)),
            (wanting("event-web-9", 9), None, execution("event-web-9")),
        ];
        for (state, newest, expected) in table {
            assert_eq!(newest_of(&state, newest), expected, "{state:?}");
        }
    }
}
