//! Machines that go: what workers say of theirs is proposed, what others say is told to them, and whoever has to stop hears by when.

use super::instruction::Instruction;
use super::io::SessionId;
use super::step::Leader;
use crate::command::Command;
use crate::model::attempt::{Attempt, StopReason};
use crate::model::ids::WorkerId;
use crate::model::notice::{Notice, NoticeKind, NoticeSource, Noticed};
use crate::model::time::Tick;

impl Leader {
    /// A worker says that its machine goes, or stays. What is in the log already is answered; a worker that hears nothing says it again.
    pub(super) fn notice_came(&mut self, session: SessionId, notice: Notice) {
        let Some(from) = self.sessions.get(&session).filter(|_| self.term.is_some()) else { return };
        let worker = from.worker;
        if !self.is_current(worker, &from.incarnation) {
            return;
        }
        let tick = self.tick(self.clock);
        let row = self.view.workers.get(&worker).and_then(|w| w.worker.notice.as_ref());
        // What is on its way into the log may be older than this, and the last one there counts.
        let is_settled = !self.noticing.contains_key(&worker) && !self.notices.contains_key(&worker);
        let known =
            is_settled && row.map_or(notice.kind == NoticeKind::Withdrawn, |row| row.covers(&notice, tick));
        if known {
            self.outbox.entry(session).or_default().push(Instruction::NoticeHeard);
        } else {
            self.notices.insert(worker, notice);
        }
    }

    /// The commands that write down what came. Should the proposal be lost, the worker says it again.
    pub(super) fn take_notices(&mut self) -> Vec<Command> {
        let came = std::mem::take(&mut self.notices);
        let command = |(worker, notice)| {
            let incarnation = self.view.workers.get(&worker)?.worker.incarnation.clone();
            Some(Command::Notice { request: None, worker, incarnation: Some(incarnation), notice })
        };
        came.into_iter().filter_map(command).collect()
    }

    /// Its notice is another one now, or none: whoever did not say so itself has to hear of it.
    pub(super) fn notice_changed(&mut self, worker: WorkerId) {
        let Some(session) = self.by_worker.get(&worker).copied() else { return };
        let row = self.view.workers.get(&worker).map(|w| w.worker.notice.clone());
        let Some(notice) = row else { return };
        let instruction = match notice {
            None => Instruction::Notice(withdrawn()),
            Some(row) if row.notice.source == NoticeSource::Operator => {
                Instruction::Notice(self.left_of(row))
            }
            Some(_) => return,
        };
        self.outbox.entry(session).or_default().push(instruction);
    }

    /// A worker is heard over this stream for the first time: what others said of its machine while it was away.
    pub(super) fn remind(&mut self, session: SessionId, worker: WorkerId) {
        let row = self.view.workers.get(&worker).and_then(|w| w.worker.notice.clone());
        if let Some(row) = row.filter(|row| row.notice.source == NoticeSource::Operator) {
            let notice = self.left_of(row);
            self.outbox.entry(session).or_default().push(Instruction::Notice(notice));
        }
    }

    /// The notice with the time that is left of it.
    fn left_of(&self, row: Noticed) -> Notice {
        let tick = self.tick(self.clock);
        Notice { in_ms: row.deadline.map(|deadline| deadline.since(tick)), ..row.notice }
    }

    /// How long all of it may take that this attempt is asked to do before it stops, ms; none: as long as it was given. The first machine
    /// of a gang that goes decides for all of its ranks.
    pub(super) fn within(&self, attempt: &Attempt) -> Option<u64> {
        let workers = attempt.seats.iter().filter_map(|seat| self.view.workers.get(&seat.worker));
        let deadlines = workers.flat_map(|view| {
            let drain = view.worker.drain.as_ref().filter(|_| attempt.stop == Some(StopReason::Drain));
            [view.worker.goes_at(), drain.and_then(|drain| drain.deadline)]
        });
        let tick: Tick = self.tick(self.clock);
        deadlines.flatten().min().map(|deadline| deadline.since(tick))
    }
}

fn withdrawn() -> Notice {
    Notice {
        source: NoticeSource::Operator,
        kind: NoticeKind::Withdrawn,
        in_ms: None,
        detail: String::new(),
        drill: false,
    }
}
