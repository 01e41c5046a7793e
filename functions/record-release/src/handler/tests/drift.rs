//! Comparisons that are reported: twice, beside releases, cut off anywhere.

use shipway_domain::drift::DriftStatus;

use super::*;

fn compares(number: u8, second: i64, differences: usize) -> RecordRequest {
    let difference = |n| Difference { of: format!("stack {n}"), what: "is gone".to_owned() };
    let found = DriftFound { differences: (0..differences).map(difference).collect() };
    let execution =
        Execution { arn: format!("arn:drift:{number}"), name: format!("drift-{number}"), started_at: at(second) };
    let input = json!({"app": app(), "environment": prod()});
    RecordRequest::Drift { execution, input, found: vec![DriftFound::default(), found, DriftFound::default()] }
}

impl Fake {
    async fn compare(&self, request: RecordRequest) -> Compared {
        match self.retried(request).await {
            Answer::Compared(compared) => compared,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_differs_is_written_down_and_told_once_wherever_it_is_cut_off() {
    cut_everywhere(async |cut| {
        let fake = Fake::with_platform().await;
        fake.line.cut(cut);
        let first = fake.compare(compares(1, 100, 0)).await;
        let second = fake.compare(compares(2, 101, 2)).await;
        let third = fake.compare(compares(3, 102, 1)).await;
        assert_eq!([first.notify, second.notify, third.notify], [false, true, false], "{cut:?}");
        assert_eq!((first.status, second.status), (DriftStatus::InSync, DriftStatus::Drifted), "{cut:?}");
        assert_eq!(second.note, "stack 0: is gone; stack 1: is gone");
        let report = fake.aside.drift(&app(), &prod()).await.unwrap().unwrap();
        assert_eq!((report.execution.as_str(), report.differences.len()), ("arn:drift:3", 1), "{cut:?}");
        fake.line.calls()
    })
    .await;
}

#[tokio::test]
async fn beside_a_release_of_the_platform_nothing_is_told_and_no_claim_is_touched() {
    let fake = Fake::with_platform().await;
    fake.go(&asks("by-hand", 100, "platform", object("apps/hello/prod/shipway.yaml", "good"))).await;
    let before = fake.state("platform").await;
    let compared = fake.compare(compares(1, 100, 2)).await;
    assert_eq!((compared.status, compared.notify), (DriftStatus::Deploying, false));
    assert_eq!(fake.state("platform").await, before);
    assert_eq!(fake.records().await.len(), 1, "a comparison is no release");
}

#[tokio::test]
async fn a_comparison_that_ends_after_a_newer_one_does_not_hide_it() {
    let fake = Fake::with_platform().await;
    let late = compares(1, 100, 2);
    let newer = fake.aside.clone();
    fake.line.meanwhile(async move {
        let report = shipway_domain::drift::DriftReport {
            at: at(500),
            execution: "arn:drift:2".to_owned(),
            status: DriftStatus::InSync,
            notify: false,
            differences: Vec::new(),
            more: 0,
        };
        newer.set_drift(&app(), &prod(), None, &report).await.unwrap();
    });
    let compared = fake.compare(late).await;
    assert_eq!((compared.status, compared.notify), (DriftStatus::InSync, false));
    assert_eq!(fake.aside.drift(&app(), &prod()).await.unwrap().unwrap().execution, "arn:drift:2");
}
