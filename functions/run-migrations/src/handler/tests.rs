//! Passes over an ECS in memory that runs tasks, refuses them, shows them late, and loses its answers.

use std::collections::BTreeMap;

use serde_json::json;
use shipway_aws::{
    runtime::answer,
    testing::{Cuts, SYSTEMS, are_refused, begin, cut_everywhere, end},
};
use shipway_domain::{
    release::{Artifact, Outcome},
    task::{Capacity, TaskContainer},
};
use shipway_ecs::testing::{Definition, first_releases, platform};

use super::*;

#[derive(Clone, Default)]
struct World {
    now: i64,
    /// How long the migration takes, and how it ends; without an exit code its container never ran.
    seconds: i64,
    exit_code: Option<i32>,
    /// How its verification, or the second smoke test, ends, where that differs.
    of_verify: Option<i32>,
    /// Its log comes so many looks late.
    log_lag: u32,
    /// ListTasks and DescribeTasks do not show what is younger than this.
    lag: i64,
    refusals: Vec<&'static str>,
    definitions: Vec<Definition>,
    /// Where each task was to run.
    placements: Vec<Placement>,
    /// Each with the token it was asked for under.
    tasks: Vec<(Task, String)>,
    /// By name, each with what it is a snapshot of, and when it was asked for.
    snapshots: BTreeMap<String, (Snapshot, DatabaseEngine, i64)>,
    /// How long a snapshot takes.
    saving: i64,
    /// RDS refuses to take one so often, as the server is being changed.
    busy: u32,
    writes: Vec<String>,
}

type Fake = shipway_ecs::testing::Fake<World>;

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
                task.containers[0].exit_code = match self.of_verify {
                    Some(of_verify) if [" verify", " smoke_2"].contains(&kind_of(&task.task_definition).as_str()) => {
                        Some(of_verify)
                    }
                    _ => self.exit_code,
                };
            }
        }
    }

    fn shown(&self) -> impl Iterator<Item = &Task> {
        let newest = at(self.now - self.lag);
        self.tasks.iter().map(|(task, _)| task).filter(move |task| task.created_at.unwrap() <= newest)
    }
}

impl Calls for Fake {
    async fn task_definition(&self, name: &str) -> Result<Option<DescribedTaskDefinition>, AwsError> {
        self.look(|world| {
            let mut newest = world.definitions.iter().rev();
            let found = newest.find(|one| one.described.arn == name || one.family == name);
            found.map(|one| one.described.clone())
        })
    }

    async fn register(&self, wanted: &TaskDefinition) -> Result<String, AwsError> {
        self.write(|world| {
            let arn = format!(
                "arn:aws:ecs:eu-west-1:123456789012:task-definition/{}:{}",
                wanted.family,
                world.definitions.len() + 1
            );
            world.writes.push(format!("register{}", kind_of(&wanted.family)));
            world.definitions.push(Definition::of(wanted, &arn));
            arn
        })
    }

    async fn find(&self, _: &str, family: &str, started_by: &str) -> Result<Option<String>, AwsError> {
        assert!(self.world.borrow().definitions.iter().any(|one| one.family == family));
        self.look(|world| {
            let is_it = |task: &&Task| {
                task.started_by.as_deref() == Some(started_by) && task.task_definition.contains(&format!("/{family}:"))
            };
            world.shown().find(is_it).map(|task| task.arn.clone())
        })
    }

    async fn run(&self, new: NewTask<'_>) -> Result<Placed, AwsError> {
        let Run { app, environment, component, .. } = new.run;
        let state = self.aside.component(app, environment, component).await.unwrap();
        let of_databases = new.task_definition.contains("_databases:");
        assert!(state.claim.unwrap().committed || of_databases);
        assert!(new.token.len() <= 64 && new.started_by.len() <= 128);
        self.write(|world| {
            if let Some((task, _)) = world.tasks.iter().find(|(_, token)| token == new.token) {
                return Placed::Task(task.arn.clone());
            }
            if let Some(reason) = world.refusals.pop() {
                return Placed::Refused(reason.to_owned());
            }
            world.writes.push(format!("run{}", kind_of(new.task_definition)));
            world.placements.push(new.placement.clone());
            let known = world.definitions.iter().find(|one| one.described.arn == new.task_definition);
            let container = known.unwrap().says("/name").to_owned();
            let arn = format!("arn:aws:ecs:eu-west-1:123456789012:task/hello-prod/{}", world.tasks.len());
            let task = Task {
                arn: arn.clone(),
                task_definition: new.task_definition.to_owned(),
                started_by: Some(new.started_by.to_owned()),
                created_at: Some(at(world.now)),
                status: "RUNNING".to_owned(),
                stopped_reason: Some("the reason".to_owned()),
                containers: vec![TaskContainer { name: container, ..TaskContainer::default() }],
                ..Task::default()
            };
            world.tasks.push((task, new.token.to_owned()));
            Placed::Task(arn)
        })
    }

    async fn task(&self, _: &str, arn: &str) -> Result<Option<Task>, AwsError> {
        self.look(|world| world.shown().find(|task| task.arn == arn).cloned())
    }

    async fn stop(&self, _: &str, arn: &str) -> Result<(), AwsError> {
        self.write(|world| {
            let (task, _) = world.tasks.iter_mut().find(|(task, _)| task.arn == arn).unwrap();
            if !task.stopping {
                world.writes.push("stop".to_owned());
            }
            task.stopping = true;
        })
    }

    async fn log_tail(&self, group: &str, stream: &str) -> Result<Vec<String>, AwsError> {
        let logs_there = |one: &Definition| {
            let log = |option| one.says(&format!("/logConfiguration/options/awslogs-{option}"));
            log("group") == group && stream.starts_with(&format!("{}/{}/", log("stream-prefix"), one.says("/name")))
        };
        assert!(self.world.borrow().definitions.iter().any(logs_there), "{group} {stream}");
        self.look(|world| {
            if world.log_lag > 0 {
                world.log_lag -= 1;
                return Vec::new();
            }
            vec!["relation users exists".to_owned()]
        })
    }

    async fn snapshot(&self, engine: DatabaseEngine, name: &str) -> Result<Option<Snapshot>, AwsError> {
        self.look(|world| {
            let (found, _, asked) = world.snapshots.get(name).filter(|(_, of, _)| *of == engine)?;
            let is_there = world.now - asked >= world.saving && found.status == "creating";
            Some(Snapshot { status: if is_there { "available" } else { &found.status }.to_owned(), ..found.clone() })
        })
    }

    async fn take_snapshot(&self, new: NewSnapshot<'_>) -> Result<Option<String>, AwsError> {
        self.write(|world| {
            if world.busy > 0 {
                world.busy -= 1;
                return Some("it is being changed".to_owned());
            }
            if world.snapshots.contains_key(new.name) {
                return Some("it is there already".to_owned());
            }
            world.writes.push(format!("snapshot {} {:?}", new.of, new.engine));
            let made =
                Snapshot { of: new.of.to_owned(), status: "creating".to_owned(), percent: 10, tags: new.tags.clone() };
            world.snapshots.insert(new.name.to_owned(), (made, new.engine, world.now));
            None
        })
    }
}

/// What a family's, or a revision's, tasks are for.
fn kind_of(family: &str) -> String {
    let of = |kind: &&str| family.contains(&format!("_{kind}"));
    ["databases", "seed", "verify", "smoke_1", "smoke_2"]
        .iter()
        .find(|kind| of(kind))
        .map(|kind| format!(" {kind}"))
        .unwrap_or_default()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

const MANIFEST: &str = "version: 1
app: hello
environments: {prod: {}}
services:
  api: {image: {repository: hello-api}, port: 8080, migrate: {command: [migrate], timeout: 1m}}
";

fn the_run() -> Run {
    Run {
        app: "hello".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        component: "service/api".parse().unwrap(),
        artifact: Artifact::Image { repository: "hello-api".parse().unwrap(), digest: "sha256:a1".parse().unwrap() },
        release: "20261121T031542123-3f9c2a".parse().unwrap(),
        fence: 1,
        repair: false,
    }
}

async fn cloud(seconds: i64, exit_code: Option<i32>) -> Fake {
    let fake = Fake::with_platform(World { seconds, exit_code, ..World::default() }, MANIFEST).await;
    begin(&fake.aside, &the_run()).await;
    fake
}

async fn pass(fake: &Fake) -> Result<Pass<Summary>, Error> {
    pass_of(fake, the_run(), Ask::Migrate).await
}

async fn pass_of(fake: &Fake, run: Run, action: Ask) -> Result<Pass<Summary>, Error> {
    let surroundings = Surroundings { region: "eu-west-1".to_owned(), registry_mirror: None };
    let now = at(fake.world.borrow().now);
    fake.line.end_pass(Box::pin(handle(&fake.store, fake, &surroundings, PassInput { run, action }, now)).await)
}

async fn finish(fake: &Fake) -> Result<Summary, Error> {
    finish_of(fake, the_run(), Ask::Migrate).await
}

/// The machine: passes until the end, again after what a retry can help.
async fn finish_of(fake: &Fake, run: Run, action: Ask) -> Result<Summary, Error> {
    for _ in 0..100 {
        match pass_of(fake, run.clone(), action).await {
            Ok(Pass::Done(summary)) => return Ok(summary),
            Ok(Pass::Again { .. }) => fake.world.borrow_mut().tick(),
            Err(error) if error.failure().retryable() => {}
            Err(error) => return Err(error),
        }
    }
    panic!("no end: {:?}", fake.steps(&the_run()).await);
}

/// The same by another release.
async fn by_a_new_execution(fake: &Fake, action: Ask) -> Result<Summary, Error> {
    by_an_execution_after(fake, the_run(), action).await
}

/// A new execution of what was cut ends as well. It registers nothing and makes no database again, but runs what each release runs, in
/// the same order: what was to be migrated or looked at then may have changed since. Answers how many calls were made with these cuts.
async fn over(fake: &Fake, action: Ask, cut: Cuts) -> usize {
    let (calls, made) = (fake.line.calls(), writes(fake));
    assert!(by_a_new_execution(fake, action).await.is_ok(), "{cut:?}: a new execution");
    let again = made.iter().filter(|one| !one.starts_with("register") && !one.ends_with("databases"));
    assert_eq!(writes(fake), made.iter().chain(again).cloned().collect::<Vec<_>>(), "{cut:?}: a new execution");
    calls
}

async fn by_an_execution_after(fake: &Fake, ended: Run, action: Ask) -> Result<Summary, Error> {
    fake.line.cut(None);
    end(&fake.aside, &ended, Outcome::Failed).await;
    let next = Run { release: "20261121T041542123-3f9c2a".parse().unwrap(), fence: 2, ..ended };
    begin(&fake.aside, &next).await;
    finish_of(fake, next, action).await
}

fn writes(fake: &Fake) -> Vec<String> {
    fake.world.borrow().writes.clone()
}

#[tokio::test]
async fn a_migration_that_ends_with_0_is_done_and_never_runs_again() {
    let fake = cloud(12, Some(0)).await;
    let summary = finish(&fake).await.unwrap();
    assert_eq!(summary.note, "the migration of `api` ended with exit code 0");
    assert_eq!(finish(&fake).await.unwrap(), summary);
    assert_eq!(writes(&fake), ["register", "run"]);
    assert_eq!(
        fake.steps(&the_run()).await,
        ["started the migration as task 0", "the migration ended with exit code 0"]
    );
}

#[tokio::test]
async fn one_that_is_over_before_anybody_looked_is_judged_by_its_end() {
    assert!(finish(&cloud(0, Some(0)).await).await.is_ok());
    assert_eq!(finish(&cloud(0, Some(3)).await).await.unwrap_err().failure(), Failure::Migration);
}

#[tokio::test]
async fn a_failure_tells_exit_code_reason_and_log_and_stays_one() {
    let fake = cloud(5, Some(1)).await;
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
    let fake = cloud(5, None).await;
    fake.world.borrow_mut().log_lag = 9;
    let failed = finish(&fake).await.unwrap_err();
    assert_eq!(failed.failure(), Failure::Migration);
    assert!(failed.to_string().ends_with("the reason (no exit code: the container never ran)"), "{failed}");
}

#[tokio::test]
async fn one_that_hangs_is_stopped_and_waited_for() {
    let fake = cloud(10_000, Some(0)).await;
    let failed = finish(&fake).await.unwrap_err();
    assert!(failed.to_string().contains("it did not end within 60 seconds"), "{failed}");
    assert_eq!(writes(&fake), ["register", "run", "stop"]);
    assert!(fake.world.borrow().tasks[0].0.stopped());
}

#[tokio::test]
async fn a_lost_claim_ends_the_run_before_it_does_anything() {
    let fake = cloud(5, Some(0)).await;
    begin(&fake.aside, &Run { release: "20261121T031542124-3f9c2a".parse().unwrap(), fence: 2, ..the_run() }).await;
    assert_eq!(pass(&fake).await.unwrap_err().failure(), Failure::Superseded);
    assert_eq!((fake.line.calls(), writes(&fake)), (1, Vec::new()));
}

#[tokio::test]
async fn a_task_that_cannot_be_placed_is_asked_for_again_or_not_by_its_reason() {
    let fake = cloud(5, Some(0)).await;
    fake.world.borrow_mut().refusals = vec!["RESOURCE:ENI", "Capacity is unavailable at this time."];
    assert!(finish(&fake).await.is_ok());
    assert_eq!(fake.world.borrow().tasks[0].1, "20261121T031542123-3f9c2a-2");
    let table = [
        ("You've reached the limit on the number of vCPUs you can run concurrently", Failure::Quota),
        ("INACTIVE", Failure::Conflict),
        ("RESOURCE:MEMORY", Failure::Transient),
    ];
    for (reason, failure) in table {
        let fake = cloud(5, Some(0)).await;
        fake.world.borrow_mut().refusals = vec![reason];
        assert_eq!(pass(&fake).await.unwrap_err().failure(), failure, "{reason}");
    }
}

#[tokio::test]
async fn a_service_without_a_migration_is_done() {
    let fake = cloud(5, Some(0)).await;
    platform(&fake.aside, &MANIFEST.replace(", migrate: {command: [migrate], timeout: 1m}", "")).await;
    assert!(finish(&fake).await.is_ok());
    assert_eq!(writes(&fake), [""; 0]);
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_it_runs_once_and_ends_the_same() {
    for (seconds, exit_code, expected) in
        [(12, Some(0), None), (12, Some(2), Some("exit code 2")), (10_000, Some(0), Some("within 60 seconds"))]
    {
        for lag in [0, 8] {
            cut_everywhere(async |cut| {
                let fake = cloud(seconds, exit_code).await;
                fake.world.borrow_mut().lag = lag;
                fake.line.cut(cut);
                let story = format!("{cut:?}, lag {lag}");
                match (finish(&fake).await, expected) {
                    (Ok(_), None) => {}
                    (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{story}: {error}"),
                    (other, _) => panic!("{story}: {other:?}"),
                }
                let hangs = seconds > 60;
                let (runs, steps) = (writes(&fake), fake.steps(&the_run()).await);
                assert_eq!(runs[..2], ["register", "run"], "{story}");
                assert_eq!(runs.len(), if hangs { 3 } else { 2 }, "{story}");
                assert_eq!(steps.len(), if hangs { 3 } else { 2 }, "{story}: {steps:?}");
                assert_eq!(fake.world.borrow().tasks.len(), 1);
                let calls = fake.line.calls();
                let again = by_a_new_execution(&fake, Ask::Migrate).await;
                assert_eq!(again.is_ok(), expected.is_none(), "{story}: a new execution");
                assert_eq!(
                    writes(&fake),
                    ["register", "run", "stop", "run", "stop"]
                        .into_iter()
                        .filter(|one| hangs || *one != "stop")
                        .collect::<Vec<_>>(),
                    "{story}: a new execution"
                );
                calls
            })
            .await;
        }
    }
}

#[tokio::test]
async fn the_migrations_of_the_five_systems_come_to_the_same_whatever_becomes_of_a_call() {
    let mut made = Vec::new();
    for (manifest, exit_code) in SYSTEMS.into_iter().flat_map(|manifest| [(manifest, 0), (manifest, 2)]) {
        for run in first_releases(manifest) {
            let told = async |cut: Cuts| {
                let world = World { seconds: 7, lag: 8, exit_code: Some(exit_code), ..World::default() };
                let fake = Fake::with_platform(world, manifest).await;
                begin(&fake.aside, &run).await;
                fake.line.cut(cut);
                let went = finish_of(&fake, run.clone(), Ask::Migrate).await.map_err(|error| error.failure());
                let steps = fake.steps(&run).await.len();
                (went, writes(&fake), steps, fake)
            };
            let (went, wrote, steps, _) = told(Cuts::default()).await;
            Box::pin(cut_everywhere(async |cut| {
                let told = told(cut).await;
                let context = format!("{} in {}, {exit_code}, {cut:?}", run.component, run.app);
                assert_eq!((&told.0, &told.1, told.2), (&went, &wrote, steps), "{context}");
                let fake = told.3;
                let calls = fake.line.calls();
                let again = by_an_execution_after(&fake, run.clone(), Ask::Migrate).await;
                assert_eq!(again.map_err(|error| error.failure()), went, "{context}: a new execution");
                // Each release migrates, and makes what databases are missing.
                let runs = |one: &&String| one.starts_with("run") && (exit_code != 0 || *one != "run databases");
                let all: Vec<_> = wrote.iter().chain(wrote.iter().filter(runs)).cloned().collect();
                assert_eq!(writes(&fake), all, "{context}: a new execution");
                fake.world.borrow().definitions.iter().for_each(|one| one.assert_is_of(&run));
                calls
            }))
            .await;
            made.extend(wrote.into_iter().filter(|one| exit_code == 0 && one.starts_with("run")));
        }
    }
    assert_eq!(made, ["run", "run", "run databases"]);
}

#[tokio::test]
async fn another_manifest_half_way_changes_nothing() {
    let fake = cloud(12, Some(0)).await;
    pass(&fake).await.unwrap();
    platform(&fake.aside, &MANIFEST.replace("api:", "other:")).await;
    assert!(finish(&fake).await.is_ok());
    assert_eq!(writes(&fake), ["register", "run"]);
}

/// `api` uses a further database of each of two servers.
const WITH_DATABASES: &str = "version: 1
app: hello
environments: {prod: {}}
databases:
  main: {engine: postgres, version: \"15\", class: db.t4g.micro, names: [first, second]}
  other: {engine: aurora_postgres, version: \"16\", capacity: {min: 0.5, max: 1}, names: [third, fourth]}
services:
  api:
    image: {repository: hello-api}
    port: 8080
    secrets: {A: {ref: databases.main.second.url}, B: {ref: databases.other.fourth.url}, C: {ref: databases.main.url}}
    migrate: {command: [migrate], timeout: 1m}
";

async fn with_databases(seconds: i64, exit_code: Option<i32>) -> Fake {
    let fake = cloud(seconds, exit_code).await;
    platform(&fake.aside, WITH_DATABASES).await;
    fake
}

const DATABASES: [&str; 4] = ["register databases", "run databases", "register databases", "run databases"];

#[tokio::test]
async fn databases_are_made_before_the_migration_and_never_again() {
    let fake = with_databases(3, Some(0)).await;
    assert!(finish(&fake).await.is_ok());
    assert_eq!(writes(&fake), [&DATABASES[..], &["register", "run"]].concat());
    let expected = [
        "started to make the databases second on `main`, as task 0",
        "the databases second on `main` are there",
        "started to make the databases fourth on `other`, as task 1",
        "the databases fourth on `other` are there",
        "started the migration as task 2",
        "the migration ended with exit code 0",
    ];
    assert_eq!(fake.steps(&the_run()).await, expected);
    end(&fake.aside, &the_run(), Outcome::Succeeded).await;
    fake.world.borrow_mut().writes.clear();
    let next = Run { release: "20261121T041542123-3f9c2a".parse().unwrap(), fence: 2, ..the_run() };
    begin(&fake.aside, &next).await;
    let summary = finish_of(&fake, next, Ask::Databases).await.unwrap();
    assert_eq!(summary.note, "the databases that `api` uses are there");
    assert_eq!(writes(&fake), [""; 0]);
}

#[tokio::test]
async fn making_databases_alone_lets_a_newer_release_take_over_and_runs_no_migration() {
    let fake = with_databases(3, Some(0)).await;
    finish_of(&fake, the_run(), Ask::Databases).await.unwrap();
    assert_eq!(writes(&fake), DATABASES);
    let Run { app, environment, component, .. } = the_run();
    let state = fake.aside.component(&app, &environment, &component).await.unwrap();
    assert!(!state.claim.unwrap().committed);
}

#[tokio::test]
async fn a_database_that_cannot_be_made_is_named_and_tried_again_by_the_next_release() {
    let fake = with_databases(3, Some(2)).await;
    let failed = finish(&fake).await.unwrap_err();
    let expected = "making the databases second on `main` failed, and `api` was not touched: the reason (exit code 2); last log lines: relation users exists";
    assert_eq!((failed.failure(), failed.to_string().as_str()), (Failure::Migration, expected));
    assert_eq!(finish(&fake).await.unwrap_err().to_string(), expected);
    assert_eq!(writes(&fake), ["register databases", "run databases"]);
    let next = Run { release: "20261121T041542123-3f9c2a".parse().unwrap(), fence: 2, ..the_run() };
    begin(&fake.aside, &next).await;
    fake.world.borrow_mut().exit_code = Some(0);
    assert!(finish_of(&fake, next, Ask::Migrate).await.is_ok());
}

#[tokio::test]
async fn a_server_that_was_not_provisioned_is_missed() {
    let fake = with_databases(3, Some(0)).await;
    platform(&fake.aside, &WITH_DATABASES.replace("other", "another")).await;
    let missing = finish(&fake).await.unwrap_err();
    assert_eq!(missing.failure(), Failure::Conflict);
    assert!(missing.to_string().contains("a database of `api` is not there yet"), "{missing}");
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_each_database_is_made_once() {
    for lag in [0, 8] {
        cut_everywhere(async |cut| {
            let fake = with_databases(7, Some(0)).await;
            fake.world.borrow_mut().lag = lag;
            fake.line.cut(cut);
            let summary = finish_of(&fake, the_run(), Ask::Databases).await;
            assert!(summary.is_ok(), "{cut:?}, lag {lag}");
            assert_eq!(writes(&fake), DATABASES, "{cut:?}, lag {lag}");
            assert_eq!(fake.steps(&the_run()).await.len(), 4, "{cut:?}, lag {lag}");
            over(&fake, Ask::Databases, cut).await
        })
        .await;
    }
}

#[tokio::test]
async fn a_migration_runs_where_the_service_does_but_not_on_spot_capacity() {
    let run_on = async |cluster: &str| {
        let fake = cloud(0, Some(0)).await;
        platform(&fake.aside, &MANIFEST.replace("services:", &format!("cluster: {cluster}\nservices:"))).await;
        assert!(finish(&fake).await.is_ok());
        fake.world.borrow().placements[0].clone()
    };
    let instances = run_on("{ec2: {instance_type: t3.small}}").await;
    assert_eq!(instances.interfaces, None);
    assert!(matches!(&instances.capacity, Capacity::Providers(providers) if providers.contains_key("hello-prod")));
    let spot = run_on("{capacity: fargate_spot}").await;
    assert!(spot.interfaces.unwrap().public_address);
    assert_eq!(spot.capacity, Capacity::Fargate);
}

async fn with_all_parts(seconds: i64) -> Fake {
    let fake = cloud(seconds, Some(0)).await;
    let all = "{command: [migrate], seed: [put], verify: [look], timeout: 1m}";
    platform(&fake.aside, &MANIFEST.replace("{command: [migrate], timeout: 1m}", all)).await;
    fake
}

const ALL_PARTS: [&str; 6] = ["register", "register seed", "register verify", "run", "run seed", "run verify"];

#[tokio::test]
async fn seed_and_verification_follow_the_migration_each_in_a_task_of_its_own_and_never_again() {
    let fake = with_all_parts(7).await;
    let summary = finish(&fake).await.unwrap();
    assert_eq!(summary.note, "the migration of `api` and its seed and verification ended with exit code 0");
    assert_eq!(finish(&fake).await.unwrap(), summary);
    assert_eq!(writes(&fake), ALL_PARTS);
    let expected = [
        "started the migration as task 0",
        "the migration ended with exit code 0",
        "started the seed as task 1",
        "the seed ended with exit code 0",
        "started the verification as task 2",
        "the verification ended with exit code 0",
    ];
    assert_eq!(fake.steps(&the_run()).await, expected);
    let names: Vec<_> = fake.world.borrow().tasks.iter().map(|(task, _)| task.started_by.clone().unwrap()).collect();
    let release = the_run().release;
    assert_eq!(names, [release.to_string(), format!("{release}_seed"), format!("{release}_verify")]);
}

#[tokio::test]
async fn a_part_that_fails_ends_the_migration_and_what_comes_after_it_does_not_run() {
    let fake = with_all_parts(7).await;
    fake.world.borrow_mut().exit_code = Some(1);
    let failed = finish(&fake).await.unwrap_err();
    assert!(failed.to_string().starts_with("the migration of `api` failed"), "{failed}");
    assert_eq!(writes(&fake), ALL_PARTS[..4]);
    let fake = with_all_parts(7).await;
    fake.world.borrow_mut().of_verify = Some(4);
    let failed = finish(&fake).await.unwrap_err();
    let expected = "the verification of `api` failed, and the service was not touched: the reason (exit code 4); last log lines: relation users exists";
    assert_eq!((failed.failure(), failed.to_string().as_str()), (Failure::Migration, expected));
    assert_eq!(finish(&fake).await.unwrap_err().to_string(), expected);
    assert_eq!(writes(&fake), ALL_PARTS);
}

#[tokio::test]
async fn a_seed_that_hangs_is_stopped_in_its_own_time() {
    let fake = with_all_parts(50).await;
    assert!(finish(&fake).await.is_ok(), "150 seconds together, and each has 60");
    let fake = with_all_parts(7).await;
    while fake.world.borrow().tasks.len() < 2 {
        pass(&fake).await.unwrap();
        fake.world.borrow_mut().tick();
    }
    fake.world.borrow_mut().seconds = 10_000;
    let failed = finish(&fake).await.unwrap_err().to_string();
    assert!(failed.starts_with("the seed of `api` failed") && failed.contains("within 60 seconds"), "{failed}");
    assert!(fake.world.borrow().tasks[1].0.stopped());
}

#[tokio::test]
async fn another_manifest_after_the_migration_began_changes_nothing_about_what_follows() {
    let fake = with_all_parts(7).await;
    pass(&fake).await.unwrap();
    platform(&fake.aside, MANIFEST).await;
    assert!(finish(&fake).await.is_ok());
    assert_eq!(writes(&fake), ALL_PARTS);
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_each_part_runs_once_in_its_order() {
    for lag in [0, 8] {
        cut_everywhere(async |cut| {
            let fake = with_all_parts(7).await;
            fake.world.borrow_mut().lag = lag;
            fake.line.cut(cut);
            let summary = finish(&fake).await;
            assert!(summary.is_ok(), "{cut:?}, lag {lag}");
            assert_eq!(writes(&fake), ALL_PARTS, "{cut:?}, lag {lag}");
            assert_eq!(fake.steps(&the_run()).await.len(), 6, "{cut:?}, lag {lag}");
            over(&fake, Ask::Migrate, cut).await
        })
        .await;
    }
}

const OF_MAIN: &str = "shipway-20261121t031542123-3f9c2a-main";

/// The same with snapshots before.
async fn with_snapshots() -> Fake {
    let fake = cloud(3, Some(0)).await;
    platform(&fake.aside, &WITH_DATABASES.replace("timeout: 1m", "timeout: 1m, snapshot: true")).await;
    fake.world.borrow_mut().saving = 100;
    fake
}

const SNAPSHOTS: [&str; 2] = ["snapshot hello-prod-main Postgres", "snapshot hello-prod-other AuroraPostgres"];

#[tokio::test]
async fn a_snapshot_of_each_database_is_there_before_anything_runs() {
    let fake = with_snapshots().await;
    assert!(finish(&fake).await.is_ok());
    assert!(finish(&fake).await.is_ok());
    assert_eq!(writes(&fake), [&SNAPSHOTS[..], &DATABASES, &["register", "run"]].concat());
    let steps = fake.steps(&the_run()).await;
    assert_eq!(steps[0], format!("the snapshot {OF_MAIN} of the database main is there"));
    assert_eq!(steps.len(), 8);
    let world = fake.world.borrow();
    let (snapshot, ..) = &world.snapshots[OF_MAIN];
    let tags: Vec<_> = snapshot.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let expected = [
        "shipway:app=hello",
        "shipway:component=service/api",
        "shipway:environment=prod",
        "shipway:release=20261121T031542123-3f9c2a",
    ];
    assert_eq!(tags, expected);
    assert!(world.tasks.iter().all(|(task, _)| task.created_at.unwrap() >= at(100)));
}

#[tokio::test]
async fn a_database_that_is_being_changed_is_waited_for() {
    let fake = with_snapshots().await;
    fake.world.borrow_mut().busy = 3;
    assert!(finish(&fake).await.is_ok());
    assert_eq!(writes(&fake).len(), 8);
}

#[tokio::test]
async fn without_its_snapshot_nothing_is_migrated() {
    let fake = with_snapshots().await;
    pass(&fake).await.unwrap();
    fake.world.borrow_mut().snapshots.get_mut(OF_MAIN).unwrap().0.status = "failed".to_owned();
    let failed = finish(&fake).await.unwrap_err();
    let expected = format!(
        "the snapshot {OF_MAIN} of the database main failed, so nothing was migrated and `api` was not touched: RDS says it is `failed`"
    );
    assert_eq!((failed.failure(), failed.to_string()), (Failure::Migration, expected));
    assert_eq!(writes(&fake), SNAPSHOTS);

    let fake = with_snapshots().await;
    fake.world.borrow_mut().saving = i64::MAX;
    pass(&fake).await.unwrap();
    fake.world.borrow_mut().now = 6 * 3600;
    let failed = pass(&fake).await.unwrap_err();
    assert!(failed.to_string().contains("it was not there within 6 hours: it is `creating`"), "{failed}");
    assert_eq!((failed.failure(), writes(&fake).len()), (Failure::Migration, 2));
}

#[tokio::test]
async fn a_snapshot_of_the_same_name_that_another_took_is_refused() {
    let fake = with_snapshots().await;
    let others = Snapshot { of: "hello-prod-main".to_owned(), status: "available".to_owned(), ..Snapshot::default() };
    fake.world.borrow_mut().snapshots.insert(OF_MAIN.to_owned(), (others, DatabaseEngine::Postgres, 0));
    let refused = finish(&fake).await.unwrap_err();
    assert_eq!(refused.failure(), Failure::Conflict);
    assert!(refused.to_string().contains("that this release did not take"), "{refused}");
    assert_eq!(writes(&fake), [""; 0]);
}

#[tokio::test]
async fn what_was_live_before_is_not_migrated_and_not_saved() {
    let fake = with_snapshots().await;
    assert!(finish_of(&fake, the_run(), Ask::Databases).await.is_ok());
    assert_eq!(writes(&fake), DATABASES);
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_each_snapshot_is_taken_once() {
    cut_everywhere(async |cut| {
        let fake = with_snapshots().await;
        fake.world.borrow_mut().saving = 12;
        fake.line.cut(cut);
        assert!(finish(&fake).await.is_ok(), "{cut:?}");
        assert_eq!(writes(&fake), [&SNAPSHOTS[..], &DATABASES, &["register", "run"]].concat(), "{cut:?}");
        assert_eq!(fake.steps(&the_run()).await.len(), 8, "{cut:?}");
        over(&fake, Ask::Migrate, cut).await
    })
    .await;
}

const SMOKED: &str = "version: 1
app: hello
environments: {prod: {}}
services:
  api: {image: {repository: hello-api}, port: 8080, http: {}, smoke: [{path: /a}, {command: [look, here], timeout: 1m}, {command: [look]}]}
";

async fn smoked(seconds: i64) -> Fake {
    let fake = cloud(seconds, Some(0)).await;
    platform(&fake.aside, SMOKED).await;
    fake
}

async fn finish_smoke(fake: &Fake) -> Result<Summary, Error> {
    finish_of(fake, the_run(), Ask::Smoke).await
}

const SMOKE_TASKS: [&str; 4] = ["register smoke_2", "register smoke_1", "run smoke_1", "run smoke_2"];

#[tokio::test]
async fn cut_off_before_or_after_any_call_each_smoke_test_runs_once_in_its_turn() {
    cut_everywhere(async |cut| {
        let fake = smoked(7).await;
        fake.world.borrow_mut().lag = 6;
        fake.line.cut(cut);
        let summary = finish_smoke(&fake).await.unwrap();
        assert_eq!(summary.note, "2 smoke tests of `api` ended with exit code 0", "{cut:?}");
        assert_eq!(writes(&fake), SMOKE_TASKS, "{cut:?}");
        let steps = fake.steps(&the_run()).await;
        assert_eq!(steps.len(), 4, "{cut:?}: {steps:?}");
        assert_eq!(steps[0], "started the smoke test `look here` as task 0", "{cut:?}");
        assert!(steps[3].starts_with("the smoke test `look` ended with exit code 0, after "), "{cut:?}: {steps:?}");
        over(&fake, Ask::Smoke, cut).await
    })
    .await;
}

#[tokio::test]
async fn a_smoke_test_that_ends_with_1_fails_the_release_with_its_log_and_stays_failed() {
    let fake = smoked(5).await;
    fake.world.borrow_mut().of_verify = Some(1);
    let failed = finish_smoke(&fake).await.unwrap_err();
    let expected =
        "the smoke test `look` of `api` failed: the reason (exit code 1); last log lines: relation users exists";
    assert_eq!((failed.failure(), failed.to_string()), (Failure::Smoke, expected.to_owned()));
    assert_eq!(finish_smoke(&fake).await.unwrap_err().to_string(), expected);
    assert_eq!(writes(&fake), SMOKE_TASKS);
}

#[tokio::test]
async fn a_smoke_test_that_hangs_is_stopped_and_no_newer_release_takes_over_before() {
    let fake = smoked(10_000).await;
    let failed = finish_smoke(&fake).await.unwrap_err();
    assert!(failed.to_string().contains("it did not end within 60 seconds"), "{failed}");
    assert_eq!(writes(&fake), ["register smoke_2", "register smoke_1", "run smoke_1", "stop"]);
    let Run { app, environment, component, .. } = the_run();
    assert!(fake.aside.component(&app, &environment, &component).await.unwrap().claim.unwrap().committed);
}

#[tokio::test]
async fn another_manifest_half_way_changes_nothing_about_the_smoke_tests() {
    let fake = smoked(5).await;
    pass_of(&fake, the_run(), Ask::Smoke).await.unwrap();
    platform(&fake.aside, MANIFEST).await;
    assert!(finish_smoke(&fake).await.is_ok());
    assert_eq!(writes(&fake), SMOKE_TASKS);
}

#[tokio::test]
async fn an_input_that_no_machine_makes_is_refused_by_name_and_nothing_changes() {
    for action in ["migrate", "databases", "smoke"] {
        let valid = json!({"run": the_run(), "action": action});
        Box::pin(are_refused(&valid, &[], async |input| {
            let fake = cloud(12, Some(0)).await;
            let surroundings = Surroundings { region: "eu-west-1".to_owned(), registry_mirror: None };
            let pass = async |input| Box::pin(handle(&fake.store, &fake, &surroundings, input, at(0))).await;
            let answered = answer(&input, pass).await.map(|pass| json!(pass));
            (answered, format!("{:?} {}", writes(&fake), fake.aside.written()))
        }))
        .await;
    }
}
