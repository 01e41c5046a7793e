//! What a site's zip may hold, what it becomes in the bucket, and what has to be uploaded for it.
//!
//! A release's [`SiteManifest`] lists every object that the release wants in the bucket. The difference between two of them is
//! all the work there is: nothing lists the bucket, and nothing reads an object back.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};

use crate::{
    manifest::spec::{CacheRule, Routing},
    name::{AppName, ComponentName, EnvironmentName, ReleaseId},
};

/// How many entries a zip may have. A manifest of this size is about 4 MB, and read in one go.
pub const MAX_ENTRIES: usize = 20_000;

/// How large the files of a zip may be together: what S3 takes in a single PUT, 5 GiB, so that no file can be larger either.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html>
pub const MAX_BYTES: u64 = 5 << 30;

/// A file larger than this may be at most [`MAX_RATIO`] times as large as what is packed of it.
pub const MAX_DENSE_BYTES: u64 = 16 << 20;

/// Text packs 3 to 10 times, the emptiest bitmap or JSON some 100 times. DEFLATE itself ends at 1032.
pub const MAX_RATIO: u64 = 200;

/// The longest key S3 takes, in bytes.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
pub const MAX_KEY: usize = 1024;

/// The page that a visitor sees where nothing is found.
pub const NOT_FOUND_PAGE: &str = "404.html";

const INDEX: &str = "index.html";

/// The key of a release's manifest in the intake bucket.
pub fn manifest_key(app: &AppName, environment: &EnvironmentName, site: &ComponentName, release: &ReleaseId) -> String {
    format!("published/{app}/{environment}/{site}/{release}.json")
}

/// One entry of a zip as its central directory tells it: hostile until [`accept`] has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name's bytes.
    pub name: Vec<u8>,
    /// How large the file says it is.
    pub size: u64,
    /// How many bytes of the zip it says it takes.
    pub packed: u64,
    /// Its CRC-32.
    pub crc32: u32,
    /// Where its local header begins.
    pub offset: u64,
    /// The number of its compression method.
    pub method: u16,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Whether it is a symbolic link.
    pub symlink: bool,
}

/// How an entry is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As it is.
    Stored,
    /// By DEFLATE.
    Deflated,
}

/// A file of an accepted zip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZipFile {
    /// Its path in the site.
    pub path: String,
    /// Its name in the zip, which is longer where a common top folder was stripped.
    pub name: String,
    /// How large it is.
    pub size: u64,
    /// How many bytes of the zip it takes.
    pub packed: u64,
    /// Its CRC-32.
    pub crc32: u32,
    /// Where its local header begins.
    pub offset: u64,
    /// Where it ends at the latest: where the next entry or the central directory begins.
    pub end: u64,
    /// How it is packed.
    pub packing: Packing,
}

/// What an accepted zip holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The files, by path.
    pub files: Vec<ZipFile>,
    /// The top folder that was stripped, as every file was in it.
    pub stripped: Option<String>,
}

/// Why a zip is not published. Each names the entry and the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No end of a central directory.
    #[error("this is not a zip file, or its end is missing; upload the whole file again")]
    NotAZip,
    /// The directory does not say what it should.
    #[error("the zip's directory cannot be read ({0}); pack it again")]
    Directory(String),
    /// The directory counts otherwise than it lists.
    #[error("the zip's directory lists {listed} entries and says that it has {said}; pack it again")]
    Count {
        /// How many there are.
        listed: u64,
        /// How many there should be.
        said: u64,
    },
    /// No file in it.
    #[error("the zip has no file in it; zip the folder that holds index.html")]
    Empty,
    /// More than [`MAX_ENTRIES`].
    #[error("the zip has {0} entries; at most {MAX_ENTRIES} are published")]
    TooManyEntries(u64),
    /// More than [`MAX_BYTES`].
    #[error("the zip's files are {0} bytes together; at most {MAX_BYTES} are published")]
    TooLarge(u64),
    /// Something about one entry.
    #[error("`{name}` in the zip {rule}")]
    Entry {
        /// Its name, shortened and made printable.
        name: String,
        /// The rule that it breaks.
        rule: Rule,
    },
    /// No page to start with.
    #[error("the zip has no index.html at its top{0}; zip the folder that holds it")]
    NoIndex(String),
}

/// A rule that an entry of a zip can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// A password would be needed.
    #[error("is encrypted; pack it without a password")]
    Encrypted,
    /// Neither stored nor deflated.
    #[error("is packed by method {0}; only stored and deflated files are published")]
    Method(u16),
    /// A link points somewhere else.
    #[error("is a symbolic link; put the file itself into the zip")]
    Symlink,
    /// Names are keys and URLs.
    #[error("has a name that is not UTF-8")]
    NotUtf8,
    /// A name must be one.
    #[error("has an empty name")]
    EmptyName,
    /// From the root of a disk.
    #[error("has an absolute path")]
    Absolute,
    /// Out of the folder.
    #[error("has `.`, `..` or nothing between two slashes of its path")]
    Traversal,
    /// Windows's separator.
    #[error("has a backslash in its path; pack it with forward slashes")]
    Backslash,
    /// A Windows drive.
    #[error("has a drive letter in its path")]
    Drive,
    /// NUL, line feed and their like.
    #[error("has a control character in its name")]
    Control,
    /// CloudFront would take it for a wildcard.
    #[error("has a `*` in its name, which an invalidation cannot tell from a wildcard")]
    Star,
    /// S3 takes no longer key.
    #[error("has a path of more than {MAX_KEY} bytes")]
    LongName,
    /// Which one would count?
    #[error("is in it twice")]
    Repeated,
    /// A bomb.
    #[error("would grow to more than {MAX_RATIO} times its packed size")]
    Ratio,
    /// A stored file is as large as what is stored.
    #[error("is stored, yet has two different sizes")]
    StoredSize,
    /// Two entries share bytes, or one reaches into the directory.
    #[error("overlaps what comes after it")]
    Overlap,
    /// The local header tells another story than the directory.
    #[error("has a header of its own that does not agree with the zip's directory; pack it again")]
    Header,
    /// The bytes are not what was packed.
    #[error("is damaged: its content cannot be unpacked; pack and upload it again")]
    Damaged,
    /// The bytes are not what was packed.
    #[error("is damaged: its content does not agree with its checksum; pack and upload it again")]
    Checksum,
    /// More, or less, than the directory says.
    #[error("is damaged: its content has another size than the zip's directory says; pack and upload it again")]
    Size,
}

impl Rule {
    /// The refusal of the entry of this name.
    pub fn broken_by(self, name: &[u8]) -> Refusal {
        let printable: String = String::from_utf8_lossy(name).chars().flat_map(char::escape_debug).take(200).collect();
        Refusal::Entry { name: printable, rule: self }
    }
}

/// Checks everything that a zip's directory can tell, before a byte of any file is read. `directory` is where the central
/// directory begins: nothing of a file may lie behind it.
pub fn accept(entries: Vec<Entry>, directory: u64) -> Result<Contents, Refusal> {
    if entries.len() > MAX_ENTRIES {
        return Err(Refusal::TooManyEntries(entries.len() as u64));
    }
    let mut seen = BTreeSet::new();
    let mut total = 0u64;
    for entry in &entries {
        let broken = |rule: Rule| rule.broken_by(&entry.name);
        check_name(&entry.name).map_err(broken)?;
        check_packing(entry).map_err(broken)?;
        if !seen.insert(entry.name.as_slice()) {
            return Err(broken(Rule::Repeated));
        }
        total = total.saturating_add(entry.size);
    }
    if total > MAX_BYTES {
        return Err(Refusal::TooLarge(total));
    }
    drop(seen);
    let mut files = lay_out(entries, directory)?;
    files.retain(|file| !is_clutter(&file.name) && !file.name.ends_with('/'));
    if files.is_empty() {
        return Err(Refusal::Empty);
    }
    let stripped = top_folder(&files);
    if let Some(top) = &stripped {
        for file in &mut files {
            file.path = file.name[top.len() + 1..].to_owned();
        }
    }
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    if files.binary_search_by(|file| file.path.as_str().cmp(INDEX)).is_err() {
        let nearest = files.iter().filter(|file| file.path.ends_with("/index.html")).min_by_key(|file| file.path.len());
        return Err(Refusal::NoIndex(
            nearest.map(|file| format!(" (the nearest is `{}`)", file.path)).unwrap_or_default(),
        ));
    }
    Ok(Contents { files, stripped })
}

fn check_name(name: &[u8]) -> Result<(), Rule> {
    let text = std::str::from_utf8(name).map_err(|_| Rule::NotUtf8)?;
    // A folder's entry ends with its slash; the rest of its name keeps the same rules.
    let text = text.strip_suffix('/').unwrap_or(text);
    match text {
        _ if name.is_empty() => Err(Rule::EmptyName),
        _ if text.len() > MAX_KEY => Err(Rule::LongName),
        _ if text.is_empty() || text.starts_with('/') => Err(Rule::Absolute),
        _ if text.contains('\\') => Err(Rule::Backslash),
        _ if text.chars().any(char::is_control) => Err(Rule::Control),
        _ if text.contains('*') => Err(Rule::Star),
        _ if text.as_bytes()[0].is_ascii_alphabetic() && text.as_bytes().get(1) == Some(&b':') => Err(Rule::Drive),
        _ if text.split('/').any(|part| matches!(part, "" | "." | "..")) => Err(Rule::Traversal),
        _ => Ok(()),
    }
}

fn check_packing(entry: &Entry) -> Result<(), Rule> {
    match entry.method {
        _ if entry.encrypted => Err(Rule::Encrypted),
        _ if entry.symlink => Err(Rule::Symlink),
        0 if entry.packed != entry.size => Err(Rule::StoredSize),
        8 if entry.size > MAX_DENSE_BYTES && entry.size / MAX_RATIO > entry.packed => Err(Rule::Ratio),
        0 | 8 => Ok(()),
        other => Err(Rule::Method(other)),
    }
}

/// A local header without its name and extra field.
/// <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>
pub const LOCAL_HEADER: u64 = 30;

/// Says where each entry ends, and refuses those that share bytes: a bomb of overlapping entries is larger than its zip by
/// any factor while each of them keeps the ratio.
fn lay_out(mut entries: Vec<Entry>, directory: u64) -> Result<Vec<ZipFile>, Refusal> {
    entries.sort_unstable_by_key(|entry| entry.offset);
    let ends: Vec<u64> = entries.iter().skip(1).map(|entry| entry.offset).chain([directory]).collect();
    let mut files = Vec::with_capacity(entries.len());
    for (entry, end) in entries.into_iter().zip(ends) {
        let least =
            [LOCAL_HEADER, entry.name.len() as u64, entry.packed].into_iter().try_fold(entry.offset, u64::checked_add);
        if least.is_none_or(|least| least > end) {
            return Err(Rule::Overlap.broken_by(&entry.name));
        }
        // A local header's extra field is at most 65,535 bytes; what lies behind is nobody's, and is not read.
        let end = end.min(least.unwrap_or(end).saturating_add(u64::from(u16::MAX)));
        let name = String::from_utf8(entry.name).map_err(|error| Rule::NotUtf8.broken_by(error.as_bytes()))?;
        files.push(ZipFile {
            path: name.clone(),
            name,
            size: entry.size,
            packed: entry.packed,
            crc32: entry.crc32,
            offset: entry.offset,
            end,
            packing: if entry.method == 0 { Packing::Stored } else { Packing::Deflated },
        });
    }
    Ok(files)
}

/// What a Mac adds to every folder and every zip; nobody means to publish it.
fn is_clutter(name: &str) -> bool {
    name.starts_with("__MACOSX/") || name.rsplit('/').next() == Some(".DS_Store")
}

/// The folder that every file is in, where that folder and not the zip's top holds `index.html`.
fn top_folder(files: &[ZipFile]) -> Option<String> {
    let (top, _) = files.first()?.name.split_once('/')?;
    let inside = |name: &str| name.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
    let index = format!("{top}/{INDEX}");
    (files.iter().all(|file| inside(&file.name)) && files.iter().any(|file| file.name == index)).then(|| top.to_owned())
}

/// Everything that a release wants in the bucket, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteManifest {
    /// The objects.
    pub objects: BTreeMap<String, SiteObject>,
}

/// One object as a release wants it. Two that are equal need no upload: the CRC-32 with the size stand for the content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteObject {
    /// The content's CRC-32.
    pub crc32: u32,
    /// The content's size.
    pub size: u64,
    /// The `Content-Type` header.
    #[serde(rename = "type")]
    pub content_type: String,
    /// The `Cache-Control` header.
    #[serde(rename = "cache")]
    pub cache_control: String,
    /// The file's path, where the object has another key because URLs without an extension must find it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl SiteObject {
    /// Whether a visitor would get the same from both.
    pub(crate) fn serves_as(&self, other: &SiteObject) -> bool {
        (self.crc32, self.size, &self.content_type, &self.cache_control)
            == (other.crc32, other.size, &other.content_type, &other.cache_control)
    }
}

/// What a release wants in the bucket: each file under its own path, and under the keys that the edge looks for when a URL
/// has no extension.
pub fn wanted(contents: &Contents, routing: Routing, cache: &[CacheRule]) -> Result<SiteManifest, Refusal> {
    let rules: Vec<_> = cache.iter().filter_map(|rule| Some((rule.files.matcher()?, rule.control.as_str()))).collect();
    let mut objects = BTreeMap::new();
    for file in &contents.files {
        let given = rules.iter().find(|(files, _)| files.is_match(&file.path)).map(|(_, control)| *control);
        let object = SiteObject {
            crc32: file.crc32,
            size: file.size,
            content_type: content_type(&file.path).into_owned(),
            cache_control: given.unwrap_or_else(|| default_cache(&file.path)).to_owned(),
            file: None,
        };
        objects.insert(file.path.clone(), object);
    }
    let mut aliases = BTreeMap::new();
    for found_by in [file_url, page_url, index_url] {
        for file in &contents.files {
            for url in found_by(&file.path).into_iter().flatten() {
                let key = route(routing, &url)[1..].to_owned();
                if !objects.contains_key(&key) {
                    aliases.entry(key).or_insert(&file.path);
                }
            }
        }
    }
    for (key, path) in aliases {
        if key.len() > MAX_KEY {
            return Err(Rule::LongName.broken_by(path.as_bytes()));
        }
        let alias = objects.get(path).map(|object| SiteObject { file: Some(path.clone()), ..object.clone() });
        objects.extend(alias.map(|alias| (key, alias)));
    }
    Ok(SiteManifest { objects })
}

/// The key, with a slash before it, that the edge asks the bucket for when a visitor asks for this path. The CloudFront
/// function in the blueprint `site.yaml` is the same rule in JavaScript.
pub fn route(routing: Routing, path: &str) -> Cow<'_, str> {
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.contains('.') || path.starts_with("/.well-known/") {
        return path.into();
    }
    match routing {
        Routing::Spa => "/index.html".into(),
        Routing::Clean if name.is_empty() => format!("{path}{INDEX}").into(),
        Routing::Clean => format!("{path}.html").into(),
    }
}

type Urls = [Option<String>; 2];

/// A file without an extension has a URL that looks like a page's.
fn file_url(path: &str) -> Urls {
    [Some(format!("/{path}")), None]
}

/// `chat.html` is found as `/chat` and as `/chat/`.
fn page_url(path: &str) -> Urls {
    match path.strip_suffix(".html") {
        Some(page)
            if path != NOT_FOUND_PAGE && page != "index" && !page.ends_with("/index") && !page.ends_with('/') =>
        {
            [Some(format!("/{page}")), Some(format!("/{page}/"))]
        }
        _ => [None, None],
    }
}

/// `chat/index.html` is found as `/chat/` and as `/chat`.
fn index_url(path: &str) -> Urls {
    match path.strip_suffix("/index.html") {
        Some(page) => [Some(format!("/{page}/")), Some(format!("/{page}"))],
        None => [None, None],
    }
}

/// Bundlers' own folders: whatever is in them is named by its content.
const IMMUTABLE_FOLDERS: [&str; 3] = ["_next/static/", "_app/immutable/", "_astro/"];

/// Kinds of files that bundlers name by their content. Data and documents are not among them: an id in a name is no hash.
const BUNDLED: [&str; 23] = [
    "js", "mjs", "css", "map", "wasm", "woff", "woff2", "ttf", "otf", "eot", "png", "jpg", "jpeg", "gif", "webp",
    "avif", "svg", "ico", "mp4", "webm", "mp3", "ogg", "glb",
];

/// Kinds of files for which a mixture of letters and digits is enough to be taken for a hash.
const CODE: [&str; 5] = ["js", "mjs", "css", "map", "wasm"];

/// Whether a file's name changes with its content, so that what is cached of it never gets old. Taking a name wrongly for a
/// hash would keep an old file for a year, so in doubt it is none.
pub fn is_content_hashed(path: &str) -> bool {
    if IMMUTABLE_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
        return true;
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    if !BUNDLED.contains(&extension) {
        return false;
    }
    // app.3f9c2a1b.js.map: the kind before the last one is not a word of the name.
    let stem = stem.strip_suffix(".js").or_else(|| stem.strip_suffix(".css")).unwrap_or(stem);
    let hex = |word: &str| {
        word.len() >= 8
            && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && word.bytes().any(|b| b.is_ascii_digit())
            && word.bytes().any(|b| b.is_ascii_alphabetic())
    };
    if stem.split(['.', '-', '_']).any(hex) {
        return true;
    }
    // Vite and Rollup end a name with eight of A-Z a-z 0-9 _ -, esbuild and Angular with eight of A-Z 2-7.
    let tail = stem.len().checked_sub(8).and_then(|at| stem.get(at..)).unwrap_or_default();
    let before = stem.strip_suffix(tail).unwrap_or_default();
    let has = |kind: fn(&u8) -> bool| tail.as_bytes().iter().any(kind);
    CODE.contains(&extension)
        && tail.len() == 8
        && (before.is_empty() || before.ends_with(['-', '.']))
        && tail.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_uppercase)
        && (has(u8::is_ascii_lowercase) || tail.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'2'..=b'7')))
}

fn is_page(path: &str) -> bool {
    path.ends_with(".html") || path.ends_with(".htm")
}

fn default_cache(path: &str) -> &'static str {
    if is_page(path) {
        "no-cache"
    } else if is_content_hashed(path) {
        "public, max-age=31536000, immutable"
    } else {
        "public, max-age=300"
    }
}

fn content_type(path: &str) -> Cow<'static, str> {
    // The one file whose kind Apple demands and its name does not tell.
    if path == ".well-known/apple-app-site-association" {
        return "application/json".into();
    }
    let known = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
    if known.starts_with("text/") || known == "application/javascript" {
        format!("{known}; charset=utf-8").into()
    } else {
        known.into()
    }
}

/// What is in the bucket for certain: the live release's objects, without those that a release which was cut off may have
/// overwritten. `None` among the unfinished is a manifest that is gone: that release may have overwritten anything.
pub fn certain<'a>(
    live: Option<&'a SiteManifest>,
    unfinished: &[Option<SiteManifest>],
) -> BTreeMap<&'a str, &'a SiteObject> {
    let touched = |key: &str, object: &SiteObject| {
        unfinished.iter().any(|manifest| match manifest {
            None => true,
            Some(manifest) => manifest.objects.get(key).is_some_and(|other| !other.serves_as(object)),
        })
    };
    live.into_iter()
        .flat_map(|manifest| &manifest.objects)
        .filter(|(key, object)| !touched(key, object))
        .map(|(key, object)| (key.as_str(), object))
        .collect()
}

/// When an object is uploaded: what pages refer to is there before the page that refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Files named by their content: no page that is live knows them.
    Assets,
    /// Everything else that is not a page.
    Others,
    /// The pages.
    Pages,
}

impl Phase {
    /// In the order of the uploads.
    pub const ALL: [Phase; 3] = [Phase::Assets, Phase::Others, Phase::Pages];

    fn of(path: &str) -> Phase {
        match path {
            _ if is_page(path) => Phase::Pages,
            _ if is_content_hashed(path) => Phase::Assets,
            _ => Phase::Others,
        }
    }
}

/// A file to read, and the keys to put it under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// When.
    pub phase: Phase,
    /// The file's index in [`Contents::files`].
    pub file: usize,
    /// The keys.
    pub keys: Vec<String>,
}

/// What must be uploaded: every object that is not there for certain as it is wanted. Ordered by phase, then by place in the
/// zip, so that neighbours are read together. An object whose file is not in the zip, which a manifest of this very zip never
/// has, is left out.
pub fn uploads(contents: &Contents, wanted: &SiteManifest, certain: &BTreeMap<&str, &SiteObject>) -> Vec<Upload> {
    let mut keys: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (key, object) in &wanted.objects {
        if certain.get(key.as_str()).is_some_and(|there| there.serves_as(object)) {
            continue;
        }
        let path = object.file.as_ref().unwrap_or(key);
        if let Ok(file) = contents.files.binary_search_by(|file| file.path.cmp(path)) {
            keys.entry(file).or_default().push(key.clone());
        }
    }
    let mut uploads: Vec<Upload> = keys
        .into_iter()
        .map(|(file, keys)| Upload { phase: Phase::of(&contents.files[file].path), file, keys })
        .collect();
    uploads.sort_by_key(|upload| (upload.phase, contents.files[upload.file].offset));
    uploads
}

/// One read of the zip, and which files it brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The first byte.
    pub start: u64,
    /// The byte behind the last.
    pub end: u64,
    /// The files, as indices into the list that was given.
    pub files: std::ops::Range<usize>,
}

/// Gathers files into reads. Neighbours are read together as long as a read stays below `most` bytes and skips no more than
/// `gap` at a time; a file that is larger than `most` has a read of its own, of its full length.
pub fn reads(files: &[&ZipFile], most: u64, gap: u64) -> Vec<Read> {
    let mut reads: Vec<Read> = Vec::new();
    for (index, file) in files.iter().enumerate() {
        match reads.last_mut() {
            Some(read) if file.offset >= read.end && file.offset - read.end <= gap && file.end - read.start <= most => {
                read.end = file.end;
                read.files.end = index + 1;
            }
            _ => reads.push(Read { start: file.offset, end: file.end, files: index..index + 1 }),
        }
    }
    reads
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::spec::Glob;

    fn entry(name: &str) -> Entry {
        Entry {
            name: name.as_bytes().to_vec(),
            size: 10,
            packed: 5,
            crc32: 7,
            offset: 0,
            method: 8,
            encrypted: false,
            symlink: false,
        }
    }

    /// Entries of these names one behind the other, and where the directory begins.
    fn zip(names: &[&str]) -> (Vec<Entry>, u64) {
        let entries: Vec<Entry> =
            names.iter().enumerate().map(|(at, name)| Entry { offset: at as u64 * 2000, ..entry(name) }).collect();
        let directory = entries.len() as u64 * 2000;
        (entries, directory)
    }

    fn contents(names: &[&str]) -> Contents {
        let (entries, directory) = zip(names);
        accept(entries, directory).unwrap()
    }

    fn refused(entries: Vec<Entry>) -> String {
        accept(entries, 1 << 40).unwrap_err().to_string()
    }

    #[test]
    fn names_that_are_no_keys_are_refused() {
        for (name, rule) in [
            ("", "empty name"),
            ("/etc/passwd", "absolute"),
            ("/", "absolute"),
            ("../a", "`..`"),
            ("a/../b", "`..`"),
            ("a/./b", "`.`"),
            ("a//b", "between two slashes"),
            ("a\\b", "backslash"),
            ("C:/a", "drive"),
            ("c:a", "drive"),
            ("a\0b", "control"),
            ("a\nb", "control"),
            ("a*b", "`*`"),
        ] {
            let text = refused(vec![entry(name)]);
            assert!(text.contains(rule), "{name:?}: {text}");
        }
        assert!(refused(vec![Entry { name: b"\xff.html".to_vec(), ..entry("") }]).contains("not UTF-8"));
        assert!(refused(vec![entry(&"a".repeat(1025))]).contains("1024"));
        let folder = refused(vec![entry("a/../")]);
        assert!(folder.contains("`a/../` in the zip has `.`, `..`"), "{folder}");
    }

    #[test]
    fn entries_that_cannot_be_what_they_say_are_refused() {
        let base = || entry("index.html");
        for (entry, rule) in [
            (Entry { encrypted: true, ..base() }, "encrypted"),
            (Entry { symlink: true, ..base() }, "symbolic link"),
            (Entry { method: 12, ..base() }, "method 12"),
            (Entry { method: 0, ..base() }, "two different sizes"),
            (Entry { size: 1 << 30, packed: 1 << 20, ..base() }, "200 times"),
            (Entry { packed: 1 << 41, ..base() }, "overlaps"),
            (Entry { packed: u64::MAX, ..base() }, "overlaps"),
        ] {
            let text = refused(vec![entry]);
            assert!(text.contains("`index.html`") && text.contains(rule), "{text}");
        }
        let twice = vec![base(), Entry { offset: 2000, ..base() }];
        assert!(refused(twice).contains("twice"));
        let overlapping = vec![base(), Entry { offset: 44, ..entry("b.html") }];
        assert!(refused(overlapping).contains("`index.html` in the zip overlaps"));
        let large: Vec<Entry> = (0..6)
            .map(|n| Entry { size: 1 << 30, packed: 1 << 30, offset: n << 31, ..entry(&format!("{n}")) })
            .collect();
        assert!(refused(large).contains("6442450944 bytes"));
        let many = (0..=MAX_ENTRIES).map(|n| Entry { offset: n as u64 * 100, ..entry(&format!("{n}")) }).collect();
        assert!(refused(many).contains("20001 entries"));
    }

    #[test]
    fn a_site_needs_a_file_and_an_index() {
        assert_eq!(accept(vec![], 0), Err(Refusal::Empty));
        let (entries, directory) = zip(&["a/", "a/b/"]);
        assert_eq!(accept(entries, directory), Err(Refusal::Empty));
        let (entries, directory) = zip(&["a.html", "x/y/index.html"]);
        assert_eq!(accept(entries, directory), Err(Refusal::NoIndex(" (the nearest is `x/y/index.html`)".to_owned())));
    }

    #[test]
    fn one_common_top_folder_is_stripped_and_a_macs_clutter_is_left_out() {
        let with =
            contents(&["dist/", "dist/index.html", "dist/a/b.js", "__MACOSX/dist/._index.html", "dist/.DS_Store"]);
        assert_eq!(with.stripped.as_deref(), Some("dist"));
        assert_eq!(with.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["a/b.js", "index.html"]);
        assert_eq!(with.files[1].name, "dist/index.html");
        let without = contents(&["dist/index.html", "index.html"]);
        assert_eq!(without.stripped, None);
        assert_eq!(without.files.len(), 2);
    }

    #[test]
    fn only_names_that_surely_are_hashes_are_kept_for_a_year() {
        for hashed in [
            "_next/static/chunks/app/page-3f2a1b4c5d6e7f80.js",
            "_next/static/Kx9/_buildManifest.js",
            "_app/immutable/entry/start.js",
            "static/js/main.8e3b1f0a.js",
            "static/js/main.8e3b1f0a.js.map",
            "static/js/2.3f9a0b1c.chunk.css",
            "assets/index-BfX3k9Qz.js",
            "assets/index-B_X3-9Qz.css",
            "chunk-ABCD2FGH.js",
            "main-5ZQ3JXKD.js",
            "media/logo.6ce24c58.svg",
        ] {
            assert!(is_content_hashed(hashed), "{hashed}");
        }
        for plain in [
            "index.html",
            "page-3f2a1b4c5d6e7f80.html",
            "data/64b7f3c2a1.json",
            "report-20240101.pdf",
            "photo-20240101.jpg",
            "hero-iPhone15.png",
            "app.js",
            "jquery-3.7.1.min.js",
            "service-worker.js",
            "facade.js",
            "deadbeef.js",
            "feedback.css",
            "LICENSE",
            "3f2a1b4c5d6e7f80",
        ] {
            assert!(!is_content_hashed(plain), "{plain}");
        }
    }

    #[test]
    fn files_get_their_type_and_their_header_and_the_first_rule_that_matches_counts() {
        let contents = contents(&[
            "index.html",
            "a/b.css",
            "main.8e3b1f0a.js",
            "robots.txt",
            "logo.svg",
            "x.wasm",
            "app.webmanifest",
        ]);
        let rule = |files: &str, control: &str| CacheRule {
            files: Glob::try_from(files.to_owned()).unwrap(),
            control: control.to_owned(),
        };
        let cache = [rule("*.svg", "max-age=1"), rule("**/*.css", "max-age=2"), rule("a/*", "max-age=3")];
        let wanted = wanted(&contents, Routing::Spa, &cache).unwrap();
        let headers: Vec<(&str, &str, &str)> = wanted
            .objects
            .iter()
            .map(|(key, object)| (key.as_str(), object.content_type.as_str(), object.cache_control.as_str()))
            .collect();
        assert_eq!(
            headers,
            [
                ("a/b.css", "text/css; charset=utf-8", "max-age=2"),
                ("app.webmanifest", "application/manifest+json", "public, max-age=300"),
                ("index.html", "text/html; charset=utf-8", "no-cache"),
                ("logo.svg", "image/svg+xml", "max-age=1"),
                ("main.8e3b1f0a.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
                ("robots.txt", "text/plain; charset=utf-8", "public, max-age=300"),
                ("x.wasm", "application/wasm", "public, max-age=300"),
            ]
        );
    }

    #[test]
    fn urls_without_an_extension_find_their_page() {
        for (path, clean, spa) in [
            ("/", "/index.html", "/index.html"),
            ("/chat", "/chat.html", "/index.html"),
            ("/chat/", "/chat/index.html", "/index.html"),
            ("/a/chat", "/a/chat.html", "/index.html"),
            ("/a.b/chat", "/a.b/chat.html", "/index.html"),
            ("/a.js", "/a.js", "/a.js"),
            ("/chat.html", "/chat.html", "/chat.html"),
            (
                "/.well-known/apple-app-site-association",
                "/.well-known/apple-app-site-association",
                "/.well-known/apple-app-site-association",
            ),
        ] {
            assert_eq!(route(Routing::Clean, path), clean);
            assert_eq!(route(Routing::Spa, path), spa);
        }
    }

    #[test]
    fn a_page_is_stored_under_both_its_forms_and_a_file_of_that_name_comes_first() {
        let contents = contents(&[
            "index.html",
            "chat.html",
            "blog/index.html",
            "both.html",
            "both/index.html",
            "404.html",
            "v1.2.html",
            "LICENSE",
        ]);
        let wanted = wanted(&contents, Routing::Clean, &[]).unwrap();
        let aliases: Vec<(&str, &str)> =
            wanted.objects.iter().filter_map(|(key, object)| Some((key.as_str(), object.file.as_deref()?))).collect();
        assert_eq!(
            aliases,
            [
                ("LICENSE.html", "LICENSE"),
                ("blog.html", "blog/index.html"),
                ("chat/index.html", "chat.html"),
                ("v1.2", "v1.2.html"),
                ("v1.2/index.html", "v1.2.html"),
            ]
        );
        let license = &wanted.objects["LICENSE.html"];
        assert_eq!(license.content_type, "application/octet-stream");
    }

    fn manifest(objects: &[(&str, u32)]) -> SiteManifest {
        let object = |crc32: u32| SiteObject {
            crc32,
            size: 1,
            content_type: "text/plain".to_owned(),
            cache_control: "no-cache".to_owned(),
            file: None,
        };
        SiteManifest { objects: objects.iter().map(|(key, crc32)| ((*key).to_owned(), object(*crc32))).collect() }
    }

    #[test]
    fn what_a_cut_off_release_may_have_overwritten_is_not_certain() {
        let live = manifest(&[("a", 1), ("b", 1), ("c", 1)]);
        let cut = manifest(&[("a", 1), ("b", 2), ("d", 2)]);
        let keys = |unfinished: &[Option<SiteManifest>]| {
            certain(Some(&live), unfinished).into_keys().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys(&[]), "a b c");
        assert_eq!(keys(&[Some(cut.clone())]), "a c");
        assert_eq!(keys(&[Some(cut), Some(manifest(&[("c", 9)]))]), "a");
        assert_eq!(keys(&[None]), "");
        assert!(certain(None, &[]).is_empty());
    }

    #[test]
    fn uploads_go_from_assets_to_pages() {
        let contents = contents(&["index.html", "b.txt", "a.8e3b1f0a.js", "x.html", "same.txt"]);
        let wanted = wanted(&contents, Routing::Clean, &[]).unwrap();
        let mut there = SiteManifest::default();
        there.objects.insert("same.txt".to_owned(), wanted.objects["same.txt"].clone());
        let mut other_header = wanted.objects["b.txt"].clone();
        other_header.cache_control = "no-store".to_owned();
        there.objects.insert("b.txt".to_owned(), other_header);
        let uploads = uploads(&contents, &wanted, &certain(Some(&there), &[]));
        let order: Vec<(Phase, Vec<String>)> = uploads.into_iter().map(|upload| (upload.phase, upload.keys)).collect();
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            order,
            [
                (Phase::Assets, keys(&["a.8e3b1f0a.js"])),
                (Phase::Others, keys(&["b.txt"])),
                (Phase::Pages, keys(&["index.html"])),
                (Phase::Pages, keys(&["x.html", "x/index.html"])),
            ]
        );
    }

    #[test]
    fn neighbours_are_read_together() {
        let file = |offset: u64, end: u64| ZipFile {
            path: String::new(),
            name: String::new(),
            size: 0,
            packed: 0,
            crc32: 0,
            offset,
            end,
            packing: Packing::Stored,
        };
        let files = [file(0, 10), file(10, 20), file(25, 30), file(100, 110), file(110, 500), file(500, 510)];
        let reads = reads(&files.iter().collect::<Vec<_>>(), 50, 5);
        let ranges: Vec<(u64, u64, std::ops::Range<usize>)> =
            reads.into_iter().map(|read| (read.start, read.end, read.files)).collect();
        assert_eq!(ranges, [(0, 30, 0..3), (100, 110, 3..4), (110, 500, 4..5), (500, 510, 5..6)]);
    }

    proptest! {
        #[test]
        fn every_url_of_every_file_finds_it_or_a_file_of_that_very_name(
            names in proptest::collection::btree_set("[ab]{1,2}(\\.[12])?(/[ab]{1,2}){0,2}(\\.html|/index\\.html|\\.txt)?", 1..30),
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).chain(["index.html"]).collect();
            let contents = contents(&names);
            let wanted = wanted(&contents, Routing::Clean, &[]).unwrap();
            for file in &contents.files {
                for found_by in [file_url, page_url, index_url] {
                    for url in found_by(&file.path).into_iter().flatten() {
                        let key = &route(Routing::Clean, &url)[1..];
                        prop_assert!(wanted.objects.contains_key(key), "{url} of {} finds nothing", file.path);
                    }
                }
                prop_assert!(wanted.objects[&file.path].file.is_none());
            }
        }

        #[test]
        fn the_same_zip_needs_no_upload_after_its_uploads(changed in proptest::collection::btree_set(0usize..6, 0..6)) {
            let names = ["index.html", "a.html", "b/index.html", "c.txt", "d.8e3b1f0a.js", "e"];
            let contents = contents(&names);
            let wanted = wanted(&contents, Routing::Clean, &[]).unwrap();
            let mut there = wanted.clone();
            for index in changed {
                there.objects.remove(names[index]);
            }
            for upload in uploads(&contents, &wanted, &certain(Some(&there.clone()), &[])) {
                for key in upload.keys {
                    there.objects.insert(key.clone(), wanted.objects[&key].clone());
                }
            }
            prop_assert!(uploads(&contents, &wanted, &certain(Some(&there), &[])).is_empty());
        }
    }
}
