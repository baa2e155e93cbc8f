//! The DAG: when a task may run, by its rule and what its parents ended as. Pure counting; who is whose child is the job's.

use crate::model::job::TaskOutcome;
use crate::model::job_spec::{Need, NeedWhen, TriggerRule};
use serde::{Deserialize, Serialize};

/// What a task's parents have come to. Counters, so that a fan-in of n parents costs n steps in all. Edges that say `when:` are
/// judged one by one; the others together, by the task's rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Parents {
    /// Of the edges without `when:`.
    pub finished: u32,
    pub succeeded: u32,
    pub failed: u32,
    pub cancelled: u32,
    /// Of the edges with one: ended as asked, ended otherwise.
    pub satisfied: u32,
    pub broken: u32,
}

impl Parents {
    /// One more parent ended.
    pub fn count(&mut self, outcome: TaskOutcome, when: NeedWhen) {
        let satisfied = match when {
            NeedWhen::Unsaid => {
                self.finished += 1;
                self.succeeded += u32::from(outcome == TaskOutcome::Succeeded);
                self.failed += u32::from(outcome == TaskOutcome::Failed);
                self.cancelled += u32::from(outcome == TaskOutcome::Cancelled);
                return;
            }
            NeedWhen::Succeeded => outcome == TaskOutcome::Succeeded,
            NeedWhen::Failed => matches!(outcome, TaskOutcome::Failed | TaskOutcome::Cancelled),
            NeedWhen::Skipped => outcome == TaskOutcome::Skipped,
            NeedWhen::Finished => true,
        };
        self.satisfied += u32::from(satisfied);
        self.broken += u32::from(!satisfied);
    }
}

/// What a rule says of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Wait,
    Run,
    Skip,
}

/// The verdict on a task with these `needs`. What can already be decided is decided, before the others end.
#[must_use]
pub fn verdict(rule: TriggerRule, needs: &[Need], parents: &Parents) -> Verdict {
    let said = needs.iter().filter(|n| n.when != NeedWhen::Unsaid).count() as u32;
    let all = needs.len() as u32 - said;
    let done = parents.finished == all;
    let bad = parents.failed + parents.cancelled;
    let (run, skip) = match rule {
        TriggerRule::AllSuccess => (parents.succeeded == all, parents.finished > parents.succeeded),
        TriggerRule::AllDone | TriggerRule::Always => (done, false),
        TriggerRule::AllFailed => (parents.failed == all, parents.finished > parents.failed),
        TriggerRule::OneSuccess => (parents.succeeded > 0, done),
        TriggerRule::OneFailed => (parents.failed > 0, done),
        TriggerRule::NoneFailed => (done && bad == 0, bad > 0),
        TriggerRule::NoneFailedMinOneSuccess => (done && bad == 0 && parents.succeeded > 0, bad > 0 || done),
    };
    let (run, skip) = if all == 0 { (true, false) } else { (run, skip && !run) };
    if parents.broken > 0 || skip {
        Verdict::Skip
    } else if run && parents.satisfied == said {
        Verdict::Run
    } else {
        Verdict::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::TaskNo;
    use TaskOutcome::{Cancelled, Failed, Skipped, Succeeded};
    use Verdict::{Run, Skip, Wait};

    fn judge(rule: TriggerRule, when: NeedWhen, outcomes: &[TaskOutcome]) -> Verdict {
        let needs = [0, 1].map(|n| Need { task: TaskNo(n), when });
        let mut parents = Parents::default();
        outcomes.iter().for_each(|o| parents.count(*o, when));
        verdict(rule, &needs, &parents)
    }

    #[test]
    fn every_rule_on_what_two_parents_came_to() {
        use TriggerRule::*;
        let table: &[(TriggerRule, &[TaskOutcome], Verdict)] = &[
            (AllSuccess, &[], Wait),
            (AllSuccess, &[Succeeded], Wait),
            (AllSuccess, &[Succeeded, Succeeded], Run),
            (AllSuccess, &[Failed], Skip),
            (AllSuccess, &[Skipped], Skip),
            (AllDone, &[Failed], Wait),
            (AllDone, &[Failed, Skipped], Run),
            (AllFailed, &[Failed, Failed], Run),
            (AllFailed, &[Failed, Succeeded], Skip),
            (OneSuccess, &[Succeeded], Run),
            (OneSuccess, &[Failed, Failed], Skip),
            (OneFailed, &[Failed], Run),
            (OneFailed, &[Succeeded, Succeeded], Skip),
            (NoneFailed, &[Succeeded, Skipped], Run),
            (NoneFailed, &[Cancelled], Skip),
            (NoneFailedMinOneSuccess, &[Skipped, Skipped], Skip),
            (NoneFailedMinOneSuccess, &[Skipped, Succeeded], Run),
            (Always, &[Failed], Wait),
            (Always, &[Failed, Cancelled], Run),
        ];
        for (rule, outcomes, expected) in table {
            assert_eq!(judge(*rule, NeedWhen::Unsaid, outcomes), *expected, "{rule:?} {outcomes:?}");
        }
    }

    #[test]
    fn an_edge_that_says_when_is_judged_on_its_own() {
        let rule = TriggerRule::AllSuccess;
        assert_eq!(judge(rule, NeedWhen::Finished, &[Failed]), Wait);
        assert_eq!(judge(rule, NeedWhen::Finished, &[Failed, Skipped]), Run);
        assert_eq!(judge(rule, NeedWhen::Failed, &[Failed, Cancelled]), Run);
        assert_eq!(judge(rule, NeedWhen::Failed, &[Succeeded]), Skip);
        assert_eq!(judge(rule, NeedWhen::Skipped, &[Skipped, Skipped]), Run);
    }
}
