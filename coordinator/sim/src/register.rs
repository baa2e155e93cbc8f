//! What the calls on one job mean to those who make them: the model that [`crate::linearize`] judges histories of jobs by. One key is
//! one request id, hence one job.
//!
//! What happens inside, an attempt that starts or a result that is accepted, is no call of a client, so nobody writes it down; it
//! shows when somebody looks. The model therefore knows how far the job is *at least*, and every answer must fit something that may have
//! happened since.
//!
//! pending → running → ended, held in between; ended → running by a rerun alone. Job ids are counted by the log, so they also say
//! who came first: [`out_of_order`].

use crate::linearize::{Model, Operation};
use muster_core::model::job::JobState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A call. Cancel, rerun, hold and release of a part of the job are [`JobCall::Part`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobCall {
    /// A submission under the request id that is the key.
    Submit,
    /// Cancel of the whole job.
    Cancel,
    /// Rerun of the whole job or of a part.
    Rerun,
    /// Hold or release of the whole job.
    Hold,
    Release,
    /// A cancel, hold or release of one task or index.
    Part,
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
    Present {
        /// None: nobody has heard it yet.
        id: Option<u64>,
        reached: Reached,
        /// A cancel of all of it was accepted and nothing has undone it.
        cancelled: bool,
    },
}

/// How far a job is at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reached {
    Submitted,
    /// Something of it has run: it is never pending again.
    Started,
    /// It ended, in this state if anybody saw it.
    Ended(Option<JobState>),
}

impl Model for JobRegister {
    type State = JobFacts;
    type Op = JobCall;
    type Output = JobAnswer;

    fn start() -> JobFacts {
        JobFacts::Absent
    }

    fn step(facts: &JobFacts, call: &JobCall, answer: Option<&JobAnswer>) -> Option<JobFacts> {
        let JobFacts::Present { id, reached, cancelled } = *facts else { return step_absent(*call, answer) };
        let present = |reached, cancelled| Some(JobFacts::Present { id, reached, cancelled });
        let has_ended = matches!(reached, Reached::Ended(_));
        match (call, answer) {
            (JobCall::Submit, None) => Some(*facts),
            (JobCall::Submit, Some(JobAnswer::Job(said))) => named(id, *said, reached, cancelled),
            (JobCall::Status, None) => Some(*facts),
            (JobCall::Status, Some(JobAnswer::Seen { job, state })) => {
                let (reached, cancelled) = seen(reached, cancelled, *state)?;
                named(id, *job, reached, cancelled)
            }
            // A refused rerun says that nothing failed, which may be so of a job in any state.
            (JobCall::Rerun, Some(JobAnswer::Refused)) => Some(*facts),
            // At once it may skip all its tasks again, but what it was before is no longer certain.
            (JobCall::Rerun, Some(JobAnswer::Accepted) | None) => {
                let before = if has_ended { Reached::Submitted } else { reached };
                present(before, false)
            }
            (JobCall::Cancel, Some(JobAnswer::Accepted) | None) if !has_ended => present(reached, true),
            (JobCall::Hold | JobCall::Release | JobCall::Part, Some(JobAnswer::Accepted) | None)
                if !has_ended =>
            {
                Some(*facts)
            }
            (
                JobCall::Cancel | JobCall::Hold | JobCall::Release | JobCall::Part,
                Some(JobAnswer::Refused),
            ) => present(if has_ended { reached } else { Reached::Ended(None) }, cancelled),
            _ => None,
        }
    }
}

fn step_absent(call: JobCall, answer: Option<&JobAnswer>) -> Option<JobFacts> {
    match (call, answer) {
        (JobCall::Submit, None) => {
            Some(JobFacts::Present { id: None, reached: Reached::Submitted, cancelled: false })
        }
        (JobCall::Submit, Some(JobAnswer::Job(id))) => {
            Some(JobFacts::Present { id: Some(*id), reached: Reached::Submitted, cancelled: false })
        }
        (JobCall::Submit, _) => None,
        (_, Some(JobAnswer::Absent) | None) => Some(JobFacts::Absent),
        _ => None,
    }
}

/// A job has one id.
fn named(known: Option<u64>, said: u64, reached: Reached, cancelled: bool) -> Option<JobFacts> {
    let agrees = known.is_none_or(|id| id == said);
    agrees.then_some(JobFacts::Present { id: Some(said), reached, cancelled })
}

/// What is certain after somebody saw this state, if it can have been seen.
fn seen(reached: Reached, cancelled: bool, state: JobState) -> Option<(Reached, bool)> {
    let after = match (reached, state) {
        (Reached::Ended(Some(before)), now) if before == now => Reached::Ended(Some(now)),
        (Reached::Ended(Some(_)), _) => return None,
        (Reached::Ended(None), now) if now.is_terminal() => Reached::Ended(Some(now)),
        (Reached::Ended(None), _) => return None,
        (_, JobState::Cancelled) => Reached::Ended(Some(JobState::Cancelled)),
        // All that waited of it ended with the cancel, and what runs is stopped: it runs until it is cancelled.
        (_, JobState::Running) if cancelled => Reached::Started,
        _ if cancelled => return None,
        (_, JobState::Succeeded | JobState::Failed) => Reached::Ended(Some(state)),
        (Reached::Started, JobState::Pending) => return None,
        (_, JobState::Pending | JobState::Held) => reached,
        (_, JobState::Running) => Reached::Started,
    };
    Some((after, cancelled))
}

/// Two submissions of which the first was answered before the second was made, and whose ids say the opposite (positions in the
/// history).
#[must_use]
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
        while let Some((at, earlier, j)) = answered.get(next).copied().filter(|a| a.0 < invoked) {
            let _ = at;
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
