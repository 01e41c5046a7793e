//! Claim, fencing and newest-wins, checked in every order in which three contenders can meet.
//!
//! What is decided is decided by the code itself: [`take_in`], [`sweep`], [`begin`], [`end`]. Modelled is what is around them:
//! the component's item with its revision, invocations that read and write at different moments, answers that are lost,
//! executions that are started, repeated and aborted, leases that run out, calls to AWS that are still on their way.
//!
//! A search of our own: what must come about in the end is asked of a graph full of circles (a claim runs out, an event comes
//! again), and `stateright` documents that it misses such cases. It costs no dependency, and its states are small.

#![allow(clippy::print_stdout, reason = "how much was explored is part of the test's result")]

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use Intent::{Person, Push};

use super::*;

/// Half a lease: what runs out does so after two. No invocation but a pass outlives one, and no pass two.
const TICK: SignedDuration = SignedDuration::from_mins(8);

/// What comes to be wanted, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    /// A new image is pushed. The n-th intent pushes image n.
    Push,
    /// A person starts an execution for this image. Image 0 is live from the beginning.
    Person(u8),
}

/// A few contenders, and what they may do.
#[derive(Clone, Copy, Debug)]
struct World {
    intents: [Intent; 3],
    /// Between two moments: a second, or less where all come in one second.
    moment: SignedDuration,
    /// Whether runs commit before they write, as publications do, or never, as rollouts without a migration.
    commits: bool,
    /// How often something fails that has consequences: an artifact does not hold, an execution is aborted, the machine gives an
    /// invocation up that goes on, whose answer is then lost.
    faults: u8,
}

/// A component's state, by its place on the shelf. Its claim runs out after a number of ticks, whatever time it is.
type Item = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    /// How many of the intents have come.
    came: u8,
    item: Item,
    /// The image that serves.
    serves: u8,
    /// What an invocation of start-release has read and is about to write. A second one adds nothing: of two that read the same, one
    /// write is refused, and who is refused or cut off has done nothing.
    intake: Option<Item>,
    /// The executions that invocations of start-release are about to start, as bits.
    starts: u8,
    /// Each intent's execution.
    executions: [Execution; 3],
    /// Which intents were desired until now, as bits.
    desired: u8,
    /// How many faults are left.
    faults: u8,
    aborted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Execution {
    /// When the name of an event's execution was made, and when it started.
    named: u8,
    started: u8,
    machine: Machine,
    /// How its record stands.
    record: Record,
    /// Invocations of record-release: the one whose answer the machine waits for, and one that it no longer waits for.
    asks: [Option<Asking>; 2],
    /// A call to AWS that makes an image serve, and for how many ticks it is on its way.
    call: Option<(u8, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Machine {
    Absent,
    Begins,
    /// It holds, or believes to hold, the claim with this fence.
    Runs {
        fence: u8,
        committed: bool,
        back: bool,
    },
    Ends {
        fence: u8,
        outcome: Outcome,
    },
    Ended,
    Aborted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Record {
    None,
    Open,
    Closed(Outcome),
}

/// An invocation of record-release that has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asking {
    /// It is about to give the claim, and to open the record where it found none.
    Claims { item: Item, opens: bool },
    /// It is about to close the record of a release that does not begin, and to open it where it found none.
    TurnsAway { opens: bool },
    /// It is about to end the release.
    Ends { item: Item, outcome: Outcome },
    /// It is about to close the record of a release that lost its claim.
    ClosesRecord,
    /// It found the record closed.
    Tells,
}

/// What can happen next. That an invocation is cut off between reading and writing is no step: it is as if it had not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Comes,
    HalfALeasePasses,
    EventRead(u8),
    SweepRead(u8),
    IntakeWrites,
    Starts(usize),
    StartIsLost(usize),
    Asks(usize),
    AskWrites(usize, usize),
    AskIsLeftBehind(usize),
    Commits(usize),
    Passes(usize),
    CallArrives(usize),
    CallIsLost(usize),
    ArtifactFails(usize),
    IsAborted(usize),
}

impl Step {
    /// Whether it is of a world in which no event comes and nothing more fails: what must be enough to come to rest.
    fn is_good(self) -> bool {
        !matches!(
            self,
            Step::EventRead(_)
                | Step::StartIsLost(_)
                | Step::AskIsLeftBehind(_)
                | Step::CallIsLost(_)
                | Step::ArtifactFails(_)
                | Step::IsAborted(_)
        )
    }
}

/// Every state that was met, and the component's states in them.
struct Search {
    world: World,
    shelf: Vec<ComponentState>,
    places: HashMap<ComponentState, Item>,
    /// By image.
    artifacts: Vec<Artifact>,
}

fn image_of(artifact: &Artifact) -> u8 {
    let Artifact::Image { digest, .. } = artifact else { panic!("{artifact} is no image") };
    u8::from_str_radix(digest.short(), 16).unwrap()
}

impl Search {
    fn new(world: World) -> Search {
        let artifact = |n: u8| Artifact::Image {
            repository: "hello-api".parse().unwrap(),
            digest: format!("sha256:{n:02x}").parse().unwrap(),
        };
        let artifacts = (0..=3).map(artifact).collect();
        Search { world, shelf: Vec::new(), places: HashMap::new(), artifacts }
    }

    fn at(&self, moment: u8) -> Timestamp {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        start.checked_add(self.world.moment * i32::from(moment)).unwrap()
    }

    fn in_one_second(&self) -> bool {
        self.world.moment < SignedDuration::from_secs(1)
    }

    /// Intents come at even moments, and everything else happens between them.
    fn now(&self, state: &State) -> u8 {
        2 * state.came + 1
    }

    /// How a claim's end is kept on the shelf.
    fn ticks(left: i32) -> Timestamp {
        Timestamp::UNIX_EPOCH.checked_add(TICK * left).unwrap()
    }

    fn left(claim: &Claim) -> i32 {
        i32::try_from(claim.until.as_second() / TICK.as_secs()).unwrap()
    }

    /// The state as it is read now.
    fn read(&self, item: Item, now: u8) -> ComponentState {
        let mut state = self.shelf[item as usize].clone();
        if let Some(claim) = &mut state.claim {
            claim.until = self.at(now).checked_add(TICK * Self::left(claim)).unwrap();
        }
        state
    }

    /// The state as it is to be written, decided on now.
    fn keep(&mut self, mut state: ComponentState, now: u8) -> Item {
        if let Some(claim) = &mut state.claim {
            let left = claim.until.duration_since(self.at(now)).as_secs().max(0) / TICK.as_secs();
            claim.until = Self::ticks(i32::try_from(left).unwrap());
        }
        self.shelve(state)
    }

    fn shelve(&mut self, state: ComponentState) -> Item {
        if let Some(place) = self.places.get(&state) {
            return *place;
        }
        let place = Item::try_from(self.shelf.len()).unwrap();
        self.shelf.push(state.clone());
        self.places.insert(state, place);
        place
    }

    fn name(&self, intent: usize, named: u8) -> String {
        match self.world.intents[intent] {
            Intent::Push => format!("{EVENT_PREFIX}{intent}-{named}"),
            Intent::Person(_) => format!("by-hand-{intent}-0"),
        }
    }

    /// The intent whose execution has this name, and when the name was made. None is that of the beginning.
    fn intent(name: &str) -> Option<(u8, u8)> {
        let mut parts = name.rsplit('-');
        let (named, intent) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((intent, named))
    }

    fn image(&self, intent: usize) -> u8 {
        match self.world.intents[intent] {
            Intent::Push => u8::try_from(intent).unwrap() + 1,
            Intent::Person(image) => image,
        }
    }

    fn contender(&self, state: &State, of: usize) -> Contender {
        let execution = &state.executions[of];
        let name = self.name(of, execution.named);
        Contender {
            release: self.release(of),
            artifact: self.artifacts[usize::from(self.image(of))].clone(),
            execution: name,
            started_at: self.at(execution.started),
        }
    }

    fn release(&self, of: usize) -> ReleaseId {
        let second = i64::try_from(of).unwrap();
        format!("20270115T08000{second}000-00000{of}").parse().unwrap()
    }

    fn start(&mut self) -> State {
        let live = Live {
            artifact: self.artifacts[0].clone(),
            release: "20261121T031542123-3f9c2a".parse().unwrap(),
            since: Timestamp::UNIX_EPOCH,
        };
        let desired = Wanted {
            artifact: live.artifact.clone(),
            order: Order { at: Timestamp::UNIX_EPOCH, sequencer: None },
            execution: "event-before".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            outranked: Vec::new(),
        };
        let item = self.shelve(ComponentState {
            desired: Some(desired),
            live: Some(live.clone()),
            history: vec![live],
            ..ComponentState::default()
        });
        let execution = Execution {
            named: 0,
            started: 0,
            machine: Machine::Absent,
            record: Record::None,
            asks: [None; 2],
            call: None,
        };
        State {
            came: 0,
            item,
            serves: 0,
            intake: None,
            starts: 0,
            executions: [execution; 3],
            desired: 0,
            faults: self.world.faults,
            aborted: false,
        }
    }

    fn pushed_last(&self, state: &State) -> Option<u8> {
        (0..state.came).rev().find(|n| self.world.intents[usize::from(*n)] == Intent::Push)
    }

    /// All that may happen in this state.
    fn steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        if usize::from(state.came) < self.world.intents.len() {
            steps.push(Step::Comes);
        }
        let pushed = |intent: u8| self.world.intents[usize::from(intent)] == Intent::Push;
        if state.intake.is_none() {
            steps.extend((0..state.came).filter(|n| pushed(*n)).map(Step::EventRead));
            // Of images of one second ECR's list may name any as the newest.
            let newest = self.pushed_last(state);
            let is_newest = |n: &u8| pushed(*n) && (self.in_one_second() || Some(*n) == newest);
            steps.extend((0..state.came).filter(is_newest).map(Step::SweepRead));
        } else {
            steps.push(Step::IntakeWrites);
        }
        for of in (0..3).filter(|of| state.starts & 1 << of != 0) {
            steps.extend([Step::Starts(of), Step::StartIsLost(of)]);
        }
        let mut passes = state.shelved(self).claim.as_ref().is_some_and(|claim| Self::left(claim) > 0);
        for (of, execution) in state.executions.iter().enumerate() {
            for (slot, _) in execution.asks.iter().enumerate().filter(|(_, ask)| ask.is_some()) {
                steps.push(Step::AskWrites(of, slot));
            }
            if execution.call.is_some() {
                passes = true;
                steps.extend([Step::CallArrives(of), Step::CallIsLost(of)]);
            }
            let goes_on = match execution.machine {
                Machine::Begins | Machine::Ends { .. } => {
                    if execution.asks[0].is_none() {
                        steps.push(Step::Asks(of));
                    } else if state.faults > 0 && execution.asks[1].is_none() {
                        steps.push(Step::AskIsLeftBehind(of));
                    }
                    true
                }
                Machine::Runs { committed, back, .. } => {
                    let commits = self.world.commits && !committed;
                    if execution.call.is_none() {
                        steps.push(if commits { Step::Commits(of) } else { Step::Passes(of) });
                    }
                    if state.faults > 0 && !back {
                        steps.push(Step::ArtifactFails(of));
                    }
                    true
                }
                Machine::Absent | Machine::Ended | Machine::Aborted => false,
            };
            if goes_on && state.faults > 0 && !state.aborted {
                steps.push(Step::IsAborted(of));
            }
        }
        if passes {
            steps.push(Step::HalfALeasePasses);
        }
        steps
    }

    /// What this step makes of the state; or what must not happen.
    fn take(&mut self, state: &State, step: Step) -> Result<State, String> {
        let mut next = *state;
        let now = self.now(state);
        if matches!(step, Step::AskIsLeftBehind(_) | Step::ArtifactFails(_) | Step::IsAborted(_)) {
            next.faults -= 1;
        }
        match step {
            Step::Comes => {
                let of = usize::from(state.came);
                next.came += 1;
                if let Intent::Person(_) = self.world.intents[of] {
                    next.executions[of].started = 2 * next.came;
                    next.executions[of].machine = Machine::Begins;
                }
            }
            Step::HalfALeasePasses => self.pass_time(&mut next),
            Step::EventRead(of) | Step::SweepRead(of) => {
                let read = self.read(state.item, now);
                let intent = usize::from(of);
                let artifact = self.artifacts[usize::from(self.image(intent))].clone();
                // ECR tells the second of a push.
                let order = Order { at: whole_second(self.at(2 * (of + 1))), sequencer: None };
                let name = self.name(intent, now);
                let decided = match step {
                    Step::EventRead(_) => take_in(&read, &artifact, &order, &name, self.at(now)),
                    _ => sweep(&read, &artifact, &order, &name, self.at(now)),
                };
                match decided {
                    Intake::Ignore(_) => {}
                    Intake::StartAgain(wanted) => {
                        if let Some((of, _)) = Self::intent(&wanted.execution) {
                            next.starts |= 1 << of;
                        }
                    }
                    Intake::Want(wanted) => {
                        let new = ComponentState { desired: Some(wanted), ..read };
                        next.intake = Some(self.keep(new, now));
                    }
                }
            }
            Step::IntakeWrites => {
                let item = next.intake.take().unwrap();
                self.write(&mut next, item)?;
                let desired = self.shelf[item as usize].desired.as_ref().unwrap();
                let (of, named) = Self::intent(&desired.execution).unwrap();
                next.executions[usize::from(of)].named = named;
                next.starts |= 1 << of;
            }
            Step::Starts(of) => {
                next.starts &= !(1 << of);
                // One of this name that runs or ran is as good.
                let execution = &mut next.executions[of];
                if execution.machine == Machine::Absent {
                    execution.started = now;
                    execution.machine = Machine::Begins;
                }
            }
            Step::StartIsLost(of) => next.starts &= !(1 << of),
            Step::Asks(of) => next.executions[of].asks[0] = self.ask(state, of),
            Step::AskWrites(of, slot) => self.answer(&mut next, of, slot)?,
            Step::AskIsLeftBehind(of) => {
                let execution = &mut next.executions[of];
                execution.asks = [None, execution.asks[0]];
            }
            Step::Commits(of) => {
                let Machine::Runs { fence, back, .. } = state.executions[of].machine else { unreachable!() };
                next.executions[of].machine = match self.renew(&mut next, of, fence, true)? {
                    true => Machine::Runs { fence, committed: true, back },
                    false => Machine::Ends { fence, outcome: Outcome::Superseded },
                };
            }
            Step::Passes(of) => self.pass(&mut next, of)?,
            Step::CallArrives(of) => {
                let (image, _) = next.executions[of].call.take().unwrap();
                next.serves = image;
                let claim = &self.shelf[state.item as usize].claim;
                if self.world.commits && claim.as_ref().is_none_or(|claim| claim.release != self.release(of)) {
                    return Err(format!("{of} writes into what {claim:?} holds"));
                }
            }
            Step::CallIsLost(of) => next.executions[of].call = None,
            Step::ArtifactFails(of) => {
                let Machine::Runs { fence, committed, .. } = state.executions[of].machine else { unreachable!() };
                next.executions[of].machine = Machine::Runs { fence, committed, back: true };
            }
            Step::IsAborted(of) => {
                next.aborted = true;
                next.executions[of].machine = Machine::Aborted;
                next.executions[of].asks = [None; 2];
            }
        }
        Ok(next)
    }

    /// Invocations that only ask the table are over by then. A pass may be under way for one tick and not for two.
    fn pass_time(&mut self, state: &mut State) {
        let mut item = state.shelved(self).clone();
        if let Some(claim) = &mut item.claim {
            claim.until = Self::ticks((Self::left(claim) - 1).max(0));
        }
        state.item = self.shelve(item);
        (state.intake, state.starts) = (None, 0);
        for execution in &mut state.executions {
            execution.asks = [None; 2];
            execution.call = execution.call.filter(|(_, age)| *age == 0).map(|(image, _)| (image, 1));
        }
    }

    /// What record-release reads and decides when this execution asks to begin, or tells how it ended.
    fn ask(&mut self, state: &State, of: usize) -> Option<Asking> {
        let now = self.now(state);
        let read = self.read(state.item, now);
        let execution = &state.executions[of];
        match execution.machine {
            Machine::Begins => match (execution.record, begin(&read, &self.contender(state, of), self.at(now))) {
                (Record::Closed(_), _) => Some(Asking::Tells),
                (record, Begin::Claim(claimed)) => {
                    Some(Asking::Claims { item: self.keep(*claimed, now), opens: record == Record::None })
                }
                (record, Begin::Superseded { .. }) => Some(Asking::TurnsAway { opens: record == Record::None }),
                (_, Begin::Queue { .. }) => None,
            },
            Machine::Ends { fence, outcome } => {
                let artifact = &self.artifacts[usize::from(self.image(of))];
                match end(&read, &self.release(of), u64::from(fence), artifact, outcome, self.at(now)) {
                    Some(new) => Some(Asking::Ends { item: self.keep(new, now), outcome }),
                    None if matches!(execution.record, Record::Closed(_)) => Some(Asking::Tells),
                    None => Some(Asking::ClosesRecord),
                }
            }
            Machine::Absent | Machine::Runs { .. } | Machine::Ended | Machine::Aborted => unreachable!(),
        }
    }

    /// An invocation of record-release writes, under the conditions of `Store::begin`, `record_ended`, `end` and
    /// `end_superseded`, and answers if somebody still waits for that.
    fn answer(&mut self, state: &mut State, of: usize, slot: usize) -> Result<(), String> {
        let ask = state.executions[of].asks[slot].take().unwrap();
        let record = state.executions[of].record;
        let (written, machine) = match ask {
            Asking::Claims { item, opens } => {
                let goes = record == Record::None || !opens;
                let claim = self.shelf[item as usize].claim.as_ref().unwrap();
                let fence = u8::try_from(claim.fence).unwrap();
                if goes {
                    self.no_takeover(state, of, fence)?;
                    self.write(state, item)?;
                }
                let record = if opens { Record::Open } else { record };
                (goes.then_some(record), Machine::Runs { fence, committed: false, back: false })
            }
            Asking::TurnsAway { opens } => {
                let goes = if opens { record == Record::None } else { record == Record::Open };
                (goes.then_some(Record::Closed(Outcome::Superseded)), Machine::Ended)
            }
            Asking::Ends { item, outcome } => {
                self.write(state, item)?;
                (Some(Record::Closed(outcome)), Machine::Ended)
            }
            Asking::ClosesRecord => {
                let goes = record == Record::Open;
                (goes.then_some(Record::Closed(Outcome::Superseded)), Machine::Ended)
            }
            Asking::Tells => (Some(record), Machine::Ended),
        };
        // Refused: it reads again.
        let Some(written) = written else { return Ok(()) };
        if matches!(record, Record::Closed(_)) && written != record {
            return Err(format!("{of} ended as {record:?} and then as {written:?}"));
        }
        state.executions[of].record = written;
        if slot == 0 {
            state.executions[of].machine = machine;
        }
        Ok(())
    }

    /// A pass: it renews the claim, looks, and is done or makes a call. A call of a rollout that lost its claim is taken to have
    /// arrived before the last look of the one that won.
    fn pass(&mut self, state: &mut State, of: usize) -> Result<(), String> {
        let Machine::Runs { fence, back, .. } = state.executions[of].machine else { unreachable!() };
        if !self.renew(state, of, fence, false)? {
            state.executions[of].machine = Machine::Ends { fence, outcome: Outcome::Superseded };
            return Ok(());
        }
        let live = state.shelved(self).live.as_ref().map(|live| image_of(&live.artifact)).unwrap();
        let goal = if back { live } else { self.image(of) };
        let others = state.executions.iter().any(|execution| execution.call.is_some());
        if others && self.world.commits {
            return Err(format!("{of} works while another's call is on its way"));
        }
        if state.serves != goal {
            state.executions[of].call = Some((goal, 0));
        } else if !others {
            let outcome = if back { Outcome::RolledBack } else { Outcome::Succeeded };
            state.executions[of].machine = Machine::Ends { fence, outcome };
        }
        Ok(())
    }

    /// `Store::renew` and `Store::commit`: whether the table takes the write.
    fn renew(&mut self, state: &mut State, of: usize, fence: u8, commits: bool) -> Result<bool, String> {
        let mut item = state.shelved(self).clone();
        let (release, newest) = (self.release(of), item.fence);
        let Some(claim) = item.claim.as_mut().filter(|held| held.release == release && held.fence == u64::from(fence))
        else {
            return Ok(false);
        };
        if claim.fence != newest {
            return Err(format!("{of} writes with fence {fence}, and {newest} was given"));
        }
        claim.until = Self::ticks(2);
        claim.committed |= commits;
        let item = self.shelve(item);
        self.write(state, item)?;
        Ok(true)
    }

    /// Every write of the item. Whoever read before it and writes on the condition of what it read is refused, so it is as if it had
    /// not read.
    fn write(&self, state: &mut State, item: Item) -> Result<(), String> {
        let (old, new) = (state.shelved(self), &self.shelf[item as usize]);
        let name = |state: &ComponentState| state.desired.as_ref().map(|desired| desired.execution.clone());
        if name(old) != name(new) {
            let (of, _) = name(new).as_deref().and_then(Self::intent).ok_or("what was wanted first is wanted again")?;
            if state.desired & 1 << of != 0 {
                return Err(format!("intent {of} is wanted a second time"));
            }
            if !self.in_one_second() && state.desired >> of != 0 {
                return Err(format!("intent {of} is wanted after a newer one"));
            }
            state.desired |= 1 << of;
        }
        if new.fence < old.fence || new.claim.as_ref().is_some_and(|claim| claim.fence != new.fence) {
            return Err(format!("the fence {} goes back or is not the newest", new.fence));
        }
        state.item = item;
        state.intake = None;
        for ask in state.executions.iter_mut().flat_map(|execution| execution.asks.iter_mut()) {
            ask.take_if(|ask| matches!(ask, Asking::Claims { .. } | Asking::Ends { .. }));
        }
        Ok(())
    }

    fn no_takeover(&self, state: &State, of: usize, fence: u8) -> Result<(), String> {
        let Some(claim) = &state.shelved(self).claim else { return Ok(()) };
        let own = claim.release == self.release(of) && claim.fence == u64::from(fence);
        if claim.committed && Self::left(claim) > 0 && !own {
            return Err(format!("{of} takes the claim of {}, which is committed", claim.release));
        }
        Ok(())
    }

    /// Whether nothing is left to do; and if so, whether it came out as it must.
    fn at_rest(&self, state: &State) -> Result<bool, String> {
        let over = |execution: &Execution| {
            let over = matches!(execution.machine, Machine::Absent | Machine::Ended | Machine::Aborted);
            over && execution.asks == [None; 2] && execution.call.is_none()
        };
        let quiet = usize::from(state.came) == 3 && state.executions.iter().all(over);
        let item = state.shelved(self);
        let desired = item.desired.as_ref().unwrap();
        let newest = Self::intent(&desired.execution).filter(|(of, _)| *of == 2);
        if !quiet || item.claim.as_ref().is_some_and(|claim| Self::left(claim) > 0) {
            return Ok(false);
        }
        let closed = |execution: &Execution| matches!(execution.record, Record::Closed(_));
        let Some((newest, _)) = newest else {
            // Everything may have been lost until now; the sweep will find it. A person's execution is not swept.
            return match self.world.intents[2] {
                Intent::Person(_) if !state.aborted && !self.in_one_second() => {
                    Err(format!("what is wanted is {}, and not the newest", desired.execution))
                }
                Intent::Person(_) => Ok(true),
                // Of several images of one second any may be what stays.
                Intent::Push => Ok(self.in_one_second() && state.desired != 0),
            };
        };
        let newest = &state.executions[usize::from(newest)];
        if newest.machine == Machine::Absent {
            return Ok(false);
        }
        if state.aborted {
            return Ok(true);
        }
        let ended = |execution: &&Execution| execution.machine == Machine::Ended;
        if let Some(open) = state.executions.iter().filter(ended).find(|execution| !closed(execution)) {
            return Err(format!("{open:?} ended without an outcome"));
        }
        let live = image_of(&item.live.as_ref().unwrap().artifact);
        let succeeded = |execution: &Execution| execution.record == Record::Closed(Outcome::Succeeded);
        let last = (0..3).rev().find(|of| succeeded(&state.executions[*of])).map_or(0, |of| self.image(of));
        if matches!(newest.record, Record::Closed(Outcome::Superseded)) {
            return Err("the newest was superseded".to_owned());
        }
        if live != last || state.serves != live {
            return Err(format!("{live} is live and {} serves, where {last} went live last", state.serves));
        }
        Ok(true)
    }

    /// What must not change any more at rest: what is desired, is live and serves.
    fn outcome(&self, state: &State) -> (Option<Wanted>, Option<Live>, u8) {
        let item = state.shelved(self);
        (item.desired.clone(), item.live.clone(), state.serves)
    }

    /// Meets every state there is.
    fn explore(mut self) {
        let begun = Instant::now();
        let first = self.start();
        let mut states = vec![first];
        let mut known = HashMap::from([(first, 0_u32)]);
        let mut ways: Vec<(u32, Step)> = vec![(0, Step::Comes)];
        let (mut edges, mut good) = (0_usize, Vec::new());
        let mut rests = Vec::new();
        let mut at = 0;
        let story = |ways: &[(u32, Step)], states: &[State], mut at: usize| {
            let mut steps = VecDeque::new();
            while at != 0 {
                steps.push_front(format!("{:?}\n    {:?}", ways[at].1, states[at]));
                at = ways[at].0 as usize;
            }
            Vec::from(steps).join("\n")
        };
        while at < states.len() {
            let state = states[at];
            let rest = match self.at_rest(&state) {
                Ok(rest) => rest,
                Err(wrong) => panic!("{wrong}, in {:?}:\n{}", self.world, story(&ways, &states, at)),
            };
            rests.push(rest);
            for step in self.steps(&state) {
                edges += 1;
                let next = match self.take(&state, step) {
                    Ok(next) => next,
                    Err(wrong) => {
                        let story = story(&ways, &states, at);
                        panic!("{wrong}, by {step:?} in {:?}:\n{story}", self.world)
                    }
                };
                let number = *known.entry(next).or_insert_with(|| {
                    states.push(next);
                    ways.push((u32::try_from(at).unwrap(), step));
                    u32::try_from(states.len() - 1).unwrap()
                });
                if rest && !state.aborted && !self.in_one_second() && self.outcome(&state) != self.outcome(&next) {
                    panic!("it does not stay at rest, by {step:?} in {:?}:\n{}", self.world, story(&ways, &states, at));
                }
                // Nor does it need a list that names now one, now another image.
                let lists = !matches!(step, Step::SweepRead(n) if Some(n) != self.pushed_last(&state));
                if step.is_good() && lists && number as usize != at {
                    good.push((number, u32::try_from(at).unwrap()));
                }
            }
            at += 1;
        }
        // From everywhere there is a way to rest on which no event comes and nothing fails.
        good.sort_unstable();
        let mut reach = rests.clone();
        let mut open: Vec<u32> = (0_u32..).zip(&rests).filter(|(_, rest)| **rest).map(|(number, _)| number).collect();
        let resting = open.len();
        while let Some(number) = open.pop() {
            let from = good.partition_point(|(to, _)| *to < number);
            for (_, before) in good[from..].iter().take_while(|(to, _)| *to == number) {
                if !std::mem::replace(&mut reach[*before as usize], true) {
                    open.push(*before);
                }
            }
        }
        if let Some(stuck) = reach.iter().position(|reached| !reached) {
            panic!("it never comes to rest, in {:?}:\n{}", self.world, story(&ways, &states, stuck));
        }
        println!(
            "{:?}: {} states, {edges} steps, {resting} of the states at rest, {} items, in {:?}",
            self.world,
            states.len(),
            self.shelf.len(),
            begun.elapsed()
        );
    }
}

impl State {
    fn shelved<'s>(&self, search: &'s Search) -> &'s ComponentState {
        &search.shelf[self.item as usize]
    }
}

/// Explores what these contenders can do.
fn explore(worlds: &[[Intent; 3]], moment: SignedDuration, commits: bool, faults: u8) {
    for intents in worlds {
        Search::new(World { intents: *intents, moment, commits, faults }).explore();
    }
}

/// What comes in one order and is announced in any, or by the sweep alone.
const WORLDS: [[Intent; 3]; 8] = [
    [Push, Push, Push],
    [Push, Push, Person(0)],
    [Push, Push, Person(1)],
    [Push, Person(0), Push],
    [Push, Person(1), Push],
    [Person(0), Push, Push],
    [Push, Person(0), Person(1)],
    [Person(0), Person(0), Push],
];

#[test]
fn three_contenders_come_to_the_newest_whatever_is_lost_late_or_comes_again() {
    explore(&WORLDS, SignedDuration::from_secs(1), false, 0);
}

#[test]
fn three_contenders_in_one_second_come_to_one_of_them_and_to_none_twice() {
    explore(&WORLDS[1..], SignedDuration::from_millis(100), false, 0);
}

#[test]
fn three_contenders_that_must_not_be_stopped_write_one_after_the_other() {
    explore(&WORLDS[1..], SignedDuration::from_secs(1), true, 0);
}

#[test]
fn whatever_fails_once_nobody_waits_for_ever_and_what_succeeded_last_is_live() {
    explore(&WORLDS[7..], SignedDuration::from_secs(1), false, 1);
    explore(&WORLDS[6..], SignedDuration::from_secs(1), true, 1);
}
