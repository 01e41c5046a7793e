//! What EC2 shows of a network.

use aws_sdk_ec2::types::{AvailabilityZoneState, Filter, VpcAttributeName};
use futures_util::try_join;
use shipway_aws::AwsError;
use shipway_domain::network::{
    Action, Address, Desired, Endpoint, Gateway, Group, Inside, Interface, NatGateway, Observed, Owner, Place,
    Remembered, Role, RouteTable, Subnet, Vpc, Zone, standing_vpc,
};

use crate::{
    Ec2Client, Ec2Error,
    convert::{
        association, default_route, filter, our_tags, role_of, rules_of, stage_of_endpoint, stage_of_nat_gateway,
    },
    sorted_out,
};

/// The list of the addresses from which CloudFront comes to origins.
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/LocationsOfEdgeServers.html>
const CLOUDFRONT: &str = "com.amazonaws.global.cloudfront.origin-facing";

/// Gathers all pages of a call.
macro_rules! all {
    ($request:expr, $call:literal) => {{
        let mut pages = $request.into_paginator().items().send();
        let mut all = Vec::new();
        while let Some(item) = pages.next().await {
            all.push(item.map_err(AwsError::of($call)).map_err(sorted_out)?);
        }
        all
    }};
}

impl Ec2Client {
    /// What of this network is there.
    pub async fn look(&self, desired: &Desired, remembered: Remembered) -> Result<Observed, Ec2Error> {
        let owner = &desired.owner;
        let last = match &desired.place {
            Place::Given { vpc, .. } => Some(vpc.clone()),
            _ => remembered.vpc.as_ref().or(remembered.progress.made.get(&Role::Vpc)).cloned(),
        };
        // Most looks are at a VPC that is known already; then nothing has to wait for its id.
        let expected = async {
            match &last {
                Some(vpc) => match self.inside(desired, vpc).await {
                    Err(Ec2Error::Behind(error)) => Ok(Err(error)),
                    inside => inside.map(Ok),
                },
                None => Ok(Ok(Inside::default())),
            }
        };
        let gateways = async { if desired.is_own() { self.gateways(owner).await } else { Ok(Vec::new()) } };
        let addresses = async { if desired.is_own() { self.addresses(owner).await } else { Ok(Vec::new()) } };
        let (zones, vpcs, gateways, addresses, cloudfront, expected) = try_join!(
            self.zones(),
            self.candidates(desired, remembered.vpc.as_deref()),
            gateways,
            addresses,
            self.cloudfront(desired),
            expected,
        )?;
        let mut observed =
            Observed { zones, vpcs, gateways, addresses, cloudfront, inside: Inside::default(), remembered };
        // A VPC that cannot be stood in is for the decision to refuse.
        let standing = standing_vpc(desired, &observed).ok().flatten().map(|vpc| vpc.id.clone());
        observed.inside = match standing {
            None => Inside::default(),
            standing if standing == last => expected.map_err(Ec2Error::Behind)?,
            Some(vpc) => self.inside(desired, vpc.as_str()).await?,
        };
        Ok(observed)
    }

    /// What carries this environment's tags, in whichever VPC.
    pub async fn look_at_remains(&self, owner: &Owner, remembered: Remembered) -> Result<Observed, Ec2Error> {
        let ours = || of_owner(owner);
        let (vpcs, gateways, addresses, subnets, tables, nat_gateways, endpoints, groups) = try_join!(
            self.vpcs(owner, our_tags(owner, &Role::Vpc)),
            self.gateways(owner),
            self.addresses(owner),
            self.subnets(owner, ours()),
            self.tables(owner, ours()),
            self.nat_gateways(owner, ours()),
            self.endpoints(owner, ours()),
            self.groups(owner, ours()),
        )?;
        let inside = Inside {
            subnets: subnets.into_iter().filter(|known| known.role.is_some()).collect(),
            tables: tables.into_iter().filter(|known| known.role.is_some()).collect(),
            groups: groups.into_iter().filter(|known| known.role.is_some()).collect(),
            nat_gateways,
            endpoints,
            ..Inside::default()
        };
        Ok(Observed { vpcs, gateways, addresses, inside, remembered, ..Observed::default() })
    }

    /// What of others keeps an action that deletes something from being done.
    pub async fn in_the_way(&self, owner: &Owner, action: &Action) -> Result<Vec<String>, Ec2Error> {
        let one = |name: &str, value: &str| vec![filter(name, value)];
        match action {
            Action::DeleteSubnet { subnet } => self.described_interfaces(one("subnet-id", subnet)).await,
            Action::DetachInternetGateway { vpc, .. } => self.described_interfaces(one("vpc-id", vpc)).await,
            Action::DeleteGroup { group } => {
                let (mut names, incoming, outgoing) = try_join!(
                    self.described_interfaces(one("group-id", group)),
                    self.groups(owner, one("ip-permission.group-id", group)),
                    self.groups(owner, one("egress.ip-permission.group-id", group)),
                )?;
                let naming = incoming.into_iter().chain(outgoing).filter(|other| other.id != *group);
                names.extend(naming.map(|other| format!("{} ({}), a rule of which names it", other.id, other.name)));
                Ok(names)
            }
            Action::DeleteVpc { vpc } => {
                let inside = || one("vpc-id", vpc);
                let (mut names, subnets, groups) = try_join!(
                    self.described_interfaces(inside()),
                    self.subnets(owner, inside()),
                    self.groups(owner, inside()),
                )?;
                names.extend(subnets.into_iter().map(|subnet| format!("{} ({})", subnet.id, subnet.cidr)));
                // A VPC takes the group along that it was made with.
                let groups = groups.into_iter().filter(|group| group.name != "default");
                names.extend(groups.map(|group| format!("{} ({})", group.id, group.name)));
                Ok(names)
            }
            _ => Ok(Vec::new()),
        }
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

    async fn vpcs(&self, owner: &Owner, filters: Vec<Filter>) -> Result<Vec<Vpc>, Ec2Error> {
        let found = all!(self.client.describe_vpcs().set_filters(Some(filters)), "ec2:DescribeVpcs");
        let vpcs = found.into_iter().map(|vpc| Vpc {
            ours: role_of(owner, vpc.tags()) == Some(Role::Vpc),
            default: vpc.is_default.unwrap_or_default(),
            cidr: vpc.cidr_block.unwrap_or_default(),
            id: vpc.vpc_id.unwrap_or_default(),
        });
        Ok(vpcs.collect())
    }

    /// The VPCs that may be the environment's: two filters of one request must both hold, so these are requests of their own.
    async fn candidates(&self, desired: &Desired, last: Option<&str>) -> Result<Vec<Vpc>, Ec2Error> {
        let owner = &desired.owner;
        let wanted = match &desired.place {
            Place::Own(_) => our_tags(owner, &Role::Vpc),
            Place::Default => vec![filter("is-default", "true")],
            Place::Given { vpc, .. } => vec![filter("vpc-id", vpc)],
        };
        let by_id = async {
            match last {
                Some(last) => self.vpcs(owner, vec![filter("vpc-id", last)]).await,
                None => Ok(Vec::new()),
            }
        };
        let (mut vpcs, last) = try_join!(self.vpcs(owner, wanted), by_id)?;
        vpcs.extend(last);
        vpcs.sort_by(|a, b| a.id.cmp(&b.id));
        vpcs.dedup_by(|a, b| a.id == b.id);
        Ok(vpcs)
    }

    async fn gateways(&self, owner: &Owner) -> Result<Vec<Gateway>, Ec2Error> {
        let filters = our_tags(owner, &Role::InternetGateway);
        let request = self.client.describe_internet_gateways().set_filters(Some(filters));
        let found = all!(request, "ec2:DescribeInternetGateways");
        let gateways = found.into_iter().map(|gateway| Gateway {
            vpc: gateway.attachments().first().and_then(|attachment| attachment.vpc_id.clone()),
            id: gateway.internet_gateway_id.unwrap_or_default(),
        });
        Ok(gateways.collect())
    }

    async fn addresses(&self, owner: &Owner) -> Result<Vec<Address>, Ec2Error> {
        let request = self.client.describe_addresses().set_filters(Some(of_owner(owner)));
        let output = request.send().await.map_err(AwsError::of("ec2:DescribeAddresses"))?;
        let addresses = output.addresses.unwrap_or_default().into_iter().filter_map(|address| {
            Some(Address {
                role: role_of(owner, address.tags())?,
                taken: address.association_id.is_some(),
                id: address.allocation_id?,
            })
        });
        Ok(addresses.collect())
    }

    async fn cloudfront(&self, desired: &Desired) -> Result<Option<String>, Ec2Error> {
        if !desired.names_cloudfront() {
            return Ok(None);
        }
        let request = self.client.describe_managed_prefix_lists().filters(filter("prefix-list-name", CLOUDFRONT));
        let lists = all!(request, "ec2:DescribeManagedPrefixLists");
        let list = lists.into_iter().find(|list| list.prefix_list_name() == Some(CLOUDFRONT));
        Ok(list.and_then(|list| list.prefix_list_id))
    }

    /// What is in a VPC.
    async fn inside(&self, desired: &Desired, vpc: &str) -> Result<Inside, Ec2Error> {
        let owner = &desired.owner;
        let inside = || vec![filter("vpc-id", vpc)];
        let names = Role::GROUPS.map(|role| owner.group_name(&role));
        let names = Filter::builder().name("group-name").set_values(Some(names.into())).build();
        let groups = self.groups(owner, vec![filter("vpc-id", vpc), names]);
        if !desired.is_own() {
            let mut filters = inside();
            if desired.place == Place::Default {
                filters.push(filter("default-for-az", "true"));
            }
            let (subnets, groups) = try_join!(self.subnets(owner, filters), groups)?;
            return Ok(Inside { dns_support: true, dns_hostnames: true, subnets, groups, ..Inside::default() });
        }
        let (dns_support, dns_hostnames, subnets, tables, nat_gateways, endpoints, interfaces, groups) = try_join!(
            self.attribute(vpc, VpcAttributeName::EnableDnsSupport),
            self.attribute(vpc, VpcAttributeName::EnableDnsHostnames),
            self.subnets(owner, inside()),
            self.tables(owner, inside()),
            self.nat_gateways(owner, inside()),
            self.endpoints(owner, inside()),
            self.interfaces(inside()),
            groups,
        )?;
        let interfaces = interfaces.into_iter().map(|(interface, _)| interface).collect();
        Ok(Inside { dns_support, dns_hostnames, subnets, tables, nat_gateways, endpoints, interfaces, groups })
    }

    async fn attribute(&self, vpc: &str, name: VpcAttributeName) -> Result<bool, Ec2Error> {
        let request = self.client.describe_vpc_attribute().vpc_id(vpc).attribute(name);
        let sent = request.send().await.map_err(AwsError::of("ec2:DescribeVpcAttribute"));
        let output = sent.map_err(sorted_out)?;
        let value = output.enable_dns_support.or(output.enable_dns_hostnames);
        Ok(value.and_then(|value| value.value).unwrap_or_default())
    }

    async fn subnets(&self, owner: &Owner, filters: Vec<Filter>) -> Result<Vec<Subnet>, Ec2Error> {
        let found = all!(self.client.describe_subnets().set_filters(Some(filters)), "ec2:DescribeSubnets");
        let subnets = found.into_iter().map(|subnet| Subnet {
            role: role_of(owner, subnet.tags()),
            zone: subnet.availability_zone.unwrap_or_default(),
            cidr: subnet.cidr_block.unwrap_or_default(),
            public_addresses: subnet.map_public_ip_on_launch.unwrap_or_default(),
            id: subnet.subnet_id.unwrap_or_default(),
        });
        Ok(subnets.collect())
    }

    async fn tables(&self, owner: &Owner, filters: Vec<Filter>) -> Result<Vec<RouteTable>, Ec2Error> {
        let found = all!(self.client.describe_route_tables().set_filters(Some(filters)), "ec2:DescribeRouteTables");
        let tables = found.into_iter().map(|table| RouteTable {
            role: role_of(owner, table.tags()),
            default_route: default_route(&table),
            associations: table.associations().iter().filter_map(association).collect(),
            id: table.route_table_id.unwrap_or_default(),
        });
        Ok(tables.collect())
    }

    async fn nat_gateways(&self, owner: &Owner, filters: Vec<Filter>) -> Result<Vec<NatGateway>, Ec2Error> {
        let found = all!(self.client.describe_nat_gateways().set_filter(Some(filters)), "ec2:DescribeNatGateways");
        let gateways = found.into_iter().filter_map(|gateway| {
            let addresses = gateway.nat_gateway_addresses();
            Some(NatGateway {
                role: role_of(owner, gateway.tags())?,
                stage: stage_of_nat_gateway(&gateway)?,
                address: addresses.first().and_then(|address| address.allocation_id.clone()),
                interfaces: addresses.iter().filter_map(|address| address.network_interface_id.clone()).collect(),
                subnet: gateway.subnet_id.unwrap_or_default(),
                id: gateway.nat_gateway_id.unwrap_or_default(),
            })
        });
        Ok(gateways.collect())
    }

    async fn endpoints(&self, owner: &Owner, filters: Vec<Filter>) -> Result<Vec<Endpoint>, Ec2Error> {
        let found = all!(self.client.describe_vpc_endpoints().set_filters(Some(filters)), "ec2:DescribeVpcEndpoints");
        let endpoints = found.into_iter().filter_map(|endpoint| {
            let groups = endpoint.groups().iter().filter_map(|group| group.group_id.clone());
            Some(Endpoint {
                role: role_of(owner, endpoint.tags())?,
                stage: stage_of_endpoint(&endpoint)?,
                groups: groups.collect(),
                tables: endpoint.route_table_ids.unwrap_or_default().into_iter().collect(),
                subnets: endpoint.subnet_ids.unwrap_or_default().into_iter().collect(),
                private_dns: endpoint.private_dns_enabled.unwrap_or_default(),
                interfaces: endpoint.network_interface_ids.unwrap_or_default(),
                id: endpoint.vpc_endpoint_id.unwrap_or_default(),
            })
        });
        Ok(endpoints.collect())
    }

    /// The interfaces, and what their owners say of them.
    async fn interfaces(&self, filters: Vec<Filter>) -> Result<Vec<(Interface, String)>, Ec2Error> {
        let request = self.client.describe_network_interfaces().set_filters(Some(filters));
        let found = all!(request, "ec2:DescribeNetworkInterfaces");
        let interfaces = found.into_iter().map(|interface| {
            let description = interface.description.unwrap_or_default();
            let subnet = interface.subnet_id.unwrap_or_default();
            (Interface { id: interface.network_interface_id.unwrap_or_default(), subnet }, description)
        });
        Ok(interfaces.collect())
    }

    async fn described_interfaces(&self, filters: Vec<Filter>) -> Result<Vec<String>, Ec2Error> {
        let interfaces = self.interfaces(filters).await?.into_iter();
        let described = interfaces.map(|(Interface { id, subnet }, description)| match description.as_str() {
            "" => format!("{id} in {subnet}"),
            description => format!("{id} in {subnet} ({description})"),
        });
        Ok(described.collect())
    }

    async fn groups(&self, owner: &Owner, filters: Vec<Filter>) -> Result<Vec<Group>, Ec2Error> {
        let request = self.client.describe_security_groups().set_filters(Some(filters));
        let found = all!(request, "ec2:DescribeSecurityGroups");
        let groups = found.into_iter().map(|group| Group {
            role: role_of(owner, group.tags()),
            fresh: false,
            incoming: rules_of(&group, group.ip_permissions()),
            outgoing: rules_of(&group, group.ip_permissions_egress()),
            name: group.group_name.unwrap_or_default(),
            id: group.group_id.unwrap_or_default(),
        });
        Ok(groups.collect())
    }
}

/// What carries an environment's tags, whatever it is for.
fn of_owner(owner: &Owner) -> Vec<Filter> {
    vec![
        filter("tag:shipway:app", owner.app.as_str()),
        filter("tag:shipway:environment", owner.environment.as_str()),
        filter("tag-key", "shipway:role"),
    ]
}
