//! The clocks of the worker's side. Deadlines count `CLOCK_BOOTTIME`, which neither stops in suspend nor jumps; wall time is for people.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since boot, suspend included. The only clock that leases are measured with.
#[must_use]
pub fn boot_ms() -> u64 {
    read(ClockId::Boottime)
}

/// Milliseconds since 1970. Display only.
#[must_use]
pub fn wall_ms() -> u64 {
    read(ClockId::Realtime)
}

fn read(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000 + u64::try_from(t.tv_nsec).unwrap_or(0) / 1_000_000
}
