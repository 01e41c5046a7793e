//! Executions that begin and end against a table and a bucket in memory: cut off at every call, beside one another, and after
//! their time.

mod alarms;
mod approval;
mod drift;
mod teardown;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use serde_json::json;
use shipway_aws::{
    runtime::answer,
    testing::{Line, Table, are_refused, cut_everywhere, provision},
};
use shipway_domain::{
    message::Verdict,
    name::{AppName, EnvironmentName, RepositoryName},
    release::{EVENT_PREFIX, Intake, LEASE, Order, Step, take_in},
};

use super::*;

const MANIFEST: &str = "version: 1
app: hello
sites: {web: {}}
services:
  api: {image: {repository: hello-api}, port: 8080, migrate: {command: [migrate]}}
  worker: {image: {repository: hello-api}}
environments: {prod: {}}
";

const EXECUTIONS: &str = "arn:aws:states:eu-west-1:123456789012:execution:shipway-";

struct Fake {
    line: Line,
    store: Store,
    /// The table as others see it.
    aside: Store,
    /// Manifests by their versions.
    manifests: BTreeMap<&'static str, String>,
    /// What others were told.
    told: RefCell<Vec<String>>,
    /// What people were told of Shipway itself.
    letters: RefCell<Vec<Letter>>,
    /// Tokens of what was ended, and as what.
    failed: RefCell<Vec<(String, Failure)>>,
    second: Cell<i64>,
}

impl Calls for Fake {
    async fn manifest(&self, key: &str, version: &str) -> Result<Fetched, AwsError> {
        self.line.call(|| match self.manifests.get(version) {
            Some(text) => Fetched::Text(text.clone()),
            None => Fetched::Unusable(format!("{key} has no version {version}; upload it again")),
        })
    }

    async fn fail_task(&self, token: &str, failure: Failure, _: &str) -> Result<(), AwsError> {
        self.line.call(|| self.failed.borrow_mut().push((token.to_owned(), failure)))
    }

    async fn announce(&self, record: &ReleaseRecord, happening: Happening<'_>) {
        let told = format!("{} {}", record.component, happening.status());
        // Whether it arrives or not changes nothing.
        let _ = self.line.call(|| self.told.borrow_mut().push(told));
    }

    fn executions(&self) -> &str {
        EXECUTIONS
    }

    async fn write(&self, letter: &Letter) -> Result<(), AwsError> {
        self.line.call(|| self.letters.borrow_mut().push(letter.clone()))
    }
}

fn app() -> AppName {
    "hello".parse().unwrap()
}

fn prod() -> EnvironmentName {
    "prod".parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn component(name: &str) -> Component {
    name.parse().unwrap()
}

fn image(number: u8) -> Artifact {
    let digest = format!("sha256:{number:02x}").parse().unwrap();
    Artifact::Image { repository: "hello-api".parse().unwrap(), digest }
}

fn object(key: &str, version: &str) -> Artifact {
    Artifact::Object { key: key.to_owned(), version: version.to_owned() }
}

/// An execution that asks to make something live.
#[derive(Clone)]
struct Asks {
    execution: Execution,
    input: ReleaseInput,
}

fn asks(name: &str, started: i64, component: &str, artifact: Artifact) -> Asks {
    let execution =
        Execution { arn: format!("arn:{component}:{name}"), name: name.to_owned(), started_at: at(started) };
    let component = component.parse().unwrap();
    Asks { execution, input: ReleaseInput { app: app(), environment: prod(), component, artifact, repair: false } }
}

/// The execution that start-release started for the n-th image.
fn event(number: u8) -> Asks {
    asks(&format!("{EVENT_PREFIX}{number}"), i64::from(number), "service/api", image(number))
}

fn verdict(outcome: Outcome) -> Ending {
    Ending::Verdict(Verdict { outcome, reason: "so it went".to_owned() })
}

impl Fake {
    fn new() -> Fake {
        let (table, line) = (Table::default(), Line::default());
        let manifests = BTreeMap::from([
            ("good", MANIFEST.to_owned()),
            (
                "smaller",
                MANIFEST.lines().filter(|line| !line.contains("worker")).map(|line| format!("{line}\n")).collect(),
            ),
            ("bad", MANIFEST.replace("migrate:", "migrat:")),
        ]);
        let aside = table.store(&Line::default());
        Fake {
            store: table.store(&line),
            aside,
            line,
            manifests,
            told: RefCell::default(),
            letters: RefCell::default(),
            failed: RefCell::default(),
            second: Cell::new(100),
        }
    }

    /// One whose platform stands.
    async fn with_platform() -> Fake {
        let fake = Fake::new();
        provision(&fake.aside, &prod(), MANIFEST, None).await;
        fake
    }

    /// start-release took the n-th image in.
    async fn delivered(&self, number: u8) {
        deliver(self.aside.clone(), number).await;
    }

    async fn ask(&self, request: RecordRequest) -> Result<Answer, Error> {
        self.hear(serde_json::to_value(request).unwrap()).await
    }

    async fn hear(&self, message: Value) -> Result<Answer, Error> {
        self.second.set(self.second.get() + 1);
        self.line.end_pass(handle(&self.store, self, message, at(self.second.get())).await)
    }

    /// The machine: asks again after what a retry can help.
    async fn retried(&self, request: RecordRequest) -> Answer {
        for _ in 0..8 {
            match Box::pin(self.ask(request.clone())).await {
                Ok(answer) => return answer,
                Err(error) => assert_eq!(error.failure(), Failure::Transient, "{error}"),
            }
        }
        panic!("never answered: {request:?}");
    }

    /// The machine: it asks again after it let what was stopped come to rest.
    async fn begin(&self, asks: &Asks) -> Begun {
        match self.begin_once(asks).await {
            Begun::Wait { note, .. } if note == COMES_TO_REST => self.begin_once(asks).await,
            begun => begun,
        }
    }

    async fn begin_once(&self, asks: &Asks) -> Begun {
        let input = serde_json::to_value(&asks.input).unwrap();
        match self.retried(RecordRequest::Begin { machine: None, execution: asks.execution.clone(), input }).await {
            Answer::Begun(begun) => begun,
            other => panic!("{other:?}"),
        }
    }

    async fn go(&self, asks: &Asks) -> Run {
        match self.begin(asks).await {
            Begun::Go { run, .. } => run,
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&self, asks: &Asks) -> Ended {
        match self.begin(asks).await {
            Begun::End(ended) => ended,
            other => panic!("{other:?}"),
        }
    }

    async fn end(&self, run: &Run, result: Ending) -> Ended {
        match self.retried(RecordRequest::End { run: run.clone(), result, kept: Vec::new() }).await {
            Answer::Ended(ended) => ended,
            other => panic!("{other:?}"),
        }
    }

    /// A function of the run changes something.
    async fn changes(&self, run: &Run) {
        let step = Step { at: at(self.second.get()), by: "deploy-service".to_owned(), what: "changed it".to_owned() };
        self.aside.step(run, step).await.unwrap();
    }

    async fn state(&self, name: &str) -> ComponentState {
        self.aside.component(&app(), &prod(), &component(name)).await.unwrap()
    }

    async fn records(&self) -> Vec<ReleaseRecord> {
        let records = self.aside.releases(&app(), &prod()).await.unwrap();
        records.into_iter().filter(|record| record.execution != record.release.as_str()).collect()
    }

    async fn record(&self, release: &ReleaseId) -> ReleaseRecord {
        self.aside.release(&app(), &prod(), release).await.unwrap().unwrap()
    }
}

async fn deliver(store: Store, number: u8) {
    let state = store.component(&app(), &prod(), &component("service/api")).await.unwrap();
    let order = Order { at: at(i64::from(number)), sequencer: None };
    let name = event(number).execution.name;
    if let Intake::Want(wanted) = take_in(&state, &image(number), &order, &name, order.at) {
        let new = ComponentState { desired: Some(wanted), ..state.clone() };
        store.put_component(&app(), &prod(), &component("service/api"), &state, &new).await.unwrap();
    }
}

#[tokio::test]
async fn a_release_begins_and_ends_and_what_it_made_live_is_remembered() {
    let fake = Fake::with_platform().await;
    fake.delivered(1).await;
    let Begun::Go { run, around } = fake.begin(&event(1)).await else { panic!() };
    assert!(around.migrate, "it was never live before");
    fake.changes(&run).await;
    let ended = fake.end(&run, verdict(Outcome::Succeeded)).await;
    assert_eq!((ended.outcome, ended.live), (Outcome::Succeeded, Some(image(1))));
    let state = fake.state("service/api").await;
    assert!(state.claim.is_none() && state.live.unwrap().release == run.release);
    fake.delivered(2).await;
    let next = fake.go(&event(2)).await;
    assert_eq!(fake.record(&next.release).await.previous.unwrap().release, run.release);
}

#[tokio::test]
async fn others_are_told_once_that_a_release_began_and_once_how_it_ended() {
    let outcomes = [Outcome::Succeeded, Outcome::RolledBack, Outcome::Failed, Outcome::Rejected];
    for (index, outcome) in (1_u8..).zip(outcomes) {
        let fake = Fake::with_platform().await;
        fake.delivered(index).await;
        let run = fake.go(&event(index)).await;
        fake.go(&event(index)).await;
        fake.changes(&run).await;
        for _ in 0..2 {
            fake.end(&run, verdict(outcome)).await;
        }
        let expected = ["service/api started".to_owned(), format!("service/api {outcome}")];
        assert_eq!(fake.told.take(), expected);
    }
    let fake = Fake::with_platform().await;
    for _ in 0..2 {
        fake.refused(&asks("by-hand", 1, "service/web", image(1))).await;
    }
    assert_eq!(fake.told.take(), ["service/web rejected"]);
    fake.delivered(1).await;
    let older = fake.go(&event(1)).await;
    fake.delivered(2).await;
    let newer = fake.go(&event(2)).await;
    fake.end(&older, verdict(Outcome::Succeeded)).await;
    fake.end(&newer, verdict(Outcome::Succeeded)).await;
    let told = ["started", "started", "superseded", "unchanged"].map(|status| format!("service/api {status}"));
    assert_eq!(fake.told.take(), told);
    let site = asks("event-web", 1, "site/web", object("sites/hello/prod/web/a.zip", "1"));
    let run = fake.go(&site).await;
    fake.changes(&run).await;
    fake.end(&run, verdict(Outcome::Succeeded)).await;
    assert_eq!(fake.told.take(), ["site/web started", "site/web succeeded"]);
}

#[tokio::test]
async fn cut_off_at_any_call_a_release_is_one_record_and_one_end() {
    let outcomes = [
        (verdict(Outcome::Succeeded), Outcome::Succeeded),
        (verdict(Outcome::RolledBack), Outcome::RolledBack),
        (Ending::Error { error: "Denied".to_owned(), cause: "no".to_owned() }, Outcome::Failed),
        (Ending::Error { error: "Rejected.Image".to_owned(), cause: "no".to_owned() }, Outcome::Rejected),
    ];
    for (ending, outcome) in outcomes {
        cut_everywhere(async |cut| {
            let fake = Fake::with_platform().await;
            fake.delivered(1).await;
            fake.line.cut(cut);
            let run = fake.go(&event(1)).await;
            assert_eq!(run.fence, 1, "{cut:?}: a claim that was given already is kept");
            fake.changes(&run).await;
            let ended = fake.end(&run, ending.clone()).await;
            assert_eq!(fake.end(&run, ending.clone()).await, ended, "{cut:?}: the second end answers as the first");
            let records = fake.records().await;
            assert_eq!(records.len(), 1, "{cut:?}");
            assert_eq!((ended.outcome, records[0].outcome, records[0].steps.len()), (outcome, Some(outcome), 1));
            let state = fake.state("service/api").await;
            assert_eq!(state.live.is_some(), outcome.is_live(), "{cut:?}");
            assert_eq!((state.claim, state.history.len()), (None, usize::from(outcome.is_live())), "{cut:?}");
            fake.line.calls()
        })
        .await;
    }
}

#[tokio::test]
async fn a_success_without_a_step_is_unchanged_and_leaves_live_as_it_was() {
    let fake = Fake::with_platform().await;
    fake.delivered(1).await;
    let first = fake.go(&event(1)).await;
    fake.changes(&first).await;
    fake.end(&first, verdict(Outcome::Succeeded)).await;
    let Begun::Go { run, around } = fake.begin(&asks("again", 200, "service/api", image(1))).await else { panic!() };
    assert!(!around.migrate, "it was live before");
    assert_eq!(fake.end(&run, verdict(Outcome::Succeeded)).await.outcome, Outcome::Unchanged);
    let state = fake.state("service/api").await;
    assert_eq!((state.live.unwrap().release, state.history.len()), (first.release, 1));
}

#[tokio::test]
async fn what_cannot_be_released_is_rejected_with_its_reason_and_changes_nothing() {
    let table = [
        (asks("a", 1, "service/api", object("sites/hello/prod/web/a.zip", "1")), "is not what service/api is made of"),
        (asks("b", 1, "site/web", image(1)), "is not what site/web is made of"),
        (asks("c", 1, "platform", object("apps/hello/dev/shipway.yaml", "1")), "the manifest of hello/prod is"),
        (asks("d", 1, "platform", object("apps/hello/prod/shipway.yaml", "gone")), "has no version gone; upload it"),
        (asks("e", 1, "platform", object("apps/hello/prod/shipway.yaml", "bad")), "did you mean `migrate`"),
        (asks("f", 1, "site/web", object("sites/hello/dev/web/a.zip", "1")), "is under sites/hello/prod/web/, not"),
        (asks("g", 1, "site/docs", object("sites/hello/prod/docs/a.zip", "1")), "the manifest names no site/docs"),
        (asks("h", 1, "service/web", image(1)), "the manifest names no service/web"),
        (
            asks("i", 1, "preview/web/pr-12", object("sites/hello/prod/web/a.zip", "1")),
            "is under sites/hello/prod/web/preview/",
        ),
        (
            asks("j", 1, "preview/docs/pr-12", object("sites/hello/prod/docs/preview/pr-12.zip", "1")),
            "the manifest names no preview/docs/pr-12",
        ),
    ];
    for (asks, reason) in table {
        let name = asks.input.component.to_string();
        cut_everywhere(async |cut| {
            let fake = Fake::with_platform().await;
            let before = fake.state(&name).await;
            fake.line.cut(cut);
            let ended = fake.refused(&asks).await;
            assert_eq!(ended.outcome, Outcome::Rejected);
            assert!(ended.reason.contains(reason), "{}", ended.reason);
            assert_eq!(fake.refused(&asks).await, ended);
            let records = fake.records().await;
            assert_eq!((records.len(), records[0].outcome), (1, Some(Outcome::Rejected)), "{cut:?}");
            assert_eq!(fake.state(&name).await, before, "{cut:?}");
            fake.line.calls()
        })
        .await;
    }
    let fake = Fake::new();
    let early = fake.refused(&event(1)).await;
    assert!(early.reason.starts_with("hello/prod is not provisioned; upload its manifest"), "{}", early.reason);
}

const PUBLIC: &str = "version: 1
app: hello
databases: {main: {engine: postgres, version: \"15\", class: db.t4g.micro, names: [first, second]}}
services:
  api: {image: {public: \"docker.io/library/nginx:2\"}, port: 8080, secrets: {URL: {ref: databases.main.second.url}}}
  worker: {image: {repository: hello-api}, migrate: {command: [migrate]}}
environments: {prod: {}}
";

fn public(tag: &str) -> Artifact {
    Artifact::Public { image: format!("docker.io/library/nginx:{tag}").try_into().unwrap() }
}

#[tokio::test]
async fn a_public_image_goes_live_if_the_manifest_names_it_or_it_was_live_before() {
    let fake = Fake::with_platform().await;
    let refused = fake.refused(&asks("a", 1, "service/api", public("2"))).await;
    assert_eq!(refused.reason, "service/api takes pushed images, and no docker.io/library/nginx:2");
    provision(&fake.aside, &prod(), &PUBLIC.replace("nginx:2", "nginx:1"), None).await;
    let first = fake.go(&asks("b", 2, "service/api", public("1"))).await;
    fake.changes(&first).await;
    fake.end(&first, verdict(Outcome::Succeeded)).await;
    provision(&fake.aside, &prod(), PUBLIC, None).await;
    fake.go(&asks("c", 3, "service/api", public("2"))).await;
    fake.go(&asks("d", 4, "service/api", public("1"))).await;
    let refused = fake.refused(&asks("e", 5, "service/api", public("3"))).await;
    let expected = "service/api runs docker.io/library/nginx:2 by the manifest, and docker.io/library/nginx:3 was never live: name it there to roll it out";
    assert_eq!((refused.outcome, refused.reason.as_str()), (Outcome::Rejected, expected));
    let refused = fake.refused(&asks("f", 6, "service/api", image(1))).await;
    assert_eq!(refused.reason, "service/api takes no pushed images, so none of hello-api");
    let refused = fake.refused(&asks("g", 7, "platform", public("2"))).await;
    assert_eq!(refused.reason, "docker.io/library/nginx:2 is not what platform is made of");
}

#[tokio::test]
async fn the_machine_is_told_of_databases_only_where_a_service_uses_further_ones() {
    let fake = Fake::with_platform().await;
    provision(&fake.aside, &prod(), PUBLIC, None).await;
    for (component, artifact, expected) in
        [("service/api", public("2"), (false, true)), ("service/worker", image(1), (true, false))]
    {
        let Begun::Go { around, .. } = fake.begin(&asks(component, 1, component, artifact)).await else {
            panic!("{component}")
        };
        assert_eq!((around.migrate, around.databases), expected, "{component}");
    }
}

const SMOKED: &str = "version: 1
app: hello
environments: {prod: {}}
services:
  api: {image: {repository: hello-api}, port: 80, http: {}, smoke: [{path: /}, {command: [look]}]}
";

#[tokio::test]
async fn smoke_tests_are_for_what_is_new_and_for_what_is_live_but_not_for_the_way_back() {
    let fake = Fake::with_platform().await;
    provision(&fake.aside, &prod(), SMOKED, None).await;
    for (number, expected) in [(1, true), (2, true), (2, true), (1, false)] {
        let second = fake.second.get() + 1;
        let asks = asks(&format!("by-hand-{second}"), second, "service/api", image(number));
        let Begun::Go { run, around } = fake.begin(&asks).await else { panic!("{number}") };
        assert_eq!((around.smoke, around.smoke_tasks), (expected, expected), "{number}, {second}");
        fake.changes(&run).await;
        fake.end(&run, verdict(Outcome::Succeeded)).await;
    }
}

#[tokio::test]
async fn a_rejection_tells_what_is_live_all_the_same() {
    let fake = Fake::with_platform().await;
    fake.delivered(1).await;
    let run = fake.go(&event(1)).await;
    fake.changes(&run).await;
    fake.end(&run, verdict(Outcome::Succeeded)).await;
    let other = Artifact::Image { repository: "other".parse().unwrap(), digest: "sha256:02".parse().unwrap() };
    let ended = fake.refused(&asks("by-hand", 200, "service/api", other)).await;
    assert_eq!((ended.outcome, ended.live), (Outcome::Rejected, Some(image(1))));
    assert_eq!(ended.reason, "service/api takes images of hello-api, not of other");
}

#[tokio::test]
async fn an_input_that_is_not_shipways_is_refused_before_anything_is_written() {
    let fake = Fake::with_platform().await;
    let execution = event(1).execution;
    let request = RecordRequest::Begin { machine: None, execution, input: json!({"app": "hello"}) };
    let refused = fake.ask(request).await.unwrap_err();
    assert_eq!(refused.failure(), Failure::RejectedInput);
    let run = fake.go(&asks("by-hand", 1, "service/api", image(1))).await;
    let unknown = Run { release: ReleaseId::of_execution("arn:unknown", at(1)), ..run };
    let refused = fake
        .ask(RecordRequest::End { run: unknown, result: verdict(Outcome::Succeeded), kept: Vec::new() })
        .await
        .unwrap_err();
    assert_eq!(refused.failure(), Failure::RejectedInput);
    assert_eq!(fake.records().await.len(), 1);
}

#[tokio::test]
async fn an_event_that_is_no_longer_wanted_is_superseded_before_it_begins() {
    cut_everywhere(async |cut| {
        let fake = Fake::with_platform().await;
        fake.delivered(1).await;
        fake.delivered(2).await;
        fake.line.cut(cut);
        let ended = fake.refused(&event(1)).await;
        assert_eq!(ended.outcome, Outcome::Superseded, "{cut:?}");
        assert_eq!(ended.reason, "hello-api@sha256:02 is newer and takes its place");
        let run = fake.go(&event(2)).await;
        fake.end(&run, verdict(Outcome::Succeeded)).await;
        assert_eq!(fake.state("service/api").await.live.unwrap().artifact, image(2));
        // Asked again, it answers as it did.
        assert_eq!(fake.refused(&event(1)).await.reason, ended.reason);
        assert_eq!(fake.records().await.len(), 2, "{cut:?}");
        fake.line.calls()
    })
    .await;
}

#[tokio::test]
async fn a_release_that_lost_its_claim_ends_superseded_and_leaves_the_winner_alone() {
    cut_everywhere(async |cut| {
        let fake = Fake::with_platform().await;
        fake.delivered(1).await;
        let loser = fake.go(&event(1)).await;
        fake.delivered(2).await;
        fake.line.cut(cut);
        let winner = fake.go(&event(2)).await;
        assert_eq!(winner.fence, 2, "{cut:?}");
        let claimed = fake.state("service/api").await;
        let ended = fake.end(&loser, verdict(Outcome::Succeeded)).await;
        assert_eq!((ended.outcome, ended.live), (Outcome::Superseded, None), "{cut:?}");
        assert_eq!(fake.state("service/api").await, claimed, "{cut:?}");
        fake.changes(&winner).await;
        let ended = fake.end(&winner, verdict(Outcome::Succeeded)).await;
        assert_eq!((ended.outcome, ended.live), (Outcome::Succeeded, Some(image(2))), "{cut:?}");
        assert_eq!(fake.record(&loser.release).await.outcome, Some(Outcome::Superseded), "{cut:?}");
        fake.line.calls()
    })
    .await;
}

/// A pass of the release that was stopped may have asked ECS for a deployment just now. One that wants what serves already would
/// look, find nothing to do, and be over when that deployment begins.
#[tokio::test]
async fn a_release_that_stops_another_one_waits_once_before_it_looks() {
    let fake = Fake::with_platform().await;
    fake.delivered(1).await;
    fake.go(&event(1)).await;
    fake.delivered(2).await;
    let first = fake.begin_once(&event(2)).await;
    assert!(matches!(&first, Begun::Wait { note, seconds: QUEUE_SECONDS } if note == COMES_TO_REST), "{first:?}");
    assert_eq!(fake.state("service/api").await.claim.unwrap().fence, 2, "the other one writes nothing any more");
    assert!(matches!(fake.begin_once(&event(2)).await, Begun::Go { .. }));
    assert_eq!(fake.records().await.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_on_its_way_any_more_is_not_waited_for() {
    let fake = Fake::with_platform().await;
    fake.delivered(1).await;
    fake.go(&event(1)).await;
    fake.second.set(fake.second.get() + LEASE.as_secs());
    fake.delivered(2).await;
    let second = fake.begin_once(&event(2)).await;
    assert!(matches!(second, Begun::Go { .. }), "its claim ran out: {second:?}");
    // A publication that has not committed has written nothing.
    let zip =
        |started| asks("by-hand", started, "site/web", object("sites/hello/prod/web/site.zip", &format!("v{started}")));
    for started in [300, 301] {
        let begun = fake.begin_once(&zip(started)).await;
        assert!(matches!(begun, Begun::Go { .. }), "{begun:?}");
    }
}

#[tokio::test]
async fn a_newer_release_waits_behind_one_that_is_committed_and_begins_after_its_end() {
    cut_everywhere(async |cut| {
        let fake = Fake::with_platform().await;
        fake.delivered(1).await;
        let first = fake.go(&event(1)).await;
        fake.aside.commit(&first, at(101)).await.unwrap();
        fake.delivered(2).await;
        fake.line.cut(cut);
        let Begun::Wait { seconds, note } = fake.begin(&event(2)).await else { panic!("{cut:?}") };
        assert_eq!(seconds, QUEUE_SECONDS);
        assert!(note.contains(first.release.as_str()), "{note}");
        assert_eq!(fake.records().await.len(), 1, "{cut:?}: who waits has no record yet");
        fake.changes(&first).await;
        assert_eq!(fake.end(&first, verdict(Outcome::Succeeded)).await.outcome, Outcome::Succeeded, "{cut:?}");
        let second = fake.go(&event(2)).await;
        assert_eq!(second.fence, 2, "{cut:?}");
        assert_eq!(fake.record(&second.release).await.previous.unwrap().artifact, image(1));
        fake.line.calls()
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_ran_out_is_taken_over_even_from_one_that_is_committed() {
    let fake = Fake::with_platform().await;
    fake.delivered(1).await;
    let first = fake.go(&event(1)).await;
    fake.aside.commit(&first, at(fake.second.get())).await.unwrap();
    fake.delivered(2).await;
    fake.second.set(fake.second.get() + LEASE.as_secs() - 2);
    assert!(matches!(fake.begin(&event(2)).await, Begun::Wait { .. }));
    fake.second.set(fake.second.get() + 2);
    let second = fake.go(&event(2)).await;
    assert_eq!(second.fence, 2);
    assert!(fake.aside.renew(&first, at(fake.second.get())).await.is_err());
    assert_eq!(fake.end(&first, verdict(Outcome::Succeeded)).await.outcome, Outcome::Superseded);
}

#[tokio::test]
async fn one_whose_claim_ran_out_and_that_nobody_replaced_still_ends_it() {
    let fake = Fake::with_platform().await;
    fake.delivered(1).await;
    let run = fake.go(&event(1)).await;
    fake.changes(&run).await;
    fake.second.set(fake.second.get() + 10 * LEASE.as_secs());
    assert_eq!(fake.end(&run, verdict(Outcome::Succeeded)).await.outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn a_person_gets_an_older_artifact_until_a_newer_push_comes() {
    let fake = Fake::with_platform().await;
    for number in [1, 2] {
        fake.delivered(number).await;
        let run = fake.go(&event(number)).await;
        fake.changes(&run).await;
        fake.end(&run, verdict(Outcome::Succeeded)).await;
    }
    let Begun::Go { run, around } = fake.begin(&asks("by-hand", 150, "service/api", image(1))).await else { panic!() };
    assert!(!around.migrate);
    assert_eq!(fake.state("service/api").await.desired.unwrap().artifact, image(1));
    fake.changes(&run).await;
    assert_eq!(fake.end(&run, verdict(Outcome::Succeeded)).await.live, Some(image(1)));
    fake.delivered(200).await;
    assert_eq!(fake.refused(&asks("late", 160, "service/api", image(1))).await.outcome, Outcome::Superseded);
}

#[tokio::test]
async fn what_is_written_between_looking_and_deciding_is_looked_at_again() {
    let fake = Fake::with_platform().await;
    fake.delivered(1).await;
    fake.line.meanwhile(deliver(fake.aside.clone(), 2));
    assert_eq!(fake.refused(&event(1)).await.outcome, Outcome::Superseded);
    assert_eq!(fake.state("service/api").await.claim, None);
    for number in 3..=7 {
        fake.line.meanwhile(deliver(fake.aside.clone(), number));
    }
    let begin = RecordRequest::Begin {
        machine: None,
        execution: asks("by-hand", 300, "service/api", image(1)).execution,
        input: serde_json::to_value(event(1).input).unwrap(),
    };
    let busy = fake.ask(begin).await.unwrap_err();
    assert!(matches!(busy, Error::Busy(_)) && busy.failure() == Failure::Transient, "{busy}");
}

/// Step Functions gives up on an answer while the function still works on it, and asks again.
#[tokio::test]
async fn of_two_ends_at_once_the_first_is_what_stays() {
    let fake = Fake::with_platform().await;
    fake.delivered(1).await;
    let run = fake.go(&event(1)).await;
    fake.changes(&run).await;
    let (store, late) = (fake.aside.clone(), run.clone());
    fake.line.meanwhile(async move {
        let record = store.release(&app(), &prod(), &late.release).await.unwrap().unwrap();
        let state = store.component(&app(), &prod(), &late.component).await.unwrap();
        let new = end(&state, &late.release, late.fence, &late.artifact, Outcome::Succeeded, at(0)).unwrap();
        let record = ReleaseRecord { outcome: Some(Outcome::Succeeded), ..record };
        store.end(&late, &state, &new, &record, None).await.unwrap();
    });
    assert_eq!(fake.end(&run, verdict(Outcome::Succeeded)).await.outcome, Outcome::Succeeded);
    assert_eq!(fake.record(&run.release).await.outcome, Some(Outcome::Succeeded));
    assert_eq!(fake.state("service/api").await.history.len(), 1);
}

/// Two executions that begin at once: the one that loses the race sees the winner's claim.
#[tokio::test]
async fn of_two_that_begin_at_once_the_newer_has_the_claim() {
    let fake = Fake::with_platform().await;
    fake.delivered(2).await;
    let other = Fake { line: Line::default(), store: fake.aside.clone(), aside: fake.aside.clone(), ..Fake::new() };
    let winner = other.go(&event(2)).await;
    assert_eq!(fake.refused(&event(1)).await.outcome, Outcome::Superseded);
    assert_eq!(fake.state("service/api").await.claim.unwrap().release, winner.release);
}

#[tokio::test]
async fn a_platform_applies_its_manifest_and_routes_when_it_stands_and_not_before() {
    let routes = async |fake: &Fake| {
        let repository: RepositoryName = "hello-api".parse().unwrap();
        let routes = fake.aside.routes(&repository).await.unwrap();
        routes.into_iter().map(|route| route.service.to_string()).collect::<Vec<_>>()
    };
    for (outcome, expected) in [(Outcome::Succeeded, vec!["api"]), (Outcome::Failed, vec!["api", "worker"])] {
        cut_everywhere(async |cut| {
            let fake = Fake::with_platform().await;
            fake.line.cut(cut);
            let artifact = object("apps/hello/prod/shipway.yaml", "smaller");
            let run = fake.go(&asks("event-platform", 1, "platform", artifact.clone())).await;
            let (_, planned) = fake.aside.planned(&app(), &prod()).await.unwrap();
            assert_eq!(planned.artifact, artifact, "{cut:?}");
            assert_eq!(routes(&fake).await, ["api", "worker"], "{cut:?}");
            fake.changes(&run).await;
            fake.end(&run, verdict(outcome)).await;
            let (_, applied) = fake.aside.applied(&app(), &prod()).await.unwrap();
            assert_eq!(applied.artifact == artifact, outcome.is_live(), "{cut:?}");
            assert_eq!(routes(&fake).await, expected, "{cut:?}");
            fake.line.calls()
        })
        .await;
    }
}

#[tokio::test]
async fn a_preview_is_released_beside_its_site() {
    let fake = Fake::with_platform().await;
    let site = fake.go(&asks("event-web", 1, "site/web", object("sites/hello/prod/web/a.zip", "1"))).await;
    let zip = object("sites/hello/prod/web/preview/pr-12.zip", "1");
    let preview = fake.go(&asks("event-pr-12", 1, "preview/web/pr-12", zip.clone())).await;
    fake.changes(&preview).await;
    assert_eq!(fake.end(&preview, verdict(Outcome::Succeeded)).await.live, Some(zip));
    assert_eq!(fake.state("site/web").await.claim.unwrap().release, site.release);
    assert_eq!(fake.state("site/web").await.live, None);
}

#[tokio::test]
async fn a_repair_is_handed_on_to_the_run() {
    let fake = Fake::with_platform().await;
    let mut repair = asks("by-hand", 1, "site/web", object("sites/hello/prod/web/a.zip", "1"));
    repair.input.repair = true;
    assert!(fake.go(&repair).await.repair);
}

fn told_of_error(name: &str, cause: &str) -> (Outcome, String) {
    outcome_of(Ending::Error { error: name.to_owned(), cause: cause.to_owned() })
}

#[test]
fn a_verdict_is_recorded_as_it_is() {
    let verdict = Verdict { outcome: Outcome::RolledBack, reason: "exit code 1".into() };
    assert_eq!(outcome_of(Ending::Verdict(verdict)), (Outcome::RolledBack, "exit code 1".into()));
}

#[test]
fn an_error_is_recorded_by_its_name_and_its_own_message() {
    let cause = r#"{"errorType":"Rejected.NoIndex","errorMessage":"there is no index.html"}"#;
    assert_eq!(
        told_of_error("Rejected.NoIndex", cause),
        (Outcome::Rejected, "Rejected.NoIndex: there is no index.html".into())
    );
    assert_eq!(told_of_error("Superseded", "{}").0, Outcome::Superseded);
    assert_eq!(told_of_error("States.Timeout", "late"), (Outcome::Failed, "States.Timeout: late".into()));
    assert_eq!(told_of_error("Lambda.Unknown", "").0, Outcome::Failed);
}

#[test]
fn a_record_request_is_what_the_machines_send() {
    let request = json!({"action": "end", "run": {
        "app": "hello", "environment": "dev", "component": "site/web", "fence": 3, "release": "20261121T031542123-3f9c2a",
        "artifact": {"object": {"key": "sites/hello/dev/web/a.zip", "version": "v"}}},
        "result": {"Error": "Denied", "Cause": "no"}});
    assert!(matches!(serde_json::from_value(request), Ok(RecordRequest::End { result: Ending::Error { .. }, .. })));
    let request = json!({"action": "end", "run": {
        "app": "hello", "environment": "dev", "component": "platform", "fence": 3, "release": "20261121T031542123-3f9c2a",
        "artifact": "nothing"},
        "result": {"outcome": "succeeded", "reason": "all is gone"},
        "kept": [{"what": "the database main", "in_network": true}, {"what": "the network, which it stands in"}]});
    let Ok(RecordRequest::End { run, kept, .. }) = serde_json::from_value(request) else { panic!() };
    assert_eq!((&run.artifact, kept[0].in_network, kept[1].in_network), (&Artifact::Nothing, true, false));
    let asks = json!({"action": "ask_approval", "run": run, "token": "AAAA", "seconds": 86400});
    assert!(matches!(serde_json::from_value(asks), Ok(RecordRequest::AskApproval { seconds: 86_400, .. })));
    for answer in [json!({"by": "Ann"}), json!({}), json!(null), json!("yes")] {
        let approved = json!({"action": "approved", "run": run, "answer": answer});
        assert!(matches!(serde_json::from_value(approved), Ok(RecordRequest::Approved { .. })), "{answer}");
    }
    let execution = json!({"arn": "arn:a", "name": "a", "started_at": "2026-11-21T03:15:42.123Z"});
    let request = json!({"action": "begin_teardown", "execution": execution, "input": {}});
    assert!(matches!(serde_json::from_value(request), Ok(RecordRequest::BeginTeardown { .. })));
    let different = json!({"of": "stack shipway-hello-dev-cluster", "what": "is gone"});
    let request = json!({"action": "drift", "execution": execution, "input": {"app": "hello", "environment": "dev"},
        "found": [{"differences": []}, {"status": "done", "differences": [different]}, {"differences": []}]});
    let Ok(RecordRequest::Drift { found, .. }) = serde_json::from_value(request) else { panic!() };
    assert_eq!(found.iter().map(|found| found.differences.len()).collect::<Vec<_>>(), [0, 1, 0]);
}

const ORDERED: &str = "version: 1
app: hello
services:
  api: {image: {repository: hello-api}, port: 8080, migrate: {command: [migrate]}}
  worker: {image: {repository: hello-api}, after: [api]}
  lone: {image: {repository: other}}
environments: {prod: {}}
";

impl Fake {
    /// One whose worker goes after its api, with the first image live in both and the second one pushed.
    async fn with_a_worker() -> Fake {
        let fake = Fake::with_platform().await;
        provision(&fake.aside, &prod(), ORDERED, None).await;
        for service in ["api", "worker"] {
            fake.takes_in(service, 1).await;
            let run = fake.go(&pushed(service, 1)).await;
            fake.changes(&run).await;
            fake.end(&run, verdict(Outcome::Succeeded)).await;
            fake.takes_in(service, 2).await;
        }
        fake
    }

    /// start-release took the n-th image in for a service.
    async fn takes_in(&self, service: &str, number: u8) {
        let Asks { execution, input } = pushed(service, number);
        let state = self.state(&format!("service/{service}")).await;
        let order = Order { at: at(i64::from(number)), sequencer: None };
        let Intake::Want(wanted) = take_in(&state, &input.artifact, &order, &execution.name, order.at) else {
            panic!()
        };
        let new = ComponentState { desired: Some(wanted), ..state.clone() };
        self.aside.put_component(&app(), &prod(), &input.component, &state, &new).await.unwrap();
    }

    async fn waits(&self, asks: &Asks) -> String {
        match self.begin(asks).await {
            Begun::Wait { seconds: QUEUE_SECONDS, note } => note,
            other => panic!("{other:?}"),
        }
    }
}

/// The execution that start-release started of a service for the n-th image.
fn pushed(service: &str, number: u8) -> Asks {
    let name = format!("{EVENT_PREFIX}{service}-{number}");
    asks(&name, i64::from(number), &format!("service/{service}"), image(number))
}

#[tokio::test]
async fn a_service_waits_for_the_one_before_it_until_that_is_live_and_both_are_one_group() {
    cut_everywhere(async |cut| {
        let fake = Fake::with_a_worker().await;
        fake.line.cut(cut);
        let note = fake.waits(&pushed("worker", 2)).await;
        assert!(note.starts_with("waits for `api`, which goes first: its release of hello-api@sha256:02"), "{note}");
        let api = fake.go(&pushed("api", 2)).await;
        let note = fake.waits(&pushed("worker", 2)).await;
        assert!(note.ends_with(&format!("its release {} is under way", api.release)), "{note}");
        fake.changes(&api).await;
        fake.end(&api, verdict(Outcome::Succeeded)).await;
        let worker = fake.go(&pushed("worker", 2)).await;
        let (api, worker) = (fake.record(&api.release).await, fake.record(&worker.release).await);
        assert!(api.group.is_some() && api.group == worker.group, "{cut:?}: {:?} {:?}", api.group, worker.group);
        fake.line.calls()
    })
    .await;
}

#[tokio::test]
async fn where_the_service_before_it_did_not_go_live_a_service_stays_as_it_is() {
    for ending in [
        verdict(Outcome::RolledBack),
        verdict(Outcome::Failed),
        Ending::Error { error: "Migration".to_owned(), cause: "exit code 1".to_owned() },
    ] {
        let fake = Fake::with_a_worker().await;
        let api = fake.go(&pushed("api", 2)).await;
        fake.changes(&api).await;
        fake.end(&api, ending).await;
        let before = fake.state("service/worker").await;
        let ended = fake.refused(&pushed("worker", 2)).await;
        assert_eq!(ended.outcome, Outcome::Rejected);
        let expected = format!("service/worker stays as it is: `api` goes first, and its release {} of", api.release);
        assert!(ended.reason.starts_with(&expected), "{}", ended.reason);
        assert_eq!((ended.live, fake.state("service/worker").await), (Some(image(1)), before));
        // Asked again it answers the same, and what a person starts waits for nobody.
        assert_eq!(fake.refused(&pushed("worker", 2)).await.reason, ended.reason);
        fake.go(&asks("by-hand", 300, "service/worker", image(2))).await;
    }
}

#[tokio::test]
async fn who_is_pushed_another_image_or_has_it_live_is_not_waited_for() {
    let fake = Fake::with_a_worker().await;
    fake.takes_in("api", 3).await;
    fake.go(&pushed("worker", 2)).await;
    let fake = Fake::with_a_worker().await;
    let api = fake.go(&asks("by-hand", 300, "service/api", image(1))).await;
    fake.end(&api, verdict(Outcome::Succeeded)).await;
    fake.go(&pushed("worker", 2)).await;
}

#[tokio::test]
async fn a_service_that_waited_is_superseded_by_a_newer_push_of_its_own() {
    let fake = Fake::with_a_worker().await;
    fake.go(&pushed("api", 2)).await;
    fake.waits(&pushed("worker", 2)).await;
    for service in ["api", "worker"] {
        fake.takes_in(service, 3).await;
    }
    assert_eq!(fake.refused(&pushed("worker", 2)).await.outcome, Outcome::Superseded);
    fake.waits(&pushed("worker", 3)).await;
}

#[tokio::test]
async fn only_what_several_services_share_is_a_group() {
    let fake = Fake::with_a_worker().await;
    let alone = Artifact::Image { repository: "other".parse().unwrap(), digest: "sha256:02".parse().unwrap() };
    let run = fake.go(&asks("by-hand", 300, "service/lone", alone)).await;
    assert_eq!(fake.record(&run.release).await.group, None);
    let run = fake.go(&asks("by-hand", 300, "service/api", image(1))).await;
    assert_eq!(fake.record(&run.release).await.group, None, "no push began it");
}

#[tokio::test]
async fn an_input_that_no_machine_makes_is_refused_by_name_and_nothing_changes() {
    let started = |name: &str| json!({"arn": format!("arn:{name}"), "name": name, "started_at": at(300)});
    let image = json!({"image": {"repository": "hello-api", "digest": "sha256:01"}});
    let input = json!({"app": "hello", "environment": "prod", "component": "service/api", "artifact": image});
    let object = json!({"object": {"key": "apps/hello/prod/shipway.yaml", "version": "good"}});
    let manifest =
        json!({"app": "hello", "environment": "prod", "component": "platform", "artifact": object, "repair": true});
    let confirmed = json!({"app": "hello", "environment": "prod", "confirm": "hello/prod"});
    let compared = json!({"app": "hello", "environment": "prod"});
    let found = json!([{"differences": [{"of": "network", "what": "is gone"}]}]);
    let run = Fake::with_platform().await.go(&event(1)).await;
    let error = json!({"Error": "Preflight", "Cause": "something is missing"});
    let kept = json!([{"what": "the database main", "in_network": true}]);
    let asked = [
        json!({"action": "begin", "machine": "rollout", "execution": started("by-hand"), "input": input}),
        json!({"action": "begin", "machine": "provision", "execution": started("by-hand"), "input": manifest}),
        json!({"action": "begin_teardown", "execution": started("teardown"), "input": confirmed}),
        json!({"action": "ask_approval", "run": run, "token": "token", "seconds": 60}),
        json!({"action": "approved", "run": run, "answer": {"by": "Ann"}}),
        json!({"action": "end", "run": run, "result": {"outcome": "succeeded", "reason": "so it went"}, "kept": kept}),
        json!({"action": "end", "run": run, "result": error}),
        json!({"action": "drift", "execution": started("drift"), "input": compared, "found": found}),
    ];
    for valid in asked {
        // A run with another fence was taken over, and ends as that. What an execution is called, what a person or a function says,
        // and how it ended, is told as it is; a release that is asked for wrongly ends as rejected, and is written down as that.
        let free = [
            "/machine",
            "/execution/arn",
            "/execution/name",
            "/input/repair",
            "/input/artifact/object/key",
            "/input/artifact/object/version",
            "/input/confirm",
            "/token",
            "/run/fence",
            "/seconds",
            "/answer",
            "/answer/by",
            "/result/reason",
            "/result/Error",
            "/result/Cause",
            "/kept",
            "/kept/0/what",
            "/kept/0/in_network",
            "/found",
            "/found/0/differences",
            "/found/0/differences/0/of",
            "/found/0/differences/0/what",
            "/kept/0",
            "/found/0",
            "/found/0/differences/0",
        ];
        Box::pin(are_refused(&valid, &free, async |input| {
            let fake = Fake::with_platform().await;
            if valid.get("run").is_some() {
                fake.go(&event(1)).await;
            }
            let answered = answer(&input, async |message| Box::pin(fake.hear(message)).await).await;
            (answered.map(|answer| json!(answer)), format!("{:?} {}", fake.failed, fake.aside.written()))
        }))
        .await;
    }
}

#[tokio::test]
async fn a_machine_releases_what_it_is_for_and_nothing_else() {
    let manifest = || object("apps/hello/prod/shipway.yaml", "good");
    let zip = || object("sites/hello/prod/web/a.zip", "v");
    let asked = [
        (Machine::Provision, asks("by-hand", 1, "platform", manifest())),
        (Machine::Rollout, asks("by-hand", 1, "service/api", image(1))),
        (Machine::Publish, asks("by-hand", 1, "site/web", zip())),
        (
            Machine::Publish,
            asks("by-hand", 1, "preview/web/pr-1", object("sites/hello/prod/web/preview/pr-1.zip", "v")),
        ),
    ];
    for machine in [Machine::Provision, Machine::Rollout, Machine::Publish] {
        for (own, Asks { execution, input }) in asked.clone() {
            let fake = Fake::with_platform().await;
            let before = fake.aside.written();
            let (execution, input) = (execution.clone(), json!(input));
            let answered = fake.ask(RecordRequest::Begin { machine: Some(machine), execution, input }).await;
            if machine == own {
                assert!(matches!(answered, Ok(Answer::Begun(Begun::Go { .. }))), "{machine}: {answered:?}");
                continue;
            }
            let refused = answered.unwrap_err();
            assert_eq!((refused.failure(), fake.aside.written()), (Failure::RejectedInput, before), "{machine}");
            assert!(refused.to_string().contains(&format!("`{machine}` releases no ")), "{refused}");
        }
    }
}
