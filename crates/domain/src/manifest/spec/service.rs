//! What a manifest says of a service.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    network::checked_text,
    reference::{EnvValue, SecretRef},
    unit::{Period, Stay, Timeout},
};
use crate::{
    keeping,
    name::{ComponentName, RepositoryName},
};

/// A service: tasks of one image, and of the sidecars beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Which images are this service's.
    pub image: Image,
    /// The command, in place of the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The entry point, in place of the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The port the container listens on. Needed with `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// A fixed port of the instance, with `cluster.ec2.networking: bridge`. Two tasks cannot have it on one instance, so a
    /// rollout stops the old task first: leave it out, and ECS chooses a free one for each task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// CPU units; 1024 are one vCPU. 256 unless given.
    #[serde(default = "default_cpu")]
    pub cpu: u32,
    /// Memory in MiB; 512 unless given.
    #[serde(default = "default_memory")]
    pub memory: u32,
    /// How many tasks run, where nothing scales them; 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// How the number of tasks follows the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// What the load balancer sends it. Without it, no request from outside reaches the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Whether other services find it as `<service>.<app>-<environment>.internal`. Needs `port`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discovery: bool,
    /// Environment variables: texts, or references to what is no secret, like `{ref: databases.main.host}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// Environment variables whose values are secrets, by reference.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretRef>,
    /// What its containers may use: buckets (read, write, list) and email identities (send), like `buckets.uploads`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<Use>,
    /// Containers that run beside the service's own in every task, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sidecars: BTreeMap<ComponentName, Sidecar>,
    /// A one-off task that must succeed before the service changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate: Option<Migrate>,
    /// What a scan of the image must not find before it goes live. Needs `image.repository`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<Scan>,
    /// Whether a person must approve each release before anything changes. What was live before needs no approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// How long an approval is waited for, at most 7 days; 1 day unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_within: Option<Stay>,
    /// Services that go first: where one of them is released from the same push, this one waits until that is live, and stays as it
    /// is where that did not go live. What a person starts waits for nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<ComponentName>,
    /// How a new version takes the place of the old one.
    #[serde(default, skip_serializing_if = "Rollout::is_default")]
    pub rollout: Rollout,
    /// What must hold once a new version serves, before it counts as live; else what was live before comes back. Requests first,
    /// then commands. Not for a version that a person goes back to: that way must stay open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub smoke: Vec<Smoke>,
    /// Whether its tasks are replaced when one of its secrets is rotated. ECS gives a task its secrets only as it starts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart_on_rotation: bool,
    /// The log group's name; `/ecs/<app>-<environment>-<service>` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_group: Option<LogGroupName>,
    /// Fields of ECS's `RegisterTaskDefinition` that have no key here, as ECS spells them; maps are merged deep, and those of
    /// the service's own container stand under `containerDefinitions.<service>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "fields")]
    pub overrides: BTreeMap<String, serde_json::Value>,
}

/// Reads fields whose types are ECS's and not ours: a number in them is one by how it is written.
fn fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, serde_json::Value>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename = "$as written")]
    struct AsWritten(BTreeMap<String, serde_json::Value>);

    AsWritten::deserialize(deserializer).map(|AsWritten(fields)| fields)
}

fn default_cpu() -> u32 {
    256
}

fn default_memory() -> u32 {
    512
}

/// How long an approval is waited for where it is not said.
const APPROVAL_SECONDS: u32 = 86_400;

impl Service {
    /// How many tasks run at first, or where nothing scales them.
    #[must_use]
    pub fn tasks(&self) -> u32 {
        self.count.or(self.scale.as_ref().map(|scale| scale.min)).unwrap_or(1)
    }

    /// How many tasks run at most, but for those that replace others.
    #[must_use]
    pub fn most_tasks(&self) -> u32 {
        self.scale.as_ref().map_or_else(|| self.tasks(), |scale| scale.max)
    }
}

impl Service {
    /// For how many seconds a person's approval of a release is waited for; 0 where none is needed.
    #[must_use]
    pub fn approval_seconds(&self) -> u32 {
        match self.approval {
            Some(Approval::Required) => self.approval_within.map_or(APPROVAL_SECONDS, Stay::seconds),
            None => 0,
        }
    }
}

/// Which images are a service's: those pushed to a repository of the account, or a public one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The ECR repository, without the registry. A push to it rolls out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryName>,
    /// An image that is not of this account, in place of a repository: `registry/name:tag` or `registry/name@sha256:…`. It is
    /// rolled out when the manifest names another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<PublicImage>,
    /// Patterns with `*` and `?`; a push whose tag matches one of them rolls out. All tags unless given, but for those that begin
    /// with `shipway-`, which are Shipway's own.
    #[serde(default = "default_tags", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<TagPattern>,
    /// How many tagged images the repository keeps; 500 unless given. What is live and what was live before stays beside them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u16>,
    /// How many images that were live before stay beside what is live, whatever else the repository keeps, so that each can be made
    /// live again; 10 unless given, at most 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_live: Option<u16>,
    /// How long the repository keeps an image that lost its tags; the newest 100 stay unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_untagged: Option<Period>,
}

fn default_tags() -> Vec<TagPattern> {
    vec![TagPattern("*".to_owned())]
}

checked_text!(
    /// An image outside the account: `docker.io/supertokens/supertokens-postgresql:9.2`.
    PublicImage, "^[a-z0-9./:@_A-Z-]+$", "an image like registry/name:tag or registry/name@sha256:…, with a tag that is not `latest` or a digest",
    |text| {
        let known = text.chars().all(|c| c.is_ascii_alphanumeric() || "./:@_-".contains(c));
        let name = text.rsplit('/').next().unwrap_or(text);
        let pinned = name.contains('@') || name.split_once(':').is_some_and(|(_, tag)| !tag.is_empty() && tag != "latest");
        known && pinned && text.len() <= 512 && text.starts_with(|c: char| c.is_ascii_alphanumeric())
    }
);
checked_text!(
    /// A CloudWatch Logs group's name.
    LogGroupName, "^/ecs/[A-Za-z0-9_/.#-]+$", "a log group's name: up to 512 letters, digits, and `_-/.#`, beginning with /ecs/",
    |text| text.starts_with("/ecs/") && text.len() > 5 && text.len() <= 512 && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-/.#".contains(c))
);

/// A pattern for image tags: `sha-*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct TagPattern(String);

impl TagPattern {
    /// Whether the pattern matches this tag: `*` is any text, `?` any one character. Shipway's own tags are matched by none.
    pub fn matches(&self, tag: &str) -> bool {
        !tag.starts_with(keeping::PREFIX) && is_like(self.0.as_bytes(), tag.as_bytes())
    }
}

/// Whether a text is like a pattern: `*` is any text, `?` any one character.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => is_like(rest, text) || text.split_first().is_some_and(|(_, t)| is_like(pattern, t)),
        (Some((b'?', rest)), Some((_, t))) => is_like(rest, t),
        (Some((p, rest)), Some((c, t))) => p == c && is_like(rest, t),
        _ => false,
    }
}

impl TryFrom<String> for TagPattern {
    type Error = String;

    /// A tag has at most 128 letters, digits, `_`, `.` and `-`; at most 4 stars keep matching cheap.
    fn try_from(text: String) -> Result<Self, String> {
        let known = text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-*?".contains(c));
        if text.is_empty() || text.len() > 128 || !known {
            Err(format!("`{text}` is not a pattern of image tags: letters, digits, `_`, `.`, `-`, with `*` and `?`"))
        } else if text.matches('*').count() > 4 {
            Err(format!("`{text}` has more than 4 stars"))
        } else if text.starts_with(keeping::PREFIX) {
            Err(format!("`{text}` matches nothing: tags that begin with `{}` are Shipway's own", keeping::PREFIX))
        } else {
            Ok(TagPattern(text))
        }
    }
}

impl From<TagPattern> for String {
    fn from(pattern: TagPattern) -> String {
        pattern.0
    }
}

/// What the load balancer sends a service, and how it knows that it is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// The path pattern that is this service's: `/api/*`. Everything (`/*`) unless given.
    #[serde(default = "default_path")]
    pub path: String,
    /// The host that is this service's: `api.example.com`. Any unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The path that answers 2xx or 3xx when the service is well; `/` unless given.
    #[serde(default = "default_health")]
    pub health: String,
    /// How long a visitor stays with the same task, by a cookie. Without it, any task gets any request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stickiness: Option<Stickiness>,
    /// How long a task that goes may finish its requests; 15 seconds unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Timeout>,
}

impl Http {
    /// Whether the load balancer sends requests for this path to the service.
    #[must_use]
    pub fn takes(&self, path: &str) -> bool {
        is_like(self.path.as_bytes(), path.as_bytes())
    }
}

fn default_path() -> String {
    "/*".to_owned()
}

fn default_health() -> String {
    "/".to_owned()
}

checked_text!(
    /// A host's name in the DNS.
    HostName, "^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z0-9-]+$", "a host's name like api.example.com",
    |text| text.len() <= 128 && text.contains('.') && text.split('.').all(|label| {
        !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    })
);

/// How long a visitor stays with the same task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stickiness {
    /// From the last request; at most 7 days, and 1 day unless given.
    #[serde(default = "default_stickiness")]
    pub duration: Stay,
}

fn default_stickiness() -> Stay {
    Stay::of(86_400)
}

/// How the number of tasks follows the load. Each target that is given has a target-tracking policy of its own; the one that
/// wants most tasks wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The fewest tasks.
    pub min: u32,
    /// The most tasks.
    pub max: u32,
    /// The average CPU use to keep, in percent of what the tasks have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u8>,
    /// The average memory use to keep, in percent of what the tasks have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u8>,
    /// The requests per task and minute to keep. Needs `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
    /// The pause after each change; 5 minutes unless given.
    #[serde(default = "default_cooldown")]
    pub cooldown: Timeout,
}

fn default_cooldown() -> Timeout {
    Timeout::of(300)
}

/// A container beside the service's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sidecar {
    /// Its image: a public one, or one of this account by tag or digest.
    pub image: PublicImage,
    /// The command, in place of the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The port it listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How much of the task's CPU units it has at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// How much of the task's memory in MiB it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u32>,
    /// Whether the task ends when it ends; so unless `false`.
    #[serde(default = "yes")]
    pub essential: bool,
    /// Whether the service's own container starts only when this one ended well. Such a one is not essential.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub before: bool,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// Environment variables whose values are secrets, by reference.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretRef>,
}

pub(super) fn yes() -> bool {
    true
}

checked_text!(
    /// What a service's containers may use: `buckets.<name>` or `email.<name>`.
    Use, "^(buckets|email)\\.[a-z0-9-]+$", "what a service can use: buckets.<name> or email.<name>",
    |text| text.split_once('.').is_some_and(|(kind, name)| {
        matches!(kind, "buckets" | "email") && name.parse::<ComponentName>().is_ok()
    })
);

/// A one-off task with the service's own image, network and secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Migrate {
    /// The command, in place of the image's.
    pub command: Vec<String>,
    /// How long each of the commands may take; 10 minutes unless given.
    #[serde(default)]
    pub timeout: Timeout,
    /// Whether a snapshot of each database that the service uses is taken before. They stay until somebody deletes them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub snapshot: bool,
    /// A command that runs after it, in a task of its own, to put in what must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seed: Vec<String>,
    /// A command that runs last, in a task of its own. Where it fails, the service is not touched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verify: Vec<String>,
    /// The log group's name; the service's own unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_group: Option<LogGroupName>,
}

/// Something that must hold once a new version serves: a request's answer, or the exit code 0 of a one-off task. Requests come
/// from the internet, without an address of their own, through the load balancer: where that lets only CloudFront in, use a
/// `command`. An answer that does not hold is asked for again until the time is up; a redirect is an answer, and not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Smoke {
    /// A path that is asked for with GET. Needs `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// With `path`: the host that it is asked for under, where the service has none of its own; with a domain one in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// With `path`: the status of the answer; 200 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// With `path`: a text that the answer contains, in its first 256 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// In place of `path`: the command of a one-off task of the new image, with the service's own network and secrets. It runs
    /// once, and its exit code must be 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// How long it may take until it holds; 30 seconds unless given, and 10 minutes for a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
}

impl Smoke {
    /// How long it may take until it holds.
    #[must_use]
    pub fn timeout_seconds(&self) -> u32 {
        let unless_given = if self.path.is_some() { Timeout::of(30) } else { Timeout::default() };
        self.timeout.unwrap_or(unless_given).seconds()
    }
}

/// A gate that an image passes only when ECR's scan found nothing of this severity or above. An image that was live before
/// has passed it. What cannot be judged keeps an image from going live where `production` is true; elsewhere it goes on, and
/// the release says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scan {
    /// The least severity that keeps an image from going live.
    pub block: Severity,
    /// How long the scan's end is waited for; 5 minutes unless given.
    #[serde(default = "default_scan_wait")]
    pub wait: Timeout,
}

fn default_scan_wait() -> Timeout {
    Timeout::of(300)
}

/// How a new version takes the place of the old one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// How long it may take until the new version serves, and again how long the way back may take; at most 6 hours, 10 minutes
    /// unless given.
    #[serde(default)]
    pub deadline: Timeout,
    /// How many of the service's tasks run at least meanwhile, in percent; 100 unless given, and 0 with `host_port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_percent: Option<u16>,
    /// How many tasks of both versions run at most meanwhile, in percent; 200 unless given, and 100 with `host_port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_percent: Option<u16>,
    /// CloudWatch alarms, by name; those of `monitoring` are named like `<app>-<environment>-<service>-5xx`. While one of them is
    /// on, no new image is rolled out; where one goes off before ECS has completed the rollout, what was live before comes back.
    /// So a rollout ends minutes later than without: ECS watches them on after the old tasks are gone, for as long as they take
    /// to judge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<AlarmName>,
    /// How the requests go over from the old tasks to the new ones; `rolling` unless given. The others need `http`, start as many
    /// new tasks as there are old ones, and move requests only once all of the new ones are well. Not with `discovery`,
    /// `stickiness` or `networking: bridge`.
    #[serde(default, skip_serializing_if = "Strategy::is_rolling")]
    pub strategy: Strategy,
    /// With `canary`: how many of the requests the new version gets first, in percent; with `linear`: how many more it gets with
    /// each step. 10 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// With `canary`: how long it gets no more than that; with `linear`: how long each step lasts. In whole minutes; 5 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Timeout>,
    /// With any strategy but `rolling`: how long the old tasks stay, so that ECS can go back at once, after all requests have gone
    /// over. In whole minutes; 5 unless given. The release ends after it. All pauses and this have 12 hours together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<Timeout>,
    /// With any strategy but `rolling`: whether the smoke tests are made before anybody else's requests go over. The load balancer
    /// sends the new version what has the header `x-shipway-test: <service>`, from whomever it comes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test_traffic: bool,
}

/// How the requests go over from the tasks of one version to those of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Task by task: each new one gets requests as soon as it is well, and an old one stops.
    #[default]
    Rolling,
    /// All at once.
    BlueGreen,
    /// A few first, all others later.
    Canary,
    /// In equal steps.
    Linear,
}

/// How many of the requests go over with a step where the manifest does not say, in percent.
const PERCENT: u8 = 10;

/// How long a pause and the bake are where the manifest does not say, in minutes.
const MINUTES: u32 = 5;

impl Strategy {
    fn is_rolling(&self) -> bool {
        *self == Strategy::Rolling
    }
}

impl Rollout {
    fn is_default(&self) -> bool {
        *self == Rollout::default()
    }

    /// Whether ECS moves the requests between the tasks of two versions, and not the tasks one by one.
    #[must_use]
    pub fn shifts(&self) -> bool {
        !self.strategy.is_rolling()
    }

    /// How many of the requests the new version gets first, or more with each step, in percent.
    #[must_use]
    pub fn percent(&self) -> u8 {
        self.percent.unwrap_or(PERCENT)
    }

    /// How long each pause between two shares is, in minutes.
    #[must_use]
    pub fn pause_minutes(&self) -> u32 {
        self.pause.map_or(MINUTES, |pause| pause.seconds() / 60)
    }

    /// How long the old tasks stay after all requests have gone over, in minutes; 0 where they go one by one.
    #[must_use]
    pub fn bake_minutes(&self) -> u32 {
        match self.strategy {
            Strategy::Rolling => 0,
            Strategy::BlueGreen | Strategy::Canary | Strategy::Linear => {
                self.bake.map_or(MINUTES, |bake| bake.seconds() / 60)
            }
        }
    }
}

checked_text!(
    /// A CloudWatch alarm's name.
    AlarmName, "^.{1,255}$", "an alarm's name: up to 255 characters, and no ARN",
    |text| (1..=255).contains(&text.chars().count()) && !text.starts_with("arn:") && !text.contains(char::is_control)
);

/// How bad a finding of a scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

/// Whether a person must approve a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// By `shipway approve`, or by an answer to the callback of the release's execution.
    Required,
}
