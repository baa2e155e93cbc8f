//! `budget:`: the most money a job may cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::{SpecCode, SpecError};
use crate::model::budget::{Budget, OnExceed, USD_MAX};

/// The most money a job may cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetFile {
    /// US dollars.
    pub usd: f64,
    /// What happens beyond. Default: `hold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exceed: Option<OnExceed>,
}

impl BudgetFile {
    /// In millionths, if it is an amount.
    pub(super) fn budget(&self) -> Option<Budget> {
        Budget::of_usd(self.usd, self.on_exceed.unwrap_or_default())
    }

    pub(super) fn fault(&self) -> Option<SpecError> {
        let message = || format!("a budget of {} USD: more than 0, and at most {USD_MAX}", self.usd);
        self.budget().is_none().then(|| SpecError::at(SpecCode::InvalidValue, "budget.usd", message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usd_are_counted_in_millionths() {
        let file = |usd| BudgetFile { usd, on_exceed: None };
        assert_eq!(file(2.5).budget(), Some(Budget { micro_usd: 2_500_000, on_exceed: OnExceed::Hold }));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e12, 1e-9] {
            assert!(file(bad).budget().is_none() && file(bad).fault().is_some(), "{bad}");
        }
    }
}
