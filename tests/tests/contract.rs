//! What must hold between crates, machines and template, and what none of their own checkers sees: who may depend on whom, that
//! every state says what happens in it and handles what can, that template, machines and functions name each other rightly, and
//! that a function may do what it calls and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use local_cloud::{Operation, limits::Limit};
use serde_json::{Map, Value};
use shipway_domain::{failure::Failure, release::LEASE};
use shipway_tests::{
    rights::shown,
    template::{ids, items, names, statements, template, yaml},
};

// ---- Who may depend on whom ----

/// The crates that functions share, and what each may use of this workspace. Functions may use all of them.
const SHARED: [(&str, &[&str]); 7] = [
    ("shipway-domain", &[]),
    ("shipway-archive", &["shipway-domain"]),
    ("shipway-aws", &["shipway-domain"]),
    ("shipway-ec2", &["shipway-aws", "shipway-domain"]),
    ("shipway-ecs", &["shipway-aws", "shipway-domain"]),
    ("shipway-notices", &["shipway-aws", "shipway-domain"]),
    ("shipway-stacks", &["shipway-aws", "shipway-domain"]),
];

/// The command that people and CI run, and what it may use of this workspace.
const COMMAND: (&str, &[&str]) =
    ("shipway", &["shipway-archive", "shipway-aws", "shipway-domain", "shipway-ec2", "shipway-stacks"]);

/// What is never shipped, and may use anything.
const TOOLS: [&str; 6] = ["hello-function", "local-cloud", "publish-bench", "put-function", "shipway-tests", "xtask"];

/// Which of what is shipped may use an SDK. One that is new here has to be thought about: each takes minutes to build.
const SDKS: [(&str, &[&str]); 20] = [
    ("aws-sdk-applicationautoscaling", &["deploy-service"]),
    ("aws-sdk-cloudformation", &["shipway-stacks", "provision-platform", "shipway"]),
    ("aws-sdk-cloudfront", &["invalidate-cache"]),
    ("aws-sdk-cloudfrontkeyvaluestore", &["invalidate-cache"]),
    ("aws-sdk-cloudwatch", &["check-release"]),
    ("aws-sdk-cloudwatchlogs", &["shipway-ecs", "check-release", "deploy-service", "run-migrations", "shipway"]),
    ("aws-sdk-dynamodb", &["shipway-aws"]),
    ("aws-sdk-ec2", &["shipway-ec2", "check-release"]),
    ("aws-sdk-ecr", &["start-release", "check-release", "deploy-service"]),
    (
        "aws-sdk-ecs",
        &["shipway-ecs", "check-release", "deploy-service", "provision-platform", "run-migrations", "shipway"],
    ),
    ("aws-sdk-elasticloadbalancingv2", &["deploy-service", "provision-platform", "shipway"]),
    ("aws-sdk-eventbridge", &["shipway-notices"]),
    ("aws-sdk-iam", &["check-release"]),
    ("aws-sdk-rds", &["run-migrations"]),
    ("aws-sdk-s3", &["shipway-aws", "start-release", "record-release", "sync-frontend", "invalidate-cache", "shipway"]),
    ("aws-sdk-secretsmanager", &["start-release", "check-release"]),
    ("aws-sdk-sfn", &["start-release", "record-release", "shipway"]),
    ("aws-sdk-sns", &["shipway-notices"]),
    ("aws-sdk-ssm", &["start-release", "check-release"]),
    ("aws-sdk-sts", &["shipway"]),
];

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let metadata = metadata()?;
    let functions = functions()?;
    let ours: BTreeSet<&str> = metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let allowed: Vec<&str> = if functions.contains(name) {
            SHARED.iter().map(|(shared, _)| *shared).collect()
        } else if let Some((_, allowed)) = SHARED.iter().chain([&COMMAND]).find(|(known, _)| *known == name) {
            allowed.to_vec()
        } else {
            ensure!(
                TOOLS.contains(&name),
                "{name} has no place among the crates: put it into SHARED, COMMAND or TOOLS"
            );
            continue;
        };
        for used in normal(package).filter(|used| ours.contains(used)) {
            ensure!(allowed.contains(&used), "{name} must not depend on {used}");
        }
    }
    Ok(())
}

#[test]
fn each_sdk_is_used_only_where_it_is_needed() -> Result<()> {
    for package in metadata()?.workspace_packages() {
        let name = package.name.as_str();
        if TOOLS.contains(&name) {
            continue;
        }
        for sdk in normal(package).filter(|used| used.starts_with("aws-sdk-")) {
            let allowed = SDKS.iter().find(|(known, _)| *known == sdk).map_or(&[][..], |(_, allowed)| allowed);
            ensure!(allowed.contains(&name), "{name} uses {sdk}; if it must, say so in SDKS");
        }
    }
    Ok(())
}

/// It reads, uploads and starts executions. `docs/command.md` lists the rights for those who write its policies.
#[test]
fn the_command_calls_what_its_page_says_and_nothing_else() -> Result<()> {
    let page = fs::read_to_string(root().join("docs/command.md"))?;
    let (_, rights) = page.split_once("\n## Rights\n").context("the page has no section Rights")?;
    let (rights, _) = rights.split_once("\n## ").context("nothing comes after the section Rights")?;
    // The table's own are the store's, named where they are made.
    let table = ["dynamodb:GetItem", "dynamodb:Query"].map(str::to_owned);
    // Of what shipway-ec2 can do, the command only looks.
    let looks = calls(&fs::read_to_string(root().join("crates/ec2/src/look.rs"))?);
    let stacks = calls(&sources(&root().join("crates/stacks"))?);
    let own = calls(&sources(&root().join("crates/cli"))?);
    let called: BTreeSet<String> = own.into_iter().chain(table).chain(looks).chain(stacks).collect();
    let column: String = rights.lines().filter_map(|line| line.split('|').nth(2)).collect();
    let told = calls(&column.replace('`', "\""));
    ensure!(called == told, "called and told differ: {:?}", &called ^ &told);
    for call in &called {
        let harmless =
            ["Get", "List", "Query", "Describe", "Filter"].iter().any(|verb| call.contains(&format!(":{verb}")));
        let known = ["s3:PutObject", "states:SendTaskFailure", "states:SendTaskSuccess", "states:StartExecution"];
        ensure!(harmless || known.contains(&call.as_str()), "the command calls {call}");
    }
    Ok(())
}

/// Pages that say which test asserts what are worth something as long as there are such tests. On them, what is written as code
/// and has the form of a test's name is one, or begins like one where it ends with an ellipsis.
#[test]
fn every_test_that_a_page_names_is_there() -> Result<()> {
    let mut there = String::new();
    for folder in ["tests", "crates", "functions", "xtask"] {
        for path in rust_files(&root().join(folder))? {
            there.push_str(&fs::read_to_string(path)?);
        }
    }
    for (page, at_least) in [
        ("docs/systems.md", 10),
        ("docs/lessons.md", 60),
        ("SECURITY.md", 15),
        ("docs/supply-chain.md", 2),
        ("docs/rights.md", 4),
    ] {
        let text = fs::read_to_string(root().join(page))?;
        let names: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|code| is_test_name(code)).collect();
        for name in &names {
            // An ellipsis in the middle leaves out what is between two words.
            let begins = name.split('…').next().unwrap_or(name);
            let whole = if name.contains('…') { format!("fn {begins}") } else { format!("fn {begins}(") };
            ensure!(there.contains(&whole), "{page} names `{name}`, which is nowhere");
        }
        ensure!(names.len() >= at_least, "{page} names {} tests", names.len());
    }
    Ok(())
}

/// Whether this has the form of a test's name: a sentence of at least four words.
fn is_test_name(code: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '…';
    code.chars().all(is_word) && code.matches('_').count() >= 3
}

/// The Rust files below a folder.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn what_is_for_tests_is_never_shipped() -> Result<()> {
    for package in metadata()?.workspace_packages() {
        let shipped = package.dependencies.iter().filter(|used| used.kind == DependencyKind::Normal);
        for used in shipped {
            ensure!(
                !used.features.iter().any(|feature| feature == "testing"),
                "{} ships the test support of {}",
                package.name,
                used.name
            );
        }
    }
    Ok(())
}

#[test]
fn the_domain_knows_no_sdk_and_no_runtime_however_far_down() -> Result<()> {
    let metadata = metadata()?;
    let graph = metadata.resolve.as_ref().context("cargo resolves nothing")?;
    let nodes: BTreeMap<_, _> = graph.nodes.iter().map(|node| (&node.id, node)).collect();
    let domain =
        metadata.packages.iter().find(|package| package.name.as_str() == "shipway-domain").context("no domain")?;
    let (mut seen, mut next) = (BTreeSet::new(), vec![&domain.id]);
    while let Some(id) = next.pop() {
        if !seen.insert(id) {
            continue;
        }
        let name = metadata[id].name.as_str();
        let foreign = ["aws-", "tokio", "hyper", "lambda"].iter().any(|start| name.starts_with(start));
        ensure!(!foreign, "shipway-domain depends on {name}, by itself or through another");
        let node = nodes.get(id).with_context(|| format!("{name} is not resolved"))?;
        next.extend(
            node.deps
                .iter()
                .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal))
                .map(|dep| &dep.pkg),
        );
    }
    Ok(())
}

fn metadata() -> Result<Metadata> {
    Ok(MetadataCommand::new().manifest_path(root().join("Cargo.toml")).exec()?)
}

fn normal(package: &Package) -> impl Iterator<Item = &str> {
    package.dependencies.iter().filter(|used| used.kind == DependencyKind::Normal).map(|used| used.name.as_str())
}

// ---- The machines ----

/// Errors that are not ours and that a machine may name: Step Functions' own, and Lambda's.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
const FOREIGN_ERRORS: [&str; 10] = [
    "Lambda.AWSLambdaException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.SdkClientException",
    "Lambda.ServiceException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Sandbox.Timedout",
    "States.ALL",
    "States.Timeout",
];

/// What a function that broke off leaves behind: a pass can always be made again.
const BROKEN_OFF: [&str; 3] = ["Runtime.ExitError", "Sandbox.Timedout", "States.Timeout"];

/// The one Task without a Catch: where it cannot be written how a release ended, the execution stops, and a redrive writes it.
const UNCAUGHT: &str = "End";

/// What JSONata, Step Functions or an expression itself binds: not variables of ours.
const BOUND: [&str; 12] =
    ["states", "max", "min", "floor", "millis", "toMillis", "substring", "parse", "said", "e", "exists", "string"];

/// One state, and where it is.
struct State<'m> {
    name: &'m str,
    of: &'m Value,
    /// The states it can go to.
    beside: &'m Map<String, Value>,
    /// The Parallel that it is in a branch of.
    within: Option<&'m Value>,
}

impl<'m> State<'m> {
    fn kind(&self) -> &'m str {
        self.of["Type"].as_str().unwrap_or_default()
    }

    fn list(&self, key: &str) -> &'m [Value] {
        items(&self.of[key])
    }

    /// The name of the template's function that it calls.
    fn function(&self) -> Option<&'m str> {
        let resource = self.of["Resource"].as_str()?;
        placeholder(if self.calls_back() { self.of["Arguments"]["FunctionName"].as_str()? } else { resource })
    }

    /// Whether it waits, beyond its call, until somebody sends its token back.
    fn calls_back(&self) -> bool {
        self.of["Resource"].as_str().is_some_and(|resource| resource.ends_with(".waitForTaskToken"))
    }

    fn successors(&self) -> impl Iterator<Item = &'m str> + use<'m> {
        let rules = self.list("Choices").iter().chain(self.list("Catch"));
        rules.map(|rule| &rule["Next"]).chain([&self.of["Next"], &self.of["Default"]]).filter_map(Value::as_str)
    }
}

#[test]
fn every_state_says_what_happens_in_it() -> Result<()> {
    for (machine, definition) in machines()? {
        let comment = definition["Comment"].as_str().unwrap_or_default();
        ensure!(comment.contains(&machine), "the Comment of {machine} does not name it");
        ensure!(definition["QueryLanguage"] == "JSONata", "{machine} is not in JSONata");
        ensure!(definition["TimeoutSeconds"].is_u64(), "{machine} may run for a year");
        for state in states(&definition) {
            let comment = state.of["Comment"].as_str().unwrap_or_default();
            ensure!(comment.len() > 10, "{machine}: {} has no Comment", state.name);
        }
    }
    Ok(())
}

#[test]
fn every_way_leads_somewhere_and_every_state_is_reached() -> Result<()> {
    for (machine, definition) in machines()? {
        let mut names = BTreeSet::new();
        let mut reached: BTreeSet<&str> = definition["StartAt"].as_str().into_iter().collect();
        for state in states(&definition) {
            ensure!(names.insert(state.name), "{machine}: two states are named {}", state.name);
            let starts = state.list("Branches").iter().filter_map(|branch| branch["StartAt"].as_str());
            reached.extend(state.successors().chain(starts));
            for next in state.successors() {
                ensure!(
                    state.beside.contains_key(next),
                    "{machine}: {} goes to {next}, which is not there",
                    state.name
                );
            }
            let ends = matches!(state.kind(), "Succeed" | "Fail") || state.of["End"] == true;
            ensure!(
                ends != state.successors().any(|next| !catches(state.of, next)),
                "{machine}: {} neither ends nor goes on",
                state.name
            );
        }
        ensure!(names == reached, "{machine}: never reached, or not there: {:?}", &names ^ &reached);
    }
    Ok(())
}

/// Whether `next` is where a Catch of the state leads, and nothing else does.
fn catches(state: &Value, next: &str) -> bool {
    state["Next"] != next && items(&state["Catch"]).iter().any(|catcher| catcher["Next"] == next)
}

#[test]
fn five_hundred_rollouts_at_once_wait_for_ecs_to_register_them() -> Result<()> {
    const REGISTER: &str = "RegisterTaskDefinition";
    let limit = Limit::of(&Operation { service: "ecs".to_owned(), name: REGISTER.to_owned() }).context(REGISTER)?;
    let needed = (500.0 - f64::from(limit.burst)) / limit.per_second;
    let machines = machines()?;
    let rollout = machines.get("rollout").context("there is no machine rollout")?;
    // Where that leaves no function free, none can be begun or ended either.
    for name in ["Begin", "RunMigrations", "DeployService", "RunSmokeTasks", "End"] {
        let state = states(rollout).into_iter().find(|state| state.name == name).context(name)?;
        let mut retriers = state.list("Retry").iter();
        let retrier = retriers.find(|retrier| names(&retrier["ErrorEquals"]).contains("Transient")).context(name)?;
        let number = |key: &str| retrier[key].as_f64().with_context(|| format!("{name} says no {key}"));
        let (first, rate, longest) = (number("IntervalSeconds")?, number("BackoffRate")?, number("MaxDelaySeconds")?);
        let mut waits = std::iter::successors(Some(first), |wait| Some(wait * rate));
        let attempts = number("MaxAttempts")? as usize;
        // With full jitter a wait is half as long in the mean.
        let waited: f64 = waits.by_ref().take(attempts).map(|wait| wait.min(longest) / 2.0).sum();
        ensure!(
            waited >= needed,
            "{name} is given up after {waited} s of being throttled, where {needed} s are needed"
        );
    }
    Ok(())
}

#[test]
fn every_task_ends_in_time_is_tried_again_and_is_caught() -> Result<()> {
    let template = template()?;
    for (machine, definition) in machines()? {
        for state in states(&definition).into_iter().filter(|state| state.kind() == "Task") {
            let here = format!("{machine}: {}", state.name);
            let seconds = state.of["TimeoutSeconds"].as_u64();
            // How long a person is waited for is the manifest's to say.
            let said = state.of["TimeoutSeconds"].as_str().is_some_and(is_expression) && state.calls_back();
            ensure!(seconds.is_some() || said, "{here} has no TimeoutSeconds");
            let caught = |state: &Value| {
                items(&state["Catch"]).iter().any(|catcher| names(&catcher["ErrorEquals"]).contains("States.ALL"))
            };
            ensure!(
                caught(state.of) || state.within.is_some_and(caught) || state.name == UNCAUGHT,
                "{here} has no Catch for everything"
            );
            let retried: BTreeSet<&str> =
                state.list("Retry").iter().flat_map(|retrier| names(&retrier["ErrorEquals"])).collect();
            ensure!(!retried.is_empty(), "{here} has no Retry");
            for retrier in state.list("Retry") {
                ensure!(retrier["JitterStrategy"] == "FULL", "{here} is tried again by all executions at once");
                ensure!(
                    retrier["MaxAttempts"].is_u64() && retrier["IntervalSeconds"].is_u64(),
                    "{here}: say how often and when"
                );
            }
            let Some(function) = state.function() else { continue };
            // Lambda's own timeout comes first: it says so, and the pass is over when the next one starts.
            let own = property(&template, function, "Timeout")
                .and_then(Value::as_u64)
                .context("a function has no Timeout")?;
            ensure!(
                seconds.is_none_or(|seconds| seconds > own),
                "{here} gives up after {seconds:?} s, and {function} only after {own} s"
            );
            for failure in Failure::all() {
                ensure!(
                    failure.retryable() == retried.contains(failure.name()),
                    "{here}: whether {failure} is tried again is not what Failure::retryable says"
                );
            }
            // Of a callback the timeout is that nobody answered.
            let unanswered = |error: &str| state.calls_back() && error == "States.Timeout";
            let missing: Vec<_> =
                BROKEN_OFF.iter().filter(|error| !(retried.contains(*error) || unanswered(error))).collect();
            ensure!(missing.is_empty(), "{here} is not tried again after {missing:?}");
        }
    }
    Ok(())
}

#[test]
fn every_error_that_is_named_exists() -> Result<()> {
    for (machine, definition) in machines()? {
        for state in states(&definition) {
            let handlers = state.list("Retry").iter().chain(state.list("Catch"));
            for error in handlers.flat_map(|handler| names(&handler["ErrorEquals"])) {
                let known = Failure::from_name(error).is_some() || FOREIGN_ERRORS.contains(&error);
                ensure!(known, "{machine}: {} handles {error}, which nobody raises", state.name);
            }
            if state.kind() == "Fail" {
                let error = state.of["Error"].as_str().unwrap_or_default();
                ensure!(
                    is_expression(error) || Failure::from_name(error).is_some(),
                    "{machine}: {} raises {error}",
                    state.name
                );
            }
        }
    }
    Ok(())
}

#[test]
fn every_loop_has_an_end() -> Result<()> {
    for (machine, definition) in machines()? {
        let all = states(&definition);
        for wait in all.iter().filter(|state| state.kind() == "Wait") {
            for choice in all.iter().filter(|state| state.kind() == "Choice") {
                let rules = choice.list("Choices");
                let Some(index) = rules.iter().position(|rule| rule["Next"] == wait.name) else { continue };
                let bounded = rules[..index]
                    .iter()
                    .any(|rule| rule["Condition"].as_str().is_some_and(|text| text.contains(" > ")));
                ensure!(bounded, "{machine}: {} waits in {} without an end", choice.name, wait.name);
            }
        }
    }
    Ok(())
}

/// Pauses grow with a 120th of what was waited already, and a pass renews the claim: it must not run out in between.
#[test]
fn no_pause_outlasts_a_claim() -> Result<()> {
    for (machine, definition) in machines()? {
        for state in states(&definition) {
            for rule in state.list("Choices") {
                let Some((_, limit)) = rule["Condition"].as_str().and_then(|text| text.split_once("waited > ")) else {
                    continue;
                };
                let limit: i64 = limit.trim_end_matches(" %}").parse()?;
                ensure!(limit / 120 < LEASE.as_secs(), "{machine}: a pause of {} outlasts a claim", state.name);
            }
        }
    }
    Ok(())
}

/// A branch reads the variables around it and cannot assign them.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/workflow-variables.html>
#[test]
fn every_variable_is_assigned_where_it_can_be() -> Result<()> {
    for (machine, definition) in machines()? {
        let (mut outer, mut inner) = (BTreeSet::new(), BTreeSet::new());
        for state in states(&definition) {
            let rules = state.list("Choices").iter().chain(state.list("Catch")).chain([state.of]);
            let assigned = rules.filter_map(|rule| rule["Assign"].as_object()).flat_map(Map::keys);
            if state.within.is_some() { inner.extend(assigned) } else { outer.extend(assigned) }
        }
        ensure!(outer.is_disjoint(&inner), "{machine}: assigned in a branch and around it: {:?}", &outer & &inner);
        for state in states(&definition) {
            for variable in variables(state.of) {
                let known =
                    BOUND.contains(&variable.as_str()) || outer.contains(&variable) || inner.contains(&variable);
                ensure!(known, "{machine}: {} uses ${variable}, which is never assigned", state.name);
            }
        }
    }
    Ok(())
}

/// What stands on something goes before it, and each of these functions is asked for nothing but removal.
#[test]
fn a_teardown_removes_in_the_order_that_lets_everything_go() -> Result<()> {
    let machine = machines()?.remove("teardown").context("there is no machine teardown")?;
    let order = [
        ("RemoveServices", "DeployServiceFunction", "remove"),
        ("EmptyBuckets", "SyncFrontendFunction", "empty"),
        ("RemovePlatform", "ProvisionPlatformFunction", "remove"),
        ("RemoveNetwork", "ProvisionNetworkFunction", "remove"),
    ];
    let states = states(&machine);
    let find = |name: &str| states.iter().find(|state| state.name == name).with_context(|| format!("no state {name}"));
    let mut before = "Begun";
    for (name, function, action) in order {
        let state = find(name)?;
        ensure!(state.function() == Some(function) && state.of["Arguments"]["action"] == action, "{name}");
        let asked = find(before)?;
        let ways = asked.successors().filter(|next| *next == name).count();
        ensure!(ways > 0, "{name} does not come after {before}");
        before = state.of["Next"].as_str().context("a removal ends the machine")?;
    }
    ensure!(find(before)?.of["Default"] == "End", "the network is not the last that goes");
    ensure!(find("Begin")?.of["Arguments"]["action"] == "begin_teardown", "nobody asks whether it may");
    Ok(())
}

/// It has no run, and so no claim: no function could write with what it is given.
#[test]
fn a_comparison_asks_for_nothing_but_comparing() -> Result<()> {
    let machine = machines()?.remove("drift").context("there is no machine drift")?;
    for state in states(&machine).into_iter().filter(|state| state.function().is_some()) {
        ensure!(state.of["Arguments"]["action"] == "drift", "{} asks for something else", state.name);
        ensure!(state.of["Arguments"]["run"].is_null(), "{} hands over a claim", state.name);
    }
    Ok(())
}

/// All states of a machine, those of branches included.
fn states(definition: &Value) -> Vec<State<'_>> {
    fn collect<'m>(scope: &'m Value, within: Option<&'m Value>, found: &mut Vec<State<'m>>) {
        let Some(beside) = scope["States"].as_object() else { return };
        for (name, of) in beside {
            found.push(State { name, of, beside, within });
            for branch in items(&of["Branches"]) {
                collect(branch, Some(of), found);
            }
        }
    }
    let mut found = Vec::new();
    collect(definition, None, &mut found);
    found
}

fn is_expression(text: &str) -> bool {
    text.starts_with("{%") && text.ends_with("%}")
}

/// The variables that the expressions of a state read.
fn variables(state: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for text in strings(state).into_iter().filter(|text| is_expression(text)) {
        for part in text.split('$').skip(1) {
            found.insert(part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect());
        }
    }
    found
}

// ---- The template ----

/// Rights that no call of the SDK is named after.
const RIGHTS_BESIDE_CALLS: [(&str, &str); 22] = [
    ("start-release", "sqs:SendMessage"),     // Lambda hands over what failed for good
    ("record-release", "s3:ListBucket"),      // 404 instead of 403 for what is not there
    ("sync-frontend", "s3:ListBucket"),       // the same
    ("sync-frontend", "s3:GetObjectVersion"), // GetObject with a version
    ("invalidate-cache", "s3:ListBucket"),    // 404 instead of 403
    ("provision-network", "ec2:CreateTags"),  // tags at creation
    ("provision-network", "route53:AssociateVPCWithHostedZone"), // an endpoint that has the service's own name
    ("provision-platform", "cloudformation:TagResource"), // the same
    ("provision-platform", "cloudformation:ListStacks"), // DescribeStacks of all
    ("provision-platform", "cloudformation:DetectStackResourceDrift"), // DetectStackDrift, for each resource
    ("provision-platform", "ecs:TagResource"), // tags at creation
    ("provision-platform", "autoscaling:CreateOrUpdateTags"), // ECS does it for CreateCapacityProvider
    ("provision-platform", "iam:PassRole"),   // the stacks' roles
    ("run-migrations", "ecs:TagResource"),    // tags at creation
    ("run-migrations", "rds:AddTagsToResource"), // tags at creation
    ("run-migrations", "iam:PassRole"),       // the tasks' roles
    ("deploy-service", "ecs:TagResource"),    // tags at creation
    ("deploy-service", "iam:PassRole"),       // the tasks' roles
    ("deploy-service", "iam:CreateServiceLinkedRole"), // Application Auto Scaling's own
    ("deploy-service", "cloudwatch:DeleteAlarms"), // what Application Auto Scaling asks for
    ("deploy-service", "cloudwatch:DescribeAlarms"), // the same
    ("deploy-service", "cloudwatch:PutMetricAlarm"), // the same
];

#[test]
fn every_function_is_in_the_template() -> Result<()> {
    let template = template()?;
    let mut folders = BTreeSet::new();
    for name in ids(&template, "AWS::Serverless::Function") {
        let uri = property(&template, name, "CodeUri").and_then(Value::as_str).unwrap_or_default();
        let folder = uri.strip_prefix("../target/lambda/").and_then(|uri| uri.strip_suffix('/'));
        let folder = folder.with_context(|| format!("{name}: CodeUri is {uri}"))?;
        ensure!(name == function_id(folder), "{name} holds the code of {folder}");
        let deployed = property(&template, name, "FunctionName").context("a function has no name")?;
        ensure!(deployed["Fn::Sub"] == format!("${{AWS::StackName}}-{folder}"), "{name} is not named for {folder}");
        folders.insert(folder.to_owned());
    }
    ensure!(folders == functions()?, "folders and template differ: {:?}", &folders ^ &functions()?);
    Ok(())
}

#[test]
fn every_placeholder_of_a_machine_is_filled() -> Result<()> {
    let template = template()?;
    let mut deployed = BTreeSet::new();
    for name in ids(&template, "AWS::Serverless::StateMachine") {
        let uri = property(&template, name, "DefinitionUri").and_then(Value::as_str).unwrap_or_default();
        let machine =
            Path::new(uri).file_name().and_then(|file| file.to_str()).and_then(|file| file.strip_suffix(".asl.json"));
        let machine = machine.with_context(|| format!("{name}: DefinitionUri is {uri}"))?.to_owned();
        let definition =
            machines()?.remove(&machine).with_context(|| format!("{name}: there is no machine {machine}"))?;
        let wanted: BTreeSet<&str> = strings(&definition).into_iter().filter_map(placeholder).collect();
        let filled = property(&template, name, "DefinitionSubstitutions")
            .and_then(Value::as_object)
            .context("nothing is filled")?;
        let given: BTreeSet<&str> = filled.keys().map(String::as_str).collect();
        ensure!(wanted == given, "{machine}: wanted and given differ: {:?}", &wanted ^ &given);
        // A placeholder is named for what fills it: a function by its version, so that what began goes on with it. The role allows just
        // that function, in any version, as the executions that run call older ones.
        let mut invoked = BTreeSet::new();
        for (key, value) in filled {
            let expected = if key.ends_with("Function") { format!("{key}.Version") } else { key.clone() };
            ensure!(value["Ref"] == *expected, "{machine}: {key} is filled with {value}");
            if key.ends_with("Function") {
                invoked.insert(serde_json::json!({"Fn::Sub": format!("${{{key}.Arn}}:*")}).to_string());
            }
        }
        let statements = statements(&template, &format!("{name}Role"))?;
        let may: BTreeSet<String> = statements
            .iter()
            .filter(|statement| names(&statement["Action"]).contains("lambda:InvokeFunction"))
            .flat_map(|statement| items(&statement["Resource"]).iter().map(Value::to_string))
            .collect();
        ensure!(may == invoked, "{machine} may invoke {may:?} and invokes {invoked:?}");
        deployed.insert(machine);
    }
    let there: BTreeSet<String> = machines()?.into_keys().collect();
    ensure!(deployed == there, "files and template differ: {:?}", &deployed ^ &there);
    Ok(())
}

#[test]
fn every_setting_that_is_read_is_given_and_the_other_way_round() -> Result<()> {
    let template = template()?;
    let global = keys(&template["Globals"]["Function"]["Environment"]["Variables"]);
    let read = |crate_: &Path| -> Result<BTreeSet<String>> {
        // Lambda itself gives those that begin with AWS_.
        Ok(settings(&sources(&root().join(crate_))?).into_iter().filter(|name| !name.starts_with("AWS_")).collect())
    };
    let read_by_ecs = read(Path::new("crates/ecs"))?;
    let mut read_somewhere = read(Path::new("crates/aws"))?;
    ensure!(read_somewhere.is_subset(&global), "every function reads {:?}", &read_somewhere - &global);
    for folder in functions()? {
        let own = keys(&template["Resources"][&function_id(&folder)]["Properties"]["Environment"]["Variables"]);
        let given = &own | &global;
        let mut read = read(&Path::new("functions").join(&folder))?;
        if folder_uses_ecs(&folder)? {
            read.extend(read_by_ecs.iter().cloned());
        }
        ensure!(read.is_subset(&given), "{folder} reads {:?}, which the template does not give", &read - &given);
        ensure!(own.is_subset(&read), "{folder} is given {:?}, which it never reads", &own - &read);
        read_somewhere.extend(read);
    }
    ensure!(global.is_subset(&read_somewhere), "nobody reads {:?}", &global - &read_somewhere);
    Ok(())
}

#[test]
fn every_rule_may_call_its_function_and_give_up_to_the_dead_letters() -> Result<()> {
    let template = template()?;
    let admitted = &template["Resources"]["DeadLettersPolicy"]["Properties"]["PolicyDocument"]["Statement"][0];
    let admitted = items(&admitted["Condition"]["ArnEquals"]["aws:SourceArn"]);
    for rule in ids(&template, "AWS::Events::Rule") {
        let arn = serde_json::json!({"Fn::GetAtt": format!("{rule}.Arn")});
        ensure!(admitted.contains(&arn), "{rule} may not give up to the dead letters");
        let permission = format!("{rule}Permission");
        ensure!(property(&template, &permission, "SourceArn") == Some(&arn), "{rule} may not call its function");
        for target in items(&template["Resources"][rule]["Properties"]["Targets"]) {
            let called = property(&template, &permission, "FunctionName");
            ensure!(called == Some(&target["Arn"]), "{rule} calls {}, and may call another", target["Arn"]);
            ensure!(is_live(&target["Arn"]), "{rule} calls what may be half an update: {}", target["Arn"]);
            ensure!(target["DeadLetterConfig"]["Arn"].is_object(), "{rule} loses what it cannot deliver");
        }
    }
    // A rule's own retries are for deliveries. What the function fails at is Lambda's to try again: twice, and then it is given up too.
    let asked = property(&template, "StartReleaseFunction", "EventInvokeConfig").context("no EventInvokeConfig")?;
    ensure!(asked["MaximumRetryAttempts"] == 2, "{asked}");
    ensure!(asked["DestinationConfig"]["OnFailure"]["Destination"].is_object(), "{asked}");
    Ok(())
}

/// Whether this is a function's alias, which changes from one whole version to the next.
fn is_live(arn: &Value) -> bool {
    arn["Ref"].as_str().is_some_and(|name| name.ends_with("Function.Alias"))
}

/// Whoever is told of an alarm at night reads what to do, and finds it.
#[test]
fn every_alarm_reaches_people_and_has_its_entry_in_the_runbook() -> Result<()> {
    let template = template()?;
    let page = fs::read_to_string(root().join("docs/operating.md"))?;
    let mut alarms = BTreeSet::new();
    for id in ids(&template, "AWS::CloudWatch::Alarm") {
        let of = |name| property(&template, id, name).with_context(|| format!("{id} has no {name}"));
        let name = of("AlarmName")?["Fn::Sub"].as_str().unwrap_or_default();
        let name = name.strip_prefix("${AWS::StackName}-").with_context(|| format!("{id} is named {name}"))?;
        let says = of("AlarmDescription")?.as_str().unwrap_or_default();
        ensure!(says.ends_with(&format!(": docs/operating.md#{name}")), "{id} does not say where its entry is: {says}");
        ensure!(says.len() <= 1024, "CloudWatch takes 1,024 characters of a description, and {id} has {}", says.len());
        ensure!(!of("TreatMissingData")?.is_null(), "{id}");
        for actions in ["AlarmActions", "OKActions"] {
            let called = property(&template, "AlarmsPermission", "FunctionName");
            let [action] = items(of(actions)?) else { bail!("{id} has not one of {actions}") };
            ensure!(called == Some(action) && is_live(action), "{id} may not call {action}");
        }
        alarms.insert(name.to_owned());
    }
    let told = ["execution-stopped".to_owned()];
    alarms.extend(told);
    let (_, entries) = page.split_once("\n## Alarms\n").context("the page has no section Alarms")?;
    let (entries, _) = entries.split_once("\n## ").context("nothing comes after the section Alarms")?;
    let mut described = BTreeSet::new();
    for entry in entries.split("\n### ").skip(1) {
        let (name, text) = entry.split_once('\n').context("an entry is empty")?;
        for part in ["**It means**", "**To see it**", "**To do**"] {
            ensure!(text.contains(part), "the entry of {name} lacks {part}");
        }
        described.insert(name.to_owned());
    }
    ensure!(alarms == described, "alarms and entries differ: {:?}", &alarms ^ &described);
    // The metric of claims is made of one line of the sweep's log.
    let pattern = property(&template, "ClaimHeldFilter", "FilterPattern").and_then(Value::as_str).unwrap_or_default();
    let line = pattern.split('"').nth(1).context("the filter matches no line")?;
    let source = sources(&root().join("functions/start-release"))?;
    ensure!(source.contains(&format!("\"{line}\"")), "start-release never says: {line}");
    Ok(())
}

/// CI delivers, and sees how its release goes. What it delivers is deployed by nobody but Shipway.
#[test]
fn the_role_of_ci_pushes_uploads_and_looks_and_nothing_else() -> Result<()> {
    let template = yaml(&fs::read_to_string(root().join("bootstrap/github.yaml"))?)?;
    let place = "${App}/${Environment}";
    for statement in statements(&template, "Role")? {
        // Those behind a parameter are in the branch that grants.
        let statement = if statement["Fn::If"].is_array() { &statement["Fn::If"][1] } else { &statement };
        let resource = &statement["Resource"];
        for action in names(&statement["Action"]) {
            match action {
                "ecr:GetAuthorizationToken" => {}
                "ecr:BatchCheckLayerAvailability"
                | "ecr:BatchGetImage"
                | "ecr:CompleteLayerUpload"
                | "ecr:InitiateLayerUpload"
                | "ecr:PutImage"
                | "ecr:UploadLayerPart" => {
                    ensure!(
                        strings(resource).iter().any(|text| text.contains(":repository/$")),
                        "{action}: {resource}"
                    );
                    for bound in ["aws:RequestedRegion", "aws:ResourceAccount"] {
                        ensure!(statement["Condition"]["StringEquals"][bound]["Ref"].is_string(), "{action}: {bound}");
                    }
                }
                "s3:PutObject" => {
                    let text = resource["Fn::Sub"].as_str().unwrap_or_default();
                    let ends = [format!("/sites/{place}/*"), format!("/apps/{place}/shipway.yaml")];
                    ensure!(ends.iter().any(|end| text.ends_with(end)), "{action}: {text}");
                }
                "dynamodb:GetItem" | "dynamodb:Query" => {
                    let keys = &statement["Condition"]["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"];
                    ensure!(strings(keys) == [place], "{action}: {keys}");
                }
                "cloudformation:DescribeStacks" => ensure!(*resource != "*", "{action}"),
                other => bail!("CI may {other}"),
            }
        }
    }
    let trust = &template["Resources"]["Role"]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0];
    let equal = &trust["Condition"]["StringEquals"];
    ensure!(equal["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com", "{trust}");
    let subject = strings(&equal["token.actions.githubusercontent.com:sub"]);
    ensure!(subject.contains(&"repo:${GitHubRepository}:${Subject}"), "{trust}");
    for parameter in ["GitHubRepository", "GitHubSubject"] {
        let pattern = template["Parameters"][parameter]["AllowedPattern"].as_str().unwrap_or_default();
        ensure!(
            pattern.starts_with('^') && pattern.ends_with('$') && !pattern.contains(".*"),
            "{parameter}: {pattern}"
        );
    }
    Ok(())
}

#[test]
fn every_function_may_do_what_it_calls_and_nothing_else() -> Result<()> {
    let template = template()?;
    let shared = calls(&sources(&root().join("crates/ecs"))?);
    for folder in functions()? {
        let mut called = calls(&sources(&root().join("functions").join(&folder))?);
        // These crates are their own but for looking, which the command does too.
        let own = match folder.as_str() {
            "provision-network" => Some("crates/ec2"),
            "provision-platform" => Some("crates/stacks"),
            _ => None,
        };
        if fs::read_to_string(root().join("functions").join(&folder).join("Cargo.toml"))?.contains("shipway-notices") {
            called.extend(calls(&sources(&root().join("crates/notices"))?));
        }
        if let Some(own) = own {
            called.extend(calls(&sources(&root().join(own))?));
        }
        let role = function_id(&folder).replace("Function", "Role");
        let mut may = BTreeSet::new();
        for statement in statements(&template, &role)? {
            // What the store does to the table is one crate's for all functions; what CloudFormation reads is not its caller's call.
            if statement["Effect"] == "Allow"
                && statement["Sid"] != "UseTable"
                && statement["Sid"] != "WriteLog"
                && !only_through_cloudformation(&statement)
            {
                may.extend(names(&statement["Action"]).into_iter().map(str::to_owned));
            }
        }
        let beside: BTreeSet<String> =
            RIGHTS_BESIDE_CALLS.iter().filter(|(of, _)| *of == folder).map(|(_, right)| (*right).to_owned()).collect();
        ensure!(called.is_subset(&may), "{folder} calls {:?}, and its role does not allow it", &called - &may);
        ensure!(beside.is_subset(&may), "{folder} needs {:?}, and its role does not allow it", &beside - &may);
        for right in may.difference(&beside) {
            let used = called.contains(right) || (folder_uses_ecs(&folder)? && shared.contains(right));
            ensure!(used, "{folder} may {right}, and never does");
        }
    }
    Ok(())
}

/// A wildcard stands where AWS knows no resource, or where the name is not known beforehand. The page says which of them, why, and
/// by which conditions it is bound.
#[test]
fn every_wildcard_in_a_role_has_its_reason_told() -> Result<()> {
    let page = fs::read_to_string(root().join("docs/rights.md"))?;
    let (_, tables) = page.split_once("\n## ").context("the page has no tables of wildcards")?;
    let mut told = BTreeMap::new();
    for line in tables.lines().filter(|line| line.starts_with("| `") || line.starts_with("| each machine ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, whose, statement, what, why, ..] = cells.as_slice() else { bail!("{line}") };
        let what: BTreeSet<String> = what.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        ensure!(why.len() > 10, "{line}");
        ensure!(told.insert((*whose, *statement), (what, *why)).is_none(), "{whose} {statement} is there twice");
    }
    let (template, folders) = (template()?, functions()?);
    let mut there = BTreeSet::new();
    for role in ids(&template, "AWS::IAM::Role").into_iter().filter(|role| *role != "StackRole") {
        let function = folders.iter().find(|folder| function_id(folder).replace("Function", "Role") == role);
        let whose = function.map_or("each machine".to_owned(), |folder| format!("`{folder}`"));
        for statement in statements(&template, role)?.into_iter().filter(|one| one["Effect"] == "Allow") {
            let sid = statement["Sid"].as_str().with_context(|| format!("a statement of {role} has no Sid"))?;
            let actions = names(&statement["Action"]);
            let many = actions.iter().any(|action| action.contains('*'));
            ensure!(!many || only_through_cloudformation(&statement), "{role} {sid} has a wildcard in an action");
            // Any version of one function is no other function.
            let named = items(&statement["Resource"]).iter().map(shown);
            let wild = named.filter(|resource| resource.contains('*') && !resource.ends_with("Function.Arn}:*"));
            let wild: BTreeSet<String> = wild.collect();
            if wild.is_empty() {
                continue;
            }
            let wild = if wild.contains("*") { actions.into_iter().map(str::to_owned).collect() } else { wild };
            let found = told.iter().find(|((of, statement), _)| *of == whose && *statement == sid);
            let (key, (what, why)) = found.with_context(|| format!("docs/rights.md has no row | {whose} | {sid} |"))?;
            ensure!(*what == wild, "{whose} {sid}: told and granted differ: {:?}", what ^ &wild);
            for bound in statement["Condition"].as_object().into_iter().flat_map(Map::values).flat_map(keys) {
                ensure!(why.contains(&format!("`{bound}`")), "{whose} {sid} is bound by {bound}");
            }
            there.insert(*key);
        }
    }
    let stale: Vec<_> = told.keys().filter(|key| !there.contains(*key)).collect();
    ensure!(stale.is_empty(), "told, and no wildcard of a role: {stale:?}");
    Ok(())
}

/// A function that is not on the page was not thought about.
#[test]
fn what_each_function_could_do_at_worst_is_told() -> Result<()> {
    let page = fs::read_to_string(root().join("SECURITY.md"))?;
    for function in functions()? {
        let rows = page.lines().filter(|line| line.starts_with(&format!("| `{function}` |")));
        ensure!(rows.count() == 1, "SECURITY.md does not tell what {function} could do at worst");
    }
    Ok(())
}

/// What a function may ask of secrets, parameters and roles, though none of them is Shipway's to read or change: that they are
/// there, never what they say.
const LOOKS: [(&str, &str); 6] = [
    ("CheckReleaseRole", "iam:GetRole"),                   // whether tasks may take it
    ("CheckReleaseRole", "iam:SimulatePrincipalPolicy"),   // whether ECS may read a secret with it
    ("CheckReleaseRole", "secretsmanager:DescribeSecret"), // whether it is there, and has a value
    ("CheckReleaseRole", "ssm:DescribeParameters"),        // whether they are there
    ("StartReleaseRole", "secretsmanager:DescribeSecret"), // whether it was rotated
    ("StartReleaseRole", "ssm:DescribeParameters"),        // whether they were
];

#[test]
fn nobody_but_the_stacks_role_makes_roles_and_nobody_reads_a_secret() -> Result<()> {
    let template = template()?;
    for role in ids(&template, "AWS::IAM::Role") {
        let of_stacks = role == "StackRole";
        for statement in statements(&template, role)?.into_iter().filter(|one| one["Effect"] == "Allow") {
            for action in names(&statement["Action"]) {
                let (service, verb) = action.split_once(':').with_context(|| format!("{role} may do {action}"))?;
                ensure!(verb != "*", "{role} may do everything in {service}");
                let looks = LOOKS.contains(&(role, action));
                match service {
                    _ if looks => {}
                    // CloudFormation makes secrets, and puts a database's password into its URL; those that it made, nobody else's.
                    "secretsmanager" => {
                        let condition = &statement["Condition"]["Null"];
                        let ours = ["aws:RequestTag/shipway:app", "aws:ResourceTag/shipway:app"];
                        let ours = ours.iter().any(|tag| condition[*tag] == "false") || verb == "GetRandomPassword";
                        ensure!(of_stacks && ours, "{role} may {action}");
                    }
                    "ssm" => {
                        let public = statement["Resource"]["Fn::Sub"].as_str().unwrap_or_default();
                        ensure!(of_stacks && public.contains(":parameter/aws/service/"), "{role} may {action}");
                    }
                    "rds" => ensure!(of_stacks || !verb.starts_with("Delete"), "{role} may {action}"),
                    "dynamodb" => ensure!(!verb.starts_with("Delete") || verb == "DeleteItem", "{role} may {action}"),
                    _ => {}
                }
                match action {
                    "iam:PassRole" => {
                        let to = &statement["Condition"]["StringEquals"]["iam:PassedToService"];
                        ensure!(!names(to).contains("*") && !to.is_null(), "{role} may pass roles to any service");
                        ensure!(statement["Resource"] != "*", "{role} may pass any role");
                    }
                    "iam:CreateServiceLinkedRole" if !of_stacks => {
                        let of = &statement["Condition"]["StringEquals"]["iam:AWSServiceName"];
                        ensure!(of.is_string(), "{role} may make the role of any service");
                    }
                    _ if service == "iam" && only_through_cloudformation(&statement) => {
                        ensure!(verb.starts_with("Get") || verb.starts_with("List"), "{role} may {action}");
                    }
                    _ if service == "iam" && !looks => {
                        let makes = verb.contains("Role") || verb.contains("InstanceProfile");
                        ensure!(of_stacks && makes, "{role} may {action}");
                    }
                    _ => {}
                }
            }
        }
    }
    for policy in ids(&template, "AWS::IAM::ManagedPolicy") {
        for role in items(&template["Resources"][policy]["Properties"]["Roles"]) {
            ensure!(role["Ref"] == "StackRole", "{policy} is the policy of {role}, whose rights stand with the role");
        }
    }
    let makes = ["iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:PutRolePermissionsBoundary"];
    for statement in statements(&template, "StackRole")? {
        if names(&statement["Action"]).iter().any(|action| makes.contains(action)) {
            let bounded = &statement["Condition"]["ArnEquals"]["iam:PermissionsBoundary"]["Ref"];
            ensure!(bounded == "RoleBoundary", "the stacks' role makes roles without a boundary");
            let place = statement["Resource"]["Fn::Sub"].as_str().unwrap_or_default();
            ensure!(place.ends_with(":role/shipway/*"), "the stacks' role makes roles in {place}");
        }
    }
    Ok(())
}

/// What changes or removes something, by role: allowed of what has Shipway's tags, and of nothing else.
const OURS_ONLY: [(&str, &[&str]); 3] = [
    (
        "DeployServiceRole",
        &[
            "ecs:UpdateService service/main/hello-prod-api",
            "ecs:DeleteService service/main/hello-prod-api",
            "ecs:ContinueServiceDeployment service/main/hello-prod-api",
            "ecs:StopServiceDeployment service/main/hello-prod-api",
            "ecs:StopTask task/main/1",
            "ecs:DeleteTaskDefinitions task-definition/hello-prod-api:1",
        ],
    ),
    (
        "RunMigrationsRole",
        &[
            "ecs:RunTask task-definition/hello-prod-api-migration:1",
            "ecs:StopTask task/main/1",
            "rds:CreateDBSnapshot db:main",
            "rds:CreateDBClusterSnapshot cluster:main",
        ],
    ),
    (
        "StackRole",
        &[
            "ecr:DeleteRepository repository/hello",
            "ecr:PutLifecyclePolicy repository/hello",
            "ecs:DeleteCluster cluster/main",
            "ecs:PutClusterCapacityProviders cluster/main",
            "elasticloadbalancing:CreateListener loadbalancer/app/main/1",
            "elasticloadbalancing:DeleteLoadBalancer loadbalancer/app/main/1",
            "elasticloadbalancing:ModifyLoadBalancerAttributes loadbalancer/app/main/1",
            "elasticloadbalancing:DeleteTargetGroup targetgroup/api/1",
            "elasticloadbalancing:ModifyTargetGroup targetgroup/api/1",
            "rds:DeleteDBCluster cluster:main",
            "rds:DeleteDBClusterParameterGroup cluster-pg:main",
            "rds:DeleteDBInstance db:main",
            "rds:DeleteDBParameterGroup pg:main",
            "rds:DeleteDBSubnetGroup subgrp:main",
            "rds:ModifyDBCluster cluster:main",
            "rds:ModifyDBInstance db:main",
            "rds:ModifyDBParameterGroup pg:main",
            "elasticache:DeleteCacheSubnetGroup subnetgroup:main",
            "elasticache:DeleteReplicationGroup replicationgroup:main",
            "elasticache:ModifyReplicationGroup replicationgroup:main",
            "acm:DeleteCertificate certificate/1",
            "kms:ScheduleKeyDeletion key/1",
            "secretsmanager:DeleteSecret secret:main",
        ],
    ),
];

/// What makes something with tags, by role: not without them.
const WITH_TAGS_ONLY: [(&str, &[&str]); 3] = [
    (
        "DeployServiceRole",
        &[
            "ecs:CreateService service/main/hello-prod-api",
            "ecs:RegisterTaskDefinition task-definition/hello-prod-api:*",
        ],
    ),
    (
        "RunMigrationsRole",
        &["ecs:RegisterTaskDefinition task-definition/hello-prod-api:*", "rds:CreateDBSnapshot snapshot:shipway-hello"],
    ),
    (
        "StackRole",
        &[
            "ecr:CreateRepository repository/hello",
            "rds:CreateDBCluster cluster:main",
            "rds:CreateDBInstance db:main",
            "rds:CreateDBInstance pg:default.postgres17",
            "acm:RequestCertificate certificate/1",
            "secretsmanager:CreateSecret secret:main",
        ],
    ),
];

/// What such calls name beside what they are about, and what has no tags: open.
const OPEN: [(&str, &[&str]); 2] = [
    ("DeployServiceRole", &["ecs:StopServiceDeployment service-deployment/main/hello-prod-api/1"]),
    (
        "StackRole",
        &[
            "ecs:CreateCluster cluster/main",
            "elasticloadbalancing:CreateLoadBalancer loadbalancer/app/main/1",
            "elasticloadbalancing:CreateRule listener/app/main/1/2",
            "elasticloadbalancing:ModifyRule listener-rule/app/main/1/2/3",
            "rds:DeleteDBCluster cluster-snapshot:last",
            "rds:DeleteDBInstance snapshot:last",
            "rds:ModifyDBInstance pg:default.postgres17",
            "elasticache:CreateReplicationGroup parametergroup:default.valkey8",
            "elasticache:DeleteReplicationGroup snapshot:last",
        ],
    ),
];

#[test]
fn what_others_made_is_neither_changed_nor_removed() -> Result<()> {
    let template = template()?;
    let told =
        |tables: &[(&'static str, &'static [&'static str])], request: bool, resource: bool| -> Result<Vec<bool>> {
            let mut answers = Vec::new();
            for (role, calls) in tables {
                let statements = statements(&template, role)?;
                for call in *calls {
                    answers.push(allows(&statements, call, request, resource));
                }
            }
            Ok(answers)
        };
    // run-migrations' tasks are both of a task definition of ours and given tags of their own.
    ensure!(told(&OURS_ONLY, true, true)?.iter().all(|allowed| *allowed), "something of ours cannot be changed");
    ensure!(told(&WITH_TAGS_ONLY, true, false)?.iter().all(|allowed| *allowed), "something cannot be made");
    ensure!(told(&OPEN, false, false)?.iter().all(|allowed| *allowed), "something cannot be named");
    for (tables, request) in [(&OURS_ONLY, true), (&WITH_TAGS_ONLY, false)] {
        for (role, calls) in tables {
            let statements = statements(&template, role)?;
            let open: Vec<_> = calls.iter().filter(|call| allows(&statements, call, request, false)).collect();
            ensure!(open.is_empty(), "{role} may, whatever the tags say: {open:?}");
        }
    }
    Ok(())
}

/// Whatever Shipway's own stack is called, no stack of an environment is it, and none takes in what others made.
#[test]
fn the_stacks_of_environments_are_neither_shipways_own_nor_made_of_what_others_made() -> Result<()> {
    let template = template()?;
    let statements = statements(&template, "ProvisionPlatformRole")?;
    let with =
        |sid: &str| statements.iter().find(|one| one["Sid"] == sid).with_context(|| format!("there is no {sid}"));
    let (may, may_not) = (with("ChangeStacks")?, with("NotShipwaysOwn")?);
    ensure!(may_not["Effect"] == "Deny" && names(&may_not["Action"]) == names(&may["Action"]), "own: {may_not}");
    let own = may_not["Resource"]["Fn::Sub"].as_str().unwrap_or_default();
    ensure!(own.ends_with(":stack/${AWS::StackName}/*"), "{own} is not Shipway's own stack");
    let imports = with("NothingOfOthers")?;
    ensure!(imports["Effect"] == "Deny" && imports["Resource"] == "*", "imports: {imports}");
    let types = &imports["Condition"]["ForAnyValue:StringLike"]["cloudformation:ImportResourceTypes"];
    ensure!(types == "*", "only some types are not imported: {types}");
    Ok(())
}

/// Whether statements allow a call, as `service:Action resource`, where the request or the resource has Shipway's tags. Of conditions
/// it knows those that ask for them, and counts any other as not met.
fn allows(statements: &[Value], call: &str, request: bool, resource: bool) -> bool {
    let (action, named) = call.split_once(' ').unwrap_or((call, "*"));
    let (service, _) = action.split_once(':').unwrap_or_default();
    let arn = format!("arn:aws:{service}:eu-west-1:123456789012:{named}");
    let met = |condition: &Value| {
        let known = condition.as_object().into_iter().flatten();
        known.clone().all(|(operator, _)| operator == "Null")
            && known.flat_map(|(_, keys)| keys.as_object().into_iter().flatten()).all(|(key, absent)| {
                let has = match key.as_str() {
                    "aws:RequestTag/shipway:app" => request,
                    "aws:ResourceTag/shipway:app" => resource,
                    _ => false,
                };
                absent == "false" && has
            })
    };
    let covers = |one: &Value| {
        let pattern = one.get("Fn::Sub").unwrap_or(one).as_str().unwrap_or_default();
        let pattern = pattern.replace("${AWS::Partition}", "aws").replace("${AWS::AccountId}", "123456789012");
        matches(&pattern.replace("${AWS::Region}", "eu-west-1"), &arn)
    };
    statements.iter().any(|statement| {
        let resources = &statement["Resource"];
        let resources = resources.as_array().cloned().unwrap_or_else(|| vec![resources.clone()]);
        statement["Effect"] == "Allow"
            && names(&statement["Action"]).contains(action)
            && resources.iter().any(covers)
            && met(&statement["Condition"])
    })
}

/// Whether a text is of a pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text
            .strip_prefix(start)
            .is_some_and(|left| (0..=left.len()).any(|at| left.is_char_boundary(at) && matches(rest, &left[at..]))),
    }
}

/// Whether a statement allows what CloudFormation calls in the role's name, and nothing that the role calls itself.
fn only_through_cloudformation(statement: &Value) -> bool {
    statement["Condition"]["ForAnyValue:StringEquals"]["aws:CalledVia"] == "cloudformation.amazonaws.com"
}

fn function_id(folder: &str) -> String {
    let parts = folder.split('-').map(|part| part[..1].to_uppercase() + &part[1..]);
    parts.collect::<String>() + "Function"
}

fn folder_uses_ecs(folder: &str) -> Result<bool> {
    Ok(fs::read_to_string(root().join("functions").join(folder).join("Cargo.toml"))?.contains("shipway-ecs"))
}

/// A property of a resource, or the one that Globals give all functions.
fn property<'t>(template: &'t Value, id: &str, name: &str) -> Option<&'t Value> {
    let own = &template["Resources"][id]["Properties"][name];
    let value = if own.is_null() { &template["Globals"]["Function"][name] } else { own };
    (!value.is_null()).then_some(value)
}

/// The names of the settings that a source reads.
fn settings(source: &str) -> BTreeSet<String> {
    let after = |start: &'static str| {
        source.split(start).skip(1).filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned())
    };
    after("setting(\"").chain(after("env::var(\"")).collect()
}

/// The calls that a source names: every text like `"ecs:UpdateService"`.
fn calls(source: &str) -> BTreeSet<String> {
    let is_call = |text: &str| {
        text.split_once(':').is_some_and(|(service, verb)| {
            !service.is_empty()
                && service.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && verb.starts_with(|c: char| c.is_ascii_uppercase())
                && verb.bytes().all(|b| b.is_ascii_alphanumeric())
        })
    };
    source.lines().flat_map(|line| line.split('"')).filter(|text| is_call(text)).map(str::to_owned).collect()
}

/// The sources of a crate, without its tests and what is there for those of others.
fn sources(package: &Path) -> Result<String> {
    fn collect(folder: &Path, text: &mut String) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.file_stem().is_some_and(|stem| stem == "tests" || stem == "testing") {
                continue;
            }
            if path.is_dir() {
                collect(&path, text)?;
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let source = fs::read_to_string(&path)?;
                text.push_str(source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
            }
        }
        Ok(())
    }
    let mut text = String::new();
    collect(&package.join("src"), &mut text)?;
    Ok(text)
}

// ---- Reading them ----

fn root() -> PathBuf {
    shipway_tests::checkout()
}

fn functions() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("functions"))? {
        names.insert(entry?.file_name().into_string().ok().context("a folder has no name")?);
    }
    ensure!(!names.is_empty(), "there are no functions");
    Ok(names)
}

/// The machines, by the name of their file.
fn machines() -> Result<BTreeMap<String, Value>> {
    let mut machines = BTreeMap::new();
    for entry in fs::read_dir(root().join("state-machines"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".asl.json"));
        let name = name.with_context(|| format!("{} is no machine", path.display()))?;
        machines.insert(name.to_owned(), serde_json::from_str(&fs::read_to_string(&path)?)?);
    }
    ensure!(!machines.is_empty(), "there are no machines");
    Ok(machines)
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().into_iter().flat_map(Map::keys).cloned().collect()
}

/// All texts in a value.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::Object(entries) => entries.values().flat_map(strings).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// The name in `${Name}`.
fn placeholder(text: &str) -> Option<&str> {
    text.strip_prefix("${")?.strip_suffix('}')
}
