//! provision-network: the network that an environment stands in, made or found, mended and removed, one pass per invocation.

mod handler;

#[cfg(test)]
mod tests;

use shipway_aws::{
    Store,
    runtime::{init_logs, sdk_config, serve, setting},
};
use shipway_ec2::Ec2Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    init_logs();
    let config = sdk_config().await;
    let (store, ec2) = (Store::new(&config, setting("TABLE")?), Ec2Client::new(&config));
    serve(|input| handler::answer(&store, &ec2, input, jiff::Timestamp::now())).await
}
