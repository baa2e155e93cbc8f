//! What a worker costs: its own label, else what its pool is configured with, else nothing.

use super::amount::PER_MICRO_USD;
use crate::model::fleet::Fleet;
use crate::model::worker::WorkerSpec;

/// The label with which a worker says what it costs, USD an hour: `19.8`. It wins over its pool.
pub const PRICE_LABEL: &str = "usd_per_hour";
/// A price above this is a mistake, USD an hour.
const USD_PER_HOUR_MAX: u64 = 1_000_000;
/// Milliseconds of an hour.
const HOUR_MS: u128 = 3_600_000;

/// Millionths of a USD an hour.
#[must_use]
pub fn micro_usd_per_hour(spec: &WorkerSpec, fleet: &Fleet) -> u64 {
    let own = spec.labels.get(PRICE_LABEL).and_then(|text| parse_micro(text));
    own.or_else(|| fleet.pools.get(&spec.pool)?.micro_usd_per_hour).unwrap_or(0)
}

/// AttoUSD that one of `units` equal parts of the worker costs in a millisecond, rounded down.
#[must_use]
pub fn rate(micro_usd_per_hour: u64, units: u64) -> u128 {
    u128::from(micro_usd_per_hour) * PER_MICRO_USD / HOUR_MS / u128::from(units.max(1))
}

/// A decimal number of USD, in millionths; digits beyond those are dropped. None: it is no such number.
#[must_use]
pub fn parse_micro(text: &str) -> Option<u64> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let usd: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let micro = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
    let micro = micro.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    (usd <= USD_PER_HOUR_MAX).then(|| usd * 1_000_000 + micro)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fleet::PoolSpec;

    #[test]
    fn prices_are_decimal_numbers() {
        for (text, micro) in [
            ("19.8", Some(19_800_000)),
            (" 3 ", Some(3_000_000)),
            (".5", Some(500_000)),
            ("0.0000019", Some(1)),
            ("", None),
            (".", None),
            ("-1", None),
            ("1e3", None),
            ("1.5.2", None),
            ("99999999", None),
        ] {
            assert_eq!(parse_micro(text), micro, "{text:?}");
        }
    }

    #[test]
    fn the_label_wins_over_the_pool() {
        let pool = PoolSpec { micro_usd_per_hour: Some(7), ..PoolSpec::default() };
        let mut fleet = Fleet::default();
        fleet.pools.insert("a".to_owned(), pool);
        let mut spec = WorkerSpec { pool: "a".to_owned(), ..WorkerSpec::default() };
        assert_eq!(micro_usd_per_hour(&spec, &fleet), 7);
        spec.labels.insert(PRICE_LABEL.to_owned(), "nonsense".to_owned());
        assert_eq!(micro_usd_per_hour(&spec, &fleet), 7);
        spec.labels.insert(PRICE_LABEL.to_owned(), "2".to_owned());
        assert_eq!(micro_usd_per_hour(&spec, &fleet), 2_000_000);
        assert_eq!(micro_usd_per_hour(&WorkerSpec::default(), &fleet), 0);
    }

    #[test]
    fn a_machine_costs_its_price() {
        // 19.8 USD an hour over 8 devices of a thousand parts: what is cut off in an hour is less than a millionth of a USD.
        let units = 8_000;
        let hour = rate(19_800_000, units) * u128::from(units) * HOUR_MS;
        assert!(19_800_000 * PER_MICRO_USD - hour < PER_MICRO_USD, "{hour}");
    }
}
