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
    /// The image's scan found what must not go live, or could not be trusted.
    RejectedScan,
    /// A person refused the release, or nobody approved it in time.
    RejectedApproval,
    /// The zip cannot be published.
    RejectedArchive(Archive),
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
    /// Something that a rollout needs is not there; nothing was changed.
    Preflight,
    /// The new version served, and something that must hold then did not.
    Smoke,
    /// Shipway itself is at fault.
    Bug,
}

impl Failure {
    const OTHERS: [Failure; 15] = [
        Failure::RejectedInput,
        Failure::RejectedManifest,
        Failure::RejectedImage,
        Failure::RejectedScan,
        Failure::RejectedApproval,
        Failure::Denied,
        Failure::Quota,
        Failure::Conflict,
        Failure::Timeout,
        Failure::Transient,
        Failure::Superseded,
        Failure::Migration,
        Failure::Preflight,
        Failure::Smoke,
        Failure::Bug,
    ];

    /// Every failure, for tables and for the contract tests that hold the state machines against them.
    pub fn all() -> impl Iterator<Item = Failure> {
        Failure::OTHERS.into_iter().chain(Archive::ALL.iter().copied().map(Failure::RejectedArchive))
    }

    /// The public name, as a machine's `ErrorEquals` sees it.
    pub const fn name(self) -> &'static str {
        match self {
            Failure::RejectedInput => "Rejected.Input",
            Failure::RejectedManifest => "Rejected.Manifest",
            Failure::RejectedImage => "Rejected.Image",
            Failure::RejectedScan => "Rejected.Scan",
            Failure::RejectedApproval => "Rejected.Approval",
            Failure::RejectedArchive(why) => why.name(),
            Failure::Denied => "Denied",
            Failure::Quota => "Quota",
            Failure::Conflict => "Conflict",
            Failure::Timeout => "Timeout",
            Failure::Transient => "Transient",
            Failure::Superseded => "Superseded",
            Failure::Migration => "Migration",
            Failure::Preflight => "Preflight",
            Failure::Smoke => "Smoke",
            Failure::Bug => "Bug",
        }
    }

    /// Whether the same pass, made again a little later, can succeed without anybody doing anything.
    pub const fn retryable(self) -> bool {
        matches!(self, Failure::Transient)
    }

    /// The failure with this public name.
    pub fn from_name(name: &str) -> Option<Failure> {
        Failure::all().find(|failure| failure.name() == name)
    }

    /// Whether the input is at fault: it is refused, and trying it again cannot help.
    pub const fn is_rejection(self) -> bool {
        matches!(
            self,
            Failure::RejectedInput
                | Failure::RejectedManifest
                | Failure::RejectedImage
                | Failure::RejectedScan
                | Failure::RejectedApproval
                | Failure::RejectedArchive(_)
        )
    }
}

macro_rules! archive {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Why a zip is not published. Each has a public name of its own: `Rejected.` and the variant's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Archive {
            $($(#[$doc])* $name,)*
        }

        impl Archive {
            /// All of them.
            pub const ALL: &[Archive] = &[$(Archive::$name),*];

            /// The public name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Archive::$name => concat!("Rejected.", stringify!($name)),)*
                }
            }
        }
    };
}

archive! {
    /// It is no longer in the intake bucket.
    Gone,
    /// It is something else.
    NotAZip,
    /// Its end is missing.
    Truncated,
    /// It is one of several parts.
    MultiDisk,
    /// Its directory cannot be read, or is not what it says.
    Directory,
    /// No file is in it.
    Empty,
    /// There is no page to start with.
    NoIndex,
    /// It has too many entries.
    TooMany,
    /// Its files are too large together.
    TooLarge,
    /// An entry would grow too much.
    Ratio,
    /// An entry needs a password.
    Encrypted,
    /// An entry is packed in a way that is not read.
    Method,
    /// An entry is a symbolic link.
    Symlink,
    /// An entry is a device or a socket.
    Device,
    /// An entry's name is not UTF-8.
    NotUtf8,
    /// An entry's path begins at the root of a disk.
    Absolute,
    /// An entry's path leads out of the folder, or has an empty part.
    Traversal,
    /// An entry's path has a backslash.
    Backslash,
    /// An entry's path has a drive letter.
    Drive,
    /// An entry's name has NUL or another control character.
    Control,
    /// An entry's name has a character that is a wildcard to CloudFront.
    Wildcard,
    /// An entry's path is too long to be a key.
    LongPath,
    /// An entry's path is Shipway's own.
    Reserved,
    /// An entry is there twice.
    Repeated,
    /// An entry shares bytes with another.
    Overlap,
    /// An entry's two headers differ.
    Header,
    /// An entry's content cannot be unpacked.
    Damaged,
    /// An entry's content is larger or smaller than it should be.
    Size,
    /// An entry's content has another checksum.
    Checksum,
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
        for failure in Failure::all() {
            assert_eq!(Failure::from_name(failure.name()), Some(failure));
        }
        assert_eq!(Failure::from_name("Lambda.Unknown"), None);
    }

    #[test]
    fn no_two_failures_share_a_name() {
        let names: std::collections::BTreeSet<&str> = Failure::all().map(Failure::name).collect();
        assert_eq!(names.len(), Failure::all().count());
    }

    #[test]
    fn a_rejection_is_never_retried() {
        for failure in Failure::all() {
            assert!(!(failure.is_rejection() && failure.retryable()), "{failure}");
            assert_eq!(failure.is_rejection(), failure.name().starts_with("Rejected."), "{failure}");
        }
    }
}
