//! Passes against an EC2 in memory that refuses what AWS refuses, doubles what AWS doubles, and may show the world as it was
//! some looks ago.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use aws_sdk_ec2::error::{ErrorMetadata, SdkError};
use shipway_aws::{
    AwsError, PublicError,
    store::{EnvironmentRecord, Manifest, StoreError},
};
use shipway_domain::{
    failure::Failure,
    manifest::Cidr,
    message::{Pass, PassInput, Run, Summary},
    name::{Component, ReleaseId},
    network::{
        Action, Desired, Direction, Inside, NetworkOutputs, Observed, Place, Progress, Remembered, Role, Subnet, Vpc,
        Zone, standing_vpc,
    },
    release::Artifact,
};
use tokio::sync::Notify;

use crate::{
    aws::{Ec2, Ec2Error},
    handler::{ProvisionError, Records, Task, pass},
};

/// What is there.
#[derive(Clone, Default)]
struct Truth {
    vpcs: Vec<Vpc>,
    gateways: Vec<shipway_domain::network::Gateway>,
    insides: BTreeMap<String, Inside>,
}

/// What happens at one chosen call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The function is gone before the call.
    KilledBefore,
    /// The function is gone after the call.
    KilledAfter,
    /// The call is done, its answer never comes.
    AnswerLost,
}

#[derive(Default)]
struct World {
    truth: RefCell<Truth>,
    /// The world at each look.
    history: RefCell<Vec<Truth>>,
    /// How many looks late the world is shown.
    lag: usize,
    /// Whether what was just made is not known to other calls until the next look.
    slow: bool,
    unknown: RefCell<Vec<String>>,
    tokens: RefCell<BTreeMap<(ReleaseId, String), String>>,
    ids: Cell<usize>,
    calls: Cell<usize>,
    /// What was done, without what was refused.
    performed: RefCell<Vec<Action>>,
    fault: Cell<Option<(usize, Fault)>>,
    dead: Cell<bool>,
    killed: Notify,
    environment: RefCell<EnvironmentRecord>,
    progress: RefCell<Option<Progress>>,
    refuses: Cell<Option<(Role, &'static str)>>,
    story: RefCell<Vec<String>>,
    claim_lost: Cell<bool>,
}

fn coded(code: &str) -> AwsError {
    let error = ErrorMetadata::builder().code(code).message("no").build();
    AwsError::of("ec2:Call")(SdkError::service_error(error, ()))
}

fn behind(code: &str) -> Ec2Error {
    Ec2Error::Behind(coded(code))
}

fn lost() -> AwsError {
    AwsError::of::<ErrorMetadata, ()>("ec2:Call")(SdkError::timeout_error("lost"))
}

impl World {
    fn new(network: serde_json::Value) -> World {
        let world = World::default();
        let subnet = |zone: char, cidr: &str| Subnet {
            id: format!("subnet-default-{zone}"),
            role: None,
            zone: format!("eu-west-1{zone}"),
            cidr: cidr.to_owned(),
            public_addresses: true,
        };
        let subnets = vec![subnet('a', "172.31.0.0/20"), subnet('b', "172.31.16.0/20")];
        let inside = Inside { dns_support: true, dns_hostnames: true, subnets, ..Inside::default() };
        world.truth.borrow_mut().vpcs.push(Vpc {
            id: "vpc-default".to_owned(),
            cidr: "172.31.0.0/16".to_owned(),
            ours: false,
            default: true,
        });
        world.truth.borrow_mut().insides.insert("vpc-default".to_owned(), inside);
        world.wants(network, 3000);
        world
    }

    fn wants(&self, network: serde_json::Value, port: u16) {
        let spec = serde_json::json!({"version": 1, "app": "hello", "network": network, "services": {
            "api": {"image": {"repository": "hello-api"}, "port": port, "http": {}},
        }});
        let spec = serde_json::from_value(spec).unwrap();
        self.environment.borrow_mut().planned = Some(Manifest { artifact: run(1).artifact, spec });
    }

    /// Counts a call, and is where the function dies.
    async fn call<T>(&self, work: impl FnOnce() -> T) -> Result<T, Fault> {
        tokio::task::yield_now().await;
        let number = self.calls.replace(self.calls.get() + 1);
        let fault = self.fault.get().filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        if fault == Some(Fault::KilledBefore) {
            self.die();
        }
        if self.dead.get() {
            std::future::pending::<()>().await;
        }
        let done = work();
        match fault {
            Some(Fault::KilledAfter) => {
                self.die();
                std::future::pending().await
            }
            Some(fault) => Err(fault),
            None => Ok(done),
        }
    }

    fn die(&self) {
        self.dead.set(true);
        self.killed.notify_one();
    }

    async fn write<T>(&self, work: impl FnOnce() -> T) -> Result<T, StoreError> {
        let done = self.call(|| if self.claim_lost.get() { None } else { Some(work()) }).await;
        match done {
            Ok(Some(done)) => Ok(done),
            Ok(None) => {
                let Run { app, environment, component, .. } = run(1);
                Err(StoreError::Superseded { app, environment, component })
            }
            Err(_) => Err(lost().into()),
        }
    }

    /// One pass; nothing if the function died in it.
    async fn pass(&self, run: &Run) -> Option<Result<Pass<Summary>, ProvisionError>> {
        self.dead.set(false);
        let input = PassInput { run: run.clone(), action: Task::Apply };
        tokio::select! {
            biased;
            result = pass(self, self, input, jiff::Timestamp::UNIX_EPOCH) => Some(result),
            () = self.killed.notified() => None,
        }
    }

    /// Passes until the network stands; how many it took.
    async fn converge(&self, run: &Run) -> usize {
        for count in 1..80 {
            match self.pass(run).await {
                Some(Ok(Pass::Done(_))) => return count,
                Some(Err(error)) => assert_eq!(error.failure(), Failure::Transient, "{error}"),
                Some(Ok(Pass::Again { .. })) | None => {}
            }
        }
        panic!("it does not converge");
    }

    fn assert_stands(&self, subnets: usize, context: &str) {
        let truth = self.truth.borrow();
        let outputs = self.environment.borrow().network.clone().unwrap();
        let inside = &truth.insides[&outputs.vpc];
        assert_eq!(truth.vpcs.iter().filter(|vpc| vpc.ours).count(), 1, "{context}: VPCs");
        assert_eq!(truth.gateways.len(), 1, "{context}: gateways");
        assert_eq!(truth.gateways[0].vpc.as_ref(), Some(&outputs.vpc), "{context}");
        assert_eq!(inside.tables.len(), 1, "{context}: tables");
        assert_eq!(inside.tables[0].associations.len(), subnets, "{context}");
        assert_eq!(inside.tables[0].default_route.as_ref(), Some(&truth.gateways[0].id), "{context}");
        assert_eq!(inside.subnets.len(), subnets, "{context}: subnets");
        assert!(inside.subnets.iter().all(|subnet| subnet.public_addresses), "{context}");
        assert!(inside.dns_support && inside.dns_hostnames, "{context}");
        assert_eq!(outputs.public_subnets.len(), subnets, "{context}");
        self.assert_groups(&outputs, context);
    }

    fn assert_groups(&self, outputs: &NetworkOutputs, context: &str) {
        let truth = self.truth.borrow();
        let groups = &truth.insides[&outputs.vpc].groups;
        let sizes: BTreeMap<_, _> =
            groups.iter().map(|group| (group.id.clone(), (group.incoming.len(), group.outgoing.len()))).collect();
        let expected = [(outputs.load_balancer_group.clone(), (4, 1)), (outputs.service_group.clone(), (1, 2))];
        assert_eq!(sizes, expected.into(), "{context}: groups");
    }

    /// The VPC that an action is about.
    fn vpc_of(&self, action: &Action) -> Option<String> {
        let holds = |test: &dyn Fn(&Inside) -> bool| {
            self.truth.borrow().insides.iter().find(|(_, inside)| test(inside)).map(|(vpc, _)| vpc.clone())
        };
        match action {
            Action::CreateVpc { .. } | Action::CreateInternetGateway => None,
            Action::EnableDnsSupport { vpc }
            | Action::EnableDnsHostnames { vpc }
            | Action::AttachInternetGateway { vpc, .. }
            | Action::CreateSubnet { vpc, .. }
            | Action::CreateRouteTable { vpc }
            | Action::CreateGroup { vpc, .. } => Some(vpc.clone()),
            Action::GivePublicAddresses { subnet } => {
                holds(&|inside| inside.subnets.iter().any(|known| known.id == *subnet))
            }
            Action::CreateDefaultRoute { table, .. }
            | Action::ReplaceDefaultRoute { table, .. }
            | Action::AssociateRouteTable { table, .. }
            | Action::ReplaceAssociation { table, .. } => {
                holds(&|inside| inside.tables.iter().any(|known| known.id == *table))
            }
            Action::Authorize { group, .. } | Action::Revoke { group, .. } => {
                holds(&|inside| inside.groups.iter().any(|known| known.id == *group))
            }
        }
    }

    fn refuse(&self, action: &Action, inside: &Inside) -> Option<&'static str> {
        let text = format!("{action:?}");
        if self.unknown.borrow().iter().any(|id| text.contains(&format!("\"{id}\""))) {
            return Some("InvalidVpcID.NotFound");
        }
        let associated = |subnet: &String| {
            inside.tables.iter().flat_map(|table| &table.associations).any(|known| known.subnet == *subnet)
        };
        let rules = |group: &String, direction: &Direction| {
            let group = inside.groups.iter().find(|known| known.id == *group).unwrap();
            if *direction == Direction::Incoming { &group.incoming } else { &group.outgoing }
        };
        let attached =
            |id: &String| self.truth.borrow().gateways.iter().any(|known| known.id == *id && known.vpc.is_some());
        let routed = |id: &String| inside.tables.iter().any(|known| known.id == *id && known.default_route.is_some());
        let overlaps =
            |cidr: &Cidr| inside.subnets.iter().any(|known| known.cidr.parse::<Cidr>().unwrap().overlaps(*cidr));
        match action {
            Action::AttachInternetGateway { gateway, .. } if attached(gateway) => Some("Resource.AlreadyAssociated"),
            Action::CreateSubnet { cidr, .. } if overlaps(cidr) => Some("InvalidSubnet.Conflict"),
            Action::CreateGroup { name, .. } if inside.groups.iter().any(|known| known.name == *name) => {
                Some("InvalidGroup.Duplicate")
            }
            Action::CreateDefaultRoute { table, .. } if routed(table) => Some("RouteAlreadyExists"),
            Action::CreateDefaultRoute { gateway, .. } | Action::ReplaceDefaultRoute { gateway, .. }
                if !attached(gateway) =>
            {
                Some("InvalidGatewayID.NotFound")
            }
            Action::AssociateRouteTable { subnet, .. } if associated(subnet) => Some("Resource.AlreadyAssociated"),
            Action::Authorize { group, direction, rules: new }
                if new.iter().any(|rule| rules(group, direction).contains(rule)) =>
            {
                Some("InvalidPermission.Duplicate")
            }
            Action::Revoke { group, direction, rules: old }
                if !old.iter().all(|rule| rules(group, direction).contains(rule)) =>
            {
                Some("InvalidPermission.NotFound")
            }
            _ => None,
        }
    }

    fn act(&self, run: &Run, action: &Action) -> Result<String, Ec2Error> {
        let vpc = self.vpc_of(action);
        let inside = vpc.as_ref().and_then(|vpc| self.truth.borrow().insides.get(vpc).cloned()).unwrap_or_default();
        if let Some(code) = self.refuse(action, &inside) {
            return Err(behind(code));
        }
        if let Action::CreateRouteTable { vpc } = action
            && let Some(id) = self.tokens.borrow().get(&(run.release.clone(), vpc.clone()))
        {
            return Ok(id.clone());
        }
        let id = format!("id-{}", self.ids.replace(self.ids.get() + 1));
        if let Action::CreateRouteTable { vpc } = action {
            self.tokens.borrow_mut().insert((run.release.clone(), vpc.clone()), id.clone());
        }
        if self.slow && action.makes().is_some() {
            self.unknown.borrow_mut().push(id.clone());
        }
        let mut truth = self.truth.borrow_mut();
        let (vpcs, gateways) = (truth.vpcs.clone(), truth.gateways.clone());
        let before = Observed { vpcs, gateways, inside, ..Observed::default() };
        let after = before.with(action, &id);
        let changed = if let Action::CreateVpc { .. } = action { Some(id.clone()) } else { vpc };
        (truth.vpcs, truth.gateways) = (after.vpcs, after.gateways);
        if let Some(vpc) = changed {
            truth.insides.insert(vpc, after.inside);
        }
        self.performed.borrow_mut().push(action.clone());
        Ok(id)
    }
}

impl Ec2 for World {
    async fn look(&self, _: &Run, desired: &Desired, remembered: Remembered) -> Result<Observed, Ec2Error> {
        let look = || {
            self.history.borrow_mut().push(self.truth.borrow().clone());
            self.unknown.borrow_mut().clear();
            let history = self.history.borrow();
            history[history.len().saturating_sub(1 + self.lag)].clone()
        };
        let seen = self.call(look).await.map_err(|_| lost())?;
        let own = desired.place != Place::Default;
        let remember = remembered.vpc.clone();
        let vpcs = seen.vpcs.into_iter();
        let vpcs =
            vpcs.filter(|vpc| if own { vpc.ours } else { vpc.default } || Some(&vpc.id) == remember.as_ref()).collect();
        let zones =
            ["eu-west-1b", "eu-west-1a", "eu-west-1c"].map(|name| Zone { name: name.to_owned(), id: name.to_owned() });
        let gateways = if own { seen.gateways } else { Vec::new() };
        let mut observed = Observed { zones: zones.into(), vpcs, gateways, inside: Inside::default(), remembered };
        let standing = standing_vpc(desired, &observed).ok().flatten().map(|vpc| vpc.id.clone());
        observed.inside = standing.and_then(|vpc| seen.insides.get(&vpc).cloned()).unwrap_or_default();
        observed.inside.groups.iter_mut().for_each(|group| group.fresh = false);
        Ok(observed)
    }

    async fn perform(&self, run: &Run, _: &Desired, action: &Action) -> Result<String, Ec2Error> {
        if let Some((_, code)) = self.refuses.get().filter(|(role, _)| action.makes() == Some(*role)) {
            return Err(Ec2Error::Refused(coded(code)));
        }
        self.call(|| self.act(run, action)).await.unwrap_or_else(|_| Err(Ec2Error::Refused(lost())))
    }
}

impl Records for World {
    async fn renew(&self, _: &Run, _: jiff::Timestamp) -> Result<(), StoreError> {
        self.write(|| ()).await
    }

    async fn planned(&self, _: &Run) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        let environment = self.environment.borrow().clone();
        let manifest = environment.planned.clone().unwrap();
        Ok((environment, manifest))
    }

    async fn progress(&self, _: &Run) -> Result<Option<Progress>, StoreError> {
        Ok(self.progress.borrow().clone())
    }

    async fn save_progress(&self, _: &Run, progress: &Progress, _: jiff::Timestamp) -> Result<(), StoreError> {
        self.write(|| *self.progress.borrow_mut() = Some(progress.clone())).await
    }

    async fn tell(&self, _: &Run, what: String, _: jiff::Timestamp) -> Result<(), StoreError> {
        self.write(|| self.story.borrow_mut().push(what)).await
    }

    async fn set_network(&self, _: &Run, network: &NetworkOutputs, _: jiff::Timestamp) -> Result<(), StoreError> {
        self.write(|| self.environment.borrow_mut().network = Some(network.clone())).await
    }
}

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
    serde_json::json!({})
}

#[tokio::test]
async fn a_network_is_made_in_one_pass_and_the_second_release_changes_nothing() {
    let world = World::new(own());
    assert_eq!(world.converge(&run(1)).await, 1);
    world.assert_stands(2, "first");
    assert_eq!(world.story.borrow().len(), 1);
    world.performed.borrow_mut().clear();
    assert_eq!(world.converge(&run(2)).await, 1);
    assert_eq!(*world.performed.borrow(), []);
    assert_eq!(world.story.borrow().len(), 1, "nothing was done, nothing is told");
}

#[tokio::test]
async fn a_pass_cut_off_at_any_call_is_finished_by_the_next_without_doubles() {
    for fault in [Fault::KilledBefore, Fault::KilledAfter, Fault::AnswerLost] {
        for (lag, slow) in [(0, false), (0, true), (1, false), (2, true)] {
            for cut in 0..200 {
                let world = World { lag, slow, ..World::new(own()) };
                world.fault.set(Some((cut, fault)));
                world.converge(&run(1)).await;
                let context = format!("{fault:?} at call {cut}, {lag} looks late, slow: {slow}");
                world.assert_stands(2, &context);
                if world.calls.get() <= cut {
                    assert!(cut > 20, "{context}");
                    break;
                }
                world.performed.borrow_mut().clear();
                world.converge(&run(2)).await;
                world.assert_stands(2, &context);
                let makes: Vec<_> = world.performed.borrow().iter().filter_map(Action::makes).collect();
                assert_eq!(makes, [], "{context}");
            }
        }
    }
}

#[tokio::test]
async fn passes_cut_off_again_and_again_come_to_the_same_end() {
    for stride in 1..12 {
        let world = World { lag: 1, ..World::new(own()) };
        let run = run(1);
        for _ in 0..40 {
            world.fault.set(Some((world.calls.get() + stride, Fault::KilledAfter)));
            let _ = world.pass(&run).await;
        }
        world.fault.set(None);
        world.converge(&run).await;
        world.assert_stands(2, &format!("cut every {stride}"));
    }
}

#[tokio::test]
async fn a_release_that_takes_over_half_way_doubles_nothing() {
    for lag in 0..3 {
        for cut in 0..30 {
            let world = World { lag, ..World::new(own()) };
            world.fault.set(Some((cut, Fault::KilledAfter)));
            let _ = world.pass(&run(1)).await;
            world.converge(&run(2)).await;
            world.assert_stands(2, &format!("taken over after call {cut}, {lag} looks late"));
        }
    }
}

#[tokio::test]
async fn what_was_deleted_by_hand_is_made_again_after_it_was_looked_for() {
    let world = World::new(own());
    world.converge(&run(1)).await;
    world.truth.borrow_mut().gateways.clear();
    assert!(world.converge(&run(2)).await > 1);
    world.assert_stands(2, "gateway deleted");
    assert_eq!(world.converge(&run(3)).await, 1);
    *world.truth.borrow_mut() = Truth::default();
    world.converge(&run(4)).await;
    world.assert_stands(2, "everything deleted");
}

#[tokio::test]
async fn a_quota_ends_the_pass_by_name_and_keeps_what_was_made() {
    let world = World::new(own());
    world.refuses.set(Some((Role::Vpc, "VpcLimitExceeded")));
    let error = world.pass(&run(1)).await.unwrap().unwrap_err();
    assert_eq!(error.failure(), Failure::Quota, "{error}");
    assert!(matches!(world.performed.borrow().as_slice(), [Action::CreateInternetGateway]));
    let progress = world.progress.borrow().clone().unwrap();
    assert!(progress.made.contains_key(&Role::InternetGateway) && progress.asked.is_empty(), "{progress:?}");
    assert_eq!(world.story.borrow().len(), 1, "what was made is told");
    world.refuses.set(None);
    assert_eq!(world.converge(&run(2)).await, 1);
    world.assert_stands(2, "after the quota was raised");
}

#[tokio::test]
async fn a_release_that_lost_its_claim_touches_nothing() {
    let world = World::new(own());
    world.claim_lost.set(true);
    let error = world.pass(&run(1)).await.unwrap().unwrap_err();
    assert_eq!(error.failure(), Failure::Superseded);
    assert_eq!(*world.performed.borrow(), []);
}

#[tokio::test]
async fn the_default_vpc_gets_two_groups_and_keeps_the_rest() {
    let world = World::new(serde_json::json!({"vpc": "default"}));
    let before = world.truth.borrow().insides["vpc-default"].clone();
    assert_eq!(world.converge(&run(1)).await, 1);
    let outputs = world.environment.borrow().network.clone().unwrap();
    assert_eq!(outputs.vpc, "vpc-default");
    world.assert_groups(&outputs, "default VPC");
    let truth = world.truth.borrow();
    assert_eq!(Inside { groups: Vec::new(), ..truth.insides["vpc-default"].clone() }, before);
    assert_eq!((truth.vpcs.len(), truth.gateways.len()), (1, 0));
}

#[tokio::test]
async fn a_new_port_is_opened_before_the_rollout_and_the_old_one_closed_after_it() {
    let world = World::new(own());
    world.converge(&run(1)).await;
    let applied = world.environment.borrow().planned.clone();
    world.environment.borrow_mut().applied = applied;
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
    let applied = world.environment.borrow().planned.clone();
    world.environment.borrow_mut().applied = applied;
    world.converge(&run(3)).await;
    assert_eq!(ports(), [4000]);
    assert!(world.story.borrow().last().unwrap().contains("closed"), "{:?}", world.story);
}

#[tokio::test]
async fn what_ec2_goes_on_refusing_ends_by_name() {
    let world = World { slow: true, ..World::new(own()) };
    world.converge(&run(1)).await;
    let outputs = world.environment.borrow().network.clone().unwrap();
    let subnet = outputs.public_subnets[0].clone();
    for known in &mut world.truth.borrow_mut().insides.get_mut(&outputs.vpc).unwrap().subnets {
        known.public_addresses = known.id != subnet;
    }
    for _ in 0..60 {
        let stuck = Stubborn(&world, subnet.clone());
        let input = PassInput { run: run(2), action: Task::Apply };
        match pass(&world, &stuck, input, jiff::Timestamp::UNIX_EPOCH).await {
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

/// An EC2 that shows a subnet and never knows it.
struct Stubborn<'a>(&'a World, String);

impl Ec2 for Stubborn<'_> {
    async fn look(&self, run: &Run, desired: &Desired, remembered: Remembered) -> Result<Observed, Ec2Error> {
        self.0.look(run, desired, remembered).await
    }

    async fn perform(&self, run: &Run, desired: &Desired, action: &Action) -> Result<String, Ec2Error> {
        self.0.unknown.borrow_mut().push(self.1.clone());
        self.0.perform(run, desired, action).await
    }
}
