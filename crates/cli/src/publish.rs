//! `shipway publish`: a folder or a zip becomes a release of a site.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::Path,
};

use jiff::Timestamp;
use serde_json::json;
use shipway_aws::{Store, store::EnvironmentRecord};
use shipway_domain::{
    name::{Component, ComponentName, PreviewName},
    release::Artifact,
};

use crate::{
    archive,
    cli::Publish,
    exit::Exit,
    follow::{self, Told, Tracked},
    installation::{Installation, Output},
    pack,
    place::Place,
    problem::Problem,
    screen::{self, Screen, count},
    upload::{self, Zip},
};

/// Publishes.
pub(crate) async fn run(asked: &Publish, installation: &Installation, screen: &Screen) -> Result<Exit, Problem> {
    let (place, site) = asked.place.site(asked.site.as_ref())?;
    let (zip, files) = prepare(&asked.source, screen)?;
    let name = asked.name.as_deref().unwrap_or(zip.name());
    let (component, key) = target(&place, &site, asked.preview.as_ref(), name);
    let bucket = installation.output(Output::Bucket).await?;

    // Before the upload, as it may be refused; in CI, it may not be read.
    let follower = if asked.no_wait { Ok(None) } else { follower(installation, &place, &site).await.map(Some) };
    let follower = match follower {
        Err(problem) if !problem.is_denied() => return Err(problem),
        follower => follower,
    };

    let artifact = send(installation, &bucket, &key, &zip, screen).await?;
    let document = |release: Option<Told<'_>>, followed: bool| {
        json!({
            "artifact": artifact,
            "zip": {"sha256": zip.sha256(), "bytes": zip.size, "files": files},
            "followed": followed,
            "release": release,
        })
    };
    let followed = match follower {
        Ok(Some((store, environment))) => {
            let tracked = Tracked::Artifact(artifact.clone());
            let url = follow::url(&environment, &component);
            follow::follow(screen, &store, &place, &component, tracked).await.map(|release| Some((release, url)))
        }
        Ok(None) => Ok(None),
        Err(denied) => Err(denied),
    };
    match followed {
        Ok(Some((release, url))) => {
            let exit = follow::ended(screen, &release, url.as_deref());
            screen.document(&document(Some(Told::new(&release, url.as_deref(), Timestamp::now())), true));
            return Ok(exit);
        }
        Ok(None) => screen.line(format!(
            "its release begins by itself: shipway watch {component} --app {} --env {}",
            place.app, place.environment
        )),
        Err(problem) if problem.is_denied() => {
            screen.note(format!(
                "the upload is done and its release begins by itself, but it cannot be followed: {}",
                problem.what()
            ));
            screen.line(
                "      following needs dynamodb:GetItem and dynamodb:Query on Shipway's table, and SHIPWAY_TABLE set or \
                 cloudformation:DescribeStacks on Shipway's stack; --no-wait does not try",
            );
        }
        Err(problem) => return Err(problem),
    }
    screen.document(&document(None, false));
    Ok(Exit::Done)
}

/// What is released, and the key under which its zip is taken.
fn target(place: &Place, site: &ComponentName, preview: Option<&PreviewName>, name: &str) -> (Component, String) {
    let folder = format!("sites/{}/{}/{site}", place.app, place.environment);
    match preview {
        Some(preview) => (Component::Preview(site.clone(), preview.clone()), format!("{folder}/preview/{preview}.zip")),
        None => (Component::Site(site.clone()), format!("{folder}/{name}.zip")),
    }
}

/// The zip to upload, checked, and how many files are in it.
fn prepare(source: &Path, screen: &Screen) -> Result<(Zip, usize), Problem> {
    let here = source.display();
    let unreadable = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => Problem::new("there is no such file or folder").at(source.display()),
        _ => Problem::new(format!("this cannot be read: {error}")).at(source.display()),
    };
    let is_folder = fs::metadata(source).map_err(unreadable)?.is_dir();
    let file = if is_folder {
        let bar = screen.draw_bytes("packing", 0);
        let packed = pack::pack(source, |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        })?;
        screen.cleared();
        if !packed.left_out.is_empty() {
            screen.note(format!("left out: {}", shortened(&packed.left_out)));
        }
        packed.file
    } else {
        File::open(source).map_err(unreadable)?
    };
    let bar = screen.draw_bytes("checking", 0);
    let contents = archive::check(&file, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    screen.cleared();
    let contents = contents.map_err(|refusal| {
        let name = refusal.archive().name();
        Problem::rejected(format!("{refusal} ({name})")).at(here)
    })?;
    if let Some(folder) = &contents.stripped {
        screen.note(format!("everything is in the folder `{folder}`, which is left away"));
    }
    if let Some((one, other)) = &contents.twins {
        screen.note(format!("`{one}` and `{other}` differ by case only; URLs tell them apart, many disks do not"));
    }
    let zip = Zip::read(file).map_err(unreadable)?;
    let site: u64 = contents.files.iter().map(|file| file.size).sum();
    screen.line(format!(
        "{}: {}, {}, {} as a zip",
        source.display(),
        count(contents.files.len(), "file"),
        screen::size(site),
        screen::size(zip.size)
    ));
    Ok((zip, contents.files.len()))
}

/// The first few of many.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// What is needed to follow the release, where it may be read. An upload that nobody takes is refused.
async fn follower(
    installation: &Installation,
    place: &Place,
    site: &ComponentName,
) -> Result<(Store, EnvironmentRecord), Problem> {
    let store = installation.store().await?;
    let (record, manifest) = store.applied(&place.app, &place.environment).await?;
    if manifest.spec.sites.contains_key(site) {
        return Ok((store, record));
    }
    let known: Vec<_> = manifest.spec.sites.keys().map(|name| format!("`{name}`")).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(Problem::rejected(format!("the manifest that {place} stands by has no site `{site}`; its sites: {known}"))
        .at(place)
        .remedy("name the site in the manifest, upload that, and publish when its platform stands"))
}

async fn send(
    installation: &Installation,
    bucket: &str,
    key: &str,
    zip: &Zip,
    screen: &Screen,
) -> Result<Artifact, Problem> {
    let began = std::time::Instant::now();
    let bar = screen.draw_bytes("uploading", zip.size);
    let artifact = upload::upload(&installation.s3(), bucket, key, zip, |bytes| bar.inc(bytes)).await;
    screen.cleared();
    let artifact = artifact?;
    screen.line(format!("uploaded s3://{bucket}/{key} in {:.1} s", began.elapsed().as_secs_f32()));
    Ok(artifact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zip_goes_where_start_release_looks_for_it() {
        let place = Place { app: "hello".parse().unwrap(), environment: "prod".parse().unwrap() };
        let target = |preview: &str| {
            let (component, key) = target(&place, &"web".parse().unwrap(), preview.parse().ok().as_ref(), "1a2b3c");
            format!("{component} {key}")
        };
        assert_eq!(target(""), "site/web sites/hello/prod/web/1a2b3c.zip");
        assert_eq!(target("pr-12"), "preview/web/pr-12 sites/hello/prod/web/preview/pr-12.zip");
    }

    #[test]
    fn many_names_are_shortened() {
        let names: Vec<String> = ('a'..='g').map(String::from).collect();
        assert_eq!(shortened(&names), "a, b, c, d, e and 2 more");
        assert_eq!(shortened(&names[..2]), "a, b");
    }
}
