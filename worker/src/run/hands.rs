//! What the agent asks is done here, and what comes of it goes back as inputs.

mod checkpoint;
mod journaling;
mod reading;

use super::attempt::{Local, Phase, Result3, fate, outcome};
use super::prepare::{Preparer, is_quick};
use super::vacate::vacate;
use crate::artifacts::collect;
use crate::blobs::Store;
use crate::devices::Devices;
use crate::executor::{Exit, Launch, LaunchFailure, ShimClient};
use crate::journal::Journal;
use crate::session::Outbox;
use crate::shim::clock::boot_ms;
use muster_agent::{Action, Input, StartOrder};
use muster_core::command::{Report, ReportKind};
use muster_core::model::attempt::Outcome;
use muster_core::model::checkpoint::Saved;
use muster_core::model::ids::Token;
use muster_failpoint::{Point, pass};
use muster_proto::convert::pack;
use muster_proto::worker::worker_message::Kind as Up;
use muster_proto::worker::{DeviceEvents, Heartbeat, NoticeMessage, Reports};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

/// Ended attempts whose outputs and logs are stored at once.
const FINISHING_MAX: usize = 16;
/// Attempts whose files are brought at once.
const PREPARING_MAX: usize = 8;
/// What spawned work brings back.
#[derive(Debug)]
pub enum Internal {
    Prepared { token: u64, launch: Result<Box<Launch>, Outcome> },
    Finished { token: u64, result: Result3 },
    Saved { token: Token, saved: Saved },
    LogServed { id: u64, token: u64 },
    Uploaded,
}

/// The worker's hands.
pub struct Hands {
    preparer: Arc<Preparer>,
    devices: Arc<dyn Devices>,
    shim: ShimClient,
    pub journal: Journal,
    store: Store,
    internal: UnboundedSender<Internal>,
    attempts: BTreeMap<u64, Local>,
    preparing: BTreeSet<u64>,
    /// Log readers by attempt and request.
    readers: BTreeMap<(u64, u64), CancellationToken>,
    /// Forgotten attempts whose logs are still being read.
    kept_for_readers: BTreeSet<u64>,
    finish_permits: Arc<Semaphore>,
    prepare_permits: Arc<Semaphore>,
    term: u64,
    uploading: bool,
    stopping: bool,
}

/// What one turn sends in one go.
#[derive(Default)]
struct Turn {
    launches: Vec<Launch>,
    reports: Vec<Report>,
    released: Vec<u64>,
    removed: Vec<u64>,
    inputs: Vec<Input>,
}

impl Hands {
    pub fn new(
        preparer: Arc<Preparer>,
        devices: Arc<dyn Devices>,
        shim: ShimClient,
        journal: Journal,
        store: Store,
        internal: UnboundedSender<Internal>,
    ) -> Self {
        let term = journal.term();
        Self {
            preparer,
            devices,
            shim,
            journal,
            store,
            internal,
            attempts: BTreeMap::new(),
            preparing: BTreeSet::new(),
            readers: BTreeMap::new(),
            kept_for_readers: BTreeSet::new(),
            finish_permits: Arc::new(Semaphore::new(FINISHING_MAX)),
            prepare_permits: Arc::new(Semaphore::new(PREPARING_MAX)),
            term,
            uploading: false,
            stopping: false,
        }
    }

    /// Removes the directories that nobody holds.
    pub fn sweep(&self) {
        let dirs = &self.preparer.dirs;
        self.remove(dirs.list().into_iter().filter(|token| !self.attempts.contains_key(token)).collect());
    }

    /// Whether nothing runs and nothing is being stored.
    pub fn is_idle(&self) -> bool {
        self.attempts.values().all(|local| matches!(local.phase, Phase::Over))
    }

    /// Does what the agent asks. Returns what already came of it.
    pub fn perform(&mut self, actions: Vec<Action>, term: u64, outbox: Option<&Outbox>) -> Vec<Input> {
        let mut turn = Turn::default();
        // 1. The journal, before anything that relies on it.
        let is_written = self.write_journal(&actions, term);
        // 2. The rest, in order.
        for action in actions {
            match action {
                Action::Journal(_) => {}
                Action::Launch { order, deadline } if is_written => self.launch(order, deadline, &mut turn),
                Action::Launch { order, .. } => turn.inputs.extend(self.ended(order.token.0, unwritten())),
                Action::Heartbeat { seq, held } => {
                    if let Some(outbox) = outbox {
                        outbox.send(Up::Heartbeat(Heartbeat {
                            seq,
                            held: held.into_iter().map(|t| t.0).collect(),
                        }));
                    }
                }
                Action::DeviceEvents(events) => {
                    if let Some(outbox) = outbox {
                        outbox.send(Up::DeviceEvents(DeviceEvents { events: pack(&events) }));
                    }
                }
                Action::Probe { uuids } => turn.inputs.extend(self.look_again(&uuids)),
                Action::Report(reports) => turn.reports.extend(reports),
                Action::Renew { deadline } => self.renew(deadline, &mut turn),
                Action::Stop { token, signal, grace_ms, deadline } => {
                    self.stop(token.0, (signal, grace_ms, deadline), &mut turn);
                }
                Action::Notice(notice) => {
                    if let Some(outbox) = outbox {
                        outbox.send(Up::Notice(NoticeMessage { notice: pack(&notice) }));
                    }
                }
                Action::Verdict { token, step, verdict } => {
                    self.preparer.savers.answer(token, step, verdict);
                }
                Action::Kill { token } => self.kill(token.0, &mut turn),
                Action::Forget { token } => self.forget(token.0, &mut turn),
            }
        }
        self.flush(&mut turn);
        if let Some(outbox) = outbox.filter(|_| !turn.reports.is_empty()) {
            if turn.reports.iter().any(|report| matches!(report.kind, ReportKind::Ended { .. })) {
                pass(Point::ResultJournaled);
            }
            outbox.send(Up::Reports(Reports { reports: pack(&turn.reports) }));
            pass(Point::ResultSent);
        }
        if !turn.released.is_empty() {
            self.shim.release(turn.released);
        }
        self.remove(turn.removed);
        turn.inputs
    }

    fn launch(&mut self, order: Box<StartOrder>, deadline: u64, turn: &mut Turn) {
        let token = order.token.0;
        if self.stopping {
            turn.inputs.extend(self.ended(token, Outcome::Launch("the worker is stopping".into())));
        } else if is_quick(&order) {
            match self.preparer.prepare_quick(&order) {
                Ok(launch) => turn.launches.push(Launch { deadline_boot_ms: deadline, ..launch }),
                Err(outcome) => turn.inputs.extend(self.ended(token, outcome)),
            }
        } else {
            let cancel = CancellationToken::new();
            let Some(local) = self.attempts.get_mut(&token) else { return };
            local.phase = Phase::Preparing { deadline, cancel: cancel.clone(), stop: None };
            self.preparing.insert(token);
            let (preparer, permits, internal) =
                (self.preparer.clone(), self.prepare_permits.clone(), self.internal.clone());
            tokio::spawn(async move {
                let work = async {
                    let _permit = permits.acquire().await;
                    preparer.prepare(&order, &cancel).await
                };
                let launch = tokio::select! {
                    launch = work => launch.map(Box::new),
                    () = cancel.cancelled() => Err(Outcome::Fenced),
                };
                let _ = internal.send(Internal::Prepared { token, launch });
            });
        }
    }

    /// What was prepared so far goes to the shim before anything that speaks of it.
    fn flush(&mut self, turn: &mut Turn) {
        if !turn.launches.is_empty() {
            self.hand_over(std::mem::take(&mut turn.launches));
        }
    }

    fn hand_over(&mut self, launches: Vec<Launch>) {
        pass(Point::LaunchBefore);
        self.shim.launch(launches);
        pass(Point::LaunchAfter);
    }

    fn renew(&mut self, renewed: u64, turn: &mut Turn) {
        self.flush(turn);
        self.shim.renew(renewed, Vec::new());
        for token in &self.preparing {
            if let Some(Phase::Preparing { deadline, .. }) =
                self.attempts.get_mut(token).map(|local| &mut local.phase)
            {
                *deadline = renewed.max(*deadline);
            }
        }
    }

    fn stop(&mut self, token: u64, how: (i32, u64, Option<u64>), turn: &mut Turn) {
        self.flush(turn);
        let (signal, grace_ms, deadline) = how;
        let Some(local) = self.attempts.get_mut(&token) else { return };
        match &mut local.phase {
            Phase::Preparing { cancel, stop, .. } => {
                *stop = Some(signal);
                cancel.cancel();
            }
            Phase::Launched => {
                checkpoint::tell_deadline(local, &self.preparer.dirs.of(token), grace_ms, deadline);
                self.shim.stop(token, signal, grace_ms);
            }
            Phase::Finishing | Phase::Over => {}
        }
    }

    fn kill(&mut self, token: u64, turn: &mut Turn) {
        self.flush(turn);
        let local = self.attempts.get_mut(&token);
        if let Some(local) = &local {
            local.saver.end();
        }
        match local.map(|local| &mut local.phase) {
            // What was prepared may be on its way here already: it is not launched then.
            Some(Phase::Preparing { cancel, stop, .. }) => {
                *stop = Some(libc::SIGKILL);
                cancel.cancel();
            }
            // Also one that the shim holds and the journal does not.
            Some(Phase::Launched) | None => self.shim.kill(token),
            Some(Phase::Finishing | Phase::Over) => {}
        }
    }

    fn forget(&mut self, token: u64, turn: &mut Turn) {
        self.preparing.remove(&token);
        turn.released.push(token);
        if let Some(local) = self.attempts.remove(&token) {
            local.ended.cancel();
        }
        self.preparer.savers.remove(Token(token));
        if self.is_read(token) {
            self.kept_for_readers.insert(token);
        } else {
            turn.removed.push(token);
        }
    }

    /// Removing is slow where a task left much.
    fn remove(&self, tokens: Vec<u64>) {
        if tokens.is_empty() {
            return;
        }
        let dirs = self.preparer.dirs.clone();
        tokio::task::spawn_blocking(move || {
            for token in tokens {
                if let Err(error) = dirs.remove(token) {
                    tracing::warn!(token, %error, "the directories of an attempt were not removed");
                }
            }
        });
    }

    /// What happened to the devices since it was asked last.
    pub fn device_events(&self) -> Option<Input> {
        let events = self.devices.events();
        (!events.is_empty()).then_some(Input::DeviceEvents(events))
    }

    /// Which of these have nothing wrong.
    fn look_again(&self, uuids: &[String]) -> Option<Input> {
        let events = self.devices.probe(uuids);
        (!events.is_empty()).then_some(Input::DeviceEvents(events))
    }

    /// The shim executes it.
    pub fn started(&mut self, token: u64, at: u64) {
        if let Some(local) = self.attempts.get_mut(&token) {
            local.started.get_or_insert(at);
            local.saver.watch();
        }
    }

    /// The shim did not execute it.
    pub fn launch_failed(&mut self, token: u64, reason: &LaunchFailure) -> Option<Input> {
        self.ended(token, Outcome::Launch(reason.to_string()))
    }

    /// No shim has it any more.
    pub fn vanished(&mut self, token: u64) -> Option<Input> {
        let was_running = self.attempts.get(&token)?.started.is_some();
        let never = || Outcome::Launch("the worker lost it when its agent or shim ended".into());
        self.ended(token, if was_running { Outcome::Fenced } else { never() })
    }

    /// Its processes are gone and its logs complete. What it promised and printed is stored before its end is told.
    pub fn exited(&mut self, exit: Exit) -> Option<Input> {
        pass(Point::ExitHeard);
        let token = exit.token;
        let Some(local) = self.attempts.get_mut(&token) else {
            return Some(Input::Ended {
                token: Token(token),
                outcome: Outcome::Fenced,
                artifacts: Vec::new(),
                ran_ms: 0,
            });
        };
        if !matches!(local.phase, Phase::Launched) {
            return None;
        }
        local.ended.cancel();
        let (ended, ran_ms) =
            (outcome(&exit, self.stopping), exit.ended_boot_ms.saturating_sub(exit.started_boot_ms));
        let outputs = if ended == Outcome::Exit(0) { local.kept.outputs.clone() } else { Vec::new() };
        let held = local.kept.devices.clone();
        // Also where an earlier agent saw it start.
        local.saver.watch();
        if exit.fenced {
            local.saver.end();
        }
        if outputs.is_empty() && local.logs.is_empty() && held.is_empty() && !local.saver.is_busy() {
            local.saver.end();
            local.phase = Phase::Over;
            return Some(Input::Ended { token: Token(token), outcome: ended, artifacts: Vec::new(), ran_ms });
        }
        local.phase = Phase::Finishing;
        let (logs, store, out) = (local.logs.clone(), self.store.clone(), self.preparer.dirs.of(token).out);
        let (permits, internal) = (self.finish_permits.clone(), self.internal.clone());
        let devices = self.devices.clone();
        let saved = checkpoint::last_of(local, &exit);
        tokio::spawn(async move {
            let stored = async {
                let _permit = permits.acquire().await;
                let collected = match collect(&out, &outputs, &store).await {
                    Ok(artifacts) => (ended, artifacts),
                    Err(broken) => (broken, Vec::new()),
                };
                logs.upload_last(&store).await;
                collected
            };
            let ((outcome, artifacts), (), ()) = tokio::join!(stored, vacate(&*devices, &held), saved);
            let _ = internal.send(Internal::Finished { token, result: (outcome, artifacts, ran_ms) });
        });
        None
    }

    /// Spawned work came back.
    pub fn done(&mut self, result: Internal, now: u64) -> Option<Input> {
        match result {
            Internal::Prepared { token, launch } => self.prepared(token, launch, now),
            Internal::Finished { token, result: (outcome, artifacts, ran_ms) } => {
                self.attempts.get_mut(&token)?.phase = Phase::Over;
                Some(Input::Ended { token: Token(token), outcome, artifacts, ran_ms })
            }
            Internal::Saved { token, saved } => Some(Input::Saved { token, saved }),
            Internal::LogServed { id, token } => {
                self.readers.remove(&(token, id));
                if !self.is_read(token) && self.kept_for_readers.remove(&token) {
                    self.remove(vec![token]);
                }
                None
            }
            Internal::Uploaded => {
                self.uploading = false;
                None
            }
        }
    }

    fn prepared(&mut self, token: u64, launch: Result<Box<Launch>, Outcome>, now: u64) -> Option<Input> {
        self.preparing.remove(&token);
        let local = self.attempts.get_mut(&token)?;
        let Phase::Preparing { deadline, stop, .. } = local.phase else { return None };
        match fate(launch, stop, deadline, now) {
            Ok(launch) => {
                local.phase = Phase::Launched;
                self.hand_over(vec![Launch { deadline_boot_ms: deadline, ..*launch }]);
                None
            }
            Err(outcome) => self.ended(token, outcome),
        }
    }

    /// It ended without having run, or nothing of it is left to store.
    fn ended(&mut self, token: u64, outcome: Outcome) -> Option<Input> {
        let local = self.attempts.get_mut(&token)?;
        if matches!(local.phase, Phase::Finishing | Phase::Over) {
            return None;
        }
        local.phase = Phase::Over;
        local.ended.cancel();
        local.saver.end();
        let ran_ms = local.started.map_or(0, |started| boot_ms().saturating_sub(started));
        Some(Input::Ended { token: Token(token), outcome, artifacts: Vec::new(), ran_ms })
    }

    /// Ends every task, because the worker ends.
    pub fn stop_all(&mut self) {
        self.stopping = true;
        for (token, local) in &mut self.attempts {
            match &mut local.phase {
                Phase::Preparing { cancel, stop, .. } => {
                    *stop = Some(libc::SIGKILL);
                    cancel.cancel();
                }
                Phase::Launched => self.shim.stop(*token, libc::SIGTERM, 0),
                Phase::Finishing | Phase::Over => {}
            }
        }
    }
}

fn unwritten() -> Outcome {
    Outcome::Launch("the worker cannot write its journal".into())
}
