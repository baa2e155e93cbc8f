//! Who submits: many clients at once, each with one job, through any member, repeating a call with its request id until it is answered.
//! They write down what they were promised; what they were promised is judged later.

use super::client::{Answer, Client, Verb};
use super::history::{Entry, History, LatchAnswer, LatchCall};
use super::jobs::{Job, Shape};
use super::ledger::GATES;
use super::sys::now_ns;
use muster_core::model::job::JobState;
use muster_core::view_doc::JobDoc;
use muster_sim::Rng;
use muster_sim::register::{JobAnswer, JobCall};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// What a client knows of its job at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub job: Job,
    /// Every id that was answered to its submission; one, if all is well.
    pub ids: Vec<u64>,
    /// A definite no to the submission.
    pub refused: Option<String>,
    /// What became of the cancel.
    pub cancel: Option<Answer<u64>>,
    /// When its answer was heard.
    pub cancel_ns: u64,
    /// How often it had to be released: three losses in a row hold a task.
    pub releases: u32,
    pub reruns: u32,
    /// The last state that was seen.
    pub state: Option<JobState>,
}

/// What goes on, for the line of progress.
#[derive(Debug, Default)]
pub struct Counters {
    pub submitted: AtomicU64,
    pub jobs_done: AtomicU64,
    pub tasks_done: AtomicU64,
    pub calls: AtomicU64,
    pub unknown: AtomicU64,
}

/// The load of a run.
pub struct Load {
    pub client: Client,
    pub history: Arc<History>,
    pub counters: Counters,
    pub records: Mutex<Vec<Record>>,
    /// No new jobs.
    pub closing: AtomicBool,
    /// No more calls at all.
    pub over: AtomicBool,
    seed: u64,
    program: PathBuf,
    tasks: PathBuf,
    open: Arc<Semaphore>,
    pace: Duration,
}

/// Between two calls of one client that were not answered.
const AGAIN: Duration = Duration::from_millis(150);
/// Clients of one latch.
const LATCH_CLIENTS: u64 = 3;
/// Jobs of a whole run: finished ones are known as long as there are not more than 10,000 (`docs/src/limits.md`), and all are judged.
const JOBS_MAX: u32 = 9_000;
/// Calls of each of them: the search grows with what is concurrent, not with what is long.
const LATCH_CALLS: u32 = 40;

impl Load {
    /// A load of at most `open` open tasks for `duration`; `program` is this one, `tasks` where they write.
    #[must_use]
    pub fn new(
        client: Client,
        seed: u64,
        program: PathBuf,
        tasks: PathBuf,
        open: usize,
        duration: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            history: Arc::default(),
            counters: Counters::default(),
            records: Mutex::default(),
            closing: AtomicBool::new(false),
            over: AtomicBool::new(false),
            seed,
            program,
            tasks,
            open: Arc::new(Semaphore::new(open)),
            pace: duration / JOBS_MAX,
        })
    }

    /// Submits job after job until it is closing; returns when all of them are over.
    pub async fn run(self: Arc<Self>) {
        let mut lives = tokio::task::JoinSet::new();
        lives.spawn(Arc::clone(&self).latches());
        for n in 0.. {
            let job = Job::draw(self.seed, n);
            let Ok(permit) = Arc::clone(&self.open).acquire_many_owned(job.indices()).await else { break };
            if self.closing.load(Ordering::Relaxed) {
                break;
            }
            let load = Arc::clone(&self);
            lives.spawn(async move {
                load.life(job, n).await;
                drop(permit);
            });
            while lives.try_join_next().is_some() {}
            sleep(self.pace).await;
        }
        while lives.join_next().await.is_some() {}
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// One job from its submission to its end.
    async fn life(&self, job: Job, n: u64) {
        let mut rng = Rng::new(self.seed, &format!("client {n}"));
        let mut record = Record {
            ids: Vec::new(),
            refused: None,
            cancel: None,
            cancel_ns: 0,
            releases: 0,
            reruns: 0,
            state: None,
            job,
        };
        self.counters.submitted.fetch_add(1, Ordering::Relaxed);
        if let Some(id) = self.submit(&mut record, n, &mut rng).await {
            // Now and then somebody repeats a submission that was answered: a script that was started twice.
            if rng.chance(150) {
                let _ = self.submit(&mut record, n, &mut rng).await;
            }
            if record.job.shape == Shape::Cancel {
                sleep(Duration::from_millis(rng.range(0, 3_000))).await;
                record.cancel = Some(self.mutate(JobCall::Cancel, &record.job.key, n, id, &mut rng).await);
                record.cancel_ns = now_ns();
            }
            self.follow(&mut record, n, id, &mut rng).await;
        }
        self.counters.jobs_done.fetch_add(1, Ordering::Relaxed);
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    async fn submit(&self, record: &mut Record, client: u64, rng: &mut Rng) -> Option<u64> {
        let text = record.job.text(&self.program, &self.tasks);
        let entry = self.history.jobs.invoke(client, &record.job.key, JobCall::Submit);
        while !self.is_over() {
            let answer = self.client.submit(self.way(rng), &record.job.key, &text, false).await;
            match self.count(answer) {
                Answer::Heard(id) => {
                    self.history.jobs.answer(entry, JobAnswer::Job(id));
                    record.ids.push(id);
                    return Some(id);
                }
                Answer::Refused(code) => {
                    record.refused = Some(code);
                    return None;
                }
                Answer::Unknown(_) => sleep(AGAIN).await,
            }
        }
        None
    }

    /// Looks at the job until it is over, and does what its shape wants.
    async fn follow(&self, record: &mut Record, client: u64, id: u64, rng: &mut Rng) {
        while !self.is_over() {
            sleep(Duration::from_millis(rng.range(500, 1_800))).await;
            let Some((doc, state)) = self.look(&record.job.key, client, id, rng).await else { continue };
            record.state = Some(state);
            match state {
                JobState::Held => {
                    record.releases += 1;
                    self.mutate(JobCall::Release, &record.job.key, client, id, rng).await;
                }
                JobState::Failed if record.job.shape == Shape::Rerun && record.reruns < 3 => {
                    record.reruns += 1;
                    let _ = std::fs::write(self.tasks.join(GATES).join(id.to_string()), "");
                    self.mutate(JobCall::Rerun, &record.job.key, client, id, rng).await;
                }
                JobState::Succeeded | JobState::Failed | JobState::Cancelled => {
                    self.counters.tasks_done.fetch_add(doc.counts.succeeded, Ordering::Relaxed);
                    return;
                }
                // A held task beside one that runs does not hold the job.
                JobState::Running | JobState::Pending if doc.counts.held > 0 => {
                    record.releases += 1;
                    self.mutate(JobCall::Release, &record.job.key, client, id, rng).await;
                }
                JobState::Running | JobState::Pending => {}
            }
        }
    }

    async fn look(&self, key: &str, client: u64, id: u64, rng: &mut Rng) -> Option<(JobDoc, JobState)> {
        let entry = self.history.jobs.invoke(client, key, JobCall::Status);
        let answer = self.client.job(self.way(rng), id).await;
        match self.count(answer) {
            Answer::Heard(doc) => {
                let state = state(&doc.state)?;
                self.history.jobs.answer(entry, JobAnswer::Seen { job: doc.id, state });
                Some((doc, state))
            }
            Answer::Refused(code) => {
                if code == "JOB_NOT_FOUND" {
                    self.history.jobs.answer(entry, JobAnswer::Absent);
                }
                None
            }
            Answer::Unknown(_) => None,
        }
    }

    /// Changes a job, repeating the call until it is answered.
    async fn mutate(&self, call: JobCall, key: &str, client: u64, id: u64, rng: &mut Rng) -> Answer<u64> {
        let verb = match call {
            JobCall::Cancel => Verb::Cancel,
            JobCall::Hold => Verb::Hold,
            JobCall::Release => Verb::Release,
            _ => Verb::Rerun,
        };
        let request_id = format!("{key}-{verb:?}-{:x}", rng.bits());
        let entry = self.history.jobs.invoke(client, key, call);
        let answer = self.repeat(verb, &request_id, id, rng).await;
        let output = match &answer {
            Answer::Heard(_) => Some(JobAnswer::Accepted),
            Answer::Refused(code) if code == "JOB_NOT_FOUND" => Some(JobAnswer::Absent),
            Answer::Refused(_) => Some(JobAnswer::Refused),
            Answer::Unknown(_) => None,
        };
        if let Some(output) = output {
            self.history.jobs.answer(entry, output);
        }
        answer
    }

    async fn repeat(&self, verb: Verb, request_id: &str, id: u64, rng: &mut Rng) -> Answer<u64> {
        let mut last = Answer::Unknown("never tried".into());
        while !self.is_over() {
            let answer = self.client.mutate(self.way(rng), verb, request_id, &id.to_string()).await;
            last = self.count(answer);
            match &last {
                Answer::Unknown(_) => sleep(AGAIN).await,
                Answer::Heard(_) | Answer::Refused(_) => break,
            }
        }
        last
    }

    fn way(&self, rng: &mut Rng) -> usize {
        rng.index(self.client.ways())
    }

    fn count<T>(&self, answer: Answer<T>) -> Answer<T> {
        self.counters.calls.fetch_add(1, Ordering::Relaxed);
        if matches!(answer, Answer::Unknown(_)) {
            self.counters.unknown.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// Latches, one after the other: jobs that no worker can run, which several clients hold, release and look at.
    async fn latches(self: Arc<Self>) {
        let text = r#"{"name": "latch", "tasks": {"never": {"run": "true", "constraints": ["worker.name == 'nobody'"]}}}"#;
        let mut rng = Rng::new(self.seed, "latches");
        for n in 0_u64.. {
            let key = format!("{}-latch-{n}", self.seed);
            let id = loop {
                if self.closing.load(Ordering::Relaxed) {
                    return;
                }
                match self.client.submit(self.way(&mut rng), &key, text, false).await {
                    Answer::Heard(id) => break id,
                    Answer::Refused(_) => return,
                    Answer::Unknown(_) => sleep(AGAIN).await,
                }
            };
            let clients: Vec<_> = (0..LATCH_CLIENTS)
                .map(|client| tokio::spawn(Arc::clone(&self).latch(key.clone(), id, client)))
                .collect();
            for client in clients {
                let _ = client.await;
            }
            let _ = self.repeat(Verb::Cancel, &format!("{key}-end"), id, &mut rng).await;
        }
    }

    async fn latch(self: Arc<Self>, key: String, id: u64, client: u64) {
        let mut rng = Rng::new(self.seed, &format!("{key} {client}"));
        for n in 0..LATCH_CALLS {
            if self.closing.load(Ordering::Relaxed) {
                return;
            }
            let call = rng.pick(&[LatchCall::Hold, LatchCall::Release, LatchCall::Look, LatchCall::Look]);
            let entry = self.history.latches.invoke(client, &key, call);
            match call {
                LatchCall::Look => self.look_at_latch(entry, id, &mut rng).await,
                LatchCall::Hold | LatchCall::Release => {
                    let verb = if call == LatchCall::Hold { Verb::Hold } else { Verb::Release };
                    let request_id = format!("{key}-{client}-{n}");
                    if let Answer::Heard(_) = self.repeat(verb, &request_id, id, &mut rng).await {
                        self.history.latches.answer(entry, LatchAnswer::Done);
                    }
                }
            }
            sleep(Duration::from_millis(rng.range(50, 400))).await;
        }
    }

    async fn look_at_latch(&self, entry: Entry, id: u64, rng: &mut Rng) {
        let answer = self.client.job(self.way(rng), id).await;
        if let Answer::Heard(doc) = self.count(answer) {
            self.history.latches.answer(entry, LatchAnswer::Seen { held: doc.state == "held" });
        }
    }
}

/// A state by its name.
#[must_use]
pub fn state(name: &str) -> Option<JobState> {
    use JobState::{Cancelled, Failed, Held, Pending, Running, Succeeded};
    [Pending, Running, Succeeded, Failed, Cancelled, Held].into_iter().find(|s| s.as_str() == name)
}
