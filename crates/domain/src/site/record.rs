//! What a release writes down of the site's bucket: everything that is in it when the release is done.

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeStruct};

use crate::{edge::Edge, name::ReleaseId};

/// The form in which a record is written. A record of any other form is as good as none.
const VERSION: u32 = 2;

/// Everything that a release leaves in the bucket, by key: what it wants, and what others want or wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteManifest {
    /// The objects that the release wants.
    pub objects: BTreeMap<String, SiteObject>,
    /// What else is there: for releases that are kept, and for pages that visitors have open.
    pub retired: BTreeMap<String, Retired>,
    /// The keys that are deleted when the release is live, sorted.
    pub condemned: Vec<String>,
    /// The releases whose objects are kept, this one first.
    pub kept: Vec<ReleaseId>,
    /// What the edge must know.
    pub edge: Edge,
    /// The content of `config.json`, where the environment's manifest gives it.
    pub config: Option<String>,
}

/// One object as a release wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteObject {
    /// The content's CRC-32.
    pub crc32: u32,
    /// The content's size.
    pub size: u64,
    /// The content's SHA-256, from when it was first read.
    pub sha256: Option<Sha256>,
    /// The headers. A site has few different ones.
    pub headers: Arc<Headers>,
    /// The file's path, where the object has another key because URLs without an extension must find it.
    pub file: Option<Box<str>>,
}

/// The headers of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Headers {
    /// The `Content-Type`.
    #[serde(rename = "type")]
    pub content_type: String,
    /// The `Cache-Control`.
    #[serde(rename = "cache")]
    pub cache_control: String,
    /// The `Content-Encoding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
}

/// An object that the release does not want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// What it is; nothing where a release that was cut off may have overwritten it, or where only a list of the bucket told
    /// of it.
    pub object: Option<SiteObject>,
    /// The last release that wanted it and was live.
    pub last: Option<ReleaseId>,
    /// Since when no release that is live wants it.
    pub since: Timestamp,
}

impl SiteObject {
    /// Whether a visitor would get the same from both: the CRC-32 with the size stand for the content, and the SHA-256 where
    /// it is known of both.
    pub fn serves_as(&self, other: &SiteObject) -> bool {
        let same_hash = self.sha256.zip(other.sha256).is_none_or(|(mine, theirs)| mine == theirs);
        same_hash && self.crc32 == other.crc32 && self.size == other.size && self.headers == other.headers
    }

    /// The `Cache-Control` header.
    pub fn cache_control(&self) -> &str {
        &self.headers.cache_control
    }
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 64];
        for (index, byte) in self.0.iter().enumerate() {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            text[2 * index] = HEX[usize::from(byte >> 4)];
            text[2 * index + 1] = HEX[usize::from(byte & 15)];
        }
        serializer.serialize_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sha256, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Sha256;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 hexadecimal digits")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Sha256, E> {
                let digit = |at: usize| char::from(*text.as_bytes().get(at)?).to_digit(16);
                let mut bytes = [0; 32];
                for (index, byte) in bytes.iter_mut().enumerate() {
                    let pair = digit(2 * index).zip(digit(2 * index + 1));
                    let (high, low) = pair.ok_or_else(|| E::custom("64 hexadecimal digits are expected here"))?;
                    *byte = (high << 4 | low) as u8;
                }
                if text.len() == 64 { Ok(Sha256(bytes)) } else { Err(E::custom("a SHA-256 has 64 digits")) }
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// Numbers values in the order in which they come; equal ones have one number.
struct Table<'a, T>(BTreeMap<&'a T, u32>, Vec<&'a T>);

impl<'a, T: Ord> Table<'a, T> {
    fn of(values: impl Iterator<Item = &'a T>) -> Table<'a, T> {
        let mut table = Table(BTreeMap::new(), Vec::new());
        for value in values {
            let next = table.1.len() as u32;
            if *table.0.entry(value).or_insert(next) == next {
                table.1.push(value);
            }
        }
        table
    }

    fn number(&self, value: &T) -> Option<u32> {
        self.0.get(value).copied()
    }
}

type Content = (u32, u64, Option<Sha256>, Option<u32>);

impl Serialize for SiteManifest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let retired = self.retired.values().filter_map(|retired| retired.object.as_ref());
        let headers = Table::of(self.objects.values().chain(retired).map(|object| &*object.headers));
        let releases = Table::of(self.retired.values().filter_map(|retired| retired.last.as_ref()));
        let content = |object: &SiteObject| -> Content {
            (object.crc32, object.size, object.sha256, headers.number(&object.headers))
        };
        let mut record = serializer.serialize_struct("SiteManifest", 9)?;
        record.serialize_field("version", &VERSION)?;
        record.serialize_field("kept", &self.kept)?;
        record.serialize_field("edge", &self.edge)?;
        record.serialize_field("config", &self.config)?;
        record.serialize_field("headers", &headers.1)?;
        record.serialize_field("releases", &releases.1)?;
        record.serialize_field(
            "objects",
            &Rows(|| self.objects.iter().map(|(key, object)| (key, content(object), object.file.as_deref()))),
        )?;
        record.serialize_field(
            "retired",
            &Rows(|| {
                self.retired.iter().map(|(key, retired)| {
                    let last = retired.last.as_ref().and_then(|last| releases.number(last));
                    (key, retired.object.as_ref().map(content), last, retired.since.as_second())
                })
            }),
        )?;
        record.serialize_field("condemned", &self.condemned)?;
        record.end()
    }
}

/// What an iterator gives, written as a list without being gathered first.
struct Rows<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for Rows<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

#[derive(Deserialize)]
struct Wire {
    version: u32,
    kept: Vec<ReleaseId>,
    edge: Edge,
    config: Option<String>,
    headers: Vec<Headers>,
    releases: Vec<ReleaseId>,
    objects: Vec<(String, Content, Option<Box<str>>)>,
    retired: Vec<(String, Option<Content>, Option<u32>, i64)>,
    condemned: Vec<String>,
}

impl<'de> Deserialize<'de> for SiteManifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SiteManifest, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        if wire.version != VERSION {
            return Err(D::Error::custom(format_args!("version {} is not known here", wire.version)));
        }
        let headers: Vec<Arc<Headers>> = wire.headers.into_iter().map(Arc::new).collect();
        let missing = || D::Error::custom("a number stands for nothing");
        let object = |(crc32, size, sha256, number): Content, file| {
            let headers = number.and_then(|number| headers.get(number as usize)).map(Arc::clone);
            Ok(SiteObject { crc32, size, sha256, headers: headers.ok_or_else(missing)?, file })
        };
        let objects = wire.objects.into_iter().map(|(key, content, file)| Ok((key, object(content, file)?)));
        let objects = objects.collect::<Result<_, D::Error>>()?;
        let retired = wire.retired.into_iter().map(|(key, content, last, since)| {
            let retired = Retired {
                object: content.map(|content| object(content, None)).transpose()?,
                last: last.map(|number| wire.releases.get(number as usize).cloned().ok_or_else(missing)).transpose()?,
                since: Timestamp::from_second(since).map_err(D::Error::custom)?,
            };
            Ok((key, retired))
        });
        let retired = retired.collect::<Result<_, D::Error>>()?;
        Ok(SiteManifest {
            objects,
            retired,
            condemned: wire.condemned,
            kept: wire.kept,
            edge: wire.edge,
            config: wire.config,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(crc32: u32, cache_control: &str) -> SiteObject {
        let headers = Headers {
            content_type: "text/html".to_owned(),
            cache_control: cache_control.to_owned(),
            encoding: (crc32 == 2).then(|| "br".to_owned()),
        };
        SiteObject { crc32, size: 5, sha256: Some(Sha256([crc32 as u8; 32])), headers: Arc::new(headers), file: None }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let (first, second): (ReleaseId, ReleaseId) =
            ("20261121T030000000-000001".parse().unwrap(), "20261121T040000000-000002".parse().unwrap());
        let since = Timestamp::from_second(1_700_000_000).unwrap();
        let retired = |object, last| Retired { object, last, since };
        let mut record = SiteManifest {
            condemned: vec!["x".to_owned()],
            kept: vec![second.clone(), first.clone()],
            config: Some("{}".to_owned()),
            ..SiteManifest::default()
        };
        record.objects.insert("index.html".to_owned(), object(1, "no-cache"));
        record.objects.insert("a.js".to_owned(), object(2, "immutable"));
        let alias = SiteObject { file: Some("a/index.html".into()), sha256: None, ..object(3, "no-cache") };
        record.objects.insert("a.html".to_owned(), alias);
        record.retired.insert("old.js".to_owned(), retired(Some(object(4, "immutable")), Some(first)));
        record.retired.insert("unknown.js".to_owned(), retired(None, None));
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(text.matches("immutable").count(), 2, "headers are written once each: {text}");
        assert_eq!(serde_json::from_str::<SiteManifest>(&text).unwrap(), record);
        assert!(serde_json::from_str::<SiteManifest>(&text.replace("\"version\":2", "\"version\":1")).is_err());
        assert!(serde_json::from_str::<SiteManifest>(r#"{"objects":{}}"#).is_err());
        let cut = &text[..text.len() / 2];
        assert!(serde_json::from_str::<SiteManifest>(cut).is_err());
    }
}
