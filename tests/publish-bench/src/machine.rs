//! Row 9: how many states an execution enters when nothing has to be waited for, at most. Each is a transition that is billed.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The longest way through a machine that enters no state twice and ends well. What catches errors is not on it.
pub(crate) fn longest_way(machine: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(machine).with_context(|| machine.display().to_string())?;
    let machine: Value = serde_json::from_str(&text)?;
    let start = machine["StartAt"].as_str().context("a machine starts somewhere")?;
    longest(&machine["States"], start, &mut Vec::new()).context("no way through the machine ends well")
}

fn longest<'a>(states: &'a Value, name: &'a str, before: &mut Vec<&'a str>) -> Option<usize> {
    let state = &states[name];
    if before.contains(&name) || state["Type"] == "Fail" {
        return None;
    }
    let choices = state["Choices"].as_array().into_iter().flatten().map(|choice| &choice["Next"]);
    let next = choices.chain([&state["Next"], &state["Default"]]).filter_map(Value::as_str);
    before.push(name);
    let rest = next.filter_map(|next| longest(states, next, before)).max();
    before.pop();
    let ends = state["End"] == true || state["Type"] == "Succeed";
    rest.or(ends.then_some(0)).map(|rest| rest + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::longest;

    #[test]
    fn loops_failures_and_catches_are_not_on_the_way() {
        let states = json!({
            "Work": {"Type": "Task", "Next": "Done?", "Catch": [{"Next": "Clean"}]},
            "Done?": {"Type": "Choice", "Choices": [{"Next": "Wait"}, {"Next": "Broken"}], "Default": "End"},
            "Wait": {"Type": "Wait", "Next": "Work"},
            "Clean": {"Type": "Task", "Next": "End"},
            "Broken": {"Type": "Fail"},
            "End": {"Type": "Task", "End": true},
        });
        assert_eq!(longest(&states, "Work", &mut Vec::new()), Some(3));
    }
}
