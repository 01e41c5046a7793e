//! `shipway apply`: the manifest goes to the intake bucket, and the environment becomes what it says.

use std::fs;

use jiff::Timestamp;
use serde_json::json;
use shipway_aws::AwsError;
use shipway_domain::{
    manifest,
    message::ReleaseInput,
    name::Component,
    release::{Artifact, ReleaseRecord},
};

use crate::{
    check,
    cli::Apply,
    exit::Exit,
    follow::{self, Told, Tracked},
    installation::{Installation, Output},
    place::Place,
    problem::Problem,
    screen::Screen,
    start::start,
};

/// Applies.
pub(crate) async fn run(asked: &Apply, installation: &Installation, screen: &Screen) -> Result<Exit, Problem> {
    let place = asked.place.place()?;
    let tracked = if asked.repair {
        repair(&place, installation, screen).await?
    } else {
        Tracked::Artifact(upload(asked, &place, installation, screen).await?)
    };
    let Place { app, environment } = &place;
    if asked.no_wait {
        screen.line(format!("its release begins by itself: shipway watch platform --app {app} --env {environment}"));
        screen.document(&json!({"followed": false, "release": null}));
        return Ok(Exit::Done);
    }
    let store = installation.store().await?;
    let release: ReleaseRecord = follow::follow(screen, &store, &place, &Component::Platform, tracked).await?;
    let exit = follow::ended(screen, &release, None);
    if exit == Exit::Done {
        screen.line(format!("what stands there now: shipway status --app {app} --env {environment}"));
    }
    screen.document(&json!({"followed": true, "release": Told::new(&release, None, Timestamp::now())}));
    Ok(exit)
}

/// Uploads the manifest, after it was checked as Shipway will check it.
async fn upload(
    asked: &Apply,
    place: &Place,
    installation: &Installation,
    screen: &Screen,
) -> Result<Artifact, Problem> {
    let path = &asked.place.manifest;
    let here = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|error| Problem::new(format!("the manifest cannot be read: {error}")).at(&here))?;
    manifest::read(&text, &place.app, &place.environment).map_err(|mistake| check::mistaken(&mistake, &text, &here))?;
    let bucket = installation.output(Output::Bucket).await?;
    let key = format!("apps/{}/{}/shipway.yaml", place.app, place.environment);
    let put = installation.s3().put_object().bucket(&bucket).key(&key).body(text.into_bytes().into());
    let put = put
        .send()
        .await
        .map_err(|error| Problem::from(AwsError::of("s3:PutObject")(error)).at(format!("s3://{bucket}/{key}")))?;
    let Some(version) = put.version_id().filter(|version| *version != "null") else {
        return Err(Problem::new("the bucket keeps no versions, so it is not Shipway's intake bucket")
            .at(format!("s3://{bucket}"))
            .remedy("set SHIPWAY_BUCKET to the output IntakeBucket of Shipway's stack"));
    };
    screen.line(format!("uploaded s3://{bucket}/{key}"));
    Ok(Artifact::Object { version: version.to_owned(), key })
}

/// Starts a release of the manifest that is live, which mends what differs from it.
async fn repair(place: &Place, installation: &Installation, screen: &Screen) -> Result<Tracked, Problem> {
    let Place { app, environment } = place;
    let state = installation.store().await?.component(app, environment, &Component::Platform).await?;
    let live = state.live.ok_or_else(|| {
        Problem::new("nothing stands yet, so there is nothing to repair").at(place).remedy("apply the manifest first")
    })?;
    screen.line(format!("repairs what differs from {}", live.artifact));
    let input = ReleaseInput {
        app: app.clone(),
        environment: environment.clone(),
        component: Component::Platform,
        artifact: live.artifact,
        repair: true,
    };
    start(installation, &input, "repair").await
}
