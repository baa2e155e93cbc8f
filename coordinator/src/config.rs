//! What one member is told: one TOML file, flags and environment over it (merged by the command line), checked before any port
//! opens.

use crate::pools::{PoolsConfig, PoolsError};
use crate::room;
use muster_core::health::XidPolicy;
use muster_core::model::idle::IdlePolicy;
use muster_core::model::size::Size;
use muster_proto::channel::Tls;
pub use muster_store::StoreConfig;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One member's configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoordinatorConfig {
    /// Where log, state and secrets lie; made when absent.
    pub data_dir: PathBuf,
    /// The one port: gRPC of users, workers and members.
    pub listen: SocketAddr,
    /// How other members and workers reach this one, `host:port`; default: `listen`.
    pub advertise: Option<String>,
    /// Make a new cluster of this one member. On a data directory that has one already: just start.
    pub bootstrap: bool,
    /// Members of the cluster to join, `host:port` each. On a data directory that has joined already: just start.
    pub join: Vec<String>,
    /// The file with the join token, for `join`.
    pub join_token_file: Option<PathBuf>,
    /// With `join`: the member whose place this one takes once it has caught up; that one is removed in the same change.
    pub replace: Option<u64>,
    /// Where blobs, artifacts, checkpoints and logs lie: reachable by all members and workers. On loopback all members share the machine, so
    /// the default there is `DATA_DIR/store` of the first member; beyond loopback it is required.
    pub store: StoreConfig,
    /// Bytes kept back on the disk for what must go on when it is full; at most a sixteenth of the disk.
    pub ballast: Size,
    /// New jobs are refused when the disk is this full, per cent.
    pub disk_full_at: u8,
    /// The cluster is for exercises: `muster drill` needs no confirmation. Give all members the same.
    pub staging: bool,
    /// Certificates; without them `listen` must be loopback.
    pub tls: Option<Tls>,
    /// Which events of devices take them out of service. Every member judges by its own while it leads: give all the same.
    #[serde(skip)]
    pub health: XidPolicy,
    /// What is done about attempts that compute nothing on their GPUs; none: nothing. Give all members the same.
    #[serde(skip)]
    pub idle: Option<IdlePolicy>,
    /// The pools whose size somebody decides. Whoever leads goes by its own: give all the same.
    #[serde(skip)]
    pub pools: PoolsConfig,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./.muster-coordinator"),
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            advertise: None,
            bootstrap: false,
            join: Vec::new(),
            join_token_file: None,
            replace: None,
            store: StoreConfig::default(),
            ballast: Size(room::BALLAST),
            disk_full_at: room::FULL_AT,
            staging: false,
            tls: None,
            health: XidPolicy::default(),
            idle: None,
            pools: PoolsConfig::default(),
        }
    }
}

/// Why a configuration is not used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Pools(#[from] PoolsError),
    #[error("{0:?} is not an address: write host:port")]
    BadAddress(String),
    #[error("advertise is {0}, which nobody can reach")]
    UnspecifiedAdvertise(String),
    #[error("disk_full_at is {0}: a disk is at most 100 % full")]
    BadFullAt(u8),
    #[error("bootstrap and join exclude each other: a member either makes a cluster or joins one")]
    BootstrapAndJoin,
    #[error("join is given without join_token_file")]
    JoinWithoutToken,
    #[error("replace is given without join: only a member that joins takes another's place")]
    ReplaceWithoutJoin,
    #[error(
        "store.url is required when listening on {0}: workers and members elsewhere must reach the store"
    )]
    NoStore(SocketAddr),
    #[error("{0}")]
    BadStore(String),
    #[error(
        "refused to listen on {0} without TLS: beyond loopback anyone could read tokens and run programs"
    )]
    ClearText(SocketAddr),
}

impl ConfigError {
    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Pools(error) => error.hint(),
            Self::BadAddress(_) => "for example 127.0.0.1:7070",
            Self::UnspecifiedAdvertise(_) => {
                "set advertise to an address of this machine that the others can reach"
            }
            Self::BadFullAt(_) => "write a number from 1 to 100, for example 95",
            Self::BootstrapAndJoin => "the first member has bootstrap, every other one join",
            Self::JoinWithoutToken => "`muster cluster add ADDRESS` makes a token; name its file",
            Self::ReplaceWithoutJoin => "name the members to join: --join HOST:PORT",
            Self::NoStore(_) | Self::BadStore(_) => {
                "set store.url to what all machines reach: file:///shared/directory, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
            }
            Self::ClearText(_) => "set tls.ca, tls.certificate and tls.key, or listen on 127.0.0.1",
        }
    }
}

impl CoordinatorConfig {
    /// The address that others dial.
    #[must_use]
    pub fn address(&self) -> String {
        self.advertise.clone().unwrap_or_else(|| self.listen.to_string())
    }

    /// Checks what can be checked without touching disk or network.
    ///
    /// # Errors
    /// [`ConfigError`], the first found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for address in self.join.iter().chain(&self.advertise) {
            let sound = address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            if !sound {
                return Err(ConfigError::BadAddress(address.clone()));
            }
        }
        if !(1..=100).contains(&self.disk_full_at) {
            return Err(ConfigError::BadFullAt(self.disk_full_at));
        }
        if self.bootstrap && !self.join.is_empty() {
            return Err(ConfigError::BootstrapAndJoin);
        }
        if self.replace.is_some() && self.join.is_empty() {
            return Err(ConfigError::ReplaceWithoutJoin);
        }
        if !self.join.is_empty() && self.join_token_file.is_none() {
            return Err(ConfigError::JoinWithoutToken);
        }
        self.pools.validate()?;
        self.store.address().map_err(|error| ConfigError::BadStore(error.to_string()))?;
        if !self.listen.ip().is_loopback() {
            if self.tls.is_none() {
                return Err(ConfigError::ClearText(self.listen));
            }
            if self.listen.ip().is_unspecified() && self.advertise.is_none() {
                return Err(ConfigError::UnspecifiedAdvertise(self.listen.to_string()));
            }
            if self.store.url.is_none() && self.join.is_empty() {
                return Err(ConfigError::NoStore(self.listen));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_before_a_port_opens() {
        let good = CoordinatorConfig { bootstrap: true, ..CoordinatorConfig::default() };
        assert_eq!(good.validate(), Ok(()));
        let everywhere: SocketAddr = "0.0.0.0:7070".parse().expect("address");
        let token = Some(PathBuf::from("t"));
        for (config, error) in [
            (CoordinatorConfig { join: vec!["h:1".into()], ..good.clone() }, ConfigError::BootstrapAndJoin),
            (CoordinatorConfig { disk_full_at: 101, ..good.clone() }, ConfigError::BadFullAt(101)),
            (
                CoordinatorConfig { bootstrap: false, join: vec!["h:1".into()], ..good.clone() },
                ConfigError::JoinWithoutToken,
            ),
            (CoordinatorConfig { replace: Some(2), ..good.clone() }, ConfigError::ReplaceWithoutJoin),
            (
                CoordinatorConfig {
                    bootstrap: false,
                    join: vec!["h".into()],
                    join_token_file: token,
                    ..good.clone()
                },
                ConfigError::BadAddress("h".into()),
            ),
            (CoordinatorConfig { listen: everywhere, ..good.clone() }, ConfigError::ClearText(everywhere)),
            (
                CoordinatorConfig { listen: everywhere, tls: Some(Tls::default()), ..good.clone() },
                ConfigError::UnspecifiedAdvertise("0.0.0.0:7070".into()),
            ),
            (
                CoordinatorConfig {
                    listen: everywhere,
                    tls: Some(Tls::default()),
                    advertise: Some("a:1".into()),
                    ..good.clone()
                },
                ConfigError::NoStore(everywhere),
            ),
        ] {
            assert_eq!(config.validate(), Err(error));
        }
        let store = |url: &str| {
            let store = StoreConfig { url: Some(url.into()), ..StoreConfig::default() };
            CoordinatorConfig { store, ..good.clone() }.validate()
        };
        assert_eq!(store("s3://bucket/prefix"), Ok(()));
        assert!(matches!(store("ftp://host"), Err(ConfigError::BadStore(_))));
    }
}
