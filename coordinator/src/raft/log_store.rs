//! The Raft log and the vote on a [`Disk`]: appended in one write, chained by hash, checked when read, synced in groups.
//!
//! Recent entries are also kept in memory (bounded), as replication and apply read them right after they were written.

mod tail;

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, StreamExt, stream};
use muster_failpoint::{Point, hit};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{AsyncRuntime, OptionalSend, RaftLogReader};
use parking_lot::Mutex;

use self::tail::{COMMITTED, PURGED, Tail, VOTE, put_meta, read_meta, read_tail, weight};
use super::machine::Answer;
use super::record::{self, Hash, NO_HASH};
use super::sync::{Syncer, Wake};
use super::types::{Entry, LogId, Types, Vote, ballot, promise};
use crate::storage::{Ballot, Change, Disk, Mark, Promise, StorageError, Table};

/// Bytes of entries handed out at once to replication: well below the limit of a message, whatever one entry weighs.
const READ_BYTES: usize = 1 << 20;
/// Entries read at once while applying.
const APPLY_ENTRIES: u64 = 256;

struct Inner<A: Answer, R: AsyncRuntime, D> {
    disk: Arc<D>,
    tail: Mutex<Tail>,
    /// The term of the vote, read without the lock: that is held while the disk writes.
    term: AtomicU64,
    syncer: Arc<Syncer<Types<A, R>, D>>,
    wake: Option<Wake>,
    /// Makes the state durable; called before entries that it has applied are purged.
    sync_state: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
    runtime: PhantomData<fn() -> R>,
}

/// The log. Clones are readers of the same log.
pub struct LogStore<A: Answer, R: AsyncRuntime, D>(Arc<Inner<A, R, D>>);

impl<A: Answer, R: AsyncRuntime, D> Clone for LogStore<A, R, D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// How a log is opened.
pub struct Open<D> {
    /// The log's store.
    pub disk: Arc<D>,
    /// The promised mark.
    pub mark: Arc<dyn Mark>,
    /// Makes the state durable.
    pub sync_state: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
    /// Wakes the runner of sync rounds; none with the thread of [`super::sync::spawn`].
    pub wake: Option<Wake>,
}

impl<A: Answer, R: AsyncRuntime, D: Disk> LogStore<A, R, D> {
    /// Opens the log and verifies every entry and the chain. `path` is for messages.
    ///
    /// # Errors
    /// A disk that cannot be read, a damaged entry, a hole.
    pub fn open(open: Open<D>, path: &Path) -> Result<Self, StorageError> {
        let tail = read_tail(&*open.disk, path)?;
        let syncer = Arc::new(Syncer::new(open.disk.clone(), open.mark));
        Ok(Self(Arc::new(Inner {
            disk: open.disk,
            term: AtomicU64::new(tail.vote.as_ref().map_or(0, |vote| ballot(vote).term)),
            tail: Mutex::new(tail),
            syncer,
            wake: open.wake,
            sync_state: open.sync_state,
            runtime: PhantomData,
        })))
    }

    /// The queue before the disk, to run its rounds.
    #[must_use]
    pub fn syncer(&self) -> Arc<Syncer<Types<A, R>, D>> {
        self.0.syncer.clone()
    }

    /// The store below it.
    #[must_use]
    pub fn disk(&self) -> Arc<D> {
        self.0.disk.clone()
    }

    /// The end of the log.
    #[must_use]
    pub fn last(&self) -> Option<Promise> {
        self.0.tail.lock().last.as_ref().map(promise)
    }

    /// The first index that is in the log, or that comes next in one without entries. Only for a log that was just opened.
    #[must_use]
    pub fn begins(&self) -> u64 {
        self.0.tail.lock().begins
    }

    /// Whether entries were ever removed from the beginning: then a state cannot be made from the log alone.
    #[must_use]
    pub fn is_purged(&self) -> bool {
        let tail = self.0.tail.lock();
        tail.purged.is_some() || tail.begins > 0
    }

    /// The vote as it is stored.
    #[must_use]
    pub fn vote(&self) -> Option<Ballot> {
        self.0.tail.lock().vote.as_ref().map(ballot)
    }

    /// The greatest term that this member has voted in or followed. Known here before anybody hears of the vote.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.0.term.load(Ordering::SeqCst)
    }

    fn queue(&self, callback: IOFlushed<Types<A, R>>, promise: Option<Promise>, vote: Option<Ballot>) {
        self.0.syncer.push(callback, promise, vote);
        if let Some(wake) = &self.0.wake {
            wake();
        }
    }

    /// Entries from `start` (inclusive) to `end` (exclusive), at least one if there is any, up to about `bytes`.
    fn read(&self, start: u64, end: u64, bytes: usize) -> io::Result<Vec<Entry>> {
        if start >= end {
            return Ok(Vec::new());
        }
        let mut taken = 0;
        {
            let tail = self.0.tail.lock();
            if let Some(first) = tail.recent.front().map(|entry| entry.log_id.index)
                && start >= first
            {
                let skip = usize::try_from(start - first).unwrap_or(usize::MAX);
                let count = usize::try_from(end - start).unwrap_or(usize::MAX);
                return Ok(tail
                    .recent
                    .iter()
                    .skip(skip)
                    .take(count)
                    .take_while(|entry| {
                        let more = taken < bytes;
                        taken += weight(entry);
                        more
                    })
                    .cloned()
                    .collect());
            }
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut before: Option<Hash> = None;
        let mut damage = None;
        self.0.disk.scan(Table::Data, &record::key(start), Some(&record::key(end)), &mut |key, value| {
            if taken >= bytes {
                return false;
            }
            let index = record::index_of(key).unwrap_or_default();
            match record::decode(index, value) {
                Ok(read) if before.is_none_or(|before| before == read.before) => {
                    before = Some(read.hash);
                    taken += weight(&read.entry);
                    entries.push(read.entry);
                    true
                }
                Ok(_) => {
                    damage = Some(format!("log entry {index} does not follow the one before it"));
                    false
                }
                Err(reason) => {
                    damage = Some(format!("log entry {index} is not readable: {reason}"));
                    false
                }
            }
        })?;
        match damage {
            Some(damage) => Err(io::Error::new(io::ErrorKind::InvalidData, damage)),
            None => Ok(entries),
        }
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl<A: Answer, R: AsyncRuntime, D: Disk> RaftLogReader<Types<A, R>> for LogStore<A, R, D> {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        self.read(start, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let log = self.clone();
        stream::unfold(Some(start), move |next| {
            let log = log.clone();
            async move {
                let next = next?;
                match log.read(next, end.min(next.saturating_add(APPLY_ENTRIES)), READ_BYTES) {
                    // Applying on behind a hole would make this member differ from the others without a word.
                    Ok(entries) if entries.first().is_some_and(|entry| entry.log_id.index != next) => {
                        let hole = format!("log entry {next} is missing, and later ones are there");
                        Some((vec![Err(io::Error::new(io::ErrorKind::InvalidData, hole))], None))
                    }
                    Ok(entries) => {
                        let after = entries.last()?.log_id.index + 1;
                        Some((entries.into_iter().map(Ok).collect::<Vec<_>>(), Some(after)))
                    }
                    Err(error) => Some((vec![Err(error)], None)),
                }
            }
        })
        .map(stream::iter)
        .flatten()
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.tail.lock().vote)
    }
}

impl<A: Answer, R: AsyncRuntime, D: Disk> RaftLogStorage<Types<A, R>> for LogStore<A, R, D> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types<A, R>>, io::Error> {
        let tail = self.0.tail.lock();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        hit(Point::VoteBefore)?;
        self.0.disk.write(vec![put_meta(VOTE, vote)?])?;
        hit(Point::VoteWritten)?;
        let (sender, receiver) = Types::<A, R>::oneshot();
        self.queue(IOFlushed::signal(sender), None, Some(ballot(vote)));
        match receiver.await {
            Ok(result) => result?,
            Err(_) => return Err(io::Error::other("the log's sync thread is gone")),
        }
        self.0.tail.lock().vote = Some(*vote);
        self.0.term.fetch_max(ballot(vote).term, Ordering::SeqCst);
        hit(Point::VoteSaved)
    }

    /// Rides with the next append: it only shortens what is applied again after a restart.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.0.tail.lock().committed = committed;
        hit(Point::CommittedSave)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.0.tail.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types<A, R>>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        hit(Point::AppendBefore)?;
        let promised = {
            let mut tail = self.0.tail.lock();
            let mut changes = Vec::new();
            let mut hash = tail.hash;
            let entries: Vec<Entry> = entries.into_iter().collect();
            for entry in &entries {
                let (record, next) = record::encode(entry, &hash).map_err(io::Error::other)?;
                changes.push(Change::Put(Table::Data, record::key(entry.log_id.index), record));
                hash = next;
            }
            if tail.committed != tail.committed_stored {
                changes.push(put_meta(COMMITTED, &tail.committed)?);
            }
            self.0.disk.write(changes)?;
            tail.committed_stored = tail.committed;
            tail.hash = hash;
            for entry in entries {
                tail.last = Some(entry.log_id);
                tail.remember(entry);
            }
            tail.last.as_ref().map(promise)
        };
        self.queue(callback, promised, None);
        hit(Point::AppendAfter)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        if self.0.tail.lock().last <= last {
            return Ok(());
        }
        hit(Point::TruncateBefore)?;
        self.0.syncer.lower(last.as_ref().map(promise).unwrap_or_default())?;
        hit(Point::TruncateMarkLowered)?;
        let mut tail = self.0.tail.lock();
        let next = last.as_ref().map_or(0, |last| last.index + 1);
        self.0.disk.write(vec![Change::DeleteRange(Table::Data, record::key(next), vec![0xff; 9])])?;
        tail.forget();
        tail.last = last;
        let kept = match &last {
            Some(last) => {
                self.0.disk.get(Table::Data, &record::key(last.index))?.map(|bytes| (last.index, bytes))
            }
            None => None,
        };
        tail.hash = match kept {
            Some((index, bytes)) => {
                record::decode(index, &bytes)
                    .map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))?
                    .hash
            }
            None => read_meta::<(LogId, Hash)>(&*self.0.disk, PURGED)?.map_or(NO_HASH, |(_, hash)| hash),
        };
        hit(Point::TruncateAfter)
    }

    async fn purge(&mut self, through: LogId) -> Result<(), io::Error> {
        hit(Point::PurgeBefore)?;
        (self.0.sync_state)()?;
        hit(Point::PurgeStateSynced)?;
        let is_beyond = |tail: &Tail| tail.last.as_ref().is_none_or(|last| last.index <= through.index);
        // What stands in for the log, a snapshot, may end in an earlier term than an entry that never was committed and was promised.
        if is_beyond(&self.0.tail.lock()) {
            self.0.syncer.lower(promise(&through))?;
        }
        let mut tail = self.0.tail.lock();
        let beyond = is_beyond(&tail);
        let hash = if tail.last == Some(through) {
            tail.hash
        } else {
            match self.0.disk.get(Table::Data, &record::key(through.index))? {
                Some(bytes) if !beyond => {
                    record::decode(through.index, &bytes)
                        .map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))?
                        .hash
                }
                _ => NO_HASH,
            }
        };
        self.0.disk.write(vec![
            Change::DeleteRange(Table::Data, record::key(0), record::key(through.index + 1)),
            put_meta(PURGED, &(through, hash))?,
        ])?;
        tail.purged = Some(through);
        if beyond {
            tail.last = Some(through);
            tail.hash = hash;
            tail.forget();
        }
        while tail.recent.front().is_some_and(|entry| entry.log_id.index <= through.index) {
            if let Some(entry) = tail.recent.pop_front() {
                tail.recent_bytes -= weight(&entry);
            }
        }
        hit(Point::PurgeAfter)
    }
}
