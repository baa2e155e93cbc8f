//! Files of a stopped member are damaged from a seed: it refuses them and says what to do, or it serves all that it acknowledged
//! (fault matrix, rows 5 and 6). Never anything between. `MUSTER_SCALE=full` does 1,000.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::crash::{alone, hits};
use super::crash_child::{Process, copy};
use super::ledger::Ledger;
use crate::raft::node::{Config, Node, Role, StartError};
use crate::storage::{DirLock, Kind, RocksDisk, StorageError};

/// A small deterministic generator (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

/// Starts of the member that is damaged, and its writes in each.
const LIVES: u64 = 4;
const WRITES: u64 = 60;

/// What a file is to the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum File {
    Wal,
    Table,
    Manifest,
    Current,
    Promised,
    Member,
}

pub const FILES: [File; 6] =
    [File::Wal, File::Table, File::Manifest, File::Current, File::Promised, File::Member];

fn kind(path: &Path) -> Option<File> {
    let name = path.file_name()?.to_str()?;
    match name {
        "CURRENT" => Some(File::Current),
        "promised" => Some(File::Promised),
        "member.toml" => Some(File::Member),
        _ if name.starts_with("MANIFEST-") => Some(File::Manifest),
        _ if name.ends_with(".sst") => Some(File::Table),
        _ if name.ends_with(".log") => Some(File::Wal),
        _ => None,
    }
}

/// All files of these kinds in a data directory, those that hold something.
fn files(dir: &Path) -> BTreeMap<File, Vec<PathBuf>> {
    let mut found: BTreeMap<File, Vec<PathBuf>> = BTreeMap::new();
    for part in [dir.to_owned(), dir.join("log"), dir.join("state")] {
        for entry in fs::read_dir(part).expect("list") {
            let path = entry.expect("entry").path();
            if let Some(kind) = kind(&path).filter(|_| fs::metadata(&path).is_ok_and(|file| file.len() > 0)) {
                found.entry(kind).or_default().push(path);
            }
        }
    }
    found.values_mut().for_each(|paths| paths.sort());
    found
}

/// Damages one file of `kind` in `dir`; says how.
pub fn damage(dir: &Path, kind: File, dice: &mut Dice) -> String {
    let all = files(dir);
    let paths = &all[&kind];
    let path = &paths[dice.below(paths.len() as u64) as usize];
    let mut bytes = fs::read(path).expect("read");
    let length = bytes.len() as u64;
    let how = match dice.below(6) {
        0 => {
            fs::remove_file(path).expect("remove");
            return format!("{} removed", path.display());
        }
        1 => {
            let to = dice.below(length);
            bytes.truncate(to as usize);
            format!("cut from {length} to {to}")
        }
        2 => {
            // Torn: what was written last is there in part, and garbage follows.
            let torn = 1 + dice.below(length.min(200));
            for at in length - torn..length - torn / 2 {
                bytes[at as usize] = dice.below(256) as u8;
            }
            bytes.truncate((length - torn / 2) as usize);
            format!("torn {torn} before the end")
        }
        3 => {
            let page = dice.below(length.div_ceil(4096)) * 4096;
            bytes[page as usize..(page + 4096).min(length) as usize].fill(0);
            format!("a page of zeros at {page}")
        }
        _ => {
            let mut bits = Vec::new();
            for _ in 0..1 + dice.below(3) {
                let bit = dice.below(length * 8);
                bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
                bits.push(bit);
            }
            format!("bits {bits:?} flipped")
        }
    };
    fs::write(path, bytes).expect("write");
    format!("{} {how}", path.display())
}

fn config(dir: &Path) -> Config {
    let mut config = Config::new(dir, "crash", 1, "secret");
    (config.snapshot_entries, config.keep_entries) = (60, 10);
    (config.heartbeat, config.election) =
        (Duration::from_millis(10), (Duration::from_millis(60), Duration::from_millis(80)));
    config
}

/// What a start came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It did not begin: the message and the hint.
    Refused(String),
    /// It ended by itself.
    Stopped,
    /// It serves: writes and digest.
    Serves(usize, [u8; 32]),
}

/// Starts a member alone, reads all that it has, looks at every block, and ends it.
async fn start(dir: &Path) -> Outcome {
    let machine = Arc::new(RwLock::new(Ledger::default()));
    let node = match Node::start(config(dir), machine.clone()).await {
        Ok(node) => node,
        Err(StartError::Storage(error)) => {
            return Outcome::Refused(format!("{error} hint: {}", error.hint()));
        }
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let settled = |role| matches!(role, Role::Leader | Role::Stopped);
    let role = node.status().wait_for(|status| settled(status.role)).await.map(|status| status.role);
    if role.is_ok_and(|role| role == Role::Stopped) {
        return Outcome::Stopped;
    }
    let index = node.confirm_leadership().await;
    let applied = match index {
        Ok(index) => node.wait_applied(index).await,
        Err(error) => Err(error),
    };
    let seen = {
        let machine = machine.read();
        Outcome::Serves(machine.writes.len(), machine.digest)
    };
    node.shutdown().await;
    drop(node);
    if applied.is_err() {
        return Outcome::Stopped;
    }
    // What the member looks through in the background, now.
    let lock = closed(dir).await;
    for (name, kind) in [("log", Kind::Log), ("state", Kind::State)] {
        let verified = RocksDisk::recover(&dir.join(name), kind, &lock)
            .map_err(|error| error.to_string())
            .and_then(|disk| disk.links().and_then(|links| disk.verify(&links)).map_err(|e| e.to_string()));
        if verified.is_err() {
            return Outcome::Stopped;
        }
    }
    seen
}

/// Waits until the member that used `dir` has closed its files: whoever still holds them lets go in a moment.
pub async fn closed(dir: &Path) -> Arc<DirLock> {
    loop {
        match DirLock::take(dir) {
            Err(StorageError::Locked { .. }) => tokio::task::yield_now().await,
            taken => return taken.expect("lock"),
        }
    }
}

/// A member with all kinds of files: tables, logs, snapshots behind it. Made by processes, which leave nothing open at their end.
fn whole(dir: &Path) {
    // Opened anew, what is in the write-ahead log goes into a table.
    for life in 1..=LIVES {
        let process = Process::start(&alone(dir, life, WRITES), "");
        assert!(process.acknowledges(WRITES as usize));
        process.stop();
    }
    assert_eq!(files(dir).len(), FILES.len(), "{:?}", files(dir));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_member_says_so_or_holds_everything() {
    let top = tempfile::tempdir().expect("dir");
    let origin = top.path().join("whole");
    whole(&origin);
    let undamaged = top.path().join("undamaged");
    copy(&origin, &undamaged);
    let served = start(&undamaged).await;
    assert!(matches!(served, Outcome::Serves(writes, _) if writes as u64 == LIVES * WRITES), "{served:?}");
    let (mut refused, mut stopped, mut harmless) = (0, 0, 0);
    let rounds = if hits() > 1 { 1_000 } else { 60 };
    for seed in 0..rounds {
        let dir = top.path().join("now");
        copy(&origin, &dir);
        let kind = FILES[(seed % FILES.len() as u64) as usize];
        let how = damage(&dir, kind, &mut Dice(seed));
        // A start that hangs would be neither.
        let outcome = tokio::time::timeout(Duration::from_secs(60), start(&dir)).await.expect(&how);
        match &outcome {
            Outcome::Refused(text) => {
                let file = dir.join(if text.contains("/state") { "state" } else { "" });
                assert!(text.contains(&*file.to_string_lossy()), "seed {seed}: {how}: {text}");
                assert!(
                    text.contains("muster cluster restore FILE --data-dir DIR"),
                    "seed {seed}: {how}: {text}"
                );
                refused += 1;
            }
            Outcome::Stopped => stopped += 1,
            // Nothing is between: all of it, or nothing.
            served_now => {
                assert_eq!(*served_now, served, "seed {seed}: {how}: something is lost and nobody says so");
                harmless += 1;
            }
        }
        fs::remove_dir_all(&dir).expect("remove");
    }
    assert!(refused > rounds / 3, "{refused} refused, {stopped} stopped, {harmless} harmless");
}
