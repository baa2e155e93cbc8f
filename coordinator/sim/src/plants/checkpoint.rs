//! Mistakes about checkpoints: in the log, in the leader, in the worker that stores them.

use super::Plant;
use super::state::rebuilt;
use crate::replicas::Origin;
use crate::store::Place;
use crate::world::World;
use muster_core::command::{Command, Report, ReportKind};
use muster_core::event::Event;
use muster_core::leader::instruction::{ResumeOrder, StartOrder};
use muster_core::model::checkpoint::{Checkpoint, Part, Progress};
use muster_core::model::ids::{IndexRef, Token};
use muster_core::model::worker::Incarnation;
use muster_core::state::{Applied, Delta, Row};

impl World {
    /// What an old token has stored is taken for the current one's.
    pub(super) fn plant_foreign_save(&mut self, m: usize, reports: &[Report]) {
        for report in reports.iter().filter(|r| matches!(r.kind, ReportKind::Saved(_))) {
            let current = self.members[m].state.attempt_of(report.at).filter(|a| a.token != report.token);
            let Some((worker, token)) = current.map(|a| (a.first_worker(), a.token)) else { continue };
            let reports = vec![Report { token, rank: 0, ..report.clone() }];
            let incarnation = Incarnation::default();
            self.propose(m, vec![Command::Reports { worker, incarnation, reports }], Origin::Nobody);
        }
    }

    /// The state forgets how far those are who have stored something.
    pub(super) fn plant_forgets_progress(&mut self, m: usize, reports: &[Report]) {
        let saved = reports.iter().filter(|r| matches!(r.kind, ReportKind::Saved(_)));
        let tokens: Vec<Token> = saved.map(|r| r.token).collect();
        if tokens.is_empty() {
            return;
        }
        self.members[m].state = rebuilt(&self.members[m].state, None, |row| {
            if let Row::Live(attempt) = row
                && tokens.contains(&attempt.token)
            {
                attempt.progress = Progress::default();
            }
        });
    }

    /// What is kept is the oldest.
    pub(super) fn plant_drops_newest(&mut self, m: usize, applied: &Applied) {
        for event in &applied.events {
            let Event::CheckpointCommitted { at, .. } = event else { continue };
            let state = &self.members[m].state;
            if state.checkpoints(*at).len() > 1 {
                let kept = state.checkpoints(*at).to_vec();
                self.members[m].state = rebuilt(state, None, |row| match row {
                    Row::Checkpoints(row) if *row == kept => {
                        row.pop();
                    }
                    _ => {}
                });
            }
        }
    }

    /// The order says the oldest that is kept.
    pub(super) fn plant_resumes_oldest(&self, m: usize, order: &mut StartOrder) {
        let rank = order.rank;
        let oldest = self.members[m].state.checkpoints(order.at).first();
        if let Some((oldest, (rank, part))) = oldest.and_then(|c| Some((c, c.part_of(rank)?))) {
            order.launch.resume =
                Some(ResumeOrder { step: oldest.step, token: oldest.token, rank, part: *part });
        }
    }

    /// Whether a worker speaks of a checkpoint before it is stored.
    pub(crate) fn plant_says_early(&self) -> bool {
        self.planted.is(Plant::SavesTorn)
    }

    /// A worker removes what is older as soon as the newer is stored.
    pub(crate) fn plant_collects_early(&mut self, at: IndexRef, (token, step, rank): Place) {
        if self.planted.is(Plant::CollectsEarly)
            && rank == 0
            && let Some(shelf) = self.store.shelves.get_mut(&at)
        {
            let stamp = muster_core::model::time::Stamp::default();
            let parts = vec![Part::default()];
            shelf.collect(&[Checkpoint {
                step,
                token,
                attempt: 1,
                parts,
                committed: stamp,
                took_ms: 0,
                worked_ms: 0,
            }]);
        }
    }
}

/// The leader forgets how far those attempts are that run.
pub(super) fn without_progress(mut delta: Box<Delta>) -> Box<Delta> {
    let running = delta.live.iter_mut().filter_map(|(_, live)| live.as_mut());
    for live in running.filter(|live| live.attempt.started.is_some()) {
        live.attempt.progress = Progress::default();
    }
    delta
}

/// What rank 0 of a gang has stored is taken for all.
pub(super) fn one_for_all(mut reports: Vec<Report>) -> Vec<Report> {
    for report in reports.iter_mut().filter(|r| r.rank == 0) {
        if let ReportKind::Saved(saved) = &mut report.kind {
            saved.single = true;
        }
    }
    reports
}
