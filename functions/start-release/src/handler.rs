//! Load → decide → write down what is desired → start its execution.
//!
//! The order matters: what is desired is written before its execution starts, under the execution's name. A run cut off between
//! the two is made good by the next event for the same artifact, or by the retry of this one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shipway_aws::{
    AwsError, PublicError, Store,
    runtime::{MissingSetting, setting},
    store::{Place, Route, StoreError, Teardown},
};
use shipway_domain::{
    alarm,
    event::{self, Announced, Delivered, Home},
    failure::Failure,
    manifest::{PublicImage, Service, TagPattern},
    message::{self, DriftInput, ReleaseInput, Unreadable},
    name::{AppName, Component, Digest, EnvironmentName, ReleaseId, RepositoryName},
    order,
    release::{Artifact, ComponentState, Intake, Order, Wanted, execution_name, sweep, take_in},
    rotation::{self, Decision, Secret, Seen},
};

mod sweep;

/// How often a write is tried again when another event's came between.
const RACES: usize = 5;

/// What the template says.
pub(crate) struct Settings {
    home: Home,
    provision: String,
    rollout: String,
    publish: String,
    drift: String,
}

impl Settings {
    /// From the function's environment.
    pub(crate) fn from_environment() -> Result<Settings, MissingSetting> {
        Ok(Settings {
            home: Home {
                account: setting("ACCOUNT")?,
                region: setting("AWS_REGION")?,
                intake_bucket: setting("INTAKE_BUCKET")?,
            },
            provision: setting("PROVISION_MACHINE")?,
            rollout: setting("ROLLOUT_MACHINE")?,
            publish: setting("PUBLISH_MACHINE")?,
            drift: setting("DRIFT_MACHINE")?,
        })
    }

    pub(crate) fn intake_bucket(&self) -> &str {
        &self.home.intake_bucket
    }

    fn machine(&self, component: &Component) -> &str {
        match component {
            Component::Platform => &self.provision,
            Component::Service(_) => &self.rollout,
            Component::Site(_) | Component::Preview(..) => &self.publish,
        }
    }
}

/// What can end a start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The table.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// ECR or Step Functions.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// Others wrote between every reading and writing.
    #[error("{0} was changed in between {RACES} times; trying again later helps")]
    Busy(Component),
    /// Neither an event nor what a machine says.
    #[error("the message is not what the machine `provision` says when a platform stands")]
    Message(#[source] Unreadable),
    /// It is none of the schedules' either.
    #[error("the message is not what a schedule says: {{\"shipway\": \"drift\"}} or {{\"shipway\": \"sweep\"}}")]
    Schedule(#[source] Unreadable),
    /// The execution's input could not be written.
    #[error("the execution's input could not be written")]
    Input(#[source] serde_json::Error),
}

impl PublicError for Error {
    fn failure(&self) -> Failure {
        match self {
            Error::Store(error) => error.failure(),
            Error::Aws(error) => error.failure(),
            Error::Busy(_) => Failure::Transient,
            Error::Message(_) | Error::Schedule(_) => Failure::RejectedInput,
            Error::Input(_) => Failure::Bug,
        }
    }
}

/// What became of one artifact for one component, or of an event as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Answer {
    /// The component, where the event was for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) component: Option<String>,
    /// The execution that was started, or was running or done already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) execution: Option<String>,
    /// What happened, in one sentence.
    pub(crate) note: String,
}

impl Answer {
    fn ignored(component: Option<String>, note: String) -> Answer {
        Answer { component, execution: None, note }
    }
}

/// An image in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PushedImage {
    /// Its digest.
    pub(crate) digest: Digest,
    /// When it was pushed.
    pub(crate) pushed_at: Timestamp,
    /// The tags it has.
    pub(crate) tags: Vec<String>,
}

/// The current version of an object in the intake bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upload {
    /// Its key.
    pub(crate) key: String,
    /// The version's id.
    pub(crate) version: String,
    /// When it came, to the second.
    pub(crate) at: Timestamp,
}

/// What became of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// The execution runs.
    Running,
    /// It ran and ended already.
    Before,
}

/// The calls beside the table's: ECR's and Step Functions'.
pub(crate) trait Calls {
    /// The image with this digest, or nothing where it is no longer there.
    async fn image(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<PushedImage>, AwsError>;
    /// The image that was pushed last under a tag that one of `patterns` matches.
    async fn newest_image(
        &self,
        repository: &RepositoryName,
        patterns: &[TagPattern],
    ) -> Result<Option<PushedImage>, AwsError>;
    /// The current versions of all objects in the intake bucket whose keys begin so.
    async fn uploads(&self, prefix: &str) -> Result<Vec<Upload>, AwsError>;
    /// What these secrets are now, by name: their versions, never their values. One that is not there is left out.
    async fn seen(&self, secrets: &BTreeSet<Secret>) -> Result<BTreeMap<String, Seen>, AwsError>;
    /// Starts an execution by name; one that runs or ran under this name already is as good.
    async fn start(&self, machine: &str, name: &str, input: &str) -> Result<Started, AwsError>;
}

/// The message of the machine `provision` when a platform stands.
#[derive(Debug, Deserialize)]
struct PlatformStands {
    platform: Platform,
}

#[derive(Debug, Deserialize)]
struct Platform {
    app: AppName,
    environment: EnvironmentName,
    release: ReleaseId,
}

/// What the schedule says, all of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Scheduled {
    /// Something that is done again and again.
    Shipway(Work),
}

/// What is done by a schedule.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Work {
    /// Compare all environments with their records.
    Drift,
    /// Take in what was delivered and not announced.
    Sweep,
}

/// Answers an EventBridge event, a schedule, or the machine `provision` when a platform stands.
pub(crate) async fn handle<C: Calls>(
    settings: &Settings,
    store: &Store,
    calls: &C,
    message: Value,
    now: Timestamp,
) -> Result<Vec<Answer>, Error> {
    let starter = Starter { settings, store, calls, now };
    let answers = if message.get("platform").is_some() {
        let stands: PlatformStands = message::read(&message).map_err(Error::Message)?;
        starter.components(stands.platform).await?
    } else if message.get("shipway").is_some() {
        match message::read(&message).map_err(Error::Schedule)? {
            Scheduled::Shipway(Work::Drift) => starter.compare().await?,
            Scheduled::Shipway(Work::Sweep) => starter.sweep().await?,
        }
    } else {
        match event::read(&message, &settings.home) {
            Ok(announced) => starter.announced(announced).await?,
            Err(ignored) => vec![Answer::ignored(None, format!("ignored: {ignored}"))],
        }
    };
    for answer in &answers {
        tracing::info!(component = answer.component, execution = answer.execution, note = answer.note);
    }
    Ok(answers)
}

struct Starter<'a, C> {
    settings: &'a Settings,
    store: &'a Store,
    calls: &'a C,
    now: Timestamp,
}

/// A platform's release, and since when the platform stands by it.
struct Stands {
    release: ReleaseId,
    since: Timestamp,
}

/// Where an artifact goes.
struct Target<'a> {
    app: &'a AppName,
    environment: &'a EnvironmentName,
    component: Component,
}

impl Stands {
    /// When what its manifest names came to be wanted.
    fn order(&self, now: Timestamp) -> Order {
        Order { at: if self.since == Timestamp::MAX { now } else { self.since }, sequencer: None }
    }
}

impl Target<'_> {
    fn full_name(&self) -> String {
        format!("{}/{}/{}", self.app, self.environment, self.component)
    }

    fn torn_down(&self, teardown: &Teardown) -> Answer {
        let note = format!("ignored: {}", teardown.refusal(self.app, self.environment));
        Answer::ignored(Some(self.full_name()), note)
    }
}

impl<C: Calls> Starter<'_, C> {
    async fn announced(&self, announced: Announced) -> Result<Vec<Answer>, Error> {
        match announced {
            Announced::Manifest { app, environment, object } => {
                let target = Target { app: &app, environment: &environment, component: Component::Platform };
                Ok(vec![self.announce(&target, object).await?])
            }
            Announced::Zip { app, environment, component, object } => {
                let record = self.store.environment(&app, &environment).await?.unwrap_or_default();
                let known = record
                    .applied
                    .is_some_and(|applied| component.site().is_some_and(|site| applied.spec.sites.contains_key(site)));
                let target = Target { app: &app, environment: &environment, component };
                if let Some(teardown) = record.teardown {
                    return Ok(vec![target.torn_down(&teardown)]);
                }
                if known {
                    return Ok(vec![self.announce(&target, object).await?]);
                }
                let note = format!(
                    "ignored: {app}/{environment} has no such site; name it in the manifest, upload that, then upload the zip again"
                );
                Ok(vec![Answer::ignored(Some(target.full_name()), note)])
            }
            Announced::Image { repository, digest, tag } => {
                let routes = self.store.routes(&repository).await?;
                let routes: Vec<Route> =
                    routes.into_iter().filter(|route| route.tags.iter().any(|pattern| pattern.matches(&tag))).collect();
                if routes.is_empty() {
                    let note = format!("ignored: no service takes the tag `{tag}` of {repository}");
                    return Ok(vec![Answer::ignored(None, note)]);
                }
                let Some(image) = self.calls.image(&repository, &digest).await? else {
                    let note = format!("ignored: {repository}@{digest} is not there any more");
                    return Ok(vec![Answer::ignored(None, note)]);
                };
                let places: BTreeSet<Place> =
                    routes.into_iter().map(|route| Place { app: route.app, environment: route.environment }).collect();
                let mut answers = Vec::new();
                for Place { app, environment } in &places {
                    let record = self.store.environment(app, environment).await?.unwrap_or_default();
                    let Some(applied) = record.applied else { continue };
                    for name in order::takers(&applied.spec, &repository, &tag, &image.tags) {
                        let target = Target { app, environment, component: Component::Service(name) };
                        if let Some(teardown) = &record.teardown {
                            answers.push(target.torn_down(teardown));
                            continue;
                        }
                        let object = Delivered {
                            artifact: Artifact::Image { repository: repository.clone(), digest: digest.clone() },
                            order: Order { at: image.pushed_at, sequencer: None },
                        };
                        answers.push(self.announce(&target, object).await?);
                    }
                }
                Ok(answers)
            }
        }
    }

    /// Compares every environment that stands with its records: one execution each, one an hour at most. A schedule that comes
    /// twice, and a call that was cut off and made again, start none twice.
    async fn compare(&self) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::new();
        for place in self.store.environments().await? {
            let Place { app, environment } = &place;
            let name = format!("drift-{app}-{environment}-{}", self.now.strftime("%Y%m%dT%H"));
            let input = DriftInput { app: app.clone(), environment: environment.clone() };
            let input = serde_json::to_string(&input).map_err(Error::Input)?;
            let note = match self.calls.start(&self.settings.drift, &name, &input).await? {
                Started::Running => format!("{app}/{environment} is compared with its records"),
                Started::Before => format!("{app}/{environment} was compared within this hour already"),
            };
            answers.push(Answer { component: None, execution: Some(name), note });
        }
        Ok(answers)
    }

    /// Takes in what was delivered and never announced: of each component the newest that is there. What one of them meets keeps
    /// no other from its turn; the first error is told at the end.
    async fn sweep(&self) -> Result<Vec<Answer>, Error> {
        let mut found = Vec::new();
        for prefix in [sweep::MANIFESTS, sweep::ZIPS] {
            found.extend(sweep::newest(self.calls.uploads(prefix).await?, self.now));
        }
        let mut answers = Vec::new();
        let mut failed = None;
        // What was never provisioned to its end is no environment that stands, but its manifest is there.
        let mut places: BTreeSet<Place> = found.iter().map(|(place, ..)| place.clone()).collect();
        for (place, component, object) in found {
            let target = Target { app: &place.app, environment: &place.environment, component };
            let manifest = target.component == Component::Platform;
            let known = async || {
                let record = self.store.environment(&place.app, &place.environment).await?.unwrap_or_default();
                let applied = record.applied.filter(|_| record.teardown.is_none());
                Ok::<_, Error>(applied.is_some_and(|applied| {
                    target.component.site().is_some_and(|site| applied.spec.sites.contains_key(site))
                }))
            };
            let swept = async || match manifest || known().await? {
                true => self.swept(&target, object).await,
                false => Ok(None),
            };
            take(swept().await, &mut answers, &mut failed);
        }
        for place in self.store.environments().await? {
            let swept = self.sweep_images(&place, &mut failed).await;
            take(swept, &mut answers, &mut failed);
            let rotated = self.sweep_secrets(&place, &mut failed).await;
            take(rotated, &mut answers, &mut failed);
            places.insert(place);
        }
        for place in places {
            take(self.held(&place).await, &mut answers, &mut failed);
        }
        failed.map_or(Ok(answers), Err)
    }

    /// Says in the log which claims are held by releases that nobody goes on with. An alarm counts these lines.
    async fn held(&self, place: &Place) -> Result<Vec<Answer>, Error> {
        let Place { app, environment } = place;
        let mut components = self.store.components(app, environment).await?;
        components.push((Component::Platform, self.store.component(app, environment, &Component::Platform).await?));
        let mut answers = Vec::new();
        for (component, state) in components {
            let Some(claim) = alarm::held_too_long(&state, self.now) else { continue };
            let record = self.store.release(app, environment, &claim.release).await?;
            if record.is_some_and(|record| alarm::waits_rightly(&record, self.now)) {
                continue;
            }
            let target = Target { app, environment, component };
            tracing::error!(of = target.full_name(), release = %claim.release, until = %claim.until, "a claim is held too long");
            let note = format!("{} holds its claim, which ran out at {}", claim.release, claim.until);
            answers.push(Answer::ignored(Some(target.full_name()), note));
        }
        Ok(answers)
    }

    /// The same for the services of an environment, whose images are pushed.
    async fn sweep_images(&self, place: &Place, failed: &mut Option<Error>) -> Result<Vec<Answer>, Error> {
        let Place { app, environment } = place;
        let Some(record) = self.store.environment(app, environment).await? else { return Ok(Vec::new()) };
        let Some(applied) = record.applied.filter(|_| record.teardown.is_none()) else { return Ok(Vec::new()) };
        let mut answers = Vec::new();
        let mut left = BTreeSet::new();
        for name in order::in_order(&applied.spec) {
            let Some(service) = applied.spec.services.get(name) else { continue };
            let Some(repository) = &service.image.repository else { continue };
            // Nobody overtakes a service that goes first and could not be looked at.
            if service.after.iter().any(|first| left.contains(first)) {
                left.insert(name);
                continue;
            }
            let target = Target { app, environment, component: Component::Service(name.clone()) };
            let swept = async || match self.calls.newest_image(repository, &service.image.tags).await? {
                Some(image) if sweep::is_due(image.pushed_at, self.now) => {
                    let artifact = Artifact::Image { repository: repository.clone(), digest: image.digest };
                    let order = Order { at: image.pushed_at, sequencer: None };
                    self.swept(&target, Delivered { artifact, order }).await
                }
                _ => Ok(None),
            };
            let swept = swept().await;
            if swept.is_err() {
                left.insert(name);
            }
            take(swept, &mut answers, failed);
        }
        Ok(answers)
    }

    /// Restarts the services of an environment that ask for it and have a secret that was rotated.
    async fn sweep_secrets(&self, place: &Place, failed: &mut Option<Error>) -> Result<Vec<Answer>, Error> {
        let Place { app, environment } = place;
        let Some(record) = self.store.environment(app, environment).await? else { return Ok(Vec::new()) };
        let Some(applied) = record.applied.filter(|_| record.teardown.is_none()) else { return Ok(Vec::new()) };
        let mut answers = Vec::new();
        for (name, service) in applied.spec.services.iter().filter(|(_, service)| service.restart_on_rotation) {
            let target = Target { app, environment, component: Component::Service(name.clone()) };
            let secrets = rotation::secrets(service, &record.platform.secrets);
            take(self.rotated(&target, &secrets).await, &mut answers, failed);
        }
        Ok(answers)
    }

    /// Compares a service's secrets with what is remembered of them. What changes meanwhile is left for the next sweep.
    async fn rotated(&self, target: &Target<'_>, secrets: &BTreeSet<Secret>) -> Result<Option<Answer>, Error> {
        let Target { app, environment, component } = target;
        let state = self.store.component(app, environment, component).await?;
        let Some(live) = &state.live else { return Ok(None) };
        let seen = self.calls.seen(secrets).await?;
        if !rotation::is_news(&state, &seen, self.now) {
            return Ok(None);
        }
        let releases = self.store.newest_releases(app, environment, None, order::LOOKED_AT).await?;
        let since = self.now.as_millisecond().to_string();
        let execution = execution_name(app, environment, component, &live.artifact, &since);
        let (new, wanted) = match rotation::decide(&state, &releases, &seen, &execution, self.now) {
            Decision::Nothing => return Ok(None),
            Decision::StartAgain(wanted) => return self.start(target, &wanted).await.map(Some),
            Decision::Remember(new) => (new, None),
            Decision::Restart(new, wanted) => (new, Some(wanted)),
        };
        match (self.store.put_component(app, environment, component, &state, &new).await, wanted) {
            (Ok(()), Some(wanted)) => self.start(target, &wanted).await.map(Some),
            (Ok(()) | Err(StoreError::Changed), _) => Ok(None),
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Takes in one find; nothing is said of what is known already.
    async fn swept(&self, target: &Target<'_>, found: Delivered) -> Result<Option<Answer>, Error> {
        let since = self.now.as_millisecond().to_string();
        let execution = execution_name(target.app, target.environment, &target.component, &found.artifact, &since);
        let decide = |state: &ComponentState| sweep(state, &found.artifact, &found.order, &execution, self.now);
        let answer = self.want(target, None, decide).await?;
        Ok(Some(answer).filter(|answer| answer.execution.is_some()))
    }

    /// Releases again what is live on a platform that stands, by the manifest's new settings. A service of which nothing was
    /// ever wanted gets the newest image that is there already.
    async fn components(&self, platform: Platform) -> Result<Vec<Answer>, Error> {
        let Platform { app, environment, release } = platform;
        let record = self.store.environment(&app, &environment).await?;
        if let Some(teardown) = record.and_then(|record| record.teardown) {
            return Ok(vec![Answer::ignored(None, format!("ignored: {}", teardown.refusal(&app, &environment)))]);
        }
        let (_, manifest) = self.store.applied(&app, &environment).await?;
        let ended = self.store.release(&app, &environment, &release).await?.and_then(|record| record.ended_at);
        let stands = Stands { release, since: ended.unwrap_or(Timestamp::MAX) };
        let mut answers = Vec::new();
        for name in manifest.spec.sites.keys() {
            let target = Target { app: &app, environment: &environment, component: Component::Site(name.clone()) };
            answers.push(self.refresh(&target, &stands, None).await?);
        }
        for name in order::in_order(&manifest.spec) {
            let Some(service) = manifest.spec.services.get(name) else { continue };
            let target = Target { app: &app, environment: &environment, component: Component::Service(name.clone()) };
            answers.extend(self.service(&target, service, &stands).await?);
        }
        Ok(answers)
    }

    /// Releases what is wanted of a service by the manifest's new settings; or what the manifest names now, where what is wanted
    /// is nothing of that.
    async fn service(&self, target: &Target<'_>, service: &Service, stands: &Stands) -> Result<Option<Answer>, Error> {
        let state = self.store.component(target.app, target.environment, &target.component).await?;
        // Named as a refresh of the same provisioning is: made twice it is one.
        let since = stands.release.as_str();
        let answer = match (&service.image.public, &service.image.repository) {
            (Some(image), _) if state.stays_with(image) => self.refresh(target, stands, Some(image)).await?,
            (Some(image), _) => {
                let artifact = Artifact::Public { image: image.clone() };
                let object = Delivered { artifact, order: stands.order(self.now) };
                self.deliver(target, object, since, Some(image)).await?
            }
            (None, Some(repository)) if state.stays_of(repository) => self.refresh(target, stands, None).await?,
            (None, Some(repository)) => match self.calls.newest_image(repository, &service.image.tags).await? {
                Some(image) => {
                    let artifact = Artifact::Image { repository: repository.clone(), digest: image.digest };
                    let mut order = Order { at: image.pushed_at, sequencer: None };
                    // What is wanted until now came from elsewhere, whenever it did.
                    if state.desired.is_some() {
                        order.at = order.at.max(stands.order(self.now).at);
                    }
                    self.deliver(target, Delivered { artifact, order }, since, None).await?
                }
                None => Answer::ignored(Some(target.full_name()), format!("waits for the first push to {repository}")),
            },
            (None, None) => return Ok(None),
        };
        Ok(Some(answer))
    }

    /// What is wanted, wanted again because of this release of the platform.
    async fn refresh(
        &self,
        target: &Target<'_>,
        stands: &Stands,
        named: Option<&PublicImage>,
    ) -> Result<Answer, Error> {
        let decide = |state: &ComponentState| {
            let Some(desired) = &state.desired else { return Intake::Ignore("nothing was delivered yet".to_owned()) };
            let name = execution_name(
                target.app,
                target.environment,
                &target.component,
                &desired.artifact,
                stands.release.as_str(),
            );
            match state.refreshed(&name, stands.since, self.now) {
                None => Intake::Ignore("it came when the platform stood already, and goes by its settings".to_owned()),
                Some(wanted) if wanted != *desired => Intake::Want(wanted),
                // Written down by a call that came no further.
                Some(_) => Intake::StartAgain(desired.clone()),
            }
        };
        self.want(target, named, decide).await
    }

    /// Takes in what an event tells of.
    async fn announce(&self, target: &Target<'_>, object: Delivered) -> Result<Answer, Error> {
        self.deliver(target, object, &self.now.as_millisecond().to_string(), None).await
    }

    async fn deliver(
        &self,
        target: &Target<'_>,
        object: Delivered,
        since: &str,
        named: Option<&PublicImage>,
    ) -> Result<Answer, Error> {
        let execution = execution_name(target.app, target.environment, &target.component, &object.artifact, since);
        self.want(target, named, |state| take_in(state, &object.artifact, &object.order, &execution, self.now)).await
    }

    /// Decides by the component's state, writes down what is wanted, and starts its execution.
    async fn want(
        &self,
        target: &Target<'_>,
        named: Option<&PublicImage>,
        decide: impl Fn(&ComponentState) -> Intake,
    ) -> Result<Answer, Error> {
        let Target { app, environment, component } = target;
        for _ in 0..RACES {
            let state = self.store.component(app, environment, component).await?;
            let wanted = match decide(&state) {
                Intake::Ignore(reason) => {
                    return Ok(Answer::ignored(Some(target.full_name()), format!("ignored: {reason}")));
                }
                Intake::StartAgain(wanted) => wanted,
                Intake::Want(wanted) => {
                    let named = named.or(state.named.as_ref()).cloned();
                    let new = ComponentState { desired: Some(wanted.clone()), named, ..state.clone() };
                    match self.store.put_component(app, environment, component, &state, &new).await {
                        Ok(()) => wanted,
                        Err(StoreError::Changed) => continue,
                        Err(error) => return Err(error.into()),
                    }
                }
            };
            return self.start(target, &wanted).await;
        }
        Err(Error::Busy(component.clone()))
    }

    async fn start(&self, target: &Target<'_>, wanted: &Wanted) -> Result<Answer, Error> {
        let input = ReleaseInput {
            app: target.app.clone(),
            environment: target.environment.clone(),
            component: target.component.clone(),
            artifact: wanted.artifact.clone(),
            repair: false,
        };
        let machine = self.settings.machine(&target.component);
        let input = serde_json::to_string(&input).map_err(Error::Input)?;
        let note = match self.calls.start(machine, &wanted.execution, &input).await? {
            Started::Running => format!("{} goes on its way", wanted.artifact),
            Started::Before => {
                format!("{} had its release already; start its execution again to repeat it", wanted.artifact)
            }
        };
        Ok(Answer { component: Some(target.full_name()), execution: Some(wanted.execution.clone()), note })
    }
}

/// Keeps what came of one component, or the first error.
fn take(came: Result<impl IntoIterator<Item = Answer>, Error>, answers: &mut Vec<Answer>, failed: &mut Option<Error>) {
    match came {
        Ok(came) => answers.extend(came),
        Err(error) => {
            tracing::error!(%error, "left for the next sweep");
            failed.get_or_insert(error);
        }
    }
}

#[cfg(test)]
mod tests;
