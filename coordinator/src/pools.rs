//! `[[pool]]`, `[[quota]]` and `[autoscale]` of the configuration: read, checked, and made into what the log holds (`Fleet`) and what reaches
//! providers (drivers). Give all members the same: whoever leads writes its own into the log.

mod price;

pub use price::{PriceRange, Prices};

use muster_core::model::duration::Millis;
use muster_core::model::fleet::{Fleet, Limits, PoolSpec, PoolTiming};
use muster_core::model::gpu_spec::{self, GpuSpecError};
use muster_core::model::size::Size;
use muster_core::model::worker::WorkerSpec;
use muster_drivers::{Driver, DriverConfig, DriverError};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Pools of one cluster at most.
pub const POOLS_MAX: usize = 1_000;
/// Workers of one pool at most.
pub const WORKERS_MAX: u32 = 100_000;

/// One `[[pool]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// As workers name it.
    pub name: String,
    /// Workers at least. Default: 0.
    #[serde(default)]
    pub min: u32,
    /// Workers at most.
    pub max: u32,
    /// Its machines may be taken away.
    #[serde(default)]
    pub spot: bool,
    /// What a worker costs an hour, USD.
    pub usd_per_hour: Option<f64>,
    /// Other prices at some times of the day, UTC: the first that holds.
    #[serde(default)]
    pub prices: Vec<PriceRange>,
    /// A file with the price, read again each minute: a number, or a JSON object of pools and numbers.
    pub price_file: Option<PathBuf>,
    /// What a worker of it has, so that an empty pool can grow.
    pub template: Option<Template>,
    /// The `[[quota]]` that it shares.
    pub quota: Option<String>,
    /// A worker is idle for so long before it goes. Default: 5m.
    pub scale_in_cooldown: Option<Millis>,
    /// Between two orders of more machines. Default: 0s.
    pub scale_out_cooldown: Option<Millis>,
    /// Machines asked for at once at most; whole gangs are never cut. Default: no limit.
    #[serde(default)]
    pub step: u32,
    /// What runs on a worker that is to go has so long to save itself. Default: 15m.
    pub drain_timeout: Option<Millis>,
    /// A machine that has not joined after so long never will. Default: 15m.
    pub boot_timeout: Option<Millis>,
    /// Work that what is there serves within this time is not bought for. Default: 0s, which is as long as a new machine takes.
    pub patience: Option<Millis>,
    #[serde(default)]
    pub driver: DriverConfig,
}

/// What a worker of a pool has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub cpus: u64,
    pub memory: Size,
    /// Default: 1TiB, for nobody buys machines by it.
    pub disk: Option<Size>,
    /// `8xH100-80GB`
    #[serde(default)]
    pub gpus: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Version of CUDA that its driver has, `12.4`, for tasks that ask for one.
    pub cuda: Option<String>,
}

/// One `[[quota]]`: GPUs (machines, of pools without GPUs) of all pools that name it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaConfig {
    pub name: String,
    pub gpus: u32,
}

/// `[autoscale]`: what all pools share.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutoscaleConfig {
    /// All pools together cost at most so much an hour, USD, where their prices are known.
    pub max_usd_per_hour: Option<f64>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PoolsConfig {
    pub pools: Vec<PoolConfig>,
    pub quotas: Vec<QuotaConfig>,
    pub autoscale: AutoscaleConfig,
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PoolsError {
    #[error("{0} pools; the most is {POOLS_MAX}")]
    TooMany(usize),
    #[error("pool {0:?} is there twice")]
    Twice(String),
    #[error("{0:?} is no name of a pool: letters, digits, `-`, `_` and `.`, up to 63")]
    Name(String),
    #[error("pool {pool:?}: min is {min}, above its max of {max}")]
    MinAboveMax { pool: String, min: u32, max: u32 },
    #[error("pool {pool:?}: max is {max}; the most is {WORKERS_MAX}")]
    MaxTooLarge { pool: String, max: u32 },
    #[error("pool {pool:?}: {what} is {usd}, which is no price")]
    Price { pool: String, what: &'static str, usd: f64 },
    #[error("autoscale.max_usd_per_hour is {0}, which is no price")]
    MaxPrice(f64),
    #[error("pool {pool:?}: template.gpus: {error}")]
    Gpus { pool: String, error: GpuSpecError },
    #[error("pool {pool:?}: template.cuda is {text:?}; write a version such as 12.4")]
    Cuda { pool: String, text: String },
    #[error("pool {pool:?}: template has {cpus} cpus and {memory} of memory: a machine has some of both")]
    Empty { pool: String, cpus: u64, memory: Size },
    #[error("pool {pool:?} names the quota {quota:?}, which is not there")]
    NoQuota { pool: String, quota: String },
    #[error("quota {0:?} is there twice")]
    QuotaTwice(String),
    #[error("pools {0:?} and {1:?} have one group: each would undo what the other does")]
    OneGroup(String, String),
    #[error("pool {pool:?}: prices: {reason}")]
    Times { pool: String, reason: String },
    #[error("pool {pool:?}: {error}")]
    Driver { pool: String, error: DriverError },
}

impl PoolsError {
    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TooMany(_) | Self::MaxTooLarge { .. } => "merge pools whose machines are alike",
            Self::Twice(_) | Self::QuotaTwice(_) => "give each its own name",
            Self::Name(_) => "for example h100-spot",
            Self::MinAboveMax { .. } => "lower min or raise max",
            Self::Price { .. } | Self::MaxPrice(_) => "write USD an hour, 0 or more",
            Self::Gpus { .. } => "for example gpus = \"8xH100-80GB\"",
            Self::Cuda { .. } => "for example cuda = \"12.4\"",
            Self::Empty { .. } => {
                "for example template = { cpus = 96, memory = \"1TiB\", gpus = \"8xH100-80GB\" }"
            }
            Self::NoQuota { .. } => "add [[quota]] with this name, or remove the key",
            Self::OneGroup(..) => "one pool is one group: give each pool its own, or merge the two",
            Self::Times { .. } => {
                "for example prices = [{ from = \"22:00\", to = \"06:00\", usd_per_hour = 12 }]"
            }
            // Nobody was reached yet: whatever it is, it is in the file, or on this machine.
            Self::Driver { .. } => {
                "correct the pool's driver, or bring what it names; docs/src/autoscaling-drivers.md lists its keys"
            }
        }
    }
}

impl PoolsConfig {
    /// Checks what can be checked without reaching anybody.
    ///
    /// # Errors
    /// The first that is found.
    pub fn validate(&self) -> Result<(), PoolsError> {
        if self.pools.len() > POOLS_MAX {
            return Err(PoolsError::TooMany(self.pools.len()));
        }
        if let Some(usd) = self.autoscale.max_usd_per_hour.filter(|usd| !is_price(*usd)) {
            return Err(PoolsError::MaxPrice(usd));
        }
        let mut quotas = std::collections::BTreeSet::new();
        if let Some(quota) = self.quotas.iter().find(|quota| !quotas.insert(quota.name.as_str())) {
            return Err(PoolsError::QuotaTwice(quota.name.clone()));
        }
        let mut groups: BTreeMap<String, &str> = BTreeMap::new();
        let mut names = std::collections::BTreeSet::new();
        for pool in &self.pools {
            if !names.insert(pool.name.as_str()) {
                return Err(PoolsError::Twice(pool.name.clone()));
            }
            pool.check()?;
            if let Some(quota) = pool.quota.as_ref().filter(|quota| !quotas.contains(quota.as_str())) {
                return Err(PoolsError::NoQuota { pool: pool.name.clone(), quota: quota.clone() });
            }
            if let Some(other) = pool.driver.group_key().and_then(|key| groups.insert(key, &pool.name)) {
                return Err(PoolsError::OneGroup(other.to_owned(), pool.name.clone()));
            }
        }
        Ok(())
    }

    /// What the log holds of it, at these prices.
    #[must_use]
    pub fn fleet(&self, prices: &Prices) -> Fleet {
        let pools = self.pools.iter().map(|pool| (pool.name.clone(), pool.spec(prices.of(pool))));
        let limits = Limits {
            micro_usd_per_hour: self.autoscale.max_usd_per_hour.map(micro),
            quotas: self.quotas.iter().map(|quota| (quota.name.clone(), quota.gpus)).collect(),
        };
        Fleet { pools: pools.collect(), limits }
    }

    /// The drivers of those pools that have one, by pool; nobody is reached yet.
    ///
    /// # Errors
    /// What a driver can say before its first call.
    pub fn drivers(&self) -> Result<BTreeMap<String, Arc<dyn Driver>>, PoolsError> {
        let mut drivers = BTreeMap::new();
        for pool in &self.pools {
            let opened = muster_drivers::open(&pool.driver, &pool.name)
                .map_err(|error| PoolsError::Driver { pool: pool.name.clone(), error })?;
            drivers.extend(opened.map(|driver| (pool.name.clone(), driver)));
        }
        Ok(drivers)
    }
}

impl PoolConfig {
    fn check(&self) -> Result<(), PoolsError> {
        let pool = || self.name.clone();
        let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.len() > 63 || !self.name.chars().all(sound) {
            return Err(PoolsError::Name(pool()));
        }
        let (min, max) = (self.min, self.max);
        if max > WORKERS_MAX {
            return Err(PoolsError::MaxTooLarge { pool: pool(), max });
        }
        if min > max {
            return Err(PoolsError::MinAboveMax { pool: pool(), min, max });
        }
        let prices = self.usd_per_hour.iter().map(|usd| ("usd_per_hour", *usd));
        let mut prices =
            prices.chain(self.prices.iter().map(|range| ("prices.usd_per_hour", range.usd_per_hour)));
        if let Some((what, usd)) = prices.find(|(_, usd)| !is_price(*usd)) {
            return Err(PoolsError::Price { pool: pool(), what, usd });
        }
        for range in &self.prices {
            range.check().map_err(|reason| PoolsError::Times { pool: pool(), reason })?;
        }
        let Some(template) = &self.template else { return Ok(()) };
        if template.cpus == 0 || template.memory.0 == 0 {
            let (cpus, memory) = (template.cpus, template.memory);
            return Err(PoolsError::Empty { pool: pool(), cpus, memory });
        }
        gpu_spec::parse(&template.gpus).map_err(|error| PoolsError::Gpus { pool: pool(), error })?;
        match &template.cuda {
            Some(text) if version(text).is_none() => {
                Err(PoolsError::Cuda { pool: pool(), text: text.clone() })
            }
            _ => Ok(()),
        }
    }

    fn spec(&self, micro_usd_per_hour: Option<u64>) -> PoolSpec {
        let usual = PoolTiming::default();
        let ms = |given: Option<Millis>, usual: u64| given.map_or(usual, |given| given.0);
        PoolSpec {
            min: self.min,
            max: self.max,
            spot: self.spot,
            micro_usd_per_hour,
            template: self.template.as_ref().map(|template| Box::new(self.worker(template))),
            quota: self.quota.clone(),
            driven: self.driver != DriverConfig::None,
            driver: self.driver.kind().to_owned(),
            timing: PoolTiming {
                scale_in_cooldown_ms: ms(self.scale_in_cooldown, usual.scale_in_cooldown_ms),
                scale_out_cooldown_ms: ms(self.scale_out_cooldown, usual.scale_out_cooldown_ms),
                step_max: self.step,
                drain_ms: ms(self.drain_timeout, usual.drain_ms),
                boot_limit_ms: ms(self.boot_timeout, usual.boot_limit_ms),
                patience_ms: ms(self.patience, usual.patience_ms),
            },
        }
    }

    /// A worker of the pool, as constraints will see it.
    fn worker(&self, template: &Template) -> WorkerSpec {
        WorkerSpec {
            name: self.name.clone(),
            pool: self.name.clone(),
            labels: template.labels.clone(),
            spot: self.spot,
            cpu_milli: template.cpus.saturating_mul(1_000),
            memory: template.memory.0,
            disk: template.disk.map_or(1 << 40, |disk| disk.0),
            devices: gpu_spec::parse(&template.gpus).unwrap_or_default(),
            cuda: template.cuda.as_deref().and_then(version).unwrap_or_default(),
            ..WorkerSpec::default()
        }
    }
}

fn version(text: &str) -> Option<(u16, u16)> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// More than a thousand machines of the dearest kind: a slip of the keyboard.
const USD_MAX: f64 = 1e6;

fn is_price(usd: f64) -> bool {
    (0.0..=USD_MAX).contains(&usd)
}

/// Millionths of a USD.
fn micro(usd: f64) -> u64 {
    (usd * 1e6).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PoolsConfig, toml::de::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[serde(default)]
            pool: Vec<PoolConfig>,
            #[serde(default)]
            quota: Vec<QuotaConfig>,
            #[serde(default)]
            autoscale: AutoscaleConfig,
        }
        let File { pool, quota, autoscale } = toml::from_str(text)?;
        Ok(PoolsConfig { pools: pool, quotas: quota, autoscale })
    }

    const SOUND: &str = r#"
        [[pool]]
        name = "h100-spot"
        min = 0
        max = 64
        spot = true
        usd_per_hour = 19.8
        template = { cpus = 96, memory = "1TiB", gpus = "8xH100-80GB" }
        scale_in_cooldown = "5m"
        driver = { kind = "aws-asg", group = "gpu-spot", region = "eu-west-1", endpoint = "" }
    "#;

    #[test]
    fn the_pool_of_the_contract_is_read() {
        let config = read(SOUND).expect("read");
        assert_eq!(config.validate(), Ok(()));
        let fleet = config.fleet(&Prices::default());
        let pool = &fleet.pools["h100-spot"];
        let template = pool.template.as_ref().expect("given");
        assert_eq!(
            (pool.max, pool.micro_usd_per_hour, pool.driven, pool.timing.scale_in_cooldown_ms),
            (64, Some(19_800_000), true, 300_000)
        );
        assert_eq!((template.cpu_milli, template.memory, template.devices.len()), (96_000, 1 << 40, 8));
    }

    #[test]
    fn what_cannot_work_is_said_before_anything_starts() {
        let with = |from: &str, to: &str| read(&SOUND.replace(from, to)).expect("read").validate();
        let pool = || "h100-spot".to_owned();
        assert_eq!(
            with("min = 0", "min = 65"),
            Err(PoolsError::MinAboveMax { pool: pool(), min: 65, max: 64 })
        );
        assert_eq!(
            with("19.8", "-1.0"),
            Err(PoolsError::Price { pool: pool(), what: "usd_per_hour", usd: -1.0 })
        );
        assert!(matches!(with("8xH100-80GB", "8xH100"), Err(PoolsError::Gpus { .. })));
        assert_eq!(with("h100-spot", "a b"), Err(PoolsError::Name("a b".to_owned())));
        let twice = read(&format!("{SOUND}{SOUND}")).expect("read").validate();
        assert_eq!(twice, Err(PoolsError::Twice(pool())));
        let shared =
            read(&format!("{SOUND}{}", SOUND.replace("h100-spot", "other"))).expect("read").validate();
        assert_eq!(shared, Err(PoolsError::OneGroup(pool(), "other".to_owned())));
        let quota = SOUND.replace("spot = true", "quota = \"eu\"");
        assert!(matches!(read(&quota).expect("read").validate(), Err(PoolsError::NoQuota { .. })));
        assert_eq!(
            read(&format!("{quota}[[quota]]\nname = \"eu\"\ngpus = 8")).expect("read").validate(),
            Ok(())
        );
        assert!(read(&SOUND.replace("max =", "maximum =")).is_err(), "unknown keys are refused");
    }
}
