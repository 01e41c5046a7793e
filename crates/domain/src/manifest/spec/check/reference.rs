//! References: that what they name is there, and may be named where they stand.

use std::fmt::Display;

use super::{Checked, Manifest, refuse};
use crate::{
    manifest::spec::{DatabaseName, EnvValue, Reference, SecretRef, Spec},
    name::ComponentName,
};

/// Every reference that a manifest makes, with its path.
pub(super) fn all(spec: &Spec) -> Vec<(String, &Reference)> {
    let mut all = Vec::new();
    for (name, service) in &spec.services {
        let own = (format!("services.{name}"), &service.env, &service.secrets);
        let beside = service.sidecars.iter().map(|(sidecar, container)| {
            (format!("services.{name}.sidecars.{sidecar}"), &container.env, &container.secrets)
        });
        for (path, env, secrets) in std::iter::once(own).chain(beside) {
            all.extend(env.iter().filter_map(|(variable, value)| match value {
                EnvValue::Ref(reference) => Some((format!("{path}.env.{variable}"), reference)),
                EnvValue::Text(_) => None,
            }));
            all.extend(secrets.iter().filter_map(|(variable, secret)| match secret {
                SecretRef::Ref(reference) => Some((format!("{path}.secrets.{variable}"), reference)),
                SecretRef::Secretsmanager(_) | SecretRef::Ssm(_) => None,
            }));
        }
    }
    all.extend(of_stacks(spec));
    all
}

fn of_stacks(spec: &Spec) -> impl Iterator<Item = (String, &Reference)> {
    spec.stacks.iter().flat_map(|(name, stack)| {
        stack.parameters.iter().filter_map(move |(parameter, value)| match value {
            EnvValue::Ref(reference) => Some((format!("stacks.{name}.parameters.{parameter}"), reference)),
            EnvValue::Text(_) => None,
        })
    })
}

pub(super) fn check(manifest: &Manifest<'_>) -> Checked {
    for (path, reference) in all(manifest.spec) {
        if let Err(message) = exists(manifest, reference) {
            return refuse(path, message);
        }
        if matches!(reference, Reference::Network(_)) && !path.starts_with("stacks.") {
            return refuse(
                path,
                format!("`{reference}` is for the parameters of `stacks`; a container has no use for it"),
            );
        }
    }
    for (path, reference) in of_stacks(manifest.spec) {
        if reference.is_secret() {
            let message = format!(
                "`{reference}` is a secret, and a stack's parameters can be read by many; let the template make its own"
            );
            return refuse(path, message);
        }
    }
    Ok(())
}

fn exists(manifest: &Manifest<'_>, reference: &Reference) -> Result<(), String> {
    let spec = manifest.spec;
    match reference {
        Reference::Database { name, database, .. } => {
            let known = spec.databases.get(name).ok_or_else(|| missing("database", name, spec.databases.keys()))?;
            let own = spec.app.as_str().replace('-', "_");
            let names: Vec<&str> = match known.names.as_slice() {
                [] => vec![&own],
                names => names.iter().map(DatabaseName::as_str).collect(),
            };
            match database {
                Some(database) if !names.contains(&database.as_str()) => {
                    Err(format!("`databases.{name}` has no database `{database}`; it has {}", listed(&names)))
                }
                _ => Ok(()),
            }
        }
        Reference::Cache { name, .. } => there("cache", name, &spec.caches),
        Reference::Secret(name) => there("secret", name, &spec.secrets),
        Reference::Bucket(name) => there("bucket", name, &spec.buckets),
        Reference::SiteUrl(name) => there("site", name, &spec.sites),
        Reference::Stack { name, .. } => there("stack", name, &spec.stacks),
        Reference::Service { name, .. } => {
            let known = spec.services.get(name).ok_or_else(|| missing("service", name, spec.services.keys()))?;
            if known.discovery {
                Ok(())
            } else {
                Err(format!("other services do not find `{name}`; give it `discovery: true`"))
            }
        }
        Reference::LoadBalancerUrl if !manifest.has_http() => {
            Err("no service has `http`, so there is no load balancer".to_owned())
        }
        Reference::LoadBalancerUrl | Reference::Network(_) => Ok(()),
    }
}

fn there<T>(
    kind: &str,
    name: &ComponentName,
    known: &std::collections::BTreeMap<ComponentName, T>,
) -> Result<(), String> {
    if known.contains_key(name) { Ok(()) } else { Err(missing(kind, name, known.keys())) }
}

fn missing<'a>(kind: &str, name: &ComponentName, known: impl Iterator<Item = &'a ComponentName>) -> String {
    let known: Vec<_> = known.collect();
    if known.is_empty() {
        return format!("there is no {kind} `{name}` in this manifest, nor any other");
    }
    format!("there is no {kind} `{name}`; there is {}", listed(&known))
}

fn listed<T: Display>(items: &[T]) -> String {
    const MOST: usize = 20;
    let some: Vec<_> = items.iter().take(MOST).map(|item| format!("`{item}`")).collect();
    let more = if items.len() > MOST { " and more" } else { "" };
    some.join(", ") + more
}
