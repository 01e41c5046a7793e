//! Reads archives from the disk as sync-frontend would, and writes for each what it found as a line of JSON: to be compared
//! with what another reader finds.

use std::fs;
use std::io::{BufRead, Write, stdin, stdout};

use bytes::Bytes;
use serde_json::json;
use shipway_domain::site::{Entry, Kind, LOCAL_HEADER, accept};
use shipway_fuzz::{TAIL, entries, unpacked};

fn main() -> std::io::Result<()> {
    let mut out = stdout().lock();
    for path in stdin().lock().lines() {
        let path = path?;
        let zip = Bytes::from(fs::read(&path)?);
        let found = match entries(&zip, TAIL) {
            Err(refusal) => json!({"path": path, "refused": refusal.to_string()}),
            Ok((listed, start)) => {
                let entry = |entry: &Entry| {
                    json!([String::from_utf8_lossy(&entry.name), entry.size, entry.packed, entry.crc32, entry.offset])
                };
                let entries: Vec<_> = listed.iter().map(entry).collect();
                let (listed, end) = with_index(listed, start);
                let refused = accept(listed, end).map(|contents| {
                    let files = contents.files.iter().filter(|file| file.offset != start);
                    let damaged =
                        files.filter_map(|file| Some((file.name.clone(), unpacked(&zip, file).err()?.to_string())));
                    damaged.collect::<Vec<_>>()
                });
                match refused {
                    Ok(damaged) => json!({"path": path, "entries": entries, "damaged": damaged}),
                    Err(refusal) => json!({"path": path, "entries": entries, "not_accepted": refusal.to_string()}),
                }
            }
        };
        writeln!(out, "{found}")?;
    }
    Ok(())
}

/// Few archives are sites: an empty page where the directory begins makes one of each, so that all other rules are tried.
fn with_index(mut listed: Vec<Entry>, start: u64) -> (Vec<Entry>, u64) {
    let name = b"index.html".to_vec();
    if listed.iter().any(|entry| entry.name == name) {
        return (listed, start);
    }
    let end = start + LOCAL_HEADER + name.len() as u64;
    listed.push(Entry {
        name,
        size: 0,
        packed: 0,
        crc32: 0,
        offset: start,
        method: 0,
        encrypted: false,
        kind: Kind::Regular,
    });
    (listed, end)
}
