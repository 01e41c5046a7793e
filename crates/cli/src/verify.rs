//! `shipway site verify`: whether a site's bucket holds what the live release says it does.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use aws_sdk_s3::{Client, types::ChecksumMode};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use shipway_aws::AwsError;
use shipway_domain::{
    message::ReleaseInput,
    name::Component,
    release::{ComponentState, Live},
    site::{SiteManifest, SiteObject, manifest_key},
};

use crate::{
    cli::Verify,
    exit::Exit,
    follow::{self, Told},
    installation::{Installation, Output},
    place::Place,
    problem::Problem,
    screen::{self, Screen, count},
    start::start,
};

/// How many objects are asked about at a time.
const AT_A_TIME: usize = 32;

/// How many of a kind of difference are printed. A script gets all.
const PRINTED: usize = 40;

/// Where previews are: under a prefix of their own, each release with its own record.
const PREVIEWS: &str = ".shipway/";

/// What S3 says of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Looked {
    size: u64,
    crc32: Option<String>,
    content_type: Option<String>,
    cache_control: Option<String>,
    encoding: Option<String>,
}

/// One thing about an object that is not as the release left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Difference {
    what: &'static str,
    expected: String,
    found: String,
}

/// An object that is not as the release left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Differing {
    key: String,
    differences: Vec<Difference>,
}

/// An object that no release knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Unknown {
    key: String,
    size: u64,
}

/// What is not as the release left it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Drift {
    missing: Vec<String>,
    differing: Vec<Differing>,
    unknown: Vec<Unknown>,
}

impl Drift {
    fn is_none(&self) -> bool {
        self.missing.is_empty() && self.differing.is_empty() && self.unknown.is_empty()
    }
}

/// Compares a list of the bucket with the record. Answers what that shows, and the objects that S3 has to be asked about.
fn compared<'r>(record: &'r SiteManifest, listed: &BTreeMap<String, u64>) -> (Drift, Vec<(&'r str, &'r SiteObject)>) {
    let retired = record.retired.iter().map(|(key, retired)| (key, retired.object.as_ref()));
    let known: BTreeMap<&str, Option<&SiteObject>> = retired
        .chain(record.objects.iter().map(|(key, object)| (key, Some(object))))
        .map(|(key, object)| (key.as_str(), object))
        .collect();
    // What is deleted after a release may be there still, or not any more.
    let leaving = |key: &str| record.condemned.binary_search_by(|condemned| condemned.as_str().cmp(key)).is_ok();
    let mut drift = Drift::default();
    let mut ask = Vec::new();
    for (key, object) in &known {
        match (listed.get(*key), object) {
            _ if leaving(key) => {}
            (None, _) => drift.missing.push((*key).to_owned()),
            (Some(size), Some(object)) if *size != object.size => {
                let differences = difference("size", &object.size.to_string(), &size.to_string()).into_iter().collect();
                drift.differing.push(Differing { key: (*key).to_owned(), differences });
            }
            (Some(_), Some(object)) => ask.push((*key, *object)),
            (Some(_), None) => {}
        }
    }
    let unknown = listed
        .iter()
        .filter(|(key, _)| !known.contains_key(key.as_str()) && !leaving(key) && !key.starts_with(PREVIEWS));
    drift.unknown.extend(unknown.map(|(key, size)| Unknown { key: key.clone(), size: *size }));
    (drift, ask)
}

fn difference(what: &'static str, expected: &str, found: &str) -> Option<Difference> {
    let differs = expected != found;
    differs.then(|| Difference { what, expected: expected.to_owned(), found: found.to_owned() })
}

/// How an object differs from what the release left.
fn differences(object: &SiteObject, looked: &Looked) -> Vec<Difference> {
    let crc32 = BASE64_STANDARD.encode(object.crc32.to_be_bytes());
    let given = |header: &Option<String>| header.clone().unwrap_or_default();
    [
        difference("size", &object.size.to_string(), &looked.size.to_string()),
        difference("crc32", &crc32, &given(&looked.crc32)),
        difference("content-type", &object.headers.content_type, &given(&looked.content_type)),
        difference("cache-control", &object.headers.cache_control, &given(&looked.cache_control)),
        difference("content-encoding", &given(&object.headers.encoding), &given(&looked.encoding)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Verifies a site's bucket.
pub(crate) async fn run(asked: &Verify, installation: &Installation, screen: &Screen) -> Result<Exit, Problem> {
    let (place, site) = asked.place.site(asked.site.as_ref())?;
    let Place { app, environment } = &place;
    let component = Component::Site(site.clone());
    let store = installation.store().await?;
    let (record, _) = store.applied(app, environment).await?;
    let outputs = record.platform.sites.get(&site).ok_or_else(|| {
        Problem::rejected(format!("{place} has no site `{site}`"))
            .at(&place)
            .remedy("name it in the manifest and upload that")
    })?;
    let state = store.component(app, environment, &component).await?;
    let live = state.live.clone().ok_or_else(|| {
        Problem::new("nothing was ever published, so there is nothing to compare the bucket with")
            .at(format!("{component} of {place}"))
            .remedy("publish with `shipway publish`")
    })?;
    warn(screen, &state);

    let verifier = Verifier { s3: installation.s3(), screen, bucket: &outputs.bucket };
    let key = manifest_key(app, environment, &component, &live.release);
    let intake = installation.output(Output::Bucket).await?;
    let (exit, mut document) = match verifier.record(&intake, &key).await? {
        Ok(manifest) => {
            let drift = verifier.drift(&manifest).await?;
            told(screen, &live, &manifest, &drift);
            let exit = if drift.is_none() { Exit::Done } else { Exit::Drift };
            (
                exit,
                json!({"live": live, "objects": manifest.objects.len(), "kept": manifest.retired.len(), "drift": drift}),
            )
        }
        Err(why) => {
            screen.note(format!("what {} wrote down of the bucket {why}: s3://{intake}/{key}", live.release));
            (Exit::Drift, json!({"live": live, "record": why, "drift": null}))
        }
    };
    if exit == Exit::Done || !asked.repair {
        if exit == Exit::Drift {
            screen.line("`--repair` publishes what is live again and writes every file");
        }
        screen.document(&document);
        return Ok(exit);
    }
    let input = ReleaseInput {
        app: app.clone(),
        environment: environment.clone(),
        component: component.clone(),
        artifact: live.artifact,
        repair: true,
    };
    screen.line(format!("publishes {} again", input.artifact));
    let tracked = start(installation, &input, "repair").await?;
    let release = follow::follow(screen, &store, &place, &component, tracked).await?;
    let url = follow::url(&record, &component);
    let exit = follow::ended(screen, &release, url.as_deref());
    document["release"] = json!(Told::new(&release, url.as_deref(), Timestamp::now()));
    screen.document(&document);
    Ok(exit)
}

/// Says why drift may be nobody's fault.
fn warn(screen: &Screen, state: &ComponentState) {
    if let Some(claim) = state.claim.as_ref().filter(|claim| claim.until > Timestamp::now()) {
        screen.note(format!("{} is under way: what it writes shows as a difference", claim.release));
    } else if !state.unfinished.is_empty() {
        let releases: Vec<_> = state.unfinished.iter().map(ToString::to_string).collect();
        screen.note(format!("did not end well, and may have left files: {}", releases.join(", ")));
    }
}

fn told(screen: &Screen, live: &Live, record: &SiteManifest, drift: &Drift) {
    screen.line(format!(
        "{} by {}: {}, and {} kept of earlier releases",
        live.artifact,
        live.release,
        count(record.objects.len(), "object"),
        record.retired.len()
    ));
    let lines = |kind: &str, count: usize, lines: &mut dyn Iterator<Item = String>| {
        lines.take(PRINTED).for_each(|line| screen.line(format!("  {kind:<8} {line}")));
        if count > PRINTED {
            screen.line(format!("  {kind:<8} … and {} more; --json lists all", count - PRINTED));
        }
    };
    lines("missing", drift.missing.len(), &mut drift.missing.iter().cloned());
    lines(
        "differs",
        drift.differing.len(),
        &mut drift.differing.iter().map(|differing| {
            let differences: Vec<_> = differing
                .differences
                .iter()
                .map(|difference| {
                    format!("{} is `{}`, should be `{}`", difference.what, difference.found, difference.expected)
                })
                .collect();
            format!("{}: {}", differing.key, differences.join("; "))
        }),
    );
    lines(
        "unknown",
        drift.unknown.len(),
        &mut drift.unknown.iter().map(|unknown| format!("{} ({})", unknown.key, screen::size(unknown.size))),
    );
    screen.line(if drift.is_none() {
        "everything is there, and as it was published".to_owned()
    } else {
        format!("{} missing, {} differing, {} unknown", drift.missing.len(), drift.differing.len(), drift.unknown.len())
    });
}

struct Verifier<'a> {
    s3: Client,
    screen: &'a Screen,
    bucket: &'a str,
}

impl Verifier<'_> {
    /// The record of a release, or why there is none to go by.
    async fn record(&self, intake: &str, key: &str) -> Result<Result<SiteManifest, String>, Problem> {
        let place = format!("s3://{intake}/{key}");
        let got = self.s3.get_object().bucket(intake).key(key).send().await.map_err(AwsError::of("s3:GetObject"));
        let got = match got {
            Ok(got) => got,
            Err(error) if error.is("NoSuchKey") => return Ok(Err("is not there".to_owned())),
            Err(error) => return Err(Problem::from(error).at(place)),
        };
        let text = got.body.collect().await;
        let text = text.map_err(|error| Problem::from(AwsError::broken_off("s3:GetObject", &error)).at(place))?;
        Ok(serde_json::from_slice(&text.into_bytes()).map_err(|error| format!("cannot be read ({error})")))
    }

    async fn drift(&self, record: &SiteManifest) -> Result<Drift, Problem> {
        let listed = self.listed().await?;
        let (mut drift, ask) = compared(record, &listed);
        let bar = self.screen.draw_count("asking S3", ask.len() as u64);
        let stopped = AtomicBool::new(false);
        let looks = stream::iter(ask).map(|(key, object)| {
            let (bar, stopped) = (&bar, &stopped);
            async move {
                if stopped.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let looked = self.look(key).await.inspect_err(|_| stopped.store(true, Ordering::Relaxed))?;
                bar.inc(1);
                Ok::<_, Problem>(Some((key, object, looked)))
            }
        });
        let looked: Vec<_> = looks.buffered(AT_A_TIME).try_collect().await?;
        self.screen.cleared();
        for (key, object, looked) in looked.into_iter().flatten() {
            match looked {
                None => drift.missing.push(key.to_owned()),
                Some(looked) => {
                    let differences = differences(object, &looked);
                    if !differences.is_empty() {
                        drift.differing.push(Differing { key: key.to_owned(), differences });
                    }
                }
            }
        }
        drift.missing.sort_unstable();
        drift.differing.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(drift)
    }

    /// Every key in the bucket with its size.
    async fn listed(&self) -> Result<BTreeMap<String, u64>, Problem> {
        let bar = self.screen.draw_waiting("listing the bucket");
        let mut pages = self.s3.list_objects_v2().bucket(self.bucket).into_paginator().send();
        let mut listed = BTreeMap::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(AwsError::of("s3:ListBucket"));
            let page = page.map_err(|error| Problem::from(error).at(format!("s3://{}", self.bucket)))?;
            let objects = page.contents.unwrap_or_default().into_iter();
            listed.extend(objects.filter_map(|object| {
                Some((object.key?, object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default()))
            }));
            bar.set_message(format!("listing the bucket: {}", count(listed.len(), "object")));
        }
        self.screen.cleared();
        Ok(listed)
    }

    /// What S3 says of an object; nothing where it went away meanwhile.
    async fn look(&self, key: &str) -> Result<Option<Looked>, Problem> {
        let head = self.s3.head_object().bucket(self.bucket).key(key).checksum_mode(ChecksumMode::Enabled).send().await;
        let head = match head {
            Ok(head) => head,
            Err(error) => {
                // An answer to HEAD has no body, and so neither code nor message.
                let status = error.raw_response().map(|response| response.status().as_u16());
                let problem = match status {
                    Some(404) => return Ok(None),
                    Some(403) => Problem::denied("s3:GetObject was refused"),
                    _ => AwsError::of("s3:GetObject")(error).into(),
                };
                return Err(problem.at(format!("s3://{}/{key}", self.bucket)));
            }
        };
        Ok(Some(Looked {
            size: head.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
            crc32: head.checksum_crc32,
            content_type: head.content_type,
            cache_control: head.cache_control,
            encoding: head.content_encoding.filter(|encoding| !encoding.is_empty()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shipway_domain::site::{Headers, Retired};

    use super::*;
    use crate::follow::tests::{at, id};

    fn object(size: u64) -> SiteObject {
        let headers = Headers {
            content_type: "text/css; charset=utf-8".to_owned(),
            cache_control: "no-cache".to_owned(),
            encoding: None,
        };
        SiteObject { crc32: 0xcbf4_3926, size, sha256: None, headers: Arc::new(headers), file: None }
    }

    fn record() -> SiteManifest {
        let mut record = SiteManifest { condemned: vec!["gone.js".to_owned()], ..SiteManifest::default() };
        record.objects.insert("index.html".to_owned(), object(5));
        record.objects.insert("a.css".to_owned(), object(9));
        let retired = |object| Retired { object, last: Some(id(1)), since: at(1) };
        record.retired.insert("old.css".to_owned(), retired(Some(object(7))));
        record.retired.insert("once-unknown.txt".to_owned(), retired(None));
        record.retired.insert("gone.js".to_owned(), retired(Some(object(3))));
        record
    }

    fn listed(objects: &[(&str, u64)]) -> BTreeMap<String, u64> {
        objects.iter().map(|(key, size)| ((*key).to_owned(), *size)).collect()
    }

    const WHOLE: [(&str, u64); 4] = [("index.html", 5), ("a.css", 9), ("old.css", 7), ("once-unknown.txt", 1)];

    #[test]
    fn a_bucket_that_is_as_the_release_left_it_shows_no_drift() {
        let record = record();
        for more in [&[][..], &[("gone.js", 3)], &[(".shipway/preview/pr-1/x/index.html", 4)]] {
            let (drift, ask) = compared(&record, &listed(&[&WHOLE[..], more].concat()));
            assert!(drift.is_none(), "{drift:?}");
            assert_eq!(ask.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["a.css", "index.html", "old.css"]);
        }
    }

    #[test]
    fn what_is_missing_of_another_size_or_unknown_is_told() {
        let record = record();
        let (drift, ask) = compared(&record, &listed(&[("index.html", 6), ("old.css", 7), ("hacked.html", 2)]));
        assert_eq!(drift.missing, ["a.css", "once-unknown.txt"]);
        assert_eq!(drift.differing.len(), 1);
        assert_eq!(drift.differing[0].key, "index.html");
        assert_eq!(drift.differing[0].differences[0].what, "size");
        assert_eq!(drift.unknown, [Unknown { key: "hacked.html".to_owned(), size: 2 }]);
        assert_eq!(ask.len(), 1);
    }

    #[test]
    fn checksum_and_headers_are_compared() {
        let good = Looked {
            size: 9,
            crc32: Some("y/Q5Jg==".to_owned()),
            content_type: Some("text/css; charset=utf-8".to_owned()),
            cache_control: Some("no-cache".to_owned()),
            encoding: None,
        };
        assert!(differences(&object(9), &good).is_empty());
        let some = |text: &str| Some(text.to_owned());
        let table = [
            (Looked { size: 8, ..good.clone() }, "size"),
            (Looked { crc32: some("AAAAAA=="), ..good.clone() }, "crc32"),
            (Looked { crc32: None, ..good.clone() }, "crc32"),
            (Looked { content_type: some("text/plain"), ..good.clone() }, "content-type"),
            (Looked { cache_control: None, ..good.clone() }, "cache-control"),
            (Looked { encoding: some("br"), ..good.clone() }, "content-encoding"),
        ];
        for (looked, what) in table {
            let found = differences(&object(9), &looked);
            assert_eq!(found.iter().map(|difference| difference.what).collect::<Vec<_>>(), [what]);
        }
    }
}
