//! A [`Disk`] and a [`Mark`] in memory for the deterministic tests: a crash drops what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Change, Disk, Pair, Table};
use super::promised::{Mark, Promised};

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// What survives a crash, and what is visible now.
#[derive(Debug, Default)]
struct Contents {
    synced: Rows,
    live: Rows,
    unsynced: Vec<Vec<Change>>,
}

/// The store.
#[derive(Debug, Default)]
pub struct MemoryDisk(Mutex<Contents>);

fn apply(rows: &mut Rows, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put(table, key, value) => {
                rows.insert((*table, key.clone()), value.clone());
            }
            Change::Delete(table, key) => {
                rows.remove(&(*table, key.clone()));
            }
            Change::DeleteRange(table, from, to) => {
                let gone: Vec<_> = rows
                    .range((*table, from.clone())..(*table, to.clone()))
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in gone {
                    rows.remove(&key);
                }
            }
        }
    }
}

impl MemoryDisk {
    /// What a crash leaves: of the writes since the last sync the first `kept`. The old store goes on for whoever still
    /// holds it, a process that is dead already.
    pub fn after_crash(&self, kept: usize) -> Self {
        let contents = self.0.lock();
        let mut left = contents.synced.clone();
        for changes in contents.unsynced.iter().take(kept) {
            apply(&mut left, changes);
        }
        Self(Mutex::new(Contents { synced: left.clone(), live: left, unsynced: Vec::new() }))
    }

    /// Writes since the last sync.
    pub fn unsynced(&self) -> usize {
        self.0.lock().unsynced.len()
    }
}

impl Disk for MemoryDisk {
    type Snapshot = Arc<Rows>;
    const BLOCKS: bool = false;

    fn write(&self, changes: Vec<Change>) -> io::Result<()> {
        let mut contents = self.0.lock();
        apply(&mut contents.live, &changes);
        contents.unsynced.push(changes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut contents = self.0.lock();
        for changes in std::mem::take(&mut contents.unsynced) {
            apply(&mut contents.synced, &changes);
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().live.get(&(table, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> io::Result<()> {
        let contents = self.0.lock();
        for ((found, key), value) in contents.live.range((table, from.to_vec())..) {
            if *found != table || to.is_some_and(|to| key.as_slice() >= to) || !each(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, table: Table) -> io::Result<Option<Pair>> {
        let contents = self.0.lock();
        Ok(contents
            .live
            .iter()
            .rev()
            .find(|((found, _), _)| *found == table)
            .map(|((_, key), value)| (key.clone(), value.clone())))
    }

    fn checkpoint(&self) -> io::Result<Self::Snapshot> {
        Ok(Arc::new(self.0.lock().live.clone()))
    }

    fn read_snapshot<const N: usize>(
        snapshot: &Self::Snapshot,
        table: Table,
        keys: [&[u8]; N],
    ) -> io::Result<[Option<Vec<u8>>; N]> {
        Ok(keys.map(|key| snapshot.get(&(table, key.to_vec())).cloned()))
    }

    fn scan_snapshot(
        snapshot: &Self::Snapshot,
        to: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> io::Result<()> {
        for ((table, key), value) in snapshot.iter() {
            if *table == Table::Data && key.as_slice() < to {
                each(key, value);
            }
        }
        Ok(())
    }

    fn install(&self, snapshot: &Self::Snapshot) -> io::Result<()> {
        let mut contents = self.0.lock();
        contents.synced = (**snapshot).clone();
        contents.live = (**snapshot).clone();
        contents.unsynced.clear();
        Ok(())
    }
}

/// The mark, always durable.
#[derive(Debug, Default)]
pub struct MemoryMark(Mutex<Promised>);

impl MemoryMark {
    /// The mark as a restart finds it.
    pub fn after_crash(&self) -> Self {
        Self(Mutex::new(*self.0.lock()))
    }
}

impl Mark for MemoryMark {
    fn set(&self, promised: Promised) -> io::Result<()> {
        *self.0.lock() = promised;
        Ok(())
    }

    fn get(&self) -> Promised {
        *self.0.lock()
    }
}
