//! What the functions share of AWS: how one is served, how an AWS error gets its public name, and the table.
//!
//! Each function owns the calls of its own service; only what every function needs is here.

pub mod error;
pub mod fetch;
pub mod runtime;
#[cfg(feature = "s3")]
pub mod s3;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{AwsError, PublicError};
pub use store::Store;
