//! Mistakes about the machines of pools.

use super::Plant;
use crate::world::World;
use muster_core::autoscale::Order;
use muster_core::command::Command;
use muster_core::leader::Output;
use muster_core::model::fleet::PoolScale;
use muster_core::model::ids::WorkerId;
use muster_core::model::worker::{INSTANCE_LABEL, Worker, WorkerState};

impl World {
    /// Orders that nobody should give, beside these outputs.
    pub(super) fn plant_orders(&mut self, m: usize, outputs: &[Output]) -> Vec<Output> {
        let commands = outputs.iter().filter_map(|output| match output {
            Output::Propose { commands, .. } => Some(commands),
            _ => None,
        });
        let chosen = commands.flatten().filter_map(|command| match command {
            Command::ScaleIn { workers, .. } => Some(workers),
            _ => None,
        });
        let chosen: Vec<WorkerId> = chosen.flatten().map(|(worker, _)| *worker).collect();
        let state = &self.members[m].state;
        self.planted.leavers.extend(state.workers().filter(|worker| leaves(worker)).map(|worker| worker.id));
        let stays =
            |id: &&WorkerId| state.worker(**id).is_some_and(|worker| worker.state == WorkerState::Ready);
        let concerned: Vec<WorkerId> = match () {
            () if self.planted.is(Plant::EndsUndrainedYet) => chosen,
            () if self.planted.is(Plant::EndsUndrained) => {
                self.planted.leavers.iter().filter(stays).copied().collect()
            }
            () => return Vec::new(),
        };
        let order = |id: &WorkerId| {
            let spec = &state.worker(*id)?.spec;
            let order = Order::Terminate(spec.labels.get(INSTANCE_LABEL)?.clone());
            let generation = state.scales().get(&spec.pool)?.generation;
            Some(Output::Drive { pool: spec.pool.clone(), generation, order })
        };
        let orders: Vec<Output> = concerned.iter().filter_map(order).collect();
        // Said once: whoever repeats it ten times a second shows nothing more.
        concerned.iter().for_each(|id| {
            self.planted.leavers.remove(id);
        });
        orders
    }

    /// Of more machines than there were, one less.
    pub(super) fn with_one_less(&self, pool: &str, scale: PoolScale) -> PoolScale {
        let state = &self.members[self.most_applied()].state;
        let here = state.workers().filter(|w| w.spec.pool == pool && w.state == WorkerState::Ready).count();
        let grows = scale.desired > here as u32;
        PoolScale { desired: scale.desired - u32::from(grows), ..scale }
    }
}

pub(super) fn leaves(worker: &Worker) -> bool {
    worker.drain.as_ref().is_some_and(|drain| drain.leaves)
}

/// The worker is what it would be had nobody chosen it.
pub(super) fn forget_leaving(worker: &mut Worker) {
    if leaves(worker) {
        worker.drain = None;
        if worker.notice.is_none() && worker.state != WorkerState::Lost {
            worker.state = WorkerState::Ready;
        }
    }
}
