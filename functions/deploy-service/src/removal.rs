//! One pass over the removal of an environment's services: everything that rollouts and migrations made in ECS.
//!
//! What is ours is known by its tags and looked for anew in each pass, so a pass that was cut off leaves nothing behind. What a
//! pass is about to remove is written down before, for the story that the last one tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shipway_aws::{AwsError, PublicError as _, Store};
use shipway_domain::{
    failure::Failure,
    message::{Pass, Run, Summary},
    release::Step,
    task::{self, Task},
};

use crate::handler::{Error, Place};

/// The progress of a removal in its release's record.
const PROGRESS: &str = "remove_services";

/// How many revisions a pass deregisters: ECS takes one a call and a second.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html>
const MOST_DEREGISTERED: usize = 20;

/// How many revisions ECS deletes with one call.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeleteTaskDefinitions.html>
const MOST_DELETED: usize = 10;

/// A service that is there, or is going.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundService {
    pub(crate) name: String,
    /// Whether it is being deleted already.
    pub(crate) draining: bool,
    pub(crate) tags: BTreeMap<String, String>,
}

/// The calls beside the table's: ECS's and Application Auto Scaling's.
pub(crate) trait Leftovers {
    /// The services of a cluster; none where the cluster is gone.
    async fn services(&self, cluster: &str) -> Result<Vec<FoundService>, AwsError>;
    /// The names of the cluster's services that Application Auto Scaling knows.
    async fn scaled(&self, cluster: &str) -> Result<Vec<String>, AwsError>;
    async fn forget_scaling(&self, place: &Place) -> Result<(), AwsError>;
    async fn delete_service(&self, place: &Place) -> Result<(), AwsError>;
    /// The tasks that run in a cluster or are about to; none where the cluster is gone.
    async fn running(&self, cluster: &str) -> Result<Vec<Task>, AwsError>;
    async fn stop(&self, cluster: &str, task: &str) -> Result<(), AwsError>;
    /// The families whose names begin so, with active revisions or without.
    async fn families(&self, prefix: &str) -> Result<Vec<String>, AwsError>;
    /// The revisions of a family that are active, or that were deregistered and not deleted.
    async fn revisions(&self, family: &str, active: bool) -> Result<Vec<String>, AwsError>;
    /// The tags of a revision; none where it is gone.
    async fn tags(&self, revision: &str) -> Result<Option<BTreeMap<String, String>>, AwsError>;
    async fn deregister(&self, revision: &str) -> Result<(), AwsError>;
    /// Deletes revisions, and says why it does not where it does not.
    async fn delete(&self, revisions: &[String]) -> Result<Option<String>, AwsError>;
}

/// What a removal writes down between passes: what it has found to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    #[serde(default)]
    services: BTreeSet<String>,
    #[serde(default)]
    families: BTreeSet<String>,
    /// The revisions that the pass before this one deregistered, to be deleted: for a moment they may be on no list.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    deregistered: BTreeSet<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
}

/// Makes one pass.
pub(crate) async fn handle<C: Leftovers>(
    store: &Store,
    calls: &C,
    run: &Run,
    now: Timestamp,
) -> Result<Pass<Summary>, Error> {
    store.renew(run, now).await?;
    let progress: Progress = store.progress(run, PROGRESS).await?.unwrap_or_default();
    if let Some(note) = progress.ended {
        return Ok(Pass::Done(Summary { note }));
    }
    let record = store.environment(&run.app, &run.environment).await?;
    let mut removal = Removal { store, calls, run, now, progress };
    if let Some(cluster) = record.and_then(|record| record.platform.cluster) {
        if let Some(again) = removal.services(&cluster).await? {
            return Ok(again);
        }
        if let Some(again) = removal.tasks(&cluster).await? {
            return Ok(again);
        }
    }
    match removal.task_definitions().await? {
        Some(again) => Ok(again),
        None => removal.end().await,
    }
}

/// A removal under way.
struct Removal<'a, C> {
    store: &'a Store,
    calls: &'a C,
    run: &'a Run,
    now: Timestamp,
    progress: Progress,
}

impl<C: Leftovers> Removal<'_, C> {
    /// What all names of this environment's services and families begin with.
    fn prefix(&self) -> String {
        format!("{}-{}-", self.run.app, self.run.environment)
    }

    async fn services(&mut self, cluster: &str) -> Result<Option<Pass<Summary>>, Error> {
        let found = self.calls.services(cluster).await?;
        let ours: Vec<FoundService> = found
            .into_iter()
            .filter(|service| task::is_of(&service.tags, &self.run.app, &self.run.environment))
            .collect();
        let active = || ours.iter().filter(|service| !service.draining);
        let names: BTreeSet<String> = active().map(|service| service.name.clone()).collect();
        if !names.is_subset(&self.progress.services) {
            self.progress.services.extend(names);
            self.save().await?;
        }
        let place = |name: &str| Place { cluster: cluster.to_owned(), name: name.to_owned() };
        // First, lest something gives a service tasks that is on its way out.
        for name in self.calls.scaled(cluster).await? {
            if name.starts_with(&self.prefix()) {
                self.calls.forget_scaling(&place(&name)).await?;
            }
        }
        for service in active() {
            self.calls.delete_service(&place(&service.name)).await?;
        }
        Ok((!ours.is_empty()).then(|| again(5, format!("{} services are to stop", ours.len()))))
    }

    /// One-off tasks. A service's own go with it.
    async fn tasks(&self, cluster: &str) -> Result<Option<Pass<Summary>>, Error> {
        let running = self.calls.running(cluster).await?;
        let left: Vec<&Task> = running.iter().filter(|task| !task.stopped()).collect();
        let family = |task: &Task| task.task_definition.rsplit('/').next().unwrap_or_default().to_owned();
        for task in left.iter().filter(|task| !task.stopping && family(task).starts_with(&self.prefix())) {
            self.calls.stop(cluster, &task.arn).await?;
        }
        Ok((!left.is_empty()).then(|| again(5, format!("{} tasks are to stop", left.len()))))
    }

    async fn task_definitions(&mut self) -> Result<Option<Pass<Summary>>, Error> {
        let mut refused = None;
        let mut room = MOST_DEREGISTERED;
        let deregistered: Vec<String> = mem::take(&mut self.progress.deregistered).into_iter().collect();
        let mut left = !deregistered.is_empty();
        if left {
            refused = self.delete(&deregistered).await?;
            self.save().await?;
        }
        for family in self.calls.families(&self.prefix()).await? {
            let active = self.calls.revisions(&family, true).await?;
            let inactive = self.calls.revisions(&family, false).await?;
            if active.is_empty() && inactive.is_empty() {
                continue;
            }
            match self.tags_of(active.iter().chain(&inactive)).await? {
                Some(tags) if task::is_of(&tags, &self.run.app, &self.run.environment) => {}
                // Another environment's name may begin as this one's does.
                Some(_) => continue,
                // What is there beside them the next pass sees.
                None => {
                    left = true;
                    continue;
                }
            }
            if self.progress.families.insert(family) {
                self.save().await?;
            }
            left = true;
            let some = &active[..room.min(active.len())];
            if !some.is_empty() {
                self.progress.deregistered.extend(some.iter().cloned());
                self.save().await?;
            }
            for revision in some {
                self.calls.deregister(revision).await?;
            }
            room -= some.len();
            refused = self.delete(&inactive).await?.or(refused);
        }
        let note = refused.unwrap_or_else(|| "task definitions are to go".to_owned());
        Ok(left.then(|| again(2, note)))
    }

    /// Deletes revisions. Says why ECS does not where it does not.
    async fn delete(&self, revisions: &[String]) -> Result<Option<String>, Error> {
        let mut refused = None;
        for some in revisions.chunks(MOST_DELETED) {
            let answer = match self.calls.delete(some).await {
                Err(error) if error.failure() == Failure::Denied => self.delete_what_is_there(some, error).await?,
                answer => answer?,
            };
            refused = answer.or(refused);
        }
        Ok(refused)
    }

    /// A role that may delete only what has certain tags is denied what is gone, and all that is to go with it.
    async fn delete_what_is_there(&self, revisions: &[String], denied: AwsError) -> Result<Option<String>, Error> {
        let mut there = Vec::new();
        for revision in revisions {
            if self.calls.tags(revision).await?.is_some() {
                there.push(revision.clone());
            }
        }
        match there.len() {
            0 => Ok(None),
            all if all == revisions.len() => Err(denied.into()),
            _ => Ok(self.calls.delete(&there).await?),
        }
    }

    /// The tags that the revisions of a family have, by the first that is there: one that was deleted may be listed for a while.
    async fn tags_of(
        &self,
        revisions: impl Iterator<Item = &String>,
    ) -> Result<Option<BTreeMap<String, String>>, Error> {
        for revision in revisions {
            if let Some(tags) = self.calls.tags(revision).await? {
                return Ok(Some(tags));
            }
        }
        Ok(None)
    }

    async fn end(mut self) -> Result<Pass<Summary>, Error> {
        let Progress { services, families, .. } = &self.progress;
        if services.is_empty() && families.is_empty() {
            return Ok(Pass::Done(Summary { note: "there were no services and no task definitions".to_owned() }));
        }
        let names: Vec<&str> = services.iter().map(String::as_str).collect();
        let note = format!(
            "removed {} ({}) and the task definitions of {}",
            counted(services.len(), "service", "services"),
            names.join(", "),
            counted(families.len(), "family", "families")
        );
        self.progress.ended = Some(note.clone());
        tracing::info!(release = self.run.release.as_str(), note);
        let step = Step { at: self.now, by: "deploy-service".to_owned(), what: note.clone() };
        self.store.save_progress_and_step(self.run, PROGRESS, &self.progress, step).await?;
        Ok(Pass::Done(Summary { note }))
    }

    async fn save(&self) -> Result<(), Error> {
        Ok(self.store.save_progress(self.run, PROGRESS, &self.progress, self.now).await?)
    }
}

fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

fn again(seconds: u32, note: String) -> Pass<Summary> {
    Pass::Again { seconds, note }
}

#[cfg(test)]
mod tests;
