//! A migration, or another one-off task that must end well before its service changes.
//!
//! It is judged by the end of the task alone, for a fast one is never seen running, and by the exit code of the service's own
//! container: a task whose image could not be pulled has none, and counts as failed.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Placement, Task, databases::Making};
use crate::manifest::Migrate;

/// How long ECS may not show a task that it has just started.
pub const SETTLE: SignedDuration = SignedDuration::from_secs(60);

/// What a migration consists of, in this order: one-off tasks of the service's own image, each of which must end well before the
/// next one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The migration itself.
    Migrate,
    /// What puts in what must be there.
    Seed,
    /// What looks whether all is as it must be.
    Verify,
}

impl Part {
    /// All of them, in their order.
    pub const ALL: [Part; 3] = [Part::Migrate, Part::Seed, Part::Verify];

    /// Its command; empty where the manifest has none.
    #[must_use]
    pub fn command(self, migrate: &Migrate) -> &[String] {
        match self {
            Part::Migrate => &migrate.command,
            Part::Seed => &migrate.seed,
            Part::Verify => &migrate.verify,
        }
    }

    /// The key of its command in the manifest.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Part::Migrate => "command",
            Part::Seed => "seed",
            Part::Verify => "verify",
        }
    }

    /// Its own name in its release's record, and the first part of its log streams.
    #[must_use]
    pub const fn stream(self) -> &'static str {
        match self {
            Part::Migrate => "migrate",
            Part::Seed => "seed",
            Part::Verify => "verify",
        }
    }

    /// What the family of its task definitions ends with. An underscore is in no component's name, so this is no service's.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Part::Migrate => "-migrate",
            Part::Seed => "_seed",
            Part::Verify => "_verify",
        }
    }

    /// What it is, for a person.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Part::Migrate => "migration",
            Part::Seed => "seed",
            Part::Verify => "verification",
        }
    }
}

/// What a migration writes down between passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The databases it makes, where it is not the migration itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub making: Option<Making>,
    /// What follows a migration that ends well, in order, each with the revision it runs. Written down with the migration itself,
    /// so another manifest meanwhile changes nothing about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<(Part, String)>,
    /// What it runs, where it is a smoke test: several are told from each other by it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// The revision it runs. Written before the task is asked for, so that asking again asks for the same.
    pub task_definition: String,
    /// Where it runs.
    #[serde(default)]
    pub placement: Placement,
    /// Where it logs.
    #[serde(default)]
    pub log_group: String,
    /// How long it may take.
    pub timeout_seconds: u32,
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
    pub fn new(task_definition: String, timeout_seconds: u32, now: Timestamp) -> Progress {
        Progress {
            making: None,
            then: Vec::new(),
            command: String::new(),
            task_definition,
            placement: Placement::default(),
            log_group: String::new(),
            timeout_seconds,
            refused: 0,
            since: now,
            task: None,
            timed_out: false,
            log_awaited: false,
            ending: None,
        }
    }

    /// What follows this migration: another task in the same place, that has not started yet.
    #[must_use]
    pub fn following(&self, task_definition: &str, now: Timestamp) -> Progress {
        Progress {
            placement: self.placement.clone(),
            log_group: self.log_group.clone(),
            ..Progress::new(task_definition.to_owned(), self.timeout_seconds, now)
        }
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
pub fn next_action(progress: &Progress, task: Option<&Task>, container: &str, now: Timestamp) -> Action {
    let elapsed = now.duration_since(progress.since);
    let Some(task) = task else {
        return if elapsed < SETTLE {
            Action::Wait { seconds: 2, note: "ECS does not show the task yet".to_owned() }
        } else {
            Action::End(Ending::Failed(
                "ECS does not know the task any more, so how it ended cannot be told".to_owned(),
            ))
        };
    };
    if task.stopped() {
        return Action::End(ending(progress, task, container));
    }
    if progress.timed_out && task.stopping {
        return Action::Wait { seconds: 3, note: format!("task {} is stopping: its time was up", task.id()) };
    }
    if progress.timed_out || elapsed >= SignedDuration::from_secs(i64::from(progress.timeout_seconds)) {
        return Action::Stop;
    }
    let seconds = if elapsed < SignedDuration::from_secs(30) { 2 } else { 5 };
    Action::Wait { seconds, note: format!("task {} is {}", task.id(), task.status) }
}

fn ending(progress: &Progress, task: &Task, container: &str) -> Ending {
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
        format!("it was stopped because it did not end within {} seconds: {why}", progress.timeout_seconds)
    } else {
        why
    })
}

#[cfg(test)]
mod tests {
    use super::{super::TaskContainer, *};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn task(status: &str, stop_code: Option<&str>, exit_code: Option<i32>) -> Task {
        Task {
            arn: "arn:aws:ecs:r:a:task/c/77".to_owned(),
            status: status.to_owned(),
            stopping: stop_code.is_some(),
            stop_code: stop_code.map(str::to_owned),
            stopped_reason: stop_code.map(|code| format!("reason of {code}")),
            containers: vec![
                TaskContainer { name: "sidecar".to_owned(), exit_code: Some(0), ..TaskContainer::default() },
                TaskContainer { name: "api".to_owned(), exit_code, ..TaskContainer::default() },
            ],
            ..Task::default()
        }
    }

    fn decide(timed_out: bool, task: Option<&Task>, seconds: i64) -> Action {
        let progress =
            Progress { task: Some("77".to_owned()), timed_out, ..Progress::new("family:1".to_owned(), 600, at(0)) };
        next_action(&progress, task, "api", at(seconds))
    }

    fn failed(action: &Action) -> &str {
        match action {
            Action::End(Ending::Failed(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_exit_code_0_of_the_named_container_is_success() {
        let exited = "EssentialContainerExited";
        assert_eq!(decide(false, Some(&task("STOPPED", Some(exited), Some(0))), 5), Action::End(Ending::Succeeded));
        assert_eq!(decide(false, Some(&task("STOPPED", None, Some(0))), 5), Action::End(Ending::Succeeded));
        let table = [
            (task("STOPPED", Some(exited), Some(1)), "reason of EssentialContainerExited (exit code 1)"),
            (
                task("STOPPED", Some("TaskFailedToStart"), None),
                "reason of TaskFailedToStart (no exit code: the container never ran)",
            ),
            // Stopped by a person, a process may still end with 0.
            (task("STOPPED", Some("UserInitiated"), Some(0)), "reason of UserInitiated (exit code 0)"),
            (
                task("STOPPED", Some(exited), None),
                "reason of EssentialContainerExited (no exit code: the container never ran)",
            ),
        ];
        for (task, expected) in table {
            assert_eq!(failed(&decide(false, Some(&task), 5)), expected);
        }
    }

    #[test]
    fn what_has_not_stopped_is_waited_for_until_its_time_is_up_then_stopped_then_waited_for() {
        let running = task("RUNNING", None, None);
        assert!(matches!(decide(false, Some(&running), 599), Action::Wait { .. }));
        assert_eq!(decide(false, Some(&running), 600), Action::Stop);
        // Cut off between writing it down and stopping the task.
        assert_eq!(decide(true, Some(&running), 10), Action::Stop);
        let stopping = Task { stopping: true, ..running };
        assert!(matches!(decide(true, Some(&stopping), 6000), Action::Wait { .. }));
        let killed = task("STOPPED", Some("UserInitiated"), Some(137));
        assert_eq!(
            failed(&decide(true, Some(&killed), 700)),
            "it was stopped because it did not end within 600 seconds: reason of UserInitiated (exit code 137, killed, often for lack of memory)"
        );
    }

    #[test]
    fn one_that_ended_well_just_before_it_was_stopped_ended_well() {
        let done = task("STOPPED", Some("EssentialContainerExited"), Some(0));
        assert_eq!(decide(true, Some(&done), 700), Action::End(Ending::Succeeded));
    }

    #[test]
    fn a_task_that_ecs_does_not_know_is_new_or_lost() {
        assert!(matches!(decide(false, None, 59), Action::Wait { .. }));
        assert!(failed(&decide(false, None, 60)).contains("does not know the task any more"));
    }
}
