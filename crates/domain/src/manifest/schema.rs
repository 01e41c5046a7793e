//! The manifest's JSON Schema, for editors: made of the same types that read it.
//!
//! It says what a key may be. Whether a key is missing shows only when an environment was laid over the base, so it asks for
//! few: [`super::read`] alone says whether a manifest is right.

use serde_json::{Map, Value, json};

use super::Spec;

/// The schema, in the draft 2020-12 of JSON Schema.
#[must_use]
pub fn schema() -> Value {
    let mut root = of_types();
    let definitions = root.as_object_mut().and_then(|root| root.remove("$defs"));
    let Some(Value::Object(definitions)) = definitions else { return root };
    let mut laid_over: Map<String, Value> = definitions
        .iter()
        .map(|(name, definition)| {
            // A list is put in place of another one, so what is in it is whole.
            let schema = if in_a_list(name, &definitions) { definition.clone() } else { part(definition) };
            (name.clone(), with_extensions(schema))
        })
        .collect();

    let mut environment = with_extensions(part(&root));
    environment["description"] =
        json!("What is different in this environment: laid over everything above, key by key.");
    if let Value::Object(environment) = &mut environment {
        environment.remove("$schema");
        environment.remove("title");
    }
    let mut root = with_extensions(part(&root));
    root["title"] = json!("shipway.yaml");
    root["required"] = json!(["version", "app", "environments"]);
    root["properties"]["environments"] = json!({
        "description": "The environments, by name, and what is different in each.",
        "type": "object",
        "minProperties": 1,
        "additionalProperties": or_nothing(json!({"$ref": "#/$defs/Environment"})),
    });
    laid_over.insert("Environment".to_owned(), environment);
    root["$defs"] = Value::Object(laid_over);
    root
}

/// The schema of one environment's whole: with all that is needed.
pub(super) fn of_types() -> Value {
    schemars::schema_for!(Spec).to_value()
}

/// Whether a definition is that of a list's items.
fn in_a_list(name: &str, definitions: &Map<String, Value>) -> bool {
    let target = format!("#/$defs/{name}");
    let properties = definitions.values().filter_map(|definition| definition["properties"].as_object());
    properties.flat_map(Map::values).any(|property| property["items"]["$ref"] == target.as_str())
}

/// A mapping whose keys are the manifest's own takes keys that begin with `x-`. The one with `ref` stands for a value.
fn with_extensions(mut schema: Value) -> Value {
    if schema["properties"].as_object().is_some_and(|properties| !properties.contains_key("ref")) {
        schema["patternProperties"] = json!({"^x-": true});
    }
    schema
}

/// A part of it: no key is needed, and any may be taken away.
fn part(schema: &Value) -> Value {
    let mut part = schema.clone();
    let Value::Object(fields) = &mut part else { return part };
    let optional = |properties: &Map<String, Value>| -> Map<String, Value> {
        properties.iter().map(|(key, value)| (key.clone(), or_nothing(values(value)))).collect()
    };
    if let Some(properties) = schema["properties"].as_object() {
        fields.remove("required");
        fields.insert("properties".to_owned(), Value::Object(optional(properties)));
    }
    if let Some(variants) = variants(schema) {
        // One laid over the other, both are there until one is taken away.
        let all = variants.into_iter().flat_map(optional).collect();
        fields.remove("oneOf");
        fields.insert("type".to_owned(), json!("object"));
        fields.insert("properties".to_owned(), Value::Object(all));
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    part
}

/// A mapping by names: each of its values may be taken away.
fn values(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if schema["additionalProperties"].is_object() {
        let value = schema["additionalProperties"].take();
        schema["additionalProperties"] = or_nothing(value);
    }
    let by_pattern = schema.get_mut("patternProperties").and_then(Value::as_object_mut);
    for value in by_pattern.into_iter().flat_map(Map::values_mut) {
        *value = or_nothing(value.take());
    }
    schema
}

/// The mappings that something is one of.
fn variants(definition: &Value) -> Option<Vec<&Map<String, Value>>> {
    definition["oneOf"].as_array()?.iter().map(|variant| variant["properties"].as_object()).collect()
}

/// The same, or nothing.
fn or_nothing(mut schema: Value) -> Value {
    let is_null = |choice: &Value| choice["type"] == "null" || choice == "null";
    let has_null = |choices: &Value| choices.as_array().is_some_and(|choices| choices.iter().any(is_null));
    if has_null(&schema["anyOf"]) || has_null(&schema["type"]) {
        return schema;
    }
    let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
    let mut either = json!({"anyOf": [schema, {"type": "null"}]});
    if let Some(description) = description {
        either["description"] = description;
    }
    either
}
