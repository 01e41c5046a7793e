//! Passes against a CloudFormation and a table that are only memory, cut off at each call.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use futures_util::FutureExt as _;
use jiff::Timestamp;
use serde_json::json;
use shipway_aws::{
    AwsError, PublicError as _, runtime,
    store::{EnvironmentRecord, Manifest, StoreError},
    testing::{self, Cuts, Line, SYSTEMS, cut_everywhere, last_environment, refused},
};
use shipway_domain::{
    failure::Failure,
    manifest::{self, Spec},
    message::{Kept, Pass, Removed, Run, Summary},
    name::{AppName, Component, EnvironmentName},
    network::NetworkOutputs,
    platform::{
        Apply, ChangeSet, Deletion, Observed, ObservedCapacity, ObservedProvider, ObservedStack, Operation, Place,
        PlatformOutputs, ResourceChange, ResourceDrift, ResourceFailure, ResourceState, Share, StackName, StackStatus,
        WantedCapacity, Weights,
    },
    release::{Artifact, Step},
};

use crate::{
    aws::{Answer, Capacity, Detection, Proposal, Repairs, Rules, Stacks},
    handler::{Answered, Compared, ProvisionError, Records, Request, answer},
};

/// How much of the platform a pass is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Independent,
    All,
}

const MANIFEST: &str = r"
version: 1
app: hello
services:
  api: {image: {repository: hello-api}, port: 3000, http: {path: /api/*, health: /health}}
  worker: {image: {repository: hello-api}}
sites: {web: {}}
environments: {prod: {}}
";

const NAMES: [&str; 6] = [
    "shipway-hello-prod-cluster",
    "shipway-hello-prod-load-balancer",
    "shipway-hello-prod-service-api",
    "shipway-hello-prod-service-worker",
    "shipway-hello-prod-site-web",
    "shipway-hello-repository-hello-api",
];

#[derive(Clone, Debug, PartialEq)]
struct Stack {
    shown: ObservedStack,
    token: String,
    failure: Option<ResourceFailure>,
    /// Looks until the operation ends, and how it ends; nothing is left of a stack that was deleted.
    moving: Option<(u8, Option<StackStatus>)>,
}

/// The account: what outlives a pass.
#[derive(Default)]
struct World {
    line: Line,
    stacks: RefCell<BTreeMap<String, Stack>>,
    /// What was accepted that changes something.
    writes: RefCell<Vec<String>>,
    /// Stacks whose next operation fails, and why.
    failing: RefCell<BTreeMap<String, String>>,
    /// Stacks whose creation is refused outright.
    refused: RefCell<BTreeSet<String>>,
    environment: RefCell<EnvironmentRecord>,
    story: RefCell<Vec<String>>,
    platform_writes: Cell<usize>,
    superseded: Cell<bool>,
    kept: RefCell<Vec<Kept>>,
    /// The other environments of the app.
    others: RefCell<BTreeMap<EnvironmentName, EnvironmentRecord>>,
    capacity: RefCell<ObservedCapacity>,
    /// Resources that somebody changed, by stack.
    drifts: RefCell<BTreeMap<String, Vec<ResourceDrift>>>,
    /// The comparisons that were begun, with the looks that each takes yet.
    detections: RefCell<BTreeMap<String, u8>>,
    listings: Cell<usize>,
    /// What the runs ask for beside what they always do.
    repair: Cell<bool>,
    /// The change sets, by stack: the name and what is shown of each.
    change_sets: RefCell<BTreeMap<String, (String, ChangeSet)>>,
    /// What ECS made of the rules that it moves requests by.
    rules: RefCell<BTreeMap<String, Weights>>,
    /// The parameters that change sets were given, by stack.
    proposed: RefCell<BTreeMap<String, BTreeMap<String, String>>>,
    /// Stacks for which CloudFormation proposes nothing.
    unproposable: RefCell<BTreeSet<String>>,
}

impl World {
    fn new(manifest: &str) -> World {
        let world = World::default();
        world.plan(manifest);
        world
    }

    fn plan(&self, manifest: &str) {
        self.plans(manifest::read(manifest, &"hello".parse().unwrap(), &"prod".parse().unwrap()).unwrap());
    }

    fn plans(&self, spec: Spec) {
        let mut environment = self.environment.borrow_mut();
        environment.planned = Some(Manifest { artifact: artifact(), spec });
        environment.network = Some(NetworkOutputs {
            vpc: "vpc-1".to_owned(),
            cidr: "10.0.0.0/16".to_owned(),
            public_subnets: vec!["subnet-1".to_owned(), "subnet-2".to_owned()],
            load_balancer_group: "sg-1".to_owned(),
            service_group: "sg-2".to_owned(),
            ..Default::default()
        });
    }

    /// An update of a stack begins; whether it will hold.
    fn updates(&self, name: &str, stack: &mut Stack) -> bool {
        stack.failure = self.failing.borrow_mut().remove(name).map(|reason| ResourceFailure {
            resource: "Rule".to_owned(),
            resource_type: "AWS::Some::Thing".to_owned(),
            reason,
        });
        stack.shown.status = StackStatus::UpdateInProgress;
        let holds = stack.failure.is_none();
        let end = if holds { StackStatus::UpdateComplete } else { StackStatus::UpdateRollbackComplete };
        stack.moving = Some((1, Some(end)));
        holds
    }

    /// Time passes: what moves gets nearer to its end.
    fn tick(&self) {
        let mut capacity = self.capacity.borrow_mut();
        capacity.attaching = false;
        if let Some(own) = &mut capacity.own {
            own.moving = false;
        }
        self.detections.borrow_mut().values_mut().for_each(|left| *left = left.saturating_sub(1));
        for (stack, (_, set)) in self.change_sets.borrow_mut().iter_mut() {
            let settled = self.stacks.borrow()[stack].moving.is_none();
            match (set.status.as_str(), set.execution.as_str()) {
                ("CREATE_IN_PROGRESS", _) => self.compare_for(stack, set),
                (_, "EXECUTE_IN_PROGRESS") if settled => {
                    let failed = self.stacks.borrow()[stack].failure.is_some();
                    set.execution = if failed { "EXECUTE_FAILED" } else { "EXECUTE_COMPLETE" }.to_owned();
                }
                _ => {}
            }
        }
        self.stacks.borrow_mut().retain(|_, stack| match stack.moving.take() {
            None => true,
            Some((0, Some(status))) => {
                stack.shown.status = status;
                true
            }
            Some((0, None)) => false,
            Some((left, end)) => {
                stack.moving = Some((left - 1, end));
                true
            }
        });
    }

    fn status(&self, name: &str) -> StackStatus {
        self.stacks.borrow()[name].shown.status.clone()
    }

    fn names(&self) -> Vec<String> {
        self.stacks.borrow().keys().cloned().collect()
    }

    /// One pass.
    fn ask(&self, request: Request) -> Result<Answered, ProvisionError> {
        let answer = answer(&place(), self, self, request, Timestamp::UNIX_EPOCH).now_or_never();
        self.line.end_pass(answer.expect("nothing here waits"))
    }

    /// One pass over stacks.
    fn pass(&self, action: Action, release: u8) -> Result<Pass<Summary>, ProvisionError> {
        let run = Run { repair: self.repair.get(), ..run(release) };
        let request = match action {
            Action::Independent => Request::Independent { run },
            Action::All => Request::All { run },
        };
        self.ask(request).map(|answered| match answered {
            Answered::Stood(pass) => pass,
            other => panic!("{other:?}"),
        })
    }

    /// One pass of a removal.
    fn removal_pass(&self, release: u8) -> Result<Pass<Removed>, ProvisionError> {
        self.ask(Request::Remove { run: run(release) }).map(|answered| match answered {
            Answered::Removed(pass) => pass,
            other => panic!("{other:?}"),
        })
    }

    /// Removes until nothing is left or a pass fails.
    fn remove(&self, release: u8) -> Result<Removed, ProvisionError> {
        self.to_the_end(|world| world.removal_pass(release))
    }

    /// Passes until all is compared.
    fn compare(&self) -> Vec<String> {
        let mut detections = BTreeMap::new();
        for _ in 0..60 {
            let (app, environment) = ("hello".parse().unwrap(), "prod".parse().unwrap());
            match self.ask(Request::Drift { app, environment, detections }).unwrap() {
                Answered::Compared(Compared::Done(found)) => {
                    return found.differences.iter().map(|each| format!("{}: {}", each.of, each.what)).collect();
                }
                Answered::Compared(Compared::Again { detections: begun, .. }) => detections = begun,
                other => panic!("{other:?}"),
            }
            self.tick();
        }
        panic!("it never ends");
    }

    /// A change set is ready: it names what differs, and a resource that does not.
    fn compare_for(&self, stack: &str, set: &mut ChangeSet) {
        let drifts = self.drifts.borrow();
        let Some(drifts) = drifts.get(stack) else {
            set.status = "FAILED".to_owned();
            set.reason = "The submitted information didn't contain changes.".to_owned();
            return;
        };
        (set.status, set.execution) = ("CREATE_COMPLETE".to_owned(), "AVAILABLE".to_owned());
        let change = |drift: &ResourceDrift| ResourceChange {
            resource: drift.resource.clone(),
            resource_type: drift.resource_type.clone(),
            state: if drift.deleted { ResourceState::Deleted } else { ResourceState::Modified },
            replaces: drift.properties.iter().any(|property| property == "/Immutable"),
            properties: drift.properties.clone(),
        };
        set.changes = drifts.iter().map(change).collect();
    }

    /// Somebody changes this property of a resource.
    fn drift(&self, stack: &str, property: &str) {
        let drift = ResourceDrift {
            resource: "Rule".to_owned(),
            resource_type: "AWS::ElasticLoadBalancingV2::ListenerRule".to_owned(),
            deleted: false,
            properties: vec![property.to_owned()],
        };
        self.drifts.borrow_mut().insert(stack.to_owned(), vec![drift]);
    }

    /// The release ended well: what was planned is applied.
    fn end(&self) {
        let mut environment = self.environment.borrow_mut();
        environment.applied = environment.planned.clone();
    }

    /// Passes until one is done or fails.
    fn converge(&self, action: Action, release: u8) -> Result<Summary, ProvisionError> {
        self.to_the_end(|world| world.pass(action, release))
    }

    /// Passes until one is the last or fails.
    fn to_the_end<T>(&self, pass: impl Fn(&World) -> Result<Pass<T>, ProvisionError>) -> Result<T, ProvisionError> {
        for _ in 0..60 {
            if let Pass::Done(done) = pass(self)? {
                return Ok(done);
            }
            self.tick();
        }
        panic!("it never ends");
    }

    /// The machine: passes until one is the last, again after what a retry can help.
    fn retried<T>(&self, pass: impl Fn(&World) -> Result<Pass<T>, ProvisionError>) -> T {
        for _ in 0..60 {
            match pass(self) {
                Ok(Pass::Done(done)) => return done,
                Ok(Pass::Again { .. }) => {}
                Err(error) => assert_eq!(error.failure(), Failure::Transient, "{error}"),
            }
            self.tick();
        }
        panic!("it never ends");
    }

    fn start(&self, name: &str, apply: &Apply, before: Option<Stack>) {
        self.line.remember(&*self.stacks.borrow());
        let update = before.is_some();
        self.writes.borrow_mut().push(format!("{} {name}", if update { "update" } else { "create" }));
        let failure = self.failing.borrow_mut().remove(name).map(|reason| ResourceFailure {
            resource: "Thing".to_owned(),
            resource_type: "AWS::Some::Thing".to_owned(),
            reason,
        });
        let end = match (update, failure.is_some()) {
            (false, false) => StackStatus::CreateComplete,
            (false, true) => StackStatus::RollbackComplete,
            (true, false) => StackStatus::UpdateComplete,
            (true, true) => StackStatus::UpdateRollbackComplete,
        };
        let given = || {
            let tags = apply.tags.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
            (apply.parameters.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(), tags)
        };
        let (parameters, tags) = match &before {
            Some(before) if failure.is_some() => (before.shown.parameters.clone(), before.shown.tags.clone()),
            _ => given(),
        };
        let protected = match &before {
            Some(before) => before.shown.protected,
            None => apply.protected.unwrap_or_default(),
        };
        let region = apply.region.unwrap_or("eu-west-1");
        let number = self.writes.borrow().len();
        let shown = ObservedStack {
            id: before.map_or_else(
                || format!("arn:aws:cloudformation:{region}:1:stack/{name}/{number}"),
                |stack| stack.shown.id,
            ),
            status: if update { StackStatus::UpdateInProgress } else { StackStatus::CreateInProgress },
            parameters,
            tags,
            outputs: outputs(&apply.template).map(|key| (key.to_owned(), output(name, key))).collect(),
            role: apply.role.clone(),
            protected,
            operation: None,
        };
        let stack = Stack { shown, token: apply.token.clone(), failure, moving: Some((1, Some(end))) };
        self.stacks.borrow_mut().insert(name.to_owned(), stack);
    }
}

/// The outputs of a template.
fn outputs(template: &str) -> impl Iterator<Item = &str> {
    let lines = template.lines().skip_while(|line| *line != "Outputs:").skip(1);
    lines.filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':')).filter(|name| !name.starts_with(' '))
}

/// What an output says.
fn output(stack: &str, key: &str) -> String {
    if key == "Port" { "5432".to_owned() } else { format!("{stack}:{key}") }
}

impl Stacks for World {
    async fn describe(
        &self,
        name: &StackName,
        region: Option<&'static str>,
    ) -> Result<Option<ObservedStack>, AwsError> {
        let here = format!(":{}:", region.unwrap_or("eu-west-1"));
        self.line.look(&self.stacks, |stacks| {
            let shown = stacks.get(name.as_str()).map(|stack| stack.shown.clone());
            shown.filter(|stack| stack.id.contains(&here))
        })
    }

    async fn list(&self, app: &AppName) -> Result<Observed, AwsError> {
        self.listings.set(self.listings.get() + 1);
        let prefix = format!("shipway-{app}-");
        self.line.look(&self.stacks, |stacks| {
            let ours = stacks.iter().filter(|(name, _)| name.starts_with(&prefix));
            ours.map(|(name, stack)| (StackName::of_existing(name), stack.shown.clone())).collect()
        })
    }

    async fn last_operation(&self, id: &str) -> Result<Operation, AwsError> {
        self.line.look(&self.stacks, |stacks| {
            let stack = stacks.values().find(|stack| stack.shown.id == id).unwrap();
            Operation { token: Some(stack.token.clone()), failure: stack.failure.clone() }
        })
    }

    async fn create(&self, name: &StackName, apply: &Apply) -> Result<Answer, AwsError> {
        self.line.call(|| {
            if self.refused.borrow().contains(name.as_str()) {
                return Err(AwsError::broken_off("cloudformation:CreateStack", &std::fmt::Error));
            }
            let existing = self.stacks.borrow().get(name.as_str()).map(|stack| stack.token.clone());
            match existing {
                Some(token) if token == apply.token => Ok(Answer::Accepted),
                Some(_) => Ok(Answer::Moved),
                None => {
                    self.start(name.as_str(), apply, None);
                    Ok(Answer::Accepted)
                }
            }
        })?
    }

    async fn update(&self, name: &StackName, apply: &Apply) -> Result<Answer, AwsError> {
        self.line.call(|| {
            let before = self.stacks.borrow().get(name.as_str()).cloned();
            let Some(before) = before else { return Ok(Answer::Moved) };
            if before.token == apply.token {
                return Ok(Answer::Accepted);
            }
            if before.moving.is_some() {
                return Ok(Answer::Moved);
            }
            let shown = &before.shown;
            if apply.parameters.iter().all(|(key, value)| shown.parameters.get(key.as_ref()) == Some(value))
                && apply.tags.iter().all(|(key, value)| shown.tags.get(*key) == Some(value))
            {
                return Ok(Answer::Unchanged);
            }
            let given = apply.parameters.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
            let changed = ObservedStack { parameters: given, ..before.shown.clone() };
            for stack in [&before.shown, &changed] {
                let moved = stack.moved(&self.rules.borrow());
                assert!(moved.is_empty(), "the change, or the way back, undoes what ECS did: {moved:?}");
            }
            self.start(name.as_str(), apply, Some(before));
            Ok(Answer::Accepted)
        })?
    }

    async fn delete(&self, deletion: &Deletion) -> Result<Answer, AwsError> {
        self.line.call(|| {
            self.line.remember(&*self.stacks.borrow());
            let mut stacks = self.stacks.borrow_mut();
            let Some((name, stack)) = stacks.iter_mut().find(|(_, stack)| stack.shown.id == deletion.id) else {
                return Ok(Answer::Accepted);
            };
            if stack.token == deletion.token {
                return Ok(Answer::Accepted);
            }
            assert!(stack.moving.is_none(), "{name} is deleted while it moves");
            assert!(!stack.shown.protected, "{name} is protected");
            assert_eq!(stack.shown.role, deletion.role);
            let provider = self.capacity.borrow().own.is_some();
            assert!(!provider || !(name.ends_with("-cluster") || name.ends_with("-instances")), "{name} is in use");
            self.writes.borrow_mut().push(format!("delete {name}"));
            stack.token = deletion.token.clone();
            stack.shown.status = StackStatus::DeleteInProgress;
            stack.failure = self.failing.borrow_mut().remove(name).map(|reason| ResourceFailure {
                resource: "Thing".to_owned(),
                resource_type: "AWS::Some::Thing".to_owned(),
                reason,
            });
            stack.moving = Some((1, stack.failure.as_ref().map(|_| StackStatus::DeleteFailed)));
            Ok(Answer::Accepted)
        })?
    }

    async fn protect(&self, id: &str, protected: bool) -> Result<(), AwsError> {
        self.line.call(|| {
            self.line.remember(&*self.stacks.borrow());
            let mut stacks = self.stacks.borrow_mut();
            let stack = stacks.values_mut().find(|stack| stack.shown.id == id).unwrap();
            stack.shown.protected = protected;
            Ok(())
        })?
    }

    async fn detect(&self, id: &str) -> Result<Detection, AwsError> {
        self.line.call(|| {
            let detection = format!("detection-of-{id}");
            let before = self.detections.borrow_mut().insert(detection.clone(), 2);
            assert_eq!(before, None, "{id} is compared twice");
            Ok(Detection::Running(Some(detection)))
        })?
    }

    async fn detection(&self, _: &str, detection: &str) -> Result<Detection, AwsError> {
        self.line.call(|| match self.detections.borrow()[detection] {
            0 => Ok(Detection::Ended),
            _ => Ok(Detection::Running(Some(detection.to_owned()))),
        })?
    }

    async fn drifts(&self, id: &str) -> Result<Vec<ResourceDrift>, AwsError> {
        let drifts = || {
            let drifts = self.drifts.borrow();
            drifts.iter().find(|(name, _)| id.contains(name.as_str())).map(|(_, drifts)| drifts.clone())
        };
        self.line.call(|| Ok(drifts().unwrap_or_default()))?
    }
}

impl Rules for World {
    async fn weights(&self, rules: &[String]) -> Result<BTreeMap<String, Weights>, AwsError> {
        let known = || {
            let known = self.rules.borrow();
            let asked = known.iter().filter(|(rule, _)| rules.contains(rule));
            asked.map(|(rule, weights)| (rule.clone(), weights.clone())).collect()
        };
        self.line.call(|| Ok(known()))?
    }

    async fn tell_weights(
        &self,
        stack: &ObservedStack,
        weights: &BTreeMap<String, String>,
        token: &str,
    ) -> Result<Answer, AwsError> {
        let name = stack.id.split('/').nth(1).unwrap();
        self.line.call(|| {
            self.line.remember(&*self.stacks.borrow());
            let mut stacks = self.stacks.borrow_mut();
            let stack = stacks.get_mut(name).unwrap();
            if stack.token == token || stack.moving.is_some() {
                return Ok(Answer::Moved);
            }
            self.writes.borrow_mut().push(format!("weights {name}"));
            stack.token = token.to_owned();
            if self.updates(name, stack) {
                stack.shown.parameters.extend(weights.clone());
            }
            Ok(Answer::Accepted)
        })?
    }
}

impl Repairs for World {
    async fn change_set(&self, id: &str, name: &str) -> Result<Option<ChangeSet>, AwsError> {
        self.line.look(&self.change_sets, |sets| {
            let (_, set) =
                sets.iter().find(|(stack, (named, _))| id.contains(&format!("/{stack}/")) && named == name)?;
            Some(set.1.clone())
        })
    }

    async fn propose(
        &self,
        stack: &ObservedStack,
        weights: &BTreeMap<String, String>,
        name: &str,
    ) -> Result<Proposal, AwsError> {
        let stack = stack.id.split('/').nth(1).unwrap().to_owned();
        self.line.call(|| {
            if self.unproposable.borrow().contains(&stack) {
                return Ok(Proposal::Refused("not for this stack.".to_owned()));
            }
            self.line.remember(&*self.change_sets.borrow());
            self.proposed.borrow_mut().insert(stack.clone(), weights.clone());
            let set = ChangeSet { status: "CREATE_IN_PROGRESS".to_owned(), ..ChangeSet::default() };
            let mut sets = self.change_sets.borrow_mut();
            // CloudFormation makes none of a name that is taken.
            if sets.get(&stack).is_none_or(|(named, _)| named != name) {
                sets.insert(stack, (name.to_owned(), set));
            }
            Ok(Proposal::Asked)
        })?
    }

    async fn execute(&self, id: &str, _: &str) -> Result<Answer, AwsError> {
        let name = id.split('/').nth(1).unwrap();
        self.line.call(|| {
            self.line.remember(&*self.change_sets.borrow());
            self.line.remember(&*self.stacks.borrow());
            let mut sets = self.change_sets.borrow_mut();
            let (_, set) = sets.get_mut(name).unwrap();
            if set.execution != "AVAILABLE" {
                return Ok(Answer::Moved);
            }
            set.execution = "EXECUTE_IN_PROGRESS".to_owned();
            self.writes.borrow_mut().push(format!("repair {name}"));
            let mut stacks = self.stacks.borrow_mut();
            let stack = stacks.get_mut(name).unwrap();
            stack.token = "the change set's".to_owned();
            if self.updates(name, stack) {
                self.drifts.borrow_mut().remove(name);
            }
            Ok(Answer::Accepted)
        })?
    }

    async fn withdraw(&self, id: &str, _: &str) -> Result<(), AwsError> {
        let name = id.split('/').nth(1).unwrap();
        self.line.write(&self.change_sets, |sets| drop(sets.remove(name)))
    }
}

impl Capacity for World {
    async fn capacity(&self, _: &WantedCapacity) -> Result<ObservedCapacity, AwsError> {
        self.line.look(&self.capacity, |capacity| capacity.clone())
    }

    async fn create_provider(&self, wanted: &WantedCapacity, group: &str) -> Result<(), AwsError> {
        self.line.write(&self.capacity, |capacity| {
            if capacity.own.is_some() {
                return Err(refused("ClientException", 400));
            }
            let tags = wanted.tags.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
            let group = group.to_owned();
            capacity.own = Some(ObservedProvider { group, scaled: true, moving: true, tags });
            Ok(())
        })?
    }

    async fn update_provider(&self, _: &WantedCapacity) -> Result<(), AwsError> {
        self.line.write(&self.capacity, |capacity| {
            capacity.own.as_mut().unwrap().scaled = true;
        })
    }

    async fn associate(
        &self,
        _: &WantedCapacity,
        providers: &BTreeSet<String>,
        strategy: &[Share],
    ) -> Result<(), AwsError> {
        self.line.write(&self.capacity, |capacity| {
            (capacity.providers, capacity.strategy) = (providers.clone(), strategy.to_vec());
            capacity.attaching = true;
        })
    }

    async fn delete_provider(&self, wanted: &WantedCapacity) -> Result<(), AwsError> {
        self.line.write(&self.capacity, |capacity| {
            assert!(!capacity.providers.contains(&wanted.name));
            // Its tags are what the role may go by.
            capacity.own.take().map(drop).ok_or_else(|| refused("AccessDeniedException", 400))
        })?
    }
}

impl Records for World {
    async fn renew(&self, run: &Run, _: Timestamp) -> Result<(), StoreError> {
        self.line.call(|| match self.superseded.get() {
            false => Ok(()),
            true => Err(StoreError::Superseded {
                app: run.app.clone(),
                environment: run.environment.clone(),
                component: run.component.clone(),
            }),
        })?
    }

    async fn planned(&self, _: &Run) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        self.line.call(|| {
            let record = self.environment.borrow().clone();
            let manifest = record.planned.clone().unwrap();
            Ok((record, manifest))
        })?
    }

    async fn environment(
        &self,
        _: &AppName,
        environment: &EnvironmentName,
    ) -> Result<Option<EnvironmentRecord>, StoreError> {
        self.line.call(|| Ok(self.others.borrow().get(environment).cloned()))?
    }

    async fn applied(&self, _: &AppName, _: &EnvironmentName) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        self.line.call(|| {
            let record = self.environment.borrow().clone();
            let manifest = record.applied.clone().unwrap();
            Ok((record, manifest))
        })?
    }

    async fn kept(&self, _: &Run) -> Result<Vec<Kept>, StoreError> {
        self.line.call(|| Ok(self.kept.borrow().clone()))?
    }

    async fn set_kept(&self, _: &Run, kept: &[Kept], _: Timestamp) -> Result<(), StoreError> {
        self.line.call(|| {
            *self.kept.borrow_mut() = kept.to_vec();
            Ok(())
        })?
    }

    async fn story(&self, _: &Run) -> Result<Vec<Step>, StoreError> {
        let step =
            |what: &String| Step { at: Timestamp::UNIX_EPOCH, by: "provision-platform".to_owned(), what: what.clone() };
        self.line.call(|| Ok(self.story.borrow().iter().map(step).collect()))?
    }

    async fn tell(&self, _: &Run, step: Step) -> Result<(), StoreError> {
        self.line.call(|| self.story.borrow_mut().push(step.what))?;
        Ok(())
    }

    async fn set_platform(&self, _: &Run, platform: &PlatformOutputs, _: Timestamp) -> Result<(), StoreError> {
        self.line.call(|| {
            self.platform_writes.set(self.platform_writes.get() + 1);
            self.environment.borrow_mut().platform = platform.clone();
            Ok(())
        })?
    }
}

fn artifact() -> Artifact {
    Artifact::Object { key: "apps/hello/prod/shipway.yaml".to_owned(), version: "1".to_owned() }
}

fn run(release: u8) -> Run {
    Run {
        app: "hello".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        component: Component::Platform,
        artifact: artifact(),
        release: format!("20261121T03154212{release}-3f9c2a").parse().unwrap(),
        fence: 1,
        repair: false,
    }
}

fn place() -> Place {
    Place {
        partition: "aws".to_owned(),
        region: "eu-west-1".to_owned(),
        account: "123456789012".to_owned(),
        permissions_boundary: "arn:aws:iam::123456789012:policy/boundary".to_owned(),
    }
}

#[test]
fn an_environment_is_made_once_and_a_second_apply_touches_nothing() {
    let world = World::new(MANIFEST);
    world.converge(Action::All, 1).unwrap();
    assert_eq!(world.names(), NAMES);
    let platform = world.environment.borrow().platform.clone();
    assert_eq!(platform.cluster.as_deref(), Some("shipway-hello-prod-cluster:Cluster"));
    assert_eq!(platform.load_balancer.as_deref(), Some("shipway-hello-prod-load-balancer:DnsName"));
    let api = &platform.services[&"api".parse().unwrap()];
    assert_eq!(api.repository_uri.as_deref(), Some("shipway-hello-repository-hello-api:Uri"));
    assert_eq!(api.target_group.as_deref(), Some("shipway-hello-prod-service-api:TargetGroup"));
    assert_eq!(platform.services[&"worker".parse().unwrap()].target_group, None);
    assert_eq!(platform.sites.len(), 1);
    assert_eq!(world.story.borrow().len(), NAMES.len() + 1, "each stack, and the cluster's capacity");

    let writes = world.writes.borrow().clone();
    let summary = world.converge(Action::All, 2).unwrap();
    assert_eq!(summary.note, "6 stacks stand as the manifest wants them");
    assert_eq!(*world.writes.borrow(), writes);
    assert_eq!(world.platform_writes.get(), 1);
    assert_eq!(world.story.borrow().len(), NAMES.len() + 1, "each stack, and the cluster's capacity");
}

#[test]
fn what_needs_no_network_is_made_before_there_is_one() {
    let world = World::new(MANIFEST);
    world.environment.borrow_mut().network = None;
    world.converge(Action::Independent, 1).unwrap();
    assert_eq!(
        world.names(),
        [
            NAMES[0],
            "shipway-hello-prod-service-worker",
            "shipway-hello-prod-site-web",
            "shipway-hello-repository-hello-api"
        ]
    );
    assert_eq!(world.environment.borrow().platform, PlatformOutputs::default());
    let error = world.converge(Action::All, 1).unwrap_err();
    assert!(matches!(error, ProvisionError::NoNetwork(_)), "{error}");
}

#[test]
fn everything_that_can_start_starts_in_the_first_pass() {
    let world = World::new(MANIFEST);
    let Ok(Pass::Again { seconds, note }) = world.pass(Action::All, 1) else { panic!() };
    assert_eq!(world.names().len(), NAMES.len() - 1, "only the service behind the load balancer waits");
    assert_eq!(seconds, 5);
    assert!(note.ends_with("1 more stand on these"), "{note}");
}

/// What is the same however often passes were cut off.
fn end_state(world: &World) -> impl PartialEq + std::fmt::Debug {
    let stacks: Vec<_> = world
        .stacks
        .borrow()
        .iter()
        .map(|(name, stack)| {
            (name.clone(), stack.shown.parameters.clone(), stack.shown.tags.clone(), stack.shown.status.clone())
        })
        .collect();
    let mut story = world.story.borrow().clone();
    let mut writes = world.writes.borrow().clone();
    story.sort();
    writes.sort();
    let platform = world.environment.borrow().platform.clone();
    (stacks, story, writes, platform, world.change_sets.borrow().len(), world.capacity.borrow().clone())
}

/// Whatever becomes of one call of passes, they come to what passes come to of which nothing does; and a release after them finds
/// nothing to do. Gives the world of those.
fn comes_to_the_same<T>(
    begun: impl Fn() -> World,
    pass: impl Fn(&World, u8) -> Result<Pass<T>, ProvisionError>,
) -> World {
    let whole = begun();
    whole.retried(|world| pass(world, 2));
    let story = async |cut: Cuts| {
        let world = begun();
        world.line.cut(cut);
        world.retried(|world| pass(world, 2));
        assert_eq!(end_state(&world), end_state(&whole), "{cut:?}");
        let (calls, writes) = (world.line.calls(), world.writes.borrow().len());
        world.line.cut(None);
        world.retried(|world| pass(world, 3));
        assert_eq!(world.writes.borrow()[writes..], [""; 0], "{cut:?}: a new execution");
        calls
    };
    cut_everywhere(story).now_or_never().expect("nothing here waits");
    whole
}

/// A world in which each kind of action is needed: to create, to update, to clear and to make again.
fn mixed() -> World {
    let world = World::new(&MANIFEST.replace("/health", "/"));
    world.failing.borrow_mut().insert("shipway-hello-prod-site-web".to_owned(), "it cannot be".to_owned());
    world.converge(Action::All, 1).unwrap_err();
    world.stacks.borrow_mut().remove("shipway-hello-prod-service-worker");
    world.plan(MANIFEST);
    world.writes.borrow_mut().clear();
    world.story.borrow_mut().clear();
    world
}

#[test]
fn a_pass_cut_off_before_or_after_any_call_and_made_again_comes_to_the_same() {
    comes_to_the_same(mixed, |world, release| world.pass(Action::All, release));
}

#[test]
fn the_platforms_of_the_five_systems_come_to_the_same_whatever_becomes_of_a_call() {
    for manifest in SYSTEMS {
        let (_, spec) = last_environment(manifest);
        let begun = || {
            let world = World::default();
            world.plans(spec.clone());
            let two = |kind: &str| ["a", "b"].map(|zone| format!("subnet-{kind}-{zone}")).to_vec();
            let mut environment = world.environment.borrow_mut();
            let network = environment.network.as_mut().unwrap();
            (network.private_subnets, network.isolated_subnets) = (two("private"), two("isolated"));
            for (place, id) in [
                (&mut network.instance_group, "sg-3"),
                (&mut network.database_group, "sg-4"),
                (&mut network.cache_group, "sg-5"),
            ] {
                *place = Some(id.to_owned());
            }
            drop(environment);
            world
        };
        let world = comes_to_the_same(begun, |world, release| world.pass(Action::All, release));
        assert!(world.stacks.borrow().len() > 4, "{}: {:?}", spec.app, world.names());
    }
}

#[test]
fn a_failed_stack_is_named_with_its_reason_once_all_else_stands_and_the_next_release_makes_it_again() {
    let world = World::new(MANIFEST);
    let reason = "You have reached the limit (RequestToken: 1, HandlerErrorCode: ServiceLimitExceeded)";
    world.failing.borrow_mut().insert("shipway-hello-prod-load-balancer".to_owned(), reason.to_owned());
    let error = world.converge(Action::All, 1).unwrap_err();
    assert_eq!(error.failure(), Failure::Quota);
    assert_eq!(
        error.to_string(),
        format!(
            "the stack shipway-hello-prod-load-balancer could not be made: Thing (AWS::Some::Thing): {reason}. \
             What does not stand on it is done; put this right, then start the execution again"
        )
    );
    assert_eq!(world.status("shipway-hello-prod-site-web"), StackStatus::CreateComplete);
    assert_eq!(world.status("shipway-hello-prod-load-balancer"), StackStatus::RollbackComplete, "the evidence is kept");
    let writes = world.writes.borrow().len();
    assert_eq!(world.converge(Action::All, 1).unwrap_err().to_string(), error.to_string());
    assert_eq!(world.writes.borrow().len(), writes, "the same release does not try again");

    world.converge(Action::All, 2).unwrap();
    let writes = world.writes.borrow()[writes..].to_vec();
    assert_eq!(
        writes,
        [
            "delete shipway-hello-prod-load-balancer",
            "create shipway-hello-prod-load-balancer",
            "create shipway-hello-prod-service-api"
        ]
    );
}

#[test]
fn a_failed_update_keeps_what_was_and_taking_the_change_back_settles_it() {
    let world = World::new(MANIFEST);
    world.converge(Action::All, 1).unwrap();
    world.plan(&MANIFEST.replace("/health", "/healthy"));
    world.failing.borrow_mut().insert("shipway-hello-prod-service-api".to_owned(), "no such thing".to_owned());
    let error = world.converge(Action::All, 2).unwrap_err();
    assert!(error.to_string().contains("could not be changed and is what it was before: Thing"), "{error}");
    assert_eq!(error.failure(), Failure::Conflict);

    world.plan(MANIFEST);
    let writes = world.writes.borrow().len();
    world.converge(Action::All, 3).unwrap();
    assert_eq!(world.writes.borrow().len(), writes, "there was nothing to change");
}

#[test]
fn what_stands_on_an_unchanged_stack_goes_on_in_the_same_pass() {
    let world = World::new(MANIFEST);
    world.converge(Action::All, 1).unwrap();
    {
        let mut stacks = world.stacks.borrow_mut();
        let load_balancer = stacks.get_mut("shipway-hello-prod-load-balancer").unwrap();
        load_balancer.shown.status = StackStatus::UpdateRollbackComplete;
        load_balancer.token = "somebody-else".to_owned();
        stacks.remove("shipway-hello-prod-service-api");
    }
    world.converge(Action::All, 2).unwrap();
    assert_eq!(world.writes.borrow().last().unwrap(), "create shipway-hello-prod-service-api");
}

#[test]
fn a_repository_that_another_environment_is_making_is_waited_for() {
    let world = World::new(MANIFEST);
    // The other environment's creation arrives between look and action.
    let other = World::new(MANIFEST);
    other.pass(Action::Independent, 2).unwrap();
    let repository = "shipway-hello-repository-hello-api";
    let theirs = other.stacks.borrow()[repository].clone();
    assert_eq!(theirs.shown.tags.get("shipway:environment"), None);
    world.stacks.borrow_mut().insert(repository.to_owned(), theirs);
    world.converge(Action::All, 1).unwrap();
    assert!(!world.writes.borrow().iter().any(|write| write.ends_with(repository)));
}

#[test]
fn one_refusal_stops_no_other_stack() {
    let world = World::new(MANIFEST);
    world.refused.borrow_mut().insert("shipway-hello-prod-cluster".to_owned());
    let error = world.pass(Action::All, 1).unwrap_err();
    assert_eq!(error.failure(), Failure::Transient);
    assert_eq!(world.names().len(), NAMES.len() - 2);
    world.refused.borrow_mut().clear();
    world.converge(Action::All, 1).unwrap();
    assert_eq!(world.writes.borrow().len(), NAMES.len());
}

#[test]
fn a_stuck_stack_does_not_keep_the_network_from_being_made() {
    let world = World::new(MANIFEST);
    world.converge(Action::All, 1).unwrap();
    world.stacks.borrow_mut().get_mut("shipway-hello-prod-site-web").unwrap().shown.status =
        StackStatus::UpdateRollbackFailed;
    let summary = world.converge(Action::Independent, 2).unwrap();
    assert_eq!(summary.note, "shipway-hello-prod-site-web needs a person");
    let error = world.converge(Action::All, 2).unwrap_err();
    assert_eq!(error.failure(), Failure::Conflict);
    assert!(error.to_string().contains("continue-update-rollback"), "{error}");
}

#[test]
fn a_superseded_run_asks_for_nothing() {
    let world = World::new(MANIFEST);
    world.superseded.set(true);
    let error = world.pass(Action::All, 1).unwrap_err();
    assert_eq!(error.failure(), Failure::Superseded);
    assert_eq!(world.line.calls(), 1);
    assert_eq!(world.names(), Vec::<String>::new());
}

#[test]
fn the_machines_words_are_these() {
    let run = serde_json::to_value(run(1)).unwrap();
    for (action, request) in [
        ("independent", Request::Independent { run: self::run(1) }),
        ("all", Request::All { run: self::run(1) }),
        ("remove", Request::Remove { run: self::run(1) }),
    ] {
        let input = serde_json::json!({"action": action, "run": run});
        assert_eq!(serde_json::from_value::<Request>(input).unwrap(), request);
    }
    let input = serde_json::json!({"action": "drift", "app": "hello", "environment": "prod"});
    let drift = Request::Drift {
        app: "hello".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        detections: BTreeMap::new(),
    };
    assert_eq!(serde_json::from_value::<Request>(input).unwrap(), drift);

    let again = Compared::Again {
        seconds: 5,
        note: "n".to_owned(),
        detections: BTreeMap::from([("a".to_owned(), "1".to_owned())]),
    };
    let told = serde_json::to_value(Answered::Compared(again)).unwrap();
    assert_eq!(told, serde_json::json!({"status": "again", "seconds": 5, "note": "n", "detections": {"a": "1"}}));
    let told = serde_json::to_value(Answered::Compared(Compared::Done(Default::default()))).unwrap();
    assert_eq!(told, serde_json::json!({"status": "done", "differences": []}));
    let removed = Removed { note: "n".to_owned(), kept: Vec::new() };
    let told = serde_json::to_value(Answered::Removed(Pass::Done(removed))).unwrap();
    assert_eq!(told, serde_json::json!({"status": "done", "note": "n"}));
}

#[test]
fn a_cluster_gets_its_capacity_before_the_platform_stands() {
    let world = World::new(&MANIFEST.replace("app: hello", "app: hello\ncluster: {capacity: fargate_spot, spot: 80}"));
    world.converge(Action::All, 1).unwrap();
    let share = |provider: &str, weight| Share { provider: provider.to_owned(), weight };
    assert_eq!(world.capacity.borrow().strategy, [share("FARGATE", 20), share("FARGATE_SPOT", 80)]);
    assert!(!world.capacity.borrow().attaching);
    let story = "lets the cluster shipway-hello-prod-cluster:Cluster use FARGATE, FARGATE_SPOT";
    assert!(world.story.borrow().iter().any(|step| step == story), "{:?}", world.story.borrow());

    world.capacity.borrow_mut().strategy.clear();
    world.converge(Action::All, 2).unwrap();
    assert_eq!(world.capacity.borrow().strategy.len(), 2, "what somebody changed is put right");
}

#[test]
fn a_stack_that_is_no_longer_wanted_is_named_and_left() {
    let world = World::new(MANIFEST);
    world.converge(Action::All, 1).unwrap();
    world.end();
    assert_eq!(world.listings.get(), 1, "nothing says what was there before the first platform");
    world.plan(&MANIFEST.replace("  worker: {image: {repository: hello-api}}\n", ""));
    let summary = world.converge(Action::All, 2).unwrap();
    let stays = "stays until a teardown: shipway-hello-prod-service-worker";
    assert_eq!(summary.note, format!("5 stacks stand as the manifest wants them; {stays}"));
    assert_eq!(world.story.borrow().last().unwrap(), stays);
    assert_eq!(world.status("shipway-hello-prod-service-worker"), StackStatus::CreateComplete);

    world.end();
    let (listings, steps) = (world.listings.get(), world.story.borrow().len());
    world.converge(Action::All, 3).unwrap();
    assert_eq!(
        (world.listings.get(), world.story.borrow().len()),
        (listings, steps),
        "the same again looks for nothing"
    );
}

#[test]
fn an_environment_ends_with_no_stack_and_no_provider_left() {
    let world = World::new(MANIFEST);
    world.converge(Action::All, 1).unwrap();
    {
        let mut capacity = world.capacity.borrow_mut();
        capacity.providers.insert("hello-prod".to_owned());
        let tags = ["app", "environment"].map(|key| format!("shipway:{key}"));
        let tags = tags.into_iter().zip(["hello", "prod"].map(str::to_owned)).collect();
        capacity.own = Some(ObservedProvider { group: "group".to_owned(), scaled: true, moving: false, tags });
        let mut stacks = world.stacks.borrow_mut();
        stacks.get_mut("shipway-hello-prod-site-web").unwrap().shown.protected = true;
    }
    let removed = world.remove(2).unwrap();
    assert_eq!(removed, Removed { note: "no stack is left".to_owned(), kept: Vec::new() });
    assert_eq!(world.names(), Vec::<String>::new());
    assert_eq!(world.capacity.borrow().own, None);
    assert_eq!(world.remove(2).unwrap(), removed, "nothing is left to do");
}

#[test]
fn a_repository_stays_while_another_environments_manifest_names_it() {
    let world = World::new(MANIFEST);
    world.converge(Action::All, 1).unwrap();
    let mut theirs = world.stacks.borrow()["shipway-hello-prod-cluster"].clone();
    theirs.shown.id = "arn:aws:cloudformation:eu-west-1:1:stack/shipway-hello-dev-cluster/1".to_owned();
    theirs.shown.tags.insert("shipway:environment".to_owned(), "dev".to_owned());
    world.stacks.borrow_mut().insert("shipway-hello-dev-cluster".to_owned(), theirs);
    let planned = world.environment.borrow().planned.clone();
    let dev = EnvironmentRecord { planned, ..EnvironmentRecord::default() };
    world.others.borrow_mut().insert("dev".parse().unwrap(), dev);
    world.others.borrow_mut().insert("prod".parse().unwrap(), world.environment.borrow().clone());
    let removed = world.remove(2).unwrap();
    let what = "the repository hello-api with its images, as dev uses it";
    assert_eq!(removed.kept, [Kept { what: what.to_owned(), in_network: false }]);
    assert_eq!(world.names(), ["shipway-hello-dev-cluster", "shipway-hello-repository-hello-api"]);

    world.others.borrow_mut().clear();
    world.kept.borrow_mut().clear();
    assert_eq!(world.remove(3).unwrap().kept, []);
    assert_eq!(world.names(), ["shipway-hello-dev-cluster"]);
}

#[test]
fn a_sender_that_another_environment_has_is_told_with_its_stack() {
    let world = World::new(&MANIFEST.replace("services:", "email: {post: {address: post@hello.example}}\nservices:"));
    let own = "shipway-hello-prod-email-post";
    let reason = "Resource of type 'AWS::SES::EmailIdentity' with identifier 'post@hello.example' already exists.";
    world.converge(Action::All, 1).unwrap();
    let mut theirs = world.stacks.borrow()[own].clone();
    theirs.shown.id = "arn:aws:cloudformation:eu-west-1:1:stack/shipway-hello-dev-email-post/1".to_owned();
    theirs.shown.tags.insert("shipway:environment".to_owned(), "dev".to_owned());
    world.stacks.borrow_mut().remove(own);
    world.failing.borrow_mut().insert(own.to_owned(), reason.to_owned());
    let alone = world.converge(Action::All, 2).unwrap_err();
    assert!(alone.to_string().contains("give this environment a sender of its own under `email`"), "{alone}");

    world.stacks.borrow_mut().insert("shipway-hello-dev-email-post".to_owned(), theirs);
    world.stacks.borrow_mut().remove(own);
    world.failing.borrow_mut().insert(own.to_owned(), reason.to_owned());
    let error = world.converge(Action::All, 3).unwrap_err();
    assert_eq!(error.failure(), Failure::Conflict);
    let told = "post@hello.example is the sender of the environment dev (the stack shipway-hello-dev-email-post)";
    assert!(error.to_string().contains(told), "{error}");
}

#[test]
fn what_is_kept_is_known_to_the_end() {
    let world = World::new(MANIFEST);
    world.converge(Action::All, 1).unwrap();
    let mut database = world.stacks.borrow()["shipway-hello-prod-site-web"].clone();
    database.shown.id = "arn:aws:cloudformation:eu-west-1:1:stack/shipway-hello-prod-database-main/1".to_owned();
    database.shown.protected = true;
    database.shown.parameters.insert("OnDelete".to_owned(), "Retain".to_owned());
    database.shown.outputs.insert("Identifier".to_owned(), "hello-prod-main".to_owned());
    world.stacks.borrow_mut().insert("shipway-hello-prod-database-main".to_owned(), database);
    let removed = world.remove(2).unwrap();
    let what = "the database main (hello-prod-main), as `on_delete: retain`";
    assert_eq!(removed.kept, [Kept { what: what.to_owned(), in_network: true }]);
    assert_eq!(removed.note, format!("no stack is left; kept: {what}; the network stays with what is kept in it"));
    assert!(world.story.borrow().contains(&format!("keeps {what}")));
    assert_eq!(world.names(), Vec::<String>::new());
}

#[test]
fn a_stack_that_cannot_be_deleted_is_named_with_its_reason_and_the_next_run_tries_again() {
    let world = World::new(MANIFEST);
    world.converge(Action::All, 1).unwrap();
    world.failing.borrow_mut().insert("shipway-hello-prod-site-web".to_owned(), "The bucket is not empty".to_owned());
    let error = world.remove(2).unwrap_err();
    assert_eq!(error.failure(), Failure::Conflict);
    assert_eq!(
        error.to_string(),
        "the stack shipway-hello-prod-site-web is DELETE_FAILED because of Thing (AWS::Some::Thing): The bucket is not empty; \
         remove what its events name as undeletable, then delete it again. What does not stand on it is done; put this right, \
         then start the execution again"
    );
    assert_eq!(world.names(), ["shipway-hello-prod-site-web"]);
    world.remove(3).unwrap();
    assert_eq!(world.names(), Vec::<String>::new());
}

#[test]
fn a_removal_cut_off_before_or_after_any_call_and_made_again_comes_to_the_same() {
    let standing = || {
        let world = everywhere();
        world.converge(Action::All, 1).unwrap();
        world.stacks.borrow_mut().get_mut("shipway-hello-prod-site-web").unwrap().shown.protected = true;
        world.writes.borrow_mut().clear();
        world.story.borrow_mut().clear();
        world
    };
    comes_to_the_same(standing, World::removal_pass);
}

#[test]
fn what_somebody_changed_is_found_and_nothing_is_changed_for_it() {
    let world = World::new(MANIFEST);
    world.converge(Action::All, 1).unwrap();
    world.end();
    let writes = world.writes.borrow().len();
    assert_eq!(world.compare(), Vec::<String>::new());
    assert_eq!(world.detections.borrow().len(), NAMES.len());

    world.detections.borrow_mut().clear();
    let drift = ResourceDrift {
        resource: "Rule".to_owned(),
        resource_type: "AWS::ElasticLoadBalancingV2::ListenerRule".to_owned(),
        deleted: false,
        properties: vec!["/Priority".to_owned()],
    };
    world.drifts.borrow_mut().insert("shipway-hello-prod-service-api".to_owned(), vec![drift]);
    world.stacks.borrow_mut().remove("shipway-hello-prod-site-web");
    world.capacity.borrow_mut().strategy.clear();
    assert_eq!(
        world.compare(),
        [
            "stack shipway-hello-prod-site-web: is not there",
            "stack shipway-hello-prod-service-api: Rule (AWS::ElasticLoadBalancingV2::ListenerRule) was changed by someone: \
             /Priority",
            "cluster shipway-hello-prod-cluster:Cluster: has other capacity providers or another strategy",
        ]
    );
    assert_eq!(world.writes.borrow().len(), writes);
}

const EVERYWHERE: &str = r"
version: 1
app: hello
cluster: {ec2: {instance_type: t3.small, max: 3}}
services:
  api: {image: {repository: hello-api}, port: 3000, memory: 512, http: {path: /api/*, health: /health}}
sites: {web: {hosts: [hello.example]}}
domain: {name: hello.example, zone: Z0123456789}
stacks:
  queue:
    template: |
      Resources: {Queue: {Type: AWS::SQS::Queue}}
      Parameters:
        Vpc:
          Type: String
      Outputs:
        Arn:
          Value: x
    role: arn:aws:iam::123456789012:role/shipway-stack-queue
    parameters: {Vpc: {ref: network.vpc}}
environments: {prod: {}}
";

/// Before that is provisioned, on a network with instances.
fn everywhere() -> World {
    let world = World::new(EVERYWHERE);
    world.environment.borrow_mut().network.as_mut().unwrap().instance_group = Some("sg-3".to_owned());
    world
}

#[test]
fn instances_other_regions_and_own_stacks_come_and_go_like_all_others() {
    let world = everywhere();
    world.converge(Action::All, 1).unwrap();
    world.end();
    let platform = world.environment.borrow().platform.clone();
    assert_eq!(platform.capacity_provider.as_deref(), Some("hello-prod"));
    assert_eq!(platform.values["stacks.queue.Arn"], "shipway-hello-prod-own-queue:Arn");
    assert_eq!(platform.values["sites.web.url"], "https://hello.example");
    let provider = world.capacity.borrow().own.clone().unwrap();
    assert_eq!(provider.group, "shipway-hello-prod-instances:AutoScalingGroup");
    assert_eq!(world.capacity.borrow().strategy, [Share { provider: "hello-prod".to_owned(), weight: 1 }]);
    let elsewhere: Vec<_> = {
        let stacks = world.stacks.borrow();
        let elsewhere = stacks.iter().filter(|(_, stack)| stack.shown.id.contains(":us-east-1:"));
        elsewhere.map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(elsewhere, ["shipway-hello-prod-sites-certificate"]);
    let role = world.stacks.borrow()["shipway-hello-prod-own-queue"].shown.role.clone();
    assert_eq!(role.as_deref(), Some("arn:aws:iam::123456789012:role/shipway-stack-queue"));

    let writes = world.writes.borrow().len();
    world.converge(Action::All, 2).unwrap();
    assert_eq!(world.writes.borrow().len(), writes, "a second apply touches nothing");
    assert_eq!(world.compare(), Vec::<String>::new());

    world.remove(3).unwrap();
    assert_eq!(world.names(), Vec::<String>::new());
    assert_eq!(world.capacity.borrow().own, None);
}

#[test]
fn a_capacity_provider_of_somebody_else_is_named_and_left() {
    let world = World::new(EVERYWHERE);
    world.environment.borrow_mut().network.as_mut().unwrap().instance_group = Some("sg-3".to_owned());
    let theirs = ObservedProvider { group: "theirs".to_owned(), scaled: true, ..ObservedProvider::default() };
    world.capacity.borrow_mut().own = Some(theirs.clone());
    let error = world.converge(Action::All, 1).unwrap_err();
    assert_eq!(error.failure(), Failure::Conflict);
    assert!(
        error
            .to_string()
            .starts_with("the capacity provider hello-prod is there already, but its tag shipway:app is not hello"),
        "{error}"
    );
    assert_eq!(world.capacity.borrow().own.as_ref(), Some(&theirs));
}

/// A world in which somebody changed what one stack made, and a run that puts that right.
fn drifted() -> World {
    let world = World::new(MANIFEST);
    world.converge(Action::All, 1).unwrap();
    world.drift("shipway-hello-prod-service-api", "/Priority");
    world.writes.borrow_mut().clear();
    world.story.borrow_mut().clear();
    world.repair.set(true);
    world
}

#[test]
fn a_repair_puts_right_what_somebody_changed_and_touches_nothing_else() {
    let world = drifted();
    world.repair.set(false);
    world.converge(Action::All, 2).unwrap();
    assert_eq!(world.change_sets.borrow().len(), 0, "what nobody asks for is not compared");

    world.repair.set(true);
    let summary = world.converge(Action::All, 2).unwrap();
    assert_eq!(summary.note, "6 stacks stand as the manifest wants them");
    assert_eq!(*world.writes.borrow(), ["repair shipway-hello-prod-service-api"]);
    let story = "puts right the stack shipway-hello-prod-service-api: Rule (AWS::ElasticLoadBalancingV2::ListenerRule)";
    assert_eq!(*world.story.borrow(), [story]);
    assert_eq!(world.drifts.borrow().len(), 0);
    let left: Vec<_> = world.change_sets.borrow().keys().cloned().collect();
    assert_eq!(left, ["shipway-hello-prod-service-api"], "proposals that change nothing are gone");

    world.converge(Action::All, 2).unwrap();
    world.converge(Action::All, 3).unwrap();
    assert_eq!(world.writes.borrow().len(), 1, "there was nothing to put right");
}

#[test]
fn a_repair_cut_off_before_or_after_any_call_and_made_again_comes_to_the_same() {
    let whole = comes_to_the_same(drifted, |world, release| world.pass(Action::All, release));
    assert_eq!(whole.change_sets.borrow().len(), 1);
}

#[test]
fn what_cannot_be_put_right_is_named_with_its_way_out() {
    let world = drifted();
    world.drift("shipway-hello-prod-service-worker", "/Immutable");
    world.unproposable.borrow_mut().insert("shipway-hello-prod-site-web".to_owned());
    let summary = world.converge(Action::All, 2).unwrap();
    assert_eq!(
        summary.note,
        "6 stacks stand as the manifest wants them; \
         leaves the stack shipway-hello-prod-site-web as it is: CloudFormation can propose no repair (not for this stack); put right \
         by hand what `shipway drift` names; \
         leaves the stack shipway-hello-prod-service-worker as it is: its repair could replace Rule \
         (AWS::ElasticLoadBalancingV2::ListenerRule); look at its change set shipway-repair-20261121T031542122-3f9c2a, then execute \
         that (`aws cloudformation execute-change-set`) or put it right by hand"
    );
    assert_eq!(*world.writes.borrow(), ["repair shipway-hello-prod-service-api"]);
    assert!(world.change_sets.borrow().contains_key("shipway-hello-prod-service-worker"), "a person may execute it");
}

#[test]
fn a_repair_that_does_not_hold_is_named_with_its_reason() {
    let world = drifted();
    world.failing.borrow_mut().insert("shipway-hello-prod-service-api".to_owned(), "not authorized".to_owned());
    let error = world.converge(Action::All, 2).unwrap_err();
    assert_eq!(error.failure(), Failure::Denied);
    assert!(
        error.to_string().starts_with(
            "the stack shipway-hello-prod-service-api could not be put right and is what it was before: Rule (AWS::Some::Thing): \
             not authorized. "
        ),
        "{error}"
    );
    world.converge(Action::All, 3).unwrap();
    assert_eq!(world.drifts.borrow().len(), 0, "the next repair tries again");
}

const API: &str = "shipway-hello-prod-service-api";

/// A world in which ECS moved all of a service's requests to its second target group.
fn moved() -> World {
    let strategy = "rollout: {strategy: canary, test_traffic: true}, smoke: [{path: /api/a}]";
    let manifest = MANIFEST.replace("health: /health}}", &format!("health: /health}}, {strategy}}}"));
    let world = World::new(&manifest);
    world.converge(Action::All, 1).unwrap();
    let output = |key: &str| format!("{API}:{key}");
    let weights =
        |first, second| Weights::from([(output("TargetGroup"), first), (output("AlternateTargetGroup"), second)]);
    let rules = [(output("Rule"), weights(0, 100)), (output("TestRule"), weights(10, 90))];
    world.rules.borrow_mut().extend(rules);
    world.writes.borrow_mut().clear();
    world.story.borrow_mut().clear();
    world
}

/// The same, with another path in the manifest.
fn moved_and_changed() -> World {
    let world = moved();
    let mut environment = world.environment.borrow_mut();
    let spec = &mut environment.planned.as_mut().unwrap().spec;
    spec.services
        .values_mut()
        .filter_map(|service| service.http.as_mut())
        .for_each(|http| http.path = "/api*".to_owned());
    drop(environment);
    world
}

fn weights_of(world: &World) -> [String; 4] {
    let keys = ["PrimaryWeight", "AlternateWeight", "TestPrimaryWeight", "TestAlternateWeight"];
    keys.map(|key| world.stacks.borrow()[API].shown.parameters[key].clone())
}

#[test]
fn what_ecs_made_of_the_weights_is_told_to_cloudformation_before_a_service_changes_and_only_then() {
    let world = moved();
    world.converge(Action::All, 2).unwrap();
    assert_eq!(*world.writes.borrow(), [""; 0], "the stack is as it should be, whatever its rules weigh");
    let alternate = |world: &World| {
        let services = world.environment.borrow().platform.services.clone();
        services[&"api".parse::<shipway_domain::name::ComponentName>().unwrap()].alternate.clone()
    };
    assert!(alternate(&world).unwrap().test_rule.is_some());

    let world = moved_and_changed();
    world.converge(Action::All, 2).unwrap();
    assert_eq!(*world.writes.borrow(), [format!("weights {API}"), format!("update {API}")]);
    assert_eq!(weights_of(&world), ["0", "100", "10", "90"]);
    assert_eq!(*world.story.borrow(), [format!("updates the stack {API}")]);

    world.plan(MANIFEST);
    world.converge(Action::All, 3).unwrap();
    assert_eq!(weights_of(&world), ["0", "100", "10", "90"], "the second group stays with the service");
    assert!(alternate(&world).is_some());
}

#[test]
fn a_change_that_fails_leaves_the_weights_that_ecs_made() {
    let world = moved_and_changed();
    world.converge(Action::Independent, 2).unwrap();
    let answer = world.pass(Action::All, 2).unwrap();
    assert!(matches!(answer, Pass::Again { .. }));
    world.failing.borrow_mut().insert(API.to_owned(), "it cannot be".to_owned());
    let error = world.converge(Action::All, 2).unwrap_err();
    assert!(error.to_string().contains("could not be changed and is what it was before"), "{error}");
    assert_eq!(weights_of(&world), ["0", "100", "10", "90"]);
    assert_eq!(world.stacks.borrow()[API].shown.parameters["Path"], "/api/*");

    let world = moved_and_changed();
    world.failing.borrow_mut().insert(API.to_owned(), "it cannot be".to_owned());
    let error = world.converge(Action::All, 2).unwrap_err();
    assert!(error.to_string().contains("it cannot be"), "the weights cannot be told: {error}");
    assert_eq!(*world.writes.borrow(), [format!("weights {API}")]);
    world.converge(Action::All, 3).unwrap();
}

#[test]
fn a_change_after_ecs_moved_requests_cut_off_anywhere_and_made_again_comes_to_the_same() {
    comes_to_the_same(moved_and_changed, |world, release| world.pass(Action::All, release));
}

#[test]
fn a_repair_takes_no_weights_back() {
    let world = moved();
    world.repair.set(true);
    world.drift(API, "/Actions/0/ForwardConfig/TargetGroups/0/Weight");
    world.converge(Action::All, 2).unwrap();
    let given: Vec<_> = world.proposed.borrow()[API].iter().map(|(key, value)| format!("{key} {value}")).collect();
    assert_eq!(given, ["AlternateWeight 100", "PrimaryWeight 0", "TestAlternateWeight 90", "TestPrimaryWeight 10"]);
    assert!(world.proposed.borrow().iter().all(|(stack, given)| stack == API || given.is_empty()));
    assert_eq!(*world.writes.borrow(), [""; 0]);
    world.end();
    assert_eq!(world.compare(), [""; 0], "nobody but ECS did it");

    let world = moved();
    world.repair.set(true);
    world.drift(API, "/Priority");
    world.converge(Action::All, 2).unwrap();
    assert_eq!(*world.writes.borrow(), [format!("repair {API}")]);
}

#[tokio::test]
async fn an_input_that_no_machine_makes_is_refused_by_name_and_nothing_changes() {
    let asked = [
        json!({"action": "independent", "run": run(2)}),
        json!({"action": "all", "run": run(2)}),
        json!({"action": "remove", "run": run(2)}),
        json!({"action": "drift", "app": "hello", "environment": "prod", "detections": {"other": "detection"}}),
    ];
    for valid in asked {
        // The fence and the artifact are for the table to judge, which this one leaves out. A detection that is not known is left.
        let free = ["/run/fence", "/run/artifact/object/version", "/run/repair", "/detections", "/detections/other"];
        Box::pin(testing::are_refused(&valid, &free, async |input| {
            let world = World::new(MANIFEST);
            world.converge(Action::All, 1).unwrap();
            world.end();
            world.writes.borrow_mut().clear();
            let place = place();
            let asked = async |request: Request| answer(&place, &world, &world, request, Timestamp::UNIX_EPOCH).await;
            let answered = runtime::answer(&input, asked).await.map(|answer| json!(answer));
            (answered, format!("{:?} {:?} {}", world.writes, world.story, world.platform_writes.get()))
        }))
        .await;
    }
}
