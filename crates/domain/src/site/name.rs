//! What the names of a site's files tell: their content type, how long they may be cached, which URLs find them.

use std::borrow::Cow;

use crate::{
    edge::{Edge, Routed, route},
    manifest::spec::{Routing, TrailingSlash},
    name::{AppName, Component, EnvironmentName, PreviewName, ReleaseId},
};

/// The page that a visitor sees where nothing is found.
pub const NOT_FOUND_PAGE: &str = "404.html";

/// The first page.
pub const INDEX: &str = "index.html";

/// What the site is told of its environment.
pub const CONFIG: &str = "config.json";

/// Folders that no zip may have: the keys of previews, and the paths by which a browser goes into one and leaves it.
pub const RESERVED: [&str; 2] = [".shipway/", "_preview/"];

/// What may be cached for ever: a name that changes with the content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// What must be asked for again each time.
pub const NO_CACHE: &str = "no-cache";

/// Everything else: old for five minutes at most.
const SHORT: &str = "public, max-age=300";

/// The key in the intake bucket of what a release wrote down of the site's bucket, or of its preview's part of it. Nothing but
/// sites and previews is published.
pub fn manifest_key(
    app: &AppName,
    environment: &EnvironmentName,
    component: &Component,
    release: &ReleaseId,
) -> String {
    let place = match component {
        Component::Site(site) => site.to_string(),
        Component::Preview(site, preview) => format!("{site}/preview/{preview}"),
        Component::Platform | Component::Service(_) => component.to_string(),
    };
    format!("published/{app}/{environment}/{place}/{release}.json")
}

/// What the keys of a preview's objects begin with. Each release has its own, so that nothing is ever replaced.
pub fn preview_prefix(preview: &PreviewName, release: &ReleaseId) -> String {
    format!("{}preview/{preview}/{release}/", RESERVED[0])
}

/// What the keys of a release's objects begin with in the bucket: nothing, but for a preview.
pub fn prefix(component: &Component, release: &ReleaseId) -> String {
    match component {
        Component::Preview(_, preview) => preview_prefix(preview, release),
        Component::Platform | Component::Service(_) | Component::Site(_) => String::new(),
    }
}

/// The key under which an edge that knows this finds what a URL's path means, after the redirects it answers with.
pub(super) fn found_at(edge: &Edge, url: &str) -> Option<String> {
    match route(edge, url) {
        Routed::Key(key) => Some(key.into_owned()),
        Routed::Redirect(canonical) => match route(edge, &canonical) {
            Routed::Key(key) => Some(key.into_owned()),
            Routed::Redirect(_) => None,
        },
    }
}

pub(super) type Urls = [Option<String>; 2];

/// A file without an extension has a URL that looks like a page's.
pub(super) fn file_url(path: &str) -> Urls {
    [Some(format!("/{path}")), None]
}

/// `chat.html` is found as `/chat` and as `/chat/`.
pub(super) fn page_url(path: &str) -> Urls {
    match path.strip_suffix(".html") {
        Some(page)
            if path != NOT_FOUND_PAGE && page != "index" && !page.ends_with("/index") && !page.ends_with('/') =>
        {
            [Some(format!("/{page}")), Some(format!("/{page}/"))]
        }
        _ => [None, None],
    }
}

/// `chat/index.html` is found as `/chat/` and as `/chat`.
pub(super) fn index_url(path: &str) -> Urls {
    match path.strip_suffix("/index.html") {
        Some(page) => [Some(format!("/{page}/")), Some(format!("/{page}"))],
        None => [None, None],
    }
}

/// How URLs find these files, where the manifest does not say. One page and nothing but it is an app with its own router; pages
/// in folders have URLs that end with a slash.
pub(super) fn routing<'a>(paths: impl Iterator<Item = &'a str>) -> (Routing, TrailingSlash) {
    let (mut in_folders, mut beside) = (0, 0);
    for path in paths.filter(|path| is_page(path) && *path != INDEX && *path != NOT_FOUND_PAGE) {
        if path.ends_with("/index.html") { in_folders += 1 } else { beside += 1 }
    }
    match (in_folders, beside) {
        (0, 0) => (Routing::Spa, TrailingSlash::Never),
        (in_folders, beside) if in_folders > beside => (Routing::Clean, TrailingSlash::Always),
        _ => (Routing::Clean, TrailingSlash::Never),
    }
}

/// How a precompressed variant of a file is named, and its `Content-Encoding`.
pub(super) const VARIANTS: [(&str, &str); 2] = [(".br", "br"), (".gz", "gzip")];

/// The file that this one is a variant of by its name, and the variant's encoding.
pub(super) fn variant_of(path: &str) -> Option<(&str, &'static str)> {
    VARIANTS.iter().find_map(|(suffix, encoding)| Some((path.strip_suffix(suffix)?, *encoding)))
}

/// A file's extension, without its dot.
pub(super) fn extension(path: &str) -> Option<&str> {
    let (stem, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then_some(extension)
}

/// Bundlers' own folders: whatever is in them is named by its content, or by the build (Next, SvelteKit, Astro).
const IMMUTABLE_FOLDERS: [&str; 3] = ["_next/static/", "_app/immutable/", "_astro/"];

/// Kinds of files that bundlers name by their content. Data and documents are not among them: an id in a name is no hash.
const BUNDLED: [&str; 23] = [
    "js", "mjs", "css", "map", "wasm", "woff", "woff2", "ttf", "otf", "eot", "png", "jpg", "jpeg", "gif", "webp",
    "avif", "svg", "ico", "mp4", "webm", "mp3", "ogg", "glb",
];

/// Kinds of files for which a mixture of letters and digits is enough to be taken for a hash.
const CODE: [&str; 10] = ["js", "mjs", "css", "map", "wasm", "woff", "woff2", "ttf", "otf", "eot"];

/// How the names of Angular's own outputs begin. Behind them eight letters are a hash even without a digit.
const ANGULAR: [&str; 6] = ["chunk-", "main-", "polyfills-", "scripts-", "styles-", "worker-"];

/// Whether a file's name changes with its content, so that what is cached of it never gets old. Taking a name wrongly for a
/// hash would keep an old file for a year, so in doubt it is none.
pub fn is_content_hashed(path: &str) -> bool {
    let is_in = |folder: &str| path.match_indices(folder).any(|(at, _)| at == 0 || path.as_bytes()[at - 1] == b'/');
    if IMMUTABLE_FOLDERS.iter().any(|folder| is_in(folder)) {
        return true;
    }
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    if !BUNDLED.contains(&extension) {
        return false;
    }
    // app.3f9c2a1b.js.map: the kind before the last one is not a word of the name.
    let stem = [".js", ".mjs", ".css"].iter().find_map(|kind| stem.strip_suffix(kind)).unwrap_or(stem);
    let hex = |word: &str| {
        word.len() >= 8
            && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && word.bytes().any(|b| b.is_ascii_digit())
            && word.bytes().any(|b| b.is_ascii_alphabetic())
    };
    if stem.split(['.', '-', '_']).any(hex) {
        return true;
    }
    // Vite and Rollup end a name with eight of A-Z a-z 0-9 _ -, esbuild and Angular with eight of A-Z 2-7.
    let tail = stem.len().checked_sub(8).and_then(|at| stem.get(at..)).unwrap_or_default();
    let before = stem.strip_suffix(tail).unwrap_or_default();
    let has = |kind: fn(&u8) -> bool| tail.as_bytes().iter().any(kind);
    if !CODE.contains(&extension)
        || tail.len() != 8
        || !(before.is_empty() || before.ends_with(['-', '.']))
        || !tail.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        || !has(u8::is_ascii_uppercase)
    {
        return false;
    }
    let is_base32 = tail.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'2'..=b'7'));
    match has(u8::is_ascii_digit) {
        true => has(u8::is_ascii_lowercase) || is_base32,
        // A quarter of all Rollup's hashes have no digit. In Vite's own folder a capital inside a word tells them from one.
        false => {
            let is_mixed =
                tail.as_bytes().windows(2).any(|two| two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase());
            let is_rollup = folder.rsplit('/').next() == Some("assets") && before.ends_with('-') && is_mixed;
            let is_font = !matches!(extension, "js" | "mjs" | "css" | "map" | "wasm");
            (is_rollup && !is_font) || (is_base32 && ANGULAR.contains(&before))
        }
    }
}

pub(super) fn is_page(path: &str) -> bool {
    path.ends_with(".html") || path.ends_with(".htm")
}

/// The `Cache-Control` of a file for which the manifest has no rule.
pub(super) fn default_cache(path: &str) -> &'static str {
    if is_page(path) {
        NO_CACHE
    } else if is_content_hashed(path) {
        IMMUTABLE
    } else {
        SHORT
    }
}

/// The `Cache-Control` of a file of a preview: what is not named by its content is always the newest.
pub(super) fn preview_cache(path: &str) -> &'static str {
    if default_cache(path) == IMMUTABLE { IMMUTABLE } else { NO_CACHE }
}

pub(super) fn content_type(path: &str) -> Cow<'static, str> {
    // The one file whose kind Apple demands and its name does not tell.
    if path == ".well-known/apple-app-site-association" {
        return "application/json".into();
    }
    let known = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
    if known.starts_with("text/") || known == "application/javascript" {
        format!("{known}; charset=utf-8").into()
    } else {
        known.into()
    }
}

/// When an object is uploaded: what pages refer to is there before the page that refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Files named by their content: no page that is live knows them.
    Assets,
    /// Everything else that is not a page.
    Others,
    /// The pages.
    Pages,
}

impl Phase {
    /// In the order of the uploads.
    pub const ALL: [Phase; 3] = [Phase::Assets, Phase::Others, Phase::Pages];

    pub(super) fn of(path: &str) -> Phase {
        let path = variant_of(path).map_or(path, |(file, _)| file);
        match path {
            _ if is_page(path) => Phase::Pages,
            _ if is_content_hashed(path) => Phase::Assets,
            _ => Phase::Others,
        }
    }
}
