//! The `driver` of a `[[pool]]`: which provider, which group, how to reach it.

use crate::aws_asg::{AwsAsg, AwsAsgConfig};
use crate::azure_vmss::{AzureVmss, AzureVmssConfig};
use crate::exec::{Exec, ExecConfig};
use crate::gcp_mig::{GcpMig, GcpMigConfig};
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
    /// An Auto Scaling group of AWS.
    AwsAsg(AwsAsgConfig),
    GcpMig(GcpMigConfig),
    AzureVmss(AzureVmssConfig),
    /// Workers as jobs of a Slurm cluster.
    Slurm(Box<SlurmConfig>),
    /// A signed POST to an address of yours.
    Webhook(WebhookConfig),
    /// A program of yours on the coordinators.
    Exec(ExecConfig),
}

impl DriverConfig {
    /// The word of the configuration.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::AwsAsg(_) => "aws-asg",
            Self::GcpMig(_) => "gcp-mig",
            Self::AzureVmss(_) => "azure-vmss",
            Self::Slurm(_) => "slurm",
            Self::Webhook(_) => "webhook",
            Self::Exec(_) => "exec",
        }
    }

    /// What makes two pools share one group: an error. None: nothing does.
    #[must_use]
    pub fn group_key(&self) -> Option<String> {
        match self {
            Self::AwsAsg(config) => Some(config.key()),
            Self::GcpMig(config) => Some(config.group_key()),
            Self::AzureVmss(config) => Some(config.group_key()),
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
        DriverConfig::AwsAsg(config) => Ok(Some(Arc::new(AwsAsg::new(config.clone())?))),
        DriverConfig::GcpMig(config) => Ok(Some(Arc::new(GcpMig::open(config)?))),
        DriverConfig::AzureVmss(config) => {
            Ok(Some(Arc::new(AzureVmss::open(config, &|name| std::env::var(name).ok())?)))
        }
        DriverConfig::Slurm(config) => Ok(Some(Arc::new(Slurm::open(config, pool)?))),
        DriverConfig::Webhook(config) => Ok(Some(Arc::new(Webhook::open(config, pool)?))),
        DriverConfig::Exec(config) => Ok(Some(Arc::new(Exec::open(config, pool)?))),
    }
}
