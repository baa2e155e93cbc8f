//! The `driver` of a `[[pool]]`: which provider, which group, how to reach it.

use crate::exec::{Exec, ExecConfig};
use crate::slurm::{Slurm, SlurmConfig};
use crate::webhook::{Webhook, WebhookConfig};
use crate::{Driver, DriverError};
use serde::Deserialize;
use std::sync::Arc;

/// `driver = { kind = "…", … }`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DriverConfig {
    /// Nobody is asked for machines: the signals are for whoever scales.
    #[default]
    None,
    /// Workers as jobs of a Slurm cluster.
    Slurm(Box<SlurmConfig>),
    /// A signed POST to an address of yours.
    Webhook(WebhookConfig),
    /// A program of yours on the coordinators.
    Exec(ExecConfig),
}

impl DriverConfig {
    /// What makes two pools share one group: an error. None: nothing does.
    #[must_use]
    pub fn group_key(&self) -> Option<String> {
        match self {
            // A web hook and a program are told the pool.
            Self::None | Self::Webhook(_) | Self::Exec(_) => None,
            Self::Slurm(config) => config.group_key(),
        }
    }
}

/// Makes the driver of pool `pool`; reaches nobody yet. None: the kind is `none`.
///
/// # Errors
/// What can be said before the first call: a missing key file, a program that is not there.
pub fn open(config: &DriverConfig, pool: &str) -> Result<Option<Arc<dyn Driver>>, DriverError> {
    match config {
        DriverConfig::None => Ok(None),
        DriverConfig::Slurm(config) => Ok(Some(Arc::new(Slurm::open(config, pool)?))),
        DriverConfig::Webhook(config) => Ok(Some(Arc::new(Webhook::open(config, pool)?))),
        DriverConfig::Exec(config) => Ok(Some(Arc::new(Exec::open(config, pool)?))),
    }
}
