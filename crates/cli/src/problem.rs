//! What a person is told when a command cannot do its work: what is wrong, where, and what to do.

use std::{error::Error, fmt};

use serde_json::{Value, json};
use shipway_aws::{AwsError, PublicError as _, store::StoreError};
use shipway_domain::failure::Failure;

use crate::exit::Exit;

/// Why a command ends without having done its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    what: String,
    place: Option<String>,
    remedy: Option<String>,
    exit: Exit,
    denied: bool,
}

impl Problem {
    /// A problem of the command itself, or of what it is given.
    pub(crate) fn new(what: impl Into<String>) -> Problem {
        Problem { what: what.into(), place: None, remedy: None, exit: Exit::Trouble, denied: false }
    }

    /// The input is at fault: what AWS would refuse too, found before it is asked.
    pub(crate) fn rejected(what: impl Into<String>) -> Problem {
        Problem { exit: Exit::Rejected, ..Problem::new(what) }
    }

    /// A right is missing.
    pub(crate) fn denied(what: impl Into<String>) -> Problem {
        Problem { denied: true, ..Problem::new(what) }
    }

    /// Where it is, unless that is said already.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Problem {
        self.place.get_or_insert_with(|| place.to_string());
        self
    }

    /// What to do about it, unless that is said already.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Problem {
        self.remedy.get_or_insert_with(|| remedy.into());
        self
    }

    /// What can be done too.
    pub(crate) fn or(mut self, other: &str) -> Problem {
        self.remedy = Some(match self.remedy {
            Some(remedy) => format!("{remedy}; or {other}"),
            None => other.to_owned(),
        });
        self
    }

    /// The same problem, where the command ends otherwise.
    pub(crate) fn exiting(self, exit: Exit) -> Problem {
        Problem { exit, ..self }
    }

    /// How the command ends.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether a right is missing.
    pub(crate) fn is_denied(&self) -> bool {
        self.denied
    }

    /// What is wrong.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// For a script.
    pub(crate) fn document(&self) -> Value {
        json!({
            "error": {"what": self.what, "where": self.place, "remedy": self.remedy},
            "exit": self.exit.code(),
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(place) = &self.place {
            write!(f, "\n  where: {place}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  to do: {remedy}")?;
        }
        Ok(())
    }
}

impl Error for Problem {}

/// Codes with which AWS refuses the credentials and not the call.
const BAD_CREDENTIALS: [&str; 7] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

const SIGN_IN: &str = "sign in (`aws sso login`), name another profile with --profile, or set AWS_ACCESS_KEY_ID and \
                       AWS_SECRET_ACCESS_KEY";

impl From<AwsError> for Problem {
    fn from(error: AwsError) -> Problem {
        let (call, message) = (error.call(), error.message());
        match (error.code(), error.failure()) {
            (Some(code), _) if BAD_CREDENTIALS.contains(&code) => {
                Problem::new(format!("AWS does not take the credentials: {code}: {message}")).remedy(SIGN_IN)
            }
            (Some(code), Failure::Denied) => Problem::denied(format!("{call} was refused: {code}: {message}"))
                .remedy(format!("let the role or user of your credentials do {call} there")),
            (Some(code), Failure::Quota) => Problem::new(format!("{call} was refused: {code}: {message}"))
                .remedy("ask AWS for a higher quota or free some"),
            (Some(code), _) => Problem::new(format!("{call} answered {code}: {message}")),
            (None, _) if message.contains("credential") || message.contains("identity") => {
                Problem::new(format!("there are no credentials for AWS: {message}")).remedy(SIGN_IN)
            }
            (None, _) => Problem::new(format!("{call} got no answer: {message}"))
                .remedy("check the network, the region, and AWS_ENDPOINT_URL if it is set"),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        match error {
            StoreError::Aws(error) => error.into(),
            StoreError::Missing(what) => Problem::rejected(what),
            StoreError::Unreadable { .. } => {
                Problem::new(error.to_string()).remedy("update this command: the installed Shipway is newer than it")
            }
            StoreError::Changed
            | StoreError::Superseded { .. }
            | StoreError::Unwritable { .. }
            | StoreError::Busy(_) => Problem::new(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_where_and_what_to_do_once_each() {
        let problem = Problem::new("it is broken").at("here").at("there").remedy("mend it").remedy("leave it");
        assert_eq!(problem.to_string(), "it is broken\n  where: here\n  to do: mend it");
        assert!(problem.clone().or("buy a new one").to_string().ends_with("to do: mend it; or buy a new one"));
        assert_eq!(problem.exit(), Exit::Trouble);
        assert_eq!(Problem::rejected("no").exit(), Exit::Rejected);
        assert_eq!(Problem::new("bare").to_string(), "bare");
    }

    #[test]
    fn a_script_gets_the_same_parts() {
        let document = Problem::rejected("no").at("dist").document();
        assert_eq!(document, json!({"error": {"what": "no", "where": "dist", "remedy": null}, "exit": 3}));
    }
}
