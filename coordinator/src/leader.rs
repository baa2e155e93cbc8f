//! The leader thread: everything that concerns the leader's decisions reaches it through one channel, in order. It runs
//! [`muster_core::leader::Leader`] and carries out what that asks for. Left out: every decision.

use crate::clock::boot_ms;
use crate::driving::Drives;
use crate::metrics::Counters;
use crate::signals::{Signals, signals_doc};
use crate::telemetry::{Looked, Telemetries};
use crate::vital::Vital;
use bytes::Bytes;
use muster_core::autoscale::GroupReport;
use muster_core::command::{Command, Report};
use muster_core::health::XidPolicy;
use muster_core::leader::{Input, Leader, Output, SessionId};
use muster_core::model::device_event::{DeviceEvent, Verdict};
use muster_core::model::fleet::Fleet;
use muster_core::model::idle::IdlePolicy;
use muster_core::model::ids::{Token, WorkerId};
use muster_core::model::notice::Notice;
use muster_core::model::telemetry::Telemetry;
use muster_core::model::worker::Incarnation;
use muster_core::reply::Replies;
use muster_core::state::Delta;
use muster_proto::convert::pack;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc as async_mpsc, oneshot};

/// While anything is due soon the core is asked this often.
const TICK: Duration = Duration::from_millis(100);
/// Otherwise this often, for retention and other slow timers.
const SLOW_TICK: Duration = Duration::from_secs(1);
/// Inputs taken in one go before the core is asked what to do.
const BURST: usize = 4096;

/// What is said of one session, local or relayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Up {
    /// Its Register was applied; `held` is what the worker said last.
    Opened {
        worker: WorkerId,
        incarnation: Incarnation,
        held: Vec<Token>,
    },
    Heartbeat {
        seq: u64,
        held: Vec<Token>,
    },
    Reports(Vec<Report>),
    DeviceEvents(Vec<DeviceEvent>),
    Notice(Notice),
    /// What a worker measured. It goes past the leader thread: nothing is decided by it.
    Telemetry(WorkerId, Box<Telemetry>),
    /// What of a measurement concerns the rules. It is made of one by the leading member.
    Computing(WorkerId, Looked),
    Closed,
}

/// What a session is told; packed `Vec<Instruction>`.
pub type Down = Bytes;

/// What reaches the sessions of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToSession {
    /// As the line numbers it.
    pub session: u64,
    /// None: the session is over, its worker has to register again.
    pub down: Option<Down>,
}

/// What reaches the leader thread.
pub enum ToLeader {
    Elected {
        term: u64,
        state: Box<Delta>,
    },
    Deposed,
    Delta(Box<Delta>),
    /// `taken` is answered when this member leads, dropped when not.
    LineOpened {
        line: u64,
        down: async_mpsc::UnboundedSender<ToSession>,
        taken: oneshot::Sender<()>,
    },
    LineClosed {
        line: u64,
    },
    Up {
        line: u64,
        ups: Vec<(u64, Up)>,
    },
    Confirmed {
        batch: u64,
        ok: bool,
    },
    /// An exercise: this worker is to say that this was seen of its device.
    Drill {
        worker: WorkerId,
        event: DeviceEvent,
    },
    /// The pools as this member is configured, at the prices of now.
    Fleet(Box<Fleet>),
    /// What the provider of a pool says of its group.
    Group {
        pool: String,
        report: GroupReport,
    },
    /// It takes orders and says nothing.
    Unseen {
        pool: String,
    },
    /// It refused or failed: nothing is asked of it for so long.
    Trouble {
        pool: String,
        reason: String,
        for_ms: u64,
    },
    /// `replies` none: the proposal's fate is unknown.
    Proposed {
        id: u64,
        replies: Option<Replies>,
    },
    /// Nothing of the proposal is in the log, and nothing of it will be.
    Refused {
        id: u64,
    },
    Stop,
}

/// Sends to the leader thread.
#[derive(Clone)]
pub struct LeaderHandle {
    sender: mpsc::Sender<ToLeader>,
    lines: Arc<AtomicU64>,
    telemetries: Telemetries,
    signals: Signals,
    counters: Counters,
}

impl LeaderHandle {
    /// The handle, and the end that [`spawn`] takes.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<ToLeader>) {
        let (sender, receiver) = mpsc::channel();
        let lines = Arc::new(AtomicU64::new(1));
        let (telemetries, signals) = (Telemetries::default(), Signals::default());
        let counters = Counters::default();
        (Self { sender, lines, telemetries, signals, counters }, receiver)
    }

    /// What workers measured last, while this member leads.
    #[must_use]
    pub fn telemetries(&self) -> &Telemetries {
        &self.telemetries
    }

    /// What the cluster asks for, while this member leads.
    #[must_use]
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    /// What is counted while this member leads.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Never blocks; after the thread ended nobody listens.
    pub fn send(&self, message: ToLeader) {
        let _ = self.sender.send(message);
    }

    /// Opens a line for the sessions of one member; none when this member does not lead. The receiver ends when it does not any more.
    pub async fn line(&self) -> Option<(Line, async_mpsc::UnboundedReceiver<ToSession>)> {
        let (down, downs) = async_mpsc::unbounded_channel();
        let (taken, answer) = oneshot::channel();
        let line = self.lines.fetch_add(1, Ordering::Relaxed);
        self.send(ToLeader::LineOpened { line, down, taken });
        let line = Line { leader: self.clone(), line };
        answer.await.is_ok().then_some((line, downs))
    }
}

/// Many sessions' way to the leader thread. All of them close when this is dropped.
pub struct Line {
    leader: LeaderHandle,
    line: u64,
}

impl Line {
    /// What sessions said, in order, each under the number that the caller gave it.
    pub fn up(&self, mut ups: Vec<(u64, Up)>) {
        ups.retain_mut(|(_, up)| {
            let Up::Telemetry(worker, telemetry) = up else { return true };
            let worker = *worker;
            let computing = self.leader.telemetries.record(worker, std::mem::take(&mut **telemetry));
            let Some(looked) = computing else { return false };
            *up = Up::Computing(worker, looked);
            true
        });
        if !ups.is_empty() {
            self.leader.send(ToLeader::Up { line: self.line, ups });
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.leader.send(ToLeader::LineClosed { line: self.line });
    }
}

/// What the leader thread can do to the world.
pub trait Hands: Send + 'static {
    /// Proposes in this term and no other; the answer comes back as [`ToLeader::Proposed`] or [`ToLeader::Refused`].
    fn propose(&self, term: u64, id: u64, commands: Vec<Command>);
    /// Confirms with a quorum that the leadership of this term lasts; the answer comes back as [`ToLeader::Confirmed`].
    fn confirm(&self, term: u64, batch: u64);
}

/// Starts the thread. It ends at [`ToLeader::Stop`] or when all handles are gone.
///
/// # Errors
/// The operating system's, when no thread can be made.
pub fn spawn(
    receiver: mpsc::Receiver<ToLeader>,
    hands: impl Hands,
    health: XidPolicy,
    idle: Option<IdlePolicy>,
    sides: Sides,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("leader".into()).spawn(move || {
        let _vital = Vital("the leader's thread");
        Thread::new(hands, Leader::with_health(health).with_idle(idle), sides).run(&receiver);
    })
}

/// Whom the leader tells besides the log and the workers.
pub struct Sides {
    /// What the cluster asks for, to whoever serves it.
    pub signals: Signals,
    /// Orders, to providers.
    pub drives: Drives,
    pub counters: Counters,
}

struct Thread<H> {
    leader: Leader,
    hands: H,
    /// The term that it leads.
    elected: Option<u64>,
    lines: Lines,
    sides: Sides,
}

impl<H: Hands> Thread<H> {
    fn new(hands: H, leader: Leader, sides: Sides) -> Self {
        Self { leader, hands, elected: None, lines: Lines::default(), sides }
    }

    fn run(mut self, receiver: &mpsc::Receiver<ToLeader>) {
        loop {
            // 1. Wait: for ever while another member leads.
            let first = if self.elected.is_some() {
                match receiver.recv_timeout(if self.lines.is_idle() { SLOW_TICK } else { TICK }) {
                    Ok(message) => Some(message),
                    Err(mpsc::RecvTimeoutError::Timeout) => None,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            } else {
                match receiver.recv() {
                    Ok(message) => Some(message),
                    Err(_) => return,
                }
            };
            // 2. Take all that waits.
            let mut next = first;
            let mut taken = 0;
            while let Some(message) = next {
                if matches!(message, ToLeader::Stop) {
                    return;
                }
                taken += self.take(message);
                next = if taken < BURST { receiver.try_recv().ok() } else { None };
            }
            // 3. Let it decide.
            if self.elected.is_some() {
                self.step(Input::Tick);
            }
        }
    }

    /// Takes one message in; returns how many inputs it was. Each is received when the clock is read for it, not when its burst began:
    /// a burst of ten thousand workers takes a while, and their leases count from the receipt.
    fn take(&mut self, message: ToLeader) -> usize {
        let input = match message {
            ToLeader::Elected { term, state } => {
                self.elected = Some(term);
                self.lines.clear();
                Input::Elected { term, state }
            }
            ToLeader::Deposed => {
                self.elected = None;
                // What it asked for is no signal any more: whoever asks is told by the next leader.
                self.sides.signals.clear();
                // The ends of the lines send their sessions to the next leader.
                self.lines.clear();
                Input::Deposed
            }
            // Not leading: a line that comes too late ends with its dropped channel, and the rest is old.
            _ if self.elected.is_none() => return 1,
            ToLeader::Delta(delta) => Input::Delta(delta),
            ToLeader::LineOpened { line, down, taken } => {
                self.lines.open(line, down);
                let _ = taken.send(());
                return 1;
            }
            ToLeader::LineClosed { line } => {
                let sessions = self.lines.close(line);
                let count = sessions.len();
                sessions.into_iter().for_each(|session| self.step(Input::SessionClosed { session }));
                return count;
            }
            ToLeader::Up { line, ups } => {
                let count = ups.len();
                for (number, up) in ups {
                    if let Some(input) = self.lines.input(line, number, up) {
                        self.step(input);
                    }
                }
                return count;
            }
            ToLeader::Confirmed { batch, ok } => Input::Confirmed { batch, ok },
            ToLeader::Drill { worker, event } => Input::Drill { worker, event },
            ToLeader::Fleet(fleet) => Input::Fleet(fleet),
            ToLeader::Group { pool, report } => Input::Group { pool, report },
            ToLeader::Unseen { pool } => Input::Unseen { pool },
            ToLeader::Trouble { pool, reason, for_ms } => Input::Trouble { pool, reason, for_ms },
            ToLeader::Proposed { id, replies } => Input::Proposed { id, replies },
            ToLeader::Refused { id } => Input::Refused { id },
            ToLeader::Stop => return 1,
        };
        self.step(input);
        1
    }

    fn step(&mut self, input: Input) {
        let from = Instant::now();
        let outputs = self.leader.step(boot_ms(), input);
        if outputs.iter().any(places) {
            self.sides.counters.planned(from.elapsed());
        }
        for output in outputs {
            match output {
                Output::Propose { id, commands } => {
                    commands.iter().for_each(say_faults);
                    // Only a leader proposes; without a term there would be nothing to bind it to.
                    if let Some(term) = self.elected {
                        self.hands.propose(term, id, commands);
                    }
                }
                Output::Confirm { batch } => {
                    if let Some(term) = self.elected {
                        self.hands.confirm(term, batch);
                    }
                }
                Output::Close { session } => self.lines.end(session),
                Output::Signals(signals) => self.sides.signals.publish(signals_doc(&signals)),
                Output::Drive { pool, generation, order } => {
                    self.sides.drives.order(&pool, order, generation)
                }
                Output::Instruct { session, instructions } => self.lines.tell(session, pack(&instructions)),
            }
        }
    }
}

/// Whether a cycle of the scheduler ended in this.
fn places(output: &Output) -> bool {
    let plans = |command: &Command| matches!(command, Command::ApplyPlan { .. });
    matches!(output, Output::Propose { commands, .. } if commands.iter().any(plans))
}

/// Somebody has to mend it.
fn say_faults(command: &Command) {
    let Command::DeviceEvents { worker, events, .. } = command else { return };
    for judged in events.iter().filter(|judged| matches!(judged.verdict, Verdict::Quarantine { .. })) {
        let (device, reason) = (&judged.event.uuid, &judged.text);
        tracing::warn!(worker = worker.0, device, reason, "a device goes out of service");
    }
}

/// Which session is which: the core counts them, each line has numbers of its own.
#[derive(Default)]
struct Lines {
    lines: BTreeMap<u64, OpenLine>,
    sessions: BTreeMap<SessionId, (u64, u64)>,
    last: u64,
}

struct OpenLine {
    down: async_mpsc::UnboundedSender<ToSession>,
    sessions: BTreeMap<u64, SessionId>,
}

impl Lines {
    fn is_idle(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Ends all lines. Numbers of sessions are not used again.
    fn clear(&mut self) {
        *self = Self { last: self.last, ..Self::default() };
    }

    fn open(&mut self, line: u64, down: async_mpsc::UnboundedSender<ToSession>) {
        self.lines.insert(line, OpenLine { down, sessions: BTreeMap::new() });
    }

    fn close(&mut self, line: u64) -> Vec<SessionId> {
        let sessions: Vec<SessionId> =
            self.lines.remove(&line).into_iter().flat_map(|line| line.sessions.into_values()).collect();
        for session in &sessions {
            self.sessions.remove(session);
        }
        sessions
    }

    /// What the core hears of it; nothing of a session that is over.
    fn input(&mut self, line: u64, number: u64, up: Up) -> Option<Input> {
        let open = self.lines.get_mut(&line)?;
        if let Up::Opened { worker, incarnation, held } = up {
            self.last += 1;
            let session = SessionId(self.last);
            open.sessions.insert(number, session);
            self.sessions.insert(session, (line, number));
            return Some(Input::SessionOpened { session, worker, incarnation, held });
        }
        let session = *open.sessions.get(&number)?;
        match up {
            Up::Heartbeat { seq, held } => Some(Input::Heartbeat { session, seq, held }),
            Up::Reports(reports) => Some(Input::Reports { session, reports }),
            Up::DeviceEvents(events) => Some(Input::DeviceEvents { session, events }),
            Up::Computing(worker, Looked { computing, empty }) => {
                Some(Input::Measured { worker, computing, empty })
            }
            Up::Notice(notice) => Some(Input::Notice { session, notice }),
            Up::Closed => {
                open.sessions.remove(&number);
                self.sessions.remove(&session);
                Some(Input::SessionClosed { session })
            }
            Up::Opened { .. } | Up::Telemetry(..) => None,
        }
    }

    fn tell(&self, session: SessionId, down: Down) {
        self.send(session, Some(down));
    }

    fn end(&mut self, session: SessionId) {
        self.send(session, None);
        if let Some((line, number)) = self.sessions.remove(&session)
            && let Some(line) = self.lines.get_mut(&line)
        {
            line.sessions.remove(&number);
        }
    }

    fn send(&self, session: SessionId, down: Option<Down>) {
        if let Some((line, number)) = self.sessions.get(&session)
            && let Some(line) = self.lines.get(line)
        {
            let _ = line.down.send(ToSession { session: *number, down });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(worker: u64) -> Up {
        Up::Opened { worker: WorkerId(worker), incarnation: Incarnation::default(), held: Vec::new() }
    }

    fn session_of(input: Option<Input>) -> Option<SessionId> {
        match input? {
            Input::SessionOpened { session, .. }
            | Input::SessionClosed { session }
            | Input::Heartbeat { session, .. }
            | Input::Reports { session, .. } => Some(session),
            _ => None,
        }
    }

    #[test]
    fn two_lines_use_the_same_number_for_different_sessions() {
        let mut lines = Lines::default();
        let (down, mut one) = async_mpsc::unbounded_channel();
        lines.open(1, down);
        let (down, mut two) = async_mpsc::unbounded_channel();
        lines.open(2, down);
        let first = session_of(lines.input(1, 7, opened(1))).expect("opened");
        let second = session_of(lines.input(2, 7, opened(2))).expect("opened");
        assert_ne!(first, second);

        let beat = || Up::Heartbeat { seq: 1, held: Vec::new() };
        assert_eq!(session_of(lines.input(2, 7, beat())), Some(second));
        assert_eq!(session_of(lines.input(2, 8, beat())), None);
        lines.tell(first, Bytes::from_static(b"x"));
        assert_eq!(one.try_recv(), Ok(ToSession { session: 7, down: Some(Bytes::from_static(b"x")) }));
        assert!(two.try_recv().is_err());

        // One that the leader ended says nothing more; the end of a line is the end of what it still has.
        lines.end(first);
        assert_eq!(one.try_recv(), Ok(ToSession { session: 7, down: None }));
        assert_eq!(session_of(lines.input(1, 7, beat())), None);
        assert_eq!(lines.close(1), []);
        assert_eq!(lines.close(2), [second]);
        assert!(lines.is_idle());
    }
}
