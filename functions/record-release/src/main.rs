//! Begins and ends a release: claim, desired, live, history.

mod aws;
mod handler;

use shipway_aws::runtime;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let (config, store) = runtime::prepare().await?;
    let calls = aws::Aws::new(&config, runtime::setting("INTAKE_BUCKET")?);
    runtime::serve(|request| handler::handle(&store, &calls, request, jiff::Timestamp::now())).await
}
