//! A cluster begins from the backup of another: nothing that the other granted, before or after the backup, may be mistaken for a
//! grant of this one.

use super::{Answer, Apply};
use crate::model::attempt::Attempt;
use crate::model::ids::{Token, WorkerId};
use crate::model::worker::Incarnation;
use crate::reply::Reply;
use crate::state::rows::Key;

/// What the old cluster may have granted after the backup: more than any cluster grants between two backups (at 10,000 grants a second
/// it takes five days).
pub const TOKENS_SKIPPED: u64 = 1 << 32;

impl Apply<'_> {
    /// Tokens go on far above the backup's, leases of the old cluster end as lost, nobody is on the way in.
    pub(super) fn restored(&mut self) -> Answer {
        // Before the leases end: whoever compares with the last token sees the new range.
        let last = self.state.meta.last_token.max(self.index);
        self.state.meta.last_token = last.saturating_add(TOKENS_SKIPPED);
        let workers: Vec<(WorkerId, Incarnation)> =
            self.state.workers.values().map(|worker| (worker.id, worker.incarnation.clone())).collect();
        for (id, incarnation) in &workers {
            self.lose_worker(*id, incarnation)?;
        }
        // A worker row that the backup does not hold leaves no lease behind.
        let seats =
            |a: &Attempt| -> Vec<(Token, WorkerId)> { a.seats.iter().map(|s| (a.token, s.worker)).collect() };
        let orphans: Vec<(Token, WorkerId)> = self.state.live.values().flat_map(seats).collect();
        for (token, worker) in orphans {
            self.lose(token, worker);
        }
        if !self.state.members.admissions.is_empty() {
            self.state.members.admissions.clear();
            self.touch(Key::Members);
        }
        Ok(Reply::Done)
    }
}
