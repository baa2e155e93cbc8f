//! [`Disk`]: the ordered key-value store under the Raft log and under the state, as small as both need it.
//!
//! Two implementors: [`super::rocks::RocksDisk`] in production, a memory one in the deterministic tests, where a crash drops
//! what was not synced.

use std::io;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A table (column family) of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Log entries in `log/`, state rows in `state/`.
    Data,
    /// What describes the data: vote, last applied, membership, cluster id, format.
    Meta,
}

/// One change of an atomic write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a key.
    Put(Table, Vec<u8>, Vec<u8>),
    /// Removes a key.
    Delete(Table, Vec<u8>),
    /// Removes all keys from the first (inclusive) to the second (exclusive).
    DeleteRange(Table, Vec<u8>, Vec<u8>),
}

/// An ordered key-value store with atomic writes, an explicit sync and point-in-time copies.
///
/// Writes are visible to reads at once and durable, in the order written, after the next [`Disk::sync`]. After an
/// error of a write or a sync every later call fails too: a failed fsync is never retried.
pub trait Disk: Send + Sync + 'static {
    /// A point-in-time copy of the whole store.
    type Snapshot: Clone + Send + Sync + 'static;

    /// Whether calls may block the thread for milliseconds (false in the deterministic tests).
    const BLOCKS: bool;

    /// Applies all changes or none.
    ///
    /// # Errors
    /// The disk's, for ever after the first.
    fn write(&self, changes: Vec<Change>) -> io::Result<()>;

    /// Makes durable all that was written before the call.
    ///
    /// # Errors
    /// The disk's, for ever after the first.
    fn sync(&self) -> io::Result<()>;

    /// The value of a key.
    ///
    /// # Errors
    /// The disk's.
    fn get(&self, table: Table, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Visits pairs in key order from `from` (inclusive) to `to` (exclusive; none means to the end) until `each` returns false.
    ///
    /// # Errors
    /// The disk's.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> io::Result<()>;

    /// The pair with the greatest key.
    ///
    /// # Errors
    /// The disk's.
    fn last(&self, table: Table) -> io::Result<Option<Pair>>;

    /// A copy of the store as it is now.
    ///
    /// # Errors
    /// The disk's.
    fn checkpoint(&self) -> io::Result<Self::Snapshot>;

    /// Reads values of a copy, in the order of `keys`: all at once, as to open a copy costs more than to read it.
    ///
    /// # Errors
    /// The disk's; a copy that is not a store of this format.
    fn read_snapshot<const N: usize>(
        snapshot: &Self::Snapshot,
        table: Table,
        keys: [&[u8]; N],
    ) -> io::Result<[Option<Vec<u8>>; N]>;

    /// Checks all of a copy against its checksums, then visits the pairs of its data below `to`, in key order.
    ///
    /// # Errors
    /// The disk's; a damaged copy.
    fn scan_snapshot(
        snapshot: &Self::Snapshot,
        to: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> io::Result<()>;

    /// Replaces the whole store by a copy, durably: after a crash either the old or the new store is there.
    ///
    /// # Errors
    /// The disk's.
    fn install(&self, snapshot: &Self::Snapshot) -> io::Result<()>;
}
