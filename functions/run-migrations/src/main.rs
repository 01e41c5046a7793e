//! Runs a service's one-off tasks: its migration, which must end well before the service changes, and its smoke tests.

mod aws;
mod handler;
mod job;
mod smoke;
mod snapshots;

use shipway_aws::runtime::{prepare, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let (config, store) = prepare().await?;
    let (calls, surroundings) = (aws::Aws::new(&config), shipway_ecs::surroundings(&config));
    serve(|input| handler::handle(&store, &calls, &surroundings, input, jiff::Timestamp::now())).await
}
