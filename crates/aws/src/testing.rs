//! The table in memory, for the tests of functions: the real [`Store`] with what it asks of DynamoDB answered as DynamoDB
//! does, conditions and cancelled transactions included, on a [`Line`] that can lose any call.
//!
//! Only what the store asks for is there. Anything else, and much of what DynamoDB would call invalid, is a panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests use it, and a test ends by a panic")]

mod hostile;

use std::{
    any::{Any, TypeId},
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    future::Future,
    io::Write as _,
    mem::take,
    sync::{Arc, Mutex, MutexGuard},
};

use aws_sdk_dynamodb::{
    error::{ErrorMetadata, SdkError},
    types::{AttributeValue, CancellationReason, TransactWriteItem},
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use shipway_domain::{
    manifest::{self, Spec},
    message::Run,
    name::{Component, EnvironmentName, ReleaseId},
    network::NetworkOutputs,
    platform::PlatformOutputs,
    release::{self, Artifact, Claim, ComponentState, Contender, Outcome, ReleaseRecord},
};

pub use hostile::{Mutant, are_refused, mutants};

use crate::{
    AwsError, Store,
    store::{Cancelled, Item, Key, Manifest, Query},
};

/// What becomes of one call of a story, the n-th, counted from one. A call that AWS did not hear of and one whose answer did not
/// come are one [`AwsError`] each, whether a connection broke or time ran out: what tells them apart is only whether AWS acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The function is gone before it, and makes no other call in this pass.
    Before(usize),
    /// It takes effect and the function is gone.
    After(usize),
    /// It never arrives: the connection breaks, or time runs out.
    Unsent(usize),
    /// It takes effect, and its answer never comes.
    Unanswered(usize),
    /// AWS refuses it, as there are too many.
    Throttled(usize),
    /// AWS answers an internal error, and did nothing.
    Failed(usize),
    /// AWS answers an internal error, and did it.
    FailedLate(usize),
    /// Not of all calls but of the looks after a write: the n-th shows what was before the last write.
    Stale(usize),
}

/// A cut of the n-th call.
type Kind = fn(usize) -> Cut;

/// The kinds, by their names in the report.
const KINDS: [(&str, Kind); 8] = [
    ("before", Cut::Before),
    ("after", Cut::After),
    ("unsent", Cut::Unsent),
    ("unanswered", Cut::Unanswered),
    ("throttled", Cut::Throttled),
    ("failed", Cut::Failed),
    ("failed_late", Cut::FailedLate),
    // The last, as it is in no pair.
    ("stale", Cut::Stale),
];

/// To the code these are calls that did not arrive or were not answered, with a code besides. Without being asked for pairs, only
/// some are tried: by lot, among the pairs.
const WITH_A_CODE: [&str; 3] = ["throttled", "failed", "failed_late"];

/// For so many calls a look after a write may show what was before it: some passes of a function, thus about half a minute. AWS
/// names no bound; what the code waits before it believes a look is longer.
const SHOWN_LATE: usize = 25;

/// What becomes of the calls of one story: of none, one or two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts([Option<Cut>; 2]);

impl From<Cut> for Cuts {
    fn from(cut: Cut) -> Cuts {
        Cuts([Some(cut), None])
    }
}

impl From<Option<Cut>> for Cuts {
    fn from(cut: Option<Cut>) -> Cuts {
        Cuts([cut, None])
    }
}

thread_local! {
    /// Whether a look showed what was before, since this was last taken. A story is told by one thread.
    static SHOWN_BEFORE: Cell<bool> = const { Cell::new(false) };
}

/// Tells a story again and again, each time with something else becoming of another of its calls, by each kind of [`Cut`]; then with
/// pairs of them, drawn by lot. The story sets the cuts on its line and answers how many calls it made with them; it is over when
/// the call is never made.
///
/// `SHIPWAY_CRASH_PAIRS` says how many pairs, 20 unless set, and has every kind tried at every call; `SHIPWAY_CRASH_SEED` draws
/// others than usual.
pub async fn cut_everywhere(story: impl AsyncFn(Cuts) -> usize) {
    let said = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let asked = said("SHIPWAY_CRASH_PAIRS");
    let (mut tried, mut most) = (Vec::new(), 0);
    for (kind, cut) in KINDS.into_iter().filter(|(kind, _)| asked.is_some() || !WITH_A_CODE.contains(kind)) {
        let mut number = 0;
        loop {
            SHOWN_BEFORE.take();
            let cut = cut(number + 1);
            let calls = story(cut.into()).await;
            let came_to_it = match cut {
                Cut::Stale(_) => SHOWN_BEFORE.take(),
                _ => calls > number,
            };
            if !came_to_it {
                break;
            }
            number += 1;
        }
        most = most.max(number);
        tried.push((kind, number as u64));
    }
    assert!(most > 0, "the story makes no calls");
    let seed = said("SHIPWAY_CRASH_SEED").unwrap_or_default();
    let pairs = asked.unwrap_or(20);
    // Shown where the story fails.
    eprintln!("pairs of cuts are drawn with SHIPWAY_CRASH_SEED={seed}");
    let mut lot = fastrand::Rng::with_seed(seed);
    for _ in 0..pairs {
        // After a call is lost a story makes more of them.
        let first = lot.usize(1..=most);
        let second = first + lot.usize(1..=most);
        // But a call that was lost is told from one that did not arrive by a look alone, where it has no token.
        let mut cut = |number| Some(KINDS[lot.usize(..KINDS.len() - 1)].1(number));
        story(Cuts([cut(first), cut(second)])).await;
    }
    tried.push(("pairs", pairs));
    report(&tried);
}

/// Adds to the file that `SHIPWAY_CRASH_REPORT` names, if it does, what a test has tried: package, test, kind and how many, a line
/// each.
fn report(tried: &[(&str, u64)]) {
    let Some(path) = std::env::var_os("SHIPWAY_CRASH_REPORT") else { return };
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let package = std::env::var("CARGO_PKG_NAME").unwrap_or_default();
    let lines: String = tried.iter().map(|(kind, count)| format!("{package} {test} {kind} {count}\n")).collect();
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    // One write, as other tests write at the same time.
    file.write_all(lines.as_bytes()).unwrap();
}

/// The line between a function and AWS: it counts calls, decides what becomes of them, and lets others write in between.
#[derive(Clone, Default)]
pub struct Line(Arc<Mutex<Traffic>>);

#[derive(Default)]
struct Traffic {
    calls: usize,
    /// Of those, the looks at what was written to since the last cut was set.
    looks: usize,
    cuts: Cuts,
    /// Whether the function is gone, until the next pass.
    gone: bool,
    /// What each kind of world held before the last write, and which call that was.
    before: HashMap<TypeId, (usize, Box<dyn Any + Send>)>,
    between: VecDeque<BoxFuture<'static, ()>>,
}

impl Line {
    /// How many calls were made since the last cut was set.
    pub fn calls(&self) -> usize {
        self.traffic().calls
    }

    /// What becomes of these calls, counted from now on.
    pub fn cut(&self, cuts: impl Into<Cuts>) {
        let mut traffic = self.traffic();
        *traffic = Traffic { cuts: cuts.into(), between: take(&mut traffic.between), ..Traffic::default() };
    }

    /// Lets this happen right before the next transaction: after the function has read, and before it writes.
    pub fn meanwhile(&self, other: impl Future<Output = ()> + Send + 'static) {
        self.traffic().between.push_back(Box::pin(other));
    }

    /// Ends a pass with its answer, which nobody hears of a function that is gone. Another pass may begin.
    ///
    /// # Errors
    /// The pass ended so, or the function was gone.
    pub fn end_pass<T, E: From<AwsError>>(&self, answer: Result<T, E>) -> Result<T, E> {
        if take(&mut self.traffic().gone) { Err(lost().into()) } else { answer }
    }

    /// Makes a call.
    ///
    /// # Errors
    /// The call is lost, or AWS could not answer.
    pub fn call<T>(&self, act: impl FnOnce() -> T) -> Result<T, AwsError> {
        let cut = {
            let mut traffic = self.traffic();
            if traffic.gone {
                return Err(lost());
            }
            traffic.calls += 1;
            let number = traffic.calls;
            let cut = traffic.cuts.0.into_iter().flatten().find(|cut| cut.call() == Some(number));
            traffic.gone = matches!(cut, Some(Cut::Before(_)));
            cut
        };
        match cut {
            Some(Cut::Before(_) | Cut::Unsent(_)) => return Err(lost()),
            Some(Cut::Throttled(_)) => return Err(refused("ThrottlingException", 400)),
            Some(Cut::Failed(_)) => return Err(refused("InternalServerError", 500)),
            Some(Cut::After(_) | Cut::Unanswered(_) | Cut::FailedLate(_) | Cut::Stale(_)) | None => {}
        }
        let answer = act();
        match cut {
            Some(Cut::After(_)) => {
                self.traffic().gone = true;
                Err(lost())
            }
            Some(Cut::Unanswered(_)) => Err(lost()),
            Some(Cut::FailedLate(_)) => Err(refused("InternalServerError", 500)),
            _ => Ok(answer),
        }
    }

    /// Makes a call that changes a world.
    ///
    /// # Errors
    /// The call is lost, or AWS could not answer.
    pub fn write<W: Clone + Send + 'static, T>(
        &self,
        world: &RefCell<W>,
        act: impl FnOnce(&mut W) -> T,
    ) -> Result<T, AwsError> {
        self.call(|| {
            let mut world = world.borrow_mut();
            self.remember(&*world);
            act(&mut world)
        })
    }

    /// Keeps what a world is before it is written to.
    pub fn remember<W: Clone + Send + 'static>(&self, world: &W) {
        let mut traffic = self.traffic();
        let number = traffic.calls;
        traffic.before.insert(TypeId::of::<W>(), (number, Box::new(world.clone())));
    }

    /// So much time passes that all looks show what was written.
    pub fn settle(&self) {
        self.traffic().before.clear();
    }

    /// Makes a call that looks at a world, of a service that may show it as it was before the last write.
    ///
    /// # Errors
    /// The call is lost, or AWS could not answer.
    pub fn look<W: Clone + Send + 'static, T>(
        &self,
        world: &RefCell<W>,
        look: impl FnOnce(&mut W) -> T,
    ) -> Result<T, AwsError> {
        self.call(|| match self.shown_before() {
            Some(mut before) => look(&mut before),
            None => look(&mut world.borrow_mut()),
        })
    }

    /// The world before the last write, if this look is one that shows it.
    pub fn shown_before<W: Clone + Send + 'static>(&self) -> Option<W> {
        let mut traffic = self.traffic();
        let (written, before) = traffic.before.get(&TypeId::of::<W>())?;
        if traffic.calls > written + SHOWN_LATE {
            return None;
        }
        let before = before.downcast_ref::<W>().unwrap().clone();
        traffic.looks += 1;
        let is_stale = traffic.cuts.0.contains(&Some(Cut::Stale(traffic.looks)));
        is_stale.then(|| {
            SHOWN_BEFORE.set(true);
            before
        })
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.0.lock().unwrap()
    }
}

impl Cut {
    /// The number of its call.
    fn call(self) -> Option<usize> {
        match self {
            Cut::Before(number)
            | Cut::After(number)
            | Cut::Unsent(number)
            | Cut::Unanswered(number)
            | Cut::Throttled(number)
            | Cut::Failed(number)
            | Cut::FailedLate(number) => Some(number),
            Cut::Stale(_) => None,
        }
    }
}

fn lost() -> AwsError {
    AwsError::of::<ErrorMetadata>("the call")(SdkError::timeout_error("it is lost"))
}

/// What AWS says no to a call by, with this code and HTTP status.
pub fn refused(code: &str, status: u16) -> AwsError {
    let error = ErrorMetadata::builder().code(code).message("it is refused").build();
    let response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
    AwsError::of("the call")(SdkError::service_error(error, response))
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Table(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    items: BTreeMap<Key, Item>,
    /// Why the next transactions are cancelled.
    cancelled: VecDeque<&'static str>,
}

impl Table {
    /// The store on this table, by this line. On a line of its own a test looks at what the function did.
    pub fn store(&self, line: &Line) -> Store {
        Store::in_memory(Connection { table: self.clone(), line: line.clone() })
    }

    /// Cancels the next transaction for this reason.
    pub fn cancel_next(&self, reason: &'static str) {
        self.content().cancelled.push_back(reason);
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }
}

/// What a store has in place of DynamoDB's client.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    table: Table,
    line: Line,
}

impl Connection {
    /// All that is written down.
    pub(crate) fn written(&self) -> String {
        let content = self.table.content();
        let read = |item: &Item| serde_dynamo::from_item::<_, serde_json::Value>(item.clone()).unwrap();
        content.items.iter().map(|(key, item)| format!("{key:?} {}\n", read(item))).collect()
    }

    pub(crate) fn item(&self, key: &Key) -> Result<Option<Item>, AwsError> {
        self.line.call(|| self.table.content().items.get(key).cloned())
    }

    pub(crate) fn query(&self, query: &Query) -> Result<Vec<Item>, AwsError> {
        self.line.call(|| {
            let content = self.table.content();
            let starts = |key: &Key| key.pk == query.pk && key.sk.starts_with(query.start.unwrap_or_default());
            let found = content.items.iter().filter(|(key, _)| starts(key)).map(|(_, item)| item.clone());
            if query.last.is_some() { found.rev().collect() } else { found.collect() }
        })
    }

    pub(crate) async fn transact(&self, writes: Vec<TransactWriteItem>) -> Result<(), Cancelled> {
        let between = self.line.traffic().between.pop_front();
        if let Some(other) = between {
            other.await;
        }
        self.line.call(|| self.table.content().transact(&writes)).map_err(Cancelled::Failed)?.map_err(Cancelled::For)
    }
}

impl Content {
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
    fn transact(&mut self, writes: &[TransactWriteItem]) -> Result<(), Vec<CancellationReason>> {
        assert!(writes.len() <= 100, "a transaction has at most 100 writes, not {}", writes.len());
        let mut next: Vec<(Key, Option<Item>)> = Vec::new();
        let mut codes = Vec::new();
        for write in writes {
            let (key, holds, written) = if let Some(check) = write.condition_check() {
                let key = Key::of(check.key());
                let given = Expressions::of(check.expression_attribute_names(), check.expression_attribute_values());
                let holds = given.hold(Some(check.condition_expression()), self.items.get(&key));
                given.assert_all_used(&[Some(check.condition_expression())]);
                let same = self.items.get(&key).cloned();
                (key, holds, same)
            } else if let Some(put) = write.put() {
                let key = Key::of(put.item());
                let given = Expressions::of(put.expression_attribute_names(), put.expression_attribute_values());
                let holds = given.hold(put.condition_expression(), self.items.get(&key));
                given.assert_all_used(&[put.condition_expression()]);
                (key, holds, Some(put.item().clone()))
            } else if let Some(update) = write.update() {
                let key = Key::of(update.key());
                let given = Expressions::of(update.expression_attribute_names(), update.expression_attribute_values());
                let holds = given.hold(update.condition_expression(), self.items.get(&key));
                given.assert_all_used(&[update.condition_expression(), Some(update.update_expression())]);
                let old = self.items.get(&key).unwrap_or(update.key());
                let new = holds.then(|| given.updated(update.update_expression(), old));
                (key, holds, new)
            } else if let Some(delete) = write.delete() {
                let key = Key::of(delete.key());
                let given = Expressions::of(delete.expression_attribute_names(), delete.expression_attribute_values());
                let holds = given.hold(delete.condition_expression(), self.items.get(&key));
                given.assert_all_used(&[delete.condition_expression()]);
                (key, holds, None)
            } else {
                panic!("the table in memory cannot do {write:?}");
            };
            assert!(next.iter().all(|(other, _)| *other != key), "one transaction writes {key:?} twice");
            next.push((key, written));
            codes.push(if holds { "None" } else { "ConditionalCheckFailed" });
        }
        if let Some(code) = self.cancelled.pop_front() {
            codes[0] = code;
        }
        if codes.iter().all(|code| *code == "None") {
            for (key, item) in next {
                match item {
                    Some(item) => drop(self.items.insert(key, item)),
                    None => drop(self.items.remove(&key)),
                }
            }
            return Ok(());
        }
        Err(codes.into_iter().map(|code| CancellationReason::builder().code(code).build()).collect())
    }
}

/// The names and values that the expressions of one write are given.
struct Expressions<'a> {
    names: Option<&'a HashMap<String, String>>,
    values: Option<&'a HashMap<String, AttributeValue>>,
}

impl<'a> Expressions<'a> {
    fn of(
        names: Option<&'a HashMap<String, String>>,
        values: Option<&'a HashMap<String, AttributeValue>>,
    ) -> Expressions<'a> {
        Expressions { names, values }
    }

    /// DynamoDB refuses what is given and not used.
    fn assert_all_used(&self, expressions: &[Option<&str>]) {
        let text = expressions.iter().flatten().copied().collect::<Vec<_>>().join(" ");
        for name in
            self.names.into_iter().flat_map(HashMap::keys).chain(self.values.into_iter().flat_map(HashMap::keys))
        {
            assert!(text.contains(name.as_str()), "{name} is given and not used: {text}");
        }
    }

    fn hold(&self, condition: Option<&str>, item: Option<&Item>) -> bool {
        condition.into_iter().flat_map(|condition| condition.split(" AND ")).all(|part| match part.split_once(" = ") {
            Some((path, value)) => self.at(path, item).is_some_and(|found| found == self.value(value)),
            None => {
                let (function, arguments) = call(part);
                assert_eq!(function, "attribute_not_exists");
                self.at(arguments[0], item).is_none()
            }
        })
    }

    /// All operands are what they were before the update.
    fn updated(&self, update: &str, old: &Item) -> Item {
        let mut new = old.clone();
        let (update, gone) = update.split_once(" REMOVE ").unwrap_or((update, ""));
        let (set, add) = update.strip_prefix("SET ").unwrap().split_once(" ADD ").unwrap_or((&update[4..], ""));
        for (path, operand) in parts(set).into_iter().map(|clause| clause.split_once(" = ").unwrap()) {
            self.put(&mut new, path, self.operand(operand, old));
        }
        if let Some((path, value)) = add.split_once(' ') {
            let number = |value: &AttributeValue| value.as_n().unwrap().parse::<u64>().unwrap();
            let sum = self.at(path, Some(old)).map_or(0, number) + number(self.value(value));
            self.put(&mut new, path, AttributeValue::N(sum.to_string()));
        }
        for name in parts(gone) {
            new.remove(self.name(name));
        }
        new
    }

    fn operand(&self, text: &str, item: &Item) -> AttributeValue {
        if text.starts_with(':') {
            return self.value(text).clone();
        }
        let (function, arguments) = call(text);
        match function {
            "if_not_exists" => {
                self.at(arguments[0], Some(item)).cloned().unwrap_or_else(|| self.operand(arguments[1], item))
            }
            "list_append" => {
                let list = |text| self.operand(text, item).as_l().unwrap().clone();
                AttributeValue::L([list(arguments[0]), list(arguments[1])].concat())
            }
            other => panic!("the table in memory has no {other}"),
        }
    }

    fn at<'i>(&self, path: &str, item: Option<&'i Item>) -> Option<&'i AttributeValue> {
        match path.split_once('.') {
            None => item?.get(self.name(path)),
            Some((outer, inner)) => self.at(inner, item?.get(self.name(outer))?.as_m().ok()),
        }
    }

    fn put(&self, item: &mut Item, path: &str, value: AttributeValue) {
        match path.split_once('.') {
            None => drop(item.insert(self.name(path).to_owned(), value)),
            Some((outer, inner)) => match item.get_mut(self.name(outer)) {
                Some(AttributeValue::M(outer)) => self.put(outer, inner, value),
                _ => panic!("DynamoDB refuses the path {path}"),
            },
        }
    }

    fn name<'n>(&'n self, name: &'n str) -> &'n str {
        if name.starts_with('#') { &self.names.unwrap()[name] } else { name }
    }

    fn value(&self, name: &str) -> &AttributeValue {
        &self.values.unwrap()[name]
    }
}

/// `function(argument, argument)`.
fn call(text: &str) -> (&str, Vec<&str>) {
    let (function, rest) = text.split_once('(').unwrap_or_else(|| panic!("`{text}` is not known"));
    (function, parts(rest.strip_suffix(')').unwrap()))
}

/// What commas separate, without those inside of parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    })
    .map(str::trim)
    .collect()
}

/// The manifests of the five systems.
pub const SYSTEMS: [&str; 5] = [
    include_str!("../../../examples/dougust/shipway.yaml"),
    include_str!("../../../examples/fastapi-react/shipway.yaml"),
    include_str!("../../../examples/next-nest/shipway.yaml"),
    include_str!("../../../examples/rex/shipway.yaml"),
    include_str!("../../../examples/spa-nest/shipway.yaml"),
];

/// The last environment of a manifest: in the five systems that is the largest.
pub fn last_environment(manifest: &str) -> (EnvironmentName, Spec) {
    manifest::read_all(manifest).unwrap().pop().unwrap()
}

/// What record-release and the provisioning functions do until a platform stands by this manifest.
pub async fn provision(
    store: &Store,
    environment: &EnvironmentName,
    manifest: &str,
    made: Option<(&NetworkOutputs, &PlatformOutputs)>,
) {
    let app = manifest.lines().find_map(|line| line.strip_prefix("app: ")).unwrap().parse().unwrap();
    let spec = manifest::read(manifest, &app, environment).unwrap();
    let fence = store.component(&app, environment, &Component::Platform).await.unwrap().fence + 1;
    let artifact =
        Artifact::Object { key: format!("apps/{app}/{environment}/shipway.yaml"), version: fence.to_string() };
    let run = Run {
        release: ReleaseId::of_execution(&format!("platform {fence}"), Timestamp::UNIX_EPOCH),
        environment: environment.clone(),
        component: Component::Platform,
        artifact: artifact.clone(),
        repair: false,
        fence,
        app,
    };
    begin_with(store, &run, Some(&Manifest { artifact, spec })).await;
    if let Some((network, platform)) = made {
        store.set_network(&run, network, Timestamp::UNIX_EPOCH).await.unwrap();
        store.set_platform(&run, platform, Timestamp::UNIX_EPOCH).await.unwrap();
    }
    end(store, &run, Outcome::Succeeded).await;
}

/// What record-release does when this run begins: it has the claim from now on, whoever had it before.
pub async fn begin(store: &Store, run: &Run) {
    begin_with(store, run, None).await;
}

async fn begin_with(store: &Store, run: &Run, planned: Option<&Manifest>) {
    let state = store.component(&run.app, &run.environment, &run.component).await.unwrap();
    let claim = Claim { release: run.release.clone(), fence: run.fence, until: Timestamp::MAX, committed: false };
    let claimed = ComponentState { claim: Some(claim), fence: run.fence, ..state.clone() };
    let contender = Contender {
        release: run.release.clone(),
        artifact: run.artifact.clone(),
        execution: run.release.to_string(),
        started_at: Timestamp::UNIX_EPOCH,
    };
    let record = ReleaseRecord {
        previous: state.live.clone(),
        ..ReleaseRecord::opened(&contender, &run.app, &run.environment, &run.component)
    };
    let known = store.release(&run.app, &run.environment, &run.release).await.unwrap();
    store.begin(run, &state, &claimed, known.is_none().then_some(&record), planned).await.unwrap();
}

/// What record-release does when this run ends.
pub async fn end(store: &Store, run: &Run, outcome: Outcome) {
    let Run { app, environment, component, .. } = run;
    let state = store.component(app, environment, component).await.unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let new = release::end(&state, &run.release, run.fence, &run.artifact, outcome, now).unwrap();
    let record = store.release(app, environment, &run.release).await.unwrap().unwrap();
    let record = ReleaseRecord { outcome: Some(outcome), ..record };
    let planned = store.environment(app, environment).await.unwrap().filter(|_| *component == Component::Platform);
    let stands = planned.as_ref().and_then(|record| Some((record.planned.as_ref()?, record.applied.as_ref())));
    store.end(run, &state, &new, &record, stands).await.unwrap();
}
