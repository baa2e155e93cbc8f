//! Mistakes in what the log holds, what members apply and what they keep.

use super::Plant;
use crate::replicas::Origin;
use crate::world::World;
use muster_core::command::{Command, ReportKind, Request, Target};
use muster_core::event::Event;
use muster_core::ledger::Meter;
use muster_core::model::attempt::{AttemptState, Outcome, StopReason};
use muster_core::model::device_record::DeviceHealth;
use muster_core::model::ids::{JobId, Token};
use muster_core::model::time::{Stamp, Tick};
use muster_core::model::worker::{Incarnation, Worker, WorkerState};
use muster_core::reply::Reply;
use muster_core::spec::SpecBytes;
use muster_core::state::{Applied, Entry, Key, Row, State};
use std::collections::BTreeMap;

impl World {
    /// What enters the log instead of these commands.
    pub(crate) fn plant_in_log(&self, commands: Vec<Command>) -> Vec<Command> {
        let mut changed = Vec::with_capacity(commands.len());
        for command in commands {
            match command {
                Command::Submit { request, spec, parts, forecast_micro_usd }
                    if parts == 0 && self.planted.is(Plant::DropsNeeds) =>
                {
                    changed.push(Command::Submit {
                        request,
                        spec: without_needs(&spec),
                        parts,
                        forecast_micro_usd,
                    });
                }
                Command::Submit { request, spec, parts, forecast_micro_usd }
                    if parts == 0 && self.planted.is(Plant::RetriesMore) =>
                {
                    changed.push(Command::Submit {
                        request,
                        spec: with_retries(&spec),
                        parts,
                        forecast_micro_usd,
                    });
                }
                Command::Submit { request, spec, parts, forecast_micro_usd }
                    if parts == 0 && self.planted.is(Plant::ShrinksGangs) =>
                {
                    changed.push(Command::Submit {
                        request,
                        spec: with_lone_gangs(&spec),
                        parts,
                        forecast_micro_usd,
                    });
                }
                Command::Reports { worker, incarnation, reports } if self.planted.is(Plant::CommitsHalf) => {
                    let reports = super::checkpoint::one_for_all(reports);
                    changed.push(Command::Reports { worker, incarnation, reports });
                }
                Command::Reports { .. } if self.planted.is(Plant::EndsTwice) => {
                    changed.extend([command.clone(), command]);
                }
                Command::Scale { pool, based_on, scale } if self.planted.is(Plant::BuysInPart) => {
                    let scale = self.with_one_less(&pool, scale);
                    changed.push(Command::Scale { pool, based_on, scale });
                }
                other => changed.push(other),
            }
        }
        changed
    }

    /// At what stamp it enters.
    pub(crate) fn plant_in_stamp(&self, stamp: Stamp) -> Stamp {
        let tick = Tick(u64::try_from(stamp.wall.0).unwrap_or_default());
        if self.planted.is(Plant::WallTicks) { Stamp { tick, ..stamp } } else { stamp }
    }

    /// The log of a member that is about to lead.
    pub(crate) fn plant_at_election(&mut self, winner: usize) {
        if self.planted.is(Plant::LosesCommits) {
            self.cluster.log.truncate(self.members[winner].applied as usize);
        }
    }

    /// What this member applies instead of the command, and at what stamp.
    pub(crate) fn plant_in_entry(&self, m: usize, stamp: Stamp, command: &Command) -> (Stamp, Command) {
        match command {
            Command::Submit { request, spec, parts, forecast_micro_usd }
                if *parts == 0 && m == 2 && self.planted.is(Plant::OneDiffers) =>
            {
                let mut job = spec.decode().expect("the workload's own");
                job.priority ^= 1;
                let spec = SpecBytes::encode(&job);
                (
                    stamp,
                    Command::Submit {
                        request: request.clone(),
                        spec,
                        parts: *parts,
                        forecast_micro_usd: *forecast_micro_usd,
                    },
                )
            }
            _ if m == 1 && self.planted.is(Plant::OwnClock) => {
                (Stamp { tick: Tick(stamp.tick.0 + 3), ..stamp }, command.clone())
            }
            _ => (stamp, command.clone()),
        }
    }

    /// What this member's state becomes before it applies the command.
    pub(crate) fn plant_before_apply(&mut self, m: usize, entry: Entry<'_>) {
        match entry.command {
            Command::Reports { reports, .. } if self.planted.is(Plant::EndsTwice) => {
                for report in reports.iter().filter(|r| matches!(r.kind, ReportKind::Ended { .. })) {
                    let Some(attempt) = self.planted.attempts.get(&report.token).cloned() else { continue };
                    let state = &self.members[m].state;
                    let gone = state.attempt(report.token).is_none() && state.attempt_of(report.at).is_none();
                    if gone && state.job(report.at.job).is_some() {
                        let row = Row::Live(Box::new(attempt));
                        self.members[m].state = rebuilt(state, Some((Key::Live(report.token), row)), |_| {});
                    }
                }
            }
            Command::Reports { worker, reports, .. } if self.planted.is(Plant::ForgetsIdle) => {
                let ends = reports.iter().any(|r| matches!(r.kind, ReportKind::Ended { .. }));
                let state = &self.members[m].state;
                if let Some(Row::Meter(meter)) = state.row(&Key::Meter(*worker)).filter(|_| ends) {
                    let (at, spent) = (entry.stamp.tick.max(meter.at), meter.spent_at(entry.stamp.tick));
                    let meter = Row::Meter(Box::new(Meter { at, spent, ..*meter }));
                    self.members[m].state = rebuilt(state, Some((Key::Meter(*worker), meter)), |_| {});
                }
            }
            Command::Reports { reports, .. } if self.planted.is(Plant::StepsGoBack) => {
                self.plant_forgets_progress(m, reports);
            }
            Command::ApplyPlan { .. } if self.planted.is(Plant::ForgetsQuarantine) => {
                let state = &self.members[m].state;
                if state.devices().values().any(|device| device.quarantine().is_some()) {
                    self.members[m].state = rebuilt(state, None, |row| {
                        if let Row::Device(record) = row {
                            record.health = DeviceHealth::Healthy;
                        }
                    });
                }
            }
            Command::ApplyPlan { .. } if self.planted.is(Plant::ForgetsNotices) => {
                let state = &self.members[m].state;
                if state.workers().any(|worker| worker.notice.is_some()) {
                    self.members[m].state = rebuilt(state, None, |row| {
                        if let Row::Worker(worker) = row {
                            forget_notice(worker);
                        }
                    });
                }
            }
            Command::ApplyPlan { .. } if self.planted.is(Plant::ForgetsLeaving) => {
                let state = &self.members[m].state;
                if state.workers().any(super::scale::leaves) {
                    self.members[m].state = rebuilt(state, None, |row| {
                        if let Row::Worker(worker) = row {
                            super::scale::forget_leaving(worker);
                        }
                    });
                }
            }
            Command::Reports { reports, .. } if self.planted.is(Plant::ChargesEvictions) => {
                let tokens: Vec<Token> = reports.iter().map(|report| report.token).collect();
                let state = &self.members[m].state;
                let evicted =
                    |t: &Token| state.attempt(*t).is_some_and(|a| a.stop == Some(StopReason::Notice));
                if tokens.iter().any(evicted) {
                    self.members[m].state = rebuilt(state, None, |row| {
                        if let Row::Live(attempt) = row
                            && tokens.contains(&attempt.token)
                            && attempt.stop == Some(StopReason::Notice)
                        {
                            attempt.stop = None;
                        }
                    });
                }
            }
            Command::Reports { reports, .. } if self.planted.is(Plant::CancelLoses) => {
                let success =
                    |k: &ReportKind| matches!(k, ReportKind::Ended { outcome: Outcome::Exit(0), .. });
                let tokens: Vec<Token> =
                    reports.iter().filter(|r| success(&r.kind)).map(|r| r.token).collect();
                let state = &self.members[m].state;
                let cancelled =
                    |t: &Token| state.attempt(*t).is_some_and(|a| a.stop == Some(StopReason::Cancel));
                if tokens.iter().any(cancelled) {
                    self.members[m].state = rebuilt(state, None, |row| {
                        if let Row::Live(attempt) = row
                            && tokens.contains(&attempt.token)
                        {
                            attempt.stop = None;
                            attempt.state = AttemptState::Running;
                        }
                    });
                }
            }
            Command::Reports { reports, .. }
                if self.planted.is(Plant::LosesGangs) || self.planted.is(Plant::TakesOneForAll) =>
            {
                let succeeds = self.planted.is(Plant::TakesOneForAll);
                for report in reports {
                    let ReportKind::Ended { outcome, .. } = &report.kind else { continue };
                    if (*outcome == Outcome::Exit(0)) == succeeds {
                        self.plant_end_of_peers(m, entry, report.token, report.rank);
                    }
                }
            }
            Command::Register { spec, incarnation, held } if self.planted.is(Plant::EndsAtRegistration) => {
                let state = &self.members[m].state;
                let other = state.worker_named(&spec.name).filter(|w| w.incarnation != *incarnation);
                let Some(worker) = other.map(|w| w.id) else { return };
                let reports =
                    state.tokens_of(worker).into_iter().filter(|t| !held.contains(t)).map(|token| {
                        let kind =
                            ReportKind::Ended { outcome: Outcome::Fenced, artifacts: Vec::new(), ran_ms: 0 };
                        let attempt = state.attempt(token).expect("its own token");
                        let rank = attempt.seat_on(worker).expect("its own seat").0;
                        muster_core::command::Report { token, rank, at: attempt.at, kind }
                    });
                let reports = reports.collect();
                let command = Command::Reports { worker, incarnation: incarnation.clone(), reports };
                let applied = self.members[m].state.apply(Entry { command: &command, ..entry });
                if entry.index > self.oracle.applied {
                    self.learn(m, entry.index, &command, &applied);
                }
                self.planted_changes.merge(applied.changes);
            }
            _ => {}
        }
    }

    /// The other ranks of a gang are said to have ended, with success or like what a lost worker ran.
    fn plant_end_of_peers(&mut self, m: usize, entry: Entry<'_>, token: Token, rank: u32) {
        let Some(attempt) = self.members[m].state.attempt(token).cloned() else { return };
        let outcome = if self.planted.is(Plant::TakesOneForAll) { Outcome::Exit(0) } else { Outcome::Fenced };
        for (other, seat) in (0..).zip(&attempt.seats).filter(|(other, _)| *other != rank) {
            let kind = ReportKind::Ended { outcome: outcome.clone(), artifacts: Vec::new(), ran_ms: 0 };
            let reports = vec![muster_core::command::Report { token, rank: other, at: attempt.at, kind }];
            let incarnation = Incarnation::default();
            let command = Command::Reports { worker: seat.worker, incarnation, reports };
            let applied = self.members[m].state.apply(Entry { command: &command, ..entry });
            if entry.index > self.oracle.applied {
                self.learn(m, entry.index, &command, &applied);
            }
            self.planted_changes.merge(applied.changes);
        }
    }

    /// What this member's state becomes after it.
    pub(crate) fn plant_after_apply(&mut self, m: usize, command: &Command, applied: &Applied) {
        for event in &applied.events {
            if let Event::AttemptPlaced { token, .. } = event
                && self.planted.is(Plant::EndsTwice)
                && let Some(attempt) = self.members[m].state.attempt(*token)
            {
                self.planted.attempts.insert(*token, attempt.clone());
            }
        }
        if self.planted.is(Plant::DropsNewest) {
            self.plant_drops_newest(m, applied);
        }
        let placed = applied.events.iter().any(|e| matches!(e, Event::AttemptPlaced { .. }));
        let state = &self.members[m].state;
        if placed && self.planted.is(Plant::ForgetsDevices) {
            self.members[m].state = rebuilt(state, None, |row| {
                if let Row::Live(attempt) = row {
                    attempt.seats.iter_mut().for_each(|seat| seat.devices.clear());
                }
            });
        } else if placed && self.planted.is(Plant::ReusesTokens) {
            self.members[m].state = rebuilt(state, None, |row| {
                if let Row::Meta(meta) = row {
                    meta.last_token = 0;
                }
            });
        } else if let Command::Register { spec, .. } = command
            && self.planted.is(Plant::ShiftsNumbers)
        {
            self.members[m].state = rebuilt(state, None, |row| {
                if let Row::Worker(worker) = row
                    && worker.spec.name == spec.name
                {
                    worker.spec.devices.reverse();
                }
            });
        } else if matches!(command, Command::Retire { .. }) && self.planted.is(Plant::RetiresOpen) {
            let idle = |id: &JobId| state.live_of_job(*id).next().is_none();
            let open = state.jobs().filter(|j| !j.state().is_terminal()).map(|j| j.id).find(idle);
            let rows = rows_of(state).into_iter().filter(|(k, _)| job_of(k).is_none_or(|j| Some(j) != open));
            self.members[m].state = State::restore(rows).expect("its own rows");
        } else if self.planted.is(Plant::ForgetsRequests) && matches!(applied.reply, Reply::Submitted { .. })
        {
            let rows = rows_of(state).into_iter().filter(|(k, _)| !matches!(k, Key::Request(_)));
            self.members[m].state = State::restore(rows).expect("its own rows");
        }
    }

    /// A member thinks of something by itself.
    pub(crate) fn plant_after_learning(&mut self, m: usize, applied: &Applied) {
        if !self.planted.is(Plant::RerunsByItself) {
            return;
        }
        for event in &applied.events {
            if let Event::JobFinished { job } = event {
                self.planted.made_up += 1;
                let request =
                    Request { id: format!("ghost{}", self.planted.made_up), user: "sim".to_owned() };
                let target = Target { job: *job, task: None, index: None };
                self.propose(m, vec![Command::Rerun { request, target }], Origin::Nobody);
            }
        }
    }

    /// The answer to what is not in the log yet.
    pub(crate) fn plant_answer(&mut self, leader: usize, op: usize, via: usize) {
        let command = self.clients.ops[op].command.clone();
        let is_early = match command {
            Command::Submit { .. } => self.planted.is(Plant::AnswersEarly),
            Command::Cancel { .. } => self.planted.is(Plant::CancelsEarly),
            _ => false,
        };
        if !is_early {
            return;
        }
        let mut state = self.members[leader].state.clone();
        let entry = Entry { index: u64::MAX >> 1, stamp: Stamp::default(), command: &command };
        let reply = state.apply(entry).reply;
        self.reply_to_client(op, leader, via, Some(reply));
    }

    /// Whether the flush of a member leaves this row out.
    pub(crate) fn plant_in_flush(&self, key: &Key) -> bool {
        self.planted.is(Plant::LosesRows) && matches!(key, Key::Request(_))
    }
}

/// The worker is what it would be without its notice.
pub(super) fn forget_notice(worker: &mut Worker) {
    if worker.notice.take().is_some() && worker.drain.is_none() && worker.state != WorkerState::Lost {
        worker.state = WorkerState::Ready;
    }
}

fn rows_of(state: &State) -> BTreeMap<Key, Row> {
    state.keys().into_iter().filter_map(|k| state.row(&k).map(|r| (k, r))).collect()
}

/// The job that a row is about.
fn job_of(key: &Key) -> Option<JobId> {
    match key {
        Key::Job(job)
        | Key::Spec(job)
        | Key::Task(job, _)
        | Key::Block(job, ..)
        | Key::Artifacts(job, ..) => Some(*job),
        Key::Checkpoints(at) => Some(at.job),
        _ => None,
    }
}

/// The state whose rows are these, changed.
pub(super) fn rebuilt(state: &State, more: Option<(Key, Row)>, change: impl Fn(&mut Row)) -> State {
    let mut rows = rows_of(state);
    rows.values_mut().for_each(change);
    rows.extend(more);
    State::restore(rows.into_iter()).expect("its own rows")
}

fn without_needs(spec: &SpecBytes) -> SpecBytes {
    let mut job = spec.decode().expect("the workload's own");
    if let Some(task) = job.tasks.iter_mut().rev().find(|t| !t.needs.is_empty()) {
        task.needs = Box::default();
        if let Some(extra) = &mut task.extra {
            extra.inputs.clear();
        }
    }
    SpecBytes::encode(&job)
}

fn with_lone_gangs(spec: &SpecBytes) -> SpecBytes {
    let mut job = spec.decode().expect("the workload's own");
    job.commons.iter_mut().filter_map(|c| c.gang.as_mut()).for_each(|gang| (gang.min, gang.max) = (1, 1));
    SpecBytes::encode(&job)
}

fn with_retries(spec: &SpecBytes) -> SpecBytes {
    let mut job = spec.decode().expect("the workload's own");
    job.commons.iter_mut().for_each(|common| common.retry.attempts += 3);
    SpecBytes::encode(&job)
}
