//! The example server as images: one that serves, ones that fail in the ways that matter.
//!
//! The programs (`examples/hello/server.rs` and a stand-in for what does something once) are compiled once per machine,
//! statically, so that an image needs nothing else.

use std::path::PathBuf;
use std::process::Stdio;

use bytes::Bytes;
use tokio::process::Command;

use crate::Error;
use crate::image::{Image, digest};

const SOURCE: &str = include_str!("../../../examples/hello/server.rs");
/// Says what it was asked to do.
const ONCE: &str = r#"fn main() { println!("did: {}", std::env::args().skip(1).collect::<Vec<_>>().join(" ")); }"#;
/// The port the server listens on unless `PORT` says otherwise.
pub const PORT: u16 = 8080;

/// An image that serves and says `version`. Its variants: `.command(["crash"])` exits at once, `.command(["hungry"])` takes ever more
/// memory, `.env("HEALTH_STATUS", "503")` never gets healthy, `.env("FRAGILE", "1")` is healthy until it is asked for `/break`,
/// `.env("STATUS", "500")` is healthy and answers so, `.env("MIGRATE_FAIL", "1")` serves but fails its migration.
///
/// # Errors
/// When the server cannot be compiled.
pub async fn image(version: &str) -> Result<Image, Error> {
    Ok(Image::scratch()
        .file("/server", read(program().await?).await?, 0o755)
        .entrypoint(["/server"])
        .env("VERSION", version)
        .expose(PORT))
}

/// An image that serves as [`image`] does where it is given no command, and in which each of these programs stands in for one that
/// does something once: it prints its arguments and exits 0.
///
/// # Errors
/// When a program cannot be compiled.
pub async fn image_with<'a>(version: &str, programs: impl IntoIterator<Item = &'a str>) -> Result<Image, Error> {
    let server = read(program().await?).await?;
    let once = read(compiled("once", ONCE).await?).await?;
    let image =
        Image::scratch().file("/server", server, 0o755).command(["/server"]).env("VERSION", version).expose(PORT);
    Ok(programs.into_iter().fold(image, |image, path| image.file(path, once.clone(), 0o755)))
}

async fn read(program: PathBuf) -> Result<Bytes, Error> {
    tokio::fs::read(&program).await.map(Bytes::from).map_err(Error::file(program))
}

/// The compiled server, compiling it if this source was not compiled before.
///
/// # Errors
/// When `rustc` fails or the cache cannot be written.
pub async fn program() -> Result<PathBuf, Error> {
    compiled("hello", SOURCE).await
}

async fn compiled(name: &str, text: &str) -> Result<PathBuf, Error> {
    let directory = cache_directory();
    let hash = digest(text.as_bytes());
    let program = directory.join(format!("{name}-{}", &hash["sha256:".len()..][..16]));
    if program.exists() {
        return Ok(program);
    }
    std::fs::create_dir_all(&directory).map_err(Error::file(&directory))?;
    // Beside its place and moved there whole, for tests that run at the same time.
    let work = tempfile::tempdir_in(&directory).map_err(Error::file(&directory))?;
    let source = work.path().join("program.rs");
    let output = work.path().join("program");
    std::fs::write(&source, text).map_err(Error::file(&source))?;
    let compiler = PathBuf::from(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let result = Command::new(&compiler)
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"])
        .arg(&output)
        .arg(&source)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| Error::Run { program: compiler, source: error })?;
    if !result.status.success() {
        let output = String::from_utf8_lossy(&result.stderr).into_owned();
        return Err(Error::Failed { program: format!("rustc, compiling `{name}`"), status: result.status, output });
    }
    std::fs::rename(&output, &program).map_err(Error::file(&program))?;
    Ok(program)
}

fn cache_directory() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    cache.or_else(home).unwrap_or_else(std::env::temp_dir).join("shipway")
}
