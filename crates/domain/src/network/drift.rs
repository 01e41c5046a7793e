//! How a network that stands differs from what the manifest asks for, without changing it.

use super::{Action, Desired, Observed, Role, Step, next_actions};
use crate::message::Difference;

/// The differences: what the next provisioning would do.
///
/// What only the manifest before let through between the environment's own groups is none of them: the next provisioning
/// closes it, and until the services were rolled out anew it was meant to be open.
#[must_use]
pub fn differences(desired: &Desired, observed: &Observed) -> Vec<Difference> {
    let what = match next_actions(desired, observed) {
        Ok(Step::Done(_)) => Vec::new(),
        Ok(Step::Act(actions)) => {
            let strange = actions.iter().filter_map(|action| strange_part(action, observed));
            strange.map(|action| format!("to be as the manifest asks: {action}")).collect()
        }
        Ok(Step::Wait(why) | Step::LookAgain(why)) => vec![why],
        Err(refusal) => vec![refusal.to_string()],
    };
    what.into_iter().map(|what| Difference { of: "network".to_owned(), what }).collect()
}

/// The part of an action that is about a difference.
fn strange_part(action: &Action, observed: &Observed) -> Option<Action> {
    let Action::Revoke { group, direction, rules } = action else { return Some(action.clone()) };
    let ours = |id: &str| {
        let mut groups = observed.inside.groups.iter();
        groups.any(|known| known.id == id && known.role.as_ref().is_some_and(|role| Role::GROUPS.contains(role)))
    };
    let between = |rule: &super::Rule| matches!(&rule.peer, super::Peer::Group { id, account: None } if ours(id));
    let rules: Vec<_> = rules.iter().filter(|rule| !between(rule)).cloned().collect();
    let (group, direction) = (group.clone(), *direction);
    (!rules.is_empty()).then_some(Action::Revoke { group, direction, rules })
}
