//! What leaders hear: their configuration, and every ten seconds what the group of each pool is, late, stale, or not at all.

use super::Cloud;
use crate::event::Event;
use crate::invariants;
use crate::plants::Plant;
use crate::world::World;
use muster_core::autoscale::GroupReport;
use muster_core::leader::Input;

/// Between two looks, ms.
const LOOK_EVERY_MS: u64 = 10_000;
/// After a failure nothing is asked for so long, ms.
const BACK_OFF_MS: u64 = 5_000;
/// In 1,000, looks that are answered with what was true a while ago.
const STALE_PERMILLE: u64 = 100;

/// What came of a call.
#[derive(Debug, Clone)]
pub enum Told {
    Group(GroupReport),
    /// It failed, or was refused.
    Trouble,
}

impl Cloud {
    /// What a member wants of the pools.
    pub(super) fn of_member(&self, m: usize) -> Option<muster_core::model::fleet::Fleet> {
        self.fleets.get(self.configured[m]).cloned()
    }
}

impl World {
    pub(crate) fn leads(&self, m: usize, term: u64) -> bool {
        self.members[m].led.as_ref().is_some_and(|led| led.term == term && led.is_ready)
    }

    /// A member leads from now on: it hears its configuration, and its lines to the provider open.
    pub(crate) fn lines_open(&mut self, m: usize, term: u64) {
        if !self.cloud.is_there() {
            return;
        }
        self.tell_fleet(m);
        let pools: Vec<String> = self.cloud.groups.keys().cloned().collect();
        for pool in pools {
            let delay = self.cloud.rng.range(20, 600);
            self.at(delay, Event::GroupAsked { member: m, term, pool, goes_on: true });
        }
    }

    fn tell_fleet(&mut self, m: usize) {
        if let Some(fleet) = self.cloud.of_member(m) {
            self.lead(m, Input::Fleet(Box::new(fleet)));
        }
    }

    /// A member has another configuration.
    pub(crate) fn configured(&mut self, m: usize, number: usize) {
        self.cloud.configured[m] = self.cloud.configured[m].max(number);
        if self.members[m].led.as_ref().is_some_and(|led| led.is_ready) {
            self.tell_fleet(m);
        }
    }

    /// A look at a group begins.
    pub(crate) fn group_asked(&mut self, m: usize, term: u64, pool: &str, goes_on: bool) {
        if !self.leads(m, term) {
            return;
        }
        let now = self.now;
        let Cloud { groups, rng, .. } = &mut self.cloud;
        let Some(group) = groups.get_mut(pool) else { return };
        let delay = rng.range(10, 1_500);
        let (silent_until, is_noticed) = group.silent_until;
        let told = match () {
            () if now < silent_until => is_noticed.then_some(Told::Trouble),
            () if now < group.fails_until => Some(Told::Trouble),
            () if !self.healed && rng.chance(STALE_PERMILLE) => {
                let n = rng.index(group.past.len());
                let past = group.past.get(n).map(|(_, report)| report.clone());
                Some(Told::Group(past.unwrap_or_else(|| group.report())))
            }
            () => Some(Told::Group(group.report())),
        };
        let next = if matches!(told, Some(Told::Trouble)) { BACK_OFF_MS } else { LOOK_EVERY_MS };
        let told = self.plant_in_look(m, pool, told);
        let pool = pool.to_owned();
        if goes_on {
            self.at(next, Event::GroupAsked { member: m, term, pool: pool.clone(), goes_on });
        }
        if let Some(told) = told {
            self.at(delay, Event::GroupTold { member: m, term, pool, told });
        }
    }

    /// The leader hears what came of a call.
    pub(crate) fn group_told(&mut self, m: usize, term: u64, pool: String, told: Told) {
        if !self.leads(m, term) {
            return;
        }
        match told {
            Told::Group(report) => {
                invariants::i13_scale_in::on_told(self, m, term, &pool, &report);
                self.lead(m, Input::Group { pool, report });
            }
            Told::Trouble => {
                let reason = "says: no".to_owned();
                self.lead(m, Input::Trouble { pool, reason, for_ms: BACK_OFF_MS });
            }
        }
    }

    /// `believes-old-reports`: while the provider says nothing, what it said last is heard again.
    fn plant_in_look(&mut self, m: usize, pool: &str, told: Option<Told>) -> Option<Told> {
        if let Some(Told::Group(report)) = &told {
            self.planted.last_reports.insert(pool.to_owned(), report.clone());
        } else if self.planted.is(Plant::BelievesOldReports) {
            if let Some(report) = self.planted.last_reports.get(pool).cloned() {
                self.lead(m, Input::Group { pool: pool.to_owned(), report });
            }
            return None;
        }
        told
    }
}
