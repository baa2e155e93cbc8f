//! How many machines a provider's group is told to have: what the pool wants, counted in the provider's way. Left out: what the pool wants
//! (`crate::autoscale`), and when an order is given (`autoscale.rs`).

use super::step::Leader;
use crate::autoscale::{GROUP_STALE_MS, GroupSeen, InstanceSeen};
use crate::model::fleet::{PoolScale, PoolSpec};
use crate::model::ids::WorkerId;
use crate::model::worker::{INSTANCE_LABEL, Worker, WorkerState};
use std::collections::BTreeSet;

impl Leader {
    /// The number that the group is to be given now; none: the one that it has, or nobody can say. It is those machines that stay, those
    /// that boot, and those that leave until they are ended one by one, which makes the group want one less each time. Workers of the pool
    /// that are on none of its machines count for themselves.
    pub(super) fn in_group(
        &self,
        pool: &str,
        spec: &PoolSpec,
        group: &GroupSeen,
        scale: &PoolScale,
        stuck: &[String],
    ) -> Option<u32> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let there = |worker: &&Worker| worker.spec.pool == pool && worker.state != WorkerState::Lost;
        let workers = || self.view.workers.values().map(|view| &view.worker).filter(there);
        // A worker is on a machine that the provider had not made when it said what it has: that is of no use for counting.
        if scale.generation == 0 || workers().any(|worker| is_newer(worker, group)) {
            return None;
        }
        let live = || group.instances.iter().filter(|instance| !instance.going && !instance.held);
        let on: BTreeSet<WorkerId> = live().filter_map(|instance| instance.worker).collect();
        // Lost for a while, or never joined: they are ended one by one too.
        let is_dead = |i: &&InstanceSeen| i.worker.is_none() && (i.lost.is_some() || stuck.contains(&i.id));
        let dead = live().filter(is_dead).count();
        let unjoined = live().filter(|instance| instance.worker.is_none()).count() - dead;
        let nameless = self.nameless(pool).count();
        // A worker that does not say where it is, is on one of the machines that have none.
        let (staying, leaving): (Vec<&Worker>, Vec<&Worker>) =
            workers().partition(|worker| worker.state == WorkerState::Ready);
        let elsewhere = staying.iter().filter(|worker| !on.contains(&worker.id)).count();
        let elsewhere = elsewhere.saturating_sub(nameless.min(unjoined));
        let leaving = leaving.iter().filter(|worker| on.contains(&worker.id)).count();
        let out = count(leaving + dead);
        let wanted = scale.desired.saturating_sub(count(elsewhere)).saturating_add(out);
        // What is in the log may be from before somebody lowered the max.
        let wanted = wanted.min(group.desired.max(spec.max.saturating_add(out)));
        let wanted = wanted.clamp(group.min, group.max.max(group.min));
        // A provider that is asked for fewer takes those that it does not call up: not while a worker is on one of these.
        let is_early = live().any(|instance| instance.booting && instance.worker.is_some());
        let is_less = wanted < group.desired;
        (wanted != group.desired && !(is_less && is_early)).then_some(wanted)
    }
}

/// Whether the worker says that it is on a machine that is not in the group, and came when this may be for want of a look. One whose machine
/// has vanished is lost soon.
fn is_newer(worker: &Worker, group: &GroupSeen) -> bool {
    if group.at.since(worker.joined.tick) >= GROUP_STALE_MS {
        return false;
    }
    let id = worker.spec.labels.get(INSTANCE_LABEL);
    id.is_some_and(|id| group.instances.iter().all(|instance| instance.id != *id))
}
