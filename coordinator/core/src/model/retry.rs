//! When a failed attempt is tried again, and after how long: integers only, so that every replica computes the same answer.
//! Which ends are charged at all (never eviction, lost workers, devices or launches) is decided by the attempt's cause.

use serde::{Deserialize, Serialize};

/// How often and why a task is tried again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts that may end by the task's own fault, at least 1; 1 = never tried again.
    pub attempts: u32,
    /// The wait before the next attempt.
    pub backoff: Backoff,
    /// Which failures are worth another attempt.
    pub on: RetryOn,
    /// What lines of the log decide. Kept with the job; this version does not read logs to act on them.
    pub log_rules: Vec<LogRule>,
}

impl Default for RetryPolicy {
    /// One attempt, no more.
    fn default() -> Self {
        Self { attempts: 1, backoff: Backoff::default(), on: RetryOn::default(), log_rules: Vec::new() }
    }
}

/// Which charged failures are tried again, as long as attempts are left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RetryOn {
    /// Exit codes tried again; a death by signal n counts as 128 + n. `None` = every one.
    pub exit_codes: Option<Vec<i32>>,
    /// Whether an attempt killed for memory is tried again.
    pub oom: bool,
    /// Whether an attempt that ran out of time is tried again.
    pub timeout: bool,
}

impl Default for RetryOn {
    /// Every failure.
    fn default() -> Self {
        Self { exit_codes: None, oom: true, timeout: true }
    }
}

/// What to do when a line of the log matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogRule {
    /// A regular expression.
    pub matches: String,
    /// What follows from it.
    pub action: LogAction,
}

/// What follows from a matching line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LogAction {
    /// The task fails and is not tried again.
    Fail,
    /// The attempt is tried again, charged.
    Retry,
    /// The attempt is tried again elsewhere, not charged.
    ExcludeWorker,
}

/// An end of an attempt that is charged to the task itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChargedEnd {
    /// It exited with this code, not 0.
    Exit(i32),
    /// A signal killed it.
    Signal(i32),
    /// It was killed for memory.
    Oom,
    /// It ran out of time.
    Timeout,
    /// An output was missing or did not hold its contract.
    Contract,
    /// A line of the log decided.
    LogRule(LogAction),
}

/// The wait before attempt n + 1: `initial × factor^(n-1)`, at most `max`, spread by `jitter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Backoff {
    /// Milliseconds before the second attempt.
    pub initial_ms: u64,
    /// Growth in thousandths: 2000 doubles.
    pub factor_milli: u32,
    /// The longest wait in milliseconds, before jitter.
    pub max_ms: u64,
    /// Spread to both sides in thousandths: 200 = up to 20 % less or more.
    pub jitter_permille: u32,
}

impl Default for Backoff {
    /// 1 s, doubling, at most 5 min, spread by 20 %: quick for a hiccup, gentle on what is down.
    fn default() -> Self {
        Self { initial_ms: 1_000, factor_milli: 2_000, max_ms: 300_000, jitter_permille: 200 }
    }
}

impl Backoff {
    /// Milliseconds to wait after `failures` charged failures (1 = the first). `seed` spreads many tasks that fail at once and
    /// must be the same on every replica: the fencing token of the attempt that failed is a good one.
    #[must_use]
    pub fn delay_ms(&self, failures: u32, seed: u64) -> u64 {
        let mut delay = self.initial_ms.min(self.max_ms);
        for _ in 1..failures {
            let next =
                u64::try_from(u128::from(delay) * u128::from(self.factor_milli) / 1000).unwrap_or(u64::MAX);
            if next >= self.max_ms {
                delay = self.max_ms;
                break;
            }
            if next == delay {
                break;
            }
            delay = next;
        }
        let spread =
            u64::try_from(u128::from(delay) * u128::from(self.jitter_permille.min(1000)) / 1000).unwrap_or(0);
        if spread == 0 {
            return delay;
        }
        let roll = mix(seed) % (2 * spread + 1);
        delay - spread + roll
    }
}

impl RetryPolicy {
    /// Whether another attempt follows `end`, the `charged`-th charged failure of the task (1 = the first).
    #[must_use]
    pub fn tries_again(&self, end: ChargedEnd, charged: u32) -> bool {
        if charged >= self.attempts {
            return false;
        }
        let listed = |code: i32| self.on.exit_codes.as_ref().is_none_or(|codes| codes.contains(&code));
        match end {
            ChargedEnd::Exit(code) => listed(code),
            ChargedEnd::Signal(n) => listed(128 + n),
            ChargedEnd::Oom => self.on.oom,
            ChargedEnd::Timeout => self.on.timeout,
            ChargedEnd::Contract => true,
            ChargedEnd::LogRule(action) => action != LogAction::Fail,
        }
    }
}

/// `SplitMix64`: spreads neighbouring seeds over all 64 bits.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_maximum() {
        let b = Backoff { initial_ms: 10_000, factor_milli: 2_000, max_ms: 60_000, jitter_permille: 0 };
        assert_eq!(
            (1..=6).map(|n| b.delay_ms(n, 7)).collect::<Vec<_>>(),
            [10_000, 20_000, 40_000, 60_000, 60_000, 60_000]
        );
        let flat = Backoff { factor_milli: 1_000, ..b };
        assert_eq!(flat.delay_ms(u32::MAX, 7), 10_000);
    }

    #[test]
    fn jitter_stays_within_its_share_and_is_the_same_for_the_same_seed() {
        let b = Backoff { initial_ms: 1_000, factor_milli: 1_000, max_ms: 1_000, jitter_permille: 200 };
        let delays: Vec<u64> = (0..1_000).map(|seed| b.delay_ms(1, seed)).collect();
        assert!(delays.iter().all(|d| (800..=1_200).contains(d)));
        assert!(delays.iter().min() < Some(&820) && delays.iter().max() > Some(&1_180));
        assert_eq!(delays, (0..1_000).map(|seed| b.delay_ms(1, seed)).collect::<Vec<_>>());
    }

    #[test]
    fn causes_decide() {
        let some = RetryPolicy {
            attempts: 3,
            on: RetryOn { exit_codes: Some(vec![1, 139]), oom: false, timeout: true },
            ..RetryPolicy::default()
        };
        for (end, charged, again) in [
            (ChargedEnd::Exit(1), 1, true),
            (ChargedEnd::Exit(2), 1, false),
            (ChargedEnd::Signal(11), 2, true),
            (ChargedEnd::Signal(9), 1, false),
            (ChargedEnd::Oom, 1, false),
            (ChargedEnd::Timeout, 1, true),
            (ChargedEnd::Contract, 1, true),
            (ChargedEnd::LogRule(LogAction::Fail), 1, false),
            (ChargedEnd::LogRule(LogAction::Retry), 1, true),
            (ChargedEnd::Exit(1), 3, false),
        ] {
            assert_eq!(some.tries_again(end, charged), again, "{end:?} {charged}");
        }
        assert!(!RetryPolicy::default().tries_again(ChargedEnd::Exit(1), 1));
    }
}
