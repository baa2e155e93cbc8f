//! What is counted while it happens, by the member that leads. Left out: what a scrape can read from the state.

use super::histogram::{Histogram, LONG, SHORT};
use muster_core::event::Event;
use muster_core::model::attempt::Cause;
use muster_core::model::time::Tick;
use muster_core::reply::Reply;
use muster_core::state::State;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Causes of an eviction (SPEC section 6), there from the start: a rate of what never happened is zero, not absent.
const CAUSES: [&str; 7] = ["notice", "preemption", "drain", "budget", "operator", "device", "idle"];

/// Counters of one member. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    commit: Histogram,
    cycle: Histogram,
    submit_to_start: Histogram,
    fenced: AtomicU64,
    evictions: Mutex<BTreeMap<String, u64>>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            commit: Histogram::new(SHORT),
            cycle: Histogram::new(SHORT),
            submit_to_start: Histogram::new(LONG),
            fenced: AtomicU64::new(0),
            evictions: Mutex::new(CAUSES.iter().map(|cause| ((*cause).to_owned(), 0)).collect()),
        }
    }
}

impl Counters {
    /// An entry was committed and applied, so long after it was proposed.
    pub fn committed(&self, took: Duration) {
        self.0.commit.observe(took);
    }

    /// The scheduler has planned placements.
    pub fn planned(&self, took: Duration) {
        self.0.cycle.observe(took);
    }

    /// What became of one command while this member leads; `now` is the entry's tick.
    pub fn applied(&self, state: &State, now: Tick, reply: &Reply, events: &[Event]) {
        if let Reply::Reported { fenced, .. } = reply {
            self.0.fenced.fetch_add(u64::from(*fenced), Ordering::Relaxed);
        }
        for event in events {
            match event {
                // An index that was evicted or failed before waits for other things too.
                Event::AttemptRunning { at, number: 1, .. } => {
                    if let Some(job) = state.job(at.job) {
                        let waited = now.since(job.submitted.tick);
                        self.0.submit_to_start.observe(Duration::from_millis(waited));
                    }
                }
                Event::AttemptEnded { cause, .. } => {
                    if let Some(word) = eviction(cause) {
                        *self.0.evictions.lock().entry(word).or_default() += 1;
                    }
                }
                _ => {}
            }
        }
    }

    /// From a proposal to its commit.
    #[must_use]
    pub fn commit(&self) -> &Histogram {
        &self.0.commit
    }

    /// One cycle of the scheduler that placed something.
    #[must_use]
    pub fn cycle(&self) -> &Histogram {
        &self.0.cycle
    }

    /// From the submission of a job to the first attempt of each of its indices.
    #[must_use]
    pub fn submit_to_start(&self) -> &Histogram {
        &self.0.submit_to_start
    }

    /// Reports that came under a token that is not current.
    #[must_use]
    pub fn fenced(&self) -> u64 {
        self.0.fenced.load(Ordering::Relaxed)
    }

    /// Attempts that were evicted, by cause.
    #[must_use]
    pub fn evictions(&self) -> BTreeMap<String, u64> {
        self.0.evictions.lock().clone()
    }
}

/// The word of SPEC section 6 in `evicted(…)`; a closed set, for a label.
fn eviction(cause: &Cause) -> Option<String> {
    match cause {
        Cause::Evicted(_) => {
            let text = cause.to_string();
            Some(text.strip_prefix("evicted(")?.strip_suffix(')')?.to_owned())
        }
        Cause::Device(_) => Some("device".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::model::attempt::StopReason;
    use muster_core::model::ids::{IndexRef, JobId, TaskNo, Token};

    #[test]
    fn evictions_count_by_their_word_and_other_ends_do_not() {
        let counters = Counters::default();
        let ended = |cause| Event::AttemptEnded {
            at: IndexRef::new(JobId(1), TaskNo(0), 0),
            number: 1,
            token: Token(1),
            workers: Vec::new(),
            cause,
            retried: true,
        };
        let events = [
            ended(Cause::Evicted(StopReason::Drain)),
            ended(Cause::Evicted(StopReason::Drain)),
            ended(Cause::Evicted(StopReason::Hold)),
            ended(Cause::Lost),
            ended(Cause::Exit(0)),
        ];
        counters.applied(
            &State::new(),
            Tick(0),
            &Reply::Reported { settled: Vec::new(), fenced: 2 },
            &events,
        );
        let counted: Vec<(String, u64)> =
            counters.evictions().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("drain".to_owned(), 2), ("operator".to_owned(), 1)]);
        assert_eq!(counters.fenced(), 2);
        assert_eq!(counters.evictions().len(), CAUSES.len());
    }
}
