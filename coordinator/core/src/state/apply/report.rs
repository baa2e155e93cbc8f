//! What workers report. Only the current token is heard; an old one changes nothing.

use super::finish::cause_of;
use super::{Answer, Apply};
use crate::command::{Report, ReportKind};
use crate::event::Event;
use crate::model::attempt::{AttemptState, RankState};
use crate::model::ids::{Token, WorkerId};
use crate::model::worker::Incarnation;
use crate::reply::Reply;
use crate::state::rows::Key;

impl Apply<'_> {
    pub(super) fn reports(
        &mut self,
        worker: WorkerId,
        _incarnation: &Incarnation,
        reports: &[Report],
    ) -> Answer {
        let mut settled = Vec::with_capacity(reports.len());
        let mut fenced = 0;
        for report in reports {
            let attempt = self.state.live.get(&report.token);
            let attempt = attempt.filter(|a| {
                let seat = a.seats.get(report.rank as usize);
                a.at == report.at && seat.is_some_and(|s| s.worker == worker) && !a.has_ended(report.rank)
            });
            fenced += u32::from(attempt.is_none());
            match &report.kind {
                ReportKind::Ended { outcome, artifacts, .. } => {
                    // Accepted or fenced, this end is settled: the worker may forget it.
                    settled.push(report.token);
                    if let Some(stop) = attempt.map(|a| a.stop) {
                        let cause = self.unusable(report.token, outcome).unwrap_or(cause_of(outcome, stop));
                        self.rank_ends(report.token, report.rank, cause, artifacts);
                    }
                }
                ReportKind::Running if attempt.is_some() => self.running(report),
                ReportKind::Saved(saved) if attempt.is_some() => {
                    // Whoever saves runs, and needs no more orders to start: what those name may not be kept by now.
                    self.running(report);
                    self.saved(report, saved);
                }
                ReportKind::Running | ReportKind::Saved(_) => {}
            }
        }
        Ok(Reply::Reported { settled, fenced })
    }

    fn running(&mut self, report: &Report) {
        let Some(attempt) = self.state.live.get_mut(&report.token) else { return };
        if attempt.started.is_some() {
            return;
        }
        if let Some(rank @ RankState::Starting) = attempt.ranks.get_mut(report.rank as usize) {
            *rank = RankState::Running;
            self.touched.add(Key::Live(report.token));
        }
        self.begin_if_all(report.token);
        self.count_attempt(report.token);
    }

    /// The attempt runs, and its timeout counts, once none of its ranks is still starting.
    pub(super) fn begin_if_all(&mut self, token: Token) {
        let Some(attempt) = self.state.live.get_mut(&token) else { return };
        if attempt.started.is_some() || attempt.ranks.contains(&RankState::Starting) {
            return;
        }
        attempt.started = Some(self.stamp);
        if attempt.state == AttemptState::Starting {
            attempt.state = AttemptState::Running;
        }
        let (at, number) = (attempt.at, attempt.number);
        self.touch(Key::Live(token));
        self.events.push(Event::AttemptRunning { at, number, token });
    }
}
