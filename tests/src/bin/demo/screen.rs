//! What a person sees of a demo: a line for each step.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A terminal gets a line that moves, anything else a line for each state.
pub(crate) struct Screen {
    pub(crate) live: bool,
    pub(crate) started: Instant,
}

/// A step that is shown.
pub(crate) struct Shown {
    pub(crate) started: Instant,
    bar: Option<ProgressBar>,
    what: String,
    states: std::sync::Mutex<Vec<String>>,
}

impl Screen {
    /// Begins a step.
    pub(crate) fn step(&self, what: &str) -> Shown {
        let bar = self.live.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar.set_message(what.to_owned());
            bar
        });
        if bar.is_none() {
            println!("  … {what}");
        }
        Shown { started: Instant::now(), bar, what: what.to_owned(), states: std::sync::Mutex::default() }
    }
}

impl Shown {
    /// The execution entered a state. Loops are told once for each round only as a count.
    pub(crate) fn passes(&self, state: &str) {
        let Ok(mut states) = self.states.lock() else { return };
        if states.iter().any(|known| known == state) {
            return;
        }
        states.push(state.to_owned());
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}: {}", self.what, states.join(" → "))),
            None => println!("      {:>6.1} s  {state}", self.started.elapsed().as_secs_f64()),
        }
    }

    /// The step is done.
    pub(crate) fn done(self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            if let Ok(states) = self.states.lock()
                && !states.is_empty()
            {
                println!("    {}", states.join(" → "));
            }
        }
        println!("  ✓ {what} ({:.1} s)", self.started.elapsed().as_secs_f64());
    }
}
