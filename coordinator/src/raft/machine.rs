//! [`Machine`]: what is replicated. The log hands it one batch after another, in the same order on every member.

use std::fmt::Debug;
use std::io;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version byte in front of an encoded batch. An entry of a newer version stops the member: it is never skipped.
pub const BATCH_VERSION: u8 = 1;

/// What came out of applying one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied<R> {
    /// For the caller, who hears it once the rows are in the store.
    pub replies: R,
    /// The rows touched, with their new value; none deletes the row. Written in one piece with the log position.
    pub rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Read access to the rows in the store.
pub trait Rows: Send + Sync {
    /// The value of a row.
    ///
    /// # Errors
    /// The disk's.
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Visits rows in key order from `from` (inclusive) to `to` (exclusive; none means to the end) until `each` returns false.
    ///
    /// # Errors
    /// The disk's.
    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> io::Result<()>;
}

/// Why the state cannot be rebuilt from its rows.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("cannot read the rows: {0}")]
    Io(#[from] io::Error),
    #[error("row {key:02x?} is not readable: {reason}")]
    BadRow { key: Vec<u8>, reason: String },
}

/// A deterministic state, fed by the log.
///
/// It lives behind `Arc<RwLock<M>>`, so that others read it; each call below holds the lock for its own duration only.
pub trait Machine: Send + Sync + 'static {
    /// What one log entry carries.
    type Batch: Serialize + DeserializeOwned + Debug + Send + Sync + 'static;
    /// What the proposer hears.
    type Replies: Answer;

    /// Rows whose key is below this are read at every start and make up the state's digest. Those above may be many.
    const DIGEST_BELOW: &'static [u8];

    /// Applies a batch. Total: a bad command is a reply. `rows` shows the state as of the entry before, and only when
    /// [`Machine::needs_rows`] said so; otherwise recent rows may be missing from it.
    fn apply(&mut self, index: u64, batch: &Self::Batch, rows: &dyn Rows) -> Applied<Self::Replies>;

    /// Whether applying this batch reads rows that are not in memory.
    fn needs_rows(&self, _batch: &Self::Batch) -> bool {
        false
    }

    /// Called once the rows of all entries through `index` are in the store, before the callers hear their replies.
    fn stored(&mut self, _index: u64) {}

    /// Forgets everything and rebuilds the state from its rows, as of log index `applied`. Called at start and when a snapshot
    /// replaced the store.
    ///
    /// # Errors
    /// Rows that cannot be read. The member stops.
    fn restore(&mut self, rows: &dyn Rows, applied: u64) -> Result<(), RestoreError>;
}

/// What a reply must be able to do.
pub trait Answer: Serialize + DeserializeOwned + Debug + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Debug + Send + Sync + 'static> Answer for T {}

/// A batch as it travels and is stored.
///
/// # Errors
/// Those of postcard.
pub fn encode<B: Serialize>(batch: &B) -> Result<Bytes, postcard::Error> {
    postcard::to_extend(batch, vec![BATCH_VERSION]).map(Bytes::from)
}

/// Reads a batch back.
///
/// # Errors
/// Bytes of another version or not a batch at all.
pub fn decode<B: DeserializeOwned>(bytes: &[u8]) -> io::Result<B> {
    match bytes.split_first() {
        Some((&BATCH_VERSION, rest)) => postcard::from_bytes(rest).map_err(io::Error::other),
        Some((version, _)) => Err(io::Error::other(format!(
            "a log entry has version {version}; this binary knows {BATCH_VERSION}: start a newer one"
        ))),
        None => Err(io::Error::other("a log entry is empty")),
    }
}
