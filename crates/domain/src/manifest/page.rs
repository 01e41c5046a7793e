//! The reference page, docs/manifest.md, out of the schema: what each key is, and how it looks in a manifest.

use std::{collections::BTreeSet, fmt::Write};

use serde_json::{Map, Value};

/// A mapping of known keys, and where it stands in a manifest.
struct Section<'s> {
    path: String,
    schema: &'s Value,
}

/// The page's generated part. `manifests` are where examples come from.
///
/// # Panics
/// If a key is in none of the manifests.
pub(super) fn reference(schema: &Value, manifests: &[Value]) -> String {
    let page = Page { definitions: schema["$defs"].as_object().unwrap(), manifests };
    let mut text = String::new();
    let mut next = vec![Section { path: String::new(), schema }];
    let mut told = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    while !next.is_empty() {
        let section = next.remove(0);
        let mut below = Vec::new();
        page.section(&section, &mut text, &mut below, &mut kinds);
        // Depth first, so that a service's parts follow the service.
        below.retain(|section: &Section<'_>| told.insert(std::ptr::from_ref(section.schema)));
        below.append(&mut next);
        next = below;
    }
    text.push_str("### Kinds of values\n\n| kind | form | meaning |\n|---|---|---|\n");
    for name in kinds {
        page.kind(name, &mut text);
    }
    text
}

struct Page<'s> {
    definitions: &'s Map<String, Value>,
    manifests: &'s [Value],
}

impl<'s> Page<'s> {
    fn section(
        &self,
        section: &Section<'s>,
        text: &mut String,
        below: &mut Vec<Section<'s>>,
        kinds: &mut BTreeSet<&'s str>,
    ) {
        let title = if section.path.is_empty() { "At the top".to_owned() } else { format!("`{}`", section.path) };
        let description =
            if section.path.is_empty() { "" } else { section.schema["description"].as_str().unwrap_or("") };
        writeln!(text, "### {title}\n").unwrap();
        if !description.is_empty() {
            writeln!(text, "{}\n", flowing(description)).unwrap();
        }
        text.push_str("| key | kind | unless given | example | meaning |\n|---|---|---|---|---|\n");
        let properties = section.schema["properties"].as_object().unwrap();
        let required: Vec<_> = section.schema["required"].as_array().into_iter().flatten().collect();
        let is_required = |key: &String| required.iter().any(|required| **required == **key);
        let (first, then): (Vec<_>, Vec<_>) = properties.iter().partition(|(key, _)| is_required(key));
        for (key, value) in first.into_iter().chain(then) {
            let path = if section.path.is_empty() { key.clone() } else { format!("{}.{key}", section.path) };
            let default = match (&value["default"], is_required(key)) {
                (_, true) => "**needed**".to_owned(),
                (Value::Null, _) => String::new(),
                (Value::Object(_), _) if self.target(value).is_some_and(|target| target["properties"].is_object()) => {
                    String::new()
                }
                (default, _) => format!("`{}`", flow(default)),
            };
            let kind = self.kind_of(value, &path, below, kinds);
            let example = self.example(&path);
            let meaning = flowing(value["description"].as_str().unwrap_or(""));
            writeln!(text, "| `{key}` | {kind} | {default} | {example} | {meaning} |").unwrap();
        }
        text.push('\n');
    }

    /// What a value is, in a few words; what it consists of is put to the sections `below`.
    fn kind_of(
        &self,
        value: &'s Value,
        path: &str,
        below: &mut Vec<Section<'s>>,
        kinds: &mut BTreeSet<&'s str>,
    ) -> String {
        if let Some(choices) = value["anyOf"].as_array() {
            let choices: Vec<_> = choices
                .iter()
                .filter(|choice| choice["type"] != "null")
                .map(|choice| self.kind_of(choice, path, below, kinds))
                .collect();
            return choices.join(" or ");
        }
        if let Some(name) = name(value) {
            let target = &self.definitions[name];
            if target["properties"].is_object() {
                return self.mapping(target, path, below);
            }
            kinds.insert(name);
            return format!("[{}](#kinds-of-values)", words(name));
        }
        let kind = value["type"].as_array().map_or(&value["type"], |types| &types[0]);
        match kind.as_str() {
            Some("array") => format!("list of {}", self.kind_of(&value["items"], path, below, kinds)),
            Some("object") if value["additionalProperties"].is_object() => {
                let inner = self.kind_of(&value["additionalProperties"], &format!("{path}.<name>"), below, kinds);
                format!("by name: {inner}")
            }
            Some("object") if value["patternProperties"].is_object() => {
                let named = value["patternProperties"].as_object().unwrap().values().next().unwrap();
                format!("by name: {}", self.kind_of(named, &format!("{path}.<name>"), below, kinds))
            }
            Some("object") => "mapping".to_owned(),
            Some("boolean") => "`true` or `false`".to_owned(),
            Some("integer") => "whole number".to_owned(),
            Some("number") => "number".to_owned(),
            _ => "text".to_owned(),
        }
    }

    fn mapping(&self, target: &'s Value, path: &str, below: &mut Vec<Section<'s>>) -> String {
        let path = below
            .iter()
            .find(|section| std::ptr::eq(section.schema, target))
            .map_or_else(|| path.to_owned(), |section| section.path.clone());
        let anchor: String = path.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).collect();
        below.push(Section { path, schema: target });
        format!("[mapping](#{})", anchor.to_lowercase())
    }

    fn target(&self, value: &Value) -> Option<&'s Value> {
        name(value).map(|name| &self.definitions[name])
    }

    /// A value that some manifest has at the path.
    fn example(&self, path: &str) -> String {
        let keys: Vec<_> = path.split('.').collect();
        let mut found = self.manifests.iter().flat_map(|manifest| at(manifest, &keys));
        let first = found.next().unwrap_or_else(|| panic!("no manifest has `{path}`"));
        let all: Vec<_> = std::iter::once(first).chain(found).collect();
        let short = all.into_iter().map(flow).find(|text| text.len() <= 60 && !text.contains("\\n"));
        short.map(|text| format!("`{text}`")).unwrap_or_default()
    }

    fn kind(&self, name: &str, text: &mut String) {
        let definition = &self.definitions[name];
        let description = flowing(definition["description"].as_str().unwrap_or(""));
        let form = match (definition["pattern"].as_str(), definition["oneOf"].as_array()) {
            (Some(pattern), _) => format!("`{}`", pattern.replace('|', "\\|")),
            (None, Some(choices)) => choices.iter().map(choice).collect::<Vec<_>>().join("; "),
            (None, None) if definition["const"].is_number() => format!("`{}`", definition["const"]),
            (None, None) if definition["anyOf"].is_array() => "a text, or `{ref: …}`".to_owned(),
            (None, None) => "text".to_owned(),
        };
        writeln!(text, "| {} | {form} | {description} |", words(name)).unwrap();
    }
}

/// One of several: a word, or a mapping with one key.
fn choice(choice: &Value) -> String {
    let meaning = flowing(choice["description"].as_str().unwrap_or("")).trim_end_matches('.').to_owned();
    match (choice["const"].as_str(), choice["properties"].as_object()) {
        (Some(word), _) => format!("`{word}`: {meaning}"),
        (None, Some(properties)) => {
            format!("`{{{}: …}}`: {meaning}", properties.keys().cloned().collect::<Vec<_>>().join(", "))
        }
        (None, None) => meaning,
    }
}

fn name(value: &Value) -> Option<&str> {
    value["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// `DatabaseName` as `database name`.
fn words(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// A text in one line, as a table takes it.
fn flowing(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// All values at a path; `<name>` stands for any key.
fn at<'v>(value: &'v Value, keys: &[&str]) -> Vec<&'v Value> {
    let Some((key, rest)) = keys.split_first() else { return vec![value] };
    match value {
        Value::Object(map) if *key == "<name>" => map.values().flat_map(|value| at(value, rest)).collect(),
        Value::Object(map) => map.get(*key).into_iter().flat_map(|value| at(value, rest)).collect(),
        Value::Array(items) => items.iter().flat_map(|item| at(item, keys)).collect(),
        _ => Vec::new(),
    }
}

/// A value as YAML in one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries: Vec<_> = map.iter().map(|(key, value)| format!("{key}: {}", flow(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether a text is one without quotes.
fn is_plain(text: &str) -> bool {
    let first = text.chars().next();
    first.is_some_and(|c| c.is_ascii_alphanumeric() || c == '/')
        && !text.contains([',', '{', '}', '[', ']', '"', '#'])
        && !text.contains(": ")
        && !text.contains("**")
        && text.parse::<f64>().is_err()
        && !matches!(text, "true" | "false" | "null")
}
