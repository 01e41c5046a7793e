//! One pass of a publication: look at the zip, the live release and what was cut off before; decide what to upload; check
//! all of it; upload it in the order that keeps the site whole.
//!
//! | step | why in this order |
//! |---|---|
//! | the release's own manifest into the intake bucket | whoever comes after a cut knows what this release may have touched |
//! | every changed file is unpacked and checked | a damaged zip is refused before the site changes |
//! | the claim is committed, the release marked as unfinished | from here on nobody else writes to the bucket, and the next release trusts nothing that this one may have touched |
//! | assets, other files, pages | a page that is live always finds what it refers to |
//!
//! Nothing is deleted: pages that visitors have open still find their files.

use std::{io, ops::Range};

use bytes::Bytes;
use futures_util::{
    StreamExt, TryStreamExt, future,
    stream::{self, LocalBoxStream},
};
use serde::{Deserialize, Serialize};
use shipway_aws::{
    AwsError, PublicError,
    store::{EnvironmentRecord, Manifest, StoreError},
};
use shipway_domain::{
    failure::Failure,
    message::{Pass, PassInput, Run, Summary},
    name::{Component, ReleaseId},
    release::{Artifact, ComponentState},
    site::{self, Contents, Phase, Read, Refusal, Rule, SiteManifest, SiteObject, Upload, ZipFile},
};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    archive::{self, Directory, Tail},
    content::{self, Pieces, STEP, Unpacker},
};

/// Neighbours in the zip are read together up to this size.
const READ: u64 = 4 << 20;

/// As much that nobody needs is read along to save a request: what S3 sends while a request would be under way.
const GAP: u64 = 1 << 20;

/// How many pieces of one large file are read at once.
const PIECES: usize = 2;

/// When all changed files are packed into no more than this, they are read once and kept for the upload.
const HELD: u64 = 26 << 20;

/// How many objects are put at once.
const PUTS: usize = 32;

/// How much unpacked content may wait for its upload at once, in KiB.
const CONTENT_KIB: usize = 12 << 10;

/// A file larger than this is never in memory as a whole.
const WHOLE: u64 = 6 << 20;

/// What this function is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Upload what changed.
    Sync,
}

/// How far a release is, for its next pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// How many of the changed files were checked, in the order in which they lie in the zip.
    pub(crate) checked: usize,
    /// How many of them were uploaded, in the order of the upload.
    pub(crate) uploaded: usize,
}

/// The zip that is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Zip {
    /// Its key in the intake bucket.
    pub(crate) key: String,
    /// Its version.
    pub(crate) version: String,
}

/// What is uploaded as one object.
pub(crate) enum Body {
    /// All of it.
    Whole(Bytes),
    /// In pieces, as they are unpacked.
    Pieces(Pieces),
}

/// What a publication asks of AWS.
pub(crate) trait Calls {
    /// Renews the claim.
    async fn renew(&self, run: &Run) -> Result<(), Error>;
    /// The environment and the manifest it stands by.
    async fn applied(&self, run: &Run) -> Result<(EnvironmentRecord, Manifest), Error>;
    /// The site's state.
    async fn component(&self, run: &Run) -> Result<ComponentState, Error>;
    /// How far an earlier pass came.
    async fn progress(&self, run: &Run) -> Result<Option<Progress>, Error>;
    /// Writes down how far this pass came.
    async fn save_progress(&self, run: &Run, progress: Progress) -> Result<(), Error>;
    /// Renews the claim so that newer releases queue.
    async fn commit(&self, run: &Run) -> Result<(), Error>;
    /// Writes down that the bucket is about to change, and tells it in the release's story.
    async fn mark_unfinished(&self, run: &Run, what: String) -> Result<(), Error>;
    /// The last bytes of the zip.
    async fn tail(&self, zip: &Zip, length: u64) -> Result<Tail, Error>;
    /// Some bytes of the zip.
    async fn read(&self, zip: &Zip, range: Range<u64>) -> Result<Bytes, Error>;
    /// A release's manifest, if it is there.
    async fn manifest(&self, key: &str) -> Result<Option<SiteManifest>, Error>;
    /// Writes a release's manifest.
    async fn put_manifest(&self, key: &str, manifest: &SiteManifest) -> Result<(), Error>;
    /// Puts one object of the site. S3 refuses a content that has not the object's size and checksum.
    async fn put(&self, bucket: &str, key: &str, object: &SiteObject, body: Body) -> Result<(), Error>;
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The release is not one of a site's zip.
    #[error("{0}")]
    Input(String),
    /// The environment has no such site.
    #[error("`{site}` is not among the sites of {app}/{environment}; add it to the manifest and upload that first")]
    NoSite {
        /// The site.
        site: String,
        /// The app.
        app: String,
        /// The environment.
        environment: String,
    },
    /// The zip cannot be published.
    #[error("{key} is not published and the site is as it was: {refusal}")]
    Refused {
        /// Its key.
        key: String,
        /// Why not.
        refusal: Refusal,
    },
    /// The zip is not there any more.
    #[error("{key} is not published: its version {version} is no longer in the intake bucket; upload it again")]
    Gone {
        /// Its key.
        key: String,
        /// Its version.
        version: String,
    },
    /// S3 sent something else than what was asked for.
    #[error("the intake bucket sent {got} bytes of {key} where {asked} were asked for; the next pass asks again")]
    ShortRead {
        /// The zip's key.
        key: String,
        /// How many bytes came.
        got: u64,
        /// How many should have come.
        asked: u64,
    },
    /// S3 stopped in the middle of an answer.
    #[error("the intake bucket broke off in the middle of an answer: {0}")]
    Interrupted(String),
    /// A value that cannot be written as JSON.
    #[error("the release's manifest cannot be written: {0}")]
    Unwritable(String),
    /// The table refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// AWS refused or could not answer.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl PublicError for Error {
    fn failure(&self) -> Failure {
        match self {
            Error::Input(_) | Error::NoSite { .. } => Failure::RejectedInput,
            Error::Refused { .. } | Error::Gone { .. } => Failure::RejectedArchive,
            Error::ShortRead { .. } | Error::Interrupted(_) => Failure::Transient,
            Error::Unwritable(_) => Failure::Bug,
            Error::Store(error) => error.failure(),
            Error::Aws(error) => error.failure(),
        }
    }
}

/// Makes one pass. When `is_spent` it starts nothing new, and the next pass goes on from there.
pub(crate) async fn handle<C: Calls>(
    calls: &C,
    input: PassInput<Action>,
    is_spent: impl Fn() -> bool,
) -> Result<Pass<Summary>, Error> {
    let (run, Action::Sync) = (input.run, input.action);
    let (Component::Site(name), Artifact::Object { key, version }) = (&run.component, &run.artifact) else {
        return Err(Error::Input(format!(
            "sync-frontend publishes the zip of a site, not {} to {}",
            run.artifact, run.component
        )));
    };
    let zip = Zip { key: key.clone(), version: version.clone() };
    calls.renew(&run).await?;
    let (record, state, progress) =
        future::try_join3(calls.applied(&run), calls.component(&run), calls.progress(&run)).await?;
    let ((environment, manifest), marked) = (record, state.unfinished.contains(&run.release));
    let (Some(spec), Some(outputs)) = (manifest.spec.sites.get(name), environment.platform.sites.get(name)) else {
        return Err(Error::NoSite {
            site: name.to_string(),
            app: run.app.to_string(),
            environment: run.environment.to_string(),
        });
    };

    let key_of = |release: &ReleaseId| site::manifest_key(&run.app, &run.environment, name, release);
    let own_key = key_of(&run.release);
    // What the release wants is decided once: the manifest that an earlier pass wrote holds.
    let decided = async { if marked || progress.is_some() { calls.manifest(&own_key).await } else { Ok(None) } };
    let live = async {
        match &state.live {
            Some(live) => calls.manifest(&key_of(&live.release)).await,
            None => Ok(None),
        }
    };
    let others = state.unfinished.iter().filter(|release| **release != run.release);
    let unfinished = future::try_join_all(others.map(|release| async move { calls.manifest(&key_of(release)).await }));
    let (contents, decided, live, unfinished) =
        future::try_join4(contents(calls, &zip), decided, live, unfinished).await?;

    let refused = |refusal: Refusal| Error::Refused { key: zip.key.clone(), refusal };
    let wanted = match decided {
        Some(wanted) => wanted,
        None => {
            let wanted = site::wanted(&contents, spec.routing, &spec.cache).map_err(refused)?;
            calls.put_manifest(&own_key, &wanted).await?;
            wanted
        }
    };
    let uploads = site::uploads(&contents, &wanted, &site::certain(live.as_ref(), &unfinished));
    let left_over =
        live.iter().flat_map(|live| live.objects.keys()).filter(|key| !wanted.objects.contains_key(*key)).count();
    let summary = summary(&contents, &uploads, left_over);
    if uploads.is_empty() {
        return Ok(Pass::Done(summary));
    }

    let publication =
        Publication { calls, run: &run, zip: &zip, bucket: &outputs.bucket, contents: &contents, wanted: &wanted };
    let mut progress = progress.unwrap_or_default();
    let held = publication.check(&uploads, &mut progress, &is_spent).await?;
    if progress.checked < uploads.len() {
        return publication
            .again(progress, format!("{} of {} changed files are checked", progress.checked, uploads.len()))
            .await;
    }
    if !state.claim.as_ref().is_some_and(|claim| claim.committed) {
        calls.commit(&run).await?;
    }
    if !marked {
        calls.mark_unfinished(&run, format!("uploads {}", counted(uploads.len(), "changed file"))).await?;
    }
    let was = progress.uploaded;
    publication.upload(&uploads, held, &mut progress, &is_spent).await?;
    if progress.uploaded < uploads.len() {
        return publication
            .again(progress, format!("{} of {} changed files are uploaded", progress.uploaded, uploads.len()))
            .await;
    }
    if progress.uploaded > was {
        calls.save_progress(&run, progress).await?;
    }
    tracing::info!(release = %run.release, files = contents.files.len(), uploaded = uploads.len(), "published");
    Ok(Pass::Done(summary))
}

async fn contents<C: Calls>(calls: &C, zip: &Zip) -> Result<Contents, Error> {
    let refused = |refusal: Refusal| Error::Refused { key: zip.key.clone(), refusal };
    let mut tail = calls.tail(zip, archive::TAIL).await?;
    // At most: the end, the records of a zip64 before a long comment, the directory.
    for _ in 0..3 {
        match archive::directory(&tail).map_err(refused)? {
            Directory::Entries(entries, start) => return site::accept(entries, start).map_err(refused),
            Directory::From(start) => {
                let known = tail.size - tail.bytes.len() as u64;
                let before = calls.read(zip, start..known).await?;
                tail.bytes = [before, tail.bytes].concat().into();
            }
        }
    }
    Err(refused(Refusal::Directory("its parts lie too far from each other".to_owned())))
}

fn summary(contents: &Contents, uploads: &[Upload], left_over: usize) -> Summary {
    let bytes: u64 = uploads.iter().map(|upload| contents.files[upload.file].size * upload.keys.len() as u64).sum();
    let objects: usize = uploads.iter().map(|upload| upload.keys.len()).sum();
    let files = counted(contents.files.len(), "file");
    let mut note = match uploads.len() {
        0 => format!("of {files} none changed; nothing was uploaded"),
        changed => format!("of {files} {changed} changed; uploaded {} with {bytes} bytes", counted(objects, "object")),
    };
    if let Some(top) = &contents.stripped {
        note.push_str(&format!("; the folder `{top}` around them all was left out"));
    }
    if left_over > 0 {
        note.push_str(&format!("; kept {} no longer in the zip", counted(left_over, "object")));
    }
    Summary { note }
}

fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

struct Publication<'a, C> {
    calls: &'a C,
    run: &'a Run,
    zip: &'a Zip,
    bucket: &'a str,
    contents: &'a Contents,
    wanted: &'a SiteManifest,
}

/// Packed bytes of one file.
enum Packed {
    /// All of them.
    Here(Bytes),
    /// Too many to be held: they are read piece by piece.
    InZip,
}

impl From<Option<Bytes>> for Packed {
    fn from(bytes: Option<Bytes>) -> Packed {
        bytes.map_or(Packed::InZip, Packed::Here)
    }
}

/// The packed bytes of the changed files, in the order of the uploads; none of those that are too large for one read.
type Held = Vec<Option<Bytes>>;

/// What a read brought; nothing where its one file is too large for it.
type Reads<'a> = LocalBoxStream<'a, Result<(Read, Option<Bytes>), Error>>;

impl<C: Calls> Publication<'_, C> {
    fn file(&self, upload: &Upload) -> &ZipFile {
        &self.contents.files[upload.file]
    }

    fn refused(&self, file: &ZipFile, rule: Rule) -> Error {
        Error::Refused { key: self.zip.key.clone(), refusal: rule.broken_by(file.name.as_bytes()) }
    }

    async fn again(&self, progress: Progress, note: String) -> Result<Pass<Summary>, Error> {
        self.calls.save_progress(self.run, progress).await?;
        Ok(Pass::Again { seconds: 1, note })
    }

    /// Unpacks every changed file and compares it with the zip's directory, before the first of them is uploaded. Where they
    /// are small enough together they are kept; otherwise the upload reads them once more.
    async fn check(
        &self,
        uploads: &[Upload],
        progress: &mut Progress,
        is_spent: &impl Fn() -> bool,
    ) -> Result<Option<Held>, Error> {
        let hold = uploads.iter().map(|upload| self.file(upload).packed).sum::<u64>() <= HELD;
        let is_checked = progress.checked == uploads.len();
        let mut order: Vec<usize> = (0..uploads.len()).collect();
        order.sort_by_key(|index| self.file(&uploads[*index]).offset);
        if hold && is_checked {
            order.retain(|index| *index >= progress.uploaded);
        } else {
            // As few as can be held are checked in one pass, or from the beginning.
            progress.checked = if hold { 0 } else { progress.checked };
            order.drain(..progress.checked);
        }
        let files: Vec<&ZipFile> = order.iter().map(|index| self.file(&uploads[*index])).collect();
        let mut held: Held = vec![None; uploads.len()];
        let mut scratch = Vec::with_capacity(STEP);
        let mut reads = self.reads(&files);
        while let Some((read, bytes)) = reads.try_next().await? {
            for at in read.files.clone() {
                let file = files[at];
                let refused = |rule| self.refused(file, rule);
                let packed =
                    bytes.as_ref().map(|bytes| packed(file, read.start, bytes)).transpose().map_err(refused)?;
                if !is_checked {
                    let mut unpacker = Unpacker::new(file);
                    match &packed {
                        Some(packed) => unpacker.check(packed, &mut scratch).map_err(refused)?,
                        None => {
                            let mut pieces = std::pin::pin!(self.pieces(file));
                            while let Some(piece) = pieces.try_next().await? {
                                unpacker.check(&piece, &mut scratch).map_err(refused)?;
                            }
                        }
                    }
                    unpacker.finish().map_err(refused)?;
                    progress.checked += 1;
                }
                if hold {
                    // A copy, so that what was read along is let go.
                    held[order[at]] = packed.map(|packed| Bytes::copy_from_slice(&packed));
                }
            }
            if !hold && is_spent() {
                break;
            }
        }
        Ok(hold.then_some(held))
    }

    /// Uploads what an earlier pass did not, phase by phase.
    async fn upload(
        &self,
        uploads: &[Upload],
        held: Option<Held>,
        progress: &mut Progress,
        is_spent: &impl Fn() -> bool,
    ) -> Result<(), Error> {
        for phase in Phase::ALL {
            let end = uploads.partition_point(|upload| upload.phase <= phase);
            let first = progress.uploaded.min(end);
            let pending = &uploads[first..end];
            match &held {
                Some(held) => {
                    let packed = held[first..end].iter().cloned().map(Packed::from);
                    progress.uploaded += self.put_all(pending.iter().zip(packed).collect(), is_spent).await?;
                }
                None => {
                    let files: Vec<&ZipFile> = pending.iter().map(|upload| self.file(upload)).collect();
                    let mut reads = self.reads(&files);
                    let mut next = reads.try_next().await?;
                    while let Some((read, bytes)) = next {
                        let batch = pending[read.files.clone()].iter().map(|upload| {
                            let file = self.file(upload);
                            let packed = bytes.as_ref().map(|bytes| packed(file, read.start, bytes)).transpose();
                            Ok((upload, Packed::from(packed.map_err(|rule| self.refused(file, rule))?)))
                        });
                        let batch = batch.collect::<Result<_, Error>>()?;
                        let (done, coming) = future::try_join(self.put_all(batch, is_spent), reads.try_next()).await?;
                        progress.uploaded += done;
                        next = coming;
                        if done < read.files.len() {
                            break;
                        }
                    }
                }
            }
            // The next phase begins when all of this one is there.
            if progress.uploaded < end {
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
        let mut left: Option<u64> = None;
        reads
            .map(move |piece| {
                let mut piece = piece?;
                let rest = match left {
                    Some(rest) => rest,
                    None => {
                        let start = archive::packed_from(file, &piece).map_err(|rule| self.refused(file, rule))?;
                        piece = piece.slice(start..);
                        file.packed
                    }
                };
                let length = rest.min(piece.len() as u64);
                left = Some(rest - length);
                Ok(piece.slice(..length as usize))
            })
            .try_filter(|piece| future::ready(!piece.is_empty()))
    }

    /// Puts the files, many at once, until the time is spent; says how many. What was started is ended.
    async fn put_all(&self, batch: Vec<(&Upload, Packed)>, is_spent: &impl Fn() -> bool) -> Result<usize, Error> {
        let room = &Semaphore::new(CONTENT_KIB);
        stream::iter(batch)
            .take_while(|_| future::ready(!is_spent()))
            .map(|(upload, packed)| async move {
                let file = self.file(upload);
                let kib = if file.size > WHOLE { (4 * STEP as u64) >> 10 } else { file.size >> 10 };
                // The semaphore is never closed; without a permit only the bound on memory would be missing.
                let _permit = room.acquire_many(kib as u32 + 1).await.ok();
                self.put(upload, file, packed).await
            })
            .buffer_unordered(PUTS)
            .try_fold(0, |done, ()| future::ok(done + 1))
            .await
    }

    async fn put(&self, upload: &Upload, file: &ZipFile, packed: Packed) -> Result<(), Error> {
        let objects = upload.keys.iter().filter_map(|key| Some((key, self.wanted.objects.get(key)?)));
        match packed {
            Packed::Here(bytes) if file.size <= WHOLE => {
                let content = content::whole(file, &bytes).map_err(|rule| self.refused(file, rule))?;
                let content = Bytes::from(content);
                let puts =
                    objects.map(|(key, object)| self.calls.put(self.bucket, key, object, Body::Whole(content.clone())));
                future::try_join_all(puts).await?;
            }
            packed => {
                for (key, object) in objects {
                    self.put_in_pieces(key, object, file, &packed).await?;
                }
            }
        }
        Ok(())
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
