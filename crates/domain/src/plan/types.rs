//! What is known of the types of resources that the blueprints use: which properties cannot change in place, whose change interrupts,
//! what holds data, and what stops while it is made anew. `types.json` is the table.
//!
//! - `replace` is what the type's schema names as create-only, and what its page says besides (`Port` of a DB instance).
//!   `xtask/resource_types.py` holds the table to the schemas.
//! - `interrupt` is what the type's page says is updated with "some interruptions". Left out are those whose interruption cannot come of
//!   what a manifest can say: of a DB instance the retention of backups (only from or to none), the maintenance window and minor
//!   upgrades (only what waits for the window). Added are the type and engine of cache nodes, during whose change a node without a
//!   replica drops its connections: <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/Scaling.html>.
//! - `name` is the property that a person may have set and that no two resources can have: with it, CloudFormation cannot make the new
//!   one before it deletes the old one, and refuses.
//!
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-updating-stacks-update-behaviors.html>

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

/// What is known of a type.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Type {
    /// The paths, with `/` between, of what cannot change in place.
    pub(super) replace: Vec<String>,
    /// The properties whose change interrupts.
    #[serde(default)]
    pub(super) interrupt: Vec<String>,
    /// The property that is its name.
    pub(super) name: Option<String>,
    /// What is lost with it.
    pub(super) data: Option<String>,
    /// What stops when it is made anew or deleted.
    pub(super) stops: Option<String>,
}

static TYPES: LazyLock<BTreeMap<String, Type>> =
    LazyLock::new(|| serde_json::from_str(include_str!("types.json")).unwrap_or_default());

/// What is known of a type; nothing where it is no blueprint's.
pub(super) fn known(kind: &str) -> Option<&'static Type> {
    TYPES.get(kind)
}

impl Type {
    /// Whether a change at this path makes the resource anew.
    pub(super) fn replaces(&self, path: &[&str]) -> bool {
        self.replace.iter().any(|known| is_same_way(path, known))
    }

    /// Whether a change at this path interrupts.
    pub(super) fn interrupts(&self, path: &[&str]) -> bool {
        self.interrupt.iter().any(|known| is_same_way(path, known))
    }
}

/// Whether one path is the beginning of the other. A `*` is any item of a list, whose places are not in `path`.
fn is_same_way(path: &[&str], known: &str) -> bool {
    let known = known.split('/').filter(|part| *part != "*");
    path.iter().zip(known).all(|(part, known)| *part == known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_and_names_properties_that_cannot_change_in_place() {
        assert!(TYPES.len() > 40);
        for (kind, known) in TYPES.iter() {
            assert!(kind.starts_with("AWS::") && kind.split("::").count() == 3, "{kind}");
            let name = known.name.as_deref();
            assert!(name.is_none_or(|name| known.replace.iter().any(|path| path == name)), "{kind}");
        }
    }

    #[test]
    fn a_path_is_compared_part_by_part() {
        let known = known("AWS::ECR::Repository").unwrap();
        assert!(known.replaces(&["EncryptionConfiguration", "KmsKey"]));
        assert!(known.replaces(&["EncryptionConfiguration"]));
        assert!(known.replaces(&["RepositoryName"]));
        assert!(!known.replaces(&["LifecyclePolicy", "LifecyclePolicyText"]));
        assert!(!known.replaces(&["RepositoryPolicyText"]));
        assert!(is_same_way(&["A", "B"], "A/*/B") && !is_same_way(&["A", "C"], "A/*/B"));
    }

    /// Blueprints are all that Shipway itself makes; of other types nothing can be said.
    #[test]
    fn every_type_of_every_blueprint_is_in_the_table() {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../../bootstrap/blueprints";
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let template = crate::plan::template::read(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let crate::plan::value::Value::Map(resources) = template.get("Resources").unwrap() else {
                panic!("{path:?}")
            };
            for (name, resource) in resources {
                let kind = resource.get("Type").and_then(|kind| kind.as_text()).unwrap();
                assert!(known(kind).is_some(), "{name} of {} is a {kind}: put it into types.json", path.display());
                seen += 1;
            }
        }
        assert!(seen > 10);
    }
}
