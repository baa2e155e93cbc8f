//! `Leader::step`: the dispatch, and the end of a burst, where everything that waited is proposed and sent at once.

use super::empties::Emptiness;
use super::instruction::Instruction;
use super::io::{Input, Output, SessionId};
use super::liveness::Session;
use super::proposals::InFlight;
use super::scaling::Scaling;
use crate::command::{Command, Report};
use crate::health::XidPolicy;
use crate::model::checkpoint::Saved;
use crate::model::device_event::Judged;
use crate::model::idle::IdlePolicy;
use crate::model::ids::{JobId, TaskNo, Token, WorkerId};
use crate::model::notice::Notice;
use crate::model::time::Tick;
use crate::model::worker::{Incarnation, WorkerState};
use crate::scheduler::{Policy, View};
use crate::spec::{Expressions, Renderer, WhenFacts};
use crate::spot::LOOK_MS;
use crate::state::Delta;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A heartbeat: its stream, its number, when it was received, and the tokens it named.
pub(super) type Heard = (SessionId, u64, u64, Vec<Token>);

/// The rules of the leading member. A follower's leader is empty and proposes nothing.
#[derive(Default)]
pub struct Leader {
    pub(super) term: Option<u64>,
    pub(super) view: View,
    /// Now, as the last input said (boot-time, ms).
    pub(super) clock: u64,
    /// When (boot-time, ms) `view.tick` was learnt.
    pub(super) tick_at: u64,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// The stream through which each worker was heard last.
    pub(super) by_worker: BTreeMap<WorkerId, SessionId>,
    /// Receipt of the last acknowledged heartbeat, or the election.
    pub(super) heard: BTreeMap<WorkerId, u64>,
    /// When the incarnation before the registered one was heard last, or the election: its attempts' leases count from there.
    pub(super) former: BTreeMap<WorkerId, u64>,
    /// Heartbeats that wait for a confirmation, and those of the one under way.
    pub(super) unconfirmed: Vec<Heard>,
    pub(super) confirming: Option<(u64, Vec<Heard>)>,
    pub(super) confirms: u64,
    /// Incarnations whose loss is on its way into the log: nothing of theirs is renewed or started any more, for it would outlive its
    /// grant. By the proposals of it whose fate is open. Another incarnation of the same worker is not concerned: apply refuses it.
    pub(super) losing: BTreeMap<(WorkerId, Incarnation), BTreeSet<u64>>,
    /// Workers with notices on their way into the log, by the proposals whose fate is open: until then nobody knows what is said last.
    pub(super) noticing: BTreeMap<WorkerId, BTreeSet<u64>>,
    /// Streams to end: their workers have to register again.
    pub(super) closing: BTreeSet<SessionId>,
    pub(super) outbox: BTreeMap<SessionId, Vec<Instruction>>,
    pub(super) reports: BTreeMap<WorkerId, Vec<Report>>,
    /// Ends of ranks that are on their way into the log.
    pub(super) ending: BTreeSet<(Token, u32)>,
    pub(super) started: BTreeSet<(Token, u32)>,
    /// Checkpoints of ranks that are on their way into the log.
    pub(super) saving: BTreeMap<(Token, u32), Saved>,
    pub(super) whens: BTreeMap<(JobId, TaskNo), WhenFacts>,
    /// Attempts with a timeout, by when it is up.
    pub(super) deadlines: BTreeSet<(Tick, Token)>,
    /// Tokens that a worker of theirs does not hold although it should, since when.
    pub(super) missing: BTreeMap<(Token, WorkerId), u64>,
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    pub(super) proposals: u64,
    pub(super) must_plan: bool,
    pub(super) policy: Policy,
    pub(super) next_retire: u64,
    /// When the spot workers are looked at again.
    pub(super) next_look: u64,
    /// Not before this one …
    pub(super) next_sweep: u64,
    /// … and not before a lease or a drain may be over.
    pub(super) sweep_due: u64,
    pub(super) next_orphans: u64,
    /// Which events of devices take them out of service.
    pub(super) health: Arc<XidPolicy>,
    pub(super) device_events: BTreeMap<WorkerId, Vec<Judged>>,
    /// What workers said of their machines and is not on its way into the log yet.
    pub(super) notices: BTreeMap<WorkerId, Notice>,
    /// Devices that nothing of ours had when something was last seen to compute on them.
    pub(super) computing: BTreeMap<WorkerId, BTreeSet<u16>>,
    /// Seats on which nothing computes, as last measured.
    pub(super) empties: BTreeMap<(Token, WorkerId), Emptiness>,
    /// What is done about those that compute nothing for long.
    pub(super) idle: Option<IdlePolicy>,
    /// Of these it was said.
    pub(super) idle_said: BTreeSet<Token>,
    /// When what is known of them is proposed again.
    pub(super) next_empty: u64,
    /// When each worker was last asked to look at its devices again.
    pub(super) probed: BTreeMap<WorkerId, u64>,
    /// Pools: as configured here, what their providers say, what was decided.
    pub(super) scaling: Scaling,
    pub(super) expressions: Expressions,
    pub(super) renderer: Renderer,
}

impl Leader {
    /// A leader that does not lead.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that judges the events of devices by this policy.
    #[must_use]
    pub fn with_health(health: XidPolicy) -> Self {
        Self { health: Arc::new(health), ..Self::default() }
    }

    /// The same, with a rule about attempts that compute nothing.
    #[must_use]
    pub fn with_idle(self, idle: Option<IdlePolicy>) -> Self {
        Self { idle, ..self }
    }

    /// Whether it leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.term.is_some()
    }

    /// One input; `now` is the boot-time clock in milliseconds.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Output> {
        self.clock = now;
        match input {
            Input::Elected { term, state } => self.elected(now, term, *state),
            Input::Deposed => *self = self.afresh(),
            Input::Delta(delta) => self.learn(now, *delta),
            Input::SessionOpened { session, worker, incarnation, held } => {
                self.session_opened(session, worker, incarnation, held);
            }
            Input::SessionClosed { session } => self.session_closed(session),
            Input::Heartbeat { session, seq, held } => self.unconfirmed.push((session, seq, now, held)),
            Input::Reports { session, reports } => self.reported(session, reports),
            Input::DeviceEvents { session, events } => self.device_events_came(session, events),
            Input::Notice { session, notice } => self.notice_came(session, notice),
            Input::Measured { worker, computing, empty } => {
                self.measured(worker, computing);
                self.looked_for_empty(now, worker, &empty);
            }
            Input::Drill { worker, event } => self.drill_came(worker, event),
            Input::Fleet(fleet) => self.scaling.configured = Some(*fleet),
            Input::Group { pool, report } => self.group_came(now, pool, report),
            Input::Unseen { pool } => self.group_unseen(now, pool),
            Input::Trouble { pool, reason, for_ms } => self.scaling.trouble(pool, reason, now + for_ms),
            Input::Confirmed { batch, ok } => self.confirmed(now, batch, ok),
            Input::Proposed { id, replies } => self.proposed(id, replies),
            Input::Refused { id } => self.refused(id),
            Input::Tick => return self.settle(now),
        }
        Vec::new()
    }

    /// Nothing is left of a term but its numbers, for an answer that comes late must not fit a question of another term, and the policy.
    fn afresh(&self) -> Self {
        Self {
            clock: self.clock,
            confirms: self.confirms,
            proposals: self.proposals,
            health: self.health.clone(),
            idle: self.idle,
            scaling: self.scaling.afresh(),
            ..Self::new()
        }
    }

    /// The tick that the log would carry now.
    pub(super) fn tick(&self, now: u64) -> Tick {
        self.view.tick.plus(now.saturating_sub(self.tick_at))
    }

    fn elected(&mut self, now: u64, term: u64, state: Delta) {
        let sessions = std::mem::take(&mut self.sessions);
        let by_worker = std::mem::take(&mut self.by_worker);
        *self = Self { term: Some(term), sessions, by_worker, ..self.afresh() };
        self.next_retire = now + super::proposals::RETIRE_EVERY_MS;
        // By then the workers that are there have been heard.
        self.next_look = now + LOOK_MS;
        self.learn(now, state);
        // All leases start anew: nobody is lost for what an older leader did not hear.
        self.heard = self.view.workers.keys().map(|id| (*id, now)).collect();
        self.former = self.heard.clone();
    }

    pub(super) fn learn(&mut self, now: u64, mut delta: Delta) {
        if self.term.is_none() {
            return;
        }
        // The log's tick is the true one, and it may stand still for a while after an election: what was reckoned ahead of it is void.
        self.tick_at = now;
        for when in delta.whens.drain(..) {
            self.whens.insert((when.job, when.task), when.facts);
        }
        let mut ended: Vec<(Token, u32, WorkerId)> = Vec::new();
        // Attempts of which only a rank has moved, or which got on: the workers have been told what there is to tell.
        let mut same: BTreeSet<Token> = BTreeSet::new();
        let mut committed: Vec<Token> = Vec::new();
        for (token, live) in &delta.live {
            let Some(old) = self.view.live.get(token).map(|l| &l.attempt) else { continue };
            let new = live.as_ref().map(|l| &l.attempt);
            if let Some(new) = new {
                let is_smaller = !new.ranks.is_empty() || new.progress != old.progress;
                if is_smaller && (new.state, new.stop) == (old.state, old.stop) {
                    same.insert(*token);
                }
                if new.progress.committed != old.progress.committed {
                    committed.push(*token);
                }
            }
            let now_ended = |rank| live.as_ref().is_none_or(|l| l.attempt.has_ended(rank));
            let ranks = (0..).zip(&old.seats).filter(|(rank, _)| !old.has_ended(*rank) && now_ended(*rank));
            ended.extend(ranks.map(|(rank, seat)| (*token, rank, seat.worker)));
            if live.is_none() {
                self.forget_deadline(*token);
                self.forget_empties(*token);
            }
        }
        let touched: Vec<Token> = delta.live.iter().filter(|(_, l)| l.is_some()).map(|(t, _)| *t).collect();
        let joined: Vec<WorkerId> = delta.workers.iter().map(|(id, _)| *id).collect();
        let mut noticed: Vec<WorkerId> = Vec::new();
        for (id, worker) in &delta.workers {
            let Some(old) = self.view.workers.get(id).map(|w| &w.worker) else { continue };
            if worker.as_ref().is_some_and(|w| w.notice != old.notice && w.incarnation == old.incarnation) {
                noticed.push(*id);
            }
            let other = Some(&old.incarnation) != worker.as_ref().map(|w| &w.incarnation);
            let returned = old.state == WorkerState::Lost
                && worker.as_ref().is_some_and(|w| w.state != WorkerState::Lost);
            if other {
                self.former.insert(*id, self.heard.get(id).copied().unwrap_or(now));
            }
            if other || returned {
                // Its lease begins with its registration: what was heard of it before is an older one's, or long ago.
                self.heard.insert(*id, now);
            }
        }
        self.view.learn(delta);
        self.must_plan = true;
        for id in joined {
            self.scaling.worker_changed(id);
            self.heard.entry(id).or_insert(now);
            // Its lease or its drain may end sooner than what was looked at.
            self.sweep_due = 0;
            self.worker_changed(id);
            self.settle_events(id);
        }
        for (token, rank, worker) in ended {
            self.ended(token, rank, worker);
        }
        committed.into_iter().for_each(|token| self.tell_committed(token));
        // Before the orders to stop: its worker weighs all of them together.
        noticed.into_iter().for_each(|worker| self.notice_changed(worker));
        for token in touched {
            self.watch_deadline(token);
            if !same.contains(&token) {
                self.tell(token);
            }
        }
    }

    /// The end of a burst: timers, plan, proposals, messages.
    fn settle(&mut self, now: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        if self.term.is_none() {
            self.unconfirmed.clear();
            return outputs;
        }
        self.confirm(&mut outputs);
        let tick = self.tick(now);
        let mut commands = self.timers(now, tick);
        commands.extend(self.evaluate());
        self.autoscale(now, tick, &mut commands, &mut outputs);
        self.propose_all(tick, commands, &mut outputs);
        for session in std::mem::take(&mut self.closing) {
            self.session_closed(session);
            outputs.push(Output::Close { session });
        }
        let outbox = std::mem::take(&mut self.outbox);
        outputs.extend(
            outbox.into_iter().map(|(session, instructions)| Output::Instruct { session, instructions }),
        );
        outputs
    }

    /// `when:` of tasks whose parents allow them: evaluated here, decided in the log.
    fn evaluate(&mut self) -> Vec<Command> {
        let whens = std::mem::take(&mut self.whens);
        let mut commands = Vec::new();
        for ((job, task), facts) in whens {
            let Some(view) = self.view.job(job) else { continue };
            let Some(text) = view.spec.task(task).and_then(|t| t.when()) else { continue };
            let (run, reason) = match self.expressions.when(text, &facts) {
                Ok(true) => (true, String::new()),
                Ok(false) => (false, format!("when: {text} is false")),
                Err(error) => (false, format!("when: {text} failed: {error}")),
            };
            commands.push(Command::ResolveWhen { job, task, run, reason });
        }
        commands
    }
}
