//! The upload of a zip: in one request, or in parts where it is large. S3 checks the whole against its CRC-32 either way.

use std::{
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
    ops::Range,
};

use aws_sdk_s3::{
    Client,
    primitives::ByteStream,
    types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use shipway_aws::AwsError;
use shipway_domain::release::Artifact;

use crate::problem::Problem;

/// The least that a part has. S3 takes 5 MiB and 10,000 parts.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const PART: u64 = 8 << 20;
const MOST_PARTS: u64 = 10_000;

/// How many parts are on their way at a time: four fill a line, and hold 32 MiB.
const AT_A_TIME: usize = 4;

/// A zip that is to be uploaded.
pub(crate) struct Zip {
    file: File,
    /// How large it is.
    pub(crate) size: u64,
    crc32: u32,
    sha256: String,
}

impl Zip {
    /// Reads a zip for its size and checksums.
    pub(crate) fn read(mut file: File) -> io::Result<Zip> {
        let (mut size, mut crc32, mut sha256) = (0, crc32fast::Hasher::new(), Sha256::new());
        let mut buffer = vec![0; 1 << 20];
        file.rewind()?;
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            size += length as u64;
            crc32.update(&buffer[..length]);
            sha256.update(&buffer[..length]);
        }
        let sha256 = sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Zip { file, size, crc32: crc32.finalize(), sha256 })
    }

    /// What it is called unless given: by its content, so that the same site has the same name.
    pub(crate) fn name(&self) -> &str {
        &self.sha256[..12]
    }

    /// The SHA-256 of the whole.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    fn piece(&self, range: Range<u64>) -> io::Result<Bytes> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or_default()];
        file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// The parts that so many bytes are uploaded in. One part is no multipart upload.
fn parts(size: u64) -> Vec<Range<u64>> {
    let length = if size <= 2 * PART { size.max(1) } else { PART.max(size.div_ceil(MOST_PARTS)) };
    (0..size.div_ceil(length).max(1)).map(|n| n * length..size.min((n + 1) * length)).collect()
}

/// Uploads a zip. `sent` hears how many bytes more have arrived.
pub(crate) async fn upload(
    s3: &Client,
    bucket: &str,
    key: &str,
    zip: &Zip,
    sent: impl Fn(u64),
) -> Result<Artifact, Problem> {
    let to = To { s3, bucket, key };
    let version = match parts(zip.size)[..] {
        [ref whole] => to.put(zip, whole.clone(), sent).await,
        ref parts => to.put_in_parts(zip, parts, sent).await,
    };
    let version = version.map_err(|problem| problem.at(format!("s3://{bucket}/{key}")))?;
    let Some(version) = version.filter(|version| version != "null") else {
        return Err(Problem::new("the bucket keeps no versions, so it is not Shipway's intake bucket")
            .at(format!("s3://{bucket}"))
            .remedy("set SHIPWAY_BUCKET to the output IntakeBucket of Shipway's stack"));
    };
    Ok(Artifact::Object { key: key.to_owned(), version })
}

struct To<'a> {
    s3: &'a Client,
    bucket: &'a str,
    key: &'a str,
}

fn crc32(value: u32) -> String {
    BASE64_STANDARD.encode(value.to_be_bytes())
}

fn unreadable(error: &io::Error) -> Problem {
    Problem::new(format!("the zip cannot be read again: {error}"))
}

impl To<'_> {
    async fn put(&self, zip: &Zip, whole: Range<u64>, sent: impl Fn(u64)) -> Result<Option<String>, Problem> {
        let body = zip.piece(whole).map_err(|error| unreadable(&error))?;
        let put = self.s3.put_object().bucket(self.bucket).key(self.key).content_type("application/zip");
        let put = put.checksum_crc32(crc32(zip.crc32)).body(ByteStream::from(body));
        let put = put.send().await.map_err(AwsError::of("s3:PutObject"))?;
        sent(zip.size);
        Ok(put.version_id)
    }

    async fn put_in_parts(
        &self,
        zip: &Zip,
        parts: &[Range<u64>],
        sent: impl Fn(u64),
    ) -> Result<Option<String>, Problem> {
        let begun = self.s3.create_multipart_upload().bucket(self.bucket).key(self.key);
        let begun = begun.content_type("application/zip");
        let begun =
            begun.checksum_algorithm(ChecksumAlgorithm::Crc32).checksum_type(ChecksumType::FullObject).send().await;
        // All of a multipart upload but its end by force needs the same right as a plain one.
        let begun = begun.map_err(AwsError::of("s3:PutObject"))?;
        let upload = begun.upload_id.unwrap_or_default();
        let done = self.parts_of(zip, parts, &upload, sent).await;
        if done.is_err() {
            // May be denied, in CI: then the bucket's own rule removes what arrived.
            let _ = self.s3.abort_multipart_upload().bucket(self.bucket).key(self.key).upload_id(&upload).send().await;
        }
        done
    }

    async fn parts_of(
        &self,
        zip: &Zip,
        parts: &[Range<u64>],
        upload: &str,
        sent: impl Fn(u64),
    ) -> Result<Option<String>, Problem> {
        let sent = &sent;
        let uploads = stream::iter((1..).zip(parts)).map(|(number, range)| async move {
            let body = zip.piece(range.clone()).map_err(|error| unreadable(&error))?;
            let checksum = crc32(crc32fast::hash(&body));
            let part = self.s3.upload_part().bucket(self.bucket).key(self.key).upload_id(upload).part_number(number);
            let part = part.checksum_crc32(&checksum).body(ByteStream::from(body)).send().await;
            let part = part.map_err(AwsError::of("s3:PutObject"))?;
            sent(range.end - range.start);
            let part = CompletedPart::builder().part_number(number).set_e_tag(part.e_tag).checksum_crc32(checksum);
            Ok::<_, Problem>(part.build())
        });
        let uploaded: Vec<CompletedPart> = uploads.buffered(AT_A_TIME).try_collect().await?;
        let whole = CompletedMultipartUpload::builder().set_parts(Some(uploaded)).build();
        let completed = self.s3.complete_multipart_upload().bucket(self.bucket).key(self.key).upload_id(upload);
        let completed = completed
            .multipart_upload(whole)
            .checksum_type(ChecksumType::FullObject)
            .checksum_crc32(crc32(zip.crc32))
            .mpu_object_size(i64::try_from(zip.size).unwrap_or(i64::MAX))
            .send()
            .await
            .map_err(AwsError::of("s3:PutObject"))?;
        Ok(completed.version_id)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn parts_cover_the_whole_and_are_not_too_many() {
        for (size, count) in [(0, 1), (1, 1), (2 * PART, 1), (2 * PART + 1, 3), (3 * PART, 3), (500 << 30, 10_000)] {
            let parts = parts(size);
            assert_eq!(parts.len(), count, "{size}");
            assert_eq!((parts[0].start, parts[parts.len() - 1].end), (0, size));
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].end > pair[0].start));
        }
    }

    #[test]
    fn a_zip_is_named_for_its_content() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"123456789").unwrap();
        let zip = Zip::read(file).unwrap();
        assert_eq!((zip.size, zip.crc32, zip.name()), (9, 0xcbf4_3926, "15e2b0d3c338"));
        assert_eq!(zip.piece(3..6).unwrap(), "456");
    }
}
