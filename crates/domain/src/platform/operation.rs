//! What a stack's events tell of its last operation: who asked for it, and what failed first.

/// One event of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackEvent {
    /// Whether it is the stack's own, not a resource's.
    pub of_stack: bool,
    /// The resource's name in the template.
    pub resource: String,
    /// The resource's type.
    pub resource_type: String,
    /// Its status then.
    pub status: String,
    /// Why.
    pub reason: String,
    /// The token of the request that the operation is of.
    pub token: Option<String>,
}

/// The last operation on a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// The token of the request.
    pub token: Option<String>,
    /// What failed first in it.
    pub failure: Option<ResourceFailure>,
}

/// A resource that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceFailure {
    /// Its name in the template; empty where the stack failed as a whole.
    pub resource: String,
    /// Its type.
    pub resource_type: String,
    /// Why, in AWS's own words.
    pub reason: String,
}

impl std::fmt::Display for ResourceFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reason = self.reason.trim_end_matches('.');
        if self.resource.is_empty() {
            f.write_str(reason)
        } else {
            write!(f, "{} ({}): {reason}", self.resource, self.resource_type)
        }
    }
}

/// The events that an operation begins with.
const BEGINNINGS: [&str; 4] = ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"];

/// The last operation, from the events as DescribeStackEvents gives them: the newest first. Whether an event is the last one
/// needed is what `begins` says, so that no more of them are read.
pub fn last_operation(events: &[StackEvent]) -> Operation {
    let end = events.iter().position(StackEvent::begins).map_or(events.len(), |at| at + 1);
    let events = &events[..end];
    let failed = |of_stack: bool| {
        events
            .iter()
            .rev()
            .find(|event| event.of_stack == of_stack && event.status.ends_with("_FAILED") && !event.is_cancelled())
    };
    let of_stack = || {
        events
            .iter()
            .rev()
            .find(|event| event.of_stack && event.status.contains("ROLLBACK") && !event.reason.is_empty())
    };
    let failure = failed(false).or_else(|| failed(true)).or_else(of_stack).map(|event| ResourceFailure {
        resource: if event.of_stack { String::new() } else { event.resource.clone() },
        resource_type: event.resource_type.clone(),
        reason: event.reason.clone(),
    });
    Operation { token: events.first().and_then(|event| event.token.clone()), failure }
}

impl StackEvent {
    /// Whether an operation begins with this event.
    pub fn begins(&self) -> bool {
        self.of_stack && BEGINNINGS.contains(&self.status.as_str())
    }

    /// Whether the resource did not fail itself but was stopped because another did.
    fn is_cancelled(&self) -> bool {
        self.reason.to_ascii_lowercase().contains("cancelled")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(of_stack: bool, resource: &str, status: &str, reason: &str, token: &str) -> StackEvent {
        StackEvent {
            of_stack,
            resource: resource.to_owned(),
            resource_type: "AWS::X::Y".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            token: Some(token.to_owned()),
        }
    }

    #[test]
    fn the_first_failure_of_the_last_operation_is_found() {
        let events = [
            event(true, "s", "UPDATE_ROLLBACK_COMPLETE", "", "new"),
            event(false, "A", "UPDATE_COMPLETE", "", "new"),
            event(
                true,
                "s",
                "UPDATE_ROLLBACK_IN_PROGRESS",
                "The following resource(s) failed to update: [B, C].",
                "new",
            ),
            event(false, "C", "UPDATE_FAILED", "Resource update cancelled", "new"),
            event(false, "D", "CREATE_FAILED", "later", "new"),
            event(false, "B", "UPDATE_FAILED", "the quota is reached.", "new"),
            event(true, "s", "UPDATE_IN_PROGRESS", "User Initiated", "new"),
            event(false, "B", "CREATE_FAILED", "an old story", "old"),
            event(true, "s", "CREATE_IN_PROGRESS", "User Initiated", "old"),
        ];
        let operation = last_operation(&events);
        assert_eq!(operation.token.as_deref(), Some("new"));
        assert_eq!(operation.failure.unwrap().to_string(), "B (AWS::X::Y): the quota is reached");
    }

    #[test]
    fn without_a_failed_resource_the_stack_itself_says_why() {
        let events = [
            event(true, "s", "ROLLBACK_COMPLETE", "", "t"),
            event(true, "s", "ROLLBACK_IN_PROGRESS", "Stack creation time exceeded", "t"),
            event(true, "s", "CREATE_IN_PROGRESS", "User Initiated", "t"),
        ];
        assert_eq!(last_operation(&events).failure.unwrap().to_string(), "Stack creation time exceeded");
        assert_eq!(last_operation(&[]), Operation::default());
    }
}
