//! `muster budget show`: what may be spent and what was.

use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done, Failure};
use crate::output::{self, OutputArgs, money::usd, table::Table};
use muster_core::view_doc::{BudgetDoc, BudgetsDoc};
use muster_proto::api::ListRequest;
use serde_json::Value;

/// Shows budgets: what was spent of each, what is promised to work that was admitted, and what is left.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster budget show\n  muster budget show queue:research --output json")]
pub struct Args {
    /// This one alone: queue:NAME or job:ID.
    #[arg(value_name = "SCOPE")]
    scope: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// No such budget; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let mut client = Client::new(global)?;
        let (json, doc) =
            client.document::<BudgetsDoc>(async |api| api.list_budgets(ListRequest {}).await).await?;
        let shown = |scope: &str| self.scope.as_deref().is_none_or(|only| only == scope);
        let budgets: Vec<BudgetDoc> = doc.budgets.into_iter().filter(|b| shown(&b.scope)).collect();
        if let Some(scope) = self.scope.as_deref().filter(|_| budgets.is_empty()) {
            return Err(Failure::new("BUDGET_NOT_FOUND", format!("{scope:?} has no budget"))
                .hint("`muster budget show` lists them"));
        }
        if self.output.is_json() {
            output::document(&only(&json, shown)?)?;
        } else {
            output::data(&table(&budgets))?;
        }
        Ok(DONE)
    }
}

/// The document with these budgets; the rest as it came.
fn only(json: &str, shown: impl Fn(&str) -> bool) -> Result<String, Failure> {
    let unreadable = |error: serde_json::Error| Failure::new("BAD_DOCUMENT", error.to_string());
    let mut value: Value = serde_json::from_str(json).map_err(unreadable)?;
    if let Some(budgets) = value.get_mut("budgets").and_then(Value::as_array_mut) {
        budgets.retain(|budget| budget["scope"].as_str().is_some_and(&shown));
    }
    Ok(value.to_string())
}

fn table(budgets: &[BudgetDoc]) -> String {
    let mut table =
        Table::new(&["SCOPE", "PERIOD", ">USD", ">SPENT", ">PROMISED", ">LEFT", "THEN", "PASSED"]);
    for budget in budgets {
        let left = budget.usd - budget.spent_usd - budget.reserved_usd;
        let passed: Vec<String> = budget.alerts.iter().map(|percent| format!("{percent}%")).collect();
        table.row([
            budget.scope.clone(),
            budget.month.clone().unwrap_or_else(|| budget.period.clone()),
            usd(budget.usd),
            usd(budget.spent_usd),
            usd(budget.reserved_usd),
            usd(left),
            budget.on_exceed.clone(),
            passed.join(" "),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_counts_what_is_promised() {
        let budget = BudgetDoc {
            scope: "queue:research".into(),
            period: "month".into(),
            month: Some("2026-11".into()),
            usd: 500.0,
            spent_usd: 420.5,
            reserved_usd: 60.0,
            on_exceed: "hold".into(),
            alerts: vec![50, 80],
        };
        let job = BudgetDoc {
            scope: "job:42".into(),
            period: "job".into(),
            month: None,
            usd: 25.0,
            spent_usd: 30.0,
            reserved_usd: 0.0,
            on_exceed: "warn".into(),
            alerts: vec![50, 80, 100],
        };
        let expected = "\
SCOPE           PERIOD      USD   SPENT  PROMISED   LEFT  THEN  PASSED
queue:research  2026-11  500.00  420.50     60.00  19.50  hold  50% 80%
job:42          job       25.00   30.00      0.00  -5.00  warn  50% 80% 100%
";
        assert_eq!(table(&[budget, job]), expected);
    }

    #[test]
    fn one_budget_alone_is_the_same_document() {
        let json = r#"{"budgets":[{"scope":"queue:a","new":1},{"scope":"queue:b"}]}"#;
        let shown: Value = serde_json::from_str(&only(json, |scope| scope == "queue:a").unwrap()).unwrap();
        assert_eq!(shown, serde_json::json!({"budgets": [{"scope": "queue:a", "new": 1}]}));
    }
}
