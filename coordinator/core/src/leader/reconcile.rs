//! Desired versus observed: what a worker holds beside what the state says it should.

use super::instruction::Instruction;
use super::io::SessionId;
use super::step::Leader;
use crate::command::{Report, ReportKind};
use crate::model::attempt::{Attempt, AttemptState, Outcome, RankState};
use crate::model::ids::{Token, WorkerId};
use crate::model::lease::LEADER_LEASE_MS;

/// What the rank of a gang gets to end when another has failed, ms: all of them are gone within 5 s.
const PEER_GRACE_MS: u64 = 3_000;

/// The state of one rank: a gang starts until the last of its ranks runs.
fn state_of(attempt: &Attempt, rank: u32) -> AttemptState {
    match (attempt.state, attempt.ranks.get(rank as usize)) {
        (AttemptState::Starting, Some(RankState::Running)) => AttemptState::Running,
        (state, _) => state,
    }
}

impl Leader {
    /// After an acknowledged heartbeat: start what is not held, stop what should stop, kill what is not ours.
    pub(super) fn reconcile(&mut self, now: u64, session: SessionId, worker: WorkerId, held: &[Token]) {
        let mut held = held.to_vec();
        held.sort_unstable();
        held.dedup();
        let desired: Vec<Token> = self.view.tokens_of(worker).filter(|t| self.lives_on(*t, worker)).collect();
        for token in &desired {
            let Some((rank, _)) = self.view.live.get(token).and_then(|l| l.attempt.seat_on(worker)) else {
                continue;
            };
            if held.binary_search(token).is_ok() {
                self.missing.remove(&(*token, worker));
                if self.view.live.get(token).is_some_and(|l| l.attempt.state == AttemptState::Stopping) {
                    self.tell_on(*token, worker);
                }
            } else if !self.ending.contains(&(*token, rank)) {
                // An older incarnation's: that one, if it lives, has kept its lease since it was heard last and no longer.
                let since = self.former.get(&worker).copied().filter(|_| self.is_former(*token, worker));
                self.missing.entry((*token, worker)).or_insert(since.unwrap_or(now));
                self.tell_on(*token, worker);
            }
        }
        let unknown = |t: &&Token| desired.binary_search(t).is_err();
        let kills: Vec<Instruction> =
            held.iter().filter(unknown).map(|token| Instruction::Kill { token: *token }).collect();
        if !kills.is_empty() {
            self.outbox.entry(session).or_default().extend(kills);
        }
    }

    /// Whether it was granted to an older incarnation of the worker.
    fn is_former(&self, token: Token, worker: WorkerId) -> bool {
        self.view.workers.get(&worker).is_some_and(|w| token <= w.worker.former)
    }

    pub(super) fn lives_on(&self, token: Token, worker: WorkerId) -> bool {
        self.view.live.get(&token).is_some_and(|l| l.attempt.lives_on(worker))
    }

    /// Tells the workers of a live attempt what the state wants of it now.
    pub(super) fn tell(&mut self, token: Token) {
        let Some(live) = self.view.live.get(&token) else { return };
        let workers: Vec<WorkerId> = live.attempt.seats.iter().map(|s| s.worker).collect();
        workers.into_iter().for_each(|worker| self.tell_on(token, worker));
    }

    /// Tells one of them.
    fn tell_on(&mut self, token: Token, worker: WorkerId) {
        let Some(attempt) = self.view.live.get(&token).map(|l| &l.attempt) else { return };
        let Some((rank, _)) = attempt.seat_on(worker).filter(|(rank, _)| !attempt.has_ended(*rank)) else {
            return;
        };
        let Some(session) = self.by_worker.get(&worker).copied() else { return };
        let Some(acked) = self.sessions.get(&session).and_then(|s| s.acked) else { return };
        let instruction = match state_of(attempt, rank) {
            AttemptState::Starting if self.is_former(token, worker) => return,
            AttemptState::Starting => match self.order(token, rank, acked) {
                Ok(order) => Instruction::Start(Box::new(order)),
                Err(reason) => {
                    let kind = ReportKind::Ended {
                        outcome: Outcome::Launch(reason),
                        artifacts: Vec::new(),
                        ran_ms: 0,
                    };
                    let report = Report { token, rank, at: attempt.at, kind };
                    self.report(worker, report);
                    return;
                }
            },
            AttemptState::Running => return,
            AttemptState::Stopping => {
                let Some(job) = self.view.job(attempt.at.job) else { return };
                let stop = job.spec.common(&job.spec.tasks[attempt.at.task.0 as usize]).stop;
                let within_ms = self.within(attempt);
                if attempt.stop.is_none() {
                    // Another rank of its gang has failed: what it could save is worth nothing without that one.
                    Instruction::Stop {
                        token,
                        signal: 15,
                        grace_ms: stop.grace_ms.min(PEER_GRACE_MS),
                        within_ms,
                    }
                } else {
                    Instruction::Stop { token, signal: stop.signal, grace_ms: stop.grace_ms, within_ms }
                }
            }
        };
        self.outbox.entry(session).or_default().push(instruction);
    }

    /// Attempts that ran, or were to stop, or were an older incarnation's, and that their worker denies for as long as a lease: it will
    /// never report their end, so the end is said here. A starting one of its own is different: it is ordered again with every
    /// heartbeat, and the worker answers.
    pub(super) fn orphans(&mut self, now: u64) {
        let mut missing = std::mem::take(&mut self.missing);
        missing.retain(|(token, worker), _| {
            let Some(attempt) = self.view.live.get(token).map(|l| &l.attempt) else { return false };
            let Some((rank, _)) = attempt.seat_on(*worker) else { return false };
            !attempt.has_ended(rank)
                && (state_of(attempt, rank) != AttemptState::Starting || self.is_former(*token, *worker))
        });
        self.missing = missing;
        let live = &self.view.live;
        // An order that is still on its way may start it, and the heartbeat that it answers may be renewed after the first denial.
        let over = |key: &(Token, WorkerId), since: u64| {
            let leases = if self.is_former(key.0, key.1) { 1 } else { 2 };
            now > since + leases * LEADER_LEASE_MS
        };
        let due = self.missing.iter().filter(|(key, since)| over(key, **since));
        let gone: Vec<(WorkerId, Report)> = due
            .filter_map(|((token, worker), _)| {
                let attempt = &live.get(token)?.attempt;
                let (rank, _) = attempt.seat_on(*worker)?;
                let kind = ReportKind::Ended { outcome: Outcome::Fenced, artifacts: Vec::new(), ran_ms: 0 };
                Some((*worker, Report { token: *token, rank, at: attempt.at, kind }))
            })
            .collect();
        for (worker, report) in gone {
            self.missing.remove(&(report.token, worker));
            self.report(worker, report);
        }
    }

    /// Reports of a worker: into the log, unless they are settled or on their way already. An answer says what the log has, so a worker
    /// that gets none says it again. That something runs is answered when it is said again, for most of it ends sooner.
    pub(super) fn reported(&mut self, session: SessionId, reports: Vec<Report>) {
        let Some(worker) = self.sessions.get(&session).map(|s| s.worker) else { return };
        if self.term.is_none() {
            return;
        }
        let (mut settled, mut heard) = (Vec::new(), Vec::new());
        for report in reports {
            let live = self.lives_on(report.token, worker);
            let attempt = self.view.live.get(&report.token).map(|l| &l.attempt);
            let runs = live && attempt.is_some_and(|attempt| attempt.has_started(report.rank));
            if let (true, Some(attempt)) = (live, attempt) {
                self.scaling.learn_run(&self.view, attempt.at, &report.kind);
            }
            match report.kind {
                ReportKind::Saved(saved) => self.saved_came(session, worker, report, &saved),
                ReportKind::Running if runs => heard.push(report.token),
                _ if live => self.report(worker, report),
                ReportKind::Ended { .. } => settled.push(report.token),
                ReportKind::Running => {
                    self.outbox.entry(session).or_default().push(Instruction::Kill { token: report.token });
                }
            }
        }
        if !settled.is_empty() {
            self.outbox.entry(session).or_default().push(Instruction::Settled { tokens: settled });
        }
        if !heard.is_empty() {
            self.outbox.entry(session).or_default().push(Instruction::Heard { tokens: heard });
        }
    }

    pub(super) fn report(&mut self, worker: WorkerId, report: Report) {
        // After an election every worker says again what runs: what the log knows is not written to it once more.
        let known = matches!(report.kind, ReportKind::Running)
            && self.view.live.get(&report.token).is_some_and(|l| l.attempt.has_started(report.rank));
        if known {
            return;
        }
        let key = (report.token, report.rank);
        let on_its_way = match report.kind {
            ReportKind::Ended { .. } => !self.ending.insert(key),
            ReportKind::Running => !self.started.insert(key),
            ReportKind::Saved(saved) => self.saving.insert(key, saved) == Some(saved),
        };
        if !on_its_way {
            self.reports.entry(worker).or_default().push(report);
        }
    }

    /// The rank is over in the state: its worker may forget it, or must end it.
    pub(super) fn ended(&mut self, token: Token, rank: u32, worker: WorkerId) {
        self.missing.remove(&(token, worker));
        self.started.remove(&(token, rank));
        self.saving.remove(&(token, rank));
        let reported = self.ending.remove(&(token, rank));
        let Some(session) = self.by_worker.get(&worker).copied() else { return };
        let outbox = self.outbox.entry(session).or_default();
        match (reported, outbox.last_mut()) {
            (true, Some(Instruction::Settled { tokens })) => tokens.push(token),
            (true, _) => outbox.push(Instruction::Settled { tokens: vec![token] }),
            (false, _) => outbox.push(Instruction::Kill { token }),
        }
    }
}
