//! What can go wrong with the local cloud itself.

use std::path::PathBuf;
use std::process::ExitStatus;

/// Why the local cloud could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// MiniStack ended before it answered.
    #[error("MiniStack ended ({status}); its log ends with:\n{log}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// MiniStack did not answer in time.
    #[error("MiniStack was not ready after {seconds} s; its log ends with:\n{log}")]
    NotReady {
        /// How long we waited.
        seconds: u64,
        /// The last lines of its log.
        log: String,
    },
    /// A program could not be run at all.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("{program} failed ({status}):\n{output}")]
    Failed {
        /// The program and what it was to do.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote.
        output: String,
    },
    /// A file or directory could not be read or written.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No answer to a request.
    #[error("{request} got no answer")]
    Request {
        /// Method and URL.
        request: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer that says no.
    #[error("{request} was answered {status}: {body}")]
    Refused {
        /// Method and URL.
        request: String,
        /// The HTTP status.
        status: http::StatusCode,
        /// The body.
        body: String,
    },
    /// There is no Docker engine.
    #[error("no Docker engine answers at {host}")]
    NoDocker {
        /// Where we looked.
        host: String,
    },
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
