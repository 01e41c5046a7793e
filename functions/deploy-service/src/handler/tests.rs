//! Passes over an ECS in memory that starts tasks, lets them fail, shows its changes late, and loses its answers.

mod shift;

use serde_json::json;
use shipway_aws::{
    runtime,
    testing::{Cuts, SYSTEMS, are_refused, begin, cut_everywhere, end},
};
use shipway_domain::{
    release::Artifact,
    rollout::{
        Deployment,
        attempt::{Stage, Status},
        shift::Traffic,
    },
    rotation::Rotated,
    task::TaskContainer,
};
use shipway_ecs::testing::{Definition, first_releases, platform};

use super::*;

const TARGET_GROUP: &str = shipway_ecs::testing::TARGET_GROUP;
const GOOD: &str = "sha256:a1";
const BETTER: &str = "sha256:a2";
const CRASHING: &str = "sha256:c1";
const SICK: &str = "sha256:c2";
const MISSING: &str = "sha256:c3";
/// Killed for its memory.
const HUNGRY: &str = "sha256:c4";
/// Wants a secret that nobody made.
const LOCKED: &str = "sha256:c5";
/// As ECS writes it.
const NO_SECRET: &str = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch secret arn:aws:secretsmanager:eu-west-1:123456789012:secret:hello/token from secrets manager: ResourceNotFoundException: Secrets Manager can't find the specified secret.";
/// Healthy for ten seconds, and then not.
const FICKLE: &str = "sha256:c6";
/// Healthy for a minute, and then not; ECS stops none of its tasks.
const AILING: &str = "sha256:c7";

#[derive(Clone, Default)]
struct World {
    now: i64,
    /// How many seconds more go by with each tick.
    longer: i64,
    /// What service() shows, for so many more looks, instead of what is.
    stale: (u32, Option<Service>),
    lag: u32,
    /// Whether ECS goes back by itself.
    rolls_back: bool,
    /// Whether an alarm that ends rollouts went off.
    alarm: bool,
    /// What ECS says of its newest service deployment, where it says anything.
    attempt: Option<Attempt>,
    /// A stage that it never leaves.
    stays: Option<Stage>,
    definitions: Vec<Definition>,
    scaling: scaling::Observed,
    service: Option<Service>,
    tasks: Vec<Task>,
    next: u32,
    /// The calls that change something in AWS, but for those that move tags.
    writes: Vec<String>,
    /// Where ECR's tags are.
    tags: BTreeMap<String, Digest>,
    /// How often one moved.
    moved: usize,
    /// Images that are not there any more.
    gone: Vec<Digest>,
    /// Whether tags may not move.
    immutable: bool,
    /// What others were told.
    told: Vec<String>,
}

type Fake = shipway_ecs::testing::Fake<World>;

impl World {
    fn definition(&self, arn: &str) -> &Definition {
        self.definitions.iter().find(|one| one.described.arn == arn).unwrap()
    }

    fn digest_of(&self, arn: &str) -> String {
        self.definition(arn).says("/image").split_once('@').map_or(GOOD, |(_, digest)| digest).to_owned()
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

    /// What an answer says of a deployment that began, or of the one that is there already.
    fn started(&mut self, id: String) -> Started {
        let service = self.service.as_mut().unwrap();
        if self.attempt.is_some() {
            service.attempt = Some(format!("arn:aws:ecs:r:1:service-deployment/{id}"));
        }
        Started::Deployment { id, attempt: service.attempt.clone() }
    }

    /// A deployment whose requests are to go over begins, where the service's do.
    fn shift(&mut self) {
        if self.service.as_ref().unwrap().settings.shift.is_some() {
            self.attempt =
                Some(Attempt { stage: Some(Stage::ScaleUp), share: Some(0), ..Attempt::of(Status::InProgress) });
        }
    }

    /// One stage further, once the new tasks run. A pause is as long as a stage.
    fn move_requests(&mut self, service: &mut Service) {
        let shift = service.settings.shift.unwrap();
        let primary = service.deployments.iter().position(|one| one.primary).unwrap();
        let is_well = self.digest_of(&service.deployments[primary].task_definition) != SICK;
        let stays = self.stays;
        let moves = |attempt: &&mut Attempt| attempt.status == Status::InProgress && attempt.stage != stays && is_well;
        let Some(attempt) = self.attempt.as_mut().filter(moves) else { return };
        let percent = match shift.traffic {
            Traffic::AllAtOnce => 100,
            Traffic::Canary { percent, .. } | Traffic::Linear { percent, .. } => percent,
        };
        let (stage, share) = match (attempt.stage.unwrap(), attempt.share.unwrap()) {
            (Stage::ScaleUp, _) => (Stage::PostTestTrafficShift, 0),
            (stage @ Stage::PostTestTrafficShift, _) if attempt.paused.is_some() => (stage, 0),
            (Stage::PostTestTrafficShift, _) => (Stage::ProductionTrafficShift, percent),
            (Stage::ProductionTrafficShift, share) if share < 100 => (Stage::ProductionTrafficShift, 100),
            (Stage::ProductionTrafficShift, _) => (Stage::BakeTime, 100),
            _ => (Stage::CleanUp, 100),
        };
        if stage == Stage::PostTestTrafficShift && attempt.stage == Some(Stage::ScaleUp) && shift.is_tested {
            attempt.paused = Some("hook-1".to_owned());
        }
        (attempt.stage, attempt.share) = (Some(stage), Some(share));
        if stage == Stage::CleanUp {
            attempt.status = Status::Successful;
            let revision = service.deployments[primary].task_definition.clone();
            self.tasks.retain(|task| task.stopped() || task.task_definition == revision);
            service.deployments.retain(|one| one.primary);
            service.deployments[0].completed = true;
        }
    }

    /// Requests go to the old tasks again, as ECS was asked to, and the new ones stop.
    fn go_back(&mut self, mut service: Service) {
        let given_up = service.deployments.remove(0).task_definition;
        let old = service.deployments[0].task_definition.clone();
        self.tasks.retain(|task| task.stopped() || task.task_definition != given_up);
        self.attempt = Some(Attempt::of(Status::RollbackSuccessful));
        self.service = Some(service);
        self.start(&old);
        let service = self.service.as_mut().unwrap();
        let running = service.deployments.remove(1).running;
        (service.deployments[0].running, service.running) = (running, running);
        service.deployments[0].completed = true;
    }

    /// Five seconds of ECS, or more.
    fn tick(&mut self) {
        self.now += 5 + self.longer;
        let Some(mut service) = self.service.take() else { return };
        let primary = service.deployments.iter().position(|one| one.primary).unwrap();
        let revision = service.deployments[primary].task_definition.clone();
        let digest = self.digest_of(&revision);
        let container = self.definition(&revision).says("/name").to_owned();
        let id = service.deployments[primary].id.clone();
        let now = at(self.now);
        let number = self.next;
        // Tasks that share their instance's interface share its address too.
        let is_alone = service.settings.placement.interfaces.is_some();
        let host_port = |port| if is_alone { port } else { 32768 + u16::try_from(number).unwrap() };
        let port = service.settings.target_group.as_ref().map(|group| (group.port, host_port(group.port)));
        let task = |status: &str, stop: Option<(&str, &str)>, exit_code| Task {
            arn: format!("arn:aws:ecs:eu-west-1:123456789012:task/hello-prod/{number}"),
            task_definition: revision.clone(),
            started_by: Some(id.clone()),
            created_at: Some(now),
            started_at: Some(now),
            status: status.to_owned(),
            stop_code: stop.map(|stop| stop.0.to_owned()),
            stopped_reason: stop.map(|stop| stop.1.to_owned()),
            addresses: vec![if is_alone { format!("10.0.0.{number}") } else { "i-0a1b".to_owned() }],
            ports: port.into_iter().collect(),
            containers: vec![TaskContainer {
                name: container.clone(),
                digest: Some(digest.clone()),
                exit_code,
                reason: None,
            }],
            ..Task::default()
        };
        for task in self.tasks.iter_mut().filter(|task| task.running()) {
            if self
                .definitions
                .iter()
                .any(|one| one.described.arn == task.task_definition && one.says("/image").ends_with(FICKLE))
                && task.started_at.is_some_and(|at| now.duration_since(at).as_secs() > 20)
            {
                task.status = "STOPPED".to_owned();
                task.stop_code = Some("ServiceSchedulerInitiated".to_owned());
                task.stopped_reason = Some("Task failed ELB health checks in (target-group api)".to_owned());
            }
        }
        let failures =
            self.tasks.iter().filter(|task| task.stopped() && task.started_by.as_deref() == Some(id.as_str())).count();
        if service.desired == 0 {
            self.tasks.retain(Task::stopped);
        } else if service.deployments[primary].running < service.desired && !service.deployments[primary].failed {
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
                HUNGRY => {
                    let mut killed = task(
                        "STOPPED",
                        Some(("EssentialContainerExited", "Essential container in task exited")),
                        Some(137),
                    );
                    killed.containers[0].reason =
                        Some("OutOfMemoryError: Container killed due to memory usage".to_owned());
                    self.tasks.push(killed);
                }
                LOCKED => self.tasks.push(task("STOPPED", Some(("TaskFailedToStart", NO_SECRET)), None)),
                _ => self.tasks.push(task("RUNNING", None, None)),
            }
        } else if service.settings.shift.is_some() {
            self.move_requests(&mut service);
        } else {
            // Steady: what is old has drained.
            self.tasks.retain(|task| task.stopped() || task.task_definition == revision);
            service.deployments[primary].completed = service.deployments.len() == 1;
            service.deployments.retain(|one| one.primary);
        }
        for one in &mut service.deployments {
            let of_it = |task: &&Task| task.running() && task.task_definition == one.task_definition;
            one.running = u32::try_from(self.tasks.iter().filter(of_it).count()).unwrap();
        }
        service.running = service.deployments.iter().map(|one| one.running).sum();
        if self.attempt.as_ref().is_some_and(|attempt| attempt.status == Status::RollbackInProgress)
            && service.settings.shift.is_some()
        {
            self.go_back(service);
            return;
        }
        let breaks = self.rolls_back && failures >= 1;
        if (breaks || self.alarm) && service.deployments.len() > 1 && !service.deployments[0].failed {
            let old = service.deployments[1].task_definition.clone();
            let reason = if breaks { "circuit breaker: tasks failed to start" } else { "failed: alarm detected" };
            self.alarm = false;
            service.deployments[0].failed = true;
            service.deployments[0].reason = Some(reason.to_owned());
            self.service = Some(service);
            self.start(&old);
            return;
        }
        self.service = Some(service);
    }
}

impl Calls for Fake {
    async fn announce(&self, record: &ReleaseRecord, happening: Happening<'_>) {
        let told = format!("{} {}", record.release, happening.status());
        // Whether it arrives or not changes nothing.
        let _ = self.call(|world| world.told.push(told));
    }

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
            world.writes.push(format!("register {}", world.definitions.len() + 1));
            world.definitions.push(Definition::of(wanted, &arn));
            arn
        })
    }

    async fn service(&self, _: &Place) -> Result<Option<Service>, AwsError> {
        self.look(|world| {
            if world.stale.0 > 0 {
                world.stale.0 -= 1;
                return world.stale.1.clone();
            }
            world.service.clone()
        })
    }

    async fn attempt(&self, arn: &str) -> Result<Option<Attempt>, AwsError> {
        assert!(arn.starts_with("arn:aws:ecs:r:1:service-deployment/"));
        self.look(|world| {
            let newest = world.service.as_ref().and_then(|service| service.attempt.as_deref());
            world.attempt.clone().filter(|_| newest == Some(arn))
        })
    }

    async fn tasks(&self, _: &Place, running: bool) -> Result<Vec<Task>, AwsError> {
        self.look(|world| world.tasks.iter().filter(|task| running || task.stopped()).cloned().collect())
    }

    async fn go_on(&self, attempt: &str, hook: &str) -> Result<(), AwsError> {
        assert!(attempt.starts_with("arn:aws:ecs:r:1:service-deployment/"));
        self.write(|world| {
            world.writes.push("go on".to_owned());
            world.attempt.as_mut().unwrap().paused.take_if(|paused| paused == hook);
        })
    }

    async fn undo(&self, attempt: &str) -> Result<(), AwsError> {
        assert!(attempt.starts_with("arn:aws:ecs:r:1:service-deployment/"));
        self.write(|world| {
            world.writes.push("undo".to_owned());
            let attempt = world.attempt.as_mut().unwrap();
            if attempt.status == Status::InProgress {
                attempt.status = Status::RollbackInProgress;
            }
        })
    }

    async fn targets(&self, group: &str) -> Result<Vec<Target>, AwsError> {
        self.look(|world| {
            let running = world.tasks.iter().filter(|task| task.running());
            let healthy = |task: &Task| match world.digest_of(&task.task_definition).as_str() {
                SICK => false,
                FICKLE => task.started_at.is_some_and(|began| at(world.now).duration_since(began).as_secs() <= 10),
                AILING => task.started_at.is_some_and(|began| at(world.now).duration_since(began).as_secs() <= 60),
                _ => true,
            };
            running
                .map(|task| Target {
                    group: group.to_owned(),
                    address: task.addresses[0].clone(),
                    port: *task.ports.values().next().unwrap(),
                    state: if healthy(task) { "healthy" } else { "unhealthy" }.to_owned(),
                    reason: Some("Health checks failed with these codes: [500]".to_owned()),
                })
                .collect()
        })
    }

    async fn create(&self, new: NewService<'_>) -> Result<Started, AwsError> {
        self.write(|world| {
            if let Some(service) = &world.service {
                // The same token again.
                return world.started(service.primary().unwrap().id.clone());
            }
            let tasks = if new.count == 1 { String::new() } else { format!(" with {}", new.count) };
            world.changed(format!("create {}{tasks}", short(new.version)));
            world.service =
                Some(Service { desired: new.count, settings: new.version.settings.clone(), ..Service::default() });
            let id = world.start(&new.version.revision.task_definition);
            world.shift();
            world.started(id)
        })
    }

    async fn update(&self, change: Change<'_>) -> Result<Started, AwsError> {
        self.write(|world| {
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
                assert_eq!(change.moves, settings.placement.capacity != was.settings.placement.capacity);
                assert_eq!(change.rebinds, settings.target_group != was.settings.target_group);
                service.settings = settings.clone();
            }
            match change.task_definition {
                Some(other) if other != primary.task_definition || change.force || change.settings.is_some() => {
                    let id = world.start(other);
                    world.shift();
                    world.started(id)
                }
                _ => world.started(primary.id.clone()),
            }
        })
    }

    async fn log_tail(&self, _: &str, stream: &str) -> Result<Vec<String>, AwsError> {
        self.call(|_| vec!["cannot read the configuration".to_owned(), format!("in {stream}")])
    }

    async fn load_balancer(&self, target_group: &str) -> Result<Option<String>, AwsError> {
        assert_eq!(target_group, TARGET_GROUP);
        self.call(|_| Some("arn:aws:elasticloadbalancing:r:1:loadbalancer/app/hello-prod/778d".to_owned()))
    }

    async fn scaling(&self, _: &Place) -> Result<scaling::Observed, AwsError> {
        self.look(|world| world.scaling.clone())
    }

    async fn scale(&self, _: &Place, change: &scaling::Change) -> Result<(), AwsError> {
        self.write(|world| {
            assert!(world.service.as_ref().is_some_and(|service| service.running >= service.desired));
            match change.clone() {
                scaling::Change::Register { min, max } => {
                    world.writes.push(format!("register {min} to {max}"));
                    world.scaling.bounds = Some((min, max));
                }
                scaling::Change::Put { name, policy } => {
                    world.writes.push(format!("put {name} {}", policy.target));
                    world.scaling.policies.insert(name, Some(policy));
                }
                scaling::Change::Delete { name } => {
                    world.writes.push(format!("delete {name}"));
                    world.scaling.policies.remove(&name);
                }
                scaling::Change::Deregister => {
                    world.writes.push("deregister".to_owned());
                    world.scaling = scaling::Observed::default();
                }
            }
        })
    }

    async fn carried(
        &self,
        repository: &RepositoryName,
        tags: &[String],
    ) -> Result<BTreeMap<String, Digest>, AwsError> {
        self.look(|world| {
            assert!(world.definitions.iter().all(|one| one.says("/image").contains(&format!("/{repository}@"))));
            world.tags.clone().into_iter().filter(|(tag, _)| tags.contains(tag)).collect()
        })
    }

    async fn tag(&self, _: &RepositoryName, digest: &Digest, tag: &str) -> Result<bool, AwsError> {
        let refused = {
            let world = self.world.borrow();
            world.immutable && world.tags.contains_key(tag)
        };
        if refused {
            return Err(AwsError::broken_off("ecr:PutImage", &std::fmt::Error));
        }
        self.write(|world| {
            let there = !world.gone.contains(digest);
            if there && world.tags.insert(tag.to_owned(), digest.clone()).as_ref() != Some(digest) {
                world.moved += 1;
            }
            there
        })
    }
}

fn short(version: &Version) -> &str {
    version.revision.task_definition.rsplit(':').next().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn manifest(port: u16, more: &str) -> String {
    format!(
        "version: 1\napp: hello\nenvironments: {{prod: {{}}}}\nservices:\n  api:\n    image: {{repository: hello-api}}\n    port: {port}\n    http: {{}}\n{more}"
    )
}

fn run(number: u32, digest: &str) -> Run {
    Run {
        app: "hello".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        component: "service/api".parse().unwrap(),
        artifact: Artifact::Image { repository: "hello-api".parse().unwrap(), digest: digest.parse().unwrap() },
        release: format!("20261121T0315{number:02}123-3f9c2a").parse().unwrap(),
        fence: u64::from(number),
        repair: false,
    }
}

/// One whose platform stands.
async fn empty() -> Fake {
    Fake::with_platform(World { next: 1, ..World::default() }, &manifest(8080, "")).await
}

/// One with a release that is live.
async fn with_live() -> Fake {
    let fake = empty().await;
    let first = run(1, GOOD);
    assert_eq!(finish(&fake, &first, Ask::Deploy).await.unwrap().outcome, Outcome::Succeeded);
    end(&fake.aside, &first, Outcome::Succeeded).await;
    fake.world.borrow_mut().writes.clear();
    fake
}

/// One pass of a release, which begins with its first.
async fn pass(fake: &Fake, run: &Run, action: Ask) -> Result<Turn, Error> {
    if fake.aside.release(&run.app, &run.environment, &run.release).await.unwrap().is_none() {
        begin(&fake.aside, run).await;
    }
    let surroundings = Surroundings { region: "eu-west-1".to_owned(), registry_mirror: None };
    let now = at(fake.world.borrow().now);
    let input = PassInput { run: run.clone(), action };
    fake.line.end_pass(Box::pin(handle(&fake.store, fake, &surroundings, input, now)).await)
}

/// The machine: passes until the end, again after what a retry can help.
async fn finish(fake: &Fake, run: &Run, action: Ask) -> Result<Verdict, Error> {
    let mut action = action;
    for _ in 0..400 {
        match pass(fake, run, action).await {
            Ok(Turn::Done(verdict)) => return Ok(verdict),
            Ok(Turn::Ready { .. }) => action = Ask::Shift,
            Ok(Turn::Again { .. }) => {
                if fake.world.borrow().longer > 0 {
                    fake.line.settle();
                }
                fake.world.borrow_mut().tick();
            }
            Err(error) if error.failure().retryable() => {}
            Err(error) => return Err(error),
        }
    }
    panic!("no end: {:?}", fake.steps(run).await);
}

/// One whose live release is of this manifest.
async fn with_live_of(more: &str) -> Fake {
    let fake = empty().await;
    platform(&fake.aside, &manifest(8080, more)).await;
    released(&fake, 1, GOOD).await;
    fake
}

/// A release that goes live, and what was written in AWS for it.
async fn released(fake: &Fake, number: u32, digest: &str) -> (Verdict, Vec<String>) {
    release(fake, &run(number, digest)).await
}

/// Ends a release. What is live, once more by a new execution, is unchanged then, and nothing is written. Answers how many calls the
/// release made with these cuts.
async fn over(fake: &Fake, ended: &Run, outcome: Outcome, again: &Run, cut: Cuts) -> usize {
    let calls = fake.line.calls();
    fake.line.cut(None);
    end(&fake.aside, ended, outcome).await;
    let (verdict, writes) = release(fake, again).await;
    assert_eq!((verdict.outcome, writes), (Outcome::Unchanged, Vec::new()), "{cut:?}: a new execution");
    calls
}

async fn release(fake: &Fake, run: &Run) -> (Verdict, Vec<String>) {
    fake.world.borrow_mut().writes.clear();
    let verdict = finish(fake, run, Ask::Deploy).await.unwrap();
    end(&fake.aside, run, verdict.outcome).await;
    (verdict, writes(fake))
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
    let fake = empty().await;
    let verdict = finish(&fake, &run(1, GOOD), Ask::Deploy).await.unwrap();
    assert_eq!(
        (verdict.outcome, verdict.reason.as_str()),
        (Outcome::Succeeded, "1 of 1 tasks of hello-prod-api:1 serve")
    );
    assert_eq!(writes(&fake), ["register 1", "create 1"]);
    assert_eq!(fake.steps(&run(1, GOOD)).await.len(), 2);
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
    let steps = fake.steps(&run(2, GOOD)).await;
    assert_eq!(finish(&fake, &run(2, GOOD), Ask::Deploy).await.unwrap(), again);
    assert_eq!(fake.steps(&run(2, GOOD)).await, steps);
}

#[tokio::test]
async fn another_setting_is_another_revision_of_the_same_image() {
    let fake = with_live().await;
    platform(&fake.aside, &manifest(8080, "    env: {A: b}\n")).await;
    assert_eq!(finish(&fake, &run(2, GOOD), Ask::Deploy).await.unwrap().outcome, Outcome::Succeeded);
    assert_eq!(writes(&fake), ["register 2", "update 2 -"]);
}

#[tokio::test]
async fn another_port_moves_the_target_and_going_back_moves_it_back() {
    let fake = with_live().await;
    platform(&fake.aside, &manifest(9090, "")).await;
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
    assert_eq!(fake.world.borrow().told, [format!("{} rolling_back", run(2, CRASHING).release)]);
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
async fn whatever_ends_the_tasks_is_named_and_the_live_version_serves_again() {
    for (digest, parts) in [
        (HUNGRY, ["3 tasks failed", "OutOfMemoryError: Container killed due to memory usage"]),
        (LOCKED, ["2 tasks failed", "secret:hello/token from secrets manager: ResourceNotFoundException"]),
        // Four are wanted, one starts after the other, and the first is not well any more before the last one is.
        (FICKLE, ["failed ELB health checks", "the load balancer said: Health checks failed with these codes: [500]"]),
    ] {
        let fake = with_live_of("    count: 4\n").await;
        let verdict = finish(&fake, &run(2, digest), Ask::Deploy).await.unwrap();
        assert_eq!(verdict.outcome, Outcome::RolledBack, "{}", verdict.reason);
        for part in parts.into_iter().chain(["4 of 4 tasks of hello-prod-api:1 serve again"]) {
            assert!(verdict.reason.contains(part), "{part}: {}", verdict.reason);
        }
        assert_eq!(serves(&fake), (GOOD.to_owned(), 4));
    }
}

#[tokio::test]
async fn a_first_release_that_crashes_is_stopped_and_the_next_one_starts_the_service_again() {
    let fake = empty().await;
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
    let fake = empty().await;
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
    begin(&fake.aside, &run(3, BETTER)).await;
    fake.line.cut(None);
    assert_eq!(pass(&fake, &run(2, BETTER), Ask::Deploy).await.unwrap_err().failure(), Failure::Superseded);
    assert_eq!(pass(&fake, &run(2, BETTER), Ask::RollBack).await.unwrap_err().failure(), Failure::Superseded);
    assert_eq!(fake.line.calls(), 2, "one look at the claim each");
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
    assert_eq!(fake.world.borrow().told, [format!("{} rolling_back", two.release)]);
    assert_eq!(serves(&fake), (GOOD.to_owned(), 1));
    assert_eq!(writes(&fake), ["register 2", "update 2 -", "update 1 -"]);
}

#[tokio::test]
async fn rolling_back_a_first_release_stops_it() {
    let fake = empty().await;
    pass(&fake, &run(1, GOOD), Ask::Deploy).await.unwrap();
    assert_eq!(finish(&fake, &run(1, GOOD), Ask::RollBack).await.unwrap().outcome, Outcome::Failed);
    assert!(fake.world.borrow().told.is_empty(), "there is nothing to go back to");
    assert_eq!(serves(&fake), (GOOD.to_owned(), 0));
}

#[tokio::test]
async fn with_smoke_tests_it_serves_once_the_load_balancer_asks_nobody_else() {
    for (more, left) in [("", 1), ("    smoke: [{path: /}]\n", 0)] {
        let fake = with_live_of(more).await;
        let running = |revision: &str| {
            let world = fake.world.borrow();
            world.tasks.iter().filter(|task| task.running() && task.task_definition.ends_with(revision)).count()
        };
        assert_eq!(finish(&fake, &run(2, BETTER), Ask::Deploy).await.unwrap().outcome, Outcome::Succeeded);
        assert_eq!(running(":1"), left, "{more}");
        // The same on the way back.
        assert_eq!(finish(&fake, &run(2, BETTER), Ask::RollBack).await.unwrap().outcome, Outcome::RolledBack);
        assert_eq!(running(":2"), left, "{more}");
    }
}

/// Two passes of a release that another one takes over from then: its deployment is under way.
async fn half_way(fake: &Fake, number: u32, digest: &str) {
    for _ in 0..2 {
        pass(fake, &run(number, digest), Ask::Deploy).await.unwrap();
        fake.world.borrow_mut().tick();
    }
}

#[tokio::test]
async fn a_release_that_ends_before_it_deploys_changes_nothing_where_nothing_was_under_way() {
    let fake = with_live().await;
    fake.line.cut(None);
    let verdict = finish(&fake, &run(2, BETTER), Ask::RollBack).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Failed);
    assert!(verdict.reason.ends_with("the service is as it was"), "{}", verdict.reason);
    assert_eq!((writes(&fake), fake.steps(&run(2, BETTER)).await), (Vec::new(), Vec::new()));
    // Claim, progress, environment, release, what is live, and one look at the service.
    assert_eq!(fake.line.calls(), 6);
    let nothing = empty().await;
    assert_eq!(finish(&nothing, &run(1, GOOD), Ask::RollBack).await.unwrap().outcome, Outcome::Failed);
    assert_eq!(writes(&nothing), [""; 0]);
}

#[tokio::test]
async fn a_release_that_ends_before_it_deploys_undoes_the_deployment_that_it_took_over() {
    cut_everywhere(async |cut| {
        let fake = with_live().await;
        half_way(&fake, 2, BETTER).await;
        assert_eq!(serves(&fake).0, BETTER);
        let three = run(3, MISSING);
        begin(&fake.aside, &three).await;
        fake.line.cut(cut);
        let verdict = finish(&fake, &three, Ask::RollBack).await.unwrap();
        assert_eq!(verdict.outcome, Outcome::RolledBack, "{cut:?}: {}", verdict.reason);
        assert_eq!(serves(&fake), (GOOD.to_owned(), 1), "{cut:?}");
        assert_eq!(writes(&fake), ["register 2", "update 2 -", "update 1 -"], "{cut:?}");
        let steps = fake.steps(&three).await;
        for (start, count) in [("giving up: an error ended this release", 1), ("rolled_back: ", 1)] {
            assert_eq!(steps.iter().filter(|step| step.starts_with(start)).count(), count, "{cut:?}: {steps:?}");
        }
        assert!(steps.last().unwrap().ends_with("1 of 1 tasks of hello-prod-api:1 serve again"), "{steps:?}");
        over(&fake, &three, verdict.outcome, &run(4, GOOD), cut).await
    })
    .await;
}

#[tokio::test]
async fn the_scaling_that_a_release_took_over_goes_back_with_the_service() {
    let fake = with_live_of(SCALED).await;
    platform(&fake.aside, &manifest(8080, "    scale: {min: 2, max: 8, cpu: 50}\n")).await;
    assert_eq!(finish(&fake, &run(2, BETTER), Ask::Deploy).await.unwrap().outcome, Outcome::Succeeded);
    fake.world.borrow_mut().writes.clear();
    // It served, and something after that failed.
    assert_eq!(finish(&fake, &run(2, BETTER), Ask::RollBack).await.unwrap().outcome, Outcome::RolledBack);
    let back = ["update 1 -", "register 2 to 10", "put shipway-cpu 70", "put shipway-requests 500"];
    assert_eq!(writes(&fake), back);
    half_way(&fake, 3, BETTER).await;
    begin(&fake.aside, &run(4, MISSING)).await;
    fake.world.borrow_mut().writes.clear();
    assert_eq!(finish(&fake, &run(4, MISSING), Ask::RollBack).await.unwrap().outcome, Outcome::RolledBack);
    assert_eq!(writes(&fake), back);
}

#[tokio::test]
async fn a_first_release_that_ends_before_it_deploys_stops_the_first_one_that_it_took_over() {
    cut_everywhere(async |cut| {
        let fake = empty().await;
        half_way(&fake, 1, CRASHING).await;
        begin(&fake.aside, &run(2, GOOD)).await;
        fake.line.cut(cut);
        let verdict = finish(&fake, &run(2, GOOD), Ask::RollBack).await.unwrap();
        assert_eq!(verdict.outcome, Outcome::Failed, "{cut:?}");
        assert!(verdict.reason.contains("the service was stopped"), "{cut:?}: {}", verdict.reason);
        assert_eq!(serves(&fake), (CRASHING.to_owned(), 0), "{cut:?}");
        // Nothing is live, so a new execution deploys.
        fake.line.calls()
    })
    .await;
}

#[tokio::test]
async fn what_runs_although_no_release_is_live_is_left_and_told() {
    let fake = empty().await;
    half_way(&fake, 1, GOOD).await;
    begin(&fake.aside, &run(2, BETTER)).await;
    fake.world.borrow_mut().writes.clear();
    let verdict = finish(&fake, &run(2, BETTER), Ask::RollBack).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Failed);
    assert_eq!((writes(&fake), serves(&fake)), (Vec::new(), (GOOD.to_owned(), 1)));
    assert!(verdict.reason.contains("no release was live, but deployment ecs-svc/1 of"), "{}", verdict.reason);
    assert_eq!(finish(&fake, &run(2, BETTER), Ask::RollBack).await.unwrap(), verdict);
    assert_eq!(fake.steps(&run(2, BETTER)).await, [verdict.reason]);
}

#[tokio::test]
async fn a_service_that_shows_nothing_under_way_is_believed_only_after_a_moment() {
    let fake = with_live().await;
    begin(&fake.aside, &run(2, BETTER)).await;
    let surroundings = Surroundings { region: "eu-west-1".to_owned(), registry_mirror: None };
    let input = || PassInput { run: run(2, BETTER), action: Ask::RollBack };
    let early = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(14);
    let answer = Box::pin(handle(&fake.store, &fake, &surroundings, input(), early)).await.unwrap();
    assert!(matches!(answer, Turn::Again { .. }), "{answer:?}");
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
        cut_everywhere(async |cut| {
            let fake = if live { with_live().await } else { empty().await };
            // Otherwise most calls are those of waiting for the deadline.
            fake.world.borrow_mut().longer = if digest == SICK { 60 } else { 0 };
            fake.line.cut(cut);
            let verdict = finish(&fake, &run(2, digest), Ask::Deploy).await.unwrap();
            let story = format!("{digest}, {cut:?}: {}", verdict.reason);
            assert_eq!(verdict.outcome, outcome, "{story}");
            let mut made = writes(&fake);
            // Stopping what is stopped already is the one call that is simply made again.
            made.dedup_by(|one, other| one == other && one == "update - 0");
            assert_eq!(made, expected, "{story}");
            assert_eq!(serves(&fake).0, serving, "{story}");
            let steps = fake.steps(&run(2, digest)).await;
            let began = |step: &String| step.starts_with("started") || step.starts_with("took up");
            assert_eq!(steps.iter().filter(|step| began(step)).count(), usize::from(!expected.is_empty()), "{story}");
            let gave_up = steps.iter().filter(|step| step.starts_with("giving up")).count();
            assert_eq!(gave_up, usize::from(!outcome.is_live()), "{story}");
            let ends = steps.iter().filter(|step| step.starts_with(outcome.word())).count();
            assert_eq!(ends, 1, "{story}: {steps:?}");
            let calls = fake.line.calls();
            fake.line.cut(None);
            end(&fake.aside, &run(2, digest), outcome).await;
            let (again, written) = released(&fake, 3, digest).await;
            let same = if outcome.is_live() { Outcome::Unchanged } else { outcome };
            assert_eq!((again.outcome, serves(&fake).0.as_str()), (same, serving), "{story}: a new execution");
            assert!(written.is_empty() || !outcome.is_live(), "{story}: a new execution: {written:?}");
            assert!(!written.iter().any(|call| call.starts_with("register")), "{story}: a new execution: {written:?}");
            calls
        })
        .await;
    }
}

/// A later release of the same service, of another image.
fn after(first: &Run, number: u32) -> Run {
    let artifact = match first.artifact.clone() {
        Artifact::Image { repository, .. } => Artifact::Image { repository, digest: BETTER.parse().unwrap() },
        Artifact::Public { image } => Artifact::Public { image: format!("{image}-{number}").try_into().unwrap() },
        other => panic!("{other} is no image"),
    };
    let Run { app, environment, component, .. } = first.clone();
    Run { artifact, app, environment, component, ..run(number, BETTER) }
}

/// What is in AWS of a service once its old tasks are gone: its revisions, itself but for its deployment's id, and its scaling.
fn there(fake: &Fake, of: &Run) -> String {
    let mut world = fake.world.borrow_mut();
    (0..3).for_each(|_| world.tick());
    world.definitions.iter().for_each(|one| one.assert_is_of(of));
    let Service { settings, desired, running, .. } = world.service.as_ref().unwrap();
    let revision = &world.service.as_ref().unwrap().primary().unwrap().task_definition;
    let revisions: Vec<_> = world.definitions.iter().map(|one| &one.described).collect();
    format!("{revisions:?} {revision} {settings:?} {desired} {running} {:?}", world.scaling)
}

#[tokio::test]
async fn the_services_of_the_five_systems_come_to_the_same_whatever_becomes_of_a_call() {
    for manifest in SYSTEMS {
        for first in first_releases(manifest) {
            for live in [false, true] {
                let (second, third) = (after(&first, 2), after(&first, 3));
                let (wanted, again) = if live { (&second, &third) } else { (&first, &second) };
                let again = Run { artifact: wanted.artifact.clone(), ..again.clone() };
                let begun = async || {
                    let fake = Fake::with_platform(World { next: 1, ..World::default() }, manifest).await;
                    if live {
                        release(&fake, &first).await;
                        fake.world.borrow_mut().writes.clear();
                    }
                    fake
                };
                let told = async |fake: &Fake, run| {
                    let verdict = finish(fake, run, Ask::Deploy).await.unwrap();
                    (verdict, writes(fake), there(fake, run))
                };
                let calm = begun().await;
                let expected = told(&calm, wanted).await;
                assert_eq!(expected.0.outcome, Outcome::Succeeded);
                Box::pin(cut_everywhere(async |cut| {
                    let fake = begun().await;
                    fake.line.cut(cut);
                    let context = format!("{} in {}, {cut:?}", wanted.component, wanted.app);
                    assert_eq!(told(&fake, wanted).await, expected, "{context}");
                    let calls = over(&fake, wanted, Outcome::Succeeded, &again, cut).await;
                    // A tag that this one could not give the next one gives.
                    assert_eq!((there(&fake, wanted), kept(&fake)), (expected.2.clone(), kept(&calm)), "{context}");
                    calls
                }))
                .await;
            }
        }
    }
}

#[tokio::test]
async fn what_ecs_shows_late_changes_nothing() {
    for (live, digest, outcome, expected, serving) in STORIES {
        for lag in 1..4 {
            let fake = if live { with_live().await } else { empty().await };
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
    cut_everywhere(async |cut| {
        let fake = with_live().await;
        fake.line.cut(cut);
        let two = run(2, BETTER);
        let mut ended = false;
        while !ended {
            match pass(&fake, &two, Ask::Deploy).await {
                Ok(Turn::Again { .. } | Turn::Ready { .. }) => fake.world.borrow_mut().tick(),
                Ok(Turn::Done(_)) => return fake.line.calls(),
                Err(_) => ended = true,
            }
        }
        let verdict = finish(&fake, &two, Ask::RollBack).await.unwrap();
        assert_eq!(serves(&fake), (GOOD.to_owned(), 1), "{cut:?}");
        assert!(writes(&fake).iter().filter(|call| call.starts_with("update")).count() <= 2);
        over(&fake, &two, verdict.outcome, &run(3, GOOD), cut).await
    })
    .await;
}

#[tokio::test]
async fn another_manifest_half_way_changes_nothing() {
    let fake = with_live().await;
    pass(&fake, &run(2, BETTER), Ask::Deploy).await.unwrap();
    platform(&fake.aside, &manifest(8080, "").replace("api:", "other:")).await;
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
        fake.line.cut(None);
        pass(&fake, &run(2, SICK), Ask::Deploy).await.unwrap();
        // Claim, progress, environment, service, tasks, targets; once what the load balancer says against it is written down.
        assert!(fake.line.calls() <= if look == 0 { 7 } else { 6 }, "{look}");
    }
}

const SCALED: &str = "    scale: {min: 2, max: 10, cpu: 70, requests: 500}\n";

#[tokio::test]
async fn a_service_is_made_with_as_many_tasks_as_it_should_have_and_scales_once_it_serves() {
    let fake = with_live_of(SCALED).await;
    let expected =
        ["register 1", "create 1 with 2", "register 2 to 10", "put shipway-cpu 70", "put shipway-requests 500"];
    assert_eq!(writes(&fake), expected);
    let label = fake.world.borrow().scaling.policies["shipway-requests"].clone().unwrap().label;
    assert_eq!(label.as_deref(), Some("app/hello-prod/778d/targetgroup/api/943f"));
    // The same again writes nothing, and neither does what the load made of the number of tasks.
    fake.world.borrow_mut().service.as_mut().unwrap().desired = 5;
    let (verdict, writes) = released(&fake, 2, GOOD).await;
    assert_eq!((verdict.outcome, writes), (Outcome::Unchanged, Vec::new()));
    assert_eq!(serves(&fake).1, 5);
}

#[tokio::test]
async fn what_the_manifest_says_of_scaling_is_changed_without_a_rollout_and_taken_away_with_it() {
    let fake = with_live_of(SCALED).await;
    platform(&fake.aside, &manifest(8080, "    scale: {min: 2, max: 8, memory: 80}\n")).await;
    let (verdict, writes) = released(&fake, 2, GOOD).await;
    assert_eq!(writes, ["register 2 to 8", "put shipway-memory 80", "delete shipway-cpu", "delete shipway-requests"]);
    let expected = "2 of 2 tasks of hello-prod-api:1 serve already; it scales now: 2 to 8 tasks, memory 80";
    assert_eq!((verdict.outcome, verdict.reason.as_str()), (Outcome::Succeeded, expected));
    platform(&fake.aside, &manifest(8080, "    count: 2\n")).await;
    assert_eq!(released(&fake, 3, GOOD).await.1, ["deregister"]);
    assert_eq!(released(&fake, 4, GOOD).await.1, [""; 0]);
}

#[tokio::test]
async fn a_release_that_does_not_hold_leaves_the_scaling_as_it_was() {
    let fake = with_live_of(SCALED).await;
    platform(&fake.aside, &manifest(8080, "    scale: {min: 2, max: 8, cpu: 50}\n")).await;
    let (verdict, writes) = released(&fake, 2, CRASHING).await;
    assert_eq!(
        (verdict.outcome, writes),
        (Outcome::RolledBack, ["register 2", "update 2 -", "update 1 -"].map(str::to_owned).to_vec())
    );
}

#[tokio::test]
async fn a_new_count_is_asked_for_once_and_what_a_person_made_of_it_stays() {
    let fake = with_live().await;
    platform(&fake.aside, &manifest(8080, "    count: 3\n")).await;
    let (verdict, writes) = released(&fake, 2, GOOD).await;
    assert_eq!((verdict.outcome, writes), (Outcome::Succeeded, vec!["update 1 3".to_owned()]));
    fake.world.borrow_mut().service.as_mut().unwrap().desired = 4;
    assert_eq!(released(&fake, 3, BETTER).await.1, ["register 2", "update 2 -"]);
    assert_eq!(serves(&fake).1, 4);
    // Given up, a new number goes back too.
    platform(&fake.aside, &manifest(8080, "    count: 1\n")).await;
    assert_eq!(released(&fake, 4, CRASHING).await.1, ["register 3", "update 3 1", "update 2 4"]);
}

#[tokio::test]
async fn other_capacity_is_a_new_deployment_and_tasks_without_interfaces_are_refused() {
    let fake = with_live().await;
    let spot = manifest(8080, "").replace("services:", "cluster: {capacity: fargate_spot}\nservices:");
    platform(&fake.aside, &spot).await;
    assert_eq!(released(&fake, 2, GOOD).await.1, ["update 1 -"]);
    let bridge = spot.replace("{capacity: fargate_spot}", "{ec2: {instance_type: t3.small}}");
    platform(&fake.aside, &bridge).await;
    let refused = finish(&fake, &run(3, GOOD), Ask::Deploy).await.unwrap_err();
    assert_eq!(refused.failure(), Failure::Conflict);
    assert!(refused.to_string().contains("network interfaces of their own, and would have none"), "{refused}");
}

const GATED: &str = "    rollout: {deadline: 1m, alarms: [errors]}\n";

#[tokio::test]
async fn a_release_with_alarms_is_live_when_ecs_is_through_with_it() {
    let fake = with_live_of(GATED).await;
    let two = run(2, BETTER);
    let serves = async |fake: &Fake| fake.steps(&two).await.iter().any(|step| step.ends_with("ECS watches the alarms"));
    pass(&fake, &two, Ask::Deploy).await.unwrap();
    while !serves(&fake).await {
        fake.world.borrow_mut().tick();
        assert!(matches!(pass(&fake, &two, Ask::Deploy).await, Ok(Turn::Again { .. })));
    }
    // The deadline was for serving alone.
    fake.world.borrow_mut().now += 600;
    let verdict = finish(&fake, &two, Ask::Deploy).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{}", verdict.reason);
    end(&fake.aside, &two, verdict.outcome).await;
    // The same again neither waits nor writes.
    let (verdict, writes) = released(&fake, 3, BETTER).await;
    assert_eq!((verdict.outcome, writes), (Outcome::Unchanged, Vec::new()));
}

#[tokio::test]
async fn an_alarm_that_goes_off_brings_back_what_was_live_without_a_call() {
    let fake = with_live_of(GATED).await;
    fake.world.borrow_mut().writes.clear();
    let two = run(2, BETTER);
    pass(&fake, &two, Ask::Deploy).await.unwrap();
    fake.world.borrow_mut().alarm = true;
    let verdict = finish(&fake, &two, Ask::Deploy).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::RolledBack);
    assert!(verdict.reason.contains("an alarm went off, of errors: failed: alarm detected"), "{}", verdict.reason);
    assert_eq!(
        (writes(&fake), serves(&fake).0),
        (["register 2", "update 2 -"].map(str::to_owned).to_vec(), GOOD.to_owned())
    );
}

#[tokio::test]
async fn what_ecs_says_of_our_own_service_deployment_names_the_alarm() {
    let fake = with_live_of(GATED).await;
    let said = |status| Some(Attempt { alarms: ["errors".to_owned()].into(), ..Attempt::of(status) });
    fake.world.borrow_mut().attempt = said(Status::InProgress);
    let two = run(2, BETTER);
    pass(&fake, &two, Ask::Deploy).await.unwrap();
    {
        let mut world = fake.world.borrow_mut();
        (world.alarm, world.attempt) = (true, said(Status::RollbackInProgress));
        world.tick();
    }
    let verdict = finish(&fake, &two, Ask::Deploy).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::RolledBack);
    let expected =
        "ECS goes back by itself: errors went off: it gave no reason; 1 of 1 tasks of hello-prod-api:1 serve again";
    assert_eq!(verdict.reason, expected);
}

#[tokio::test]
async fn an_earlier_service_deployment_is_not_taken_for_ours() {
    let fake = with_live().await;
    fake.world.borrow_mut().attempt = Some(Attempt::of(Status::RollbackSuccessful));
    let primary = fake.world.borrow().service.as_ref().unwrap().primary().unwrap().id.clone();
    fake.world.borrow_mut().started(primary);
    // Another number of tasks starts no deployment.
    platform(&fake.aside, &manifest(8080, "    count: 3\n")).await;
    let (verdict, writes) = released(&fake, 2, GOOD).await;
    assert_eq!((verdict.outcome, writes), (Outcome::Succeeded, vec!["update 1 3".to_owned()]));
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_serving_is_told_once() {
    cut_everywhere(async |cut| {
        let fake = with_live_of(GATED).await;
        fake.line.cut(cut);
        let verdict = finish(&fake, &run(2, BETTER), Ask::Deploy).await.unwrap();
        assert_eq!(verdict.outcome, Outcome::Succeeded, "{cut:?}: {}", verdict.reason);
        let steps = fake.steps(&run(2, BETTER)).await;
        assert_eq!(steps.iter().filter(|step| step.ends_with("ECS watches the alarms")).count(), 1, "{cut:?}");
        over(&fake, &run(2, BETTER), verdict.outcome, &run(3, BETTER), cut).await
    })
    .await;
}

#[tokio::test]
async fn the_deadline_and_the_limits_are_the_manifests() {
    let fake = with_live_of("    rollout: {deadline: 90s, min_percent: 0, max_percent: 100}\n").await;
    let limits = fake.world.borrow().service.as_ref().unwrap().settings.limits;
    assert_eq!((limits.least, limits.most), (0, 100));
    let verdict = finish(&fake, &run(2, SICK), Ask::Deploy).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::RolledBack);
    assert!(verdict.reason.starts_with("it did not serve within 90 seconds: "), "{}", verdict.reason);
    // Other limits alone are sent too.
    platform(&fake.aside, &manifest(8080, "    rollout: {min_percent: 50}\n")).await;
    end(&fake.aside, &run(2, SICK), Outcome::RolledBack).await;
    assert_eq!(released(&fake, 3, GOOD).await.1, ["update 1 -"]);
    assert_eq!(fake.world.borrow().service.as_ref().unwrap().settings.limits, rollout::Limits { least: 50, most: 200 });
}

#[tokio::test]
async fn a_public_image_rolls_out_as_it_is_named() {
    let fake = empty().await;
    let public = "docker.io/supertokens/supertokens-postgresql:9.2";
    platform(&fake.aside, &manifest(8080, "").replace("{repository: hello-api}", &format!("{{public: \"{public}\"}}")))
        .await;
    let artifact = Artifact::Public { image: public.to_owned().try_into().unwrap() };
    let run = Run { artifact, ..run(1, GOOD) };
    assert_eq!(finish(&fake, &run, Ask::Deploy).await.unwrap().outcome, Outcome::Succeeded);
    assert_eq!(fake.world.borrow().definitions[0].says("/image"), public);
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_the_scaling_is_set_once_and_told() {
    cut_everywhere(async |cut| {
        let fake = with_live_of(SCALED).await;
        platform(&fake.aside, &manifest(8080, "    scale: {min: 2, max: 8, memory: 80}\n")).await;
        fake.world.borrow_mut().writes.clear();
        fake.line.cut(cut);
        let verdict = finish(&fake, &run(2, GOOD), Ask::Deploy).await.unwrap();
        assert_eq!(verdict.outcome, Outcome::Succeeded, "{cut:?}");
        assert!(verdict.reason.ends_with("it scales now: 2 to 8 tasks, memory 80"), "{cut:?}: {}", verdict.reason);
        let expected = ["register 2 to 8", "put shipway-memory 80", "delete shipway-cpu", "delete shipway-requests"];
        assert_eq!(writes(&fake), expected, "{cut:?}");
        over(&fake, &run(2, GOOD), verdict.outcome, &run(3, GOOD), cut).await
    })
    .await;
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_a_new_count_is_there_in_the_end() {
    cut_everywhere(async |cut| {
        let fake = with_live().await;
        platform(&fake.aside, &manifest(8080, "    count: 3\n")).await;
        fake.line.cut(cut);
        assert_eq!(finish(&fake, &run(2, GOOD), Ask::Deploy).await.unwrap().outcome, Outcome::Succeeded, "{cut:?}");
        assert_eq!((writes(&fake), serves(&fake).1), (vec!["update 1 3".to_owned()], 3), "{cut:?}");
        over(&fake, &run(2, GOOD), Outcome::Succeeded, &run(3, GOOD), cut).await
    })
    .await;
}

/// The images that have a tag.
fn kept(fake: &Fake) -> Vec<String> {
    let mut kept: Vec<String> = fake.world.borrow().tags.values().map(|digest| digest.as_str().to_owned()).collect();
    kept.sort_unstable();
    kept
}

#[tokio::test]
async fn what_is_live_and_what_was_live_before_is_kept_by_a_tag() {
    let fake = with_live().await;
    assert_eq!(kept(&fake), [GOOD]);
    released(&fake, 2, BETTER).await;
    assert_eq!(kept(&fake), [GOOD, BETTER]);
    released(&fake, 3, CRASHING).await;
    assert_eq!(kept(&fake), [GOOD, BETTER], "what did not hold is not kept");
    // The same again, and an earlier one again, have their tags already.
    released(&fake, 4, BETTER).await;
    released(&fake, 5, GOOD).await;
    assert_eq!((kept(&fake), fake.world.borrow().moved), (vec![GOOD.to_owned(), BETTER.to_owned()], 2));
}

#[tokio::test]
async fn of_many_images_that_were_live_the_newest_are_kept() {
    let fake = empty().await;
    for number in 1..=15 {
        released(&fake, number, &format!("sha256:a0{number:02}")).await;
    }
    let expected: Vec<String> = (5..=15).map(|number| format!("sha256:a0{number:02}")).collect();
    assert_eq!(kept(&fake), expected);
    // From the next release on, as few as its manifest says.
    let fewer = manifest(8080, "").replace("{repository: hello-api}", "{repository: hello-api, keep_live: 2}");
    platform(&fake.aside, &fewer).await;
    released(&fake, 16, "sha256:a016").await;
    let mut left = kept(&fake);
    left.dedup();
    assert_eq!(left, ["sha256:a014", "sha256:a015", "sha256:a016"]);
}

#[tokio::test]
async fn images_that_were_live_before_tags_were_given_get_theirs_with_the_next_release() {
    let fake = with_live().await;
    released(&fake, 2, BETTER).await;
    fake.world.borrow_mut().tags.clear();
    fake.world.borrow_mut().gone.push(GOOD.parse().unwrap());
    released(&fake, 3, "sha256:a3").await;
    assert_eq!(kept(&fake), [BETTER, "sha256:a3"], "and what is gone is not missed");
}

#[tokio::test]
async fn an_image_that_cannot_be_kept_is_live_all_the_same_and_the_release_says_so() {
    let fake = with_live().await;
    let refuses = |fake: &Fake| {
        let mut world = fake.world.borrow_mut();
        world.immutable = true;
        let tags = keeping::tags(&"hello".parse().unwrap(), &"prod".parse().unwrap(), &"api".parse().unwrap());
        world.tags = tags.into_iter().map(|tag| (tag, MISSING.parse().unwrap())).collect();
    };
    refuses(&fake);
    let (verdict, _) = released(&fake, 2, BETTER).await;
    assert_eq!(
        (verdict.outcome, verdict.reason.as_str()),
        (Outcome::Succeeded, "1 of 1 tasks of hello-prod-api:2 serve")
    );
    let last = fake.steps(&run(2, BETTER)).await.pop().unwrap();
    assert!(last.contains("serve; the lifecycle policy of hello-api may delete its image: "), "{last}");
    fake.world.borrow_mut().immutable = false;
    fake.world.borrow_mut().gone.push("sha256:a3".parse().unwrap());
    released(&fake, 3, "sha256:a3").await;
    let last = fake.steps(&run(3, "sha256:a3")).await.pop().unwrap();
    assert!(last.ends_with("serve; its image is not in hello-api any more: push it again"), "{last}");
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_the_next_release_keeps_what_this_one_did_not() {
    cut_everywhere(async |cut| {
        let fake = with_live().await;
        fake.line.cut(cut);
        let verdict = finish(&fake, &run(2, BETTER), Ask::Deploy).await.unwrap();
        assert_eq!(verdict.outcome, Outcome::Succeeded, "{cut:?}");
        assert!(fake.world.borrow().moved <= 2, "{cut:?}");
        // A loss there is the business of the release after it.
        let calls = over(&fake, &run(2, BETTER), verdict.outcome, &run(3, BETTER), cut).await;
        assert_eq!((kept(&fake), fake.world.borrow().moved), (vec![GOOD.to_owned(), BETTER.to_owned()], 2), "{cut:?}");
        calls
    })
    .await;
}

const ROTATES: &str = "    restart_on_rotation: true\n    secrets: {KEY: {secretsmanager: prod/key}}\n";

/// start-release found a rotation.
async fn rotated(fake: &Fake, second: i64) {
    let Run { app, environment, component, .. } = run(1, GOOD);
    let state = fake.aside.component(&app, &environment, &component).await.unwrap();
    let mut new = state.clone();
    new.rotation.last = Some(Rotated { at: at(second), what: "prod/key".to_owned() });
    fake.aside.put_component(&app, &environment, &component, &state, &new).await.unwrap();
}

#[tokio::test]
async fn what_is_live_is_rolled_out_once_more_after_a_rotation_and_not_again() {
    let fake = with_live_of(ROTATES).await;
    rotated(&fake, 500).await;
    let (verdict, writes) = released(&fake, 2, GOOD).await;
    let expected = "1 of 1 tasks of hello-prod-api:2 serve; restarted because prod/key was rotated";
    assert_eq!((verdict.outcome, verdict.reason.as_str()), (Outcome::Succeeded, expected));
    assert_eq!(writes, ["register 2", "update 2 -"]);
    let steps = fake.steps(&run(2, GOOD)).await;
    assert!(steps[0].ends_with("hello-prod-api:2; restarted because prod/key was rotated"), "{steps:?}");
    assert_eq!(released(&fake, 3, GOOD).await.0.outcome, Outcome::Unchanged);
    let (verdict, _) = released(&fake, 4, BETTER).await;
    assert_eq!(verdict.reason, "1 of 1 tasks of hello-prod-api:3 serve");
    rotated(&fake, 900).await;
    assert_eq!(released(&fake, 5, BETTER).await.1, ["register 4", "update 4 -"]);
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_a_restart_is_one_deployment() {
    cut_everywhere(async |cut| {
        let fake = with_live_of(ROTATES).await;
        rotated(&fake, 500).await;
        fake.world.borrow_mut().writes.clear();
        fake.line.cut(cut);
        let verdict = finish(&fake, &run(2, GOOD), Ask::Deploy).await.unwrap();
        assert_eq!(verdict.outcome, Outcome::Succeeded, "{cut:?}");
        assert!(verdict.reason.ends_with("restarted because prod/key was rotated"), "{cut:?}: {}", verdict.reason);
        assert_eq!(writes(&fake), ["register 2", "update 2 -"], "{cut:?}");
        over(&fake, &run(2, GOOD), verdict.outcome, &run(3, GOOD), cut).await
    })
    .await;
}

async fn drift(fake: &Fake) -> Vec<String> {
    let input = DriftInput { app: "hello".parse().unwrap(), environment: "prod".parse().unwrap() };
    let now = at(fake.world.borrow().now);
    let found = drift::find(&fake.store, fake, &input, now).await.unwrap();
    found.differences.into_iter().map(|one| format!("{}: {}", one.of, one.what)).collect()
}

#[tokio::test]
async fn drift_names_what_differs_and_writes_nothing() {
    let fake = with_live_of(SCALED).await;
    assert_eq!(drift(&fake).await, [""; 0]);
    fake.world.borrow_mut().writes.clear();
    fake.world.borrow_mut().service.as_mut().unwrap().desired = 11;
    fake.world.borrow_mut().scaling.policies.clear();
    let expected = [
        "service/api: it wants 11 tasks, which is outside 2 to 10",
        "service/api: 2 of 11 tasks run",
        "service/api: the scaling policy `shipway-cpu` is not there",
        "service/api: the scaling policy `shipway-requests` is not there",
    ];
    assert_eq!(drift(&fake).await, expected);
    assert_eq!(writes(&fake), [""; 0]);
    begin(&fake.aside, &run(2, BETTER)).await;
    assert_eq!(drift(&fake).await, ["service/api: deploying"]);
}

#[tokio::test]
async fn a_service_of_which_nothing_is_live_does_not_differ() {
    assert_eq!(drift(&empty().await).await, [""; 0]);
}

#[test]
fn each_request_of_the_machines_is_understood() {
    let run = serde_json::to_value(run(1, GOOD)).unwrap();
    let read = |request: serde_json::Value| serde_json::from_value::<Request>(request).unwrap();
    for (action, expected) in [("deploy", "Deploy"), ("roll_back", "RollBack"), ("remove", "Remove")] {
        let request = read(serde_json::json!({"action": action, "run": run}));
        assert!(format!("{request:?}").starts_with(expected));
    }
    let drift = read(serde_json::json!({"action": "drift", "app": "hello", "environment": "prod"}));
    assert!(matches!(drift, Request::Drift(_)));
}

#[tokio::test]
async fn an_input_that_no_machine_makes_is_refused_by_name_and_nothing_changes() {
    let mut asked: Vec<_> =
        ["deploy", "shift", "roll_back"].map(|action| json!({"action": action, "run": run(2, BETTER)})).into();
    asked.push(json!({"action": "drift", "app": "hello", "environment": "prod"}));
    for valid in asked {
        Box::pin(are_refused(&valid, &[], async |input| {
            let fake = with_live().await;
            begin(&fake.aside, &run(2, BETTER)).await;
            let surroundings = Surroundings { region: "eu-west-1".to_owned(), registry_mirror: None };
            let now = at(fake.world.borrow().now);
            let roll = async |run, action| {
                let input = PassInput { run, action };
                Box::pin(handle(&fake.store, &fake, &surroundings, input, now)).await.map(|turn| json!(turn))
            };
            let asked = async |request: Request| match request {
                Request::Deploy { run } => roll(run, Ask::Deploy).await,
                Request::Shift { run } => roll(run, Ask::Shift).await,
                Request::RollBack { run } => roll(run, Ask::RollBack).await,
                Request::Drift(input) => drift::find(&fake.store, &fake, &input, now).await.map(|found| json!(found)),
                Request::Remove { run } => panic!("{run:?} was no removal"),
            };
            let answered = runtime::answer(&input, asked).await;
            (answered, format!("{:?} {}", writes(&fake), fake.aside.written()))
        }))
        .await;
    }
}
