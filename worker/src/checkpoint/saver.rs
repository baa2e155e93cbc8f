//! The committer of one attempt: one commit at a time, in the order in which they were asked for.
//!
//! A commit ends when the log has decided on it. It does not end with the connection that asked for it, and what an earlier agent began is
//! found again: the step's files in `attempts/TOKEN/sent`, its manifest in the store.

use super::CommitError;
use super::collect::Garbage;
use super::known::Base;
use super::manifest::Of;
use super::protocol::Commit;
use super::sent::Sent;
use super::upload::{Have, Stored, What, store_checkpoint};
use super::watch::Watch;
use crate::blobs::Store;
use crate::shim::clock::boot_ms;
use muster_core::model::checkpoint::{Checkpoint, Saved, Verdict};
use muster_core::model::ids::{IndexRef, Token};
use muster_core::model::job_spec::CheckpointSpec;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pauses after the store did not answer, doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LAST: Duration = Duration::from_secs(10);
/// Answers that wait to be taken; the oldest go.
const VERDICTS_MAX: usize = 16;
/// How long what nobody needs is being removed after a commit; the rest goes after the next one.
const COLLECT_PATIENCE: Duration = Duration::from_secs(60);

/// Says to the agent that a rank has stored a checkpoint.
pub type Tell = Box<dyn Fn(Token, Saved) + Send + Sync>;

/// Whose checkpoints.
#[derive(Debug, Clone)]
pub struct Whose {
    pub at: IndexRef,
    /// The attempt's number.
    pub attempt: u32,
    pub token: Token,
    pub rank: u32,
    pub spec: CheckpointSpec,
    /// The step that it began from.
    pub resumed: Option<u64>,
    /// The attempt's directory, and its checkpoint directory.
    pub root: PathBuf,
    pub dir: PathBuf,
}

/// The committer.
pub struct Saver {
    pub whose: Whose,
    store: Store,
    tell: Arc<Tell>,
    state: tokio::sync::Mutex<Option<State>>,
    /// What the attempt began from, until the first commit takes it over.
    resumed: Mutex<Option<Base>>,
    garbage: tokio::sync::Mutex<Garbage>,
    /// Something was stored that will not be committed.
    has_left: AtomicBool,
    /// Answers by step that nobody has taken yet.
    verdicts: Mutex<BTreeMap<u64, Verdict>>,
    answered: Notify,
    /// What the commit under way waits for, for its error.
    waits_for: Mutex<String>,
    commits: TaskTracker,
    /// No commit is begun or waited for any more.
    over: CancellationToken,
    /// Ends the watch alone.
    pub(super) unwatched: CancellationToken,
    pub(super) is_watched: AtomicBool,
    pub(super) watched: tokio::sync::Mutex<Option<Watch>>,
    /// Boot time (ms) of the last commit; 0 before the first.
    saved_at: AtomicU64,
}

struct State {
    sent: Mutex<Sent>,
    /// The newest kept checkpoint, as far as is known, and those whose answer was not heard.
    bases: Vec<Base>,
    /// The newest step of the index.
    newest: Option<u64>,
}

impl std::fmt::Debug for Saver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Saver").field(&self.whose).finish()
    }
}

impl Saver {
    pub(super) fn new(whose: Whose, store: Store, tell: Arc<Tell>) -> Self {
        Self {
            whose,
            store,
            tell,
            state: tokio::sync::Mutex::default(),
            resumed: Mutex::default(),
            garbage: tokio::sync::Mutex::default(),
            has_left: AtomicBool::new(false),
            verdicts: Mutex::default(),
            answered: Notify::new(),
            waits_for: Mutex::default(),
            commits: TaskTracker::new(),
            over: CancellationToken::new(),
            unwatched: CancellationToken::new(),
            is_watched: AtomicBool::new(false),
            watched: tokio::sync::Mutex::default(),
            saved_at: AtomicU64::new(0),
        }
    }

    /// What the attempt begins from is in its directory.
    pub fn begins_from(&self, base: Base) {
        *self.resumed.lock() = Some(base);
    }

    /// The log has decided on a step, or waits for other ranks.
    pub fn answer(&self, step: u64, verdict: Verdict) {
        if let Verdict::Committed { .. } = verdict {
            self.saved_at.store(boot_ms(), Ordering::Relaxed);
        }
        let mut verdicts = self.verdicts.lock();
        verdicts.insert(step, verdict);
        // A rank hears of every step of its gang, also where it commits none itself.
        if verdicts.len() > VERDICTS_MAX {
            verdicts.pop_first();
        }
        drop(verdicts);
        self.answered.notify_one();
    }

    /// Boot time (ms) of the last commit.
    pub fn saved_at(&self) -> Option<u64> {
        Some(self.saved_at.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// Nobody wants its checkpoints any more.
    pub fn end(&self) {
        self.over.cancel();
        self.unwatched.cancel();
    }

    /// Whether there is something to wait for before its end is told.
    pub fn is_busy(&self) -> bool {
        !self.over.is_cancelled() && (!self.commits.is_empty() || self.is_watched.load(Ordering::Relaxed))
    }

    /// Its last process is gone: waits for the commits under way, for the last watched directory if what is in it is `complete`, and for no
    /// longer than this.
    pub async fn finish(self: &Arc<Self>, complete: bool, within: Duration) {
        self.unwatched.cancel();
        let work = async {
            if complete {
                // Nothing changes any more.
                self.commit_settled(Duration::ZERO, Some(within)).await;
            }
            self.commits.close();
            self.commits.wait().await;
        };
        if tokio::time::timeout(within, work).await.is_err() {
            tracing::warn!(token = %self.whose.token, "a checkpoint was not committed before the end of its attempt");
        }
        self.end();
    }

    /// Commits what is asked for, and says so when the log has it. Goes on when nobody waits for it any more.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn commit(self: &Arc<Self>, ask: Commit) -> Result<u64, CommitError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let saver = self.clone();
        self.commits.spawn(async move {
            let done = saver.commit_in_time(&ask).await;
            if let Err(error) = &done {
                tracing::info!(token = %saver.whose.token, step = ask.step, %error, "no checkpoint");
            }
            let _ = answer.send(done);
        });
        answered.await.unwrap_or(Err(CommitError::Over))
    }

    /// The same on the caller's own task, so that it ends with it.
    #[cfg(test)]
    pub(super) async fn commit_here(self: &Arc<Self>, ask: Commit) -> Result<u64, CommitError> {
        self.commit_in_time(&ask).await
    }

    async fn commit_in_time(self: &Arc<Self>, ask: &Commit) -> Result<u64, CommitError> {
        let within = ask.within();
        tokio::select! {
            done = self.commit_now(ask) => done,
            () = self.over.cancelled() => Err(CommitError::Over),
            () = tokio::time::sleep(within) => {
                let why = std::mem::take(&mut *self.waits_for.lock());
                let why = if why.is_empty() { "an earlier commit of the task is under way".to_owned() } else { why };
                Err(CommitError::Late { seconds: within.as_secs(), why })
            }
        }
    }

    async fn commit_now(self: &Arc<Self>, ask: &Commit) -> Result<u64, CommitError> {
        let mut guard = self.state.lock().await;
        let state = guard.get_or_insert_with(|| self.begin());
        // 1. What was answered after its commit had ended.
        let late = std::mem::take(&mut *self.verdicts.lock());
        for (step, verdict) in late {
            drop(self.settle(state, step, verdict));
        }
        // 2. Forwards only; the newest one once more is no step back.
        let step = ask.step;
        let is_own = state.sent.lock().committed() == Some(step);
        if let Some(newest) = state.newest.filter(|newest| step < *newest || (step == *newest && !is_own)) {
            return Err(CommitError::StepBack { step, newest });
        }
        // 3. Into the store, however long that takes.
        let started = Instant::now();
        let stored = self.store(state, ask).await?;
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // 4. Into the log. From here on this one may be the newest that is kept.
        if state.bases.iter().all(|base| base.step != step) {
            state.bases.push(stored.base);
        }
        self.wait_for("the coordinators have not answered");
        (self.tell)(self.whose.token, Saved { step, part: stored.part, single: ask.single, took_ms });
        loop {
            let verdict = self.verdicts.lock().remove(&step);
            match verdict {
                None => self.answered.notified().await,
                Some(Verdict::Waits) => {
                    self.wait_for("the other ranks of the gang have not stored this step")
                }
                Some(verdict) => {
                    self.settle(state, step, verdict)?;
                    return Ok(step);
                }
            }
        }
    }

    /// Tries until the store has it, or something else than the store is in the way.
    async fn store(&self, state: &State, ask: &Commit) -> Result<Stored, CommitError> {
        let Whose { at, attempt, token, rank, dir, .. } = &self.whose;
        let of = Of { at: *at, token: *token, rank: *rank, step: ask.step };
        let what = What { of, attempt: *attempt, dir, path: Path::new(&ask.path) };
        state.sent.lock().begin(ask.step);
        let mut pause = PAUSE_FIRST;
        self.wait_for("it is being stored");
        loop {
            let have = Have { sent: &state.sent, bases: &state.bases };
            match store_checkpoint(&self.store, what, have).await {
                Err(error) if error.is_transient() => {
                    tracing::warn!(%token, step = ask.step, %error, "the store does not take a checkpoint; trying again");
                    self.wait_for(&error.to_string());
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_LAST);
                }
                Err(error) => {
                    self.has_left.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                Ok(stored) => return Ok(stored),
            }
        }
    }

    /// Takes in what the log says of a step.
    fn settle(self: &Arc<Self>, state: &mut State, step: u64, verdict: Verdict) -> Result<(), CommitError> {
        match verdict {
            Verdict::Waits => Ok(()),
            Verdict::Refused(why) => {
                state.bases.retain(|base| base.step != step || Some(step) == state.newest);
                Err(CommitError::Refused(why))
            }
            Verdict::Committed { kept } => {
                let newest = kept.last().map(|newest| (newest.token, newest.step));
                state.bases.retain(|base| Some((base.token, base.step)) == newest);
                state.newest = state.newest.max(Some(step));
                let mut sent = state.sent.lock();
                if sent.committed() < Some(step) {
                    sent.commit(step);
                }
                self.collect(kept);
                Ok(())
            }
        }
    }

    /// Beside the commits: it takes nothing from them.
    fn collect(self: &Arc<Self>, kept: Vec<Checkpoint>) {
        // One for all ranks.
        if self.whose.rank > 0 {
            return;
        }
        let saver = self.clone();
        tokio::spawn(async move {
            let mut garbage = saver.garbage.lock().await;
            if saver.has_left.swap(false, Ordering::Relaxed) {
                garbage.left();
            }
            let collecting = garbage.collect(&saver.store, saver.whose.at, &kept);
            let (token, collected) =
                (saver.whose.token, tokio::time::timeout(COLLECT_PATIENCE, collecting).await);
            match collected {
                Ok(Ok(objects)) => tracing::debug!(%token, objects, "old checkpoints are removed"),
                Ok(Err(error)) => tracing::warn!(%token, %error, "old checkpoints are not removed yet"),
                Err(_) => tracing::warn!(%token, "old checkpoints are not all removed yet"),
            }
        });
    }

    fn begin(&self) -> State {
        let sent = Sent::load(&self.whose.root);
        State {
            newest: self.whose.resumed.max(sent.committed()),
            bases: self.resumed.lock().take().into_iter().collect(),
            sent: Mutex::new(sent),
        }
    }

    fn wait_for(&self, what: &str) {
        what.clone_into(&mut self.waits_for.lock());
    }

    /// The newest step that is known to be committed.
    pub(super) async fn newest(&self) -> Option<u64> {
        self.state.lock().await.get_or_insert_with(|| self.begin()).newest
    }
}
