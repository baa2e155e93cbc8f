//! Linearizability: is there one order of all calls, each taking effect between its invocation and its answer, that explains every
//! answer? The search is Wing and Gong's with Lowe's memo, one key at a time (keys that share nothing can be judged apart).
//!
//! What it leaves out: where the history comes from and what the calls mean. Times are integers of any one clock that all clients share
//! (virtual ms in the simulator, `CLOCK_MONOTONIC` ns of one machine in a test of real processes); what calls mean is a [`Model`].
//!
//! How a harness uses it:
//! 1. It keeps one [`Operation`] a call. A client that calls again with the same request id goes on with the same operation: `invoked`
//!    is its first try. No answer, or an error that leaves open what happened (time-out, connection reset): `answered` stays `None`, and
//!    the call may then have taken effect at any moment after `invoked`, or never.
//! 2. It writes them as JSON lines, one `serde_json::to_string(&operation)` each, in any order, so that a history can be judged again:
//!    `{"client":3,"key":"r17","op":"cancel","invoked":120,"answered":{"at":131,"output":"accepted"}}`.
//! 3. It calls [`check`] with the model of the keys, for jobs [`crate::register::JobRegister`], and prints what comes back.
//!
//! Two calls of which one is answered at the very moment at which the other is invoked count as concurrent.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::Hash;

/// A search gives up after this many tried steps: half a second, and some tens of megabytes of memo.
pub const STEPS_MAX: u64 = 500_000;

/// What the calls on one key mean, when they happen one after the other.
pub trait Model {
    type State: Clone + Eq + Hash;
    type Op;
    type Output;

    /// Before the first call.
    fn start() -> Self::State;

    /// The state after `op` answered `output`; `None` if it cannot have. Without an output nobody heard it: the state after the call
    /// took effect, if it can have.
    fn step(state: &Self::State, op: &Self::Op, output: Option<&Self::Output>) -> Option<Self::State>;

    /// Whether the call only looks: whatever is possible after it is possible without it. (It may make the state more certain, never
    /// another one.)
    fn is_read(op: &Self::Op) -> bool;
}

/// One call of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation<Op, Output> {
    /// Who called: for people, and for other checkers, which want to know.
    pub client: u64,
    /// Calls on different keys have nothing to do with each other.
    pub key: String,
    pub op: Op,
    pub invoked: u64,
    /// None: what became of it is unknown.
    pub answered: Option<Answered<Output>>,
}

/// What a client heard, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered<Output> {
    pub at: u64,
    pub output: Output,
}

/// What can be said of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// No order explains the answers. The longest that was found (positions in the history of the key), and the calls of which one had
    /// to come next and none could.
    Impossible {
        longest: Vec<usize>,
        stuck: Vec<usize>,
    },
    /// The search gave up after this many steps: neither proved nor refuted.
    TooLarge {
        steps: u64,
    },
}

/// A key that is not linearizable, or of which it is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub key: String,
    pub verdict: Verdict,
    /// The last calls of the longest order and those that are stuck, in words.
    pub words: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Linearizable => write!(f, "key {:?} is linearizable", self.key),
            Verdict::TooLarge { steps } => write!(f, "key {:?}: undecided after {steps} steps", self.key),
            Verdict::Impossible { .. } => {
                write!(f, "key {:?} is not linearizable: {}", self.key, self.words.join("; "))
            }
        }
    }
}

/// Judges every key of a history; empty: all of it is linearizable.
#[must_use]
#[allow(clippy::type_complexity)] // the map is spelled out once, where it is made
pub fn check<M: Model>(history: &[Operation<M::Op, M::Output>]) -> Vec<Finding>
where
    M::Op: fmt::Debug,
    M::Output: fmt::Debug,
{
    let mut keys: BTreeMap<&str, Vec<&Operation<M::Op, M::Output>>> = BTreeMap::new();
    history.iter().for_each(|o| keys.entry(&o.key).or_default().push(o));
    let mut findings = Vec::new();
    for (key, operations) in keys {
        let verdict = check_key::<M>(&operations, STEPS_MAX);
        let words = match &verdict {
            Verdict::Linearizable => continue,
            Verdict::TooLarge { .. } => Vec::new(),
            Verdict::Impossible { longest, stuck } => {
                let last = &longest[longest.len().saturating_sub(4)..];
                let after = last.iter().map(|i| format!("after {}", words(operations[*i])));
                after.chain(stuck.iter().map(|i| format!("no place for {}", words(operations[*i])))).collect()
            }
        };
        findings.push(Finding { key: key.to_owned(), verdict, words });
    }
    findings
}

fn words<Op: fmt::Debug, Output: fmt::Debug>(o: &Operation<Op, Output>) -> String {
    match &o.answered {
        Some(Answered { at, output }) => {
            format!("{:?} -> {output:?} by client {} in {}..{at}", o.op, o.client, o.invoked)
        }
        None => format!("{:?} -> unknown by client {} from {}", o.op, o.client, o.invoked),
    }
}

/// Judges the operations of one key, in any order, with at most `steps_max` steps tried.
#[must_use]
pub fn check_key<M: Model>(operations: &[&Operation<M::Op, M::Output>], steps_max: u64) -> Verdict {
    let mut order: Vec<usize> = (0..operations.len()).collect();
    order.sort_by_key(|i| (operations[*i].invoked, *i));
    let calls: Vec<&Operation<M::Op, M::Output>> = order.iter().map(|i| operations[*i]).collect();
    match Search::<M>::new(&calls, steps_max).run() {
        Verdict::Impossible { longest, stuck } => {
            let back = |positions: Vec<usize>| positions.into_iter().map(|p| order[p]).collect();
            Verdict::Impossible { longest: back(longest), stuck: back(stuck) }
        }
        verdict => verdict,
    }
}

/// Which candidates are tried first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// A read whose answer leaves the state as it is. If it fits now, taking it now costs nothing, whatever comes later: no other
    /// candidate need be tried in its place. Concurrent reads would else be tried in every order.
    Still,
    /// Any other answer.
    Known,
    /// A call whose client heard nothing, if it changes the state: else it may as well never have happened.
    Unknown,
}

/// A call that was put into the order.
struct Placed<S> {
    call: usize,
    pass: Pass,
    before: S,
}

struct Search<'a, M: Model> {
    /// By invocation.
    calls: &'a [&'a Operation<M::Op, M::Output>],
    done: Done,
    /// Everything before it is done.
    low: usize,
    known_left: usize,
    state: M::State,
    placed: Vec<Placed<M::State>>,
    seen: HashSet<(Box<[u64]>, M::State)>,
    steps: u64,
    steps_max: u64,
    longest: Vec<usize>,
    stuck: Vec<usize>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(calls: &'a [&'a Operation<M::Op, M::Output>], steps_max: u64) -> Self {
        Self {
            calls,
            done: Done(vec![0; calls.len().div_ceil(64)]),
            low: 0,
            known_left: calls.iter().filter(|c| c.answered.is_some()).count(),
            state: M::start(),
            placed: Vec::new(),
            seen: HashSet::new(),
            steps: 0,
            steps_max,
            longest: Vec::new(),
            stuck: Vec::new(),
        }
    }

    fn run(mut self) -> Verdict {
        let mut from = (Pass::Still, 0);
        while self.known_left > 0 {
            if self.steps > self.steps_max {
                return Verdict::TooLarge { steps: self.steps };
            }
            if let Some((pass, call, next)) = self.candidate(from) {
                self.place(pass, call, next);
                from = (Pass::Still, 0);
                continue;
            }
            if self.stuck.is_empty() || self.placed.len() > self.longest.len() {
                self.longest = self.placed.iter().map(|p| p.call).collect();
                self.stuck = self.window().filter(|i| self.calls[*i].answered.is_some()).collect();
            }
            from = loop {
                match self.take_back() {
                    None => return Verdict::Impossible { longest: self.longest, stuck: self.stuck },
                    Some((Pass::Still, _)) => {}
                    Some((pass, call)) => break (pass, call + 1),
                }
            };
        }
        Verdict::Linearizable
    }

    /// The calls that may come next: not done, and invoked before (or when) the first of those not done was answered.
    fn window(&self) -> impl Iterator<Item = usize> {
        let left = || (self.low..self.calls.len()).filter(|i| !self.done.has(*i));
        let mut horizon = u64::MAX;
        for i in left() {
            if self.calls[i].invoked > horizon {
                break;
            }
            horizon = horizon.min(self.calls[i].answered.as_ref().map_or(u64::MAX, |a| a.at));
        }
        left().take_while(move |i| self.calls[*i].invoked <= horizon)
    }

    /// The next call to try at this place, from a pass and a call on.
    fn candidate(&mut self, (first, from): (Pass, usize)) -> Option<(Pass, usize, M::State)> {
        let window: Vec<usize> = self.window().collect();
        let passes = [Pass::Still, Pass::Known, Pass::Unknown];
        for pass in passes.into_iter().skip_while(|p| *p != first) {
            for call in window.iter().copied().filter(|c| pass != first || *c >= from) {
                let answered = self.calls[call].answered.as_ref();
                if answered.is_none() != (pass == Pass::Unknown) {
                    continue;
                }
                self.steps += 1;
                let output = answered.map(|a| &a.output);
                let Some(next) = M::step(&self.state, &self.calls[call].op, output) else { continue };
                let is_same = next == self.state;
                let is_still = is_same && M::is_read(&self.calls[call].op);
                if is_still != (pass == Pass::Still) || (is_same && pass == Pass::Unknown) {
                    continue;
                }
                self.done.set(call, true);
                let is_new = self.seen.insert((self.done.key(), next.clone()));
                self.done.set(call, false);
                if is_new {
                    return Some((pass, call, next));
                }
                if pass == Pass::Still {
                    // It was here already, in another order, and led nowhere; so does everything else from here.
                    return None;
                }
            }
        }
        None
    }

    fn place(&mut self, pass: Pass, call: usize, next: M::State) {
        let before = std::mem::replace(&mut self.state, next);
        self.placed.push(Placed { call, pass, before });
        self.done.set(call, true);
        self.known_left -= usize::from(self.calls[call].answered.is_some());
        while self.low < self.calls.len() && self.done.has(self.low) {
            self.low += 1;
        }
    }

    fn take_back(&mut self) -> Option<(Pass, usize)> {
        let Placed { call, pass, before } = self.placed.pop()?;
        self.state = before;
        self.done.set(call, false);
        self.low = self.low.min(call);
        self.known_left += usize::from(self.calls[call].answered.is_some());
        Some((pass, call))
    }
}

/// Which calls are done, a bit each.
struct Done(Vec<u64>);

impl Done {
    fn has(&self, i: usize) -> bool {
        self.0[i / 64] >> (i % 64) & 1 == 1
    }

    fn set(&mut self, i: usize, done: bool) {
        let bit = 1 << (i % 64);
        if done { self.0[i / 64] |= bit } else { self.0[i / 64] &= !bit }
    }

    /// The same bits, short: how many words are full from the start, then the words up to the last that is not empty.
    fn key(&self) -> Box<[u64]> {
        let full = self.0.iter().take_while(|w| **w == u64::MAX).count();
        let end = self.0.iter().rposition(|w| *w != 0).map_or(0, |p| p + 1);
        std::iter::once(full as u64).chain(self.0[full..end.max(full)].iter().copied()).collect()
    }
}
