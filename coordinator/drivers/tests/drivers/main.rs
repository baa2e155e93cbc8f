//! The drivers against what they drive: servers over real HTTP, real programs, a real Slurm.

#![allow(clippy::print_stderr)] // a test that is skipped says why

mod exec;
mod slurm;
mod slurm_cluster;
mod webhook;
mod webhook_server;

use muster_drivers::{Driver, DriverConfig, DriverError};
use std::sync::Arc;

/// The driver of the pool `spot`, of a configuration as it stands in a file.
fn open(toml: &str) -> Result<Arc<dyn Driver>, DriverError> {
    let config: DriverConfig = toml::from_str(toml).unwrap_or_else(|error| panic!("{error}\n{toml}"));
    muster_drivers::open(&config, "spot").map(|driver| driver.expect("a kind that is not `none`"))
}
