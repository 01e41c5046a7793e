//! Passes over an ECS in memory that starts tasks, lets them fail, shows its changes late, and loses its answers.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use aws_sdk_ecs::error::SdkError;
use shipway_domain::{
    manifest,
    network::NetworkOutputs,
    platform::PlatformOutputs,
    release::Outcome,
    rollout::Deployment,
    task::{DescribedContainer, DescribedPort, TaskContainer},
};

use super::*;

const GOOD: &str = "sha256:a1";
const BETTER: &str = "sha256:a2";
const CRASHING: &str = "sha256:c1";
const SICK: &str = "sha256:c2";
const MISSING: &str = "sha256:c3";

#[derive(Default)]
struct World {
    now: i64,
    /// What service() shows, for so many more looks, instead of what is.
    stale: (u32, Option<Service>),
    lag: u32,
    /// Whether ECS goes back by itself.
    rolls_back: bool,
    claim_lost: bool,
    manifest: Option<manifest::Spec>,
    progress: BTreeMap<ReleaseId, Progress>,
    previous: Option<Live>,
    steps: Vec<String>,
    definitions: Vec<DescribedTaskDefinition>,
    service: Option<Service>,
    tasks: Vec<Task>,
    next: u32,
    /// The calls that change something in AWS.
    writes: Vec<String>,
}

struct Fake {
    world: RefCell<World>,
    calls: Cell<usize>,
    /// Lose the n-th call, before or after it is done.
    cut: Cell<Option<(usize, bool)>>,
}

fn lost() -> AwsError {
    AwsError::of("test:Cut")(SdkError::<aws_sdk_ecs::Error, ()>::timeout_error("cut off"))
}

impl Fake {
    fn call<T>(&self, act: impl FnOnce(&mut World) -> T) -> Result<T, AwsError> {
        let number = self.calls.get() + 1;
        self.calls.set(number);
        if self.cut.get() == Some((number, false)) {
            return Err(lost());
        }
        let answer = act(&mut self.world.borrow_mut());
        if self.cut.get() == Some((number, true)) { Err(lost()) } else { Ok(answer) }
    }

    fn fenced<T>(&self, run: &Run, act: impl FnOnce(&mut World) -> T) -> Result<T, StoreError> {
        if self.world.borrow().claim_lost {
            let Run { app, environment, component, .. } = run.clone();
            return Err(StoreError::Superseded { app, environment, component });
        }
        Ok(self.call(act)?)
    }
}

impl World {
    fn digest_of(&self, arn: &str) -> String {
        let definition = self.definitions.iter().find(|one| one.arn == arn).unwrap();
        definition.containers[0].image.split_once('@').unwrap().1.to_owned()
    }

    fn changed(&mut self, what: String) {
        self.stale = (self.lag, self.service.clone());
        self.writes.push(what);
    }

    fn start(&mut self, task_definition: &str) -> String {
        let id = format!("ecs-svc/{}", self.next);
        self.next += 1;
        let service = self.service.as_mut().unwrap();
        for other in &mut service.deployments {
            other.primary = false;
        }
        let task_definition = task_definition.to_owned();
        service
            .deployments
            .insert(0, Deployment { id: id.clone(), primary: true, task_definition, ..Deployment::default() });
        id
    }

    /// Five seconds of ECS.
    fn tick(&mut self) {
        self.now += 5;
        let Some(mut service) = self.service.take() else { return };
        let primary = service.deployments.iter().position(|one| one.primary).unwrap();
        let revision = service.deployments[primary].task_definition.clone();
        let digest = self.digest_of(&revision);
        let id = service.deployments[primary].id.clone();
        let now = at(self.now);
        let number = self.next;
        let task = |status: &str, stop: Option<(&str, &str)>, exit_code| Task {
            arn: format!("arn:aws:ecs:eu-west-1:123456789012:task/hello-prod/{number}"),
            task_definition: revision.clone(),
            started_by: Some(id.clone()),
            created_at: Some(now),
            started_at: Some(now),
            status: status.to_owned(),
            stop_code: stop.map(|stop| stop.0.to_owned()),
            stopped_reason: stop.map(|stop| stop.1.to_owned()),
            addresses: vec![format!("10.0.0.{number}")],
            containers: vec![TaskContainer {
                name: "api".to_owned(),
                digest: Some(digest.clone()),
                exit_code,
                reason: None,
            }],
            ..Task::default()
        };
        let failures =
            self.tasks.iter().filter(|task| task.stopped() && task.started_by.as_deref() == Some(id.as_str())).count();
        if service.desired == 0 {
            self.tasks.retain(Task::stopped);
        } else if service.deployments[primary].running == 0 && !service.deployments[primary].failed {
            self.next += 1;
            match digest.as_str() {
                CRASHING => self.tasks.push(task(
                    "STOPPED",
                    Some(("EssentialContainerExited", "Essential container in task exited")),
                    Some(1),
                )),
                MISSING => self.tasks.push(task(
                    "STOPPED",
                    Some(("TaskFailedToStart", "CannotPullContainerError: not found")),
                    None,
                )),
                _ => self.tasks.push(task("RUNNING", None, None)),
            }
        } else {
            // Steady: what is old has drained.
            self.tasks.retain(|task| task.stopped() || task.task_definition == revision);
            service.deployments.retain(|one| one.primary);
        }
        for one in &mut service.deployments {
            let of_it = |task: &&Task| task.running() && task.task_definition == one.task_definition;
            one.running = u32::try_from(self.tasks.iter().filter(of_it).count()).unwrap();
        }
        service.running = service.deployments.iter().map(|one| one.running).sum();
        if self.rolls_back && failures >= 1 && service.deployments.len() > 1 {
            let old = service.deployments[1].task_definition.clone();
            service.deployments[0].failed = true;
            service.deployments[0].reason = Some("circuit breaker: tasks failed to start".to_owned());
            self.service = Some(service);
            self.start(&old);
            return;
        }
        self.service = Some(service);
    }
}

impl Calls for Fake {
    async fn renew(&self, run: &Run, _: Timestamp) -> Result<(), StoreError> {
        self.fenced(run, |_| ())
    }

    async fn applied(&self, _: &Run) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        let spec = self.world.borrow().manifest.clone().unwrap();
        let outputs = ServiceOutputs {
            repository_uri: "123456789012.dkr.ecr.eu-west-1.amazonaws.com/hello-api".to_owned(),
            log_group: "/shipway/hello-prod/api".to_owned(),
            execution_role: "arn:aws:iam::123456789012:role/execution".to_owned(),
            task_role: "arn:aws:iam::123456789012:role/task".to_owned(),
            target_group: Some("tg".to_owned()),
        };
        let record = EnvironmentRecord {
            network: Some(NetworkOutputs {
                vpc: "vpc".to_owned(),
                cidr: "10.0.0.0/16".to_owned(),
                public_subnets: vec!["subnet-1".to_owned(), "subnet-2".to_owned()],
                load_balancer_group: "sg-1".to_owned(),
                service_group: "sg-2".to_owned(),
            }),
            platform: PlatformOutputs {
                cluster: Some("hello-prod".to_owned()),
                services: [("api".parse().unwrap(), outputs)].into(),
                ..PlatformOutputs::default()
            },
            ..EnvironmentRecord::default()
        };
        let artifact = Artifact::Object { key: "k".to_owned(), version: "v".to_owned() };
        Ok(self.call(|_| (record, Manifest { artifact, spec }))?)
    }

    async fn previous(&self, _: &Run) -> Result<Option<Live>, StoreError> {
        Ok(self.call(|world| world.previous.clone())?)
    }

    async fn progress(&self, _: &Run, of: &ReleaseId) -> Result<Option<Progress>, StoreError> {
        Ok(self.call(|world| world.progress.get(of).cloned())?)
    }

    async fn save(&self, run: &Run, progress: &Progress, _: Timestamp) -> Result<(), StoreError> {
        self.fenced(run, |world| drop(world.progress.insert(run.release.clone(), progress.clone())))
    }

    async fn step(&self, run: &Run, what: String, _: Timestamp) -> Result<(), StoreError> {
        self.fenced(run, |world| world.steps.push(what))
    }

    async fn task_definition(&self, name: &str) -> Result<Option<DescribedTaskDefinition>, AwsError> {
        self.call(|world| world.definitions.iter().rev().find(|one| one.arn == name || one.family == name).cloned())
    }

    async fn register(&self, wanted: &TaskDefinition) -> Result<String, AwsError> {
        self.call(|world| {
            let arn = format!(
                "arn:aws:ecs:eu-west-1:123456789012:task-definition/{}:{}",
                wanted.family,
                world.definitions.len() + 1
            );
            world.writes.push(format!("register {}", world.definitions.len() + 1));
            world.definitions.push(described(wanted, &arn));
            arn
        })
    }

    async fn service(&self, _: &Place) -> Result<Option<Service>, AwsError> {
        self.call(|world| {
            if world.stale.0 > 0 {
                world.stale.0 -= 1;
                return world.stale.1.clone();
            }
            world.service.clone()
        })
    }

    async fn tasks(&self, _: &Place, running: bool) -> Result<Vec<Task>, AwsError> {
        self.call(|world| world.tasks.iter().filter(|task| running || task.stopped()).cloned().collect())
    }

    async fn targets(&self, _: &TargetGroup) -> Result<Vec<Target>, AwsError> {
        self.call(|world| {
            let running = world.tasks.iter().filter(|task| task.running());
            running
                .map(|task| Target {
                    address: task.addresses[0].clone(),
                    port: 8080,
                    state: if world.digest_of(&task.task_definition) == SICK { "unhealthy" } else { "healthy" }
                        .to_owned(),
                    reason: Some("Health checks failed with these codes: [500]".to_owned()),
                })
                .collect()
        })
    }

    async fn create(&self, new: NewService<'_>) -> Result<Started, AwsError> {
        self.call(|world| {
            if let Some(service) = &world.service {
                // The same token again.
                return Started::Deployment(service.primary().unwrap().id.clone());
            }
            world.changed(format!("create {}", short(new.version)));
            world.service = Some(Service { desired: 1, settings: new.version.settings.clone(), ..Service::default() });
            Started::Deployment(world.start(&new.version.revision.task_definition))
        })
    }

    async fn update(&self, change: Change<'_>) -> Result<Started, AwsError> {
        self.call(|world| {
            let was = world.service.clone().unwrap();
            let primary = was.primary().unwrap();
            let what = change.task_definition.map(|one| one.rsplit(':').next().unwrap());
            world.changed(format!(
                "update {} {}",
                what.unwrap_or("-"),
                change.count.map_or("-".to_owned(), |count| count.to_string())
            ));
            let service = world.service.as_mut().unwrap();
            service.desired = change.count.unwrap_or(service.desired);
            if let Some(settings) = change.settings {
                service.settings = settings.clone();
            }
            match change.task_definition {
                Some(other) if other != primary.task_definition || change.force || change.settings.is_some() => {
                    Started::Deployment(world.start(other))
                }
                _ => Started::Deployment(primary.id.clone()),
            }
        })
    }

    async fn log_tail(&self, _: &str, stream: &str) -> Result<Vec<String>, AwsError> {
        self.call(|_| vec!["cannot read the configuration".to_owned(), format!("in {stream}")])
    }
}

fn short(version: &Version) -> &str {
    version.revision.task_definition.rsplit(':').next().unwrap()
}

/// What ECS describes of a task definition that was registered.
fn described(task: &TaskDefinition, arn: &str) -> DescribedTaskDefinition {
    let container = &task.container;
    DescribedTaskDefinition {
        arn: arn.to_owned(),
        active: true,
        family: task.family.clone(),
        cpu: Some(task.cpu.to_string()),
        memory: Some(task.memory.to_string()),
        execution_role: Some(task.execution_role.clone()),
        task_role: Some(task.task_role.clone()),
        network_mode: Some("awsvpc".to_owned()),
        requires_compatibilities: vec!["FARGATE".to_owned()],
        containers: vec![DescribedContainer {
            name: container.name.clone(),
            image: container.image.clone(),
            ports: container
                .port
                .map(|port| DescribedPort { container: port, host: Some(port), protocol: None })
                .into_iter()
                .collect(),
            env: container.env.clone().into_iter().collect(),
            log_driver: Some("awslogs".to_owned()),
            log_options: container.log.options(),
            ..DescribedContainer::default()
        }],
        ..DescribedTaskDefinition::default()
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn manifest_with(port: u16, more: &str) -> Option<manifest::Spec> {
    let text = format!(
        "version: 1\napp: hello\nenvironments: {{prod: {{}}}}\nservices:\n  api:\n    image: {{repository: hello-api}}\n    port: {port}\n    http: {{}}\n{more}"
    );
    Some(manifest::read(&text, &"hello".parse().unwrap(), &"prod".parse().unwrap()).unwrap())
}

fn run(number: u32, digest: &str) -> Run {
    Run {
        app: "hello".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        component: "service/api".parse().unwrap(),
        artifact: Artifact::Image { repository: "hello-api".parse().unwrap(), digest: digest.parse().unwrap() },
        release: format!("20261121T0315{number:02}123-3f9c2a").parse().unwrap(),
        fence: u64::from(number),
    }
}

fn empty() -> Fake {
    let world = World { manifest: manifest_with(8080, ""), next: 1, ..World::default() };
    Fake { world: RefCell::new(world), calls: Cell::new(0), cut: Cell::new(None) }
}

/// One with a release that is live.
async fn with_live() -> Fake {
    let fake = empty();
    let first = run(1, GOOD);
    assert_eq!(finish(&fake, &first, Ask::Deploy).await.unwrap().outcome, Outcome::Succeeded);
    fake.world.borrow_mut().writes.clear();
    fake.world.borrow_mut().steps.clear();
    fake.world.borrow_mut().previous = Some(Live { artifact: first.artifact, release: first.release, since: at(0) });
    fake.calls.set(0);
    fake
}

async fn pass(fake: &Fake, run: &Run, action: Ask) -> Result<Pass<Verdict>, Error> {
    let surroundings = Surroundings { region: "eu-west-1".to_owned(), registry_mirror: None };
    let now = at(fake.world.borrow().now);
    handle(fake, &surroundings, PassInput { run: run.clone(), action }, now).await
}

/// The machine: passes until the end, again after what a retry can help.
async fn finish(fake: &Fake, run: &Run, action: Ask) -> Result<Verdict, Error> {
    for _ in 0..400 {
        match pass(fake, run, action).await {
            Ok(Pass::Done(verdict)) => return Ok(verdict),
            Ok(Pass::Again { .. }) => fake.world.borrow_mut().tick(),
            Err(error) if error.failure().retryable() => {}
            Err(error) => return Err(error),
        }
    }
    panic!("no end: {:?}", fake.world.borrow().steps);
}

fn writes(fake: &Fake) -> Vec<String> {
    fake.world.borrow().writes.clone()
}

/// The digest that the service runs, and how many tasks it wants.
fn serves(fake: &Fake) -> (String, u32) {
    let world = fake.world.borrow();
    let service = world.service.as_ref().unwrap();
    (world.digest_of(&service.primary().unwrap().task_definition), service.desired)
}

#[tokio::test]
async fn a_first_release_makes_the_service() {
    let fake = empty();
    let verdict = finish(&fake, &run(1, GOOD), Ask::Deploy).await.unwrap();
    assert_eq!(
        (verdict.outcome, verdict.reason.as_str()),
        (Outcome::Succeeded, "1 of 1 tasks of hello-prod-api:1 serve")
    );
    assert_eq!(writes(&fake), ["register 1", "create 1"]);
    assert_eq!(fake.world.borrow().steps.len(), 2);
}

#[tokio::test]
async fn a_release_updates_the_service_once_and_leaves_its_size_alone() {
    let fake = with_live().await;
    assert_eq!(finish(&fake, &run(2, BETTER), Ask::Deploy).await.unwrap().outcome, Outcome::Succeeded);
    assert_eq!(writes(&fake), ["register 2", "update 2 -"]);
    assert_eq!(serves(&fake), (BETTER.to_owned(), 1));
}

#[tokio::test]
async fn the_same_again_writes_nothing() {
    let fake = with_live().await;
    let again = finish(&fake, &run(2, GOOD), Ask::Deploy).await.unwrap();
    assert_eq!(
        (again.outcome, again.reason.as_str()),
        (Outcome::Unchanged, "1 of 1 tasks of hello-prod-api:1 serve already")
    );
    assert_eq!(writes(&fake), [""; 0]);
    // An end whose answer was lost is told again, without a step more.
    let steps = fake.world.borrow().steps.len();
    assert_eq!(finish(&fake, &run(2, GOOD), Ask::Deploy).await.unwrap(), again);
    assert_eq!(fake.world.borrow().steps.len(), steps);
}

#[tokio::test]
async fn another_setting_is_another_revision_of_the_same_image() {
    let fake = with_live().await;
    fake.world.borrow_mut().manifest = manifest_with(8080, "    env: {A: b}\n");
    assert_eq!(finish(&fake, &run(2, GOOD), Ask::Deploy).await.unwrap().outcome, Outcome::Succeeded);
    assert_eq!(writes(&fake), ["register 2", "update 2 -"]);
}

#[tokio::test]
async fn another_port_moves_the_target_and_going_back_moves_it_back() {
    let fake = with_live().await;
    fake.world.borrow_mut().manifest = manifest_with(9090, "");
    assert_eq!(finish(&fake, &run(2, CRASHING), Ask::Deploy).await.unwrap().outcome, Outcome::RolledBack);
    let world = fake.world.borrow();
    assert_eq!(world.service.as_ref().unwrap().settings.target_group.as_ref().unwrap().port, 8080);
}

#[tokio::test]
async fn a_crash_loop_is_rolled_back_with_its_cause() {
    let fake = with_live().await;
    let verdict = finish(&fake, &run(2, CRASHING), Ask::Deploy).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::RolledBack);
    for part in [
        "3 tasks failed",
        "exit code 1",
        "cannot read the configuration | in service/api/",
        "1 of 1 tasks of hello-prod-api:1 serve again",
    ] {
        assert!(verdict.reason.contains(part), "{part}: {}", verdict.reason);
    }
    assert_eq!(writes(&fake), ["register 2", "update 2 -", "update 1 -"]);
    assert_eq!(serves(&fake), (GOOD.to_owned(), 1));
}

#[tokio::test]
async fn an_image_that_is_not_there_and_one_that_is_never_healthy_are_rolled_back() {
    for (digest, part) in
        [(MISSING, "CannotPullContainerError"), (SICK, "unhealthy: Health checks failed with these codes: [500]")]
    {
        let fake = with_live().await;
        let verdict = finish(&fake, &run(2, digest), Ask::Deploy).await.unwrap();
        assert_eq!(verdict.outcome, Outcome::RolledBack);
        assert!(verdict.reason.contains(part), "{}", verdict.reason);
        assert_eq!(serves(&fake), (GOOD.to_owned(), 1));
    }
}

#[tokio::test]
async fn a_first_release_that_crashes_is_stopped_and_the_next_one_starts_the_service_again() {
    let fake = empty();
    let verdict = finish(&fake, &run(1, CRASHING), Ask::Deploy).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Failed);
    assert!(
        verdict.reason.contains("exit code 1") && verdict.reason.contains("the service was stopped"),
        "{}",
        verdict.reason
    );
    assert_eq!(writes(&fake), ["register 1", "create 1", "update - 0"]);
    assert_eq!(serves(&fake), (CRASHING.to_owned(), 0));
    assert_eq!(finish(&fake, &run(2, GOOD), Ask::Deploy).await.unwrap().outcome, Outcome::Succeeded);
    assert_eq!(serves(&fake), (GOOD.to_owned(), 1));
}

#[tokio::test]
async fn the_same_bad_first_image_again_is_tried_again() {
    let fake = empty();
    finish(&fake, &run(1, CRASHING), Ask::Deploy).await.unwrap();
    fake.world.borrow_mut().writes.clear();
    assert_eq!(finish(&fake, &run(2, CRASHING), Ask::Deploy).await.unwrap().outcome, Outcome::Failed);
    assert_eq!(writes(&fake), ["update 1 1", "update - 0"]);
}

#[tokio::test]
async fn ecs_going_back_by_itself_is_rolled_back_without_another_update() {
    let fake = with_live().await;
    fake.world.borrow_mut().rolls_back = true;
    let verdict = finish(&fake, &run(2, CRASHING), Ask::Deploy).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::RolledBack);
    assert!(verdict.reason.starts_with("ECS went back to the live revision by itself"), "{}", verdict.reason);
    assert_eq!(writes(&fake), ["register 2", "update 2 -"]);
}

#[tokio::test]
async fn a_release_after_one_that_was_superseded_half_way_goes_back_to_the_live_one() {
    let fake = with_live().await;
    let half = run(2, CRASHING);
    for _ in 0..2 {
        pass(&fake, &half, Ask::Deploy).await.unwrap();
        fake.world.borrow_mut().tick();
    }
    assert_eq!(serves(&fake).0, CRASHING);
    let verdict = finish(&fake, &run(3, MISSING), Ask::Deploy).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::RolledBack);
    assert_eq!(serves(&fake), (GOOD.to_owned(), 1));
}

#[tokio::test]
async fn a_lost_claim_ends_the_run_before_it_looks_at_anything() {
    let fake = with_live().await;
    pass(&fake, &run(2, BETTER), Ask::Deploy).await.unwrap();
    fake.calls.set(0);
    fake.world.borrow_mut().claim_lost = true;
    assert_eq!(pass(&fake, &run(2, BETTER), Ask::Deploy).await.unwrap_err().failure(), Failure::Superseded);
    assert_eq!(pass(&fake, &run(2, BETTER), Ask::RollBack).await.unwrap_err().failure(), Failure::Superseded);
    assert_eq!(fake.calls.get(), 0);
}

#[tokio::test]
async fn a_service_that_somebody_scaled_to_nothing_is_left_alone() {
    let fake = with_live().await;
    fake.world.borrow_mut().service.as_mut().unwrap().desired = 0;
    let refused = finish(&fake, &run(2, BETTER), Ask::Deploy).await.unwrap_err();
    assert_eq!(refused.failure(), Failure::Conflict);
    assert_eq!(writes(&fake), ["register 2"]);
}

#[tokio::test]
async fn an_image_of_another_repository_is_rejected() {
    let fake = with_live().await;
    let other = Artifact::Image { repository: "other".parse().unwrap(), digest: GOOD.parse().unwrap() };
    let rejected = finish(&fake, &Run { artifact: other, ..run(2, GOOD) }, Ask::Deploy).await.unwrap_err();
    assert_eq!(rejected.failure(), Failure::RejectedImage);
    assert_eq!(writes(&fake), [""; 0]);
}

#[tokio::test]
async fn rolling_back_undoes_what_had_begun() {
    let fake = with_live().await;
    let two = run(2, BETTER);
    assert_eq!(finish(&fake, &two, Ask::RollBack).await.unwrap().outcome, Outcome::Failed);
    assert_eq!(writes(&fake), [""; 0]);
    pass(&fake, &two, Ask::Deploy).await.unwrap();
    fake.world.borrow_mut().tick();
    assert_eq!(finish(&fake, &two, Ask::RollBack).await.unwrap().outcome, Outcome::RolledBack);
    assert_eq!(serves(&fake), (GOOD.to_owned(), 1));
    assert_eq!(writes(&fake), ["register 2", "update 2 -", "update 1 -"]);
}

#[tokio::test]
async fn rolling_back_a_first_release_stops_it() {
    let fake = empty();
    pass(&fake, &run(1, GOOD), Ask::Deploy).await.unwrap();
    assert_eq!(finish(&fake, &run(1, GOOD), Ask::RollBack).await.unwrap().outcome, Outcome::Failed);
    assert_eq!(serves(&fake), (GOOD.to_owned(), 0));
}

/// Each story with its end and its calls.
const STORIES: [(bool, &str, Outcome, &[&str], &str); 6] = [
    (false, GOOD, Outcome::Succeeded, &["register 1", "create 1"], GOOD),
    (false, CRASHING, Outcome::Failed, &["register 1", "create 1", "update - 0"], CRASHING),
    (true, GOOD, Outcome::Unchanged, &[], GOOD),
    (true, BETTER, Outcome::Succeeded, &["register 2", "update 2 -"], BETTER),
    (true, CRASHING, Outcome::RolledBack, &["register 2", "update 2 -", "update 1 -"], GOOD),
    (true, SICK, Outcome::RolledBack, &["register 2", "update 2 -", "update 1 -"], GOOD),
];

#[tokio::test]
async fn cut_off_before_or_after_any_call_the_end_is_the_same_and_nothing_is_done_twice() {
    for (live, digest, outcome, expected, serving) in STORIES {
        for after in [false, true] {
            for number in 1.. {
                let fake = if live { with_live().await } else { empty() };
                fake.cut.set(Some((number, after)));
                let verdict = finish(&fake, &run(2, digest), Ask::Deploy).await.unwrap();
                let story = format!("{digest}, call {number}, after: {after}: {}", verdict.reason);
                assert_eq!(verdict.outcome, outcome, "{story}");
                assert_eq!(writes(&fake), expected, "{story}");
                assert_eq!(serves(&fake).0, serving, "{story}");
                if fake.calls.get() < number {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn what_ecs_shows_late_changes_nothing() {
    for (live, digest, outcome, expected, serving) in STORIES {
        for lag in 1..4 {
            let fake = if live { with_live().await } else { empty() };
            fake.world.borrow_mut().lag = lag;
            let verdict = finish(&fake, &run(2, digest), Ask::Deploy).await.unwrap();
            assert_eq!(verdict.outcome, outcome, "{digest}, {lag}: {}", verdict.reason);
            let mut calls = writes(&fake);
            // Stopping what is stopped already is the one call that is simply made again.
            calls.dedup();
            assert_eq!(calls, expected, "{digest}, {lag}");
            assert_eq!(serves(&fake).0, serving);
        }
    }
}

#[tokio::test]
async fn an_error_at_any_point_can_be_rolled_back() {
    for after in [false, true] {
        for number in 1.. {
            let fake = with_live().await;
            fake.cut.set(Some((number, after)));
            let two = run(2, BETTER);
            let mut cut = false;
            for _ in 0..40 {
                match pass(&fake, &two, Ask::Deploy).await {
                    Ok(Pass::Done(_)) => break,
                    Ok(Pass::Again { .. }) => fake.world.borrow_mut().tick(),
                    Err(_) => {
                        cut = true;
                        break;
                    }
                }
            }
            if !cut {
                break;
            }
            finish(&fake, &two, Ask::RollBack).await.unwrap();
            assert_eq!(serves(&fake), (GOOD.to_owned(), 1), "call {number}, after: {after}");
            assert!(writes(&fake).iter().filter(|call| call.starts_with("update")).count() <= 2);
        }
    }
}

#[tokio::test]
async fn another_manifest_half_way_changes_nothing() {
    let fake = with_live().await;
    pass(&fake, &run(2, BETTER), Ask::Deploy).await.unwrap();
    fake.world.borrow_mut().manifest.as_mut().unwrap().services.clear();
    assert_eq!(finish(&fake, &run(2, BETTER), Ask::Deploy).await.unwrap().outcome, Outcome::Succeeded);
    assert_eq!(writes(&fake), ["register 2", "update 2 -"]);
    let unknown = finish(&fake, &run(3, BETTER), Ask::Deploy).await.unwrap_err();
    assert_eq!(unknown.failure(), Failure::RejectedManifest);
}

#[tokio::test]
async fn waiting_costs_one_look_at_the_service_a_pass() {
    let fake = with_live().await;
    pass(&fake, &run(2, SICK), Ask::Deploy).await.unwrap();
    for look in 0..4 {
        fake.world.borrow_mut().tick();
        fake.calls.set(0);
        pass(&fake, &run(2, SICK), Ask::Deploy).await.unwrap();
        // Claim, progress, environment, service, tasks, targets; once what the load balancer says against it is written down.
        assert!(fake.calls.get() <= if look == 0 { 7 } else { 6 }, "{look}");
    }
}
