//! The replicated log: openraft on RocksDB and gRPC behind a facade ([`node::Node`]) without a type of openraft in it.
//!
//! - [`machine`] is the seam to what is replicated; [`types`] the type configuration, generic over the runtime.
//! - [`log_store`] with [`record`] and [`sync`]: the log, its hash chain, one sync for all that waits.
//! - [`state_machine`]: rows and last applied in one write; snapshots are copies of `state/`.
//! - [`elections`]: when a member stands.
//! - [`network`], [`service`], [`snapshot`]: gRPC between members.
//!
//! Left out: what commands mean (muster-core), who may call (the service checks the cluster's secret only), forwarding.
//! Architecture invariant: nothing outside this module names `openraft`.

/// What the library's lines in the log begin with. While one member is down the others' replication warns with every try: tens of
/// megabytes in minutes.
pub const LOG_TARGET: &str = "openraft";

pub mod adopt;
pub mod bench;
pub mod elections;
pub mod log_store;
pub mod machine;
pub mod network;
pub mod node;
pub mod open;
pub mod record;
pub mod service;
pub mod snapshot;
pub mod state_machine;
pub mod sync;
#[cfg(test)]
mod tests;
pub mod types;

pub use adopt::adopt;
pub use machine::{Applied, Machine, RestoreError, Rows};
pub use node::{
    Config, Copy, Member, MembershipError, Node, Peer, ProposeError, ReadError, Role, StartError, Status,
    Transfer,
};
pub use state_machine::check_copy;
