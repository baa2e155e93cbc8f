//! Whether a worker can take an index: amounts and devices. The same arithmetic says at submission what could never fit.

use super::links::linked;
use crate::model::placement::Share;
use crate::model::resources::{GpuAmount, GpuRequest, Resources, model_matches};
use crate::model::worker::{Device, WorkerSpec};
use crate::state::Used;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The largest thing that is missing on the best worker, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// `cpus`, `memory`, `disk` or `GPUs`.
    pub what: &'static str,
    pub asked: String,
    pub largest: String,
    pub worker: String,
}

/// Whether the device is of the kind that the request accepts, whatever is taken of it. MIG instances go only to those who ask for
/// their profile. `wanted` is one of the request's models.
pub(super) fn accepts(request: &GpuRequest, wanted: Option<&str>, device: &Device) -> bool {
    !device.absent
        && device.memory >= request.memory
        && device.mig.as_deref() == request.amount.profile()
        && request.compute_capability.is_none_or(|rule| {
            rule.accepts((device.compute_capability / 10) as u16, (device.compute_capability % 10) as u16)
        })
        && wanted.is_none_or(|w| model_matches(w, &device.model))
}

/// The numbers of the devices that the request accepts, whatever is taken of them: one list for each of its models, in the order of
/// preference; one of all when it names none.
pub(super) fn accepted(request: &GpuRequest, devices: &[Device]) -> Vec<Vec<u16>> {
    let of = |wanted: Option<&str>| {
        let numbered = (0_u16..).zip(devices).filter(|(_, d)| accepts(request, wanted, d));
        numbered.map(|(number, _)| number).collect()
    };
    match request.model.is_empty() {
        true => vec![of(None)],
        false => request.model.iter().map(|model| of(Some(model))).collect(),
    }
}

/// What the request could get of these devices beside what is used, the fullest device first; nothing when there is not enough. Of the
/// accepted ones the first list that has enough is taken. Whole devices come in the order of their numbers, those with foreign processes
/// only when there are not enough others; for a fraction there is a choice between devices of which differently much is taken.
pub(super) fn options(
    request: &GpuRequest,
    accepted: &[Vec<u16>],
    devices: &[Device],
    used: &Used,
) -> Vec<Vec<Share>> {
    let milli = request.amount.milli();
    let take = |numbers: &Vec<u16>| -> Option<Vec<Vec<Share>>> {
        let free = numbers.iter().filter_map(|device| {
            let memory = devices.get(usize::from(*device))?.memory;
            let share = Share { device: *device, milli, memory: 0 }.of(memory);
            used.has_room(&share, memory).then_some(share)
        });
        match request.amount {
            GpuAmount::Fraction(_) => {
                let mut distinct: BTreeMap<(bool, Reverse<u16>), Share> = BTreeMap::new();
                free.for_each(|share| {
                    let taken = Reverse(used.device(share.device).milli);
                    distinct.entry((used.foreign.contains(&share.device), taken)).or_insert(share);
                });
                (!distinct.is_empty()).then(|| distinct.into_values().map(|share| vec![share]).collect())
            }
            GpuAmount::Whole(count) | GpuAmount::Mig(_, count) => {
                let free: Vec<Share> = free.collect();
                let numbers: Vec<u16> = free.iter().map(|s| s.device).collect();
                let alone: Vec<u16> =
                    numbers.iter().copied().filter(|number| !used.foreign.contains(number)).collect();
                let picked = linked(request.link, devices, &alone, count as usize)
                    .or_else(|| linked(request.link, devices, &numbers, count as usize))?;
                Some(vec![free.into_iter().filter(|s| picked.contains(&s.device)).collect()])
            }
        }
    };
    accepted.iter().find_map(take).unwrap_or_default()
}

/// Whether the amounts that are no devices fit beside what is used.
pub(crate) fn has_room(resources: &Resources, worker: &WorkerSpec, used: &Used) -> bool {
    used.cpu_milli + resources.cpu_milli <= worker.cpu_milli
        && used.memory + resources.memory <= worker.memory
        && used.disk + resources.disk <= worker.disk
}

/// The devices of a placement on this worker, if it fits beside what is used.
pub(crate) fn fit(resources: &Resources, worker: &WorkerSpec, used: &Used) -> Option<Vec<Share>> {
    if !has_room(resources, worker, used) {
        return None;
    }
    match &resources.gpus {
        None => Some(Vec::new()),
        Some(request) => {
            let devices = &worker.devices;
            options(request, &accepted(request, devices), devices, used).into_iter().next()
        }
    }
}

/// Whether the worker could take it with nothing else on it.
#[must_use]
pub fn fits_empty(resources: &Resources, worker: &WorkerSpec) -> bool {
    fit(resources, worker, &Used::default()).is_some()
}

/// Whether any of the workers could ever take it.
///
/// # Errors
/// What is missing most plainly, and the worker that comes closest. Without workers nothing is said: they may come.
pub fn could_ever_fit<'a>(
    resources: &Resources,
    workers: impl Iterator<Item = &'a WorkerSpec> + Clone,
) -> Result<(), Shortfall> {
    if workers.clone().next().is_none() || workers.clone().any(|w| fits_empty(resources, w)) {
        return Ok(());
    }
    let most = |amount: fn(&WorkerSpec) -> u64| workers.clone().max_by_key(|w| amount(w));
    let short = |what, asked: String, worker: &WorkerSpec, largest: String| {
        Err(Shortfall { what, asked, largest, worker: worker.name.clone() })
    };
    let cpus = |milli: u64| format!("{}", milli as f64 / 1000.0);
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    if let Some(w) = most(|w| w.cpu_milli).filter(|w| w.cpu_milli < resources.cpu_milli) {
        return short("cpus", cpus(resources.cpu_milli), w, cpus(w.cpu_milli));
    }
    if let Some(w) = most(|w| w.memory).filter(|w| w.memory < resources.memory) {
        return short("memory", gib(resources.memory), w, gib(w.memory));
    }
    if let Some(w) = most(|w| w.disk).filter(|w| w.disk < resources.disk) {
        return short("disk", gib(resources.disk), w, gib(w.disk));
    }
    let matching = |w: &WorkerSpec| {
        let one = |d: &&Device| {
            resources.gpus.as_ref().is_some_and(|g| {
                g.model.is_empty() && accepts(g, None, d)
                    || g.model.iter().any(|model| accepts(g, Some(model), d))
            })
        };
        w.devices.iter().filter(one).count()
    };
    match workers.clone().max_by_key(|w| matching(w)) {
        Some(w) if matching(w) < resources.gpu_count() as usize => {
            short("GPUs", resources.gpu_count().to_string(), w, matching(w).to_string())
        }
        Some(w) => short("resources", "all of this at once".to_owned(), w, "less".to_owned()),
        None => Ok(()),
    }
}
