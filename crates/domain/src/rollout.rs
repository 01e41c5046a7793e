//! The verdict on a rollout: what a service's deployments, tasks and targets say about the release that asked for them.
//!
//! *Succeeded* means: the deployment that this release asked for is the primary one, as many of its tasks run as the service
//! wants, they run this release's digest, and the load balancer finds each of them healthy. That is *serving*; the old tasks may
//! still be draining, and nobody waits for them. Anything else is rolled back, superseded or failed, with its cause.
//!
//! ECS's own circuit breaker is switched on without its rollback. On, because a deployment it gave up starts no more tasks: a
//! crash loop ends even if every function of Shipway is dead. Without rollback, because a service has one writer: going
//! back is this module's decision, to the revision of the live release, which is not always the one that ECS ran last.
//!
//! Alarms are another matter: they judge what serves already, and ECS watches them for minutes after that. So a rollout with
//! alarms has succeeded only when ECS has completed it, and ECS goes back by itself when one goes off, also where nobody looks.
//! That is told apart from success and from a stranger's deployment.
//!
//! So are strategies that move requests ([`shift`]): ECS moves them, the old tasks run on meanwhile, and going back is asked of
//! ECS, as it only has to move the requests back. Where it is over already, a deployment of the live version brings it back.

pub mod attempt;
pub mod drift;
pub mod scaling;
pub mod shift;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    keeping,
    manifest::{self, Timeout},
    message::Verdict,
    network::NetworkOutputs,
    platform::Alternate,
    release::Outcome,
    rotation::Rotated,
    task::{Placement, Revision, Task, TaskError, Wanted, clipped},
};
use attempt::{Attempt, Status};
use scaling::Scaling;
use shift::Shift;

/// How the step begins that says that a release does not hold: the tasks that start from then on are not its own.
pub const GIVING_UP: &str = "giving up";

/// How long ECS may go on watching the alarms of a deployment that serves: until the old tasks have drained, an hour at most,
/// and then for as long as the alarms take to judge, which it computes and nobody can set.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-alarm-failure.html>
pub const WATCHED: SignedDuration = SignedDuration::from_hours(3);

/// How long ECS may still show what was before a change: its answers are eventually consistent.
pub const SETTLE: SignedDuration = SignedDuration::from_secs(60);

/// How long nobody may have seen the change of a call whose answer was lost before it counts as not made.
pub const LOST_ANSWER: SignedDuration = SignedDuration::from_secs(15);

/// How long a task must have run where no load balancer says that it is well.
pub const STEADY: SignedDuration = SignedDuration::from_secs(10);

/// How long a task must have run where another one of its deployment has failed before.
pub const STEADY_AFTER_FAILURE: SignedDuration = SignedDuration::from_secs(30);

/// How long the load balancer may find all tasks of a version unhealthy that was well. It says so only after several bad answers, and
/// ECS begins to replace a task at once; but it stops none before the next one is well, where there is room for both.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeploymentConfiguration.html>
pub const UNWELL: SignedDuration = SignedDuration::from_secs(30);

/// How long a stopped service's tasks are waited for.
const STOP_DEADLINE: SignedDuration = SignedDuration::from_mins(3);

/// How many tasks may end in the same way before the deployment is given up.
const SAME_EXITS: usize = 3;
/// The same for tasks that never started, or that the load balancer found unhealthy: one chance more, since each costs minutes.
const SAME_REFUSALS: usize = 2;
/// The same for tasks that ended in different ways.
const ANY_FAILURES: usize = 5;

/// A version of a service: what runs, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// What runs.
    pub revision: Revision,
    /// How it is reached.
    pub settings: Settings,
}

/// Where a service's tasks are, and how they are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Where they run.
    #[serde(default)]
    pub placement: Placement,
    /// The load balancer's side, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_group: Option<TargetGroup>,
    /// Its entry in the service discovery, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
    /// How many of its tasks run while a new version takes the place of an old one.
    #[serde(default)]
    pub limits: Limits,
    /// The CloudWatch alarms that end a rollout when they go off.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub alarms: BTreeSet<String>,
    /// How requests go over to a new version, where that is not task by task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<Shift>,
}

/// How many tasks of a service run during a deployment, in percent of those that it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// At least so many.
    pub least: u16,
    /// At most so many, of both versions.
    pub most: u16,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { least: 100, most: 200 }
    }
}

impl Limits {
    /// Those of a service. With a fixed port of the instance an old task stops before a new one starts: two cannot have it.
    /// Where ECS moves requests between two versions, all tasks of both run meanwhile.
    #[must_use]
    pub fn of(service: &manifest::Service) -> Limits {
        if service.rollout.shifts() {
            return Limits::default();
        }
        let usual = if service.host_port.is_some() { Limits { least: 0, most: 100 } } else { Limits::default() };
        let rollout = &service.rollout;
        Limits { least: rollout.min_percent.unwrap_or(usual.least), most: rollout.max_percent.unwrap_or(usual.most) }
    }

    /// How many tasks may start before one of so many stops. ECS rounds the upper limit down.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeploymentConfiguration.html>
    #[must_use]
    pub fn surge(self, tasks: u32) -> u32 {
        (tasks.saturating_mul(u32::from(self.most)) / 100).saturating_sub(tasks)
    }

    /// How many of so many may stop before one starts. ECS rounds the lower limit up.
    #[must_use]
    pub fn spare(self, tasks: u32) -> u32 {
        tasks.saturating_sub(tasks.saturating_mul(u32::from(self.least)).div_ceil(100))
    }
}

/// A service's entry in the service discovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    /// Its ARN.
    pub arn: String,
    /// The container and its port, where the entry tells the port too: tasks without an address of their own have one that
    /// only ECS knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<(String, u16)>,
}

impl Settings {
    /// What a service's settings should be.
    ///
    /// # Errors
    /// Something that they name was not provisioned.
    pub fn of(wanted: &Wanted<'_>, network: &NetworkOutputs) -> Result<Settings, TaskError> {
        let missing =
            |what: &str| TaskError::Provisioned { service: wanted.name.clone(), what: format!("there is no {what}") };
        let placement = wanted.placement(network)?;
        let container = wanted.name.to_string();
        let target_group = match (&wanted.service.http, wanted.service.port) {
            (Some(_), Some(port)) => {
                let arn = wanted.outputs.target_group.clone().ok_or_else(|| missing("target group"))?;
                let alternate = wanted.outputs.alternate.clone();
                Some(TargetGroup { arn, alternate, container: container.clone(), port })
            }
            _ => None,
        };
        let shift = Shift::of(&wanted.service.rollout);
        if shift.is_some() && target_group.as_ref().is_none_or(|group| group.alternate.is_none()) {
            return Err(missing("second target group"));
        }
        let registry = match wanted.service.port.filter(|_| wanted.service.discovery) {
            Some(port) => Some(Registry {
                arn: wanted.outputs.registry.clone().ok_or_else(|| missing("entry in the service discovery"))?,
                port: placement.interfaces.is_none().then_some((container, port)),
            }),
            None => None,
        };
        let limits = Limits::of(wanted.service);
        let alarms = wanted.service.rollout.alarms.iter().map(ToString::to_string).collect();
        Ok(Settings { placement, target_group, registry, limits, alarms, shift })
    }

    /// Whether a service with these runs as one with the others does: how requests went over to it changes nothing about that.
    #[must_use]
    pub fn runs_as(&self, other: &Settings) -> bool {
        Settings { shift: other.shift, ..self.clone() } == *other
    }

    /// The same for the way back to them: it waits for nothing.
    #[must_use]
    pub fn on_the_way_back(&self) -> Settings {
        Settings { shift: self.shift.map(|_| Shift::BACK), ..self.clone() }
    }

    /// Whether the service of these has yet to be given its second target group.
    #[must_use]
    pub fn lacks_alternate_of(&self, wanted: &Settings) -> bool {
        let has = |settings: &Settings| settings.target_group.as_ref().is_some_and(|group| group.alternate.is_some());
        has(wanted) && !has(self)
    }

    /// Why ECS cannot bring a service from these settings to others, if it cannot.
    #[must_use]
    pub fn no_way_to(&self, other: &Settings) -> Option<&'static str> {
        match (&self.placement.interfaces, &other.placement.interfaces) {
            (Some(_), None) => Some("its tasks have network interfaces of their own, and would have none"),
            (None, Some(_)) => Some("its tasks have no network interfaces of their own, and would have some"),
            _ => None,
        }
    }
}

/// What a load balancer sends to a service. Two are the same in whichever order they name their two target groups: which of them
/// gets the requests alternates.
#[derive(Clone, Debug, Eq, Serialize, Deserialize)]
pub struct TargetGroup {
    /// The target group.
    pub arn: String,
    /// The other one, and what moves requests between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alternate: Option<Alternate>,
    /// The container.
    pub container: String,
    /// Its port.
    pub port: u16,
}

impl TargetGroup {
    /// The ARNs of its target groups: one, or two.
    pub fn groups(&self) -> BTreeSet<&str> {
        let other = self.alternate.iter().map(|alternate| alternate.target_group.as_str());
        [self.arn.as_str()].into_iter().chain(other).collect()
    }
}

impl PartialEq for TargetGroup {
    fn eq(&self, other: &TargetGroup) -> bool {
        let rules = |group: &TargetGroup| {
            group.alternate.clone().map(|Alternate { rule, test_rule, role, .. }| (rule, test_rule, role))
        };
        self.groups() == other.groups()
            && rules(self) == rules(other)
            && (&self.container, self.port) == (&other.container, other.port)
    }
}

/// Where a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Towards this release's version.
    Deploying,
    /// Back to the live one.
    RollingBack,
    /// There was none: down to no tasks.
    Stopping,
}

/// What a rollout writes down between passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The container that is judged: the service's own.
    pub container: String,
    /// What this release makes live.
    pub ours: Version,
    /// What was live when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Version>,
    /// How many seconds it may take until our version serves, and how many the way back may take.
    #[serde(default = "ten_minutes")]
    pub deadline: u32,
    /// How many tasks the service is made with.
    #[serde(default = "one")]
    pub tasks: u32,
    /// Another number of tasks than the live release was made with, where nothing scales them: the manifest's new `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// How the number of tasks follows the load once this release is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// Whether something may scale it from a release before.
    #[serde(default)]
    pub was_scaled: bool,
    /// What this release changes about the scaling, or the one may have changed that it undoes. Written before it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled: Option<String>,
    /// How many images that were live before are kept beside this one.
    #[serde(default = "kept_before")]
    pub keeps: u16,
    /// Whether a version serves only once the load balancer sends no request to tasks of another one: smoke tests ask through it, and
    /// what failed them is to answer nobody.
    #[serde(default)]
    pub alone: bool,
    /// Where it is.
    pub phase: Phase,
    /// When the phase began.
    pub since: Timestamp,
    /// Whether the call that starts our deployment may have been made. Written before it is.
    #[serde(default)]
    pub begun: bool,
    /// Our deployment, once its id is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// What ECS calls the same, to tell what becomes of it: the ARN of a service deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// How many of the requests went to our version when that was last told, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u8>,
    /// Whether our version has passed its tests, so that other requests may go over to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tested: bool,
    /// The hook at which ECS was told to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
    /// Whether ECS was asked to go back to what ran before our deployment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
    /// The deployment that brings the live version back, once its id is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<String>,
    /// When our version served, where ECS goes on watching alarms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Timestamp>,
    /// Since when the load balancer finds tasks of ours unhealthy, where all of them were well before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwell: Option<Timestamp>,
    /// What the load balancer last said against a task of ours: once the task is gone, nobody can ask any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complaint: Option<String>,
    /// The last rotation of a secret before it began, where the service's tasks are replaced for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Rotated>,
    /// Whether that came after the live release, so that this one restarts the tasks for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restarts: bool,
    /// Why the release does not go live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// How it ended. Asked again, because its answer was lost, it says the same again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// Another number of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// What the service wants until now.
    pub from: u32,
    /// What it should want.
    pub to: u32,
}

fn one() -> u32 {
    1
}

fn kept_before() -> u16 {
    keeping::BEFORE
}

fn ten_minutes() -> u32 {
    Timeout::default().seconds()
}

impl Progress {
    /// A rollout that has done nothing yet.
    pub fn new(container: String, ours: Version, live: Option<Version>, now: Timestamp) -> Progress {
        Progress {
            container,
            ours,
            live,
            deadline: ten_minutes(),
            tasks: 1,
            resize: None,
            scaling: None,
            was_scaled: false,
            scaled: None,
            keeps: kept_before(),
            alone: false,
            phase: Phase::Deploying,
            since: now,
            begun: false,
            deployment: None,
            attempt: None,
            share: None,
            tested: false,
            told: None,
            undone: false,
            back: None,
            served: None,
            unwell: None,
            complaint: None,
            rotated: None,
            restarts: false,
            cause: None,
            verdict: None,
        }
    }

    /// Why the tasks are replaced although the image may be the same, where it is for a rotation.
    #[must_use]
    pub fn restarted(&self) -> String {
        let rotated = self.rotated.as_ref().filter(|_| self.restarts);
        rotated.map(|rotated| format!("; restarted because {} was rotated", rotated.what)).unwrap_or_default()
    }

    /// The same rollout on its way back, or down where there is nothing to go back to.
    pub fn give_up(self, cause: String, now: Timestamp) -> Progress {
        let phase = if self.live.is_some() { Phase::RollingBack } else { Phase::Stopping };
        Progress { phase, since: now, cause: Some(cause), complaint: None, served: None, unwell: None, ..self }
    }

    /// The way back from another release's deployment, for a release that ends with an error before it began one itself.
    pub fn undoing(
        container: String,
        service: &Service,
        left: &Deployment,
        live: Option<Version>,
        now: Timestamp,
    ) -> Progress {
        let revision = Revision { task_definition: left.task_definition.clone(), digest: None };
        let cause = format!(
            "an error ended this release before it deployed, and deployment {} of {}, of one that it took the service over \
             from, was under way",
            left.id,
            short(&left.task_definition)
        );
        let theirs = Progress {
            begun: true,
            deployment: Some(left.id.clone()),
            attempt: service.attempt.clone(),
            scaled: Some("what the other release made of it".to_owned()),
            ..Progress::new(container, Version { revision, settings: service.settings.clone() }, live, now)
        };
        theirs.give_up(cause, now)
    }

    /// The same rollout after an error of ours ended it: on its way back, or the verdict where there is nothing to undo.
    ///
    /// A verdict of success does not count any more: the release ends with the error, so what was live must be again.
    ///
    /// # Errors
    /// The verdict.
    pub fn abandon(self, cause: &str, now: Timestamp) -> Result<Progress, Verdict> {
        if let Some(verdict) = &self.verdict
            && !verdict.outcome.is_live()
        {
            return Err(verdict.clone());
        }
        let failed = |why: &str| Err(Verdict { outcome: Outcome::Failed, reason: format!("{cause}; {why}") });
        match self.phase {
            Phase::RollingBack | Phase::Stopping => Ok(self),
            Phase::Deploying if !self.begun => failed("nothing had begun, and the service is as it was"),
            Phase::Deploying if self.is_live_already() => {
                failed("this is the live revision already, so there is nothing to go back to")
            }
            Phase::Deploying => Ok(Progress { verdict: None, ..self.give_up(cause.to_owned(), now) }),
        }
    }

    /// Whether the live version is the one that this release makes live: then there is nothing to go back to.
    fn is_live_already(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.revision.task_definition == self.ours.revision.task_definition)
    }

    fn deadline(&self) -> SignedDuration {
        SignedDuration::from_secs(self.deadline.into())
    }

    /// The same, and the pauses of the strategy once the new tasks are well.
    fn deadline_of(&self, attempt: Option<&Attempt>) -> SignedDuration {
        let shift = self.ours.settings.shift.filter(|_| attempt.is_some_and(Attempt::is_well));
        self.deadline() + SignedDuration::from_mins(shift.map_or(0, Shift::minutes).into())
    }

    fn cause(&self) -> &str {
        self.cause.as_deref().unwrap_or("the rollout was given up")
    }
}

/// A service as ECS shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Whether it is being deleted.
    pub draining: bool,
    /// Who deploys it, where that is not ECS itself: `CODE_DEPLOY` or `EXTERNAL`.
    pub controller: Option<String>,
    /// The ARN of its newest service deployment, where ECS says.
    pub attempt: Option<String>,
    /// How many tasks are wanted.
    pub desired: u32,
    /// How many run, of all deployments.
    pub running: u32,
    /// How many are on their way, of all deployments.
    pub pending: u32,
    /// Where its tasks are, and what sends them requests.
    pub settings: Settings,
    /// Its deployments.
    pub deployments: Vec<Deployment>,
    /// The newest of ECS's own remarks.
    pub remark: Option<String>,
}

impl Service {
    /// The deployment that ECS works on, or worked on last.
    pub fn primary(&self) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.primary)
    }

    /// How requests go over in a deployment that begins now, where that should be like this. ECS takes the second target group with a
    /// rolling deployment, and changes the strategy only while none is under way.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/update-rolling-to-bluegreen.html>
    #[must_use]
    pub fn shift_towards(&self, wanted: &Settings) -> Option<Shift> {
        let is_deploying = self.primary().is_some_and(|primary| !primary.completed && !primary.failed);
        let changes = |shift: Option<Shift>| shift.map(|shift| std::mem::discriminant(&shift.traffic));
        if self.settings.lacks_alternate_of(wanted) {
            None
        } else if is_deploying && changes(self.settings.shift) != changes(wanted.shift) {
            self.settings.shift
        } else {
            wanted.shift
        }
    }

    /// Whether all tasks that are wanted run, as this deployment's.
    pub fn runs(&self, deployment: &Deployment) -> bool {
        self.desired > 0 && deployment.running >= self.desired && !deployment.failed
    }
}

/// What a service is left with by a release that began no deployment of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left<'a> {
    /// What is live, or nothing that runs.
    AsItWas,
    /// A deployment that runs although no release was ever live: it may be older than Shipway, so it is not to be stopped.
    Running(&'a Deployment),
    /// A deployment of a release that was superseded half way: it is to be undone.
    HalfWay(&'a Deployment),
}

impl<'a> Left<'a> {
    /// By what ECS shows, and what is live.
    pub fn of(service: Option<&'a Service>, live: Option<&Version>) -> Left<'a> {
        let service = service.filter(|service| !service.draining);
        match (service.and_then(|service| Some((service, service.primary()?))), live) {
            (None, _) => Left::AsItWas,
            (Some((_, primary)), Some(live)) if primary.task_definition == live.revision.task_definition => {
                Left::AsItWas
            }
            (Some((service, _)), None) if service.desired == 0 => Left::AsItWas,
            (Some((service, primary)), None) if service.runs(primary) => Left::Running(primary),
            (Some((_, primary)), _) => Left::HalfWay(primary),
        }
    }
}

/// A deployment of a service as ECS shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployment {
    /// Its id: `ecs-svc/…`.
    pub id: String,
    /// Whether it is the primary one.
    pub primary: bool,
    /// The revision it runs.
    pub task_definition: String,
    /// How many of its tasks run.
    pub running: u32,
    /// Whether ECS gave it up.
    pub failed: bool,
    /// Whether ECS is through with it: its tasks run, the old ones are gone, and no alarm went off.
    pub completed: bool,
    /// ECS's own words about its state.
    pub reason: Option<String>,
}

/// A target of a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The ARN of its target group.
    pub group: String,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// `healthy`, `initial`, `unhealthy`, `draining`, …
    pub state: String,
    /// Why it is not healthy.
    pub reason: Option<String>,
}

/// What can be seen of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// When it was seen.
    pub now: Timestamp,
    /// The service, unless there is none of this name.
    pub service: Option<Service>,
    /// Its tasks: those that run, and those that stopped lately. Looked up only for the deployment that is waited for.
    pub tasks: Vec<Task>,
    /// The targets of its target groups, where it has some.
    pub targets: Vec<Target>,
    /// What ECS says of our deployment, where it is known to ECS by an ARN.
    pub attempt: Option<Attempt>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the service with our version.
    Create,
    /// Start our deployment.
    Update {
        /// How many tasks it should want, only where the service stands at none because nothing is live, or where the manifest
        /// has a new number: what it wants otherwise belongs to whoever scales it.
        count: Option<u32>,
        /// Whether a deployment is started even where nothing changes. ECS may have given up an earlier one of the same
        /// revision, and a deployment that was given up starts no tasks however many are wanted.
        force: bool,
    },
    /// Take this deployment for ours: it runs our revision.
    Adopt {
        /// Its id.
        deployment: String,
    },
    /// Write down that our version serves. ECS goes on watching its alarms, and keeps the old tasks for a while.
    Serves,
    /// Our version answers test requests, and ECS waits: let it be tested.
    Test,
    /// It was, or need not be: tell ECS to go on, and to move the requests.
    Continue {
        /// Where it waits.
        hook: String,
    },
    /// Ask ECS to go back to what ran before our deployment, whose tasks are still there.
    Undo,
    /// Give the release up: go back, or down.
    GiveUp {
        /// Why.
        cause: String,
        /// The task whose last log lines say more.
        task: Option<String>,
    },
    /// Start the deployment of the live version.
    Restore,
    /// Let the service want no tasks.
    Stop,
    /// Look again.
    Wait {
        /// In so many seconds.
        seconds: u32,
        /// What is waited for.
        note: String,
    },
    /// It is over.
    End(Verdict),
    /// It cannot begin.
    Refuse {
        /// Why, and what to do.
        reason: String,
    },
}

fn end(outcome: Outcome, reason: impl Into<String>) -> Action {
    Action::End(Verdict { outcome, reason: reason.into() })
}

fn wait(seconds: u32, note: impl Into<String>) -> Action {
    Action::Wait { seconds, note: note.into() }
}

/// The revision whose tasks decide what comes next, if any: what to look up before asking [`next_action`].
pub fn watched<'a>(progress: &'a Progress, service: Option<&Service>) -> Option<&'a Revision> {
    let primary = service.filter(|service| !service.draining)?.primary()?;
    let version = match progress.phase {
        Phase::Deploying => Some(&progress.ours),
        Phase::RollingBack => progress.live.as_ref(),
        Phase::Stopping => None,
    }?;
    let given_up = progress.phase == Phase::Deploying && progress.deployment.is_some();
    (primary.task_definition == version.revision.task_definition || given_up).then_some(&version.revision)
}

/// Decides what to do next about a rollout.
pub fn next_action(progress: &Progress, observed: &Observed) -> Action {
    match progress.phase {
        Phase::Deploying => deploy(progress, observed),
        Phase::RollingBack => roll_back(progress, observed),
        Phase::Stopping => stop(progress, observed),
    }
}

fn deploy(progress: &Progress, observed: &Observed) -> Action {
    let elapsed = observed.now.duration_since(progress.since);
    let Some(service) = &observed.service else {
        return match (&progress.deployment, elapsed < SETTLE) {
            (None, _) => Action::Create,
            (Some(_), true) => wait(2, "the service is being made"),
            (Some(_), false) => end(
                Outcome::Failed,
                "somebody deleted the service while it was being deployed; start the execution again to make it anew",
            ),
        };
    };
    if service.draining {
        let note = "a service of this name is still being deleted";
        return if elapsed < progress.deadline() {
            wait(5, note)
        } else {
            end(Outcome::Failed, format!("{note} after {}", told(progress.deadline())))
        };
    }
    if let Some(other) = &service.controller {
        return Action::Refuse {
            reason: format!(
                "{other} deploys it, and ECS lets nobody else; delete the service in ECS, which stops it, and start the execution \
                 again to make it anew"
            ),
        };
    }
    if let Some(given_up) = given_up_by_ecs(progress, observed) {
        return given_up;
    }
    let ours = &progress.ours.revision.task_definition;
    let primary = service.primary().filter(|primary| {
        // Once our deployment has begun, only its revision counts: the settings went with it.
        primary.task_definition == *ours
            && (progress.deployment.is_some() || service.settings == progress.ours.settings)
    });
    let resized = progress.deployment.is_some() || resize(progress, service).is_none();
    if let Some(primary) = primary
        && (progress.begun || service.desired > 0)
        && resized
    {
        if progress.deployment.as_deref() != Some(primary.id.as_str()) {
            return Action::Adopt { deployment: primary.id.clone() };
        }
        return watch(progress, observed, service, primary);
    }
    let Some(deployment) = &progress.deployment else {
        // The answer to our call was lost, and ECS has gone on to another deployment since.
        return match service
            .deployments
            .iter()
            .find(|one| one.task_definition == *ours && progress.begun && !is_live(progress, one))
        {
            Some(one) => Action::Adopt { deployment: one.id.clone() },
            None => begin(progress, service),
        };
    };
    let own = service.deployments.iter().find(|one| one.id == *deployment);
    if own.is_none() && elapsed < SETTLE {
        return wait(2, "ECS does not show the new deployment yet");
    }
    let primary = service.primary();
    if primary.is_some_and(|primary| is_live(progress, primary)) {
        let own = own.and_then(|one| one.reason.as_deref()).filter(|reason| !reason.is_empty());
        let (why, task) = match failures(progress, observed, deployment, ours).last() {
            Some(task) => (task.why_stopped(&progress.container), Some(task.arn.clone())),
            None => (words_of_ecs(progress, observed, own.unwrap_or("it gave no reason")), None),
        };
        return Action::GiveUp { cause: format!("ECS went back to the live revision by itself: {why}"), task };
    }
    if let Some(other) = primary.filter(|primary| !is_foreign(progress, observed, primary)) {
        let (to, why) = (short(&other.task_definition), other.reason.as_deref().unwrap_or_default());
        let why = words_of_ecs(progress, observed, why);
        return Action::GiveUp {
            cause: format!("ECS went back by itself to {to}, which is not what was live: {why}"),
            task: None,
        };
    }
    end(Outcome::Superseded, taken_over(primary))
}

/// What follows where ECS itself says that our deployment was not to be.
fn given_up_by_ecs(progress: &Progress, observed: &Observed) -> Option<Action> {
    let attempt = observed.attempt.as_ref()?;
    let primary = observed.service.as_ref().and_then(Service::primary);
    let what = match attempt.status {
        Status::Pending | Status::InProgress | Status::Successful => return None,
        // A new deployment stops the one before.
        Status::StopRequested | Status::Stopped if primary.is_some_and(|one| is_foreign(progress, observed, one)) => {
            return None;
        }
        Status::StopRequested if observed.now.duration_since(progress.since) < progress.deadline() => {
            return Some(wait(5, "somebody stops the deployment in ECS"));
        }
        Status::StopRequested | Status::Stopped => "somebody stopped the deployment in ECS",
        Status::RollbackRequested | Status::RollbackInProgress => "ECS goes back by itself",
        Status::RollbackSuccessful => "ECS went back by itself",
        Status::RollbackFailed => "ECS could not go back by itself",
    };
    let why = words_of_ecs(progress, observed, attempt.reason.as_deref().unwrap_or("it gave no reason"));
    let own = progress.deployment.as_deref().unwrap_or_default();
    let last = failures(progress, observed, own, &progress.ours.revision.task_definition).pop();
    let task = last.map(|task| format!("; the last task: {}", task.why_stopped(&progress.container)));
    let cause = format!("{what}: {why}{}", task.unwrap_or_default());
    if progress.is_live_already() {
        let rest = "this is the live revision already, so there is nothing to go back to";
        return Some(end(Outcome::Failed, format!("{cause}; {rest}")));
    }
    Some(Action::GiveUp { cause, task: last.map(|task| task.arn.clone()) })
}

/// Whether a primary deployment is neither ours, nor of what was live, nor ECS's own way back, which it names in its reason.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html>
fn is_foreign(progress: &Progress, observed: &Observed, primary: &Deployment) -> bool {
    let goes_back = primary.reason.as_deref().is_some_and(|reason| reason.contains("rolling back"))
        || observed.attempt.as_ref().is_some_and(|attempt| attempt.status.is_rollback());
    primary.task_definition != progress.ours.revision.task_definition && !is_live(progress, primary) && !goes_back
}

fn begin(progress: &Progress, service: &Service) -> Action {
    match (service.desired, &progress.live) {
        (0, Some(_)) => Action::Refuse {
            reason: "the service is scaled to 0 tasks, so a rollout could prove nothing; scale it to at least 1 and start the execution again".to_owned(),
        },
        (0, None) => Action::Update { count: Some(progress.tasks), force: true },
        _ => Action::Update { count: resize(progress, service), force: false },
    }
}

/// The number of tasks that the service still has to want.
fn resize(progress: &Progress, service: &Service) -> Option<u32> {
    progress.resize.map(|resize| resize.to).filter(|to| *to != service.desired && service.desired > 0)
}

fn is_live(progress: &Progress, deployment: &Deployment) -> bool {
    progress.live.as_ref().is_some_and(|live| live.revision.task_definition == deployment.task_definition)
}

fn taken_over(primary: Option<&Deployment>) -> String {
    match primary {
        Some(other) => format!(
            "deployment {} of {}, which is not this release's, took the service over; only Shipway should deploy it",
            other.id,
            short(&other.task_definition)
        ),
        None => "the service has no deployment any more".to_owned(),
    }
}

fn watch(progress: &Progress, observed: &Observed, service: &Service, primary: &Deployment) -> Action {
    let revision = &progress.ours.revision;
    let failed = failures(progress, observed, &primary.id, &revision.task_definition);
    let is_through = observed.attempt.as_ref().map_or(primary.completed, |one| one.status == Status::Successful);
    let Settings { alarms, shift, .. } = &progress.ours.settings;
    let watched = (shift.is_some() || !alarms.is_empty()) && !is_through;
    let going_over = observed.attempt.as_ref().filter(|attempt| shift.is_some() && !attempt.has_gone_over());
    let elapsed = observed.now.duration_since(progress.since);
    let is_late = shift.is_some() && progress.attempt.is_some() && observed.attempt.is_none() && elapsed < SETTLE;
    let missing = match serving(progress, observed, service, primary, revision, !failed.is_empty()) {
        // Our tasks serve, and ECS says all the same that they must not: an alarm went off.
        Ok(_) if progress.begun && primary.failed => "it serves".to_owned(),
        Ok(_) if is_late => "ECS does not show yet where the requests go".to_owned(),
        Ok(_) if let Some(attempt) = going_over => match &attempt.paused {
            Some(_) if shift.is_some_and(|shift| shift.is_tested) && !progress.tested => return Action::Test,
            Some(hook) if progress.told.as_ref() != Some(hook) => return Action::Continue { hook: hook.clone() },
            _ => attempt.words(),
        },
        Ok(_) if watched && progress.served.is_none() => return Action::Serves,
        Ok(count) if watched && shift.is_some() => {
            format!("{count} tasks serve, and ECS keeps the old ones for a while")
        }
        Ok(count) if watched => format!("{count} tasks serve, and ECS still watches the alarms"),
        Ok(count) if progress.begun => {
            return end(
                Outcome::Succeeded,
                format!("{count} of {} tasks of {} serve", service.desired, short(&revision.task_definition)),
            );
        }
        Ok(count) => {
            return end(
                Outcome::Unchanged,
                format!("{count} of {} tasks of {} serve already", service.desired, short(&revision.task_definition)),
            );
        }
        Err(missing) => missing,
    };
    let Some((cause, task)) = hopeless(progress, observed, service, primary, &failed, &missing) else {
        return wait(pace(elapsed), missing);
    };
    if progress.is_live_already() {
        let rest = if progress.begun { "" } else { ", and nothing was changed" };
        return end(
            Outcome::Failed,
            format!("{cause}; this is the live revision already, so there is nothing to go back to{rest}"),
        );
    }
    Action::GiveUp { cause, task }
}

fn roll_back(progress: &Progress, observed: &Observed) -> Action {
    let elapsed = observed.now.duration_since(progress.since);
    let cause = progress.cause();
    let (Some(live), Some(service)) = (&progress.live, observed.service.as_ref().filter(|service| !service.draining))
    else {
        return end(Outcome::Failed, format!("{cause}; the service was deleted, so there is nothing to go back with"));
    };
    let Some(primary) = service.primary() else {
        return end(Outcome::Failed, format!("{cause}; the service has no deployment to go back with"));
    };
    if let Some(undoing) = undo(progress, observed, service, elapsed) {
        return undoing;
    }
    if primary.task_definition == progress.ours.revision.task_definition && !progress.is_live_already() {
        let goes = observed.attempt.as_ref().is_some_and(|attempt| attempt.status.is_going_back());
        return match &progress.back {
            None if goes && elapsed < SETTLE => wait(2, "ECS goes back by itself"),
            None => Action::Restore,
            Some(_) if elapsed < SETTLE => wait(2, "ECS does not show the way back yet"),
            Some(_) => {
                let by = match observed.attempt.as_ref().filter(|attempt| attempt.status.is_rollback()) {
                    Some(attempt) => format!(
                        "ECS, which gave the way back up: {}",
                        attempt.reason.as_deref().unwrap_or("it gave no reason")
                    ),
                    None => "somebody else".to_owned(),
                };
                end(Outcome::Failed, format!("{cause}; this revision was deployed again while going back, by {by}"))
            }
        };
    }
    if !is_live(progress, primary) {
        // ECS went back by itself, to what it ran last.
        if !is_foreign(progress, observed, primary) {
            return match &progress.back {
                None => Action::Restore,
                Some(_) if elapsed < SETTLE => wait(2, "ECS does not show the way back yet"),
                Some(_) => end(Outcome::Superseded, format!("{cause}; {}", taken_over(Some(primary)))),
            };
        }
        return end(Outcome::Superseded, format!("{cause}; {}", taken_over(Some(primary))));
    }
    // Whether our deployment began is not known, and ECS may not show it yet: it would replace what serves now.
    if progress.deployment.is_none() && progress.back.is_none() && elapsed < LOST_ANSWER {
        return wait(5, "ECS may not show yet whether the new deployment began");
    }
    // Where ECS went back by itself, it left as they were the settings that are no task's, and how many tasks are wanted.
    let is_resized = progress.resize.is_some_and(|resize| resize.to == service.desired);
    if progress.back.is_none() && (!service.settings.runs_as(&live.settings) || is_resized) {
        return Action::Restore;
    }
    let revision = &live.revision;
    let failed = failures(progress, observed, &primary.id, &revision.task_definition);
    let going_over = observed
        .attempt
        .as_ref()
        .filter(|attempt| service.settings.shift.is_some() && progress.back.is_some() && !attempt.has_gone_over());
    let serves = serving(progress, observed, service, primary, revision, !failed.is_empty());
    match serves.and_then(|count| going_over.map_or(Ok(count), |attempt| Err(attempt.words()))) {
        Ok(count) => end(
            Outcome::RolledBack,
            format!(
                "{cause}; {count} of {} tasks of {} serve again",
                service.desired,
                short(&revision.task_definition)
            ),
        ),
        Err(missing) => match hopeless(progress, observed, service, primary, &failed, &missing) {
            Some((why, _)) => end(
                Outcome::Failed,
                format!(
                    "{cause}; going back to {} failed too: {why}; {} of {} tasks run now, look at the service",
                    short(&revision.task_definition),
                    service.running,
                    service.desired
                ),
            ),
            None => wait(pace(elapsed), format!("going back: {missing}")),
        },
    }
}

/// What comes first on the way back where ECS moves requests: as long as it is not through, the old tasks are there.
fn undo(progress: &Progress, observed: &Observed, service: &Service, elapsed: SignedDuration) -> Option<Action> {
    let attempt = observed.attempt.as_ref()?;
    if service.settings.shift.is_none() || progress.back.is_some() || elapsed >= progress.deadline() {
        return None;
    }
    match attempt.status {
        Status::Pending | Status::InProgress => Some(Action::Undo),
        status if status.is_going_back() => Some(wait(3, "ECS goes back: requests go to the old tasks")),
        _ => None,
    }
}

fn stop(progress: &Progress, observed: &Observed) -> Action {
    let elapsed = observed.now.duration_since(progress.since);
    let cause = progress.cause();
    let service = observed.service.as_ref().filter(|service| !service.draining);
    let primary =
        service.and_then(Service::primary).filter(|one| one.task_definition == progress.ours.revision.task_definition);
    let (Some(service), Some(_)) = (service, primary) else {
        if progress.deployment.is_none() && elapsed < LOST_ANSWER {
            return wait(5, "ECS may not show yet whether the new deployment began");
        }
        return match (service, &progress.deployment) {
            (Some(service), Some(_)) => end(Outcome::Superseded, format!("{cause}; {}", taken_over(service.primary()))),
            (Some(_), None) => {
                end(Outcome::Failed, format!("{cause}; the new deployment never began, and the service is as it was"))
            }
            (None, _) => end(Outcome::Failed, format!("{cause}; there is no service, so nothing is left running")),
        };
    };
    if service.desired > 0 {
        return Action::Stop;
    }
    let left = service.running + service.pending;
    if left > 0 && elapsed < STOP_DEADLINE {
        return wait(3, format!("{left} tasks are still to stop"));
    }
    end(
        Outcome::Failed,
        format!("{cause}; nothing was live before, so the service was stopped (it wants 0 tasks) and serves nothing"),
    )
}

/// How many tasks of the revision serve, or what is still missing.
fn serving(
    progress: &Progress,
    observed: &Observed,
    service: &Service,
    primary: &Deployment,
    revision: &Revision,
    has_failed: bool,
) -> Result<usize, String> {
    if service.desired == 0 {
        return Err("the service wants 0 tasks".to_owned());
    }
    if primary.running < service.desired {
        return Err(format!("{} of {} tasks run", primary.running, service.desired));
    }
    let tasks: Vec<&Task> = observed
        .tasks
        .iter()
        .filter(|task| task.running() && task.task_definition == revision.task_definition)
        .collect();
    let wrong = tasks.iter().find(|task| !task.runs(&progress.container, revision.digest.as_ref()));
    if let Some(task) = wrong {
        let other = task.container(&progress.container).and_then(|c| c.digest.clone()).unwrap_or_default();
        return Err(format!("task {} runs {other}, which is not this image", task.id()));
    }
    let wanted = usize::try_from(service.desired).unwrap_or(usize::MAX);
    if tasks.len() < wanted {
        return Err(format!("{} of {wanted} tasks run this revision", tasks.len()));
    }
    if let Some(group) = &service.settings.target_group {
        for task in &tasks {
            is_healthy(task, group, &observed.targets)?;
        }
        let of_other = |target: &&Target| {
            target.state != "draining"
                && !tasks.iter().any(|task| task.is_reached_at(group.port, &target.address, target.port))
        };
        let is_told_by_targets = progress.alone && service.settings.shift.is_none();
        if let Some(target) = observed.targets.iter().find(of_other).filter(|_| is_told_by_targets) {
            return Err(format!("{}:{} of another version still gets requests", target.address, target.port));
        }
    }
    let steady = match (&service.settings.target_group, has_failed) {
        (_, true) => STEADY_AFTER_FAILURE,
        (None, false) => STEADY,
        (Some(_), false) => SignedDuration::ZERO,
    };
    let young = |task: &&Task| task.started_at.is_some_and(|at| observed.now.duration_since(at) < steady);
    if tasks.iter().any(young) {
        return Err(format!("the tasks run, but for less than {} seconds", steady.as_secs()));
    }
    // On the way back, tasks that are still draining may run the same revision.
    Ok(tasks.len().min(wanted))
}

fn is_healthy(task: &Task, group: &TargetGroup, targets: &[Target]) -> Result<(), String> {
    let mine: Vec<&Target> =
        targets.iter().filter(|target| task.is_reached_at(group.port, &target.address, target.port)).collect();
    if mine.iter().any(|target| target.state == "healthy") {
        return Ok(());
    }
    Err(match mine.first() {
        None => format!("task {} is not a target of the load balancer yet", task.id()),
        Some(target) => {
            let why = target.reason.as_deref().map(|why| format!(": {}", clipped(why, 300))).unwrap_or_default();
            format!("target {}:{} is {}{why}", target.address, target.port, target.state)
        }
    })
}

/// The tasks of a deployment that failed by themselves, the oldest first. A task that ECS or a person stopped has not failed,
/// unless it was for its health.
fn failures<'a>(progress: &Progress, observed: &'a Observed, deployment: &str, revision: &str) -> Vec<&'a Task> {
    let is_its = |task: &Task| match task.started_by.as_deref().filter(|by| by.starts_with("ecs-svc/")) {
        Some(by) => by == deployment,
        None => task.created_at.is_some_and(|at| at >= progress.since),
    };
    let mut failed: Vec<&Task> = observed
        .tasks
        .iter()
        .filter(|task| {
            task.stopped() && task.task_definition == revision && is_its(task) && failure_of(task, "").is_some()
        })
        .collect();
    failed.sort_by_key(|task| task.created_at);
    failed
}

/// In which way a task failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TaskFailure {
    /// Its containers never ran: the image, a secret, the network.
    NeverStarted(String),
    /// Its process ended.
    Exited(Option<i32>),
    /// It ran, and was found unhealthy.
    Unhealthy,
}

fn failure_of(task: &Task, container: &str) -> Option<TaskFailure> {
    let reason = task.stopped_reason.as_deref().unwrap_or_default();
    match task.stop_code.as_deref() {
        Some("TaskFailedToStart") => {
            // The part before the first colon is the kind: `CannotPullContainerError`, `ResourceInitializationError`.
            let kind = reason.split(':').next().unwrap_or_default().trim();
            Some(TaskFailure::NeverStarted(kind.to_owned()))
        }
        Some("EssentialContainerExited") => {
            Some(TaskFailure::Exited(task.container(container).and_then(|c| c.exit_code)))
        }
        Some("ServiceSchedulerInitiated") if reason.contains("health check") => Some(TaskFailure::Unhealthy),
        _ => None,
    }
}

/// Why a deployment will not serve any more, and the task that shows it.
fn hopeless(
    progress: &Progress,
    observed: &Observed,
    service: &Service,
    primary: &Deployment,
    failed: &[&Task],
    missing: &str,
) -> Option<(String, Option<String>)> {
    let last = failed.last();
    let why = last.map(|task| task.why_stopped(&progress.container));
    let mut same: BTreeMap<TaskFailure, usize> = BTreeMap::new();
    for task in failed {
        if let Some(failure) = failure_of(task, &progress.container) {
            *same.entry(failure).or_default() += 1;
        }
    }
    let repeated = same.iter().any(|(failure, count)| match failure {
        TaskFailure::Exited(_) => *count >= SAME_EXITS,
        TaskFailure::NeverStarted(_) | TaskFailure::Unhealthy => *count >= SAME_REFUSALS,
    });
    let mut cause = if repeated || failed.len() >= ANY_FAILURES {
        format!("{} tasks failed, the last one: {}", failed.len(), why?)
    } else if primary.failed {
        let reason = words_of_ecs(progress, observed, primary.reason.as_deref().unwrap_or("no reason given"));
        let why = why.map(|why| format!("; the last task: {why}")).unwrap_or_default();
        format!("ECS gave the deployment up: {reason}{why}")
    } else if let Some(cause) = no_longer_well(progress, observed) {
        cause
    } else if let Some(served) = progress.served {
        let bake = progress.ours.settings.shift.map_or(0, |shift| shift.bake);
        let longest = WATCHED + SignedDuration::from_mins(bake.into());
        if observed.now.duration_since(served) < longest {
            return None;
        }
        format!("ECS did not complete it within {} of its serving: {missing}", told(longest))
    } else if observed.now.duration_since(progress.since) >= progress.deadline_of(observed.attempt.as_ref()) {
        let why = why.map(|why| format!("; the last task that failed: {why}")).unwrap_or_default();
        let remark =
            service.remark.as_deref().map(|remark| format!("; ECS says: {}", clipped(remark, 300))).unwrap_or_default();
        format!(
            "it did not serve within {}: {missing}{why}{remark}",
            told(progress.deadline_of(observed.attempt.as_ref()))
        )
    } else {
        return None;
    };
    if let Some(complaint) = progress.complaint.as_deref().filter(|complaint| !cause.contains(*complaint)) {
        cause.push_str(&format!("; the load balancer said: {complaint}"));
    }
    // Where none failed, the log of one that runs may say why it is not well.
    let runs = |task: &&Task| task.running() && task.task_definition == primary.task_definition;
    let task = last.copied().or_else(|| observed.tasks.iter().find(runs));
    Some((cause, task.map(|task| task.arn.clone())))
}

/// Why a version will not serve any more whose tasks were all well, where this look still finds one of them unhealthy.
fn no_longer_well(progress: &Progress, observed: &Observed) -> Option<String> {
    let unwell = observed.now.duration_since(progress.unwell?);
    let has = |state| targets(progress, observed).any(|target| target.state == state);
    if !has("unhealthy") {
        return None;
    }
    let (which, longest) = if has("healthy") { ("some", progress.deadline()) } else { ("all", UNWELL) };
    (unwell >= longest).then(|| {
        let longest = told(longest);
        format!("all its tasks were well, and the load balancer has found {which} of them unhealthy for {longest}")
    })
}

/// What ECS says of a deployment that it gave up. Which of several alarms went off it does not always say.
fn words_of_ecs(progress: &Progress, observed: &Observed, reason: &str) -> String {
    let went_off: Vec<&str> = observed.attempt.iter().flat_map(|attempt| &attempt.alarms).map(String::as_str).collect();
    if !went_off.is_empty() {
        return format!("{} went off: {reason}", went_off.join(", "));
    }
    let alarms: Vec<&str> = progress.ours.settings.alarms.iter().map(String::as_str).collect();
    if alarms.is_empty() || !reason.to_ascii_lowercase().contains("alarm") {
        return reason.to_owned();
    }
    format!("an alarm went off, of {}: {reason}", alarms.join(", "))
}

/// The ARN of the target group that a version's tasks are in, where a load balancer sends requests to it.
pub fn serving_group<'a>(version: &'a Version, observed: &'a Observed) -> Option<&'a str> {
    let group = version.settings.target_group.as_ref()?;
    let is_its = |target: &&Target| {
        let runs = |task: &Task| {
            task.running()
                && task.task_definition == version.revision.task_definition
                && task.is_reached_at(group.port, &target.address, target.port)
        };
        target.state == "healthy" && observed.tasks.iter().any(runs)
    };
    Some(observed.targets.iter().find(is_its).map_or(group.arn.as_str(), |target| target.group.as_str()))
}

/// What the load balancer says against a task of the revision that is waited for.
pub fn complaint(progress: &Progress, observed: &Observed) -> Option<String> {
    let unhealthy = targets(progress, observed).find(|target| target.state == "unhealthy")?;
    unhealthy.reason.as_deref().map(|reason| clipped(reason, 300))
}

/// Since when the load balancer finds tasks of our version unhealthy, where all of them were well before. As it was, where nobody
/// looked: targets are looked up once as many tasks run as are wanted.
pub fn unwell(progress: &Progress, observed: &Observed) -> Option<Timestamp> {
    let was_well = progress.served.is_some() || observed.attempt.as_ref().is_some_and(Attempt::is_well);
    if observed.targets.is_empty() || !was_well || progress.phase != Phase::Deploying {
        return progress.unwell;
    }
    let is_unwell = targets(progress, observed).any(|target| target.state == "unhealthy");
    is_unwell.then(|| progress.unwell.unwrap_or(observed.now))
}

/// The targets that are tasks of the revision that is waited for.
fn targets<'a>(progress: &'a Progress, observed: &'a Observed) -> impl Iterator<Item = &'a Target> {
    let service = observed.service.as_ref();
    let revision = watched(progress, service);
    let group = service.and_then(|service| service.settings.target_group.as_ref());
    revision.zip(group).into_iter().flat_map(|(revision, group)| {
        observed.targets.iter().filter(|target| {
            let is_there = |task: &Task| {
                task.task_definition == revision.task_definition
                    && task.is_reached_at(group.port, &target.address, target.port)
            };
            observed.tasks.iter().any(is_there)
        })
    })
}

/// Quick while tasks start, slower when it takes long: at most 5 seconds pass between healthy targets and the verdict.
fn pace(elapsed: SignedDuration) -> u32 {
    if elapsed < SignedDuration::from_secs(60) { 2 } else { 4 }
}

/// A duration as people say it.
fn told(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (unit, length) =
        [("hour", 3600), ("minute", 60)].into_iter().find(|unit| seconds % unit.1 == 0).unwrap_or(("second", 1));
    let count = seconds / length;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// A revision as people say it: `family:7`.
fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

#[cfg(test)]
mod tests;
