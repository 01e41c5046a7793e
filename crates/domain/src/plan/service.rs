//! What applying does to an environment's services: by what the manifest said and says now of each.
//!
//! When the platform stands, what is live of a service is rolled out again by the new settings; a migration runs only for an image that
//! was never live. A service that the manifest no longer names goes on as it is.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::{difference::Doing, text::shortened};
use crate::{
    manifest::{Networking, Service, Spec},
    name::ComponentName,
    network::NetworkOutputs,
    task::{migration::Part, snapshots},
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
    /// The migration that runs before it changes: its snapshots and its commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<String>,
}

/// The networks of tasks: the one that is written down, and the one that would be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved<'a> {
    pub(super) from: Option<&'a NetworkOutputs>,
    pub(super) to: Option<&'a NetworkOutputs>,
}

/// What is done about each service of the manifest, from what applied before.
pub(super) fn changes(spec: &Spec, applied: Option<&Spec>, moved: Moved<'_>) -> Vec<ServiceChange> {
    let before = |name: &ComponentName| Some((applied?, applied?.services.get(name)?));
    let changes = spec.services.iter().map(|(name, service)| match before(name) {
        None => begun(name, service),
        Some((applied, old)) => changed(name, old, service, around(applied, spec, moved)),
    });
    changes.collect()
}

/// What changes around every service, so that new tasks take the place of the old: what they run on, and where.
fn around(applied: &Spec, spec: &Spec, moved: Moved<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (before, now) = (on(applied), on(spec));
    if before != now {
        found.insert("cluster".to_owned(), format!("{before} → {now}"));
    }
    // Tasks that share their instance's interfaces move with the instances.
    let is_bridge = |spec: &Spec| spec.cluster.ec2.as_ref().is_some_and(|ec2| ec2.networking == Networking::Bridge);
    if let (Some(from), Some(to), false) = (moved.from, moved.to, is_bridge(spec) || is_bridge(applied)) {
        let (from, to) = (from.task_subnets(), to.task_subnets());
        if from.iter().collect::<BTreeSet<_>>() != to.iter().collect::<BTreeSet<_>>() {
            found.insert("network".to_owned(), format!("in {} → in {}", from.join(", "), to.join(", ")));
        }
    }
    found
}

/// What tasks run on.
fn on(spec: &Spec) -> String {
    match (spec.cluster.ec2.as_ref().map(|ec2| ec2.networking), spec.cluster.spot_percent()) {
        (None, 0) => "fargate".to_owned(),
        (None, spot) => format!("fargate with {spot} % on spot"),
        // Which of the instances are spot ones, their group says.
        (Some(Networking::Bridge), _) => "ec2 with bridge networking".to_owned(),
        (Some(Networking::Awsvpc), _) => "ec2 with awsvpc networking".to_owned(),
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
    let migrate = service.migrate.as_ref()?;
    let servers: Vec<String> = snapshots::servers(service).iter().map(ToString::to_string).collect();
    let snapshot = migrate.snapshot.then(|| format!("a snapshot of {}", servers.join(" and of ")));
    let commands = Part::ALL.map(|part| part.command(migrate).join(" "));
    let commands = commands.into_iter().filter(|command| !command.is_empty());
    Some(snapshot.into_iter().chain(commands).collect::<Vec<_>>().join(", then "))
}

/// What of a service is no part of its task definition.
const OUTSIDE: [&str; 14] = [
    "after",
    "approval",
    "approval_within",
    "count",
    "discovery",
    "http",
    "image",
    "migrate",
    "restart_on_rotation",
    "rollout",
    "scale",
    "scan",
    "smoke",
    "uses",
];

fn changed(name: &ComponentName, old: &Service, new: &Service, mut found: BTreeMap<String, String>) -> ServiceChange {
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
        what: told(found),
        new_revision,
        migration: migration(new).filter(|_| other_image),
    }
}

/// Differences, a line each.
pub(super) fn told(found: BTreeMap<String, String>) -> Vec<String> {
    found.into_iter().map(|(path, change)| format!("{path}: {change}")).collect()
}

/// The differences by path. A variable's values are not shown: they may be what a person should have made a secret.
pub(super) fn compare(path: &str, old: &Value, new: &Value, found: &mut BTreeMap<String, String>) {
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
        let changes =
            changes(&new, Some(&old), Moved::default()).into_iter().filter(|change| change.doing != Doing::Unchanged);
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
    fn tasks_that_move_to_other_capacity_or_subnets_are_new_ones() {
        let (old, spot) = (
            spec(str::to_owned),
            spec(|text| text.replace("services:", "cluster: {capacity: fargate_spot}\nservices:")),
        );
        let on_spot = changes(&spot, Some(&old), Moved::default());
        assert!(on_spot.iter().all(|change| change.new_revision), "{on_spot:?}");
        assert_eq!(on_spot[1].what, ["cluster: fargate → fargate with 100 % on spot"]);
        let network = |subnet: &str| NetworkOutputs { public_subnets: vec![subnet.to_owned()], ..Default::default() };
        let (from, to) = (network("subnet-1"), network("subnet-2"));
        let same = changes(&old, Some(&old), Moved { from: Some(&from), to: Some(&from) });
        assert!(same.iter().all(|change| change.doing == Doing::Unchanged), "{same:?}");
        let moved = changes(&old, Some(&old), Moved { from: Some(&from), to: Some(&to) });
        assert!(moved.iter().all(|change| change.new_revision), "{moved:?}");
        assert_eq!(moved[1].what, ["network: in subnet-1 → in subnet-2"]);
    }

    #[test]
    fn a_new_service_begins_with_an_image_and_what_is_gone_is_left() {
        let all = spec(str::to_owned);
        let begun: Vec<_> =
            changes(&all, None, Moved::default()).into_iter().map(|change| (change.what, change.migration)).collect();
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
        let seeded = spec(|text| {
            let whole = "migrate], snapshot: true, seed: [rails, seed], verify: [bin/look]}, secrets: {U: {ref: databases.main.url}";
            text.replace("migrate]", whole)
                + "databases: {main: {engine: postgres, version: '15', class: db.t3.micro}}\n"
        });
        let migration = migration(&seeded.services[&"api".parse().unwrap()]);
        assert_eq!(
            migration.as_deref(),
            Some("a snapshot of main, then rails migrate, then rails seed, then bin/look")
        );
        let without = spec(|text| text.lines().filter(|line| !line.contains("worker")).collect::<Vec<_>>().join("\n"));
        assert_eq!(left(&without, Some(&all)), ["service/worker"]);
        assert!(changes(&without, Some(&all), Moved::default()).iter().all(|change| change.doing == Doing::Unchanged));
    }
}
