//! One stream to any member: find one that answers, register, send and receive. No decisions.

use muster_core::model::lease::{
    FAILOVER_P99_MS, RECONNECT_P99_MS, RENEW_MS, TERM_BEFORE_MS, WORKER_LEASE_MS,
};
use muster_proto::channel::{Bearer, ChannelError, Tls, dial};
use muster_proto::worker::worker_api_client::WorkerApiClient;
use muster_proto::worker::worker_message::Kind as Up;
use muster_proto::worker::{
    MemberMessage, Register, Registered, WorkerMessage, member_message::Kind as Down,
};
use rand::Rng;
use rand::seq::SliceRandom;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc::{Sender, UnboundedSender, channel, unbounded_channel};
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::Streaming;
use tonic::transport::Channel;

/// A member that has no leader holds a registration back; after this long another one is asked.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(3);
/// Log pieces on their way; a reader who is slow holds only its own stream up.
const LOGS_QUEUED: usize = 64;
/// After a whole round through the members failed: short at first, because an election takes a second.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(2);
/// When a member dies, its workers turn to the others all at once; each comes at its own moment within this time. It is part of what a
/// reconnect may take of a lease.
const SPREAD: Duration = Duration::from_secs(1);
/// A session without an acknowledged heartbeat for this long leads to a member that has lost its leader: another one is asked. A renewal
/// and an election fit in.
pub const UNHEARD: Duration = Duration::from_millis(RENEW_MS + FAILOVER_P99_MS);
// The lease lasts over it, a reconnect, and what the shim needs.
const _: () = assert!(
    RENEW_MS + FAILOVER_P99_MS + RECONNECT_P99_MS < WORKER_LEASE_MS - TERM_BEFORE_MS
        && SPREAD.as_millis() < RECONNECT_P99_MS as u128
);
/// After a refusal, which only somebody's hand can mend.
const RETRY_REFUSED: Duration = Duration::from_secs(5);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("{0}")]
    Status(#[from] Box<tonic::Status>),
    #[error("the member refused the worker: {0}")]
    Refused(String),
    #[error("the member did not answer the registration in 3 s")]
    Silent,
    #[error("the member ended the session")]
    Ended,
}

impl SessionError {
    fn needs_a_hand(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Status(status) => {
                matches!(
                    status.code(),
                    tonic::Code::Unauthenticated | tonic::Code::PermissionDenied | tonic::Code::Unimplemented
                )
            }
            Self::Channel(_) | Self::Silent | Self::Ended => false,
        }
    }
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    pub member: String,
    pub registered: Registered,
    pub outbox: Outbox,
    pub incoming: Streaming<MemberMessage>,
}

/// The sending end. Control messages never wait behind log pieces.
#[derive(Debug, Clone)]
pub struct Outbox {
    control: UnboundedSender<WorkerMessage>,
    pub logs: Sender<WorkerMessage>,
}

impl Outbox {
    /// Sends; into a session that just ended it is lost, like anything on the way.
    pub fn send(&self, message: Up) {
        let _ = self.control.send(WorkerMessage { kind: Some(message) });
    }
}

/// Opens a session with `member`, over a connection of its own.
///
/// # Errors
/// Nobody answers there, or it refuses.
pub async fn open(
    member: String,
    token: String,
    tls: Option<Tls>,
    register: Register,
) -> Result<Session, SessionError> {
    let connection = dial(&member, tls.as_ref()).await?;
    open_over(connection, member, &token, register).await
}

/// Opens a session with `member` over a connection that is there.
///
/// # Errors
/// It refuses, or does not answer.
pub async fn open_over(
    connection: Channel,
    member: String,
    token: &str,
    register: Register,
) -> Result<Session, SessionError> {
    let mut client = WorkerApiClient::with_interceptor(connection, Bearer::new(token));
    let (control, control_queue) = unbounded_channel();
    let (logs, log_queue) = channel::<WorkerMessage>(LOGS_QUEUED);
    let outbox = Outbox { control, logs };
    // Queued before the call: the member may answer the call only after it has seen it.
    outbox.send(Up::Register(register));
    let control_first = |_: &mut ()| futures::stream::PollNext::Left;
    let outgoing = futures::stream::select_with_strategy(
        UnboundedReceiverStream::new(control_queue),
        ReceiverStream::new(log_queue),
        control_first,
    );
    let registration = async {
        let mut incoming = client.session(outgoing).await.map_err(Box::new)?.into_inner();
        match incoming.message().await.map_err(Box::new)?.and_then(|m| m.kind) {
            Some(Down::Registered(registered)) => Ok((registered, incoming)),
            Some(Down::Refused(refused)) => Err(SessionError::Refused(refused.reason)),
            _ => Err(SessionError::Ended),
        }
    };
    let (registered, incoming) =
        tokio::time::timeout(REGISTER_TIMEOUT, registration).await.map_err(|_| SessionError::Silent)??;
    Ok(Session { member, registered, outbox, incoming })
}

/// Whom to ask next, and when.
#[derive(Debug)]
pub struct Members {
    all: BTreeSet<String>,
    round: Vec<String>,
    pause: Duration,
}

impl Members {
    pub fn new(all: impl IntoIterator<Item = String>) -> Self {
        Self {
            all: all.into_iter().filter(|m| !m.is_empty()).collect(),
            round: Vec::new(),
            pause: RETRY_FIRST,
        }
    }

    /// The members that the coordinator named; those of the configuration stay.
    pub fn learn(&mut self, members: &[String]) {
        self.all.extend(members.iter().filter(|m| !m.is_empty()).cloned());
    }

    /// The next member of this round, in random order.
    pub fn pick(&mut self) -> String {
        if self.round.is_empty() {
            self.round = self.all.iter().cloned().collect();
            self.round.shuffle(&mut rand::rng());
        }
        self.round.pop().unwrap_or_default()
    }

    /// A session with `member` is open: the next loss begins with the others, at once.
    pub fn opened(&mut self, member: &str) {
        self.pause = RETRY_FIRST;
        self.round = self.all.iter().filter(|m| *m != member).cloned().collect();
        self.round.shuffle(&mut rand::rng());
        self.round.insert(0, member.to_owned());
    }

    /// How long to wait after a session was lost: a stream that broke broke for others too. One that fell silent did so at its own time.
    #[must_use]
    pub fn lost(&self, error: &SessionError) -> Duration {
        match error {
            SessionError::Silent => Duration::ZERO,
            _ => SPREAD.mul_f64(rand::rng().random_range(0.0..1.0)),
        }
    }

    /// How long to wait after this failure: hardly at all while there are members left in the round.
    pub fn failed(&mut self, error: &SessionError) -> Duration {
        if !self.round.is_empty() {
            return match error {
                // It is overloaded or gone, and its other workers find that out at the same moment.
                SessionError::Silent | SessionError::Channel(_) => {
                    (SPREAD / 4).mul_f64(rand::rng().random_range(0.0..1.0))
                }
                _ => Duration::ZERO,
            };
        }
        let pause = if error.needs_a_hand() { RETRY_REFUSED } else { self.pause };
        self.pause = (self.pause * 2).min(RETRY_LAST);
        pause.mul_f64(rand::rng().random_range(0.5..1.5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_session_goes_to_the_others_first_and_only_a_full_round_waits() {
        let mut members = Members::new(["a:1", "b:1", "c:1"].map(str::to_owned));
        members.opened("b:1");
        let order: Vec<String> = (0..3).map(|_| members.pick()).collect();
        assert_eq!(order[2], "b:1");
        assert!(members.failed(&SessionError::Ended) > Duration::ZERO);
        members.pick();
        assert_eq!(members.failed(&SessionError::Ended), Duration::ZERO);
    }

    #[test]
    fn pauses_grow_to_a_bound_and_a_session_resets_them() {
        let mut members = Members::new(["a:1".to_owned()]);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            members.pick();
            pauses.push(members.failed(&SessionError::Silent));
        }
        assert!(pauses[0] <= RETRY_FIRST.mul_f64(1.5) && pauses[19] >= RETRY_LAST.mul_f64(0.5), "{pauses:?}");
        assert!(pauses.iter().all(|p| *p <= RETRY_LAST.mul_f64(1.5)));
        members.opened("a:1");
        members.pick();
        assert!(members.failed(&SessionError::Ended) <= RETRY_FIRST.mul_f64(1.5));
    }

    #[test]
    fn sessions_that_broke_together_come_back_apart() {
        let members = Members::new(["a:1".to_owned()]);
        let pauses: Vec<Duration> = (0..100).map(|_| members.lost(&SessionError::Ended)).collect();
        let (least, most) = (pauses.iter().min().expect("some"), pauses.iter().max().expect("some"));
        assert!(*most <= SPREAD && *most - *least > SPREAD / 2, "{least:?} to {most:?}");
        assert_eq!(members.lost(&SessionError::Silent), Duration::ZERO);
    }
}
