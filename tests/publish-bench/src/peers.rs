//! The publishers that ours is compared with. Each does the same work from the same place: fetch the zip from the intake
//! bucket, and make the site's bucket hold what is in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::process::Command;

use crate::{BUCKET, INTAKE};

/// Runs CDK's handler as its Lambda does, with the AWS CLI from where it is.
const CDK: &str = r#"
import importlib.util, json, subprocess, sys, types
source, cli, event = sys.argv[1:]
run = subprocess.check_call
subprocess.check_call = lambda command, **options: run([cli, *command[1:]], **options)
spec = importlib.util.spec_from_file_location("index", source)
index = importlib.util.module_from_spec(spec)
spec.loader.exec_module(index)
index.handler(json.loads(event), types.SimpleNamespace(log_stream_name="measured"))
"#;

/// A publisher other than ours.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// The handler of CDK's `BucketDeployment`.
    Cdk { python: PathBuf, handler: PathBuf, aws: PathBuf },
    /// `unzip` and `aws s3 sync`.
    Aws(PathBuf),
    /// `unzip` and `s5cmd sync`.
    S5cmd(PathBuf),
    /// `unzip` and `rclone sync`.
    Rclone(PathBuf),
}

impl Peer {
    /// Publishes a zip from the intake bucket, working in an empty directory.
    pub(crate) async fn publish(&self, zip: &str, endpoint: SocketAddr, directory: &Path) -> Result<()> {
        let (from, to) = (format!("s3://{INTAKE}/{zip}"), format!("s3://{BUCKET}/"));
        let run = |program: &Path, words: &[&str]| {
            let mut command = Command::new(program);
            command.args(words);
            run(command, endpoint, directory)
        };
        match self {
            Peer::Cdk { python, handler, aws } => {
                let event = json!({
                    "RequestType": "Create",
                    "ResponseURL": format!("http://{endpoint}/_response/cloudformation"),
                    "StackId": "measured",
                    "RequestId": "measured",
                    "LogicalResourceId": "measured",
                    "ResourceProperties": {
                        "SourceBucketNames": [INTAKE],
                        "SourceObjectKeys": [zip],
                        "DestinationBucketName": BUCKET,
                    },
                });
                let (handler, aws) = (handler.display().to_string(), aws.display().to_string());
                run(python, &["-c", CDK, &handler, &aws, &event.to_string()]).await
            }
            Peer::Aws(aws) => {
                run(aws, &["s3", "cp", "--only-show-errors", &from, "site.zip"]).await?;
                run(Path::new("unzip"), &["-q", "site.zip", "-d", "site"]).await?;
                run(aws, &["s3", "sync", "--only-show-errors", "site", &to]).await
            }
            Peer::S5cmd(s5cmd) => {
                run(s5cmd, &["--log", "error", "cp", &from, "site.zip"]).await?;
                run(Path::new("unzip"), &["-q", "site.zip", "-d", "site"]).await?;
                run(s5cmd, &["--log", "error", "sync", "site/", &to]).await
            }
            // As its documentation advises for S3: no request per object for its time, one list, many transfers.
            Peer::Rclone(rclone) => {
                let (from, to) = (format!("s3:{INTAKE}/{zip}"), format!("s3:{BUCKET}"));
                run(rclone, &["copyto", &from, "site.zip"]).await?;
                run(Path::new("unzip"), &["-q", "site.zip", "-d", "site"]).await?;
                let sync = [
                    "sync",
                    "--fast-list",
                    "--update",
                    "--use-server-modtime",
                    "--transfers",
                    "32",
                    "--checkers",
                    "32",
                ];
                run(rclone, &[&sync[..], &["site", &to]].concat()).await
            }
        }
    }
}

async fn run(mut command: Command, endpoint: SocketAddr, directory: &Path) -> Result<()> {
    let url = format!("http://{endpoint}");
    let output = command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(crate::credentials(endpoint))
        .env("HOME", directory)
        .env("TMPDIR", directory)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("S3_ENDPOINT_URL", &url)
        .env("RCLONE_CONFIG_S3_TYPE", "s3")
        // As `AWS` it would insist on TLS.
        .env("RCLONE_CONFIG_S3_PROVIDER", "Other")
        .env("RCLONE_CONFIG_S3_LIST_VERSION", "2")
        .env("RCLONE_CONFIG_S3_ENV_AUTH", "true")
        .env("RCLONE_CONFIG_S3_ENDPOINT", &url)
        .env("RCLONE_CONFIG_S3_NO_CHECK_BUCKET", "true")
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("{command:?}"))?;
    let said: String = String::from_utf8_lossy(&output.stderr).chars().take(2000).collect();
    ensure!(output.status.success(), "{:?} ended with {}: {said}", command.as_std().get_program(), output.status);
    Ok(())
}
