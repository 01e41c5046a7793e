//! sync-frontend: makes a site's bucket hold what the release's zip holds, writing only what changed; and empties buckets before
//! a teardown.

mod aws;
mod budget;
mod empty;
mod handler;
#[cfg(test)]
mod tests;
mod upload;

use std::time::{Duration, Instant};

use handler::{Asked, Error, handle};
use jiff::Timestamp;
use serde::Serialize;
use shipway_aws::runtime::{prepare, serve, setting};
use shipway_domain::message::{Pass, PassInput, Summary};

/// How long one pass starts new work. The function's own timeout is far behind it, so that what was started can end.
const PASS: Duration = Duration::from_secs(300);

/// The answer of a pass, whatever it was for.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Published(Pass<handler::Answer>),
    Emptied(Pass<Summary>),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let memory = std::env::var("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").ok().and_then(|mib| mib.parse().ok());
    let (config, store) = prepare().await?;
    let calls = &aws::Aws::new(&config, store, setting("INTAKE_BUCKET")?);
    let budget = budget::Budget::of(memory.unwrap_or(1024));
    serve(|PassInput { run, action }| {
        let (started, now) = (Instant::now(), Timestamp::now());
        let is_spent = move || started.elapsed() > PASS;
        async move {
            Ok::<Answer, Error>(match action {
                Asked::Publish(action) => {
                    let pass = handle(calls, PassInput { run, action }, budget, now, is_spent);
                    Answer::Published(Box::pin(pass).await?)
                }
                Asked::Empty(empty::Action::Empty) => {
                    let pass = empty::handle(calls.store(), calls, &run, now, is_spent);
                    Answer::Emptied(Box::pin(pass).await?)
                }
            })
        }
    })
    .await
}
