//! Row 8: what ten thousand changed files cost at the edge.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use shipway_domain::invalidation::{cached, paths};
use shipway_domain::site::{Headers, SiteManifest, SiteObject};

/// How often the plan is made.
const TIMES: usize = 51;

/// What a plan is worth.
pub(crate) struct Plan {
    /// How many paths it names.
    pub(crate) paths: usize,
    /// How many files it evicts that are still right.
    pub(crate) evicted: usize,
    /// How many of those there are: what `/*` would evict.
    pub(crate) fresh: usize,
    /// How many are stale: what a path for each would name.
    pub(crate) stale: usize,
    /// The median time.
    pub(crate) time: Duration,
}

/// Plans for 10,000 changed files of 13,000: a folder that changed as a whole, one that nearly did, one in which few did.
pub(crate) fn measure() -> Result<Plan> {
    let headers = Arc::new(Headers {
        content_type: "image/webp".to_owned(),
        cache_control: "public, max-age=300".to_owned(),
        encoding: None,
    });
    let (mut old, mut new) = (SiteManifest::default(), SiteManifest::default());
    let (mut stale, mut fresh) = (Vec::new(), Vec::new());
    // (folder, how many files, how many of each twelve change)
    for (folder, count, changed) in [("docs", 5_500, 12), ("blog/2026", 4_704, 11), ("images", 2_796, 1)] {
        for number in 0..count {
            let key = format!("{folder}/{:02}/picture-{number}.webp", number % 40);
            let is_changed = number % 12 < changed && stale.len() < 10_000;
            if is_changed { &mut stale } else { &mut fresh }.push(format!("/{key}"));
            let object =
                |crc32| SiteObject { crc32, size: 20_000, sha256: None, headers: Arc::clone(&headers), file: None };
            old.objects.insert(key.clone(), object(number));
            new.objects.insert(key, object(number + u32::from(is_changed)));
        }
    }
    let before = [Some(old)];

    let mut times = Vec::new();
    let mut planned = Vec::new();
    for _ in 0..TIMES {
        let started = Instant::now();
        planned = paths(&cached(std::hint::black_box(&new), &before));
        times.push(started.elapsed());
    }
    times.sort();
    let covers = |path: &str, url: &str| path.strip_suffix('*').map_or(path == url, |start| url.starts_with(start));
    let is_covered = |url: &&String| planned.iter().any(|path| covers(path, url));
    ensure!(stale.iter().all(|url| is_covered(&url)), "the plan leaves a stale file");
    Ok(Plan {
        paths: planned.len(),
        evicted: fresh.iter().filter(is_covered).count(),
        fresh: fresh.len(),
        stale: stale.len(),
        time: times[TIMES / 2],
    })
}
