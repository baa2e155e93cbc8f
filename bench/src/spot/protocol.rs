//! One run of the published evaluator: 48 h of work, looks of ten minutes. At each look the rule sees the past and whether there is a spot
//! machine now, and takes one, an on-demand machine, or nothing. A look that is begun is paid in full; each launch costs a restart, which
//! is not cumulative; a spot machine is lost at a look without one.
//!
//! The evaluator has a net of its own: when the work and one restart, in whole looks, take all the time that is left, it forces on-demand;
//! but a spot machine that works goes on, and at the look that takes it away nothing runs, which by itself makes runs late.

use super::rules::{Rule, State};
use super::trace::LOOK_S;

/// The work of every run, s.
pub const WORK_S: u64 = 48 * 3_600;
/// Prices, 1/10,000 USD an hour.
pub const ON_DEMAND: u64 = 30_600;
pub const SPOT: u64 = 9_731;
/// Ten minutes of such a price, in USD.
const PER_LOOK: f64 = 1.0 / 10_000.0 / 6.0;

/// What a machine may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    None,
    Spot,
    OnDemand,
}

/// What a run is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    pub deadline_h: u64,
    pub restart_s: u64,
    pub work_s: u64,
}

impl Setting {
    /// The six of the evaluator.
    pub fn all() -> Vec<Self> {
        let restarts =
            |deadline_h| [72, 180, 360].map(|restart_s| Self { deadline_h, restart_s, work_s: WORK_S });
        [52, 70].into_iter().flat_map(restarts).collect()
    }

    /// In looks.
    pub fn deadline(&self) -> u64 {
        self.deadline_h * 3_600 / LOOK_S
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    pub usd: f64,
    pub missed: bool,
    pub decisions: u64,
}

/// What so many looks of each kind cost.
pub fn usd(spot: u64, on_demand: u64) -> f64 {
    (spot * SPOT + on_demand * ON_DEMAND) as f64 * PER_LOOK
}

/// One run. When the looks come to their end before the work does, it is late.
pub fn replay(looks: &[bool], setting: &Setting, rule: Rule) -> Outcome {
    let mut state = State::new(setting);
    let deadline = setting.deadline();
    let (mut had, mut starting, mut work) = (Machine::None, 0, setting.work_s);
    let (mut spot, mut on_demand, mut now) = (0, 0, 0);
    for up in looks {
        // 1. What the look that is over has brought.
        if had != Machine::None {
            let worked = LOOK_S.saturating_sub(starting);
            starting -= LOOK_S - worked;
            work = work.saturating_sub(worked);
        }
        if work == 0 {
            break;
        }
        let has = if had == Machine::Spot && !up { Machine::None } else { had };
        // 2. What the rule takes.
        state.see(*up, now, work, has);
        let mut takes = state.takes(rule);
        // 3. The evaluator's net.
        if (work + setting.restart_s).div_ceil(LOOK_S) >= deadline.saturating_sub(now) {
            let works_on = had == Machine::Spot && starting == 0;
            takes = if works_on { Machine::Spot } else { Machine::OnDemand };
        }
        if takes == Machine::Spot && !up {
            takes = Machine::None;
        }
        // 4. What it costs.
        if takes != has && takes != Machine::None {
            starting = setting.restart_s;
        }
        match takes {
            Machine::None => {}
            Machine::Spot => spot += 1,
            Machine::OnDemand => on_demand += 1,
        }
        had = takes;
        now += 1;
    }
    Outcome { usd: usd(spot, on_demand), missed: work > 0 || now > deadline, decisions: now }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half an hour of work in an hour, six minutes a restart.
    const SMALL: Setting = Setting { deadline_h: 1, restart_s: 360, work_s: 1_800 };

    fn looks(text: &str) -> Vec<bool> {
        text.chars().map(|c| c == '+').collect()
    }

    fn run(text: &str, rule: Rule) -> (u64, bool) {
        let outcome = replay(&looks(text), &SMALL, rule);
        ((outcome.usd / PER_LOOK).round() as u64, outcome.missed)
    }

    #[test]
    fn a_run_costs_what_was_worked_out_by_hand() {
        // 240 s of the first look are work, then 600, 600 and 360: four looks.
        assert_eq!(run("------------", Rule::OnDemandOnly), (4 * ON_DEMAND, false));
        assert_eq!(run("++++++++++++", Rule::Greedy), (4 * SPOT, false));
        // Of six looks two are waited; then 1,800 + 360 s take all four that are left.
        assert_eq!(run("------------", Rule::Greedy), (4 * ON_DEMAND, false));
    }

    #[test]
    fn the_evaluators_net_lets_a_working_machine_go_on_until_it_is_too_late() {
        // One look is waited. Spot 240, 600, 600; with 360 s of work and two looks left the net would force on-demand, but the machine
        // works. It goes: a look of nothing, and the last look is too short for a restart and the work.
        assert_eq!(run("-+++--------", Rule::Greedy), (3 * SPOT + 2 * ON_DEMAND, true));
        // Spot 240, on-demand 240, spot 240; lost with 1,080 s of work and three looks left: nothing runs. On-demand 240, 600, 240.
        assert_eq!(run("+-+---------", Rule::SpotElseOnDemand), (2 * SPOT + 4 * ON_DEMAND, true));
    }

    #[test]
    fn looks_that_end_too_early_are_late() {
        assert!(replay(&[], &SMALL, Rule::OnDemandOnly).missed);
        assert!(replay(&[true; 3], &SMALL, Rule::OnDemandOnly).missed);
    }
}
