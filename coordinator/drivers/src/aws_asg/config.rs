//! Which group, and how to reach it.

use muster_core::model::duration::Millis;
use serde::Deserialize;
use std::path::PathBuf;

/// `driver = { kind = "aws-asg", group = "gpu-spot", region = "eu-west-1" }`.
///
/// Credentials are never written here. Without `credentials_file` they are looked for where AWS's own tools do: environment, shared
/// files, web identity, the role of the container or machine; `HTTPS_PROXY` and `NO_PROXY` are honoured.
///
/// What the role or key must be allowed, all of it with `autoscaling:` before it: for the group, `SetDesiredCapacity`,
/// `TerminateInstanceInAutoScalingGroup`, `SetInstanceProtection`, `RecordLifecycleActionHeartbeat` and `CompleteLifecycleAction`; for
/// everything (AWS knows no narrower right), `DescribeAutoScalingGroups`, `DescribeAutoScalingInstances` and `DescribeLifecycleHooks`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsAsgConfig {
    /// The Auto Scaling group's name.
    pub group: String,
    /// `eu-west-1`.
    pub region: String,
    /// Of another service that speaks Auto Scaling, `http://127.0.0.1:5000`. Empty: AWS's.
    #[serde(default)]
    pub endpoint: String,
    /// The hook at a machine's end that is ours to hold and release. Empty: all hooks that the group has there, so name it where
    /// others have theirs.
    #[serde(default)]
    pub lifecycle_hook: String,
    /// A file in the form of `~/.aws/credentials`, read again when its key is no longer accepted. Empty: as above.
    #[serde(default)]
    pub credentials_file: PathBuf,
    /// The profile in the credentials file, or in the shared files. Empty: `AWS_PROFILE`, or `default`.
    #[serde(default)]
    pub profile: String,
    /// How long one call may take, with the credentials that it may have to fetch first.
    #[serde(default = "timeout")]
    pub timeout: Millis,
}

/// AWS answers in well under a second; a description of the largest group (a few thousand machines) takes a few.
fn timeout() -> Millis {
    Millis(20_000)
}

impl AwsAsgConfig {
    /// The same for two pools that would share the group.
    pub(crate) fn key(&self) -> String {
        format!("aws-asg {} {} {}", self.endpoint.trim_end_matches('/'), self.region, self.group)
    }

    /// For messages: the call and the group.
    pub(super) fn what(&self, call: &str) -> String {
        format!("{call} of aws-asg group \"{}\" in {}", self.group, self.region)
    }
}

#[cfg(test)]
mod tests {
    use crate::DriverConfig;

    #[test]
    fn the_table_of_a_pool_is_read_and_nothing_unknown_in_it() {
        let read = |text: &str| serde_json::from_str::<DriverConfig>(text);
        let config =
            read(r#"{"kind": "aws-asg", "group": "gpu", "region": "eu-west-1", "endpoint": "http://a/"}"#);
        let same = read(
            r#"{"kind": "aws-asg", "group": "gpu", "region": "eu-west-1", "endpoint": "http://a", "profile": "p"}"#,
        );
        let key = config.unwrap().group_key();
        assert!(key.is_some() && key == same.unwrap().group_key());
        for bad in [
            r#"{"kind": "aws-asg", "group": "gpu"}"#,
            r#"{"kind": "aws-asg", "group": "gpu", "region": "r", "secret": "s"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
