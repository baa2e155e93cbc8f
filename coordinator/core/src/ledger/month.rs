//! Calendar months (UTC), and which of them a stretch of time lies in.
//!
//! Stretches are measured in ticks; only where a month begins is taken from the wall clock of the entry that ends the stretch. A wall clock
//! that is wrong books time in the wrong month, and never loses any.

use super::amount::Amount;
use crate::model::time::Wall;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// The last moment that has a month here: the end of the year 9999. What a wall clock says beyond is taken for this.
const WALL_MAX: i64 = 253_402_300_799_999;
/// Months that one stretch is split over at most; what is older is booked in the oldest of them. No stretch is this long unless a clock
/// has jumped.
const SPLIT_MAX: usize = 24;

/// A month, as a number of six digits: `202611`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Month(pub u32);

impl Month {
    /// The month of a moment.
    #[must_use]
    pub fn of(wall: Wall) -> Self {
        let days = wall.0.clamp(0, WALL_MAX) / DAY_MS;
        // Days to a date, by Howard Hinnant's `civil_from_days`, whose years begin in March.
        let z = days + 719_468;
        let era = z / 146_097;
        let day_of_era = z - era * 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self(u32::try_from(year * 100 + month).unwrap_or_default())
    }

    /// Its first moment.
    #[must_use]
    pub fn start(self) -> Wall {
        let (year, month) = (i64::from(self.0 / 100), i64::from(self.0 % 100));
        let year = if month <= 2 { year - 1 } else { year };
        let era = year / 400;
        let year_of_era = year - era * 400;
        let shifted = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * shifted + 2) / 5;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Wall((era * 146_097 + day_of_era - 719_468) * DAY_MS)
    }

    /// The month before.
    #[must_use]
    pub fn before(self) -> Self {
        if self.0 % 100 <= 1 { Self((self.0 / 100).saturating_sub(1) * 100 + 12) } else { Self(self.0 - 1) }
    }

    /// The month that `2026-11` names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let digits = year.len() == 4 && month.len() == 2;
        let all_digits = year.bytes().chain(month.bytes()).all(|b| b.is_ascii_digit());
        let (year, month): (u32, u32) = (year.parse().ok()?, month.parse().ok()?);
        (digits && all_digits && year >= 1970 && (1..=12).contains(&month))
            .then_some(Self(year * 100 + month))
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 100, self.0 % 100)
    }
}

/// Calls `book` with the parts of an amount that grew evenly over the last `ms` before `end`, month by month, the newest first. The parts
/// are the whole.
pub fn split(ms: u64, amount: Amount, end: Wall, mut book: impl FnMut(Month, Amount)) {
    let (mut month, mut wall) = (Month::of(end), end.0.clamp(0, WALL_MAX));
    let (mut left, mut rest) = (ms, amount);
    for _ in 1..SPLIT_MAX {
        let within = u64::try_from(wall - month.start().0).unwrap_or_default();
        if within >= left || month.0 <= 197_001 {
            break;
        }
        let part = amount.part(u128::from(within), u128::from(ms));
        if within > 0 {
            book(month, part);
        }
        rest -= part;
        left -= within;
        wall = month.start().0;
        month = month.before();
    }
    book(month, rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(ms: u64, end: Wall) -> Vec<(u32, u128)> {
        let mut parts = Vec::new();
        split(ms, Amount { time: u128::from(ms), money: 7 }, end, |month, part| {
            parts.push((month.0, part.time));
        });
        parts
    }

    #[test]
    fn months_begin_where_the_calendar_says() {
        for (wall, month) in [
            (0, 197_001),
            (951_782_400_000, 200_002),   // 29 February 2000
            (1_764_201_600_000, 202_511), // 27 November 2025
            (1_767_225_599_999, 202_512), // the last moment of 2025
            (1_767_225_600_000, 202_601),
            (-1, 197_001),
            (i64::MAX, 999_912),
        ] {
            assert_eq!(Month::of(Wall(wall)), Month(month), "{wall}");
        }
        let mut month = Month(210_012);
        while month.0 > 197_001 {
            let start = month.start();
            assert_eq!(Month::of(start), month);
            assert_eq!(Month::of(Wall(start.0 - 1)), month.before());
            month = month.before();
        }
    }

    #[test]
    fn a_stretch_is_split_where_months_begin() {
        let january = Month(202_601).start();
        assert_eq!(parts(5_000, Wall(january.0 + 9_000)), [(202_601, 5_000)]);
        assert_eq!(parts(5_000, Wall(january.0 + 2_000)), [(202_601, 2_000), (202_512, 3_000)]);
        assert_eq!(parts(5_000, january), [(202_512, 5_000)]);
        let year: u64 = 365 * 86_400_000;
        let all = parts(year, january);
        assert_eq!((all.len(), all[0].0, all[11].0), (12, 202_512, 202_501));
        assert_eq!(all.iter().map(|part| part.1).sum::<u128>(), u128::from(year));
        let sum: u128 = parts(u64::MAX, january).iter().map(|part| part.1).sum();
        assert_eq!(sum, u128::from(u64::MAX), "a clock that jumped");
    }

    #[test]
    fn months_are_written_as_people_write_them() {
        assert_eq!(Month(202_611).to_string(), "2026-11");
        assert_eq!(Month::parse("2026-11"), Some(Month(202_611)));
        for bad in ["", "2026", "2026-13", "2026-00", "26-11", "2026-1", "+026-11", "1969-12"] {
            assert_eq!(Month::parse(bad), None, "{bad}");
        }
    }
}
