//! What the leader remembers of pools between two decisions: of its own term alone, but for the configuration. Left out: what is made of it
//! (`autoscale`, `drive`), what providers say (`providers`).

use super::io::Signals;
use crate::autoscale::{GroupSeen, Order};
use crate::command::ReportKind;
use crate::model::attempt::Outcome;
use crate::model::fleet::Fleet;
use crate::model::ids::{IndexRef, JobId, WorkerId};
use crate::model::time::Tick;
use crate::scheduler::View;
use std::collections::BTreeMap;

/// Tasks whose run time is remembered.
const RUNS_MAX: usize = 4_096;

/// What the leader remembers of pools.
#[derive(Debug, Default)]
pub(super) struct Scaling {
    /// As this member is configured; none: nobody has said.
    pub configured: Option<Fleet>,
    pub fleet_due: u64,
    pub due: u64,
    /// Since when a decision waits for a plan.
    pub waits: Option<u64>,
    /// All workers of the leader before have been heard, or lost.
    pub settled: bool,
    pub elected_at: Option<u64>,
    pub groups: BTreeMap<String, GroupSeen>,
    /// When a machine was seen first, and whether its worker has joined since.
    pub machines: BTreeMap<(String, String), (Tick, bool)>,
    pub boots: BTreeMap<String, u64>,
    /// Until when a provider is left alone, and why.
    pub troubles: BTreeMap<String, (String, u64)>,
    /// When each order was given last.
    pub orders: BTreeMap<(String, Order), u64>,
    /// A majority is to be asked whether this member leads; when it was asked last, and when it was of those times that it said so.
    pub asks: bool,
    pub asked: u64,
    pub sure: Option<u64>,
    /// An order waits for that.
    pub waits_for_sure: bool,
    /// What was ordered last, by pool.
    pub said: BTreeMap<String, u32>,
    pub idle: BTreeMap<WorkerId, Tick>,
    pub kinds: BTreeMap<WorkerId, u64>,
    /// How long an index of these tasks runs, ms.
    pub runs: BTreeMap<(JobId, u32), u64>,
    pub last: Signals,
}

impl Scaling {
    /// What outlives a term: the configuration.
    pub fn afresh(&self) -> Self {
        Self { configured: self.configured.clone(), ..Self::default() }
    }

    pub fn trouble(&mut self, pool: String, reason: String, until: u64) {
        // Of a provider that only takes orders: it did not take the last one, so it is told again.
        self.said.remove(&pool);
        self.troubles.insert(pool, (reason, until));
    }

    pub fn asked(&mut self, now: u64) {
        (self.asks, self.asked) = (false, now);
    }

    /// A majority has answered. What waited for that is due at once.
    pub fn confirmed(&mut self, now: u64, ok: bool) {
        if ok {
            self.sure = Some(self.asked);
            if std::mem::take(&mut self.waits_for_sure) {
                self.due = now;
                // The word is good for a moment: no plan goes before.
                self.waits = Some(0);
            }
        }
    }

    pub fn worker_changed(&mut self, worker: WorkerId) {
        self.kinds.remove(&worker);
    }

    /// An attempt ended well: so long do its like run.
    pub fn learn_run(&mut self, view: &View, at: IndexRef, kind: &ReportKind) {
        let ReportKind::Ended { outcome: Outcome::Exit(0), ran_ms, .. } = kind else { return };
        let Some(common) = view.job(at.job).and_then(|job| job.spec.task(at.task)).map(|task| task.common)
        else {
            return;
        };
        let runs = &mut self.runs;
        if runs.len() >= RUNS_MAX && !runs.contains_key(&(at.job, common)) {
            runs.pop_first();
        }
        let known = runs.entry((at.job, common)).or_insert(*ran_ms);
        *known = (7 * *known + ran_ms) / 8;
    }
}
