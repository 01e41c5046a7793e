//! What a manifest says of a site.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Wrong, service::HostName, unit::Period};

/// A site: static files behind CloudFront.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Its own hosts: the domain's name or one label before it. CloudFront's own name serves it too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostName>,
    /// How a URL finds its file; found from each zip unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing: Option<Routing>,
    /// Which form a page's URL has with `clean` routing; found from each zip unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trailing_slash: Option<TrailingSlash>,
    /// Cache headers by file, the first match counts; sensible ones where nothing matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<CacheRule>,
    /// How long a file stays in the bucket that no release which is kept refers to: pages that visitors have open may still
    /// ask for it. 7 days unless given.
    #[serde(default = "default_keep")]
    pub keep: Period,
    /// How many releases can be made live again with all their files; 10 unless given.
    #[serde(default = "default_releases")]
    pub releases: u32,
    /// How two files of one path are told apart.
    #[serde(default)]
    pub verify: Verify,
    /// What `/config.json` says in this environment, so that one build serves all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Whether `app.js.br` and `app.js.gz` in the zip are `app.js`, compressed, for the browsers that take them so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub precompressed: bool,
    /// Paths that are not the site's but go to the environment's load balancer: `/api/*`. At most four.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend: Vec<String>,
    /// Where other paths lead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirects: Vec<Redirect>,
    /// Headers of every answer that is no error, over those that the site has by itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How long a preview can be seen; 14 days unless given.
    #[serde(default = "default_previews")]
    pub previews: Period,
}

fn default_keep() -> Period {
    Period::of(7 * 86_400)
}

fn default_releases() -> u32 {
    10
}

fn default_previews() -> Period {
    Period::of(14 * 86_400)
}

/// How a URL finds its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Routing {
    /// Every page is a file: `/chat` is `chat.html` or `chat/index.html`.
    #[default]
    Clean,
    /// One page with its own router: a path without an extension is `index.html`.
    Spa,
}

/// Whether a page's URL ends with a slash. The other form leads to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrailingSlash {
    /// `/chat`: what `chat.html` and its relative links expect.
    #[default]
    Never,
    /// `/chat/`: what `chat/index.html` and its relative links expect.
    Always,
}

/// How two files of one path are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// By the checksum and the size that the zip's directory gives; nothing that did not change is read.
    #[default]
    Crc32,
    /// By the SHA-256 of their content; the whole zip is read.
    Sha256,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// A path, or the beginning of paths with a `*` at its end: `/old`, `/blog/*`.
    pub from: String,
    /// A path or an `https://` URL. A `*` at its end stands for what the one in `from` did.
    pub to: String,
    /// 301, 302, 307 or 308; 308 unless given.
    #[serde(default = "default_redirect")]
    pub status: u16,
}

fn default_redirect() -> u16 {
    308
}

/// A cache header for the files that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheRule {
    /// A glob over the paths in the zip: `**/*.html`.
    pub files: Glob,
    /// The `Cache-Control` header.
    pub control: String,
}

/// A glob that was found to be well formed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(String);

impl Glob {
    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The matcher. A `*` does not cross a `/`; `**` does.
    pub fn matcher(&self) -> Option<globset::GlobMatcher> {
        globset::GlobBuilder::new(&self.0).literal_separator(true).build().ok().map(|glob| glob.compile_matcher())
    }
}

impl TryFrom<String> for Glob {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let glob = Glob(text);
        if glob.0.len() <= 256 && glob.matcher().is_some() {
            Ok(glob)
        } else {
            Err(format!("`{}` is not a glob like **/*.html", glob.0))
        }
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> String {
        glob.0
    }
}

/// How many releases of a site can be kept: their zips stay in the intake bucket, which keeps twenty versions of a key.
const MOST_RELEASES: u32 = 20;

/// The blueprint of a site has room for so many.
const MOST_BACKENDS: usize = 4;

/// Redirects and headers are in the code of the function at the edge, of which CloudFront takes 10 KB.
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html#limits-functions>
const MOST_EDGE_BYTES: usize = 3000;

/// Headers that CloudFront lets no function set, or that belong to a file and not to the site.
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/edge-function-restrictions-all.html>
const FOREIGN_HEADERS: [&str; 20] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cache-control",
    "expect",
    "keep-alive",
    "location",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "warning",
    "x-cache",
    "x-forwarded-proto",
    "x-real-ip",
];

impl Site {
    /// Checks what the types cannot say: the key that is wrong, and why.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let is_text = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        for (index, rule) in self.cache.iter().enumerate() {
            if !is_text(&rule.control) {
                return Err((format!("cache[{index}].control"), "a Cache-Control header is expected here".to_owned()));
            }
        }
        if !(1..=MOST_RELEASES).contains(&self.releases) {
            return Err(("releases".to_owned(), format!("1 to {MOST_RELEASES} releases are kept")));
        }
        if self.trailing_slash.is_some() && self.routing == Some(Routing::Spa) {
            return Err((
                "trailing_slash".to_owned(),
                "with `routing: spa` the page itself says what a URL means".to_owned(),
            ));
        }
        if self.backend.len() > MOST_BACKENDS {
            return Err(("backend".to_owned(), format!("at most {MOST_BACKENDS} paths go to the load balancer")));
        }
        for (index, path) in self.backend.iter().enumerate() {
            // The characters that CloudFront takes in a path pattern.
            let known = path.chars().all(|c| c.is_ascii_alphanumeric() || "_-.*$/~\"'@:+&?".contains(c));
            if !path.starts_with('/') || path.len() < 2 || path == "/*" || path.len() > 255 || !known {
                let message = format!("`{path}` is not a path pattern like /api/* that leaves the site its pages");
                return Err((format!("backend[{index}]"), message));
            }
            if self.backend[..index].contains(path) {
                return Err((format!("backend[{index}]"), format!("`{path}` is here twice")));
            }
        }
        let mut bytes = 0;
        for (index, redirect) in self.redirects.iter().enumerate() {
            check_redirect(redirect).map_err(|(key, message)| (format!("redirects[{index}].{key}"), message))?;
            if self.redirects[..index].iter().any(|other| other.from == redirect.from) {
                return Err((
                    format!("redirects[{index}].from"),
                    format!("`{}` leads somewhere else already", redirect.from),
                ));
            }
            bytes += redirect.from.len() + redirect.to.len() + 12;
        }
        for (name, value) in &self.headers {
            let is_token = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            let lower = name.to_ascii_lowercase();
            let reserved = ["x-accel-", "x-amz-", "x-amzn-", "x-edge-", "x-shipway-"]
                .iter()
                .any(|prefix| lower.starts_with(prefix));
            if !is_token || !is_text(value) {
                return Err((
                    format!("headers.{name}"),
                    "the name and the text of a header are expected here".to_owned(),
                ));
            }
            if reserved || FOREIGN_HEADERS.contains(&lower.as_str()) {
                return Err((format!("headers.{name}"), format!("`{name}` is not a header that a site can set")));
            }
            if self.headers.keys().take_while(|other| *other != name).any(|other| other.eq_ignore_ascii_case(name)) {
                return Err((format!("headers.{name}"), format!("`{name}` is here twice")));
            }
            bytes += name.len() + value.len() + 12;
        }
        if bytes > MOST_EDGE_BYTES {
            return Err((
                if self.redirects.is_empty() { "headers" } else { "redirects" }.to_owned(),
                format!("redirects and headers need {bytes} bytes together; the edge has room for {MOST_EDGE_BYTES}"),
            ));
        }
        Ok(())
    }
}

fn check_redirect(redirect: &Redirect) -> Result<(), Wrong> {
    let is_plain =
        |text: &str| text.len() <= 512 && text.chars().all(|c| c.is_ascii_graphic() && !"\"'\\`<>".contains(c));
    let (from, to) = (&redirect.from, &redirect.to);
    let stars = |text: &str| text.matches('*').count();
    if !from.starts_with('/') || from.starts_with("//") || !is_plain(from) || from.contains(['?', '#']) {
        return Err(("from".to_owned(), format!("`{from}` is not a path like /old or /blog/*")));
    }
    let is_target = (to.starts_with('/') && !to.starts_with("//")) || to.starts_with("https://");
    if !is_target || !is_plain(to) {
        return Err(("to".to_owned(), format!("`{to}` is not a path like /new or a URL that begins with https://")));
    }
    let is_last = |text: &str| stars(text) == 0 || (stars(text) == 1 && text.ends_with('*'));
    if !is_last(from) {
        return Err(("from".to_owned(), "a `*` stands at the end".to_owned()));
    }
    if !is_last(to) || stars(to) > stars(from) {
        return Err(("to".to_owned(), "a `*` stands at the end, where `from` has one too".to_owned()));
    }
    if to.strip_prefix("https://").is_some_and(|rest| rest.contains('*') && !rest.contains('/')) {
        return Err(("to".to_owned(), format!("`{to}` would let the path choose the host; put a `/` before the `*`")));
    }
    if from == to {
        return Err(("to".to_owned(), format!("`{to}` would lead to itself")));
    }
    match redirect.status {
        301 | 302 | 307 | 308 => Ok(()),
        other => Err(("status".to_owned(), format!("{other} is not one of 301, 302, 307, 308"))),
    }
}
