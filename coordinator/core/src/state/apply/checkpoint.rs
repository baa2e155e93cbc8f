//! Checkpoints are committed here, and nowhere else: only of a live attempt, by its token, and only forwards. One that is asked to stop may
//! commit until it ends, for that is what its grace is for.
//!
//! They stay when their index ends, however it ends: whatever runs of it again begins from the newest. They go with their job.

use super::Apply;
use crate::command::Report;
use crate::event::Event;
use crate::model::attempt::{Cause, Outcome};
use crate::model::checkpoint::{Checkpoint, Saved};
use crate::model::ids::Token;
use crate::model::job_spec::CheckpointSpec;
use crate::model::saving::{known, whole};
use crate::state::rows::Key;

impl Apply<'_> {
    /// A rank of a live attempt has stored its part of a checkpoint. With that of the last rank it is committed.
    pub(super) fn saved(&mut self, report: &Report, saved: &Saved) {
        let (token, rank) = (report.token, report.rank);
        let Some(attempt) = self.state.live.get_mut(&token) else { return };
        let at = attempt.at;
        let kept = self.state.checkpoints.get(&at).map_or(&[][..], Vec::as_slice);
        if known(attempt, kept, rank, saved).is_some() {
            return;
        }
        let offers = &mut attempt.progress.offers;
        offers.retain(|(other, _)| *other != rank);
        let place = offers.partition_point(|(other, _)| *other < rank);
        offers.insert(place, (rank, *saved));
        self.touched.add(Key::Live(token));
        let Some((parts, took_ms)) = whole(attempt, saved) else { return };
        let (step, number) = (saved.step, attempt.number);
        let worked_ms = Checkpoint::worked(kept.last(), attempt, self.stamp.tick);
        attempt.progress.committed = Some(step);
        attempt.progress.offers.clear();
        let spec = self.state.jobs.get(&at.job).and_then(|job| job.common(at.task).checkpoint.as_deref());
        let keep = spec.map_or(CheckpointSpec::default().keep, |spec| spec.keep).max(1) as usize;
        let kept = self.state.checkpoints.entry(at).or_default();
        kept.push(Checkpoint {
            step,
            token,
            attempt: number,
            parts,
            committed: self.stamp,
            took_ms,
            worked_ms,
        });
        kept.drain(..kept.len().saturating_sub(keep));
        self.touch(Key::Checkpoints(at));
        self.count_saved(token);
        self.events.push(Event::CheckpointCommitted { at, number, token, step });
    }

    /// A rank could not use the checkpoint that its attempt was to begin from: it is not kept any more, so that the next attempt begins from
    /// the one before. The cause, if that is why the rank ended.
    ///
    /// What another attempt began from, or what is not the newest any more, nobody can speak of by this token.
    pub(super) fn unusable(&mut self, token: Token, outcome: &Outcome) -> Option<Cause> {
        let Outcome::BadCheckpoint { step, reason } = outcome else { return None };
        let attempt = self.state.live.get(&token)?;
        let (at, stop) = (attempt.at, attempt.stop);
        if attempt.progress.resumed != Some(*step) {
            return None;
        }
        if let Some(kept) = self.state.checkpoints.get_mut(&at) {
            let newest = kept.last().map_or(0, |c| c.step);
            if newest > *step {
                return None;
            }
            // Another rank of the gang may have said it first.
            if newest == *step {
                kept.pop();
                if kept.is_empty() {
                    self.state.checkpoints.remove(&at);
                }
                self.touch(Key::Checkpoints(at));
            }
        }
        stop.is_none().then(|| Cause::BadCheckpoint { step: *step, reason: reason.clone() })
    }
}
