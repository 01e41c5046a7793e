//! What Shipway decides, without AWS: names, the manifest, releases and claims, the network plan, the platform's stacks,
//! the room on instances, what keeps a release from beginning, the verdict on a rollout, which images are kept, which service goes first, what a rotated secret restarts, what people are told of Shipway itself, the difference between two versions of a site, the invalidation that covers it.
//!
//! Nothing here knows an SDK, reads a clock or does I/O. Time comes in as a value, the world as an `Observed` type, and what to
//! do about it goes out as a plain value for a function's `aws.rs` to perform.

pub mod alarm;
pub mod approval;
pub mod capacity;
pub mod console;
pub mod drift;
pub mod edge;
pub mod event;
pub mod failure;
pub mod invalidation;
pub mod keeping;
pub mod manifest;
pub mod message;
pub mod name;
pub mod network;
pub mod notice;
pub mod order;
pub mod plan;
pub mod platform;
pub mod preflight;
pub mod release;
pub mod rollout;
pub mod rotation;
pub mod scan;
pub mod site;
pub mod smoke;
pub mod task;
pub mod teardown;
