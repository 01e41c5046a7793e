//! The `shipway` command as a person and as a pipeline use it, against the local cloud under IAM checks.

#![allow(clippy::disallowed_methods, reason = "a stack is waited for")]
#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use local_cloud::{Config, LocalCloud, hello};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shipway_domain::{
    name::Component,
    release::{Artifact, Outcome},
};
use shipway_tests::{Place, Shipway, ask::Aws, checkout, rights, tools};

const PROVISIONED: Duration = Duration::from_secs(120);

const MANIFEST: &str = "version: 1\napp: command\nnetwork: {vpc: default}\nsites: {web: {}}\nenvironments: {dev: {}}\n";

/// A folder with a manifest, and how to run the command in it.
struct Terminal {
    folder: tempfile::TempDir,
    variables: BTreeMap<&'static str, String>,
}

/// What a command said.
struct Said {
    code: i32,
    text: String,
    document: Value,
}

impl Terminal {
    fn new(cloud: &LocalCloud) -> Result<Terminal> {
        Ok(Terminal { folder: tempfile::tempdir()?, variables: cloud.environment().into_iter().collect() })
    }

    /// Whose credentials are used from now on.
    fn sign_in(&mut self, (key, secret): &(String, String)) {
        self.variables.insert("AWS_ACCESS_KEY_ID", key.clone());
        self.variables.insert("AWS_SECRET_ACCESS_KEY", secret.clone());
    }

    fn change(&self, name: &str, from: &str, to: &str) -> Result<()> {
        let text = fs::read_to_string(self.folder.path().join(name))?;
        ensure!(text.contains(from), "`{from}` is not in\n{text}");
        self.write(name, &text.replacen(from, to, 1))
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap())?;
        Ok(fs::write(path, content)?)
    }

    /// Runs the command with `--json`.
    async fn shipway(&self, arguments: &[&str]) -> Result<Said> {
        let mut command = Command::new(program()?);
        command.args(arguments).arg("--json").current_dir(self.folder.path()).envs(&self.variables);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let document = serde_json::from_slice(&output.stdout).with_context(|| format!("{arguments:?} said\n{text}"))?;
        Ok(Said { code: output.status.code().context("it was killed")?, text, document })
    }

    async fn expect(&self, arguments: &[&str], code: i32) -> Result<Said> {
        let said = self.shipway(arguments).await?;
        ensure!(said.code == code, "{arguments:?} ended with {} and not {code}\n{}", said.code, said.text);
        Ok(said)
    }
}

/// The binary beside this test's own.
fn program() -> Result<PathBuf> {
    let folder = std::env::current_exe()?.parent().and_then(Path::parent).context("no folder")?.to_owned();
    let program = folder.join(format!("shipway{}", std::env::consts::EXE_SUFFIX));
    ensure!(program.exists(), "{} is not there: cargo build --package shipway", program.display());
    Ok(program)
}

fn allowed(actions: &[&str], resources: &[&str]) -> Value {
    json!({"Effect": "Allow", "Action": actions, "Resource": resources})
}

/// The credentials of a user that may do this and nothing else.
fn user(cloud: &LocalCloud, name: &str, statements: &[Value]) -> Result<(String, String)> {
    let aws = |arguments: &[&str]| -> Result<Value> {
        let mut command = Command::new(tools()?.join("bin/aws"));
        cloud.use_in(&mut command);
        let output = command.args(arguments).args(["--output", "json"]).output()?;
        ensure!(output.status.success(), "aws {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    };
    let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    aws(&["iam", "create-user", "--user-name", name])?;
    aws(&["iam", "put-user-policy", "--user-name", name, "--policy-name", "only", "--policy-document", &policy])?;
    let key = &aws(&["iam", "create-access-key", "--user-name", name])?["AccessKey"];
    let text = |field: &str| key[field].as_str().map(str::to_owned).context("no key");
    Ok((text("AccessKeyId")?, text("SecretAccessKey")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_published_looked_at_taken_back_verified_and_mended() -> Result<()> {
    let shipway = Shipway::install(LocalCloud::start(Config::new(tools()?)).await?).await?;
    let terminal = Terminal::new(&shipway.cloud)?;
    terminal.write("shipway.yaml", MANIFEST)?;
    let place = Place::dev("command")?;
    let manifest = shipway.upload_manifest(&place, MANIFEST).await?;
    shipway.ended(&place, &Component::Platform, &manifest, PROVISIONED).await?;
    let home = async || -> Result<String> {
        let site = shipway.platform(&place).await?.sites.into_values().next().context("no site")?;
        Ok(shipway.cloud.http_through_cloudfront(&site.domain, "/").await?.text())
    };

    // A mistake is told before anything is uploaded.
    terminal.write("dist/about.html", "about")?;
    let refused = terminal.expect(&["publish", "dist"], 3).await?;
    ensure!(refused.text.contains("no index.html"), "{}", refused.text);
    ensure!(shipway.store.releases(&place.app, &place.environment).await?.len() == 1, "something was released");

    terminal.write("dist/index.html", "<h1>one</h1>")?;
    terminal.write("dist/.DS_Store", "clutter")?;
    let first = terminal.expect(&["publish", "dist"], 0).await?;
    ensure!(first.document["release"]["outcome"] == "succeeded", "{}", first.document);
    ensure!(first.document["release"]["url"].as_str().is_some_and(|url| url.starts_with("https://")));
    ensure!(home().await? == "<h1>one</h1>");
    let again = terminal.expect(&["publish", "dist"], 0).await?;
    ensure!(again.document["release"]["outcome"] == "unchanged", "{}", again.document);
    ensure!(again.document["zip"] == first.document["zip"], "the same files made another zip");

    // More than one part.
    terminal.write("dist/index.html", "<h1>two</h1>")?;
    terminal.write("dist/noise.bin", &noise(24 << 20))?;
    terminal.expect(&["publish", "dist", "--name", "second"], 0).await?;
    ensure!(home().await? == "<h1>two</h1>");
    fs::remove_file(terminal.folder.path().join("dist/noise.bin"))?;
    let releases = terminal.expect(&["releases", "site/web"], 0).await?;
    let outcomes: Vec<_> = releases.document.as_array().unwrap().iter().map(|release| &release["outcome"]).collect();
    ensure!(outcomes == ["succeeded", "unchanged", "succeeded"], "{outcomes:?}");

    // Back to the first files, however often they were published.
    terminal.expect(&["rollback", "site/web", "--yes"], 0).await?;
    ensure!(home().await? == "<h1>one</h1>");
    let nothing = terminal.expect(&["rollback", "site/web", "--yes"], 2).await?;
    ensure!(nothing.text.contains("nothing is remembered"), "{}", nothing.text);
    let watched = terminal.expect(&["watch", "site/web"], 0).await?;
    ensure!(watched.document["outcome"] == "succeeded", "{}", watched.document);

    // The story of one, which is not tried again because it went well.
    let id = watched.document["release"].as_str().context("no id")?;
    let story = terminal.expect(&["release", id], 0).await?;
    ensure!(story.document["outcome"] == "succeeded" && story.text.contains(" s "), "{}", story.text);
    let link = story.document["links"]["execution"].as_str().context("no link")?;
    ensure!(link.contains(&format!(":{}", story.document["execution"].as_str().unwrap_or("?"))), "{link}");
    let refused = terminal.expect(&["retry", id, "--yes"], 2).await?;
    ensure!(refused.text.contains("nothing to try again"), "{}", refused.text);
    terminal.expect(&["release", "20200101T000000000-000000"], 2).await?;

    // What is rejected once is rejected again, by a release of its own.
    let bucket = shipway.output("IntakeBucket")?;
    let put = shipway.s3().put_object().bucket(bucket).key("sites/command/dev/web/broken.zip");
    let broken = put.body(b"no zip".to_vec().into()).send().await?;
    let key = "sites/command/dev/web/broken.zip".to_owned();
    let broken = Artifact::Object { key, version: broken.version_id().context("no version")?.to_owned() };
    let first = shipway.ended(&place, &"site/web".parse()?, &broken, PROVISIONED).await?;
    ensure!(first.outcome == Some(Outcome::Rejected), "{first:?}");
    let again = terminal.expect(&["retry", first.release.as_str()], 3).await?;
    let release = &again.document["release"];
    ensure!(release["outcome"] == "rejected" && release["release"] != first.release.as_str(), "{release}");
    ensure!(release["execution"].as_str().is_some_and(|name| name.starts_with("retry-site-web-")), "{release}");

    // Somebody was in the bucket.
    terminal.expect(&["site", "verify"], 0).await?;
    let bucket = shipway.platform(&place).await?.sites.into_values().next().context("no site")?.bucket;
    let put = |key: &'static str, text: &'static [u8]| {
        shipway.s3().put_object().bucket(&bucket).key(key).body(text.to_vec().into())
    };
    put("index.html", b"<h1>not</h1>")
        .content_type("text/html; charset=utf-8")
        .cache_control("no-cache")
        .send()
        .await?;
    put("hacked.html", b"x").send().await?;
    shipway.s3().delete_object().bucket(&bucket).key("about.html").send().await?;
    let drift = terminal.expect(&["site", "verify", "web"], 1).await?.document["drift"].clone();
    ensure!(drift["unknown"][0]["key"] == "hacked.html", "{drift}");
    ensure!(drift["missing"].as_array().is_some_and(|keys| keys.contains(&json!("about.html"))), "{drift}");
    ensure!(drift["differing"][0]["key"] == "index.html", "{drift}");
    let differences = drift["differing"][0]["differences"].as_array().unwrap();
    ensure!(differences.iter().any(|difference| difference["what"] == "crc32"), "{drift}");
    let mended = terminal.expect(&["site", "verify", "web", "--repair"], 0).await?;
    ensure!(mended.document["release"]["outcome"] == "succeeded", "{}", mended.document);
    ensure!(home().await? == "<h1>one</h1>");
    terminal.expect(&["site", "verify"], 0).await?;

    pipeline(&shipway, &place, terminal).await?;
    rights::hold(&shipway.cloud).await
}

/// A pipeline with one right publishes, and says that it cannot follow.
/// Under the rights that docs/command.md names for it, and no others.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_needs_approval_is_shown_approved_refused_and_watched() -> Result<()> {
    let shipway = Shipway::install(LocalCloud::start(Config::new(tools()?)).await?).await?;
    let mut terminal = Terminal::new(&shipway.cloud)?;
    let manifest = "version: 1\napp: command\nnetwork: {vpc: default}\nservices:\n  \
                    api: {image: {repository: command-api}, approval: required}\nenvironments: {dev: {}}\n";
    terminal.write("shipway.yaml", manifest)?;
    let place = Place::dev("command")?;
    let artifact = shipway.upload_manifest(&place, manifest).await?;
    shipway.ended(&place, &Component::Platform, &artifact, PROVISIONED).await?;
    let table = format!("arn:aws:dynamodb:*:*:table/{}", shipway.output("Table")?);
    let rights = [
        allowed(&["cloudformation:DescribeStacks"], &["*"]),
        allowed(&["dynamodb:GetItem", "dynamodb:Query"], &[&table]),
        allowed(&["states:SendTaskSuccess", "states:SendTaskFailure"], &["*"]),
    ];
    terminal.sign_in(&user(&shipway.cloud, "approver", &rights)?);
    let waiting = async |tag: &str| -> Result<String> {
        let image = shipway.push("command-api", tag, &hello::image(tag).await?).await?;
        for _ in 0..600 {
            let newest = shipway.releases_of(&place, &"service/api".parse()?, &image).await?.pop();
            if let Some(release) = newest.filter(|release| release.waits_for().is_some()) {
                return Ok(release.release.to_string());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("nobody was asked\n{}", shipway.story(&place).await?)
    };

    let first = waiting("v1").await?;
    let status = terminal.expect(&["status"], 0).await?;
    ensure!(status.text.contains("needs approval"), "{}", status.text);
    let command = format!("shipway approve {first} --app command --env dev");
    ensure!(status.text.contains(&command), "{}", status.text);
    ensure!(terminal.expect(&["releases"], 0).await?.text.contains("needs approval"), "the list does not say it");
    let story = terminal.expect(&["release", &first], 0).await?;
    ensure!(story.text.contains(&command), "{}", story.text);
    ensure!(story.document["approval"]["token"].is_string(), "{}", story.document);
    let approved = terminal.expect(&["approve", "service/api"], 0).await?;
    assert_eq!(approved.document["release"]["outcome"], "succeeded", "{}", approved.text);
    ensure!(approved.text.contains("user/approver"), "{}", approved.text);
    let twice = terminal.expect(&["approve", &first], 2).await?;
    ensure!(twice.text.contains("has ended already, succeeded"), "{}", twice.text);
    ensure!(terminal.expect(&["approve", "service/api"], 2).await?.text.contains("waits for approval"), "who waits?");

    // ECR tells the second of a push.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let second = waiting("v2").await?;
    terminal.expect(&["approve", &second, "--refuse", "--reason", "not on a Friday"], 0).await?;
    let refused = terminal.expect(&["watch", &second], 3).await?;
    let reason = refused.document["reason"].as_str().unwrap_or_default();
    ensure!(reason.starts_with("Rejected.Approval: refused by arn:aws:iam::"), "{reason}");
    ensure!(reason.ends_with("user/approver: not on a Friday"), "{reason}");

    // One is watched with its tasks, and its own log is told from what others wrote beside it.
    let aws = Aws::of(&shipway.cloud)?;
    let log = shipway.platform(&place).await?.services.into_values().next().context("no service")?.log_group;
    let write = |line: &str| -> Result<()> {
        let stream = json!({"logGroupName": log, "logStreamName": format!("service/api/{line}")});
        aws.ask("logs", "create_log_stream", stream.clone())?;
        let mut events = stream;
        let now = jiff::Timestamp::now().as_millisecond();
        events["logEvents"] = json!([{"timestamp": now, "message": line}]);
        aws.ask("logs", "put_log_events", events).map(drop)
    };
    write("before")?;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let third = waiting("v3").await?;
    write("meanwhile")?;
    terminal.expect(&["approve", &third, "--no-wait"], 0).await?;
    let blind = terminal.expect(&["watch", &third], 0).await?;
    ensure!(blind.text.contains("tasks and targets are not shown: ecs:DescribeServices"), "{}", blind.text);
    let more = [
        allowed(&["ecs:DescribeServices", "elasticloadbalancing:DescribeTargetHealth"], &["*"]),
        allowed(&["logs:FilterLogEvents", "logs:DescribeLogStreams"], &["*"]),
    ];
    terminal.sign_in(&user(&shipway.cloud, "watcher", &[&rights[..], &more[..]].concat())?);
    write("afterwards")?;
    let logs = terminal.expect(&["logs", "--release", &third], 0).await?;
    let lines: Vec<&str> =
        logs.document.as_array().unwrap().iter().filter_map(|line| line["message"].as_str()).collect();
    ensure!(lines.contains(&"meanwhile"), "{lines:?}");
    ensure!(!lines.contains(&"before") && !lines.contains(&"afterwards"), "{lines:?}");

    tokio::time::sleep(Duration::from_millis(1100)).await;
    let fourth = waiting("v4").await?;
    terminal.expect(&["approve", &fourth, "--no-wait"], 0).await?;
    let watched = terminal.expect(&["watch", &fourth], 0).await?;
    ensure!(watched.text.contains("new command-dev-api:"), "{}", watched.text);
    ensure!(watched.text.contains("1 of 1 running"), "{}", watched.text);
    rights::hold(&shipway.cloud).await
}

async fn pipeline(shipway: &Shipway, place: &Place, mut terminal: Terminal) -> Result<()> {
    let intake = shipway.output("IntakeBucket")?;
    let resource = format!("arn:aws:s3:::{intake}/sites/command/dev/web/*");
    terminal.sign_in(&user(&shipway.cloud, "pipeline", &[allowed(&["s3:PutObject"], &[&resource])])?);
    let lost = terminal.expect(&["publish", "dist"], 2).await?;
    ensure!(
        lost.text.contains("cloudformation:DescribeStacks") && lost.text.contains("set SHIPWAY_BUCKET"),
        "{}",
        lost.text
    );
    terminal.variables.insert("SHIPWAY_BUCKET", intake.to_owned());
    terminal.write("dist/index.html", "<h1>three</h1>")?;
    let sent = terminal.expect(&["publish", "dist", "--name", "third"], 0).await?;
    ensure!(sent.document["followed"] == false && sent.text.contains("dynamodb:GetItem"), "{}", sent.text);
    let artifact = serde_json::from_value(sent.document["artifact"].clone())?;
    let release = shipway.ended(place, &"site/web".parse()?, &artifact, PROVISIONED).await?;
    ensure!(release.outcome.is_some_and(|outcome| outcome.is_live()), "{release:?}");
    let elsewhere = terminal.expect(&["publish", "dist", "--site", "docs", "--no-wait"], 2).await?;
    ensure!(elsewhere.text.contains("s3:PutObject was refused"), "{}", elsewhere.text);
    Ok(())
}

/// Text that cannot be packed: hexadecimal digits of a small generator.
fn noise(length: usize) -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.extend(state.to_ne_bytes().map(|byte| char::from(b' ' + byte % 95)));
    }
    text
}

const DOCKERFILE: &str = "FROM scratch\nEXPOSE 8080\n";

/// What docs/command.md says that looking at the network needs.
fn rights_on_ec2() -> Result<Vec<String>> {
    let page = fs::read_to_string(checkout().join("docs/command.md"))?;
    let (_, rights) = page.split_once("\n## Rights\n").context("no rights")?;
    let rights = rights.split('`').filter(|word| word.starts_with("ec2:")).map(str::to_owned).collect::<Vec<_>>();
    ensure!(!rights.is_empty(), "the page names no right on EC2");
    Ok(rights)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_is_begun_planned_applied_compared_mended_and_torn_down() -> Result<()> {
    let shipway = Shipway::install(LocalCloud::start(Config::new(tools()?)).await?).await?;
    let aws = Aws::of(&shipway.cloud)?;
    let (account, region) = (shipway.cloud.account(), shipway.cloud.region());
    let stack = |name: &str| format!("arn:aws:cloudformation:{region}:{account}:stack/{name}/*");
    let table = format!("arn:aws:dynamodb:{region}:{account}:table/{}", shipway.output("Table")?);
    let ec2 = rights_on_ec2()?;
    let looking = [
        allowed(&["cloudformation:DescribeStacks"], &[&stack("shipway")]),
        allowed(&["dynamodb:GetItem"], &[&table]),
        allowed(&["cloudformation:DescribeStacks", "cloudformation:GetTemplate"], &[&stack("shipway-begun-*")]),
        allowed(&ec2.iter().map(String::as_str).collect::<Vec<_>>(), &["*"]),
    ];
    let manifests = format!("arn:aws:s3:::{}/apps/begun/dev/shipway.yaml", shipway.output("IntakeBucket")?);
    let machines = ["ProvisionMachine", "DriftMachine", "TeardownMachine"].map(|name| shipway.output(name).unwrap());
    let working = [
        looking[0].clone(),
        allowed(&["dynamodb:GetItem", "dynamodb:Query"], &[&table]),
        allowed(&["s3:PutObject"], &[&manifests]),
        allowed(&["states:StartExecution"], &machines),
    ];
    let looker = user(&shipway.cloud, "looker", &looking)?;
    let worker = user(&shipway.cloud, "worker", &working)?;
    let mut terminal = Terminal::new(&shipway.cloud)?;

    // From a folder to a manifest, without AWS.
    terminal.write("api/Dockerfile", DOCKERFILE)?;
    terminal.write("web/package.json", r#"{"devDependencies": {"vite": "7"}}"#)?;
    terminal.expect(&["init", "--app", "begun", "--env", "dev", "--yes", "--schema"], 0).await?;
    let checked = terminal.expect(&["check"], 0).await?;
    ensure!(checked.text.contains("begun/dev: 1 service, 1 site"), "{}", checked.text);

    // Whoever may only look can plan, and nothing more.
    terminal.sign_in(&looker);
    let planned = terminal.expect(&["plan"], 0).await?;
    let plan = &planned.document;
    ensure!(plan["offline"] == false && plan["summary"]["create"].as_u64() > Some(10), "{plan}");
    ensure!(["change", "replace", "delete"].iter().all(|doing| plan["summary"][doing] == 0), "{plan}");
    ensure!(plan["estimate"]["low"].as_f64() > Some(1.0), "{plan}");
    ensure!(plan["warnings"].as_array().is_some_and(|warnings| !warnings.iter().any(|w| w["kind"] == "refused")));
    terminal.expect(&["plan", "--exit-code"], 1).await?;
    let refused = terminal.expect(&["apply"], 2).await?;
    ensure!(refused.text.contains("s3:PutObject was refused"), "{}", refused.text);
    let unseen = shipway.store.environment(&"begun".parse()?, &"dev".parse()?).await?;
    ensure!(unseen.is_none(), "planning left something behind: {unseen:?}");

    // What was planned is made.
    terminal.sign_in(&worker);
    let applied = terminal.expect(&["apply"], 0).await?;
    ensure!(applied.document["release"]["outcome"] == "succeeded", "{}", applied.document);
    let status = terminal.expect(&["status"], 0).await?;
    let urls: Vec<_> =
        status.document["components"].as_array().unwrap().iter().filter_map(|one| one["url"].as_str()).collect();
    ensure!(urls.len() == 2 && urls[0].ends_with("/api/") && urls[1].starts_with("https://"), "{urls:?}");

    // Then there is nothing to do, until something is changed; and the plan is just that.
    terminal.sign_in(&looker);
    let nothing = terminal.expect(&["plan", "--exit-code"], 0).await?;
    ensure!(nothing.text.contains("nothing to do"), "{}", nothing.text);
    let refused = terminal.expect(&["drift", "--now"], 2).await?;
    ensure!(refused.text.contains("states:StartExecution was refused"), "{}", refused.text);
    terminal.change("shipway.yaml", "cpu: 256", "cpu: 512")?;
    terminal.change("shipway.yaml", "memory: 512", "memory: 1024")?;
    terminal.change("shipway.yaml", "health: /}", "health: /up}")?;
    let changed = terminal.expect(&["plan", "--exit-code"], 1).await?;
    let plan = &changed.document;
    ensure!(
        plan["network"] == json!([]) && plan["summary"]["create"] == 0 && plan["summary"]["replace"] == 0,
        "{plan}"
    );
    let doing = |part: &str| -> Vec<String> {
        let of = plan[part].as_array().unwrap().iter().filter(|one| one["doing"] != "unchanged");
        of.map(|one| one["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    ensure!(doing("stacks") == ["shipway-begun-dev-service-api"] && doing("services") == ["api"], "{plan}");
    terminal.change("shipway.yaml", "health: /up}", "health: /}")?;
    terminal.change("shipway.yaml", "cpu: 512", "cpu: 256")?;
    terminal.change("shipway.yaml", "memory: 1024", "memory: 512")?;

    // Somebody opens a port behind Shipway's back.
    terminal.sign_in(&worker);
    let compared = terminal.expect(&["drift", "--now"], 0).await?;
    ensure!(compared.document["report"]["status"] == "in_sync", "{}", compared.document);
    let place = Place { app: "begun".parse()?, environment: "dev".parse()? };
    let group = shipway.platform(&place).await?.values["network.service_group"].clone();
    let rule = json!({"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]});
    let rule = json!({"GroupId": group, "IpPermissions": [rule]});
    aws.ask("ec2", "authorize_security_group_ingress", rule)?;
    let drifted = terminal.expect(&["drift", "--now"], 1).await?;
    ensure!(drifted.document["report"]["differences"].to_string().contains(&group), "{}", drifted.document);
    terminal.expect(&["drift"], 1).await?;
    terminal.expect(&["apply", "--repair"], 0).await?;
    terminal.expect(&["drift", "--now"], 0).await?;

    // What its containers write is shown, to whoever may read it.
    let log = shipway.platform(&place).await?.services.into_values().next().context("no service")?.log_group;
    let stream = json!({"logGroupName": log, "logStreamName": "service/api/0123456789abcdef"});
    aws.ask("logs", "create_log_stream", stream.clone())?;
    let now = jiff::Timestamp::now().as_millisecond();
    let mut events = stream;
    events["logEvents"] = json!([
        {"timestamp": now - 3 * 3_600_000, "message": "long ago"},
        {"timestamp": now - 60_000, "message": "started"},
    ]);
    aws.ask("logs", "put_log_events", events)?;
    let refused = terminal.expect(&["logs", "api"], 2).await?;
    ensure!(refused.text.contains("logs:FilterLogEvents was refused"), "{}", refused.text);
    // AWS's ARN of a log group ends with `:*`; what the local cloud checks has no such end.
    let group = format!("arn:aws:logs:{region}:{account}:log-group:{log}");
    let groups = [group.as_str(), &format!("{group}:*")];
    let reading = [looking[0].clone(), looking[1].clone(), allowed(&["logs:FilterLogEvents"], &groups)];
    terminal.sign_in(&user(&shipway.cloud, "reader", &reading)?);
    for (since, expected) in [("1h", &["started"][..]), ("4h", &["long ago", "started"])] {
        let logs = terminal.expect(&["logs", "api", "--since", since], 0).await?;
        let messages: Vec<_> = logs.document.as_array().unwrap().iter().map(|line| &line["message"]).collect();
        ensure!(messages == expected, "{}", logs.document);
    }
    terminal.expect(&["logs", "nothing"], 2).await?;
    terminal.sign_in(&worker);

    // And changes what a stack made.
    aws.ask("logs", "put_retention_policy", json!({"logGroupName": log, "retentionInDays": 1}))?;
    let drifted = terminal.expect(&["drift", "--now"], 1).await?;
    ensure!(drifted.text.contains("shipway-begun-dev-service-api"), "{}", drifted.text);
    terminal.expect(&["apply", "--repair"], 0).await?;
    let mended = terminal.expect(&["drift", "--now"], 0).await?;
    ensure!(mended.document["report"]["status"] == "in_sync" && mended.text.contains("in sync"), "{}", mended.text);

    // It goes only when its name is said.
    for confirm in [&["teardown"][..], &["teardown", "--confirm", "begun/prod"]] {
        terminal.expect(confirm, 2).await?;
    }
    let torn_down = terminal.expect(&["teardown", "--confirm", "begun/dev"], 0).await?;
    let images = "the repository begun-api goes with every image in it, for good";
    ensure!(torn_down.text.contains(images), "{}", torn_down.text);
    let status = terminal.expect(&["status"], 0).await?;
    ensure!(status.text.contains("begun/dev was torn down"), "{}", status.text);
    ensure!(status.document["teardown"]["torn_down_at"].is_string(), "{}", status.document);
    let nothing = terminal.expect(&["drift", "--now"], 2).await?;
    ensure!(nothing.text.contains("nothing to compare"), "{}", nothing.text);
    terminal.sign_in(&looker);
    let again = terminal.expect(&["plan"], 0).await?;
    ensure!(again.document["summary"]["change"] == 0, "{}", again.document);
    rights::hold(&shipway.cloud).await
}

/// A token as GitHub gives a workflow. The local cloud reads what it claims and checks no signature.
fn token(subject: &str) -> String {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims =
        json!({"iss": "https://token.actions.githubusercontent.com", "aud": "sts.amazonaws.com", "sub": subject});
    format!("{}.{}.{}", part(json!({"alg": "RS256", "typ": "JWT"})), part(claims), part(json!("unsigned")))
}

/// A stack of bootstrap/github.yaml for the environment `prod` of `hello`; answers its role.
async fn github(shipway: &Shipway, aws: &Aws, name: &str, more: &[(&str, &str)]) -> Result<String> {
    let own = [
        ("App", "hello"),
        ("Environment", "prod"),
        ("GitHubRepository", "acme/hello"),
        ("Repositories", "hello-api,hello-worker"),
        ("IntakeBucket", shipway.output("IntakeBucket")?),
        ("Table", shipway.output("Table")?),
    ];
    let parameters = own.iter().chain(more).map(|(key, value)| json!({"ParameterKey": key, "ParameterValue": value}));
    let stack = json!({
        "StackName": name,
        "TemplateBody": fs::read_to_string(checkout().join("bootstrap/github.yaml"))?,
        "Capabilities": ["CAPABILITY_IAM"],
        "Parameters": parameters.collect::<Vec<_>>(),
    });
    aws.ask("cloudformation", "create_stack", stack)?;
    for _ in 0..100 {
        let stacks = aws.list("cloudformation", "describe_stacks", json!({"StackName": name}), "Stacks")?;
        let stack = stacks.into_iter().next().context("no stack")?;
        match stack["StackStatus"].as_str() {
            Some("CREATE_COMPLETE") => {
                let outputs = stack["Outputs"].as_array().context("no outputs")?;
                let role = outputs.iter().find(|output| output["OutputKey"] == "Role").context("no role")?;
                return Ok(role["OutputValue"].as_str().unwrap_or_default().to_owned());
            }
            Some("CREATE_IN_PROGRESS") => tokio::time::sleep(Duration::from_millis(100)).await,
            _ => anyhow::bail!("{stack}"),
        }
    }
    anyhow::bail!("{name} is not made")
}

/// Asks as a workflow with this subject, if the role lets it.
fn workflow(shipway: &Shipway, aws: &Aws, role: &str, subject: &str) -> Result<Aws> {
    let asked = json!({"RoleArn": role, "RoleSessionName": "workflow", "WebIdentityToken": token(subject)});
    let mut session = aws.ask("sts", "assume_role_with_web_identity", asked)?["Credentials"].take();
    let mut text = |field: &str| match session[field].take() {
        Value::String(text) => Ok(text),
        other => Err(anyhow::anyhow!("{field} is {other}")),
    };
    let (key, secret, token) = (text("AccessKeyId")?, text("SecretAccessKey")?, text("SessionToken")?);
    let credentials =
        [("AWS_ACCESS_KEY_ID", &*key), ("AWS_SECRET_ACCESS_KEY", &*secret), ("AWS_SESSION_TOKEN", &*token)];
    Aws::with(&shipway.cloud, &credentials)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_delivers_to_its_environment_and_can_do_nothing_else() -> Result<()> {
    let shipway = Shipway::install(LocalCloud::start(Config::new(tools()?)).await?).await?;
    let aws = Aws::of(&shipway.cloud)?;
    for name in ["hello-api", "hello-worker", "other-api"] {
        aws.ask("ecr", "create_repository", json!({"repositoryName": name}))?;
    }
    let role = github(&shipway, &aws, "hello-prod-github", &[]).await?;
    for subject in
        ["repo:acme/hello:environment:dev", "repo:acme/other:environment:prod", "repo:acme/hello:ref:refs/heads/main"]
    {
        let refused = workflow(&shipway, &aws, &role, subject).err().context("anybody gets the role")?;
        ensure!(refused.to_string().contains("AccessDenied"), "{subject}: {refused}");
    }
    let ci = workflow(&shipway, &aws, &role, "repo:acme/hello:environment:prod")?;

    // A push, as docker makes it.
    let layer = "a layer";
    let digest = Sha256::digest(layer).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    ci.ask("ecr", "get_authorization_token", json!({}))?;
    for repository in ["hello-api", "hello-worker"] {
        let of = |more: Value| {
            let mut arguments = json!({"repositoryName": repository});
            arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            arguments
        };
        ci.ask("ecr", "batch_check_layer_availability", of(json!({"layerDigests": [digest]})))?;
        let upload = ci.ask("ecr", "initiate_layer_upload", of(json!({})))?["uploadId"].clone();
        let part =
            json!({"uploadId": upload, "partFirstByte": 0, "partLastByte": layer.len() - 1, "layerPartBlob": layer});
        ci.ask("ecr", "upload_layer_part", of(part))?;
        ci.ask("ecr", "complete_layer_upload", of(json!({"uploadId": upload, "layerDigests": [digest]})))?;
        let layer =
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": layer.len(), "digest": digest});
        let config =
            json!({"mediaType": "application/vnd.oci.image.config.v1+json", "size": layer["size"], "digest": digest});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        });
        ci.ask("ecr", "put_image", of(json!({"imageManifest": manifest.to_string(), "imageTag": "v1"})))?;
        let got = ci.list("ecr", "batch_get_image", of(json!({"imageIds": [{"imageTag": "v1"}]})), "images")?;
        ensure!(got.len() == 1, "{got:?}");
    }

    let (bucket, table) = (shipway.output("IntakeBucket")?, shipway.output("Table")?);
    let put = |key: &str| json!({"Bucket": bucket, "Key": key, "Body": "x"});
    let object = |key: &str| json!({"Bucket": bucket, "Key": key});
    let query = |place: &str| json!({"TableName": table, "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": place}}});
    let item = |place: &str| json!({"TableName": table, "Key": {"pk": {"S": place}, "sk": {"S": "environment"}}});
    let execution = json!({"stateMachineArn": shipway.output("ProvisionMachine")?, "input": "{}"});
    let allowed = [
        ("s3", "put_object", put("sites/hello/prod/web/1.zip")),
        ("dynamodb", "query", query("hello/prod")),
        ("dynamodb", "get_item", item("hello/prod")),
        ("cloudformation", "describe_stacks", json!({"StackName": "shipway"})),
    ];
    for (service, operation, arguments) in allowed {
        ci.ask(service, operation, arguments)?;
    }
    let written = json!({"pk": {"S": "hello/prod"}, "sk": {"S": "environment"}});
    let denied = [
        ("ecr", "initiate_layer_upload", json!({"repositoryName": "other-api"})),
        ("ecr", "put_image", json!({"repositoryName": "other-api", "imageManifest": "{}", "imageTag": "v1"})),
        ("ecr", "batch_get_image", json!({"repositoryName": "other-api", "imageIds": [{"imageTag": "v1"}]})),
        ("ecr", "batch_delete_image", json!({"repositoryName": "hello-api", "imageIds": [{"imageTag": "v1"}]})),
        ("ecr", "describe_repositories", json!({"repositoryNames": ["hello-api"]})),
        ("s3", "put_object", put("sites/hello/dev/web/1.zip")),
        ("s3", "put_object", put("sites/hello/prod-eu/web/1.zip")),
        ("s3", "put_object", put("sites/other/prod/web/1.zip")),
        ("s3", "put_object", put("apps/hello/prod/shipway.yaml")),
        ("s3", "get_object", object("sites/hello/prod/web/1.zip")),
        ("s3", "delete_object", object("sites/hello/prod/web/1.zip")),
        ("dynamodb", "query", query("hello/dev")),
        ("dynamodb", "get_item", item("hello/dev")),
        ("dynamodb", "scan", json!({"TableName": table})),
        ("dynamodb", "put_item", json!({"TableName": table, "Item": written})),
        ("cloudformation", "describe_stacks", json!({"StackName": "hello-prod-github"})),
        ("states", "start_execution", execution),
        ("ecs", "update_service", json!({"cluster": "hello-prod", "service": "api", "desiredCount": 0})),
    ];
    for (service, operation, arguments) in denied {
        let service = if service == "states" { "stepfunctions" } else { service };
        let shown = format!("{service} {operation} {arguments}");
        let refused =
            ci.ask(service, operation, arguments).err().with_context(|| format!("{shown} was let through"))?;
        ensure!(refused.to_string().contains("AccessDenied"), "{shown}: {refused}");
    }

    // Its own parameters widen and narrow it. The account has GitHub's provider already.
    let account = shipway.cloud.account();
    let provider = format!("arn:aws:iam::{account}:oidc-provider/token.actions.githubusercontent.com");
    let more = [
        ("OidcProvider", provider.as_str()),
        ("GitHubSubject", "ref:refs/heads/main"),
        ("UploadManifest", "true"),
        ("WaitForOutcome", "false"),
    ];
    let role = github(&shipway, &aws, "hello-prod-infrastructure", &more).await?;
    let ci = workflow(&shipway, &aws, &role, "repo:acme/hello:ref:refs/heads/main")?;
    ci.ask("s3", "put_object", put("apps/hello/prod/shipway.yaml"))?;
    for (service, operation, arguments) in [
        ("s3", "put_object", put("apps/hello/dev/shipway.yaml")),
        ("s3", "put_object", put("apps/hello/prod/other.yaml")),
        ("dynamodb", "query", query("hello/prod")),
        ("cloudformation", "describe_stacks", json!({"StackName": "shipway"})),
    ] {
        let shown = format!("{service} {operation} {arguments}");
        let refused =
            ci.ask(service, operation, arguments).err().with_context(|| format!("{shown} was let through"))?;
        ensure!(refused.to_string().contains("AccessDenied"), "{shown}: {refused}");
    }
    rights::hold(&shipway.cloud).await
}
