//! What the cluster asks for, as the leading member reckoned it last: kept in its memory, watched by whoever serves it.

use crate::clock::wall_ms;
use muster_core::autoscale::PoolDecision;
use muster_core::leader::{PoolUse, Signals as Reckoned};
use muster_core::model::fleet::PoolSpec;
use muster_core::view_doc::{PoolSignalDoc, SignalsDoc, UnmetDoc, UseDoc, rfc3339};
use std::sync::Arc;
use tokio::sync::watch;

/// The signals of this member while it leads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Signals(Arc<watch::Sender<Arc<SignalsDoc>>>);

impl Default for Signals {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Arc::default())))
    }
}

impl Signals {
    /// The leader has reckoned anew. Whoever watches wakes only when the version or the term is another.
    pub fn publish(&self, signals: SignalsDoc) {
        self.0.send_if_modified(|known| {
            let is_news = (known.term, known.version) != (signals.term, signals.version);
            *known = Arc::new(signals);
            is_news
        });
    }

    /// This member does not lead any more: nothing is known.
    pub fn clear(&self) {
        self.0.send_replace(Arc::default());
    }

    /// The last ones, and the next.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<SignalsDoc>> {
        self.0.subscribe()
    }
}

/// The document of what the core reckoned, now.
#[must_use]
pub fn signals_doc(reckoned: &Reckoned) -> SignalsDoc {
    let unmet = reckoned.decision.unmet.iter().map(|unmet| UnmetDoc {
        task: unmet.name.clone(),
        count: unmet.count,
        reason: unmet.reason.clone(),
    });
    let pools = reckoned.decision.pools.iter().filter_map(|pool| {
        let spec = reckoned.fleet.pools.get(&pool.pool)?;
        Some(pool_doc(reckoned, pool, spec, reckoned.uses.get(&pool.pool)))
    });
    SignalsDoc {
        pools: pools.collect(),
        version: reckoned.version,
        term: reckoned.term,
        at: Some(rfc3339(wall_ms())),
        unmet: unmet.collect(),
    }
}

fn pool_doc(
    reckoned: &Reckoned,
    pool: &PoolDecision,
    spec: &PoolSpec,
    used: Option<&PoolUse>,
) -> PoolSignalDoc {
    let usd = |micro: u64| micro as f64 / 1e6;
    let seconds = |ms: u64| ms as f64 / 1e3;
    let none = PoolUse::default();
    let used = used.unwrap_or(&none);
    let part = |granted: u64, all: u64| (all > 0).then(|| granted as f64 / all as f64);
    let wait = pool.oldest.map_or(0, |oldest| reckoned.tick.since(oldest));
    let load = match (used.gpu_milli, used.cpu_milli) {
        (0, 0) => None,
        (0, all) => part(used.cpu_milli_granted + pool.asked_milli, all),
        (all, _) => part(used.gpu_milli_granted + pool.asked_milli, all),
    };
    PoolSignalDoc {
        pool: pool.pool.clone(),
        current: pool.current,
        desired: pool.desired,
        min: spec.min,
        max: spec.max,
        reason: pool.reason.clone(),
        jobs: pool.jobs.iter().map(|job| job.0).collect(),
        usd_per_hour: spec.micro_usd_per_hour.map(usd),
        remove: pool.remove.iter().map(|worker| worker.0).collect(),
        spot: spec.spot,
        booting: pool.booting,
        for_seconds: pool.for_ms.map(seconds),
        worth_usd: pool.worth_micro_usd.map(usd),
        hold: pool.hold.clone(),
        driver: if spec.driver.is_empty() { "none".to_owned() } else { spec.driver.clone() },
        use_ratio: UseDoc {
            gpu: part(used.gpu_milli_granted, used.gpu_milli),
            cpu: part(used.cpu_milli_granted, used.cpu_milli),
            queue_wait_seconds: seconds(wait),
            waiting: pool.waiting,
            load,
        },
        workers: used.workers.iter().map(|(state, n)| ((*state).to_owned(), *n)).collect(),
    }
}
