//! Which URLs CloudFront may still answer with what a publication replaced or deletes, and the cheapest set of paths that covers
//! them.
//!
//! The rule of cost: CloudFront bills by path, a wildcard being one, and every file that a wildcard evicts without need is fetched
//! again by the next visitor of every edge. One path is held to be worth [`EVICTIONS_PER_PATH`] such files. So a folder of
//! which everything changed becomes one wildcard, and a changed page among a thousand unchanged ones is named by itself. Paths
//! get dearer where a publication would take more than its share of those that are free.

use sha2::Digest as _;

use crate::{
    edge::{Edge, Routed, route},
    manifest::spec::Routing,
    name::ReleaseId,
    site::{SiteManifest, SiteObject},
};

/// How many files that are evicted without need weigh as much as one more path, where a publication takes few.
pub const EVICTIONS_PER_PATH: u64 = 10;

/// How many paths an account may invalidate in a month for nothing. CloudFront itself takes 3,000 at once.
/// <https://aws.amazon.com/cloudfront/pricing/>
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html#limits-invalidations>
pub const FREE_PATHS: usize = 1000;

/// How many files a path weighs, and how many paths a publication may take at that: the more of the free ones it takes, the
/// dearer they are. At the last price there is one path.
const PRICES: [(u64, usize); 5] = [
    (EVICTIONS_PER_PATH, FREE_PATHS / 10),
    (4 * EVICTIONS_PER_PATH, FREE_PATHS / 4),
    (16 * EVICTIONS_PER_PATH, FREE_PATHS / 2),
    (64 * EVICTIONS_PER_PATH, FREE_PATHS),
    (u32::MAX as u64, FREE_PATHS),
];

/// How many of them may be wildcards: CloudFront takes 15 that are in progress for a distribution at once.
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html#limits-invalidations>
pub const MAX_WILDCARDS: usize = 15;

/// What a publication means for the cache.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cached {
    /// URL paths that may be answered with what was replaced, encoded as CloudFront wants them.
    pub stale: Vec<String>,
    /// URL paths of files that may be cached and are still right; evicting them costs, and helps nobody.
    pub fresh: Vec<String>,
    /// Whether any path at all may be answered with what was replaced.
    pub everything: bool,
}

/// Compares what a release put into the bucket with what was served before it: by the live release, and by releases that were
/// cut off. `None` is a manifest that is gone: anything may have been served.
///
/// An object is stale where it replaced another one that CloudFront was allowed to keep, whether a page of the site referred
/// to that one or it only was still there; and where it is deleted, unless its header says that it never changes: then it is
/// kept by those who have it, and nobody else asks for it. New keys are not stale, whatever their name: nobody has them yet.
/// Neither are objects that were never kept, like the pages with their `no-cache`.
pub fn cached(new: &SiteManifest, before: &[Option<SiteManifest>]) -> Cached {
    let mut cached = Cached { everything: before.iter().any(Option::is_none), ..Cached::default() };
    let mut kept = Kept::default();
    let served = before.iter().flatten().flat_map(|old| [Served::Wanted(old), Served::Retired(old)]);
    let mut served: Vec<_> = served.map(|served| served.objects().peekable()).collect();
    for (key, object) in &new.objects {
        let (mut is_kept, mut is_stale) = (false, false);
        for old in &mut served {
            // All are in the order of their keys, so one walk through each finds all pairs.
            while old.next_if(|(old_key, _)| *old_key < key.as_str()).is_some() {}
            match old.next_if(|(old_key, _)| *old_key == key) {
                Some((_, Some(old))) if kept.by_edges(old.cache_control()) => {
                    is_kept = true;
                    is_stale |= !old.serves_as(object);
                }
                // Nobody knows what was there.
                Some((_, None)) => (is_kept, is_stale) = (true, true),
                Some(_) | None => {}
            }
        }
        if is_stale {
            cached.everything |= new.edge.routing == Routing::Spa && key == INDEX;
            push_urls(&mut cached.stale, key, &new.edge);
        } else if is_kept {
            cached.fresh.push(encoded(key));
        }
    }
    for key in &new.condemned {
        let was = before.iter().flatten().find_map(|old| {
            let retired = || old.retired.get(key).map(|retired| retired.object.as_ref());
            old.objects.get(key).map(Some).or_else(retired)
        });
        let is_stale = match was {
            Some(Some(old)) => kept.by_edges(old.cache_control()) && !old.cache_control().contains("immutable"),
            Some(None) => true,
            None => false,
        };
        if is_stale {
            push_urls(&mut cached.stale, key, &new.edge);
        }
    }
    cached
}

const INDEX: &str = "index.html";

/// What an earlier release had in the bucket.
#[derive(Clone, Copy)]
enum Served<'a> {
    Wanted(&'a SiteManifest),
    Retired(&'a SiteManifest),
}

impl<'a> Served<'a> {
    /// By key; nothing where nobody knows what it was.
    fn objects(self) -> Box<dyn Iterator<Item = (&'a str, Option<&'a SiteObject>)> + 'a> {
        match self {
            Served::Wanted(old) => Box::new(old.objects.iter().map(|(key, object)| (key.as_str(), Some(object)))),
            Served::Retired(old) => {
                Box::new(old.retired.iter().map(|(key, retired)| (key.as_str(), retired.object.as_ref())))
            }
        }
    }
}

/// A site has few different headers: each is read once.
#[derive(Default)]
struct Kept<'a>(Vec<(&'a str, bool)>);

impl<'a> Kept<'a> {
    fn by_edges(&mut self, header: &'a str) -> bool {
        if let Some((_, kept)) = self.0.iter().find(|(known, _)| *known == header) {
            return *kept;
        }
        let kept = is_kept_by_edges(header);
        self.0.push((header, kept));
        kept
    }
}

/// Whether an edge may answer by itself with a file that has this header. With the managed policy CachingOptimized it keeps
/// what must not be kept for its shortest time, one second.
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/Expiration.html>
pub fn is_kept_by_edges(cache_control: &str) -> bool {
    let directives: Vec<String> = cache_control.split(',').map(|word| word.trim().to_ascii_lowercase()).collect();
    if directives.iter().any(|word| matches!(word.as_str(), "no-cache" | "no-store" | "private")) {
        return false;
    }
    let seconds =
        |name: &str| directives.iter().find_map(|word| word.strip_prefix(name)?.trim_matches('"').parse::<u64>().ok());
    seconds("s-maxage=").or_else(|| seconds("max-age=")) != Some(0)
}

/// The paths under which a visitor gets the object of this key. The edge keeps an object under the path that its function
/// made of the visitor's; AWS advises to invalidate both. What the function answers by itself, it does not keep.
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/invalidation-specifying-objects.html>
fn push_urls(urls: &mut Vec<String>, key: &str, edge: &Edge) {
    let page = key.strip_suffix(INDEX).filter(|url| url.is_empty() || url.ends_with('/'));
    if edge.routing == Routing::Clean
        && let Some(page) = page.or_else(|| key.strip_suffix(".html"))
        && matches!(route(edge, &format!("/{page}")), Routed::Key(found) if found == key)
    {
        urls.push(encoded(page));
    }
    if let Some(file) = key.strip_suffix(".br").or_else(|| key.strip_suffix(".gz"))
        && let Some((_, extension)) = file.rsplit_once('.')
        && edge.precompressed.iter().any(|known| known == extension)
    {
        urls.push(encoded(file));
    }
    urls.push(encoded(key));
}

/// Whether a byte stands for itself in an invalidation's path.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        plain[byte as usize] = !matches!(
            byte,
            b'<' | b'>' | b'"' | b'#' | b'%' | b'{' | b'}' | b'|' | b'\\' | b'^' | b'~' | b'[' | b']' | b'`'
        );
        byte += 1;
    }
    plain
};

/// A key's path as an invalidation names it: what RFC 1738 calls unsafe and what is not ASCII is escaped, and nothing else.
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/invalidation-specifying-objects.html>
fn encoded(key: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let is_plain = |byte: u8| PLAIN[usize::from(byte)];
    let mut path = String::with_capacity(key.len() + 1);
    path.push('/');
    if key.bytes().all(is_plain) {
        path.push_str(key);
        return path;
    }
    for byte in key.bytes() {
        if is_plain(byte) {
            path.push(char::from(byte));
        } else {
            path.push('%');
            path.push(char::from(HEX[usize::from(byte >> 4)]));
            path.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    path
}

/// The cheapest paths that cover every stale URL, sorted: at most [`FREE_PATHS`], of which at most [`MAX_WILDCARDS`] are
/// wildcards. None where nothing is stale.
pub fn paths(cached: &Cached) -> Vec<String> {
    if cached.everything {
        return vec!["/*".to_owned()];
    }
    if cached.stale.is_empty() {
        return Vec::new();
    }
    let tree = Tree::of(cached);
    let plans = PRICES.iter().map(|(per_path, most)| (tree.cheapest(*per_path), *most));
    let mut fitting = plans.skip_while(|(paths, most)| paths.len() > *most).map(|(paths, _)| paths);
    fitting.next().unwrap_or_else(|| vec!["/*".to_owned()])
}

/// Names an invalidation by what it is for, so that asking twice makes one.
pub fn caller_reference(release: &ReleaseId, paths: &[String]) -> String {
    let mut hash = sha2::Sha256::new();
    for path in paths {
        hash.update(path.as_bytes());
        hash.update(b"\n");
    }
    let digest = hash.finalize();
    format!("{release}-{}", digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// The URLs as a tree of their common beginnings. Each node is a beginning that some of them share, and so a wildcard that
/// covers them all.
struct Tree<'a> {
    /// All URLs, sorted, each with whether it is stale.
    urls: Vec<(&'a str, bool)>,
    /// Children before their parents; the last one is the root.
    nodes: Vec<Node>,
}

struct Node {
    /// How long the beginning is.
    length: usize,
    /// The first of the URLs that begin so.
    first: usize,
    /// The URL that is no longer than the beginning itself, if there is one: whether it is stale.
    own: Option<bool>,
    /// How many URLs begin so, and are stale or fresh.
    stale: u64,
    fresh: u64,
    last_child: Option<usize>,
    /// The one before it among its parent's children.
    sibling: Option<usize>,
}

impl Node {
    fn new(length: usize, first: usize, own: Option<bool>) -> Node {
        let (stale, fresh) = (u64::from(own == Some(true)), u64::from(own == Some(false)));
        Node { length, first, own, stale, fresh, last_child: None, sibling: None }
    }
}

/// What a subtree costs with at most 0, 1, 2… wildcards; more than the last one would not make it cheaper.
type Costs = Vec<u64>;

impl<'a> Tree<'a> {
    fn of(cached: &'a Cached) -> Tree<'a> {
        let stale = cached.stale.iter().map(|url| (url.as_str(), true));
        let mut urls: Vec<(&str, bool)> = stale.chain(cached.fresh.iter().map(|url| (url.as_str(), false))).collect();
        // Stale before fresh: of two equal ones the stale one stays. The lists come nearly sorted, which a stable sort uses.
        urls.sort_by(|a, b| a.0.cmp(b.0).then(b.1.cmp(&a.1)));
        urls.dedup_by_key(|url| url.0);
        let mut nodes = Vec::with_capacity(2 * urls.len());
        // The beginnings of the current URL, the longest last: the nodes that can still get children. All begin with a slash.
        let mut open = vec![Node::new(1, 0, None)];
        for (at, &(url, is_stale)) in urls.iter().enumerate() {
            let shared = at.checked_sub(1).map_or(1, |before| shared_beginning(urls[before].0, url));
            while let Some(child) = open.pop_if(|node| node.length > shared) {
                if open.last().is_none_or(|node| node.length < shared) {
                    open.push(Node::new(shared, child.first, None));
                }
                adopt(&mut nodes, open.last_mut(), child);
            }
            open.push(Node::new(url.len(), at, Some(is_stale)));
        }
        while let Some(child) = open.pop() {
            adopt(&mut nodes, open.last_mut(), child);
        }
        Tree { urls, nodes }
    }

    /// The cheapest paths, where a path costs this much and the eviction of a fresh file 1.
    fn cheapest(&self, per_path: u64) -> Vec<String> {
        let mut costs: Vec<Costs> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let mut cost =
                self.children(node).fold(own_cost(node, per_path), |cost, child| together(cost, &costs[child]));
            let wildcard = per_path + node.fresh;
            if wildcard < cost[0] {
                if cost.len() == 1 {
                    cost.push(wildcard);
                }
                cost[1..].iter_mut().for_each(|cost| *cost = wildcard.min(*cost));
            }
            costs.push(cost);
        }
        let mut paths = Vec::new();
        let mut rest = vec![(self.nodes.len() - 1, MAX_WILDCARDS)];
        while let Some((index, wildcards)) = rest.pop() {
            let node = &self.nodes[index];
            if node.stale == 0 {
                continue;
            }
            let children: Vec<usize> = self.children(node).collect();
            let mut without = vec![own_cost(node, per_path)];
            for (at, child) in children.iter().enumerate() {
                without.push(together(without[at].clone(), &costs[*child]));
            }
            let at_most = |costs: &Costs, most: usize| costs[most.min(costs.len() - 1)];
            if at_most(&costs[index], wildcards) < at_most(&without[children.len()], wildcards) {
                paths.push(format!("{}*", &self.urls[node.first].0[..node.length]));
                continue;
            }
            if node.own == Some(true) {
                paths.push(self.urls[node.first].0.to_owned());
            }
            // Deals the wildcards out to the children, the last one first.
            let mut left = wildcards;
            for (at, child) in children.iter().enumerate().rev() {
                let cost = at_most(&without[at + 1], left);
                let given = (0..=left.min(costs[*child].len() - 1))
                    .find(|given| at_most(&without[at], left - given) + costs[*child][*given] == cost)
                    .unwrap_or(0);
                rest.push((*child, given));
                left -= given;
            }
        }
        paths.sort_unstable();
        paths
    }

    fn children(&self, node: &Node) -> impl Iterator<Item = usize> {
        std::iter::successors(node.last_child, |child| self.nodes[*child].sibling)
    }
}

fn adopt(nodes: &mut Vec<Node>, parent: Option<&mut Node>, mut child: Node) {
    if let Some(parent) = parent {
        parent.stale += child.stale;
        parent.fresh += child.fresh;
        child.sibling = parent.last_child.replace(nodes.len());
    }
    nodes.push(child);
}

fn own_cost(node: &Node, per_path: u64) -> Costs {
    vec![if node.own == Some(true) { per_path } else { 0 }]
}

/// What two subtrees cost together.
fn together(mut a: Costs, b: &Costs) -> Costs {
    if let [b] = b.as_slice() {
        // Most children are single URLs.
        a.iter_mut().for_each(|a| *a += b);
        return a;
    }
    let mut costs = vec![u64::MAX; (a.len() + b.len() - 1).min(MAX_WILDCARDS + 1)];
    for (i, a) in a.iter().enumerate() {
        for (cost, b) in costs.iter_mut().skip(i).zip(b) {
            *cost = (*cost).min(a + b);
        }
    }
    costs
}

/// How much of their beginning two URLs share, without what is escaped at its end: half a character is no beginning.
fn shared_beginning(a: &str, b: &str) -> usize {
    let mut shared = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    if let Some(percent) = a.as_bytes()[..shared].iter().rev().take(2).position(|b| *b == b'%') {
        shared -= percent + 1;
    }
    while shared >= 3 && a.as_bytes()[shared - 3] == b'%' {
        shared -= 3;
    }
    shared
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        manifest::spec::TrailingSlash,
        site::{Headers, Retired},
    };

    fn object(crc32: u32, cache_control: &str) -> SiteObject {
        let headers =
            Headers { content_type: "text/plain".to_owned(), cache_control: cache_control.to_owned(), encoding: None };
        SiteObject { crc32, size: 1, sha256: None, headers: headers.into(), file: None }
    }

    fn manifest(objects: &[(&str, u32, &str)]) -> SiteManifest {
        let objects = objects.iter().map(|(key, crc32, cache)| ((*key).to_owned(), object(*crc32, cache)));
        SiteManifest { objects: objects.collect(), ..SiteManifest::default() }
    }

    fn retired(object: Option<SiteObject>) -> Retired {
        Retired { object, last: None, since: jiff::Timestamp::UNIX_EPOCH }
    }

    fn spa(mut manifest: SiteManifest) -> SiteManifest {
        manifest.edge.routing = Routing::Spa;
        manifest
    }

    fn covers(paths: &[String], url: &str) -> bool {
        paths.iter().any(|path| path.strip_suffix('*').map_or(path == url, |beginning| url.starts_with(beginning)))
    }

    const FIVE: &str = "public, max-age=300";

    #[test]
    fn stale_is_what_was_kept_and_was_replaced() {
        let before = manifest(&[
            ("index.html", 1, FIVE),
            ("a/index.html", 1, FIVE),
            ("b.html", 1, FIVE),
            ("c.html", 1, "no-cache"),
            ("same.txt", 1, FIVE),
            ("gone.txt", 1, FIVE),
            ("header.txt", 1, FIVE),
        ]);
        let new = manifest(&[
            ("index.html", 2, FIVE),
            ("a/index.html", 2, FIVE),
            ("b.html", 2, FIVE),
            ("c.html", 2, "no-cache"),
            ("same.txt", 1, FIVE),
            ("new.txt", 1, FIVE),
            ("header.txt", 1, "public, max-age=60"),
        ]);
        let mut new = new;
        let stale = |new: &SiteManifest| cached(new, &[Some(before.clone())]);
        assert_eq!(stale(&new).stale, ["/a/index.html", "/b", "/b.html", "/header.txt", "/", "/index.html"]);
        assert_eq!(stale(&new).fresh, ["/same.txt"]);
        assert!(!stale(&new).everything);
        new.edge.slash = TrailingSlash::Always;
        assert_eq!(stale(&new).stale, ["/a/", "/a/index.html", "/b.html", "/header.txt", "/", "/index.html"]);
    }

    #[test]
    fn what_is_deleted_is_stale_unless_it_never_changes() {
        let mut before = manifest(&[("wanted.txt", 1, FIVE)]);
        let immutable = "public, max-age=31536000, immutable";
        for (key, object) in [
            ("gone.html", Some(object(1, FIVE))),
            ("gone-3f2a.js", Some(object(1, immutable))),
            ("never.txt", Some(object(1, "no-cache"))),
            ("nobody-knows.txt", None),
        ] {
            before.retired.insert(key.to_owned(), retired(object));
        }
        let mut new = manifest(&[]);
        new.condemned = before.retired.keys().cloned().chain(["strange.txt".to_owned()]).collect();
        assert_eq!(cached(&new, &[Some(before.clone())]).stale, ["/gone", "/gone.html", "/nobody-knows.txt"]);
        new.condemned.clear();
        assert!(cached(&new, &[Some(before)]).stale.is_empty(), "what is only retired is served as it was");
    }

    #[test]
    fn what_was_retired_and_comes_back_changed_is_stale() {
        let mut before = manifest(&[]);
        for (key, crc32) in [("same.txt", 1), ("changed.txt", 2)] {
            before.retired.insert(key.to_owned(), retired(Some(object(crc32, FIVE))));
        }
        before.retired.insert("unknown.txt".to_owned(), retired(None));
        let new = manifest(&[("changed.txt", 1, FIVE), ("same.txt", 1, FIVE), ("unknown.txt", 1, FIVE)]);
        let cached = cached(&new, &[Some(before)]);
        assert_eq!(cached.stale, ["/changed.txt", "/unknown.txt"]);
        assert_eq!(cached.fresh, ["/same.txt"]);
    }

    #[test]
    fn a_precompressed_variant_is_seen_under_the_url_of_its_file() {
        let before = manifest(&[("app.js.br", 1, FIVE), ("notes.txt.gz", 1, FIVE)]);
        let mut new = manifest(&[("app.js.br", 2, FIVE), ("notes.txt.gz", 2, FIVE)]);
        new.edge.precompressed = vec!["js".to_owned()];
        assert_eq!(cached(&new, &[Some(before)]).stale, ["/app.js", "/app.js.br", "/notes.txt.gz"]);
    }

    #[test]
    fn what_a_release_that_was_cut_off_may_have_shown_is_stale_too() {
        let live = manifest(&[("a.txt", 1, FIVE)]);
        let cut = manifest(&[("a.txt", 2, FIVE), ("b.txt", 2, FIVE)]);
        let new = manifest(&[("a.txt", 1, FIVE), ("b.txt", 3, FIVE)]);
        let cached = cached(&new, &[Some(live), Some(cut)]);
        assert_eq!(cached.stale, ["/a.txt", "/b.txt"]);
    }

    #[test]
    fn in_a_single_page_app_every_path_may_be_the_index() {
        let before = manifest(&[("index.html", 1, FIVE), ("a.txt", 1, FIVE)]);
        let new = spa(manifest(&[("index.html", 2, FIVE), ("a.txt", 1, FIVE)]));
        assert_eq!(paths(&cached(&new, &[Some(before.clone())])), ["/*"]);
        let new = spa(manifest(&[("index.html", 1, FIVE), ("a.txt", 2, FIVE)]));
        assert_eq!(paths(&cached(&new, &[Some(before)])), ["/a.txt"]);
    }

    #[test]
    fn nothing_stale_is_no_path_and_a_lost_manifest_is_every_path() {
        let new = manifest(&[("a.txt", 1, FIVE)]);
        assert!(paths(&cached(&new, &[])).is_empty());
        assert!(paths(&cached(&new, &[Some(new.clone())])).is_empty());
        assert_eq!(paths(&cached(&new, &[None])), ["/*"]);
    }

    #[test]
    fn headers_say_what_an_edge_keeps() {
        for kept in ["public, max-age=300", "max-age=31536000, immutable", "public", "", "max-age=0, s-maxage=60"] {
            assert!(is_kept_by_edges(kept), "{kept}");
        }
        for never in ["no-cache", "No-Store", "private, max-age=300", "max-age=0", "public, s-maxage=0, max-age=60"] {
            assert!(!is_kept_by_edges(never), "{never}");
        }
    }

    #[test]
    fn only_what_is_unsafe_is_escaped() {
        for (path, escaped) in [
            ("/a-b_c.d/(e)+f@g=h&i,j;k!l'm$n:o", "/a-b_c.d/(e)+f@g=h&i,j;k!l'm$n:o"),
            ("/with space", "/with%20space"),
            ("/[id].js", "/%5Bid%5D.js"),
            ("/100%", "/100%25"),
            ("/~a", "/%7Ea"),
            ("/é", "/%C3%A9"),
        ] {
            assert_eq!(encoded(&path[1..]), escaped);
        }
    }

    #[test]
    fn a_wildcard_is_used_where_it_is_cheaper() {
        let urls = |names: std::ops::Range<u32>| names.map(|n| format!("/blog/{n:04}")).collect::<Vec<_>>();
        let plan = |stale: Vec<String>, fresh: Vec<String>| paths(&Cached { stale, fresh, everything: false });
        // A folder of which everything changed.
        assert_eq!(plan(urls(0..50), vec!["/about".to_owned()]), ["/blog/00*"]);
        // One page among many.
        assert_eq!(plan(urls(500..501), urls(0..1000)), ["/blog/0500"]);
        // Two neighbours cost two paths, or one and the eight they drag along.
        assert_eq!(plan(urls(500..502), urls(502..510)), ["/blog/050*"]);
        assert_eq!(
            plan(vec!["/blog/0000".to_owned(), "/blog/0999".to_owned()], urls(0..1000)),
            ["/blog/0000", "/blog/0999"]
        );
    }

    #[test]
    fn no_more_than_fifteen_wildcards_and_never_more_paths_than_are_free() {
        // A hundred folders with ten stale and fifteen fresh files each: a wildcard for each would be best.
        let file = |folder: u32, name: &str, n: u32| format!("/{folder:03}/{name}{n:02}");
        let stale: Vec<String> = (0..100).flat_map(|f| (0..10).map(move |n| file(f, "s", n))).collect();
        let fresh: Vec<String> = (0..100).flat_map(|f| (0..15).map(move |n| file(f, "f", n))).collect();
        let cached = Cached { stale, fresh, everything: false };
        let plan = paths(&cached);
        assert!(plan.iter().filter(|path| path.ends_with('*')).count() <= MAX_WILDCARDS);
        assert!(cached.stale.iter().all(|url| covers(&plan, url)));

        // Stale and fresh ones in turn, too many to name.
        let stale: Vec<String> = (0..20_000).step_by(2).map(|n| format!("/{n:05}")).collect();
        let fresh: Vec<String> = (1..20_000).step_by(2).map(|n| format!("/{n:05}")).collect();
        let cached = Cached { stale, fresh, everything: false };
        let plan = paths(&cached);
        assert_eq!(plan, ["/*"], "two thirds of all files are cheaper than ten times the free paths");
    }

    #[test]
    fn a_publication_takes_more_than_its_share_of_the_free_paths_only_where_wildcards_would_evict_much() {
        // Of every so many files one is stale; its neighbours are not.
        let plan = |files: u32, step: usize| {
            let name = |n: u32| format!("/{:04}/{:03}", n / 100, n % 100);
            let stale = (0..files).step_by(step).map(name).collect();
            paths(&Cached { stale, fresh: (0..files).map(name).collect(), everything: false })
        };
        assert_eq!(plan(10_000, 100).len(), 100);
        assert_eq!(plan(100_000, 400).len(), 250);
        assert!(plan(2_000, 10).len() < 100);
    }

    #[test]
    fn a_wildcard_never_ends_inside_an_escaped_character() {
        let stale = (0..40).map(|n| encoded(&char::from_u32(0xe0 + n).unwrap().to_string())).collect();
        assert_eq!(paths(&Cached { stale, ..Cached::default() }), ["/*"]);
    }

    #[test]
    fn the_same_invalidation_has_the_same_reference() {
        let release: ReleaseId = "20261121T031542123-3f9c2a".parse().unwrap();
        let one = caller_reference(&release, &["/a".to_owned(), "/b".to_owned()]);
        assert_eq!(one, caller_reference(&release, &["/a".to_owned(), "/b".to_owned()]));
        assert_ne!(one, caller_reference(&release, &["/ab".to_owned()]));
        assert!(one.starts_with(release.as_str()) && one.len() < 128);
    }

    /// The cheapest cost by trying every set of wildcards over short URLs.
    fn cheapest_by_trying(stale: &[String], fresh: &[String]) -> u64 {
        let mut beginnings: Vec<&str> = stale.iter().flat_map(|url| (1..=url.len()).map(|end| &url[..end])).collect();
        beginnings.sort_unstable();
        beginnings.dedup();
        (0u32..1 << beginnings.len())
            .map(|set| {
                let chosen: Vec<&str> = beginnings
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| set & (1 << at) != 0)
                    .map(|(_, text)| *text)
                    .collect();
                let covered = |url: &&String| chosen.iter().any(|beginning| url.starts_with(beginning));
                let exact = stale.iter().filter(|url| !covered(url)).count();
                EVICTIONS_PER_PATH * (chosen.len() + exact) as u64 + fresh.iter().filter(covered).count() as u64
            })
            .min()
            .unwrap()
    }

    fn cost(paths: &[String], fresh: &[String]) -> u64 {
        EVICTIONS_PER_PATH * paths.len() as u64 + fresh.iter().filter(|url| covers(paths, url)).count() as u64
    }

    fn some_urls(most: usize) -> impl Strategy<Value = Vec<String>> {
        proptest::collection::btree_set("/[ab]{0,3}", 0..most).prop_map(|urls| urls.into_iter().collect())
    }

    proptest! {
        #[test]
        fn every_stale_url_is_covered_within_the_limits(
            keys in proptest::collection::btree_map("[ab]{1,2}(/[abé ]{1,3}){0,3}(\\.html|/index\\.html|\\.txt)?", (0u32..3, 0u32..3), 0..200),
            is_spa: bool,
            slashes: bool,
        ) {
            let edge = Edge {
                routing: if is_spa { Routing::Spa } else { Routing::Clean },
                slash: if slashes { TrailingSlash::Always } else { TrailingSlash::Never },
                precompressed: Vec::new(),
            };
            let of = |pick: fn(&(u32, u32)) -> u32| SiteManifest {
                objects: keys.iter().map(|(key, versions)| (key.clone(), object(pick(versions), FIVE))).collect::<BTreeMap<_, _>>(),
                edge: edge.clone(),
                ..SiteManifest::default()
            };
            let (old, new) = (of(|v| v.0), of(|v| v.1));
            let plan = paths(&cached(&new, &[Some(old.clone())]));
            prop_assert!(plan.len() <= FREE_PATHS);
            prop_assert!(plan.iter().filter(|path| path.ends_with('*')).count() <= MAX_WILDCARDS);
            prop_assert!(plan.iter().all(|path| path.starts_with('/') && path.is_ascii() && !path[..path.len() - 1].contains('*')));
            for (key, object) in &new.objects {
                let changed = old.objects.get(key) != Some(object);
                let base = format!("/{key}");
                for url in [base.clone(), base.trim_end_matches("index.html").trim_end_matches(".html").to_owned()] {
                    if changed && route(&edge, &url) == Routed::Key(key.as_str().into()) {
                        prop_assert!(covers(&plan, &encoded(&url[1..])), "{url} is not in {plan:?}");
                    }
                }
            }
        }

        #[test]
        fn no_other_set_of_paths_is_cheaper(stale in some_urls(5), fresh in some_urls(40)) {
            let fresh: Vec<String> = fresh.into_iter().filter(|url| !stale.contains(url)).collect();
            let beginnings: usize = stale.iter().map(String::len).sum();
            prop_assume!(beginnings <= 14 && !stale.is_empty());
            let plan = paths(&Cached { stale: stale.clone(), fresh: fresh.clone(), everything: false });
            prop_assert_eq!(cost(&plan, &fresh), cheapest_by_trying(&stale, &fresh), "{:?}", plan);
        }
    }
}
