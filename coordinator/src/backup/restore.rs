//! A new cluster of one member from a backup: a new id and a new secret, the old cluster's jobs, none of its members, leases or tokens.
//!
//! All is made beside the data directory and comes into place by one rename, so that a restore that is cut off leaves nothing that starts.

use super::error::BackupError;
use super::read::{Verified, unpack};
use crate::clock::wall_ms;
use crate::leader::LeaderHandle;
use crate::machine::CoreMachine;
use crate::raft::{self, MembershipError, Node, Role};
use crate::security::{Secrets, write_private};
use crate::storage::{Checkpoint, DirLock, Disk, Kind, RocksDisk, StorageError, Table};
use crate::watch::Hub;
use muster_core::command::{Batch, Command};
use muster_core::model::time::{Stamp, Wall};
use parking_lot::RwLock;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The id of the one member. The old cluster's is another cluster: there is nobody to be confused with.
const MEMBER: u64 = 1;
/// In a directory that a restore is filling.
const UNFINISHED: &str = "restore-unfinished";
/// Databases close a moment after the member that used them.
const CLOSE_WITHIN: Duration = Duration::from_secs(20);

/// What to make.
#[derive(Debug, Clone)]
pub struct Restore {
    pub file: PathBuf,
    /// Absent, or empty.
    pub data_dir: PathBuf,
    /// How others will reach the member.
    pub address: String,
    /// None: what the backup says.
    pub store_url: Option<String>,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Restored {
    pub backup: Verified,
    pub cluster_id: String,
    pub member: u64,
    pub user_token: String,
    pub store_url: String,
    pub join_token_file: PathBuf,
}

/// Checks every byte of a backup, then makes the data directory. `progress` hears how many bytes of the file were read.
///
/// # Errors
/// [`BackupError`]; then there is no data directory.
pub async fn restore(
    wanted: Restore,
    progress: impl FnMut(u64) + Send + 'static,
) -> Result<Restored, BackupError> {
    let dir = std::path::absolute(&wanted.data_dir).unwrap_or_else(|_| wanted.data_dir.clone());
    // 1. Nothing of an existing member is touched.
    empty(&dir)?;
    no_mount(&dir)?;
    let staging = staging(&dir)?;
    let made = fill(&wanted, &dir, &staging, progress).await;
    // 2. All of it, or nothing.
    let io = BackupError::io(&dir);
    match made {
        Ok(restored) => {
            fs::remove_file(staging.join(UNFINISHED)).map_err(&io)?;
            File::open(&staging).and_then(|dir| dir.sync_all()).map_err(&io)?;
            // The mark that it is unfinished is gone: what can't be moved goes too, or the next try would find it in the way.
            fs::rename(&staging, &dir).inspect_err(|_| drop(fs::remove_dir_all(&staging))).map_err(&io)?;
            if let Some(parent) = dir.parent() {
                File::open(parent).and_then(|parent| parent.sync_all()).map_err(&io)?;
            }
            Ok(restored)
        }
        Err(error) => {
            if let Err(left) = fs::remove_dir_all(&staging) {
                tracing::warn!(path = %staging.display(), error = %left, "cannot remove what was begun");
            }
            Err(error)
        }
    }
}

/// Unpacks a backup beside `beside` and reads every row of it: what the checksums of the file cannot tell is whether the disk that it
/// was read from was sound. Returns what it holds.
///
/// # Errors
/// [`BackupError`].
pub fn check_rows(file: &Path, beside: &Path, progress: impl FnMut(u64)) -> Result<Verified, BackupError> {
    let mut name = beside.file_name().unwrap_or_default().to_owned();
    name.push(".verifying");
    let dir = beside.with_file_name(name);
    if dir.exists() {
        return Err(BackupError::InTheWay(dir));
    }
    fs::create_dir_all(dir.join("files")).map_err(BackupError::io(&dir))?;
    let checked = unpack(file, dir.join("files"), progress).and_then(|(verified, files)| {
        complete(&files, file)?;
        read_all(&RocksDisk::open(files.path(), Kind::State)?, file)?;
        Ok(verified)
    });
    fs::remove_dir_all(&dir).map_err(BackupError::io(&dir))?;
    checked
}

fn empty(dir: &Path) -> Result<(), BackupError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(BackupError::NotEmpty(dir.to_owned())),
            None => Ok(()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(BackupError::Io { path: dir.to_owned(), error }),
    }
}

/// What is made beside a mount point can't be moved into its place.
fn no_mount(dir: &Path) -> Result<(), BackupError> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    match (device(dir), dir.parent().and_then(device)) {
        (Some(own), Some(above)) if own != above => Err(BackupError::MountPoint(dir.to_owned())),
        _ => Ok(()),
    }
}

/// A fresh directory beside `dir`; what a restore that was cut off left there goes.
fn staging(dir: &Path) -> Result<PathBuf, BackupError> {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".restoring");
    let staging = dir.with_file_name(name);
    let io = BackupError::io(&staging);
    if staging.exists() {
        if !staging.join(UNFINISHED).exists() {
            return Err(BackupError::InTheWay(staging));
        }
        fs::remove_dir_all(&staging).map_err(&io)?;
    }
    if let Some(parent) = staging.parent() {
        fs::create_dir_all(parent).map_err(&io)?;
    }
    private_dir(&staging).map_err(&io)?;
    File::create_new(staging.join(UNFINISHED)).map_err(&io)?;
    Ok(staging)
}

fn private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path)
}

async fn fill(
    wanted: &Restore,
    dir: &Path,
    staging: &Path,
    progress: impl FnMut(u64) + Send + 'static,
) -> Result<Restored, BackupError> {
    let secrets = Secrets::generate();
    // 1. The files, every byte checked before it is used; then the rows in them, all of them.
    let (file, copy) = (wanted.file.clone(), staging.join("copy"));
    private_dir(&copy).map_err(BackupError::io(&copy))?;
    let (cluster, address) = (secrets.cluster_id.clone(), wanted.address.clone());
    let unpacked = tokio::task::spawn_blocking(move || {
        let (verified, files) = unpack(&file, copy, progress)?;
        let disk = RocksDisk::open(files.path(), Kind::State)?;
        read_all(&disk, &file)?;
        raft::adopt(&disk, &cluster, MEMBER, &address).map_err(BackupError::io(files.path()))?;
        Ok::<_, BackupError>((verified, files))
    });
    let (backup, files) = unpacked.await.map_err(|error| BackupError::Io {
        path: staging.to_owned(),
        error: std::io::Error::other(error),
    })??;
    let store_url = wanted.store_url.clone().unwrap_or_else(|| backup.head.store_url.clone());
    // 2. A member whose state this is. Nobody can reach it yet.
    let config = raft::Config::new(staging, &secrets.cluster_id, MEMBER, secrets.cluster.member_token());
    let (leader, _inputs) = LeaderHandle::channel();
    let machine = Arc::new(RwLock::new(CoreMachine::new(Arc::new(Hub::default()), leader)));
    let node = Node::start(config, machine.clone()).await?;
    node.install(files).await?;
    let mut status = node.status();
    let leads = status.wait_for(|status| matches!(status.role, Role::Leader | Role::Stopped)).await;
    if !leads.is_ok_and(|status| status.role == Role::Leader) {
        return Err(MembershipError::Fatal { reason: "it does not lead".to_owned() }.into());
    }
    // 3. Its first entry ends what the old cluster granted.
    let stamp = Stamp { wall: Wall(wall_ms()), tick: machine.read().state().tick() };
    node.propose(&Batch { stamp, commands: vec![Command::Restored] }).await?;
    node.shutdown().await;
    drop((node, machine));
    closed(staging).await?;
    // 4. Who it is.
    secrets.store(staging)?;
    write_private(&staging.join("store-url"), &store_url)?;
    secrets.write_join_token(staging, u64::try_from(wall_ms() / 1_000).unwrap_or_default())?;
    Ok(Restored {
        backup,
        member: MEMBER,
        user_token: secrets.user_token(),
        cluster_id: secrets.cluster_id,
        store_url,
        join_token_file: dir.join("join-token"),
    })
}

/// Compares the digest of the rows with the one that was stored with them: a copy that misses some is no backup.
fn complete(files: &Checkpoint, file: &Path) -> Result<(), BackupError> {
    raft::check_copy::<CoreMachine, RocksDisk>(files)
        .map_err(|error| BackupError::Unpack { path: file.to_owned(), reason: error.to_string() })
}

/// Reads every row, history too: a block that went bad on the disk where the backup was made is found here, not in a week.
fn read_all(disk: &RocksDisk, file: &Path) -> Result<(), BackupError> {
    disk.scan(Table::Data, &[], None, &mut |_, _| true)
        .map_err(|error| BackupError::Unpack { path: file.to_owned(), reason: error.to_string() })
}

/// Waits until the member that used `dir` has closed its databases: it lets go of the lock after them.
async fn closed(dir: &Path) -> Result<(), BackupError> {
    let deadline = Instant::now() + CLOSE_WITHIN;
    loop {
        match DirLock::take(dir) {
            Ok(_) => return Ok(()),
            Err(StorageError::Locked { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
