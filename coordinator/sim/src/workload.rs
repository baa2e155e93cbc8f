//! What is asked of the cluster: random DAGs with arrays, rules, retries, timeouts and GPUs, and what people do to them meanwhile.

use crate::event::Event;
use crate::replicas::Origin;
use crate::rng::Rng;
use crate::saver::with_keeps;
use crate::world::World;
use muster_core::command::{Command, Request, Target};
use muster_core::model::gang::Gang;
use muster_core::model::ids::{JobId, TaskNo, WorkerId};
use muster_core::model::job_spec::{
    ArraySpec, IndexRange, Indices, InputSpec, JobSpec, Need, NeedWhen, OutputSpec, Run, StopSpec,
    TaskCommon, TaskExtra, TaskSpec, TriggerRule,
};
use muster_core::model::resources::{GpuAmount, GpuRequest, Resources};
use muster_core::model::retry::{Backoff, RetryOn, RetryPolicy};
use muster_core::model::time::Tick;
use muster_core::spec::SpecBytes;
use std::collections::BTreeMap;

impl World {
    /// The submissions and the operator's calls of this run.
    pub(crate) fn plan_workload(&mut self) {
        let span = self.options.safety_ms;
        let mut rng = Rng::new(self.options.seed, "workload");
        let mut gangs = Rng::new(self.options.seed, "gangs");
        let mut keeps = Rng::new(self.options.seed, "keeps");
        for number in 0..self.options.jobs {
            let job_spec = with_keeps(&mut keeps, with_gangs(&mut gangs, job(&mut rng, number)));
            let spec = SpecBytes::encode(&job_spec);
            let request = self.clients.request();
            self.oracle.reference.written(&request.id, &job_spec);
            let delay = rng.below(span * 3 / 4);
            if rng.chance(300) {
                self.plan_read(delay + rng.below(100), &request.id);
            }
            if rng.chance(150) {
                self.plan_parts(delay, request, &spec, rng.range(1, 3) as u32);
                continue;
            }
            self.plan_op(
                delay,
                Command::Submit { request: request.clone(), spec, parts: 0, forecast_micro_usd: None },
                false,
            );
            if rng.chance(50) {
                // Somebody uses the id again for another job, after the first is surely in.
                let other = SpecBytes::encode(&job(&mut rng, number + 1000));
                self.plan_reuse(
                    delay,
                    Command::Submit { request, spec: other, parts: 0, forecast_micro_usd: None },
                );
            }
        }
        let decays = keeps.pick(&[0, 0, 3, 12]);
        for number in 0..decays {
            self.at(keeps.below(span), Event::Decay { number });
        }
        if rng.chance(250) {
            self.at(rng.range(span / 2, span), Event::Retire);
        }
        if rng.chance(200) {
            self.at(rng.range(span / 4, span * 3 / 4), Event::Roll { step: 0 });
        }
        self.plan_preemptions();
        if self.options.cloud {
            self.plan_pool_jobs();
        }
        for _ in 0..rng.below(4) {
            let worker = WorkerId(rng.range(1, self.machines.len() as u64));
            let deadline_ms = rng.chance(500).then(|| rng.range(0, 10_000));
            let delay = rng.below(span);
            let request = self.clients.request();
            self.plan_op(
                delay,
                Command::Drain { request, worker, deadline_ms, reason: "kernel".to_owned() },
                false,
            );
            if rng.chance(700) {
                let request = self.clients.request();
                self.plan_op(delay + rng.range(1_000, 20_000), Command::Undrain { request, worker }, false);
            }
        }
    }

    /// A submission in parts. Calls of one client may overtake each other; one that came before its parts is made again.
    fn plan_parts(&mut self, delay: u64, request: Request, spec: &SpecBytes, parts: u32) {
        let whole = Command::Submit {
            request: request.clone(),
            spec: SpecBytes(Vec::new()),
            parts,
            forecast_micro_usd: None,
        };
        self.plan_op(delay + 20, whole, false);
        let size = spec.0.len().div_ceil(parts as usize);
        for part in 0..parts {
            let bytes = spec.0.chunks(size).nth(part as usize).unwrap_or_default().to_vec();
            self.plan_op(delay, Command::SubmitPart { request: request.clone(), part, bytes }, false);
        }
    }

    /// The other payload is only sure to be refused when the first is in: it is asked long after.
    fn plan_reuse(&mut self, delay: u64, command: Command) {
        self.oracle.reuses.push((delay, command));
    }

    /// What people do to a job once they know its id.
    pub(crate) fn plan_mutations(&mut self, job: JobId) {
        let count = self.clients.rng.below(4);
        for _ in 0..count {
            let whole = Target { job, task: None, index: None };
            let task = TaskNo(self.clients.rng.below(8) as u32);
            let target = match self.clients.rng.below(4) {
                0 | 1 => whole,
                2 => Target { task: Some(task), ..whole },
                _ => Target { task: Some(task), index: Some(self.clients.rng.below(6) as u32), ..whole },
            };
            let delay = self.clients.rng.range(1, 30_000);
            let request = self.clients.request();
            match self.clients.rng.below(6) {
                0 | 1 => self.plan_op(delay, Command::Cancel { request, target }, false),
                2 | 3 => {
                    self.plan_op(delay, Command::Hold { request, target: target.clone() }, false);
                    if self.clients.rng.chance(700) {
                        let request = self.clients.request();
                        let later = delay + self.clients.rng.range(1, 10_000);
                        self.plan_op(later, Command::Release { request, target }, false);
                    }
                }
                _ => self.plan_op(delay, Command::Rerun { request, target }, false),
            }
        }
        // The id of an acknowledged submission is used again for something else.
        if let Some(position) = self.oracle.reuses.iter().position(|(_, c)| self.is_answered(c)) {
            let (_, command) = self.oracle.reuses.remove(position);
            self.plan_op(10, command, true);
        }
    }

    fn is_answered(&self, command: &Command) -> bool {
        let Command::Submit { request, .. } = command else { return false };
        self.oracle.acknowledged.values().any(|id| *id == request.id)
    }

    /// Whoever submitted looks at once, now and then, and later.
    pub(crate) fn plan_looks(&mut self, request: &str, at_once_permille: u64) {
        if self.clients.rng.chance(at_once_permille) {
            self.plan_read(1, request);
        }
        for _ in 0..self.clients.rng.below(4) {
            let delay = self.clients.rng.range(1, 40_000);
            self.plan_read(delay, request);
        }
    }

    /// A mutation was answered: somebody looks what came of it.
    pub(crate) fn look_after(&mut self, target: &Target) {
        if !self.healed
            && self.clients.rng.chance(300)
            && let Some(request) = self.oracle.requests.get(&target.job).cloned()
        {
            self.plan_read(1, &request);
        }
    }

    /// Finished jobs leave memory, as they do after a week.
    pub(crate) fn retire(&mut self) {
        if self.healed {
            return;
        }
        // Again and again: there may be no leader, the proposal may be lost, and nothing may have ended yet.
        self.at(5_000, Event::Retire);
        let Some(leader) = self.cluster.leader else { return };
        let tick = self.members[leader].state.tick().0;
        let before = Tick(tick.saturating_sub(2_000));
        self.propose(leader, vec![Command::Retire { before }], Origin::Nobody);
    }

    /// Some of what was cancelled is wanted after all.
    pub(crate) fn plan_rerun(&mut self, job: JobId) {
        if !self.healed && self.clients.rng.chance(300) {
            let target = Target { job, task: None, index: None };
            let delay = self.clients.rng.range(1, 20_000);
            let request = self.clients.request();
            self.plan_op(delay, Command::Rerun { request, target }, false);
        }
    }
}

/// Some of its tasks need several workers at once; any two machines have what such a one asks for.
fn with_gangs(rng: &mut Rng, mut job: JobSpec) -> JobSpec {
    for common in &mut job.commons {
        if !rng.chance(200) {
            continue;
        }
        let (min, max) = rng.pick(&[(2, 2), (2, 2), (1, 3), (2, 3)]);
        common.resources.gpus = None;
        common.gang = Some(Box::new(Gang { min, max, require: None, prefer: Vec::new() }));
    }
    job
}

/// A random job.
fn job(rng: &mut Rng, number: u64) -> JobSpec {
    let count = rng.range(1, 8) as u32;
    let commons: Vec<TaskCommon> = (0..count).map(|_| common(rng)).collect();
    let tasks: Vec<TaskSpec> = (0..count).map(|no| task(rng, no)).collect();
    JobSpec {
        name: format!("job-{number}"),
        queue: "default".to_owned(),
        priority: rng.range(0, 100) as u8,
        labels: BTreeMap::new(),
        env: BTreeMap::new(),
        workdir: None,
        params: BTreeMap::new(),
        compat_slurm: false,
        budget: None,
        commons,
        tasks,
    }
}

fn common(rng: &mut Rng) -> TaskCommon {
    use TriggerRule::{
        AllDone, AllFailed, AllSuccess, Always, NoneFailed, NoneFailedMinOneSuccess, OneFailed, OneSuccess,
    };
    let rules = [
        AllSuccess,
        AllSuccess,
        AllSuccess,
        AllSuccess,
        AllDone,
        AllFailed,
        OneSuccess,
        OneFailed,
        NoneFailed,
        NoneFailedMinOneSuccess,
        Always,
    ];
    let gpus = rng
        .chance(250)
        .then(|| GpuRequest { amount: GpuAmount::Whole(rng.range(1, 2) as u32), ..GpuRequest::default() });
    TaskCommon {
        rule: rng.pick(&rules),
        resources: Resources {
            cpu_milli: rng.pick(&[100, 500, 1_000, 3_000]),
            memory: rng.range(0, 4) << 30,
            disk: 0,
            gpus,
        },
        retry: RetryPolicy {
            attempts: rng.range(1, 4) as u32,
            backoff: Backoff { initial_ms: rng.pick(&[1, 100, 2_000]), max_ms: 8_000, ..Backoff::default() },
            on: RetryOn {
                exit_codes: rng.chance(200).then(|| vec![1, 2, 139]),
                oom: rng.chance(700),
                timeout: rng.chance(700),
            },
            ..RetryPolicy::default()
        },
        timeout_ms: rng.chance(200).then(|| if rng.chance(700) { rng.range(200, 6_000) } else { 25_000 }),
        stop: StopSpec { signal: 15, grace_ms: rng.pick(&[0, 500, 4_000]) },
        ..TaskCommon::default()
    }
}

fn task(rng: &mut Rng, no: u32) -> TaskSpec {
    let mut needs = Vec::new();
    for parent in 0..no {
        if rng.chance(300) {
            let when = if rng.chance(800) {
                NeedWhen::Unsaid
            } else {
                rng.pick(&[NeedWhen::Succeeded, NeedWhen::Failed, NeedWhen::Finished, NeedWhen::Skipped])
            };
            needs.push(Need { task: TaskNo(parent), when });
        }
    }
    let inputs = needs.iter().filter(|n| n.when == NeedWhen::Unsaid).take(1);
    let inputs =
        inputs.map(|n| InputSpec { name: "in".into(), task: n.task, output: "out".into() }).collect();
    let array = rng.chance(350).then(|| {
        let count = rng.range(1, 12) as u32;
        let range = IndexRange { first: rng.below(5) as u32, count, step: rng.range(1, 3) as u32 };
        ArraySpec {
            count,
            indices: Indices::Ranges(vec![range]),
            max_running: rng.chance(300).then(|| rng.range(1, 3) as u32),
        }
    });
    let conditions = [
        "1 < 2",
        "job.name == 'job-1'",
        "tasks.t0.succeeded_count > 0",
        "tasks.t0.failed_count == 0",
        "tasks.nobody.total > 0",
    ];
    let when = rng.chance(150).then(|| rng.pick(&conditions).into());
    let outputs = vec![OutputSpec { name: "out".into(), path: "out".into() }];
    TaskSpec {
        name: format!("t{no}").into(),
        run: Run::Exec(["/bin/true"].into_iter().collect()),
        needs: needs.into(),
        common: no,
        extra: Some(Box::new(TaskExtra { array, inputs, outputs, when })),
    }
}
