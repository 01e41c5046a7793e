//! What a release leaves behind that ends with an error before it deployed: the service as it was, or the deployment of another
//! release that it took the service over from, which is undone.

use jiff::Timestamp;
use shipway_aws::Store;
use shipway_domain::{
    message::{Run, Verdict},
    name::ComponentName,
    release::Outcome,
    rollout::{GIVING_UP, LOST_ANSWER, Left, Progress},
    task,
};

use crate::handler::{Calls, Error, Place, Turn, again, announce_way_back, tell, written_by};

/// Looks at the service, and begins the way back where it is not as it was. The passes after this one go on with it.
pub(crate) async fn look<C: Calls>(
    store: &Store,
    calls: &C,
    run: &Run,
    name: &ComponentName,
    now: Timestamp,
) -> Result<Turn, Error> {
    let record = store.environment(&run.app, &run.environment).await?;
    let Some(cluster) = record.and_then(|record| record.platform.cluster) else {
        return Ok(Turn::Done(as_it_was()));
    };
    let own = store.release(&run.app, &run.environment, &run.release).await?;
    let live = match own.as_ref().and_then(|own| own.previous.as_ref()) {
        Some(live) => match written_by(store, run, live).await? {
            Some(known) => Some(known.ours),
            // It wrote nothing down, so what the service shows is the best guess at what it was.
            None => return Ok(Turn::Done(as_it_was())),
        },
        None => None,
    };
    let place = Place { cluster, name: task::service_name(&run.app, &run.environment, name) };
    let service = calls.service(&place).await?;
    match (Left::of(service.as_ref(), live.as_ref()), &service) {
        (Left::HalfWay(left), Some(service)) => {
            let progress = Progress::undoing(name.to_string(), service, left, live, now);
            let what = format!("{GIVING_UP}: {}", progress.cause.as_deref().unwrap_or_default());
            tell(store, run, &progress, what.clone(), now).await?;
            announce_way_back(store, calls, run, &progress).await;
            Ok(again(1, &what))
        }
        // Of a release that was superseded in the middle of a pass, the call that starts its deployment may still be on its way.
        _ if own.is_some_and(|own| now.duration_since(own.started_at) < LOST_ANSWER) => {
            Ok(again(5, "ECS may not show yet what a release before this one began"))
        }
        (Left::Running(left), Some(service)) => {
            let reason = format!(
                "an error ended the rollout before it began; no release was live, but deployment {} of {} runs, so it is left",
                left.id, left.task_definition
            );
            let verdict = Verdict { outcome: Outcome::Failed, reason: reason.clone() };
            let progress = Progress {
                verdict: Some(verdict.clone()),
                ..Progress::undoing(name.to_string(), service, left, None, now)
            };
            tell(store, run, &progress, reason, now).await?;
            Ok(Turn::Done(verdict))
        }
        _ => Ok(Turn::Done(as_it_was())),
    }
}

fn as_it_was() -> Verdict {
    Verdict {
        outcome: Outcome::Failed,
        reason: "an error ended the rollout before it began; the service is as it was".to_owned(),
    }
}
