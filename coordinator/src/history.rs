//! Ended attempts: rows on disk, never in memory, read for `show` and `logs`.

use crate::raft::Rows;
use crate::storage::{keys, rows};
use muster_core::model::ids::{JobId, TaskNo};
use muster_core::state::History;
use std::io;
use std::sync::Arc;

/// Reads ended attempts.
#[derive(Clone)]
pub struct HistoryReader(Arc<dyn Rows>);

impl HistoryReader {
    #[must_use]
    pub fn new(rows: Arc<dyn Rows>) -> Self {
        Self(rows)
    }

    /// Visits the ended attempts of a job, of one task of it, or of one index, by task, index and number, until `each` returns false.
    /// Blocks for the disk.
    ///
    /// # Errors
    /// The disk's; a row that can't be read.
    pub fn visit(
        &self,
        job: JobId,
        task: Option<TaskNo>,
        index: Option<u32>,
        each: &mut dyn FnMut(History) -> bool,
    ) -> io::Result<()> {
        let (from, to) = keys::history_range(job, task, index);
        let mut bad = None;
        self.0.scan(&from, Some(&to), &mut |_, value| match rows::decode::<History>(value) {
            Ok(history) => each(history),
            Err(reason) => {
                bad = Some(reason);
                false
            }
        })?;
        bad.map_or(Ok(()), |reason| Err(io::Error::other(format!("a history row is not readable: {reason}"))))
    }

    /// All of them at once.
    ///
    /// # Errors
    /// As [`HistoryReader::visit`].
    pub fn all(&self, job: JobId, task: Option<TaskNo>, index: Option<u32>) -> io::Result<Vec<History>> {
        let mut found = Vec::new();
        self.visit(job, task, index, &mut |history| {
            found.push(history);
            true
        })?;
        Ok(found)
    }
}
