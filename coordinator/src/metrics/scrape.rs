//! One scrape: state, signals and measurements as they are, and what was counted. Any member answers; signals and measurements are asked of the
//! one that leads, and left out while none does: an absent number is not zero.

use super::counters::Counters;
use super::text::{Exposition, Format, Kind};
use crate::api::Service;
use crate::raft::Role;
use muster_core::ledger::{Class, Counters as Books};
use muster_core::model::attempt::AttemptState;
use muster_core::model::ids::WorkerId;
use muster_core::model::job::Counts;
use muster_core::model::telemetry::{DeviceSample, Telemetry};
use muster_core::state::State;
use muster_core::view_doc::PoolSignalDoc;
use std::collections::BTreeMap;
use std::time::Duration;

/// Queues with series of their own, by name; the rest are `other`. Anybody who may submit can name a queue.
const QUEUES_MAX: usize = 200;
/// Pools with series of their own, by name; the rest are `other`. A worker says of which pool it is.
const POOLS_MAX: usize = 200;
/// A leader that does not say in this time what it wants leaves that out: a scrape has a deadline too.
const SIGNALS_WITHIN: Duration = Duration::from_secs(1);
/// The name of what is beyond a limit. No queue or pool can be called so by accident: the brackets are not allowed in names.
const OTHER: &str = "(other)";

/// What is read of the state under its lock.
struct Seen {
    queues: BTreeMap<String, Counts>,
    workers: BTreeMap<(String, &'static str), u64>,
    jobs: BTreeMap<&'static str, u64>,
    leases: u64,
    names: BTreeMap<WorkerId, String>,
    books: Books,
}

/// The key to count `name` under, given how many names there are already.
fn bounded<'a, V>(known: &BTreeMap<String, V>, name: &'a str, limit: usize) -> &'a str {
    if known.contains_key(name) || known.len() < limit { name } else { OTHER }
}

fn seen(state: &State) -> Seen {
    let mut queues: BTreeMap<String, Counts> = BTreeMap::from([("default".to_owned(), Counts::default())]);
    let mut jobs: BTreeMap<&'static str, u64> = BTreeMap::new();
    for job in state.jobs() {
        *jobs.entry(job.state().as_str()).or_default() += 1;
        let queue = bounded(&queues, &job.spec.queue, QUEUES_MAX).to_owned();
        queues.entry(queue).or_default().add(&job.counts());
    }
    let mut leases = 0;
    for attempt in state.live() {
        leases += attempt.seats.len() as u64;
        let Some(job) = state.job(attempt.at.job) else { continue };
        let queue = if queues.contains_key(&job.spec.queue) { &job.spec.queue } else { OTHER };
        let Some(counts) = queues.get_mut(queue) else { continue };
        // The core counts what starts and stops as running.
        let part = match attempt.state {
            AttemptState::Starting => &mut counts.starting,
            AttemptState::Stopping => &mut counts.stopping,
            AttemptState::Running => continue,
        };
        *part += 1;
        counts.running = counts.running.saturating_sub(1);
    }
    let mut pools: BTreeMap<String, ()> = BTreeMap::new();
    let mut workers: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
    for worker in state.workers() {
        let pool = bounded(&pools, &worker.spec.pool, POOLS_MAX).to_owned();
        pools.insert(pool.clone(), ());
        *workers.entry((pool, worker.state.as_str())).or_default() += 1;
    }
    Seen {
        queues,
        workers,
        jobs,
        leases,
        names: state.workers().map(|worker| (worker.id, worker.spec.name.clone())).collect(),
        books: state.counters(),
    }
}

fn states(counts: &Counts) -> [(&'static str, u64); 10] {
    [
        ("waiting", counts.waiting),
        ("ready", counts.ready),
        ("held", counts.held),
        ("starting", counts.starting),
        ("running", counts.running),
        ("stopping", counts.stopping),
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
        ("skipped", counts.skipped),
        ("cancelled", counts.cancelled),
    ]
}

fn write_state(all: &mut Exposition, seen: &Seen) {
    let mut tasks = all.family(
        Kind::Gauge,
        "muster_tasks",
        "Task indices of the jobs that are kept, by state and queue.",
    );
    for (queue, counts) in &seen.queues {
        for (state, count) in states(counts) {
            tasks.count(&[("state", state), ("queue", queue)], count);
        }
    }
    let mut jobs = all.family(Kind::Gauge, "muster_jobs", "Jobs that are kept, by state.");
    for (state, count) in &seen.jobs {
        jobs.count(&[("state", state)], *count);
    }
    all.family(Kind::Gauge, "muster_leases", "Leases that are granted: one for each rank of a gang.")
        .count(&[], seen.leases);
    let mut workers = all.family(Kind::Gauge, "muster_workers", "Workers by state and pool.");
    for ((pool, state), count) in &seen.workers {
        workers.count(&[("state", state), ("pool", pool)], *count);
    }
}

fn write_pools(all: &mut Exposition, pools: &[PoolSignalDoc]) {
    let mut each = |name: &'static str, help: &str, value: &dyn Fn(&PoolSignalDoc) -> Option<f64>| {
        let mut family = all.family(Kind::Gauge, name, help);
        for pool in pools.iter().take(crate::pools::POOLS_MAX) {
            if let Some(value) = value(pool) {
                family.sample(&[("pool", &pool.pool)], value);
            }
        }
    };
    each("muster_pool_desired_workers", "Workers that a pool is to have.", &|p| Some(f64::from(p.desired)));
    each(
        "muster_pool_gpu_allocated_ratio",
        "GPUs that are granted, of those of a pool's usable workers.",
        &|p| p.use_ratio.gpu,
    );
    each(
        "muster_pool_cpu_allocated_ratio",
        "CPUs that are granted, of those of a pool's usable workers.",
        &|p| p.use_ratio.cpu,
    );
    each(
        "muster_pool_load_ratio",
        "Granted and waited for, over what a pool has: a target to track.",
        &|p| p.use_ratio.load,
    );
    each(
        "muster_pool_queue_wait_seconds",
        "The longest wait of what is ready and could run in a pool.",
        &|p| Some(p.use_ratio.queue_wait_seconds),
    );
    each("muster_pool_waiting_tasks", "Ready task indices that could run in a pool.", &|p| {
        Some(p.use_ratio.waiting as f64)
    });
    let mut workers =
        all.family(Kind::Gauge, "muster_pool_workers", "Workers of a configured pool, by state.");
    for pool in pools.iter().take(crate::pools::POOLS_MAX) {
        for (state, count) in &pool.workers {
            workers.count(&[("pool", &pool.pool), ("state", state)], u64::from(*count));
        }
    }
}

/// What the ledger has booked: the same on every member.
fn write_books(all: &mut Exposition, books: &Books) {
    let mut time = all.family(Kind::Counter, "muster_gpu_seconds_total", "GPU-seconds, by what the GPU did.");
    for class in Class::ALL {
        time.sample(&[("state", class.as_str())], books.classes.of(class).gpu_seconds());
    }
    let lost = books.classes.of(Class::Lost).gpu_seconds();
    all.family(
        Kind::Counter,
        "muster_lost_work_gpu_seconds_total",
        "GPU-seconds of work that was not saved.",
    )
    .sample(&[], lost);
    let mut queues: BTreeMap<String, f64> = BTreeMap::new();
    for (queue, amount) in &books.queues {
        *queues.entry(bounded(&queues, queue, QUEUES_MAX).to_owned()).or_default() += amount.usd();
    }
    let mut cost = all.family(Kind::Counter, "muster_cost_usd_total", "USD that the jobs of a queue cost.");
    for (queue, usd) in &queues {
        cost.sample(&[("queue", queue)], *usd);
    }
}

fn write_gpus(
    all: &mut Exposition,
    names: &BTreeMap<WorkerId, String>,
    measured: &BTreeMap<WorkerId, Telemetry>,
) {
    let mut each = |name: &'static str, help: &str, value: &dyn Fn(&DeviceSample) -> Option<f64>| {
        let mut family = all.family(Kind::Gauge, name, help);
        for (worker, telemetry) in measured {
            let Some(worker) = names.get(worker) else { continue };
            for device in &telemetry.devices {
                if let Some(value) = value(device) {
                    family.sample(&[("worker", worker), ("uuid", &device.uuid)], value);
                }
            }
        }
    };
    each("muster_gpu_utilization_ratio", "Part of the time that something computed.", &|d| {
        d.utilization_permille.map(|permille| f64::from(permille) / 1_000.0)
    });
    each("muster_gpu_memory_used_bytes", "Memory in use.", &|d| d.memory_used.map(|bytes| bytes as f64));
    each("muster_gpu_temperature_celsius", "Temperature.", &|d| d.temperature.map(f64::from));
    each("muster_gpu_power_watts", "Power drawn.", &|d| d.power_mw.map(|mw| f64::from(mw) / 1_000.0));
}

fn write_counters(all: &mut Exposition, counters: &Counters) {
    all.family(
        Kind::Counter,
        "muster_fenced_reports_total",
        "Reports that came under a token that was not current, and changed nothing.",
    )
    .count(&[], counters.fenced());
    let mut evictions =
        all.family(Kind::Counter, "muster_evictions_total", "Attempts that were evicted, by cause.");
    for (cause, count) in counters.evictions() {
        evictions.count(&[("cause", &cause)], count);
    }
    let histograms = [
        ("muster_raft_commit_seconds", "From a proposal to its commit, on the leader.", counters.commit()),
        (
            "muster_schedule_cycle_seconds",
            "A cycle of the scheduler that placed something.",
            counters.cycle(),
        ),
        (
            "muster_submit_to_start_seconds",
            "From the submission of a job to the start of the first attempt of each index.",
            counters.submit_to_start(),
        ),
    ];
    for (name, help, histogram) in histograms {
        all.family(Kind::Histogram, name, help).histogram(&[], &histogram.snapshot());
    }
}

impl Service {
    /// A scrape of this member.
    pub async fn metrics(&self, format: Format) -> String {
        let signals = tokio::time::timeout(SIGNALS_WITHIN, self.signals(None, Duration::ZERO));
        let (measured, signals) = tokio::join!(self.telemetry(), signals);
        let seen = self.forward.read(seen);
        let node = self.forward.node();
        let status = node.status().borrow().clone();
        let applied = *node.applied().borrow();
        let voters = status.members.iter().filter(|member| member.voter).count();

        let mut all = Exposition::new(format);
        all.family(Kind::Gauge, "muster_build_info", "The version that answers; always 1.")
            .count(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        let raft = [
            ("muster_raft_term", "The term, as this member knows it.", status.term),
            (
                "muster_raft_leader",
                "Id of the leading member, as this member knows it; 0 while it knows none.",
                status.leader.as_ref().map_or(0, |(id, _)| *id),
            ),
            ("muster_raft_is_leader", "1 on the member that leads.", u64::from(status.role == Role::Leader)),
            ("muster_raft_voters", "Members that vote.", voters as u64),
            (
                "muster_raft_last_applied",
                "Index of the last log entry that this member has applied.",
                applied,
            ),
        ];
        for (name, help, value) in raft {
            all.family(Kind::Gauge, name, help).count(&[], value);
        }
        write_state(&mut all, &seen);
        if let Ok(Ok(signals)) = &signals {
            write_pools(&mut all, &signals.pools);
        }
        write_books(&mut all, &seen.books);
        write_gpus(&mut all, &seen.names, &measured);
        write_counters(&mut all, &self.counters);
        all.finish()
    }
}
