//! Tells the leader how this member is: whether its disk has room. Left out: what the leader makes of it ([`crate::room`]).

use crate::leadership::Leadership;
use crate::peers::Peers;
use crate::room::Room;
use muster_proto::member::ReportRequest;
use std::time::Duration;
use tokio::sync::watch;

/// How often. A leader that has heard nothing for 10 s counts a disk as not full.
const EVERY: Duration = Duration::from_secs(1);
/// An answer is waited for this long.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Reports until the member ends.
pub async fn run(member: u64, room: Room, peers: Peers, leadership: watch::Receiver<Leadership>) {
    let mut said = false;
    while leadership.has_changed().is_ok() {
        tokio::time::sleep(EVERY).await;
        let leader = leadership.borrow().leader.clone();
        let full = room.is_full();
        // Silence is as good as "there is room".
        let Some((_, address)) = leader.filter(|(id, _)| *id != member && (full || said)) else { continue };
        let Ok(mut peer) = peers.at(&address) else { continue };
        let call = peer.report(ReportRequest { member, disk_full: full });
        if matches!(tokio::time::timeout(ANSWER_WITHIN, call).await, Ok(Ok(_))) {
            said = full;
        }
    }
}
