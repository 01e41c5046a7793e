//! CloudFormation templates as they are written: YAML with the short forms of functions (`!Ref`), or JSON.
//!
//! What is read is only looked at: a template that stands was taken by CloudFormation, and one that does not read as a tree is told as
//! such. Nothing here fails for a template's content.

use std::collections::{BTreeMap, HashMap};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::value::Value;

/// More values than a template of 1 MB has. Aliases are expanded, and count.
const MOST_NODES: usize = 200_000;

/// Deeper than any template is; CloudFormation's own limit is lower.
const MOST_LEVELS: usize = 128;

/// Why a template is not a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the template cannot be read: {0}")]
pub struct Unreadable(String);

/// Reads a template. Short forms are given their long names: `!Ref A` becomes `{Ref: A}`.
///
/// # Errors
/// It is neither YAML nor JSON, or is deeper or larger than any template.
pub fn read(text: &str) -> Result<Value, Unreadable> {
    // Every JSON text is YAML but for a few escapes.
    if text.trim_start().starts_with('{')
        && let Ok(json) = serde_json::from_str(text)
    {
        return Ok(of_json(json));
    }
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    loop {
        match reader.next()? {
            Event::StreamEnd => return Ok(Value::Nothing),
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            event => return reader.value(event, 0),
        }
    }
}

fn of_json(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nothing,
        serde_json::Value::Bool(value) => Value::text(value.to_string()),
        serde_json::Value::Number(value) => Value::text(value.to_string()),
        serde_json::Value::String(value) => Value::Text(value),
        serde_json::Value::Array(items) => Value::List(items.into_iter().map(of_json).collect()),
        serde_json::Value::Object(map) => {
            Value::Map(map.into_iter().map(|(key, value)| (key, of_json(value))).collect())
        }
    }
}

struct Reader<'t> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    anchors: HashMap<usize, (Value, usize)>,
    nodes: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Event<'t>, Unreadable> {
        match self.parser.next_event() {
            None => Ok(Event::StreamEnd),
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(Unreadable(error.info().to_owned())),
        }
    }

    fn value(&mut self, event: Event<'t>, level: usize) -> Result<Value, Unreadable> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(Unreadable(format!("it has more than {MOST_NODES} values")));
        }
        if level > MOST_LEVELS {
            return Err(Unreadable(format!("it is more than {MOST_LEVELS} levels deep")));
        }
        let before = self.nodes;
        let (anchor, tag, value) = match event {
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let (value, size) = known.ok_or_else(|| Unreadable("an alias has no anchor before it".to_owned()))?;
                self.nodes += size;
                return Ok(value);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let nothing = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                (anchor, tag, if nothing { Value::Nothing } else { Value::Text(text.into_owned()) })
            }
            Event::SequenceStart(anchor, tag) => (anchor, tag, self.list(level)?),
            Event::MappingStart(anchor, tag) => (anchor, tag, self.map(level)?),
            _ => return Err(Unreadable("a value is missing".to_owned())),
        };
        let value = match tag {
            Some(tag) => called(&tag, value),
            None => value,
        };
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), self.nodes - before + 1));
        }
        Ok(value)
    }

    fn list(&mut self, level: usize) -> Result<Value, Unreadable> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Value::List(items)),
                event => items.push(self.value(event, level + 1)?),
            }
        }
    }

    fn map(&mut self, level: usize) -> Result<Value, Unreadable> {
        let mut map = BTreeMap::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(Value::Map(map)),
                event => match self.value(event, level + 1)? {
                    Value::Text(text) => text,
                    other => other.to_string(),
                },
            };
            let event = self.next()?;
            let value = self.value(event, level + 1)?;
            map.insert(key, value);
        }
    }
}

/// A value with a tag: a function in its short form. YAML's own tags (`!!str`) change nothing here.
fn called(tag: &Tag, value: Value) -> Value {
    if tag.handle != "!" {
        return value;
    }
    let (name, argument) = match (tag.suffix.as_str(), value) {
        ("Ref" | "Condition", value) => (tag.suffix.clone(), value),
        // `!GetAtt A.B.C` is `[A, B.C]`.
        ("GetAtt", Value::Text(text)) => {
            let (resource, attribute) = text.split_once('.').unwrap_or((&text, ""));
            ("Fn::GetAtt".to_owned(), Value::List(vec![Value::text(resource), Value::text(attribute)]))
        }
        (name, value) => (format!("Fn::{name}"), value),
    };
    Value::Map(BTreeMap::from([(name, argument)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        read(text).unwrap().to_string()
    }

    #[test]
    fn short_and_long_forms_and_json_are_the_same() {
        let short = "A: !Ref B\nC: !GetAtt D.E.F\nG: !Sub ['${x}', {x: !Ref Y}]\nH: !If [I, 80, !Ref 'AWS::NoValue']\n";
        let long = "A: {Ref: B}\nC: {'Fn::GetAtt': [D, E.F]}\nG: {'Fn::Sub': ['${x}', {x: {Ref: Y}}]}\nH: {'Fn::If': [I, '80', {Ref: 'AWS::NoValue'}]}\n";
        let json = r#"{"A": {"Ref": "B"}, "C": {"Fn::GetAtt": ["D", "E.F"]}, "G": {"Fn::Sub": ["${x}", {"x": {"Ref": "Y"}}]}, "H": {"Fn::If": ["I", 80, {"Ref": "AWS::NoValue"}]}}"#;
        assert_eq!(read(short).unwrap(), read(long).unwrap());
        assert_eq!(read(short).unwrap(), read(json).unwrap());
        assert_eq!(shown(short).matches("Fn::GetAtt: [D, E.F]").count(), 1);
    }

    #[test]
    fn texts_stay_as_they_are_written() {
        assert_eq!(
            shown("Version: 2012-10-17\nPort: 080\nOn: true\nText: |\n  a\n  b\n"),
            "{On: true, Port: 080, Text: a\nb\n, Version: 2012-10-17}"
        );
        assert_eq!(shown("A: &x {b: 1}\nC: *x\n"), "{A: {b: 1}, C: {b: 1}}");
    }

    #[test]
    fn what_is_no_tree_is_told() {
        for text in ["a: [", "{\"a\": ", "a: *b"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read(""), Ok(Value::Nothing));
        let bomb = (1..30)
            .fold("a0: &a0 [x]\n".to_owned(), |text, n| text + &format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1));
        assert!(read(&bomb).unwrap_err().to_string().contains("values"));
        assert!(read(&"[".repeat(5000)).is_err());
    }
}
