//! An event → which releases it means → executions.

mod aws;
mod handler;

use shipway_aws::runtime;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let (config, store) = runtime::prepare().await?;
    let settings = handler::Settings::from_environment()?;
    let calls = aws::Aws::new(&config, settings.intake_bucket());
    runtime::serve(|message| handler::handle(&settings, &store, &calls, message, jiff::Timestamp::now())).await
}
