//! Checkpoints are committed here, and nowhere else: only of a live attempt, by its token, and only forwards.

use super::Apply;
use crate::command::Report;
use crate::model::checkpoint::Saved;

impl Apply<'_> {
    /// A rank has stored its part of a checkpoint.
    pub(super) fn saved(&mut self, _report: &Report, _saved: &Saved) {}
}
