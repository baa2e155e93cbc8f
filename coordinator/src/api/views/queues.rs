//! Queues, as documents.

use super::super::error::ApiError;
use super::super::service::Service;
use super::words::counts;
use muster_core::model::job::Counts;
use muster_core::view_doc::{QueueDoc, QueuesDoc};
use std::collections::BTreeMap;

impl Service {
    /// `muster queue list`.
    ///
    /// # Errors
    /// No leader.
    pub async fn list_queues(&self) -> Result<QueuesDoc, ApiError> {
        self.forward.catch_up().await?;
        let queues = self.forward.read(|state| {
            let mut queues: BTreeMap<String, (u64, Counts)> =
                BTreeMap::from([("default".to_owned(), Default::default())]);
            for job in state.jobs() {
                let (jobs, sum) = queues.entry(job.spec.queue.clone()).or_default();
                if !job.state().is_terminal() {
                    *jobs += 1;
                    sum.add(&job.counts());
                }
            }
            queues
        });
        let doc = |(name, (jobs, sum)): (String, (u64, Counts))| QueueDoc { name, jobs, tasks: counts(&sum) };
        Ok(QueuesDoc { queues: queues.into_iter().map(doc).collect() })
    }
}
