//! The public names of what can go wrong. A name is what a state machine matches, what a person reads first in the
//! execution's history, and what decides the outcome of the release it ended.

use std::fmt;

/// Whose fault, and whether trying again can help. The `Display` form is the error's public name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The execution's input is not one Shipway could have made.
    RejectedInput,
    /// The manifest cannot be used as it is written.
    RejectedManifest,
    /// The image cannot be rolled out: not there, or not for this service.
    RejectedImage,
    /// The zip cannot be published.
    RejectedArchive,
    /// IAM, or a resource's policy, refused the call.
    Denied,
    /// A limit of the account is reached.
    Quota,
    /// Something is there that is not ours, or in a state that only a person can end.
    Conflict,
    /// What was waited for did not come in its time.
    Timeout,
    /// AWS could not answer now; the same call later can succeed.
    Transient,
    /// Another release took this component over; this one must stop and touch nothing.
    Superseded,
    /// A migration ended in anything but success.
    Migration,
    /// Shipway itself is at fault.
    Bug,
}

impl Failure {
    /// Every failure, for tables and for the contract tests that hold the state machines against them.
    pub const ALL: [Failure; 12] = [
        Failure::RejectedInput,
        Failure::RejectedManifest,
        Failure::RejectedImage,
        Failure::RejectedArchive,
        Failure::Denied,
        Failure::Quota,
        Failure::Conflict,
        Failure::Timeout,
        Failure::Transient,
        Failure::Superseded,
        Failure::Migration,
        Failure::Bug,
    ];

    /// The public name, as a machine's `ErrorEquals` sees it.
    pub const fn name(self) -> &'static str {
        match self {
            Failure::RejectedInput => "Rejected.Input",
            Failure::RejectedManifest => "Rejected.Manifest",
            Failure::RejectedImage => "Rejected.Image",
            Failure::RejectedArchive => "Rejected.Archive",
            Failure::Denied => "Denied",
            Failure::Quota => "Quota",
            Failure::Conflict => "Conflict",
            Failure::Timeout => "Timeout",
            Failure::Transient => "Transient",
            Failure::Superseded => "Superseded",
            Failure::Migration => "Migration",
            Failure::Bug => "Bug",
        }
    }

    /// Whether the same pass, made again a little later, can succeed without anybody doing anything.
    pub const fn retryable(self) -> bool {
        matches!(self, Failure::Transient)
    }

    /// The failure with this public name.
    pub fn from_name(name: &str) -> Option<Failure> {
        Failure::ALL.into_iter().find(|failure| failure.name() == name)
    }

    /// Whether the input is at fault: it is refused, and trying it again cannot help.
    pub const fn is_rejection(self) -> bool {
        matches!(
            self,
            Failure::RejectedInput | Failure::RejectedManifest | Failure::RejectedImage | Failure::RejectedArchive
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_found_by_its_name() {
        for failure in Failure::ALL {
            assert_eq!(Failure::from_name(failure.name()), Some(failure));
        }
        assert_eq!(Failure::from_name("Lambda.Unknown"), None);
    }

    #[test]
    fn a_rejection_is_never_retried() {
        for failure in Failure::ALL {
            assert!(!(failure.is_rejection() && failure.retryable()), "{failure}");
            assert_eq!(failure.is_rejection(), failure.name().starts_with("Rejected."), "{failure}");
        }
    }
}
