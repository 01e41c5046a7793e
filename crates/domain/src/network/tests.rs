use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use super::*;
use crate::{
    failure::Failure,
    manifest::{Cidr, Spec},
};

// ---- What is wanted ----

fn spec(more: Value) -> Spec {
    let mut spec = json!({"version": 1, "app": "hello", "services": {
        "api": {"image": {"repository": "hello-api"}, "port": 3000, "http": {}},
        "web": {"image": {"repository": "hello-web"}, "port": 8080, "http": {"path": "/web/*"}},
    }});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn desired(more: Value) -> Desired {
    let spec = spec(more);
    Desired::of(&spec.app, &"prod".parse().unwrap(), &spec, None)
}

fn own(zones: u8) -> Desired {
    desired(json!({"network": {"azs": zones}}))
}

fn in_default_vpc() -> Desired {
    desired(json!({"network": {"vpc": "default"}}))
}

fn database() -> Value {
    json!({"main": {"engine": "postgres", "version": "15", "class": "db.t3.medium"}})
}

fn cache() -> Value {
    json!({"main": {"engine": "redis", "version": "7.0", "class": "cache.t4g.micro"}})
}

/// With private and isolated subnets and both kinds of endpoints.
fn whole(zones: u8, nat: &str) -> Desired {
    let endpoints = ["s3", "ecr.api"];
    let network = json!({"azs": zones, "nat": nat, "endpoints": endpoints});
    desired(json!({"network": network, "databases": database(), "caches": cache()}))
}

fn dougust() -> Desired {
    desired(json!({
        "app": "dougust",
        "network": {"cidr": "10.0.0.0/16", "azs": 2, "nat": "per_az", "flow_logs": {}},
        "services": {"api": {"image": {"repository": "dougust-api"}, "port": 3000, "http": {"path": "/api/*"}}},
        "databases": database(),
        "domain": {"name": "dougust.example", "zone": "Z0123456789"},
    }))
}

fn rex() -> Desired {
    let service = |port: Value, http: Value| json!({"image": {"repository": "rex"}, "port": port, "http": http, "discovery": port != Value::Null});
    desired(json!({
        "app": "rex",
        "network": {"cidr": "10.0.0.0/16", "azs": 2, "nat": "single", "isolated": false},
        "services": {
            "api": service(json!(8080), json!({"path": "/api/*"})),
            "supertokens": service(json!(3567), json!({"path": "/auth/*"})),
            "worker": service(Value::Null, Value::Null),
        },
        "databases": {"main": {"engine": "aurora_postgres", "version": "15", "capacity": {"min": 0.5, "max": 2}}},
        "caches": cache(),
    }))
}

// ---- What is there ----

fn region(zones: usize) -> Observed {
    // Neither the names nor the ids come in any order.
    let zones = (0..zones).rev().map(|n| Zone {
        name: format!("eu-west-1{}", char::from(b'a' + n as u8)),
        id: format!("euw1-az{}", (n + 1) % zones + 1),
    });
    Observed { zones: zones.collect(), cloudfront: Some("pl-cloudfront".to_owned()), ..Observed::default() }
}

fn subnet(id: &str, zone: &str, cidr: &str) -> Subnet {
    let (id, zone, cidr) = (format!("subnet-{id}"), format!("eu-west-1{zone}"), cidr.to_owned());
    Subnet { id, role: None, zone, cidr, public_addresses: true }
}

fn region_with_vpc(id: &str, default: bool) -> Observed {
    let vpc = Vpc { id: id.to_owned(), cidr: "172.31.0.0/16".to_owned(), ours: false, default };
    let subnets = vec![
        subnet("0c", "c", "172.31.32.0/20"),
        subnet("0a", "a", "172.31.0.0/20"),
        subnet("0b", "b", "172.31.16.0/20"),
    ];
    let inside = Inside { dns_support: true, dns_hostnames: true, subnets, ..Inside::default() };
    Observed { vpcs: vec![vpc], inside, ..region(3) }
}

fn region_with_default_vpc() -> Observed {
    region_with_vpc("vpc-default", true)
}

fn interface(world: &mut Observed, role: &Role) {
    let subnet = id_of(world, role);
    world.inside.interfaces.push(Interface { id: format!("eni-{}", world.inside.interfaces.len()), subnet });
}

fn id_of(world: &Observed, role: &Role) -> String {
    let subnets = world.inside.subnets.iter().filter(|known| known.role.as_ref() == Some(role)).map(|known| &known.id);
    let gateways = world.inside.nat_gateways.iter().filter(|known| known.role == *role).map(|known| &known.id);
    subnets.chain(gateways).next().unwrap().clone()
}

/// Does an action to the world as EC2 would, which refuses what is not so.
fn act(world: Observed, action: &Action, count: &mut usize) -> Observed {
    let inside = &world.inside;
    let vpc = |id: &String| assert!(world.vpcs.iter().any(|vpc| vpc.id == *id), "{action:?}: {id} is not there");
    let subnet =
        |id: &String| assert!(inside.subnets.iter().any(|subnet| subnet.id == *id), "{action:?}: {id} is not there");
    let table = |id: &String| inside.tables.iter().find(|table| table.id == *id).expect("no such table");
    let group = |id: &String| inside.groups.iter().find(|group| group.id == *id).expect("no such group");
    let endpoint = |id: &String| inside.endpoints.iter().find(|known| known.id == *id).expect("no such endpoint");
    let rules = |id: &String, direction: Direction| {
        if direction == Direction::Incoming { group(id).incoming.clone() } else { group(id).outgoing.clone() }
    };
    let attached = |id: &str| world.gateways.iter().any(|known| known.id == id && known.vpc.is_some());
    let serves = |id: &str| inside.nat_gateways.iter().any(|known| known.id == id && known.stage == Stage::Available);
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
        Action::CreateRouteTable { vpc: id, role } => {
            vpc(id);
            assert!(!inside.tables.iter().any(|table| table.role.as_ref() == Some(role)), "a second {role}");
        }
        Action::CreateDefaultRoute { table: id, target } | Action::ReplaceDefaultRoute { table: id, target } => {
            let new = matches!(action, Action::CreateDefaultRoute { .. });
            assert_eq!(table(id).default_route.is_none(), new, "{action:?}");
            match target {
                Target::InternetGateway(id) => assert!(attached(id), "{action:?}: not attached"),
                Target::NatGateway(id) => assert!(serves(id), "{action:?}: it does not serve"),
            }
        }
        Action::DeleteDefaultRoute { table: id } => assert!(table(id).default_route.is_some(), "{action:?}"),
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
        Action::DisassociateRouteTable { association, table: id } => {
            assert!(table(id).associations.iter().any(|known| known.id == *association), "{action:?}");
        }
        Action::AllocateAddress { slot } => {
            let role = Role::Address(*slot);
            assert!(!world.addresses.iter().any(|known| known.role == role), "a second {role}");
        }
        Action::CreateNatGateway { slot, subnet: of, address } => {
            subnet(of);
            assert!(world.gateways.iter().any(|known| known.vpc.is_some()), "a NAT gateway without a way out");
            assert!(world.addresses.iter().any(|known| known.id == *address && !known.taken), "{action:?}");
            let mut living = inside.nat_gateways.iter().filter(|known| known.stage.lives());
            assert!(!living.any(|known| known.role == Role::NatGateway(*slot)), "a second one");
        }
        Action::CreateEndpoint { service, vpc: id, tables, subnets, group: of } => {
            vpc(id);
            let role = Role::Endpoint(service.clone());
            assert!(!inside.endpoints.iter().any(|known| known.role == role), "a second {role}");
            assert!(tables.iter().all(|id| table(id).role.is_some()), "{action:?}");
            subnets.iter().for_each(subnet);
            assert!(of.iter().all(|id| group(id).role.is_some()), "{action:?}");
            assert_eq!(of.is_some(), !subnets.is_empty(), "{action:?}");
            assert_eq!(of.is_some(), tables.is_empty(), "{action:?}");
            assert!(of.is_none() || (inside.dns_support && inside.dns_hostnames), "private names without names");
        }
        Action::ChangeEndpoint { endpoint: id, change } => {
            assert_eq!(endpoint(id).stage, Stage::Available);
            assert!(!change.is_empty());
            assert!(change.add_tables.iter().all(|id| table(id).role.is_some()), "{action:?}");
            change.add_subnets.iter().for_each(subnet);
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
        Action::DeleteEndpoint { endpoint: id } => assert_ne!(endpoint(id).stage, Stage::Deleting),
        Action::DeleteNatGateway { gateway } => {
            let known = inside.nat_gateways.iter().find(|known| known.id == *gateway).expect("no such NAT gateway");
            assert_ne!(known.stage, Stage::Deleting);
        }
        Action::ReleaseAddress { address } => {
            assert!(world.addresses.iter().any(|known| known.id == *address && !known.taken), "{action:?}");
        }
        Action::DeleteSubnet { subnet: id } => {
            subnet(id);
            assert!(!inside.interfaces.iter().any(|known| known.subnet == *id), "{action:?}: it is in use");
            assert!(!inside.nat_gateways.iter().any(|known| known.subnet == *id), "{action:?}: a NAT gateway");
            assert!(!inside.endpoints.iter().any(|known| known.subnets.contains(id)), "{action:?}: an endpoint");
        }
        Action::DeleteRouteTable { table: id } => assert!(table(id).associations.is_empty(), "{action:?}"),
        Action::DeleteGroup { group: id } => {
            group(id);
            let others = inside.groups.iter().filter(|other| other.id != *id);
            let mut rules = others.flat_map(|other| other.incoming.iter().chain(&other.outgoing));
            assert!(!rules.any(|rule| rule.names(id)), "{action:?}: it is named");
            assert!(!inside.endpoints.iter().any(|known| known.groups.contains(id)), "{action:?}: an endpoint");
        }
        Action::DetachInternetGateway { gateway, .. } => {
            assert!(attached(gateway) && inside.nat_gateways.is_empty(), "{action:?}");
        }
        Action::DeleteInternetGateway { gateway } => assert!(!attached(gateway), "{action:?}"),
        Action::DeleteVpc { vpc: id } => {
            vpc(id);
            let empty = inside.subnets.is_empty() && inside.tables.iter().all(|table| table.role.is_none());
            assert!(empty && inside.groups.is_empty() && inside.endpoints.is_empty(), "{action:?}: {inside:?}");
            assert!(!world.gateways.iter().any(|known| known.vpc.as_ref() == Some(id)), "{action:?}");
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
fn walk<T>(
    decide: impl Fn(&Observed) -> Result<Step<T>, Refusal>,
    mut world: Observed,
    picks: &[Index],
    count: &mut usize,
) -> (Observed, T) {
    let mut picks = picks.iter().cycle();
    for round in 0..400 {
        match decide(&world).unwrap() {
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
            Step::Wait(_) => world = world.settled(),
            Step::LookAgain(why) => panic!("nothing is in doubt here: {why}"),
            Step::Done(outputs) => return (looked_at(world), outputs),
        }
    }
    panic!("it does not converge");
}

fn converge(desired: &Desired, world: Observed, picks: &[Index], count: &mut usize) -> (Observed, NetworkOutputs) {
    walk(|world| next_actions(desired, world), world, picks, count)
}

fn made(desired: &Desired, world: Observed) -> (Observed, NetworkOutputs) {
    converge(desired, world, &[], &mut 0)
}

/// The same network under another manifest.
fn changed(desired: &Desired, world: Observed) -> (Observed, NetworkOutputs) {
    converge(desired, world, &[], &mut 1000)
}

fn names<T: std::fmt::Debug>(step: &Step<T>) -> Vec<String> {
    let Step::Act(actions) = step else { panic!("{step:?}") };
    actions.iter().map(|action| format!("{action:?}").split([' ', '{']).next().unwrap().to_owned()).collect()
}

fn shown(world: &Observed, role: &Role, incoming: bool) -> Vec<String> {
    let group = world.inside.groups.iter().find(|group| group.role.as_ref() == Some(role)).unwrap();
    let rules = if incoming { &group.incoming } else { &group.outgoing };
    let roles = |id: &str| {
        let known = world.inside.groups.iter().find(|group| group.id == id);
        known.and_then(|group| group.role.clone()).map(|role| role.to_string())
    };
    let rules = rules.iter().map(|rule| match &rule.peer {
        Peer::Group { id, .. } => rule.to_string().replace(id, &roles(id).unwrap()),
        _ => rule.to_string(),
    });
    rules.collect()
}

/// Each wave of what would be done, an action a line.
fn waves(desired: &Desired, observed: &Observed) -> String {
    let waves = foreseen(desired, observed).unwrap();
    let told = waves.iter().enumerate().map(|(number, actions)| {
        let lines: Vec<_> = actions.iter().map(|action| format!("  {action}\n")).collect();
        format!("{}\n{}", number + 1, lines.concat())
    });
    told.collect()
}

// ---- A network of its own ----

#[test]
fn the_network_of_a_system_is_made_in_the_order_of_the_longest_path() {
    assert_eq!(waves(&dougust(), &region(3)), include_str!("tests/dougust.txt"));
    assert_eq!(waves(&rex(), &region(3)), include_str!("tests/rex.txt"));
}

#[test]
fn what_is_foreseen_for_a_network_that_stands_is_nothing() {
    let (world, _) = made(&dougust(), region(3));
    assert_eq!(foreseen(&dougust(), &world), Ok(Vec::new()));
}

#[test]
fn a_network_of_its_own_is_cut_into_ranges_by_tier_and_zone() {
    let (world, outputs) = made(&whole(3, "per_az"), region(3));
    let subnets: BTreeMap<_, _> = world
        .inside
        .subnets
        .iter()
        .map(|subnet| (subnet.role.as_ref().unwrap().to_string(), (subnet.cidr.as_str(), subnet.zone.as_str())))
        .collect();
    let expected = [
        ("public-subnet-a", "10.0.0.0/20", "eu-west-1a"),
        ("public-subnet-b", "10.0.16.0/20", "eu-west-1b"),
        ("public-subnet-c", "10.0.32.0/20", "eu-west-1c"),
        ("private-subnet-a", "10.0.64.0/20", "eu-west-1a"),
        ("private-subnet-b", "10.0.80.0/20", "eu-west-1b"),
        ("private-subnet-c", "10.0.96.0/20", "eu-west-1c"),
        ("isolated-subnet-a", "10.0.128.0/20", "eu-west-1a"),
        ("isolated-subnet-b", "10.0.144.0/20", "eu-west-1b"),
        ("isolated-subnet-c", "10.0.160.0/20", "eu-west-1c"),
    ];
    assert_eq!(subnets, expected.map(|(role, cidr, zone)| (role.to_owned(), (cidr, zone))).into());
    let sizes = [outputs.public_subnets.len(), outputs.private_subnets.len(), outputs.isolated_subnets.len()];
    assert_eq!((sizes, outputs.cidr.as_str()), ([3, 3, 3], "10.0.0.0/16"));
    let small = desired(json!({"network": {"cidr": "10.9.8.0/24"}}));
    let (world, _) = made(&small, region(2));
    let subnets: Vec<_> = world.inside.subnets.iter().map(|subnet| subnet.cidr.as_str()).collect();
    assert_eq!(subnets, ["10.9.8.0/28", "10.9.8.16/28"]);
}

#[test]
fn tiers_are_there_for_what_is_in_them() {
    let tiers = |desired: &Desired| {
        let (_, outputs) = made(desired, region(2));
        (outputs.private_subnets.len(), outputs.isolated_subnets.len())
    };
    assert_eq!(tiers(&own(2)), (0, 0));
    assert_eq!(tiers(&desired(json!({"network": {"nat": "single"}}))), (2, 0));
    assert_eq!(tiers(&desired(json!({"databases": database()}))), (0, 2));
    assert_eq!(tiers(&desired(json!({"caches": cache()}))), (0, 2));
    assert_eq!(tiers(&rex()), (2, 0), "isolated: false");
    assert_eq!(tiers(&dougust()), (2, 2));
}

/// Zone and gateway of each private route.
fn ways_out(world: &Observed) -> Vec<(u8, String)> {
    let tables = world.inside.tables.iter().filter_map(|table| match table.role {
        Some(Role::PrivateRoutes(slot)) => Some((slot, table.default_route.clone()?)),
        _ => None,
    });
    tables.collect()
}

#[test]
fn private_subnets_go_out_through_their_own_zone_or_all_through_one() {
    let (world, _) = made(&whole(2, "per_az"), region(2));
    let (first, second) = (id_of(&world, &Role::NatGateway(0)), id_of(&world, &Role::NatGateway(1)));
    assert_eq!(ways_out(&world), [(0, first.clone()), (1, second)]);
    assert_eq!(world.addresses.len(), 2);
    let (world, _) = made(&whole(2, "single"), region(2));
    let first = id_of(&world, &Role::NatGateway(0));
    assert_eq!(ways_out(&world), [(0, first.clone()), (1, first)]);
    assert_eq!((world.addresses.len(), world.inside.nat_gateways.len()), (1, 1));
    let isolated = world.inside.tables.iter().find(|table| table.role == Some(Role::IsolatedRoutes)).unwrap();
    assert_eq!((isolated.default_route.as_ref(), isolated.associations.len()), (None, 2));
}

#[test]
fn nothing_but_its_own_route_waits_for_a_nat_gateway() {
    let desired = dougust();
    let mut world = region(2);
    let mut count = 0;
    loop {
        match next_actions(&desired, &world).unwrap() {
            Step::Act(actions) => world = actions.iter().fold(world, |world, action| act(world, action, &mut count)),
            Step::Wait(why) => {
                assert!(why.contains("is being made"), "{why}");
                break;
            }
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(world.inside.nat_gateways.len(), 2);
    world = world.settled();
    assert_eq!(names(&next_actions(&desired, &world).unwrap()), ["CreateDefaultRoute", "CreateDefaultRoute"]);
}

#[test]
fn fewer_nat_gateways_go_once_no_route_leads_to_them() {
    let (world, before) = made(&whole(3, "per_az"), region(3));
    let kept = id_of(&world, &Role::NatGateway(0));
    let step = next_actions(&whole(3, "single"), &world).unwrap();
    assert_eq!(names(&step), ["ReplaceDefaultRoute", "ReplaceDefaultRoute"]);
    let (world, after) = changed(&whole(3, "single"), world);
    assert_eq!(before, after);
    assert_eq!(ways_out(&world), [(0, kept.clone()), (1, kept.clone()), (2, kept)]);
    assert_eq!((world.inside.nat_gateways.len(), world.addresses.len()), (1, 1));
}

#[test]
fn more_nat_gateways_serve_before_routes_lead_to_them() {
    let (world, _) = made(&whole(2, "single"), region(2));
    let first = id_of(&world, &Role::NatGateway(0));
    let (world, _) = changed(&whole(2, "per_az"), world);
    assert_eq!(ways_out(&world), [(0, first), (1, id_of(&world, &Role::NatGateway(1)))]);
}

#[test]
fn a_tier_that_is_not_asked_for_stays_whole_while_something_is_in_it() {
    let (mut world, _) = made(&whole(2, "per_az"), region(2));
    let before = world.clone();
    interface(&mut world, &Role::Subnet(Tier::Private, 1));
    interface(&mut world, &Role::Subnet(Tier::Isolated, 0));
    let less = desired(json!({"network": {"endpoints": ["s3", "ecr.api"]}}));
    let (mut world, outputs) = changed(&less, world);
    assert_eq!((outputs.private_subnets.len(), outputs.isolated_subnets.len()), (0, 0), "nothing new goes there");
    assert_eq!(world.inside.subnets, before.inside.subnets);
    assert_eq!(world.inside.nat_gateways, before.inside.nat_gateways);
    world.inside.interfaces.clear();
    let (world, _) = changed(&less, world);
    assert_eq!(world.inside.subnets.len(), 2);
    assert_eq!((world.inside.nat_gateways.len(), world.addresses.len(), world.inside.tables.len()), (0, 0, 1));
    let endpoint = world.inside.endpoints.iter().find(|endpoint| !endpoint.subnets.is_empty()).unwrap();
    let public: BTreeSet<_> = outputs.public_subnets.into_iter().collect();
    assert_eq!(endpoint.subnets, public, "the endpoint went where the tasks are");
}

#[test]
fn a_zone_goes_with_all_that_is_in_it_when_nothing_uses_it() {
    let (mut world, _) = made(&whole(3, "per_az"), region(3));
    let (after, outputs) = changed(&whole(2, "per_az"), world.clone());
    assert_eq!((outputs.public_subnets.len(), after.inside.subnets.len()), (2, 6));
    assert_eq!((after.inside.nat_gateways.len(), after.addresses.len(), after.inside.tables.len()), (2, 2, 4));
    interface(&mut world, &Role::Subnet(Tier::Private, 2));
    let refusal = next_actions(&whole(2, "per_az"), &world).unwrap_err();
    assert!(refusal.to_string().contains("write `azs: 3` again"), "{refusal}");
}

#[test]
fn a_nat_gateway_that_failed_is_told_of_and_made_anew_by_the_next_release() {
    let desired = whole(2, "single");
    let (mut world, _) = made(&desired, region(2));
    world.inside.nat_gateways[0].stage = Stage::Failed("the subnet has no free address".to_owned());
    world.addresses[0].taken = false;
    let id = world.inside.nat_gateways[0].id.clone();
    world.remembered.progress.made.insert(Role::NatGateway(0), id.clone());
    let refusal = next_actions(&desired, &world).unwrap_err();
    assert_eq!(refusal.failure(), Failure::Conflict);
    assert!(refusal.to_string().contains("the subnet has no free address"), "{refusal}");
    world.remembered.progress = Progress::default();
    let (world, _) = changed(&desired, world);
    assert_eq!(world.inside.nat_gateways.len(), 1);
    assert_ne!(world.inside.nat_gateways[0].id, id);
}

#[test]
fn endpoints_are_where_they_are_of_use() {
    let (world, outputs) = made(&whole(2, "single"), region(2));
    let by_role: BTreeMap<_, _> = world.inside.endpoints.iter().map(|known| (known.role.to_string(), known)).collect();
    let tables: BTreeSet<_> = world.inside.tables.iter().map(|table| table.id.clone()).collect();
    assert_eq!((by_role["endpoint-to-s3"].tables.clone(), tables.len()), (tables, 4));
    let interface = by_role["endpoint-to-ecr.api"];
    assert_eq!(interface.subnets, outputs.private_subnets.iter().cloned().collect());
    assert!(interface.private_dns && interface.groups.len() == 1);
    assert_eq!(shown(&world, &Role::EndpointGroup, true), ["tcp 443 (service-group)"]);
    let (world, _) = changed(&desired(json!({"network": {"nat": "single"}, "databases": database()})), world);
    assert_eq!(world.settled().inside.endpoints, [], "EC2 deletes interfaces in its own time");
}

#[test]
fn a_third_zone_adds_subnets_and_leaves_the_others_where_they_are() {
    let (mut world, before) = made(&whole(2, "per_az"), region(2));
    // The region's zones are others now: a subnet that is there keeps its own.
    world.zones = ["eu-west-1c", "eu-west-1b"].map(|name| Zone { name: name.to_owned(), id: name.to_owned() }).into();
    let (world, after) = changed(&whole(3, "per_az"), world);
    assert_eq!(after.public_subnets[..2], before.public_subnets);
    assert_eq!(after.private_subnets[..2], before.private_subnets);
    let new = world.inside.subnets.iter().filter(|subnet| matches!(subnet.role, Some(Role::Subnet(_, 2))));
    let zones: Vec<_> = new.map(|subnet| subnet.zone.as_str()).collect();
    assert_eq!(zones, ["eu-west-1c"; 3]);
}

#[test]
fn zones_that_fargate_does_not_run_in_are_kept_out_of() {
    let mut world = region(3);
    world.zones[2].id = "apne1-az3".to_owned();
    let (world, _) = made(&own(2), world);
    let zones: Vec<_> = world.inside.subnets.iter().map(|subnet| subnet.zone.as_str()).collect();
    assert_eq!(zones, ["eu-west-1b", "eu-west-1c"]);
}

// ---- Security groups ----

#[test]
fn the_groups_let_through_what_the_manifest_asks_for_and_nothing_else() {
    let (world, outputs) = made(&own(2), region(2));
    let ports = |peer: &str| [format!("tcp 3000 ({peer})"), format!("tcp 8080 ({peer})")];
    assert_eq!(shown(&world, &Role::LoadBalancerGroup, true), ["tcp 80 (0.0.0.0/0)", "tcp 80 (::/0)"]);
    assert_eq!(shown(&world, &Role::LoadBalancerGroup, false), ports("service-group"));
    assert_eq!(shown(&world, &Role::ServiceGroup, true), ports("load-balancer-group"));
    assert_eq!(shown(&world, &Role::ServiceGroup, false), ["all traffic (0.0.0.0/0)", "all traffic (::/0)"]);
    let none = (outputs.instance_group, outputs.database_group, outputs.cache_group);
    assert_eq!(none, (None, None, None));
    assert_eq!(world.inside.groups.len(), 2);
}

#[test]
fn databases_and_caches_are_reached_by_services_alone_and_services_by_each_other() {
    let (world, outputs) = made(&rex(), region(2));
    assert_eq!(shown(&world, &Role::DatabaseGroup, true), ["tcp 5432 (service-group)"]);
    assert_eq!(shown(&world, &Role::CacheGroup, true), ["tcp 6379 (service-group)"]);
    assert_eq!(shown(&world, &Role::DatabaseGroup, false), [""; 0]);
    let mut services = shown(&world, &Role::ServiceGroup, true);
    services.sort();
    let expected = [
        "tcp 3567 (load-balancer-group)",
        "tcp 3567 (service-group)",
        "tcp 8080 (load-balancer-group)",
        "tcp 8080 (service-group)",
    ];
    assert_eq!(services, expected);
    assert!(outputs.database_group.is_some() && outputs.cache_group.is_some() && outputs.instance_group.is_none());
}

#[test]
fn a_domain_opens_https_and_cloudfront_closes_the_way_around_it() {
    let domain = json!({"name": "hello.example", "zone": "Z0123456789"});
    let (world, _) = made(&desired(json!({"domain": domain})), region(2));
    let requests = ["tcp 80 (0.0.0.0/0)", "tcp 80 (::/0)", "tcp 443 (0.0.0.0/0)", "tcp 443 (::/0)"];
    assert_eq!(shown(&world, &Role::LoadBalancerGroup, true), requests);
    let behind = json!({"domain": domain, "load_balancer": {"from": "cloudfront"}});
    let (world, _) = changed(&desired(behind.clone()), world);
    assert_eq!(shown(&world, &Role::LoadBalancerGroup, true), ["tcp 80 to 443 (pl-cloudfront)"]);
    let nowhere = Observed { cloudfront: None, ..world };
    assert_eq!(next_actions(&desired(behind), &nowhere), Err(Refusal::NoCloudFront));
}

#[test]
fn instances_are_reached_on_the_ports_that_ecs_finds_and_by_ssh_where_it_is_asked_for() {
    let on = |ec2: Value| {
        let services = json!({
            "api": {"image": {"repository": "hello-api"}, "port": 3000, "http": {}},
            "web": {"image": {"repository": "hello-web"}, "port": 80, "host_port": 8080, "http": {"path": "/web/*"}},
        });
        desired(json!({"cluster": {"ec2": ec2}, "services": services, "databases": database()}))
    };
    let shared = json!({"instance_type": "t3a.small", "key_pair": "me", "ssh_from": ["192.0.2.0/24"]});
    let (world, outputs) = made(&on(shared), region(2));
    let incoming =
        ["tcp 22 (192.0.2.0/24)", "tcp 8080 (load-balancer-group)", "tcp 32768 to 65535 (load-balancer-group)"];
    assert_eq!(shown(&world, &Role::InstanceGroup, true), incoming);
    assert_eq!(shown(&world, &Role::ServiceGroup, true), [""; 0]);
    assert_eq!(shown(&world, &Role::LoadBalancerGroup, false).len(), 2);
    assert_eq!(shown(&world, &Role::DatabaseGroup, true).len(), 2);
    assert!(outputs.instance_group.is_some());
    let (world, _) = made(&on(json!({"instance_type": "t3a.small", "networking": "awsvpc"})), region(2));
    assert_eq!(shown(&world, &Role::InstanceGroup, true), [""; 0]);
    assert_eq!(shown(&world, &Role::ServiceGroup, true).len(), 2);
}

#[test]
fn what_the_manifest_before_let_through_between_its_parts_stays_until_they_are_rolled_out() {
    let on = |port: u16, more: Value| {
        let mut all = json!({"services": {
            "api": {"image": {"repository": "hello-api"}, "port": port, "http": {}},
            "worker": {"image": {"repository": "hello-worker"}, "port": 9},
        }});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec(all)
    };
    let of =
        |planned: &Spec, applied: Option<&Spec>| Desired::of(&planned.app, &"prod".parse().unwrap(), planned, applied);
    let before = on(3000, json!({"databases": database(), "cluster": {"ec2": {"instance_type": "t3a.small"}}}));
    let now = on(4000, json!({"load_balancer": {"from": "cloudfront"}}));
    let (world, outputs) = made(&of(&now, Some(&before)), region(2));
    assert_eq!(shown(&world, &Role::ServiceGroup, true), ["tcp 4000 (load-balancer-group)"]);
    assert_eq!(shown(&world, &Role::InstanceGroup, true), ["tcp 32768 to 65535 (load-balancer-group)"]);
    assert_eq!(shown(&world, &Role::LoadBalancerGroup, false).len(), 2);
    assert_eq!(
        shown(&world, &Role::LoadBalancerGroup, true),
        ["tcp 80 (pl-cloudfront)"],
        "who comes in changes at once"
    );
    assert_eq!((outputs.instance_group, outputs.database_group), (None, None), "nothing new uses them");
    let (world, _) = changed(&of(&now, Some(&now)), world);
    assert_eq!(shown(&world, &Role::LoadBalancerGroup, false), ["tcp 4000 (service-group)"]);
    assert_eq!(shown(&world, &Role::DatabaseGroup, true).len(), 2, "a group that is not asked for is left alone");
}

#[test]
fn a_group_never_has_a_name_that_ec2_refuses() {
    let owner = |app: &str| Owner { app: app.parse().unwrap(), environment: "prod".parse().unwrap() };
    assert_eq!(owner("sg-1").group_name(&Role::ServiceGroup), "shipway-sg-1-prod-service-group");
    assert_eq!(owner("hello").group_name(&Role::ServiceGroup), "hello-prod-service-group");
}

#[test]
fn a_rule_goes_only_when_what_takes_its_place_is_there() {
    let desired = own(2);
    let (mut world, outputs) = made(&desired, region(2));
    let group = world.inside.groups.iter_mut().find(|group| group.id == outputs.service_group).unwrap();
    group.incoming = BTreeSet::from([Rule::tcp(Some((22, 22)), Peer::Ipv4("0.0.0.0/0".to_owned()))]);
    let step = next_actions(&desired, &world).unwrap();
    assert_eq!(names(&step), ["Authorize"]);
    let Step::Act(actions) = step else { unreachable!() };
    world = act(world, &actions[0], &mut 100);
    assert_eq!(names(&next_actions(&desired, &world).unwrap()), ["Revoke"]);
}

// ---- A VPC that is there ----

#[test]
fn the_default_vpc_is_used_as_it_is_and_gets_two_groups() {
    let (world, outputs) = made(&in_default_vpc(), region_with_default_vpc());
    assert_eq!(outputs.vpc, "vpc-default");
    assert_eq!(outputs.public_subnets, ["subnet-0a", "subnet-0b", "subnet-0c"]);
    let groups = world.inside.groups.clone();
    assert_eq!(groups.len(), 2);
    let untouched = Inside { groups: Vec::new(), ..world.inside };
    assert_eq!(untouched, region_with_default_vpc().inside);
}

fn given(public: &[&str], isolated: &[&str]) -> Desired {
    let network = json!({"vpc": "vpc-0123", "subnets": {"public": public, "isolated": isolated}});
    desired(json!({"network": network, "databases": database()}))
}

#[test]
fn a_given_vpc_is_used_as_it_is_with_the_given_subnets() {
    let there = region_with_vpc("vpc-0123", false);
    let (world, outputs) = made(&given(&["subnet-0b", "subnet-0a"], &["subnet-0b", "subnet-0c"]), there.clone());
    assert_eq!((outputs.vpc.as_str(), outputs.cidr.as_str()), ("vpc-0123", "172.31.0.0/16"));
    assert_eq!(outputs.public_subnets, ["subnet-0a", "subnet-0b"]);
    assert_eq!(outputs.isolated_subnets, ["subnet-0b", "subnet-0c"]);
    assert_eq!(outputs.data_subnets(), outputs.isolated_subnets);
    assert_eq!(world.inside.groups.len(), 3);
    assert_eq!(Inside { groups: Vec::new(), ..world.inside }, there.inside);
}

// ---- What cannot be ----

#[test]
fn what_cannot_be_is_refused_by_name() {
    let stands = || looked_at(made(&own(2), region(3)).0);
    let elsewhere = desired(json!({"network": {"cidr": "10.1.0.0/16"}}));
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
    untagged.remembered.progress.inherited.insert(Role::Vpc, own_id.clone());
    let mut both = last(stands(), &own_id);
    both.vpcs.extend(default.vpcs.clone());
    let in_use = || {
        let mut world = made(&own(3), region(3)).0;
        interface(&mut world, &Role::Subnet(Tier::Public, 2));
        world
    };
    let there = || region_with_vpc("vpc-0123", false);
    let two = ["subnet-0a", "subnet-0b"];
    let mut twice = there();
    twice.inside.subnets.push(subnet("0d", "a", "172.31.64.0/20"));
    let mut elsewhere_given = last(there(), "vpc-default");
    elsewhere_given.vpcs.extend(default.vpcs.clone());
    let table: [(Desired, Observed, Failure, &str); 16] = [
        (elsewhere, stands(), Failure::Conflict, "network.cidr is 10.1.0.0/16, but"),
        (
            own(3),
            region(2),
            Failure::RejectedManifest,
            "only 2 zones of this region can be used: eu-west-1a, eu-west-1b",
        ),
        (own(2), in_use(), Failure::Conflict, "write `azs: 3` again"),
        (in_default_vpc(), region(3), Failure::Conflict, "no default VPC in this region"),
        (in_default_vpc(), one_zone, Failure::Conflict, "default subnets in 1 zones"),
        (in_default_vpc(), both, Failure::Conflict, "cannot move to another"),
        (own(2), last(default, "vpc-default"), Failure::Conflict, "cannot move to another"),
        (given(&two, &[]), elsewhere_given, Failure::Conflict, "the environment stands in vpc-default"),
        (own(2), untagged, Failure::Conflict, "does not carry its tags any more"),
        (own(2), in_the_way, Failure::Conflict, "lies in 10.0.16.0/20, where public-subnet-b belongs"),
        (in_default_vpc(), stranger, Failure::Conflict, "has the name hello-prod-service-group but not"),
        (given(&two, &[]), region(3), Failure::RejectedManifest, "no such VPC"),
        (
            given(&["subnet-0a", "subnet-0f"], &[]),
            there(),
            Failure::RejectedManifest,
            "public names subnet-0f, which is",
        ),
        (given(&two, &["subnet-0c"]), there(), Failure::RejectedManifest, "isolated has subnets in eu-west-1c alone"),
        (
            given(&["subnet-0a", "subnet-0a"], &[]),
            there(),
            Failure::RejectedManifest,
            "public has subnets in eu-west-1a",
        ),
        (
            given(&["subnet-0a", "subnet-0b", "subnet-0d"], &[]),
            twice,
            Failure::RejectedManifest,
            "names subnet-0a and subnet-0d, which are both in eu-west-1a",
        ),
    ];
    for (desired, observed, failure, message) in table {
        let refusal = next_actions(&desired, &observed).unwrap_err();
        assert_eq!(refusal.failure(), failure, "{refusal}");
        assert!(refusal.to_string().contains(message), "{refusal}");
    }
}

// ---- What EC2 does not show ----

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
fn what_earlier_releases_left_is_looked_for_before_it_is_made_again() {
    for (role, gone) in [
        (Role::Address(0), "eipalloc-1"),
        (Role::NatGateway(0), "nat-1"),
        (Role::PrivateRoutes(1), "rtb-1"),
        (Role::Endpoint("s3".to_owned().try_into().unwrap()), "vpce-1"),
    ] {
        let mut world = region(2);
        world.remembered.progress.inherited.insert(role.clone(), gone.to_owned());
        let step = next_actions(&whole(2, "single"), &world);
        assert!(matches!(step, Ok(Step::LookAgain(_))), "{role}");
        world.remembered.progress.behind = SETTLE_LOOKS;
        assert!(matches!(next_actions(&whole(2, "single"), &world), Ok(Step::Act(_))), "{role}");
    }
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
fn of_two_with_the_same_tags_one_is_used_and_the_other_is_named() {
    let desired = whole(2, "single");
    let (mut world, outputs) = made(&desired, region(2));
    world.vpcs.insert(0, Vpc { id: "a-second".to_owned(), ..world.vpcs[0].clone() });
    assert_eq!(standing_vpc(&desired, &world).unwrap().unwrap().id, "a-second");
    world.remembered.vpc = Some(outputs.vpc.clone());
    world.addresses.insert(0, Address { id: "an-address".to_owned(), taken: false, ..world.addresses[0].clone() });
    let second = NatGateway { id: "a-third".to_owned(), ..world.inside.nat_gateways[0].clone() };
    world.inside.nat_gateways.push(second);
    let used = world.inside.nat_gateways[0].id.clone();
    world.remembered.progress.inherited.insert(Role::NatGateway(0), used);
    assert_eq!(next_actions(&desired, &world), Ok(Step::Done(outputs.clone())));
    assert_eq!(strays(&desired, &world), ["a-second", "an-address", "a-third"]);
}

#[test]
fn roles_read_back_as_they_are_written() {
    let zones = (0..3).flat_map(|slot| {
        let subnets = Tier::ALL.map(|tier| Role::Subnet(tier, slot));
        subnets.into_iter().chain([Role::PrivateRoutes(slot), Role::Address(slot), Role::NatGateway(slot)])
    });
    let single = [Role::Vpc, Role::InternetGateway, Role::PublicRoutes, Role::IsolatedRoutes];
    let endpoint = Role::Endpoint("ecr.api".to_owned().try_into().unwrap());
    let all: Vec<Role> = single.into_iter().chain(Role::GROUPS).chain(zones).chain([endpoint]).collect();
    for role in &all {
        assert_eq!(role.to_string().parse::<Role>().as_ref(), Ok(role));
    }
    let distinct: BTreeSet<String> = all.iter().map(Role::to_string).collect();
    assert_eq!(distinct.len(), all.len());
    assert!(distinct.contains("public-subnet-a"), "networks that stand carry it");
    assert!("public-subnet-".parse::<Role>().is_err());
}

// ---- Drift ----

#[test]
fn a_network_that_stands_differs_in_nothing_and_drift_is_told_without_a_change() {
    let desired = dougust();
    let (mut world, _) = made(&desired, region(2));
    assert_eq!(differences(&desired, &world), []);
    world.inside.tables.iter_mut().for_each(|table| table.default_route = None);
    world.inside.dns_hostnames = false;
    let told: Vec<_> = differences(&desired, &world).into_iter().map(|difference| difference.what).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[0].starts_with("to be as the manifest asks: switch on DNS names in "), "{told:?}");
    world.vpcs[0].cidr = "10.1.0.0/16".to_owned();
    assert!(differences(&desired, &world)[0].what.contains("a VPC keeps the range it was made with"));
}

#[test]
fn a_port_that_a_rollout_was_waited_for_with_is_no_drift_and_one_that_somebody_opened_is() {
    let before = spec(json!({}));
    let now = desired(json!({"services": {"api": {"image": {"repository": "hello-api"}, "port": 4000, "http": {}}}}));
    let both = Desired::of(&before.app, &"prod".parse().unwrap(), &before, None);
    let mut both_groups = now.clone();
    for (role, openings) in both.groups {
        let known = both_groups.groups.get_mut(&role).unwrap();
        known.incoming.extend(openings.incoming);
        known.outgoing.extend(openings.outgoing);
    }
    let (mut world, outputs) = made(&both_groups, region(2));
    assert_eq!(differences(&now, &world), []);
    let group = world.inside.groups.iter_mut().find(|group| group.id == outputs.service_group).unwrap();
    group.incoming.insert(Rule::tcp(Some((22, 22)), Peer::Ipv4("0.0.0.0/0".to_owned())));
    let told = differences(&now, &world);
    assert_eq!(told.len(), 1);
    assert!(told[0].what.ends_with("in: tcp 22 (0.0.0.0/0)"), "{told:?}");
}

// ---- Away with it ----

fn removed(world: Observed, picks: &[Index], count: &mut usize) -> Observed {
    walk(|world| Ok(next_removals(world)), world, picks, count).0
}

/// What a look for removal shows: only what is ours.
fn ours(mut world: Observed) -> Observed {
    world.vpcs.retain(|vpc| vpc.ours);
    let inside = &mut world.inside;
    inside.subnets.retain(|known| known.role.is_some());
    inside.tables.retain(|known| known.role.is_some());
    inside.groups.retain(|known| known.role.is_some());
    world
}

fn is_empty(world: &Observed) -> bool {
    let inside = &world.inside;
    world.vpcs.is_empty()
        && world.gateways.is_empty()
        && world.addresses.is_empty()
        && inside.subnets.is_empty()
        && inside.tables.is_empty()
        && inside.groups.is_empty()
        && inside.nat_gateways.is_empty()
        && inside.endpoints.is_empty()
}

#[test]
fn what_needs_each_other_least_goes_first_and_the_vpc_last() {
    let (mut world, _) = made(&rex(), region(2));
    let mut rounds = Vec::new();
    loop {
        match next_removals(&world) {
            step @ Step::Act(_) => {
                let mut kinds = names(&step);
                kinds.dedup();
                rounds.push(kinds.join(" "));
                let Step::Act(actions) = step else { unreachable!() };
                world = actions.iter().fold(world, |world, action| act(world, action, &mut 1000));
            }
            Step::Wait(_) => {
                rounds.push("…".to_owned());
                world = world.settled();
            }
            Step::Done(()) => break,
            Step::LookAgain(why) => panic!("{why}"),
        }
    }
    assert!(is_empty(&world), "{world:?}");
    assert_eq!(
        rounds,
        [
            "DeleteNatGateway DisassociateRouteTable Revoke DeleteGroup Revoke DeleteGroup DeleteSubnet",
            "DeleteRouteTable DeleteGroup",
            "…",
            "DeleteSubnet ReleaseAddress DetachInternetGateway",
            "DeleteInternetGateway DeleteVpc",
        ]
    );
}

#[test]
fn in_a_vpc_that_is_not_its_own_only_the_groups_go() {
    let (world, _) = made(&given(&["subnet-0a", "subnet-0b"], &[]), region_with_vpc("vpc-0123", false));
    let world = removed(ours(world), &[], &mut 1000);
    assert!(is_empty(&world), "{world:?}");
}

#[test]
fn what_was_made_a_moment_ago_is_looked_for_before_nothing_is_left() {
    let mut world = Observed::default();
    world.remembered.progress.made.insert(Role::NatGateway(0), "nat-1".to_owned());
    assert!(matches!(next_removals(&world), Step::LookAgain(_)));
    world.remembered.progress.behind = SETTLE_LOOKS;
    assert_eq!(next_removals(&world), Step::Done(()));
    let mut world = Observed::default();
    world.remembered.progress.inherited.insert(Role::NatGateway(0), "nat-1".to_owned());
    assert!(matches!(next_removals(&world), Step::LookAgain(_)), "the release before may have been cut off");
    let mut world = Observed::default();
    world.remembered.progress.asked.insert(Role::Address(0));
    assert!(matches!(next_removals(&world), Step::LookAgain(_)));
}

// ---- Any network, any way ----

/// What people do to a network by hand.
#[derive(Clone, Copy, Debug)]
enum Drift {
    DnsOff,
    NamesOff,
    Detached,
    RoutesGone,
    RoutesElsewhere,
    NoPublicAddresses,
    Dissociated,
    OtherTable,
    RuleAdded(Index, bool),
    RulesGone(Index, bool),
    SubnetGone,
    TableGone,
    NatGatewayGone,
    NatGatewayFailed,
    EndpointGone,
    EndpointLoosened,
}

fn drift() -> impl Strategy<Value = Drift> {
    prop_oneof![
        Just(Drift::DnsOff),
        Just(Drift::NamesOff),
        Just(Drift::Detached),
        Just(Drift::RoutesGone),
        Just(Drift::RoutesElsewhere),
        Just(Drift::NoPublicAddresses),
        Just(Drift::Dissociated),
        Just(Drift::OtherTable),
        any::<(Index, bool)>().prop_map(|(group, way)| Drift::RuleAdded(group, way)),
        any::<(Index, bool)>().prop_map(|(group, way)| Drift::RulesGone(group, way)),
        Just(Drift::SubnetGone),
        Just(Drift::TableGone),
        Just(Drift::NatGatewayGone),
        Just(Drift::NatGatewayFailed),
        Just(Drift::EndpointGone),
        Just(Drift::EndpointLoosened),
    ]
}

fn apply(drift: Drift, world: &mut Observed) {
    let inside = &mut world.inside;
    let rules = |inside: &mut Inside, group: Index, incoming: bool, change: &dyn Fn(&mut BTreeSet<Rule>)| {
        let at = group.index(inside.groups.len());
        let group = &mut inside.groups[at];
        change(if incoming { &mut group.incoming } else { &mut group.outgoing });
    };
    match drift {
        Drift::DnsOff => inside.dns_support = false,
        Drift::NamesOff => inside.dns_hostnames = false,
        Drift::Detached => world.gateways.iter_mut().for_each(|gateway| gateway.vpc = None),
        Drift::RoutesGone => inside.tables.iter_mut().for_each(|table| table.default_route = None),
        Drift::RoutesElsewhere => {
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
        Drift::SubnetGone => {
            let used = |id: &String| {
                inside.nat_gateways.iter().any(|known| known.subnet == *id)
                    || inside.endpoints.iter().any(|known| known.subnets.contains(id))
            };
            if let Some(at) = inside.subnets.iter().position(|subnet| !used(&subnet.id)) {
                let gone = inside.subnets.remove(at);
                inside.tables.iter_mut().for_each(|table| table.associations.retain(|known| known.subnet != gone.id));
            }
        }
        Drift::TableGone => {
            inside.tables.retain(|table| table.role.is_none());
            inside.endpoints.iter_mut().for_each(|endpoint| endpoint.tables.clear());
        }
        Drift::NatGatewayGone => {
            inside.nat_gateways.clear();
            world.addresses.iter_mut().for_each(|address| address.taken = false);
        }
        Drift::NatGatewayFailed => {
            inside.nat_gateways.iter_mut().for_each(|known| known.stage = Stage::Failed("why".to_owned()));
        }
        Drift::EndpointGone => drop(inside.endpoints.pop()),
        Drift::EndpointLoosened => {
            for endpoint in inside.endpoints.iter_mut().filter(|known| !known.subnets.is_empty()) {
                endpoint.subnets.pop_first();
                endpoint.private_dns = false;
            }
        }
    }
}

/// Any network that a manifest can ask for.
fn any_network() -> impl Strategy<Value = (bool, Desired, Observed)> {
    let endpoints = prop::sample::subsequence(vec!["s3", "dynamodb", "ecr.api", "logs"], 0..=4);
    let nat = prop::sample::select(vec!["none", "single", "per_az"]);
    let own = (2u8..=3, 16u8..=24, 0u8..=255, nat, any::<bool>(), any::<bool>(), endpoints).prop_map(
        |(zones, prefix, third, nat, data, isolated, endpoints)| {
            let base = u32::from_be_bytes([10, 7, third, 0]) & (u32::MAX << (32 - prefix));
            let cidr = format!("{}/{prefix}", std::net::Ipv4Addr::from(base));
            let network = json!({"cidr": cidr, "azs": zones, "nat": nat, "isolated": isolated, "endpoints": endpoints});
            let databases = if data { database() } else { json!({}) };
            (true, desired(json!({"network": network, "databases": databases})), region(3))
        },
    );
    let two = ["subnet-0a", "subnet-0c"];
    prop_oneof![
        8 => own,
        1 => Just((false, in_default_vpc(), region_with_default_vpc())),
        1 => Just((false, given(&two, &two), region_with_vpc("vpc-0123", false))),
    ]
}

proptest! {
    #[test]
    fn any_way_through_the_actions_ends_in_the_same_network(
        (own, desired, world) in any_network(),
        picks in prop::collection::vec(any::<Index>(), 1..40),
        drifts in prop::collection::vec(drift(), 0..6),
    ) {
        let mut count = 0;
        let (mut world, outputs) = converge(&desired, world, &picks, &mut count);
        prop_assert_eq!(next_actions(&desired, &world), Ok(Step::Done(outputs.clone())));
        prop_assert!(strays(&desired, &world).is_empty());
        prop_assert!(differences(&desired, &world).is_empty());
        prop_assert_eq!(world.inside.groups.len(), desired.groups.len());
        let parts = standing_parts(&desired, &world);
        let ranges: Vec<Cidr> = world.inside.subnets.iter().map(|subnet| subnet.cidr.parse().unwrap()).collect();
        for (at, range) in ranges.iter().enumerate() {
            prop_assert!(!ranges[..at].iter().any(|other| other.overlaps(*range)), "{} overlaps", range);
        }

        for drift in drifts {
            let whose = matches!(drift, Drift::RuleAdded(..) | Drift::RulesGone(..));
            if whose || own {
                apply(drift, &mut world);
            }
        }
        let (world, repaired) = converge(&desired, world, &picks, &mut count);
        prop_assert_eq!(&repaired.vpc, &outputs.vpc);
        prop_assert_eq!(next_actions(&desired, &world), Ok(Step::Done(repaired.clone())));
        prop_assert!(strays(&desired, &world).is_empty());
        prop_assert_eq!(repaired.task_subnets().len(), outputs.task_subnets().len());
        let roles: Vec<Role> = standing_parts(&desired, &world).into_keys().collect();
        prop_assert_eq!(roles, parts.into_keys().collect::<Vec<_>>());
    }

    #[test]
    fn any_network_becomes_any_other_of_the_same_range(
        (own, first, world) in any_network(),
        (_, mut second, _) in any_network(),
        picks in prop::collection::vec(any::<Index>(), 1..40),
    ) {
        prop_assume!(own && second.is_own());
        let cidr = match &first.place { Place::Own(own) => own.cidr, _ => unreachable!() };
        if let Place::Own(own) = &mut second.place {
            own.cidr = cidr;
        }
        let mut count = 0;
        let (world, _) = converge(&first, world, &picks, &mut count);
        let (world, outputs) = converge(&second, world, &picks, &mut count);
        let (fresh, _) = made(&second, region(3));
        let roles = |world: &Observed| -> BTreeSet<Role> {
            let groups = |role: &Role| !Role::GROUPS.contains(role);
            standing_parts(&second, world).into_keys().filter(groups).collect()
        };
        prop_assert_eq!(roles(&world), roles(&fresh), "what is too much is gone");
        prop_assert_eq!(next_actions(&second, &world), Ok(Step::Done(outputs)));
    }

    #[test]
    fn whatever_was_made_is_removed_to_nothing(
        (_, desired, mut world) in any_network(),
        picks in prop::collection::vec(any::<Index>(), 1..40),
        made in 0usize..80,
    ) {
        let mut count = 0;
        while count < made {
            match next_actions(&desired, &world).unwrap() {
                Step::Act(actions) => {
                    let pick = picks[count % picks.len()].index(actions.len());
                    world = act(world, &actions[pick], &mut count);
                }
                Step::Wait(_) if count % 2 == 0 => world = world.settled(),
                _ => break,
            }
        }
        let world = removed(ours(world), &picks, &mut count);
        prop_assert!(is_empty(&world), "{:?}", world);
    }
}
