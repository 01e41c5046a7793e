//! The secrets and parameters that a task is given: which, where the manifest names them, and what of them ECS could not hand over.
//!
//! No function may read a value, so whether a JSON secret has the key that a reference names stays unknown.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Facts, Needs, items};
use crate::{manifest::SecretRef, task::Wanted};

/// Where a secret is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// Secrets Manager.
    SecretsManager,
    /// Systems Manager's Parameter Store.
    ParameterStore,
}

impl Keeper {
    /// The right that a task's execution role needs, so that ECS can hand a secret over.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_execution_IAM_role.html>
    #[must_use]
    pub const fn right(self) -> &'static str {
        match self {
            Keeper::SecretsManager => "secretsmanager:GetSecretValue",
            Keeper::ParameterStore => "ssm:GetParameters",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Keeper::SecretsManager => "secret",
            Keeper::ParameterStore => "parameter",
        }
    }

    /// What it is called, by its ARN.
    fn name(self, arn: &str) -> &str {
        let after = match self {
            Keeper::SecretsManager => ":secret:",
            Keeper::ParameterStore => ":parameter",
        };
        arn.split_once(after).map_or(arn, |(_, name)| name)
    }
}

/// Who answers for a secret that a task is given; who does most comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// A raw override names it, which gives no rights to it.
    Override,
    /// The manifest names it, and somebody made it.
    Named,
    /// Provisioning makes it.
    Made,
}

/// A secret that containers are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Where it is kept.
    pub keeper: Keeper,
    origin: Origin,
    /// Where the manifest names it.
    places: BTreeSet<String>,
}

/// What is known of a secret that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is not there.
    Missing,
    /// It is there for some more days only, and nobody can read it.
    Deleted,
    /// It was made, and has no value yet.
    Empty,
    /// It is there, under this whole ARN.
    There(String),
}

/// What the containers of these task definitions are given, by its ARN.
pub(super) fn of(wanted: &Wanted<'_>, tasks: &[Value]) -> BTreeMap<String, Given> {
    let service = format!("services.{}", wanted.name);
    let mut all = BTreeMap::<String, Given>::new();
    for container in tasks.iter().flat_map(|task| items(&task["containerDefinitions"])) {
        let name = container["name"].as_str().unwrap_or_default();
        let sidecar = wanted.service.sidecars.iter().find(|(sidecar, _)| sidecar.as_str() == name);
        let (own, secrets) = match sidecar {
            Some((_, sidecar)) => (format!("{service}.sidecars.{name}"), &sidecar.secrets),
            None => (service.clone(), &wanted.service.secrets),
        };
        let named = items(&container["secrets"]).iter().map(|secret| {
            let key = secret["name"].as_str().unwrap_or_default();
            let made = matches!(secrets.get(key), Some(SecretRef::Ref(_)));
            let origin = if made { Origin::Made } else { Origin::Named };
            (&secret["valueFrom"], origin, format!("{own}.secrets.{key}"))
        });
        let raw = |key: &str| format!("{service}.overrides.containerDefinitions.{name}.{key}");
        let log = items(&container["logConfiguration"]["secretOptions"])
            .iter()
            .map(|option| (&option["valueFrom"], Origin::Override, raw("logConfiguration.secretOptions")));
        let login = &container["repositoryCredentials"]["credentialsParameter"];
        let login = std::iter::once((login, Origin::Override, raw("repositoryCredentials")));
        for (reference, origin, place) in named.chain(log).chain(login) {
            let Some((keeper, arn)) = reference.as_str().and_then(kept_at) else { continue };
            let given = all.entry(arn).or_insert_with(|| Given { keeper, origin, places: BTreeSet::new() });
            given.origin = given.origin.max(origin);
            given.places.insert(place);
        }
    }
    all
}

/// Where the secret of a `valueFrom` is kept, and its ARN without the key, stage and version that may come after it. What is named
/// by no ARN may be anywhere.
fn kept_at(reference: &str) -> Option<(Keeper, String)> {
    let parts: Vec<&str> = reference.split(':').collect();
    match parts.as_slice() {
        ["arn", _, "secretsmanager", _, _, "secret", _, ..] => {
            Some((Keeper::SecretsManager, parts.get(..7)?.join(":")))
        }
        // Those of AWS itself are not among the account's.
        ["arn", _, "ssm", _, _, name] if !name.starts_with("parameter/aws/") => {
            Some((Keeper::ParameterStore, reference.to_owned()))
        }
        _ => None,
    }
}

/// What keeps ECS from handing over what the tasks are given.
pub(super) fn findings(needs: &Needs<'_>, facts: &Facts) -> Vec<String> {
    let lost = needs.given.iter().filter_map(|(arn, given)| {
        let (what, remedy) = match (facts.kept.get(arn)?, given.origin) {
            (Kept::There(_), _) => return None,
            (Kept::Missing, Origin::Made) => ("is not there", "`shipway apply --repair` makes it again".to_owned()),
            (Kept::Missing, _) => {
                ("is not there", "create it in the service's account and region, or name another".to_owned())
            }
            (Kept::Deleted, _) => {
                ("is being deleted", format!("`aws secretsmanager restore-secret --secret-id {arn}` brings it back"))
            }
            (Kept::Empty, _) => (
                "has no value",
                format!("`aws secretsmanager put-secret-value --secret-id {arn} --secret-string …` gives it one"),
            ),
        };
        Some(format!("{} {what}, and no container starts without it; {remedy}", given.named(arn)))
    });
    let unreadable = needs.given.iter().filter(|(arn, _)| facts.unreadable.contains(*arn)).map(|(arn, given)| {
        let remedy = match given.origin {
            Origin::Override => "an override gives no rights: name it under `secrets` too",
            Origin::Named | Origin::Made => {
                "`shipway apply --repair` gives the role its rights again; where it has them, its permissions boundary or a \
                 policy of the organization takes them away"
            }
        };
        format!(
            "{} may not be read ({}) by the execution role {}; {remedy}",
            given.named(arn),
            given.keeper.right(),
            needs.execution_role
        )
    });
    lost.chain(unreadable).collect()
}

impl Given {
    fn named(&self, arn: &str) -> String {
        let places: Vec<String> = self.places.iter().map(|place| format!("`{place}`")).collect();
        format!("the {} {} ({})", self.keeper.word(), self.keeper.name(arn), places.join(", "))
    }
}
