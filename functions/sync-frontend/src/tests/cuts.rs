//! Releases that are cut off before or after any call, and what comes after them.

use futures_util::FutureExt as _;
use proptest::prelude::*;
use shipway_aws::testing::{self, Cuts};

use super::*;

/// Tells a story in which nothing waits.
fn cut_everywhere(story: impl Fn(Cuts) -> usize) {
    testing::cut_everywhere(async |cut| story(cut)).now_or_never().expect("nothing here waits");
}

/// Every page in the bucket finds what it refers to, but for those that a release which was given up may have left where
/// nobody wants one.
fn watch(world: &World, call: &str) {
    let record = |release: &ReleaseId| -> Option<SiteManifest> {
        serde_json::from_slice(world.manifests.get(&format!("published/shop/prod/web/{release}.json"))?).ok()
    };
    let live = world.state.live.as_ref().and_then(|live| record(&live.release));
    let own = world.state.claim.as_ref().and_then(|claim| record(&claim.release));
    let is_known = |key: &String, content: &[u8]| {
        let is_same = |object: &SiteObject| object.crc32 == crc32fast::hash(content);
        live.as_ref().is_some_and(|live| live.objects.contains_key(key))
            || live.iter().chain(&own).any(|record| {
                let retired = record.retired.get(key).and_then(|retired| retired.object.as_ref());
                record.objects.get(key).or(retired).is_some_and(is_same)
            })
    };
    for (key, (content, _)) in world.site.iter().filter(|(key, _)| key.ends_with(".html")) {
        if !is_known(key, content) {
            continue;
        }
        let text = String::from_utf8_lossy(content);
        for reference in text.split_once("refers to ").into_iter().flat_map(|(_, all)| all.split_whitespace()) {
            assert!(world.site.contains_key(reference), "after {call}: {key} misses {reference}");
        }
    }
    let Some(deleted) = call.strip_prefix("delete ") else { return };
    let release = &world.state.claim.as_ref().unwrap().release;
    let record: SiteManifest =
        serde_json::from_slice(&world.manifests[&format!("published/shop/prod/web/{release}.json")]).unwrap();
    for key in deleted.split(' ') {
        assert!(!record.objects.contains_key(key), "{key} is wanted");
    }
}

/// A site with a page that goes, one that comes, content that moves, and assets that nobody needs any more.
fn versions() -> [Vec<u8>; 3] {
    [
        zip_of(&[
            ("index.html", b"one, refers to assets/a.11111aaa.js robots.txt"),
            ("old/index.html", b"old, refers to assets/a.11111aaa.js"),
            ("robots.txt", b"all"),
            ("moves.bin", b"moved content"),
            ("assets/a.11111aaa.js", b"a one"),
        ]),
        zip_of(&[
            ("index.html", b"two, refers to assets/a.22222aaa.js robots.txt"),
            ("robots.txt", b"all"),
            ("moves.bin", b"moved content"),
            ("assets/a.22222aaa.js", b"a two"),
        ]),
        zip_of(&[
            ("index.html", b"three, refers to assets/b.33333aaa.js robots.txt moved.bin"),
            ("new.html", b"new, refers to assets/b.33333aaa.js"),
            ("robots.txt", b"none"),
            ("moved.bin", b"moved content"),
            ("assets/b.33333aaa.js", b"b three"),
        ]),
    ]
}

const SITE: &str = "routing: clean, trailing_slash: never, releases: 1, keep: 1h, config: {api: here}";

const FOURTH: &str = "20261121T060000000-000004";

/// Two releases went before, of which the first one's files are to go.
fn before_third() -> Fake {
    let [one, two, three] = versions();
    let fake = Fake::with(Vec::new(), SITE);
    fake.watch.set(Some(watch));
    fake.publish(FIRST, one).unwrap();
    fake.publish(SECOND, two).unwrap();
    fake.later(2);
    fake.begin(THIRD);
    *fake.zip.borrow_mut() = three;
    fake
}

#[test]
fn a_release_that_is_cut_off_anywhere_converges_when_it_is_made_again() {
    let whole = before_third();
    whole.work(THIRD).unwrap();
    whole.end(THIRD);
    let calls = whole.calls.borrow().join(" ");
    for kind in ["put ", "copy ", "delete ", "put_manifest", "manifest", "commit", "mark_unfinished", "read "] {
        assert!(calls.contains(kind), "{kind} is not cut off in {calls}");
    }
    assert!(!whole.site().contains_key("old/index.html"));
    cut_everywhere(|cut| {
        let fake = before_third();
        fake.line.cut(cut);
        fake.retried(THIRD);
        let calls = fake.line.calls();
        fake.end(THIRD);
        assert_eq!(fake.site(), whole.site(), "{cut:?}");
        assert_eq!(fake.world.borrow().manifests, whole.world.borrow().manifests, "{cut:?}");
        // A new execution finds the site as it wants it.
        fake.line.cut(None);
        fake.begin(FOURTH);
        fake.retried(FOURTH);
        for kind in ["put ", "copy ", "delete "] {
            assert_eq!(fake.calls_of(kind), [""; 0], "{cut:?}: {kind}");
        }
        assert_eq!(fake.site(), whole.site(), "{cut:?}");
        calls
    });
}

#[test]
fn a_repair_that_is_cut_off_anywhere_converges_when_it_is_made_again() {
    let broken = || {
        let fake = before_third();
        fake.repair.set(true);
        fake.world.borrow_mut().site.get_mut("robots.txt").unwrap().0 = b"defaced".to_vec();
        fake
    };
    let whole = broken();
    whole.work(THIRD).unwrap();
    assert!(!whole.calls_of("list").is_empty());
    cut_everywhere(|cut| {
        let fake = broken();
        fake.line.cut(cut);
        fake.retried(THIRD);
        assert_eq!(fake.site(), whole.site(), "{cut:?}");
        fake.line.calls()
    });
}

#[test]
fn a_release_of_many_passes_that_is_cut_off_anywhere_converges_when_it_is_made_again() {
    let site = "routing: spa, verify: sha256";
    // Together more than is held.
    let files: Vec<(String, Vec<u8>)> = (0..12)
        .map(|n| (format!("img/{n}.png"), noise(n + 1, 700 << 10)))
        .chain([("index.html".to_owned(), b"x".to_vec())])
        .collect();
    let zip = zip_with(
        &files.iter().map(|(name, content)| (name.as_str(), content.as_slice(), stored())).collect::<Vec<_>>(),
    );
    let fake = || {
        let fake = Fake::with(zip.clone(), site);
        fake.budget.set(128);
        fake.begin(FIRST);
        fake
    };
    let passes = |fake: &Fake| loop {
        let asked = Cell::new(0);
        match fake.pass(FIRST, Action::Sync, || asked.replace(asked.get() + 1) > 0) {
            Ok(Pass::Again { .. }) => {}
            Ok(Pass::Done(_)) => break,
            Err(error) => assert_eq!(error.failure(), Failure::Transient, "{error}"),
        }
    };
    let whole = fake();
    passes(&whole);
    assert!(!whole.calls_of("put_hashes").is_empty() && !whole.calls_of("hashes").is_empty());
    cut_everywhere(|cut| {
        let fake = fake();
        fake.line.cut(cut);
        passes(&fake);
        assert!(fake.site() == whole.site(), "{cut:?}");
        assert!(fake.world.borrow().manifests == whole.world.borrow().manifests, "{cut:?}");
        fake.line.calls()
    });
}

#[test]
fn after_a_release_that_was_cut_off_anywhere_the_next_one_makes_the_site_right() {
    cut_everywhere(|cut| {
        // Back to what is live: a difference to the live release alone would upload nothing.
        let fake = before_third();
        fake.line.cut(cut);
        drop(fake.work(THIRD));
        let calls = fake.line.calls();
        fake.line.cut(None);
        let [_, two, _] = versions();
        fake.publish(FOURTH, two).unwrap();
        right(&fake, FOURTH);
        calls
    });
}

/// The bucket holds what the record of its live release says, content and headers, and nothing that it says goes.
fn right(fake: &Fake, release: &str) {
    let record = fake.record(release);
    let world = fake.world.borrow();
    for (key, object) in &record.objects {
        let (content, there) = &world.site[key];
        assert_eq!((crc32fast::hash(content), &there.headers), (object.crc32, &object.headers), "{key}");
    }
    for (key, retired) in &record.retired {
        if let Some(object) = &retired.object {
            assert_eq!(crc32fast::hash(&world.site[key].0), object.crc32, "{key}");
        }
    }
    for key in world.site.keys() {
        assert!(record.objects.contains_key(key) || record.retired.contains_key(key), "nobody knows of {key}");
    }
}

/// A site by a few numbers: which pages, assets and other files it has, and in which version.
#[derive(Clone, Copy, Debug)]
struct Made {
    pages: u8,
    assets: u8,
    others: u8,
    version: u8,
}

impl Made {
    fn files(self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for n in (0..4u8).filter(|n| self.assets & 1 << n != 0) {
            // The content tells the version alone, so that it moves from one name to another.
            let hash = u32::from(self.version % 2 + n % 2);
            files.insert(format!("assets/a{n}.{:08x}.js", 0xa1b2_c3d0 + hash), format!("content {hash}").into_bytes());
        }
        for n in (0..3u8).filter(|n| self.others & 1 << n != 0) {
            files.insert(format!("o{n}.txt"), format!("other {}", (self.version + n) % 3).into_bytes());
        }
        let references = files.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
        for (n, name) in ["about.html", "blog/index.html", "x/y.html"].into_iter().enumerate() {
            if self.pages & 1 << n != 0 {
                files.insert(name.to_owned(), format!("page {n}, refers to {references}").into_bytes());
            }
        }
        files.insert("index.html".to_owned(), format!("version {}, refers to {references}", self.version).into_bytes());
        files
    }

    fn zip(self) -> Vec<u8> {
        let files = self.files();
        zip_of(&files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect::<Vec<_>>())
    }
}

#[derive(Clone, Debug)]
struct Op {
    /// The site, or which of the earlier ones.
    site: Result<Made, usize>,
    /// How long after the one before.
    hours: i64,
    /// Where it is cut off, and whether it is then made again or given up.
    cut: Option<(usize, bool, bool)>,
}

fn made() -> impl Strategy<Value = Made> {
    (0..8u8, 0..16u8, 0..8u8, 0..4u8).prop_map(|(pages, assets, others, version)| Made {
        pages,
        assets,
        others,
        version,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let site = prop_oneof![3 => made().prop_map(Ok), 1 => (0..6usize).prop_map(Err)];
    (site, 0..30i64, proptest::option::of((1..40usize, any::<bool>(), any::<bool>())))
        .prop_map(|(site, hours, cut)| Op { site, hours, cut })
}

fn release(number: usize) -> String {
    format!("20261121T{number:09}-00000a")
}

/// What a kept release wants and finds in the bucket as it was must never be deleted.
fn keeps(before: &World, after: &World, fake: &Fake, release: &str) {
    let gone: Vec<&String> = before.site.keys().filter(|key| !after.site.contains_key(*key)).collect();
    if gone.is_empty() {
        return;
    }
    for kept in fake.record(release).kept {
        let wanted = fake.record(kept.as_str());
        for key in &gone {
            let same =
                wanted.objects.get(*key).is_some_and(|wanted| wanted.crc32 == crc32fast::hash(&before.site[*key].0));
            assert!(!same, "{key} is deleted, and {kept} is kept and wants it");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_published_and_cut_off_the_site_is_whole_and_in_the_end_nothing_is_left_over(
        ops in proptest::collection::vec(op(), 1..10),
        releases in 1..4usize,
        last in made(),
    ) {
        let site = format!("routing: clean, trailing_slash: never, keep: 24h, releases: {releases}");
        let fake = Fake::with(Vec::new(), &site);
        fake.watch.set(Some(watch));
        let mut zips: Vec<Vec<u8>> = Vec::new();
        let mut number = 0;
        for op in ops {
            number += 1;
            let zip = match op.site {
                Ok(made) => made.zip(),
                Err(back) => zips.iter().rev().nth(back).cloned().unwrap_or_else(|| last.zip()),
            };
            let id = release(number);
            fake.later(op.hours);
            fake.begin(&id);
            *fake.zip.borrow_mut() = zip.clone();
            let before = fake.world.borrow().clone();
            let mut is_cut = false;
            if let Some((at, is_before, _)) = op.cut {
                fake.line.cut(if is_before { Cut::Before(at) } else { Cut::After(at) });
                is_cut = fake.work(&id).is_err();
                fake.line.cut(None);
            }
            if is_cut && !op.cut.unwrap().2 {
                // Given up: what it did must not have taken anything from those that are kept.
                if fake.world.borrow().manifests.contains_key(&format!("published/shop/prod/web/{id}.json")) {
                    keeps(&before, &fake.world.borrow(), &fake, &id);
                }
                continue;
            }
            if op.cut.is_none() || is_cut {
                fake.work(&id).unwrap();
            }
            keeps(&before, &fake.world.borrow(), &fake, &id);
            if is_cut {
                let whole = Fake::with(zip.clone(), &site);
                *whole.world.borrow_mut() = before;
                whole.now.set(fake.now.get());
                whole.work(&id).unwrap();
                prop_assert_eq!(fake.site(), whole.site());
                prop_assert_eq!(&fake.world.borrow().manifests, &whole.world.borrow().manifests);
            }
            right(&fake, &id);
            fake.end(&id);
            zips.push(zip);
        }
        // As many releases as are kept, and the grace period of what went last.
        let mut wanted = BTreeSet::new();
        for round in 0..=releases + 1 {
            number += 1;
            fake.later(25);
            let mut files = last.files();
            files.insert("round.html".to_owned(), format!("round {round}").into_bytes());
            let zip = zip_of(&files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect::<Vec<_>>());
            fake.publish(&release(number), zip).unwrap();
            wanted = fake.record(&release(number)).objects.into_keys().collect();
        }
        let left: BTreeSet<String> = fake.site().into_keys().collect();
        prop_assert_eq!(left, wanted);
    }
}
