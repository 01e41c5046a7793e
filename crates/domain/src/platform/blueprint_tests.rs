//! What holds of every stack of every example, whatever the blueprints are.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::*;
use crate::{manifest, platform::tests};

/// CloudFormation takes at most so many bytes of a template in a request.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html>
const MOST_BYTES: usize = 51_200;

/// The entries of a section of a template: its lines of two spaces' indentation, with what is in each.
fn section(template: &str, section: &str) -> BTreeMap<String, String> {
    let lines = template.lines().skip_while(|line| *line != format!("{section}:")).skip(1);
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '#']));
    let mut entries: BTreeMap<String, String> = BTreeMap::new();
    let mut current = None;
    for line in lines {
        let name = line.strip_prefix("  ").and_then(|line| line.split_once(':')).map(|(name, _)| name);
        match name.filter(|name| !name.is_empty() && name.chars().all(char::is_alphanumeric)) {
            Some(name) => {
                entries.insert(name.to_owned(), String::new());
                current = Some(name.to_owned());
            }
            None => {
                if let Some(entry) = current.as_ref().and_then(|name| entries.get_mut(name)) {
                    entry.push_str(line);
                    entry.push('\n');
                }
            }
        }
    }
    entries
}

/// What a template's stack gives.
pub(super) fn outputs_of(template: &str) -> BTreeSet<String> {
    section(template, "Outputs").into_keys().collect()
}

/// Every environment of every example.
fn examples() -> Vec<(String, EnvironmentName, Spec)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut examples = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(path.join("shipway.yaml")) else { continue };
        for (environment, spec) in manifest::read_all(&text).unwrap() {
            examples.push((format!("{} {environment}", path.display()), environment, spec));
        }
    }
    assert!(!examples.is_empty());
    examples
}

fn each_wish(check: impl Fn(&str, &Wish<'_>)) {
    let (place, network) = (tests::place(), tests::network());
    for (what, environment, spec) in examples() {
        check(&what, &Wish { spec: &spec, environment: &environment, place: &place, network: Some(&network) });
    }
}

/// The outputs that a value is made of.
fn outputs_in(value: &Value) -> Vec<(&StackName, &str)> {
    match value {
        Value::Text(_) | Value::OfNetwork | Value::Kept { .. } => Vec::new(),
        Value::Output { stack, key } => vec![(stack, key)],
        Value::List(values) | Value::Joined(values) => values.iter().flat_map(outputs_in).collect(),
    }
}

fn longest(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Output { .. } | Value::OfNetwork | Value::Kept { .. } => 0,
        Value::List(values) | Value::Joined(values) => values.iter().map(|value| longest(value) + 1).sum(),
    }
}

#[test]
fn every_stack_gives_its_template_exactly_the_parameters_that_it_has() {
    each_wish(|what, wish| {
        for stack in stacks(wish, &Observed::new()).unwrap() {
            let what = format!("{what}: {}", stack.name);
            assert!(stack.template.len() <= MOST_BYTES, "{what}: {} bytes", stack.template.len());
            let has: BTreeSet<_> = section(&stack.template, "Parameters").into_keys().collect();
            let given: BTreeSet<_> = stack.parameters.keys().map(ToString::to_string).collect();
            if stack.concern == Concern::Own {
                assert!(given.is_subset(&has), "{what}");
            } else {
                assert_eq!(given, has, "{what}");
            }
            for (key, value) in &stack.parameters {
                assert!(longest(value) <= MOST_PARAMETER_BYTES, "{what}: {key} is {} bytes long", longest(value));
            }
        }
    });
}

#[test]
fn every_output_that_a_stack_is_given_is_one_that_the_other_stack_has() {
    each_wish(|what, wish| {
        let wanted = stacks(wish, &Observed::new()).unwrap();
        for stack in &wanted {
            for (other, key) in stack.parameters.values().flat_map(outputs_in) {
                let other = wanted.iter().find(|stack| stack.name == *other).unwrap();
                assert!(outputs_of(&other.template).contains(key), "{what}: {} of {}", key, other.name);
            }
        }
    });
}

#[test]
fn what_needs_the_network_says_so() {
    each_wish(|what, wish| {
        let wanted = stacks(&Wish { network: None, ..*wish }, &Observed::new()).unwrap();
        fn of_network(value: &Value) -> bool {
            match value {
                Value::OfNetwork => true,
                Value::Text(_) | Value::Output { .. } | Value::Kept { .. } => false,
                Value::List(values) | Value::Joined(values) => values.iter().any(of_network),
            }
        }
        let mut needing = BTreeSet::new();
        for stack in &wanted {
            let needs = stack.parameters.values().any(of_network) || !stack.stands_on().is_disjoint(&needing);
            if needs {
                needing.insert(stack.name.clone());
                assert!(stack.needs_network, "{what}: {}", stack.name);
            }
        }
    });
}

#[test]
fn a_teardown_knows_every_stack_by_its_name() {
    each_wish(|what, wish| {
        let wanted = stacks(wish, &Observed::new()).unwrap();
        let names: BTreeSet<_> = wanted.iter().map(|stack| stack.name.clone()).collect();
        assert_eq!(names.len(), wanted.len(), "{what}: two stacks of one name");
        for stack in &wanted {
            let known = wish.names().concern_of(&stack.name);
            let expected = (stack.concern != Concern::Repository).then_some(stack.concern);
            assert_eq!(known, expected, "{what}: {}", stack.name);
            assert!(stack.name.as_str().len() <= 128, "{what}: {}", stack.name);
        }
    });
}

#[test]
fn once_all_stacks_stand_every_reference_stands_for_the_same_everywhere() {
    each_wish(|what, wish| {
        let mut observed = Observed::new();
        for stack in stacks(wish, &Observed::new()).unwrap() {
            let made = tests::standing(&stack);
            observed.insert(stack.name, made);
        }
        let outputs = outputs(wish, &observed).unwrap_or_else(|error| panic!("{what}: {error}"));
        for name in wish.spec.sites.keys() {
            assert!(outputs.values.contains_key(&format!("sites.{name}.url")), "{what}");
        }
        assert_eq!(outputs.values["network.vpc"], "vpc-1", "{what}");
        for (text, value) in &outputs.values {
            let reference = crate::manifest::spec::Reference::try_from(text.clone()).unwrap();
            let known = wish.value_of(&reference).and_then(|value| value.known(&observed));
            assert_eq!(known.as_ref(), Some(value), "{what}: {text}");
        }
        assert_eq!(outputs.capacity_provider.is_some(), wish.spec.cluster.ec2.is_some(), "{what}");
    });
}

const OWN: &str = r"
version: 1
app: hello
services: {api: {image: {repository: hello-api}, port: 80, http: {}}}
stacks:
  queue:
    template: |
      Resources: {Topic: {Type: AWS::SNS::Topic}}
      Parameters:
        Topic:
          Type: String
        Vpc:
          Type: String
      Outputs:
        Url:
          Value: x
    role: arn:aws:iam::123456789012:role/shipway-stack-queue
    parameters: {Topic: {ref: stacks.topic.Arn}, Vpc: {ref: network.vpc}}
  topic:
    template: |
      Resources: {Topic: {Type: AWS::SNS::Topic}}
      Parameters:
        Url:
          Type: String
      Outputs:
        Arn:
          Value: x
    role: arn:aws:iam::123456789012:role/shipway-stack-topic
    retain: true
    parameters: {Url: {ref: load_balancer.url}}
environments: {prod: {}}
";

/// The manifest with another reference in a stack's parameter, past its checks.
fn own_with(stack: &str, parameter: &str, reference: &str) -> Spec {
    let mut spec = tests::spec(OWN);
    let reference = crate::manifest::spec::Reference::try_from(reference.to_owned()).unwrap();
    let stack = spec.stacks.get_mut(&stack.parse::<ComponentName>().unwrap()).unwrap();
    stack.parameters.insert(parameter.to_owned(), crate::manifest::spec::EnvValue::Ref(reference));
    spec
}

#[test]
fn the_users_own_stacks_come_in_the_order_of_what_they_refer_to() {
    let spec = tests::spec(OWN);
    let wanted = tests::wanted_of(&spec, Some(&tests::network()), &Observed::new());
    let names: Vec<_> = wanted.iter().map(|stack| stack.name.as_str()).collect();
    let at = |name: &str| names.iter().position(|other| *other == name).unwrap();
    assert!(at("shipway-hello-prod-own-topic") < at("shipway-hello-prod-own-queue"));
    assert!(at("shipway-hello-prod-load-balancer") < at("shipway-hello-prod-own-topic"));
    let topic = &wanted[at("shipway-hello-prod-own-topic")];
    assert_eq!(topic.role.as_deref(), Some("arn:aws:iam::123456789012:role/shipway-stack-topic"));
    assert_eq!(topic.tags.get(KEEP_TAG).map(String::as_str), Some("true"));
    let queue = &wanted[at("shipway-hello-prod-own-queue")];
    assert_eq!(queue.parameters["Vpc"], Value::Text("vpc-1".to_owned()));
    assert!(queue.needs_network && !queue.tags.contains_key(KEEP_TAG));

    let mut observed: Observed = wanted.iter().map(|stack| (stack.name.clone(), tests::standing(stack))).collect();
    let load_balancer = observed.get_mut(&wanted[at("shipway-hello-prod-load-balancer")].name).unwrap();
    load_balancer.outputs.insert("DnsName".to_owned(), "lb.example".to_owned());
    assert_eq!(topic.parameters["Url"].known(&observed).as_deref(), Some("http://lb.example"));
    let environment = tests::environment();
    let (place, network) = (tests::place(), tests::network());
    let wish = Wish { spec: &spec, environment: &environment, place: &place, network: Some(&network) };
    let outputs = outputs(&wish, &observed).unwrap();
    assert_eq!(outputs.values["stacks.topic.Arn"], "shipway-hello-prod-own-topic/Arn");
    assert_eq!(outputs.values["network.public_subnets"], "subnet-1,subnet-2");
}

#[test]
fn an_output_that_an_own_template_does_not_have_is_the_manifests_mistake() {
    // A template can lose an output while the stack stands.
    let spec = own_with("queue", "Topic", "stacks.topic.Url");
    let wanted = tests::wanted_of(&spec, Some(&tests::network()), &Observed::new());
    let mut observed = Observed::new();
    for _ in 0..wanted.len() {
        let plan = next_actions(&wanted, &observed, &tests::release(1));
        for planned in plan.0 {
            if let Next::Create(apply) = planned.next {
                let stack = wanted.iter().find(|stack| stack.name == planned.stack).unwrap();
                let mut made = tests::standing(stack);
                made.tags = apply.tags.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
                made.parameters =
                    apply.parameters.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
                observed.insert(planned.stack, made);
            }
        }
    }
    let plan = next_actions(&wanted, &observed, &tests::release(1));
    let (stack, trouble) = plan.troubles().next().unwrap();
    assert_eq!(
        format!("{stack} {trouble}"),
        "shipway-hello-prod-own-topic has no output Url; give its template one, or refer to one that it has"
    );
    assert_eq!(trouble.failure(), Failure::RejectedManifest);
}

#[test]
fn stacks_that_stand_on_each_other_are_our_own_fault() {
    let spec = own_with("topic", "Url", "stacks.queue.Url");
    let environment = tests::environment();
    let wish = Wish { spec: &spec, environment: &environment, place: &tests::place(), network: None };
    let error = stacks(&wish, &Observed::new()).unwrap_err();
    assert_eq!(error.failure(), Failure::Bug);
    assert!(error.to_string().contains("own-queue, shipway-hello-prod-own-topic stand on each other"), "{error}");
}

#[test]
fn services_that_share_a_repository_keep_what_the_most_careful_one_keeps() {
    let mut spec = tests::spec(
        "version: 1\napp: hello\nservices:\n  a: {image: {repository: ra, keep: 10, keep_untagged: 2d}}\n  \
         b: {image: {repository: ra, keep: 10, keep_untagged: 2d}}\n  c: {image: {repository: sa}}\nenvironments: {prod: {}}\n",
    );
    // The manifest's checks ask for the same in both.
    let image = &mut spec.services.get_mut(&"b".parse::<ComponentName>().unwrap()).unwrap().image;
    (image.keep, image.keep_untagged) = (Some(20), None);
    let wanted = tests::wanted_of(&spec, None, &Observed::new());
    let text = |index: usize, key: &str| match &wanted[index].parameters[key] {
        Value::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((text(0, "Keep").as_str(), text(0, "UntaggedDays").as_str()), ("20", "2"));
    assert_eq!((text(1, "Keep").as_str(), text(1, "UntaggedDays").as_str()), ("500", "0"));
}

/// An image that a rule selects is not expired by one of a higher number, and a rule is `tagged` for those that all its patterns match.
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html>
#[test]
fn the_first_rule_of_a_repository_keeps_what_has_a_tag_of_shipways() {
    let blueprint = include_str!("../../../../bootstrap/blueprints/repository.yaml");
    let (_, policy) = blueprint.split_once("LifecyclePolicyText: !Sub").unwrap();
    let (policy, _) = policy.split_once("- Untagged:").unwrap();
    let policy = policy.replace("${Untagged}", "\"countType\": \"any\"").replace("${Keep}", "500");
    let policy: serde_json::Value = serde_json::from_str(&policy[policy.find('{').unwrap()..]).unwrap();
    let rules = policy["rules"].as_array().unwrap();
    let first = rules.iter().min_by_key(|rule| rule["rulePriority"].as_u64()).unwrap();
    let pattern = format!("{}*", crate::keeping::PREFIX);
    assert_eq!(first["selection"]["tagPatternList"], serde_json::json!([pattern]));
    // So many services may share a repository, of one environment or of several.
    let most = first["selection"]["countNumber"].as_u64().unwrap();
    assert!(most >= 40 * (u64::from(crate::keeping::MOST) + 1), "{most}");
}
