//! What the command's exit code means. The same codes for every command, so that a script asks once.

use std::process::ExitCode;

use shipway_domain::release::Outcome;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is so.
    Done,
    /// Something is not as it should be, and was only looked at.
    Drift,
    /// The command was used wrongly, or could not do its work.
    Trouble,
    /// The input is at fault; nothing was changed.
    Rejected,
    /// It did not hold; what was live before serves again.
    RolledBack,
    /// It is not live, or a person must look.
    Failed,
    /// Something newer took its place.
    Superseded,
    /// How it ended is not known.
    Unknown,
}

impl Exit {
    /// All of them, in the order of their codes.
    pub(crate) const ALL: [Exit; 8] = [
        Exit::Done,
        Exit::Drift,
        Exit::Trouble,
        Exit::Rejected,
        Exit::RolledBack,
        Exit::Failed,
        Exit::Superseded,
        Exit::Unknown,
    ];

    /// The code. Published: scripts rely on it.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Drift => 1,
            Exit::Trouble => 2,
            Exit::Rejected => 3,
            Exit::RolledBack => 4,
            Exit::Failed => 5,
            Exit::Superseded => 6,
            Exit::Unknown => 7,
        }
    }

    /// What it means, for the help.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done: it succeeded, or there was nothing to change",
            Exit::Drift => "something differs from what it should be; nothing was changed",
            Exit::Trouble => "the command was used wrongly, or could not do its work",
            Exit::Rejected => "rejected: the input is at fault; nothing was changed",
            Exit::RolledBack => "rolled back: it did not hold; what was live before serves again",
            Exit::Failed => "failed: it is not live, or a person must look",
            Exit::Superseded => "superseded: something newer took its place",
            Exit::Unknown => "not known: the release was not seen, or nothing was heard of it any more",
        }
    }

    /// The table of all codes.
    pub(crate) fn table() -> String {
        let lines = Exit::ALL.map(|exit| format!("  {}  {}", exit.code(), exit.meaning()));
        format!("Exit codes:\n{}", lines.join("\n"))
    }
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Exit {
        match outcome {
            Outcome::Succeeded | Outcome::Unchanged => Exit::Done,
            Outcome::Superseded => Exit::Superseded,
            Outcome::Rejected => Exit::Rejected,
            Outcome::RolledBack => Exit::RolledBack,
            Outcome::Failed => Exit::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_but_the_good_ones_has_a_code_of_its_own() {
        let outcomes = [
            (Outcome::Succeeded, 0),
            (Outcome::Unchanged, 0),
            (Outcome::Rejected, 3),
            (Outcome::RolledBack, 4),
            (Outcome::Failed, 5),
            (Outcome::Superseded, 6),
        ];
        for (outcome, code) in outcomes {
            assert_eq!(Exit::from(outcome).code(), code, "{outcome}");
        }
    }

    #[test]
    fn codes_count_up() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, (0..8).collect::<Vec<u8>>());
    }
}
