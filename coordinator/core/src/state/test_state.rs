//! A state under test: commands go in at growing indices and ticks, and after each the rows have to say the same as the state.

use super::{Applied, Entry, State};
use crate::command::{Command, Placement, Report, ReportKind, Request, Target};
use crate::event::Event;
use crate::model::attempt::{Cause, Outcome};
use crate::model::budget::{Budget, OnExceed};
use crate::model::checkpoint::{Checkpoint, Part, Saved, Sha256};
use crate::model::gang::Gang;
use crate::model::ids::{IndexRef, JobId, TaskNo, Token, WorkerId};
use crate::model::job::IndexState;
use crate::model::job_spec::{
    ArraySpec, CheckpointSpec, Deadline, IndexRange, Indices, JobSpec, Need, NeedWhen, Run, TaskCommon,
    TaskExtra, TaskSpec, TriggerRule,
};
use crate::model::placement::Seat;
use crate::model::resources::{GpuAmount, GpuLink, GpuRequest};
use crate::model::retry::{Backoff, RetryPolicy};
use crate::model::time::{Stamp, Tick, Wall};
use crate::model::worker::{Device, Incarnation, WorkerSpec};
use crate::reply::Reply;
use crate::spec::SpecBytes;
use std::collections::BTreeMap;

/// A state, its log index, its clock.
pub(crate) struct TestState {
    pub state: State,
    pub index: u64,
    pub tick: u64,
    requests: u64,
}

/// A job of tasks `t0`, `t1` …
pub(crate) struct TestJob(JobSpec);

impl TestJob {
    pub(crate) fn new() -> Self {
        Self(JobSpec {
            name: "job".to_owned(),
            queue: "default".to_owned(),
            priority: 50,
            labels: BTreeMap::new(),
            env: BTreeMap::new(),
            workdir: None,
            params: BTreeMap::new(),
            compat_slurm: false,
            budget: None,
            commons: Vec::new(),
            tasks: Vec::new(),
        })
    }

    /// One more task, after `needs`; its set fields follow.
    pub(crate) fn task(mut self, needs: &[u32]) -> Self {
        let no = self.0.tasks.len();
        self.0.commons.push(TaskCommon::default());
        self.0.tasks.push(TaskSpec {
            name: format!("t{no}").into(),
            run: Run::Exec(["true"].into_iter().collect()),
            needs: needs.iter().map(|n| Need { task: TaskNo(*n), when: NeedWhen::Unsaid }).collect(),
            common: no as u32,
            extra: None,
        });
        self
    }

    fn last(&mut self) -> &mut TaskCommon {
        self.0.commons.last_mut().expect("a task first")
    }

    pub(crate) fn rule(mut self, rule: TriggerRule) -> Self {
        self.last().rule = rule;
        self
    }

    pub(crate) fn cpus(mut self, milli: u64) -> Self {
        self.last().resources.cpu_milli = milli;
        self
    }

    pub(crate) fn gpus(self, count: u32) -> Self {
        self.amount(GpuAmount::Whole(count))
    }

    pub(crate) fn amount(mut self, amount: GpuAmount) -> Self {
        self.last().resources.gpus = Some(GpuRequest { amount, ..GpuRequest::default() });
        self
    }

    /// The GPUs that were asked for last have to be linked.
    pub(crate) fn link(mut self, link: GpuLink) -> Self {
        self.last().resources.gpus.get_or_insert_default().link = link;
        self
    }

    /// It needs so many workers at once.
    pub(crate) fn workers(mut self, min: u32, max: u32) -> Self {
        self.last().gang = Some(Box::new(Gang { min, max, require: None, prefer: Vec::new() }));
        self
    }

    pub(crate) fn constraint(mut self, text: &str) -> Self {
        self.last().constraints.push(text.to_owned());
        self
    }

    pub(crate) fn queue(mut self, queue: &str) -> Self {
        self.0.queue = queue.to_owned();
        self
    }

    /// The most that it may cost.
    pub(crate) fn budget(mut self, micro_usd: u64, on_exceed: OnExceed) -> Self {
        self.0.budget = Some(Budget { micro_usd, on_exceed });
        self
    }

    /// Another name: another command, as breakers count.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.0.name = name.to_owned();
        self
    }

    pub(crate) fn priority(mut self, priority: u8) -> Self {
        self.0.priority = priority;
        self
    }

    /// Attempts in all, and a wait of exactly `wait_ms`, doubled each time.
    pub(crate) fn retry(mut self, attempts: u32, wait_ms: u64) -> Self {
        let backoff = Backoff { initial_ms: wait_ms, jitter_permille: 0, ..Backoff::default() };
        self.last().retry = RetryPolicy { attempts, backoff, ..RetryPolicy::default() };
        self
    }

    /// So many checkpoints are kept.
    pub(crate) fn keep(mut self, keep: u32) -> Self {
        self.last().checkpoint = Some(Box::new(CheckpointSpec { keep, ..CheckpointSpec::default() }));
        self
    }

    pub(crate) fn timeout(mut self, ms: u64) -> Self {
        self.last().timeout_ms = Some(ms);
        self
    }

    pub(crate) fn deadline(mut self, within_ms: u64, work_ms: u64) -> Self {
        self.last().deadline = Some(Box::new(Deadline { within_ms, work_ms }));
        self
    }

    pub(crate) fn array(mut self, count: u32, max_running: Option<u32>) -> Self {
        let indices = Indices::Ranges(vec![IndexRange { first: 0, count, step: 1 }]);
        let extra =
            TaskExtra { array: Some(ArraySpec { count, indices, max_running }), ..TaskExtra::default() };
        self.0.tasks.last_mut().expect("a task first").extra = Some(Box::new(extra));
        self
    }

    /// A condition; call it after `array`.
    pub(crate) fn when(mut self, text: &str) -> Self {
        let task = self.0.tasks.last_mut().expect("a task first");
        task.extra.get_or_insert_default().when = Some(text.into());
        self
    }

    pub(crate) fn bytes(&self) -> SpecBytes {
        SpecBytes::encode(&self.0)
    }
}

pub(crate) fn whole(job: u64) -> Target {
    Target { job: JobId(job), task: None, index: None }
}

pub(crate) fn at(job: u64, task: u32, index: u32) -> IndexRef {
    IndexRef::new(JobId(job), TaskNo(task), index)
}

/// A step, stored in a manifest that has this number.
pub(crate) fn stored(step: u64, manifest: u8) -> Saved {
    let part = Part { manifest: Sha256([manifest; 32]), size: 7, files: 1 };
    Saved { step, part, single: false, took_ms: step }
}

pub(crate) fn worker_spec(name: &str, cpus: u64, gpus: usize) -> WorkerSpec {
    let device = |n| Device {
        uuid: format!("{name}-{n}"),
        model: "H100-80GB".to_owned(),
        memory: 80 << 30,
        compute_capability: 90,
        simulated: true,
        ..Device::default()
    };
    WorkerSpec {
        name: name.to_owned(),
        pool: "default".to_owned(),
        cpu_milli: cpus * 1_000,
        memory: 64 << 30,
        disk: 1 << 40,
        devices: (0..gpus).map(device).collect(),
        ..WorkerSpec::default()
    }
}

impl TestState {
    /// Empty.
    pub(crate) fn new() -> Self {
        Self { state: State::new(), index: 0, tick: 0, requests: 0 }
    }

    /// With worker 1, `w1`, of 8 CPUs and so many GPUs.
    pub(crate) fn with_worker(gpus: usize) -> Self {
        let mut test = Self::new();
        test.register("w1", gpus, "a", &[]);
        test
    }

    pub(crate) fn register(&mut self, name: &str, gpus: usize, incarnation: &str, held: &[u64]) -> Reply {
        let held = held.iter().map(|t| Token(*t)).collect();
        self.apply(Command::Register {
            spec: Box::new(worker_spec(name, 8, gpus)),
            incarnation: Incarnation(incarnation.to_owned()),
            held,
        })
        .reply
    }

    /// The lease of worker 1 ran out.
    pub(crate) fn lose(&mut self, incarnation: &str) -> Reply {
        let incarnation = Incarnation(incarnation.to_owned());
        self.apply(Command::LoseWorker { worker: WorkerId(1), incarnation }).reply
    }

    pub(crate) fn apply(&mut self, command: Command) -> Applied {
        self.index += 1;
        let stamp = Stamp { wall: Wall(0), tick: Tick(self.tick) };
        let applied = self.state.apply(Entry { index: self.index, stamp, command: &command });
        assert_eq!(self.state.check(), Ok(()), "after {command:?}");
        applied
    }

    pub(crate) fn request(&mut self) -> Request {
        self.requests += 1;
        Request { id: format!("r{}", self.requests), user: "ann".to_owned() }
    }

    pub(crate) fn submit(&mut self, job: &TestJob) -> u64 {
        let request = self.request();
        match self
            .apply(Command::Submit { request, spec: job.bytes(), parts: 0, forecast_micro_usd: None })
            .reply
        {
            Reply::Submitted { job, .. } => job.0,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn place(&mut self, at: IndexRef, devices: &[u16]) -> Option<u64> {
        self.place_on(1, at, devices)
    }

    pub(crate) fn place_on(&mut self, worker: u64, at: IndexRef, devices: &[u16]) -> Option<u64> {
        self.grant(Placement::single(at, Seat::whole(WorkerId(worker), devices)))
    }

    /// The token of what the state accepts.
    pub(crate) fn grant(&mut self, placement: Placement) -> Option<u64> {
        match self.apply(Command::ApplyPlan { placements: vec![placement] }).reply {
            Reply::Placed { accepted, .. } => accepted.first().map(|t| t.0),
            other => panic!("{other:?}"),
        }
    }

    /// A gang on these workers, rank by rank, none with devices, that meets on port 20000.
    pub(crate) fn gang(&mut self, at: IndexRef, workers: &[u64]) -> Option<u64> {
        let seats = workers.iter().map(|w| Seat::whole(WorkerId(*w), &[])).collect();
        self.grant(Placement { at, seats, port: 20_000 })
    }

    /// Worker 1 reports the end of a token; the cause of what it ended.
    pub(crate) fn end(&mut self, token: u64, at: IndexRef, outcome: Outcome) -> Option<Cause> {
        self.end_rank(1, token, 0, at, outcome)
    }

    /// A worker reports the end of a rank; the cause of what it ended.
    pub(crate) fn end_rank(
        &mut self,
        worker: u64,
        token: u64,
        rank: u32,
        at: IndexRef,
        outcome: Outcome,
    ) -> Option<Cause> {
        let kind = ReportKind::Ended { outcome, artifacts: Vec::new(), ran_ms: 5 };
        let applied = self.report(worker, Report { token: Token(token), rank, at, kind });
        applied.events.into_iter().find_map(|e| match e {
            Event::AttemptEnded { cause, .. } => Some(cause),
            _ => None,
        })
    }

    /// A rank has stored `step`, in a manifest that has this number; whether that committed a checkpoint.
    pub(crate) fn save(&mut self, worker: u64, token: u64, rank: u32, at: IndexRef, saved: Saved) -> bool {
        let report = Report { token: Token(token), rank, at, kind: ReportKind::Saved(saved) };
        let events = self.report(worker, report).events;
        events.iter().any(|e| matches!(e, Event::CheckpointCommitted { .. }))
    }

    /// Steps of an index that are kept, the oldest first.
    pub(crate) fn kept(&self, at: IndexRef) -> Vec<u64> {
        self.state.checkpoints(at).iter().map(|c| c.step).collect()
    }

    /// What came of a report of a worker.
    pub(crate) fn report(&mut self, worker: u64, report: Report) -> Applied {
        self.apply(Command::Reports {
            worker: WorkerId(worker),
            incarnation: Incarnation("a".to_owned()),
            reports: vec![report],
        })
    }

    /// Places and ends.
    pub(crate) fn run(&mut self, at: IndexRef, outcome: Outcome) -> Option<Cause> {
        let token = self.place(at, &[]).expect("placed");
        self.end(token, at, outcome)
    }

    /// A committed checkpoint that stands for so much run time, as if an earlier attempt had left it.
    pub(crate) fn keep(&mut self, at: IndexRef, worked_ms: u64) {
        let checkpoint = Checkpoint {
            step: 1,
            token: Token(1),
            attempt: 1,
            parts: Vec::new(),
            committed: Stamp::default(),
            took_ms: 0,
            worked_ms,
        };
        self.state.checkpoints.insert(at, vec![checkpoint]);
    }

    pub(crate) fn index_state(&self, at: IndexRef) -> IndexState {
        self.state.job(at.job).and_then(|j| j.task(at.task).indices.state(at.index)).expect("there")
    }

    pub(crate) fn job_state(&self, job: u64) -> &'static str {
        self.state.job(JobId(job)).expect("there").state().as_str()
    }
}
