//! Room for what is evicted from machines that go: it waits again in a moment, at its old place in the queue, and what comes after it there
//! shall not have taken its room by then.
//!
//! Its next attempt is placed in this cycle as if it waited already, before all that is of the same class or a lower one, and never
//! proposed: the room counts as taken until the cycle ends. The index is granted only when its old process is gone for sure.

use super::board::Board;
use super::plan::{Cycle, LOOKS_MAX};
use super::ranking::Ask;
use super::view::{Class, View};
use crate::model::attempt::Attempt;
use crate::model::ids::{Token, WorkerId};
use crate::model::job_spec::TaskCommon;
use std::collections::BTreeSet;
use std::collections::btree_map::Range;
use std::iter::Peekable;

/// Attempts for which one cycle keeps room: more than go at once unless all goes at once.
pub const RESERVED_MAX: usize = 512;

/// What is evicted, in the order of the queue.
pub(super) type Evicting<'a> = Peekable<Range<'a, Class, BTreeSet<Token>>>;

impl Cycle {
    /// Keeps room for all that is evicted and comes before the rest of this class.
    pub(super) fn reserve(
        &mut self,
        view: &View,
        board: &mut Board,
        evicting: &mut Evicting<'_>,
        class: &Class,
    ) {
        while let Some(((_, id, common), tokens)) = evicting.next_if(|(evicted, _)| *evicted <= class) {
            let Some(job) = view.jobs.get(id).filter(|job| !job.held) else { continue };
            let common = &job.spec.commons[*common as usize];
            let ask = Ask { resources: common.resources.clone(), constraints: common.constraints.clone() };
            for attempt in tokens.iter().filter_map(|token| Some(&view.live.get(token)?.attempt)) {
                if self.reserved >= RESERVED_MAX || self.looks > LOOKS_MAX {
                    return;
                }
                self.reserved += 1;
                let found = match common.gang {
                    Some(_) => self.reserve_gang(view, board, &ask, common, attempt),
                    None => self.place(view, board, &ask, attempt.at).is_some(),
                };
                if !found {
                    // What has no room now gets none later in this cycle; nor has the next of its kind.
                    break;
                }
            }
        }
    }

    /// What the gang has on machines that stay is free for its next attempt, and for nobody else.
    fn reserve_gang(
        &mut self,
        view: &View,
        board: &mut Board,
        ask: &Ask,
        common: &TaskCommon,
        attempt: &Attempt,
    ) -> bool {
        let candidates = self.candidates(view, ask);
        self.looks += candidates.len();
        let stays = |worker: &WorkerId| view.workers.get(worker).is_some_and(View::is_usable);
        let seats: Vec<_> = attempt.seats.iter().filter(|seat| stays(&seat.worker)).collect();
        for seat in &seats {
            let used = self.used_of(view, seat.worker);
            used.give_back(&common.resources, &seat.devices);
        }
        let found = self.place_gang(view, board, &candidates, common, attempt.at).is_some();
        for seat in seats {
            let used = self.used_of(view, seat.worker);
            used.take(&common.resources, &seat.devices);
            board.update(seat.worker, used);
        }
        found
    }
}
