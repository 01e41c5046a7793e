//! The five systems, each from its one manifest, under IAM checks: what AWS then shows is what their owners describe. Each is
//! applied from nothing, applied again without a write, and torn down to nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]
#![allow(clippy::disallowed_methods, reason = "what must not be made is waited for")]

mod broken_off;
mod dougust;
mod drift;
mod fastapi_react;
mod inventory;
mod next_nest;
mod rex;
mod spa_nest;
mod system;
