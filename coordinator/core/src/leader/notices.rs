//! Machines that go: what workers say of theirs is proposed.

use super::io::SessionId;
use super::step::Leader;
use crate::model::notice::Notice;

impl Leader {
    /// A worker says that its machine goes, or stays.
    pub(super) fn notice_came(&mut self, session: SessionId, notice: Notice) {
        let Some(from) = self.sessions.get(&session).filter(|_| self.term.is_some()) else { return };
        self.notices.insert(from.worker, notice);
    }
}
