//! muster-coordinator: one member. The async shell around `muster_core`: it moves bytes and keeps promises about them, and decides
//! nothing.
//!
//! Code map: [`start`] builds a member in order · [`raft`], [`storage`] the replicated log on disk · [`machine`] binds the core's state to
//! it · [`proposer`] the way in · [`leadership`], [`leader`] the leader's term and thread, [`absence`] what it says of the others · [`sessions`]
//! workers, [`registrar`], [`uplink`], [`relay`] their way to the leader · [`api`] what is called · [`security`] by whom · [`watch`],
//! [`history`], [`store`] what is read, [`telemetry`] what was measured, [`metrics`] what was counted · [`drills`] faults on purpose.

pub mod absence;
pub mod api;
pub mod backup;
pub mod clock;
pub mod config;
pub mod drills;
mod driving;
pub mod history;
pub mod leader;
pub mod leadership;
mod leftovers;
pub mod machine;
pub mod metrics;
pub mod peers;
pub mod pools;
pub mod proposer;
mod quiet;
pub mod raft;
pub mod registrar;
pub mod relay;
pub mod reports;
pub mod room;
pub mod security;
pub mod sessions;
mod signals;
pub mod standing;
mod start;
#[cfg(test)]
mod start_test;
pub mod storage;
pub mod store;
pub mod telemetry;
pub mod uplink;
pub mod vital;
pub mod watch;

pub use config::{ConfigError, CoordinatorConfig, StoreConfig};
pub use start::{Running, StartError, run, start};
