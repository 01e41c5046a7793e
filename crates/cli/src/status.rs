//! `shipway status`: what stands, what is live, what is under way.

use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde_json::json;
use shipway_aws::store::Teardown;
use shipway_domain::{
    name::Component,
    release::{ComponentState, ReleaseRecord},
};

use crate::{
    cli::Status,
    exit::Exit,
    follow,
    installation::Installation,
    place::Place,
    problem::Problem,
    screen::{self, Screen},
    table::{Cell, laid_out},
};

/// Shows it.
pub(crate) async fn run(asked: &Status, installation: &Installation, screen: &Screen) -> Result<Exit, Problem> {
    let place = asked.place.place()?;
    let Place { app, environment } = &place;
    let store = installation.store().await?;
    let Some(record) = store.environment(app, environment).await? else {
        return Err(Problem::new("nothing is known of this environment")
            .at(&place)
            .remedy(format!("`shipway apply --env {environment}` makes it")));
    };
    if let Some(teardown) = &record.teardown {
        gone(teardown, &place, screen);
    }
    let is_gone = record.teardown.as_ref().is_some_and(|teardown| teardown.torn_down_at.is_some());
    let spec = record.applied.as_ref().or(record.planned.as_ref()).map(|manifest| &manifest.spec);
    let mut components = vec![Component::Platform];
    if let Some(spec) = spec {
        components.extend(spec.services.keys().cloned().map(Component::Service));
        components.extend(spec.sites.keys().cloned().map(Component::Site));
    }
    let looks = components.into_iter().map(|component| async {
        let state = store.component(app, environment, &component).await?;
        let newest = store.newest_releases(app, environment, Some(&component), 1).await?.pop();
        Ok::<_, Problem>((component, state, newest))
    });
    let components = try_join_all(looks).await?;

    if record.teardown.is_none() {
        screen.line(format!("{place}"));
    }
    if let Some(network) = &record.network {
        screen.line(format!("network: {} ({})", network.vpc, network.cidr));
    }
    let rows: Vec<_> = components
        .iter()
        .map(|(component, state, newest)| {
            let url = follow::url(&record, component);
            let live = state.live.as_ref().map_or_else(|| "nothing yet".to_owned(), |live| live.artifact.to_string());
            let (word, shown) = doing(state, newest.as_ref());
            [
                Cell::plain(component),
                Cell { text: word, shown },
                Cell::plain(live),
                Cell::plain(url.unwrap_or_default()),
            ]
        })
        .collect();
    let table = laid_out(["COMPONENT", "LAST RELEASE", "LIVE", "URL"], &rows, screen.width());
    for line in table.into_iter().filter(|_| !is_gone) {
        screen.line(line);
    }
    for release in components.iter().filter_map(|(.., newest)| newest.as_ref()) {
        if let Some(asked) = release.waits_for() {
            let until = asked.until.strftime("%Y-%m-%d %H:%M UTC");
            screen.line(format!("waits until {until}: `{}`", follow::approve_command(release)));
        }
    }
    let document: Vec<_> = components
        .iter()
        .map(|(component, state, newest)| {
            json!({
                "component": component,
                "live": state.live,
                "under_way": newest.as_ref().filter(|release| release.outcome.is_none()).map(|release| &release.release),
                "last": newest.as_ref().map(|release| json!({"release": release.release, "outcome": release.outcome})),
                "approval": newest.as_ref().and_then(ReleaseRecord::waits_for),
                "url": follow::url(&record, component),
            })
        })
        .collect();
    screen.document(&json!({
        "app": app,
        "environment": environment,
        "teardown": record.teardown,
        "network": record.network,
        "components": document,
    }));
    Ok(Exit::Done)
}

/// Says that an environment is gone or goes.
fn gone(teardown: &Teardown, place: &Place, screen: &Screen) {
    let time = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%S UTC");
    let Some(at) = teardown.torn_down_at else {
        screen.line(format!("{place} is being torn down, since {} by {}", time(teardown.since), teardown.release));
        return;
    };
    screen.line(format!("{place} was torn down at {}", time(at)));
    for kept in &teardown.kept {
        screen.line(format!("  kept: {kept}"));
    }
    screen.line(format!("`shipway apply --env {}` makes it anew", place.environment));
}

/// What became of the newest release, as a word and in its colour.
fn doing(state: &ComponentState, newest: Option<&ReleaseRecord>) -> (String, String) {
    match newest {
        Some(release) => (screen::word(release).to_owned(), screen::told(release)),
        None if state.desired.is_some() => ("begins".to_owned(), "begins".to_owned()),
        None => ("-".to_owned(), "-".to_owned()),
    }
}
