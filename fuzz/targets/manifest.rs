//! Manifests: whatever is written is read or refused with its place, and what is read is written down and read again as the
//! same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shipway_domain::manifest::{Spec, read};
use shipway_fuzz::seeds;

fuzz_target!(
    init: seeds::plant(manifests),
    |data: &[u8]| {
        let Ok(text) = std::str::from_utf8(data) else { return };
        let (Ok(app), Ok(environment)) = ("hello".parse(), "prod".parse()) else { return };
        match read(text, &app, &environment) {
            Ok(spec) => {
                let stored = serde_json::to_value(&spec).unwrap_or_else(|error| panic!("{error}"));
                let again: Spec = serde_json::from_value(stored).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(again, spec);
            }
            Err(error) => {
                // YAML has line ends of its own; one more line than there is text is its end.
                let lines = text.split(['\n', '\r']).count();
                assert!((1..=lines + 1).contains(&error.place().line), "{error}: of {lines} lines");
                assert!(error.to_string().len() < 4000, "{error}");
            }
        }
    }
);

fn manifests() -> Vec<Vec<u8>> {
    let texts = [
        include_str!("../../examples/hello/shipway.yaml"),
        include_str!("../../examples/next-nest/shipway.yaml"),
        include_str!("../../examples/dougust/shipway.yaml"),
        include_str!("../../examples/rex/shipway.yaml"),
        include_str!("../../crates/domain/src/manifest/whole/fargate.yaml"),
        include_str!("../../crates/domain/src/manifest/whole/instances.yaml"),
        "version: 1\napp: hello\nsites: {web: {}}\nenvironments: {prod: {}}\n",
        "version: 1\napp: hello\nx-a: &a {cpu: 512}\nservices: {api: {<<: *a, image: {repository: r}, port: 1}}\nenvironments: {prod: {services: {api: {cpu: 1024}}}}\n",
        "version: 1\napp: hello\nnetwork: {vpc: vpc-0123456789abcdef0}\nsites:\n  web: {routing: spa, cache: [{files: \"**/*.html\", control: no-cache}], keep: 3d, redirects: [{from: /a, to: /b}], headers: {x-a: b}}\nenvironments: {prod: {}}\n",
        "a: &a [1, 1]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n",
        "version: 1\nversion: 2\n",
        "? [a]\n: |\n  text\n--- !!str x\n",
    ];
    // As one of the app and the environment that are asked for, so that it is not refused for another's.
    let known = |text: &str| {
        let lines = text.lines().map(|line| if line.starts_with("app: ") { "app: hello" } else { line });
        lines.collect::<Vec<_>>().join("\n").into_bytes()
    };
    texts.into_iter().map(known).collect()
}
