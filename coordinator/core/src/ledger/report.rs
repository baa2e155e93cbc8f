//! The books, read: what was counted until a moment, by job, user, queue, pool or the value of a label.

use super::amount::{Amount, Amounts};
use super::books::Owner;
use super::class::Class;
use super::month::Month;
use crate::model::time::Stamp;
use crate::state::State;
use crate::view_doc::{ClassesDoc, CostDoc, CostRowDoc};
use std::collections::BTreeMap;

/// What each row is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Those in memory, whole.
    Job,
    User,
    Queue,
    Pool,
    /// Each value of this label.
    Label(String),
}

impl By {
    /// The one that is named; `label` goes with `label` only.
    ///
    /// # Errors
    /// [`BadQuery`].
    pub fn parse(word: &str, label: Option<&str>) -> Result<Self, BadQuery> {
        let by = match (word, label.filter(|label| !label.is_empty())) {
            ("label", Some(label)) => return Ok(Self::Label(label.to_owned())),
            ("label", None) => return Err(BadQuery::NoLabel),
            (_, Some(_)) => return Err(BadQuery::StrayLabel),
            ("job", None) => Self::Job,
            ("user", None) => Self::User,
            ("queue", None) => Self::Queue,
            ("pool", None) => Self::Pool,
            (other, None) => return Err(BadQuery::By(other.to_owned())),
        };
        Ok(by)
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::User => "user",
            Self::Queue => "queue",
            Self::Pool => "pool",
            Self::Label(_) => "label",
        }
    }

    fn key(&self, owner: &Owner<'_>) -> String {
        match self {
            Self::Job => owner.job.map(|job| job.to_string()).unwrap_or_default(),
            Self::User => owner.user.to_owned(),
            Self::Queue => owner.queue.to_owned(),
            Self::Pool => owner.pool.to_owned(),
            Self::Label(label) => owner.labels.and_then(|all| all.get(label)).cloned().unwrap_or_default(),
        }
    }
}

/// A question that has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    #[error("{0:?} is none of job, user, queue, pool, label")]
    By(String),
    #[error("`label` needs the key of a label")]
    NoLabel,
    #[error("the key of a label goes with `label`")]
    StrayLabel,
    #[error("{0:?} is no month: write it like 2026-11")]
    Month(String),
    #[error("a job is counted whole: ask without months")]
    JobMonths,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub by: By,
    /// First and last month; none: all that is kept.
    pub from: Option<Month>,
    pub to: Option<Month>,
}

impl Query {
    /// From words; empty ones are as if they were not there.
    ///
    /// # Errors
    /// [`BadQuery`].
    pub fn parse(
        by: &str,
        label: Option<&str>,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Self, BadQuery> {
        let month = |text: Option<&str>| {
            let text = text.filter(|text| !text.is_empty());
            text.map(|text| Month::parse(text).ok_or_else(|| BadQuery::Month(text.to_owned()))).transpose()
        };
        let query = Self { by: By::parse(by, label)?, from: month(from)?, to: month(to)? };
        if query.by == By::Job && (query.from.is_some() || query.to.is_some()) {
            return Err(BadQuery::JobMonths);
        }
        Ok(query)
    }

    fn wants(&self, month: Month) -> bool {
        self.from.is_none_or(|from| from <= month) && self.to.is_none_or(|to| month <= to)
    }
}

/// Numbers that only grow, for metrics: useful time appears in them once it is known to be useful, or lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    pub classes: Amounts,
    /// By queue, the same; what no job had is not in it.
    pub queues: BTreeMap<String, Amount>,
}

impl State {
    /// What was counted until `now`: `tick` is at least the state's, `wall` says what month it is.
    #[must_use]
    pub fn cost(&self, query: &Query, now: Stamp) -> CostDoc {
        let mut rows: BTreeMap<String, Amounts> = BTreeMap::new();
        let (mut names, mut note) = (BTreeMap::new(), None);
        if query.by == By::Job {
            for job in self.jobs() {
                let spent = self.ledger().job(job.id);
                if !spent.total().is_none() {
                    rows.insert(job.id.to_string(), spent);
                }
                names.insert(job.id.to_string(), job.spec.name.clone());
            }
            self.visit_open(now, &mut |owner, _, class, amount| {
                if owner.job.is_some() {
                    rows.entry(query.by.key(owner)).or_default().add(class, amount);
                }
            });
            note = Some("jobs that have left memory, and what no job had, are not among these".to_owned());
        } else {
            self.visit_books(now, &mut |owner, month, class, amount| {
                if query.wants(month) {
                    rows.entry(query.by.key(owner)).or_default().add(class, amount);
                }
            });
        }
        let mut total = Amounts::default();
        rows.values().for_each(|amounts| total.add_all(amounts));
        let is_all = query.by != By::Job && query.from.is_none() && query.to.is_none();
        let capacity = is_all.then(|| {
            let mut capacity = self.ledger().totals().capacity_at(now.tick);
            capacity -= self.ledger().totals().dropped.total();
            capacity.gpu_seconds()
        });
        let mut rows: Vec<(String, Amounts)> = rows.into_iter().collect();
        if query.by == By::Job {
            // As numbers, the newest first.
            rows.sort_by_key(|(key, _)| std::cmp::Reverse((key.len(), key.clone())));
        }
        let rows = rows.iter().map(|(key, amounts)| row(key, names.remove(key), amounts)).collect();
        let label = match &query.by {
            By::Label(label) => Some(label.clone()),
            _ => None,
        };
        CostDoc {
            by: query.by.word().to_owned(),
            label,
            from: query.from.map(|month| month.to_string()),
            to: query.to.map(|month| month.to_string()),
            rows,
            total: row("", None, &total),
            capacity_gpu_seconds: capacity,
            note,
        }
    }

    /// What the metrics `muster_gpu_seconds_total{state}`, `muster_lost_work_gpu_seconds_total` and `muster_cost_usd_total{queue}` say.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = Counters { classes: self.ledger().totals().booked, ..Counters::default() };
        for account in self.ledger().accounts().filter(|account| !account.key.queue.is_empty()) {
            *counters.queues.entry(account.key.queue.clone()).or_default() += account.amounts.total();
        }
        let now = Stamp { tick: self.tick(), ..Stamp::default() };
        self.visit_open(now, &mut |owner, _, class, amount| {
            if class == Class::Useful {
                return;
            }
            counters.classes.add(class, amount);
            if !owner.queue.is_empty() {
                *counters.queues.entry(owner.queue.to_owned()).or_default() += amount;
            }
        });
        counters
    }
}

fn row(key: &str, name: Option<String>, amounts: &Amounts) -> CostRowDoc {
    CostRowDoc {
        key: key.to_owned(),
        name,
        gpu_seconds: classes(amounts, Amount::gpu_seconds),
        usd: classes(amounts, Amount::usd),
    }
}

fn classes(amounts: &Amounts, read: impl Fn(&Amount) -> f64) -> ClassesDoc {
    let of = |class| read(&amounts.of(class));
    ClassesDoc {
        useful: of(Class::Useful),
        idle: of(Class::Idle),
        held_empty: of(Class::HeldEmpty),
        waiting_for_peers: of(Class::WaitingForPeers),
        starting: of(Class::Starting),
        restarting: of(Class::Restarting),
        lost: of(Class::Lost),
        unhealthy: of(Class::Unhealthy),
        total: read(&amounts.total()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_checked() {
        let query = Query::parse("label", Some("team"), Some("2026-10"), Some("")).expect("a question");
        assert_eq!(query, Query { by: By::Label("team".to_owned()), from: Some(Month(202_610)), to: None });
        let bad = |by, label, from| Query::parse(by, label, from, None).expect_err("no question");
        assert_eq!(bad("label", None, None), BadQuery::NoLabel);
        assert_eq!(bad("queue", Some("team"), None), BadQuery::StrayLabel);
        assert_eq!(bad("week", None, None), BadQuery::By("week".to_owned()));
        assert_eq!(bad("queue", None, Some("10/2026")), BadQuery::Month("10/2026".to_owned()));
        assert_eq!(bad("job", None, Some("2026-10")), BadQuery::JobMonths);
    }
}
