//! What IAM decided of the calls that came in: what CloudTrail and Access Analyzer show in an account.

use serde::{Deserialize, Serialize};

/// Decisions of one kind about one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The name of the role that called.
    pub role: String,
    /// What it was checked for: `ecs:UpdateService`. One call may be checked for several.
    pub action: String,
    /// The `Sid` of the statement that allowed it; empty where none did.
    pub statement: String,
    /// Which of that statement's resources it was, counted from 0.
    pub position: Option<usize>,
    /// What was asked for, where no statement allowed it.
    pub resource: String,
    /// Whether it was allowed.
    pub allowed: bool,
    /// How often.
    pub times: u64,
}
