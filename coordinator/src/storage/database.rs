//! Opens RocksDB: its options, strict recovery, and what comes before it: the write-ahead logs are looked through, and end at the first
//! hole where the caller has the directory for itself.

use std::io;
use std::path::Path;

use rocksdb::{
    AsRawPtr, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Options,
};

use super::disk::Table;
use super::error::StorageError;
use super::lock::Holder;
use super::wal::{self, Cut};

const META: &str = "meta";

/// Which of the two databases, as their buffers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `log/`: written once, read by followers that lag, purged in ranges.
    Log,
    /// `state/`: rows that are overwritten; small buffers, so that an idle member is small.
    State,
}

/// What is done about logs with a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holes {
    /// They are damage.
    Refuse,
    /// The logs end there. Only for who holds the directory's lock.
    Cut,
}

/// The column family of a table.
///
/// # Panics
/// Never: an open database has both.
pub fn family(db: &DB, table: Table) -> &ColumnFamily {
    let name = match table {
        Table::Data => "default",
        Table::Meta => META,
    };
    db.cf_handle(name).expect("both column families are made at open")
}

/// Damage is told apart from a disk that fails.
pub fn to_io(error: rocksdb::Error) -> io::Error {
    let kind = match error.kind() {
        rocksdb::ErrorKind::Corruption => io::ErrorKind::InvalidData,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// Every block of every table file, against its checksum. Takes as long as reading all of it does.
///
/// # Errors
/// Damage, with the file's name.
pub fn verify(db: &DB) -> io::Result<()> {
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
///
/// # Errors
/// A damaged copy.
pub fn open_copy(path: &Path) -> io::Result<DB> {
    let mut options = Options::default();
    // As it was written with: RocksDB 11.8 crashes when a read-only open has to stop tracking logs.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_wal_recovery_mode(DBRecoveryMode::AbsoluteConsistency);
    wal::check(path).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    DB::open_cf_for_read_only(&options, path, ["default", META], false).map_err(io::Error::other)
}

/// Opens or makes the database `dir`, and says where its logs were cut.
///
/// # Errors
/// A database in use, or damaged beyond the end of its logs.
pub fn open(dir: &Path, kind: Kind, holes: Holes) -> Result<(DB, Option<Cut>), StorageError> {
    let cut = match holes {
        Holes::Refuse => wal::check(dir).map(|()| None)?,
        Holes::Cut => wal::find(dir)?.map(|hole| wal::cut(dir, hole)).transpose()?,
    };
    match open_strictly(dir, kind) {
        Ok(db) => Ok((db, cut)),
        Err(error) if error.to_string().contains("/LOCK") => {
            Err(StorageError::Locked { path: dir.to_owned(), holder: Holder(None) })
        }
        Err(error) => Err(StorageError::Open { path: dir.to_owned(), error }),
    }
}

/// What is not whole is an error: the logs were looked through, and nothing may be dropped without a word.
fn open_strictly(dir: &Path, kind: Kind) -> Result<DB, rocksdb::Error> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(DBRecoveryMode::AbsoluteConsistency);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_keep_log_file_num(2);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_max_total_wal_size(64 << 20);
    // A copy of the log ends where it was flushed. With the default of 1 MiB a larger record is flushed in pieces, and a copy made in
    // between ends within it. An entry has 4 MiB at most; the buffer grows as it is needed.
    options.set_writable_file_max_buffer_size(64 << 20);
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
