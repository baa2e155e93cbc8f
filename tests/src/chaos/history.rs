//! What clients called and what they heard: one entry a call, however often it was repeated with its request id. For the judges, and for
//! people: as JSON lines it can be judged again by other programs.

use super::sys::monotonic_ns;
use muster_sim::linearize::{Answered, Operation};
use muster_sim::register::{JobAnswer, JobCall};
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};

/// Calls on jobs, judged by [`muster_sim::register::JobRegister`].
pub type JobOp = Operation<JobCall, JobAnswer>;

/// Calls on a latch: a job that never runs, of which only hold and release change something.
pub type LatchOp = Operation<LatchCall, LatchAnswer>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatchCall {
    Hold,
    Release,
    Look,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatchAnswer {
    Done,
    Seen { held: bool },
}

/// Both histories, as they grow.
#[derive(Debug, Default)]
pub struct History {
    pub jobs: Book<JobCall, JobAnswer>,
    pub latches: Book<LatchCall, LatchAnswer>,
}

/// A growing history.
#[derive(Debug)]
pub struct Book<Op, Output>(Mutex<Vec<Operation<Op, Output>>>);

impl<Op, Output> Default for Book<Op, Output> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

/// A place in a book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry(usize);

impl<Op: Clone, Output: Clone> Book<Op, Output> {
    /// Before the call is made for the first time.
    pub fn invoke(&self, client: u64, key: &str, op: Op) -> Entry {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.push(Operation { client, key: key.to_owned(), op, invoked: monotonic_ns(), answered: None });
        Entry(book.len() - 1)
    }

    /// After the answer has come.
    pub fn answer(&self, entry: Entry, output: Output) {
        let at = monotonic_ns();
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book[entry.0].answered = Some(Answered { at, output });
    }

    /// All of it.
    #[must_use]
    pub fn all(&self) -> Vec<Operation<Op, Output>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
