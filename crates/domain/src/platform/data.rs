//! Stacks of what holds data: databases and their exports, caches, buckets, secrets; and email identities.
//!
//! A database server has a stack of its own, each database on it one more with the secret that holds its URL.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    Concern, DatabaseOutputs, MissingOutput, Names, Observed, Output, PlanError, PlatformOutputs, StackStatus, Value,
    WantedStack, Wish, parameters, text,
};
use crate::{
    manifest::{
        Spec,
        spec::{
            Bucket, Cache, CacheAttribute, CacheEngine, Database, DatabaseAttribute, DatabaseEngine, DatabaseName,
            Domain, Email, OnDelete, Period, Reference, Secret,
        },
    },
    name::ComponentName,
};

#[cfg(test)]
mod tests;

const DATABASE: &str = include_str!("../../../../bootstrap/blueprints/database.yaml");
const AURORA: &str = include_str!("../../../../bootstrap/blueprints/aurora.yaml");
const DATABASE_URL: &str = include_str!("../../../../bootstrap/blueprints/database-url.yaml");
const EXPORT: &str = include_str!("../../../../bootstrap/blueprints/export.yaml");
const CACHE: &str = include_str!("../../../../bootstrap/blueprints/cache.yaml");
const BUCKET: &str = include_str!("../../../../bootstrap/blueprints/bucket.yaml");
const SECRET: &str = include_str!("../../../../bootstrap/blueprints/secret.yaml");
const EMAIL: &str = include_str!("../../../../bootstrap/blueprints/email.yaml");

/// The least gp3 storage of a PostgreSQL instance, in GiB.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Storage.html>
pub(super) const LEAST_STORAGE: u32 = 20;

/// The databases that should be on a server, the one that is made with it first.
pub(super) fn database_names(spec: &Spec, database: &Database) -> Vec<DatabaseName> {
    if !database.names.is_empty() {
        return database.names.clone();
    }
    // An app's name with underscores is always a database's name, unless RDS has reserved it.
    let name = spec.app.as_str().replace('-', "_");
    let own = DatabaseName::try_from(name.clone()).or_else(|_| DatabaseName::try_from(format!("{name}_app")));
    own.into_iter().collect()
}

impl Wish<'_> {
    /// The stacks, each after what it stands on.
    pub(super) fn data_stacks(&self, observed: &Observed) -> Result<Vec<WantedStack>, PlanError> {
        let spec = self.spec;
        let mut stacks = Vec::new();
        for (key, database) in &spec.databases {
            let server = self.database(key, database);
            let names = database_names(spec, database);
            kept(
                &server,
                observed,
                &format!("databases.{key}"),
                &[("Engine", "engine"), ("User", "user"), ("Name", "names")],
            )?;
            stacks.push(server);
            stacks.extend(names.iter().map(|name| self.database_url(key, database, name)));
            stacks.extend(database.weekly_export.map(|period| self.export(key, database, period)));
        }
        stacks.extend(spec.caches.iter().map(|(key, cache)| self.cache(key, cache)));
        stacks.extend(spec.buckets.iter().map(|(key, bucket)| self.bucket(key, bucket)));
        for (key, secret) in &spec.secrets {
            let stack = self.secret(key, secret);
            kept(&stack, observed, &format!("secrets.{key}"), &[("Name", "name"), ("Length", "length")])?;
            stacks.push(stack);
        }
        stacks.extend(spec.email.iter().map(|(key, email)| self.email(key, email)));
        Ok(stacks)
    }

    /// The ARNs of the secrets that a role must read for a reference; none where it stands for no secret of this manifest. A
    /// service that refers to a database that was not made with its server must read the server's credentials too: the
    /// task that makes the database runs as the service.
    pub(super) fn secret_arns(&self, reference: &Reference) -> Vec<Value> {
        let (spec, names) = (self.spec, self.names());
        let output = |stack, key| Value::Output { stack, key: Cow::Borrowed(key) };
        match reference {
            Reference::Secret(key) if spec.secrets.contains_key(key) => vec![output(names.secret(key), "Secret")],
            Reference::Database { name: key, database: of, attribute } => {
                let Some(database) = spec.databases.get(key) else { return Vec::new() };
                let credentials = output(names.database(key), "Credentials");
                let on_it = database_names(spec, database);
                let place = of.as_ref().map_or(Some(0), |of| on_it.iter().position(|name| name.as_str() == of));
                let Some((place, name)) = place.and_then(|place| Some((place, on_it.get(place)?))) else {
                    return Vec::new();
                };
                let url = output(names.database_url(key, name), "Secret");
                match attribute {
                    DatabaseAttribute::Password => vec![credentials],
                    DatabaseAttribute::Url if place == 0 => vec![url],
                    DatabaseAttribute::Url => vec![url, credentials],
                    _ if place == 0 => Vec::new(),
                    _ => vec![credentials],
                }
            }
            _ => Vec::new(),
        }
    }

    fn database(&self, key: &ComponentName, database: &Database) -> WantedStack {
        let major = major(database.version.as_str());
        let (engine, family) = match database.engine {
            DatabaseEngine::Postgres => ("postgres", format!("postgres{major}")),
            DatabaseEngine::AuroraPostgres => ("aurora-postgresql", format!("aurora-postgresql{major}")),
        };
        let name = database_names(self.spec, database);
        let mut wanted = parameters([
            ("App", text(&self.spec.app)),
            ("Environment", text(self.environment)),
            ("Database", text(key)),
            ("Subnets", self.of_network(|network| network.data_subnets().join(","))),
            ("SecurityGroup", self.of_network(|network| network.database_group.clone().unwrap_or_default())),
            ("Engine", text(engine)),
            ("Version", text(database.version.as_str())),
            ("Family", text(family)),
            // A minor version that is named is meant: RDS would go past it, and then refuses to be brought back.
            ("MinorUpgrades", text(major == database.version.as_str())),
            ("MultiAz", text(database.multi_az)),
            ("User", text(database.user.as_str())),
            ("Name", text(name.first().map_or("", |name| name.as_str()))),
            ("BackupDays", text(database.backups.days())),
            ("BackupWindow", text(database.backup_window.as_ref().map_or("", |window| window.as_str()))),
            ("MaintenanceWindow", text(database.maintenance_window.as_ref().map_or("", |window| window.as_str()))),
            ("LogDays", text(self.spec.logs.retention.days())),
            ("OnDelete", text(policy(database.on_delete))),
        ]);
        let template = match database.engine {
            DatabaseEngine::Postgres => {
                wanted.extend(parameters([
                    ("Class", text(database.class.as_ref().map_or("", |class| class.as_str()))),
                    ("Storage", text(database.storage.map_or(LEAST_STORAGE, |storage| storage.gib()))),
                    ("MaxStorage", text(database.max_storage.map_or(String::new(), |most| most.gib().to_string()))),
                ]));
                DATABASE
            }
            DatabaseEngine::AuroraPostgres => {
                let capacity = |of: fn(&_) -> f64| text(database.capacity.as_ref().map_or(0.0, of));
                wanted.extend(parameters([
                    ("MinCapacity", capacity(|capacity| capacity.min)),
                    ("MaxCapacity", capacity(|capacity| capacity.max)),
                ]));
                AURORA
            }
        };
        self.blueprint(self.names().database(key), Concern::Database, template, wanted, true)
    }

    fn database_url(&self, key: &ComponentName, database: &Database, name: &DatabaseName) -> WantedStack {
        let server = self.names().database(key);
        let of_server = |key| Value::Output { stack: server.clone(), key: Cow::Borrowed(key) };
        let secret = database.url_secrets.get(name).map_or_else(
            || format!("shipway/{}/{}/{key}/{}", self.spec.app, self.environment, name.as_str()),
            |secret| secret.as_str().to_owned(),
        );
        let wanted = parameters([
            ("SecretName", text(secret)),
            ("Credentials", of_server("Credentials")),
            ("User", text(database.user.as_str())),
            ("Host", of_server("Host")),
            ("Port", of_server("Port")),
            ("Name", text(name.as_str())),
        ]);
        self.blueprint(self.names().database_url(key, name), Concern::Secret, DATABASE_URL, wanted, true)
    }

    fn export(&self, key: &ComponentName, database: &Database, period: Period) -> WantedStack {
        let wanted = parameters([
            ("App", text(&self.spec.app)),
            ("Environment", text(self.environment)),
            ("Database", text(key)),
            (
                "Engine",
                text(match database.engine {
                    DatabaseEngine::Postgres => "postgres",
                    DatabaseEngine::AuroraPostgres => "aurora-postgresql",
                }),
            ),
            ("Identifier", Value::Output { stack: self.names().database(key), key: Cow::Borrowed("Identifier") }),
            ("Days", text(period.days())),
            ("PermissionsBoundary", text(&self.place.permissions_boundary)),
            ("OnDelete", text(stays_or_goes(database.on_delete))),
        ]);
        self.blueprint(self.names().export(key), Concern::Export, EXPORT, wanted, true)
    }

    fn cache(&self, key: &ComponentName, cache: &Cache) -> WantedStack {
        let wanted = parameters([
            ("App", text(&self.spec.app)),
            ("Environment", text(self.environment)),
            ("Cache", text(key)),
            ("Subnets", self.of_network(|network| network.data_subnets().join(","))),
            ("SecurityGroup", self.of_network(|network| network.cache_group.clone().unwrap_or_default())),
            (
                "Engine",
                text(match cache.engine {
                    CacheEngine::Redis => "redis",
                    CacheEngine::Valkey => "valkey",
                }),
            ),
            ("Version", text(cache.version.as_str())),
            ("Class", text(cache.class.as_str())),
            ("Nodes", text(u16::from(cache.replicas.unwrap_or(0)) + 1)),
            ("SnapshotDays", text(cache.snapshots.days())),
            ("MaintenanceWindow", text(cache.maintenance_window.as_ref().map_or("", |window| window.as_str()))),
            ("OnDelete", text(policy(cache.on_delete))),
        ]);
        self.blueprint(self.names().cache(key), Concern::Cache, CACHE, wanted, true)
    }

    fn bucket(&self, key: &ComponentName, bucket: &Bucket) -> WantedStack {
        let wanted = parameters([
            ("BucketName", text(self.names().bucket_name(key, &self.place.account))),
            ("Versioned", text(bucket.versioned)),
            ("ExpireDays", text(bucket.expire.map_or(String::new(), |expire| expire.days().to_string()))),
            ("Origins", text(bucket.cors.join(","))),
            ("OnDelete", text(stays_or_goes(bucket.on_delete))),
        ]);
        self.blueprint(self.names().bucket(key), Concern::Bucket, BUCKET, wanted, false)
    }

    fn secret(&self, key: &ComponentName, secret: &Secret) -> WantedStack {
        let name = secret.name.as_ref().map_or_else(
            || format!("shipway/{}/{}/{key}", self.spec.app, self.environment),
            |name| name.as_str().to_owned(),
        );
        let wanted = parameters([("Name", text(name)), ("Length", text(secret.length))]);
        self.blueprint(self.names().secret(key), Concern::Secret, SECRET, wanted, false)
    }

    fn email(&self, key: &ComponentName, email: &Email) -> WantedStack {
        let (sender, zone) = match email {
            Email::Address(address) => (address.as_str(), ""),
            Email::Domain(host) => {
                (host.as_str(), self.spec.domain.as_ref().map_or("", |domain| zone(domain, host.as_str())))
            }
        };
        let wanted = parameters([("Sender", text(sender)), ("Zone", text(zone))]);
        self.blueprint(self.names().email(key), Concern::Email, EMAIL, wanted, false)
    }
}

/// The part of a version before the first dot.
fn major(version: &str) -> &str {
    version.split_once('.').map_or(version, |(major, _)| major)
}

/// The hosted zone of a host, where it is the domain's; empty where it is not.
fn zone<'a>(domain: &'a Domain, host: &str) -> &'a str {
    let name = domain.name.as_str();
    let within = host == name || host.strip_suffix(name).is_some_and(|labels| labels.ends_with('.'));
    domain.zone.as_ref().filter(|_| within).map_or("", |zone| zone.as_str())
}

/// CloudFormation's word.
fn policy(on_delete: OnDelete) -> &'static str {
    match on_delete {
        OnDelete::Retain => "Retain",
        OnDelete::Snapshot => "Snapshot",
        OnDelete::Delete => "Delete",
    }
}

/// CloudFormation's word for what knows no snapshots: where a last one of something else is all that stays, it goes.
fn stays_or_goes(on_delete: OnDelete) -> &'static str {
    match on_delete {
        OnDelete::Retain => "Retain",
        OnDelete::Snapshot | OnDelete::Delete => "Delete",
    }
}

/// Refuses what would replace something that holds data by an empty one, or generate another password for it.
fn kept(
    wanted: &WantedStack,
    observed: &Observed,
    path: &str,
    fixed: &[(&'static str, &'static str)],
) -> Result<(), PlanError> {
    let Some(stack) = observed.get(&wanted.name).filter(|stack| stands(&stack.status)) else { return Ok(()) };
    for (parameter, key) in fixed {
        let Some(Value::Text(new)) = wanted.parameters.get(*parameter) else { continue };
        match stack.parameters.get(*parameter) {
            Some(old) if old != new => {
                return Err(PlanError::Fixed { path: format!("{path}.{key}"), old: old.clone(), new: new.clone() });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a stack was ever finished, so that something may be in what it made.
fn stands(status: &StackStatus) -> bool {
    !matches!(
        status,
        StackStatus::ReviewInProgress
            | StackStatus::CreateInProgress
            | StackStatus::CreateFailed
            | StackStatus::RollbackInProgress
            | StackStatus::RollbackFailed
            | StackStatus::RollbackComplete
            | StackStatus::DeleteInProgress
            | StackStatus::DeleteComplete
    )
}

/// Adds what they made, and what the manifest's references to it stand for.
pub(super) fn outputs(
    names: Names<'_>,
    spec: &Spec,
    output: &Output<'_>,
    outputs: &mut PlatformOutputs,
) -> Result<(), MissingOutput> {
    for (key, database) in &spec.databases {
        of_database(names, spec, output, outputs, (key, database))?;
    }
    for key in spec.caches.keys() {
        for &attribute in CacheAttribute::ALL {
            let made = match attribute {
                CacheAttribute::Url => "Url",
                CacheAttribute::Host => "Host",
                CacheAttribute::Port => "Port",
            };
            let reference = Reference::Cache { name: key.clone(), attribute };
            outputs.values.insert(reference.to_string(), output(names.cache(key), made)?);
        }
    }
    for key in spec.buckets.keys() {
        outputs.values.insert(Reference::Bucket(key.clone()).to_string(), output(names.bucket(key), "Bucket")?);
    }
    for key in spec.secrets.keys() {
        outputs.secrets.insert(Reference::Secret(key.clone()).to_string(), output(names.secret(key), "Secret")?);
    }
    Ok(())
}

fn of_database(
    names: Names<'_>,
    spec: &Spec,
    output: &Output<'_>,
    outputs: &mut PlatformOutputs,
    (key, database): (&ComponentName, &Database),
) -> Result<(), MissingOutput> {
    let server = names.database(key);
    let of_server = |output_key| output(server.clone(), output_key);
    let (host, port, user) = (of_server("Host")?, of_server("Port")?, database.user.as_str().to_owned());
    // One key of a JSON secret, as ECS names it.
    // https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html
    let password = format!("{}:password::", of_server("Credentials")?);
    let on_it = database_names(spec, database);
    for (place, name) in on_it.iter().enumerate() {
        let url = output(names.database_url(key, name), "Secret")?;
        // The first may be named or not.
        let ways = if place == 0 { vec![None, Some(name)] } else { vec![Some(name)] };
        for way in ways {
            for &attribute in DatabaseAttribute::ALL {
                let reference = Reference::Database {
                    name: key.clone(),
                    database: way.map(|name| name.as_str().to_owned()),
                    attribute,
                };
                let (of, value): (&mut BTreeMap<_, _>, _) = match attribute {
                    DatabaseAttribute::Url => (&mut outputs.secrets, &url),
                    DatabaseAttribute::Password => (&mut outputs.secrets, &password),
                    DatabaseAttribute::Host => (&mut outputs.values, &host),
                    DatabaseAttribute::Port => (&mut outputs.values, &port),
                    DatabaseAttribute::User => (&mut outputs.values, &user),
                    DatabaseAttribute::Name => {
                        outputs.values.insert(reference.to_string(), name.as_str().to_owned());
                        continue;
                    }
                };
                of.insert(reference.to_string(), value.clone());
            }
        }
    }
    let made = DatabaseOutputs {
        engine: database.engine,
        identifier: of_server("Identifier")?,
        port: port.parse().map_err(|_| MissingOutput { stack: server.clone(), key: "Port" })?,
        host,
        user,
        password,
        names: on_it,
        export_bucket: database.weekly_export.map(|_| output(names.export(key), "Bucket")).transpose()?,
    };
    outputs.databases.insert(key.clone(), made);
    Ok(())
}
