//! A zip's own tables: the central directory from its tail, and the header before each file.
//!
//! rawzip reads them because it leaves names as the bytes they are, keeps entries that come twice, and asks for its input by
//! offset, so that the tail of a zip is enough. Nothing here trusts what it reads; the domain's `accept` judges it.

use std::{cell::Cell, io};

use bytes::Bytes;
use rawzip::{CreatorSystem, ErrorKind, ReaderAt, ZipArchive, ZipLocator};
use shipway_domain::site::{Entry, Kind, LOCAL_HEADER, MAX_ENTRIES, Packing, Refusal, Rule, ZipFile};

/// How much of a zip's end is read first. It holds the directory of some five thousand files, and costs no second request.
pub const TAIL: u64 = 512 << 10;

/// The longest directory that is read: [`MAX_ENTRIES`] with names of 250 bytes and what packers put beside them.
const MAX_DIRECTORY: u64 = 32 << 20;

/// The end record with the longest comment, the two records of a zip64 and their neighbours.
const MAX_END: u64 = 66 << 10;

/// The end of a zip, as far as it was read.
#[derive(Clone, Debug)]
pub struct Tail {
    /// The zip's size.
    pub size: u64,
    /// Its last bytes.
    pub bytes: Bytes,
}

impl Tail {
    /// Where they begin in it.
    pub(crate) fn start(&self) -> u64 {
        self.size - self.bytes.len() as u64
    }
}

/// What a tail tells.
#[derive(Debug)]
pub enum Directory {
    /// All entries, and where the directory begins.
    Entries(Vec<Entry>, u64),
    /// The directory begins before the tail does: at this offset.
    From(u64),
}

/// Reads the directory from the end of a zip.
///
/// # Errors
/// What cannot be read as a zip's directory.
pub fn directory(tail: &Tail) -> Result<Directory, Refusal> {
    if is_split(&tail.bytes) {
        return Err(Refusal::MultiDisk);
    }
    let window = Window { tail, missed: Cell::new(None) };
    let read = entries(&window);
    match window.missed.get() {
        // Whatever came of it, it came without looking.
        Some(from) if tail.size - from > MAX_DIRECTORY => {
            Err(Refusal::Directory(format!("it would begin {} bytes before the end", tail.size - from)))
        }
        Some(from) => Ok(Directory::From(from)),
        None => read.map(|(entries, start)| Directory::Entries(entries, start)),
    }
}

fn entries(window: &Window<'_>) -> Result<(Vec<Entry>, u64), Refusal> {
    let mut buffer = vec![0; rawzip::MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let archive: ZipArchive<&Window<'_>> = ZipLocator::new()
        .max_search_space(MAX_END)
        .locate_in_reader(window, &mut buffer, window.tail.size)
        .map_err(|(_, error)| refusal(&error))?;
    let said = archive.entries_hint();
    if said > MAX_ENTRIES as u64 {
        return Err(Refusal::TooManyEntries(said));
    }
    let mut entries = Vec::new();
    let mut end = archive.directory_offset();
    let mut listed = archive.entries(&mut buffer);
    while let Some(entry) = listed.next_entry().map_err(|error| refusal(&error))? {
        if entries.len() >= MAX_ENTRIES {
            return Err(Refusal::TooManyEntries(entries.len() as u64 + 1));
        }
        end = entry.central_directory_offset() + record_length(&entry);
        entries.push(Entry {
            name: entry.file_path().as_bytes().to_vec(),
            size: entry.uncompressed_size_hint(),
            packed: entry.compressed_size_hint(),
            crc32: entry.crc32(),
            offset: entry.local_header_offset(),
            method: entry.compression_method().as_u16(),
            encrypted: entry.flags().is_encrypted() || entry.flags().has_strong_encryption(),
            kind: kind(&entry),
        });
    }
    if entries.len() as u64 != said {
        return Err(Refusal::Count { listed: entries.len() as u64, said });
    }
    if !is_end(window, archive.directory_offset(), end) {
        return Err(Refusal::Directory("it does not end where the zip's end begins".to_owned()));
    }
    Ok((entries, archive.directory_offset()))
}

/// How long an entry's record in the directory is.
/// <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>
fn record_length(entry: &rawzip::ZipFileHeaderRecord<'_>) -> u64 {
    const FIXED: usize = 46;
    let texts = [entry.file_path().as_bytes(), entry.extra_fields().remaining_bytes(), entry.comment().as_bytes()];
    texts.iter().map(|text| text.len()).sum::<usize>() as u64 + FIXED as u64
}

/// Whether the directory from `start` on is as long as the end record says and no earlier than it says, and one of the records
/// that follow a directory begins where it ends: other readers look for it by these numbers, and must find the same one.
fn is_end(window: &Window<'_>, start: u64, end: u64) -> bool {
    let mut signature = [0; 4];
    let follows = window.read_at(&mut signature, end).is_ok_and(|length| length == 4)
        && [b"PK\x05\x06", b"PK\x06\x06", b"PK\x05\x05"].contains(&&signature);
    let said = |at: usize| {
        let four = last_end(&window.tail.bytes).and_then(|end| window.tail.bytes.get(end + at..end + at + 4));
        four.map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
    };
    // A zip64 says them in a record of its own, which rawzip goes by. What lies before a zip moves its directory, never back.
    let agrees = |at: usize, right: &dyn Fn(u64) -> bool| {
        said(at).is_some_and(|said| said == u32::MAX || right(u64::from(said)))
    };
    follows && agrees(12, &|length| length == end - start) && agrees(16, &|place| place <= start)
}

/// Where the end record begins. The last one counts, as it does for whoever reads the zip.
fn last_end(bytes: &[u8]) -> Option<usize> {
    last(bytes, b"PK\x05\x06")
}

fn last(bytes: &[u8], signature: &[u8; 4]) -> Option<usize> {
    bytes.windows(4).rposition(|four| four == signature)
}

/// What an entry is, where Unix wrote it. Info-ZIP calls a pipe what it read from its input: it has a content like any file. A folder is one by the slash at its name's end.
fn kind(entry: &rawzip::ZipFileHeaderRecord<'_>) -> Kind {
    let is_unix = matches!(entry.version_made_by().creator_system(), CreatorSystem::UNIX | CreatorSystem::MACOS);
    match (entry.external_attributes() >> 16) & 0o170_000 {
        0o120_000 if is_unix => Kind::Symlink,
        0o020_000 | 0o060_000 | 0o140_000 if is_unix => Kind::Device,
        _ => Kind::Regular,
    }
}

/// Whether the zip was split into parts, of which this is the last: its end has a number other than 0, or not as many entries in
/// this part as in all. A zip64 has its numbers in a record of its own, and the locator tells how many parts there are. Readers that
/// pass over such an end would go by another one before it, and read another zip.
fn is_split(bytes: &[u8]) -> bool {
    const LOCATOR: usize = 20;
    let number = |at: usize| bytes.get(at..at + 2).map(|two| u16::from_le_bytes([two[0], two[1]]));
    let Some(end) = last_end(bytes) else { return false };
    let is_other = |at: usize| number(at).is_some_and(|disk| disk != 0 && disk != u16::MAX);
    let locator = end.checked_sub(LOCATOR).filter(|at| bytes[*at..].starts_with(b"PK\x06\x07"));
    let parts = locator
        .and_then(|at| bytes.get(at + 16..at + 20))
        .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    let differ =
        |at: usize, width: usize| bytes.get(at..at + 2 * width).is_some_and(|both| both[..width] != both[width..]);
    let large = locator.and_then(|locator| last(&bytes[..locator], b"PK\x06\x06"));
    is_other(end + 4)
        || is_other(end + 6)
        || differ(end + 8, 2)
        || parts.is_some_and(|parts| parts > 1)
        || large.is_some_and(|large| differ(large + 24, 8))
}

/// Whether a file begins like a zip. Without an end it was cut off on its way.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

fn refusal(error: &rawzip::Error) -> Refusal {
    match error.kind() {
        ErrorKind::MissingEndOfCentralDirectory => Refusal::NotAZip,
        ErrorKind::Eof | ErrorKind::IO(_) => Refusal::Truncated,
        _ => Refusal::Directory(error.to_string()),
    }
}

/// A zip of which only the tail is there. It remembers the earliest byte that somebody asked for in vain.
struct Window<'a> {
    tail: &'a Tail,
    missed: Cell<Option<u64>>,
}

impl ReaderAt for Window<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(at) = offset.checked_sub(self.tail.start()) else {
            self.missed.set(Some(self.missed.get().map_or(offset, |missed| missed.min(offset))));
            return Err(io::Error::other("not read yet"));
        };
        let rest = usize::try_from(at).ok().and_then(|at| self.tail.bytes.get(at..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

/// Where in `bytes`, which begin with a file's own header, its packed content lies. The header must agree with the directory:
/// where two readers of one zip could see two files, it is refused.
///
/// # Errors
/// The header does not agree, or the content reaches into what comes next.
pub fn packed_from(file: &ZipFile, bytes: &[u8]) -> Result<usize, Rule> {
    const SIGNATURE: [u8; 4] = *b"PK\x03\x04";
    let number = |at: usize| bytes.get(at..at + 2).map(|two| u16::from_le_bytes([two[0], two[1]])).ok_or(Rule::Header);
    let (flags, method, name, extra) = (number(6)?, number(8)?, number(26)?, number(28)?);
    let start = LOCAL_HEADER as usize + usize::from(name);
    let packed = match file.packing {
        Packing::Stored => 0,
        Packing::Deflated => 8,
    };
    let agrees = bytes.starts_with(&SIGNATURE)
        && flags & 1 == 0
        && method == packed
        && bytes.get(LOCAL_HEADER as usize..start) == Some(file.name.as_bytes());
    if !agrees {
        return Err(Rule::Header);
    }
    let start = start + usize::from(extra);
    if file.offset + start as u64 + file.packed > file.end { Err(Rule::Overlap) } else { Ok(start) }
}
