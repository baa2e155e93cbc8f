//! Ids of members. Members come and go, so that the greatest id of the membership is no longer the last one given: a member that took
//! a removed one's id would be counted as having promised what the removed one did.

use super::{Answer, Apply};
use crate::model::ids::MemberId;
use crate::reply::{Rejection, Reply};
use crate::state::rows::{Admission, Key};

/// Members on their way in at once. More are a start script that loops.
pub const ADMISSIONS_MAX: usize = 16;

impl Apply<'_> {
    /// The next id, above all that were given and all that the leader sees.
    pub(super) fn admit_member(&mut self, admission: Admission, floor: MemberId) -> Answer {
        let members = &mut self.state.members;
        if let Some((id, _)) = members.admissions.iter().find(|(_, a)| a.request == admission.request) {
            return Ok(Reply::Admitted { member: *id });
        }
        if members.admissions.len() >= ADMISSIONS_MAX {
            return Err(Rejection::TooManyAdmissions {
                open: members.admissions.len(),
                limit: ADMISSIONS_MAX,
            });
        }
        // Two members in the place of one would make the group larger behind the operator's back.
        if let Some(member) = admission.replace
            && let Some((by, _)) = members.admissions.iter().find(|(_, a)| a.replace == Some(member))
        {
            return Err(Rejection::ReplacedAlready { member, by: *by });
        }
        let member = MemberId(members.last.max(floor).0 + 1);
        members.last = member;
        members.admissions.insert(member, admission);
        self.touch(Key::Members);
        Ok(Reply::Admitted { member })
    }

    pub(super) fn close_admission(&mut self, member: MemberId, floor: MemberId) -> Answer {
        let members = &mut self.state.members;
        let was_open = members.admissions.remove(&member).is_some();
        if was_open || floor > members.last {
            members.last = members.last.max(floor);
            self.touch(Key::Members);
        }
        Ok(Reply::Done)
    }
}
