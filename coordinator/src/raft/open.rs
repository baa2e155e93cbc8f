//! Opens a member's data directory in order, and refuses one that must not vote or serve.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use openraft::AsyncRuntime;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::log_store::{LogStore, Open};
use super::machine::Machine;
use super::state_machine::StateMachine;
use crate::storage::{
    Cut, DirLock, Disk, FileMark, Kind, Mark, MemberFile, Promise, RocksDisk, StorageError, Table,
};

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
/// A directory of another member or cluster, of a newer format, in use, damaged, whose log ends before what the member has
/// promised, or from which something is missing.
pub fn open<M: Machine, R: AsyncRuntime>(
    dir: &Path,
    cluster: &str,
    member: u64,
    machine: Arc<RwLock<M>>,
) -> Result<Opened<M, R>, StorageError> {
    // 1. For itself, before anything is looked at or repaired. Then whose it is, and whether it was used before: then nothing that is
    //    missing is made anew.
    fs::create_dir_all(dir).map_err(|error| StorageError::Io { path: dir.to_owned(), error })?;
    let lock = DirLock::take(dir)?;
    let (log_path, state_path, mark_path) = (dir.join("log"), dir.join("state"), dir.join("promised"));
    let identity = MemberFile::claim(dir, cluster, member)?;
    let found = FileMark::open(&mark_path)?;
    if found.is_none() && identity.started {
        return Err(StorageError::Missing { path: mark_path });
    }
    // 2. The log, and that it holds all that this member ever promised.
    let log_disk = Arc::new(match &found {
        Some(_) => RocksDisk::recover_existing(&log_path, Kind::Log, &lock)?,
        None => RocksDisk::recover(&log_path, Kind::Log, &lock)?,
    });
    let mark: Arc<dyn Mark> = Arc::new(match found {
        Some(mark) => mark,
        None => {
            // Only a member that never wrote may lack its mark.
            check_unused(&log_disk, &log_path, &mark_path)?;
            FileMark::create(&mark_path)?
        }
    });
    if !identity.started {
        identity.start(dir)?;
    }
    let state: Arc<OnceLock<Arc<RocksDisk>>> = Arc::default();
    let synced = state.clone();
    let sync_state = Box::new(move || synced.get().map_or(Ok(()), |state| state.sync()));
    let log = LogStore::open(
        Open { disk: log_disk.clone(), mark: mark.clone(), sync_state, wake: None },
        &log_path,
    )?;
    let promised = mark.get();
    // What is cut off at a hole was not promised, or the hole is damage.
    let refuse = |otherwise: StorageError| match log_disk.cut() {
        Some(Cut { hole, .. }) => {
            tracing::error!(reason = %otherwise, "what was cut off the log had been promised");
            StorageError::DamagedFile { path: hole.path.clone(), offset: hole.offset, reason: hole.reason }
        }
        None => otherwise,
    };
    if let Some(promised) = promised.entry {
        let last = log.last().unwrap_or_default();
        check_promise(last, promised).map_err(|()| {
            let (log, mark) = (log_path.clone(), mark_path.clone());
            refuse(StorageError::LogShorterThanPromised { log, mark, last, promised })
        })?;
    }
    if let Some(promised) = promised.vote
        && !log.vote().is_some_and(|vote| vote.covers(promised))
    {
        return Err(refuse(StorageError::VoteForgotten { log: log_path, mark: mark_path, promised }));
    }
    // 3. The state, made again where the log alone can make it.
    let (disk, state_machine) = open_state(&state_path, &log_path, &log, &lock, cluster, machine)?;
    let _ = state.set(disk.clone());
    let applied = state_machine.progress();
    Ok(Opened { state: disk, log, state_machine, applied })
}

/// Whether a log that ends at `last` still holds all that was promised.
///
/// # Errors
/// It does not.
#[allow(clippy::result_unit_err)] // the caller alone knows the files that the refusal names
pub fn check_promise(last: Promise, promised: Promise) -> Result<(), ()> {
    if last < promised { Err(()) } else { Ok(()) }
}

/// Whether nothing was ever written to this log.
fn check_unused(disk: &RocksDisk, path: &Path, mark: &Path) -> Result<(), StorageError> {
    let io = |error| StorageError::Io { path: path.to_owned(), error };
    let used = disk.last(Table::Data).map_err(io)?.is_some() || disk.last(Table::Meta).map_err(io)?.is_some();
    if used { Err(StorageError::Missing { path: mark.to_owned() }) } else { Ok(()) }
}

type State<M, R> = (Arc<RocksDisk>, StateMachine<M, R, RocksDisk>);

/// Opens `state/` and checks that the log goes on where it ends. A damaged or missing one is made again from a log that was never
/// purged; from another log it cannot be.
fn open_state<M: Machine, R: AsyncRuntime>(
    path: &Path,
    log_path: &Path,
    log: &LogStore<M::Replies, R, RocksDisk>,
    lock: &Arc<DirLock>,
    cluster: &str,
    machine: Arc<RwLock<M>>,
) -> Result<State<M, R>, StorageError> {
    let open = |make: bool| -> Result<State<M, R>, StorageError> {
        let disk = if make {
            RocksDisk::recover(path, Kind::State, lock)
        } else {
            RocksDisk::recover_existing(path, Kind::State, lock)
        };
        let disk = Arc::new(disk?);
        let state = StateMachine::open(disk.clone(), machine.clone(), cluster, path)?;
        let applied = state.applied().map_or(0, |applied| applied.index);
        let next = state.applied().map_or(0, |applied| applied.index + 1);
        if log.begins() > next {
            let (path, begins) = (path.to_owned(), log.begins());
            return Err(StorageError::StateBehind { path, log: log_path.to_owned(), applied, begins });
        }
        Ok((disk, state))
    };
    let fresh = log.last().is_none() && !path.exists();
    match open(fresh) {
        Err(error) if error.is_damage() && !log.is_purged() => {
            let aside = path.with_file_name("state.damaged");
            tracing::warn!(%error, kept = %aside.display(), "the state is made again from the log, which is whole");
            set_aside(path, &aside).map_err(|error| StorageError::Io { path: path.to_owned(), error })?;
            open(true)
        }
        opened => opened,
    }
}

/// Keeps the newest damaged store, for whoever wants to know what happened.
fn set_aside(path: &Path, aside: &Path) -> std::io::Result<()> {
    if aside.exists() {
        fs::remove_dir_all(aside)?;
    }
    if path.exists() {
        fs::rename(path, aside)?;
    }
    Ok(())
}
