//! What stays in the bucket although the release does not want it, and what goes.
//!
//! An object that no longer serves is kept as long as a release that is kept wanted it, and at least for the grace period:
//! pages that visitors have open may still ask for it.

use std::{cmp::Reverse, collections::BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{
    difference::Bucket,
    name::{Phase, VARIANTS, extension, variant_of},
    record::{Retired, SiteManifest, SiteObject},
};
use crate::{manifest::spec::Site, name::ReleaseId};

/// How many keys S3 deletes in one request.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>
pub const BATCH: usize = 1000;

/// Completes a release's record with all that it does not want: what is kept, and what is deleted when the release is live.
pub fn settle(record: &mut SiteManifest, bucket: &Bucket<'_>, release: &ReleaseId, spec: &Site, now: Timestamp) {
    // A record tells whole seconds.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let grace = SignedDuration::from_secs(i64::from(spec.keep.seconds()));
    let others = bucket.kept.iter().filter(|other| *other != release);
    record.kept = std::iter::once(release).chain(others).take(spec.releases as usize).cloned().collect();
    let kept: BTreeSet<&ReleaseId> = record.kept.iter().collect();
    let mut condemned: BTreeSet<&str> = bucket.doomed.clone();
    for (key, seen) in bucket.keys.iter().filter(|(key, _)| !record.objects.contains_key(**key)) {
        let since = seen.since.unwrap_or(now);
        if seen.last.is_none_or(|last| !kept.contains(last)) && now.duration_since(since) >= grace {
            condemned.insert(key);
        } else if !condemned.contains(key) {
            let object = seen.object.map(|object| SiteObject { file: None, ..object.clone() });
            record.retired.insert((*key).to_owned(), Retired { object, last: seen.last.cloned(), since });
        }
    }
    record.condemned =
        condemned.into_iter().filter(|key| !record.objects.contains_key(*key)).map(str::to_owned).collect();
    let extensions = std::mem::take(&mut record.edge.precompressed);
    record.edge.precompressed = extensions.into_iter().filter(|known| is_precompressed(record, known)).collect();
}

/// Whether every object of this extension has both its variants: those that the release wants, really compressed; those that
/// it does not, whatever they are.
fn is_precompressed(record: &SiteManifest, known: &str) -> bool {
    let is_file = |key: &&String| variant_of(key).is_none() && extension(key) == Some(known);
    let mut wanted = record.objects.keys().filter(is_file).flat_map(|key| VARIANTS.map(|variant| (key, variant.0)));
    let mut retired = record.retired.keys().filter(is_file).flat_map(|key| VARIANTS.map(|variant| (key, variant.0)));
    wanted.all(|(key, suffix)| {
        record.objects.get(&format!("{key}{suffix}")).is_some_and(|variant| variant.headers.encoding.is_some())
    }) && retired.all(|(key, suffix)| {
        let variant = format!("{key}{suffix}");
        record.objects.contains_key(&variant) || record.retired.contains_key(&variant)
    })
}

/// What is deleted when the release is live, in the order in which it is: pages before what they refer to. Nothing that the
/// release wants is ever among it.
pub fn deletions(record: &SiteManifest) -> Vec<&str> {
    let keys = record.condemned.iter().filter(|key| !record.objects.contains_key(*key));
    let mut keys: Vec<&str> = keys.map(String::as_str).collect();
    keys.sort_by_key(|key| Reverse(Phase::of(key)));
    keys
}
