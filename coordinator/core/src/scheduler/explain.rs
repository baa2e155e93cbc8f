//! Why a task waits: everything that stands in its way, with counts and who holds what; its place in the queue; the smallest change that
//! would start it now. Read from the state, so that any member answers. Left out: when it will start, for nothing says yet how long work
//! takes.

use super::advice::advice;
use super::change::smallest;
use super::obstacle::{Obstacle, obstacle};
use super::spot::{standing, would_wait};
use crate::model::breaker::Gate;
use crate::model::ids::{IndexRef, JobId, TaskNo, WorkerId};
use crate::model::job::IndexState;
use crate::model::time::Tick;
use crate::spec::Expressions;
use crate::state::{Job, Phase, State, command_key};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Jobs that are named as holders of one blocker, and parents that are named.
const NAMED_MAX: usize = 20;

/// One reason, and how much of it there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    pub reason: String,
    /// Workers, parents or indices that it is true of.
    pub count: u64,
    /// Jobs that have what is missing.
    pub holders: Vec<JobId>,
}

impl Blocker {
    fn new(reason: impl Into<String>, count: u64) -> Self {
        Self { reason: reason.into(), count, holders: Vec::new() }
    }
}

/// Why a task, or one index of it, does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The most frequent first.
    pub blockers: Vec<Blocker>,
    /// Ready tasks of higher priority or greater age, itself included; none while it is not ready.
    pub position: Option<u64>,
    /// Workers that would take an index of it now, and all there are.
    pub fitting: u64,
    pub workers: u64,
    pub smallest_change: Option<String>,
    /// What is to be said of its saves: see [`super::advice()`].
    pub notes: Vec<String>,
}

/// Why this task, or this index of it, waits at `now`. Nothing blocks what runs or is over.
#[must_use]
pub fn explain(state: &State, job: &Job, no: TaskNo, index: Option<u32>, now: Tick) -> Explanation {
    let mut explanation = Explanation {
        blockers: Vec::new(),
        position: None,
        fitting: 0,
        workers: 0,
        smallest_change: None,
        notes: advice(state, job, no, now),
    };
    // 1. What the job itself says.
    if let Some((blockers, change)) = of_job(job, no, index, now) {
        explanation.blockers = blockers;
        explanation.smallest_change = change;
        return explanation;
    }
    // 2. Its place in the queue.
    explanation.position = Some(position(state, job, no));
    // 3. Its command.
    let (common, key) = (job.common(no), command_key(&job.spec, no));
    if let Some(breaker) = state.breakers().get(&key) {
        let next = match breaker.gate(now) {
            Gate::Open(until) => Some(format!("a probe goes in {} s", until.since(now).div_ceil(1000))),
            Gate::Probing(_) => Some("its probe is under way".to_owned()),
            Gate::Closed | Gate::HalfOpen => None,
        };
        if let Some(next) = next {
            let reason = format!("the command's circuit breaker is open: {}; {next}", breaker.reason);
            explanation.blockers.push(Blocker::new(reason, 1));
        }
    }
    // 4. The workers.
    let mut expressions = Expressions::new();
    let mut found: BTreeMap<Obstacle, Vec<WorkerId>> = BTreeMap::new();
    let (mut any_spot, mut spot_fits) = (false, false);
    for worker in state.workers() {
        explanation.workers += 1;
        any_spot |= worker.spec.spot;
        match obstacle(state, worker, common, now, &mut expressions) {
            Some(obstacle) => found.entry(obstacle).or_default().push(worker.id),
            None => {
                explanation.fitting += 1;
                spot_fits |= worker.spec.spot;
            }
        }
    }
    if explanation.workers == 0 {
        explanation.blockers.push(Blocker::new("there is no worker", 1));
    }
    if let Some(deadline) = common.deadline.as_deref().filter(|_| any_spot && !spot_fits) {
        let newest = state.checkpoints(IndexRef::new(job.id, no, index.unwrap_or(0))).last();
        let worked = newest.map_or(0, |checkpoint| checkpoint.worked_ms);
        if would_wait(&standing(deadline, job.submitted.tick, worked, now)) {
            let reason = "no spot worker has room, and its deadline leaves time to wait for one";
            explanation.blockers.push(Blocker::new(reason, 1));
        }
    }
    let needed = common.gang.as_ref().map_or(1, |gang| u64::from(gang.min));
    if needed > 1 && (1..needed).contains(&explanation.fitting) {
        let reason = format!("it needs {needed} workers at once, and {} have room", explanation.fitting);
        explanation.blockers.push(Blocker::new(reason, needed - explanation.fitting));
    }
    if explanation.fitting < needed {
        let mut blockers: Vec<Blocker> =
            found.into_iter().map(|(obstacle, ids)| of_workers(state, &obstacle, &ids)).collect();
        blockers.sort_by_key(|b| Reverse(b.count));
        explanation.blockers.append(&mut blockers);
        explanation.smallest_change = smallest(state, common, now);
    }
    explanation
}

fn of_workers(state: &State, obstacle: &Obstacle, ids: &[WorkerId]) -> Blocker {
    let mut holders: BTreeSet<JobId> = BTreeSet::new();
    if *obstacle == Obstacle::Busy {
        let tokens = ids.iter().flat_map(|id| state.tokens_of(*id));
        holders.extend(tokens.filter_map(|token| state.attempt(token).map(|a| a.at.job)));
    }
    Blocker {
        holders: holders.into_iter().take(NAMED_MAX).collect(),
        ..Blocker::new(obstacle.text(), ids.len() as u64)
    }
}

/// What blocks it before any worker is looked at, and what would help; none: it is ready.
fn of_job(job: &Job, no: TaskNo, index: Option<u32>, now: Tick) -> Option<(Vec<Blocker>, Option<String>)> {
    let (run, spec) = (job.task(no), &job.spec.tasks[no.0 as usize]);
    let one = |reason: String| Some((vec![Blocker::new(reason, 1)], None));
    let release = |name: String| Some(format!("muster release {name}"));
    let state = index.and_then(|i| run.indices.state(i));
    if matches!(run.phase, Phase::Done(_)) || state.is_some_and(|s| s.is_terminal() || s == IndexState::Live)
    {
        return Some((Vec::new(), None));
    }
    if job.held {
        return Some((vec![Blocker::new("the job is held", 1)], release(job.id.to_string())));
    }
    if run.held || state == Some(IndexState::Held) {
        let why = run.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
        let name = format!("{}.{}", job.id, spec.name);
        return Some((vec![Blocker::new(format!("it is held{why}"), 1)], release(name)));
    }
    match run.phase {
        Phase::Waiting => return Some((parents(job, no), None)),
        Phase::Asking => return one("its `when:` is being evaluated".to_owned()),
        Phase::Open | Phase::Done(_) => {}
    }
    let count = |state| run.indices.count(state);
    if count(IndexState::Pending) == 0 {
        let held = count(IndexState::Held);
        if held == 0 {
            return Some((Vec::new(), None));
        }
        let why = run.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
        let blocker = Blocker::new(format!("indices are held{why}"), u64::from(held));
        return Some((vec![blocker], release(format!("{}.{}", job.id, spec.name))));
    }
    let live = count(IndexState::Live);
    if let Some(max) = spec.max_running().filter(|max| live >= *max) {
        let reason = format!("{live} of its indices run, and max_running is {max}");
        return Some((vec![Blocker::new(reason, 1)], Some(format!("raise max_running above {max}"))));
    }
    let late = run.indices.memories().filter(|(i, memory)| {
        memory.not_before > now
            && run.indices.state(*i) == Some(IndexState::Pending)
            && index.is_none_or(|wanted| wanted == *i)
    });
    let late: Vec<(u32, u64)> = late.map(|(i, memory)| (i, memory.not_before.since(now))).collect();
    let is_all = index.is_some() || late.len() as u32 == count(IndexState::Pending);
    if let Some(least) = late.iter().map(|(_, ms)| ms.div_ceil(1000)).min().filter(|_| is_all) {
        let reason = format!("it waits {least} s before it is tried again after a failure");
        return Some((vec![Blocker::new(reason, late.len() as u64)], None));
    }
    None
}

/// The parents that have not ended, by the state they are in.
fn parents(job: &Job, no: TaskNo) -> Vec<Blocker> {
    let needs = job.spec.tasks[no.0 as usize].needs.iter();
    let open = needs.filter(|need| job.task(need.task).outcome().is_none());
    let mut by_state: BTreeMap<&'static str, (u64, Vec<&str>)> = BTreeMap::new();
    for need in open {
        let (count, names) = by_state.entry(job.task_state(need.task)).or_default();
        *count += 1;
        if names.len() < NAMED_MAX {
            names.push(&job.spec.tasks[need.task.0 as usize].name);
        }
    }
    let blocker = |(state, (count, names)): (&str, (u64, Vec<&str>))| {
        Blocker::new(
            format!("it needs {}, which {} {state}", names.join(", "), if count == 1 { "is" } else { "are" }),
            count,
        )
    };
    by_state.into_iter().map(blocker).collect()
}

/// Ready tasks that come before it, and itself.
fn position(state: &State, job: &Job, no: TaskNo) -> u64 {
    let mine = (Reverse(job.spec.priority), job.id);
    let is_ready = |job: &Job, no: TaskNo| {
        let run = job.task(no);
        run.phase == Phase::Open && !run.held && run.indices.count(IndexState::Pending) > 0
    };
    let ready = |job: &Job, below: u32| (0..below).filter(|n| is_ready(job, TaskNo(*n))).count() as u64;
    let before = state.jobs().filter(|j| !j.held && (Reverse(j.spec.priority), j.id) < mine);
    before.map(|j| ready(j, j.tasks.len() as u32)).sum::<u64>() + ready(job, no.0) + 1
}
