//! Passes against a CloudFormation and a table that are only memory, cut off before and after each call.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    future::pending,
};

use futures_util::FutureExt as _;
use jiff::Timestamp;
use shipway_aws::{
    AwsError, PublicError as _,
    store::{EnvironmentRecord, Manifest, StoreError},
};
use shipway_domain::{
    failure::Failure,
    manifest,
    message::{Pass, PassInput, Run, Summary},
    name::Component,
    network::NetworkOutputs,
    platform::{Apply, ObservedStack, Operation, Place, PlatformOutputs, ResourceFailure, StackName, StackStatus},
    release::{Artifact, Step},
};

use crate::{
    aws::{Answer, Stacks},
    handler::{Action, ProvisionError, Records, pass},
};

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

/// When a pass is cut off: at the n-th call, before or after it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Before(usize),
    After(usize),
}

#[derive(Default)]
struct Line {
    calls: Cell<usize>,
    cut: Cell<Option<Cut>>,
    dead: Cell<bool>,
}

impl Line {
    /// Makes a call, unless the process was cut off.
    async fn call<T>(&self, effect: impl FnOnce() -> T) -> T {
        let call = self.calls.get();
        if self.dead.get() || self.cut.get() == Some(Cut::Before(call)) {
            self.dead.set(true);
            return pending().await;
        }
        self.calls.set(call + 1);
        let answer = effect();
        if self.cut.get() == Some(Cut::After(call)) {
            self.dead.set(true);
            return pending().await;
        }
        answer
    }
}

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
}

impl World {
    fn new(manifest: &str) -> World {
        let world = World::default();
        world.plan(manifest);
        world
    }

    fn plan(&self, manifest: &str) {
        let spec = manifest::read(manifest, &"hello".parse().unwrap(), &"prod".parse().unwrap()).unwrap();
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

    /// Time passes: what moves gets nearer to its end.
    fn tick(&self) {
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

    /// One pass. Nothing where it was cut off.
    fn pass(&self, action: Action, release: u8) -> Option<Result<Pass<Summary>, ProvisionError>> {
        let input = PassInput { run: run(release), action };
        self.line.dead.set(false);
        pass(&place(), self, self, input, Timestamp::UNIX_EPOCH).now_or_never()
    }

    /// Passes until one is done or fails.
    fn converge(&self, action: Action, release: u8) -> Result<Summary, ProvisionError> {
        for _ in 0..60 {
            if let Some(answer) = self.pass(action, release)
                && let Pass::Done(summary) = answer?
            {
                return Ok(summary);
            }
            self.line.cut.set(None);
            self.tick();
        }
        panic!("it never ends");
    }

    fn start(&self, name: &str, apply: &Apply, before: Option<Stack>) {
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
        let owned = |map: &BTreeMap<&'static str, String>| {
            map.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect::<BTreeMap<_, _>>()
        };
        let (parameters, tags) = match &before {
            Some(before) if failure.is_some() => (before.shown.parameters.clone(), before.shown.tags.clone()),
            _ => (owned(&apply.parameters), owned(&apply.tags)),
        };
        let keys = [
            "Uri",
            "Cluster",
            "DnsName",
            "Listener",
            "LogGroup",
            "ExecutionRole",
            "TaskRole",
            "TargetGroup",
            "Bucket",
            "Distribution",
            "Domain",
            "Store",
        ];
        let shown = ObservedStack {
            id: before.map_or_else(|| format!("{name}/{}", self.writes.borrow().len()), |stack| stack.shown.id),
            status: if update { StackStatus::UpdateInProgress } else { StackStatus::CreateInProgress },
            parameters,
            tags,
            outputs: keys.map(|key| (key.to_owned(), format!("{name}:{key}"))).into(),
            operation: None,
        };
        let stack = Stack { shown, token: apply.token.clone(), failure, moving: Some((1, Some(end))) };
        self.stacks.borrow_mut().insert(name.to_owned(), stack);
    }
}

impl Stacks for World {
    async fn describe(&self, name: &StackName) -> Result<Option<ObservedStack>, AwsError> {
        self.line.call(|| Ok(self.stacks.borrow().get(name.as_str()).map(|stack| stack.shown.clone()))).await
    }

    async fn last_operation(&self, id: &str) -> Result<Operation, AwsError> {
        self.line
            .call(|| {
                let stacks = self.stacks.borrow();
                let stack = stacks.values().find(|stack| stack.shown.id == id).unwrap();
                Ok(Operation { token: Some(stack.token.clone()), failure: stack.failure.clone() })
            })
            .await
    }

    async fn create(&self, name: &StackName, apply: &Apply) -> Result<Answer, AwsError> {
        self.line
            .call(|| {
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
            })
            .await
    }

    async fn update(&self, name: &StackName, apply: &Apply) -> Result<Answer, AwsError> {
        self.line
            .call(|| {
                let before = self.stacks.borrow().get(name.as_str()).cloned();
                let Some(before) = before else { return Ok(Answer::Moved) };
                if before.token == apply.token {
                    return Ok(Answer::Accepted);
                }
                if before.moving.is_some() {
                    return Ok(Answer::Moved);
                }
                let same = |old: &BTreeMap<String, String>, new: &BTreeMap<&'static str, String>| {
                    new.iter().all(|(key, value)| old.get(*key) == Some(value))
                };
                if same(&before.shown.parameters, &apply.parameters) && same(&before.shown.tags, &apply.tags) {
                    return Ok(Answer::Unchanged);
                }
                self.start(name.as_str(), apply, Some(before));
                Ok(Answer::Accepted)
            })
            .await
    }

    async fn delete(&self, id: &str, token: &str) -> Result<Answer, AwsError> {
        self.line
            .call(|| {
                let mut stacks = self.stacks.borrow_mut();
                let Some((name, stack)) = stacks.iter_mut().find(|(_, stack)| stack.shown.id == id) else {
                    return Ok(Answer::Accepted);
                };
                assert!(stack.moving.is_none(), "{name} is deleted while it moves");
                self.writes.borrow_mut().push(format!("delete {name}"));
                stack.token = token.to_owned();
                stack.shown.status = StackStatus::DeleteInProgress;
                stack.moving = Some((1, None));
                Ok(Answer::Accepted)
            })
            .await
    }
}

impl Records for World {
    async fn renew(&self, run: &Run, _: Timestamp) -> Result<(), StoreError> {
        self.line
            .call(|| match self.superseded.get() {
                false => Ok(()),
                true => Err(StoreError::Superseded {
                    app: run.app.clone(),
                    environment: run.environment.clone(),
                    component: run.component.clone(),
                }),
            })
            .await
    }

    async fn planned(&self, _: &Run) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        self.line
            .call(|| {
                let record = self.environment.borrow().clone();
                let manifest = record.planned.clone().unwrap();
                Ok((record, manifest))
            })
            .await
    }

    async fn story(&self, _: &Run) -> Result<Vec<Step>, StoreError> {
        let step =
            |what: &String| Step { at: Timestamp::UNIX_EPOCH, by: "provision-platform".to_owned(), what: what.clone() };
        self.line.call(|| Ok(self.story.borrow().iter().map(step).collect())).await
    }

    async fn tell(&self, _: &Run, step: Step) -> Result<(), StoreError> {
        self.line.call(|| self.story.borrow_mut().push(step.what)).await;
        Ok(())
    }

    async fn set_platform(&self, _: &Run, platform: &PlatformOutputs, _: Timestamp) -> Result<(), StoreError> {
        self.line
            .call(|| {
                self.platform_writes.set(self.platform_writes.get() + 1);
                self.environment.borrow_mut().platform = platform.clone();
                Ok(())
            })
            .await
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
    assert_eq!(world.story.borrow().len(), NAMES.len());

    let writes = world.writes.borrow().clone();
    let summary = world.converge(Action::All, 2).unwrap();
    assert_eq!(summary.note, "6 stacks stand as the manifest wants them");
    assert_eq!(*world.writes.borrow(), writes);
    assert_eq!(world.platform_writes.get(), 1);
    assert_eq!(world.story.borrow().len(), NAMES.len());
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
    let Some(Ok(Pass::Again { seconds, note })) = world.pass(Action::All, 1) else { panic!() };
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
    (stacks, story, writes, world.environment.borrow().platform.clone())
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
    let whole = mixed();
    whole.line.calls.set(0);
    whole.converge(Action::All, 2).unwrap();
    let calls = whole.line.calls.get();
    assert!(calls > 30);
    for call in 0..calls {
        for cut in [Cut::Before(call), Cut::After(call)] {
            let world = mixed();
            world.line.calls.set(0);
            for _ in 0..60 {
                world.line.cut.set(Some(cut));
                match world.pass(Action::All, 2) {
                    Some(Ok(Pass::Done(_))) | None => break,
                    Some(answer) => drop(answer.unwrap()),
                }
                world.tick();
            }
            world.line.cut.set(None);
            world.converge(Action::All, 2).unwrap();
            assert_eq!(end_state(&world), end_state(&whole), "{cut:?}");
        }
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
    other.pass(Action::Independent, 2).unwrap().unwrap();
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
    let error = world.pass(Action::All, 1).unwrap().unwrap_err();
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
    let error = world.pass(Action::All, 1).unwrap().unwrap_err();
    assert_eq!(error.failure(), Failure::Superseded);
    assert_eq!(world.line.calls.get(), 1);
    assert_eq!(world.names(), Vec::<String>::new());
}

#[test]
fn the_machines_words_for_actions_are_these() {
    for (text, action) in [("\"independent\"", Action::Independent), ("\"all\"", Action::All)] {
        assert_eq!(serde_json::from_str::<Action>(text).unwrap(), action);
    }
}
