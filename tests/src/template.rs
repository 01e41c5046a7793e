//! Shipway's own template as tests read it.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, bail, ensure};
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Map, Value};

use crate::checkout;

/// `bootstrap/template.yaml`.
///
/// # Errors
/// It cannot be read.
pub fn template() -> Result<Value> {
    yaml(&fs::read_to_string(checkout().join("bootstrap/template.yaml"))?)
}

/// The resources of this type, by their logical ids.
pub fn ids<'t>(template: &'t Value, kind: &str) -> Vec<&'t str> {
    let resources = template["Resources"].as_object().into_iter().flatten();
    resources.filter(|(_, resource)| resource["Type"] == kind).map(|(id, _)| id.as_str()).collect()
}

/// The statements of a role's own policies, and of those that are made for it.
///
/// # Errors
/// It has none.
pub fn statements(template: &Value, role: &str) -> Result<Vec<Value>> {
    let policies = items(&template["Resources"][role]["Properties"]["Policies"]);
    ensure!(!policies.is_empty(), "{role} has no policies");
    let made = ids(template, "AWS::IAM::ManagedPolicy").into_iter();
    let made = made.map(|policy| &template["Resources"][policy]["Properties"]);
    let made = made.filter(|policy| items(&policy["Roles"]).iter().any(|of| of["Ref"] == role));
    Ok(policies.iter().chain(made).flat_map(|policy| items(&policy["PolicyDocument"]["Statement"])).cloned().collect())
}

/// A YAML document as JSON, CloudFormation's short forms (`!Ref`) as its long ones (`{"Ref": …}`, `{"Fn::Sub": …}`).
///
/// # Errors
/// It is no YAML, or has what JSON has not.
pub fn yaml(text: &str) -> Result<Value> {
    fn next<'t>(parser: &mut Parser<'t, StrInput<'t>>) -> Result<Event<'t>> {
        Ok(parser.next_event().context("the document is cut off")??.0)
    }
    fn node<'t>(parser: &mut Parser<'t, StrInput<'t>>, event: Event<'t>) -> Result<Value> {
        let long = |tag: Option<&Tag>, value: Value| match tag {
            Some(tag) if tag.handle == "!" => {
                let name = if tag.suffix == "Ref" { "Ref".to_owned() } else { format!("Fn::{}", tag.suffix) };
                Value::Object(Map::from_iter([(name, value)]))
            }
            _ => value,
        };
        match event {
            Event::Scalar(text, style, _, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let value = match text.as_ref() {
                    "true" | "false" if plain => Value::Bool(text == "true"),
                    _ if plain => text.parse::<i64>().map_or_else(|_| Value::String(text.to_string()), Value::from),
                    _ => Value::String(text.to_string()),
                };
                Ok(long(tag.as_deref(), value))
            }
            Event::SequenceStart(_, tag) => {
                let mut items = Vec::new();
                loop {
                    match next(parser)? {
                        Event::SequenceEnd => return Ok(long(tag.as_deref(), Value::Array(items))),
                        event => items.push(node(parser, event)?),
                    }
                }
            }
            Event::MappingStart(_, tag) => {
                let mut entries = Map::new();
                loop {
                    let key = match next(parser)? {
                        Event::MappingEnd => return Ok(long(tag.as_deref(), Value::Object(entries))),
                        Event::Scalar(key, ..) => key.to_string(),
                        event => bail!("{event:?} is no key"),
                    };
                    let event = next(parser)?;
                    let value = node(parser, event)?;
                    ensure!(entries.insert(key.clone(), value).is_none(), "{key} is there twice");
                }
            }
            event => bail!("{event:?} is no value"),
        }
    }
    let mut parser = Parser::new_from_str(text);
    loop {
        match next(&mut parser)? {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            event => return node(&mut parser, event),
        }
    }
}

/// The items of a list; a single value is a list of one, nothing is an empty one.
pub fn items(value: &Value) -> &[Value] {
    match value {
        Value::Null => &[],
        Value::Array(items) => items,
        one => std::slice::from_ref(one),
    }
}

/// The texts of a list, or the one text.
pub fn names(value: &Value) -> BTreeSet<&str> {
    items(value).iter().filter_map(Value::as_str).collect()
}
