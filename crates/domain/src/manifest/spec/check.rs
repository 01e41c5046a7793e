//! What the types cannot say: ranges that depend on other keys, keys that contradict each other, references to what is not
//! there. A key that would change nothing is refused, so that nobody believes it did.

mod cluster;
mod data;
mod edge;
mod monitoring;
mod network;
mod overrides;
mod reference;
mod route;
mod service;
mod smoke;
mod stack;

use std::fmt::Display;

pub use edge::WrongRegion;

use super::{Period, Spec};
use crate::{
    capacity,
    manifest::{
        ManifestError, Place,
        de::from_node,
        yaml::{Node, Value},
    },
    name::EnvironmentName,
};

/// A platform's end writes a route for each service, and deletes those of the manifest before, in one transaction, which has at
/// most 100 writes; three are others.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html>
const MOST_SERVICES: usize = 48;

/// The path of the key that is wrong, and why.
pub(super) type Wrong = (String, String);

/// What a check says.
pub(super) type Checked = Result<(), Wrong>;

/// Refuses the key at `path`.
fn refuse(path: impl Into<String>, message: impl Into<String>) -> Checked {
    Err((path.into(), message.into()))
}

/// Puts `path` before that of what is wrong in it.
fn under(path: impl Display) -> impl FnOnce(Wrong) -> Wrong {
    move |(key, message)| (if key.is_empty() { path.to_string() } else { format!("{path}.{key}") }, message)
}

/// What a check looks at: the spec, and what only its tree tells.
struct Manifest<'a> {
    spec: &'a Spec,
    environment: &'a EnvironmentName,
    node: &'a Node,
}

impl Manifest<'_> {
    /// Whether the manifest itself has a value at `path`, and not only the default.
    fn gives(&self, path: &str) -> bool {
        let (node, reached) = find(self.node, path);
        reached && !node.is_null()
    }

    /// Whether a service has `http`: then there is a load balancer.
    fn has_http(&self) -> bool {
        self.spec.services.values().any(|service| service.http.is_some())
    }
}

/// Reads one environment's spec and checks it.
pub(in crate::manifest) fn check(node: &Node, environment: &EnvironmentName) -> Result<Spec, ManifestError> {
    let mut spec: Spec = from_node(node, "")?;
    let manifest = Manifest { spec: &spec, environment, node };
    let checks = [
        whole,
        network::check,
        cluster::check,
        service::check,
        route::check,
        overrides::check,
        data::check,
        edge::check,
        monitoring::check,
        stack::check,
        reference::check,
        preflight,
    ];
    for check in checks {
        check(&manifest).map_err(|(path, message)| ManifestError::new(place_of(node, &path), &path, message))?;
    }
    // A container that ends before the service's own starts does not end the task with it.
    for sidecar in spec.services.values_mut().flat_map(|service| service.sidecars.values_mut()) {
        sidecar.essential &= !sidecar.before;
    }
    Ok(spec)
}

fn whole(manifest: &Manifest<'_>) -> Checked {
    let spec = manifest.spec;
    if spec.services.is_empty() && spec.sites.is_empty() {
        return refuse("", "there is nothing to deploy: name at least one service or site");
    }
    if spec.services.len() > MOST_SERVICES {
        return refuse("services", format!("an app has at most {MOST_SERVICES} services"));
    }
    if spec.services.is_empty() {
        for key in ["cluster", "logs"] {
            if manifest.gives(key) {
                return refuse(key, "there is no service that this would be for; leave it out");
            }
        }
    }
    for (name, site) in &spec.sites {
        site.check().map_err(under(format_args!("sites.{name}")))?;
    }
    Ok(())
}

fn preflight(manifest: &Manifest<'_>) -> Checked {
    capacity::check(manifest.spec).map(|_| ()).or_else(|shortage| refuse(shortage.path(), shortage.to_string()))
}

/// A period that AWS counts in days.
fn whole_days(path: impl Into<String>, period: Period, most: u32) -> Checked {
    let days = period.days();
    if period != Period::of(days * 86_400) {
        return refuse(path, format!("AWS counts days here; write {days}d"));
    }
    if days > most {
        return refuse(path, format!("{days}d is more than {most}d"));
    }
    Ok(())
}

/// Refuses what is in a list for the second time; `path` is the list's.
fn no_doubles<T: PartialEq + Display>(path: &str, items: impl IntoIterator<Item = T>) -> Checked {
    let mut seen = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        if seen.contains(&item) {
            return refuse(format!("{path}[{index}]"), format!("`{item}` is here twice"));
        }
        seen.push(item);
    }
    Ok(())
}

/// The place of the value at `path`, or of the nearest one above it that is there.
fn place_of(node: &Node, path: &str) -> Place {
    find(node, path).0.place
}

/// The value at `path` (`true`), or the nearest one above it that is there (`false`).
fn find<'a>(node: &'a Node, path: &str) -> (&'a Node, bool) {
    let mut current = node;
    for key in path.split('.').flat_map(|part| part.split('[')).filter(|key| !key.is_empty()) {
        let next = match &current.value {
            Value::Map(entries) => entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node),
            Value::List(items) => key.trim_end_matches(']').parse::<usize>().ok().and_then(|index| items.get(index)),
            Value::Scalar { .. } => None,
        };
        match next {
            Some(next) => current = next,
            None => return (current, false),
        }
    }
    (current, true)
}
