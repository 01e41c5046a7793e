//! Deploys a service: starts one ECS deployment for a release, watches it until it serves, and goes back when it does not. Says
//! what differs from what is live, and removes an environment's services.

mod aws;
mod drift;
mod half_way;
mod handler;
mod removal;

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
    serve(|input| handler::answer(&store, &calls, &surroundings, input, jiff::Timestamp::now())).await
}
