//! openraft's own suite for stores, on the production store: RocksDB, the promised mark, the sync thread.

use std::sync::Arc;

use openraft::testing::log::{StoreBuilder, Suite};
use parking_lot::RwLock;
use tempfile::TempDir;

use super::ledger::Ledger;
use crate::raft::log_store::LogStore;
use crate::raft::open::open;
use crate::raft::state_machine::StateMachine;
use crate::raft::sync;
use crate::raft::types::{Tokio, Types};
use crate::storage::RocksDisk;

type C = Types<Vec<u64>, Tokio>;
type Log = LogStore<Vec<u64>, Tokio, RocksDisk>;
type State = StateMachine<Ledger, Tokio, RocksDisk>;

struct Builder;

/// Ends the sync thread and removes the directory.
struct Guard(Log, #[allow(dead_code)] TempDir);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.syncer().stop();
    }
}

impl StoreBuilder<C, Log, State, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, Log, State), openraft::StorageError<C>> {
        let dir = tempfile::tempdir().expect("dir");
        let opened = open(dir.path(), "suite", 1, Arc::new(RwLock::new(Ledger::default()))).expect("open");
        sync::spawn(opened.log.syncer()).expect("thread");
        Ok((Guard(opened.log.clone(), dir), opened.log, opened.state_machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_passes_the_suite_of_openraft() {
    Suite::test_all(Builder).await.expect("the suite passes");
}
