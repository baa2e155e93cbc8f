//! Spot, on-demand or neither, now, for a task that has to be done by a deadline. Whoever follows it is never late, whatever the spot
//! machines do, as long as on-demand machines can be had.
//!
//! The time that is left beyond the work is the slack. Only waiting and restarts cost slack; on-demand machines cost money. So it is spent
//! where it saves most money, in this order:
//!
//! 1. One look and two restarts are kept in hand always: a spot machine may be taken, lost at once, and the work still be done in time.
//! 2. For each spell of availability that is still to be expected, the way in and out of it is kept: two restarts. Twice that and one
//!    look are kept, for spells come as they like, and what was kept in vain comes free as the deadline comes nearer.
//! 3. The rest is spent on waiting, as soon as there is no spot machine. Waiting early costs no more than waiting late, and whoever
//!    bought early has bought in vain where spot machines are plentiful later.
//!
//! How long spells last was measured on nine zones of AWS (February 2023): one of age 1 ends within ten minutes in 28 of 100 cases, of age
//! 2 in 21, of age 5 in 8, of age 17 in 4. So a running on-demand machine is left for a spell that has just begun only if there is slack
//! to lose, and a gap that has just begun is waited for with less slack than an old one. The tables are what an exact solution (dynamic
//! programming over time, slack and age) does with these lengths, as parts of what rule 2 keeps.
//!
//! Left out: moving what runs back from on-demand, which only the caller can do; several kinds of spot machine at once; prices, as long as
//! spot machines are cheaper.

use super::history::{History, LOOK_MS};

/// What a restart is taken to cost where nothing better is known, ms: the start, the read of the checkpoint and the work since it.
pub const RESTART_MS: u64 = 360_000;

/// What a task may take now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Spot,
    OnDemand,
    /// Nothing: the next spot machine is worth waiting for.
    Wait,
}

/// What the task has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Runs {
    #[default]
    Nothing,
    Spot,
    OnDemand,
}

/// How the task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Until the deadline, ms.
    pub left_ms: u64,
    /// Run time that it still needs, restarts not counted, ms.
    pub work_ms: u64,
    /// What each start costs, ms.
    pub restart_ms: u64,
    pub runs: Runs,
}

/// Of what rule 2 keeps, the part without which an on-demand machine is not left for a spell of this age, in thousandths.
fn spell_milli(age: u32) -> u64 {
    match age {
        0 | 1 => 380,
        2 => 295,
        3 | 4 => 235,
        5..=8 => 145,
        9..=16 => 90,
        17..=32 => 60,
        _ => 0,
    }
}

/// Of what rule 2 keeps, the part without which a gap of this age is not waited for, in thousandths.
fn gap_milli(age: u32) -> u64 {
    match age {
        0..=2 => 570,
        3 | 4 => 750,
        5..=8 => 900,
        _ => 1_000,
    }
}

/// What to take now; `up`: there is a spot machine to be had.
#[must_use]
pub fn choose(history: &History, up: bool, task: &Standing) -> Choice {
    let hand = LOOK_MS.saturating_add(2 * task.restart_ms);
    let age = history.age(up);
    let spells = u128::from(history.spells_milli(task.left_ms));
    let restarts = u128::from(4 * task.restart_ms) * spells / 1_000;
    let looks = u128::from(LOOK_MS) * spells / 1_000;
    let part = |of: u128, milli: u64| u64::try_from(of * u128::from(milli) / 1_000).unwrap_or(u64::MAX);
    // None: the deadline will be missed, whatever is done.
    let Some(slack) = task.left_ms.checked_sub(task.work_ms) else { return Choice::OnDemand };
    match (up, task.runs) {
        (true, Runs::Spot) => Choice::Spot,
        (true, _) if slack < hand => Choice::OnDemand,
        (true, Runs::OnDemand) if slack - hand < part(restarts, spell_milli(age)) => Choice::OnDemand,
        (true, _) => Choice::Spot,
        (false, Runs::OnDemand) => Choice::OnDemand,
        (false, _) => {
            let kept = hand.saturating_add(part(restarts + looks, gap_milli(age)));
            if slack < kept.saturating_add(LOOK_MS) { Choice::OnDemand } else { Choice::Wait }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000;

    /// The clock, the task and what it runs on, look after look; what it cost in looks of spot and on-demand, and how late it was.
    fn follow(looks: impl Iterator<Item = bool>, work: u64, left: u64, restart: u64) -> (u64, u64, u64) {
        let (mut history, mut task) = (
            History::default(),
            Standing { left_ms: left, work_ms: work, restart_ms: restart, runs: Runs::Nothing },
        );
        let (mut spot, mut on_demand, mut late, mut starting) = (0, 0, 0, 0);
        for up in looks {
            if task.work_ms == 0 {
                break;
            }
            history.look(up);
            if task.runs == Runs::Spot && !up {
                task.runs = Runs::Nothing;
            }
            let next = match choose(&history, up, &task) {
                Choice::Wait => Runs::Nothing,
                Choice::OnDemand => Runs::OnDemand,
                Choice::Spot => {
                    assert!(up, "there is none");
                    Runs::Spot
                }
            };
            if next != task.runs && next != Runs::Nothing {
                starting = restart;
            }
            task.runs = next;
            late += LOOK_MS - LOOK_MS.min(task.left_ms);
            task.left_ms = task.left_ms.saturating_sub(LOOK_MS);
            match next {
                Runs::Nothing => continue,
                Runs::Spot => spot += 1,
                Runs::OnDemand => on_demand += 1,
            }
            let worked = LOOK_MS.saturating_sub(starting);
            starting = starting.saturating_sub(LOOK_MS);
            task.work_ms = task.work_ms.saturating_sub(worked);
        }
        assert_eq!(task.work_ms, 0, "the looks were too few");
        (spot, on_demand, late)
    }

    #[test]
    fn plentiful_spot_is_all_that_is_bought_and_none_means_on_demand_to_the_end() {
        assert_eq!(follow(std::iter::repeat(true), 48 * HOUR, 52 * HOUR, RESTART_MS), (289, 0, 0));
        let (spot, on_demand, late) = follow(std::iter::repeat(false), 48 * HOUR, 52 * HOUR, RESTART_MS);
        assert_eq!((spot, on_demand, late), (0, 289, 0));
    }

    #[test]
    fn a_short_gap_is_waited_for_and_a_tight_deadline_waits_for_nothing() {
        let mut history = History::default();
        history.look(true);
        history.look(false);
        let task =
            Standing { left_ms: 70 * HOUR, work_ms: 48 * HOUR, restart_ms: RESTART_MS, runs: Runs::Nothing };
        assert_eq!(choose(&history, false, &task), Choice::Wait);
        let tight = Standing { left_ms: 48 * HOUR + LOOK_MS, ..task };
        assert_eq!(choose(&history, false, &tight), Choice::OnDemand);
        assert_eq!(choose(&history, true, &tight), Choice::OnDemand, "a loss of it would be too late");
        let late = Standing { left_ms: HOUR, ..task };
        assert_eq!(choose(&history, true, &late), Choice::OnDemand);
    }

    #[test]
    fn on_demand_is_left_for_an_old_spell_sooner_than_for_a_young_one() {
        let task =
            Standing { left_ms: 40 * HOUR, work_ms: 39 * HOUR, restart_ms: RESTART_MS, runs: Runs::OnDemand };
        let mut history = History::default();
        history.look(true);
        assert_eq!(choose(&history, true, &task), Choice::OnDemand);
        (0..40).for_each(|_| history.look(true));
        assert_eq!(choose(&history, true, &task), Choice::Spot);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        /// Availability chosen to hurt: long and short spells in any order. Never late, if there was slack for one look and two restarts.
        #[test]
        fn never_late(
            spells in prop::collection::vec((1_usize..60, 1_usize..60), 1..40),
            work in 1_u64..72,
            more in 0_u64..(24 * HOUR),
            restart in 0_u64..LOOK_MS,
        ) {
            let left = (work * HOUR + LOOK_MS + 2 * restart + more).next_multiple_of(LOOK_MS);
            let looks = spells.iter().flat_map(|(up, down)| [vec![true; *up], vec![false; *down]].concat());
            let (_, _, late) = follow(looks.chain(std::iter::repeat(false)), work * HOUR, left, restart);
            prop_assert_eq!(late, 0);
        }

        /// The worst that an adversary can do: take the machine away whenever one was chosen.
        #[test]
        fn never_late_when_every_spot_machine_is_lost_at_once(work in 1_u64..72, more in 0_u64..(24 * HOUR), restart in 0_u64..LOOK_MS) {
            let left = (work * HOUR + LOOK_MS + 2 * restart + more).next_multiple_of(LOOK_MS);
            let (_, _, late) = follow([true, false].into_iter().cycle(), work * HOUR, left, restart);
            prop_assert_eq!(late, 0);
        }

        /// Less work never makes it buy on-demand where it would not have with more.
        #[test]
        fn less_work_never_buys_more(
            looks in prop::collection::vec(any::<bool>(), 0..200),
            up: bool,
            left in 1_u64..(100 * HOUR),
            work in 0_u64..(100 * HOUR),
            less in 0_u64..(100 * HOUR),
            runs in prop::sample::select(vec![Runs::Nothing, Runs::OnDemand]),
        ) {
            let mut history = History::default();
            looks.iter().for_each(|up| history.look(*up));
            let task = Standing { left_ms: left, work_ms: work, restart_ms: RESTART_MS, runs };
            let lighter = Standing { work_ms: work.saturating_sub(less), ..task };
            if choose(&history, up, &task) != Choice::OnDemand {
                prop_assert_ne!(choose(&history, up, &lighter), Choice::OnDemand);
            }
        }
    }
}
