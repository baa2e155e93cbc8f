//! The ranks of an attempt: how each ends, and what that means for the others. An attempt that is no gang has one rank and ends with it.
//!
//! A gang ends when the last of its ranks has: by its worker's report, or because that worker's lease is over. Until then its index is
//! live, so that nothing of it is granted again while anything of it may run (I9).

use super::Apply;
use crate::command::Placement;
use crate::model::artifact::Artifact;
use crate::model::attempt::{AttemptState, Cause, RankState, StopReason};
use crate::model::ids::{Token, WorkerId};
use crate::model::placement::GANG_PORTS;
use crate::state::rows::Key;
use std::collections::BTreeSet;

impl Apply<'_> {
    /// Whether the ranks are on different workers, and meet where nobody else does.
    pub(super) fn may_meet(&self, placement: &Placement, gang: bool) -> bool {
        if !gang {
            return placement.port == 0;
        }
        let workers: BTreeSet<WorkerId> = placement.seats.iter().map(|s| s.worker).collect();
        let Some(first) = placement.seats.first().map(|s| s.worker) else { return false };
        let taken = self.state.tokens_of(first).into_iter().any(|token| {
            let other = &self.state.live[&token];
            other.port == placement.port && other.first_worker() == first
        });
        workers.len() == placement.seats.len() && GANG_PORTS.contains(&placement.port) && !taken
    }

    /// A rank is gone for good, with this cause of its own.
    pub(super) fn rank_ends(&mut self, token: Token, rank: u32, cause: Cause, artifacts: &[Artifact]) {
        let Some(attempt) = self.state.live.get_mut(&token) else { return };
        let Some(state) = attempt.ranks.get_mut(rank as usize) else {
            return self.end(token, cause, artifacts);
        };
        let was_running = std::mem::replace(state, RankState::Ended) == RankState::Running;
        if cause == Cause::Exit(0) {
            if rank == 0 {
                attempt.artifacts = artifacts.to_vec();
            }
        } else {
            // The first to fail gives the cause. But when a machine dies under a running rank its peers are the first to notice, and exit
            // with an error: that is not the task's fault.
            let excuses = cause == Cause::Lost && was_running;
            if attempt.failed.as_ref().is_none_or(|first| excuses && first.is_charged()) {
                attempt.failed = Some(cause);
            }
            attempt.state = AttemptState::Stopping;
        }
        if attempt.ranks.iter().any(|r| *r != RankState::Ended) {
            self.touch(Key::Live(token));
            self.begin_if_all(token);
            self.count_attempt(token);
            return;
        }
        let artifacts = std::mem::take(&mut attempt.artifacts);
        let cause = match (attempt.stop, attempt.failed.take()) {
            (Some(StopReason::Cancel), _) => Cause::Cancelled,
            (_, failed) => failed.unwrap_or(Cause::Exit(0)),
        };
        self.end(token, cause, &artifacts);
    }
}
