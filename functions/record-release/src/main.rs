//! Begins and ends a release: claim, desired, live, history.

mod aws;
mod handler;

use shipway_aws::{Store, runtime};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    runtime::init_logs();
    let config = runtime::sdk_config().await;
    let store = Store::new(&config, runtime::setting("TABLE")?);
    let calls = aws::Aws::new(&config, runtime::setting("INTAKE_BUCKET")?);
    shipway_aws::serve(|request| handler::handle(&store, &calls, request, jiff::Timestamp::now())).await
}
