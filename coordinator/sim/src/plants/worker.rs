//! Mistakes of the agent, its journal and the shim.

use super::Plant;
use crate::world::World;
use muster_agent::Action;
use muster_core::command::{Report, ReportKind};
use muster_core::model::ids::Token;

/// How much too long `long-lease` is, ms; `reports-early` leaves processes for a tenth of it.
const TOO_LONG_MS: u64 = 20_000;

impl World {
    /// What the agent asks for instead.
    pub(crate) fn plant_in_action(&self, w: usize, action: Action) -> Action {
        match action {
            Action::Launch { order, deadline } if self.planted.is(Plant::LongLease) => {
                Action::Launch { order, deadline: deadline + TOO_LONG_MS }
            }
            Action::Renew { deadline } if self.planted.is(Plant::LongLease) => {
                Action::Renew { deadline: deadline + TOO_LONG_MS }
            }
            Action::Report(mut reports) if self.planted.is(Plant::MixesTokens) => {
                let ended = reports.iter().find(|r| matches!(r.kind, ReportKind::Ended { .. })).cloned();
                let other = self.machines[w].processes.iter().next().map(|(token, p)| (*token, p.rank, p.at));
                if let (Some(ended), Some((token, rank, at))) = (ended, other) {
                    reports.push(Report { token, rank, at, kind: ended.kind });
                }
                Action::Report(reports)
            }
            other => other,
        }
    }

    /// How often the shim is asked to start a process.
    pub(crate) fn plant_launches(&self) -> u32 {
        if self.planted.is(Plant::LaunchesTwice) { 2 } else { 1 }
    }

    /// Whether the shim looks away when a deadline is due.
    pub(crate) fn plant_is_deaf(&self) -> bool {
        self.planted.is(Plant::DeafShim)
    }

    /// Whether the shim speaks of an end before all of it is gone.
    pub(crate) fn plant_reports_early(&self) -> bool {
        self.planted.is(Plant::ReportsEarly)
    }

    /// How long what was started holds on: nobody kills it.
    pub(crate) fn plant_lingers(&self, lingers_ms: u64) -> u64 {
        if self.planted.is(Plant::ReportsEarly) { TOO_LONG_MS / 10 } else { lingers_ms }
    }

    /// What a machine's journal is when its agent starts again.
    pub(crate) fn plant_at_restart(&mut self, w: usize) {
        if self.planted.is(Plant::ForgetsJournal) {
            self.machines[w].journal.clear();
            self.machines[w].highest = Token(0);
        }
    }
}
