//! What a manifest says of what holds data: databases, caches, buckets, secrets, and of email identities.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    network::checked_text,
    service::{HostName, yes},
    unit::{Period, Storage},
};

/// What becomes of data when it is no longer wanted: at a teardown, or when a change replaces what holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// It stays, and what it stands in.
    Retain,
    /// A last snapshot stays.
    Snapshot,
    /// It is deleted, and nothing stays.
    Delete,
}

/// A PostgreSQL database server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `postgres`: an RDS instance; needs `class`. `aurora_postgres`: Aurora Serverless v2; needs `capacity`.
    pub engine: DatabaseEngine,
    /// The engine's version, like `"15"` or `"15.4"`. Without the part after the dot, RDS takes the newest, and later ones by itself.
    pub version: EngineVersion,
    /// The instance's class, like `db.t3.medium`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<DatabaseClass>,
    /// How many Aurora capacity units it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<AuroraCapacity>,
    /// The size of an instance's gp3 storage; 20GiB unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Up to what size the storage of an instance grows by itself; it does not unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_storage: Option<Storage>,
    /// Whether a second one stands by in another zone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub multi_az: bool,
    /// The user's name; `app` unless given. The password is generated and kept in Secrets Manager.
    #[serde(default = "default_user")]
    pub user: DatabaseUser,
    /// The databases on the server; one with the app's name, hyphens as underscores, unless given. The first is made with
    /// the server, the others before the first rollout of a service that uses one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<DatabaseName>,
    /// How long backups are kept; 7 days unless given, 35 at most.
    #[serde(default = "default_backups")]
    pub backups: Period,
    /// When backups are made, in UTC: `03:00-04:00`. RDS chooses unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_window: Option<DailyWindow>,
    /// When maintenance may interrupt it, in UTC: `sun:02:00-sun:04:00`. RDS chooses unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_window: Option<WeeklyWindow>,
    /// Whether a snapshot is exported to a bucket every week, as Parquet files, and for how long it is kept there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weekly_export: Option<Period>,
    /// What becomes of it when it is no longer wanted; `snapshot` unless given.
    #[serde(default = "snapshot")]
    pub on_delete: OnDelete,
    /// The names of the secrets that hold the `postgres://` URLs, by database; `shipway/<app>/<environment>/<key>/<database>`
    /// unless given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub url_secrets: BTreeMap<DatabaseName, SecretName>,
}

fn default_user() -> DatabaseUser {
    DatabaseUser("app".to_owned())
}

fn default_backups() -> Period {
    Period::of(7 * 86_400)
}

fn snapshot() -> OnDelete {
    OnDelete::Snapshot
}

/// Which database server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseEngine {
    /// An RDS instance.
    Postgres,
    /// Aurora Serverless v2.
    AuroraPostgres,
}

/// How many Aurora capacity units; each is about 2 GiB of memory. In steps of a half, from 0.5 to 256.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuroraCapacity {
    /// At least; `0.5` upwards.
    pub min: f64,
    /// At most; 256.
    pub max: f64,
}

impl Eq for AuroraCapacity {}

fn is_identifier(text: &str, most: usize) -> bool {
    text.len() <= most
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

checked_text!(
    /// A version of a database or cache engine.
    EngineVersion, "^[0-9]+(\\.[0-9]+)*$", "a version like \"15\" or \"15.4\"", |text| {
        text.len() <= 16 && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    }
);
checked_text!(
    /// A class of database instance.
    DatabaseClass, "^db\\.[a-z0-9-]+\\.[a-z0-9]+$", "a class of instance like db.t3.medium", |text| {
        let parts: Vec<_> = text.split('.').collect();
        matches!(parts.as_slice(), ["db", family, size] if !family.is_empty() && !size.is_empty())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c))
    }
);
checked_text!(
    /// A class of cache node.
    CacheClass, "^cache\\.[a-z0-9-]+\\.[a-z0-9]+$", "a class of node like cache.t4g.micro", |text| {
        let parts: Vec<_> = text.split('.').collect();
        matches!(parts.as_slice(), ["cache", family, size] if !family.is_empty() && !size.is_empty())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c))
    }
);
checked_text!(
    /// A PostgreSQL user's name.
    DatabaseUser, "^[a-z][a-z0-9_]{0,15}$", "a user's name: 1 to 16 lower-case letters, digits and underscores, and none that RDS reserves",
    |text| is_identifier(text, 16) && !text.is_empty()
        && !text.starts_with("pg_") && !matches!(text, "rdsadmin" | "admin" | "postgres_admin" | "rds" | "user" | "public")
);
checked_text!(
    /// A PostgreSQL database's name.
    DatabaseName, "^[a-z][a-z0-9_]{0,62}$", "a database's name: 1 to 63 lower-case letters, digits and underscores",
    |text| is_identifier(text, 63) && !text.is_empty() && !matches!(text, "postgres" | "template0" | "template1" | "rdsadmin")
);
checked_text!(
    /// A name in Secrets Manager.
    SecretName, "^[A-Za-z0-9/_+=.@-]{1,512}$", "a secret's name: up to 512 letters, digits and `/_+=.@-`", super::is_secret_name
);

fn is_time(text: &str) -> bool {
    text.split_once(':').is_some_and(|(hour, minute)| {
        let number = |text: &str, most: u8| text.len() == 2 && text.parse::<u8>().is_ok_and(|number| number <= most);
        number(hour, 23) && number(minute, 59)
    })
}

checked_text!(
    /// A time of every day, in UTC.
    DailyWindow, "^[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$", "a time of day in UTC like 03:00-04:00",
    |text| text.split_once('-').is_some_and(|(from, to)| is_time(from) && is_time(to) && from != to)
);
checked_text!(
    /// A time of every week, in UTC.
    WeeklyWindow, "^[a-z]{3}:[0-9]{2}:[0-9]{2}-[a-z]{3}:[0-9]{2}:[0-9]{2}$", "a time of week in UTC like sun:02:00-sun:04:00",
    |text| {
        let end = |text: &str| text.split_once(':').is_some_and(|(day, time)| {
            matches!(day, "mon" | "tue" | "wed" | "thu" | "fri" | "sat" | "sun") && is_time(time)
        });
        text.split_once('-').is_some_and(|(from, to)| end(from) && end(to) && from != to)
    }
);

impl EngineVersion {
    /// What stands before the first dot.
    pub(super) fn major(&self) -> u32 {
        self.as_str().split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }
}

/// Minutes from midnight.
fn minute_of_day(time: &str) -> u32 {
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    time.split_once(':').map_or(0, |(hour, minute)| number(hour) * 60 + number(minute))
}

/// Minutes from the beginning of Monday.
fn minute_of_week(time: &str) -> u32 {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let (day, time) = time.split_once(':').unwrap_or_default();
    let day = (0..).zip(DAYS).find(|(_, name)| *name == day).map_or(0, |(number, _)| number);
    day * 24 * 60 + minute_of_day(time)
}

macro_rules! window {
    ($name:ident, $minute:ident, $length:expr) => {
        impl $name {
            /// When it begins, in minutes.
            pub(super) fn start(&self) -> u32 {
                self.as_str().split_once('-').map_or(0, |(from, _)| $minute(from))
            }

            /// How many minutes it has.
            pub(super) fn minutes(&self) -> u32 {
                let end = self.as_str().split_once('-').map_or(0, |(_, to)| $minute(to));
                (end + $length - self.start()) % $length
            }
        }
    };
}

window!(DailyWindow, minute_of_day, 24 * 60);
window!(WeeklyWindow, minute_of_week, 7 * 24 * 60);

/// A Redis cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// The engine.
    pub engine: CacheEngine,
    /// The engine's version, like `"7.0"`.
    pub version: EngineVersion,
    /// The nodes' class, like `cache.t4g.micro`.
    pub class: CacheClass,
    /// How many replicas stand by, in other zones; none unless given, 5 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u8>,
    /// How long its daily snapshots are kept; 1 day unless given, 35 at most.
    #[serde(default = "default_snapshots")]
    pub snapshots: Period,
    /// When maintenance may interrupt it, in UTC: `sun:02:00-sun:04:00`. ElastiCache chooses unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_window: Option<WeeklyWindow>,
    /// What becomes of it when it is no longer wanted: `delete` or `snapshot`; `snapshot` unless given.
    #[serde(default = "snapshot")]
    pub on_delete: OnDelete,
}

fn default_snapshots() -> Period {
    Period::of(86_400)
}

/// Which cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheEngine {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

/// A bucket for a service's files, private and encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Whether what is overwritten or deleted stays as an older version, for 30 days; so unless `false`.
    #[serde(default = "yes")]
    pub versioned: bool,
    /// After what time its objects are deleted; never unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire: Option<Period>,
    /// The origins whose pages may read and write it from a browser, with presigned URLs: `https://example.com`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cors: Vec<String>,
    /// What becomes of it when it is no longer wanted: `retain` or `delete`; `retain` unless given.
    #[serde(default = "retain")]
    pub on_delete: OnDelete,
}

fn retain() -> OnDelete {
    OnDelete::Retain
}

/// A secret in Secrets Manager that the manifest makes. Its value is never in the manifest. A teardown deletes it at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Its name; `shipway/<app>/<environment>/<key>` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SecretName>,
    /// How many letters and digits are generated for its value; 48 unless given, and the same from then on. Change the value in
    /// Secrets Manager any time: Shipway never sets it again.
    #[serde(default = "default_length")]
    pub length: u16,
}

fn default_length() -> u16 {
    48
}

/// An email identity: what a service may send as. SES asks whoever owns it to confirm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Email {
    /// One address, whose owner gets a mail with a link.
    Address(EmailAddress),
    /// A whole domain, confirmed by DNS records; they are made where `domain.zone` is the domain's.
    Domain(HostName),
}

checked_text!(
    /// An email address.
    EmailAddress, "^[^@ ]+@[^@ ]+\\.[^@ ]+$", "an email address", |text| {
        text.len() <= 254 && text.is_ascii() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
            && text.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.contains('@') && host.contains('.'))
    }
);
