//! `muster budget set SCOPE`: what may be spent.

use crate::args::Global;
use crate::client::{Client, request_id, user};
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs, money::usd};
use clap::ValueEnum;
use muster_proto::api::SetBudgetRequest;
use serde_json::json;

/// What happens when a budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnExceed {
    /// It is said, and goes on.
    Warn,
    /// What runs is saved and stopped, and waits for somebody.
    Hold,
    /// What runs is stopped, and what waits never starts.
    Cancel,
}

impl OnExceed {
    fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Hold => "hold",
            Self::Cancel => "cancel",
        }
    }
}

/// Sets what a queue may spend in a month (UTC) or a job over its life, or takes the limit away. What is admitted and not yet spent counts.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster budget set queue:research --usd 500 --on-exceed hold\n  muster budget set queue:research --remove"
)]
pub struct Args {
    /// Whose: queue:NAME or job:ID.
    #[arg(value_name = "SCOPE")]
    scope: String,
    /// How much.
    #[arg(long, value_name = "N", value_parser = amount, required_unless_present = "remove")]
    usd: Option<f64>,
    /// What happens beyond it.
    #[arg(long, value_enum, value_name = "WHAT", default_value = "hold")]
    on_exceed: OnExceed,
    /// No limit any more.
    #[arg(long, conflicts_with_all = ["usd", "on_exceed"])]
    remove: bool,
    /// The same id has the same effect once.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// More is a mistake, and a millionth of it still a whole number.
const USD_MAX: f64 = 1e9;

#[derive(Debug, thiserror::Error)]
#[error("an amount of USD above 0 and up to {USD_MAX}")]
struct BadAmount;

fn amount(text: &str) -> Result<f64, BadAmount> {
    text.parse().ok().filter(|usd| *usd > 0.0 && *usd <= USD_MAX).ok_or(BadAmount)
}

impl Args {
    /// # Errors
    /// A scope that is none; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let request = SetBudgetRequest {
            request_id: request_id(self.request_id.as_deref()),
            scope: self.scope.clone(),
            usd: self.usd,
            on_exceed: self.on_exceed.as_str().to_owned(),
            user: user(),
        };
        Client::new(global)?.call(async |api| api.set_budget(request.clone()).await).await?;
        if self.output.is_json() {
            output::data(&json!({"scope": self.scope, "usd": self.usd}).to_string())?;
        }
        output::talk(&match self.usd {
            Some(limit) => {
                format!("{} may spend {} USD, then: {}", self.scope, usd(limit), self.on_exceed.as_str())
            }
            None => format!("{} has no budget any more", self.scope),
        });
        Ok(DONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_finite_and_more_than_nothing() {
        assert_eq!(amount("12.5").ok(), Some(12.5));
        for bad in ["", "0", "-1", "NaN", "inf", "1e10", "many"] {
            assert!(amount(bad).is_err(), "{bad}");
        }
    }
}
