//! The journal: what it held at the start, and what a turn writes into it.

use super::Hands;
use crate::journal::Record;
use crate::run::attempt::{Kept, Local, Phase, Result3};
use muster_agent::{Action, Journaled, StartOrder};
use muster_failpoint::{Point, pass};

impl Hands {
    /// What the journal holds, for the agent; the shell's part of it is remembered.
    pub fn restore(&mut self) -> Vec<Journaled> {
        let mut journaled = Vec::new();
        for entry in self.journal.held() {
            let Ok(kept) = postcard::from_bytes::<Kept>(&entry.attempt) else {
                tracing::error!(
                    token = entry.token,
                    "an entry of the journal cannot be read; its attempt is ended"
                );
                self.shim.kill(entry.token);
                continue;
            };
            let result = entry.result.as_ref().and_then(|bytes| postcard::from_bytes::<Result3>(bytes).ok());
            let phase = if result.is_some() { Phase::Over } else { Phase::Launched };
            journaled.push(kept.journaled(entry.token, result));
            let preparer = &self.preparer;
            let local =
                Local::new(kept, entry.token, phase, &preparer.dirs, preparer.log_cap, &preparer.savers);
            self.attempts.insert(entry.token, local);
        }
        journaled
    }

    /// One write for the turn. False when it failed; then nothing of the turn may be launched.
    pub(super) fn write_journal(&mut self, actions: &[Action], term: u64) -> bool {
        let mut records = Vec::new();
        if term > self.term {
            records.push(Record::Term { term });
        }
        for (n, action) in actions.iter().enumerate() {
            match action {
                Action::Journal(journaled) => {
                    let order = match actions.get(n + 1) {
                        Some(Action::Launch { order, .. }) => Some(&**order),
                        _ => None,
                    };
                    self.journal_attempt(journaled, order, &mut records);
                }
                Action::Forget { token } => {
                    pass(Point::ResultAcknowledged);
                    records.push(Record::Acknowledged { token: token.0 });
                }
                _ => {}
            }
        }
        if records.is_empty() {
            return true;
        }
        match self.journal.append(&records) {
            Ok(()) => {
                self.term = term;
                true
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the journal was not written");
                false
            }
        }
    }

    fn journal_attempt(
        &mut self,
        journaled: &Journaled,
        order: Option<&StartOrder>,
        records: &mut Vec<Record>,
    ) {
        let token = journaled.token.0;
        if !self.attempts.contains_key(&token) {
            let held = order.map_or_else(Vec::new, |order| self.preparer.held(order));
            // What is on them now is somebody else's. On a shared one it may be another attempt's, which is looked at by itself.
            let alone = held.iter().filter(|device| !device.shared).map(|device| device.uuid.clone());
            self.devices.granted(&alone.collect::<Vec<_>>());
            let kept = Kept::new(journaled, order, held);
            records.push(Record::Started { token, attempt: encode(&kept) });
            let phase = if order.is_some() { Phase::Launched } else { Phase::Over };
            let preparer = &self.preparer;
            let local = Local::new(kept, token, phase, &preparer.dirs, preparer.log_cap, &preparer.savers);
            self.attempts.insert(token, local);
        }
        if let Some(result) = &journaled.result {
            records.push(Record::Finished { token, result: encode(result) });
        }
    }
}

/// Plain data into memory: there is no way to fail.
fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap_or_default()
}
