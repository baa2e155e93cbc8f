//! Where time and money went, as a document.

use super::super::error::ApiError;
use super::super::service::Service;
use crate::clock::wall_ms;
use muster_core::ledger::Query;
use muster_core::model::time::{Stamp, Wall};
use muster_core::view_doc::CostDoc;

impl Service {
    /// `muster cost report`. What is going on is counted up to the last entry of the log: at most a minute ago, for the leader writes one at
    /// least that often.
    ///
    /// # Errors
    /// A question that has no answer; no leader.
    pub async fn cost(
        &self,
        by: &str,
        label: Option<&str>,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<CostDoc, ApiError> {
        let query =
            Query::parse(by, label, from, to).map_err(|error| ApiError::BadRequest(error.to_string()))?;
        self.forward.catch_up().await?;
        let wall = Wall(wall_ms());
        Ok(self.forward.read(|state| state.cost(&query, Stamp { wall, tick: state.tick() })))
    }
}
