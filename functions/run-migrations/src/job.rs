//! A one-off task, from the request for it to its end.

use jiff::Timestamp;
use shipway_aws::Store;
use shipway_domain::{
    message::{Pass, Run, Summary},
    name::ComponentName,
    release::Step,
    task::{
        self, TaskDefinition, databases,
        migration::{self, Action, Ending, Part, Progress},
    },
};

use crate::handler::{Calls, Error, NewTask, Placed};

/// What a one-off task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A part of the service's migration.
    Migration(Part),
    /// The databases that the service uses.
    Databases,
    /// A smoke test, by its name.
    Smoke(&'static str),
}

impl Kind {
    /// The name of its progress in the release's record.
    pub(crate) const fn progress(self) -> &'static str {
        match self {
            Kind::Migration(part) => part.stream(),
            Kind::Databases => "databases",
            Kind::Smoke(name) => name,
        }
    }

    /// What it is, for a person.
    const fn what(self) -> &'static str {
        match self {
            Kind::Migration(part) => part.what(),
            Kind::Databases => "databases",
            Kind::Smoke(_) => "smoke test",
        }
    }
}

/// A one-off task under way, with what acting on it needs.
pub(crate) struct Job<'a, C> {
    pub(crate) store: &'a Store,
    pub(crate) calls: &'a C,
    pub(crate) run: &'a Run,
    pub(crate) name: &'a ComponentName,
    pub(crate) cluster: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) kind: Kind,
}

/// How the task ended, or that it is to be looked at again.
type Went = Result<Ending, Pass<Summary>>;

impl<C: Calls> Job<'_, C> {
    /// The revision of the task definition: the newest of its family, or a new one. RegisterTaskDefinition has no token, so an
    /// earlier pass may have registered it without being able to say so.
    pub(crate) async fn revision(&self, wanted: &TaskDefinition) -> Result<String, Error> {
        if let Some(described) = self.calls.task_definition(&wanted.family).await?
            && wanted.is(&described)
        {
            return Ok(described.arn);
        }
        Ok(self.calls.register(wanted).await?)
    }

    /// Starts the task, or looks how far it is.
    pub(crate) async fn go_on(&self, progress: Progress) -> Result<Went, Error> {
        let Some(arn) = progress.task.clone() else {
            return self.start(progress).await.map(Err);
        };
        let task = self.calls.task(self.cluster, &arn).await?;
        match migration::next_action(&progress, task.as_ref(), self.container(), self.now) {
            Action::Wait { seconds, note } => Ok(Err(Pass::Again { seconds, note })),
            Action::Stop => self.stop(progress, &arn).await.map(Err),
            Action::End(ending) => self.end(progress, ending, &arn).await,
        }
    }

    /// The container that is judged.
    fn container(&self) -> &str {
        match self.kind {
            Kind::Migration(_) | Kind::Smoke(_) => self.name.as_str(),
            Kind::Databases => databases::STREAM,
        }
    }

    /// What it makes or does, for a person.
    fn what(&self, progress: &Progress) -> String {
        match &progress.making {
            Some(making) => format!("the {} {making}", self.kind.what()),
            None if progress.command.is_empty() => format!("the {}", self.kind.what()),
            None => format!("the {} `{}`", self.kind.what(), progress.command),
        }
    }

    /// Starts the task, unless an earlier pass did whose answer was lost: looked for by its name, and behind that RunTask's
    /// own token, for what was just started may not be listed yet.
    async fn start(&self, mut progress: Progress) -> Result<Pass<Summary>, Error> {
        // Both are for this release alone, and of one release there may be several tasks: one for each server, one for each part
        // of the migration. An underscore is in no server's name.
        let release = &self.run.release;
        let started_by = match (&progress.making, self.kind) {
            (Some(making), _) => format!("{release}-{}", making.server),
            (None, Kind::Migration(part)) if part != Part::Migrate => format!("{release}_{}", part.stream()),
            (None, Kind::Smoke(name)) => format!("{release}_{name}"),
            (None, _) => release.to_string(),
        };
        let found = self.calls.find(self.cluster, family(&progress.task_definition), &started_by).await?;
        let placed = match found {
            Some(arn) => Placed::Task(arn),
            None => {
                let token = format!("{started_by}-{}", progress.refused);
                let new = NewTask {
                    cluster: self.cluster,
                    task_definition: &progress.task_definition,
                    placement: &progress.placement,
                    started_by: &started_by,
                    token: &token,
                    run: self.run,
                };
                self.calls.run(new).await?
            }
        };
        match placed {
            Placed::Task(arn) => {
                let id = arn.rsplit('/').next().unwrap_or(&arn);
                let note = match &progress.making {
                    Some(making) => format!("started to make the databases {making}, as task {id}"),
                    None => format!("started {} as task {id}", self.what(&progress)),
                };
                progress.task = Some(arn);
                progress.since = self.now;
                self.tell(&progress, note.clone()).await?;
                Ok(Pass::Again { seconds: 2, note })
            }
            Placed::Refused(reason) => {
                // Asked again under the same token, ECS might only repeat itself.
                progress.refused += 1;
                self.save(&progress).await?;
                Err(Error::NotPlaced { service: self.name.clone(), what: self.kind.what(), reason })
            }
        }
    }

    async fn stop(&self, mut progress: Progress, arn: &str) -> Result<Pass<Summary>, Error> {
        let note = format!("the task for {} did not end in its time; stopping it", self.what(&progress));
        if !progress.timed_out {
            progress.timed_out = true;
            self.tell(&progress, note.clone()).await?;
        }
        self.calls.stop(self.cluster, arn).await?;
        Ok(Pass::Again { seconds: 3, note })
    }

    async fn end(&self, mut progress: Progress, ending: Ending, arn: &str) -> Result<Went, Error> {
        let what = self.what(&progress);
        let ending = match ending {
            Ending::Succeeded => ending,
            Ending::Failed(reason) => {
                let lines = self.log_tail(&progress.log_group, arn).await;
                // The log driver sends a container's last words a moment after its end.
                if lines.is_empty() && !progress.log_awaited {
                    progress.log_awaited = true;
                    self.save(&progress).await?;
                    return Ok(Err(Pass::Again { seconds: 3, note: format!("{what}: failed; waiting for its log") }));
                }
                Ending::Failed(format!("{reason}{}", task::last_lines(&lines)))
            }
        };
        let took = self.now.duration_since(progress.since).as_secs();
        let told = match (&ending, self.kind) {
            (Ending::Succeeded, Kind::Migration(_)) => format!("{what} ended with exit code 0"),
            (Ending::Succeeded, Kind::Databases) => format!("{what} are there"),
            (Ending::Succeeded, Kind::Smoke(_)) => format!("{what} ended with exit code 0, after {took} s"),
            (Ending::Failed(reason), Kind::Smoke(_)) => format!("{what}: failed, after {took} s: {reason}"),
            (Ending::Failed(reason), _) => format!("{what}: failed, and `{}` was not touched: {reason}", self.name),
        };
        progress.ending = Some(ending.clone());
        self.tell(&progress, told).await?;
        Ok(Ok(ending))
    }

    pub(crate) async fn save(&self, progress: &Progress) -> Result<(), Error> {
        Ok(self.store.save_progress(self.run, self.kind.progress(), progress, self.now).await?)
    }

    /// Saves the progress together with what it adds to the release's story.
    async fn tell(&self, progress: &Progress, what: String) -> Result<(), Error> {
        tracing::info!(release = self.run.release.as_str(), what);
        let step = Step { at: self.now, by: "run-migrations".to_owned(), what };
        Ok(self.store.save_progress_and_step(self.run, self.kind.progress(), progress, step).await?)
    }

    /// The last log lines of the task. Without them the failure stands all the same.
    async fn log_tail(&self, group: &str, arn: &str) -> Vec<String> {
        let prefix = match self.kind {
            Kind::Migration(part) => part.stream(),
            Kind::Databases => databases::STREAM,
            Kind::Smoke(name) => name,
        };
        let stream = task::log_stream(prefix, self.container(), arn);
        self.calls.log_tail(group, &stream).await.unwrap_or_else(|error| {
            tracing::warn!(%error, stream, "the log cannot be read");
            Vec::new()
        })
    }
}

/// The family of a revision: `arn:…:task-definition/<family>:<number>`.
fn family(task_definition: &str) -> &str {
    let name = task_definition.rsplit('/').next().unwrap_or(task_definition);
    name.split(':').next().unwrap_or(name)
}
