//! The `shipway` command as a person and as a pipeline use it, against the local cloud under IAM checks.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use local_cloud::{Config, LocalCloud};
use serde_json::{Value, json};
use shipway_domain::name::Component;
use shipway_tests::{Place, Shipway, tools};

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
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("shipway.yaml"), MANIFEST)?;
        Ok(Terminal { folder, variables: cloud.environment().into_iter().collect() })
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

/// The credentials of a user that may do one thing.
fn user(cloud: &LocalCloud, name: &str, action: &str, resource: &str) -> Result<(String, String)> {
    let aws = |arguments: &[&str]| -> Result<Value> {
        let mut command = Command::new(tools()?.join("bin/aws"));
        cloud.use_in(&mut command);
        let output = command.args(arguments).args(["--output", "json"]).output()?;
        ensure!(output.status.success(), "aws {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    };
    let statement = json!({"Effect": "Allow", "Action": action, "Resource": resource});
    let policy = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
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

    pipeline(&shipway, &place, terminal).await
}

/// A pipeline with one right publishes, and says that it cannot follow.
async fn pipeline(shipway: &Shipway, place: &Place, mut terminal: Terminal) -> Result<()> {
    let intake = shipway.output("IntakeBucket")?;
    let resource = format!("arn:aws:s3:::{intake}/sites/command/dev/web/*");
    let (key, secret) = user(&shipway.cloud, "pipeline", "s3:PutObject", &resource)?;
    terminal.variables.insert("AWS_ACCESS_KEY_ID", key);
    terminal.variables.insert("AWS_SECRET_ACCESS_KEY", secret);
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
