//! Who waits for a job is woken when something of it changed, once its rows are in the store. Nothing polls.

use muster_core::event::Event;
use muster_core::model::budget::Scope;
use muster_core::model::ids::JobId;
use muster_core::state::{Changes, Key};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use tokio::sync::broadcast;

/// What a watcher hears.
#[derive(Debug, Clone)]
pub enum Change {
    Event(Event),
    /// A row of the job changed.
    Touched,
    /// Changes were missed: look at everything again.
    Resync,
}

/// Changes that are kept for a slow watcher before it has to look at everything again.
const BACKLOG: usize = 1024;

/// The watchers of one member.
#[derive(Debug, Default)]
pub struct Hub {
    jobs: Mutex<HashMap<JobId, broadcast::Sender<Change>>>,
}

/// One watcher of one job.
#[derive(Debug)]
pub struct Watcher(broadcast::Receiver<Change>);

impl Watcher {
    /// The next change.
    pub async fn next(&mut self) -> Change {
        match self.0.recv().await {
            Ok(change) => change,
            Err(broadcast::error::RecvError::Lagged(_)) => Change::Resync,
            // The hub lives as long as the member: nothing will come, and the caller ends with it.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// A change that is there already.
    pub fn try_next(&mut self) -> Option<Change> {
        match self.0.try_recv() {
            Ok(change) => Some(change),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(Change::Resync),
            Err(_) => None,
        }
    }
}

fn job_of(event: &Event) -> Option<JobId> {
    match event {
        Event::JobSubmitted { job }
        | Event::TaskReady { job, .. }
        | Event::TaskFinished { job, .. }
        | Event::JobFinished { job } => Some(*job),
        Event::AttemptPlaced { at, .. }
        | Event::AttemptRunning { at, .. }
        | Event::CheckpointCommitted { at, .. }
        | Event::AttemptIdle { at, .. }
        | Event::AttemptEnded { at, .. } => Some(at.job),
        Event::BudgetPassed { scope: Scope::Job(job), .. } => Some(*job),
        Event::WorkerChanged { .. } | Event::BudgetPassed { .. } => None,
    }
}

impl Hub {
    /// Watches a job from now on; subscribe first, then look.
    #[must_use]
    pub fn watch(&self, job: JobId) -> Watcher {
        Watcher(self.jobs.lock().entry(job).or_insert_with(|| broadcast::Sender::new(BACKLOG)).subscribe())
    }

    /// Tells the watchers what was applied.
    pub fn publish(&self, events: Vec<Event>, changes: &Changes) {
        let mut jobs = self.jobs.lock();
        if jobs.is_empty() {
            return;
        }
        let mut idle = BTreeSet::new();
        let mut touched = BTreeSet::new();
        for event in events {
            if let Some(job) = job_of(&event)
                && let Some(sender) = jobs.get(&job)
                && sender.send(Change::Event(event)).is_err()
            {
                idle.insert(job);
            }
        }
        for key in &changes.keys {
            if let Key::Job(job) | Key::Task(job, _) | Key::Block(job, _, _) = key {
                touched.insert(*job);
            }
        }
        for job in touched {
            if let Some(sender) = jobs.get(&job)
                && sender.send(Change::Touched).is_err()
            {
                idle.insert(job);
            }
        }
        for job in idle {
            if jobs.get(&job).is_some_and(|sender| sender.receiver_count() == 0) {
                jobs.remove(&job);
            }
        }
    }

    /// The state was replaced as a whole.
    pub fn resync(&self) {
        self.jobs.lock().retain(|_, sender| sender.send(Change::Resync).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_watchers_of_the_job_are_woken() {
        let hub = Hub::default();
        let (mut one, mut two) = (hub.watch(JobId(1)), hub.watch(JobId(2)));
        let changes =
            Changes { keys: BTreeSet::from([Key::Job(JobId(1)), Key::Job(JobId(3))]), ..Changes::default() };
        hub.publish(vec![Event::JobFinished { job: JobId(1) }], &changes);
        assert!(matches!(one.next().await, Change::Event(Event::JobFinished { job: JobId(1) })));
        assert!(matches!(one.next().await, Change::Touched));
        assert!(one.try_next().is_none() && two.try_next().is_none());
        drop(one);
        hub.publish(Vec::new(), &changes);
        assert_eq!(hub.jobs.lock().keys().copied().collect::<Vec<_>>(), [JobId(2)]);
        hub.resync();
        assert!(matches!(two.next().await, Change::Resync));
    }
}
