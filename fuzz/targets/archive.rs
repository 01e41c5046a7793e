//! The reader of zips: whatever it is given it neither panics nor takes much memory, what it accepts keeps the rules, and
//! another reader finds the same in it.

#![no_main]

use std::collections::HashSet;
use std::io::{Cursor, Read};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shipway_domain::site::{Contents, LOCAL_HEADER, MAX_BYTES, MAX_ENTRIES, MAX_KEY};
use shipway_fuzz::{TAIL, contents, seeds, unpacked};
use zip::ZipArchive;

fuzz_target!(
    init: seeds::plant(seeds::archives),
    |data: &[u8]| {
        let zip = Bytes::copy_from_slice(data);
        let whole = contents(&zip, TAIL);
        // Read in other pieces it is the same zip. What lies too far apart for three reads may be refused.
        if let Ok(pieces) = contents(&zip, 40) {
            assert_eq!(whole.as_ref().ok(), Some(&pieces));
        }
        let Ok(contents) = whole else { return };
        keeps_the_rules(&contents, data.len() as u64);
        reads_as_others_do(&contents, &zip);
    }
);

fn keeps_the_rules(contents: &Contents, size: u64) {
    let files = &contents.files;
    assert!(!files.is_empty() && files.len() <= MAX_ENTRIES);
    assert!(files.iter().map(|file| file.size).sum::<u64>() <= MAX_BYTES);
    assert!(files.iter().any(|file| file.path() == "index.html"));
    let (mut names, mut places) = (HashSet::new(), Vec::new());
    for file in files {
        let path = file.path();
        assert!(names.insert(path), "{path:?} is in it twice");
        assert!(!path.is_empty() && path.len() <= MAX_KEY, "{path:?} is no key");
        assert!(!path.contains(['\\', '*', '\0']) && !path.chars().any(char::is_control), "{path:?}");
        assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path:?} leads elsewhere");
        let is_on_a_drive = matches!(file.name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
        assert!(!is_on_a_drive, "{:?} is on a drive", file.name);
        let end = file.offset + LOCAL_HEADER + file.name.len() as u64 + file.packed;
        assert!(end <= file.end && file.end <= size, "{path:?} ends at {end}, behind {} of {size}", file.end);
        places.push((file.offset, end));
    }
    places.sort_unstable();
    assert!(places.is_sorted_by(|a, b| a.1 <= b.0), "two files share bytes: {places:?}");
}

/// What the `zip` crate reads under the same name has the same content. It may refuse what we take.
fn reads_as_others_do(contents: &Contents, zip: &Bytes) {
    let mut other = ZipArchive::new(Cursor::new(zip.clone())).ok();
    for file in &contents.files {
        let ours = unpacked(zip, file);
        if let Ok(ours) = &ours {
            assert_eq!((ours.len() as u64, crc32fast::hash(ours)), (file.size, file.crc32));
        }
        let Some(mut entry) = other.as_mut().and_then(|other| other.by_name(&file.name).ok()) else { continue };
        let mut theirs = Vec::new();
        // One byte more than there should be, so that a bomb is not unpacked.
        let read = entry.by_ref().take(file.size + 1).read_to_end(&mut theirs);
        if let (Ok(ours), Ok(_)) = (ours, read) {
            assert!(ours == theirs, "`{}` is two files: {} and {} bytes", file.name, ours.len(), theirs.len());
        }
    }
}
