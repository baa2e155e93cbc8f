//! How often to save: by the first-order rule of Young and Daly, from what a save costs and how often a machine is lost.
//!
//! Left out: what is asked of whom (the leader's start orders), and how often machines are lost (`model/pool.rs`).

/// Nobody is advised to save more often than this, ms.
pub const LEAST_EVERY_MS: u64 = 10_000;

/// The time between two saves at which saving and losing together cost least, ms: `sqrt(2 × save × mtbf)`, but never so short that half
/// the time is spent on saving, nor below [`LEAST_EVERY_MS`].
#[must_use]
pub fn interval_ms(save_ms: u64, mtbf_ms: u64) -> u64 {
    let squared = (2 * u128::from(save_ms)).saturating_mul(u128::from(mtbf_ms));
    let interval = u64::try_from(squared.isqrt()).unwrap_or(u64::MAX);
    interval.max(save_ms).max(LEAST_EVERY_MS)
}

/// How often an attempt is asked to save: as its user said, or more often where that loses less. Whoever did not say how often is never
/// asked: the signal may mean something else to it. `save_ms`: what its last save took; `mtbf_ms`: how long one worker of its pool lasts;
/// `ranks`: the workers it needs at once, of which each may be lost.
#[must_use]
pub fn effective_every(
    every_ms: Option<u64>,
    save_ms: Option<u64>,
    mtbf_ms: Option<u64>,
    ranks: u32,
) -> Option<u64> {
    let every = every_ms?;
    let (Some(save), Some(mtbf)) = (save_ms, mtbf_ms) else { return Some(every) };
    Some(every.min(interval_ms(save, mtbf / u64::from(ranks.max(1)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn cheap_saves_and_frequent_losses_make_it_short() {
        assert_eq!(interval_ms(5_000, 4 * HOUR), 379_473, "sqrt(2 x 5 s x 4 h)");
        assert!(interval_ms(5_000, HOUR) < interval_ms(5_000, 4 * HOUR));
        assert!(interval_ms(5_000, HOUR) < interval_ms(20_000, HOUR));
        assert_eq!(interval_ms(1, 1), LEAST_EVERY_MS);
        assert_eq!(interval_ms(HOUR, 1), HOUR, "half the time at most");
        assert_eq!(interval_ms(u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn the_users_word_is_only_ever_made_shorter() {
        let ten = Some(600_000);
        assert_eq!(effective_every(None, Some(5_000), Some(HOUR), 1), None);
        assert_eq!(effective_every(ten, None, Some(HOUR), 1), ten);
        assert_eq!(effective_every(ten, Some(5_000), None, 1), ten);
        assert_eq!(effective_every(ten, Some(5_000), Some(4 * HOUR), 1), Some(379_473));
        assert_eq!(effective_every(ten, Some(5_000), Some(4 * HOUR), 4), Some(189_736), "any of four may go");
        assert_eq!(effective_every(ten, Some(5_000), Some(400 * HOUR), 1), ten);
    }
}
