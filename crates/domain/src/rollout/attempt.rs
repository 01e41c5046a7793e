//! What ECS itself says of an attempt to bring a service to another version. It calls this a service deployment.
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-deployment.html>

use std::collections::BTreeSet;

/// A service deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What becomes of it.
    pub status: Status,
    /// Why, in ECS's words.
    pub reason: Option<String>,
    /// The alarms that went off meanwhile.
    pub alarms: BTreeSet<String>,
}

/// The status of a service deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has not begun.
    Pending,
    /// It is under way.
    InProgress,
    /// It is through, and the old tasks are gone.
    Successful,
    /// Somebody asked to stop it.
    StopRequested,
    /// It was stopped where it was.
    Stopped,
    /// ECS, or somebody, asked to go back.
    RollbackRequested,
    /// ECS goes back.
    RollbackInProgress,
    /// What was before runs again.
    RollbackSuccessful,
    /// What was before does not run again.
    RollbackFailed,
}

impl Status {
    /// Each with its name.
    pub const ALL: [(Status, &str); 9] = [
        (Status::Pending, "PENDING"),
        (Status::InProgress, "IN_PROGRESS"),
        (Status::Successful, "SUCCESSFUL"),
        (Status::StopRequested, "STOP_REQUESTED"),
        (Status::Stopped, "STOPPED"),
        (Status::RollbackRequested, "ROLLBACK_REQUESTED"),
        (Status::RollbackInProgress, "ROLLBACK_IN_PROGRESS"),
        (Status::RollbackSuccessful, "ROLLBACK_SUCCESSFUL"),
        (Status::RollbackFailed, "ROLLBACK_FAILED"),
    ];

    /// The status of this name, unless it is one that is not known here.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|(_, known)| *known == name).map(|(status, _)| status)
    }

    /// Whether ECS is on its way back.
    #[must_use]
    pub fn is_going_back(self) -> bool {
        matches!(self, Status::RollbackRequested | Status::RollbackInProgress)
    }

    /// Whether ECS goes back, went back or failed to.
    #[must_use]
    pub fn is_rollback(self) -> bool {
        self.is_going_back() || matches!(self, Status::RollbackSuccessful | Status::RollbackFailed)
    }
}
