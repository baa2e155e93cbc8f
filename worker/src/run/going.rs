//! The notice that the worker is under, as far as its own process has to do with it: whoever waits for the tasks to be gone is told,
//! and an agent that was told to end by a signal ends.

use muster_core::model::notice::{Notice, NoticeKind};
use std::time::Duration;
use tokio::time::Instant;

/// How long an agent that ends waits for the leader once nothing runs any more. What ended is in the journal, for the next one to tell.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// How far the worker is on its way out.
#[derive(Debug, Default)]
pub struct Going {
    under: bool,
    /// The notice is durable on a majority.
    heard: bool,
    /// The agent ends with its tasks.
    ends: bool,
    /// It ends, and nothing has run since.
    idle_since: Option<Instant>,
}

impl Going {
    /// Another notice than before.
    pub fn noticed(&mut self, notice: &Notice) {
        (self.under, self.heard) = (notice.kind != NoticeKind::Withdrawn, false);
    }

    /// The leader has it.
    pub fn heard(&mut self) {
        self.heard = true;
    }

    /// The agent is to end once its tasks have.
    pub fn end(&mut self) {
        self.ends = true;
    }

    /// Whether the agent is to end.
    pub fn is_ending(&self) -> bool {
        self.ends
    }

    /// Whether there is anything to ask about.
    pub fn is_under(&self) -> bool {
        self.under || self.ends
    }

    /// Whether the leader knows, and nothing is left here that it does not know of.
    pub fn is_evicted(&self, holds_nothing: bool) -> bool {
        self.under && self.heard && holds_nothing
    }

    /// Whether the agent ends now. `is_idle`: nothing runs and nothing is being stored.
    pub fn is_over(&mut self, is_idle: bool, holds_nothing: bool, now: Instant) -> bool {
        if !self.ends || !is_idle {
            self.idle_since = None;
            return false;
        }
        let since = *self.idle_since.get_or_insert(now);
        self.is_evicted(holds_nothing) || since + SETTLE_PATIENCE <= now
    }

    /// When to ask again at the latest.
    pub fn wake(&self) -> Option<Instant> {
        self.idle_since.map(|since| since + SETTLE_PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::model::notice::NoticeSource;

    fn notice(kind: NoticeKind) -> Notice {
        Notice { source: NoticeSource::Sigterm, kind, in_ms: None, detail: String::new(), drill: false }
    }

    #[test]
    fn an_agent_that_ends_waits_for_its_tasks_and_then_not_long() {
        let (mut going, start) = (Going::default(), Instant::now());
        assert!(!going.is_over(true, true, start));
        going.end();
        going.noticed(&notice(NoticeKind::Preemption));
        assert!(!going.is_over(false, false, start + Duration::from_secs(600)));
        // Ended and told, but the leader does not answer.
        let ended = start + Duration::from_secs(700);
        assert!(!going.is_over(true, false, ended));
        assert_eq!(going.wake(), Some(ended + SETTLE_PATIENCE));
        assert!(going.is_over(true, false, ended + SETTLE_PATIENCE));
        // It answers.
        going.heard();
        assert!(going.is_over(true, true, ended));
    }

    #[test]
    fn evicted_is_what_the_leader_knows_of() {
        let mut going = Going::default();
        assert!(!going.is_evicted(true));
        going.noticed(&notice(NoticeKind::Preemption));
        assert!(!going.is_evicted(true));
        going.heard();
        assert!(going.is_evicted(true) && !going.is_evicted(false));
        going.noticed(&notice(NoticeKind::Withdrawn));
        going.heard();
        assert!(!going.is_evicted(true));
    }
}
