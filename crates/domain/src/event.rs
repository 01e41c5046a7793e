//! From an EventBridge event to what was delivered, or to the reason why nothing was.
//!
//! Events come twice, out of order, from elsewhere, with fields that nobody announced. So only what is needed is read, and
//! everything that is needed is checked: who sent it, that it is a delivery, that its key is one of ours.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    name::{AppName, Component, Digest, EnvironmentName, RepositoryName},
    release::{Artifact, Order},
};

/// What an event announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announced {
    /// An image was pushed under a tag.
    Image {
        /// The repository.
        repository: RepositoryName,
        /// The image.
        digest: Digest,
        /// The tag.
        tag: String,
    },
    /// A manifest was uploaded.
    Manifest {
        /// The app whose it is.
        app: AppName,
        /// The environment it is for.
        environment: EnvironmentName,
        /// The object.
        object: Delivered,
    },
    /// A site's zip was uploaded.
    Zip {
        /// The app.
        app: AppName,
        /// The environment.
        environment: EnvironmentName,
        /// The site, or the preview of one.
        component: Component,
        /// The object.
        object: Delivered,
    },
}

/// One version of an object in the intake bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Key and version.
    pub artifact: Artifact,
    /// When it came.
    pub order: Order,
}

/// Where Shipway runs: events from elsewhere mean nothing to it.
#[derive(Clone, Debug)]
pub struct Home {
    /// The AWS account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The intake bucket.
    pub intake_bucket: String,
}

/// Why an event leads to nothing. Each is said once, in the log and in the function's answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// A field is missing or of the wrong type.
    #[error("the event has no usable `{0}`")]
    Malformed(&'static str),
    /// Another account's or region's event.
    #[error("the event comes from {0}, not from here")]
    Foreign(String),
    /// An event that delivers nothing.
    #[error("{0} delivers nothing")]
    NotADelivery(String),
    /// ECR reports a push that failed.
    #[error("ECR reports the push to {repository} as {result}")]
    PushFailed {
        /// The repository.
        repository: String,
        /// ECR's word.
        result: String,
    },
    /// A part of an image: a platform's child, an attestation, a signature.
    #[error("{0} was pushed without a tag: it is a part of another image")]
    Untagged(String),
    /// The key is not one that the intake bucket takes.
    #[error("the key `{key}` is refused: {rule}")]
    Key {
        /// The key, cut to a readable length.
        key: String,
        /// What a key must be.
        rule: String,
    },
}

/// Reads an event.
///
/// # Errors
/// Why it leads to nothing.
pub fn read(event: &Value, home: &Home) -> Result<Announced, Ignored> {
    let source = text(event, "/source", "source")?;
    let kind = text(event, "/detail-type", "detail-type")?;
    let account = text(event, "/account", "account")?;
    if account != home.account {
        return Err(Ignored::Foreign(format!("account {}", cut(account))));
    }
    let region = text(event, "/region", "region")?;
    if region != home.region {
        return Err(Ignored::Foreign(format!("region {}", cut(region))));
    }
    match (source, kind) {
        ("aws.ecr", "ECR Image Action") => image(event),
        ("aws.s3", "Object Created") => object(event, home),
        _ => Err(Ignored::NotADelivery(format!("`{}` of {}", cut(kind), cut(source)))),
    }
}

/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html>
fn image(event: &Value) -> Result<Announced, Ignored> {
    let action = text(event, "/detail/action-type", "detail.action-type")?;
    if action != "PUSH" {
        return Err(Ignored::NotADelivery(format!("the image action {}", cut(action))));
    }
    let repository = text(event, "/detail/repository-name", "detail.repository-name")?;
    let result = text(event, "/detail/result", "detail.result")?;
    if result != "SUCCESS" {
        return Err(Ignored::PushFailed { repository: cut(repository), result: cut(result) });
    }
    let repository = repository.parse().map_err(|_| Ignored::Malformed("detail.repository-name"))?;
    let digest: Digest = text(event, "/detail/image-digest", "detail.image-digest")?
        .parse()
        .map_err(|_| Ignored::Malformed("detail.image-digest"))?;
    match event.pointer("/detail/image-tag") {
        None | Some(Value::Null) => Err(Ignored::Untagged(digest.to_string())),
        Some(Value::String(tag)) if tag.is_empty() => Err(Ignored::Untagged(digest.to_string())),
        // A tag has at most 128 characters.
        Some(Value::String(tag)) if tag.len() <= 128 => Ok(Announced::Image { repository, digest, tag: tag.clone() }),
        Some(_) => Err(Ignored::Malformed("detail.image-tag")),
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>
fn object(event: &Value, home: &Home) -> Result<Announced, Ignored> {
    let bucket = text(event, "/detail/bucket/name", "detail.bucket.name")?;
    if bucket != home.intake_bucket {
        return Err(Ignored::Foreign(format!("the bucket {}", cut(bucket))));
    }
    let key = text(event, "/detail/object/key", "detail.object.key")?;
    let refused = |rule: &str| Ignored::Key { key: cut(key), rule: rule.to_owned() };
    let version = text(event, "/detail/object/version-id", "detail.object.version-id")?;
    if version == "null" || !is_version(version) {
        return Err(Ignored::Malformed("detail.object.version-id"));
    }
    let at: Timestamp = text(event, "/time", "time")?.parse().map_err(|_| Ignored::Malformed("time"))?;
    let sequencer = text(event, "/detail/object/sequencer", "detail.object.sequencer")?;
    if !(1..=64).contains(&sequencer.len()) || !sequencer.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Ignored::Malformed("detail.object.sequencer"));
    }
    let object = Delivered {
        artifact: Artifact::Object { key: key.to_owned(), version: version.to_owned() },
        order: Order { at, sequencer: Some(sequencer.to_owned()) },
    };
    uploaded(key, object).map_err(|rule| refused(&rule))
}

/// What every key of the intake bucket is made of.
pub const KEY_RULE: &str = "a key has 1 to 1,024 letters, digits, `/`, `_`, `.` and `-`";

/// Whether the intake bucket takes such a key. S3's keys have at most 1,024 bytes.
pub fn is_key(text: &str) -> bool {
    (1..=1024).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "/_.-".contains(c))
}

/// What a version's id is made of.
pub const VERSION_RULE: &str = "a version's id has 1 to 1,024 characters that can be seen";

/// Whether S3 makes such version ids: opaque, ready for a URL, at most 1,024 bytes long.
pub fn is_version(text: &str) -> bool {
    (1..=1024).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
}

/// What an object of the intake bucket is, by its key.
///
/// # Errors
/// What its key must be.
pub fn uploaded(key: &str, object: Delivered) -> Result<Announced, String> {
    if !is_key(key) {
        return Err(KEY_RULE.to_owned());
    }
    let named = |error: crate::name::InvalidName| error.to_string();
    match key.split('/').collect::<Vec<_>>()[..] {
        ["apps", app, environment, "shipway.yaml"] => Ok(Announced::Manifest {
            app: app.parse().map_err(named)?,
            environment: environment.parse().map_err(named)?,
            object,
        }),
        ["sites", app, environment, site, file] if file.ends_with(".zip") => Ok(Announced::Zip {
            app: app.parse().map_err(named)?,
            environment: environment.parse().map_err(named)?,
            component: Component::Site(site.parse().map_err(named)?),
            object,
        }),
        ["sites", app, environment, site, "preview", file] if file.ends_with(".zip") => Ok(Announced::Zip {
            app: app.parse().map_err(named)?,
            environment: environment.parse().map_err(named)?,
            component: Component::Preview(
                site.parse().map_err(named)?,
                file[..file.len() - ".zip".len()].parse().map_err(named)?,
            ),
            object,
        }),
        _ => Err("a manifest is apps/<app>/<environment>/shipway.yaml, a site's zip sites/<app>/<environment>/<site>/<name>.zip, a \
                  preview's sites/<app>/<environment>/<site>/preview/<preview>.zip"
            .to_owned()),
    }
}

fn text<'e>(event: &'e Value, pointer: &str, name: &'static str) -> Result<&'e str, Ignored> {
    event.pointer(pointer).and_then(Value::as_str).ok_or(Ignored::Malformed(name))
}

/// Enough of a foreign text to recognise it, and nothing that breaks a log line.
fn cut(text: &str) -> String {
    text.chars().take(120).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn home() -> Home {
        Home { account: "123456789012".into(), region: "us-west-2".into(), intake_bucket: "example-bucket".into() }
    }

    fn recorded(name: &str) -> Value {
        let path = format!("{}/../../tests/fixtures/events/{name}.json", std::env::var("CARGO_MANIFEST_DIR").unwrap());
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn upload(key: &str) -> Value {
        let mut event = recorded("s3-object-created-multipart-versioned");
        event["detail"]["object"]["key"] = json!(key);
        event
    }

    #[test]
    fn a_push_with_a_tag_announces_its_digest() {
        let Announced::Image { repository, digest, tag } = read(&recorded("ecr-push"), &home()).unwrap() else {
            panic!()
        };
        assert_eq!(
            (repository.as_str(), digest.short(), tag.as_str()),
            ("my-repository-name", "7f5b2640fe6f", "latest")
        );
        assert!(
            matches!(read(&recorded("ecr-push-index"), &home()), Ok(Announced::Image { tag, .. }) if tag == "v4-soci")
        );
    }

    #[test]
    fn what_delivers_nothing_is_ignored_with_its_reason() {
        let table = [
            ("ecr-push-untagged-child", "pushed without a tag"),
            ("ecr-delete", "the image action DELETE delivers nothing"),
            ("ecr-scan-complete", "`ECR Image Scan` of aws.ecr delivers nothing"),
            ("ecr-scan-failed", "`ECR Image Scan` of aws.ecr delivers nothing"),
            ("ecs-deployment-completed", "account 111122223333"),
            ("ecs-deployment-failed", "account 111122223333"),
            ("ecs-deployment-rolling-back", "account 111122223333"),
            ("s3-object-created", "the key `IMG_m7fzo3.jpg`"),
            ("s3-object-created-multipart-versioned", "the key `uploads/shop/prod/web/3f1c2a9.zip` is refused"),
        ];
        let files =
            std::fs::read_dir(std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../../tests/fixtures/events").unwrap();
        let names: std::collections::BTreeSet<_> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".json"))
            .collect();
        assert_eq!(names.len(), table.len() + 2, "every recorded event is told here: {names:?}");
        for (name, reason) in table {
            let mut event = recorded(name);
            if name == "s3-object-created" {
                event["detail"]["object"]["version-id"] = json!("v");
            }
            let ignored = read(&event, &home()).unwrap_err().to_string();
            assert!(ignored.contains(reason), "{name}: {ignored}");
        }
    }

    #[test]
    fn ecs_events_of_this_account_deliver_nothing_either() {
        let mut event = recorded("ecs-deployment-completed");
        event["account"] = json!("123456789012");
        assert!(matches!(read(&event, &home()), Err(Ignored::NotADelivery(_))));
    }

    #[test]
    fn a_failed_push_is_told_as_such() {
        let mut event = recorded("ecr-push");
        event["detail"]["result"] = json!("FAILURE");
        assert!(matches!(read(&event, &home()), Err(Ignored::PushFailed { .. })));
    }

    #[test]
    fn uploads_are_told_apart_by_their_prefix() {
        assert!(matches!(read(&upload("apps/hello/prod/shipway.yaml"), &home()), Ok(Announced::Manifest { .. })));
        let Announced::Zip { app, environment, component, object } =
            read(&upload("sites/shop/prod/web/3f1c2a9.zip"), &home()).unwrap()
        else {
            panic!()
        };
        assert_eq!((app.as_str(), environment.as_str(), component.to_string().as_str()), ("shop", "prod", "site/web"));
        assert_eq!(object.order.sequencer.as_deref(), Some("006408CAD69598B05F"));
    }

    #[test]
    fn keys_that_are_not_ours_are_refused_by_name() {
        for key in [
            "apps/hello/prod/other.yaml",
            "apps/hello/shipway.yaml",
            "apps/HELLO/prod/shipway.yaml",
            "apps/../prod/shipway.yaml",
            "sites/shop/prod/web/a b.zip",
            "sites/shop/prod/web/deep/a.zip",
            "sites/shop/prod/web/a.tar",
            "sites/shop/prod//a.zip",
            "sites/shop/prod/web/ü.zip",
            "",
            "apps",
        ] {
            assert!(matches!(read(&upload(key), &home()), Err(Ignored::Key { .. })), "{key}");
        }
    }

    #[test]
    fn events_of_another_account_region_or_bucket_mean_nothing() {
        for (pointer, value) in
            [("/account", "999999999999"), ("/region", "eu-west-1"), ("/detail/bucket/name", "other")]
        {
            let mut event = upload("apps/hello/prod/shipway.yaml");
            *event.pointer_mut(pointer).unwrap() = json!(value);
            assert!(matches!(read(&event, &home()), Err(Ignored::Foreign(_))), "{pointer}");
        }
    }

    #[test]
    fn a_missing_field_is_named() {
        for pointer in ["source", "detail-type", "account", "region", "detail", "time"] {
            let mut event = upload("apps/hello/prod/shipway.yaml");
            event.as_object_mut().unwrap().remove(pointer);
            assert!(matches!(read(&event, &home()), Err(Ignored::Malformed(_))), "{pointer}");
        }
        assert!(matches!(
            read(&recorded("s3-object-created"), &home()),
            Err(Ignored::Key { .. } | Ignored::Malformed(_))
        ));
    }

    proptest! {
        #[test]
        fn no_key_makes_reading_panic(key in ".{0,200}") {
            let _ = read(&upload(&key), &home());
        }
    }
}
