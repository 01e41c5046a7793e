//! What a person sees, and what a script reads.
//!
//! The report goes to standard output; with `--json` it goes to standard error, and standard output gets one JSON document.
//! Progress bars are drawn on standard error, on a terminal only.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::SignedDuration;
use serde::Serialize;
use shipway_domain::{
    plan::{self, Tone},
    release::{Outcome, ReleaseRecord},
};

use crate::{cli::Color, problem::Problem};

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default();
const FAINT: Style = Style::new().dimmed();

/// Where a command shows what it does.
pub(crate) struct Screen {
    json: bool,
    out: ColorChoice,
    err: ColorChoice,
    live: bool,
    /// What is drawn at the moment, and has to step aside for a line.
    drawn: Mutex<Option<ProgressBar>>,
}

impl Screen {
    /// By what the person asked for and what the streams are.
    pub(crate) fn new(json: bool, color: Color) -> Screen {
        let choice = |auto: ColorChoice| match color {
            Color::Auto => auto,
            Color::Always => ColorChoice::AlwaysAnsi,
            Color::Never => ColorChoice::Never,
        };
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Screen {
            json,
            out: choice(AutoStream::choice(&io::stdout())),
            err: choice(AutoStream::choice(&io::stderr())),
            live: io::stderr().is_terminal() && !dumb,
            drawn: Mutex::new(None),
        }
    }

    /// A line of the report. A reader that went away ends nothing: the work is done in AWS.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        let write = || {
            if self.json {
                let _ = writeln!(AutoStream::new(io::stderr().lock(), self.err), "{}", text.as_ref());
            } else {
                let _ = writeln!(AutoStream::new(io::stdout().lock(), self.out), "{}", text.as_ref());
            }
        };
        match &*self.drawn.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// A line that warns.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        self.line(format!("{NOTE}note:{NOTE:#} {}", text.as_ref()));
    }

    /// What a script gets, with `--json`.
    pub(crate) fn document(&self, document: &impl Serialize) {
        if self.json {
            let text = serde_json::to_string_pretty(document).unwrap_or_default();
            let _ = writeln!(io::stdout().lock(), "{text}");
        }
    }

    /// Why the command ends.
    pub(crate) fn problem(&self, problem: &Problem) {
        self.cleared();
        let _ = writeln!(AutoStream::new(io::stderr().lock(), self.err), "{BAD}error:{BAD:#} {problem}");
        self.document(&problem.document());
    }

    /// Asks a question that is answered with `y` or `yes`; anything else is a no.
    pub(crate) fn confirmed(&self, question: &str) -> bool {
        matches!(self.answer(&format!("{question} [y/N]")).as_str(), "y" | "Y" | "yes" | "Yes")
    }

    /// Asks a question; what cannot be read is an empty answer.
    pub(crate) fn answer(&self, question: &str) -> String {
        let mut answer = String::new();
        let _ = write!(AutoStream::new(io::stderr().lock(), self.err), "{question} ");
        let _ = io::stderr().flush();
        let _ = io::stdin().read_line(&mut answer);
        answer.trim().to_owned()
    }

    /// Whether there is somebody to ask.
    pub(crate) fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// How many columns the report may use, where it is for a terminal.
    pub(crate) fn width(&self) -> Option<usize> {
        let size = if self.json {
            terminal_size::terminal_size_of(io::stderr())
        } else {
            terminal_size::terminal_size_of(io::stdout())
        };
        size.map(|(width, _)| usize::from(width.0))
    }

    /// Draws how many of so many bytes are done, where somebody is looking.
    pub(crate) fn draw_bytes(&self, what: &str, bytes: u64) -> ProgressBar {
        self.drawn_as(
            ProgressBar::new(bytes),
            "{msg} {wide_bar} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}",
            what,
        )
    }

    /// Draws how many of so many things are done, where somebody is looking.
    pub(crate) fn draw_count(&self, what: &str, count: u64) -> ProgressBar {
        self.drawn_as(ProgressBar::new(count), "{msg} {wide_bar} {pos} of {len}", what)
    }

    /// Draws that something is waited for, where somebody is looking.
    pub(crate) fn draw_waiting(&self, what: &str) -> ProgressBar {
        let bar = self.drawn_as(ProgressBar::new_spinner(), "{spinner} {elapsed} {wide_msg}", what);
        if self.live {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        bar
    }

    fn drawn_as(&self, bar: ProgressBar, template: &str, what: &str) -> ProgressBar {
        if !self.live {
            return ProgressBar::hidden();
        }
        let bar = bar.with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        *self.drawn.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        bar
    }

    /// Takes away what is drawn.
    pub(crate) fn cleared(&self) {
        if let Some(bar) = self.drawn.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

/// What became of a release, in a word or two.
pub(crate) fn word(release: &ReleaseRecord) -> &'static str {
    match release.outcome {
        Some(outcome) => outcome.word(),
        None if release.waits_for().is_some() => "needs approval",
        None => "under way",
    }
}

/// The same in its colour. The streams take the colour away again where it is not wanted.
pub(crate) fn told(release: &ReleaseRecord) -> String {
    let style = release.outcome.map_or(NOTE, style_of);
    format!("{style}{}{style:#}", word(release))
}

fn style_of(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Succeeded | Outcome::Unchanged => GOOD,
        Outcome::Superseded => NOTE,
        Outcome::Rejected | Outcome::RolledBack | Outcome::Failed => BAD,
    }
}

/// A line of a plan in its colour.
pub(crate) fn toned(line: &plan::Line) -> String {
    let style = match line.tone {
        Tone::Plain => return line.text.clone(),
        Tone::Heading => Style::new().bold(),
        Tone::Made => AnsiColor::Green.on_default(),
        Tone::Changed => NOTE,
        Tone::Grave => AnsiColor::Red.on_default(),
        Tone::Faint => FAINT,
    };
    format!("{style}{}{style:#}", line.text)
}

/// What matters less.
pub(crate) fn faint(text: impl std::fmt::Display) -> String {
    format!("{FAINT}{text}{FAINT:#}")
}

/// A size as a person says it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let (mut tenths, mut unit) = (bytes / 100, 0);
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        (tenths, unit) = (tenths / 1000, unit + 1);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A time as a person says it: `0.9 s`, `42 s`, `2 min 5 s`, `1 h 3 min`.
pub(crate) fn duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..10 => format!("{seconds}.{} s", duration.subsec_millis().max(0) / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_as_a_person_says_them() {
        let sizes = [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1000, "1.0 kB"),
            (1_250_000, "1.2 MB"),
            (999_999, "999.9 kB"),
            (5 << 30, "5.3 GB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        let times = [
            (-1, "0.0 s"),
            (970, "0.9 s"),
            (7_000, "7.0 s"),
            (42_900, "42 s"),
            (125_000, "2 min 5 s"),
            (3_780_000, "1 h 3 min"),
        ];
        for (time, text) in times {
            assert_eq!(duration(SignedDuration::from_millis(time)), text);
        }
        assert_eq!((count(1, "file"), count(0, "file")), ("1 file".to_owned(), "0 files".to_owned()));
    }
}
