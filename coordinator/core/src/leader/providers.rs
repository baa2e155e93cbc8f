//! What providers say of the groups of pools, and which workers are on which of their machines.

use super::step::Leader;
use crate::autoscale::{GroupReport, GroupSeen, InstancePhase, InstanceReport, InstanceSeen};
use crate::model::worker::{INSTANCE_LABEL, Worker, WorkerState};
use std::collections::{BTreeMap, BTreeSet};

impl Leader {
    pub(super) fn group_came(&mut self, now: u64, pool: String, report: GroupReport) {
        if self.term.is_none() {
            return;
        }
        let tick = self.tick(now);
        let scaling = &mut self.scaling;
        let named: BTreeSet<&str> = report.instances.iter().map(|instance| instance.id.as_str()).collect();
        scaling.machines.retain(|(of, id), _| *of != pool || named.contains(id.as_str()));
        let mut instances = Vec::with_capacity(report.instances.len());
        for instance in &report.instances {
            let key = (pool.clone(), instance.id.clone());
            let (since, _) = scaling.machines.entry(key).or_insert((tick, false));
            instances.push(InstanceSeen {
                id: instance.id.clone(),
                worker: None,
                since: *since,
                lost: None,
                booting: instance.phase == InstancePhase::Booting,
                held: instance.phase == InstancePhase::Held,
                going: instance.phase == InstancePhase::Going,
                protected: instance.protected,
                image: instance.image.clone(),
            });
        }
        let GroupReport { desired, min, max, .. } = report;
        if scaling.troubles.get(&pool).is_some_and(|(_, until)| *until <= now) {
            scaling.troubles.remove(&pool);
        }
        scaling.groups.insert(pool, GroupSeen { at: tick, desired, min, max, instances });
    }

    /// Of a provider that only takes orders: its group is what was wanted of it, on the machines that workers say they are on.
    pub(super) fn group_unseen(&mut self, now: u64, pool: String) {
        if self.term.is_none() {
            return;
        }
        let there =
            self.view.workers.values().map(|view| &view.worker).filter(|worker| worker.spec.pool == pool);
        let ids =
            there.filter(|w| w.state != WorkerState::Lost).filter_map(|w| w.spec.labels.get(INSTANCE_LABEL));
        let machine = |id: &String| InstanceReport {
            id: id.clone(),
            // Nobody says that it goes: what was ordered counts, and is ordered again when it has been forgotten.
            phase: if self.was_ordered(&pool, id) { InstancePhase::Going } else { InstancePhase::InService },
            protected: true,
            image: None,
        };
        let instances: Vec<InstanceReport> = ids.map(machine).collect();
        // Each order is given once: what the last one said is what the group has, as far as anybody knows.
        let desired = self.scaling.said.get(&pool).copied().unwrap_or(u32::MAX);
        self.group_came(now, pool, GroupReport { desired, min: 0, max: u32::MAX, instances });
    }

    /// Which workers are on which machines, by what both say now: a worker may have joined since its provider was asked.
    pub(super) fn match_workers(&mut self) {
        let Self { view, scaling, .. } = self;
        if scaling.groups.is_empty() {
            return;
        }
        let by_instance: BTreeMap<(&str, &str), &Worker> = view
            .workers
            .values()
            .map(|view| &view.worker)
            .filter_map(|w| Some(((w.spec.pool.as_str(), w.spec.labels.get(INSTANCE_LABEL)?.as_str()), w)))
            .collect();
        for (pool, group) in &mut scaling.groups {
            for instance in &mut group.instances {
                let worker = by_instance.get(&(pool.as_str(), instance.id.as_str()));
                let is_lost = |worker: &&&Worker| worker.state == WorkerState::Lost;
                instance.lost = worker.filter(is_lost).map(|worker| worker.changed.tick);
                let worker = worker.filter(|worker| !is_lost(worker));
                instance.worker = worker.map(|worker| worker.id);
                let key = (pool.clone(), instance.id.clone());
                let Some((since, has_joined)) = scaling.machines.get_mut(&key) else { continue };
                let Some(worker) = worker.filter(|_| !*has_joined) else { continue };
                *has_joined = true;
                // Of a machine that was seen before its worker came the time is known, to a look of its provider.
                if worker.joined.tick > *since {
                    scaling.boots.insert(pool.clone(), worker.joined.tick.since(*since));
                }
            }
        }
    }
}
