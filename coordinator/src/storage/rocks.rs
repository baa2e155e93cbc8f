//! [`RocksDisk`]: one RocksDB database as a [`Disk`].
//!
//! Durability rules: the write-ahead log is never off, recovery is strict first, and after the first failed write, sync, damaged
//! read or failure in the background the store refuses everything (no retry after a failed fsync; the process is to end).
//! Checkpoints are hard links.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use muster_failpoint::{Point, hit};
use parking_lot::RwLock;
use rocksdb::checkpoint::Checkpoint as RocksCheckpoint;
use rocksdb::{
    AsRawPtr, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Direction,
    IteratorMode, Options, WriteBatch,
};
use tokio::sync::watch;

use super::disk::{Change, Disk, Pair, Table};
use super::error::StorageError;
use super::wal;

const META: &str = "meta";
/// Without it a directory is no database, and RocksDB would make a new one over what is left of the old.
const CURRENT: &str = "CURRENT";

/// Which of the two databases, as their buffers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `log/`: written once, read by followers that lag, purged in ranges.
    Log,
    /// `state/`: rows that are overwritten; small buffers, so that an idle member is small.
    State,
}

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
    recovered_tail: bool,
}

impl RocksDisk {
    /// Opens or makes the database `dir`. A snapshot whose installation was decided but not finished is finished here; what
    /// was received in part is removed.
    ///
    /// # Errors
    /// A database in use, damaged beyond its tail, or unreadable.
    pub fn open(dir: &Path, kind: Kind) -> Result<Self, StorageError> {
        let io = |error| StorageError::Io { path: dir.to_owned(), error };
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        finish_install(dir).map_err(io)?;
        let (db, recovered_tail) = open_db(dir, kind)?;
        Ok(Self {
            db: RwLock::new(Some(db)),
            path: dir.to_owned(),
            kind,
            failure: watch::Sender::new(None),
            checkpoints: AtomicU64::new(0),
            recovered_tail,
        })
    }

    /// Opens a database that must be there: what is missing of it is damage, and nothing is made in its place.
    ///
    /// # Errors
    /// As [`RocksDisk::open`]; a database that is not there.
    pub fn open_existing(dir: &Path, kind: Kind) -> Result<Self, StorageError> {
        finish_install(dir).map_err(|error| StorageError::Io { path: dir.to_owned(), error })?;
        let current = dir.join(CURRENT);
        if !current.exists() {
            return Err(StorageError::Missing { path: current });
        }
        Self::open(dir, kind)
    }

    /// The first failure, once there is one.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    /// Reads every block of every table file and compares it with its checksum; the store is of no use after damage. Takes as long as
    /// reading all of it does.
    ///
    /// # Errors
    /// Damage, with the file's name.
    pub fn verify(&self) -> io::Result<()> {
        self.check()?;
        self.with(|db| self.latch_io(verify(db)))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the strict recovery failed and the log's torn tail was dropped. The promised mark decides whether that matters.
    #[must_use]
    pub fn recovered_tail(&self) -> bool {
        self.recovered_tail
    }

    /// A fresh directory beside the database for a snapshot on its way, removed when the last handle goes.
    ///
    /// # Errors
    /// The disk's.
    pub fn staging(&self) -> io::Result<Checkpoint> {
        let path = self.staging_path();
        fs::create_dir_all(&path)?;
        Ok(Checkpoint(Arc::new(Dir(path))))
    }

    fn staging_path(&self) -> PathBuf {
        let number = self.checkpoints.fetch_add(1, Ordering::Relaxed);
        with_suffix(&self.path, &format!("partial-{number}"))
    }

    fn check(&self) -> io::Result<()> {
        match &*self.failure.borrow() {
            Some(reason) => Err(io::Error::other(format!(
                "{} failed before and is not used again: {reason}",
                self.path.display()
            ))),
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
        let path = self.staging_path();
        self.with(|db| {
            RocksCheckpoint::new(db)
                .and_then(|checkpoint| checkpoint.create_checkpoint(&path))
                .map_err(io::Error::other)?;
            hit(Point::SnapshotCheckpointAfter)?;
            Ok(Checkpoint(Arc::new(Dir(path))))
        })
    }

    fn read_snapshot(snapshot: &Checkpoint, table: Table, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let db = open_copy(snapshot.path())?;
        db.get_cf(family(&db, table), key).map_err(io::Error::other)
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
        copy_store(snapshot.path(), &partial)?;
        hit(Point::InstallCopied)?;
        let next = with_suffix(&self.path, "next");
        let mut guard = self.db.write();
        fs::rename(&partial, &next)?;
        sync_parent(&self.path)?;
        hit(Point::InstallDecided)?;
        drop(guard.take());
        let swapped = finish_install_keep(&self.path).and_then(|()| {
            open_db(&self.path, self.kind).map_err(|error| io::Error::other(error.to_string()))
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

/// A directory with a whole database of its own. The directory goes with the last handle.
#[derive(Debug, Clone)]
pub struct Checkpoint(Arc<Dir>);

impl Checkpoint {
    /// Takes a directory over; it goes with the last handle.
    #[must_use]
    pub fn adopt(path: PathBuf) -> Self {
        Self(Arc::new(Dir(path)))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.0
    }
}

#[derive(Debug)]
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a snapshot");
        }
    }
}

fn family(db: &DB, table: Table) -> &ColumnFamily {
    let name = match table {
        Table::Data => "default",
        Table::Meta => META,
    };
    db.cf_handle(name).expect("both column families are made at open")
}

/// Damage is told apart from a disk that fails.
fn to_io(error: rocksdb::Error) -> io::Error {
    let kind = match error.kind() {
        rocksdb::ErrorKind::Corruption => io::ErrorKind::InvalidData,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// Every block of every table file, against its checksum.
fn verify(db: &DB) -> io::Result<()> {
    let mut error: *mut std::ffi::c_char = std::ptr::null_mut();
    // SAFETY: the database is open for the length of the call; an error is a C string that is ours to free.
    let reason = unsafe {
        librocksdb_sys::rocksdb_verify_checksum(db.as_raw_ptr(), &raw mut error);
        if error.is_null() {
            return Ok(());
        }
        let reason = std::ffi::CStr::from_ptr(error).to_string_lossy().into_owned();
        librocksdb_sys::rocksdb_free(error.cast());
        reason
    };
    Err(io::Error::new(io::ErrorKind::InvalidData, reason))
}

/// A copy, to be looked into.
fn open_copy(path: &Path) -> io::Result<DB> {
    let mut options = Options::default();
    // As it was written with: RocksDB 11.8 crashes when a read-only open has to stop tracking logs.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_wal_recovery_mode(DBRecoveryMode::AbsoluteConsistency);
    wal::check(path, true).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    DB::open_cf_for_read_only(&options, path, ["default", META], false).map_err(io::Error::other)
}

fn open_db(dir: &Path, kind: Kind) -> Result<(DB, bool), StorageError> {
    wal::check(dir, kind == Kind::State)?;
    match open_with(dir, kind, DBRecoveryMode::AbsoluteConsistency) {
        Ok(db) => Ok((db, false)),
        Err(error) if error.kind() == rocksdb::ErrorKind::Corruption => {
            tracing::warn!(path = %dir.display(), %error, "the strict recovery failed; dropping the torn tail");
            let db = open_with(dir, kind, DBRecoveryMode::TolerateCorruptedTailRecords)
                .map_err(|error| StorageError::Open { path: dir.to_owned(), error })?;
            Ok((db, true))
        }
        Err(error) if error.to_string().contains("/LOCK") => {
            Err(StorageError::Locked { path: dir.to_owned() })
        }
        Err(error) => Err(StorageError::Open { path: dir.to_owned(), error }),
    }
}

fn open_with(dir: &Path, kind: Kind, recovery: DBRecoveryMode) -> Result<DB, rocksdb::Error> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(recovery);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_keep_log_file_num(2);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_max_total_wal_size(64 << 20);
    // SAFETY: the options live until the end of this function, and the call sets a number in them.
    unsafe { librocksdb_sys::rocksdb_options_set_max_bgerror_resume_count(options.as_raw_ptr(), 0) };
    let family = |name: &str, buffer: usize| {
        let mut options = Options::default();
        options.set_write_buffer_size(buffer);
        // Two: one fills while the other is written out. A member is measured by its memory too.
        options.set_max_write_buffer_number(2);
        options.set_compression_type(match kind {
            // Entries are compressed by who makes them, and live for minutes.
            Kind::Log => DBCompressionType::None,
            Kind::State => DBCompressionType::Lz4,
        });
        ColumnFamilyDescriptor::new(name, options)
    };
    let buffer = match kind {
        Kind::Log | Kind::State => 8 << 20,
    };
    DB::open_cf_descriptors(&options, dir, [family("default", buffer), family(META, 1 << 20)])
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Puts a decided snapshot in place and removes what was received in part.
fn finish_install(dir: &Path) -> io::Result<()> {
    finish_install_keep(dir)?;
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    let prefix = format!("{name}.partial-");
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|found| found.starts_with(&prefix)) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn finish_install_keep(dir: &Path) -> io::Result<()> {
    let next = with_suffix(dir, "next");
    if !next.exists() {
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    hit(Point::InstallOldRemoved)?;
    fs::rename(&next, dir)?;
    hit(Point::InstallRenamed)?;
    sync_parent(dir)
}

/// Copies a checkpoint, synced. Table files never change and are linked; the rest is copied.
fn copy_store(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let target = to.join(entry.file_name());
        let table = entry.path().extension().is_some_and(|extension| extension == "sst");
        if !table || fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
        File::open(&target)?.sync_all()?;
    }
    File::open(to)?.sync_all()
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
        assert_eq!(RocksDisk::read_snapshot(&copy, Table::Data, b"k").expect("read"), Some(b"new".to_vec()));
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
        copy_store(copy.path(), &dir.path().join("saved")).expect("copy");
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
