//! Passes over an ECS in memory that runs tasks, refuses them, shows them late, and loses its answers.

use std::cell::{Cell, RefCell};

use aws_sdk_ecs::error::SdkError;
use shipway_domain::{
    manifest,
    platform::{PlatformOutputs, ServiceOutputs},
    task::{DescribedContainer, TaskContainer},
};

use super::*;

#[derive(Default)]
struct World {
    now: i64,
    /// How long the migration takes, and how it ends; without an exit code its container never ran.
    seconds: i64,
    exit_code: Option<i32>,
    /// Its log comes so many looks late.
    log_lag: u32,
    /// ListTasks and DescribeTasks do not show what is younger than this.
    lag: i64,
    refusals: Vec<&'static str>,
    claim_lost: bool,
    committed: bool,
    progress: Option<Progress>,
    steps: Vec<String>,
    definitions: Vec<DescribedTaskDefinition>,
    /// Each with the token it was asked for under.
    tasks: Vec<(Task, String)>,
    writes: Vec<String>,
}

struct Fake {
    world: RefCell<World>,
    spec: manifest::Spec,
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
    fn tick(&mut self) {
        self.now += 5;
        for (task, _) in &mut self.tasks {
            let age = at(self.now).duration_since(task.created_at.unwrap()).as_secs();
            if task.stopping && !task.stopped() {
                task.status = "STOPPED".to_owned();
                task.stop_code = Some("UserInitiated".to_owned());
                task.containers[0].exit_code = Some(0);
            } else if age >= self.seconds && !task.stopped() {
                task.status = "STOPPED".to_owned();
                task.stopping = true;
                let code = if self.exit_code.is_some() { "EssentialContainerExited" } else { "TaskFailedToStart" };
                task.stop_code = Some(code.to_owned());
                task.containers[0].exit_code = self.exit_code;
            }
        }
    }

    fn shown(&self) -> impl Iterator<Item = &Task> {
        let newest = at(self.now - self.lag);
        self.tasks.iter().map(|(task, _)| task).filter(move |task| task.created_at.unwrap() <= newest)
    }
}

impl Calls for Fake {
    async fn commit(&self, run: &Run, _: Timestamp) -> Result<(), StoreError> {
        self.fenced(run, |world| world.committed = true)
    }

    async fn applied(&self, _: &Run) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        let outputs = ServiceOutputs {
            repository_uri: "123456789012.dkr.ecr.eu-west-1.amazonaws.com/hello-api".to_owned(),
            log_group: "/shipway/hello-prod/api".to_owned(),
            execution_role: "arn:aws:iam::123456789012:role/execution".to_owned(),
            task_role: "arn:aws:iam::123456789012:role/task".to_owned(),
            target_group: None,
        };
        let record = EnvironmentRecord {
            network: Some(NetworkOutputs {
                vpc: "vpc".to_owned(),
                cidr: "10.0.0.0/16".to_owned(),
                public_subnets: vec!["subnet-1".to_owned()],
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
        Ok(self.call(|_| (record, Manifest { artifact, spec: self.spec.clone() }))?)
    }

    async fn progress(&self, _: &Run) -> Result<Option<Progress>, StoreError> {
        Ok(self.call(|world| world.progress.clone())?)
    }

    async fn save(&self, run: &Run, progress: &Progress, _: Timestamp) -> Result<(), StoreError> {
        self.fenced(run, |world| world.progress = Some(progress.clone()))
    }

    async fn step(&self, run: &Run, what: String, _: Timestamp) -> Result<(), StoreError> {
        self.fenced(run, |world| world.steps.push(what))
    }

    async fn task_definition(&self, name: &str) -> Result<Option<DescribedTaskDefinition>, AwsError> {
        self.call(|world| world.definitions.iter().rev().find(|one| one.arn == name || one.family == name).cloned())
    }

    async fn register(&self, wanted: &TaskDefinition) -> Result<String, AwsError> {
        self.call(|world| {
            let arn = format!("{}:{}", wanted.family, world.definitions.len() + 1);
            world.writes.push("register".to_owned());
            world.definitions.push(DescribedTaskDefinition {
                arn: arn.clone(),
                active: true,
                family: wanted.family.clone(),
                cpu: Some(wanted.cpu.to_string()),
                memory: Some(wanted.memory.to_string()),
                execution_role: Some(wanted.execution_role.clone()),
                task_role: Some(wanted.task_role.clone()),
                network_mode: Some("awsvpc".to_owned()),
                requires_compatibilities: vec!["FARGATE".to_owned()],
                containers: vec![DescribedContainer {
                    name: wanted.container.name.clone(),
                    image: wanted.container.image.clone(),
                    command: wanted.container.command.clone(),
                    log_driver: Some("awslogs".to_owned()),
                    log_options: wanted.container.log.options(),
                    ..DescribedContainer::default()
                }],
                ..DescribedTaskDefinition::default()
            });
            arn
        })
    }

    async fn find(&self, _: &str, started_by: &str) -> Result<Option<String>, AwsError> {
        self.call(|world| {
            world.shown().find(|task| task.started_by.as_deref() == Some(started_by)).map(|task| task.arn.clone())
        })
    }

    async fn run(&self, new: NewTask<'_>) -> Result<Placed, AwsError> {
        assert!(self.world.borrow().committed);
        assert!(new.token.len() <= 64 && new.started_by.len() <= 36);
        self.call(|world| {
            if let Some((task, _)) = world.tasks.iter().find(|(_, token)| token == new.token) {
                return Placed::Task(task.arn.clone());
            }
            if let Some(reason) = world.refusals.pop() {
                return Placed::Refused(reason.to_owned());
            }
            world.writes.push("run".to_owned());
            let arn = format!("arn:aws:ecs:eu-west-1:123456789012:task/hello-prod/{}", world.tasks.len());
            let task = Task {
                arn: arn.clone(),
                task_definition: new.task_definition.to_owned(),
                started_by: Some(new.started_by.to_owned()),
                created_at: Some(at(world.now)),
                status: "RUNNING".to_owned(),
                stopped_reason: Some("the reason".to_owned()),
                containers: vec![TaskContainer { name: "api".to_owned(), ..TaskContainer::default() }],
                ..Task::default()
            };
            world.tasks.push((task, new.token.to_owned()));
            Placed::Task(arn)
        })
    }

    async fn task(&self, _: &str, arn: &str) -> Result<Option<Task>, AwsError> {
        self.call(|world| world.shown().find(|task| task.arn == arn).cloned())
    }

    async fn stop(&self, _: &str, arn: &str) -> Result<(), AwsError> {
        self.call(|world| {
            let (task, _) = world.tasks.iter_mut().find(|(task, _)| task.arn == arn).unwrap();
            if !task.stopping {
                world.writes.push("stop".to_owned());
            }
            task.stopping = true;
        })
    }

    async fn log_tail(&self, group: &str, stream: &str) -> Result<Vec<String>, AwsError> {
        assert_eq!((group, stream.starts_with("migrate/api/")), ("/shipway/hello-prod/api", true));
        self.call(|world| {
            if world.log_lag > 0 {
                world.log_lag -= 1;
                return Vec::new();
            }
            vec!["relation users exists".to_owned()]
        })
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn cloud(seconds: i64, exit_code: Option<i32>) -> Fake {
    let text = "version: 1\napp: hello\nenvironments: {prod: {}}\nservices:\n  api:\n    image: {repository: hello-api}\n    port: 8080\n    migrate: {command: [migrate], timeout: 1m}\n";
    Fake {
        world: RefCell::new(World { seconds, exit_code, ..World::default() }),
        spec: manifest::read(text, &"hello".parse().unwrap(), &"prod".parse().unwrap()).unwrap(),
        calls: Cell::new(0),
        cut: Cell::new(None),
    }
}

async fn pass(fake: &Fake) -> Result<Pass<Summary>, Error> {
    let run = Run {
        app: "hello".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        component: "service/api".parse().unwrap(),
        artifact: Artifact::Image { repository: "hello-api".parse().unwrap(), digest: "sha256:a1".parse().unwrap() },
        release: "20261121T031542123-3f9c2a".parse().unwrap(),
        fence: 1,
    };
    let surroundings = Surroundings { region: "eu-west-1".to_owned(), registry_mirror: None };
    let now = at(fake.world.borrow().now);
    handle(fake, &surroundings, PassInput { run, action: Ask::Migrate }, now).await
}

/// The machine: passes until the end, again after what a retry can help.
async fn finish(fake: &Fake) -> Result<Summary, Error> {
    for _ in 0..100 {
        match pass(fake).await {
            Ok(Pass::Done(summary)) => return Ok(summary),
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

#[tokio::test]
async fn a_migration_that_ends_with_0_is_done_and_never_runs_again() {
    let fake = cloud(12, Some(0));
    let summary = finish(&fake).await.unwrap();
    assert_eq!(summary.note, "the migration of `api` ended with exit code 0");
    assert_eq!(finish(&fake).await.unwrap(), summary);
    assert_eq!(writes(&fake), ["register", "run"]);
    assert_eq!(fake.world.borrow().steps, ["started the migration as task 0", "the migration ended with exit code 0"]);
}

#[tokio::test]
async fn one_that_is_over_before_anybody_looked_is_judged_by_its_end() {
    assert!(finish(&cloud(0, Some(0))).await.is_ok());
    assert_eq!(finish(&cloud(0, Some(3))).await.unwrap_err().failure(), Failure::Migration);
}

#[tokio::test]
async fn a_failure_tells_exit_code_reason_and_log_and_stays_one() {
    let fake = cloud(5, Some(1));
    fake.world.borrow_mut().log_lag = 1;
    let failed = finish(&fake).await.unwrap_err();
    assert_eq!(failed.failure(), Failure::Migration);
    let expected = "the migration of `api` failed, and the service was not touched: the reason (exit code 1); last log lines: relation users exists";
    assert_eq!(failed.to_string(), expected);
    assert_eq!(finish(&fake).await.unwrap_err().to_string(), expected);
    assert_eq!(writes(&fake), ["register", "run"]);
}

#[tokio::test]
async fn without_an_exit_code_it_failed() {
    let fake = cloud(5, None);
    fake.world.borrow_mut().log_lag = 9;
    let failed = finish(&fake).await.unwrap_err();
    assert_eq!(failed.failure(), Failure::Migration);
    assert!(failed.to_string().ends_with("the reason (no exit code: the container never ran)"), "{failed}");
}

#[tokio::test]
async fn one_that_hangs_is_stopped_and_waited_for() {
    let fake = cloud(10_000, Some(0));
    let failed = finish(&fake).await.unwrap_err();
    assert!(failed.to_string().contains("it did not end within 60 seconds"), "{failed}");
    assert_eq!(writes(&fake), ["register", "run", "stop"]);
    assert!(fake.world.borrow().tasks[0].0.stopped());
}

#[tokio::test]
async fn a_lost_claim_ends_the_run_before_it_does_anything() {
    let fake = cloud(5, Some(0));
    fake.world.borrow_mut().claim_lost = true;
    assert_eq!(pass(&fake).await.unwrap_err().failure(), Failure::Superseded);
    assert_eq!(fake.calls.get(), 0);
}

#[tokio::test]
async fn a_task_that_cannot_be_placed_is_asked_for_again_or_not_by_its_reason() {
    let fake = cloud(5, Some(0));
    fake.world.borrow_mut().refusals = vec!["RESOURCE:ENI", "Capacity is unavailable at this time."];
    assert!(finish(&fake).await.is_ok());
    assert_eq!(fake.world.borrow().tasks[0].1, "20261121T031542123-3f9c2a-2");
    let table = [
        ("You've reached the limit on the number of vCPUs you can run concurrently", Failure::Quota),
        ("INACTIVE", Failure::Conflict),
        ("RESOURCE:MEMORY", Failure::Transient),
    ];
    for (reason, failure) in table {
        let fake = cloud(5, Some(0));
        fake.world.borrow_mut().refusals = vec![reason];
        assert_eq!(pass(&fake).await.unwrap_err().failure(), failure, "{reason}");
    }
}

#[tokio::test]
async fn a_service_without_a_migration_is_done() {
    let mut fake = cloud(5, Some(0));
    fake.spec.services.values_mut().next().unwrap().migrate = None;
    assert!(finish(&fake).await.is_ok());
    assert_eq!(writes(&fake), [""; 0]);
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_it_runs_once_and_ends_the_same() {
    for (seconds, exit_code, expected) in
        [(12, Some(0), None), (12, Some(2), Some("exit code 2")), (10_000, Some(0), Some("within 60 seconds"))]
    {
        for lag in [0, 8] {
            for after in [false, true] {
                for number in 1.. {
                    let fake = cloud(seconds, exit_code);
                    fake.world.borrow_mut().lag = lag;
                    fake.cut.set(Some((number, after)));
                    let story = format!("call {number}, after: {after}, lag {lag}");
                    match (finish(&fake).await, expected) {
                        (Ok(_), None) => {}
                        (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{story}: {error}"),
                        (other, _) => panic!("{story}: {other:?}"),
                    }
                    let runs = writes(&fake);
                    assert_eq!(runs[..2], ["register", "run"], "{story}");
                    assert_eq!(runs.len(), if seconds > 60 { 3 } else { 2 }, "{story}");
                    assert_eq!(fake.world.borrow().tasks.len(), 1);
                    if fake.calls.get() < number {
                        break;
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn another_manifest_half_way_changes_nothing() {
    let mut fake = cloud(12, Some(0));
    pass(&fake).await.unwrap();
    fake.spec.services.clear();
    assert!(finish(&fake).await.is_ok());
    assert_eq!(writes(&fake), ["register", "run"]);
}
