//! Shipway itself: its alarms, its upgrades, its table.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use shipway_domain::name::Component;
use shipway_tests::{Place, Shipway, ask::Aws};

use super::{Ear, RELEASED, good, manifest, provisioned_with, push_event, service, with_shipway, without_migration};

/// What the topic says of these, each with its subject, until so many came.
async fn letters(ear: &Ear<'_>, of: &str, count: usize) -> Result<Vec<(String, String)>> {
    let (mut found, started) = (Vec::new(), Instant::now());
    while found.len() < count && started.elapsed() < RELEASED {
        for note in ear.heard(1).await? {
            let [subject, text] = ["Subject", "Message"].map(|key| note[key].as_str().unwrap_or_default().to_owned());
            if subject.contains(of) {
                found.push((subject, text));
            }
        }
    }
    ensure!(found.len() == count, "{count} letters of {of} were expected: {found:?}");
    Ok(found)
}

#[test]
fn a_dead_letter_is_told_to_people_sent_again_as_the_page_says_and_told_to_be_gone() {
    with_shipway(async |shipway| {
        let aws = Aws::of(&shipway.cloud)?;
        let (people, arn) = Ear::new(&aws, "alarmed-people")?;
        aws.ask("sns", "subscribe", json!({"TopicArn": shipway.output("Topic")?, "Protocol": "sqs", "Endpoint": arn}))?;
        let queue = shipway.output("DeadLetters")?;
        let event = push_event(shipway, "nobodys", &format!("sha256:{}", "0".repeat(64)), "v1");
        aws.ask("sqs", "send_message", json!({"QueueUrl": queue, "MessageBody": event.to_string()}))?;
        let told = letters(&people, "dead-letters", 1).await?;
        let (subject, text) = &told[0];
        assert_eq!(subject, "Shipway: alarm shipway-dead-letters");
        ensure!(text.starts_with("shipway-dead-letters is on. Events were given up"), "{text}");
        ensure!(text.contains("docs/operating.md#dead-letters") && text.contains("Threshold Crossed"), "{text}");
        ensure!(text.ends_with("#alarmsV2:alarm/shipway-dead-letters"), "{text}");

        let received = aws.list("sqs", "receive_message", json!({"QueueUrl": queue}), "Messages")?;
        let letter = received.first().context("the dead letter is gone")?;
        let again = json!({"FunctionName": format!("{}:live", shipway.output("StartReleaseFunction")?), "Payload": letter["Body"]});
        let answer = aws.ask("lambda", "invoke", again)?;
        ensure!(answer.get("FunctionError").is_none(), "{answer}");
        ensure!(answer["Payload"].as_str().is_some_and(|text| text.contains("no service takes the tag")), "{answer}");
        aws.ask("sqs", "delete_message", json!({"QueueUrl": queue, "ReceiptHandle": letter["ReceiptHandle"]}))?;
        let told = letters(&people, "dead-letters", 1).await?;
        assert_eq!(told[0].0, "Shipway: shipway-dead-letters is off again");

        for alarm in ["sweep-missing", "claim-held"] {
            for (state, expected) in [("OK", None), ("ALARM", Some("alarm shipway-")), ("OK", Some("is off again"))] {
                let turn = json!({"AlarmName": format!("shipway-{alarm}"), "StateValue": state, "StateReason": "a test says so"});
                aws.ask("cloudwatch", "set_alarm_state", turn)?;
                if let Some(expected) = expected {
                    let told = letters(&people, alarm, 1).await?;
                    ensure!(told[0].0.contains(expected), "{told:?}");
                }
            }
        }
        Ok(())
    });
}

#[test]
fn an_execution_that_somebody_stops_is_told_once_and_run_again_it_ends_what_was_left_open() {
    with_shipway(async |shipway| {
        let text = without_migration(&manifest("stopped"));
        let place = provisioned_with(shipway, "stopped", &text).await?;
        let aws = Aws::of(&shipway.cloud)?;
        let (people, arn) = Ear::new(&aws, "stopped-people")?;
        aws.ask("sns", "subscribe", json!({"TopicArn": shipway.output("Topic")?, "Protocol": "sqs", "Endpoint": arn}))?;
        // It never gets healthy, so it is under way until somebody stops it.
        let image = good("1").await?.env("HEALTH_STATUS", "503");
        let artifact = shipway.push("stopped-api", "v1", &image).await?;
        let open = under_way(shipway, &place, &service(), &artifact).await?;
        let machine = shipway.machine(&service())?.replace(":stateMachine:", ":execution:");
        let execution = format!("{machine}:{}", open.execution);
        aws.ask("stepfunctions", "stop_execution", json!({"executionArn": execution}))?;
        let told = letters(&people, "stopped/dev rollout", 1).await?;
        let (subject, text) = &told[0];
        assert_eq!(subject, "Shipway: stopped/dev rollout was aborted");
        ensure!(text.contains(open.release.as_str()), "{text}");
        ensure!(text.contains("docs/operating.md#execution-stopped") && text.ends_with(&execution), "{text}");

        let next = shipway.push("stopped-api", "v2", &good("2").await?).await?;
        let live = shipway.ended(&place, &service(), &next, RELEASED).await?;
        ensure!(live.outcome.is_some_and(|outcome| outcome.is_live()), "{}", shipway.story(&place).await?);
        let state = shipway.store.component(&place.app, &place.environment, &service()).await?;
        assert_eq!(state.claim, None, "nobody holds it any more");
        Ok(())
    });
}

/// The release of this artifact, once it has taken a step.
async fn under_way(
    shipway: &Shipway,
    place: &Place,
    component: &Component,
    artifact: &shipway_domain::release::Artifact,
) -> Result<shipway_domain::release::ReleaseRecord> {
    let started = Instant::now();
    loop {
        let releases = shipway.releases_of(place, component, artifact).await?;
        if let Some(release) = releases.into_iter().find(|release| !release.steps.is_empty()) {
            ensure!(release.outcome.is_none(), "it ended: {}", shipway.story(place).await?);
            return Ok(release);
        }
        ensure!(started.elapsed() < RELEASED, "{}", shipway.story(place).await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
