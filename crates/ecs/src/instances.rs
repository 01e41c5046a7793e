//! Container instances.

use aws_sdk_ecs::{Client, types::ContainerInstance};
use shipway_aws::AwsError;

/// DescribeContainerInstances takes so many at once.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeContainerInstances.html>
const MOST_DESCRIBED: usize = 100;

/// What ECS shows of these container instances.
///
/// # Errors
/// The call's.
pub async fn describe(client: &Client, cluster: &str, arns: &[String]) -> Result<Vec<ContainerInstance>, AwsError> {
    let mut instances = Vec::new();
    for some in arns.chunks(MOST_DESCRIBED) {
        let asked = client.describe_container_instances().cluster(cluster);
        let answer = asked.set_container_instances(Some(some.to_vec())).send().await;
        let answer = answer.map_err(AwsError::of("ecs:DescribeContainerInstances"))?;
        instances.extend(answer.container_instances.unwrap_or_default());
    }
    Ok(instances)
}
