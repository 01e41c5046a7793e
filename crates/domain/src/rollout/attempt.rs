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
    /// How far it is, where requests go over otherwise than task by task.
    pub stage: Option<Stage>,
    /// How many of the requests go to the new version, in percent, where ECS says.
    pub share: Option<u8>,
    /// Where it waits to be told to go on: the hook's id.
    pub paused: Option<String>,
}

impl Attempt {
    /// One of which nothing but its status is known.
    #[must_use]
    pub fn of(status: Status) -> Attempt {
        Attempt { status, reason: None, alarms: BTreeSet::new(), stage: None, share: None, paused: None }
    }

    /// Whether all requests have gone over to the new version.
    #[must_use]
    pub fn has_gone_over(&self) -> bool {
        self.status == Status::Successful || self.stage.is_some_and(|stage| stage >= Stage::PostProductionTrafficShift)
    }

    /// Whether all of the new version's tasks are well, by ECS's judgement.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.stage.is_some_and(|stage| stage >= Stage::PostScaleUp)
    }

    /// What is waited for, in words.
    #[must_use]
    pub fn words(&self) -> String {
        match (self.stage, self.share) {
            (Some(Stage::PreProductionTrafficShift | Stage::ProductionTrafficShift), Some(share)) => {
                format!("the new tasks are well, and {share} % of the requests go to them")
            }
            (Some(Stage::TestTrafficShift | Stage::PostTestTrafficShift), _) => {
                "the new tasks are well, and test requests go to them".to_owned()
            }
            (stage, _) if stage >= Some(Stage::PostProductionTrafficShift) => {
                "all requests go to the new tasks, and ECS keeps the old ones for a while".to_owned()
            }
            _ => "the new tasks are well, and no requests go to them yet".to_owned(),
        }
    }
}

/// How far a service deployment is that moves requests. They follow each other; the three of the production traffic come once for
/// each step of it.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceDeployment.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// More than one version ran as it began: ECS settles that first.
    ReconcileService,
    /// Nothing has begun.
    PreScaleUp,
    /// New tasks start.
    ScaleUp,
    /// All of them are well.
    PostScaleUp,
    /// Test requests go over.
    TestTrafficShift,
    /// They have.
    PostTestTrafficShift,
    /// Requests are about to go over.
    PreProductionTrafficShift,
    /// Requests go over.
    ProductionTrafficShift,
    /// All of them have.
    PostProductionTrafficShift,
    /// Both versions run.
    BakeTime,
    /// The old tasks stop.
    CleanUp,
}

impl Stage {
    /// Each with its name.
    pub const ALL: [(Stage, &str); 11] = [
        (Stage::ReconcileService, "RECONCILE_SERVICE"),
        (Stage::PreScaleUp, "PRE_SCALE_UP"),
        (Stage::ScaleUp, "SCALE_UP"),
        (Stage::PostScaleUp, "POST_SCALE_UP"),
        (Stage::TestTrafficShift, "TEST_TRAFFIC_SHIFT"),
        (Stage::PostTestTrafficShift, "POST_TEST_TRAFFIC_SHIFT"),
        (Stage::PreProductionTrafficShift, "PRE_PRODUCTION_TRAFFIC_SHIFT"),
        (Stage::ProductionTrafficShift, "PRODUCTION_TRAFFIC_SHIFT"),
        (Stage::PostProductionTrafficShift, "POST_PRODUCTION_TRAFFIC_SHIFT"),
        (Stage::BakeTime, "BAKE_TIME"),
        (Stage::CleanUp, "CLEAN_UP"),
    ];

    /// The stage of this name, unless it is one that is not known here.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|(_, known)| *known == name).map(|(stage, _)| stage)
    }
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
