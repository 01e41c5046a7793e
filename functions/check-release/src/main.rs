//! Looks whether a rollout has all it needs, before anything of it changes. It only reads.

mod aws;
mod handler;

use shipway_aws::{
    Store,
    runtime::{init_logs, sdk_config, serve, setting},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    init_logs();
    let config = sdk_config().await;
    let store = Store::new(&config, setting("TABLE")?);
    let (calls, surroundings) = (aws::Aws::new(&config), shipway_ecs::surroundings(&config));
    serve(|input| handler::handle(&store, &calls, &surroundings, input, jiff::Timestamp::now())).await
}
