use std::collections::BTreeSet;

use super::*;
use crate::{
    manifest::Spec,
    name::EnvironmentName,
    platform::{
        Next, PlanError, ResourceDrift, StackName, WantedStack, next_actions, outputs, resource_difference,
        stack_differences, stacks, tests,
    },
};

const OTHERS: &str =
    "  web: {image: {repository: web}, port: 80, http: {}}\nmonitoring: {alarms: {http_5xx: {above: 5}}}\n";

/// An environment with the service `api`, which says this.
fn spec(api: &str) -> Spec {
    tests::spec(&format!(
        "version: 1\napp: hello\nservices:\n  api: {{image: {{repository: api}}, port: 80, {api}}}\n{OTHERS}environments: {{prod: {{}}}}\n"
    ))
}

const ROLLING: &str = "http: {path: /api/*}";
const CANARY: &str = "http: {path: /api/*}, rollout: {strategy: canary}";
const TESTED: &str = "http: {path: /api/*}, smoke: [{path: /api/a}], rollout: {strategy: canary, test_traffic: true}";

fn service(name: &str) -> StackName {
    let (app, environment) = ("hello".parse().unwrap(), tests::environment());
    super::super::Names { app: &app, environment: &environment }.service(&name.parse().unwrap())
}

fn wanted(spec: &Spec, observed: &Observed) -> Vec<WantedStack> {
    tests::wanted_of(spec, Some(&tests::network()), observed)
}

/// What is done about the stack of the service `api`.
fn next(spec: &Spec, observed: &Observed) -> Next {
    let plan = next_actions(&wanted(spec, observed), observed, &tests::release(1));
    plan.0.into_iter().find(|planned| planned.stack == service("api")).unwrap().next
}

/// What stands once the manifest was applied to what stood.
fn applied(spec: &Spec, mut observed: Observed) -> Observed {
    for _ in 0..20 {
        let wanted = wanted(spec, &observed);
        let plan = next_actions(&wanted, &observed, &tests::release(1));
        if plan.is_done() {
            return observed;
        }
        for planned in plan.0 {
            let (Next::Create(apply) | Next::Update(apply)) = planned.next else { continue };
            let stack = wanted.iter().find(|stack| stack.name == planned.stack).unwrap();
            let mut made = tests::standing(stack);
            made.tags = apply.tags.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
            made.parameters = apply.parameters.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
            observed.insert(planned.stack, made);
        }
    }
    panic!("it never ends");
}

/// The service's stack with these weights: of everybody's requests, of those of tests.
fn with_weights(mut observed: Observed, weights: [u32; 4]) -> Observed {
    let keys = ["PrimaryWeight", "AlternateWeight", "TestPrimaryWeight", "TestAlternateWeight"];
    let parameters = &mut observed.get_mut(&service("api")).unwrap().parameters;
    parameters.extend(keys.into_iter().zip(weights).map(|(key, weight)| (key.to_owned(), weight.to_string())));
    observed
}

fn given<'a>(observed: &'a Observed, key: &str) -> &'a str {
    &observed[&service("api")].parameters[key]
}

fn weights_of(next: Next) -> [String; 4] {
    let Next::Update(apply) = next else { panic!("{next:?}") };
    let keys = ["PrimaryWeight", "AlternateWeight", "TestPrimaryWeight", "TestAlternateWeight"];
    keys.map(|key| apply.parameters[key].clone())
}

fn alternate(spec: &Spec, observed: &Observed) -> Option<super::super::Alternate> {
    let (environment, place, network) = (tests::environment(), tests::place(), tests::network());
    let wish = Wish { spec, environment: &environment, place: &place, network: Some(&network) };
    outputs(&wish, observed).unwrap().services[&"api".parse::<ComponentName>().unwrap()].alternate.clone()
}

#[test]
fn at_first_all_requests_go_to_the_first_target_group_and_the_outputs_tell_what_ecs_needs() {
    let rolling = applied(&spec(ROLLING), Observed::new());
    assert_eq!((given(&rolling, "Shifts"), alternate(&spec(ROLLING), &rolling)), ("false", None));
    for before in [Observed::new(), rolling] {
        let observed = applied(&spec(TESTED), before);
        assert_eq!((given(&observed, "Shifts"), given(&observed, "TestHeader")), ("true", "api"));
        assert_eq!((given(&observed, "PrimaryWeight"), given(&observed, "AlternateWeight")), ("100", "0"));
        let made = alternate(&spec(TESTED), &observed).unwrap();
        let output = |key: &str| format!("{}/{key}", service("api"));
        assert_eq!((made.target_group, made.rule), (output("AlternateTargetGroup"), output("Rule")));
        assert_eq!((made.test_rule, made.role), (Some(output("TestRule")), output("InfrastructureRole")));
    }
    let untested = applied(&spec(CANARY), Observed::new());
    assert_eq!(alternate(&spec(CANARY), &untested).unwrap().test_rule, None);
}

#[test]
fn the_weights_that_there_are_stay_whatever_else_changes() {
    let observed = with_weights(applied(&spec(TESTED), Observed::new()), [0, 100, 10, 90]);
    let other = spec(&TESTED.replace("path: /api/*", "path: /ap*"));
    assert_eq!(weights_of(next(&other, &observed)), ["0", "100", "10", "90"]);
}

#[test]
fn a_stack_is_as_it_should_be_whatever_its_weights_are() {
    for (text, weights) in [(CANARY, [0, 100, 100, 0]), (TESTED, [25, 75, 0, 100])] {
        let observed = with_weights(applied(&spec(text), Observed::new()), weights);
        assert_eq!(next(&spec(text), &observed), Next::InSync, "{text}");
        assert_eq!(stack_differences(&wanted(&spec(text), &observed), &observed).0, [], "{text}");
    }
}

#[test]
fn nothing_that_another_strategy_needed_is_taken_away_while_the_service_is_there() {
    let observed = with_weights(applied(&spec(TESTED), Observed::new()), [0, 100, 0, 100]);
    let observed = applied(&spec(ROLLING), observed);
    assert_eq!((given(&observed, "Shifts"), given(&observed, "TestHeader")), ("true", "api"));
    assert_eq!((given(&observed, "PrimaryWeight"), given(&observed, "AlternateWeight")), ("0", "100"));
    assert!(alternate(&spec(ROLLING), &observed).unwrap().test_rule.is_some());
    let other = spec("http: {path: /ap*}");
    assert_eq!(weights_of(next(&other, &observed)), ["0", "100", "0", "100"]);

    let sticky = spec("http: {path: /api/*, stickiness: {}}");
    let (environment, place): (EnvironmentName, _) = (tests::environment(), tests::place());
    let wish = Wish { spec: &sticky, environment: &environment, place: &place, network: None };
    assert_eq!(stacks(&wish, &observed).unwrap_err(), PlanError::Sticky { service: "api".parse().unwrap() });
    assert!(stacks(&wish, &Observed::new()).is_ok());
}

#[test]
fn a_rule_for_tests_that_comes_later_begins_with_what_everybody_gets() {
    let observed = with_weights(applied(&spec(CANARY), Observed::new()), [0, 100, 100, 0]);
    assert_eq!(weights_of(next(&spec(TESTED), &observed)), ["0", "100", "0", "100"]);
}

#[test]
fn what_the_rules_weigh_is_told_where_the_stack_says_something_else() {
    let observed = with_weights(applied(&spec(TESTED), Observed::new()), [100, 0, 100, 0]);
    let stack = &observed[&service("api")];
    let output = |key: &str| stack.outputs[key].clone();
    assert_eq!(stack.weighed_rules(), [output("Rule"), output("TestRule")]);
    let rules = |of_all: [u32; 2], of_tests: Option<[u32; 2]>| {
        let groups = ["TargetGroup", "AlternateTargetGroup"];
        let of = |weights: [u32; 2]| groups.map(output).into_iter().zip(weights).collect::<Weights>();
        let rules = [(output("Rule"), Some(of_all)), (output("TestRule"), of_tests)];
        rules.into_iter().filter_map(|(rule, weights)| Some((rule, of(weights?)))).collect::<BTreeMap<_, _>>()
    };
    let moved = |of_all, of_tests| {
        let moved = stack.moved(&rules(of_all, of_tests)).into_iter();
        moved.map(|(key, weight)| format!("{key} {weight}")).collect::<Vec<_>>()
    };
    let nothing = Vec::<String>::new();
    assert_eq!(moved([100, 0], Some([100, 0])), nothing);
    assert_eq!(moved([1, 0], None), nothing, "one group alone gets all, whatever its weight is");
    assert_eq!(moved([0, 0], Some([0, 0])), nothing, "what sends nothing to either is not ECS's doing");
    assert_eq!(moved([0, 100], None), ["AlternateWeight 100", "PrimaryWeight 0"]);
    let canary = ["AlternateWeight 10", "PrimaryWeight 90", "TestAlternateWeight 100", "TestPrimaryWeight 0"];
    assert_eq!(moved([90, 10], Some([0, 100])), canary);
    assert_eq!(observed[&service("web")].weighed_rules(), nothing);
}

#[test]
fn a_rule_whose_weights_ecs_changed_has_not_drifted() {
    let observed = applied(&spec(CANARY), Observed::new());
    let told = |name: &str, resource: &str, properties: &[&str]| {
        let drift = ResourceDrift {
            resource: resource.to_owned(),
            resource_type: LISTENER_RULE.to_owned(),
            deleted: properties.is_empty(),
            properties: properties.iter().map(|path| (*path).to_owned()).collect(),
        };
        resource_difference(&service(name), &observed[&service(name)], &drift).is_some()
    };
    let weight = "/Actions/0/ForwardConfig/TargetGroups/0/Weight";
    assert!(!told("api", "Rule", &[weight, "/Actions/0/TargetGroupArn"]));
    assert!(told("api", "Rule", &[weight, "/Priority"]));
    assert!(told("api", "Rule", &[]), "it is gone");
    assert!(told("api", "TestRule", &[weight]), "there is none that ECS would know");
    assert!(told("web", "Rule", &[weight]), "nobody moves its requests");
}

#[test]
fn the_rule_for_tests_comes_before_the_services_own_and_takes_no_others_place() {
    let priorities = |observed: &Observed| {
        let number = |name: &str, key: &str| observed[&service(name)].parameters[key].parse::<u32>().unwrap();
        [("api", "Priority"), ("api", "TestPriority"), ("web", "Priority")].map(|(name, key)| number(name, key))
    };
    let rolling = applied(&spec(ROLLING), Observed::new());
    let tested = applied(&spec(TESTED), rolling.clone());
    let [rule, test_rule, web] = priorities(&tested);
    assert_eq!([rule, web], [priorities(&rolling)[0], priorities(&rolling)[2]], "others keep their places");
    assert!(test_rule < rule && rule < web);
    assert_eq!(priorities(&applied(&spec(ROLLING), tested.clone())), [rule, test_rule, web]);

    let [wider, test_of_wider, _] = priorities(&applied(&spec(&TESTED.replace("/api/*", "/ap*")), tested.clone()));
    assert!(rule < wider && test_of_wider < wider);
    assert_ne!(test_of_wider, test_rule, "it moves along");

    let one = |name: &str| {
        format!(
            "  {name}: {{image: {{repository: r{name}}}, port: 80, http: {{path: /{name}/*}}, smoke: [{{path: /{name}/a}}], rollout: {{strategy: \
             linear, test_traffic: true}}}}\n"
        )
    };
    let many: String = ["b", "c", "d", "e"].map(one).concat();
    let text = format!("version: 1\napp: hello\nservices:\n{many}environments: {{prod: {{}}}}\n");
    let observed = applied(&tests::spec(&text), Observed::new());
    let all: Vec<_> = observed.values().filter(|stack| stack.parameters.contains_key("Priority")).collect();
    let places = all.iter().flat_map(|stack| ["Priority", "TestPriority"].map(|key| &stack.parameters[key]));
    assert_eq!(places.collect::<BTreeSet<_>>().len(), 8);
}

#[test]
fn alarms_count_both_target_groups() {
    let alarms = |text: &str| {
        let observed = applied(&spec(text), Observed::new());
        let stack = observed.iter().find(|(name, _)| name.as_str().ends_with("alarms-service-api")).unwrap().1;
        ["TargetGroup", "AlternateTargetGroup"].map(|key| stack.parameters[key].clone())
    };
    let name = |key: &str| format!("{}/{key}", service("api"));
    assert_eq!(alarms(ROLLING), [name("TargetGroupName"), String::new()]);
    assert_eq!(alarms(CANARY), [name("TargetGroupName"), name("AlternateTargetGroupName")]);
}
