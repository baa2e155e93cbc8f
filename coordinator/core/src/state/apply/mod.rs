//! `State::apply`: sync, total, deterministic. One file a family; this is only the dispatch and what families share.

mod breaker;
mod budget;
mod checkpoint;
mod device;
mod finish;
mod fleet;
mod flow;
mod gang;
mod idle;
mod inventory;
mod ledger;
mod member;
mod mutate;
mod notice;
mod place;
mod pool;
mod report;
mod restored;
mod retire;
mod submit;
mod when;
mod worker;

use super::rows::{Admission, Changes, Key, RequestRow};
use super::store::State;
use crate::command::{Command, Request};
use crate::event::Event;
use crate::model::ids::{JobId, TaskNo};
use crate::model::time::Stamp;
use crate::reply::{Rejection, Reply};
use std::collections::BTreeSet;

pub use breaker::command_key;
pub(super) use flow::first_phase;

/// One command at its place in the log.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Log index; several commands of one batch share it.
    pub index: u64,
    pub stamp: Stamp,
    pub command: &'a Command,
}

/// What applying it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub reply: Reply,
    pub events: Vec<Event>,
    pub changes: Changes,
}

/// One application in progress: the state, and what it has touched so far.
pub(super) struct Apply<'a> {
    state: &'a mut State,
    index: u64,
    stamp: Stamp,
    events: Vec<Event>,
    touched: Touched,
    changes: Changes,
}

/// Keys of touched rows, in the order of the touching. Nearly all of them come in the order of their kind, so that one set made of
/// them at the end costs a fraction of one that grows key by key.
#[derive(Default)]
struct Touched {
    keys: Vec<Key>,
    live: Vec<Key>,
}

impl Touched {
    fn add(&mut self, key: Key) {
        let list = if matches!(key, Key::Live(_)) { &mut self.live } else { &mut self.keys };
        if list.last() != Some(&key) {
            list.push(key);
        }
    }

    fn set(self) -> BTreeSet<Key> {
        self.keys.into_iter().chain(self.live).collect()
    }
}

/// The answer of a family: a reply, or a refusal that changed nothing.
type Answer = Result<Reply, Rejection>;

impl State {
    /// Applies one command. Never fails: a bad command is a [`Reply::Rejected`] that changed nothing.
    pub fn apply(&mut self, entry: Entry<'_>) -> Applied {
        // Ticks never go back, whatever a leader sent.
        let tick = self.meta.tick.max(entry.stamp.tick);
        let stamp = Stamp { wall: entry.stamp.wall, tick };
        self.meta.tick = tick;
        let mut apply = Apply {
            state: self,
            index: entry.index,
            stamp,
            events: Vec::new(),
            touched: Touched::default(),
            changes: Changes::default(),
        };
        apply.touch(Key::Meta);
        let reply = apply.command(entry.command).unwrap_or_else(Reply::Rejected);
        let Apply { events, touched, mut changes, .. } = apply;
        changes.keys = touched.set();
        Applied { reply, events, changes }
    }
}

impl Apply<'_> {
    fn command(&mut self, command: &Command) -> Answer {
        match command {
            Command::SubmitPart { request, part, bytes } => self.submit_part(request, *part, bytes),
            Command::Submit { request, spec, parts, forecast_micro_usd: None } => {
                self.once(request, command, |a| a.submit(request, spec, *parts, None))
            }
            Command::Submit { request, spec, parts, forecast_micro_usd } => {
                // What it will cost is no part of what was asked: said again it may be another.
                let (request, spec, parts) = (request.clone(), spec.clone(), *parts);
                let asked = Command::Submit { request, spec, parts, forecast_micro_usd: None };
                let Command::Submit { request, spec, .. } = &asked else { return Ok(Reply::Done) };
                self.once(request, &asked, |a| a.submit(request, spec, parts, *forecast_micro_usd))
            }
            Command::Cancel { request, target } => self.once(request, command, |a| a.cancel(target)),
            Command::Hold { request, target } => self.once(request, command, |a| a.hold(target)),
            Command::Release { request, target } => self.once(request, command, |a| a.release(target)),
            Command::Rerun { request, target } => self.once(request, command, |a| a.rerun(target)),
            Command::ResolveWhen { job, task, run, reason } => self.resolve_when(*job, *task, *run, reason),
            Command::ApplyPlan { placements } => self.apply_plan(placements),
            Command::Reports { worker, incarnation, reports } => self.reports(*worker, incarnation, reports),
            Command::Register { spec, incarnation, held } => self.register(spec, incarnation, held),
            Command::LoseWorker { worker, incarnation } => self.lose_worker(*worker, incarnation),
            Command::Stop { tokens, reason } => self.stop_attempts(tokens, *reason),
            Command::Drain { request, worker, deadline_ms, reason } => {
                self.once(request, command, |a| a.drain(*worker, *deadline_ms, reason))
            }
            Command::Undrain { request, worker } => self.once(request, command, |a| a.undrain(*worker)),
            Command::Retire { before } => self.retire(*before),
            Command::AdmitMember { request, address, replace, floor } => {
                let admission =
                    Admission { request: request.clone(), address: address.clone(), replace: *replace };
                self.admit_member(admission, *floor)
            }
            Command::CloseAdmission { member, floor } => self.close_admission(*member, *floor),
            Command::SetFleet { fleet } => self.set_fleet(fleet),
            Command::Scale { pool, based_on, scale } => self.scale(pool, *based_on, scale),
            Command::ScaleIn { workers, deadline_ms, reason } => self.scale_in(workers, *deadline_ms, reason),
            Command::Forget { request, worker, incarnation } => match request {
                Some(request) => self.once(request, command, |a| a.forget(*worker, incarnation.as_ref())),
                None => self.forget(*worker, incarnation.as_ref()),
            },
            Command::Restored => self.restored(),
            Command::SetBudget { request, scope, budget } => {
                self.once(request, command, |a| a.set_budget(scope, *budget))
            }
            Command::IdleAttempts { tokens, action, after_ms } => {
                self.idle_attempts(tokens, *action, *after_ms)
            }
            Command::Settle => self.look_at_budgets(),
            Command::HeldEmpty { claims } => self.held_empty(claims),
            Command::DeviceEvents { worker, incarnation, events } => {
                self.device_events(*worker, incarnation, events)
            }
            Command::Notice { request, worker, incarnation, notice } => match request {
                Some(request) => {
                    self.once(request, command, |a| a.notice(*worker, incarnation.as_ref(), notice))
                }
                None => self.notice(*worker, incarnation.as_ref(), notice),
            },
            Command::QuarantineDevice { request, uuid, reason } => {
                self.once(request, command, |a| a.quarantine_device(uuid, reason))
            }
            Command::ReturnDevice { request, uuid, reason } => {
                self.once(request, command, |a| a.return_device(uuid, reason))
            }
        }
    }

    fn touch(&mut self, key: Key) {
        self.touched.add(key);
    }

    /// The same request id gives the same answer; another payload under it is refused. Refusals are not remembered: the caller
    /// may mend what was wrong and ask again under the same id.
    fn once(
        &mut self,
        request: &Request,
        command: &Command,
        act: impl FnOnce(&mut Self) -> Answer,
    ) -> Answer {
        let key = request_key(request);
        let digest = *blake3::hash(&postcard::to_extend(command, Vec::new()).unwrap_or_default()).as_bytes();
        if let Some(row) = self.state.requests.get(&key) {
            return if row.digest == digest {
                Ok(row.reply.clone())
            } else {
                Err(Rejection::RequestIdReused { id: request.id.clone() })
            };
        }
        let reply = act(self)?;
        let job = match &reply {
            Reply::Submitted { job, .. } => Some(*job),
            _ => None,
        };
        let row = RequestRow { digest, reply: reply.clone(), tick: self.stamp.tick, job };
        self.state.requests.insert(key.clone(), row);
        self.touch(Key::Request(key));
        Ok(reply)
    }

    /// Every block of the task, and the task itself.
    fn touch_all(&mut self, job: JobId, task: TaskNo) {
        let Some(row) = self.state.jobs.get(&job) else { return };
        let blocks: Vec<u32> = row.task(task).indices.touched_blocks().collect();
        self.touch(Key::Task(job, task));
        blocks.into_iter().for_each(|b| self.touch(Key::Block(job, task, b)));
    }
}

impl State {
    /// What the request was answered, as long as that is remembered: for calls whose target goes with the first try.
    #[must_use]
    pub fn answer_to(&self, request: &Request) -> Option<&Reply> {
        self.requests.get(&request_key(request)).map(|row| &row.reply)
    }
}

/// Requests of different users never meet.
fn request_key(request: &Request) -> String {
    format!("{}/{}", request.user, request.id)
}
