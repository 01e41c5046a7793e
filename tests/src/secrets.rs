//! Looking for the values of secrets where none may be: in whatever Shipway writes down, tells or logs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{Shipway, ask::Aws, ear::Ear};

/// Shorter values are found by chance.
const SHORTEST: usize = 8;

/// A setting: no secret, and still nobody's but the service's that has it.
const SETTING: &str = "a setting that nobody else looks for";

/// Where a setting may be that is no secret: it stands in the manifest, in what was read of it, and where a task gets it.
const OF_SETTINGS: [&str; 3] = [MANIFEST, RECORD, TASK_DEFINITION];

/// From now on what people and programs are told is kept, so that it can be looked at.
///
/// # Errors
/// AWS's own.
pub fn listen(shipway: &Shipway, aws: &Aws) -> Result<()> {
    people(shipway, aws).and(programs(aws)).map(drop)
}

fn people<'a>(shipway: &Shipway, aws: &'a Aws) -> Result<Ear<'a>> {
    Ear::of_people(shipway, aws, "overheard-notices")
}

fn programs(aws: &Aws) -> Result<Ear<'_>> {
    Ear::of_programs(aws, "overheard-events", None)
}

/// The manifest with one setting more wherever services are given some.
#[must_use]
pub fn with_a_setting(manifest: &str) -> String {
    let mut text = String::new();
    for line in manifest.lines() {
        text.push_str(line);
        text.push('\n');
        if line.trim() == "env:" {
            let indent = line.len() - line.trim_start().len();
            text.push_str(&format!("{:indent$}  CANARY: {SETTING}\n", ""));
        }
    }
    text
}

/// No value of any secret, or of any parameter that is one, is in a log, a record, an execution's input, output or history, a
/// stack, a task definition, a function's configuration, a letter that nobody took, an object of the intake bucket, an event, or a
/// notice; and no value of a setting is but where it must be ([`with_a_setting`]). Begins with [`listen`].
///
/// # Errors
/// One is, or there was nothing to look for, or nothing to look at.
pub fn are_told_nowhere(shipway: &Shipway, aws: &Aws) -> Result<()> {
    let secrets = values(aws)?;
    ensure!(!secrets.is_empty(), "there are no secrets to look for");
    let setting = BTreeMap::from([("a setting".to_owned(), SETTING.to_owned())]);
    let (mut looked, mut set) = (BTreeMap::new(), BTreeSet::new());
    for (place, texts) in places(shipway, aws)? {
        for text in &texts {
            set.extend(told(text, &setting).map(|_| place));
            let elsewhere = told(text, &setting).filter(|_| !OF_SETTINGS.contains(&place));
            if let Some(name) = told(text, &secrets).or(elsewhere) {
                // The text is not shown: this is a log too.
                anyhow::bail!("the value of {name} is in {place}");
            }
        }
        *looked.entry(place).or_insert(0) += texts.len();
    }
    let empty: Vec<_> = looked.iter().filter(|(place, count)| **count == 0 && **place != LETTERS).collect();
    ensure!(empty.is_empty(), "nothing was looked at in {empty:?}");
    ensure!(
        set.contains(MANIFEST) == set.contains(TASK_DEFINITION),
        "the setting that was looked for is in {set:?} alone"
    );
    // Shown with `--nocapture`.
    eprintln!("none of {} secrets is in {looked:?}", secrets.len());
    Ok(())
}

const LETTERS: &str = "a letter that nobody took";
const MANIFEST: &str = "an object of the intake bucket";
const RECORD: &str = "a record";
const TASK_DEFINITION: &str = "a task definition";

/// The secret that a text tells.
fn told<'a>(text: &str, secrets: &'a BTreeMap<String, String>) -> Option<&'a str> {
    secrets.iter().find(|(_, value)| text.contains(value.as_str())).map(|(name, _)| name.as_str())
}

/// What may be told nowhere, by its name: passwords, and whatever else is a secret and no part of an address.
fn values(aws: &Aws) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for secret in aws.list("secretsmanager", "list_secrets", json!({}), "SecretList")? {
        let Some(name) = secret["Name"].as_str() else { continue };
        // One that was made and given no value has none to tell.
        let Ok(kept) = aws.ask("secretsmanager", "get_secret_value", json!({"SecretId": name})) else { continue };
        let text = kept["SecretString"].as_str().unwrap_or_default();
        found.extend(secret_parts(text).into_iter().enumerate().map(|(at, part)| (format!("{name} ({at})"), part)));
    }
    for parameter in aws.list("ssm", "describe_parameters", json!({}), "Parameters")? {
        if parameter["Type"] == "SecureString" {
            let asked = json!({"Name": parameter["Name"], "WithDecryption": true});
            let kept = aws.ask("ssm", "get_parameter", asked)?;
            let value = kept["Parameter"]["Value"].as_str().unwrap_or_default();
            found.insert(parameter["Name"].to_string(), value.to_owned());
        }
    }
    found.retain(|_, value| value.len() >= SHORTEST);
    Ok(found)
}

/// The parts of a secret that are secret: its password where it names one, as the host beside it is none.
fn secret_parts(text: &str) -> Vec<String> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(parts)) => {
            let texts = |parts: &serde_json::Map<String, Value>| -> Vec<String> {
                parts.values().filter_map(Value::as_str).map(str::to_owned).collect()
            };
            parts.get("password").and_then(Value::as_str).map_or_else(|| texts(&parts), |one| vec![one.to_owned()])
        }
        _ => vec![text.to_owned()].into_iter().chain(password_in(text)).collect(),
    }
}

/// The password of an address that has one.
fn password_in(address: &str) -> Option<String> {
    let (_, rest) = address.split_once("://")?;
    let (who, _) = rest.split_once('@')?;
    Some(who.split_once(':')?.1.to_owned())
}

/// What there is to read, by where it is.
fn places(shipway: &Shipway, aws: &Aws) -> Result<Vec<(&'static str, Vec<String>)>> {
    let mut places = Vec::new();
    let text = |items: Vec<Value>| -> Vec<String> { items.iter().map(Value::to_string).collect() };
    let each = |items: &[Value], key: &str| -> Vec<String> {
        items.iter().filter_map(|item| item[key].as_str().or(item.as_str())).map(str::to_owned).collect()
    };

    let groups = aws.list("logs", "describe_log_groups", json!({}), "logGroups")?;
    let mut logged = Vec::new();
    for group in each(&groups, "logGroupName") {
        logged.extend(aws.list("logs", "filter_log_events", json!({"logGroupName": group}), "events")?);
    }
    places.push(("a log", text(logged)));
    places.push(("the local cloud's own log", vec![shipway.cloud.log_tail()]));

    let table = shipway.output("Table")?;
    let items = aws.list("dynamodb", "scan", json!({"TableName": table}), "Items")?;
    let (releases, records) = items.into_iter().partition(|item| item["sk"].to_string().contains("release#"));
    places.push((RECORD, text(records)));
    places.push(("a release's story", text(releases)));

    let (mut executions, mut histories) = (Vec::new(), Vec::new());
    let machines = aws.list("stepfunctions", "list_state_machines", json!({}), "stateMachines")?;
    for machine in each(&machines, "stateMachineArn") {
        let listed = aws.list("stepfunctions", "list_executions", json!({"stateMachineArn": machine}), "executions")?;
        for execution in each(&listed, "executionArn") {
            executions.push(aws.ask("stepfunctions", "describe_execution", json!({"executionArn": execution}))?);
            let history = json!({"executionArn": execution, "includeExecutionData": true});
            histories.extend(aws.list("stepfunctions", "get_execution_history", history, "events")?);
        }
    }
    places.push(("an execution", text(executions)));
    places.push(("an execution's history", text(histories)));

    let (mut stacks, mut templates) = (aws.list("cloudformation", "describe_stacks", json!({}), "Stacks")?, Vec::new());
    for stack in each(&stacks.clone(), "StackName") {
        let named = json!({"StackName": stack});
        templates.push(aws.ask("cloudformation", "get_template", named.clone())?);
        stacks.extend(aws.list("cloudformation", "describe_stack_events", named, "StackEvents")?);
    }
    places.push(("a stack, or an event of it", text(stacks)));
    places.push(("a template", text(templates)));

    let mut definitions = Vec::new();
    let listed = aws.list("ecs", "list_task_definitions", json!({}), "taskDefinitionArns")?;
    for definition in each(&listed, "") {
        definitions.push(aws.ask("ecs", "describe_task_definition", json!({"taskDefinition": definition}))?);
    }
    places.push((TASK_DEFINITION, text(definitions)));
    places.push(("a function", text(aws.list("lambda", "list_functions", json!({}), "Functions")?)));

    let bucket = shipway.output("IntakeBucket")?;
    let mut objects = Vec::new();
    let listed = aws.list("s3", "list_object_versions", json!({"Bucket": bucket}), "Versions")?;
    for (key, version) in listed.iter().filter_map(|one| Some((one["Key"].as_str()?, one["VersionId"].as_str()?))) {
        let read = json!({"Bucket": bucket, "Key": key, "VersionId": version});
        objects.push(aws.ask("s3", "get_object", read)?.to_string());
    }
    places.push((MANIFEST, objects));

    places.push(("a notice", text(people(shipway, aws)?.hears()?)));
    places.push(("an event", text(programs(aws)?.hears()?)));

    let letters =
        json!({"QueueUrl": shipway.output("DeadLetters")?, "MaxNumberOfMessages": 10, "VisibilityTimeout": 0});
    places.push((LETTERS, text(aws.list("sqs", "receive_message", letters, "Messages")?)));
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_the_middle_of_a_text_and_of_a_database_only_the_password_is_one() {
        let secrets = BTreeMap::from([("key".to_owned(), "0123456789".to_owned())]);
        assert_eq!(told("postgres://app:0123456789@host/db", &secrets), Some("key"));
        assert_eq!(told("postgres://app:012345678@host/db", &secrets), None);
        assert_eq!(secret_parts(r#"{"password":"p","host":"h"}"#), ["p"]);
        assert_eq!(secret_parts(r#"{"A":"a","B":"b"}"#), ["a", "b"]);
        assert_eq!(secret_parts("plain"), ["plain"]);
        assert_eq!(secret_parts("postgresql://user:p4ss@host/db"), ["postgresql://user:p4ss@host/db", "p4ss"]);
    }
}
