//! What is on its way into the log. Reports that queue while proposals are in flight go into the next one: no timer on the way.

use super::io::Output;
use super::step::Leader;
use crate::command::{Command, Placement};
use crate::model::ids::{Token, WorkerId};
use crate::model::time::Tick;
use crate::reply::Replies;
use crate::scheduler::plan;

/// Proposals of reports and timers in flight at once; above it they gather.
const REPORTS_IN_FLIGHT: usize = 2;
/// Retirement runs this often, ms.
pub(super) const RETIRE_EVERY_MS: u64 = 60_000;
/// Finished jobs leave memory after this long, ms: a week.
pub(super) const RETIRE_AFTER_MS: u64 = 7 * 24 * 3600 * 1000;

/// A proposal whose fate is not known yet.
pub(super) enum InFlight {
    Plan(Vec<Placement>),
    Rest { ends: Vec<Token>, starts: Vec<Token>, losses: Vec<WorkerId> },
}

impl Leader {
    pub(super) fn propose_all(&mut self, tick: Tick, mut commands: Vec<Command>, outputs: &mut Vec<Output>) {
        let rest = self.in_flight.values().filter(|p| matches!(p, InFlight::Rest { .. })).count();
        let (mut ends, mut starts) = (Vec::new(), Vec::new());
        if rest < REPORTS_IN_FLIGHT {
            for (worker, reports) in std::mem::take(&mut self.reports) {
                let Some(view) = self.view.workers.get(&worker) else { continue };
                for report in &reports {
                    match report.kind {
                        crate::command::ReportKind::Running => starts.push(report.token),
                        crate::command::ReportKind::Ended { .. } => ends.push(report.token),
                    }
                }
                commands.push(Command::Reports {
                    worker,
                    incarnation: view.worker.incarnation.clone(),
                    reports,
                });
            }
        }
        if !commands.is_empty() {
            let losses = commands.iter().filter_map(|command| match command {
                Command::LoseWorker { worker, .. } => Some(*worker),
                _ => None,
            });
            let losses = losses.collect();
            self.propose(InFlight::Rest { ends, starts, losses }, commands, outputs);
        }
        let planning = self.in_flight.values().any(|p| matches!(p, InFlight::Plan(_)));
        if self.must_plan && !planning && self.view.has_ready() {
            self.must_plan = false;
            let plan = plan(&self.view, tick, &self.policy);
            if !plan.placements.is_empty() {
                self.view.take(&plan.placements);
                let commands = vec![Command::ApplyPlan { placements: plan.placements.clone() }];
                self.propose(InFlight::Plan(plan.placements), commands, outputs);
            }
        }
    }

    fn propose(&mut self, what: InFlight, commands: Vec<Command>, outputs: &mut Vec<Output>) {
        self.proposals += 1;
        self.in_flight.insert(self.proposals, what);
        outputs.push(Output::Propose { id: self.proposals, commands });
    }

    /// A proposal ended. What it changed came as a delta; what is unknown is offered again, and apply refuses what was done.
    pub(super) fn proposed(&mut self, id: u64, replies: Option<Replies>) {
        let Some(what) = self.in_flight.remove(&id) else { return };
        self.must_plan = true;
        if replies.is_some() {
            if let InFlight::Rest { losses, .. } = what {
                losses.iter().for_each(|worker| {
                    self.losing.remove(worker);
                });
            }
            return;
        }
        match what {
            InFlight::Plan(placements) => self.view.give_back(&placements),
            // Their workers repeat them with the next heartbeat. A loss whose fate is unknown may still come: it stays on its way
            // until it is proposed again and answered.
            InFlight::Rest { ends, starts, .. } => {
                ends.iter().for_each(|t| {
                    self.ending.remove(t);
                });
                starts.iter().for_each(|t| {
                    self.started.remove(t);
                });
            }
        }
    }
}
