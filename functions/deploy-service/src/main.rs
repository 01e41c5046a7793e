//! Deploys a service: starts one ECS deployment for a release, watches it until it serves, and goes back when it does not. Says
//! what differs from what is live, and removes an environment's services.

mod aws;
mod drift;
mod half_way;
mod handler;
mod removal;

use shipway_aws::runtime::{prepare, serve, setting};
use shipway_notices::Notifier;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let (config, store) = prepare().await?;
    let notifier = Notifier::new(&config, setting("EXECUTIONS")?, setting("TOPIC")?);
    let (calls, surroundings) = (aws::Aws::new(&config, notifier), shipway_ecs::surroundings(&config));
    serve(|input| handler::answer(&store, &calls, &surroundings, input, jiff::Timestamp::now())).await
}
