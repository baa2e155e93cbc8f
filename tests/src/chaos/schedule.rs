//! When what goes wrong: drawn from the seed alone, before anything runs, so that it can be printed and repeated.
//!
//! Whom it strikes is drawn too, but as a number: who leads is known only when it strikes. So two runs of a seed do the same things at the
//! same times to members that may have other names.

use super::faults::{Kind, On};
use muster_sim::Rng;
use serde::Serialize;
use std::time::Duration;

/// One fault to come.
#[derive(Clone, Serialize)]
pub struct Planned {
    pub at_ms: u64,
    pub for_ms: u64,
    #[serde(serialize_with = "name_of")]
    pub kind: &'static Kind,
    /// Chooses among those that can be struck, and seeds the fault's own chance.
    pub draw: u64,
}

fn name_of<S: serde::Serializer>(kind: &&'static Kind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.name)
}

/// Between two faults, milliseconds.
const GAP_MS: (u64, u64) = (700, 3_600);
/// The load runs alone for a moment, so that there is something to disturb.
const QUIET_MS: u64 = 2_000;
/// Workers of six that may be struck at once: with all of them nothing would run.
const WORKERS_AT_ONCE: usize = 3;
/// A second member is struck beside the first in so many of a thousand cases: then there is no majority.
const SECOND_MEMBER_PERMILLE: u64 = 120;
/// After all members were struck at once they are left alone for this long.
const AFTER_ALL_MS: u64 = 4_000;

/// The schedule of a seed.
#[must_use]
pub fn draw(seed: u64, duration: Duration, kinds: &[&'static Kind]) -> Vec<Planned> {
    let mut rng = Rng::new(seed, "schedule");
    let end = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut planned: Vec<Planned> = Vec::new();
    // Every kind once, in an order of the seed, before chance alone decides.
    let mut first: Vec<&'static Kind> = kinds.to_vec();
    for i in (1..first.len()).rev() {
        first.swap(i, rng.index(i + 1));
    }
    let mut at = QUIET_MS;
    loop {
        at += rng.range(GAP_MS.0, GAP_MS.1);
        let second = rng.chance(SECOND_MEMBER_PERMILLE);
        let fits = |kind: &Kind| fits(kind.on, at, &planned, second);
        let next = match first.iter().position(|kind| fits(kind)) {
            Some(position) => Some(first.remove(position)),
            None => weighted(kinds.iter().copied().filter(|kind| fits(kind)), &mut rng),
        };
        let Some(kind) = next else {
            if at >= end || kinds.is_empty() {
                break;
            }
            continue;
        };
        let for_ms = rng.range(kind.millis.0, kind.millis.1);
        if at + for_ms >= end {
            break;
        }
        planned.push(Planned { at_ms: at, for_ms, kind, draw: rng.bits() });
    }
    planned
}

fn is_of_members(on: On) -> bool {
    matches!(on, On::Leader | On::Follower | On::Member | On::Members)
}

fn fits(on: On, at: u64, planned: &[Planned], second: bool) -> bool {
    let in_force = || planned.iter().filter(|p| p.at_ms + p.for_ms.max(500) > at);
    let all_struck =
        planned.iter().any(|p| p.kind.on == On::Members && p.at_ms + p.for_ms + AFTER_ALL_MS > at);
    let members = in_force().filter(|p| is_of_members(p.kind.on)).count();
    match on {
        On::Nothing => true,
        On::Worker => in_force().filter(|p| p.kind.on == On::Worker).count() < WORKERS_AT_ONCE,
        On::Members => members == 0 && !all_struck,
        On::Leader | On::Follower | On::Member => !all_struck && (members == 0 || (members == 1 && second)),
    }
}

fn weighted(kinds: impl Iterator<Item = &'static Kind>, rng: &mut Rng) -> Option<&'static Kind> {
    let kinds: Vec<&'static Kind> = kinds.collect();
    let mut left = rng.below(kinds.iter().map(|k| k.weight).sum());
    kinds.into_iter().find(|kind| {
        let here = left < kind.weight;
        left = left.saturating_sub(kind.weight);
        here
    })
}

/// As a table, for people.
#[must_use]
pub fn table(planned: &[Planned]) -> String {
    let row = |p: &Planned| {
        let (at, long) = (p.at_ms as f64 / 1e3, p.for_ms as f64 / 1e3);
        format!("{at:8.1} s  {long:5.1} s  {:24} row {}\n", p.kind.name, p.kind.rows)
    };
    planned.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::faults::kinds;
    use super::*;

    #[test]
    fn a_seed_has_one_schedule() {
        let of = |seed| table(&draw(seed, Duration::from_secs(600), &kinds()));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn ten_minutes_hold_enough_faults_of_every_kind() {
        for seed in 0..50 {
            let planned = draw(seed, Duration::from_secs(600), &kinds());
            assert!(planned.len() >= 170, "seed {seed}: {} faults", planned.len());
            for kind in kinds() {
                assert!(planned.iter().any(|p| p.kind.name == kind.name), "seed {seed}: no {}", kind.name);
            }
        }
    }

    #[test]
    fn faults_overlap_and_never_take_all() {
        let planned = draw(7, Duration::from_secs(600), &kinds());
        let mut most = 0;
        for at in (0..600_000).step_by(100) {
            let now: Vec<&Planned> =
                planned.iter().filter(|p| p.at_ms <= at && at < p.at_ms + p.for_ms).collect();
            let workers = now.iter().filter(|p| p.kind.on == On::Worker).count();
            let members = now.iter().filter(|p| is_of_members(p.kind.on)).count();
            assert!(workers <= WORKERS_AT_ONCE && members <= 2, "at {at}");
            most = most.max(now.len());
        }
        assert!(most >= 3, "at most {most} at once");
    }
}
