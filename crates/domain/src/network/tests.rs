use proptest::{prelude::*, sample::Index};

use super::*;

fn own(zones: u8) -> Desired {
    let place = Place::Own { cidr: Cidr::DEFAULT, zones };
    Desired { name: "hello-prod".to_owned(), place, ports: BTreeSet::from([3000, 8080]) }
}

fn in_default_vpc() -> Desired {
    Desired { place: Place::Default, ..own(2) }
}

fn region(zones: usize) -> Observed {
    // Neither the names nor the ids come in any order.
    let zones = (0..zones).rev().map(|n| Zone {
        name: format!("eu-west-1{}", char::from(b'a' + n as u8)),
        id: format!("euw1-az{}", (n + 1) % zones + 1),
    });
    Observed { zones: zones.collect(), ..Observed::default() }
}

fn region_with_default_vpc() -> Observed {
    let subnet = |zone: &str, cidr: &str| Subnet {
        id: format!("subnet-default-{zone}"),
        role: None,
        zone: format!("eu-west-1{zone}"),
        cidr: cidr.to_owned(),
        public_addresses: true,
    };
    let vpc = Vpc { id: "vpc-default".to_owned(), cidr: "172.31.0.0/16".to_owned(), ours: false, default: true };
    Observed {
        vpcs: vec![vpc],
        inside: Inside {
            dns_support: true,
            dns_hostnames: true,
            subnets: vec![subnet("c", "172.31.32.0/20"), subnet("a", "172.31.0.0/20"), subnet("b", "172.31.16.0/20")],
            ..Inside::default()
        },
        ..region(3)
    }
}

/// Does an action to the world as EC2 would, which refuses what is not so.
fn act(world: Observed, action: &Action, count: &mut usize) -> Observed {
    let inside = &world.inside;
    let vpc = |id: &String| assert!(world.vpcs.iter().any(|vpc| vpc.id == *id), "{action:?}: {id} is not there");
    let subnet =
        |id: &String| assert!(inside.subnets.iter().any(|subnet| subnet.id == *id), "{action:?}: {id} is not there");
    let table = |id: &String| inside.tables.iter().find(|table| table.id == *id).expect("no such table");
    let rules = |id: &String, direction: Direction| {
        let group = inside.groups.iter().find(|group| group.id == *id).expect("no such group");
        if direction == Direction::Incoming { group.incoming.clone() } else { group.outgoing.clone() }
    };
    match action {
        Action::CreateVpc { .. } => assert!(!world.vpcs.iter().any(|vpc| vpc.ours), "a second VPC"),
        Action::CreateInternetGateway => assert!(world.gateways.is_empty(), "a second gateway"),
        Action::EnableDnsSupport { vpc: id } => vpc(id),
        Action::EnableDnsHostnames { vpc: id } => {
            vpc(id);
            assert!(inside.dns_support, "names without support");
        }
        Action::AttachInternetGateway { gateway, vpc: id } => {
            vpc(id);
            assert!(world.gateways.iter().any(|known| known.id == *gateway && known.vpc.is_none()), "{action:?}");
        }
        Action::CreateSubnet { vpc: id, cidr, zone, .. } => {
            vpc(id);
            assert!(world.zones.iter().any(|known| known.name == *zone), "{action:?}");
            for other in &inside.subnets {
                assert!(!other.cidr.parse::<Cidr>().unwrap().overlaps(*cidr), "{action:?} overlaps {other:?}");
            }
        }
        Action::GivePublicAddresses { subnet: id } => subnet(id),
        Action::CreateRouteTable { vpc: id } => {
            vpc(id);
            assert!(!inside.tables.iter().any(|table| table.role.is_some()), "a second table");
        }
        Action::CreateDefaultRoute { table: id, gateway } | Action::ReplaceDefaultRoute { table: id, gateway } => {
            let new = matches!(action, Action::CreateDefaultRoute { .. });
            assert_eq!(table(id).default_route.is_none(), new, "{action:?}");
            assert!(world.gateways.iter().any(|known| known.id == *gateway && known.vpc.is_some()), "not attached");
        }
        Action::AssociateRouteTable { table: id, subnet: of } => {
            table(id);
            subnet(of);
            let used = inside.tables.iter().flat_map(|table| &table.associations).any(|known| known.subnet == *of);
            assert!(!used, "{action:?}: it has one");
        }
        Action::ReplaceAssociation { association, table: id, subnet: of } => {
            table(id);
            let mut known = inside.tables.iter().flat_map(|table| &table.associations);
            assert!(known.any(|known| known.id == *association && known.subnet == *of), "{action:?}");
        }
        Action::CreateGroup { name, vpc: id, .. } => {
            vpc(id);
            assert!(!inside.groups.iter().any(|group| group.name == *name), "a second {name}");
        }
        Action::Authorize { group, direction, rules: new } => {
            assert!(!new.is_empty() && new.iter().all(|rule| !rules(group, *direction).contains(rule)), "{action:?}");
        }
        Action::Revoke { group, direction, rules: old } => {
            assert!(!old.is_empty() && old.iter().all(|rule| rules(group, *direction).contains(rule)), "{action:?}");
        }
    }
    *count += 1;
    world.with(action, &format!("id-{count}"))
}

/// A look after a while: nothing counts as made a moment ago.
fn looked_at(mut world: Observed) -> Observed {
    world.inside.groups.iter_mut().for_each(|group| group.fresh = false);
    world
}

/// Acts until nothing is left to do, each time on a part of what is ready, and may be cut off before any of it.
fn converge(desired: &Desired, mut world: Observed, picks: &[Index], count: &mut usize) -> (Observed, NetworkOutputs) {
    let mut picks = picks.iter().cycle();
    for round in 0..200 {
        match next_actions(desired, &world).unwrap() {
            Step::Act(actions) => {
                assert!(!actions.is_empty());
                let pick = picks.next().map_or(0, |pick| pick.index(actions.len()));
                // One of them alone, or it and all that come after.
                let most = if round % 3 == 0 { actions.len() } else { 1 };
                for action in actions.iter().skip(pick).take(most) {
                    world = act(world, action, count);
                }
                if round % 4 == 3 {
                    world = looked_at(world);
                }
            }
            Step::LookAgain(why) => panic!("nothing is in doubt here: {why}"),
            Step::Done(outputs) => return (looked_at(world), outputs),
        }
    }
    panic!("it does not converge");
}

fn made(desired: &Desired, world: Observed) -> (Observed, NetworkOutputs) {
    converge(desired, world, &[], &mut 0)
}

fn names(step: &Step) -> Vec<String> {
    let Step::Act(actions) = step else { panic!("{step:?}") };
    actions.iter().map(|action| format!("{action:?}").split([' ', '{']).next().unwrap().to_owned()).collect()
}

#[test]
fn what_does_not_wait_for_each_other_comes_out_together() {
    let desired = own(2);
    let mut world = region(3);
    let mut rounds = Vec::new();
    let mut count = 0;
    while let step @ Step::Act(_) = next_actions(&desired, &world).unwrap() {
        rounds.push(names(&step));
        let Step::Act(actions) = step else { unreachable!() };
        for action in &actions {
            world = act(world, action, &mut count);
        }
    }
    assert_eq!(
        rounds,
        [
            vec!["CreateInternetGateway", "CreateVpc"],
            vec![
                "EnableDnsHostnames",
                "AttachInternetGateway",
                "CreateSubnet",
                "CreateSubnet",
                "CreateRouteTable",
                "CreateGroup",
                "CreateGroup",
            ],
            vec![
                "GivePublicAddresses",
                "GivePublicAddresses",
                "CreateDefaultRoute",
                "AssociateRouteTable",
                "AssociateRouteTable",
                "Authorize",
                "Authorize",
                "Revoke",
                "Authorize",
                "Authorize",
            ],
        ]
    );
}

#[test]
fn a_network_of_its_own_is_cut_into_ranges_by_tier_and_zone() {
    let (world, outputs) = made(&own(3), region(3));
    let subnets: Vec<_> =
        world.inside.subnets.iter().map(|subnet| (subnet.cidr.as_str(), subnet.zone.as_str())).collect();
    assert_eq!(
        subnets,
        [("10.0.0.0/20", "eu-west-1a"), ("10.0.16.0/20", "eu-west-1b"), ("10.0.32.0/20", "eu-west-1c"),]
    );
    assert_eq!(outputs.public_subnets.len(), 3);
    assert_eq!(outputs.cidr, "10.0.0.0/16");
    let small = Desired { place: Place::Own { cidr: "10.9.8.0/24".parse().unwrap(), zones: 2 }, ..own(2) };
    let (world, _) = made(&small, region(2));
    let subnets: Vec<_> = world.inside.subnets.iter().map(|subnet| subnet.cidr.as_str()).collect();
    assert_eq!(subnets, ["10.9.8.0/28", "10.9.8.16/28"]);
}

#[test]
fn the_groups_let_through_what_the_manifest_asks_for_and_nothing_else() {
    let (world, outputs) = made(&own(2), region(2));
    let shown = |id: &str, incoming: bool| {
        let group = world.inside.groups.iter().find(|group| group.id == id).unwrap();
        let rules = if incoming { &group.incoming } else { &group.outgoing };
        rules.iter().map(Rule::to_string).collect::<Vec<_>>()
    };
    let (load_balancers, services) = (outputs.load_balancer_group.as_str(), outputs.service_group.as_str());
    let requests = ["tcp 80 (0.0.0.0/0)", "tcp 80 (::/0)", "tcp 443 (0.0.0.0/0)", "tcp 443 (::/0)"];
    assert_eq!(shown(load_balancers, true), requests);
    assert_eq!(shown(load_balancers, false), [format!("tcp 3000 ({services})"), format!("tcp 8080 ({services})")]);
    assert_eq!(shown(services, true), [format!("tcp 3000 ({load_balancers})"), format!("tcp 8080 ({load_balancers})")]);
    assert_eq!(shown(services, false), ["all traffic (0.0.0.0/0)", "all traffic (::/0)"]);
}

#[test]
fn the_default_vpc_is_used_as_it_is_and_gets_two_groups() {
    let (world, outputs) = made(&in_default_vpc(), region_with_default_vpc());
    assert_eq!(outputs.vpc, "vpc-default");
    assert_eq!(outputs.public_subnets, ["subnet-default-a", "subnet-default-b", "subnet-default-c"]);
    let groups = world.inside.groups.clone();
    assert_eq!(groups.len(), 2);
    let untouched = Inside { groups: Vec::new(), ..world.inside };
    assert_eq!(untouched, region_with_default_vpc().inside);
}

#[test]
fn a_third_zone_adds_a_subnet_and_leaves_the_others_where_they_are() {
    let (mut world, before) = made(&own(2), region(2));
    // The region's zones are others now: a subnet that is there keeps its own.
    world.zones = ["eu-west-1c", "eu-west-1b"].map(|name| Zone { name: name.to_owned(), id: name.to_owned() }).into();
    let (world, after) = made(&own(3), world);
    assert_eq!(after.public_subnets[..2], before.public_subnets);
    assert_eq!(world.inside.subnets[2].zone, "eu-west-1c");
}

#[test]
fn zones_that_fargate_does_not_run_in_are_kept_out_of() {
    let mut world = region(3);
    world.zones[2].id = "apne1-az3".to_owned();
    let (world, _) = made(&own(2), world);
    let zones: Vec<_> = world.inside.subnets.iter().map(|subnet| subnet.zone.as_str()).collect();
    assert_eq!(zones, ["eu-west-1b", "eu-west-1c"]);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let stands = || looked_at(made(&own(2), region(3)).0);
    let elsewhere = Desired { place: Place::Own { cidr: "10.1.0.0/16".parse().unwrap(), zones: 2 }, ..own(2) };
    let last = |mut world: Observed, vpc: &str| {
        world.remembered.vpc = Some(vpc.to_owned());
        world
    };
    let (own_id, default) = (stands().vpcs[0].id.clone(), region_with_default_vpc());
    let mut in_the_way = region_with_default_vpc();
    in_the_way.vpcs[0] = Vpc { id: "vpc-1".to_owned(), cidr: "10.0.0.0/16".to_owned(), ours: true, default: false };
    in_the_way.inside.subnets.truncate(1);
    in_the_way.inside.subnets[0].cidr = "10.0.24.0/24".to_owned();
    let mut stranger = region_with_default_vpc();
    stranger.inside.groups.push(Group {
        id: "sg-1".to_owned(),
        name: "hello-prod-service-group".to_owned(),
        role: None,
        fresh: false,
        incoming: BTreeSet::new(),
        outgoing: BTreeSet::new(),
    });
    let mut one_zone = region_with_default_vpc();
    one_zone.inside.subnets.truncate(1);
    let mut untagged = last(stands(), &own_id);
    untagged.vpcs[0].ours = false;
    let mut both = last(stands(), &own_id);
    both.vpcs.extend(default.vpcs.clone());
    let table: [(Desired, Observed, Failure, &str); 10] = [
        (elsewhere, stands(), Failure::Conflict, "network.cidr is 10.1.0.0/16, but"),
        (
            own(3),
            region(2),
            Failure::RejectedManifest,
            "only 2 zones of this region can be used: eu-west-1a, eu-west-1b",
        ),
        (own(2), made(&own(3), region(3)).0, Failure::Conflict, "write `azs: 3` again"),
        (in_default_vpc(), region(3), Failure::Conflict, "no default VPC in this region"),
        (in_default_vpc(), one_zone, Failure::Conflict, "default subnets in 1 zones"),
        (in_default_vpc(), both, Failure::Conflict, "cannot move to another"),
        (own(2), last(default, "vpc-default"), Failure::Conflict, "cannot move to another"),
        (own(2), untagged, Failure::Conflict, "does not carry its tags any more"),
        (own(2), in_the_way, Failure::Conflict, "lies in 10.0.16.0/20, where public-subnet-b belongs"),
        (in_default_vpc(), stranger, Failure::Conflict, "has the name hello-prod-service-group but not"),
    ];
    for (desired, observed, failure, message) in table {
        let refusal = next_actions(&desired, &observed).unwrap_err();
        assert_eq!(refusal.failure(), failure, "{refusal}");
        assert!(refusal.to_string().contains(message), "{refusal}");
    }
}

#[test]
fn what_may_be_there_unseen_is_looked_for_before_it_is_made_again() {
    let mut world = region(2);
    world.remembered.progress.asked.insert(Role::Vpc);
    for behind in 0..SETTLE_LOOKS {
        world.remembered.progress.behind = behind;
        assert!(matches!(next_actions(&own(2), &world), Ok(Step::LookAgain(_))), "{behind}");
    }
    world.remembered.progress.behind = SETTLE_LOOKS;
    assert_eq!(names(&next_actions(&own(2), &world).unwrap()), ["CreateInternetGateway", "CreateVpc"]);
    // What EC2 answered that it made is never made again in the same release.
    world.remembered.progress.made.insert(Role::Vpc, "vpc-1".to_owned());
    assert!(matches!(next_actions(&own(2), &world), Ok(Step::LookAgain(_))));
    world.remembered.progress.behind = PATIENCE_LOOKS;
    assert_eq!(next_actions(&own(2), &world), Err(Refusal::Gone { role: Role::Vpc, id: "vpc-1".to_owned() }));
}

#[test]
fn a_vpc_that_the_environment_stood_in_is_looked_for_and_replaced_only_when_it_is_gone() {
    let mut world = region(2);
    world.remembered.vpc = Some("vpc-1".to_owned());
    assert!(matches!(next_actions(&own(2), &world), Ok(Step::LookAgain(_))));
    world.remembered.progress.behind = SETTLE_LOOKS;
    assert_eq!(names(&next_actions(&own(2), &world).unwrap()), ["CreateInternetGateway", "CreateVpc"]);
}

#[test]
fn of_two_vpcs_with_the_same_tags_one_is_used_and_the_other_is_named() {
    let desired = own(2);
    let (mut world, outputs) = made(&desired, region(2));
    world.vpcs.insert(0, Vpc { id: "a-second".to_owned(), ..world.vpcs[0].clone() });
    assert_eq!(standing_vpc(&desired, &world).unwrap().unwrap().id, "a-second");
    world.remembered.vpc = Some(outputs.vpc.clone());
    assert_eq!(next_actions(&desired, &world), Ok(Step::Done(outputs.clone())));
    assert_eq!(strays(&desired, &world), ["a-second"]);
    world.remembered = Remembered::default();
    world.remembered.progress.made.insert(Role::Vpc, outputs.vpc.clone());
    assert_eq!(next_actions(&desired, &world), Ok(Step::Done(outputs)));
}

#[test]
fn ports_of_the_manifest_before_stay_open_until_the_services_are_rolled_out() {
    let spec = |port: u16| -> Spec {
        serde_json::from_value(serde_json::json!({"version": 1, "app": "hello", "services": {
            "api": {"image": {"repository": "hello-api"}, "port": port, "http": {}},
            "worker": {"image": {"repository": "hello-worker"}, "port": 9},
        }}))
        .unwrap()
    };
    let (app, environment) = ("hello".parse().unwrap(), "prod".parse().unwrap());
    let desired = Desired::of(&app, &environment, &spec(4000), Some(&spec(3000)));
    assert_eq!(desired.ports, BTreeSet::from([3000, 4000]));
    assert_eq!(desired.place, Place::Own { cidr: Cidr::DEFAULT, zones: 2 });
    assert_eq!(Desired::of(&app, &environment, &spec(4000), None).ports, BTreeSet::from([4000]));
}

#[test]
fn a_group_never_has_a_name_that_ec2_refuses() {
    let desired = Desired { name: "sg-prod".to_owned(), ..own(2) };
    assert_eq!(desired.group_name(Role::ServiceGroup), "shipway-sg-prod-service-group");
    assert_eq!(own(2).group_name(Role::ServiceGroup), "hello-prod-service-group");
}

#[test]
fn a_rule_goes_only_when_what_takes_its_place_is_there() {
    let desired = own(2);
    let (mut world, outputs) = made(&desired, region(2));
    let group = world.inside.groups.iter_mut().find(|group| group.id == outputs.service_group).unwrap();
    group.incoming = BTreeSet::from([Rule::tcp(22, Peer::Ipv4(ANYWHERE.to_owned()))]);
    let step = next_actions(&desired, &world).unwrap();
    assert_eq!(names(&step), ["Authorize"]);
    let Step::Act(actions) = step else { unreachable!() };
    world = act(world, &actions[0], &mut 100);
    assert_eq!(names(&next_actions(&desired, &world).unwrap()), ["Revoke"]);
}

#[test]
fn roles_read_back_as_they_are_written() {
    let roles =
        ["vpc", "internet-gateway", "public-subnet-a", "public-subnet-c", "public-routes", "load-balancer-group"];
    for text in roles.into_iter().chain(["service-group"]) {
        assert_eq!(text.parse::<Role>().unwrap().to_string(), text);
    }
    assert!("public-subnet-".parse::<Role>().is_err());
}

/// What people do to a network by hand.
#[derive(Clone, Copy, Debug)]
enum Drift {
    DnsOff,
    NamesOff,
    Detached,
    RouteGone,
    RouteElsewhere,
    NoPublicAddresses,
    Dissociated,
    OtherTable,
    RuleAdded(bool, bool),
    RulesGone(bool, bool),
    GroupGone,
    SubnetGone,
    TableGone,
}

fn drift() -> impl Strategy<Value = Drift> {
    prop_oneof![
        Just(Drift::DnsOff),
        Just(Drift::NamesOff),
        Just(Drift::Detached),
        Just(Drift::RouteGone),
        Just(Drift::RouteElsewhere),
        Just(Drift::NoPublicAddresses),
        Just(Drift::Dissociated),
        Just(Drift::OtherTable),
        any::<(bool, bool)>().prop_map(|(group, way)| Drift::RuleAdded(group, way)),
        any::<(bool, bool)>().prop_map(|(group, way)| Drift::RulesGone(group, way)),
        Just(Drift::GroupGone),
        Just(Drift::SubnetGone),
        Just(Drift::TableGone),
    ]
}

fn apply(drift: Drift, world: &mut Observed) {
    let inside = &mut world.inside;
    let rules = |inside: &mut Inside, group: bool, incoming: bool, change: &dyn Fn(&mut BTreeSet<Rule>)| {
        if let Some(group) = inside.groups.get_mut(usize::from(group)) {
            change(if incoming { &mut group.incoming } else { &mut group.outgoing });
        }
    };
    match drift {
        Drift::DnsOff => inside.dns_support = false,
        Drift::NamesOff => inside.dns_hostnames = false,
        Drift::Detached => world.gateways.iter_mut().for_each(|gateway| gateway.vpc = None),
        Drift::RouteGone => inside.tables.iter_mut().for_each(|table| table.default_route = None),
        Drift::RouteElsewhere => {
            inside.tables.iter_mut().for_each(|table| table.default_route = Some("nat-1".to_owned()));
        }
        Drift::NoPublicAddresses => inside.subnets.iter_mut().for_each(|subnet| subnet.public_addresses = false),
        Drift::Dissociated => inside.tables.iter_mut().for_each(|table| table.associations.clear()),
        Drift::OtherTable => {
            let moved = inside
                .tables
                .iter_mut()
                .filter(|table| table.role.is_some())
                .find_map(|table| table.associations.pop());
            let id = format!("rtb-other-{}", inside.tables.len());
            let associations = moved.into_iter().collect();
            inside.tables.insert(0, RouteTable { id, role: None, default_route: None, associations });
        }
        Drift::RuleAdded(group, way) => rules(inside, group, way, &|rules| {
            rules.insert(Rule {
                protocol: "icmp".to_owned(),
                ports: Some((-1, -1)),
                peer: Peer::PrefixList("pl-1".to_owned()),
            });
        }),
        Drift::RulesGone(group, way) => rules(inside, group, way, &BTreeSet::clear),
        Drift::GroupGone => drop(inside.groups.pop()),
        Drift::SubnetGone => {
            if let Some(gone) = inside.subnets.pop() {
                inside.tables.iter_mut().for_each(|table| table.associations.retain(|known| known.subnet != gone.id));
            }
        }
        Drift::TableGone => inside.tables.retain(|table| table.role.is_none()),
    }
}

proptest! {
    #[test]
    fn any_way_through_the_actions_ends_in_the_same_network(
        zones in 2u8..=3,
        default in any::<bool>(),
        picks in prop::collection::vec(any::<Index>(), 1..40),
        drifts in prop::collection::vec(drift(), 0..6),
    ) {
        let (desired, world) = if default { (in_default_vpc(), region_with_default_vpc()) } else { (own(zones), region(3)) };
        let mut count = 0;
        let (mut world, outputs) = converge(&desired, world, &picks, &mut count);
        prop_assert_eq!(next_actions(&desired, &world), Ok(Step::Done(outputs.clone())));
        prop_assert!(strays(&desired, &world).is_empty());
        prop_assert_eq!(world.inside.groups.len(), 2);
        let subnets = if default { 3 } else { usize::from(zones) };
        prop_assert_eq!(world.inside.subnets.len(), subnets);

        for drift in drifts {
            let whose = matches!(drift, Drift::RuleAdded(..) | Drift::RulesGone(..) | Drift::GroupGone);
            if whose || !default {
                apply(drift, &mut world);
            }
        }
        let (world, repaired) = converge(&desired, world, &picks, &mut count);
        prop_assert_eq!(&repaired.vpc, &outputs.vpc);
        prop_assert_eq!(next_actions(&desired, &world), Ok(Step::Done(repaired.clone())));
        prop_assert!(strays(&desired, &world).is_empty());
        prop_assert_eq!(repaired.public_subnets.len(), subnets);
    }
}
