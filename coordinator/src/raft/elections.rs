//! When a member stands for election. openraft's own timer is off.
//!
//! There, one number is both the shortest wait before a new election and the limit of a vote's answer, and another both the longest wait
//! and the leader's lease. A vote is answered after it is on disk: with a limit of 350 ms a disk that syncs in 85 ms could elect nobody,
//! and a higher limit would have made every failover slower. Here the first wait stays short, an answer has nearly the whole lease, and a
//! term that elected nobody gives the next one twice the time, so that a slow disk is waited for only where there is one.
//!
//! Left out: who may win, which openraft decides, and the pre-vote, which it runs.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use openraft::{AsyncRuntime, Raft};

use super::machine::Answer;
use super::types::Types;

/// The member looks this often whether it should stand.
const LOOK: Duration = Duration::from_millis(20);
/// The wait grows to eight times the first.
const DOUBLINGS_MAX: u64 = 3;

/// How long a member waits, each time a number from a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// After the last word of a leader.
    pub first: (Duration, Duration),
    /// After an election that was not won, and after a start.
    pub again: (Duration, Duration),
}

/// What a member knows of the leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    term: u64,
    /// Somebody was elected in this term.
    led: bool,
    /// Nothing was heard of the term since the member started.
    old: bool,
    /// It is the only one that votes.
    alone: bool,
}

/// How long the silence may be, drawn once for each state of things.
#[derive(Debug, Default)]
struct Patience {
    known: Option<Known>,
    wait: Duration,
    /// The last term that was led.
    led: u64,
}

impl Patience {
    fn wait(&mut self, known: Known, timing: &Timing, draw: &impl Fn(u64) -> u64) -> Duration {
        if self.known == Some(known) {
            return self.wait;
        }
        if known.led || self.known.is_none() {
            self.led = known.term;
        }
        self.known = Some(known);
        let failed = known.term - self.led.min(known.term);
        self.wait = if known.led && known.alone {
            Duration::ZERO
        } else if known.led && !known.old && known.term > 0 {
            between(timing.first, draw)
        } else {
            between(timing.again, draw) * (1 << failed.saturating_sub(1).min(DOUBLINGS_MAX))
        };
        self.wait
    }
}

fn between((least, most): (Duration, Duration), draw: &impl Fn(u64) -> u64) -> Duration {
    let millis = u64::try_from(most.saturating_sub(least).as_millis()).unwrap_or(u64::MAX);
    least + Duration::from_millis(draw(millis.max(1)))
}

/// Lets `raft` stand when it is time, until it stops. `draw` gives a number below its argument.
pub async fn run<A: Answer, R: AsyncRuntime, S>(
    raft: Raft<Types<A, R>, S>,
    timing: Timing,
    draw: impl Fn(u64) -> u64 + Send + Sync,
) where
    S: openraft::storage::RaftStateMachine<Types<A, R>>,
{
    let began = Types::<A, R>::now();
    let mut patience = Patience::default();
    let mut asked = None;
    loop {
        Types::<A, R>::sleep(LOOK).await;
        let read = raft.with_raft_state(|state| {
            let vote = state.vote_ref();
            (vote.leader_id.term, vote.committed, state.vote_last_modified())
        });
        let Ok((term, led, heard)) = read.await else { return };
        let (votes, alone) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters: BTreeSet<u64> = metrics.membership_config.membership().voter_ids().collect();
            (voters.contains(&metrics.id) && !metrics.state.is_leader(), voters.len() == 1)
        };
        let known = Known { term, led, old: heard.is_none(), alone };
        let wait = patience.wait(known, &timing, &draw);
        let now = Types::<A, R>::now();
        if !votes
            || now < heard.unwrap_or(began) + wait
            || asked.is_some_and(|(of, until)| of == known && now < until)
        {
            continue;
        }
        // A refused pre-vote changes nothing here: it is asked for again, but not at once.
        asked = Some((known, now + between((timing.again.0 / 2, timing.again.0), &draw)));
        if raft.trigger().elect(true).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        first: (Duration::from_millis(1_100), Duration::from_millis(1_500)),
        again: (Duration::from_millis(400), Duration::from_millis(800)),
    };

    #[test]
    fn a_term_that_elected_nobody_gives_the_next_one_more_time() {
        let mut patience = Patience::default();
        let mut wait = |term, led, old, alone| {
            let known = Known { term, led, old, alone };
            u64::try_from(patience.wait(known, &TIMING, &|_| 100).as_millis()).expect("small")
        };
        // It starts in a term that may have a leader, hears it, loses it.
        assert_eq!(wait(7, true, true, false), 500);
        assert_eq!(wait(7, true, false, false), 1_200);
        let elections: Vec<u64> = (8..14).map(|term| wait(term, false, false, false)).collect();
        assert_eq!(elections, [500, 1_000, 2_000, 4_000, 4_000, 4_000]);
        assert_eq!(wait(14, true, false, false), 1_200);
        assert_eq!(wait(15, false, false, false), 500);
        // Nobody else could lead.
        assert_eq!(wait(16, true, false, true), 0);
    }

    #[test]
    fn a_wait_is_drawn_once_for_each_state_of_things() {
        let mut patience = Patience::default();
        let known = Known { term: 3, led: true, old: false, alone: false };
        let first = patience.wait(known, &TIMING, &|_| 10);
        assert_eq!(patience.wait(known, &TIMING, &|_| 20), first);
        assert_ne!(patience.wait(Known { term: 4, ..known }, &TIMING, &|_| 20), first);
    }
}
