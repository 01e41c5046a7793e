//! The user's own CloudFormation stacks.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checked, Manifest, Wrong, refuse, under};
use crate::{
    manifest::{
        spec::{EnvValue, Reference, Spec, Stack},
        yaml::{self, Node, Value},
    },
    name::ComponentName,
};

/// What CloudFormation takes in a request.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const MOST_TEMPLATE_BYTES: usize = 51_200;

pub(super) fn check(manifest: &Manifest<'_>) -> Checked {
    let stacks = &manifest.spec.stacks;
    let mut outputs = BTreeMap::new();
    for (name, stack) in stacks {
        outputs.insert(name, one(stack).map_err(under(format_args!("stacks.{name}")))?);
    }
    no_circle(manifest.spec)?;
    for (path, reference) in super::reference::all(manifest.spec) {
        let Reference::Stack { name, output } = reference else { continue };
        if outputs.get(name).is_some_and(|outputs| !outputs.contains(output)) {
            return refuse(path, format!("the template of `stacks.{name}` has no output `{output}`"));
        }
    }
    Ok(())
}

/// The outputs of a stack's template.
fn one(stack: &Stack) -> Result<BTreeSet<String>, Wrong> {
    let wrong = |message: String| ("template".to_owned(), message);
    let bytes = stack.template.len();
    if bytes > MOST_TEMPLATE_BYTES {
        return Err(wrong(format!(
            "it has {bytes} bytes, and CloudFormation takes {MOST_TEMPLATE_BYTES}; make two stacks of it"
        )));
    }
    let tree = yaml::read(&stack.template)
        .map_err(|error| wrong(format!("this is not a template of CloudFormation; in it, {error}")))?;
    if entry(&tree, "Resources").is_none_or(|resources| keys(resources).next().is_none()) {
        return Err(wrong("this is not a template of CloudFormation: it has no `Resources`".to_owned()));
    }
    let none = Node { place: tree.place, value: Value::Map(Vec::new()) };
    let parameters = entry(&tree, "Parameters").unwrap_or(&none);
    for name in stack.parameters.keys() {
        if entry(parameters, name).is_none() {
            return Err((format!("parameters.{name}"), format!("the template has no parameter `{name}`")));
        }
    }
    for (name, parameter) in keys(parameters) {
        if entry(parameter, "Default").is_none() && !stack.parameters.contains_key(name) {
            return Err(("parameters".to_owned(), format!("`{name}` is missing: the template has no default for it")));
        }
    }
    Ok(keys(entry(&tree, "Outputs").unwrap_or(&none)).map(|(name, _)| name.to_owned()).collect())
}

fn entry<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    keys(node).find(|(name, _)| *name == key).map(|(_, node)| node)
}

fn keys(node: &Node) -> impl Iterator<Item = (&str, &Node)> {
    let entries = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        Value::Scalar { .. } | Value::List(_) => &[],
    };
    entries.iter().map(|(key, node)| (key.text.as_str(), node))
}

/// No stack waits for itself, through whichever others.
fn no_circle(spec: &Spec) -> Checked {
    let needs = |name: &ComponentName| -> Vec<&ComponentName> {
        let parameters = spec.stacks.get(name).into_iter().flat_map(|stack| stack.parameters.values());
        parameters
            .filter_map(|value| match value {
                EnvValue::Ref(Reference::Stack { name, .. }) => Some(name),
                EnvValue::Ref(_) | EnvValue::Text(_) => None,
            })
            .collect()
    };
    for name in spec.stacks.keys() {
        let (mut reached, mut next) = (BTreeSet::new(), needs(name));
        while let Some(other) = next.pop() {
            if other == name {
                return refuse(
                    format!("stacks.{name}.parameters"),
                    "the stack would wait for itself; break the circle of references",
                );
            }
            if reached.insert(other) {
                next.extend(needs(other));
            }
        }
    }
    Ok(())
}
