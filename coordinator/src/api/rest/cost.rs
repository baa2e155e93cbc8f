//! `/v1/cost` and `/v1/budgets`: where time and money went, and what may be spent. Left out: setting a budget (`muster budget set`).

use super::super::service::Service;
use super::doc::Doc;
use super::extract::Query;
use super::openapi::Api;
use super::operation::Operation;
use super::problem::Problem;
use axum::extract::State;
use muster_core::view_doc::{BudgetsDoc, CostDoc};
use schemars::JsonSchema;
use serde::Deserialize;

/// What is asked of the books.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// What each row is of: `job`, `user`, `queue`, `pool`, or `label:KEY` for each value of that label.
    #[schemars(regex(pattern = "^(job|user|queue|pool|label:[a-zA-Z0-9_./-]+)$"), extend("default" = "queue"))]
    by: Option<String>,
    /// First month, UTC; without: all that is kept. Not with `by=job`: a job is counted whole.
    #[schemars(regex(pattern = "^20[0-9]{2}-(0[1-9]|1[0-2])$"))]
    from: Option<String>,
    /// Last month.
    #[schemars(regex(pattern = "^20[0-9]{2}-(0[1-9]|1[0-2])$"))]
    to: Option<String>,
}

pub(super) fn routes(api: Api) -> Api {
    let cost = "Where every GPU-second and every USD went.\nCounted up to the last entry of the log, at most a minute ago. The classes of a row sum to its total.";
    let budgets = "Budgets, and how far each has got.";
    api.get(
        "/v1/cost",
        get_cost,
        Operation::new("scaling", "getCost", cost).query::<Asked>().answers::<CostDoc>("The books"),
    )
    .get(
        "/v1/budgets",
        list_budgets,
        Operation::new("scaling", "listBudgets", budgets).answers::<BudgetsDoc>("The budgets"),
    )
}

async fn get_cost(
    State(service): State<Service>,
    Query(asked): Query<Asked>,
) -> Result<Doc<CostDoc>, Problem> {
    let by = asked.by.as_deref().unwrap_or("queue");
    let (by, label) = match by.split_once(':') {
        Some(("label", key)) => ("label", Some(key)),
        _ => (by, None),
    };
    // Empty means unsaid to the service, and nothing to who writes it in a query.
    if [asked.from.as_deref(), asked.to.as_deref()].contains(&Some("")) {
        return Err(Problem::bad_request("from, to: a month is written like 2026-11"));
    }
    Ok(Doc(service.cost(by, label, asked.from.as_deref(), asked.to.as_deref()).await?))
}

async fn list_budgets(State(service): State<Service>) -> Result<Doc<BudgetsDoc>, Problem> {
    Ok(Doc(service.budgets().await?))
}
