//! What the edge knows of a site: which file a URL means, and what it has to be told when that changes.
//!
//! The function at the edge (`bootstrap/blueprints/site.yaml`) follows the same rule as [`route`]; a test holds the two to one
//! table. It finds what it must know in the site's key-value store: under [`LIVE`] for the site itself, under a preview's
//! [`key`](preview_key) for that preview.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    manifest::spec::{Period, Routing, Site, TrailingSlash},
    name::{PreviewName, ReleaseId},
    site,
};

/// The key of what is known of the live site.
pub const LIVE: &str = "live";

const INDEX: &str = "index.html";

/// What the edge must know of a release. Where it is told nothing, it goes by the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// How a URL finds its file.
    #[serde(default)]
    pub routing: Routing,
    /// Which form a page's URL has with `clean` routing.
    #[serde(default)]
    pub slash: TrailingSlash,
    /// The extensions, without their dot, of which every file has an object with `.br` and one with `.gz` at the end of its
    /// key. A browser that asks for the file itself is given what it takes of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub precompressed: Vec<String>,
}

/// What the edge must know of a preview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// What it knows of any release.
    #[serde(flatten)]
    pub edge: Edge,
    /// What the keys of its objects begin with.
    pub prefix: String,
    /// When it can no longer be seen, in seconds since 1970.
    pub until: i64,
}

impl Preview {
    /// What the edge must know of a release of a preview that can be seen for so long from the release's beginning.
    pub fn of(edge: &Edge, name: &PreviewName, release: &ReleaseId, period: Period) -> Preview {
        let begun = release.begun().as_second();
        Preview {
            edge: edge.clone(),
            prefix: site::preview_prefix(name, release),
            until: begun + i64::from(period.seconds()),
        }
    }
}

/// The key of what is known of a preview.
pub fn preview_key(name: &PreviewName) -> String {
    format!("{PREVIEWS}{name}")
}

/// What the keys of all previews begin with.
pub const PREVIEWS: &str = "preview/";

/// Where a site's paths lead, as JSON that is part of the function's code. A path that is named itself comes before one that
/// only begins as a rule says; of those the first counts.
pub fn redirects(site: &Site) -> String {
    let (mut exact, mut begin) = (serde_json::Map::new(), Vec::new());
    for redirect in &site.redirects {
        match redirect.from.strip_suffix('*') {
            Some(from) => begin.push(json!([from, redirect.to, redirect.status])),
            None => drop(exact.insert(redirect.from.clone(), json!([redirect.to, redirect.status]))),
        }
    }
    in_code(&json!({"exact": exact, "begin": begin}))
}

/// A site's headers, as JSON that is part of the function's code.
pub fn headers(site: &Site) -> String {
    let headers = site.headers.iter().map(|(name, value)| json!([name.to_ascii_lowercase(), value]));
    in_code(&headers.collect())
}

/// JSON that neither a template's `${…}` nor JavaScript reads otherwise.
fn in_code(value: &serde_json::Value) -> String {
    let mut code = String::new();
    for c in value.to_string().chars() {
        match c {
            '$' | '<' | '\u{2028}' | '\u{2029}' => code.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => code.push(c),
        }
    }
    code
}

/// What a URL's path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routed<'a> {
    /// The object of this key, as it is written in the URL, without the slash at its beginning.
    Key(Cow<'a, str>),
    /// Another path.
    Redirect(String),
}

/// What a site's path means. It begins with a slash and has no query.
pub fn route<'a>(edge: &Edge, path: &'a str) -> Routed<'a> {
    let key = path.strip_prefix('/').unwrap_or(path);
    let name = key.rsplit('/').next().unwrap_or_default();
    let is_file = name.contains('.') || key.starts_with(".well-known/");
    Routed::Key(match (edge.routing, edge.slash) {
        _ if is_file => key.into(),
        (Routing::Spa, _) => INDEX.into(),
        (Routing::Clean, _) if key.is_empty() => INDEX.into(),
        (Routing::Clean, TrailingSlash::Never) if !name.is_empty() => format!("{key}.html").into(),
        (Routing::Clean, TrailingSlash::Never) => return Routed::Redirect(local(path.trim_end_matches('/'))),
        (Routing::Clean, TrailingSlash::Always) if name.is_empty() => format!("{key}{INDEX}").into(),
        (Routing::Clean, TrailingSlash::Always) => return Routed::Redirect(local(&format!("{path}/"))),
    })
}

/// The path as one of this host: `//a.example` and `/\a.example` would be another one to a browser.
fn local(path: &str) -> String {
    format!("/{}", path.trim_start_matches(['/', '\\']))
}
