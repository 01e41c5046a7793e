//! Running programs as named steps: one line with its time for each, its output only when it failed.

use std::io::{IsTerminal as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};

/// A list of steps that all run, so that one look shows all that is wrong.
#[derive(Default)]
pub(crate) struct Steps {
    failed: Vec<String>,
}

impl Steps {
    /// Runs a program; a failure is shown and remembered.
    pub(crate) fn run(&mut self, name: &str, command: &mut Command) {
        self.attempt(name, || quietly(command).map(drop));
    }

    /// Runs anything; a failure is shown and remembered.
    pub(crate) fn attempt(&mut self, name: &str, work: impl FnOnce() -> anyhow::Result<()>) {
        if let Err(error) = step(name, work) {
            println!("{error:#}\n");
            self.failed.push(name.to_owned());
        }
    }

    /// Fails, naming the steps that failed.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        if self.failed.is_empty() {
            return Ok(());
        }
        bail!("failed: {}", self.failed.join(", "))
    }
}

/// One step: its name while it runs, its time and outcome after.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let live = std::io::stdout().is_terminal();
    if live {
        print!("  … {name}");
        // A terminal that cannot be written to is no reason to stop.
        let _ = std::io::stdout().flush();
    }
    let started = Instant::now();
    let result = work();
    let mark = if result.is_ok() { "ok" } else { "FAILED" };
    let start = if live { "\r\x1b[2K" } else { "" };
    println!("{start}{:>7.1} s  {name}  {mark}", started.elapsed().as_secs_f64());
    result
}

/// Runs a program and answers what it wrote to its standard output; a failure carries all it wrote.
pub(crate) fn quietly(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", line(command)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    bail!("{} ({})\n{}{}", line(command), output.status, out, errors)
}

/// Runs a program whose output is for the person who waits.
pub(crate) fn openly(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", line(command)))?;
    if status.success() {
        return Ok(());
    }
    bail!("{} ({status})", line(command))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    // A script that is an argument would hide what it says.
    let short = |word: &str| if word.contains('\n') { "…".to_owned() } else { word.to_owned() };
    words.map(|word| short(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}
