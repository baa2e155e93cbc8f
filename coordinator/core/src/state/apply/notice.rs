//! Machines that are said to go, or may go. Nothing is placed on them any more; what runs on one that surely goes is asked to stop in the same
//! entry, a gang as one. Its index stays live until its process is gone for sure: a notice makes nobody certain of that (I3), so that
//! nothing is granted twice; what may be done at once, and is, is to keep room for its next attempt (`scheduler/reserve.rs`).

use super::{Answer, Apply};
use crate::event::Event;
use crate::model::attempt::StopReason;
use crate::model::ids::WorkerId;
use crate::model::notice::{Notice, NoticeKind, Noticed};
use crate::model::worker::{Incarnation, WorkerState};
use crate::reply::{Rejection, Reply};
use crate::state::rows::Key;

impl Apply<'_> {
    /// The worker is under this notice from now on, or under none. Answers how many attempts were asked to stop.
    pub(super) fn notice(
        &mut self,
        id: WorkerId,
        incarnation: Option<&Incarnation>,
        notice: &Notice,
    ) -> Answer {
        let stamp = self.stamp;
        let empty = self.state.tokens_of(id).is_empty();
        let worker = self.state.workers.get_mut(&id).ok_or(Rejection::NoWorker(id))?;
        if let Some(other) = incarnation.filter(|i| **i != worker.incarnation) {
            return Err(Rejection::OldIncarnation { got: other.0.clone() });
        }
        // 1. What is known now.
        let counted = worker.is_reclaimed() || worker.state == WorkerState::Lost;
        let before = worker.notice.clone();
        worker.notice = match (before.clone(), notice.kind) {
            // A worker takes back what that source of it said, a person whatever was said.
            (known, NoticeKind::Withdrawn) => {
                known.filter(|known| incarnation.is_some() && known.notice.source != notice.source)
            }
            (Some(known), _) => Some(known.merged(notice, stamp)),
            (None, _) => {
                let deadline = notice.in_ms.map(|ms| stamp.tick.plus(ms));
                Some(Noticed { notice: notice.clone(), since: stamp, deadline })
            }
        };
        if worker.notice == before {
            return Ok(Reply::Changed { indices: 0 });
        }
        if worker.state != WorkerState::Lost {
            worker.state = worker.standing(empty);
        }
        worker.changed = stamp;
        let (goes, reclaimed, pool) = (worker.goes(), worker.is_reclaimed(), worker.spec.pool.clone());
        self.touch(Key::Worker(id));
        self.events.push(Event::WorkerChanged { worker: id });
        // 2. An exercise says nothing about the pool.
        if reclaimed && !counted {
            self.count_loss(&pool);
        }
        // 3. What runs there.
        let mut indices = 0;
        if goes {
            for token in self.state.tokens_of(id) {
                if self.state.live.get(&token).is_some_and(|attempt| attempt.lives_on(id)) {
                    indices += u64::from(self.stop_attempt(token, StopReason::Notice));
                }
            }
        }
        Ok(Reply::Changed { indices })
    }
}
