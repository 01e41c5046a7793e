//! Events against a table, an ECR and a Step Functions in memory: late, doubled, in any order, and cut off at every call.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use proptest::prelude::*;
use serde_json::json;
use shipway_aws::{
    runtime::answer,
    testing::{Cut, Line, Mutant, Table, begin, cut_everywhere, end, mutants, provision},
};
use shipway_domain::{approval::Asked, message::Run, release::Outcome};

use super::*;

const MANIFEST: &str = r#"version: 1
app: hello
sites: {web: {}}
services:
  api: {image: {repository: hello-api, tags: ["v*"]}, port: 8080}
environments:
  prod: {}
  dev: {services: {api: {image: {tags: ["*"]}}}}
"#;

const PLATFORM: &str = "20261121T031542123-3f9c2a";

struct Execution {
    input: String,
    runs: bool,
}

#[derive(Clone)]
struct Image {
    pushed: PushedImage,
    tag: String,
}

struct Fake {
    line: Line,
    store: Store,
    /// The table as others see it.
    aside: Store,
    images: RefCell<Vec<Image>>,
    /// The current versions in the intake bucket.
    objects: RefCell<BTreeMap<String, Upload>>,
    /// By machine and name.
    executions: RefCell<BTreeMap<(String, String), Execution>>,
    second: Cell<i64>,
    /// Whether ECR cannot answer.
    silent: Cell<bool>,
    /// The secrets that are there, by name: their versions, and in which second they were changed.
    secrets: RefCell<BTreeMap<String, (u8, i64)>>,
}

impl Calls for Fake {
    async fn image(&self, _: &RepositoryName, digest: &Digest) -> Result<Option<PushedImage>, AwsError> {
        self.line.look(&self.images, |images| {
            images.iter().map(|image| &image.pushed).rfind(|image| image.digest == *digest).cloned()
        })
    }

    async fn newest_image(&self, _: &RepositoryName, patterns: &[TagPattern]) -> Result<Option<PushedImage>, AwsError> {
        if self.silent.get() {
            return Err(AwsError::broken_off("ecr:DescribeImages", &std::io::Error::other("broken off")));
        }
        self.line.look(&self.images, |images| {
            let wanted = images.iter().filter(|image| patterns.iter().any(|pattern| pattern.matches(&image.tag)));
            wanted.map(|image| image.pushed.clone()).max_by_key(|image| image.pushed_at)
        })
    }

    async fn uploads(&self, prefix: &str) -> Result<Vec<Upload>, AwsError> {
        self.line
            .call(|| self.objects.borrow().values().filter(|object| object.key.starts_with(prefix)).cloned().collect())
    }

    async fn seen(&self, secrets: &BTreeSet<Secret>) -> Result<BTreeMap<String, Seen>, AwsError> {
        self.line.call(|| {
            let known = self.secrets.borrow();
            let found = secrets.iter().filter_map(|secret| {
                let (version, changed) = known.get(&secret.name)?;
                let seen = Seen { version: version.to_string(), changed_at: Some(at(*changed)) };
                Some((secret.name.clone(), seen))
            });
            found.collect()
        })
    }

    async fn start(&self, machine: &str, name: &str, input: &str) -> Result<Started, AwsError> {
        assert!(name.len() <= 80, "{name}");
        self.line.call(|| {
            let mut executions = self.executions.borrow_mut();
            match executions.get(&(machine.to_owned(), name.to_owned())) {
                Some(known) if known.runs && known.input == input => Started::Running,
                Some(_) => Started::Before,
                None => {
                    let new = Execution { input: input.to_owned(), runs: true };
                    executions.insert((machine.to_owned(), name.to_owned()), new);
                    Started::Running
                }
            }
        })
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn environment(name: &str) -> EnvironmentName {
    name.parse().unwrap()
}

impl Fake {
    /// An account with these environments.
    async fn with(environments: &[&str]) -> Fake {
        let (table, line) = (Table::default(), Line::default());
        let fake = Fake {
            store: table.store(&line),
            aside: table.store(&Line::default()),
            line,
            images: RefCell::default(),
            objects: RefCell::default(),
            executions: RefCell::default(),
            second: Cell::new(100),
            silent: Cell::new(false),
            secrets: RefCell::default(),
        };
        for name in environments {
            provision(&fake.aside, &environment(name), MANIFEST, None).await;
        }
        fake
    }

    /// The n-th image was pushed n seconds after the first.
    fn pushes(&self, tag: &str, number: u8) -> Value {
        let digest = format!("sha256:{number:02x}");
        let mut images = self.images.borrow_mut();
        // ECR may show it a moment after it tells of it.
        self.line.remember(&*images);
        let mut pushed =
            PushedImage { digest: digest.parse().unwrap(), pushed_at: at(i64::from(number)), tags: Vec::new() };
        let known = images.iter().filter(|image| image.pushed.digest == pushed.digest).map(|image| image.tag.clone());
        pushed.tags = known.chain([tag.to_owned()]).collect();
        images.push(Image { pushed, tag: tag.to_owned() });
        drop(images);
        json!({
            "source": "aws.ecr", "detail-type": "ECR Image Action", "account": "123456789012", "region": "eu-west-1",
            "detail": {"action-type": "PUSH", "result": "SUCCESS", "repository-name": "hello-api",
                "image-digest": digest, "image-tag": tag},
        })
    }

    /// The n-th version of an object, and its event.
    fn uploads_to(&self, key: &str, number: u8) -> Value {
        let upload = Upload { key: key.to_owned(), version: format!("v{number}"), at: at(i64::from(number)) };
        self.objects.borrow_mut().insert(key.to_owned(), upload);
        uploads(key, number)
    }

    /// The schedule, so many seconds after the first second.
    async fn sweeps(&self, second: i64) -> Vec<String> {
        self.second.set(second);
        self.take(&json!({"shipway": "sweep"})).await
    }

    async fn handle(&self, message: &Value) -> Result<Vec<Answer>, Error> {
        let settings = Settings {
            home: Home {
                account: "123456789012".to_owned(),
                region: "eu-west-1".to_owned(),
                intake_bucket: "intake".to_owned(),
            },
            provision: "provision".to_owned(),
            rollout: "rollout".to_owned(),
            publish: "publish".to_owned(),
            drift: "drift".to_owned(),
        };
        self.second.set(self.second.get() + 1);
        self.line.end_pass(handle(&settings, &self.store, self, message.clone(), at(self.second.get())).await)
    }

    /// Lambda and the machines: what failed for a while is asked again.
    async fn take(&self, message: &Value) -> Vec<String> {
        for _ in 0..5 {
            match self.handle(message).await {
                Ok(answers) => return answers.into_iter().map(|answer| answer.note).collect(),
                Err(error) => assert_eq!(error.failure(), Failure::Transient, "{error}"),
            }
        }
        panic!("{message} is never taken");
    }

    /// What was started: machine, component, artifact.
    fn started(&self) -> Vec<String> {
        let executions = self.executions.borrow();
        let mut started: Vec<_> = executions
            .iter()
            .map(|((machine, _), execution)| {
                let input: ReleaseInput = serde_json::from_str(&execution.input).unwrap();
                format!("{machine} {}/{} {}", input.environment, input.component, input.artifact)
            })
            .collect();
        started.sort();
        started
    }

    async fn state(&self, place: &str, component: &str) -> ComponentState {
        let app = "hello".parse().unwrap();
        self.aside.component(&app, &environment(place), &component.parse().unwrap()).await.unwrap()
    }

    /// The execution of what is desired is one that was started, with that as its input.
    async fn assert_desired_is_started(&self, place: &str, component: &str) -> Artifact {
        let desired = self.state(place, component).await.desired.unwrap();
        let executions = self.executions.borrow();
        let ((_, _), execution) = executions.iter().find(|((_, name), _)| *name == desired.execution).unwrap();
        let input: ReleaseInput = serde_json::from_str(&execution.input).unwrap();
        assert_eq!((input.artifact, input.environment.as_str()), (desired.artifact.clone(), place));
        desired.artifact
    }

    /// The release of what is desired, from its beginning to its good end.
    async fn release(&self, place: &str, component: &str) {
        let state = self.state(place, component).await;
        let run = Run {
            app: "hello".parse().unwrap(),
            environment: environment(place),
            component: component.parse().unwrap(),
            artifact: state.desired.unwrap().artifact,
            release: ReleaseId::of_execution(component, at(state.revision.try_into().unwrap())),
            fence: state.fence + 1,
            repair: false,
        };
        begin(&self.aside, &run).await;
        end(&self.aside, &run, Outcome::Succeeded).await;
        self.executions.borrow_mut().values_mut().for_each(|execution| execution.runs = false);
    }
}

/// The n-th version of an object.
fn uploads(key: &str, number: u8) -> Value {
    json!({
        "source": "aws.s3", "detail-type": "Object Created", "account": "123456789012", "region": "eu-west-1",
        "time": at(i64::from(number)).to_string(),
        "detail": {"bucket": {"name": "intake"},
            "object": {"key": key, "version-id": format!("v{number}"), "sequencer": format!("{number:04X}")}},
    })
}

fn stands(release: &str) -> Value {
    json!({"platform": {"app": "hello", "environment": "prod", "release": release}})
}

#[tokio::test]
async fn what_is_delivered_is_desired_and_its_execution_started() {
    let fake = Fake::with(&["prod"]).await;
    fake.take(&fake.pushes("v1", 1)).await;
    fake.take(&uploads("apps/hello/prod/shipway.yaml", 2)).await;
    fake.take(&uploads("sites/hello/prod/web/a.zip", 3)).await;
    fake.take(&uploads("sites/hello/prod/web/preview/pr-12.zip", 4)).await;
    let expected = [
        "provision prod/platform apps/hello/prod/shipway.yaml (v2)",
        "publish prod/preview/web/pr-12 sites/hello/prod/web/preview/pr-12.zip (v4)",
        "publish prod/site/web sites/hello/prod/web/a.zip (v3)",
        "rollout prod/service/api hello-api@sha256:01",
    ];
    assert_eq!(fake.started(), expected);
    for component in ["platform", "preview/web/pr-12", "site/web", "service/api"] {
        fake.assert_desired_is_started("prod", component).await;
    }
}

#[tokio::test]
async fn a_preview_is_a_component_of_its_own_and_leaves_its_site_and_other_previews_alone() {
    let fake = Fake::with(&["prod"]).await;
    fake.take(&uploads("sites/hello/prod/web/a.zip", 1)).await;
    let site = fake.state("prod", "site/web").await;
    fake.take(&uploads("sites/hello/prod/web/preview/pr-12.zip", 2)).await;
    fake.take(&uploads("sites/hello/prod/web/preview/pr-13.zip", 1)).await;
    fake.take(&uploads("sites/hello/prod/web/preview/pr-12.zip", 3)).await;
    assert_eq!(fake.state("prod", "site/web").await, site);
    assert_eq!(fake.started().len(), 4);
    let newest = fake.assert_desired_is_started("prod", "preview/web/pr-12").await;
    assert_eq!(newest.to_string(), "sites/hello/prod/web/preview/pr-12.zip (v3)");
    fake.assert_desired_is_started("prod", "preview/web/pr-13").await;
}

#[tokio::test]
async fn one_image_for_two_environments_is_a_release_in_each() {
    let fake = Fake::with(&["prod", "dev"]).await;
    fake.take(&fake.pushes("v1", 1)).await;
    let expected = ["rollout dev/service/api hello-api@sha256:01", "rollout prod/service/api hello-api@sha256:01"];
    assert_eq!(fake.started(), expected);
    fake.take(&fake.pushes("nightly", 2)).await;
    assert_eq!(fake.started().len(), 3);
    assert_eq!(fake.assert_desired_is_started("prod", "service/api").await.to_string(), "hello-api@sha256:01");
    assert_eq!(fake.assert_desired_is_started("dev", "service/api").await.to_string(), "hello-api@sha256:02");
}

#[tokio::test]
async fn one_image_for_two_apps_is_a_release_in_each() {
    let fake = Fake::with(&["prod"]).await;
    provision(&fake.aside, &environment("prod"), &MANIFEST.replace("app: hello", "app: other"), None).await;
    assert_eq!(fake.take(&fake.pushes("v1", 1)).await, ["hello-api@sha256:01 goes on its way"; 2]);
    assert_eq!(fake.started(), ["rollout prod/service/api hello-api@sha256:01"; 2]);
    let apps: BTreeSet<String> = fake
        .executions
        .borrow()
        .values()
        .map(|execution| serde_json::from_str::<ReleaseInput>(&execution.input).unwrap().app.to_string())
        .collect();
    assert_eq!(apps, BTreeSet::from(["hello".to_owned(), "other".to_owned()]));
}

#[tokio::test]
async fn a_tag_that_shipway_gave_to_keep_an_image_releases_nothing() {
    let fake = Fake::with(&["dev"]).await;
    fake.take(&fake.pushes("nightly", 2)).await;
    let ours = "shipway-hello.dev.api.0";
    let expected = format!("ignored: no service takes the tag `{ours}` of hello-api");
    assert_eq!(fake.take(&fake.pushes(ours, 3)).await, [expected]);
    assert_eq!(fake.sweeps(3000).await, [""; 0], "the sweep does not take it for the newest image either");
    assert_eq!(fake.started(), ["rollout dev/service/api hello-api@sha256:02"]);
}

#[tokio::test]
async fn an_event_that_comes_again_starts_nothing_more_while_its_execution_runs_and_after() {
    let fake = Fake::with(&["prod"]).await;
    let event = fake.pushes("v1", 1);
    assert_eq!(fake.take(&event).await, ["hello-api@sha256:01 goes on its way"]);
    assert_eq!(fake.take(&event).await, ["hello-api@sha256:01 goes on its way"]);
    fake.release("prod", "service/api").await;
    let again = "hello-api@sha256:01 had its release already; start its execution again to repeat it";
    assert_eq!(fake.take(&event).await, [again]);
    // Under another of its tags it is the same image.
    assert_eq!(fake.take(&fake.pushes("v1.0", 1)).await, [again]);
    assert_eq!(fake.started().len(), 1);
}

#[tokio::test]
async fn cut_off_at_any_call_and_delivered_again_it_is_one_execution_of_each_component() {
    cut_everywhere(async |cut| {
        let fake = Fake::with(&["prod", "dev"]).await;
        fake.line.cut(cut);
        let events = [
            fake.pushes("v1", 1),
            uploads("apps/hello/prod/shipway.yaml", 2),
            uploads("sites/hello/prod/web/a.zip", 3),
            uploads("sites/hello/prod/web/preview/pr-12.zip", 4),
        ];
        for event in &events {
            fake.take(event).await;
        }
        // What ECR did not show yet is swept up.
        fake.sweeps(400).await;
        assert_eq!(fake.started().len(), 5, "{cut:?}");
        for component in ["platform", "preview/web/pr-12", "site/web", "service/api"] {
            fake.assert_desired_is_started("prod", component).await;
        }
        fake.assert_desired_is_started("dev", "service/api").await;
        fake.line.calls()
    })
    .await;
}

#[tokio::test]
async fn in_any_order_doubled_and_cut_off_the_newest_is_desired_and_nothing_has_two_executions() {
    for order in [[1, 2, 1, 2], [2, 1, 2, 1], [1, 1, 2, 2], [2, 2, 1, 1]] {
        cut_everywhere(async |cut| {
            let fake = Fake::with(&["prod"]).await;
            fake.line.cut(cut);
            for number in order {
                fake.take(&fake.pushes("v1", number)).await;
                fake.take(&uploads("sites/hello/prod/web/a.zip", number)).await;
            }
            fake.sweeps(400).await;
            let story = format!("{order:?}, {cut:?}");
            let image = fake.assert_desired_is_started("prod", "service/api").await.to_string();
            let zip = fake.assert_desired_is_started("prod", "site/web").await.to_string();
            assert_eq!((image.as_str(), zip.as_str()), ("hello-api@sha256:02", "sites/hello/prod/web/a.zip (v2)"));
            let mut started = fake.started();
            let count = started.len();
            started.dedup();
            assert_eq!(started.len(), count, "{story}: {started:?}");
            fake.line.calls()
        })
        .await;
    }
}

/// What another invocation writes for an event: the n-th image is desired.
async fn want(store: Store, number: u8) {
    let (app, prod, component) = ("hello".parse().unwrap(), environment("prod"), "service/api".parse().unwrap());
    let digest = format!("sha256:{number:02x}").parse().unwrap();
    let artifact = Artifact::Image { repository: "hello-api".parse().unwrap(), digest };
    let state = store.component(&app, &prod, &component).await.unwrap();
    let order = Order { at: at(i64::from(number)), sequencer: None };
    if let Intake::Want(wanted) = take_in(&state, &artifact, &order, &format!("event-of-the-other-{number}"), at(0)) {
        let new = ComponentState { desired: Some(wanted), ..state.clone() };
        store.put_component(&app, &prod, &component, &state, &new).await.unwrap();
    }
}

#[tokio::test]
async fn of_two_events_at_once_the_newer_wins_whoever_writes_first() {
    for (mine, theirs, note) in [
        (1, 2, "ignored: hello-api@sha256:01 is older than hello-api@sha256:02"),
        (2, 1, "hello-api@sha256:02 goes on its way"),
        (2, 2, "hello-api@sha256:02 goes on its way"),
    ] {
        let fake = Fake::with(&["prod"]).await;
        fake.line.meanwhile(want(fake.aside.clone(), theirs));
        let answers = fake.handle(&fake.pushes("v1", mine)).await.unwrap();
        assert!(answers[0].note.starts_with(note), "{answers:?}");
        let desired = fake.state("prod", "service/api").await.desired.unwrap();
        assert_eq!(desired.artifact.to_string(), "hello-api@sha256:02");
        // The same event twice at once: both start the execution that was written down first.
        assert!(mine != theirs || desired.execution == "event-of-the-other-2" && fake.started().len() == 1);
    }
}

#[tokio::test]
async fn a_component_that_is_changed_again_and_again_is_for_later() {
    let fake = Fake::with(&["prod"]).await;
    for number in 1..=5 {
        fake.line.meanwhile(want(fake.aside.clone(), number));
    }
    let event = fake.pushes("v1", 9);
    assert_eq!(fake.handle(&event).await.unwrap_err().failure(), Failure::Transient);
    assert_eq!(fake.started(), [""; 0]);
    fake.take(&event).await;
    fake.assert_desired_is_started("prod", "service/api").await;
}

#[tokio::test]
async fn what_nobody_takes_is_ignored_with_its_reason() {
    let fake = Fake::with(&["prod"]).await;
    let gone = fake.pushes("v1", 1);
    fake.images.borrow_mut().clear();
    let mut foreign = fake.pushes("v1", 2);
    foreign["account"] = json!("999999999999");
    let table = [
        (fake.pushes("nightly", 3), "ignored: no service takes the tag `nightly` of hello-api"),
        (gone, "ignored: hello-api@sha256:01 is not there any more"),
        (foreign, "ignored: the event comes from account 999999999999"),
        (uploads("sites/hello/prod/docs/a.zip", 1), "ignored: hello/prod has no such site"),
        (uploads("sites/hello/prod/docs/preview/a.zip", 1), "ignored: hello/prod has no such site"),
        (uploads("sites/hello/dev/web/a.zip", 1), "ignored: hello/dev has no such site"),
    ];
    for (event, reason) in table {
        let notes = fake.take(&event).await;
        assert!(notes[0].starts_with(reason), "{notes:?}");
    }
    assert_eq!(fake.started(), [""; 0]);
}

#[tokio::test]
async fn a_message_that_is_no_event_and_no_machines_is_refused() {
    let fake = Fake::with(&["prod"]).await;
    let refused = fake.handle(&json!({"platform": {"app": "HELLO"}})).await.unwrap_err();
    assert_eq!(refused.failure(), Failure::RejectedInput);
    let early = json!({"platform": {"app": "hello", "environment": "dev", "release": PLATFORM}});
    assert_eq!(fake.handle(&early).await.unwrap_err().failure(), Failure::RejectedInput);
}

/// A live service, a live site, a live preview, and no executions to confuse them with.
async fn with_live() -> Fake {
    let fake = Fake::with(&["prod"]).await;
    fake.take(&fake.pushes("v1", 1)).await;
    fake.take(&uploads("sites/hello/prod/web/a.zip", 1)).await;
    fake.take(&uploads("sites/hello/prod/web/preview/pr-12.zip", 1)).await;
    for component in ["service/api", "site/web", "preview/web/pr-12"] {
        fake.release("prod", component).await;
    }
    fake.executions.borrow_mut().clear();
    fake
}

#[tokio::test]
async fn a_platform_that_stands_releases_again_what_is_live_once_for_each_of_its_releases() {
    let expected =
        ["publish prod/site/web sites/hello/prod/web/a.zip (v1)", "rollout prod/service/api hello-api@sha256:01"];
    cut_everywhere(async |cut| {
        let fake = with_live().await;
        fake.line.cut(cut);
        for _ in 0..2 {
            fake.take(&stands(PLATFORM)).await;
        }
        let calls = fake.line.calls();
        assert_eq!(fake.started(), expected, "{cut:?}");
        for component in ["service/api", "site/web"] {
            fake.assert_desired_is_started("prod", component).await;
            fake.release("prod", component).await;
        }
        fake.take(&stands("20261121T031542123-3f9c2b")).await;
        assert_eq!(fake.started().len(), 4, "{cut:?}");
        calls
    })
    .await;
}

#[tokio::test]
async fn a_platform_that_stands_gives_a_service_its_first_image_or_waits_for_it() {
    let fake = Fake::with(&["prod"]).await;
    let notes = fake.take(&stands(PLATFORM)).await;
    assert_eq!(notes, ["ignored: nothing was delivered yet", "waits for the first push to hello-api"]);
    cut_everywhere(async |cut| {
        let fake = Fake::with(&["prod"]).await;
        // Pushed before anything was provisioned, so their events were for nobody.
        for (tag, number) in [("v2", 2), ("v1", 1), ("nightly", 3)] {
            fake.pushes(tag, number);
        }
        fake.line.cut(cut);
        for _ in 0..2 {
            fake.take(&stands(PLATFORM)).await;
        }
        assert_eq!(fake.started(), ["rollout prod/service/api hello-api@sha256:02"], "{cut:?}");
        fake.line.calls()
    })
    .await;
}

const NGINX: &str = "docker.io/library/nginx";

/// A platform that stands by a manifest in which `api` has this image.
async fn stands_with(fake: &Fake, image: &str, number: u8) -> Vec<String> {
    let manifest = MANIFEST.replace("{repository: hello-api, tags: [\"v*\"]}", image);
    let manifest = manifest.replace("dev: {services: {api: {image: {tags: [\"*\"]}}}}", "dev: {}");
    provision(&fake.aside, &environment("prod"), &manifest, None).await;
    fake.second.set(fake.second.get() + 100);
    fake.take(&stands(&PLATFORM.replace("542123", &format!("5421{number:02}")))).await
}

fn public(tag: &str) -> String {
    format!("{{public: \"{NGINX}:{tag}\"}}")
}

#[tokio::test]
async fn a_public_image_is_rolled_out_when_the_manifest_names_it_and_again_when_it_names_another() {
    cut_everywhere(async |cut| {
        let fake = Fake::with(&["prod"]).await;
        fake.line.cut(cut);
        let wanted = async || fake.state("prod", "service/api").await.desired.unwrap().artifact.to_string();
        for (number, tag) in [(1, "1"), (1, "1"), (2, "2"), (3, "1")] {
            stands_with(&fake, &public(tag), number).await;
            assert_eq!(wanted().await, format!("{NGINX}:{tag}"), "{cut:?}");
        }
        let started = fake.started();
        let of = |tag: &str| started.iter().filter(|one| one.contains(&format!("{NGINX}:{tag}"))).count();
        assert_eq!((of("1"), of("2")), (2, 1), "{cut:?}: {started:?}");
        fake.line.calls()
    })
    .await;
}

#[tokio::test]
async fn the_same_public_image_again_gets_its_settings_even_where_a_person_went_back_from_it() {
    let fake = Fake::with(&["prod"]).await;
    stands_with(&fake, &public("1"), 1).await;
    stands_with(&fake, &public("2"), 2).await;
    // A person makes the first one live again.
    let state = fake.state("prod", "service/api").await;
    let artifact = Artifact::Public { image: format!("{NGINX}:1").try_into().unwrap() };
    let back = Wanted { artifact, execution: "by-hand".to_owned(), ..state.desired.clone().unwrap() };
    let new = ComponentState { desired: Some(back), ..state.clone() };
    let api = "service/api".parse().unwrap();
    fake.aside.put_component(&"hello".parse().unwrap(), &environment("prod"), &api, &state, &new).await.unwrap();
    for number in [3, 4] {
        let notes = stands_with(&fake, &public("2"), number).await;
        assert_eq!(notes.last().unwrap(), &format!("{NGINX}:1 goes on its way"));
    }
    let notes = stands_with(&fake, &public("3"), 5).await;
    assert_eq!(notes.last().unwrap(), &format!("{NGINX}:3 goes on its way"));
}

#[tokio::test]
async fn a_service_that_takes_its_images_from_elsewhere_now_gets_one_from_there() {
    let fake = Fake::with(&["prod"]).await;
    fake.pushes("v1", 1);
    for (number, image, expected) in [
        (1, public("1"), format!("{NGINX}:1")),
        (2, "{repository: hello-api}".to_owned(), "hello-api@sha256:01".to_owned()),
        (3, public("1"), format!("{NGINX}:1")),
    ] {
        let notes = stands_with(&fake, &image, number).await;
        assert_eq!(notes.last().unwrap(), &format!("{expected} goes on its way"));
    }
}

#[tokio::test]
async fn a_platform_that_stands_gives_its_settings_to_what_is_under_way_or_failed_too() {
    let fake = with_live().await;
    fake.take(&fake.pushes("v2", 2)).await;
    let before = fake.state("prod", "service/api").await.desired.unwrap();
    for _ in 0..2 {
        assert_eq!(fake.take(&stands(PLATFORM)).await[1], "hello-api@sha256:02 goes on its way");
        let desired = fake.state("prod", "service/api").await.desired.unwrap();
        assert_eq!((&desired.artifact, &desired.order), (&before.artifact, &before.order));
        assert_ne!(desired.execution, before.execution);
    }
    let of_service = fake.started().iter().filter(|started| started.contains("service/api")).count();
    assert_eq!(of_service, 2, "{:?}", fake.started());
}

#[tokio::test]
async fn a_push_that_comes_while_a_platform_stands_wins() {
    let fake = with_live().await;
    fake.line.meanwhile(async {});
    fake.line.meanwhile(want(fake.aside.clone(), 2));
    fake.take(&stands(PLATFORM)).await;
    let desired = fake.state("prod", "service/api").await.desired.unwrap();
    assert_eq!(desired.artifact.to_string(), "hello-api@sha256:02");
}

/// A teardown of an environment begins.
async fn tears_down(fake: &Fake, place: &str) -> Run {
    let state = fake.state(place, "platform").await;
    let run = Run {
        app: "hello".parse().unwrap(),
        environment: environment(place),
        component: Component::Platform,
        artifact: Artifact::Nothing,
        release: ReleaseId::of_execution("teardown", at(50)),
        fence: state.fence + 1,
        repair: false,
    };
    begin(&fake.aside, &run).await;
    let state = fake.state(place, "platform").await;
    let teardown = Teardown { release: run.release.clone(), since: at(50), torn_down_at: None, kept: Vec::new() };
    fake.aside.begin_teardown(&run, &state, &state, None, &teardown).await.unwrap();
    run
}

#[tokio::test]
async fn what_comes_for_an_environment_that_is_torn_down_is_ignored_and_says_why() {
    cut_everywhere(async |cut| {
        let fake = Fake::with(&["prod", "dev"]).await;
        let push = fake.pushes("v1", 1);
        tears_down(&fake, "prod").await;
        fake.line.cut(cut);
        let answers = fake.take(&push).await;
        let zip = fake.take(&uploads("sites/hello/prod/web/a.zip", 2)).await;
        let stands =
            fake.take(&json!({"platform": {"app": "hello", "environment": "prod", "release": PLATFORM}})).await;
        for note in [answers.iter().find(|note| note.contains("prod")).unwrap(), &zip[0], &stands[0]] {
            assert!(note.starts_with("ignored: hello/prod is being torn down since"), "{note}");
        }
        assert_eq!(fake.started(), ["rollout dev/service/api hello-api@sha256:01"], "{cut:?}: others go on");
        fake.line.calls()
    })
    .await;
}

#[tokio::test]
async fn a_manifest_that_comes_during_a_teardown_is_started_and_one_from_before_it_is_not() {
    let fake = Fake::with(&["prod"]).await;
    let key = "apps/hello/prod/shipway.yaml";
    fake.take(&uploads(key, 1)).await;
    let run = tears_down(&fake, "prod").await;
    let state = fake.state("prod", "platform").await;
    let execution = "by-hand".to_owned();
    let order = Order { at: at(50), sequencer: None };
    let desired = Wanted { artifact: run.artifact.clone(), order, execution, since: at(50), outranked: Vec::new() };
    let new = ComponentState { desired: Some(desired), ..state.clone() };
    fake.aside.put_component(&run.app, &run.environment, &run.component, &state, &new).await.unwrap();
    let late = fake.take(&uploads(key, 1)).await;
    assert!(late[0].contains("is older than nothing"), "{late:?}");
    assert_eq!(fake.started().len(), 1);
    fake.take(&uploads(key, 60)).await;
    assert_eq!(fake.started().len(), 2, "{:?}", fake.started());
}

#[tokio::test]
async fn the_schedule_compares_every_environment_once_an_hour_wherever_it_is_cut_off() {
    let message = json!({"shipway": "drift"});
    cut_everywhere(async |cut| {
        let fake = Fake::with(&["prod", "dev"]).await;
        fake.line.cut(cut);
        assert_eq!(fake.take(&message).await.len(), 2, "{cut:?}");
        fake.take(&message).await;
        let calls = fake.line.calls();
        let names = || -> Vec<_> { fake.executions.borrow().keys().cloned().collect() };
        let expected = ["drift-hello-dev-20270115T08", "drift-hello-prod-20270115T08"];
        assert_eq!(names(), expected.map(|name| ("drift".to_owned(), name.to_owned())), "{cut:?}");
        let input = &fake.executions.borrow()[&("drift".to_owned(), expected[1].to_owned())].input;
        assert_eq!(input, r#"{"app":"hello","environment":"prod"}"#);
        calls
    })
    .await;
    let fake = Fake::with(&["prod"]).await;
    fake.take(&message).await;
    fake.executions.borrow_mut().values_mut().for_each(|execution| execution.runs = false);
    fake.second.set(100 + 3600);
    fake.take(&message).await;
    assert_eq!(fake.executions.borrow().len(), 2, "the next hour's is another one");
    for wrong in [json!({"shipway": "dirft"}), json!({"shipway": "drift", "app": "hello"})] {
        assert_eq!(fake.handle(&wrong).await.unwrap_err().failure(), Failure::RejectedInput, "{wrong}");
    }
}

/// Something of everything is delivered twice, by n and n + 1.
fn deliveries(fake: &Fake, number: u8) -> Vec<Value> {
    vec![
        fake.pushes("v1", number),
        fake.uploads_to("apps/hello/prod/shipway.yaml", number),
        fake.uploads_to("apps/hello/new/shipway.yaml", number),
        fake.uploads_to("sites/hello/prod/web/a.zip", number),
        fake.uploads_to("sites/hello/prod/web/preview/pr-12.zip", number),
    ]
}

const SWEPT: [&str; 5] = [
    "provision new/platform apps/hello/new/shipway.yaml (v2)",
    "provision prod/platform apps/hello/prod/shipway.yaml (v2)",
    "publish prod/preview/web/pr-12 sites/hello/prod/web/preview/pr-12.zip (v2)",
    "publish prod/site/web sites/hello/prod/web/a.zip (v2)",
    "rollout prod/service/api hello-api@sha256:02",
];

#[tokio::test]
async fn where_every_event_is_lost_the_sweep_releases_the_newest_of_everything_once() {
    cut_everywhere(async |cut| {
        let fake = Fake::with(&["prod"]).await;
        deliveries(&fake, 1);
        deliveries(&fake, 2);
        fake.line.cut(cut);
        fake.sweeps(200).await;
        assert_eq!(fake.started(), SWEPT, "{cut:?}");
        fake.sweeps(500).await;
        assert_eq!(fake.started(), SWEPT, "{cut:?}");
        fake.line.calls()
    })
    .await;
}

#[tokio::test]
async fn events_that_come_after_the_sweep_start_nothing_more_and_none_goes_back() {
    let fake = Fake::with(&["prod"]).await;
    let first = deliveries(&fake, 1);
    let second = deliveries(&fake, 2);
    fake.sweeps(200).await;
    for event in first.iter().chain(&second) {
        fake.take(event).await;
    }
    assert_eq!(fake.started(), SWEPT);
    for component in ["platform", "preview/web/pr-12", "site/web", "service/api"] {
        fake.assert_desired_is_started("prod", component).await;
    }
}

#[tokio::test]
async fn a_sweep_after_the_events_writes_nothing_and_starts_nothing() {
    let fake = Fake::with(&["prod"]).await;
    for event in deliveries(&fake, 2) {
        fake.take(&event).await;
    }
    let before = (fake.state("prod", "site/web").await, fake.state("prod", "service/api").await);
    fake.sweeps(500).await;
    assert_eq!(fake.started(), SWEPT);
    assert_eq!((fake.state("prod", "site/web").await, fake.state("prod", "service/api").await), before);
    // Long after it does not even ask: the names of executions are forgotten some day.
    fake.executions.borrow_mut().clear();
    assert_eq!(fake.sweeps(86_400).await, Vec::<String>::new());
    assert_eq!(fake.started(), Vec::<String>::new());
}

#[tokio::test]
async fn an_execution_that_was_written_down_and_never_started_is_started_by_the_sweep() {
    let fake = Fake::with(&["prod"]).await;
    let events = deliveries(&fake, 2);
    for event in &events {
        fake.take(event).await;
    }
    fake.executions.borrow_mut().clear();
    fake.sweeps(500).await;
    assert_eq!(fake.started(), SWEPT);
}

#[tokio::test]
async fn what_was_delivered_just_now_is_left_to_its_event() {
    let fake = Fake::with(&["prod"]).await;
    deliveries(&fake, 2);
    assert_eq!(fake.sweeps(100).await, Vec::<String>::new());
    assert_eq!(fake.started(), Vec::<String>::new());
}

#[tokio::test]
async fn of_two_versions_of_one_second_the_current_one_is_wanted_and_the_other_ones_event_is_late() {
    let fake = Fake::with(&["prod"]).await;
    let key = "sites/hello/prod/web/a.zip";
    let old = fake.uploads_to(key, 7);
    fake.uploads_to(key, 8);
    fake.objects.borrow_mut().get_mut(key).unwrap().at = at(7);
    fake.take(&old).await;
    fake.sweeps(200).await;
    let newest = || async { fake.assert_desired_is_started("prod", "site/web").await.to_string() };
    assert_eq!(newest().await, "sites/hello/prod/web/a.zip (v8)");
    fake.take(&old).await;
    fake.sweeps(500).await;
    assert_eq!(newest().await, "sites/hello/prod/web/a.zip (v8)");
    assert_eq!(fake.started().len(), 2);
}

#[tokio::test]
async fn what_a_person_went_back_to_stays_though_newer_deliveries_are_there() {
    let fake = Fake::with(&["prod"]).await;
    deliveries(&fake, 1);
    deliveries(&fake, 2);
    fake.sweeps(200).await;
    let app = "hello".parse().unwrap();
    let component = "service/api".parse().unwrap();
    let state = fake.state("prod", "service/api").await;
    let older = Artifact::Image { repository: "hello-api".parse().unwrap(), digest: "sha256:01".parse().unwrap() };
    let by_hand = Wanted {
        artifact: older.clone(),
        order: Order { at: at(300), sequencer: None },
        execution: "by-hand".to_owned(),
        since: at(300),
        outranked: Vec::new(),
    };
    let back = ComponentState { desired: Some(by_hand), ..state.clone() };
    fake.aside.put_component(&app, &environment("prod"), &component, &state, &back).await.unwrap();
    fake.sweeps(2500).await;
    assert_eq!(fake.state("prod", "service/api").await.desired.unwrap().artifact, older);
}

#[tokio::test]
async fn a_sweep_leaves_alone_what_has_no_place_and_previews_of_the_day_before() {
    let fake = Fake::with(&["prod"]).await;
    fake.uploads_to("sites/hello/prod/gone/a.zip", 1);
    fake.uploads_to("sites/hello/none/web/a.zip", 1);
    fake.uploads_to("sites/hello/prod/web/notes.txt", 1);
    fake.uploads_to("sites/hello/prod/web/preview/pr-12.zip", 1);
    assert_eq!(fake.sweeps(90_000).await, Vec::<String>::new());
    assert_eq!(fake.started(), Vec::<String>::new());
}

#[tokio::test]
async fn one_repository_that_cannot_be_read_keeps_no_other_delivery_from_its_release() {
    let fake = Fake::with(&["prod"]).await;
    deliveries(&fake, 2);
    fake.silent.set(true);
    fake.second.set(300);
    let error = fake.handle(&json!({"shipway": "sweep"})).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Transient);
    assert_eq!(fake.started(), SWEPT[..4]);
}

/// An event as AWS sent it, but for what tells this delivery from others.
fn recorded(name: &str, own: &[(&str, Value)]) -> Value {
    let path = format!("{}/../../tests/fixtures/events/{name}.json", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    let mut event: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let here = [("/account", json!("123456789012")), ("/region", json!("eu-west-1"))];
    for (pointer, value) in here.iter().chain(own) {
        *event.pointer_mut(pointer).unwrap() = value.clone();
    }
    event
}

/// The events of the n-th delivery of everything, in seconds of which each has two, and all that delivers nothing.
fn recorded_events(fake: &Fake, number: u8) -> Vec<Value> {
    let second = number / 2;
    fake.pushes("v1", number);
    fake.images.borrow_mut().last_mut().unwrap().pushed.pushed_at = at(second.into());
    let mut events = Vec::new();
    for name in ["ecr-push", "ecr-push-index", "ecr-push-untagged-child", "ecr-delete"] {
        let digest = json!(format!("sha256:{number:02x}"));
        let mut own = vec![("/detail/repository-name", json!("hello-api")), ("/detail/image-digest", digest)];
        if name != "ecr-push-untagged-child" {
            own.push(("/detail/image-tag", json!("v1")));
        }
        events.push(recorded(name, &own));
    }
    for key in KEYS {
        fake.uploads_to(key, number);
        fake.objects.borrow_mut().get_mut(key).unwrap().at = at(second.into());
        events.push(recorded(
            "s3-object-created-multipart-versioned",
            &[
                ("/time", json!(at(second.into()).to_string())),
                ("/detail/bucket/name", json!("intake")),
                ("/detail/object/key", json!(key)),
                ("/detail/object/version-id", json!(format!("v{number}"))),
                ("/detail/object/sequencer", json!(format!("006408CAD69598B{number:03X}"))),
            ],
        ));
    }
    for name in ["ecr-scan-complete", "ecs-deployment-completed", "ecs-deployment-failed", "s3-object-created"] {
        events.push(recorded(name, &[]));
    }
    events
}

/// Where something is uploaded.
const KEYS: [&str; 3] =
    ["apps/hello/prod/shipway.yaml", "sites/hello/prod/web/a.zip", "sites/hello/prod/web/preview/pr-12.zip"];

/// One thing that comes in.
#[derive(Clone, Debug)]
enum Coming {
    /// One of the recorded events.
    Event(prop::sample::Index),
    /// The same, and one of the calls it makes is lost.
    Cut(prop::sample::Index, Cut),
    /// The schedule, minutes after everything was delivered.
    Sweep,
}

fn coming() -> impl Strategy<Value = Coming> {
    let index = any::<prop::sample::Index>;
    let cut = prop_oneof![(1_usize..8).prop_map(Cut::Before), (1_usize..8).prop_map(Cut::After)];
    prop_oneof![
        8 => index().prop_map(Coming::Event),
        3 => (index(), cut).prop_map(|(event, cut)| Coming::Cut(event, cut)),
        1 => Just(Coming::Sweep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whichever of the recorded events come, how often, in which order and wherever they are cut off: after a sweep the newest of
    /// everything is wanted and started, nothing had two executions, and no upload was wanted after a newer one.
    #[test]
    fn any_of_the_recorded_events_in_any_order_and_a_sweep_come_to_the_newest(
        comings in prop::collection::vec(coming(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let fake = Fake::with(&["prod"]).await;
            let events: Vec<Value> = (1..=5).flat_map(|number| recorded_events(&fake, number)).collect();
            fake.second.set(200);
            let components = [("platform", KEYS[0]), ("site/web", KEYS[1]), ("preview/web/pr-12", KEYS[2])];
            let mut newest = [0; 3];
            for coming in comings.iter().chain([&Coming::Sweep]) {
                match coming {
                    Coming::Event(event) => drop(fake.take(event.get(&events)).await),
                    Coming::Cut(event, cut) => {
                        fake.line.cut(*cut);
                        // Lambda gives up on it, and it never comes again.
                        drop(fake.handle(event.get(&events)).await);
                        fake.line.cut(None);
                    }
                    Coming::Sweep => drop(fake.take(&json!({"shipway": "sweep"})).await),
                }
                for ((component, _), newest) in components.iter().zip(&mut newest) {
                    let Some(Wanted { artifact: Artifact::Object { version, .. }, .. }) =
                        fake.state("prod", component).await.desired
                    else {
                        continue;
                    };
                    let number: u8 = version[1..].parse().unwrap();
                    assert!(number >= *newest, "{component} goes back from v{newest} to {version}");
                    *newest = number;
                }
            }
            for (component, key) in components {
                let wanted = fake.assert_desired_is_started("prod", component).await.to_string();
                assert_eq!(wanted, format!("{key} (v5)"));
            }
            // Of two images of one second either.
            let image = fake.assert_desired_is_started("prod", "service/api").await.to_string();
            assert!(["hello-api@sha256:04", "hello-api@sha256:05"].contains(&image.as_str()), "{image}");
            let mut started = fake.started();
            let count = started.len();
            started.dedup();
            assert_eq!(started.len(), count, "{started:?}");
        });
    }
}

const ORDERED: &str = r#"version: 1
app: hello
services:
  migrator: {image: {repository: hello-api, tags: ["v*", "first-*"]}}
  api: {image: {repository: hello-api, tags: ["v*"]}, after: [migrator]}
environments: {prod: {}}
"#;

#[tokio::test]
async fn what_goes_first_is_wanted_first_whatever_its_name_and_whichever_of_its_tags_is_announced() {
    cut_everywhere(async |cut| {
        let fake = Fake::with(&[]).await;
        provision(&fake.aside, &environment("prod"), ORDERED, None).await;
        fake.pushes("first-1", 1);
        let event = fake.pushes("v1", 1);
        // Between the two, the function is cut off: never is the one behind wanted and the one before it not.
        fake.line.cut(cut);
        while fake.handle(&event).await.is_err() {
            let wanted = async |name| fake.state("prod", name).await.desired.is_some();
            assert!(wanted("service/migrator").await || !wanted("service/api").await, "{cut:?}");
        }
        let calls = fake.line.calls();
        let expected =
            ["rollout prod/service/api hello-api@sha256:01", "rollout prod/service/migrator hello-api@sha256:01"];
        assert_eq!(fake.started(), expected, "{cut:?}");
        calls
    })
    .await;
}

#[tokio::test]
async fn the_sweep_and_a_platform_that_stands_begin_with_what_goes_first_too() {
    let fake = Fake::with(&[]).await;
    provision(&fake.aside, &environment("prod"), ORDERED, None).await;
    fake.pushes("v1", 1);
    fake.silent.set(true);
    let error = fake.handle(&json!({"shipway": "sweep"})).await.unwrap_err();
    assert_eq!((error.failure(), fake.started().len()), (Failure::Transient, 0));
    fake.silent.set(false);
    fake.second.set(3000);
    for message in [json!({"shipway": "sweep"}), stands(PLATFORM)] {
        let answers = fake.handle(&message).await.unwrap();
        let components: Vec<_> = answers.into_iter().filter_map(|answer| answer.component).collect();
        assert_eq!(components, ["hello/prod/service/migrator", "hello/prod/service/api"], "{message}");
    }
}

const ROTATING: &str = r#"version: 1
app: hello
services:
  api:
    image: {repository: hello-api, tags: ["v*"]}
    secrets: {KEY: {secretsmanager: "prod/key:a"}, TOKEN: {ssm: /prod/token}}
    restart_on_rotation: true
  other: {image: {repository: hello-api, tags: ["other-*"]}, secrets: {KEY: {secretsmanager: prod/key}}}
environments: {prod: {}}
"#;

impl Fake {
    /// One whose first image is live, and whose secrets are known.
    async fn with_secrets() -> Fake {
        let fake = Fake::with(&[]).await;
        provision(&fake.aside, &environment("prod"), ROTATING, None).await;
        fake.take(&fake.pushes("v1", 1)).await;
        fake.ends("prod", "service/api").await;
        fake.secrets.borrow_mut().extend([("prod/key".to_owned(), (1, 0)), ("/prod/token".to_owned(), (1, 0))]);
        assert_eq!(fake.sweeps(200_000).await, [""; 0], "what is seen first is only remembered");
        assert_eq!(fake.state("prod", "service/api").await.rotation.versions.len(), 2);
        fake
    }

    /// The release of what is desired, under the name of its execution.
    async fn ends(&self, place: &str, component: &str) {
        self.release(place, component).await;
    }

    fn rotates(&self, name: &str, second: i64) {
        let mut secrets = self.secrets.borrow_mut();
        let secret = secrets.get_mut(name).unwrap();
        *secret = (secret.0 + 1, second);
    }
}

#[tokio::test]
async fn a_rotated_secret_releases_what_is_live_again_once_wherever_it_is_cut_off() {
    cut_everywhere(async |cut| {
        let fake = Fake::with_secrets().await;
        fake.rotates("prod/key", 200_100);
        fake.line.cut(cut);
        fake.sweeps(200_200).await;
        fake.sweeps(200_500).await;
        let calls = fake.line.calls();
        let live = "rollout prod/service/api hello-api@sha256:01";
        assert_eq!(fake.started(), [live, live], "{cut:?}");
        let state = fake.state("prod", "service/api").await;
        assert_eq!(state.rotation.last.unwrap().what, "prod/key", "{cut:?}");
        fake.assert_desired_is_started("prod", "service/api").await;
        // Others rotate while that runs: one more restart, when it is over.
        fake.rotates("prod/key", 200_600);
        fake.rotates("/prod/token", 200_700);
        fake.sweeps(200_800).await;
        assert_eq!(fake.started().len(), 2, "{cut:?}");
        fake.ends("prod", "service/api").await;
        for second in [300_000, 300_300, 400_000] {
            fake.sweeps(second).await;
            assert_eq!(fake.started().len(), 3, "{cut:?}");
        }
        let what = fake.state("prod", "service/api").await.rotation.last.unwrap().what;
        assert_eq!(what, "/prod/token, prod/key", "{cut:?}");
        calls
    })
    .await;
}

#[tokio::test]
async fn only_a_service_that_asks_for_it_is_restarted_and_only_where_something_is_live() {
    let fake = Fake::with_secrets().await;
    fake.take(&fake.pushes("other-1", 2)).await;
    fake.ends("prod", "service/other").await;
    fake.rotates("prod/key", 0);
    fake.sweeps(200_200).await;
    assert_eq!(fake.started().len(), 2, "the tasks began after that change");
    let other = fake.state("prod", "service/other").await;
    assert!(other.live.is_some() && other.rotation.is_default(), "{other:?}");
}

#[tokio::test]
async fn a_claim_that_nobody_goes_on_with_is_told_by_every_sweep_until_it_is_taken_over() {
    let fake = Fake::with(&["prod"]).await;
    let run = Run {
        app: "hello".parse().unwrap(),
        environment: environment("prod"),
        component: "service/api".parse().unwrap(),
        artifact: Artifact::Nothing,
        release: PLATFORM.parse().unwrap(),
        fence: 1,
        repair: false,
    };
    begin(&fake.aside, &run).await;
    fake.aside.renew(&run, at(100)).await.unwrap();
    assert_eq!(fake.sweeps(100 + 16 * 60 + 3600 - 10).await, [""; 0], "it may be tried again yet");
    for second in [5_000, 5_300] {
        let told = fake.sweeps(second).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("{} holds its claim", run.release)), "{told:?}");
    }
    // While a person is waited for, no pass renews it.
    fake.aside.renew(&run, at(5_300)).await.unwrap();
    let asked = Asked::new("AAAAtoken".to_owned(), 86_400, at(5_300));
    fake.aside.set_approval(&run, &asked, None, at(5_300)).await.unwrap();
    assert_eq!(fake.sweeps(50_000).await, [""; 0]);
    assert_eq!(fake.sweeps(5_300 + 86_400 + 3_700).await.len(), 1, "the answer's time is over, and nothing went on");
    end(&fake.aside, &run, Outcome::Failed).await;
    assert_eq!(fake.sweeps(100_100).await, [""; 0]);
}

#[tokio::test]
async fn a_message_that_nobody_sends_is_ignored_or_refused_by_name_and_nothing_starts() {
    // In place of a version, or of the place of one in a row, another is another delivery.
    const FREE: [&str; 3] = ["/detail/object/version-id", "/detail/object/sequencer", "/time"];
    let asked = [
        json!({"shipway": "drift"}),
        json!({"shipway": "sweep"}),
        stands(PLATFORM),
        uploads("apps/hello/prod/shipway.yaml", 2),
        uploads("sites/hello/prod/web/a.zip", 3),
        uploads("sites/hello/prod/web/preview/pr-12.zip", 4),
        Fake::with(&["prod"]).await.pushes("v1", 1),
    ];
    for valid in asked {
        let ask = async |input: &Value| {
            let fake = Fake::with(&["prod"]).await;
            fake.pushes("v1", 1);
            let answered = answer(input, async |message: Value| Box::pin(fake.handle(&message)).await).await;
            let executions = fake.executions.borrow();
            let started: Vec<_> = executions.iter().map(|(name, execution)| (name, &execution.input)).collect();
            (answered, format!("{started:?} {}", fake.aside.written()))
        };
        let (as_meant, effects) = ask(&valid).await;
        let as_meant = as_meant.unwrap();
        let (_, untouched) = ask(&Value::Null).await;
        let mutants = mutants(&valid);
        for Mutant { at, what, input } in &mutants {
            let told = format!("{what} at `{at}` of {valid}");
            match ask(input).await {
                (Ok(answers), done) if answers == as_meant => assert_eq!(done, effects, "{told}"),
                (Ok(_), _) if FREE.contains(&at.as_str()) => {}
                (Ok(answers), done) => {
                    assert!(answers.iter().all(|answer| answer.note.starts_with("ignored: ")), "{told}: {answers:?}");
                    assert!(!answers.is_empty() && answers.iter().all(|answer| answer.note.len() < 1000), "{told}");
                    assert_eq!(done, untouched, "{told}");
                }
                (Err(refused), done) => {
                    assert_eq!(refused.error_type, Failure::RejectedInput.name(), "{told}");
                    assert!(refused.error_message.len() < 1000, "{told}");
                    assert_eq!(done, untouched, "{told}");
                }
            }
        }
        eprintln!("{} mutants of {valid}", mutants.len());
    }
}
