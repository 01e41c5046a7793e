//! How often AWS lets an account call its APIs, as token buckets: a bucket holds so many calls at most, and so many come back each
//! second.
//!
//! Here are the limits that AWS publishes, as they are by default, for what Shipway's functions call. A rate that is told without a
//! burst is a bucket that holds one second of it. What AWS keeps to itself (CloudFormation, CloudFront, IAM, STS, Application Auto
//! Scaling, Systems Manager's `DescribeParameters`) is not limited here.

use std::collections::HashMap;
use std::time::Instant;

use crate::Operation;

/// Calls that AWS limits together.
#[derive(Debug, PartialEq)]
pub struct Limit {
    /// The service, named as signatures name it.
    pub service: &'static str,
    /// The operations; one that ends with `*` is every operation that begins so.
    pub operations: &'static [&'static str],
    /// Whether each operation has a bucket of its own.
    pub each: bool,
    /// How many calls a full bucket lets through at once.
    pub burst: u32,
    /// How many come back in a second.
    pub per_second: f64,
}

const fn together(service: &'static str, operations: &'static [&'static str], burst: u32, per_second: f64) -> Limit {
    Limit { service, operations, each: false, burst, per_second }
}

const fn each(service: &'static str, operations: &'static [&'static str], burst: u32, per_second: f64) -> Limit {
    Limit { service, operations, each: true, burst, per_second }
}

/// The first that means an operation is its limit.
pub const LIMITS: [Limit; 38] = [
    // https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html
    together("ecs", &["RegisterTaskDefinition", "DeregisterTaskDefinition"], 20, 1.0),
    together("ecs", &["DescribeTaskDefinition", "ListTaskDefinition*"], 50, 20.0),
    together("ecs", &["DeleteTaskDefinitions"], 5, 1.0),
    together("ecs", &["CreateService", "UpdateService", "DeleteService"], 50, 5.0),
    together("ecs", &["DescribeServices", "ListServices"], 100, 20.0),
    together("ecs", &["DescribeServiceDeployments", "ListServiceDeployments"], 50, 20.0),
    together("ecs", &["RunTask", "StartTask", "StopTask", "ExecuteCommand"], 100, 40.0),
    together("ecs", &["DescribeTasks", "ListTasks", "DescribeContainerInstances", "ListContainerInstances"], 100, 20.0),
    together("ecs", &["DescribeClusters", "ListClusters"], 50, 20.0),
    together("ecs", &["CreateCluster", "DeleteCluster", "PutClusterCapacityProviders", "UpdateCluster*"], 20, 1.0),
    together("ecs", &["CreateCapacityProvider", "DeleteCapacityProvider", "UpdateCapacityProvider"], 10, 1.0),
    together("ecs", &["DescribeCapacityProviders"], 50, 20.0),
    together("ecs", &["TagResource", "UntagResource"], 20, 10.0),
    together("ecs", &["ListTagsForResource"], 50, 20.0),
    // The account's own bucket, which all actions share; those that change something have smaller ones, which no function calls.
    // https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-api-throttling.html
    together("elasticloadbalancing", &["*"], 40, 10.0),
    // https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html
    each("ec2", &["CreateVpcEndpoint", "DeleteVpcEndpoints", "ModifyVpcEndpoint"], 4, 0.3),
    each("ec2", &["CreateNatGateway", "DeleteNatGateway"], 10, 1.0),
    each("ec2", &["CreateTags", "DeleteTags"], 100, 10.0),
    each("ec2", &["DeleteNetworkInterface"], 100, 5.0),
    each("ec2", &["Describe*", "Get*", "List*"], 100, 20.0),
    each("ec2", &["*"], 50, 5.0),
    // https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
    together("ecr", &["PutImage"], 10, 10.0),
    together("ecr", &["BatchGetImage"], 2_000, 2_000.0),
    together("ecr", &["GetDownloadUrlForLayer"], 3_000, 3_000.0),
    // In the three largest regions; in others StartExecution has 800 and 150.
    // https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
    together("states", &["StartExecution"], 1_300, 300.0),
    together("states", &["DescribeExecution"], 300, 15.0),
    together("states", &["SendTaskFailure"], 3_000, 500.0),
    together("states", &["SendTaskSuccess"], 3_000, 500.0),
    together("states", &["StopExecution"], 1_000, 200.0),
    // In us-east-1; 600 in the smallest regions.
    // https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
    together("events", &["PutEvents"], 10_000, 10_000.0),
    // What a new table on demand takes at once, in units; a call is one here, where a transaction is two for each of its items.
    // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html
    together("dynamodb", &["GetItem", "BatchGetItem", "Query", "Scan"], 12_000, 12_000.0),
    together("dynamodb", &["*"], 4_000, 4_000.0),
    // AWS's is for each partition of a bucket's keys, of which there are one or more; this is for all buckets.
    // https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
    together("s3", &["Get*", "Head*", "List*"], 5_500, 5_500.0),
    together("s3", &["*"], 3_500, 3_500.0),
    // https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html
    together("secretsmanager", &["DescribeSecret", "GetSecretValue"], 10_000, 10_000.0),
    // https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html
    together("logs", &["DescribeLogGroups"], 10, 10.0),
    together("logs", &["FilterLogEvents"], 5, 5.0),
    // https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html
    together("monitoring", &["DescribeAlarms"], 9, 9.0),
];

impl Limit {
    /// The limit of an operation, where AWS publishes one.
    #[must_use]
    pub fn of(operation: &Operation) -> Option<&'static Limit> {
        LIMITS.iter().find(|limit| limit.means(operation))
    }

    fn means(&self, operation: &Operation) -> bool {
        let named = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(beginning) => operation.name.starts_with(beginning),
            None => operation.name == **pattern,
        };
        self.service == operation.service && self.operations.iter().any(named)
    }
}

/// The buckets of one account. Each is full until it is asked.
#[derive(Debug, Default)]
pub(crate) struct Buckets(HashMap<String, Bucket>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Buckets {
    /// Whether this call may pass now; if so it has taken its token.
    pub(crate) fn take(&mut self, operation: &Operation, now: Instant) -> bool {
        let Some(limit) = Limit::of(operation) else { return true };
        let whose = if limit.each { operation.name.as_str() } else { limit.operations.first().unwrap_or(&"") };
        let full = f64::from(limit.burst);
        let bucket = self.0.entry(format!("{} {whose}", limit.service)).or_insert(Bucket { tokens: full, at: now });
        let came_back = now.saturating_duration_since(bucket.at).as_secs_f64() * limit.per_second;
        bucket.tokens = full.min(bucket.tokens + came_back);
        bucket.at = now;
        let passes = bucket.tokens >= 1.0;
        if passes {
            bucket.tokens -= 1.0;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Buckets, LIMITS, Limit};
    use crate::Operation;

    fn operation(service: &str, name: &str) -> Operation {
        Operation { service: service.to_owned(), name: name.to_owned() }
    }

    fn passed(buckets: &mut Buckets, service: &str, name: &str, calls: usize, now: Instant) -> usize {
        (0..calls).filter(|_| buckets.take(&operation(service, name), now)).count()
    }

    #[test]
    fn a_bucket_lets_its_burst_through_and_then_what_came_back() {
        let (mut buckets, start) = (Buckets::default(), Instant::now());
        assert_eq!(passed(&mut buckets, "ecs", "RegisterTaskDefinition", 25, start), 20);
        let later = start + Duration::from_millis(3_500);
        assert_eq!(passed(&mut buckets, "ecs", "RegisterTaskDefinition", 25, later), 3);
        // The half that was left over counts.
        let later = later + Duration::from_millis(500);
        assert_eq!(passed(&mut buckets, "ecs", "RegisterTaskDefinition", 25, later), 1);
        let rested = later + Duration::from_secs(3_600);
        assert_eq!(passed(&mut buckets, "ecs", "RegisterTaskDefinition", 25, rested), 20);
    }

    #[test]
    fn operations_of_one_group_take_from_one_bucket_unless_each_has_its_own() {
        let (mut buckets, now) = (Buckets::default(), Instant::now());
        assert_eq!(passed(&mut buckets, "ecs", "UpdateService", 30, now), 30);
        assert_eq!(passed(&mut buckets, "ecs", "CreateService", 30, now), 20);
        assert_eq!(passed(&mut buckets, "ecs", "DescribeServices", 30, now), 30);
        assert_eq!(passed(&mut buckets, "ec2", "DescribeSubnets", 120, now), 100);
        assert_eq!(passed(&mut buckets, "ec2", "DescribeVpcs", 120, now), 100);
    }

    #[test]
    fn what_aws_publishes_no_limit_of_passes() {
        let (mut buckets, now) = (Buckets::default(), Instant::now());
        assert_eq!(passed(&mut buckets, "cloudformation", "DescribeStacks", 500, now), 500);
        assert_eq!(passed(&mut buckets, "ecr", "DescribeImages", 500, now), 500);
    }

    #[test]
    fn no_limit_is_hidden_by_one_before_it() {
        for limit in &LIMITS {
            for pattern in limit.operations {
                let name = pattern.replace('*', "Anything");
                assert_eq!(Limit::of(&operation(limit.service, &name)), Some(limit), "{} {pattern}", limit.service);
            }
        }
    }
}
