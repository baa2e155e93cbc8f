//! muster-lease-model: the lease protocol as a definition that a machine can read, searched to its end by stateright.
//!
//! The simulator runs the real code through seeds and so sees few of the orders in which things can happen. This crate goes the other
//! way: a protocol of a page, with nothing of the product in it but its constants, and **every** order of sending, loss, delay, repetition, pause,
//! restart, failover and drift within the bounds of [`Bounds`].
//!
//! ```text
//!  worker 1                      leaders of terms 1 and 2                    the log
//!  agent ─ heartbeat ──────────► received ─ a quorum confirms ─► renewed     token 1 → worker 1
//!   ▲  ◄─ renewed, start ──────────────────────────┘                         lost, or accepted
//!  shim: kills at its own deadline    silent for T(1+ρ)+0.5 s: proposes ───► token 2 → worker 2
//!   ▲
//!  task ── result ─────────────► proposed with its token ──────────────────► accepted once
//! ```
//!
//! **Time** is the real time in milliseconds, with the constants of `muster_core::model::lease` as they are. A clock runs at 99 or 101 % of it:
//! durations are monotone in the rate, so the ends of the bound are the worst cases. Time moves from one instant that matters to the next: those
//! of a grid, on which heartbeats are sent, and the exact ends of leases on both sides. Any message may be taken at any of them, or never.
//!
//! **Left out**, because the simulator has it: what a plan is, devices, gangs, the log's own rules (a quorum belongs to one term; what an old
//! leader proposed is inherited by the next one or is gone). The second worker is as quick as can be, its attempt lives from the grant on.
//!
//! **The one exception** that the promise makes is in the model as it is in the world: a machine that was paused as a whole can run an attempt
//! whose lease is over for [`SHIM_TICK_MS`] after it resumed. Its results are fenced like any other.
//!
//! Code map: `state` what there is · `protocol` what each party does · `search` bounds, actions and properties for stateright · `plants` mistakes.

mod plants;
mod protocol;
mod search;
mod state;

pub use plants::Plant;
pub use search::{Bounds, Found, LeaseModel, search};
pub use state::World;

use muster_core::model::lease::{
    GRANT_AFTER_MS, KILL_BEFORE_MS, LEADER_LEASE_MS, LEASE_MS, RENEW_MS, RHO_PERCENT, WORKER_LEASE_MS,
};

/// How late the shim can be when the whole machine was paused: its second thread acts this long after the first should have.
pub const SHIM_TICK_MS: u64 = 100;

// What the model takes for granted of the constants; another value of one of them is another protocol.
const _: () = assert!(WORKER_LEASE_MS == LEASE_MS * (100 - RHO_PERCENT) / 100);
const _: () = assert!(LEADER_LEASE_MS == LEASE_MS * (100 + RHO_PERCENT) / 100 + GRANT_AFTER_MS);
const _: () = assert!(LEASE_MS % RENEW_MS == 0 && LEASE_MS / RENEW_MS == 5);
const _: () = assert!(KILL_BEFORE_MS >= 2 * SHIM_TICK_MS);

/// The real time that a duration takes on a clock of `rate` percent, rounded up.
#[must_use]
pub const fn real(duration: u64, rate: u64) -> u64 {
    (duration * 100).div_ceil(rate)
}

/// How long a worker's attempt may outlive the sending of the heartbeat that renewed it, at most: the kill begins [`KILL_BEFORE_MS`] earlier,
/// and the model lets the process take all of that to die.
#[must_use]
pub const fn worker_lease(rate: u64) -> u64 {
    real(WORKER_LEASE_MS, rate)
}

/// How long the leader waits after the receipt of the last acknowledged heartbeat.
#[must_use]
pub const fn leader_lease(rate: u64) -> u64 {
    real(LEADER_LEASE_MS, rate)
}
