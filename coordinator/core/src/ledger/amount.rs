//! Amounts of time and of money, in units so small that every sum is exact.
//!
//! Time is counted in thousandths of a GPU times milliseconds. 10,000 workers of 8 GPUs make 2.5e18 of them in a year: a `u64` is full after
//! seven years, so it is a `u128`. Money is counted in attoUSD (1e-18): the price of a thousandth of a device for a millisecond is then a
//! whole number, and what is cut off is less than a USD in a hundred years of a machine. All of that fleet at 100 USD an hour
//! is 9e27 a year; a `u128` holds 3e38.

use super::class::Class;
use serde::{Deserialize, Serialize};
use std::ops::{AddAssign, SubAssign};

/// Thousandths of a GPU × ms in one GPU-second.
pub const PER_GPU_SECOND: u128 = 1_000_000;
/// AttoUSD in one microUSD.
pub const PER_MICRO_USD: u128 = 1_000_000_000_000;

/// Time, and what it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Thousandths of a GPU × ms; 0 on a worker without GPUs.
    pub time: u128,
    /// AttoUSD.
    pub money: u128,
}

impl Amount {
    /// Whether there is nothing of either.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.time == 0 && self.money == 0
    }

    /// The part `of` / `whole` of it, rounded down.
    #[must_use]
    pub fn part(&self, of: u128, whole: u128) -> Self {
        let part = |n: u128| n.checked_mul(of).map_or(n / whole.max(1) * of, |n| n / whole.max(1));
        Self { time: part(self.time), money: part(self.money) }
    }

    /// GPU-seconds, for documents.
    #[must_use]
    pub fn gpu_seconds(&self) -> f64 {
        self.time as f64 / PER_GPU_SECOND as f64
    }

    /// USD, for documents.
    #[must_use]
    pub fn usd(&self) -> f64 {
        (self.money / PER_MICRO_USD) as f64 / 1e6
    }

    /// Millionths of a USD, rounded down.
    #[must_use]
    pub fn micro_usd(&self) -> u64 {
        u64::try_from(self.money / PER_MICRO_USD).unwrap_or(u64::MAX)
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.time = self.time.saturating_add(other.time);
        self.money = self.money.saturating_add(other.money);
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Self) {
        self.time = self.time.saturating_sub(other.time);
        self.money = self.money.saturating_sub(other.money);
    }
}

/// One amount for each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amounts([Amount; 8]);

impl Amounts {
    /// What is in a class.
    #[must_use]
    pub fn of(&self, class: Class) -> Amount {
        self.0[class as usize]
    }

    /// So much more is.
    pub fn add(&mut self, class: Class, amount: Amount) {
        self.0[class as usize] += amount;
    }

    /// All of `other` too.
    pub fn add_all(&mut self, other: &Self) {
        Class::ALL.into_iter().for_each(|class| self.add(class, other.of(class)));
    }

    /// What is in all classes together.
    #[must_use]
    pub fn total(&self) -> Amount {
        let mut total = Amount::default();
        self.0.iter().for_each(|amount| total += *amount);
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_large_amounts_do_not_overflow() {
        let amount = Amount { time: 7, money: u128::MAX / 2 };
        assert_eq!(amount.part(1, 2), Amount { time: 3, money: u128::MAX / 4 });
        assert!(amount.part(999, 1_000).money <= amount.money);
        assert_eq!(amount.part(0, 0), Amount::default());
    }

    #[test]
    fn people_read_seconds_and_usd() {
        let amount = Amount { time: 3_600 * PER_GPU_SECOND, money: 19_800_000 * PER_MICRO_USD };
        assert_eq!((amount.gpu_seconds(), amount.usd(), amount.micro_usd()), (3_600.0, 19.8, 19_800_000));
    }
}
