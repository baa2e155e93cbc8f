//! What a machine costs now: a number, another at some times of the day, or what a file says.

use super::{PoolConfig, USD_MAX, is_price, micro};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A price from one time of the day to another, UTC; over midnight where `to` is not after `from`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceRange {
    /// `22:00`
    pub from: String,
    pub to: String,
    pub usd_per_hour: f64,
}

impl PriceRange {
    pub(super) fn check(&self) -> Result<(), String> {
        for text in [&self.from, &self.to] {
            minute(text).ok_or_else(|| format!("{text:?} is no time of the day"))?;
        }
        Ok(())
    }

    fn holds(&self, now: u32) -> bool {
        let (Some(from), Some(to)) = (minute(&self.from), minute(&self.to)) else { return false };
        if from < to { (from..to).contains(&now) } else { now >= from || now < to }
    }
}

/// The minute of the day.
fn minute(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

/// Files larger than this hold no prices, bytes.
const FILE_MAX: u64 = 1 << 20;

/// Prices that are not in the configuration, and the time of the day.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prices {
    minute: u32,
    /// What files said last, by pool, USD.
    files: BTreeMap<String, f64>,
}

impl Prices {
    /// The prices at this time of Unix, ms. A file that cannot be read or understood leaves the price that it said last, and is named.
    pub fn renew(&mut self, pools: &[PoolConfig], wall_ms: i64) -> Vec<String> {
        self.minute = u32::try_from(wall_ms.rem_euclid(86_400_000) / 60_000).unwrap_or_default();
        let mut faults = Vec::new();
        for pool in pools {
            let Some(path) = &pool.price_file else { continue };
            match price_in(path, &pool.name) {
                Ok(usd) => {
                    self.files.insert(pool.name.clone(), usd);
                }
                Err(reason) => {
                    faults.push(format!("the price of pool {:?} in {}: {reason}", pool.name, path.display()));
                }
            }
        }
        faults
    }

    /// Millionths of a USD an hour; none: unknown.
    #[must_use]
    pub fn of(&self, pool: &PoolConfig) -> Option<u64> {
        let in_file = self.files.get(&pool.name).copied();
        let by_time =
            pool.prices.iter().find(|range| range.holds(self.minute)).map(|range| range.usd_per_hour);
        in_file.or(by_time).or(pool.usd_per_hour).map(micro)
    }
}

fn price_in(path: &Path, pool: &str) -> Result<f64, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_MAX {
        return Err(format!("it has {size} bytes; the most is {FILE_MAX}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let value: serde_json::Value = serde_json::from_str(text.trim())
        .map_err(|_| "it is neither a number nor a JSON object".to_owned())?;
    let usd = value.as_f64().or_else(|| value.get(pool)?.as_f64());
    match usd {
        Some(usd) if is_price(usd) => Ok(usd),
        Some(usd) => Err(format!("{usd} is no price: 0 to {USD_MAX} USD an hour")),
        None => Err("it has no number for this pool".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn pool(text: &str) -> PoolConfig {
        toml::from_str(&format!("name = \"a\"\nmax = 1\n{text}")).expect("a pool")
    }

    #[test]
    fn the_time_of_the_day_decides_and_a_range_may_pass_midnight() {
        let pool = pool(
            r#"usd_per_hour = 20
            prices = [{ from = "22:00", to = "06:00", usd_per_hour = 12 }, { from = "12:00", to = "13:00", usd_per_hour = 30 }]"#,
        );
        let at = |hours: i64| {
            let mut prices = Prices::default();
            assert_eq!(
                prices.renew(std::slice::from_ref(&pool), 1_000 * 24 * HOUR + hours * HOUR),
                Vec::<String>::new()
            );
            prices.of(&pool).map(|micro| micro / 1_000_000)
        };
        assert_eq!([at(21), at(22), at(0), at(5), at(6), at(12)], [20, 12, 12, 12, 20, 30].map(Some));
    }

    #[test]
    fn a_file_is_read_again_and_a_bad_one_leaves_the_last_price() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("prices.json");
        let pool = pool(&format!("price_file = {:?}", path.display().to_string()));
        let mut prices = Prices::default();
        let mut renew = |text: &str| {
            std::fs::write(&path, text).expect("write");
            let faults = prices.renew(std::slice::from_ref(&pool), 0).len();
            (prices.of(&pool), faults)
        };
        assert_eq!(renew("3.5\n"), (Some(3_500_000), 0));
        assert_eq!(renew(r#"{"a": 4, "b": 5}"#), (Some(4_000_000), 0));
        assert_eq!(renew(r#"{"b": 5}"#), (Some(4_000_000), 1));
        assert_eq!(renew("-1"), (Some(4_000_000), 1));
    }
}
