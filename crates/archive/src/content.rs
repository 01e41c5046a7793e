//! From a file's packed bytes to its content, in steps of bounded size, judged against the zip's directory on the way.

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use sha2::Digest as _;
use shipway_domain::site::{Packing, Rule, Sha256, ZipFile};

use crate::directory::packed_from;

/// How much content is unpacked at a time where it is not kept.
pub const STEP: usize = 64 << 10;

/// Cuts a file's packed bytes out of what is read of it, piece by piece, from its own header on.
#[derive(Debug)]
pub struct Cutter<'a> {
    file: &'a ZipFile,
    /// How many are still to come; nothing before the header was seen.
    left: Option<u64>,
}

impl<'a> Cutter<'a> {
    /// Of which nothing was read yet.
    pub fn new(file: &'a ZipFile) -> Cutter<'a> {
        Cutter { file, left: None }
    }

    /// What of a piece are packed bytes. The first piece holds the whole header.
    ///
    /// # Errors
    /// The header does not agree with the directory.
    pub fn cut(&mut self, mut piece: Bytes) -> Result<Bytes, Rule> {
        let left = match self.left {
            Some(left) => left,
            None => {
                piece = piece.slice(packed_from(self.file, &piece)?..);
                self.file.packed
            }
        };
        let length = left.min(piece.len() as u64);
        self.left = Some(left - length);
        Ok(piece.slice(..length as usize))
    }
}

/// Unpacks one file.
#[derive(Debug)]
pub struct Unpacker<'a> {
    file: &'a ZipFile,
    inflater: Option<Decompress>,
    ended: bool,
    packed: u64,
    size: u64,
    crc32: crc32fast::Hasher,
    sha256: Option<sha2::Sha256>,
}

impl<'a> Unpacker<'a> {
    /// Of which nothing was given yet.
    pub fn new(file: &'a ZipFile) -> Unpacker<'a> {
        let inflater = match file.packing {
            Packing::Stored => None,
            Packing::Deflated => Some(Decompress::new(false)),
        };
        Unpacker { file, inflater, ended: false, packed: 0, size: 0, crc32: crc32fast::Hasher::new(), sha256: None }
    }

    /// The same, telling the content's SHA-256 at the end.
    pub fn hashing(file: &'a ZipFile) -> Unpacker<'a> {
        Unpacker { sha256: Some(sha2::Sha256::new()), ..Unpacker::new(file) }
    }

    /// Unpacks from `input` what fits into the free room of `output`, and says how much of the input that took. Nothing
    /// written and nothing taken: more input is needed. Ends at once where there is more content than the directory says.
    ///
    /// # Errors
    /// The rule that the content breaks.
    pub fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, Rule> {
        let before = output.len();
        let taken = match &mut self.inflater {
            None => {
                let length = input.len().min(output.capacity() - before);
                output.extend_from_slice(&input[..length]);
                length
            }
            Some(_) if self.ended => 0,
            Some(inflater) => {
                let taken_before = inflater.total_in();
                let status =
                    inflater.decompress_vec(input, output, FlushDecompress::None).map_err(|_| Rule::Damaged)?;
                self.ended = status == Status::StreamEnd;
                usize::try_from(inflater.total_in() - taken_before).map_err(|_| Rule::Damaged)?
            }
        };
        self.crc32.update(&output[before..]);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(&output[before..]);
        }
        self.size += (output.len() - before) as u64;
        self.packed += taken as u64;
        if self.size > self.file.size { Err(Rule::Size) } else { Ok(taken) }
    }

    /// Judges the whole, when all packed bytes were given. Tells the content's SHA-256 where it was to be told.
    ///
    /// # Errors
    /// The rule that the content breaks.
    pub fn finish(self) -> Result<Option<Sha256>, Rule> {
        let complete = self.inflater.is_none() || self.ended;
        if !complete || self.packed != self.file.packed {
            Err(Rule::Damaged)
        } else if self.size != self.file.size {
            Err(Rule::Size)
        } else if self.crc32.finalize() != self.file.crc32 {
            Err(Rule::Checksum)
        } else {
            Ok(self.sha256.map(|hasher| Sha256(hasher.finalize().into())))
        }
    }

    /// Unpacks all of `input` and throws the content away: what is left is its checksum and size.
    ///
    /// # Errors
    /// The rule that the content breaks.
    pub fn check(&mut self, mut input: &[u8], scratch: &mut Vec<u8>) -> Result<(), Rule> {
        loop {
            scratch.clear();
            let taken = self.step(input, scratch)?;
            input = &input[taken..];
            if taken == 0 && scratch.is_empty() {
                return if input.is_empty() { Ok(()) } else { Err(Rule::Damaged) };
            }
        }
    }
}

/// The whole content of a file whose packed bytes are here.
///
/// # Errors
/// The rule that the content breaks.
pub fn whole(file: &ZipFile, mut packed: &[u8]) -> Result<Vec<u8>, Rule> {
    let size = usize::try_from(file.size).map_err(|_| Rule::Size)?;
    // One byte more than it should be, so that too much is seen.
    let mut content = Vec::with_capacity(size + 1);
    let mut unpacker = Unpacker::new(file);
    loop {
        let before = content.len();
        let taken = unpacker.step(packed, &mut content)?;
        packed = &packed[taken..];
        if taken == 0 && content.len() == before {
            break;
        }
    }
    unpacker.finish()?;
    Ok(content)
}
