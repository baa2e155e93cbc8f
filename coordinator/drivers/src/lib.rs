//! Hands for groups of machines: what a cloud, a batch system or somebody's own program is asked to do for a pool.
//!
//! A driver decides nothing: the core says how many machines a pool wants and which one goes, and every call is safe to repeat. Left out:
//! which calls are due (`muster_core::autoscale`), who may make them (the leader, `muster_coordinator`).

mod aws_asg;
mod azure_vmss;
mod config;
mod error;
mod exec;
mod gcp_mig;
mod group;
mod http;
mod process;
mod slurm;
mod token;
mod webhook;
mod wire;

pub use aws_asg::AwsAsgConfig;
pub use azure_vmss::{AzureVmss, AzureVmssConfig};
pub use config::{DriverConfig, open};
pub use error::DriverError;
pub use exec::ExecConfig;
pub use gcp_mig::{GcpMig, GcpMigConfig};
pub use group::{Group, Instance, Phase};
pub use slurm::SlurmConfig;
pub use webhook::WebhookConfig;

use futures::future::BoxFuture;
use std::fmt::Debug;

/// One group of machines of one provider. All calls are idempotent: a new leader makes them again.
///
/// `generation` is the index of the log entry that decided the call: it only grows, so a receiver that remembers it can refuse an older
/// leader's late call.
pub trait Driver: Send + Sync + Debug {
    /// The word of the configuration: `aws-asg`, …
    fn kind(&self) -> &'static str;

    /// What the provider says now. None: it cannot say (a webhook that only takes orders).
    ///
    /// # Errors
    /// [`DriverError`]; nothing is concluded from it.
    fn describe(&self) -> BoxFuture<'_, Result<Option<Group>, DriverError>>;

    /// Asks for so many machines, counted from zero. It never makes the provider choose a victim: with fewer than there are only
    /// machines that have not joined may go.
    ///
    /// # Errors
    /// [`DriverError`].
    fn set_desired(&self, desired: u32, generation: u64) -> BoxFuture<'_, Result<(), DriverError>>;

    /// Ends this very machine and wants one less. One that is gone already is no error.
    ///
    /// # Errors
    /// [`DriverError`].
    fn terminate<'a>(&'a self, instance: &'a str, generation: u64) -> BoxFuture<'a, Result<(), DriverError>>;

    /// The provider waits for us before it ends this machine ([`Phase::Held`]): it is to go on waiting. Nothing where it does not wait.
    ///
    /// # Errors
    /// [`DriverError`].
    fn hold<'a>(&'a self, _instance: &'a str) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(async { Ok(()) })
    }

    /// The provider need not wait any more: nothing of ours is on the machine.
    ///
    /// # Errors
    /// [`DriverError`].
    fn release<'a>(&'a self, _instance: &'a str) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(async { Ok(()) })
    }

    /// Whether [`Driver::protect`] does anything.
    fn protects(&self) -> bool {
        false
    }

    /// The provider is not (or is) to choose these machines when it shrinks the group by itself.
    ///
    /// # Errors
    /// [`DriverError`].
    fn protect<'a>(&'a self, _instances: &'a [String], _on: bool) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(async { Ok(()) })
    }
}
