//! The further databases of a server: the first was made with it, the others by a one-off task before the first rollout of a
//! service that uses one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Container, Log, Surroundings, TaskDefinition, TaskError, Wanted};
use crate::{
    manifest::{EnvValue, Reference, SecretRef, Service, Spec},
    name::ComponentName,
    platform::DatabaseOutputs,
};

/// The first part of the log streams, and the name of the container.
pub const STREAM: &str = "databases";

/// How long the task may take. It is through in seconds; most of the time an image is pulled, or an instance starts.
pub const TIMEOUT_SECONDS: u32 = 600;

/// Where PostgreSQL's own client is.
const CLIENT: &str = "public.ecr.aws/docker/library/postgres";

/// Made twice at once, a database is there once, and one of the two finds it when it looks again.
const SCRIPT: &str = r#"for name in "$@"; do
  is_there() { psql -tAc "SELECT 1 FROM pg_database WHERE datname = '$name'" | grep -q 1; }
  is_there || createdb "$name" || is_there || exit 1
  echo "the database $name is there"
done"#;

/// What is remembered of the databases that were made: by server and name, the host they were made on. Another host is another
/// server, which has none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The host, by `<server>/<name>`.
    #[serde(default)]
    pub on: BTreeMap<String, String>,
}

/// Databases that a one-off task makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Making {
    /// The server's key in the manifest.
    pub server: ComponentName,
    /// Its host.
    pub host: String,
    /// The databases.
    pub names: BTreeSet<String>,
}

impl std::fmt::Display for Making {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        write!(f, "{} on `{}`", names.join(", "), self.server)
    }
}

impl Made {
    /// Those of a server that are still to be made.
    #[must_use]
    pub fn missing(&self, server: &ComponentName, host: &str, names: &BTreeSet<String>) -> BTreeSet<String> {
        let is_there = |name: &String| self.on.get(&format!("{server}/{name}")).is_some_and(|on| on == host);
        names.iter().filter(|name| !is_there(name)).cloned().collect()
    }

    /// Remembers that these are there.
    pub fn remember(&mut self, made: &Making) {
        let Making { server, host, names } = made;
        self.on.extend(names.iter().map(|name| (format!("{server}/{name}"), host.clone())));
    }
}

/// The databases that a service refers to and that were not made with their server, by server.
#[must_use]
pub fn further(spec: &Spec, service: &Service) -> BTreeMap<ComponentName, BTreeSet<String>> {
    let mut further: BTreeMap<ComponentName, BTreeSet<String>> = BTreeMap::new();
    for reference in references(service) {
        if let Reference::Database { name: server, database: Some(database), .. } = reference
            && let Some(known) = spec.databases.get(server)
            && known.names.iter().skip(1).any(|name| name.as_str() == database)
        {
            further.entry(server.clone()).or_default().insert(database.clone());
        }
    }
    further
}

/// What a service's variables and secrets, and those of what runs beside it, refer to.
pub fn references(service: &Service) -> impl Iterator<Item = &Reference> {
    let env = service.env.values().chain(service.sidecars.values().flat_map(|sidecar| sidecar.env.values()));
    let secrets =
        service.secrets.values().chain(service.sidecars.values().flat_map(|sidecar| sidecar.secrets.values()));
    let of_env = env.filter_map(|value| match value {
        EnvValue::Ref(reference) => Some(reference),
        EnvValue::Text(_) => None,
    });
    of_env.chain(secrets.filter_map(|secret| match secret {
        SecretRef::Ref(reference) => Some(reference),
        SecretRef::Secretsmanager(_) | SecretRef::Ssm(_) => None,
    }))
}

impl Wanted<'_> {
    /// The task definition of a one-off task that makes these databases on a server, each unless it is there. It runs as the
    /// service does, whose execution role reads the password.
    ///
    /// # Errors
    /// What was provisioned cannot be used.
    pub fn databases_task(
        &self,
        surroundings: &Surroundings,
        server: &ComponentName,
        outputs: &DatabaseOutputs,
        names: &BTreeSet<String>,
    ) -> Result<TaskDefinition, TaskError> {
        let version = self.spec.databases.get(server).map_or("", |database| database.version.as_str());
        let major = version.split('.').next().unwrap_or_default();
        let text = |value: &str| EnvValue::Text(value.to_owned());
        let env = BTreeMap::from([
            ("PGHOST".to_owned(), text(&outputs.host)),
            ("PGPORT".to_owned(), text(&outputs.port.to_string())),
            ("PGUSER".to_owned(), text(&outputs.user)),
            // The one that every server has.
            ("PGDATABASE".to_owned(), text("postgres")),
            ("PGSSLMODE".to_owned(), text("require")),
        ]);
        let command: Vec<String> =
            ["-c", SCRIPT, STREAM].into_iter().map(str::to_owned).chain(names.iter().cloned()).collect();
        let container = Container {
            name: STREAM,
            image: format!("{CLIENT}:{major}-alpine"),
            command: &command,
            entrypoint: &["sh".to_owned()],
            essential: true,
            port: None,
            host_port: None,
            env: &env,
            secrets: &BTreeMap::new(),
            cpu: self.spec.cluster.ec2.as_ref().map(|_| 64),
            memory: None,
        };
        let log = Log { group: &self.outputs.log_group, stream_prefix: STREAM };
        let mut container = self.container(surroundings, &container, &log)?;
        container.insert("secrets".to_owned(), json!([{"name": "PGPASSWORD", "valueFrom": outputs.password}]));
        // The least that Fargate has; on an instance less is enough.
        let size = if self.spec.cluster.ec2.is_some() { (64, 128) } else { (256, 512) };
        // An underscore is in no component's name, so this is no other service's family.
        self.bare_task("_databases", size, vec![container])
    }
}
