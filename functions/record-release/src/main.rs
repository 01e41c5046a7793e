//! Begins and ends a release: claim, desired, live, history. Tells people of Shipway's own alarms.

mod aws;
mod handler;

use shipway_aws::runtime::{self, setting};
use shipway_notices::Notifier;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let (config, store) = runtime::prepare().await?;
    let notifier = Notifier::new(&config, setting("EXECUTIONS")?, setting("TOPIC")?);
    let calls = aws::Aws::new(&config, setting("INTAKE_BUCKET")?, notifier);
    runtime::serve(|message| handler::handle(&store, &calls, message, jiff::Timestamp::now())).await
}
