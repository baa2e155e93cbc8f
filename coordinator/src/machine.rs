//! [`CoreMachine`]: `muster_core::State` bound to the replicated log. What was applied is published, to the leader thread and to the
//! watchers, once its rows are in the store, in log order.

use crate::clock::boot_ms;
use crate::leader::{LeaderHandle, ToLeader};
use crate::raft::{Applied, Machine, RestoreError, Rows};
use crate::storage::{keys, rows};
use crate::watch::Hub;
use muster_core::command::{Batch, Command};
use muster_core::event::Event;
use muster_core::model::budget::usd;
use muster_core::model::time::Tick;
use muster_core::reply::Replies;
use muster_core::state::{Changes, Delta, Entry, State};
use muster_failpoint::{Point, pass};
use std::sync::Arc;

/// A leader writes an entry at least once a minute: when nothing has come for longer, ms, the log stands still, and its tick with it.
const AHEAD_MAX_MS: u64 = 90_000;

/// The state, and what is published of it.
pub struct CoreMachine {
    state: State,
    hub: Arc<Hub>,
    leader: LeaderHandle,
    /// The leader thread wants deltas.
    leading: bool,
    /// When, by the boot clock, the last entry was applied; none: not since the start.
    applied_at: Option<u64>,
    /// Applied, not yet in the store.
    events: Vec<Event>,
    changes: Changes,
}

impl CoreMachine {
    /// An empty state that publishes to `hub` and, once [`CoreMachine::start_leading`], to `leader`.
    #[must_use]
    pub fn new(hub: Arc<Hub>, leader: LeaderHandle) -> Self {
        Self {
            state: State::new(),
            hub,
            leader,
            leading: false,
            applied_at: None,
            events: Vec::new(),
            changes: Changes::default(),
        }
    }

    /// The state after the last applied entry.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What the log's tick would be now, as far as this member can tell: for documents, never for decisions.
    #[must_use]
    pub fn tick_now(&self) -> Tick {
        let since = self.applied_at.map_or(0, |at| boot_ms().saturating_sub(at));
        self.state.tick().plus(since.min(AHEAD_MAX_MS))
    }

    /// From here on the leader thread hears every delta. It gets the whole state first, through the same channel and under the
    /// same lock as deltas, so that none is missed and none comes before it. A delta is read from the state when it is sent, so
    /// one that the whole contains already says nothing old.
    pub fn start_leading(&mut self, term: u64) {
        self.leading = true;
        let state: Box<Delta> = Box::new(self.state.full_delta());
        self.leader.send(ToLeader::Elected { term, state });
    }

    /// No more deltas.
    pub fn stop_leading(&mut self) {
        if std::mem::take(&mut self.leading) {
            self.leader.send(ToLeader::Deposed);
        }
    }

    /// Whoever leads says aloud what budgets have come to, and who computes nothing.
    fn warn(&self, events: &[Event]) {
        for event in events.iter().filter(|_| self.leading) {
            if let Event::AttemptIdle { at, number, action, after_ms, .. } = event {
                let (job, task, index, idle_s) = (at.job.0, at.task.0, at.index, after_ms / 1_000);
                tracing::warn!(job, task, index, number, idle_s, ?action, "computes nothing on its GPUs");
            }
            if let Event::BudgetPassed { scope, percent, spent, budget } = event {
                let (spent, limit, then) = (usd(*spent), usd(budget.micro_usd), budget.on_exceed.as_str());
                tracing::warn!(%scope, percent, spent, limit, then, "so much of a budget is spent");
            }
        }
    }

    fn publish(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        self.hub.publish(std::mem::take(&mut self.events), &changes);
    }
}

/// Where a test may kill the member before and after this command.
fn points(command: &Command) -> (Option<Point>, Option<Point>) {
    match command {
        Command::ApplyPlan { .. } => (Some(Point::LeaseGrantBefore), Some(Point::LeaseGrantAfter)),
        Command::Reports { .. } => (Some(Point::ResultAcceptBefore), Some(Point::ResultAcceptAfter)),
        Command::Register { .. } => (Some(Point::SessionRegister), None),
        _ => (None, None),
    }
}

impl Machine for CoreMachine {
    type Batch = Batch;
    type Replies = Replies;
    /// Ended attempts are many, written once, and read by nothing that decides.
    const DIGEST_BELOW: &'static [u8] = &[keys::HISTORY];

    fn apply(&mut self, index: u64, batch: &Batch, _rows: &dyn Rows) -> Applied<Replies> {
        let mut replies = Vec::with_capacity(batch.commands.len());
        let mut changes = Changes::default();
        self.applied_at = Some(boot_ms());
        for command in &batch.commands {
            let (before, after) = points(command);
            before.into_iter().for_each(pass);
            let applied = self.state.apply(Entry { index, stamp: batch.stamp, command });
            after.into_iter().for_each(pass);
            if self.leading {
                let (reply, events) = (&applied.reply, &applied.events);
                self.leader.counters().applied(&self.state, batch.stamp.tick, reply, events);
            }
            replies.push(applied.reply);
            self.warn(&applied.events);
            self.events.extend(applied.events);
            changes.merge(applied.changes);
        }
        let mut touched: Vec<(Vec<u8>, Option<Vec<u8>>)> = changes
            .keys
            .iter()
            .map(|key| (keys::encode(key), self.state.row(key).map(|row| rows::encode(&row))))
            .collect();
        touched.extend(
            changes
                .history
                .iter()
                .map(|ended| (keys::history(ended.at, ended.number), Some(rows::encode(ended)))),
        );
        // Only the keys and the leader's hints are needed further on.
        changes.history.clear();
        self.changes.merge(changes);
        Applied { replies, rows: touched }
    }

    fn stored(&mut self, _index: u64) {
        if self.leading && self.changes != Changes::default() {
            let delta = self.state.delta(&self.changes);
            self.leader.send(ToLeader::Delta(Box::new(delta)));
        }
        self.publish();
    }

    fn restore(&mut self, stored: &dyn Rows, _applied: u64) -> Result<(), RestoreError> {
        let mut all = Vec::new();
        let mut bad = None;
        stored.scan(&[0], Some(&[keys::HISTORY]), &mut |key, value| {
            let row = keys::decode(key)
                .ok_or_else(|| "unknown kind of row".to_owned())
                .and_then(|k| Ok((k, rows::decode(value)?)));
            match row {
                Ok(pair) => all.push(pair),
                Err(reason) => bad = Some(RestoreError::BadRow { key: key.to_vec(), reason }),
            }
            bad.is_none()
        })?;
        if let Some(bad) = bad {
            return Err(bad);
        }
        self.state = State::restore(all.into_iter())
            .map_err(|error| RestoreError::BadRow { key: Vec::new(), reason: error.to_string() })?;
        self.applied_at = None;
        self.events.clear();
        self.changes = Changes::default();
        self.hub.resync();
        Ok(())
    }
}
