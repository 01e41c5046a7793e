//! What the fuzz targets share: the reader of zips, driven as sync-frontend drives it.

pub mod seeds;

use bytes::Bytes;
use shipway_archive::{Next, STEP, Search, Tail, Unpacker};
use shipway_domain::site::{self, Contents, Entry, Refusal, Rule, ZipFile};

/// How much of a zip's end the function reads first.
pub const TAIL: u64 = shipway_archive::TAIL;

/// The entries of a zip as its directory tells them, and where the directory begins. The zip is read from its end, at first
/// so much of it.
pub fn entries(zip: &Bytes, first: u64) -> Result<(Vec<Entry>, u64), Refusal> {
    let size = zip.len() as u64;
    let mut start = size.saturating_sub(first);
    let mut search = Search::new(Tail { size, bytes: zip.slice(start as usize..) });
    loop {
        match search.look()? {
            Next::Entries(entries, start) => return Ok((entries, start)),
            Next::Read(range) => {
                assert!(range.start < start, "it asks for {}, which it has from {start} on", range.start);
                start = range.start;
                search.read(zip.slice(range.start as usize..range.end as usize));
            }
        }
    }
}

/// What the function would publish of a zip.
pub fn contents(zip: &Bytes, first: u64) -> Result<Contents, Refusal> {
    let (entries, start) = entries(zip, first)?;
    site::accept(entries, start)
}

/// A file's content, once as a whole and once in the steps in which a large file is unpacked.
pub fn unpacked(zip: &Bytes, file: &ZipFile) -> Result<Vec<u8>, Rule> {
    let own = zip.slice(file.offset as usize..file.end as usize);
    let start = shipway_archive::packed_from(file, &own)?;
    let packed = own.slice(start..start + file.packed as usize);
    let whole = shipway_archive::whole(file, &packed);
    let mut scratch = Vec::with_capacity(STEP);
    let mut unpacker = Unpacker::new(file);
    let stepped = packed
        .chunks(1000)
        .try_for_each(|piece| unpacker.check(piece, &mut scratch))
        .and_then(|()| unpacker.finish().map(drop));
    assert_eq!(whole.is_ok(), stepped.is_ok(), "{}: {:?}, in steps {stepped:?}", file.name, whole.as_ref().err());
    whole
}
