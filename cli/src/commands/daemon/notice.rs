//! Where a worker hears that its machine goes, as flags of `muster worker` and `muster dev`.

use super::Flag;

/// Sources of preemption notices.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Preemption notices")]
pub struct NoticeArgs {
    /// Where the worker hears that its machine goes: any of aws, gcp, azure, systemd, file, sigterm, separated by commas; empty for
    /// none [default: what the machine is].
    #[arg(long, value_name = "LIST", alias = "notice-source")]
    notice_sources: Option<String>,
    /// AWS's metadata service; {worker} stands for the worker's name [default: 169.254.169.254].
    #[arg(long, value_name = "URL")]
    notice_aws_endpoint: Option<String>,
    /// Google's metadata service [default: metadata.google.internal].
    #[arg(long, value_name = "URL")]
    notice_gcp_endpoint: Option<String>,
    /// Azure's metadata service [default: 169.254.169.254].
    #[arg(long, value_name = "URL")]
    notice_azure_endpoint: Option<String>,
    /// A file whose appearing is a notice; {worker} stands for the worker's name.
    #[arg(long, value_name = "FILE")]
    notice_file: Option<String>,
    /// What AWS's rebalance recommendation does: drain or ignore [default: drain].
    #[arg(long, value_name = "WHAT")]
    notice_rebalance: Option<String>,
    /// How long before a GCP machine goes it is said to be preempted [default: 30s].
    #[arg(long, value_name = "DURATION")]
    notice_gcp_notice: Option<String>,
    /// Whether Azure is told to go ahead once nothing runs any more: true or false [default: true].
    #[arg(long, value_name = "BOOL")]
    notice_azure_acknowledge: Option<String>,
}

impl NoticeArgs {
    pub fn flags(&self) -> [Flag; 8] {
        let one = |key, text: &Option<String>| ("notice", key, text.clone().into_iter().collect());
        [
            one("sources", &self.notice_sources),
            one("aws_endpoint", &self.notice_aws_endpoint),
            one("gcp_endpoint", &self.notice_gcp_endpoint),
            one("azure_endpoint", &self.notice_azure_endpoint),
            one("file", &self.notice_file),
            one("rebalance", &self.notice_rebalance),
            one("gcp_notice", &self.notice_gcp_notice),
            one("azure_acknowledge", &self.notice_azure_acknowledge),
        ]
    }
}
