//! A circuit breaker: what fails again and again is left alone for a while, then tried with one attempt.
//!
//! closed → open → (its time passes) half-open: one probe → closed, or open for twice as long.
//!
//! Blame goes by difference, not by number alone: a worker where three different commands failed fast is at fault itself, and so is a
//! command that failed fast on three different workers. One command that fails a thousand times on one worker says nothing of either.

use super::ids::{Token, WorkerId};
use super::time::{Stamp, Tick};
use serde::{Deserialize, Serialize};

/// A failure is fast when the attempt ran less than this long, ms: it most likely never got to its work.
pub const FAST_MS: u64 = 10_000;
/// Failures older than this are forgotten, ms.
pub const WINDOW_MS: u64 = 600_000;
/// Different commands that failed fast on a worker, or different workers where a command did, until it opens.
pub const DIFFERENT_MAX: usize = 3;
/// Failures of a command in all until it opens: an array may have a few bad indices.
pub const COMMAND_FAILURES_MAX: usize = 6;
/// Losses of a worker within the window until it opens: a link that fails once an hour is none.
pub const LOSSES_MAX: usize = 4;
/// How long it is open at first, ms; doubled with each probe that fails, up to the last one.
pub const OPEN_FIRST_MS: u64 = 30_000;
/// The last one of a worker: others do its work meanwhile.
pub const WORKER_OPEN_LAST_MS: u64 = 1_800_000;
/// The last one of a command: nobody else does its work, and whoever waits for its failure wants to hear of it.
pub const COMMAND_OPEN_LAST_MS: u64 = 60_000;
/// Failures that are remembered; more than any threshold, and a row stays small.
const FAILURES_KEPT: usize = 16;

/// Whose breaker it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BreakerKey {
    Worker(WorkerId),
    /// The first eight bytes of the digest of user, command and workdir.
    Command(u64),
}

/// One failure that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// Of a worker's breaker, the command that failed; of a command's, the worker where it did.
    Fast { tick: Tick, other: u64 },
    /// The worker was lost.
    Lost { tick: Tick },
}

impl Failure {
    fn tick(self) -> Tick {
        match self {
            Self::Fast { tick, .. } | Self::Lost { tick } => tick,
        }
    }
}

/// What may be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    Closed,
    /// Nothing before this tick.
    Open(Tick),
    /// One attempt, to see.
    HalfOpen,
    /// That attempt is under way.
    Probing(Token),
}

impl Gate {
    /// Whether one more attempt may be placed.
    #[must_use]
    pub fn lets_pass(self) -> bool {
        matches!(self, Self::Closed | Self::HalfOpen)
    }
}

/// The durable row of a breaker. There is none while nothing has failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Breaker {
    /// Oldest first.
    pub failures: Vec<Failure>,
    pub open_until: Option<Tick>,
    /// Times that it opened in a row.
    pub opened: u32,
    pub probe: Option<Token>,
    /// When it last opened, and why, for people.
    pub since: Stamp,
    pub reason: String,
}

impl Breaker {
    /// What may be placed at `now`.
    #[must_use]
    pub fn gate(&self, now: Tick) -> Gate {
        match (self.open_until, self.probe) {
            (None, _) => Gate::Closed,
            (Some(_), Some(token)) => Gate::Probing(token),
            (Some(until), None) if now < until => Gate::Open(until),
            (Some(_), None) => Gate::HalfOpen,
        }
    }

    /// One more failure. Returns whether it opened; it does not where it may not.
    pub fn failed(&mut self, key: BreakerKey, failure: Failure, at: Stamp, may_open: bool) -> bool {
        self.failures.retain(|f| at.tick.since(f.tick()) < WINDOW_MS);
        if self.failures.len() >= FAILURES_KEPT {
            self.failures.remove(0);
        }
        self.failures.push(failure);
        let Some(reason) = self.verdict(key).filter(|_| may_open && self.open_until.is_none()) else {
            return false;
        };
        self.open(key, at, reason);
        true
    }

    /// The probe failed too.
    pub fn probe_failed(&mut self, key: BreakerKey, at: Stamp) {
        let reason = std::mem::take(&mut self.reason);
        self.open(key, at, reason);
    }

    fn open(&mut self, key: BreakerKey, at: Stamp, reason: String) {
        let last = match key {
            BreakerKey::Worker(_) => WORKER_OPEN_LAST_MS,
            BreakerKey::Command(_) => COMMAND_OPEN_LAST_MS,
        };
        let wait = OPEN_FIRST_MS.saturating_mul(1 << self.opened.min(16)).min(last);
        self.opened += 1;
        self.probe = None;
        self.open_until = Some(at.tick.plus(wait));
        self.since = at;
        self.reason = reason;
    }

    /// Why it should open, if it should.
    fn verdict(&self, key: BreakerKey) -> Option<String> {
        let mut others: Vec<u64> = Vec::new();
        let (mut fast, mut losses) = (0, 0);
        for failure in &self.failures {
            match failure {
                Failure::Fast { other, .. } => {
                    fast += 1;
                    others.push(*other);
                }
                Failure::Lost { .. } => losses += 1,
            }
        }
        others.sort_unstable();
        others.dedup();
        let minutes = WINDOW_MS / 60_000;
        match key {
            BreakerKey::Worker(_) if losses >= LOSSES_MAX => {
                Some(format!("it was lost {losses} times within {minutes} min"))
            }
            BreakerKey::Worker(_) if others.len() >= DIFFERENT_MAX => Some(format!(
                "{} different commands failed on it within {} s of their start, and none succeeded",
                others.len(),
                FAST_MS / 1000
            )),
            BreakerKey::Command(_) if others.len() >= DIFFERENT_MAX && fast >= COMMAND_FAILURES_MAX => {
                Some(format!(
                    "it failed {fast} times on {} workers within {} s of its start, and never succeeded",
                    others.len(),
                    FAST_MS / 1000
                ))
            }
            _ => None,
        }
    }

    /// Nothing in it matters any more at `now`.
    #[must_use]
    pub fn is_stale(&self, now: Tick) -> bool {
        self.open_until.is_none() && self.failures.iter().all(|f| now.since(f.tick()) >= WINDOW_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Wall;

    const WORKER: BreakerKey = BreakerKey::Worker(WorkerId(1));
    const COMMAND: BreakerKey = BreakerKey::Command(7);

    fn stamp(tick: u64) -> Stamp {
        Stamp { wall: Wall(0), tick: Tick(tick) }
    }

    /// Fast failures by `others`, a second apart; the gate right after the last one.
    fn after(key: BreakerKey, others: &[u64]) -> (Breaker, Gate) {
        let mut breaker = Breaker::default();
        for (n, other) in others.iter().enumerate() {
            let at = stamp(n as u64 * 1_000);
            breaker.failed(key, Failure::Fast { tick: at.tick, other: *other }, at, true);
        }
        let gate = breaker.gate(Tick(others.len().saturating_sub(1) as u64 * 1_000));
        (breaker, gate)
    }

    #[test]
    fn blame_goes_by_difference() {
        assert_eq!(after(WORKER, &[5; 12]).1, Gate::Closed);
        assert_eq!(after(WORKER, &[5, 6, 5]).1, Gate::Closed);
        assert_eq!(after(WORKER, &[5, 6, 7]).1, Gate::Open(Tick(2_000 + OPEN_FIRST_MS)));
        assert_eq!(after(COMMAND, &[1; 12]).1, Gate::Closed);
        assert_eq!(after(COMMAND, &[1, 2, 3]).1, Gate::Closed);
        assert_eq!(after(COMMAND, &[1, 2, 3, 1, 2, 3]).1, Gate::Open(Tick(5_000 + OPEN_FIRST_MS)));
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut breaker = Breaker::default();
        for n in 0..8 {
            let at = stamp(n * (WINDOW_MS / 2));
            let failure = Failure::Fast { tick: at.tick, other: n };
            assert!(!breaker.failed(WORKER, failure, at, true), "{n}");
        }
        assert!(!breaker.is_stale(Tick(8 * (WINDOW_MS / 2))));
        assert!(breaker.is_stale(Tick(9 * (WINDOW_MS / 2))));
    }

    #[test]
    fn losses_count_by_themselves() {
        let mut breaker = Breaker::default();
        let mut lost = |n, may| breaker.failed(WORKER, Failure::Lost { tick: Tick(n) }, stamp(n), may);
        assert_eq!([0, 1, 2].map(|n| lost(n, true)), [false; 3]);
        assert_eq!([lost(3, false), lost(4, true)], [false, true]);
        assert_eq!(breaker.reason, "it was lost 5 times within 10 min");
    }

    #[test]
    fn one_probe_at_a_time_and_each_failure_doubles_the_wait() {
        let (mut breaker, _) = after(WORKER, &[5, 6, 7]);
        let due = 2_000 + OPEN_FIRST_MS;
        assert_eq!(breaker.gate(Tick(due)), Gate::HalfOpen);
        breaker.probe = Some(Token(9));
        assert_eq!(breaker.gate(Tick(due)), Gate::Probing(Token(9)));
        breaker.probe_failed(WORKER, stamp(due));
        assert_eq!(breaker.gate(Tick(due)), Gate::Open(Tick(due + 2 * OPEN_FIRST_MS)));
        for (key, last) in [(WORKER, WORKER_OPEN_LAST_MS), (BreakerKey::Command(1), COMMAND_OPEN_LAST_MS)] {
            let mut breaker = breaker.clone();
            for _ in 0..40 {
                breaker.probe_failed(key, stamp(due));
            }
            assert_eq!(breaker.gate(Tick(due)), Gate::Open(Tick(due + last)));
        }
    }
}
