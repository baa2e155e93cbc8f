//! Where time and money went, as a document; what it may be, and how far that has got.

use super::super::error::ApiError;
use super::super::service::Service;
use crate::clock::wall_ms;
use muster_core::command::{Command, Request};
use muster_core::ledger::Query;
use muster_core::model::budget::{Budget, BudgetRow, OnExceed, Scope, USD_MAX};
use muster_core::model::time::{Stamp, Wall};
use muster_core::view_doc::{BudgetDoc, BudgetsDoc, CostDoc};

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

    /// `muster budget show`: as the log looked at them last, at most a minute ago.
    ///
    /// # Errors
    /// No leader.
    pub async fn budgets(&self) -> Result<BudgetsDoc, ApiError> {
        self.forward.catch_up().await?;
        Ok(self.forward.read(|state| BudgetsDoc {
            budgets: state.ledger().budgets().iter().map(|(scope, row)| doc(scope, row)).collect(),
        }))
    }

    /// `muster budget set`. `scope`: `queue:NAME` by month, or `job:ID`; `usd` none: no limit any more; `on_exceed`: `hold`, `cancel`, `warn`,
    /// or empty for `hold`.
    ///
    /// # Errors
    /// A scope or word that means nothing; no such job.
    pub async fn set_budget(
        &self,
        request: Request,
        scope: &str,
        usd: Option<f64>,
        on_exceed: &str,
    ) -> Result<(), ApiError> {
        let bad = |what: String| ApiError::BadRequest(what);
        let scope = Scope::parse(scope)
            .ok_or_else(|| bad(format!("{scope:?} is no scope of a budget: queue:NAME or job:ID")))?;
        if let Scope::Queue(name) = &scope
            && name.len() > QUEUE_NAME_MAX
        {
            return Err(bad(format!("a queue's name has at most {QUEUE_NAME_MAX} characters")));
        }
        let on_exceed = match on_exceed {
            "" => OnExceed::default(),
            word => {
                OnExceed::parse(word).ok_or_else(|| bad(format!("{word:?} is none of hold, cancel, warn")))?
            }
        };
        let of = |usd: f64| {
            let budget = Budget::of_usd(usd, on_exceed);
            budget.ok_or_else(|| bad(format!("a budget of {usd} USD: more than 0, and at most {USD_MAX}")))
        };
        let budget = usd.map(of).transpose()?;
        self.forward.one(Command::SetBudget { request, scope, budget }).await.map(|_| ())
    }
}

/// As in a job file.
const QUEUE_NAME_MAX: usize = 63;

fn doc(scope: &Scope, row: &BudgetRow) -> BudgetDoc {
    let usd = |micro: u64| micro as f64 / 1e6;
    BudgetDoc {
        scope: scope.to_string(),
        period: if row.month.is_some() { "month" } else { "job" }.to_owned(),
        month: row.month.map(|month| month.to_string()),
        usd: usd(row.budget.micro_usd),
        spent_usd: usd(row.spent),
        reserved_usd: usd(row.reserved),
        on_exceed: row.budget.on_exceed.as_str().to_owned(),
        alerts: row.alerts.iter().map(|(percent, _)| u32::from(*percent)).collect(),
    }
}
