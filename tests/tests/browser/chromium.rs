//! A headless Chromium whose tabs remember everything that went wrong in them.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use chromiumoxide::{
    Browser, BrowserConfig, Element, Page,
    cdp::{
        IntoEventKind,
        browser_protocol::{
            log::{EventEntryAdded, LogEntryLevel, LogEntrySource},
            network::{
                EventLoadingFailed, EventLoadingFinished, EventRequestWillBeSent, EventResponseReceived, InitiatorType,
                ResourceType,
            },
            page::ReloadParams,
        },
        js_protocol::runtime::{ConsoleApiCalledType, EventConsoleApiCalled, EventExceptionThrown},
    },
    page::ScreenshotParams,
};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

/// Longer than any page here takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// A page that asks for nothing for this long is done: what scripts ask for after the load is part of it.
const QUIET: Duration = Duration::from_millis(300);

/// A Chromium with no memory of its own: no cookies, nothing cached. Dropping it ends it.
pub struct Chromium {
    browser: Browser,
    // After the browser, which writes into it to the last.
    _profile: TempDir,
}

impl Chromium {
    /// Starts the program, with names of hosts resolved by these rules (`MAP <pattern> <replacement>`) and in no other way,
    /// so that a page that needs a foreign host fails here.
    pub async fn start(program: &Path, rules: &[String], trusted_key: &str) -> Result<Chromium> {
        let profile = tempfile::tempdir()?;
        let rules: Vec<_> = rules.iter().cloned().chain(["MAP * ~NOTFOUND".to_owned()]).collect();
        let config = BrowserConfig::builder()
            .chrome_executable(program)
            .user_data_dir(profile.path())
            // It opens nothing but the tests' own pages, and the sandbox refuses to be started by root.
            .no_sandbox()
            .respect_https_errors()
            .disable_https_first()
            .viewport(None)
            .window_size(1000, 700)
            .launch_timeout(PATIENCE)
            .request_timeout(PATIENCE)
            .args(["disable-gpu", "disable-quic", "disable-component-update"])
            .arg(("host-resolver-rules", rules.join(", ").as_str()))
            .arg(("ignore-certificate-errors-spki-list", trusted_key))
            .build()
            .map_err(anyhow::Error::msg)?;
        let (browser, mut handler) = Browser::launch(config).await.context("starting Chromium")?;
        tokio::spawn(async move { while handler.next().await.is_some() {} });
        Ok(Chromium { browser, _profile: profile })
    }

    /// A new tab that shows nothing yet. Tabs share cookies and cache.
    pub async fn tab(&self) -> Result<Tab> {
        let page = self.browser.new_page("about:blank").await?;
        page.enable_log().await?;
        page.enable_runtime().await?;
        let journal = Journal::shared();
        watch(&page, &journal, |journal, event: &EventRequestWillBeSent| {
            // A worker's script is answered to the worker, not to the page.
            if event.r#type != Some(ResourceType::Script) || event.initiator.r#type != InitiatorType::Other {
                journal.begun.insert(event.request_id.inner().clone(), event.request.url.clone());
            }
        })
        .await?;
        watch(&page, &journal, Journal::answered).await?;
        watch(&page, &journal, |journal, event: &EventLoadingFinished| {
            journal.ended.insert(event.request_id.inner().clone());
        })
        .await?;
        watch(&page, &journal, Journal::failed).await?;
        watch(&page, &journal, |journal, event: &EventExceptionThrown| {
            let details = &event.exception_details;
            let thrown = details.exception.as_ref().and_then(|thrown| thrown.description.clone());
            journal.trouble(format!("exception: {}", thrown.unwrap_or_else(|| details.text.clone())));
        })
        .await?;
        watch(&page, &journal, |journal, event: &EventConsoleApiCalled| {
            if matches!(event.r#type, ConsoleApiCalledType::Error | ConsoleApiCalledType::Assert) {
                let said = event.args.iter().map(|argument| match (&argument.value, &argument.description) {
                    (Some(value), _) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                    (None, described) => described.clone().unwrap_or_default(),
                });
                journal.trouble(format!("console: {}", said.collect::<Vec<_>>().join(" ")));
            }
        })
        .await?;
        watch(&page, &journal, |journal, event: &EventEntryAdded| {
            // What the network's entries tell is known from the requests, with their addresses.
            if event.entry.level == LogEntryLevel::Error && event.entry.source != LogEntrySource::Network {
                journal.trouble(format!("log: {}", event.entry.text));
            }
        })
        .await?;
        Ok(Tab { page, journal })
    }
}

/// What a tab saw since its last look. The events of different kinds may be told in another order than they happened.
#[derive(Default)]
struct Journal {
    begun: HashMap<String, String>,
    ended: HashSet<String>,
    /// How the page was answered, or why it was not.
    document: Option<Result<i64, String>>,
    troubles: Vec<String>,
    changed: Option<Instant>,
}

impl Journal {
    fn shared() -> Arc<Mutex<Journal>> {
        Arc::default()
    }

    /// The page is left; of requests that it has not read to their end nothing more is told.
    fn leave(&mut self) {
        self.begun.clear();
        self.document = None;
    }

    fn answered(&mut self, event: &EventResponseReceived) {
        let (url, status) = (&event.response.url, event.response.status);
        if event.r#type == ResourceType::Document {
            self.document = Some(Ok(status));
        }
        if status >= 400 {
            self.trouble(format!("{status} {}", path(url)));
        }
    }

    fn failed(&mut self, event: &EventLoadingFailed) {
        self.ended.insert(event.request_id.inner().clone());
        if event.r#type == ResourceType::Document {
            self.document = Some(Err(event.error_text.clone()));
        }
        // A page that is left, or a router that no longer needs what it asked for, takes its requests back.
        if event.canceled != Some(true) {
            self.trouble(format!("{} for {:?}", event.error_text, event.r#type));
        }
    }

    /// The addresses of requests that are not done.
    fn under_way(&self) -> Vec<&str> {
        self.begun.iter().filter(|(id, _)| !self.ended.contains(*id)).map(|(_, url)| path(url)).collect()
    }

    fn trouble(&mut self, what: String) {
        self.troubles.push(what);
    }
}

async fn watch<E: IntoEventKind + Unpin>(
    page: &Page,
    journal: &Arc<Mutex<Journal>>,
    note: impl Fn(&mut Journal, &E) + Send + 'static,
) -> Result<()>
where
    E: Send + Sync + 'static,
{
    let mut events = page.event_listener::<E>().await?;
    let journal = Arc::clone(journal);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let mut journal = lock(&journal);
            note(&mut journal, &event);
            journal.changed = Some(Instant::now());
        }
    });
    Ok(())
}

fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tab.
pub struct Tab {
    page: Page,
    journal: Arc<Mutex<Journal>>,
}

impl Tab {
    /// Leaves for an address; answers the status of the page that is shown in the end.
    pub async fn open(&self, url: &str) -> Result<i64> {
        lock(&self.journal).leave();
        // Not with `goto`, which waits for events of its own and now and then misses one.
        self.page.evaluate(format!("location.assign({})", serde_json::to_string(url)?)).await?;
        self.shown().await.with_context(|| url.to_owned())
    }

    /// Loads the page again; answers its status.
    pub async fn reload(&self) -> Result<i64> {
        lock(&self.journal).leave();
        self.page.execute(ReloadParams::default()).await?;
        self.shown().await
    }

    /// Clicks on the first link that says this.
    pub async fn follow(&self, text: &str) -> Result<()> {
        let link = self.page.find_xpath(format!("//a[normalize-space()='{text}']")).await;
        self.act(link.with_context(|| format!("no link says {text}"))?).await
    }

    /// Clicks on the first element that the selector finds.
    pub async fn click(&self, selector: &str) -> Result<()> {
        self.act(self.page.find_element(selector).await.with_context(|| selector.to_owned())?).await
    }

    async fn act(&self, on: Element) -> Result<()> {
        // A tab behind another one is told of no click.
        self.page.bring_to_front().await?;
        on.click().await?;
        // What the click starts is told a moment later.
        lock(&self.journal).changed = Some(Instant::now());
        self.settled().await
    }

    /// Waits until this is the address, without scheme and host, and the first element that the selector finds says this.
    pub async fn shows(&self, address: &str, selector: &str, text: &str) -> Result<()> {
        let shown = format!(
            "[location.pathname + location.search + location.hash, document.querySelector({})?.innerText]",
            serde_json::to_string(selector)?
        );
        let attempt = async || {
            let shown: (String, Option<String>) = self.evaluate(&shown).await?;
            Ok((shown.0 == address && shown.1.as_deref() == Some(text)).then_some(()))
        };
        self.until(&format!("{selector} of {address} saying {text:?}"), attempt).await
    }

    /// The value of an expression, which may be a promise.
    pub async fn evaluate<T: DeserializeOwned>(&self, expression: &str) -> Result<T> {
        let value = self.page.evaluate(expression).await.with_context(|| expression.to_owned())?;
        // `null` comes as no value at all.
        let value = value.value().cloned().unwrap_or_default();
        serde_json::from_value(value).with_context(|| expression.to_owned())
    }

    /// What went wrong since the last time this was asked, when nothing is under way any more.
    pub async fn troubles(&self) -> Result<Vec<String>> {
        // What an answer to a script brought with it is told a moment later.
        lock(&self.journal).changed = Some(Instant::now());
        self.settled().await?;
        Ok(std::mem::take(&mut lock(&self.journal).troubles))
    }

    /// A picture of what is shown, for people.
    pub async fn picture(&self, name: &str) -> Result<()> {
        self.page.bring_to_front().await?;
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("browser");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{name}.png"));
        self.page.save_screenshot(ScreenshotParams::builder().build(), &file).await?;
        Ok(())
    }

    async fn shown(&self) -> Result<i64> {
        let document = async || Ok(lock(&self.journal).document.clone());
        let status = self.until("the page's answer", document).await?.map_err(anyhow::Error::msg)?;
        self.settled().await?;
        Ok(status)
    }

    /// Waits until the page is loaded and no request of it is under way.
    async fn settled(&self) -> Result<()> {
        self.until("a page that is done", async || {
            let complete = self.page.evaluate("document.readyState").await?.into_value::<String>()? == "complete";
            let journal = lock(&self.journal);
            let quiet = journal.changed.is_none_or(|changed| changed.elapsed() >= QUIET);
            Ok((complete && quiet && journal.under_way().is_empty()).then_some(()))
        })
        .await
    }

    /// Tries until there is an answer. An error is one of the moment: a page that just goes away can be asked nothing.
    async fn until<T>(&self, what: &str, attempt: impl AsyncFn() -> Result<Option<T>>) -> Result<T> {
        let started = Instant::now();
        loop {
            match attempt().await {
                Ok(Some(value)) => return Ok(value),
                Ok(None) | Err(_) if started.elapsed() < PATIENCE => tokio::time::sleep(QUIET / 6).await,
                Ok(None) => break,
                Err(error) => return Err(error.context(format!("{what} was waited for"))),
            }
        }
        let shown: String = self.evaluate("location.href + '\\n' + document.body?.innerText").await?;
        let journal = lock(&self.journal);
        let (waits, troubles) = (journal.under_way(), &journal.troubles);
        bail!("{what} was waited for, the tab for {waits:?} after {troubles:?}; it shows {shown}")
    }
}

/// What comes after the host in an address.
fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or(rest, |slash| &rest[slash..])
}
