//! The difference between what a release wants and what is in the bucket: all the work there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    slice,
};

use jiff::Timestamp;

use super::{
    archive::Contents,
    name::{CONFIG, Phase, is_page},
    record::{Sha256, SiteManifest, SiteObject},
};
use crate::{edge::Edge, invalidation, manifest::spec::Verify, name::ReleaseId};

/// What was written down of the bucket before a release.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The live release's record.
    pub live: Option<SiteManifest>,
    /// Whether there is a live release and no record of it that can be read.
    pub is_lost: bool,
    /// Whether what the live release condemned was deleted.
    pub is_cleaned: bool,
    /// The records of the releases that were cut off; nothing where one is gone: that release may have overwritten anything.
    pub unfinished: Vec<Option<SiteManifest>>,
    /// Whether none of it is to be trusted.
    pub repair: bool,
}

/// A key that may be in the bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen<'a> {
    /// What is there for certain.
    pub(super) object: Option<&'a SiteObject>,
    /// The last release that wanted it and was live.
    pub(super) last: Option<&'a ReleaseId>,
    /// Since when no live release wants it; nothing where the live one does, or where nobody knows.
    pub(super) since: Option<Timestamp>,
}

/// Everything that may be in the bucket, by what was written down of it.
#[derive(Debug)]
pub struct Bucket<'a> {
    pub(super) keys: BTreeMap<&'a str, Seen<'a>>,
    /// What was to be deleted and may not have been.
    pub(super) doomed: BTreeSet<&'a str>,
    /// The releases that are kept, the newest first.
    pub(super) kept: &'a [ReleaseId],
}

impl<'a> Bucket<'a> {
    /// What the live release left, as far as releases that were cut off have not touched it; and what those may have put beside.
    pub fn of(before: &'a Before) -> Bucket<'a> {
        let mut bucket = Bucket { keys: BTreeMap::new(), doomed: BTreeSet::new(), kept: &[] };
        if let Some(live) = &before.live {
            bucket.kept = &live.kept;
            let last = live.kept.first();
            bucket.keys.extend(
                live.objects
                    .iter()
                    .map(|(key, object)| (key.as_str(), Seen { object: Some(object), last, since: None })),
            );
            bucket.keys.extend(live.retired.iter().map(|(key, retired)| {
                let (object, last) = (retired.object.as_ref(), retired.last.as_ref());
                (key.as_str(), Seen { object, last, since: Some(retired.since) })
            }));
            if !before.is_cleaned {
                bucket.doomed.extend(live.condemned.iter().map(String::as_str));
            }
        }
        for unfinished in before.unfinished.iter().flatten() {
            // A page of such a release may have served until now, and what it refers to with it.
            for (key, object) in &unfinished.objects {
                bucket
                    .keys
                    .entry(key)
                    .and_modify(|seen| {
                        seen.object = seen.object.filter(|there| there.serves_as(object));
                        // An old page that may have been replaced goes with what it referred to.
                        if seen.object.is_some() || !is_page(key) {
                            seen.since = None;
                        }
                    })
                    .or_default();
                bucket.doomed.remove(key.as_str());
            }
            for (key, retired) in &unfinished.retired {
                bucket.keys.entry(key).or_insert(Seen { object: None, last: None, since: Some(retired.since) });
            }
            for key in &unfinished.condemned {
                bucket.keys.entry(key).and_modify(|seen| seen.object = None);
            }
        }
        if before.repair || before.unfinished.iter().any(Option::is_none) {
            bucket.keys.values_mut().for_each(|seen| seen.object = None);
        }
        bucket
    }

    /// The same with nothing but what a list of the bucket shows.
    pub fn listed(mut self, keys: &'a BTreeSet<String>) -> Bucket<'a> {
        self.keys.retain(|key, _| keys.contains(*key));
        self.doomed.retain(|key| keys.contains(*key));
        for key in keys {
            self.keys.entry(key).or_default();
        }
        self
    }

    fn holds(&self, key: &str, object: &SiteObject) -> bool {
        self.keys.get(key).and_then(|seen| seen.object).is_some_and(|there| there.serves_as(object))
    }
}

/// What the files are that a release must read: those of which it may have to write something, or all. As indices, in the
/// order in which they lie in the zip.
pub fn unread(contents: &Contents, record: &SiteManifest, bucket: &Bucket<'_>, verify: Verify) -> Vec<usize> {
    let is_written = |(key, object): &(&String, &SiteObject)| verify == Verify::Sha256 || !bucket.holds(key, object);
    let paths = record.objects.iter().filter(is_written).filter_map(|(key, object)| source(record, key, object));
    let files: BTreeSet<usize> = paths.filter_map(|path| contents.find(path)).collect();
    let mut files: Vec<usize> = files.into_iter().collect();
    files.sort_by_key(|file| contents.files[*file].offset);
    files
}

/// The path in the zip of an object's content; none where the content is not from the zip.
fn source<'a>(record: &SiteManifest, key: &'a str, object: &'a SiteObject) -> Option<&'a str> {
    let path = object.file.as_deref().unwrap_or(key);
    (record.config.is_none() || path != CONFIG).then_some(path)
}

/// Writes down the SHA-256 of every object: of what was read, `hashes` by file; of the rest, what is there.
pub fn learn(record: &mut SiteManifest, contents: &Contents, hashes: &BTreeMap<usize, Sha256>, bucket: &Bucket<'_>) {
    let config = record.config.is_some().then(|| record.objects.get(CONFIG).and_then(|object| object.sha256)).flatten();
    for (key, object) in &mut record.objects {
        let path = object.file.as_deref().unwrap_or(key);
        object.sha256 = match config {
            Some(config) if path == CONFIG => Some(config),
            _ => contents.find(path).and_then(|file| hashes.get(&file).copied()).or_else(|| {
                let there = bucket.keys.get(key.as_str()).and_then(|seen| seen.object);
                there.filter(|there| there.serves_as(object)).and_then(|there| there.sha256)
            }),
        };
    }
}

/// What to write under some keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// When.
    pub phase: Phase,
    /// The file, as an index into [`Contents::files`]; none for what is not from the zip.
    pub file: Option<usize>,
    /// An object with the same content that is in the bucket for certain and stays as it is: it can be copied.
    pub copy_of: Option<String>,
    /// The keys.
    pub keys: Vec<String>,
}

/// What must be written: every object that is not there for certain as it is wanted. Ordered by phase, then by place in the
/// zip, so that neighbours are read together. An object whose file is not in the zip, which a record of this very zip never
/// has, is left out.
pub fn uploads(contents: &Contents, record: &SiteManifest, bucket: &Bucket<'_>) -> Vec<Upload> {
    let mut keys: BTreeMap<Option<usize>, Vec<&str>> = BTreeMap::new();
    for (key, object) in record.objects.iter().filter(|(key, object)| !bucket.holds(key, object)) {
        match source(record, key, object) {
            None => keys.entry(None).or_default().push(key),
            Some(path) => {
                if let Some(file) = contents.find(path) {
                    keys.entry(Some(file)).or_default().push(key);
                }
            }
        }
    }
    let hash = |keys: &[&str]| record.objects.get(*keys.first()?)?.sha256;
    let mut sources: BTreeMap<Sha256, Option<&str>> =
        keys.values().filter_map(|keys| Some((hash(keys)?, None))).collect();
    for (key, seen) in &bucket.keys {
        let Some(object) = seen.object else { continue };
        let stays = record.objects.get(*key).is_none_or(|wanted| object.serves_as(wanted));
        if let Some(source) = object.sha256.and_then(|hash| sources.get_mut(&hash))
            && stays
        {
            source.get_or_insert(*key);
        }
    }
    let mut uploads: Vec<Upload> = keys
        .into_iter()
        .map(|(file, keys)| Upload {
            phase: Phase::of(file.map_or(CONFIG, |file| contents.files[file].path())),
            file,
            copy_of: hash(&keys).and_then(|hash| *sources.get(&hash)?).map(str::to_owned),
            keys: keys.into_iter().map(str::to_owned).collect(),
        })
        .collect();
    uploads.sort_by_key(|upload| (upload.phase, upload.file.map(|file| contents.files[file].offset)));
    uploads
}

/// Whether the edge must be told of a release: it may answer with what was replaced or is deleted, or would look for files
/// where they are not.
pub fn concerns_edge(record: &SiteManifest, before: &Before) -> bool {
    if before.repair || before.is_lost {
        return true;
    }
    let default = Edge::default();
    let known = before.live.as_ref().map_or(&default, |live| &live.edge);
    let is_known = |told: &SiteManifest| told.edge == record.edge;
    let is_stale = |before: &[Option<SiteManifest>]| {
        let cached = invalidation::cached(record, before);
        cached.everything || !cached.stale.is_empty()
    };
    *known != record.edge
        || !before.unfinished.iter().flatten().all(is_known)
        || is_stale(&before.unfinished)
        || (before.live.is_some() && is_stale(slice::from_ref(&before.live)))
}
