//! The smallest backend: what the examples and the tests of Shipway deploy. Only the standard library, so that
//! `rustc -O -C target-feature=+crt-static server.rs` gives a program that runs `FROM scratch`.
//!
//! `server`          answers `GET /health` with `ok` and every other GET with JSON: service, version, path; what ends with
//!                   `/status/404` with that status
//! `server migrate`  prints a line and exits 0; 1 with `MIGRATE_FAIL=1`; after `MIGRATE_SECONDS`
//! `server migrate-fail`, `server crash`  print a line and exit 1
//! `server hungry`   takes ever more memory, until somebody ends it, or 4 GiB
//!
//! Environment: `PORT` (8080), `HOST` (0.0.0.0), `SERVICE` (api), `VERSION`, `HEALTH_STATUS` (200), `HEALTHY_AFTER` (0 seconds),
//! `STATUS` (200), which is that of every answer but `/health`; with `FRAGILE=1`, `GET /break` makes it unhealthy for good.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

static STARTED: OnceLock<Instant> = OnceLock::new();
static BROKEN: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let mode = env::args().nth(1);
    if mode.as_deref() == Some("migrate") {
        thread::sleep(Duration::from_secs(variable("MIGRATE_SECONDS", "0").parse().unwrap_or(0)));
    }
    match mode.as_deref() {
        None | Some("serve") => serve(),
        Some("migrate") if env::var("MIGRATE_FAIL").as_deref() != Ok("1") => {
            println!("migrated to version {}", variable("VERSION", "unknown"));
            ExitCode::SUCCESS
        }
        Some("migrate" | "migrate-fail") => {
            println!("migration failed: relation \"orders\" already exists");
            ExitCode::FAILURE
        }
        Some("crash") => {
            println!("cannot start: no configuration");
            ExitCode::FAILURE
        }
        Some("hungry") => hungry(),
        Some(other) => {
            println!("unknown command: {other}");
            ExitCode::from(2)
        }
    }
}

fn hungry() -> ExitCode {
    println!("loads everything there is into memory");
    let mut loaded = Vec::new();
    while loaded.len() < 256 {
        // Not zeros: those are a promise of memory until somebody writes there.
        loaded.push(vec![1u8; 16 << 20]);
        thread::sleep(Duration::from_millis(20));
    }
    println!("loaded {} parts, and nobody minded", loaded.len());
    ExitCode::from(3)
}

fn serve() -> ExitCode {
    let address = format!("{}:{}", variable("HOST", "0.0.0.0"), variable("PORT", "8080"));
    let listener = match TcpListener::bind(&address) {
        Ok(listener) => listener,
        Err(error) => {
            println!("cannot listen on {address}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("version {} listens on {address}", variable("VERSION", "unknown"));
    STARTED.get_or_init(Instant::now);
    for stream in listener.incoming().flatten() {
        // A client that goes away in the middle is no reason to stop.
        thread::spawn(move || answer(&stream).ok());
    }
    ExitCode::SUCCESS
}

fn answer(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The headers are read to their end, or closing would reset the connection before the answer arrives.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or("/"));
    let (status, kind, body) = match (method, path) {
        ("GET" | "HEAD", "/health") => health(),
        ("GET", "/break") if variable("FRAGILE", "0") == "1" => {
            BROKEN.store(true, Ordering::Relaxed);
            ("200 OK".to_owned(), "text/plain", "broken\n".to_owned())
        }
        ("GET" | "HEAD", path) => (asked_status(path), "application/json", describe(path)),
        _ => ("405 Method Not Allowed".to_owned(), "text/plain", "only GET\n".to_owned()),
    };
    let length = body.len();
    let body = if method == "HEAD" { "" } else { &body };
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn health() -> (String, &'static str, String) {
    let warm_up = Duration::from_secs_f32(variable("HEALTHY_AFTER", "0").parse().unwrap_or(0.0));
    if STARTED.get().is_none_or(|started| started.elapsed() < warm_up) {
        return ("503 Warming Up".to_owned(), "text/plain", "not yet".to_owned());
    }
    if BROKEN.load(Ordering::Relaxed) {
        return ("500 Broken".to_owned(), "text/plain", "not ok any more".to_owned());
    }
    match variable("HEALTH_STATUS", "200").as_str() {
        "200" => ("200 OK".to_owned(), "text/plain", "ok".to_owned()),
        other => (format!("{other} Unhealthy"), "text/plain", "not ok".to_owned()),
    }
}

/// `/status/404` at the end of a path asks for that status.
fn asked_status(path: &str) -> String {
    match path.rsplit_once("/status/") {
        Some((_, status)) if matches!(status.parse(), Ok(200..600)) => format!("{status} As Asked"),
        _ => match variable("STATUS", "200").as_str() {
            "200" => "200 OK".to_owned(),
            other => format!("{other} As Configured"),
        },
    }
}

fn describe(path: &str) -> String {
    let (service, version) = (variable("SERVICE", "api"), variable("VERSION", "unknown"));
    format!(r#"{{"service":"{}","version":"{}","path":"{}"}}"#, escape(&service), escape(&version), escape(path))
}

/// As JSON wants it inside quotes.
fn escape(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}

fn variable(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}
