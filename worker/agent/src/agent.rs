//! The rules: what to start, what to refuse, what to repeat, when to forget.
//!
//! An attempt of this worker goes `starting → running → ended → forgotten`; it is *held* until it is forgotten. It is forgotten when the
//! coordinator says that its end is durable, or when it ended after a `Kill`. Processes are ended by the shim when the lease runs out, not
//! here: the agent may hang, and then only hears that it happened.

use crate::events::Events;
use crate::evict::Evictions;
use crate::input::{Action, Input, Instruction, Journaled, StartOrder};
use crate::lease::Lease;
use crate::saving::Saving;
use muster_core::command::{Report, ReportKind};
use muster_core::model::artifact::Artifact;
use muster_core::model::attempt::Outcome;
use muster_core::model::checkpoint::{Saved, Verdict};
use muster_core::model::device_event::DeviceEvent;
use muster_core::model::ids::{IndexRef, Token};
use muster_core::model::lease::RENEW_MS;
use std::collections::{BTreeMap, BTreeSet};

/// Forgotten tokens that are remembered one by one, so that tokens may arrive out of order. Older ones are known by the floor alone.
const FORGOTTEN_MAX: usize = 16_384;

/// The rules of one worker.
#[derive(Debug, Clone)]
pub struct Agent {
    held: BTreeMap<Token, Held>,
    /// Tokens above the floor that were held once.
    forgotten: BTreeSet<Token>,
    /// No token at or below this one is ever started.
    floor: Token,
    lease: Lease,
    session: bool,
    next_heartbeat: u64,
    events: Events,
    evictions: Evictions,
}

#[derive(Debug, Clone)]
struct Held {
    at: IndexRef,
    number: u32,
    rank: u32,
    phase: Phase,
    /// Its end is nobody's business.
    killed: bool,
    /// The checkpoint that was stored last, until its fate is known.
    saving: Option<Saving>,
}

#[derive(Debug, Clone)]
enum Phase {
    Starting,
    /// `heard`: the log knows.
    Running {
        heard: bool,
        reported: Option<u64>,
    },
    Ended {
        outcome: Outcome,
        artifacts: Vec<Artifact>,
        ran_ms: u64,
        reported: Option<u64>,
    },
}

impl Agent {
    /// The agent of a worker whose journal holds `journaled`, has seen tokens up to `highest_token` and leaders up to `term`.
    #[must_use]
    pub fn new(journaled: Vec<Journaled>, highest_token: Token, term: u64) -> Self {
        let held =
            journaled.into_iter().map(|entry| {
                let phase = entry.result.map_or(Phase::Starting, |(outcome, artifacts, ran_ms)| {
                    Phase::Ended { outcome, artifacts, ran_ms, reported: None }
                });
                (entry.token, Held::new(entry.at, entry.number, entry.rank, phase))
            });
        Self {
            held: held.collect(),
            forgotten: BTreeSet::new(),
            floor: highest_token,
            lease: Lease::new(term),
            session: false,
            next_heartbeat: 0,
            events: Events::default(),
            evictions: Evictions::default(),
        }
    }

    /// Takes in one thing that happened at `now` (boot-time clock, ms) and says what to do, in order.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::SessionOpened => self.session_opened(now, &mut out),
            Input::SessionClosed => self.session = false,
            Input::Tick => self.ticked(now, &mut out),
            Input::Instruction(instruction) => self.instructed(now, instruction, &mut out),
            Input::Started { token } => self.started(now, token, &mut out),
            Input::Ended { token, outcome, artifacts, ran_ms } => {
                self.ended(now, token, (outcome, artifacts, ran_ms), &mut out);
            }
            Input::Notice(notice) => out.extend(self.evictions.noticed(now, notice, self.session)),
            Input::Saved { token, saved } => {
                self.evictions.saved(now, token, saved.took_ms);
                self.saved(now, token, saved, &mut out);
            }
            Input::DeviceEvents(seen) => self.saw(now, seen, &mut out),
        }
        out
    }

    /// What a registration and every heartbeat name: running, starting, or ended and not settled.
    #[must_use]
    pub fn held(&self) -> Vec<Token> {
        self.held.keys().copied().collect()
    }

    /// The highest term seen; to be journaled when it changes.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.lease.term()
    }

    /// When the next [`Input::Tick`] has something to do (boot-time clock, ms).
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        self.session.then_some(self.next_heartbeat)
    }

    fn instructed(&mut self, now: u64, instruction: Instruction, out: &mut Vec<Action>) {
        match instruction {
            Instruction::Start(order) => self.start(now, order, out),
            Instruction::Stop { token, signal, grace_ms, within_ms } => {
                if self.held.get(&token).is_some_and(Held::is_live) {
                    out.extend(self.evictions.ordered(now, token, (signal, grace_ms), within_ms));
                }
            }
            Instruction::Checkpoint { token, step, verdict } => self.answered(token, step, verdict, out),
            Instruction::NoticeHeard => self.evictions.heard(now),
            Instruction::Notice(notice) => out.extend(self.evictions.told(now, &notice)),
            Instruction::Kill { token } => self.kill(token, out),
            Instruction::Settled { tokens } => tokens.into_iter().for_each(|token| self.settled(token, out)),
            Instruction::Heard { tokens } => tokens.iter().for_each(|token| self.heard(*token)),
            Instruction::EventsSettled { seq } => self.events.settle(seq),
            Instruction::Probe { uuids } => out.push(Action::Probe { uuids }),
            Instruction::Drill(event) => self.saw(now, vec![event], out),
            Instruction::Renewed { seq, term } => self.renewed(now, seq, term, out),
        }
    }

    /// Something happened to devices.
    fn saw(&mut self, now: u64, seen: Vec<DeviceEvent>, out: &mut Vec<Action>) {
        let any = !seen.is_empty();
        self.events.add(now, seen);
        if self.session && any {
            // Always from the oldest on: whoever has heard a number has heard all before it.
            out.push(Action::DeviceEvents(self.events.unsettled()));
        }
    }

    fn session_opened(&mut self, now: u64, out: &mut Vec<Action>) {
        self.session = true;
        self.evictions.session_opened();
        self.heartbeat(now, out);
        self.report_all(now, out);
    }

    fn ticked(&mut self, now: u64, out: &mut Vec<Action>) {
        if self.session && now >= self.next_heartbeat {
            self.heartbeat(now, out);
            self.report_due(now, out);
        }
    }

    fn heartbeat(&mut self, now: u64, out: &mut Vec<Action>) {
        self.next_heartbeat = now + RENEW_MS;
        out.push(Action::Heartbeat { seq: self.lease.send(now), held: self.held() });
        let unsettled = self.events.unsettled();
        if !unsettled.is_empty() {
            out.push(Action::DeviceEvents(unsettled));
        }
        out.extend(self.evictions.unheard(now).map(Action::Notice));
    }

    fn start(&mut self, now: u64, order: Box<StartOrder>, out: &mut Vec<Action>) {
        let token = order.token;
        if self.held.contains_key(&token)
            || self.forgotten.contains(&token)
            || !self.see_term(now, order.term, out)
        {
            return;
        }
        let (at, number, rank) = (order.at, order.number, order.rank);
        if token <= self.floor {
            // It may have run before the journal was last read. Saying so lets the coordinator grant a new token; where the old
            // one has ended already, the report is fenced.
            self.held.insert(token, Held::new(at, number, rank, Phase::Starting));
            let outcome = Outcome::Launch("the worker may have started it before its agent restarted".into());
            self.ended(now, token, (outcome, Vec::new(), 0), out);
            return;
        }
        if self.evictions.refuses() {
            // Ordered before the coordinator knew that this machine goes.
            self.held.insert(token, Held::new(at, number, rank, Phase::Starting));
            out.extend(self.evictions.unheard(now).map(Action::Notice));
            self.ended(now, token, (Outcome::Evicted, Vec::new(), 0), out);
            return;
        }
        // A refused start is repeated by the leader with a newer heartbeat, because the next one does not name the token.
        let Some(deadline) = self.lease.deadline_of(order.heartbeat).filter(|d| Lease::is_open(now, *d))
        else {
            return;
        };
        self.held.insert(token, Held::new(at, number, rank, Phase::Starting));
        out.push(Action::Journal(Journaled { at, number, rank, token, result: None }));
        self.evictions.launched(now, &order);
        out.push(Action::Launch { order, deadline });
    }

    fn kill(&mut self, token: Token, out: &mut Vec<Action>) {
        let Some(held) = self.held.get_mut(&token) else { return };
        if held.is_live() {
            held.killed = true;
            out.push(Action::Kill { token });
        } else {
            self.forget(token, out);
        }
    }

    fn settled(&mut self, token: Token, out: &mut Vec<Action>) {
        if self.held.get(&token).is_some_and(|held| !held.is_live()) {
            self.forget(token, out);
        }
    }

    fn heard(&mut self, token: Token) {
        if let Some(Phase::Running { heard, .. }) = self.held.get_mut(&token).map(|held| &mut held.phase) {
            *heard = true;
        }
    }

    fn renewed(&mut self, now: u64, seq: u64, term: u64, out: &mut Vec<Action>) {
        if self.see_term(now, term, out)
            && let Some(deadline) = self.lease.renewed(seq)
        {
            out.push(Action::Renew { deadline });
        }
    }

    fn started(&mut self, now: u64, token: Token, out: &mut Vec<Action>) {
        let session = self.session;
        let Some(held) = self.held.get_mut(&token) else {
            out.push(Action::Kill { token });
            return;
        };
        if matches!(held.phase, Phase::Starting) {
            held.phase = Phase::Running { heard: false, reported: None };
            if session && !held.killed {
                out.push(Action::Report(held.reports(token, now)));
            }
        }
    }

    fn ended(
        &mut self,
        now: u64,
        token: Token,
        result: (Outcome, Vec<Artifact>, u64),
        out: &mut Vec<Action>,
    ) {
        let session = self.session;
        let Some(held) = self.held.get_mut(&token) else {
            out.push(Action::Forget { token });
            return;
        };
        if held.killed {
            self.forget(token, out);
            return;
        }
        if !held.is_live() {
            return;
        }
        let (at, number, rank) = (held.at, held.number, held.rank);
        let (outcome, artifacts, ran_ms) = result;
        let outcome = self.evictions.outcome(token, outcome);
        self.evictions.forget(token);
        let result = (outcome.clone(), artifacts.clone(), ran_ms);
        out.push(Action::Journal(Journaled { at, number, rank, token, result: Some(result) }));
        held.phase = Phase::Ended { outcome, artifacts, ran_ms, reported: None };
        if session {
            out.push(Action::Report(held.reports(token, now)));
        }
    }

    /// A checkpoint is stored. Of an attempt that is over, nothing is committed any more.
    fn saved(&mut self, now: u64, token: Token, saved: Saved, out: &mut Vec<Action>) {
        let session = self.session;
        let Some(held) = self.held.get_mut(&token).filter(|held| held.is_live()) else {
            let verdict = Verdict::Refused("its attempt is over".to_owned());
            out.push(Action::Verdict { token, step: saved.step, verdict });
            return;
        };
        let saving = held.saving.insert(Saving::new(saved));
        if session && !held.killed {
            out.push(Action::Report(vec![saving.report(token, held.rank, held.at, now)]));
        }
    }

    /// What became of a checkpoint, whoever asked: of a gang, it is told to all.
    fn answered(&mut self, token: Token, step: u64, verdict: Verdict, out: &mut Vec<Action>) {
        let Some(held) = self.held.get_mut(&token) else { return };
        if verdict != Verdict::Waits {
            held.saving.take_if(|saving| saving.step() == step);
        }
        out.push(Action::Verdict { token, step, verdict });
    }

    /// False when the term is an old leader's. A new leader is told everything: what its predecessor heard may be lost with it, and a
    /// session through a follower outlives a leader.
    fn see_term(&mut self, now: u64, term: u64, out: &mut Vec<Action>) -> bool {
        let Some(newer) = self.lease.see_term(term) else { return false };
        if newer && self.session {
            self.report_all(now, out);
        }
        true
    }

    fn report_all(&mut self, now: u64, out: &mut Vec<Action>) {
        let held = self.held.iter_mut().filter(|(_, held)| !held.killed);
        let reports: Vec<Report> = held.flat_map(|(token, held)| held.reports(*token, now)).collect();
        if !reports.is_empty() {
            out.push(Action::Report(reports));
        }
    }

    /// Repeats what was reported a heartbeat ago and is not answered yet: a report can be lost while its session lives, when the member
    /// that has the session finds another way to the leader.
    fn report_due(&mut self, now: u64, out: &mut Vec<Action>) {
        let due = self.held.iter_mut().filter(|(_, held)| !held.killed);
        let reports: Vec<Report> = due.flat_map(|(token, held)| held.due(*token, now)).collect();
        if !reports.is_empty() {
            out.push(Action::Report(reports));
        }
    }

    fn forget(&mut self, token: Token, out: &mut Vec<Action>) {
        self.held.remove(&token);
        self.evictions.forget(token);
        if token > self.floor {
            self.forgotten.insert(token);
        }
        if self.forgotten.len() > FORGOTTEN_MAX {
            self.floor = self.forgotten.pop_first().unwrap_or(self.floor);
        }
        out.push(Action::Forget { token });
    }
}

impl Held {
    fn new(at: IndexRef, number: u32, rank: u32, phase: Phase) -> Self {
        Self { at, number, rank, phase, killed: false, saving: None }
    }

    fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Ended { .. })
    }

    /// All that is to be said of it now: nothing before it runs. A checkpoint comes before the end: after it, nothing is committed.
    fn reports(&mut self, token: Token, now: u64) -> Vec<Report> {
        let (rank, at) = (self.rank, self.at);
        let saved = self.saving.as_mut().map(|saving| saving.report(token, rank, at, now));
        match self.report(token, now) {
            Some(report) if self.is_live() => [report].into_iter().chain(saved).collect(),
            report => saved.into_iter().chain(report).collect(),
        }
    }

    /// What of that was not said for a heartbeat and is not answered.
    fn due(&mut self, token: Token, now: u64) -> Vec<Report> {
        let old = |reported: Option<u64>| reported.is_none_or(|at| at + RENEW_MS <= now);
        let saved = self.saving.as_ref().is_some_and(|saving| old(saving.reported()));
        match self.phase {
            Phase::Running { heard: false, reported } if old(reported) => self.reports(token, now),
            Phase::Ended { reported, .. } if saved || old(reported) => self.reports(token, now),
            Phase::Ended { .. } => Vec::new(),
            Phase::Starting | Phase::Running { .. } => {
                let (rank, at) = (self.rank, self.at);
                self.saving
                    .as_mut()
                    .filter(|_| saved)
                    .map(|s| s.report(token, rank, at, now))
                    .into_iter()
                    .collect()
            }
        }
    }

    fn report(&mut self, token: Token, now: u64) -> Option<Report> {
        let kind = match &mut self.phase {
            Phase::Starting => return None,
            Phase::Running { reported, .. } => {
                *reported = Some(now);
                ReportKind::Running
            }
            Phase::Ended { outcome, artifacts, ran_ms, reported } => {
                *reported = Some(now);
                ReportKind::Ended { outcome: outcome.clone(), artifacts: artifacts.clone(), ran_ms: *ran_ms }
            }
        };
        Some(Report { token, rank: self.rank, at: self.at, kind })
    }
}
