//! Mistakes in what the leader hears and what it says.

use super::Plant;
use crate::replicas::Origin;
use crate::world::World;
use muster_core::command::{Command, Report, ReportKind};
use muster_core::leader::instruction::Instruction;
use muster_core::leader::{Input, Output, SessionId};
use muster_core::model::ids::{IndexRef, TaskNo, Token};
use muster_core::model::worker::Incarnation;
use muster_core::state::Phase;

impl World {
    /// What the leader hears instead.
    pub(crate) fn plant_in_input(&mut self, m: usize, input: Input) -> Input {
        match input {
            Input::Delta(mut delta) if self.planted.is(Plant::ForgetsReturned) => {
                delta.returned.clear();
                Input::Delta(delta)
            }
            Input::Delta(mut delta) if self.planted.is(Plant::HastyLeader) => {
                delta.tick = delta.tick.plus(60_000);
                Input::Delta(delta)
            }
            Input::Delta(mut delta) if self.planted.is(Plant::ForgetsQuarantine) => {
                delta.devices.clear();
                Input::Delta(delta)
            }
            Input::Delta(delta) if self.planted.is(Plant::StepsGoBack) => {
                Input::Delta(super::checkpoint::without_progress(delta))
            }
            Input::Reports { session, reports } if self.planted.is(Plant::CommitsForeign) => {
                self.plant_foreign_save(m, &reports);
                Input::Reports { session, reports }
            }
            Input::Delta(mut delta) if self.planted.is(Plant::ForgetsNotices) => {
                for worker in delta.workers.iter_mut().filter_map(|(_, worker)| worker.as_mut()) {
                    super::state::forget_notice(worker);
                }
                Input::Delta(delta)
            }
            Input::Delta(mut delta) if self.planted.is(Plant::ForgetsLeaving) => {
                for worker in delta.workers.iter_mut().filter_map(|(_, worker)| worker.as_mut()) {
                    super::scale::forget_leaving(worker);
                }
                Input::Delta(delta)
            }
            Input::DeviceEvents { session, events } if self.planted.is(Plant::SettlesEventsEarly) => {
                if let Some(seq) = events.iter().map(|event| event.seq).max() {
                    self.send_down(session.0, vec![Instruction::EventsSettled { seq }]);
                }
                Input::DeviceEvents { session, events }
            }
            Input::Reports { session, reports } if self.planted.is(Plant::SettlesEarly) => {
                let ended = reports.iter().filter(|r| matches!(r.kind, ReportKind::Ended { .. }));
                let tokens: Vec<Token> = ended.map(|r| r.token).collect();
                if !tokens.is_empty() {
                    self.send_down(session.0, vec![Instruction::Settled { tokens }]);
                }
                Input::Reports { session, reports }
            }
            Input::Reports { session, reports } if self.planted.is(Plant::HeedsOldTokens) => {
                for report in reports.iter().filter(|r| matches!(r.kind, ReportKind::Ended { .. })) {
                    let state = &self.members[m].state;
                    let current = state.attempt_of(report.at).filter(|a| a.token != report.token);
                    let Some((worker, token)) = current.map(|a| (a.first_worker(), a.token)) else {
                        continue;
                    };
                    let reports = vec![Report { token, rank: 0, ..report.clone() }];
                    let incarnation = Incarnation::default();
                    self.propose(m, vec![Command::Reports { worker, incarnation, reports }], Origin::Nobody);
                }
                Input::Reports { session, reports }
            }
            other => other,
        }
    }

    /// What the leader asks for instead. Gives back the outputs that are still to be performed.
    pub(crate) fn plant_in_outputs(&mut self, m: usize, outputs: Vec<Output>) -> Vec<Output> {
        let mut left = self.plant_orders(m, &outputs);
        for output in outputs {
            match output {
                Output::Confirm { batch } if self.planted.is(Plant::RenewsAlone) => {
                    let term = self.members[m].led.as_ref().map_or(0, |l| l.term);
                    self.at(1, crate::event::Event::Confirmed { member: m, term, batch, ok: true });
                }
                Output::Instruct { session, instructions } => {
                    let instructions = self.plant_in_instructions(m, instructions);
                    left.push(Output::Instruct { session, instructions });
                }
                other => left.push(other),
            }
        }
        left
    }

    fn plant_in_instructions(&self, m: usize, mut instructions: Vec<Instruction>) -> Vec<Instruction> {
        let mut more = Vec::new();
        for instruction in &mut instructions {
            let Instruction::Start(order) = instruction else { continue };
            if self.planted.is(Plant::SharesDevices) {
                // Of the leader's own book, whichever they are at the worker.
                let worker = self.members[m].state.workers().find(|w| {
                    order.devices.first().is_some_and(|d| w.spec.devices.iter().any(|o| o.uuid == d.uuid))
                });
                for (device, first) in
                    order.devices.iter_mut().zip(worker.iter().flat_map(|w| &w.spec.devices))
                {
                    device.uuid.clone_from(&first.uuid);
                    device.milli = 1_000;
                }
            }
            if self.planted.is(Plant::ResumesOldest) {
                self.plant_resumes_oldest(m, order);
            }
            if self.planted.is(Plant::StartsEarly)
                && let Some(at) = self.waiting_beside(m, order.at)
            {
                let mut early = order.clone();
                early.at = at;
                early.number = 1;
                early.token = Token(order.token.0 + (1 << 40));
                more.push(Instruction::Start(early));
            }
        }
        instructions.extend(more);
        instructions
    }

    /// An index of the same job whose parents have not allowed it.
    fn waiting_beside(&self, m: usize, at: IndexRef) -> Option<IndexRef> {
        let job = self.members[m].state.job(at.job)?;
        let no = job.tasks.iter().position(|t| t.phase == Phase::Waiting)?;
        Some(IndexRef::new(at.job, TaskNo(no as u32), 0))
    }

    /// Whether a member answers a read at once.
    pub(crate) fn plant_reads_locally(&self) -> bool {
        self.planted.is(Plant::ReadsLocally)
    }

    /// Whether a leader believes that it leads.
    pub(crate) fn plant_reads_unconfirmed(&self) -> bool {
        self.planted.is(Plant::ReadsUnconfirmed)
    }

    /// For how much longer a decision waits than those around it, ms. The mistake shows where a loss waits for two elections, and losses are few.
    pub(crate) fn plant_in_queue(&mut self, commands: &[Command]) -> u64 {
        let loses = || commands.iter().any(|command| matches!(command, Command::LoseWorker { .. }));
        if self.planted.is(Plant::HeedsOldDecisions) && loses() {
            self.cluster.rng.range(4_000, 20_000)
        } else {
            0
        }
    }

    /// Whether what a leader decided in an earlier term of its own goes into the log in this one.
    pub(crate) fn plant_heeds_old_decisions(&self) -> bool {
        self.planted.is(Plant::HeedsOldDecisions)
    }

    /// A stream ended at its leader.
    pub(crate) fn plant_at_close(&mut self, m: usize, SessionId(session): SessionId) {
        if !self.planted.is(Plant::LosesEarly) {
            return;
        }
        let Some(session) = self.network.sessions.get(&session) else { return };
        let name = &self.machines[session.worker].spec.name;
        let worker = self.members[m].state.worker_named(name).map(|w| (w.id, w.incarnation.clone()));
        if let Some((worker, incarnation)) = worker {
            self.propose(m, vec![Command::LoseWorker { worker, incarnation }], Origin::Nobody);
        }
    }
}
