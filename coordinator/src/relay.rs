//! A line between a follower's sessions and its leader, on the wire: one stream, and what waits travels in one message.

use crate::api::ApiError;
use crate::leader::{LeaderHandle, ToSession, Up};
use crate::leadership::Leadership;
use crate::peers::Peers;
use muster_proto::convert::{pack, unpack};
use muster_proto::member::{RelayDown, RelayUp, SessionDown, SessionUp};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

/// A message is cut when it has this many bytes: thousands of heartbeats fit, and it stays far below the largest that is decoded.
const PART_BYTES: usize = 1 << 20;
/// Of what waits for a follower, so much is taken at once.
const BATCH: usize = 4096;
/// A member that the follower takes for the leader is ready to lead within this time, or is not.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// And it says so within this time, or is asked again.
const TAKEN_WITHIN: Duration = Duration::from_secs(6);

/// The follower's end.
pub struct Relay {
    ups: mpsc::UnboundedSender<RelayUp>,
    downs: Streaming<RelayDown>,
}

impl Relay {
    /// Calls the member at `address`, and waits until it has taken the line.
    ///
    /// # Errors
    /// It does not answer, or does not lead.
    pub async fn open(peers: &Peers, address: &str) -> Result<Self, Status> {
        let mut peer = peers.at(address).map_err(|error| Status::unavailable(error.to_string()))?;
        let (ups, outgoing) = mpsc::unbounded_channel();
        let taken = async {
            let mut downs = peer.relay(UnboundedReceiverStream::new(outgoing)).await?.into_inner();
            match downs.message().await? {
                Some(_) => Ok(downs),
                None => Err(Status::unavailable("it does not lead")),
            }
        };
        match tokio::time::timeout(TAKEN_WITHIN, taken).await {
            Ok(downs) => Ok(Self { ups, downs: downs? }),
            Err(_) => Err(Status::deadline_exceeded("it does not answer")),
        }
    }

    /// What sessions said; into a line that just ended it is lost.
    pub fn up(&self, ups: Vec<(u64, Up)>) {
        let messages = ups.into_iter().map(|(session, up)| SessionUp { session, message: pack(&up) });
        for sessions in parts(messages, |up| up.message.len()) {
            let _ = self.ups.send(RelayUp { sessions });
        }
    }

    /// What comes down; false when the line ended.
    pub async fn down(&mut self, into: &mut Vec<ToSession>) -> bool {
        match self.downs.message().await {
            Ok(Some(message)) => {
                into.extend(message.sessions.into_iter().map(|down| ToSession {
                    session: down.session,
                    down: (!down.close).then_some(down.instructions),
                }));
                true
            }
            Ok(None) => false,
            Err(status) => {
                tracing::debug!(reason = status.message(), "the line to the leader ended");
                false
            }
        }
    }
}

/// The leader's end: serves one follower until either side ends.
///
/// # Errors
/// This member does not lead, or not any more; a message that can't be read.
pub async fn serve(
    leader: &LeaderHandle,
    mut leadership: watch::Receiver<Leadership>,
    mut ups: Streaming<RelayUp>,
    send: &mpsc::UnboundedSender<Result<RelayDown, Status>>,
) -> Result<(), Status> {
    let ready = tokio::time::timeout(READY_WITHIN, leadership.wait_for(|known| known.is_ready));
    let is_ready = matches!(ready.await, Ok(Ok(_)));
    if !is_ready {
        return Err(Status::unavailable("this member does not lead"));
    }
    let Some((line, mut downs)) = leader.line().await else {
        return Err(Status::unavailable("this member does not lead"));
    };
    // The first message, and an empty one: the line is taken.
    let _ = send.send(Ok(RelayDown::default()));
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            message = ups.message() => match message? {
                Some(message) => {
                    let read = |up: SessionUp| Ok((up.session, unpack::<Up>(&up.message)?));
                    let said: Result<Vec<_>, _> = message.sessions.into_iter().map(read).collect();
                    line.up(said.map_err(ApiError::Bytes)?);
                }
                None => return Ok(()),
            },
            count = downs.recv_many(&mut waiting, BATCH) => {
                if count == 0 {
                    return Err(Status::unavailable("this member does not lead any more"));
                }
                let messages = waiting.drain(..).map(|to: ToSession| SessionDown {
                    session: to.session,
                    close: to.down.is_none(),
                    instructions: to.down.unwrap_or_default(),
                });
                for sessions in parts(messages, |down| down.instructions.len()) {
                    if send.send(Ok(RelayDown { sessions })).is_err() {
                        return Ok(());
                    }
                }
            }
            () = send.closed() => return Ok(()),
        }
    }
}

/// Cuts what goes into messages where they have [`PART_BYTES`], in order.
fn parts<T>(items: impl Iterator<Item = T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for item in items {
        // A number and two lengths come with each.
        let more = size(&item) + 16;
        if bytes + more > PART_BYTES && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += more;
        part.push(item);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_in_order_and_a_large_one_travels_alone() {
        let half = PART_BYTES / 2;
        let cut = |sizes: &[usize]| parts(sizes.iter().copied(), |size| *size);
        assert_eq!(cut(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(cut(&[1, 2, 3]), [vec![1, 2, 3]]);
        assert_eq!(cut(&[half, half, 1]), [vec![half], vec![half, 1]]);
        assert_eq!(cut(&[1, 3 * PART_BYTES, 2]), [vec![1], vec![3 * PART_BYTES], vec![2]]);
    }
}
