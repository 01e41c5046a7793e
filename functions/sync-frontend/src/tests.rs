//! Publications against a table, an intake bucket and a site bucket in memory.

mod archives;
mod cuts;
mod empty;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Write},
    ops::Range,
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use shipway_archive::Tail;
use shipway_aws::{
    PublicError,
    runtime::answer,
    store::{EnvironmentRecord, Manifest},
    testing::{Cut, Line, are_refused},
};
use shipway_domain::{
    failure::Failure,
    manifest,
    message::{Pass, PassInput, Run},
    name::{Component, ReleaseId},
    platform::SiteOutputs,
    release::{Artifact, Claim, ComponentState, Live},
    site::{SiteManifest, SiteObject},
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::{
    budget::Budget,
    handler::{Action, Answer, Asked, Body, Calls, Error, Progress, Zip, handle},
};

type Objects = BTreeMap<String, (Vec<u8>, SiteObject)>;

#[derive(Clone, Default, PartialEq, Debug)]
struct World {
    state: ComponentState,
    progress: BTreeMap<ReleaseId, Progress>,
    /// As they are written.
    manifests: BTreeMap<String, Vec<u8>>,
    hashes: BTreeMap<String, Bytes>,
    site: Objects,
}

/// What is looked at after each call, whatever it was.
type Watch = fn(&World, &str);

struct Fake {
    world: RefCell<World>,
    zip: RefCell<Vec<u8>>,
    component: Component,
    manifest: Manifest,
    repair: Cell<bool>,
    now: Cell<Timestamp>,
    budget: Cell<u64>,
    calls: RefCell<Vec<String>>,
    line: Line,
    watch: Cell<Option<Watch>>,
    /// Objects that S3 says it cannot delete.
    stuck: Cell<bool>,
}

const FIRST: &str = "20261121T030000000-000001";
const SECOND: &str = "20261121T040000000-000002";
const THIRD: &str = "20261121T050000000-000003";

const CLEAN: &str = "routing: clean, trailing_slash: never";

impl Fake {
    fn new(zip: Vec<u8>) -> Fake {
        Fake::with(zip, CLEAN)
    }

    /// A site of which the manifest says this.
    fn with(zip: Vec<u8>, site: &str) -> Fake {
        let text = format!("version: 1\napp: shop\nsites: {{web: {{{site}}}}}\nenvironments: {{prod: {{}}}}\n");
        let spec = manifest::read(&text, &"shop".parse().unwrap(), &"prod".parse().unwrap()).unwrap();
        let artifact = Artifact::Object { key: "apps/shop/prod/shipway.yaml".to_owned(), version: "m".to_owned() };
        Fake {
            world: RefCell::default(),
            zip: RefCell::new(zip),
            component: "site/web".parse().unwrap(),
            manifest: Manifest { artifact, spec },
            repair: Cell::new(false),
            now: Cell::new(Timestamp::UNIX_EPOCH),
            budget: Cell::new(1024),
            calls: RefCell::default(),
            line: Line::default(),
            watch: Cell::new(None),
            stuck: Cell::new(false),
        }
    }

    /// The zip by its content, as S3 would give each upload a version.
    fn artifact(&self) -> Artifact {
        let version = format!("{:08x}", crc32fast::hash(&self.zip.borrow()));
        Artifact::Object { key: "sites/shop/prod/web/site.zip".to_owned(), version }
    }

    fn run(&self, release: &str) -> Run {
        Run {
            app: "shop".parse().unwrap(),
            environment: "prod".parse().unwrap(),
            component: self.component.clone(),
            artifact: self.artifact(),
            release: release.parse().unwrap(),
            fence: 1,
            repair: self.repair.get(),
        }
    }

    fn call<T>(&self, name: String, effect: impl FnOnce(&mut World) -> Result<T, Error>) -> Result<T, Error> {
        self.calls.borrow_mut().push(name.clone());
        self.line.call(|| {
            let done = effect(&mut self.world.borrow_mut());
            if let Some(watch) = self.watch.get() {
                watch(&self.world.borrow(), &name);
            }
            done
        })?
    }

    fn calls_of(&self, name: &str) -> Vec<String> {
        self.calls.borrow().iter().filter_map(|call| call.strip_prefix(name).map(str::to_owned)).collect()
    }

    /// How many requests went to S3.
    fn requests(&self) -> usize {
        const TABLE: [&str; 7] =
            ["renew", "applied", "component", "progress", "save_progress", "commit", "mark_unfinished"];
        let calls = self.calls.borrow();
        calls.iter().filter(|call| !TABLE.contains(&call.split(' ').next().unwrap_or_default())).count()
    }

    /// What record-release does before a release.
    fn begin(&self, release: &str) {
        let mut world = self.world.borrow_mut();
        let until = Timestamp::MAX;
        world.state.claim = Some(Claim { release: release.parse().unwrap(), fence: 1, until, committed: false });
        self.calls.borrow_mut().clear();
    }

    /// What record-release does after a release that went well. One that changed nothing leaves its artifact's first release
    /// live.
    fn end(&self, release: &str) {
        let mut world = self.world.borrow_mut();
        let release: ReleaseId = release.parse().unwrap();
        let is_same = world.state.live.as_ref().is_some_and(|live| live.artifact == self.artifact());
        if !is_same || world.state.unfinished.contains(&release) {
            world.state.live = Some(Live { artifact: self.artifact(), release, since: Timestamp::MIN });
        }
        world.state.unfinished.clear();
        world.state.claim = None;
    }

    fn pass(&self, release: &str, action: Action, is_spent: impl Fn() -> bool) -> Result<Pass<Answer>, Error> {
        let input = PassInput { run: self.run(release), action };
        let pass = handle(self, input, Budget::of(self.budget.get()), self.now.get(), is_spent);
        self.line.end_pass(tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(pass))
    }

    fn sync(&self, release: &str) -> Result<Pass<Answer>, Error> {
        self.pass(release, Action::Sync, || false)
    }

    /// What the machine does between begin and end: the note, and whether the edge is told.
    fn work(&self, release: &str) -> Result<(String, bool), Error> {
        match self.sync(release)? {
            Pass::Done(Answer::Synced { note, edge, condemned }) => {
                if condemned > 0 {
                    let cleaned = self.pass(release, Action::Clean, || false)?;
                    assert!(matches!(cleaned, Pass::Done(Answer::Cleaned { .. })), "{cleaned:?}");
                }
                Ok((note, edge))
            }
            other => panic!("{other:?}"),
        }
    }

    /// The machine: the same again after what a retry can help.
    fn retried(&self, release: &str) {
        for _ in 0..8 {
            match self.work(release) {
                Ok(_) => return,
                Err(error) => assert_eq!(error.failure(), Failure::Transient, "{error}"),
            }
        }
        panic!("it never ends");
    }

    /// A release in one pass, from its begin to its end.
    fn publish(&self, release: &str, zip: Vec<u8>) -> Result<String, Error> {
        self.begin(release);
        *self.zip.borrow_mut() = zip;
        let (note, _) = self.work(release)?;
        self.end(release);
        Ok(note)
    }

    fn later(&self, hours: i64) {
        self.now.set(self.now.get() + SignedDuration::from_hours(hours));
    }

    fn site(&self) -> BTreeMap<String, Vec<u8>> {
        self.world.borrow().site.iter().map(|(key, (content, _))| (key.clone(), content.clone())).collect()
    }

    fn record(&self, release: &str) -> SiteManifest {
        serde_json::from_slice(&self.world.borrow().manifests[&format!("published/shop/prod/web/{release}.json")])
            .unwrap()
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
        let outputs: SiteOutputs = outputs();
        record.platform.sites.insert("web".parse().unwrap(), outputs);
        self.call(format!("applied {}", run.app), |_| Ok((record, self.manifest.clone())))
    }

    async fn component(&self, _: &Run) -> Result<ComponentState, Error> {
        self.call("component".to_owned(), |world| Ok(world.state.clone()))
    }

    async fn progress(&self, _: &Run, release: &ReleaseId) -> Result<Option<Progress>, Error> {
        self.call("progress".to_owned(), |world| Ok(world.progress.get(release).copied()))
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
        self.call("manifest".to_owned(), |world| {
            Ok(world.manifests.get(key).and_then(|text| serde_json::from_slice(text).ok()))
        })
    }

    async fn put_manifest(&self, key: &str, manifest: &SiteManifest) -> Result<bool, Error> {
        self.call("put_manifest".to_owned(), |world| {
            let is_new = !world.manifests.contains_key(key);
            if is_new {
                world.manifests.insert(key.to_owned(), serde_json::to_vec(manifest).unwrap());
            }
            Ok(is_new)
        })
    }

    async fn hashes(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.call("hashes".to_owned(), |world| Ok(world.hashes.get(key).cloned()))
    }

    async fn put_hashes(&self, key: &str, hashes: Bytes) -> Result<(), Error> {
        self.call("put_hashes".to_owned(), |world| {
            world.hashes.insert(key.to_owned(), hashes);
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
            may_change(world);
            world.site.insert(key.to_owned(), (content, object.clone()));
            Ok(())
        })
    }

    async fn copy(&self, bucket: &str, from: &str, key: &str, object: &SiteObject) -> Result<bool, Error> {
        assert_eq!(bucket, "bucket");
        self.call(format!("copy {from} {key}"), |world| {
            may_change(world);
            let source = world.site.get(from).map(|(content, _)| content.clone());
            let Some(content) = source.filter(|content| crc32fast::hash(content) == object.crc32) else {
                return Ok(false);
            };
            world.site.insert(key.to_owned(), (content, object.clone()));
            Ok(true)
        })
    }

    async fn list(&self, _: &str, after: &str) -> Result<(Vec<String>, bool), Error> {
        self.call("list".to_owned(), |world| {
            let mut rest = world.site.keys().filter(|key| key.as_str() > after).cloned();
            let page: Vec<String> = rest.by_ref().take(3).collect();
            Ok((page, rest.next().is_some()))
        })
    }

    async fn delete(&self, bucket: &str, keys: &[&str]) -> Result<(), Error> {
        assert!((1..=1000).contains(&keys.len()));
        self.call(format!("delete {}", keys.join(" ")), |world| {
            may_change(world);
            let most = if self.stuck.get() { 1 } else { keys.len() };
            keys[..most].iter().for_each(|key| drop(world.site.remove(*key)));
            match keys.get(most) {
                None => Ok(()),
                Some(key) => Err(Error::NotDeleted {
                    bucket: bucket.to_owned(),
                    count: keys.len() - most,
                    key: (*key).to_owned(),
                    code: "InternalError".to_owned(),
                    message: "We encountered an internal error.".to_owned(),
                }),
            }
        })
    }
}

fn outputs() -> SiteOutputs {
    serde_json::from_value(serde_json::json!({
        "bucket": "bucket", "distribution": "D1", "domain": "d1.cloudfront.net", "store": "arn:store"
    }))
    .unwrap()
}

fn may_change(world: &World) {
    assert!(world.state.claim.as_ref().unwrap().committed, "newer releases must queue");
    assert!(!world.state.unfinished.is_empty(), "the next release must know");
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
    assert_eq!(
        note,
        "of 5 files 5 changed; uploaded 6 objects with 38 bytes; `blog/index.html` is also stored as its URL asks for it, \
         `blog.html`"
    );
    let puts = fake.calls_of("put ");
    assert_eq!(puts[..2], ["assets/app.8e3b1f0a.js", "robots.txt"]);
    let pages: BTreeSet<&str> = puts[2..].iter().map(String::as_str).collect();
    assert_eq!(pages, ["about.html", "blog.html", "blog/index.html", "index.html"].into());
    let site = &fake.world.borrow().site;
    assert_eq!(site["blog.html"].0, b"blog");
    assert_eq!(site["index.html"].1.headers.content_type, "text/html; charset=utf-8");
    assert_eq!(site["index.html"].1.headers.cache_control, "no-cache");
    assert_eq!(site["assets/app.8e3b1f0a.js"].1.headers.cache_control, "public, max-age=31536000, immutable");
}

#[test]
fn an_unchanged_zip_changes_nothing_and_the_edge_is_not_told() {
    let fake = after_first();
    fake.begin(SECOND);
    let (note, edge) = fake.work(SECOND).unwrap();
    assert!(note.starts_with("of 5 files none changed; nothing was uploaded"), "{note}");
    assert!(!edge);
    // One read of the zip, one of the live record, one write of the own one.
    let calls = fake.calls.borrow().join(" ");
    assert_eq!(calls, "renew applied shop component progress tail manifest put_manifest");
}

/// A site of a thousand files of which each is far from the next, with this many changed.
fn thousand(changed: usize) -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> = (0..999)
        .map(|n| {
            let version = if n % 19 == 0 && n / 19 < changed { "new" } else { "old" };
            let name = if n % 2 == 0 { format!("docs/{n:03}.html") } else { format!("img/{n:03}.png") };
            (name, [noise(n as u64 + 1, 100), version.as_bytes().to_vec()].concat())
        })
        .collect();
    files.push(("index.html".to_owned(), b"home".to_vec()));
    let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    zip_of(&files)
}

#[test]
fn a_publication_takes_three_requests_and_two_for_each_changed_file() {
    for changed in [0, 1, 3, 50] {
        let fake = Fake::new(Vec::new());
        fake.publish(FIRST, thousand(0)).unwrap();
        let note = fake.publish(SECOND, thousand(changed)).unwrap();
        assert!(
            note.starts_with(&format!(
                "of 1000 files {} changed",
                if changed == 0 { "none".to_owned() } else { changed.to_string() }
            )),
            "{note}"
        );
        assert_eq!(fake.calls_of("put ").len(), changed, "a changed page is one object");
        let requests = fake.requests();
        assert!(requests <= 3 + 2 * changed, "{requests} requests for {changed} changed files");
    }
}

#[test]
fn only_what_changed_is_uploaded_and_what_is_gone_is_kept() {
    let fake = after_first();
    let note = fake.publish(SECOND, site_v2()).unwrap();
    assert!(note.starts_with("of 5 files 4 changed; uploaded 4 objects with 31 bytes"), "{note}");
    assert!(note.ends_with("; kept 1 object no longer in the zip"), "{note}");
    assert_eq!(fake.calls_of("put ").len(), 4);
    assert_eq!(fake.calls_of("read ").len(), 1);
    assert_eq!(fake.site()["assets/app.8e3b1f0a.js"], b"js one");
}

#[test]
fn going_back_writes_only_what_was_overwritten() {
    let fake = after_first();
    fake.publish(SECOND, site_v2()).unwrap();
    let note = fake.publish(THIRD, site_v1()).unwrap();
    assert!(note.starts_with("of 5 files 3 changed"), "{note}");
    assert!(!fake.calls_of("put ").contains(&"assets/app.8e3b1f0a.js".to_owned()));
    assert_eq!(fake.site()["index.html"], b"<h1>one</h1>");
}

#[test]
fn renamed_content_is_copied_and_what_is_not_there_after_all_is_uploaded() {
    let moved = |to: &str| {
        zip_of(&[("index.html", format!("see {to}").as_bytes()), (to, &noise(9, 5000)), ("other.txt", b"other")])
    };
    for (drift, copies, puts) in [(false, 1, 1), (true, 1, 2)] {
        let fake = Fake::new(Vec::new());
        fake.publish(FIRST, moved("video/one.mp4")).unwrap();
        if drift {
            fake.world.borrow_mut().site.remove("video/one.mp4");
        }
        let note = fake.publish(SECOND, moved("film/one.mp4")).unwrap();
        assert!(note.contains(", copied 1 object within the bucket"), "{note}");
        assert_eq!((fake.calls_of("copy ").len(), fake.calls_of("put ").len()), (copies, puts));
        assert_eq!(fake.site()["film/one.mp4"], noise(9, 5000));
    }
}

#[test]
fn a_changed_header_is_a_change() {
    let fake = after_first();
    let fake = Fake {
        world: fake.world,
        ..Fake::with(Vec::new(), &format!("{CLEAN}, cache: [{{files: robots.txt, control: no-store}}]"))
    };
    let note = fake.publish(SECOND, site_v1()).unwrap();
    assert!(note.starts_with("of 5 files 1 changed"), "{note}");
    assert_eq!(fake.world.borrow().site["robots.txt"].1.headers.cache_control, "no-store");
}

#[test]
fn the_environments_config_is_published_with_the_release_that_decided_it() {
    let config = |api: &str| format!("{CLEAN}, config: {{api: {api}}}");
    let zip = || zip_of(&[("index.html", b"x".as_slice()), ("config.json", b"{}")]);
    let fake = Fake::with(zip(), &config("one"));
    let note = fake.publish(FIRST, zip()).unwrap();
    assert!(note.contains("; config.json is the environment's, not the zip's"), "{note}");
    assert_eq!(fake.site()["config.json"], br#"{"api":"one"}"#);
    // The manifest changes while a release is under way.
    let fake = Fake { world: fake.world, ..Fake::with(zip_of(&[("index.html", b"y")]), &config("two")) };
    fake.begin(SECOND);
    fake.line.cut(Cut::Before(11));
    assert!(fake.sync(SECOND).is_err());
    assert_eq!(fake.calls.borrow()[9..], ["mark_unfinished", "put config.json"]);
    let zip = fake.zip.take();
    let fake = Fake { world: fake.world, ..Fake::with(zip, &config("three")) };
    assert!(matches!(fake.sync(SECOND), Ok(Pass::Done(_))));
    assert_eq!(fake.site()["config.json"], br#"{"api":"two"}"#);
}

#[test]
fn a_top_folder_is_left_out_and_a_single_page_app_has_no_second_keys() {
    let fake = Fake::with(Vec::new(), "routing: spa");
    let note = fake.publish(FIRST, zip_of(&[("dist/index.html", b"x"), ("dist/about.html", b"y")])).unwrap();
    assert!(note.ends_with("; the folder `dist` around them all was left out"), "{note}");
    assert_eq!(fake.site().into_keys().collect::<Vec<_>>(), ["about.html", "index.html"]);
}

#[test]
fn what_is_found_in_the_zip_is_said() {
    let fake = Fake::with(Vec::new(), "");
    let twins = [("index.html", b"x".as_slice()), ("Logo.svg", b"1"), ("logo.svg", b"2")];
    let note = fake.publish(FIRST, zip_of(&twins)).unwrap();
    assert!(note.contains("; routing is spa, as index.html is the only page"), "{note}");
    assert!(note.contains("; `Logo.svg` and `logo.svg` differ by case only"), "{note}");
    let note = fake.publish(SECOND, zip_of(&[("index.html", b"x"), ("a/index.html", b"y")])).unwrap();
    assert!(note.contains("; routing is clean, with URLs like /chat/"), "{note}");
}

#[test]
fn a_preview_has_a_place_of_its_own_and_touches_nothing_that_is_live() {
    let live = after_first();
    let before = live.site();
    let fake = Fake { component: "preview/web/pr-12".parse().unwrap(), ..Fake::new(site_v2()) };
    fake.world.borrow_mut().site = live.world.borrow().site.clone();
    for release in [FIRST, SECOND] {
        fake.begin(release);
        let (note, edge) = fake.work(release).unwrap();
        assert!(note.starts_with("of 5 files 5 changed"), "nothing is compared: {note}");
        assert!(edge);
        fake.end(release);
        let prefix = format!(".shipway/preview/pr-12/{release}/");
        let world = fake.world.borrow();
        assert_eq!(world.site[&format!("{prefix}robots.txt")].1.headers.cache_control, "no-cache");
        let hashed = &world.site[&format!("{prefix}assets/app.9f4c2a1b.js")].1.headers.cache_control;
        assert!(hashed.ends_with("immutable"));
        assert!(world.manifests.contains_key(&format!("published/shop/prod/web/preview/pr-12/{release}.json")));
    }
    let site = fake.site();
    assert!(before.iter().all(|(key, content)| site[key] == *content));
    assert_eq!(site.len(), before.len() + 2 * 6);
}

#[test]
fn a_repair_trusts_nothing_that_was_written_down() {
    let fake = after_first();
    // Whatever happened to the bucket, nobody wrote it down.
    {
        let site = &mut fake.world.borrow_mut().site;
        let object = site["robots.txt"].1.clone();
        site.get_mut("index.html").unwrap().0 = b"defaced".to_vec();
        site.remove("about.html");
        for key in ["stray.txt", ".shipway/preview/pr/x/index.html"] {
            site.insert(key.to_owned(), (Vec::new(), object.clone()));
        }
    }
    assert!(fake.publish(SECOND, site_v1()).unwrap().contains("none changed"));
    fake.repair.set(true);
    let note = fake.publish(THIRD, site_v1()).unwrap();
    assert!(note.starts_with("of 5 files 5 changed") && note.contains("; the bucket has 6 objects"), "{note}");
    assert_eq!(fake.site()["index.html"], b"<h1>one</h1>");
    assert_eq!(fake.site()["about.html"], b"about one");
    assert_eq!(fake.record(THIRD).retired.keys().collect::<Vec<_>>(), ["stray.txt"]);
    // It goes like everything else that nobody needs.
    fake.repair.set(false);
    fake.later(24 * 8);
    fake.publish("20261121T060000000-000004", site_v1()).unwrap();
    assert_eq!(fake.calls_of("delete "), ["stray.txt"]);
}

#[test]
fn what_no_kept_release_needs_is_deleted_in_batches_when_the_release_is_live() {
    let assets: Vec<String> = (0..2500).map(|n| format!("assets/a.{n:08x}a1.js")).collect();
    let mut files: Vec<(&str, &[u8])> = assets.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
    files.push(("index.html", b"x"));
    let (old, new) = (zip_of(&files), zip_of(&[("index.html", b"y")]));
    let fake = Fake::with(Vec::new(), "routing: spa, releases: 1, keep: 1h");
    fake.publish(FIRST, old).unwrap();
    fake.publish(SECOND, new.clone()).unwrap();
    assert_eq!(fake.site().len(), 2501);
    fake.later(2);
    fake.begin(THIRD);
    assert!(matches!(fake.sync(THIRD), Ok(Pass::Done(Answer::Synced { condemned: 2500, .. }))));
    assert_eq!(fake.site().len(), 2501);
    // The time is spent after the first batch.
    let asked = Cell::new(0);
    let is_spent = || asked.replace(asked.get() + 1) > 0;
    let Ok(Pass::Again { note, .. }) = fake.pass(THIRD, Action::Clean, is_spent) else { panic!() };
    assert_eq!(note, "1000 of 2500 objects are deleted");
    assert_eq!(fake.site().len(), 1501);
    // What S3 does not delete it tells, and the pass is made again.
    fake.stuck.set(true);
    let error = fake.pass(THIRD, Action::Clean, || false).unwrap_err();
    assert_eq!(error.failure(), Failure::Transient, "{error}");
    fake.stuck.set(false);
    let cleaned = fake.pass(THIRD, Action::Clean, || false).unwrap();
    let note = "deleted 2500 objects that no kept release needs".to_owned();
    assert_eq!(cleaned, Pass::Done(Answer::Cleaned { note }));
    assert_eq!(fake.site().len(), 1);
    assert_eq!(fake.calls_of("delete ").len(), 4);
    // Whoever asks again is told the same, without a request.
    let calls = fake.calls.borrow().len();
    assert!(matches!(fake.pass(THIRD, Action::Clean, || false), Ok(Pass::Done(_))));
    assert_eq!(fake.calls.borrow().len(), calls + 5);
    fake.end(THIRD);
    let note = fake.publish("20261121T060000000-000004", new).unwrap();
    assert!(note.contains("none changed"));
    assert!(fake.calls_of("delete ").is_empty(), "it is marked as done");
}

#[test]
fn a_deletion_that_was_cut_off_is_made_by_the_next_release() {
    let fake = Fake::with(Vec::new(), "routing: spa, releases: 1, keep: 1h");
    fake.publish(FIRST, zip_of(&[("index.html", b"1"), ("a.txt", b"a"), ("b.txt", b"b")])).unwrap();
    fake.publish(SECOND, zip_of(&[("index.html", b"2")])).unwrap();
    fake.later(2);
    fake.begin(THIRD);
    *fake.zip.borrow_mut() = zip_of(&[("index.html", b"3")]);
    assert!(matches!(fake.sync(THIRD), Ok(Pass::Done(Answer::Synced { condemned: 2, .. }))));
    // The machine goes on to the end, whatever became of the deletion.
    fake.end(THIRD);
    fake.publish("20261121T060000000-000004", zip_of(&[("index.html", b"4"), ("b.txt", b"b")])).unwrap();
    assert_eq!(fake.calls_of("delete "), ["a.txt"], "what is wanted again is not deleted");
    assert!(fake.calls_of("put ").contains(&"b.txt".to_owned()), "it may have been deleted");
    assert_eq!(fake.site().into_keys().collect::<Vec<_>>(), ["b.txt", "index.html"]);
}

#[test]
fn nothing_is_deleted_before_the_release_has_written_what_it_wants() {
    let fake = after_first();
    fake.begin(SECOND);
    let error = fake.pass(SECOND, Action::Clean, || false).unwrap_err();
    assert_eq!(error.failure(), Failure::RejectedInput, "{error}");
}

#[test]
fn verifying_by_sha256_reads_everything_and_finds_what_crc32_does_not() {
    let fake = Fake::with(Vec::new(), "routing: spa, verify: sha256");
    fake.publish(FIRST, site_v1()).unwrap();
    let note = fake.publish(SECOND, site_v1()).unwrap();
    assert!(note.contains("none changed"), "{note}");
    assert_eq!(fake.calls_of("read ").len(), 1);
    // A content with the same CRC-32: the record says another SHA-256.
    let key = format!("published/shop/prod/web/{FIRST}.json");
    let mut record = fake.record(FIRST);
    record.objects.get_mut("robots.txt").unwrap().sha256 = Some(shipway_domain::site::Sha256([7; 32]));
    fake.world.borrow_mut().manifests.insert(key, serde_json::to_vec(&record).unwrap());
    let note = fake.publish(THIRD, site_v1()).unwrap();
    assert!(note.starts_with("of 5 files 1 changed"), "{note}");
}

fn after_first() -> Fake {
    let fake = Fake::new(site_v1());
    fake.publish(FIRST, site_v1()).unwrap();
    fake
}

#[test]
fn a_lost_record_means_that_everything_is_uploaded_again() {
    let fake = after_first();
    fake.world.borrow_mut().manifests.clear();
    let note = fake.publish(SECOND, site_v1()).unwrap();
    assert!(note.starts_with("of 5 files 5 changed"), "{note}");
}

#[test]
fn what_a_release_wants_is_decided_once() {
    let fake = Fake::new(site_v1());
    fake.begin(FIRST);
    fake.line.cut(Cut::After(11));
    assert!(fake.sync(FIRST).is_err());
    assert!(!fake.site().is_empty() && fake.site().len() < 6, "{:?}", fake.calls);
    // The manifest changes while the release is under way.
    let fake = Fake { world: fake.world, ..Fake::with(site_v1(), "routing: spa") };
    assert!(matches!(fake.sync(FIRST), Ok(Pass::Done(_))));
    assert_eq!(fake.site().len(), 6);
}

#[test]
fn a_release_that_lost_its_claim_touches_nothing() {
    let fake = after_first();
    fake.begin(THIRD);
    *fake.zip.borrow_mut() = site_v2();
    for action in [Action::Sync, Action::Clean] {
        let error = fake.pass(SECOND, action, || false).unwrap_err();
        assert_eq!(error.failure(), Failure::Superseded);
    }
    assert_eq!(fake.calls.borrow().len(), 2);
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
    let fake = Fake::with(Vec::new(), "routing: spa");
    fake.publish(FIRST, zip).unwrap();
    assert!(fake.site() == files);
    let longest = fake.calls_of("read ").iter().map(|length| length.parse::<u64>().unwrap()).max();
    assert!(longest.unwrap() <= (4 << 20) + (128 << 10));
}

#[test]
fn a_release_that_needs_many_passes_goes_on_where_it_was() {
    let (zip, files) = large_site();
    // All is read and nothing held; little enough to be held; every byte of it verified; in a small function.
    for (hold, site, memory) in
        [(false, "routing: spa", 1024), (true, "routing: spa", 1024), (false, "routing: spa, verify: sha256", 128)]
    {
        let zip = if hold { site_v1() } else { zip.clone() };
        let fake = Fake::with(zip.clone(), site);
        fake.budget.set(memory);
        fake.begin(FIRST);
        let mut passes = 0;
        loop {
            passes += 1;
            assert!(passes < 100);
            let asked = Cell::new(0);
            let is_spent = || asked.replace(asked.get() + 1) > 2;
            match fake.pass(FIRST, Action::Sync, is_spent).unwrap() {
                Pass::Again { seconds, .. } => assert_eq!(seconds, 1),
                Pass::Done(_) => break,
            }
        }
        assert!(passes > 1);
        let puts = fake.calls_of("put ");
        assert_eq!(puts.len(), puts.iter().collect::<BTreeSet<_>>().len(), "an object was put twice");
        assert!(puts.last().unwrap().ends_with(".html"), "{puts:?}");
        assert!(hold || fake.site() == files);
        assert_eq!(hold, fake.calls_of("put_hashes").is_empty());
        fake.end(FIRST);
        // The record says what it would say after one pass.
        let whole = Fake::with(zip.clone(), site);
        whole.publish(FIRST, zip).unwrap();
        assert!(fake.world.borrow().manifests == whole.world.borrow().manifests);
    }
}

#[tokio::test]
async fn an_input_that_no_machine_makes_is_refused_by_name_and_nothing_changes() {
    for action in ["sync", "clean"] {
        let valid = json!({"run": Fake::new(site_v1()).run(FIRST), "action": action});
        // Which zip it is, and whose the claim, is for S3 and the table to judge.
        let free = ["/run/fence", "/run/repair", "/run/artifact/object/key", "/run/artifact/object/version"];
        Box::pin(are_refused(&valid, &free, async |input| {
            let fake = Fake::new(site_v1());
            fake.begin(FIRST);
            if action == "clean" {
                let input = PassInput { run: fake.run(FIRST), action: Action::Sync };
                let synced = handle(&fake, input, Budget::of(1024), Timestamp::UNIX_EPOCH, || false).await;
                synced.unwrap();
            }
            let pass = async |PassInput { run, action }: PassInput<Asked>| match action {
                Asked::Publish(action) => {
                    let input = PassInput { run, action };
                    handle(&fake, input, Budget::of(1024), Timestamp::UNIX_EPOCH, || false).await
                }
                Asked::Empty(_) => panic!("{run:?} was no teardown"),
            };
            let answered = answer(&input, pass).await.map(|pass| json!(pass));
            (answered, format!("{:?}", fake.world))
        }))
        .await;
    }
}
