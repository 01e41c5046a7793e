//! The snapshots before a migration, from the request for them until all are there.

use std::collections::BTreeMap;

use shipway_domain::{
    manifest::DatabaseEngine,
    message::{Pass, Summary},
    release::Step,
    task::{
        Wanted,
        snapshots::{self, Action, Progress},
    },
};
use shipway_ecs::ServiceError;

use crate::{
    handler::{Calls, Error},
    job::Job,
};

/// The name of their progress in the release's record.
const PROGRESS: &str = "snapshots";

/// A snapshot to take.
#[derive(Debug)]
pub(crate) struct NewSnapshot<'a> {
    pub(crate) name: &'a str,
    pub(crate) engine: DatabaseEngine,
    /// The identifier of the instance or the cluster.
    pub(crate) of: &'a str,
    pub(crate) tags: &'a BTreeMap<String, String>,
}

/// Takes the snapshots of the databases that the service uses, all at the same time. `None` once all are there.
pub(crate) async fn take<C: Calls>(job: &Job<'_, C>, wanted: &Wanted<'_>) -> Result<Option<Pass<Summary>>, Error> {
    let Job { store, calls, run, name: service, now, .. } = job;
    let mut progress = match store.progress(run, PROGRESS).await? {
        Some(progress) => progress,
        None => {
            let new = Progress::new(*now);
            store.save_progress(run, PROGRESS, &new, *now).await?;
            new
        }
    };
    let tags = snapshots::tags_of(run);
    let mut missing = Vec::new();
    for server in snapshots::servers(wanted.service) {
        if progress.available.contains(&server) {
            continue;
        }
        let unknown = || ServiceError::NotProvisioned { service: (*service).clone(), what: "a database" };
        let database = wanted.platform.databases.get(&server).ok_or_else(unknown)?;
        let name = snapshots::name(&run.release, &server);
        let found = calls.snapshot(database.engine, &name).await?;
        match snapshots::next_action(found.as_ref(), &database.identifier, &tags) {
            Action::Take => {
                let new = NewSnapshot { name: &name, engine: database.engine, of: &database.identifier, tags: &tags };
                let why_not = calls.take_snapshot(new).await?;
                let how_far = why_not.unwrap_or_else(|| "it was asked for".to_owned());
                missing.push((server, name, how_far));
            }
            Action::Wait(how_far) => missing.push((server, name, how_far)),
            Action::Available => {
                let what = format!("the snapshot {name} of the database {server} is there");
                tracing::info!(release = run.release.as_str(), what);
                progress.available.insert(server);
                let step = Step { at: *now, by: "run-migrations".to_owned(), what };
                store.save_progress_and_step(run, PROGRESS, &progress, step).await?;
            }
            Action::Fail(reason) => {
                return Err(Error::NotSaved { service: (*service).clone(), server, name, reason });
            }
            Action::Refuse => return Err(Error::OthersSnapshot { server, name }),
        }
    }
    let Some((server, name, how_far)) = missing.pop() else { return Ok(None) };
    match progress.pause(*now) {
        Some(seconds) => {
            let note = format!("the snapshot {name} of the database {server} is waited for: {how_far}");
            Ok(Some(Pass::Again { seconds, note }))
        }
        None => {
            let reason = format!("it was not there within {} hours: {how_far}", snapshots::TIMEOUT_SECONDS / 3600);
            Err(Error::NotSaved { service: (*service).clone(), server, name, reason })
        }
    }
}
