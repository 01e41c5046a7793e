//! provision-network: the network that an environment stands in, made or found, mended and removed, one pass per invocation.

mod handler;

#[cfg(test)]
mod tests;

use shipway_aws::runtime::{prepare, serve};
use shipway_ec2::Ec2Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let (config, store) = prepare().await?;
    let ec2 = Ec2Client::new(&config);
    serve(|input| handler::answer(&store, &ec2, input, jiff::Timestamp::now())).await
}
