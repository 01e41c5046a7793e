//! The yardstick of `cargo xtask bench publish`: the same client as sync-frontend's reads a zip once and puts files of the
//! disk into a bucket. It looks at nothing, compares nothing and unpacks nothing.

use aws_sdk_s3::{Client, primitives::ByteStream};
use futures_util::{StreamExt, TryStreamExt, stream};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::{Value, json};

/// As many puts at once as sync-frontend has.
const PUTS: usize = 32;

#[derive(Deserialize)]
struct Work {
    intake: String,
    zip: String,
    bucket: String,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    key: String,
    file: String,
    crc32: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let s3 = &shipway_aws::s3::client(&shipway_aws::runtime::sdk_config().await);
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        put(s3, serde_json::from_value(event.payload)?).await
    }))
    .await
}

async fn put(s3: &Client, work: Work) -> Result<Value, Error> {
    let zip = s3.get_object().bucket(&work.intake).key(&work.zip).send().await?.body.collect().await?;
    let bucket = &work.bucket;
    stream::iter(&work.objects)
        .map(|object| async move {
            let body = ByteStream::from(std::fs::read(&object.file)?);
            let put = s3.put_object().bucket(bucket).key(&object.key).checksum_crc32(&object.crc32).body(body);
            put.content_type("application/octet-stream").cache_control("no-cache").send().await?;
            Ok::<(), Error>(())
        })
        .buffer_unordered(PUTS)
        .try_collect::<()>()
        .await?;
    Ok(json!({"status": "done", "read": zip.into_bytes().len()}))
}
