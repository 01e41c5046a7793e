//! What differs between an environment's services and what is live: load, look, compare. Nothing is changed or written down.

use jiff::Timestamp;
use shipway_aws::Store;
use shipway_domain::{
    drift::DriftStatus,
    message::{Difference, DriftFound, DriftInput, Run},
    name::Component,
    rollout::{Progress, drift},
    task,
};

use crate::handler::{Calls, Error, PROGRESS, Place};

/// Looks at every service of which something is live.
pub(crate) async fn find<C: Calls>(
    store: &Store,
    calls: &C,
    input: &DriftInput,
    now: Timestamp,
) -> Result<DriftFound, Error> {
    let DriftInput { app, environment } = input;
    let (record, manifest) = store.applied(app, environment).await?;
    let mut differences = Vec::new();
    for name in manifest.spec.services.keys() {
        let component = Component::Service(name.clone());
        let of = component.to_string();
        let state = store.component(app, environment, &component).await?;
        if state.claim.is_some_and(|claim| claim.until > now) {
            differences.push(Difference { of, what: DriftStatus::Deploying.words().to_owned() });
            continue;
        }
        let (Some(live), Some(cluster)) = (state.live, record.platform.cluster.clone()) else { continue };
        let run = Run {
            app: app.clone(),
            environment: environment.clone(),
            component,
            artifact: live.artifact,
            release: live.release,
            fence: state.fence,
            repair: false,
        };
        let Some::<Progress>(live) = store.progress(&run, PROGRESS).await? else { continue };
        let place = Place { cluster, name: task::service_name(app, environment, name) };
        let service = calls.service(&place).await?;
        let scaling = calls.scaling(&place).await?;
        differences.extend(drift::differences(&of, &live, service.as_ref(), Some(&scaling)));
    }
    Ok(DriftFound { differences })
}
