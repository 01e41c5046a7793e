use proptest::prelude::*;

use super::*;
use crate::manifest;

const ROLE: &str = "arn:aws:iam::123456789012:role/hello-prod-api-execution";

fn spec(more: &str) -> Service {
    let text = format!(
        "version: 1\napp: hello\nenvironments: {{prod: {{}}}}\nservices:\n  api:\n    image: {{repository: hello-api}}\n    port: 3000\n{more}"
    );
    let spec = manifest::read(&text, &"hello".parse().unwrap(), &"prod".parse().unwrap()).unwrap();
    spec.services.into_values().next().unwrap()
}

fn outputs() -> ServiceOutputs {
    ServiceOutputs {
        repository_uri: Some("123456789012.dkr.ecr.eu-west-1.amazonaws.com/hello-api".to_owned()),
        log_group: "/shipway/hello-prod/api".to_owned(),
        execution_role: ROLE.to_owned(),
        task_role: "arn:aws:iam::123456789012:role/hello-prod-api-task".to_owned(),
        target_group: None,
        ..ServiceOutputs::default()
    }
}

fn surroundings(mirror: Option<&str>) -> Surroundings {
    Surroundings { region: "eu-west-1".to_owned(), registry_mirror: mirror.map(str::to_owned) }
}

fn with<T>(service: &Service, outputs: &ServiceOutputs, repository: &str, make: impl FnOnce(Wanted<'_>) -> T) -> T {
    make(Wanted {
        app: &"hello".parse().unwrap(),
        environment: &"prod".parse().unwrap(),
        name: &"api".parse().unwrap(),
        service,
        outputs,
        repository: &repository.parse().unwrap(),
        digest: &"sha256:00ab".parse().unwrap(),
    })
}

fn task_of(service: &Service, mirror: Option<&str>) -> TaskDefinition {
    with(service, &outputs(), "hello-api", |wanted| wanted.service_task(&surroundings(mirror))).unwrap()
}

/// What ECS answers to a registered task definition: its own defaults filled in.
fn described(task: &TaskDefinition) -> DescribedTaskDefinition {
    let container = &task.container;
    DescribedTaskDefinition {
        arn: format!("arn:aws:ecs:eu-west-1:123456789012:task-definition/{}:1", task.family),
        active: true,
        family: task.family.clone(),
        cpu: Some(task.cpu.to_string()),
        memory: Some(task.memory.to_string()),
        execution_role: Some(task.execution_role.clone()),
        task_role: Some(task.task_role.clone()),
        network_mode: Some("awsvpc".to_owned()),
        requires_compatibilities: vec!["FARGATE".to_owned()],
        architecture: Some(task.architecture.word().to_owned()),
        system: Some("LINUX".to_owned()),
        containers: vec![DescribedContainer {
            name: container.name.clone(),
            image: container.image.clone(),
            command: container.command.clone(),
            essential: Some(true),
            ports: container
                .port
                .map(|port| DescribedPort { container: port, host: Some(port), protocol: Some("tcp".to_owned()) })
                .into_iter()
                .collect(),
            env: container.env.clone().into_iter().rev().collect(),
            secrets: container.secrets.clone().into_iter().rev().collect(),
            log_driver: Some("awslogs".to_owned()),
            log_options: container.log.options(),
            has_more: false,
        }],
        has_more: false,
    }
}

#[test]
fn the_image_is_named_by_digest_and_pulled_from_the_mirror_where_there_is_one() {
    let service = spec("");
    assert_eq!(
        task_of(&service, None).container.image,
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/hello-api@sha256:00ab"
    );
    assert_eq!(task_of(&service, Some("localhost:4566")).container.image, "localhost:4566/hello-api@sha256:00ab");
}

#[test]
fn secrets_are_named_in_the_forms_that_ecs_takes() {
    let service = spec(
        "    secrets:\n      WHOLE: {secretsmanager: prod/hello/jwt}\n      KEY: {secretsmanager: \"prod/hello/db:url\"}\n      PARAMETER: {ssm: /hello/token}\n",
    );
    let secrets = task_of(&service, None).container.secrets;
    let expected = [
        ("KEY", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/hello/db:url::"),
        ("PARAMETER", "arn:aws:ssm:eu-west-1:123456789012:parameter/hello/token"),
        ("WHOLE", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/hello/jwt"),
    ];
    assert_eq!(secrets, expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
}

#[test]
fn another_partition_is_kept() {
    let service = spec("    secrets: {A: {ssm: /a}}\n");
    let role = "arn:aws-cn:iam::123456789012:role/x".to_owned();
    let outputs = ServiceOutputs { execution_role: role, ..outputs() };
    let task = with(&service, &outputs, "hello-api", |wanted| wanted.service_task(&surroundings(None))).unwrap();
    assert_eq!(task.container.secrets["A"], "arn:aws-cn:ssm:eu-west-1:123456789012:parameter/a");
}

#[test]
fn what_cannot_be_a_task_definition_is_refused() {
    let service = spec("");
    let refused = |outputs: &ServiceOutputs, repository: &str| {
        with(&service, outputs, repository, |wanted| wanted.service_task(&surroundings(None))).unwrap_err().to_string()
    };
    assert!(refused(&outputs(), "other").contains("`api` takes its images from `hello-api`"));
    for role in ["", "shipway", "arn:aws:iam:::role/x", "arn:aws:sts::1:role/x", "arn:aws:iam::1:user/x"] {
        let outputs = ServiceOutputs { execution_role: role.to_owned(), ..outputs() };
        assert!(refused(&outputs, "hello-api").contains("is not a role's ARN"), "{role}");
    }
    let outputs = ServiceOutputs { repository_uri: Some("registry/other".to_owned()), ..outputs() };
    assert!(refused(&outputs, "hello-api").contains("`registry/other` is not the URI of the repository `hello-api`"));
}

#[test]
fn a_migration_is_the_service_with_another_command_and_no_port() {
    let service = spec("    env: {A: b}\n");
    let command = vec!["npm".to_owned(), "run".to_owned(), "migrate".to_owned()];
    let task =
        with(&service, &outputs(), "hello-api", |wanted| wanted.migration_task(&surroundings(None), &command)).unwrap();
    let of_service = task_of(&service, None);
    assert_eq!(task.family, "hello-prod-api-migrate");
    assert_eq!((task.container.port, &task.container.command), (None, &command));
    assert_eq!((task.container.image, task.container.env), (of_service.container.image, of_service.container.env));
    assert_eq!(log_stream(&task.container.log.stream_prefix, "api", "arn:aws:ecs:r:a:task/c/77"), "migrate/api/77");
}

#[test]
fn a_revision_is_recognised_with_and_without_defaults_and_not_when_anything_differs() {
    let task = task_of(&spec("    env: {A: b, C: d}\n"), None);
    let same = described(&task);
    assert!(task.is(&same));

    type Change = fn(&mut DescribedTaskDefinition);
    let harmless: [Change; 5] = [
        |d| d.architecture = None,
        |d| d.system = None,
        |d| d.containers[0].essential = None,
        |d| d.containers[0].ports[0].host = None,
        |d| d.containers[0].ports[0].protocol = None,
    ];
    for (index, change) in harmless.iter().enumerate() {
        let mut other = same.clone();
        change(&mut other);
        assert!(task.is(&other), "{index}");
    }
    let different: [Change; 19] = [
        |d| d.active = false,
        |d| d.family.push('x'),
        |d| d.cpu = Some("512".to_owned()),
        |d| d.memory = None,
        |d| d.execution_role = None,
        |d| d.task_role = Some("other".to_owned()),
        |d| d.network_mode = Some("bridge".to_owned()),
        |d| d.requires_compatibilities.clear(),
        |d| d.architecture = Some("ARM64".to_owned()),
        |d| d.system = Some("WINDOWS_SERVER_2022_CORE".to_owned()),
        |d| d.has_more = true,
        |d| d.containers.push(DescribedContainer::default()),
        |d| d.containers[0].image = "hello-api:latest".to_owned(),
        |d| d.containers[0].command.push("sh".to_owned()),
        |d| d.containers[0].essential = Some(false),
        |d| d.containers[0].ports[0].container = 3001,
        |d| d.containers[0].env[0].1 = "e".to_owned(),
        |d| drop(d.containers[0].log_options.insert("mode".to_owned(), "non-blocking".to_owned())),
        |d| d.containers[0].has_more = true,
    ];
    for (index, change) in different.iter().enumerate() {
        let mut other = same.clone();
        change(&mut other);
        assert!(!task.is(&other), "{index}");
    }
}

#[test]
fn a_digest_that_differs_is_never_ours_and_one_that_is_missing_leaves_it_to_the_revision() {
    let ours: Digest = "sha256:01".parse().unwrap();
    let running = |digest: Option<&str>| Task {
        containers: vec![TaskContainer {
            name: "api".to_owned(),
            digest: digest.map(str::to_owned),
            ..TaskContainer::default()
        }],
        ..Task::default()
    };
    assert!(running(Some("sha256:01")).runs("api", Some(&ours)));
    assert!(!running(Some("sha256:02")).runs("api", Some(&ours)));
    assert!(running(None).runs("api", Some(&ours)));
    assert!(running(Some("sha256:02")).runs("api", None));
}

#[test]
fn why_a_task_stopped_names_the_exit_code_or_that_there_is_none() {
    let stopped = |reason: &str, exit_code, more: Option<&str>| Task {
        stopped_reason: Some(reason.to_owned()),
        containers: vec![TaskContainer {
            name: "api".to_owned(),
            exit_code,
            reason: more.map(str::to_owned),
            ..TaskContainer::default()
        }],
        ..Task::default()
    };
    let table = [
        (
            stopped("Essential container in task exited", Some(1), None),
            "Essential container in task exited (exit code 1)",
        ),
        (
            stopped(
                "Essential container in task exited",
                Some(137),
                Some("OutOfMemoryError: Container killed due to memory usage"),
            ),
            "Essential container in task exited (exit code 137, killed, often for lack of memory): OutOfMemoryError: Container killed due to memory usage",
        ),
        (
            stopped("CannotPullContainerError: not found", None, Some("CannotPullContainerError: not found")),
            "CannotPullContainerError: not found (no exit code: the container never ran)",
        ),
        (Task::default(), "it stopped without a reason (no exit code: the container never ran)"),
    ];
    for (task, expected) in table {
        assert_eq!(task.why_stopped("api"), expected);
    }
}

#[test]
fn the_end_of_a_log_is_kept_in_one_line() {
    assert_eq!(last_lines(&[]), "");
    assert_eq!(last_lines(&["  ".to_owned()]), "");
    assert_eq!(last_lines(&["one\n".to_owned(), String::new(), "two".to_owned()]), "; last log lines: one | two");
    let long = last_lines(&["ä".repeat(5000), "the end".to_owned()]);
    assert!(long.ends_with("the end") && long.chars().count() < 1300);
}

proptest! {
    #[test]
    fn any_two_task_definitions_are_the_same_exactly_when_they_are_equal(
        a in any_task(), b in any_task(),
    ) {
        prop_assert!(a.is(&described(&a)));
        prop_assert_eq!(a.is(&described(&b)), a == b);
    }
}

fn any_task() -> impl Strategy<Value = TaskDefinition> {
    let pairs = || proptest::collection::btree_map("[AB]", "[ab]", 0..2);
    (
        0u32..2,
        0u32..2,
        "[ab]",
        "[ab]",
        proptest::option::of(1u16..3),
        pairs(),
        pairs(),
        proptest::collection::vec("[ab]", 0..2),
    )
        .prop_map(|(cpu, memory, role, image, port, env, secrets, command)| TaskDefinition {
            family: "family".to_owned(),
            cpu,
            memory,
            execution_role: role.clone(),
            task_role: role,
            architecture: Architecture::X86_64,
            container: Container {
                name: "api".to_owned(),
                image,
                command,
                port,
                env,
                secrets,
                log: Log { group: "g".to_owned(), region: "r".to_owned(), stream_prefix: "s".to_owned() },
            },
            tags: BTreeMap::new(),
        })
}
