//! EC2: looking at a network, and the one call that each action is. Decides nothing.

use std::collections::BTreeSet;

use aws_config::SdkConfig;
use aws_sdk_ec2::{
    Client,
    config::{Builder, retry::RetryConfig},
    types::{
        AttributeBooleanValue, AvailabilityZoneState, Filter, IpPermission, IpRange, Ipv6Range, PrefixListId,
        ResourceType, RouteTableAssociation, RouteTableAssociationStateCode, SecurityGroup, Tag, TagSpecification,
        UserIdGroupPair, VpcAttributeName,
    },
};
use futures_util::try_join;
use shipway_aws::{AwsError, PublicError};
use shipway_domain::{
    failure::Failure,
    message::Run,
    network::{
        Action, Association, Desired, Direction, Gateway, Group, Inside, Observed, Peer, Place, Remembered, Role,
        RouteTable, Rule, Subnet, Vpc, Zone, standing_vpc,
    },
};

/// What a call of EC2 can come to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ec2Error {
    /// EC2 does not know yet what it answered, or knows already what is asked of it: what was seen is not what is. Another
    /// look shows more.
    #[error(transparent)]
    Behind(AwsError),
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
            Ec2Error::Behind(_) => Failure::Transient,
            Ec2Error::Refused(error) => error.failure(),
            Ec2Error::NoId(_) => Failure::Transient,
        }
    }
}

/// The codes of EC2 that say that a look and the call after it did not see the same. What it just made is not known
/// everywhere at once, and what another pass did may not have been shown.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html>
const BEHIND: [&str; 17] = [
    "InvalidVpcID.NotFound",
    "InvalidSubnetID.NotFound",
    "InvalidInternetGatewayID.NotFound",
    "InvalidInternetGatewayId.NotFound",
    "InvalidGatewayID.NotFound",
    "InvalidRouteTableID.NotFound",
    "InvalidRouteTableId.NotFound",
    "InvalidAssociationID.NotFound",
    "InvalidGroup.NotFound",
    "InvalidSecurityGroupID.NotFound",
    "InvalidPermission.NotFound",
    "InvalidPermission.Duplicate",
    "InvalidGroup.Duplicate",
    "InvalidSubnet.Conflict",
    "RouteAlreadyExists",
    "Resource.AlreadyAssociated",
    "IncorrectState",
];

fn sorted_out(error: AwsError) -> Ec2Error {
    if error.code().is_some_and(|code| BEHIND.contains(&code)) {
        Ec2Error::Behind(error)
    } else {
        Ec2Error::Refused(error)
    }
}

/// What the function asks of EC2.
pub(crate) trait Ec2 {
    /// What of this environment's network is there.
    async fn look(&self, run: &Run, desired: &Desired, remembered: Remembered) -> Result<Observed, Ec2Error>;

    /// Does one action; answers the id of what it made, or nothing.
    async fn perform(&self, run: &Run, desired: &Desired, action: &Action) -> Result<String, Ec2Error>;
}

/// EC2 itself.
pub(crate) struct Ec2Client {
    client: Client,
}

impl Ec2Client {
    pub(crate) fn new(config: &SdkConfig) -> Ec2Client {
        Ec2Client { client: Client::new(config) }
    }

    async fn zones(&self) -> Result<Vec<Zone>, Ec2Error> {
        let output = self
            .client
            .describe_availability_zones()
            .filters(filter("zone-type", "availability-zone"))
            .filters(filter("state", AvailabilityZoneState::Available.as_str()))
            .send()
            .await
            .map_err(AwsError::of("ec2:DescribeAvailabilityZones"))?;
        let zones = output.availability_zones.unwrap_or_default().into_iter();
        Ok(zones
            .filter_map(|zone| Some(Zone { name: zone.zone_name?, id: zone.zone_id.unwrap_or_default() }))
            .collect())
    }

    async fn vpcs(&self, run: &Run, filters: Vec<Filter>) -> Result<Vec<Vpc>, Ec2Error> {
        let mut pages = self.client.describe_vpcs().set_filters(Some(filters)).into_paginator().items().send();
        let mut vpcs = Vec::new();
        while let Some(vpc) = pages.next().await {
            let vpc = vpc.map_err(AwsError::of("ec2:DescribeVpcs"))?;
            vpcs.push(Vpc {
                ours: role_of(run, vpc.tags()) == Some(Role::Vpc),
                default: vpc.is_default.unwrap_or_default(),
                cidr: vpc.cidr_block.unwrap_or_default(),
                id: vpc.vpc_id.unwrap_or_default(),
            });
        }
        Ok(vpcs)
    }

    /// The VPCs that may be the environment's: two filters of one request must both hold, so these are requests of their own.
    async fn candidates(&self, run: &Run, desired: &Desired, last: Option<&str>) -> Result<Vec<Vpc>, Ec2Error> {
        let ours = match desired.place {
            Place::Own { .. } => our_tags(run, Role::Vpc),
            Place::Default => vec![filter("is-default", "true")],
        };
        let by_id = async {
            match last {
                Some(last) => self.vpcs(run, vec![filter("vpc-id", last)]).await,
                None => Ok(Vec::new()),
            }
        };
        let (mut vpcs, last) = try_join!(self.vpcs(run, ours), by_id)?;
        vpcs.extend(last);
        vpcs.sort_by(|a, b| a.id.cmp(&b.id));
        vpcs.dedup_by(|a, b| a.id == b.id);
        Ok(vpcs)
    }

    async fn gateways(&self, run: &Run, desired: &Desired) -> Result<Vec<Gateway>, Ec2Error> {
        let mut gateways = Vec::new();
        if desired.place == Place::Default {
            return Ok(gateways);
        }
        let filters = our_tags(run, Role::InternetGateway);
        let mut pages =
            self.client.describe_internet_gateways().set_filters(Some(filters)).into_paginator().items().send();
        while let Some(gateway) = pages.next().await {
            let gateway = gateway.map_err(AwsError::of("ec2:DescribeInternetGateways"))?;
            gateways.push(Gateway {
                vpc: gateway.attachments().first().and_then(|attachment| attachment.vpc_id.clone()),
                id: gateway.internet_gateway_id.unwrap_or_default(),
            });
        }
        Ok(gateways)
    }

    /// What is in a VPC.
    async fn inside(&self, run: &Run, desired: &Desired, vpc: &str) -> Result<Inside, Ec2Error> {
        let own = desired.place != Place::Default;
        let attribute = async |name: VpcAttributeName| {
            if !own {
                return Ok(true);
            }
            let request = self.client.describe_vpc_attribute().vpc_id(vpc).attribute(name);
            let sent = request.send().await.map_err(AwsError::of("ec2:DescribeVpcAttribute"));
            let output = sent.map_err(sorted_out)?;
            let value = output.enable_dns_support.or(output.enable_dns_hostnames);
            Ok::<bool, Ec2Error>(value.and_then(|value| value.value).unwrap_or_default())
        };
        let (dns_support, dns_hostnames, subnets, tables, groups) = try_join!(
            attribute(VpcAttributeName::EnableDnsSupport),
            attribute(VpcAttributeName::EnableDnsHostnames),
            self.subnets(run, desired, vpc),
            self.tables(run, desired, vpc),
            self.groups(run, desired, vpc),
        )?;
        Ok(Inside { dns_support, dns_hostnames, subnets, tables, groups })
    }

    async fn subnets(&self, run: &Run, desired: &Desired, vpc: &str) -> Result<Vec<Subnet>, Ec2Error> {
        let mut filters = vec![filter("vpc-id", vpc)];
        if desired.place == Place::Default {
            filters.push(filter("default-for-az", "true"));
        }
        let mut pages = self.client.describe_subnets().set_filters(Some(filters)).into_paginator().items().send();
        let mut subnets = Vec::new();
        while let Some(subnet) = pages.next().await {
            let subnet = subnet.map_err(AwsError::of("ec2:DescribeSubnets"))?;
            subnets.push(Subnet {
                role: role_of(run, subnet.tags()),
                zone: subnet.availability_zone.unwrap_or_default(),
                cidr: subnet.cidr_block.unwrap_or_default(),
                public_addresses: subnet.map_public_ip_on_launch.unwrap_or_default(),
                id: subnet.subnet_id.unwrap_or_default(),
            });
        }
        Ok(subnets)
    }

    async fn tables(&self, run: &Run, desired: &Desired, vpc: &str) -> Result<Vec<RouteTable>, Ec2Error> {
        let mut tables = Vec::new();
        if desired.place == Place::Default {
            return Ok(tables);
        }
        let filters = Some(vec![filter("vpc-id", vpc)]);
        let mut pages = self.client.describe_route_tables().set_filters(filters).into_paginator().items().send();
        while let Some(table) = pages.next().await {
            let table = table.map_err(AwsError::of("ec2:DescribeRouteTables"))?;
            let everywhere = table.routes().iter().find(|route| route.destination_cidr_block() == Some("0.0.0.0/0"));
            // Whatever the route leads to, it has one of these.
            let target = everywhere.map(|route| {
                let targets = [
                    route.gateway_id(),
                    route.nat_gateway_id(),
                    route.transit_gateway_id(),
                    route.network_interface_id(),
                ];
                targets.into_iter().flatten().next().unwrap_or("elsewhere").to_owned()
            });
            tables.push(RouteTable {
                role: role_of(run, table.tags()),
                default_route: target,
                associations: table.associations().iter().filter_map(association).collect(),
                id: table.route_table_id.unwrap_or_default(),
            });
        }
        Ok(tables)
    }

    async fn groups(&self, run: &Run, desired: &Desired, vpc: &str) -> Result<Vec<Group>, Ec2Error> {
        let names = [Role::LoadBalancerGroup, Role::ServiceGroup].map(|role| desired.group_name(role));
        let names = Filter::builder().name("group-name").set_values(Some(names.into())).build();
        let filters = Some(vec![filter("vpc-id", vpc), names]);
        let mut pages = self.client.describe_security_groups().set_filters(filters).into_paginator().items().send();
        let mut groups = Vec::new();
        while let Some(group) = pages.next().await {
            let group = group.map_err(AwsError::of("ec2:DescribeSecurityGroups"))?;
            groups.push(Group {
                role: role_of(run, group.tags()),
                fresh: false,
                incoming: rules_of(&group, group.ip_permissions()),
                outgoing: rules_of(&group, group.ip_permissions_egress()),
                name: group.group_name.unwrap_or_default(),
                id: group.group_id.unwrap_or_default(),
            });
        }
        Ok(groups)
    }

    /// The call that an action is, and the id of what it made.
    async fn call(&self, run: &Run, desired: &Desired, action: &Action) -> Result<Option<String>, AwsError> {
        let ec2 = &self.client;
        let tags = |role: Role| tags(run, desired, role);
        // An answer that was lost on its way does not mean that nothing was made: asked again, EC2 would make another.
        let once = || Builder::new().retry_config(RetryConfig::disabled());
        let yes = || AttributeBooleanValue::builder().value(true).build();
        match action {
            Action::CreateVpc { cidr } => {
                let request = ec2.create_vpc().cidr_block(cidr.to_string()).tag_specifications(tags(Role::Vpc));
                let sent = request.customize().config_override(once()).send().await;
                return Ok(sent.map_err(AwsError::of("ec2:CreateVpc"))?.vpc.and_then(|vpc| vpc.vpc_id));
            }
            Action::CreateInternetGateway => {
                let request = ec2.create_internet_gateway().tag_specifications(tags(Role::InternetGateway));
                let sent = request.customize().config_override(once()).send().await;
                let output = sent.map_err(AwsError::of("ec2:CreateInternetGateway"))?;
                return Ok(output.internet_gateway.and_then(|gateway| gateway.internet_gateway_id));
            }
            Action::CreateSubnet { slot, vpc, cidr, zone } => {
                let request = ec2.create_subnet().vpc_id(vpc).cidr_block(cidr.to_string()).availability_zone(zone);
                let sent = request.tag_specifications(tags(Role::PublicSubnet(*slot))).send().await;
                return Ok(sent.map_err(AwsError::of("ec2:CreateSubnet"))?.subnet.and_then(|subnet| subnet.subnet_id));
            }
            Action::CreateRouteTable { vpc } => {
                let request = ec2.create_route_table().vpc_id(vpc).client_token(format!("{}-{vpc}", run.release));
                let sent = request.tag_specifications(tags(Role::PublicRoutes)).send().await;
                let output = sent.map_err(AwsError::of("ec2:CreateRouteTable"))?;
                return Ok(output.route_table.and_then(|table| table.route_table_id));
            }
            Action::CreateGroup { role, name, vpc } => {
                let description = format!("{role} of {}/{}, kept by Shipway", run.app, run.environment);
                let request = ec2.create_security_group().vpc_id(vpc).group_name(name).description(description);
                let sent = request.tag_specifications(tags(*role)).send().await;
                return Ok(sent.map_err(AwsError::of("ec2:CreateSecurityGroup"))?.group_id);
            }
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
            Action::CreateDefaultRoute { table, gateway } => {
                let request = ec2.create_route().route_table_id(table).destination_cidr_block("0.0.0.0/0");
                request.gateway_id(gateway).send().await.map_err(AwsError::of("ec2:CreateRoute"))?;
            }
            Action::ReplaceDefaultRoute { table, gateway } => {
                let request = ec2.replace_route().route_table_id(table).destination_cidr_block("0.0.0.0/0");
                request.gateway_id(gateway).send().await.map_err(AwsError::of("ec2:ReplaceRoute"))?;
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
        }
        Ok(None)
    }
}

impl Ec2 for Ec2Client {
    async fn look(&self, run: &Run, desired: &Desired, remembered: Remembered) -> Result<Observed, Ec2Error> {
        let last = remembered.vpc.as_ref().or(remembered.progress.made.get(&Role::Vpc)).cloned();
        // Most looks are at a VPC that is known already; then nothing has to wait for its id.
        let expected = async {
            match &last {
                Some(vpc) => match self.inside(run, desired, vpc).await {
                    Err(Ec2Error::Behind(error)) => Ok(Err(error)),
                    inside => inside.map(Ok),
                },
                None => Ok(Ok(Inside::default())),
            }
        };
        let (zones, vpcs, gateways, expected) = try_join!(
            self.zones(),
            self.candidates(run, desired, remembered.vpc.as_deref()),
            self.gateways(run, desired),
            expected,
        )?;
        let mut observed = Observed { zones, vpcs, gateways, inside: Inside::default(), remembered };
        // A VPC that cannot be stood in is for the decision to refuse.
        let standing = standing_vpc(desired, &observed).ok().flatten().map(|vpc| vpc.id.clone());
        observed.inside = match standing {
            None => Inside::default(),
            standing if standing == last => expected.map_err(Ec2Error::Behind)?,
            Some(vpc) => self.inside(run, desired, vpc.as_str()).await?,
        };
        Ok(observed)
    }

    async fn perform(&self, run: &Run, desired: &Desired, action: &Action) -> Result<String, Ec2Error> {
        let id = self.call(run, desired, action).await.map_err(sorted_out)?;
        match (action.makes(), id) {
            (Some(role), None) => Err(Ec2Error::NoId(role)),
            (_, id) => Ok(id.unwrap_or_default()),
        }
    }
}

fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

fn our_tags(run: &Run, role: Role) -> Vec<Filter> {
    vec![
        filter("tag:shipway:app", run.app.as_str()),
        filter("tag:shipway:environment", run.environment.as_str()),
        filter("tag:shipway:role", &role.to_string()),
    ]
}

/// The tags that a resource is made with, and is found again by.
fn tags(run: &Run, desired: &Desired, role: Role) -> TagSpecification {
    let tag = |key: &str, value: String| Tag::builder().key(key).value(value).build();
    TagSpecification::builder()
        .resource_type(match role {
            Role::Vpc => ResourceType::Vpc,
            Role::InternetGateway => ResourceType::InternetGateway,
            Role::PublicSubnet(_) => ResourceType::Subnet,
            Role::PublicRoutes => ResourceType::RouteTable,
            Role::LoadBalancerGroup | Role::ServiceGroup => ResourceType::SecurityGroup,
        })
        .tags(tag("Name", desired.resource_name(role)))
        .tags(tag("shipway:app", run.app.to_string()))
        .tags(tag("shipway:environment", run.environment.to_string()))
        .tags(tag("shipway:role", role.to_string()))
        .build()
}

/// What a resource with these tags is for, if it is this environment's.
fn role_of(run: &Run, tags: &[Tag]) -> Option<Role> {
    let value = |key: &str| tags.iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value);
    let ours = value("shipway:app") == Some(run.app.as_str())
        && value("shipway:environment") == Some(run.environment.as_str());
    value("shipway:role").filter(|_| ours).and_then(|role| role.parse().ok())
}

fn association(association: &RouteTableAssociation) -> Option<Association> {
    use RouteTableAssociationStateCode::{Disassociated, Disassociating, Failed};
    let state = association.association_state().and_then(|state| state.state());
    let holds = !matches!(state, Some(Disassociated | Disassociating | Failed));
    let (id, subnet) = (association.route_table_association_id.clone()?, association.subnet_id.clone()?);
    holds.then_some(Association { id, subnet })
}

/// EC2 lists the peers of one protocol and range of ports together; here each is a rule.
fn rules_of(group: &SecurityGroup, permissions: &[IpPermission]) -> BTreeSet<Rule> {
    let mut rules = BTreeSet::new();
    for permission in permissions {
        let protocol = permission.ip_protocol().unwrap_or("-1");
        let ports = permission.from_port().zip(permission.to_port()).filter(|_| protocol != "-1");
        let ipv4 = permission.ip_ranges().iter().filter_map(|range| range.cidr_ip.clone().map(Peer::Ipv4));
        let ipv6 = permission.ipv6_ranges().iter().filter_map(|range| range.cidr_ipv6.clone().map(Peer::Ipv6));
        let lists =
            permission.prefix_list_ids().iter().filter_map(|list| list.prefix_list_id.clone().map(Peer::PrefixList));
        let groups = permission.user_id_group_pairs().iter().filter_map(|pair| {
            let account = pair.user_id.clone().filter(|account| group.owner_id() != Some(account));
            Some(Peer::Group { id: pair.group_id.clone()?, account })
        });
        let peers = ipv4.chain(ipv6).chain(lists).chain(groups);
        rules.extend(peers.map(|peer| Rule { protocol: protocol.to_owned(), ports, peer }));
    }
    rules
}

fn permission(rule: &Rule) -> IpPermission {
    let permission = IpPermission::builder()
        .ip_protocol(&rule.protocol)
        .set_from_port(rule.ports.map(|ports| ports.0))
        .set_to_port(rule.ports.map(|ports| ports.1));
    match &rule.peer {
        Peer::Ipv4(range) => permission.ip_ranges(IpRange::builder().cidr_ip(range).build()),
        Peer::Ipv6(range) => permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(range).build()),
        Peer::PrefixList(id) => permission.prefix_list_ids(PrefixListId::builder().prefix_list_id(id).build()),
        Peer::Group { id, account } => {
            permission.user_id_group_pairs(UserIdGroupPair::builder().group_id(id).set_user_id(account.clone()).build())
        }
    }
    .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        serde_json::from_value(serde_json::json!({
            "app": "hello", "environment": "prod", "component": "platform", "release": "20261121T031542123-000001", "fence": 1,
            "artifact": {"object": {"key": "apps/hello/prod/shipway.yaml", "version": "1"}},
        }))
        .unwrap()
    }

    #[test]
    fn a_resource_is_ours_only_with_all_three_tags() {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let (app, environment, role) =
            (tag("shipway:app", "hello"), tag("shipway:environment", "prod"), tag("shipway:role", "vpc"));
        assert_eq!(role_of(&run(), &[app.clone(), environment.clone(), role.clone()]), Some(Role::Vpc));
        for tags in [
            vec![app.clone(), environment.clone()],
            vec![app.clone(), role.clone()],
            vec![app.clone(), tag("shipway:environment", "dev"), role.clone()],
            vec![tag("shipway:app", "other"), environment.clone(), role.clone()],
            vec![app.clone(), environment.clone(), tag("shipway:role", "database")],
        ] {
            assert_eq!(role_of(&run(), &tags), None, "{tags:?}");
        }
    }

    #[test]
    fn a_permission_is_as_many_rules_as_it_has_peers_and_each_is_sent_alone() {
        let pair = |id: &str, account: &str| UserIdGroupPair::builder().group_id(id).user_id(account).build();
        let web = IpPermission::builder()
            .ip_protocol("tcp")
            .from_port(80)
            .to_port(80)
            .ip_ranges(IpRange::builder().cidr_ip("0.0.0.0/0").description("anyone").build())
            .ipv6_ranges(Ipv6Range::builder().cidr_ipv6("::/0").build())
            .user_id_group_pairs(pair("sg-1", "111111111111"))
            .user_id_group_pairs(pair("sg-2", "222222222222"))
            .prefix_list_ids(PrefixListId::builder().prefix_list_id("pl-1").build())
            .build();
        let all = IpPermission::builder()
            .ip_protocol("-1")
            .ip_ranges(IpRange::builder().cidr_ip("0.0.0.0/0").build())
            .build();
        let group = SecurityGroup::builder().owner_id("111111111111").build();
        let rules = rules_of(&group, &[web, all]);
        assert_eq!(rules.len(), 6);
        let accounts: Vec<_> = rules
            .iter()
            .filter_map(|rule| match &rule.peer {
                Peer::Group { id, account } => Some((id.as_str(), account.as_deref())),
                _ => None,
            })
            .collect();
        assert_eq!(accounts, [("sg-1", None), ("sg-2", Some("222222222222"))]);
        for rule in &rules {
            let group = SecurityGroup::builder().owner_id("111111111111").build();
            assert_eq!(rules_of(&group, &[permission(rule)]), BTreeSet::from([rule.clone()]));
        }
    }

    #[test]
    fn what_another_look_can_mend_is_told_from_what_it_cannot() {
        use aws_sdk_ec2::error::{ErrorMetadata, SdkError};
        let table = [
            ("InvalidVpcID.NotFound", true, Failure::Transient),
            ("InvalidPermission.Duplicate", true, Failure::Transient),
            ("InvalidSubnet.Conflict", true, Failure::Transient),
            ("RequestLimitExceeded", false, Failure::Transient),
            ("VpcLimitExceeded", false, Failure::Quota),
            ("RulesPerSecurityGroupLimitExceeded", false, Failure::Quota),
            ("UnauthorizedOperation", false, Failure::Denied),
            ("InvalidParameterValue", false, Failure::Bug),
        ];
        for (code, is_behind, failure) in table {
            let error = SdkError::service_error(ErrorMetadata::builder().code(code).build(), ());
            let error = sorted_out(AwsError::of("ec2:Call")(error));
            assert_eq!((matches!(error, Ec2Error::Behind(_)), error.failure()), (is_behind, failure), "{code}");
        }
    }
}
