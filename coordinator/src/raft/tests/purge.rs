//! What is promised once a snapshot stands in for the log.

use std::path::Path;
use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;

use crate::raft::log_store::{LogStore, Open};
use crate::raft::types::{Blob, Entry, LogId, Tokio, Types};
use crate::storage::memory::{MemoryDisk, MemoryMark};
use crate::storage::{Mark, Promise};

type C = Types<Vec<u64>, Tokio>;
type Log = LogStore<Vec<u64>, Tokio, MemoryDisk>;

fn id(term: u64, index: u64) -> LogId {
    let leader = openraft::impls::leader_id_std::LeaderId { term, voted_for: 2 };
    LogId::new(openraft::vote::RaftLeaderId::to_committed(&leader), index)
}

fn open(disk: &Arc<MemoryDisk>, mark: &Arc<MemoryMark>) -> Log {
    let (disk, mark) = (disk.clone(), mark.clone());
    let open = Open { disk, mark, sync_state: Box::new(|| Ok(())), wake: None };
    Log::open(open, Path::new("log")).expect("the log opens")
}

/// Appends an entry a place, and has it promised.
async fn append(log: &mut Log, ids: &[LogId]) {
    let (sender, receiver) = C::oneshot();
    let entries: Vec<Entry> = ids.iter().map(|id| Entry::new_normal(*id, Blob::default())).collect();
    log.append(entries, IOFlushed::signal(sender)).await.expect("append");
    assert_eq!(log.syncer().round(), 1);
    receiver.await.expect("answered").expect("durable");
}

/// A member promised entries of a leader that was deposed, and nobody else has them; then a snapshot of the others replaces its log. The
/// snapshot ends in an earlier term, at a later place. A mark that stayed would be above all that the member has: it would refuse to
/// start for ever, for a loss that is none.
#[tokio::test]
async fn a_purge_beyond_the_log_lowers_the_mark_to_what_stands_in_for_it() {
    let (disk, mark) = (Arc::default(), Arc::default());
    let mut log = open(&disk, &mark);
    let ids: Vec<LogId> = (0..8).map(|index| id(3, index)).chain((8..10).map(|index| id(5, index))).collect();
    append(&mut log, &ids).await;
    assert_eq!(mark.get().entry, Some(Promise { term: 5, index: 9 }));

    log.purge(id(4, 20)).await.expect("purge");

    let end = Some(Promise { term: 4, index: 20 });
    assert_eq!((mark.get().entry, log.last()), (end, end));
    // So it is after a restart, and the log goes on from there.
    let mut log = open(&disk, &mark);
    assert_eq!((mark.get().entry, log.last()), (end, end));
    append(&mut log, &[id(6, 21)]).await;
    assert_eq!(mark.get().entry, Some(Promise { term: 6, index: 21 }));
}

/// What is purged below the end of the log takes no promise back.
#[tokio::test]
async fn a_purge_within_the_log_leaves_the_mark() {
    let (disk, mark) = (Arc::default(), Arc::default());
    let mut log = open(&disk, &mark);
    append(&mut log, &(0..10).map(|index| id(3, index)).collect::<Vec<_>>()).await;
    log.purge(id(3, 6)).await.expect("purge");
    let end = Some(Promise { term: 3, index: 9 });
    assert_eq!((mark.get().entry, log.last()), (end, end));
}
