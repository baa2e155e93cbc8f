//! The worker sessions of this member, on their way to whoever leads: one line for all of them, in this process or over the relay.
//!
//! A session outlives leaders. When the next one is known, a new line opens there for every session that is still connected here, so
//! a failover costs the workers of the other members nothing: no connection, no Register, no entry in the log. What was on the old
//! line is lost, and nobody remembers it: the last heartbeat is said again here, reports are repeated by their workers until the log
//! has them, and the rest comes of comparing the state with what a worker holds.
//!
//! Left out: who leads ([`crate::leadership`]), what a worker is told ([`crate::leader`]).

use crate::api::Forward;
use crate::leader::{Down, LeaderHandle, Line, ToSession, Up};
use crate::leadership::Leadership;
use crate::relay::Relay;
use crate::sessions::ToWorker;
use muster_core::model::ids::{Token, WorkerId};
use muster_core::model::lease::RENEW_MS;
use muster_core::model::worker::Incarnation;
use muster_proto::worker::{Instructions, MemberMessage, member_message};
use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Messages of sessions taken in one go: what waits travels together.
const BATCH: usize = 4096;
/// A leader that takes no line is asked again after this long; another leader at once.
const RETRY: Duration = Duration::from_millis(50);
/// A heartbeat older than this is not said again to the next leader: a worker that lives has sent a newer one.
const BEAT_IS_FRESH: Duration = Duration::from_millis(2 * RENEW_MS);

/// The way up for sessions. Cheap to clone.
#[derive(Clone)]
pub struct Uplink {
    inbox: mpsc::UnboundedSender<(u64, Said)>,
    next: Arc<AtomicU64>,
}

enum Said {
    Opened(Session),
    Up(Up),
    Closed,
}

/// A session as this member knows it.
struct Session {
    worker: WorkerId,
    incarnation: Incarnation,
    /// What the worker held when it spoke last.
    held: Vec<Token>,
    beat: Option<(u64, Instant)>,
    send: ToWorker,
    over: CancellationToken,
    /// The term of the leader that had it on a line last.
    term: Option<u64>,
}

/// A session that is linked to the leaders until this is dropped.
pub struct Linked {
    inbox: mpsc::UnboundedSender<(u64, Said)>,
    number: u64,
    /// Cancelled when a leader ended it: the worker has to register again.
    pub over: CancellationToken,
}

impl Linked {
    /// What the worker said.
    pub fn up(&self, up: Up) {
        let _ = self.inbox.send((self.number, Said::Up(up)));
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        let _ = self.inbox.send((self.number, Said::Closed));
    }
}

impl Uplink {
    /// Starts the task that carries them. It ends with the last clone and the last session.
    #[must_use]
    pub fn start(forward: Forward, leader: LeaderHandle) -> Self {
        let (inbox, said) = mpsc::unbounded_channel();
        let leadership = forward.leadership();
        tokio::spawn(Carrier { forward, leader, leadership, said, table: Table::default() }.run());
        Self { inbox, next: Arc::new(AtomicU64::new(1)) }
    }

    /// Links a session whose worker is registered; what it is told goes to `send`.
    #[must_use]
    pub fn link(
        &self,
        worker: WorkerId,
        incarnation: Incarnation,
        held: Vec<Token>,
        send: ToWorker,
    ) -> Linked {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let over = CancellationToken::new();
        let session = Session { worker, incarnation, held, beat: None, send, over: over.clone(), term: None };
        let _ = self.inbox.send((number, Said::Opened(session)));
        Linked { inbox: self.inbox.clone(), number, over }
    }
}

struct Carrier {
    forward: Forward,
    leader: LeaderHandle,
    leadership: watch::Receiver<Leadership>,
    said: mpsc::UnboundedReceiver<(u64, Said)>,
    table: Table,
}

impl Carrier {
    async fn run(mut self) {
        loop {
            // 1. A leader that takes the line. What is said meanwhile is remembered as far as it is said again.
            let known = self.leadership.borrow_and_update().clone();
            let route = tokio::select! {
                route = Route::open(&self.forward, &self.leader, &known) => route,
                () = self.table.absorb(&mut self.said) => return,
                changed = self.leadership.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            // 2. All sessions, new to it.
            let Some(mut route) = route else { continue };
            route.up(self.table.everything(known.term));
            // 3. Both ways, until the line ends or another member leads.
            if !self.carry(&known, &mut route).await {
                return;
            }
            self.table.term = None;
        }
    }

    /// False: nobody is left to carry for.
    async fn carry(&mut self, known: &Leadership, route: &mut Route) -> bool {
        let (mut said, mut downs) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                count = self.said.recv_many(&mut said, BATCH) => {
                    if count == 0 {
                        return false;
                    }
                    route.up(said.drain(..).filter_map(|(number, said)| self.table.take(number, said)).collect());
                }
                open = route.down(&mut downs) => {
                    self.table.deliver(downs.drain(..));
                    if !open {
                        return true;
                    }
                }
                changed = self.leadership.changed() => {
                    let now = self.leadership.borrow_and_update();
                    if changed.is_err() {
                        return false;
                    }
                    if now.term != known.term || now.leader != known.leader {
                        return true;
                    }
                }
            }
        }
    }
}

/// Where the line ends.
enum Route {
    Here { line: Line, downs: mpsc::UnboundedReceiver<ToSession> },
    There(Relay),
}

impl Route {
    /// Waits while no leader is known, or this member is not ready to lead. None: it did not take the line.
    async fn open(forward: &Forward, leader: &LeaderHandle, known: &Leadership) -> Option<Self> {
        let Some((id, address)) = &known.leader else { return pending().await };
        if *id == forward.member() {
            if !known.is_ready {
                return pending().await;
            }
            let Some((line, downs)) = leader.line().await else {
                tokio::time::sleep(RETRY).await;
                return None;
            };
            return Some(Self::Here { line, downs });
        }
        match Relay::open(forward.peers(), address).await {
            Ok(relay) => Some(Self::There(relay)),
            Err(status) => {
                tracing::debug!(leader = address, reason = status.message(), "it takes no line yet");
                tokio::time::sleep(RETRY).await;
                None
            }
        }
    }

    fn up(&self, ups: Vec<(u64, Up)>) {
        match self {
            Self::Here { line, .. } => line.up(ups),
            Self::There(relay) => relay.up(ups),
        }
    }

    /// What comes down; false when the line ended.
    async fn down(&mut self, into: &mut Vec<ToSession>) -> bool {
        match self {
            Self::Here { downs, .. } => downs.recv_many(into, BATCH).await > 0,
            Self::There(relay) => relay.down(into).await,
        }
    }
}

/// The sessions of this member.
#[derive(Default)]
struct Table {
    sessions: HashMap<u64, Session>,
    /// While there is a line: the term of the leader that it leads to.
    term: Option<u64>,
}

impl Table {
    /// Takes in what is said; returns what of it goes up.
    fn take(&mut self, number: u64, said: Said) -> Option<(u64, Up)> {
        let up = match said {
            Said::Opened(mut session) => {
                session.term = self.term;
                let up = session.opened();
                self.sessions.insert(number, session);
                up
            }
            Said::Closed => {
                self.sessions.remove(&number)?;
                Up::Closed
            }
            Said::Up(up) => {
                let session = self.sessions.get_mut(&number)?;
                if let Up::Heartbeat { seq, held } = &up {
                    session.beat = Some((*seq, Instant::now()));
                    session.held.clone_from(held);
                }
                up
            }
        };
        Some((number, up))
    }

    /// Takes in what is said while nobody leads. Ends when nobody is left to say anything.
    async fn absorb(&mut self, said: &mut mpsc::UnboundedReceiver<(u64, Said)>) {
        while let Some((number, said)) = said.recv().await {
            self.take(number, said);
        }
    }

    /// Every session, and its last heartbeat, for a new line to the leader of `term`. A heartbeat says only what was true when it was
    /// sent, so it is safe to say it late. A worker says everything anew to a new term; to a leader that it has spoken to already it
    /// would not, and what was on the line that broke is lost: such a session ends, and its worker opens another.
    fn everything(&mut self, term: u64) -> Vec<(u64, Up)> {
        self.term = Some(term);
        self.sessions.retain(|_, session| {
            let is_new = session.term.replace(term) != Some(term);
            if !is_new {
                session.over.cancel();
            }
            is_new
        });
        let mut ups = Vec::with_capacity(2 * self.sessions.len());
        for (number, session) in &self.sessions {
            ups.push((*number, session.opened()));
            if let Some((seq, _)) = session.beat.filter(|(_, at)| at.elapsed() < BEAT_IS_FRESH) {
                ups.push((*number, Up::Heartbeat { seq, held: session.held.clone() }));
            }
        }
        ups
    }

    fn deliver(&mut self, downs: impl Iterator<Item = ToSession>) {
        for ToSession { session: number, down } in downs {
            let Some(session) = self.sessions.get(&number) else { continue };
            match down {
                // A session whose stream ended says so itself.
                Some(instructions) => drop(session.send.send(Ok(instructed(instructions)))),
                None => {
                    session.over.cancel();
                    self.sessions.remove(&number);
                }
            }
        }
    }
}

impl Drop for Table {
    /// This member stops: its sessions end with it, whatever becomes of their connections.
    fn drop(&mut self) {
        self.sessions.values().for_each(|session| session.over.cancel());
    }
}

impl Session {
    fn opened(&self) -> Up {
        Up::Opened { worker: self.worker, incarnation: self.incarnation.clone(), held: self.held.clone() }
    }
}

fn instructed(instructions: Down) -> MemberMessage {
    MemberMessage { kind: Some(member_message::Kind::Instructions(Instructions { instructions })) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn session(send: ToWorker) -> Session {
        let over = CancellationToken::new();
        Session {
            worker: WorkerId(3),
            incarnation: Incarnation("a".to_owned()),
            held: Vec::new(),
            beat: None,
            send,
            over,
            term: None,
        }
    }

    fn opened(held: &[u64]) -> Up {
        let held = held.iter().copied().map(Token).collect();
        Up::Opened { worker: WorkerId(3), incarnation: Incarnation("a".to_owned()), held }
    }

    fn beat(seq: u64, held: &[u64]) -> Up {
        Up::Heartbeat { seq, held: held.iter().copied().map(Token).collect() }
    }

    #[test]
    fn the_next_leader_hears_of_each_session_what_it_said_last() {
        let (send, mut told) = mpsc::unbounded_channel();
        let mut table = Table::default();
        assert_eq!(table.take(7, Said::Opened(session(send))), Some((7, opened(&[]))));
        assert_eq!(table.everything(1), [(7, opened(&[]))]);
        table.take(7, Said::Up(beat(1, &[5])));
        table.take(7, Said::Up(beat(2, &[5, 6])));
        table.take(7, Said::Up(Up::Reports(Vec::new())));
        assert_eq!(table.everything(2), [(7, opened(&[5, 6])), (7, beat(2, &[5, 6]))]);

        table.deliver([ToSession { session: 7, down: Some(Bytes::from_static(b"x")) }].into_iter());
        let message = told.try_recv().expect("told").expect("no error");
        assert_eq!(message, instructed(Bytes::from_static(b"x")));
        assert_eq!(table.take(7, Said::Closed), Some((7, Up::Closed)));
        assert_eq!(table.everything(3), []);
        assert_eq!(table.take(7, Said::Up(beat(3, &[]))), None);
    }

    #[test]
    fn a_line_that_broke_to_a_leader_that_leads_on_ends_the_sessions_that_were_on_it() {
        let mut table = Table::default();
        let (one, two) = (session(mpsc::unbounded_channel().0), session(mpsc::unbounded_channel().0));
        let (first, second) = (one.over.clone(), two.over.clone());
        table.everything(4);
        table.take(1, Said::Opened(one));
        table.term = None;
        table.take(2, Said::Opened(two));
        assert_eq!(table.everything(4), [(2, opened(&[]))]);
        assert!(first.is_cancelled() && !second.is_cancelled());
        assert_eq!(table.everything(5), [(2, opened(&[]))]);
    }

    #[test]
    fn a_session_that_a_leader_ended_is_over_and_says_nothing_more() {
        let (send, _told) = mpsc::unbounded_channel();
        let mut table = Table::default();
        let session = session(send);
        let over = session.over.clone();
        table.take(7, Said::Opened(session));
        table.deliver([ToSession { session: 7, down: None }].into_iter());
        assert!(over.is_cancelled());
        assert_eq!(table.take(7, Said::Closed), None);
    }
}
