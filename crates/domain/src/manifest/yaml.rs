//! YAML as a tree that remembers where each value was written, so that a mistake can be pointed at after environments were
//! merged over the base.

use std::{borrow::Cow, collections::HashMap};

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::{ManifestError, Place};

/// More values than any manifest has. Aliases are expanded, and count: a few lines of them could otherwise fill the memory.
const MOST_NODES: usize = 50_000;

/// Deeper than any manifest is.
const MOST_LEVELS: usize = 64;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A scalar's own text, as written: `"3000"` and `3000` differ by `plain` alone.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    /// In the order of the file. Each key with the place it stands.
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) place: Place,
}

impl Node {
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What kind of value it is, for a message.
    pub(super) fn kind(&self) -> Cow<'static, str> {
        match &self.value {
            _ if self.is_null() => "nothing".into(),
            Value::Scalar { text, .. } => format!("`{}`", text.chars().take(60).collect::<String>()).into(),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }

    /// `over` laid over `self`: mappings key by key, anything else replaced. Nothing (`null`) takes away what was there.
    pub(super) fn merged(self, over: Node) -> Node {
        match (self.value, over.value) {
            (Value::Map(mut base), Value::Map(over_entries)) => {
                for (key, value) in over_entries {
                    match base.iter().position(|(k, _)| k.text == key.text) {
                        Some(index) if value.is_null() => {
                            base.remove(index);
                        }
                        Some(index) => {
                            let old = std::mem::replace(&mut base[index], (key, value.clone()));
                            base[index].1 = old.1.merged(value);
                        }
                        None => base.push((key, value)),
                    }
                }
                Node { place: over.place, value: Value::Map(base) }
            }
            (_, value) => Node { place: over.place, value },
        }
    }

    /// Takes the entry of a mapping out of it.
    pub(super) fn take(&mut self, key: &str) -> Option<(Key, Node)> {
        let Value::Map(entries) = &mut self.value else { return None };
        let index = entries.iter().position(|(k, _)| k.text == key)?;
        Some(entries.remove(index))
    }

    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Node::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.size()).sum(),
        }
    }
}

/// Reads one YAML document.
pub(super) fn read(text: &str) -> Result<Node, ManifestError> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut root = None;
    loop {
        let (event, place) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ if root.is_some() => {
                return Err(ManifestError::new(place, "", "a manifest is one YAML document; this is a second one"));
            }
            event => root = Some(reader.node(event, place, 0)?),
        }
    }
    root.ok_or_else(|| ManifestError::new(Place { line: 1, column: 1 }, "", "the manifest is empty"))
}

struct Reader<'t> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Place), ManifestError> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, Place { line: 1, column: 1 })),
            Some(Ok((event, span))) => Ok((event, Place::of(&span.start))),
            Some(Err(error)) => {
                Err(ManifestError::new(Place::of(error.marker()), "", format!("this is not YAML: {}", error.info())))
            }
        }
    }

    fn node(&mut self, event: Event<'t>, place: Place, level: usize) -> Result<Node, ManifestError> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(ManifestError::new(place, "", format!("a manifest has at most {MOST_NODES} values")));
        }
        if level > MOST_LEVELS {
            return Err(ManifestError::new(place, "", format!("a manifest is at most {MOST_LEVELS} levels deep")));
        }
        let (anchor, value) = match event {
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned().ok_or_else(|| {
                    ManifestError::new(place, "", "an alias must follow its anchor, and cannot stand inside it")
                })?;
                self.nodes += node.size();
                return Ok(Node { place, ..node });
            }
            Event::Scalar(text, style, anchor, _) => {
                (anchor, Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain })
            }
            Event::SequenceStart(anchor, _) => (anchor, Value::List(self.list(level)?)),
            Event::MappingStart(anchor, _) => (anchor, Value::Map(self.map(level)?)),
            _ => return Err(ManifestError::new(place, "", "this is not YAML: a value is missing")),
        };
        let node = Node { place, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, level: usize) -> Result<Vec<Node>, ManifestError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, place) => items.push(self.node(event, place, level + 1)?),
            }
        }
    }

    fn map(&mut self, level: usize) -> Result<Vec<(Key, Node)>, ManifestError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut merges = Vec::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => break,
                (event, place) => match self.node(event, place, level + 1)? {
                    Node { value: Value::Scalar { text, .. }, place } => Key { text, place },
                    node => return Err(ManifestError::new(node.place, "", "a key is a plain text")),
                },
            };
            let (event, place) = self.next()?;
            let value = self.node(event, place, level + 1)?;
            if key.text == "<<" {
                merges.push(value);
            } else if entries.iter().any(|(k, _)| k.text == key.text) {
                return Err(ManifestError::new(
                    key.place,
                    &key.text,
                    format!("`{}` is here for the second time", key.text),
                ));
            } else {
                entries.push((key, value));
            }
        }
        for merge in merges {
            let sources = match merge.value {
                Value::Map(map) => vec![map],
                Value::List(items) => items
                    .into_iter()
                    .map(|item| match item.value {
                        Value::Map(map) => Ok(map),
                        _ => Err(ManifestError::new(item.place, "<<", "`<<` takes mappings")),
                    })
                    .collect::<Result<_, _>>()?,
                Value::Scalar { .. } => return Err(ManifestError::new(merge.place, "<<", "`<<` takes a mapping")),
            };
            for (key, value) in sources.into_iter().flatten() {
                if !entries.iter().any(|(k, _)| k.text == key.text) {
                    entries.push((key, value));
                }
            }
        }
        Ok(entries)
    }
}
