//! Checkpoints, from the leader's side: what ranks have stored goes into the log, and what became of it is answered from the view. So a new
//! leader answers too, and what is said again after its commit costs the log nothing.

use super::instruction::{Instruction, ResumeOrder};
use super::io::SessionId;
use super::step::Leader;
use crate::command::{Report, ReportKind};
use crate::model::checkpoint::{Saved, Verdict};
use crate::model::ids::{Token, WorkerId};
use crate::model::saving::known;
use crate::state::LiveDelta;

impl Leader {
    /// A rank has stored a checkpoint.
    pub(super) fn saved_came(&mut self, session: SessionId, worker: WorkerId, report: Report, saved: &Saved) {
        let token = report.token;
        let live = self.view.live.get(&token).filter(|live| live.attempt.lives_on(worker));
        let Some(live) = live else {
            let why =
                format!("the attempt of token {token} is over: another one goes on from what was committed");
            let verdict = Verdict::Refused(why);
            let outbox = self.outbox.entry(session).or_default();
            outbox.extend([
                Instruction::Checkpoint { token, step: saved.step, verdict },
                Instruction::Kill { token },
            ]);
            return;
        };
        match known(&live.attempt, &live.kept, report.rank, saved) {
            Some(verdict) => {
                let instruction = Instruction::Checkpoint { token, step: saved.step, verdict };
                self.outbox.entry(session).or_default().push(instruction);
            }
            None => self.report(worker, report),
        }
    }

    /// The attempt has committed a checkpoint: every rank that lives hears of it, whoever stored the last part.
    pub(super) fn tell_committed(&mut self, token: Token) {
        let Some(LiveDelta { attempt, kept, .. }) = self.view.live.get(&token) else { return };
        let Some(step) = attempt.progress.committed else { return };
        let seats = (0..).zip(&attempt.seats).filter(|(rank, _)| !attempt.has_ended(*rank));
        for session in seats.filter_map(|(_, seat)| self.by_worker.get(&seat.worker)) {
            let verdict = Verdict::Committed { kept: kept.clone() };
            let instruction = Instruction::Checkpoint { token, step, verdict };
            self.outbox.entry(*session).or_default().push(instruction);
        }
    }

    /// The log has looked at it. That it is committed was told when the view learnt it; another answer is given here. Without one its
    /// worker says it again.
    pub(super) fn saved_settled(&mut self, worker: WorkerId, report: &Report, answered: bool) {
        let ReportKind::Saved(saved) = &report.kind else { return };
        let (token, rank, step) = (report.token, report.rank, saved.step);
        if self.saving.get(&(token, rank)) == Some(saved) {
            self.saving.remove(&(token, rank));
        }
        let Some(live) = self.view.live.get(&token).filter(|_| answered) else { return };
        let Some(session) = self.by_worker.get(&worker) else { return };
        if let Some(verdict @ (Verdict::Waits | Verdict::Refused(_))) =
            known(&live.attempt, &live.kept, rank, saved)
        {
            let instruction = Instruction::Checkpoint { token, step, verdict };
            self.outbox.entry(*session).or_default().push(instruction);
        }
    }
}

/// Where a rank of an attempt begins: what was the newest when it was granted, whatever was committed since. None: from nothing.
///
/// # Errors
/// It is not kept any more.
pub(super) fn resume(live: &LiveDelta, rank: u32) -> Result<Option<ResumeOrder>, String> {
    let Some(step) = live.attempt.progress.resumed else { return Ok(None) };
    let checkpoint = live.kept.iter().find(|kept| kept.step == step);
    let found = checkpoint.and_then(|c| Some((c.token, c.part_of(rank)?)));
    let (token, (rank, part)) = found
        .ok_or_else(|| format!("the checkpoint of step {step} that it begins from is not kept any more"))?;
    Ok(Some(ResumeOrder { step, token, rank, part: *part }))
}
