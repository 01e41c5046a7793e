//! Buckets that are emptied before a teardown, against an S3 in memory: cut off at every call, over many passes.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use serde_json::json;
use shipway_aws::{
    PublicError, Store,
    runtime::answer,
    testing::{Line, Table, are_refused, begin, cut_everywhere, provision},
};
use shipway_domain::{
    failure::Failure,
    message::{Pass, PassInput, Run},
    name::Component,
    release::Artifact,
};

use crate::{
    empty::{Buckets, Unfinished, Version, handle},
    handler::{Asked, Error},
};

const MANIFEST: &str = "version: 1
app: shop
sites: {web: {}}
buckets: {scratch: {on_delete: delete}, files: {}}
databases:
  main: {engine: postgres, version: \"15\", class: db.t3.micro, weekly_export: 30d, on_delete: retain}
  other: {engine: postgres, version: \"15\", class: db.t3.micro, weekly_export: 30d}
environments: {prod: {}}
";

const EMPTIED: [&str; 3] =
    ["shipway-bucket-shop-prod-scratch-1", "shipway-export-shop-prod-c3", "shipway-site-shop-prod-a1"];

#[derive(Default)]
struct Bucket {
    tags: BTreeMap<String, String>,
    versions: BTreeSet<Version>,
    unfinished: BTreeSet<Unfinished>,
}

struct Fake {
    line: Line,
    store: Store,
    aside: Store,
    run: Run,
    buckets: RefCell<BTreeMap<String, Bucket>>,
    /// Gone before anything is asked of it, though it was listed.
    deleted: Cell<Option<&'static str>>,
}

impl Fake {
    /// An environment with everything, and others' buckets beside it.
    async fn new() -> Fake {
        let (table, line) = (Table::default(), Line::default());
        let aside = table.store(&Line::default());
        let (app, environment): (_, _) = ("shop".parse().unwrap(), "prod".parse().unwrap());
        provision(&aside, &environment, MANIFEST, None).await;
        let run = Run {
            app,
            environment,
            component: Component::Platform,
            artifact: Artifact::Nothing,
            release: "20261121T030000000-000001".parse().unwrap(),
            fence: 9,
            repair: false,
        };
        begin(&aside, &run).await;
        let fake =
            Fake { store: table.store(&line), aside, line, run, buckets: RefCell::default(), deleted: Cell::new(None) };
        for (bucket, of) in EMPTIED.iter().zip(["bucket-scratch", "export-other", "site-web"]) {
            fake.add(bucket, "shop", "prod", of, 3);
        }
        fake.add("shipway-bucket-shop-prod-files-1", "shop", "prod", "bucket-files", 3);
        fake.add("shipway-export-shop-prod-d4", "shop", "prod", "export-main", 3);
        fake.add("shipway-intakebucket-1", "", "", "", 3);
        fake.add("shipway-logs-shop-prod-e5", "shop", "prod", "access-logs", 3);
        fake.add("shipway-site-shop-prod-eu-b2", "shop", "prod-eu", "site-web", 3);
        fake
    }

    fn add(&self, bucket: &str, app: &str, environment: &str, of: &str, versions: usize) {
        let stack = format!("shipway-{app}-{environment}-{of}");
        let tags =
            [("shipway:app", app), ("shipway:environment", environment), ("aws:cloudformation:stack-name", &stack)];
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let version = |n: usize| Version { key: format!("key {}", n / 2), id: format!("version {n}") };
        let versions = (0..versions).map(version).collect();
        let unfinished = BTreeSet::from([Unfinished { key: "big".to_owned(), id: "upload".to_owned() }]);
        self.buckets.borrow_mut().insert(bucket.to_owned(), Bucket { tags, versions, unfinished });
    }

    fn call<T: Default>(&self, bucket: &str, act: impl FnOnce(&mut Bucket) -> T) -> Result<T, Error> {
        let mut buckets = self.buckets.borrow_mut();
        let is_there = self.deleted.get() != Some(bucket);
        let found = buckets.get_mut(bucket).filter(|_| is_there);
        Ok(self.line.call(|| found.map(act).unwrap_or_default())?)
    }

    async fn pass(&self, is_spent: impl Fn() -> bool) -> Result<Pass<String>, Error> {
        let pass = self.line.end_pass(handle(&self.store, self, &self.run, Timestamp::UNIX_EPOCH, is_spent).await)?;
        Ok(match pass {
            Pass::Done(summary) => Pass::Done(summary.note),
            Pass::Again { seconds, note } => Pass::Again { seconds, note },
        })
    }

    /// The machine.
    async fn empties(&self) -> String {
        for _ in 0..10 {
            match self.pass(|| false).await {
                Ok(Pass::Done(note)) => return note,
                Ok(Pass::Again { .. }) => {}
                Err(error) => assert_eq!(error.failure(), Failure::Transient, "{error}"),
            }
        }
        panic!("never empty");
    }

    fn full(&self) -> Vec<String> {
        let buckets = self.buckets.borrow();
        let full = buckets.iter().filter(|(_, bucket)| !bucket.versions.is_empty() || !bucket.unfinished.is_empty());
        full.map(|(name, _)| name.clone()).collect()
    }

    async fn story(&self) -> Vec<String> {
        let Run { app, environment, release, .. } = &self.run;
        let record = self.aside.release(app, environment, release).await.unwrap().unwrap();
        record.steps.into_iter().map(|step| step.what).collect()
    }
}

impl Buckets for Fake {
    async fn buckets(&self, start: &str) -> Result<Vec<String>, Error> {
        let found = || self.buckets.borrow().keys().filter(|name| name.starts_with(start)).cloned().collect();
        Ok(self.line.call(found)?)
    }

    async fn tags(&self, bucket: &str) -> Result<BTreeMap<String, String>, Error> {
        self.call(bucket, |bucket| bucket.tags.clone())
    }

    async fn versions(&self, bucket: &str) -> Result<Vec<Version>, Error> {
        self.call(bucket, |bucket| bucket.versions.iter().take(1000).cloned().collect())
    }

    async fn delete_versions(&self, bucket: &str, versions: &[Version]) -> Result<(), Error> {
        assert!(versions.len() <= 1000);
        self.call(bucket, |bucket| bucket.versions.retain(|version| !versions.contains(version)))
    }

    async fn unfinished(&self, bucket: &str) -> Result<Vec<Unfinished>, Error> {
        self.call(bucket, |bucket| bucket.unfinished.iter().take(1000).cloned().collect())
    }

    async fn abort(&self, bucket: &str, upload: &Unfinished) -> Result<(), Error> {
        self.call(bucket, |bucket| bucket.unfinished.retain(|each| each != upload))
    }
}

#[tokio::test]
async fn every_bucket_of_the_environment_is_emptied_but_what_the_manifest_keeps_and_what_is_others() {
    cut_everywhere(async |cut| {
        let fake = Fake::new().await;
        fake.line.cut(cut);
        assert_eq!(fake.empties().await, "3 buckets are empty", "{cut:?}");
        let calls = fake.line.calls();
        let kept = [
            "shipway-bucket-shop-prod-files-1",
            "shipway-export-shop-prod-d4",
            "shipway-intakebucket-1",
            "shipway-logs-shop-prod-e5",
            "shipway-site-shop-prod-eu-b2",
        ];
        assert_eq!(fake.full(), kept, "{cut:?}");
        let mut story = fake.story().await;
        story.sort();
        assert_eq!(story, EMPTIED.map(|bucket| format!("empties {bucket}")), "{cut:?}: each is told once");
        calls
    })
    .await;
}

#[tokio::test]
async fn what_is_too_much_for_one_pass_is_emptied_by_several() {
    let fake = Fake::new().await;
    fake.add("shipway-site-shop-prod-a1", "shop", "prod", "site-web", 3500);
    let asked = Cell::new(0);
    let spent_soon = || {
        asked.set(asked.get() + 1);
        asked.get() > 5
    };
    let Pass::Again { note, .. } = fake.pass(spent_soon).await.unwrap() else { panic!() };
    assert_eq!(note, "1 of 3 buckets are not empty yet; this pass deleted 3006 versions");
    assert_eq!(fake.empties().await, "3 buckets are empty");
}

#[tokio::test]
async fn emptied_again_it_deletes_nothing_and_tells_nothing() {
    let fake = Fake::new().await;
    fake.empties().await;
    let story = fake.story().await;
    assert_eq!(fake.empties().await, "3 buckets are empty");
    assert_eq!(fake.story().await, story);
}

#[tokio::test]
async fn a_bucket_that_is_gone_by_now_is_no_fault() {
    let fake = Fake::new().await;
    fake.deleted.set(Some("shipway-site-shop-prod-a1"));
    assert_eq!(fake.empties().await, "2 buckets are empty");
}

#[tokio::test]
async fn who_lost_the_claim_deletes_nothing() {
    let fake = Fake::new().await;
    begin(&fake.aside, &Run { fence: 10, release: "20261121T040000000-000002".parse().unwrap(), ..fake.run.clone() })
        .await;
    let before = fake.full();
    assert_eq!(fake.pass(|| false).await.unwrap_err().failure(), Failure::Superseded);
    assert_eq!(fake.full(), before);
}

#[tokio::test]
async fn only_a_run_of_the_platform_empties() {
    let fake = Fake::new().await;
    let run = Run { component: "site/web".parse().unwrap(), ..fake.run.clone() };
    let refused = handle(&fake.store, &fake, &run, Timestamp::UNIX_EPOCH, || false).await.unwrap_err();
    assert_eq!(refused.failure(), Failure::RejectedInput);
    let asked = serde_json::json!({"run": run, "action": "empty"});
    let asked: PassInput<Asked> = serde_json::from_value(asked).unwrap();
    assert!(matches!(asked.action, Asked::Empty(_)));
}

#[tokio::test]
async fn an_input_that_no_machine_makes_is_refused_by_name_and_nothing_changes() {
    let valid = json!({"run": Fake::new().await.run, "action": "empty"});
    are_refused(&valid, &[], async |input| {
        let fake = Fake::new().await;
        let pass = async |PassInput { run, action }: PassInput<Asked>| match action {
            Asked::Empty(_) => handle(&fake.store, &fake, &run, Timestamp::UNIX_EPOCH, || false).await,
            Asked::Publish(_) => panic!("{run:?} was a teardown"),
        };
        let answered = answer(&input, pass).await.map(|pass| json!(pass));
        (answered, format!("{:?} {}", fake.full(), fake.aside.written()))
    })
    .await;
}
