//! An event → which releases it means → executions.

mod aws;
mod handler;

use shipway_aws::{Store, runtime};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    runtime::init_logs();
    let config = runtime::sdk_config().await;
    let settings = handler::Settings::from_environment()?;
    let store = Store::new(&config, runtime::setting("TABLE")?);
    let calls = aws::Aws::new(&config, settings.intake_bucket());
    shipway_aws::serve(|message| handler::handle(&settings, &store, &calls, message, jiff::Timestamp::now())).await
}
