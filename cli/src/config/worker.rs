//! The TOML of `muster worker`: `[worker]`, `[store]`, `[devices]`, `[notice]`, `[tls]`, `[log]`.

use super::layers::{Key, Kind};
use super::log::LogConfig;
use crate::failure::Failure;
use muster_core::model::size::Size;
use muster_proto::channel::Tls;
use muster_worker::WorkerConfig;
use muster_worker::config::{DevicesConfig, StoreConfig};
use muster_worker::notice::NoticeConfig;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerFile {
    pub worker: WorkerSection,
    pub store: StoreConfig,
    pub devices: DevicesConfig,
    pub notice: NoticeConfig,
    pub tls: Option<Tls>,
    pub log: LogConfig,
}

/// The worker itself.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerSection {
    /// Where identity, journal, attempts and cache lie. Required.
    pub data_dir: Option<PathBuf>,
    /// Unique in the cluster. Default: the machine's host name.
    pub name: Option<String>,
    /// Members, any of which will do. Required.
    pub join: Vec<String>,
    /// The file with the join token; not needed once joined.
    pub join_token_file: Option<PathBuf>,
    /// The class of machine. Default: `default`.
    pub pool: Option<String>,
    /// Where other workers reach this one, for tasks of several workers. Default: the address from which it reaches the members.
    pub address: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Whether the provider may take the machine back.
    pub spot: bool,
    /// CPUs to offer; may exceed the machine's. Default: the machine's.
    pub cpus: Option<f64>,
    /// Memory to offer. Default: the machine's.
    pub memory: Option<Size>,
    /// Disk to offer. Default: what is free under `data_dir`.
    pub disk: Option<Size>,
    /// Simulated devices, e.g. `8xH100-80GB`; empty for none at all. Default: the machine's own.
    pub gpus: Option<String>,
    /// Names of the worker's own environment that tasks get, beyond PATH, HOME, USER, LANG and TZ.
    pub env: Vec<String>,
    /// Most bytes of cached workdirs and inputs. Default: 20GiB.
    pub cache: Option<Size>,
    /// Most bytes of each captured stream on this machine. Default: 64MiB.
    pub log_cap: Option<Size>,
}

/// Every key, for environment and flags; those of `[notice]` are in [`super::notice`].
pub const KEYS: [Key; 25] = [
    Key::new("worker", "data_dir", Kind::Text),
    Key::new("worker", "name", Kind::Text),
    Key::new("worker", "join", Kind::List),
    Key::new("worker", "join_token_file", Kind::Text),
    Key::new("worker", "pool", Kind::Text),
    Key::new("worker", "address", Kind::Text),
    Key::new("worker", "labels", Kind::Pairs),
    Key::new("worker", "spot", Kind::Switch),
    Key::new("worker", "cpus", Kind::Number),
    Key::new("worker", "memory", Kind::Text),
    Key::new("worker", "disk", Kind::Text),
    Key::new("worker", "gpus", Kind::Text),
    Key::new("worker", "env", Kind::List),
    Key::new("worker", "cache", Kind::Text),
    Key::new("worker", "log_cap", Kind::Text),
    Key::new("devices", "fault_file", Kind::Text),
    Key::new("store", "url", Kind::Text),
    Key::new("store", "endpoint", Kind::Text),
    Key::new("store", "region", Kind::Text),
    Key::new("store", "path_style", Kind::Switch),
    Key::new("devices", "nvml_path", Kind::Text),
    Key::new("tls", "ca", Kind::Text),
    Key::new("tls", "certificate", Kind::Text),
    Key::new("tls", "key", Kind::Text),
    Key::new("log", "level", Kind::Text),
];

impl WorkerFile {
    /// What the worker takes, checked.
    ///
    /// # Errors
    /// What cannot work, before anything is opened.
    pub fn check(&self) -> Result<WorkerConfig, Failure> {
        let section = &self.worker;
        let defaults = WorkerConfig::default();
        let config = WorkerConfig {
            name: section.name.clone(),
            data_dir: section.data_dir.clone().unwrap_or_default(),
            join: section.join.clone(),
            join_token_file: section.join_token_file.clone(),
            pool: section.pool.clone().unwrap_or(defaults.pool),
            address: section.address.clone(),
            labels: section.labels.clone(),
            gpus: section.gpus.clone(),
            cpus: section.cpus,
            memory: section.memory,
            disk: section.disk,
            spot: section.spot,
            env: section.env.clone(),
            tls: self.tls.clone(),
            store: self.store.clone(),
            devices: self.devices.clone(),
            notice: self.notice.clone(),
            cache: section.cache.unwrap_or(defaults.cache),
            log_cap: section.log_cap.unwrap_or(defaults.log_cap),
            ..WorkerConfig::default()
        };
        config
            .validate()
            .map_err(|error| Failure::new("BAD_CONFIG", error.to_string()).hint(error.hint()))?;
        Ok(config)
    }
}
