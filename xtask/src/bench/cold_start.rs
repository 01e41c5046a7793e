//! `cargo xtask bench cold-start`: process start to first `GET /next`, size and memory of each function, against a function
//! that does nothing.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::unstage;
use crate::functions::{Architecture, build_released, staged};
use crate::tools;
use crate::workspace::Workspace;

/// How often each function is started. Odd, so that the median is one of them.
const STARTS: usize = 31;

/// The function that does nothing: `tests/hello-function`.
const YARDSTICK: &str = "hello-function";

/// What the template gives functions. None of it is used before the first invocation.
const SETTINGS: [(&str, &str); 19] = [
    ("TABLE", "shipway"),
    ("INTAKE_BUCKET", "shipway-intake"),
    ("ACCOUNT", "111122223333"),
    ("PROVISION_MACHINE", "arn:aws:states:us-east-1:111122223333:stateMachine:shipway-provision"),
    ("ROLLOUT_MACHINE", "arn:aws:states:us-east-1:111122223333:stateMachine:shipway-rollout"),
    ("PUBLISH_MACHINE", "arn:aws:states:us-east-1:111122223333:stateMachine:shipway-publish"),
    ("CLOUDFORMATION_ROLE", "arn:aws:iam::111122223333:role/shipway-stacks"),
    ("PERMISSIONS_BOUNDARY", "arn:aws:iam::111122223333:policy/shipway-boundary"),
    ("REGISTRY_MIRROR", ""),
    ("LOAD_BALANCER_MIRROR", ""),
    ("S3_PATH_STYLE", "false"),
    ("AWS_REGION", "us-east-1"),
    ("AWS_ACCESS_KEY_ID", "measured"),
    ("AWS_SECRET_ACCESS_KEY", "measured"),
    ("AWS_LAMBDA_FUNCTION_NAME", "measured"),
    ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
    ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
    ("AWS_LAMBDA_LOG_GROUP_NAME", "measured"),
    ("AWS_LAMBDA_LOG_STREAM_NAME", "measured"),
];

struct Measured {
    name: String,
    starts: Vec<Duration>,
    resident_kib: u64,
    bytes: u64,
}

/// Measures every function in turn, again and again, so that what disturbs the machine disturbs all of them.
pub(crate) fn cold_start() -> anyhow::Result<()> {
    let tools = tools::setup()?;
    let workspace = Workspace::find()?;
    let mut names = vec![YARDSTICK.to_owned()];
    names.extend(workspace.functions.iter().cloned());
    build_released(&workspace, &tools, Architecture::X86_64, &names)?;

    let mut measured = Vec::new();
    for name in names {
        let bytes =
            std::fs::metadata(staged(&workspace, &name)).with_context(|| format!("{name} was not built"))?.len();
        measured.push(Measured { name, starts: Vec::new(), resident_kib: 0, bytes });
    }
    for _ in 0..STARTS {
        for function in &mut measured {
            let (start, resident_kib) = start(&staged(&workspace, &function.name))?;
            function.starts.push(start);
            function.resident_kib = resident_kib;
        }
    }
    report(&mut measured);
    unstage(&workspace, YARDSTICK)
}

fn report(measured: &mut [Measured]) {
    for function in measured.iter_mut() {
        function.starts.sort();
    }
    let Some(yardstick) = measured.first() else { return };
    let (time, bytes, memory) = (median(yardstick), yardstick.bytes, yardstick.resident_kib);
    println!("{:<20}{:>10}{:>8}{:>10}{:>8}{:>12}{:>8}", "function", "start ms", "×", "size MB", "×", "memory MB", "×");
    for function in measured.iter() {
        println!(
            "{:<20}{:>10.2}{:>8.2}{:>10.2}{:>8.2}{:>12.2}{:>8.2}",
            function.name,
            median(function).as_secs_f64() * 1e3,
            median(function).as_secs_f64() / time.as_secs_f64(),
            function.bytes as f64 / 1e6,
            function.bytes as f64 / bytes as f64,
            function.resident_kib as f64 / 1024.0,
            function.resident_kib as f64 / memory as f64,
        );
    }
    println!("medians of {STARTS} starts each, taken in turn; × is against {YARDSTICK}");
}

fn median(function: &Measured) -> Duration {
    function.starts.get(function.starts.len() / 2).copied().unwrap_or_default()
}

/// Starts a function once: the time until it asks for its first invocation, and its resident memory then.
fn start(program: &Path) -> anyhow::Result<(Duration, u64)> {
    let runtime = TcpListener::bind("127.0.0.1:0")?;
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(SETTINGS)
        .env("AWS_LAMBDA_RUNTIME_API", runtime.local_addr()?.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let started = Instant::now();
    let function = Running(command.spawn().with_context(|| program.display().to_string())?);
    let (connection, _) = runtime.accept()?;
    let mut request = String::new();
    // Kept open: a function whose runtime hangs up ends.
    let mut connection = BufReader::new(connection);
    connection.read_line(&mut request)?;
    let elapsed = started.elapsed();
    ensure!(request.starts_with("GET /2018-06-01/runtime/invocation/next"), "{} asked {request}", program.display());
    let resident = resident_kib(&function.0)?;
    drop(connection);
    Ok((elapsed, resident))
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It waits for an invocation that never comes.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn resident_kib(child: &Child) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.split_whitespace().next().context("no number")?.parse().context("no number")
}
