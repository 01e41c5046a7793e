//! Passes against an EC2 in memory that refuses what AWS refuses, doubles what AWS doubles, takes its time where AWS does, and
//! may show the world as it was some looks ago.

mod makespan;
mod world;

use std::collections::BTreeSet;

use serde_json::json;
use shipway_aws::{
    PublicError as _, runtime,
    testing::{self, Cut, SYSTEMS, cut_everywhere, last_environment},
};
use shipway_domain::{
    failure::Failure,
    message::{DriftFound, DriftInput, Pass, Run},
    name::Component,
    network::{Action, Desired, Inside, Place, Role, Tier},
    release::Artifact,
};

use self::world::World;
use crate::handler::{Answer, Request, answer};

fn run(number: u8) -> Run {
    Run {
        app: "hello".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        component: Component::Platform,
        artifact: Artifact::Object { key: "apps/hello/prod/shipway.yaml".to_owned(), version: number.to_string() },
        release: format!("20261121T031542123-00000{number}").parse().unwrap(),
        fence: number.into(),
        repair: false,
    }
}

fn own() -> serde_json::Value {
    json!({})
}

/// One zone's NAT gateway for two zones, and both kinds of endpoints.
fn whole() -> serde_json::Value {
    json!({"nat": "single", "endpoints": ["s3", "logs"]})
}

const DELAYS: [(usize, bool); 4] = [(0, false), (0, true), (1, false), (2, true)];

#[tokio::test]
async fn a_network_without_gateways_to_wait_for_is_made_in_one_pass_and_the_second_release_changes_nothing() {
    let world = World::new(own());
    assert_eq!(world.converge(&run(1)).await, 1);
    world.assert_stands("first");
    assert_eq!(world.story.borrow().len(), 1);
    world.performed.borrow_mut().clear();
    assert_eq!(world.converge(&run(2)).await, 1);
    assert_eq!(*world.performed.borrow(), []);
    assert_eq!(world.story.borrow().len(), 1, "nothing was done, nothing is told");
}

#[tokio::test]
async fn a_nat_gateway_is_waited_for_between_passes_and_only_its_route_is_left() {
    let world = World::new(json!({"nat": "per_az"}));
    let Ok(Pass::Again { seconds, note }) = world.apply(&run(1)).await else { panic!("it does not wait") };
    assert_eq!(seconds, 1);
    assert!(note.contains("is being made"), "{note}");
    let first = world.performed.borrow().len();
    world.converge(&run(1)).await;
    world.assert_stands("per_az");
    let rest: Vec<_> = world.performed.borrow()[first..].to_vec();
    assert!(
        rest.len() == 2 && rest.iter().all(|action| matches!(action, Action::CreateDefaultRoute { .. })),
        "{rest:?}"
    );
    world.performed.borrow_mut().clear();
    assert_eq!(world.converge(&run(2)).await, 1);
    assert_eq!(*world.performed.borrow(), []);
}

#[tokio::test]
async fn a_pass_cut_off_at_any_call_is_finished_by_the_next_without_doubles() {
    for network in [own(), whole()] {
        for (lag, slow) in DELAYS {
            Box::pin(cut_everywhere(async |cut| {
                let world = World::late(lag, slow, network.clone());
                world.line.cut(cut);
                world.converge(&run(1)).await;
                let calls = world.line.calls();
                let context = format!("{network}, {cut:?}, {lag} looks late, slow: {slow}");
                world.assert_stands(&context);
                world.performed.borrow_mut().clear();
                world.converge(&run(2)).await;
                world.assert_stands(&context);
                let makes: Vec<_> = world.performed.borrow().iter().filter_map(Action::makes).collect();
                assert_eq!(makes, [], "{context}: a new execution");
                calls
            }))
            .await;
        }
    }
}

#[tokio::test]
async fn the_networks_of_the_five_systems_are_made_and_removed_whatever_becomes_of_a_call() {
    for manifest in SYSTEMS {
        let (environment, spec) = last_environment(manifest);
        let desired = Desired::of(&run(1).app, &run(1).environment, &spec, None);
        let has_its_own = matches!(desired.place, Place::Own(_));
        Box::pin(cut_everywhere(async |cut| {
            let world = World::late(1, false, own());
            world.plans(spec.clone());
            world.line.cut(cut);
            world.converge(&run(1)).await;
            let context = format!("{} in {environment}, {cut:?}", spec.app);
            if has_its_own {
                world.assert_stands(&context);
            }
            world.performed.borrow_mut().clear();
            world.converge(&run(2)).await;
            let makes: Vec<_> = world.performed.borrow().iter().filter_map(Action::makes).collect();
            assert_eq!(makes, [], "{context}: a new execution");
            world.vanish(&run(3)).await;
            world.assert_nothing_left(&context);
            world.line.calls()
        }))
        .await;
    }
}

#[tokio::test]
async fn passes_cut_off_again_and_again_come_to_the_same_end() {
    for stride in 1..12 {
        let world = World::late(1, false, whole());
        let run = run(1);
        for _ in 0..40 {
            world.line.cut(Cut::After(stride));
            let _ = world.apply(&run).await;
        }
        world.line.cut(None);
        world.converge(&run).await;
        world.assert_stands(&format!("cut every {stride}"));
    }
}

#[tokio::test]
async fn a_release_that_takes_over_half_way_doubles_nothing() {
    for lag in 0..3 {
        for cut in 1..81 {
            let world = World::late(lag, false, whole());
            world.line.cut(Cut::After(cut));
            let _ = world.apply(&run(1)).await;
            world.converge(&run(2)).await;
            world.assert_stands(&format!("taken over after call {cut}, {lag} looks late"));
        }
    }
}

#[tokio::test]
async fn what_was_deleted_by_hand_is_made_again_after_it_was_looked_for() {
    let world = World::new(own());
    world.converge(&run(1)).await;
    world.truth.borrow_mut().gateways.clear();
    assert!(world.converge(&run(2)).await > 1);
    world.assert_stands("gateway deleted");
    assert_eq!(world.converge(&run(3)).await, 1);
    *world.truth.borrow_mut() = Default::default();
    world.converge(&run(4)).await;
    world.assert_stands("everything deleted");
}

#[tokio::test]
async fn a_quota_ends_the_pass_by_name_and_keeps_what_was_made() {
    let world = World::new(own());
    world.refuses.set(Some(("CreateVpc", "VpcLimitExceeded")));
    let error = world.apply(&run(1)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Quota, "{error}");
    assert!(matches!(world.performed.borrow().as_slice(), [Action::CreateInternetGateway]));
    let progress = world.progress.borrow().clone().unwrap();
    assert!(progress.made.contains_key(&Role::InternetGateway) && progress.asked.is_empty(), "{progress:?}");
    assert_eq!(world.story.borrow().len(), 1, "what was made is told");
    world.refuses.set(None);
    assert_eq!(world.converge(&run(2)).await, 1);
    world.assert_stands("after the quota was raised");
}

#[tokio::test]
async fn too_few_addresses_stop_the_release_and_the_rest_of_the_network_is_made_by_the_next() {
    let world = World::new(whole());
    world.refuses.set(Some(("AllocateAddress", "AddressLimitExceeded")));
    let error = world.apply(&run(1)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Quota, "{error}");
    world.refuses.set(None);
    world.converge(&run(2)).await;
    world.assert_stands("after the quota was raised");
}

#[tokio::test]
async fn a_release_that_lost_its_claim_touches_nothing() {
    let world = World::new(own());
    world.claim_lost.set(true);
    for removes in [false, true] {
        let passed = if removes { world.remove(&run(1)).await } else { world.apply(&run(1)).await };
        assert_eq!(passed.unwrap_err().failure(), Failure::Superseded);
    }
    assert_eq!(*world.performed.borrow(), []);
}

#[tokio::test]
async fn a_vpc_that_is_not_its_own_gets_groups_and_keeps_the_rest() {
    let given = json!({"vpc": "vpc-0123", "subnets": {"public": ["subnet-0a", "subnet-0b"]}});
    for network in [json!({"vpc": "default"}), given] {
        let world = World::new(network.clone());
        let before = world.truth.borrow().insides["vpc-0123"].clone();
        assert_eq!(world.converge(&run(1)).await, 1);
        let outputs = world.environment.borrow().network.clone().unwrap();
        assert_eq!((outputs.vpc.as_str(), outputs.public_subnets.len()), ("vpc-0123", 2), "{network}");
        {
            let truth = world.truth.borrow();
            assert_eq!(truth.insides["vpc-0123"].groups.len(), 2, "{network}");
            assert_eq!(Inside { groups: Vec::new(), ..truth.insides["vpc-0123"].clone() }, before, "{network}");
            assert_eq!((truth.vpcs.len(), truth.gateways.len()), (1, 0), "{network}");
        }
        world.vanish(&run(2)).await;
        assert_eq!(world.truth.borrow().insides["vpc-0123"], before, "{network}");
        assert_eq!(world.truth.borrow().vpcs.len(), 1, "{network}");
    }
}

#[tokio::test]
async fn a_new_port_is_opened_before_the_rollout_and_the_old_one_closed_after_it() {
    let world = World::new(own());
    world.converge(&run(1)).await;
    world.applies();
    world.wants(own(), 4000);
    let ports = || {
        let outputs = world.environment.borrow().network.clone().unwrap();
        let truth = world.truth.borrow();
        let group =
            truth.insides[&outputs.vpc].groups.iter().find(|group| group.id == outputs.service_group).cloned().unwrap();
        group.incoming.iter().filter_map(|rule| rule.ports).map(|ports| ports.0).collect::<Vec<_>>()
    };
    world.converge(&run(2)).await;
    assert_eq!(ports(), [3000, 4000]);
    world.applies();
    world.converge(&run(3)).await;
    assert_eq!(ports(), [4000]);
    assert!(world.story.borrow().last().unwrap().contains("closed"), "{:?}", world.story);
}

#[tokio::test]
async fn what_ec2_goes_on_refusing_ends_by_name() {
    let world = World::new(own());
    world.converge(&run(1)).await;
    let outputs = world.environment.borrow().network.clone().unwrap();
    let subnet = outputs.public_subnets[0].clone();
    for known in &mut world.truth.borrow_mut().insides.get_mut(&outputs.vpc).unwrap().subnets {
        known.public_addresses = known.id != subnet;
    }
    world.refuses.set(Some(("GivePublicAddresses", "InvalidSubnetID.NotFound")));
    for _ in 0..60 {
        match world.apply(&run(2)).await {
            Ok(Pass::Again { seconds, .. }) => assert_eq!(seconds, 2),
            Ok(Pass::Done(summary)) => panic!("{summary:?}"),
            Err(error) => {
                assert_eq!(error.failure(), Failure::Conflict);
                return;
            }
        }
    }
    panic!("it goes on for ever");
}

#[tokio::test]
async fn a_network_changes_to_what_a_later_manifest_asks_for_wherever_it_is_cut_off() {
    let (more, less) = (json!({"nat": "per_az", "endpoints": ["s3", "logs"], "azs": 3}), json!({"nat": "single"}));
    for (first, second) in [(&more, &less), (&less, &more), (&less, &own()), (&more, &json!({}))] {
        for cut in (1..160).step_by(3) {
            let world = World::new(first.clone());
            world.converge(&run(1)).await;
            world.wants(second.clone(), 3000);
            world.line.cut(Cut::After(cut));
            world.converge(&run(2)).await;
            world.converge(&run(2)).await;
            world.assert_stands(&format!("{first} to {second}, cut at {cut}"));
        }
    }
}

// ---- Away with it ----

#[tokio::test]
async fn a_network_is_removed_to_nothing_and_a_second_time_nothing_is_done() {
    let world = World::new(whole());
    world.converge(&run(1)).await;
    let stood = world.truth.borrow().insides["vpc-0123"].clone();
    assert!(world.vanish(&run(2)).await > 1, "EC2 takes its time");
    world.assert_nothing_left("removed");
    assert_eq!(world.truth.borrow().insides["vpc-0123"], stood, "what is not ours stays");
    assert_eq!(world.environment.borrow().network, None);
    assert!(world.story.borrow().last().unwrap().contains("deleted"), "{:?}", world.story);
    let told = world.story.borrow().len();
    world.performed.borrow_mut().clear();
    assert_eq!(world.vanish(&run(3)).await, 1);
    assert_eq!((world.performed.borrow().len(), world.story.borrow().len()), (0, told));
    world.converge(&run(4)).await;
    world.assert_stands("made again");
}

#[tokio::test]
async fn a_removal_cut_off_at_any_call_is_finished_by_the_next() {
    for (lag, slow) in DELAYS {
        Box::pin(cut_everywhere(async |cut| {
            let world = World::late(lag, slow, whole());
            world.converge(&run(1)).await;
            world.line.cut(cut);
            world.vanish(&run(2)).await;
            let calls = world.line.calls();
            let context = format!("{cut:?}, {lag} looks late, slow: {slow}");
            world.assert_nothing_left(&context);
            world.performed.borrow_mut().clear();
            world.vanish(&run(3)).await;
            assert_eq!(*world.performed.borrow(), [], "{context}: a new execution");
            calls
        }))
        .await;
    }
}

#[tokio::test]
async fn a_denial_is_believed_when_what_was_to_be_removed_is_still_there() {
    for (lag, slow) in DELAYS {
        Box::pin(cut_everywhere(async |cut| {
            let world = World::late(lag, slow, whole());
            world.converge(&run(1)).await;
            world.denies_what_is_gone.set(true);
            world.line.cut(cut);
            world.vanish(&run(2)).await;
            world.assert_nothing_left(&format!("{cut:?}, {lag} looks late, slow: {slow}"));
            world.line.calls()
        }))
        .await;
    }
    let world = World::new(whole());
    world.converge(&run(1)).await;
    world.refuses.set(Some(("DeleteSubnet", "UnauthorizedOperation")));
    let mut looks = 0;
    let denied = loop {
        match world.remove(&run(2)).await {
            Ok(Pass::Again { .. }) => looks += 1,
            Ok(Pass::Done(summary)) => panic!("{summary:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(denied.failure(), Failure::Denied, "{denied}");
    assert!(looks < 30, "{looks}");
}

#[tokio::test]
async fn whatever_was_made_before_it_was_cut_off_is_removed() {
    for (lag, slow) in DELAYS {
        for cut in 1..81 {
            let world = World::late(lag, slow, whole());
            world.line.cut(Cut::After(cut));
            let _ = world.apply(&run(1)).await;
            world.vanish(&run(2)).await;
            world.assert_nothing_left(&format!("made up to call {cut}, {lag} looks late, slow: {slow}"));
        }
    }
}

#[tokio::test]
async fn what_others_have_in_the_way_is_waited_for_and_then_named() {
    let world = World::new(own());
    world.converge(&run(1)).await;
    let subnet = world.environment.borrow().network.clone().unwrap().public_subnets[0].clone();
    world.obstacles.borrow_mut().insert(subnet.clone());
    let mut waited = 0;
    let error = loop {
        match world.remove(&run(2)).await {
            Ok(Pass::Again { seconds, .. }) => waited += seconds,
            Ok(Pass::Done(summary)) => panic!("{summary:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.failure(), Failure::Conflict);
    assert!(error.to_string().contains(&format!("eni-0 in {subnet} still stands in the way")), "{error}");
    assert!((240..400).contains(&waited), "after {waited} seconds");
    let left: BTreeSet<_> =
        world.truth.borrow().insides.values().flat_map(|inside| inside.groups.clone()).map(|group| group.id).collect();
    assert_eq!(left, BTreeSet::new(), "what nothing stands in the way of is gone");
    world.obstacles.borrow_mut().clear();
    world.vanish(&run(3)).await;
    world.assert_nothing_left("after the way was cleared");
}

#[tokio::test]
async fn what_still_uses_a_tier_keeps_it_and_the_next_release_removes_it() {
    let world = World::new(json!({"nat": "single"}));
    world.converge(&run(1)).await;
    let private = world.environment.borrow().network.clone().unwrap().private_subnets[0].clone();
    world.obstacles.borrow_mut().insert(private);
    world.wants(own(), 3000);
    world.converge(&run(2)).await;
    assert_eq!(world.environment.borrow().network.clone().unwrap().private_subnets, [""; 0]);
    let has = |tier: Tier| {
        let truth = world.truth.borrow();
        let roles: Vec<_> = truth
            .insides
            .values()
            .flat_map(|inside| &inside.subnets)
            .filter_map(|subnet| subnet.role.clone())
            .collect();
        roles.iter().any(|role| matches!(role, Role::Subnet(of, _) if *of == tier))
    };
    assert!(has(Tier::Private));
    world.obstacles.borrow_mut().clear();
    world.converge(&run(3)).await;
    assert!(!has(Tier::Private));
    world.assert_stands("without private subnets");
}

// ---- Drift, and what is asked ----

#[tokio::test]
async fn drift_is_told_without_a_write() {
    let world = World::new(own());
    let input = DriftInput { app: "hello".parse().unwrap(), environment: "prod".parse().unwrap() };
    let ask = async || {
        let written = world.written.get();
        let answered =
            answer(&world, &world, Request::Drift(input.clone()), jiff::Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(world.written.get(), written, "it wrote");
        let Answer::Drift(DriftFound { differences }) = answered else { panic!("{answered:?}") };
        differences
    };
    assert_eq!(ask().await, [], "what does not stand does not differ");
    world.converge(&run(1)).await;
    world.applies();
    assert_eq!(ask().await, []);
    let vpc = world.environment.borrow().network.clone().unwrap().vpc;
    world.truth.borrow_mut().insides.get_mut(&vpc).unwrap().tables[0].default_route = None;
    let found = ask().await;
    assert_eq!((found.len(), found[0].of.as_str()), (1, "network"));
    assert!(found[0].what.contains("lead id-"), "{found:?}");
    // A VPC of which only the tags are gone is told by that, and not as one that the environment moved away from.
    world.truth.borrow_mut().vpcs.iter_mut().find(|known| known.id == vpc).unwrap().ours = false;
    let found = ask().await;
    assert!(found[0].what.contains("does not carry its tags any more"), "{found:?}");
}

#[test]
fn each_thing_that_can_be_asked_is_read_from_what_the_machines_send() {
    let run = serde_json::to_value(run(1)).unwrap();
    let read = |value: serde_json::Value| serde_json::from_value::<Request>(value);
    assert!(matches!(read(json!({"run": run, "action": "apply"})), Ok(Request::Apply { .. })));
    assert!(matches!(read(json!({"run": run, "action": "remove"})), Ok(Request::Remove { .. })));
    let drift = json!({"action": "drift", "app": "hello", "environment": "prod"});
    assert!(matches!(read(drift), Ok(Request::Drift(_))));
    assert!(read(json!({"run": run, "action": "forget"})).is_err());
}

#[tokio::test]
async fn an_input_that_no_machine_makes_is_refused_by_name_and_nothing_changes() {
    let asked = [
        json!({"action": "apply", "run": run(2)}),
        json!({"action": "remove", "run": run(2)}),
        json!({"action": "drift", "app": "hello", "environment": "prod"}),
    ];
    for valid in asked {
        // The fence and the artifact are for the table to judge, which this one leaves out.
        let free = ["/run/fence", "/run/artifact/object/version"];
        Box::pin(testing::are_refused(&valid, &free, async |input| {
            let world = World::new(own());
            world.converge(&run(1)).await;
            world.applies();
            world.performed.borrow_mut().clear();
            let now = jiff::Timestamp::UNIX_EPOCH;
            let asked = async |request: Request| answer(&world, &world, request, now).await;
            let answered = runtime::answer(&input, asked).await.map(|answer| json!(answer));
            (answered, format!("{:?} {:?} {}", world.performed, world.story, world.written.get()))
        }))
        .await;
    }
}
