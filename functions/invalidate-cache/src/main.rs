//! invalidate-cache: tells CloudFront how a publication's URLs find their files, and makes it forget what was replaced.

mod aws;
mod handler;
#[cfg(test)]
mod tests;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    shipway_aws::runtime::init_logs();
    let calls = &aws::Aws::from_env().await?;
    shipway_aws::serve(|input| Box::pin(handler::handle(calls, input, jiff::Timestamp::now()))).await
}
