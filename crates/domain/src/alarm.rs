//! What people are told of Shipway itself: an alarm of CloudWatch that goes on or off, an execution that stopped before its end was
//! written down.
//!
//! Whoever may invoke the function can send such an event, so only what names this installation is told, and what it says of itself is
//! cut to a line.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    console,
    message::DriftInput,
    name::ReleaseId,
    notice::line,
    release::{Claim, ComponentState, LEASE, ReleaseRecord},
};

/// Where each alarm's entry is.
const RUNBOOK: &str = "docs/operating.md";

/// How much of an alarm's description is told. CloudWatch takes 1,024 characters.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html>
const MOST_DESCRIPTION: usize = 1024;

/// How long after its lease a claim is taken for one that nobody renews any more. A release that goes on renews it in each pass, and
/// no pause of a machine is longer than a lease; this is for passes that are tried again.
const HELD_TOO_LONG: SignedDuration = SignedDuration::from_hours(1);

/// The claim on a component that ran out so long ago that whoever held it cannot be going on, unless its release waits for a person's
/// approval ([`waits_rightly`]).
pub fn held_too_long(state: &ComponentState, now: Timestamp) -> Option<&Claim> {
    state.claim.as_ref().filter(|claim| now.duration_since(claim.until) > HELD_TOO_LONG)
}

/// Whether the release of a claim that ran out still may: it waits for an approval, which no pass renews.
pub fn waits_rightly(record: &ReleaseRecord, now: Timestamp) -> bool {
    record.waits_for().is_some_and(|asked| now.duration_since(asked.until) <= HELD_TOO_LONG)
}

/// A message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// At most 99 characters, all of them ASCII.
    pub subject: String,
    /// What it says.
    pub text: String,
}

impl Letter {
    /// The topic takes fewer than 100 characters of ASCII without control characters as a subject.
    /// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
    fn new(subject: &str, text: String) -> Letter {
        let printable = subject.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
        Letter { subject: printable.take(99).collect(), text }
    }
}

/// What CloudWatch tells a function that is an alarm's action.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html>
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlarmChange {
    /// Its region.
    pub region: String,
    /// The alarm.
    pub alarm_data: AlarmData,
}

/// The alarm.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlarmData {
    /// Its name.
    pub alarm_name: String,
    /// Its state now.
    pub state: AlarmState,
    /// Its state before.
    #[serde(default)]
    pub previous_state: Option<AlarmState>,
    /// How it is set up.
    #[serde(default)]
    pub configuration: AlarmConfiguration,
}

/// A state of an alarm.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AlarmState {
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub value: String,
    /// Why, in CloudWatch's words.
    #[serde(default)]
    pub reason: String,
}

/// What of an alarm's configuration is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct AlarmConfiguration {
    /// What it means and what to do, by the template.
    #[serde(default)]
    pub description: String,
}

impl AlarmChange {
    /// What people are told of it: that it goes on, and that it goes off again. An alarm that was never on does not go off: each is `OK`
    /// once after it is made. `stack` is how the names of this installation begin.
    pub fn letter(&self, stack: &str) -> Option<Letter> {
        let AlarmData { alarm_name, state, previous_state, configuration } = &self.alarm_data;
        let kind = alarm_name.strip_prefix(stack)?;
        let is_word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if kind.is_empty() || !is_word(kind) || !is_word(&self.region) {
            return None;
        }
        let was_on = previous_state.as_ref().is_some_and(|state| state.value == "ALARM");
        let said = line(&state.reason);
        let link = console::alarm_url(&self.region, alarm_name);
        match (state.value.as_str(), was_on) {
            ("ALARM", false) => {
                let means: String = configuration.description.chars().take(MOST_DESCRIPTION).collect();
                let means = means.split_whitespace().collect::<Vec<_>>().join(" ");
                let text = format!("{alarm_name} is on. {means}\nCloudWatch: {said}\n{link}");
                Some(Letter::new(&format!("Shipway: alarm {alarm_name}"), text))
            }
            ("OK", true) => {
                let text = format!("{alarm_name} is off again.\nCloudWatch: {said}\n{link}");
                Some(Letter::new(&format!("Shipway: {alarm_name} is off again"), text))
            }
            _ => None,
        }
    }
}

/// What Step Functions tells EventBridge of an execution.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html>
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionChange {
    /// Its ARN.
    pub execution_arn: String,
    /// `FAILED`, `TIMED_OUT` or `ABORTED`.
    pub status: String,
    /// When it started, in milliseconds.
    pub start_date: i64,
    /// Its input. Step Functions leaves it out where it is long.
    #[serde(default)]
    pub input: Option<String>,
    /// The error that it ended with.
    #[serde(default)]
    pub error: Option<String>,
    /// Why.
    #[serde(default)]
    pub cause: Option<String>,
}

/// An execution of this installation that stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The last part of its machine's name.
    machine: String,
    /// What it was for.
    pub place: DriftInput,
    /// The release that it is, where its machine releases.
    pub release: Option<ReleaseId>,
    status: &'static str,
    why: String,
    console: String,
}

impl ExecutionChange {
    /// What stopped, where it is an execution of this installation. `executions` is how the ARNs of its executions begin, up to the last part
    /// of a machine's name.
    pub fn stopped(&self, executions: &str) -> Option<Stopped> {
        let (machine, _) = self.execution_arn.strip_prefix(executions)?.split_once(':')?;
        let status = match self.status.as_str() {
            "FAILED" => "failed",
            "TIMED_OUT" => "timed out",
            "ABORTED" => "was aborted",
            _ => return None,
        };
        let input: Value = serde_json::from_str(self.input.as_deref()?).ok()?;
        let name = |key: &str| input.get(key).and_then(Value::as_str);
        let place = DriftInput { app: name("app")?.parse().ok()?, environment: name("environment")?.parse().ok()? };
        let started_at = Timestamp::from_millisecond(self.start_date).ok()?;
        let release = (machine != "drift").then(|| ReleaseId::of_execution(&self.execution_arn, started_at));
        let said = [self.error.as_deref(), self.cause.as_deref()].into_iter().flatten().filter(|said| !said.is_empty());
        let why = line(&said.collect::<Vec<_>>().join(": "));
        let console = console::execution_url(&self.execution_arn)?;
        Some(Stopped { machine: machine.to_owned(), place, release, status, why, console })
    }
}

impl Stopped {
    /// What people are told of it, unless its machine told them: the last state before a machine fails publishes why. That state is not
    /// reached by an execution that is stopped or runs out of time, nor by one whose end could not be written down; and a comparison has none.
    pub fn letter(&self, record: Option<&ReleaseRecord>) -> Option<Letter> {
        let Stopped { machine, place, status, why, console, .. } = self;
        let DriftInput { app, environment } = place;
        let means = match (&self.release, record) {
            (None, _) => "nothing was compared, and the last report stays".to_owned(),
            (Some(_), Some(record)) if record.outcome.is_some() => return None,
            (Some(release), Some(record)) => format!(
                "the end of {release} ({} {}) is not written down, and what it did may be half done; its claim runs out at the latest {} \
                 minutes after its last pass",
                record.component,
                record.artifact,
                LEASE.as_secs() / 60,
            ),
            (Some(_), None) if *status == "failed" => return None,
            (Some(_), None) => "it had changed nothing, and what it was to make live is not live".to_owned(),
        };
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        let text = format!(
            "{app}/{environment}: an execution of {machine} {status}{why}: {means}. See {RUNBOOK}#execution-stopped\n{console}"
        );
        Some(Letter::new(&format!("Shipway: {app}/{environment} {machine} {status}"), text))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::release::{Artifact, Contender, Outcome};

    const EXECUTIONS: &str = "arn:aws:states:eu-west-1:123456789012:execution:shipway-";

    /// As AWS documents it, with what an alarm of the template says.
    fn change(name: &str, before: &str, now: &str) -> Value {
        json!({
            "source": "aws.cloudwatch",
            "alarmArn": format!("arn:aws:cloudwatch:eu-west-1:123456789012:alarm:{name}"),
            "accountId": "123456789012",
            "time": "2026-11-21T12:36:15.490+0000",
            "region": "eu-west-1",
            "alarmData": {
                "alarmName": name,
                "state": {
                    "value": now,
                    "reason": "Threshold Crossed: 1 datapoint [2.0 (21/11/26 12:31:00)] was greater than the threshold (0.0).",
                    "reasonData": "{\"version\":\"1.0\"}",
                    "timestamp": "2026-11-21T12:36:15.490+0000"
                },
                "previousState": {"value": before, "reason": "", "timestamp": "2026-11-21T12:31:29.595+0000"},
                "configuration": {
                    "description": "Something was given up.\n See docs/operating.md#dead-letters",
                    "metrics": [{"id": "1", "metricStat": {"metric": {"namespace": "AWS/SQS", "name": "x", "dimensions": {}},
                        "period": 300, "stat": "Maximum"}, "returnData": true}]
                }
            }
        })
    }

    fn letter(event: Value) -> Option<Letter> {
        serde_json::from_value::<AlarmChange>(event).unwrap().letter("shipway-")
    }

    #[test]
    fn an_alarm_is_told_once_when_it_goes_on_and_once_when_it_goes_off() {
        let on = letter(change("shipway-dead-letters", "OK", "ALARM")).unwrap();
        assert_eq!(on.subject, "Shipway: alarm shipway-dead-letters");
        assert_eq!(
            on.text,
            "shipway-dead-letters is on. Something was given up. See docs/operating.md#dead-letters\n\
             CloudWatch: Threshold Crossed: 1 datapoint [2.0 (21/11/26 12:31:00)] was greater than the threshold (0.0).\n\
             https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#alarmsV2:alarm/shipway-dead-letters"
        );
        let off = letter(change("shipway-dead-letters", "ALARM", "OK")).unwrap();
        assert_eq!(off.subject, "Shipway: shipway-dead-letters is off again");
        assert!(off.text.starts_with("shipway-dead-letters is off again.\nCloudWatch: "), "{}", off.text);
        let nothing_new = [
            ("INSUFFICIENT_DATA", "OK"),
            ("OK", "OK"),
            ("ALARM", "ALARM"),
            ("OK", "INSUFFICIENT_DATA"),
            ("ALARM", "INSUFFICIENT_DATA"),
        ];
        for (before, now) in nothing_new {
            assert_eq!(letter(change("shipway-dead-letters", before, now)), None, "{before} {now}");
        }
        assert!(letter(change("shipway-sweep-missing", "INSUFFICIENT_DATA", "ALARM")).is_some());
    }

    #[test]
    fn what_names_another_installation_or_says_too_much_is_not_repeated() {
        for name in ["other-dead-letters", "shipway-", "shipway", "", "shipway-é", "shipway-a\nb", "shipway-a b"] {
            assert_eq!(letter(change(name, "OK", "ALARM")), None, "{name:?}");
        }
        let mut elsewhere = change("shipway-dead-letters", "OK", "ALARM");
        elsewhere["region"] = "example.com/?".into();
        assert_eq!(letter(elsewhere), None);
        let mut long = change("shipway-dead-letters", "OK", "ALARM");
        long["alarmData"]["configuration"]["description"] = "é\n".repeat(100_000).into();
        long["alarmData"]["state"]["reason"] = "\"\r\nsubject: x ".repeat(100_000).into();
        let told = letter(long).unwrap();
        assert!(told.text.chars().count() < 2500, "{}", told.text.chars().count());
        assert_eq!(told.text.lines().count(), 3);
        let mut bare = change("shipway-dead-letters", "OK", "ALARM");
        bare["alarmData"].as_object_mut().unwrap().remove("configuration");
        assert!(letter(bare).is_some());
        let endless = change(&format!("shipway-{}", "a".repeat(300)), "OK", "ALARM");
        assert_eq!(letter(endless).unwrap().subject.len(), 99);
    }

    fn record(outcome: Option<Outcome>) -> ReleaseRecord {
        let started_at = "2026-11-21T03:15:42.123Z".parse().unwrap();
        let contender = Contender {
            release: ReleaseId::of_execution(&format!("{EXECUTIONS}rollout:event-1"), started_at),
            artifact: Artifact::Object { key: "k".to_owned(), version: "1".to_owned() },
            execution: "event-1".to_owned(),
            started_at,
        };
        let (app, environment) = ("hello".parse().unwrap(), "prod".parse().unwrap());
        ReleaseRecord {
            outcome,
            ..ReleaseRecord::opened(&contender, &app, &environment, &"service/api".parse().unwrap())
        }
    }

    fn execution(machine: &str, status: &str) -> Value {
        json!({
            "executionArn": format!("{EXECUTIONS}{machine}:event-1"),
            "stateMachineArn": format!("arn:aws:states:eu-west-1:123456789012:stateMachine:shipway-{machine}"),
            "name": "event-1", "status": status, "startDate": 1_795_230_942_123_i64, "stopDate": 1_795_230_999_000_i64,
            "input": r#"{"app": "hello", "environment": "prod", "component": "service/api"}"#,
            "inputDetails": {"included": true}, "output": null, "outputDetails": null,
            "error": null, "cause": null
        })
    }

    fn stopped(event: Value) -> Option<Stopped> {
        serde_json::from_value::<ExecutionChange>(event).unwrap().stopped(EXECUTIONS)
    }

    #[test]
    fn an_execution_is_told_where_its_machine_could_tell_nobody() {
        let open = record(None);
        let ended = record(Some(Outcome::Failed));
        let table = [
            ("rollout", "FAILED", Some(&ended), None),
            ("rollout", "FAILED", None, None),
            ("rollout", "FAILED", Some(&open), Some("failed: the end of 20261121T031542123-")),
            ("rollout", "TIMED_OUT", Some(&open), Some("timed out: the end of 20261121T031542123-")),
            ("rollout", "ABORTED", Some(&open), Some("was aborted: the end of 20261121T031542123-")),
            ("rollout", "ABORTED", Some(&ended), None),
            ("rollout", "ABORTED", None, Some("was aborted: it had changed nothing")),
            ("drift", "FAILED", None, Some("failed: nothing was compared")),
        ];
        for (machine, status, record, expected) in table {
            let stopped = stopped(execution(machine, status)).unwrap();
            let told = stopped.letter(record);
            assert_eq!(told.is_some(), expected.is_some(), "{machine} {status}: {told:?}");
            if let (Some(letter), Some(expected)) = (told, expected) {
                assert!(letter.text.contains(expected), "{}", letter.text);
                assert!(letter.text.contains("docs/operating.md#execution-stopped"), "{}", letter.text);
                assert!(letter.text.ends_with(&format!("{EXECUTIONS}{machine}:event-1")), "{}", letter.text);
                assert!(letter.subject.starts_with(&format!("Shipway: hello/prod {machine} ")), "{}", letter.subject);
            }
        }
        assert_eq!(stopped(execution("rollout", "FAILED")).unwrap().release, Some(open.release));
        assert_eq!(stopped(execution("drift", "FAILED")).unwrap().release, None);
    }

    #[test]
    fn why_it_stopped_is_told_in_a_line() {
        let mut event = execution("drift", "FAILED");
        event["error"] = "Denied".into();
        event["cause"] = "no\n right".into();
        let told = stopped(event).unwrap().letter(None).unwrap();
        assert!(told.text.contains("an execution of drift failed (Denied: no right): "), "{}", told.text);
    }

    #[test]
    fn what_is_no_execution_of_this_installation_is_not_told() {
        let mut foreign = execution("rollout", "FAILED");
        foreign["executionArn"] = "arn:aws:states:eu-west-1:123456789012:execution:other-rollout:event-1".into();
        let mut cut = execution("rollout", "FAILED");
        cut["input"] = Value::Null;
        let mut strange = execution("rollout", "FAILED");
        strange["input"] = r#"{"app": "../x", "environment": "prod"}"#.into();
        let mut early = execution("rollout", "FAILED");
        early["startDate"] = i64::MIN.into();
        for event in [foreign, cut, strange, early, execution("rollout", "RUNNING"), execution("rollout", "SUCCEEDED")]
        {
            assert_eq!(stopped(event.clone()), None, "{event}");
        }
    }
}
