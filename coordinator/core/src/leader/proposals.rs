//! What is on its way into the log. Reports that queue while proposals are in flight go into the next one: no timer on the way.

use super::io::Output;
use super::step::Leader;
use crate::command::{Command, Placement, Report, ReportKind};
use crate::model::ids::{Token, WorkerId};
use crate::model::time::Tick;
use crate::model::worker::Incarnation;
use crate::reply::Replies;
use crate::scheduler::plan;
use std::collections::BTreeSet;

/// Proposals of reports and timers in flight at once; above it they gather.
const REPORTS_IN_FLIGHT: usize = 2;
/// Reports of one proposal; the rest waits for the next. An entry of the log has a limit.
const REPORTS_MAX: usize = 4_096;
/// Retirement runs this often, ms.
pub(super) const RETIRE_EVERY_MS: u64 = 60_000;
/// Finished jobs leave memory after this long, ms: a week.
pub(super) const RETIRE_AFTER_MS: u64 = 7 * 24 * 3600 * 1000;

/// A proposal whose fate is not known yet.
pub(super) enum InFlight {
    Plan(Vec<Placement>),
    Rest { ends: Vec<(Token, u32)>, starts: Vec<(WorkerId, Report)>, saves: Vec<(WorkerId, Report)> },
}

impl Leader {
    pub(super) fn propose_all(&mut self, tick: Tick, mut commands: Vec<Command>, outputs: &mut Vec<Output>) {
        let rest = self.in_flight.values().filter(|p| matches!(p, InFlight::Rest { .. })).count();
        let (mut ends, mut starts, mut saves) = (Vec::new(), Vec::new(), Vec::new());
        // Before the reports: an attempt that its device took with it ends for that, not for how it then ended.
        commands.extend(self.take_device_events());
        commands.extend(self.take_notices());
        if rest < REPORTS_IN_FLIGHT {
            let mut room = REPORTS_MAX;
            while room > 0 {
                let Some((worker, mut reports)) = self.reports.pop_first() else { break };
                if reports.len() > room {
                    self.reports.insert(worker, reports.split_off(room));
                }
                room -= reports.len();
                let Some(view) = self.view.workers.get(&worker) else {
                    // Its worker says it again, and must be heard then.
                    for report in &reports {
                        self.started.remove(&(report.token, report.rank));
                        self.ending.remove(&(report.token, report.rank));
                        self.saving.remove(&(report.token, report.rank));
                    }
                    continue;
                };
                for report in &reports {
                    match report.kind {
                        ReportKind::Running => starts.push((worker, report.clone())),
                        ReportKind::Ended { .. } => ends.push((report.token, report.rank)),
                        ReportKind::Saved(_) => saves.push((worker, report.clone())),
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
                Command::LoseWorker { worker, incarnation } => Some((*worker, incarnation.clone())),
                _ => None,
            });
            let losses: Vec<(WorkerId, Incarnation)> = losses.collect();
            let notices = commands.iter().filter_map(|command| match command {
                Command::Notice { worker, .. } => Some(*worker),
                _ => None,
            });
            let notices: Vec<WorkerId> = notices.collect();
            self.propose(InFlight::Rest { ends, starts, saves }, commands, outputs);
            for lost in losses {
                // Nothing is placed on what is about to be lost; its next acknowledged heartbeat connects it again.
                self.view.set_connected(lost.0, false);
                self.losing.entry(lost).or_default().insert(self.proposals);
            }
            for worker in notices {
                self.noticing.entry(worker).or_default().insert(self.proposals);
            }
        }
        let planning = self.in_flight.values().any(|p| matches!(p, InFlight::Plan(_)));
        if self.must_plan && !planning && self.view.has_ready() {
            self.must_plan = false;
            let plan = plan(&mut self.view, tick, &self.policy);
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

    /// A proposal that never was: a loss in it is none, unless an earlier one of the same worker may still come.
    pub(super) fn refused(&mut self, id: u64) {
        let is_open = |proposals: &mut BTreeSet<u64>| {
            proposals.remove(&id);
            !proposals.is_empty()
        };
        self.losing.retain(|_, proposals| is_open(proposals));
        self.noticing.retain(|_, proposals| is_open(proposals));
        self.proposed(id, None);
    }

    /// A proposal ended. What it changed came as a delta; what is unknown is offered again, and apply refuses what was done.
    pub(super) fn proposed(&mut self, id: u64, replies: Option<Replies>) {
        let Some(what) = self.in_flight.remove(&id) else { return };
        self.must_plan = true;
        if replies.is_some() {
            // This one is done, and so are those of which nothing was heard: they were before it in the log, or never will be.
            let is_open = |proposals: &mut BTreeSet<u64>| {
                proposals.retain(|other| self.in_flight.contains_key(other));
                !proposals.is_empty()
            };
            self.losing.retain(|_, proposals| is_open(proposals));
            self.noticing.retain(|_, proposals| is_open(proposals));
            if let InFlight::Rest { saves, .. } = what {
                saves.iter().for_each(|(worker, report)| self.saved_settled(*worker, report, true));
            }
            return;
        }
        match what {
            InFlight::Plan(placements) => self.view.give_back(&placements),
            // Workers repeat ends and checkpoints with the next heartbeat. That something runs they repeat too, but its timeout counts from when the log
            // has it, so it is offered again from here at once. A loss whose fate is unknown may still come: it stays on its way until it
            // is proposed again and answered.
            InFlight::Rest { ends, starts, saves } => {
                saves.iter().for_each(|(worker, report)| self.saved_settled(*worker, report, false));
                ends.iter().for_each(|t| {
                    self.ending.remove(t);
                });
                for (worker, start) in starts {
                    self.started.remove(&(start.token, start.rank));
                    let live = self.view.live.get(&start.token);
                    if live.is_some_and(|l| !l.attempt.has_started(start.rank)) {
                        self.report(worker, start);
                    }
                }
            }
        }
    }
}
