//! A member that lost acknowledged entries, or holds other entries than it wrote, does not start.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;

use super::ledger::{Ledger, Writes};
use crate::raft::node::{Config, Node, StartError};
use crate::raft::record;
use crate::storage::{Change, Disk, Kind, RocksDisk, StorageError, Table};

fn machine() -> Arc<RwLock<Ledger>> {
    Arc::new(RwLock::new(Ledger::default()))
}

/// A stopped member that was alone in its cluster and acknowledged `writes` writes.
async fn member_with(dir: &Path, writes: u64) -> Config {
    let config = Config::new(dir, "c", 1, "secret");
    let node = Node::start(config.clone(), machine()).await.expect("start");
    node.bootstrap([(1, "127.0.0.1:1".to_owned())]).await.expect("bootstrap");
    node.status().wait_for(|status| status.role == crate::raft::Role::Leader).await.expect("it leads");
    for write in 0..writes {
        node.propose(&Writes(vec![(1, write)])).await.expect("propose");
    }
    node.shutdown().await;
    config
}

/// Starts, closes the databases again, and says what came of it.
async fn restart(config: &Config) -> Result<usize, StorageError> {
    let machine = machine();
    match Node::start(config.clone(), machine.clone()).await {
        Ok(node) => {
            let writes = machine.read().writes.len();
            node.shutdown().await;
            Ok(writes)
        }
        Err(StartError::Storage(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

/// Changes the log of a stopped member behind its back.
fn tamper(config: &Config, change: impl FnOnce(&RocksDisk) -> Vec<Change>) {
    let disk = RocksDisk::open(&config.dir.join("log"), Kind::Log).expect("open");
    let changes = change(&disk);
    disk.write(changes).expect("write");
    disk.sync().expect("sync");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_restarts_with_all_that_it_acknowledged() {
    let dir = tempfile::tempdir().expect("dir");
    let config = member_with(dir.path(), 20).await;
    assert_eq!(restart(&config).await.expect("restarts"), 20);
    fs::remove_dir_all(dir.path().join("state")).expect("the state alone is rebuilt from the log");
    restart(&config).await.expect("restarts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_ends_before_the_promised_mark_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let config = member_with(dir.path(), 20).await;
    fs::remove_dir_all(dir.path().join("state")).expect("remove");
    tamper(&config, |disk| {
        let (key, _) = disk.last(Table::Data).expect("read").expect("an entry");
        vec![Change::Delete(Table::Data, key)]
    });
    let error = restart(&config).await.expect_err("refused");
    let StorageError::LogShorterThanPromised { last, promised, .. } = &error else { panic!("{error}") };
    assert_eq!(last.index + 1, promised.index);
    assert!(error.hint().contains("join as a new member"));

    // The whole log lost: nothing is made in its place.
    fs::remove_dir_all(dir.path().join("log")).expect("remove");
    let error = restart(&config).await.expect_err("refused");
    assert!(matches!(&error, StorageError::Missing { path } if path.ends_with("log/CURRENT")), "{error}");
    assert!(!dir.path().join("log/CURRENT").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_vote_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let config = member_with(dir.path(), 3).await;
    let mut saved = None;
    tamper(&config, |disk| {
        saved = disk.get(Table::Meta, b"vote").expect("read");
        vec![Change::Delete(Table::Meta, b"vote".to_vec())]
    });
    let error = restart(&config).await.expect_err("refused");
    assert!(matches!(error, StorageError::VoteForgotten { .. }), "{error}");
    tamper(&config, |_| vec![Change::Put(Table::Meta, b"vote".to_vec(), saved.expect("it voted"))]);
    assert_eq!(restart(&config).await.expect("whole again"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_was_changed_or_lost_is_found_and_the_log_makes_the_state_again() {
    let dir = tempfile::tempdir().expect("dir");
    let config = member_with(dir.path(), 20).await;
    let key = [b"w".as_slice(), &1_u64.to_be_bytes(), &7_u64.to_be_bytes()].concat();
    for change in [Change::Delete(Table::Data, key.clone()), Change::Put(Table::Data, key, vec![0; 8])] {
        let disk = RocksDisk::open(&config.dir.join("state"), Kind::State).expect("open");
        disk.write(vec![change]).expect("write");
        drop(disk);
        let restarted = Node::start(config.clone(), machine()).await.expect("made again");
        restarted
            .status()
            .wait_for(|status| status.role == crate::raft::Role::Leader)
            .await
            .expect("it leads");
        let index = restarted.confirm_leadership().await.expect("it leads");
        restarted.wait_applied(index).await.expect("applied");
        assert_eq!(restarted.machine().read().writes.len(), 20);
        restarted.shutdown().await;
        assert!(config.dir.join("state.damaged").exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_mark_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let config = member_with(dir.path(), 3).await;
    fs::remove_file(dir.path().join("promised")).expect("remove");
    let error = restart(&config).await.expect_err("refused");
    assert!(matches!(&error, StorageError::Missing { path } if path.ends_with("promised")), "{error}");

    // All but the name is gone: it may not begin anew under it.
    for name in ["log", "state"] {
        fs::remove_dir_all(dir.path().join(name)).expect("remove");
    }
    assert!(matches!(restart(&config).await, Err(StorageError::Missing { .. })));
    // And without its name it is nobody.
    let dir = tempfile::tempdir().expect("dir");
    let config = member_with(dir.path(), 3).await;
    fs::remove_file(dir.path().join("member.toml")).expect("remove");
    let error = restart(&config).await.expect_err("refused");
    assert!(matches!(&error, StorageError::Missing { path } if path.ends_with("member.toml")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_entry_and_one_that_does_not_follow_are_found_at_start() {
    let dir = tempfile::tempdir().expect("dir");
    let config = member_with(dir.path(), 20).await;
    let mut saved = Vec::new();
    tamper(&config, |disk| {
        saved = disk.get(Table::Data, &record::key(9)).expect("read").expect("entry 9");
        let mut bent = saved.clone();
        bent[40] ^= 1;
        vec![Change::Put(Table::Data, record::key(9), bent)]
    });
    assert!(matches!(restart(&config).await, Err(StorageError::DamagedEntry { index: 9, .. })));

    // A whole entry with a right checksum, but with another past.
    tamper(&config, |_| {
        let read = record::decode(9, &saved).expect("whole");
        let (other, _) = record::encode(&read.entry, &[7; 32]).expect("encode");
        vec![Change::Put(Table::Data, record::key(9), other)]
    });
    assert!(matches!(restart(&config).await, Err(StorageError::DamagedEntry { index: 9, .. })));

    tamper(&config, |_| vec![Change::Delete(Table::Data, record::key(9))]);
    assert!(matches!(restart(&config).await, Err(StorageError::DamagedEntry { index: 10, .. })));

    tamper(&config, |_| vec![Change::Put(Table::Data, record::key(9), saved.clone())]);
    assert_eq!(restart(&config).await.expect("whole again"), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_another_member_and_a_second_process_are_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let config = member_with(dir.path(), 1).await;
    let other = Config { cluster: "d".into(), ..config.clone() };
    assert!(matches!(restart(&other).await, Err(StorageError::OtherCluster { .. })));
    let other = Config { member: 2, ..config.clone() };
    assert!(matches!(restart(&other).await, Err(StorageError::OtherMember { .. })));
    let node = Node::start(config.clone(), machine()).await.expect("start");
    assert!(matches!(restart(&config).await, Err(StorageError::Locked { .. })));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_format_is_refused_wherever_it_stands() {
    let dir = tempfile::tempdir().expect("dir");
    let config = member_with(dir.path(), 3).await;
    let known = crate::storage::FORMAT;

    // In the directory.
    let file = dir.path().join("member.toml");
    let right = fs::read_to_string(&file).expect("read");
    let newer = right.replace(&format!("format = {known}"), &format!("format = {}", known + 1));
    assert_ne!(right, newer);
    fs::write(&file, newer).expect("write");
    let error = restart(&config).await.expect_err("refused");
    assert!(
        matches!(&error, StorageError::NewerFormat { path, found, .. } if *path == file && *found == known + 1),
        "{error}"
    );
    assert!(error.hint().contains("binary at least as new"));
    fs::write(&file, right).expect("write");

    // In the state, as a snapshot of a newer member would bring it; and the same with a state of another cluster.
    let set = |key: &[u8], value: &[u8]| {
        let disk = RocksDisk::open(&config.dir.join("state"), Kind::State).expect("open");
        let before = disk.get(Table::Meta, key).expect("read").expect("it is there");
        disk.write(vec![Change::Put(Table::Meta, key.to_vec(), value.to_vec())]).expect("write");
        disk.sync().expect("sync");
        before
    };
    let right = set(b"format", &(known + 1).to_be_bytes());
    assert!(matches!(restart(&config).await, Err(StorageError::NewerFormat { .. })));
    set(b"format", &right);
    let right = set(b"cluster", b"another");
    assert!(matches!(restart(&config).await, Err(StorageError::OtherCluster { .. })));
    set(b"cluster", &right);

    // In an entry of the log.
    let mut saved = Vec::new();
    tamper(&config, |disk| {
        let (key, record) = disk.last(Table::Data).expect("read").expect("an entry");
        saved.clone_from(&record);
        let newer = record::of_newer(record::index_of(&key).expect("an index"), &record);
        vec![Change::Put(Table::Data, key, newer)]
    });
    let error = restart(&config).await.expect_err("refused");
    assert!(matches!(error, StorageError::NewerEntry { .. }), "{error}");
    assert!(error.hint().contains("binary at least as new"));
    tamper(&config, |disk| {
        let (key, _) = disk.last(Table::Data).expect("read").expect("an entry");
        vec![Change::Put(Table::Data, key, saved.clone())]
    });
    assert_eq!(restart(&config).await.expect("whole again"), 3);
}
