//! The TOML of `muster coordinator`: `[coordinator]`, `[cluster]`, `[store]`, `[tls]`, `[log]`, `[health]`, `[idle]`, `[[pool]]`, `[[quota]]`, `[autoscale]`.

use super::layers::{Key, Kind};
use super::log::LogConfig;
use crate::failure::Failure;
use muster_coordinator::config::{ConfigError, CoordinatorConfig, StoreConfig};
use muster_coordinator::pools::{AutoscaleConfig, PoolConfig, PoolsConfig, QuotaConfig};
use muster_core::health::XidPolicy;
use muster_core::model::duration::Millis;
use muster_core::model::idle::{IdleAction, IdlePolicy};
use muster_core::model::size::Size;
use muster_proto::channel::Tls;
use serde::Deserialize;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoordinatorFile {
    pub coordinator: CoordinatorSection,
    pub cluster: ClusterSection,
    pub store: StoreConfig,
    pub tls: Option<Tls>,
    pub log: LogConfig,
    pub health: HealthSection,
    pub idle: IdleSection,
    /// Pools whose size is decided by what waits.
    pub pool: Vec<PoolConfig>,
    /// Limits that several pools share.
    pub quota: Vec<QuotaConfig>,
    /// What all pools share.
    pub autoscale: AutoscaleConfig,
}

/// The member itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoordinatorSection {
    /// Where log, state and secrets lie. Required.
    pub data_dir: Option<PathBuf>,
    /// The one port. Default: 127.0.0.1:7070.
    pub listen: Option<String>,
    /// How others reach this member. Default: `listen`.
    pub advertise: Option<String>,
    /// Make a new cluster of this one member, once.
    pub bootstrap: bool,
    /// Members of the cluster to join.
    pub join: Vec<String>,
    /// The file with the join token.
    pub join_token_file: Option<PathBuf>,
    /// The member whose place this one takes.
    pub replace: Option<u64>,
    /// Bytes kept back on the disk, at most a sixteenth of it. Default: 256MiB.
    pub ballast: Option<Size>,
    /// New jobs are refused when the disk is this full, per cent. Default: 95.
    pub disk_full_at: Option<u8>,
}

/// What the cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSection {
    /// For exercises: `muster drill` asks for no confirmation.
    pub staging: bool,
}

/// What is done about sick devices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSection {
    /// A TOML file whose rows replace those of the shipped XID policy.
    pub xid_policy: Option<PathBuf>,
}

impl HealthSection {
    fn policy(&self) -> Result<XidPolicy, Failure> {
        let Some(path) = &self.xid_policy else { return Ok(XidPolicy::default()) };
        let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
        XidPolicy::overridden(&text).map_err(|error| {
            Failure::new("BAD_CONFIG", format!("{}: {error}", path.display()))
                .hint("the fields of a row are code, class, action, returns, text, resolution, source")
        })
    }
}

/// What is done about attempts that have GPUs and compute nothing on them. Without `after`: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdleSection {
    /// On none of its GPUs anything was computed for so long: `30m`.
    pub after: Option<Millis>,
    /// `warn`, `requeue`, `kill`. Default: warn.
    pub action: IdleAction,
}

impl IdleSection {
    fn policy(&self) -> Result<Option<IdlePolicy>, Failure> {
        let Some(Millis(after_ms)) = self.after else { return Ok(None) };
        if after_ms < IDLE_AFTER_MIN_MS {
            return Err(Failure::new("BAD_CONFIG", "idle.after is less than a minute")
                .hint("workers measure every five seconds, and a task may well load its data for a while"));
        }
        Ok(Some(IdlePolicy { after_ms, action: self.action }))
    }
}

/// Whoever computes nothing for less than this is not looked for, ms: findings are made once a minute.
const IDLE_AFTER_MIN_MS: u64 = 60_000;

/// Every key, for environment and flags.
pub const KEYS: [Key; 22] = [
    Key::new("coordinator", "data_dir", Kind::Text),
    Key::new("coordinator", "listen", Kind::Text),
    Key::new("coordinator", "advertise", Kind::Text),
    Key::new("coordinator", "bootstrap", Kind::Switch),
    Key::new("coordinator", "join", Kind::List),
    Key::new("coordinator", "join_token_file", Kind::Text),
    Key::new("coordinator", "replace", Kind::Number),
    Key::new("coordinator", "ballast", Kind::Text),
    Key::new("coordinator", "disk_full_at", Kind::Number),
    Key::new("cluster", "staging", Kind::Switch),
    Key::new("store", "url", Kind::Text),
    Key::new("store", "endpoint", Kind::Text),
    Key::new("store", "region", Kind::Text),
    Key::new("store", "path_style", Kind::Switch),
    Key::new("tls", "ca", Kind::Text),
    Key::new("tls", "certificate", Kind::Text),
    Key::new("tls", "key", Kind::Text),
    Key::new("log", "level", Kind::Text),
    Key::new("health", "xid_policy", Kind::Text),
    Key::new("idle", "after", Kind::Text),
    Key::new("idle", "action", Kind::Text),
    Key::new("autoscale", "max_usd_per_hour", Kind::Number),
];

impl CoordinatorFile {
    /// What the coordinator takes, checked. `file`: where pools come from.
    ///
    /// # Errors
    /// What cannot work, before any port opens.
    pub fn check(&self, file: Option<&Path>) -> Result<CoordinatorConfig, Failure> {
        let section = &self.coordinator;
        let data_dir = section.data_dir.clone().ok_or_else(|| {
            Failure::new("BAD_CONFIG", "no data directory is given")
                .hint("--data-dir DIR, or coordinator.data_dir")
        })?;
        let mut config = CoordinatorConfig {
            data_dir,
            advertise: section.advertise.clone(),
            bootstrap: section.bootstrap,
            join: section.join.clone(),
            join_token_file: section.join_token_file.clone(),
            replace: section.replace,
            store: self.store.clone(),
            staging: self.cluster.staging,
            tls: self.tls.clone(),
            health: self.health.policy()?,
            idle: self.idle.policy()?,
            pools: PoolsConfig {
                pools: self.pool.clone(),
                quotas: self.quota.clone(),
                autoscale: self.autoscale.clone(),
            },
            ..CoordinatorConfig::default()
        };
        config.ballast = section.ballast.unwrap_or(config.ballast);
        config.disk_full_at = section.disk_full_at.unwrap_or(config.disk_full_at);
        if let Some(listen) = &section.listen {
            config.listen = socket(listen)?;
        }
        config.validate().map_err(|error| bad(file, &error))?;
        // Keys and programs that drivers need are looked for now: a member without them must not lead one day.
        config.pools.drivers().map_err(|error| bad(file, &ConfigError::from(error)))?;
        Ok(config)
    }
}

/// Only a file has pools, so what is wrong with them is there.
fn bad(file: Option<&Path>, error: &ConfigError) -> Failure {
    let place = match (error, file) {
        (ConfigError::Pools(_), Some(file)) => format!("{}: ", file.display()),
        _ => String::new(),
    };
    Failure::new("BAD_CONFIG", format!("{place}{error}")).hint(error.hint())
}

/// An address to listen on: host:port.
///
/// # Errors
/// A text that names none.
pub fn socket(text: &str) -> Result<SocketAddr, Failure> {
    text.parse().ok().or_else(|| text.to_socket_addrs().ok()?.next()).ok_or_else(|| {
        Failure::new("BAD_CONFIG", format!("`{text}` is no address to listen on"))
            .hint("write host:port, for example 127.0.0.1:7070")
    })
}
