//! What of the state the ledger counts: which parts of which worker, for whom, and as what. Read here; changed in `apply/ledger.rs`.

use super::store::State;
use crate::ledger::meter::{class_of, weight};
use crate::ledger::month::split;
use crate::ledger::price::{micro_usd_per_hour, rate};
use crate::ledger::{Amount, Amounts, Class, Ledger, Meter, Month, Owner};
use crate::model::attempt::Attempt;
use crate::model::budget::Scope;
use crate::model::ids::{JobId, WorkerId};
use crate::model::placement::WHOLE;
use crate::model::time::Stamp;
use crate::model::worker::{Worker, WorkerState};
use std::collections::BTreeMap;

impl State {
    /// Where time and money went.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The meter that a worker would have if it came now, with nothing on it; none: nothing of it is counted.
    pub(super) fn new_meter(&self, worker: &Worker) -> Option<Meter> {
        if worker.state == WorkerState::Lost {
            return None;
        }
        let price = micro_usd_per_hour(&worker.spec, &self.fleet);
        let devices = &worker.spec.devices;
        let gpus = !devices.is_empty();
        let units = if gpus { devices.len() as u64 * u64::from(WHOLE) } else { worker.spec.cpu_milli };
        let counts = units > 0 && (gpus || price > 0);
        counts.then(|| Meter {
            at: self.meta.tick,
            pool: worker.spec.pool.clone(),
            gpus,
            units,
            held: 0,
            sick: 0,
            ill: self.out_of_service(worker),
            rate: rate(price, units),
            spent: 0,
        })
    }

    /// Numbers of its devices that are given to nobody.
    pub(super) fn out_of_service(&self, worker: &Worker) -> Vec<u16> {
        let devices = (0..).zip(&worker.spec.devices);
        devices.filter(|(_, d)| d.absent || self.is_quarantined(&d.uuid)).map(|(number, _)| number).collect()
    }

    /// The thousandths of CPUs that its own attempts have, of a worker without devices.
    pub(super) fn own_cpu_milli(&self, worker: &Worker) -> u64 {
        let Some(load) = self.loads.get(&worker.id) else { return 0 };
        if load.tokens.first().is_some_and(|first| *first <= worker.former) {
            return self.used_after(worker.id, worker.former).cpu_milli;
        }
        load.used.cpu_milli
    }

    /// What a rank of a live attempt has, and as what it counts.
    pub(super) fn seat_now(&self, attempt: &Attempt, rank: u32) -> (Class, u64) {
        let class = class_of(attempt, rank);
        let units = attempt.seats.get(rank as usize).and_then(|seat| {
            let meter = self.ledger.meters.get(&seat.worker)?;
            let worker = self.workers.get(&seat.worker)?;
            let cpu_milli = self.jobs.get(&attempt.at.job)?.common(attempt.at.task).resources.cpu_milli;
            Some(weight(meter, worker, attempt, seat, cpu_milli))
        });
        (class, units.unwrap_or(0))
    }

    /// How the parts of a worker are classed now: of a machine with devices, their thousandths. They sum to all it has.
    #[must_use]
    pub fn classes_of(&self, id: WorkerId) -> [u64; 8] {
        let mut classes = [0; 8];
        let Some(meter) = self.ledger.meters.get(&id) else { return classes };
        for token in self.tokens_of(id) {
            let attempt = &self.live[&token];
            if let Some((rank, _)) = attempt.seat_on(id) {
                let (class, units) = self.seat_now(attempt, rank);
                classes[class as usize] += units;
            }
        }
        for (class, units) in meter.rest() {
            classes[class as usize] += units;
        }
        classes
    }

    /// For whom the time of an attempt on this worker is booked.
    fn owner_of(&self, job: JobId, worker: WorkerId) -> Owner<'_> {
        owner(&self.jobs, &self.workers, job, worker)
    }

    /// Everything that was counted until `now`, which may be later than the last entry: what is booked by account, and what would be if
    /// everything changed now. Useful time that is not saved counts as useful.
    pub fn visit_books(&self, now: Stamp, visit: &mut dyn FnMut(&Owner<'_>, Month, Class, Amount)) {
        for account in self.ledger.accounts() {
            let key = &account.key;
            let labels = (!key.labels.is_empty()).then_some(&key.labels);
            let owner = Owner { job: None, pool: &key.pool, queue: &key.queue, user: &key.user, labels };
            for class in Class::ALL {
                let amount = account.amounts.of(class);
                if !amount.is_none() {
                    visit(&owner, key.month, class, amount);
                }
            }
        }
        self.visit_open(now, visit);
    }

    /// Of that, what is not booked.
    pub fn visit_open(&self, now: Stamp, visit: &mut dyn FnMut(&Owner<'_>, Month, Class, Amount)) {
        for (token, tab) in &self.ledger.tabs {
            let Some(attempt) = self.live.get(token) else { continue };
            for (seat, spell) in attempt.seats.iter().zip(&tab.spells) {
                let owner = self.owner_of(attempt.at.job, seat.worker);
                for (month, amount) in &spell.open {
                    visit(&owner, *month, Class::Useful, *amount);
                }
                let (ms, amount) = spell.amount(self.ledger.meters.get(&seat.worker), now.tick);
                if !amount.is_none() {
                    split(ms, amount, now.wall, |month, part| visit(&owner, month, spell.class, part));
                }
            }
        }
        for meter in self.ledger.meters.values() {
            let ms = now.tick.since(meter.at);
            for (class, units) in meter.rest() {
                let amount = meter.amount(units, now.tick);
                if !amount.is_none() {
                    let owner = Owner::nobody(&meter.pool);
                    split(ms, amount, now.wall, |month, part| visit(&owner, month, class, part));
                }
            }
        }
    }

    /// What all time until `now` comes to by class; the sum is what there was ([`crate::ledger::Totals::capacity_at`]).
    #[must_use]
    pub fn classes_at(&self, now: Stamp) -> Amounts {
        let mut sum = self.ledger.totals.booked;
        self.visit_open(now, &mut |_, _, class, amount| sum.add(class, amount));
        sum
    }

    /// Whether the books are what the state says, and their sums what there was.
    pub(super) fn check_books(&self) -> Result<(), String> {
        let ledger = &self.ledger;
        let (mut units, mut cost) = (0, 0);
        for (id, worker) in &self.workers {
            let meter = ledger.meters.get(id);
            let expected = self.new_meter(worker).map(|mut new| {
                new.read(worker, &self.used(*id), self.own_cpu_milli(worker));
                let (at, spent) = meter.map_or((new.at, new.spent), |meter| (meter.at, meter.spent));
                Meter { at, spent, ..new }
            });
            if meter != expected.as_ref() {
                return Err(format!("meter of worker {id}: kept {meter:?}, is {expected:?}"));
            }
            let Some(meter) = meter else { continue };
            let classed: u64 = self.classes_of(*id).iter().sum();
            if classed != meter.units {
                return Err(format!("worker {id}: {classed} parts of {} are classed", meter.units));
            }
            units += if meter.gpus { meter.units } else { 0 };
            cost += u128::from(meter.units) * meter.rate;
        }
        if let Some(id) = ledger.meters.keys().find(|id| !self.workers.contains_key(*id)) {
            return Err(format!("worker {id} has a meter and is not there"));
        }
        if (units, cost) != (ledger.totals.units, ledger.totals.rate) {
            return Err(format!("the books count {:?}, there are {units} at {cost}", ledger.totals));
        }
        for (token, attempt) in &self.live {
            let is: Vec<(Class, u64)> =
                (0..).zip(&attempt.seats).map(|(rank, _)| self.seat_now(attempt, rank)).collect();
            let kept = ledger.tabs.get(token).map(|tab| tab.spells.iter().map(|s| (s.class, s.units)));
            if kept
                .map_or_else(|| is.iter().any(|(_, units)| *units > 0), |kept| !kept.eq(is.iter().copied()))
            {
                return Err(format!("token {token} is booked as {:?} and is {is:?}", ledger.tabs.get(token)));
            }
        }
        if let Some(token) = ledger.tabs.keys().find(|token| !self.live.contains_key(*token)) {
            return Err(format!("token {token} is on the books and does not live"));
        }
        if let Some(id) = ledger.jobs.keys().find(|id| !self.jobs.contains_key(*id)) {
            return Err(format!("job {id} is on the books and not in memory"));
        }
        let stray = |scope: &&Scope| matches!(scope, Scope::Job(id) if !self.jobs.contains_key(id));
        if let Some(scope) = ledger.budgets.keys().find(stray) {
            return Err(format!("{scope} has a budget and is not in memory"));
        }
        let mut booked = ledger.totals.dropped;
        ledger.accounts().for_each(|account| booked.add_all(&account.amounts));
        if booked != ledger.totals.booked {
            return Err(format!("the accounts say {booked:?}, the books {:?}", ledger.totals.booked));
        }
        let now = Stamp { tick: self.meta.tick, ..Stamp::default() };
        let (counted, capacity) = (self.classes_at(now).total(), ledger.totals.capacity_at(now.tick));
        if counted != capacity {
            return Err(format!("the classes sum to {counted:?}, there was {capacity:?}"));
        }
        Ok(())
    }
}

/// For whom the time of a job on a worker is booked.
pub(super) fn owner<'a>(
    jobs: &'a BTreeMap<JobId, super::job::Job>,
    workers: &'a BTreeMap<WorkerId, Worker>,
    job: JobId,
    worker: WorkerId,
) -> Owner<'a> {
    let pool = workers.get(&worker).map_or("", |worker| worker.spec.pool.as_str());
    jobs.get(&job).map_or(Owner::nobody(pool), |row| Owner {
        job: Some(job),
        pool,
        queue: &row.spec.queue,
        user: &row.user,
        labels: Some(&row.spec.labels),
    })
}
