//! The search for a zip's directory, by whoever can read the zip: it says what to read next, and is given it.

use std::ops::Range;

use bytes::Bytes;
use shipway_domain::site::{Entry, Refusal};

use crate::directory::{Directory, Tail, begins, directory};

/// How often more is read before what was first read of the end: the end, the records of a zip64 before a long comment, the
/// directory.
const MOST_READS: usize = 2;

/// What to do next.
#[derive(Debug)]
pub enum Next {
    /// Read these bytes of the zip, and give them.
    Read(Range<u64>),
    /// It was found: all entries, and where the directory begins.
    Entries(Vec<Entry>, u64),
}

/// The search for a zip's directory.
#[derive(Debug)]
pub struct Search {
    tail: Tail,
    reads: usize,
    /// The zip's first bytes, where they have to tell whether it is one at all.
    head: Option<Bytes>,
    wants_head: bool,
}

impl Search {
    /// In a zip of which this was read.
    pub fn new(tail: Tail) -> Search {
        Search { tail, reads: 0, head: None, wants_head: false }
    }

    /// Looks into what is there.
    ///
    /// # Errors
    /// What cannot be read as a zip's directory.
    pub fn look(&mut self) -> Result<Next, Refusal> {
        match directory(&self.tail) {
            Ok(Directory::Entries(entries, start)) => Ok(Next::Entries(entries, start)),
            Ok(Directory::From(_)) if self.reads == MOST_READS => {
                Err(Refusal::Directory("its parts lie too far from each other".to_owned()))
            }
            Ok(Directory::From(start)) => {
                self.reads += 1;
                Ok(Next::Read(start..self.tail.start()))
            }
            Err(Refusal::NotAZip) => {
                let is_whole = self.tail.start() == 0;
                match self.head.as_ref().or(is_whole.then_some(&self.tail.bytes)) {
                    Some(head) if begins(head) => Err(Refusal::Truncated),
                    Some(_) => Err(Refusal::NotAZip),
                    None => {
                        self.wants_head = true;
                        Ok(Next::Read(0..4))
                    }
                }
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Takes what [`Next::Read`] asked for.
    pub fn read(&mut self, bytes: Bytes) {
        if self.wants_head {
            self.head = Some(bytes);
        } else {
            self.tail.bytes = [bytes, self.tail.bytes.clone()].concat().into();
        }
    }
}
