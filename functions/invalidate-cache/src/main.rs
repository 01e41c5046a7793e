//! invalidate-cache: tells CloudFront how a publication's URLs find their files, and makes it forget what was replaced.

mod aws;
mod handler;
#[cfg(test)]
mod tests;

use shipway_aws::runtime::{prepare, serve, setting};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let (config, store) = prepare().await?;
    let calls = &aws::Aws::new(&config, store, setting("INTAKE_BUCKET")?);
    serve(|input| Box::pin(handler::handle(calls, input, jiff::Timestamp::now()))).await
}
