//! Group commit: writes queue here, one round syncs the log and then the promised mark, and acknowledges all of them.
//!
//! The order is what matters: an entry is in the write-ahead log before it queues, the log is synced before the mark moves past
//! it, the mark is synced before the acknowledgement. Votes queue with the entries and so are never reordered with them.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use muster_failpoint::{Point, hit};
use openraft::RaftTypeConfig;
use openraft::storage::IOFlushed;
use parking_lot::{Condvar, Mutex};

use crate::storage::{Ballot, Disk, Mark, Promise, Promised};

/// Wakes whoever runs the rounds: a thread in production, a task in the deterministic tests.
pub type Wake = Box<dyn Fn() + Send + Sync>;

struct Waiting<C: RaftTypeConfig> {
    callback: IOFlushed<C>,
    promise: Option<Promise>,
    vote: Option<Ballot>,
}

struct Queue<C: RaftTypeConfig> {
    waiting: Vec<Waiting<C>>,
    /// What the first failure said. Nothing is acknowledged after it.
    failed: Option<String>,
    stopped: bool,
}

/// The queue before the disk.
pub struct Syncer<C: RaftTypeConfig, D> {
    queue: Mutex<Queue<C>>,
    arrived: Condvar,
    /// Held for the length of a round, so that lowering the mark cannot fall into the middle of one.
    round: Mutex<()>,
    disk: Arc<D>,
    mark: Arc<dyn Mark>,
}

impl<C: RaftTypeConfig, D: Disk> Syncer<C, D> {
    /// A queue before `disk` and `mark`; somebody must run its rounds.
    pub fn new(disk: Arc<D>, mark: Arc<dyn Mark>) -> Self {
        Self {
            queue: Mutex::new(Queue { waiting: Vec::new(), failed: None, stopped: false }),
            arrived: Condvar::new(),
            round: Mutex::new(()),
            disk,
            mark,
        }
    }

    /// Queues the acknowledgement of what was just written. With a promise or a vote the mark moves to it.
    pub fn push(&self, callback: IOFlushed<C>, promise: Option<Promise>, vote: Option<Ballot>) {
        self.queue.lock().waiting.push(Waiting { callback, promise, vote });
        self.arrived.notify_one();
    }

    /// Syncs and acknowledges all that waits. Returns how many writes that were.
    pub fn round(&self) -> usize {
        let _round = self.round.lock();
        let (waiting, failed) = {
            let mut queue = self.queue.lock();
            (std::mem::take(&mut queue.waiting), queue.failed.clone())
        };
        if waiting.is_empty() {
            return 0;
        }
        let result = match failed {
            Some(reason) => Err(reason),
            None => self.make_durable(&waiting).map_err(|error| error.to_string()),
        };
        if let Err(reason) = &result {
            self.queue.lock().failed.get_or_insert_with(|| reason.clone());
        }
        let count = waiting.len();
        for write in waiting {
            write.callback.io_completed(result.clone().map_err(io::Error::other));
        }
        count
    }

    /// The newest promise, not the greatest: a log that was truncated goes on at a lower index.
    fn make_durable(&self, waiting: &[Waiting<C>]) -> io::Result<()> {
        self.disk.sync()?;
        let known = self.mark.get();
        let promised = Promised {
            entry: waiting.iter().rev().find_map(|write| write.promise).or(known.entry),
            vote: waiting.iter().rev().find_map(|write| write.vote).or(known.vote),
        };
        if promised != known {
            self.mark.set(promised)?;
        }
        hit(Point::LogAcknowledgeBefore)
    }

    /// Takes back promises above `last`, durably, before the log is truncated to it.
    ///
    /// # Errors
    /// The disk's.
    pub fn lower(&self, last: Promise) -> io::Result<()> {
        let _round = self.round.lock();
        for write in &mut self.queue.lock().waiting {
            if write.promise.is_some_and(|promise| promise > last) {
                write.promise = None;
            }
        }
        let promised = self.mark.get();
        if promised.entry.is_some_and(|entry| entry > last) {
            self.mark.set(Promised { entry: Some(last), ..promised })?;
        }
        Ok(())
    }

    /// Runs rounds on the calling thread until [`Syncer::stop`].
    fn run(&self) {
        loop {
            {
                let mut queue = self.queue.lock();
                while queue.waiting.is_empty() {
                    if queue.stopped {
                        return;
                    }
                    self.arrived.wait(&mut queue);
                }
            }
            self.round();
        }
    }

    /// Ends the thread once the queue is empty.
    pub fn stop(&self) {
        self.queue.lock().stopped = true;
        self.arrived.notify_all();
    }
}

/// Runs the rounds of a syncer on a thread of its own.
///
/// # Errors
/// No thread to be had.
pub fn spawn<C: RaftTypeConfig, D: Disk>(syncer: Arc<Syncer<C, D>>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("muster-log-sync".into()).spawn(move || syncer.run())
}
