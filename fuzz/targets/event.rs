//! What is not Shipway's own: an event is read or ignored, an execution's input read or refused, and what is read is what it says.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use shipway_domain::event::{Announced, Delivered, Home, read};
use shipway_domain::message::{self, DriftInput, PassInput, RecordRequest, ReleaseInput, TeardownInput};
use shipway_domain::release::Artifact;
use shipway_fuzz::seeds;

fuzz_target!(
    init: seeds::plant(events),
    |data: &[u8]| {
        let Ok(event) = serde_json::from_slice::<Value>(data) else { return };
        reads_as_it_is::<ReleaseInput>(&event);
        reads_as_it_is::<TeardownInput>(&event);
        reads_as_it_is::<DriftInput>(&event);
        reads_as_it_is::<RecordRequest>(&event);
        reads_as_it_is::<PassInput<String>>(&event);
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).map(str::to_owned);
        match read(&event, &home()) {
            Ok(Announced::Image { repository, digest, tag }) => {
                assert_eq!(text("/detail/repository-name").as_deref(), Some(repository.as_str()));
                assert_eq!(text("/detail/image-digest").as_deref(), Some(digest.as_str()));
                assert_eq!(text("/detail/image-tag"), Some(tag));
            }
            Ok(Announced::Manifest { app, environment, object }) => {
                assert_eq!(key(&object), format!("apps/{app}/{environment}/shipway.yaml"));
                assert_eq!(text("/detail/object/key").as_deref(), Some(key(&object)));
            }
            Ok(Announced::Zip { app, environment, object, .. }) => {
                let key = key(&object);
                assert!(key.starts_with(&format!("sites/{app}/{environment}/")) && key.ends_with(".zip"), "{key}");
                assert_eq!(text("/detail/object/key").as_deref(), Some(key));
            }
            // Whatever was wrong is told, and the telling is short.
            Err(ignored) => assert!(ignored.to_string().len() < 2000, "{ignored}"),
        }
    }
);

/// What is read says the same once it is written; what is wrong with anything else is told in short and in one line.
fn reads_as_it_is<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &Value) {
    match message::read::<T>(value) {
        Ok(input) => {
            let written = serde_json::to_value(&input).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(message::read::<T>(&written).as_ref(), Ok(&input));
        }
        Err(error) => {
            let error = error.to_string();
            assert!(!error.is_empty() && error.len() < 3000 && !error.contains(char::is_control), "{error:?}");
        }
    }
}

fn key(object: &Delivered) -> &str {
    match &object.artifact {
        Artifact::Object { key, .. } => key,
        other @ (Artifact::Image { .. } | Artifact::Public { .. } | Artifact::Nothing) => panic!("an object is not {other}"),
    }
}

fn home() -> Home {
    Home {
        account: "111122223333".to_owned(),
        region: "us-east-1".to_owned(),
        intake_bucket: "shipway-intake".to_owned(),
    }
}

fn events() -> Vec<Vec<u8>> {
    let envelope = |source: &str, kind: &str, detail: &str| {
        format!(
            r#"{{"version":"0","id":"a","detail-type":"{kind}","source":"{source}","account":"111122223333","time":"2026-11-21T03:15:42Z","region":"us-east-1","resources":[],"detail":{detail}}}"#
        )
        .into_bytes()
    };
    let object = |key: &str| {
        let detail = format!(
            r#"{{"version":"0","bucket":{{"name":"shipway-intake"}},"object":{{"key":"{key}","size":9,"etag":"e","version-id":"v1","sequencer":"00617F08299329D189"}},"request-id":"r","requester":"1","reason":"PutObject"}}"#
        );
        envelope("aws.s3", "Object Created", &detail)
    };
    let image = |action: &str, tag: &str| {
        let detail = format!(
            r#"{{"action-type":"{action}","result":"SUCCESS","repository-name":"hello/api","image-digest":"sha256:{}","image-tag":"{tag}"}}"#,
            "0123456789abcdef".repeat(4)
        );
        envelope("aws.ecr", "ECR Image Action", &detail)
    };
    let release = |component: &str, artifact: &str| {
        format!(r#"{{"app":"hello","environment":"prod","component":"{component}","artifact":{artifact},"repair":true}}"#)
    };
    let execution = r#"{"arn":"a","name":"n","started_at":"2026-11-21T03:15:42Z"}"#;
    let run = r#"{"app":"hello","environment":"prod","component":"site/web","artifact":{"object":{"key":"k","version":"v"}},"release":"20261121T031542123-3f9c2a","fence":1}"#;
    vec![
        object("apps/hello/prod/shipway.yaml"),
        object("sites/hello/prod/web/1.zip"),
        object("sites/hello/prod/web/preview/pr-7.zip"),
        object("sites/hello/prod/web/../1.zip"),
        image("PUSH", "v1"),
        image("PUSH", ""),
        image("DELETE", "v1"),
        envelope("aws.ecs", "ECS Deployment State Change", "{}"),
        release("platform", r#"{"object":{"key":"apps/hello/prod/shipway.yaml","version":"v1"}}"#).into_bytes(),
        release("service/api", r#"{"image":{"repository":"hello/api","digest":"sha256:01"}}"#).into_bytes(),
        release("preview/web/pr-7", r#""nothing""#).into_bytes(),
        br#"{"app":"hello","environment":"prod","confirm":"hello/prod"}"#.to_vec(),
        br#"{"app":"hello","environment":"prod"}"#.to_vec(),
        format!(r#"{{"action":"begin","machine":"rollout","execution":{execution},"input":{{}}}}"#).into_bytes(),
        format!(r#"{{"action":"end","run":{run},"result":{{"Error":"Bug","Cause":"c"}},"kept":[{{"what":"w"}}]}}"#).into_bytes(),
        format!(r#"{{"action":"ask_approval","run":{run},"token":"t","seconds":60}}"#).into_bytes(),
        format!(r#"{{"action":"drift","execution":{execution},"input":{{}},"found":[{{"differences":[{{"of":"o","what":"w"}}]}}]}}"#)
            .into_bytes(),
        format!(r#"{{"action":"sync","run":{run}}}"#).into_bytes(),
    ]
}
