//! Between the SDK's types and the domain's.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{
    self, Filter, IpPermission, IpRange, Ipv6Range, NatGatewayState, PrefixListId, ResourceType, RouteTableAssociation,
    RouteTableAssociationStateCode, SecurityGroup, State, Tag, TagSpecification, UserIdGroupPair, VpcEndpoint,
};
use shipway_domain::network::{Association, Owner, Peer, Role, Rule, Stage};

pub(crate) fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

pub(crate) fn our_tags(owner: &Owner, role: &Role) -> Vec<Filter> {
    vec![
        filter("tag:shipway:app", owner.app.as_str()),
        filter("tag:shipway:environment", owner.environment.as_str()),
        filter("tag:shipway:role", &role.to_string()),
    ]
}

/// The tags that a resource is made with, and is found again by.
pub(crate) fn tags(owner: &Owner, role: &Role) -> TagSpecification {
    let tag = |key: &str, value: String| Tag::builder().key(key).value(value).build();
    TagSpecification::builder()
        .resource_type(match role {
            Role::Vpc => ResourceType::Vpc,
            Role::InternetGateway => ResourceType::InternetGateway,
            Role::Subnet(..) => ResourceType::Subnet,
            Role::PublicRoutes | Role::PrivateRoutes(_) | Role::IsolatedRoutes => ResourceType::RouteTable,
            Role::Address(_) => ResourceType::ElasticIp,
            Role::NatGateway(_) => ResourceType::Natgateway,
            Role::Endpoint(_) => ResourceType::VpcEndpoint,
            Role::LoadBalancerGroup
            | Role::ServiceGroup
            | Role::InstanceGroup
            | Role::DatabaseGroup
            | Role::CacheGroup
            | Role::EndpointGroup => ResourceType::SecurityGroup,
        })
        .tags(tag("Name", owner.resource_name(role)))
        .tags(tag("shipway:app", owner.app.to_string()))
        .tags(tag("shipway:environment", owner.environment.to_string()))
        .tags(tag("shipway:role", role.to_string()))
        .build()
}

/// What a resource with these tags is for, if it is this environment's.
pub(crate) fn role_of(owner: &Owner, tags: &[Tag]) -> Option<Role> {
    let value = |key: &str| tags.iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value);
    let ours = value("shipway:app") == Some(owner.app.as_str())
        && value("shipway:environment") == Some(owner.environment.as_str());
    value("shipway:role").filter(|_| ours).and_then(|role| role.parse().ok())
}

/// What a table's route to everywhere leads to. Whatever that is, it has one of these.
pub(crate) fn default_route(table: &types::RouteTable) -> Option<String> {
    let everywhere = table.routes().iter().find(|route| route.destination_cidr_block() == Some("0.0.0.0/0"))?;
    let targets = [
        everywhere.gateway_id(),
        everywhere.nat_gateway_id(),
        everywhere.transit_gateway_id(),
        everywhere.network_interface_id(),
    ];
    Some(targets.into_iter().flatten().next().unwrap_or("elsewhere").to_owned())
}

pub(crate) fn association(association: &RouteTableAssociation) -> Option<Association> {
    use RouteTableAssociationStateCode::{Disassociated, Disassociating, Failed};
    let state = association.association_state().and_then(|state| state.state());
    let holds = !matches!(state, Some(Disassociated | Disassociating | Failed));
    let (id, subnet) = (association.route_table_association_id.clone()?, association.subnet_id.clone()?);
    holds.then_some(Association { id, subnet })
}

/// How far EC2 is with a NAT gateway; nothing for one that it shows for an hour after it is gone.
pub(crate) fn stage_of_nat_gateway(gateway: &types::NatGateway) -> Option<Stage> {
    match gateway.state()? {
        NatGatewayState::Pending => Some(Stage::Pending),
        NatGatewayState::Available => Some(Stage::Available),
        NatGatewayState::Deleting => Some(Stage::Deleting),
        NatGatewayState::Failed => {
            let why = gateway.failure_message().or(gateway.failure_code()).unwrap_or("it does not say why");
            Some(Stage::Failed(why.to_owned()))
        }
        _ => None,
    }
}

/// How far EC2 is with an endpoint; nothing for one that is gone.
pub(crate) fn stage_of_endpoint(endpoint: &VpcEndpoint) -> Option<Stage> {
    // The answers spell the states in either case.
    match endpoint.state()? {
        State::Deleted => None,
        State::Available => Some(Stage::Available),
        State::Deleting => Some(Stage::Deleting),
        State::Failed | State::Expired | State::Rejected => {
            let why = endpoint.last_error().and_then(|error| error.message().or(error.code()));
            Some(Stage::Failed(why.unwrap_or("it does not say why").to_owned()))
        }
        state => match state.as_str().to_ascii_lowercase().as_str() {
            "available" => Some(Stage::Available),
            "deleting" => Some(Stage::Deleting),
            "deleted" => None,
            "failed" => Some(Stage::Failed("it does not say why".to_owned())),
            _ => Some(Stage::Pending),
        },
    }
}

/// EC2 lists the peers of one protocol and range of ports together; here each is a rule.
pub(crate) fn rules_of(group: &SecurityGroup, permissions: &[IpPermission]) -> BTreeSet<Rule> {
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

pub(crate) fn permission(rule: &Rule) -> IpPermission {
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

    fn owner() -> Owner {
        Owner { app: "hello".parse().unwrap(), environment: "prod".parse().unwrap() }
    }

    #[test]
    fn a_resource_is_ours_only_with_all_three_tags() {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let (app, environment, role) =
            (tag("shipway:app", "hello"), tag("shipway:environment", "prod"), tag("shipway:role", "vpc"));
        assert_eq!(role_of(&owner(), &[app.clone(), environment.clone(), role.clone()]), Some(Role::Vpc));
        for tags in [
            vec![app.clone(), environment.clone()],
            vec![app.clone(), role.clone()],
            vec![app.clone(), tag("shipway:environment", "dev"), role.clone()],
            vec![tag("shipway:app", "other"), environment.clone(), role.clone()],
            vec![app.clone(), environment.clone(), tag("shipway:role", "bucket")],
        ] {
            assert_eq!(role_of(&owner(), &tags), None, "{tags:?}");
        }
    }

    #[test]
    fn what_is_made_is_found_by_the_tags_it_is_made_with() {
        for role in Role::GROUPS.into_iter().chain([Role::Vpc, Role::Address(1), Role::NatGateway(0)]) {
            let specification = tags(&owner(), &role);
            assert_eq!(role_of(&owner(), specification.tags()), Some(role));
        }
    }

    #[test]
    fn what_is_gone_is_not_there_however_long_ec2_shows_it() {
        let gateway =
            |state: NatGatewayState| types::NatGateway::builder().state(state).failure_message("no room").build();
        assert_eq!(stage_of_nat_gateway(&gateway(NatGatewayState::Deleted)), None);
        let failed = stage_of_nat_gateway(&gateway(NatGatewayState::Failed));
        assert_eq!(failed, Some(Stage::Failed("no room".to_owned())));
        let endpoint = |state: &str| VpcEndpoint::builder().state(State::from(state)).build();
        for (state, stage) in [
            ("pending", Some(Stage::Pending)),
            ("PendingAcceptance", Some(Stage::Pending)),
            ("available", Some(Stage::Available)),
            ("Available", Some(Stage::Available)),
            ("deleting", Some(Stage::Deleting)),
            ("deleted", None),
        ] {
            assert_eq!(stage_of_endpoint(&endpoint(state)), stage, "{state}");
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
}
