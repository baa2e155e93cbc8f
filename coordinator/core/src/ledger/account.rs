//! Accounts: whose time it was. One for each month, pool, queue, user and set of labels that time was spent for.

use super::amount::Amounts;
use super::month::Month;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Accounts of one month at most; what belongs to a further one is booked as [`OTHER`]. At 200 bytes each, two years of them are 48 MB.
pub const ACCOUNTS_MAX: usize = 10_000;
/// Months that are kept, the newest; older ones leave with the next retirement.
pub const MONTHS_MAX: usize = 24;
/// Bytes of the labels of one account at most, keys and values together; those that do not fit are left out.
pub const LABELS_MAX: usize = 256;
/// Pool, queue and user of what has no account of its own.
pub const OTHER: &str = "other";

/// Names an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct AccountKey {
    pub month: Month,
    /// Of the worker.
    pub pool: String,
    /// Empty where no job had it: idle and unhealthy.
    pub queue: String,
    pub user: String,
    /// Labels of the job.
    pub labels: BTreeMap<String, String>,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub key: AccountKey,
    pub amounts: Amounts,
}

/// The labels that an account names, of a job that has these.
#[must_use]
pub fn bounded(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut room = LABELS_MAX;
    let fits = labels.iter().filter(|(key, value)| {
        let size = key.len() + value.len();
        let fits = size <= room;
        room -= if fits { size } else { 0 };
        fits
    });
    fits.map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        let labels = BTreeMap::from([
            ("a".to_owned(), "x".repeat(200)),
            ("b".to_owned(), "y".repeat(200)),
            ("team".to_owned(), "vision".to_owned()),
        ]);
        assert_eq!(bounded(&labels).keys().collect::<Vec<_>>(), ["a", "team"]);
    }
}
