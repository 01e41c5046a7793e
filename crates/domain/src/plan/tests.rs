use std::{collections::BTreeMap, path::PathBuf};

use super::*;
use crate::{
    manifest,
    network::{Role, Step, Vpc, next_actions},
    platform::{ObservedStack, StackName, StackStatus},
};

const REGION: &str = "us-east-1";

fn place() -> Place {
    Place {
        partition: "aws".to_owned(),
        region: REGION.to_owned(),
        account: "111122223333".to_owned(),
        permissions_boundary: "arn:aws:iam::111122223333:policy/shipway-boundary".to_owned(),
    }
}

fn dev() -> EnvironmentName {
    "dev".parse().unwrap()
}

fn spec(text: &str) -> Spec {
    manifest::read_all(text).unwrap().into_iter().find(|(name, _)| *name == dev()).unwrap().1
}

/// An environment as it stands when a manifest has been applied.
struct Environment {
    spec: Spec,
    network: Observed,
    outputs: NetworkOutputs,
    stacks: platform::Observed,
    templates: BTreeMap<StackName, String>,
}

impl Environment {
    fn applied(text: &str) -> Environment {
        let (spec, place) = (spec(text), place());
        let desired = Desired::of(&spec.app, &dev(), &spec, None);
        let mut network = nothing(&spec, REGION);
        let outputs = loop {
            match next_actions(&desired, &network).unwrap() {
                Step::Done(outputs) => break outputs,
                Step::LookAgain(why) => panic!("{why}"),
                Step::Wait(_) => network = network.settled(),
                Step::Act(actions) => {
                    for action in actions {
                        let id = action.makes().map(|role| format!("{role}-1")).unwrap_or_default();
                        network = network.with(&action, &id);
                    }
                }
            }
        };
        let wish = Wish { spec: &spec, environment: &dev(), place: &place, network: Some(&outputs) };
        let mut environment = Environment {
            outputs: outputs.clone(),
            stacks: platform::Observed::new(),
            templates: BTreeMap::new(),
            network,
            spec: spec.clone(),
        };
        for stack in platform::stacks(&wish, &platform::Observed::new()).unwrap() {
            environment.make(&stack);
        }
        environment
    }

    fn make(&mut self, stack: &WantedStack) {
        let parameters = stack.parameters.iter().map(|(name, value)| (name.to_string(), self.text(value))).collect();
        let template = template::read(&stack.template).unwrap();
        let outputs = match template.get("Outputs") {
            Some(value::Value::Map(outputs)) => {
                outputs.keys().map(|key| (key.clone(), format!("{}-{key}", stack.name))).collect()
            }
            _ => BTreeMap::new(),
        };
        let observed = ObservedStack {
            id: stack.name.to_string(),
            status: StackStatus::CreateComplete,
            parameters,
            tags: stack.tags.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            outputs,
            operation: None,
            role: None,
            protected: false,
        };
        self.stacks.insert(stack.name.clone(), observed);
        self.templates.insert(stack.name.clone(), stack.template.to_string());
    }

    fn text(&self, value: &platform::Value) -> String {
        match value {
            platform::Value::Text(text) => text.clone(),
            platform::Value::Kept { first, .. } => first.to_string(),
            platform::Value::OfNetwork => panic!("the network stands"),
            platform::Value::Output { stack, key } => self.stacks[stack].outputs[key.as_ref()].clone(),
            platform::Value::List(values) => values
                .iter()
                .map(|value| self.text(value))
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>()
                .join(","),
            platform::Value::Joined(values) => values.iter().map(|value| self.text(value)).collect(),
        }
    }

    fn plan(&self, text: &str) -> Plan {
        let spec = spec(text);
        plan(&Looked {
            spec: &spec,
            environment: &dev(),
            place: &place(),
            applied: Some(&self.spec),
            planned: Some(&self.spec),
            network: Some(&self.network),
            outputs: Some(&self.outputs),
            stacks: Standing { stacks: &self.stacks, templates: &self.templates },
            notes: &[],
            kept: &[],
            offline: false,
        })
    }

    /// The lines of a plan before what it costs, without the first.
    fn lines(&self, text: &str) -> Vec<String> {
        let lines = self.plan(text).lines().into_iter().map(|line| line.text);
        lines.skip(2).take_while(|line| !line.starts_with("about ")).filter(|line| !line.is_empty()).collect()
    }

    fn stack(&mut self, name: &str) -> &mut ObservedStack {
        self.stacks.get_mut(&StackName::of_existing(name)).unwrap()
    }

    fn template(&mut self, name: &str) -> &mut String {
        self.templates.get_mut(&StackName::of_existing(name)).unwrap()
    }
}

const MANIFEST: &str = r"
version: 1
app: hello
services:
  api: {image: {repository: hello-api}, port: 8080, http: {path: /*, health: /health}}
  worker: {image: {repository: hello-api}}
sites:
  web: {}
environments: {dev: {}}
";

#[test]
fn an_environment_that_stands_as_it_is_wanted_has_nothing_to_do() {
    let environment = Environment::applied(MANIFEST);
    assert_eq!(environment.plan(MANIFEST).warnings, []);
    assert!(!environment.plan(MANIFEST).does_something());
    assert_eq!(
        environment.lines(MANIFEST),
        ["stacks", "    6 unchanged", "services", "    2 unchanged", "sites", "    1 unchanged", "nothing to do"]
    );
}

#[test]
fn an_environment_that_is_not_there_is_made_whole() {
    let made = offline(&spec(MANIFEST), &dev(), REGION);
    assert!(made.does_something() && !made.is_refused());
    assert!(made.stacks.iter().all(|stack| stack.doing == Doing::Create && !stack.resources.is_empty()));
    assert!(made.stacks.iter().flat_map(|stack| &stack.resources).all(|resource| resource.doing == Doing::Create));
    assert!(made.services.iter().all(|service| service.doing == Doing::Create));
    assert_eq!((made.summary.change, made.summary.replace, made.summary.delete), (0, 0, 0));
}

fn checkout() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..")
}

/// The text of a plan from nothing, for every example and environment. With `UPDATE=1` in the environment the files are
/// written anew.
#[test]
fn the_plans_of_the_examples_are_what_their_files_say() {
    let folder = checkout().join("tests/fixtures/plans");
    let mut wanted: BTreeMap<PathBuf, String> = BTreeMap::new();
    for example in std::fs::read_dir(checkout().join("examples")).unwrap() {
        let path = example.unwrap().path().join("shipway.yaml");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let example = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        for (environment, spec) in manifest::read_all(&text).unwrap() {
            let lines = offline(&spec, &environment, REGION).lines().into_iter().map(|line| line.text + "\n");
            wanted.insert(folder.join(format!("{example}-{environment}.txt")), lines.collect());
        }
    }
    assert!(wanted.len() >= 12, "{:?}", wanted.keys());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for (path, text) in &wanted {
            std::fs::write(path, text).unwrap();
        }
    }
    let there = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    for path in there {
        let told = format!("{}: UPDATE=1 cargo test -p shipway-domain plan:: writes the plans anew", path.display());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(wanted.remove(&path.clone()).as_ref() == Some(&text), "{told}");
    }
    assert!(wanted.is_empty(), "{:?}", wanted.keys());
}

const DATA: &str = r#"
version: 1
app: shop
databases:
  main: {engine: postgres, version: "15", class: db.t3.medium, storage: 100GiB, on_delete: snapshot}
caches:
  main: {engine: redis, version: "7.0", class: cache.t4g.micro}
services:
  api: {image: {repository: shop-api, keep: 10}, port: 8080, http: {path: /*, health: /health}, secrets: {URL: {ref: databases.main.url}}}
  worker: {image: {repository: shop-worker}}
environments: {dev: {}}
"#;

fn changed(from: &str, to: &str) -> Vec<String> {
    assert_ne!(DATA.replace(from, to), DATA, "{from} is not there");
    Environment::applied(DATA).lines(&DATA.replace(from, to))
}

#[test]
fn a_small_change_is_told_in_a_few_lines() {
    let interrupted = "! shipway-shop-dev-database-main: the change of Instance interrupts it for a while";
    assert_eq!(
        changed("db.t3.medium", "db.t3.large"),
        [
            interrupted,
            "stacks",
            "  ~ shipway-shop-dev-database-main",
            "      ~ Instance (AWS::RDS::DBInstance): interrupts",
            "            DBInstanceClass: db.t3.medium → db.t3.large",
            "    8 unchanged",
            "services",
            "    2 unchanged",
            "1 to change",
        ]
    );
    assert_eq!(
        changed("version: \"15\"", "version: \"16\""),
        [
            interrupted,
            "stacks",
            "  ~ shipway-shop-dev-database-main",
            "      ~ Instance (AWS::RDS::DBInstance): interrupts",
            "            EngineVersion: 15 → 16",
            "            DBParameterGroupName: (ParameterGroup) → (ParameterGroup, made anew)",
            "      -/+ ParameterGroup (AWS::RDS::DBParameterGroup)",
            "            Family: postgres15 → postgres16  (cannot change in place)",
            "    8 unchanged",
            "services",
            "    2 unchanged",
            "1 to change, 1 to make anew",
        ]
    );
    assert_eq!(
        changed("keep: 10", "keep: 20"),
        [
            "stacks",
            "  ~ shipway-shop-repository-shop-api",
            "      ~ Images (AWS::ECR::Repository)",
            "            LifecyclePolicy.LifecyclePolicyText: \"countType\": \"imageCountMoreThan\", \"countNumber\": 10 → \"countType\": \"imageCountMoreThan\", \"countNumber\": 20",
            "    8 unchanged",
            "services",
            "  ~ api",
            "        image.keep: 10 → 20",
            "    1 unchanged",
            "1 to change",
        ]
    );
    assert_eq!(
        changed("databases:\n", "monitoring: {dashboard: true}\ndatabases:\n"),
        [
            "stacks",
            "  + shipway-shop-dev-dashboard",
            "      + Dashboard (AWS::CloudWatch::Dashboard)",
            "    9 unchanged",
            "services",
            "    2 unchanged",
            "1 to make",
        ]
    );
}

const BEHIND: &str = r"
version: 1
app: shop
services:
  api: {image: {repository: shop-api}, port: 80, http: {}, smoke: [{path: /}]}
monitoring: {alarms: {http_5xx: {above: 5}}}
environments: {dev: {}}
";

#[test]
fn a_service_whose_requests_are_to_be_moved_gets_what_ecs_needs_and_keeps_it() {
    let tested = BEHIND.replace("smoke:", "rollout: {strategy: canary, test_traffic: true}, smoke:");
    let lines = Environment::applied(BEHIND).lines(&tested);
    let resources: Vec<_> = lines.iter().filter(|line| line.contains("(AWS::")).map(|line| line.trim()).collect();
    assert_eq!(
        resources,
        [
            "+ AlternateTargets (AWS::ElasticLoadBalancingV2::TargetGroup)",
            "+ InfrastructureRole (AWS::IAM::Role)",
            "~ Rule (AWS::ElasticLoadBalancingV2::ListenerRule)",
            "+ TestRule (AWS::ElasticLoadBalancingV2::ListenerRule)",
            "~ Errors (AWS::CloudWatch::Alarm)",
        ]
    );
    assert_eq!(lines.last().unwrap(), "3 to make, 2 to change");

    let mut environment = Environment::applied(&tested);
    let estimate = environment.plan(&tested).estimate;
    assert!(estimate.lines.iter().any(|line| line.what == "1 alarm, of 2 metrics"), "{:?}", estimate.lines);
    let parameters = &mut environment.stack("shipway-shop-dev-service-api").parameters;
    for (key, weight) in [("PrimaryWeight", "0"), ("AlternateWeight", "100")] {
        parameters.insert(key.to_owned(), weight.to_owned());
    }
    let unchanged = environment.lines(&tested);
    assert_eq!(unchanged.last().unwrap(), "nothing to do", "whatever its rules weigh");
    let rolling = environment.lines(BEHIND);
    assert!(rolling.contains(&"    5 unchanged".to_owned()), "the second target group stays: {rolling:?}");
}

/// What is said of each, and at the end.
fn told_of(manifest: &str, from: &str, to: &str) -> (Vec<String>, bool) {
    assert_ne!(manifest.replace(from, to), manifest, "{from} is not there");
    let (environment, changed) = (Environment::applied(manifest), manifest.replace(from, to));
    let lines = environment.lines(&changed);
    let lines = lines.into_iter().filter(|line| !line.ends_with(" unchanged") && line.starts_with(|c| c != '!'));
    (lines.collect(), environment.plan(&changed).does_something())
}

#[test]
fn a_site_whose_files_are_served_in_another_way_is_published_again() {
    let (lines, does) = told_of(MANIFEST, "web: {}", "web: {routing: spa, keep: 1d}");
    let web = "  ~ web: what is live is published again";
    let (keep, routing) = ("        keep: 7d → 1d", "        routing: nothing → spa");
    assert_eq!(lines, ["stacks", "services", "sites", web, keep, routing, "1 site is published again"]);
    assert!(does);
}

#[test]
fn a_site_that_changes_by_its_stack_alone_says_so_there() {
    let (lines, _) = told_of(MANIFEST, "web: {}", "web: {headers: {X-Robots-Tag: noindex}}");
    assert!(lines.contains(&"  ~ shipway-hello-dev-site-web".to_owned()), "{lines:?}");
    let site = lines.iter().skip_while(|line| *line != "sites");
    let header = "        headers: nothing → {\"X-Robots-Tag\":\"noindex\"}";
    assert_eq!(site.collect::<Vec<_>>(), ["sites", "  ~ web", header, "1 to change"]);
}

#[test]
fn settings_that_no_stack_has_are_something_to_do() {
    let manifest = MANIFEST.replace("worker: {", "worker: {scale: {min: 1, max: 2, cpu: 50}, ");
    let (lines, does) = told_of(&manifest, "max: 2", "max: 4");
    let worker = ["  ~ worker", "        scale.max: 2 → 4"];
    assert_eq!(lines, ["stacks", "services", worker[0], worker[1], "sites", "1 setting changes"]);
    assert!(does);
    let data = DATA.replace("storage: 100GiB", "names: [shop], storage: 100GiB");
    let (lines, does) = told_of(&data, "names: [shop]", "names: [shop, reports]");
    assert!(does, "{lines:?}");
}

#[test]
fn tasks_that_move_to_other_subnets_are_rolled_out() {
    let (lines, _) = told_of(MANIFEST, "services:", "network: {nat: single}\nservices:");
    assert!(lines.contains(&"  ~ api: new tasks take the place of the old".to_owned()), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("        network: in ") && line.contains("private-subnet-a")));
    assert!(lines.last().unwrap().ends_with("; 2 services are rolled out"), "{lines:?}");
}

#[test]
fn what_the_manifest_no_longer_names_stays() {
    assert_eq!(
        changed("  worker: {image: {repository: shop-worker}}\n", ""),
        [
            "stacks",
            "    7 unchanged",
            "services",
            "    1 unchanged",
            "stays until a teardown, because the manifest no longer names it",
            "    service/worker",
            "    the stack shipway-shop-repository-shop-worker",
            "    the stack shipway-shop-dev-service-worker",
            "nothing to do",
        ]
    );
}

#[test]
fn what_would_be_refused_is_told_first() {
    let lines = changed("databases:\n", "network: {cidr: 10.1.0.0/16}\ndatabases:\n");
    assert!(lines[0].starts_with("! network.cidr is 10.1.0.0/16, but vpc-1 has 10.0.0.0/16"), "{lines:?}");
    assert_eq!(lines.last().unwrap(), "it would be refused");
    let lines = changed("on_delete: snapshot", "user: other");
    assert!(lines[0].starts_with("! databases.main.user:"), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("teardown")), "{lines:?}");
}

#[test]
fn a_new_log_group_takes_the_old_logs_with_it_and_new_tasks() {
    assert_eq!(
        changed("port: 8080", "log_group: /ecs/other, port: 8080"),
        [
            "! shipway-shop-dev-service-api: Log is made anew and loses what was logged; and nothing of it stays",
            "stacks",
            "  ~ shipway-shop-dev-service-api",
            "      ~ ExecutionRole (AWS::IAM::Role)",
            "            Policies[0].PolicyDocument.Statement[2].Resource[0]: (Log.Arn) → (Log.Arn, made anew)",
            "      -/+ Log (AWS::Logs::LogGroup): what was logged is lost",
            "            LogGroupName: /ecs/shop-dev-api → /ecs/other  (cannot change in place)",
            "    8 unchanged",
            "services",
            "  ~ api: new tasks take the place of the old",
            "        log_group: nothing → /ecs/other",
            "    1 unchanged",
            "1 to change, 1 to make anew; 1 service is rolled out",
        ]
    );
}

#[test]
fn fixed_ports_of_instances_stop_tasks() {
    let manifest = "
version: 1
app: hello
cluster: {ec2: {instance_type: t3.small, min: 1, max: 1}}
services:
  api: {image: {repository: hello-api}, port: 8080, http: {}, HOST}
environments: {dev: {}}
";
    let fixed = offline(&spec(&manifest.replace("HOST", "host_port: 8080")), &dev(), REGION);
    let [warning] = fixed.warnings.as_slice() else { panic!("{:?}", fixed.warnings) };
    assert_eq!(warning.kind, WarningKind::Downtime);
    assert!(
        warning.what.starts_with("services.api.host_port: two tasks cannot have the same port"),
        "{}",
        warning.what
    );
    assert_eq!(offline(&spec(&manifest.replace(", HOST", "")), &dev(), REGION).warnings, []);
}

#[test]
fn a_rollout_that_may_stop_all_tasks_is_told() {
    let manifest = |percent: u8| {
        let rollout = format!(
            "app: hello\nservices: {{api: {{image: {{repository: api}}, count: 2, rollout: {{min_percent: {percent}}}}}}}"
        );
        offline(&spec(&format!("version: 1\n{rollout}\nenvironments: {{dev: {{}}}}\n")), &dev(), REGION).warnings
    };
    let [warning] = &manifest(0)[..] else { panic!("{:?}", manifest(0)) };
    assert_eq!(warning.kind, WarningKind::Downtime);
    assert!(
        warning.what.starts_with("services.api.rollout.min_percent: each rollout may stop all"),
        "{}",
        warning.what
    );
    assert_eq!(manifest(50), []);
}

#[test]
fn an_instance_whose_room_is_not_known_is_told_and_has_no_price() {
    let manifest = MANIFEST.replace("services:", "cluster: {ec2: {instance_type: z9.large}}\nservices:");
    let plan = offline(&spec(&manifest), &dev(), REGION);
    let told: Vec<_> = plan.warnings.iter().map(|warning| (warning.kind, warning.what.as_str())).collect();
    let what = "cluster.ec2.instance_type: how much room a z9.large has is not known here, so nobody checked it";
    assert_eq!(told, [(WarningKind::Note, what)]);
    assert_eq!(plan.estimate.unknown, ["1 to 2 instances of z9.large"]);
}

/// What the warnings say where a template is other than the one that stands.
fn warned(stack: &str, from: &str, to: &str) -> Vec<(WarningKind, String)> {
    let mut environment = Environment::applied(DATA);
    let template = environment.template(stack);
    assert!(template.contains(from), "{from} is not in {template}");
    *template = template.replace(from, to);
    let prefix = format!("{stack}: ");
    let plan = environment.plan(DATA);
    plan.warnings.into_iter().map(|warning| (warning.kind, warning.what.replace(&prefix, ""))).collect()
}

#[test]
fn what_holds_data_and_is_made_anew_loses_it() {
    let warnings = warned("shipway-shop-dev-database-main", "StorageEncrypted: true", "StorageEncrypted: false");
    assert_eq!(warnings[0].0, WarningKind::Refused, "two cannot have its name: {warnings:?}");
    let loss = "Instance is made anew and loses its databases; a last snapshot stays";
    assert!(warnings.contains(&(WarningKind::DataLoss, loss.to_owned())), "{warnings:?}");
    let stops = "Instance is made anew, which stops what uses the database";
    assert!(warnings.contains(&(WarningKind::Downtime, stops.to_owned())), "{warnings:?}");
}

#[test]
fn what_cannot_be_made_beside_the_old_one_is_refused() {
    let warnings = warned("shipway-shop-dev-load-balancer", "Scheme: internet-facing", "Scheme: internal");
    assert_eq!(warnings[0].0, WarningKind::Refused);
    assert_eq!(
        warnings[0].1,
        "LoadBalancer would have to be made anew, and CloudFormation will refuse: its name is shop-dev, and two cannot have it"
    );
    assert!(warnings.iter().any(|(kind, what)| *kind == WarningKind::Downtime
        && what.starts_with("LoadBalancer is made anew, which stops everything behind it")));
    // The listeners hang on it, and go with it.
    assert!(warnings.iter().any(|(_, what)| what.starts_with("Http is made anew, which stops")), "{warnings:?}");
}

#[test]
fn what_another_stack_gives_is_new_where_it_is_of_something_new() {
    let mut environment = Environment::applied(DATA);
    let template = environment.template("shipway-shop-dev-load-balancer");
    *template = template.replace("Scheme: internet-facing", "Scheme: internal");
    let plan = environment.plan(DATA);
    let service = plan.stacks.iter().find(|stack| stack.name == "shipway-shop-dev-service-api").unwrap();
    let rule =
        service.resources.iter().find(|resource| resource.kind == "AWS::ElasticLoadBalancingV2::ListenerRule").unwrap();
    assert_eq!(rule.doing, Doing::Replace);
    assert_eq!(rule.properties[0].path, "ListenerArn");
}

#[test]
fn stacks_that_cannot_go_on_are_told_with_the_way_out() {
    let mut environment = Environment::applied(DATA);
    environment.stack("shipway-shop-dev-cluster").status = StackStatus::UpdateRollbackFailed;
    environment.stack("shipway-shop-dev-load-balancer").status = StackStatus::RollbackComplete;
    environment.stack("shipway-shop-dev-cache-main").tags.clear();
    environment.stack("shipway-shop-dev-service-worker").status = StackStatus::UpdateInProgress;
    environment.stacks.remove(&StackName::of_existing("shipway-shop-repository-shop-api"));
    let plan = environment.plan(DATA);
    let of = |name: &str| plan.stacks.iter().find(|stack| stack.name == name).unwrap();
    assert!(of("shipway-shop-dev-cluster").halted.as_ref().unwrap().contains("continue its rollback"));
    assert!(of("shipway-shop-dev-cache-main").halted.as_ref().unwrap().contains("its tag shipway:app is not shop"));
    assert_eq!(of("shipway-shop-dev-load-balancer").doing, Doing::Replace);
    assert!(of("shipway-shop-dev-service-worker").note.as_ref().unwrap().contains("UPDATE_IN_PROGRESS"));
    assert_eq!(of("shipway-shop-repository-shop-api").doing, Doing::Create);
    assert!(plan.is_refused());
}

#[test]
fn a_network_that_was_not_looked_at_is_told() {
    let environment = Environment::applied(DATA);
    let looked = Looked {
        spec: &environment.spec,
        environment: &dev(),
        place: &place(),
        applied: Some(&environment.spec),
        planned: Some(&environment.spec),
        network: None,
        outputs: Some(&environment.outputs),
        stacks: Standing { stacks: &environment.stacks, templates: &environment.templates },
        notes: &[],
        kept: &[],
        offline: false,
    };
    let plan = plan(&looked);
    assert!(!plan.does_something());
    assert_eq!(plan.warnings[0].what, "the network: it was not looked at; what is done about it is not in this plan");
}

/// A plan of what nothing has applied to: a provisioning was cut off half way.
fn half_way(environment: &Environment, planned: &Spec, text: &str) -> Plan {
    let spec = spec(text);
    plan(&Looked {
        spec: &spec,
        environment: &dev(),
        place: &place(),
        applied: None,
        planned: Some(planned),
        network: Some(&environment.network),
        outputs: None,
        stacks: Standing { stacks: &environment.stacks, templates: &environment.templates },
        notes: &["the last provisioning was cut off".to_owned()],
        kept: &[],
        offline: false,
    })
}

#[test]
fn a_provisioning_that_was_cut_off_is_gone_on_with() {
    let mut environment = Environment::applied(DATA);
    environment.stacks.remove(&StackName::of_existing("shipway-shop-dev-service-api"));
    // A second VPC with the tags, whose making was never heard of. The other is known.
    let known = environment.network.vpcs[0].id.clone();
    environment.network.vpcs.insert(0, Vpc { id: "vpc-0".to_owned(), ..environment.network.vpcs[0].clone() });
    environment.network.remembered.progress.made.insert(Role::Vpc, known.clone());
    environment.network.remembered.progress = environment.network.remembered.progress.clone().taken_over();
    let planned = spec(DATA);
    let plan = half_way(&environment, &planned, &DATA.replace("  worker: {image: {repository: shop-worker}}\n", ""));
    assert_eq!(plan.network, [], "{:?}", plan.warnings);
    let made: Vec<_> =
        plan.stacks.iter().filter(|stack| stack.doing == Doing::Create).map(|stack| &stack.name).collect();
    assert_eq!(made, ["shipway-shop-dev-service-api"], "what the load balancer was given is of {known}");
    assert_eq!(plan.warnings[0].what, "the last provisioning was cut off");
    // What it made and the manifest no longer names is there, although it never applied.
    let worker = ["the stack shipway-shop-repository-shop-worker", "the stack shipway-shop-dev-service-worker"];
    assert_eq!(plan.left, worker);
    assert_eq!(plan.services[0].doing, Doing::Create);
}

#[test]
fn what_is_taken_is_told_before_it_is_wanted() {
    let manifest =
        MANIFEST.replace("services:", "email: {post: {address: post@hello.example}}\nbuckets: {files: {}}\nservices:");
    let mut environment = Environment::applied(&manifest);
    let mut theirs = environment.stacks.remove(&StackName::of_existing("shipway-hello-dev-email-post")).unwrap();
    theirs.tags.insert("shipway:environment".to_owned(), "prod".to_owned());
    environment.stacks.insert(StackName::of_existing("shipway-hello-prod-email-post"), theirs);
    environment.stacks.remove(&StackName::of_existing("shipway-hello-dev-bucket-files"));
    let kept = ["the bucket files (shipway-bucket-hello-dev-files-111122223333), as `on_delete: retain`".to_owned()];
    let plan = plan(&Looked {
        spec: &environment.spec,
        environment: &dev(),
        place: &place(),
        applied: None,
        planned: None,
        network: Some(&environment.network),
        outputs: Some(&environment.outputs),
        stacks: Standing { stacks: &environment.stacks, templates: &environment.templates },
        notes: &[],
        kept: &kept,
        offline: false,
    });
    let [refused, note] = plan.warnings.as_slice() else { panic!("{:?}", plan.warnings) };
    assert_eq!((refused.kind, note.kind), (WarningKind::Refused, WarningKind::Note));
    assert!(refused.what.contains("is the sender of the environment prod (the stack shipway-hello-prod-email-post)"));
    assert!(note.what.starts_with("buckets.files: the teardown kept shipway-bucket-hello-dev-files-111122223333"));
}

#[test]
fn what_ec2_may_have_made_without_an_answer_is_told() {
    let mut environment = Environment::applied(DATA);
    environment.network.gateways.clear();
    environment.network.remembered.progress.asked.insert(Role::InternetGateway);
    let plan = environment.plan(DATA);
    assert_eq!(
        plan.warnings[0].what,
        "the network: EC2 may have made internet-gateway without its answer coming through; it is looked for again before \
         anything is made in its place"
    );
    assert!(
        plan.network.iter().any(|change| change.makes && change.what.contains("internet-gateway")),
        "{:?}",
        plan.network
    );
}

#[test]
fn a_vpc_that_lost_its_tags_is_told_as_that() {
    let mut environment = Environment::applied(DATA);
    let vpc = environment.network.vpcs[0].id.clone();
    environment.network.vpcs[0].ours = false;
    environment.network.remembered.vpc = Some(vpc.clone());
    environment.network.remembered.progress.inherited.insert(Role::Vpc, vpc);
    let warnings = environment.plan(DATA).warnings;
    assert!(warnings[0].what.contains("does not carry its tags any more"), "{warnings:?}");
}

/// What a seed says that its environment costs a month, and what is estimated for it: by the words that a line begins with.
fn costs(example: &str, environment: &str) -> impl Fn(&[&str]) -> (f64, f64) + use<> {
    let text = std::fs::read_to_string(checkout().join("examples").join(example).join("shipway.yaml")).unwrap();
    let environments = manifest::read_all(&text).unwrap();
    let (environment, spec) = environments.into_iter().find(|(name, _)| name.as_str() == environment).unwrap();
    let estimate = offline(&spec, &environment, REGION).estimate;
    assert!(estimate.unknown.is_empty(), "{:?}", estimate.unknown);
    assert!(estimate.low <= estimate.high);
    let sum = estimate.lines.iter().map(|line| line.low).sum::<f64>();
    assert!((sum - estimate.low).abs() < 0.01);
    move |words| {
        let lines = estimate.lines.iter().filter(|line| words.iter().any(|word| line.what.contains(word)));
        lines.fold((0.0, 0.0), |sum, line| (sum.0 + line.low, sum.1 + line.high))
    }
}

/// The tables of costs of two of the systems' owners, held against the least of the estimate.
#[test]
fn estimates_are_near_what_the_owners_of_the_systems_reckon_with() {
    let near = |what: &str, estimated: f64, reckoned: f64, tolerance: f64| {
        let off = (estimated - reckoned).abs() / reckoned;
        assert!(off <= tolerance, "{what}: {estimated:.2} is estimated, {reckoned:.2} reckoned with");
    };
    // Development: 2 tasks ~30, database ~120, load balancer ~20, NAT ~60. The owner's tasks are some 20 % below AWS's list.
    let dougust = costs("dougust", "dev");
    near("tasks", dougust(&["Fargate"]).0, 30.0, 0.25);
    near("database", dougust(&["db.t3.medium", "gp3 storage"]).0, 120.0, 0.1);
    near("load balancer", dougust(&["load balancer"]).1, 20.0, 0.2);
    near("NAT", dougust(&["NAT"]).0, 60.0, 0.1);
    near("watching", dougust(&["Insights", "alarm", "dashboard"]).0, 10.0, 0.6);
    near("all but data transfer", dougust(&[""]).0, 240.0, 0.25);
    // Production: 4 tasks ~120, database ~240, the same network.
    let dougust = costs("dougust", "prod");
    near("tasks", dougust(&["Fargate"]).0, 120.0, 0.25);
    near("database", dougust(&["db.t3.large", "gp3 storage"]).0, 240.0, 0.1);
    near("all but data transfer", dougust(&[""]).0, 460.0, 0.25);
    // Development: Aurora 30 to 50, cache ~12, NAT ~33, load balancer ~16. The owner counts 3 tasks with 30 to 40, which is what two
    // of them cost at AWS's list price; there are four.
    let rex = costs("rex", "dev");
    near("database", rex(&["Aurora"]).0, 40.0, 0.25);
    near("cache", rex(&["cache.t4g.micro"]).0, 12.0, 0.1);
    near("NAT", rex(&["NAT"]).0, 33.0, 0.05);
    near("load balancer", rex(&["load balancer"]).0, 16.0, 0.05);
    near("tasks", rex(&["Fargate"]).0, 4.0 * 18.0, 0.05);
}

#[test]
fn a_price_that_is_not_in_the_table_is_told_and_not_taken_for_nothing() {
    let estimate = offline(&spec(&DATA.replace("db.t3.medium", "db.x9g.large")), &dev(), "eu-west-1").estimate;
    assert_eq!(estimate.unknown, ["main: db.x9g.large"]);
    assert!(estimate.lines.iter().all(|line| !line.what.contains("db.x9g.large")));
    let spot = |manifest: &str| {
        let estimate = offline(&spec(manifest), &dev(), REGION).estimate;
        estimate.lines.into_iter().filter(|line| line.what.contains("Fargate")).map(|line| line.low).sum::<f64>()
    };
    let (full, on_spot) =
        (spot(DATA), spot(&DATA.replace("databases:\n", "cluster: {capacity: fargate_spot}\ndatabases:\n")));
    assert!((on_spot / full - 0.3).abs() < 0.01, "{full} {on_spot}");
}

#[test]
fn prices_of_another_region_are_not_taken_for_the_environments_own() {
    let priced = |region: &str| {
        let plan = offline(&spec(DATA), &dev(), region);
        let lines: Vec<_> = plan.lines().into_iter().map(|line| line.text).collect();
        let at = lines.iter().position(|line| line.starts_with("about ")).unwrap();
        (plan.estimate, lines[at].clone(), lines[at + 1].clone())
    };
    let (estimate, heading, below) = priced("eu-west-1");
    assert!(!estimate.of_its_region && estimate.region == REGION);
    assert!(heading.contains(" a month if it were in us-east-1, at list prices of us-east-1"), "{heading}");
    assert!(below.starts_with("  ! eu-west-1 has prices of its own, which the table has not"), "{below}");
    let (estimate, heading, below) = priced(REGION);
    assert!(estimate.of_its_region && estimate.note.is_none(), "{:?}", estimate.note);
    assert!(!heading.contains("if it were") && !below.contains('!'), "{heading} {below}");
}

#[test]
fn a_plan_is_a_document() {
    let plan = Environment::applied(DATA).plan(&DATA.replace("db.t3.medium", "db.t3.large"));
    let document = serde_json::to_value(&plan).unwrap();
    let stack = document["stacks"].as_array().unwrap().iter().find(|stack| stack["doing"] == "change").unwrap();
    assert_eq!(stack["name"], "shipway-shop-dev-database-main");
    let property = serde_json::json!({"path": "DBInstanceClass", "from": "db.t3.medium", "to": "db.t3.large"});
    assert_eq!(stack["resources"][0]["properties"][0], property);
    assert_eq!(stack["resources"][0]["interrupts"], true);
    assert_eq!(document["warnings"][0]["kind"], "downtime");
    assert_eq!(document["summary"]["change"], 1);
    assert!(document["estimate"]["low"].as_f64().unwrap() > 100.0);
}
