//! The pass that compares: stacks with the manifest they stand by, and what stacks made with what it is now.

use std::collections::BTreeMap;

use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use serde::Serialize;
use shipway_aws::{AwsError, store::Manifest};
use shipway_domain::{
    message::{Difference, DriftFound},
    name::{AppName, EnvironmentName},
    platform::{Observed, ObservedStack, Place, StackName, Wish, resource_difference, stack_differences, stacks},
};

use super::{AT_ONCE, ProvisionError, Records, look};
use crate::aws::{Capacity, Detection, Stacks};

/// How long CloudFormation needs at least to compare a stack.
const SECONDS: u32 = 5;

/// The answer of a comparison.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub(crate) enum Compared {
    /// Not there yet.
    Again {
        /// How long to wait before the next pass.
        seconds: u32,
        /// What is waited for.
        note: String,
        /// What the next pass must be given back: the comparisons begun, by stack.
        detections: BTreeMap<String, String>,
    },
    /// Done.
    Done(DriftFound),
}

/// Makes one pass.
pub(super) async fn compare<C: Stacks + Capacity>(
    place: &Place,
    cloud: &C,
    records: &impl Records,
    app: &AppName,
    environment: &EnvironmentName,
    detections: BTreeMap<String, String>,
) -> Result<Compared, ProvisionError> {
    let (record, Manifest { spec, .. }) = records.applied(app, environment).await?;
    let wish = Wish { spec: &spec, environment, place, network: record.network.as_ref() };
    let observed = look(cloud, &stacks(&wish, &Observed::new())?).await?;
    let (mut differences, as_wanted) = stack_differences(&stacks(&wish, &observed)?, &observed);

    let looks = as_wanted.iter().filter_map(|name| Some((name, observed.get(name)?))).map(|(name, stack)| {
        let begun = detections.get(name.as_str());
        async move { Ok::<_, AwsError>((name, of_resources(cloud, name, stack, begun).await?)) }
    });
    let mut running = BTreeMap::new();
    let mut waited_for = 0;
    let looked: Vec<_> = iter(looks).buffered(AT_ONCE).try_collect().await?;
    for (name, looked) in looked {
        match looked {
            Looked::Running(id) => {
                waited_for += 1;
                running.extend(id.map(|id| (name.to_string(), id)));
            }
            Looked::Ended { id, found } => {
                running.extend(id.map(|id| (name.to_string(), id)));
                differences.extend(found);
            }
        }
    }
    if waited_for > 0 {
        let note = format!("{waited_for} stacks are being compared with what they made");
        return Ok(Compared::Again { seconds: SECONDS, note, detections: running });
    }
    if let Some(wanted) = wish.capacity(&observed) {
        let step = wanted.next(&cloud.capacity(&wanted).await?);
        differences.extend(step.difference(&wanted));
    }
    Ok(Compared::Done(DriftFound { differences }))
}

enum Looked {
    /// Its comparison goes on, under this id if we began it.
    Running(Option<String>),
    /// Its comparison ended, with these differences.
    Ended { id: Option<String>, found: Vec<Difference> },
}

async fn of_resources(
    cloud: &impl Stacks,
    name: &StackName,
    stack: &ObservedStack,
    begun: Option<&String>,
) -> Result<Looked, AwsError> {
    let detection = match begun {
        None => cloud.detect(&stack.id).await?,
        Some(begun) => cloud.detection(&stack.id, begun).await?,
    };
    Ok(match detection {
        Detection::Running(id) => Looked::Running(id),
        Detection::Impossible => Looked::Ended { id: None, found: Vec::new() },
        Detection::Ended => {
            let drifts = cloud.drifts(&stack.id).await?;
            let found = drifts.iter().filter_map(|drift| resource_difference(name, stack, drift)).collect();
            Looked::Ended { id: begun.cloned(), found }
        }
    })
}
