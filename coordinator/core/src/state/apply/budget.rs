//! Budgets: what is admitted beside what is spent and reserved, and what happens to what has spent more. All of it is decided here, in the
//! order of the log, so that two submissions at once never pass a budget together.

use super::{Answer, Apply};
use crate::command::Target;
use crate::event::Event;
use crate::ledger::{Amount, Month};
use crate::model::attempt::StopReason;
use crate::model::budget::{Budget, BudgetRow, OnExceed, Scope};
use crate::model::ids::{JobId, Token};
use crate::model::job_spec::JobSpec;
use crate::model::time::Stamp;
use crate::reply::{Rejection, Reply};
use crate::state::rows::Key;
use std::collections::BTreeMap;

/// Queues that have a budget at most: all of them are looked at each minute.
pub const QUEUE_BUDGETS_MAX: usize = 1_000;

impl Apply<'_> {
    /// Whether there is money for a job of which `forecast` is known.
    pub(super) fn admit(&self, spec: &JobSpec, forecast: Option<u64>) -> Result<(), Rejection> {
        let forecast = forecast.unwrap_or(0);
        let refuse = |scope: String, row: &BudgetRow| {
            let (micro_usd, spent, reserved) = (row.budget.micro_usd, row.spent, row.reserved);
            Err(Rejection::BudgetExceeded { scope, micro_usd, spent, reserved, forecast })
        };
        if let Some(own) = spec.budget.map(|budget| BudgetRow::new(budget, None))
            && !own.admits(forecast)
        {
            return refuse("the job".to_owned(), &own);
        }
        let scope = Scope::Queue(spec.queue.clone());
        if let Some(row) = self.state.ledger.budgets.get(&scope) {
            let mut row = row.clone();
            self.roll(&mut row);
            if !row.admits(forecast) {
                return refuse(scope.to_string(), &row);
            }
        }
        Ok(())
    }

    /// The job is in: its forecast is spoken for.
    pub(super) fn reserve(&mut self, id: JobId, spec: &JobSpec, forecast: Option<u64>) {
        if let Some(forecast) = forecast {
            self.state.ledger.jobs.entry(id).or_default().forecast = Some(forecast);
            self.touch(Key::Spent(id));
        }
        let forecast = forecast.unwrap_or(0);
        if let Some(budget) = spec.budget {
            let row = BudgetRow { reserved: forecast, ..BudgetRow::new(budget, None) };
            self.put_budget(Scope::Job(id), row);
        }
        let scope = Scope::Queue(spec.queue.clone());
        if let Some(mut row) = self.state.ledger.budgets.get(&scope).cloned() {
            self.roll(&mut row);
            row.reserved = row.reserved.saturating_add(forecast);
            self.put_budget(scope, row);
        }
    }

    /// A new month begins with nothing spent.
    fn roll(&self, row: &mut BudgetRow) {
        let month = row.month.map(|_| Month::of(self.stamp.wall));
        if row.month != month {
            *row = BudgetRow { month, reserved: row.reserved, ..BudgetRow::new(row.budget, month) };
        }
    }

    fn put_budget(&mut self, scope: Scope, row: BudgetRow) {
        if self.state.ledger.budgets.get(&scope) != Some(&row) {
            self.touch(Key::Budget(scope.clone()));
            self.state.ledger.budgets.insert(scope, row);
        }
    }

    pub(super) fn set_budget(&mut self, scope: &Scope, budget: Option<Budget>) -> Answer {
        let month = match scope {
            Scope::Job(id) if !self.state.jobs.contains_key(id) => return Err(Rejection::NoJob(*id)),
            Scope::Job(_) => None,
            Scope::Queue(_) => Some(Month::of(self.stamp.wall)),
        };
        let Some(budget) = budget else {
            self.state.ledger.budgets.remove(scope);
            self.touch(Key::Budget(scope.clone()));
            return Ok(Reply::Done);
        };
        let queues =
            self.state.ledger.budgets.keys().filter(|scope| matches!(scope, Scope::Queue(_))).count();
        if month.is_some() && queues >= QUEUE_BUDGETS_MAX && !self.state.ledger.budgets.contains_key(scope) {
            return Err(Rejection::TooManyBudgets { limit: QUEUE_BUDGETS_MAX });
        }
        // Another amount is another budget: who was told of the old one is told of this one too.
        self.put_budget(scope.clone(), BudgetRow::new(budget, month));
        self.look_at_budgets()
    }

    /// Counts what each budget has come to, and acts where one is passed.
    pub(super) fn look_at_budgets(&mut self) -> Answer {
        if self.state.ledger.budgets.is_empty() {
            return Ok(Reply::Done);
        }
        // 1. What was spent: by jobs in memory, and this month by queue.
        let month = Month::of(self.stamp.wall);
        let (jobs, queues) = self.spent(month);
        // 2. What was admitted and is not spent.
        let mut reserved: BTreeMap<Scope, u64> = BTreeMap::new();
        for job in self.state.jobs.values().filter(|job| job.ended.is_none()) {
            let Some(forecast) = self.state.ledger.jobs.get(&job.id).and_then(|books| books.forecast) else {
                continue;
            };
            let rest = forecast.saturating_sub(jobs.get(&job.id).map_or(0, Amount::micro_usd));
            for scope in [Scope::Job(job.id), Scope::Queue(job.spec.queue.clone())] {
                let sum = reserved.entry(scope).or_default();
                *sum = sum.saturating_add(rest);
            }
        }
        // 3. Each budget.
        for (scope, mut row) in self.state.ledger.budgets.clone() {
            self.roll(&mut row);
            row.spent = match &scope {
                Scope::Job(id) => jobs.get(id),
                Scope::Queue(name) => queues.get(name.as_str()),
            }
            .map_or(0, Amount::micro_usd);
            row.reserved = reserved.get(&scope).copied().unwrap_or(0);
            for percent in row.due() {
                row.alerts.push((percent, self.stamp));
                let scope = scope.clone();
                self.events.push(Event::BudgetPassed {
                    scope,
                    percent,
                    spent: row.spent,
                    budget: row.budget,
                });
            }
            let acts = row.spent >= row.budget.micro_usd && !row.acted;
            row.acted |= acts;
            let on_exceed = row.budget.on_exceed;
            self.put_budget(scope.clone(), row);
            if acts {
                self.exceeded(&scope, on_exceed);
            }
        }
        Ok(Reply::Done)
    }

    /// What each job in memory has cost, and each queue in this month; what runs is counted until now.
    fn spent(&self, month: Month) -> (BTreeMap<JobId, Amount>, BTreeMap<String, Amount>) {
        let ledger = &self.state.ledger;
        let mut jobs: BTreeMap<JobId, Amount> =
            ledger.jobs.iter().map(|(id, books)| (*id, books.amounts.total())).collect();
        let mut queues: BTreeMap<String, Amount> = BTreeMap::new();
        for account in ledger.accounts().filter(|account| account.key.month == month) {
            *queues.entry(account.key.queue.clone()).or_default() += account.amounts.total();
        }
        let now = Stamp { tick: self.stamp.tick, ..self.stamp };
        self.state.visit_open(now, &mut |owner, of, _, amount| {
            let Some(job) = owner.job else { return };
            *jobs.entry(job).or_default() += amount;
            if of == month {
                *queues.entry(owner.queue.to_owned()).or_default() += amount;
            }
        });
        (jobs, queues)
    }

    /// A budget is spent.
    fn exceeded(&mut self, scope: &Scope, on_exceed: OnExceed) {
        let is_of = |job: &&crate::state::Job| match scope {
            Scope::Job(id) => job.id == *id,
            Scope::Queue(name) => job.spec.queue == *name,
        };
        let jobs = self.state.jobs.values().filter(|job| job.ended.is_none()).filter(is_of);
        let jobs: Vec<JobId> = jobs.map(|job| job.id).collect();
        for job in jobs {
            let target = Target { job, task: None, index: None };
            // A job that ended meanwhile is refused, and costs nothing more.
            let _ = match on_exceed {
                OnExceed::Warn => return,
                OnExceed::Cancel => self.cancel(&target),
                OnExceed::Hold => self.hold(&target),
            };
            if on_exceed == OnExceed::Hold {
                let tokens: Vec<Token> = self.state.live_of_job(job).map(|attempt| attempt.token).collect();
                tokens.into_iter().for_each(|token| {
                    self.stop_attempt(token, StopReason::Budget);
                });
            }
        }
    }
}
