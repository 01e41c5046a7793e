//! What holds data: databases, caches, buckets, secrets; and email identities.

use std::collections::BTreeMap;

use super::{Checked, Manifest, no_doubles, refuse, under, whole_days};
use crate::{
    manifest::spec::{
        AuroraCapacity, Bucket, Cache, CacheEngine, Database, DatabaseEngine, DatabaseName, Email, OnDelete, Spec,
        Storage,
        data::{DailyWindow, WeeklyWindow},
    },
    name::ComponentName,
};

/// What gp3 storage of PostgreSQL begins with.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Storage.html>
const LEAST_STORAGE_GIB: u32 = 20;

/// Backups and snapshots are kept no longer.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html>
const MOST_BACKUP_DAYS: u32 = 35;

/// The shortest windows, in minutes.
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_CreateReplicationGroup.html>
const LEAST_WINDOW: u32 = 30;
const LEAST_CACHE_WINDOW: u32 = 60;

/// The first PostgreSQL of Aurora Serverless v2.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Concepts.Aurora_Fea_Regions_DB-eng.Feature.ServerlessV2.html>
const FIRST_SERVERLESS: u32 = 13;

const MOST_REPLICAS: u8 = 5;

/// What Secrets Manager generates at most; what is shorter than the least could be guessed.
/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetRandomPassword.html>
const SECRET_LENGTHS: std::ops::RangeInclusive<u16> = 16..=4096;

pub(super) fn check(manifest: &Manifest<'_>) -> Checked {
    let spec = manifest.spec;
    for (name, database) in &spec.databases {
        check_database(spec, database).map_err(under(format_args!("databases.{name}")))?;
    }
    for (name, cache) in &spec.caches {
        check_cache(spec, cache).map_err(under(format_args!("caches.{name}")))?;
    }
    for (name, bucket) in &spec.buckets {
        check_bucket(bucket).map_err(under(format_args!("buckets.{name}")))?;
    }
    secret_names(spec)?;
    emails(spec)
}

fn check_database(spec: &Spec, database: &Database) -> Checked {
    match database.engine {
        DatabaseEngine::Postgres => instance(database)?,
        DatabaseEngine::AuroraPostgres => aurora(database)?,
    }
    if let Some(subnets) = data_subnets(spec)
        && subnets < 2
    {
        let message = "a database needs subnets in two zones, and `network.subnets` gives its tier only one; add one of another zone";
        return refuse(if database.multi_az { "multi_az" } else { "" }, message);
    }
    names(spec, database)?;
    whole_days("backups", database.backups, MOST_BACKUP_DAYS)?;
    windows(database)?;
    if let Some(export) = database.weekly_export {
        whole_days("weekly_export", export, 3653)?;
    }
    Ok(())
}

fn instance(database: &Database) -> Checked {
    if database.capacity.is_some() {
        return refuse("capacity", "this is of `aurora_postgres`; an instance has a `class`");
    }
    if database.class.is_none() {
        return refuse("", "`class` is missing: an instance has one, like db.t3.medium");
    }
    let storage = database.storage.map_or(LEAST_STORAGE_GIB, Storage::gib);
    if storage < LEAST_STORAGE_GIB {
        return refuse("storage", format!("gp3 storage begins with {LEAST_STORAGE_GIB}GiB"));
    }
    // RDS takes no limit that is less than a tenth above.
    // https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_PIOPS.Autoscaling.html
    let least = storage.saturating_mul(11).div_ceil(10);
    match database.max_storage {
        Some(max) if max.gib() < least => {
            refuse("max_storage", format!("with {storage}GiB at first, it is {least}GiB at least"))
        }
        _ => Ok(()),
    }
}

fn aurora(database: &Database) -> Checked {
    if database.class.is_some() {
        return refuse("class", "Aurora Serverless v2 has a `capacity` and no class");
    }
    let Some(capacity) = database.capacity else {
        return refuse("", "`capacity` is missing: Aurora Serverless v2 has one, like {min: 0.5, max: 2}");
    };
    for (key, given) in [("storage", database.storage.is_some()), ("max_storage", database.max_storage.is_some())] {
        if given {
            return refuse(key, "Aurora's storage grows and shrinks by itself; leave this out");
        }
    }
    if database.version.major() < FIRST_SERVERLESS {
        return refuse("version", format!("Aurora Serverless v2 begins with version {FIRST_SERVERLESS}"));
    }
    check_capacity(capacity).map_err(under("capacity"))
}

fn check_capacity(AuroraCapacity { min, max }: AuroraCapacity) -> Checked {
    for (key, value, least) in [("min", min, 0.5), ("max", max, 1.0)] {
        if !(least..=256.0).contains(&value) || (value * 2.0).fract() != 0.0 {
            return refuse(key, format!("{least} to 256 in steps of 0.5 is expected here"));
        }
    }
    if min > max {
        return refuse("min", format!("at least {min} cannot be more than at most {max}"));
    }
    Ok(())
}

fn names(spec: &Spec, database: &Database) -> Checked {
    no_doubles("names", &database.names)?;
    let own = spec.app.as_str().replace('-', "_");
    if database.names.is_empty() && DatabaseName::try_from(own.clone()).is_err() {
        return refuse("", format!("the app's name, `{own}`, cannot be a database's; give `names`"));
    }
    for name in database.url_secrets.keys() {
        let known = database.names.contains(name) || (database.names.is_empty() && name.as_str() == own);
        if !known {
            return refuse(format!("url_secrets.{name}"), format!("there is no database `{name}` in `names`"));
        }
    }
    Ok(())
}

fn windows(database: &Database) -> Checked {
    let (backup, maintenance) = (&database.backup_window, &database.maintenance_window);
    if backup.as_ref().is_some_and(|window| window.minutes() < LEAST_WINDOW) {
        return refuse("backup_window", format!("a window has {LEAST_WINDOW} minutes at least"));
    }
    if maintenance.as_ref().is_some_and(|window| window.minutes() < LEAST_WINDOW) {
        return refuse("maintenance_window", format!("a window has {LEAST_WINDOW} minutes at least"));
    }
    if let (Some(backup), Some(maintenance)) = (backup, maintenance)
        && overlap(backup, maintenance)
    {
        return refuse(
            "backup_window",
            format!("`{backup}` overlaps `maintenance_window`, `{maintenance}`; move one of them"),
        );
    }
    Ok(())
}

/// Whether a window of every day and one of every week have a minute in common.
fn overlap(daily: &DailyWindow, weekly: &WeeklyWindow) -> bool {
    const DAY: u32 = 24 * 60;
    const WEEK: u32 = 7 * DAY;
    let (start, length) = (weekly.start(), weekly.minutes());
    (0..7).any(|day| {
        let from = day * DAY + daily.start();
        (from + WEEK - start) % WEEK < length || (start + WEEK - from) % WEEK < daily.minutes()
    })
}

fn check_cache(spec: &Spec, cache: &Cache) -> Checked {
    let (engine, versions) = match cache.engine {
        CacheEngine::Redis => ("Redis", 5..=7),
        CacheEngine::Valkey => ("Valkey", 7..=u32::MAX),
    };
    if !versions.contains(&cache.version.major()) {
        let known = if versions.end() == &u32::MAX { "7.2 upwards" } else { "5.0.6 to 7.1, and Valkey from then on" };
        return refuse("version", format!("ElastiCache has {engine} {known}"));
    }
    if cache.class.as_str().starts_with("cache.t1.") {
        return refuse(
            "class",
            "nodes of this class have no snapshots and no encryption; take one like cache.t4g.micro",
        );
    }
    let replicas = cache.replicas.unwrap_or(0);
    if replicas > MOST_REPLICAS {
        return refuse("replicas", format!("at most {MOST_REPLICAS} replicas stand by"));
    }
    if let Some(subnets) = data_subnets(spec)
        && subnets < 2
        && replicas > 0
    {
        return refuse(
            "replicas",
            "they stand by in other zones, and `network.subnets` gives their tier only one subnet",
        );
    }
    whole_days("snapshots", cache.snapshots, MOST_BACKUP_DAYS)?;
    if cache.maintenance_window.as_ref().is_some_and(|window| window.minutes() < LEAST_CACHE_WINDOW) {
        return refuse("maintenance_window", format!("a cache's window has {LEAST_CACHE_WINDOW} minutes at least"));
    }
    match cache.on_delete {
        OnDelete::Retain => refuse("on_delete", "a cache cannot stay without its network; `snapshot` or `delete`"),
        OnDelete::Snapshot | OnDelete::Delete => Ok(()),
    }
}

fn check_bucket(bucket: &Bucket) -> Checked {
    if bucket.on_delete == OnDelete::Snapshot {
        return refuse("on_delete", "a bucket has no snapshot; `retain` or `delete`");
    }
    if let Some(expire) = bucket.expire {
        whole_days("expire", expire, 3653)?;
    }
    no_doubles("cors", &bucket.cors)?;
    for (index, origin) in bucket.cors.iter().enumerate() {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let known = |host: &str| host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:*".contains(c));
        // S3 takes one star in an origin.
        if !host.is_some_and(|host| !host.is_empty() && known(host)) || origin.matches('*').count() > 1 {
            return refuse(format!("cors[{index}]"), format!("`{origin}` is not an origin like https://example.com"));
        }
    }
    Ok(())
}

/// Every name in Secrets Manager that the manifest chooses is chosen once.
fn secret_names(spec: &Spec) -> Checked {
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    let mut take = |path: String, name| match seen.insert(name, path.clone()) {
        Some(other) => refuse(path, format!("`{other}` has the name `{name}` already")),
        None => Ok(()),
    };
    for (name, secret) in &spec.secrets {
        if !SECRET_LENGTHS.contains(&secret.length) {
            let (least, most) = (SECRET_LENGTHS.start(), SECRET_LENGTHS.end());
            return refuse(
                format!("secrets.{name}.length"),
                format!("{least} to {most} letters and digits are generated"),
            );
        }
        if let Some(given) = &secret.name {
            take(format!("secrets.{name}.name"), given.as_str())?;
        }
    }
    for (name, database) in &spec.databases {
        for (of, given) in &database.url_secrets {
            take(format!("databases.{name}.url_secrets.{of}"), given.as_str())?;
        }
    }
    Ok(())
}

fn emails(spec: &Spec) -> Checked {
    let mut seen: BTreeMap<&str, &ComponentName> = BTreeMap::new();
    for (name, email) in &spec.email {
        let identity = match email {
            Email::Address(address) => address.as_str(),
            Email::Domain(domain) => domain.as_str(),
        };
        if let Some(other) = seen.insert(identity, name) {
            return refuse(format!("email.{name}"), format!("`{other}` is `{identity}` already"));
        }
    }
    Ok(())
}

/// How many subnets databases and caches get of a given VPC.
fn data_subnets(spec: &Spec) -> Option<usize> {
    let subnets = spec.network.subnets.as_ref()?;
    [&subnets.isolated, &subnets.private, &subnets.public].into_iter().find(|tier| !tier.is_empty()).map(Vec::len)
}
