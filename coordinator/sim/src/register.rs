//! What the calls on one job mean to those who make them: the model that [`crate::linearize`] judges histories of jobs by. One key is
//! one request id, hence one job.
//!
//! What happens inside, an attempt that starts or a result that is accepted, is no call of a client, so nobody writes it down; it
//! shows when somebody looks. The model therefore knows how far the job is *at least*, and every answer must fit something that may have
//! happened since.
//!
//! pending → running → ended, held in between; ended → running by a rerun alone; cancelled by a cancel alone. Job ids are counted by the
//! log, so they also say who came first: [`out_of_order`].
//!
//! A refusal is not remembered under its request id (the caller may mend what was wrong and ask again), so a call that was made more
//! than once and refused may still take effect by a try that comes late. A history therefore holds a refused mutation twice: as it was
//! answered, and once more without an answer ([`refused_may_come_again`]).

use crate::linearize::{Model, Operation};
use muster_core::model::job::JobState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobCall {
    /// A submission under the request id that is the key.
    Submit,
    /// A cancel of the whole job.
    Cancel,
    /// A cancel of one task or index.
    CancelPart,
    /// A rerun, hold or release of the whole job or of a part.
    Rerun,
    Hold,
    Release,
    /// What state is it in?
    Status,
}

/// What the client heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobAnswer {
    /// To a submission, first or repeated: the job's id.
    Job(u64),
    Accepted,
    /// `WRONG_STATE`: the job has ended (or, to a rerun, nothing in it failed).
    Refused,
    /// To a status, or to a mutation that found no job.
    Absent,
    /// To a status.
    Seen {
        job: u64,
        state: JobState,
    },
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct JobRegister;

/// What is certain of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobFacts {
    Absent,
    Present(Facts),
}

/// What is certain of a job that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Facts {
    /// None: nobody has heard it yet.
    id: Option<u64>,
    /// Something of it has run: it is never pending again.
    started: bool,
    ended: Ended,
    cancel: Cancel,
}

/// Whether it has ended. Only a rerun goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// Perhaps.
    Unsaid,
    /// In a state that nobody saw.
    Somehow,
    In(JobState),
}

/// What cancels were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cancel {
    /// None: it cannot end cancelled.
    Never,
    /// Of a part, or of all of it and then rerun: it may.
    Partly,
    /// Of all of it: it must.
    Wholly,
}

impl Model for JobRegister {
    type State = JobFacts;
    type Op = JobCall;
    type Output = JobAnswer;

    fn start() -> JobFacts {
        JobFacts::Absent
    }

    fn step(facts: &JobFacts, call: &JobCall, answer: Option<&JobAnswer>) -> Option<JobFacts> {
        use JobAnswer::{Accepted, Job, Refused, Seen};
        let JobFacts::Present(facts) = *facts else { return step_absent(*call, answer) };
        let has_ended = facts.ended != Ended::Unsaid;
        let after = match (call, answer) {
            (JobCall::Submit | JobCall::Status, None) => facts,
            (JobCall::Submit, Some(Job(said))) => named(facts, *said)?,
            (JobCall::Status, Some(Seen { job, state })) => named(seen(facts, *state)?, *job)?,
            (JobCall::Rerun, Some(Accepted) | None) => {
                let cancel = if facts.cancel == Cancel::Wholly { Cancel::Partly } else { facts.cancel };
                Facts { ended: Ended::Unsaid, cancel, ..facts }
            }
            // Nothing in it failed, which may be so of a job in any state.
            (JobCall::Rerun, Some(Refused)) => facts,
            (JobCall::Cancel, Some(Accepted) | None) if !has_ended => {
                Facts { cancel: Cancel::Wholly, ..facts }
            }
            (JobCall::CancelPart, Some(Accepted) | None) if !has_ended => {
                let cancel = if facts.cancel == Cancel::Never { Cancel::Partly } else { facts.cancel };
                Facts { cancel, ..facts }
            }
            (JobCall::Hold | JobCall::Release, Some(Accepted) | None) if !has_ended => facts,
            (JobCall::Cancel | JobCall::CancelPart | JobCall::Hold | JobCall::Release, Some(Refused)) => {
                Facts { ended: if has_ended { facts.ended } else { Ended::Somehow }, ..facts }
            }
            _ => return None,
        };
        Some(JobFacts::Present(after))
    }

    fn is_read(call: &JobCall) -> bool {
        *call == JobCall::Status
    }
}

fn step_absent(call: JobCall, answer: Option<&JobAnswer>) -> Option<JobFacts> {
    let new = |id| {
        let facts = Facts { id, started: false, ended: Ended::Unsaid, cancel: Cancel::Never };
        Some(JobFacts::Present(facts))
    };
    match (call, answer) {
        (JobCall::Submit, None) => new(None),
        (JobCall::Submit, Some(JobAnswer::Job(id))) => new(Some(*id)),
        (JobCall::Submit, _) => None,
        (_, Some(JobAnswer::Absent) | None) => Some(JobFacts::Absent),
        _ => None,
    }
}

/// A job has one id.
fn named(facts: Facts, said: u64) -> Option<Facts> {
    facts.id.is_none_or(|id| id == said).then_some(Facts { id: Some(said), ..facts })
}

/// What is certain after somebody saw this state, if it can have been seen.
fn seen(facts: Facts, state: JobState) -> Option<Facts> {
    let is_possible = match (facts.ended, state) {
        (Ended::In(before), now) if before != now => false,
        (Ended::In(_) | Ended::Somehow, now) if !now.is_terminal() => false,
        (_, JobState::Pending) if facts.started => false,
        (_, JobState::Cancelled) => facts.cancel != Cancel::Never,
        // All that waited of it ended with the cancel, and what runs is stopped: it runs until it is cancelled.
        (_, JobState::Succeeded | JobState::Failed | JobState::Pending | JobState::Held) => {
            facts.cancel != Cancel::Wholly
        }
        (_, JobState::Running) => true,
    };
    is_possible.then_some(match state {
        JobState::Running => Facts { started: true, ..facts },
        JobState::Pending | JobState::Held => facts,
        JobState::Succeeded | JobState::Failed | JobState::Cancelled => {
            Facts { ended: Ended::In(state), ..facts }
        }
    })
}

/// The second operation of a refused mutation: the same call, unanswered. None for any other operation.
#[must_use]
pub fn refused_may_come_again(
    operation: &Operation<JobCall, JobAnswer>,
) -> Option<Operation<JobCall, JobAnswer>> {
    let answer = operation.answered.as_ref().map(|a| a.output);
    let is_refusal = matches!(answer, Some(JobAnswer::Refused | JobAnswer::Absent));
    (is_refusal && operation.op != JobCall::Status).then(|| Operation { answered: None, ..operation.clone() })
}

/// Two submissions of which the first was answered before the second was made, and whose ids say the opposite (positions in the
/// history).
#[must_use]
#[allow(clippy::type_complexity)] // (when, which job, where in the history)
pub fn out_of_order(history: &[Operation<JobCall, JobAnswer>]) -> Option<(usize, usize)> {
    // A repeated submission hears the old id, so of each key only the first invocation and the first answer count.
    let mut keys: BTreeMap<&str, (usize, Option<(u64, u64, usize)>)> = BTreeMap::new();
    for (i, call) in history.iter().enumerate().filter(|(_, c)| c.op == JobCall::Submit) {
        let (first, answer) = keys.entry(&call.key).or_insert((i, None));
        if call.invoked < history[*first].invoked {
            *first = i;
        }
        if let Some(answered) = &call.answered
            && let JobAnswer::Job(id) = answered.output
            && answer.is_none_or(|(at, ..)| answered.at < at)
        {
            *answer = Some((answered.at, id, i));
        }
    }
    let mut begun: Vec<(u64, u64, usize)> = Vec::new();
    let mut answered: Vec<(u64, u64, usize)> = Vec::new();
    for (first, answer) in keys.into_values() {
        if let Some((at, id, i)) = answer {
            begun.push((history[first].invoked, id, first));
            answered.push((at, id, i));
        }
    }
    begun.sort_unstable();
    answered.sort_unstable();
    // The highest id that was answered before each moment.
    let (mut highest, mut next) = (None::<(u64, usize)>, 0);
    for (invoked, id, i) in begun {
        while let Some((_, earlier, j)) = answered.get(next).copied().filter(|a| a.0 < invoked) {
            if highest.is_none_or(|(h, _)| earlier > h) {
                highest = Some((earlier, j));
            }
            next += 1;
        }
        if let Some((_, j)) = highest.filter(|(h, _)| *h >= id) {
            return Some((j, i));
        }
    }
    None
}
