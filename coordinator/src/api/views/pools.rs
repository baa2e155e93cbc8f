//! Pools, as documents: those of the coordinators' file, and those that a worker names. Left out: what is wanted of them (`api::signals`).

use super::super::error::ApiError;
use super::super::service::Service;
use muster_core::model::fleet::PoolSpec;
use muster_core::model::size::Size;
use muster_core::model::time::Tick;
use muster_core::model::worker::{Device, WorkerSpec, WorkerState};
use muster_core::state::State;
use muster_core::view_doc::{PoolDoc, PoolsDoc, SignalsDoc};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A leader that does not say in this time what it wants leaves that out: the rest is known here.
const WITHIN: Duration = Duration::from_secs(1);

impl Service {
    /// `muster pool list`: by name. Without its signal where the leader does not say it.
    ///
    /// # Errors
    /// No leader.
    pub async fn list_pools(&self) -> Result<PoolsDoc, ApiError> {
        self.forward.catch_up().await?;
        let mut pools = self.forward.read(pool_docs);
        if !pools.is_empty() {
            let asked = tokio::time::timeout(WITHIN, self.signals(None, Duration::ZERO)).await;
            wanted(&mut pools, &asked.ok().and_then(Result::ok).unwrap_or_default());
        }
        Ok(PoolsDoc { pools })
    }

    /// `muster pool show`.
    ///
    /// # Errors
    /// No such pool, no leader.
    pub async fn get_pool(&self, name: &str) -> Result<PoolDoc, ApiError> {
        let mut pools = self.list_pools().await?.pools;
        match pools.iter().position(|pool| pool.name == name) {
            Some(at) => Ok(pools.swap_remove(at)),
            None => {
                let known = pools.into_iter().map(|pool| pool.name).collect();
                Err(ApiError::NoPool { name: name.to_owned(), known })
            }
        }
    }
}

fn wanted(pools: &mut [PoolDoc], signals: &Arc<SignalsDoc>) {
    for pool in pools {
        pool.signal = signals.pools.iter().find(|signal| signal.pool == pool.name).cloned();
    }
}

fn pool_docs(state: &State) -> Vec<PoolDoc> {
    let mut pools: BTreeMap<&str, PoolDoc> = BTreeMap::new();
    for (name, spec) in &state.fleet().pools {
        pools.insert(name, configured(name, spec));
    }
    for worker in state.workers() {
        let name = worker.spec.pool.as_str();
        let fresh = || PoolDoc { name: name.to_owned(), spot: worker.spec.spot, ..PoolDoc::default() };
        let pool = pools.entry(name).or_insert_with(fresh);
        pool.workers += u32::from(worker.state != WorkerState::Lost);
    }
    let mut docs: Vec<PoolDoc> = pools.into_values().collect();
    docs.iter_mut().for_each(|pool| learnt(state, pool, state.tick()));
    docs
}

fn configured(name: &str, spec: &PoolSpec) -> PoolDoc {
    PoolDoc {
        name: name.to_owned(),
        configured: true,
        spot: spec.spot,
        min: Some(spec.min),
        max: Some(spec.max),
        usd_per_hour: spec.micro_usd_per_hour.map(|micro| micro as f64 / 1e6),
        template: spec.template.as_deref().map(machine),
        ..PoolDoc::default()
    }
}

fn learnt(state: &State, pool: &mut PoolDoc, now: Tick) {
    let seconds = |ms: u64| ms as f64 / 1_000.0;
    pool.mtbf_seconds = state.pools().get(&pool.name).and_then(|record| record.mtbf_ms(now)).map(seconds);
    if let Some(scale) = state.scales().get(&pool.name) {
        pool.boot_seconds = scale.boot_ms.map(seconds);
        pool.failures = scale.failures;
    }
}

/// `96 cpus, 1TiB, 8xH100-80GB`.
fn machine(spec: &WorkerSpec) -> String {
    let mut parts = vec![format!("{} cpus", spec.cpu_milli as f64 / 1_000.0), Size(spec.memory).to_string()];
    let mut devices: BTreeMap<String, usize> = BTreeMap::new();
    for device in &spec.devices {
        *devices.entry(kind(device)).or_default() += 1;
    }
    parts.extend(devices.into_iter().map(|(kind, count)| format!("{count}x{kind}")));
    parts.join(", ")
}

fn kind(device: &Device) -> String {
    let profile = device.mig.as_ref().map(|profile| format!("/{profile}")).unwrap_or_default();
    format!("{}{profile}-{}", device.model, Size(device.memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_reads_as_it_was_configured() {
        let device = |model: &str, memory| Device { model: model.into(), memory, ..Device::default() };
        let spec = WorkerSpec {
            cpu_milli: 96_000,
            memory: 1 << 40,
            devices: vec![
                device("H100", 80_000_000_000),
                device("L4", 24 << 30),
                device("H100", 80_000_000_000),
                Device { mig: Some("1g.10gb".into()), ..device("H100", 10 << 30) },
            ],
            ..WorkerSpec::default()
        };
        assert_eq!(machine(&spec), "96 cpus, 1TiB, 2xH100-80GB, 1xH100/1g.10gb-10GiB, 1xL4-24GiB");
        let half = WorkerSpec { cpu_milli: 500, memory: 512 << 20, ..WorkerSpec::default() };
        assert_eq!(machine(&half), "0.5 cpus, 512MiB");
    }

    #[test]
    fn money_of_a_pool_is_usd_and_its_name_is_that_of_the_file() {
        let spec =
            PoolSpec { max: 64, spot: true, micro_usd_per_hour: Some(19_800_000), ..PoolSpec::default() };
        let expected = PoolDoc {
            name: "spot".into(),
            configured: true,
            spot: true,
            min: Some(0),
            max: Some(64),
            usd_per_hour: Some(19.8),
            ..PoolDoc::default()
        };
        assert_eq!(configured("spot", &spec), expected);
    }
}
