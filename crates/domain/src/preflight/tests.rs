use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    manifest::{self, Spec},
    name::{AppName, EnvironmentName, RepositoryName},
    platform::{PlatformOutputs, ServiceOutputs},
    task::Surroundings,
};

const DIGEST: &str = "sha256:00ab";
const EXECUTION_ROLE: &str = "arn:aws:iam::123456789012:role/shipway/execution";
const TASK_ROLE: &str = "arn:aws:iam::123456789012:role/shipway/task";

struct World {
    spec: Spec,
    repository: RepositoryName,
    digest: Digest,
    service: ComponentName,
}

/// A service of two tasks on one `t3.small`, whose tasks may have 2 interfaces.
fn world() -> World {
    let text = "version: 1\napp: hello\nenvironments: {prod: {}}\ncluster: {ec2: {instance_type: t3.small, networking: awsvpc, min: 1, max: 1}}\n\
                services: {api: {image: {repository: hello-api}}}\n";
    World {
        spec: manifest::unchecked(text, "prod"),
        repository: "hello-api".parse().unwrap(),
        digest: DIGEST.parse().unwrap(),
        service: "api".parse().unwrap(),
    }
}

impl World {
    fn needs(&self) -> Needs<'_> {
        Needs {
            service: &self.service,
            source: Source::Repository { repository: &self.repository, digest: &self.digest },
            architecture: "amd64",
            execution_role: EXECUTION_ROLE,
            task_role: TASK_ROLE,
            infrastructure_role: None,
            given: BTreeMap::new(),
            log_groups: ["/ecs/hello".to_owned()].into(),
            subnets: ["subnet-1", "subnet-2"].map(str::to_owned).into(),
            tasks: 3,
            limits: Limits::default(),
            alarms: ["hello-5xx".to_owned()].into(),
            room: self.spec.cluster.ec2.as_ref().map(|ec2| Room { ec2, cpu: 256, memory: 512, for_all: false }),
        }
    }
}

/// All is well.
fn facts() -> Facts {
    Facts {
        image: Image::There(single("amd64")),
        execution_role: Role::There(trust("ecs-tasks.amazonaws.com")),
        task_role: Role::There(trust("ecs-tasks.amazonaws.com")),
        infrastructure_role: Role::Unknown,
        kept: BTreeMap::new(),
        unreadable: BTreeSet::new(),
        missing_log_groups: BTreeSet::new(),
        standing: Some(Standing { desired: 3, deploying: false }),
        subnets: [("subnet-1", 2), ("subnet-2", 2)].map(|(id, free)| Subnet { id: id.to_owned(), free }).into(),
        instances: vec![Instance { cpu: Some(256), memory: Some(512), tasks: 1, trunk: false }],
        alarms: [("hello-5xx".to_owned(), false)].into(),
    }
}

fn trust(service: &str) -> String {
    json!({"Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}]})
        .to_string()
}

/// An image of one platform.
fn single(architecture: &str) -> Stored {
    let config = json!({"mediaType": CONFIGURATIONS[1], "digest": DIGEST, "size": 7});
    Stored {
        manifest: json!({"config": config, "layers": []}).to_string(),
        configuration: Some(json!({"os": "linux", "architecture": architecture, "config": {}}).to_string()),
    }
}

fn index(platforms: &[(&str, &str)]) -> Stored {
    let images = platforms.iter().enumerate().map(|(n, (os, architecture))| {
        json!({"digest": format!("sha256:{n:02}ff"), "platform": {"os": os, "architecture": architecture}})
    });
    Stored { manifest: json!({"manifests": images.collect::<Vec<_>>()}).to_string(), configuration: None }
}

fn told(facts: &Facts) -> Vec<String> {
    findings(&world().needs(), facts, false).into_iter().map(|finding| finding.what).collect()
}

#[test]
fn a_rollout_that_has_all_it_needs_begins() {
    assert_eq!(told(&facts()), [""; 0]);
}

#[test]
fn each_thing_that_is_missing_is_told_by_its_name() {
    let missing = Facts { image: Image::Missing("ImageNotFound".to_owned()), ..facts() };
    let other = Facts { image: Image::There(index(&[("linux", "arm64"), ("unknown", "unknown")])), ..facts() };
    let alone = Facts { image: Image::There(single("arm64")), ..facts() };
    let execution = Facts { execution_role: Role::Missing, ..facts() };
    let task = Facts { task_role: Role::There(trust("ec2.amazonaws.com")), ..facts() };
    let log = Facts { missing_log_groups: ["/ecs/hello".to_owned()].into(), ..facts() };
    let mut subnet = facts();
    subnet.subnets.pop();
    let mut addresses = facts();
    addresses.subnets[1].free = 1;
    let mut room = facts();
    room.instances[0].memory = Some(511);
    let on = Facts { alarms: [("hello-5xx".to_owned(), true)].into(), ..facts() };
    let no_alarm = Facts { alarms: BTreeMap::new(), ..facts() };
    for (facts, of_image, start) in [
        (missing, true, "the image hello-api@sha256:00ab cannot be pulled (ImageNotFound); push it again"),
        (
            other,
            true,
            "the image is for linux/arm64, and the tasks of `api` are linux/amd64; build it with `--platform linux/amd64`",
        ),
        (
            alone,
            true,
            "the image is for linux/arm64, and the tasks of `api` are linux/amd64; build it with `--platform linux/amd64`",
        ),
        (execution, false, "the execution role arn:aws:iam::123456789012:role/shipway/execution is not there"),
        (task, false, "the task role arn:aws:iam::123456789012:role/shipway/task may not be taken by tasks"),
        (on, false, "the alarm hello-5xx is on, so ECS would not watch it; put right what it tells"),
        (no_alarm, false, "there is no alarm hello-5xx; make it, or take it out of the `rollout.alarms` of `api`"),
        (log, false, "the log group /ecs/hello is not there"),
        (subnet, false, "the subnet subnet-2 of its tasks is not there"),
        (addresses, false, "the subnet subnet-2 has 1 free addresses, and a rollout of 3 tasks needs 2 there"),
        (
            room,
            false,
            "none of the 1 instances has room for one more task of `api`, which takes 256 CPU units, 512 MiB",
        ),
    ] {
        let found = findings(&world().needs(), &facts, false);
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert_eq!(finding.of_image, of_image, "{finding:?}");
        assert!(finding.what.starts_with(start), "{finding:?}");
    }
}

#[test]
fn everything_that_is_missing_is_told_at_once() {
    let nothing = Facts {
        image: Image::Missing("ImageNotFound".to_owned()),
        execution_role: Role::Missing,
        task_role: Role::Missing,
        missing_log_groups: ["/ecs/hello".to_owned()].into(),
        standing: None,
        subnets: vec![Subnet { id: "subnet-1".to_owned(), free: 0 }],
        instances: vec![Instance { cpu: Some(0), ..Instance::default() }],
        alarms: BTreeMap::new(),
        ..Facts::default()
    };
    assert_eq!(told(&nothing).len(), 8);
}

#[test]
fn room_and_addresses_are_asked_for_only_where_a_rollout_will_take_them() {
    let full = Facts {
        subnets: facts().subnets.into_iter().map(|subnet| Subnet { free: 0, ..subnet }).collect(),
        instances: vec![Instance { cpu: Some(0), ..Instance::default() }],
        ..facts()
    };
    assert_eq!(told(&full).len(), 3);
    // Nothing may be left to do.
    assert_eq!(findings(&world().needs(), &full, true), []);
    // The tasks of the deployment that is under way make room.
    let standing = Some(Standing { desired: 3, deploying: true });
    assert_eq!(told(&Facts { standing, ..full }), [""; 0]);
}

#[test]
fn a_rollout_that_starts_fewer_tasks_at_once_needs_fewer_addresses() {
    let world = world();
    let few =
        Facts { subnets: facts().subnets.into_iter().map(|subnet| Subnet { free: 1, ..subnet }).collect(), ..facts() };
    assert_eq!(findings(&world.needs(), &few, false).len(), 2);
    let slower = Needs { limits: Limits { least: 100, most: 150 }, ..world.needs() };
    assert_eq!(findings(&slower, &few, false), []);
    // The first time all of them start.
    assert_eq!(findings(&slower, &Facts { standing: None, ..few }, false).len(), 2);
}

#[test]
fn an_instance_has_room_by_what_ecs_says_and_by_the_interfaces_of_its_type() {
    let world = world();
    let room = world.needs().room.unwrap();
    let instance = facts().instances[0];
    for (instance, holds) in [
        (instance, 1),
        (Instance { cpu: Some(255), ..instance }, 0),
        (Instance { cpu: Some(800), memory: Some(1024), tasks: 0, ..instance }, 2),
        (Instance { cpu: Some(800), memory: Some(1024), tasks: 1, ..instance }, 1),
        (Instance { cpu: None, memory: None, ..instance }, 1),
        (Instance { tasks: 2, ..instance }, 0),
        (Instance { tasks: 2, trunk: true, ..instance }, 1),
    ] {
        assert_eq!(instance.holds(room), holds, "{instance:?}");
    }
    let bridge = Ec2 { networking: Networking::Bridge, ..room.ec2.clone() };
    assert_eq!(Instance { tasks: 9, ..instance }.holds(Room { ec2: &bridge, ..room }), 1);
}

/// ECS starts as many new tasks as there are old ones before it moves requests.
#[test]
fn where_requests_go_over_at_the_end_all_new_tasks_need_room_and_ecs_its_role() {
    let world = world();
    let mut needs = world.needs();
    needs.room = needs.room.map(|room| Room { for_all: true, ..room });
    needs.infrastructure_role = Some("arn:aws:iam::123456789012:role/shipway/moves");
    let mut facts = Facts { infrastructure_role: Role::There(trust("ecs.amazonaws.com")), ..facts() };
    let found = findings(&needs, &facts, false);
    assert_eq!(found.len(), 1);
    assert!(found[0].what.starts_with("the 1 instances have room for 1 of the 3 new tasks of `api`"), "{found:?}");
    facts.instances = vec![Instance { cpu: Some(256), memory: Some(512), tasks: 1, trunk: false }; 3];
    assert_eq!(findings(&needs, &facts, false), []);
    facts.infrastructure_role = Role::There(trust("ecs-tasks.amazonaws.com"));
    assert!(findings(&needs, &facts, false)[0].what.contains("does not let ecs.amazonaws.com do sts:AssumeRole"));
    facts.infrastructure_role = Role::Missing;
    assert!(findings(&needs, &facts, false)[0].what.contains("no requests go over to a new version without it"));
}

#[test]
fn where_another_instance_may_start_there_is_room() {
    let mut world = world();
    world.spec.cluster.ec2.as_mut().unwrap().max = 2;
    let full = Facts { instances: vec![Instance { cpu: Some(0), ..Instance::default() }], ..facts() };
    assert_eq!(findings(&world.needs(), &full, false), []);
}

#[test]
fn of_an_index_the_image_runs_that_is_for_the_tasks() {
    let digest: Digest = DIGEST.parse().unwrap();
    let both = index(&[("linux", "amd64"), ("linux", "arm64"), ("unknown", "unknown")]);
    assert_eq!(both.runs_as(&digest, "amd64"), Ok("sha256:00ff".parse().unwrap()));
    assert_eq!(both.runs_as(&digest, "arm64"), Ok("sha256:01ff".parse().unwrap()));
    assert_eq!(
        index(&[("linux", "amd64"), ("linux", "s390x")]).runs_as(&digest, "arm64"),
        Err(vec!["linux/amd64".to_owned(), "linux/s390x".to_owned()])
    );
    // An index that names no platform, and what is neither: what pulls it decides.
    for unknown in [r#"{"layers": []}"#, r#"{"manifests": [{"digest": "sha256:77"}]}"#, "no JSON"] {
        let unknown = Stored { manifest: unknown.to_owned(), configuration: None };
        assert_eq!(unknown.runs_as(&digest, "amd64"), Ok(digest.clone()), "{unknown:?}");
    }
}

#[test]
fn an_image_that_is_no_index_is_what_its_configuration_says() {
    let digest: Digest = DIGEST.parse().unwrap();
    assert_eq!(single("arm64").runs_as(&digest, "arm64"), Ok(digest.clone()));
    assert_eq!(single("arm64").runs_as(&digest, "amd64"), Err(vec!["linux/arm64".to_owned()]));
    // Where it could not be read, or says nothing, whatever pulls it decides.
    for configuration in [None, Some("{}"), Some("no JSON")] {
        let image = Stored { configuration: configuration.map(str::to_owned), ..single("arm64") };
        assert_eq!(image.runs_as(&digest, "amd64"), Ok(digest.clone()), "{configuration:?}");
    }
}

#[test]
fn only_what_is_an_image_s_configuration_and_small_is_read() {
    let manifest = |kind: &str, size: usize| {
        configuration_of(&json!({"config": {"mediaType": kind, "digest": DIGEST, "size": size}}).to_string())
    };
    for kind in CONFIGURATIONS {
        assert_eq!(manifest(kind, LARGEST_CONFIGURATION), Some(DIGEST.parse().unwrap()));
        assert_eq!(manifest(kind, LARGEST_CONFIGURATION + 1), None);
    }
    assert_eq!(manifest("application/vnd.cncf.helm.config.v1+json", 7), None);
    assert_eq!(configuration_of(&index(&[("linux", "amd64")]).manifest), None);
}

const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:";

/// What a service with these secrets and overrides is given, and what is found where this is known of it.
fn found(kept: &[(&str, Kept)], unreadable: &[&str]) -> Vec<String> {
    let text = "version: 1\napp: hello\nenvironments: {prod: {}}\nsecrets: {key: {}}\nservices:\n  api:\n    image: {repository: hello-api}\n    \
                secrets: {A: {secretsmanager: 'prod/a:user'}, B: {secretsmanager: 'prod/a:password'}, C: {ssm: /c}, K: {ref: secrets.key}}\n    \
                sidecars: {proxy: {image: 'public.ecr.aws/proxy:1', secrets: {D: {secretsmanager: prod/a}}}}\n    \
                overrides: {containerDefinitions: {api: {logConfiguration: {secretOptions: [{name: key, valueFrom: 'arn:aws:secretsmanager:eu-west-1:123456789012:secret:log-x1y2z3'}]}}}}\n";
    let spec = manifest::unchecked(text, "prod");
    let platform = PlatformOutputs {
        secrets: [("secrets.key".to_owned(), format!("{SECRET}hello-prod-key-q1w2e3"))].into(),
        services: [("api".parse().unwrap(), outputs())].into(),
        ..PlatformOutputs::default()
    };
    let (app, environment, name): (AppName, EnvironmentName, ComponentName) =
        ("hello".parse().unwrap(), "prod".parse().unwrap(), "api".parse().unwrap());
    let (repository, digest) = ("hello-api".parse().unwrap(), DIGEST.parse().unwrap());
    let wanted = Wanted {
        app: &app,
        environment: &environment,
        name: &name,
        spec: &spec,
        service: &spec.services[&name],
        platform: &platform,
        outputs: &platform.services[&name],
        source: Source::Repository { repository: &repository, digest: &digest },
    };
    let surroundings = Surroundings { region: "eu-west-1".to_owned(), registry_mirror: None };
    let tasks = [wanted.service_task(&surroundings).unwrap()];
    let needs = Needs::of(&wanted, &tasks, &Placement::default());
    let facts = Facts {
        kept: kept.iter().map(|(arn, kept)| ((*arn).to_owned(), kept.clone())).collect(),
        unreadable: unreadable.iter().map(|arn| (*arn).to_owned()).collect(),
        ..Facts::default()
    };
    findings(&needs, &facts, false).into_iter().map(|finding| finding.what).collect()
}

fn outputs() -> ServiceOutputs {
    ServiceOutputs {
        repository_uri: Some("123456789012.dkr.ecr.eu-west-1.amazonaws.com/hello-api".to_owned()),
        log_group: "/ecs/hello".to_owned(),
        execution_role: EXECUTION_ROLE.to_owned(),
        task_role: TASK_ROLE.to_owned(),
        ..ServiceOutputs::default()
    }
}

#[test]
fn a_secret_that_cannot_be_handed_over_is_told_with_every_place_that_names_it() {
    let a = format!("{SECRET}prod/a");
    let places = "`services.api.secrets.A`, `services.api.secrets.B`, `services.api.sidecars.proxy.secrets.D`";
    for (kept, rest) in [
        (
            Kept::Missing,
            "is not there, and no container starts without it; create it in the service's account and region",
        ),
        (Kept::Deleted, "is being deleted, and no container starts without it; `aws secretsmanager restore-secret"),
        (Kept::Empty, "has no value, and no container starts without it; `aws secretsmanager put-secret-value"),
    ] {
        let told = found(&[(&a, kept)], &[]);
        let [one] = &told[..] else { panic!("{told:?}") };
        assert!(one.starts_with(&format!("the secret prod/a ({places}) {rest}")), "{one}");
    }
    assert_eq!(found(&[(&a, Kept::There(format!("{a}-abcdef")))], &[]), [""; 0]);
}

#[test]
fn who_made_a_secret_decides_what_to_do_about_it() {
    let made = format!("{SECRET}hello-prod-key-q1w2e3");
    let told = found(&[(&made, Kept::Missing)], &[]);
    assert!(told[0].ends_with("`shipway apply --repair` makes it again"), "{told:?}");
    let parameter = "arn:aws:ssm:eu-west-1:123456789012:parameter/c";
    let told = found(&[(parameter, Kept::Missing)], &[]);
    assert!(told[0].starts_with("the parameter /c (`services.api.secrets.C`) is not there"), "{told:?}");
    let told = found(&[], &[parameter]);
    assert!(told[0].contains("may not be read (ssm:GetParameters) by the execution role"), "{told:?}");
    assert!(told[0].contains("`shipway apply --repair` gives the role its rights again"), "{told:?}");
    let log = format!("{SECRET}log-x1y2z3");
    let told = found(&[], &[&log]);
    assert!(
        told[0].contains("`services.api.overrides.containerDefinitions.api.logConfiguration.secretOptions`"),
        "{told:?}"
    );
    assert!(told[0].ends_with("an override gives no rights: name it under `secrets` too"), "{told:?}");
}

proptest! {
    #[test]
    fn more_of_anything_never_makes_a_finding(free in 0_u32..4, cpu in 0_u32..600, memory in 0_u32..1000, tasks in 0_u32..4, desired in 0_u32..9) {
        let with = |more: u32| Facts {
            standing: Some(Standing { desired, deploying: false }),
            subnets: facts().subnets.into_iter().map(|subnet| Subnet { free: free + more, ..subnet }).collect(),
            instances: vec![Instance { cpu: Some(cpu + more), memory: Some(memory + more), tasks, trunk: false }],
            ..facts()
        };
        prop_assert!(told(&with(1)).len() <= told(&with(0)).len());
    }
}
