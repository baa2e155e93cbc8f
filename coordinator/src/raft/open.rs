//! Opens a member's data directory in order, and refuses one that must not vote or serve.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use openraft::AsyncRuntime;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::log_store::{LogStore, Open};
use super::machine::Machine;
use super::state_machine::StateMachine;
use super::types::promise;
use crate::storage::{Disk, FileMark, Kind, Mark, MemberFile, Promise, RocksDisk, StorageError};

/// An open directory.
pub struct Opened<M: Machine, R: AsyncRuntime> {
    /// The state's database.
    pub state: Arc<RocksDisk>,
    /// The log. Nobody runs its sync rounds yet.
    pub log: LogStore<M::Replies, R, RocksDisk>,
    /// The state machine.
    pub state_machine: StateMachine<M, R, RocksDisk>,
    /// How far it is, as it moves.
    pub applied: watch::Receiver<u64>,
}

/// Opens `dir` for a member, or makes it.
///
/// # Errors
/// A directory of another member or cluster, of a newer format, in use, damaged, or whose log ends before what the member
/// has promised.
pub fn open<M: Machine, R: AsyncRuntime>(
    dir: &Path,
    cluster: &str,
    member: u64,
    machine: Arc<RwLock<M>>,
) -> Result<Opened<M, R>, StorageError> {
    fs::create_dir_all(dir).map_err(|error| StorageError::Io { path: dir.to_owned(), error })?;
    MemberFile::claim(dir, cluster, member)?;
    let (log_path, state_path, mark_path) = (dir.join("log"), dir.join("state"), dir.join("promised"));
    let state = Arc::new(RocksDisk::open(&state_path, Kind::State)?);
    let log_disk = Arc::new(RocksDisk::open(&log_path, Kind::Log)?);
    let state_machine = StateMachine::open(state.clone(), machine, cluster, &state_path)?;
    let found = FileMark::open(&mark_path)?;
    let promised = found.as_ref().and_then(Mark::get);
    let fresh = found.is_none();
    let mark = Arc::new(match found {
        Some(mark) => mark,
        None => {
            // Only a member that never wrote may lack its mark.
            let last = last_entry(&log_disk, &log_path)?.max(state_machine.applied().as_ref().map(promise));
            if let Some(last) = last {
                return Err(StorageError::MarkMissing { path: mark_path, log: log_path, last });
            }
            FileMark::create(&mark_path)?
        }
    });
    let synced = state.clone();
    let log = LogStore::open(
        Open { disk: log_disk, mark, sync_state: Box::new(move || synced.sync()), wake: None },
        &log_path,
    )?;
    if let Some(promised) = promised
        && !fresh
    {
        let last = log.last().max(state_machine.applied().as_ref().map(promise)).unwrap_or_default();
        check_promise(last, promised).map_err(|()| StorageError::LogShorterThanPromised {
            log: log_path,
            mark: mark_path,
            last,
            promised,
        })?;
    }
    let applied = state_machine.progress();
    Ok(Opened { state, log, state_machine, applied })
}

/// Whether a log that ends at `last` still holds all that was promised.
///
/// # Errors
/// It does not.
#[allow(clippy::result_unit_err)] // the caller alone knows the files that the refusal names
pub fn check_promise(last: Promise, promised: Promise) -> Result<(), ()> {
    if last < promised { Err(()) } else { Ok(()) }
}

/// Any trace of an entry, without reading the log.
fn last_entry(disk: &RocksDisk, path: &Path) -> Result<Option<Promise>, StorageError> {
    let last = disk
        .last(crate::storage::Table::Data)
        .map_err(|error| StorageError::Io { path: path.to_owned(), error })?;
    Ok(last.map(|(key, _)| Promise { term: 0, index: super::record::index_of(&key).unwrap_or_default() }))
}
