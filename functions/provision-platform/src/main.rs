//! provision-platform: the stacks that services and sites stand on, one pass per invocation.

mod aws;
mod handler;

#[cfg(test)]
mod tests;

use shipway_aws::runtime::{prepare, serve, setting};
use shipway_domain::platform::Place;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let (config, store) = prepare().await?;
    let place = Place::bounded_by(setting("PERMISSIONS_BOUNDARY")?, setting("AWS_REGION")?)?;
    let account = aws::Account::new(&config, place.region.clone(), setting("CLOUDFORMATION_ROLE")?);
    serve(|input| handler::answer(&place, &account, &store, input, jiff::Timestamp::now())).await
}
