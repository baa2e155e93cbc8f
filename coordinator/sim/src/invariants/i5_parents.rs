//! I5: no task starts before its parents allow it, told from the oracle's own books and not from the state's counters.

use crate::world::World;
use muster_core::model::ids::{IndexRef, TaskNo};
use muster_core::model::job::IndexState;
use muster_core::model::job_spec::{NeedWhen, TriggerRule};

/// A grant: the rule holds for what the indices of the parents have come to.
pub(crate) fn on_placed(world: &mut World, m: usize, at: IndexRef) {
    let Some(job) = world.members[m].state.job(at.job) else { return };
    let spec = &job.spec;
    let task = &spec.tasks[at.task.0 as usize];
    let count = |no: TaskNo, state| job.task(no).indices.count(state);
    let done = |no: TaskNo| job.task(no).indices.is_over();
    let all_succeeded = |no: TaskNo| {
        (0..job.task(no).indices.len())
            .all(|i| world.oracle.succeeded.contains_key(&IndexRef::new(at.job, no, i)))
    };
    let failed = |no: TaskNo| done(no) && count(no, IndexState::Failed) > 0;
    let unsaid: Vec<TaskNo> =
        task.needs.iter().filter(|n| n.when == NeedWhen::Unsaid).map(|n| n.task).collect();
    let allowed = match spec.common(task).rule {
        TriggerRule::AllSuccess => unsaid.iter().all(|n| all_succeeded(*n)),
        TriggerRule::OneSuccess => {
            unsaid.is_empty() || unsaid.iter().any(|n| done(*n) && count(*n, IndexState::Succeeded) > 0)
        }
        TriggerRule::OneFailed => unsaid.is_empty() || unsaid.iter().any(|n| failed(*n)),
        TriggerRule::AllFailed => unsaid.iter().all(|n| failed(*n)),
        TriggerRule::NoneFailed | TriggerRule::NoneFailedMinOneSuccess => {
            unsaid.iter().all(|n| done(*n) && !failed(*n))
        }
        TriggerRule::AllDone | TriggerRule::Always => unsaid.iter().all(|n| done(*n)),
    };
    let said = task.needs.iter().all(|n| match n.when {
        NeedWhen::Succeeded => all_succeeded(n.task),
        NeedWhen::Failed => {
            done(n.task) && count(n.task, IndexState::Failed) + count(n.task, IndexState::Cancelled) > 0
        }
        NeedWhen::Finished | NeedWhen::Skipped => done(n.task),
        NeedWhen::Unsaid => true,
    });
    if !allowed || !said {
        world.violate(format!("I5: {at:?} was granted before its parents allowed it"));
    }
}

/// A start in truth: only what was granted once.
pub(crate) fn on_start(world: &mut World, at: IndexRef) {
    if !world.oracle.live.values().any(|l| l.0 == at) && !world.oracle.ended.iter().any(|_| true) {
        world.violate(format!("I5: {at:?} starts and was never granted"));
    }
}
