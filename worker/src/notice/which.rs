//! Which machine this is: its id, image and zone as labels, so that whoever scales a pool knows which of its machines a worker is on.
//!
//! The cloud's metadata service is asked once, at the start; inside a job of Slurm the job is the machine. What was learnt is kept for as
//! long as the machine is up: an agent that starts again says the same of itself at once, whether the service answers or not. Left out:
//! machines whose operator has given all these labels, and clouds whose notices are not listened to (`notice.sources`).

use super::config::endpoint;
use super::pick::sources;
use super::{aws, azure, gcp};
use crate::config::WorkerConfig;
use muster_core::model::notice::NoticeSource;
use muster_core::model::worker::{IMAGE_LABEL, INSTANCE_LABEL};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// The label with the zone that the machine is in.
pub const ZONE_LABEL: &str = "zone";
/// How long a cloud may take to say it, all its answers together. They come from the machine's own host, within milliseconds; a restarted
/// agent has to renew leases of 10 s.
const SAY_LIMIT: Duration = Duration::from_secs(3);
/// Most bytes of a label's value that is taken from a service: the longest are ids of Azure's images.
const VALUE_MAX: usize = 512;
/// Where it is kept, in the data directory.
const FILE: &str = "machine.toml";
/// What Slurm names its job by, in the environment of what runs in it.
const SLURM_JOB: &str = "SLURM_JOB_ID";

/// What a metadata service says of its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// By this the provider's group knows the machine.
    pub instance_id: String,
    pub image: Option<String>,
    pub zone: Option<String>,
}

/// Why a cloud did not say which machine this is.
#[derive(Debug, thiserror::Error)]
enum WhichError {
    #[error(transparent)]
    Aws(#[from] aws::AwsError),
    #[error(transparent)]
    Gcp(#[from] gcp::GcpError),
    #[error(transparent)]
    Azure(#[from] azure::AzureError),
    #[error(transparent)]
    Endpoint(#[from] super::http::EndpointError),
    #[error("nothing within {SAY_LIMIT:?}")]
    Time,
    #[error("its id is {0:?}, which is none")]
    NoId(String),
}

/// What is asked of whom.
#[derive(Debug)]
pub struct Which {
    clouds: Vec<NoticeSource>,
    config: WorkerConfig,
    worker: String,
    /// Of the machine's life: what is kept of another one is not believed.
    boot: String,
    slurm_job: Option<String>,
}

/// What is kept.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    boot: String,
    labels: BTreeMap<String, String>,
}

impl Which {
    /// Of this process; nobody is asked yet.
    #[must_use]
    pub fn here(config: &WorkerConfig, worker: &str, boot: &str) -> Self {
        Self::with(config, worker, boot, std::env::var(SLURM_JOB).ok())
    }

    /// The same with another job of Slurm, or none.
    #[must_use]
    pub fn with(config: &WorkerConfig, worker: &str, boot: &str, slurm_job: Option<String>) -> Self {
        let is_cloud = |source: &NoticeSource| {
            matches!(source, NoticeSource::Aws | NoticeSource::Gcp | NoticeSource::Azure)
        };
        let clouds = sources(&config.notice).into_iter().filter(is_cloud).collect();
        let (worker, boot) = (worker.to_owned(), boot.to_owned());
        Self { clouds, config: config.clone(), worker, boot, slurm_job }
    }

    /// The labels. Where nobody says anything, there are none, and a warning.
    pub async fn labels(self) -> BTreeMap<String, String> {
        let given = &self.config.labels;
        if [INSTANCE_LABEL, IMAGE_LABEL, ZONE_LABEL].iter().all(|label| given.contains_key(*label)) {
            return BTreeMap::new();
        }
        if self.clouds.is_empty() {
            let job = self.slurm_job.as_deref().and_then(fit);
            return job.map(|job| (INSTANCE_LABEL.to_owned(), job)).into_iter().collect();
        }
        let file = self.config.data_dir.join(FILE);
        if let Some(kept) = read(&file).filter(|kept| kept.boot == self.boot) {
            return kept.labels;
        }
        // Of several that are listed, for an image that is used in more than one, one is the machine's.
        for cloud in &self.clouds {
            match self.asked(*cloud).await {
                Ok(labels) => {
                    tracing::info!(cloud = cloud.as_str(), ?labels, "the machine says what it is");
                    keep(&file, &Kept { boot: self.boot, labels: labels.clone() });
                    return labels;
                }
                Err(error) => tracing::warn!(
                    cloud = cloud.as_str(),
                    %error,
                    "the machine does not say which one it is: no driver can end it by its id; the label `{INSTANCE_LABEL}` says it too"
                ),
            }
        }
        BTreeMap::new()
    }

    async fn asked(&self, cloud: NoticeSource) -> Result<BTreeMap<String, String>, WhichError> {
        let Facts { instance_id, image, zone } =
            timeout(SAY_LIMIT, self.facts(cloud)).await.map_err(|_| WhichError::Time)??;
        let id = fit(&instance_id).ok_or_else(|| WhichError::NoId(super::merge::words(&instance_id)))?;
        let others = [(IMAGE_LABEL, image), (ZONE_LABEL, zone)];
        let others = others.into_iter().filter_map(|(label, value)| Some((label, fit(&value?)?)));
        let all = others.chain([(INSTANCE_LABEL, id)]);
        Ok(all.map(|(label, value)| (label.to_owned(), value)).collect())
    }

    async fn facts(&self, cloud: NoticeSource) -> Result<Facts, WhichError> {
        let config = &self.config.notice;
        let at = |text: &str| endpoint(text, &self.worker);
        Ok(match cloud {
            NoticeSource::Gcp => gcp::facts(&at(&config.gcp_endpoint)?, SAY_LIMIT).await?,
            NoticeSource::Azure => azure::facts(&at(&config.azure_endpoint)?, SAY_LIMIT).await?,
            _ => aws::facts(at(&config.aws_endpoint)?, SAY_LIMIT).await?,
        })
    }
}

/// A value as a label takes it; none: it says nothing, or is no word.
fn fit(value: &str) -> Option<String> {
    let is_word = (1..=VALUE_MAX).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic());
    is_word.then(|| value.to_owned())
}

/// One that is half-written or of another version is none: the machine is asked again.
fn read(file: &Path) -> Option<Kept> {
    toml::from_str(&std::fs::read_to_string(file).ok()?).ok()
}

/// Without it the machine is asked again at the next start, no more.
fn keep(file: &Path, kept: &Kept) {
    let next = file.with_extension("toml.next");
    let text = toml::to_string(kept).unwrap_or_default();
    if let Err(error) = std::fs::write(&next, text).and_then(|()| std::fs::rename(&next, file)) {
        tracing::warn!(file = %file.display(), %error, "which machine this is was not kept");
    }
}
