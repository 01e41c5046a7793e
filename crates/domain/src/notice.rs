//! What others are told of a release while it goes on: an event of EventBridge, and one line of text for people.
//!
//! Telling is never part of a release: whoever cannot be told changes nothing about it.

use serde::Serialize;

use crate::{
    approval::Asked,
    console,
    name::{AppName, Component, EnvironmentName, ReleaseId},
    release::{Artifact, Outcome, ReleaseRecord},
};

/// The `source` of each event.
pub const SOURCE: &str = "shipway";

/// The `detail-type` of each event.
pub const DETAIL_TYPE: &str = "Shipway Release";

/// How much of a reason is in the line for people. Chats and text messages show little more.
const MOST_REASON: usize = 600;

/// What happens to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening<'a> {
    /// It has its claim, and begins.
    Started,
    /// It waits for a person.
    WaitingApproval(&'a Asked),
    /// It does not hold: what was live before is being brought back.
    RollingBack {
        /// Why.
        reason: &'a str,
    },
    /// It ended.
    Ended {
        /// How.
        outcome: Outcome,
        /// Why.
        reason: &'a str,
        /// What serves now.
        live: Option<&'a Artifact>,
    },
}

impl Happening<'_> {
    /// The word for it: an outcome's own, where it is one.
    pub const fn status(&self) -> &'static str {
        match self {
            Happening::Started => "started",
            Happening::WaitingApproval(_) => "waiting_approval",
            Happening::RollingBack { .. } => "rolling_back",
            Happening::Ended { outcome, .. } => outcome.word(),
        }
    }
}

/// The `detail` of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
    /// What of it.
    pub component: Component,
    /// The release.
    pub release: ReleaseId,
    /// What it makes live.
    pub artifact: Artifact,
    /// What happens to it.
    pub status: &'static str,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What serves, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Artifact>,
    /// Its execution in the console.
    pub console: String,
    /// All of it in one line, for people and their chats.
    pub text: String,
}

impl Notice {
    /// What happens to the release of this record. `executions` is how the ARNs of its machines' executions begin.
    pub fn new(record: &ReleaseRecord, executions: &str, happening: Happening<'_>) -> Notice {
        let ReleaseRecord { app, environment, component, release, artifact, .. } = record;
        let arn = format!("{executions}{}:{}", machine(component, artifact), record.execution);
        let console = console::execution_url(&arn).unwrap_or(arn);
        let (reason, live) = match happening {
            Happening::Started => (None, record.previous.as_ref().map(|live| &live.artifact)),
            Happening::WaitingApproval(asked) => {
                (Some(asked.step()), record.previous.as_ref().map(|live| &live.artifact))
            }
            Happening::RollingBack { reason } => (Some(reason.to_owned()), None),
            Happening::Ended { reason, live, .. } => (Some(reason.to_owned()), live),
        };
        let what = match happening {
            Happening::Started => format!("started {artifact}"),
            Happening::WaitingApproval(asked) => format!(
                "{artifact} waits for approval until {}, `shipway approve {release} --app {app} --env {environment}`",
                asked.until.strftime("%Y-%m-%d %H:%M UTC")
            ),
            Happening::RollingBack { reason } => format!("rolling back from {artifact}: {}", line(reason)),
            Happening::Ended { outcome, reason, .. } => format!("{outcome} {artifact}: {}", line(reason)),
        };
        Notice {
            text: harmless(&format!("{app}/{environment} {component}: {what} ({console})")),
            app: app.clone(),
            environment: environment.clone(),
            component: component.clone(),
            release: release.clone(),
            artifact: artifact.clone(),
            status: happening.status(),
            reason,
            live: live.cloned(),
            console,
        }
    }
}

impl Notice {
    /// The subject of a message: at most 99 characters, all of them ASCII.
    /// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
    pub fn subject(&self) -> String {
        let Notice { app, environment, component, status, .. } = self;
        format!("Shipway: {app}/{environment} {component} {status}").chars().take(99).collect()
    }
}

/// The machine that a release is an execution of, by the end of its name.
fn machine(component: &Component, artifact: &Artifact) -> &'static str {
    match (component, artifact) {
        (_, Artifact::Nothing) => "teardown",
        (Component::Platform, _) => "provision",
        (Component::Service(_), _) => "rollout",
        (Component::Site(_) | Component::Preview(..), _) => "publish",
    }
}

/// Without what a chat takes for more than text: in Slack `<!channel>` calls everybody, and a reason may be what a container printed.
/// <https://docs.slack.dev/messaging/formatting-message-text/>
fn harmless(text: &str) -> String {
    text.replace('<', "‹").replace('>', "›")
}

/// A text in one line, without what would end a quotation.
pub(crate) fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ").replace('"', "'");
    match text.char_indices().nth(MOST_REASON) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::release::{Contender, Live};

    const EXECUTIONS: &str = "arn:aws:states:eu-west-1:123456789012:execution:shipway-";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn image(number: u8) -> Artifact {
        let digest = format!("sha256:{number:02x}").parse().unwrap();
        Artifact::Image { repository: "hello-api".parse().unwrap(), digest }
    }

    fn record(component: &str, artifact: Artifact) -> ReleaseRecord {
        let release = ReleaseId::of_execution("arn:1", at(0));
        let live = Live { artifact: image(1), release: release.clone(), since: at(0) };
        let contender = Contender { release, artifact, execution: "event-1".to_owned(), started_at: at(0) };
        ReleaseRecord {
            previous: Some(live),
            ..ReleaseRecord::opened(
                &contender,
                &"hello".parse().unwrap(),
                &"prod".parse().unwrap(),
                &component.parse().unwrap(),
            )
        }
    }

    #[test]
    fn each_is_one_line_that_says_what_where_and_where_to_look() {
        let record = record("service/api", image(2));
        let asked = Asked::new("AAAAtoken".to_owned(), 60, at(0));
        let (release, live) = (&record.release, image(1));
        let url = format!(
            "(https://eu-west-1.console.aws.amazon.com/states/home?region=eu-west-1#/v2/executions/details/{EXECUTIONS}rollout:event-1)"
        );
        let ended = Happening::Ended {
            outcome: Outcome::RolledBack,
            reason: "it said \"no <!here>\"\nand ended",
            live: Some(&live),
        };
        let table = [
            (Happening::Started, "started", format!("started hello-api@sha256:02 {url}")),
            (
                Happening::WaitingApproval(&asked),
                "waiting_approval",
                format!(
                    "hello-api@sha256:02 waits for approval until 2027-01-15 08:01 UTC, \
                     `shipway approve {release} --app hello --env prod` {url}"
                ),
            ),
            (
                Happening::RollingBack { reason: "exit code 1" },
                "rolling_back",
                format!("rolling back from hello-api@sha256:02: exit code 1 {url}"),
            ),
            (ended, "rolled_back", format!("rolled_back hello-api@sha256:02: it said 'no ‹!here›' and ended {url}")),
        ];
        for (happening, status, text) in table {
            let notice = Notice::new(&record, EXECUTIONS, happening);
            assert_eq!(notice.subject(), format!("Shipway: hello/prod service/api {status}"));
            assert_eq!((notice.status, notice.text), (status, format!("hello/prod service/api: {text}")));
        }
    }

    #[test]
    fn a_program_gets_the_parts_and_never_the_token() {
        let record = record("service/api", image(2));
        let asked = Asked::new("AAAAtoken".to_owned(), 60, at(0));
        let detail =
            serde_json::to_value(Notice::new(&record, EXECUTIONS, Happening::WaitingApproval(&asked))).unwrap();
        for (key, expected) in [("app", "hello"), ("environment", "prod"), ("component", "service/api")] {
            assert_eq!(detail[key], expected);
        }
        assert_eq!(detail["artifact"]["image"]["digest"], "sha256:02");
        assert_eq!(detail["live"]["image"]["digest"], "sha256:01");
        assert_eq!(detail["release"], record.release.as_str());
        assert!(!detail.to_string().contains("AAAAtoken"), "an answer belongs to who may read the table");
    }

    #[test]
    fn the_link_leads_to_the_machine_of_the_component() {
        let table = [
            ("platform", Artifact::Nothing, "teardown"),
            ("platform", image(1), "provision"),
            ("site/web", image(1), "publish"),
            ("preview/web/pr-1", image(1), "publish"),
        ];
        for (component, artifact, machine) in table {
            let notice = Notice::new(&record(component, artifact), EXECUTIONS, Happening::Started);
            assert!(notice.console.ends_with(&format!("{EXECUTIONS}{machine}:event-1")), "{}", notice.console);
        }
    }

    #[test]
    fn a_long_reason_is_cut_where_a_character_ends() {
        let reason = "é".repeat(5000);
        let notice = Notice::new(&record("site/web", image(1)), EXECUTIONS, Happening::RollingBack { reason: &reason });
        assert!(notice.text.chars().count() < 1000 && notice.text.contains('…'));
        assert_eq!(notice.reason.unwrap().len(), reason.len());
    }
}
