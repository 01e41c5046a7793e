//! Smoke tests that are tasks: each once per release, one after the other, once the new version serves.

use jiff::Timestamp;
use shipway_aws::Store;
use shipway_domain::{
    message::{Pass, Run, Summary},
    name::ComponentName,
    smoke::TASKS,
    task::{
        Surroundings,
        migration::{Ending, Progress},
    },
};
use shipway_ecs::{Ground, ServiceError};

use crate::{
    handler::{Calls, Error},
    job::{Job, Kind},
};

/// Makes one pass.
pub(crate) async fn tasks<C: Calls>(
    store: &Store,
    calls: &C,
    surroundings: &Surroundings,
    run: &Run,
    name: &ComponentName,
    now: Timestamp,
) -> Result<Pass<Summary>, Error> {
    // From here on a newer release queues: otherwise nobody would stop a task that hangs.
    store.commit(run, now).await?;
    let ground = Ground::of(store, run, name).await?;
    let cluster = ground.cluster()?;
    let job = |kind| Job { store, calls, run, name, cluster, now, kind };
    let mut first: Option<Progress> = store.progress(run, TASKS[0]).await?;
    if first.is_none() {
        let wanted = ground.wanted()?;
        let placement = wanted.placement(ground.network()?).map_err(ServiceError::from)?.of_one_off();
        let commands = wanted.service.smoke.iter().filter(|smoke| !smoke.command.is_empty());
        let all: Vec<_> = TASKS.into_iter().zip(commands).collect();
        // The first is written down last: where it is, all are, and another manifest changes nothing about them.
        for (kind, smoke) in all.into_iter().rev() {
            let task = wanted.smoke_task(surroundings, kind, &smoke.command).map_err(ServiceError::from)?;
            let job = job(Kind::Smoke(kind));
            let progress = Progress {
                placement: placement.clone(),
                log_group: wanted.outputs.log_group.clone(),
                command: smoke.command.join(" "),
                ..Progress::new(job.revision(&task).await?, smoke.timeout_seconds(), now)
            };
            job.save(&progress).await?;
            first = Some(progress);
        }
    }
    let mut ended = 0;
    for kind in TASKS {
        let known = match first.take() {
            Some(first) => Some(first),
            None => store.progress(run, kind).await?,
        };
        let Some(progress) = known else { break };
        let command = progress.command.clone();
        let ending = match progress.ending.clone() {
            Some(ending) => ending,
            None => match job(Kind::Smoke(kind)).go_on(progress).await? {
                Ok(ending) => ending,
                Err(again) => return Ok(again),
            },
        };
        if let Ending::Failed(reason) = ending {
            return Err(Error::Smoke { service: name.clone(), command, reason });
        }
        ended += 1;
    }
    Ok(Pass::Done(Summary { note: format!("{ended} smoke tests of `{name}` ended with exit code 0") }))
}
