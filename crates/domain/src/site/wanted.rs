//! What a release wants in the bucket, by the zip and by what the manifest says of the site.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sha2::Digest as _;

use super::{
    archive::{Contents, MAX_KEY, Refusal, Rule, ZipFile},
    name::{
        CONFIG, NO_CACHE, VARIANTS, content_type, default_cache, extension, file_url, found_at, index_url, is_page,
        page_url, preview_cache, routing, variant_of,
    },
    record::{Headers, Sha256, SiteManifest, SiteObject},
};
use crate::{edge::Edge, manifest::spec::Site};

/// How many extensions the edge is told to be precompressed, and how long one is: what it knows is at most 1 KB.
const MOST_EXTENSIONS: usize = 32;
const LONGEST_EXTENSION: usize = 12;

/// What the edge must know of these files: what the manifest says, and what they tell themselves where it is silent. An
/// extension is precompressed when each of its files has both its variants.
pub fn found(contents: &Contents, spec: &Site) -> Edge {
    let (routing, slash) = routing(contents.files.iter().map(ZipFile::path));
    let mut edge = Edge {
        routing: spec.routing.unwrap_or(if spec.trailing_slash.is_some() { Default::default() } else { routing }),
        slash: spec.trailing_slash.unwrap_or(slash),
        precompressed: Vec::new(),
    };
    if edge.routing == crate::manifest::spec::Routing::Spa {
        edge.slash = Default::default();
    }
    if spec.precompressed {
        let paths = || contents.files.iter().map(ZipFile::path);
        edge.precompressed = precompressed(paths, |variant| contents.find(variant).is_some());
    }
    edge
}

/// The extensions of which every path has both its variants, sorted.
pub(super) fn precompressed<'a, I: Iterator<Item = &'a str>>(
    paths: impl Fn() -> I,
    is_there: impl Fn(&str) -> bool,
) -> Vec<String> {
    let is_plain = |extension: &str| {
        extension.len() <= LONGEST_EXTENSION && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let mut known: BTreeSet<&str> = paths()
        .filter_map(|path| extension(variant_of(path)?.0))
        .filter(|extension| is_plain(extension) && !VARIANTS.iter().any(|(suffix, _)| suffix[1..] == **extension))
        .collect();
    for path in paths() {
        if let Some(extension) = extension(path)
            && known.contains(extension)
            && !VARIANTS.iter().all(|(suffix, _)| is_there(&format!("{path}{suffix}")))
        {
            known.remove(extension);
        }
    }
    known.into_iter().take(MOST_EXTENSIONS).map(str::to_owned).collect()
}

/// Where a release's objects go.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// What their keys begin with in the bucket. The record's own keys are without it.
    pub prefix: &'a str,
    /// The extensions that the edge takes for precompressed until it is told otherwise.
    pub precompressed: &'a [String],
}

/// What a release wants in the bucket: each file under its own path, under the keys that the edge looks for when a URL has no
/// extension, and what the environment's manifest adds. What of it is there already, and what goes, is not in it yet.
pub fn wanted(contents: &Contents, spec: &Site, place: &Place<'_>) -> Result<SiteManifest, Refusal> {
    let edge = found(contents, spec);
    let rules: Vec<_> =
        spec.cache.iter().filter_map(|rule| Some((rule.files.matcher()?, rule.control.as_str()))).collect();
    let has_config = !spec.config.is_empty();
    let mut headers = Interned::default();
    let mut objects = BTreeMap::new();
    for file in &contents.files {
        let path = file.path();
        let variant = variant_of(path).filter(|(of, _)| {
            let is_precompressed = spec.precompressed
                || extension(of).is_some_and(|extension| place.precompressed.iter().any(|known| known == extension));
            is_precompressed && contents.find(of).is_some()
        });
        let (base, encoding) = variant.map_or((path, None), |(base, encoding)| (base, Some(encoding)));
        if has_config && base == CONFIG {
            continue;
        }
        let given = rules.iter().find(|(files, _)| files.is_match(base)).map(|(_, control)| *control);
        let cache_control = match place.prefix {
            "" => given.unwrap_or_else(|| default_cache(base)),
            _ => preview_cache(base),
        };
        let object = SiteObject {
            crc32: file.crc32,
            size: file.size,
            sha256: None,
            headers: headers.get(&content_type(base), cache_control, encoding),
            file: None,
        };
        objects.insert(path.to_owned(), object);
    }
    let mut config = None;
    if has_config {
        let text = serde_json::to_string(&spec.config).unwrap_or_default();
        let object = SiteObject {
            crc32: crc32fast::hash(text.as_bytes()),
            size: text.len() as u64,
            sha256: Some(Sha256(sha2::Sha256::digest(text.as_bytes()).into())),
            headers: headers.get(&content_type(CONFIG), NO_CACHE, None),
            file: None,
        };
        objects.insert(CONFIG.to_owned(), object);
        config = Some(text);
    }
    let mut aliases = BTreeMap::new();
    for found_by in [file_url, page_url, index_url] {
        for path in contents.files.iter().map(ZipFile::path) {
            for url in found_by(path).into_iter().flatten() {
                if let Some(key) = found_at(&edge, &url).filter(|key| !objects.contains_key(key)) {
                    aliases.entry(key).or_insert_with(|| path.to_owned());
                }
            }
        }
    }
    // Until the edge is told otherwise it asks for variants of these. As they are they do as well.
    for key in objects.keys().filter(|key| variant_of(key).is_none()) {
        if extension(key).is_some_and(|extension| place.precompressed.iter().any(|known| known == extension)) {
            let variants = VARIANTS.iter().map(|(suffix, _)| format!("{key}{suffix}"));
            aliases.extend(
                variants.filter(|variant| !objects.contains_key(variant)).map(|variant| (variant, key.clone())),
            );
        }
    }
    for (key, path) in aliases {
        let alias = objects.get(&path).map(|object| SiteObject { file: Some(path.into()), ..object.clone() });
        objects.extend(alias.map(|alias| (key, alias)));
    }
    if let Some((key, object)) = objects.iter().find(|(key, _)| place.prefix.len() + key.len() > MAX_KEY) {
        return Err(Rule::LongName.broken_by(object.file.as_deref().unwrap_or(key).as_bytes()));
    }
    Ok(SiteManifest { objects, edge, config, ..SiteManifest::default() })
}

/// A site's headers, each once.
#[derive(Default)]
struct Interned(BTreeMap<String, Arc<Headers>>);

impl Interned {
    fn get(&mut self, content_type: &str, cache_control: &str, encoding: Option<&str>) -> Arc<Headers> {
        let name = [content_type, cache_control, encoding.unwrap_or_default()].join("\n");
        let headers = self.0.entry(name).or_insert_with(|| {
            let encoding = encoding.map(str::to_owned);
            let (content_type, cache_control) = (content_type.to_owned(), cache_control.to_owned());
            Arc::new(Headers { content_type, cache_control, encoding })
        });
        Arc::clone(headers)
    }
}

/// What a person should be told of how a zip became a site, beside how much was uploaded.
pub fn remarks(contents: &Contents, spec: &Site, record: &SiteManifest) -> Vec<String> {
    use crate::manifest::spec::{Routing, TrailingSlash};
    let mut remarks = Vec::new();
    if let Some(top) = &contents.stripped {
        remarks.push(format!("the folder `{top}` around them all was left out"));
    }
    if spec.routing.is_none() && spec.trailing_slash.is_none() {
        remarks.push(match (record.edge.routing, record.edge.slash) {
            (Routing::Spa, _) => "routing is spa, as index.html is the only page".to_owned(),
            (Routing::Clean, TrailingSlash::Never) => "routing is clean, with URLs like /chat".to_owned(),
            (Routing::Clean, TrailingSlash::Always) => "routing is clean, with URLs like /chat/".to_owned(),
        });
    }
    let mut pages = record.objects.iter().filter(|(key, object)| object.file.is_some() && is_page(key));
    if let Some((key, object)) = pages.next() {
        let more = match pages.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let file = object.file.as_deref().unwrap_or_default();
        remarks.push(format!("`{file}`{more} is also stored as its URL asks for it, `{key}`"));
    }
    if record.config.is_some() && contents.find(CONFIG).is_some() {
        remarks.push("config.json is the environment's, not the zip's".to_owned());
    }
    if spec.precompressed {
        remarks.push(match record.edge.precompressed.as_slice() {
            [] => "nothing is served precompressed: no extension has .br and .gz of each of its files".to_owned(),
            known => format!("served precompressed: {}", known.join(", ")),
        });
    }
    if let Some((one, other)) = &contents.twins {
        remarks.push(format!("`{one}` and `{other}` differ by case only; a disk that tells no case keeps one of them"));
    }
    remarks
}
