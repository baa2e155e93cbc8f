//! The `driver` of a `[[pool]]`: which provider, which group, how to reach it.

use crate::aws_asg::{AwsAsg, AwsAsgConfig};
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
}

impl DriverConfig {
    /// What makes two pools share one group: an error. None: nothing does.
    #[must_use]
    pub fn group_key(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::AwsAsg(config) => Some(config.key()),
        }
    }
}

/// Makes the driver of pool `pool`; reaches nobody yet. None: the kind is `none`.
///
/// # Errors
/// What can be said before the first call: a missing key file, a program that is not there.
pub fn open(config: &DriverConfig, _pool: &str) -> Result<Option<Arc<dyn Driver>>, DriverError> {
    match config {
        DriverConfig::None => Ok(None),
        DriverConfig::AwsAsg(config) => Ok(Some(Arc::new(AwsAsg::new(config.clone())?))),
    }
}
