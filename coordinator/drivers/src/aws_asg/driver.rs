//! The driver: one client, made at the first call, and what each call of [`Driver`] asks for.

use super::client::connect;
use super::config::AwsAsgConfig;
use super::failure::told;
use super::view;
use crate::{Driver, DriverError, Group};
use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::http::HttpResponse;
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_autoscaling::types::AutoScalingGroup;
use futures::future::BoxFuture;
use std::error::Error;
use tokio::sync::Mutex;

/// Most pages of one description: one group is one page, and AWS may send a few that are empty.
const PAGES_MAX: usize = 20;

/// An Auto Scaling group.
pub(crate) struct AwsAsg {
    pub(super) config: AwsAsgConfig,
    /// Forgotten when its credentials are refused: the next one reads them again.
    client: Mutex<Option<Client>>,
}

/// Without the client, which holds credentials.
impl std::fmt::Debug for AwsAsg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsAsg").field("config", &self.config).finish_non_exhaustive()
    }
}

impl AwsAsg {
    /// Reaches nobody yet.
    ///
    /// # Errors
    /// The file of the credentials is not there.
    pub(crate) fn new(config: AwsAsgConfig) -> Result<Self, DriverError> {
        let file = &config.credentials_file;
        if !file.as_os_str().is_empty() && !file.is_file() {
            let reason = format!("there is no credentials file {}", file.display());
            return Err(DriverError::Denied { what: config.what("configuration"), reason });
        }
        Ok(Self { config, client: Mutex::new(None) })
    }

    pub(super) async fn client(&self) -> Client {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return client.clone();
        }
        client.insert(connect(&self.config).await).clone()
    }

    /// The error of a call, in our words.
    pub(super) async fn failed<E>(&self, call: &str, error: SdkError<E, HttpResponse>) -> DriverError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let error = told(self.config.what(call), self.config.timeout.0.div_ceil(1_000), error);
        if matches!(error, DriverError::Denied { .. }) {
            *self.client.lock().await = None;
        }
        error
    }

    /// The group as AWS tells it.
    pub(super) async fn look(&self) -> Result<AutoScalingGroup, DriverError> {
        const CALL: &str = "DescribeAutoScalingGroups";
        let client = self.client().await;
        let mut next = None;
        for _ in 0..PAGES_MAX {
            let names = &self.config.group;
            let ask =
                client.describe_auto_scaling_groups().auto_scaling_group_names(names).set_next_token(next);
            let page = match ask.send().await {
                Ok(page) => page,
                Err(error) => return Err(self.failed(CALL, error).await),
            };
            next = page.next_token;
            let mut groups = page.auto_scaling_groups.unwrap_or_default().into_iter();
            if let Some(group) =
                groups.find(|group| group.auto_scaling_group_name() == Some(&self.config.group))
            {
                return Ok(group);
            }
            if next.is_none() {
                return Err(DriverError::NoGroup { what: self.config.what(CALL) });
            }
        }
        let reason = format!("more than {PAGES_MAX} pages for one group");
        Err(DriverError::Garbled { what: self.config.what(CALL), reason })
    }

    /// The group in our words, which is also where one that cannot be ours is refused.
    pub(super) fn view(&self, told: &AutoScalingGroup) -> Result<Group, DriverError> {
        view::group(&self.config.what("DescribeAutoScalingGroups"), told)
    }
}

impl Driver for AwsAsg {
    fn kind(&self) -> &'static str {
        "aws-asg"
    }

    fn describe(&self) -> BoxFuture<'_, Result<Option<Group>, DriverError>> {
        Box::pin(async { self.view(&self.look().await?).map(Some) })
    }

    fn set_desired(&self, desired: u32, _generation: u64) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(self.scale_to(desired))
    }

    fn terminate<'a>(
        &'a self,
        instance: &'a str,
        _generation: u64,
    ) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(self.end(instance))
    }

    fn hold<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(self.keep_waiting(instance))
    }

    fn release<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(self.let_go(instance))
    }

    fn protects(&self) -> bool {
        true
    }

    fn protect<'a>(&'a self, instances: &'a [String], on: bool) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(self.shield(instances, on))
    }
}
