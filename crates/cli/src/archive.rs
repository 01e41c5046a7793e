//! Whether a zip will be taken, told before it is uploaded: by the very reader and rules of sync-frontend, with every file
//! unpacked once.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
};

use bytes::Bytes;
use shipway_archive::{Cutter, Next, STEP, Search, TAIL, Tail, Unpacker};
use shipway_domain::site::{Contents, Refusal, Rule, ZipFile, accept};

/// How much of a file is read at a time.
const READ: u64 = 1 << 20;

/// Reads a zip's directory and every file in it. `read` hears how many bytes of how many were unpacked.
///
/// # Errors
/// Why it would not be published.
pub(crate) fn check(file: &File, read: impl Fn(u64, u64)) -> Result<Contents, Refusal> {
    let unreadable = |error: io::Error| Refusal::Directory(error.to_string());
    let bytes = |range: Range<u64>| {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(usize::MAX)];
        let (mut place, mut reader) = (file, file);
        let read = place.seek(SeekFrom::Start(range.start)).and_then(|_| reader.read_exact(&mut bytes));
        read.map(|()| Bytes::from(bytes)).map_err(unreadable)
    };
    let size = file.metadata().map_err(unreadable)?.len();
    let mut search = Search::new(Tail { size, bytes: bytes(size.saturating_sub(TAIL)..size)? });
    let contents = loop {
        match search.look()? {
            Next::Read(range) => search.read(bytes(range)?),
            Next::Entries(entries, start) => break accept(entries, start)?,
        }
    };
    let total = contents.files.iter().map(|file| file.size).sum();
    let mut done = 0;
    for one in &contents.files {
        unpacked(one, bytes)?;
        done += one.size;
        read(done, total);
    }
    Ok(contents)
}

/// Unpacks a file to nowhere, for its size and checksum.
fn unpacked(file: &ZipFile, bytes: impl Fn(Range<u64>) -> Result<Bytes, Refusal>) -> Result<(), Refusal> {
    let broken = |rule: Rule| rule.broken_by(file.name.as_bytes());
    let (mut cutter, mut unpacker) = (Cutter::new(file), Unpacker::new(file));
    let mut scratch = Vec::with_capacity(STEP);
    for start in (file.offset..file.end).step_by(READ as usize) {
        let piece = cutter.cut(bytes(start..(start + READ).min(file.end))?).map_err(broken)?;
        unpacker.check(&piece, &mut scratch).map_err(broken)?;
    }
    unpacker.finish().map(drop).map_err(broken)
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
}
