//! The DAG by the book: what may run, told once more and in another way than the core tells it. It knows the jobs as their clients wrote
//! them and the history of what the log accepted; it never looks at the state. Slow and plain on purpose: everything is judged anew
//! after each step, from the ends of the indices alone.

use muster_core::command::{Command, Target};
use muster_core::model::attempt::Cause;
use muster_core::model::ids::{IndexRef, JobId, TaskNo};
use muster_core::model::job::IndexState;
use muster_core::model::job_spec::{JobSpec, Need, NeedWhen, TriggerRule};
use muster_core::reply::Reply;
use std::collections::{BTreeMap, BTreeSet};

/// Where an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Held or not.
    Waiting,
    Live,
    Succeeded,
    Failed,
    Skipped,
    Cancelled,
}

impl Place {
    fn is_end(self) -> bool {
        !matches!(self, Self::Waiting | Self::Live)
    }

    /// What the state calls it.
    pub(crate) fn of(state: IndexState) -> Self {
        match state {
            IndexState::Pending | IndexState::Held => Self::Waiting,
            IndexState::Live => Self::Live,
            IndexState::Succeeded => Self::Succeeded,
            IndexState::Failed => Self::Failed,
            IndexState::Skipped => Self::Skipped,
            IndexState::Cancelled => Self::Cancelled,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// Its parents have not allowed it.
    Shut,
    /// They have; its `when:` is not answered.
    Asking,
    Open,
}

#[derive(Debug)]
struct Task {
    places: Vec<Place>,
    gate: Gate,
    /// The gate was open at some time.
    was_open: bool,
}

impl Task {
    /// How it ended as a whole, once all of it has: the worst of its indices.
    fn end(&self) -> Option<Place> {
        let worst = [Place::Failed, Place::Cancelled, Place::Skipped, Place::Succeeded];
        let ended = self.places.iter().all(|p| p.is_end());
        ended.then(|| worst.into_iter().find(|w| self.places.contains(w))).flatten()
    }

    fn end_waiting(&mut self, end: Place, index: Option<u32>) {
        for (i, place) in self.places.iter_mut().enumerate() {
            if *place == Place::Waiting && index.is_none_or(|t| t as usize == i) {
                *place = end;
            }
        }
    }
}

#[derive(Debug)]
struct Job {
    spec: JobSpec,
    tasks: Vec<Task>,
    cancelled: bool,
}

/// All jobs of a run.
#[derive(Debug, Default)]
pub struct Reference {
    /// As the clients wrote them, by request id.
    written: BTreeMap<String, JobSpec>,
    jobs: BTreeMap<JobId, Job>,
    /// Requests that took effect.
    done: BTreeSet<String>,
}

/// What the ends of its parents say of a task.
#[derive(Debug, PartialEq, Eq)]
enum Say {
    Run,
    Skip,
    Nothing,
}

/// The rules of SPEC section 3 over the ends of the parents, none for one that has not ended.
fn say(rule: TriggerRule, needs: &[Need], end: impl Fn(TaskNo) -> Option<Place>) -> Say {
    use Place::{Cancelled, Failed, Skipped, Succeeded};
    let said = needs.iter().filter(|n| n.when != NeedWhen::Unsaid);
    let holds: Vec<Option<bool>> = said
        .map(|n| {
            end(n.task).map(|e| match n.when {
                NeedWhen::Succeeded => e == Succeeded,
                NeedWhen::Failed => e == Failed || e == Cancelled,
                NeedWhen::Skipped => e == Skipped,
                NeedWhen::Finished | NeedWhen::Unsaid => true,
            })
        })
        .collect();
    let ends: Vec<Option<Place>> =
        needs.iter().filter(|n| n.when == NeedWhen::Unsaid).map(|n| end(n.task)).collect();
    let all = |p: Place| ends.iter().all(|e| *e == Some(p));
    let any = |p: Place| ends.contains(&Some(p));
    let ended = ends.iter().all(Option::is_some);
    let other = |p: Place| ends.iter().any(|e| e.is_some_and(|e| e != p));
    let bad = any(Failed) || any(Cancelled);
    let (run, skip) = match rule {
        _ if ends.is_empty() => (true, false),
        TriggerRule::AllSuccess => (all(Succeeded), other(Succeeded)),
        TriggerRule::AllFailed => (all(Failed), other(Failed)),
        TriggerRule::AllDone | TriggerRule::Always => (ended, false),
        TriggerRule::OneSuccess => (any(Succeeded), ended && !any(Succeeded)),
        TriggerRule::OneFailed => (any(Failed), ended && !any(Failed)),
        TriggerRule::NoneFailed => (ended && !bad, bad),
        TriggerRule::NoneFailedMinOneSuccess => {
            (ended && !bad && any(Succeeded), bad || (ended && !any(Succeeded)))
        }
    };
    if skip || holds.contains(&Some(false)) {
        Say::Skip
    } else if run && holds.iter().all(|h| *h == Some(true)) {
        Say::Run
    } else {
        Say::Nothing
    }
}

impl Job {
    fn new(spec: JobSpec) -> Self {
        let task = |t: &muster_core::model::job_spec::TaskSpec| Task {
            places: vec![Place::Waiting; t.array().map_or(1, |a| a.count as usize)],
            gate: Gate::Shut,
            was_open: false,
        };
        let tasks = spec.tasks.iter().map(task).collect();
        let mut job = Self { spec, tasks, cancelled: false };
        job.settle();
        job
    }

    /// Judges every task that is still shut, until nothing changes any more.
    fn settle(&mut self) {
        loop {
            let mut changed = false;
            for no in 0..self.tasks.len() {
                let task = &self.tasks[no];
                if task.gate != Gate::Shut || task.end().is_some() {
                    continue;
                }
                let spec = &self.spec.tasks[no];
                let rule = self.spec.common(spec).rule;
                let said = say(rule, &spec.needs, |parent| self.tasks[parent.0 as usize].end());
                let asks = spec.when().is_some();
                let task = &mut self.tasks[no];
                match said {
                    Say::Run => {
                        task.gate = if asks { Gate::Asking } else { Gate::Open };
                        task.was_open |= !asks;
                    }
                    Say::Skip if task.places.contains(&Place::Waiting) => {
                        task.end_waiting(Place::Skipped, None);
                    }
                    Say::Skip | Say::Nothing => continue,
                }
                changed = true;
            }
            if !changed {
                return;
            }
        }
    }

    fn covered(&self, target: &Target) -> Vec<usize> {
        (0..self.tasks.len()).filter(|no| target.task.is_none_or(|t| t.0 as usize == *no)).collect()
    }

    /// Task by task: what ends with the first may skip the second before the cancel comes to it.
    fn cancel(&mut self, target: &Target) {
        self.cancelled |= target.task.is_none();
        for no in self.covered(target) {
            self.tasks[no].end_waiting(Place::Cancelled, target.index);
            self.settle();
        }
    }

    fn rerun(&mut self, target: &Target) {
        for no in self.covered(target) {
            for (i, place) in self.tasks[no].places.iter_mut().enumerate() {
                let covered = target.index.is_none_or(|t| t as usize == i);
                if covered && matches!(place, Place::Failed | Place::Skipped | Place::Cancelled) {
                    *place = Place::Waiting;
                }
            }
        }
        self.cancelled = false;
        self.tasks.iter_mut().filter(|t| t.end().is_none()).for_each(|t| t.gate = Gate::Shut);
        self.settle();
    }

    fn answer(&mut self, no: TaskNo, run: bool) {
        let task = &mut self.tasks[no.0 as usize];
        if task.gate != Gate::Asking {
            return;
        }
        if run {
            task.gate = Gate::Open;
            task.was_open = true;
        } else {
            task.end_waiting(Place::Skipped, None);
            task.gate = if task.places.contains(&Place::Live) { Gate::Shut } else { Gate::Asking };
        }
        self.settle();
    }

    fn ended(&mut self, at: IndexRef, cause: &Cause, retried: bool) {
        let end = match cause {
            _ if retried => Place::Waiting,
            Cause::Exit(0) => Place::Succeeded,
            Cause::Cancelled => Place::Cancelled,
            _ if self.cancelled => Place::Cancelled,
            // Held.
            Cause::Lost | Cause::Device(_) => Place::Waiting,
            _ => Place::Failed,
        };
        self.tasks[at.task.0 as usize].places[at.index as usize] = end;
        self.settle();
    }
}

impl Reference {
    /// A client is about to ask for this job.
    pub(crate) fn written(&mut self, request: &str, spec: &JobSpec) {
        self.written.insert(request.to_owned(), spec.clone());
    }

    /// The job as its client wrote it.
    pub(crate) fn spec(&self, job: JobId) -> Option<&JobSpec> {
        self.jobs.get(&job).map(|j| &j.spec)
    }

    /// An attempt was granted.
    pub(crate) fn placed(&mut self, at: IndexRef) {
        if let Some(job) = self.jobs.get_mut(&at.job) {
            job.tasks[at.task.0 as usize].places[at.index as usize] = Place::Live;
        }
    }

    /// The end of an attempt was accepted.
    pub(crate) fn ended(&mut self, at: IndexRef, cause: &Cause, retried: bool) {
        if let Some(job) = self.jobs.get_mut(&at.job) {
            job.ended(at, cause, retried);
        }
    }

    /// A command was applied and answered.
    pub(crate) fn applied(&mut self, command: &Command, reply: &Reply) {
        let request = match command {
            _ if matches!(reply, Reply::Rejected(_)) => return,
            Command::Submit { request, .. }
            | Command::Cancel { request, .. }
            | Command::Rerun { request, .. } => request,
            Command::ResolveWhen { job, task, run, .. } => {
                if let Some(job) = self.jobs.get_mut(job) {
                    job.answer(*task, *run);
                }
                return;
            }
            _ => return,
        };
        if !self.done.insert(request.id.clone()) {
            return;
        }
        match (command, reply) {
            (_, Reply::Submitted { job, .. }) => {
                if let Some(spec) = self.written.get(&request.id) {
                    self.jobs.insert(*job, Job::new(spec.clone()));
                }
            }
            (Command::Cancel { target, .. }, _) => {
                if let Some(job) = self.jobs.get_mut(&target.job) {
                    job.cancel(target);
                }
            }
            (Command::Rerun { target, .. }, _) => {
                if let Some(job) = self.jobs.get_mut(&target.job) {
                    job.rerun(target);
                }
            }
            _ => {}
        }
    }

    /// The needs of this index allow it now.
    pub(crate) fn allows(&self, at: IndexRef) -> bool {
        self.task(at).is_some_and(|t| t.gate == Gate::Open)
    }

    /// The needs of this index allowed it once; a rerun of its parents may have come since.
    pub(crate) fn allowed(&self, at: IndexRef) -> bool {
        self.task(at).is_some_and(|t| t.was_open)
    }

    /// Where the index is.
    pub(crate) fn place(&self, at: IndexRef) -> Option<Place> {
        self.task(at)?.places.get(at.index as usize).copied()
    }

    fn task(&self, at: IndexRef) -> Option<&Task> {
        self.jobs.get(&at.job)?.tasks.get(at.task.0 as usize)
    }
}
