//! Smoke tests by request: one pass over what the load balancer answers once the new version serves.

use std::time::Duration;

use jiff::Timestamp;
use shipway_aws::Store;
use shipway_domain::{
    message::{Pass, Run, Summary},
    name::ComponentName,
    release::Step,
    smoke::{self, Decision, Progress},
};
use shipway_ecs::ServiceError;

use crate::handler::{Calls, Error};

/// The progress of the requests in their release's record.
const PROGRESS: &str = "smoke";

/// After so long a pass begins no other request: a function has a minute.
const PASS: Duration = Duration::from_secs(30);

/// Makes one pass: request after request as long as each holds.
pub(crate) async fn requests<C: Calls>(
    store: &Store,
    calls: &C,
    run: &Run,
    name: &ComponentName,
    as_test: bool,
    now: Timestamp,
) -> Result<Pass<Summary>, Error> {
    store.renew(run, now).await?;
    let mut progress = match store.progress(run, PROGRESS).await? {
        Some(progress) => progress,
        None => {
            let (record, manifest) = store.applied(&run.app, &run.environment).await?;
            let missing = || ServiceError::NotProvisioned { service: name.clone(), what: "the load balancer" };
            let load_balancer = record.platform.load_balancer.ok_or_else(missing)?;
            let checks = smoke::checks(&manifest.spec, &run.environment, name, &load_balancer, as_test);
            let progress = Progress::new(load_balancer, checks, now);
            store.save_progress(run, PROGRESS, &progress, now).await?;
            progress
        }
    };
    let mut spent = Duration::ZERO;
    loop {
        if let Some(reason) = progress.failed {
            return Err(Error::Smoke { service: name.clone(), reason });
        }
        let Some(check) = progress.next() else {
            return Ok(Pass::Done(Summary { note: format!("{} smoke tests of `{name}` hold", progress.held) }));
        };
        if spent >= PASS {
            return Ok(Pass::Again { seconds: 1, note: format!("{} is next", check.told()) });
        }
        let came = calls.request(&progress.load_balancer, check).await;
        spent += came.took;
        let at = now.checked_add(spent).unwrap_or(now);
        let (next, what) = match smoke::judge(check, &came, progress.since, at) {
            Decision::Again { seconds, note } => return Ok(Pass::Again { seconds, note }),
            Decision::Holds(what) => {
                let held = progress.held + 1;
                (Progress { held, since: at, ..progress }, format!("smoke test: {what}"))
            }
            Decision::Fails(reason) => {
                let what = format!("smoke test: failed: {reason}");
                (Progress { failed: Some(reason), ..progress }, what)
            }
        };
        tracing::info!(release = run.release.as_str(), what);
        let step = Step { at, by: "check-release".to_owned(), what };
        store.save_progress_and_step(run, PROGRESS, &next, step).await?;
        progress = next;
    }
}
