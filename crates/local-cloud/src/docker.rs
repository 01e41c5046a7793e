//! A Docker engine, found or started, and the `docker` commands a person's CI would run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use crate::{Error, LocalCloud};

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
const READY: Duration = Duration::from_secs(60);

/// A Docker engine that answers. One that we started ends when this is dropped.
#[derive(Debug)]
pub struct Engine {
    host: String,
    _own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    _child: Child,
    group: Option<Pid>,
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // Its containers live in the same group's containerd; an engine that is gone is what we want.
            let _ = kill_process_group(group, Signal::TERM);
        }
    }
}

impl Engine {
    /// The engine at `DOCKER_HOST`, else at the default socket.
    ///
    /// # Errors
    /// [`Error::NoDocker`] when none answers there.
    pub async fn find() -> Result<Self, Error> {
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| DEFAULT_HOST.to_owned());
        if answers(&host).await { Ok(Self { host, _own: None }) } else { Err(Error::NoDocker { host }) }
    }

    /// Starts an engine of our own, for a CI machine that has `dockerd` and no running engine. Needs root.
    ///
    /// It has its own socket, data and state under `directory`; its bridge is Docker's default one, so one such engine
    /// per machine.
    ///
    /// # Errors
    /// When `dockerd` is not installed, ends, or does not answer within a minute.
    pub async fn start_own(directory: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(directory).map_err(Error::file(directory))?;
        let host = format!("unix://{}", directory.join("docker.sock").display());
        let log = directory.join("dockerd.log");
        let output = File::create(&log).map_err(Error::file(&log))?;
        let errors = output.try_clone().map_err(Error::file(&log))?;
        let mut child = Command::new("dockerd")
            .args(["--host", &host])
            .arg("--data-root")
            .arg(directory.join("data"))
            .arg("--exec-root")
            .arg(directory.join("exec"))
            .arg("--pidfile")
            .arg(directory.join("dockerd.pid"))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Run { program: PathBuf::from("dockerd"), source })?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let started = Instant::now();
        loop {
            if answers(&host).await {
                return Ok(Self { host, _own: Some(Own { _child: child, group }) });
            }
            let ended = child.try_wait().map_err(Error::file(&log))?;
            if let Some(status) = ended {
                let output = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(Error::Failed { program: "dockerd".to_owned(), status, output });
            }
            if started.elapsed() > READY {
                drop(Own { _child: child, group });
                return Err(Error::NoDocker { host });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Where it listens, as `DOCKER_HOST` wants it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `docker build` of a directory with a Dockerfile.
    ///
    /// # Errors
    /// When the build fails; its output is in the error.
    pub async fn build(&self, context: &Path, image: &str) -> Result<(), Error> {
        let context = context.display().to_string();
        docker(&self.host, &["build", "--tag", image, &context], None).await.map(drop)
    }

    /// `docker login`, `docker tag` and `docker push` of a local image to a repository of the cloud.
    ///
    /// Docker takes a registry on 127.0.0.0/8 without TLS.
    ///
    /// # Errors
    /// When one of the commands fails.
    pub async fn push(&self, cloud: &LocalCloud, image: &str, repository: &str, tag: &str) -> Result<String, Error> {
        let registry = cloud.registry();
        let name = format!("{registry}/{repository}:{tag}");
        let login = ["login", "--username", "AWS", "--password-stdin", registry.as_str()];
        docker(&self.host, &login, Some("ministack-auth-token")).await?;
        docker(&self.host, &["tag", image, &name], None).await?;
        docker(&self.host, &["push", &name], None).await?;
        let digests =
            docker(&self.host, &["image", "inspect", "--format", "{{join .RepoDigests \"\\n\"}}", &name], None).await?;
        let prefix = format!("{registry}/{repository}@");
        let digest = digests.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned);
        digest.ok_or_else(|| Error::Refused {
            request: format!("docker push {name}"),
            status: http::StatusCode::OK,
            body: format!("no digest in {digests}"),
        })
    }
}

/// Removes the containers that a MiniStack on `port` started. What was removed before is as good.
pub(crate) fn remove_containers(host: &str, port: u16) {
    let list = std::process::Command::new("docker")
        .args(["--host", host, "ps", "--all", "--quiet", "--filter", "label=ministack=ecs"])
        .args(["--filter", &format!("label=ministack.instance={INSTANCE}:{port}")])
        .output();
    let Ok(list) = list else { return };
    let ids = String::from_utf8_lossy(&list.stdout).into_owned();
    let ids: Vec<_> = ids.split_whitespace().collect();
    if !ids.is_empty() {
        let _ = std::process::Command::new("docker")
            .args(["--host", host, "rm", "--force", "--volumes"])
            .args(ids)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// The host part of the name by which MiniStack labels its containers; the port tells clouds apart.
pub(crate) const INSTANCE: &str = "shipway-local-cloud";

async fn answers(host: &str) -> bool {
    docker(host, &["version", "--format", "{{.Server.Version}}"], None).await.is_ok()
}

async fn docker(host: &str, arguments: &[&str], input: Option<&str>) -> Result<String, Error> {
    let program = PathBuf::from("docker");
    let failed = |source| Error::Run { program: program.clone(), source };
    // Its own configuration directory: a login here is none of the person's.
    let config = tempfile_directory()?;
    let mut child = Command::new(&program)
        .args(["--config", &config, "--host", host])
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).await.map_err(|source| Error::Run { program: program.clone(), source })?;
    }
    let output = child.wait_with_output().await.map_err(|source| Error::Run { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = [output.stdout, output.stderr].concat();
    let program = format!("docker {}", arguments.join(" "));
    Err(Error::Failed { program, status: output.status, output: String::from_utf8_lossy(&text).into_owned() })
}

fn tempfile_directory() -> Result<String, Error> {
    let directory = std::env::temp_dir().join("shipway-docker-config");
    std::fs::create_dir_all(&directory).map_err(Error::file(&directory))?;
    Ok(directory.display().to_string())
}
