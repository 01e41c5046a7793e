//! One pass of a publication: look at the zip and at what was written down of the bucket; decide what to write; check all of
//! it; write it in the order that keeps the site whole. When the release is live, another pass deletes what nobody needs.
//!
//! | step | why in this order |
//! |---|---|
//! | every changed file is unpacked and checked | a damaged zip is refused before the site changes |
//! | the release's own record into the intake bucket, once | what it wants is decided; whoever comes after a cut knows what it may have touched |
//! | the claim is committed, the release marked as unfinished | from here on nobody else writes to the bucket, and the next release trusts nothing that this one may have touched |
//! | assets, other files, pages | a page that is live always finds what it refers to |
//! | after the cache: what no kept release needs is deleted | pages that visitors have open still find their files |

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use bytes::Bytes;
use futures_util::future;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shipway_archive::{self as archive, Next, Search, Tail};
use shipway_aws::{
    AwsError, PublicError,
    error::classify,
    store::{EnvironmentRecord, Manifest, StoreError},
};
use shipway_domain::{
    failure::{Archive, Failure},
    manifest::spec::Site,
    message::{Pass, PassInput, Run},
    name::{Component, ReleaseId},
    release::{Artifact, ComponentState},
    site::{self, Before, Bucket, Contents, Place, Refusal, Sha256, SiteManifest, SiteObject, Upload},
};

use crate::{
    budget::Budget,
    empty,
    upload::{Pieces, Publication},
};

/// How many keys that nothing was written down of a repair takes note of. Beyond them it has to be made again.
const MOST_LISTED: usize = 500_000;

/// What this function is asked to do: for a release of a site, or for the teardown of an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "unknown variant, expected one of `sync`, `clean`, `empty`")]
pub(crate) enum Asked {
    /// For a release of a site.
    Publish(Action),
    /// For a teardown.
    Empty(empty::Action),
}

/// What a release of a site asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Write what changed.
    Sync,
    /// Delete what no release that is kept needs, after the release is live.
    Clean,
}

/// What a pass came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// The site is as the release wants it.
    Synced {
        /// What was done, in one sentence.
        note: String,
        /// Whether CloudFront must be told.
        edge: bool,
        /// How many objects are to be deleted when it was.
        condemned: usize,
    },
    /// What was to be deleted is.
    Cleaned {
        /// What was done, in one sentence.
        note: String,
    },
}

/// How far a release is, for its next pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// How many of the files that must be read were checked, in the order in which they lie in the zip. Their hashes are
    /// beside the release's record.
    #[serde(default)]
    pub(crate) checked: usize,
    /// How many of the changed files were written, in their order.
    #[serde(default)]
    pub(crate) uploaded: usize,
    /// How many of the keys that are to go were deleted, in their order.
    #[serde(default)]
    pub(crate) deleted: usize,
    /// Whether all of them were.
    #[serde(default)]
    pub(crate) cleaned: bool,
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
    /// How far a release of the same site came.
    async fn progress(&self, run: &Run, release: &ReleaseId) -> Result<Option<Progress>, Error>;
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
    /// A release's record of the bucket, if it is there.
    async fn manifest(&self, key: &str) -> Result<Option<SiteManifest>, Error>;
    /// Writes a release's record. False when there is one already, which then holds.
    async fn put_manifest(&self, key: &str, manifest: &SiteManifest) -> Result<bool, Error>;
    /// The hashes of what earlier passes checked, if they are there.
    async fn hashes(&self, key: &str) -> Result<Option<Bytes>, Error>;
    /// Writes down the hashes of what was checked.
    async fn put_hashes(&self, key: &str, hashes: Bytes) -> Result<(), Error>;
    /// Puts one object of the site. S3 refuses a content that has not the object's size and checksum.
    async fn put(&self, bucket: &str, key: &str, object: &SiteObject, body: Body) -> Result<(), Error>;
    /// Copies one object of the site to another key. False when the one it is copied from is not what it should be.
    async fn copy(&self, bucket: &str, from: &str, key: &str, object: &SiteObject) -> Result<bool, Error>;
    /// The keys of a bucket behind this one, in their order, and whether there are more.
    async fn list(&self, bucket: &str, after: &str) -> Result<(Vec<String>, bool), Error>;
    /// Deletes objects, at most [`site::BATCH`]. Those that are not there count as deleted.
    async fn delete(&self, bucket: &str, keys: &[&str]) -> Result<(), Error>;
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
    /// Two passes write the release's record at once.
    #[error("another pass is writing {0}; the next pass reads it")]
    Raced(String),
    /// The release's record is gone or cannot be read.
    #[error(
        "{0} was written by this release and cannot be read; start a new execution with `\"repair\": true` in its input"
    )]
    NoRecord(String),
    /// S3 deleted the others and not these.
    #[error("{count} objects of {bucket} could not be deleted, the first of them {key}: {code}: {message}")]
    NotDeleted {
        /// The bucket.
        bucket: String,
        /// How many.
        count: usize,
        /// The first of them.
        key: String,
        /// S3's own code.
        code: String,
        /// S3's own message.
        message: String,
    },
    /// A value that cannot be written as JSON.
    #[error("the release's record cannot be written: {0}")]
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
            Error::Refused { refusal, .. } => Failure::RejectedArchive(refusal.archive()),
            Error::Gone { .. } => Failure::RejectedArchive(Archive::Gone),
            Error::ShortRead { .. } | Error::Interrupted(_) | Error::Raced(_) => Failure::Transient,
            Error::NotDeleted { code, .. } => classify(code),
            Error::NoRecord(_) => Failure::Conflict,
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
    budget: Budget,
    now: Timestamp,
    is_spent: impl Fn() -> bool,
) -> Result<Pass<Answer>, Error> {
    let run = &input.run;
    let (Some(name), Artifact::Object { key, version }) = (run.component.site(), &run.artifact) else {
        return Err(Error::Input(format!(
            "sync-frontend publishes the zip of a site, not {} to {}",
            run.artifact, run.component
        )));
    };
    calls.renew(run).await?;
    let ((environment, manifest), state, progress) =
        future::try_join3(calls.applied(run), calls.component(run), calls.progress(run, &run.release)).await?;
    let (Some(spec), Some(outputs)) = (manifest.spec.sites.get(name), environment.platform.sites.get(name)) else {
        return Err(Error::NoSite {
            site: name.to_string(),
            app: run.app.to_string(),
            environment: run.environment.to_string(),
        });
    };
    let zip = Zip { key: key.clone(), version: version.clone() };
    let (bucket, progress) = (outputs.bucket.as_str(), progress.unwrap_or_default());
    let release = Release { calls, run, spec, bucket, zip, state, progress, budget, now };
    match input.action {
        Action::Sync => release.sync(&is_spent).await,
        Action::Clean => release.clean(&is_spent).await,
    }
}

/// A release of a site, as a pass finds it.
struct Release<'a, C> {
    calls: &'a C,
    run: &'a Run,
    spec: &'a Site,
    bucket: &'a str,
    zip: Zip,
    state: ComponentState,
    progress: Progress,
    budget: Budget,
    now: Timestamp,
}

impl<C: Calls> Release<'_, C> {
    async fn sync(mut self, is_spent: &impl Fn() -> bool) -> Result<Pass<Answer>, Error> {
        let (calls, run) = (self.calls, self.run);
        let own_key = self.key_of(&run.release);
        let is_marked = self.state.unfinished.contains(&run.release);
        // What the release wants is decided once: the record that an earlier pass wrote holds.
        let decided = async { if is_marked { calls.manifest(&own_key).await } else { Ok(None) } };
        let (contents, decided, before) = future::try_join3(self.contents(), decided, self.before()).await?;
        let prefix = site::prefix(&run.component, &run.release);
        let publication = Publication {
            calls,
            zip: &self.zip,
            contents: &contents,
            bucket: self.bucket,
            prefix: &prefix,
            budget: self.budget,
        };
        let mut known = Bucket::of(&before);
        let (listed, is_all): (BTreeSet<String>, bool);
        let mut remarks = Vec::new();
        let (record, held) = match decided {
            Some(record) => (record, None),
            None => {
                if run.repair && prefix.is_empty() {
                    (listed, is_all) = self.list().await?;
                    known = known.listed(&listed);
                    remarks.push(format!("the bucket has {}", counted(listed.len(), "object")));
                    if !is_all {
                        remarks.push("it has more than are looked at at once; repair it again".to_owned());
                    }
                }
                let told = before.live.iter().chain(before.unfinished.iter().flatten());
                let precompressed: BTreeSet<&String> = told.flat_map(|record| &record.edge.precompressed).collect();
                let precompressed: Vec<String> = precompressed.into_iter().cloned().collect();
                let place = Place { prefix: &prefix, precompressed: &precompressed };
                let mut record = site::wanted(&contents, self.spec, &place).map_err(|refusal| self.refused(refusal))?;
                let unread = site::unread(&contents, &record, &known, self.spec.verify);
                let mut hashes = self.hashes(&own_key, &unread).await?;
                let held = publication.check(&unread, &mut hashes, is_spent).await?;
                if hashes.len() < unread.len() {
                    let gathered: Vec<u8> =
                        unread.iter().filter_map(|file| hashes.get(file)).flat_map(|hash| hash.0).collect();
                    calls.put_hashes(&hashes_key(&own_key), gathered.into()).await?;
                    self.progress.checked = hashes.len();
                    return self.again(format!("{} of {} files are checked", hashes.len(), unread.len())).await;
                }
                site::learn(&mut record, &contents, &hashes, &known);
                site::settle(&mut record, &known, &run.release, self.spec, self.now);
                if !calls.put_manifest(&own_key, &record).await? {
                    record = calls.manifest(&own_key).await?.ok_or(Error::NoRecord(own_key))?;
                }
                (record, held)
            }
        };
        let uploads = site::uploads(&contents, &record, &known);
        let edge = !prefix.is_empty() || site::concerns_edge(&record, &before);
        let condemned = site::deletions(&record).len();
        remarks.extend(site::remarks(&contents, self.spec, &record));
        let note = note(&contents, &record, &uploads, &remarks);
        let done = Answer::Synced { note, edge, condemned };
        if uploads.is_empty() && condemned == 0 && !edge {
            return Ok(Pass::Done(done));
        }

        if !self.state.claim.as_ref().is_some_and(|claim| claim.committed) {
            calls.commit(run).await?;
        }
        if !is_marked {
            calls.mark_unfinished(run, story(uploads.len(), condemned)).await?;
        }
        let was = self.progress.uploaded;
        publication.upload(&uploads, &record, held.as_ref(), &mut self.progress.uploaded, is_spent).await?;
        let uploaded = self.progress.uploaded;
        if uploaded < uploads.len() {
            return self.again(format!("{uploaded} of {} changed files are written", uploads.len())).await;
        }
        if uploaded > was {
            calls.save_progress(run, self.progress).await?;
        }
        tracing::info!(release = %run.release, files = contents.files.len(), uploaded = uploads.len(), condemned, "published");
        Ok(Pass::Done(done))
    }

    async fn clean(mut self, is_spent: &impl Fn() -> bool) -> Result<Pass<Answer>, Error> {
        let own_key = self.key_of(&self.run.release);
        if !self.state.unfinished.contains(&self.run.release) {
            return Err(Error::Input(format!("{} has not written what it wants yet", self.run.release)));
        }
        let record = self.calls.manifest(&own_key).await?.ok_or(Error::NoRecord(own_key))?;
        let keys = site::deletions(&record);
        let left = keys.get(self.progress.deleted..).filter(|_| !self.progress.cleaned).unwrap_or_default();
        for batch in left.chunks(site::BATCH) {
            if is_spent() {
                let note = format!("{} of {} objects are deleted", self.progress.deleted, keys.len());
                return self.again(note).await;
            }
            self.calls.delete(self.bucket, batch).await?;
            self.progress.deleted += batch.len();
        }
        if !self.progress.cleaned {
            self.progress.cleaned = true;
            self.calls.save_progress(self.run, self.progress).await?;
        }
        tracing::info!(release = %self.run.release, deleted = keys.len(), "cleaned");
        let note = format!("deleted {} that no kept release needs", counted(keys.len(), "object"));
        Ok(Pass::Done(Answer::Cleaned { note }))
    }

    async fn again(&self, note: String) -> Result<Pass<Answer>, Error> {
        self.calls.save_progress(self.run, self.progress).await?;
        Ok(Pass::Again { seconds: 1, note })
    }

    fn refused(&self, refusal: Refusal) -> Error {
        Error::Refused { key: self.zip.key.clone(), refusal }
    }

    /// The key of what a release wrote down of the bucket.
    fn key_of(&self, release: &ReleaseId) -> String {
        site::manifest_key(&self.run.app, &self.run.environment, &self.run.component, release)
    }

    /// What was written down of the bucket. Each release of a preview has a place of its own, in which nothing was before.
    async fn before(&self) -> Result<Before, Error> {
        if matches!(self.run.component, Component::Preview(..)) {
            return Ok(Before::default());
        }
        let live = async {
            let Some(live) = &self.state.live else { return Ok((None, false)) };
            let record = self.calls.manifest(&self.key_of(&live.release)).await?;
            let is_doubtful = record.as_ref().is_some_and(|record| !record.condemned.is_empty());
            let progress = if is_doubtful { self.calls.progress(self.run, &live.release).await? } else { None };
            Ok((record, progress.is_some_and(|progress| progress.cleaned)))
        };
        let others = self.state.unfinished.iter().filter(|release| **release != self.run.release);
        let unfinished = others.map(|release| async move { self.calls.manifest(&self.key_of(release)).await });
        let ((live, is_cleaned), unfinished) = future::try_join(live, future::try_join_all(unfinished)).await?;
        let is_lost = self.state.live.is_some() && live.is_none();
        Ok(Before { live, is_lost, is_cleaned, unfinished, repair: self.run.repair })
    }

    /// What is in the bucket beside previews, and whether that is all.
    async fn list(&self) -> Result<(BTreeSet<String>, bool), Error> {
        let (mut keys, mut after) = (BTreeSet::new(), String::new());
        loop {
            let (page, is_more) = self.calls.list(self.bucket, &after).await?;
            after = page.last().cloned().unwrap_or_default();
            keys.extend(page.into_iter().filter(|key| !key.starts_with(site::RESERVED[0])));
            if !is_more || keys.len() >= MOST_LISTED {
                return Ok((keys, !is_more));
            }
        }
    }

    /// What earlier passes found of the files that must be read.
    async fn hashes(&self, own_key: &str, unread: &[usize]) -> Result<BTreeMap<usize, Sha256>, Error> {
        if self.progress.checked == 0 {
            return Ok(BTreeMap::new());
        }
        let known = self.calls.hashes(&hashes_key(own_key)).await?.unwrap_or_default();
        let hashes = known.chunks_exact(32).filter_map(|chunk| Some(Sha256(chunk.try_into().ok()?)));
        Ok(unread.iter().copied().zip(hashes).take(self.progress.checked).collect())
    }

    async fn contents(&self) -> Result<Contents, Error> {
        let mut search = Search::new(self.calls.tail(&self.zip, archive::TAIL).await?);
        loop {
            match search.look().map_err(|refusal| self.refused(refusal))? {
                Next::Read(range) => search.read(self.calls.read(&self.zip, range).await?),
                Next::Entries(entries, start) => {
                    drop(search);
                    return site::accept(entries, start).map_err(|refusal| self.refused(refusal));
                }
            }
        }
    }
}

/// Where a release keeps the hashes of what it checked until all is checked.
fn hashes_key(own_key: &str) -> String {
    format!("{}.hashes", own_key.trim_end_matches(".json"))
}

fn note(contents: &Contents, record: &SiteManifest, uploads: &[Upload], remarks: &[String]) -> String {
    let size = |upload: &Upload| upload.keys.iter().filter_map(|key| Some(record.objects.get(key)?.size)).sum::<u64>();
    let written = |upload: &&Upload| upload.copy_of.is_none();
    let bytes: u64 = uploads.iter().filter(written).map(size).sum();
    let objects = |uploads: &mut dyn Iterator<Item = &Upload>| uploads.map(|upload| upload.keys.len()).sum::<usize>();
    let (put, copied) = (
        objects(&mut uploads.iter().filter(written)),
        objects(&mut uploads.iter().filter(|upload| upload.copy_of.is_some())),
    );
    let files = counted(contents.files.len(), "file");
    let mut note = match uploads.len() {
        0 => format!("of {files} none changed; nothing was uploaded"),
        changed => format!("of {files} {changed} changed; uploaded {} with {bytes} bytes", counted(put, "object")),
    };
    if copied > 0 {
        note.push_str(&format!(", copied {} within the bucket", counted(copied, "object")));
    }
    for remark in remarks {
        note.push_str("; ");
        note.push_str(remark);
    }
    if !record.retired.is_empty() {
        note.push_str(&format!("; kept {} no longer in the zip", counted(record.retired.len(), "object")));
    }
    note
}

/// What the release's story says of what is about to happen.
fn story(uploads: usize, condemned: usize) -> String {
    let writes = (uploads > 0).then(|| format!("writes {}", counted(uploads, "changed file")));
    let deletes =
        (condemned > 0).then(|| format!("deletes {} that no kept release needs", counted(condemned, "object")));
    let told: Vec<String> = writes.into_iter().chain(deletes).collect();
    if told.is_empty() { "has the edge told what changed".to_owned() } else { told.join(", then ") }
}

fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
