//! Releases that wait for a person: what is asked and answered, and who is waited for in vain.

use super::*;

const GATED: &str = "version: 1
app: hello
services:
  api: {image: {repository: hello-api}, approval: required, approval_within: 2h}
  worker: {image: {repository: hello-api}, approval: required}
  free: {image: {repository: hello-api}}
environments: {prod: {}}
";

impl Fake {
    async fn gated() -> Fake {
        let fake = Fake::new();
        provision(&fake.aside, &prod(), GATED, None).await;
        fake
    }

    async fn seconds(&self, asks: &Asks) -> u32 {
        match self.begin(asks).await {
            Begun::Go { around, .. } => around.approval,
            other => panic!("{other:?}"),
        }
    }

    async fn note(&self, request: RecordRequest) -> String {
        match self.retried(request).await {
            Answer::Noted(summary) => summary.note,
            other => panic!("{other:?}"),
        }
    }

    async fn asks_approval(&self, run: &Run, token: &str) -> String {
        self.note(RecordRequest::AskApproval { run: run.clone(), token: token.to_owned(), seconds: 7200 }).await
    }

    async fn approved(&self, run: &Run, answer: Value) -> String {
        self.note(RecordRequest::Approved { run: run.clone(), answer }).await
    }

    async fn steps(&self, run: &Run) -> Vec<String> {
        self.record(&run.release).await.steps.into_iter().map(|step| step.what).collect()
    }
}

#[tokio::test]
async fn a_person_is_asked_where_the_manifest_says_so_and_for_as_long_but_not_for_what_was_live_before() {
    let fake = Fake::gated().await;
    for (name, seconds) in [("service/worker", 86_400), ("service/free", 0)] {
        assert_eq!(fake.seconds(&asks(name, 1, name, image(1))).await, seconds, "{name}");
    }
    assert_eq!(fake.seconds(&asks("first", 1, "service/api", image(1))).await, 7200);
    let run = fake.go(&asks("first", 1, "service/api", image(1))).await;
    fake.changes(&run).await;
    fake.end(&run, verdict(Outcome::Succeeded)).await;
    assert_eq!(fake.seconds(&asks("second", 300, "service/api", image(2))).await, 7200);
    assert_eq!(fake.seconds(&asks("back", 400, "service/api", image(1))).await, 0, "it was live before");
}

#[tokio::test]
async fn wherever_it_is_cut_off_it_is_asked_once_and_approved_once() {
    cut_everywhere(async |cut| {
        let fake = Fake::gated().await;
        let run = fake.go(&asks("first", 1, "service/api", image(1))).await;
        fake.line.cut(cut);
        let asked = fake.asks_approval(&run, "token").await;
        assert!(asked.starts_with("waits for approval until 2027-01-15 "), "{asked}");
        let record = fake.record(&run.release).await;
        assert_eq!(record.waits_for().unwrap().token, "token", "{cut:?}");
        assert_eq!(fake.approved(&run, json!({"by": "Ann"})).await, "approved by Ann");
        let record = fake.record(&run.release).await;
        assert!(record.waits_for().is_none(), "{cut:?}");
        assert_eq!(record.approval.unwrap().approved_by.as_deref(), Some("Ann"), "{cut:?}");
        let steps = fake.steps(&run).await;
        assert!(steps.len() == 2 && steps[0].starts_with("waits for approval"), "{cut:?}: {steps:?}");
        assert_eq!(steps[1], "approved by Ann", "{cut:?}");
        fake.line.calls()
    })
    .await;
}

#[tokio::test]
async fn of_two_tokens_the_newer_counts_and_the_story_says_once_that_it_waits() {
    let fake = Fake::gated().await;
    let run = fake.go(&asks("first", 1, "service/api", image(1))).await;
    fake.asks_approval(&run, "old").await;
    fake.asks_approval(&run, "new").await;
    assert_eq!(fake.record(&run.release).await.waits_for().unwrap().token, "new");
    assert_eq!(fake.steps(&run).await.len(), 1);
    assert_eq!(fake.told.take(), ["service/api started", "service/api waiting_approval"], "people are asked once");
}

#[tokio::test]
async fn refused_it_is_rejected_with_who_and_why() {
    let fake = Fake::gated().await;
    let run = fake.go(&asks("first", 1, "service/api", image(1))).await;
    fake.asks_approval(&run, "token").await;
    let cause = shipway_domain::approval::refusal("Ann", Some("not on a Friday"));
    let ended = fake.end(&run, Ending::Error { error: "Rejected.Approval".to_owned(), cause }).await;
    assert_eq!(ended.outcome, Outcome::Rejected);
    assert_eq!(ended.reason, "Rejected.Approval: refused by Ann: not on a Friday");
    assert_eq!(fake.record(&run.release).await.waits_for(), None);
}

/// Its lease is over long before: then too.
#[tokio::test]
async fn whoever_is_taken_over_while_it_waits_is_told_so_and_ends_superseded() {
    for later in [0, 2 * LEASE.as_secs()] {
        let fake = Fake::gated().await;
        fake.delivered(1).await;
        let waits = fake.go(&event(1)).await;
        fake.asks_approval(&waits, "token").await;
        fake.delivered(2).await;
        fake.second.set(fake.second.get() + later);
        let newer = fake.go(&event(2)).await;
        assert_eq!(fake.failed.take(), [("token".to_owned(), Failure::Superseded)]);
        let late = fake.ask(RecordRequest::Approved { run: waits.clone(), answer: json!({}) }).await;
        assert_eq!(late.unwrap_err().failure(), Failure::Superseded, "approved too late, it does not go on");
        assert_eq!(fake.end(&waits, told("Superseded")).await.outcome, Outcome::Superseded);
        assert_eq!(fake.state("service/api").await.claim.unwrap().release, newer.release);
    }
}

#[tokio::test]
async fn the_newer_one_begins_whatever_becomes_of_telling_the_older() {
    cut_everywhere(async |cut| {
        let fake = Fake::gated().await;
        fake.delivered(1).await;
        let waits = fake.go(&event(1)).await;
        fake.asks_approval(&waits, "token").await;
        fake.delivered(2).await;
        fake.line.cut(cut);
        let newer = fake.go(&event(2)).await;
        assert!(fake.failed.take().len() <= 1, "{cut:?}");
        let ended = fake.end(&newer, verdict(Outcome::Succeeded)).await;
        assert_eq!((ended.outcome, newer.fence), (Outcome::Unchanged, 2), "{cut:?}");
        assert_eq!(fake.end(&waits, told("Rejected.Approval")).await.outcome, Outcome::Superseded, "{cut:?}");
        fake.line.calls()
    })
    .await;
}

fn told(error: &str) -> Ending {
    Ending::Error { error: error.to_owned(), cause: "it was told so".to_owned() }
}

#[tokio::test]
async fn one_that_is_taken_over_is_left_alone_where_it_does_not_wait() {
    let fake = Fake::gated().await;
    for number in [1, 2, 3] {
        fake.delivered(number).await;
        let run = fake.go(&event(number)).await;
        if number == 2 {
            fake.asks_approval(&run, "token").await;
            fake.approved(&run, json!({"by": "Ann"})).await;
        }
    }
    assert!(fake.failed.take().is_empty());
}

#[tokio::test]
async fn who_waits_makes_way_for_a_teardown_and_is_told_so() {
    let fake = Fake::gated().await;
    fake.delivered(1).await;
    let waits = fake.go(&event(1)).await;
    fake.asks_approval(&waits, "token").await;
    let input = json!({"app": "hello", "environment": "prod", "confirm": "hello/prod"});
    let execution = Execution { arn: "arn:teardown".to_owned(), name: "teardown".to_owned(), started_at: at(500) };
    let begun = fake.retried(RecordRequest::BeginTeardown { execution, input }).await;
    assert!(matches!(begun, Answer::Begun(Begun::Wait { .. })), "{begun:?}");
    assert_eq!(fake.failed.take(), [("token".to_owned(), Failure::Superseded)]);
    assert_eq!(fake.end(&waits, told("Superseded")).await.outcome, Outcome::Superseded);
}
