//! Power fails: of what was not synced anything may be left, in any order (fault matrix, row 4). All that was promised is there, and where
//! it is not the member says so.
//!
//! A running member is copied twice, with more acknowledged writes in the second copy. The promise and the state of the first with the log of
//! the second are a member that lost its power in between: the end of its log is what was written and not yet synced.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::crash::hits;
use super::crash_child::copy;
use super::damage::{Dice, closed};
use super::ledger::{Ledger, Writes};
use super::loopback::{Cluster, propose_many};
use crate::raft::node::{Config, Node, Role, StartError};
use crate::storage::StorageError;

const PROMISED: u64 = 20;
const LATE: u64 = 12;

fn config(dir: &Path) -> Config {
    let mut config = Config::new(dir, "power", 1, "secret");
    (config.heartbeat, config.election) =
        (Duration::from_millis(10), (Duration::from_millis(60), Duration::from_millis(80)));
    config
}

/// Starts a member alone; its writes once it leads and has applied all that it has.
async fn start(dir: &Path) -> Result<usize, StorageError> {
    let machine = Arc::new(RwLock::new(Ledger::default()));
    let node = match Node::start(config(dir), machine.clone()).await {
        Ok(node) => node,
        Err(StartError::Storage(error)) => return Err(error),
        Err(error) => panic!("{error}"),
    };
    leads(&node).await;
    let index = node.confirm_leadership().await.expect("it leads");
    node.wait_applied(index).await.expect("applied");
    let writes = machine.read().writes.len();
    node.shutdown().await;
    drop(node);
    closed(dir).await;
    Ok(writes)
}

async fn leads(node: &Node<Ledger>) {
    let settled = |role| matches!(role, Role::Leader | Role::Stopped);
    let role = node.status().wait_for(|status| settled(status.role)).await.map(|status| status.role);
    assert_eq!(role.expect("it tells"), Role::Leader);
}

/// The newest log of a database that holds something.
fn newest(database: &Path) -> PathBuf {
    let logs = fs::read_dir(database).expect("list").map(|entry| entry.expect("entry").path());
    let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.filter(|path| fs::metadata(path).expect("file").len() > 0).max().expect("a log")
}

/// Makes of `bytes`, somewhere behind `from`, what a power failure may make of them.
fn spoil(bytes: &mut Vec<u8>, from: usize, dice: &mut Dice) -> String {
    let (was, length) = (bytes.clone(), bytes.len());
    let at = from + dice.below((length - from) as u64) as usize;
    let end = (at + 1 + dice.below(4_096) as usize).min(length);
    let way = dice.below(5);
    match way {
        0 => bytes.truncate(at),
        1 => bytes[at..].fill(0),
        2 => bytes[at..end].fill(0),
        3 => bytes[at..].iter_mut().for_each(|byte| *byte = dice.below(256) as u8),
        _ => bytes[at..end].iter_mut().for_each(|byte| *byte = dice.below(256) as u8),
    }
    if bytes.len() == length && bytes[..] == was[..] {
        bytes[at] ^= 0xff;
    }
    format!("way {way} at byte {at} of {length}, {from} of them safe")
}

/// A member that lost its power, in `dir`; how much of its newest log was synced.
async fn lost_power(top: &Path, dir: &Path) -> usize {
    let live = top.join("live");
    let node = Node::start(config(&live), Arc::new(RwLock::new(Ledger::default()))).await.expect("start");
    node.bootstrap([(1, "127.0.0.1:1".to_owned())]).await.expect("bootstrap");
    leads(&node).await;
    for write in 0..PROMISED {
        node.propose(&Writes(vec![(1, write)])).await.expect("acknowledged");
    }
    copy(&live, dir);
    let log = newest(&dir.join("log"));
    let synced = fs::metadata(&log).expect("log").len() as usize;
    for write in PROMISED..PROMISED + LATE {
        node.propose(&Writes(vec![(1, write)])).await.expect("acknowledged");
    }
    fs::copy(live.join("log").join(log.file_name().expect("a name")), &log).expect("copy");
    node.shutdown().await;
    synced
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_holds_all_that_it_promised_whatever_power_left_of_the_rest() {
    let top = tempfile::tempdir().expect("dir");
    let (origin, dir) = (top.path().join("origin"), top.path().join("now"));
    let synced = lost_power(top.path(), &origin).await;
    copy(&origin, &dir);
    assert_eq!(start(&dir).await.expect("whole"), (PROMISED + LATE) as usize, "nothing is damaged yet");
    fs::remove_dir_all(&dir).expect("remove");
    let rounds = if hits() > 1 { 300 } else { 16 };
    let mut shorter = 0;
    for seed in 0..rounds {
        copy(&origin, &dir);
        let dice = &mut Dice(seed);
        let log = newest(&dir.join("log"));
        let mut bytes = fs::read(&log).expect("read");
        let mut how = spoil(&mut bytes, synced, dice);
        fs::write(&log, bytes).expect("write");
        // Of the state nothing was synced since it was opened.
        let state = newest(&dir.join("state"));
        let mut bytes = fs::read(&state).expect("read");
        how += &format!("; the state {}", spoil(&mut bytes, 0, dice));
        fs::write(&state, bytes).expect("write");
        let writes = start(&dir).await.unwrap_or_else(|error| panic!("seed {seed}: {how}: {error}"));
        assert!(writes as u64 >= PROMISED, "seed {seed}: {how}: {writes} writes are left");
        shorter += u64::from((writes as u64) < PROMISED + LATE);
        fs::remove_dir_all(&dir).expect("remove");
    }
    assert!(shorter > rounds / 3, "only {shorter} of {rounds} lost anything: that is no power failure");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_in_what_was_promised_is_refused_with_its_place() {
    let top = tempfile::tempdir().expect("dir");
    let (origin, dir) = (top.path().join("origin"), top.path().join("now"));
    let synced = lost_power(top.path(), &origin).await;
    let rounds = if hits() > 1 { 300 } else { 16 };
    for seed in 0..rounds {
        copy(&origin, &dir);
        let log = newest(&dir.join("log"));
        let whole = fs::read(&log).expect("read");
        // The log as it was synced is followed by more: damage is no end.
        let mut bytes = whole[..synced].to_vec();
        let how = spoil(&mut bytes, 0, &mut Dice(seed));
        if bytes.len() == synced {
            bytes.extend_from_slice(&whole[synced..]);
        }
        fs::write(&log, &bytes).expect("write");
        let error = start(&dir).await.expect_err(&how);
        assert!(
            error.hint().contains("muster cluster restore FILE --data-dir DIR"),
            "seed {seed}: {how}: {error}"
        );
        match &error {
            StorageError::DamagedFile { path, .. } => assert_eq!(*path, log, "seed {seed}: {how}: {error}"),
            // Cut at the border of a record nothing is left to be seen in the file.
            StorageError::LogShorterThanPromised { .. } | StorageError::VoteForgotten { .. } => {}
            _ => panic!("seed {seed}: {how}: {error}"),
        }
        // And it stays refused: what was cut off is not forgotten.
        start(&dir).await.expect_err(&how);
        fs::remove_dir_all(&dir).expect("remove");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_that_lose_power_at_once_come_back_with_all_that_was_acknowledged() {
    super::trace();
    let dir = tempfile::tempdir().expect("dir");
    let mut cluster = Cluster::start(dir.path(), |_| {}).await;
    let leader = cluster.leader(0).await;
    propose_many(cluster.node(leader), 1, 300).await;
    for member in 1..=3 {
        cluster.end(member).await;
    }
    let dice = &mut Dice(7);
    for member in 1..=3_u64 {
        let own = dir.path().join(member.to_string());
        // What was on its way into the log: pages of zeros, of garbage, of an older file.
        let log = newest(&own.join("log"));
        let mut bytes = fs::read(&log).expect("read");
        let old = bytes[..bytes.len().min(4_096)].to_vec();
        bytes.extend(vec![0; 4_096]);
        bytes.extend((0..4_096).map(|_| dice.below(256) as u8));
        bytes.extend(old);
        fs::write(&log, bytes).expect("write");
        // The state was never synced: the second half of its log is gone, on one in the middle only.
        let state = newest(&own.join("state"));
        let mut bytes = fs::read(&state).expect("read");
        let (half, end) = (bytes.len() / 2, if member == 2 { bytes.len() * 3 / 4 } else { bytes.len() });
        bytes[half..end].fill(0);
        fs::write(&state, bytes).expect("write");
    }
    for member in 1..=3 {
        cluster.restart(member, |_| {}).await;
        assert!(
            cluster.node(member).machine().read().writes.len() < 300,
            "the state of {member} lost nothing"
        );
    }
    let leader = cluster.leader(0).await;
    propose_many(cluster.node(leader), 2, 50).await;
    let index = cluster.node(leader).confirm_leadership().await.expect("leads");
    for member in 1..=3 {
        cluster.node(member).wait_applied(index).await.expect("it has all");
        let machine = cluster.node(member).machine();
        let machine = machine.read();
        assert!((0..300).all(|write| machine.writes.contains_key(&(1, write))), "member {member} lost some");
        assert_eq!(machine.writes.len(), 350);
        assert_eq!(machine.digest, cluster.node(leader).machine().read().digest);
    }
    for member in 1..=3 {
        cluster.kill(member).await;
    }
}
