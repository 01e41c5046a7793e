//! Passes against a table, an intake bucket, a CloudFront and a key-value store in memory, cut off at every call too.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use shipway_aws::{
    PublicError,
    runtime::answer,
    store::{EnvironmentRecord, Manifest, StoreError},
    testing::{self, Cuts, Line, are_refused},
};
use shipway_domain::{
    edge::Edge,
    failure::Failure,
    manifest::{self, spec::Routing},
    message::{Pass, PassInput, Run, Summary},
    platform::SiteOutputs,
    release::{Artifact, ComponentState, Live},
    site::{Headers, SiteManifest, SiteObject},
};

use crate::handler::{Action, Asked, Calls, Change, Error, Invalidation, Known, Progress, handle};

const LIVE: &str = "20261121T030000000-000001";
const CUT_OFF: &str = "20261121T040000000-000002";
const MINE: &str = "20261121T050000000-000003";

/// What CloudFront took: reference, paths, and how many looks it takes until it says that it is done.
type Taken = (String, Vec<String>, u32);

struct Fake {
    state: ComponentState,
    manifest: Manifest,
    manifests: BTreeMap<String, SiteManifest>,
    run: Run,
    progress: RefCell<Option<Progress>>,
    story: RefCell<Vec<String>>,
    values: RefCell<BTreeMap<String, String>>,
    /// How often the store was written.
    version: Cell<u32>,
    /// Whether somebody else writes the store whenever it was read.
    is_contended: Cell<bool>,
    taken: RefCell<Vec<Taken>>,
    looks: u32,
    is_busy: Cell<bool>,
    is_superseded: bool,
    calls: RefCell<Vec<&'static str>>,
    line: Line,
}

fn artifact() -> Artifact {
    Artifact::Object { key: "sites/shop/prod/web/site.zip".to_owned(), version: "v1".to_owned() }
}

fn run() -> Run {
    Run {
        app: "shop".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        component: "site/web".parse().unwrap(),
        artifact: artifact(),
        release: MINE.parse().unwrap(),
        fence: 1,
        repair: false,
    }
}

fn site(objects: &[(&str, u32)]) -> SiteManifest {
    let object = |crc32: u32| SiteObject {
        crc32,
        size: 1,
        sha256: None,
        headers: Headers {
            content_type: "text/plain".to_owned(),
            cache_control: "public, max-age=300".to_owned(),
            encoding: None,
        }
        .into(),
        file: None,
    };
    let objects = objects.iter().map(|(key, crc32)| ((*key).to_owned(), object(*crc32)));
    SiteManifest { objects: objects.collect(), ..SiteManifest::default() }
}

fn spa() -> Edge {
    Edge { routing: Routing::Spa, ..Edge::default() }
}

fn key(release: &str) -> String {
    format!("published/shop/prod/web/{release}.json")
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
}

impl Fake {
    fn new(live: Option<&[(&str, u32)]>, mine: &[(&str, u32)]) -> Fake {
        let text = "version: 1\napp: shop\nsites: {web: {}}\nenvironments: {prod: {}}\n";
        let spec = manifest::read(text, &run().app, &run().environment).unwrap();
        let mut fake = Fake {
            state: ComponentState { unfinished: vec![run().release], ..ComponentState::default() },
            manifest: Manifest { artifact: artifact(), spec },
            manifests: BTreeMap::from([(key(MINE), site(mine))]),
            run: run(),
            progress: RefCell::default(),
            story: RefCell::default(),
            values: RefCell::default(),
            version: Cell::new(0),
            is_contended: Cell::new(false),
            taken: RefCell::default(),
            looks: 2,
            is_busy: Cell::new(false),
            is_superseded: false,
            calls: RefCell::default(),
            line: Line::default(),
        };
        if let Some(live) = live {
            fake.manifests.insert(key(LIVE), site(live));
            fake.state.live =
                Some(Live { artifact: artifact(), release: LIVE.parse().unwrap(), since: Timestamp::UNIX_EPOCH });
        }
        fake
    }

    /// A preview of the site, published by the release.
    fn preview(name: &str) -> Fake {
        let mut fake = Fake::new(Some(BEFORE), AFTER);
        fake.run.component = format!("preview/web/{name}").parse().unwrap();
        let own = SiteManifest { edge: spa(), ..site(AFTER) };
        fake.manifests.insert(format!("published/shop/prod/web/preview/{name}/{MINE}.json"), own);
        fake
    }

    fn edge(&mut self, release: &str, edge: Edge) {
        self.manifests.get_mut(&key(release)).unwrap().edge = edge;
    }

    fn value(&self, key: &str) -> Option<Value> {
        self.values.borrow().get(key).map(|text| serde_json::from_str(text).unwrap())
    }

    fn call<T>(&self, name: &'static str, effect: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.calls.borrow_mut().push(name);
        self.line.call(effect)?
    }

    fn pass(&self, now: Timestamp) -> Result<Pass<Summary>, Error> {
        let input = PassInput { run: self.run.clone(), action: Action::Invalidate };
        self.line.end_pass(handle(self, input, now).now_or_never().expect("nothing here waits"))
    }

    /// The machine: passes until one is the last, again after what a retry can help.
    fn retried(&self) {
        for minute in 0..8 {
            match self.pass(at(minute)) {
                Ok(Pass::Done(_)) => return,
                Ok(Pass::Again { .. }) => {}
                Err(error) => assert_eq!(error.failure(), Failure::Transient, "{error}"),
            }
        }
        panic!("it never ends");
    }

    fn paths(&self) -> Vec<Vec<String>> {
        self.taken.borrow().iter().map(|(_, paths, _)| paths.clone()).collect()
    }
}

impl Calls for Fake {
    async fn renew(&self, run: &Run, _: Timestamp) -> Result<(), Error> {
        let lost = || StoreError::Superseded {
            app: run.app.clone(),
            environment: run.environment.clone(),
            component: run.component.clone(),
        };
        self.call("renew", || if self.is_superseded { Err(lost().into()) } else { Ok(()) })
    }

    async fn applied(&self, _: &Run) -> Result<(EnvironmentRecord, Manifest), Error> {
        let mut record = EnvironmentRecord::default();
        let outputs = SiteOutputs {
            bucket: "b".to_owned(),
            distribution: "D1".to_owned(),
            domain: "d1.example".to_owned(),
            store: "arn:store".to_owned(),
        };
        record.platform.sites.insert("web".parse().unwrap(), outputs);
        self.call("applied", || Ok((record, self.manifest.clone())))
    }

    async fn component(&self, _: &Run) -> Result<ComponentState, Error> {
        self.call("component", || Ok(self.state.clone()))
    }

    async fn progress(&self, _: &Run) -> Result<Option<Progress>, Error> {
        self.call("progress", || Ok(self.progress.borrow().clone()))
    }

    async fn save_progress(&self, _: &Run, progress: &Progress, step: Option<&str>, _: Timestamp) -> Result<(), Error> {
        self.call("save_progress", || {
            *self.progress.borrow_mut() = Some(progress.clone());
            self.story.borrow_mut().extend(step.map(str::to_owned));
            Ok(())
        })
    }

    async fn manifest(&self, key: &str) -> Result<Option<SiteManifest>, Error> {
        self.call("manifest", || Ok(self.manifests.get(key).cloned()))
    }

    async fn known(&self, store: &str) -> Result<Known, Error> {
        assert_eq!(store, "arn:store");
        let known = Known { version: self.version.get().to_string(), values: self.values.borrow().clone() };
        if self.is_contended.get() {
            self.version.set(self.version.get() + 1);
        }
        self.call("known", || Ok(known))
    }

    async fn tell(&self, store: &str, version: &str, change: &Change) -> Result<(), Error> {
        assert!(change.gone.len() < 50, "CloudFront takes 50 keys at once");
        self.call("tell", || {
            if version != self.version.get().to_string() {
                return Err(Error::StoreChanged(store.to_owned()));
            }
            let mut values = self.values.borrow_mut();
            values.insert(change.key.clone(), change.value.clone());
            values.retain(|key, _| !change.gone.contains(key));
            self.version.set(self.version.get() + 1);
            Ok(())
        })
    }

    async fn create(&self, distribution: &str, reference: &str, paths: &[String]) -> Result<Asked, Error> {
        assert_eq!(distribution, "D1");
        self.call("create", || {
            if self.is_busy.get() {
                return Ok(Asked::Busy);
            }
            let mut taken = self.taken.borrow_mut();
            let known = taken.iter().position(|(known, _, _)| known == reference);
            let index = known.unwrap_or_else(|| {
                taken.push((reference.to_owned(), paths.to_vec(), self.looks));
                taken.len() - 1
            });
            assert_eq!(taken[index].1, paths, "CloudFront answers InvalidationBatchAlreadyExists");
            Ok(Asked::Taken(Invalidation { id: format!("I{index}"), is_completed: taken[index].2 == 0 }))
        })
    }

    async fn invalidation(&self, _: &str, id: &str) -> Result<Invalidation, Error> {
        self.call("invalidation", || {
            let mut taken = self.taken.borrow_mut();
            let looks = &mut taken[id[1..].parse::<usize>().unwrap()].2;
            *looks = looks.saturating_sub(1);
            Ok(Invalidation { id: id.to_owned(), is_completed: *looks == 0 })
        })
    }
}

fn again(seconds: u32, note: &str) -> Pass<Summary> {
    Pass::Again { seconds, note: note.to_owned() }
}

fn done(note: &str) -> Pass<Summary> {
    Pass::Done(Summary { note: note.to_owned() })
}

const BEFORE: &[(&str, u32)] = &[("a.txt", 1), ("b.txt", 1)];
const AFTER: &[(&str, u32)] = &[("a.txt", 2), ("b.txt", 1), ("c.txt", 1)];

#[test]
fn an_invalidation_is_asked_for_once_and_looked_at_until_it_is_done() {
    let fake = Fake::new(Some(BEFORE), AFTER);
    assert_eq!(fake.pass(at(0)).unwrap(), again(5, "invalidating 1 path (I0)"));
    assert_eq!(fake.pass(at(1)).unwrap(), again(5, "invalidating 1 path (I0)"));
    assert_eq!(fake.pass(at(2)).unwrap(), done("invalidated 1 path (I0)"));
    assert_eq!(fake.paths(), [["/a.txt"]]);
}

#[test]
fn nothing_stale_asks_for_nothing() {
    let first = Fake::new(None, AFTER);
    assert_eq!(first.pass(at(0)).unwrap(), done("this is the first publication; nothing was cached before it"));
    let same = Fake::new(Some(AFTER), AFTER);
    let note = "nothing that CloudFront keeps was replaced; nothing is invalidated";
    assert_eq!(same.pass(at(0)).unwrap(), done(note));
    let new = Fake::new(Some(BEFORE), &[("a.txt", 1), ("b.txt", 1), ("c.txt", 1)]);
    assert_eq!(new.pass(at(0)).unwrap(), done(note));
    assert!(first.paths().is_empty() && same.paths().is_empty() && new.paths().is_empty());
}

#[test]
fn what_a_release_that_was_cut_off_may_have_shown_is_invalidated() {
    let mut fake = Fake::new(Some(BEFORE), BEFORE);
    fake.state.unfinished.insert(0, CUT_OFF.parse().unwrap());
    fake.manifests.insert(key(CUT_OFF), site(&[("b.txt", 7)]));
    fake.pass(at(0)).unwrap();
    assert_eq!(fake.paths(), [["/b.txt"]]);
}

#[test]
fn a_lost_manifest_means_that_everything_is_invalidated() {
    let mut fake = Fake::new(Some(BEFORE), BEFORE);
    fake.manifests.remove(&key(LIVE));
    fake.pass(at(0)).unwrap();
    assert_eq!(fake.paths(), [["/*"]]);
    fake.manifests.remove(&key(MINE));
    *fake.progress.borrow_mut() = None;
    assert_eq!(fake.pass(at(0)).unwrap_err().failure(), Failure::Bug);
}

/// Tells a story in which nothing waits.
fn cut_everywhere(story: impl Fn(Cuts) -> usize) {
    testing::cut_everywhere(async |cut| story(cut)).now_or_never().expect("nothing here waits");
}

#[test]
fn a_pass_that_is_cut_off_anywhere_makes_no_second_invalidation() {
    cut_everywhere(|cut| {
        let fake = Fake::new(Some(BEFORE), AFTER);
        fake.line.cut(cut);
        fake.retried();
        assert_eq!(fake.paths(), [["/a.txt"]], "{cut:?}");
        fake.line.calls()
    });
}

#[test]
fn a_slow_invalidation_is_no_failure() {
    let fake = Fake { looks: 1000, ..Fake::new(Some(BEFORE), AFTER) };
    fake.pass(at(0)).unwrap();
    fake.pass(at(10)).unwrap();
    let note = "invalidating 1 path (I0); CloudFront did not report its end within 10 minutes";
    assert_eq!(fake.pass(at(11)).unwrap(), done(note));
}

#[test]
fn too_many_invalidations_in_progress_are_waited_for() {
    let fake = Fake::new(Some(BEFORE), AFTER);
    fake.is_busy.set(true);
    let note = "too many invalidations are in progress on D1";
    assert_eq!(fake.pass(at(0)).unwrap(), again(15, note));
    assert_eq!(fake.pass(at(9)).unwrap(), again(15, note));
    let error = fake.pass(at(11)).unwrap_err();
    assert_eq!(error.failure(), Failure::Timeout);
    fake.is_busy.set(false);
    fake.pass(at(9)).unwrap();
    assert_eq!(fake.paths().len(), 1);
}

#[test]
fn a_release_that_lost_its_claim_asks_for_nothing() {
    let fake = Fake { is_superseded: true, ..Fake::new(Some(BEFORE), AFTER) };
    assert_eq!(fake.pass(at(0)).unwrap_err().failure(), Failure::Superseded);
    assert_eq!(*fake.calls.borrow(), ["renew"]);
}

#[test]
fn the_edge_is_told_how_urls_find_their_files_before_the_cache_forgets() {
    let mut fake = Fake::new(Some(BEFORE), AFTER);
    fake.edge(MINE, spa());
    fake.pass(at(0)).unwrap();
    assert_eq!(fake.value("live"), Some(json!({"routing": "spa", "slash": "never"})));
    let calls = fake.calls.borrow().clone();
    let place = |name| calls.iter().position(|call| *call == name).unwrap();
    assert!(place("tell") < place("create"), "{calls:?}");
    assert_eq!(
        *fake.story.borrow(),
        [r#"the edge learns how URLs find their files: {"routing":"spa","slash":"never"}"#]
    );
}

#[test]
fn what_the_edge_knows_it_is_not_told_again() {
    // By the live release's manifest.
    let mut same = Fake::new(Some(BEFORE), AFTER);
    same.edge(LIVE, spa());
    same.edge(MINE, spa());
    same.pass(at(0)).unwrap();
    assert!(!same.calls.borrow().contains(&"known"));
    // By the store.
    let mut known = Fake::new(Some(BEFORE), AFTER);
    known.edge(MINE, spa());
    known.values.borrow_mut().insert("live".to_owned(), serde_json::to_string(&spa()).unwrap());
    known.pass(at(0)).unwrap();
    // By itself.
    let first = Fake::new(None, AFTER);
    first.pass(at(0)).unwrap();
    for fake in [same, known, first] {
        assert_eq!(fake.version.get(), 0);
        assert!(fake.story.borrow().is_empty());
    }
}

#[test]
fn a_release_that_was_cut_off_may_have_told_the_edge_something_else() {
    let mut fake = Fake::new(Some(BEFORE), BEFORE);
    fake.state.unfinished.insert(0, CUT_OFF.parse().unwrap());
    fake.manifests.insert(key(CUT_OFF), SiteManifest { edge: spa(), ..site(BEFORE) });
    fake.values.borrow_mut().insert("live".to_owned(), serde_json::to_string(&spa()).unwrap());
    fake.pass(at(0)).unwrap();
    assert_eq!(fake.value("live"), Some(json!({"routing": "clean", "slash": "never"})));
}

#[test]
fn a_repair_trusts_neither_cache_nor_store() {
    let mut fake = Fake::new(Some(BEFORE), BEFORE);
    fake.run.repair = true;
    fake.values.borrow_mut().insert("live".to_owned(), "{".to_owned());
    fake.pass(at(0)).unwrap();
    assert_eq!(fake.value("live"), Some(json!({"routing": "clean", "slash": "never"})));
    assert_eq!(fake.paths(), [["/*"]]);
}

/// 14 days after the release began.
const UNTIL: i64 = 1_796_446_800;

#[test]
fn a_preview_is_shown_until_its_time_is_over_and_touches_nothing_live() {
    let fake = Fake::preview("pr-1");
    let note = "the preview is seen from https://d1.example/_preview/pr-1 on, until 2026-12-05T05:00:00Z";
    assert_eq!(fake.pass(at(0)).unwrap(), done(note));
    let prefix = format!(".shipway/preview/pr-1/{MINE}/");
    let value = json!({"routing": "spa", "slash": "never", "prefix": prefix, "until": UNTIL});
    assert_eq!(fake.value("preview/pr-1"), Some(value));
    assert_eq!(*fake.story.borrow(), [note]);
    assert!(fake.paths().is_empty() && fake.value("live").is_none());
    fake.pass(at(1)).unwrap();
    assert_eq!((fake.version.get(), fake.story.borrow().len()), (1, 1), "again, it changes nothing");
}

#[test]
fn previews_whose_time_is_over_are_forgotten_with_the_next_one() {
    let fake = Fake::preview("pr-1");
    let now = Timestamp::from_second(UNTIL).unwrap();
    let preview = |until: i64| json!({"prefix": ".shipway/preview/x/", "until": until}).to_string();
    let over = (0..60).map(|n| (format!("preview/old-{n}"), preview(UNTIL)));
    let rest = [("live", "{}".to_owned()), ("preview/new", preview(UNTIL + 1)), ("preview/strange", "?".to_owned())];
    let values = over.chain(rest.map(|(key, value)| (key.to_owned(), value)));
    *fake.values.borrow_mut() = values.collect();
    fake.pass(now).unwrap();
    let left: Vec<_> = fake.values.borrow().keys().filter(|key| !key.contains("old-")).cloned().collect();
    assert_eq!(left, ["live", "preview/new", "preview/pr-1", "preview/strange"]);
    assert_eq!(fake.values.borrow().len(), 4 + 60 - 49);
}

#[test]
fn whoever_else_writes_the_store_is_not_overwritten() {
    let fake = Fake::preview("pr-1");
    fake.is_contended.set(true);
    let error = fake.pass(at(0)).unwrap_err();
    assert_eq!(error.failure(), Failure::Transient);
    fake.is_contended.set(false);
    fake.pass(at(0)).unwrap();
    assert_eq!(fake.story.borrow().len(), 1);
    assert!(fake.value("preview/pr-1").is_some());
}

#[test]
fn what_the_edge_is_told_is_told_once_wherever_a_pass_is_cut_off() {
    let live = || {
        let mut fake = Fake::new(Some(BEFORE), AFTER);
        fake.edge(MINE, spa());
        fake
    };
    let preview = || Fake::preview("pr-1");
    for make in [&live as &dyn Fn() -> Fake, &preview] {
        let whole = make();
        whole.pass(at(0)).unwrap();
        cut_everywhere(|cut| {
            let fake = make();
            fake.line.cut(cut);
            fake.retried();
            assert_eq!(fake.values, whole.values, "{cut:?}");
            assert_eq!((fake.version.get(), fake.story.borrow().len()), (1, 1), "{cut:?}");
            fake.line.calls()
        });
    }
}

#[test]
fn a_preview_that_was_not_synced_is_told_apart() {
    let mut fake = Fake::preview("pr-1");
    fake.manifests.clear();
    assert!(matches!(fake.pass(at(0)), Err(Error::NotSynced { .. })));
}

#[tokio::test]
async fn an_input_that_no_machine_makes_is_refused_by_name_and_nothing_changes() {
    let valid = json!({"run": run(), "action": "invalidate"});
    // The claim is for the table to judge, and the artifact for sync-frontend: neither is in here.
    let free = ["/run/fence", "/run/artifact/object/key", "/run/artifact/object/version"];
    are_refused(&valid, &free, async |input| {
        let fake = Fake::new(Some(BEFORE), AFTER);
        let answered = answer(&input, async |input| handle(&fake, input, at(0)).await).await.map(|pass| json!(pass));
        (answered, format!("{:?} {:?} {:?}", fake.taken, fake.values, fake.progress))
    })
    .await;
}
