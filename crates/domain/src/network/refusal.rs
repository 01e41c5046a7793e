//! Why a network cannot be had as the manifest asks, or not without a person's decision.

use super::Role;
use crate::{failure::Failure, manifest::Cidr};

/// A network that cannot be made as the manifest asks, or without a person's decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Refusal {
    /// The range of the VPC is another.
    #[error(
        "network.cidr is {wanted}, but {vpc} has {is}, and a VPC keeps the range it was made with; write `cidr: {is}` again, or \
         tear the environment down before it gets another range"
    )]
    RangeChanged { vpc: String, is: String, wanted: Cidr },
    /// The region has too few zones.
    #[error("network.azs is {wanted}, but only {available} zones of this region can be used: {names}; ask for fewer")]
    TooFewZones { wanted: u8, available: usize, names: String },
    /// Subnets would have to go that something is in.
    #[error(
        "network.azs is {wanted}, but {subnet} in {zone} is in use ({interface}), and what is in it would be cut off; write \
         `azs: {is}` again, or tear the environment down first"
    )]
    FewerZones { wanted: u8, is: u8, subnet: String, zone: String, interface: String },
    /// There is no default VPC.
    #[error(
        "network.vpc is `default`, but this account has no default VPC in this region; make one (`aws ec2 create-default-vpc`) \
         or leave out `vpc` for a VPC of the environment's own"
    )]
    NoDefaultVpc,
    /// The default VPC has too few default subnets.
    #[error(
        "the default VPC {vpc} has default subnets in {available} zones that can be used, and a load balancer needs two; make \
         more (`aws ec2 create-default-subnet`) or leave out `vpc` for a VPC of the environment's own"
    )]
    TooFewDefaultSubnets { vpc: String, available: usize },
    /// There is no VPC with the given id.
    #[error("network.vpc is {vpc}, but this account has no such VPC in this region; correct the id")]
    NoSuchVpc { vpc: String },
    /// A given subnet is not in the given VPC.
    #[error("network.subnets.{tier} names {subnet}, which is not in {vpc}; name subnets of that VPC")]
    NotInVpc { tier: &'static str, subnet: String, vpc: String },
    /// The given subnets of a tier are in one zone.
    #[error(
        "network.subnets.{tier} has subnets in {zone} alone, and load balancers, databases and caches need two zones; name \
         one in another zone too"
    )]
    OneZone { tier: &'static str, zone: String },
    /// Two given public subnets are in one zone.
    #[error(
        "network.subnets.public names {first} and {second}, which are both in {zone}, and a load balancer takes one subnet of \
         each zone; leave one out"
    )]
    SameZone { first: String, second: String, zone: String },
    /// The environment stands elsewhere.
    #[error(
        "the environment stands in {stands}, and what is in a VPC cannot move to another; write `network` as it was, or tear \
         the environment down first, or give the new network to an environment of another name"
    )]
    Moved { stands: String },
    /// The environment's VPC has lost its tags.
    #[error(
        "{vpc}, which this environment stands in, does not carry its tags any more; give it shipway:app, shipway:environment \
         and shipway:role=vpc again"
    )]
    TagsLost { vpc: String },
    /// Something is gone that this release made.
    #[error(
        "{id}, which this release made ({role}), cannot be found; if somebody deleted it, start the execution again"
    )]
    Gone { role: Role, id: String },
    /// EC2 could not make what it began to make.
    #[error("EC2 could not make {id} ({role}): {why}; mend that, then start the execution again, which makes another")]
    NotMade { role: Role, id: String, why: String },
    /// A range is taken.
    #[error("{subnet} of {cidr} was not made by Shipway and lies in {wanted}, where {role} belongs; remove it")]
    RangeTaken { subnet: String, cidr: String, wanted: Cidr, role: Role },
    /// A security group's name is taken.
    #[error(
        "the security group {group} has the name {name} but not this environment's tags; delete it, or give it shipway:app, \
         shipway:environment and shipway:role={role}"
    )]
    NameTaken { group: String, name: String, role: Role },
    /// The VPC's range has no room for a subnet.
    #[error("{cidr} has no room for {role}; choose a larger range, at least a /24")]
    NoRoom { cidr: Cidr, role: Role },
    /// CloudFront's addresses are not known here.
    #[error(
        "load_balancer.from is `cloudfront`, but this region has no list of CloudFront's addresses; write `from: internet`"
    )]
    NoCloudFront,
}

impl Refusal {
    /// The public name.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            Refusal::TooFewZones { .. }
            | Refusal::NoRoom { .. }
            | Refusal::NoSuchVpc { .. }
            | Refusal::NotInVpc { .. }
            | Refusal::OneZone { .. }
            | Refusal::SameZone { .. }
            | Refusal::NoCloudFront => Failure::RejectedManifest,
            Refusal::RangeChanged { .. }
            | Refusal::FewerZones { .. }
            | Refusal::NoDefaultVpc
            | Refusal::TooFewDefaultSubnets { .. }
            | Refusal::Moved { .. }
            | Refusal::TagsLost { .. }
            | Refusal::Gone { .. }
            | Refusal::NotMade { .. }
            | Refusal::RangeTaken { .. }
            | Refusal::NameTaken { .. } => Failure::Conflict,
        }
    }
}
