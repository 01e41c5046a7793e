use super::*;

const HELLO: &str = include_str!("../../../../examples/hello/shipway.yaml");

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
fn the_example_is_read() {
    let spec = read_for(HELLO, "dev").unwrap();
    assert_eq!(spec.services.len(), 1);
    assert_eq!(spec.sites.len(), 1);
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
        ("    secrets: {A: geheim}\n", "services.api.secrets.A"),
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
        ("keep: 0d", "keep: `0d` is not a duration"),
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
