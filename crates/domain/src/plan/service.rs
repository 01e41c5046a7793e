//! What applying does to an environment's services: by what the manifest said and says now of each.
//!
//! When the platform stands, what is live of a service is rolled out again by the new settings; a migration runs only for an image that
//! was never live. A service that the manifest no longer names goes on as it is.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{difference::Doing, text::shortened};
use crate::{
    manifest::{Networking, Service, Spec},
    name::ComponentName,
};

/// What is done about a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceChange {
    /// Its name.
    pub name: String,
    /// What is done.
    pub doing: Doing,
    /// How it begins, or what changes.
    pub what: Vec<String>,
    /// Whether its tasks are replaced by new ones.
    pub new_revision: bool,
    /// The migration that runs before it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<String>,
}

/// What is done about each service of the manifest, from what applied before.
pub(super) fn changes(spec: &Spec, applied: Option<&Spec>) -> Vec<ServiceChange> {
    let before = |name: &ComponentName| applied.and_then(|applied| applied.services.get(name));
    let changes = spec.services.iter().map(|(name, service)| match before(name) {
        None => begun(name, service),
        Some(old) => changed(name, old, service, applied.map_or("", on), on(spec)),
    });
    changes.collect()
}

/// What tasks run on, as their definitions say it.
fn on(spec: &Spec) -> &'static str {
    match spec.cluster.ec2.as_ref().map(|ec2| ec2.networking) {
        None => "fargate",
        Some(Networking::Bridge) => "ec2 with bridge networking",
        Some(Networking::Awsvpc) => "ec2 with awsvpc networking",
    }
}

/// The services and sites that the manifest no longer names.
pub(super) fn left(spec: &Spec, applied: Option<&Spec>) -> Vec<String> {
    let Some(applied) = applied else { return Vec::new() };
    let services = applied.services.keys().filter(|name| !spec.services.contains_key(*name));
    let sites = applied.sites.keys().filter(|name| !spec.sites.contains_key(*name));
    services.map(|name| format!("service/{name}")).chain(sites.map(|name| format!("site/{name}"))).collect()
}

fn begun(name: &ComponentName, service: &Service) -> ServiceChange {
    let image = match (&service.image.repository, &service.image.public) {
        (Some(repository), _) => {
            format!("rolled out with the newest image of {repository} that matches, or its first push")
        }
        (None, Some(public)) => format!("rolled out with {}", public.as_str()),
        (None, None) => "rolled out".to_owned(),
    };
    ServiceChange {
        name: name.to_string(),
        doing: Doing::Create,
        what: vec![image, tasks(service)],
        new_revision: true,
        migration: migration(service),
    }
}

fn tasks(service: &Service) -> String {
    let count = match &service.scale {
        Some(scale) => format!("{} to {} tasks", scale.min, scale.max),
        None if service.tasks() == 1 => "1 task".to_owned(),
        None => format!("{} tasks", service.tasks()),
    };
    format!("{count} of {} CPU units and {} MiB", service.cpu, service.memory)
}

fn migration(service: &Service) -> Option<String> {
    service.migrate.as_ref().map(|migrate| migrate.command.join(" "))
}

/// What of a service is no part of its task definition.
const OUTSIDE: [&str; 7] = ["count", "discovery", "http", "image", "migrate", "scale", "uses"];

fn changed(name: &ComponentName, old: &Service, new: &Service, on: &str, on_now: &str) -> ServiceChange {
    let mut found = BTreeMap::new();
    if on != on_now {
        found.insert("cluster".to_owned(), format!("{on} → {on_now}"));
    }
    compare(
        "",
        &serde_json::to_value(old).unwrap_or_default(),
        &serde_json::to_value(new).unwrap_or_default(),
        &mut found,
    );
    let is_of_task = |path: &String| !OUTSIDE.contains(&path.split('.').next().unwrap_or_default());
    let other_image = old.image.public != new.image.public || old.image.repository != new.image.repository;
    let new_revision = other_image || found.keys().any(is_of_task);
    ServiceChange {
        name: name.to_string(),
        doing: if found.is_empty() { Doing::Unchanged } else { Doing::Change },
        what: found.into_iter().map(|(path, change)| format!("{path}: {change}")).collect(),
        new_revision,
        migration: migration(new).filter(|_| other_image),
    }
}

/// The differences by path. A variable's values are not shown: they may be what a person should have made a secret.
fn compare(path: &str, old: &Value, new: &Value, found: &mut BTreeMap<String, String>) {
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        for key in old.keys().chain(new.keys()) {
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare(&below, old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null), found);
        }
        return;
    }
    if old == new {
        return;
    }
    let hidden = path.starts_with("env.") || path.contains(".env.");
    let shown = |value: &Value| match value {
        Value::Null => "nothing".to_owned(),
        _ if hidden => "another value".to_owned(),
        Value::String(text) => shortened(text),
        other => shortened(&other.to_string()),
    };
    let change = match (old, new) {
        (Value::Null, _) if hidden => "added".to_owned(),
        (_, Value::Null) if hidden => "removed".to_owned(),
        _ if hidden => "another value".to_owned(),
        (old, new) => format!("{} → {}", shown(old), shown(new)),
    };
    found.insert(path.to_owned(), change);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    const MANIFEST: &str = "
version: 1
app: hello
services:
  api: {image: {repository: hello-api, tags: [a]}, port: 80, cpu: 256, memory: 512, http: {}, env: {A: '1', B: '2'}, migrate: {command: [rails, migrate]}}
  worker: {image: {public: 'docker.io/library/worker:1'}, scale: {min: 1, max: 2, cpu: 50}}
environments: {dev: {}}
";

    fn spec(change: impl Fn(&str) -> String) -> Spec {
        manifest::read(&change(MANIFEST), &"hello".parse().unwrap(), &"dev".parse().unwrap()).unwrap()
    }

    fn told(change: impl Fn(&str) -> String) -> Vec<String> {
        let (old, new) = (spec(str::to_owned), spec(change));
        let changes = changes(&new, Some(&old)).into_iter().filter(|change| change.doing != Doing::Unchanged);
        let told = changes.flat_map(|change| {
            let revision = if change.new_revision { " (new revision)" } else { "" };
            let migration = change.migration.map(|command| format!(" after {command}")).unwrap_or_default();
            change
                .what
                .into_iter()
                .map(move |what| format!("{} {what}{revision}{migration}", change.name))
                .collect::<Vec<_>>()
        });
        told.collect()
    }

    #[test]
    fn what_changes_says_whether_tasks_are_replaced() {
        let replaced = |from: &'static str, to: &'static str| told(move |text| text.replace(from, to));
        assert_eq!(told(str::to_owned), Vec::<String>::new());
        assert_eq!(replaced("memory: 512", "memory: 1024"), ["api memory: 512 → 1024 (new revision)"]);
        assert_eq!(replaced("max: 2", "max: 4"), ["worker scale.max: 2 → 4"]);
        assert_eq!(replaced("http: {}", "http: {health: /up}"), ["api http.health: / → /up"]);
        assert_eq!(replaced("tags: [a]", "tags: [b]"), ["api image.tags: [\"a\"] → [\"b\"]"]);
        assert_eq!(replaced("A: '1'", "A: '3'"), ["api env.A: another value (new revision)"]);
        assert_eq!(replaced("A: '1', ", ""), ["api env.A: removed (new revision)"]);
        assert_eq!(
            replaced("worker:1", "worker:2"),
            ["worker image.public: docker.io/library/worker:1 → docker.io/library/worker:2 (new revision)"]
        );
        assert_eq!(
            replaced("repository: hello-api", "repository: other"),
            ["api image.repository: hello-api → other (new revision) after rails migrate"]
        );
    }

    #[test]
    fn a_new_service_begins_with_an_image_and_what_is_gone_is_left() {
        let all = spec(str::to_owned);
        let begun: Vec<_> = changes(&all, None).into_iter().map(|change| (change.what, change.migration)).collect();
        assert_eq!(
            begun[0].0,
            [
                "rolled out with the newest image of hello-api that matches, or its first push",
                "1 task of 256 CPU units and 512 MiB"
            ]
        );
        assert_eq!(begun[0].1.as_deref(), Some("rails migrate"));
        assert_eq!(
            begun[1].0,
            ["rolled out with docker.io/library/worker:1", "1 to 2 tasks of 256 CPU units and 512 MiB"]
        );
        let without = spec(|text| text.lines().filter(|line| !line.contains("worker")).collect::<Vec<_>>().join("\n"));
        assert_eq!(left(&without, Some(&all)), ["service/worker"]);
        assert!(changes(&without, Some(&all)).iter().all(|change| change.doing == Doing::Unchanged));
    }
}
