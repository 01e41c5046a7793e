//! sync-frontend: makes a site's bucket hold what the release's zip holds, writing only what changed.

mod aws;
mod budget;
mod handler;
#[cfg(test)]
mod tests;
mod upload;

use std::time::{Duration, Instant};

/// How long one pass starts new work. The function's own timeout is far behind it, so that what was started can end.
const PASS: Duration = Duration::from_secs(300);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    shipway_aws::runtime::init_logs();
    let memory = std::env::var("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").ok().and_then(|mib| mib.parse().ok());
    let (calls, budget) = (&aws::Aws::from_env().await?, budget::Budget::of(memory.unwrap_or(1024)));
    shipway_aws::serve(|input| {
        let started = Instant::now();
        let is_spent = move || started.elapsed() > PASS;
        Box::pin(handler::handle(calls, input, budget, jiff::Timestamp::now(), is_spent))
    })
    .await
}
