//! Planted bugs of the members' disks and of those who operate them: what goes wrong when a rule of the store is broken. The code under
//! test stays as it is; the mistakes are in what the disk does and in what a start is given.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::storage::memory::MemoryDisk;
use crate::storage::{Change, Disk, Table};

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    AcksEarly,
    ForgetsVote,
    ForgetsMark,
    ReusesId,
    BootstrapsAgain,
    PurgesEarly,
    HalfSnapshot,
    ForgetsMembership,
}

impl Plant {
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::AcksEarly, "entries are acknowledged before they are synced"),
        (Self::ForgetsVote, "a member forgets in a crash for whom it voted"),
        (
            Self::ForgetsMark,
            "a member that lost the end of its log has lost its promised mark too, and starts",
        ),
        (Self::ReusesId, "an empty disk starts under the id of the member whose disk died"),
        (Self::BootstrapsAgain, "an empty disk under an old id makes itself a cluster"),
        (Self::PurgesEarly, "the log is purged before the state that holds its entries is durable"),
        (Self::HalfSnapshot, "a snapshot is installed without its last rows"),
        (Self::ForgetsMembership, "the state is stored without the membership"),
    ];
}

/// Which of a member's stores a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Log,
    State,
}

/// A disk that may be wrong in the way of a plant.
pub struct SimDisk {
    disk: MemoryDisk,
    store: Store,
    plant: Option<Plant>,
    /// Set for good once a snapshot was installed by halves.
    torn: AtomicBool,
}

impl SimDisk {
    pub fn empty(store: Store, plant: Option<Plant>) -> Self {
        Self { disk: MemoryDisk::default(), store, plant, torn: AtomicBool::new(false) }
    }

    fn is(&self, store: Store, plant: Plant) -> bool {
        self.store == store && self.plant == Some(plant)
    }

    /// Writes since the last sync.
    pub fn unsynced(&self) -> usize {
        self.disk.unsynced()
    }

    /// What a crash leaves: of the writes since the last sync the first `kept`.
    pub fn after_crash(&self, kept: usize) -> Self {
        let disk = self.disk.after_crash(kept);
        if self.is(Store::Log, Plant::ForgetsVote) {
            disk.write(vec![Change::Delete(Table::Meta, b"vote".to_vec())]).expect("memory");
            disk.sync().expect("memory");
        }
        Self { disk, store: self.store, plant: self.plant, torn: AtomicBool::new(false) }
    }

    /// A disk that lies about what it wrote: the last `count` entries of the log are gone, synced or not.
    pub fn lose_tail(&self, count: u64) {
        for _ in 0..count {
            if let Some((key, _)) = self.disk.last(Table::Data).expect("memory") {
                self.disk.write(vec![Change::Delete(Table::Data, key)]).expect("memory");
            }
        }
        self.disk.sync().expect("memory");
    }
}

impl Disk for SimDisk {
    type Snapshot = <MemoryDisk as Disk>::Snapshot;
    const BLOCKS: bool = false;

    fn write(&self, mut changes: Vec<Change>) -> io::Result<()> {
        if self.is(Store::State, Plant::ForgetsMembership) {
            changes.retain(|c| !matches!(c, Change::Put(Table::Meta, key, _) if key == b"membership"));
        }
        self.disk.write(changes)
    }

    fn sync(&self) -> io::Result<()> {
        if self.is(Store::Log, Plant::AcksEarly) || self.is(Store::State, Plant::PurgesEarly) {
            return Ok(());
        }
        self.disk.sync()
    }

    fn get(&self, table: Table, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.disk.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> io::Result<()> {
        self.disk.scan(table, from, to, each)
    }

    fn last(&self, table: Table) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        self.disk.last(table)
    }

    fn checkpoint(&self) -> io::Result<Self::Snapshot> {
        self.disk.checkpoint()
    }

    fn read_snapshot<const N: usize>(
        snapshot: &Self::Snapshot,
        table: Table,
        keys: [&[u8]; N],
    ) -> io::Result<[Option<Vec<u8>>; N]> {
        MemoryDisk::read_snapshot(snapshot, table, keys)
    }

    fn scan_snapshot(
        snapshot: &Self::Snapshot,
        to: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> io::Result<()> {
        MemoryDisk::scan_snapshot(snapshot, to, each)
    }

    fn install(&self, snapshot: &Self::Snapshot) -> io::Result<()> {
        self.disk.install(snapshot)?;
        if self.is(Store::State, Plant::HalfSnapshot) && !self.torn.swap(true, Ordering::Relaxed) {
            let rows = self.disk.last(Table::Data)?;
            let last = rows.map(|(key, _)| Change::Delete(Table::Data, key));
            self.disk.write(last.into_iter().collect())?;
        }
        Ok(())
    }
}
