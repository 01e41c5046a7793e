//! What a site's zip may hold, what it becomes in the bucket, and what has to be written and deleted for it.
//!
//! A release's [`SiteManifest`] lists every object that is in the bucket when the release is done. The difference between two
//! of them is all the work there is: nothing lists the bucket but a repair, and nothing reads an object back.

mod archive;
mod deletion;
mod difference;
mod name;
mod record;
#[cfg(test)]
mod tests;
mod wanted;

pub use archive::{
    Contents, Entry, Kind, LOCAL_HEADER, MAX_BYTES, MAX_DENSE_BYTES, MAX_ENTRIES, MAX_KEY, MAX_RATIO, Packing, Read,
    Refusal, Rule, ZipFile, accept, reads,
};
pub use deletion::{BATCH, deletions, settle};
pub use difference::{Before, Bucket, Upload, concerns_edge, learn, unread, uploads};
pub use name::{
    CONFIG, NO_CACHE, NOT_FOUND_PAGE, Phase, RESERVED, is_content_hashed, manifest_key, prefix, preview_prefix,
};
pub use record::{Headers, Retired, Sha256, SiteManifest, SiteObject};
pub use wanted::{Place, found, remarks, wanted};
