//! Shipway itself: its alarms, its upgrades, its table.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use local_cloud::{Config, LocalCloud};
use serde_json::{Value, json};
use shipway_domain::{
    name::Component,
    release::{Artifact, Outcome, ReleaseRecord},
};
use shipway_tests::{Place, Shipway, ask::Aws, checkout, site, tools};

use super::{
    Ear, RELEASED, RUNTIME, asked, expect, gated, good, manifest, page, provisioned_with, publish, push_event,
    roll_out, service, website, with_shipway, without_migration,
};

/// What the topic says of these, each with its subject, until so many came.
async fn letters(ear: &Ear<'_>, of: &str, count: usize) -> Result<Vec<(String, String)>> {
    let (mut found, started) = (Vec::new(), Instant::now());
    while found.len() < count && started.elapsed() < RELEASED {
        for note in ear.heard(1, RELEASED).await? {
            let [subject, text] = ["Subject", "Message"].map(|key| note[key].as_str().unwrap_or_default().to_owned());
            if subject.contains(of) {
                found.push((subject, text));
            }
        }
    }
    ensure!(found.len() == count, "{count} letters of {of} were expected: {found:?}");
    Ok(found)
}

#[test]
fn a_dead_letter_is_told_to_people_sent_again_as_the_page_says_and_told_to_be_gone() {
    with_shipway(async |shipway| {
        let aws = Aws::of(&shipway.cloud)?;
        let people = Ear::of_people(shipway, &aws, "alarmed-people")?;
        let queue = shipway.output("DeadLetters")?;
        let event = push_event(shipway, "nobodys", &format!("sha256:{}", "0".repeat(64)), "v1");
        aws.ask("sqs", "send_message", json!({"QueueUrl": queue, "MessageBody": event.to_string()}))?;
        let told = letters(&people, "dead-letters", 1).await?;
        let (subject, text) = &told[0];
        assert_eq!(subject, "Shipway: alarm shipway-dead-letters");
        ensure!(text.starts_with("shipway-dead-letters is on. Events were given up"), "{text}");
        ensure!(text.contains("docs/operating.md#dead-letters") && text.contains("Threshold Crossed"), "{text}");
        ensure!(text.ends_with("#alarmsV2:alarm/shipway-dead-letters"), "{text}");

        let received = aws.list("sqs", "receive_message", json!({"QueueUrl": queue}), "Messages")?;
        let letter = received.first().context("the dead letter is gone")?;
        let again = json!({"FunctionName": format!("{}:live", shipway.output("StartReleaseFunction")?), "Payload": letter["Body"]});
        let answer = aws.ask("lambda", "invoke", again)?;
        ensure!(answer.get("FunctionError").is_none(), "{answer}");
        ensure!(answer["Payload"].as_str().is_some_and(|text| text.contains("no service takes the tag")), "{answer}");
        aws.ask("sqs", "delete_message", json!({"QueueUrl": queue, "ReceiptHandle": letter["ReceiptHandle"]}))?;
        let told = letters(&people, "dead-letters", 1).await?;
        assert_eq!(told[0].0, "Shipway: shipway-dead-letters is off again");

        for alarm in ["sweep-missing", "claim-held"] {
            for (state, expected) in [("OK", None), ("ALARM", Some("alarm shipway-")), ("OK", Some("is off again"))] {
                let turn = json!({"AlarmName": format!("shipway-{alarm}"), "StateValue": state, "StateReason": "a test says so"});
                aws.ask("cloudwatch", "set_alarm_state", turn)?;
                if let Some(expected) = expected {
                    let told = letters(&people, alarm, 1).await?;
                    ensure!(told[0].0.contains(expected), "{told:?}");
                }
            }
        }
        Ok(())
    });
}

#[test]
fn an_execution_that_somebody_stops_is_told_once_and_run_again_it_ends_what_was_left_open() {
    with_shipway(async |shipway| {
        let text = without_migration(&manifest("stopped"));
        let place = provisioned_with(shipway, "stopped", &text).await?;
        let aws = Aws::of(&shipway.cloud)?;
        let people = Ear::of_people(shipway, &aws, "stopped-people")?;
        // It never gets healthy, so it is under way until somebody stops it.
        let image = good("1").await?.env("HEALTH_STATUS", "503");
        let artifact = shipway.push("stopped-api", "v1", &image).await?;
        let open = under_way(shipway, &place, &service(), &artifact).await?;
        let machine = shipway.machine(&service())?.replace(":stateMachine:", ":execution:");
        let execution = format!("{machine}:{}", open.execution);
        aws.ask("stepfunctions", "stop_execution", json!({"executionArn": execution}))?;
        let told = letters(&people, "stopped/dev rollout", 1).await?;
        let (subject, text) = &told[0];
        assert_eq!(subject, "Shipway: stopped/dev rollout was aborted");
        ensure!(text.contains(open.release.as_str()), "{text}");
        ensure!(text.contains("docs/operating.md#execution-stopped") && text.ends_with(&execution), "{text}");

        let next = shipway.push("stopped-api", "v2", &good("2").await?).await?;
        let live = shipway.ended(&place, &service(), &next, RELEASED).await?;
        ensure!(live.outcome.is_some_and(|outcome| outcome.is_live()), "{}", shipway.story(&place).await?);
        let state = shipway.store.component(&place.app, &place.environment, &service()).await?;
        assert_eq!(state.claim, None, "nobody holds it any more");
        Ok(())
    });
}

/// The release of this artifact, once it has taken a step.
async fn under_way(
    shipway: &Shipway,
    place: &Place,
    component: &Component,
    artifact: &Artifact,
) -> Result<ReleaseRecord> {
    let started = Instant::now();
    loop {
        let releases = shipway.releases_of(place, component, artifact).await?;
        if let Some(release) = releases.into_iter().find(|release| !release.steps.is_empty()) {
            ensure!(release.outcome.is_none(), "it ended: {}", shipway.story(place).await?);
            return Ok(release);
        }
        ensure!(started.elapsed() < RELEASED, "{}", shipway.story(place).await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What is deployed, with another program for record-release.
fn with_recorder(program: &str) -> Result<tempfile::TempDir> {
    fn link(from: &Path, to: &Path) -> Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let to = to.join(entry.file_name());
            if entry.file_type()?.is_dir() { link(&entry.path(), &to)? } else { fs::hard_link(entry.path(), to)? }
        }
        Ok(())
    }
    let checkout = checkout();
    let copy = tempfile::tempdir_in(checkout.join("target"))?;
    for folder in ["bootstrap", "state-machines"] {
        link(&checkout.join(folder), &copy.path().join(folder))?;
    }
    fs::hard_link(checkout.join("samconfig.toml"), copy.path().join("samconfig.toml"))?;
    for entry in fs::read_dir(checkout.join("target/lambda"))? {
        let entry = entry?;
        if entry.path().join("bootstrap").exists() {
            link(&entry.path(), &copy.path().join("target/lambda").join(entry.file_name()))?;
        }
    }
    let recorder = copy.path().join("target/lambda/record-release/bootstrap");
    fs::remove_file(&recorder)?;
    fs::write(&recorder, program)?;
    fs::set_permissions(&recorder, Permissions::from_mode(0o755))?;
    Ok(copy)
}

/// Which versions of record-release an execution has called, each once.
fn recorders(aws: &Aws, execution: &str) -> Result<BTreeSet<String>> {
    let events = aws.list("stepfunctions", "get_execution_history", json!({"executionArn": execution}), "events")?;
    let called = events.iter().filter_map(|event| event["taskScheduledEventDetails"]["resource"].as_str());
    Ok(called
        .filter_map(|arn| arn.split_once("shipway-record-release:"))
        .map(|(_, version)| version.to_owned())
        .collect())
}

/// Waits until an execution has ended; answers how.
async fn status(aws: &Aws, execution: &str) -> Result<Value> {
    let started = Instant::now();
    loop {
        // What is wanted is written down before its execution is started.
        let described = match aws.ask("stepfunctions", "describe_execution", json!({"executionArn": execution})) {
            Err(error) if error.to_string().contains("ExecutionDoesNotExist") => json!({"status": "RUNNING"}),
            described => described?,
        };
        if described["status"] != "RUNNING" {
            return Ok(described["status"].clone());
        }
        ensure!(started.elapsed() < RELEASED, "it runs on: {described}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// In a cloud of its own, as all of Shipway is deployed anew and its table emptied.
#[test]
fn an_execution_that_waits_ends_on_the_version_it_began_with_and_a_restored_table_is_the_one_before() {
    let tested: Result<()> = RUNTIME.block_on(async {
        let shipway = Shipway::install(LocalCloud::start(Config::new(tools()?)).await?).await?;
        let aws = Aws::of(&shipway.cloud)?;
        let place = Place::dev("upgraded")?;
        let platform = shipway.upload_manifest(&place, &gated("upgraded", "2h")?).await?;
        shipway.ended(&place, &Component::Platform, &platform, RELEASED).await?;
        let first = shipway.push("upgraded-api", "v1", &good("1").await?).await?;
        let (release, waits) = asked(&shipway, &place, &first).await?;
        let executions = shipway.machine(&service())?.replace(":stateMachine:", ":execution:");
        let waiting = format!("{executions}:{}", release.execution);

        // An upgrade that could record nothing: had anything of the old execution called it, it would not have ended.
        let broken = with_recorder("#!/bin/sh\nexit 1\n")?;
        shipway.upgrade(broken.path()).await?;
        let answer = json!({"taskToken": waits.token, "output": r#"{"by": "Ann"}"#});
        aws.ask("stepfunctions", "send_task_success", answer)?;
        let ended = shipway.ended(&place, &service(), &first, RELEASED).await?;
        expect(&ended, Outcome::Succeeded, &shipway, &place).await?;
        assert_eq!(recorders(&aws, &waiting)?, BTreeSet::from(["1".to_owned()]));

        let second = shipway.push("upgraded-api", "v2", &good("2").await?).await?;
        let started = Instant::now();
        let wanted = loop {
            let state = shipway.store.component(&place.app, &place.environment, &service()).await?;
            match state.desired {
                Some(wanted) if wanted.artifact == second => break wanted,
                _ => ensure!(started.elapsed() < RELEASED, "the push is never taken in"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let new = format!("{executions}:{}", wanted.execution);
        assert_eq!(status(&aws, &new).await?, "FAILED", "it has the new version, which does nothing");
        assert_eq!(recorders(&aws, &new)?, BTreeSet::from(["2".to_owned()]));

        // Back to what it was: the older code, published once more.
        shipway.upgrade(&checkout()).await?;
        let again = shipway.start(&place, &service(), &second).await?;
        let (_, waits) = asked(&shipway, &place, &second).await?;
        assert_eq!(recorders(&aws, &again)?, BTreeSet::from(["3".to_owned()]));
        let answer = json!({"taskToken": waits.token, "error": "Rejected.Approval", "cause": "no"});
        aws.ask("stepfunctions", "send_task_failure", answer)?;
        shipway.ended(&place, &service(), &second, RELEASED).await?;
        let published = json!({"FunctionName": "shipway-record-release"});
        assert_eq!(aws.list("lambda", "list_versions_by_function", published, "Versions")?.len(), 4);
        let steady = json!({"FunctionName": "shipway-deploy-service"});
        assert_eq!(aws.list("lambda", "list_versions_by_function", steady, "Versions")?.len(), 2, "it never changed");

        restored(&shipway, &aws).await
    });
    if let Err(error) = tested {
        panic!("{error:?}");
    }
}

/// The way back of the page, with its own script.
async fn restored(shipway: &Shipway, aws: &Aws) -> Result<()> {
    let table = shipway.output("Table")?;
    let items = || -> Result<BTreeSet<String>> {
        let items = aws.list("dynamodb", "scan", json!({"TableName": table}), "Items")?;
        Ok(items.iter().map(Value::to_string).collect())
    };
    let before = items()?;
    ensure!(before.len() > 5, "{before:?}");
    let restore =
        json!({"SourceTableName": table, "TargetTableName": "shipway-restored", "UseLatestRestorableTime": true});
    aws.ask("dynamodb", "restore_table_to_point_in_time", restore)?;

    let keys = json!({"TableName": table, "ProjectionExpression": "pk, sk"});
    for (n, key) in aws.list("dynamodb", "scan", keys, "Items")?.into_iter().enumerate() {
        match n % 3 {
            0 => aws.ask("dynamodb", "delete_item", json!({"TableName": table, "Key": key}))?,
            1 => aws.ask("dynamodb", "put_item", json!({"TableName": table, "Item": key}))?,
            _ => continue,
        };
    }
    let stranger = json!({"pk": {"S": "upgraded/dev"}, "sk": {"S": "component#service/stranger"}});
    aws.ask("dynamodb", "put_item", json!({"TableName": table, "Item": stranger}))?;
    ensure!(items()? != before, "nothing was damaged");

    let page = include_str!("../../../docs/operating.md");
    let script = page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).context("no script")?;
    let script: String = script.lines().map(|line| format!("{}\n", line.strip_prefix("   ").unwrap_or(line))).collect();
    let mut python = std::process::Command::new(tools()?.join("bin/python"));
    shipway.cloud.use_in(&mut python);
    let output = python.args(["-c", &script, "shipway-restored", table]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(items()? == before, "it is another table: {}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

#[test]
fn where_the_table_forgot_an_environment_its_manifest_takes_over_what_stands_and_makes_nothing_twice() {
    with_shipway(async |shipway| {
        let text = without_migration(&manifest("forgotten"));
        let place = provisioned_with(shipway, "forgotten", &text).await?;
        let (image, _) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        publish(shipway, &place, "one", site::hello("1", 8)?, Outcome::Succeeded).await?;
        for component in [Component::Platform, service(), website()] {
            shipway.idle(&place, &component, RELEASED).await?;
        }
        let aws = Aws::of(&shipway.cloud)?;
        let tagged = json!({"Filters": [{"Name": "tag:shipway:app", "Values": ["forgotten"]}]});
        let there = || -> Result<Vec<String>> {
            let mut found = Vec::new();
            for (operation, key, id) in [
                ("describe_vpcs", "Vpcs", "VpcId"),
                ("describe_subnets", "Subnets", "SubnetId"),
                ("describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
                ("describe_route_tables", "RouteTables", "RouteTableId"),
                ("describe_security_groups", "SecurityGroups", "GroupId"),
            ] {
                let all = aws.list("ec2", operation, tagged.clone(), key)?;
                found.extend(all.iter().filter_map(|one| one[id].as_str()).map(str::to_owned));
            }
            let stacks = aws.list("cloudformation", "describe_stacks", json!({}), "Stacks")?;
            let stacks = stacks.iter().filter_map(|stack| stack["StackId"].as_str());
            found.extend(stacks.filter(|id| id.contains("forgotten")).map(str::to_owned));
            found.sort();
            Ok(found)
        };
        let before = there()?;
        ensure!(before.len() > 8, "{before:?}");

        let table = shipway.output("Table")?;
        let mut forgotten = aws.list("dynamodb", "scan", json!({"TableName": table}), "Items")?;
        let text_of = |item: &Value, key: &str| item[key]["S"].as_str().unwrap_or_default().to_owned();
        forgotten.retain(|item| format!("{} {}", text_of(item, "pk"), text_of(item, "sk")).contains("forgotten"));
        forgotten.sort_by_key(|item| (text_of(item, "pk"), text_of(item, "sk")));
        // What this version writes, for later ones to read: tests/fixtures/items.
        if let Some(file) = std::env::var_os("SHIPWAY_RECORD_ITEMS") {
            fs::write(file, format!("{:#}\n", Value::Array(forgotten.clone())))?;
        }
        for item in &forgotten {
            let key = json!({"pk": item["pk"], "sk": item["sk"]});
            aws.ask("dynamodb", "delete_item", json!({"TableName": table, "Key": key}))?;
        }
        let forgotten = forgotten.len();
        ensure!(
            forgotten >= 5 && shipway.store.releases(&place.app, &place.environment).await?.is_empty(),
            "{forgotten}"
        );

        let again = shipway.upload_manifest(&place, &text).await?;
        let platform = shipway.ended(&place, &Component::Platform, &again, RELEASED).await?;
        ensure!(platform.outcome.is_some_and(Outcome::is_live), "{}", shipway.story(&place).await?);
        let rolled_out = shipway.ended(&place, &service(), &image, RELEASED).await?;
        ensure!(rolled_out.outcome.is_some_and(Outcome::is_live), "{}", shipway.story(&place).await?);
        assert_eq!(there()?, before, "something was made anew");
        shipway.version_served(&place, "1", RELEASED).await?;
        let (status, text) = page(shipway, &place, "/").await?;
        ensure!(status == 200 && text.contains("Version 1."), "{status} {text}");
        Ok(())
    });
}
