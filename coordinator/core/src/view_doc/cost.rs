//! What was spent, on what, as documents.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One number for each class of time (SPEC section 10). They sum to `total`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ClassesDoc {
    pub useful: f64,
    pub idle: f64,
    pub held_empty: f64,
    pub waiting_for_peers: f64,
    pub starting: f64,
    pub restarting: f64,
    pub lost: f64,
    pub unhealthy: f64,
    pub total: f64,
}

/// `muster cost report`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CostDoc {
    /// `job user queue pool label`
    pub by: String,
    /// The label that rows are by, with `by: label`.
    #[serde(default)]
    pub label: Option<String>,
    /// First and last month counted, `2026-11`; none: all.
    #[serde(default)]
    pub from: Option<String>,
    #[serde(default)]
    pub to: Option<String>,
    pub rows: Vec<CostRowDoc>,
    pub total: CostRowDoc,
    /// GPU-seconds that the workers had in that time, counted on its own; none where rows are not all there is (`by: job`).
    #[serde(default)]
    pub capacity_gpu_seconds: Option<f64>,
    /// What is not in the rows, for people: jobs that have left memory.
    #[serde(default)]
    pub note: Option<String>,
}

/// One row: a job, a user, a queue, a pool, or the value of a label.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CostRowDoc {
    /// Empty: belongs to none (an idle GPU has no user).
    pub key: String,
    /// Of a job.
    #[serde(default)]
    pub name: Option<String>,
    pub gpu_seconds: ClassesDoc,
    pub usd: ClassesDoc,
}

/// `muster budget show`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BudgetsDoc {
    pub budgets: Vec<BudgetDoc>,
}

/// One budget.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BudgetDoc {
    /// `queue:research` or `job:42`.
    pub scope: String,
    /// `month` or `job`.
    pub period: String,
    /// The month it speaks of, `2026-11`.
    #[serde(default)]
    pub month: Option<String>,
    pub usd: f64,
    pub spent_usd: f64,
    /// Forecast of what was admitted and is not spent yet.
    pub reserved_usd: f64,
    /// `warn hold cancel`
    pub on_exceed: String,
    /// Per cent that were passed, of 50, 80, 100.
    pub alerts: Vec<u32>,
}
