mod systems;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{
    manifest,
    name::{ReleaseId, RepositoryName},
    platform::blueprint_tests::outputs_of,
};

const MANIFEST: &str = r"
version: 1
app: hello
services:
  api:
    image: {repository: hello-api}
    port: 3000
    http: {path: /api/*, health: /health}
    secrets:
      A: {secretsmanager: prod/hello:a}
      B: {secretsmanager: prod/hello:b}
      C: {ssm: /hello/c}
  web:
    image: {repository: hello-web}
    port: 3000
    http: {}
  worker:
    image: {repository: hello-api}
sites:
  docs: {routing: spa}
environments: {prod: {}}
";

pub(super) fn environment() -> EnvironmentName {
    "prod".parse().unwrap()
}

pub(super) fn spec(text: &str) -> Spec {
    manifest::read(text, &"hello".parse().unwrap(), &environment()).unwrap()
}

pub(super) fn place() -> Place {
    Place {
        partition: "aws".to_owned(),
        region: "eu-west-1".to_owned(),
        account: "123456789012".to_owned(),
        permissions_boundary: "arn:aws:iam::123456789012:policy/shipway-boundary".to_owned(),
    }
}

pub(super) fn network() -> NetworkOutputs {
    NetworkOutputs {
        vpc: "vpc-1".to_owned(),
        cidr: "10.0.0.0/16".to_owned(),
        public_subnets: vec!["subnet-1".to_owned(), "subnet-2".to_owned()],
        load_balancer_group: "sg-1".to_owned(),
        service_group: "sg-2".to_owned(),
        ..Default::default()
    }
}

pub(super) fn release(n: u8) -> ReleaseId {
    format!("20261121T03154212{n}-3f9c2a").parse().unwrap()
}

pub(super) fn wanted_of(spec: &Spec, network: Option<&NetworkOutputs>, observed: &Observed) -> Vec<WantedStack> {
    let wish = Wish { spec, environment: &environment(), place: &place(), network };
    stacks(&wish, observed).unwrap()
}

/// A stack that stands, as far as one can tell without its parameters.
pub(super) fn standing(stack: &WantedStack) -> ObservedStack {
    ObservedStack {
        status: StackStatus::CreateComplete,
        outputs: outputs_of(&stack.template)
            .into_iter()
            .map(|key| {
                // A database's port is read as a number.
                let value = if key == "Port" { "5432".to_owned() } else { format!("{}/{key}", stack.name) };
                (key, value)
            })
            .collect(),
        operation: None,
        ..left_behind(stack, StackStatus::CreateComplete)
    }
}

fn wanted() -> Vec<WantedStack> {
    wanted_of(&spec(MANIFEST), Some(&network()), &Observed::new())
}

fn named<'a>(wanted: &'a [WantedStack], name: &str) -> &'a WantedStack {
    wanted.iter().find(|stack| stack.name.as_str() == name).unwrap()
}

#[test]
fn an_environment_has_one_stack_per_concern() {
    let names: Vec<_> = wanted().iter().map(|stack| stack.name.to_string()).collect();
    assert_eq!(
        names,
        [
            "shipway-hello-repository-hello-api",
            "shipway-hello-repository-hello-web",
            "shipway-hello-prod-cluster",
            "shipway-hello-prod-load-balancer",
            "shipway-hello-prod-site-docs",
            "shipway-hello-prod-service-api",
            "shipway-hello-prod-service-web",
            "shipway-hello-prod-service-worker",
        ]
    );
}

#[test]
fn only_what_stands_behind_the_load_balancer_needs_the_network() {
    let needing: Vec<_> =
        wanted().into_iter().filter(|stack| stack.needs_network).map(|stack| stack.name.to_string()).collect();
    assert_eq!(
        needing,
        ["shipway-hello-prod-load-balancer", "shipway-hello-prod-service-api", "shipway-hello-prod-service-web"]
    );
}

#[test]
fn an_execution_role_reads_exactly_the_secrets_that_the_manifest_names() {
    let wanted = wanted();
    let api = named(&wanted, "shipway-hello-prod-service-api");
    let value = |key| api.parameters[key].known(&Observed::new()).unwrap();
    assert_eq!(value("SecretArns"), "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/hello-??????");
    assert_eq!(value("ParameterArns"), "arn:aws:ssm:eu-west-1:123456789012:parameter/hello/c");
    let worker = named(&wanted, "shipway-hello-prod-service-worker");
    assert_eq!(worker.parameters["SecretArns"].known(&Observed::new()).as_deref(), Some(""));
    assert_eq!(worker.parameters["Listener"], Value::Text(String::new()));
}

#[test]
fn too_many_secrets_are_refused_before_cloudformation_does() {
    let secrets: String = (0..70).map(|n| format!("      S{n}: {{secretsmanager: prod/hello/secret-{n}}}\n")).collect();
    let text = MANIFEST.replace("      C: {ssm: /hello/c}\n", &secrets);
    let wish = Wish { spec: &spec(&text), environment: &environment(), place: &place(), network: None };
    assert!(matches!(stacks(&wish, &Observed::new()), Err(PlanError::TooManySecrets { .. })));
}

fn site_of(text: &str) -> Result<Vec<WantedStack>, PlanError> {
    let text = MANIFEST.replace("docs: {routing: spa}", &format!("docs: {text}"));
    let (spec, environment, place) = (spec(&text), environment(), place());
    stacks(&Wish { spec: &spec, environment: &environment, place: &place, network: None }, &Observed::new())
}

#[test]
fn a_site_without_a_backend_stands_alone() {
    let wanted = site_of("{routing: spa, previews: 36h}").unwrap();
    let site = named(&wanted, "shipway-hello-prod-site-docs");
    assert!(!site.needs_network);
    assert!(site.parameters.values().all(|value| matches!(value, Value::Text(_))));
    let text = |key| site.parameters[key].clone();
    assert_eq!(text("Redirects"), Value::Text(r#"{"begin":[],"exact":{}}"#.to_owned()));
    assert_eq!(text("Headers"), Value::Text("[]".to_owned()));
    assert_eq!(text("Previews"), Value::Text("2".to_owned()));
    for key in ["LoadBalancer", "Backend1", "Backend4"] {
        assert_eq!(text(key), Value::Text(String::new()), "{key}");
    }
}

#[test]
fn a_site_with_a_backend_waits_for_the_load_balancer() {
    let wanted = site_of("{backend: [/api/*, /ws]}").unwrap();
    let site = named(&wanted, "shipway-hello-prod-site-docs");
    assert!(site.needs_network);
    let names = wanted.iter().map(|stack| stack.name.clone()).collect::<Vec<_>>();
    let load_balancer = named(&wanted, "shipway-hello-prod-load-balancer").name.clone();
    assert!(names.iter().position(|name| *name == load_balancer) < names.iter().position(|name| *name == site.name));
    assert_eq!(site.parameters["LoadBalancer"], Value::Output { stack: load_balancer, key: "DnsName".into() });
    let backends = ["Backend1", "Backend2", "Backend3", "Backend4"].map(|key| site.parameters[key].clone());
    assert_eq!(backends, ["/api/*", "/ws", "", ""].map(|text| Value::Text(text.to_owned())));
}

#[test]
fn redirects_and_headers_go_to_the_edge_as_code_and_only_if_they_fit() {
    let site =
        |text: &str| site_of(text).map(|wanted| named(&wanted, "shipway-hello-prod-site-docs").parameters.clone());
    let parameters =
        site("{redirects: [{from: /a, to: '/${b}'}, {from: /c/*, to: /d, status: 302}], headers: {X-A: <$>}}").unwrap();
    let text = |key| parameters[key].clone();
    let redirects = r#"{"begin":[["/c/","/d",302]],"exact":{"/a":["/\u0024{b}",308]}}"#;
    assert_eq!(text("Redirects"), Value::Text(redirects.to_owned()));
    assert_eq!(text("Headers"), Value::Text(r#"[["x-a","\u003c\u0024>"]]"#.to_owned()));

    let long = "<".repeat(700);
    let refused = site(&format!("{{headers: {{X-A: '{long}'}}}}"));
    assert!(matches!(refused, Err(PlanError::TooMuchForTheEdge { key: "headers", bytes: 4212, .. })), "{refused:?}");
}

#[test]
fn names_fit_what_aws_takes() {
    let name = |app: &str, environment: &str| {
        Names { app: &app.parse().unwrap(), environment: &environment.parse().unwrap() }.of_load_balancer()
    };
    assert_eq!(name("hello", "prod"), "hello-prod");
    for (app, environment) in
        [("aaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbb"), ("internal", "prod"), ("internal-tools", "prod")]
    {
        let name = name(app, environment);
        assert!(
            name.len() <= 32 && !name.starts_with("internal-") && !name.ends_with('-') && !name.contains("--"),
            "{name}"
        );
    }
    let (app, environment) = ("hello".parse().unwrap(), environment());
    let names = Names { app: &app, environment: &environment };
    let long = "r".repeat(250);
    let repositories = ["team/api", "team.api", "team-api", "team_api", &long];
    let stacks: BTreeSet<_> = repositories.iter().map(|name| names.repository(&name.parse().unwrap())).collect();
    assert_eq!(stacks.len(), repositories.len());
    for stack in stacks {
        let text = stack.as_str();
        assert!(text.len() <= 128 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{text}");
    }
}

fn priority(wanted: &[WantedStack], service: &str) -> u32 {
    match &named(wanted, &format!("shipway-hello-prod-service-{service}")).parameters["Priority"] {
        Value::Text(text) => text.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_more_specific_path_is_asked_first() {
    let wanted = wanted();
    assert!(priority(&wanted, "api") < priority(&wanted, "web"));
}

fn with_paths(paths: &BTreeMap<String, String>) -> Spec {
    let services: String = paths
        .iter()
        .map(|(name, path)| {
            format!("  {name}: {{image: {{repository: r{name}}}, port: 80, http: {{path: '{path}'}}}}\n")
        })
        .collect();
    spec(&format!("version: 1\napp: hello\nservices:\n{services}environments: {{prod: {{}}}}\n"))
}

/// A stack in another region, which is given what several others give.
fn elsewhere() -> WantedStack {
    let (app, environment) = ("hello".parse().unwrap(), environment());
    let names = Names { app: &app, environment: &environment };
    let output = |stack, key: &'static str| Value::Output { stack, key: key.into() };
    let both = vec![output(names.cluster(), "Cluster"), text(""), output(names.load_balancer(), "Listener")];
    WantedStack {
        name: names.site_certificate(),
        concern: Concern::Certificate,
        template: "Outputs:\n  Arn:\n".into(),
        region: Some("us-east-1"),
        role: None,
        parameters: parameters([("Both", Value::List(both)), ("Url", Value::Joined(vec![text("a"), text("b")]))]),
        tags: named(&wanted(), "shipway-hello-prod-cluster").tags.clone(),
        needs_network: true,
    }
}

fn failure() -> ResourceFailure {
    ResourceFailure { resource: "R".to_owned(), resource_type: "T".to_owned(), reason: "it cannot be".to_owned() }
}

/// A CloudFormation of which only the stacks' state is there. Each operation takes a few looks.
struct Cloud {
    stacks: Observed,
    moving: BTreeMap<StackName, (u8, Option<StackStatus>)>,
    /// Stacks of which the next operations fail.
    failing: BTreeMap<StackName, u8>,
    made: u32,
    writes: u32,
}

impl Cloud {
    fn new(stacks: Observed) -> Cloud {
        Cloud { stacks, moving: BTreeMap::new(), failing: BTreeMap::new(), made: 0, writes: 0 }
    }

    fn act(&mut self, planned: &Planned, pace: u8) {
        let name = planned.stack.clone();
        let status = self.stacks.get(&name).map(|stack| stack.status.clone());
        let (apply, result) = match &planned.next {
            Next::Wait(_) | Next::InSync | Next::Blocked(_) | Next::Halted(_) => return,
            Next::Create(apply) => {
                assert_eq!(status, None, "{name} is created twice");
                (apply, (StackStatus::CreateComplete, StackStatus::RollbackComplete))
            }
            Next::Update(apply) => {
                assert!(
                    matches!(
                        status,
                        Some(
                            StackStatus::CreateComplete
                                | StackStatus::UpdateComplete
                                | StackStatus::UpdateRollbackComplete
                        )
                    ),
                    "{name} is updated while {status:?}"
                );
                (apply, (StackStatus::UpdateComplete, StackStatus::UpdateRollbackComplete))
            }
            Next::Clear(deletion) | Next::Remove(deletion) => {
                let stack = self.stacks.get_mut(&name).expect("what is deleted is there");
                assert_eq!(stack.id, deletion.id);
                assert_eq!(stack.protected, deletion.protected);
                assert!(
                    !stack.status.to_string().ends_with("_IN_PROGRESS")
                        || stack.status == StackStatus::ReviewInProgress
                );
                stack.status = StackStatus::DeleteInProgress;
                stack.operation = Some(Operation { token: Some(deletion.token.clone()), failure: None });
                let end = self.fails(&name).then(|| {
                    let failure = failure();
                    let stack = self.stacks.get_mut(&name).unwrap();
                    stack.operation = Some(Operation { token: Some(deletion.token.clone()), failure: Some(failure) });
                    StackStatus::DeleteFailed
                });
                self.moving.insert(name, (pace, end));
                self.writes += 1;
                return;
            }
        };
        self.writes += 1;
        let fails = self.fails(&name);
        let end = if fails { result.1 } else { result.0 };
        self.made += 1;
        let made = self.made;
        let before = self.stacks.remove(&name);
        let mut stack = ObservedStack {
            id: before.as_ref().map_or_else(|| format!("id-{made}"), |stack| stack.id.clone()),
            status: if before.is_some() { StackStatus::UpdateInProgress } else { StackStatus::CreateInProgress },
            parameters: apply.parameters.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
            tags: apply.tags.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
            outputs: outputs_of(&apply.template)
                .into_iter()
                .map(|key| {
                    let value = format!("{name}/{key}");
                    (key, value)
                })
                .collect(),
            role: apply.role.clone(),
            protected: apply.protected.unwrap_or_default(),
            operation: None,
        };
        if fails {
            stack.operation = Some(Operation { token: Some(apply.token.clone()), failure: Some(failure()) });
            if let Some(before) = before {
                stack.parameters = before.parameters;
                stack.tags = before.tags;
            }
        }
        self.stacks.insert(name.clone(), stack);
        self.moving.insert(name, (pace, Some(end)));
    }

    fn fails(&mut self, name: &StackName) -> bool {
        self.failing.get_mut(name).is_some_and(|left| {
            let fails = *left > 0;
            *left = left.saturating_sub(1);
            fails
        })
    }

    fn tick(&mut self) {
        let names: Vec<_> = self.moving.keys().cloned().collect();
        for name in names {
            let (left, end) = self.moving[&name].clone();
            if left > 0 {
                self.moving.insert(name, (left - 1, end));
                continue;
            }
            self.moving.remove(&name);
            match end {
                Some(status) => self.stacks.get_mut(&name).unwrap().status = status,
                None => {
                    self.stacks.remove(&name);
                }
            }
        }
    }

    /// Passes until the plan says that another changes nothing.
    fn run(&mut self, spec: &Spec, release: &ReleaseId, pace: u8) -> Plan {
        self.follow(pace, |stacks| {
            let mut wanted = wanted_of(spec, Some(&network()), stacks);
            wanted.push(elsewhere());
            next_actions(&wanted, stacks, release)
        })
    }

    /// Does what is planned, and asks again, until the plan says that another pass changes nothing.
    fn follow(&mut self, pace: u8, plan: impl Fn(&Observed) -> Plan) -> Plan {
        for _ in 0..200 {
            let plan = plan(&self.stacks);
            if !plan.goes_on() {
                return plan;
            }
            for planned in &plan.0 {
                self.act(planned, pace);
            }
            self.tick();
        }
        panic!("it never ends");
    }
}

/// A stack as an earlier release left it.
fn left_behind(stack: &WantedStack, status: StackStatus) -> ObservedStack {
    ObservedStack {
        id: format!("old-{}", stack.name),
        status,
        parameters: BTreeMap::new(),
        tags: stack.tags.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
        outputs: BTreeMap::new(),
        role: stack.role.clone(),
        protected: false,
        operation: Some(Operation { token: Some("shipway-earlier".to_owned()), failure: None }),
    }
}

fn any_state() -> impl Strategy<Value = Option<StackStatus>> {
    prop_oneof![
        Just(None),
        Just(Some(StackStatus::CreateInProgress)),
        Just(Some(StackStatus::RollbackComplete)),
        Just(Some(StackStatus::RollbackFailed)),
        Just(Some(StackStatus::CreateFailed)),
        Just(Some(StackStatus::ReviewInProgress)),
        Just(Some(StackStatus::DeleteInProgress)),
        Just(Some(StackStatus::CreateComplete)),
        Just(Some(StackStatus::UpdateComplete)),
        Just(Some(StackStatus::UpdateRollbackComplete)),
        Just(Some(StackStatus::UpdateInProgress)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_was_left_the_chosen_actions_reach_what_is_wanted(
        states in prop::collection::vec(any_state(), 9), pace in 0u8..3,
    ) {
        let spec = spec(MANIFEST);
        let mut cloud = Cloud::new(Observed::new());
        for (stack, state) in wanted().iter().chain([&elsewhere()]).zip(states) {
            let Some(status) = state else { continue };
            let end = match status {
                StackStatus::CreateInProgress => Some(Some(StackStatus::RollbackComplete)),
                StackStatus::UpdateInProgress => Some(Some(StackStatus::UpdateComplete)),
                StackStatus::DeleteInProgress => Some(None),
                _ => None,
            };
            cloud.stacks.insert(stack.name.clone(), left_behind(stack, status));
            if let Some(end) = end {
                cloud.moving.insert(stack.name.clone(), (pace, end));
            }
        }
        let plan = cloud.run(&spec, &release(1), pace);
        prop_assert!(plan.is_done(), "{plan:?}");
        let network = network();
        let wish = Wish { spec: &spec, environment: &environment(), place: &place(), network: Some(&network) };
        let made = outputs(&wish, &cloud.stacks);
        prop_assert!(made.is_ok());
        let elsewhere = &cloud.stacks[&elsewhere().name].parameters;
        prop_assert_eq!(
            &elsewhere["Both"],
            "shipway-hello-prod-cluster/Cluster,shipway-hello-prod-load-balancer/Listener"
        );
        prop_assert_eq!(&elsewhere["Url"], "ab");

        let writes = cloud.writes;
        let plan = cloud.run(&spec, &release(2), pace);
        prop_assert!(plan.is_done());
        prop_assert_eq!(cloud.writes, writes, "a second run touches nothing");
    }

    #[test]
    fn what_fails_stops_only_what_stands_on_it_and_the_next_release_tries_again(
        failing in prop::collection::btree_set(0usize..9, 1..4), standing in any::<bool>(), pace in 0u8..3,
    ) {
        let spec = spec(MANIFEST);
        let mut cloud = Cloud::new(Observed::new());
        if standing {
            let before = self::spec(&MANIFEST.replace("health: /health", "health: /"));
            prop_assert!(cloud.run(&before, &release(1), pace).is_done());
            for stack in cloud.stacks.values_mut() {
                stack.tags.insert(INPUTS_TAG.to_owned(), "another blueprint's".to_owned());
            }
        }
        let mut wanted = wanted();
        wanted.push(elsewhere());
        let failing: BTreeSet<_> = failing.into_iter().map(|index| wanted[index].name.clone()).collect();
        cloud.failing = failing.iter().map(|name| (name.clone(), 1)).collect();
        let plan = cloud.run(&spec, &release(2), pace);
        for planned in &plan.0 {
            let stands_on_failure = !named(&wanted, planned.stack.as_str()).stands_on().is_disjoint(&failing);
            match &planned.next {
                Next::InSync => prop_assert!(!failing.contains(&planned.stack) && !stands_on_failure),
                Next::Blocked(Blocker::Stacks(_)) => prop_assert!(stands_on_failure),
                Next::Halted(Trouble::Failed { why, .. }) => {
                    prop_assert!(failing.contains(&planned.stack));
                    prop_assert!(why.contains("it cannot be"));
                }
                other => prop_assert!(false, "{} {other:?}", planned.stack),
            }
        }
        // The same release again changes nothing and says the same.
        let writes = cloud.writes;
        prop_assert_eq!(cloud.run(&spec, &release(2), pace), plan);
        prop_assert_eq!(cloud.writes, writes);

        cloud.failing.clear();
        prop_assert!(cloud.run(&spec, &release(3), pace).is_done());
    }

    #[test]
    fn a_new_service_moves_no_other_ones_rule(paths in prop::collection::btree_set("/[abc]{1,2}(/\\*)?", 2..12), late in 0usize..12) {
        let mut services: BTreeMap<String, String> =
            paths.iter().enumerate().map(|(index, path)| (format!("s{index}"), path.clone())).collect();
        let late = format!("s{}", late % paths.len());
        let path = services.remove(&late).unwrap();
        let mut cloud = Cloud::new(Observed::new());
        prop_assert!(cloud.run(&with_paths(&services), &release(1), 0).is_done());
        let before = cloud.stacks.clone();

        services.insert(late, path);
        let spec = with_paths(&services);
        prop_assert!(cloud.run(&spec, &release(2), 0).is_done());
        for (name, stack) in &before {
            prop_assert_eq!(&cloud.stacks[name], stack);
        }
        let priorities: Vec<_> = cloud.stacks.values().filter_map(|stack| stack.parameters.get("Priority")).collect();
        let distinct: BTreeSet<_> = priorities.iter().collect();
        prop_assert_eq!(distinct.len(), priorities.len());
    }
}

#[test]
fn the_place_is_what_the_boundarys_arn_says() {
    let boundary = "arn:aws-cn:iam::111122223333:policy/shipway-RoleBoundary-1";
    let expected = Place {
        partition: "aws-cn".to_owned(),
        region: "cn-north-1".to_owned(),
        account: "111122223333".to_owned(),
        permissions_boundary: boundary.to_owned(),
    };
    assert_eq!(Place::bounded_by(boundary.to_owned(), "cn-north-1".to_owned()), Ok(expected));
    for wrong in ["", "shipway-RoleBoundary", "arn:aws:iam::111122223333:role/x"] {
        assert!(Place::bounded_by(wrong.to_owned(), "eu-west-1".to_owned()).is_err(), "{wrong}");
    }
}

const ALL: &str = r"
version: 1
app: hello
services:
  api: {image: {repository: hello-api}, port: 80, http: {}}
  worker: {image: {repository: shared}}
sites: {web: {}}
stacks:
  queue:
    template: |
      Resources: {Topic: {Type: AWS::SNS::Topic}}
      Parameters:
        Topic:
          Type: String
      Outputs:
        Url:
          Value: x
    role: arn:aws:iam::123456789012:role/shipway-stack-queue
    parameters: {Topic: {ref: stacks.topic.Arn}}
  topic:
    template: |
      Resources: {Topic: {Type: AWS::SNS::Topic}}
      Outputs:
        Arn:
          Value: x
    role: arn:aws:iam::123456789012:role/shipway-stack-topic
  vault:
    template: |
      Resources: {Topic: {Type: AWS::SNS::Topic}}
      Outputs:
        Arn:
          Value: x
    role: arn:aws:iam::123456789012:role/shipway-stack-vault
    retain: true
environments: {prod: {}, dev: {}}
";

/// Deletions until another pass changes nothing.
fn remove(cloud: &mut Cloud, elsewhere: &BTreeSet<RepositoryName>, release: &ReleaseId, pace: u8) -> Plan {
    let (app, environment) = ("hello".parse().unwrap(), environment());
    let names = Names { app: &app, environment: &environment };
    cloud.follow(pace, |stacks| Belongings::of(names, stacks, elsewhere).removal(release))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_state_the_stacks_are_in_a_removal_leaves_only_what_is_kept_or_anothers(
        states in prop::collection::vec(any_state(), 16), pace in 0u8..3, failing in prop::collection::btree_set(0usize..11, 0..3),
    ) {
        let spec = spec(ALL);
        let mut cloud = Cloud::new(Observed::new());
        prop_assert!(cloud.run(&spec, &release(1), 0).is_done());
        let mut dev = Cloud::new(Observed::new());
        {
            let (environment, place, network) = ("dev".parse().unwrap(), place(), network());
            let wish = Wish { spec: &spec, environment: &environment, place: &place, network: Some(&network) };
            for stack in stacks(&wish, &Observed::new()).unwrap() {
                if stack.concern != Concern::Repository {
                    dev.stacks.insert(stack.name.clone(), standing(&stack));
                }
            }
        }
        let names: Vec<_> = cloud.stacks.keys().cloned().collect();
        for (name, state) in names.iter().zip(states) {
            let Some(status) = state else { continue };
            let end = match status {
                StackStatus::CreateInProgress => Some(Some(StackStatus::RollbackComplete)),
                StackStatus::UpdateInProgress => Some(Some(StackStatus::UpdateComplete)),
                StackStatus::DeleteInProgress => Some(None),
                _ => None,
            };
            cloud.stacks.get_mut(name).unwrap().status = status;
            if let Some(end) = end {
                cloud.moving.insert(name.clone(), (pace, end));
            }
        }
        cloud.stacks.extend(dev.stacks.clone());
        let failing: BTreeSet<_> = failing.into_iter().filter_map(|index| names.get(index).cloned()).collect();
        cloud.failing = failing.iter().map(|name| (name.clone(), 1)).collect();
        let elsewhere = BTreeSet::from(["shared".parse().unwrap()]);
        let plan = remove(&mut cloud, &elsewhere, &release(2), pace);
        for (stack, trouble) in plan.troubles() {
            prop_assert!(failing.contains(stack), "{stack}");
            prop_assert_eq!(
                trouble.to_string(),
                "is DELETE_FAILED because of R (T): it cannot be; remove what its events name as undeletable, then delete it again"
            );
        }
        let writes = cloud.writes;
        prop_assert_eq!(remove(&mut cloud, &elsewhere, &release(2), pace), plan);
        prop_assert_eq!(cloud.writes, writes, "the same release does not try again");

        cloud.failing.clear();
        let plan = remove(&mut cloud, &elsewhere, &release(3), pace);
        prop_assert!(plan.0.is_empty(), "{plan:?}");
        let mut left: BTreeSet<_> = dev.stacks.keys().map(StackName::as_str).collect();
        // Another's deletion may have been under way.
        for kept in ["shipway-hello-repository-shared", "shipway-hello-prod-own-vault"] {
            if cloud.stacks.contains_key(&StackName::of_existing(kept)) {
                left.insert(kept);
            }
        }
        prop_assert_eq!(cloud.stacks.keys().map(StackName::as_str).collect::<BTreeSet<_>>(), left);
    }
}

#[test]
fn a_removal_deletes_at_once_all_that_nothing_stands_on() {
    let spec = spec(ALL);
    let mut cloud = Cloud::new(Observed::new());
    assert!(cloud.run(&spec, &release(1), 0).is_done());
    let removed = |plan: &Plan| -> Vec<String> {
        let removed = plan.0.iter().filter(|planned| matches!(planned.next, Next::Remove(_)));
        removed.map(|planned| planned.stack.to_string()).collect()
    };
    let environment = environment();
    let names = Names { app: &spec.app, environment: &environment };
    let nobody = BTreeSet::new();
    let mut rounds = Vec::new();
    loop {
        let belongings = Belongings::of(names, &cloud.stacks, &nobody);
        let kept: Vec<_> = belongings.kept().into_iter().map(|kept| kept.what).collect();
        assert_eq!(kept, ["the stack shipway-hello-prod-own-vault, as `retain: true`"]);
        let plan = belongings.removal(&release(2));
        if plan.0.is_empty() {
            break;
        }
        rounds.push(removed(&plan));
        for planned in &plan.0 {
            cloud.act(planned, 0);
        }
        cloud.tick();
    }
    assert_eq!(
        rounds,
        [
            vec!["shipway-hello-prod-own-queue"],
            vec!["shipway-hello-prod-own-topic"],
            vec![
                "shipway-hello-prod-cluster",
                "shipway-hello-prod-service-api",
                "shipway-hello-prod-service-worker",
                "shipway-hello-prod-site-web",
                "shipway-hello-repository-hello-api",
                "shipway-hello-repository-shared",
            ],
            vec!["shipway-hello-prod-load-balancer"],
            vec!["shipway-hello-prod-sites-certificate"],
        ]
    );
    assert_eq!(environments_of(names, &cloud.stacks), BTreeSet::from(["prod"]), "the stack that stays");
}

#[test]
fn a_deletion_acts_with_the_role_that_made_the_stack_and_lifts_its_protection() {
    let spec = spec(ALL);
    let mut cloud = Cloud::new(Observed::new());
    assert!(cloud.run(&spec, &release(1), 0).is_done());
    let queue = StackName::of_existing("shipway-hello-prod-own-queue");
    let web = StackName::of_existing("shipway-hello-prod-site-web");
    cloud.stacks.get_mut(&queue).unwrap().protected = true;
    cloud.stacks.get_mut(&web).unwrap().role = Some("arn:aws:iam::123456789012:role/shipway-StackRole-1".to_owned());
    cloud.stacks.retain(|name, _| *name == queue || *name == web);
    let environment = environment();
    let names = Names { app: &spec.app, environment: &environment };
    let deletion = |cloud: &Cloud, stack: &StackName| {
        let plan = Belongings::of(names, &cloud.stacks, &BTreeSet::new()).removal(&release(2));
        match plan.0.into_iter().find(|planned| planned.stack == *stack).unwrap().next {
            Next::Remove(deletion) => deletion,
            other => panic!("{other:?}"),
        }
    };
    let of_queue = deletion(&cloud, &queue);
    assert_eq!(of_queue.role.as_deref(), Some("arn:aws:iam::123456789012:role/shipway-stack-queue"));
    assert!(of_queue.protected);
    cloud.stacks.remove(&queue);
    let of_web = deletion(&cloud, &web);
    assert_eq!((of_web.role, of_web.protected), (None, false));
}

#[test]
fn what_stays_of_data_is_said_before_its_stack_goes() {
    let environment = environment();
    let app = "hello".parse().unwrap();
    let names = Names { app: &app, environment: &environment };
    let cluster = named(&wanted(), "shipway-hello-prod-cluster").clone();
    let stack = |name: StackName, on_delete: &str, output: &str| {
        let mut stack = standing(&WantedStack { name: name.clone(), ..cluster.clone() });
        stack.parameters.insert("OnDelete".to_owned(), on_delete.to_owned());
        stack.outputs = BTreeMap::from([(output.to_owned(), "its-id".to_owned())]);
        (name, stack)
    };
    let observed = Observed::from([
        stack(names.database(&"main".parse().unwrap()), "Retain", "Identifier"),
        stack(names.database(&"logs".parse().unwrap()), "Snapshot", "Identifier"),
        stack(names.cache(&"main".parse().unwrap()), "Delete", "Identifier"),
        stack(names.bucket(&"files".parse().unwrap()), "Retain", "Bucket"),
    ]);
    let kept = Belongings::of(names, &observed, &BTreeSet::new()).kept();
    let kept: Vec<_> = kept.iter().map(|kept| (kept.what.as_str(), kept.in_network)).collect();
    assert_eq!(
        kept,
        [
            ("the bucket files (its-id), as `on_delete: retain`", false),
            ("a last snapshot of the database logs (its-id), as `on_delete: snapshot`", false),
            ("the database main (its-id), as `on_delete: retain`", true),
        ]
    );
}

#[test]
fn what_holds_data_is_protected_unless_it_is_to_be_deleted() {
    let cluster = named(&wanted(), "shipway-hello-prod-cluster").clone();
    let protected = |concern, on_delete: &str| {
        let parameters = parameters([("OnDelete", text(on_delete))]);
        WantedStack { concern, parameters, ..cluster.clone() }.protected()
    };
    assert_eq!(protected(Concern::Database, "Retain"), Some(true));
    assert_eq!(protected(Concern::Cache, "Snapshot"), Some(true));
    assert_eq!(protected(Concern::Bucket, "Delete"), Some(false));
    assert_eq!(protected(Concern::Service, "Retain"), None);
}

#[test]
fn differences_name_what_differs_and_no_value() {
    let spec = spec(MANIFEST);
    let mut cloud = Cloud::new(Observed::new());
    assert!(cloud.run(&spec, &release(1), 0).is_done());
    let wanted = wanted_of(&spec, Some(&network()), &cloud.stacks);
    let (differences, as_wanted) = stack_differences(&wanted, &cloud.stacks);
    assert_eq!((differences, as_wanted.len()), (Vec::new(), 8));

    let name = |text: &str| StackName::of_existing(&format!("shipway-hello-prod-{text}"));
    cloud.stacks.get_mut(&name("service-api")).unwrap().parameters.insert("HealthPath".to_owned(), "/x".to_owned());
    cloud.stacks.get_mut(&name("site-docs")).unwrap().status = StackStatus::UpdateInProgress;
    cloud.stacks.get_mut(&name("service-web")).unwrap().tags.insert(INPUTS_TAG.to_owned(), "another".to_owned());
    cloud.stacks.remove(&name("service-worker"));
    let (differences, as_wanted) = stack_differences(&wanted, &cloud.stacks);
    let mut told: Vec<_> = differences.iter().map(|each| format!("{} {}", each.of, each.what)).collect();
    told.sort();
    assert_eq!(
        told,
        [
            "stack shipway-hello-prod-service-api has other parameters than the manifest asks for: HealthPath",
            "stack shipway-hello-prod-service-web is not what the manifest and this version of Shipway make of it",
            "stack shipway-hello-prod-service-worker is not there",
            "stack shipway-hello-prod-site-docs deploying: is UPDATE_IN_PROGRESS",
        ]
    );
    assert_eq!(as_wanted.len(), 4);

    let drift = |deleted| ResourceDrift {
        resource: "Targets".to_owned(),
        resource_type: "AWS::ElasticLoadBalancingV2::TargetGroup".to_owned(),
        deleted,
        properties: vec!["/HealthCheckPath".to_owned(), "/Tags/0/Value".to_owned()],
    };
    let api = &cloud.stacks[&name("service-api")];
    let told = |deleted| resource_difference(&name("service-api"), api, &drift(deleted)).unwrap().what;
    let told = [true, false].map(told);
    assert_eq!(told[0], "Targets (AWS::ElasticLoadBalancingV2::TargetGroup) is gone");
    assert!(told[1].ends_with("was changed by someone: /HealthCheckPath, /Tags/0/Value"), "{}", told[1]);
}

#[test]
fn a_stack_that_is_not_ours_is_never_touched() {
    let wanted = wanted();
    let cluster = named(&wanted, "shipway-hello-prod-cluster");
    let mut foreign = left_behind(cluster, StackStatus::CreateComplete);
    foreign.tags.insert("shipway:app".to_owned(), "other".to_owned());
    let observed = Observed::from([(cluster.name.clone(), foreign)]);
    let plan = next_actions(&wanted, &observed, &release(1));
    let (stack, trouble) = plan.troubles().next().unwrap();
    assert_eq!(
        format!("{stack} {trouble}"),
        "shipway-hello-prod-cluster is there already, but its tag shipway:app is not hello (other); delete it or give the app another name"
    );
    assert_eq!(trouble.failure(), crate::failure::Failure::Conflict);
}

#[test]
fn a_stuck_stack_is_named_with_the_way_out() {
    let wanted = wanted();
    let cluster = named(&wanted, "shipway-hello-prod-cluster");
    for status in [
        StackStatus::UpdateRollbackFailed,
        StackStatus::UpdateFailed,
        StackStatus::DeleteFailed,
        StackStatus::ImportRollbackFailed,
        StackStatus::Other("NEW_STATE".to_owned()),
    ] {
        let observed = Observed::from([(cluster.name.clone(), left_behind(cluster, status.clone()))]);
        let plan = next_actions(&wanted, &observed, &release(1));
        assert!(plan.goes_on(), "the others go on");
        let (_, trouble) = plan.troubles().next().unwrap();
        assert!(trouble.to_string().starts_with(&format!("is {status}; ")), "{trouble}");
    }
}

#[test]
fn a_finished_stack_without_its_output_is_our_own_fault() {
    let spec = spec(MANIFEST);
    let mut cloud = Cloud::new(Observed::new());
    assert!(cloud.run(&spec, &release(1), 0).is_done());
    for stack in cloud.stacks.values_mut() {
        stack.outputs.clear();
    }
    let plan = next_actions(&wanted_of(&spec, Some(&network()), &cloud.stacks), &cloud.stacks, &release(1));
    let troubles: Vec<_> = plan.troubles().collect();
    assert_eq!(troubles.len(), 1);
    assert_eq!(troubles[0].1, &Trouble::Incomplete { key: "Listener".into(), own: false });
}

#[test]
fn without_the_network_what_needs_it_waits() {
    let spec = spec(MANIFEST);
    let plan = next_actions(&wanted_of(&spec, None, &Observed::new()), &Observed::new(), &release(1));
    let waiting: Vec<_> = plan.0.iter().filter(|planned| planned.next == Next::Blocked(Blocker::Network)).collect();
    assert_eq!(waiting.len(), 3);
    assert_eq!(plan.0.iter().filter(|planned| matches!(planned.next, Next::Create(_))).count(), 5);
    assert_eq!(plan.seconds(), 5);
    assert!(plan.note().starts_with("creates shipway-hello-repository-hello-api, "));
    assert!(plan.note().ends_with(", 3 more stand on these"), "{}", plan.note());
}
