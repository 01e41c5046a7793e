//! Looks whether a rollout has all it needs, before anything of it changes, and whether what serves then answers as it must. It
//! only reads.

mod aws;
mod handler;
mod http;
mod smoke;

use shipway_aws::runtime::{prepare, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let (config, store) = prepare().await?;
    let (calls, surroundings) = (aws::Aws::new(&config), shipway_ecs::surroundings(&config));
    serve(|input| handler::handle(&store, &calls, &surroundings, input, jiff::Timestamp::now())).await
}
