//! Environments that are torn down: typed wrongly, beside releases and provisioning, twice, cut off anywhere.

use shipway_aws::{store::Place, testing};
use shipway_domain::message::TeardownInput;

use super::*;

const TEARDOWN: &str = "by-hand-teardown";

/// A person's execution of the machine `teardown`.
fn tears(name: &str, started: i64, confirm: &str) -> (Execution, Value) {
    let execution = Execution { arn: format!("arn:teardown:{name}"), name: name.to_owned(), started_at: at(started) };
    let input = TeardownInput { app: app(), environment: prod(), confirm: confirm.to_owned() };
    (execution, serde_json::to_value(input).unwrap())
}

fn manifest(version: &'static str) -> Artifact {
    object("apps/hello/prod/shipway.yaml", version)
}

/// An intake bucket that nobody asks.
struct Nothing;

impl Calls for Nothing {
    async fn manifest(&self, key: &str, _: &str) -> Result<Fetched, AwsError> {
        panic!("a teardown reads {key}")
    }

    async fn fail_task(&self, token: &str, _: Failure, _: &str) -> Result<(), AwsError> {
        panic!("nobody waits by {token}")
    }

    async fn announce(&self, _: &ReleaseRecord, _: Happening<'_>) {}

    fn executions(&self) -> &str {
        panic!("no execution stopped")
    }

    async fn write(&self, letter: &Letter) -> Result<(), AwsError> {
        panic!("nobody is told {}", letter.subject)
    }
}

fn kept() -> Vec<Kept> {
    vec![Kept { what: "the database main".to_owned(), in_network: true }]
}

impl Fake {
    async fn tear(&self, (execution, input): (Execution, Value)) -> Begun {
        match self.retried(RecordRequest::BeginTeardown { execution, input }).await {
            Answer::Begun(begun) => begun,
            other => panic!("{other:?}"),
        }
    }

    /// The machine: begins, waiting as often as it is told to.
    async fn tears_down(&self) -> Run {
        for _ in 0..5 {
            match self.tear(tears(TEARDOWN, 300, "hello/prod")).await {
                Begun::Go { run, around } if around == Around::default() => return run,
                Begun::Wait { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("never begun");
    }

    async fn gone(&self, run: &Run) -> Ended {
        let result = verdict(Outcome::Succeeded);
        match self.retried(RecordRequest::End { run: run.clone(), result, kept: kept() }).await {
            Answer::Ended(ended) => ended,
            other => panic!("{other:?}"),
        }
    }

    async fn environment(&self) -> EnvironmentRecord {
        self.aside.environment(&app(), &prod()).await.unwrap().unwrap_or_default()
    }

    /// The manifest's upload, as start-release takes it in.
    async fn uploaded(&self, version: &'static str, second: i64) -> Asks {
        let name = format!("{EVENT_PREFIX}{version}");
        let state = self.state("platform").await;
        let order = Order { at: at(second), sequencer: Some(format!("{second:04X}")) };
        match take_in(&state, &manifest(version), &order, &name, at(second)) {
            Intake::Want(wanted) => {
                let new = ComponentState { desired: Some(wanted), ..state.clone() };
                self.aside.put_component(&app(), &prod(), &component("platform"), &state, &new).await.unwrap();
            }
            other => panic!("{other:?}"),
        }
        asks(&name, second, "platform", manifest(version))
    }
}

#[tokio::test]
async fn an_environment_is_torn_down_and_nothing_of_it_is_known_but_its_story_and_what_was_kept() {
    Box::pin(cut_everywhere(async |cut| {
        let fake = Fake::with_platform().await;
        fake.delivered(1).await;
        let rollout = fake.go(&event(1)).await;
        fake.changes(&rollout).await;
        fake.end(&rollout, verdict(Outcome::Succeeded)).await;
        assert_eq!(fake.aside.environments().await.unwrap(), [Place { app: app(), environment: prod() }]);
        fake.line.cut(cut);
        let run = fake.tears_down().await;
        assert!(fake.environment().await.teardown.unwrap().torn_down_at.is_none(), "{cut:?}");
        assert!(fake.environment().await.applied.is_some(), "{cut:?}: the functions still read what there is");
        fake.changes(&run).await;
        let ended = fake.gone(&run).await;
        assert_eq!((ended.outcome, ended.live.clone()), (Outcome::Succeeded, None), "{cut:?}");
        assert_eq!(ended.reason, "so it went; kept: the database main");
        assert_eq!(fake.gone(&run).await, ended, "{cut:?}: the second end answers as the first");
        let calls = fake.line.calls();
        fake.line.cut(None);
        let record = fake.environment().await;
        assert_eq!((record.planned, record.applied, record.network), (None, None, None), "{cut:?}");
        let teardown = record.teardown.unwrap();
        assert!(teardown.torn_down_at.unwrap() > teardown.since && teardown.release == run.release, "{cut:?}");
        assert_eq!(teardown.kept, ["the database main"]);
        let repository: RepositoryName = "hello-api".parse().unwrap();
        assert_eq!(fake.aside.routes(&repository).await.unwrap(), [], "{cut:?}");
        assert_eq!(fake.aside.environments().await.unwrap(), [], "{cut:?}");
        assert_eq!(fake.state("service/api").await, ComponentState::default(), "{cut:?}");
        let platform = fake.state("platform").await;
        assert_eq!((platform.claim, platform.live), (None, None), "{cut:?}");
        assert_eq!(fake.records().await.len(), 2, "{cut:?}: the rollout's and the teardown's story");
        let late = fake.refused(&asks("by-hand", 400, "service/api", image(1))).await;
        assert!(late.reason.starts_with("hello/prod was torn down at "), "{cut:?}: {}", late.reason);
        calls
    }))
    .await;
}

#[tokio::test]
async fn what_is_typed_must_be_the_environments_name_and_the_environment_must_be_there() {
    let to_type = r#"type "confirm": "hello/prod""#;
    for (confirm, reason) in [("hello/dev", to_type), ("", to_type), ("yes", r#"it says "yes""#)] {
        Box::pin(cut_everywhere(async |cut| {
            let fake = Fake::with_platform().await;
            let before = (fake.environment().await, fake.state("platform").await);
            fake.line.cut(cut);
            let Begun::End(ended) = fake.tear(tears(TEARDOWN, 300, confirm)).await else { panic!("{cut:?}") };
            assert_eq!(ended.outcome, Outcome::Rejected);
            assert!(ended.reason.contains(reason), "{}", ended.reason);
            assert_eq!((fake.environment().await, fake.state("platform").await), before, "{cut:?}");
            assert_eq!(fake.records().await.len(), 1, "{cut:?}");
            fake.line.calls()
        }))
        .await;
    }
    let nowhere = Fake::new();
    let Begun::End(ended) = nowhere.tear(tears(TEARDOWN, 300, "hello/prod")).await else { panic!() };
    assert_eq!(ended.outcome, Outcome::Rejected);
    assert_eq!(ended.reason, "hello/prod was never provisioned; is it spelt right?");
    let (execution, _) = tears(TEARDOWN, 300, "");
    let input = json!({"app": "hello", "environment": "prod"});
    let refused = nowhere.ask(RecordRequest::BeginTeardown { execution, input }).await.unwrap_err();
    assert_eq!(refused.failure(), Failure::RejectedInput);
    assert!(refused.to_string().contains("\"confirm\": \"<app>/<environment>\""), "{refused}");
}

#[tokio::test]
async fn a_rollout_that_can_be_stopped_is_and_no_other_begins_until_a_platform_stands_again() {
    Box::pin(cut_everywhere(async |cut| {
        let fake = Fake::with_platform().await;
        fake.delivered(1).await;
        let rollout = fake.go(&event(1)).await;
        fake.line.cut(cut);
        let run = fake.tears_down().await;
        assert_eq!(
            fake.aside.renew(&rollout, at(400)).await.unwrap_err().failure(),
            Failure::Superseded,
            "{cut:?}: the rollout writes nothing more"
        );
        let refused = fake.refused(&asks("by-hand", 400, "service/worker", image(1))).await;
        assert_eq!(refused.outcome, Outcome::Rejected);
        assert!(refused.reason.contains("is being torn down since"), "{}", refused.reason);
        let ended = fake.end(&run, Ending::Error { error: "Denied".to_owned(), cause: "no".to_owned() }).await;
        assert_eq!(ended.outcome, Outcome::Failed, "{cut:?}");
        assert!(ended.reason.contains("takes no release"), "{}", ended.reason);
        let calls = fake.line.calls();
        fake.line.cut(None);
        assert_eq!(fake.refused(&asks("again", 500, "service/api", image(1))).await.outcome, Outcome::Rejected);
        let platform = fake.go(&asks("by-hand", 600, "platform", manifest("good"))).await;
        fake.end(&platform, verdict(Outcome::Succeeded)).await;
        assert_eq!(fake.environment().await.teardown, None, "{cut:?}");
        fake.go(&asks("at-last", 700, "service/api", image(1))).await;
        calls
    }))
    .await;
}

#[tokio::test]
async fn a_rollout_whose_migration_runs_is_waited_for() {
    let fake = Fake::with_platform().await;
    fake.delivered(1).await;
    let rollout = fake.go(&event(1)).await;
    fake.aside.commit(&rollout, at(100)).await.unwrap();
    for _ in 0..2 {
        let Begun::Wait { note, .. } = fake.tear(tears(TEARDOWN, 300, "hello/prod")).await else { panic!() };
        assert!(note.contains(rollout.release.as_str()), "{note}");
    }
    fake.aside.renew(&rollout, at(110)).await.unwrap();
    fake.end(&rollout, verdict(Outcome::Succeeded)).await;
    assert!(matches!(fake.tear(tears(TEARDOWN, 300, "hello/prod")).await, Begun::Go { .. }));
}

#[tokio::test]
async fn a_rollout_that_begins_while_the_teardown_does_is_either_stopped_or_refused() {
    let fake = Fake::with_platform().await;
    let (aside, (execution, input)) = (fake.aside.clone(), tears(TEARDOWN, 300, "hello/prod"));
    // After it has read that nothing is torn down, and before it writes.
    fake.line.meanwhile(async move {
        let request = serde_json::to_value(RecordRequest::BeginTeardown { execution, input }).unwrap();
        let begun = handle(&aside, &Nothing, request, at(300)).await.unwrap();
        assert!(matches!(begun, Answer::Begun(Begun::Go { .. })), "{begun:?}");
    });
    let refused = fake.refused(&asks("by-hand", 400, "service/api", image(1))).await;
    assert_eq!(refused.outcome, Outcome::Rejected);
    assert_eq!(fake.state("service/api").await, ComponentState::default());
}

#[tokio::test]
async fn provisioning_that_runs_is_stopped_and_its_claim_comes_to_rest_first() {
    let fake = Fake::with_platform().await;
    let provisioning = fake.go(&asks("by-hand", 200, "platform", manifest("good"))).await;
    let first = fake.tear(tears(TEARDOWN, 300, "hello/prod")).await;
    assert!(matches!(&first, Begun::Wait { note, .. } if note.contains("come to rest")), "{first:?}");
    assert_eq!(fake.aside.renew(&provisioning, at(310)).await.unwrap_err().failure(), Failure::Superseded);
    assert!(matches!(fake.tear(tears(TEARDOWN, 300, "hello/prod")).await, Begun::Go { .. }));
}

#[tokio::test]
async fn provisioning_that_never_came_to_its_end_can_be_torn_down() {
    let fake = Fake::new();
    let run = fake.go(&asks("by-hand", 200, "platform", manifest("good"))).await;
    fake.end(&run, Ending::Error { error: "Quota".to_owned(), cause: "no".to_owned() }).await;
    let run = fake.tears_down().await;
    fake.gone(&run).await;
    assert_eq!(fake.environment().await.planned, None);
}

#[tokio::test]
async fn a_manifest_that_is_uploaded_meanwhile_queues_and_provisions_from_nothing() {
    Box::pin(cut_everywhere(async |cut| {
        let fake = Fake::with_platform().await;
        let run = fake.tears_down().await;
        fake.line.cut(cut);
        let next = fake.uploaded("smaller", 500).await;
        assert!(matches!(fake.begin(&next).await, Begun::Wait { .. }), "{cut:?}");
        assert!(
            matches!(fake.tear(tears(TEARDOWN, 300, "hello/prod")).await, Begun::Go { run: again, .. } if again == run),
            "{cut:?}: what has begun is not superseded any more"
        );
        fake.gone(&run).await;
        let provisioning = fake.go(&next).await;
        let calls = fake.line.calls();
        fake.line.cut(None);
        let record = fake.environment().await;
        assert!(record.planned.is_some() && record.applied.is_none(), "{cut:?}");
        fake.changes(&provisioning).await;
        fake.end(&provisioning, verdict(Outcome::Succeeded)).await;
        assert_eq!(fake.environment().await.teardown, None, "{cut:?}");
        fake.go(&asks("at-last", 900, "service/api", image(1))).await;
        calls
    }))
    .await;
}

#[tokio::test]
async fn a_manifest_that_is_newer_than_a_teardown_that_still_waits_takes_its_place() {
    let fake = Fake::with_platform().await;
    fake.delivered(1).await;
    let rollout = fake.go(&event(1)).await;
    fake.aside.commit(&rollout, at(100)).await.unwrap();
    assert!(matches!(fake.tear(tears(TEARDOWN, 300, "hello/prod")).await, Begun::Wait { .. }));
    let next = fake.uploaded("smaller", 500).await;
    let Begun::End(ended) = fake.tear(tears(TEARDOWN, 300, "hello/prod")).await else { panic!() };
    assert_eq!(ended.outcome, Outcome::Superseded);
    let provisioning = fake.go(&next).await;
    fake.end(&provisioning, verdict(Outcome::Succeeded)).await;
    assert_eq!(fake.environment().await.teardown, None);
}

#[tokio::test]
async fn a_second_teardown_queues_and_finds_nothing_to_do() {
    let fake = Fake::with_platform().await;
    let run = fake.tears_down().await;
    let second = || tears("second", 301, "hello/prod");
    assert!(matches!(fake.tear(second()).await, Begun::Wait { .. }));
    fake.gone(&run).await;
    let Begun::End(ended) = fake.tear(second()).await else { panic!() };
    assert_eq!(ended.outcome, Outcome::Unchanged);
    assert!(ended.reason.contains("was torn down at"), "{}", ended.reason);
}

#[tokio::test]
async fn a_teardown_that_failed_half_way_is_finished_by_a_new_execution() {
    let fake = Fake::with_platform().await;
    let first = fake.tears_down().await;
    fake.end(&first, Ending::Error { error: "Timeout".to_owned(), cause: "slow".to_owned() }).await;
    let Begun::Go { run, .. } = fake.tear(tears("second", 600, "hello/prod")).await else { panic!() };
    assert_ne!(run.release, first.release);
    assert_eq!(fake.gone(&run).await.outcome, Outcome::Unchanged, "no function changed anything");
    assert!(fake.environment().await.teardown.unwrap().torn_down_at.is_some());
}

#[tokio::test]
async fn many_previews_are_forgotten_too() {
    let fake = Fake::with_platform().await;
    for number in 0..120 {
        let preview = component(&format!("preview/web/pr-{number}"));
        let (old, new) = (ComponentState::default(), ComponentState { fence: 1, ..ComponentState::default() });
        fake.aside.put_component(&app(), &prod(), &preview, &old, &new).await.unwrap();
    }
    let run = fake.tears_down().await;
    fake.gone(&run).await;
    assert_eq!(fake.aside.components(&app(), &prod()).await.unwrap(), []);
}

#[tokio::test]
async fn a_teardown_that_lost_its_claim_forgets_nothing() {
    let fake = Fake::with_platform().await;
    fake.delivered(1).await;
    let run = fake.tears_down().await;
    let other = Run { fence: 99, release: ReleaseId::of_execution("arn:other", at(1)), ..run.clone() };
    testing::begin(&fake.aside, &other).await;
    assert_eq!(fake.gone(&run).await.outcome, Outcome::Superseded);
    assert!(fake.environment().await.applied.is_some());
    assert!(fake.state("service/api").await.desired.is_some());
}

#[tokio::test]
async fn only_the_machine_for_it_takes_a_platform_down() {
    let fake = Fake::with_platform().await;
    let ended = fake.refused(&asks("by-hand", 300, "platform", Artifact::Nothing)).await;
    assert_eq!(ended.reason, "the machine `teardown` takes a platform down, not this one");
    let ended = fake.refused(&asks("by-hand", 300, "service/api", Artifact::Nothing)).await;
    assert_eq!(ended.reason, "nothing is not what service/api is made of");
}

/// The live manifest again, to put right what drifted: start-release then refreshes the services.
#[tokio::test]
async fn a_repair_of_the_live_manifest_is_let_go_on() {
    let fake = Fake::new();
    let first = fake.go(&asks("first", 100, "platform", manifest("good"))).await;
    fake.changes(&first).await;
    fake.end(&first, verdict(Outcome::Succeeded)).await;
    let mut repair = asks("repair", 200, "platform", manifest("good"));
    repair.input.repair = true;
    let run = fake.go(&repair).await;
    assert!(run.repair);
    let ended = fake.end(&run, verdict(Outcome::Succeeded)).await;
    assert_eq!(ended.outcome, Outcome::Unchanged, "nothing had drifted");
}
