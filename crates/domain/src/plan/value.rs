//! A value of a template, before and after its functions were evaluated.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What a property is. Scalars are texts: CloudFormation takes `80` and `"80"`, `true` and `"true"` for the same.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Value {
    /// Nothing: YAML's `null`, or what `AWS::NoValue` leaves.
    #[default]
    Nothing,
    /// A scalar.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A mapping.
    Map(BTreeMap<String, Value>),
    /// What only CloudFormation knows.
    Known(Later),
}

/// A value that only CloudFormation knows: the id of a resource, a dynamic reference, a function that is not evaluated here.
/// Two are the same where their texts are, and nothing that they are of is made anew.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Later {
    /// What it is, for a person: `Targets.Arn`.
    pub text: String,
    /// The resources of the same template that it is of.
    pub of: BTreeSet<String>,
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// What is known later, and of no resource of this template.
    pub fn later(text: impl Into<String>) -> Value {
        Value::Known(Later { text: text.into(), of: BTreeSet::new() })
    }

    /// The text, where it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What stands under a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(map) => map.get(key),
            _ => None,
        }
    }

    /// The resources of the same template that it is of, at any depth.
    pub fn of(&self) -> BTreeSet<&str> {
        let mut of = BTreeSet::new();
        self.collect(&mut of);
        of
    }

    fn collect<'a>(&'a self, of: &mut BTreeSet<&'a str>) {
        match self {
            Value::Nothing | Value::Text(_) => {}
            Value::List(items) => items.iter().for_each(|item| item.collect(of)),
            Value::Map(map) => map.values().for_each(|value| value.collect(of)),
            Value::Known(later) => of.extend(later.of.iter().map(String::as_str)),
        }
    }

    /// Whether anything in it is known only later.
    pub fn is_later(&self) -> bool {
        match self {
            Value::Nothing | Value::Text(_) => false,
            Value::List(items) => items.iter().any(Value::is_later),
            Value::Map(map) => map.values().any(Value::is_later),
            Value::Known(_) => true,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nothing => f.write_str("nothing"),
            Value::Text(text) => f.write_str(text),
            Value::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { ", " })?;
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
            Value::Map(map) => {
                f.write_str("{")?;
                for (index, (key, value)) in map.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { ", " })?;
                    write!(f, "{key}: {value}")?;
                }
                f.write_str("}")
            }
            Value::Known(later) => write!(f, "({})", later.text),
        }
    }
}
