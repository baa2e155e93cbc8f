//! The one way into the log on this member: what waits while proposals are in flight goes into the next entry together.

use crate::clock::TermClock;
use crate::machine::CoreMachine;
use crate::raft::{Node, ProposeError};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use muster_core::command::{Batch, Command, Placement, Report, ReportKind};
use muster_core::reply::Replies;
use muster_failpoint::{Point, pass};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Commands of one entry together, bytes: below the 4 MiB of an entry.
pub const BATCH_BYTES_MAX: usize = 3_584 << 10;
/// Entries in flight. More would only make them smaller.
const IN_FLIGHT: usize = 4;

/// Hears the outcome of one proposal.
type Done = Box<dyn FnOnce(Result<Replies, ProposeError>) + Send>;

struct Waiting {
    commands: Vec<Command>,
    bytes: usize,
    done: Done,
}

/// Proposes on this member. Cheap to clone.
#[derive(Clone)]
pub struct Proposer {
    queue: mpsc::UnboundedSender<Waiting>,
}

/// About how many bytes the commands take in an entry.
#[must_use]
pub fn weight(commands: &[Command]) -> usize {
    commands
        .iter()
        .map(|command| match command {
            Command::SubmitPart { bytes, .. } => bytes.len() + 256,
            Command::Submit { spec, .. } => spec.0.len() + 256,
            Command::ApplyPlan { placements } => 64 + placements.iter().map(placement).sum::<usize>(),
            Command::Reports { reports, .. } => 128 + reports.iter().map(report).sum::<usize>(),
            Command::Register { held, spec, .. } => 1024 + held.len() * 10 + spec.devices.len() * 128,
            Command::Stop { tokens, .. } => 64 + tokens.len() * 10,
            _ => 512,
        })
        .sum()
}

fn placement(placement: &Placement) -> usize {
    32 + placement.seats.iter().map(|seat| 16 + 16 * seat.devices.len()).sum::<usize>()
}

fn report(report: &Report) -> usize {
    match &report.kind {
        ReportKind::Ended { artifacts, .. } => {
            160 + artifacts.iter().map(|artifact| 64 + artifact.name.len()).sum::<usize>()
        }
        ReportKind::Running => 64,
    }
}

impl Proposer {
    /// Starts the queue of `node`; it ends with the last clone of the handle.
    #[must_use]
    pub fn start(node: Node<CoreMachine>, clock: Arc<TermClock>) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        tokio::spawn(serve(node, clock, waiting));
        Self { queue }
    }

    /// Puts commands into the queue; `done` hears the outcome. Never blocks, keeps the order.
    pub fn enqueue(
        &self,
        commands: Vec<Command>,
        done: impl FnOnce(Result<Replies, ProposeError>) + Send + 'static,
    ) {
        let bytes = weight(&commands);
        if let Err(mpsc::error::SendError(lost)) =
            self.queue.send(Waiting { commands, bytes, done: Box::new(done) })
        {
            (lost.done)(Err(stopped()));
        }
    }

    /// Proposes and waits for the replies, in the order of the commands.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Replies, ProposeError> {
        let (sender, receiver) = oneshot::channel();
        self.enqueue(commands, move |outcome| {
            let _ = sender.send(outcome);
        });
        receiver.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> ProposeError {
    ProposeError::Fatal { reason: "shutting down".to_owned() }
}

async fn serve(
    node: Node<CoreMachine>,
    clock: Arc<TermClock>,
    mut waiting: mpsc::UnboundedReceiver<Waiting>,
) {
    let mut in_flight = FuturesUnordered::new();
    // What did not fit into the last entry.
    let mut left: Option<Waiting> = None;
    loop {
        let room = in_flight.len() < IN_FLIGHT;
        let first = match left.take() {
            Some(first) if room => first,
            kept => {
                left = kept;
                tokio::select! {
                    biased;
                    Some(()) = in_flight.next() => continue,
                    next = waiting.recv(), if room && left.is_none() => match next {
                        Some(first) => first,
                        None => break,
                    },
                }
            }
        };
        let mut bytes = first.bytes;
        let mut group = vec![first];
        while let Ok(next) = waiting.try_recv() {
            if bytes + next.bytes > BATCH_BYTES_MAX {
                left = Some(next);
                break;
            }
            bytes += next.bytes;
            group.push(next);
        }
        let stamp = clock.stamp();
        in_flight.push(propose(node.clone(), stamp, group));
    }
    while in_flight.next().await.is_some() {}
}

async fn propose(node: Node<CoreMachine>, stamp: muster_core::model::time::Stamp, group: Vec<Waiting>) {
    let mut commands = Vec::with_capacity(group.iter().map(|waiting| waiting.commands.len()).sum());
    let mut callers = Vec::with_capacity(group.len());
    for waiting in group {
        callers.push((waiting.commands.len(), waiting.done));
        commands.extend(waiting.commands);
    }
    pass(Point::ProposeBefore);
    match node.propose(&Batch { stamp, commands }).await {
        Ok(replies) => {
            pass(Point::ProposeCommitted);
            let mut replies = replies.into_iter();
            for (count, done) in callers {
                done(Ok(replies.by_ref().take(count).collect()));
            }
        }
        Err(error) => {
            for (_, done) in callers {
                done(Err(again(&error)));
            }
        }
    }
}

/// The same error for each of several callers.
fn again(error: &ProposeError) -> ProposeError {
    match error {
        ProposeError::NotLeader { leader } => ProposeError::NotLeader { leader: leader.clone() },
        ProposeError::Unknown { leader } => ProposeError::Unknown { leader: leader.clone() },
        ProposeError::TooLarge { bytes, limit } => ProposeError::TooLarge { bytes: *bytes, limit: *limit },
        ProposeError::Encode(error) => ProposeError::Encode(error.clone()),
        ProposeError::Fatal { reason } => ProposeError::Fatal { reason: reason.clone() },
    }
}
