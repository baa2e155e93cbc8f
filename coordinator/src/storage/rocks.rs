//! [`RocksDisk`]: one RocksDB database as a [`Disk`].
//!
//! Durability rules: the write-ahead log is never off, recovery is strict, and after the first failed write, sync, damaged
//! read or failure in the background the store refuses everything (no retry after a failed fsync; the process is to end).
//! Checkpoints are hard links.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use muster_failpoint::{Point, hit};
use parking_lot::RwLock;
use rocksdb::checkpoint::Checkpoint as RocksCheckpoint;
use rocksdb::{DB, Direction, IteratorMode, WriteBatch};
use tokio::sync::watch;

use super::checkpoint::Checkpoint;
use super::database::{self, Holes, Kind, family, open_copy, to_io, verify};
use super::disk::{Change, Disk, Pair, Table};
use super::error::StorageError;
use super::install;
use super::lock::DirLock;
use super::wal::Cut;

/// Without it a directory is no database, and RocksDB would make a new one over what is left of the old.
const CURRENT: &str = "CURRENT";

/// A database that can be replaced as a whole.
#[derive(Debug)]
pub struct RocksDisk {
    /// None only while a snapshot is put in its place, under the write lock.
    db: RwLock<Option<DB>>,
    path: PathBuf,
    kind: Kind,
    /// The first failure. Set once; all is refused from then on.
    failure: watch::Sender<Option<String>>,
    checkpoints: AtomicU64,
    cut: Option<Cut>,
    /// Goes after the database, so that whoever has the lock finds it closed.
    _lock: Option<Arc<DirLock>>,
}

impl RocksDisk {
    /// Opens or makes the database `dir`, which nobody else uses and which ended well. A snapshot whose installation was decided but not
    /// finished is finished here; what was received in part is removed.
    ///
    /// # Errors
    /// A database in use, damaged or unreadable.
    pub fn open(dir: &Path, kind: Kind) -> Result<Self, StorageError> {
        Self::open_as(dir, kind, None)
    }

    /// As [`RocksDisk::open`], for who holds the lock of the data directory: logs with a hole end there, as after a power failure. What
    /// was promised may have been behind it, which the caller finds out. The lock is held until the database is closed.
    ///
    /// # Errors
    /// As [`RocksDisk::open`], but for holes in the logs.
    pub fn recover(dir: &Path, kind: Kind, lock: &Arc<DirLock>) -> Result<Self, StorageError> {
        Self::open_as(dir, kind, Some(lock.clone()))
    }

    /// As [`RocksDisk::recover`], for a database that must be there: what is missing of it is damage, and nothing is made in its place.
    ///
    /// # Errors
    /// As [`RocksDisk::recover`]; a database that is not there.
    pub fn recover_existing(dir: &Path, kind: Kind, lock: &Arc<DirLock>) -> Result<Self, StorageError> {
        install::finish(dir).map_err(|error| StorageError::Io { path: dir.to_owned(), error })?;
        let current = dir.join(CURRENT);
        if !current.exists() {
            return Err(StorageError::Missing { path: current });
        }
        Self::recover(dir, kind, lock)
    }

    fn open_as(dir: &Path, kind: Kind, lock: Option<Arc<DirLock>>) -> Result<Self, StorageError> {
        let io = |error| StorageError::Io { path: dir.to_owned(), error };
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        install::finish(dir).map_err(io)?;
        let holes = if lock.is_some() { Holes::Cut } else { Holes::Refuse };
        let (db, cut) = database::open(dir, kind, holes)?;
        Ok(Self {
            db: RwLock::new(Some(db)),
            path: dir.to_owned(),
            kind,
            failure: watch::Sender::new(None),
            checkpoints: AtomicU64::new(0),
            cut,
            _lock: lock,
        })
    }

    /// The first failure, once there is one.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    /// A copy to be verified, of links to the same table files.
    ///
    /// # Errors
    /// The disk's.
    pub fn links(&self) -> io::Result<Checkpoint> {
        self.check()?;
        self.with(|db| self.copy(db))
    }

    /// Compares every block of every table file of `links` with its checksum, and holds up nothing; the store is of no use after damage.
    ///
    /// # Errors
    /// Damage, with the file's name.
    pub fn verify(&self, links: &Checkpoint) -> io::Result<()> {
        self.latch_io(open_copy(links.path()).and_then(|db| verify(&db)))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was cut off its logs when it was opened. The promised mark decides whether that matters.
    #[must_use]
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// A fresh directory beside the database for a snapshot on its way, removed when the last handle goes.
    ///
    /// # Errors
    /// The disk's.
    pub fn staging(&self) -> io::Result<Checkpoint> {
        let path = self.staging_path();
        fs::create_dir_all(&path)?;
        Ok(Checkpoint::adopt(path))
    }

    fn staging_path(&self) -> PathBuf {
        let number = self.checkpoints.fetch_add(1, Ordering::Relaxed);
        install::with_suffix(&self.path, &format!("partial-{number}"))
    }

    fn copy(&self, db: &DB) -> io::Result<Checkpoint> {
        let path = self.staging_path();
        let copied = RocksCheckpoint::new(db).and_then(|checkpoint| checkpoint.create_checkpoint(&path));
        self.read(copied).map(|()| Checkpoint::adopt(path))
    }

    fn check(&self) -> io::Result<()> {
        match &*self.failure.borrow() {
            Some(reason) => {
                let path = self.path.display();
                Err(io::Error::other(format!("{path} failed before and is not used again: {reason}")))
            }
            None => Ok(()),
        }
    }

    /// Latches the first failure: what is on disk after it is unknown.
    fn latch<T>(&self, result: Result<T, rocksdb::Error>) -> io::Result<T> {
        self.latch_io(result.map_err(to_io))
    }

    fn latch_io<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let text = format!("{}: {error}", self.path.display());
            self.failure.send_if_modified(|failure| {
                let first = failure.is_none();
                if first {
                    tracing::error!(path = %self.path.display(), %error, "storage failed; this member ends");
                    *failure = Some(text.clone());
                }
                first
            });
            io::Error::new(error.kind(), text)
        })
    }

    /// A read that found damage ends the store as a failed write does: what else is damaged is unknown.
    fn read<T>(&self, result: Result<T, rocksdb::Error>) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == rocksdb::ErrorKind::Corruption => self.latch(Err(error)),
            result => result.map_err(to_io),
        }
    }

    /// RocksDB repeats what failed in the background (writing table files, syncing a closed log), and a repeated fsync may say
    /// that pages are safe which it has dropped. So its first such failure counts as ours.
    fn check_background(&self, db: &DB) -> io::Result<()> {
        match db.property_int_value("rocksdb.background-errors") {
            Ok(Some(0) | None) => Ok(()),
            Ok(Some(_)) => self.latch_io(Err(io::Error::other(
                "a write in the background failed; the reason is in its file LOG",
            ))),
            Err(error) => self.latch(Err(error)),
        }
    }

    fn point(&self, log: Point, state: Point) -> io::Result<()> {
        self.latch_io(hit(match self.kind {
            Kind::Log => log,
            Kind::State => state,
        }))
    }

    fn with<T>(&self, act: impl FnOnce(&DB) -> io::Result<T>) -> io::Result<T> {
        let guard = self.db.read();
        match guard.as_ref() {
            Some(db) => act(db),
            None => Err(io::Error::other(format!("{} is not open", self.path.display()))),
        }
    }
}

impl Disk for RocksDisk {
    type Snapshot = Checkpoint;
    const BLOCKS: bool = true;

    fn write(&self, changes: Vec<Change>) -> io::Result<()> {
        self.check()?;
        self.point(Point::LogWriteBefore, Point::StateWriteBefore)?;
        self.with(|db| {
            let mut batch = WriteBatch::default();
            for change in changes {
                match change {
                    Change::Put(table, key, value) => batch.put_cf(family(db, table), key, value),
                    Change::Delete(table, key) => batch.delete_cf(family(db, table), key),
                    Change::DeleteRange(table, from, to) => {
                        batch.delete_range_cf(family(db, table), from, to)
                    }
                }
            }
            self.latch(db.write(batch))?;
            self.check_background(db)
        })?;
        self.point(Point::LogWriteAfter, Point::StateWriteAfter)
    }

    fn sync(&self) -> io::Result<()> {
        self.check()?;
        self.point(Point::LogSyncBefore, Point::StateSyncBefore)?;
        self.with(|db| {
            self.latch(db.flush_wal(true))?;
            self.check_background(db)
        })?;
        self.point(Point::LogSyncAfter, Point::StateSyncAfter)
    }

    fn get(&self, table: Table, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.with(|db| self.read(db.get_cf(family(db, table), key)))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> io::Result<()> {
        self.with(|db| {
            for pair in db.iterator_cf(family(db, table), IteratorMode::From(from, Direction::Forward)) {
                let (key, value) = self.read(pair)?;
                if to.is_some_and(|to| key.as_ref() >= to) || !each(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn last(&self, table: Table) -> io::Result<Option<Pair>> {
        self.with(|db| match db.iterator_cf(family(db, table), IteratorMode::End).next() {
            Some(pair) => self.read(pair).map(|(key, value)| Some((key.into_vec(), value.into_vec()))),
            None => Ok(None),
        })
    }

    fn checkpoint(&self) -> io::Result<Checkpoint> {
        hit(Point::SnapshotCheckpointBefore)?;
        let copy = self.with(|db| self.copy(db))?;
        hit(Point::SnapshotCheckpointAfter)?;
        Ok(copy)
    }

    fn read_snapshot<const N: usize>(
        snapshot: &Checkpoint,
        table: Table,
        keys: [&[u8]; N],
    ) -> io::Result<[Option<Vec<u8>>; N]> {
        let db = open_copy(snapshot.path())?;
        let mut values = [const { None }; N];
        for (key, value) in keys.into_iter().zip(&mut values) {
            *value = db.get_cf(family(&db, table), key).map_err(io::Error::other)?;
        }
        Ok(values)
    }

    fn scan_snapshot(snapshot: &Checkpoint, to: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        let db = open_copy(snapshot.path())?;
        verify(&db)?;
        for pair in db.iterator_cf(family(&db, Table::Data), IteratorMode::Start) {
            let (key, value) = pair.map_err(io::Error::other)?;
            if key.as_ref() >= to {
                break;
            }
            each(&key, &value);
        }
        Ok(())
    }

    fn install(&self, snapshot: &Checkpoint) -> io::Result<()> {
        // Until the rename to `.next` a crash leaves the old store; after it, opening finishes the work.
        hit(Point::InstallBefore)?;
        let partial = self.staging_path();
        install::copy_store(snapshot.path(), &partial)?;
        hit(Point::InstallCopied)?;
        let next = install::with_suffix(&self.path, "next");
        let mut guard = self.db.write();
        fs::rename(&partial, &next)?;
        install::sync_parent(&self.path)?;
        hit(Point::InstallDecided)?;
        drop(guard.take());
        let swapped = install::finish_keep(&self.path).and_then(|()| {
            database::open(&self.path, self.kind, Holes::Refuse)
                .map_err(|error| io::Error::other(error.to_string()))
        });
        match swapped {
            Ok((db, _)) => {
                *guard = Some(db);
                hit(Point::InstallOpened)
            }
            Err(error) => self.latch_io(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Vec<Change> {
        vec![Change::Put(Table::Data, key.into(), value.into())]
    }

    #[test]
    fn a_checkpoint_replaces_the_store_and_goes_with_its_handle() {
        let dir = tempfile::tempdir().expect("dir");
        let a = RocksDisk::open(&dir.path().join("a/state"), Kind::State).expect("open");
        a.write(put("k", "new")).expect("write");
        let copy = a.checkpoint().expect("checkpoint");
        a.write(put("k", "later")).expect("write");
        let b = RocksDisk::open(&dir.path().join("b/state"), Kind::State).expect("open");
        b.write(put("old", "1")).expect("write");
        b.install(&copy).expect("install");
        assert_eq!(b.get(Table::Data, b"k").expect("get"), Some(b"new".to_vec()));
        assert_eq!(b.get(Table::Data, b"old").expect("get"), None);
        b.write(put("k", "newer")).expect("write");
        let [value] = RocksDisk::read_snapshot(&copy, Table::Data, [b"k"]).expect("read");
        assert_eq!(value, Some(b"new".to_vec()));
        let path = copy.path().to_owned();
        drop(copy);
        assert!(!path.exists());
        drop(b);
        let b = RocksDisk::open(&dir.path().join("b/state"), Kind::State).expect("reopen");
        assert_eq!(b.get(Table::Data, b"k").expect("get"), Some(b"newer".to_vec()));
    }

    #[test]
    fn a_snapshot_received_in_part_is_ignored_and_a_decided_one_is_finished() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("state");
        let disk = RocksDisk::open(&path, Kind::State).expect("open");
        disk.write(put("k", "old")).expect("write");
        let copy = disk.checkpoint().expect("checkpoint");
        install::copy_store(copy.path(), &dir.path().join("saved")).expect("copy");
        disk.write(put("k", "new")).expect("write");
        drop((disk, copy));
        fs::create_dir(dir.path().join("state.partial-7")).expect("half");
        let disk = RocksDisk::open(&path, Kind::State).expect("open");
        assert_eq!(disk.get(Table::Data, b"k").expect("get"), Some(b"new".to_vec()));
        assert!(!dir.path().join("state.partial-7").exists());
        drop(disk);
        fs::rename(dir.path().join("saved"), dir.path().join("state.next")).expect("decide");
        let disk = RocksDisk::open(&path, Kind::State).expect("open");
        assert_eq!(disk.get(Table::Data, b"k").expect("get"), Some(b"old".to_vec()));
    }

    #[test]
    fn a_database_in_use_is_said_to_be() {
        let dir = tempfile::tempdir().expect("dir");
        let _held = RocksDisk::open(&dir.path().join("log"), Kind::Log).expect("open");
        assert!(matches!(
            RocksDisk::open(&dir.path().join("log"), Kind::Log),
            Err(StorageError::Locked { .. })
        ));
    }
}
