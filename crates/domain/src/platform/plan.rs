//! What to do next about each stack, from what is wanted and what CloudFormation shows.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Concern, INPUTS_TAG, Operation, StackName, Value, WantedStack, taken};
use crate::{failure::Failure, name::ReleaseId};

/// The stacks that are there, by name.
pub type Observed = BTreeMap<StackName, ObservedStack>;

/// A stack as CloudFormation shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedStack {
    /// Its id: a name can be another stack's later, an id never.
    pub id: String,
    /// Its status.
    pub status: StackStatus,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its outputs.
    pub outputs: BTreeMap<String, String>,
    /// The role that it was made with.
    pub role: Option<String>,
    /// Whether it is protected against deletion.
    pub protected: bool,
    /// Its last operation, where the status makes one ask for it.
    pub operation: Option<Operation>,
}

macro_rules! statuses {
    ($($name:ident = $text:literal),* $(,)?) => {
        /// Every status that a stack can have.
        /// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html>
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "they are CloudFormation's own words")]
        pub enum StackStatus {
            $($name,)*
            /// One that CloudFormation has and this version of Shipway does not know.
            Other(String),
        }

        impl From<&str> for StackStatus {
            fn from(text: &str) -> StackStatus {
                match text {
                    $($text => StackStatus::$name,)*
                    other => StackStatus::Other(other.to_owned()),
                }
            }
        }

        impl fmt::Display for StackStatus {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(StackStatus::$name => $text,)*
                    StackStatus::Other(text) => text,
                })
            }
        }

        #[cfg(test)]
        impl StackStatus {
            /// All that are known.
            pub(super) const KNOWN: &'static [StackStatus] = &[$(StackStatus::$name),*];
        }
    };
}

statuses! {
    CreateInProgress = "CREATE_IN_PROGRESS",
    CreateFailed = "CREATE_FAILED",
    CreateComplete = "CREATE_COMPLETE",
    RollbackInProgress = "ROLLBACK_IN_PROGRESS",
    RollbackFailed = "ROLLBACK_FAILED",
    RollbackComplete = "ROLLBACK_COMPLETE",
    DeleteInProgress = "DELETE_IN_PROGRESS",
    DeleteFailed = "DELETE_FAILED",
    DeleteComplete = "DELETE_COMPLETE",
    UpdateInProgress = "UPDATE_IN_PROGRESS",
    UpdateCompleteCleanupInProgress = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
    UpdateComplete = "UPDATE_COMPLETE",
    UpdateFailed = "UPDATE_FAILED",
    UpdateRollbackInProgress = "UPDATE_ROLLBACK_IN_PROGRESS",
    UpdateRollbackFailed = "UPDATE_ROLLBACK_FAILED",
    UpdateRollbackCompleteCleanupInProgress = "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    UpdateRollbackComplete = "UPDATE_ROLLBACK_COMPLETE",
    ReviewInProgress = "REVIEW_IN_PROGRESS",
    ImportInProgress = "IMPORT_IN_PROGRESS",
    ImportComplete = "IMPORT_COMPLETE",
    ImportRollbackInProgress = "IMPORT_ROLLBACK_IN_PROGRESS",
    ImportRollbackFailed = "IMPORT_ROLLBACK_FAILED",
    ImportRollbackComplete = "IMPORT_ROLLBACK_COMPLETE",
}

/// What a status means for what may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// There is no such stack.
    Absent,
    /// It moves by itself; nothing may be done.
    Moving,
    /// It stands as it was last asked for.
    Settled,
    /// It stands as it was before the last update, which failed.
    RolledBack,
    /// It was never finished; nothing stands on it.
    NeverFinished,
    /// A change set proposed it; there is nothing in it.
    Proposed,
    /// Only a person can say how it goes on.
    Stuck(&'static str),
}

impl StackStatus {
    pub(crate) fn phase(&self) -> Phase {
        match self {
            StackStatus::DeleteComplete => Phase::Absent,
            StackStatus::CreateInProgress
            | StackStatus::RollbackInProgress
            | StackStatus::DeleteInProgress
            | StackStatus::UpdateInProgress
            | StackStatus::UpdateCompleteCleanupInProgress
            | StackStatus::UpdateRollbackInProgress
            | StackStatus::UpdateRollbackCompleteCleanupInProgress
            | StackStatus::ImportInProgress
            | StackStatus::ImportRollbackInProgress => Phase::Moving,
            StackStatus::CreateComplete | StackStatus::UpdateComplete | StackStatus::ImportComplete => Phase::Settled,
            StackStatus::UpdateRollbackComplete | StackStatus::ImportRollbackComplete => Phase::RolledBack,
            StackStatus::CreateFailed | StackStatus::RollbackFailed | StackStatus::RollbackComplete => {
                Phase::NeverFinished
            }
            StackStatus::ReviewInProgress => Phase::Proposed,
            StackStatus::UpdateRollbackFailed => Phase::Stuck(
                "put right what its events name, then continue its rollback (`aws cloudformation continue-update-rollback`)",
            ),
            StackStatus::UpdateFailed => Phase::Stuck("roll it back (`aws cloudformation rollback-stack`)"),
            StackStatus::DeleteFailed => {
                Phase::Stuck("remove what its events name as undeletable, then delete it again")
            }
            StackStatus::ImportRollbackFailed => Phase::Stuck("continue the rollback of its import in the console"),
            StackStatus::Other(text) if text.ends_with("_IN_PROGRESS") => Phase::Moving,
            StackStatus::Other(_) => {
                Phase::Stuck("look it up in the console; this version of Shipway does not know its state")
            }
        }
    }

    /// Whether it moves by itself.
    pub(super) fn is_moving(&self) -> bool {
        self.phase() == Phase::Moving
    }

    /// Whether one must know the last operation to tell what this status is the result of.
    pub fn asks_for_operation(&self) -> bool {
        match self.phase() {
            Phase::RolledBack | Phase::NeverFinished | Phase::Stuck(_) => true,
            Phase::Absent | Phase::Moving | Phase::Settled | Phase::Proposed => false,
        }
    }
}

/// The content of a create or an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apply {
    /// The template.
    pub template: Cow<'static, str>,
    /// The region, where that is not the environment's own.
    pub region: Option<&'static str>,
    /// The role that CloudFormation acts with, where that is not Shipway's own.
    pub role: Option<String>,
    /// The parameters.
    pub parameters: BTreeMap<Cow<'static, str>, String>,
    /// Those of them that others change: a stack that has other ones is as it should be all the same.
    pub kept: BTreeSet<Cow<'static, str>>,
    /// The tags.
    pub tags: BTreeMap<&'static str, String>,
    /// Whether it is protected against deletion; nothing where that is not Shipway's to say.
    pub protected: Option<bool>,
    /// The request's token: the same for the same release and inputs, so that a repeated request starts nothing twice, and the
    /// stack's events say whose attempt failed.
    pub token: String,
}

/// The content of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The stack's id: a new one of the same name is not meant.
    pub id: String,
    /// The role that CloudFormation acts with, where that is not Shipway's own.
    pub role: Option<String>,
    /// Whether its protection must be lifted first.
    pub protected: bool,
    /// The request's token.
    pub token: String,
}

/// What to do next about a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Make it.
    Create(Apply),
    /// Change it.
    Update(Apply),
    /// Remove what an earlier, failed creation left, so that it can be made.
    Clear(Deletion),
    /// Remove it: its environment ends.
    Remove(Deletion),
    /// Look again later: it moves.
    Wait(StackStatus),
    /// Nothing: it is what it should be.
    InSync,
    /// Nothing yet: it stands on something that is not there yet.
    Blocked(Blocker),
    /// Nothing: it needs a person.
    Halted(Trouble),
}

/// What a stack waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// The network.
    Network,
    /// Other stacks.
    Stacks(Vec<StackName>),
}

/// Why a stack needs a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// This release tried, and it did not hold.
    Failed {
        /// The status that came of it.
        status: StackStatus,
        /// Why.
        why: String,
        /// The way out, where it is known.
        way_out: Option<String>,
    },
    /// This release tried to put right what somebody changed, and it did not hold.
    Unrepaired {
        /// Why.
        why: String,
    },
    /// It is in a state that only a person can end.
    Stuck {
        /// The state.
        status: StackStatus,
        /// Why, where that is known.
        why: Option<String>,
        /// The way out.
        way_out: &'static str,
    },
    /// A stack of this name is there and is not ours.
    Foreign {
        /// The tag that says so.
        tag: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: Option<String>,
    },
    /// It stands, but an output is not there that another stack needs.
    Incomplete {
        /// The output.
        key: Cow<'static, str>,
        /// Whether its template is the user's own.
        own: bool,
    },
}

impl Trouble {
    /// The one of a stack that a person must move on.
    pub(super) fn stuck(status: &StackStatus, why: Option<String>) -> Trouble {
        let way_out = match status.phase() {
            Phase::Stuck(way_out) => way_out,
            _ => "look it up in the console",
        };
        Trouble::Stuck { status: status.clone(), why, way_out }
    }

    /// The public name.
    pub fn failure(&self) -> Failure {
        match self {
            Trouble::Failed { why, .. } | Trouble::Unrepaired { why } => failure_of(why),
            Trouble::Stuck { .. } | Trouble::Foreign { .. } => Failure::Conflict,
            Trouble::Incomplete { own: true, .. } => Failure::RejectedManifest,
            Trouble::Incomplete { own: false, .. } => Failure::Bug,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Failed { status, why, way_out } => {
                let what = match status.phase() {
                    Phase::RolledBack => "could not be changed and is what it was before",
                    _ => "could not be made",
                };
                write!(f, "{what}: {why}")?;
                way_out.as_ref().map_or(Ok(()), |way_out| write!(f, "; {way_out}"))
            }
            Trouble::Unrepaired { why } => {
                write!(f, "could not be put right and is what it was before: {why}")
            }
            Trouble::Stuck { status, why, way_out } => {
                write!(f, "is {status}")?;
                if let Some(why) = why {
                    write!(f, " because of {why}")?;
                }
                write!(f, "; {way_out}")
            }
            Trouble::Foreign { tag, expected, found } => {
                let found = found.as_deref().unwrap_or("no such tag");
                write!(
                    f,
                    "is there already, but its tag {tag} is not {expected} ({found}); delete it or give the app another name"
                )
            }
            Trouble::Incomplete { key, own: true } => {
                write!(f, "has no output {key}; give its template one, or refer to one that it has")
            }
            Trouble::Incomplete { key, own: false } => {
                write!(f, "has no output {key}; deploy Shipway again, its blueprints are not its own")
            }
        }
    }
}

/// The public name for the reason that a resource failed. Resource handlers end theirs with an error code of a fixed set; older
/// ones give the service's own message.
/// <https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-test-contract-errors.html>
fn failure_of(why: &str) -> Failure {
    let code =
        why.split("HandlerErrorCode: ").nth(1).map(|rest| rest.split([')', ',']).next().unwrap_or_default().trim());
    match code {
        Some("AccessDenied" | "InvalidCredentials" | "UnauthorizedTaggingOperation") => return Failure::Denied,
        Some("ServiceLimitExceeded") => return Failure::Quota,
        Some("NotStabilized" | "ServiceTimeout") => return Failure::Timeout,
        Some("AlreadyExists" | "ResourceConflict" | "NotUpdatable") => return Failure::Conflict,
        _ => {}
    }
    let why = why.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if says(&["not authorized", "accessdenied", "access denied", "unauthorizedoperation"]) {
        Failure::Denied
    } else if says(&["limitexceeded", "limit exceeded", "quota", "toomany", "too many", "maximum number"]) {
        Failure::Quota
    } else if says(&["time exceeded", "timed out", "did not stabilize"]) {
        Failure::Timeout
    } else {
        Failure::Conflict
    }
}

/// A stack and what to do next about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The stack.
    pub stack: StackName,
    /// What it is for.
    pub concern: Concern,
    /// What to do.
    pub next: Next,
}

/// What to do next about all stacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan(pub Vec<Planned>);

impl Plan {
    /// Whether all is as it should be.
    pub fn is_done(&self) -> bool {
        self.0.iter().all(|planned| planned.next == Next::InSync)
    }

    /// Whether another pass can get further than this one.
    pub fn goes_on(&self) -> bool {
        self.0.iter().any(Planned::goes_on)
    }

    /// What needs a person.
    pub fn troubles(&self) -> impl Iterator<Item = (&StackName, &Trouble)> {
        self.0.iter().filter_map(|planned| match &planned.next {
            Next::Halted(trouble) => Some((&planned.stack, trouble)),
            _ => None,
        })
    }

    /// How long to wait before the next pass: as long as the quickest of what moves takes at least, by the order of seconds or
    /// of minutes that its resources need.
    pub fn seconds(&self) -> u32 {
        let moving = self.0.iter().filter(|planned| planned.goes_on());
        let seconds = moving.map(|planned| match planned.concern {
            Concern::LoadBalancer | Concern::Certificate | Concern::Instances | Concern::Own => 10,
            Concern::Site => 15,
            Concern::Database | Concern::Cache => 20,
            _ => 5,
        });
        seconds.min().unwrap_or(5)
    }

    /// What is waited for, in one line.
    pub fn note(&self) -> String {
        let mut parts = Vec::new();
        let mut blocked = 0;
        for planned in &self.0 {
            let stack = &planned.stack;
            match &planned.next {
                Next::Create(_) => parts.push(format!("creates {stack}")),
                Next::Update(_) => parts.push(format!("updates {stack}")),
                Next::Clear(_) => parts.push(format!("clears {stack}")),
                Next::Remove(_) => parts.push(format!("deletes {stack}")),
                Next::Wait(status) => parts.push(format!("{stack} is {status}")),
                Next::Blocked(_) => blocked += 1,
                Next::InSync => {}
                Next::Halted(_) => parts.push(format!("{stack} needs a person")),
            }
        }
        if blocked > 0 {
            parts.push(format!("{blocked} more stand on these"));
        }
        parts.join(", ")
    }
}

impl Planned {
    fn goes_on(&self) -> bool {
        match &self.next {
            Next::Create(_) | Next::Update(_) | Next::Clear(_) | Next::Remove(_) | Next::Wait(_) => true,
            Next::InSync | Next::Blocked(_) | Next::Halted(_) => false,
        }
    }

    /// What is done about it now, for the release's story; nothing where nothing is done.
    pub fn story(&self) -> Option<String> {
        let stack = &self.stack;
        match &self.next {
            Next::Create(_) => Some(format!("creates the stack {stack}")),
            Next::Update(_) => Some(format!("updates the stack {stack}")),
            Next::Clear(_) => Some(format!("clears the stack {stack}, whose creation failed earlier")),
            Next::Remove(_) => Some(format!("deletes the stack {stack}")),
            Next::Wait(_) | Next::InSync | Next::Blocked(_) | Next::Halted(_) => None,
        }
    }
}

/// Decides what to do next about each stack. `wanted` names each stack after those it stands on.
pub fn next_actions(wanted: &[WantedStack], observed: &Observed, release: &ReleaseId) -> Plan {
    compare(wanted, observed, &format!("shipway-{release}"))
}

/// The same, for whoever's requests have tokens that begin so.
pub(super) fn compare(wanted: &[WantedStack], observed: &Observed, tokens: &str) -> Plan {
    let mut plan: Vec<Planned> = Vec::new();
    for stack in wanted {
        let in_sync =
            |name: &StackName| plan.iter().any(|planned| planned.stack == *name && planned.next == Next::InSync);
        let next = match resolve(stack, observed, in_sync) {
            Resolved::Blocked(blocker) => Next::Blocked(blocker),
            Resolved::Missing { stack: other, key } => {
                if let Some(planned) = plan.iter_mut().find(|planned| planned.stack == other) {
                    planned.next = Next::Halted(Trouble::Incomplete { key, own: planned.concern == Concern::Own });
                }
                Next::Blocked(Blocker::Stacks(vec![other]))
            }
            Resolved::Parameters(parameters) => next_action(stack, parameters, observed.get(&stack.name), tokens),
        };
        plan.push(Planned { stack: stack.name.clone(), concern: stack.concern, next });
    }
    Plan(plan)
}

enum Resolved {
    Parameters(BTreeMap<Cow<'static, str>, String>),
    Blocked(Blocker),
    Missing { stack: StackName, key: Cow<'static, str> },
}

fn resolve(stack: &WantedStack, observed: &Observed, in_sync: impl Fn(&StackName) -> bool) -> Resolved {
    let mut parameters = BTreeMap::new();
    let mut blockers = Vec::new();
    for (key, value) in &stack.parameters {
        match resolve_value(value, &stack.name, observed, &in_sync, &mut blockers) {
            Ok(value) => parameters.insert(key.clone(), value),
            Err(resolved) => return resolved,
        };
    }
    blockers.dedup();
    if blockers.is_empty() { Resolved::Parameters(parameters) } else { Resolved::Blocked(Blocker::Stacks(blockers)) }
}

/// The text of a value. What stands on a stack that does not stand yet adds to the blockers, and is empty for now.
fn resolve_value(
    value: &Value,
    own: &StackName,
    observed: &Observed,
    in_sync: &impl Fn(&StackName) -> bool,
    blockers: &mut Vec<StackName>,
) -> Result<String, Resolved> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Kept { parameter, first } => {
            let has = observed.get(own).and_then(|stack| stack.parameters.get(*parameter));
            Ok(has.cloned().unwrap_or_else(|| first.to_string()))
        }
        Value::OfNetwork => Err(Resolved::Blocked(Blocker::Network)),
        Value::Output { stack, .. } if !in_sync(stack) => {
            blockers.push(stack.clone());
            Ok(String::new())
        }
        Value::Output { stack, key } => {
            let value = observed.get(stack).and_then(|stack| stack.outputs.get(key.as_ref()));
            value.cloned().ok_or_else(|| Resolved::Missing { stack: stack.clone(), key: key.clone() })
        }
        Value::List(values) | Value::Joined(values) => {
            let texts: Result<Vec<_>, _> =
                values.iter().map(|value| resolve_value(value, own, observed, in_sync, blockers)).collect();
            Ok(value.put_together(texts?))
        }
    }
}

fn next_action(
    wanted: &WantedStack,
    parameters: BTreeMap<Cow<'static, str>, String>,
    observed: Option<&ObservedStack>,
    tokens: &str,
) -> Next {
    let inputs = wanted.inputs(&parameters);
    let token = format!("{tokens}-{inputs}");
    let mut tags = wanted.tags.clone();
    tags.insert(INPUTS_TAG, inputs);
    let apply = Apply {
        template: wanted.template.clone(),
        region: wanted.region,
        role: wanted.role.clone(),
        parameters,
        kept: wanted.kept().cloned().collect(),
        tags,
        protected: wanted.protected(),
        token,
    };

    let Some(observed) = observed else { return Next::Create(apply) };
    let phase = observed.status.phase();
    let foreign = wanted.tags.iter().find(|(key, value)| observed.tags.get(**key) != Some(*value));
    if let Some((tag, expected)) = foreign
        && !matches!(phase, Phase::Absent | Phase::Proposed)
    {
        let found = observed.tags.get(*tag).cloned();
        return Next::Halted(Trouble::Foreign { tag, expected: expected.clone(), found });
    }
    let operation = observed.operation.as_ref();
    let why = || operation.and_then(|operation| operation.failure.as_ref()).map(ToString::to_string);
    let token = operation.and_then(|operation| operation.token.as_ref());
    let ours = token.is_some_and(|token| *token == apply.token || token.starts_with(&apply.token_of_weights("")));
    let clear = |what: &str| {
        Next::Clear(Deletion {
            id: observed.id.clone(),
            role: wanted.role.clone(),
            protected: observed.protected,
            token: format!("{}-{what}", apply.token),
        })
    };
    match phase {
        Phase::Absent => Next::Create(apply),
        Phase::Moving => Next::Wait(observed.status.clone()),
        Phase::Settled if observed.is(&apply) => Next::InSync,
        Phase::Settled => Next::Update(apply),
        Phase::RolledBack | Phase::NeverFinished if ours => {
            let why = why().unwrap_or_else(|| "its events do not say why".to_owned());
            let way_out = taken::way_out(wanted, &why);
            Next::Halted(Trouble::Failed { status: observed.status.clone(), why, way_out })
        }
        // Whether a rollback takes the tags back is not documented, so the tag is not believed here: an update that finds nothing
        // to change is answered so.
        Phase::RolledBack => Next::Update(apply),
        Phase::NeverFinished => clear("clear"),
        Phase::Proposed => clear("withdraw"),
        Phase::Stuck(way_out) => Next::Halted(Trouble::Stuck { status: observed.status.clone(), why: why(), way_out }),
    }
}

impl Apply {
    /// The token of the request that comes before this one and only tells CloudFormation which weights ECS gave the rules.
    pub fn token_of_weights(&self, weights: &str) -> String {
        format!("{}-weights-{weights}", self.token)
    }
}

impl ObservedStack {
    /// Whether it was made of exactly this, but for what others change.
    fn is(&self, apply: &Apply) -> bool {
        let tags = apply.tags.iter().all(|(key, value)| self.tags.get(*key) == Some(value));
        let mut parameters = apply.parameters.iter().filter(|(key, _)| !apply.kept.contains(*key));
        tags && parameters.all(|(key, value)| self.parameters.get(key.as_ref()) == Some(value))
    }

    /// The stack as it is when CloudFormation answered an update with "nothing to change".
    pub fn unchanged(&mut self, apply: &Apply) {
        self.status = StackStatus::UpdateComplete;
        self.tags.extend(apply.tags.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.parameters.extend(apply.parameters.iter().map(|(key, value)| (key.to_string(), value.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_reads_back_and_has_its_phase() {
        assert_eq!(StackStatus::KNOWN.len(), 23);
        for status in StackStatus::KNOWN {
            assert_eq!(StackStatus::from(status.to_string().as_str()), *status);
            let moving = status.to_string().ends_with("_IN_PROGRESS") && *status != StackStatus::ReviewInProgress;
            assert_eq!(status.phase() == Phase::Moving, moving, "{status}");
        }
        assert_eq!(StackStatus::from("NEW_IN_PROGRESS").phase(), Phase::Moving);
        assert!(matches!(StackStatus::from("NEW_COMPLETE").phase(), Phase::Stuck(_)));
    }

    #[test]
    fn reasons_get_their_public_name() {
        let table = [
            (
                "R (T): Resource handler returned message: \"no\" (RequestToken: 1, HandlerErrorCode: AccessDenied)",
                Failure::Denied,
            ),
            ("R (T): User: arn:aws:iam::1:x is not authorized to perform: iam:CreateRole", Failure::Denied),
            ("R (T): … (RequestToken: 1, HandlerErrorCode: ServiceLimitExceeded)", Failure::Quota),
            ("R (T): The maximum number of load balancers has been reached", Failure::Quota),
            ("R (T): hello-api already exists in stack arn:…", Failure::Conflict),
            ("R (T): … (RequestToken: 1, HandlerErrorCode: NotStabilized)", Failure::Timeout),
            ("R (T): Priority '5' is currently in use", Failure::Conflict),
        ];
        for (why, failure) in table {
            assert_eq!(failure_of(why), failure, "{why}");
        }
    }
}
