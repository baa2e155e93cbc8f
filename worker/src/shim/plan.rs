//! When an attempt is signalled and killed: the rules, without processes. Time is an argument, in milliseconds of boot time.
//!
//! ```text
//!            Stop: signal ── grace ──┐
//!  running ──────────────────────────┼─► SIGTERM ──► SIGKILL of the group, again and again until it is empty
//!            deadline − 1 s ─────────┘      └ 2 s after a stop, at deadline − 0.5 s for a lease
//! ```
//! A lease that is renewed after its SIGTERM was sent does not save the attempt: a task that ignores SIGTERM would go on half stopped.

use muster_core::model::lease::{KILL_BEFORE_MS, TERM_BEFORE_MS};

/// SIGTERM this long before the lease deadline, milliseconds.
pub const FENCE_TERM_MS: u64 = TERM_BEFORE_MS;
/// SIGKILL of the group this long before the lease deadline, milliseconds.
pub const FENCE_KILL_MS: u64 = KILL_BEFORE_MS;
/// Time between SIGTERM and SIGKILL of an ordered stop, milliseconds.
pub const STOP_KILL_MS: u64 = 2_000;
/// A group that is not empty this long after the first SIGKILL is reported, milliseconds.
pub const UNKILLABLE_MS: u64 = 5_000;

const NEVER: u64 = u64::MAX;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// SIGTERM to the process group.
    Term,
    /// SIGKILL to everything in the group.
    Kill,
    /// Tell the agent that the group does not empty; and SIGKILL again.
    Unkillable,
}

/// The plan of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    deadline: u64,
    stop_term: u64,
    stop_kill: u64,
    termed: bool,
    /// Of the first SIGKILL.
    killed_at: Option<u64>,
    next_kill: u64,
    pause: u64,
    reported: bool,
    fenced: bool,
    stopped: bool,
}

impl Plan {
    /// For an attempt whose lease ends at `deadline`.
    #[must_use]
    pub fn new(deadline: u64) -> Self {
        Self {
            deadline,
            stop_term: NEVER,
            stop_kill: NEVER,
            termed: false,
            killed_at: None,
            next_kill: NEVER,
            pause: 1,
            reported: false,
            fenced: false,
            stopped: false,
        }
    }

    /// The lease was renewed. Never shortens.
    pub fn renewed(&mut self, deadline: u64) {
        self.deadline = self.deadline.max(deadline);
    }

    /// A stop was ordered and its first signal sent. A second order only tightens the first.
    pub fn stop(&mut self, now: u64, grace: u64) {
        self.stopped = true;
        self.stop_term = self.stop_term.min(now.saturating_add(grace));
        self.stop_kill = self.stop_kill.min(self.stop_term.saturating_add(STOP_KILL_MS));
    }

    /// A kill was ordered.
    pub fn kill(&mut self, now: u64) {
        self.stopped = true;
        self.stop_kill = self.stop_kill.min(now);
    }

    /// The first process ended while others are left in the group: they are killed at once.
    pub fn kill_rest(&mut self, now: u64) {
        self.stop_kill = self.stop_kill.min(now);
    }

    /// The lease deadline.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Was the end ordered?
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Did the deadline bring the end?
    #[must_use]
    pub fn fenced(&self) -> bool {
        self.fenced
    }

    /// Is the kill of the lease due, and nothing else was ordered? Then the watchdog may have done it.
    #[must_use]
    pub fn overdue(&self, now: u64) -> bool {
        !self.stopped && now >= self.deadline.saturating_sub(FENCE_KILL_MS)
    }

    /// When [`Plan::act`] has to be asked again.
    #[must_use]
    pub fn due(&self) -> u64 {
        if self.killed_at.is_some() {
            return self.next_kill;
        }
        let kill = self.stop_kill.min(self.deadline.saturating_sub(FENCE_KILL_MS));
        if self.termed {
            return kill;
        }
        kill.min(self.stop_term).min(self.deadline.saturating_sub(FENCE_TERM_MS))
    }

    /// What is due at `now`. The caller does it.
    pub fn act(&mut self, now: u64) -> Option<Act> {
        if now < self.due() {
            return None;
        }
        let fence_kill = self.deadline.saturating_sub(FENCE_KILL_MS);
        if let Some(first) = self.killed_at {
            self.pause = (self.pause * 2).min(100);
            self.next_kill = now + self.pause;
            if now >= first + UNKILLABLE_MS && !self.reported {
                self.reported = true;
                return Some(Act::Unkillable);
            }
            return Some(Act::Kill);
        }
        if now >= self.stop_kill.min(fence_kill) {
            self.fenced |= now >= fence_kill && self.stop_kill > now;
            self.killed_at = Some(now);
            self.next_kill = now + self.pause;
            return Some(Act::Kill);
        }
        self.termed = true;
        if now >= self.deadline.saturating_sub(FENCE_TERM_MS) {
            self.fenced |= !self.stopped;
            self.stop_kill = self.stop_kill.min(fence_kill);
        }
        Some(Act::Term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens, and when, from `from` until nothing is due before `to`.
    fn run(plan: &mut Plan, mut now: u64, to: u64) -> Vec<(u64, Act)> {
        let mut done = Vec::new();
        while now <= to {
            match plan.act(now) {
                Some(act) => done.push((now, act)),
                None => now = plan.due(),
            }
        }
        done
    }

    #[test]
    fn an_unrenewed_lease_gets_term_then_kill_before_its_deadline() {
        let mut plan = Plan::new(10_000);
        assert_eq!(plan.due(), 9_000);
        assert_eq!(run(&mut plan, 0, 9_500), [(9_000, Act::Term), (9_500, Act::Kill)]);
        assert!(plan.fenced() && !plan.stopped());
    }

    #[test]
    fn a_renewal_moves_the_deadline_and_never_back() {
        let mut plan = Plan::new(10_000);
        plan.renewed(12_000);
        plan.renewed(8_000);
        assert_eq!(run(&mut plan, 0, 11_500), [(11_000, Act::Term), (11_500, Act::Kill)]);
    }

    #[test]
    fn a_renewal_after_the_term_does_not_leave_it_half_stopped() {
        let mut plan = Plan::new(10_000);
        assert_eq!(plan.act(9_000), Some(Act::Term));
        plan.renewed(20_000);
        assert_eq!(run(&mut plan, 9_001, 9_500), [(9_500, Act::Kill)]);
    }

    #[test]
    fn a_stop_gives_its_grace_then_term_then_kill() {
        let mut plan = Plan::new(100_000);
        plan.stop(1_000, 5_000);
        assert_eq!(run(&mut plan, 1_000, 8_000), [(6_000, Act::Term), (8_000, Act::Kill)]);
        assert!(plan.stopped() && !plan.fenced());
    }

    #[test]
    fn a_second_stop_only_tightens() {
        let mut plan = Plan::new(100_000);
        plan.stop(1_000, 60_000);
        plan.stop(2_000, 0);
        plan.stop(2_000, 90_000);
        assert_eq!(run(&mut plan, 2_000, 4_000), [(2_000, Act::Term), (4_000, Act::Kill)]);
    }

    #[test]
    fn the_lease_cuts_a_grace_that_outlasts_it() {
        let mut plan = Plan::new(10_000);
        plan.stop(8_000, 60_000);
        assert_eq!(run(&mut plan, 8_000, 9_500), [(9_000, Act::Term), (9_500, Act::Kill)]);
        assert!(plan.stopped());
    }

    #[test]
    fn a_group_that_stays_is_killed_again_and_reported_once() {
        let mut plan = Plan::new(1_000_000);
        plan.kill(100);
        let done = run(&mut plan, 100, 100 + UNKILLABLE_MS + 1_000);
        assert_eq!(done[0], (100, Act::Kill));
        assert_eq!(done.iter().filter(|(_, act)| *act == Act::Unkillable).count(), 1);
        assert!(done.len() < 100, "the pause between two passes grows");
    }
}
