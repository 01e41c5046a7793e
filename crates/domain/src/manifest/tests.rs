use std::fmt::Write as _;

use super::*;
use crate::rollout::shift::Shift;

const HELLO: &str = include_str!("../../../../examples/hello/shipway.yaml");

/// Every example.
const EXAMPLES: [&str; 6] = [
    HELLO,
    include_str!("../../../../examples/next-nest/shipway.yaml"),
    include_str!("../../../../examples/spa-nest/shipway.yaml"),
    include_str!("../../../../examples/dougust/shipway.yaml"),
    include_str!("../../../../examples/fastapi-react/shipway.yaml"),
    include_str!("../../../../examples/rex/shipway.yaml"),
];

fn read_for(text: &str, environment: &str) -> Result<Spec, ManifestError> {
    read(text, &"hello".parse().unwrap(), &environment.parse().unwrap())
}

fn minimal(more: &str) -> String {
    format!(
        "version: 1\napp: hello\nenvironments: {{prod: {{}}}}\nservices:\n  api:\n    image: {{repository: hello-api}}\n{more}"
    )
}

fn mistake(text: &str) -> String {
    read_for(text, "prod").unwrap_err().to_string()
}

#[test]
fn the_examples_are_read() {
    for example in EXAMPLES {
        let environments = read_all(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        let names: Vec<_> = environments.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["dev", "prod"]);
        assert!(environments.iter().all(|(_, spec)| !spec.services.is_empty() && !spec.sites.is_empty()));
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_what_was_meant() {
    assert_eq!(
        mistake(&minimal("    memroy: 512\n")),
        "line 7, column 5: services.api.memroy: `memroy` is not a key that is known here; did you mean `memory`?"
    );
}

#[test]
fn every_mistake_is_told_with_line_column_and_path() {
    let table: &[(&str, &str)] = &[
        ("    cpu: lots\n", "line 7, column 10: services.api.cpu: a whole number is expected here, not `lots`"),
        ("    cpu: \"512\"\n", "services.api.cpu: a whole number is expected here, not `512`"),
        ("    cpu: 300\n", "line 7, column 10: services.api.cpu: Fargate has no 300 CPU units"),
        ("    memory: 3000\n", "services.api.memory: Fargate has no 3000 MiB with 256 CPU units"),
        ("    http: {path: /api/*}\n", "services.api.http: `port` is missing"),
        ("    port: 80\n    http: {path: api}\n", "services.api.http.path: `api` is not a path pattern"),
        ("    port: 70000\n", "services.api.port: a whole number from 0 to 65535 is expected here"),
        ("    env: [A]\n", "services.api.env: a mapping is expected here, not a list"),
        ("    env: {A-B: x}\n", "`A-B` is not the name of an environment variable"),
        ("    env: {A: x}\n    secrets: {A: {ssm: /a}}\n", "services.api.secrets.A: `A` is in `env` too"),
        ("    secrets: {A: {ssm: a}}\n", "services.api.secrets.A: `/path` is expected here"),
        ("    secrets: {A: {vault: a}}\n", "`vault` is not one of `secretsmanager`, `ssm`"),
        ("    secrets: {A: geheim}\n", "services.api.secrets.A: a secret is never written here but named"),
        ("    migrate: {}\n", "services.api.migrate: `command` is missing"),
        (
            "    migrate: {command: [a], timeout: 10}\n",
            "services.api.migrate.timeout: `10` is not a duration with its unit",
        ),
        ("    image: {repository: twice}\n", "line 7, column 5: image: `image` is here for the second time"),
        (
            "  web:\n    image: {repository: UPPER}\n",
            "services.web.image.repository: `UPPER` is not a repository's name",
        ),
        ("  Web:\n    image: {repository: web}\n", "services.Web: `Web` is not a component's name"),
        (
            "  a:\n    image: {repository: web}\n    port: 80\n    http: {}\n  b:\n    image: {repository: web}\n    port: 80\n    http: {}\n",
            "services.b.http.path: `a` has the same path already",
        ),
        (
            "network: {cidr: 10.0.0.1/16}\n",
            "network.cidr: 10.0.0.1/16 does not start on its own boundary; 10.0.0.0/16 does",
        ),
        ("network: {cidr: 10.0.0.0/8}\n", "network.cidr: 10.0.0.0/8 is outside /16 to /24"),
        ("network: {vpc: default, azs: 2}\n", "network.vpc: a VPC that is there has its own range"),
        ("network: {azs: 1}\n", "network.azs: 2 or 3 zones"),
        ("sites: {web: {routing: hash}}\n", "sites.web.routing: `hash` is not one of `clean`, `spa`"),
        ("sites: {web: {cache: [{files: \"[\", control: no-cache}]}}\n", "sites.web.cache[0].files: `[` is not a glob"),
        (
            "sites: {web: {cache: [{files: \"*\", control: \"a\\nb\"}]}}\n",
            "sites.web.cache[0].control: a Cache-Control header",
        ),
        ("? [a]\n: b\n", "a key is a plain text"),
        ("--- \n", "a second one"),
        ("bad: [\n", "this is not YAML"),
        ("x: *nothing\n", "this is not YAML"),
    ];
    for (more, expected) in table {
        let said = mistake(&minimal(more));
        assert!(said.contains(expected), "{more}\n  said:     {said}\n  expected: {expected}");
        assert!(said.starts_with("line ") && !said.starts_with("line 0"), "{said}");
    }
}

#[test]
fn every_mistake_in_a_site_is_told_with_line_column_and_path() {
    let long = format!("{{from: /{}, to: /b}}", "a".repeat(480));
    let many: Vec<String> = (0..8).map(|n| long.replace("/a", &format!("/{n}a"))).collect();
    let many = format!("redirects: [{}]", many.join(", "));
    let table: &[(&str, &str)] = &[
        ("routing: hash", "routing: `hash` is not one of `clean`, `spa`"),
        ("trailing_slash: sometimes", "trailing_slash: `sometimes` is not one of `never`, `always`"),
        ("routing: spa, trailing_slash: never", "trailing_slash: with `routing: spa` the page itself"),
        ("keep: 7", "keep: `7` is not a duration with its unit, like 12h or 7d"),
        ("keep: 0d", "keep: 0d is outside 1h to 3653d"),
        ("keep: 400d", "keep: 400d is more than 365d"),
        ("previews: 5m", "previews: `5m` is not a duration"),
        ("releases: 0", "releases: 1 to 20 releases are kept"),
        ("releases: 21", "releases: 1 to 20 releases are kept"),
        ("verify: md5", "verify: `md5` is not one of `crc32`, `sha256`"),
        ("config: [a]", "config: a mapping is expected here, not a list"),
        ("precompressed: maybe", "precompressed: `true` or `false` is expected here"),
        ("backend: [/*]", "backend[0]: `/*` is not a path pattern like /api/*"),
        ("backend: [api]", "backend[0]: `api` is not a path pattern"),
        ("backend: [/a, /a]", "backend[1]: `/a` is here twice"),
        ("backend: [/a, /b, /c, /d, /e]", "backend: at most 4 paths"),
        (
            "redirects: [{from: '/a*', to: 'https://b.example*'}]",
            "redirects[0].to: `https://b.example*` would let the path choose the host",
        ),
        ("redirects: [{from: old, to: /new}]", "redirects[0].from: `old` is not a path like /old"),
        ("redirects: [{from: //old, to: /new}]", "redirects[0].from: `//old` is not a path"),
        ("redirects: [{from: /old, to: //evil.example}]", "redirects[0].to: `//evil.example` is not a path like /new"),
        ("redirects: [{from: /old, to: \"http://a.example\"}]", "redirects[0].to: `http://a.example` is not a path"),
        ("redirects: [{from: /o*d, to: /new}]", "redirects[0].from: a `*` stands at the end"),
        ("redirects: [{from: /old, to: /new/*}]", "redirects[0].to: a `*` stands at the end, where `from` has one"),
        ("redirects: [{from: /a, to: /a}]", "redirects[0].to: `/a` would lead to itself"),
        ("redirects: [{from: /a, to: /b, status: 200}]", "redirects[0].status: 200 is not one of 301, 302, 307, 308"),
        ("redirects: [{from: /a, to: /b}, {from: /a, to: /c}]", "redirects[1].from: `/a` leads somewhere else"),
        (&many, "redirects: redirects and headers need"),
        ("headers: {\"X Y\": a}", "headers.X Y: the name and the text of a header"),
        ("headers: {Content-Type: a}", "headers.Content-Type: `Content-Type` is not a header that a site can set"),
        ("headers: {Set-Cookie: a}", "headers.Set-Cookie: `Set-Cookie` is not a header that a site can set"),
        ("headers: {X-Amz-Meta-A: a}", "headers.X-Amz-Meta-A: `X-Amz-Meta-A` is not a header"),
        ("headers: {X-A: a, x-a: b}", "headers.x-a: `x-a` is here twice"),
    ];
    for (site, expected) in table {
        let said = mistake(&minimal(&format!("    port: 80\n    http: {{}}\nsites: {{web: {{{site}}}}}\n")));
        let expected = format!("sites.web.{expected}");
        assert!(said.contains(&expected), "{site}\n  said:     {said}\n  expected: {expected}");
        assert!(said.starts_with("line 9, "), "{said}");
    }
    let said = mistake(&minimal("sites: {web: {backend: [/api/*]}}\n"));
    assert!(said.contains("sites.web.backend: no service has `http`"), "{said}");
}

#[test]
fn a_site_that_says_nothing_has_everything_it_needs() {
    let spec = read_for(&minimal("sites: {web: {}}\n"), "prod").unwrap();
    let site = spec.sites.into_values().next().unwrap();
    assert_eq!((site.routing, site.trailing_slash, site.verify), (None, None, spec::Verify::Crc32));
    assert_eq!((site.keep.days(), site.releases, site.previews.days()), (7, 10, 14));
}

#[test]
fn what_is_missing_at_the_top_is_told() {
    assert!(mistake("").contains("the manifest is empty"));
    assert!(mistake("version: 1\napp: hello\n").contains("add `environments: {prod: {}}`"));
    assert!(mistake("version: 1\napp: hello\nenvironments: {prod: {}}\n").contains("there is nothing to deploy"));
    assert!(mistake("version: 2\napp: hello\nenvironments: {prod: {}}\n").contains("version 2 is not known"));
    assert!(
        mistake(&minimal("").replace("app: hello", "app: other")).contains("upload it as apps/other/prod/shipway.yaml")
    );
    assert!(read_for(&minimal(""), "dev").unwrap_err().to_string().contains("named: prod"));
}

#[test]
fn an_app_has_no_more_services_than_one_transaction_can_route() {
    let services: String = (0..51).map(|n| format!("  s{n}:\n    image: {{repository: r{n}}}\n")).collect();
    let text = format!("version: 1\napp: hello\nenvironments: {{prod: {{}}}}\nservices:\n{services}");
    assert!(mistake(&text).contains("services: an app has at most 48 services"), "{}", mistake(&text));
}

#[test]
fn an_environment_is_laid_over_the_base_key_by_key() {
    let text = minimal("    cpu: 512\n    memory: 1024\n    env: {A: base, B: base}\n").replace(
        "environments: {prod: {}}",
        "environments:\n  dev:\n  prod: {services: {api: {memory: 2048, env: {B: prod}}}}",
    );
    let service = |environment| read_for(&text, environment).unwrap().services.into_values().next().unwrap();
    assert_eq!((service("dev").memory, service("prod").memory, service("prod").cpu), (1024, 2048, 512));
    assert_eq!(service("prod").env["A"], "base".into());
    assert_eq!(service("prod").env["B"], "prod".into());
}

#[test]
fn a_mistake_in_an_environment_is_pointed_at_there_even_when_another_is_asked_for() {
    let text = minimal("")
        .replace("environments: {prod: {}}", "environments:\n  prod: {}\n  dev: {services: {api: {cpu: 7}}}");
    assert!(mistake(&text).starts_with("line 5, column 31: services.api.cpu"), "{}", mistake(&text));
}

#[test]
fn anchors_merge_keys_and_x_keys_may_be_used() {
    let text = minimal("    <<: *small\n    env: {PORT: 3000, DEBUG: true, VERSION: 1.10}\n    x-note: mine\n")
        .replace("app: hello", "app: hello\nx-sizes:\n  small: &small {cpu: 512, memory: 1024}");
    let spec = read_for(&text, "prod").unwrap();
    let api = spec.services.values().next().unwrap();
    assert_eq!(api.cpu, 512);
    assert_eq!(
        (api.env["PORT"].text().unwrap(), api.env["DEBUG"].text().unwrap(), api.env["VERSION"].text().unwrap()),
        ("3000", "true", "1.10")
    );
}

#[test]
fn a_key_of_the_persons_own_choice_may_begin_with_x() {
    let spec = read_for(&minimal("sites: {web: {headers: {x-frame-options: DENY}, x-note: {any: thing}}}\n"), "prod");
    assert_eq!(spec.unwrap().sites.into_values().next().unwrap().headers["x-frame-options"], "DENY");
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = String::from("x-a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n");
    for n in 1..12 {
        let list = vec![format!("*a{}", n - 1); 10].join(", ");
        text.push_str(&format!("x-a{n}: &a{n} [{list}]\n"));
    }
    assert!(mistake(&text).contains("at most 50000 values"));
    let deep = format!("x: {}{}", "[".repeat(100), "]".repeat(100));
    assert!(mistake(&deep).contains("levels deep"), "{}", mistake(&deep));
    assert!(mistake(&" ".repeat(MOST_BYTES + 1)).contains("bytes long"));
}

#[test]
fn a_spec_is_stored_and_read_back_unchanged() {
    let spec = read_for(HELLO, "dev").unwrap();
    let stored = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<Spec>(&stored).unwrap(), spec);
}

#[test]
fn tag_patterns_match_as_globs() {
    let matches = |pattern: &str, tag: &str| TagPattern::try_from(pattern.to_owned()).unwrap().matches(tag);
    assert!(
        matches("*", "anything")
            && matches("sha-*", "sha-1a2b")
            && matches("v?.*", "v1.2")
            && matches("a*b*c", "aXbYc")
    );
    assert!(!matches("sha-*", "latest") && !matches("v?", "v10") && !matches("latest", "latest2"));
    assert!(!matches("*", "shipway-hello.prod.api.0") && matches("*", "shipway"), "Shipway's own tags release nothing");
}

#[test]
fn subnets_are_cut_out_of_a_range() {
    let cidr: Cidr = "10.0.0.0/16".parse().unwrap();
    assert_eq!(cidr.subnet(20, 1).unwrap().to_string(), "10.0.16.0/20");
    assert_eq!(cidr.subnet(20, 16), None);
    assert_eq!(cidr.subnet(8, 0), None);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in "[ a-z0-9:{}\\[\\],\n\"'&*<|>-]{0,300}") {
        let _ = read_for(&text, "prod");
        let _ = read_for(&minimal(&text), "prod");
    }
}

/// Manifests that have what the examples leave out.
const WHOLE: [&str; 2] = [include_str!("whole/fargate.yaml"), include_str!("whole/instances.yaml")];

fn manifests() -> Vec<serde_json::Value> {
    EXAMPLES.iter().chain(&WHOLE).map(|text| de::as_written(&yaml::read(text).unwrap()).unwrap()).collect()
}

fn docs(file: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file)
}

/// With `UPDATE=1` in the environment the file is written anew.
fn file_says(file: &str, wanted: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(docs(file), wanted).unwrap();
    } else {
        let says = std::fs::read_to_string(docs(file)).unwrap();
        assert!(
            says == wanted,
            "docs/{file} is not what the types say; UPDATE=1 cargo test -p shipway-domain mends it"
        );
    }
}

#[test]
fn the_schema_is_what_the_types_say() {
    file_says("manifest.schema.json", &(serde_json::to_string_pretty(&schema()).unwrap() + "\n"));
}

#[test]
fn the_page_is_what_the_schema_says_and_every_key_is_in_some_manifest() {
    const GENERATED: &str = "\n## Every key\n";
    let page = std::fs::read_to_string(docs("manifest.md")).unwrap();
    let (before, _) = page.split_once(GENERATED).unwrap();
    let reference = page::reference(&schema::of_types(), &manifests());
    file_says("manifest.md", &format!("{before}{GENERATED}\n{}\n", reference.trim_end()));
}

#[test]
fn the_whole_manifests_are_read() {
    for text in WHOLE {
        read_all(text).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn the_schema_takes_the_manifests_and_nothing_else() {
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("shipway.json", schema()).unwrap();
    let compiled = compiler.compile("shipway.json", &mut schemas).unwrap();
    let judge = |manifest: &serde_json::Value| schemas.validate(manifest, compiled).map_err(|error| error.to_string());
    for manifest in manifests() {
        judge(&manifest).unwrap_or_else(|error| panic!("{error}\n{manifest:#}"));
    }
    let manifest = |text: &str| de::as_written(&yaml::read(text).unwrap()).unwrap();
    let good = [
        "environments: {dev: }",
        "x-mine: 1\nenvironments: {dev: {services: {api: {x-mine: 1, cpu: 512, http: null}}}}",
        "environments: {dev: {services: {api: {image: {repository: null, public: a/b:1}, secrets: {A: {ssm: null, secretsmanager: b}}}}}}",
        "environments: {dev: {services: {api: null, other: {image: {repository: other}}}, databases: {main: {capacity: {max: 4}}}}}",
    ];
    for text in good {
        judge(&manifest(&format!("version: 1\napp: a\n{text}"))).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    let bad = [
        "services: {}",
        "environments: {}",
        "environments: {dev: {}}\nsites: {web: {redirects: [{from: /a}]}}",
        "environments: {dev: {}}\nservices: {api: {secrets: {A: {vault: b}}}}",
        "environments: {dev: {servises: {}}}",
        "environments: {dev: {services: {api: {cpu: lots}}}}",
        "environments: {dev: {}}\nlogs: {retention: 7}",
        "environments: {dev: {}}\nnetwork: {nat: both}",
    ];
    for text in bad {
        assert!(judge(&manifest(&format!("version: 1\napp: a\n{text}"))).is_err(), "{text}");
    }
}

/// Each case begins with a line of `===` and its name, and ends with a line of `->` and what is said.
#[test]
fn every_bad_manifest_is_told_its_one_message() {
    let cases = include_str!("bad.txt").split("\n=== ").skip(1);
    let mut different = String::new();
    for (number, case) in cases.enumerate() {
        let (name, rest) = case.split_once('\n').unwrap();
        let (yaml, expected) = rest.split_once("\n-> ").unwrap_or((rest, ""));
        let environments = if yaml.contains("\nenvironments:") { "" } else { "environments: {prod: {}}\n" };
        let said = match read_all(&format!("version: 1\napp: hello\n{environments}{yaml}\n")) {
            Ok(_) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        if said != expected.trim_end() {
            writeln!(different, "{number} === {name}\n{yaml}\n-> {said}\n").unwrap();
        }
    }
    assert!(different.is_empty(), "these say something else:\n{different}");
}

#[test]
fn every_manifest_is_stored_and_read_back_unchanged() {
    for text in EXAMPLES.iter().chain(&WHOLE) {
        for (environment, spec) in read_all(text).unwrap() {
            let stored = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<Spec>(&stored).unwrap(), spec, "{} {environment}", spec.app);
        }
    }
}

#[test]
fn nothing_in_an_environment_takes_away_what_the_base_says() {
    let text = minimal(
        "    port: 80\n    cpu: 512\n    memory: 1024\n    http: {}\n    secrets: {A: {ssm: /a}}\n  worker:\n    image: {repository: worker}\n",
    )
    .replace(
        "environments: {prod: {}}",
        "environments: {prod: {services: {worker: null, api: {cpu: null, http: null, secrets: {A: {ssm: null, secretsmanager: a}}, \
         image: {repository: null, public: a/b:1}}}}}",
    );
    let spec = read_for(&text, "prod").unwrap();
    assert_eq!(spec.services.len(), 1);
    let api = spec.services.into_values().next().unwrap();
    assert_eq!((api.cpu, api.memory, api.http), (256, 1024, None));
    assert_eq!(api.secrets["A"], SecretRef::Secretsmanager("a".to_owned()));
    assert!(api.image.repository.is_none() && api.image.public.is_some());
    // What is nothing in the base, and so of no kind, is still a mistake.
    assert!(mistake(&minimal("    cpu:\n")).contains("services.api.cpu: a whole number is expected here, not nothing"));
}

#[test]
fn what_is_wrong_in_one_environment_alone_is_said_with_its_name() {
    let text = minimal("").replace("{prod: {}}", "{prod: {}, dev: {services: {api: {memory: 777}}}}");
    assert!(mistake(&text).ends_with("in steps of 512 (in the environment `dev`)"), "{}", mistake(&text));
}

#[test]
fn an_override_is_a_number_where_it_is_written_as_one() {
    let text = minimal(
        "    overrides: {ephemeralStorage: {sizeInGiB: 40}, pidMode: task, containerDefinitions: {api: {user: \"1000\", privileged: true, healthCheck: {command: [\"1\", 2.5, null]}}}}\n",
    );
    let overrides = &read_for(&text, "prod").unwrap().services.into_values().next().unwrap().overrides;
    assert_eq!(
        serde_json::to_value(overrides).unwrap(),
        serde_json::json!({"ephemeralStorage": {"sizeInGiB": 40}, "pidMode": "task", "containerDefinitions": {"api":
            {"user": "1000", "privileged": true, "healthCheck": {"command": ["1", 2.5, null]}}}})
    );
}

#[test]
fn a_sidecar_that_ends_first_is_not_essential() {
    let text = minimal("    sidecars: {init: {image: a/b:1, before: true}, proxy: {image: a/b:1}}\n");
    let sidecars = read_for(&text, "prod").unwrap().services.into_values().next().unwrap().sidecars;
    let essential: Vec<_> = sidecars.values().map(|sidecar| sidecar.essential).collect();
    assert_eq!(essential, [false, true]);
}

#[test]
fn a_certificate_is_checked_against_the_region_where_that_is_known() {
    let spec = &read_all(WHOLE[0]).unwrap()[0].1;
    assert_eq!(spec.check_region("eu-west-1"), Ok(()));
    assert_eq!(
        spec.check_region("us-east-1").unwrap_err().to_string(),
        "domain.certificate: it is in eu-west-1, and the load balancer in us-east-1 takes certificates from there alone; give one \
         of us-east-1, or `auto`"
    );
}

#[test]
fn rules_that_hide_none_are_taken() {
    let two = |first: &str, second: &str| {
        let service = |name: &str, http: &str| {
            format!("  {name}:\n    image: {{repository: {name}}}\n    port: 80\n    http: {http}\n")
        };
        let text = minimal("")
            + &service("first", first)
            + &service("second", second)
            + "domain: {name: a.example, zone: Z012}\n";
        read_for(&text, "prod").map(|_| ())
    };
    assert_eq!(two("{path: /api/*}", "{path: /*}"), Ok(()));
    assert_eq!(two("{path: \"/a?\"}", "{path: \"/a*\"}"), Ok(()));
    assert_eq!(two("{host: a.example}", "{host: b.a.example}"), Ok(()));
    assert_eq!(two("{host: a.example}", "{}"), Ok(()));
    assert!(two("{path: \"/a*?\"}", "{path: \"/a?*\"}").is_err());
}

#[test]
fn how_long_requests_are_moved_follows_from_the_strategy() {
    let rollout = |text: &str| {
        let text = minimal(&format!("    port: 80\n    http: {{}}\n    rollout: {{{text}}}\n"));
        read_for(&text, "prod").unwrap().services.into_values().next().unwrap().rollout
    };
    let table = [
        ("deadline: 1h", None),
        ("strategy: blue_green", Some((0, 5))),
        ("strategy: canary", Some((5, 5))),
        ("strategy: canary, percent: 99, pause: 1h, bake: 1m", Some((60, 1))),
        ("strategy: linear", Some((45, 5))),
        ("strategy: linear, percent: 30, pause: 2m, bake: 7m", Some((6, 7))),
        ("strategy: linear, percent: 50, pause: 10m", Some((10, 5))),
        ("strategy: linear, percent: 99", Some((5, 5))),
        ("strategy: linear, percent: 3, pause: 21m", Some((693, 5))),
    ];
    for (text, expected) in table {
        let rollout = rollout(text);
        assert_eq!(Shift::of(&rollout).map(|shift| (shift.minutes(), shift.bake)), expected, "{text}");
        assert_eq!(rollout.shifts(), expected.is_some(), "{text}");
    }
    assert_eq!((rollout("").percent(), rollout("").pause_minutes()), (10, 5));
}
