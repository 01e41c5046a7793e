//! Publications against a table, an intake bucket and a site bucket in memory: whole ones, ones that are cut off at every call,
//! and zips that mean harm.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Write},
    ops::Range,
};

use bytes::Bytes;
use jiff::Timestamp;
use shipway_aws::{
    PublicError,
    store::{EnvironmentRecord, Manifest},
};
use shipway_domain::{
    failure::Failure,
    manifest,
    message::{Pass, PassInput, Run, Summary},
    name::ReleaseId,
    platform::SiteOutputs,
    release::{Artifact, Claim, ComponentState, Live},
    site::{SiteManifest, SiteObject},
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::{
    archive::{self, Directory, Tail},
    handler::{Action, Body, Calls, Error, Progress, Zip, handle},
};

type Objects = BTreeMap<String, (Vec<u8>, SiteObject)>;

/// A cut before or after the n-th call has its effect.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Before(usize),
    After(usize),
}

#[derive(Default)]
struct World {
    state: ComponentState,
    progress: BTreeMap<ReleaseId, Progress>,
    manifests: BTreeMap<String, SiteManifest>,
    site: Objects,
}

struct Fake {
    world: RefCell<World>,
    zip: RefCell<Vec<u8>>,
    manifest: Manifest,
    calls: RefCell<Vec<String>>,
    cut: Cell<Option<Cut>>,
}

const FIRST: &str = "20261121T030000000-000001";
const SECOND: &str = "20261121T040000000-000002";
const THIRD: &str = "20261121T050000000-000003";

fn artifact() -> Artifact {
    Artifact::Object { key: "sites/shop/prod/web/site.zip".to_owned(), version: "v1".to_owned() }
}

fn run(release: &str) -> Run {
    Run {
        app: "shop".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        component: "site/web".parse().unwrap(),
        artifact: artifact(),
        release: release.parse().unwrap(),
        fence: 1,
    }
}

impl Fake {
    fn new(zip: Vec<u8>) -> Fake {
        Fake::with_routing(zip, "clean")
    }

    fn with_routing(zip: Vec<u8>, routing: &str) -> Fake {
        let run = run(FIRST);
        let text =
            format!("version: 1\napp: shop\nsites: {{web: {{routing: {routing}}}}}\nenvironments: {{prod: {{}}}}\n");
        let spec = manifest::read(&text, &run.app, &run.environment).unwrap();
        Fake {
            world: RefCell::default(),
            zip: RefCell::new(zip),
            manifest: Manifest { artifact: artifact(), spec },
            calls: RefCell::default(),
            cut: Cell::new(None),
        }
    }

    fn call<T>(&self, name: String, effect: impl FnOnce(&mut World) -> Result<T, Error>) -> Result<T, Error> {
        self.calls.borrow_mut().push(name);
        let number = self.calls.borrow().len();
        let cut = || Error::Interrupted("cut off".to_owned());
        match self.cut.get() {
            Some(Cut::Before(at)) if at == number => Err(cut()),
            Some(Cut::After(at)) if at == number => effect(&mut self.world.borrow_mut()).and(Err(cut())),
            _ => effect(&mut self.world.borrow_mut()),
        }
    }

    fn calls_of(&self, name: &str) -> Vec<String> {
        self.calls.borrow().iter().filter_map(|call| call.strip_prefix(name).map(str::to_owned)).collect()
    }

    /// What record-release does before a release.
    fn begin(&self, release: &str) {
        let mut world = self.world.borrow_mut();
        let until = Timestamp::MAX;
        world.state.claim = Some(Claim { release: release.parse().unwrap(), fence: 1, until, committed: false });
        self.calls.borrow_mut().clear();
    }

    /// What record-release does after a release that went well.
    fn end(&self, release: &str) {
        let mut world = self.world.borrow_mut();
        world.state.live =
            Some(Live { artifact: artifact(), release: release.parse().unwrap(), since: Timestamp::MIN });
        world.state.unfinished.clear();
        world.state.claim = None;
    }

    fn pass(&self, release: &str, is_spent: impl Fn() -> bool) -> Result<Pass<Summary>, Error> {
        let input = PassInput { run: run(release), action: Action::Sync };
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(handle(self, input, is_spent))
    }

    /// A release in one pass, from its begin to its end.
    fn publish(&self, release: &str, zip: Vec<u8>) -> Result<String, Error> {
        self.begin(release);
        *self.zip.borrow_mut() = zip;
        let note = match self.pass(release, || false)? {
            Pass::Done(summary) => summary.note,
            Pass::Again { note, .. } => panic!("{note}"),
        };
        self.end(release);
        Ok(note)
    }

    fn site(&self) -> BTreeMap<String, Vec<u8>> {
        self.world.borrow().site.iter().map(|(key, (content, _))| (key.clone(), content.clone())).collect()
    }
}

impl Calls for Fake {
    async fn renew(&self, run: &Run) -> Result<(), Error> {
        self.call("renew".to_owned(), |world| {
            let mine = world.state.claim.as_ref().is_some_and(|claim| claim.release == run.release);
            if mine { Ok(()) } else { Err(superseded(run)) }
        })
    }

    async fn applied(&self, run: &Run) -> Result<(EnvironmentRecord, Manifest), Error> {
        let mut record = EnvironmentRecord::default();
        let outputs = SiteOutputs {
            bucket: "bucket".to_owned(),
            distribution: "D1".to_owned(),
            domain: "d1.cloudfront.net".to_owned(),
        };
        record.platform.sites.insert("web".parse().unwrap(), outputs);
        self.call(format!("applied {}", run.app), |_| Ok((record, self.manifest.clone())))
    }

    async fn component(&self, _: &Run) -> Result<ComponentState, Error> {
        self.call("component".to_owned(), |world| Ok(world.state.clone()))
    }

    async fn progress(&self, run: &Run) -> Result<Option<Progress>, Error> {
        self.call("progress".to_owned(), |world| Ok(world.progress.get(&run.release).copied()))
    }

    async fn save_progress(&self, run: &Run, progress: Progress) -> Result<(), Error> {
        self.call("save_progress".to_owned(), |world| {
            world.progress.insert(run.release.clone(), progress);
            Ok(())
        })
    }

    async fn commit(&self, _: &Run) -> Result<(), Error> {
        self.call("commit".to_owned(), |world| {
            world.state.claim.as_mut().unwrap().committed = true;
            Ok(())
        })
    }

    async fn mark_unfinished(&self, run: &Run, _: String) -> Result<(), Error> {
        self.call("mark_unfinished".to_owned(), |world| {
            if !world.state.unfinished.contains(&run.release) {
                world.state.unfinished.push(run.release.clone());
            }
            Ok(())
        })
    }

    async fn tail(&self, _: &Zip, length: u64) -> Result<Tail, Error> {
        self.call("tail".to_owned(), |_| Ok(tail(&self.zip.borrow(), length)))
    }

    async fn read(&self, _: &Zip, range: Range<u64>) -> Result<Bytes, Error> {
        self.call(format!("read {}", range.end - range.start), |_| {
            Ok(Bytes::copy_from_slice(&self.zip.borrow()[range.start as usize..range.end as usize]))
        })
    }

    async fn manifest(&self, key: &str) -> Result<Option<SiteManifest>, Error> {
        self.call("manifest".to_owned(), |world| Ok(world.manifests.get(key).cloned()))
    }

    async fn put_manifest(&self, key: &str, manifest: &SiteManifest) -> Result<(), Error> {
        self.call("put_manifest".to_owned(), |world| {
            world.manifests.insert(key.to_owned(), manifest.clone());
            Ok(())
        })
    }

    async fn put(&self, bucket: &str, key: &str, object: &SiteObject, body: Body) -> Result<(), Error> {
        assert_eq!(bucket, "bucket");
        let content = match body {
            Body::Whole(bytes) => bytes.to_vec(),
            Body::Pieces(mut pieces) => {
                let mut content = Vec::new();
                while let Some(piece) = pieces.0.recv().await {
                    content.extend_from_slice(&piece.map_err(|error| Error::Interrupted(error.to_string()))?);
                }
                content
            }
        };
        // As S3 does with the length and the checksum in the request.
        assert_eq!(content.len() as u64, object.size, "{key}");
        assert_eq!(crc32fast::hash(&content), object.crc32, "{key}");
        self.call(format!("put {key}"), |world| {
            assert!(world.state.claim.as_ref().unwrap().committed, "newer releases must queue");
            assert!(!world.state.unfinished.is_empty(), "the next release must know");
            world.site.insert(key.to_owned(), (content, object.clone()));
            Ok(())
        })
    }
}

fn superseded(run: &Run) -> Error {
    Error::Store(shipway_aws::store::StoreError::Superseded {
        app: run.app.clone(),
        environment: run.environment.clone(),
        component: run.component.clone(),
    })
}

fn tail(zip: &[u8], length: u64) -> Tail {
    let from = zip.len().saturating_sub(length as usize);
    Tail { size: zip.len() as u64, bytes: Bytes::copy_from_slice(&zip[from..]) }
}

fn deflated() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated)
}

fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored)
}

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    zip_with(&files.iter().map(|(name, content)| (*name, *content, deflated())).collect::<Vec<_>>())
}

fn zip_with(files: &[(&str, &[u8], SimpleFileOptions)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content, options) in files {
        zip.start_file(*name, *options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Bytes that no packing makes smaller.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn site_v1() -> Vec<u8> {
    zip_of(&[
        ("index.html", b"<h1>one</h1>"),
        ("about.html", b"about one"),
        ("blog/index.html", b"blog"),
        ("robots.txt", b"all"),
        ("assets/app.8e3b1f0a.js", b"js one"),
    ])
}

fn site_v2() -> Vec<u8> {
    zip_of(&[
        ("index.html", b"<h1>two</h1>"),
        ("about.html", b"about two"),
        ("blog/index.html", b"blog"),
        ("robots.txt", b"none"),
        ("assets/app.9f4c2a1b.js", b"js two"),
    ])
}

#[test]
fn a_publication_goes_from_assets_to_pages_with_types_and_headers() {
    let fake = Fake::new(site_v1());
    let note = fake.publish(FIRST, site_v1()).unwrap();
    assert_eq!(note, "of 5 files 5 changed; uploaded 7 objects with 47 bytes");
    let puts = fake.calls_of("put ");
    assert_eq!(puts[..2], ["assets/app.8e3b1f0a.js", "robots.txt"]);
    let pages: BTreeSet<&str> = puts[2..].iter().map(String::as_str).collect();
    assert_eq!(pages, ["about.html", "about/index.html", "blog.html", "blog/index.html", "index.html"].into());
    let site = &fake.world.borrow().site;
    assert_eq!(site["about/index.html"].0, b"about one");
    assert_eq!(site["index.html"].1.content_type, "text/html; charset=utf-8");
    assert_eq!(site["index.html"].1.cache_control, "no-cache");
    assert_eq!(site["assets/app.8e3b1f0a.js"].1.cache_control, "public, max-age=31536000, immutable");
}

#[test]
fn an_unchanged_zip_changes_nothing() {
    let fake = Fake::new(site_v1());
    fake.publish(FIRST, site_v1()).unwrap();
    let note = fake.publish(SECOND, site_v1()).unwrap();
    assert_eq!(note, "of 5 files none changed; nothing was uploaded");
    // One read of the zip, one of the live manifest, one write of the own one.
    let calls = fake.calls.borrow().join(" ");
    assert_eq!(calls, "renew applied shop component progress tail manifest put_manifest");
}

#[test]
fn only_what_changed_is_uploaded_and_what_is_gone_stays() {
    let fake = Fake::new(site_v1());
    fake.publish(FIRST, site_v1()).unwrap();
    let note = fake.publish(SECOND, site_v2()).unwrap();
    assert_eq!(note, "of 5 files 4 changed; uploaded 5 objects with 40 bytes; kept 1 object no longer in the zip");
    assert_eq!(fake.calls_of("put ").len(), 5);
    assert_eq!(fake.calls_of("read ").len(), 1);
    assert_eq!(fake.site()["assets/app.8e3b1f0a.js"], b"js one");
}

#[test]
fn a_top_folder_is_left_out_and_a_single_page_app_has_no_second_keys() {
    let fake = Fake::with_routing(Vec::new(), "spa");
    let note = fake.publish(FIRST, zip_of(&[("dist/index.html", b"x"), ("dist/about.html", b"y")])).unwrap();
    assert!(note.ends_with("; the folder `dist` around them all was left out"), "{note}");
    assert_eq!(fake.site().into_keys().collect::<Vec<_>>(), ["about.html", "index.html"]);
}

/// All points at which a release can be cut off, for a release that makes this many calls.
fn cuts(calls: usize) -> impl Iterator<Item = Cut> {
    (1..=calls).flat_map(|at| [Cut::Before(at), Cut::After(at)])
}

fn after_first() -> Fake {
    let fake = Fake::new(site_v1());
    fake.publish(FIRST, site_v1()).unwrap();
    fake
}

#[test]
fn a_pass_that_is_cut_off_anywhere_converges_when_it_is_made_again() {
    let whole = after_first();
    whole.publish(SECOND, site_v2()).unwrap();
    let calls = whole.calls.borrow().len();
    for cut in cuts(calls) {
        let fake = after_first();
        fake.begin(SECOND);
        *fake.zip.borrow_mut() = site_v2();
        fake.cut.set(Some(cut));
        assert!(fake.pass(SECOND, || false).is_err(), "{cut:?}");
        let missing_assets = !fake.site().contains_key("assets/app.9f4c2a1b.js");
        assert!(
            !missing_assets || fake.site()["index.html"] == b"<h1>one</h1>",
            "{cut:?}: a page came before its asset"
        );
        fake.cut.set(None);
        assert!(matches!(fake.pass(SECOND, || false), Ok(Pass::Done(_))), "{cut:?}");
        fake.end(SECOND);
        assert_eq!(fake.site(), whole.site(), "{cut:?}");
        assert_eq!(fake.world.borrow().manifests, whole.world.borrow().manifests, "{cut:?}");
    }
}

#[test]
fn after_a_release_that_was_cut_off_anywhere_the_next_one_makes_the_site_right() {
    let calls = {
        let whole = after_first();
        whole.publish(SECOND, site_v2()).unwrap();
        whole.calls.borrow().len()
    };
    for cut in cuts(calls) {
        // Back to what is live: a difference to the live release alone would upload nothing.
        let fake = after_first();
        let wanted = fake.site();
        fake.begin(SECOND);
        *fake.zip.borrow_mut() = site_v2();
        fake.cut.set(Some(cut));
        assert!(fake.pass(SECOND, || false).is_err(), "{cut:?}");
        fake.cut.set(None);
        fake.publish(THIRD, site_v1()).unwrap();
        for (key, content) in wanted {
            assert_eq!(fake.site()[&key], content, "{cut:?}: {key}");
        }
    }
}

#[test]
fn a_lost_manifest_means_that_everything_is_uploaded_again() {
    let fake = after_first();
    fake.world.borrow_mut().manifests.clear();
    let note = fake.publish(SECOND, site_v1()).unwrap();
    assert!(note.starts_with("of 5 files 5 changed"), "{note}");
}

#[test]
fn what_a_release_wants_is_decided_once() {
    let mut fake = Fake::new(site_v1());
    fake.begin(FIRST);
    fake.cut.set(Some(Cut::After(12)));
    assert!(fake.pass(FIRST, || false).is_err());
    assert!(!fake.site().is_empty() && fake.site().len() < 7);
    // The manifest changes while the release is under way.
    fake.manifest.spec.sites.values_mut().next().unwrap().routing = manifest::Routing::Spa;
    fake.cut.set(None);
    assert!(matches!(fake.pass(FIRST, || false), Ok(Pass::Done(_))));
    assert_eq!(fake.site().len(), 7);
}

#[test]
fn a_release_that_lost_its_claim_touches_nothing() {
    let fake = after_first();
    fake.begin(THIRD);
    *fake.zip.borrow_mut() = site_v2();
    let error = fake.pass(SECOND, || false).unwrap_err();
    assert_eq!(error.failure(), Failure::Superseded);
    assert_eq!(fake.calls.borrow().len(), 1);
}

/// More than is held in memory: files of all sizes, in one read, in a read of their own, in pieces.
fn large_site() -> (Vec<u8>, BTreeMap<String, Vec<u8>>) {
    let mut files: Vec<(String, Vec<u8>, SimpleFileOptions)> = vec![
        ("index.html".to_owned(), b"<h1>large</h1>".to_vec(), deflated()),
        ("video/one.mp4".to_owned(), noise(1, 9 << 20), stored()),
        ("video/two.mp4".to_owned(), noise(2, 5 << 20), deflated().compression_level(Some(1))),
        ("data/zero.json".to_owned(), vec![b'0'; 12 << 20], deflated()),
        ("empty.txt".to_owned(), Vec::new(), deflated()),
        ("empty-stored.txt".to_owned(), Vec::new(), stored()),
    ];
    files.extend((0..30).map(|n| (format!("img/{n:02}.png"), noise(n + 10, 500 << 10), stored())));
    let borrowed: Vec<_> =
        files.iter().map(|(name, content, options)| (name.as_str(), content.as_slice(), *options)).collect();
    let zip = zip_with(&borrowed);
    (zip, files.into_iter().map(|(name, content, _)| (name, content)).collect())
}

#[test]
fn a_large_site_is_published_in_pieces() {
    let (zip, files) = large_site();
    assert!(zip.len() > 27 << 20);
    let fake = Fake::with_routing(Vec::new(), "spa");
    fake.publish(FIRST, zip).unwrap();
    assert!(fake.site() == files);
    let longest = fake.calls_of("read ").iter().map(|length| length.parse::<u64>().unwrap()).max();
    assert!(longest.unwrap() <= (4 << 20) + (128 << 10));
}

#[test]
fn a_release_that_needs_many_passes_goes_on_where_it_was() {
    let (zip, files) = large_site();
    for hold in [false, true] {
        let fake = Fake::with_routing(if hold { site_v1() } else { zip.clone() }, "spa");
        fake.begin(FIRST);
        let mut passes = 0;
        loop {
            passes += 1;
            assert!(passes < 100);
            let asked = Cell::new(0);
            let is_spent = || asked.replace(asked.get() + 1) > 2;
            match fake.pass(FIRST, is_spent).unwrap() {
                Pass::Again { seconds, .. } => assert_eq!(seconds, 1),
                Pass::Done(_) => break,
            }
        }
        assert!(passes > 1);
        let puts = fake.calls_of("put ");
        assert_eq!(puts.len(), puts.iter().collect::<BTreeSet<_>>().len(), "an object was put twice");
        assert!(puts.last().unwrap().ends_with(".html"), "{puts:?}");
        assert!(hold || fake.site() == files);
    }
}

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
    // With zip64 fields, with a comment.
    let zip64 = zip_with(&[("index.html", &content, deflated().large_file(true))]);
    let mut commented = ZipWriter::new(Cursor::new(Vec::new()));
    commented.set_comment("built on a Tuesday").unwrap();
    commented.start_file("index.html", stored()).unwrap();
    commented.write_all(&content).unwrap();
    let commented = commented.finish().unwrap().into_inner();
    for zip in [zip64, commented] {
        let fake = Fake::new(Vec::new());
        fake.publish(FIRST, zip).unwrap();
        assert!(fake.site()["index.html"] == content);
    }
}

/// Publishes it over a site that is live, and says why it was refused; nothing may have changed.
fn refused(zip: Vec<u8>) -> String {
    let fake = after_first();
    let before = fake.site();
    fake.begin(SECOND);
    *fake.zip.borrow_mut() = zip;
    let error = fake.pass(SECOND, || false).unwrap_err();
    assert_eq!(error.failure(), Failure::RejectedArchive, "{error}");
    assert_eq!(fake.site(), before);
    assert!(fake.world.borrow().state.unfinished.is_empty());
    assert!(!fake.world.borrow().state.claim.as_ref().unwrap().committed);
    error.to_string()
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
fn what_is_no_zip_is_refused() {
    assert!(refused(Vec::new()).contains("not a zip file"));
    assert!(refused(b"<html>not at all</html>".to_vec()).contains("not a zip file"));
    assert!(refused(noise(3, 2 << 20)).contains("not a zip file"));
    let whole = site_v2();
    for length in 0..whole.len() {
        let text = refused(whole[..length].to_vec());
        assert!(text.contains("its end is missing") || text.contains("it ends too early"), "{length}: {text}");
    }
    // The end is there, the beginning is not.
    for length in 1..whole.len() - 22 {
        refused(whole[length..].to_vec());
    }
}

#[test]
fn hostile_entries_are_refused_by_name_and_rule() {
    let index = || raw(b"index.html", b"mine");
    let link = Raw { mode: 0o120_777, ..raw(b"passwd", b"/etc/passwd") };
    let encrypted = Raw { flags: 1, ..raw(b"secret.html", b"x") };
    let packed_by = |method: u16| Raw { method, ..raw(b"a.html", b"x") };
    for (entry, rule) in [
        (raw(b"../index.html", b"x"), "`../index.html` in the zip has `.`, `..`"),
        (raw(b"/index.html", b"x"), "absolute"),
        (raw(b"a\\b.html", b"x"), "backslash"),
        (raw(b"C:/b.html", b"x"), "drive letter"),
        (raw(b"a\0.html", b"x"), "`a\\0.html` in the zip has a control character"),
        (raw(b"\xff.html", b"x"), "not UTF-8"),
        (raw(&[b'a'; 1100], b"x"), "more than 1024 bytes"),
        (raw(b"index.html", b"again"), "`index.html` in the zip is in it twice"),
        (link, "`passwd` in the zip is a symbolic link"),
        (encrypted, "`secret.html` in the zip is encrypted"),
        (packed_by(12), "method 12"),
        (packed_by(93), "method 93"),
        (Raw { offset: Some(0), ..raw(b"b.html", b"x") }, "overlaps"),
        (
            Raw { local_name: b"other.html".to_vec(), ..raw(b"b.html", b"x") },
            "`b.html` in the zip has a header of its own",
        ),
        (Raw { crc32: 1, ..raw(b"b.html", b"x") }, "`b.html` in the zip is damaged: its content does not agree"),
        (Raw { size: 9, method: 8, packed: deflate(b"content"), ..raw(b"b.html", b"content") }, "another size"),
        (Raw { size: 3, method: 8, packed: deflate(b"content"), ..raw(b"b.html", b"content") }, "another size"),
        (Raw { method: 8, packed: b"\xff\xff\xff".to_vec(), ..raw(b"b.html", b"x") }, "cannot be unpacked"),
        (
            Raw { method: 8, packed: deflate(b"content")[..4].to_vec(), ..raw(b"b.html", b"content") },
            "cannot be unpacked",
        ),
        (
            Raw { method: 8, packed: [deflate(b"content"), vec![0; 9]].concat(), ..raw(b"b.html", b"content") },
            "cannot be unpacked",
        ),
    ] {
        let text = refused(by_hand(&[index(), entry]));
        assert!(text.contains(rule), "{rule}: {text}");
        assert!(
            text.starts_with("sites/shop/prod/web/site.zip is not published and the site is as it was: "),
            "{text}"
        );
    }
    assert!(refused(by_hand(&[])).contains("no file"));
    assert!(refused(by_hand(&[raw(b"a/index.htm", b"x")])).contains("no index.html"));
}

#[test]
fn bombs_are_refused_before_they_grow() {
    let mega = vec![0; 64 << 20];
    let bomb = Raw { method: 8, packed: deflate(&mega), size: 64 << 20, crc32: 0, ..raw(b"bomb.html", b"") };
    assert!(refused(by_hand(&[raw(b"index.html", b"x"), bomb.clone()])).contains("200 times"));
    // One that lies about its size ends where the lie does.
    let liar = Raw { size: 1000, ..bomb.clone() };
    assert!(refused(by_hand(&[raw(b"index.html", b"x"), liar])).contains("another size"));
    // Many entries that share one packed content.
    let shared: Vec<Raw> = (0..50u8)
        .map(|n| Raw {
            name: vec![b'a' + n % 26, b'0' + n / 26],
            offset: (n > 0).then_some(0),
            size: 1 << 20,
            ..bomb.clone()
        })
        .collect();
    assert!(refused(by_hand(&shared)).contains("overlaps"));
    // An end that promises more entries than there are, or than there may be.
    let mut zip = by_hand(&[raw(b"index.html", b"x")]);
    let end = zip.len() - 22;
    zip[end + 10] = 9;
    assert!(refused(zip.clone()).contains("lists 1 entries and says that it has 9"));
    zip[end + 10..end + 12].copy_from_slice(&30_000u16.to_le_bytes());
    assert!(refused(zip).contains("30000 entries"));
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
        match fake.pass(SECOND, || false) {
            // Times, versions, attributes: nothing that is published.
            Ok(_) => {
                for (key, (content, _)) in &fake.world.borrow().site {
                    assert!(before.get(key) == Some(content) || whole_content(key, content), "byte {at}: {key}");
                }
            }
            Err(error) => {
                assert_eq!(error.failure(), Failure::RejectedArchive, "byte {at}: {error}");
                assert_eq!(fake.site(), before, "byte {at}");
            }
        }
    }
}

fn whole_content(_: &str, content: &[u8]) -> bool {
    [b"<h1>two</h1> <p>and some more of it</p>".as_slice(), b"none at all"].contains(&content)
}
