//! What to do next so that what a stack made is again as its template says: CloudFormation's own way, a change set that compares
//! with what is there now. <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/drift-aware-change-sets.html>

use super::{ObservedStack, StackName, Trouble};
use crate::name::ReleaseId;

/// The name of a release's change set: the same in each of its passes, so that none is made or executed twice.
pub fn change_set(release: &ReleaseId) -> String {
    format!("shipway-repair-{release}")
}

/// A change set as CloudFormation shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSet {
    /// Its status, in CloudFormation's word.
    pub status: String,
    /// Whether it can be, is or was executed, in CloudFormation's word.
    pub execution: String,
    /// Why it has its status.
    pub reason: String,
    /// What it would change.
    pub changes: Vec<ResourceChange>,
}

/// What a change set would do with a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceChange {
    /// Its name in the template.
    pub resource: String,
    /// Its type.
    pub resource_type: String,
    /// How it is now.
    pub state: ResourceState,
    /// Whether what is there would or might go.
    pub replaces: bool,
    /// The names of its properties that would change.
    pub properties: Vec<String>,
}

/// How a resource is beside what its stack made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceState {
    /// The same.
    InSync,
    /// Somebody changed it.
    Modified,
    /// It is gone.
    Deleted,
    /// CloudFormation cannot tell.
    Unknown,
}

/// What to do next about a stack that is to be put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairStep {
    /// Let CloudFormation compare, and propose what to change.
    Propose,
    /// Look again later.
    Wait,
    /// Let it make these changes.
    Execute(String),
    /// Remove a proposal that the stack has moved on from.
    Withdraw,
    /// Nothing: it is as its template says. The proposal, if it changes nothing, can go.
    Done {
        /// Whether there is such a proposal.
        empty: bool,
    },
    /// Nothing: this, only a person should put right.
    Left(String),
    /// Nothing: it was tried, and it did not hold.
    Halted(Trouble),
}

impl RepairStep {
    /// What is left of a stack for which CloudFormation makes no proposal.
    pub fn unproposed(why: &str) -> RepairStep {
        RepairStep::Left(format!(
            "CloudFormation can propose no repair ({}); put right by hand what `shipway drift` names",
            why.trim_end_matches('.')
        ))
    }

    /// What is done now, for the release's story; nothing where nothing is changed.
    pub fn story(&self, stack: &StackName) -> Option<String> {
        match self {
            RepairStep::Execute(what) => Some(format!("puts right the stack {stack}: {what}")),
            RepairStep::Left(why) => Some(format!("leaves the stack {stack} as it is: {why}")),
            RepairStep::Propose
            | RepairStep::Wait
            | RepairStep::Withdraw
            | RepairStep::Done { .. }
            | RepairStep::Halted(_) => None,
        }
    }
}

/// Decides what to do next about a stack that stands by its inputs, from this release's change set.
pub fn repair_step(stack: &ObservedStack, name: &str, change_set: Option<&ChangeSet>) -> RepairStep {
    let Some(ChangeSet { status, execution, reason, changes }) = change_set else { return RepairStep::Propose };
    match (status.as_str(), execution.as_str()) {
        ("DELETE_COMPLETE", _) => RepairStep::Propose,
        (status, _) if status.ends_with("_PENDING") || status.ends_with("_IN_PROGRESS") => RepairStep::Wait,
        (_, "EXECUTE_IN_PROGRESS") => RepairStep::Wait,
        (_, "EXECUTE_COMPLETE") => RepairStep::Done { empty: false },
        (_, "EXECUTE_FAILED") => {
            let failure = stack.operation.as_ref().and_then(|operation| operation.failure.as_ref());
            let why = failure.map_or_else(|| "its events say why".to_owned(), ToString::to_string);
            RepairStep::Halted(Trouble::Unrepaired { why })
        }
        (_, "OBSOLETE") => RepairStep::Withdraw,
        ("FAILED", _) if changes_nothing(reason) => RepairStep::Done { empty: true },
        ("CREATE_COMPLETE", "AVAILABLE") => of_changes(stack, changes, name),
        _ => RepairStep::unproposed(if reason.is_empty() { status } else { reason }),
    }
}

/// An empty change set fails, and only its reason says that nothing is wrong.
fn changes_nothing(reason: &str) -> bool {
    reason.contains("didn't contain changes") || reason.contains("No updates are to be performed")
}

fn of_changes(stack: &ObservedStack, changes: &[ResourceChange], name: &str) -> RepairStep {
    let told = |changes: &mut dyn Iterator<Item = &ResourceChange>| {
        let told: Vec<_> = changes.map(|change| format!("{} ({})", change.resource, change.resource_type)).collect();
        told.join(", ")
    };
    // A change set that compares with what is there may name what is in sync, too: where nothing differs it is not executed.
    // https://github.com/aws-cloudformation/cloudformation-coverage-roadmap/issues/2505
    // The weights of a rule are ECS's.
    let differs = |change: &&ResourceChange| match change.state {
        ResourceState::Modified => !stack.is_ecs_own(&change.resource, &change.resource_type, &change.properties),
        ResourceState::Deleted => true,
        ResourceState::InSync | ResourceState::Unknown => false,
    };
    let by_hand = format!(
        "look at its change set {name}, then execute that (`aws cloudformation execute-change-set`) or put it right by hand"
    );
    if !changes.iter().any(|change| differs(&change)) {
        let mut unknown = changes.iter().filter(|change| change.state == ResourceState::Unknown).peekable();
        return match unknown.peek() {
            None => RepairStep::Done { empty: true },
            Some(_) => RepairStep::Left(format!("CloudFormation cannot compare {}; {by_hand}", told(&mut unknown))),
        };
    }
    let mut lost = changes.iter().filter(|change| change.loses_data()).peekable();
    if lost.peek().is_some() {
        return RepairStep::Left(format!(
            "{} is gone, and a new one would be empty; restore it from its last snapshot, or {by_hand}",
            told(&mut lost)
        ));
    }
    let mut replaced =
        changes.iter().filter(|change| change.replaces && change.state != ResourceState::Deleted).peekable();
    if replaced.peek().is_some() {
        return RepairStep::Left(format!("its repair could replace {}; {by_hand}", told(&mut replaced)));
    }
    RepairStep::Execute(told(&mut changes.iter().filter(differs)))
}

impl ResourceChange {
    /// Whether making it anew would put an empty one where data was.
    fn loses_data(&self) -> bool {
        self.state == ResourceState::Deleted
            && matches!(self.resource_type.as_str(), "AWS::RDS::DBCluster" | "AWS::RDS::DBInstance")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::platform::{Operation, ResourceFailure, StackStatus};

    fn stack() -> ObservedStack {
        let failure = ResourceFailure {
            resource: "Rule".to_owned(),
            resource_type: "T".to_owned(),
            reason: "the quota is reached".to_owned(),
        };
        ObservedStack {
            id: "id".to_owned(),
            status: StackStatus::UpdateComplete,
            parameters: BTreeMap::new(),
            tags: BTreeMap::new(),
            outputs: BTreeMap::new(),
            role: None,
            protected: false,
            operation: Some(Operation { token: None, failure: Some(failure) }),
        }
    }

    fn change(resource_type: &str, state: ResourceState, replaces: bool) -> ResourceChange {
        ResourceChange {
            resource: "Thing".to_owned(),
            resource_type: resource_type.to_owned(),
            state,
            replaces,
            properties: Vec::new(),
        }
    }

    fn step(status: &str, execution: &str, reason: &str, changes: &[ResourceChange]) -> RepairStep {
        let text = str::to_owned;
        let set = ChangeSet {
            status: text(status),
            execution: text(execution),
            reason: text(reason),
            changes: changes.to_vec(),
        };
        repair_step(&stack(), "shipway-repair-1", Some(&set))
    }

    #[test]
    fn every_state_of_a_change_set_has_its_step() {
        assert_eq!(repair_step(&stack(), "n", None), RepairStep::Propose);
        let table = [
            ("CREATE_PENDING", "UNAVAILABLE", RepairStep::Wait),
            ("CREATE_IN_PROGRESS", "UNAVAILABLE", RepairStep::Wait),
            ("DELETE_PENDING", "UNAVAILABLE", RepairStep::Wait),
            ("DELETE_IN_PROGRESS", "UNAVAILABLE", RepairStep::Wait),
            ("DELETE_COMPLETE", "UNAVAILABLE", RepairStep::Propose),
            ("CREATE_COMPLETE", "EXECUTE_IN_PROGRESS", RepairStep::Wait),
            ("CREATE_COMPLETE", "EXECUTE_COMPLETE", RepairStep::Done { empty: false }),
            ("CREATE_COMPLETE", "OBSOLETE", RepairStep::Withdraw),
        ];
        for (status, execution, expected) in table {
            assert_eq!(step(status, execution, "", &[]), expected, "{status} {execution}");
        }
    }

    #[test]
    fn only_what_differs_is_put_right() {
        let none =
            "The submitted information didn't contain changes. Submit different information to create a change set.";
        assert_eq!(step("FAILED", "UNAVAILABLE", none, &[]), RepairStep::Done { empty: true });
        let same = change("AWS::X::Y", ResourceState::InSync, false);
        assert_eq!(
            step("CREATE_COMPLETE", "AVAILABLE", "", std::slice::from_ref(&same)),
            RepairStep::Done { empty: true }
        );
        let changed = change("AWS::X::Z", ResourceState::Modified, false);
        let gone = change("AWS::X::Gone", ResourceState::Deleted, true);
        let executed = step("CREATE_COMPLETE", "AVAILABLE", "", &[same, changed, gone]);
        assert_eq!(executed, RepairStep::Execute("Thing (AWS::X::Z), Thing (AWS::X::Gone)".to_owned()));
    }

    #[test]
    fn what_ecs_changes_in_a_rule_is_not_put_right() {
        let mut stack = stack();
        let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        stack.parameters = BTreeMap::from([text("Shifts", "true")]);
        stack.outputs = BTreeMap::from([text("AlternateTargetGroup", "b"), text("Rule", "rule")]);
        let rule = |properties: &[&str]| ResourceChange {
            resource: "Rule".to_owned(),
            properties: properties.iter().map(|name| (*name).to_owned()).collect(),
            ..change("AWS::ElasticLoadBalancingV2::ListenerRule", ResourceState::Modified, false)
        };
        let step = |changes: &[ResourceChange]| {
            let set = ChangeSet {
                status: "CREATE_COMPLETE".to_owned(),
                execution: "AVAILABLE".to_owned(),
                reason: String::new(),
                changes: changes.to_vec(),
            };
            repair_step(&stack, "n", Some(&set))
        };
        assert_eq!(step(&[rule(&["Actions"])]), RepairStep::Done { empty: true });
        let told = "Rule (AWS::ElasticLoadBalancingV2::ListenerRule)";
        assert_eq!(step(&[rule(&["Actions", "Priority"])]), RepairStep::Execute(told.to_owned()));
        let targets = change("T", ResourceState::Modified, false);
        assert_eq!(step(&[rule(&["Actions"]), targets]), RepairStep::Execute("Thing (T)".to_owned()));
    }

    #[test]
    fn what_would_lose_something_or_cannot_be_told_is_left_with_its_way_out() {
        let table = [
            (
                change("T", ResourceState::Modified, true),
                "its repair could replace Thing (T); look at its change set shipway-repair-1",
            ),
            (change("AWS::RDS::DBInstance", ResourceState::Deleted, false), "restore it from its last snapshot"),
            (change("T", ResourceState::Unknown, false), "CloudFormation cannot compare Thing (T)"),
        ];
        for (change, expected) in table {
            let left = step("CREATE_COMPLETE", "AVAILABLE", "", std::slice::from_ref(&change));
            assert!(matches!(&left, RepairStep::Left(why) if why.contains(expected)), "{left:?}");
        }
        let left = step("FAILED", "UNAVAILABLE", "no such type", &[]);
        assert!(matches!(&left, RepairStep::Left(why) if why.contains("(no such type)")), "{left:?}");
        let failed = step("CREATE_COMPLETE", "EXECUTE_FAILED", "", &[]);
        let why = "Rule (T): the quota is reached".to_owned();
        assert_eq!(failed, RepairStep::Halted(Trouble::Unrepaired { why }));
    }
}
