//! Raw fields of a task definition.

use super::{Checked, Manifest, refuse};
use crate::task::Override;

pub(super) fn check(manifest: &Manifest<'_>) -> Checked {
    for (name, service) in &manifest.spec.services {
        if let Some(wrong) = Override::wrong_one(name, service) {
            return refuse(format!("services.{name}.overrides.{}", wrong.key), wrong.why);
        }
    }
    Ok(())
}
