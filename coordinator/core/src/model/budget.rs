//! Budgets: the most that a job may cost, or a queue in a month, and how far each has got.

use super::ids::JobId;
use super::time::Stamp;
use crate::ledger::Month;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Per cent of a budget at which somebody is told, once each.
pub const ALERTS: [u8; 3] = [50, 80, 100];

/// What happens when a budget is spent.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OnExceed {
    /// The job is held: what runs of it is evicted, with its grace to save.
    #[default]
    Hold,
    /// The job is cancelled.
    Cancel,
    /// Somebody is told, and all goes on.
    Warn,
}

impl OnExceed {
    /// The word in job files and documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Cancel => "cancel",
            Self::Warn => "warn",
        }
    }

    /// What the word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Hold, Self::Cancel, Self::Warn].into_iter().find(|which| which.as_str() == word)
    }
}

/// The most that something may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Budget {
    /// Millionths of a USD.
    pub micro_usd: u64,
    pub on_exceed: OnExceed,
}

/// The largest budget, USD: beyond it somebody has written something else.
pub const USD_MAX: f64 = 1e9;

impl Budget {
    /// Of an amount as people write it. None: it is not more than 0, or above [`USD_MAX`].
    #[must_use]
    pub fn of_usd(usd: f64, on_exceed: OnExceed) -> Option<Self> {
        let is_amount = usd.is_finite() && usd > 0.0 && usd <= USD_MAX;
        let micro_usd = (usd * 1e6).round() as u64;
        (is_amount && micro_usd > 0).then_some(Self { micro_usd, on_exceed })
    }
}

/// What a budget is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// All jobs of the queue of this name, by calendar month (UTC).
    Queue(String),
    /// A job, over its life.
    Job(JobId),
}

impl Scope {
    /// What `queue:research` or `job:42` names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("queue", name) if !name.is_empty() => Some(Self::Queue(name.to_owned())),
            ("job", id) => id.parse().ok().map(|id| Self::Job(JobId(id))),
            _ => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue:{name}"),
            Self::Job(id) => write!(f, "job:{id}"),
        }
    }
}

/// How far a budget has got, as it was looked at last: once a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRow {
    pub budget: Budget,
    /// Of a queue: the month that it counts.
    pub month: Option<Month>,
    /// Millionths of a USD; what runs is counted too.
    pub spent: u64,
    /// Of what was admitted, the forecast that is not spent yet.
    pub reserved: u64,
    /// Which of [`ALERTS`] were passed, and when.
    pub alerts: Vec<(u8, Stamp)>,
    /// It was acted upon: what a person releases after that is not stopped again for it.
    pub acted: bool,
}

impl BudgetRow {
    /// One of which nothing is spent.
    #[must_use]
    pub fn new(budget: Budget, month: Option<Month>) -> Self {
        Self { budget, month, spent: 0, reserved: 0, alerts: Vec::new(), acted: false }
    }

    /// Whether what is forecast fits beside what is spent and reserved.
    #[must_use]
    pub fn admits(&self, forecast: u64) -> bool {
        let limit = self.budget.micro_usd;
        let all = self.spent.saturating_add(self.reserved).saturating_add(forecast);
        self.budget.on_exceed == OnExceed::Warn || (self.spent < limit && all <= limit)
    }

    /// The alerts that are due and were not given.
    #[must_use]
    pub fn due(&self) -> Vec<u8> {
        let (spent, limit) = (u128::from(self.spent), u128::from(self.budget.micro_usd));
        let passed = |percent: &u8| spent > 0 && spent * 100 >= limit * u128::from(*percent);
        let given = |percent: &u8| self.alerts.iter().any(|(given, _)| given == percent);
        ALERTS.into_iter().filter(|percent| passed(percent) && !given(percent)).collect()
    }
}

/// USD as people read them.
#[must_use]
pub fn usd(micro: u64) -> String {
    let cents = micro / 10_000;
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_admits_what_fits_beside_the_rest() {
        let budget = Budget { micro_usd: 100, on_exceed: OnExceed::Hold };
        let row = BudgetRow { spent: 30, reserved: 20, ..BudgetRow::new(budget, None) };
        assert!(row.admits(50) && !row.admits(51));
        let spent = BudgetRow { spent: 100, ..BudgetRow::new(budget, None) };
        assert!(!spent.admits(0), "what has no forecast neither");
        let warns = Budget { on_exceed: OnExceed::Warn, ..budget };
        assert!(BudgetRow { budget: warns, ..spent }.admits(1_000));
    }

    #[test]
    fn alerts_are_given_once() {
        let mut row = BudgetRow::new(Budget { micro_usd: 10, on_exceed: OnExceed::Hold }, None);
        assert!(row.due().is_empty());
        row.spent = 8;
        assert_eq!(row.due(), [50, 80]);
        row.alerts.push((50, Stamp::default()));
        row.spent = 12;
        assert_eq!(row.due(), [80, 100]);
    }

    #[test]
    fn scopes_are_written_as_people_write_them() {
        for text in ["queue:research", "job:42"] {
            assert_eq!(Scope::parse(text).map(|scope| scope.to_string()), Some(text.to_owned()));
        }
        for bad in ["", "queue", "queue:", "job:x", "user:ann"] {
            assert_eq!(Scope::parse(bad), None, "{bad}");
        }
        assert_eq!((usd(19_999_999), usd(1_005_000)), ("19.99".to_owned(), "1.00".to_owned()));
    }
}
