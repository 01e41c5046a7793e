//! What applying does to an environment's sites: by what the manifest said and says now of each.
//!
//! When the platform stands, what is live of each site is published again by the new settings. Where they say nothing of its files, that
//! ends `unchanged`. A site that the manifest no longer names goes on as it is.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    difference::Doing,
    service::{compare, told},
};
use crate::{
    manifest::{Site, Spec},
    name::ComponentName,
};

/// What is done about a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteChange {
    /// Its name.
    pub name: String,
    /// What is done.
    pub doing: Doing,
    /// How it begins, or what changes.
    pub what: Vec<String>,
    /// Whether what is live is published again in another way: other keys, headers or contents in its bucket, another rule at the edge,
    /// or another time for which files stay.
    pub publishes: bool,
}

/// What of a site a publication does not read: its stack has it, or the next preview does.
const OUTSIDE: [&str; 5] = ["backend", "headers", "hosts", "previews", "redirects"];

/// What is done about each site of the manifest, from what applied before.
pub(super) fn changes(spec: &Spec, applied: Option<&Spec>) -> Vec<SiteChange> {
    let before = |name: &ComponentName| applied.and_then(|applied| applied.sites.get(name));
    let changes = spec.sites.iter().map(|(name, site)| match before(name) {
        None => SiteChange {
            name: name.to_string(),
            doing: Doing::Create,
            what: vec!["waits for its first zip".to_owned()],
            publishes: false,
        },
        Some(old) => changed(name, old, site),
    });
    changes.collect()
}

fn changed(name: &ComponentName, old: &Site, new: &Site) -> SiteChange {
    let mut found = BTreeMap::new();
    let value = |site: &Site| serde_json::to_value(site).unwrap_or_default();
    compare("", &value(old), &value(new), &mut found);
    let publishes = found.keys().any(|path| !OUTSIDE.contains(&path.split('.').next().unwrap_or_default()));
    SiteChange {
        name: name.to_string(),
        doing: if found.is_empty() { Doing::Unchanged } else { Doing::Change },
        what: told(found),
        publishes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    /// What a change of the site's settings comes to.
    fn changed_to(settings: &str) -> SiteChange {
        let spec = |settings: &str| {
            let text = format!("version: 1\napp: hello\nsites: {{web: {{{settings}}}}}\nenvironments: {{dev: {{}}}}\n");
            manifest::read(&text, &"hello".parse().unwrap(), &"dev".parse().unwrap()).unwrap()
        };
        changes(&spec(settings), Some(&spec("routing: clean"))).remove(0)
    }

    #[test]
    fn what_a_publication_reads_publishes_again() {
        for (settings, what) in [
            ("routing: spa", "routing: clean → spa"),
            ("trailing_slash: always", "trailing_slash: nothing → always"),
            ("cache: [{files: '**/*.json', control: no-store}]", "cache: nothing → "),
            ("keep: 30d", "keep: 7d → 30d"),
            ("releases: 3", "releases: 10 → 3"),
            ("verify: sha256", "verify: crc32 → sha256"),
            ("config: {API: /api}", "config: nothing → "),
            ("precompressed: true", "precompressed: nothing → true"),
        ] {
            let change = changed_to(settings);
            assert!(change.publishes && change.doing == Doing::Change, "{settings}");
            assert!(change.what.iter().any(|told| told.starts_with(what)), "{settings}: {:?}", change.what);
        }
    }

    #[test]
    fn what_only_its_stack_or_the_next_preview_reads_does_not() {
        let same = changed_to("routing: clean");
        assert_eq!((same.doing, same.publishes, same.what.len()), (Doing::Unchanged, false, 0));
        for settings in ["redirects: [{from: /old, to: /new}]", "headers: {X-Frame-Options: DENY}", "previews: 3d"] {
            let change = changed_to(&format!("routing: clean, {settings}"));
            assert!(change.doing == Doing::Change && !change.publishes, "{settings}");
            assert_eq!(change.what.len(), 1, "{settings}");
        }
    }
}
