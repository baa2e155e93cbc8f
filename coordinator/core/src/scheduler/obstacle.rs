//! Why a worker does not take an index: the first thing that stands in the way, from what will never change to what changes by itself.

use super::feasible::{accepts, fit, fits_empty};
use super::plan::facts_of;
use crate::model::breaker::{BreakerKey, Gate};
use crate::model::job_spec::TaskCommon;
use crate::model::placement::{DeviceUse, WHOLE};
use crate::model::resources::{GpuAmount, GpuRequest, Resources, model_matches};
use crate::model::time::Tick;
use crate::model::worker::{Device, Worker, WorkerSpec, WorkerState};
use crate::spec::{Expressions, WorkerValue};
use crate::state::{State, Used};

/// What stands in the way. Their order is the order in which they are looked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Obstacle {
    Lost,
    Draining,
    /// Its machine is said to go.
    Goes,
    /// The breaker is open or has its probe out.
    Breaker(String),
    /// This constraint does not hold.
    Constraint(String),
    /// It is too small, or has other devices, whatever else runs on it.
    Never(String),
    /// It has enough devices, but not in service.
    Quarantined,
    /// Others have what it needs.
    Busy,
}

impl Obstacle {
    /// For people; the same words for every worker with the same obstacle.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Lost => "the worker is lost".to_owned(),
            Self::Draining => "the worker is draining or drained".to_owned(),
            Self::Goes => "the worker is under a preemption notice".to_owned(),
            Self::Breaker(reason) => format!("the worker's circuit breaker is open: {reason}"),
            Self::Constraint(text) => format!("the constraint `{text}` does not hold"),
            Self::Never(what) => what.clone(),
            Self::Quarantined => "too few of its GPUs are in service: the others are quarantined".to_owned(),
            Self::Busy => "other work has what it needs".to_owned(),
        }
    }
}

/// Devices of the worker that are out of service count as taken.
pub(super) fn masked(state: &State, spec: &WorkerSpec, mut used: Used) -> Used {
    for (number, device) in (0_u16..).zip(&spec.devices) {
        if state.is_quarantined(&device.uuid) {
            used.devices.insert(number, DeviceUse { milli: WHOLE, memory: device.memory });
        }
    }
    used
}

/// What keeps the worker from taking one index of it now; none: it would.
pub(super) fn obstacle(
    state: &State,
    worker: &Worker,
    common: &TaskCommon,
    now: Tick,
    expressions: &mut Expressions,
) -> Option<Obstacle> {
    match worker.state {
        WorkerState::Ready => {}
        WorkerState::Lost => return Some(Obstacle::Lost),
        WorkerState::Draining | WorkerState::Drained if worker.notice.is_some() => {
            return Some(Obstacle::Goes);
        }
        WorkerState::Draining | WorkerState::Drained => return Some(Obstacle::Draining),
    }
    if let Some(breaker) = state.breakers().get(&BreakerKey::Worker(worker.id))
        && !breaker.gate(now).lets_pass()
    {
        let next = match breaker.gate(now) {
            Gate::Open(until) => format!("; a probe goes in {} s", until.since(now).div_ceil(1000)),
            _ => "; its probe is under way".to_owned(),
        };
        return Some(Obstacle::Breaker(format!("{}{next}", breaker.reason)));
    }
    if let Some(text) = broken_constraint(&worker.spec, common, expressions) {
        return Some(Obstacle::Constraint(text.to_owned()));
    }
    let (resources, spec) = (&common.resources, &worker.spec);
    if !fits_empty(resources, spec) {
        return Some(Obstacle::Never(shortage(resources, spec)));
    }
    if fit(resources, spec, &masked(state, spec, Used::default())).is_none() {
        return Some(Obstacle::Quarantined);
    }
    let free = fit(resources, spec, &masked(state, spec, state.used(worker.id)));
    free.is_none().then_some(Obstacle::Busy)
}

/// The first constraint that the worker breaks.
pub(super) fn broken_constraint<'a>(
    spec: &WorkerSpec,
    common: &'a TaskCommon,
    expressions: &mut Expressions,
) -> Option<&'a str> {
    if common.constraints.is_empty() {
        return None;
    }
    let facts = WorkerValue::new(&facts_of(spec));
    let broken =
        common.constraints.iter().find(|text| !expressions.constraint(text, &facts).unwrap_or(false));
    broken.map(String::as_str)
}

/// What the worker lacks even with nothing on it.
fn shortage(resources: &Resources, spec: &WorkerSpec) -> String {
    if spec.cpu_milli < resources.cpu_milli {
        return format!("it has fewer than {} CPUs", resources.cpu_milli as f64 / 1000.0);
    }
    if spec.memory < resources.memory {
        return format!("it has less than {} of memory", gib(resources.memory));
    }
    if spec.disk < resources.disk {
        return format!("it has less than {} of disk", gib(resources.disk));
    }
    let Some(request) = &resources.gpus else { return "it has less than what is asked for".to_owned() };
    gpu_shortage(request, &spec.devices)
}

fn gpu_shortage(request: &GpuRequest, devices: &[Device]) -> String {
    if devices.is_empty() {
        return "it has no GPU".to_owned();
    }
    let is_model =
        |d: &&Device| request.model.is_empty() || request.model.iter().any(|m| model_matches(m, &d.model));
    let of_model: Vec<&Device> = devices.iter().filter(is_model).collect();
    if of_model.is_empty() {
        return format!("none of its GPUs is {}", request.model.join(" or "));
    }
    if of_model.iter().all(|d| d.memory < request.memory) {
        return format!("its GPUs have less than {} of memory", gib(request.memory));
    }
    if let GpuAmount::Mig(profile, count) = &request.amount {
        return format!("it has fewer than {count} MIG instances {profile}");
    }
    if of_model.iter().all(|d| d.mig.is_some()) {
        return "its GPUs are divided into MIG instances".to_owned();
    }
    if let Some(rule) = request.compute_capability
        && !of_model
            .iter()
            .any(|d| rule.accepts((d.compute_capability / 10) as u16, (d.compute_capability % 10) as u16))
    {
        return format!("the compute capability of its GPUs is not {rule}");
    }
    let accepted = devices.iter().filter(|d| is_accepted(request, d)).count() as u32;
    if accepted < request.amount.devices() {
        return format!("it has fewer than {} such GPUs", request.amount.devices());
    }
    "its GPUs are not linked as asked".to_owned()
}

/// Whether the device is one that the request speaks of, whatever is taken of it.
pub(super) fn is_accepted(request: &GpuRequest, device: &Device) -> bool {
    if request.model.is_empty() {
        return accepts(request, None, device);
    }
    request.model.iter().any(|model| accepts(request, Some(model), device))
}

/// Bytes for people.
pub(super) fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
