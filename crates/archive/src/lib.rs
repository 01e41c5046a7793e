//! Reads a site's zip: its directory from the tail, its files in steps of bounded size. Whoever has the bytes, from S3 or from a
//! disk, brings them; what may be published is for the domain to say.

use std::ops::Range;

use bytes::Bytes;
use shipway_domain::site::{Contents, Refusal, accept};

mod content;
mod directory;

pub use content::{STEP, Unpacker, whole};
pub use directory::{Directory, TAIL, Tail, begins, directory, packed_from};

/// What a zip of this size holds, read by `read`: at first its last `tail` bytes, as [`TAIL`] are enough for nearly all.
///
/// # Errors
/// Why it would not be published, or what `read` failed with.
pub fn contents<E: From<Refusal>>(
    size: u64,
    tail: u64,
    mut read: impl FnMut(Range<u64>) -> Result<Bytes, E>,
) -> Result<Contents, E> {
    let mut tail = Tail { size, bytes: read(size.saturating_sub(tail)..size)? };
    // At most: the end, the records of a zip64 before a long comment, the directory.
    for _ in 0..3 {
        match directory(&tail) {
            Ok(Directory::Entries(entries, start)) => return Ok(accept(entries, start)?),
            Ok(Directory::From(start)) => {
                let before = read(start..tail.start())?;
                tail.bytes = [before, tail.bytes].concat().into();
            }
            Err(Refusal::NotAZip) if begins(&read(0..size.min(4))?) => return Err(Refusal::Truncated.into()),
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Err(Refusal::Directory("its parts lie too far from each other".to_owned()).into())
}
