//! Removals of an environment beside others, with an ECS in memory that lets services drain.

use serde_json::json;
use shipway_aws::{
    PublicError,
    runtime::answer,
    testing::{SYSTEMS, are_refused, begin, cut_everywhere, end, last_environment, refused},
};
use shipway_domain::{
    name::Component,
    release::{Artifact, Outcome},
};

use super::*;
use crate::handler::Request;

#[derive(Clone, Default)]
struct World {
    services: Vec<(FoundService, u32)>,
    scaled: Vec<String>,
    tasks: Vec<Task>,
    /// Each with its family, whether it is active, and its tags.
    revisions: BTreeMap<String, (String, bool, BTreeMap<String, String>)>,
    writes: Vec<String>,
    /// Whether the role may delete no revision.
    forbidden: bool,
}

impl World {
    fn tick(&mut self) {
        for (service, left) in &mut self.services {
            *left = left.saturating_sub(u32::from(service.draining));
        }
        self.services.retain(|(_, left)| *left > 0);
        self.tasks.retain(|task| !task.stopping);
    }
}

type Fake = shipway_ecs::testing::Fake<World>;

impl Leftovers for Fake {
    async fn services(&self, _: &str) -> Result<Vec<FoundService>, AwsError> {
        self.look(|world| world.services.iter().map(|(service, _)| service.clone()).collect())
    }

    async fn scaled(&self, _: &str) -> Result<Vec<String>, AwsError> {
        self.look(|world| world.scaled.clone())
    }

    async fn forget_scaling(&self, place: &Place) -> Result<(), AwsError> {
        self.write(|world| {
            world.writes.push(format!("forget {}", place.name));
            world.scaled.retain(|name| *name != place.name);
        })
    }

    async fn delete_service(&self, place: &Place) -> Result<(), AwsError> {
        self.write(|world| {
            assert!(!world.scaled.contains(&place.name));
            world.writes.push(format!("delete {}", place.name));
            // What is gone already needs no deleting.
            if let Some((service, _)) = world.services.iter_mut().find(|(one, _)| one.name == place.name) {
                service.draining = true;
            }
        })
    }

    async fn running(&self, _: &str) -> Result<Vec<Task>, AwsError> {
        self.look(|world| world.tasks.clone())
    }

    async fn stop(&self, _: &str, task: &str) -> Result<(), AwsError> {
        self.write(|world| {
            world.writes.push(format!("stop {task}"));
            if let Some(task) = world.tasks.iter_mut().find(|one| one.arn == task) {
                task.stopping = true;
            }
        })
    }

    async fn families(&self, prefix: &str) -> Result<Vec<String>, AwsError> {
        self.look(|world| {
            let families = world.revisions.values().map(|(family, ..)| family.clone());
            families.filter(|family| family.starts_with(prefix)).collect::<BTreeSet<_>>().into_iter().collect()
        })
    }

    async fn revisions(&self, family: &str, active: bool) -> Result<Vec<String>, AwsError> {
        self.look(|world| {
            let of_it = world.revisions.iter().filter(|(_, one)| one.0 == family && one.1 == active);
            of_it.map(|(arn, _)| arn.clone()).collect()
        })
    }

    async fn tags(&self, revision: &str) -> Result<Option<BTreeMap<String, String>>, AwsError> {
        self.look(|world| world.revisions.get(revision).map(|(.., tags)| tags.clone()))
    }

    async fn deregister(&self, revision: &str) -> Result<(), AwsError> {
        self.write(|world| {
            world.writes.push(format!("deregister {revision}"));
            if let Some(revision) = world.revisions.get_mut(revision) {
                revision.1 = false;
            }
        })
    }

    async fn delete(&self, revisions: &[String]) -> Result<Option<String>, AwsError> {
        assert!(revisions.len() <= 10);
        self.write(|world| {
            // Its tags are what the role may go by.
            if world.forbidden || revisions.iter().any(|arn| !world.revisions.contains_key(arn)) {
                return Err(refused("AccessDeniedException", 400));
            }
            world.writes.push(format!("delete {}", revisions.len()));
            world.revisions.retain(|arn, (_, active, _)| *active || !revisions.contains(arn));
            let is_there = revisions.iter().any(|arn| world.revisions.contains_key(arn));
            Ok(is_there.then(|| "it is still active".to_owned()))
        })?
    }
}

fn run() -> Run {
    Run {
        app: "hello".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        component: "platform".parse().unwrap(),
        artifact: Artifact::Object { key: "apps/hello/prod/shipway.yaml".to_owned(), version: "1".to_owned() },
        release: "20261121T031542123-3f9c2a".parse().unwrap(),
        fence: 2,
        repair: false,
    }
}

fn tags(environment: &str) -> BTreeMap<String, String> {
    task::tags(&run().app, &environment.parse().unwrap(), &run().component)
}

/// A new execution of a removal that is over finds nothing, and does nothing.
async fn assert_a_new_execution_removes_nothing(fake: &Fake, of: &Run, context: &str) {
    fake.line.cut(None);
    fake.world.borrow_mut().writes.clear();
    end(&fake.aside, of, Outcome::Succeeded).await;
    let next = Run { release: "20261121T041542123-3f9c2a".parse().unwrap(), fence: of.fence + 1, ..of.clone() };
    begin(&fake.aside, &next).await;
    let note = finish_of(fake, &next).await.unwrap().note;
    assert_eq!(note, "there were no services and no task definitions", "{context}");
    assert_eq!(fake.world.borrow().writes, [""; 0], "{context}");
}

const MANIFEST: &str = "version: 1
app: hello
environments: {prod: {}}
services:
  api: {image: {repository: hello-api}}
";

/// Two services of ours and a stranger's, a migration, 25 revisions of ours and one of an environment whose name begins alike.
async fn cloud() -> Fake {
    let service = |name: &str, tags| FoundService { name: name.to_owned(), draining: false, tags };
    let mut world = World {
        services: vec![
            (service("hello-prod-api", tags("prod")), 2),
            (service("hello-prod-worker", tags("prod")), 1),
            (service("a-strangers", BTreeMap::new()), 1),
        ],
        scaled: vec!["hello-prod-api".to_owned()],
        tasks: vec![Task {
            arn: "migration".to_owned(),
            task_definition: "arn:aws:ecs:r:1:task-definition/hello-prod-api-migrate:1".to_owned(),
            status: "RUNNING".to_owned(),
            ..Task::default()
        }],
        ..World::default()
    };
    let mut revision = |family: &str, number: u32, active, environment| {
        world.revisions.insert(format!("{family}:{number:02}"), (family.to_owned(), active, tags(environment)));
    };
    (1..=22).for_each(|number| revision("hello-prod-api", number, true, "prod"));
    (23..=24).for_each(|number| revision("hello-prod-api", number, false, "prod"));
    revision("hello-prod-api-migrate", 1, true, "prod");
    revision("hello-prod-eu-api", 1, true, "prod-eu");
    let fake = Fake::with_platform(world, MANIFEST).await;
    begin(&fake.aside, &run()).await;
    fake
}

async fn finish(fake: &Fake) -> Result<Summary, Error> {
    finish_of(fake, &run()).await
}

async fn finish_of(fake: &Fake, run: &Run) -> Result<Summary, Error> {
    for _ in 0..60 {
        match fake.line.end_pass(handle(&fake.store, fake, run, Timestamp::UNIX_EPOCH).await) {
            Ok(Pass::Done(summary)) => return Ok(summary),
            Ok(Pass::Again { .. }) => fake.world.borrow_mut().tick(),
            Err(error) if error.failure().retryable() => {}
            Err(error) => return Err(error),
        }
    }
    panic!("no end");
}

#[test]
fn one_is_not_told_as_several() {
    let told = |count| counted(count, "family", "families");
    assert_eq!([told(0), told(1), told(2)], ["0 families", "1 family", "2 families"]);
}

const NOTE: &str = "removed 2 services (hello-prod-api, hello-prod-worker) and the task definitions of 2 families";

#[tokio::test]
async fn everything_of_the_environment_goes_and_nothing_else() {
    let fake = cloud().await;
    assert_eq!(finish(&fake).await.unwrap().note, NOTE);
    {
        let world = fake.world.borrow();
        let first = ["forget hello-prod-api", "delete hello-prod-api", "delete hello-prod-worker", "stop migration"];
        assert_eq!(world.writes[..4], first);
        let left: Vec<_> = world.services.iter().map(|(service, _)| service.name.as_str()).collect();
        assert_eq!((left, world.tasks.len()), (vec!["a-strangers"], 0));
        assert_eq!(world.revisions.keys().collect::<Vec<_>>(), ["hello-prod-eu-api:01"]);
    }
    // Asked again because its answer was lost, it says the same and does nothing.
    let calls = fake.world.borrow().writes.len();
    assert_eq!(finish(&fake).await.unwrap().note, NOTE);
    assert_eq!(fake.world.borrow().writes.len(), calls);
    assert_eq!(fake.steps(&run()).await, [NOTE]);
}

#[tokio::test]
async fn what_the_role_may_not_delete_is_told() {
    let fake = cloud().await;
    fake.world.borrow_mut().forbidden = true;
    assert_eq!(finish(&fake).await.unwrap_err().failure(), Failure::Denied);
    assert!(fake.world.borrow().revisions.len() > 1);
}

#[tokio::test]
async fn where_nothing_is_nothing_is_done_and_told() {
    let fake = cloud().await;
    *fake.world.borrow_mut() = World::default();
    assert_eq!(finish(&fake).await.unwrap().note, "there were no services and no task definitions");
    assert_eq!(fake.world.borrow().writes, [""; 0]);
    assert_eq!(fake.steps(&run()).await, [""; 0]);
}

#[tokio::test]
async fn cut_off_before_or_after_any_call_it_all_goes() {
    cut_everywhere(async |cut| {
        let fake = cloud().await;
        fake.line.cut(cut);
        assert_eq!(finish(&fake).await.unwrap().note, NOTE, "{cut:?}");
        let left = {
            let world = fake.world.borrow();
            (world.services.len(), world.tasks.len(), world.revisions.len())
        };
        assert_eq!(left, (1, 0, 1), "{cut:?}");
        assert_eq!(fake.steps(&run()).await, [NOTE], "{cut:?}");
        let calls = fake.line.calls();
        assert_a_new_execution_removes_nothing(&fake, &run(), &format!("{cut:?}")).await;
        calls
    })
    .await;
}

/// What so many releases of each service of a manifest made, while a migration runs.
fn made_by(manifest: &str, releases: u32) -> (World, Run) {
    let (environment, spec) = last_environment(manifest);
    let run = Run { app: spec.app.clone(), environment, ..run() };
    let mut world = World::default();
    for (name, service) in spec.services {
        let family = task::service_name(&run.app, &run.environment, &name);
        let tags = task::tags(&run.app, &run.environment, &Component::Service(name));
        let service_there = FoundService { name: family.clone(), draining: false, tags: tags.clone() };
        world.services.push((service_there, 2));
        world.scaled.extend(service.scale.map(|_| family.clone()));
        // Somebody deregistered what the first of several left.
        let mut revision = |family: &str, number| {
            let active = number > 1 || releases == 1;
            world.revisions.insert(format!("{family}:{number}"), (family.to_owned(), active, tags.clone()));
        };
        (1..=releases).for_each(|number| revision(&family, number));
        if service.migrate.is_some() {
            let family = format!("{family}-migrate");
            revision(&family, releases);
            world.tasks.push(Task {
                arn: "migration".to_owned(),
                task_definition: format!("arn:aws:ecs:r:1:task-definition/{family}:{releases}"),
                status: "RUNNING".to_owned(),
                ..Task::default()
            });
        }
    }
    (world, run)
}

#[tokio::test]
async fn the_services_of_the_five_systems_all_go_whatever_becomes_of_a_call() {
    for (manifest, releases) in SYSTEMS.into_iter().flat_map(|manifest| [(manifest, 1), (manifest, 3)]) {
        let (world, run) = made_by(manifest, releases);
        cut_everywhere(async |cut| {
            let fake = Fake::with_platform(world.clone(), manifest).await;
            begin(&fake.aside, &run).await;
            fake.line.cut(cut);
            let context = format!("{releases} releases in {}, {cut:?}", run.app);
            let note = finish_of(&fake, &run).await.unwrap().note;
            assert_eq!(fake.steps(&run).await, [note], "{context}");
            {
                let World { services, scaled, tasks, revisions, .. } = &*fake.world.borrow();
                let left = (services.len(), scaled.len(), tasks.len(), revisions.len());
                assert_eq!(left, (0, 0, 0, 0), "{context}");
            }
            let calls = fake.line.calls();
            assert_a_new_execution_removes_nothing(&fake, &run, &context).await;
            calls
        })
        .await;
    }
}

#[tokio::test]
async fn an_input_that_no_machine_makes_is_refused_by_name_and_nothing_changes() {
    let valid = json!({"action": "remove", "run": run()});
    // Which manifest it was is no matter of a removal.
    let free = ["/run/artifact/object/key", "/run/artifact/object/version"];
    are_refused(&valid, &free, async |input| {
        let fake = cloud().await;
        let asked = async |request: Request| match request {
            Request::Remove { run } => handle(&fake.store, &fake, &run, Timestamp::UNIX_EPOCH).await,
            other => panic!("{other:?} was a removal"),
        };
        let answered = answer(&input, asked).await.map(|pass| json!(pass));
        (answered, format!("{:?} {}", fake.world.borrow().writes, fake.aside.written()))
    })
    .await;
}
