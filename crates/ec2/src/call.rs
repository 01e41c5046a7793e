//! The one call that each action is.

use aws_sdk_ec2::{
    config::{Builder, retry::RetryConfig},
    types::{AttributeBooleanValue, DomainType, VpcEndpointType},
};
use sha2::{Digest as _, Sha256};
use shipway_aws::{AwsError, PublicError as _};
use shipway_domain::{
    failure::Failure,
    name::ReleaseId,
    network::{Action, Direction, Owner, Target},
};

use crate::{
    Ec2Client, Ec2Error,
    convert::{permission, tags},
    is_not_known, sorted_out,
};

const EVERYWHERE: &str = "0.0.0.0/0";

impl Ec2Client {
    /// Does one action; answers the id of what it made, or nothing. What is to be taken away and is not known any more is
    /// done.
    pub async fn perform(&self, owner: &Owner, release: &ReleaseId, action: &Action) -> Result<String, Ec2Error> {
        match (action.makes(), self.call(owner, release, action).await) {
            (Some(role), Ok(None)) => Err(Ec2Error::NoId(role)),
            (_, Ok(id)) => Ok(id.unwrap_or_default()),
            (_, Err(error)) if action.takes_away() && is_not_known(&error) => Ok(String::new()),
            // A role that may touch only what has certain tags may be denied what is gone, as the tags went with it.
            (_, Err(error)) if action.takes_away() && error.failure() == Failure::Denied => {
                Err(Ec2Error::Behind(error))
            }
            (_, Err(error)) => Err(match action {
                Action::CreateEndpoint { service, .. } if error.is("InvalidServiceName") => {
                    let (service, region) = (service.as_str().to_owned(), self.region.clone());
                    Ec2Error::NoSuchService { service, region, error }
                }
                _ => sorted_out(error),
            }),
        }
    }

    /// The call that an action is, and the id of what it made.
    async fn call(&self, owner: &Owner, release: &ReleaseId, action: &Action) -> Result<Option<String>, AwsError> {
        match action {
            Action::CreateVpc { .. }
            | Action::CreateInternetGateway
            | Action::CreateSubnet { .. }
            | Action::CreateRouteTable { .. }
            | Action::AllocateAddress { .. }
            | Action::CreateNatGateway { .. }
            | Action::CreateEndpoint { .. }
            | Action::CreateGroup { .. } => self.create(owner, release, action).await,
            Action::DeleteEndpoint { .. }
            | Action::DeleteNatGateway { .. }
            | Action::ReleaseAddress { .. }
            | Action::DeleteSubnet { .. }
            | Action::DeleteRouteTable { .. }
            | Action::DeleteGroup { .. }
            | Action::DetachInternetGateway { .. }
            | Action::DeleteInternetGateway { .. }
            | Action::DeleteVpc { .. }
            | Action::DeleteDefaultRoute { .. }
            | Action::DisassociateRouteTable { .. } => self.delete(action).await.map(|()| None),
            Action::Authorize { .. } | Action::Revoke { .. } => self.change_rules(action).await.map(|()| None),
            Action::EnableDnsSupport { .. }
            | Action::EnableDnsHostnames { .. }
            | Action::AttachInternetGateway { .. }
            | Action::GivePublicAddresses { .. }
            | Action::CreateDefaultRoute { .. }
            | Action::ReplaceDefaultRoute { .. }
            | Action::AssociateRouteTable { .. }
            | Action::ReplaceAssociation { .. }
            | Action::ChangeEndpoint { .. } => self.change(action).await,
        }
    }

    async fn create(&self, owner: &Owner, release: &ReleaseId, action: &Action) -> Result<Option<String>, AwsError> {
        let ec2 = &self.client;
        let Some(role) = action.makes() else { return Ok(None) };
        let tags = tags(owner, &role);
        let token = || token(release, action);
        // An answer that was lost on its way does not mean that nothing was made: asked again, EC2 would make another.
        let once = || Builder::new().retry_config(RetryConfig::disabled());
        Ok(match action {
            Action::CreateVpc { cidr } => {
                let request = ec2.create_vpc().cidr_block(cidr.to_string()).tag_specifications(tags);
                let sent = request.customize().config_override(once()).send().await;
                sent.map_err(AwsError::of("ec2:CreateVpc"))?.vpc.and_then(|vpc| vpc.vpc_id)
            }
            Action::CreateInternetGateway => {
                let request = ec2.create_internet_gateway().tag_specifications(tags);
                let sent = request.customize().config_override(once()).send().await;
                let output = sent.map_err(AwsError::of("ec2:CreateInternetGateway"))?;
                output.internet_gateway.and_then(|gateway| gateway.internet_gateway_id)
            }
            Action::AllocateAddress { .. } => {
                let request = ec2.allocate_address().domain(DomainType::Vpc).tag_specifications(tags);
                let sent = request.customize().config_override(once()).send().await;
                sent.map_err(AwsError::of("ec2:AllocateAddress"))?.allocation_id
            }
            Action::CreateSubnet { vpc, cidr, zone, .. } => {
                let request = ec2.create_subnet().vpc_id(vpc).cidr_block(cidr.to_string()).availability_zone(zone);
                let sent = request.tag_specifications(tags).send().await;
                sent.map_err(AwsError::of("ec2:CreateSubnet"))?.subnet.and_then(|subnet| subnet.subnet_id)
            }
            Action::CreateRouteTable { vpc, .. } => {
                let request = ec2.create_route_table().vpc_id(vpc).client_token(token());
                let sent = request.tag_specifications(tags).send().await;
                let output = sent.map_err(AwsError::of("ec2:CreateRouteTable"))?;
                output.route_table.and_then(|table| table.route_table_id)
            }
            Action::CreateNatGateway { subnet, address, .. } => {
                let request = ec2.create_nat_gateway().subnet_id(subnet).allocation_id(address).client_token(token());
                let sent = request.tag_specifications(tags).send().await;
                let output = sent.map_err(AwsError::of("ec2:CreateNatGateway"))?;
                output.nat_gateway.and_then(|gateway| gateway.nat_gateway_id)
            }
            Action::CreateEndpoint { service, vpc, tables, subnets, group } => {
                let service = format!("com.amazonaws.{}.{}", self.region, service.as_str());
                let request = ec2.create_vpc_endpoint().vpc_id(vpc).service_name(service).client_token(token());
                let request = match group {
                    Some(group) => request
                        .vpc_endpoint_type(VpcEndpointType::Interface)
                        .set_subnet_ids(Some(subnets.clone()))
                        .security_group_ids(group)
                        .private_dns_enabled(true),
                    None => {
                        request.vpc_endpoint_type(VpcEndpointType::Gateway).set_route_table_ids(Some(tables.clone()))
                    }
                };
                let sent = request.tag_specifications(tags).send().await;
                let output = sent.map_err(AwsError::of("ec2:CreateVpcEndpoint"))?;
                output.vpc_endpoint.and_then(|endpoint| endpoint.vpc_endpoint_id)
            }
            Action::CreateGroup { name, vpc, .. } => {
                let description = format!("{role} of {}/{}, kept by Shipway", owner.app, owner.environment);
                let request = ec2.create_security_group().vpc_id(vpc).group_name(name).description(description);
                let sent = request.tag_specifications(tags).send().await;
                sent.map_err(AwsError::of("ec2:CreateSecurityGroup"))?.group_id
            }
            _ => None,
        })
    }

    async fn change(&self, action: &Action) -> Result<Option<String>, AwsError> {
        let ec2 = &self.client;
        let yes = || AttributeBooleanValue::builder().value(true).build();
        match action {
            // EC2 takes one attribute at a time.
            Action::EnableDnsSupport { vpc } => {
                let sent = ec2.modify_vpc_attribute().vpc_id(vpc).enable_dns_support(yes()).send().await;
                sent.map_err(AwsError::of("ec2:ModifyVpcAttribute"))?;
            }
            Action::EnableDnsHostnames { vpc } => {
                let sent = ec2.modify_vpc_attribute().vpc_id(vpc).enable_dns_hostnames(yes()).send().await;
                sent.map_err(AwsError::of("ec2:ModifyVpcAttribute"))?;
            }
            Action::AttachInternetGateway { gateway, vpc } => {
                let sent = ec2.attach_internet_gateway().internet_gateway_id(gateway).vpc_id(vpc).send().await;
                sent.map_err(AwsError::of("ec2:AttachInternetGateway"))?;
            }
            Action::GivePublicAddresses { subnet } => {
                let sent = ec2.modify_subnet_attribute().subnet_id(subnet).map_public_ip_on_launch(yes()).send().await;
                sent.map_err(AwsError::of("ec2:ModifySubnetAttribute"))?;
            }
            Action::CreateDefaultRoute { table, target } => {
                let request = ec2.create_route().route_table_id(table).destination_cidr_block(EVERYWHERE);
                let request = match target {
                    Target::InternetGateway(id) => request.gateway_id(id),
                    Target::NatGateway(id) => request.nat_gateway_id(id),
                };
                request.send().await.map_err(AwsError::of("ec2:CreateRoute"))?;
            }
            Action::ReplaceDefaultRoute { table, target } => {
                let request = ec2.replace_route().route_table_id(table).destination_cidr_block(EVERYWHERE);
                let request = match target {
                    Target::InternetGateway(id) => request.gateway_id(id),
                    Target::NatGateway(id) => request.nat_gateway_id(id),
                };
                request.send().await.map_err(AwsError::of("ec2:ReplaceRoute"))?;
            }
            Action::AssociateRouteTable { table, subnet } => {
                let sent = ec2.associate_route_table().route_table_id(table).subnet_id(subnet).send().await;
                return Ok(sent.map_err(AwsError::of("ec2:AssociateRouteTable"))?.association_id);
            }
            Action::ReplaceAssociation { association, table, .. } => {
                let request = ec2.replace_route_table_association().association_id(association).route_table_id(table);
                let sent = request.send().await.map_err(AwsError::of("ec2:ReplaceRouteTableAssociation"))?;
                return Ok(sent.new_association_id);
            }
            Action::ChangeEndpoint { endpoint, change } => {
                let some = |ids: &[String]| Some(ids.to_vec()).filter(|ids| !ids.is_empty());
                let request = ec2
                    .modify_vpc_endpoint()
                    .vpc_endpoint_id(endpoint)
                    .set_add_route_table_ids(some(&change.add_tables))
                    .set_add_subnet_ids(some(&change.add_subnets))
                    .set_remove_subnet_ids(some(&change.remove_subnets))
                    .set_add_security_group_ids(some(&change.add_groups))
                    .set_remove_security_group_ids(some(&change.remove_groups))
                    .set_private_dns_enabled(change.private_dns.then_some(true));
                request.send().await.map_err(AwsError::of("ec2:ModifyVpcEndpoint"))?;
            }
            _ => {}
        }
        Ok(None)
    }

    async fn change_rules(&self, action: &Action) -> Result<(), AwsError> {
        let ec2 = &self.client;
        match action {
            Action::Authorize { group, direction, rules } => {
                let rules = Some(rules.iter().map(permission).collect());
                match direction {
                    Direction::Incoming => {
                        let request = ec2.authorize_security_group_ingress().group_id(group).set_ip_permissions(rules);
                        request.send().await.map_err(AwsError::of("ec2:AuthorizeSecurityGroupIngress"))?;
                    }
                    Direction::Outgoing => {
                        let request = ec2.authorize_security_group_egress().group_id(group).set_ip_permissions(rules);
                        request.send().await.map_err(AwsError::of("ec2:AuthorizeSecurityGroupEgress"))?;
                    }
                }
            }
            Action::Revoke { group, direction, rules } => {
                let rules = Some(rules.iter().map(permission).collect());
                match direction {
                    Direction::Incoming => {
                        let request = ec2.revoke_security_group_ingress().group_id(group).set_ip_permissions(rules);
                        request.send().await.map_err(AwsError::of("ec2:RevokeSecurityGroupIngress"))?;
                    }
                    Direction::Outgoing => {
                        let request = ec2.revoke_security_group_egress().group_id(group).set_ip_permissions(rules);
                        request.send().await.map_err(AwsError::of("ec2:RevokeSecurityGroupEgress"))?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn delete(&self, action: &Action) -> Result<(), AwsError> {
        let ec2 = &self.client;
        match action {
            Action::DeleteEndpoint { endpoint } => {
                let sent = ec2.delete_vpc_endpoints().vpc_endpoint_ids(endpoint).send().await;
                let output = sent.map_err(AwsError::of("ec2:DeleteVpcEndpoints"))?;
                // What it could not delete is in an answer that is otherwise a success.
                if let Some(error) = output.unsuccessful().iter().find_map(|item| item.error()) {
                    let (code, message) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
                    return Err(AwsError::in_answer("ec2:DeleteVpcEndpoints", code, message));
                }
            }
            Action::DeleteNatGateway { gateway } => {
                let sent = ec2.delete_nat_gateway().nat_gateway_id(gateway).send().await;
                sent.map_err(AwsError::of("ec2:DeleteNatGateway"))?;
            }
            Action::ReleaseAddress { address } => {
                let sent = ec2.release_address().allocation_id(address).send().await;
                sent.map_err(AwsError::of("ec2:ReleaseAddress"))?;
            }
            Action::DeleteSubnet { subnet } => {
                ec2.delete_subnet().subnet_id(subnet).send().await.map_err(AwsError::of("ec2:DeleteSubnet"))?;
            }
            Action::DeleteRouteTable { table } => {
                let sent = ec2.delete_route_table().route_table_id(table).send().await;
                sent.map_err(AwsError::of("ec2:DeleteRouteTable"))?;
            }
            Action::DeleteGroup { group } => {
                let sent = ec2.delete_security_group().group_id(group).send().await;
                sent.map_err(AwsError::of("ec2:DeleteSecurityGroup"))?;
            }
            Action::DetachInternetGateway { gateway, vpc } => {
                let sent = ec2.detach_internet_gateway().internet_gateway_id(gateway).vpc_id(vpc).send().await;
                sent.map_err(AwsError::of("ec2:DetachInternetGateway"))?;
            }
            Action::DeleteInternetGateway { gateway } => {
                let sent = ec2.delete_internet_gateway().internet_gateway_id(gateway).send().await;
                sent.map_err(AwsError::of("ec2:DeleteInternetGateway"))?;
            }
            Action::DeleteVpc { vpc } => {
                ec2.delete_vpc().vpc_id(vpc).send().await.map_err(AwsError::of("ec2:DeleteVpc"))?;
            }
            Action::DeleteDefaultRoute { table } => {
                let sent = ec2.delete_route().route_table_id(table).destination_cidr_block(EVERYWHERE).send().await;
                sent.map_err(AwsError::of("ec2:DeleteRoute"))?;
            }
            Action::DisassociateRouteTable { association, .. } => {
                let sent = ec2.disassociate_route_table().association_id(association).send().await;
                sent.map_err(AwsError::of("ec2:DisassociateRouteTable"))?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The same for the same thing asked for by the same release, so that EC2 makes it once. A later release may have to make again
/// what was deleted since, so it asks by another. At most 64 characters.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html>
fn token(release: &ReleaseId, action: &Action) -> String {
    let text = format!("{release} {action:?}");
    Sha256::digest(text.as_bytes()).iter().take(24).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_for_the_same_and_fits() {
        let release = |number: u8| -> ReleaseId { format!("20261121T031542123-00000{number}").parse().unwrap() };
        let nat = |slot: u8| {
            let (subnet, address) = ("subnet-1".to_owned(), "eipalloc-1".to_owned());
            Action::CreateNatGateway { slot, subnet, address }
        };
        let first = token(&release(1), &nat(0));
        assert!(first.len() <= 64 && first == token(&release(1), &nat(0)));
        assert_ne!(first, token(&release(2), &nat(0)));
        assert_ne!(first, token(&release(1), &nat(1)));
    }
}
