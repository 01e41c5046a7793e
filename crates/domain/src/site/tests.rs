//! Zips that are refused and zips that are not, what they become, and what has to be done for it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{name::*, *};
use crate::{
    edge::Edge,
    failure::Archive,
    manifest::spec::{Routing, Site, TrailingSlash, Verify},
    name::ReleaseId,
};

fn entry(name: &str) -> Entry {
    Entry {
        name: name.as_bytes().to_vec(),
        size: 10,
        packed: 5,
        crc32: 7,
        offset: 0,
        method: 8,
        encrypted: false,
        kind: Kind::Regular,
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
fn a_colon_makes_a_drive_of_a_letter_only() {
    assert_eq!(contents(&["index.html", ",:/d", "1:a", "ab:c"]).files.len(), 4);
}

#[test]
fn entries_that_cannot_be_what_they_say_are_refused() {
    let base = || entry("index.html");
    for (entry, rule) in [
        (Entry { encrypted: true, ..base() }, "encrypted"),
        (Entry { kind: Kind::Symlink, ..base() }, "symbolic link"),
        (Entry { kind: Kind::Device, ..base() }, "device"),
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
    let large: Vec<Entry> =
        (0..6).map(|n| Entry { size: 1 << 30, packed: 1 << 30, offset: n << 31, ..entry(&format!("{n}")) }).collect();
    assert!(refused(large).contains("6442450944 bytes"));
    let many = (0..=MAX_ENTRIES).map(|n| Entry { offset: n as u64 * 100, ..entry(&format!("{n}")) }).collect();
    assert!(refused(many).contains("100001 entries"));
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
    let with = contents(&["dist/", "dist/index.html", "dist/a/b.js", "__MACOSX/dist/._index.html", "dist/.DS_Store"]);
    assert_eq!(with.stripped.as_deref(), Some("dist"));
    assert_eq!(with.files.iter().map(|file| file.path()).collect::<Vec<_>>(), ["a/b.js", "index.html"]);
    assert_eq!(with.files[1].name, "dist/index.html");
    let without = contents(&["dist/index.html", "index.html"]);
    assert_eq!(without.stripped, None);
    assert_eq!(without.files.len(), 2);
}

#[test]
fn shipways_own_paths_are_refused_wherever_the_folder_around_them_is() {
    for names in [
        &["index.html", ".shipway/preview/a/index.html"][..],
        &["index.html", ".shipway"],
        &["index.html", "_preview/x.html"],
        &["dist/index.html", "dist/_preview/x.html"],
    ] {
        let (entries, directory) = zip(names);
        let refusal = accept(entries, directory).unwrap_err();
        assert_eq!(refusal.archive(), Archive::Reserved, "{refusal}");
    }
    assert_eq!(contents(&["index.html", ".shipway.json", "_previews/x.html"]).files.len(), 3);
}

#[test]
fn names_that_differ_by_case_only_are_told() {
    assert_eq!(contents(&["index.html", "a.js", "b.js"]).twins, None);
    let twins = contents(&["index.html", "Logo.svg", "b.js", "logo.svg"]).twins;
    assert_eq!(twins, Some(("Logo.svg".to_owned(), "logo.svg".to_owned())));
}

#[test]
fn names_that_bundlers_make_of_the_content_are_kept_for_a_year() {
    for hashed in [
        // Next
        "_next/static/chunks/app/page-3f2a1b4c5d6e7f80.js",
        "_next/static/chunks/webpack-ee7e63bc15b31913.js",
        "_next/static/css/b9a1c3c7d5e5a0f2.css",
        "_next/static/media/e4af272ccee01ff0-s.p.woff2",
        "_next/static/Kx9vWqT_LZfGvWq8hZcXo/_buildManifest.js",
        "docs/_next/static/chunks/4bd1b696-100b9d70ed4e49c1.js",
        // Vite, Rollup
        "assets/index-BfX3k9Qz.js",
        "assets/index-B_X3-9Qz.css",
        "assets/index-DiwrgTda.css",
        "assets/vendor-CqJjgUxv.js",
        "app/assets/inter-latin-wght-normal-Dx4kXJAl.woff2",
        "assets/index.4f8c1e0e.js",
        // Create React App
        "static/js/main.8e3b1f0a.js",
        "static/js/main.8e3b1f0a.js.map",
        "static/js/2.3f9a0b1c.chunk.js",
        "static/css/main.073c9b0a.css.map",
        "static/css/2.3f9a0b1c.chunk.css",
        "static/media/logo.6ce24c58023cc2f8fd88fe9d219db6c6.svg",
        // Angular
        "main-5ZQ3JXKD.js",
        "chunk-ABCD2FGH.js",
        "chunk-KQXYZABC.js",
        "styles-5INURTSO.css",
        "polyfills-FFHMD2TL.js",
        "main.1f0e4c7a9b3d2e58.js",
        "media/logo.6ce24c58.svg",
        // SvelteKit
        "_app/immutable/entry/start.Dqv4pVxN.js",
        "_app/immutable/chunks/scheduler.js",
        // Astro
        "_astro/index.BfX3k9Qz.css",
        "_astro/hero.Dx4kXJAl_Z1abc.webp",
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
        "assets/photo-IMG_1234.jpg",
        "assets/OpenSans-SemiBold.woff2",
        "assets/app-settings.js",
        "assets/app-Settings.js",
        "app-SETTINGS.js",
        "app.js",
        "jquery-3.7.1.min.js",
        "service-worker.js",
        "ngsw-worker.js",
        "facade.js",
        "deadbeef.js",
        "feedback.css",
        "_app/version.json",
        "my_next/static/app.js",
        "asset-manifest.json",
        "static/js/main.8e3b1f0a.js.LICENSE.txt",
        "LICENSE",
        "3f2a1b4c5d6e7f80",
    ] {
        assert!(!is_content_hashed(plain), "{plain}");
    }
}

fn spec(text: &str) -> Site {
    serde_json::from_str(text).unwrap()
}

const CLEAN: &str = r#"{"routing":"clean","trailing_slash":"never"}"#;

fn live() -> Place<'static> {
    Place { prefix: "", precompressed: &[] }
}

fn wants(names: &[&str], text: &str) -> SiteManifest {
    wanted(&contents(names), &spec(text), &live()).unwrap()
}

#[test]
fn files_get_their_type_and_their_header_and_the_first_rule_that_matches_counts() {
    let names = ["index.html", "a/b.css", "main.8e3b1f0a.js", "robots.txt", "logo.svg", "x.wasm", "app.webmanifest"];
    let rules = r#"{"routing":"spa","cache":[{"files":"*.svg","control":"max-age=1"},
        {"files":"**/*.css","control":"max-age=2"},{"files":"a/*","control":"max-age=3"}]}"#;
    let told = |wanted: &SiteManifest| -> Vec<[String; 3]> {
        let told = |(key, object): (&String, &SiteObject)| {
            [key.clone(), object.headers.content_type.clone(), object.headers.cache_control.clone()]
        };
        wanted.objects.iter().map(told).collect()
    };
    assert_eq!(
        told(&wants(&names, rules)),
        [
            ["a/b.css", "text/css; charset=utf-8", "max-age=2"],
            ["app.webmanifest", "application/manifest+json", "public, max-age=300"],
            ["index.html", "text/html; charset=utf-8", "no-cache"],
            ["logo.svg", "image/svg+xml", "max-age=1"],
            ["main.8e3b1f0a.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"],
            ["robots.txt", "text/plain; charset=utf-8", "public, max-age=300"],
            ["x.wasm", "application/wasm", "public, max-age=300"],
        ]
    );
    // In a preview nothing is old.
    let place = Place { prefix: ".shipway/preview/pr/1/", precompressed: &[] };
    let preview = wanted(&contents(&names), &spec(rules), &place).unwrap();
    for [key, _, cache] in told(&preview) {
        let hashed = key.starts_with("main.");
        assert_eq!(cache, if hashed { "public, max-age=31536000, immutable" } else { "no-cache" }, "{key}");
    }
    let long = contents(&["index.html", &"a".repeat(1010)]);
    assert!(wanted(&long, &spec("{}"), &live()).is_ok());
    assert_eq!(wanted(&long, &spec("{}"), &place).unwrap_err().archive(), Archive::LongPath);
}

#[test]
fn what_the_manifest_does_not_say_of_urls_is_found_in_the_zip() {
    use Routing::{Clean, Spa};
    use TrailingSlash::{Always, Never};
    for (names, text, routing, slash) in [
        (&["index.html", "app.js", "404.html"][..], "{}", Spa, Never),
        (&["index.html", "chat.html"], "{}", Clean, Never),
        (&["index.html", "chat/index.html"], "{}", Clean, Always),
        (&["index.html", "a/index.html", "b.html"], "{}", Clean, Never),
        (&["index.html", "a/index.html", "b/index.html", "c.html"], "{}", Clean, Always),
        (&["index.html"], r#"{"routing":"clean"}"#, Clean, Never),
        (&["index.html", "a/index.html"], r#"{"routing":"spa"}"#, Spa, Never),
        (&["index.html", "a/index.html"], r#"{"trailing_slash":"never"}"#, Clean, Never),
        (&["index.html"], r#"{"trailing_slash":"always"}"#, Clean, Always),
    ] {
        let edge = found(&contents(names), &spec(text));
        assert_eq!((edge.routing, edge.slash), (routing, slash), "{names:?} {text}");
    }
}

fn aliases(wanted: &SiteManifest) -> Vec<(&str, &str)> {
    wanted.objects.iter().filter_map(|(key, object)| Some((key.as_str(), object.file.as_deref()?))).collect()
}

#[test]
fn a_page_in_the_form_of_its_url_is_one_object_and_one_in_the_other_form_has_a_second() {
    let names = ["index.html", "chat.html", "blog/index.html", "both.html", "both/index.html", "404.html", "LICENSE"];
    let never = wants(&names, CLEAN);
    assert_eq!(aliases(&never), [("LICENSE.html", "LICENSE"), ("blog.html", "blog/index.html")]);
    assert_eq!(never.objects["LICENSE.html"].headers.content_type, "application/octet-stream");
    let always = wants(&names, r#"{"trailing_slash":"always"}"#);
    assert_eq!(aliases(&always), [("LICENSE/index.html", "LICENSE"), ("chat/index.html", "chat.html")]);
    assert_eq!(aliases(&wants(&names, r#"{"routing":"spa"}"#)), []);
    assert_eq!(aliases(&wants(&["index.html", "v1.2.html"], CLEAN)), [("v1.2", "v1.2.html")]);
}

#[test]
fn the_environments_config_takes_the_place_of_the_zips() {
    let text = r#"{"config":{"api":"https://api.example","b":"c"},"precompressed":true}"#;
    let names = ["index.html", "config.json", "config.json.br", "config.json.gz"];
    let wanted = wants(&names, text);
    let content = r#"{"api":"https://api.example","b":"c"}"#;
    assert_eq!(wanted.config.as_deref(), Some(content));
    let object = &wanted.objects["config.json"];
    assert_eq!((object.crc32, object.size), (crc32fast::hash(content.as_bytes()), content.len() as u64));
    assert_eq!(object.headers.cache_control, "no-cache");
    assert_eq!(wanted.objects.keys().collect::<Vec<_>>(), ["config.json", "index.html"]);
    let there = remarks(&contents(&names), &spec(text), &wanted);
    assert!(there.contains(&"config.json is the environment's, not the zip's".to_owned()), "{there:?}");
    let uploads = uploads(&contents(&names), &wanted, &Bucket::of(&Before::default()));
    assert_eq!(
        uploads[0],
        Upload { phase: Phase::Others, file: None, copy_of: None, keys: vec!["config.json".to_owned()] }
    );
    assert_eq!(unread(&contents(&names), &wanted, &Bucket::of(&Before::default()), Verify::Crc32).len(), 1);
}

#[test]
fn precompressed_files_are_variants_of_the_file_they_are_named_for() {
    let names = ["index.html", "a.js", "a.js.br", "a.js.gz", "b.css", "b.css.br", "c.gz", "d.js.map", "d.js.map.gz"];
    let text = r#"{"precompressed":true,"cache":[{"files":"*.js","control":"max-age=9"}]}"#;
    let record = wants(&names, text);
    let headers = |key: &str| {
        let headers = &record.objects[key].headers;
        (headers.content_type.as_str(), headers.cache_control.as_str(), headers.encoding.as_deref())
    };
    assert_eq!(headers("a.js.br"), ("text/javascript; charset=utf-8", "max-age=9", Some("br")));
    assert_eq!(headers("a.js.gz"), ("text/javascript; charset=utf-8", "max-age=9", Some("gzip")));
    assert_eq!(headers("c.gz").2, None);
    assert_eq!(record.edge.precompressed, ["js"]);
    assert_eq!(wants(&names, "{}").objects["a.js.br"].headers.encoding, None);
    assert!(wants(&names, "{}").edge.precompressed.is_empty());
}

const RELEASES: [&str; 4] = [
    "20261121T010000000-000001",
    "20261121T020000000-000002",
    "20261121T030000000-000003",
    "20261121T040000000-000004",
];

fn release(number: usize) -> ReleaseId {
    RELEASES[number].parse().unwrap()
}

fn hour(hours: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
}

/// What a release leaves, from its names, over what was there before.
fn left(number: usize, names: &[&str], text: &str, before: &Before, hours: i64) -> SiteManifest {
    let (bucket, spec) = (Bucket::of(before), spec(text));
    let told: Vec<String> = before.live.iter().flat_map(|live| live.edge.precompressed.clone()).collect();
    let contents = contents(names);
    let mut record = wanted(&contents, &spec, &Place { prefix: "", precompressed: &told }).unwrap();
    let hashes = contents.files.iter().enumerate().map(|(index, _)| (index, Sha256([1; 32]))).collect();
    learn(&mut record, &contents, &hashes, &bucket);
    settle(&mut record, &bucket, &release(number), &spec, hour(hours));
    record
}

fn after(live: SiteManifest) -> Before {
    Before { live: Some(live), ..Before::default() }
}

#[test]
fn an_extension_is_precompressed_when_all_in_the_bucket_is_and_what_the_edge_still_asks_for_is_there() {
    let text = r#"{"precompressed":true}"#;
    let plain = left(0, &["index.html", "old.js"], text, &Before::default(), 0);
    let packed = ["index.html", "a.js", "a.js.br", "a.js.gz"];
    // The old file has no variants, and open pages may ask for it.
    let second = left(1, &packed, text, &after(plain.clone()), 1);
    assert!(second.edge.precompressed.is_empty());
    let third = left(1, &packed, r#"{"precompressed":true,"releases":1}"#, &after(plain), 24 * 8);
    assert!(third.edge.precompressed.is_empty(), "the grace period begins when nobody wants it any more");
    let fourth = left(2, &packed, r#"{"precompressed":true,"releases":1}"#, &after(third), 24 * 16);
    assert_eq!(fourth.condemned, ["old.js"]);
    assert_eq!(fourth.edge.precompressed, ["js"]);
    // A build without variants: until the edge knows, it finds the file itself where it looks for them.
    let fifth = left(3, &["index.html", "b.js"], text, &after(fourth), 24 * 16);
    assert_eq!(aliases(&fifth), [("b.js.br", "b.js"), ("b.js.gz", "b.js")]);
    assert_eq!(fifth.objects["b.js.br"].headers.encoding, None);
    assert!(fifth.edge.precompressed.is_empty());
}

#[test]
fn what_a_cut_off_release_may_have_overwritten_or_deleted_is_not_certain() {
    let object = |crc32: u32| SiteObject {
        crc32,
        size: 1,
        sha256: None,
        headers: Arc::new(Headers {
            content_type: "text/plain".to_owned(),
            cache_control: "no-cache".to_owned(),
            encoding: None,
        }),
        file: None,
    };
    let record = |objects: &[(&str, u32)]| SiteManifest {
        objects: objects.iter().map(|(key, crc32)| ((*key).to_owned(), object(*crc32))).collect(),
        ..SiteManifest::default()
    };
    let mut live = record(&[("a", 1), ("b", 1), ("c", 1)]);
    live.retired.insert("r".to_owned(), Retired { object: Some(object(1)), last: None, since: hour(0) });
    let cut = record(&[("a", 1), ("b", 2), ("d", 2)]);
    let cleaner = SiteManifest { condemned: vec!["r".to_owned()], ..SiteManifest::default() };
    let certain = |before: Before| {
        let bucket = Bucket::of(&before);
        let keys = bucket.keys.iter().filter(|(_, seen)| seen.object.is_some()).map(|(key, _)| *key);
        keys.collect::<Vec<_>>().join(" ")
    };
    let with = |unfinished: &[Option<SiteManifest>]| {
        certain(Before { live: Some(live.clone()), unfinished: unfinished.to_vec(), ..Before::default() })
    };
    assert_eq!(with(&[]), "a b c r");
    assert_eq!(with(&[Some(cut.clone())]), "a c r");
    assert_eq!(with(&[Some(cut), Some(record(&[("c", 9), ("r", 9)]))]), "a");
    assert_eq!(with(&[Some(cleaner)]), "a b c");
    assert_eq!(with(&[None]), "");
    assert_eq!(certain(Before { repair: true, ..after(live.clone()) }), "");
    assert_eq!(certain(Before::default()), "");
}

#[test]
fn uploads_go_from_assets_to_pages_and_renamed_content_is_copied() {
    let contents = contents(&["index.html", "b.txt", "a.8e3b1f0a.js", "x/index.html", "same.txt", "moved.txt"]);
    let spec = spec(CLEAN);
    let mut record = wanted(&contents, &spec, &live()).unwrap();
    let hashes: BTreeMap<usize, Sha256> =
        contents.files.iter().enumerate().map(|(index, _)| (index, Sha256([index as u8; 32]))).collect();
    learn(&mut record, &contents, &hashes, &Bucket::of(&Before::default()));
    let mut there = SiteManifest::default();
    let mut put = |key: &str, as_key: &str, change: fn(&mut SiteObject)| {
        let mut object = record.objects[as_key].clone();
        change(&mut object);
        there.objects.insert(key.to_owned(), object);
    };
    put("same.txt", "same.txt", |_| {});
    put("b.txt", "b.txt", |object| {
        object.headers = Arc::new(Headers { cache_control: "x".to_owned(), ..(*object.headers).clone() })
    });
    put("before.txt", "moved.txt", |_| {});
    // The same content, but this release writes another one there.
    put("index.html", "x/index.html", |_| {});
    let before = after(there);
    let uploads = uploads(&contents, &record, &Bucket::of(&before));
    let order: Vec<(Phase, Vec<&str>, Option<&str>)> = uploads
        .iter()
        .map(|upload| (upload.phase, upload.keys.iter().map(String::as_str).collect(), upload.copy_of.as_deref()))
        .collect();
    assert_eq!(
        order,
        [
            (Phase::Assets, vec!["a.8e3b1f0a.js"], None),
            (Phase::Others, vec!["b.txt"], None),
            (Phase::Others, vec!["moved.txt"], Some("before.txt")),
            (Phase::Pages, vec!["index.html"], None),
            (Phase::Pages, vec!["x.html", "x/index.html"], None),
        ]
    );
}

#[test]
fn with_sha256_a_file_is_changed_that_crc32_takes_for_the_same() {
    let (contents, spec) = (contents(&["index.html", "a.txt"]), spec(r#"{"verify":"sha256"}"#));
    let record = |second: u8| {
        let mut record = wanted(&contents, &spec, &live()).unwrap();
        let hashes = BTreeMap::from([(0, Sha256([second; 32])), (1, Sha256([7; 32]))]);
        learn(&mut record, &contents, &hashes, &Bucket::of(&Before::default()));
        record
    };
    let before = after(record(1));
    let bucket = Bucket::of(&before);
    assert!(unread(&contents, &wanted(&contents, &spec, &live()).unwrap(), &bucket, Verify::Crc32).is_empty());
    assert_eq!(unread(&contents, &record(1), &bucket, Verify::Sha256).len(), 2);
    assert!(uploads(&contents, &record(1), &bucket).is_empty());
    assert_eq!(uploads(&contents, &record(2), &bucket).len(), 1);
}

#[test]
fn what_no_kept_release_wants_goes_after_the_grace_period() {
    let text = r#"{"releases":2,"keep":"12h"}"#;
    let first = left(0, &["index.html", "a.js"], text, &Before::default(), 0);
    assert_eq!(first.kept, [release(0)]);
    let second = left(1, &["index.html"], text, &after(first.clone()), 1);
    assert_eq!((second.retired["a.js"].last.clone(), second.retired["a.js"].since), (Some(release(0)), hour(1)));
    // Kept by number, then by time.
    let early = left(2, &["index.html"], text, &after(second.clone()), 12);
    assert_eq!((early.kept.clone(), early.condemned.len()), (vec![release(2), release(1)], 0));
    let late = left(2, &["index.html"], text, &after(second.clone()), 13);
    assert_eq!((late.condemned.clone(), late.retired.len()), (vec!["a.js".to_owned()], 0));
    // It is wanted again in time.
    let back = left(2, &["index.html", "a.js"], text, &after(second), 13);
    assert!(back.condemned.is_empty() && back.retired.is_empty());
    // Deleted or not, whoever comes next goes by the mark.
    assert_eq!(left(3, &["index.html"], text, &after(late.clone()), 14).condemned, ["a.js"]);
    assert!(left(3, &["index.html", "a.js"], text, &after(late.clone()), 14).condemned.is_empty());
    let cleaned = Before { is_cleaned: true, ..after(late) };
    assert!(left(3, &["index.html"], text, &cleaned, 14).condemned.is_empty());
}

#[test]
fn pages_are_deleted_before_what_they_refer_to() {
    let condemned = ["a.html", "app.8e3b1f0a.js", "b.txt", "z.html"].map(str::to_owned).to_vec();
    let mut record = SiteManifest { condemned, ..SiteManifest::default() };
    assert_eq!(deletions(&record), ["a.html", "z.html", "b.txt", "app.8e3b1f0a.js"]);
    record.objects = wants(&["index.html", "b.txt"], "{}").objects;
    assert_eq!(deletions(&record), ["a.html", "z.html", "app.8e3b1f0a.js"]);
}

#[test]
fn a_repair_trusts_a_list_and_nothing_else() {
    let before = Before { repair: true, ..after(left(0, &["index.html", "a.js"], "{}", &Before::default(), 0)) };
    let listed = ["index.html", "stray.txt"].map(str::to_owned).into();
    let bucket = Bucket::of(&before).listed(&listed);
    let (contents, spec) = (contents(&["index.html"]), spec("{}"));
    let mut record = wanted(&contents, &spec, &live()).unwrap();
    assert_eq!(uploads(&contents, &record, &bucket).len(), 1);
    settle(&mut record, &bucket, &release(1), &spec, hour(5));
    let stray = Retired { object: None, last: None, since: hour(5) };
    assert_eq!(record.retired, BTreeMap::from([("stray.txt".to_owned(), stray)]));
    assert!(concerns_edge(&record, &before));
}

#[test]
fn the_edge_is_told_what_it_may_hold_or_must_know_and_nothing_else() {
    let names = ["index.html", "b.txt"];
    let first = left(0, &names, "{}", &Before::default(), 0);
    assert!(concerns_edge(&first, &Before::default()), "an app with its own router is not what the edge goes by");
    assert!(!concerns_edge(&left(0, &names, CLEAN, &Before::default(), 0), &Before::default()));
    let before = after(first.clone());
    let change = |key: &str| {
        let mut next = left(1, &names, "{}", &before, 1);
        let object = next.objects.get_mut(key).unwrap();
        object.crc32 = 8;
        next
    };
    assert!(!concerns_edge(&left(1, &names, "{}", &before, 1), &before));
    assert!(!concerns_edge(&change("index.html"), &before), "a page is never kept");
    assert!(concerns_edge(&change("b.txt"), &before));
    assert!(!concerns_edge(&left(1, &["index.html", "b.txt", "new.txt"], "{}", &before, 1), &before));
    assert!(concerns_edge(&left(1, &names, CLEAN, &before, 1), &before));
    assert!(concerns_edge(&first, &Before { is_lost: true, ..Before::default() }));
    let cut = Before { unfinished: vec![Some(change("b.txt"))], ..after(first.clone()) };
    assert!(concerns_edge(&left(1, &names, "{}", &cut, 1), &cut), "what was cut off may have been seen");
    // What is deleted was kept by the edges, unless it never changes.
    let text = r#"{"releases":1,"keep":"1h"}"#;
    for (gone, told) in [("old.txt", true), ("old.8e3b1f0a.js", false)] {
        let first = left(0, &["index.html", gone], text, &Before::default(), 0);
        let second = left(1, &["index.html"], text, &after(first), 1);
        let before = after(second);
        let third = left(2, &["index.html"], text, &before, 9);
        assert_eq!(third.condemned, [gone]);
        assert_eq!(concerns_edge(&third, &before), told, "{gone}");
    }
}

#[test]
fn neighbours_are_read_together() {
    let file = |offset: u64, end: u64| ZipFile {
        name: String::new(),
        top: 0,
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
        always in any::<bool>(),
    ) {
        let names: Vec<&str> = names.iter().map(String::as_str).chain(["index.html"]).collect();
        let contents = contents(&names);
        let slash = if always { TrailingSlash::Always } else { TrailingSlash::Never };
        let edge = Edge { routing: Routing::Clean, slash, precompressed: Vec::new() };
        let text = format!(r#"{{"routing":"clean","trailing_slash":"{}"}}"#, if always { "always" } else { "never" });
        let wanted = wanted(&contents, &spec(&text), &live()).unwrap();
        for file in &contents.files {
            for found_by in [file_url, page_url, index_url] {
                for url in found_by(file.path()).into_iter().flatten() {
                    let key = found_at(&edge, &url).unwrap();
                    prop_assert!(wanted.objects.contains_key(&key), "{url} of {} finds nothing", file.path());
                }
            }
            prop_assert!(wanted.objects[file.path()].file.is_none());
        }
    }

    #[test]
    fn the_same_zip_needs_no_upload_after_its_uploads(changed in proptest::collection::btree_set(0usize..6, 0..6)) {
        let names = ["index.html", "a.html", "b/index.html", "c.txt", "d.8e3b1f0a.js", "e"];
        let contents = contents(&names);
        let wanted = wanted(&contents, &spec(CLEAN), &live()).unwrap();
        let mut there = wanted.clone();
        for index in changed {
            there.objects.remove(names[index]);
        }
        for upload in uploads(&contents, &wanted, &Bucket::of(&after(there.clone()))) {
            for key in upload.keys {
                there.objects.insert(key.clone(), wanted.objects[&key].clone());
            }
        }
        prop_assert!(uploads(&contents, &wanted, &Bucket::of(&after(there))).is_empty());
    }
}
