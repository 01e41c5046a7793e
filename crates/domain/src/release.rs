//! Releases, and who may change a component: what is desired, what is live, and the claim that lets one run at a time write.
//!
//! All rules are here as pure functions; `shipway-aws` stores what they decide, each write conditioned on the claim.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::{
    approval::Asked,
    event,
    failure::Failure,
    keeping,
    manifest::PublicImage,
    name::{AppName, Component, Digest, EnvironmentName, ReleaseId, RepositoryName},
    rotation::Rotation,
};

/// How long a claim is good for without being renewed. Every pass of a run renews it; a pass is at most 15 minutes, a
/// function's own limit, so a claim that ran out belongs to nobody.
pub const LEASE: SignedDuration = SignedDuration::from_mins(16);

/// How long a release that must queue waits before it looks again.
pub const QUEUE_SECONDS: u32 = 15;

/// How many artifacts that were live are remembered for each component: the one that is live, and as many before it as images may
/// be kept.
pub const HISTORY: usize = keeping::MOST as usize + 1;

/// How the names of executions begin that start-release starts. Any other execution is a person's, and as new as its start.
pub const EVENT_PREFIX: &str = "event-";

/// What was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Artifact {
    /// An image, by the digest that its tag meant when it was pushed.
    Image {
        /// The repository it is in.
        repository: RepositoryName,
        /// Its digest.
        digest: Digest,
    },
    /// An image that is not of this account, as the manifest names it.
    Public {
        /// The image.
        image: PublicImage,
    },
    /// One version of one object in the intake bucket: a manifest or a site's zip.
    Object {
        /// The object's key.
        #[serde(deserialize_with = "key")]
        key: String,
        /// Its version.
        #[serde(deserialize_with = "version")]
        version: String,
    },
    /// That there is nothing any more: what a teardown makes of a platform.
    Nothing,
}

/// A key that the intake bucket takes.
fn key<'de, D: Deserializer<'de>>(read: D) -> Result<String, D::Error> {
    let text = String::deserialize(read)?;
    if event::is_key(&text) { Ok(text) } else { Err(Error::custom(event::KEY_RULE)) }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/versioning-workflows.html>
fn version<'de, D: Deserializer<'de>>(read: D) -> Result<String, D::Error> {
    let text = String::deserialize(read)?;
    if event::is_version(&text) { Ok(text) } else { Err(Error::custom(event::VERSION_RULE)) }
}

impl std::fmt::Display for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Artifact::Image { repository, digest } => write!(f, "{repository}@sha256:{}", digest.short()),
            Artifact::Public { image } => f.write_str(image.as_str()),
            Artifact::Object { key, version } => {
                write!(f, "{key} ({})", version.chars().take(8).collect::<String>())
            }
            Artifact::Nothing => f.write_str("nothing"),
        }
    }
}

/// When an artifact came to be wanted, so that the newest of several can be told whatever order their events come in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Order {
    /// An image's push time, an object's creation, or the moment a person asked.
    pub at: Timestamp,
    /// An object's sequencer: hexadecimal, comparable between versions of one key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequencer: Option<String>,
}

impl Order {
    /// Whether `artifact`, ordered by `self`, is newer than `other`'s.
    ///
    /// Two versions of one key are told apart by their sequencers, compared as S3 says: the shorter one padded on the right
    /// with zeros, then as text. Anything else by its time; events of one second, which is all that their time tells, by
    /// their sequencers too, so that every order of arrival comes to the same end.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>
    pub fn is_newer_than(&self, other: &Order, same_key: bool) -> bool {
        match (same_key, &self.sequencer, &other.sequencer) {
            (_, Some(mine), Some(theirs)) if same_key || self.at == other.at => {
                let width = mine.len().max(theirs.len());
                let pad = |text: &str| format!("{:0<width$}", text.to_ascii_uppercase());
                pad(mine) > pad(theirs)
            }
            _ => self.at > other.at,
        }
    }

    /// Whether nothing tells which of the two is newer. Then the one that comes last is taken for it.
    fn ties_with(&self, other: &Order) -> bool {
        self.at == other.at && (self.sequencer.is_none() || other.sequencer.is_none())
    }
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The artifact is live, and was not before.
    Succeeded,
    /// The artifact was live already; nothing was changed.
    Unchanged,
    /// A newer artifact took over before this one was live.
    Superseded,
    /// The input was at fault; nothing was changed.
    Rejected,
    /// The artifact did not hold; what was live before serves again.
    RolledBack,
    /// The artifact did not go live and nothing took its place, or a person must look.
    Failed,
}

impl Outcome {
    /// Whether the component now has the artifact that the release was for.
    pub const fn is_live(self) -> bool {
        matches!(self, Outcome::Succeeded | Outcome::Unchanged)
    }

    /// What a success is by the release's story: every function writes a step when it changes something, so a success without
    /// one changed nothing.
    pub fn told_by(self, steps: &[Step]) -> Outcome {
        match self {
            Outcome::Succeeded if steps.is_empty() => Outcome::Unchanged,
            outcome => outcome,
        }
    }

    /// The word, as records and machines write it.
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Unchanged => "unchanged",
            Outcome::Superseded => "superseded",
            Outcome::Rejected => "rejected",
            Outcome::RolledBack => "rolled_back",
            Outcome::Failed => "failed",
        }
    }

    /// The outcome of a release that ended with this error.
    pub const fn of_failure(failure: Failure) -> Outcome {
        match failure {
            Failure::RejectedInput
            | Failure::RejectedManifest
            | Failure::RejectedImage
            | Failure::RejectedScan
            | Failure::RejectedApproval
            | Failure::RejectedArchive(_) => Outcome::Rejected,
            Failure::Superseded => Outcome::Superseded,
            Failure::Denied
            | Failure::Quota
            | Failure::Conflict
            | Failure::Timeout
            | Failure::Transient
            | Failure::Migration
            | Failure::Preflight
            | Failure::Smoke
            | Failure::Bug => Outcome::Failed,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// The newest artifact wanted for a component.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wanted {
    /// What is wanted.
    pub artifact: Artifact,
    /// When it came to be wanted.
    pub order: Order,
    /// The name of the execution that makes it live. Starting it again by this name is idempotent, so an event that comes
    /// twice, or a start that was cut off, ends in one execution.
    pub execution: String,
    /// When it was written down, on Shipway's own clock.
    pub since: Timestamp,
    /// What it took the place of although it is not older by its order: ECR tells the second of a push and no more. An event
    /// for one of these that comes again is late.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outranked: Vec<Artifact>,
}

impl Wanted {
    /// Whether it is newer than what a person started then: by when it was delivered, whenever its event came; within one second, by
    /// when it was written down.
    fn is_newer_than_start(&self, started: Timestamp) -> bool {
        let (second, delivered) = (whole_second(started), whole_second(self.order.at));
        delivered > second || (delivered == second && self.since > started)
    }

    /// Whether the sweep found it: then no other version of its key is newer that came in its second. An event would have told its
    /// sequencer. If what a person made live came to be wanted again since, that is taken for it too, and the sweep looks again.
    fn was_swept(&self) -> bool {
        self.order.sequencer.is_none() && self.execution.starts_with(EVENT_PREFIX)
    }

    /// What is to be remembered as outranked by what takes its place within its second.
    fn and_outranked(&self) -> Vec<Artifact> {
        let mut outranked = self.outranked.clone();
        outranked.insert(0, self.artifact.clone());
        outranked.truncate(HISTORY);
        outranked
    }

    /// What a person's release that takes its place outranks within the second of its start.
    fn outranked_by(&self, contender: &Contender) -> Vec<Artifact> {
        if whole_second(self.order.at) != whole_second(contender.started_at) {
            return Vec::new();
        }
        let mut outranked = self.and_outranked();
        outranked.retain(|artifact| *artifact != contender.artifact);
        outranked
    }
}

/// What serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Live {
    /// What serves.
    pub artifact: Artifact,
    /// The release that made it live.
    pub release: ReleaseId,
    /// Since when.
    pub since: Timestamp,
}

/// The right to change a component.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// Who holds it.
    pub release: ReleaseId,
    /// Grows with every claim on this component. A write that names an older number is refused.
    pub fence: u64,
    /// When it runs out unless it is renewed.
    pub until: Timestamp,
    /// Set when a migration starts: from then on a newer release queues instead of taking over.
    #[serde(default)]
    pub committed: bool,
}

/// A component's state: one item of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ComponentState {
    /// The newest artifact wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Wanted>,
    /// The public image that the manifest named when what is wanted was last decided by it. A person may have gone back from
    /// it since, and that stands until the manifest names another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<PublicImage>,
    /// What serves now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
    /// Who may change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// The last fencing number given.
    #[serde(default)]
    pub fence: u64,
    /// Releases that began to write and did not end well: what they wrote may still be there, so nothing they touched is
    /// taken for unchanged. A site's publication clears it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<ReleaseId>,
    /// What was live, the newest first, at most [`HISTORY`] of it: what a rollback can go back to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Live>,
    /// What is known of a service's secrets, where its tasks are replaced when one is rotated.
    #[serde(default, skip_serializing_if = "Rotation::is_default")]
    pub rotation: Rotation,
    /// Grows with every write: the condition of the next one.
    #[serde(default)]
    pub revision: u64,
}

/// One step of a release's story, as it is appended to its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When it was written.
    pub at: Timestamp,
    /// Which function speaks: `deploy-service`.
    pub by: String,
    /// What happened, in one sentence a person understands at two in the morning.
    pub what: String,
}

/// A release's record: one item of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// Its id.
    pub release: ReleaseId,
    /// The app it belongs to.
    pub app: AppName,
    /// The environment it is for.
    pub environment: EnvironmentName,
    /// What it is a release of.
    pub component: Component,
    /// What it makes live.
    pub artifact: Artifact,
    /// The execution that it is.
    pub execution: String,
    /// When the execution started.
    pub started_at: Timestamp,
    /// What the releases of one push to several services have in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What was live when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Live>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The approval that it needs, once it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Asked>,
    /// Its story.
    #[serde(default)]
    pub steps: Vec<Step>,
}

impl ReleaseRecord {
    /// The record of a release that begins: it belongs to no group, nothing was live before it, and its story is empty.
    #[must_use]
    pub fn opened(
        contender: &Contender,
        app: &AppName,
        environment: &EnvironmentName,
        component: &Component,
    ) -> ReleaseRecord {
        ReleaseRecord {
            release: contender.release.clone(),
            app: app.clone(),
            environment: environment.clone(),
            component: component.clone(),
            artifact: contender.artifact.clone(),
            execution: contender.execution.clone(),
            started_at: contender.started_at,
            group: None,
            previous: None,
            ended_at: None,
            outcome: None,
            reason: None,
            approval: None,
            steps: Vec::new(),
        }
    }

    /// The approval that it waits for now.
    pub fn waits_for(&self) -> Option<&Asked> {
        self.approval.as_ref().filter(|asked| self.outcome.is_none() && asked.approved_by.is_none())
    }
}

/// What start-release does about an artifact that an event announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intake {
    /// Write it down as desired, then start its execution.
    Want(Wanted),
    /// It is desired already: start the execution that was written down with it; if that runs or ran, nothing happens.
    StartAgain(Wanted),
    /// Nothing to do, and why.
    Ignore(String),
}

/// Decides what an announced artifact means for a component, by the component's state alone: the same event any number of
/// times, in any order with others, comes to one execution of the newest artifact.
pub fn take_in(state: &ComponentState, artifact: &Artifact, order: &Order, execution: &str, now: Timestamp) -> Intake {
    let wanted = |outranked| Wanted {
        artifact: artifact.clone(),
        order: order.clone(),
        execution: execution.to_owned(),
        since: now,
        outranked,
    };
    let Some(desired) = &state.desired else {
        return Intake::Want(wanted(Vec::new()));
    };
    if desired.artifact == *artifact {
        return Intake::StartAgain(desired.clone());
    }
    let same_key = matches!((&desired.artifact, artifact),
        (Artifact::Object { key: a, .. }, Artifact::Object { key: b, .. }) if a == b);
    if order.is_newer_than(&desired.order, same_key) {
        Intake::Want(wanted(Vec::new()))
    } else if order.ties_with(&desired.order)
        && !desired.outranked.contains(artifact)
        && !(same_key && desired.was_swept())
    {
        Intake::Want(wanted(desired.and_outranked()))
    } else {
        Intake::Ignore(format!(
            "{artifact} is older than {}, which is wanted since {}",
            desired.artifact, desired.since
        ))
    }
}

/// How long after an artifact came to be wanted the sweep starts its execution once more, should that have been cut off. Later it
/// is left alone: Step Functions forgets the name of an execution 90 days after its end, and would start it as a new one.
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>
pub const START_AGAIN: SignedDuration = SignedDuration::from_mins(30);

/// Decides what the newest delivery that is there means for a component, whether or not an event announced it.
///
/// A listing tells the second of a delivery and no sequencer, but it does tell which version of a key is the current one. So of
/// two versions of one key from the same second this one is the newer, and of two keys or images it is not.
pub fn sweep(state: &ComponentState, found: &Artifact, order: &Order, execution: &str, now: Timestamp) -> Intake {
    let Some(desired) = &state.desired else {
        return take_in(state, found, order, execution, now);
    };
    if desired.artifact == *found {
        return if now.duration_since(desired.since) < START_AGAIN {
            Intake::StartAgain(desired.clone())
        } else {
            Intake::Ignore(format!("{found} is wanted since {}", desired.since))
        };
    }
    let same_key = matches!((&desired.artifact, found),
        (Artifact::Object { key: a, .. }, Artifact::Object { key: b, .. }) if a == b);
    let whole = whole_second(desired.order.at);
    if order.at > desired.order.at || (same_key && order.at == whole && !desired.outranked.contains(found)) {
        let outranked = if order.at == whole { desired.and_outranked() } else { Vec::new() };
        Intake::Want(Wanted {
            artifact: found.clone(),
            order: order.clone(),
            execution: execution.to_owned(),
            since: now,
            outranked,
        })
    } else if desired.execution.starts_with(EVENT_PREFIX) && now.duration_since(desired.since) < START_AGAIN {
        Intake::StartAgain(desired.clone())
    } else {
        Intake::Ignore(format!(
            "{found} is not newer than {}, which is wanted since {}",
            desired.artifact, desired.since
        ))
    }
}

/// Who asks to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// The release.
    pub release: ReleaseId,
    /// What it makes live.
    pub artifact: Artifact,
    /// The name of its execution.
    pub execution: String,
    /// When its execution started.
    pub started_at: Timestamp,
}

/// The answer to a release that asks to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Go: the component's new state, with the claim in it.
    Claim(Box<ComponentState>),
    /// Another release is past the point where it may be stopped: ask again later.
    Queue {
        /// The release that holds the claim.
        behind: ReleaseId,
    },
    /// A newer artifact is wanted.
    Superseded {
        /// The newer artifact.
        by: Artifact,
    },
}

/// Decides whether a release may begin. The newest intent wins: an execution that start-release wrote down is as new as its
/// artifact; one that a person started is as new as its start, and becomes what is desired.
pub fn begin(state: &ComponentState, contender: &Contender, now: Timestamp) -> Begin {
    let mut next = state.clone();
    if state.desired.as_ref().is_none_or(|desired| desired.execution != contender.execution) {
        if let Some(desired) = &state.desired
            && (contender.execution.starts_with(EVENT_PREFIX) || desired.is_newer_than_start(contender.started_at))
        {
            return Begin::Superseded { by: desired.artifact.clone() };
        }
        next.desired = Some(Wanted {
            artifact: contender.artifact.clone(),
            // To the second, as pushes are told: a push in the same second comes after what a person asked before it.
            order: Order { at: whole_second(contender.started_at), sequencer: None },
            execution: contender.execution.clone(),
            since: contender.started_at,
            outranked: state.desired.as_ref().map(|desired| desired.outranked_by(contender)).unwrap_or_default(),
        });
    }
    match &state.claim {
        Some(claim) if claim.release == contender.release && claim.until > now => {
            next.claim = Some(Claim { until: until(now), ..claim.clone() });
            Begin::Claim(Box::new(next))
        }
        Some(claim) if claim.committed && claim.until > now => Begin::Queue { behind: claim.release.clone() },
        _ => {
            next.fence = state.fence + 1;
            next.claim = Some(Claim {
                release: contender.release.clone(),
                fence: next.fence,
                until: until(now),
                committed: false,
            });
            Begin::Claim(Box::new(next))
        }
    }
}

/// What a teardown does about what may still change one of the environment's components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Yield {
    /// Nobody may: go on.
    Idle,
    /// Whoever may can be stopped: the component's new state, in which nobody has the claim.
    Stopped(Box<ComponentState>),
    /// Whoever may must not be stopped where it is: ask again later.
    Wait {
        /// The release that holds the claim.
        behind: ReleaseId,
    },
}

/// Decides how a component's release makes way for the teardown of its environment, by the rule for any newer release. A claim
/// that ran out is taken away too: who comes back with it later must not write.
pub fn make_way(state: &ComponentState, now: Timestamp) -> Yield {
    match &state.claim {
        None => Yield::Idle,
        Some(claim) if claim.committed && claim.until > now => Yield::Wait { behind: claim.release.clone() },
        Some(_) => Yield::Stopped(Box::new(ComponentState { claim: None, ..state.clone() })),
    }
}

/// The component's state after its release ended. `None` when the release no longer holds the claim: then it may write
/// nothing, and its outcome is [`Outcome::Superseded`].
pub fn end(
    state: &ComponentState,
    release: &ReleaseId,
    fence: u64,
    artifact: &Artifact,
    outcome: Outcome,
    now: Timestamp,
) -> Option<ComponentState> {
    state.claim.as_ref().filter(|claim| claim.release == *release && claim.fence == fence)?;
    let mut next = state.clone();
    next.claim = None;
    if outcome.is_live() && *artifact == Artifact::Nothing {
        next.live = None;
        next.unfinished.clear();
    } else if outcome.is_live() {
        let stays = state.live.as_ref().is_some_and(|live| live.artifact == *artifact) && outcome == Outcome::Unchanged;
        if !stays {
            let live = Live { artifact: artifact.clone(), release: release.clone(), since: now };
            // An image with other settings, or restarted, is one thing to go back to.
            let is_image = matches!(artifact, Artifact::Image { .. } | Artifact::Public { .. });
            if is_image && next.history.first().is_some_and(|before| before.artifact == *artifact) {
                next.history.remove(0);
            }
            next.history.insert(0, live.clone());
            next.history.truncate(HISTORY);
            next.live = Some(live);
        }
        next.unfinished.clear();
    }
    Some(next)
}

impl ComponentState {
    /// Whether this artifact was live before: making it live again is a rollback, and migrates nothing.
    pub fn was_live(&self, artifact: &Artifact) -> bool {
        self.history.iter().any(|live| live.artifact == *artifact)
    }

    /// Whether what is wanted stays by a manifest that takes images from this repository.
    #[must_use]
    pub fn stays_of(&self, repository: &RepositoryName) -> bool {
        let artifact = self.desired.as_ref().map(|desired| &desired.artifact);
        matches!(artifact, Some(Artifact::Image { repository: own, .. }) if own == repository)
    }

    /// Whether what is wanted stays by a manifest that names this public image: it is the one, or a person went back from it.
    #[must_use]
    pub fn stays_with(&self, image: &PublicImage) -> bool {
        let artifact = self.desired.as_ref().map(|desired| &desired.artifact);
        matches!(artifact, Some(Artifact::Public { image: own }) if own == image || self.named.as_ref() == Some(image))
    }

    /// What is wanted, wanted again by the new manifest of a platform that stands since `stands`, under an execution's name that
    /// is the same for the same provisioning. Whether it is live, under way or failed: only a release that begins after the
    /// platform stands knows what the manifest says now, and that may be what the failed one lacked. `None` where nothing was
    /// ever wanted, or what is wanted came after.
    pub fn refreshed(&self, execution: &str, stands: Timestamp, now: Timestamp) -> Option<Wanted> {
        let desired = self.desired.as_ref()?;
        if desired.execution == execution {
            return Some(desired.clone());
        }
        (desired.since < stands).then(|| Wanted { execution: execution.to_owned(), since: now, ..desired.clone() })
    }
}

/// The longest name of an execution, of letters that its logs take.
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>
const LONGEST_NAME: usize = 80;

/// The name of the execution that makes an artifact live: readable in the console, and its own for each time it is wanted. All apps
/// and environments share a machine, and one image may be for several of them in the same millisecond.
pub fn execution_name(
    app: &AppName,
    environment: &EnvironmentName,
    component: &Component,
    artifact: &Artifact,
    since: &str,
) -> String {
    use sha2::Digest as _;
    let name = match component {
        Component::Platform => "platform",
        Component::Service(name) | Component::Site(name) => name.as_str(),
        Component::Preview(_, name) => name.as_str(),
    };
    let hash = |text: &str| -> String {
        sha2::Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    };
    let what = match artifact {
        Artifact::Image { digest, .. } => digest.short().to_owned(),
        Artifact::Public { image } => hash(image.as_str()),
        Artifact::Object { key, version } => hash(&format!("{key}\n{version}")),
        Artifact::Nothing => artifact.to_string(),
    };
    // No name has the sign between them.
    let place = format!("{app}_{environment}_{name}");
    let rest = format!("-{what}-{since}");
    if EVENT_PREFIX.len() + place.len() + rest.len() <= LONGEST_NAME {
        return format!("{EVENT_PREFIX}{place}{rest}");
    }
    format!("{EVENT_PREFIX}{name:.20}_{}{rest}", hash(&place))
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// When a claim made or renewed now runs out.
pub fn until(now: Timestamp) -> Timestamp {
    now.checked_add(LEASE).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn image(n: u8) -> Artifact {
        Artifact::Image { repository: "hello-api".parse().unwrap(), digest: format!("sha256:{n:02x}").parse().unwrap() }
    }

    fn order(second: i64) -> Order {
        Order { at: at(second), sequencer: None }
    }

    fn id(n: u8) -> ReleaseId {
        ReleaseId::of_execution(&format!("arn:{n}"), at(i64::from(n)))
    }

    fn contender(n: u8, execution: &str, started: i64) -> Contender {
        Contender { release: id(n), artifact: image(n), execution: execution.to_owned(), started_at: at(started) }
    }

    fn wanting(n: u8, second: i64) -> ComponentState {
        let Intake::Want(wanted) =
            take_in(&ComponentState::default(), &image(n), &order(second), &format!("event-{n}"), at(second))
        else {
            panic!("an empty component wants anything")
        };
        ComponentState { desired: Some(wanted), ..ComponentState::default() }
    }

    fn claimed(begin: Begin) -> ComponentState {
        match begin {
            Begin::Claim(state) => *state,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_what_was_wanted_before_a_platform_stood_is_wanted_again_by_its_manifest() {
        let state = wanting(1, 10);
        let again = state.refreshed("event-again", at(11), at(12)).unwrap();
        assert_eq!((again.artifact.clone(), again.order.clone(), again.since), (image(1), order(10), at(12)));
        assert_eq!(again.execution, "event-again");
        assert_eq!(state.refreshed("event-again", at(10), at(12)), None);
        assert_eq!(ComponentState::default().refreshed("event-again", at(11), at(12)), None);
        // Asked again after a cut it is the same, although it came after the platform stood.
        let state = ComponentState { desired: Some(again.clone()), ..state };
        assert_eq!(state.refreshed("event-again", at(11), at(13)), Some(again));
    }

    #[test]
    fn a_public_image_stays_until_the_manifest_names_another_one_even_where_a_person_went_back_from_it() {
        let public = |tag: &str| PublicImage::try_from(format!("docker.io/library/nginx:{tag}")).unwrap();
        let wanting = |artifact, named: Option<&str>| ComponentState {
            desired: Some(Wanted { artifact, ..wanting(1, 0).desired.unwrap() }),
            named: named.map(public),
            ..ComponentState::default()
        };
        let of = |tag: &str| Artifact::Public { image: public(tag) };
        assert!(!ComponentState::default().stays_with(&public("1")));
        assert!(wanting(of("1"), None).stays_with(&public("1")));
        assert!(wanting(of("1"), Some("2")).stays_with(&public("2")), "a person went back from 2 to 1");
        assert!(!wanting(of("1"), Some("2")).stays_with(&public("3")));
        assert!(!wanting(image(1), Some("2")).stays_with(&public("2")), "images came from a repository in between");
        assert!(wanting(image(1), None).stays_of(&"hello-api".parse().unwrap()));
        assert!(
            !wanting(image(1), None).stays_of(&"other".parse().unwrap())
                && !wanting(of("1"), None).stays_of(&"hello-api".parse().unwrap())
        );
    }

    #[test]
    fn a_success_without_a_step_changed_nothing() {
        let step = Step { at: at(0), by: "sync-frontend".into(), what: "uploaded 3 objects".into() };
        assert_eq!(Outcome::Succeeded.told_by(&[]), Outcome::Unchanged);
        assert_eq!(Outcome::Succeeded.told_by(&[step]), Outcome::Succeeded);
        assert_eq!(Outcome::Failed.told_by(&[]), Outcome::Failed);
    }

    #[test]
    fn the_same_artifact_again_starts_the_execution_that_was_written_down_with_it() {
        let state = wanting(1, 0);
        assert_eq!(
            take_in(&state, &image(1), &order(9), "event-other", at(9)),
            Intake::StartAgain(state.desired.clone().unwrap())
        );
    }

    #[test]
    fn an_older_artifact_that_comes_late_is_ignored() {
        assert!(matches!(take_in(&wanting(2, 10), &image(1), &order(5), "event-1", at(11)), Intake::Ignore(_)));
    }

    #[test]
    fn of_two_images_pushed_in_one_second_the_later_event_wins_and_the_earlier_one_again_is_late() {
        let state = wanting(1, 0);
        let Intake::Want(wanted) = take_in(&state, &image(2), &order(0), "event-2", at(1)) else { panic!() };
        let state = ComponentState { desired: Some(wanted), ..state };
        assert!(matches!(take_in(&state, &image(1), &order(0), "event-1b", at(2)), Intake::Ignore(_)));
        assert!(matches!(take_in(&state, &image(2), &order(0), "event-2b", at(2)), Intake::StartAgain(_)));
    }

    fn manifest(version: u8) -> Artifact {
        Artifact::Object { key: "apps/hello/prod/shipway.yaml".to_owned(), version: version.to_string() }
    }

    fn torn_down(state: &ComponentState, started: i64) -> ComponentState {
        let contender = Contender { artifact: Artifact::Nothing, ..contender(9, "by-hand", started) };
        claimed(begin(state, &contender, at(started)))
    }

    #[test]
    fn a_teardown_wants_nothing_and_only_a_manifest_that_comes_after_it_is_wanted_again() {
        let sequenced = |second| Order { at: at(second), sequencer: Some(format!("{second:04X}")) };
        let take = |state: &ComponentState, version: u8, second| {
            take_in(state, &manifest(version), &sequenced(second), "event-again", at(second))
        };
        let Intake::Want(desired) = take(&ComponentState::default(), 1, 10) else { panic!() };
        let state = torn_down(&ComponentState { desired: Some(desired), ..ComponentState::default() }, 20);
        assert_eq!(state.desired.as_ref().unwrap().artifact, Artifact::Nothing);
        assert!(matches!(take(&state, 1, 10), Intake::Ignore(_)), "the event that provisioned it comes late");
        assert!(matches!(take(&state, 2, 30), Intake::Want(_)));
        let ended = end(&state, &id(9), 1, &Artifact::Nothing, Outcome::Succeeded, at(40)).unwrap();
        assert!(matches!(take(&ended, 1, 10), Intake::Ignore(_)), "and after the teardown too");
        assert!(matches!(take(&ended, 2, 30), Intake::Want(_)));
    }

    #[test]
    fn where_nothing_is_live_after_a_teardown_what_was_live_is_still_remembered() {
        let first = claimed(begin(&ComponentState::default(), &contender(1, "by-hand", 0), at(0)));
        let live = end(&first, &id(1), 1, &image(1), Outcome::Succeeded, at(1)).unwrap();
        let gone = end(&torn_down(&live, 5), &id(9), 2, &Artifact::Nothing, Outcome::Succeeded, at(6)).unwrap();
        assert_eq!((gone.live.clone(), gone.claim.clone()), (None, None));
        assert!(gone.was_live(&image(1)) && !gone.was_live(&Artifact::Nothing));
    }

    #[test]
    fn a_release_makes_way_for_a_teardown_unless_it_must_not_be_stopped() {
        let mut state = claimed(begin(&wanting(1, 0), &contender(1, "event-1", 0), at(0)));
        let Yield::Stopped(stopped) = make_way(&state, at(1)) else { panic!() };
        assert_eq!(*stopped, ComponentState { claim: None, ..state.clone() });
        assert_eq!(make_way(&stopped, at(1)), Yield::Idle);
        state.claim.as_mut().unwrap().committed = true;
        assert_eq!(make_way(&state, at(1)), Yield::Wait { behind: id(1) });
        assert_eq!(make_way(&state, until(at(0))), Yield::Stopped(stopped));
    }

    #[test]
    fn a_push_in_the_second_of_a_rollback_comes_after_it() {
        let started = at(20).checked_add(SignedDuration::from_millis(500)).unwrap();
        let by_hand = Contender { started_at: started, ..contender(1, "by-hand", 20) };
        let state = claimed(begin(&wanting(2, 10), &by_hand, started));
        assert!(matches!(take_in(&state, &image(3), &order(20), "event-3", at(21)), Intake::Want(_)));
    }

    #[test]
    fn an_execution_is_named_apart_for_each_app_and_environment_and_never_too_long() {
        let digest = format!("sha256:{}", "5b".repeat(32)).parse().unwrap();
        let image = Artifact::Image { repository: "shared".parse().unwrap(), digest };
        let name = |app: &str, environment: &str, component: &str| {
            let (app, environment) = (app.parse().unwrap(), environment.parse().unwrap());
            execution_name(&app, &environment, &component.parse().unwrap(), &image, id(1).as_str())
        };
        assert_eq!(name("shop", "dev", "service/api"), format!("event-shop_dev_api-5b5b5b5b5b5b-{}", id(1)));
        assert_ne!(name("shop", "dev", "service/api"), name("shop", "prod", "service/api"));
        assert_ne!(name("shop", "dev", "service/api"), name("desk", "dev", "service/api"));
        assert_ne!(name("a-b", "c", "service/api"), name("a", "b-c", "service/api"));
        let (long, other) = ("a".repeat(40), format!("{}b", "a".repeat(19)));
        let longest = name(&long[..20], &long[..12], &format!("service/{}", &long[..20]));
        assert!(longest.len() <= LONGEST_NAME && longest.ends_with(id(1).as_str()), "{longest}");
        assert_ne!(longest, name(&other, &long[..12], &format!("service/{}", &long[..20])));
        assert!(name(&long[..20], &long[..12], &format!("preview/web/{long}")).len() <= LONGEST_NAME);
    }

    #[test]
    fn sequencers_of_one_key_are_compared_padded_on_the_right() {
        let with = |sequencer: &str, second| Order { at: at(second), sequencer: Some(sequencer.to_owned()) };
        assert!(with("006408CAD69598B05F", 0).is_newer_than(&with("006408CAD69598B05E", 9), true));
        assert!(!with("0064", 9).is_newer_than(&with("00640001", 0), true));
        assert!(with("0064", 9).is_newer_than(&with("0065", 0), false), "of two keys, time tells");
    }

    #[test]
    fn an_execution_of_an_event_whose_artifact_is_no_longer_wanted_is_superseded_however_late_it_starts() {
        let state = wanting(2, 10);
        assert_eq!(begin(&state, &contender(1, "event-1", 99), at(99)), Begin::Superseded { by: image(2) });
    }

    #[test]
    fn a_person_who_starts_an_older_artifact_now_gets_it_and_it_becomes_what_is_desired() {
        let state = claimed(begin(&wanting(2, 10), &contender(1, "by-hand", 20), at(20)));
        assert_eq!(state.desired.unwrap().artifact, image(1));
    }

    #[test]
    fn a_person_who_started_before_a_newer_push_is_superseded_by_it() {
        assert_eq!(begin(&wanting(2, 10), &contender(1, "by-hand", 5), at(11)), Begin::Superseded { by: image(2) });
    }

    #[test]
    fn an_event_that_comes_late_does_not_outdo_what_a_person_started_after_its_push() {
        let Intake::Want(late) = take_in(&ComponentState::default(), &image(2), &order(10), "event-2", at(30)) else {
            panic!()
        };
        let state = ComponentState { desired: Some(late), ..ComponentState::default() };
        let state = claimed(begin(&state, &contender(1, "by-hand", 20), at(31)));
        assert_eq!(state.desired.unwrap().artifact, image(1));
    }

    #[test]
    fn what_a_person_started_is_not_taken_over_by_an_older_execution_of_the_same_artifact() {
        let state = claimed(begin(&wanting(2, 10), &contender(1, "by-hand", 20), at(20)));
        let older = |execution: &str| Contender { artifact: image(1), ..contender(3, execution, 5) };
        for execution in ["event-1", "by-hand-too"] {
            assert_eq!(begin(&state, &older(execution), at(21)), Begin::Superseded { by: image(1) }, "{execution}");
        }
    }

    #[test]
    fn an_event_of_the_second_in_which_a_person_went_back_does_not_undo_that_when_it_comes_again() {
        let Intake::Want(wanted) = take_in(&wanting(2, 20), &image(3), &order(20), "event-3", at(20)) else { panic!() };
        let state = ComponentState { desired: Some(wanted), ..ComponentState::default() };
        let started = at(20).checked_add(SignedDuration::from_millis(500)).unwrap();
        let by_hand = Contender { started_at: started, ..contender(1, "by-hand", 20) };
        let state = claimed(begin(&state, &by_hand, started));
        for pushed in [2, 3] {
            let again = take_in(&state, &image(pushed), &order(20), "event-again", at(21));
            assert!(matches!(again, Intake::Ignore(_)), "{again:?}");
        }
    }

    #[test]
    fn a_sweep_remembers_all_that_was_outranked_in_its_second() {
        let state = ComponentState { desired: None, ..wanting(1, 0) };
        let of = |version: u8| (manifest(version), Order { at: at(7), sequencer: None });
        let take = |state: &ComponentState, version: u8, sweeps: bool| {
            let (artifact, order) = of(version);
            let decided = match sweeps {
                true => sweep(state, &artifact, &order, "event", at(200)),
                false => take_in(state, &artifact, &order, "event", at(8)),
            };
            let Intake::Want(wanted) = decided else { panic!("{decided:?}") };
            ComponentState { desired: Some(wanted), ..state.clone() }
        };
        let state = take(&take(&take(&state, 1, false), 2, false), 3, true);
        assert_eq!(state.desired.unwrap().outranked, [manifest(2), manifest(1)]);
    }

    #[test]
    fn after_a_sweep_the_event_of_another_version_of_its_second_is_late() {
        let swept = Order { at: at(7), sequencer: None };
        let Intake::Want(wanted) = sweep(&ComponentState::default(), &manifest(2), &swept, "event-2", at(200)) else {
            panic!()
        };
        let state = ComponentState { desired: Some(wanted), ..ComponentState::default() };
        let sequenced = Order { sequencer: Some("0064".to_owned()), ..swept };
        let late = take_in(&state, &manifest(1), &sequenced, "event-1", at(201));
        assert!(matches!(late, Intake::Ignore(_)), "{late:?}");
    }

    #[test]
    fn what_a_person_went_back_from_in_its_own_second_is_not_swept() {
        let of = |at| Order { at, sequencer: None };
        let Intake::Want(wanted) = take_in(&ComponentState::default(), &manifest(2), &of(at(20)), "event-2", at(20))
        else {
            panic!()
        };
        let state = ComponentState { desired: Some(wanted), ..ComponentState::default() };
        let started = at(20).checked_add(SignedDuration::from_millis(500)).unwrap();
        let by_hand = Contender { artifact: manifest(1), started_at: started, ..contender(1, "by-hand", 20) };
        let state = claimed(begin(&state, &by_hand, started));
        let swept = sweep(&state, &manifest(2), &of(at(20)), "event-again", at(300));
        assert!(matches!(swept, Intake::Ignore(_)), "{swept:?}");
    }

    #[test]
    fn the_sweep_starts_what_is_wanted_again_though_it_finds_another_image_of_its_second() {
        let state = wanting(1, 10);
        let swept = |now| sweep(&state, &image(2), &order(10), "event-2", at(now));
        assert_eq!(swept(300), Intake::StartAgain(state.desired.clone().unwrap()));
        assert!(matches!(swept(86_400), Intake::Ignore(_)));
    }

    #[test]
    fn a_newer_release_takes_over_until_a_migration_starts_and_queues_from_then_on() {
        let first = claimed(begin(&wanting(1, 0), &contender(1, "event-1", 0), at(0)));
        let mut state = ComponentState { desired: wanting(2, 5).desired, ..first };
        let taken = claimed(begin(&state, &contender(2, "event-2", 6), at(6)));
        assert_eq!(taken.claim.as_ref().unwrap().fence, 2);
        state.claim.as_mut().unwrap().committed = true;
        assert_eq!(begin(&state, &contender(2, "event-2", 6), at(6)), Begin::Queue { behind: id(1) });
    }

    #[test]
    fn a_claim_that_ran_out_is_taken_over_with_a_higher_number() {
        let mut state = claimed(begin(&wanting(1, 0), &contender(1, "event-1", 0), at(0)));
        state.claim.as_mut().unwrap().committed = true;
        state.desired = wanting(2, 5).desired;
        let later = at(0).checked_add(LEASE).unwrap();
        assert_eq!(claimed(begin(&state, &contender(2, "event-2", 6), later)).claim.unwrap().fence, 2);
    }

    #[test]
    fn a_release_that_begins_twice_keeps_its_fencing_number() {
        let state = claimed(begin(&wanting(1, 0), &contender(1, "event-1", 0), at(0)));
        let again = claimed(begin(&state, &contender(1, "event-1", 0), at(1)));
        assert_eq!(again.claim.unwrap().fence, 1);
    }

    #[test]
    fn only_the_holder_of_the_claim_ends_it_and_what_went_live_is_remembered() {
        let state = claimed(begin(&wanting(1, 0), &contender(1, "event-1", 0), at(0)));
        assert_eq!(end(&state, &id(1), 7, &image(1), Outcome::Succeeded, at(2)), None);
        let ended = end(&state, &id(1), 1, &image(1), Outcome::Succeeded, at(2)).unwrap();
        assert_eq!(ended.live.as_ref().unwrap().artifact, image(1));
        assert!(ended.was_live(&image(1)) && ended.claim.is_none());
    }

    #[test]
    fn an_image_that_is_released_again_pushes_none_out_of_what_is_remembered() {
        let mut state = ComponentState::default();
        for (number, image_number) in [(1, 1), (2, 2), (3, 2), (4, 1)] {
            let contender = Contender { artifact: image(image_number), ..contender(number, "by-hand", 10) };
            let begun = claimed(begin(&state, &contender, at(10)));
            let fence = begun.fence;
            state = end(&begun, &id(number), fence, &image(image_number), Outcome::Succeeded, at(11)).unwrap();
        }
        let history: Vec<_> = state.history.iter().map(|live| (live.artifact.clone(), live.release.clone())).collect();
        assert_eq!(history, [(image(1), id(4)), (image(2), id(3)), (image(1), id(1))]);
    }

    #[test]
    fn a_release_that_did_not_go_live_leaves_live_as_it_was() {
        let state = claimed(begin(&wanting(1, 0), &contender(1, "event-1", 0), at(0)));
        for outcome in [Outcome::RolledBack, Outcome::Failed, Outcome::Rejected, Outcome::Superseded] {
            assert_eq!(end(&state, &id(1), 1, &image(1), outcome, at(2)).unwrap().live, None, "{outcome}");
        }
    }

    proptest! {
        /// Whatever events come, how often and in which order: the newest artifact is what is desired in the end, and each
        /// artifact was given one execution at most.
        #[test]
        fn any_multiset_of_events_in_any_order_converges_to_the_newest(events in prop::collection::vec(0u8..6, 1..40)) {
            let mut state = ComponentState::default();
            let mut executions = std::collections::BTreeMap::new();
            for (step, n) in events.iter().enumerate() {
                let name = format!("event-{n}-{step}");
                match take_in(&state, &image(*n), &order(i64::from(*n)), &name, at(step as i64)) {
                    Intake::Want(wanted) => {
                        prop_assert_eq!(executions.insert(*n, wanted.execution.clone()), None);
                        state.desired = Some(wanted);
                    }
                    Intake::StartAgain(wanted) => prop_assert_eq!(executions.get(n), Some(&wanted.execution)),
                    Intake::Ignore(_) => {}
                }
            }
            prop_assert_eq!(state.desired.unwrap().artifact, image(*events.iter().max().unwrap()));
        }
    }
}
