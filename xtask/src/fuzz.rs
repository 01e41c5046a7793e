//! `cargo xtask fuzz` and `cargo xtask corpus`: the readers of what comes from outside, under libFuzzer and on archives from
//! elsewhere. The targets are in `fuzz/`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::run::{openly, quietly, step};
use crate::workspace::Workspace;
use crate::{cargo_tools, tools};

/// What is fuzzed, by the names of `fuzz/Cargo.toml`.
pub(crate) const TARGETS: [&str; 3] = ["archive", "event", "manifest"];

/// What one input may cost. The function has more, and this is with the sanitizer's own.
const LIMITS: [&str; 3] = ["-rss_limit_mb=768", "-malloc_limit_mb=64", "-timeout=10"];

/// Compares what ours and Python's reader find.
const COMPARE: &str = include_str!("../corpus.py");

/// Where libFuzzer comes from, and where it works.
struct Fuzzer {
    program: PathBuf,
    folder: PathBuf,
    target: PathBuf,
    cache: PathBuf,
}

impl Fuzzer {
    fn set_up() -> anyhow::Result<Fuzzer> {
        let (cache, workspace) = (tools::cache_directory()?, Workspace::find()?);
        Ok(Fuzzer {
            program: cargo_tools::FUZZ.program()?,
            folder: workspace.root.join("fuzz"),
            target: workspace.target.join("fuzz"),
            cache,
        })
    }

    fn command(&self, action: &str, target: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.folder)
            // The sanitizer's flags are not stable; the toolchain is the one that builds everything else.
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["fuzz", action, "--fuzz-dir", ".", "--target-dir"])
            .arg(&self.target)
            .arg(target);
        command
    }

    fn fuzz(&self, target: &str, seconds: u64) -> anyhow::Result<()> {
        // What was found interesting is kept from run to run; what breaks is shown and kept beside it.
        let directory = self.cache.join("fuzz");
        let corpus = directory.join(target);
        let broken = directory.join(format!("{target}-broken"));
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&broken)?;
        let log = directory.join(format!("{target}.log"));
        let mut command = self.command("run", target);
        command.env("SEEDS", &corpus).arg(&corpus).arg("--").args(LIMITS);
        command.arg(format!("-artifact_prefix={}/", broken.display())).arg(format!("-max_total_time={seconds}"));
        let known = fs::read_dir(&corpus)?.count();
        step(&format!("fuzz: {target}, {seconds} s, {known} known inputs"), || {
            let (output, errors) = (fs::File::create(&log)?, fs::File::options().append(true).open(&log)?);
            let status = command.stdin(Stdio::null()).stdout(output).stderr(errors).status()?;
            ensure!(
                status.success(),
                "{}\nthe input is in {}, the whole log is {}",
                told(&log)?,
                broken.display(),
                log.display()
            );
            Ok(())
        })
    }
}

/// What broke, without the thousands of lines of what did not.
fn told(log: &Path) -> anyhow::Result<String> {
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let is_start = |line: &&str| line.contains("panicked at") || line.contains("ERROR:") || line.starts_with("error");
    let start = lines.iter().position(is_start).unwrap_or(lines.len().saturating_sub(10));
    Ok(lines.iter().skip(start).take(10).copied().collect::<Vec<_>>().join("\n"))
}

/// Fuzzes one target, or each, for so many seconds.
pub(crate) fn fuzz(target: Option<&str>, seconds: u64) -> anyhow::Result<()> {
    let targets: Vec<&str> = TARGETS.into_iter().filter(|known| target.is_none_or(|target| target == *known)).collect();
    ensure!(!targets.is_empty(), "there is no such target; there are {}", TARGETS.join(", "));
    let fuzzer = Fuzzer::set_up()?;
    step("fuzz: built", || {
        targets.iter().try_for_each(|target| quietly(&mut fuzzer.command("build", target)).map(drop))
    })?;
    targets.iter().try_for_each(|target| fuzzer.fuzz(target, seconds))
}

/// Reads every archive below a directory with ours and with Python's reader, and tells in what they differ.
pub(crate) fn corpus(directory: &Path) -> anyhow::Result<()> {
    let (tools, fuzzer) = (tools::setup()?, Fuzzer::set_up()?);
    let directory = directory.canonicalize().with_context(|| directory.display().to_string())?;
    step("corpus: reader built", || quietly(&mut fuzzer.command("build", "corpus")))?;
    // In a folder that is named by the processor and system it is for.
    let built = fs::read_dir(&fuzzer.target)?.flatten().map(|entry| entry.path().join("release/corpus"));
    let reader = built.into_iter().find(|path| path.exists()).context("cargo-fuzz built no reader")?;
    let mut archives = Vec::new();
    find_archives(&directory, &mut archives)?;
    archives.sort();
    let found = step(&format!("corpus: {} archives read", archives.len()), || {
        let mut reading = Command::new(&reader).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut names = reading.stdin.take().context("no standard input")?;
        // Written beside the reading: a pipe holds only so much.
        let list = archives.join("\n");
        let writing = std::thread::spawn(move || names.write_all(list.as_bytes()));
        let output = reading.wait_with_output()?;
        ensure!(output.status.success(), "the reader ended with {}", output.status);
        writing.join().map_err(|_| anyhow::anyhow!("the list was not written"))??;
        Ok(output.stdout)
    })?;
    let file = fuzzer.target.join("corpus.jsonl");
    fs::write(&file, found)?;
    openly(tools.command("python")?.args(["-c", COMPARE]).stdin(fs::File::open(&file)?))
}

/// What begins like a zip or is called so.
fn find_archives(directory: &Path, found: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            find_archives(&path, found)?;
        } else if kind.is_file() {
            let mut start = [0; 2];
            let is_zip = std::io::Read::read_exact(&mut fs::File::open(&path)?, &mut start).is_ok() && start == *b"PK";
            let is_called_so = path.extension().is_some_and(|extension| extension == "zip");
            found.extend((is_zip || is_called_so).then(|| path.to_str().map(str::to_owned)).flatten());
        }
    }
    Ok(())
}
