//! provision-platform: the stacks that services and sites stand on, one pass per invocation.

mod aws;
mod blueprints;
mod handler;

#[cfg(test)]
mod tests;

use shipway_aws::{
    Store,
    runtime::{init_logs, sdk_config, serve, setting},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    init_logs();
    let config = sdk_config().await;
    let place = handler::place_from_environment()?;
    let store = Store::new(&config, setting("TABLE")?);
    let stacks = aws::CloudFormation::new(&config, setting("CLOUDFORMATION_ROLE")?);
    serve(|input| handler::pass(&place, &stacks, &store, input, jiff::Timestamp::now())).await
}
