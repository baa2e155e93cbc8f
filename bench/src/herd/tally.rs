//! What the workers saw, counted where no lock is waited for: thousands of heartbeats a second pass here.

use muster_core::model::ids::{IndexRef, JobId};
use parking_lot::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// A task that holds its slot was started.
#[derive(Debug, Clone, Copy)]
pub struct Launch {
    pub worker: usize,
    pub at: IndexRef,
    /// Of the attempt, from 1.
    pub number: u32,
}

/// Counts over all workers.
#[derive(Debug)]
pub struct Tally {
    began: Instant,
    /// Acknowledged heartbeats.
    pub renewals: AtomicU64,
    /// Sessions opened.
    pub opened: AtomicU64,
    /// Sessions given up by their worker because no heartbeat was acknowledged.
    pub unheard: AtomicU64,
    /// Tasks that the lease ended: the shim would have killed them.
    pub fenced: AtomicU64,
    /// Tasks that the leader had killed.
    pub killed: AtomicU64,
    /// Second and later attempts.
    pub again: AtomicU64,
    launches: Mutex<Vec<(Launch, Instant)>>,
}

impl Tally {
    #[must_use]
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            renewals: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            unheard: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
            killed: AtomicU64::new(0),
            again: AtomicU64::new(0),
            launches: Mutex::new(Vec::new()),
        }
    }

    /// Microseconds since the herd began; never 0.
    #[must_use]
    pub fn micros(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// The same of a moment.
    #[must_use]
    pub fn micros_at(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }

    pub fn launched(&self, launch: Launch) {
        if launch.number > 1 {
            self.again.fetch_add(1, Relaxed);
        }
        self.launches.lock().push((launch, Instant::now()));
    }

    /// Launches of one job, in the order in which they happened.
    #[must_use]
    pub fn launches(&self, job: JobId) -> Vec<(Launch, Instant)> {
        self.launches.lock().iter().filter(|(launch, _)| launch.at.job == job).copied().collect()
    }

    /// What no failover may cause: attempts that the lease ended, or the leader, or that were made again.
    #[must_use]
    pub fn harm(&self) -> u64 {
        [&self.fenced, &self.killed, &self.again].into_iter().map(|count| count.load(Relaxed)).sum()
    }
}

/// One worker, as it sees itself. Times are microseconds since the herd began; 0: never.
#[derive(Debug, Default)]
pub struct Worker {
    pub number: usize,
    /// Which member has its session, from 0.
    pub member: AtomicU64,
    pub opened_at: AtomicU64,
    pub renewed_at: AtomicU64,
    /// The newest term of a leader that renewed its lease, and when that was first.
    pub term: AtomicU64,
    pub term_at: AtomicU64,
    /// Tasks that hold a slot.
    pub holds: AtomicU64,
}

impl Worker {
    pub fn opened(&self, member: usize, now: u64) {
        self.member.store(member as u64, Relaxed);
        self.opened_at.store(now, Relaxed);
    }

    pub fn renewed(&self, term: u64, now: u64) {
        if self.term.swap(term, Relaxed) != term {
            self.term_at.store(now, Relaxed);
        }
        self.renewed_at.store(now, Relaxed);
    }

    /// Its lease was renewed through a session that is younger than `since`.
    #[must_use]
    pub fn is_back(&self, since: u64) -> bool {
        let opened = self.opened_at.load(Relaxed);
        opened > since && self.renewed_at.load(Relaxed) > opened
    }
}
