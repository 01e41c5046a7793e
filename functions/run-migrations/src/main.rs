//! Runs a service's migration: one task that must end well before the service changes.

mod aws;
mod handler;

use shipway_aws::runtime::{init_logs, sdk_config, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    init_logs();
    let config = sdk_config().await;
    let calls = aws::Aws::new(&config)?;
    let surroundings = aws::surroundings(&config);
    serve(|input| handler::handle(&calls, &surroundings, input, jiff::Timestamp::now())).await
}
