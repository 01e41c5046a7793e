//! Whether a zip will be taken, told before it is uploaded: by the domain's own rules on its directory, and with every file
//! unpacked once. sync-frontend, which reads the same zip in pieces, has the last word.

use std::{
    fs::File,
    io::{self, Read, Seek as _},
};

use flate2::read::DeflateDecoder;
use rawzip::{CompressionMethod, ErrorKind, FileReader, ZipArchive, ZipArchiveEntryWayfinder};
use shipway_domain::site::{Contents, Entry, Kind, MAX_ENTRIES, Refusal, Rule, accept};

/// Reads a zip's directory and every file in it. `read` hears how many bytes of how many were unpacked.
///
/// # Errors
/// Why it would not be published.
pub(crate) fn check(file: &File, read: impl Fn(u64, u64)) -> Result<Contents, Refusal> {
    let unreadable = |error: io::Error| Refusal::Directory(error.to_string());
    let mut reader = file.try_clone().map_err(unreadable)?;
    let mut start = [0; 2];
    let begins = reader.rewind().and_then(|()| reader.read_exact(&mut start)).is_ok() && start == *b"PK";
    let mut buffer = vec![0; rawzip::MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let archive = ZipArchive::from_file(reader, &mut buffer).map_err(|error| match error.kind() {
        ErrorKind::MissingEndOfCentralDirectory if begins => Refusal::Truncated,
        ErrorKind::MissingEndOfCentralDirectory => Refusal::NotAZip,
        _ => refusal(&error),
    })?;
    let said = archive.entries_hint();
    if said > MAX_ENTRIES as u64 {
        return Err(Refusal::TooManyEntries(said));
    }
    let (mut entries, mut files) = (Vec::new(), Vec::new());
    let mut listed = archive.entries(&mut buffer);
    while let Some(entry) = listed.next_entry().map_err(|error| refusal(&error))? {
        let name = entry.file_path().as_bytes().to_vec();
        files.push(Packed {
            name: name.clone(),
            place: entry.wayfinder(),
            size: entry.uncompressed_size_hint(),
            method: entry.compression_method(),
        });
        entries.push(Entry {
            name,
            size: entry.uncompressed_size_hint(),
            packed: entry.compressed_size_hint(),
            crc32: entry.crc32(),
            offset: entry.local_header_offset(),
            method: entry.compression_method().as_u16(),
            encrypted: entry.flags().is_encrypted() || entry.flags().has_strong_encryption(),
            kind: kind(entry.mode().value()),
        });
    }
    if entries.len() as u64 != said {
        return Err(Refusal::Count { listed: entries.len() as u64, said });
    }
    let contents = accept(entries, archive.directory_offset())?;
    let total = files.iter().map(|file| file.size).sum();
    let mut done = 0;
    for file in &files {
        unpacked(&archive, file, |bytes| {
            done += bytes;
            read(done, total);
        })
        .map_err(|rule| rule.broken_by(&file.name))?;
    }
    Ok(contents)
}

/// What Unix's mode says that an entry is.
fn kind(mode: u32) -> Kind {
    match mode & 0o170_000 {
        0o120_000 => Kind::Symlink,
        0o020_000 | 0o060_000 | 0o010_000 | 0o140_000 => Kind::Device,
        _ => Kind::Regular,
    }
}

/// A file in a zip.
struct Packed {
    name: Vec<u8>,
    place: ZipArchiveEntryWayfinder,
    size: u64,
    method: CompressionMethod,
}

/// Unpacks a file to nowhere, for its size and checksum.
fn unpacked(archive: &ZipArchive<FileReader>, file: &Packed, mut read: impl FnMut(u64)) -> Result<(), Rule> {
    let entry = archive.get_entry(file.place).map_err(|_| Rule::Header)?;
    let mut variable = vec![0; 2 * usize::from(u16::MAX)];
    let header = entry.local_header(&mut variable).map_err(|_| Rule::Header)?;
    if header.file_path().as_bytes() != file.name || header.compression_method() != file.method {
        return Err(Rule::Header);
    }
    let packed = entry.reader();
    let content: Box<dyn Read> = match file.method {
        CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(packed)),
        _ => Box::new(packed),
    };
    let mut content = entry.verifying_reader(content);
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let bytes = content.read(&mut buffer).map_err(|error| damage(&error))? as u64;
        size += bytes;
        if bytes == 0 {
            return Ok(());
        }
        if size > file.size {
            return Err(Rule::Size);
        }
        read(bytes);
    }
}

fn damage(error: &io::Error) -> Rule {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rawzip::Error>());
    match inner.map(rawzip::Error::kind) {
        Some(ErrorKind::InvalidChecksum { .. }) => Rule::Checksum,
        Some(ErrorKind::InvalidSize { .. }) => Rule::Size,
        _ => Rule::Damaged,
    }
}

fn refusal(error: &rawzip::Error) -> Refusal {
    match error.kind() {
        ErrorKind::Eof | ErrorKind::IO(_) => Refusal::Directory("it ends too early".to_owned()),
        _ => Refusal::Directory(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

    use super::*;

    type Named<'f> = (&'f str, &'f [u8]);

    fn zipped(files: &[Named<'_>], method: CompressionMethod) -> Vec<u8> {
        let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(method);
        for (name, content) in files {
            writer.start_file(*name, options).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn told(bytes: &[u8]) -> Result<Contents, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        check(&file, |_, _| {}).map_err(|refusal| refusal.to_string())
    }

    const SITE: [Named<'_>; 2] = [("index.html", b"home home home home"), ("a.js", b"alert(1)")];

    #[test]
    fn a_good_zip_is_taken_stored_or_deflated() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            assert_eq!(told(&zipped(&SITE, method)).unwrap().files.len(), 2);
        }
        let wrapped = zipped(&[("dist/index.html", b"home")], CompressionMethod::Stored);
        assert_eq!(told(&wrapped).unwrap().stripped.as_deref(), Some("dist"));
    }

    #[test]
    fn what_is_no_zip_or_half_of_one_is_told_apart() {
        let zip = zipped(&SITE, CompressionMethod::Deflated);
        for (bytes, reason) in [
            (&b""[..], "this is not a zip file"),
            (b"<!doctype html>", "this is not a zip file"),
            (&zip[..zip.len() - 30], "the zip's end is missing"),
        ] {
            let refusal = told(bytes).unwrap_err();
            assert!(refusal.contains(reason), "{refusal}");
        }
    }

    #[test]
    fn what_the_domain_refuses_is_refused_here() {
        let table: [(&[Named<'_>], &str); 4] = [
            (&[("about.html", b"x")], "no index.html at its top"),
            (&[("index.html", b"x"), ("../x", b"x")], "`../x` in the zip has `.`, `..`"),
            (&[("index.html", b"x"), ("a\\b", b"x")], "backslash"),
            (&[], "no file in it"),
        ];
        for (files, reason) in table {
            let refusal = told(&zipped(files, CompressionMethod::Stored)).unwrap_err();
            assert!(refusal.contains(reason), "{refusal}");
        }
    }

    #[test]
    fn a_damaged_file_is_found_before_the_upload() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let mut zip = zipped(&SITE, method);
            // Behind the first local header: 30 bytes and the name.
            zip[30 + "index.html".len() + 2] ^= 0x10;
            let refusal = told(&zip).unwrap_err();
            assert!(refusal.contains("`index.html` in the zip is damaged"), "{refusal}");
        }
        let mut zip = zipped(&SITE, CompressionMethod::Stored);
        zip[30] = b'I';
        let refusal = told(&zip).unwrap_err();
        assert!(refusal.contains("a header of its own"), "{refusal}");
    }

    #[test]
    fn modes_tell_links_and_devices() {
        for (mode, expected) in [
            (0, Kind::Regular),
            (0o100_644, Kind::Regular),
            (0o040_755, Kind::Regular),
            (0o120_777, Kind::Symlink),
            (0o020_644, Kind::Device),
            (0o140_644, Kind::Device),
        ] {
            assert_eq!(kind(mode), expected, "{mode:o}");
        }
    }
}
