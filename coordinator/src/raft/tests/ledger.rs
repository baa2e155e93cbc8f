//! The machine of the tests: remembers every write once and chains a digest over all it applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::raft::machine::{Applied, Machine, RestoreError, Rows};

/// One write: who and his how manieth.
pub type Write = (u64, u64);

/// What one entry carries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Writes(pub Vec<Write>);

/// What was applied at which index, by anybody, ever.
pub type History = Arc<Mutex<BTreeMap<u64, Vec<Write>>>>;

/// The state.
#[derive(Debug, Default)]
pub struct Ledger {
    pub writes: BTreeMap<Write, u64>,
    pub digest: [u8; 32],
    pub stored: u64,
    pub history: History,
}

const DIGEST: &[u8] = b"digest";

impl Machine for Ledger {
    type Batch = Writes;
    type Replies = Vec<u64>;
    const DIGEST_BELOW: &'static [u8] = &[0xff];

    fn apply(&mut self, index: u64, batch: &Writes, _rows: &dyn Rows) -> Applied<Vec<u64>> {
        let mut history = self.history.lock();
        let known = history.entry(index).or_insert_with(|| batch.0.clone());
        assert_eq!(known, &batch.0, "two members applied different entries at {index}");
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.digest);
        hasher.update(&index.to_be_bytes());
        let mut rows = Vec::new();
        let mut replies = Vec::new();
        for write in &batch.0 {
            hasher.update(&write.0.to_be_bytes());
            hasher.update(&write.1.to_be_bytes());
            let first = *self.writes.entry(*write).or_insert(index);
            replies.push(first);
            let key = [b"w".as_slice(), &write.0.to_be_bytes(), &write.1.to_be_bytes()].concat();
            rows.push((key, Some(first.to_be_bytes().to_vec())));
        }
        self.digest = *hasher.finalize().as_bytes();
        rows.push((DIGEST.to_vec(), Some(self.digest.to_vec())));
        Applied { replies, rows }
    }

    fn stored(&mut self, index: u64) {
        assert!(index >= self.stored);
        self.stored = index;
    }

    fn restore(&mut self, rows: &dyn Rows, applied: u64) -> Result<(), RestoreError> {
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
        self.writes.clear();
        rows.scan(b"w", Some(b"x"), &mut |key, value| {
            self.writes.insert((number(&key[1..9]), number(&key[9..17])), number(value));
            true
        })?;
        self.digest = rows.get(DIGEST)?.map_or([0; 32], |bytes| bytes.try_into().expect("a digest"));
        self.stored = applied;
        Ok(())
    }
}
