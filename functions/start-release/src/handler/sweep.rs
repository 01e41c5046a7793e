//! Which uploads of the intake bucket a sweep takes up.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use shipway_aws::store::Place;
use shipway_domain::{
    event::{Announced, Delivered, uploaded},
    name::Component,
    release::{Artifact, Order},
};

use super::Upload;

/// Where manifests are.
pub(super) const MANIFESTS: &str = "apps/";
/// Where sites' zips are.
pub(super) const ZIPS: &str = "sites/";

/// How long a delivery is left to its event, which tells more of it.
const OF_THE_EVENT: SignedDuration = SignedDuration::from_mins(2);

/// After this a preview's zip is left alone: its files expire on their own, and nobody wants them back.
const OF_A_PREVIEW: SignedDuration = SignedDuration::from_hours(24);

/// Whether the event of a delivery should have come by now.
pub(super) fn is_due(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at) >= OF_THE_EVENT
}

/// The newest upload of each component, where its event should have come by now. What has no key of ours is left out.
pub(super) fn newest(uploads: Vec<Upload>, now: Timestamp) -> Vec<(Place, Component, Delivered)> {
    let mut newest: BTreeMap<(String, String, String), (Place, Component, Delivered)> = BTreeMap::new();
    for Upload { key, version, at } in uploads {
        let object = Delivered {
            artifact: Artifact::Object { key: key.clone(), version },
            order: Order { at, sequencer: None },
        };
        let (app, environment, component, object) = match uploaded(&key, object) {
            Ok(Announced::Manifest { app, environment, object }) => (app, environment, Component::Platform, object),
            Ok(Announced::Zip { app, environment, component, object }) => (app, environment, component, object),
            Ok(Announced::Image { .. }) | Err(_) => continue,
        };
        if matches!(component, Component::Preview(..)) && now.duration_since(at) > OF_A_PREVIEW {
            continue;
        }
        let whose = (app.to_string(), environment.to_string(), component.to_string());
        let found = (Place { app, environment }, component, object);
        match newest.get_mut(&whose) {
            Some(known) if known.2.order.at < at => *known = found,
            Some(_) => {}
            None => {
                newest.insert(whose, found);
            }
        }
    }
    newest.into_values().filter(|(_, _, object)| is_due(object.order.at, now)).collect()
}
