//! The worker's view of its lease: which heartbeat was sent when, which term is the newest, until when attempts may run.
//!
//! A deadline counts from the *sending* of a heartbeat, so a slow acknowledgement makes it shorter and never longer.

use muster_core::model::lease::{KILL_BEFORE_MS, WORKER_LEASE_MS};
use std::collections::BTreeMap;

/// Heartbeats, terms and the deadline.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lease {
    seq: u64,
    /// Sending times (ms) of the heartbeats from which a deadline can still count.
    sent: BTreeMap<u64, u64>,
    deadline: u64,
    term: u64,
}

impl Lease {
    pub(crate) fn new(term: u64) -> Self {
        Self { term, ..Self::default() }
    }

    /// The highest term seen.
    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Numbers a heartbeat that is sent now.
    pub(crate) fn send(&mut self, now: u64) -> u64 {
        self.seq += 1;
        self.sent.insert(self.seq, now);
        self.sent.retain(|_, at| *at + WORKER_LEASE_MS > now);
        self.seq
    }

    /// Takes in a leader's term: `None` when it is an old leader's, else whether it is a new one.
    pub(crate) fn see_term(&mut self, term: u64) -> Option<bool> {
        let newer = term > self.term;
        let current = term >= self.term;
        self.term = self.term.max(term);
        current.then_some(newer)
    }

    /// The deadline that counts from heartbeat `seq`, if it was sent by this process and not too long ago.
    pub(crate) fn deadline_of(&self, seq: u64) -> Option<u64> {
        self.sent.get(&seq).map(|sent| sent + WORKER_LEASE_MS)
    }

    /// Whether something may still be started that has to be dead by `deadline`.
    pub(crate) fn is_open(now: u64, deadline: u64) -> bool {
        now + KILL_BEFORE_MS < deadline
    }

    /// Heartbeat `seq` was acknowledged: the new deadline, if it is later than before.
    pub(crate) fn renewed(&mut self, seq: u64) -> Option<u64> {
        let deadline = self.deadline_of(seq).filter(|d| *d > self.deadline)?;
        self.deadline = deadline;
        Some(deadline)
    }
}
