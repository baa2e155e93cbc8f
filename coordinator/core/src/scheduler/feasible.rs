//! Whether a worker can take an index: amounts and devices. The same arithmetic says at submission what could never fit.

use crate::model::resources::{GpuRequest, Resources, model_matches};
use crate::model::worker::{Device, WorkerSpec};
use crate::state::Used;

/// The largest thing that is missing on the best worker, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// `cpus`, `memory`, `disk` or `GPUs`.
    pub what: &'static str,
    pub asked: String,
    pub largest: String,
    pub worker: String,
}

/// Free devices that the request accepts, in the order of their numbers, `count` of them; none when there are fewer. Models are
/// in order of preference: the first model of which enough are free is taken.
pub(super) fn devices(request: &GpuRequest, devices: &[Device], used: &Used) -> Option<Vec<u16>> {
    let fits = |d: &Device| {
        d.memory >= request.memory
            && request.compute_capability.is_none_or(|rule| {
                rule.accepts((d.compute_capability / 10) as u16, (d.compute_capability % 10) as u16)
            })
    };
    let free = |wanted: Option<&str>| -> Vec<u16> {
        let picked = devices.iter().enumerate().filter(|(n, d)| {
            !used.devices.contains(&(*n as u16))
                && fits(d)
                && wanted.is_none_or(|w| model_matches(w, &d.model))
        });
        picked.map(|(n, _)| n as u16).take(request.count as usize).collect()
    };
    let enough = |picked: Vec<u16>| (picked.len() == request.count as usize).then_some(picked);
    if request.model.is_empty() {
        return enough(free(None));
    }
    request.model.iter().find_map(|model| enough(free(Some(model))))
}

/// The devices of a placement on this worker, if it fits beside what is used.
pub(super) fn fit(resources: &Resources, worker: &WorkerSpec, used: &Used) -> Option<Vec<u16>> {
    if used.cpu_milli + resources.cpu_milli > worker.cpu_milli
        || used.memory + resources.memory > worker.memory
        || used.disk + resources.disk > worker.disk
    {
        return None;
    }
    match &resources.gpus {
        None => Some(Vec::new()),
        Some(request) => devices(request, &worker.devices, used),
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
                devices(&GpuRequest { count: 1, ..g.clone() }, std::slice::from_ref(d), &Used::default())
                    .is_some()
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
