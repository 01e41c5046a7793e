//! How much may be in memory, and how much is under way at once, by the memory that the function has.

/// A budget. Whatever the memory, a zip of 500 MB needs no more than 64 MB with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// When all files that must be read are packed into no more than these bytes, they are read once and kept for the upload.
    pub(crate) held: u64,
    /// How much unpacked content may wait for its upload at once, in KiB.
    pub(crate) content_kib: usize,
    /// A file of more bytes is never in memory as a whole.
    pub(crate) whole: u64,
    /// How many objects are written at once.
    pub(crate) puts: usize,
}

impl Budget {
    /// The share of a function with this memory. What a gigabyte gives is enough to keep S3 busy.
    pub(crate) fn of(memory_mib: u64) -> Budget {
        let share = memory_mib.clamp(128, 1024);
        Budget {
            held: share * (26 << 10),
            content_kib: (share * 12) as usize,
            whole: share * (6 << 10),
            puts: (memory_mib / 32).clamp(4, 64) as usize,
        }
    }
}
