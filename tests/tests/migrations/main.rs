//! Migrations that change a real PostgreSQL, over TLS and with the password that only the task is given.
//!
//! `cargo xtask test` names a PostgreSQL of this machine to these tests. They share one installation, one environment with one
//! server, and one after the other its database: a fault that one makes would be another's, too.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]
#![allow(clippy::disallowed_methods, reason = "a server is waited for")]

mod postgres;

use std::{
    path::PathBuf,
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use local_cloud::{
    Config, LocalCloud,
    faults::{Fault, Rule},
    hello,
    image::Image,
};
use serde_json::{Value, json};
use shipway_domain::{
    name::Component,
    release::{Artifact, Outcome, ReleaseRecord},
};
use shipway_tests::{Place, Shipway, ask::Aws, rights, secrets, tools, visitor::Visitor};
use tokio::runtime::Runtime;

use crate::postgres::{Address, Postgres};

const PATIENCE: Duration = Duration::from_secs(120);

/// `shop` uses the database that the server came with, `desk` two that it did not come with.
const MANIFEST: &str = "
version: 1
app: data
databases:
  main: {engine: postgres, version: '15', class: db.t3.micro, names: [shop, desk, archive]}
services:
  shop:
    image: {repository: data-shop, tags: ['v*']}
    port: 8080
    http: {path: /*, health: /health}
    secrets: {DATABASE_URL: {ref: databases.main.url}}
    migrate: {command: [/migrate], timeout: 5s}
  desk:
    image: {repository: data-desk, tags: ['v*']}
    port: 8080
    http: {path: /desk/*, health: /health}
    secrets: {DATABASE_URL: {ref: databases.main.desk.url}, ARCHIVE_URL: {ref: databases.main.archive.url}}
    migrate: {command: [/migrate], timeout: 1m, seed: [/seed], verify: [/verify]}
environments:
  dev: {}
";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static STAGE: OnceLock<Stage> = OnceLock::new();
static ONE_AFTER_THE_OTHER: Mutex<()> = Mutex::new(());

fn on_stage(test: impl AsyncFnOnce(&'static Stage) -> Result<()>) {
    let _turn = ONE_AFTER_THE_OTHER.lock().unwrap_or_else(PoisonError::into_inner);
    let stage = STAGE.get_or_init(|| RUNTIME.block_on(Stage::set()).unwrap());
    let tested = RUNTIME.block_on(test(stage));
    let tested = tested.and(RUNTIME.block_on(rights::hold(&stage.shipway.cloud)));
    // Whatever went wrong on the way, nobody was told how to reach the database.
    if let Err(error) = tested.and_then(|()| secrets::are_told_nowhere(&stage.shipway, &Aws::of(&stage.shipway.cloud)?))
    {
        panic!("{error:?}");
    }
}

/// An environment with a database that listens.
struct Stage {
    shipway: Shipway,
    place: Place,
    postgres: Postgres,
    programs: PathBuf,
}

impl Stage {
    async fn set() -> Result<Stage> {
        let programs = std::env::var_os("SHIPWAY_POSTGRES").context("SHIPWAY_POSTGRES names no PostgreSQL")?;
        let programs = PathBuf::from(programs);
        let shipway = Shipway::install(LocalCloud::start(Config::new(tools()?)).await?).await?;
        let place = Place::dev("data")?;
        let aws = Aws::of(&shipway.cloud)?;
        secrets::listen(&shipway, &aws)?;
        // What makes further databases: the script is Shipway's, the client this machine's.
        aws.ask("ecr", "create_repository", json!({"repositoryName": "docker/library/postgres"}))?;
        let shell = Image::scratch().file("/bin/sh", "#!/bin/sh\nexec /bin/sh \"$@\"\n", 0o755);
        shipway.push("docker/library/postgres", "15-alpine", &with_programs(shell, &programs)).await?;

        let applied = shipway.upload_manifest(&place, MANIFEST).await?;
        let release = shipway.ended(&place, &Component::Platform, &applied, PATIENCE).await?;
        ensure!(release.outcome == Some(Outcome::Succeeded), "{}", shipway.story(&place).await?);
        let main = shipway.platform(&place).await?.databases.into_values().next().context("no database")?;
        let secret = main.password.split(":password").next().unwrap_or(&main.password);
        let value = aws.ask("secretsmanager", "get_secret_value", json!({"SecretId": secret}))?;
        let value: Value = serde_json::from_str(value["SecretString"].as_str().context("no password")?)?;
        let password = value["password"].as_str().context("no password")?.to_owned();
        let address = Address { host: shipway.cloud.database_host(), port: main.port, user: main.user, password };
        let postgres = Postgres::start(programs.clone(), address, "shop")?;
        Ok(Stage { shipway, place, postgres, programs })
    }

    /// An image whose migration is this statement.
    async fn image(&self, version: &str, statement: &str) -> Result<Image> {
        const CLIENT: &str = "#!/bin/sh\nexec psql \"$DATABASE_URL\" -X -q -v ON_ERROR_STOP=1 -c \"$STATEMENT\"\n";
        let image = hello::image_with(version, []).await?.file("/migrate", CLIENT, 0o755).env("STATEMENT", statement);
        Ok(with_programs(image, &self.programs))
    }

    async fn roll_out(&self, service: &str, tag: &str, image: &Image, outcome: Outcome) -> Result<ReleaseRecord> {
        let artifact = self.shipway.push(&format!("data-{service}"), tag, image).await?;
        let release = self.shipway.ended(&self.place, &component(service)?, &artifact, PATIENCE).await?;
        self.expect(&release, outcome).await?;
        Ok(release)
    }

    async fn expect(&self, release: &ReleaseRecord, outcome: Outcome) -> Result<()> {
        let story = || self.shipway.story(&self.place);
        ensure!(release.outcome == Some(outcome), "{outcome} was expected\n{}", story().await?);
        Ok(())
    }

    async fn live(&self, service: &str) -> Result<Artifact> {
        let Place { app, environment } = &self.place;
        let state = self.shipway.store.component(app, environment, &component(service)?).await?;
        Ok(state.live.context("nothing is live")?.artifact)
    }

    /// How often the calls to start a migration were made to go wrong since the faults were set.
    fn faults(&self) -> usize {
        let calls = self.shipway.cloud.faults().calls();
        calls.iter().filter(|call| call.operation.name == "RunTask" && call.fault.is_some()).count()
    }
}

fn component(service: &str) -> Result<Component> {
    Ok(format!("service/{service}").parse()?)
}

/// Nothing is isolated where containers are processes, so PostgreSQL's client is that of this machine.
fn with_programs(image: Image, programs: &std::path::Path) -> Image {
    image.env("PATH", &format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display()))
}

fn says(release: &ReleaseRecord, parts: &[&str]) -> Result<()> {
    let reason = release.reason.as_deref().unwrap_or_default();
    for part in parts {
        ensure!(reason.contains(part), "`{part}` is not in: {reason}");
    }
    Ok(())
}

#[test]
#[ignore = "needs a PostgreSQL; `cargo xtask test` names it"]
fn migrations_change_the_database_once_or_not_at_all() {
    on_stage(async |stage| {
        let Stage { shipway, postgres, .. } = stage;
        let rows = || postgres.ask("shop", "SELECT version FROM migrations ORDER BY version");
        let faults = shipway.cloud.faults();
        let lost = |fault| Rule::new(fault).service("ecs").operation("RunTask").caller("run-migrations").nth(1);

        // RunTask's answer is lost on its way.
        faults.forget_calls();
        faults.add(lost(Fault::DropAfter));
        let create = "CREATE TABLE migrations (version text); INSERT INTO migrations VALUES ('1')";
        let first = stage.roll_out("shop", "v1", &stage.image("1", create).await?, Outcome::Succeeded).await?;
        ensure!(stage.faults() == 1, "no answer was lost: {:?}", shipway.cloud.faults().calls());
        assert_eq!(rows()?, "1");
        let visitor = Visitor::arrives(shipway, &stage.place).await?;

        // The function dies before it can say what it started.
        faults.clear();
        faults.forget_calls();
        faults.add(lost(Fault::KillAfter));
        let insert = "INSERT INTO migrations VALUES ('2')";
        let second = stage.roll_out("shop", "v2", &stage.image("2", insert).await?, Outcome::Succeeded).await?;
        ensure!(stage.faults() == 1, "no function died");
        faults.clear();
        assert_eq!(rows()?, "1\n2");

        // A statement that PostgreSQL refuses, with all that came before it in its transaction.
        let wrong = "INSERT INTO migrations VALUES ('3'); ALTER TABLE nowhere ADD COLUMN a int";
        let failed = stage.roll_out("shop", "v3", &stage.image("3", wrong).await?, Outcome::Failed).await?;
        says(&failed, &["Migration: ", "exit code 1", "relation \"nowhere\" does not exist", "was not touched"])?;

        // A program that is not in the image: no exit code.
        let empty = hello::image_with("4", []).await?;
        let failed = stage.roll_out("shop", "v4", &empty, Outcome::Failed).await?;
        says(&failed, &["Migration: ", "/migrate", "no exit code: the container never ran", "was not touched"])?;

        // One that waits for a lock which nobody gives back.
        let endless = "SELECT pg_sleep(600)";
        let failed = stage.roll_out("shop", "v5", &stage.image("5", endless).await?, Outcome::Failed).await?;
        says(&failed, &["Migration: ", "was not touched"])?;
        ensure!(
            failed.steps.iter().any(|step| step.what.contains("did not end in its time; stopping it")),
            "{failed:#?}"
        );
        let tasks = shipway.ecs().list_tasks().cluster("data-dev").family("data-dev-shop-migrate").send().await?;
        ensure!(tasks.task_arns().is_empty(), "{:?} still run", tasks.task_arns());
        assert_eq!(rows()?, "1\n2");
        assert_eq!(stage.live("shop").await?, second.artifact);

        // Back to the first: its migration does not run again, and none is undone.
        let arn = shipway.start(&stage.place, &component("shop")?, &first.artifact).await?;
        let back = shipway.ended_execution(&stage.place, &arn, PATIENCE).await?;
        stage.expect(&back, Outcome::Succeeded).await?;
        ensure!(back.steps.iter().all(|step| step.by != "run-migrations"), "{:#?}", back.steps);
        assert_eq!(rows()?, "1\n2");
        visitor.was_answered_by(shipway, &stage.place, &["1", "2"]).await
    });
}

#[test]
#[ignore = "needs a PostgreSQL; `cargo xtask test` names it"]
fn further_databases_are_made_unless_they_are_there_and_seed_and_verification_follow_the_migration() {
    on_stage(async |stage| {
        let Stage { postgres, .. } = stage;
        // Somebody made one of the two before, with something in it.
        postgres.ask("postgres", "CREATE DATABASE archive")?;
        postgres.ask("archive", "CREATE TABLE kept (a int)")?;
        let client = |statement: &str| {
            format!("#!/bin/sh\nexec psql \"$DATABASE_URL\" -X -q -v ON_ERROR_STOP=1 -c \"{statement}\"\n")
        };
        let image = stage
            .image("1", "CREATE TABLE desks (number int)")
            .await?
            .file("/seed", client("INSERT INTO desks VALUES (7)"), 0o755)
            .file("/verify", client("SELECT 1 / count(*) FROM desks"), 0o755);
        let release = stage.roll_out("desk", "v1", &image, Outcome::Succeeded).await?;
        let story: Vec<&str> = release.steps.iter().map(|step| step.what.as_str()).collect();
        ensure!(story.contains(&"the databases archive, desk on `main` are there"), "{story:#?}");
        assert_eq!(postgres.ask("desk", "SELECT number FROM desks")?, "7");
        assert_eq!(postgres.ask("archive", "SELECT count(*) FROM kept")?, "0");

        // The second release makes none, and what it verifies is not true any more.
        let image = stage.image("2", "DELETE FROM desks").await?.file("/seed", client("SELECT 1"), 0o755).file(
            "/verify",
            client("SELECT 1 / count(*) FROM desks"),
            0o755,
        );
        let failed = stage.roll_out("desk", "v2", &image, Outcome::Failed).await?;
        says(&failed, &["the verification", "division by zero", "was not touched"])?;
        ensure!(!failed.steps.iter().any(|step| step.what.contains("databases")), "{:#?}", failed.steps);
        assert_eq!(stage.live("desk").await?, release.artifact);
        Ok(())
    });
}
