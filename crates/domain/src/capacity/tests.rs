use super::*;

fn spec(cluster: &str, services: &str) -> Result<Spec, String> {
    let text = format!(
        "version: 1\napp: hello\nnetwork: {{nat: single}}\ncluster: {{ec2: {{{cluster}}}}}\nservices:\n{services}environments: \
         {{prod: {{}}}}\n"
    );
    let mut environments = crate::manifest::read_all(&text).map_err(|error| error.to_string())?;
    Ok(environments.remove(0).1)
}

fn service(name: &str, more: &str) -> String {
    format!("  {name}: {{image: {{repository: {name}}}, port: 80, {more}}}\n")
}

fn refused(cluster: &str, services: &str) -> String {
    spec(cluster, services).unwrap_err()
}

#[test]
fn two_awsvpc_services_and_their_surge_are_too_much_for_two_t3a_small() {
    let two = service("api", "memory: 256") + &service("web", "memory: 256");
    let said = refused("instance_type: t3a.small, networking: awsvpc", &two);
    assert_eq!(
        said,
        "line 4, column 16: cluster.ec2: 2 × t3a.small cannot hold 4 tasks (all, and those that replace them in a rollout): \
         with `awsvpc` each task has a network interface of its own, and each instance has 1 for tasks; use \
         `networking: bridge`, set `max` to 4, or take a larger `instance_type`"
    );
    for way_out in [
        "instance_type: t3a.small, networking: bridge",
        "instance_type: t3a.small, networking: awsvpc, max: 4",
        "instance_type: t3a.medium, networking: awsvpc",
    ] {
        assert_eq!(check(&spec(way_out, &two).unwrap()), Ok(Room::Enough), "{way_out}");
    }
}

#[test]
fn memory_and_cpu_are_counted_by_instance_and_not_in_all() {
    // Three tasks of 1 GiB are less memory than two instances have, and no instance holds two of them.
    let said = refused("instance_type: t3.small", &service("api", "memory: 1024, count: 3"));
    assert!(said.contains("cannot hold 6 tasks") && said.contains("each instance has 1882 MiB"), "{said}");
    assert!(said.contains("set `max` to 6, or take a larger `instance_type`"), "{said}");
    let said = refused("instance_type: t2.micro", &service("api", "memory: 128, cpu: 600, count: 2"));
    assert!(said.contains("cannot hold 4 tasks") && said.contains("1024 CPU units for tasks"), "{said}");
}

#[test]
fn a_task_larger_than_an_instance_is_told_at_its_own_key() {
    let said = refused("instance_type: t3.micro, max: 9", &service("api", "memory: 1024"));
    assert!(
        said.contains("services.api.memory: a t3.micro gives tasks 909 MiB, and one task of `api` needs 1024"),
        "{said}"
    );
    let said = refused("instance_type: t3.micro, max: 9", &service("api", "cpu: 4096"));
    assert!(said.contains("services.api.cpu: a t3.micro gives tasks 2048 CPU units"), "{said}");
}

#[test]
fn what_scale_allows_must_fit_too() {
    let scaled = service("api", "memory: 512, scale: {min: 1, max: 9, cpu: 50}");
    let said = refused("instance_type: t3.small", &scaled);
    assert!(said.contains("cannot hold 9 tasks (as many as `scale` allows)"), "{said}");
    assert!(spec("instance_type: t3.small, max: 3", &scaled).is_ok());
}

#[test]
fn a_type_that_is_not_known_is_passed_and_said() {
    let spec = spec("instance_type: z9.large", &service("api", "memory: 99999")).unwrap();
    assert!(matches!(check(&spec), Ok(Room::Unknown(_))));
}

#[test]
fn a_fixed_port_interrupts_where_there_are_too_few_instances_for_old_and_new() {
    let fixed = service("api", "host_port: 8000");
    let names = |max: u32| {
        let spec = spec(&format!("instance_type: t3.small, max: {max}"), &fixed).unwrap();
        interrupted_by_rollouts(&spec).len()
    };
    assert_eq!((names(1), names(2)), (1, 0));
    let dynamic = spec("instance_type: t3.small, max: 1", &service("api", "")).unwrap();
    assert!(interrupted_by_rollouts(&dynamic).is_empty());
    let said = refused("instance_type: t3.small, max: 2", &service("api", "host_port: 8000, count: 3"));
    assert!(said.contains("one task with a `host_port` has it on each instance; leave `host_port` out"), "{said}");
}

#[test]
fn every_type_is_there_once_and_whole() {
    let mut names: Vec<_> = TYPES.iter().map(|(name, ..)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TYPES.len());
    for (name, vcpus, memory, interfaces) in TYPES {
        assert!(
            InstanceType::try_from(name.to_owned()).is_ok() && vcpus > 0 && memory >= 512 && interfaces >= 2,
            "{name}"
        );
    }
}

#[test]
fn a_service_whose_requests_are_moved_counts_every_task_twice() {
    let three = |more: &str| service("api", &format!("memory: 256, count: 3, {more}"));
    let awsvpc = "instance_type: t3a.small, networking: awsvpc, max: 5";
    assert_eq!(check(&spec(awsvpc, &three("rollout: {max_percent: 150}")).unwrap()), Ok(Room::Enough));
    let said = refused(awsvpc, &three("http: {}, rollout: {strategy: blue_green}"));
    assert!(said.contains("cannot hold 6 tasks"), "{said}");
}
