use std::{collections::BTreeSet, path::Path};

use super::*;
use crate::{
    manifest,
    network::NetworkOutputs,
    platform::DatabaseOutputs,
    rollout::{Limits, Settings, scaling::Scaling},
};

const ROLE: &str = "arn:aws:iam::123456789012:role/hello-prod-api-execution";

/// A manifest whose one service is `api`, with these keys of it and these beside it.
fn spec(of_service: &str, beside: &str) -> Spec {
    let text = format!(
        "version: 1\napp: hello\nenvironments: {{prod: {{}}}}\nservices:\n  api:\n    image: {{repository: hello-api}}\n    port: 3000\n{of_service}{beside}"
    );
    manifest::unchecked(&text, "prod")
}

fn outputs() -> ServiceOutputs {
    ServiceOutputs {
        repository_uri: Some("123456789012.dkr.ecr.eu-west-1.amazonaws.com/hello-api".to_owned()),
        log_group: "/shipway/hello-prod/api".to_owned(),
        execution_role: ROLE.to_owned(),
        task_role: "arn:aws:iam::123456789012:role/hello-prod-api-task".to_owned(),
        ..ServiceOutputs::default()
    }
}

fn platform() -> PlatformOutputs {
    let texts = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    PlatformOutputs {
        capacity_provider: Some("hello-prod".to_owned()),
        values: texts(&[("databases.main.host", "db.internal")]),
        secrets: texts(&[("databases.main.url", "arn:of:the-url")]),
        ..PlatformOutputs::default()
    }
}

fn surroundings(mirror: Option<&str>) -> Surroundings {
    Surroundings { region: "eu-west-1".to_owned(), registry_mirror: mirror.map(str::to_owned) }
}

fn image(repository: &str) -> Artifact {
    Artifact::Image { repository: repository.parse().unwrap(), digest: "sha256:00ab".parse().unwrap() }
}

fn with<T>(spec: &Spec, outputs: &ServiceOutputs, artifact: &Artifact, make: impl FnOnce(Wanted<'_>) -> T) -> T {
    make(Wanted {
        app: &"hello".parse().unwrap(),
        environment: &"prod".parse().unwrap(),
        name: &"api".parse().unwrap(),
        spec,
        service: spec.services.values().next().unwrap(),
        platform: &platform(),
        outputs,
        source: Source::of(artifact).unwrap(),
    })
}

fn tried(spec: &Spec) -> Result<Value, TaskError> {
    with(spec, &outputs(), &image("hello-api"), |wanted| wanted.service_task(&surroundings(None)))
        .map(|task| task.request())
}

fn request(of_service: &str, beside: &str) -> Value {
    tried(&spec(of_service, beside)).unwrap()
}

fn own(request: &Value) -> &Value {
    &request["containerDefinitions"][0]
}

#[test]
fn the_image_is_named_by_digest_and_pulled_from_the_mirror_where_there_is_one() {
    let image_from = |mirror| {
        let task =
            with(&spec("", ""), &outputs(), &image("hello-api"), |wanted| wanted.service_task(&surroundings(mirror)));
        own(&task.unwrap().request())["image"].clone()
    };
    assert_eq!(image_from(None), "123456789012.dkr.ecr.eu-west-1.amazonaws.com/hello-api@sha256:00ab");
    assert_eq!(image_from(Some("localhost:4566")), "localhost:4566/hello-api@sha256:00ab");
}

#[test]
fn secrets_are_named_in_the_forms_that_ecs_takes() {
    let request = request(
        "    secrets:\n      WHOLE: {secretsmanager: prod/hello/jwt}\n      KEY: {secretsmanager: \"prod/hello/db:url\"}\n      PARAMETER: {ssm: /hello/token}\n      URL: {ref: databases.main.url}\n",
        "",
    );
    let arn = |rest: &str| format!("arn:aws:{rest}");
    let expected = json!([
        {"name": "KEY", "valueFrom": arn("secretsmanager:eu-west-1:123456789012:secret:prod/hello/db:url::")},
        {"name": "PARAMETER", "valueFrom": arn("ssm:eu-west-1:123456789012:parameter/hello/token")},
        {"name": "URL", "valueFrom": "arn:of:the-url"},
        {"name": "WHOLE", "valueFrom": arn("secretsmanager:eu-west-1:123456789012:secret:prod/hello/jwt")},
    ]);
    assert_eq!(own(&request)["secrets"], expected);
}

#[test]
fn another_partition_is_kept() {
    let outputs = ServiceOutputs { execution_role: "arn:aws-cn:iam::123456789012:role/x".to_owned(), ..outputs() };
    let spec = spec("    secrets: {A: {ssm: /a}}\n", "");
    let task = with(&spec, &outputs, &image("hello-api"), |wanted| wanted.service_task(&surroundings(None))).unwrap();
    assert_eq!(own(&task.request())["secrets"][0]["valueFrom"], "arn:aws-cn:ssm:eu-west-1:123456789012:parameter/a");
}

#[test]
fn what_cannot_be_a_task_definition_is_refused() {
    let refused = |outputs: &ServiceOutputs, artifact: &Artifact| {
        with(&spec("", ""), outputs, artifact, |wanted| wanted.service_task(&surroundings(None)))
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&outputs(), &image("other")).contains("`api` takes its images from `hello-api`"));
    let public = Artifact::Public { image: "docker.io/library/nginx:1.27".to_owned().try_into().unwrap() };
    assert!(refused(&outputs(), &public).contains("does not run images like docker.io/library/nginx:1.27"));
    for role in ["", "shipway", "arn:aws:iam:::role/x", "arn:aws:sts::1:role/x", "arn:aws:iam::1:user/x"] {
        let outputs = ServiceOutputs { execution_role: role.to_owned(), ..outputs() };
        assert!(refused(&outputs, &image("hello-api")).contains("is not a role's ARN"), "{role}");
    }
    let outputs = ServiceOutputs { repository_uri: Some("registry/other".to_owned()), ..outputs() };
    assert!(
        refused(&outputs, &image("hello-api"))
            .contains("`registry/other` is not the URI of the repository `hello-api`")
    );
}

#[test]
fn a_reference_is_what_was_provisioned_for_it_or_named_as_missing() {
    let host = request("    env: {HOST: {ref: databases.main.host}, PORT: 3000}\n", "");
    let expected = json!([{"name": "HOST", "value": "db.internal"}, {"name": "PORT", "value": "3000"}]);
    assert_eq!(own(&host)["environment"], expected);
    for (key, reference) in [("env", "databases.main.port"), ("secrets", "databases.main.password")] {
        let missing = tried(&spec(&format!("    {key}: {{A: {{ref: {reference}}}}}\n"), "")).unwrap_err();
        assert!(missing.to_string().contains(&format!("nothing that `{{ref: {reference}}}` stands for")), "{missing}");
    }
}

#[test]
fn sidecars_stand_beside_the_service_and_those_before_it_must_end_well() {
    let request = request(
        "    command: [serve]\n    entrypoint: [/bin/app]\n    sidecars:\n      proxy: {image: \"envoyproxy/envoy:v1.30\", port: 9901, cpu: 64, memory: 128, env: {A: b}, secrets: {C: {ssm: /c}}}\n      seed: {image: \"busybox:1.36\", before: true, command: [\"true\"]}\n      metrics: {image: \"collector:1\", essential: false}\n",
        "",
    );
    let names: Vec<_> =
        request["containerDefinitions"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["api", "metrics", "proxy", "seed"]);
    assert_eq!(own(&request)["dependsOn"], json!([{"containerName": "seed", "condition": "SUCCESS"}]));
    assert_eq!((&own(&request)["command"], &own(&request)["entryPoint"]), (&json!(["serve"]), &json!(["/bin/app"])));
    let essential: Vec<_> =
        (0..4).map(|index| request["containerDefinitions"][index]["essential"].as_bool().unwrap()).collect();
    assert_eq!(essential, [true, false, true, false]);
    let proxy = &request["containerDefinitions"][2];
    let expected = json!({
        "name": "proxy", "image": "envoyproxy/envoy:v1.30", "essential": true, "cpu": 64, "memory": 128,
        "portMappings": [{"containerPort": 9901, "protocol": "tcp"}],
        "environment": [{"name": "A", "value": "b"}],
        "secrets": [{"name": "C", "valueFrom": "arn:aws:ssm:eu-west-1:123456789012:parameter/c"}],
        "logConfiguration": {"logDriver": "awslogs", "options": {
            "awslogs-group": "/shipway/hello-prod/api", "awslogs-region": "eu-west-1", "awslogs-stream-prefix": "service",
        }},
    });
    assert_eq!(*proxy, expected);
}

#[test]
fn on_instances_ports_are_free_ones_and_cpu_is_a_share() {
    let ec2 = |more: &str| format!("cluster: {{ec2: {{instance_type: t4g.small{more}}}}}\n");
    let shared =
        request("    cpu: 256\n    memory: 384\n    sidecars: {proxy: {image: \"envoy:1\", cpu: 64}}\n", &ec2(""));
    assert_eq!((&shared["networkMode"], &shared["requiresCompatibilities"]), (&json!("bridge"), &json!(["EC2"])));
    assert_eq!((shared.get("cpu"), &shared["memory"], &own(&shared)["cpu"]), (None, &json!("384"), &json!(192)));
    assert_eq!(own(&shared)["portMappings"], json!([{"containerPort": 3000, "hostPort": 0, "protocol": "tcp"}]));
    assert_eq!(shared["runtimePlatform"]["cpuArchitecture"], "ARM64");
    let fixed = request("    host_port: 8080\n", &ec2(""));
    assert_eq!(own(&fixed)["portMappings"][0]["hostPort"], 8080);
    let interfaces = request("", &ec2(", networking: awsvpc"));
    assert_eq!(interfaces["networkMode"], "awsvpc");
    assert_eq!(own(&interfaces)["portMappings"], json!([{"containerPort": 3000, "protocol": "tcp"}]));
}

#[test]
fn overrides_are_laid_over_deep_and_what_has_a_key_of_its_own_is_refused() {
    let request = request(
        "    sidecars: {proxy: {image: \"envoy:1\"}}\n    overrides:\n      ephemeralStorage: {sizeInGiB: 40}\n      runtimePlatform: {cpuArchitecture: ARM64}\n      containerDefinitions:\n        api:\n          ulimits: [{name: nofile, softLimit: 1024, hardLimit: 4096}]\n          stopTimeout: 60\n          logConfiguration: {options: {mode: non-blocking, awslogs-stream-prefix: null}}\n        proxy: {user: \"1337\"}\n",
        "",
    );
    assert_eq!(request["ephemeralStorage"], json!({"sizeInGiB": 40}));
    assert_eq!(request["runtimePlatform"], json!({"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}));
    assert_eq!(own(&request)["ulimits"], json!([{"name": "nofile", "softLimit": 1024, "hardLimit": 4096}]));
    assert_eq!((&own(&request)["stopTimeout"], &own(&request)["name"]), (&json!(60), &json!("api")));
    let options = &own(&request)["logConfiguration"]["options"];
    assert_eq!((&options["mode"], options.get("awslogs-stream-prefix")), (&json!("non-blocking"), None));
    assert_eq!(request["containerDefinitions"][1]["user"], "1337");

    let table = [
        ("{family: x}", "family: it is named for the service"),
        ("{cpu: \"1\"}", "cpu: `cpu` sets it"),
        ("{containerDefinitions: [1]}", "containerDefinitions: the containers stand here by name"),
        ("{containerDefinitions: {web: {}}}", "containerDefinitions.web: the service has no such container"),
        ("{containerDefinitions: {api: 1}}", "containerDefinitions.api: a mapping"),
        ("{containerDefinitions: {api: {environment: []}}}", "containerDefinitions.api.environment: `env` sets it"),
        ("{containerDefinitions: {api: {image: x}}}", "containerDefinitions.api.image: `image` sets it"),
    ];
    for (overrides, expected) in table {
        let wrong = tried(&spec(&format!("    overrides: {overrides}\n"), "")).unwrap_err().to_string();
        assert!(wrong.starts_with(&format!("services.api.overrides.{expected}")), "{wrong}");
    }
}

#[test]
fn a_migration_is_the_service_with_another_command_no_port_and_nothing_beside_it() {
    let spec = spec(
        "    env: {A: b}\n    sidecars: {seed: {image: \"busybox:1\", before: true}}\n    overrides: {containerDefinitions: {api: {user: root}, seed: {user: root}}}\n",
        "",
    );
    let command = ["npm", "run", "migrate"].map(str::to_owned);
    let of_part = |part: Part, outputs: &ServiceOutputs| {
        let make = |wanted: Wanted<'_>| wanted.migration_task(&surroundings(None), part, &command);
        with(&spec, outputs, &image("hello-api"), make).unwrap().request()
    };
    let of = |outputs: &ServiceOutputs| of_part(Part::Migrate, outputs);
    let (task, service) = (of(&outputs()), tried(&spec).unwrap());
    assert_eq!(task["family"], "hello-prod-api-migrate");
    assert_eq!(task["containerDefinitions"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&own(&task)["command"], own(&task).get("portMappings"), own(&task).get("dependsOn")),
        (&json!(command), None, None)
    );
    for same in ["image", "environment", "user"] {
        assert_eq!(own(&task)[same], own(&service)[same]);
    }
    let log = |request: &Value, key: &str| own(request)["logConfiguration"]["options"][key].clone();
    assert_eq!(
        (log(&task, "awslogs-stream-prefix"), log(&task, "awslogs-group")),
        (json!("migrate"), json!("/shipway/hello-prod/api"))
    );
    assert_eq!(log_stream(Part::Migrate.stream(), "api", "arn:aws:ecs:r:a:task/c/77"), "migrate/api/77");
    let verify = of_part(Part::Verify, &outputs());
    assert_eq!(
        (&verify["family"], log(&verify, "awslogs-stream-prefix")),
        (&json!("hello-prod-api_verify"), json!("verify"))
    );
    let elsewhere = of(&ServiceOutputs { migration_log_group: Some("/ecs/migration".to_owned()), ..outputs() });
    assert_eq!(log(&elsewhere, "awslogs-group"), "/ecs/migration");
}

#[test]
fn a_revision_is_recognised_by_what_it_was_registered_with() {
    let task = |of_service: &str| {
        with(&spec(of_service, ""), &outputs(), &image("hello-api"), |wanted| wanted.service_task(&surroundings(None)))
            .unwrap()
    };
    let described = |task: &TaskDefinition| {
        let request = task.request();
        let tags = request["tags"].as_array().unwrap().iter().map(|tag| {
            let text = |key: &str| tag[key].as_str().unwrap().to_owned();
            (text("key"), text("value"))
        });
        DescribedTaskDefinition { arn: "arn".to_owned(), active: true, tags: tags.collect() }
    };
    let one = task("    env: {A: b}\n");
    assert!(one.is(&described(&one)) && one.is(&described(&task("    env: {A: b}\n"))));
    assert!(!one.is(&described(&task("    env: {A: c}\n"))));
    assert!(!one.is(&described(&task("    env: {A: b}\n    overrides: {pidMode: task}\n"))));
    assert!(!one.is(&DescribedTaskDefinition { active: false, ..described(&one) }));
    assert!(!one.is(&DescribedTaskDefinition { tags: BTreeMap::new(), ..described(&one) }));
    let tags = described(&one).tags;
    assert!(is_of(&tags, &"hello".parse().unwrap(), &"prod".parse().unwrap()));
    assert!(!is_of(&tags, &"hello".parse().unwrap(), &"dev".parse().unwrap()));
}

#[test]
fn only_databases_that_did_not_come_with_their_server_are_further_ones() {
    let beside = "databases: {main: {engine: postgres, version: \"15.4\", names: [first, second, third]}}\n";
    let spec = spec(
        "    env: {A: {ref: databases.main.first.name}, B: {ref: databases.main.host}}\n    secrets: {C: {ref: databases.main.second.url}}\n    sidecars: {p: {image: \"p:1\", env: {D: {ref: databases.main.third.name}}}}\n",
        beside,
    );
    let further = databases::further(&spec, &spec.services[&"api".parse().unwrap()]);
    let main: ComponentName = "main".parse().unwrap();
    let names: BTreeSet<String> = ["second", "third"].map(str::to_owned).into();
    assert_eq!(further, BTreeMap::from([(main.clone(), names.clone())]));

    let mut made = databases::Made::default();
    made.remember(&databases::Making { server: main.clone(), host: "old".to_owned(), names: names.clone() });
    assert_eq!(made.missing(&main, "old", &names), BTreeSet::new());
    assert_eq!(made.missing(&main, "new", &names), names, "another server has none of them");
}

#[test]
fn databases_are_made_by_a_client_of_their_servers_version_that_knows_the_password_only_by_reference() {
    let beside = "databases: {main: {engine: postgres, version: \"15.4\", names: [first, second]}}\n";
    let names = ["second".to_owned()].into();
    let make = |wanted: Wanted<'_>| {
        wanted.databases_task(&surroundings(Some("mirror")), &"main".parse().unwrap(), &server(), &names)
    };
    let task = with(&spec("", beside), &outputs(), &image("hello-api"), make).unwrap().request();
    assert_eq!(
        (&task["family"], &task["cpu"], task.get("taskRoleArn")),
        (&json!("hello-prod-api_databases"), &json!("256"), None)
    );
    assert_eq!(own(&task)["image"], "public.ecr.aws/docker/library/postgres:15-alpine");
    assert_eq!(own(&task)["secrets"], json!([{"name": "PGPASSWORD", "valueFrom": "arn:of:the-password"}]));
    let command = own(&task)["command"].as_array().unwrap();
    assert_eq!((&own(&task)["entryPoint"], command.last().unwrap()), (&json!(["sh"]), &json!("second")));
    assert!(own(&task)["environment"].as_array().unwrap().contains(&json!({"name": "PGSSLMODE", "value": "require"})));
}

fn server() -> DatabaseOutputs {
    DatabaseOutputs {
        engine: manifest::DatabaseEngine::Postgres,
        identifier: "hello-prod-main".to_owned(),
        host: "db.internal".to_owned(),
        port: 5432,
        user: "app".to_owned(),
        password: "arn:of:the-password".to_owned(),
        names: Vec::new(),
        export_bucket: None,
    }
}

fn network(private: bool) -> NetworkOutputs {
    NetworkOutputs {
        public_subnets: vec!["public".to_owned()],
        private_subnets: if private { vec!["private".to_owned()] } else { Vec::new() },
        service_group: "sg".to_owned(),
        ..NetworkOutputs::default()
    }
}

#[test]
fn tasks_have_a_public_address_only_on_fargate_in_public_subnets() {
    let placed = |beside: &str, private| {
        let make = |wanted: Wanted<'_>| wanted.placement(&network(private)).unwrap();
        with(&spec("", beside), &outputs(), &image("hello-api"), make)
    };
    let awsvpc = "cluster: {ec2: {instance_type: t3.small, networking: awsvpc}}\n";
    let table = [("", false, "public", true), ("", true, "private", false), (awsvpc, false, "public", false)];
    for (beside, private, subnet, public_address) in table {
        let interfaces = placed(beside, private).interfaces.unwrap();
        assert_eq!((interfaces.subnets, interfaces.public_address), ([subnet.to_owned()].into(), public_address));
    }
    let on = |providers: &[(&str, u32)]| {
        Capacity::Providers(providers.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect())
    };
    let bridge = placed("cluster: {ec2: {instance_type: t3.small}}\n", true);
    assert_eq!(bridge, Placement { capacity: on(&[("hello-prod", 1)]), interfaces: None });
    assert_eq!(placed("", true).capacity, Capacity::Fargate);
    assert_eq!(placed("cluster: {capacity: fargate_spot}\n", true).capacity, on(&[("FARGATE_SPOT", 1)]));
    assert_eq!(placed("cluster: {spot: 70}\n", true).capacity, on(&[("FARGATE", 30), ("FARGATE_SPOT", 70)]));
}

#[test]
fn a_service_with_a_fixed_port_stops_first_and_one_without_addresses_tells_its_port_to_the_discovery() {
    let outputs = ServiceOutputs { registry: Some("registry".to_owned()), ..outputs() };
    let settings = |of_service: &str, beside: &str| {
        let make = |wanted: Wanted<'_>| Settings::of(&wanted, &network(true)).unwrap();
        with(&spec(of_service, beside), &outputs, &image("hello-api"), make)
    };
    let bridge = "cluster: {ec2: {instance_type: t3.small}}\n";
    let fixed = settings("    host_port: 80\n    discovery: true\n", bridge);
    assert_eq!(fixed.limits, Limits { least: 0, most: 100 });
    assert_eq!(fixed.registry.as_ref().unwrap().port, Some(("api".to_owned(), 3000)));
    let fargate = settings("    discovery: true\n", "");
    assert_eq!((fargate.limits, settings("", bridge).limits), (Limits::default(), Limits::default()));
    let given = settings("    host_port: 80\n    rollout: {min_percent: 50, alarms: [b, a]}\n", bridge);
    assert_eq!(given.limits, Limits { least: 50, most: 100 });
    assert_eq!(given.alarms.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(fargate.registry.as_ref().unwrap().port, None);
    assert!(fargate.no_way_to(&fixed).is_some() && fixed.no_way_to(&fargate).is_some());
    assert_eq!(fargate.no_way_to(&settings("", "")), None);
    let missing = with(&spec("    http: {}\n", ""), &outputs, &image("hello-api"), |wanted| {
        Settings::of(&wanted, &network(true))
    });
    assert!(missing.unwrap_err().to_string().contains("there is no target group"));
}

/// The five systems, each with what its services are in ECS.
const SYSTEMS: [(&str, &str, &str); 5] = [
    ("dougust", "prod", include_str!("../../../../examples/dougust/shipway.yaml")),
    ("fastapi-react", "prod", include_str!("../../../../examples/fastapi-react/shipway.yaml")),
    ("next-nest", "dev", include_str!("../../../../examples/next-nest/shipway.yaml")),
    ("rex", "dev", include_str!("../../../../examples/rex/shipway.yaml")),
    ("spa-nest", "prod", include_str!("../../../../examples/spa-nest/shipway.yaml")),
];

/// With `SHIPWAY_BLESS=1` in the environment what is there is written down anew.
#[test]
fn the_services_of_the_five_systems_are_what_is_written_down() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("src/task/golden");
    for (system, environment, text) in SYSTEMS {
        let found = serde_json::to_string_pretty(&system_of(environment, text)).unwrap() + "\n";
        let path = folder.join(format!("{system}.json"));
        if std::env::var_os("SHIPWAY_BLESS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &found).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written == found, "{system} is not as {} says, but:\n{found}", path.display());
    }
}

fn system_of(environment: &str, text: &str) -> Value {
    let spec = manifest::unchecked(text, environment);
    let (region, account) = ("us-east-1", "123456789012");
    let arn = |service: &str, rest: String| format!("arn:aws:{service}:{rest}");
    let mut platform = PlatformOutputs {
        capacity_provider: Some(format!("{}-{environment}", spec.app)),
        ..PlatformOutputs::default()
    };
    let mut tasks = Map::new();
    for (name, service) in &spec.services {
        for reference in databases::references(service) {
            let text = reference.to_string();
            platform.values.insert(text.clone(), format!("<{text}>"));
            platform.secrets.insert(text.clone(), arn("secretsmanager", format!("{region}:{account}:secret:<{text}>")));
        }
        let full = format!("{}-{environment}-{name}", spec.app);
        let role = |kind: &str| arn("iam", format!(":{account}:role/shipway/{full}-{kind}"));
        let outputs = ServiceOutputs {
            repository_uri: service
                .image
                .repository
                .as_ref()
                .map(|one| format!("{account}.dkr.ecr.{region}.amazonaws.com/{one}")),
            log_group: service.log_group.as_ref().map_or(format!("/ecs/{full}"), |group| group.as_str().to_owned()),
            migration_log_group: service
                .migrate
                .as_ref()
                .and_then(|one| Some(one.log_group.as_ref()?.as_str().to_owned())),
            execution_role: role("execution"),
            task_role: role("task"),
            target_group: service.http.as_ref().map(|_| format!("<target group of {name}>")),
            registry: service.discovery.then(|| format!("<registry of {name}>")),
            alternate: None,
        };
        let artifact = match (&service.image.repository, &service.image.public) {
            (Some(repository), _) => image(repository.as_str()),
            (None, Some(image)) => Artifact::Public { image: image.clone() },
            (None, None) => panic!("{name} has no image"),
        };
        let wanted = Wanted {
            app: &spec.app,
            environment: &environment.parse().unwrap(),
            name,
            spec: &spec,
            service,
            platform: &platform,
            outputs: &outputs,
            source: Source::of(&artifact).unwrap(),
        };
        let surroundings = Surroundings { region: region.to_owned(), registry_mirror: None };
        let mut all = vec![wanted.service_task(&surroundings).unwrap()];
        if let Some(migrate) = &service.migrate {
            all.push(wanted.migration_task(&surroundings, Part::Migrate, &migrate.command).unwrap());
        }
        for (server, names) in databases::further(&spec, service) {
            all.push(wanted.databases_task(&surroundings, &server, &self::server(), &names).unwrap());
        }
        let all: Vec<Value> = all.iter().map(|task| Value::Object(task.fields.clone())).collect();
        let shown = json!({
            "settings": Settings::of(&wanted, &network(spec.network.nat != manifest::Nat::None)).unwrap(),
            "tasks": service.tasks(),
            "scaling": service.scale.as_ref().map(Scaling::of),
            "task_definitions": all,
        });
        tasks.insert(name.to_string(), shown);
    }
    Value::Object(tasks)
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
        (
            Task {
                containers: vec![
                    TaskContainer { name: "api".to_owned(), exit_code: Some(143), ..TaskContainer::default() },
                    TaskContainer { name: "proxy".to_owned(), exit_code: Some(1), ..TaskContainer::default() },
                ],
                ..stopped("Essential container in task exited", None, None)
            },
            "Essential container in task exited (exit code 143, asked to stop); its container `proxy` ended with exit code 1",
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

#[test]
fn a_load_balancer_knows_a_task_by_its_own_address_or_by_its_instances_and_the_port_it_got_there() {
    let own = Task { addresses: vec!["10.0.0.7".to_owned()], ..Task::default() };
    assert!(own.is_reached_at(3000, "10.0.0.7", 3000) && !own.is_reached_at(3000, "10.0.0.8", 3000));
    let shared = Task { addresses: vec!["i-1".to_owned()], ports: BTreeMap::from([(3000, 32_768)]), ..Task::default() };
    assert!(shared.is_reached_at(3000, "i-1", 32_768) && !shared.is_reached_at(3000, "i-1", 32_769));
}
