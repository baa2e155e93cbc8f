//! Durations as people write them: `500ms`, `30s`, `2h`, `1h30m`. Held in milliseconds; arithmetic on time lives with its users.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::size::{ScaleError, scaled, split_number};

/// A length of time in milliseconds, written with a unit in files and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text does not begin with a number.
    #[error("`{0}` is no duration: write a number and a unit, as in `30s` or `2h`")]
    NoNumber(String),
    /// A number stands alone.
    #[error("`{0}` has no unit: durations take ms, s, m, h and d, as in `{0}s`")]
    NoUnit(String),
    /// The unit is not one of the known ones.
    #[error("`{text}` has the unknown unit `{unit}`: durations take ms, s, m, h and d")]
    Unit {
        /// The whole text.
        text: String,
        /// The unit found in it.
        unit: String,
    },
    /// The duration is longer than [`MAX_MS`].
    #[error("`{0}` is too long: durations end at 36500d")]
    TooLong(String),
}

/// The longest duration, 100 years in milliseconds: sums of a few stay far from overflow.
pub const MAX_MS: u64 = 36_500 * DAY;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const UNITS: [(&str, u64); 5] = [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1)];

impl Millis {
    /// The number of milliseconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// `seconds` as a duration.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(SECOND))
    }

    /// Reads `500ms`, `1.5h`, `1h30m`, or `0`. A bare number other than 0 is refused: nobody agrees on its unit.
    ///
    /// # Errors
    /// A text without a number, without or with an unknown unit, or longer than 36,500 days.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self(0));
        }
        let mut total: u64 = 0;
        loop {
            let (number, after) = split_number(rest);
            let after = after.trim_start();
            if number.is_empty() {
                return Err(DurationError::NoNumber(text.to_owned()));
            }
            let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, tail) = after.split_at(end);
            if unit.is_empty() && tail.is_empty() {
                return Err(DurationError::NoUnit(text.to_owned()));
            }
            let &(_, scale) = UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(|| DurationError::Unit { text: text.to_owned(), unit: unit.to_owned() })?;
            let part = scaled(number, scale).map_err(|e| match e {
                ScaleError::NoNumber => DurationError::NoNumber(text.to_owned()),
                ScaleError::TooLarge => DurationError::TooLong(text.to_owned()),
            })?;
            total = total.saturating_add(part);
            if total > MAX_MS {
                return Err(DurationError::TooLong(text.to_owned()));
            }
            rest = tail.trim_start();
            if rest.is_empty() {
                return Ok(Self(total));
            }
        }
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, scale) in UNITS {
            if self.0 >= scale && self.0.is_multiple_of(scale) {
                return write!(f, "{}{name}", self.0 / scale);
            }
        }
        f.write_str("0s")
    }
}

impl std::str::FromStr for Millis {
    type Err = DurationError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::parse(s)
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Millis;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as `30s` or `2h`")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Millis, E> {
                Millis::parse(v).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Millis, E> {
                self.visit_str(&v.to_string())
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Millis, E> {
                self.visit_str(&v.to_string())
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Millis, E> {
                self.visit_str(&v.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        for (text, ms) in [
            ("0", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("10m", 600_000),
            ("6h", 21_600_000),
            ("2d", 172_800_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("2 h", 7_200_000),
        ] {
            assert_eq!(Millis::parse(text), Ok(Millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        assert_eq!(Millis::parse("30"), Err(DurationError::NoUnit("30".into())));
        assert_eq!(Millis::parse("soon"), Err(DurationError::NoNumber("soon".into())));
        assert_eq!(Millis::parse("-5s"), Err(DurationError::NoNumber("-5s".into())));
        assert_eq!(Millis::parse("5w"), Err(DurationError::Unit { text: "5w".into(), unit: "w".into() }));
        assert_eq!(Millis::parse("99999999d"), Err(DurationError::TooLong("99999999d".into())));
        assert_eq!(
            Millis::parse("99999999999999999999d"),
            Err(DurationError::TooLong("99999999999999999999d".into()))
        );
    }

    #[test]
    fn printing_is_the_shortest_exact_text() {
        for (text, shown) in
            [("90s", "90s"), ("120s", "2m"), ("24h", "1d"), ("1500ms", "1500ms"), ("0", "0s")]
        {
            assert_eq!(Millis::parse(text).expect("duration").to_string(), shown);
        }
    }
}
