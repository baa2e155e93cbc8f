//! Machines that are said to go.

use super::{Answer, Apply};
use crate::model::ids::WorkerId;
use crate::model::notice::Notice;
use crate::model::worker::Incarnation;
use crate::reply::{Rejection, Reply};

impl Apply<'_> {
    /// The worker is under this notice from now on, or under none.
    pub(super) fn notice(
        &mut self,
        id: WorkerId,
        _incarnation: Option<&Incarnation>,
        _notice: &Notice,
    ) -> Answer {
        self.state.workers.get(&id).ok_or(Rejection::NoWorker(id))?;
        Ok(Reply::Done)
    }
}
