//! openraft's state machine over a [`Machine`] and a [`Disk`]: the rows of many entries, the last applied log id and the membership
//! go into one write without a sync; after a crash the tail of the log is applied again.
//!
//! A snapshot is a copy of the store, and its metadata is read from the copy, never from memory. The digest of the rows goes into
//! the same write as they do, and is compared at every start and before a snapshot is installed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use muster_failpoint::{Point, hit};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{AsyncRuntime, EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::machine::{Machine, Rows, decode};
use super::types::{LogId, Membership, SnapshotMeta, Types};
use crate::storage::{Change, Digest, Disk, FORMAT, StorageError, Table};

const FORMAT_KEY: &[u8] = b"format";
pub(super) const CLUSTER: &[u8] = b"cluster";
pub(super) const APPLIED: &[u8] = b"applied";
pub(super) const MEMBERSHIP: &[u8] = b"membership";
/// [`Digest`] of the rows. Whoever changes rows without this module removes it: without one there is nothing to compare.
pub const DIGEST: &[u8] = b"digest";

/// Entries whose rows go into one write, at most.
const ENTRIES_A_WRITE: usize = 512;

type Snapshot<D> = openraft::Snapshot<
    <<Types<(), super::types::Tokio> as openraft::RaftTypeConfig>::LeaderId as openraft::vote::RaftLeaderId>::Committed,
    u64,
    openraft::BasicNode,
    <D as Disk>::Snapshot,
>;

/// The rows of a store.
pub struct DiskRows<D>(pub Arc<D>);

impl<D: Disk> Rows for DiskRows<D> {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.0.get(Table::Data, key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> io::Result<()> {
        self.0.scan(Table::Data, from, to, each)
    }
}

struct Shared<D: Disk> {
    disk: Arc<D>,
    cluster: String,
    /// The newest snapshot, built here or received.
    snapshot: Mutex<Option<(SnapshotMeta, D::Snapshot)>>,
}

/// The state machine.
pub struct StateMachine<M, R, D: Disk> {
    shared: Arc<Shared<D>>,
    machine: Arc<RwLock<M>>,
    rows: DiskRows<D>,
    applied: Option<LogId>,
    membership: Membership,
    digest: Digest,
    progress: watch::Sender<u64>,
    runtime: std::marker::PhantomData<fn() -> R>,
}

impl<M: Machine, R: AsyncRuntime, D: Disk> StateMachine<M, R, D> {
    /// Opens the state: checks whose it is and rebuilds the machine from its rows. `path` is for messages.
    ///
    /// # Errors
    /// A store of another cluster or of a newer format, rows that cannot be read.
    pub fn open(
        disk: Arc<D>,
        machine: Arc<RwLock<M>>,
        cluster: &str,
        path: &Path,
    ) -> Result<Self, StorageError> {
        let io = |error| StorageError::Io { path: path.to_owned(), error };
        hit(Point::StateOpen).map_err(io)?;
        check_owner(
            disk.get(Table::Meta, FORMAT_KEY).map_err(io)?,
            disk.get(Table::Meta, CLUSTER).map_err(io)?,
            cluster,
            path,
        )?;
        if disk.get(Table::Meta, CLUSTER).map_err(io)?.is_none() {
            disk.write(vec![
                Change::Put(Table::Meta, FORMAT_KEY.to_vec(), FORMAT.to_be_bytes().to_vec()),
                Change::Put(Table::Meta, CLUSTER.to_vec(), cluster.as_bytes().to_vec()),
            ])
            .map_err(io)?;
        }
        let mut this = Self {
            rows: DiskRows(disk.clone()),
            shared: Arc::new(Shared { disk, cluster: cluster.to_owned(), snapshot: Mutex::new(None) }),
            machine,
            applied: None,
            membership: Membership::default(),
            digest: Digest::default(),
            progress: watch::Sender::new(0),
            runtime: std::marker::PhantomData,
        };
        let machine = this.machine.clone();
        this.restore(&mut machine.write()).map_err(|error| StorageError::DamagedState {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(this)
    }

    /// The index of the last applied entry, as it moves.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// The last applied entry.
    #[must_use]
    pub fn applied(&self) -> Option<LogId> {
        self.applied
    }

    fn restore(&mut self, machine: &mut M) -> io::Result<()> {
        let disk = &self.shared.disk;
        self.applied = read(disk.get(Table::Meta, APPLIED)?)?;
        self.membership = read(disk.get(Table::Meta, MEMBERSHIP)?)?.unwrap_or_default();
        let index = self.applied.map_or(0, |applied| applied.index);
        self.digest = Digest::default();
        let digest = &mut self.digest;
        disk.scan(Table::Data, &[], Some(M::DIGEST_BELOW), &mut |key, value| {
            digest.set(key, Some(value));
            true
        })?;
        compare(disk.get(Table::Meta, DIGEST)?, digest)?;
        machine.restore(&self.rows, index).map_err(|error| io::Error::other(error.to_string()))?;
        self.progress.send_replace(index);
        Ok(())
    }

    /// Writes the rows of the entries applied so far, with the place in the log that they bring the state to.
    fn store(&mut self, mut changes: Vec<Change>, membership_changed: bool) -> io::Result<()> {
        hit(Point::ApplyAfter)?;
        for change in &changes {
            match change {
                Change::Put(Table::Data, key, value) if key.as_slice() < M::DIGEST_BELOW => {
                    self.digest.set(key, Some(value));
                }
                Change::Delete(Table::Data, key) if key.as_slice() < M::DIGEST_BELOW => {
                    self.digest.set(key, None)
                }
                _ => {}
            }
        }
        let disk = &self.shared.disk;
        changes.push(Change::Put(Table::Meta, DIGEST.to_vec(), self.digest.bytes()));
        if let Some(applied) = &self.applied {
            changes.push(put(APPLIED, applied)?);
        }
        if membership_changed {
            changes.push(put(MEMBERSHIP, &self.membership)?);
        }
        disk.write(changes)
    }
}

pub(super) fn put<T: Serialize>(key: &[u8], value: &T) -> io::Result<Change> {
    Ok(Change::Put(Table::Meta, key.to_vec(), postcard::to_stdvec(value).map_err(io::Error::other)?))
}

pub(super) fn read<T: DeserializeOwned>(bytes: Option<Vec<u8>>) -> io::Result<Option<T>> {
    bytes.map(|bytes| postcard::from_bytes(&bytes).map_err(io::Error::other)).transpose()
}

/// Whether the rows are those that were written. A store without a digest has none to compare.
fn compare(stored: Option<Vec<u8>>, found: &Digest) -> io::Result<()> {
    match stored {
        Some(stored) if stored != found.bytes() => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "its rows are not those that were written: the digest differs",
        )),
        _ => Ok(()),
    }
}

/// Reads all of a copy: every block against its checksum, the rows against their digest. What was received is checked so before the
/// old store, which is whole, is given up for it: checksums on the way say nothing about the disk that it was read from.
///
/// # Errors
/// A damaged copy.
pub fn check_copy<M: Machine, D: Disk>(copy: &D::Snapshot) -> io::Result<()> {
    let mut digest = Digest::default();
    D::scan_snapshot(copy, M::DIGEST_BELOW, &mut |key, value| digest.set(key, Some(value)))?;
    let [stored] = D::read_snapshot(copy, Table::Meta, [DIGEST])?;
    compare(stored, &digest)
}

fn check_owner(
    format: Option<Vec<u8>>,
    owner: Option<Vec<u8>>,
    cluster: &str,
    path: &Path,
) -> Result<(), StorageError> {
    if let Some(bytes) = format {
        let found = bytes.as_slice().try_into().map(u32::from_be_bytes).unwrap_or(u32::MAX);
        if found > FORMAT {
            return Err(StorageError::NewerFormat { path: path.to_owned(), found, known: FORMAT });
        }
    }
    match owner {
        Some(owner) if owner != cluster.as_bytes() => Err(StorageError::OtherCluster {
            path: path.to_owned(),
            found: String::from_utf8_lossy(&owner).into_owned(),
            expected: cluster.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Runs what may block: beside the runtime's threads where there are such, else in place.
async fn blocking<R: AsyncRuntime, D: Disk, T: Send + 'static>(
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if D::BLOCKS { R::spawn_blocking(act).await? } else { act() }
}

impl<M: Machine, R: AsyncRuntime, D: Disk> RaftStateMachine<Types<M::Replies, R>> for StateMachine<M, R, D> {
    type SnapshotData = D::Snapshot;
    type SnapshotBuilder = Builder<R, D>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types<M::Replies, R>>, io::Error>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.ready_chunks(ENTRIES_A_WRITE);
        while let Some(chunk) = chunks.next().await {
            hit(Point::ApplyBefore)?;
            let mut changes = Vec::new();
            let mut answers = Vec::with_capacity(chunk.len());
            let mut membership_changed = false;
            for item in chunk {
                let (entry, responder) = item?;
                let id = entry.log_id;
                let reply = match entry.payload {
                    EntryPayload::Blank => None,
                    EntryPayload::Membership(membership) => {
                        self.membership = Membership::new(Some(id), membership);
                        membership_changed = true;
                        None
                    }
                    EntryPayload::Normal(blob) => {
                        let batch: M::Batch = decode(&blob.0)?;
                        let reads_rows = self.machine.read().needs_rows(&batch);
                        if reads_rows && !changes.is_empty() {
                            self.store(std::mem::take(&mut changes), membership_changed)?;
                        }
                        let applied = self.machine.write().apply(id.index, &batch, &self.rows);
                        changes.extend(applied.rows.into_iter().map(|(key, value)| match value {
                            Some(value) => Change::Put(Table::Data, key, value),
                            None => Change::Delete(Table::Data, key),
                        }));
                        Some(applied.replies)
                    }
                };
                self.applied = Some(id);
                if let Some(responder) = responder {
                    answers.push((responder, reply));
                }
            }
            self.store(changes, membership_changed)?;
            if let Some(applied) = &self.applied {
                self.machine.write().stored(applied.index);
                self.progress.send_replace(applied.index);
            }
            hit(Point::ApplyReplyBefore)?;
            for (responder, reply) in answers {
                responder.send(reply);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder<R, D> {
        Builder { shared: self.shared.clone(), runtime: std::marker::PhantomData }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: D::Snapshot,
    ) -> Result<(), io::Error> {
        let shared = self.shared.clone();
        let found = read_meta::<D>(&snapshot, &shared.cluster)?;
        if found != *meta {
            return Err(io::Error::other(format!("a snapshot says {found}, its sender said {meta}")));
        }
        {
            // Readers see the old state with the old rows or the new with the new.
            let machine = self.machine.clone();
            let mut machine = machine.write();
            shared.disk.install(&snapshot)?;
            self.restore(&mut machine)?;
        }
        *shared.snapshot.lock() = Some((found, snapshot));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<D>>, io::Error> {
        Ok(self.shared.snapshot.lock().clone().map(|(meta, snapshot)| openraft::Snapshot { meta, snapshot }))
    }
}

/// Builds a snapshot beside the apply of further entries.
pub struct Builder<R, D: Disk> {
    shared: Arc<Shared<D>>,
    runtime: std::marker::PhantomData<fn() -> R>,
}

impl<A: super::machine::Answer, R: AsyncRuntime, D: Disk> RaftSnapshotBuilder<Types<A, R>> for Builder<R, D> {
    type SnapshotData = D::Snapshot;

    async fn build_snapshot(&mut self) -> Result<Snapshot<D>, io::Error> {
        let shared = self.shared.clone();
        let (meta, snapshot) = blocking::<R, D, _>(move || {
            let snapshot = shared.disk.checkpoint()?;
            Ok((read_meta::<D>(&snapshot, &shared.cluster)?, snapshot))
        })
        .await?;
        *self.shared.snapshot.lock() = Some((meta.clone(), snapshot.clone()));
        Ok(openraft::Snapshot { meta, snapshot })
    }
}

/// The membership as of the last applied entry.
pub(super) fn read_membership<D: Disk>(disk: &D) -> io::Result<Membership> {
    Ok(read(disk.get(Table::Meta, MEMBERSHIP)?)?.unwrap_or_default())
}

pub(super) fn read_meta<D: Disk>(snapshot: &D::Snapshot, cluster: &str) -> io::Result<SnapshotMeta> {
    let keys = [FORMAT_KEY, CLUSTER, APPLIED, MEMBERSHIP];
    let [format, owner, applied, membership] = D::read_snapshot(snapshot, Table::Meta, keys)?;
    check_owner(format, owner, cluster, Path::new("the snapshot"))
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(SnapshotMeta { last_log_id: read(applied)?, last_membership: read(membership)?.unwrap_or_default() })
}
