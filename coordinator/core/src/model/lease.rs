//! The numbers of the lease protocol, in one place, with the sums that make them safe.

/// How long a lease lasts after the heartbeat that renewed it, ms.
pub const LEASE_MS: u64 = 10_000;
/// A worker sends a heartbeat this often, ms.
pub const RENEW_MS: u64 = 2_000;
/// The bound on the clock-rate difference of two machines, percent.
pub const RHO_PERCENT: u64 = 1;
/// The shim sends SIGTERM this long before the deadline, ms.
pub const TERM_BEFORE_MS: u64 = 1_000;
/// The shim kills the cgroup this long before the deadline, ms.
pub const KILL_BEFORE_MS: u64 = 500;
/// What the leader adds to its own wait, ms.
pub const GRANT_AFTER_MS: u64 = 500;

/// The worker's deadline counts from the *sending* of an acknowledged heartbeat, ms: T(1 − ρ).
pub const WORKER_LEASE_MS: u64 = LEASE_MS * (100 - RHO_PERCENT) / 100;
/// The leader grants again this long after the *receipt* of the last acknowledged heartbeat, ms: T(1 + ρ) + 0.5 s.
pub const LEADER_LEASE_MS: u64 = LEASE_MS * (100 + RHO_PERCENT) / 100 + GRANT_AFTER_MS;

/// p99 of a failover and of a worker's reconnect, ms: what a lease has to outlast.
pub const FAILOVER_P99_MS: u64 = 4_000;
pub const RECONNECT_P99_MS: u64 = 2_000;

// A worker's attempt is dead before the leader grants again, whatever the clocks do within the bound.
const _: () = assert!(WORKER_LEASE_MS - KILL_BEFORE_MS < LEADER_LEASE_MS * (100 - RHO_PERCENT) / 100 - 500);
// A failover costs no lease.
const _: () = assert!(RENEW_MS + FAILOVER_P99_MS + RECONNECT_P99_MS < WORKER_LEASE_MS - TERM_BEFORE_MS);
