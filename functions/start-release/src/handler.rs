//! Load → decide → write down what is desired → start its execution.
//!
//! The order matters: what is desired is written before its execution starts, under the execution's name. A run cut off between
//! the two is made good by the next event for the same artifact, or by the retry of this one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shipway_aws::{
    AwsError, PublicError, Store,
    runtime::{MissingSetting, setting},
    store::{Route, StoreError},
};
use shipway_domain::{
    event::{self, Announced, Delivered, Home},
    failure::Failure,
    message::ReleaseInput,
    name::{AppName, Component, EnvironmentName, ReleaseId},
    release::{Artifact, ComponentState, Intake, Order, Wanted, execution_name, take_in},
};

use crate::aws::{Aws, Started};

/// How often a write is tried again when another event's came between.
const RACES: usize = 5;

/// What the template says.
pub struct Settings {
    home: Home,
    provision: String,
    rollout: String,
    publish: String,
}

impl Settings {
    /// From the function's environment.
    pub fn from_environment() -> Result<Settings, MissingSetting> {
        Ok(Settings {
            home: Home {
                account: setting("ACCOUNT")?,
                region: setting("AWS_REGION")?,
                intake_bucket: setting("INTAKE_BUCKET")?,
            },
            provision: setting("PROVISION_MACHINE")?,
            rollout: setting("ROLLOUT_MACHINE")?,
            publish: setting("PUBLISH_MACHINE")?,
        })
    }

    fn machine(&self, component: &Component) -> &str {
        match component {
            Component::Platform => &self.provision,
            Component::Service(_) => &self.rollout,
            Component::Site(_) => &self.publish,
        }
    }
}

/// What can end a start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The table.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// ECR or Step Functions.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// Others wrote between every reading and writing.
    #[error("other events for {0} came in between {RACES} times; the event is delivered again")]
    Busy(Component),
    /// The execution's input could not be written.
    #[error("the execution's input could not be written: {0}")]
    Input(#[from] serde_json::Error),
}

impl PublicError for Error {
    fn failure(&self) -> Failure {
        match self {
            Error::Store(error) => error.failure(),
            Error::Aws(error) => error.failure(),
            Error::Busy(_) => Failure::Transient,
            Error::Input(_) => Failure::Bug,
        }
    }
}

/// What became of one artifact for one component, or of an event as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The component, where the event was for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The execution that was started, or was running or done already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<String>,
    /// What happened, in one sentence.
    pub note: String,
}

impl Answer {
    fn ignored(component: Option<String>, note: String) -> Answer {
        Answer { component, execution: None, note }
    }
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

/// Answers an EventBridge event, or the machine `provision` when a platform stands.
pub async fn handle(settings: &Settings, store: &Store, aws: &Aws, message: Value) -> Result<Vec<Answer>, Error> {
    let starter = Starter { settings, store, aws, now: Timestamp::now() };
    let answers = if message.get("platform").is_some() {
        starter.services(serde_json::from_value::<PlatformStands>(message)?.platform).await?
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

struct Starter<'a> {
    settings: &'a Settings,
    store: &'a Store,
    aws: &'a Aws,
    now: Timestamp,
}

/// Where an artifact goes.
struct Target<'a> {
    app: &'a AppName,
    environment: &'a EnvironmentName,
    component: Component,
}

impl Target<'_> {
    fn full_name(&self) -> String {
        format!("{}/{}/{}", self.app, self.environment, self.component)
    }
}

impl Starter<'_> {
    async fn announced(&self, announced: Announced) -> Result<Vec<Answer>, Error> {
        match announced {
            Announced::Manifest { app, environment, object } => {
                let target = Target { app: &app, environment: &environment, component: Component::Platform };
                Ok(vec![self.deliver(&target, object).await?])
            }
            Announced::Zip { app, environment, site, object } => {
                let record = self.store.environment(&app, &environment).await?;
                let known = record
                    .and_then(|record| record.applied)
                    .is_some_and(|applied| applied.spec.sites.contains_key(&site));
                let target = Target { app: &app, environment: &environment, component: Component::Site(site) };
                if known {
                    return Ok(vec![self.deliver(&target, object).await?]);
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
                let Some(image) = self.aws.image(&repository, &digest).await? else {
                    let note = format!("ignored: {repository}@{digest} is not there any more");
                    return Ok(vec![Answer::ignored(None, note)]);
                };
                let mut answers = Vec::new();
                for route in &routes {
                    let target = Target {
                        app: &route.app,
                        environment: &route.environment,
                        component: Component::Service(route.service.clone()),
                    };
                    let object = Delivered {
                        artifact: Artifact::Image { repository: repository.clone(), digest: digest.clone() },
                        order: Order { at: image.pushed_at, sequencer: None },
                    };
                    answers.push(self.deliver(&target, object).await?);
                }
                Ok(answers)
            }
        }
    }

    /// Rolls out what the services of a platform that stands should run: what is live, by the manifest's new settings; where
    /// nothing was ever wanted, the newest image that is there already.
    async fn services(&self, platform: Platform) -> Result<Vec<Answer>, Error> {
        let Platform { app, environment, release } = platform;
        let (_, manifest) = self.store.applied(&app, &environment).await?;
        let mut answers = Vec::new();
        for (name, service) in &manifest.spec.services {
            let target = Target { app: &app, environment: &environment, component: Component::Service(name.clone()) };
            let state = self.store.component(&app, &environment, &target.component).await?;
            if let Some(live) = &state.live {
                let execution = execution_name(&target.component, &live.artifact, release.as_str());
                if let Some(wanted) = state.refreshed(&execution, self.now) {
                    answers.push(self.want_again(&target, state, wanted).await?);
                    continue;
                }
            }
            if state.desired.is_some() {
                let note = "nothing to do: a release of its own is under way, or the last one failed".to_owned();
                answers.push(Answer::ignored(Some(target.full_name()), note));
                continue;
            }
            answers.push(match self.aws.newest_image(&service.image.repository, &service.image.tags).await? {
                Some(image) => {
                    let artifact =
                        Artifact::Image { repository: service.image.repository.clone(), digest: image.digest };
                    let order = Order { at: image.pushed_at, sequencer: None };
                    self.deliver(&target, Delivered { artifact, order }).await?
                }
                None => Answer::ignored(
                    Some(target.full_name()),
                    format!("waits for the first push to {}", service.image.repository),
                ),
            });
        }
        Ok(answers)
    }

    async fn want_again(&self, target: &Target<'_>, state: ComponentState, wanted: Wanted) -> Result<Answer, Error> {
        if state.desired.as_ref() != Some(&wanted) {
            let new = ComponentState { desired: Some(wanted.clone()), ..state.clone() };
            match self.store.put_component(target.app, target.environment, &target.component, &state, &new).await {
                Ok(()) => {}
                Err(StoreError::Changed) => return Err(Error::Busy(target.component.clone())),
                Err(error) => return Err(error.into()),
            }
        }
        self.start(target, &wanted).await
    }

    async fn deliver(&self, target: &Target<'_>, object: Delivered) -> Result<Answer, Error> {
        let since = self.now.as_millisecond().to_string();
        let execution = execution_name(&target.component, &object.artifact, &since);
        for _ in 0..RACES {
            let state = self.store.component(target.app, target.environment, &target.component).await?;
            let wanted = match take_in(&state, &object.artifact, &object.order, &execution, self.now) {
                Intake::Ignore(reason) => {
                    return Ok(Answer::ignored(Some(target.full_name()), format!("ignored: {reason}")));
                }
                Intake::StartAgain(wanted) => wanted,
                Intake::Want(wanted) => {
                    let new = ComponentState { desired: Some(wanted.clone()), ..state.clone() };
                    match self
                        .store
                        .put_component(target.app, target.environment, &target.component, &state, &new)
                        .await
                    {
                        Ok(()) => wanted,
                        Err(StoreError::Changed) => continue,
                        Err(error) => return Err(error.into()),
                    }
                }
            };
            return self.start(target, &wanted).await;
        }
        Err(Error::Busy(target.component.clone()))
    }

    async fn start(&self, target: &Target<'_>, wanted: &Wanted) -> Result<Answer, Error> {
        let input = ReleaseInput {
            app: target.app.clone(),
            environment: target.environment.clone(),
            component: target.component.clone(),
            artifact: wanted.artifact.clone(),
        };
        let machine = self.settings.machine(&target.component);
        let started = self.aws.start(machine, &wanted.execution, &serde_json::to_string(&input)?).await?;
        let note = match started {
            Started::Running => format!("{} goes on its way", wanted.artifact),
            Started::Before => {
                format!("{} had its release already; start its execution again to repeat it", wanted.artifact)
            }
        };
        Ok(Answer { component: Some(target.full_name()), execution: Some(wanted.execution.clone()), note })
    }
}
