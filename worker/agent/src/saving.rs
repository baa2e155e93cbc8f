//! A checkpoint that was stored and of which the log's word is not heard yet: it is said again with each heartbeat until then.

use muster_core::command::{Report, ReportKind};
use muster_core::model::checkpoint::Saved;
use muster_core::model::ids::{IndexRef, Token};

#[derive(Debug, Clone)]
pub struct Saving {
    saved: Saved,
    reported: Option<u64>,
}

impl Saving {
    pub fn new(saved: Saved) -> Self {
        Self { saved, reported: None }
    }

    pub fn step(&self) -> u64 {
        self.saved.step
    }

    /// When it was said last (boot-time clock, ms).
    pub fn reported(&self) -> Option<u64> {
        self.reported
    }

    /// Says it.
    pub fn report(&mut self, token: Token, rank: u32, at: IndexRef, now: u64) -> Report {
        self.reported = Some(now);
        Report { token, rank, at, kind: ReportKind::Saved(self.saved) }
    }
}
