//! What differs between the stacks that should be there and those that are, and between stacks and what they made.

use super::{Next, Observed, ObservedStack, StackName, WantedStack, plan::compare};
use crate::message::Difference;

/// A resource that is not as its stack made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceDrift {
    /// Its name in the template.
    pub resource: String,
    /// Its type.
    pub resource_type: String,
    /// Whether it is gone.
    pub deleted: bool,
    /// The paths of its properties that differ. Their values are not told: they may be secrets.
    pub properties: Vec<String>,
}

/// What stacks differ in from what is wanted; and the stacks that do not differ, whose resources still may.
pub fn of_stacks(wanted: &[WantedStack], observed: &Observed) -> (Vec<Difference>, Vec<StackName>) {
    let mut differences = Vec::new();
    let mut as_wanted = Vec::new();
    // No stack was ever asked for by such a token.
    for planned in compare(wanted, observed, "drift").0 {
        let what = match planned.next {
            Next::InSync => {
                as_wanted.push(planned.stack);
                continue;
            }
            // What it stands on is told.
            Next::Blocked(_) => continue,
            Next::Create(_) => "is not there".to_owned(),
            Next::Update(apply) => {
                let given = observed.get(&planned.stack).map(|stack| &stack.parameters);
                let differs = |key: &str, value: &String| given.and_then(|given| given.get(key)) != Some(value);
                let fixed = apply.parameters.iter().filter(|(key, _)| !apply.kept.contains(*key));
                let keys: Vec<_> = fixed.filter(|(key, value)| differs(key, value)).collect();
                match keys.as_slice() {
                    [] => "is not what the manifest and this version of Shipway make of it".to_owned(),
                    keys => {
                        let keys: Vec<_> = keys.iter().map(|(key, _)| key.as_ref()).collect();
                        format!("has other parameters than the manifest asks for: {}", keys.join(", "))
                    }
                }
            }
            Next::Clear(_) => "was never finished".to_owned(),
            Next::Wait(status) => format!("deploying: is {status}"),
            Next::Halted(trouble) => trouble.to_string(),
            Next::Remove(_) => continue,
        };
        differences.push(Difference { of: of_stack(&planned.stack), what });
    }
    (differences, as_wanted)
}

/// A resource's drift, told; nothing where it is what ECS changes with each rollout.
pub fn of_resource(name: &StackName, stack: &ObservedStack, drift: &ResourceDrift) -> Option<Difference> {
    let ResourceDrift { resource, resource_type, deleted, properties } = drift;
    if !deleted && stack.is_ecs_own(resource, resource_type, properties) {
        return None;
    }
    let what = match deleted {
        true => format!("{resource} ({resource_type}) is gone"),
        false => format!("{resource} ({resource_type}) was changed by someone: {}", properties.join(", ")),
    };
    Some(Difference { of: of_stack(name), what })
}

fn of_stack(stack: &StackName) -> String {
    format!("stack {stack}")
}
