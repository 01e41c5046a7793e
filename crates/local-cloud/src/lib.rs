//! AWS on this machine, for development and tests: MiniStack with what it lacks, behind a proxy of ours. Never shipped.
//!
//! - [`LocalCloud::start`] runs MiniStack (a program from PyPI) with IAM checks on. What MiniStack does unlike AWS inside
//!   a service is mended in its own process by the Python modules in `ministack/`.
//! - Every client, every function and `docker push` talk to our proxy, which counts their calls and lets tests make
//!   them fail ([`faults`]), or limits them as AWS does ([`limits`]).
//! - Containers are real: in Docker if an engine is given ([`docker`]), else the image's program runs as a process of
//!   this machine with an address of its own. Either way its exit code, its answers and its log are the program's.

#![allow(
    clippy::disallowed_methods,
    reason = "waiting for a process to start is this crate's work; no function of Shipway contains it"
)]

mod cloud;
mod control;
pub mod data_plane;
mod decisions;
pub mod docker;
mod error;
pub mod faults;
pub mod hello;
pub mod image;
pub mod limits;
mod ministack;
mod operation;
mod proxy;
mod registry;

pub use cloud::{Config, Containers, LocalCloud};
pub use decisions::Decision;
pub use error::Error;
pub use operation::Operation;
