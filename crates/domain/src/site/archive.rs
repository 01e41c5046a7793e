//! What a site's zip may hold. Everything that its directory can tell is judged before a byte of a file is read.

use std::{cmp::Ordering, collections::BTreeSet};

use super::name::{INDEX, RESERVED};
use crate::failure::Archive;

/// How many entries a zip may have. The record of a bucket of so many objects is some 15 MB, and read in one go.
pub const MAX_ENTRIES: usize = 100_000;

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
    /// What it is.
    pub kind: Kind,
}

/// What kind of thing an entry is, by the mode that Unix gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file or a folder.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A device or a socket.
    Device,
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
    /// Its name in the zip.
    pub name: String,
    /// How much of the name is a common top folder that was stripped.
    pub top: usize,
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

impl ZipFile {
    /// Its path in the site.
    pub fn path(&self) -> &str {
        &self.name[self.top..]
    }
}

/// What an accepted zip holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The files, by path.
    pub files: Vec<ZipFile>,
    /// The top folder that was stripped, as every file was in it.
    pub stripped: Option<String>,
    /// Two paths that differ by case only, where there are such.
    pub twins: Option<(String, String)>,
}

impl Contents {
    /// The file of this path, as an index into the files.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.files.binary_search_by(|file| file.path().cmp(path)).ok()
    }
}

/// Why a zip is not published. Each names the entry and the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither the beginning nor the end of a zip.
    #[error("this is not a zip file; upload the site's files as a zip")]
    NotAZip,
    /// The beginning of a zip, and no end of a central directory.
    #[error("the zip's end is missing; upload the whole file again")]
    Truncated,
    /// One of several parts.
    #[error("this is one part of a zip that was split; pack the site into one file")]
    MultiDisk,
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
    /// It has no content.
    #[error("is a device or a socket, and no file")]
    Device,
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
    #[error("has a path of more than {MAX_KEY} bytes with what Shipway puts around it")]
    LongName,
    /// The edge's own paths, and the keys of previews.
    #[error("is under a path that Shipway uses itself ({}); rename the folder", RESERVED.join(", "))]
    Reserved,
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

impl Refusal {
    /// The public name of what is wrong.
    pub const fn archive(&self) -> Archive {
        match self {
            Refusal::NotAZip => Archive::NotAZip,
            Refusal::Truncated => Archive::Truncated,
            Refusal::MultiDisk => Archive::MultiDisk,
            Refusal::Directory(_) | Refusal::Count { .. } => Archive::Directory,
            Refusal::Empty => Archive::Empty,
            Refusal::TooManyEntries(_) => Archive::TooMany,
            Refusal::TooLarge(_) => Archive::TooLarge,
            Refusal::NoIndex(_) => Archive::NoIndex,
            Refusal::Entry { rule, .. } => match rule {
                Rule::Encrypted => Archive::Encrypted,
                Rule::Method(_) => Archive::Method,
                Rule::Symlink => Archive::Symlink,
                Rule::Device => Archive::Device,
                Rule::NotUtf8 => Archive::NotUtf8,
                Rule::EmptyName | Rule::Traversal => Archive::Traversal,
                Rule::Absolute => Archive::Absolute,
                Rule::Backslash => Archive::Backslash,
                Rule::Drive => Archive::Drive,
                Rule::Control => Archive::Control,
                Rule::Star => Archive::Wildcard,
                Rule::LongName => Archive::LongPath,
                Rule::Reserved => Archive::Reserved,
                Rule::Repeated => Archive::Repeated,
                Rule::Ratio => Archive::Ratio,
                Rule::StoredSize | Rule::Size => Archive::Size,
                Rule::Overlap => Archive::Overlap,
                Rule::Header => Archive::Header,
                Rule::Damaged => Archive::Damaged,
                Rule::Checksum => Archive::Checksum,
            },
        }
    }
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
        files.iter_mut().for_each(|file| file.top = top.len() + 1);
    }
    files.sort_unstable_by(|a, b| a.path().cmp(b.path()));
    if let Some(file) = files.iter().find(|file| is_reserved(file.path())) {
        return Err(Rule::Reserved.broken_by(file.name.as_bytes()));
    }
    let twins = twins(&files);
    let contents = Contents { files, stripped, twins };
    if contents.find(INDEX).is_none() {
        let pages = contents.files.iter().map(ZipFile::path).filter(|path| path.ends_with("/index.html"));
        let nearest = pages.min_by_key(|path| path.len());
        return Err(Refusal::NoIndex(nearest.map(|path| format!(" (the nearest is `{path}`)")).unwrap_or_default()));
    }
    Ok(contents)
}

/// A path at or under one of Shipway's own.
fn is_reserved(path: &str) -> bool {
    RESERVED.iter().any(|own| {
        path.strip_prefix(own.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Two paths that are one on a disk that does not tell capitals from small letters, where the site was perhaps built.
fn twins(files: &[ZipFile]) -> Option<(String, String)> {
    let lower = |file: &ZipFile| file.path().chars().flat_map(char::to_lowercase).collect::<String>();
    let mut seen: Vec<(u64, usize)> =
        files.iter().enumerate().map(|(index, file)| (fingerprint(&lower(file)), index)).collect();
    seen.sort_unstable();
    let pairs =
        seen.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| (&files[pair[0].1], &files[pair[1].1]));
    let mut same = pairs.filter(|(a, b)| lower(a).cmp(&lower(b)) == Ordering::Equal);
    same.next().map(|(a, b)| (a.path().to_owned(), b.path().to_owned()))
}

fn fingerprint(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
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
        _ if entry.kind == Kind::Symlink => Err(Rule::Symlink),
        _ if entry.kind == Kind::Device => Err(Rule::Device),
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
            name,
            top: 0,
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
