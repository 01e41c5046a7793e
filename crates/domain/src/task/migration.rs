//! A migration: a one-off task that must end well before its service changes.
//!
//! It is judged by the end of the task alone, for a fast one is never seen running, and by the exit code of the service's own
//! container: a task whose image could not be pulled has none, and counts as failed.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Task;

/// How long ECS may not show a task that it has just started.
pub const SETTLE: SignedDuration = SignedDuration::from_secs(60);

/// What a migration writes down between passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The revision it runs. Written before the task is asked for, so that asking again asks for the same.
    pub task_definition: String,
    /// How often a task was asked for and refused: part of the token that makes asking again harmless.
    #[serde(default)]
    pub refused: u32,
    /// When it was asked for.
    pub since: Timestamp,
    /// The task, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Set before the task is stopped because its time is up.
    #[serde(default)]
    pub timed_out: bool,
    /// Whether the log was waited for.
    #[serde(default)]
    pub log_awaited: bool,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

impl Progress {
    /// A migration that has not started its task yet.
    pub fn new(task_definition: String, now: Timestamp) -> Progress {
        Progress { task_definition, refused: 0, since: now, task: None, timed_out: false, log_awaited: false, ending: None }
    }
}

/// How a migration ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its container ended with 0.
    Succeeded,
    /// Anything else, and what.
    Failed(String),
}

/// What to do next about a migration whose task is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look again.
    Wait {
        /// In so many seconds.
        seconds: u32,
        /// What is waited for.
        note: String,
    },
    /// Stop the task: its time is up. It is let go only once it has stopped.
    Stop,
    /// It ended.
    End(Ending),
}

/// Decides what to do next about a migration. `task` is none when ECS does not know it, any more or yet.
pub fn next_action(progress: &Progress, task: Option<&Task>, container: &str, timeout: SignedDuration, now: Timestamp) -> Action {
    let elapsed = now.duration_since(progress.since);
    let Some(task) = task else {
        return if elapsed < SETTLE {
            Action::Wait { seconds: 2, note: "ECS does not show the task yet".to_owned() }
        } else {
            Action::End(Ending::Failed("ECS does not know the task any more, so how it ended cannot be told".to_owned()))
        };
    };
    if task.stopped() {
        return Action::End(ending(progress, task, container, timeout));
    }
    if progress.timed_out && task.stopping {
        return Action::Wait { seconds: 3, note: format!("task {} is stopping: its time was up", task.id()) };
    }
    if progress.timed_out || elapsed >= timeout {
        return Action::Stop;
    }
    let seconds = if elapsed < SignedDuration::from_secs(30) { 2 } else { 5 };
    Action::Wait { seconds, note: format!("task {} is {}", task.id(), task.status) }
}

fn ending(progress: &Progress, task: &Task, container: &str, timeout: SignedDuration) -> Ending {
    let code = task.container(container).and_then(|container| container.exit_code);
    // Whoever stops a task may find its process polite enough to end with 0, half way.
    let by_itself = match task.stop_code.as_deref() {
        Some(code) => code == "EssentialContainerExited",
        None => !progress.timed_out,
    };
    if code == Some(0) && by_itself {
        return Ending::Succeeded;
    }
    let why = task.why_stopped(container);
    Ending::Failed(if progress.timed_out && !by_itself {
        format!("it was stopped because it did not end within {} seconds: {why}", timeout.as_secs())
    } else {
        why
    })
}
