//! What CloudWatch and Step Functions say of Shipway itself: told to people, or not.

use super::*;

fn alarm(before: &str, now: &str) -> Value {
    json!({
        "source": "aws.cloudwatch",
        "alarmArn": "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:shipway-dead-letters",
        "accountId": "123456789012", "time": "2026-11-21T12:36:15.490+0000", "region": "eu-west-1",
        "alarmData": {
            "alarmName": "shipway-dead-letters",
            "state": {"value": now, "reason": "so it is", "timestamp": "2026-11-21T12:36:15.490+0000"},
            "previousState": {"value": before, "reason": "so it was"},
            "configuration": {"description": "what to do", "metrics": []}
        }
    })
}

/// The event of an execution of the machine `rollout` that ended so.
fn stopped(asked: &Asks, status: &str) -> Value {
    json!({
        "version": "0", "id": "1", "detail-type": "Step Functions Execution Status Change", "source": "aws.states",
        "account": "123456789012", "region": "eu-west-1", "time": "2026-11-21T12:36:15Z", "resources": [asked.execution.arn],
        "detail": {
            "executionArn": asked.execution.arn, "name": asked.execution.name, "status": status,
            "startDate": asked.execution.started_at.as_millisecond(), "stopDate": 1_800_000_500_000_i64,
            "input": serde_json::to_string(&asked.input).unwrap(), "output": null, "error": null, "cause": null
        }
    })
}

/// The first image's, as an execution of this installation.
fn rollout() -> Asks {
    let asked = event(1);
    let arn = format!("{EXECUTIONS}rollout:{}", asked.execution.name);
    Asks { execution: Execution { arn, ..asked.execution }, input: asked.input }
}

#[tokio::test]
async fn an_alarm_reaches_people_and_is_given_back_to_lambda_where_it_cannot() {
    cut_everywhere(async |cut| {
        let fake = Fake::new();
        fake.line.cut(cut);
        // Lambda tries again.
        while let Err(error) = fake.hear(alarm("OK", "ALARM")).await {
            assert_eq!(error.failure(), Failure::Transient, "{cut:?}");
        }
        assert!(!fake.letters.borrow().is_empty(), "{cut:?}");
        assert_eq!(fake.letters.borrow()[0].subject, "Shipway: alarm shipway-dead-letters");
        fake.line.calls()
    })
    .await;
    let fake = Fake::new();
    fake.hear(alarm("INSUFFICIENT_DATA", "OK")).await.unwrap();
    assert_eq!(fake.letters.borrow().len(), 0);
    fake.hear(alarm("ALARM", "OK")).await.unwrap();
    assert_eq!(fake.letters.borrow()[0].subject, "Shipway: shipway-dead-letters is off again");
}

#[tokio::test]
async fn an_execution_that_was_stopped_is_told_and_one_whose_end_is_written_down_is_not() {
    let fake = Fake::with_platform().await;
    fake.delivered(1).await;
    let asked = rollout();
    let run = fake.go(&asked).await;
    fake.hear(stopped(&asked, "ABORTED")).await.unwrap();
    let told = fake.letters.borrow().clone();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].subject, "Shipway: hello/prod rollout was aborted");
    assert!(told[0].text.contains(run.release.as_str()), "{}", told[0].text);
    fake.end(&run, verdict(Outcome::Failed)).await;
    fake.hear(stopped(&asked, "FAILED")).await.unwrap();
    assert_eq!(fake.letters.borrow().len(), 1, "its machine told it");
}

#[tokio::test]
async fn what_no_one_of_ours_sends_is_refused_by_name_or_told_to_nobody() {
    let fake = Fake::new();
    for message in
        [json!({}), json!(1), json!({"alarmData": 1}), json!({"detail": {"status": "FAILED"}}), json!({"action": "x"})]
    {
        assert_eq!(fake.hear(message.clone()).await.unwrap_err().failure(), Failure::RejectedInput, "{message}");
    }
    let mut foreign = alarm("OK", "ALARM");
    foreign["alarmData"]["alarmName"] = "somebody-elses".into();
    fake.hear(foreign).await.unwrap();
    let elsewhere = event(1);
    fake.hear(stopped(&elsewhere, "FAILED")).await.unwrap();
    assert_eq!(fake.letters.borrow().len(), 0);
}
