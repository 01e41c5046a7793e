//! sync-frontend: makes a site's bucket hold what the release's zip holds, uploading only what changed.

mod archive;
mod aws;
mod content;
mod handler;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

/// How long one pass starts new work. The function's own timeout is far behind it, so that what was started can end.
const PASS: Duration = Duration::from_secs(300);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    shipway_aws::runtime::init_logs();
    let calls = &aws::Aws::from_env().await?;
    shipway_aws::serve(|input| {
        let started = Instant::now();
        Box::pin(handler::handle(calls, input, move || started.elapsed() > PASS))
    })
    .await
}
