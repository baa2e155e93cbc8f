//! The way from the leader to the providers of its pools, and back: what each group is, every ten seconds, and orders one after the other.
//! Only the leading member speaks to providers. Left out: every decision, which is the core's; every provider, which is a driver's.

use crate::leader::{LeaderHandle, ToLeader};
use crate::leadership::Leadership;
use crate::pools::{PoolsConfig, Prices};
use muster_core::autoscale::{GroupReport, InstancePhase, InstanceReport, Order};
use muster_drivers::{Driver, DriverError, Group, Phase};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Between two looks at a group. Six of them are what may fail before what was seen counts as unknown.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// After an order the group is looked at again this soon.
const LOOK_AFTER_ORDER: Duration = Duration::from_secs(2);
/// After a failure the next call waits this long, twice that after the next one, …
const BACK_OFF_FIRST: Duration = Duration::from_secs(5);
/// … and this at most.
const BACK_OFF_LAST: Duration = Duration::from_secs(300);
/// A provider that says when to come back is believed up to this: more would be a typing error that stops a pool for a day.
const ASKED_LAST: Duration = Duration::from_secs(3600);
/// An order that has waited longer is dropped: the leader gives it again as long as it is true.
const GOOD_FOR: Duration = Duration::from_secs(8);
/// Orders that wait for a provider; more are dropped, and given again by the leader while they are due.
const ORDERS_MAX: usize = 256;
/// Prices are looked at this often.
const PRICES_EVERY: Duration = Duration::from_secs(60);

/// Where the leader's orders go, by pool. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Drives(Arc<BTreeMap<String, mpsc::Sender<Ordered>>>);

impl Drives {
    /// Never blocks. An order to a pool without a driver, or to one that is slow, is dropped: the leader gives it again.
    pub fn order(&self, pool: &str, order: Order, generation: u64) {
        if let Some(sender) = self.0.get(pool) {
            let _ = sender.try_send(Ordered { order, generation, at: Instant::now() });
        }
    }
}

/// An order, the generation behind it, and when it was given.
#[derive(Debug)]
struct Ordered {
    order: Order,
    generation: u64,
    at: Instant,
}

type Orders = mpsc::Receiver<Ordered>;

/// What waits for the member to run: one task a pool.
pub struct Driving {
    pools: PoolsConfig,
    lines: Vec<(String, Arc<dyn Driver>, Orders)>,
    /// For the leader thread.
    pub drives: Drives,
}

impl Driving {
    /// Nothing is reached before [`Driving::start`].
    #[must_use]
    pub fn new(pools: PoolsConfig, drivers: BTreeMap<String, Arc<dyn Driver>>) -> Self {
        let mut senders = BTreeMap::new();
        let mut lines = Vec::new();
        for (pool, driver) in drivers {
            let (sender, receiver) = mpsc::channel(ORDERS_MAX);
            senders.insert(pool.clone(), sender);
            lines.push((pool, driver, receiver));
        }
        Self { pools, lines, drives: Drives(Arc::new(senders)) }
    }

    /// From now on the leader hears what its pools are and cost, and its orders are carried out while this member leads.
    pub fn start(self, leader: &LeaderHandle, leadership: &watch::Receiver<Leadership>) {
        for (pool, driver, orders) in self.lines {
            let line = Line { pool, driver, leader: leader.clone(), failures: 0, order_failed: false };
            tokio::spawn(line.run(orders, leadership.clone()));
        }
        tokio::spawn(tell_fleet(self.pools, leader.clone(), leadership.clone()));
    }
}

/// The configuration with the prices of now, to each leader in its term and whenever a price changes.
async fn tell_fleet(pools: PoolsConfig, leader: LeaderHandle, mut leadership: watch::Receiver<Leadership>) {
    let mut prices = Prices::default();
    let mut said = None;
    loop {
        let now = crate::clock::wall_ms();
        for fault in prices.renew(&pools.pools, now) {
            tracing::warn!(fault, "the last price goes on");
        }
        let fleet = pools.fleet(&prices);
        let (term, leads) = {
            let now = leadership.borrow_and_update();
            (now.term, now.is_ready)
        };
        if leads && said.as_ref() != Some(&(term, fleet.clone())) {
            leader.send(ToLeader::Fleet(Box::new(fleet.clone())));
            said = Some((term, fleet));
        }
        tokio::select! {
            () = tokio::time::sleep(PRICES_EVERY) => {}
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

/// Waits until this member leads, or does not; false when it stops.
async fn until(leadership: &mut watch::Receiver<Leadership>, leads: bool) -> bool {
    leadership.wait_for(|now| now.is_ready == leads).await.is_ok()
}

struct Line {
    pool: String,
    driver: Arc<dyn Driver>,
    leader: LeaderHandle,
    /// In a row.
    failures: u32,
    /// The last order did.
    order_failed: bool,
}

impl Line {
    async fn run(mut self, mut orders: Orders, mut leadership: watch::Receiver<Leadership>) {
        loop {
            // 1. Whoever does not lead asks nobody for anything; what was ordered in another term is void.
            if !until(&mut leadership, true).await {
                return;
            }
            while orders.try_recv().is_ok() {}
            // 2. While it leads: looks when they are due, however many orders come, and orders between them.
            let mut due = Instant::now() + self.look().await;
            loop {
                tokio::select! {
                    // A member that has just lost the lead takes no further order, and a look that is due goes before orders.
                    biased;
                    goes_on = until(&mut leadership, false) => {
                        if !goes_on {
                            return;
                        }
                        break;
                    }
                    () = tokio::time::sleep_until(due) => due = Instant::now() + self.look().await,
                    Some(Ordered { order, generation, at }) = orders.recv() => {
                        // What has waited behind slow calls is not true any more; the leader gives it again while it is.
                        if at.elapsed() > GOOD_FOR {
                            continue;
                        }
                        match self.carry_out(&order, generation).await {
                            Ok(()) => {
                                self.order_failed = false;
                                self.succeeded();
                                due = due.min(Instant::now() + LOOK_AFTER_ORDER);
                            }
                            Err(error) => {
                                self.order_failed = true;
                                // What waits behind it would only be refused too.
                                while orders.try_recv().is_ok() {}
                                due = Instant::now() + self.failed(&error);
                            }
                        }
                    }
                }
            }
        }
    }

    /// What the group is, to the leader; when to look again.
    async fn look(&mut self) -> Duration {
        let message = match self.driver.describe().await {
            Ok(Some(group)) => {
                let report = report(group, self.driver.protects());
                ToLeader::Group { pool: self.pool.clone(), report }
            }
            Ok(None) => ToLeader::Unseen { pool: self.pool.clone() },
            Err(error) => return self.failed(&error),
        };
        self.leader.send(message);
        // Whoever describes and refuses all orders is not well.
        if !self.order_failed {
            self.succeeded();
        }
        LOOK_EVERY
    }

    async fn carry_out(&mut self, order: &Order, generation: u64) -> Result<(), DriverError> {
        let (pool, driver) = (&self.pool, &self.driver);
        match order {
            Order::SetDesired(_) | Order::Terminate(_) | Order::Release(_) => {
                tracing::info!(pool, generation, ?order, "an order to the provider");
            }
            Order::Hold(_) | Order::Protect(_) => {
                tracing::debug!(pool, generation, ?order, "an order to the provider")
            }
        }
        match order {
            Order::SetDesired(desired) => driver.set_desired(*desired, generation).await,
            Order::Terminate(instance) => driver.terminate(instance, generation).await,
            Order::Hold(instance) => driver.hold(instance).await,
            Order::Release(instance) => driver.release(instance).await,
            Order::Protect(instances) => driver.protect(instances, true).await,
        }
    }

    fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::info!(pool = self.pool, "the provider answers again");
        }
        self.failures = 0;
    }

    /// Says so, once and then each time that it waits longer, and how long to wait.
    fn failed(&mut self, error: &DriverError) -> Duration {
        let wait = (BACK_OFF_FIRST * 2_u32.saturating_pow(self.failures.min(10))).min(BACK_OFF_LAST);
        let wait = match error {
            DriverError::Throttled { after: Some(after), .. } => wait.max((*after).min(ASKED_LAST)),
            _ => wait,
        };
        self.failures += 1;
        if self.failures.is_power_of_two() {
            tracing::warn!(pool = self.pool, %error, hint = error.hint(), times = self.failures, "the provider did not do it");
        }
        let for_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let reason = format!("says: {error}");
        self.leader.send(ToLeader::Trouble { pool: self.pool.clone(), reason, for_ms });
        wait
    }
}

/// Where the provider protects nothing, nothing has to be asked for.
fn report(group: Group, protects: bool) -> GroupReport {
    let phase = |phase| match phase {
        Phase::Booting => InstancePhase::Booting,
        Phase::InService => InstancePhase::InService,
        Phase::Held => InstancePhase::Held,
        Phase::Going => InstancePhase::Going,
    };
    let instances = group.instances.into_iter().map(|instance| InstanceReport {
        id: instance.id,
        phase: phase(instance.phase),
        protected: instance.protected || !protects,
        image: instance.image,
    });
    GroupReport { desired: group.desired, min: group.min, max: group.max, instances: instances.collect() }
}
