//! What applying does to an environment's stacks, worked out from the templates and parameters that they have and would have.
//!
//! CloudFormation itself would say it by a change set. Making one is a write, and for a stack that is not there it leaves an empty
//! one behind; so nothing is asked of CloudFormation but what stands.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    difference::{self, Doing, ResourceChange},
    evaluation::{Evaluated, Given, evaluate},
    template,
    value::Value,
};
use crate::platform::{self, ObservedStack, Phase, Place, StackName, WantedStack};

/// The stacks as they stand, and their templates.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// As CloudFormation describes them.
    pub stacks: &'a platform::Observed,
    /// The texts of their templates.
    pub templates: &'a BTreeMap<StackName, String>,
}

/// What is done about a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StackChange {
    /// Its name.
    pub name: String,
    /// The region, where that is not the environment's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What is done: it is made, changed, left alone, or made anew where it was never finished.
    pub doing: Doing,
    /// What is done about its resources; nothing about those that are not named.
    pub resources: Vec<ResourceChange>,
    /// What a person should know of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why it would be refused, or cannot go on without a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halted: Option<String>,
}

/// What is done about the stacks, and what they would be.
pub(super) struct Foreseen {
    pub(super) changes: Vec<StackChange>,
    pub(super) evaluated: BTreeMap<StackName, Evaluated>,
}

/// What is done about each stack. `wanted` names each after those it stands on.
pub(super) fn foreseen(wanted: &[WantedStack], standing: Standing<'_>, place: &Place) -> Foreseen {
    let mut foreseen = Foreseen { changes: Vec::new(), evaluated: BTreeMap::new() };
    for stack in wanted {
        let (change, evaluated) = foreseen.of(stack, standing, place);
        foreseen.changes.push(change);
        foreseen.evaluated.insert(stack.name.clone(), evaluated);
    }
    foreseen
}

impl Foreseen {
    fn of(&self, wanted: &WantedStack, standing: Standing<'_>, place: &Place) -> (StackChange, Evaluated) {
        let parameters: BTreeMap<String, Value> = wanted
            .parameters
            .iter()
            .map(|(name, value)| (name.to_string(), self.resolved(&wanted.name, value, standing)))
            .collect();
        let given = Given {
            parameters: &parameters,
            stack: wanted.name.as_str(),
            partition: &place.partition,
            region: wanted.region.unwrap_or(&place.region),
            account: &place.account,
        };
        let mut change = StackChange {
            name: wanted.name.to_string(),
            region: wanted.region.map(str::to_owned),
            doing: Doing::Create,
            resources: Vec::new(),
            note: None,
            halted: None,
        };
        let read = |text: &str| template::read(text);
        let new = match read(&wanted.template) {
            Ok(template) => evaluate(&template, &given),
            Err(error) => {
                change.halted = Some(error.to_string());
                Evaluated::default()
            }
        };
        let stands = standing
            .stacks
            .get(&wanted.name)
            .filter(|observed| !matches!(observed.status.phase(), Phase::Absent | Phase::Proposed));
        let Some(observed) = stands else {
            change.resources = difference::between(&Evaluated::default(), &new);
            return (change, new);
        };
        let foreign = wanted.tags.iter().find(|(key, value)| observed.tags.get(**key) != Some(*value));
        if let Some((tag, expected)) = foreign {
            change.halted = Some(format!("a stack of this name is there already, but its tag {tag} is not {expected}"));
        }
        match observed.status.phase() {
            Phase::NeverFinished => {
                change.doing = Doing::Replace;
                change.note = Some(format!("it is {}: what is left of it is cleared first", observed.status));
                change.resources = difference::between(&Evaluated::default(), &new);
                return (change, new);
            }
            Phase::Stuck(way_out) => change.halted = Some(format!("it is {}; {way_out}", observed.status)),
            Phase::Moving => change.note = Some(format!("it is {}: compared with what it becomes", observed.status)),
            Phase::Absent | Phase::Proposed | Phase::Settled | Phase::RolledBack => {}
        }
        let text = standing.templates.get(&wanted.name);
        match text.map(|text| read(text)) {
            Some(Ok(template)) => {
                let had = had(observed, &parameters);
                let old = evaluate(&template, &Given { parameters: &had, ..given });
                change.resources = difference::between(&old, &new);
                let is_same = text.is_some_and(|text| *text == wanted.template)
                    && parameters
                        .iter()
                        .filter(|(name, _)| {
                            !matches!(wanted.parameters.get(name.as_str()), Some(platform::Value::Kept { .. }))
                        })
                        .all(|(name, value)| had.get(name) == Some(value));
                change.doing = if change.resources.is_empty() && is_same { Doing::Unchanged } else { Doing::Change };
                if change.resources.is_empty() && !is_same {
                    change.note.get_or_insert_with(|| "none of its resources changes".to_owned());
                }
            }
            Some(Err(error)) => {
                change.doing = Doing::Change;
                change.note = Some(error.to_string());
            }
            None => {
                change.doing = Doing::Change;
                change.note = Some("its template was not seen".to_owned());
            }
        }
        (change, new)
    }

    /// A parameter's value, as far as it is known before the stacks are made.
    fn resolved(&self, own: &StackName, value: &platform::Value, standing: Standing<'_>) -> Value {
        match value {
            platform::Value::Text(text) => Value::text(text),
            platform::Value::Kept { parameter, first } => {
                let has = standing.stacks.get(own).and_then(|observed| observed.parameters.get(*parameter));
                Value::text(has.cloned().unwrap_or_else(|| first.to_string()))
            }
            platform::Value::OfNetwork => Value::later("the network"),
            platform::Value::Output { stack, key } => self.output(stack, key, standing),
            platform::Value::List(values) => self.put_together(own, values, ",", standing),
            platform::Value::Joined(values) => self.put_together(own, values, "", standing),
        }
    }

    fn put_together(
        &self,
        own: &StackName,
        values: &[platform::Value],
        separator: &str,
        standing: Standing<'_>,
    ) -> Value {
        let values: Vec<_> = values.iter().map(|value| self.resolved(own, value, standing)).collect();
        let texts = values.iter().map(|value| match value {
            Value::Text(text) => text.clone(),
            other => other.to_string(),
        });
        let text = texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(separator);
        if values.iter().any(Value::is_later) { Value::later(text) } else { Value::Text(text) }
    }

    /// What another stack gives. It is what it was, unless what it is of is made or made anew.
    fn output(&self, stack: &StackName, key: &str, standing: Standing<'_>) -> Value {
        let later = || Value::later(format!("{stack}.{key}"));
        let Some(new) = self.evaluated.get(stack).and_then(|evaluated| evaluated.outputs.get(key)) else {
            return later();
        };
        if !new.is_later() {
            return new.clone();
        }
        let change = self.changes.iter().find(|change| change.name == stack.as_str());
        let is_new = change.is_none_or(|change| {
            matches!(change.doing, Doing::Create | Doing::Replace)
                || change.resources.iter().any(|resource| {
                    matches!(resource.doing, Doing::Create | Doing::Replace)
                        && new.of().contains(resource.name.as_str())
                })
        });
        let known = standing.stacks.get(stack).and_then(|observed| observed.outputs.get(key));
        known.filter(|_| !is_new).map_or_else(later, Value::text)
    }
}

/// The parameters that a stack has. CloudFormation hides those that are not to be shown; they are taken for unchanged.
fn had(observed: &ObservedStack, wanted: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let parameters = observed.parameters.iter().map(|(name, value)| {
        let hidden = wanted.get(name).filter(|_| value == "****");
        (name.clone(), hidden.cloned().unwrap_or_else(|| Value::text(value)))
    });
    parameters.collect()
}
