//! What fuzzing begins with, made by code: a small one of each kind of archive that the reader tells apart.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// Writes seeds into the directory that the environment variable `SEEDS` names, if it does.
pub fn plant(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(directory) = std::env::var_os("SEEDS") else { return };
    for (index, seed) in seeds().into_iter().enumerate() {
        let path = Path::new(&directory).join(format!("seed-{index}"));
        fs::write(&path, seed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Zips, good and bad.
pub fn archives() -> Vec<Vec<u8>> {
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let page = b"<!doctype html><title>hello</title>".as_slice();
    let plain = zip(&[("index.html", page, stored), ("app.js", b"let a = 1;", deflated)]);
    let mut seeds = vec![
        plain.clone(),
        zip(&[("dist/index.html", page, deflated), ("dist/assets/a.css", b"a{}", stored), ("dist/", b"", stored)]),
        zip(&[("index.html", page, stored.large_file(true)), ("chat.html", page, deflated.large_file(true))]),
        zip(&[("index.html", page, stored.with_alignment(64)), ("__MACOSX/._index.html", b"x", stored)]),
        zip(&[("index.html", page, stored), ("\u{fc}.html", page, stored), ("c:/d", b"", stored)]),
        zip(&[("index.html", page, stored), (",:/d", b"", stored)]),
        zip(&[("index.html", b"", stored), ("../up", b"up", stored)]),
        zip(&[("index.html", &[0; 70_000], deflated)]),
        // Behind something, as a program that unpacks itself is.
        [b"#!/bin/sh\nexit\n".as_slice(), &plain].concat(),
        // Cut off.
        plain[..plain.len() - 5].to_vec(),
        // Followed by something.
        [plain.as_slice(), b"more"].concat(),
        // Two in one.
        [plain.as_slice(), &zip(&[("index.html", b"other", stored)])].concat(),
        b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
        streamed(b"index.html", page, true),
        streamed(b"index.html", page, false),
    ];
    // And the second one's end is one that some readers pass over.
    let mut passed_over = [plain.as_slice(), &zip(&[("index.html", b"other", stored)])].concat();
    let end = passed_over.len() - 22;
    passed_over[end + 8] = 35;
    seeds.push(passed_over);
    let mut commented = ZipWriter::new(Cursor::new(Vec::new()));
    commented.set_comment("made by hand").unwrap_or_else(|error| panic!("{error}"));
    seeds.push(finished(commented, &[("index.html", page, deflated)]));
    // The same name twice: a writer refuses that, so the second one is renamed where it stands.
    let mut twice = zip(&[("index.html", page, stored), ("index.htmk", b"other", stored)]);
    for at in 0..twice.len() - 10 {
        if twice[at..].starts_with(b"index.htmk") {
            twice[at + 9] = b'l';
        }
    }
    seeds.push(twice);
    // Every flag and every method, in the directory alone or in both places.
    for (at, value) in [(8, 1), (8, 8), (8, 0x20), (9, 8), (10, 9), (10, 12), (10, 93), (10, 99), (38, 0xa0), (34, 1)] {
        let mut bent = plain.clone();
        if let Some(directory) = find(&bent, b"PK\x01\x02") {
            bent[directory + at] |= value;
            seeds.push(bent);
        }
    }
    seeds
}

/// As a writer makes it that cannot go back: sizes and checksum behind the content.
fn streamed(name: &[u8], content: &[u8], signed: bool) -> Vec<u8> {
    let crc32 = crc32fast::hash(content).to_le_bytes();
    let size = (content.len() as u32).to_le_bytes();
    let length = (name.len() as u16).to_le_bytes();
    let signature: &[u8] = if signed { b"PK\x07\x08" } else { b"" };
    let mut zip =
        [b"PK\x03\x04\x14\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".as_slice(), &length, b"\0\0", name, content]
            .concat();
    zip.extend([signature, &crc32, &size, &size].concat());
    let directory = (zip.len() as u32).to_le_bytes();
    zip.extend(
        [b"PK\x01\x02\x14\x03\x14\0\x08\0\0\0\0\0\0\0".as_slice(), &crc32, &size, &size, &length, &[0; 16], name]
            .concat(),
    );
    let listed = (46 + name.len() as u32).to_le_bytes();
    zip.extend([b"PK\x05\x06\0\0\0\0\x01\0\x01\0".as_slice(), &listed, &directory, b"\0\0"].concat());
    zip
}

fn zip(files: &[(&str, &[u8], SimpleFileOptions)]) -> Vec<u8> {
    finished(ZipWriter::new(Cursor::new(Vec::new())), files)
}

fn finished(mut zip: ZipWriter<Cursor<Vec<u8>>>, files: &[(&str, &[u8], SimpleFileOptions)]) -> Vec<u8> {
    for (name, content, options) in files {
        let written = zip.start_file(*name, *options).and_then(|()| Ok(zip.write_all(content)?));
        written.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    zip.finish().unwrap_or_else(|error| panic!("{error}")).into_inner()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
