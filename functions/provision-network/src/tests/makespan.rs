//! How long a network takes, in virtual time: each call of EC2 150 ms, a NAT gateway or interface endpoint 20 s to be made and
//! to be deleted, and between two passes the pause that the pass asked the machine for. `cargo xtask bench network` shows it.
//!
//! The yardstick is the longest chain of calls that AWS makes wait for each other, from this module's own table of what needs
//! what. Looks are not in it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use serde_json::{Value, json};
use shipway_domain::{
    message::{Pass, Summary},
    network::{Action, Target},
};

use super::{
    run,
    world::{World, mentioned},
};
use crate::handler::ProvisionError;

pub(super) const CALL: Duration = Duration::from_millis(150);
pub(super) const WORK: Duration = Duration::from_secs(20);

/// How much longer than the longest path it may take.
const MOST: f64 = 1.1;

/// Time that passes only when everybody waits for it.
#[derive(Clone, Default)]
pub(super) struct Clock(Rc<Times>);

#[derive(Default)]
struct Times {
    now: Cell<Duration>,
    sleepers: RefCell<BTreeMap<(Duration, usize), Waker>>,
    count: Cell<usize>,
    calls: RefCell<Vec<Call>>,
}

/// A call that EC2 answered.
struct Call {
    action: Action,
    id: String,
}

impl Clock {
    pub(super) fn now(&self) -> Duration {
        self.0.now.get()
    }

    pub(super) fn note(&self, action: &Action, id: &str) {
        self.0.calls.borrow_mut().push(Call { action: action.clone(), id: id.to_owned() });
    }

    pub(super) async fn sleep(&self, time: Duration) {
        let number = self.0.count.replace(self.0.count.get() + 1);
        let until = self.now() + time;
        std::future::poll_fn(|context| {
            if self.now() >= until {
                return Poll::Ready(());
            }
            self.0.sleepers.borrow_mut().insert((until, number), context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Runs a future to its end; where it waits, time goes on to the next that wakes.
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            woken.0.store(false, Ordering::Relaxed);
            if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return done;
            }
            if !woken.0.load(Ordering::Relaxed) {
                let ((until, _), sleeper) = self.0.sleepers.borrow_mut().pop_first().expect("nobody will ever wake");
                self.0.now.set(until.max(self.now()));
                sleeper.wake();
            }
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The third system, as its owner describes it.
fn dougust() -> Value {
    json!({
        "version": 1, "app": "hello",
        "network": {"cidr": "10.0.0.0/16", "azs": 2, "nat": "per_az", "flow_logs": {}},
        "services": {"api": {"image": {"repository": "hello-api"}, "port": 3000, "http": {"path": "/api/*"}}},
        "databases": {"main": {"engine": "postgres", "version": "15", "class": "db.t3.medium", "multi_az": true}},
        "domain": {"name": "dougust.example", "zone": "Z0123456789"},
    })
}

/// What one call had to wait for, as AWS has it: what it mentions, and what is not in its parameters.
fn needs(calls: &[Call], at: usize) -> Vec<(usize, Duration)> {
    let call = &calls[at];
    let is = |test: &dyn Fn(&Action) -> bool| -> Vec<usize> {
        (0..calls.len()).filter(|other| *other != at && test(&calls[*other].action)).collect()
    };
    let ids = mentioned(&call.action);
    let makers =
        (0..calls.len()).filter(|other| calls[*other].action.makes().is_some() && ids.contains(&calls[*other].id));
    let mut needed: Vec<(usize, Duration)> = makers.map(|maker| (maker, Duration::ZERO)).collect();
    let mut after = |others: Vec<usize>, time: Duration| needed.extend(others.into_iter().map(|other| (other, time)));
    let attached = |action: &Action| matches!(action, Action::AttachInternetGateway { .. });
    let nat_gone = |action: &Action| matches!(action, Action::DeleteNatGateway { .. });
    match &call.action {
        Action::CreateNatGateway { .. } => after(is(&attached), Duration::ZERO),
        Action::CreateDefaultRoute { target: Target::InternetGateway(_), .. } => after(is(&attached), Duration::ZERO),
        Action::CreateDefaultRoute { target: Target::NatGateway(id), .. } => {
            let maker =
                (0..calls.len()).filter(|other| calls[*other].id == *id && calls[*other].action.makes().is_some());
            after(maker.collect(), WORK);
        }
        Action::ReleaseAddress { .. } | Action::DetachInternetGateway { .. } => after(is(&nat_gone), WORK),
        // Only the public ones hold a NAT gateway; that the others went earlier makes no path longer.
        Action::DeleteSubnet { .. } => {}
        Action::DeleteRouteTable { table } => {
            let loosened =
                |action: &Action| matches!(action, Action::DisassociateRouteTable { table: of, .. } if of == table);
            after(is(&loosened), Duration::ZERO);
        }
        Action::DeleteGroup { .. } => {
            after(is(&|action| matches!(action, Action::Revoke { .. }) && names_any(action, &ids)), Duration::ZERO);
        }
        Action::DeleteInternetGateway { .. } => {
            after(is(&|action| matches!(action, Action::DetachInternetGateway { .. })), Duration::ZERO);
        }
        Action::DeleteVpc { .. } => {
            let inside = |action: &Action| {
                matches!(
                    action,
                    Action::DeleteSubnet { .. }
                        | Action::DeleteRouteTable { .. }
                        | Action::DeleteGroup { .. }
                        | Action::DetachInternetGateway { .. }
                )
            };
            after(is(&inside), Duration::ZERO);
        }
        _ => {}
    }
    needed
}

fn names_any(action: &Action, ids: &[String]) -> bool {
    mentioned(action).iter().any(|id| ids.contains(id))
}

/// The longest path: how long it is, and its calls.
fn longest_path(calls: &[Call]) -> (Duration, Vec<String>) {
    fn ends(calls: &[Call], at: usize, known: &mut BTreeMap<usize, (Duration, Option<usize>)>) -> Duration {
        if let Some((end, _)) = known.get(&at) {
            return *end;
        }
        let needed = needs(calls, at).into_iter().map(|(other, time)| (ends(calls, other, known) + time, other));
        let last = needed.max_by_key(|(end, _)| *end);
        let end = last.map_or(Duration::ZERO, |(end, _)| end) + CALL;
        known.insert(at, (end, last.map(|(_, other)| other)));
        end
    }
    let mut known = BTreeMap::new();
    let last = (0..calls.len()).max_by_key(|at| ends(calls, *at, &mut known));
    let mut path = Vec::new();
    let mut at = last;
    while let Some(call) = at {
        path.push(format!("{:?}", calls[call].action).split([' ', '{']).next().unwrap_or_default().to_owned());
        at = known[&call].1;
    }
    path.reverse();
    (last.map(|last| known[&last].0).unwrap_or_default(), path)
}

/// Makes passes as the machine does, with its pauses.
async fn machine(clock: &Clock, pass: impl AsyncFn() -> Result<Pass<Summary>, ProvisionError>) -> usize {
    for count in 1..1000 {
        match pass().await.unwrap() {
            Pass::Done(_) => return count,
            Pass::Again { seconds, .. } => clock.sleep(Duration::from_secs(seconds.into())).await,
        }
    }
    panic!("it does not end");
}

fn measured(clock: &Clock, what: &str, passes: impl Future<Output = usize>) -> f64 {
    clock.0.calls.borrow_mut().clear();
    let began = clock.now();
    let passes = clock.run(passes);
    let took = clock.now() - began;
    let calls = clock.0.calls.borrow();
    let (longest, path) = longest_path(&calls);
    let ratio = took.as_secs_f64() / longest.as_secs_f64();
    println!(
        "{what}: {:.2} s in {passes} passes and {} calls; longest path {:.2} s; {ratio:.3} ×",
        took.as_secs_f64(),
        calls.len(),
        longest.as_secs_f64(),
    );
    println!("  {}", path.join(" → "));
    ratio
}

#[test]
fn a_network_takes_no_longer_than_its_longest_path() {
    let clock = Clock::default();
    let world = World::timed(clock.clone());
    world.wants_all(dougust());
    println!("every call {} ms, NAT gateways {} s to be made and to be deleted", CALL.as_millis(), WORK.as_secs());
    let made = measured(&clock, "made from nothing", machine(&clock, async || world.apply(&run(1)).await));
    world.assert_stands("in virtual time");
    assert!(made <= MOST, "{made}");
    let removed = measured(&clock, "removed", machine(&clock, async || world.remove(&run(2)).await));
    world.assert_nothing_left("in virtual time");
    assert!(removed <= MOST, "{removed}");
}
