//! A month of the calendar, UTC, as it is typed: `2026-11`.

use std::str::FromStr;

/// A month. Ordered by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(String);

/// The text is no month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write a month as 2026-11")]
pub struct BadMonth;

impl Month {
    /// As the wire has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Month {
    type Err = BadMonth;

    fn from_str(text: &str) -> Result<Self, BadMonth> {
        let (year, month) = text.split_once('-').ok_or(BadMonth)?;
        let is_number = |text: &str, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
        let is_month = matches!(month.parse::<u8>(), Ok(1..=12));
        if is_number(year, 4) && is_number(month, 2) && is_month {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadMonth)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_read_and_ordered() {
        let month = |text: &str| text.parse::<Month>();
        assert!(month("2026-09").unwrap() < month("2026-10").unwrap());
        assert!(month("2026-12").unwrap() < month("2027-01").unwrap());
        for bad in ["", "2026", "2026-13", "2026-00", "2026-1", "26-01", "2026-+1", "2026-01-01", "20x6-01"] {
            assert_eq!(month(bad), Err(BadMonth), "{bad}");
        }
    }
}
