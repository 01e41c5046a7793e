//! Real sites, published as users publish theirs and opened in a browser through the local CloudFront.
//!
//! `cargo xtask test` builds the sites from `tests/sites` and names them and a Chromium to these tests. They share one
//! installation and one environment, and each has a browser of its own. Pictures of what was shown are in
//! `<target>/tmp/browser`.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]
#![allow(clippy::disallowed_methods, reason = "a page is waited for")]

mod chromium;
mod tls;

use std::{
    path::{Path, PathBuf},
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use local_cloud::{Config, LocalCloud, data_plane::Answer, hello};
use shipway_domain::{
    name::Component,
    release::{Artifact, Outcome},
};
use shipway_tests::{Place, Shipway, rights, site, tools};
use tokio::runtime::Runtime;

use crate::{
    chromium::{Chromium, Tab},
    tls::Front,
};

const PATIENCE: Duration = Duration::from_secs(180);

/// What SecurityHeadersPolicy sends, by its name in CloudFront.
const SECURITY_HEADERS: [&str; 4] =
    ["strict-transport-security", "x-content-type-options", "x-frame-options", "referrer-policy"];

const MANIFEST: &str = "
version: 1
app: browser
services:
  api:
    image: {repository: browser-api, tags: ['v*']}
    port: 8080
    http: {path: /*, health: /health}
sites:
  harbour:                              # tests/sites/next
    backend: [/api/*]
    redirects: [{from: /talk, to: /chat}, {from: '/old/*', to: '/guides/*'}]
    headers: {permissions-policy: camera=()}
  crew: {backend: [/api/*]}             # tests/sites/vite
  charts: {}                            # tests/sites/docs
  moving: {}                            # a site whose URLs change
environments:
  dev: {}
";

/// The cloud's proxy and the browsers' connections live on this runtime, so it must outlive every single test.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static STAGE: OnceLock<Stage> = OnceLock::new();

fn on_stage(test: impl AsyncFnOnce(&'static Stage) -> Result<()>) {
    let stage = STAGE.get_or_init(|| RUNTIME.block_on(Stage::set()).unwrap());
    let test = async { tokio::time::timeout(PATIENCE * 2, test(stage)).await.context("the browser answers no more")? };
    let tested = RUNTIME.block_on(test);
    if let Err(error) = tested.and(RUNTIME.block_on(rights::hold(&stage.shipway.cloud))) {
        panic!("{error:?}");
    }
}

/// Three sites and a service, live.
struct Stage {
    shipway: Shipway,
    place: Place,
    front: Front,
    chromium: PathBuf,
    sites: PathBuf,
}

impl Stage {
    async fn set() -> Result<Stage> {
        let given = |name: &str| {
            let value = std::env::var_os(name).map(PathBuf::from);
            value.with_context(|| format!("{name} is not set: run `cargo xtask test`"))
        };
        let (chromium, sites) = (given("SHIPWAY_CHROMIUM")?, given("SHIPWAY_SITES")?);
        let shipway = Shipway::install(LocalCloud::start(Config::new(tools()?)).await?).await?;
        let front = Front::open(shipway.cloud.endpoint()).await?;
        let stage = Stage { shipway, place: Place::dev("browser")?, front, chromium, sites };

        let platform = stage.shipway.upload_manifest(&stage.place, MANIFEST).await?;
        stage.ended(&Component::Platform, &platform).await?;
        let api = async {
            let image = stage.shipway.push("browser-api", "v1", &hello::image("1").await?).await?;
            stage.ended(&"service/api".parse()?, &image).await
        };
        tokio::try_join!(
            api,
            stage.publish("harbour", "next", "next"),
            stage.publish("crew", "one", "vite-one"),
            stage.publish("charts", "docs", "docs"),
        )?;
        Ok(stage)
    }

    /// Uploads a built site; waits until it is live.
    async fn publish(&self, site: &str, name: &str, folder: &str) -> Result<()> {
        let zip = zipped(&self.sites.join(folder))?;
        self.publish_zip(site, name, zip).await
    }

    async fn publish_zip(&self, site: &str, name: &str, zip: Vec<u8>) -> Result<()> {
        let artifact = self.shipway.upload_zip(&self.place, site, name, zip).await?;
        self.ended(&format!("site/{site}").parse()?, &artifact).await
    }

    async fn ended(&self, component: &Component, artifact: &Artifact) -> Result<()> {
        let release = self.shipway.ended(&self.place, component, artifact, PATIENCE).await?;
        ensure!(release.outcome == Some(Outcome::Succeeded), "{}", self.shipway.story(&self.place).await?);
        Ok(())
    }

    /// Where a site is found.
    async fn host(&self, site: &str) -> Result<String> {
        let sites = self.shipway.platform(&self.place).await?.sites;
        let found = sites.into_iter().find(|(name, _)| name.to_string() == site);
        Ok(found.with_context(|| format!("there is no site {site}"))?.1.domain)
    }

    /// A browser that knows where the distributions are, and no other host.
    async fn visitor(&self) -> Result<Chromium> {
        let endpoint = self.shipway.cloud.endpoint();
        let plain = endpoint.strip_prefix("http://").context("the local cloud speaks HTTP")?;
        let rules = [
            format!("MAP *.cloudfront.net:443 127.0.0.1:{}", self.front.port),
            format!("MAP *.cloudfront.net:80 {plain}"),
        ];
        Chromium::start(&self.chromium, &rules, &self.front.key).await
    }

    /// One answer, redirects not followed.
    async fn get(&self, host: &str, path: &str) -> Result<Answer> {
        Ok(self.shipway.cloud.http_through_cloudfront(host, path).await?)
    }
}

/// A folder as a zip, each file under its path in it.
fn zipped(folder: &Path) -> Result<Vec<u8>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder)?.to_str().context("a name that is not UTF-8")?.to_owned();
                files.push((name, std::fs::read(&path)?));
            }
        }
    }
    files.sort();
    site::zip(files.iter().map(|(name, content)| (name.as_str(), content.as_slice())))
}

/// Nothing but these went wrong since the last time this was asked.
async fn only(tab: &Tab, expected: &[&str]) -> Result<()> {
    assert_eq!(tab.troubles().await?, expected);
    Ok(())
}

/// What the page that is shown refers to on its own host and does not get.
async fn broken_references(tab: &Tab) -> Result<Vec<String>> {
    tab.evaluate(
        "Promise.all([...document.querySelectorAll('a[href], link[href], script[src], img[src]')]
            .map(element => new URL(element.href || element.src))
            .filter(url => url.host === location.host)
            .map(async url => {
                const answer = await fetch(url);
                await answer.arrayBuffer();
                return answer.ok ? [] : [answer.status + ' ' + url.href];
            })).then(broken => broken.flat())",
    )
    .await
}

#[test]
#[ignore = "needs Chromium and the built sites: cargo xtask test"]
fn a_next_export_is_browsed_by_link_by_address_and_after_a_reload() {
    on_stage(async |stage| {
        let host = stage.host("harbour").await?;
        let chromium = stage.visitor().await?;
        let tab = chromium.tab().await?;

        assert_eq!(tab.open(&format!("http://{host}/")).await?, 200, "the home page, from plain HTTP");
        assert_eq!(tab.evaluate::<String>("location.protocol").await?, "https:");
        tab.shows("/", "h1", "Harbour").await?;
        tab.evaluate::<bool>("window.sameDocument = true").await?;
        tab.picture("next-home").await?;

        tab.follow("Chat").await?;
        tab.shows("/chat", "h1", "Chat").await?;
        tab.click("#say").await?;
        tab.shows("/chat", "#say", "Said 1 times").await?;
        tab.click("#history").await?;
        tab.shows("/chat", "#past", "Nothing was said before.").await?;
        assert!(tab.evaluate::<bool>("window.sameDocument === true").await?, "the router changed the page by itself");

        assert_eq!(tab.reload().await?, 200);
        tab.shows("/chat", "h1", "Chat").await?;
        tab.click("#say").await?;
        tab.shows("/chat", "#say", "Said 1 times").await?;
        tab.picture("next-chat").await?;

        for (address, shown, heading) in [
            ("/chat", "/chat", "Chat"),
            ("/chat/", "/chat", "Chat"),
            ("/chat/?from=mail#end", "/chat?from=mail#end", "Chat"),
            ("/chat.html", "/chat.html", "Chat"),
            ("/guides/anchoring", "/guides/anchoring", "Anchoring"),
            ("/guides/anchoring/", "/guides/anchoring", "Anchoring"),
            ("/talk?from=mail", "/chat?from=mail", "Chat"),
            ("/old/mooring", "/guides/mooring", "Mooring"),
        ] {
            assert_eq!(tab.open(&format!("https://{host}{address}")).await?, 200, "{address}");
            tab.shows(shown, "h1", heading).await?;
        }
        tab.picture("next-guide").await?;
        tab.follow("Anchoring").await?;
        tab.shows("/guides/anchoring", "h1", "Anchoring").await?;
        assert_eq!(broken_references(&tab).await?, [""; 0]);
        only(&tab, &[]).await?;
        Ok(())
    });
}

#[test]
#[ignore = "needs Chromium and the built sites: cargo xtask test"]
fn what_is_not_there_is_the_sites_own_page_with_the_status_404() {
    on_stage(async |stage| {
        let chromium = stage.visitor().await?;
        let tab = chromium.tab().await?;
        // With a backend behind the same distribution, and without.
        let harbour = stage.host("harbour").await?;
        for address in ["/no/such/page", "/guides", "/chat/no-such", "/_next/static/chunks/gone-0123456789.js"] {
            assert_eq!(tab.open(&format!("https://{harbour}{address}")).await?, 404, "{address}");
            tab.shows(address, "h1", "No such berth").await?;
            only(&tab, &[&format!("404 {address}")]).await?;
        }
        tab.picture("next-404").await?;
        tab.follow("Chat").await?;
        tab.shows("/chat", "h1", "Chat").await?;
        only(&tab, &[]).await?;

        let charts = stage.host("charts").await?;
        for (address, shown) in [("/no/such/page", "/no/such/page/"), ("/img/gone.svg", "/img/gone.svg")] {
            assert_eq!(tab.open(&format!("https://{charts}{address}")).await?, 404, "{address}");
            tab.shows(shown, "h1", "404").await?;
            only(&tab, &[&format!("404 {shown}")]).await?;
        }
        tab.picture("docs-404").await?;
        Ok(())
    });
}

#[test]
#[ignore = "needs Chromium and the built sites: cargo xtask test"]
fn a_single_page_app_answers_deep_links_and_leaves_its_api_alone() {
    on_stage(async |stage| {
        let host = stage.host("crew").await?;
        let chromium = stage.visitor().await?;
        let tab = chromium.tab().await?;

        let greeting = r#"200 {"service":"api","version":"1","path":"/api/users/42"}"#;
        assert_eq!(tab.open(&format!("https://{host}/users/42")).await?, 200);
        tab.shows("/users/42", "h1", "User 42").await?;
        tab.shows("/users/42", "#answer", greeting).await?;
        assert_eq!(tab.reload().await?, 200);
        tab.shows("/users/42", "h1", "User 42").await?;
        tab.shows("/users/42", "#answer", greeting).await?;
        tab.picture("vite-user").await?;
        tab.follow("Home").await?;
        tab.shows("/", "h1", "Crew").await?;
        tab.follow("User 42").await?;
        tab.shows("/users/42", "#answer", greeting).await?;
        assert_eq!(tab.open(&format!("https://{host}/no/such/page/")).await?, 200);
        tab.shows("/no/such/page/", "h1", "Nobody here").await?;
        assert_eq!(broken_references(&tab).await?, [""; 0]);
        only(&tab, &[]).await?;

        for status in [404, 403, 500, 503] {
            let asked = format!("/api/status/{status}");
            let answer: String = tab
                .evaluate(&format!(
                    "fetch('{asked}').then(async answer => answer.status + ' ' + answer.headers.get('content-type') + ' ' \
                     + await answer.text())"
                ))
                .await?;
            let body = format!(r#"{{"service":"api","version":"1","path":"{asked}"}}"#);
            assert_eq!(answer, format!("{status} application/json {body}"), "as the API said it");
            only(&tab, &[&format!("{status} {asked}")]).await?;
        }

        let gone: String = tab
            .evaluate("fetch('/assets/gone-01234567.js').then(async answer => answer.status + await answer.text())")
            .await?;
        assert!(gone.starts_with("404") && !gone.contains("id=\"app\""), "an asset that is gone is no page: {gone}");
        only(&tab, &["404 /assets/gone-01234567.js"]).await?;
        Ok(())
    });
}

#[test]
#[ignore = "needs Chromium and the built sites: cargo xtask test"]
fn a_tab_from_before_a_release_still_loads_what_it_was_built_with() {
    on_stage(async |stage| {
        let host = stage.host("crew").await?;
        let chromium = stage.visitor().await?;
        let (old, new) = (chromium.tab().await?, chromium.tab().await?);
        assert_eq!(old.open(&format!("https://{host}/")).await?, 200);
        old.shows("/", "#release", "one").await?;

        stage.publish("crew", "two", "vite-two").await?;
        assert_eq!(new.open(&format!("https://{host}/about")).await?, 200);
        new.shows("/about", "#release", "two").await?;
        new.shows("/about", "h1", "About release two").await?;
        new.picture("vite-new-tab").await?;

        old.follow("About").await?;
        old.shows("/about", "#release", "one").await?;
        old.shows("/about", "h1", "About release one").await?;
        let colour: String = old.evaluate("getComputedStyle(document.querySelector('h1')).color").await?;
        assert_eq!(colour, "rgb(102, 51, 153)", "its style came too");
        old.picture("vite-old-tab").await?;
        assert_eq!(old.reload().await?, 200);
        old.shows("/about", "#release", "two").await?;
        only(&old, &[]).await?;
        only(&new, &[]).await?;
        Ok(())
    });
}

#[test]
#[ignore = "needs Chromium and the built sites: cargo xtask test"]
fn relative_links_are_right_in_whichever_form_a_page_is_entered() {
    on_stage(async |stage| {
        let host = stage.host("charts").await?;
        let answer = stage.get(&host, "/guide?from=mail").await?;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (308, Some("/guide/?from=mail")));
        let answer = stage.get(&host, "//foreign").await?;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (308, Some("/foreign/")));

        let chromium = stage.visitor().await?;
        let tab = chromium.tab().await?;
        for address in ["/", "/guide/", "/guide", "/guide/index.html", "/guide/drawing", "/guide/drawing/"] {
            assert_eq!(tab.open(&format!("https://{host}{address}")).await?, 200, "{address}");
            let wide: bool = tab
                .evaluate(
                    "[...document.images].length > 0 && [...document.images].every(image => image.naturalWidth > 0)",
                )
                .await?;
            assert!(wide, "{address}: its picture is shown");
            let font: String = tab.evaluate("getComputedStyle(document.body).fontFamily").await?;
            assert!(font.contains("Lato"), "{address}: its style is applied, not {font}");
            assert_eq!(broken_references(&tab).await?, [""; 0], "{address}");
            only(&tab, &[]).await?;
        }
        assert_eq!(tab.open(&format!("https://{host}/guide")).await?, 200);
        tab.shows("/guide/", "h1", "Guide").await?;
        tab.picture("docs-guide").await?;
        tab.follow("Reading").await?;
        tab.shows("/guide/reading/", "h1", "Reading").await?;
        tab.follow("drawing").await?;
        tab.shows("/guide/drawing/#depths", "h1", "Drawing").await?;
        assert_eq!(tab.open(&format!("https://{host}/search.html?q=depths")).await?, 200);
        // Found by a worker in an index that it loads itself.
        tab.shows("/search.html?q=depths", "#mkdocs-search-results article h3", "Depths").await?;
        only(&tab, &[]).await?;
        Ok(())
    });
}

#[test]
#[ignore = "needs Chromium and the built sites: cargo xtask test"]
fn a_preview_is_shown_to_whoever_asked_for_it_and_to_nobody_else() {
    on_stage(async |stage| {
        // A preview of another kind than what is live: one page with a router of its own.
        let zip = zipped(&stage.sites.join("vite-two"))?;
        let artifact = stage.shipway.upload("sites/browser/dev/harbour/preview/look.zip", zip).await?;
        stage.ended(&"preview/harbour/look".parse()?, &artifact).await?;
        let host = stage.host("harbour").await?;
        let (curious, other) = (stage.visitor().await?, stage.visitor().await?);
        let (curious, other) = (curious.tab().await?, other.tab().await?);

        assert_eq!(curious.open(&format!("https://{host}/")).await?, 200);
        curious.shows("/", "h1", "Harbour").await?;
        // A file that both have under one name, and that a browser may keep for some minutes.
        let icon = "fetch('/icon.svg').then(answer => answer.text())";
        assert!(curious.evaluate::<String>(icon).await?.contains("circle"));
        assert_eq!(curious.open(&format!("https://{host}/_preview/look")).await?, 200);
        curious.shows("/", "h1", "Crew").await?;
        curious.shows("/", "#release", "two").await?;
        assert!(
            curious.evaluate::<String>(icon).await?.contains("rect"),
            "no file of the live site is among the preview's"
        );
        curious.picture("preview").await?;
        let robots: Option<String> =
            curious.evaluate("fetch('/').then(answer => answer.headers.get('x-robots-tag'))").await?;
        assert_eq!(robots.as_deref(), Some("noindex"));
        assert_eq!(curious.open(&format!("https://{host}/users/7")).await?, 200);
        curious.shows("/users/7", "h1", "User 7").await?;
        curious.shows("/users/7", "#answer", r#"200 {"service":"api","version":"1","path":"/api/users/7"}"#).await?;
        assert_eq!(curious.reload().await?, 200);

        assert_eq!(other.open(&format!("https://{host}/")).await?, 200);
        other.shows("/", "h1", "Harbour").await?;
        assert_eq!(other.open(&format!("https://{host}/users/7")).await?, 404);
        only(&other, &["404 /users/7"]).await?;
        let robots: Option<String> =
            other.evaluate("fetch('/').then(answer => answer.headers.get('x-robots-tag'))").await?;
        assert_eq!(robots, None);
        for address in ["/_preview/unknown", "/.shipway/preview/look/index.html", "/%2eshipway/preview/look/index.html"]
        {
            assert_eq!(stage.get(&host, address).await?.status, 404, "{address}");
        }

        assert_eq!(curious.open(&format!("https://{host}/_preview/")).await?, 200);
        curious.shows("/", "h1", "Harbour").await?;
        assert!(curious.evaluate::<String>(icon).await?.contains("circle"));
        only(&curious, &[]).await?;
        only(&other, &[]).await?;
        Ok(())
    });
}

#[test]
#[ignore = "needs Chromium and the built sites: cargo xtask test"]
fn pages_that_change_the_form_of_their_urls_lead_nobody_in_a_circle() {
    on_stage(async |stage| {
        let page = |text: &str| format!("<!doctype html><link rel=icon href=data:,><h1>{text}</h1>").into_bytes();
        let (home, chat) = (page("Home"), page("Chat"));
        let as_file = site::zip([("index.html", home.as_slice()), ("chat.html", &chat)])?;
        let as_folder = site::zip([("index.html", home.as_slice()), ("chat/index.html", &chat)])?;

        let host = stage.host("moving").await?;
        let chromium = stage.visitor().await?;
        let tab = chromium.tab().await?;
        stage.publish_zip("moving", "one", as_file.clone()).await?;
        assert_eq!(tab.open(&format!("https://{host}/chat/")).await?, 200);
        tab.shows("/chat", "h1", "Chat").await?;
        stage.publish_zip("moving", "two", as_folder).await?;
        assert_eq!(tab.open(&format!("https://{host}/chat")).await?, 200);
        tab.shows("/chat/", "h1", "Chat").await?;
        stage.publish_zip("moving", "three", as_file).await?;
        assert_eq!(tab.open(&format!("https://{host}/chat/")).await?, 200);
        tab.shows("/chat", "h1", "Chat").await?;
        only(&tab, &[]).await?;
        Ok(())
    });
}

#[test]
#[ignore = "needs Chromium and the built sites: cargo xtask test"]
fn every_answer_has_the_security_headers() {
    on_stage(async |stage| {
        let (harbour, charts) = (stage.host("harbour").await?, stage.host("charts").await?);
        for (host, path, status) in [
            (&harbour, "/", 200),
            (&harbour, "/chat", 200),
            (&harbour, "/robots.txt", 200),
            (&harbour, "/no/such/page", 404),
            (&harbour, "/api/users/42", 200),
            (&charts, "/guide/", 200),
            (&charts, "/no/such/page/", 404),
        ] {
            let answer = stage.get(host, path).await?;
            assert_eq!(answer.status, status, "{path}");
            for name in SECURITY_HEADERS {
                assert!(answer.header(name).is_some(), "{path} has no {name}: {:?}", answer.headers);
            }
        }
        let answer = stage.get(&harbour, "/").await?;
        assert_eq!(answer.header("permissions-policy"), Some("camera=()"), "the manifest's own");
        Ok(())
    });
}

/// What the other tests rest on.
#[test]
#[ignore = "needs Chromium and the built sites: cargo xtask test"]
fn a_tab_tells_whatever_goes_wrong_in_it() {
    RUNTIME.block_on(async {
        let program = std::env::var_os("SHIPWAY_CHROMIUM").unwrap();
        let chromium = Chromium::start(Path::new(&program), &[], "").await.unwrap();
        let tab = chromium.tab().await.unwrap();
        let wrong = "console.error('said', 1);
            fetch('https://foreign.example/').catch(() => setTimeout(() => { throw new Error('thrown') }))
                .then(() => true)";
        assert!(tab.evaluate::<bool>(wrong).await.unwrap());
        let mut troubles = tab.troubles().await.unwrap();
        troubles.sort();
        assert_eq!(troubles.len(), 3, "{troubles:?}");
        assert_eq!(troubles[0], "console: said 1");
        assert!(troubles[1].starts_with("exception: Error: thrown"), "{troubles:?}");
        assert_eq!(troubles[2], "net::ERR_NAME_NOT_RESOLVED https://foreign.example/");
        assert!(tab.troubles().await.unwrap().is_empty(), "told once");
    });
}
