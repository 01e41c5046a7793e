//! What a manifest says of watching: alarms, who is told, the dashboard, logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    data::EmailAddress,
    unit::{Period, Timeout},
};

/// What is watched, and who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Monitoring {
    /// Who gets a mail when an alarm goes off, and when it is over. Each must confirm once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<EmailAddress>,
    /// The alarms.
    #[serde(default)]
    pub alarms: Alarms,
    /// Whether there is a dashboard.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dashboard: bool,
}

/// The alarms, each for all that it fits: every service, every database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alarms {
    /// A service's CPU use, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_cpu: Option<Above>,
    /// A service's memory use, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_memory: Option<Above>,
    /// Tasks that the load balancer finds unhealthy, of a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_tasks: Option<Above>,
    /// Tasks that the load balancer finds healthy, of a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_tasks: Option<Below>,
    /// Answers of a service with status 5xx, in the time of `for`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_5xx: Option<Above>,
    /// A database's CPU use, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_cpu: Option<Above>,
    /// A database's connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_connections: Option<Above>,
    /// What is free of a database instance's storage, in percent of `storage`. CloudWatch counts bytes; they are worked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_free_storage: Option<Below>,
}

/// Goes off above a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Above {
    /// The value.
    pub above: u32,
    /// For how long, in whole minutes; 5 minutes unless given.
    #[serde(default = "five_minutes")]
    pub r#for: Timeout,
}

/// Goes off below a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Below {
    /// The value.
    pub below: u32,
    /// For how long, in whole minutes; 5 minutes unless given.
    #[serde(default = "five_minutes")]
    pub r#for: Timeout,
}

fn five_minutes() -> Timeout {
    Timeout::of(300)
}

/// What becomes of the services' logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Logs {
    /// How long they are kept, in one of CloudWatch Logs' steps (1d, 3d, 5d, 7d, 14d, 30d, 60d, 90d, …); 30 days unless given.
    #[serde(default = "default_retention")]
    pub retention: Period,
}

impl Default for Logs {
    fn default() -> Self {
        Logs { retention: default_retention() }
    }
}

fn default_retention() -> Period {
    Period::of(30 * 86_400)
}

/// CloudWatch Logs keeps what it is told for so many days and no others.
/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html>
const RETENTION_DAYS: [u32; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

/// The same for a message.
pub(super) const RETENTIONS: &str = "1d, 3d, 5d, 7d, 14d, 30d, 60d, 90d, 120d, 150d, 180d, 365d, 400d, 545d, 731d, 1096d, 1827d, \
                                     2192d, 2557d, 2922d, 3288d or 3653d, and nothing between";

pub(super) fn is_retention(period: Period) -> bool {
    RETENTION_DAYS.iter().any(|days| period == Period::of(days * 86_400))
}
