//! Reads a site's zip: its directory from the tail, its files in steps of bounded size. Whoever has the bytes, from S3 or from a
//! disk, brings them; what may be published is for the domain to say.

mod content;
mod directory;
mod search;

pub use content::{Cutter, STEP, Unpacker, whole};
pub use directory::{Directory, TAIL, Tail, directory, packed_from};
pub use search::{Next, Search};
