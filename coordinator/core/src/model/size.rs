//! Sizes in bytes as people write them: `512MiB`, `1TB`. Parsing and printing only; what a size is for is said where it is used.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes, written with a unit in files and flags (`4GiB`) and as an integer of bytes in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// The text does not begin with a number.
    #[error("`{0}` is no size: write a number and a unit, as in `512MiB` or `4GiB`")]
    NoNumber(String),
    /// The unit is not one of the known ones.
    #[error(
        "`{text}` has the unknown unit `{unit}`: sizes take B, KiB, MiB, GiB, TiB (1024) and KB, MB, GB, TB (1000)"
    )]
    Unit {
        /// The whole text.
        text: String,
        /// The unit found in it.
        unit: String,
    },
    /// The number does not fit 64 bits of bytes.
    #[error("`{0}` is too large: sizes end at 16777215TiB")]
    TooLarge(String),
}

/// Units by name, largest binary one first (the order `Display` tries them in).
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Size {
    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Reads `512MiB`, `1.5GiB`, `20 GB` or a bare number of bytes. Fractions are rounded down to a byte.
    ///
    /// # Errors
    /// A text without a number, with an unknown unit, or beyond 64 bits.
    pub fn parse(text: &str) -> Result<Self, SizeError> {
        let trimmed = text.trim();
        let (number, unit) = split_number(trimmed);
        let unit = unit.trim();
        let scale = if unit.is_empty() {
            1
        } else {
            UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|&(_, scale)| scale)
                .ok_or_else(|| match number {
                    "" => SizeError::NoNumber(text.to_owned()),
                    _ => SizeError::Unit { text: text.to_owned(), unit: unit.to_owned() },
                })?
        };
        scaled(number, scale).map(Self).map_err(|e| match e {
            ScaleError::NoNumber => SizeError::NoNumber(text.to_owned()),
            ScaleError::TooLarge => SizeError::TooLarge(text.to_owned()),
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The unit that leaves the smallest whole number says it best: 20GB, not 19531250KiB.
        let exact = UNITS.iter().filter(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale));
        if let Some((name, scale)) = exact.min_by_key(|(_, scale)| self.0 / scale) {
            return write!(f, "{}{name}", self.0 / scale);
        }
        write!(f, "{}B", self.0)
    }
}

impl std::str::FromStr for Size {
    type Err = SizeError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::parse(s)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as `4GiB`, or a number of bytes")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Size, E> {
                Size::parse(v).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Size, E> {
                Ok(Size(v))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Size, E> {
                u64::try_from(v).map(Size).map_err(|_| E::invalid_value(de::Unexpected::Signed(v), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Why [`scaled`] failed.
pub(crate) enum ScaleError {
    NoNumber,
    TooLarge,
}

/// Splits `1.5GiB` into `1.5` and `GiB`.
pub(crate) fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

/// `number` × `scale` in integers: a decimal fraction of up to nine digits counts, the rest is dropped.
pub(crate) fn scaled(number: &str, scale: u64) -> Result<u64, ScaleError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return Err(ScaleError::NoNumber);
    }
    let whole: u64 = whole.parse().map_err(|_| ScaleError::TooLarge)?;
    let digits = &fraction[..fraction.len().min(9)];
    let fraction = if digits.is_empty() {
        0
    } else {
        let value: u128 = digits.parse().map_err(|_| ScaleError::NoNumber)?;
        value * u128::from(scale) / 10u128.pow(u32::try_from(digits.len()).unwrap_or(9))
    };
    let total = u128::from(whole) * u128::from(scale) + fraction;
    u64::try_from(total).map_err(|_| ScaleError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("1B", 1),
            ("1KiB", 1024),
            ("1KB", 1000),
            ("512MiB", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("20 GB", 20_000_000_000),
            ("2TiB", 2 << 40),
            ("4gib", 4 << 30),
        ] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_says_why() {
        assert_eq!(Size::parse(""), Err(SizeError::NoNumber(String::new())));
        assert_eq!(Size::parse("GiB"), Err(SizeError::NoNumber("GiB".into())));
        assert_eq!(Size::parse("-4GiB"), Err(SizeError::NoNumber("-4GiB".into())));
        assert_eq!(Size::parse("1..5GiB"), Err(SizeError::NoNumber("1..5GiB".into())));
        assert_eq!(Size::parse("4G"), Err(SizeError::Unit { text: "4G".into(), unit: "G".into() }));
        assert_eq!(Size::parse("99999999999TiB"), Err(SizeError::TooLarge("99999999999TiB".into())));
    }

    #[test]
    fn printing_is_the_shortest_exact_text() {
        for text in ["4GiB", "1TiB", "1536MiB", "20GB", "17B", "0B"] {
            assert_eq!(Size::parse(text).expect("size").to_string(), text);
        }
    }
}
