//! Linearizability (I14): one order of all calls that explains all answers, by the checker of `muster-sim`.

use super::Violation;
use crate::chaos::history::{JobOp, LatchAnswer, LatchCall, LatchOp};
use muster_sim::linearize::{Finding, Model, Verdict, check};
use muster_sim::register::{JobRegister, out_of_order};

/// A job that never runs: held or not, by the last who said so.
#[derive(Debug, Clone, Copy)]
pub struct Latch;

impl Model for Latch {
    type State = bool;
    type Op = LatchCall;
    type Output = LatchAnswer;

    fn start() -> bool {
        false
    }

    fn is_read(call: &LatchCall) -> bool {
        *call == LatchCall::Look
    }

    fn step(held: &bool, call: &LatchCall, answer: Option<&LatchAnswer>) -> Option<bool> {
        match (call, answer) {
            (LatchCall::Hold, Some(LatchAnswer::Done) | None) => Some(true),
            (LatchCall::Release, Some(LatchAnswer::Done) | None) => Some(false),
            (LatchCall::Look, Some(LatchAnswer::Seen { held: seen })) => (seen == held).then_some(*held),
            (LatchCall::Look, None) => Some(*held),
            _ => None,
        }
    }
}

/// Judges both histories. What is too large to be decided is not a violation; the second list names it.
#[must_use]
pub fn judge(jobs: &[JobOp], latches: &[LatchOp]) -> (Vec<Violation>, Vec<String>) {
    let findings = check::<JobRegister>(jobs).into_iter().chain(check::<Latch>(latches));
    let (undecided, refuted): (Vec<Finding>, Vec<Finding>) =
        findings.partition(|finding| matches!(finding.verdict, Verdict::TooLarge { .. }));
    let mut violations: Vec<Violation> =
        refuted.iter().map(|finding| Violation::new("I14", finding.to_string())).collect();
    if let Some((first, second)) = out_of_order(jobs) {
        let text = format!(
            "submission {} was answered before {} was made, and has the higher id",
            jobs[first].key, jobs[second].key
        );
        violations.push(Violation::new("I14", text));
    }
    (violations, undecided.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::model::job::JobState;
    use muster_sim::linearize::{Answered, Operation};
    use muster_sim::register::{JobAnswer, JobCall};

    fn op<O, A>(key: &str, op: O, invoked: u64, answered: Option<(u64, A)>) -> Operation<O, A> {
        let answered = answered.map(|(at, output)| Answered { at, output });
        Operation { client: 0, key: key.into(), op, invoked, answered }
    }

    fn look(from: u64, to: u64, held: bool) -> LatchOp {
        op("l", LatchCall::Look, from, Some((to, LatchAnswer::Seen { held })))
    }

    #[test]
    fn a_stale_read_of_a_latch_is_found() {
        let hold = || op("l", LatchCall::Hold, 10, Some((20, LatchAnswer::Done)));
        assert_eq!(judge(&[], &[look(1, 5, false), hold(), look(21, 25, true)]).0, []);
        // While the hold is under way both answers are right, but not new and then old again.
        assert_eq!(judge(&[], &[hold(), look(12, 13, false), look(14, 15, true)]).0, []);
        for stale in
            [vec![hold(), look(21, 25, false)], vec![hold(), look(12, 13, true), look(14, 15, false)]]
        {
            let found = judge(&[], &stale).0;
            assert_eq!(found.iter().map(|v| v.invariant).collect::<Vec<_>>(), ["I14"], "{stale:?}");
        }
    }

    #[test]
    fn a_hold_without_an_answer_may_take_effect_late_or_never() {
        let hold = || op("l", LatchCall::Hold, 10, None);
        for (first, second) in [(false, false), (false, true), (true, true)] {
            assert_eq!(judge(&[], &[hold(), look(20, 21, first), look(30, 31, second)]).0, []);
        }
        assert_eq!(judge(&[], &[hold(), look(20, 21, true), look(30, 31, false)]).0.len(), 1);
    }

    #[test]
    fn a_job_that_goes_back_is_found() {
        let submit = || op("k", JobCall::Submit, 1, Some((2, JobAnswer::Job(7))));
        let seen =
            |from, state| op("k", JobCall::Status, from, Some((from + 1, JobAnswer::Seen { job: 7, state })));
        assert_eq!(judge(&[submit(), seen(5, JobState::Running), seen(9, JobState::Succeeded)], &[]).0, []);
        let back = [submit(), seen(5, JobState::Succeeded), seen(9, JobState::Running)];
        assert_eq!(judge(&back, &[]).0.len(), 1);
    }
}
