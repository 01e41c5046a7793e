//! EC2 and the table, in memory.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use shipway_aws::{
    AwsError,
    store::{EnvironmentRecord, Manifest, StoreError},
    testing::{Line, refused},
};
use shipway_domain::{
    failure::Failure,
    manifest::{Cidr, Spec},
    message::{Pass, Run, Summary},
    name::{AppName, EnvironmentName},
    network::{
        Action, Address, Desired, Direction, Gateway, Inside, Interface, NetworkOutputs, Observed, Owner, Peer, Place,
        Progress, Remembered, Role, Stage, Step, Subnet, Target, Vpc, Zone, next_actions, standing_vpc, strays,
    },
};
use shipway_ec2::Ec2Error;

use super::{
    makespan::{CALL, Clock, WORK},
    run,
};
use crate::handler::{Ec2, ProvisionError, Records, apply, remove};

/// What is there.
#[derive(Clone, Default)]
pub(super) struct Truth {
    pub(super) vpcs: Vec<Vpc>,
    pub(super) gateways: Vec<Gateway>,
    pub(super) addresses: Vec<Address>,
    pub(super) insides: BTreeMap<String, Inside>,
}

/// How many looks EC2 takes for a NAT gateway or an interface endpoint, where no clock says it.
const LOOKS_AT_WORK: u64 = 2;

#[derive(Default)]
pub(super) struct World {
    pub(super) line: Line,
    pub(super) truth: RefCell<Truth>,
    /// The world at each look.
    history: RefCell<Vec<Truth>>,
    /// How many looks late the world is shown.
    lag: usize,
    /// Whether what was just made is not known to other calls until the next look.
    slow: bool,
    unknown: RefCell<Vec<String>>,
    /// What EC2 is at, and when it is done.
    due: RefCell<BTreeMap<String, u64>>,
    tokens: RefCell<BTreeMap<String, String>>,
    ids: Cell<usize>,
    /// How many writes came to the table.
    pub(super) written: Cell<usize>,
    /// What was done, without what was refused.
    pub(super) performed: RefCell<Vec<Action>>,
    pub(super) environment: RefCell<EnvironmentRecord>,
    pub(super) progress: RefCell<Option<Progress>>,
    /// Whether a call that takes away what is gone already is denied, as its tags are gone too.
    pub(super) denies_what_is_gone: Cell<bool>,
    /// The action that is refused, and the code.
    pub(super) refuses: Cell<Option<(&'static str, &'static str)>>,
    /// The subnets that something of others is in.
    pub(super) obstacles: RefCell<BTreeSet<String>>,
    pub(super) story: RefCell<Vec<String>>,
    pub(super) claim_lost: Cell<bool>,
    /// The time, where it matters: then each call takes some of it.
    clock: Option<Clock>,
}

/// The ids of what was made that an action mentions.
pub(super) fn mentioned(action: &Action) -> Vec<String> {
    let text = format!("{action:?}");
    text.split('"').skip(1).step_by(2).filter(|word| word.starts_with("id-")).map(str::to_owned).collect()
}

/// What is in a VPC under this id, or is its own.
fn holds(vpc: &str, inside: &Inside, id: &str) -> bool {
    vpc == id
        || inside.subnets.iter().any(|known| known.id == id)
        || inside.tables.iter().any(|known| known.id == id || known.associations.iter().any(|of| of.id == id))
        || inside.nat_gateways.iter().any(|known| known.id == id)
        || inside.endpoints.iter().any(|known| known.id == id)
        || inside.groups.iter().any(|known| known.id == id)
}

impl Truth {
    fn knows(&self, id: &str) -> bool {
        self.gateways.iter().any(|known| known.id == id)
            || self.addresses.iter().any(|known| known.id == id)
            || self.insides.iter().any(|(vpc, inside)| holds(vpc, inside, id))
    }
}

impl World {
    /// With one VPC that is not Shipway's: the default one, which can be given as well.
    pub(super) fn new(network: serde_json::Value) -> World {
        let world = World::default();
        let subnet = |zone: char, cidr: &str| Subnet {
            id: format!("subnet-0{zone}"),
            role: None,
            zone: format!("eu-west-1{zone}"),
            cidr: cidr.to_owned(),
            public_addresses: true,
        };
        let subnets = vec![subnet('a', "172.31.0.0/20"), subnet('b', "172.31.16.0/20")];
        let inside = Inside { dns_support: true, dns_hostnames: true, subnets, ..Inside::default() };
        world.truth.borrow_mut().vpcs.push(Vpc {
            id: "vpc-0123".to_owned(),
            cidr: "172.31.0.0/16".to_owned(),
            ours: false,
            default: true,
        });
        world.truth.borrow_mut().insides.insert("vpc-0123".to_owned(), inside);
        world.wants(network, 3000);
        world
    }

    /// Shown some looks late, and what was just made not known everywhere where it is slow.
    pub(super) fn late(lag: usize, slow: bool, network: serde_json::Value) -> World {
        World { lag, slow, ..World::new(network) }
    }

    /// In which calls take time.
    pub(super) fn timed(clock: Clock) -> World {
        World { clock: Some(clock), ..World::new(serde_json::json!({})) }
    }

    pub(super) fn wants(&self, network: serde_json::Value, port: u16) {
        self.wants_all(serde_json::json!({"version": 1, "app": "hello", "network": network, "services": {
            "api": {"image": {"repository": "hello-api"}, "port": port, "http": {}},
        }}));
    }

    pub(super) fn wants_all(&self, spec: serde_json::Value) {
        self.plans(serde_json::from_value(spec).unwrap());
    }

    pub(super) fn plans(&self, spec: Spec) {
        self.environment.borrow_mut().planned = Some(Manifest { artifact: run(1).artifact, spec });
    }

    /// What is planned stands.
    pub(super) fn applies(&self) {
        let planned = self.environment.borrow().planned.clone();
        self.environment.borrow_mut().applied = planned;
    }

    /// A call, which takes so long where time matters.
    async fn call<T>(&self, takes: Duration, work: impl FnOnce() -> T) -> Result<T, AwsError> {
        match &self.clock {
            Some(clock) => clock.sleep(takes).await,
            None => tokio::task::yield_now().await,
        }
        self.line.call(work)
    }

    async fn ec2_call<T>(&self, work: impl FnOnce() -> T) -> Result<T, Ec2Error> {
        self.call(CALL, work).await.map_err(Ec2Error::Refused)
    }

    async fn write<T>(&self, work: impl FnOnce() -> T) -> Result<T, StoreError> {
        self.written.set(self.written.get() + 1);
        let done = self.call(Duration::ZERO, || if self.claim_lost.get() { None } else { Some(work()) }).await?;
        done.ok_or_else(|| {
            let Run { app, environment, component, .. } = run(1);
            StoreError::Superseded { app, environment, component }
        })
    }

    /// A pass, whose answer nobody hears where the function is gone.
    async fn heard<T>(&self, pass: impl Future<Output = Result<T, ProvisionError>>) -> Result<T, ProvisionError> {
        let answer = pass.await;
        self.line.end_pass(Ok(())).map_err(|lost: AwsError| Ec2Error::from(lost))?;
        answer
    }

    pub(super) async fn apply(&self, run: &Run) -> Result<Pass<Summary>, ProvisionError> {
        self.heard(apply(self, self, run, jiff::Timestamp::UNIX_EPOCH)).await
    }

    pub(super) async fn remove(&self, run: &Run) -> Result<Pass<Summary>, ProvisionError> {
        self.heard(remove(self, self, run, jiff::Timestamp::UNIX_EPOCH)).await
    }

    /// Passes until one is done; how many it took.
    async fn repeat(&self, pass: impl AsyncFn() -> Result<Pass<Summary>, ProvisionError>) -> usize {
        for count in 1..120 {
            match pass().await {
                Ok(Pass::Done(_)) => return count,
                Ok(Pass::Again { .. }) => {}
                Err(error) => {
                    assert_eq!(shipway_aws::PublicError::failure(&error), Failure::Transient, "{error}");
                }
            }
        }
        panic!("it does not converge");
    }

    pub(super) async fn converge(&self, run: &Run) -> usize {
        self.repeat(async || self.apply(run).await).await
    }

    pub(super) async fn vanish(&self, run: &Run) -> usize {
        self.repeat(async || self.remove(run).await).await
    }

    /// The network is whole by the domain's own judgement, what EC2 takes time for is there once, and nothing is too much.
    pub(super) fn assert_stands(&self, context: &str) {
        let environment = self.environment.borrow();
        let (spec, outputs) = (&environment.planned.as_ref().unwrap().spec, environment.network.clone().unwrap());
        let Run { app, environment, .. } = run(1);
        let desired = Desired::of(&app, &environment, spec, None);
        let truth = self.truth.borrow();
        let remembered = Remembered { vpc: Some(outputs.vpc.clone()), progress: Progress::default() };
        let mut observed = self.shown(&desired, &truth, remembered);
        observed.inside.nat_gateways.retain(|known| known.stage != Stage::Deleting);
        assert_eq!(next_actions(&desired, &observed), Ok(Step::Done(outputs.clone())), "{context}");
        assert_eq!(strays(&desired, &observed), [""; 0], "{context}");
        assert_eq!(truth.vpcs.iter().filter(|vpc| vpc.ours).count(), 1, "{context}: VPCs");
        assert_eq!(truth.gateways.len(), 1, "{context}: gateways");
        let inside = &observed.inside;
        let Place::Own(own) = &desired.place else { panic!("{context}") };
        let gateways = inside.nat_gateways.len();
        assert_eq!(truth.addresses.len(), gateways, "{context}: {:?} for {:?}", truth.addresses, inside.nat_gateways);
        assert!(inside.nat_gateways.iter().all(|known| known.stage == Stage::Available), "{context}");
        let endpoints = inside.endpoints.iter().filter(|known| known.stage == Stage::Available);
        assert_eq!(endpoints.count(), own.endpoints.len(), "{context}: endpoints");
    }

    pub(super) fn assert_nothing_left(&self, context: &str) {
        let truth = self.truth.borrow();
        assert!(!truth.vpcs.iter().any(|vpc| vpc.ours), "{context}: a VPC");
        assert_eq!((truth.gateways.len(), truth.addresses.len()), (0, 0), "{context}: gateways, addresses");
        for (vpc, inside) in &truth.insides {
            assert_eq!((vpc.as_str(), inside.groups.len()), ("vpc-0123", 0), "{context}");
        }
        assert_eq!(self.environment.borrow().network, None, "{context}: the record");
        let progress = self.progress.borrow().clone().unwrap_or_default();
        assert!(progress.made.is_empty() && progress.inherited.is_empty() && progress.asked.is_empty(), "{context}");
    }

    fn now(&self) -> u64 {
        match &self.clock {
            Some(clock) => u64::try_from(clock.now().as_millis()).unwrap(),
            None => self.history.borrow().len() as u64,
        }
    }

    fn begins(&self, id: &str) {
        let takes = if self.clock.is_some() { u64::try_from(WORK.as_millis()).unwrap() } else { LOOKS_AT_WORK };
        self.due.borrow_mut().insert(id.to_owned(), self.now() + takes);
    }

    /// EC2 finishes what it is at.
    fn finish(&self) {
        let now = self.now();
        let ready: Vec<String> =
            self.due.borrow().iter().filter(|(_, due)| **due <= now).map(|(id, _)| id.clone()).collect();
        let mut truth = self.truth.borrow_mut();
        let Truth { addresses, insides, .. } = &mut *truth;
        for id in ready {
            self.due.borrow_mut().remove(&id);
            for inside in insides.values_mut() {
                for gone in inside.nat_gateways.extract_if(.., |known| known.id == id && known.stage == Stage::Deleting)
                {
                    for address in addresses.iter_mut().filter(|known| gone.address.as_ref() == Some(&known.id)) {
                        address.taken = false;
                    }
                }
                inside.endpoints.retain(|known| known.id != id || known.stage != Stage::Deleting);
                let nat_gateways = inside.nat_gateways.iter_mut().filter(|known| known.id == id);
                let endpoints = inside.endpoints.iter_mut().filter(|known| known.id == id);
                for stage in nat_gateways.map(|known| &mut known.stage).chain(endpoints.map(|known| &mut known.stage)) {
                    if *stage == Stage::Pending {
                        *stage = Stage::Available;
                    }
                }
            }
        }
    }

    /// What EC2 shows, and the function sees of it.
    fn shown(&self, desired: &Desired, truth: &Truth, remembered: Remembered) -> Observed {
        let own = desired.is_own();
        let wanted = |vpc: &Vpc| match &desired.place {
            Place::Own(_) => vpc.ours,
            Place::Default => vpc.default,
            Place::Given { vpc: id, .. } => vpc.id == *id,
        };
        let vpcs = truth.vpcs.iter().filter(|vpc| wanted(vpc) || Some(&vpc.id) == remembered.vpc.as_ref()).cloned();
        let zones =
            ["eu-west-1b", "eu-west-1a", "eu-west-1c"].map(|name| Zone { name: name.to_owned(), id: name.to_owned() });
        let mut observed = Observed {
            zones: zones.into(),
            vpcs: vpcs.collect(),
            gateways: truth.gateways.iter().filter(|_| own).cloned().collect(),
            addresses: truth.addresses.iter().filter(|_| own).cloned().collect(),
            cloudfront: Some("pl-cloudfront".to_owned()),
            inside: Inside::default(),
            remembered,
        };
        let standing = standing_vpc(desired, &observed).ok().flatten().map(|vpc| vpc.id.clone());
        observed.inside = standing.and_then(|vpc| truth.insides.get(&vpc).cloned()).unwrap_or_default();
        observed.inside.groups.iter_mut().for_each(|group| group.fresh = false);
        for (number, subnet) in self.obstacles.borrow().iter().enumerate() {
            observed.inside.interfaces.push(Interface { id: format!("eni-{number}"), subnet: subnet.clone() });
        }
        observed
    }

    fn looked(&self) -> Truth {
        self.history.borrow_mut().push(self.truth.borrow().clone());
        self.finish();
        self.unknown.borrow_mut().clear();
        if self.clock.is_some() {
            return self.truth.borrow().clone();
        }
        if let Some(before) = self.line.shown_before() {
            return before;
        }
        let history = self.history.borrow();
        history[history.len().saturating_sub(1 + self.lag)].clone()
    }

    /// The VPC that an action is about.
    fn vpc_of(&self, action: &Action) -> Option<String> {
        let text = format!("{action:?}");
        let truth = self.truth.borrow();
        let named = |id: &String| text.contains(&format!("\"{id}\""));
        let ids = mentioned(action);
        let about = |vpc: &String, inside: &Inside| named(vpc) || ids.iter().any(|id| holds(vpc, inside, id));
        truth.insides.iter().find(|(vpc, inside)| about(vpc, inside)).map(|(vpc, _)| vpc.clone())
    }

    /// What EC2 refuses because it is so already, or not yet.
    fn refuse(&self, action: &Action, inside: &Inside) -> Option<&'static str> {
        let truth = self.truth.borrow();
        let associated = |subnet: &String| {
            inside.tables.iter().flat_map(|table| &table.associations).any(|known| known.subnet == *subnet)
        };
        let rules = |group: &String, direction: &Direction| {
            let group = inside.groups.iter().find(|known| known.id == *group).unwrap();
            if *direction == Direction::Incoming { &group.incoming } else { &group.outgoing }
        };
        let attached = |id: &String| truth.gateways.iter().any(|known| known.id == *id && known.vpc.is_some());
        let routed = |id: &String| inside.tables.iter().any(|known| known.id == *id && known.default_route.is_some());
        let overlaps =
            |cidr: &Cidr| inside.subnets.iter().any(|known| known.cidr.parse::<Cidr>().unwrap().overlaps(*cidr));
        let taken = |id: &String| truth.addresses.iter().any(|known| known.id == *id && known.taken);
        let used = |id: &String| {
            self.obstacles.borrow().contains(id)
                || inside.nat_gateways.iter().any(|known| known.subnet == *id)
                || inside.endpoints.iter().any(|known| known.subnets.contains(id) || known.groups.contains(id))
        };
        let named = |id: &String| {
            let others = inside.groups.iter().filter(|known| known.id != *id);
            let mut rules = others.flat_map(|known| known.incoming.iter().chain(&known.outgoing));
            rules.any(|rule| matches!(&rule.peer, Peer::Group { id: peer, .. } if peer == id))
        };
        match action {
            Action::AttachInternetGateway { gateway, .. } if attached(gateway) => Some("Resource.AlreadyAssociated"),
            Action::CreateSubnet { cidr, .. } if overlaps(cidr) => Some("InvalidSubnet.Conflict"),
            Action::CreateGroup { name, .. } if inside.groups.iter().any(|known| known.name == *name) => {
                Some("InvalidGroup.Duplicate")
            }
            Action::CreateEndpoint { service, .. }
                if inside.endpoints.iter().any(|known| known.role == Role::Endpoint(service.clone())) =>
            {
                Some("RouteAlreadyExists")
            }
            Action::CreateDefaultRoute { table, .. } if routed(table) => Some("RouteAlreadyExists"),
            Action::CreateDefaultRoute { target: Target::InternetGateway(gateway), .. }
            | Action::ReplaceDefaultRoute { target: Target::InternetGateway(gateway), .. }
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
            Action::DeleteSubnet { subnet: id } if used(id) => Some("DependencyViolation"),
            Action::DeleteGroup { group: id } if used(id) || named(id) => Some("DependencyViolation"),
            Action::DeleteRouteTable { table }
                if inside.tables.iter().any(|known| known.id == *table && !known.associations.is_empty()) =>
            {
                Some("DependencyViolation")
            }
            Action::DetachInternetGateway { .. } if !inside.nat_gateways.is_empty() => Some("DependencyViolation"),
            Action::DeleteInternetGateway { gateway } if attached(gateway) => Some("DependencyViolation"),
            Action::ReleaseAddress { address } if taken(address) => Some("InvalidIPAddress.InUse"),
            Action::DeleteVpc { vpc }
                if !(inside.subnets.is_empty()
                    && inside.tables.is_empty()
                    && inside.groups.is_empty()
                    && inside.endpoints.is_empty())
                    || truth.gateways.iter().any(|known| known.vpc.as_ref() == Some(vpc)) =>
            {
                Some("DependencyViolation")
            }
            _ => None,
        }
    }

    fn act(&self, run: &Run, action: &Action) -> Result<String, Ec2Error> {
        let token = matches!(
            action,
            Action::CreateRouteTable { .. } | Action::CreateNatGateway { .. } | Action::CreateEndpoint { .. }
        )
        .then(|| format!("{} {action:?}", run.release));
        if let Some(id) = token.as_ref().and_then(|token| self.tokens.borrow().get(token).cloned()) {
            return Ok(id);
        }
        let missing =
            mentioned(action).iter().any(|id| !self.truth.borrow().knows(id) || self.unknown.borrow().contains(id));
        match missing {
            true if action.takes_away() && self.denies_what_is_gone.get() => {
                return Err(Ec2Error::Behind(refused("UnauthorizedOperation", 403)));
            }
            true if action.takes_away() => return Ok(String::new()),
            true => return Err(Ec2Error::Behind(refused("InvalidID.NotFound", 400))),
            false => {}
        }
        let vpc = self.vpc_of(action);
        let inside = vpc.as_ref().and_then(|vpc| self.truth.borrow().insides.get(vpc).cloned()).unwrap_or_default();
        match self.refuse(action, &inside) {
            Some(code @ ("DependencyViolation" | "InvalidIPAddress.InUse")) => {
                return Err(Ec2Error::InTheWay(refused(code, 400)));
            }
            Some(code) => return Err(Ec2Error::Behind(refused(code, 400))),
            None => {}
        }
        let id = format!("id-{}", self.ids.replace(self.ids.get() + 1));
        self.tokens.borrow_mut().extend(token.map(|token| (token, id.clone())));
        if self.slow && action.makes().is_some() {
            self.unknown.borrow_mut().push(id.clone());
        }
        match action {
            Action::CreateNatGateway { .. } | Action::CreateEndpoint { .. } => self.begins(&id),
            Action::DeleteNatGateway { gateway: gone } | Action::DeleteEndpoint { endpoint: gone } => self.begins(gone),
            _ => {}
        }
        let mut truth = self.truth.borrow_mut();
        self.line.remember(&*truth);
        let doubled = matches!(action, Action::CreateNatGateway { address, .. }
            if truth.addresses.iter().any(|known| known.id == *address && known.taken));
        let (vpcs, gateways, addresses) = (truth.vpcs.clone(), truth.gateways.clone(), truth.addresses.clone());
        let before = Observed { vpcs, gateways, addresses, inside, ..Observed::default() };
        let mut after = before.with(action, &id);
        // Two cannot have one address.
        if doubled && let Some(second) = after.inside.nat_gateways.last_mut() {
            second.stage = Stage::Failed("the address is taken".to_owned());
        }
        (truth.vpcs, truth.gateways, truth.addresses) = (after.vpcs, after.gateways, after.addresses);
        let changed = if let Action::CreateVpc { .. } = action { Some(id.clone()) } else { vpc };
        match (action, changed) {
            (Action::DeleteVpc { vpc }, _) => drop(truth.insides.remove(vpc)),
            (_, Some(vpc)) => drop(truth.insides.insert(vpc, after.inside)),
            _ => {}
        }
        self.performed.borrow_mut().push(action.clone());
        Ok(id)
    }
}

impl Ec2 for World {
    async fn look(&self, desired: &Desired, remembered: Remembered) -> Result<Observed, Ec2Error> {
        let seen = self.ec2_call(|| self.looked()).await?;
        Ok(self.shown(desired, &seen, remembered))
    }

    async fn look_at_remains(&self, _: &Owner, remembered: Remembered) -> Result<Observed, Ec2Error> {
        let seen = self.ec2_call(|| self.looked()).await?;
        let mut inside = Inside::default();
        for mut part in seen.insides.into_values() {
            inside.subnets.extend(part.subnets.extract_if(.., |known| known.role.is_some()));
            inside.tables.extend(part.tables.extract_if(.., |known| known.role.is_some()));
            inside.groups.extend(part.groups.extract_if(.., |known| known.role.is_some()));
            inside.nat_gateways.append(&mut part.nat_gateways);
            inside.endpoints.append(&mut part.endpoints);
        }
        let vpcs = seen.vpcs.into_iter().filter(|vpc| vpc.ours).collect();
        let (gateways, addresses) = (seen.gateways, seen.addresses);
        Ok(Observed { vpcs, gateways, addresses, inside, remembered, ..Observed::default() })
    }

    async fn perform(&self, run: &Run, action: &Action) -> Result<String, Ec2Error> {
        if let Some((_, code)) = self.refuses.get().filter(|(name, _)| format!("{action:?}").starts_with(name)) {
            let error = refused(code, 400);
            let is_behind = code.ends_with(".NotFound") || (action.takes_away() && code == "UnauthorizedOperation");
            return Err(if is_behind { Ec2Error::Behind(error) } else { Ec2Error::Refused(error) });
        }
        let result = self.ec2_call(|| self.act(run, action)).await.and_then(|acted| acted);
        if let (Some(clock), Ok(id)) = (&self.clock, &result) {
            clock.note(action, id);
        }
        result
    }

    async fn in_the_way(&self, _: &Owner, action: &Action) -> Result<Vec<String>, Ec2Error> {
        let obstacles = self.obstacles.borrow();
        let there = obstacles.iter().enumerate().filter(|(_, id)| action.deletes() == Some(id.as_str()));
        Ok(there.map(|(number, id)| format!("eni-{number} in {id}")).collect())
    }
}

impl Records for World {
    async fn renew(&self, _: &Run, _: jiff::Timestamp) -> Result<(), StoreError> {
        self.write(|| ()).await
    }

    async fn environment(&self, _: &AppName, _: &EnvironmentName) -> Result<Option<EnvironmentRecord>, StoreError> {
        Ok(Some(self.environment.borrow().clone()))
    }

    async fn planned(&self, _: &Run) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        let environment = self.environment.borrow().clone();
        let manifest = environment.planned.clone().unwrap();
        Ok((environment, manifest))
    }

    async fn progress(&self, _: &AppName, _: &EnvironmentName) -> Result<Option<Progress>, StoreError> {
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

    async fn forget_network(&self, _: &Run, _: jiff::Timestamp) -> Result<(), StoreError> {
        self.write(|| self.environment.borrow_mut().network = None).await
    }
}
