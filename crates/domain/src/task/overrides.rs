//! A manifest's raw overrides, laid over a task definition: every field of ECS's that has no key of its own.

use serde_json::{Map, Value};

use crate::{
    manifest::{Service, nearest},
    name::ComponentName,
};

/// The field that holds the containers, by name in the manifest and in a list in ECS.
const CONTAINERS: &str = "containerDefinitions";

/// Fields of a task definition that Shipway sets from keys of the manifest, and what sets them.
const OF_TASK: [(&str, &str); 8] = [
    ("family", "it is named for the service"),
    ("tags", "Shipway finds its task definitions by them"),
    ("cpu", "`cpu` sets it"),
    ("memory", "`memory` sets it"),
    ("networkMode", "`cluster` sets it"),
    ("requiresCompatibilities", "`cluster` sets it"),
    ("taskRoleArn", "`uses` says what the role may do"),
    ("executionRoleArn", "it is the one that was made for the service"),
];

/// The same of a container.
const OF_CONTAINER: [(&str, &str); 8] = [
    ("name", "it is named by its key"),
    ("image", "`image` sets it"),
    ("command", "`command` sets it"),
    ("entryPoint", "`entrypoint` sets it"),
    ("environment", "`env` sets it"),
    ("secrets", "`secrets` sets it"),
    ("portMappings", "`port` sets it"),
    ("essential", "the service's own container is, and a sidecar's `essential` sets it"),
];

/// Fields of `RegisterTaskDefinition` that may be given.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RegisterTaskDefinition.html>
const TASK_FIELDS: &[&str] = &[
    "containerDefinitions",
    "enableFaultInjection",
    "ephemeralStorage",
    "ipcMode",
    "pidMode",
    "placementConstraints",
    "proxyConfiguration",
    "runtimePlatform",
    "volumes",
];

/// Fields of a container that may be given.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html>
const CONTAINER_FIELDS: &[&str] = &[
    "cpu",
    "credentialSpecs",
    "dependsOn",
    "disableNetworking",
    "dnsSearchDomains",
    "dnsServers",
    "dockerLabels",
    "dockerSecurityOptions",
    "environmentFiles",
    "extraHosts",
    "firelensConfiguration",
    "healthCheck",
    "hostname",
    "interactive",
    "links",
    "linuxParameters",
    "logConfiguration",
    "memory",
    "memoryReservation",
    "mountPoints",
    "privileged",
    "pseudoTerminal",
    "readonlyRootFilesystem",
    "repositoryCredentials",
    "resourceRequirements",
    "restartPolicy",
    "startTimeout",
    "stopTimeout",
    "systemControls",
    "ulimits",
    "user",
    "versionConsistency",
    "volumesFrom",
    "workingDirectory",
];

/// An override that is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The key under `overrides`.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}

impl Override {
    /// The first of a service's overrides that is not one: of a field that has a key of its own, of a container that is not there.
    #[must_use]
    pub fn wrong_one(name: &ComponentName, service: &Service) -> Option<Override> {
        let wrong = |key: String, why: &str| Some(Override { key, why: why.to_owned() });
        let unknown = |key: String, field: &str, known: &[&str]| {
            let suggestion = nearest(field, known).map(|suggestion| format!("; {suggestion}")).unwrap_or_default();
            Some(Override { key, why: format!("`{field}` is not a field that ECS has here{suggestion}") })
        };
        for (key, value) in &service.overrides {
            if let Some((_, why)) = OF_TASK.iter().find(|(field, _)| field == key) {
                return wrong(key.clone(), &format!("{why}; leave it out here"));
            }
            if !TASK_FIELDS.contains(&key.as_str()) {
                return unknown(key.clone(), key, TASK_FIELDS);
            }
            if key != CONTAINERS {
                continue;
            }
            let Some(containers) = value.as_object() else {
                return wrong(key.clone(), "the containers stand here by name, each a mapping of its fields");
            };
            for (container, fields) in containers {
                let path = format!("{CONTAINERS}.{container}");
                let is_there =
                    container == name.as_str() || service.sidecars.keys().any(|one| one.as_str() == container);
                if !is_there {
                    return wrong(path, "the service has no such container; its own has the service's name");
                }
                let Some(fields) = fields.as_object() else {
                    return wrong(path, "a mapping of the container's fields is expected here");
                };
                if let Some((field, why)) = OF_CONTAINER.iter().find(|(field, _)| fields.contains_key(*field)) {
                    return wrong(format!("{path}.{field}"), &format!("{why}; leave it out here"));
                }
                if let Some(field) = fields.keys().find(|field| !CONTAINER_FIELDS.contains(&field.as_str())) {
                    return unknown(format!("{path}.{field}"), field, CONTAINER_FIELDS);
                }
            }
        }
        None
    }
}

/// Lays a service's overrides over a task definition. Those of containers that the task has not are left out: a one-off task has
/// no sidecars.
pub(super) fn apply(fields: &mut Map<String, Value>, name: &ComponentName, service: &Service) -> Result<(), Override> {
    if let Some(wrong) = Override::wrong_one(name, service) {
        return Err(wrong);
    }
    for (key, value) in &service.overrides {
        if key != CONTAINERS {
            merge(fields.entry(key.clone()).or_insert(Value::Null), value);
            continue;
        }
        let containers = fields.get_mut(CONTAINERS).and_then(Value::as_array_mut).into_iter().flatten();
        for container in containers {
            let over = container.get("name").and_then(Value::as_str).and_then(|name| value.get(name)).cloned();
            if let Some(over) = over {
                merge(container, &over);
            }
        }
    }
    Ok(())
}

/// Maps key by key; anything else takes the place of what was there, and `null` takes it away.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.remove(key);
                } else {
                    merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (into, from) => *into = from.clone(),
    }
}
