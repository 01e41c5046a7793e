//! From the zip to the bucket: every file that must be read is unpacked and checked; then what changed is written, phase by phase.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{
    StreamExt, TryStreamExt, future,
    stream::{self, LocalBoxStream},
};
use http_body::Frame;
use shipway_archive::{self as archive, Cutter, STEP, Unpacker};
use shipway_domain::site::{self, Contents, Phase, Read, Rule, Sha256, SiteManifest, SiteObject, Upload, ZipFile};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    budget::Budget,
    handler::{Body, Calls, Error, Zip},
};

/// Neighbours in the zip are read together up to this size.
const READ: u64 = 4 << 20;

/// As much that nobody needs is read along to save a request: what S3 sends while a request would be under way.
const GAP: u64 = 1 << 20;

/// How many pieces of one large file are read at once.
const PIECES: usize = 2;

/// Content that is sent while it is unpacked.
pub(crate) struct Pieces(pub(crate) mpsc::Receiver<io::Result<Bytes>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.get_mut().0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// A release's zip and the bucket it goes to.
pub(crate) struct Publication<'a, C> {
    pub(crate) calls: &'a C,
    pub(crate) zip: &'a Zip,
    pub(crate) contents: &'a Contents,
    pub(crate) bucket: &'a str,
    /// What the keys begin with in the bucket.
    pub(crate) prefix: &'a str,
    pub(crate) budget: Budget,
}

/// Packed bytes of one file.
enum Packed {
    /// All of them.
    Here(Bytes),
    /// Too many to be held, or not read yet: they are read piece by piece.
    InZip,
}

impl From<Option<Bytes>> for Packed {
    fn from(bytes: Option<Bytes>) -> Packed {
        bytes.map_or(Packed::InZip, Packed::Here)
    }
}

/// The packed bytes of files, by their index; none of those that are too large for one read.
pub(crate) type Held = BTreeMap<usize, Bytes>;

/// What a read brought; nothing where its one file is too large for it.
type Reads<'a> = LocalBoxStream<'a, Result<(Read, Option<Bytes>), Error>>;

impl<C: Calls> Publication<'_, C> {
    fn refused(&self, file: &ZipFile, rule: Rule) -> Error {
        Error::Refused { key: self.zip.key.clone(), refusal: rule.broken_by(file.name.as_bytes()) }
    }

    /// Unpacks these files, which lie in the zip in this order, from the first that has no SHA-256 yet, and compares them with
    /// the zip's directory. Where they are small enough together they are kept, to be written without being read once more;
    /// then all of them are checked at once.
    pub(crate) async fn check(
        &self,
        unread: &[usize],
        hashes: &mut BTreeMap<usize, Sha256>,
        is_spent: &impl Fn() -> bool,
    ) -> Result<Option<Held>, Error> {
        let file = |index: &usize| &self.contents.files[*index];
        let hold = unread.iter().map(|index| file(index).packed).sum::<u64>() <= self.budget.held;
        if hold {
            hashes.clear();
        }
        let left = &unread[hashes.len()..];
        let files: Vec<&ZipFile> = left.iter().map(file).collect();
        let mut held = Held::new();
        let mut scratch = Vec::with_capacity(STEP);
        let mut reads = self.reads(&files);
        while let Some((read, bytes)) = reads.try_next().await? {
            for at in read.files.clone() {
                let file = files[at];
                let refused = |rule| self.refused(file, rule);
                let packed =
                    bytes.as_ref().map(|bytes| packed(file, read.start, bytes)).transpose().map_err(refused)?;
                let mut unpacker = Unpacker::hashing(file);
                match &packed {
                    Some(packed) => unpacker.check(packed, &mut scratch).map_err(refused)?,
                    None => {
                        let mut pieces = std::pin::pin!(self.pieces(file));
                        while let Some(piece) = pieces.try_next().await? {
                            unpacker.check(&piece, &mut scratch).map_err(refused)?;
                        }
                    }
                }
                hashes.extend(unpacker.finish().map_err(refused)?.map(|sha256| (left[at], sha256)));
                if hold {
                    // A copy, so that what was read along is let go.
                    held.extend(packed.map(|packed| (left[at], Bytes::copy_from_slice(&packed))));
                }
            }
            if !hold && is_spent() {
                break;
            }
        }
        Ok(hold.then_some(held))
    }

    /// Writes what an earlier pass did not, phase by phase; `uploaded` counts on.
    pub(crate) async fn upload(
        &self,
        uploads: &[Upload],
        record: &SiteManifest,
        held: Option<&Held>,
        uploaded: &mut usize,
        is_spent: &impl Fn() -> bool,
    ) -> Result<(), Error> {
        for phase in Phase::ALL {
            let end = uploads.partition_point(|upload| upload.phase <= phase);
            let first = (*uploaded).min(end);
            let pending = &uploads[first..end];
            // Those whose content is read from the zip now, neighbours together.
            let is_read = |upload: &Upload| upload.copy_of.is_none() && held.is_none();
            let needs: Vec<(usize, &ZipFile)> = (pending.iter().enumerate())
                .filter(|(_, upload)| is_read(upload))
                .filter_map(|(at, upload)| Some((at, &self.contents.files[upload.file?])))
                .collect();
            let files: Vec<&ZipFile> = needs.iter().map(|(_, file)| *file).collect();
            let mut reads = self.reads(&files);
            let mut next = reads.try_next().await?;
            let mut at = 0;
            while at < pending.len() {
                // With a read goes everything before its last file, and with the last one the rest.
                let upto = next.as_ref().map_or(pending.len(), |(read, _)| {
                    if read.files.end == needs.len() { pending.len() } else { needs[read.files.end - 1].0 + 1 }
                });
                let batch = pending[at..upto].iter().map(|upload| {
                    let here = upload.file.and_then(|index| held?.get(&index).cloned());
                    let brought = next.as_ref().zip(upload.file).filter(|_| is_read(upload));
                    let brought = brought.and_then(|((read, bytes), index)| Some((read, bytes.as_ref()?, index)));
                    let packed = match (here, brought) {
                        (None, Some((read, bytes, index))) => {
                            let file = &self.contents.files[index];
                            Some(packed(file, read.start, bytes).map_err(|rule| self.refused(file, rule))?)
                        }
                        (here, _) => here,
                    };
                    Ok((upload, Packed::from(packed)))
                });
                let batch = batch.collect::<Result<Vec<_>, Error>>()?;
                let (done, coming) = future::try_join(self.put_all(batch, record, is_spent), reads.try_next()).await?;
                *uploaded += done;
                if done < upto - at {
                    break;
                }
                (at, next) = (upto, coming);
            }
            // The next phase begins when all of this one is there.
            if *uploaded < end {
                break;
            }
        }
        Ok(())
    }

    /// Reads the zip for these files, one read at a time: S3 drops a connection that nobody reads from while a large file
    /// before it is under way.
    fn reads<'f>(&'f self, files: &[&ZipFile]) -> Reads<'f> {
        let reads = stream::iter(site::reads(files, READ, GAP)).map(move |read| async move {
            // One file with all that may lie around it in a read of full size.
            if read.end - read.start > READ + (128 << 10) {
                return Ok((read, None));
            }
            let bytes = self.calls.read(self.zip, read.start..read.end).await?;
            Ok((read, Some(bytes)))
        });
        Box::pin(reads.buffered(1))
    }

    /// A large file's packed bytes, piece by piece.
    fn pieces<'f>(&'f self, file: &'f ZipFile) -> impl futures_util::Stream<Item = Result<Bytes, Error>> + 'f {
        let ranges = (file.offset..file.end).step_by(READ as usize).map(|start| start..(start + READ).min(file.end));
        let reads = stream::iter(ranges).map(|range| self.calls.read(self.zip, range)).buffered(PIECES);
        let mut cutter = Cutter::new(file);
        reads
            .map(move |piece| cutter.cut(piece?).map_err(|rule| self.refused(file, rule)))
            .try_filter(|piece| future::ready(!piece.is_empty()))
    }

    /// Writes what was prepared, many at once, until the time is spent; says how much of it. What was started is ended.
    async fn put_all(
        &self,
        batch: Vec<(&Upload, Packed)>,
        record: &SiteManifest,
        is_spent: &impl Fn() -> bool,
    ) -> Result<usize, Error> {
        let room = &Semaphore::new(self.budget.content_kib);
        stream::iter(batch)
            .take_while(|_| future::ready(!is_spent()))
            .map(|(upload, packed)| async move {
                let size = upload.file.map_or(0, |index| self.contents.files[index].size);
                let kib = if size > self.budget.whole { (4 * STEP as u64) >> 10 } else { size >> 10 };
                // The semaphore is never closed; without a permit only the bound on memory would be missing.
                let _permit = room.acquire_many(kib as u32 + 1).await.ok();
                self.put(upload, record, packed).await
            })
            .buffer_unordered(self.budget.puts)
            .try_fold(0, |done, ()| future::ok(done + 1))
            .await
    }

    async fn put(&self, upload: &Upload, record: &SiteManifest, packed: Packed) -> Result<(), Error> {
        let mut objects: Vec<(String, &SiteObject)> = (upload.keys.iter())
            .filter_map(|key| Some((format!("{}{key}", self.prefix), record.objects.get(key)?)))
            .collect();
        if let Some(source) = &upload.copy_of {
            let copies = objects.iter().map(|(key, object)| self.calls.copy(self.bucket, source, key, object));
            let copied = future::try_join_all(copies).await?;
            // Where the source is not what it should be, the zip still is.
            objects = objects.into_iter().zip(copied).filter(|(_, copied)| !copied).map(|(object, _)| object).collect();
        }
        let Some(file) = upload.file.map(|index| &self.contents.files[index]) else {
            let content = Bytes::from(record.config.clone().unwrap_or_default());
            return self.put_whole(&objects, content).await;
        };
        match packed {
            _ if objects.is_empty() => Ok(()),
            Packed::Here(bytes) if file.size <= self.budget.whole => {
                let content = archive::whole(file, &bytes).map_err(|rule| self.refused(file, rule))?;
                self.put_whole(&objects, content.into()).await
            }
            packed => {
                for (key, object) in &objects {
                    self.put_in_pieces(key, object, file, &packed).await?;
                }
                Ok(())
            }
        }
    }

    async fn put_whole(&self, objects: &[(String, &SiteObject)], content: Bytes) -> Result<(), Error> {
        let puts =
            objects.iter().map(|(key, object)| self.calls.put(self.bucket, key, object, Body::Whole(content.clone())));
        future::try_join_all(puts).await.map(drop)
    }

    /// Unpacks while the object is under way. A content that breaks off makes S3 refuse the object.
    async fn put_in_pieces(
        &self,
        key: &str,
        object: &SiteObject,
        file: &ZipFile,
        packed: &Packed,
    ) -> Result<(), Error> {
        let (sender, receiver) = mpsc::channel(2);
        let put = self.calls.put(self.bucket, key, object, Body::Pieces(Pieces(receiver)));
        let feed = async move {
            let mut unpacker = Unpacker::new(file);
            let fed = match packed {
                Packed::Here(bytes) => {
                    feed(&mut unpacker, &sender, bytes).await.map_err(|rule| self.refused(file, rule)).map(drop)
                }
                Packed::InZip => {
                    let mut pieces = std::pin::pin!(self.pieces(file));
                    loop {
                        let fed = match pieces.try_next().await {
                            Ok(Some(piece)) => feed(&mut unpacker, &sender, &piece).await,
                            Ok(None) => break Ok(()),
                            Err(error) => break Err(error),
                        };
                        match fed {
                            Ok(true) => {}
                            // Nobody takes it any more; the put says why.
                            Ok(false) => break Ok(()),
                            Err(rule) => break Err(self.refused(file, rule)),
                        }
                    }
                }
            };
            if fed.is_err() {
                // Whether anybody still listens does not matter.
                let _ = sender.send(Err(io::Error::other("the content broke off"))).await;
            }
            fed
        };
        let (put, fed) = future::join(put, feed).await;
        fed.and(put)
    }
}

/// Unpacks `input` into the upload. False when the upload has ended by itself.
async fn feed(
    unpacker: &mut Unpacker<'_>,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    mut input: &[u8],
) -> Result<bool, Rule> {
    loop {
        let mut output = Vec::with_capacity(STEP);
        let taken = unpacker.step(input, &mut output)?;
        input = &input[taken..];
        if output.is_empty() && taken == 0 {
            return Ok(true);
        }
        if !output.is_empty() && sender.send(Ok(output.into())).await.is_err() {
            return Ok(false);
        }
    }
}

/// A file's packed bytes in what was read from `start` on.
fn packed(file: &ZipFile, start: u64, bytes: &Bytes) -> Result<Bytes, Rule> {
    let from = usize::try_from(file.offset - start).map_err(|_| Rule::Header)?;
    let own = bytes.get(from..).ok_or(Rule::Header)?;
    let from = from + archive::packed_from(file, own)?;
    let to =
        usize::try_from(file.packed).ok().and_then(|length| from.checked_add(length)).filter(|to| *to <= bytes.len());
    to.map(|to| bytes.slice(from..to)).ok_or(Rule::Header)
}
