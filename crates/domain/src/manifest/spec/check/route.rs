//! Which requests go to which service: the load balancer's rules.
//!
//! Rules are tried from the most specific on, one with a host before those of any host, so a wider one hides none. What is left
//! to refuse is two that match the same requests, and one that is the load balancer's own.

use super::{Checked, Manifest, refuse};

/// Where the load balancer answers for a site's missing pages.
const OWN: &str = "/.shipway/";

pub(super) fn check(manifest: &Manifest<'_>) -> Checked {
    let services = &manifest.spec.services;
    let mut seen = Vec::new();
    for (name, http) in services.iter().filter_map(|(name, service)| service.http.as_ref().map(|http| (name, http))) {
        let path = format!("services.{name}.http.path");
        if http.path.starts_with(OWN) {
            return refuse(path, format!("paths under {OWN} are Shipway's own"));
        }
        let condition = (http.host.as_ref(), same_meaning(&http.path));
        if let Some((other, _)) = seen.iter().find(|(_, rule)| *rule == condition) {
            let what = if http.host.is_some() { "host and path" } else { "path" };
            return refuse(path, format!("`{other}` has the same {what} already"));
        }
        seen.push((name, condition));
    }
    Ok(())
}

/// A pattern's one spelling among all that match the same paths: in a run of wildcards the `?` first, then one `*`.
fn same_meaning(pattern: &str) -> String {
    let mut text = String::new();
    let mut star = false;
    for c in pattern.chars() {
        match c {
            '*' => star = true,
            '?' => text.push('?'),
            c => {
                if std::mem::take(&mut star) {
                    text.push('*');
                }
                text.push(c);
            }
        }
    }
    if star {
        text.push('*');
    }
    text
}
