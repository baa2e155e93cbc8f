//! The books: what was counted, for whom, and how much there was to count.

use super::account::{ACCOUNTS_MAX, Account, AccountKey, MONTHS_MAX, OTHER, bounded};
use super::amount::{Amount, Amounts};
use super::class::Class;
use super::meter::{Meter, Tab};
use super::month::{Month, split};
use crate::model::budget::{BudgetRow, Scope};
use crate::model::ids::{JobId, Token, WorkerId};
use crate::model::time::{Stamp, Tick};
use crate::state::Key;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What all of it comes to. Capacity is counted when workers come, go or change; classes when time is booked: neither is made from the other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Up to when `capacity` counts.
    pub at: Tick,
    /// Thousandths of GPUs that are there.
    pub units: u64,
    /// What all workers together cost in a millisecond, attoUSD.
    pub rate: u128,
    /// What there was until `at`.
    pub capacity: Amount,
    /// All that was ever booked.
    pub booked: Amounts,
    /// Of that, what left with old months.
    pub dropped: Amounts,
    /// The last number that an account got.
    pub last_account: u64,
}

impl Totals {
    /// What there was until `now`.
    #[must_use]
    pub fn capacity_at(&self, now: Tick) -> Amount {
        let ms = u128::from(now.since(self.at));
        let mut capacity = self.capacity;
        capacity += Amount { time: ms * u128::from(self.units), money: ms * self.rate };
        capacity
    }

    /// From now on a worker that was this meter is that one.
    pub fn change(&mut self, old: Option<&Meter>, new: Option<&Meter>, now: Tick) {
        (self.capacity, self.at) = (self.capacity_at(now), now.max(self.at));
        let units = |meter: Option<&Meter>| meter.filter(|m| m.gpus).map_or(0, |m| m.units);
        let rate = |meter: Option<&Meter>| meter.map_or(0, |m| u128::from(m.units) * m.rate);
        self.units = (self.units + units(new)).saturating_sub(units(old));
        self.rate = (self.rate + rate(new)).saturating_sub(rate(old));
    }
}

/// For whom time is booked.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    pub job: Option<JobId>,
    pub pool: &'a str,
    pub queue: &'a str,
    pub user: &'a str,
    /// As the job has them; none without a job.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Owner<'a> {
    /// Nobody: what is idle or unhealthy in a pool.
    #[must_use]
    pub fn nobody(pool: &'a str) -> Self {
        Self { job: None, pool, queue: "", user: "", labels: None }
    }

    /// The account of a month.
    #[must_use]
    pub fn key(&self, month: Month) -> AccountKey {
        AccountKey {
            month,
            pool: self.pool.to_owned(),
            queue: self.queue.to_owned(),
            user: self.user.to_owned(),
            labels: self.labels.map(bounded).unwrap_or_default(),
        }
    }
}

/// What was booked for a job, and what it was forecast to cost when it came, millionths of a USD.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobBooks {
    pub amounts: Amounts,
    pub forecast: Option<u64>,
}

/// Part of the replicated state: changed by apply alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    pub(crate) totals: Totals,
    pub(crate) accounts: BTreeMap<u64, Account>,
    pub(crate) meters: BTreeMap<WorkerId, Meter>,
    pub(crate) tabs: BTreeMap<Token, Tab>,
    /// Of jobs in memory.
    pub(crate) jobs: BTreeMap<JobId, JobBooks>,
    pub(crate) budgets: BTreeMap<Scope, BudgetRow>,
    // Derived: never stored.
    numbers: BTreeMap<AccountKey, u64>,
}

impl Ledger {
    /// What all of it comes to.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// All accounts, in the order in which they were opened.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// Budgets, and how far each has got.
    #[must_use]
    pub fn budgets(&self) -> &BTreeMap<Scope, BudgetRow> {
        &self.budgets
    }

    /// When a live attempt was last found to compute nothing for too long.
    #[must_use]
    pub fn idle(&self, token: Token) -> Option<Stamp> {
        self.tabs.get(&token)?.idle
    }

    /// What was booked for a job that is in memory.
    #[must_use]
    pub fn job(&self, id: JobId) -> Amounts {
        self.jobs.get(&id).map(|books| books.amounts).unwrap_or_default()
    }

    /// Books an amount that grew over the last `ms`.
    pub(crate) fn book(
        &mut self,
        owner: &Owner<'_>,
        class: Class,
        (ms, amount): (u64, Amount),
        now: Stamp,
        touch: &mut dyn FnMut(Key),
    ) {
        if !amount.is_none() {
            split(ms, amount, now.wall, |month, part| self.post(owner, class, month, part, touch));
        }
    }

    /// Books an amount in a month.
    pub(crate) fn post(
        &mut self,
        owner: &Owner<'_>,
        class: Class,
        month: Month,
        amount: Amount,
        touch: &mut dyn FnMut(Key),
    ) {
        if amount.is_none() {
            return;
        }
        self.totals.booked.add(class, amount);
        touch(Key::Ledger);
        if let Some(job) = owner.job {
            self.jobs.entry(job).or_default().amounts.add(class, amount);
            touch(Key::Spent(job));
        }
        let number = self.number(owner.key(month));
        if let Some(account) = self.accounts.get_mut(&number) {
            account.amounts.add(class, amount);
            touch(Key::Account(number));
        }
    }

    /// The account of this key; a new one, or that of all others if there are too many.
    fn number(&mut self, key: AccountKey) -> u64 {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let first = AccountKey { month: key.month, ..AccountKey::default() };
        let of_month = self.numbers.range(&first..).take_while(|(other, _)| other.month == key.month);
        let other = || AccountKey {
            month: key.month,
            pool: OTHER.to_owned(),
            queue: OTHER.to_owned(),
            user: OTHER.to_owned(),
            labels: BTreeMap::new(),
        };
        if of_month.count() >= ACCOUNTS_MAX && key != other() {
            return self.number(other());
        }
        self.totals.last_account += 1;
        let number = self.totals.last_account;
        self.restore_account(number, Account { key, amounts: Amounts::default() });
        number
    }

    pub(crate) fn restore_account(&mut self, number: u64, account: Account) {
        self.numbers.insert(account.key.clone(), number);
        self.accounts.insert(number, account);
    }

    /// Books what nobody had of a worker up to now.
    pub(crate) fn settle(&mut self, id: WorkerId, now: Stamp, touch: &mut dyn FnMut(Key)) {
        let Some(mut meter) = self.meters.remove(&id) else { return };
        let ms = now.tick.since(meter.at);
        if ms > 0 {
            for (class, units) in meter.rest() {
                let amount = meter.amount(units, now.tick);
                self.book(&Owner::nobody(&meter.pool), class, (ms, amount), now, touch);
            }
            (meter.spent, meter.at) = (meter.spent_at(now.tick), now.tick);
            touch(Key::Meter(id));
        }
        self.meters.insert(id, meter);
    }

    /// Drops the oldest months above [`MONTHS_MAX`]. Not by the wall clock: one that is wrong once would take two years with it.
    pub(crate) fn drop_old(&mut self, touch: &mut dyn FnMut(Key)) {
        let months: BTreeSet<Month> = self.accounts.values().map(|account| account.key.month).collect();
        let Some(first) = months.iter().rev().nth(MONTHS_MAX - 1).copied() else { return };
        let old: Vec<u64> =
            self.accounts.iter().filter(|(_, a)| a.key.month < first).map(|(number, _)| *number).collect();
        for number in old {
            let Some(account) = self.accounts.remove(&number) else { continue };
            self.numbers.remove(&account.key);
            self.totals.dropped.add_all(&account.amounts);
            touch(Key::Account(number));
            touch(Key::Ledger);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Wall;

    fn amount(time: u128) -> Amount {
        Amount { time, money: 1 }
    }

    #[test]
    fn what_has_no_account_of_its_own_is_booked_as_other() {
        let mut ledger = Ledger::default();
        let month = Month(202_611);
        for n in 0..ACCOUNTS_MAX + 3 {
            let user = format!("u{n}");
            let owner = Owner { user: &user, ..Owner::nobody("p") };
            ledger.post(&owner, Class::Useful, month, amount(2), &mut |_| {});
        }
        assert_eq!(ledger.accounts.len(), ACCOUNTS_MAX + 1);
        let other = ledger.accounts().find(|a| a.key.user == OTHER).expect("there");
        assert_eq!(other.amounts.of(Class::Useful), Amount { time: 6, money: 3 });
        ledger.post(&Owner::nobody("p"), Class::Idle, Month(202_612), amount(1), &mut |_| {});
        assert_eq!(ledger.accounts().filter(|a| a.key.month == Month(202_612)).count(), 1);
    }

    #[test]
    fn two_years_are_kept_and_nothing_is_lost_of_the_sum() {
        let mut ledger = Ledger::default();
        let mut month = Month(202_612);
        for _ in 0..MONTHS_MAX + 2 {
            ledger.post(&Owner::nobody("p"), Class::Idle, month, amount(1), &mut |_| {});
            month = month.before();
        }
        let mut touched = Vec::new();
        ledger.drop_old(&mut |key| touched.push(key));
        assert_eq!(ledger.accounts.len(), MONTHS_MAX);
        assert_eq!(ledger.accounts().map(|a| a.key.month).min(), Some(Month(202_501)));
        assert_eq!(ledger.totals.dropped.of(Class::Idle).time, 2);
        assert_eq!(ledger.totals.booked.of(Class::Idle).time, MONTHS_MAX as u128 + 2);
        assert_eq!(touched.len(), 4);
        ledger.drop_old(&mut |_| panic!("nothing more to drop"));
    }

    #[test]
    fn a_meter_books_its_rest() {
        let mut ledger = Ledger::default();
        let meter = Meter {
            at: Tick(0),
            pool: "p".to_owned(),
            gpus: true,
            units: 3_000,
            held: 1_000,
            sick: 500,
            ill: Vec::new(),
            rate: 2,
            spent: 0,
        };
        ledger.meters.insert(WorkerId(1), meter);
        let now = Stamp { wall: Wall(0), tick: Tick(10) };
        ledger.settle(WorkerId(1), now, &mut |_| {});
        ledger.settle(WorkerId(1), now, &mut |_| panic!("no time has passed"));
        let booked = &ledger.totals.booked;
        assert_eq!(booked.of(Class::Idle), Amount { time: 15_000, money: 30_000 });
        assert_eq!(booked.of(Class::Unhealthy), Amount { time: 5_000, money: 10_000 });
        assert_eq!((ledger.meters[&WorkerId(1)].spent, ledger.meters[&WorkerId(1)].at), (20, Tick(10)));
    }
}
