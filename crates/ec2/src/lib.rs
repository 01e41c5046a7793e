//! EC2, as provision-network and the command use it: looking at a network, and the one call that each action is.
//!
//! Only calls, and the way between the SDK's types and the domain's. What to do is `shipway_domain::network`'s to decide.

mod call;
mod convert;
mod look;

use aws_config::SdkConfig;
use aws_sdk_ec2::Client;
use shipway_aws::{AwsError, PublicError};
use shipway_domain::{failure::Failure, network::Role};

/// EC2 in one region of one account.
#[derive(Clone, Debug)]
pub struct Ec2Client {
    client: Client,
    region: String,
}

impl Ec2Client {
    /// EC2 as this configuration reaches it.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Ec2Client {
        let region = config.region().map(ToString::to_string).unwrap_or_default();
        Ec2Client { client: Client::new(config), region }
    }
}

/// What a call of EC2 can come to.
#[derive(Debug, thiserror::Error)]
pub enum Ec2Error {
    /// EC2 does not know yet what it answered, or knows already what is asked of it: what was seen is not what is. Another
    /// look shows more.
    #[error(transparent)]
    Behind(AwsError),
    /// Something else still uses what is to be deleted.
    #[error(transparent)]
    InTheWay(AwsError),
    /// A limit of the account is reached.
    #[error("{error} (the quota is \"{quota}\" of {of})")]
    Quota {
        /// Its name in Service Quotas.
        quota: &'static str,
        /// The service that it is listed under.
        of: &'static str,
        /// What EC2 said.
        error: AwsError,
    },
    /// No service of AWS has this name for its endpoints, or not in this region.
    #[error(
        "network.endpoints names `{service}`, which has no endpoints in {region}; `aws ec2 describe-vpc-endpoint-services` \
         lists what has: {error}"
    )]
    NoSuchService {
        /// The name.
        service: String,
        /// The region.
        region: String,
        /// What EC2 said.
        error: AwsError,
    },
    /// EC2 refused, or could not answer.
    #[error(transparent)]
    Refused(#[from] AwsError),
    /// An answer without the id of what was made.
    #[error("EC2 answered without the id of the {0} it made")]
    NoId(Role),
}

impl PublicError for Ec2Error {
    fn failure(&self) -> Failure {
        match self {
            Ec2Error::Behind(_) | Ec2Error::NoId(_) => Failure::Transient,
            Ec2Error::InTheWay(_) => Failure::Conflict,
            Ec2Error::Quota { .. } => Failure::Quota,
            Ec2Error::NoSuchService { .. } => Failure::RejectedManifest,
            Ec2Error::Refused(error) => error.failure(),
        }
    }
}

/// The codes of EC2, besides `….NotFound`, that say that a look and the call after it did not see the same. What it just made
/// is not known everywhere at once, and what another pass did may not have been shown.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html>
const BEHIND: [&str; 8] = [
    "NatGatewayNotFound",
    "Gateway.NotAttached",
    "InvalidPermission.Duplicate",
    "InvalidGroup.Duplicate",
    "InvalidSubnet.Conflict",
    "RouteAlreadyExists",
    "Resource.AlreadyAssociated",
    "IncorrectState",
];

/// The codes of EC2 that say that something is still used.
const IN_THE_WAY: [&str; 3] = ["DependencyViolation", "InvalidIPAddress.InUse", "AuthFailure.AddressInUse"];

/// The limits that a network can reach: EC2's code, the quota's name in Service Quotas, and under which service it is there.
/// <https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html>
const QUOTAS: [(&str, &str, &str); 10] = [
    ("VpcLimitExceeded", "VPCs per Region", VPC),
    ("InternetGatewayLimitExceeded", "Internet gateways per Region", VPC),
    ("SubnetLimitExceeded", "Subnets per VPC", VPC),
    ("RouteTableLimitExceeded", "Route tables per VPC", VPC),
    ("NatGatewayLimitExceeded", "NAT gateways per Availability Zone", VPC),
    ("SecurityGroupLimitExceeded", "VPC security groups per Region", VPC),
    ("RulesPerSecurityGroupLimitExceeded", "Inbound or outbound rules per security group", VPC),
    ("VpcEndpointLimitExceeded", "Interface VPC endpoints per VPC", VPC),
    ("GatewayVpcEndpointLimitExceeded", "Gateway VPC endpoints per Region", VPC),
    ("AddressLimitExceeded", "EC2-VPC Elastic IPs", "Amazon EC2"),
];
const VPC: &str = "Amazon VPC";

fn is_not_known(error: &AwsError) -> bool {
    let gone = ["NatGatewayNotFound", "Gateway.NotAttached"];
    error.code().is_some_and(|code| code.ends_with(".NotFound") || gone.contains(&code))
}

fn sorted_out(error: AwsError) -> Ec2Error {
    let Some(code) = error.code() else { return Ec2Error::Refused(error) };
    if is_not_known(&error) || BEHIND.contains(&code) {
        Ec2Error::Behind(error)
    } else if IN_THE_WAY.contains(&code) {
        Ec2Error::InTheWay(error)
    } else if let Some((_, quota, of)) = QUOTAS.iter().find(|(known, ..)| *known == code) {
        Ec2Error::Quota { quota, of, error }
    } else {
        Ec2Error::Refused(error)
    }
}

#[cfg(test)]
mod tests {
    use shipway_aws::testing;

    use super::*;

    fn refused(code: &str, status: u16) -> Ec2Error {
        sorted_out(testing::refused(code, status))
    }

    #[test]
    fn what_another_look_can_mend_is_told_from_what_it_cannot() {
        let table = [
            ("InvalidVpcID.NotFound", Failure::Transient),
            ("NatGatewayNotFound", Failure::Transient),
            ("InvalidPermission.Duplicate", Failure::Transient),
            ("InvalidSubnet.Conflict", Failure::Transient),
            ("RequestLimitExceeded", Failure::Transient),
            ("DependencyViolation", Failure::Conflict),
            ("VpcLimitExceeded", Failure::Quota),
            ("AddressLimitExceeded", Failure::Quota),
            ("RouteLimitExceeded", Failure::Quota),
            ("UnauthorizedOperation", Failure::Denied),
            ("InvalidParameterValue", Failure::Bug),
        ];
        for (code, failure) in table {
            assert_eq!(refused(code, 400).failure(), failure, "{code}");
        }
        assert_eq!(refused("InsufficientAddressCapacity", 500).failure(), Failure::Transient, "EC2's own trouble");
    }

    #[test]
    fn a_quota_is_told_by_its_name() {
        let message = refused("NatGatewayLimitExceeded", 400).to_string();
        assert!(message.contains("\"NAT gateways per Availability Zone\" of Amazon VPC"), "{message}");
        assert!(message.contains("ask for a higher quota"), "{message}");
    }
}
