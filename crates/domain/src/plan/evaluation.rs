//! What CloudFormation makes of a template with its parameters, as far as that can be said without it.
//!
//! Every function has a value: one that is not known here, or of what is known only later, stays what is written, with what is known
//! of it filled in, so that two of them can be compared.
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html>

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use serde::Serialize;

use super::value::{Later, Value};

/// No text that is made of parts is longer: nested substitutions could otherwise fill the memory.
const MOST_TEXT: usize = 1 << 20;

/// What a template's stack is made with.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The parameters that are given; the template's defaults stand for the others.
    pub parameters: &'a BTreeMap<String, Value>,
    /// The stack's name.
    pub stack: &'a str,
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: &'a str,
    /// The region.
    pub region: &'a str,
    /// The account's id.
    pub account: &'a str,
}

/// A stack, as CloudFormation would have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evaluated {
    /// Its resources, without those whose condition is false.
    pub resources: BTreeMap<String, Resource>,
    /// Its outputs, likewise.
    pub outputs: BTreeMap<String, Value>,
}

/// A resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// Its type: `AWS::S3::Bucket`.
    pub kind: String,
    /// Its properties.
    pub properties: Value,
    /// What becomes of it when it is taken out of the stack.
    pub on_delete: Policy,
    /// What becomes of the old one when another takes its place.
    pub on_replace: Policy,
}

/// What becomes of a resource that is no longer wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It is deleted.
    #[default]
    Delete,
    /// It is deleted, and a last snapshot stays.
    Snapshot,
    /// It stays.
    Retain,
}

impl Policy {
    /// As a template says it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Policy::Delete => "Delete",
            Policy::Snapshot => "Snapshot",
            Policy::Retain => "Retain",
        }
    }
}

/// Evaluates a template.
pub fn evaluate(template: &Value, given: &Given<'_>) -> Evaluated {
    let conditions = RefCell::default();
    let evaluator = Evaluator { template, given, conditions };
    let entries = |section: &str| match template.get(section) {
        Some(Value::Map(entries)) => entries.iter().collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let resources = entries("Resources").into_iter().filter(|(_, written)| evaluator.is_there(written));
    let outputs = entries("Outputs").into_iter().filter(|(_, written)| evaluator.is_there(written));
    Evaluated {
        resources: resources.map(|(name, written)| (name.clone(), evaluator.resource(written))).collect(),
        outputs: outputs.map(|(name, written)| (name.clone(), evaluator.at(written, "Value"))).collect(),
    }
}

struct Evaluator<'a> {
    template: &'a Value,
    given: &'a Given<'a>,
    /// The conditions that were evaluated; nothing for one that is being evaluated.
    conditions: RefCell<BTreeMap<String, Option<bool>>>,
}

impl Evaluator<'_> {
    fn is_there(&self, written: &Value) -> bool {
        written.get("Condition").and_then(Value::as_text).is_none_or(|name| self.condition(name))
    }

    fn resource(&self, written: &Value) -> Resource {
        let kind = written.get("Type").and_then(Value::as_text).unwrap_or("of no type").to_owned();
        let properties = match written {
            Value::Map(_) => self.at(written, "Properties"),
            // `Fn::ForEach` stands among resources as a list.
            other => self.value(other),
        };
        // https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-deletionpolicy.html
        let snapshot = match kind.as_str() {
            "AWS::RDS::DBCluster" => true,
            "AWS::RDS::DBInstance" => properties.get("DBClusterIdentifier").is_none(),
            _ => false,
        };
        let by_itself = if snapshot { Policy::Snapshot } else { Policy::Delete };
        Resource {
            on_delete: policy(&self.at(written, "DeletionPolicy")).unwrap_or(by_itself),
            on_replace: policy(&self.at(written, "UpdateReplacePolicy")).unwrap_or_default(),
            kind,
            properties,
        }
    }

    /// The value under a key.
    fn at(&self, written: &Value, key: &str) -> Value {
        written.get(key).map(|value| self.value(value)).unwrap_or_default()
    }

    fn value(&self, written: &Value) -> Value {
        match written {
            Value::Nothing | Value::Text(_) | Value::Known(_) => written.clone(),
            Value::List(items) => Value::List(items.iter().map(|item| self.value(item)).filter(is_something).collect()),
            Value::Map(map) => match only(map) {
                Some(("Ref", name)) => self.reference(name),
                Some((function, argument)) if function.starts_with("Fn::") => self.call(function, argument),
                _ => {
                    let entries = map.iter().map(|(key, value)| (key.clone(), self.value(value)));
                    Value::Map(entries.filter(|(_, value)| is_something(value)).collect())
                }
            },
        }
    }

    fn reference(&self, name: &Value) -> Value {
        match self.value(name) {
            Value::Text(name) => self.named(&name),
            other => unknown("Ref", &other),
        }
    }

    /// What a name stands for: a parameter, a pseudo parameter, or the id of a resource.
    fn named(&self, name: &str) -> Value {
        let Given { stack, partition, region, account, .. } = self.given;
        let suffix = if *partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        match name {
            "AWS::NoValue" => Value::Nothing,
            "AWS::AccountId" => Value::text(*account),
            "AWS::Partition" => Value::text(*partition),
            "AWS::Region" => Value::text(*region),
            "AWS::StackName" => Value::text(*stack),
            "AWS::URLSuffix" => Value::text(suffix),
            _ => match self.parameter(name) {
                Some(value) => value,
                None => {
                    let is_resource = self.template.get("Resources").and_then(|all| all.get(name)).is_some();
                    let of = if is_resource { BTreeSet::from([name.to_owned()]) } else { BTreeSet::new() };
                    Value::Known(Later { text: name.to_owned(), of })
                }
            },
        }
    }

    fn parameter(&self, name: &str) -> Option<Value> {
        let declared = self.template.get("Parameters").and_then(|all| all.get(name));
        let given = self.given.parameters.get(name);
        declared.or(given)?;
        let kind = declared.and_then(|declared| declared.get("Type")).and_then(Value::as_text).unwrap_or("String");
        let is_secret = declared.and_then(|declared| declared.get("NoEcho")).and_then(Value::as_text) == Some("true");
        let value = given.or_else(|| declared?.get("Default")).cloned();
        Some(match value {
            _ if is_secret => Value::later(format!("the parameter {name}, which is not shown")),
            // CloudFormation looks it up when the stack is made or changed.
            Some(Value::Text(path)) if kind.starts_with("AWS::SSM::Parameter::Value") => {
                Value::later(format!("the value of {path}"))
            }
            Some(Value::Text(text)) if kind == "CommaDelimitedList" || kind.starts_with("List<") => split(&text, ","),
            Some(value) => value,
            None => Value::later(format!("the parameter {name}")),
        })
    }

    fn call(&self, function: &str, written: &Value) -> Value {
        match (function, written) {
            ("Fn::If", Value::List(arguments)) => {
                if let [Value::Text(condition), then, otherwise] = arguments.as_slice() {
                    return self.value(if self.condition(condition) { then } else { otherwise });
                }
            }
            ("Fn::Sub", Value::Text(text)) => return self.substituted(text, &Value::Nothing),
            ("Fn::Sub", Value::List(arguments)) => {
                if let [Value::Text(text), variables] = arguments.as_slice() {
                    return self.substituted(text, variables);
                }
            }
            _ => {}
        }
        let argument = self.value(written);
        let known = match (function, &argument) {
            ("Fn::GetAtt", Value::Text(text)) => text.split_once('.').map(|(name, rest)| attribute(name, rest)),
            ("Fn::GetAtt", Value::List(arguments)) => match arguments.as_slice() {
                [Value::Text(name), Value::Text(of)] => Some(attribute(name, of)),
                _ => None,
            },
            ("Fn::Base64", value) => Some(value.clone()),
            ("Fn::Join", Value::List(arguments)) => match arguments.as_slice() {
                [Value::Text(separator), Value::List(items)] => joined(separator, items),
                _ => None,
            },
            ("Fn::Split", Value::List(arguments)) => match arguments.as_slice() {
                [Value::Text(separator), Value::Text(text)] => Some(split(text, separator)),
                _ => None,
            },
            ("Fn::Select", Value::List(arguments)) => match arguments.as_slice() {
                [Value::Text(index), Value::List(items)] => {
                    index.trim().parse().ok().and_then(|index: usize| items.get(index)).cloned()
                }
                _ => None,
            },
            ("Fn::Length", Value::List(items)) => Some(Value::text(items.len().to_string())),
            ("Fn::FindInMap", Value::List(arguments)) => self.found(arguments),
            ("Fn::GetAZs", _) => Some(Value::later(format!("the zones of {}", self.given.region))),
            _ => None,
        };
        known.unwrap_or_else(|| unknown(function, &argument))
    }

    /// What a mapping has under two keys, or the default that is given with them.
    fn found(&self, arguments: &[Value]) -> Option<Value> {
        let [Value::Text(map), Value::Text(first), Value::Text(second), rest @ ..] = arguments else { return None };
        let entry = self.template.get("Mappings")?.get(map).and_then(|map| map.get(first)?.get(second));
        entry.cloned().or_else(|| rest.first()?.get("DefaultValue").cloned())
    }

    /// A text with `${Name}`, `${Name.Attribute}` and `${!Literal}`.
    fn substituted(&self, text: &str, variables: &Value) -> Value {
        // Once for each, however often it stands in the text.
        let variables = self.value(variables);
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, tail)) = after.split_once('}') else { break };
            parts.push(Value::text(before));
            parts.push(match (name.strip_prefix('!'), name.trim()) {
                (Some(literal), _) => Value::text(format!("${{{literal}}}")),
                (None, name) => match (variables.get(name), name.split_once('.')) {
                    (Some(variable), _) => variable.clone(),
                    (None, Some((resource, of))) => attribute(resource, of),
                    (None, None) => self.named(name),
                },
            });
            rest = tail;
        }
        parts.push(Value::text(rest));
        concatenated(&parts)
    }

    fn condition(&self, name: &str) -> bool {
        if let Some(known) = self.conditions.borrow().get(name) {
            // One that is made of itself is refused by CloudFormation.
            return known.unwrap_or(false);
        }
        self.conditions.borrow_mut().insert(name.to_owned(), None);
        let written = self.template.get("Conditions").and_then(|all| all.get(name));
        let holds = written.is_some_and(|written| self.holds(written));
        self.conditions.borrow_mut().insert(name.to_owned(), Some(holds));
        holds
    }

    fn holds(&self, written: &Value) -> bool {
        let Value::Map(map) = written else { return false };
        match only(map) {
            Some(("Condition", Value::Text(name))) => self.condition(name),
            Some(("Fn::Not", Value::List(arguments))) => !arguments.iter().any(|argument| self.holds(argument)),
            Some(("Fn::And", Value::List(arguments))) => arguments.iter().all(|argument| self.holds(argument)),
            Some(("Fn::Or", Value::List(arguments))) => arguments.iter().any(|argument| self.holds(argument)),
            Some(("Fn::Equals", Value::List(arguments))) => match arguments.as_slice() {
                [one, other] => self.value(one) == self.value(other),
                _ => false,
            },
            _ => false,
        }
    }
}

fn is_something(value: &Value) -> bool {
    *value != Value::Nothing
}

fn only(map: &BTreeMap<String, Value>) -> Option<(&str, &Value)> {
    let mut entries = map.iter();
    match (entries.next(), entries.next()) {
        (Some((key, value)), None) => Some((key, value)),
        _ => None,
    }
}

fn policy(value: &Value) -> Option<Policy> {
    match value.as_text()? {
        "Delete" => Some(Policy::Delete),
        "Snapshot" => Some(Policy::Snapshot),
        "Retain" | "RetainExceptOnCreate" => Some(Policy::Retain),
        _ => None,
    }
}

fn attribute(resource: &str, name: &str) -> Value {
    let text = if name.is_empty() { resource.to_owned() } else { format!("{resource}.{name}") };
    Value::Known(Later { text, of: BTreeSet::from([resource.to_owned()]) })
}

/// A function whose value is not known here: what is written, with what is known of it.
fn unknown(function: &str, argument: &Value) -> Value {
    let text = format!("{} {argument}", function.trim_start_matches("Fn::"));
    Value::Known(Later { text: held(text), of: argument.of().into_iter().map(str::to_owned).collect() })
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return Value::List(vec![Value::text(text)]);
    }
    let trimmed = |part: &str| if separator == "," { part.trim().to_owned() } else { part.to_owned() };
    Value::List(text.split(separator).map(|part| Value::Text(trimmed(part))).collect())
}

fn joined(separator: &str, items: &[Value]) -> Option<Value> {
    if items.iter().any(|item| matches!(item, Value::List(_) | Value::Map(_))) {
        return None;
    }
    let mut parts = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            parts.push(Value::text(separator));
        }
        parts.push(item.clone());
    }
    Some(concatenated(&parts))
}

/// One text of several: known later if one of them is.
fn concatenated(parts: &[Value]) -> Value {
    let mut text = String::new();
    let mut of = BTreeSet::new();
    let mut is_later = false;
    for part in parts {
        is_later |= part.is_later();
        of.extend(part.of().into_iter().map(str::to_owned));
        match part {
            Value::Nothing => {}
            Value::Text(part) => text.push_str(part),
            Value::Known(later)
                if parts.iter().filter(|part| is_something(part) && part.as_text() != Some("")).count() == 1 =>
            {
                text.push_str(&later.text);
            }
            Value::Known(later) => text.push_str(&format!("${{{}}}", later.text)),
            other => text.push_str(&other.to_string()),
        }
        if text.len() > MOST_TEXT {
            text = held(text);
            break;
        }
    }
    if is_later { Value::Known(Later { text, of }) } else { Value::Text(text) }
}

fn held(mut text: String) -> String {
    let mut end = MOST_TEXT.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::template;

    fn evaluated_with(text: &str, parameters: &[(&str, &str)]) -> Evaluated {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), Value::text(*value))).collect();
        let given = Given {
            parameters: &parameters,
            stack: "shipway-hello-dev-cluster",
            partition: "aws",
            region: "eu-west-1",
            account: "123456789012",
        };
        evaluate(&template::read(text).unwrap(), &given)
    }

    /// What a property is.
    fn value_of(written: &str, parameters: &[(&str, &str)]) -> String {
        let text = format!(
            "{{Parameters: {{Text: {{Type: String, Default: a-b}}, Many: {{Type: 'List<AWS::EC2::Subnet::Id>', Default: 's-1, s-2'}}, \
             Ami: {{Type: 'AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>', Default: /ami}}, Password: {{Type: String, NoEcho: 'true', Default: x}}}}, \
             Mappings: {{Sizes: {{small: {{cpu: 256}}}}}}, \
             Conditions: {{Yes: {{'Fn::Equals': [{{Ref: Text}}, a-b]}}, No: {{'Fn::Not': [{{Condition: Yes}}]}}, \
             Both: {{'Fn::And': [{{Condition: Yes}}, {{Condition: No}}]}}, One: {{'Fn::Or': [{{Condition: Yes}}, {{Condition: No}}]}}, \
             Round: {{'Fn::Not': [{{Condition: Round}}]}}}}, \
             Resources: {{Made: {{Type: A::B::C}}, R: {{Type: T, Properties: {{P: {written}}}}}}}}}"
        );
        let evaluated = evaluated_with(&text, parameters);
        evaluated.resources["R"].properties.get("P").cloned().unwrap_or_default().to_string()
    }

    #[test]
    fn functions_have_their_values() {
        let table = [
            ("{Ref: Text}", "a-b"),
            ("{Ref: Many}", "[s-1, s-2]"),
            ("{Ref: Made}", "(Made)"),
            ("{Ref: Ami}", "(the value of /ami)"),
            ("{Ref: Password}", "(the parameter Password, which is not shown)"),
            ("{Ref: 'AWS::Region'}", "eu-west-1"),
            ("{Ref: 'AWS::NoValue'}", "nothing"),
            ("{Ref: 'AWS::StackId'}", "(AWS::StackId)"),
            ("{'Fn::GetAtt': [Made, Arn]}", "(Made.Arn)"),
            ("{'Fn::GetAtt': Made.Endpoint.Port}", "(Made.Endpoint.Port)"),
            ("{'Fn::Sub': '${Text}/${AWS::AccountId}/${!Kept}'}", "a-b/123456789012/${Kept}"),
            ("{'Fn::Sub': 'arn:${Made.Arn}/*'}", "(arn:${Made.Arn}/*)"),
            ("{'Fn::Sub': '${Made.Arn}'}", "(Made.Arn)"),
            ("{'Fn::Sub': ['${x}-${Text}', {x: {'Fn::Select': [1, {Ref: Many}]}}]}", "s-2-a-b"),
            ("{'Fn::If': [Yes, 80, 443]}", "80"),
            ("{'Fn::If': [No, 80, {Ref: 'AWS::NoValue'}]}", "nothing"),
            ("{'Fn::If': [Both, 1, 2]}", "2"),
            ("{'Fn::If': [One, 1, 2]}", "1"),
            ("{'Fn::If': [Missing, 1, 2]}", "2"),
            ("{'Fn::If': [Round, 1, 2]}", "1"),
            ("[1, {'Fn::If': [No, 2, {Ref: 'AWS::NoValue'}]}, 3]", "[1, 3]"),
            ("{'Fn::Join': ['-', [a, {Ref: 'AWS::NoValue'}, b]]}", "a-b"),
            ("{'Fn::Join': [',', {Ref: Many}]}", "s-1,s-2"),
            ("{'Fn::Join': ['-', [a, {Ref: Made}]]}", "(a-${Made})"),
            ("{'Fn::Split': ['-', {Ref: Text}]}", "[a, b]"),
            (
                "{'Fn::Select': [4, {'Fn::Split': ['-', {Ref: 'AWS::StackId'}]}]}",
                "(Select [4, (Split [-, (AWS::StackId)])])",
            ),
            ("{'Fn::Select': [9, [a]]}", "(Select [9, [a]])"),
            ("{'Fn::FindInMap': [Sizes, small, cpu]}", "256"),
            ("{'Fn::FindInMap': [Sizes, huge, cpu, {DefaultValue: 1}]}", "1"),
            ("{'Fn::FindInMap': [Sizes, huge, cpu]}", "(FindInMap [Sizes, huge, cpu])"),
            ("{'Fn::Base64': {'Fn::Sub': 'x ${Text}'}}", "x a-b"),
            ("{'Fn::Length': {Ref: Many}}", "2"),
            ("{'Fn::GetAZs': ''}", "(the zones of eu-west-1)"),
            ("{'Fn::ImportValue': {'Fn::Sub': '${Text}-vpc'}}", "(ImportValue a-b-vpc)"),
            ("{'Fn::Cidr': [10.0.0.0/16, 4, 8]}", "(Cidr [10.0.0.0/16, 4, 8])"),
            ("'{{resolve:secretsmanager:x}}'", "{{resolve:secretsmanager:x}}"),
            // Part of an IAM policy, and no function.
            ("{Condition: {Bool: {x: 'false'}}}", "{Condition: {Bool: {x: false}}}"),
        ];
        for (written, value) in table {
            assert_eq!(value_of(written, &[]), value, "{written}");
        }
        assert_eq!(value_of("{'Fn::If': [Yes, 1, 2]}", &[("Text", "other")]), "2");
    }

    #[test]
    fn a_value_knows_of_which_resources_it_is() {
        let text = "Resources:\n  A: {Type: T}\n  B: {Type: T, Properties: {P: [!Sub 'x${A.Arn}', !Join ['', [!Ref A]], !Cidr [!Ref C]]}}\n  C: {Type: T}\n";
        let evaluated = evaluated_with(text, &[]);
        assert_eq!(evaluated.resources["B"].properties.of(), BTreeSet::from(["A", "C"]));
    }

    #[test]
    fn policies_are_those_that_are_written_or_cloudformations_own() {
        let text = "
Parameters: {OnDelete: {Type: String}}
Conditions: {No: !Equals [a, b]}
Resources:
  Written: {Type: A::B::C, DeletionPolicy: !Ref OnDelete, UpdateReplacePolicy: RetainExceptOnCreate}
  Cluster: {Type: 'AWS::RDS::DBCluster'}
  Instance: {Type: 'AWS::RDS::DBInstance'}
  OfCluster: {Type: 'AWS::RDS::DBInstance', Properties: {DBClusterIdentifier: !Ref Cluster}}
  Plain: {Type: A::B::C}
  Gone: {Type: A::B::C, Condition: No}
Outputs:
  Arn: {Value: !GetAtt Cluster.Arn}
  Gone: {Value: x, Condition: No}
";
        let evaluated = evaluated_with(text, &[("OnDelete", "Snapshot")]);
        let policies = |name: &str| (evaluated.resources[name].on_delete, evaluated.resources[name].on_replace);
        assert_eq!(policies("Written"), (Policy::Snapshot, Policy::Retain));
        assert_eq!(policies("Cluster"), (Policy::Snapshot, Policy::Delete));
        assert_eq!(policies("Instance"), (Policy::Snapshot, Policy::Delete));
        assert_eq!(policies("OfCluster"), (Policy::Delete, Policy::Delete));
        assert_eq!(policies("Plain"), (Policy::Delete, Policy::Delete));
        assert_eq!(evaluated.resources.len(), 5);
        assert_eq!(evaluated.outputs.keys().collect::<Vec<_>>(), ["Arn"]);
    }

    #[test]
    fn texts_in_texts_end() {
        let nested =
            (0..40).fold("x".to_owned(), |inner, _| format!("{{'Fn::Sub': ['${{x}}${{x}}', {{x: {inner}}}]}}"));
        let value = value_of(&nested, &[]);
        assert!(value.len() <= MOST_TEXT, "{}", value.len());
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = prop::sample::select(vec![
            "Ref",
            "A",
            "B",
            "0",
            "1",
            "-1",
            "Yes",
            "${A}",
            "${A.B}${",
            "${!x}",
            "AWS::NoValue",
            "AWS::Region",
            "",
            ",",
            "Retain",
            "Condition",
            "é",
        ]);
        let leaf = prop_oneof![Just(Value::Nothing), text.prop_map(Value::text)];
        leaf.prop_recursive(5, 60, 5, |inner| {
            let function = prop::sample::select(vec![
                "Ref",
                "Condition",
                "Type",
                "Properties",
                "DeletionPolicy",
                "Fn::Sub",
                "Fn::GetAtt",
                "Fn::If",
                "Fn::Join",
                "Fn::Split",
                "Fn::Select",
                "Fn::FindInMap",
                "Fn::Base64",
                "Fn::GetAZs",
                "Fn::ImportValue",
                "Fn::Length",
                "Fn::Transform",
                "Fn::Equals",
                "Fn::Not",
                "Fn::And",
                "Fn::Or",
                "Value",
                "Default",
            ]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::btree_map(function.prop_map(str::to_owned), inner, 0..3).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_tree_has_a_value(sections in prop::collection::btree_map(
            prop::sample::select(vec!["Resources", "Outputs", "Parameters", "Conditions", "Mappings"]),
            prop::collection::btree_map(prop::sample::select(vec!["A", "B", "Yes"]), values(), 0..3), 0..5)
        ) {
            let named = |map: BTreeMap<&str, Value>| Value::Map(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
            let template = Value::Map(sections.into_iter().map(|(key, map)| (key.to_owned(), named(map))).collect());
            let given = Given { parameters: &BTreeMap::new(), stack: "s", partition: "aws", region: "r", account: "1" };
            prop_assert_eq!(evaluate(&template, &given), evaluate(&template, &given));
        }

        #[test]
        fn every_text_is_read_or_refused(text in "[-a:!&* \\[\\]{}\"'\n|>,?#%@0-9]{0,60}") {
            if let Ok(template) = template::read(&text) {
                let given = Given { parameters: &BTreeMap::new(), stack: "s", partition: "aws", region: "r", account: "1" };
                evaluate(&template, &given);
            }
        }
    }
}
