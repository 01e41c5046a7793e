//! The S3 client, for the functions that need one.

use aws_config::SdkConfig;
use aws_sdk_s3::{Client, config::Builder};

/// A client on the shared configuration. Buckets are named in the host, as S3 wants it, unless `S3_PATH_STYLE` is `true`.
pub fn client(config: &SdkConfig) -> Client {
    let path_style = std::env::var("S3_PATH_STYLE").is_ok_and(|value| value == "true");
    Client::from_conf(Builder::from(config).force_path_style(path_style).build())
}
