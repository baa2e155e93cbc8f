//! The leader thread: everything that concerns the leader's decisions reaches it through one channel, in order. It runs
//! [`muster_core::leader::Leader`] and carries out what that asks for. Left out: every decision.

use crate::clock::boot_ms;
use bytes::Bytes;
use muster_core::command::{Command, Report};
use muster_core::leader::{Input, Leader, Output, SessionId};
use muster_core::model::ids::{Token, WorkerId};
use muster_core::model::worker::Incarnation;
use muster_core::reply::Replies;
use muster_core::state::Delta;
use muster_proto::convert::pack;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::mpsc as async_mpsc;

/// While anything is due soon the core is asked this often.
const TICK: Duration = Duration::from_millis(100);
/// Otherwise this often, for retention and other slow timers.
const SLOW_TICK: Duration = Duration::from_secs(1);
/// Inputs taken in one go before the core is asked what to do.
const BURST: usize = 4096;

/// What a worker's session says, local or relayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Up {
    Heartbeat { seq: u64, held: Vec<Token> },
    Reports(Vec<Report>),
}

/// What a session is told; packed `Vec<Instruction>`. The end of the channel ends the session.
pub type Down = Bytes;

/// What reaches the leader thread.
pub enum ToLeader {
    Elected {
        term: u64,
        state: Box<Delta>,
    },
    Deposed,
    Delta(Box<Delta>),
    Opened {
        session: SessionId,
        worker: WorkerId,
        incarnation: Incarnation,
        held: Vec<Token>,
        down: async_mpsc::UnboundedSender<Down>,
    },
    Closed {
        session: SessionId,
    },
    Up {
        session: SessionId,
        up: Up,
    },
    Confirmed {
        batch: u64,
        ok: bool,
    },
    /// `replies` none: the proposal's fate is unknown.
    Proposed {
        id: u64,
        replies: Option<Replies>,
    },
    Stop,
}

/// Sends to the leader thread.
#[derive(Clone)]
pub struct LeaderHandle {
    sender: mpsc::Sender<ToLeader>,
    sessions: Arc<AtomicU64>,
}

impl LeaderHandle {
    /// The handle, and the end that [`spawn`] takes.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<ToLeader>) {
        let (sender, receiver) = mpsc::channel();
        (Self { sender, sessions: Arc::new(AtomicU64::new(1)) }, receiver)
    }

    /// Never blocks; after the thread ended nobody listens.
    pub fn send(&self, message: ToLeader) {
        let _ = self.sender.send(message);
    }

    /// Opens a session whose Register was applied. When this member does not lead, `down` ends at once.
    #[must_use]
    pub fn open(
        &self,
        worker: WorkerId,
        incarnation: Incarnation,
        held: Vec<Token>,
        down: async_mpsc::UnboundedSender<Down>,
    ) -> OpenSession {
        let session = SessionId(self.sessions.fetch_add(1, Ordering::Relaxed));
        self.send(ToLeader::Opened { session, worker, incarnation, held, down });
        OpenSession { leader: self.clone(), session }
    }
}

/// A session that is closed when this is dropped.
pub struct OpenSession {
    leader: LeaderHandle,
    session: SessionId,
}

impl OpenSession {
    /// What the worker said.
    pub fn up(&self, up: Up) {
        self.leader.send(ToLeader::Up { session: self.session, up });
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.leader.send(ToLeader::Closed { session: self.session });
    }
}

/// What the leader thread can do to the world.
pub trait Hands: Send + 'static {
    /// Proposes; the answer comes back as [`ToLeader::Proposed`].
    fn propose(&self, id: u64, commands: Vec<Command>);
    /// Confirms the leadership with a quorum; the answer comes back as [`ToLeader::Confirmed`].
    fn confirm(&self, batch: u64);
}

/// Starts the thread. It ends at [`ToLeader::Stop`] or when all handles are gone.
///
/// # Errors
/// The operating system's, when no thread can be made.
pub fn spawn(
    receiver: mpsc::Receiver<ToLeader>,
    hands: impl Hands,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("leader".into()).spawn(move || Thread::new(hands).run(&receiver))
}

struct Thread<H> {
    leader: Leader,
    hands: H,
    elected: bool,
    downs: BTreeMap<SessionId, async_mpsc::UnboundedSender<Down>>,
}

impl<H: Hands> Thread<H> {
    fn new(hands: H) -> Self {
        Self { leader: Leader::new(), hands, elected: false, downs: BTreeMap::new() }
    }

    fn run(mut self, receiver: &mpsc::Receiver<ToLeader>) {
        loop {
            // 1. Wait: for ever while another member leads.
            let first = if self.elected {
                match receiver.recv_timeout(if self.downs.is_empty() { SLOW_TICK } else { TICK }) {
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
            let now = boot_ms();
            let mut next = first;
            let mut taken = 0;
            while let Some(message) = next {
                if matches!(message, ToLeader::Stop) {
                    return;
                }
                self.take(now, message);
                taken += 1;
                next = if taken < BURST { receiver.try_recv().ok() } else { None };
            }
            // 3. Let it decide.
            if self.elected {
                let outputs = self.leader.step(now, Input::Tick);
                self.perform(outputs);
            }
        }
    }

    fn take(&mut self, now: u64, message: ToLeader) {
        let input = match message {
            ToLeader::Elected { term, state } => {
                self.elected = true;
                self.downs.clear();
                Input::Elected { term, state }
            }
            ToLeader::Deposed => {
                self.elected = false;
                // The ends of the channels end the sessions: workers register with the next leader.
                self.downs.clear();
                Input::Deposed
            }
            // Not leading: a session that comes too late ends with its dropped channel, and the rest is old.
            _ if !self.elected => return,
            ToLeader::Delta(delta) => Input::Delta(delta),
            ToLeader::Opened { session, worker, incarnation, held, down } => {
                self.downs.insert(session, down);
                Input::SessionOpened { session, worker, incarnation, held }
            }
            ToLeader::Closed { session } => {
                self.downs.remove(&session);
                Input::SessionClosed { session }
            }
            ToLeader::Up { session, .. } if !self.downs.contains_key(&session) => return,
            ToLeader::Up { session, up: Up::Heartbeat { seq, held } } => {
                Input::Heartbeat { session, seq, held }
            }
            ToLeader::Up { session, up: Up::Reports(reports) } => Input::Reports { session, reports },
            ToLeader::Confirmed { batch, ok } => Input::Confirmed { batch, ok },
            ToLeader::Proposed { id, replies } => Input::Proposed { id, replies },
            ToLeader::Stop => return,
        };
        let outputs = self.leader.step(now, input);
        self.perform(outputs);
    }

    fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Propose { id, commands } => self.hands.propose(id, commands),
                Output::Confirm { batch } => self.hands.confirm(batch),
                // The end of its channel ends the session.
                Output::Close { session } => drop(self.downs.remove(&session)),
                Output::Instruct { session, instructions } => {
                    if let Some(down) = self.downs.get(&session) {
                        let _ = down.send(pack(&instructions));
                    }
                }
            }
        }
    }
}
