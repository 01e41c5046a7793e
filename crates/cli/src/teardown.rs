//! `shipway teardown`: an environment goes, and what its manifest says is kept stays.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::json;
use shipway_aws::store::Route;
use shipway_domain::{
    manifest::{OnDelete, Spec},
    message::TeardownInput,
    name::{Component, RepositoryName},
    platform::repositories,
};

use crate::{
    cli::Teardown,
    exit::Exit,
    follow::{self, Told},
    installation::{Installation, Output},
    place::Place,
    problem::Problem,
    screen::Screen,
    start::start_machine,
};

/// Tears down.
pub(crate) async fn run(asked: &Teardown, installation: &Installation, screen: &Screen) -> Result<Exit, Problem> {
    let place = asked.place.place()?;
    let Place { app, environment } = &place;
    let store = installation.store().await?;
    let Some(record) = store.environment(app, environment).await? else {
        return Err(Problem::new("nothing is known of this environment, so there is nothing to tear down").at(&place));
    };
    let spec = record.applied.as_ref().or(record.planned.as_ref()).map(|manifest| &manifest.spec);
    screen.line(format!("{place} goes: its services, its sites with their files, its network, and every stack of it."));
    for line in spec.map(data).unwrap_or_default() {
        screen.line(format!("  {line}"));
    }
    for repository in spec.map(repositories).unwrap_or_default() {
        // Whoever may not read what others have is told the rule.
        let routes = store.routes(repository).await.ok();
        screen.line(format!("  {}", images(repository, routes.as_deref(), &place)));
    }
    let meant = place.to_string();
    let confirm = match &asked.confirm {
        Some(confirm) => confirm.clone(),
        None if screen.can_ask() => screen.answer(&format!("Type {meant} to tear it down:")),
        None => {
            return Err(Problem::new("this has to be confirmed, and there is no terminal to ask on")
                .remedy(format!("say --confirm {meant}")));
        }
    };
    if confirm != meant {
        return Err(Problem::new(format!("`{confirm}` is not {meant}; nothing was started")));
    }
    let input = TeardownInput { app: app.clone(), environment: environment.clone(), confirm };
    let tracked =
        start_machine(installation, Output::TeardownMachine, &input, "teardown", &Component::Platform).await?;
    if asked.no_wait {
        screen.line(format!("started: shipway watch platform --app {app} --env {environment}"));
        screen.document(&json!({"started": true, "release": null}));
        return Ok(Exit::Done);
    }
    let release = follow::follow(screen, &store, &place, &Component::Platform, tracked).await?;
    let exit = follow::ended(screen, &release, None);
    screen.document(&json!({"started": true, "release": Told::new(&release, None, Timestamp::now())}));
    Ok(exit)
}

/// What becomes of the images in a repository, by the services that pushes to it are for.
fn images(repository: &RepositoryName, routes: Option<&[Route]>, place: &Place) -> String {
    let Some(routes) = routes else {
        return format!(
            "the repository {repository} goes with every image in it, unless another environment of {} uses it",
            place.app
        );
    };
    let others = routes.iter().filter(|route| (&route.app, &route.environment) != (&place.app, &place.environment));
    let others: BTreeSet<_> = others.map(|route| format!("{}/{}", route.app, route.environment)).collect();
    if others.is_empty() {
        format!("the repository {repository} goes with every image in it, for good")
    } else {
        let others: Vec<_> = others.into_iter().collect();
        format!("the repository {repository} stays with its images: {} uses it", others.join(" and "))
    }
}

/// What becomes of each thing that holds data.
fn data(spec: &Spec) -> Vec<String> {
    let fate = |on_delete: OnDelete| match on_delete {
        OnDelete::Retain => "stays, and what it stands in",
        OnDelete::Snapshot => "goes; a last snapshot stays",
        OnDelete::Delete => "goes for good",
    };
    let databases = spec.databases.iter().map(|(name, one)| format!("the database {name} {}", fate(one.on_delete)));
    let caches = spec.caches.iter().map(|(name, one)| format!("the cache {name} {}", fate(one.on_delete)));
    let buckets = spec.buckets.iter().map(|(name, one)| format!("the bucket {name} {}", fate(one.on_delete)));
    let secrets = spec.secrets.keys().map(|name| format!("the secret {name} goes for good"));
    let stacks = spec.stacks.iter().filter(|(_, stack)| stack.retain);
    let stacks = stacks.map(|(name, _)| format!("the stack {name} of your own stays, and what it stands in"));
    databases.chain(caches).chain(buckets).chain(secrets).chain(stacks).collect()
}

#[cfg(test)]
mod tests {
    use shipway_domain::manifest;

    use super::*;

    #[test]
    fn what_becomes_of_data_is_said_before_it_is_asked() {
        let text = "version: 1\napp: shop\nservices: {api: {image: {repository: shop-api}}}\n\
                    databases: {main: {engine: postgres, version: \"16\", class: db.t4g.micro, on_delete: retain}}\n\
                    buckets: {items: {on_delete: delete}}\nenvironments: {prod: {}}\n";
        let (_, spec) = manifest::read_all(text).unwrap().remove(0);
        assert_eq!(data(&spec), ["the database main stays, and what it stands in", "the bucket items goes for good"]);
    }

    #[test]
    fn what_becomes_of_images_is_said_before_it_is_asked() {
        let (repository, place) = ("shop-api".parse().unwrap(), |environment: &str| Place {
            app: "shop".parse().unwrap(),
            environment: environment.parse().unwrap(),
        });
        let route = |environment: &str| Route {
            app: "shop".parse().unwrap(),
            environment: environment.parse().unwrap(),
            service: "api".parse().unwrap(),
            tags: Vec::new(),
        };
        let told = |routes: Option<&[Route]>| images(&repository, routes, &place("dev"));
        assert_eq!(told(Some(&[route("dev")])), "the repository shop-api goes with every image in it, for good");
        let both = [route("dev"), route("prod"), route("prod")];
        assert_eq!(told(Some(&both)), "the repository shop-api stays with its images: shop/prod uses it");
        assert!(told(None).ends_with("goes with every image in it, unless another environment of shop uses it"));
    }
}
