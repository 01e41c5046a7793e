//! The calls of a publication: S3, and the table.

use std::{collections::BTreeMap, ops::Range};

use aws_config::SdkConfig;
use aws_sdk_s3::{
    Client,
    error::BuildError,
    primitives::{ByteStream, SdkBody},
    types::{ChecksumAlgorithm, Delete, MetadataDirective, ObjectIdentifier},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use shipway_archive::Tail;
use shipway_aws::{
    AwsError, Store, s3,
    store::{EnvironmentRecord, Manifest},
};
use shipway_domain::{
    message::Run,
    name::ReleaseId,
    release::{ComponentState, Step},
    site::{Refusal, SiteManifest, SiteObject},
};

use crate::{
    empty::{Buckets, Unfinished, Version},
    handler::{Body, Calls, Error, Progress, Zip},
};

/// The name of this function's progress in the release's record.
const PROGRESS: &str = "sync";

/// The real thing.
pub(crate) struct Aws {
    s3: Client,
    store: Store,
    intake: String,
}

impl Aws {
    pub(crate) fn new(config: &SdkConfig, store: Store, intake: String) -> Aws {
        Aws { s3: s3::client(config), store, intake }
    }

    /// The table.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Deletes objects, or versions of them.
    async fn delete_all(&self, call: &'static str, bucket: &str, objects: Vec<ObjectIdentifier>) -> Result<(), Error> {
        let incomplete = |error: BuildError| Error::Unwritable(error.to_string());
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build().map_err(incomplete)?;
        let request = self.s3.delete_objects().bucket(bucket).delete(delete);
        let answer = request.send().await.map_err(AwsError::of(call))?;
        let errors = answer.errors();
        match errors.first() {
            None => Ok(()),
            Some(first) => Err(Error::NotDeleted {
                bucket: bucket.to_owned(),
                count: errors.len(),
                key: first.key().unwrap_or_default().to_owned(),
                code: first.code().unwrap_or_default().to_owned(),
                message: first.message().unwrap_or_default().to_owned(),
            }),
        }
    }

    /// What was written down in the intake bucket, if it is there.
    async fn kept(&self, key: &str) -> Result<Option<Bytes>, Error> {
        match self.s3.get_object().bucket(&self.intake).key(key).send().await.map_err(AwsError::of("s3:GetObject")) {
            Ok(output) => collected(output.body).await.map(Some),
            Err(error) if error.is("NoSuchKey") => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn get(&self, zip: &Zip, range: String) -> Result<Part, Error> {
        let request = self.s3.get_object().bucket(&self.intake).key(&zip.key).version_id(&zip.version).range(range);
        let output = match request.send().await.map_err(AwsError::of("s3:GetObject")) {
            Ok(output) => output,
            Err(error) if error.is("NoSuchKey") || error.is("NoSuchVersion") || error.is("MethodNotAllowed") => {
                return Err(Error::Gone { key: zip.key.clone(), version: zip.version.clone() });
            }
            // There is no range in an empty object.
            Err(error) if error.is("InvalidRange") => {
                return Err(Error::Refused { key: zip.key.clone(), refusal: Refusal::NotAZip });
            }
            Err(error) => return Err(error.into()),
        };
        let place = output.content_range().and_then(content_range);
        let bytes = collected(output.body).await?;
        let (start, size) = place.unwrap_or((0, bytes.len() as u64));
        Ok(Part { start, size, bytes })
    }
}

/// What a range brought. A server that does not know ranges sends everything.
/// <https://www.rfc-editor.org/rfc/rfc9110#section-14.2>
struct Part {
    start: u64,
    size: u64,
    bytes: Bytes,
}

/// First byte and full size, from `bytes 0-9/100`.
fn content_range(header: &str) -> Option<(u64, u64)> {
    let (range, size) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, size.parse().ok()?))
}

/// A checksum as S3 writes it.
fn checksum(object: &SiteObject) -> String {
    BASE64_STANDARD.encode(object.crc32.to_be_bytes())
}

/// A key as the header of a copy wants it.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>
fn escaped(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

async fn collected(body: ByteStream) -> Result<Bytes, Error> {
    Ok(body.collect().await.map_err(|error| Error::Interrupted(error.to_string()))?.into_bytes())
}

impl Calls for Aws {
    async fn renew(&self, run: &Run) -> Result<(), Error> {
        Ok(self.store.renew(run, Timestamp::now()).await?)
    }

    async fn applied(&self, run: &Run) -> Result<(EnvironmentRecord, Manifest), Error> {
        Ok(self.store.applied(&run.app, &run.environment).await?)
    }

    async fn component(&self, run: &Run) -> Result<ComponentState, Error> {
        Ok(self.store.component(&run.app, &run.environment, &run.component).await?)
    }

    async fn progress(&self, run: &Run, release: &ReleaseId) -> Result<Option<Progress>, Error> {
        let of = Run { release: release.clone(), ..run.clone() };
        Ok(self.store.progress(&of, PROGRESS).await?)
    }

    async fn save_progress(&self, run: &Run, progress: Progress) -> Result<(), Error> {
        Ok(self.store.save_progress(run, PROGRESS, &progress, Timestamp::now()).await?)
    }

    async fn commit(&self, run: &Run) -> Result<(), Error> {
        Ok(self.store.commit(run, Timestamp::now()).await?)
    }

    async fn mark_unfinished(&self, run: &Run, what: String) -> Result<(), Error> {
        // The step first: cut off between the two, the story says it twice rather than not at all.
        self.store.step(run, Step { at: Timestamp::now(), by: "sync-frontend".to_owned(), what }).await?;
        Ok(self.store.mark_unfinished(run, Timestamp::now()).await?)
    }

    async fn tail(&self, zip: &Zip, length: u64) -> Result<Tail, Error> {
        let part = self.get(zip, format!("bytes=-{length}")).await?;
        Ok(Tail { size: part.size, bytes: part.bytes })
    }

    async fn read(&self, zip: &Zip, range: Range<u64>) -> Result<Bytes, Error> {
        let part = self.get(zip, format!("bytes={}-{}", range.start, range.end - 1)).await?;
        let asked = range.end - range.start;
        let from = range.start.checked_sub(part.start).and_then(|from| usize::try_from(from).ok());
        let slice = from.zip(usize::try_from(asked).ok()).and_then(|(from, length)| {
            let to = from.checked_add(length)?;
            (to <= part.bytes.len()).then(|| part.bytes.slice(from..to))
        });
        slice.ok_or(Error::ShortRead { key: zip.key.clone(), got: part.bytes.len() as u64, asked })
    }

    async fn manifest(&self, key: &str) -> Result<Option<SiteManifest>, Error> {
        let Some(text) = self.kept(key).await? else { return Ok(None) };
        // One that cannot be read is as good as none: everything is written again.
        Ok(serde_json::from_slice(&text).inspect_err(|error| tracing::warn!(key, %error, "unreadable record")).ok())
    }

    async fn put_manifest(&self, key: &str, manifest: &SiteManifest) -> Result<bool, Error> {
        let text = serde_json::to_vec(manifest).map_err(|error| Error::Unwritable(error.to_string()))?;
        let put = self.s3.put_object().bucket(&self.intake).key(key).content_type("application/json");
        match put.if_none_match("*").body(text.into()).send().await.map_err(AwsError::of("s3:PutObject")) {
            Ok(_) => Ok(true),
            Err(error) if error.is("PreconditionFailed") => Ok(false),
            Err(error) if error.is("ConditionalRequestConflict") => Err(Error::Raced(key.to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    async fn hashes(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.kept(key).await
    }

    async fn put_hashes(&self, key: &str, hashes: Bytes) -> Result<(), Error> {
        let put = self.s3.put_object().bucket(&self.intake).key(key).body(hashes.into());
        put.send().await.map_err(AwsError::of("s3:PutObject"))?;
        Ok(())
    }

    async fn put(&self, bucket: &str, key: &str, object: &SiteObject, body: Body) -> Result<(), Error> {
        let body = match body {
            Body::Whole(bytes) => ByteStream::from(bytes),
            Body::Pieces(body) => ByteStream::new(SdkBody::from_body_1_x(body)),
        };
        let put = self
            .s3
            .put_object()
            .bucket(bucket)
            .key(key)
            .content_type(&object.headers.content_type)
            .cache_control(&object.headers.cache_control)
            .set_content_encoding(object.headers.encoding.clone())
            .content_length(i64::try_from(object.size).unwrap_or(i64::MAX))
            .checksum_crc32(checksum(object))
            .body(body);
        put.send().await.map_err(AwsError::of("s3:PutObject"))?;
        Ok(())
    }

    async fn copy(&self, bucket: &str, from: &str, key: &str, object: &SiteObject) -> Result<bool, Error> {
        let copy = self
            .s3
            .copy_object()
            .bucket(bucket)
            .key(key)
            .copy_source(format!("{bucket}/{}", escaped(from)))
            .metadata_directive(MetadataDirective::Replace)
            .content_type(&object.headers.content_type)
            .cache_control(&object.headers.cache_control)
            .set_content_encoding(object.headers.encoding.clone())
            .checksum_algorithm(ChecksumAlgorithm::Crc32);
        match copy.send().await.map_err(AwsError::of("s3:PutObject")) {
            Ok(copied) => {
                let told = copied.copy_object_result().and_then(|result| result.checksum_crc32());
                Ok(told.is_none_or(|told| told == checksum(object)))
            }
            Err(error) if error.is("NoSuchKey") => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn list(&self, bucket: &str, after: &str) -> Result<(Vec<String>, bool), Error> {
        let after = Some(after).filter(|after| !after.is_empty()).map(str::to_owned);
        let list = self.s3.list_objects_v2().bucket(bucket).set_start_after(after);
        let page = list.send().await.map_err(AwsError::of("s3:ListBucket"))?;
        let is_more = page.is_truncated() == Some(true);
        Ok((page.contents.into_iter().flatten().filter_map(|object| object.key).collect(), is_more))
    }

    async fn delete(&self, bucket: &str, keys: &[&str]) -> Result<(), Error> {
        let objects = keys.iter().map(|key| ObjectIdentifier::builder().key(*key).build());
        let objects = objects.collect::<Result<_, _>>().map_err(|error| Error::Unwritable(error.to_string()))?;
        self.delete_all("s3:DeleteObject", bucket, objects).await
    }
}

/// What a bucket that is not there any more answers with, in place of an error.
fn or_gone<T: Default>(answered: Result<T, AwsError>) -> Result<T, Error> {
    match answered {
        Err(error) if error.is("NoSuchBucket") => Ok(T::default()),
        answered => Ok(answered?),
    }
}

impl Buckets for Aws {
    async fn buckets(&self, start: &str) -> Result<Vec<String>, Error> {
        let mut pages = self.s3.list_buckets().prefix(start).into_paginator().send();
        let mut names = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(AwsError::of("s3:ListAllMyBuckets"))?;
            names.extend(page.buckets.into_iter().flatten().filter_map(|bucket| bucket.name));
        }
        Ok(names)
    }

    async fn tags(&self, bucket: &str) -> Result<BTreeMap<String, String>, Error> {
        let asked = self.s3.get_bucket_tagging().bucket(bucket).send().await;
        match asked.map_err(AwsError::of("s3:GetBucketTagging")) {
            Ok(tagging) => Ok(tagging.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect()),
            Err(error) if error.is("NoSuchTagSet") => Ok(BTreeMap::new()),
            Err(error) => or_gone(Err(error)),
        }
    }

    async fn versions(&self, bucket: &str) -> Result<Vec<Version>, Error> {
        let listed = self.s3.list_object_versions().bucket(bucket).send().await;
        let page = or_gone(listed.map_err(AwsError::of("s3:ListBucketVersions")).map(Some))?;
        let Some(page) = page else { return Ok(Vec::new()) };
        let markers = page.delete_markers.into_iter().flatten().map(|marker| (marker.key, marker.version_id));
        let versions = page.versions.into_iter().flatten().map(|version| (version.key, version.version_id));
        Ok(versions.chain(markers).filter_map(|(key, id)| Some(Version { key: key?, id: id? })).collect())
    }

    async fn delete_versions(&self, bucket: &str, versions: &[Version]) -> Result<(), Error> {
        let objects =
            versions.iter().map(|each| ObjectIdentifier::builder().key(&each.key).version_id(&each.id).build());
        let objects = objects.collect::<Result<_, _>>().map_err(|error| Error::Unwritable(error.to_string()))?;
        match self.delete_all("s3:DeleteObjectVersion", bucket, objects).await {
            Err(Error::Aws(error)) => or_gone(Err(error)),
            deleted => deleted,
        }
    }

    async fn unfinished(&self, bucket: &str) -> Result<Vec<Unfinished>, Error> {
        let listed = self.s3.list_multipart_uploads().bucket(bucket).send().await;
        let page = or_gone(listed.map_err(AwsError::of("s3:ListBucketMultipartUploads")).map(Some))?;
        let uploads = page.into_iter().flat_map(|page| page.uploads.into_iter().flatten());
        Ok(uploads.filter_map(|upload| Some(Unfinished { key: upload.key?, id: upload.upload_id? })).collect())
    }

    async fn abort(&self, bucket: &str, upload: &Unfinished) -> Result<(), Error> {
        let abort = self.s3.abort_multipart_upload().bucket(bucket).key(&upload.key).upload_id(&upload.id);
        match abort.send().await.map_err(AwsError::of("s3:AbortMultipartUpload")) {
            Err(error) if !error.is("NoSuchUpload") => or_gone(Err(error)),
            _ => Ok(()),
        }
    }
}
