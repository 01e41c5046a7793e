//! serde from a [`Node`], so that the manifest's types say what it may contain and every mistake still knows its place.

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor, value::StrDeserializer};

use super::{
    ManifestError, Place,
    yaml::{Node, Value},
};

/// Reads a `T` out of `node`; `path` is where the node stands in the manifest.
pub(super) fn from_node<'de, T: de::Deserialize<'de>>(node: &'de Node, path: &str) -> Result<T, ManifestError> {
    T::deserialize(NodeDeserializer { node, path: path.to_owned(), as_written: false })
}

/// The name of a newtype in which a scalar is a number or a boolean where it is written as one. Elsewhere the types know what
/// they want, and where they want a text, `1.10` is one.
const AS_WRITTEN: &str = "$as written";

/// The name of the type that says where a secret is.
const NAMED_ONLY: &str = "SecretRef";

/// The tree as JSON, each scalar as what it is written as.
#[cfg(test)]
pub(super) fn as_written(node: &Node) -> Result<serde_json::Value, ManifestError> {
    de::Deserialize::deserialize(NodeDeserializer { node, path: String::new(), as_written: true })
}

struct NodeDeserializer<'de> {
    node: &'de Node,
    path: String,
    as_written: bool,
}

impl de::Error for ManifestError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        ManifestError::new(Place::UNKNOWN, "", message.to_string())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut error = Self::custom(format_args!("`{field}` is not a key that is known here"));
        error.suggestion = nearest(field, expected);
        error.unknown_key = Some(field.to_owned());
        error
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let mut error = Self::custom(format_args!("`{variant}` is not one of {}", list(expected)));
        error.suggestion = near(variant, expected);
        error
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("`{field}` is missing"))
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What was probably meant, or all there is.
pub(crate) fn nearest(word: &str, known: &[&str]) -> Option<String> {
    near(word, known).or_else(|| (!known.is_empty()).then(|| format!("known here: {}", list(known))))
}

/// What was probably meant.
fn near(word: &str, known: &[&str]) -> Option<String> {
    let (distance, name) = known.iter().map(|name| (strsim::damerau_levenshtein(word, name), *name)).min()?;
    (distance <= name.len().max(word.len()).div_ceil(3).max(1)).then(|| format!("did you mean `{name}`?"))
}

impl<'de> NodeDeserializer<'de> {
    /// Adds place and path to an error that has none yet: the innermost value that can tell does.
    fn located<T>(&self, result: Result<T, ManifestError>) -> Result<T, ManifestError> {
        result.map_err(|error| error.at(self.node.place, &self.path))
    }

    fn wrong(&self, expected: &str) -> ManifestError {
        ManifestError::new(
            self.node.place,
            &self.path,
            format!("{expected} is expected here, not {}", self.node.kind()),
        )
    }

    fn scalar(&self, expected: &str) -> Result<&'de str, ManifestError> {
        match &self.node.value {
            Value::Scalar { text, .. } if !self.node.is_null() => Ok(text),
            _ => Err(self.wrong(expected)),
        }
    }

    /// Reads a mapping. Where its keys are the manifest's own, `x-…` is a person's: a place for notes and anchors.
    fn entries<V: Visitor<'de>>(self, with_extensions: bool, visitor: V) -> Result<V::Value, ManifestError> {
        let Value::Map(entries) = &self.node.value else { return Err(self.wrong("a mapping")) };
        let access = Entries {
            entries: entries.iter(),
            with_extensions,
            value: None,
            path: self.path.clone(),
            as_written: self.as_written,
        };
        let result = visitor.visit_map(access).map_err(|error| match &error.unknown_key {
            // The key itself is what is wrong: point at it, not at the mapping it stands in.
            Some(unknown) => match entries.iter().find(|(key, _)| key.text == *unknown) {
                Some((key, _)) => {
                    let path = join(&self.path, unknown);
                    error.at(key.place, &path)
                }
                None => error,
            },
            None => error,
        });
        self.located(result)
    }

    fn plain(&self, expected: &str) -> Result<&'de str, ManifestError> {
        match &self.node.value {
            Value::Scalar { text, plain: true } if !self.node.is_null() => Ok(text),
            _ => Err(self.wrong(expected)),
        }
    }
}

macro_rules! number {
    ($method:ident, $visit:ident, $type:ty, $expected:literal) => {
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ManifestError> {
            let number: $type = self.plain($expected)?.parse().map_err(|_| self.wrong($expected))?;
            self.located(visitor.$visit(number))
        }
    };
}

impl<'de> de::Deserializer<'de> for NodeDeserializer<'de> {
    type Error = ManifestError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ManifestError> {
        match &self.node.value {
            _ if self.node.is_null() => self.located(visitor.visit_unit()),
            Value::Scalar { text, plain: true } if self.as_written => match serde_json::from_str(text) {
                Ok(serde_json::Value::Bool(value)) => self.located(visitor.visit_bool(value)),
                Ok(serde_json::Value::Number(number)) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                    (Some(number), _, _) => self.located(visitor.visit_u64(number)),
                    (_, Some(number), _) => self.located(visitor.visit_i64(number)),
                    (_, _, Some(number)) => self.located(visitor.visit_f64(number)),
                    (None, None, None) => self.deserialize_str(visitor),
                },
                _ => self.deserialize_str(visitor),
            },
            Value::Scalar { .. } => self.deserialize_str(visitor),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ManifestError> {
        match self.plain("`true` or `false`")? {
            "true" => self.located(visitor.visit_bool(true)),
            "false" => self.located(visitor.visit_bool(false)),
            _ => Err(self.wrong("`true` or `false`")),
        }
    }

    number!(deserialize_u8, visit_u8, u8, "a whole number from 0 to 255");
    number!(deserialize_u16, visit_u16, u16, "a whole number from 0 to 65535");
    number!(deserialize_u32, visit_u32, u32, "a whole number");
    number!(deserialize_u64, visit_u64, u64, "a whole number");
    number!(deserialize_i64, visit_i64, i64, "a whole number");
    number!(deserialize_f64, visit_f64, f64, "a number");

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ManifestError> {
        let text = self.scalar("a text")?;
        self.located(visitor.visit_borrowed_str(text))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ManifestError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ManifestError> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ManifestError> {
        self.as_written |= name == AS_WRITTEN;
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ManifestError> {
        let Value::List(items) = &self.node.value else { return Err(self.wrong("a list")) };
        let access = Items { items: items.iter().enumerate(), path: self.path.clone(), as_written: self.as_written };
        self.located(visitor.visit_seq(access))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ManifestError> {
        self.entries(false, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ManifestError> {
        self.entries(true, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ManifestError> {
        let result = match &self.node.value {
            // What stands here may be a secret, which no message repeats.
            Value::Scalar { .. } if name == NAMED_ONLY => Err(ManifestError::new(
                self.node.place,
                &self.path,
                "a secret is never written here but named: {secretsmanager: name}, {ssm: /path} or {ref: secrets.name}",
            )),
            Value::Scalar { text, .. } if !self.node.is_null() => visitor.visit_enum(text.as_str().into_deserializer()),
            Value::Map(entries) if entries.len() == 1 => visitor.visit_enum(OneEntry { deserializer: &self }),
            Value::Map(_) => Err(ManifestError::new(self.node.place, &self.path, "exactly one key is expected here")),
            _ => Err(self.wrong("a text or a mapping with one key")),
        };
        self.located(result)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 f32 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
    path: String,
    as_written: bool,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = ManifestError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ManifestError> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        value(seed, node, format!("{}[{index}]", self.path), self.as_written).map(Some)
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, (super::yaml::Key, Node)>,
    with_extensions: bool,
    value: Option<(&'de str, &'de Node)>,
    path: String,
    as_written: bool,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = ManifestError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ManifestError> {
        let with_extensions = self.with_extensions;
        let entry = self.entries.find(|(key, _)| !(with_extensions && key.text.starts_with("x-")));
        let Some((key, node)) = entry else { return Ok(None) };
        self.value = Some((&key.text, node));
        let text: StrDeserializer<'_, ManifestError> = key.text.as_str().into_deserializer();
        seed.deserialize(text).map(Some).map_err(|error| {
            if error.unknown_key.is_some() { error } else { error.at(key.place, &join(&self.path, &key.text)) }
        })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ManifestError> {
        let (key, node) = self.value.take().ok_or_else(|| de::Error::custom("a value before its key"))?;
        value(seed, node, join(&self.path, key), self.as_written)
    }
}

/// Reads one value. A conversion that the type does after reading has no place of its own: it gets the value's.
fn value<'de, S: DeserializeSeed<'de>>(
    seed: S,
    node: &'de Node,
    path: String,
    as_written: bool,
) -> Result<S::Value, ManifestError> {
    let deserializer = NodeDeserializer { node, path: path.clone(), as_written };
    seed.deserialize(deserializer).map_err(|error| error.at(node.place, &path))
}

/// An enum written as a mapping of its variant to its content.
struct OneEntry<'a, 'de> {
    deserializer: &'a NodeDeserializer<'de>,
}

impl<'de> de::EnumAccess<'de> for OneEntry<'_, 'de> {
    type Error = ManifestError;
    type Variant = Content<'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Content<'de>), ManifestError> {
        let Value::Map(entries) = &self.deserializer.node.value else {
            return Err(self.deserializer.wrong("a mapping"));
        };
        let Some((key, node)) = entries.first() else { return Err(self.deserializer.wrong("a mapping with one key")) };
        let path = join(&self.deserializer.path, &key.text);
        let text: StrDeserializer<'_, ManifestError> = key.text.as_str().into_deserializer();
        let variant = seed.deserialize(text).map_err(|error| error.at(key.place, &path))?;
        let as_written = self.deserializer.as_written;
        Ok((variant, Content(NodeDeserializer { node, path, as_written })))
    }
}

struct Content<'de>(NodeDeserializer<'de>);

impl<'de> de::VariantAccess<'de> for Content<'de> {
    type Error = ManifestError;

    fn unit_variant(self) -> Result<(), ManifestError> {
        if self.0.node.is_null() { Ok(()) } else { Err(self.0.wrong("nothing")) }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ManifestError> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ManifestError> {
        de::Deserializer::deserialize_seq(self.0, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ManifestError> {
        de::Deserializer::deserialize_map(self.0, visitor)
    }
}
