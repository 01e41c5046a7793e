use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    manifest::{self, Spec},
    name::RepositoryName,
};

const DIGEST: &str = "sha256:00ab";

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
            log_groups: ["/ecs/hello".to_owned()].into(),
            subnets: ["subnet-1", "subnet-2"].map(str::to_owned).into(),
            tasks: 3,
            room: self.spec.cluster.ec2.as_ref().map(|ec2| Room { ec2, cpu: 256, memory: 512 }),
        }
    }
}

/// All is well.
fn facts() -> Facts {
    Facts {
        image: Image::There(json!({"config": {"digest": DIGEST}, "layers": []}).to_string()),
        missing_log_groups: BTreeSet::new(),
        standing: Some(Standing { desired: 3, deploying: false }),
        subnets: [("subnet-1", 2), ("subnet-2", 2)].map(|(id, free)| Subnet { id: id.to_owned(), free }).into(),
        instances: vec![Instance { cpu: Some(256), memory: Some(512), tasks: 1, trunk: false }],
    }
}

fn index(platforms: &[(&str, &str)]) -> String {
    let images = platforms.iter().enumerate().map(|(n, (os, architecture))| {
        json!({"digest": format!("sha256:{n:02}ff"), "platform": {"os": os, "architecture": architecture}})
    });
    json!({"manifests": images.collect::<Vec<_>>()}).to_string()
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
    let log = Facts { missing_log_groups: ["/ecs/hello".to_owned()].into(), ..facts() };
    let mut subnet = facts();
    subnet.subnets.pop();
    let mut addresses = facts();
    addresses.subnets[1].free = 1;
    let mut room = facts();
    room.instances[0].memory = Some(511);
    for (facts, of_image, start) in [
        (missing, true, "the image hello-api@sha256:00ab cannot be pulled (ImageNotFound); push it again"),
        (
            other,
            true,
            "the image is for linux/arm64, and the tasks of `api` are linux/amd64; build it with `--platform linux/amd64`",
        ),
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
        missing_log_groups: ["/ecs/hello".to_owned()].into(),
        standing: None,
        subnets: vec![Subnet { id: "subnet-1".to_owned(), free: 0 }],
        instances: vec![Instance { cpu: Some(0), ..Instance::default() }],
    };
    assert_eq!(told(&nothing).len(), 5);
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
fn an_instance_has_room_by_what_ecs_says_and_by_the_interfaces_of_its_type() {
    let world = world();
    let room = world.needs().room.unwrap();
    let instance = facts().instances[0];
    for (instance, has) in [
        (instance, true),
        (Instance { cpu: Some(255), ..instance }, false),
        (Instance { cpu: None, memory: None, ..instance }, true),
        (Instance { tasks: 2, ..instance }, false),
        (Instance { tasks: 2, trunk: true, ..instance }, true),
    ] {
        assert_eq!(instance.has(room), has, "{instance:?}");
    }
    let bridge = Ec2 { networking: Networking::Bridge, ..room.ec2.clone() };
    assert!(Instance { tasks: 9, ..instance }.has(Room { ec2: &bridge, ..room }));
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
    assert_eq!(runs_as(&both, &digest, "amd64"), Ok("sha256:00ff".parse().unwrap()));
    assert_eq!(runs_as(&both, &digest, "arm64"), Ok("sha256:01ff".parse().unwrap()));
    assert_eq!(
        runs_as(&index(&[("windows", "amd64"), ("linux", "s390x")]), &digest, "amd64"),
        Err(vec!["linux/s390x".to_owned(), "windows/amd64".to_owned()])
    );
    // One image, an index that names no platform, and what is neither: what pulls it decides.
    for unknown in [r#"{"layers": []}"#, r#"{"manifests": [{"digest": "sha256:77"}]}"#, "no JSON"] {
        assert_eq!(runs_as(unknown, &digest, "amd64"), Ok(digest.clone()), "{unknown}");
    }
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
