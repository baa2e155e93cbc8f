//! The clocks of the shell: boot time for everything that is measured, wall time for display, and the cluster's tick for entries.

use muster_core::model::time::{Stamp, Tick, Wall};
use parking_lot::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since boot, suspended time included.
#[must_use]
pub fn boot_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// Milliseconds since 1970-01-01 UTC.
#[must_use]
pub fn wall_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Stamps the entries of a leader: the state's tick at its first commit plus the boot time that went by since.
#[derive(Debug)]
pub struct TermClock(Mutex<(Tick, u64)>);

impl Default for TermClock {
    fn default() -> Self {
        Self(Mutex::new((Tick(0), boot_ms())))
    }
}

impl TermClock {
    /// A term begins: the state stands at `tick`.
    pub fn begin(&self, tick: Tick) {
        *self.0.lock() = (tick, boot_ms());
    }

    /// The time for the next entry. Never before the tick of an earlier one: the state keeps the greater.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        let (tick, since) = *self.0.lock();
        Stamp { wall: Wall(wall_ms()), tick: tick.plus(boot_ms().saturating_sub(since)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_goes_on_from_the_state() {
        let clock = TermClock::default();
        clock.begin(Tick(1 << 40));
        let (one, two) = (clock.stamp(), clock.stamp());
        assert!(one.tick >= Tick(1 << 40) && two.tick >= one.tick);
        assert!(boot_ms() > 0 && one.wall.0 > 1_700_000_000_000);
    }
}
