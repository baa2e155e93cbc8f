//! The worker's configuration: the keys of its TOML file. Flags and environment are merged over it by the command line.

use crate::notice::{NoticeConfig, NoticeError};
use muster_core::model::size::Size;
use muster_proto::channel::Tls;
pub use muster_store::StoreConfig;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Everything a worker can be told. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// Unique in the cluster. Default: the machine's host name.
    pub name: Option<String>,
    /// Where the worker keeps its identity, journal, attempts and cache.
    pub data_dir: PathBuf,
    /// Addresses (`host:port`) of members; any of them will do.
    pub join: Vec<String>,
    /// The file with the join token; needed the first time only.
    pub join_token_file: Option<PathBuf>,
    /// The pool it belongs to. Default: `default`.
    pub pool: String,
    /// Where other workers reach this one, for tasks of several workers. Default: the address from which it reaches the members.
    pub address: Option<String>,
    /// For `constraints:` and people.
    pub labels: BTreeMap<String, String>,
    /// Simulated GPUs, as `8xH100-80GB`; empty for none at all. Default: the machine's own.
    pub gpus: Option<String>,
    /// Cores to offer. Default: what the machine has; more is allowed.
    pub cpus: Option<f64>,
    /// Memory to offer. Default: what the machine has; more is allowed.
    pub memory: Option<Size>,
    /// Disk to offer. Default: what is free in `data_dir` at the start.
    pub disk: Option<Size>,
    /// The provider may take the machine away.
    pub spot: bool,
    /// Names of the worker's own variables that its tasks get, beyond `PATH HOME USER LANG TZ`.
    pub env: Vec<String>,
    /// Certificates; without them only members on loopback are dialled in clear text.
    pub tls: Option<Tls>,
    /// Where job files, outputs, checkpoints and logs are kept.
    pub store: StoreConfig,
    pub devices: DevicesConfig,
    pub notice: NoticeConfig,
    /// Most bytes of cached workdirs and inputs. Default: 20GiB.
    pub cache: Size,
    /// Most bytes of each captured stream on this machine. Default: 64MiB.
    pub log_cap: Size,
    /// The program that runs `shim`. Default: this one.
    #[serde(skip)]
    pub shim_program: PathBuf,
    /// Its first arguments. Default: `shim`.
    #[serde(skip)]
    pub shim_args: Vec<OsString>,
}

/// The GPUs of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DevicesConfig {
    /// What makes simulated devices sick. Default: `gpu-faults` in the data directory.
    pub fault_file: Option<PathBuf>,
    /// NVIDIA's management library. Default: `libnvidia-ml.so.1`, where the loader finds it.
    pub nvml_path: Option<PathBuf>,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            name: None,
            data_dir: PathBuf::new(),
            join: Vec::new(),
            join_token_file: None,
            pool: "default".into(),
            address: None,
            labels: BTreeMap::new(),
            gpus: None,
            cpus: None,
            memory: None,
            disk: None,
            spot: false,
            env: Vec::new(),
            tls: None,
            store: StoreConfig::default(),
            devices: DevicesConfig::default(),
            notice: NoticeConfig::default(),
            cache: Size(20 << 30),
            log_cap: Size(64 << 20),
            shim_program: "/proc/self/exe".into(),
            shim_args: vec!["shim".into()],
        }
    }
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the worker has no data directory")]
    NoDataDir,
    #[error("the worker has no member to join")]
    NoMember,
    #[error("{0:?} is no address of a member")]
    Address(String),
    #[error("{what} {name:?} is not allowed: up to 63 letters, digits, `.`, `_` and `-`")]
    Name { what: &'static str, name: String },
    #[error("a worker cannot offer {0} cores")]
    Cpus(f64),
    #[error("{0}")]
    Gpus(#[from] muster_core::model::gpu_spec::GpuSpecError),
    #[error(transparent)]
    Store(#[from] muster_store::StoreError),
    #[error(transparent)]
    Notice(#[from] NoticeError),
    #[error("the log cap {0} is less than 64KiB")]
    LogCap(Size),
}

impl ConfigError {
    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoDataDir => "set `data_dir`, or give --data-dir",
            Self::NoMember => "set `join = [\"host:7070\"]`, or give --join",
            Self::Address(_) => "for example 127.0.0.1:7070",
            Self::Name { .. } => "choose another name",
            Self::Cpus(_) => "set `cpus` to a number from 0.001 to 100000",
            Self::Gpus(_) => "for example gpus = \"8xH100-80GB\"",
            Self::Store(error) => error.hint(),
            Self::Notice(error) => error.hint(),
            Self::LogCap(_) => "set `log_cap` to 64KiB or more",
        }
    }
}

impl WorkerConfig {
    /// Says what is wrong before anything is opened.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(ConfigError::NoDataDir);
        }
        if self.join.is_empty() {
            return Err(ConfigError::NoMember);
        }
        let is_address = |a: &str| {
            a.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if let Some(bad) = self.join.iter().find(|a| !is_address(a)) {
            return Err(ConfigError::Address(bad.clone()));
        }
        let names = self.name.iter().map(|n| ("worker name", n)).chain([("pool", &self.pool)]);
        for (what, name) in names.chain(self.labels.keys().map(|k| ("label", k))) {
            if !is_name(name) {
                return Err(ConfigError::Name { what, name: name.clone() });
            }
        }
        if let Some(cpus) = self.cpus.filter(|c| !(0.001..=100_000.0).contains(c)) {
            return Err(ConfigError::Cpus(cpus));
        }
        if self.log_cap.bytes() < 64 << 10 {
            return Err(ConfigError::LogCap(self.log_cap));
        }
        self.store.address()?;
        self.notice.validate()?;
        crate::devices::simulated::Simulated::parse(self.gpus.as_deref().unwrap_or(""), "")?;
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=63).contains(&name.len()) && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_unknown_keys_are_refused() {
        let text = "data_dir = \"w1\"\njoin = [\"127.0.0.1:7070\"]\ngpus = \"8xH100-80GB\"\nmemory = \"4GiB\"\ncpus = 2.5\n[labels]\nzone = \"eu1\"\n";
        let config: WorkerConfig = toml::from_str(text).unwrap();
        assert!(config.validate().is_ok());
        assert_eq!((config.memory, config.pool.as_str()), (Some(Size(4 << 30)), "default"));
        let unknown = toml::from_str::<WorkerConfig>("colour = 1").unwrap_err();
        assert!(unknown.to_string().contains("colour"), "{unknown}");
    }

    #[test]
    fn what_is_wrong_is_said_first() {
        let good = WorkerConfig { data_dir: "w".into(), join: vec!["h:1".into()], ..WorkerConfig::default() };
        assert!(good.validate().is_ok());
        let with = |change: fn(&mut WorkerConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(with(|c| c.data_dir.clear()), "the worker has no data directory");
        assert_eq!(with(|c| c.join.clear()), "the worker has no member to join");
        assert_eq!(with(|c| c.join = vec!["h".into()]), "\"h\" is no address of a member");
        assert_eq!(with(|c| c.cpus = Some(0.0)), "a worker cannot offer 0 cores");
        assert!(with(|c| c.name = Some("a b".into())).starts_with("worker name \"a b\" is not allowed"));
        assert!(with(|c| c.store.url = Some("ftp://x".into())).contains("s3://bucket"));
        assert!(with(|c| c.gpus = Some("8".into())).contains("8xH100-80GB"));
    }
}
