//! What differs between a stack as it stands and as it is wanted, and what CloudFormation does about it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    evaluation::{Evaluated, Policy, Resource},
    types,
    value::{Later, Value},
};

/// What is done about something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// Nothing.
    Unchanged,
    /// It is made.
    Create,
    /// It is changed where it stands.
    Change,
    /// Another takes its place.
    Replace,
    /// It is deleted.
    Delete,
}

/// What is done about a resource of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResourceChange {
    /// Its name in the template.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What is done.
    pub doing: Doing,
    /// What is changed of it, where it stands already.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<PropertyChange>,
    /// Whether its change interrupts what uses it.
    pub interrupts: bool,
    /// What stops when it is made anew or deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stops: Option<String>,
    /// The data that it holds and loses, and what stays of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loses: Option<Loss>,
    /// The name that keeps CloudFormation from making it anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_for: Option<String>,
    /// Whether only CloudFormation knows if it is changed where it stands or made anew: its type is no blueprint's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unsure: bool,
}

/// Data that is lost to the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// What it is.
    pub what: String,
    /// What becomes of the resource that holds it.
    pub old: Policy,
}

/// What is changed of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PropertyChange {
    /// Where: `LoadBalancerAttributes[1].Value`.
    pub path: String,
    /// What it was; nothing where it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it is to be; nothing where it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whether it cannot change in place.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replaces: bool,
}

/// What is done about the resources of a stack; nothing about those that are not named.
pub(super) fn between(stands: &Evaluated, wanted: &Evaluated) -> Vec<ResourceChange> {
    let mut differing: BTreeMap<&str, Vec<Differing>> = BTreeMap::new();
    for (name, new) in &wanted.resources {
        if let Some(old) = stands.resources.get(name) {
            let mut found = Vec::new();
            compare(&mut Vec::new(), &old.properties, &new.properties, &mut found);
            for (attribute, old, new) in [
                ("DeletionPolicy", old.on_delete, new.on_delete),
                ("UpdateReplacePolicy", old.on_replace, new.on_replace),
            ] {
                let (old, new) = (Value::text(old.word()), Value::text(new.word()));
                compare(&mut vec![Part::Key(attribute.to_owned())], &old, &new, &mut found);
            }
            differing.insert(name, found);
        }
    }
    // What is of a resource that is made anew changes too, and may be made anew for it.
    loop {
        let anew: BTreeSet<&str> = differing
            .iter()
            .filter(|(name, found)| {
                wanted.resources.get(**name).is_some_and(|resource| is_anew(resource, &stands.resources[**name], found))
            })
            .map(|(name, _)| *name)
            .collect();
        let mut more = false;
        for (name, found) in &mut differing {
            let mut touched = Vec::new();
            leaves(&mut Vec::new(), &wanted.resources[*name].properties, &mut |path, later| {
                let is_of_new = later.of.iter().any(|of| anew.contains(of.as_str()) && of != name);
                if is_of_new && !found.iter().any(|known| path.0.starts_with(&known.path.0)) {
                    touched.push(Differing {
                        path: path.clone(),
                        from: Some(format!("({})", later.text)),
                        to: Some(format!("({}, made anew)", later.text)),
                    });
                }
            });
            more |= !touched.is_empty();
            found.append(&mut touched);
        }
        if !more {
            break;
        }
    }
    let mut changes = Vec::new();
    for (name, new) in &wanted.resources {
        match (stands.resources.get(name), differing.remove(name.as_str())) {
            (Some(old), Some(found)) if !found.is_empty() || old.kind != new.kind => {
                changes.push(changed(name, old, new, found))
            }
            (Some(_), _) => {}
            (None, _) => changes.push(ResourceChange { doing: Doing::Create, ..untouched(name, new) }),
        }
    }
    for (name, old) in stands.resources.iter().filter(|(name, _)| !wanted.resources.contains_key(*name)) {
        let stops =
            types::known(&old.kind).and_then(|known| known.stops.clone()).filter(|_| old.on_delete != Policy::Retain);
        changes.push(ResourceChange {
            doing: Doing::Delete,
            stops,
            loses: loss(old, old.on_delete),
            ..untouched(name, old)
        });
    }
    changes
}

fn untouched(name: &str, resource: &Resource) -> ResourceChange {
    ResourceChange {
        name: name.to_owned(),
        kind: resource.kind.clone(),
        doing: Doing::Unchanged,
        properties: Vec::new(),
        interrupts: false,
        stops: None,
        loses: None,
        refused_for: None,
        unsure: false,
    }
}

fn changed(name: &str, old: &Resource, new: &Resource, found: Vec<Differing>) -> ResourceChange {
    let known = types::known(&new.kind);
    let anew = is_anew(new, old, &found);
    let replaces = |path: &Path| known.is_some_and(|known| known.replaces(&path.words()));
    let interrupts =
        !anew && found.iter().any(|found| known.is_some_and(|known| known.interrupts(&found.path.words())));
    // The name is the same: it is not among what differs.
    let kept_name = known.and_then(|known| known.name.as_deref()).filter(|name| {
        anew && old.kind == new.kind && !found.iter().any(|found| found.path.words().first() == Some(name))
    });
    let refused_for = match kept_name.and_then(|name| new.properties.get(name)) {
        _ if old.kind != new.kind => Some(format!("it is a {}, and a resource keeps its type", old.kind)),
        Some(kept) => Some(format!("its name is {kept}, and two cannot have it")),
        None => None,
    };
    let properties = found.into_iter().map(|found| PropertyChange {
        replaces: replaces(&found.path),
        path: found.path.to_string(),
        from: found.from,
        to: found.to,
    });
    ResourceChange {
        doing: if anew { Doing::Replace } else { Doing::Change },
        properties: properties.collect(),
        interrupts,
        stops: known.and_then(|known| known.stops.clone()).filter(|_| anew),
        loses: anew.then(|| loss(old, old.on_replace)).flatten(),
        refused_for,
        unsure: known.is_none(),
        ..untouched(name, new)
    }
}

fn is_anew(new: &Resource, old: &Resource, found: &[Differing]) -> bool {
    let by_property = |known: &types::Type| found.iter().any(|found| known.replaces(&found.path.words()));
    old.kind != new.kind || types::known(&new.kind).is_some_and(by_property)
}

fn loss(old: &Resource, policy: Policy) -> Option<Loss> {
    // The data of an Aurora cluster is the cluster's, not its instances'.
    if old.kind == "AWS::RDS::DBInstance" && old.properties.get("DBClusterIdentifier").is_some() {
        return None;
    }
    let what = types::known(&old.kind)?.data.clone()?;
    Some(Loss { what, old: policy })
}

/// Where a value is in a resource's properties.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Key(String),
    Place(usize),
    /// One item more or less in a list.
    Item,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Path(Vec<Part>);

impl Path {
    /// The keys of it.
    fn words(&self) -> Vec<&str> {
        let keys = self.0.iter().filter_map(|part| match part {
            Part::Key(key) => Some(key.as_str()),
            Part::Place(_) | Part::Item => None,
        });
        keys.collect()
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            match part {
                Part::Key(key) if index == 0 => f.write_str(key)?,
                Part::Key(key) => write!(f, ".{key}")?,
                Part::Place(place) => write!(f, "[{place}]")?,
                Part::Item => f.write_str("[]")?,
            }
        }
        Ok(())
    }
}

struct Differing {
    path: Path,
    from: Option<String>,
    to: Option<String>,
}

fn compare(path: &mut Vec<Part>, old: &Value, new: &Value, found: &mut Vec<Differing>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Map(old), Value::Map(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                path.push(Part::Key(key.clone()));
                match (old.get(key), new.get(key)) {
                    (Some(old), Some(new)) => compare(path, old, new, found),
                    (old, new) => push(path, old, new, found),
                }
                path.pop();
            }
        }
        (Value::List(old), Value::List(new)) if old.len() == new.len() => {
            for (place, (old, new)) in old.iter().zip(new).enumerate() {
                path.push(Part::Place(place));
                compare(path, old, new, found);
                path.pop();
            }
        }
        (Value::List(old), Value::List(new)) => {
            path.push(Part::Item);
            let before = found.len();
            old.iter().filter(|item| !new.contains(item)).for_each(|item| push(path, Some(item), None, found));
            new.iter().filter(|item| !old.contains(item)).for_each(|item| push(path, None, Some(item), found));
            path.pop();
            if found.len() == before {
                // The same items, some of them more often.
                let (old, new) = (Value::List(old.clone()), Value::List(new.clone()));
                push(path, Some(&old), Some(&new), found);
            }
        }
        (Value::Nothing, new) if path.is_empty() => compare(path, &Value::Map(BTreeMap::new()), new, found),
        (old, Value::Nothing) if path.is_empty() => compare(path, old, &Value::Map(BTreeMap::new()), found),
        (old, new) => push(path, Some(old), Some(new), found),
    }
}

fn push(path: &[Part], old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Differing>) {
    let path = Path(path.to_vec());
    found.push(Differing { path, from: old.map(Value::to_string), to: new.map(Value::to_string) });
}

fn leaves(path: &mut Vec<Part>, value: &Value, see: &mut impl FnMut(&Path, &Later)) {
    match value {
        Value::Nothing | Value::Text(_) => {}
        Value::List(items) => {
            for (place, item) in items.iter().enumerate() {
                path.push(Part::Place(place));
                leaves(path, item, see);
                path.pop();
            }
        }
        Value::Map(map) => {
            for (key, value) in map {
                path.push(Part::Key(key.clone()));
                leaves(path, value, see);
                path.pop();
            }
        }
        Value::Known(later) => see(&Path(path.clone()), later),
    }
}
