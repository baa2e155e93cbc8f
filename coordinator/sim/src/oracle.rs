//! What the world knows beside the state: which processes truly live, what each client was told, and books of its own about what the log
//! decided, written from the events of the first member that applies an entry.

use crate::invariants;
use crate::reference::Reference;
use crate::world::World;
use muster_core::command::{Batch, Command, Target};
use muster_core::event::Event;
use muster_core::model::attempt::{Cause, Outcome};
use muster_core::model::ids::{IndexRef, JobId, Token, WorkerId};
use muster_core::model::job::{IndexState, JobState};
use muster_core::model::placement::Seat;
use muster_core::reply::Reply;
use muster_core::state::{Applied, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The books.
#[derive(Default)]
pub struct Oracle {
    /// Entries up to here are in the books.
    pub applied: u64,
    /// The entries, as the first member that applied each found it.
    pub entries: Vec<Arc<Batch>>,
    /// Processes that truly live: index → (machine, token).
    pub running: BTreeMap<IndexRef, BTreeSet<(usize, Token)>>,
    /// Submissions whose client was answered: job → request id.
    pub acknowledged: BTreeMap<JobId, String>,
    pub by_request: BTreeMap<String, JobId>,
    /// The same, the other way round and as the client calls it.
    pub requests: BTreeMap<JobId, String>,
    /// Jobs that ended and left memory, by request: the job, how it ended, and the index that it left at.
    pub retired: BTreeMap<String, (JobId, JobState, u64)>,
    /// Kinds of commands that took effect and of causes that attempts ended with: what the workload reaches.
    pub seen: BTreeSet<String>,
    /// Calls that use a request id again for another payload, not made yet.
    pub reuses: Vec<(u64, Command)>,
    /// The jobs as their clients wrote them, and what may run of them.
    pub reference: Reference,
    pub last_token: Token,
    /// Every grant there ever was.
    pub granted: BTreeMap<Token, (IndexRef, Vec<WorkerId>)>,
    /// Ends that the log has answered: of which worker, under which token.
    pub answered: BTreeSet<(WorkerId, Token)>,
    /// Workers by name.
    pub workers: BTreeMap<String, WorkerId>,
    /// When the last process of each grant started in truth.
    pub started: BTreeMap<Token, u64>,
    /// How each process ended in truth, by machine.
    pub outcomes: BTreeMap<Token, BTreeMap<usize, Outcome>>,
    /// Granted and not ended.
    pub live: BTreeMap<Token, (IndexRef, Vec<Seat>)>,
    pub health: invariants::i4_devices::Health,
    pub saves: invariants::i7_resume::Saves,
    pub going: invariants::i11_preemptions::Going,
    pub capacity: invariants::i21_ledger::Capacity,
    pub leaving: invariants::i13_scale_in::Leaving,
    pub ended: BTreeSet<Token>,
    pub succeeded: BTreeMap<IndexRef, Token>,
    /// Ended for good, until a rerun.
    pub finals: BTreeSet<IndexRef>,
    /// Failures charged since the submission or the last rerun.
    pub charged: BTreeMap<IndexRef, u32>,
    /// A cancel of it was applied and nothing has undone that.
    pub cancelled: BTreeSet<IndexRef>,
}

impl Oracle {
    /// Notes the first word of what was seen: the name of its kind.
    fn saw(&mut self, what: &impl std::fmt::Debug) {
        let mut name = Word::default();
        let _ = std::fmt::Write::write_fmt(&mut name, format_args!("{what:?}"));
        if !self.seen.contains(&name.0) {
            self.seen.insert(name.0);
        }
    }
}

/// Takes letters up to the first that is none, and then wants no more.
#[derive(Default)]
struct Word(String);

impl std::fmt::Write for Word {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = text.find(|c: char| !c.is_ascii_alphabetic());
        self.0.push_str(&text[..end.unwrap_or(text.len())]);
        if end.is_some() { Err(std::fmt::Error) } else { Ok(()) }
    }
}

/// A process is gone.
pub(crate) fn forget_process(oracle: &mut Oracle, at: IndexRef, w: usize, token: Token) {
    if let Some(processes) = oracle.running.get_mut(&at) {
        processes.remove(&(w, token));
        if processes.is_empty() {
            oracle.running.remove(&at);
        }
    }
}

impl World {
    /// The first member to apply a command writes the books; each property is looked at on the way.
    pub(crate) fn learn(&mut self, m: usize, index: u64, command: &Command, applied: &Applied) {
        let detail = || format!("{command:?} -> {:?} {:?}", applied.reply, applied.events);
        if !matches!(applied.reply, Reply::Rejected(_) | Reply::Changed { indices: 0 }) {
            self.oracle.saw(command);
        }
        self.trace.note(self.now, "apply", index, applied.events.len() as u64, detail);
        for event in &applied.events {
            match event {
                Event::JobSubmitted { job } => {
                    self.stats.jobs += 1;
                    invariants::i1_submissions::on_submitted(self, m, *job);
                }
                Event::AttemptPlaced { at, token, .. } => {
                    self.stats.attempts += 1;
                    let Some(attempt) = self.members[m].state.attempt(*token) else { continue };
                    let seats = attempt.seats.clone();
                    invariants::i2_results::on_placed(self, *at, *token, index);
                    invariants::i4_devices::on_granted(self, m, *token, &seats);
                    invariants::i7_resume::on_placed(self, m, *at, *token);
                    invariants::i11_preemptions::on_granted(self, *token, &seats);
                    invariants::i13_scale_in::on_granted(self, *token, &seats);
                    invariants::i9_gangs::on_granted(self, *at, *token, &seats);
                    invariants::i5_parents::on_placed(self, *at);
                    invariants::i10_final::on_placed(self, *at);
                    self.oracle.reference.placed(*at);
                    let workers = seats.iter().map(|s| s.worker).collect();
                    self.oracle.granted.insert(*token, (*at, workers));
                    self.oracle.last_token = *token;
                    self.oracle.live.insert(*token, (*at, seats));
                }
                Event::CheckpointCommitted { at, token, step, .. } => {
                    self.oracle.saw(event);
                    invariants::i8_whole::on_committed(self, m, *at, *token, *step);
                    invariants::i7_resume::on_committed(self, m, *at, *token, *step);
                }
                Event::AttemptEnded { at, token, cause, retried, .. } => {
                    self.oracle.saw(cause);
                    self.stats.lost += u64::from(*cause == Cause::Lost);
                    invariants::i9_gangs::on_ended(self, *at, *token, cause);
                    invariants::i19_gone::on_ended(self, *at, *token, cause);
                    invariants::i2_results::on_ended(self, *at, *token, cause);
                    invariants::i10_final::on_ended(self, *at, cause);
                    invariants::i20_clock::on_ended(self, *at, *token, cause);
                    invariants::i11_liveness::on_ended(self, *at, cause);
                    invariants::i7_resume::on_ended(self, m, *at, *token);
                    invariants::i7_resume::on_exit(self, *at, *token, cause);
                    invariants::i11_preemptions::on_ended(self, *at, *token, cause);
                    self.oracle.reference.ended(*at, cause, *retried);
                    self.oracle.live.remove(token);
                    self.oracle.ended.insert(*token);
                    let held = self.members[m]
                        .state
                        .job(at.job)
                        .and_then(|j| j.task(at.task).indices.state(at.index));
                    if !retried && held != Some(IndexState::Held) {
                        self.oracle.finals.insert(*at);
                    }
                }
                _ => {}
            }
        }
        invariants::i21_ledger::on_applied(self, m, command);
        if let Command::Rerun { request, .. } = command
            && !self.was_asked(request, command)
        {
            return;
        }
        if let (Command::Reports { worker, .. }, Reply::Reported { settled, .. }) = (command, &applied.reply)
        {
            self.oracle.answered.extend(settled.iter().map(|token| (*worker, *token)));
        }
        if let (Command::Register { spec, .. }, Reply::Registered { worker }) = (command, &applied.reply) {
            self.oracle.workers.insert(spec.name.clone(), *worker);
        }
        invariants::i4_devices::on_applied(self, command, &applied.reply);
        invariants::i11_preemptions::on_applied(self, command, applied);
        invariants::i13_scale_in::on_applied(self, command, applied);
        self.oracle.reference.applied(command, &applied.reply);
        match (command, &applied.reply) {
            (Command::Cancel { target, .. }, Reply::Changed { .. })
                if !applied.events.is_empty() || !applied.changes.reread.is_empty() =>
            {
                let concerned = indices_of(&self.members[m].state, target, |s| {
                    matches!(s, IndexState::Live | IndexState::Cancelled)
                });
                self.oracle.cancelled.extend(concerned);
            }
            (Command::Rerun { target, .. }, Reply::Changed { .. }) if !applied.changes.reread.is_empty() => {
                for at in indices_of(&self.members[m].state, target, |s| s == IndexState::Pending) {
                    self.oracle.finals.remove(&at);
                    self.oracle.cancelled.remove(&at);
                    self.oracle.charged.remove(&at);
                }
            }
            _ => {}
        }
    }
}

/// Indices of the target in states that `pick` picks.
fn indices_of(state: &State, target: &Target, pick: impl Fn(IndexState) -> bool) -> Vec<IndexRef> {
    let Some(job) = state.job(target.job) else { return Vec::new() };
    let mut found = Vec::new();
    for no in (0..job.tasks.len() as u32)
        .map(muster_core::model::ids::TaskNo)
        .filter(|no| target.task.is_none_or(|t| t == *no))
    {
        let indices = &job.task(no).indices;
        let all = (0..indices.len()).filter(|i| target.index.is_none_or(|t| t == *i));
        found.extend(
            all.filter(|i| indices.state(*i).is_some_and(&pick)).map(|i| IndexRef::new(job.id, no, i)),
        );
    }
    found
}
