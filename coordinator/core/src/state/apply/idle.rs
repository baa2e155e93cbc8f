//! Attempts that have GPUs and have computed nothing on them for long: the leader's finding, and what the cluster's rule makes of it.

use super::{Answer, Apply};
use crate::event::Event;
use crate::model::attempt::StopReason;
use crate::model::idle::IdleAction;
use crate::model::ids::Token;
use crate::reply::Reply;
use crate::state::rows::Key;

impl Apply<'_> {
    /// These have computed nothing for `after_ms`. Answers of how many that is news.
    pub(super) fn idle_attempts(&mut self, tokens: &[Token], action: IdleAction, after_ms: u64) -> Answer {
        let mut indices = 0;
        for token in tokens {
            let Some(attempt) = self.state.live.get(token).filter(|attempt| attempt.stop.is_none()) else {
                continue;
            };
            let (at, number) = (attempt.at, attempt.number);
            if let Some(tab) = self.state.ledger.tabs.get_mut(token) {
                tab.idle = Some(self.stamp);
                self.touched.add(Key::Tab(*token));
            }
            match action {
                IdleAction::Warn => false,
                IdleAction::Requeue => self.stop_attempt(*token, StopReason::Idle),
                IdleAction::Kill => self.stop_attempt(*token, StopReason::IdleTooLong),
            };
            self.events.push(Event::AttemptIdle { at, number, token: *token, action, after_ms });
            indices += 1;
        }
        Ok(Reply::Changed { indices })
    }
}
