//! What the machines pass between the functions. Small, complete, repeatable: ids and artifacts, never a secret.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    drift::DriftStatus,
    name::{AppName, Component, EnvironmentName, ReleaseId},
    release::{Artifact, ComponentState, Outcome},
};

/// Why JSON is not what it should be: where, as a path of keys, and what is wrong there. It is short whatever came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// So much of what is wrong is told from its beginning, and of the rest so much from its end: there is what was expected.
const TOLD: (usize, usize) = (400, 200);

impl Unreadable {
    fn of(root: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> Unreadable {
        let path = error.path().to_string();
        let place: Vec<&str> = [root, &path].into_iter().filter(|part| !part.is_empty() && *part != ".").collect();
        let what = error.inner().to_string();
        let text = if place.is_empty() { what } else { format!("in `{}`: {what}", place.join(".").replace(".[", "[")) };
        let all: Vec<char> =
            text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
        let (first, last) = TOLD;
        Unreadable(match all.len() > first + last {
            true => all[..first].iter().chain(&['…']).chain(&all[all.len() - last..]).collect(),
            false => all.into_iter().collect(),
        })
    }
}

/// Reads what somebody else wrote.
///
/// # Errors
/// It is something else.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Unreadable> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        // serde forgets the way into an enum that has a tag, so what requests are made of is looked at once more by itself.
        let is_lost = error.path().iter().next().is_none();
        let within = || PARTS.iter().find_map(|(key, look)| look(value, key));
        is_lost.then(within).flatten().unwrap_or_else(|| Unreadable::of("", &error))
    })
}

type Look = fn(&Value, &str) -> Option<Unreadable>;

/// What the functions' requests are made of.
const PARTS: [(&str, Look); 12] = [
    ("action", part::<String>),
    ("app", part::<AppName>),
    ("detections", part::<BTreeMap<String, String>>),
    ("environment", part::<EnvironmentName>),
    ("execution", part::<Execution>),
    ("found", part::<Vec<DriftFound>>),
    ("kept", part::<Vec<Kept>>),
    ("machine", part::<Option<Machine>>),
    ("result", part::<Ending>),
    ("run", part::<Run>),
    ("seconds", part::<u32>),
    ("token", part::<String>),
];

/// What is wrong with a part, if it is there.
fn part<T: DeserializeOwned>(value: &Value, key: &str) -> Option<Unreadable> {
    let error = serde_path_to_error::deserialize::<_, T>(value.get(key)?).err()?;
    Some(Unreadable::of(key, &error))
}

/// The input of every machine: what should be live where. The same input in a new execution converges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseInput {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
    /// What of it.
    pub component: Component,
    /// What should be live.
    pub artifact: Artifact,
    /// Whether nothing that was written down is trusted: of a site's bucket, everything is written again; of a platform, what
    /// differs from its manifest is put right.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repair: bool,
}

/// The input of the machine that tears an environment down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeardownInput {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
    /// `<app>/<environment>` once more, typed by whoever means it.
    pub confirm: String,
}

/// A release under way, as each function gets it: who may write, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
    /// What of it.
    pub component: Component,
    /// What should be live.
    pub artifact: Artifact,
    /// The release.
    pub release: ReleaseId,
    /// The fencing number of its claim.
    pub fence: u64,
    /// Whether nothing that was written down is trusted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repair: bool,
}

/// The input of a function that makes one pass over a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassInput<A> {
    /// The release.
    pub run: Run,
    /// What to do, where a function can do more than one thing.
    pub action: A,
}

/// The input of a function that is asked what differs from what an environment's records say. It changes nothing and needs
/// no claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftInput {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
}

/// What one function found to differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftFound {
    /// The differences; none where all is as it should be.
    pub differences: Vec<Difference>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Difference {
    /// What it is: `network`, `stack shipway-shop-prod-cluster`, `service/api`.
    pub of: String,
    /// What differs, for a person.
    pub what: String,
}

/// The answer of one pass: the machine waits and calls again, or goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Pass<T> {
    /// Not there yet.
    Again {
        /// How long to wait before the next pass.
        seconds: u32,
        /// What is waited for, for the person who reads the execution.
        note: String,
    },
    /// Done.
    Done(T),
}

/// The end of work that has nothing to say but how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// What was done, in one sentence.
    pub note: String,
}

/// The end of a removal: what went, and what stays because the manifest says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// What was done, in one sentence.
    pub note: String,
    /// What stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
}

/// Something that outlives its environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// What it is and where, for a person: `the database main (shop-prod-main), as on_delete: retain`.
    pub what: String,
    /// Whether it stands in the network, which then stays too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_network: bool,
}

/// The end of work that decides the release's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How it went.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub reason: String,
}

/// A machine that makes something live, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Machine {
    /// Platforms.
    Provision,
    /// Services.
    Rollout,
    /// Sites and previews of them.
    Publish,
}

impl Machine {
    /// The one whose releases are of this component.
    pub const fn of(component: &Component) -> Machine {
        match component {
            Component::Platform => Machine::Provision,
            Component::Service(_) => Machine::Rollout,
            Component::Site(_) | Component::Preview(..) => Machine::Publish,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Machine::Provision => "provision",
            Machine::Rollout => "rollout",
            Machine::Publish => "publish",
        })
    }
}

/// What record-release is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum RecordRequest {
    /// May this execution change its component?
    Begin {
        /// The machine that asks; nothing from one that began before machines said it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        machine: Option<Machine>,
        /// The execution that asks.
        execution: Execution,
        /// Its input, as it came: a person may have typed it.
        input: Value,
    },
    /// May this execution tear its environment down?
    BeginTeardown {
        /// The execution that asks.
        execution: Execution,
        /// Its input, as it came: a person typed it.
        input: Value,
    },
    /// The release ended.
    End {
        /// The release.
        run: Run,
        /// How.
        result: Ending,
        /// What a teardown kept.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kept: Vec<Kept>,
    },
    /// A person must approve the release before it changes anything.
    AskApproval {
        /// The release.
        run: Run,
        /// What a person sends back to answer.
        token: String,
        /// For how many seconds the answer is waited for.
        seconds: u32,
    },
    /// A person approved the release.
    Approved {
        /// The release.
        run: Run,
        /// What came back with the token: any JSON.
        answer: Value,
    },
    /// An environment was compared with its records.
    Drift {
        /// The execution that compared.
        execution: Execution,
        /// Its input, as it came: which environment, a [`DriftInput`].
        input: Value,
        /// What each function found to differ.
        found: Vec<DriftFound>,
    },
}

/// How a machine ended a release: by a verdict, or by an error it caught.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected an outcome and its reason, or an Error and its Cause")]
pub enum Ending {
    /// A function decided.
    Verdict(Verdict),
    /// A state failed. The names are Step Functions' own.
    Error {
        /// The error's public name.
        #[serde(rename = "Error")]
        error: String,
        /// Its message: from a function, JSON with `errorMessage` in it.
        #[serde(rename = "Cause", default)]
        cause: String,
    },
}

/// The execution that a release is, from the machine's context object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Its ARN.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// When it started.
    pub started_at: Timestamp,
}

/// record-release's answer to [`RecordRequest::Begin`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "next")]
pub enum Begun {
    /// Go on.
    Go {
        /// The release, with its claim.
        run: Run,
        /// What belongs to it beside the change itself.
        #[serde(flatten)]
        around: Around,
    },
    /// Another release must end first.
    Wait {
        /// How long to wait before asking again.
        seconds: u32,
        /// Whom it waits for.
        note: String,
    },
    /// There is nothing to do.
    End(Ended),
}

/// What comes before and after a service's change; nothing for other components.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Around {
    /// Whether a migration comes before the rollout.
    pub migrate: bool,
    /// Whether the service uses databases that may have to be made before.
    pub databases: bool,
    /// For how many seconds a person's approval is waited for; 0 where none is needed.
    pub approval: u32,
    /// Whether requests are to be answered as the manifest says once it serves.
    pub smoke: bool,
    /// Whether one-off tasks are to end well once it serves.
    pub smoke_tasks: bool,
}

impl Around {
    /// What of it belongs to a release of this artifact. Nothing keeps a person from going back: what was live before migrates
    /// nothing, waits for no approval and is not tested. What is live, with other settings, is tested all the same.
    #[must_use]
    pub fn of_release(self, artifact: &Artifact, state: &ComponentState) -> Around {
        let was_live = state.was_live(artifact);
        let tested = !was_live || state.live.as_ref().is_some_and(|live| live.artifact == *artifact);
        Around {
            migrate: self.migrate && !was_live,
            databases: self.databases,
            approval: if was_live { 0 } else { self.approval },
            smoke: self.smoke && tested,
            smoke_tasks: self.smoke_tasks && tested,
        }
    }
}

/// record-release's answer to [`RecordRequest::Drift`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// What it comes to.
    pub status: DriftStatus,
    /// Whether people are told: it drifted, and had not when it was compared before.
    pub notify: bool,
    /// What it comes to, in one sentence.
    pub note: String,
}

/// How a release ended, for the machine's last states and for its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The release.
    pub release: ReleaseId,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub reason: String,
    /// What serves now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Artifact>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Live;

    fn image(number: u8) -> Artifact {
        let digest = format!("sha256:{number:02x}").parse().unwrap();
        Artifact::Image { repository: "hello-api".parse().unwrap(), digest }
    }

    /// A service where these images were live, the newest first, and the newest still is.
    fn having_had(numbers: &[u8]) -> ComponentState {
        let live = |number: &u8| Live {
            artifact: image(*number),
            release: "20261121T031542123-3f9c2a".parse().unwrap(),
            since: Timestamp::UNIX_EPOCH,
        };
        let history: Vec<Live> = numbers.iter().map(live).collect();
        ComponentState { live: history.first().cloned(), history, ..ComponentState::default() }
    }

    #[test]
    fn what_is_new_has_all_that_is_asked_for_what_is_live_its_tests_and_the_way_back_stays_open() {
        let all = Around { migrate: true, databases: true, approval: 60, smoke: true, smoke_tasks: true };
        let back = Around { databases: true, ..Around::default() };
        let again = Around { smoke: true, smoke_tasks: true, ..back };
        let gone = ComponentState { live: None, ..having_had(&[1]) };
        let table = [
            ("the first one", having_had(&[]), all),
            ("a new one", having_had(&[3, 2]), all),
            ("back to an older one", having_had(&[2, 1]), back),
            ("back to one that was live more than once", having_had(&[2, 1, 2, 1]), back),
            ("what was live before a teardown", gone, back),
            ("what is live", having_had(&[1]), again),
            ("what is live again", having_had(&[1, 2, 1]), again),
        ];
        for (case, state, expected) in table {
            assert_eq!(all.of_release(&image(1), &state), expected, "{case}");
            assert_eq!(Around::default().of_release(&image(1), &state), Around::default(), "{case}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_in_one_short_line_with_its_place() {
        let image = |digest: &str| serde_json::json!({"image": {"repository": "hello-api", "digest": digest}});
        let of = |artifact: Value| serde_json::json!({"app": "hello", "environment": "prod", "component": "service/api", "artifact": artifact});
        assert!(read::<ReleaseInput>(&of(image("sha256:01"))).is_ok());
        let told = |input: &Value| read::<ReleaseInput>(input).unwrap_err().to_string();
        assert!(
            told(&of(image("latest"))).starts_with("in `artifact.image.digest`: `latest` is not an image digest: ")
        );
        assert_eq!(told(&serde_json::json!({"app": "hello"})), "missing field `environment`");
        let long = told(&of(serde_json::json!("\nx".repeat(100_000))));
        assert!(long.chars().count() == 601 && long.contains('…') && !long.contains('\n'), "{long}");
        assert!(long.ends_with("expected one of `image`, `public`, `object`, `nothing`"), "{long}");
        let end = serde_json::json!({"action": "end", "run": {}, "result": {}, "kept": [{"what": 7}]});
        let within = read::<RecordRequest>(&end).unwrap_err().to_string();
        assert_eq!(within, "in `kept[0].what`: invalid type: integer `7`, expected a string");
    }

    #[test]
    fn each_thing_around_a_release_is_there_by_itself() {
        let none = Around::default();
        let table = [
            // What is asked for, and what of it is left for what is live and for the way back.
            (Around { migrate: true, ..none }, none, none),
            (
                Around { databases: true, ..none },
                Around { databases: true, ..none },
                Around { databases: true, ..none },
            ),
            (Around { approval: 60, ..none }, none, none),
            (Around { smoke: true, ..none }, Around { smoke: true, ..none }, none),
            (Around { smoke_tasks: true, ..none }, Around { smoke_tasks: true, ..none }, none),
        ];
        for (asked, live, back) in table {
            assert_eq!(asked.of_release(&image(1), &having_had(&[])), asked);
            assert_eq!(asked.of_release(&image(1), &having_had(&[1])), live, "{asked:?}");
            assert_eq!(asked.of_release(&image(1), &having_had(&[2, 1])), back, "{asked:?}");
        }
    }
}
