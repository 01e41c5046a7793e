//! A headless Chromium whose tabs remember everything that went wrong in them.
//!
//! It is told what to do by the DevTools protocol, through a pipe: that needs no port and no crate, and it ends with the
//! test, however that ends. <https://chromedevtools.github.io/devtools-protocol/>

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::oneshot,
};

/// Longer than any page here takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// A page that asks for nothing for this long is done: what scripts ask for after the load is part of it.
const QUIET: Duration = Duration::from_millis(200);

/// Chromium reads and writes its pipe as the descriptors 3 and 4.
const START: &str = r#"exec "$@" 3<&0 4>&1 0</dev/null 1>&2"#;
const FLAGS: [&str; 12] = [
    "--headless",
    "--remote-debugging-pipe",
    // It opens nothing but the tests' own pages, and the sandbox refuses to be started by root.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable",
    "--window-size=1000,700",
];

/// A Chromium with no memory of its own: no cookies, nothing cached. Dropping it ends it.
pub struct Chromium {
    connection: Arc<Connection>,
    child: Child,
    // After the program, which writes into it to the last.
    _profile: TempDir,
}

impl Chromium {
    /// Starts the program, with names of hosts resolved by these rules (`MAP <pattern> <replacement>`) and in no other way,
    /// so that a page that needs a foreign host fails here.
    pub async fn start(program: &Path, rules: &[String], trusted_key: &str) -> Result<Chromium> {
        let profile = tempfile::tempdir()?;
        let log = profile.path().join("log");
        let rules: Vec<_> = rules.iter().map(String::as_str).chain(["MAP * ~NOTFOUND"]).collect();
        let mut child = Command::new("sh")
            .args(["-c", START, "sh"])
            .arg(program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--host-resolver-rules={}", rules.join(", ")))
            .arg(format!("--ignore-certificate-errors-spki-list={trusted_key}"))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let (commands, answers) = child.stdin.take().zip(child.stdout.take()).context("a pipe was asked for")?;
        let connection = Connection::over(commands, answers);
        if let Err(error) = connection.call(None, "Browser.getVersion", json!({})).await {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(error.context(format!("{} does not start: {log}", program.display())));
        }
        Ok(Chromium { connection, child, _profile: profile })
    }

    /// A new tab that shows nothing yet. Tabs share cookies and cache.
    pub async fn tab(&self) -> Result<Tab> {
        let target = self.connection.call(None, "Target.createTarget", json!({"url": "about:blank"})).await?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.connection.call(None, "Target.attachToTarget", attach).await?;
        let session = attached["sessionId"].as_str().context("no session")?.to_owned();
        let journal = Arc::new(Mutex::new(Journal::default()));
        lock(&self.connection.journals).insert(session.clone(), Arc::clone(&journal));
        let tab = Tab { connection: Arc::clone(&self.connection), session, journal };
        for domain in ["Page", "Network", "Runtime", "Log"] {
            tab.call(&format!("{domain}.enable"), json!({})).await?;
        }
        Ok(tab)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // An error is a program that has ended. The others are its children, and it must not write when its profile goes.
        let _ = self.child.start_kill();
        for _ in 0..200 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The pipe. Every message is JSON and ends with a zero byte.
struct Connection {
    commands: tokio::sync::Mutex<ChildStdin>,
    last: AtomicU64,
    asked: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    /// By the session of their tab.
    journals: Mutex<HashMap<String, Arc<Mutex<Journal>>>>,
}

impl Connection {
    fn over(commands: ChildStdin, answers: ChildStdout) -> Arc<Connection> {
        let connection = Arc::new(Connection {
            commands: commands.into(),
            last: AtomicU64::new(0),
            asked: Mutex::default(),
            journals: Mutex::default(),
        });
        // Not the connection itself: it would hold its own pipe open.
        let told = Arc::downgrade(&connection);
        tokio::spawn(async move {
            let mut answers = BufReader::new(answers);
            let mut message = Vec::new();
            while answers.read_until(0, &mut message).await.is_ok_and(|length| length > 0) {
                let Some(connection) = told.upgrade() else { return };
                message.pop();
                connection.hear(serde_json::from_slice(&message).unwrap_or_default());
                message.clear();
            }
            // Whoever still waits for an answer is told that none comes.
            if let Some(connection) = told.upgrade() {
                lock(&connection.asked).clear();
            }
        });
        connection
    }

    fn hear(&self, mut message: Value) {
        if let Some(asked) = message["id"].as_u64().and_then(|id| lock(&self.asked).remove(&id)) {
            // Whoever asked may have given up.
            let _ = asked.send(message);
        } else if let Some(journal) = message["sessionId"].as_str().and_then(|id| lock(&self.journals).get(id).cloned())
        {
            let parameters = message["params"].take();
            lock(&journal).note(message["method"].as_str().unwrap_or_default(), &parameters);
        }
    }

    /// Gives a command, to a tab or to the program; answers what it results in.
    async fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Result<Value> {
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let (asked, answer) = oneshot::channel();
        lock(&self.asked).insert(id, asked);
        let exchange = async {
            let mut message = serde_json::to_vec(&message)?;
            message.push(0);
            self.commands.lock().await.write_all(&message).await?;
            anyhow::Ok(answer.await.context("Chromium has ended")?)
        };
        let answer =
            tokio::time::timeout(PATIENCE, exchange).await.with_context(|| format!("{method} takes too long"))?;
        let mut answer = answer.with_context(|| method.to_owned())?;
        ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]["message"]);
        Ok(answer["result"].take())
    }
}

/// What a tab saw of the page that it shows.
#[derive(Default)]
struct Journal {
    /// The addresses of requests that are not done, by their id.
    under_way: HashMap<String, String>,
    /// How the page was answered, or why it was not.
    document: Option<Result<i64, String>>,
    troubles: Vec<String>,
    changed: Option<Instant>,
}

impl Journal {
    /// The page is left; of requests that it has not read to their end nothing more is told.
    fn leave(&mut self) {
        self.under_way.clear();
        self.document = None;
        self.touch();
    }

    /// Something is about to happen.
    fn touch(&mut self) {
        self.changed = Some(Instant::now());
    }

    fn note(&mut self, event: &str, about: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let request = text(&about["requestId"]);
        let is_document = about["type"] == "Document";
        match event {
            // A worker's own script is answered to the worker, not to the page.
            "Network.requestWillBeSent" if about["type"] == "Script" && about["initiator"]["type"] == "other" => {}
            "Network.requestWillBeSent" => drop(self.under_way.insert(request, text(&about["request"]["url"]))),
            "Network.responseReceived" => {
                let status = about["response"]["status"].as_i64().unwrap_or_default();
                if is_document {
                    self.document = Some(Ok(status));
                }
                if status >= 400 {
                    self.troubles.push(format!("{status} {}", path(&text(&about["response"]["url"]))));
                }
            }
            "Network.loadingFinished" => drop(self.under_way.remove(&request)),
            "Network.loadingFailed" => {
                let url = self.under_way.remove(&request).unwrap_or_default();
                let error = text(&about["errorText"]);
                if is_document {
                    self.document = Some(Err(error.clone()));
                }
                // A page that is left, or a router that no longer needs what it asked for, takes its requests back.
                if about["canceled"] != true {
                    self.troubles.push(format!("{error} {url}"));
                }
            }
            "Runtime.exceptionThrown" => {
                let details = &about["exceptionDetails"];
                let thrown = details["exception"]["description"].as_str();
                self.troubles.push(format!("exception: {}", thrown.unwrap_or(&text(&details["text"]))));
            }
            "Runtime.consoleAPICalled" if about["type"] == "error" || about["type"] == "assert" => {
                let said = about["args"].as_array().into_iter().flatten().map(|argument| {
                    let value = &argument["value"];
                    let plain = value.as_str().or(argument["description"].as_str());
                    plain.map_or_else(|| value.to_string(), str::to_owned)
                });
                self.troubles.push(format!("console: {}", said.collect::<Vec<_>>().join(" ")));
            }
            // What these tell of the network is known from the requests, with their addresses.
            "Log.entryAdded" if about["entry"]["level"] == "error" && about["entry"]["source"] != "network" => {
                self.troubles.push(format!("log: {}", text(&about["entry"]["text"])));
            }
            _ => return,
        }
        self.touch();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tab.
pub struct Tab {
    connection: Arc<Connection>,
    session: String,
    journal: Arc<Mutex<Journal>>,
}

impl Tab {
    /// Opens an address as if it were typed in; answers the status of the page that is shown in the end.
    pub async fn open(&self, url: &str) -> Result<i64> {
        lock(&self.journal).leave();
        self.call("Page.navigate", json!({"url": url})).await?;
        self.shown().await.with_context(|| url.to_owned())
    }

    /// Loads the page again; answers its status.
    pub async fn reload(&self) -> Result<i64> {
        lock(&self.journal).leave();
        self.call("Page.reload", json!({})).await?;
        self.shown().await
    }

    /// Clicks on the first link that says this.
    pub async fn follow(&self, text: &str) -> Result<()> {
        let text = serde_json::to_string(text)?;
        self.press(&format!("[...document.querySelectorAll('a')].find(link => link.innerText.trim() === {text})")).await
    }

    /// Clicks on the first element that the selector finds.
    pub async fn click(&self, selector: &str) -> Result<()> {
        self.press(&format!("document.querySelector({})", serde_json::to_string(selector)?)).await
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
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", asked).await?;
        let exception = &answer["exceptionDetails"]["exception"];
        ensure!(exception.is_null(), "{expression}: {exception}");
        serde_json::from_value(answer["result"]["value"].take()).with_context(|| expression.to_owned())
    }

    /// What went wrong since the last time this was asked, when nothing is under way any more.
    pub async fn troubles(&self) -> Result<Vec<String>> {
        // What an answer to a script brought with it is told a moment later.
        lock(&self.journal).touch();
        self.settled().await?;
        Ok(std::mem::take(&mut lock(&self.journal).troubles))
    }

    /// A picture of what is shown, for people.
    pub async fn picture(&self, name: &str) -> Result<()> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("browser");
        std::fs::create_dir_all(&folder)?;
        self.call("Page.bringToFront", json!({})).await?;
        let picture = self.call("Page.captureScreenshot", json!({"format": "png"})).await?;
        let picture = BASE64_STANDARD.decode(picture["data"].as_str().context("no picture")?)?;
        Ok(std::fs::write(folder.join(format!("{name}.png")), picture)?)
    }

    async fn call(&self, method: &str, parameters: Value) -> Result<Value> {
        self.connection.call(Some(&self.session), method, parameters).await
    }

    /// Clicks into the middle of an element.
    async fn press(&self, element: &str) -> Result<()> {
        // A tab behind another one is told of no click.
        self.call("Page.bringToFront", json!({})).await?;
        let middle = format!(
            "(element => {{
                if (!element) return null;
                element.scrollIntoView({{block: 'center', behavior: 'instant'}});
                const box = element.getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2];
            }})({element})"
        );
        let (x, y) = self.evaluate::<Option<(f64, f64)>>(&middle).await?.with_context(|| format!("no {element}"))?;
        lock(&self.journal).touch();
        for kind in ["mousePressed", "mouseReleased"] {
            let mouse = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", mouse).await?;
        }
        self.settled().await
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
            let complete = self.evaluate::<String>("document.readyState").await? == "complete";
            let journal = lock(&self.journal);
            let quiet = journal.changed.is_none_or(|changed| changed.elapsed() >= QUIET);
            Ok((complete && quiet && journal.under_way.is_empty()).then_some(()))
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
        let (waits, troubles) = (journal.under_way.values(), &journal.troubles);
        bail!("{what} was waited for, the tab for {waits:?} after {troubles:?}; it shows {shown}")
    }
}

/// What comes after the host in an address.
fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or(rest, |slash| &rest[slash..])
}
