//! Inputs that a person types into the console, or changes there: each execution ends by a name and says what to do, and nothing
//! changes but the story of the release that was asked for, if it was one.

use shipway_domain::failure::Failure;

use super::*;

/// Nobody reads more.
const LONGEST: usize = 2500;

/// An execution's error where its release was refused and not its input.
const REJECTED: &str = "rejected";

const ABSENT: &str = "sha256:7f5b2640fe6fb4f46592dfd3410c4a7953b3d9f0a2f3f8a6f0c2a1f1d1c7a1b2";

fn release(component: &str, artifact: Value) -> Value {
    json!({"app": "tampered", "environment": "dev", "component": component, "artifact": artifact})
}

fn image(repository: &str) -> Value {
    json!({"image": {"repository": repository, "digest": ABSENT}})
}

fn object(key: &str) -> Value {
    json!({"object": {"key": key, "version": "v"}})
}

/// An input with another value at this place.
fn with(input: &Value, at: &str, value: Value) -> Value {
    let mut input = input.clone();
    *input.pointer_mut(at).unwrap_or_else(|| panic!("{at}")) = value;
    input
}

/// What was tampered with, of the input of any machine.
fn of_any(input: &Value) -> Vec<Value> {
    let mut inputs =
        vec![json!({}), json!([]), json!([input]), json!("input"), json!(7), json!(null), json!({"input": input})];
    for (key, value) in input.as_object().unwrap() {
        let mut without = input.clone();
        without.as_object_mut().unwrap().remove(key);
        inputs.push(without);
        let at = format!("/{key}");
        for other in [json!(null), json!(7), json!([value]), json!({"of": value}), json!("")] {
            inputs.push(with(input, &at, other));
        }
    }
    let texts =
        ["x".repeat(200_000), "../../etc/passwd".to_owned(), "a\nb".to_owned(), "ü".to_owned(), "$(reboot)".to_owned()];
    inputs.extend(texts.into_iter().map(|text| with(input, "/app", json!(text))));
    inputs.push(with(input, "/environment", json!("{% $states.input %}")));
    inputs
}

/// What was tampered with, of the input of a release.
fn of_a_release(input: &Value) -> Vec<Value> {
    let mut inputs = of_any(input);
    let more = |key: &str, value: Value| {
        let mut input = input.clone();
        input[key] = value;
        input
    };
    inputs.extend([
        more("force", json!(true)),
        more("repair", json!("yes")),
        with(input, "/component", json!("lambda/x")),
        with(input, "/artifact", json!("latest")),
        with(input, "/artifact", json!({"image": {"repository": "tampered-api", "tag": "latest"}})),
        with(input, "/artifact", json!({"image": {"repository": "tampered-api", "digest": "latest"}})),
        with(input, "/artifact", object("../../secrets")),
        with(input, "/artifact", object("apps/other/prod/shipway.yaml")),
        with(input, "/artifact", object("sites/other/prod/web/a.zip")),
        with(input, "/artifact", object(&"x".repeat(2000))),
        with(input, "/artifact", object("sites/tampered/dev/web/\u{0}.zip")),
        with(input, "/artifact", json!({"object": {"key": "sites/tampered/dev/web/a.zip", "version": "v\n"}})),
        with(input, "/artifact", image("others-api")),
        with(input, "/artifact", json!("nothing")),
        with(input, "/environment", json!("nowhere")),
    ]);
    inputs
}

/// What is there of the app in the table, in ECS and in CloudFormation.
async fn standing(shipway: &Shipway, aws: &Aws) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let table = json!({"TableName": shipway.output("Table")?});
    for item in aws.list("dynamodb", "scan", table, "Items")? {
        let [pk, sk] = ["pk", "sk"].map(|key| item[key]["S"].as_str().unwrap_or_default());
        let ours = [pk, sk].iter().any(|key| key.contains("tampered")) || pk.ends_with("/nowhere");
        // What was refused has its story.
        if ours && !sk.starts_with("release#") {
            found.insert(item.to_string());
        }
    }
    for stack in aws.list("cloudformation", "describe_stacks", json!({}), "Stacks")? {
        if stack["StackName"].as_str().is_some_and(|name| name.contains("tampered")) {
            found.insert(format!("{} {} {}", stack["StackName"], stack["StackStatus"], stack["LastUpdatedTime"]));
        }
    }
    let asked = json!({"cluster": "tampered-dev", "services": ["tampered-dev-api"]});
    for service in aws.list("ecs", "describe_services", asked, "services")? {
        let deployments = service["deployments"].as_array().into_iter().flatten();
        found.extend(deployments.map(|deployment| format!("{} {}", deployment["id"], deployment["taskDefinition"])));
    }
    ensure!(found.len() > 5, "nothing stands: {found:?}");
    Ok(found)
}

#[test]
fn an_input_that_was_tampered_with_ends_by_name_says_what_to_do_and_changes_nothing() {
    with_shipway(async |shipway| {
        let place = provisioned_with(shipway, "tampered", &without_migration(&manifest("tampered"))).await?;
        roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        for component in [Component::Platform, service()] {
            shipway.idle(&place, &component, RELEASED).await?;
        }
        let aws = Aws::of(&shipway.cloud)?;
        let before = standing(shipway, &aws).await?;

        let platform = release("platform", object("apps/tampered/dev/shipway.yaml"));
        let rollout = release("service/api", image("tampered-api"));
        let site = release("site/web", object("sites/tampered/dev/web/a.zip"));
        let teardown = json!({"app": "tampered", "environment": "dev", "confirm": "tampered/dev"});
        let drift = json!({"app": "tampered", "environment": "dev"});
        let mut asked = Vec::new();
        let others = [("ProvisionMachine", &platform), ("RolloutMachine", &rollout), ("PublishMachine", &site)];
        for (machine, input) in others {
            asked.extend(of_a_release(input).into_iter().map(|input| (machine, input)));
            let inputs = others.iter().filter(|(other, _)| *other != machine);
            asked.extend(inputs.map(|(_, input)| (machine, (*input).clone())));
            asked.extend([&teardown, &drift].map(|input| (machine, input.clone())));
        }
        // The manifest's version is not there.
        asked.push(("ProvisionMachine", platform.clone()));
        let confirmed = ["tampered/prod", "dev", "TAMPERED/DEV", "tampered/dev\n", "yes"];
        let confirmed = confirmed.map(|confirm| with(&teardown, "/confirm", json!(confirm)));
        let elsewhere = json!({"app": "nobodys", "environment": "dev", "confirm": "nobodys/dev"});
        for input in of_any(&teardown).into_iter().chain(confirmed).chain([elsewhere, rollout.clone(), drift.clone()]) {
            asked.push(("TeardownMachine", input));
        }
        for input in of_any(&drift).into_iter().chain([with(&drift, "/environment", json!("nowhere"))]) {
            // A list of one thing is that thing to JSONata.
            let is_meant =
                input == json!([drift]) || input.as_object().is_some_and(|all| all.values().any(Value::is_array));
            if !is_meant {
                asked.push(("DriftMachine", input));
            }
        }

        for some in asked.chunks(20) {
            let mut started = Vec::new();
            for (machine, input) in some {
                started.push(shipway.start_with(shipway.output(machine)?, &input.to_string()).await?);
            }
            for ((machine, input), arn) in some.iter().zip(&started) {
                let told: String = format!("{machine} of {input}").chars().take(300).collect();
                let (status, error, cause) = end_of(shipway, arn).await.with_context(|| told.clone())?;
                ensure!(status == "FAILED", "{told} is {status}");
                let named = error == REJECTED || Failure::from_name(&error).is_some_and(|failure| !failure.retryable());
                ensure!(named, "{told} ends as {error}: {cause}");
                ensure!((10..LONGEST).contains(&cause.len()), "{told} is told in {} bytes: {cause}", cause.len());
                ensure!(!cause.contains("JSONata") && !cause.contains(char::is_control), "{told}: {cause}");
            }
        }
        eprintln!("{} inputs were tampered with", asked.len());
        let after = standing(shipway, &aws).await?;
        let changed: Vec<_> = before.symmetric_difference(&after).collect();
        ensure!(changed.is_empty(), "{changed:#?}\n{}", shipway.story(&place).await?);
        shipway.version_served(&place, "1", RELEASED).await?;
        Ok(())
    });
}

/// How an execution ended: its status, error and cause.
async fn end_of(shipway: &Shipway, arn: &str) -> Result<(String, String, String)> {
    let started = Instant::now();
    while started.elapsed() < RELEASED {
        let described = shipway.sfn().describe_execution().execution_arn(arn).send().await?;
        if described.status().as_str() != "RUNNING" {
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            return Ok((described.status().to_string(), text(described.error()), text(described.cause())));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("{arn} still runs: {}", shipway.execution_story(arn).await?)
}
