//! The one way into the log on this member: what waits while proposals are in flight goes into the next entry together.

use crate::clock::TermClock;
use crate::machine::CoreMachine;
use crate::metrics::Counters;
use crate::raft::{Node, ProposeError};
use crate::vital::Vital;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use muster_core::command::{Batch, Command, Placement, Report, ReportKind};
use muster_core::model::attempt::Outcome;
use muster_core::model::device_event::Judged;
use muster_core::model::time::Stamp;
use muster_core::reply::Replies;
use muster_failpoint::{Point, pass};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
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
    /// The term in which a leader decided this, if one did.
    term: Option<u64>,
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
            Command::DeviceEvents { events, .. } => {
                let event = |judged: &Judged| {
                    96 + judged.text.len() + judged.event.detail.len() + judged.event.uuid.len()
                };
                128 + events.iter().map(event).sum::<usize>()
            }
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
        ReportKind::Ended { outcome, artifacts, .. } => {
            let said = match outcome {
                Outcome::Launch(text) | Outcome::ContractOutput(text) => text.len(),
                Outcome::BadCheckpoint { reason, .. } => reason.len(),
                _ => 0,
            };
            160 + said + artifacts.iter().map(|artifact| 64 + artifact.name.len()).sum::<usize>()
        }
        ReportKind::Running => 64,
        ReportKind::Saved(_) => 160,
    }
}

impl Proposer {
    /// Starts the queue of `node`; it ends with the last clone of the handle.
    #[must_use]
    pub fn start(node: Node<CoreMachine>, clock: Arc<TermClock>, counters: Counters) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        tokio::spawn(serve(node, clock, counters, waiting));
        Self { queue }
    }

    /// Puts commands into the queue; `done` hears the outcome. Never blocks, keeps the order.
    ///
    /// With a `term` it is a leader's decision of that term, and refused in any other: while it waited here, this member may have lost the
    /// leadership and won it again, and what was true then (a worker is silent, its devices are free) may be false now.
    pub fn enqueue(
        &self,
        term: Option<u64>,
        commands: Vec<Command>,
        done: impl FnOnce(Result<Replies, ProposeError>) + Send + 'static,
    ) {
        let bytes = weight(&commands);
        if let Err(mpsc::error::SendError(lost)) =
            self.queue.send(Waiting { commands, bytes, term, done: Box::new(done) })
        {
            (lost.done)(Err(stopped()));
        }
    }

    /// Proposes and waits for the replies, in the order of the commands.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Replies, ProposeError> {
        self.propose_in(None, commands).await
    }

    /// The same, in this term only.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn propose_in(
        &self,
        term: Option<u64>,
        commands: Vec<Command>,
    ) -> Result<Replies, ProposeError> {
        let (sender, receiver) = oneshot::channel();
        self.enqueue(term, commands, move |outcome| {
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
    counters: Counters,
    mut waiting: mpsc::UnboundedReceiver<Waiting>,
) {
    let _vital = Vital("the way into the log");
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
        let mut term = first.term;
        let mut group = vec![first];
        while let Ok(next) = waiting.try_recv() {
            let other_term = term.is_some() && next.term.is_some() && term != next.term;
            if other_term || bytes + next.bytes > BATCH_BYTES_MAX {
                left = Some(next);
                break;
            }
            bytes += next.bytes;
            term = term.or(next.term);
            group.push(next);
        }
        let stamp = clock.stamp();
        in_flight.push(propose(node.clone(), counters.clone(), stamp, group));
    }
    while in_flight.next().await.is_some() {}
}

/// One entry for all of the group, and what `settle` gives back in further ones.
async fn propose(node: Node<CoreMachine>, counters: Counters, stamp: Stamp, group: Vec<Waiting>) {
    let mut groups = VecDeque::from([group]);
    while let Some(group) = groups.pop_front() {
        let term = group.iter().find_map(|waiting| waiting.term);
        let mut commands = Vec::with_capacity(group.iter().map(|waiting| waiting.commands.len()).sum());
        for waiting in &group {
            commands.extend_from_slice(&waiting.commands);
        }
        pass(Point::ProposeBefore);
        let from = Instant::now();
        let outcome = node.propose_in(term, &Batch { stamp, commands }).await;
        if outcome.is_ok() {
            counters.committed(from.elapsed());
            pass(Point::ProposeCommitted);
        }
        groups.extend(settle(term, group, outcome));
    }
}

/// Tells each what became of it. Gives back, in groups, what may be proposed again: those that the end of another's term does not concern,
/// and one by one those that were too large only together.
fn settle(
    term: Option<u64>,
    group: Vec<Waiting>,
    outcome: Result<Replies, ProposeError>,
) -> Vec<Vec<Waiting>> {
    match outcome {
        Ok(replies) => {
            let mut replies = replies.into_iter();
            for waiting in group {
                (waiting.done)(Ok(replies.by_ref().take(waiting.commands.len()).collect()));
            }
            Vec::new()
        }
        Err(ProposeError::TooLarge { .. }) if group.len() > 1 => {
            group.into_iter().map(|waiting| vec![waiting]).collect()
        }
        Err(error) => {
            let over = term.is_some() && matches!(error, ProposeError::NotLeader { .. });
            let (free, bound): (Vec<_>, Vec<_>) =
                group.into_iter().partition(|waiting| over && waiting.term.is_none());
            bound.into_iter().for_each(|waiting| (waiting.done)(Err(again(&error))));
            if free.is_empty() { Vec::new() } else { vec![free] }
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

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::reply::Reply;

    fn waiting(term: Option<u64>, commands: usize) -> (Waiting, oneshot::Receiver<Option<Replies>>) {
        let (sender, receiver) = oneshot::channel();
        let done = move |outcome: Result<Replies, ProposeError>| drop(sender.send(outcome.ok()));
        let commands = vec![Command::Restored; commands];
        (Waiting { commands, bytes: 0, term, done: Box::new(done) }, receiver)
    }

    /// A submission that travelled with a decision of a term that is over is no worse for it.
    #[test]
    fn a_term_that_is_over_refuses_what_was_decided_in_it_and_nothing_else() {
        let (bound, mut refused) = waiting(Some(4), 1);
        let (free, mut open) = waiting(None, 1);
        let mut left = settle(Some(4), vec![bound, free], Err(ProposeError::NotLeader { leader: None }));
        assert_eq!(refused.try_recv(), Ok(None));
        let left = left.pop().expect("a group");
        assert_eq!((left.len(), left[0].term), (1, None));
        assert!(open.try_recv().is_err(), "nobody has told it anything");

        // Without a term it is told like everybody.
        let left = settle(None, left, Err(ProposeError::NotLeader { leader: None }));
        assert_eq!((left.len(), open.try_recv()), (0, Ok(None)));
    }

    /// Nobody is refused for what another one brought along.
    #[test]
    fn what_is_too_large_together_goes_one_by_one() {
        let ((one, mut first), (two, _second)) = (waiting(Some(4), 1), waiting(None, 1));
        let too_large = || Err(ProposeError::TooLarge { bytes: 2, limit: 1 });
        let mut left = settle(Some(4), vec![one, two], too_large());
        assert_eq!(left.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
        assert!(first.try_recv().is_err(), "nobody has told it anything");
        assert_eq!(settle(Some(4), left.remove(0), too_large()).len(), 0);
        assert_eq!(first.try_recv(), Ok(None));
    }

    #[test]
    fn each_hears_the_replies_to_its_own_commands() {
        let ((one, mut first), (two, mut second)) = (waiting(Some(4), 1), waiting(None, 2));
        let replies = vec![Reply::Done, Reply::Changed { indices: 1 }, Reply::Changed { indices: 2 }];
        assert_eq!(settle(Some(4), vec![one, two], Ok(replies.clone())).len(), 0);
        assert_eq!(first.try_recv(), Ok(Some(replies[..1].to_vec())));
        assert_eq!(second.try_recv(), Ok(Some(replies[1..].to_vec())));
    }
}
