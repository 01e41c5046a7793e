//! One pass over a rollout: load what is known of it, observe the service, ask the domain, act, record.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shipway_aws::{AwsError, PublicError, Store, store::StoreError};
use shipway_domain::{
    failure::Failure,
    keeping,
    message::{DriftFound, DriftInput, Pass, PassInput, Run, Summary, Verdict},
    name::{ComponentName, Digest, RepositoryName},
    network::NetworkOutputs,
    notice::Happening,
    release::{Artifact, Live, Outcome, ReleaseRecord, Step},
    rollout::{
        self, Action, GIVING_UP, Observed, Phase, Progress, Resize, Service, Settings, Target, TargetGroup, Version,
        attempt::Attempt,
        scaling::{self, Scaling},
        shift::Shift,
    },
    task::{self, DescribedTaskDefinition, Revision, Surroundings, Task, TaskDefinition, Wanted},
};
use shipway_ecs::{Ground, ServiceError};

use crate::{
    drift, half_way,
    removal::{self, Leftovers},
};

/// The progress of a rollout in its release's record.
pub(crate) const PROGRESS: &str = "deploy";

/// The most decisions of one pass: adopt, give up, restore, and one to spare.
const DECISIONS: usize = 4;

/// What the function is asked.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub(crate) enum Request {
    /// Make the release live.
    Deploy {
        /// The release, of a service.
        run: Run,
    },
    /// The new version has passed its tests: let all requests go over to it.
    Shift {
        /// The release, of a service.
        run: Run,
    },
    /// An error ended the rollout: bring back what was live.
    RollBack {
        /// The release, of a service.
        run: Run,
    },
    /// Remove all services of the environment.
    Remove {
        /// The release, of the platform.
        run: Run,
    },
    /// Say what differs from what is live.
    Drift(DriftInput),
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// Of a rollout.
    Rollout(Turn),
    /// Of a removal.
    Removal(Pass<Summary>),
    /// Of a look at what differs.
    Drift(DriftFound),
}

/// The answer of one pass over a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub(crate) enum Turn {
    /// Not there yet.
    Again {
        /// How long to wait before the next pass.
        seconds: u32,
        /// What is waited for, for the person who reads the execution.
        note: String,
    },
    /// The new version is there for its tests; once they hold, its requests may go over.
    Ready {
        /// What is there, for the same person.
        note: String,
    },
    /// Done.
    Done(Verdict),
}

/// Answers the machines.
pub(crate) async fn answer<C: Calls + Leftovers>(
    store: &Store,
    calls: &C,
    surroundings: &Surroundings,
    request: Request,
    now: Timestamp,
) -> Result<Answer, Error> {
    let roll = async |run, action| {
        Box::pin(handle(store, calls, surroundings, PassInput { run, action }, now)).await.map(Answer::Rollout)
    };
    match request {
        Request::Deploy { run } => roll(run, Ask::Deploy).await,
        Request::Shift { run } => roll(run, Ask::Shift).await,
        Request::RollBack { run } => roll(run, Ask::RollBack).await,
        Request::Remove { run } => removal::handle(store, calls, &run, now).await.map(Answer::Removal),
        Request::Drift(input) => drift::find(store, calls, &input, now).await.map(Answer::Drift),
    }
}

/// What a rollout is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Make the release live.
    Deploy,
    /// The same, and it has passed its tests.
    Shift,
    /// An error ended the rollout: bring back what was live.
    RollBack,
}

/// What can go wrong with a rollout itself. That its image does not hold is a verdict, not an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("`{service}` cannot be deployed: {reason}")]
    Refused { service: ComponentName, reason: String },
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl PublicError for Error {
    fn failure(&self) -> Failure {
        match self {
            Error::Refused { .. } => Failure::Conflict,
            Error::Service(error) => error.failure(),
            Error::Store(error) => error.failure(),
            Error::Aws(error) => shipway_ecs::failure(error),
        }
    }
}

/// A service's place: its cluster and its name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) cluster: String,
    pub(crate) name: String,
}

/// A service to make.
#[derive(Debug)]
pub(crate) struct NewService<'a> {
    pub(crate) place: &'a Place,
    pub(crate) version: &'a Version,
    pub(crate) count: u32,
    /// Makes the same call twice one service.
    pub(crate) token: &'a str,
    pub(crate) run: &'a Run,
}

/// A service to change. What is not named stays as it is.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) place: &'a Place,
    pub(crate) task_definition: Option<&'a str>,
    pub(crate) settings: Option<&'a Settings>,
    /// Whether the settings move it to other capacity.
    pub(crate) moves: bool,
    /// Whether they bring it behind another load balancer, or to another port. What ECS has is not sent again: it would take the
    /// target group that is named first for the one that serves.
    /// <https://github.com/hashicorp/terraform-provider-aws/issues/45678>
    pub(crate) rebinds: bool,
    pub(crate) count: Option<u32>,
    /// Start a deployment even where nothing changes.
    pub(crate) force: bool,
}

/// What became of a call that should start a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// It began, under this id; and under the ARN of a service deployment, where ECS says.
    Deployment { id: String, attempt: Option<String> },
    /// The service is not as it was when it was looked at: look again.
    LookAgain,
}

/// The calls beside the table's: ECS's, the load balancer's, the log's, Application Auto Scaling's and ECR's.
pub(crate) trait Calls {
    async fn task_definition(&self, name: &str) -> Result<Option<DescribedTaskDefinition>, AwsError>;
    async fn register(&self, wanted: &TaskDefinition) -> Result<String, AwsError>;
    async fn service(&self, place: &Place) -> Result<Option<Service>, AwsError>;
    /// What ECS says of a service deployment, if it knows it.
    async fn attempt(&self, arn: &str) -> Result<Option<Attempt>, AwsError>;
    /// Tells a service deployment to go on where it waits. One that does not wait there goes on anyway.
    async fn go_on(&self, attempt: &str, hook: &str) -> Result<(), AwsError>;
    /// Asks a service deployment to go back. One that is over already stays as it is.
    async fn undo(&self, attempt: &str) -> Result<(), AwsError>;
    /// The tasks that stopped lately, and those that run or are about to where they are asked for.
    async fn tasks(&self, place: &Place, running: bool) -> Result<Vec<Task>, AwsError>;
    /// The targets of a target group.
    async fn targets(&self, group: &str) -> Result<Vec<Target>, AwsError>;
    async fn create(&self, new: NewService<'_>) -> Result<Started, AwsError>;
    async fn update(&self, change: Change<'_>) -> Result<Started, AwsError>;
    async fn log_tail(&self, group: &str, stream: &str) -> Result<Vec<String>, AwsError>;
    /// The load balancer that sends requests to a target group.
    async fn load_balancer(&self, target_group: &str) -> Result<Option<String>, AwsError>;
    async fn scaling(&self, place: &Place) -> Result<scaling::Observed, AwsError>;
    async fn scale(&self, place: &Place, change: &scaling::Change) -> Result<(), AwsError>;
    /// Where these tags are; what is on no image is left out.
    async fn carried(&self, repository: &RepositoryName, tags: &[String])
    -> Result<BTreeMap<String, Digest>, AwsError>;
    /// Puts a tag on an image, away from the one that had it. False where the image is not there any more.
    async fn tag(&self, repository: &RepositoryName, digest: &Digest, tag: &str) -> Result<bool, AwsError>;
    /// Tells others what happens to a release. Nothing rests on it.
    async fn announce(&self, record: &ReleaseRecord, happening: Happening<'_>);
}

/// Makes one pass.
pub(crate) async fn handle<C: Calls>(
    store: &Store,
    calls: &C,
    surroundings: &Surroundings,
    input: PassInput<Ask>,
    now: Timestamp,
) -> Result<Turn, Error> {
    let run = &input.run;
    let (name, _) = shipway_ecs::image_of(run)?;
    store.renew(run, now).await?;
    let mut progress: Option<Progress> = store.progress(run, PROGRESS).await?;
    match (input.action, progress.take()) {
        (Ask::Deploy | Ask::Shift, Some(known)) => match known.verdict {
            Some(verdict) => return Ok(Turn::Done(verdict)),
            None if input.action == Ask::Shift && !known.tested => {
                let tested = Progress { tested: true, since: now, ..known };
                store.save_progress(run, PROGRESS, &tested, now).await?;
                progress = Some(tested);
            }
            None => progress = Some(known),
        },
        (Ask::Deploy | Ask::Shift, None) => {}
        (Ask::RollBack, None) => return half_way::look(store, calls, run, name, now).await,
        (Ask::RollBack, Some(known)) => match known.clone().abandon("an error ended the rollout", now) {
            Err(verdict) => return Ok(Turn::Done(verdict)),
            Ok(given_up) => {
                if given_up != known {
                    store.save_progress(run, PROGRESS, &given_up, now).await?;
                    announce_way_back(store, calls, run, &given_up).await;
                }
                progress = Some(given_up);
            }
        },
    }

    let ground = Ground::of(store, run, name).await?;
    let outputs = ground.record.platform.services.get(name);
    let place =
        Place { cluster: ground.cluster()?.to_owned(), name: task::service_name(&run.app, &run.environment, name) };
    let service = calls.service(&place).await?;
    let progress = match progress {
        Some(progress) => progress,
        // Only the beginning goes by the manifest: another one that is applied meanwhile changes nothing about this release.
        None => {
            let release = Release { run, wanted: ground.wanted()?, network: ground.network()? };
            prepare(store, calls, surroundings, &release, service.as_ref(), now).await?
        }
    };
    let observed = observe(calls, &place, &progress, service, now).await?;
    let rollout = Rollout {
        store,
        calls,
        run,
        name,
        place: &place,
        log_group: outputs.map(|outputs| outputs.log_group.as_str()),
        now,
    };
    rollout.go_on(progress, observed).await
}

/// Tells others that what was live comes back, where something was.
pub(crate) async fn announce_way_back<C: Calls>(store: &Store, calls: &C, run: &Run, progress: &Progress) {
    if progress.live.is_none() {
        return;
    }
    let reason = progress.cause.as_deref().unwrap_or_default();
    match store.release(&run.app, &run.environment, &run.release).await {
        Ok(Some(record)) => calls.announce(&record, Happening::RollingBack { reason }).await,
        Ok(None) => {}
        Err(error) => tracing::warn!(release = %run.release, %error, "nobody was told that it is rolled back"),
    }
}

/// Writes down how far a rollout is, and what was done as a step of its release.
pub(crate) async fn tell(
    store: &Store,
    run: &Run,
    progress: &Progress,
    what: String,
    now: Timestamp,
) -> Result<(), Error> {
    tracing::info!(release = run.release.as_str(), what);
    let step = Step { at: now, by: "deploy-service".to_owned(), what };
    Ok(store.save_progress_and_step(run, PROGRESS, progress, step).await?)
}

/// What the release that is live wrote down of its rollout, if it did.
pub(crate) async fn written_by(store: &Store, run: &Run, live: &Live) -> Result<Option<Progress>, StoreError> {
    store.progress(&Run { release: live.release.clone(), ..run.clone() }, PROGRESS).await
}

/// A release with what it is made of.
struct Release<'a> {
    run: &'a Run,
    wanted: Wanted<'a>,
    network: &'a NetworkOutputs,
}

/// A rollout's beginning: the revision it makes live, found or registered, and the version to go back to.
async fn prepare<C: Calls>(
    store: &Store,
    calls: &C,
    surroundings: &Surroundings,
    release: &Release<'_>,
    service: Option<&Service>,
    now: Timestamp,
) -> Result<Progress, Error> {
    let Release { run, wanted, network } = release;
    let mut task = wanted.service_task(surroundings).map_err(ServiceError::from)?;
    let rotated = match wanted.service.restart_on_rotation {
        true => store.component(&run.app, &run.environment, &run.component).await?.rotation.last,
        false => None,
    };
    if let Some(rotated) = &rotated {
        task = task.after_rotation(rotated.at);
    }
    let mut settings = Settings::of(wanted, network).map_err(ServiceError::from)?;
    let service = service.filter(|service| !service.draining);
    settings.shift = match service {
        Some(service) => service.shift_towards(&settings),
        None => settings.shift.map(Shift::of_a_first),
    };
    if let Some(why) = service.and_then(|service| service.settings.no_way_to(&settings)) {
        let reason = format!(
            "{why}, which ECS cannot change; delete the service in ECS, which stops it, and start the execution again to make it anew"
        );
        return Err(Error::Refused { service: wanted.name.clone(), reason });
    }
    let primary = service.and_then(Service::primary);
    let ours = Version {
        revision: Revision {
            task_definition: revision(calls, &task, primary.map(|primary| primary.task_definition.as_str())).await?,
            digest: wanted.source.digest().cloned(),
        },
        settings,
    };
    let shown = service.zip(primary).filter(|(_, primary)| primary.task_definition != ours.revision.task_definition);
    let version_of = |(service, primary): (&Service, &rollout::Deployment), digest| Version {
        revision: Revision { task_definition: primary.task_definition.clone(), digest },
        settings: service.settings.clone(),
    };
    let previous = store.release(&run.app, &run.environment, &run.release).await?.and_then(|record| record.previous);
    let (known, live) = match previous {
        // The live release wrote down what it deployed. The service may show another one's: a release that this one superseded
        // half way. Where it wrote nothing down, what the service shows is the best guess, and our own version the last: it
        // keeps the service from being stopped.
        Some(live) => match written_by(store, run, &live).await? {
            Some(known) => (Some(known.clone()), Some(known.ours)),
            None => (None, Some(shown.map_or_else(|| ours.clone(), |shown| version_of(shown, None)))),
        },
        // Nothing of ours was live; but what serves is not to be stopped.
        None => (None, shown.filter(|(service, primary)| service.runs(primary)).map(|shown| version_of(shown, None))),
    };
    let tasks = wanted.service.tasks();
    let scaling = wanted.service.scale.as_ref().map(Scaling::of);
    let resize = known
        .as_ref()
        .filter(|known| scaling.is_none() && known.tasks != tasks)
        .and(service)
        .map(|service| Resize { from: service.desired, to: tasks });
    let restarts = rotated.is_some() && known.as_ref().is_some_and(|known| known.rotated != rotated);
    let was_scaled = live.is_some() && known.is_none_or(|known| known.scaling.is_some());
    let alone = wanted.service.smoke.iter().any(|smoke| smoke.path.is_some());
    let keeps = wanted.service.image.keep_live.unwrap_or(keeping::BEFORE);
    let deadline = wanted.service.rollout.deadline.seconds();
    Ok(Progress {
        deadline,
        tasks,
        resize,
        scaling,
        was_scaled,
        keeps,
        alone,
        rotated,
        restarts,
        ..Progress::new(wanted.name.to_string(), ours, live, now)
    })
}

/// The revision of a task definition: the one that the service runs, the newest of the family, or a new one. RegisterTaskDefinition
/// has no token, so an earlier pass may have registered it without being able to say so.
async fn revision<C: Calls>(calls: &C, wanted: &TaskDefinition, running: Option<&str>) -> Result<String, Error> {
    for name in running.into_iter().chain([wanted.family.as_str()]) {
        if let Some(described) = calls.task_definition(name).await?
            && wanted.is(&described)
        {
            return Ok(described.arn);
        }
    }
    Ok(calls.register(wanted).await?)
}

/// Looks at the tasks and targets where they decide what comes next.
async fn observe<C: Calls>(
    calls: &C,
    place: &Place,
    progress: &Progress,
    service: Option<Service>,
    now: Timestamp,
) -> Result<Observed, Error> {
    let attempt = match progress.attempt.as_deref().filter(|_| progress.phase != Phase::Stopping) {
        Some(arn) => calls.attempt(arn).await?,
        None => None,
    };
    let mut observed = Observed { now, service, tasks: Vec::new(), targets: Vec::new(), attempt };
    if let (Some(service), Some(_)) = (&observed.service, rollout::watched(progress, observed.service.as_ref())) {
        let enough = service.desired > 0 && service.primary().is_some_and(|primary| primary.running >= service.desired);
        observed.tasks = calls.tasks(place, enough).await?;
        for group in service.settings.target_group.iter().filter(|_| enough).flat_map(TargetGroup::groups) {
            observed.targets.extend(calls.targets(group).await?);
        }
    }
    Ok(observed)
}

/// A rollout under way, with what acting on it needs.
struct Rollout<'a, C> {
    store: &'a Store,
    calls: &'a C,
    run: &'a Run,
    name: &'a ComponentName,
    place: &'a Place,
    log_group: Option<&'a str>,
    now: Timestamp,
}

impl<C: Calls> Rollout<'_, C> {
    /// Decides and acts until something is to be waited for. What a call starts is written down before it and after it.
    async fn go_on(&self, mut progress: Progress, observed: Observed) -> Result<Turn, Error> {
        for _ in 0..DECISIONS {
            match rollout::next_action(&progress, &observed) {
                Action::Wait { seconds, note } => {
                    self.tell_share(&mut progress, &observed).await?;
                    let complaint = rollout::complaint(&progress, &observed);
                    let unwell = rollout::unwell(&progress, &observed);
                    let is_new = complaint.is_some() && complaint != progress.complaint || unwell != progress.unwell;
                    // The deadline counts from the first pass.
                    if is_new || (progress.deployment.is_none() && !progress.begun) {
                        progress.complaint = complaint.or(progress.complaint);
                        progress.unwell = unwell;
                        self.save(&progress).await?;
                    }
                    return Ok(Turn::Again { seconds, note });
                }
                Action::Refuse { reason } => return Err(Error::Refused { service: self.name.clone(), reason }),
                Action::End(mut verdict) => {
                    if verdict.outcome == Outcome::Succeeded {
                        verdict.reason.push_str(&progress.restarted());
                    }
                    let mut kept = String::new();
                    match verdict.outcome {
                        Outcome::Succeeded | Outcome::Unchanged => {
                            self.scale(&mut progress, &mut verdict, &observed).await?;
                            kept = self.keep(progress.keeps).await?;
                        }
                        Outcome::RolledBack if progress.scaled.is_some() => self.scale_back().await?,
                        _ => {}
                    }
                    progress.verdict = Some(verdict.clone());
                    self.tell(&progress, format!("{}: {}{kept}", verdict.outcome, verdict.reason)).await?;
                    return Ok(Turn::Done(verdict));
                }
                Action::Adopt { deployment } => {
                    let what = format!("took up deployment {deployment} of {}", progress.ours.revision.task_definition);
                    progress.deployment = Some(deployment);
                    if progress.attempt.is_none() && progress.begun && progress.ours.settings.shift.is_some() {
                        progress.attempt = observed.service.as_ref().and_then(|service| service.attempt.clone());
                    }
                    // One that was there before this release is nothing that it did.
                    if progress.begun { self.tell(&progress, what).await? } else { self.save(&progress).await? }
                }
                Action::Serves => {
                    self.tell_share(&mut progress, &observed).await?;
                    progress.served = Some(self.now);
                    let what = match progress.ours.settings.shift {
                        Some(_) => "ECS keeps the old tasks for a while",
                        None => "ECS watches the alarms",
                    };
                    let what = format!("{} serves; {what}", progress.ours.revision.task_definition);
                    // One that was there before this release is nothing that it did.
                    if progress.begun { self.tell(&progress, what).await? } else { self.save(&progress).await? }
                }
                Action::GiveUp { cause, task } => {
                    let log = self.last_lines(&progress, task.as_deref()).await;
                    progress = progress.give_up(format!("{cause}{log}"), self.now);
                    let what = format!("{GIVING_UP}: {}", progress.cause.as_deref().unwrap_or_default());
                    self.tell(&progress, what).await?;
                    announce_way_back(self.store, self.calls, self.run, &progress).await;
                }
                action @ (Action::Create | Action::Update { .. }) => {
                    return self.begin(progress, &observed, &action).await;
                }
                Action::Test => {
                    let note =
                        format!("{} waits to be tested, and serves nobody yet", progress.ours.revision.task_definition);
                    return Ok(Turn::Ready { note });
                }
                Action::Continue { hook } => {
                    self.calls.go_on(progress.attempt.as_deref().unwrap_or_default(), &hook).await?;
                    progress.told = Some(hook);
                    let tested = if progress.tested { "its tests hold; " } else { "" };
                    let what = format!("{tested}requests may go over to {}", progress.ours.revision.task_definition);
                    self.tell(&progress, what.clone()).await?;
                    return Ok(again(2, &what));
                }
                Action::Undo => return self.undo(progress).await,
                Action::Restore => return self.restore(progress, &observed).await,
                Action::Stop => {
                    let change = Change {
                        place: self.place,
                        task_definition: None,
                        settings: None,
                        moves: false,
                        rebinds: false,
                        count: Some(0),
                        force: false,
                    };
                    self.calls.update(change).await?;
                    return Ok(again(2, "stopping the service: nothing was live before"));
                }
            }
        }
        Ok(again(2, "looking again"))
    }

    async fn begin(&self, mut progress: Progress, observed: &Observed, action: &Action) -> Result<Turn, Error> {
        if !progress.begun {
            progress.begun = true;
            progress.since = self.now;
            self.save(&progress).await?;
        }
        let ours = &progress.ours;
        let started = match action {
            Action::Update { count, force } => {
                let change = self.change(&ours.revision.task_definition, &ours.settings, observed);
                let change = Change { count: *count, force: *force, ..change };
                self.calls.update(change).await?
            }
            _ => {
                let token = self.run.release.as_str();
                let new = NewService { place: self.place, version: ours, count: progress.tasks, token, run: self.run };
                self.calls.create(new).await?
            }
        };
        let Started::Deployment { id, attempt } = started else {
            return Ok(again(3, "the service changed meanwhile"));
        };
        // Where nothing of the tasks changed ECS begins no other one.
        let before = observed.service.as_ref().and_then(|service| service.attempt.clone());
        progress.attempt = attempt.filter(|attempt| Some(attempt) != before.as_ref());
        let what = match action {
            Action::Update { count: Some(count), .. } => {
                format!("started deployment {id} of {}, with {count} tasks", ours.revision.task_definition)
            }
            _ => format!("started deployment {id} of {}", ours.revision.task_definition),
        } + &progress.restarted();
        let what = match &observed.service {
            Some(service) if service.settings.lacks_alternate_of(&ours.settings) => {
                format!("{what}; task by task, as it brings the service its second target group")
            }
            _ => what,
        };
        progress.deployment = Some(id);
        self.tell(&progress, what.clone()).await?;
        Ok(again(2, &what))
    }

    /// Sets how the number of tasks follows the load, once the release serves.
    async fn scale(&self, progress: &mut Progress, verdict: &mut Verdict, observed: &Observed) -> Result<(), Error> {
        if progress.scaling.is_none() && !progress.was_scaled {
            return Ok(());
        }
        if let Some(scaling) = progress.scaling.take_if(|scaling| scaling.needs_label()) {
            let group = rollout::serving_group(&progress.ours, observed).unwrap_or_default();
            let load_balancer = self.calls.load_balancer(group).await?.unwrap_or_default();
            let label = scaling::label(&load_balancer, group).ok_or_else(|| Error::Refused {
                service: self.name.clone(),
                reason: "it should scale by requests, but no load balancer sends it any; upload the manifest again to provision it anew".to_owned(),
            })?;
            progress.scaling = Some(scaling.labelled(&label));
        }
        let changes = scaling::changes(progress.scaling.as_ref(), &self.calls.scaling(self.place).await?);
        if !changes.is_empty() && progress.scaled.is_none() {
            progress.scaled = Some(match &progress.scaling {
                Some(scaling) => format!("it scales now: {scaling}"),
                None => "nothing scales it any more".to_owned(),
            });
            self.save(progress).await?;
        }
        for change in &changes {
            self.calls.scale(self.place, change).await?;
        }
        if let Some(scaled) = &progress.scaled {
            *verdict = Verdict { outcome: Outcome::Succeeded, reason: format!("{}; {scaled}", verdict.reason) };
        }
        Ok(())
    }

    /// Sets the scaling back to what the live release made of it.
    async fn scale_back(&self) -> Result<(), Error> {
        let run = self.run;
        let previous = self.store.release(&run.app, &run.environment, &run.release).await?;
        let Some(live) = previous.and_then(|record| record.previous) else { return Ok(()) };
        let Some(known) = written_by(self.store, run, &live).await? else { return Ok(()) };
        for change in &scaling::changes(known.scaling.as_ref(), &self.calls.scaling(self.place).await?) {
            self.calls.scale(self.place, change).await?;
        }
        Ok(())
    }

    /// Keeps the image, and so many that were live before it, from the lifecycle policy of their repository. Says what was not to be
    /// done: that changes nothing about the release, and the next one does it.
    async fn keep(&self, before: u16) -> Result<String, Error> {
        let Artifact::Image { repository, digest } = &self.run.artifact else { return Ok(String::new()) };
        let state = self.store.component(&self.run.app, &self.run.environment, &self.run.component).await?;
        let images = keeping::images(&state, repository, digest, before);
        Ok(match self.tag(repository, &images, before).await {
            Ok(gone) if gone.contains(digest) => format!("; its image is not in {repository} any more: push it again"),
            // Nobody can go back to those, whatever tag they had.
            Ok(_) => String::new(),
            Err(error) => {
                tracing::warn!(%error, %repository, "the images are not kept");
                format!("; the lifecycle policy of {repository} may delete its image: {error}")
            }
        })
    }

    /// Gives each of the images a tag of this service's, and answers which of them are not there. A run that lost its claim meanwhile
    /// may move one that the newer run has just put somewhere; the next release finds the image without, and puts that right.
    async fn tag(&self, repository: &RepositoryName, images: &[Digest], before: u16) -> Result<Vec<Digest>, AwsError> {
        let tags = keeping::tags(&self.run.app, &self.run.environment, self.name);
        let carried = self.calls.carried(repository, &tags).await?;
        let mut gone = Vec::new();
        for (tag, digest) in keeping::moves(&tags, &carried, images, before) {
            if !self.calls.tag(repository, &digest, &tag).await? {
                gone.push(digest);
            }
        }
        Ok(gone)
    }

    async fn restore(&self, mut progress: Progress, observed: &Observed) -> Result<Turn, Error> {
        let Some(live) = &progress.live else {
            return Ok(again(2, "looking again"));
        };
        let settings = live.settings.on_the_way_back();
        let change = self.change(&live.revision.task_definition, &settings, observed);
        let change = Change { count: progress.resize.map(|resize| resize.from), ..change };
        let Started::Deployment { id, attempt } = self.calls.update(change).await? else {
            return Ok(again(3, "the service changed meanwhile"));
        };
        let what = format!("going back: started deployment {id} of {}", live.revision.task_definition);
        progress.back = Some(id);
        if settings.shift.is_some() {
            progress.attempt = attempt;
        }
        self.tell(&progress, what.clone()).await?;
        Ok(again(2, &what))
    }

    /// Asks ECS to go back, as it still has what ran before.
    async fn undo(&self, mut progress: Progress) -> Result<Turn, Error> {
        self.calls.undo(progress.attempt.as_deref().unwrap_or_default()).await?;
        let what = "going back: asked ECS to send all requests to the old tasks again";
        if !progress.undone {
            progress.undone = true;
            self.tell(&progress, what.to_owned()).await?;
        }
        Ok(again(2, what))
    }

    /// Another version of the service, with what of its settings differs.
    fn change<'b>(&'b self, task_definition: &'b str, settings: &'b Settings, observed: &Observed) -> Change<'b> {
        let shown = observed.service.as_ref().map(|service| &service.settings);
        Change {
            place: self.place,
            task_definition: Some(task_definition),
            settings: Some(settings).filter(|_| shown != Some(settings)),
            moves: shown.is_some_and(|shown| shown.placement.capacity != settings.placement.capacity),
            rebinds: shown.is_none_or(|shown| shown.target_group != settings.target_group),
            count: None,
            force: false,
        }
    }

    /// Tells how many of the requests go to our version, where that has changed.
    async fn tell_share(&self, progress: &mut Progress, observed: &Observed) -> Result<(), Error> {
        let share = observed.attempt.as_ref().and_then(|attempt| attempt.share).filter(|share| *share > 0);
        let is_going_over = progress.phase == Phase::Deploying && progress.ours.settings.shift.is_some();
        if let Some(share) = share.filter(|share| is_going_over && progress.share != Some(*share)) {
            progress.share = Some(share);
            let what = format!("{share} % of the requests go to {}", progress.ours.revision.task_definition);
            self.tell(progress, what).await?;
        }
        Ok(())
    }

    async fn save(&self, progress: &Progress) -> Result<(), Error> {
        Ok(self.store.save_progress(self.run, PROGRESS, progress, self.now).await?)
    }

    /// Saves the progress together with what it adds to the release's story.
    async fn tell(&self, progress: &Progress, what: String) -> Result<(), Error> {
        tell(self.store, self.run, progress, what, self.now).await
    }

    /// The last log lines of a task that failed. Without them the cause stands all the same.
    async fn last_lines(&self, progress: &Progress, task: Option<&str>) -> String {
        let (Some(task), Some(log_group)) = (task, self.log_group) else { return String::new() };
        let stream = task::log_stream(task::SERVICE_STREAM, &progress.container, task);
        match self.calls.log_tail(log_group, &stream).await {
            Ok(lines) => task::last_lines(&lines),
            Err(error) => {
                tracing::warn!(%error, stream, "the log cannot be read");
                String::new()
            }
        }
    }
}

pub(crate) fn again(seconds: u32, note: &str) -> Turn {
    Turn::Again { seconds, note: note.to_owned() }
}

#[cfg(test)]
mod tests;
