//! Zips of all writers, and zips that mean harm.

use shipway_domain::{failure::Archive, site::Refusal};

use super::*;
use shipway_archive::{self as archive, Directory};

#[test]
fn a_directory_longer_than_the_tail_is_read_on() {
    let names: Vec<String> = (0..6000).map(|n| format!("{}/{n}.txt", "long".repeat(20))).collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    files.push(("index.html", b"x"));
    let zip = zip_of(&files);
    let Directory::From(start) = archive::directory(&tail(&zip, archive::TAIL)).unwrap() else { panic!("all of it") };
    assert!(zip.len() as u64 - start > archive::TAIL);
    let fake = Fake::new(Vec::new());
    let note = fake.publish(FIRST, zip).unwrap();
    assert!(note.starts_with("of 6001 files 6001 changed"), "{note}");
}

#[test]
fn zips_of_all_writers_are_read() {
    let content = noise(5, 3000);
    let zip64 = zip_with(&[("index.html", &content, deflated().large_file(true))]);
    let mut commented = ZipWriter::new(Cursor::new(Vec::new()));
    commented.set_comment("built on a Tuesday").unwrap();
    commented.start_file("index.html", stored()).unwrap();
    commented.write_all(&content).unwrap();
    let commented = commented.finish().unwrap().into_inner();
    let plain = zip_with(&[("index.html", &content, deflated())]);
    let prefixed = [b"#!/bin/sh\nexec unzip $0\n".to_vec(), plain.clone()].concat();
    let prefixed_by_much = [noise(8, 2 << 20), plain].concat();
    for zip in [zip64, commented, prefixed, prefixed_by_much] {
        let fake = Fake::new(Vec::new());
        fake.publish(FIRST, zip).unwrap();
        assert!(fake.site()["index.html"] == content);
    }
}

#[test]
fn a_zip_of_more_entries_than_sixteen_bits_count_is_read() {
    let names: Vec<String> = (0..70_000).map(|n| format!("{:03}/{n}.txt", n % 300)).collect();
    let mut files: Vec<(&str, &[u8], SimpleFileOptions)> =
        names.iter().map(|name| (name.as_str(), b"x".as_slice(), stored())).collect();
    files.push(("index.html", b"x", stored()));
    let zip = zip_with(&files);
    let Ok(Directory::From(start)) = archive::directory(&tail(&zip, archive::TAIL)) else { panic!() };
    let whole = tail(&zip, zip.len() as u64 - start);
    let Ok(Directory::Entries(entries, directory)) = archive::directory(&whole) else { panic!() };
    assert_eq!((entries.len(), directory), (70_001, start));
    assert_eq!(shipway_domain::site::accept(entries, directory).unwrap().files.len(), 70_001);
    // Its own record says how many of its entries are in this part.
    let mut split = zip;
    let record = split.len() - 22 - 20 - 56;
    assert_eq!(split[record..record + 4], *b"PK\x06\x06");
    split[record + 24] ^= 1;
    assert!(matches!(archive::directory(&tail(&split, archive::TAIL)), Err(Refusal::MultiDisk)));
}

/// Publishes it over a site that is live, and says why it was refused; nothing may have changed.
fn refused(zip: Vec<u8>) -> (Archive, String) {
    let fake = after_first();
    let before = fake.site();
    fake.begin(SECOND);
    *fake.zip.borrow_mut() = zip;
    let error = fake.sync(SECOND).unwrap_err();
    let Failure::RejectedArchive(why) = error.failure() else { panic!("{error}") };
    assert_eq!(fake.site(), before);
    assert!(fake.world.borrow().state.unfinished.is_empty());
    assert!(!fake.world.borrow().state.claim.as_ref().unwrap().committed);
    (why, error.to_string())
}

/// An entry of a zip made by hand, so that it can lie.
#[derive(Clone)]
struct Raw {
    name: Vec<u8>,
    local_name: Vec<u8>,
    packed: Vec<u8>,
    size: u32,
    crc32: u32,
    method: u16,
    flags: u16,
    mode: u32,
    offset: Option<u32>,
}

fn raw(name: &[u8], content: &[u8]) -> Raw {
    Raw {
        name: name.to_vec(),
        local_name: name.to_vec(),
        packed: content.to_vec(),
        size: content.len() as u32,
        crc32: crc32fast::hash(content),
        method: 0,
        flags: 0,
        mode: 0o100_644,
        offset: None,
    }
}

impl Raw {
    fn named(self, number: u8) -> Raw {
        let name = vec![b'a' + number];
        Raw { local_name: name.clone(), name, ..self }
    }
}

fn by_hand(entries: &[Raw]) -> Vec<u8> {
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let offset = entry.offset.unwrap_or(zip.len() as u32);
        let common = |name: &[u8]| {
            let mut fields = Vec::new();
            for word in [20, entry.flags, entry.method, 0, 0] {
                fields.extend_from_slice(&u16::to_le_bytes(word));
            }
            for number in [entry.crc32, entry.packed.len() as u32, entry.size] {
                fields.extend_from_slice(&number.to_le_bytes());
            }
            fields.extend_from_slice(&(name.len() as u16).to_le_bytes());
            fields.extend_from_slice(&[0, 0]);
            fields
        };
        zip.extend_from_slice(b"PK\x03\x04");
        zip.extend_from_slice(&common(&entry.local_name));
        zip.extend_from_slice(&entry.local_name);
        zip.extend_from_slice(&entry.packed);
        directory.extend_from_slice(b"PK\x01\x02\x14\x03");
        directory.extend_from_slice(&common(&entry.name));
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&(entry.mode << 16).to_le_bytes());
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(&entry.name);
    }
    let start = zip.len() as u32;
    zip.extend_from_slice(&directory);
    zip.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    zip.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    zip.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    zip.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    zip.extend_from_slice(&start.to_le_bytes());
    zip.extend_from_slice(&[0, 0]);
    zip
}

fn deflate(content: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(content).unwrap();
    packer.finish().unwrap()
}

#[test]
fn what_is_no_zip_or_half_of_one_is_refused() {
    assert_eq!(refused(Vec::new()).0, Archive::NotAZip);
    assert_eq!(refused(b"<html>not at all</html>".to_vec()).0, Archive::NotAZip);
    assert_eq!(refused(noise(3, 2 << 20)).0, Archive::NotAZip);
    let whole = site_v2();
    for length in 0..whole.len() {
        let (why, text) = refused(whole[..length].to_vec());
        assert_eq!(why, if length < 4 { Archive::NotAZip } else { Archive::Truncated }, "{length}: {text}");
    }
    let large = zip_with(&[("index.html", b"x", stored()), ("video.mp4", &noise(4, 2 << 20), stored())]);
    assert_eq!(refused(large[..large.len() - 100].to_vec()).0, Archive::Truncated);
    // The end is there, the beginning is not.
    for length in 1..whole.len() - 22 {
        refused(whole[length..].to_vec());
    }
}

#[test]
fn a_part_of_a_split_zip_is_refused() {
    let whole = site_v2();
    // The part's number, that of the directory's first, and how many entries of all are in this one.
    for at in [4, 6, 8] {
        let mut zip = whole.clone();
        let end = zip.len() - 22;
        zip[end + at] ^= 1;
        assert_eq!(refused(zip).0, Archive::MultiDisk, "{at}");
    }
    let mut zip = whole;
    let locator = [b"PK\x06\x07".as_slice(), &[0; 12], &[2, 0, 0, 0]].concat();
    let end = zip.len() - 22;
    zip.splice(end..end, locator);
    assert_eq!(refused(zip).0, Archive::MultiDisk);
}

#[test]
fn only_the_last_end_says_whether_a_zip_is_split() {
    let mut zip = site_v2();
    // A comment that looks like the end of the last of four parts, and reaches to the end just as well.
    let fake_end = [b"PK\x05\x06".as_slice(), &[3, 0, 3, 0], &[0; 12], &[1, 0]].concat();
    let end = zip.len() - 22;
    zip.splice(end..end, fake_end);
    let (why, reason) = refused(zip);
    assert_ne!(why, Archive::MultiDisk, "{reason}");
}

#[test]
fn a_directory_that_others_would_look_for_elsewhere_is_refused() {
    let whole = site_v2();
    let end = whole.len() - 22;
    // Its size, then its place, in the end record.
    for (field, by) in [(12, 1), (12, -1), (12, 46), (16, 1), (16, -1)] {
        let mut zip = whole.clone();
        let number = &mut zip[end + field..end + field + 4];
        let wrong = u32::from_le_bytes(number.try_into().unwrap()).wrapping_add_signed(by);
        number.copy_from_slice(&wrong.to_le_bytes());
        let (why, reason) = refused(zip);
        assert!(
            matches!(why, Archive::Directory | Archive::Header | Archive::Overlap),
            "{field} {by}: {why:?}: {reason}"
        );
    }
    let mut zip = whole;
    zip.splice(end..end, *b"what is this");
    refused(zip);
}

#[test]
fn what_info_zip_read_from_its_input_is_a_file() {
    let fake = Fake::new(Vec::new());
    let piped = Raw { mode: 0o010_600, ..raw(b"a.txt", b"piped") };
    fake.publish(FIRST, by_hand(&[raw(b"index.html", b"mine"), piped])).unwrap();
    assert_eq!(fake.site()["a.txt"], b"piped");
}

#[test]
fn hostile_entries_are_refused_by_name_and_rule() {
    let index = || raw(b"index.html", b"mine");
    let of_mode = |mode: u32| Raw { mode, ..raw(b"passwd", b"/etc/passwd") };
    let packed_by = |method: u16| Raw { method, ..raw(b"a.html", b"x") };
    let deflated = |size: u32, packed: Vec<u8>| Raw { size, method: 8, packed, ..raw(b"b.html", b"content") };
    let lies = Raw { local_name: b"other.html".to_vec(), ..raw(b"b.html", b"x") };
    for (entry, why, rule) in [
        (raw(b"../index.html", b"x"), Archive::Traversal, "`../index.html` in the zip has `.`, `..`"),
        (raw(b"/index.html", b"x"), Archive::Absolute, "absolute"),
        (raw(b"a\\b.html", b"x"), Archive::Backslash, "backslash"),
        (raw(b"C:/b.html", b"x"), Archive::Drive, "drive letter"),
        (raw(b"a\0.html", b"x"), Archive::Control, "`a\\0.html` in the zip has a control character"),
        (raw(b"a*.html", b"x"), Archive::Wildcard, "wildcard"),
        (raw(b"\xff.html", b"x"), Archive::NotUtf8, "not UTF-8"),
        (raw(&[b'a'; 1100], b"x"), Archive::LongPath, "more than 1024 bytes"),
        (raw(b".shipway/x.html", b"x"), Archive::Reserved, "Shipway uses itself (.shipway/, _preview/)"),
        (raw(b"index.html", b"again"), Archive::Repeated, "`index.html` in the zip is in it twice"),
        (of_mode(0o120_777), Archive::Symlink, "`passwd` in the zip is a symbolic link"),
        (of_mode(0o020_666), Archive::Device, "`passwd` in the zip is a device"),
        (of_mode(0o060_666), Archive::Device, "device"),
        (of_mode(0o140_666), Archive::Device, "socket"),
        (Raw { flags: 1, ..raw(b"secret.html", b"x") }, Archive::Encrypted, "`secret.html` in the zip is encrypted"),
        (packed_by(12), Archive::Method, "method 12"),
        (packed_by(93), Archive::Method, "method 93"),
        (Raw { offset: Some(0), ..raw(b"b.html", b"x") }, Archive::Overlap, "overlaps"),
        (lies, Archive::Header, "`b.html` in the zip has a header of its own"),
        (Raw { crc32: 1, ..raw(b"b.html", b"x") }, Archive::Checksum, "is damaged: its content does not agree"),
        (deflated(9, deflate(b"content")), Archive::Size, "another size"),
        (deflated(3, deflate(b"content")), Archive::Size, "another size"),
        (Raw { size: 9, ..raw(b"b.html", b"x") }, Archive::Size, "two different sizes"),
        (deflated(7, b"\xff\xff\xff".to_vec()), Archive::Damaged, "cannot be unpacked"),
        (deflated(7, deflate(b"content")[..4].to_vec()), Archive::Damaged, "cannot be unpacked"),
        (deflated(7, [deflate(b"content"), vec![0; 9]].concat()), Archive::Damaged, "cannot be unpacked"),
    ] {
        let (said, text) = refused(by_hand(&[index(), entry]));
        assert_eq!(said, why, "{text}");
        assert!(text.contains(rule), "{rule}: {text}");
        assert!(
            text.starts_with("sites/shop/prod/web/site.zip is not published and the site is as it was: "),
            "{text}"
        );
    }
    assert_eq!(refused(by_hand(&[])).0, Archive::Empty);
    assert_eq!(refused(by_hand(&[raw(b"a/index.htm", b"x")])).0, Archive::NoIndex);
    // A folder's entry has no content, and its mode may be any.
    let folder = Raw { mode: 0o100_644, ..raw(b"a/", b"") };
    assert!(Fake::new(Vec::new()).publish(FIRST, by_hand(&[index(), folder])).is_ok());
}

#[test]
fn bombs_are_refused_before_they_grow() {
    let mega = vec![0; 64 << 20];
    let bomb = Raw { method: 8, packed: deflate(&mega), size: 64 << 20, crc32: 0, ..raw(b"bomb.html", b"") };
    assert_eq!(refused(by_hand(&[raw(b"index.html", b"x"), bomb.clone()])).0, Archive::Ratio);
    // One that lies about its size ends where the lie does.
    let liar = Raw { size: 1000, ..bomb.clone() };
    assert_eq!(refused(by_hand(&[raw(b"index.html", b"x"), liar])).0, Archive::Size);
    let large = |n: u8| Raw { size: u32::MAX, packed: vec![0; 22 << 20], ..bomb.clone() }.named(n);
    assert_eq!(refused(by_hand(&[large(1), large(2)])).0, Archive::TooLarge);
    // Many entries that share one packed content.
    let shared: Vec<Raw> = (0..50u8)
        .map(|n| Raw {
            name: vec![b'a' + n % 26, b'0' + n / 26],
            offset: (n > 0).then_some(0),
            size: 1 << 20,
            ..bomb.clone()
        })
        .collect();
    assert_eq!(refused(by_hand(&shared)).0, Archive::Overlap);
    // An end that promises more entries than there are, or than there may be.
    let mut zip = by_hand(&[raw(b"index.html", b"x")]);
    let end = zip.len() - 22;
    (zip[end + 8], zip[end + 10]) = (9, 9);
    let (why, text) = refused(zip.clone());
    assert_eq!(why, Archive::Directory);
    assert!(text.contains("lists 1 entries and says that it has 9"), "{text}");
    // The end of a zip64, which can promise more than 65,535.
    zip[end + 8..end + 20].fill(0xff);
    let count = 100_001u64.to_le_bytes();
    let start = zip.len() as u64 - 22;
    let record = [
        b"PK\x06\x06".as_slice(),
        &44u64.to_le_bytes(),
        &[45, 0, 45, 0],
        &[0; 8],
        &count,
        &count,
        &56u64.to_le_bytes(),
        &(start - 56).to_le_bytes(),
    ]
    .concat();
    let locator = [b"PK\x06\x07".as_slice(), &[0; 4], &start.to_le_bytes(), &[1, 0, 0, 0]].concat();
    zip.splice(end..end, [record, locator].concat());
    let (why, text) = refused(zip);
    assert_eq!(why, Archive::TooMany, "{text}");
}

#[test]
fn a_flipped_bit_anywhere_changes_nothing_or_is_refused() {
    let whole = zip_of(&[("index.html", b"<h1>two</h1> <p>and some more of it</p>"), ("robots.txt", b"none at all")]);
    for at in 0..whole.len() {
        let mut zip = whole.clone();
        zip[at] ^= 1 << (at % 8);
        let fake = after_first();
        let before = fake.site();
        fake.begin(SECOND);
        *fake.zip.borrow_mut() = zip;
        match fake.sync(SECOND) {
            // Times, versions, attributes: nothing that is published.
            Ok(_) => {
                for (key, (content, _)) in &fake.world.borrow().site {
                    assert!(before.get(key) == Some(content) || whole_content(key, content), "byte {at}: {key}");
                }
            }
            Err(error) => {
                assert!(matches!(error.failure(), Failure::RejectedArchive(_)), "byte {at}: {error}");
                assert_eq!(fake.site(), before, "byte {at}");
            }
        }
    }
}

fn whole_content(_: &str, content: &[u8]) -> bool {
    [b"<h1>two</h1> <p>and some more of it</p>".as_slice(), b"none at all"].contains(&content)
}
